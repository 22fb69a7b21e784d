"""The training runs of an actor folder, as anybody can read them: how they stand, their curves, their models.

A run is a job folder (events.py) of `understudy train`. Files come from anywhere and any time, also from the middle of
a write: what makes no sense is left out, and nothing raises. Numpy and the standard library only.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .actor import SPLITS, Actor
from .architectures import PAPER
from .errors import UnderstudyError
from .events import Watcher
from .files import read_json
from .modelfile import ModelFile

NAMES_LIMIT = 1000  # shots, roles or regions that are believed
SMALL = 400, 640         # most columns and rows of the picture that a panel shows
STATES = {"waiting": "starting", "running": "running", "done": "done", "cancelled": "stopped", "failed": "failed",
          "dead": "crashed"}
BASE = 1000 << 20       # bytes that training takes on a CPU, whatever it learns: seen with batches of 8 and 50
PER_FRAME = 28 << 20    # and for each frame of a batch
OPTIMISER = 4 * 4       # and for each number of the network: weight, gradient and Adam's two moments
NETWORK = 8_000_000     # numbers of the network without its output layer


class Run:
    """A run. `poll` brings it up to date; it reads little at a time and never blocks.

    train, validation : (images, RMSE in mm) in the order of images shown.    seconds : spent training.
    errors : the newest validation RMSE in mm by "shots", "roles" and "regions", as far as the trainer told them.
    final : the RMSE in mm of the model that was kept, over every validation frame; None before the end.
    started, ended : Unix seconds of the first and the newest event; 0 if there is none.
    about : the data that it learned from, "shots" (names) and "frames", as `look_at_model` has read it.
    read : whether all that there was has been read once; before, `live` means nothing.
    """

    def __init__(self, folder: Path | str, watcher: Watcher | None = None):
        self.folder = Path(folder)
        self.watcher = watcher or Watcher(self.folder)
        self.train: list[tuple[float, float]] = []
        self.validation: list[tuple[float, float]] = []
        self.errors: dict[str, dict[str, float]] = {}
        self.final: float | None = None
        self.seconds = self.started = self.ended = 0.0
        self.picture: Path | None = None  # the newest preview
        self.read = False
        self._config: dict | None = None
        self.about: dict = {"shots": [], "frames": 0, "architecture": ""}
        self._stamp = ""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def state(self) -> str:
        """One of the values of STATES."""
        return STATES[self.watcher.state.state]

    @property
    def live(self) -> bool:
        return not self.watcher.state.ended

    @property
    def text(self) -> str:
        """What goes on, or the last word."""
        return self.watcher.state.text

    @property
    def best(self) -> float | None:
        """Validation RMSE in mm of the model that the run has kept so far."""
        return self.final if self.final is not None else min((rmse for _, rmse in self.validation), default=None)

    @property
    def images(self) -> int:
        """Training frames shown so far, as far as it told."""
        return int(max((images for images, _ in (*self.train[-1:], *self.validation[-1:])), default=0))

    @property
    def model(self) -> Path | None:
        """The run's best model so far."""
        path = self.folder / "model.safetensors"
        return path if path.is_file() else None

    @property
    def resumable(self) -> bool:
        """Whether `understudy train --resume` has something to go on with."""
        return not self.live and self.state != "done" and (self.folder / "config.json").is_file()

    @property
    def fraction(self) -> float:
        """How far it is, 0..1."""
        progress = self.watcher.state.progress
        if not self.train or progress is None or progress["unit"] != "frames" or progress["total"] <= 0:
            return 0.0
        return min(max(progress["done"] / progress["total"], 0.0), 1.0)

    @property
    def left(self) -> float | None:
        """Seconds until it ends, as the trainer reckons."""
        progress = self.watcher.state.progress
        return progress.get("left") if self.live and self.train and progress is not None else None

    @property
    def config(self) -> dict:
        """The training configuration, names to numbers; empty if it cannot be read."""
        if self._config is None:
            try:
                config = read_json(self.folder / "config.json").get("config")
            except UnderstudyError:
                return {}
            self._config = numbers(config)
        return self._config

    @property
    def length(self) -> str:
        """How long it trains, in words."""
        config = self.config
        if config.get("minutes"):
            return f"{config['minutes']:g} min"
        return f"{config['epochs']:g} epochs" if "epochs" in config else ""

    def look_at_model(self) -> dict:
        """Read `about` from the run's model, if that has changed."""
        path = self.model or self.folder / "start.safetensors"
        try:
            status = path.stat()
        except OSError:
            return self.about
        stamp = f"{path.name} {status.st_size} {status.st_mtime_ns}"
        if self._stamp != stamp:
            try:
                file = ModelFile.load(path)
                about, architecture = file.about, file.architecture
            except UnderstudyError:
                about, architecture = {}, ""
            data, frames = about.get("data"), about.get("frames")
            self._stamp = stamp
            self.about = {"shots": sorted(map(str, data)) if isinstance(data, dict) else [],
                          "frames": frames if _number(frames) else 0, "architecture": architecture}
        return self.about

    def small_picture(self) -> np.ndarray | None:
        """The newest preview as a panel shows it, (h, w, 3) uint8 RGB; None if there is none."""
        path = small_picture_of(self.folder)
        try:
            picture = np.load(path, mmap_mode="r")  # fails, without taking memory, if the file has less than it tells
            height, width, channels = picture.shape
        except (OSError, ValueError, EOFError):
            return None
        fits = width <= SMALL[0] and height <= SMALL[1] and channels == 3 and picture.dtype == np.uint8 and picture.size
        return np.array(picture) if fits else None

    def poll(self) -> list[dict]:
        """The next events, at most a megabyte of them; brings everything up to date."""
        try:
            events = self.watcher.poll()
        except UnderstudyError:  # the folder cannot be read now
            return []
        for event in events:
            self._take(event)
        self.read |= not events
        return events

    def catch_up(self) -> None:
        """Read all that there is."""
        while self.poll():
            pass

    def facts(self) -> dict:
        """All of it as plain values, for programs."""
        about = self.look_at_model()
        return {"run": self.name, "folder": str(self.folder), "state": self.state, "text": self.text,
                "started": self.started, "ended": self.ended, "seconds": self.seconds, "length": self.length,
                "architecture": about["architecture"], "shots": about["shots"], "frames": about["frames"],
                "rmse_mm": self.best, "final": self.final is not None, "errors": self.errors,
                "resumable": self.resumable,
                "model": str(self.model) if self.model else None,
                "images": self.images}

    def _take(self, event: dict) -> None:
        self.started = self.started or event["time"]
        self.ended = event["time"]
        if event["type"] == "artifact" and event["kind"] == "picture":
            path = self.folder / event["path"]
            self.picture = path if path.is_relative_to(self.folder) and ".." not in path.parts else self.picture
        if event["type"] != "metrics":
            return
        images, rmse, train = (event.get(name) for name in ("images", "validation_rmse", "train_rmse"))
        if _number(event.get("seconds")):
            self.seconds = event["seconds"]
        for kind in ("shots", "roles", "regions"):
            if found := numbers(event.get(kind)):
                self.errors[kind] = found
        if event.get("final") is True:
            self.final = rmse if _number(rmse) else self.final
        elif _number(images):
            self.final = None
            if _number(train):
                _append(self.train, images, train)
            if _number(rmse):
                _append(self.validation, images, rmse)


def small_picture_of(run: Path) -> Path:
    """Where a run keeps its newest preview for the panel: plain pixels, which Blender reads without a pause."""
    return run / "previews" / "newest.npy"


def list_runs(actor: Path | str) -> list[Run]:
    """The runs of an actor folder, the newest first, each as far as its files tell."""
    runs = [Run(folder) for folder in run_folders(actor)]
    for run in runs:
        run.catch_up()
    return sorted(runs, key=lambda run: run.started, reverse=True)


def run_folders(actor: Path | str) -> Iterator[Path]:
    """The folders below ACTOR/runs in which a job has written."""
    try:
        yield from sorted(path.parent for path in (Path(actor) / "runs").glob("*/events.jsonl")
                          if not path.parent.name.startswith("."))
    except OSError:
        return


def why_not_now(runs: list[Run]) -> str:
    """Why none of these runs' actors can be trained now; empty if they can."""
    live = next((run for run in runs if run.live), None)
    if live is None:
        return ""
    state = live.watcher.state
    return (f"The run {live.name} is training this actor{f' on {state.host}' if state.host else ''}. Stop it, or wait "
            "until it ends: two at once would take each other's time and model")


def memory_needed(actor: Actor, batch: int) -> int:
    """Bytes that training on an actor's cleaned shots takes at its peak: measured, and rounded up.

    Pictures and positions are read from disk as they are needed; what counts is the batch, less the output layer.
    """
    frames = sum(len(shot.frames()) for shot in actor.training_shots())
    numbers = 3 * len(actor.animated)
    principal = 6 * 4 * numbers * min(frames, 1024)  # what finding the components holds
    return BASE + min(batch, frames) * PER_FRAME + OPTIMISER * (NETWORK + 161 * numbers) + principal


def describe(run: Run) -> str:
    """A run in a line, for people."""
    about = run.look_at_model()
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.started)) if run.started else "?"
    parts = [run.state, about["architecture"] if about["architecture"] != PAPER else "",
             f"{run.seconds / 60:.1f} min" + (f" of {run.length}" if run.length else ""),
             f"{len(about['shots'])} shots with {about['frames']:,} frames" if about["frames"] else "",
             f"{run.best:.2f} mm" if run.best is not None else "",
             run.text if run.state in ("failed", "crashed") else ""]
    return f"{run.name} ({when}): {', '.join(part for part in parts if part)}"


def describe_errors(run: Run, kind: str) -> list[tuple[str, float]]:
    """(name, mm) of a kind of a run's errors, the largest first."""
    return sorted(run.errors.get(kind, {}).items(), key=lambda item: -item[1])


def data_frames(actor: Actor) -> dict[str, int]:
    """How many frames train and validate."""
    shots = dict(zip(SPLITS, (actor.training_shots(), actor.validation_shots()), strict=True))
    return {split: sum(len(shot.frames()) for shot in shots[split]) for split in SPLITS}


def numbers(value: object) -> dict[str, float]:
    """The finite numbers by name of what should be such a dict."""
    if not isinstance(value, dict) or len(value) > NAMES_LIMIT:
        return {}
    return {str(name): number for name, number in value.items() if _number(number)}


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15


def _append(series: list[tuple[float, float]], images: float, rmse: float) -> None:
    """Add a point; a run that goes on from a checkpoint shows what was lost anew."""
    while series and series[-1][0] >= images:
        series.pop()
    series.append((images, rmse))

