"""Shows the events of a job to a person at a terminal, to a log, or to a program."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from .errors import UnderstudyError

LINE_EVERY = 10.0  # s between progress lines where no bar can be drawn


class Lines:
    """Every event as one line of JSON: what `--json` prints."""

    def __init__(self, out: TextIO):
        self.out = out

    def show(self, event: dict) -> None:
        print(json.dumps(event, ensure_ascii=False), file=self.out, flush=True)

    def close(self) -> None:
        pass


class Screen:
    """A progress bar on a terminal, a line now and then elsewhere; closing events are left to the caller."""

    def __init__(self, out: TextIO):
        self.out = out
        self._bar = None
        self._doing = ""
        self._errors: dict[str, float] = {}  # the last value of every metric that is an RMSE in mm
        self._next_line = 0.0

    def show(self, event: dict) -> None:
        kind = event["type"]
        if kind == "progress":
            self._progress(event)
        elif kind == "status":
            self._doing = event["text"].rstrip(".")
            self._print(event["text"])
        elif kind == "warning":
            self._print("warning: " + event["text"])
        elif kind == "artifact":
            self._print(f"wrote {event['path']}")
        elif kind == "metrics":
            self._errors |= {name: value for name, value in event.items()
                             if name.endswith("_rmse") and isinstance(value, (int, float))}
            if "validation_rmse" in event:
                self._print(self._metrics())

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _progress(self, event: dict) -> None:
        if not self.out.isatty():
            if (now := time.monotonic()) >= self._next_line:
                self._next_line = now + LINE_EVERY
                parts = (f"{event['done']:g} of {event['total']:g} {event['unit']}", pace(event), self._metrics())
                self._print((f"{self._doing}: " if self._doing else "") + ", ".join(part for part in parts if part))
            return
        from tqdm import tqdm

        if self._bar is not None and (self._bar.unit != event["unit"] or event["done"] < self._bar.n):
            self.close()
        if self._bar is None:
            self._bar = tqdm(unit=event["unit"], file=self.out, dynamic_ncols=True, mininterval=0, leave=False,
                             bar_format="{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} {unit}{postfix}")
        self._bar.total = event["total"]
        self._bar.n = event["done"]
        self._bar.set_description_str(self._doing, refresh=False)
        self._bar.set_postfix_str(", ".join(part for part in (pace(event), self._metrics()) if part))

    def _metrics(self) -> str:
        return ", ".join(f"{name.replace('_', ' ')} {value:.2f} mm" for name, value in self._errors.items())

    def _print(self, text: str) -> None:
        """A line above the bar."""
        if self._bar is not None:
            self._bar.write(printable(text), file=self.out)
        else:
            print(printable(text), file=self.out, flush=True)


def printable(text: str) -> str:
    """Text without control characters: it may come from anybody's file, and a terminal obeys them."""
    return "".join(letter if letter.isprintable() or letter == "\t" else "?" for letter in text)


def pace(event: dict) -> str:
    """The speed and the time left of a progress event, for people; empty if it has neither."""
    parts = []
    if event.get("rate") is not None:
        parts.append(f"{event['rate']:.3g} {event['unit']}/s")
    if event.get("left") is not None:
        parts.append(f"{duration(event['left'])} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Seconds for people: 12 s, 3 min 20 s, 2 h 5 min."""
    seconds = max(round(seconds), 0)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds // 60 % 60} min"


@contextlib.contextmanager
def noise_to(log: Path) -> Iterator[tuple[TextIO, TextIO]]:
    """Send what libraries and C code write to standard output and error into a log; yield streams to the real ones."""
    try:
        sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError as error:
        raise UnderstudyError(f"Cannot write {log}: {error.strerror}. Check that its folder can be written.") from error
    sys.stdout.flush()
    sys.stderr.flush()
    real = os.dup(1), os.dup(2)
    streams = [open(number, "w", encoding="utf-8", errors="backslashreplace") for number in real]
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.close(sink)
    try:
        yield streams[0], streams[1]
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # the log's disk may be full
                stream.flush()
        os.dup2(real[0], 1)
        os.dup2(real[1], 2)
        for stream in streams:
            with contextlib.suppress(OSError):  # the terminal may be gone
                stream.close()
