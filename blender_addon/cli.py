"""Without a window: `blender -b scene.blend -c understudy solve --all`, through the same code as the panel.

Exit codes: 0 done, 1 failed, 2 wrong arguments, 3 cancelled.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import bpy

from ..core.errors import Cancelled, UnderstudyError, UsageError
from ..core.terminal import duration
from . import faces, follow, pump, runtime, solving
from .operators.shots import footage_in
from .paths import absolute
from .solving import Order

OUTPUTS = {"mesh-cache": "MESH_CACHE", "basis": "BASIS", "frames": "FRAMES"}
EVERY = 2.0  # s between lines of progress
EPILOG = """\
examples:
  blender -b scene.blend -c understudy list
  blender -b scene.blend -c understudy check
  blender -b scene.blend -c understudy solve --shot take_01 take_02 --save
  blender -b scene.blend -c understudy solve --all --output basis --device cuda --save-as solved.blend --json
  blender -b -c understudy solve --actor otto --footage take.mov --save-as take.blend
  blender -b scene.blend -c understudy mark --shot take_01 --role facs --save
  blender -b scene.blend -c understudy train --minutes 20 --from-present --wait
  blender -b -c understudy runs --actor otto --json

exit codes: 0 done, 1 failed, 2 wrong arguments, 3 cancelled
"""


def main(arguments: Sequence[str]) -> int:
    """Run one command on the open file; returns its exit code. argparse ends with SystemExit(2) or SystemExit(0)."""
    options = parser().parse_args(list(arguments))
    try:
        return options.run(bpy.context.scene, options)
    except KeyboardInterrupt:
        error: Exception = Cancelled("Cancelled.")
    except UnderstudyError as caught:
        error = caught
    if options.json:
        tell({"type": "cancelled" if isinstance(error, Cancelled) else "failed", "text": str(error)})
    print(f"understudy: {error}", file=sys.stderr, flush=True)
    return error.exit_code


def parser() -> argparse.ArgumentParser:
    """The command line inside Blender."""
    from . import cli_marking, cli_training  # which import us

    root = argparse.ArgumentParser(prog="blender -b FILE.blend -c understudy", epilog=EPILOG, allow_abbrev=False,
                                   formatter_class=argparse.RawDescriptionHelpFormatter,
                                   description="Solve the shots of a .blend file without a window.")
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = commands.add_parser("list", help="list the shots of the scene and how they stand", allow_abbrev=False)
    listing.set_defaults(run=run_list)
    check = commands.add_parser("check", help="look for what stands in the way of solving or rendering",
                                allow_abbrev=False)
    check.set_defaults(run=run_check)
    solve = commands.add_parser("solve", help="solve shots", allow_abbrev=False)
    solve.set_defaults(run=run_solve)
    which = solve.add_mutually_exclusive_group()
    which.add_argument("--shot", nargs="+", metavar="NAME", help="the shots to solve, by name")
    which.add_argument("--all", action="store_true", help="every shot that is not solved or is out of date")
    solve.add_argument("--again", action="store_true", help="with --all: also those that are up to date")
    solve.add_argument("--actor", metavar="A", help="first open this actor folder or model file")
    solve.add_argument("--footage", nargs="+", metavar="F", default=[],
                       help="first add shots: movies, or folders of them")
    solve.add_argument("--range", nargs=2, type=int, metavar=("A", "B"),
                       help="source frames A to B, counted from 0, B included; the rest of a solve stays")
    solve.add_argument("--output", choices=OUTPUTS, help="the form of the result (default: as each shot says)")
    solve.add_argument("--device", help="auto, cpu, cuda, cuda:1 or mps (default: as the preferences say)")
    save = solve.add_mutually_exclusive_group()
    save.add_argument("--save", action="store_true", help="save the .blend when all is done")
    save.add_argument("--save-as", metavar="FILE", help="save it under this name, before solving and after; caches lie "
                                                        "beside it")
    for command in (listing, check, solve, cli_marking.add(commands), *cli_training.add(commands)):
        command.add_argument("--json", action="store_true", help="print lines of JSON, for programs")
        command.add_argument("--scene", metavar="S", help="the scene, by name (default: the active one)")
    return root


def run_list(scene: bpy.types.Scene, options: argparse.Namespace) -> int:
    scene = chosen_scene(scene, options)
    settings = scene.understudy
    for shot in settings.shots:
        facts = {"type": "shot", "name": shot.name, "status": shot.status.lower().replace("_", " "),
                 "solved": shot.solved, "stale": solving.stale(settings, shot), "output": shot.output,
                 "footage": str(absolute(shot.footage)), "frames": shot.frames, "first": shot.first, "last": shot.last,
                 "cache": str(absolute(shot.cache)) if shot.cache else ""}
        if options.json:
            tell(facts)
        else:
            state = facts["stale"] or ("solved" if shot.solved else "not solved")
            print(f"{shot.name}: {state}, {shot.last - shot.first + 1} frames of {facts['footage']}")
    if not settings.shots and not options.json:
        print(f"The scene {scene.name} has no shots.")
    return 0


def run_check(scene: bpy.types.Scene, options: argparse.Namespace) -> int:
    scene = chosen_scene(scene, options)
    found = list(problems(scene))
    for shot, text in found:
        tell({"type": "problem", "shot": shot, "text": text}) if options.json else print(f"{shot or 'scene'}: {text}")
    if not options.json:
        print(f"{len(found)} problems.")
    return 1 if found else 0


def problems(scene: bpy.types.Scene) -> Iterator[tuple[str, str]]:
    """(shot or "", a sentence) for everything that stands in the way of solving or rendering a scene."""
    settings = scene.understudy
    try:
        if not settings.actor:
            raise UnderstudyError("No actor is open.")
        source = faces.read(absolute(settings.actor))
        if source.model is None:
            raise UnderstudyError(f"{source.name} has no model yet; train it first.")
    except UnderstudyError as error:
        yield "", str(error)
    for shot in settings.shots:
        if not absolute(shot.footage).exists():
            yield shot.name, f"The footage {absolute(shot.footage)} is missing."
        if not shot.solved:
            yield shot.name, "It is not solved."
        elif not absolute(shot.cache).is_file():
            yield shot.name, f"The solve {absolute(shot.cache)} is missing. Solve the shot again or copy the file."
        elif stale := solving.stale(settings, shot):
            yield shot.name, f"Its solve is out of date: {stale}."


def run_solve(scene: bpy.types.Scene, options: argparse.Namespace) -> int:
    scene = chosen_scene(scene, options)
    settings = scene.understudy
    if not (options.shot or options.all or options.footage):
        raise UsageError("Say which shots to solve: --shot NAME, --all, or --footage FILE.")
    if options.save and not bpy.data.filepath:
        raise UsageError("This file has no name yet. Use --save-as FILE.")
    if options.save_as:  # now, so that caches go beside it
        save(options.save_as)
    if options.actor:
        faces.open_actor(scene, absolute(options.actor).absolute())
    names = set(options.shot or []) | set(add_footage(scene, options.footage))
    if unknown := names - {shot.name for shot in settings.shots}:
        raise UsageError(f"The scene {scene.name} has no shot {', '.join(sorted(unknown))}; it has "
                         f"{', '.join(shot.name for shot in settings.shots) or 'none'}.")
    order = Order(*(options.range or (None, None)), output=OUTPUTS.get(options.output), device=options.device)
    wanted = [shot for shot in settings.shots if shot.name in names or (
        options.all and (options.again or not shot.solved or solving.stale(settings, shot)))]
    runs = [solving.solve(scene, shot, order) for shot in wanted]
    follow_runs(runs, options.json)
    if options.save or options.save_as:
        save(options.save_as)
    if not options.json:
        print(f"{sum(run.state == 'done' for run in runs)} of {len(runs)} shots solved.")
    states = {run.state for run in runs}
    return 1 if "failed" in states else 3 if "cancelled" in states else 0


def chosen_scene(scene: bpy.types.Scene, options: argparse.Namespace) -> bpy.types.Scene:
    if options.scene is None:
        return scene
    if options.scene not in bpy.data.scenes:
        raise UsageError(f"There is no scene {options.scene}; there are {', '.join(bpy.data.scenes.keys())}.")
    return bpy.data.scenes[options.scene]


def add_footage(scene: bpy.types.Scene, footage: list[str]) -> list[str]:
    """Add a shot for every movie and for every movie of a folder; returns their names."""
    if not scene.understudy.actor:
        if footage:
            raise UsageError("Say with --actor whose face is in the footage.")
        return []
    paths = []
    for path in (absolute(name).absolute() for name in footage):
        paths += (footage_in(path) if path.is_dir() else [path])
    uids = [faces.new_shot(scene, path).uid for path in paths]
    then = follow.probed(uids, "Add Shots")
    for uid in uids:
        solving.probe(scene, scene.understudy.find(uid), then)
    pump.finish()
    for uid in uids:
        if text := runtime.footage_text[uid]:
            raise UnderstudyError(text)
    return [scene.understudy.find(uid).name for uid in uids]


def follow_runs(runs: list[runtime.Run], as_json: bool) -> None:
    """Work on the solves until they have ended, and say how they stand; Ctrl-C stops them and keeps what is done."""
    said: dict[str, tuple] = {}
    next_line = 0.0
    while pump.busy():
        try:
            pump.tick()
            now = time.monotonic()
            for run in runs:
                state = (run.state, run.text if run.state != "solving" else "")
                if said.get(run.uid) != state or (run.state == "solving" and now >= next_line):
                    said[run.uid] = state
                    next_line = now + EVERY
                    say(run, as_json)
            time.sleep(pump.QUICK)
        except KeyboardInterrupt:
            for run in runs:
                run.stop = True
    for run in runs:
        if said.get(run.uid) != (run.state, run.text):
            say(run, as_json)
        for text in run.warnings:
            tell({"type": "warning", "shot": run.name, "text": text}) if as_json else print(
                f"{run.name}: warning: {text}", file=sys.stderr)


def say(run: runtime.Run, as_json: bool) -> None:
    """Where a solve stands, as a line."""
    if run.state == "solving":
        event = {"type": "progress", "done": run.done, "total": run.total, "rate": run.rate, "left": run.left}
        text = f"{run.done} of {run.total} frames, {run.rate:.0f} frames/s, {duration(run.left)} left"
    else:
        event = {"type": run.state if run.state in ("done", "failed", "cancelled") else "status", "text": run.text}
        text = run.text
    if as_json:
        tell({**event, "shot": run.name})
    else:
        print(f"{run.name}: {text}", file=sys.stderr if run.state == "failed" else sys.stdout, flush=True)


def tell(event: dict) -> None:
    print(json.dumps(event, ensure_ascii=False), flush=True)


def save(name: str | None) -> None:
    """Save the file, under a new name if one is given. Raises UnderstudyError if that is impossible."""
    try:
        if name:
            bpy.ops.wm.save_as_mainfile(filepath=str(Path(name).absolute()))
        else:
            bpy.ops.wm.save_mainfile()
    except RuntimeError as error:
        raise UnderstudyError(f"Cannot save the .blend: {str(error).strip()}") from error


_command = None


def register() -> None:
    global _command
    _command = bpy.utils.register_cli_command("understudy", main)


def unregister() -> None:
    bpy.utils.unregister_cli_command(_command)
