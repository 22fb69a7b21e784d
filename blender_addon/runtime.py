"""What is going on right now, by shot. Never saved and never undone: the pump writes it, the panels read it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Run:
    """A solve or a marking that waits, runs, or has ended since Blender was started."""

    uid: str          # of the shot
    name: str         # of the shot, for messages
    state: str = "queued"  # queued, starting, solving, applying, marking, done, cancelled, failed
    text: str = ""    # what goes on, or the last word
    done: int = 0
    total: int = 0
    rate: float = 0.0  # frames a second
    left: float = 0.0  # s
    stop: bool = False  # the artist asks to stop
    task: Iterator | None = None  # the work itself, for the pump
    log: Path | None = None  # the job's log
    warnings: list[str] = field(default_factory=list)

    @property
    def active(self) -> bool:
        return self.state in ("queued", "starting", "solving", "applying", "marking")


@dataclass
class Live:
    """The live view, now or last."""

    uid: str           # of the shot
    name: str          # of the shot
    active: bool = True
    failed: bool = False
    text: str = "Starting"  # what goes on, or the last word
    fps: float = 0.0        # frames shown in the last second
    latency_ms: float = 0.0  # from capture to the mesh, mean of the last second
    solved_fps: float = 0.0  # frames that the worker solved
    dropped: int = 0        # pictures that were not solved, because newer ones had come


live: Live | None = None
runs: dict[str, Run] = {}       # by uid of the shot; the newest of each
marks: dict[str, Run] = {}      # as runs: shots that are being marked as cleaned
composition: list[str] = []     # lines about what the actor's cleaned shots hold
worker_text = ""                # what Check found about the worker
crop_text = ""                  # how the crop was found, or why not
footage_text: dict[str, str] = {}  # by uid of the shot: what is wrong with its footage


def run_of(uid: str) -> Run | None:
    return runs.get(uid)


def active_runs() -> list[Run]:
    """In the order in which they are worked on."""
    return [run for run in runs.values() if run.active]


def clear() -> None:
    """Forget everything, when another file is loaded or the add-on is disabled."""
    global crop_text
    runs.clear()
    marks.clear()
    composition.clear()
    footage_text.clear()
    crop_text = ""
