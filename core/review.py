"""Which frames an artist had better look at, and what of a sculpted frame the actor's own components can show."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import UnderstudyError
from .solved import Solved

SPREAD = 20.0      # frames around one that was chosen in which others are less worth a look
DARK, BRIGHT = 0.85, 1.18  # of the training pictures' brightness: beyond what training has shown the network
STANDS_OUT = 1.3   # times what is usual in the solve


@dataclass(frozen=True)
class Suggestion:
    """A frame that is worth cleaning.

    sample : of the solve, from 0.    reason : in words, for the artist.    expected_mm : RMSE that is to be expected.
    """

    sample: int
    reason: str
    expected_mm: float


@dataclass(frozen=True)
class Choice:
    """A frame of one of several solves. solve : the cache.    frame : of the footage.    Others as Suggestion."""

    solve: str
    frame: int
    reason: str
    expected_mm: float


def expected_error(sidecar: dict, region: str = "all") -> np.ndarray:
    """The RMSE of a region, or of all animated vertices, that is to be expected of each sample, (n,) float32 mm.

    sidecar : of a solve, as core/solved.py has checked it. Where the model was not calibrated (core/familiarity.py)
    this is the spread that dropout would cause: it ranks frames, less well, but its millimetres are far too few.
    NaN where nobody knows: what was tracked elsewhere.
    """
    found = np.full(sidecar["last"] - sidecar["first"] + 1, np.nan, np.float32)
    for columns in (sidecar.get("expected_mm", {}), sidecar["confidence_mm"]):
        known = [columns[region]] if region in columns else list(columns.values()) if region == "all" else []
        if known:  # None becomes NaN, and NaN is the largest
            found = np.where(np.isnan(found), np.array(known, np.float32).max(axis=0), found)
    return found


def clean_next(sidecar: dict, count: int = 20, taken: np.ndarray | list[int] = (),
               excluded: np.ndarray | None = None) -> list[Suggestion]:
    """The `count` samples of a solve that are most worth cleaning, the most urgent first, spread over time.

    sidecar : as in `expected_error`.    taken : samples that were cleaned.    excluded : (n,) bool, samples that will
    not train.
    """
    expected, why = expected_error(sidecar), _Reasons(sidecar)
    return [Suggestion(sample, why(sample), float(expected[sample]))
            for sample in suggest_frames(expected, count, taken, excluded)]


def clean_next_of(solves: Sequence[Solved], count: int = 20) -> list[Choice]:
    """The `count` frames of several solves that are most worth cleaning, the most urgent first, spread over time."""
    found = [Choice(str(solved.path), solved.first + one.sample, one.reason, one.expected_mm)
             for solved in solves for one in clean_next(solved.sidecar, count)]
    return sorted(found, key=lambda one: -one.expected_mm)[:count]


class _Reasons:
    """Says in words why a sample of a solve is worth a look."""

    def __init__(self, sidecar: dict):
        def read(kind: str) -> dict[str, np.ndarray]:
            return {name: np.array(column, np.float32) for name, column in sidecar.get(kind, {}).items()}

        self._regions = {name: column for name, column in (read("expected_mm") or read("confidence_mm")).items()
                         if name != "all"}
        self._honest = bool(sidecar.get("expected_mm"))
        self._novelty, signals = read("novelty_mm").get("all"), read("signals")
        self._distance, self._brightness = signals.get("expression_mm"), signals.get("brightness")

    def __call__(self, sample: int) -> str:
        said = []
        light = 1.0 if self._brightness is None else self._brightness[sample]
        if light < DARK or light > BRIGHT:
            said.append(f"{'darker' if light < DARK else 'brighter'} than the training footage")
        far, new = (_times_usual(column, sample) for column in (self._distance, self._novelty))
        if far > STANDS_OUT and far >= new:
            said.append(f"an expression {self._distance[sample]:.1f} mm from all training frames")
        elif new > STANDS_OUT:
            said.append("a picture unlike the training footage")
        ratios = {name: _times_usual(column, sample) for name, column in self._regions.items()}
        worst = max(ratios, key=ratios.get, default="")
        if worst and ratios[worst] > 0:
            expected = f", {self._regions[worst][sample]:.1f} mm expected there" if self._honest else ""
            said.append(f"unsure about the {worst}{expected}")
        return "; ".join(said) or "unsure about the face"


def _times_usual(column: np.ndarray | None, sample: int) -> float:
    """A value against the median of its solve; 0 where it is not known."""
    if column is None or not np.isfinite(column[sample]):
        return 0.0
    return float(column[sample] / max(np.nanmedian(column), 1e-9))


def suggest_frames(worth: np.ndarray, count: int, taken: np.ndarray | list[int] = (),
                   excluded: np.ndarray | None = None) -> list[int]:
    """The `count` samples that are most worth cleaning, the most urgent first, spread over time.

    worth : (n,) mm, the error to expect; NaN where that is not known.    taken : samples that were cleaned.
    excluded : (n,) bool, samples that will not train.
    To keep expressions apart too, or to prefer bad passages to lone frames, saved no work: benchmarks/cleaning.py.
    """
    worth = np.nan_to_num(np.asarray(worth, np.float64), nan=0.0).clip(0)
    if excluded is not None:
        worth = np.where(excluded, 0.0, worth)
    samples = np.arange(len(worth))
    for sample in taken:
        worth = worth * _away(samples, sample)
    chosen: list[int] = []
    while len(chosen) < count and worth.any():
        chosen.append(int(worth.argmax()))
        worth = worth * _away(samples, chosen[-1])
    return chosen


def _away(samples: np.ndarray, sample: int) -> np.ndarray:
    return 1 - np.exp(-np.square((samples - sample) / SPREAD))


def project(positions: np.ndarray, weights: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The face of the actor's own components that is nearest to one that was sculpted, by least squares.

    positions : (A, 3), the animated vertices.    weights, mean : (3 A, K) and (3 A,) of ModelFile.head().
    Returns its vertices (A, 3) float32 and its code (K,) float32. Raises UnderstudyError for other vertex counts.
    """
    if positions.size != len(mean):
        raise UnderstudyError(f"The model has {len(mean) // 3} animated vertices, but {len(positions)} were sculpted.")
    wide = weights.astype(np.float64)
    values, vectors = np.linalg.eigh(wide.T @ wide)
    inverse = np.where(values > 1e-12 * values[-1], 1 / np.maximum(values, 1e-300), 0)  # components may repeat others
    code = vectors @ (inverse * (vectors.T @ (wide.T @ (positions.ravel().astype(np.float64) - mean))))
    return (wide @ code + mean).reshape(-1, 3).astype(np.float32), code.astype(np.float32)
