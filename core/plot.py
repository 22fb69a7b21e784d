"""Curves as a picture, for where nothing else can draw one: errors in mm over training frames. Numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

GROUND, GRID, INK = (28, 28, 28), (58, 58, 58), (190, 190, 190)
GLYPHS = {  # 5 rows, the upper first
    "0": "###|#.#|#.#|#.#|###", "1": ".#.|##.|.#.|.#.|###", "2": "###|..#|###|#..|###", "3": "###|..#|.##|..#|###",
    "4": "#.#|#.#|###|..#|..#", "5": "###|#..|###|..#|###", "6": "###|#..|###|#.#|###", "7": "###|..#|.#.|.#.|.#.",
    "8": "###|#.#|###|#.#|###", "9": "###|#.#|###|..#|###", ".": "...|...|...|...|.#.", "k": "#..|#.#|##.|##.|#.#",
    "M": "#.#|###|###|#.#|#.#", "m": ".....|.....|####.|#.#.#|#.#.#", " ": "...|...|...|...|..."}


@dataclass(frozen=True)
class Curve:
    """points : (x, y) in order of x; y not above 0 is left out.    colour : 0..255.    width, in pixels."""

    points: Sequence[tuple[float, float]]
    colour: tuple[int, int, int]
    width: float = 1.5


def plot(curves: Sequence[Curve], size: int = 480) -> np.ndarray:
    """A square picture of curves over each other, the last on top; the y axis is logarithmic.

    Returns (size, size, 3) uint8, the upper row first.
    """
    picture = np.empty((size, size, 3), np.uint8)
    picture[:] = GROUND
    known = [(curve, points) for curve in curves if len(points := _clean(curve.points))]
    if not known:
        return picture
    everything = np.concatenate([points for _, points in known])
    right = max(everything[:, 0].max(), 1e-9)
    low, high = _span(everything[:, 1])
    scale = max(1, round(size / 120))  # of the letters
    box = left, top, width, height = 17 * scale, 9 * scale, size - 20 * scale, size - 18 * scale

    def rows(values: np.ndarray) -> np.ndarray:
        return top + height * (np.log(high) - np.log(values)) / (np.log(high) - np.log(low))

    for value in _ticks(low, high):
        row = int(rows(np.array(value)))
        picture[row:row + max(1, scale // 2), left:left + width] = GRID
        write(picture, f"{value:g}".rjust(4), row - 2 * scale, 0, scale)
    write(picture, "mm", scale, left, scale)
    end = short(right)
    write(picture, "0", size - 7 * scale, left, scale)
    write(picture, end, size - 7 * scale, left + width - 4 * scale * len(end), scale)
    for curve, points in known:
        _draw(picture, box, points[:, 0] / right, rows(points[:, 1]), curve)
    return picture


def write(picture: np.ndarray, text: str, row: int, column: int, scale: int) -> None:
    """Write digits and the few letters there are; whatever lies outside of the picture is cut off."""
    for letter in text:
        glyph = np.array([[dot == "#" for dot in line] for line in GLYPHS.get(letter, GLYPHS[" "]).split("|")])
        mask = np.kron(glyph, np.ones((scale, scale), bool))
        target = picture[max(row, 0):row + len(mask), column:column + mask.shape[1]]
        target[mask[len(mask) - len(target):, :target.shape[1]]] = INK
        column += mask.shape[1] + scale


def short(count: float) -> str:
    """A count in few letters: 950, 1.2k, 48k, 3.1M."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * unit:
            return f"{count / unit:.2g}{name}" if count < 99.5 * unit else f"{count / unit:.0f}{name}"
    return f"{count:.0f}"


def _clean(points: Sequence[tuple[float, float]]) -> np.ndarray:
    values = np.array(points, np.float64).reshape(-1, 2)
    return values[np.isfinite(values).all(axis=1) & (values[:, 1] > 0)]


def _span(values: np.ndarray) -> tuple[float, float]:
    """Lower and upper end of the axis, a little beyond what is shown, at least a factor of two apart."""
    low, high = 0.93 * values.min(), 1.07 * values.max()
    middle = (low * high) ** 0.5
    return min(low, middle / 2 ** 0.5), max(high, middle * 2 ** 0.5)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers on the axis: 1, 2 and 5 of each power of ten, more or fewer where that suits better."""
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    parts = (1,) if high / low > 1000 else (1, 2, 5) if high / low > 10 else (1, 1.5, 2, 3, 4, 5, 7)
    return [part * 10.0 ** power for power in powers for part in parts if low <= part * 10.0 ** power <= high]


def _draw(picture: np.ndarray, box: tuple[int, int, int, int], x: np.ndarray, rows: np.ndarray, curve: Curve) -> None:
    """Draw a curve, column by column, with soft edges.    x : 0..1 of the box.    rows : of the picture."""
    left, _, width, _ = box
    first, last = round(x[0] * (width - 1)), round(x[-1] * (width - 1))
    columns = np.arange(first, last + 1)
    place = columns / max(width - 1, 1)
    middle = np.interp(place, x, rows)
    edges = np.interp(np.stack([place - 0.5 / width, place + 0.5 / width]), x, rows)
    lower, upper = np.maximum(edges.max(axis=0), middle), np.minimum(edges.min(axis=0), middle)
    radius = curve.width * len(picture) / 480
    if first == last:  # a single point
        columns, reach = first + np.arange(-3, 4), 3.0
        columns = columns[(columns >= 0) & (columns < width)]
        lower, upper = np.full(len(columns), rows[-1] + reach), np.full(len(columns), rows[-1] - reach)
    grid = np.arange(len(picture))[:, None]
    outside = np.maximum(np.maximum(upper - grid, grid - lower), 0)
    opacity = np.clip(radius + 0.5 - outside, 0, 1)[..., None]
    target = picture[:, left + columns]
    picture[:, left + columns] = np.rint(target + opacity * (np.array(curve.colour) - target)).astype(np.uint8)
