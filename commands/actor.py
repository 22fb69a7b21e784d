"""new, add-shot, check, composition, runs, sample: the actor folder."""

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from .running import answer, run_job


def add_commands(command: Callable) -> None:
    """The options of this file's commands."""
    new = command("new", run_new, "make an actor folder from a template mesh",
                  "All shots of the actor have the template's vertex order. VERTICES is a file of vertex numbers that "
                  "count from 0: .npy, or text.",
                  "otto --template otto.obj --unit cm --crop 0 0 1200 1600",
                  "otto --template otto.obj --unit m --animated face.txt --region lips lips.txt --region lids lids.txt")
    new.add_argument("folder", metavar="DIR", help="the actor folder to make")
    new.add_argument("--template", required=True, metavar="FILE", help="the face at rest: OBJ, PLY or npz")
    new.add_argument("--unit", help="the length of one unit of the mesh: mm, cm, m, inch; asked for if not given")
    new.add_argument("--animated", metavar="VERTICES", help="vertices that the network moves (default: all)")
    new.add_argument("--stabiliser", metavar="VERTICES", help="vertices that move with the skull alone")
    new.add_argument("--region", nargs=2, action="append", default=[], metavar=("NAME", "VERTICES"),
                     help="a part to report errors of, as lips or lids; may be repeated")
    new.add_argument("--crop", nargs=4, type=float, metavar=("X", "Y", "W", "H"),
                     help="the part of the picture that holds the face, 3:4, in pixels; training needs it")
    new.add_argument("--name", help="the actor's name (default: the name of DIR)")
    new.add_argument("--transfer", default="sRGB", help="transfer curve of the footage (default: %(default)s)")

    shot = command("add-shot", run_add_shot, "add a cleaned shot: footage and its vertices",
                   "Sample 0 of the vertices belongs to footage frame --first-frame, sample 1 to the next, and so on. "
                   "Frames count from 0. Whole shots are held out for validation, never single frames of one.",
                   "otto rom --footage rom.mov --vertices rom.pc2 --role extreme --split train",
                   "otto talk --footage 'scans/talk.%04d.exr' --vertices talk_objs --role pangram --split validation")
    shot.add_argument("folder", metavar="DIR", help="the actor folder")
    shot.add_argument("name", metavar="NAME", help="a name for the shot")
    shot.add_argument("--footage", required=True, metavar="F", help="a movie, or a folder or pattern of pictures")
    shot.add_argument("--vertices", required=True, metavar="V", help="PC2, MDD, npy, npz, or a folder of OBJ files")
    shot.add_argument("--role", required=True, metavar="R", help="extreme, facs, pangram or character")
    shot.add_argument("--split", required=True, metavar="S", help="train or validation")
    shot.add_argument("--first-frame", type=int, default=0, metavar="N", help="footage frame of sample 0 (default: 0)")
    shot.add_argument("--status", default="cleaned", help="raw, solved, in cleanup or cleaned (default), which trains")

    check = command("check", run_check, "look for everything that is wrong in an actor folder",
                    "It ends with 1 if something stands in the way of training; warnings do not.", "otto")
    check.add_argument("folder", metavar="DIR", help="the actor folder")

    composition = command("composition", run_composition, "weigh what the cleaned shots of an actor hold",
                          "Minutes by kind against the paper's 10 % expressions, 30 % pangrams and 60 % in character, "
                          "how far each region moves, poses that repeat others, suspicious frames.", "otto")
    composition.add_argument("folder", metavar="DIR", help="the actor folder")

    runs = command("runs", run_runs, "list the training runs of an actor, the newest first",
                   "State, length, data and validation RMSE of each; --json also tells the errors by shot, role and "
                   "region.", "otto", "otto --json")
    runs.add_argument("folder", metavar="ACTOR", help="the actor folder")

    sample = command("sample", run_sample, "make a small actor with exact ground truth, to try things with",
                     "It is made from code alone, the same every time.", "demo")
    sample.add_argument("folder", metavar="DIR", help="the actor folder to make")


def run_new(options: argparse.Namespace) -> None:
    from ..core.actor import create_actor

    actor = create_actor(options.folder, options.template, options.unit or ask_unit(options), name=options.name,
                         animated=options.animated, stabiliser=options.stabiliser, regions=dict(options.region),
                         crop=options.crop, transfer=options.transfer)
    vertices, animated = len(actor.template.vertices), len(actor.animated)
    answer(options, f"Made {actor.folder}: {vertices} vertices, {animated} of them animated. "
                    f"Next: understudy add-shot {shlex.quote(options.folder)} NAME ...",
           folder=actor.folder, vertices=vertices, animated=animated)


def ask_unit(options: argparse.Namespace) -> str:
    from ..core.errors import UsageError

    if options.json or not sys.stdin.isatty():
        raise UsageError("Say with --unit how long one unit of the mesh is: mm, cm, m or inch.")
    return input("How long is one unit of the mesh: mm, cm, m or inch? ").strip()


def run_add_shot(options: argparse.Namespace) -> None:
    from ..core.actor import Actor
    from ..core.footage import open_footage

    actor = Actor.load(options.folder)
    with open_footage(options.footage, actor.transfer) as footage:
        fps = footage.fps
    shot = actor.add_shot(options.name, options.footage, options.vertices, role=options.role, split=options.split,
                          first_frame=options.first_frame, status=options.status, fps=fps)
    samples = len(shot.vertices())
    answer(options, f"Added {shot.name} with {samples} samples. Next: understudy check {shlex.quote(options.folder)}",
           shot=shot.name, samples=samples)


def run_check(options: argparse.Namespace) -> int:
    from ..core.check import check

    problems = check(options.folder)
    errors = sum(problem.severity == "error" for problem in problems)
    lines = [f"{problem.severity}: {problem.where}: {problem.message}" for problem in problems]
    answer(options, "\n".join([*lines, f"{errors} errors, {len(problems) - errors} warnings."]),
           errors=errors, problems=[dataclasses.asdict(problem) for problem in problems])
    return 1 if errors else 0


def run_composition(options: argparse.Namespace) -> None:
    from ..core.actor import Actor
    from ..core.composition import compose

    found = compose(Actor.load(options.folder))
    answer(options, "\n".join(found.lines()), **found.to_json())


def run_runs(options: argparse.Namespace) -> None:
    from ..core.actor import Actor
    from ..core.runs import describe, list_runs

    runs = list_runs(Actor.load(options.folder).folder)
    answer(options, "\n".join(map(describe, runs)) or f"{options.folder} has no runs yet.",
           runs=[run.facts() for run in runs])


def run_sample(options: argparse.Namespace) -> None:
    def work(job) -> str:
        from ..training.sample import make_sample

        make_sample(options.folder, report=job)
        return f"Made {options.folder}. Next: understudy train {shlex.quote(options.folder)} --minutes 3"

    folder = Path(options.folder)  # becomes an actor only when it is empty, so the job lies beside it
    run_job(options, folder.with_name(folder.name + ".job"), "sample", work)
