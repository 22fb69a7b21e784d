"""errors, sheet, dailies, report: a solve as artists, dailies and supervisors look at it."""

import argparse
from collections.abc import Callable
from pathlib import Path

from .running import run_job


def add_commands(command: Callable) -> None:
    """errors, sheet, dailies, report."""
    errors = command("errors", run_errors, "tell the error of every frame of a solve",
                     "As a table: what is to be expected of each frame and, where the actor has a cleaned shot of the "
                     "same footage, its RMSE by region, in mm.",
                     "talk.pc2 --actor otto --out talk.csv")
    _add_solve(errors, "X.csv")

    sheet = command("sheet", run_sheet, "make a contact sheet of a solve",
                    "The worst, the median and the best frames and every Nth: input, solve and, where the actor has a "
                    "cleaned shot of the same footage, that and the difference; else the error to be expected.",
                    "talk.pc2 --actor otto --out talk.png", "talk.pc2 --actor otto --every 24 --out talk.png")
    _add_solve(sheet, "X.png")
    sheet.add_argument("--every", type=int, metavar="N", help="show every Nth frame (default: about 12 of them)")
    _add_scale(sheet)

    dailies = command("dailies", run_dailies, "make a movie of a solve for dailies",
                      "The plate, the mesh and its error side by side, with frame numbers burnt in; H.264.",
                      "talk.pc2 --actor otto --out talk.mp4", "talk.pc2 --actor otto --range 120 239 --out part.mp4")
    _add_solve(dailies, "X.mp4")
    dailies.add_argument("--range", type=int, nargs=2, metavar=("A", "B"), help="only the frames A to B, B included")
    _add_scale(dailies)

    report = command("report", run_report, "write a page about a solve for the supervisor",
                     "One HTML file: the error of every frame, expected or against the cleaned shot, the frames that "
                     "are worth a look, what differs from training in the picture, and where all comes from.",
                     "talk.pc2 --actor otto --out talk.html")
    _add_solve(report, "X.html")


def _add_solve(command: argparse.ArgumentParser, out: str) -> None:
    command.add_argument("solve", metavar="SOLVE.pc2", help="a cache that solve has written, its sidecar beside it")
    command.add_argument("--actor", metavar="A", help="actor folder or model file (default: the folder above the solve "
                                                      "that is an actor, or its model beside it)")
    command.add_argument("--footage", metavar="F", help="what was solved (default: as the actor's shots say, or beside "
                                                        "the solve)")
    command.add_argument("--shot", metavar="S", help="the cleaned shot to measure against (default: that of the "
                                                     "same footage)")
    command.add_argument("--out", metavar=out, help="what to write (default: beside the solve)")
    command.add_argument("--job", metavar="DIR", help="job folder (default: beside the result)")


def _add_scale(command: argparse.ArgumentParser) -> None:
    command.add_argument("--limit", type=float, metavar="MM", help="millimetres at which the colours end "
                                                            "(default: fits)")


def run_errors(options: argparse.Namespace) -> None:
    def make(take, out: Path, job) -> str:
        from ..core.frame_errors import write_errors

        write_errors(out, take.errors)
        job.artifact(out, "table")
        job.results["truth"] = take.errors.truth
        if take.errors.truth:
            job.results |= {"truth_cache": str(take.truth_file), "truth_first": take.truth_first}
        return f"Wrote {take.solved.count} frames to {out}."

    _run(options, "errors", ".csv", make)


def run_sheet(options: argparse.Namespace) -> None:
    def make(take, out: Path, job) -> str:
        from ..core.dailies import sheet

        groups = sheet(take, out, options.every, options.limit, job)
        return f"Wrote {sum(map(len, groups.values()))} frames to {out}."

    _run(options, "sheet", ".png", make)


def run_dailies(options: argparse.Namespace) -> None:
    def make(take, out: Path, job) -> str:
        from ..core.dailies import movie

        made = movie(take, out, *(options.range or (None, None)), options.limit, job)
        return f"Wrote {made['frames']} frames to {out}."

    _run(options, "dailies", ".mp4", make)


def run_report(options: argparse.Namespace) -> None:
    def make(take, out: Path, job) -> str:
        from ..core.shot_report import headline, shot_report

        found = shot_report(take, out, job)
        job.results.update(found)
        return f"{headline(take, found)} The page is {out}."

    _run(options, "report", ".html", make)


def _run(options: argparse.Namespace, name: str, suffix: str, make: Callable) -> None:
    """Open the solve and have something made of it, in a job folder."""
    from ..core.errors import UsageError

    out = Path(options.out or Path(options.solve).with_suffix(suffix))
    if out.suffix.lower() != suffix:
        raise UsageError(f"{name} writes {suffix[1:].upper()}: end the name {out.name} with {suffix}.")
    if vars(options).get("limit") is not None and options.limit <= 0:
        raise UsageError("--limit is in millimetres, above 0.")
    if vars(options).get("every") is not None and options.every < 1:
        raise UsageError("--every counts frames, from 1.")

    def work(job) -> str:
        from ..core.reviewed import open_reviewed

        return make(open_reviewed(options.solve, options.actor, options.footage, options.shot, job), out, job)

    run_job(options, options.job or out.with_suffix(".job"), name, work)
