"""Batches for the network, made ahead of it. All that is random hangs on a frame's place in the run and the seed."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..core import process
from . import augment
from .config import Config
from .dataset import Frames
from .replay import Order
from .team import Team

AHEAD = 4          # batches made in advance, beside the network
THREADS = 2
GPU_SHARE = 0.6    # of a GPU's free memory that the data may take


@dataclass
class Batch:
    """This process's frames of a step.

    count : frames of the step, over the whole team.
    pictures : (n, 320, 240) uint8 inputs, already moved; or (n, H, W) uint8, still to be sampled; or (n,) int64, which
    of the data on the device; or (n, K) float32 coefficients, which nothing moves or lights.
    maps : (n, 3, 3) float32 from input to picture, where it is still to be sampled.
    light : (n, 4) float32, from augment.light.
    follows : (n,) float32, 1 for a frame that comes right after the one before it; None without a velocity term.
    grain : (n, 1, 320, 240) float32 noise of deviation 1, made on the device; None without noise.
    targets : (n, 3 A) float32 cm; None where they are on the device.
    """

    count: int
    pictures: torch.Tensor
    maps: torch.Tensor | None
    light: torch.Tensor
    targets: torch.Tensor | None
    follows: torch.Tensor | None = None
    grain: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, rows: slice) -> "Batch":
        return replace(self, **{name: value[rows] for name, value in self.tensors().items()})

    def tensors(self) -> dict[str, torch.Tensor]:
        return {name: value for name, value in vars(self).items() if isinstance(value, torch.Tensor)}

    def to(self, device: torch.device) -> "Batch":
        return replace(self, **{name: value.to(device, non_blocking=True) for name, value in self.tensors().items()})

    def pinned(self) -> "Batch":
        """In memory that a GPU reads by itself."""
        return replace(self, **{name: value.pin_memory() for name, value in self.tensors().items()})


@dataclass
class Data:
    """The whole training data on a device. pictures : (N, H, W) uint8.    targets : (N, 3 A) float32 cm."""

    pictures: torch.Tensor
    targets: torch.Tensor

    @classmethod
    def upload(cls, frames: Frames, centimetres: float, device: torch.device) -> "Data":
        size = len(frames), 3 * len(frames.animated)
        data = cls(torch.empty((size[0], *frames.shape), dtype=torch.uint8, device=device),
                   torch.empty(size, device=device))
        for block in np.array_split(np.arange(len(frames)), -(-len(frames) // 256)):
            rows = slice(block[0], block[-1] + 1)
            data.pictures[rows] = torch.from_numpy(np.stack([frames.picture(i) for i in block]))
            data.targets[rows] = torch.from_numpy(frames.targets(block)).flatten(1) * centimetres
        return data

    @staticmethod
    def fits(frames: Frames, device: torch.device) -> bool:
        """Whether the data belongs on the device: a GPU with room for it beside the network."""
        size = len(frames) * (np.prod(frames.shape) + 4 * 3 * len(frames.animated))
        if device.type != "cuda":
            return False
        free = torch.cuda.mem_get_info(device)[0]
        return size < GPU_SHARE * (min(free, process.gpu_memory * 1e9) if process.gpu_memory else free)


def batches(config: Config, frames: Frames, order: Order, centimetres: float, device: torch.device, resident: bool,
            team: Team, images: int, total: int | None, strength: Callable[[int], float]) -> Iterator[Batch]:
    """Batches from the run's place `images` on, up to `total` frames (None: for ever).

    resident : the pictures are on the device; only which of them, and how they move, is made here.
    strength : of the augmentation, 0..1, at a place in the run.
    """
    def make(images: int, strength: float) -> Batch:
        indices, follows = order.frames(images), None
        if config.velocity:
            indices, follows = in_pairs(indices, frames)
        rng = np.random.default_rng((config.seed, 2, images))
        maps = augment.matrices(config, strength, len(indices), rng)
        light = augment.light(config, strength, len(indices), rng)
        if follows is not None:  # what follows looks as what it follows does
            maps[follows], light[follows] = maps[np.flatnonzero(follows) - 1], light[np.flatnonzero(follows) - 1]
        rows = team.rows(len(indices))
        count, indices, maps, light = len(indices), indices[rows], maps[rows], torch.from_numpy(light[rows])
        moves = torch.from_numpy(frames.matrix @ maps).float()
        if resident:
            batch = Batch(count, torch.from_numpy(indices), moves, light, None)
        else:
            targets = torch.from_numpy(frames.targets(indices)).flatten(1) * centimetres
            if frames.coefficients is not None:
                batch = Batch(count, frames.coefficients[indices], None, light, targets)
            elif device.type == "cpu" or frames.still is not None:
                batch = Batch(count, torch.from_numpy(frames.inputs(indices, maps)), None, light, targets)
            else:  # a GPU samples faster itself
                pictures = np.empty((len(indices), *frames.shape), np.uint8)
                for row, index in enumerate(indices):
                    pictures[row] = frames.picture(index)
                batch = Batch(count, torch.from_numpy(pictures), moves, light, targets)
        if follows is not None:
            batch = replace(batch, follows=torch.from_numpy(follows[rows]).float())
        return batch.pinned() if device.type == "cuda" else batch

    with ThreadPoolExecutor(THREADS, "batches") as pool:
        waiting = []
        while True:
            while len(waiting) < AHEAD and (total is None or images < total):
                waiting.append(pool.submit(make, images, strength(images)))
                images += order.size(images)
            if not waiting:
                return
            yield waiting.pop(0).result()


def in_pairs(indices: np.ndarray, frames: Frames) -> tuple[np.ndarray, np.ndarray]:
    """Every other frame of a step replaced by the one that comes right after the frame before it in the same shot.

    Returns the (n,) indices and (n,) bool, which of them now follow; where nothing comes after a frame, none does.
    """
    indices, follows = indices.copy(), np.zeros(len(indices), bool)
    first = np.arange(0, len(indices) - 1, 2)
    after = np.minimum(indices[first] + 1, len(frames) - 1)
    there = ((frames.shot[after] == frames.shot[indices[first]])
             & (frames.sample[after] == frames.sample[indices[first]] + 1))
    indices[first[there] + 1] = after[there]
    follows[first[there] + 1] = True
    return indices, follows
