"""A take that is being solved, on its own or over a part of an older solve, and what is written beside its cache.

Beside the cache X.pc2 stand X.json, the sidecar, and X.npy, the codes (core/solved.py reads them).
"""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

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
    spreads: list[np.ndarray] = field(default_factory=list)
    codes: list[np.ndarray] = field(default_factory=list)

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

    def run(self, writer: CacheWriter | LiveCache, report: Reporter, hurry: bool) -> bool:
        """Solve frame after frame into the writer; returns whether the end was reached, and not a cancel before."""
        inputs = self.footage.inputs(self.crop, self.first, self.last + 1)
        report.status(self.doing)
        with contextlib.closing(inputs):
            for vertices, spread, codes in self.solver.stream(inputs, hurry, report.warning):
                writer.write(vertices)
                self.spreads.append(spread)
                self.codes.append(codes)
                self.done += len(vertices)
                if hurry and len(self.codes) == 1:
                    report.artifact(writer.path, "live")
                report.progress(self.done, self.count)
                if self.done < self.count and report.cancelled():
                    return False
        return True


def write_beside(take: Take, model: Path, out: Path, samples: int, complete: bool) -> dict:
    """Write the codes and the sidecar of a cache of so many samples; returns the sidecar."""
    loaded, solver, source = take.solver.model, take.solver, take.footage
    last = take.start + samples - 1
    crop = [take.crop.x, take.crop.y, take.crop.width, take.crop.height]
    how = {"model_sha256": take.sha256, "engine": solver.engine, "device": str(solver.device), "crop": crop}
    part = {"first": take.first, "last": min(take.first + take.done - 1, last), **how}
    names = ["all", *sorted(loaded.regions)]
    spread = {name: [round(float(value), 4) for value in column]
              for name, column in zip(names, np.concatenate(take.spreads).T, strict=True)}
    sidecar = {
        "version": SIDECAR, "actor": loaded.actor, "topology": loaded.topology, "model": model.name,
        "model_sha256": take.sha256, "footage": source.path.name, "footage_identity": source.identity,
        "fps": source.fps, "variable_rate": source.variable, "first": take.start, "last": last, "complete": complete,
        "crop": crop, "transfer": loaded.transfer, "unit": loaded.unit, "engine": solver.engine,
        "device": str(solver.device), "batch": solver.batch, "engines_measured": solver.rates,
        "parts": _parts(take.old.parts if take.old else [], part, last),
        "confidence_mm": _confidence(take, spread, samples),
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


def _confidence(take: Take, new: dict[str, list[float]], samples: int) -> dict[str, list[float | None]]:
    """Spread in millimetres by region, a number a sample; "all" is every animated vertex.

    None where a base that was solved by another model does not tell, or tells of a region that this one does not know.
    """
    old = take.old.sidecar["confidence_mm"] if take.old else {}
    result = {}
    for name in {**new, **old}:
        column: list[float | None] = [None] * take.length
        if name in old:
            column[take.old.first - take.start:take.old.last + 1 - take.start] = old[name]
        begin = take.first - take.start
        column[begin:begin + take.done] = new.get(name, [None] * take.done)
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
