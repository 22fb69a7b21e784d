"""probe, picture, suggest-crop, doctor, watch: what is answered in a second."""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable

from .running import add_crop, add_device, run_question


def add_commands(command: Callable) -> None:
    """The options of this file's commands."""
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

    watch = command("watch", run_watch, "show a job that runs, or has run, anywhere",
                    "Ends with the job, and with its exit code. Ctrl-C ends the watching, not the job.",
                    "otto/runs/2026-03-01_18-00-00", "take.job --cancel")
    watch.add_argument("folder", metavar="RUN", help="a job folder: a run, a report, X.job beside a cache")
    watch.add_argument("--cancel", action="store_true", help="ask the job to stop, then watch it do so")


def run_probe(options: argparse.Namespace) -> None:
    def work() -> tuple[str, dict]:
        from ..core.probe import describe, probe

        facts = probe(options.footage, options.model, options.crop)
        return describe(options.footage, facts), facts

    run_question(options, "probe", work)


def run_picture(options: argparse.Namespace) -> None:
    def work() -> tuple[str, dict]:
        from ..core.probe import picture

        width, height = picture(options.footage, options.frame, options.out, options.crop)
        return f"Wrote {width} x {height} pixels to {options.out}.", {"width": width, "height": height}

    run_question(options, "picture", work)


def run_suggest_crop(options: argparse.Namespace) -> None:
    def work() -> tuple[str, dict]:
        from ..core.suggest import suggest_crop

        found = suggest_crop(options.footage)
        crop = [found.crop.x, found.crop.y, found.crop.width, found.crop.height]
        text = f"--crop {' '.join(f'{edge:g}' for edge in crop)}   # {found.how}"
        return text, {"crop": crop, "how": found.how, "confidence": found.confidence}

    run_question(options, "suggest-crop", work)


def run_doctor(options: argparse.Namespace) -> int:
    from ..core.doctor import examine

    results: dict = {}

    def work() -> tuple[str, dict]:
        results.update(examine(options.device))
        return "\n".join(results["lines"]), results

    run_question(options, "doctor", work)
    return 0 if results["ready"] else 1


def run_watch(options: argparse.Namespace) -> int:
    from ..core.errors import UnderstudyError
    from ..core.events import Watcher, cancel
    from ..core.terminal import Lines, Screen, printable

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
