"""`make bench`: every benchmark on this machine, as one table, printed and stored in benchmarks/results/.

Takes about five minutes on two quiet cores; a busy machine gives figures that mean nothing. The same command measures
a CUDA device too where there is one.
"""

import argparse
import dataclasses
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
from measure import Effort, Row, Side

import training

LEGEND = """\
Medians (lowest..highest) of {rounds} rounds, in which all sides of a comparison take turns, each in a process of its
own. Cores: how many were busy. Ratio: against the row named. What limits: *arithmetic* is the share of a matrix
product's speed in the same precision, *memory* what the layers read and write as a share of copying speed (caches keep
part of it, so it can pass 100 %); near 100 % it limits, and where neither comes near, nothing measured here tells.
Ceilings: {ceilings}.
"""
HEAD = ("question", "side", "device", "frames/s", "ratio", "cores", "what limits")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure this machine.")
    parser.add_argument("--quick", action="store_true", help="only try whether everything runs; stores nothing")
    quick = parser.parse_args().quick
    effort = Effort(rounds=1, seconds=0.1) if quick else Effort()
    about, began = machine.about(), time.monotonic()
    rows, ceilings = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        import material

        folder = Path(scratch)
        print("Making a movie and a model", flush=True)
        material.make(folder)
        for device in ("cpu", "cuda") if about["gpu"] else ("cpu",):
            with Side("machine.py", device) as side:
                ceilings[device] = side.measure()
            for question in (solving, pipeline, latency, live, training):
                for row in question.rows(folder, device, ceilings[device], effort):
                    rows.append(row)
                    print(line(row), flush=True)
    about["minutes"] = round((time.monotonic() - began) / 60, 1)
    text = page(about, ceilings, rows, effort)
    print("\n" + text)
    if not quick:
        store(about, ceilings, rows, text)


def page(about: dict, ceilings: dict, rows: list[Row], effort: Effort) -> str:
    told = "; ".join(f"{device} {limits['fp32'] / 1e9:.0f} GFLOP/s fp32, {limits['bf16'] / 1e9:.0f} bf16, "
                     f"{limits['copy'] / 1e9:.0f} GB/s" for device, limits in ceilings.items())
    facts = ", ".join(f"{name} {value}" for name, value in about.items() if value)
    table = "\n".join([f"| {' | '.join(HEAD)} |", "| --- | --- | --- | ---: | ---: | ---: | --- |", *map(line, rows)])
    return f"# {title(about)}\n\n{facts}\n\n{LEGEND.format(rounds=effort.rounds, ceilings=told)}\n{table}\n"


def line(row: Row) -> str:
    ratio = ""
    if row.against:
        mark = f", mark {row.mark:g}" if row.mark else ""
        ratio = f"**{statistics.median(row.ratios):.2f}** ({span(row.ratios, 2)}) of {row.against.what}{mark}"
    digits = 2 if row.unit else 1
    value = f"{row.median('rate'):.{digits}f} ({span(row.rates, digits)}) {row.unit}".strip()
    cores = f"{row.median('cores'):.1f}" if "cores" in row.turns[0] else ""
    cells = [row.question, row.what, row.device, value, ratio, cores, row.limit]
    return f"| {' | '.join(cells)} |"


def span(values: list[float], digits: int) -> str:
    return f"{min(values):.{digits}f}..{max(values):.{digits}f}"


def title(about: dict) -> str:
    return f"{about['cpu']}, {about['cores']} cores" + (f", {about['gpu']}" if about["gpu"] else "")


def store(about: dict, ceilings: dict, rows: list[Row], text: str) -> None:
    name = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", title(about).lower())).strip("-")
    path = Path(__file__).parent / "results" / f"{name}.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    listed = [dataclasses.asdict(row) | {"against": row.against.what if row.against else None, "ratios": row.ratios}
              for row in rows]
    content = {"machine": about, "ceilings": ceilings, "rows": listed}
    path.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"Stored as {path} and .json")


if __name__ == "__main__":
    main()
