"""Which frames an artist had better look at, and what of a sculpted frame the actor's own components can show."""

from dataclasses import dataclass

import numpy as np

from .errors import UnderstudyError

SPREAD = 20.0  # frames around one that was chosen in which others are less worth a look


@dataclass(frozen=True)
class Suggestion:
    """A frame that is worth cleaning.

    sample : of the solve, from 0.    reason : in words, for the artist.    expected_mm : RMSE that is to be expected.
    """

    sample: int
    reason: str
    expected_mm: float


def expected_error(sidecar: dict) -> np.ndarray:
    """The RMSE over all animated vertices that is to be expected of each sample of a solve, (n,) float32 mm.

    sidecar : of a solve, as core/solved.py has checked it.    NaN where nobody knows: what was tracked elsewhere.
    """
    count, columns = sidecar["last"] - sidecar["first"] + 1, sidecar["confidence_mm"]
    known = [columns["all"]] if "all" in columns else list(columns.values())
    if not known:
        return np.full(count, np.nan, np.float32)
    return np.array(known, np.float32).max(axis=0)  # None becomes NaN, and NaN is the largest


def clean_next(sidecar: dict, count: int = 20, taken: np.ndarray | list[int] = (),
               excluded: np.ndarray | None = None) -> list[Suggestion]:
    """The `count` samples of a solve that are most worth cleaning, the most urgent first, spread over time.

    sidecar : as in `expected_error`.    taken : samples that were cleaned.    excluded : (n,) bool, samples that will
    not train.
    """
    expected, columns = expected_error(sidecar), sidecar["confidence_mm"]
    regions = {name: np.array(column, np.float32) for name, column in columns.items() if name != "all"}
    found = []
    for sample in suggest_frames(expected, count, taken, excluded):
        unsure = {name: column[sample] / np.nanmedian(column) for name, column in regions.items()
                  if np.isfinite(column[sample])}
        where = max(unsure, key=unsure.get) if unsure else "the face"
        found.append(Suggestion(sample, f"unsure about the {where}" if unsure else f"unsure about {where}",
                                float(expected[sample])))
    return found


def suggest_frames(confidence: np.ndarray, count: int, taken: np.ndarray | list[int] = (),
                   excluded: np.ndarray | None = None) -> list[int]:
    """The `count` samples that are most worth cleaning, the most urgent first, spread over time.

    confidence : (n,) mm, how unsure the model is; NaN where that is not known.    taken : samples that were cleaned.
    excluded : (n,) bool, samples that will not train.
    """
    worth = np.nan_to_num(np.asarray(confidence, np.float64), nan=0.0).clip(0)
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
