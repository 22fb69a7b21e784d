"""From the click to the mesh, with a real worker: what animators do, and what goes wrong on the way."""

import json
import shutil
import time
from pathlib import Path

import bpy
import numpy as np
import pytest

from understudy.blender_addon import edits, pump, runtime, solving
from understudy.blender_addon.solving import Order
from understudy.core.errors import UnderstudyError
from understudy.core.meshcache import read_cache
from understudy.core.solved import read_solved


def positions(object: bpy.types.Object, frame: float) -> np.ndarray:
    """(V, 3) of what is shown at a frame of the scene."""
    bpy.context.scene.frame_set(int(frame), subframe=frame % 1)
    mesh = object.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    result = np.empty((len(mesh.vertices), 3), np.float32)
    mesh.vertices.foreach_get("co", result.ravel())
    return result


def solve(scene, **options) -> runtime.Run:
    shot = scene.understudy.shot
    bpy.ops.understudy.solve(**options)
    return runtime.run_of(shot.uid)


def test_opening_an_actor(scene):
    settings = scene.understudy
    assert (settings.actor_name, settings.vertices, settings.actor) == ("Zoë", 12, "//actor")
    face = settings.template
    assert {group.name for group in face.vertex_groups} >= {"animated", "stabiliser", "mouth"}
    assert tuple(settings.crop) == (12, 16, 240, 320)


def test_facts_of_the_footage(scene):
    shot = scene.understudy.shot
    assert (shot.name, shot.frames, shot.width, shot.height, shot.first, shot.last) == ("take one", 40, 272, 352, 0, 39)
    assert shot.fps == 30 and shot.footage == "//take one.mp4" and not shot.variable


def test_solve_shot(scene, folder):
    run = solve(scene)
    shot = scene.understudy.shot
    assert run.state == "done", run.text
    assert (shot.solved_first, shot.solved_last, shot.status) == (0, 39, "SOLVED")
    assert shot.cache == "//understudy/take one.v001.pc2"
    cache = read_cache(folder / "understudy" / "take one.v001.pc2")
    for frame in (1, 2, 40):  # scene frame 1 plays source frame 0
        np.testing.assert_allclose(positions(shot.face, frame), cache[frame - 1], atol=1e-6)
    assert not list((folder / "understudy").glob("*.job")), "a solve that went well leaves no job folder"
    assert solving.stale(scene.understudy, shot) == ""


@pytest.mark.parametrize("output", ["BASIS", "FRAMES"])
def test_solve_to_another_form(scene, folder, output):
    assert solve(scene, output=output).state == "done"
    shot = scene.understudy.shot
    cache = read_cache(folder / "understudy" / "take one.v001.pc2")
    assert shot.output == output
    for frame in (1, 17, 40):
        np.testing.assert_allclose(positions(shot.face, frame), cache[frame - 1], atol=1e-4)


def test_a_part_replaces_only_itself(scene, folder):
    solve(scene)
    shot = scene.understudy.shot
    scene.understudy.model = "//actor/other.safetensors"
    assert solve(scene, first=10, last=19).state == "done"
    before, after = (read_cache(folder / "understudy" / f"take one.v00{n}.pc2") for n in (1, 2))
    changed = np.flatnonzero(np.abs(np.asarray(before) - after).max(axis=(1, 2)))
    np.testing.assert_array_equal(changed, np.arange(10, 20))
    assert (shot.solved_first, shot.solved_last) == (0, 39)
    np.testing.assert_allclose(positions(shot.face, 16), after[15], atol=1e-6)


def test_the_preview_range_says_which_part(scene):
    solve(scene)
    scene.use_preview_range, scene.frame_preview_start, scene.frame_preview_end = True, 5, 8
    run = solve(scene, preview_range=True)
    assert run.state == "done" and run.total == 4


def test_solving_again_keeps_the_old_file(scene, folder):
    solve(scene)
    solve(scene)
    assert scene.understudy.shot.cache == "//understudy/take one.v002.pc2"
    assert (folder / "understudy" / "take one.v001.pc2").exists(), "an older .blend, or undo, may still show it"


def test_stale(scene, folder):
    solve(scene)
    settings, shot = scene.understudy, scene.understudy.shot
    edits.add(scene, shot, 5)
    shutil.copyfile(folder / "actor" / "other.safetensors", folder / "actor" / "model.safetensors")
    bpy.ops.understudy.actor_reload()
    assert solving.stale(settings, shot) == "solved by another model"
    assert bpy.ops.understudy.solve_all() == {"FINISHED"}
    assert solving.stale(settings, shot) == ""
    assert "another model's solve" in runtime.run_of(shot.uid).warnings[-1]
    settings.crop = (10, 16, 240, 320)
    assert solving.stale(settings, shot) == "the crop has changed"


def test_cancel_keeps_what_is_done(scene, folder):
    run = solving.solve(scene, scene.understudy.shot)
    until = time.monotonic() + 60
    while run.done == 0 and time.monotonic() < until:
        pump.tick()
    run.stop = True
    pump.finish()
    shot = scene.understudy.shot
    if run.state == "done":
        pytest.skip("the worker was faster than the artist")
    assert run.state == "cancelled" and "frames" in run.text
    cache = read_solved(folder / "understudy" / "take one.v001.pc2")
    assert cache.count == shot.solved_last + 1 < 40


def test_two_shots_share_a_worker_and_the_queue(scene, folder):
    bpy.ops.understudy.shot_add(filepath=str(folder / "second.mp4"))
    runs = [solving.solve(scene, shot) for shot in scene.understudy.shots]
    pump.tick()
    assert runs[1].state == "queued"
    pump.finish()
    assert [run.state for run in runs] == ["done", "done"]
    faces = {shot.face for shot in scene.understudy.shots}
    assert len(faces) == 2, "each shot moves a face of its own"


def test_a_waiting_shot_can_be_taken_first(scene, folder):
    shutil.copyfile(folder / "second.mp4", folder / "third.mp4")
    for name in ("second", "third"):
        bpy.ops.understudy.shot_add(filepath=str(folder / f"{name}.mp4"))
    runs = [solving.solve(scene, shot) for shot in scene.understudy.shots]
    pump.tick()
    assert bpy.ops.understudy.solve_next() == {"FINISHED"}  # of the active shot, the last
    assert [run.name for run in runtime.active_runs()] == ["take one", "third", "second"]
    ended = []
    while pump.busy():
        pump.tick()
        ended += [run.name for run in runs if run.state == "done" and run.name not in ended]
    assert ended == ["take one", "third", "second"]


def test_worker_killed(scene, folder):
    run = solving.solve(scene, scene.understudy.shot)
    until = time.monotonic() + 60
    while run.state not in ("solving", "done") and time.monotonic() < until:
        pump.tick()
    pump.service("solver").process.kill()
    pump.finish()
    if run.state == "done":
        pytest.skip("the worker was faster")
    assert run.state == "failed" and "without a last word" in run.text and run.log.is_file()
    assert solve(scene).state == "done", "the next solve gets a new worker"


def test_undo_in_the_middle(scene):
    """Undo replaces the scene while a solve runs; it must go on, or stop, but never touch what is gone."""
    run = solving.solve(scene, scene.understudy.shot)
    while run.state == "queued":
        pump.tick()
    scene.understudy.shots.remove(0)
    pump.finish()
    assert run.state == "cancelled" and "removed" in run.text


@pytest.mark.parametrize("break_it, said", [
    (lambda f: (f / "take one.mp4").unlink(), "take one.mp4"),
    (lambda f: (f / "actor" / "model.safetensors").unlink(), "model.safetensors"),
    (lambda f: (f / "actor" / "model.safetensors").write_bytes(b"x" * 1000), "model.safetensors"),
    (lambda f: (f / "take one.mp4").write_bytes(b"no movie"), "take one.mp4"),
    (lambda f: (f / "understudy").write_text("in the way"), "understudy"),
], ids=["footage gone", "model gone", "model damaged", "footage damaged", "cache folder is a file"])
def test_files_that_fail(scene, folder, break_it, said):
    break_it(folder)
    with pytest.raises(RuntimeError, match="Error"):
        bpy.ops.understudy.solve()
    run = runtime.run_of(scene.understudy.shot.uid)
    assert run.state == "failed" and said in run.text and "Traceback" not in run.text
    assert not list(folder.glob("understudy/*.pc2"))


def test_a_face_of_another_mesh(scene):
    bpy.ops.mesh.primitive_cube_add()
    scene.understudy.shot.face = bpy.context.object
    with pytest.raises(RuntimeError, match="8 against 12 vertices|12 against 8 vertices"):
        bpy.ops.understudy.solve()
    assert not bpy.context.object.modifiers


def test_no_interpreter(scene, monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_PYTHON", "/no such/python")
    with pytest.raises(RuntimeError, match="/no such/python"):
        bpy.ops.understudy.solve()


def test_interpreter_without_torch(scene, monkeypatch, folder):
    import sys

    monkeypatch.setenv("UNDERSTUDY_PYTHON", sys.executable)
    with pytest.raises(RuntimeError, match="is not installed for"):
        bpy.ops.understudy.solve()


def test_saving_elsewhere_keeps_the_paths_right(scene, folder, tmp_path):
    solve(scene)
    other = tmp_path / "elsewhere" / "deep"
    other.mkdir(parents=True)
    before = positions(scene.understudy.shot.face, 7)
    bpy.ops.wm.save_as_mainfile(filepath=str(other / "moved.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(other / "moved.blend"))
    shot = bpy.context.scene.understudy.shot
    assert Path(bpy.path.abspath(shot.cache)).resolve() == (folder / "understudy" / "take one.v001.pc2").resolve()
    assert Path(bpy.path.abspath(shot.footage)).resolve() == (folder / "take one.mp4").resolve()
    np.testing.assert_array_equal(positions(shot.face, 7), before)


def test_saving_a_copy_leaves_this_file_alone(scene, folder, tmp_path):
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "copy.blend"), copy=True)
    assert scene.understudy.shot.footage == "//take one.mp4"


def test_unsaved_file(folder, worker_python, monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_PYTHON", str(worker_python))
    bpy.ops.understudy.actor_open(filepath=str(folder / "actor" / "model.safetensors"))
    bpy.ops.understudy.shot_add(filepath=str(folder / "second.mp4"))
    assert solve(bpy.context.scene).state == "done"
    assert Path(bpy.context.scene.understudy.shot.cache).is_file()


def test_renaming_scene_and_face_in_the_middle(scene):
    run = solving.solve(scene, scene.understudy.shot)
    while run.state == "queued":
        pump.tick()
    scene.name, scene.understudy.shot.face.name, scene.understudy.shot.name = "other", "face", "renamed"
    pump.finish()
    assert run.state == "done"
    assert bpy.data.scenes["other"].understudy.shots["renamed"].solved


def test_actor_from_mesh(tmp_path):
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=4, y_subdivisions=4)
    object = bpy.context.object
    object.vertex_groups.new(name="lips").add([0, 1, 2], 1, "ADD")
    assert bpy.ops.understudy.actor_from_mesh(directory=str(tmp_path), name="New Ö", unit="cm") == {"FINISHED"}
    written = json.loads((tmp_path / "New Ö" / "actor.json").read_text(encoding="utf-8"))
    assert written["masks"]["regions"]["lips"] == [0, 1, 2] and written["unit"] == 0.01
    assert bpy.context.scene.understudy.template == object
    assert not bpy.ops.understudy.solve.poll(), "without a model nothing can be solved"


def test_painted_weights_go_into_the_actor(tmp_path):
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=4, y_subdivisions=4)
    object = bpy.context.object
    bpy.ops.understudy.actor_from_mesh(directory=str(tmp_path), name="New", unit="cm")
    group = object.vertex_groups.new(name="lips")
    group.add([0, 1], 1.0, "ADD")
    group.add([2], 0.5, "ADD")

    def written():
        return json.loads((tmp_path / "New" / "actor.json").read_text(encoding="utf-8"))["masks"].get("weights")

    assert bpy.ops.understudy.actor_weights(emphasis=5) == {"FINISHED"}
    assert written() == [5, 5, 3, *[1] * (len(object.data.vertices) - 3)]
    assert bpy.ops.understudy.actor_weights(emphasis=1) == {"FINISHED"} and written() is None


def test_weights_of_another_mesh_are_refused(scene):
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=4, y_subdivisions=4)
    assert not bpy.ops.understudy.actor_weights.poll(), "nothing is painted"
    bpy.context.object.vertex_groups.new(name="lips")
    with pytest.raises(RuntimeError, match="vertices"):
        bpy.ops.understudy.actor_weights()


def test_order_of_a_range_outside(scene):
    run = solving.solve(scene, scene.understudy.shot, Order(30, 50))
    pump.finish()
    assert run.state == "failed" and "0 to 39" in run.text


def test_solving_twice_at_once_is_refused(scene):
    solving.solve(scene, scene.understudy.shot)
    with pytest.raises(UnderstudyError, match="is being solved"):
        solving.solve(scene, scene.understudy.shot)
    pump.finish()


def test_a_worker_that_was_warmed_stays_for_the_solve(scene, folder):
    pump.stop()
    pump.warm(folder / "actor" / "model.safetensors")
    pump.finish()
    process = pump.service("solver").process
    pump.tick()
    assert solve(scene).state == "done"
    assert pump.service("solver").process is process and process.poll() is None
