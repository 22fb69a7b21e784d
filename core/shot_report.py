"""A page about one solve for the supervisor: how good it is, or probably is, and which frames to look at."""

import datetime
from html import escape
from pathlib import Path

import numpy as np

from . import draw
from .dailies import marked_frames, rows, scale_of
from .files import write_text
from .jobs import Reporter
from .metrics import pooled
from .page import curves, facts, image, page, table, tiles
from .probe import probe
from .reviewed import Reviewed

SUGGESTED = 12  # frames that are worth a look


def shot_report(take: Reviewed, out: Path | str, report: Reporter = Reporter()) -> dict:
    """Write one HTML page, without scripts or links, about a solve. Returns its figures: {"rmse_mm": ..., ...}.

    Raises UnderstudyError and Cancelled.
    """
    found = figures(take)
    suggested = [one for one in take.suggested(SUGGESTED) if np.isfinite(one[2])]
    marked = marked_frames(take) if take.errors.truth else {}
    frames = sorted({frame for frame, _, _ in suggested} | {frame for group in marked.values() for frame in group})
    pictures = dict(rows(take, frames, scale_of(take), report))
    report.status("Comparing the picture with training")
    body = [f"<h1>{escape(take.actor)} &middot; {escape(take.name)}</h1>",
            f'<p class="headline">{escape(headline(take, found))}</p>',
            *(f'<p class="warning">{escape(text)}</p>' for text in [*take.notes, *_picture_notes(take)]),
            tiles(_tiles(take, found)), "<h2>Every frame</h2>", _curves(take, [frame for frame, _, _ in suggested]),
            "<h2>By region</h2>", _regions(take), _where(take)]
    if suggested:
        body += ["<h2>Worth a look</h2>", _columns(take), *(
            _row(pictures[frame], f"frame {frame}", f"{reason}, {take.error(frame):.2f} mm")
            for frame, reason, _ in suggested)]
    for name, group in marked.items():
        body += [f"<h2>{name}</h2>", *(_row(pictures[frame], f"frame {frame}", f"{take.error(frame):.2f} mm")
                                       for frame in group)]
    body += ["<h2>Where it comes from</h2>", facts(_provenance(take))]
    write_text(out, page(f"{take.actor}: {take.name}", "\n".join(body)))
    report.artifact(out, "report")
    return found


def figures(take: Reviewed) -> dict:
    """The figures of a solve in mm; None where nobody knows. Frames that are left out of training do not count."""
    counted = ~take.excluded
    expected = take.errors.expected[counted & np.isfinite(take.errors.expected)]
    result = {"frames": take.solved.count, "truth": take.errors.truth, "rmse_mm": None, "worst_mm": None,
              "worst_frame": None, "expected_mm": pooled(expected) if len(expected) else None}
    if take.errors.truth:
        true = np.where(counted, take.errors.rmse["all"], np.nan)
        known = true[np.isfinite(true)]
        if len(known):
            result |= {"rmse_mm": pooled(known), "worst_mm": float(known.max()),
                       "worst_frame": take.solved.first + int(np.nanargmax(true))}
    return result


def headline(take: Reviewed, found: dict) -> str:
    """The one sentence that a supervisor reads."""
    if found["rmse_mm"] is not None:
        return (f"{found['rmse_mm']:.2f} mm RMSE against the cleaned shot {found['truth']}; at worst "
                f"{found['worst_mm']:.2f} mm, in frame {found['worst_frame']}.")
    if found["expected_mm"] is None:
        return "Nobody knows how good this solve is: no model says how sure it was of it."
    worst = int(np.nanargmax(take.errors.expected))
    return (f"{found['expected_mm']:.2f} mm error is to be expected, at most {take.errors.expected[worst]:.2f} mm in "
            f"frame {take.solved.first + worst}. There is no cleaned shot to measure against.")


def _tiles(take: Reviewed, found: dict) -> list[tuple[str, str]]:
    seconds = take.solved.count / float(take.solved.sidecar.get("fps") or 30)
    result = [(f"{take.solved.count:,}", f"frames, {seconds:.1f} seconds")]
    for name, text in (("rmse_mm", "RMSE against the cleaned shot"), ("worst_mm", "in the worst frame"),
                       ("expected_mm", "error that the model lets expect")):
        if found[name] is not None:
            result.append((f"{found[name]:.2f} mm", text))
    return result


def _curves(take: Reviewed, suggested: list[int]) -> str:
    lines = [("expected", take.errors.expected)]
    if take.errors.truth:
        lines.insert(0, ("RMSE against the cleaned shot", take.errors.rmse["all"]))
    text = "Triangles point at the frames below that are worth a look."
    if take.excluded.any():
        text += " Frames that are left out of training are shaded."
    return f'<p class="note">{text}</p>' + curves(take.solved.first, lines, suggested, take.excluded)


def _regions(take: Reviewed) -> str:
    columns = take.errors.rmse
    kind = "RMSE" if columns else "Expected error"
    columns = columns or {"all": take.errors.expected, **take.errors.parts}
    lines = []
    for name, column in columns.items():
        known = column[np.isfinite(column) & ~take.excluded]
        if len(known):
            lines.append([escape(name), *(f"{value:.2f}" for value in (
                pooled(known), np.median(known), np.percentile(known, 95), known.max()))])
    return table(["Region", f"{kind}, mm", "Median", "95 %", "Worst"], lines)


def _where(take: Reviewed) -> str:
    """The error of each vertex over the whole shot, drawn on the face."""
    if take.errors.vertices is None:
        return ""
    drawn = draw.heat(take.template.vertices, take.template.triangles(), take.errors.vertices,
                      draw.View.front(take.template.vertices), (400, 300), scale_of(take))
    return ('<p class="note" style="margin-top:24px">Root mean square of each vertex over the shot</p>'
            f'<div style="max-width:300px">{image(drawn, "error by vertex")}</div>')


def _columns(take: Reviewed) -> str:
    names = ("Input", "Cleaned", "Solve", "Difference") if take.truth is not None else (
        "Input", "Solve", "Expected error")
    head = "".join(f"<span>{name}</span>" for name in names)
    style = f"grid-template-columns:repeat({len(names)},1fr)"
    return f'<div class="row"><span></span><div class="columns" style="{style}">{head}</div></div>'


def _row(picture: np.ndarray, title: str, text: str) -> str:
    return f'<div class="row"><div>{escape(title)}<small style="white-space:normal">{escape(text)}</small></div>' \
           f"{image(picture, title)}</div>"


def _picture_notes(take: Reviewed) -> list[str]:
    """What differs in the picture from training: framing and light."""
    if take.model is None:
        return []
    crop = take.crop(take.solved.first)
    framing = probe(take.footage, take.model.path, (crop.x, crop.y, crop.width, crop.height)).get("framing", {})
    return [framing["text"]] if framing.get("verdict") == "different" else []


def _provenance(take: Reviewed) -> dict[str, str]:
    sidecar, part = take.solved.sidecar, take.solved.parts[-1]
    result = {"Solve": take.solved.path.name, "Frames": f"{take.solved.first} to {take.solved.last}",
              "Footage": f"{take.footage.name}, {sidecar.get('footage_identity', '')[:12]}",
              "Model": f"{sidecar.get('model', '')}, {part['model_sha256'][:12]}",
              "Solved by": f"{part['engine']} on {part['device']}",
              "Crop": " ".join(f"{edge:g}" for edge in part["crop"]),
              "This page": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")}
    about = take.model.about if take.model is not None else {}
    if isinstance(about.get("frames"), int) and isinstance(about.get("footage"), dict):
        result["Trained on"] = f"{about['frames']:,} frames of {', '.join(map(str, about['footage']))}"
    return result
