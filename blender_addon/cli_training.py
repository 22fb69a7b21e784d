"""The commands `train` and `runs` of cli.py: the same runs as those of the panel."""

import argparse
import contextlib
import sys
import time

import bpy

from ..core.errors import UnderstudyError, UsageError
from ..core.runs import Run, describe
from ..core.terminal import Lines, Screen
from . import faces, pump, training
from .cli import chosen_scene, tell
from .paths import absolute
from .training import Order

WAIT = 0.2  # s between looks at a run


def add(commands) -> tuple[argparse.ArgumentParser, ...]:
    """Add the two commands; returns their parsers."""
    train = commands.add_parser("train", help="train the actor on its cleaned shots", allow_abbrev=False)
    train.set_defaults(run=run_train)
    length = train.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, metavar="M", help="train for M minutes (default: 20)")
    length.add_argument("--preset", choices=list(training.PRESETS.values()), help="or as long as a preset does")
    length.add_argument("--resume", metavar="RUN", help="go on with a run that was stopped, by its name")
    train.add_argument("--from-present", action="store_true", help="go on from the model in use")
    train.add_argument("--batch", type=int, default=50, metavar="N", help="frames a step (default: 50)")
    train.add_argument("--gaps", action="store_true", help="count more how exactly lips and lids meet")
    train.add_argument("--device", help="auto, cpu, cuda, cuda:1 or mps (default: as the preferences say)")
    train.add_argument("--wait", action="store_true",
                       help="show how it goes until it ends; without, it goes on after this command. Ctrl-C stops it")
    runs = commands.add_parser("runs", help="list the actor's training runs", allow_abbrev=False)
    runs.set_defaults(run=run_runs)
    for command in (train, runs):
        command.add_argument("--actor", metavar="A", help="an actor folder (default: the scene's)")
    return train, runs


def run_train(scene: bpy.types.Scene, options: argparse.Namespace) -> int:
    scene = open_actor(scene, options)
    settings = scene.understudy
    if options.resume:
        if options.from_present:
            raise UsageError("--resume goes on with the run as it was begun: leave out what would change it.")
        training.refresh(settings)
        run = training.find(settings, options.resume)
        if run is None:
            raise UsageError(f"{settings.actor_name} has no run {options.resume}.")
        training.resume(scene, run)
    else:
        length = next((name for name, preset in training.PRESETS.items() if preset == options.preset), "MINUTES")
        model = training.folder_of(settings) / "model.safetensors" if options.from_present else None
        training.start(scene, Order(length, options.minutes or 20.0, model, options.batch, options.device or "",
                                    options.gaps))
        pump.finish()
    run = training.live_run(settings)
    if run is None:
        raise UnderstudyError(training.text)
    if not options.json:
        print(f"Training goes on in {run.folder}", flush=True)
    else:
        tell({"type": "run", "run": run.name, "folder": str(run.folder)})
    return follow(run, options.json) if options.wait else 0


def run_runs(scene: bpy.types.Scene, options: argparse.Namespace) -> int:
    settings = open_actor(scene, options).understudy
    for run in training.refresh(settings):
        if options.json:
            tell({"type": "run", **run.facts()})
        else:
            print(describe(run))
    return 0


def open_actor(scene: bpy.types.Scene, options: argparse.Namespace) -> bpy.types.Scene:
    """The scene, with an actor folder open. Raises UsageError if there is none."""
    scene = chosen_scene(scene, options)
    if options.actor:
        faces.open_actor(scene, absolute(options.actor).absolute())
    if training.folder_of(scene.understudy) is None:
        raise UsageError("Say with --actor which actor folder; this scene has none.")
    return scene


def follow(run: Run, as_json: bool) -> int:
    """Show what happens until a run ends; returns its exit code. Ctrl-C asks it to stop, and it keeps what it has."""
    screen = Lines(sys.stdout) if as_json else Screen(sys.stdout)
    with contextlib.closing(screen):
        while run.live:
            try:
                for event in run.poll():
                    screen.show(event)
                time.sleep(WAIT)
            except KeyboardInterrupt:
                training.stop(run)
    if run.state != "done":
        print(f"understudy: {run.text}", file=sys.stderr)
    return run.watcher.state.exit_code or 0
