"""Two runs of a training on the active shot, one in place of the other, without touching the shot's own solve."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import bpy
from bpy.app.handlers import persistent

from ..core.errors import Cancelled, UnderstudyError
from ..core.runs import Run
from . import faces, outputs, preferences, pump, scene_io
from .paths import absolute
from .pump import WAIT
from .stage import Stage
from .timing import mapping

SIDES = ("A", "B")
OBJECT, MARK = "Understudy Comparison", "understudy_comparison"  # its name; the side that it shows, or OWN
OWN = "Own"  # what the shot itself shows

chosen: dict[str, str] = {}  # side -> name of a run
text = ""                    # what goes on, or what went wrong

_folder: Path | None = None  # of the two caches
_names: dict[str, str] = {}  # side -> name of the run that it shows


def object_of() -> bpy.types.Object | None:
    """The object that shows the comparison, if there is one."""
    found = bpy.data.objects.get(OBJECT)
    return found if found is not None and MARK in found else None


def label() -> str:
    """What is shown now."""
    side = object_of()[MARK]
    return f"Shows {side}: {_names[side]}" if side in _names else "Shows the Shot's Own Solve"


def caches() -> list[Path]:
    """The solves by A and by B, once both are there."""
    return [_folder / f"{side}.pc2" for side in SIDES] if _names and _folder is not None else []


def start(scene: bpy.types.Scene, shot, runs: dict[str, Run]) -> None:
    """Solve a shot by two runs' models, then show A.    runs : by side. Raises UnderstudyError."""
    global text
    for side in SIDES:
        if side not in runs:
            raise UnderstudyError(f"Choose a run for {side} first.")
        if runs[side].model is None:
            raise UnderstudyError(f"The run {runs[side].name} has no model yet.")
    if not shot.frames or shot.face is None:
        raise UnderstudyError(f"{shot.name} has no footage that was read. Choose its footage first.")
    clear()
    text = "Waiting for the worker"
    pump.add(_compare(Stage.of(scene, shot), {side: run.model for side, run in runs.items()},
                      {side: run.name for side, run in runs.items()}))


def toggle() -> str:
    """Show the next of A, B and the shot's own solve; returns what is shown now. Raises UnderstudyError."""
    found = object_of()
    if found is None or not _names:
        raise UnderstudyError("Nothing is compared. Choose two runs and compare them first.")
    order = (*SIDES, OWN)
    _show(found, order[(order.index(found[MARK]) + 1) % len(order)])
    return label()


def clear() -> None:
    """Take the comparison out of the scene and remove its caches; the shot shows its own solve."""
    global _folder, text
    text = ""
    _names.clear()
    found = object_of()
    if found is not None:
        face = found.parent
        if face is not None:
            face.hide_viewport = False
        mesh = found.data
        bpy.data.objects.remove(found)
        bpy.data.meshes.remove(mesh)
    if _folder is not None:
        shutil.rmtree(_folder, ignore_errors=True)
        _folder = None


def _compare(stage: Stage, models: dict[str, Path], names: dict[str, str]) -> Iterator[bool]:
    global _folder, text
    job = None
    try:
        _folder = Path(tempfile.mkdtemp(prefix="compare", dir=pump.session_folder()))
        folder = _folder
        for side in SIDES:
            job = _solve(stage, models[side], folder / f"{side}.pc2")
            while not job.state.ended:
                yield WAIT
                job.poll()
                done = job.state.progress
                text = f"Solving {side}" + (f": {done['done']:g} of {done['total']:g}" if done else "")
                if _folder != folder:
                    raise Cancelled("")
            if job.state.state != "done":
                raise UnderstudyError(job.state.text)
        while pump.aside():
            yield WAIT
        _make(stage, folder)
        _names.update(names)
        _show(object_of(), "A")
        text = ""
        pump.undo_step("Compare Runs")
    except UnderstudyError as error:
        text = str(error)
    finally:
        if job is not None and not job.state.ended:
            job.cancel()


def _solve(stage: Stage, model: Path, out: Path):
    scene, shot = stage.scene, stage.shot
    crop = scene.understudy.crop_of(shot)
    job = out.with_suffix(".job")
    arguments = ["solve", model, absolute(shot.footage), "--out", out, "--job", job, "--range", shot.first, shot.last,
                 "--device", preferences.preferences().device, *(["--crop", *crop] if crop[2] else [])]
    return pump.service("solver").submit([str(argument) for argument in arguments], job)


def _make(stage: Stage, folder: Path) -> None:
    """An object on the place of the face, with its materials, that plays a cache of its own."""
    scene, shot, face = stage.scene, stage.shot, stage.face
    made = scene_io.build_object(OBJECT, scene_io.mesh_of(face), {})
    made.name = OBJECT
    for material in face.data.materials:
        made.data.materials.append(material)
    faces.collection(scene, shot).objects.link(made)
    made.parent = face  # where the face is moved, this follows
    made[MARK] = OWN
    made["first"], made["shot"] = shot.first, shot.uid


def _show(found: bpy.types.Object, side: str) -> None:
    face, own = found.parent, side == OWN
    if not own:
        scene, shot = next((scene, shot) for scene in bpy.data.scenes
                           if (shot := scene.understudy.find(found["shot"])) is not None)
        outputs.attach_cache(found, _folder / f"{side}.pc2", mapping(scene, shot), found["first"])
    found.hide_viewport = own
    if face is not None:
        face.hide_viewport = not own
    found[MARK] = side


@persistent
def _loaded(*_: object) -> None:
    """What was saved in the middle of a comparison has lost its caches."""
    chosen.clear()
    clear()


def register() -> None:
    bpy.app.handlers.load_post.append(_loaded)


def unregister() -> None:
    bpy.app.handlers.load_post.remove(_loaded)
    clear()
