"""Mark as Cleaned: what the artist sees of a shot's face goes into the actor folder, where training finds it.

A task of pump.py: the scene plays through the shot, a frame a step, and is put back as it was.
"""

import contextlib
import getpass
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np

from ..core.actor import Actor, Shot, check_vertices, is_ranges, size_of
from ..core.errors import Cancelled, UnderstudyError
from ..core.labels import Motions, sentences, suspicions
from ..core.marked import samples, shot_for, unmark, write_shot
from ..core.stabilise import Motion, check_stabiliser, describe, fit, join
from . import capture, cleaning, edits, follow, keys, modifier, pump, runtime, solving
from .paths import absolute, relative
from .pump import WORK
from .runtime import Run
from .stage import Stage
from .timing import mapping

BLOCK = 16      # frames that are written in one go
VERTICES = 400  # that are looked at for jumps
STILL = 1e-4    # m and times 1000 degrees: a head that stays within has no motion worth keeping


@dataclass(frozen=True)
class Order:
    """What is asked of a marking; None is as the shot says.

    stabilise : take out the head's motion, if the actor has stabiliser vertices.
    """

    role: str | None = None
    split: str | None = None
    stabilise: bool = True


def reason_not_to(scene: bpy.types.Scene, shot) -> str:
    """Why a shot cannot be marked now; empty if it can. Cheap enough for `poll`."""
    settings = scene.understudy
    if not settings.actor:
        return "Open an actor first"
    if settings.actor.endswith(".safetensors"):
        return "A model file alone is open: open the actor folder, where training data are kept"
    if shot is None:
        return "Add a shot first"
    if not shot.footage:
        return f"{shot.name} has no footage: choose a movie or an image sequence"
    if not shot.frames:
        return f"The footage of {shot.name} was not read yet"
    if shot.face is None:
        return f"{shot.name} has no face yet: solve it or bring in a track"
    for run in (runtime.run_of(shot.uid), runtime.marks.get(shot.uid)):
        if run is not None and run.active:
            return f"{shot.name} is being {'marked' if run.state == 'marking' else 'solved'}"
    return ""


def mark(scene: bpy.types.Scene, shot, order: Order = Order()) -> Run:
    """Put the marking of a shot at the end of the queue. Raises UnderstudyError when something is missing for it."""
    if why := reason_not_to(scene, shot):
        raise UnderstudyError(f"{why}.")
    solving.identify(scene, shot)
    run = Run(shot.uid, shot.name, text="Waiting for its turn")
    runtime.marks[shot.uid] = run
    pump.add_aside(_mark(Stage.of(scene, shot), run, order))
    return run


def span(shot) -> tuple[int, int]:
    """The source frames that are marked: all of the shot, as far as the solve that its face shows goes."""
    if not shot.solved:
        return shot.first, shot.last
    return max(shot.first, shot.solved_first), min(shot.last, shot.solved_last)


def write_facts(scene: bpy.types.Scene, shot) -> str:
    """Bring role, split and excluded frames of a marked shot up to date without its vertices; returns a sentence."""
    if not shot.taught:
        raise UnderstudyError(f"{shot.name} is not marked as cleaned yet.")
    actor = Actor.load(absolute(scene.understudy.actor))
    found = _marked(actor, shot)
    corrected = found.provenance.get("corrected")
    if corrected is not None and not is_ranges(corrected):
        raise UnderstudyError(f"The provenance of {found.name} is damaged. Mark {shot.name} as cleaned again.")
    _take_facts(found, shot, found.sample_count(), corrected)
    found.save()
    return f"{found.name} is {found.role}, {found.split}; {len(found.frames())} frames count."


def take_back(scene: bpy.types.Scene, shot) -> str:
    """Take back the newest marking of a shot in the actor folder; returns a sentence. Raises UnderstudyError."""
    actor = Actor.load(absolute(scene.understudy.actor))
    found = _marked(actor, shot)
    runtime.marks.pop(shot.uid, None)
    if unmark(actor, found):
        shot.taught = found.name
        before = next(other for other in actor.shots if other.name == found.name)
        return f"Training learns again from the marking of {found.name} before, {len(before.frames())} frames."
    shot.status, shot.taught, shot.taught_when = "IN_CLEANUP", "", ""
    return f"Training learns nothing from {found.name} any more, until it is marked again."


def _marked(actor: Actor, shot) -> Shot:
    """The actor's shot that was marked from this one; undo may have made this one forget it. Raises UnderstudyError."""
    name = shot.taught or name_for(shot)
    for found in actor.shots:
        if found.name == name:
            return found
    raise UnderstudyError(f"{actor.name} has no shot {name} that was marked. Mark {shot.name} as cleaned.")


def _mark(stage: Stage, run: Run, order: Order) -> Iterator[str]:
    try:
        run.state, run.text = "marking", "Reading the actor"
        yield WORK
        yield from _capture(stage, run, order)
        run.state = "done"
        pump.undo_step(f"Mark {run.name} as Cleaned")
    except Cancelled as stop:
        run.state, run.text = "cancelled", str(stop)
    except UnderstudyError as error:
        run.state, run.text = "failed", str(error)


def _capture(stage: Stage, run: Run, order: Order) -> Iterator[str]:
    """Write what the face shows into the actor folder, then the facts into the shot."""
    scene, shot = stage.scene, stage.shot
    actor = Actor.load(absolute(scene.understudy.actor))
    yield WORK
    if actor.template.hash != scene.understudy.topology:
        raise UnderstudyError(f"The template in {actor.folder} is another one now. Open the actor again.")
    for name in ("role", "split"):
        if getattr(order, name):
            setattr(shot, name, getattr(order, name))
    first, last = span(shot)
    if first > last:
        raise UnderstudyError(f"The solve of {shot.name} has no frame in its range {shot.first} to {shot.last}.")
    entry = shot_for(actor, shot.taught or name_for(shot), absolute(shot.footage))
    before = entry.sample_count()
    entry.first_frame, entry.fps, entry.status = first, shot.fps or 30.0, "cleaned"
    run.total = last - first + 1
    stabiliser = actor.stabiliser if order.stabilise and len(actor.stabiliser) else None
    if stabiliser is not None:
        check_stabiliser(actor.template.vertices, stabiliser)
    with write_shot(actor, entry, run.total) as write, _prepared(stage, actor, run):
        corrected = (yield from _corrected(stage)) if shot.teaches == "CORRECTED" else None
        _take_facts(entry, stage.shot, run.total, corrected)
        motions, motion = yield from _frames(stage, run, actor, stabiliser, write, first)
        if corrected is None:  # a correction that fades away within frames is suspicious by its nature
            found = suspicions(motions.steps, motions.bends, size_of(actor.template.vertices), first)
            run.warnings += sentences(found, actor.millimetres)
        entry.provenance = _provenance(stage.shot, motion, actor, run.warnings)
        if corrected is not None:
            entry.provenance["corrected"] = corrected
    _note(stage, entry, motion, actor)
    count = run.total - sum(end - begin + 1 for begin, end in entry.excluded)
    of = "" if count == run.total else f" of {run.total:,}"
    run.text = f"Marked {count:,}{of} frames of {run.name} as {entry.role}, {entry.split}."
    if before > run.total:
        run.warnings.insert(0, f"The actor had {before:,} frames of this shot; now it has {run.total:,}.")
    if motion is not None:
        run.text += " " + describe(motion, actor.template.vertices[stabiliser].mean(0), actor.millimetres)


def _frames(stage: Stage, run: Run, actor: Actor, stabiliser: np.ndarray | None, write, first: int,
            ) -> Generator[str, None, tuple[Motions, Motion | None]]:
    """Play the shot and write what its face shows, stabilised, in blocks."""
    epoch, began, template = pump.epoch, time.monotonic(), actor.template.vertices
    motions, parts, block, scales = Motions(), [], [], []
    watched = actor.animated[::max(1, len(actor.animated) // VERTICES)]
    layer = capture.layer_of(stage.scene, stage.face)
    for source in range(first, first + run.total):
        if run.stop:
            raise Cancelled(f"Stopped; the training data of {run.name} are as they were.")
        if pump.epoch != epoch:
            raise UnderstudyError(f"{run.name} was changed by an undo while it was being marked. Mark it again.")
        scene, face = stage.scene, stage.face
        capture.go(scene, mapping(scene, stage.shot).scene(source))
        block.append(capture.vertices(layer, face, len(template)))
        scales.append(capture.shown(layer, face).matrix_world.to_scale().length)
        if not np.isfinite(block[-1]).all():
            raise UnderstudyError(f"{face.name} has a vertex in source frame {source} whose position is not a finite "
                                  "number. Correct or exclude that frame, then mark again.")
        if source == first:
            check_vertices(block[0][None], actor.template, actor.unit, face.name)
        if len(block) == BLOCK or source == first + run.total - 1:
            positions, block = np.stack(block), []
            if stabiliser is not None:
                parts.append(fit(positions[:, stabiliser], template[stabiliser]))
                positions = parts[-1].take_out(positions)
            motions.feed(positions[:, watched])
            write(positions)
        run.done = source - first + 1
        run.rate = run.done / max(time.monotonic() - began, 1e-3)
        run.left, run.text = (run.total - run.done) / run.rate, f"Looking at frame {source}"
        yield WORK
    if max(scales) > 1.005 * min(scales):
        run.warnings.append(f"The size of {stage.face.name} as an object changes; that is not learned.")
    return motions, join(parts, first) if parts else None


@contextlib.contextmanager
def _prepared(stage: Stage, actor: Actor, run: Run) -> Iterator[None]:
    """Have the shot's face evaluated with all its corrections, up to what changes its topology; put back at the end."""
    scene, shot = stage.scene, stage.shot
    active, compare = scene.understudy.active, shot.compare
    if stage.face.mode != "OBJECT":
        raise UnderstudyError(f"{stage.face.name} is in {stage.face.mode.replace('_', ' ').title()} Mode. Leave it "
                              "first.")
    with capture.playing(scene):
        try:
            shot.compare = "EDITED"
            scene.understudy.active = scene.understudy.shots.find(shot.name)
            follow.active_shot(scene)
            capture.go(scene, mapping(scene, shot).scene(span(shot)[0]))
            layer = capture.layer_of(scene, stage.face)
            layer.update()
            with capture.before_topology_changes(layer, stage.face, actor.template) as muted:
                if muted:
                    run.warnings.append(f"{muted[0]} changes vertices or faces: the mesh before it is learned"
                                        + (f", also without {', '.join(muted[1:])}." if muted[1:] else "."))
                yield
        finally:
            with contextlib.suppress(Cancelled):  # the artist has removed it
                stage.scene.understudy.active = active
                stage.shot.compare = compare


def _corrected(stage: Stage) -> Generator[str, None, list[tuple[int, int]]]:
    """The ranges of source frames that the artist has corrected. Raises UnderstudyError if there are none."""
    if keys.note(stage.face).get("form") == "FRAMES":
        ranges = [(source, source) for source in (yield from keys.changed_frames(stage))]
    else:
        ranges = cleaning.corrected_ranges(stage.scene, stage.shot)
    first, last = span(stage.shot)
    inside = [(max(begin, first), min(end, last)) for begin, end in ranges if begin <= last and end >= first]
    if not inside:
        raise UnderstudyError(f"{stage.shot.name} has no corrected frame. Correct some, or let all frames count.")
    return inside


def _take_facts(entry: Shot, shot, count: int, corrected: list[tuple[int, int]] | None) -> None:
    """Write role, split and what is left out into the actor's shot.    corrected : all but these; None is all."""
    entry.role, entry.split = shot.role.lower(), shot.split.lower()
    left_out = [(one.first, one.last) for one in shot.excluded]
    if corrected is not None:
        known = np.zeros(count, bool)
        for begin, end in samples(corrected, entry.first_frame, count):
            known[begin:end + 1] = True
        left_out += [(entry.first_frame + int(index),) * 2 for index in np.flatnonzero(~known)]
    entry.excluded = samples(left_out, entry.first_frame, count)


def name_for(shot) -> str:
    """The shot's name as a folder may be called."""
    letters = (letter if letter.isalnum() or letter in " _-." else "_" for letter in shot.name)
    return "".join(letters).strip(" .") or "shot"


def _provenance(shot, motion: Motion | None, actor: Actor, warnings: list[str]) -> dict:
    """Who made the vertices, when, and from what."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # no such user here
        user = ""
    made = {"by": user, "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "blend": Path(bpy.data.filepath).name,
            "scene": shot.id_data.name, "object": shot.face.name, "model_sha256": shot.solved_model,
            "cache": Path(absolute(shot.cache)).name if shot.cache else "",
            "edits": [block.name for block in edits.listed(shot.face) if not block.mute],
            "modifiers": [one.name for one in shot.face.modifiers
                          if one.show_viewport and one != modifier.modifier_of(shot.face)],
            "blender": bpy.app.version_string, "warnings": list(warnings)}
    if motion is not None:
        made["stabiliser_mm"] = {"mean": round(float(motion.residuals.mean()) * actor.millimetres, 4),
                                 "max": round(float(motion.residuals.max()) * actor.millimetres, 4)}
    return made


def _note(stage: Stage, entry: Shot, motion: Motion | None, actor: Actor) -> None:
    """Write into the shot what it is now; a head that moved in the mesh itself can be put back from its file."""
    shot = stage.shot
    if motion is not None:
        way, angle = motion.extent(actor.template.vertices[actor.stabiliser].mean(0))
        if way * actor.unit > STILL or angle > 1000 * STILL:
            motion.save(entry.folder / "head.npz")
            shot.head = relative(entry.folder / "head.npz")
    shot.status, shot.taught, shot.taught_when = "CLEANED", entry.name, time.strftime("%Y-%m-%d %H:%M")
