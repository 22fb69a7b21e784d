"""The folder of a job as anybody can read it: where it stands, what it said, whether it still lives.

    events.jsonl   one JSON object a line, appended whole: `hello` first, one of `done`, `cancelled`, `failed` last;
                   a job begun again in the same folder (a resumed training) appends, from a new `hello` on
    log.txt        whatever libraries and C code print, and tracebacks
    heartbeat      touched twice a second while the process lives
    cancel         asks the job to stop at its next step

core/jobs.py has the side that works. Standard library only, so that Blender can import it.
"""

import dataclasses
import json
import os
import socket
import time
from pathlib import Path

from .errors import UnderstudyError

# The closed set of event types, and the fields without which one is not believed; every event also has `time`, in Unix
# seconds. `progress` may have `rate` (units a second) and `left` (seconds).
NUMBER = (int, float)
EVENTS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "hello": {"command": str, "pid": int, "host": str},
    "status": {"text": str},  # what goes on now, a sentence
    "progress": {"done": NUMBER, "total": NUMBER, "unit": str},
    "metrics": {},  # numbers by name
    "artifact": {"path": str, "kind": str},  # a file that is ready; relative to the job folder if it lies inside
    "warning": {"text": str},
    "done": {},  # results by name
    "cancelled": {"text": str},
    "failed": {"text": str},
}
CLOSING = {"done": 0, "failed": 1, "cancelled": 3}  # the last event, and the exit code that goes with it
SILENCE = 10.0  # s without heartbeat that mean death where the process cannot be looked up. Not less: while torch is
#                 imported from a cold disk, Python's lock is held, and the heartbeat with it, for several seconds
SKEW = 60.0  # s that the clocks of two machines may differ
BLOCK = 1 << 20  # bytes read at once, and the longest line that is believed


def read_events(folder: Path | str, offset: int = 0) -> tuple[list[dict], int]:
    """The events after byte `offset` of a job's events.jsonl, and the offset to go on from.

    At most BLOCK bytes are read; call again until the offset stays. A torn last line waits for its rest; lines that are
    no event of ours are skipped; a file that has become shorter is read from its beginning.
    """
    try:
        with open(Path(folder) / "events.jsonl", "rb") as file:
            if os.fstat(file.fileno()).st_size < offset:
                offset = 0
            file.seek(offset)
            block = file.read(BLOCK)
    except FileNotFoundError:
        return [], offset
    except OSError as error:
        raise UnderstudyError(f"Cannot read the events of the job {folder}: {error.strerror}.") from error
    whole = block.rfind(b"\n") + 1
    if not whole and len(block) == BLOCK:
        return [], offset + BLOCK  # no line of ours is that long
    events = [event for line in block[:whole].split(b"\n") if (event := parse_event(line)) is not None]
    return events, offset + whole


def parse_event(line: bytes) -> dict | None:
    """One line of events.jsonl, or None if it is nothing that a job writes."""
    try:
        event = json.loads(line)
        kind = event["type"]
        wanted = {"time": NUMBER, **EVENTS[kind]}
    except (ValueError, RecursionError, TypeError, KeyError):
        return None
    if kind == "progress":
        wanted |= {name: NUMBER for name in ("rate", "left") if event.get(name) is not None}
    for name, types in wanted.items():
        value = event.get(name)
        if not isinstance(value, types) or isinstance(value, bool):
            return None
        if types is not str and not abs(value) < 1e15:  # also refuses what is not a number
            return None
    return event


@dataclasses.dataclass
class JobState:
    """Where a job stands."""

    state: str = "waiting"  # waiting (no hello yet), running, done, cancelled, failed, dead (ended without a last word)
    command: str = ""
    pid: int = 0
    host: str = ""
    text: str = ""  # the last status, or the last word
    progress: dict | None = None  # the last progress event
    metrics: dict = dataclasses.field(default_factory=dict)  # the last value of each
    warnings: list[str] = dataclasses.field(default_factory=list)  # the last hundred
    artifacts: list[dict] = dataclasses.field(default_factory=list)  # the last thousand events
    results: dict = dataclasses.field(default_factory=dict)  # what `done` tells
    exit_code: int | None = None  # None until it has ended

    @property
    def ended(self) -> bool:
        return self.state not in ("waiting", "running")


def next_state(state: JobState, event: dict) -> JobState:
    """The state after one more event of read_events; changes `state` unless a new job begins."""
    kind = event["type"]
    fields = {name: value for name, value in event.items() if name not in ("type", "time")}
    if kind == "hello":
        return JobState("running", event["command"], event["pid"], event["host"])
    if state.state in CLOSING:
        return state  # nothing is said after the last word
    state.state, state.exit_code = "running", None  # also when silence made us think it dead
    if kind == "progress":
        state.progress = event
    elif kind == "metrics":
        state.metrics.update(fields)
    elif kind == "artifact":
        state.artifacts = [*state.artifacts[-999:], event]
    elif kind == "warning":
        state.warnings = [*state.warnings[-99:], event["text"]]
    elif kind == "status":
        state.text = event["text"]
    else:
        state.state, state.exit_code = kind, CLOSING[kind]
        state.text = event.get("text", "")
        state.results = fields
    return state


class Watcher:
    """Follows a job folder from anywhere: call `poll` now and then, it never blocks, and look at `state`."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        self.log = self.folder / "log.txt"
        self.state = JobState()
        self._offset = 0
        self._beat: tuple[float, float] | None = None  # the last heartbeat, and when we saw it change

    def poll(self) -> list[dict]:
        """The next events, up to BLOCK bytes of them; brings `state` up to date."""
        dead = self._dead()  # looked at before the events, so that a last word just written counts
        before = self._offset
        events, self._offset = read_events(self.folder, before)
        for event in events:
            self.state = next_state(self.state, event)
        if dead and self._offset == before and not self.state.ended:
            self.state.state, self.state.exit_code, self.state.text = "dead", 1, self._obituary()
        return events

    def catch_up(self) -> None:
        """Poll until nothing new comes."""
        before = -1
        while before != self._offset:
            before = self._offset
            self.poll()

    def log_tail(self, lines: int = 20) -> list[str]:
        """The last lines of the log, from its last 64 kB."""
        try:
            with open(self.log, "rb") as file:
                file.seek(max(file.seek(0, os.SEEK_END) - 65536, 0))
                return file.read().decode("utf-8", "replace").splitlines()[-lines:]
        except OSError:
            return []

    def _dead(self) -> bool:
        """Whether the process lives no more: looked up if it said hello from here, else silent for SILENCE.

        The clock is only asked at the first look; from then on a change of the heartbeat is what counts.
        """
        if self.state.ended or self.state.state == "waiting" and not (self.folder / "events.jsonl").exists():
            return False
        here = self.state.host == socket.gethostname()
        if here and not process_lives(self.state.pid):
            return True
        try:
            with open(self.folder / "heartbeat", "rb") as file:  # opening makes a file server look again
                beat = os.fstat(file.fileno()).st_mtime
        except OSError:
            beat = 0.0
        if self._beat is None:
            silent = time.time() - beat - (0 if here else SKEW)
            self._beat = (beat, time.monotonic() - max(silent, 0))
        elif beat != self._beat[0]:
            self._beat = (beat, time.monotonic())
        return time.monotonic() - self._beat[1] > SILENCE

    def _obituary(self) -> str:
        if self.state.state == "waiting":
            return f"It ended before it began: killed, crashed, or its disk was full. Its log is {self.log}."
        return (f"The process {self.state.pid} on {self.state.host} ended without a last word: killed, out of memory "
                f"or crashed. Its log is {self.log}.")


def job_state(folder: Path | str) -> JobState:
    """Where the job of a folder stands now."""
    watcher = Watcher(folder)
    watcher.catch_up()
    return watcher.state


def refuse_if_running(folder: Path | str) -> None:
    """Raise UnderstudyError if a live job owns the folder."""
    state = job_state(folder)
    if state.state == "running":
        raise UnderstudyError(f"A job is running in {folder} (process {state.pid} on {state.host}). Wait for it, "
                              f'choose another folder, or stop it with: understudy watch --cancel "{folder}"')


def cancel(folder: Path | str) -> None:
    """Ask the job of a folder, wherever it runs, to stop at its next step."""
    try:
        (Path(folder) / "cancel").touch()
    except OSError as error:
        raise UnderstudyError(f"Cannot cancel the job in {folder}: {error.strerror}.") from error


def process_lives(pid: int) -> bool:
    """Whether a process of this machine exists."""
    if pid <= 0:
        return False
    if os.name == "nt":  # os.kill(pid, 0) would end it there
        import ctypes

        kernel = ctypes.windll.kernel32
        handle = kernel.OpenProcess(0x00100000, False, pid)  # SYNCHRONIZE
        lives = bool(handle) and kernel.WaitForSingleObject(handle, 0) == 0x102  # WAIT_TIMEOUT: it has not ended
        kernel.CloseHandle(handle)
        return lives
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
