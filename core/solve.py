"""Footage in, a mesh cache out: each frame on its own, nothing smoothed (paper, Sec. 3 and 5)."""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from .crop import HEIGHT, WIDTH, network_input
from .engine import make_engine, pick_device
from .errors import Cancelled, UnderstudyError
from .files import hash_file, write_json
from .footage import open_footage
from .jobs import Reporter
from .meshcache import cache_writer
from .model import Model, confidence_weights, load_model

SIDECAR = 1             # version of the JSON beside a solve
BATCH = {"cpu": 16}     # the fastest on CPUs
GPU_BATCH = 200         # the paper's, Table 1


class Solver:
    """A model ready to solve on a device.

    batch : frames that go through the network together. None = the fastest; 1 = online, a frame at a time.
    Short batches are filled up: a frame's result is the same bit for bit wherever in a range it lies.
    """

    def __init__(self, model: Model, device: str = "auto", batch: int | None = None, engine: str = "auto"):
        if batch is not None and not 1 <= batch <= 4096:
            raise UnderstudyError(f"A batch of {batch} frames makes no sense; choose 1 to 4096.")
        self.model = model
        self.device = pick_device(device)
        self.batch = batch or BATCH.get(self.device.type, GPU_BATCH)
        network = model.network.to(self.device)
        self.engine, self._features = make_engine(engine, network, model.whitening, self.device, self.batch)
        self._fc, self._output = network.fc, network.output
        self._spread = torch.from_numpy(confidence_weights(network, model.animated, model.regions)).to(self.device)

    def solve(self, inputs: np.ndarray) -> np.ndarray:
        """Vertices of network inputs: (n, 320, 240) uint8 -> (n, V, 3) float32 in mesh units.

        Vertices that are not animated stand where the template has them.
        """
        return np.concatenate([vertices for vertices, _ in self.stream(iter(inputs))]) if len(inputs) else \
            np.empty((0, len(self.model.template.vertices), 3), np.float32)

    def stream(self, inputs: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Solve inputs as they come, a batch at a time.

        inputs : (320, 240) uint8 each.    Yields vertices (n, V, 3) float32 in mesh units, and the spread that dropout
        would cause (n, 1 + regions) float32 in millimetres: all animated vertices, then each region in order of name.
        """
        batch = np.zeros((self.batch, HEIGHT, WIDTH), np.uint8)
        inputs = iter(inputs)
        while chunk := list(itertools.islice(inputs, self.batch)):
            batch[:len(chunk)] = chunk
            vertices, spread = self._solve_batch(batch)
            yield vertices[:len(chunk)], spread[:len(chunk)]

    @torch.inference_mode()
    def _solve_batch(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features = self._features(batch)
        animated = (self._output(self._fc(features)) / self.model.centimetres).view(self.batch, -1, 3).cpu().numpy()
        vertices = np.empty((self.batch, *self.model.template.vertices.shape), np.float32)
        vertices[:] = self.model.template.vertices
        vertices[:, self.model.animated] = animated
        spread = (features.square() @ self._spread).clamp_(min=0).sqrt_() * 10  # cm to mm
        return vertices, spread.cpu().numpy()


def solve(
    model: Path | str,               # model file
    footage: Path | str,             # movie or image sequence
    out: Path | str,                 # .pc2, .mdd or .npz; a sidecar .json is written beside it
    first: int | None = None,        # first footage frame, 0-based. None = 0
    last: int | None = None,         # last footage frame, included. None = the end
    batch: int | None = None,        # as in Solver
    device: str = "auto",
    engine: str = "auto",
    report: Reporter = Reporter(),   # told what happens; asked whether to stop
) -> dict:
    """Solve footage to a mesh cache with a sample for every frame of the range; returns the sidecar's content.

    Memory does not grow with length. When the reporter asks to stop, what is solved so far is kept as a whole, shorter
    cache with its sidecar, and Cancelled says so. Raises UnderstudyError for files that cannot be used.
    """
    out = Path(out)
    report.status("Loading the model")
    loaded = load_model(model)
    with open_footage(footage, loaded.transfer) as source:
        loaded.crop.check(source.width, source.height)
        first, last = first or 0, source.frames - 1 if last is None else last
        if not 0 <= first <= last < source.frames:
            raise UnderstudyError(f"The range {first} to {last} is not in {source.path}, whose frames are 0 to "
                                  f"{source.frames - 1}.")
        for warning in source.warnings:
            report.warning(warning)
        solver = Solver(loaded, device, batch, engine)
        count, done, spreads = last - first + 1, 0, []
        report.status("Solving")
        with cache_writer(out, len(loaded.template.vertices), count, source.fps) as writer:
            inputs = source.iterate(first, last + 1, transform=lambda picture: network_input(picture, loaded.crop))
            for vertices, spread in solver.stream(inputs):
                writer.write(vertices)
                spreads.append(spread)
                done += len(vertices)
                report.progress(done, count)
                if done < count and report.cancelled():
                    inputs.close()
                    writer.truncate()
                    break
        sidecar = {
            "version": SIDECAR, "actor": loaded.actor, "topology": loaded.topology, "model": Path(model).name,
            "model_sha256": hash_file(model), "footage": Path(footage).name, "footage_identity": source.identity,
            "fps": source.fps, "variable_rate": source.variable, "first": first, "last": first + done - 1,
            "crop": [loaded.crop.x, loaded.crop.y, loaded.crop.width, loaded.crop.height], "transfer": loaded.transfer,
            "unit": loaded.unit, "engine": solver.engine, "device": str(solver.device), "batch": solver.batch,
            "confidence_mm": _columns(np.concatenate(spreads), loaded.regions),
        }
    write_json(out.with_suffix(".json"), sidecar)
    report.artifact(out, "cache")
    if done < count:
        raise Cancelled(f"Stopped after {done} of {count} frames; {out} holds frames {first} to {first + done - 1}.")
    return sidecar


def _columns(spread: np.ndarray, regions: dict) -> dict[str, list[float]]:
    """Spread in millimetres by region, a number a frame; "all" is every animated vertex."""
    return {name: [round(float(value), 4) for value in column]
            for name, column in zip(["all", *sorted(regions)], spread.T, strict=True)}
