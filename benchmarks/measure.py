"""The sides of a comparison, each in a process of its own and measured in turns, and the rows that they end in."""

import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from understudy.core.jobs import Reporter


@dataclass(frozen=True)
class Effort:
    """How long to measure: turns of every side, and seconds of each turn."""

    rounds: int = 3
    seconds: float = 2.0


@dataclass
class Row:
    """A line of the table.

    turns : what `rate` gave, a dict a turn; its "rate" is in `unit`.    against : the row that this one is compared
    with, measured in the same rounds.    mark : the ratio that it should reach.    limit : what was measured of what
    limits it.
    """

    question: str
    what: str
    device: str
    turns: list[dict]
    against: "Row | None" = field(default=None, repr=False)
    mark: float | None = None
    limit: str = ""
    unit: str = ""  # empty = frames a second

    def median(self, name: str) -> float:
        return statistics.median(turn[name] for turn in self.turns)

    @property
    def rates(self) -> list[float]:
        return [turn["rate"] for turn in self.turns]

    @property
    def ratios(self) -> list[float]:
        """One a round, so that what slowed a whole round down falls out."""
        return [own / other for own, other in zip(self.rates, self.against.rates, strict=True)] if self.against else []

    @property
    def costs(self) -> list[float]:
        """Milliseconds of one core a frame, of every round; empty where a row has no frames or no processor time."""
        return [1000 * turn["cores"] / turn["rate"] for turn in self.turns] if "cores" in self.turns[0] else []

    @property
    def cheapness(self) -> list[float]:
        """The ratios in processor time, which other programs on the machine hardly change."""
        if not (self.against and self.costs and self.against.costs):
            return []
        return [other / own for own, other in zip(self.costs, self.against.costs, strict=True)]

    def told(self) -> dict:
        """What the table and the stored results have of it."""
        return {**dataclasses.asdict(self), "against": self.against.what if self.against else None,
                "rates": self.rates, "ratios": self.ratios, "costs": self.costs, "cheapness": self.cheapness}


class Side:
    """A child process that measures when asked; in between it sleeps."""

    def __init__(self, program: str, *arguments: str):
        self._command = [sys.executable, str(Path(__file__).with_name(program)), *arguments]

    def __enter__(self) -> "Side":
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def measure(self, **request: object) -> dict:
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            return json.loads(self._process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):
            raise SystemExit(f"{' '.join(self._command)} ended before it answered {request}.") from None

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait()


def serve(measure: Callable[..., dict]) -> None:
    """The child's part: answer requests until there are no more."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        print(json.dumps(measure(**json.loads(line))), file=answers, flush=True)


def in_turns(effort: Effort, measures: dict[str, Callable[[], dict]]) -> dict[str, list[dict]]:
    """ABAB: every side once a round."""
    results = {name: [] for name in measures}
    for _ in range(effort.rounds):
        for name, measure in measures.items():
            results[name].append(measure())
    return results


def rate(step: Callable[[], int], seconds: float) -> dict:
    """Frames a second and busy cores of a function that returns how many frames it did, repeated for `seconds`."""
    began, cpu, frames = time.perf_counter(), time.process_time(), 0
    while True:
        frames += step()
        passed = time.perf_counter() - began
        if passed >= seconds:
            return {"rate": frames / passed, "cores": (time.process_time() - cpu) / passed}


class Watch(Reporter):
    """Measures a long function of the product by what it reports: from its first progress on, for `seconds`."""

    def __init__(self, seconds: float = float("inf")):
        self.seconds, self.began, self.marks = seconds, time.perf_counter(), []

    def progress(self, done: float, total: float, unit: str = "frames", **more: object) -> None:
        if unit == "frames":
            self.marks.append((time.perf_counter(), time.process_time(), done))

    def cancelled(self) -> bool:
        return len(self.marks) > 1 and self.marks[-1][0] - self.marks[0][0] >= self.seconds

    def result(self) -> dict:
        (began, cpu, before), (ended, cpu_ended, done) = self.marks[0], self.marks[-1]
        passed = ended - began
        return {"rate": (done - before) / passed, "cores": (cpu_ended - cpu) / passed, "start": began - self.began}
