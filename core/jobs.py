"""Jobs: long work runs in a process of its own and tells of itself in a folder (core/events.py says what lies in it).

Worker: `with Job(folder, "train") as job: train(..., report=job)`. Parent: `start(["train", ...], folder)`, or
core/service.py, whose process stays for the next job.
Standard library only, so that Blender can import it.
"""

import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .errors import Cancelled, UnderstudyError
from .events import BLOCK, Watcher, cancel, refuse_if_running
from .files import make_folder

BEAT = 0.5  # s between heartbeats
PROGRESS_EVERY = 0.5  # s between progress events, so that a night of training stays within a few MB
PROGRAM = Path(__file__).resolve().parent.parent / "__main__.py"
STARTED = "UNDERSTUDY_STARTED"  # environment of a process that was begun by another one: attached, detached or served
PACKAGES = "UNDERSTUDY_PACKAGES"  # environment: further folders of packages, for the worker alone

_orphaned = threading.Event()  # whoever started this process and was to be followed has ended


class Reporter:
    """What long functions tell of themselves; this one keeps silent and never cancels."""

    def status(self, text: str) -> None:
        """What goes on now, a sentence."""

    def progress(self, done: float, total: float, unit: str = "frames", **more: object) -> None:
        """`done` of `total` units; call it at every step. `left` in seconds where the caller knows better."""

    def metrics(self, **values: object) -> None:
        """Numbers by name, for instance epoch=3, validation_mm=0.92."""

    def artifact(self, path: Path | str, kind: str) -> None:
        """A file that is ready to be looked at: model, cache, picture, movie, report, table."""

    def warning(self, text: str) -> None:
        """Something that the user should know and that stops nothing."""

    def cancelled(self) -> bool:
        """Whether the user asked to stop; cheap enough for every step."""
        return False

    def check_cancel(self) -> None:
        """Raise Cancelled when the user asked to stop."""
        if self.cancelled():
            raise Cancelled("Cancelled.")


class Deputy(Reporter):
    """Keeps silent, and asks to stop when a signal says so: for processes that help another one with its job."""

    def __init__(self):
        self._stop = False

    def __enter__(self) -> "Deputy":
        for name in ("SIGINT", "SIGTERM"):
            signal.signal(getattr(signal, name), self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def cancelled(self) -> bool:
        return self._stop

    def _on_signal(self, number: int, frame: object) -> None:
        if self._stop:
            raise KeyboardInterrupt
        self._stop = True


class Job(Reporter):
    """The worker's side of a job folder: a context manager that says hello and always a last word.

    folder : made if it is absent.    command : the name of what runs.    about : further fields of `hello`.
    show : called with every event that is written, for a terminal; an OSError (terminal gone) ends only the showing.
    results : fill it for the `done` event.

    Inside the block SIGINT, SIGTERM and SIGHUP ask to cancel; a second one interrupts at once. Exceptions pass through
    after the closing event. Raises UnderstudyError if a live job owns the folder or it cannot be written.
    """

    def __init__(self, folder: Path | str, command: str, show: Callable[[dict], None] | None = None, **about: object):
        self.folder = Path(folder)
        self.results: dict[str, object] = {}
        self.told = False  # whether the folder has its last word; not if the disk is full
        self._hello = {"command": command, "pid": os.getpid(), "host": socket.gethostname(), **about}
        self._show = show
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._stop = self._told = self._torn = False
        self._next_look = self._next_progress = 0.0
        self._counted = ("", 0.0, 0.0, 0.0)  # what is counted, where and when that began, where it is
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "Job":
        make_folder(self.folder)
        refuse_if_running(self.folder)
        started = os.environ.pop(STARTED, "")
        try:
            if not started:  # `start` cleared it before, and its own cancel may be there already
                (self.folder / "cancel").unlink(missing_ok=True)
            self._beat()
            self._file = self._open()
            self._append("hello", self._hello)
        except OSError as error:
            raise UnderstudyError(f"Cannot write into the job folder {self.folder}: {error.strerror}. "
                                  "Check that it can be written and has space.") from error
        threading.Thread(target=self._keep_beating, daemon=True).start()
        if started == "attached":
            follow_parent()
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
                    self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.told = self._event("done", **self.results)
        elif isinstance(error, (Cancelled, KeyboardInterrupt)):
            self.told = self._event("cancelled", text=str(error) or "Cancelled.")
        else:
            if not isinstance(error, UnderstudyError):
                self._log("".join(traceback.format_exception(error)))
            self.told = self._event("failed", text=sentence(error, self.folder))
        with self._lock:
            self._ended.set()
            os.close(self._file)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def status(self, text: str) -> None:
        self._event("status", text=text)

    def progress(self, done: float, total: float, unit: str = "frames", **more: object) -> None:
        now = time.monotonic()
        what, first, since, last = self._counted
        again = what != unit or done < last  # something else is counted from now on
        if again:
            first, since = done, now
        self._counted = (unit, first, since, done)
        if now < self._next_progress and done < total and not again:
            return
        self._next_progress = now + PROGRESS_EVERY
        if done > first and now > since:
            rate = (done - first) / (now - since)
            more = {"rate": round(rate, 3), "left": round((total - done) / rate, 1), **more}
        self._event("progress", done=done, total=total, unit=unit, **more)

    def metrics(self, **values: object) -> None:
        self._event("metrics", **values)

    def artifact(self, path: Path | str, kind: str) -> None:
        path = Path(path).resolve()
        with contextlib.suppress(ValueError):
            path = path.relative_to(self.folder.resolve())
        self._event("artifact", path=path.as_posix(), kind=kind)

    def warning(self, text: str) -> None:
        self._event("warning", text=text)

    def cancelled(self) -> bool:
        now = time.monotonic()
        if not self._stop and now >= self._next_look:
            self._next_look = now + 0.2  # the folder may lie on a server
            self._stop = _orphaned.is_set() or (self.folder / "cancel").exists()
        if self._stop and not self._told:
            self._told = True
            self.status("Stopping.")
        return self._stop

    def _event(self, kind: str, /, **fields: object) -> bool:
        """Write an event; returns whether it is there whole."""
        with self._lock, contextlib.suppress(OSError):  # a full disk must not hide what the job itself has to say
            if not self._ended.is_set():
                self._append(kind, fields)
                return not self._torn
        return False

    def _append(self, kind: str, fields: dict) -> None:
        head = {"type": kind, "time": time.time()}
        event = head | plain(fields) | head  # fields cannot change what an event is
        if self._show:
            try:
                self._show(event)
            except OSError:
                self._show = None
        line = json.dumps(event, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        if len(line) > BLOCK:  # no reader would believe it, and a last word must be believed
            line = json.dumps(head | {"text": "(too long to tell)"}).encode() + b"\n"
        if self._torn:
            line = b"\n" + line
        self._torn = os.write(self._file, line) < len(line)

    def _open(self) -> int:
        """Open events.jsonl for appending, and see whether a predecessor that was killed left half a line."""
        file = os.open(self.folder / "events.jsonl",
                       os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        if os.lseek(file, 0, os.SEEK_END):
            os.lseek(file, -1, os.SEEK_END)
            self._torn = os.read(file, 1) != b"\n"
        return file

    def _log(self, text: str) -> None:
        with contextlib.suppress(OSError), open(self.folder / "log.txt", "a", encoding="utf-8") as file:
            file.write(text)

    def _beat(self) -> None:
        (self.folder / "heartbeat").touch()
        now = time.time()
        os.utime(self.folder / "heartbeat", (now, now))  # by the clock of this machine, not of a file server

    def _keep_beating(self) -> None:
        while not self._ended.wait(BEAT):
            with contextlib.suppress(OSError):
                self._beat()

    def _on_signal(self, number: int, frame: object) -> None:
        if self._stop:
            raise KeyboardInterrupt
        self._stop = True


def follow_parent(hear: Callable[[bytes], None] = lambda line: None) -> None:
    """Listen, in a thread, to whoever started this process: when our standard input ends, so has that program.

    Jobs are then asked to stop. hear : called with every line of standard input, and at its end with b"".
    """
    def listen() -> None:
        with contextlib.suppress(OSError), open(0, "rb", closefd=False) as lines:
            for line in lines:
                hear(line)
        _orphaned.set()
        hear(b"")

    threading.Thread(target=listen, daemon=True).start()


def sentence(error: BaseException, folder: Path | str | None = None) -> str:
    """What users are told of an exception. `folder` is that of its job, whose log has the traceback."""
    if isinstance(error, UnderstudyError):
        return str(error)
    where = f" Details are in {Path(folder) / 'log.txt'}." if folder else ""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, of a GPU
        return f"There is not enough memory. Close other programs, or use a smaller batch or the device cpu.{where}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return (f"{error.name} is not installed for {sys.executable}. Install it there, or run Understudy with the "
                f"Python that has it.{where}")
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}{f': {error.filename}' if error.filename else ''}.{where}"
    first_line = next(iter(str(error).splitlines()), "")
    return f"Unexpected {type(error).__name__}{f': {first_line}' if first_line else ''}".rstrip(".") + f".{where}"


def plain(value: Any) -> Any:
    """What JSON can hold: numpy scalars and arrays become Python's, paths text, and what is not finite null."""
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


class RunningJob(Watcher):
    """A job that this process started. Keep the object and `poll` it until `state.ended`.

    process : None while the job waits for its turn.
    """

    def __init__(self, folder: Path, process: subprocess.Popen | None, offset: int):
        super().__init__(folder)
        self.process = process
        self._offset = offset
        self._grace: float | None = None
        self._kill_at = math.inf
        self._killed = False

    def poll(self) -> list[dict]:
        news = super().poll()
        if self.state.state == "dead":
            self.state.exit_code = self.process.returncode
        elif not self.state.ended and time.monotonic() > self._kill_at and self.process.poll() is None:
            self.process.kill()
            self._killed = True
        return news

    def cancel(self) -> None:
        """Ask the job to stop at its next step."""
        cancel(self.folder)

    def kill_after(self, grace: float = 10.0) -> None:
        """Let `poll` kill the process if the job has not ended in `grace` seconds from now."""
        self._grace, self._kill_at = grace, time.monotonic() + grace

    def _dead(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def _obituary(self) -> str:
        if self._killed:
            return f"It did not stop within {self._grace:g} s and was killed."
        code = self.process.returncode
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        lines = self.log_tail()[::-1] or ["(nothing)"]
        last = next((line for line in lines if line.startswith("understudy: ")), lines[0])  # ours, else anybody's
        return f"The process {how} without a last word. The last line of {self.log}: {last}"


def start(arguments: Sequence[str], folder: Path | str, python: str = sys.executable,
          detach: bool = False, packages: Sequence[str] = ()) -> RunningJob:
    """Run `understudy <arguments>` in a process of its own; `folder` is the job folder that the arguments lead to.

    python : an interpreter that has torch.    detach : outlive this process; otherwise the job cancels itself when this
    process ends.    packages : further folders of packages for it. Raises UnderstudyError if a live job owns the folder
    or the interpreter cannot be started.
    """
    folder = claim(folder)
    offset = events_size(folder)
    return RunningJob(folder, launch(python, arguments, folder / "log.txt", detach, packages), offset)


def claim(folder: Path | str) -> Path:
    """Make a job folder ready for a new job, or raise UnderstudyError because a live one owns it."""
    folder = make_folder(folder)
    refuse_if_running(folder)
    try:
        (folder / "cancel").unlink(missing_ok=True)
    except OSError as error:
        raise UnderstudyError(f"Cannot write into the job folder {folder}: {error.strerror}.") from error
    return folder


def events_size(folder: Path) -> int:
    """Bytes of a folder's events so far, behind which a new job's begin."""
    events = folder / "events.jsonl"
    return events.stat().st_size if events.exists() else 0


def launch(python: str, arguments: Sequence[str], log: Path, detach: bool = False,
           packages: Sequence[str] = ()) -> subprocess.Popen:
    """Begin `understudy <arguments>`, whose noise goes to `log`. If not detached, its standard input is a pipe to us.

    packages : further folders of packages for it. Raises UnderstudyError if that interpreter cannot be started.
    """
    windows = os.name == "nt"
    options: dict[str, Any] = {"creationflags": subprocess.CREATE_NO_WINDOW} if windows else {
        "start_new_session": detach}
    environment = {STARTED: "detached" if detach else "attached", PACKAGES: os.pathsep.join(packages)}
    try:
        with open(log, "ab") as file:
            return subprocess.Popen(
                [python, "-I", "-u", "-X", "utf8", str(PROGRAM), *arguments],
                stdin=subprocess.DEVNULL if detach else subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT,
                env={**os.environ, **environment}, **options)
    except OSError as error:
        raise UnderstudyError(f"Cannot start {python} for {log.parent}: {error.strerror}. Choose a Python that has "
                              "torch and a folder that can be written.") from error
