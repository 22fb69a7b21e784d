"""What is known of the error of every frame of a solve: what is to be expected, and, where its footage has a cleaned
shot, what it is. Numpy only, so that Blender can import it.
"""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .actor import Actor, Shot
from .errors import UnderstudyError
from .files import write_text
from .review import expected_error
from .solved import Solved

TRUE = ("cleaned", "in cleanup")  # status of shots whose vertices an artist stands behind; others hold solves
STEP = 64  # frames at a time


@dataclass(eq=False)
class FrameErrors:
    """Errors in mm, a number for each sample of a solve, NaN where nothing is known: also where the cleaned shot leaves
    frames out, for which nobody vouches.

    first : footage frame of the first sample.    expected : (n,) float32.    parts : the same by region.
    calibrated : whether these are true mm; if not, they rank frames, but are far too few.    rmse : (n,) float32 by
    region, "all" is every animated vertex; empty without a cleaned shot.    vertices : (V,) float32, root mean square
    of each vertex over the frames of the cleaned shot; None without.    truth : name of the cleaned shot, or "".
    """

    first: int
    expected: np.ndarray
    rmse: dict[str, np.ndarray] = field(default_factory=dict)
    vertices: np.ndarray | None = None
    truth: str = ""
    parts: dict[str, np.ndarray] = field(default_factory=dict)
    calibrated: bool = False

    @property
    def best(self) -> np.ndarray:
        """The error against the cleaned shot where that is known, else the expected one, (n,) float32."""
        true = self.rmse.get("all")
        return self.expected if true is None else np.where(np.isfinite(true), true, self.expected)


def expected(solved: Solved) -> FrameErrors:
    """What is to be expected of a solve."""
    sidecar = solved.sidecar
    names = {*sidecar["confidence_mm"], *sidecar.get("expected_mm", {})} - {"all"}
    return FrameErrors(solved.first, expected_error(sidecar), calibrated=bool(sidecar.get("expected_mm")),
                       parts={name: expected_error(sidecar, name) for name in sorted(names)})


def truth_of(actor: Actor, footage: Path) -> Shot | None:
    """The cleaned shot of that footage, if the actor has one: the same file, or a copy of the same name and size."""
    found = [shot for shot in actor.shots if shot.status in TRUE and shot.cache.is_file()]
    return next((shot for shot in found if _same(shot.footage_path(), footage)), None)


def measure(solved: Solved, actor: Actor, shot: Shot | None,
            progress: Callable[[int, int], None] = lambda done, total: None) -> FrameErrors:
    """The errors of a solve, against a cleaned shot if there is one.

    progress : told (frames done, frames in all).    Raises UnderstudyError if solve and shot are of different meshes.
    """
    result = expected(solved)
    if shot is None:
        return result
    inferred, target = solved.vertices(), shot.vertices()
    if solved.topology != actor.template.hash or inferred.shape[1:] != target.shape[1:]:
        raise UnderstudyError(f"{solved.path} was solved with another mesh than {actor.name}'s. Solve again with its "
                              "model.")
    first, last = shared(solved, shot)
    if first > last:
        return result
    regions = {"all": actor.animated, **actor.regions}
    result.truth, squares = shot.name, np.zeros(inferred.shape[1])
    result.rmse = {name: np.full(solved.count, np.nan, np.float32) for name in regions}
    mine, its = inferred[first - solved.first:], target[first - shot.first_frame:]
    count, vouched = last - first + 1, np.zeros(shot.sample_count(), bool)
    vouched[shot.frames()] = True
    vouched = vouched[first - shot.first_frame:][:count]
    for start in range(0, count, STEP):
        stop = min(start + STEP, count)
        square = np.square(distances(mine[start:stop], its[start:stop], actor.millimetres))
        counts = vouched[start:stop]
        squares += square[counts].sum(axis=0, dtype=np.float64)
        for name, vertices in regions.items():
            if len(vertices):
                at = first - solved.first + start
                found = np.sqrt(square[:, vertices].mean(axis=1))
                result.rmse[name][at:at + stop - start] = np.where(counts, found, np.nan)
        progress(stop, count)
    result.vertices = np.sqrt(squares / max(vouched.sum(), 1)).astype(np.float32)
    return result


def shared(solved: Solved, shot: Shot) -> tuple[int, int]:
    """The first and the last footage frame that a solve and a cleaned shot both hold; none if first > last."""
    return (max(solved.first, shot.first_frame), min(solved.last, shot.first_frame + shot.sample_count() - 1))


def distances(one: np.ndarray, other: np.ndarray, millimetres: float) -> np.ndarray:
    """Distance of each vertex in mm, (..., V) float32.    one, other : (..., V, 3).    millimetres : of a mesh unit."""
    difference = np.subtract(one, other, dtype=np.float32)
    return np.float32(millimetres) * np.sqrt(np.einsum("...c,...c->...", difference, difference))


def expected_vertices(errors: FrameErrors, sample: int, count: int, animated: np.ndarray,
                      regions: dict[str, np.ndarray]) -> np.ndarray:
    """The error to be expected of each vertex at a sample, (count,) float32 mm: that of its region.

    A vertex of several regions has the largest, one of none that of the whole face, one that is not animated 0.
    """
    result, inside = np.zeros(count, np.float32), np.full(count, np.nan, np.float32)
    result[animated] = np.nan_to_num(errors.expected[sample])
    for name, vertices in regions.items():
        if name in errors.parts:
            inside[vertices] = np.fmax(inside[vertices], errors.parts[name][sample])
    moved = result > 0
    result[moved] = np.where(np.isfinite(inside), inside, result)[moved]
    return result


def top_of(errors: np.ndarray) -> float:
    """Where an axis of errors ends, in mm: the largest, rounded up to 1, 1.5, 2, 3, 4, 5, 6 or 8 of a power of ten."""
    known = errors[np.isfinite(errors)]
    largest = max(float(known.max()), 0.1) if len(known) else 1.0
    power = 10.0 ** np.floor(np.log10(largest))
    return next(round(float(part * power), 6) for part in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if part * power >= largest)


def write_errors(path: Path | str, found: FrameErrors) -> None:
    """Write errors as CSV: the frame, what is to be expected, and the RMSE of each region against the cleaned shot."""
    names = list(found.rmse)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["frame", "expected_mm", *(f"{name}_mm" for name in names)])
    columns = np.stack([found.expected, *(found.rmse[name] for name in names)], axis=1)
    for frame, values in enumerate(columns.tolist(), found.first):
        rows.writerow([frame, *("" if value != value else f"{value:.4f}" for value in values)])
    write_text(path, text.getvalue())


def read_errors(path: Path | str) -> FrameErrors:
    """Errors that `write_errors` has written. Raises UnderstudyError for any other file."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            names = [name.removesuffix("_mm") for name in next(rows)]
            values = np.array([[float(cell or "nan") for cell in row] for row in rows], np.float32)
        if names[:2] != ["frame", "expected"] or values.shape[1:] != (len(names),):
            raise ValueError("its columns are others")
    except (OSError, ValueError, StopIteration) as error:
        raise UnderstudyError(f"{path} is no table of errors: {error}.") from error
    return FrameErrors(int(values[0, 0]), values[:, 1], dict(zip(names[2:], values[:, 2:].T, strict=True)))


def _same(one: Path, other: Path) -> bool:
    if one == other:
        return True
    try:
        if one.samefile(other):
            return True
        return one.is_file() and one.name == other.name and one.stat().st_size == other.stat().st_size
    except OSError:
        return False
