"""A worker process that stays: it runs one command after another, and keeps the last model loaded in between.

The process is `understudy serve`; commands go to its standard input, one JSON list of arguments a line. What becomes of
each is told in a job folder as ever (core/events.py), so that nothing is read from the process itself. It ends when its
standard input does: with us, however we end. Standard library only, so that Blender can import it.
"""

import collections
import contextlib
import json
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from .errors import UnderstudyError
from .files import make_folder
from .jobs import RunningJob, claim, events_size, launch


class Service:
    """Commands in order, in a process that is started when there is something to do.

    python : an interpreter that has torch.    folder : holds the log of the process; made if it is absent.
    paths : further folders of packages for the interpreter.
    gpu_memory : gigabytes that the process may take of a GPU; 0 is as much as it needs.
    Polling any of its jobs, or the service, keeps the queue going. When the process dies, so does the job that it ran;
    the next one begins in a new process. For one thread.
    """

    def __init__(self, python: str | Path, folder: Path | str, paths: Sequence[str | Path] = (),
                 gpu_memory: float = 0.0):
        self.python, self.folder, self.paths = str(python), Path(folder), [str(path) for path in paths]
        self.gpu_memory = gpu_memory
        self.process: subprocess.Popen | None = None
        self._queue: collections.deque[ServedJob] = collections.deque()
        self._job: ServedJob | None = None  # the job that runs
        self._watch: RunningJob | None = None  # our own look at it: whoever has the job gets all events from it
        self._fresh = False  # whether the process was started for the job that runs

    @property
    def alive(self) -> bool:
        """Whether the process exists."""
        return self.process is not None and self.process.poll() is None

    def submit(self, arguments: Sequence[str], job_folder: Path | str) -> "ServedJob":
        """Run `understudy <arguments>`, which lead to `job_folder` with --job, as soon as all earlier ones have ended.

        Raises UnderstudyError if a live job owns the folder. That the process cannot be started is how the job fails.
        """
        job = ServedJob(self, [str(argument) for argument in arguments], claim(job_folder))
        self._queue.append(job)
        self.poll()
        return job

    def poll(self) -> None:
        """Begin the next command if the last one has ended."""
        if self._watch is not None:
            self._watch.poll()
            # Whoever has the job may have seen its end, and anybody may have removed its folder, before we looked.
            state = self._job.state if self._job.state.ended else self._watch.state
            if not state.ended:
                if self._job.folder.is_dir():
                    return
                self._job.end("failed", f"The job folder {self._job.folder} was removed while the job ran.", 1)
                state = self._job.state
            if state.state == "dead" and not state.command and not self._fresh:
                self._queue.appendleft(self._job)  # the process ended before it came to this command: once more
            else:
                self._job.lost = state.state == "dead"
            self._job = self._watch = None
        while self._queue and self._watch is None:
            job = self._queue.popleft()
            try:
                self._begin(job)
            except UnderstudyError as error:
                job.end("failed", str(error), 1)

    def withdraw(self, job: "ServedJob") -> bool:
        """Take a job out of the queue; False if it is not there, because it has begun."""
        if job not in self._queue:
            return False
        self._queue.remove(job)
        job.end("cancelled", "Cancelled before it began.", 3)
        return True

    def close(self, grace: float = 5.0) -> None:
        """End the process without waiting for it. One that has nothing to do is killed at once.

        A job that runs is cancelled, and killed if that takes more than `grace` seconds; if we end before, the process
        sees to it itself.
        """
        for job in list(self._queue):
            self.withdraw(job)
        self.poll()
        process, self.process = self.process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            process.stdin.close()
        if self._watch is None:
            process.kill()
        self._fresh = True  # what it has not come to stays undone
        threading.Thread(target=_bury, args=(process, grace), daemon=True).start()

    def _begin(self, job: "ServedJob") -> None:
        offset = events_size(job.folder)
        self._fresh = not self.alive
        if self._fresh:
            self.process = launch(self.python, ["serve", "--gpu-memory", str(self.gpu_memory)],
                                  make_folder(self.folder) / "log.txt", packages=self.paths)
        with contextlib.suppress(OSError):  # if it has died just now, the next look tells
            self.process.stdin.write(json.dumps(job.arguments).encode() + b"\n")
            self.process.stdin.flush()
        job.begin(self.process, offset)
        self._job, self._watch = job, RunningJob(job.folder, self.process, offset)


class ServedJob(RunningJob):
    """A job in the queue of a service; `process` is None until its turn has come."""

    def __init__(self, service: Service, arguments: list[str], folder: Path):
        super().__init__(folder, None, 0)
        self.arguments = arguments
        self.lost = False  # whether the process died with it
        self._service = service

    def begin(self, process: subprocess.Popen, offset: int) -> None:
        self.process, self._offset = process, offset

    def end(self, state: str, text: str, exit_code: int) -> None:
        """Have ended without ever having begun."""
        self.state.state, self.state.text, self.state.exit_code = state, text, exit_code

    def poll(self) -> list[dict]:
        self._service.poll()
        return super().poll() if self.process is not None else []

    def cancel(self) -> None:
        """Ask the job to stop at its next step, or never begin it."""
        if not self._service.withdraw(self):
            super().cancel()

    def _dead(self) -> bool:
        return self.lost

    def _obituary(self) -> str:
        if not self.log_tail(1):  # it died before it came to the command
            self.log = self._service.folder / "log.txt"
        return super()._obituary()


def _bury(process: subprocess.Popen, grace: float) -> None:
    """Wait for a process that was asked to end, and kill it if it does not."""
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
