"""What our web pages share: one look, tables, curves and pictures, in one file without scripts or links."""

import base64
from collections.abc import Sequence
from html import escape

import numpy as np

from .draw import png

STYLE = """
:root { --ink: #1d2126; --soft: #68707a; --line: #e2e5e9; --page: #fbfbfa; --card: #ffffff; --accent: #2a6fad; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e6e9; --soft: #98a0aa; --line: #33383f; --page: #17191c; --card: #1f2226; --accent: #6db1ea; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 48px 28px 80px; }
h1 { font-size: 15px; font-weight: 600; color: var(--soft); margin: 0; }
h2 { font-size: 18px; font-weight: 600; margin: 52px 0 4px; }
.headline { font-size: 25px; line-height: 1.35; font-weight: 600; max-width: 34em; margin: 10px 0 24px; }
.note { color: var(--soft); max-width: 50em; margin: 2px 0 14px; }
.warning { border-left: 4px solid #e8842c; padding: 8px 14px; background: var(--card); margin: 0 0 24px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); gap: 12px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 14px 16px; }
.tile b { display: block; font-size: 25px; font-weight: 600; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 13px; line-height: 1.35; display: block; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }
th { font-weight: 500; color: var(--soft); text-align: right; vertical-align: bottom; }
th, td { padding: 6px 10px; border-bottom: 1px solid var(--line); white-space: nowrap; }
td { text-align: right; } th.name, td.name { text-align: left; padding-left: 0; }
td.strong { font-weight: 600; color: var(--accent); }
tr.sum td { border-top: 2px solid var(--line); border-bottom: 0; font-weight: 600; }
svg { width: 100%; height: auto; display: block; }
.row { display: grid; grid-template-columns: 124px 1fr; gap: 12px; align-items: center; margin: 0 0 6px; }
.row div { overflow-wrap: anywhere; }
.row img { width: 100%; display: block; border-radius: 4px; }
.row small { color: var(--soft); display: block; white-space: nowrap; line-height: 1.4; }
.columns { display: grid; grid-template-columns: repeat(4, 1fr); text-align: center; color: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 20px; margin: 12px 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 14px; overflow-x: auto; }
summary { cursor: pointer; color: var(--soft); }
@media print { .row { break-inside: avoid; } }
"""

POINTS = 1200  # of a curve at most; of more, the largest of each group is drawn
WIDTH, HEIGHT, LEFT, BOTTOM = 1000, 220, 44, 24
COLOURS = ("#3987c8", "#e8842c")


def page(title: str, body: str) -> str:
    """A whole page of ready HTML.    title : plain text."""
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>
{body}
</main></body></html>
"""


def tiles(pairs: Sequence[tuple[str, str]]) -> str:
    """Large figures with what they are, both ready HTML."""
    return '<div class="tiles">' + "".join(f'<div class="tile"><b>{value}</b><span>{text}</span></div>'
                                           for value, text in pairs) + "</div>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of ready HTML cells; the first column is text, the others are numbers."""
    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f'<{tag} class="{"" if i else "name"}">{cell}</{tag}>'
                                for i, cell in enumerate(cells)) + "</tr>"

    return (f'<div class="scroll"><table><thead>{line("th", header)}</thead><tbody>'
            + "".join(line("td", row) for row in rows) + "</tbody></table></div>")


def facts(pairs: dict[str, str]) -> str:
    """Names and values, both plain text."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs.items())
    return f"<dl>{rows}</dl>"


def image(picture: np.ndarray, alt: str) -> str:
    """A picture, (h, w, 3) uint8 BGR, inside the page."""
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{base64.b64encode(png(picture)).decode()}">'


def curves(first: int, lines: Sequence[tuple[str, np.ndarray]], marks: Sequence[int] = (),
           shaded: np.ndarray | None = None) -> str:
    """Curves of mm over frames as SVG, in the page's colours.

    first : frame of the first value.    lines : name and (n,) values, NaN leaves a gap; at most two.    marks : frames
    to point at.    shaded : (n,) bool, frames that do not count.
    """
    count = max(len(values) for _, values in lines)
    known = np.concatenate([values[np.isfinite(values)] for _, values in lines])
    top = max(float(known.max()) * 1.08, 1e-3) if len(known) else 1.0
    step = next(step for power in range(-3, 6) for part in (1, 2, 5) if (step := part * 10.0 ** power) >= top / 5)

    def x(sample: float) -> float:
        return LEFT + (WIDTH - LEFT - 8) * (sample + 0.5) / count

    def y(value: float) -> float:
        return (HEIGHT - BOTTOM) * (1 - value / top) + 4

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 8}" font-size="12" fill="currentColor">']
    for start, stop in _runs(shaded if shaded is not None else np.zeros(count, bool)):
        parts.append(f'<rect x="{x(start - 0.5):.1f}" y="4" width="{x(stop - 0.5) - x(start - 0.5):.1f}" '
                     f'height="{HEIGHT - BOTTOM}" opacity="0.12"/>')
    for tick in np.arange(0, top, step):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 8}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="currentColor" '
                     f'opacity="0.15"/><text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end" opacity="0.7">'
                     f"{tick:g}</text>")
    for (_, values), colour in zip(lines, COLOURS, strict=False):
        for points in _polylines(values):
            path = " ".join(f"{x(sample):.1f},{y(value):.1f}" for sample, value in points)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.4"/>')
    for frame in marks:
        at = x(frame - first)
        parts.append(f'<path d="M{at:.1f},{HEIGHT - BOTTOM + 4} l4,7 h-8 z" fill="{COLOURS[1]}"/>')
    for sample in (0, count // 4, count // 2, 3 * count // 4, count - 1):
        parts.append(f'<text x="{x(sample):.1f}" y="{HEIGHT + 4}" text-anchor="middle" opacity="0.7">{first + sample}'
                     "</text>")
    names = "".join(f'<span style="color:{colour}">&#9644;</span> {escape(name)} &nbsp; '
                    for (name, _), colour in zip(lines, COLOURS, strict=False))
    return "".join(parts) + f'</svg><p class="note">{names} mm over footage frames</p>'


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Where flags are set: (start, stop)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _polylines(values: np.ndarray) -> list[list[tuple[float, float]]]:
    """(sample, value) of each unbroken run; of many, the largest of each group."""
    group = -(-len(values) // POINTS)
    lines = []
    for start, stop in _runs(np.isfinite(values)):
        line = []
        for begin in range(start, stop, group):
            here = values[begin:min(begin + group, stop)]
            line.append((float(begin + here.argmax()), float(here.max())))
        lines.append(line)
    return lines
