"""Inputs in which the head keeps its place, for the network that needs them (paper, Sec. 5.1).

The landmarks are those of the input itself, and the input is what is turned and moved: whoever makes inputs need not
know. Differs from the paper, which seems to have moved the whole picture: a picture is sampled twice, and at the
borders its last pixels go on. Each frame on its own: a part of a take is the same solved alone.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .crop import HEIGHT, WIDTH, sample
from .landmarks import LOOKS, PACKAGE, find, stabilise

VERSION = [PACKAGE, LOOKS, 1]  # what a head that was found depends on; the number is to be raised when the rest changes


def head(picture: np.ndarray) -> np.ndarray | None:
    """Where the head is in an input, (320, 240) uint8: the map from an upright head in the corner, (3, 3) float64.

    None where no face is seen. Raises UnderstudyError where landmarks cannot be found on this machine.
    """
    points = find(picture)
    return None if points is None else stabilise(points, (0.0, 0.0))


def still(heads: np.ndarray, place: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Maps from stabilised inputs to inputs, (n, 3, 3).

    heads : (n, 3, 3) as from `head`, NaN where no face was seen.    place : (2,), where the head shall be.    usual :
    (3, 3), the map where no face was seen: that of the mean head in training.
    """
    to_corner = np.eye(3)
    to_corner[:2, 2] = -place
    return np.where(np.isnan(heads), usual, heads @ to_corner)


def choose_place(heads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`place` and `usual` for training inputs: the head shall be where it is on average."""
    seen = heads[~np.isnan(heads[:, 0, 0])]
    if not len(seen):
        seen = np.eye(3)[None]
    place = seen[:, :2, 2].mean(axis=0)
    return place, still(seen, place, np.eye(3)).mean(axis=0)


class Steady:
    """Stabilises inputs for a network with this `place` and `usual`.    lost : inputs so far without a face."""

    def __init__(self, place: np.ndarray, usual: np.ndarray):
        self._place, self._usual, self.lost = place, usual, 0
        self._pool = ThreadPoolExecutor(os.cpu_count(), "landmarks")
        head(np.zeros((HEIGHT, WIDTH), np.uint8))  # says at once if landmarks cannot be found on this machine

    def __call__(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The inputs (320, 240) uint8, stabilised."""
        heads = list(self._pool.map(head, pictures))
        self.lost += sum(found is None for found in heads)
        heads = np.stack([np.full((3, 3), np.nan) if found is None else found for found in heads])
        maps = still(heads, self._place, self._usual)
        return list(self._pool.map(sample, pictures, maps))
