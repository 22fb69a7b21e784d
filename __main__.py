"""The command line: `understudy`, `python -m understudy`, or this file run by any interpreter that has torch.

Parses, calls one function of core or training, prints. Whatever is heavy is imported by the command that needs it.
"""

import argparse
import contextlib
import dataclasses
import faulthandler
import importlib.util
import json
import os
import queue
import shlex
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - anybody may choose any interpreter, and wants no traceback for it
    sys.exit(f"Understudy needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}.")

EPILOG = """\
from cleaned shots to a solved take:
  understudy new otto --template otto.obj --unit cm --crop 0 0 1200 1600
  understudy add-shot otto rom --footage rom.mov --vertices rom.pc2 --role extreme --split train
  understudy add-shot otto talk --footage talk.mov --vertices talk.pc2 --role pangram --split validation
  understudy check otto
  understudy train otto --minutes 20
  understudy solve otto/model.safetensors take.mov --out take.pc2
  understudy evaluate otto --out report
without an actor at hand, start with: understudy sample demo

exit codes: 0 done, 1 failed, 2 wrong arguments, 3 cancelled (Ctrl-C once, and the job ends after its step)
"""


# s that a served command has to stop when whoever asked for it is gone, and when it is in the middle of a cache
ORPHAN_GRACE, CACHE_GRACE = 1.5, 30.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 done, 1 failed, 2 wrong arguments, 3 cancelled."""
    return attempt(arguments)[0]


def attempt(arguments: Sequence[str] | None) -> tuple[int, bool]:
    """Run one command; returns its exit code, and whether a job folder tells of how it ended."""
    from .core.errors import Cancelled, UnderstudyError
    from .core.jobs import sentence

    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # not a stream of Python's own
            stream.reconfigure(errors="backslashreplace")
    try:
        options = parser().parse_args(arguments)
    except SystemExit as stop:  # argparse has said why
        return int(stop.code or 0), False
    try:
        return options.run(options) or 0, options.told
    except KeyboardInterrupt:
        error: BaseException = Cancelled("Cancelled.")
    except Exception as caught:
        error = caught
    if options.debug:
        traceback.print_exception(error)
    if options.json and not options.told:
        event = {"type": "cancelled" if isinstance(error, Cancelled) else "failed", "text": sentence(error)}
        print(json.dumps(event, ensure_ascii=False))
    print(f"understudy: {sentence(error)}", file=sys.stderr)
    if not isinstance(error, UnderstudyError) and not options.debug:
        print("Add --debug to see where this came from.", file=sys.stderr)
    return getattr(error, "exit_code", 1), options.told


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    from . import __version__

    root = argparse.ArgumentParser(
        prog="understudy", description="Learn an actor's face from cleaned shots and solve the rest of the footage.",
        epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
        parents=[common_options()])
    root.set_defaults(json=False, debug=False, told=False)
    root.add_argument("--version", action="version", version=f"understudy {__version__}")
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Callable, help: str, text: str, *examples: str) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name, help=help, description=textwrap.fill(f"{help[0].upper()}{help[1:]}. {text}", 80),
            allow_abbrev=False, parents=[common_options()],
            epilog="examples:\n" + "\n".join(f"  understudy {name} {example}" for example in examples),
            formatter_class=argparse.RawDescriptionHelpFormatter)
        added.set_defaults(run=run)
        return added

    add_actor_commands(command)
    add_job_commands(command)
    add_question_commands(command)
    return root


def common_options() -> argparse.ArgumentParser:
    """What may stand before or after the command. Made anew for each parser, which sets defaults of its own."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS,
                        help="print what happens as lines of JSON, for programs")
    common.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="print tracebacks of errors")
    return common


def add_actor_commands(command: Callable) -> None:
    """new, add-shot, check, runs: the actor folder."""
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


def add_job_commands(command: Callable) -> None:
    """sample, train, solve, evaluate, compare, watch: what takes time, each a job folder."""
    sample = command("sample", run_sample, "make a small actor with exact ground truth, to try things with",
                     "It is made from code alone, the same every time.", "demo")
    sample.add_argument("folder", metavar="DIR", help="the actor folder to make")

    train = command("train", run_train, "train an actor's network on the cleaned shots",
                    "The best model on the validation shots is put at DIR/model.safetensors. Ctrl-C saves a checkpoint "
                    "to --resume from.",
                    "otto --minutes 20", "otto --preset paper --device cuda",
                    "otto --resume otto/runs/2026-03-01_18-00-00", "otto --from otto/model.safetensors --epochs 5")
    train.epilog += ("\n\non several GPUs or machines, the batch being shared out among them:\n"
                     "  torchrun --nproc-per-node 4 -m understudy train otto --batch 200")
    train.add_argument("folder", metavar="DIR", help="the actor folder")
    length = train.add_mutually_exclusive_group()
    length.add_argument("--preset", metavar="P",
                        help="paper (200 epochs; default), quick (15), smoke (does it run at all?)")
    length.add_argument("--epochs", type=float, metavar="N", help="the paper's schedule over N epochs")
    length.add_argument("--minutes", type=float, metavar="M", help="the schedule of preset quick over M minutes")
    length.add_argument("--resume", metavar="RUN", help="go on with a run that was stopped, as if it never had been")
    train.add_argument("--from", dest="start_from", metavar="MODEL", help="start from a model of the same topology")
    train.add_argument("--run", dest="run_folder", metavar="RUN", help="run folder (default: DIR/runs/DATE_TIME)")
    train.add_argument("--freeze-output", action="store_true", default=None, help="keep the output layer from PCA")
    train.add_argument("--batch", type=int, metavar="N", help="frames a step (default: 50, the paper's)")
    train.add_argument("--seed", type=int, metavar="N", help="of the initial weights and the augmentation (default: 0)")
    train.add_argument("--tensorboard", action="store_true", help="mirror the metrics to RUN/tensorboard")
    add_device(train)

    solve = command("solve", run_solve, "solve footage to a mesh cache",
                    "The cache's suffix says what it is: .pc2, .mdd or .npz. Frames count from 0.",
                    "otto/model.safetensors take.mov --out take.pc2",
                    "otto/model.safetensors take.mov --range 1200 1799 --out part.pc2",
                    "otto take.mov --range 300 340 --live --base take.v001.pc2 --out take.v002.pc2")
    solve.add_argument("model", metavar="MODEL", help="a model file, or an actor folder")
    solve.add_argument("footage", metavar="FOOTAGE", help="a movie, or a folder or pattern of pictures")
    solve.add_argument("--out", required=True, metavar="X.pc2",
                       help="the cache to write; beside it X.json tells of it, and X.npy holds its codes")
    solve.add_argument("--range", type=int, nargs=2, metavar=("A", "B"),
                       help="solve the frames A to B, B included (default: all)")
    solve.add_argument("--crop", type=float, nargs=4, metavar=("X", "Y", "W", "H"),
                       help="where the face is in this footage, 3:4, in pixels (default: where the model has it)")
    solve.add_argument("--live", action="store_true",
                       help="write X.pc2, a new file, so that Blender can show it while it grows")
    solve.add_argument("--base", metavar="OLD.pc2",
                       help="with --live: begin as a copy of this solve, and replace the range or go on behind it")
    size = solve.add_mutually_exclusive_group()
    size.add_argument("--batch", type=int, metavar="N", help="frames at once (default: what the device likes)")
    size.add_argument("--online", action="store_true", help="one frame at a time, each written as soon as it is read")
    solve.add_argument("--engine", default="auto", metavar="E", help="auto (default), torch, compiled, openvino")
    solve.add_argument("--job", metavar="DIR", help="job folder (default: X.job beside the cache)")
    add_device(solve)

    live = command("live", run_live, "let a camera, or a movie played in real time, drive the mesh",
                   "The newest vertices are in a small file that Blender looks at (core/livefeed.py). Frames that come "
                   "too fast are dropped. Ctrl-C ends it.",
                   "otto 0", "otto take.mov --job live.job")
    live.add_argument("model", metavar="MODEL", help="a model file, or an actor folder")
    live.add_argument("source", metavar="SOURCE", help="a camera, counted from 0, or a movie")
    live.add_argument("--out", metavar="FILE", help="the file for the vertices (default: JOB/vertices.live)")
    add_crop(live, "where the face is in the picture, 3:4, in pixels (default: where the model has it)")
    live.add_argument("--engine", default="auto", metavar="E", help="as in solve")
    live.add_argument("--job", metavar="DIR", help="job folder (default: live.job)")
    add_device(live)

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

    watch = command("watch", run_watch, "show a job that runs, or has run, anywhere",
                    "Ends with the job, and with its exit code. Ctrl-C ends the watching, not the job.",
                    "otto/runs/2026-03-01_18-00-00", "take.job --cancel")
    watch.add_argument("folder", metavar="RUN", help="a job folder: a run, a report, X.job beside a cache")
    watch.add_argument("--cancel", action="store_true", help="ask the job to stop, then watch it do so")

    warm = command("warm", run_warm, "load a model, so that the next solve in this process begins at once",
                   "It is of use in `understudy serve` only.", "otto --job warm.job")
    warm.add_argument("model", metavar="MODEL", help="a model file, or an actor folder")
    warm.add_argument("--job", required=True, metavar="DIR", help="job folder")
    add_device(warm)

    served = command("serve", run_serve, "run the commands that come on standard input, for programs",
                     "One JSON list of arguments a line, each with --job DIR, which is where it is answered. The last "
                     "model stays loaded. When standard input ends, the running command is cancelled.", "")
    served.add_argument("--gpu-memory", type=float, default=0, metavar="GB",
                        help="gigabytes of GPU memory that it may take (default: as much as it needs)")


def add_question_commands(command: Callable) -> None:
    """probe, picture, suggest-crop, doctor: what is answered in a second; programs get the answer in a job folder."""
    probe = command("probe", run_probe, "tell what footage is, and whether it is framed as the training footage was",
                    "Size, exact number of frames, frame rate, sound and timecode; given a model, also how far the "
                    "picture has moved, turned, grown or changed its light against what the model was trained on.",
                    "take.mov", "take.mov --model otto")
    probe.add_argument("footage", metavar="FOOTAGE", help="a movie, or a folder or pattern of pictures")
    probe.add_argument("--model", metavar="MODEL", help="a model file, or an actor folder")
    add_crop(probe, "compare this part of the picture with the training footage (default: the model's crop)")

    picture = command("picture", run_picture, "write one frame as the network sees it",
                      "240 x 320 gray pixels with a crop, else the whole picture in gray, at most 1024 pixels wide.",
                      "take.mov --frame 120 --crop 0 0 1200 1600 --out input.png")
    picture.add_argument("footage", metavar="FOOTAGE", help="a movie, or a folder or pattern of pictures")
    picture.add_argument("--frame", type=int, required=True, metavar="N", help="which frame, counted from 0")
    picture.add_argument("--out", required=True, metavar="P.png", help="the picture to write")
    add_crop(picture, "the part of the picture that the network sees")

    suggest = command("suggest-crop", run_suggest_crop, "look for the face in footage and lay a crop around it",
                      "Look at the result before training with it.", "take.mov")
    suggest.add_argument("footage", metavar="FOOTAGE", help="a movie, or a folder or pattern of pictures")

    doctor = command("doctor", run_doctor, "tell what this Python has, what it lacks, and where it would solve",
                     "Python, packages, GPUs and memory. It ends with 1 if it cannot solve.", "", "--device cuda")
    add_device(doctor)
    for question in (probe, picture, suggest, doctor):
        question.add_argument("--job", metavar="DIR", help="answer in a job folder, for programs")


def add_crop(command: argparse.ArgumentParser, help: str) -> None:
    command.add_argument("--crop", nargs=4, type=float, metavar=("X", "Y", "W", "H"), help=help)


def add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", metavar="D", help="auto (default), cpu, cuda, cuda:1, mps")


# ---- the actor folder


def run_new(options: argparse.Namespace) -> None:
    from .core.actor import create_actor

    actor = create_actor(options.folder, options.template, options.unit or ask_unit(options), name=options.name,
                         animated=options.animated, stabiliser=options.stabiliser, regions=dict(options.region),
                         crop=options.crop, transfer=options.transfer)
    vertices, animated = len(actor.template.vertices), len(actor.animated)
    answer(options, f"Made {actor.folder}: {vertices} vertices, {animated} of them animated. "
                    f"Next: understudy add-shot {shlex.quote(options.folder)} NAME ...",
           folder=actor.folder, vertices=vertices, animated=animated)


def ask_unit(options: argparse.Namespace) -> str:
    from .core.errors import UsageError

    if options.json or not sys.stdin.isatty():
        raise UsageError("Say with --unit how long one unit of the mesh is: mm, cm, m or inch.")
    return input("How long is one unit of the mesh: mm, cm, m or inch? ").strip()


def run_add_shot(options: argparse.Namespace) -> None:
    from .core.actor import Actor
    from .core.footage import open_footage

    actor = Actor.load(options.folder)
    with open_footage(options.footage, actor.transfer) as footage:
        fps = footage.fps
    shot = actor.add_shot(options.name, options.footage, options.vertices, role=options.role, split=options.split,
                          first_frame=options.first_frame, status=options.status, fps=fps)
    samples = len(shot.vertices())
    answer(options, f"Added {shot.name} with {samples} samples. Next: understudy check {shlex.quote(options.folder)}",
           shot=shot.name, samples=samples)


def run_check(options: argparse.Namespace) -> int:
    from .core.check import check

    problems = check(options.folder)
    errors = sum(problem.severity == "error" for problem in problems)
    lines = [f"{problem.severity}: {problem.where}: {problem.message}" for problem in problems]
    answer(options, "\n".join([*lines, f"{errors} errors, {len(problems) - errors} warnings."]),
           errors=errors, problems=[dataclasses.asdict(problem) for problem in problems])
    return 1 if errors else 0


def run_composition(options: argparse.Namespace) -> None:
    from .core.actor import Actor
    from .core.composition import compose

    found = compose(Actor.load(options.folder))
    answer(options, "\n".join(found.lines()), **found.to_json())


def run_runs(options: argparse.Namespace) -> None:
    from .core.actor import Actor
    from .core.runs import describe, list_runs

    runs = list_runs(Actor.load(options.folder).folder)
    answer(options, "\n".join(map(describe, runs)) or f"{options.folder} has no runs yet.",
           runs=[run.facts() for run in runs])


def answer(options: argparse.Namespace, text: str, **results: object) -> None:
    """What a command without a job folder has to say."""
    from .core.jobs import plain

    event = {"type": "done", "time": time.time(), **plain(results)}
    print(json.dumps(event, ensure_ascii=False) if options.json else text)


# ---- questions


def run_probe(options: argparse.Namespace) -> None:
    def work() -> tuple[str, dict]:
        from .core.probe import describe, probe

        facts = probe(options.footage, options.model, options.crop)
        return describe(options.footage, facts), facts

    run_question(options, "probe", work)


def run_picture(options: argparse.Namespace) -> None:
    def work() -> tuple[str, dict]:
        from .core.probe import picture

        width, height = picture(options.footage, options.frame, options.out, options.crop)
        return f"Wrote {width} x {height} pixels to {options.out}.", {"width": width, "height": height}

    run_question(options, "picture", work)


def run_suggest_crop(options: argparse.Namespace) -> None:
    def work() -> tuple[str, dict]:
        from .core.suggest import suggest_crop

        found = suggest_crop(options.footage)
        crop = [found.crop.x, found.crop.y, found.crop.width, found.crop.height]
        text = f"--crop {' '.join(f'{edge:g}' for edge in crop)}   # {found.how}"
        return text, {"crop": crop, "how": found.how, "confidence": found.confidence}

    run_question(options, "suggest-crop", work)


def run_doctor(options: argparse.Namespace) -> int:
    from .core.doctor import examine

    results: dict = {}

    def work() -> tuple[str, dict]:
        results.update(examine(options.device))
        return "\n".join(results["lines"]), results

    run_question(options, "doctor", work)
    return 0 if results["ready"] else 1


def run_question(options: argparse.Namespace, name: str, work: Callable[[], tuple[str, dict]]) -> None:
    """Print the text that `work` returns, or its results, or put them in a job folder."""
    def answer_in(job) -> str:
        text, results = work()
        job.results.update(results)
        return text

    if options.job:
        run_job(options, options.job, name, answer_in)
    else:
        text, results = work()
        answer(options, text, **results)


# ---- jobs


def run_sample(options: argparse.Namespace) -> None:
    def work(job) -> str:
        from .training.sample import make_sample

        make_sample(options.folder, report=job)
        return f"Made {options.folder}. Next: understudy train {shlex.quote(options.folder)} --minutes 3"

    folder = Path(options.folder)  # becomes an actor only when it is empty, so the job lies beside it
    run_job(options, folder.with_name(folder.name + ".job"), "sample", work)


def run_train(options: argparse.Namespace) -> None:
    from .core.actor import Actor
    from .core.errors import UnderstudyError, UsageError
    from .core.jobs import STARTED
    from .core.process import step_back

    Actor.load(options.folder)  # says what is wrong before a run folder is made
    changes = {name: value for name in ("epochs", "minutes", "batch", "seed", "freeze_output")
               if (value := vars(options)[name]) is not None}
    if options.resume and (changes or options.start_from or options.run_folder):
        raise UsageError("--resume goes on with the run as it was begun: leave out what would change it.")
    if options.resume and not (Path(options.resume) / "config.json").is_file():
        raise UnderstudyError(f"{options.resume} is no run: it has no config.json. Runs lie in {options.folder}/runs.")
    if STARTED in os.environ:  # by a program with a window, which has to stay live
        step_back()
    folder = Path(options.resume or options.run_folder
                  or Path(options.folder) / "runs" / time.strftime("%Y-%m-%d_%H-%M-%S"))

    def work(job) -> str:
        from .training.config import Config
        from .training.loop import train

        preset = options.preset or ("quick" if options.minutes else "paper")
        config = dataclasses.replace(Config.preset(preset), **changes)
        train(options.folder, config, run=folder, resume=options.resume, start_from=options.start_from,
              device=options.device, report=job)
        return (f"The model is {Path(options.folder) / 'model.safetensors'}, the run {folder}. "
                f"Next: understudy evaluate {shlex.quote(options.folder)} --out report")

    if int(os.environ.get("RANK", 0)):  # torchrun started several of us: the first has the job, this one only helps
        from .core.jobs import Deputy
        from .core.process import prepare

        prepare()
        with Deputy() as deputy:
            work(deputy)
        return
    run_job(options, folder, "train", work, tensorboard=options.tensorboard)


def run_solve(options: argparse.Namespace) -> None:
    out = Path(options.out)
    model = Path(options.model)
    first, last = options.range or (None, None)

    def work(job) -> str:
        from .core.solve import solve

        sidecar = solve(model / "model.safetensors" if model.is_dir() else model, options.footage, out, first=first,
                        last=last, batch=1 if options.online else options.batch, device=options.device,
                        engine=options.engine, crop=options.crop, live=options.live, base=options.base, report=job)
        job.results.update({name: sidecar[name] for name in ("first", "last", "engine", "device", "batch")})
        return f"Wrote frames {sidecar['first']} to {sidecar['last']} to {out}, solved by {sidecar['engine']}."

    run_job(options, options.job or out.with_suffix(".job"), "solve", work)


def run_live(options: argparse.Namespace) -> None:
    model, folder = Path(options.model), Path(options.job or "live.job")

    def work(job) -> str:
        from .core.livesolve import live

        result = live(model / "model.safetensors" if model.is_dir() else model, options.source,
                      options.out or folder / "vertices.live", device=options.device, engine=options.engine,
                      crop=options.crop, report=job)
        job.results.update(result)
        return (f"{result['frames']} frames, {result['fps']:.0f} a second, each {result['latency_ms']:.0f} ms after it "
                f"was captured (95 % within {result['latency_95_ms']:.0f} ms); {result['dropped']} were dropped.")

    run_job(options, folder, "live", work)


def run_warm(options: argparse.Namespace) -> None:
    model = Path(options.model)

    def work(job) -> str:
        from .core.solve import warm_up

        warm_up(model / "model.safetensors" if model.is_dir() else model, options.device)
        return f"{model} is loaded."

    run_job(options, options.job, "warm", work)


def run_serve(options: argparse.Namespace) -> None:
    from .core import process
    from .core.jobs import STARTED, follow_parent

    process.gpu_memory = options.gpu_memory
    os.environ.pop(STARTED, None)
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def hear(line: bytes) -> None:
        lines.put(line)
        if not line:
            threading.Thread(target=give_up, daemon=True).start()

    process.step_back()
    follow_parent(hear)
    while line := lines.get():
        serve(json.loads(line))


def give_up() -> None:
    """End this process, whose parent is gone, also in the middle of a long step; but leave no half cache if possible.

    Importing torch is such a step, and nothing is being written then.
    """
    end = time.monotonic() + CACHE_GRACE
    time.sleep(ORPHAN_GRACE)
    while getattr(sys.modules.get(f"{__package__}.core.live"), "growing", None) and time.monotonic() < end:
        time.sleep(0.02)
    os._exit(3)


def serve(arguments: list[str]) -> None:
    """Run one command whose job folder is named by its last --job, and see to it that the folder tells how it ended."""
    from .core.errors import UsageError
    from .core.events import Watcher
    from .core.jobs import STARTED, Job
    from .core.terminal import noise_to

    folder = Path(arguments[-arguments[::-1].index("--job")])
    os.environ[STARTED] = "served"
    with noise_to(folder / "log.txt"):
        code, told = attempt(arguments)
    # It failed before its job began, or had no room for its last word. Without a folder to write to, this process ends,
    # which is seen too.
    if not told:
        with contextlib.suppress(UsageError), Job(folder, arguments[0]):
            if code:
                raise UsageError(next(iter(Watcher(folder).log_tail(1)), f"It ended with exit code {code}."))


def run_evaluate(options: argparse.Namespace) -> None:
    def work(job) -> str:
        from .training.evaluate import evaluate

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
        from .core.compare import compare

        result = compare(options.folder, options.shot, options.solved, out, frames=options.frames, report=job)
        job.results.update(result)
        return (f"Wrote {result['frames']} frames to {out}: {result['rmse_mm']:.2f} mm RMSE, at worst "
                f"{result['worst_mm']:.2f} mm in frame {result['worst_frame']}.")

    run_job(options, out.with_suffix(".job"), "compare", work)


def run_job(options: argparse.Namespace, folder: Path | str, command: str, work: Callable,
            tensorboard: bool = False) -> None:
    """Do `work(job)` in a job folder, show it as the options say, and print the text that it returns."""
    from . import __version__
    from .core.files import make_folder
    from .core.jobs import STARTED, Job
    from .core.process import prepare
    from .core.terminal import Lines, Screen, noise_to

    folder = make_folder(folder)
    started = STARTED in os.environ  # by a program that reads the events itself
    with noise_to(folder / "log.txt") as (out, err), contextlib.ExitStack() as stack:
        screen = Lines(out) if options.json else Screen(err)
        stack.callback(screen.close)
        listeners: list[Callable[[dict], None]] = [] if started else [screen.show]
        if tensorboard:
            listeners.append(mirror(folder / "tensorboard", stack))

        def show(event: dict) -> None:
            for listener in listeners:
                listener(event)

        job = Job(folder, command, show=show, version=__version__)
        try:
            with job:
                faulthandler.enable(2, all_threads=False)  # a crash in C code leaves its Python lines in the log
                prepare()
                text = work(job)
        finally:
            options.told = job.told
    if not options.json:
        print(text)


def mirror(folder: Path, stack: contextlib.ExitStack) -> Callable[[dict], None]:
    """A listener that writes every number of `metrics` events for TensorBoard, over training frames shown."""
    from .core.errors import UnderstudyError

    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UnderstudyError("TensorBoard is not installed: pip install tensorboard") from None
    writer = stack.enter_context(SummaryWriter(str(folder)))

    def show(event: dict) -> None:
        if event["type"] == "metrics":
            for name, value in event.items():
                if name not in ("time", "images") and isinstance(value, (int, float)):
                    writer.add_scalar(name, value, event.get("images"), event["time"])

    return show


def run_watch(options: argparse.Namespace) -> int:
    from .core.errors import UnderstudyError
    from .core.events import Watcher, cancel
    from .core.terminal import Lines, Screen, printable

    watcher = Watcher(options.folder)
    if not (watcher.folder / "events.jsonl").is_file():
        raise UnderstudyError(f"There is no job in {options.folder}. A job folder holds events.jsonl.")
    if options.cancel:
        cancel(options.folder)
    screen = Lines(sys.stdout) if options.json else Screen(sys.stdout)
    if not options.json:
        watcher.catch_up()
        state = watcher.state
        print(printable(f"{state.command} on {state.host}, process {state.pid}: {state.state}. {state.text}"))
    with contextlib.closing(screen):
        while not watcher.state.ended:
            news = watcher.poll()
            for event in news:
                screen.show(event)
            if not news:
                time.sleep(0.2)
    state = watcher.state
    if state.state == "dead" or (state.state == "failed" and not options.json):
        print("\n".join(map(printable, watcher.log_tail())), file=sys.stderr)
    if state.state != "done":
        print(printable(f"understudy: {state.text}"), file=sys.stderr)
    return state.exit_code or 0


def load_as_package() -> Callable:
    """This folder as the package `understudy`, whatever the folder is called, and its `main`."""
    root = Path(__file__).resolve().parent
    spec = importlib.util.spec_from_file_location("understudy", root / "__init__.py",
                                                  submodule_search_locations=[str(root)])
    sys.modules["understudy"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    packages = os.environ.get(importlib.import_module("understudy.core.jobs").PACKAGES, "")
    sys.path += [folder for folder in packages.split(os.pathsep) if folder]  # -I ignores PYTHONPATH
    return importlib.import_module("understudy.__main__").main


if __name__ == "__main__":
    sys.exit(main() if __package__ else load_as_package()())
