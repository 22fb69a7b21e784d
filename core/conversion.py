"""Units and axes of a track against an actor's template: guessed from size and orientation, told in numbers.

Track and template have the same vertices in the same order, so that nothing but the expression, the head's pose and
the conversion looked for lies between them.
"""

from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from .actor import UNITS, size_of
from .errors import UnderstudyError
from .stabilise import Motion, fit

NEAR = 1.25    # sizes of the same face in the same unit differ by less
UPRIGHT = 40.0  # degrees that a head may be turned in the first frame, for the axes to be sure


def _matrix(axes: str) -> np.ndarray:
    """(3, 3) of a name such as '+X+Z-Y': the axes of the track that become the template's X, Y and Z."""
    return np.array([[(sign == "+") - (sign == "-") if letter == axis else 0 for letter in "XYZ"]
                     for sign, axis in zip(axes[0::2], axes[1::2], strict=True)], np.float64)


_ALL = ["".join(sign + axis for sign, axis in zip(signs, order, strict=True))
        for order in permutations("XYZ") for signs in product("+-", repeat=3)]
MATRICES = {axes: _matrix(axes) for axes in sorted(_ALL, key=lambda axes: np.linalg.det(_matrix(axes)) < 0)}
SAME = "+X+Y+Z"


@dataclass(frozen=True)
class Conversion:
    """scale : template units a track unit.    axes : a key of MATRICES; those with a negative determinant mirror."""

    scale: float = 1.0
    axes: str = SAME

    def apply(self, positions: np.ndarray) -> np.ndarray:
        """Positions (..., 3) of the track in template space, float32."""
        return (positions @ (self.scale * MATRICES[self.axes].T)).astype(np.float32)


@dataclass(frozen=True)
class Guess:
    """A conversion, whether size and axes leave no doubt, and why, in lines of text."""

    conversion: Conversion
    sure: bool
    lines: tuple[str, ...]


def guess(frame: np.ndarray, template: np.ndarray, unit: float) -> Guess:
    """The conversion that brings a frame of a track (V, 3) to the template (V, 3).

    unit : metres per unit of the template. Raises UnderstudyError if the frame has no size.
    """
    frame, template = np.asarray(frame, np.float64), np.asarray(template, np.float64)
    size, wanted = size_of(frame), size_of(template)
    if not size > 0 or not np.isfinite(size):
        raise UnderstudyError("All vertices of the first frame lie in one place, or are no finite numbers.")
    ratio = wanted / size
    name, scale = min(((name, metres / unit) for name, metres in UNITS.items()),
                      key=lambda item: abs(np.log(ratio / item[1])))
    known = max(ratio / scale, scale / ratio) < NEAR
    if not known:
        name, scale = "a unit of its own", float(f"{ratio:.4g}")
    rotation = _orientation(frame * ratio, template)
    axes = max(MATRICES, key=lambda axes: np.sum(MATRICES[axes] * rotation))
    turned = np.degrees(np.arccos(np.clip((np.sum(MATRICES[axes] * rotation) - 1) / 2, -1, 1)))
    conversion = Conversion(scale, axes)
    return Guess(conversion, known and turned < UPRIGHT, (
        f"Size {size:.4g}, the template's {wanted:.4g}: it is in {name}, one unit is {scale:.6g} of the template",
        *check(conversion, frame, template, unit)))


def check(conversion: Conversion, frame: np.ndarray, template: np.ndarray, unit: float) -> list[str]:
    """What a conversion makes of a frame of a track, in lines of text with numbers."""
    made = conversion.apply(frame)
    motion = fit(made[None], template)
    way, angle = motion.extent(template.mean(axis=0))
    mirrored = ", mirrored" if np.linalg.det(MATRICES[conversion.axes]) < 0 else ""
    size = size_of(made) / size_of(template)
    return [f"Its {describe_axes(conversion.axes)} become the template's X, Y, Z{mirrored}",
            f"Then the face is {size:.3g} times as large, moved by {1000 * unit * way:.1f} mm, turned by {angle:.1f} "
            "degrees",
            f"Held over the template, its vertices are {1000 * unit * _left(motion):.2f} mm away (RMS)"]


def describe_axes(axes: str) -> str:
    """'+X+Z-Y' as 'X, Z, -Y'."""
    return ", ".join(axes[place:place + 2].replace("+", "") for place in (0, 2, 4))


def _orientation(frame: np.ndarray, template: np.ndarray) -> np.ndarray:
    """The rotation, with a reflection only if that fits much better, that takes the frame to the template, (3, 3)."""
    mirror = np.diag([-1.0, 1.0, 1.0])
    plain, other = (fit(template[None], frame @ turn) for turn in (np.eye(3), mirror))
    return _of(plain) if _left(plain) < 2 * _left(other) else _of(other) @ mirror


def _of(motion: Motion) -> np.ndarray:
    return motion.rotations[0]


def _left(motion: Motion) -> float:
    return float(motion.residuals[0])
