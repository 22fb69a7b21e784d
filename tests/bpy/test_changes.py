"""The scene changes under a solve and after it: undo, deleting, copies, renaming, another frame rate."""

import shutil
import time

import bpy
import numpy as np
import pytest

from understudy.blender_addon import faces, outputs, pump, runtime, solving, timing
from understudy.blender_addon.modifier import modifier_of
from understudy.core.meshcache import read_cache

PATIENCE = 120  # s until a test gives up


def shot_of(scene):
    return scene.understudy.shot


def begin(scene, until=lambda run: run.done > 0) -> runtime.Run:
    """A solve of the active shot that has come as far as that."""
    run = solving.solve(scene, shot_of(scene))
    end = time.monotonic() + PATIENCE
    while not until(run) and run.active and time.monotonic() < end:
        pump.tick()
    return run


def solve(scene) -> runtime.Run:
    run = begin(scene)
    pump.finish()
    assert run.state == "done", run.text
    return run


def shown(object: bpy.types.Object, frame: float) -> np.ndarray:
    """What is seen at a frame, (V, 3)."""
    scene = bpy.context.scene
    scene.frame_set(int(np.floor(frame)), subframe=frame % 1)
    mesh = object.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    result = np.empty((len(mesh.vertices), 3), np.float32)
    mesh.vertices.foreach_get("co", result.ravel())
    return result


def check_solved(folder, version=1):
    """The active shot shows its solve."""
    shot = shot_of(bpy.context.scene)
    cache = read_cache(folder / "understudy" / f"take one.v{version:03}.pc2")
    np.testing.assert_allclose(shown(shot.face, 7), cache[6], atol=1e-6)


@pytest.fixture
def undo():
    """Undo in background mode, which Blender does not offer without a window in every version."""
    bpy.context.preferences.edit.use_global_undo = True
    bpy.ops.ed.undo_push(message="Before")
    return lambda: bpy.ops.ed.undo()


# ---- undo


def test_undo_and_redo_after_a_solve(scene, folder, undo):
    bpy.ops.ed.undo_push(message="Begin")
    solve(scene)
    bpy.ops.ed.undo_push(message="Solve")
    undo()
    shot = shot_of(bpy.context.scene)
    assert not shot.solved and not (shot.face and modifier_of(shot.face))
    bpy.ops.ed.redo()
    check_solved(folder)


def test_undo_to_before_a_training_keeps_its_model(scene, folder, undo):
    bpy.ops.ed.undo_push(message="Begin")
    old = scene.understudy.model_sha256
    shutil.copyfile(folder / "actor" / "other.safetensors", folder / "actor" / "model.safetensors")
    faces.refresh_model(scene.understudy)  # as when a training ends
    new = scene.understudy.model_sha256
    bpy.ops.ed.undo_push(message="Something else")
    for step in (undo, bpy.ops.ed.redo):
        step()
        assert bpy.context.scene.understudy.model_sha256 == new != old


def test_undo_in_the_middle(scene, folder, undo):
    bpy.ops.ed.undo_push(message="One")
    scene.frame_end = 77
    bpy.ops.ed.undo_push(message="Two")
    run = begin(scene)
    undo()
    pump.finish()
    assert run.state == "done", run.text
    check_solved(folder)


def test_undo_of_the_shot_itself_in_the_middle(scene, folder, undo):
    uid = shot_of(scene).uid
    bpy.ops.ed.undo_push(message="Begin")
    bpy.ops.understudy.shot_add(filepath=str(folder / "second.mp4"))
    bpy.ops.ed.undo_push(message="Second")
    run = begin(scene)
    undo()
    pump.finish()
    assert run.state == "cancelled" and "removed" in run.text
    assert [shot.uid for shot in bpy.context.scene.understudy.shots] == [uid]


def test_undo_to_the_middle_of_a_solve(scene, folder, undo):
    """A step that was made while the face played a growing cache does not bring that back."""
    solve(scene)
    bpy.ops.ed.undo_push(message="Solve")
    run = begin(scene, lambda run: run.done > 0)
    outputs.show_growing(scene, shot_of(scene), folder / "understudy" / "take one.v002.pc2", 0)
    bpy.context.scene.frame_end = 77
    bpy.ops.ed.undo_push(message="End Frame")
    pump.finish()
    assert run.state == "done"
    bpy.ops.ed.undo_push(message="Solve again")
    check_solved(folder, 2)
    undo()
    check_solved(folder, 1)
    assert shot_of(bpy.context.scene).cache.endswith("v001.pc2")


def test_file_saved_in_the_middle(scene, folder):
    begin(scene, lambda run: run.done > 0)
    outputs.show_growing(scene, shot_of(scene), folder / "understudy" / "take one.v001.pc2", 0)
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "middle.blend"), copy=True)
    pump.finish()
    bpy.ops.wm.open_mainfile(filepath=str(folder / "middle.blend"))
    shot = shot_of(bpy.context.scene)
    assert not shot.solved and not shot.face.modifiers


# ---- deleting, loading


@pytest.mark.parametrize("delete", ["object", "from the scene", "collection"])
def test_face_deleted_in_the_middle(scene, folder, delete):
    begin(scene)
    face = shot_of(scene).face
    if delete == "object":
        bpy.data.objects.remove(face)
    elif delete == "from the scene":
        with bpy.context.temp_override(selected_objects=[face], selected_ids=[face]):
            bpy.ops.object.delete()
        assert scene not in face.users_scene
    else:
        collection = faces.collection(scene, shot_of(scene))
        for object in list(collection.objects):
            collection.objects.unlink(object)
        bpy.data.collections.remove(collection)
    pump.finish()
    run = runtime.run_of(shot_of(scene).uid)
    assert run.state == "done", run.text
    assert scene in shot_of(scene).face.users_scene
    check_solved(folder)


def test_scene_deleted_in_the_middle(scene, folder):
    other = bpy.data.scenes.new("Other")
    run = begin(scene)
    bpy.context.window.scene = other
    bpy.data.scenes.remove(scene)
    pump.finish()
    assert run.state == "cancelled" and "removed" in run.text


@pytest.mark.parametrize("load", ["new", "open", "revert"])
def test_another_file_in_the_middle(scene, folder, load):
    bpy.ops.wm.save_mainfile()
    run = begin(scene)
    if load == "new":
        bpy.ops.wm.read_homefile(use_empty=True)
    elif load == "open":
        bpy.ops.wm.open_mainfile(filepath=str(folder / "scene.blend"))
    else:
        bpy.ops.wm.revert_mainfile()
    assert not pump.busy() and not runtime.runs
    end = time.monotonic() + PATIENCE
    while pump.service("solver")._watch is not None and time.monotonic() < end:  # it stops at its next step
        pump.service("solver").poll()
    if (folder / "understudy" / "take one.v001.pc2").exists():
        assert (folder / "understudy" / "take one.v001.json").exists()
    if load != "new":
        assert not shot_of(bpy.context.scene).solved
        solve(bpy.context.scene)
        assert not list((folder / "understudy").glob("*.job"))
    assert run.state != "done"


def test_every_plate_stands_beside_its_face(scene, folder):
    assert bpy.ops.understudy.shot_add(filepath=str(folder / "second.mp4")) == {"FINISHED"}
    one, other = scene.understudy.shots
    assert one.face != other.face
    assert one.plate.empty_display_size == pytest.approx(other.plate.empty_display_size, rel=1e-3)
    assert (one.plate.location - other.plate.location).length < 0.05 * one.plate.empty_display_size


def test_template_deleted(scene, folder):
    solve(scene)
    bpy.data.objects.remove(shot_of(scene).face)
    solve(scene)
    check_solved(folder, 2)


def test_actor_opened_twice(scene, folder):
    count = len(bpy.data.objects)
    bpy.ops.understudy.actor_open(filepath=str(folder / "actor"))
    bpy.ops.understudy.actor_open(filepath=str(folder / "actor" / "model.safetensors"))
    assert len(bpy.data.objects) == count
    solve(scene)


def test_model_replaced_in_the_middle(scene, folder):
    begin(scene, lambda run: run.state == "solving")
    shutil.copyfile(folder / "actor" / "other.safetensors", folder / "actor" / "new.safetensors")
    (folder / "actor" / "new.safetensors").replace(folder / "actor" / "model.safetensors")
    pump.finish()
    shot = shot_of(scene)
    assert shot.solved
    faces.refresh_model(scene.understudy)
    assert solving.stale(scene.understudy, shot) == "solved by another model"


# ---- copies and names


@pytest.mark.parametrize("kind", ["FULL_COPY", "LINK_COPY"])
def test_copy_of_the_scene(scene, folder, kind):
    solve(scene)
    face, plate = shot_of(scene).face, shot_of(scene).plate
    here = set(scene.objects)
    bpy.ops.scene.new(type=kind)
    copy = bpy.context.scene
    assert copy != scene
    run = begin(copy)
    pump.finish()
    assert run.state == "done", run.text
    check_solved(folder, 2)
    assert shot_of(copy).uid != shot_of(scene).uid
    assert set(scene.objects) == here and shot_of(scene).face == face and shot_of(scene).plate == plate
    if kind == "FULL_COPY":
        assert shot_of(copy).face != face
        bpy.context.window.scene = scene
        check_solved(folder, 1)


def test_two_shots_of_one_name(scene, folder):
    bpy.ops.understudy.shot_add(filepath=str(folder / "second.mp4"))
    scene.understudy.shots[1].name = "take one"
    runs = [solving.solve(scene, shot) for shot in scene.understudy.shots]
    pump.finish()
    assert [run.state for run in runs] == ["done", "done"]
    assert {shot.cache for shot in scene.understudy.shots} == {
        "//understudy/take one.v001.pc2", "//understudy/take one.v002.pc2"}


def test_everything_renamed(scene, folder):
    solve(scene)
    scene.name, shot_of(scene).name, shot_of(scene).face.name = "Szene 2", "Ümlaut", "Gesicht"
    shot_of(scene).face.data.name = "mesh"
    for collection in bpy.data.collections:
        collection.name = f"renamed {collection.name}"
    bpy.ops.wm.save_mainfile()
    bpy.ops.wm.open_mainfile(filepath=str(folder / "scene.blend"))
    scene = bpy.context.scene
    check_solved(folder)
    assert bpy.ops.understudy.solve() == {"FINISHED"}
    assert shot_of(scene).cache == "//understudy/Ümlaut.v001.pc2" and shot_of(scene).face.name == "Gesicht"


# ---- frame rate


@pytest.mark.parametrize("form", ["MESH_CACHE", "BASIS"])
def test_frame_rate_changed_by_hand(scene, folder, form):
    scene.render.fps, scene.render.fps_base = 30, 1
    shot = shot_of(scene)
    shot.pace, shot.output = "TIME", form
    solve(scene)
    cache = read_cache(folder / "understudy" / "take one.v001.pc2")
    np.testing.assert_allclose(shown(shot.face, 11), cache[10], atol=1e-4)
    scene.render.fps = 60
    np.testing.assert_allclose(shown(shot.face, 21), cache[10], atol=1e-4)
    scene.render.fps_base = 2
    bpy.context.view_layer.update()
    assert timing.mapping(scene, shot).ratio == 1
    np.testing.assert_allclose(shown(shot.face, 11), cache[10], atol=1e-4)
