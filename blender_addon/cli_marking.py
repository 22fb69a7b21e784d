"""`blender -b scene.blend -c understudy mark`: cleaned shots become training data without a window."""

import argparse
import sys
import time

import bpy

from ..core.actor import ROLES, SPLITS
from ..core.errors import UsageError
from . import faces, marking, pump
from .cli import EVERY, chosen_scene, save, tell
from .paths import absolute


def add(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the command to the command line; returns its parser."""
    mark = commands.add_parser("mark", help="write what the faces of shots show into the actor folder, for training",
                               allow_abbrev=False)
    mark.set_defaults(run=run_mark)
    mark.add_argument("--shot", nargs="+", metavar="NAME", required=True, help="the shots to mark, by name")
    mark.add_argument("--role", choices=ROLES, help="what the actor does (default: as each shot says)")
    mark.add_argument("--split", choices=SPLITS, help="whether the shots teach or judge (default: as each shot says)")
    mark.add_argument("--actor", metavar="A", help="first open this actor folder")
    mark.add_argument("--corrected-only", action="store_true", help="let only frames count that have a correction")
    mark.add_argument("--keep-head", action="store_true", help="do not take the head's own motion out")
    mark.add_argument("--save", action="store_true", help="save the .blend, whose shots are then cleaned")
    return mark


def run_mark(scene: bpy.types.Scene, options: argparse.Namespace) -> int:
    scene = chosen_scene(scene, options)
    settings = scene.understudy
    if options.save and not bpy.data.filepath:
        raise UsageError("This file has no name yet, so it cannot be saved.")
    if unknown := set(options.shot) - {shot.name for shot in settings.shots}:
        raise UsageError(f"The scene {scene.name} has no shot {', '.join(sorted(unknown))}; it has "
                         f"{', '.join(shot.name for shot in settings.shots) or 'none'}.")
    if options.actor:
        faces.open_actor(scene, absolute(options.actor).absolute())
    for name in options.shot if options.corrected_only else ():
        settings.shots[name].teaches = "CORRECTED"
    order = marking.Order(*(name and name.upper() for name in (options.role, options.split)), not options.keep_head)
    runs = [marking.mark(scene, settings.shots[name], order) for name in options.shot]
    try:
        _watch(runs, options.json)
    except KeyboardInterrupt:
        for run in runs:
            run.stop = True
        pump.finish()
    for run in runs:
        for text in run.warnings:
            tell({"type": "warning", "shot": run.name, "text": text}) if options.json else print(
                f"{run.name}: warning: {text}", file=sys.stderr)
        tell({"type": run.state, "shot": run.name, "text": run.text}) if options.json else print(
            f"{run.name}: {run.text}", file=sys.stderr if run.state == "failed" else sys.stdout)
    if options.save:
        save(None)
    states = {run.state for run in runs}
    return 1 if "failed" in states else 3 if "cancelled" in states else 0


def _watch(runs: list, as_json: bool) -> None:
    """Work on the markings until they have ended, and say how far they are."""
    said = time.monotonic()
    while pump.busy():
        if pump.tick() == pump.TICK:
            time.sleep(pump.QUICK)
        if time.monotonic() < said + EVERY:
            continue
        said = time.monotonic()
        for run in runs:
            if run.state != "marking":
                continue
            if as_json:
                tell({"type": "progress", "shot": run.name, "done": run.done, "total": run.total})
            else:
                print(f"{run.name}: {run.done} of {run.total} frames, {run.rate:.0f} frames/s", flush=True)
