"""What goes wrong around a solve: the scene changes under it, files go, disks fill, processes are killed."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import bpy
import numpy as np
import pytest

from understudy.blender_addon import faces, paths, pump, runtime, solving
from understudy.core.meshcache import read_cache

PATIENCE = 120  # s until a test gives up


def shot_of(scene):
    return scene.understudy.shot


def begin(scene, until=lambda run: run.state == "starting") -> runtime.Run:
    """A solve of the active shot that has come as far as that."""
    run = solving.solve(scene, shot_of(scene))
    end = time.monotonic() + PATIENCE
    while not until(run) and run.active and time.monotonic() < end:
        pump.tick()
    return run


def solve(scene) -> runtime.Run:
    run = begin(scene)
    pump.finish()
    return run


def shown(object: bpy.types.Object, frame: float) -> np.ndarray:
    """What is seen at a frame, (V, 3)."""
    bpy.context.scene.frame_set(int(frame), subframe=frame % 1)
    mesh = object.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    result = np.empty((len(mesh.vertices), 3), np.float32)
    mesh.vertices.foreach_get("co", result.ravel())
    return result


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


WHOLE = {f"take one.v001{suffix}" for suffix in (".pc2", ".json", ".npy")}


# ---- files


def test_actor_folder_moved(scene, folder):
    (folder / "actor").rename(folder / "elsewhere")
    run = solve(scene)
    assert run.state == "failed" and str(folder / "actor") in run.text and "Traceback" not in run.text
    assert bpy.ops.understudy.actor_open(filepath=str(folder / "elsewhere")) == {"FINISHED"}
    assert solve(scene).state == "done", "opening it where it is now is all that is needed"


def test_actor_half_copied(scene, folder):
    model = folder / "actor" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-5000])
    run = solve(scene)
    assert run.state == "failed" and "not a whole model file" in run.text and "Copy it again" in run.text


def test_footage_replaced_by_a_shorter_one(scene, folder):
    solve(scene)
    shutil.copyfile(folder / "second.mp4", folder / "take one.mp4")
    run = solve(scene)
    shot = shot_of(scene)
    assert run.state == "done", run.text
    assert (shot.frames, shot.first, shot.last, shot.solved_last) == (12, 0, 11, 11)


def test_read_only_folder(scene, folder, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    run = solve(scene)
    assert run.state == "failed" and str(folder / "understudy") in run.text
    assert "Permission denied" in run.text and "Choose a cache folder that can be written" in run.text


@pytest.fixture
def small_disk(tmp_path):
    """small_disk(size in kB): a folder on a disk of that size."""
    folder, mounted = tmp_path / "small", []

    def make(size: int) -> Path:
        folder.mkdir()
        if not hasattr(os, "getuid") or os.getuid() or subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", folder]).returncode:
            pytest.skip("needs root, to mount a small disk")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("free, begun", [(0, False), (0, True), (4, True), (16, True)])
def test_disk_full(scene, small_disk, free, begun, monkeypatch):
    """begun : it becomes full only when the worker has begun."""
    disk = small_disk(512)
    if begun:
        monkeypatch.setattr(solving, "check_space", lambda folder, size: None)
    scene.understudy.cache_folder = str(disk)
    (disk / "ballast").write_bytes(bytes((512 - free) << 10))
    run = solve(scene)
    assert run.state == "failed" and ("space" in run.text or "Make room" in run.text), run.text
    assert "Traceback" not in run.text
    assert not {name for name in files_in(disk) if name.endswith((".pc2", ".json", ".npy"))}
    (disk / "ballast").unlink()
    assert solve(scene).state == "done"


@pytest.mark.parametrize("name, stem", [
    ("a/b\\c:d", "a_b_c_d"), ("x" * 200, "x" * 48), ("日" * 200, "日" * 48), ("CON", "_CON"), ("nul.1", "_nul.1"),
    ("🎭", "_"), (" . ", "shot"), ("*[a]?", "__a__"), ("né", "né")])
def test_names_of_shots(scene, folder, name, stem):
    shot_of(scene).name = name
    assert solve(scene).state == "done"
    assert f"{stem}.v001.pc2" in files_in(folder / "understudy")
    assert solving.stale(scene.understudy, shot_of(scene)) == ""
    assert bpy.ops.understudy.solve(shot=name) == {"FINISHED"}


def test_a_path_that_is_too_long(scene, folder):
    scene.understudy.cache_folder = "//" + "/".join(["long " * 20] * 14)
    run = solve(scene)
    assert run.state == "failed" and "Choose a cache folder" in run.text and len(run.text) < 2500


def test_paths_that_windows_wrote(scene, folder):
    solve(scene)
    shot = shot_of(scene)
    shot.cache = "//understudy\\take one.v001.pc2"
    scene.understudy.model = "//actor\\model.safetensors"
    assert paths.absolute(shot.cache).is_file()
    assert bpy.ops.understudy.output_set(form="BASIS") == {"FINISHED"}
    shot.footage = "C:\\footage\\take.mp4"
    run = solve(scene)
    assert run.state == "failed" and "C:\\footage\\take.mp4" in run.text


def test_unsaved_then_saved_then_collected(folder, worker_python, monkeypatch, tmp_path):
    monkeypatch.setenv("UNDERSTUDY_PYTHON", str(worker_python))
    bpy.ops.understudy.actor_open(filepath=str(folder / "actor"))
    bpy.ops.understudy.shot_add(filepath=str(folder / "take one.mp4"))
    scene = bpy.context.scene
    solve(scene)
    first = paths.absolute(shot_of(scene).cache)
    before = shown(shot_of(scene).face, 7)
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "späť.blend"))
    assert paths.absolute(shot_of(scene).cache) == first
    assert bpy.ops.understudy.collect() == {"FINISHED"}
    assert shot_of(scene).cache == f"//späť files/cache/{first.name}"
    for path in (first, first.with_suffix(".json"), first.with_suffix(".npy")):
        path.unlink()
    np.testing.assert_array_equal(shown(shot_of(scene).face, 7), before)
    assert solve(scene).state == "done" and shot_of(scene).cache == "//understudy/take one.v001.pc2"


def test_image_sequence_with_a_gap(scene, folder, worker_python):
    pictures = folder / "pictures"
    pictures.mkdir()
    code = ("import av, sys\nfor i, frame in enumerate(av.open(sys.argv[1]).decode(video=0)):\n"
            "    frame.to_image().save(f'{sys.argv[2]}/p.{i:04}.png') if i != 5 else None\n")
    try:
        subprocess.run([worker_python, "-c", code, folder / "second.mp4", pictures], check=True, capture_output=True)
    except subprocess.CalledProcessError:
        code = code.replace("frame.to_image().save(f'{sys.argv[2]}/p.{i:04}.png')",
                            "cv2.imwrite(f'{sys.argv[2]}/p.{i:04}.png', frame.to_ndarray(format='bgr24'))")
        subprocess.run([worker_python, "-c", "import cv2\n" + code, folder / "second.mp4", pictures], check=True)
    with pytest.raises(RuntimeError, match="5"):
        bpy.ops.understudy.shot_add(filepath=str(pictures / "p.0000.png"))


# ---- objects


def test_order_of_vertices_changed(scene):
    face = faces.ensure(scene, shot_of(scene))
    solve(scene)
    bpy.context.view_layer.objects.active = face
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.select_all(action="SELECT")
    bpy.ops.mesh.sort_elements(type="REVERSE", elements={"VERT"})
    bpy.ops.object.mode_set(mode="OBJECT")
    run = solve(scene)
    assert run.state == "failed" and "is not the mesh that the actor was trained on" in run.text
    assert "order" in run.text


def test_vertices_deleted_after_a_solve(scene):
    solve(scene)
    face = shot_of(scene).face
    bpy.context.view_layer.objects.active = face
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.select_all(action="SELECT")
    bpy.ops.mesh.delete(type="VERT")
    bpy.ops.object.mode_set(mode="OBJECT")
    assert "mesh of" in solving.stale(scene.understudy, shot_of(scene))
    with pytest.raises(RuntimeError, match="solved for another mesh|no mesh"):
        bpy.ops.understudy.output_set(form="BASIS")
    assert solve(scene).state == "failed"


def link(scene, folder, override: bool):
    """The face of the shot comes from a library."""
    face = faces.ensure(scene, shot_of(scene))
    face.shape_key_add(name="Basis")
    face.shape_key_add(name="smile")
    bpy.data.libraries.write(str(folder / "lib.blend"), {face})
    name = face.name
    with bpy.data.libraries.load(str(folder / "lib.blend"), link=True) as (_, target):
        target.objects = [name]
    linked = target.objects[0]
    scene.collection.objects.link(linked)
    if override:
        linked = linked.override_create(remap_local_usages=True)
        if linked.name not in scene.collection.objects:
            scene.collection.objects.link(linked)
    shot_of(scene).face = linked
    return linked


def test_linked_face(scene, folder):
    link(scene, folder, override=False)
    run = solve(scene)
    assert run.state == "failed" and "is linked from" in run.text and "Make it local" in run.text


def test_library_override_plays_a_mesh_cache(scene, folder):
    face = link(scene, folder, override=True)
    shot_of(scene).output = "BASIS"
    run = solve(scene)
    assert run.state == "failed" and "is linked from" in run.text and not files_in(folder / "understudy")
    shot_of(scene).output = "MESH_CACHE"
    run = solve(scene)
    assert run.state == "done", run.text
    cache = read_cache(folder / "understudy" / "take one.v001.pc2")
    np.testing.assert_allclose(shown(face, 7), cache[6], atol=1e-6)
    with pytest.raises(RuntimeError, match="is linked from"):
        bpy.ops.understudy.output_set(form="BASIS")


def test_shared_mesh(scene):
    face = faces.ensure(scene, shot_of(scene))
    other = bpy.data.objects.new("Other", face.data)
    scene.collection.objects.link(other)
    shot_of(scene).output = "BASIS"
    run = solve(scene)
    assert run.state == "done" and "mesh of its own" in run.warnings[0]
    assert run.warnings == list(dict.fromkeys(run.warnings))
    np.testing.assert_allclose(shown(other, 9), shown(other, 1))


def test_keys_and_modifiers_of_the_artist(scene, folder):
    face = faces.ensure(scene, shot_of(scene))
    face.shape_key_add(name="Basis")
    face.shape_key_add(name="smile")
    armature = face.modifiers.new("Armature", "ARMATURE")
    subdivision = face.modifiers.new("Subdivision", "SUBSURF")
    subdivision.levels = 0
    assert solve(scene).state == "done"
    assert [modifier.type for modifier in face.modifiers] == ["MESH_CACHE", "ARMATURE", "SUBSURF"]
    assert armature.name == "Armature"
    cache = read_cache(folder / "understudy" / "take one.v001.pc2")
    np.testing.assert_allclose(shown(face, 7), cache[6], atol=1e-5)
    face.data.shape_keys.use_relative = False
    run = solve(scene)
    assert run.state == "done", run.text


def test_another_mesh_cache_is_told_of(scene):
    face = faces.ensure(scene, shot_of(scene))
    face.modifiers.new("Old Take", "MESH_CACHE")
    run = solve(scene)
    assert run.state == "done"
    assert run.warnings == [f"Old Take on {face.name} is another Mesh Cache, which hides the solve. Turn it off or "
                            "remove it."]


def test_edit_mode_without_a_window(scene):
    face = faces.ensure(scene, shot_of(scene))
    bpy.context.view_layer.objects.active = face
    bpy.ops.object.mode_set(mode="EDIT")
    run = solve(scene)
    assert run.state == "failed" and "is in Edit Mode. Leave it first" in run.text
    bpy.ops.object.mode_set(mode="OBJECT")
    assert solve(scene).state == "done"
