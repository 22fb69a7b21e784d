"""Which frames a step learns from: each once an epoch, or, when a trained model goes on learning, mixed so that it
neither waits long for what is new nor forgets what it knows.

A model that goes on with a few new frames among thousands would meet each of them as rarely as any other; on the new
frames alone it would forget the rest. So a share of every batch is new, and the rest is replayed from what the model
knows. A model file holds the fingerprints of the frames that it learned from, which tell what is new: also frames of a
shot that was partly cleaned before, or that was cleaned anew.
"""

import hashlib

import numpy as np

from ..core.model import Model
from .config import Config
from .dataset import Frames

BLOCK = 64  # frames held at a time


def fingerprints(frames: Frames) -> np.ndarray:
    """(N,) int64: what tells each frame, its picture and its cleaned positions, from all others."""
    found = np.empty(len(frames), np.int64)
    for first in range(0, len(frames), BLOCK):
        block = np.arange(first, min(first + BLOCK, len(frames)))
        for index, positions in zip(block, frames.targets(block), strict=True):
            shot = frames.shots[frames.shot[index]]
            which = f"{frames.footage[shot.name]} {shot.first_frame + frames.sample[index]}"
            digest = hashlib.blake2b(which.encode(), digest_size=8)
            digest.update(positions)
            found[index] = int.from_bytes(digest.digest(), "little", signed=True)
    return found


def known_to(model: Model, frames: Frames, prints: np.ndarray, hashes: dict[str, str]) -> np.ndarray:
    """(N,) bool: which frames a model has learned from.    hashes : of the shots' files, by name."""
    if model.learned is not None:
        return np.isin(prints, model.learned)
    data = model.about.get("data")  # of older model files: shot by shot
    data = data if isinstance(data, dict) else {}
    return np.array([data.get(shot.name) == hashes[shot.name] for shot in frames.shots])[frames.shot]


class Order:
    """The frames of each step. All that is random hangs on the seed and the place in the run.

    count : training frames.    new : (n,) of them that the model does not know; all, or none, are learned alike.
    """

    def __init__(self, config: Config, count: int, new: np.ndarray):
        self.seed, self.count, self.batch = config.seed, count, min(config.batch, count)
        fresh = min(round(config.new_share * self.batch), len(new))  # a frame at most once a batch
        self.parts: list[tuple[np.ndarray, int]] = []  # frames, and how many of them a batch has; empty = no replay
        if fresh * count > self.batch * len(new):  # else chance alone shows as many
            self.parts = [(new, fresh), (np.setdiff1d(np.arange(count), new), self.batch - fresh)]

    def size(self, images: int) -> int:
        """Frames of the step at a place in the run."""
        return self.batch if self.parts else min(self.batch, self.count - images % self.count)

    def frames(self, images: int) -> np.ndarray:
        """(size,) int64, the frames of the step at a place in the run."""
        if not self.parts:
            epoch, place = divmod(images, self.count)
            return np.random.default_rng((self.seed, 1, epoch)).permutation(self.count)[place:place + self.batch]
        step = images // self.batch
        return np.concatenate([self._deal(3 + i, frames, step * share, share)
                               for i, (frames, share) in enumerate(self.parts)])

    def _deal(self, what: int, frames: np.ndarray, place: int, count: int) -> np.ndarray:
        """`count` frames from a place on in an endless row that holds all of them again and again, newly shuffled."""
        rounds = range(place // len(frames), (place + count - 1) // len(frames) + 1)
        row = np.concatenate([np.random.default_rng((self.seed, what, i)).permutation(frames) for i in rounds])
        return row[place % len(frames):][:count]
