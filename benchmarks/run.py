"""`make bench`: every benchmark on this machine, as one table, printed and stored in benchmarks/results/.

Takes about ten minutes on two cores; a CUDA device is measured too where there is one. `run.py PART ...` measures
parts alone, whose rows replace the old ones in the stored table if the machine and all versions are the same. On a busy
machine frames a second mean little; ratios mean more, and those of processor time most.
"""

import argparse
import json
import re
import statistics
import tempfile
import time
from pathlib import Path

import latency
import live
import machine
import pipeline
import solving
from measure import Effort, Side

import training

PARTS = {"solving": solving, "pipeline": pipeline, "latency": latency, "live": live, "training": training}
LEGEND = """\
Medians (lowest..highest) of {rounds} rounds, in which all sides of a comparison take turns, each in a process of its
own. Cores: how many were busy. Core ms: milliseconds of one core a frame. Ratio: against the row named; behind it the
same of processor time, which other programs hardly change. What limits: *arithmetic* is the share of a matrix product's
speed in the same precision, *memory* what the layers read and write as a share of copying speed (caches keep part of
it, so it can pass 100 %); near 100 % it limits, and where neither comes near, nothing measured here tells.
"""
HEAD = ("question", "side", "device", "frames/s", "ratio", "cores", "core ms", "what limits")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure this machine.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="only try whether everything runs; stores nothing")
    parser.add_argument("--material", metavar="DIR", help="where the movie and the model are kept for another time")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {' or '.join(unknown)}")
    effort = Effort(rounds=1, seconds=0.1) if options.quick else Effort()
    about = machine.about()
    path = Path(__file__).parent / "results" / f"{name(about)}.json"
    old = {} if options.quick else stored(path, about)
    with tempfile.TemporaryDirectory() as scratch:
        import material

        folder = Path(options.material or scratch)
        if not (folder / "model.safetensors").exists():
            print("Making a movie and a model", flush=True)
            material.make(folder)
        new = {part: measured(part, folder, about, effort) for part in options.parts or PARTS}
    parts = {part: (old | new)[part] for part in PARTS if part in old | new}
    text = page(about, parts, effort)
    print("\n" + text)
    if not options.quick:
        content = {"machine": about, "parts": parts}
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        path.with_suffix(".md").write_text(text, encoding="utf-8")
        print(f"Stored as {path} and .md")


def measured(part: str, folder: Path, about: dict, effort: Effort) -> dict:
    """The rows of a part on every device, the ceilings in the same minutes, and how busy the machine was before."""
    began, rows, ceilings = time.monotonic(), [], {}
    load = machine.load()
    for device in ("cpu", "cuda") if about["gpu"] else ("cpu",):
        with Side("machine.py", device) as side:
            ceilings[device] = side.measure()
        for row in PARTS[part].rows(folder, device, ceilings[device], effort):
            rows.append(row.told())
            print(line(rows[-1]), flush=True)
    return {"load": load, "minutes": round((time.monotonic() - began) / 60, 1), "ceilings": ceilings, "rows": rows}


def stored(path: Path, about: dict) -> dict:
    """The parts that were measured before on this machine, with these versions."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content.get("parts", {}) if content.get("machine") == about else {}


def page(about: dict, parts: dict, effort: Effort) -> str:
    facts = ", ".join(f"{fact} {value}" for fact, value in about.items() if value)
    text = f"# {title(about)}\n\n{facts}\n\n{LEGEND.format(rounds=effort.rounds)}"
    for part, found in parts.items():
        ceilings = "; ".join(
            f"{device} {limits['fp32'] / 1e9:.0f} GFLOP/s fp32, {limits['bf16'] / 1e9:.0f} bf16, "
            f"{limits['copy'] / 1e9:.0f} GB/s" for device, limits in found["ceilings"].items())
        text += (f"\n## {part.capitalize()}\n\nLoad before {found['load']}, {found['minutes']} minutes. Ceilings: "
                 f"{ceilings}.\n\n| {' | '.join(HEAD)} |\n| --- | --- | --- | ---: | ---: | ---: | ---: | --- |\n")
        text += "\n".join(map(line, found["rows"])) + "\n"
    return text


def line(row: dict) -> str:
    ratio = ""
    if row["against"]:
        mark = f", mark {row['mark']:g}" if row["mark"] else ""
        cheap = f"; {statistics.median(row['cheapness']):.2f} in processor time" if row["cheapness"] else ""
        middle = statistics.median(row["ratios"])
        ratio = f"**{middle:.2f}** ({span(row['ratios'], 2)}) of {row['against']}{cheap}{mark}"
    digits = 2 if row["unit"] else 1
    rates = row["rates"]
    value = f"{statistics.median(rates):.{digits}f} ({span(rates, digits)}) {row['unit']}".strip()
    cores = f"{statistics.median(turn['cores'] for turn in row['turns']):.1f}" if row["costs"] else ""
    cost = f"{statistics.median(row['costs']):.2f}" if row["costs"] else ""
    cells = [row["question"], row["what"], row["device"], value, ratio, cores, cost, row["limit"]]
    return f"| {' | '.join(cells)} |"


def span(values: list[float], digits: int) -> str:
    return f"{min(values):.{digits}f}..{max(values):.{digits}f}"


def title(about: dict) -> str:
    return f"{about['cpu']}, {about['cores']} cores" + (f", {about['gpu']}" if about["gpu"] else "")


def name(about: dict) -> str:
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", title(about).lower())).strip("-")


if __name__ == "__main__":
    main()
