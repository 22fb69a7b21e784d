"""evaluate, compare, next, audit: how good a solve is, what to clean next, and how good the labels are."""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path

from .running import add_device, answer, run_job


def add_commands(command: Callable) -> None:
    """The options of this file's commands."""
    evaluate = command("evaluate", run_evaluate, "measure a model on the validation shots and write a report",
                       "RMSE per frame, shot, role and region, beside two baselines; CSV, JSON and a web page.",
                       "otto --out report", "otto --model otto/runs/a/model.safetensors --out report")
    evaluate.add_argument("folder", metavar="ACTOR", help="the actor folder")
    evaluate.add_argument("--model", metavar="M", help="a model file (default: ACTOR/model.safetensors)")
    evaluate.add_argument("--out", required=True, metavar="DIR", help="folder of the report, and of the job")
    add_device(evaluate)

    compare = command("compare", run_compare, "show a solve beside its cleaned shot, as a movie",
                      "Input, target, inferred and difference, for the frames that both hold.",
                      "otto talk talk.pc2 --out talk.mp4")
    compare.add_argument("folder", metavar="ACTOR", help="the actor folder")
    compare.add_argument("shot", metavar="SHOT", help="name of the cleaned shot")
    compare.add_argument("solved", metavar="X.pc2", help="the solve of the shot's footage")
    compare.add_argument("--out", required=True, metavar="M.mp4", help="the movie; its worst frame goes to M.png")
    compare.add_argument("--frames", type=int, metavar="N", help="at most N frames, from the middle (default: all)")


    following = command("next", run_next, "list the frames that are most worth cleaning",
                        "Of solves, by the error to expect of each frame and by how much it differs from the others; "
                        "of a folder, such as an actor's, all solves that lie in it.",
                        "take.pc2", "take.pc2 talk.pc2 --count 10", "otto --json")
    following.add_argument("solves", nargs="+", metavar="ACTOR_OR_SOLVE", help="solves (.pc2 or .json), or folders")
    following.add_argument("--count", type=int, default=20, metavar="N", help="frames to list (default: 20)")

    audit = command("audit", run_audit, "look for slips among the cleaned frames that a model was trained on",
                    "Frames of which the network is sure, and that lie elsewhere. It ends with 1 if there are some. "
                    "What it finds is also told by composition and in Blender, until the shot changes.", "otto")
    audit.add_argument("folder", metavar="ACTOR", help="the actor folder")
    audit.add_argument("--model", metavar="M", help="a model file (default: ACTOR/model.safetensors)")
    audit.add_argument("--out", metavar="DIR", help="folder of audit.json and audit.csv (default: ACTOR/audit)")
    add_device(audit)


def run_evaluate(options: argparse.Namespace) -> None:
    def work(job) -> str:
        from ..training.evaluate import evaluate

        result = evaluate(options.folder, options.out, model=options.model, report=job, device=options.device)
        job.results.update(headline=result["headline"], overall=result["overall"])
        return f"{table(result)}\n{result['headline']}\nThe report is {Path(options.out) / 'report.html'}."

    run_job(options, options.out, "evaluate", work)


def table(result: dict) -> str:
    """The errors of an evaluation by shot, in millimetres, beside both baselines."""
    rows = [*result["shots"], {"name": "all", **result["overall"]}]
    width = max(len(row["name"]) for row in rows)
    lines = [f"{'RMSE in mm':{width}}  frames   solved  mean mesh  nearest training frame"]
    for row in rows:
        of = row["regions"]["all"]
        lines.append(f"{row['name']:{width}}  {row['frames']:6}  {of['rmse_mm']:7.2f}  {of['mean_mesh_mm']:9.2f}  "
                     f"{of['nearest_mm']:22.2f}")
    return "\n".join(lines)


def run_compare(options: argparse.Namespace) -> None:
    out = Path(options.out)

    def work(job) -> str:
        from ..core.compare import compare

        result = compare(options.folder, options.shot, options.solved, out, frames=options.frames, report=job)
        job.results.update(result)
        return (f"Wrote {result['frames']} frames to {out}: {result['rmse_mm']:.2f} mm RMSE, at worst "
                f"{result['worst_mm']:.2f} mm in frame {result['worst_frame']}.")

    run_job(options, out.with_suffix(".job"), "compare", work)


def run_next(options: argparse.Namespace) -> None:
    from ..core.review import clean_next_of
    from ..core.solved import find_solves

    found = clean_next_of(find_solves(options.solves), options.count)
    names = [Path(one.solve).name for one in found]
    width = max(map(len, names), default=0)
    lines = [f"{name:{width}}  frame {one.frame:6}  {one.expected_mm:5.2f} mm  {one.reason}"
             for name, one in zip(names, found, strict=True)]
    answer(options, "\n".join(lines) or "No frame is left to suggest.",
           frames=[dataclasses.asdict(one) for one in found])


def run_audit(options: argparse.Namespace) -> int:
    found = []

    def work(job) -> str:
        from ..training.audit import audit

        result = audit(options.folder, options.out, model=options.model, report=job, device=options.device)
        found.extend(result["findings"])
        job.results.update(findings=found)
        return "\n".join([*(f"{one['shot']}: {one['text']}." for one in found),
                          f"{len(found)} findings in {result['frames']:,} frames."])

    run_job(options, options.out or Path(options.folder) / "audit", "audit", work)
    return 1 if found else 0
