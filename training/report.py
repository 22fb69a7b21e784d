"""The evaluation as a page: one HTML file without scripts or links that opens by double click, and its two figures."""

import base64
import io
import json
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from ..core import draw
from ..core.files import atomic, write_text
from ..core.page import STYLE

LINE, DOT = "#3987c8", "#e8842c"
INK = "#123456"  # stands in the SVG for the page's own text colour
COLUMNS = ("Input", "Target", "Inferred", "Difference")


@dataclass(frozen=True)
class MarkedFrame:
    """A dot of Figure 6 and a row of Figure 7. frame : of the footage; row : from draw.comparison."""

    shot: str
    which: str
    sample: int
    frame: int
    rmse_mm: float
    row: np.ndarray


def write_report(out: Path, result: dict, curves: dict[str, tuple[np.ndarray, np.ndarray]],
                 marked: list[MarkedFrame]) -> None:
    """Write report.html, figure6.png and figure7.png to `out`.

    result : as `evaluate` returns it.    curves : shot name -> footage frames (n,) and their RMSE (n,) in mm.
    """
    with atomic(out / "figure6.png") as temporary:
        figure6(curves, marked, "#1d2126").savefig(temporary, dpi=130, facecolor="white")
    with atomic(out / "figure7.png") as temporary:
        figure7(marked).savefig(temporary, dpi=110, facecolor="white", bbox_inches="tight")
    write_text(out / "report.html", _page(result, _svg(figure6(curves, marked, INK)), marked))


def figure6(curves: dict[str, tuple[np.ndarray, np.ndarray]], marked: list[MarkedFrame], ink: str) -> Figure:
    """RMSE of every frame, a strip for each shot, with the frames of Figure 7 marked (paper, Fig. 6)."""
    figure = Figure(figsize=(10, 1.9 * len(curves) + 0.3), layout="constrained")
    strips = figure.subplots(len(curves), 1, squeeze=False)[:, 0]
    for strip, (name, (frames, rmse)) in zip(strips, curves.items(), strict=True):
        line = np.full(int(frames[-1] - frames[0]) + 1, np.nan)  # excluded frames leave a gap
        line[frames - frames[0]] = rmse
        strip.plot(np.arange(frames[0], frames[-1] + 1), line, color=LINE, linewidth=1.1)
        for mark in (mark for mark in marked if mark.shot == name):
            strip.plot(mark.frame, mark.rmse_mm, "o", color=DOT, markersize=6)
        strip.set_title(name, loc="left", color=ink, fontsize=10)
        strip.set_ylabel("RMSE, mm", color=ink, fontsize=9)
        strip.set_ylim(0, max(1.1 * float(rmse.max()), 1e-3))
        strip.margins(x=0.01)
        strip.tick_params(colors=ink, labelsize=8.5, length=3)
        strip.set_facecolor("none")
        strip.spines[["top", "right"]].set_visible(False)
        strip.spines[["left", "bottom"]].set_color(ink)
    strips[-1].set_xlabel("footage frame", color=ink, fontsize=9)
    return figure


def figure7(marked: list[MarkedFrame]) -> Figure:
    """The marked frames: input, target, inferred, difference (paper, Fig. 7)."""
    height, width = marked[0].row.shape[:2]
    figure = Figure(figsize=(8.6, 7.4 * height / width * len(marked) + 0.4), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.02, w_pad=0.02, hspace=0)
    for axes, mark in zip(figure.subplots(len(marked), 1, squeeze=False)[:, 0], marked, strict=True):
        axes.imshow(mark.row[..., ::-1], interpolation="antialiased")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        label = f"{mark.shot} {mark.frame}\n{mark.which}, {mark.rmse_mm:.2f} mm"
        axes.set_ylabel(label, fontsize=9, rotation=0, ha="right", va="center")
        if mark is marked[0]:
            axes.set_xticks([(i + 0.5) * width / 4 for i in range(4)], COLUMNS, fontsize=9)
            axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    return figure


def _svg(figure: Figure) -> str:
    """The figure for the page: its text is text, in the page's font and colour."""
    text = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "understudy"}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg"):].replace(INK, "currentColor")
    return svg.replace("'DejaVu Sans'", "system-ui")


def _page(result: dict, svg: str, marked: list[MarkedFrame]) -> str:
    name, overall = escape(result["actor"]), result["overall"]
    warning = "" if result["split"] == "validation" else (
        '<p class="warning">This actor has no validation shot: the training shots themselves were measured. '
        "The figures say nothing about footage that the model has not seen.</p>")
    regions = list(overall["regions"])
    shots = result["shots"]
    drawn = len({mark.shot for mark in marked})
    rest = "" if drawn == len(shots) else f" The first {drawn} of {len(shots)} shots are drawn."
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}: evaluation</title><style>{STYLE}</style></head><body><main>
<h1>{name} &middot; evaluation of {escape(result["model"]["file"])}</h1>
<p class="headline">{escape(result["headline"])}</p>{warning}
{_tiles(overall["regions"]["all"])}
<h2>Every frame</h2>
<p class="note">RMSE over the animated vertices, frame by frame. Each strip has its own scale; the orange dots are the
frames shown below.{rest}</p>
{svg}
<h2>Marked frames</h2>
<p class="note">The worst, the median and the best frame of each shot. All differences share one colour scale.</p>
{_rows(marked)}
<h2>By shot</h2>
<p class="note">Millimetres. The mean mesh and the nearest training frame (the one with the most similar picture) are
what a solve has to beat; the last columns say how many times closer it comes.</p>
{_errors_table("Shot", [(shot["name"], shot) for shot in shots], overall)}
<h2>By role</h2>
{_errors_table("Role", list(result["roles"].items()), overall)}
<h2>By region</h2>
{_regions_table(overall["regions"], result["region_vertices"])}
{_matrix(shots, regions) if len(regions) > 1 else ""}
{_gaps_table(shots, overall) if overall["gaps"] else ""}
<h2>Stability and motion</h2>
<p class="note">Temporal noise is the RMS of second differences while the target region is still (below
{result["still_mm_per_frame"]:g} mm a frame), beside the same figure for the target. Motion kept is the standard
deviation over time against the target's: below 100&nbsp;% the motion is flattened.</p>
{_motion_table(shots, overall)}
<h2>Where the figures come from</h2>
{_provenance(result)}
</main></body></html>
"""


def _tiles(figures: dict) -> str:
    mean_mesh, nearest = _number(figures["mean_mesh_mm"], 2, " mm"), _number(figures["nearest_mm"], 2, " mm")
    target_noise = _number(figures["target_noise_mm"], 3, " mm")
    tiles = [(_number(figures["rmse_mm"], 2, " mm"), "RMSE over all measured frames"),
             (_ratio(figures, "mean_mesh_mm"), f"closer than the mean mesh ({mean_mesh})"),
             (_ratio(figures, "nearest_mm"), f"closer than the nearest training frame ({nearest})"),
             (_number(figures["noise_mm"], 3, " mm"), f"temporal noise; the target&rsquo;s own is {target_noise}"),
             (_percent(figures["attenuation"]), "of the target's motion kept")]
    return '<div class="tiles">' + "".join(f'<div class="tile"><b>{value}</b><span>{text}</span></div>'
                                           for value, text in tiles) + "</div>"


def _rows(marked: list[MarkedFrame]) -> str:
    head = "".join(f"<span>{column}</span>" for column in COLUMNS)
    rows = [f'<div class="row"><span></span><div class="columns">{head}</div></div>']
    for mark in marked:
        image = base64.b64encode(draw.png(mark.row)).decode()
        shot = escape(mark.shot)
        label = f"{shot}<small>frame {mark.frame}<br>{mark.which}, {mark.rmse_mm:.2f} mm</small>"
        picture = f'<img alt="{shot}, frame {mark.frame}" src="data:image/png;base64,{image}">'
        rows.append(f'<div class="row"><div>{label}</div>{picture}</div>')
    return "\n".join(rows)


def _errors_table(first: str, groups: list[tuple[str, dict]], overall: dict) -> str:
    header = [first, "Frames", "RMSE", "Median", "95 %", "Worst", "Mean mesh", "Nearest frame", "&times; mean mesh",
              "&times; nearest"]
    rows = []
    for name, group in [*groups, ("Together", overall)]:
        figures = group["regions"]["all"]
        rows.append([escape(name), f"{group['frames']:,}", _number(figures["rmse_mm"]), _number(group["median_mm"]),
                     _number(group["p95_mm"]), _number(group["worst_mm"]), _number(figures["mean_mesh_mm"]),
                     _number(figures["nearest_mm"]), _ratio(figures, "mean_mesh_mm"), _ratio(figures, "nearest_mm")])
    return _table(header, rows, strong=2, total=True)


def _regions_table(regions: dict[str, dict], vertices: dict[str, int]) -> str:
    header = ["Region", "Vertices", "RMSE", "Mean mesh", "Nearest frame", "&times; mean mesh", "&times; nearest"]
    rows = [[escape(name), f"{vertices[name]:,}", _number(figures["rmse_mm"]), _number(figures["mean_mesh_mm"]),
             _number(figures["nearest_mm"]), _ratio(figures, "mean_mesh_mm"), _ratio(figures, "nearest_mm")]
            for name, figures in regions.items()]
    return _table(header, rows, strong=2)


def _matrix(shots: list[dict], regions: list[str]) -> str:
    rows = [[escape(shot["name"]), *(_number(shot["regions"][name]["rmse_mm"]) for name in regions)] for shot in shots]
    return '<p class="note" style="margin-top:24px">RMSE of each region in each shot</p>' + _table(
        ["Shot", *map(escape, regions)], rows)


def _gaps_table(shots: list[dict], overall: dict) -> str:
    header = ["Shot", "Opening", "Frames shut", "Shut below, mm", "Width wrong by, mm", "Too open by, mm"]
    rows = [[escape(shot), escape(name), f"{figures['shut_frames']:,}", _number(figures["shut_mm"]),
             _number(figures["error_mm"]), _number(figures["too_open_mm"])]
            for shot, group in [*((shot["name"], shot) for shot in shots), ("Together", overall)]
            for name, figures in group["gaps"].items()]
    return ('<h2>Closed lips and lids</h2><p class="note">Frames in which the target has them shut, and how far apart '
            "the two sides are in the solve, against the target.</p>" + _table(header, rows, names=2))


def _motion_table(shots: list[dict], overall: dict) -> str:
    header = ["Shot", "Region", "Temporal noise, mm", "Target&rsquo;s", "Still frames", "Motion kept"]
    rows = [[escape(shot), escape(region), _number(figures["noise_mm"], 3), _number(figures["target_noise_mm"], 3),
             f"{figures['still_frames']:,}", _percent(figures["attenuation"])]
            for shot, group in [*((shot["name"], shot) for shot in shots), ("Together", overall)]
            for region, figures in group["regions"].items()]
    return _table(header, rows, names=2)


def _provenance(result: dict) -> str:
    model, training = result["model"], result["training"]
    frames = sum(shot["frames"] for shot in training)
    shots = ", ".join(f"{escape(shot['name'])} ({escape(shot['role'])}, {shot['frames']:,})" for shot in training)
    facts = {"Baselines from": f"{frames:,} training frames: {shots}", "Model": escape(model["file"]),
             "SHA-256": escape(model["sha256"]), "Trained for": escape(model["actor"]),
             "Topology": escape(model["topology"]), "Unit": f"{model['millimetres_per_unit']:g} mm",
             "Crop": escape(model["crop"]), "Transfer curve": escape(model["transfer"]),
             "Components": f"{model['components']}"}
    about = escape(json.dumps(model["about"], indent=1, ensure_ascii=False))
    return ("<dl>" + "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items()) + "</dl>"
            f"<details><summary>How the model was trained</summary><pre>{about}</pre></details>")


def _table(header: list[str], rows: list[list[str]], strong: int | None = None, total: bool = False,
           names: int = 1) -> str:
    """An HTML table of ready cells. strong : column to stress; total : the last row sums up; names : text columns."""

    def cells(tag: str, row: list[str]) -> str:
        kinds = ["name" if i < names else "strong" if i == strong and tag == "td" else "" for i in range(len(row))]
        return "".join(f'<{tag} class="{kind}">{cell}</{tag}>' for kind, cell in zip(kinds, row, strict=True))

    body = "".join(f'<tr{" class=sum" if total and row is rows[-1] else ""}>{cells("td", row)}</tr>' for row in rows)
    return (f'<div class="scroll"><table><thead><tr>{cells("th", header)}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>")


def _number(value: float | None, digits: int = 2, unit: str = "") -> str:
    return "&ndash;" if value is None else f"{value:.{digits}f}{unit}"


def _percent(value: float | None) -> str:
    return "&ndash;" if value is None else f"{100 * value:.0f} %"


def _ratio(figures: dict, baseline: str) -> str:
    return f"{figures[baseline] / figures['rmse_mm']:.1f}&times;" if figures["rmse_mm"] > 0 else "&ndash;"
