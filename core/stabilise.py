"""Head stabilisation: the skull's own motion is taken out of tracked vertices, and can be put back (paper, Sec. 1.2).

In every frame a rigid motion is fitted to the stabiliser vertices, those that move with the skull alone, as they lie in
the template (Kabsch 1976). What the network learns and gives is stabilised; position = rotation @ stabilised +
translation gives back what was tracked. Numbers are in mesh units unless a name says otherwise.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .arrays import read_npz, read_npz_array
from .errors import UnderstudyError
from .fields import is_whole
from .files import atomic
from .meshcache import blocks

THIN = 1e-3  # stabiliser vertices that spread less than this part of their length sideways lie on a line


@dataclass(frozen=True, eq=False)
class Motion:
    """The head's motion over n frames; `first` is the footage frame of the first.

    rotations : (n, 3, 3) float64.    translations : (n, 3) float64.    residuals : (n,) float64, the root of the mean
    squared distance that is left between the stabiliser vertices and the template's.
    """

    rotations: np.ndarray
    translations: np.ndarray
    residuals: np.ndarray
    first: int = 0

    def __len__(self) -> int:
        return len(self.rotations)

    def take_out(self, positions: np.ndarray) -> np.ndarray:
        """Stabilised positions, (n, V, 3) float32, of the tracked ones of these frames."""
        return ((positions - self.translations[:, None]) @ self.rotations).astype(np.float32)

    def put_back(self, positions: np.ndarray) -> np.ndarray:
        """Positions with the head's motion, (n, V, 3) float32, of stabilised ones."""
        return (positions @ self.rotations.transpose(0, 2, 1) + self.translations[:, None]).astype(np.float32)

    def extent(self, point: np.ndarray) -> tuple[float, float]:
        """How far the head goes from the template's place at most: the way of `point` (3,), and degrees."""
        ways = self.rotations @ point + self.translations - point
        cosine = np.clip((np.trace(self.rotations, axis1=1, axis2=2) - 1) / 2, -1, 1)
        return float(np.linalg.norm(ways, axis=1).max()), float(np.degrees(np.arccos(cosine)).max())

    def save(self, path: Path | str) -> None:
        """Write an npz with these arrays."""
        with atomic(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, rotations=self.rotations, translations=self.translations, residuals=self.residuals,
                     first=np.array([self.first]))

    @classmethod
    def load(cls, path: Path | str) -> "Motion":
        """Read what `save` wrote. Raises UnderstudyError if it is missing or makes no sense."""
        path = Path(path)
        if not path.is_file():
            raise UnderstudyError(f"There is no head motion at {path}. Bring the track in again, or mark the shot "
                                  "again.")
        names = ("rotations", "translations", "residuals", "first")
        found = {name: np.array(read_npz_array(path, name)) for name in read_npz(path) if name in names}
        count = len(found["residuals"]) if "residuals" in found and found["residuals"].ndim == 1 else 0
        shapes = {"rotations": (count, 3, 3), "translations": (count, 3), "residuals": (count,), "first": (1,)}
        sound = count and all(name in found and found[name].shape == shape and found[name].dtype.kind in "fi"
                              and np.isfinite(found[name]).all() for name, shape in shapes.items())
        if not sound or not is_whole(found["first"][0]):
            raise UnderstudyError(f"{path} is no head motion, or is damaged. Bring the track in again, or mark the "
                                  "shot again.")
        return cls(found["rotations"], found["translations"], found["residuals"], int(found["first"][0]))


def check_stabiliser(template: np.ndarray, stabiliser: np.ndarray) -> None:
    """Raise UnderstudyError unless the stabiliser's vertices (S,) of `template` (V, 3) fix a rotation."""
    points = template[stabiliser].astype(np.float64)
    spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False) if len(points) > 2 else np.zeros(3)
    if spread[1] <= THIN * spread[0]:
        raise UnderstudyError(f"The stabiliser has {len(points)} vertices, which do not say how the head is turned: "
                              "choose at least three that move with the skull alone and do not lie on a line.")


def fit(points: np.ndarray, reference: np.ndarray, weights: np.ndarray | None = None) -> Motion:
    """The rigid motions that take `reference` (S, 3) closest to `points` (n, S, 3), weighted by `weights` (S,) >= 0."""
    weights = np.ones(len(reference)) if weights is None else np.asarray(weights, np.float64)
    weights = weights / weights.sum()
    points, reference = np.asarray(points, np.float64), np.asarray(reference, np.float64)
    middles, middle = weights @ points, weights @ reference
    covariance = (points - middles[:, None]).transpose(0, 2, 1) @ (weights[:, None] * (reference - middle))
    u, _, v = np.linalg.svd(covariance)
    u[:, :, 2] *= np.sign(np.linalg.det(u @ v))[:, None]  # a rotation, never a reflection
    rotations = u @ v
    translations = middles - rotations @ middle
    left = points - (reference @ rotations.transpose(0, 2, 1) + translations[:, None])
    return Motion(rotations, translations, np.sqrt(np.square(left).sum(axis=2) @ weights))


def stabilise(cache: np.ndarray, template: np.ndarray, stabiliser: np.ndarray, weights: np.ndarray | None = None,
              ) -> Iterator[tuple[np.ndarray, Motion]]:
    """Runs through (N, V, 3) positions: pieces of the stabilised ones, (n, V, 3) float32, and of the head's motion.

    template : (V, 3).    stabiliser : (S,) vertices.    weights : (S,) or None for all alike. Raises UnderstudyError
    if the stabiliser cannot fix a rotation.
    """
    check_stabiliser(template, stabiliser)
    for _, block in blocks(cache):
        motion = fit(block[:, stabiliser], template[stabiliser], weights)
        yield motion.take_out(block), motion


def join(parts: list[Motion], first: int = 0) -> Motion:
    """The pieces as one motion that begins with footage frame `first`."""
    return Motion(*(np.concatenate([getattr(part, name) for part in parts])
                    for name in ("rotations", "translations", "residuals")), first)


def quaternions(rotations: np.ndarray) -> np.ndarray:
    """(n, 4) w, x, y, z of rotations (n, 3, 3), each on the side of the one before, so that keys between them turn
    the short way."""
    m = rotations
    trace = np.trace(m, axis1=1, axis2=2)[:, None]
    diagonal = np.diagonal(m, axis1=1, axis2=2)
    size = np.sqrt(np.maximum(0, 1 + np.hstack([trace, 2 * diagonal - trace]))) / 2
    # Each row of products is a multiple of the quaternion; the one with the largest part is exact to rounding.
    x, y, z = m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]
    a, b, c = m[:, 0, 1] + m[:, 1, 0], m[:, 0, 2] + m[:, 2, 0], m[:, 1, 2] + m[:, 2, 1]
    squares = 4 * size ** 2
    rows = np.stack([np.stack([squares[:, 0], x, y, z], 1), np.stack([x, squares[:, 1], a, b], 1),
                     np.stack([y, a, squares[:, 2], c], 1), np.stack([z, b, c, squares[:, 3]], 1)], axis=1)
    best = rows[np.arange(len(m)), size.argmax(axis=1)]
    best = best / np.linalg.norm(best, axis=1, keepdims=True)
    flips = np.where((best[1:] * best[:-1]).sum(axis=1) < 0, -1.0, 1.0)
    return best * np.concatenate([[1.0], np.cumprod(flips)])[:, None]


def describe(motion: Motion, point: np.ndarray, millimetres: float) -> str:
    """The motion in a sentence. point : (3,), whose way is told.    millimetres : of a mesh unit."""
    way, angle = motion.extent(point)
    worst = int(motion.residuals.argmax())
    mean, most = motion.residuals.mean() * millimetres, motion.residuals[worst] * millimetres
    way *= millimetres
    moves = f"The head moves by up to {way:.1f} mm and {angle:.1f} degrees" if max(way, angle) >= 0.05 else \
        "The head is still"
    return (f"{moves}; the stabiliser's residual is {mean:.2f} mm, at most {most:.2f} mm in frame "
            f"{motion.first + worst}.")
