"""Pictures of a whole shot, for the people who look at it: a contact sheet, and a movie for dailies.

Input and solve side by side, with the cleaned shot and the difference where there is one, else the error that is to be
expected; frame numbers and millimetres are in the picture.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from . import draw
from .colours import heat_colours
from .crop import Crop, network_input
from .errors import UnderstudyError
from .frame_errors import distances, expected_vertices, top_of
from .jobs import Reporter
from .movie_writer import MovieWriter
from .reviewed import Reviewed

CELL = (240, 180)     # height and width of a picture on the sheet
MOVIE_CELL = (480, 360)
GAP, HEADER, BAND = 6, 34, 64
WORST = 6             # frames of each kind on the sheet, and every Nth so that there are SPREAD
SPREAD = 12
APART = 15            # frames between two of a kind


def sheet(take: Reviewed, out: Path | str, every: int | None = None, limit_mm: float | None = None,
          report: Reporter = Reporter()) -> dict:
    """Write a contact sheet: the worst, the median and the best frames, and every Nth.

    every : N; None = so that there are at most 12.    limit_mm : where the colours of the difference end; None = fits.
    Returns {"worst": footage frames, ...}. Raises UnderstudyError and Cancelled.
    """
    every = every or -(-take.solved.count // SPREAD)
    groups = {**marked_frames(take), f"Every {every} frames" if every > 1 else "Every frame":
              list(range(take.solved.first, take.solved.last + 1, every))}
    limit_mm = limit_mm or scale_of(take)
    pictures = dict(rows(take, sorted({frame for frames in groups.values() for frame in frames}), limit_mm, report))
    columns = columns_of(take)
    width = columns * (next(iter(pictures.values())).shape[1] + GAP) - GAP
    parts = [_title(take, width, limit_mm)]
    for name, frames in groups.items():
        parts += [_line(name, width), _widened(draw.contact_sheet([pictures[i] for i in frames], columns, GAP), width)]
    draw.write_png(out, np.vstack(parts))
    report.artifact(out, "picture")
    return groups


def movie(take: Reviewed, out: Path | str, first: int | None = None, last: int | None = None,
          limit_mm: float | None = None, report: Reporter = Reporter()) -> dict:
    """Write plate | mesh | error as H.264, with frame numbers burnt in and the error of the whole shot below.

    first, last : footage frames, both included; None = those of the solve.    limit_mm : as in `sheet`.
    Returns {"frames": ...}. Raises UnderstudyError and Cancelled; then no movie is left.
    """
    first, last = take.solved.first if first is None else first, take.solved.last if last is None else last
    if not take.solved.first <= first <= last <= take.solved.last:
        raise UnderstudyError(f"The range {first} to {last} is not in the solve, which holds the frames "
                              f"{take.solved.first} to {take.solved.last}.")
    limit_mm = limit_mm or scale_of(take)
    view, triangles = draw.View.front(take.template.vertices), take.template.triangles()
    height, width = MOVIE_CELL
    strip = band(take, 3 * width)
    report.status("Drawing")
    with take.open() as footage, MovieWriter(out, 3 * width, height + BAND, footage.fps) as writer:
        for frame, picture in enumerate(footage.iterate(first, last + 1), first):
            report.check_cancel()
            vertices = take.solve(frame)
            cells = [_cropped(picture, take.crop(frame), MOVIE_CELL),
                     *draw.shaded_and_heat(vertices, triangles, error_of(take, frame), view, MOVIE_CELL, limit_mm)]
            draw.write(cells[0], f"{take.name}  {frame:04}", (10, 24), 0.6)
            draw.write(cells[2], caption(take, frame), (10, 24), 0.6)
            writer.write(cv2.cvtColor(np.vstack([np.hstack(cells), _at(strip, take, frame)]), cv2.COLOR_BGR2RGB))
            report.progress(frame + 1 - first, last + 1 - first)
    report.artifact(out, "movie")
    return {"frames": last - first + 1}


def rows(take: Reviewed, frames: Sequence[int], limit_mm: float, report: Reporter = Reporter()
         ) -> Iterator[tuple[int, np.ndarray]]:
    """Each footage frame, ascending, with its pictures in a row: input, (cleaned,) solve, error."""
    view, triangles = draw.View.front(take.template.vertices), take.template.triangles()
    report.status("Drawing")
    with take.open() as footage:
        for i, (frame, picture) in enumerate(zip(frames, footage.pick(np.array(frames)), strict=True)):
            report.check_cancel()
            vertices, target = take.solve(frame), take.target(frame)
            cells = [cv2.resize(cv2.cvtColor(network_input(picture, take.crop(frame)), cv2.COLOR_GRAY2BGR), CELL[::-1],
                                interpolation=cv2.INTER_AREA)]
            if take.truth is not None:
                cells.append(np.full((*CELL, 3), draw.BACKGROUND, np.uint8) if target is None
                             else draw.shaded(target, triangles, view, CELL))
            cells += draw.shaded_and_heat(vertices, triangles, error_of(take, frame), view, CELL, limit_mm, False)
            draw.write(cells[0], str(frame), (6, 16), 0.45)
            draw.write(cells[-1], caption(take, frame, short=True), (6, 16), 0.42)
            yield frame, np.hstack(cells)
            report.progress(i + 1, len(frames))


def marked_frames(take: Reviewed) -> dict[str, list[int]]:
    """The worst, the median and the best footage frames, spread over time; none where no error is known."""
    some = columns_of(take)
    errors = np.where(take.excluded, np.nan, take.errors.best)
    known = np.flatnonzero(np.isfinite(errors))
    if not len(known):
        return {}
    order = known[np.argsort(errors[known], kind="stable")]
    middle = order[np.argsort(np.abs(errors[order] - np.median(errors[known])), kind="stable")]
    found = {"Worst frames": _apart(order[::-1], WORST), "Median frames": _apart(middle, some),
             "Best frames": _apart(order, some)}
    return {name: [take.solved.first + sample for sample in samples] for name, samples in found.items()}


def columns_of(take: Reviewed) -> int:
    """How many frames stand beside each other on the sheet."""
    return 2 if take.truth is not None else 3


def scale_of(take: Reviewed) -> float:
    """Where the colours should end: three times the median error of a frame, rounded up to half a millimetre."""
    known = take.errors.best[np.isfinite(take.errors.best)]
    return float(np.ceil(6 * np.median(known)) / 2) or 0.5 if len(known) else 1.0


def error_of(take: Reviewed, frame: int) -> np.ndarray:
    """(V,) mm at a footage frame: the distance from the cleaned mesh, else what is to be expected."""
    target = take.target(frame)
    if target is not None:
        return distances(take.solve(frame), target, take.millimetres)
    return expected_vertices(take.errors, frame - take.solved.first, take.samples.shape[1], take.animated, take.regions)


def caption(take: Reviewed, frame: int, short: bool = False) -> str:
    """The error of a frame in words."""
    sample = frame - take.solved.first
    expected, true = take.errors.expected[sample], take.errors.rmse.get("all")
    if true is not None and np.isfinite(true[sample]):
        return f"{true[sample]:.2f} mm" if short else f"RMSE {true[sample]:.2f} mm, expected {expected:.2f}"
    if not np.isfinite(expected):
        return "error unknown"
    return f"exp. {expected:.2f} mm" if short else f"expected error {expected:.2f} mm"


def band(take: Reviewed, width: int, height: int = BAND) -> np.ndarray:
    """The error of the whole solve as columns, (height, width, 3) uint8 BGR: the largest of the frames in each."""
    picture = np.full((height, width, 3), draw.BACKGROUND, np.uint8)
    errors, limit_mm = take.errors.best, top_of(take.errors.best)
    edges = np.linspace(0, len(errors), width + 1)
    for x in range(width):
        here = slice(int(edges[x]), max(int(np.ceil(edges[x + 1])), int(edges[x]) + 1))
        known = errors[here][np.isfinite(errors[here])]
        if not len(known):
            continue
        part = min(float(known.max()) / limit_mm, 1.0)
        colour = (118, 118, 118) if take.excluded[here].all() else heat_colours(np.array([part]))[0, ::-1] * 255
        picture[height - 4 - max(1, round((height - 10) * part)):height - 4, x] = colour
    draw.write(picture, f"{limit_mm:g} mm", (8, 14), 0.4)
    return picture


def _at(strip: np.ndarray, take: Reviewed, frame: int) -> np.ndarray:
    """The band with a line at a frame."""
    strip = strip.copy()
    x = int((frame - take.solved.first + 0.5) / take.solved.count * strip.shape[1])
    strip[:, max(0, x - 1):x + 1] = draw.INK
    return strip


def _apart(order: np.ndarray, count: int) -> list[int]:
    """The first of the samples in an order that lie APART from each other, or closer where a shot is short."""
    apart, chosen = min(APART, len(order) // (2 * count)), []
    for sample in order.tolist():
        if all(abs(sample - other) > apart for other in chosen):
            chosen.append(sample)
        if len(chosen) == count:
            break
    return chosen


def _cropped(picture: np.ndarray, crop: Crop, size: tuple[int, int]) -> np.ndarray:
    """What the network saw, from all pixels that there are, (h, w, 3) uint8."""
    left, top = max(0, round(crop.x)), max(0, round(crop.y))
    part = picture[top:top + round(crop.height), left:left + round(crop.width)]
    smaller = part.shape[0] > size[0]
    part = cv2.resize(part, size[::-1], interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
    return cv2.cvtColor(part, cv2.COLOR_GRAY2BGR)


def _title(take: Reviewed, width: int, limit_mm: float) -> np.ndarray:
    picture = np.full((2 * HEADER + BAND, width, 3), draw.BACKGROUND, np.uint8)
    known = take.errors.best[np.isfinite(take.errors.best)]
    mean = float(np.sqrt(np.square(known).mean())) if len(known) else np.nan
    kind = "RMSE" if take.errors.truth else "expected error"
    figures = f", {kind} {mean:.2f} mm, at worst {known.max():.2f} mm" if len(known) else ""
    draw.write(picture, f"{take.actor}   {take.name}   frames {take.solved.first} to {take.solved.last}{figures}",
               (8, 24), 0.62)
    columns = "input | cleaned | solve | difference" if take.truth is not None else "input | solve | expected error"
    draw.write(picture, f"{columns}, colours from 0 to {limit_mm:g} mm. Model {take.solved.models[0][:7]}.",
               (8, HEADER + 16), 0.45)
    picture[2 * HEADER:] = band(take, width)
    return picture


def _line(text: str, width: int) -> np.ndarray:
    picture = np.full((HEADER, width, 3), draw.BACKGROUND, np.uint8)
    draw.write(picture, text, (8, 23), 0.55)
    return picture


def _widened(picture: np.ndarray, width: int) -> np.ndarray:
    result = np.full((picture.shape[0], width, 3), draw.BACKGROUND, np.uint8)
    result[:, :picture.shape[1]] = picture[:, :width]
    return result
