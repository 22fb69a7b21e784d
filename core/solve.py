"""Footage in, a mesh cache out: each frame on its own, nothing smoothed (paper, Sec. 3 and 5).

Beside the cache X.pc2 stand X.json, the sidecar, and X.npy, the codes (core/solved.py reads them).
"""

import collections
import contextlib
import errno
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from .batches import GraphSlot, Head, Slot, Solution, make_slots
from .choice import choose, machine_key
from .crop import HEIGHT, WIDTH, Crop
from .engine import candidates, make_engine, pick_device, version
from .errors import Cancelled, UnderstudyError, UsageError
from .files import atomic, check_space, hash_file, write_json
from .footage import Footage, open_footage
from .jobs import Reporter, sentence
from .live import LiveCache, refuse_existing
from .meshcache import CacheWriter, cache_writer
from .model import Model, load_model
from .solved import Solved, read_solved

SIDECAR = 1             # version of the JSON beside a solve
BATCH = {"cpu": 16}     # the fastest on CPUs
GPU_BATCH = 200         # the paper's, Table 1
PATIENCE = 2.0          # s that a batch waits for slow footage until it is solved as it is
FEW_CORES = 16          # below, a GPU's decoder is taken to be faster than the processor; not measured yet
PROBES = 4              # inputs that an engine is compared with float32 by


class Solver:
    """A model ready to solve on a device.

    batch : frames that go through the network together. None = the fastest; 1 = online, a frame at a time. It is halved
    where a GPU's memory does not suffice.
    engine : of core/engine.py; "auto" takes what core/choice.py measures to be the fastest. What cannot be used, or
    leaves the tolerance, is replaced by PyTorch; `notes` has a sentence for each.
    identity : of the model, under which measurements are remembered; empty = any model will do.
    Short batches are filled up: a frame's result is the same bit for bit wherever in a range it lies.
    """

    def __init__(self, model: Model, device: str = "auto", batch: int | None = None, engine: str = "auto",
                 identity: str = ""):
        if batch is not None and not 1 <= batch <= 4096:
            raise UnderstudyError(f"A batch of {batch} frames makes no sense; choose 1 to 4096.")
        self.model = model
        self.device = pick_device(device)
        self.batch = self.wanted = batch or BATCH.get(self.device.type, GPU_BATCH)
        model.network.eval().requires_grad_(False)
        listed = candidates(engine, self.device)
        probes = _probes(model, min(self.batch, PROBES))
        want = _float32(model, probes) if len(listed) > 1 else None
        model.network.to(self.device)
        self._slots: list[Slot | GraphSlot] = []
        while True:
            try:
                self._head = Head(model, self.device)
                key = [*machine_key(self.device), engine, str(self.batch), identity]
                choice, built = choose(key, listed, lambda *how: _Trial(self, *how),
                                       lambda trial: trial.apart(want, probes))
                break
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
                if self.batch == 1:
                    raise UnderstudyError(_no_memory(self.device, "not even for the model")) from error
                self._halve()
        self._slots, self._how = built.slots, (choice.engine, choice.precision)
        self.engine, self.notes, self.rates = version(*self._how), choice.notes, choice.rates

    def solve(self, inputs: np.ndarray) -> np.ndarray:
        """Vertices of network inputs: (n, 320, 240) uint8 -> (n, V, 3) float32 in mesh units.

        Vertices that are not animated stand where the template has them.
        """
        return np.concatenate([vertices for vertices, _, _ in self.stream(inputs)]) if len(inputs) else \
            np.empty((0, len(self.model.template.vertices), 3), np.float32)

    def stream(self, inputs: Iterable[np.ndarray], hurry: bool = False,
               warn: Callable[[str], None] = lambda text: None) -> Iterator[Solution]:
        """Solve inputs as they come, a batch at a time.

        inputs : (320, 240) uint8 each; what fails in them is raised after what came before it was yielded.
        hurry : solve the first input alone, at the cost of a whole batch, to have something to show.
        Yields vertices (n, V, 3) float32 in mesh units, the spread that dropout would cause (n, 1 + regions) float32 in
        millimetres (all animated vertices, then each region in order of name), and the codes (n, K) float32.
        """
        busy: collections.deque[tuple[Slot | GraphSlot, int]] = collections.deque()
        try:
            for chunk in self._chunks(inputs, 1 if hurry else self.batch):
                while chunk:
                    count = min(len(chunk), self.batch)
                    try:
                        slot = self._slots[0]
                        self._submit(slot, chunk[:count])
                    except RuntimeError as error:
                        if not _out_of_memory(error):
                            raise
                        yield from _collect(busy)
                        self._shrink(warn)
                        continue
                    self._slots.append(self._slots.pop(0))
                    busy.append((slot, count))
                    chunk = chunk[count:]
                    yield from _collect(busy, 0 if hurry else len(self._slots) - 1)
                    hurry = False
        except Exception:
            yield from _collect(busy)
            raise
        yield from _collect(busy)

    def _submit(self, slot: Slot | GraphSlot, chunk: list[np.ndarray]) -> None:
        slot.submit(chunk)

    def _chunks(self, inputs: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
        """Lists of inputs, the first of `size`, the others of a batch or what came within PATIENCE."""
        chunk, until = [], 0.0
        try:
            for picture in inputs:
                if not chunk:
                    until = time.monotonic() + PATIENCE
                chunk.append(picture)
                if len(chunk) >= size or time.monotonic() > until:
                    yield chunk
                    chunk, size = [], self.batch
        except Exception:
            if chunk:
                yield chunk
            raise
        if chunk:
            yield chunk

    def _shrink(self, warn: Callable[[str], None]) -> None:
        """Go on with half the batch."""
        if self.batch == 1:
            raise UnderstudyError(_no_memory(self.device, "not even for one frame at a time"))
        self._halve()
        self._slots = _Trial(self, *self._how).slots
        warn(f"The memory of {self.device} did not suffice; it goes on with {self.batch} frames at once.")

    def _halve(self) -> None:
        self.batch //= 2
        self._slots = []
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _collect(busy: collections.deque, keep: int = 0) -> Iterator[Solution]:
    """The solutions of what was submitted first, until `keep` batches remain."""
    while len(busy) > keep:
        slot, count = busy.popleft()
        yield slot.collect(count)


class _Trial:
    """An engine of a solver, made to be timed; calling it solves a batch."""

    def __init__(self, solver: Solver, engine: str, precision: str):
        model, self._batch = solver.model, solver.batch
        run = make_engine(engine, precision, model.network, model.whitening, solver.device, solver.batch)
        self.slots = make_slots(run, solver._head, solver.batch, solver.device)
        self._model, self._inputs = model, _probes(model, solver.batch)

    def __call__(self) -> int:
        for slot in self.slots:
            slot.submit(self._inputs)
        return sum(len(slot.collect(self._batch)[2]) for slot in self.slots)

    def apart(self, want: np.ndarray | None, probes: np.ndarray) -> tuple[float, float, float]:
        """Root mean square and largest distance from float32, and the motion, in millimetres."""
        if want is None:
            return 0.0, 0.0, 0.0
        count = min(len(probes), self._batch)
        self.slots[0].submit(probes[:count])
        vertices, want, scale = self.slots[0].collect(count)[0], want[:count], self._model.millimetres
        apart = np.linalg.norm(vertices[:, self._model.animated] - want, axis=2) * scale
        moved = np.linalg.norm(want - self._model.mean / self._model.centimetres, axis=2) * scale
        return _rms(apart), float(apart.max()), _rms(moved)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).mean()))


def _probes(model: Model, count: int) -> np.ndarray:
    """Inputs to compare engines with, (count, 320, 240) uint8: the mean training input, shifted and lit differently."""
    rng = np.random.default_rng(0)
    mean, deviation = model.whitening
    base = model.reference
    if base is None:
        base = cv2.resize(rng.normal(mean, deviation, (20, 15)).astype(np.float32), (WIDTH, HEIGHT))
    shifted = [np.roll(base, tuple(rng.integers(-6, 7, 2)), (0, 1)) for _ in range(count)]
    return np.clip(np.stack(shifted) * rng.uniform(0.9, 1.1, (count, 1, 1)) + rng.normal(0, 3, (count, HEIGHT, WIDTH)),
                   0, 255).astype(np.uint8)


@torch.inference_mode()
def _float32(model: Model, inputs: np.ndarray) -> np.ndarray:
    """Animated vertices of inputs, (n, A, 3) in mesh units, by the plain network in float32 on the processor."""
    mean, deviation = model.whitening
    whitened = (torch.from_numpy(inputs)[:, None].float() - mean) / deviation
    return (model.network.cpu()(whitened) / model.centimetres).view(len(inputs), -1, 3).numpy()


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error)


def _no_memory(device: torch.device, how: str) -> str:
    return (f"The memory of {device} does not suffice, {how}. Close other programs that use it, or solve with the "
            "device cpu.")


_warm: tuple[tuple, Solver, str] | None = None  # what load_solver was asked for last, and its answer


def load_solver(path: Path | str, device: str = "auto", batch: int | None = None,
                engine: str = "auto") -> tuple[Solver, str]:
    """A solver for a model file, and the file's SHA-256; the last one is kept, so that asking again takes no time."""
    global _warm
    path = Path(path).resolve()
    key: tuple = (path, device, batch, engine)
    if path.is_file():
        key += (path.stat().st_mtime_ns, path.stat().st_size)
    if _warm is None or _warm[0] != key or _warm[1].batch != _warm[1].wanted:
        _warm = None  # gives its memory back first
        sha256 = hash_file(path)
        _warm = key, Solver(load_model(path), device, batch, engine, sha256), sha256
    return _warm[1:]


def warm_up(path: Path | str, device: str = "auto") -> None:
    """Load a solver and use it once, because first uses take longer."""
    load_solver(path, device)[0].solve(np.zeros((1, HEIGHT, WIDTH), np.uint8))


@dataclass
class _Take:
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


def solve(
    model: Path | str,               # model file
    footage: Path | str,             # movie or image sequence
    out: Path | str,                 # .pc2, .mdd or .npz; a sidecar .json and the codes .npy are written beside it
    first: int | None = None,        # first footage frame, 0-based. None = 0
    last: int | None = None,         # last footage frame, included. None = the end
    batch: int | None = None,        # as in Solver
    device: str = "auto",
    engine: str = "auto",
    crop: tuple[float, float, float, float] | None = None,  # x, y, width, height in pixels. None = the model's
    live: bool = False,              # write a PC2 in place that others can read while it grows; it must not exist
    base: Path | str | None = None,  # a solve that the live cache begins as a copy of: a part of its frames is replaced
    report: Reporter = Reporter(),   # told what happens; asked whether to stop
) -> dict:
    """Solve footage to a mesh cache with a sample for every frame of the range; returns the sidecar's content.

    Memory does not grow with length, but for the codes. When the reporter asks to stop, what is solved so far is kept
    as a whole, shorter cache with its sidecar, and Cancelled says so; so does, when live, UnderstudyError about what
    fails on the way. Raises UnderstudyError for files that cannot be used.
    """
    out = Path(out)
    if base is not None and not live:
        raise UsageError("Only a live solve can begin as a copy of another one: add --live.")
    if live:
        refuse_existing(out)
    old = None if base is None else read_solved(base)
    report.status("Loading the model")
    solver, sha256 = load_solver(model, device, batch, engine)
    for note in solver.notes:
        report.warning(note)
    if old is not None:
        _check_base(old, solver.model)
    with open_footage(footage, solver.model.transfer) as source:
        if solver.device.type == "cuda" and (os.cpu_count() or 1) < FEW_CORES:
            if told := source.use_hardware("cuda"):
                report.warning(told)
        take = _plan(source, solver, sha256, old, first, last, crop, report)
        report.check_cancel()
        stop = max(take.last, old.last) if old else take.last
        check_space(out.parent, (stop - take.start + 1) * solver.model.template.vertices.nbytes)
        if live:
            return _solve_live(take, Path(model), out, report)
        with cache_writer(out, len(solver.model.template.vertices), take.count, source.fps) as writer:
            complete = take.run(writer, report, hurry=False)
            if not complete:
                writer.truncate()
    sidecar = _write_beside(take, Path(model), out, take.done, complete)
    report.artifact(out, "cache")
    if not complete:
        raise Cancelled(f"Stopped after {take.done} of {take.count} frames; {_kept(out, sidecar)}")
    return sidecar


def _check_base(old: Solved, model: Model) -> None:
    if old.topology != model.topology or old.vertices().shape[1] != len(model.template.vertices):
        raise UnderstudyError(f"{old.path} was solved with another mesh than {model.actor}'s. Solve the whole range "
                              "anew.")
    old.codes()  # says if they are missing


def _plan(source: Footage, solver: Solver, sha256: str, old: Solved | None, first: int | None, last: int | None,
          crop: tuple[float, float, float, float] | None, report: Reporter) -> _Take:
    """The frames to solve: the range, and what lies between it and the base's. Tells what is worth telling."""
    chosen = solver.model.crop if crop is None else Crop(*crop)
    chosen.check(source.width, source.height)
    first, last = first or 0, source.frames - 1 if last is None else last
    if not 0 <= first <= last < source.frames:
        raise UnderstudyError(f"The range {first} to {last} is not in {source.path}, whose frames are 0 to "
                              f"{source.frames - 1}.")
    for warning in source.warnings:
        report.warning(warning)
    if old is not None:
        if old.sidecar.get("footage_identity") != source.identity:
            report.warning(f"{old.path} was solved from other footage than {source.path}; its frames outside {first} "
                           f"to {last} stay as they are.")
        if old.last >= source.frames:
            raise UnderstudyError(f"{old.path} goes on to frame {old.last}, but {source.path} ends with frame "
                                  f"{source.frames - 1}. Solve the whole range anew.")
        gap = (old.last + 1, first - 1) if first > old.last else (last + 1, old.first - 1)
        if gap[0] <= gap[1]:
            first, last = min(first, gap[0]), max(last, gap[1])
            return _Take(source, solver, sha256, chosen, first, last, old, "Solving, also the frames "
                         f"{gap[0]} to {gap[1]} between the old range and the new one")
    return _Take(source, solver, sha256, chosen, first, last, old)


def _solve_live(take: _Take, model: Path, out: Path, report: Reporter) -> dict:
    """Solve into a live cache, and keep what is done whatever happens."""
    old, failure, complete = take.old, None, False
    replace = old is not None and old.first <= take.first  # else the base's frames come after the new ones
    with LiveCache(out, len(take.solver.model.template.vertices), old.path if replace else None,
                   take.first - take.start) as writer:
        try:
            complete = take.run(writer, report, hurry=True)
            reached = take.first + take.done
            if old is not None and not replace and old.first <= reached <= old.last:
                writer.append(old.path, reached - old.first)
        except (Exception, KeyboardInterrupt) as error:
            failure = error
            if not isinstance(error, UnderstudyError):
                traceback.print_exception(error, file=sys.stderr)  # for the log; the user gets a sentence
        separate = old is not None and not replace and take.first + take.done < old.first
        if not take.done or separate:
            writer.remove()
            nothing = f"Nothing was written{f'; {old.path} is as it was' if old else ''}."
            if separate and take.done:
                nothing = f"What was solved does not reach the frames of {old.path} yet. {nothing}"
            raise _ending(failure, take, nothing) from failure
        try:
            _make_room(failure, take, writer, old.count if replace else 0)
            writer.shorten(writer.count)
            sidecar = _write_beside(take, model, out, writer.count, complete and failure is None)
        except BaseException:
            writer.remove()
            raise
    report.artifact(out, "cache")
    if failure is not None or not complete:
        following = min(take.first + take.done, sidecar["last"] + 1)
        rest = f" Then solve from frame {following} on." if failure and following <= take.last else ""
        raise _ending(failure, take, _kept(out, sidecar) + rest) from failure
    return sidecar


def _ending(failure: BaseException | None, take: _Take, then: str) -> UnderstudyError:
    """What ended a solve before its time, and what is left of it."""
    if failure is None or isinstance(failure, (Cancelled, KeyboardInterrupt)):
        return Cancelled(f"Stopped after {take.done} of {take.count} frames. {then}")
    return UnderstudyError(f"{sentence(failure)} {then}")


def _kept(out: Path, sidecar: dict) -> str:
    return f"{out} holds the frames {sidecar['first']} to {sidecar['last']}."


def _make_room(failure: BaseException | None, take: _Take, writer: LiveCache, least: int) -> None:
    """On a full disk, give up as many samples, down to `least`, as the sidecar and the codes need."""
    cause = getattr(failure, "__cause__", None)
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        beside = writer.count * (take.codes[0][0].nbytes + 16 * take.spreads[0].shape[1]) + (64 << 10)
        writer.shorten(max(1, least, writer.count - -(-beside // writer.size)))


def _write_beside(take: _Take, model: Path, out: Path, samples: int, complete: bool) -> dict:
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


def _confidence(take: _Take, new: dict[str, list[float]], samples: int) -> dict[str, list[float | None]]:
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


def _codes(take: _Take, samples: int) -> np.ndarray:
    """The codes of all samples, (samples, K) float32; rows from a model of fewer components end in zeros."""
    new, old = np.concatenate(take.codes), take.old.codes() if take.old else np.empty((0, 0), np.float32)
    codes = np.zeros((take.length, max(new.shape[1], old.shape[1])), np.float32)
    if take.old:
        codes[take.old.first - take.start:][:len(old), :old.shape[1]] = old
    rows = codes[take.first - take.start:][:len(new)]
    rows[:] = 0
    rows[:, :new.shape[1]] = new
    return codes[:samples]
