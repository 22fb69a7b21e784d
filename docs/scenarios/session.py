"""Scenario: from tracked shots to a better model, as docs/tutorial.md tells it, with what tools/session.py has made.

Environment: FOLDER, a copy of that; MINUTES to train, 2 unless told. Prints a line of JSON: the error of the take's
solve before and after, in mm, and for each step the longest time in s for which the window did not react.
"""

import importlib
import json
import os
import time
from pathlib import Path

import bpy
import drive
import numpy as np

ADDON = "bl_ext.user_default.understudy.blender_addon"
addon, cleaning, keys, panels_training, runtime, scene_io, skin, training = (
    importlib.import_module(name) for name in (ADDON, *(f"{ADDON}.{name}" for name in (
        "cleaning", "keys", "panels_training", "runtime", "scene_io", "skin", "training"))))
modifier_of = importlib.import_module(f"{ADDON}.modifier").modifier_of
actors = importlib.import_module("bl_ext.user_default.understudy.core.actor")
solved = importlib.import_module("bl_ext.user_default.understudy.core.solved")

FOLDER, MINUTES = Path(os.environ["FOLDER"]), float(os.environ.get("MINUTES", "2"))
CORRECTED = 10  # frames
PATIENCE = 600  # s, beside the minutes of training, until a step has failed
ROLES = {"rom": "EXTREME", "facs": "FACS", "pangram_c": "PANGRAM"}
HEADER = 28     # pixels from one closed panel to the next
gaps: dict[str, float] = {}


def story():
    bpy.context.preferences.filepaths.save_version = 0
    runs = panels_training.UNDERSTUDY_PT_runs
    bpy.utils.unregister_class(runs)
    runs.bl_options = set()  # so that it is open when its parent is
    bpy.utils.register_class(runs)
    for name in ("Cube", "Light", "Camera"):
        bpy.data.objects.remove(bpy.data.objects[name])
    bpy.ops.wm.save_as_mainfile(filepath=str(FOLDER / "session.blend"))
    yield from drive.sidebar("Understudy")
    yield from open_shots()
    tracks = sorted((FOLDER / "tracks").iterdir(), reverse=True)
    for track in tracks:
        yield from bring_in(track, first=track == tracks[0])
    for track in tracks:
        yield from mark(shot_of(track), first=track == tracks[0])
    yield from weigh()
    take = next(shot for shot in settings().shots if not shot.solved).name
    yield from solve(take)
    with drive.override():
        bpy.ops.understudy.frame_suggested()
    yield from drive.shot("tutorial-06-solve")
    before = error(take)
    yield from correct(take)
    yield from mark_corrected(take)
    yield from train()
    yield from solve_again(take)
    after = error(take)
    print("RESULT", json.dumps({"before_mm": before, "after_mm": after, "gaps_s": gaps}), flush=True)
    assert after < before


# ---- the steps


def open_shots():
    actor = actors.Actor.load(FOLDER / "actor")
    with drive.override():
        bpy.ops.understudy.actor_open(filepath=str(actor.folder))
        for path in sorted((FOLDER / "footage").iterdir()):
            if path.stem not in {shot.name for shot in actor.shots}:
                bpy.ops.understudy.shot_add(filepath=str(path))
    yield from until(lambda: all(shot.plate is not None for shot in settings().shots), "all footage was read")
    activate(settings().shots[0].name)
    with drive.override():
        bpy.ops.understudy.scene_match()
    yield from panels("Actor", "Shots")
    yield from drive.shot("tutorial-01-shots")


def bring_in(track: Path, first: bool):
    """Bring in a track with the dialog that shows what it seems to be."""
    shot = shot_of(track)
    activate(shot)
    if first:
        yield from panels("Track")
    yield from over_the_view()
    with watched("open the track"):
        with drive.override():
            bpy.ops.understudy.track_import("INVOKE_DEFAULT", filepath=str(track))
        yield 1.0
    if first:
        yield from drive.shot("tutorial-02-track")
    with watched("bring in"):
        yield from drive.press("Return")
        yield from until(lambda: modifier_of(find(shot).face) is not None, f"{track.name} plays")
    yield 1.0  # the panel opens slowly
    with drive.override():
        bpy.ops.understudy.frame_check(which="MIDDLE")
    if not first:
        return
    yield from drive.shot("tutorial-03-check")
    yield from undo_and_redo(lambda: find(shot).solved)


def mark(shot: str, first: bool):
    activate(shot)
    if first:
        yield from panels("Training Data")
    find(shot).role = ROLES.get(shot, "CHARACTER")
    bpy.ops.ed.undo_push(message="Role")
    yield from mark_now(shot)
    if first:
        with drive.override():
            bpy.ops.understudy.frame_check(which="MIDDLE")
        yield from drive.shot("tutorial-04-mark")
        yield from undo_and_redo(lambda: find(shot).status == "CLEANED")
        assert any(found.name == shot for found in actors.Actor.load(FOLDER / "actor").training_shots())


def mark_now(shot: str):
    with watched("mark"):
        with drive.override():
            bpy.ops.understudy.mark_cleaned()
        yield from until(lambda: not runtime.marks[find(shot).uid].active, "all frames are marked")
    run = runtime.marks[find(shot).uid]
    assert run.state == "done", run.text


def weigh():
    with watched("weigh"):
        with drive.override():
            bpy.ops.understudy.composition("INVOKE_DEFAULT")
        yield from until(lambda: runtime.composition, "the data are weighed")
    yield from scroll()
    yield from drive.shot("tutorial-05-weigh")


def solve(take: str):
    activate(take)
    yield from panels("Shots", "Solve")
    with watched("solve"):
        with drive.override():
            bpy.ops.understudy.solve()
        run = runtime.run_of(find(take).uid)
        yield from until(lambda: not run.active, "the take is solved")
    assert run.state == "done", run.text


def correct(take: str):
    """What a sculptor would do: make the face of the most doubtful frames what it really was."""
    truth = np.load(FOLDER / "truth.npy", mmap_mode="r")
    yield from panels("Corrections")
    for number in range(CORRECTED):
        with drive.override():
            if number:  # it is at the first already
                bpy.ops.understudy.frame_suggested()
            bpy.ops.understudy.edit_add()
        shot = find(take)
        source = round(cleaning.mapping(bpy.context.scene, shot).source(bpy.context.scene.frame_current))
        if number == 0:
            yield from sculpt(shot.face, "tutorial-07-correct")
            shot = find(take)
        sample = np.array(solved.read_solved(cleaning.absolute(shot.cache)).vertices()[source - shot.solved_first])
        change = skin.carry(scene_io.mesh_of(shot.face), sample, truth[source] - sample, back=True)
        block = shot.face.active_shape_key
        scene_io.set_positions(block, scene_io.positions(keys.key_of(shot.face).reference_key) + change)
        shot.face.data.update_tag()
        bpy.ops.ed.undo_push(message="Sculpt")
        yield 0.2
        off = millimetres(shown(shot.face), truth[source])
        assert off < 0.05, (number, source, off, millimetres(sample, truth[source]))
    yield from drive.shot("tutorial-08-corrected")
    yield from over_the_view()
    seen = []
    for name in ("solve", "plate", ""):
        yield from drive.press("j")
        seen.append(find(take).compare)
        if name == "solve":
            yield from drive.shot("tutorial-09-compare")
    assert seen == ["SOLVE", "PLATE", "EDITED"], seen
    assert len(cleaning.corrected(bpy.context.scene, find(take))) == CORRECTED
    yield from drive.press("ctrl+z", "ctrl+z", "ctrl+z")  # what was compared
    yield from undo_and_redo(lambda: millimetres(shown(find(take).face), truth[source]) < 0.05)


def sculpt(face: bpy.types.Object, picture: str):
    """Show the face in Sculpt Mode."""
    bpy.context.view_layer.objects.active = face
    with drive.override():
        bpy.ops.object.mode_set(mode="SCULPT")
    yield 3.0  # brushes come one after another
    yield from drive.shot(picture)
    with drive.override():
        bpy.ops.object.mode_set(mode="OBJECT")
    bpy.context.object.select_set(False)


def mark_corrected(take: str):
    yield from panels("Training Data")
    find(take).teaches = "CORRECTED"
    yield from mark_now(take)
    yield from drive.shot("tutorial-10-mark")
    marked, = (shot for shot in actors.Actor.load(FOLDER / "actor").training_shots() if shot.name == take)
    assert len(marked.frames()) == CORRECTED


def train():
    """Train from the present model, and look at the curves meanwhile."""
    yield from panels("Training")
    panel, old = bpy.context.window_manager.understudy_training, settings().model_sha256
    panel.length, panel.minutes, panel.begin, panel.device, panel.batch = "MINUTES", MINUTES, "PRESENT", "cpu", 16
    yield from drive.shot("tutorial-11-train")
    with watched("click to train"):
        with drive.override():
            bpy.ops.understudy.train_start(length="MINUTES", minutes=MINUTES, begin="PRESENT", device="cpu", batch=16)
        yield 1.0
    run = training.live_run(settings())
    assert run is not None, training.text
    with watched("train"):
        yield from until(lambda: run.train or not run.live, "it learns")
        seen = len(run.train)
        later = time.monotonic() + 30 * MINUTES
        yield from until(lambda: time.monotonic() > later or not run.live, "some of it")
    assert run.train, run.text
    yield from drive.click(*drive.at(drive.region("UI"), 100, 300), button=5, count=6)
    yield from drive.shot("tutorial-12-curves")
    bpy.ops.wm.save_mainfile()
    with watched("train"):
        yield from until(lambda: not run.live, "the training ends")
    assert run.state == "done", run.text
    assert len(run.train) > seen, "the curve moves"
    yield from until(lambda: settings().model_sha256 != old, "its model is in use")
    yield 2.0
    yield from scroll()
    yield from over_the_view()
    yield from drive.shot("tutorial-13-runs")


def solve_again(take: str):
    activate(take)
    first = cleaning.corrected(bpy.context.scene, find(take))[0]
    bpy.context.scene.frame_set(round(cleaning.mapping(bpy.context.scene, find(take)).scene(first)))
    yield from panels("Shots", "Solve")
    yield from drive.shot("tutorial-14-stale")
    cache = find(take).cache
    yield from solve(take)
    yield from drive.shot("tutorial-15-again")
    yield from undo_and_redo(lambda: find(take).cache != cache)
    yield from panels("Corrections")
    with drive.override():
        bpy.ops.understudy.edits_switch()
    yield from drive.shot("tutorial-16-off")


# ---- what is there


def settings():
    return bpy.context.scene.understudy


def find(name: str):
    """A shot; looked for anew after every undo."""
    return settings().shots[name]


def shot_of(track: Path) -> str:
    return track.name.partition("_track")[0]


def shown(face: bpy.types.Object) -> np.ndarray:
    return scene_io.positions(face.evaluated_get(bpy.context.evaluated_depsgraph_get()).data)


def millimetres(one: np.ndarray, other: np.ndarray) -> float:
    """Root mean square distance of vertices, as the paper counts it."""
    return float(1000 * settings().unit * np.sqrt(np.square(one - other).sum(-1).mean()))


def error(take: str) -> float:
    """How far the take's solve, without corrections, is from the truth."""
    samples = solved.read_solved(cleaning.absolute(find(take).cache)).vertices()
    animated = actors.Actor.load(FOLDER / "actor").animated
    return millimetres(samples[:, animated], np.load(FOLDER / "truth.npy", mmap_mode="r")[:, animated])


# ---- what is done again and again


def until(predicate, what: str):
    """Wait, however busy the machine is."""
    yield from drive.wait(predicate, what, PATIENCE + 60 * MINUTES)


def activate(shot: str) -> None:
    settings().active = settings().shots.find(shot)
    with drive.override():
        bpy.ops.understudy.shot_view()
    bpy.ops.ed.undo_push(message="Active Shot")


def panels(*labels: str):
    """Open these panels of the sidebar, and close the others."""
    classes = [cls for module in addon.MODULES for cls in getattr(module, "CLASSES", ())
               if issubclass(cls, bpy.types.Panel) and not hasattr(cls, "bl_parent_id")]
    with drive.override():
        there = sorted((cls for cls in classes if not hasattr(cls, "poll") or cls.poll(bpy.context)),
                       key=lambda cls: getattr(cls, "bl_order", 0))
    places = [place for place, cls in enumerate(there) if cls.bl_label in labels]
    assert len(places) == len(labels), [cls.bl_label for cls in there]
    bar = drive.region("UI")
    yield from drive.move(*drive.at(bar, 100, 300))
    yield from drive.click(*drive.at(bar, 100, 300), button=4, count=60)  # to the top
    yield from drive.click(*drive.at(bar, 100, 12), hold="ctrl")
    yield from drive.click(*drive.at(bar, 100, 12))
    for place in reversed(places):
        yield from drive.click(*drive.at(bar, 100, 12 + HEADER * place))
    yield 0.5


def scroll():
    """To the end of the sidebar."""
    yield from drive.click(*drive.at(drive.region("UI"), 100, 300), button=5, count=60)
    yield 0.5


def over_the_view():
    """Put the mouse where keys go to the viewport."""
    yield from drive.move(*drive.at(drive.region(), 300, 400))


def undo_and_redo(done):
    """What was done last is one undo step."""
    assert done()
    yield from over_the_view()
    yield from drive.press("ctrl+z")
    yield from until(lambda: not done(), "it is undone")
    yield from drive.press("ctrl+shift+z")
    yield from until(done, "it is done again")


class watched(drive.Gaps):
    """Keeps the longest gap of a step."""

    def __init__(self, step: str):
        super().__init__()
        self.step = step

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        gaps[self.step] = round(max(self.longest, gaps.get(self.step, 0.0)), 3)


drive.run(story)
