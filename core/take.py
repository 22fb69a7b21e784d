"""A take that is being solved, on its own or over a part of an older solve, and what is written beside its cache.

Beside the cache X.pc2 stand X.json, the sidecar, and X.npy, the codes (core/solved.py reads them).
"""

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from .crop import Crop
from .files import atomic, write_json
from .footage import Footage
from .jobs import Reporter
from .live import LiveCache
from .meshcache import CacheWriter
from .solved import Solved
from .solver import Solver

SIDECAR = 1  # version of the JSON beside a solve


@dataclass
class Take:
    """What is solved, and what became of it so far."""

    footage: Footage
    solver: Solver
    sha256: str
    crop: Crop
    first: int  # frames to solve
    last: int
    old: Solved | None
    doing: str = "Solving"
    done: int = 0
    shown: bool = False  # whether somebody was told of the live cache
    signals: list[np.ndarray] = field(default_factory=list)  # spread, and novelty beside it where the model tells it
    codes: list[np.ndarray] = field(default_factory=list)
    gray: list[float] = field(default_factory=list)  # mean gray levels of the inputs; some may not be solved

    @property
    def count(self) -> int:
        return self.last - self.first + 1

    @property
    def start(self) -> int:
        """Frame of the cache's first sample."""
        return self.first if self.old is None else min(self.first, self.old.first)

    @property
    def length(self) -> int:
        """Frames from `start` to the last that is solved, now or by the base."""
        return max(self.first + self.done, self.old.last + 1 if self.old else 0) - self.start

    def run(self, writer: CacheWriter | LiveCache, report: Reporter) -> bool:
        """Solve frame after frame into the writer; returns whether the end was reached, and not a cancel before."""
        inputs = self.footage.inputs(self.crop, self.first, self.last + 1)
        report.status(self.doing)
        with contextlib.closing(inputs):
            watched = self._watched(inputs)
            if live := isinstance(writer, LiveCache):
                watched = self._previewed(watched, writer, report)
            for vertices, signals, codes in self.solver.stream(watched, report.warning):
                writer.write(vertices)
                if live and not self.shown:
                    self._show(writer, report)
                self.signals.append(signals)
                self.codes.append(codes)
                self.done += len(vertices)
                report.progress(self.done, self.count)
                if self.done < self.count and report.cancelled():
                    return False
        return True

    def _previewed(self, inputs: Iterator[np.ndarray], writer: LiveCache, report: Reporter) -> Iterator[np.ndarray]:
        """Show the first input's solution before its batch is full."""
        for picture in itertools.islice(inputs, 1):
            if (vertices := self.solver.preview(picture)) is not None:
                writer.show(vertices)
                self._show(writer, report)
            yield picture
        yield from inputs

    def _show(self, writer: LiveCache, report: Reporter) -> None:
        self.shown = True
        report.artifact(writer.path, "live")

    def _watched(self, inputs: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for picture in inputs:
            self.gray.append(cv2.mean(picture)[0])
            yield picture


def write_beside(take: Take, model: Path, out: Path, samples: int, complete: bool) -> dict:
    """Write the codes and the sidecar of a cache of so many samples; returns the sidecar."""
    loaded, solver, source = take.solver.model, take.solver, take.footage
    last = take.start + samples - 1
    crop = [take.crop.x, take.crop.y, take.crop.width, take.crop.height]
    how = {"model_sha256": take.sha256, "engine": solver.engine, "device": str(solver.device), "crop": crop}
    part = {"first": take.first, "last": min(take.first + take.done - 1, last), **how}
    sidecar = {
        "version": SIDECAR, "actor": loaded.actor, "topology": loaded.topology, "model": model.name,
        "model_sha256": take.sha256, "footage": source.path.name, "footage_identity": source.identity,
        "fps": source.fps, "variable_rate": source.variable, "first": take.start, "last": last, "complete": complete,
        "crop": crop, "transfer": loaded.transfer, "unit": loaded.unit, "engine": solver.engine,
        "device": str(solver.device), "batch": solver.batch, "engines_measured": solver.rates,
        "parts": _parts(take.old.parts if take.old else [], part, last),
        **{name: _columns(take, name, new, samples) for name, new in _told(take).items()},
    }
    with atomic(out.with_suffix(".npy")) as temporary, open(temporary, "wb") as file:
        np.save(file, _codes(take, samples))
    write_json(out.with_suffix(".json"), sidecar)
    return sidecar


def _parts(old: list[dict], new: dict, last: int) -> list[dict]:
    """The parts of a take up to frame `last` where `new` has replaced what `old` says of its frames."""
    parts = [new]
    for part in old:
        parts += [part | {"last": min(part["last"], new["first"] - 1)},
                  part | {"first": max(part["first"], new["last"] + 1), "last": min(part["last"], last)}]
    return sorted((part for part in parts if part["first"] <= part["last"]), key=lambda part: part["first"])


def _told(take: Take) -> dict[str, dict[str, np.ndarray]]:
    """What the solve tells of its frames, kind -> name -> a number a frame (core/review.py reads it).

    confidence_mm, novelty_mm and expected_mm (RMSE) : by region; "all" is every animated vertex.
    signals : brightness, against training's, and expression_mm, the distance to the nearest expression of training.
    Models that cannot tell leave out all but confidence and brightness.
    """
    model, known, signals = take.solver.model, take.solver.model.familiarity, np.concatenate(take.signals).T
    names = ["all", *sorted(model.regions)]
    told = {"confidence_mm": dict(zip(names, signals, strict=False)), "novelty_mm": {}, "expected_mm": {},
            "signals": {"brightness": np.array(take.gray[:take.done]) / max(model.whitening[0], 1)}}
    if known is not None:
        told["novelty_mm"] = dict(zip(names, signals[len(names):], strict=True))
        told["expected_mm"] = known.errors(told["novelty_mm"])
        told["signals"]["expression_mm"] = known.distance(np.concatenate(take.codes))
    return told


def _columns(take: Take, kind: str, new: dict[str, np.ndarray], samples: int) -> dict[str, list[float | None]]:
    """What `_told` says of one kind, for all samples of the take.

    None where a base that was solved by another model does not tell, or tells of a region that this one does not know.
    """
    old = take.old.sidecar.get(kind, {}) if take.old else {}
    result = {}
    for name in {**new, **old}:
        column: list[float | None] = [None] * take.length
        if name in old:
            column[take.old.first - take.start:take.old.last + 1 - take.start] = old[name]
        begin = take.first - take.start
        told = np.round(new[name].astype(np.float64), 4).tolist() if name in new else [None] * take.done
        column[begin:begin + take.done] = told
        result[name] = column[:samples]
    return result


def _codes(take: Take, samples: int) -> np.ndarray:
    """The codes of all samples, (samples, K) float32; rows from a model of fewer components end in zeros."""
    new, old = np.concatenate(take.codes), take.old.codes() if take.old else np.empty((0, 0), np.float32)
    codes = np.zeros((take.length, max(new.shape[1], old.shape[1])), np.float32)
    if take.old:
        codes[take.old.first - take.start:][:len(old), :old.shape[1]] = old
    rows = codes[take.first - take.start:][:len(new)]
    rows[:] = 0
    rows[:, :new.shape[1]] = new
    return codes[:samples]
