"""Which frames an artist had better look at, and what of a sculpted frame the actor's own components can show."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import UnderstudyError
from .solved import Solved

SPREAD = 20.0      # frames around one that was chosen in which others are less worth a look
ALIKE = 0.3        # of the usual distance of two expressions: nearer ones need not both be cleaned
DARK, BRIGHT = 0.85, 1.18  # of the training pictures' brightness: beyond what training has shown the network
STANDS_OUT = 1.3   # times what is usual in the solve
POOL = 20_000      # frames of many solves among which some are chosen


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
               excluded: np.ndarray | None = None, codes: np.ndarray | None = None) -> list[Suggestion]:
    """The `count` samples of a solve that are most worth cleaning, the most urgent first, spread over time.

    sidecar : as in `expected_error`.    taken : samples that were cleaned.    excluded : (n,) bool, samples that will
    not train.    codes : (n, K) of the solve, so that no two expressions that are nearly alike are listed.
    """
    expected, why = expected_error(sidecar), _Reasons(sidecar)
    return [Suggestion(sample, why(sample), float(expected[sample]))
            for sample in suggest_frames(expected, count, taken, excluded, codes)]


def clean_next_of(solves: Sequence[Solved], count: int = 20) -> list[Choice]:
    """The `count` frames of several solves that are most worth cleaning, the most urgent first.

    No two are near in time or, where solves have codes of one model, alike in expression.
    """
    if not solves:
        return []
    step = -(-sum(solved.count for solved in solves) // POOL)
    rows = [np.arange(0, solved.count, step) for solved in solves]
    worth = np.concatenate([expected_error(solved.sidecar)[row] for solved, row in zip(solves, rows, strict=True)])
    # a gap in time between solves, so that what is chosen in one does not count against the next
    times = np.concatenate([row + 1e6 * i for i, row in enumerate(rows)])
    place = [(i, int(sample)) for i, row in enumerate(rows) for sample in row]
    reasons = [_Reasons(solved.sidecar) for solved in solves]
    chosen = _choose(worth, times, count, codes=_codes_of(solves, rows))
    return [Choice(str(solves[i].path), solves[i].first + sample, reasons[i](sample), float(worth[row]))
            for row in chosen for i, sample in [place[row]]]


def _codes_of(solves: Sequence[Solved], rows: list[np.ndarray]) -> np.ndarray | None:
    """Codes of the chosen rows; None where they are missing or come from several models."""
    if len({model for solved in solves for model in solved.models}) != 1:
        return None
    try:
        return np.concatenate([solved.codes()[row] for solved, row in zip(solves, rows, strict=True)])
    except UnderstudyError:
        return None


class _Reasons:
    """Says in words why a sample of a solve is worth a look."""

    def __init__(self, sidecar: dict):
        def read(kind: str) -> dict[str, np.ndarray]:
            return {name: np.array(column, np.float32) for name, column in sidecar.get(kind, {}).items()}

        self._regions = {name: column for name, column in (read("expected_mm") or read("confidence_mm")).items()
                         if name != "all"}
        self._honest = bool(sidecar.get("expected_mm"))
        self._distance, self._novelty = read("distance_mm").get("all"), read("novelty_mm").get("all")
        self._brightness = read("signals").get("brightness")

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


def suggest_frames(confidence: np.ndarray, count: int, taken: np.ndarray | list[int] = (),
                   excluded: np.ndarray | None = None, codes: np.ndarray | None = None) -> list[int]:
    """The `count` samples that are most worth cleaning, the most urgent first, spread over time.

    confidence : (n,) mm, how unsure the model is; NaN where that is not known.    taken : samples that were cleaned.
    excluded : (n,) bool, samples that will not train.    codes : (n, K), to list no two expressions that are alike.
    """
    worth = np.array(confidence, np.float64)
    if excluded is not None:
        worth[excluded] = 0
    return _choose(worth, np.arange(len(worth)), count, taken, codes)


def _choose(worth: np.ndarray, times: np.ndarray, count: int, taken: np.ndarray | list[int] = (),
            codes: np.ndarray | None = None) -> list[int]:
    """Rows of high worth, the highest first; each makes others less worth that are near in time or alike."""
    worth = np.nan_to_num(worth.astype(np.float64), nan=0.0).clip(0)
    usual = 0.0
    if codes is not None and len(codes) > 1:
        some = codes[np.linspace(0, len(codes) - 1, min(len(codes), 200)).astype(int)]
        usual = float(np.median(np.linalg.norm(some - some[::-1], axis=1)))

    def without(worth: np.ndarray, row: int) -> np.ndarray:
        near = np.exp(-np.square((times - times[row]) / SPREAD))
        if usual:
            near = np.maximum(near, np.exp(-np.square((codes - codes[row]) / (ALIKE * usual)).sum(axis=1)))
        return worth * (1 - near)

    for row in taken:
        worth = without(worth, row)
    chosen: list[int] = []
    while len(chosen) < count and worth.any():
        chosen.append(int(worth.argmax()))
        worth = without(worth, chosen[-1])
    return chosen


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
