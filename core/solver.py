"""A model ready to solve: network inputs in, vertices out, by the engine that suits the machine.

Each frame on its own, nothing smoothed (paper, Sec. 3 and 5).
"""

import collections
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

from .batches import GraphSlot, Head, Slot, Solution, make_slots
from .choice import Choice, choose, machine_key
from .crop import HEIGHT, WIDTH
from .doctor import first_line
from .engine import candidates, make_engine, pick_device, version
from .errors import UnderstudyError
from .files import hash_file
from .model import Model, load_model
from .openvino_graph import OpenvinoSlot
from .steady import Steady

BATCH = {"cpu": 16}     # the fastest on CPUs
GPU_BATCH = 200         # the paper's, Table 1
PATIENCE = 2.0          # s that a batch waits for slow footage until it is solved as it is
PROBES = 4              # inputs that an engine is compared with float32 by


class _FullError(UnderstudyError):
    """A GPU has no room for the model."""


class Solver:
    """A model ready to solve on a device.

    batch : frames that go through the network together. None = the fastest; 1 = online, a frame at a time. It is halved
    where a GPU's memory does not suffice.
    engine : of core/engine.py; "auto" takes what core/choice.py measures to be the fastest. What cannot be used, or
    leaves the tolerance, is replaced by PyTorch, a GPU that "auto" cannot use by the CPU; `notes` has a sentence for
    each.
    identity : of the model, under which measurements are remembered; empty = any model will do.
    Short batches are filled up: a frame's result is the same bit for bit wherever in a range it lies.
    """

    def __init__(self, model: Model, device: str = "auto", batch: int | None = None, engine: str = "auto",
                 identity: str = ""):
        if batch is not None and not 1 <= batch <= 4096:
            raise UnderstudyError(f"A batch of {batch} frames makes no sense; choose 1 to 4096.")
        self.model = model
        self._steady = None
        if model.network.stabilised:
            self._steady = Steady(model.network.place.cpu().numpy(), model.network.usual.cpu().numpy())
        model.network.eval().requires_grad_(False)
        self._slots: list[Slot | GraphSlot | OpenvinoSlot] = []
        self._single: Slot | None = None  # what `preview` solves with, once it was needed
        told: list[str] = []
        self.device = pick_device(device, told.append)
        try:
            choice = self._build(batch, engine, identity)
        except _FullError as error:
            if device != "auto":
                raise
            told.append(f"The GPU is not used, the CPU is: {first_line(error.__cause__)}.")
            self.device = torch.device("cpu")
            choice = self._build(batch, engine, identity)
        self._how = choice.engine, choice.precision
        self.engine, self.notes, self.rates = version(*self._how), told + choice.notes, choice.rates

    def _build(self, batch: int | None, engine: str, identity: str) -> Choice:
        """Make what solves on the device, with smaller batches if need be. Raises _FullError without room for one."""
        model = self.model
        self.batch = self.wanted = batch or BATCH.get(self.device.type, GPU_BATCH)
        listed = candidates(engine, self.device, bool(model.network.convolutions))
        probes = _probes(model, min(self.batch, PROBES))
        want = _float32(model, probes) if len(listed) > 1 else None
        while True:
            try:
                model.network.to(self.device)
                self._head = Head(model, self.device)
                key = [*machine_key(self.device), engine, str(self.batch), model.network.architecture, identity]
                choice, built = choose(key, listed, lambda *how: _Trial(self, *how),
                                       lambda trial: trial.apart(want, probes))
                self._slots = built.slots
                return choice
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
                if self.batch == 1:
                    raise _FullError(_no_memory(self.device, "not even for the model")) from error
                self._halve()

    def solve(self, inputs: np.ndarray) -> np.ndarray:
        """Vertices of network inputs: (n, 320, 240) uint8 -> (n, V, 3) float32 in mesh units.

        Vertices that are not animated stand where the template has them.
        """
        return np.concatenate([vertices for vertices, _, _ in self.stream(inputs)]) if len(inputs) else \
            np.empty((0, len(self.model.template.vertices), 3), np.float32)

    def preview(self, picture: np.ndarray) -> np.ndarray | None:
        """Vertices of one input, (1, V, 3) float32, at once: what `stream` gives, but for rounding.

        On CPUs PyTorch solves it alone, which takes no time to get ready, and less than a whole batch. None where the
        memory does not suffice; `stream` tries smaller batches.
        """
        try:
            return self._preview([picture])
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
        return None

    def _preview(self, chunk: list[np.ndarray]) -> np.ndarray:
        single = self._slots[0]
        if self.device.type == "cpu" and self.batch > 1:
            if self._single is None:
                run = make_engine("torch", self._how[1], self.model.network, self.model.whitening, self.device, 1)
                self._single = Slot(run, self._head, 1, self.device)
            single = self._single
        single.submit(self._steady(chunk) if self._steady else chunk)
        return single.collect(1)[0]

    def stream(self, inputs: Iterable[np.ndarray],
               warn: Callable[[str], None] = lambda text: None) -> Iterator[Solution]:
        """Solve inputs as they come, a batch at a time.

        inputs : (320, 240) uint8 each; what fails in them is raised after what came before it was yielded.
        Yields vertices (n, V, 3) float32 in mesh units, the spread that dropout would cause (n, 1 + regions) float32 in
        millimetres (all animated vertices, then each region in order of name), and the codes (n, K) float32.
        """
        before = self._steady.lost if self._steady else 0
        busy: collections.deque[tuple[Slot | GraphSlot, int]] = collections.deque()
        try:
            for chunk in self._chunks(inputs):
                if self._steady:
                    chunk = self._steady(chunk)
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
                    yield from _collect(busy, len(self._slots) - 1)
        except Exception:
            yield from _collect(busy)
            raise
        yield from _collect(busy)
        if self._steady and (lost := self._steady.lost - before):
            warn(f"No face was found in {lost} of the frames. There the head was taken to be where it mostly is in "
                 "training.")

    def _submit(self, slot: Slot | GraphSlot, chunk: list[np.ndarray]) -> None:
        slot.submit(chunk)

    def _chunks(self, inputs: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
        """Lists of inputs, a batch or what came within PATIENCE."""
        chunk, until = [], 0.0
        try:
            for picture in inputs:
                if not chunk:
                    until = time.monotonic() + PATIENCE
                chunk.append(picture)
                if len(chunk) >= self.batch or time.monotonic() > until:
                    yield chunk
                    chunk = []
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
        if engine == "openvino":
            self.slots = [OpenvinoSlot(model, precision, solver.batch)]
        else:
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
    solver, _ = load_solver(path, device)
    picture = np.zeros((HEIGHT, WIDTH), np.uint8)
    solver.preview(picture)
    solver.solve(picture[None])
