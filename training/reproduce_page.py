"""The page of a reproduction: every claim with its verdict, then the figures. No scripts, one file."""

import base64
import shlex
from collections.abc import Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure

from ..core.files import write_text
from ..core.page import page, table, tiles
from .claims import HELD, NOT_HELD, NOT_TESTED
from .report import DOT, INK, LINE, _svg
from .variants import TRIED

MARKS = {HELD: "&#10003;", NOT_HELD: "&#10007;", NOT_TESTED: "&ndash;"}
STYLE = """<style>
table.claims td { white-space: normal; text-align: left; vertical-align: top; } table.claims th { text-align: left; }
table.claims td:first-child { white-space: nowrap; font-size: 13px; }
.held { color: #2c8a4b; font-weight: 600; white-space: nowrap; } .failed { color: #c8442c; font-weight: 600;
white-space: nowrap; } .open { color: var(--soft); white-space: nowrap; }
code { font-size: 12px; } img.figure { width: 100%; border-radius: 4px; display: block; }
</style>"""
CLASSES = {HELD: "held", NOT_HELD: "failed", NOT_TESTED: "open"}
WIDE = 1100  # pixels across of a figure in the page


def write_page(out: Path, results: dict) -> None:
    """Write report.html to `out`, with the figures that lie there."""
    write_text(out / "report.html", page(f"{results['actor']}: the paper, reproduced", "\n".join(_body(out, results))))


def _body(out: Path, results: dict) -> list[str]:
    claims, name = results["claims"], escape(results["actor"])
    counts = {verdict: sum(claim["verdict"] == verdict for claim in claims) for verdict in MARKS}
    return [
        STYLE, f"<h1>{name} &middot; Laine et al. 2017, reproduced</h1>",
        f'<p class="headline">{counts[HELD]} of the paper&rsquo;s claims held here, {counts[NOT_HELD]} did not, '
        f"{counts[NOT_TESTED]} were not tested.</p>", f'<p class="note">{_terms(results)}</p>',
        _headline_tiles(results), "<h2>Every claim</h2>", _claims(out, claims),
        "<h2>Runs</h2>", _runs(results),
        *_section("Figure 3: what the network is shown",
                  "A training picture as it is, top left, and as augmentation at full strength shows it.",
                  _image(out / "figure3.png")),
        *_section("Figure 4: convergence", _figure4_note(results), _figure(figure4(results["converged"]))),
        *_section("Figure 5: the fully connected network",
                  "Validation loss over epochs. The dashed line is the converged convolutional network.",
                  _figure(figure5(results))),
        *_section("Figure 6: every frame", "RMSE over the animated vertices; the orange dots are the frames below.",
                  _image(out / "evaluation" / "figure6.png")),
        *_section("Figure 7: input, target, inferred, difference", "The worst, the median and the best of each shot.",
                  _image(out / "evaluation" / "figure7.png")),
        *_section("Figure 8: beside a monocular peer", "Input, target, ours, the peer.", _image(out / "figure8.png"),
                  results["measured"].get("peer", {}).get("reason", "")),
        *_section("Table 1: frames a second", "The network alone, as a solve runs it; the paper&rsquo;s on a Titan X.",
                  _table1(results))]


def _section(title: str, note: str, content: str, absent: str = "") -> list[str]:
    if not content:
        content = f'<p class="note">Not tested here. {escape(absent)}</p>'
    return [f"<h2>{title}</h2>", f'<p class="note">{note}</p>', content]


def _terms(results: dict) -> str:
    settings, base = results["settings"], results["runs"].get("base")
    if not base:
        return "No run is finished yet."
    epochs = settings["epochs"]
    shorter = "" if epochs >= 200 else (
        f" The paper&rsquo;s are 200 epochs long, {200 / epochs:,.0f} times as long: what needs long training to show "
        "may not show here, and the other way round.")
    return (f"Every run is shown {base['images']:,.0f} frames ({epochs:g} epochs of {settings['frames']:,} training "
            f"frames, batches of {base['config'].get('batch', 0):g}), fully connected ones longer. A difference that "
            f"is not larger than that between seeds of the base counts as none.{shorter}")


def _headline_tiles(results: dict) -> str:
    measured, runs = results["measured"], results["runs"]
    evaluation, speed = measured.get("evaluation", {}), measured.get("speed", {})
    shown = [(evaluation.get("rmse_mm"), "{:.2f} mm", "RMSE on validation shots; the paper&rsquo;s is 0.92 mm"),
             (runs.get("base", {}).get("rmse_mm"), "{:.2f} mm", "RMSE of the first base run, which is far shorter"),
             (evaluation.get("noise_mm"), "{:.3f} mm", "temporal noise on still frames"),
             (evaluation.get("attenuation") and 100 * evaluation["attenuation"], "{:.0f} %", "of the motion kept"),
             (speed.get("online"), "{:.0f}", "frames a second one by one; the paper&rsquo;s 287"),
             (speed.get("batched"), "{:.0f}", "frames a second in batches; the paper&rsquo;s 870")]
    return tiles([(form.format(value), what) for value, form, what in shown if value])


def _claims(out: Path, claims: Sequence[dict]) -> str:
    rows = []
    for claim in claims:
        verdict = f'<span class="{CLASSES[claim["verdict"]]}">{MARKS[claim["verdict"]]} {claim["verdict"]}</span>'
        rows.append([escape(claim["where"]), escape(claim["says"]), escape(claim["paper"]), escape(claim["ours"]),
                     verdict, f"<code>--parts {claim['part']}</code>" if claim["part"] else ""])
    html = table(["Paper", "It says", "Its figure", "Ours", "Here", "Made by"], rows)
    command = f"understudy reproduce ACTOR --out {shlex.quote(out.name)} --parts PART"
    return html.replace("<table", '<table class="claims"', 1) + f'<p class="note"><code>{escape(command)}</code></p>'


def _runs(results: dict) -> str:
    rows = []
    for name, run in results["runs"].items():
        measured = results["measured"].get(name, {})
        rate = run["images"] / run["seconds"] if run["seconds"] else None
        rows.append([f"{escape(name)} <small>{escape(run['what'])}</small>", f"{run['images']:,.0f}",
                     _number(rate, "{:.0f}"), _number(run["rmse_mm"], "{:.2f}") if run["rmse_mm"] else run["state"],
                     *(_number(value, "{:.2f}") for value in run["errors"].get("shots", {}).values()),
                     _number(measured.get("noise_mm"), "{:.3f}"),
                     _number(measured.get("attenuation") and 100 * measured["attenuation"], "{:.0f} %")])
    shots = next((list(run["errors"].get("shots", {})) for run in results["runs"].values()), [])
    head = ["Run", "Frames shown", "Frames/s", "RMSE, mm", *map(escape, shots), "Noise, mm", "Motion kept"]
    rows = [row + ["&ndash;"] * (len(head) - len(row)) for row in rows]
    tried = ", ".join(f"{name} {value:g}" for name, value in TRIED.items())
    return table(head, rows) + f'<p class="note">The paper tells no magnitudes of what it rejected; here {tried}.</p>'


def _figure4_note(results: dict) -> str:
    run = results["converged"]
    if not run:
        return ""
    return (f"Training loss, with augmentation and dropout, and validation loss of the run {escape(run['name'])}, in "
            "cm&sup2;. The gray part is the ramp-down of learning rate and beta1.")


def figure4(run: dict | None) -> Figure | None:
    """Training and validation loss of one run on a logarithmic axis (paper, Fig. 4)."""
    if not run or len(run["train"]) < 2:
        return None
    figure, axes = _axes("frames shown", "loss, cm²")
    end = run["images"]
    begins = (1 - run["config"].get("ramp_down", 0.15)) * end
    axes.axvspan(begins, end, color=INK, alpha=0.07, linewidth=0)
    _curve(axes, run["train"], LINE, "training")
    _curve(axes, run["validation"], DOT, "validation", "o-")
    axes.set_xlim(0, end)
    _legend(axes)
    return figure


def figure5(results: dict) -> Figure | None:
    """Validation loss of the fully connected network, stabilised or not (paper, Fig. 5)."""
    runs, frames = results["runs"], results["settings"]["frames"]
    shown = [(runs[name], colour, label) for name, colour, label in (
        ("fully-connected", LINE, "stabilised pictures"), ("fully-connected-unstabilised", DOT, "pictures as they are"))
        if runs.get(name, {}).get("validation")]
    if not shown:
        return None
    figure, axes = _axes("epochs", "validation loss, cm²")
    for run, colour, label in shown:
        _curve(axes, [(images / frames, rmse) for images, rmse in run["validation"]], colour, label, "o-")
    line = results["measured"].get("evaluation", {}).get("rmse_mm") or runs.get("base", {}).get("rmse_mm")
    if line:
        axes.axhline((line / 10) ** 2 / 3, color=INK, linestyle="--", linewidth=1.1, label="convolutional, converged")
    _legend(axes)
    return figure


def _axes(across: str, up: str) -> tuple:
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.set_yscale("log")
    axes.set_xlabel(across, color=INK, fontsize=9)
    axes.set_ylabel(up, color=INK, fontsize=9)
    axes.tick_params(which="both", colors=INK, labelsize=8.5, length=3)
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    return figure, axes


def _curve(axes, points: Sequence[tuple[float, float]], colour: str, label: str, style: str = "-") -> None:
    """A curve of losses in cm2; points : place and RMSE in mm."""
    places, rmse = np.array(points, float).reshape(-1, 2).T
    axes.plot(places, (rmse / 10) ** 2 / 3, style, color=colour, linewidth=1.2, markersize=3.5, label=label)


def _legend(axes) -> None:
    for text in axes.legend(frameon=False, fontsize=9).get_texts():
        text.set_color(INK)


def _figure(figure: Figure | None) -> str:
    return _svg(figure) if figure is not None else ""


def _image(path: Path) -> str:
    """A picture for the page, as JPEG and no larger than needed; empty if there is none."""
    picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) if path.is_file() else None
    if picture is None:
        return ""
    if picture.shape[1] > WIDE:
        picture = cv2.resize(picture, (WIDE, round(WIDE * picture.shape[0] / picture.shape[1])),
                             interpolation=cv2.INTER_AREA)
    data = base64.b64encode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]).decode()
    return f'<img class="figure" alt="{escape(path.stem)}" src="data:image/jpeg;base64,{data}">'


def _table1(results: dict) -> str:
    speed, other = results["measured"].get("speed", {}), results["measured"].get("peer", {})
    if "online" not in speed:
        return ""
    rows = [["The paper", "28", "28", "287", "870"],
            ["Here", "&ndash;", _number(other.get("fps"), "{:.0f}"), f"{speed['online']:.0f}",
             f"{speed['batched']:.0f}"]]
    head = ["Frames a second", "Cao et al. 2014", "Thies et al. 2016; here the peer", "Online", "In batches"]
    engines = f"{speed['online_engine']}, {speed['batched_engine']}"
    return table(head, rows) + f'<p class="note">On {escape(speed["device"])}: {escape(engines)}.</p>'


def _number(value: float | None, form: str) -> str:
    return "&ndash;" if value is None else form.format(value)
