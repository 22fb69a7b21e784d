"""What a farm node needs lies beside the .blend; old caches go."""

import importlib.util
import shutil
from pathlib import Path

import bpy
import numpy as np
import pytest

from understudy.blender_addon import collect, edits, outputs
from understudy.blender_addon.modifier import modifier_of
from understudy.blender_addon.operators import outputs as operators
from understudy.core.errors import UnderstudyError

SPEC = importlib.util.spec_from_file_location("stand", Path(__file__).with_name("stand.py"))
stands = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(stands)


@pytest.fixture(autouse=True)
def registered_operators(registered):
    mine = [cls for cls in operators.CLASSES if not cls.is_registered]
    for cls in mine:
        bpy.utils.register_class(cls)
    yield
    for cls in mine:
        bpy.utils.unregister_class(cls)


@pytest.fixture
def stand(tmp_path):
    (tmp_path / "else where").mkdir()
    stand = stands.make_stand(tmp_path / "else where")
    for number in range(3):
        (stand.folder / f"take.{number:04}.png").write_bytes(b"x" * (100 + number))
    stand.shot.footage = str(stand.folder / "take.0000.png")
    image = bpy.data.images.new("plate", 8, 8)
    image.source, image.filepath, image.use_fake_user = "SEQUENCE", stand.shot.footage, True
    list(outputs.show(stand.scene, stand.shot, "MESH_CACHE"))
    return stand


def saved(tmp_path, name="scène.blend"):
    (tmp_path / "job").mkdir(exist_ok=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "job" / name))
    return tmp_path / "job"


def test_dependencies_and_their_sizes(stand):
    found = {dependency.kind: dependency for dependency in collect.dependencies()}
    assert set(found) == {"cache", "footage", "model"}
    assert [file.suffix for file in found["cache"].files] == [".pc2", ".json", ".npy"]
    assert found["footage"].size == 303 and len(found["footage"].files) == 3
    stand.model.unlink()
    assert [dependency.missing for dependency in collect.dependencies()] == [False, False, True]


def test_collected_folder_is_enough(stand, tmp_path):
    folder = saved(tmp_path)
    assert bpy.ops.understudy.collect() == {"FINISHED"}
    files = {str(path.relative_to(folder)) for path in (folder / "scène files").rglob("*") if path.is_file()}
    assert files == {f"scène files/{name}" for name in (
        "cache/take ä.v001.pc2", "cache/take ä.v001.json", "cache/take ä.v001.npy", "footage/else where/take.0000.png",
        "footage/else where/take.0001.png", "footage/else where/take.0002.png")}
    bpy.ops.wm.save_mainfile()
    shutil.rmtree(stand.folder)
    moved = shutil.move(folder, tmp_path / "farm")
    bpy.ops.wm.open_mainfile(filepath=str(Path(moved) / "scène.blend"))
    face, shot = bpy.data.objects["Zoë"], bpy.context.scene.understudy.shots[0]
    assert np.array_equal(stands.look(face, 104), stand.samples[3])
    assert modifier_of(face).filepath == shot.cache == "//scène files/cache/take ä.v001.pc2"
    assert shot.footage == bpy.data.images["plate"].filepath == "//scène files/footage/else where/take.0000.png"


def test_collecting_twice_copies_once_and_never_over_other_files(stand, tmp_path):
    folder = saved(tmp_path)
    (folder / "scène files" / "cache").mkdir(parents=True)
    other = folder / "scène files" / "cache" / "take ä.v001.pc2"
    other.write_bytes(b"somebody else's")
    old = stand.shot.cache
    bpy.ops.understudy.collect(model=True)
    stand = bpy.context.scene.understudy
    assert other.read_bytes() == b"somebody else's" and stand.shots[0].cache.startswith("//scène files/cache 2/")
    assert stand.model == "//scène files/model/model.safetensors"
    stand.shots[0].cache = old
    count = len(list(folder.rglob("*")))
    bpy.ops.understudy.collect(model=True)
    assert len(list(folder.rglob("*"))) == count


def test_what_is_missing_is_told_before_anything_changes(stand, tmp_path):
    with pytest.raises(UnderstudyError, match="Save the .blend first"):
        next(collect.collect())
    folder = saved(tmp_path)
    (stand.folder / "take.0001.png").unlink()
    before = bpy.context.scene.understudy.shots[0].cache
    with pytest.raises(UnderstudyError, match="take.0000.png is missing"):
        next(collect.collect())
    assert [path.name for path in folder.iterdir()] == ["scène.blend"]
    assert bpy.context.scene.understudy.shots[0].cache == before


def test_unused_caches_are_older_versions_that_nothing_plays(stand):
    for name in ("take ä.v000", "take ä.v007", "other.v000"):
        for suffix in (".pc2", ".json", ".npy"):
            shutil.copy(stand.cache.with_suffix(suffix), stand.folder / f"{name}{suffix}")
    stands.solve_again(stand)
    user = bpy.data.objects.new("user", bpy.data.meshes.new("user")).modifiers.new("x", "MESH_CACHE")
    modifier_of(stand.face).filepath = stand.shot.cache
    assert [cache.path.name for cache in collect.unused_caches()] == ["take ä.v000.pc2", "take ä.v001.pc2"]
    user.filepath = str(stand.cache)
    assert bpy.ops.understudy.caches_remove_unused() == {"FINISHED"}
    assert sorted(path.name for path in stand.folder.glob("*.pc2")) == [
        "other.v000.pc2", "take ä.v001.pc2", "take ä.v002.pc2", "take ä.v007.pc2"]
    assert not (stand.folder / "take ä.v000.json").exists() and not (stand.folder / "take ä.v000.npy").exists()


def test_operators(stand):
    operator = bpy.ops.understudy
    assert operator.output_set(form="BASIS") == {"FINISHED"} and stand.shot.output == "BASIS"
    bpy.context.scene.frame_set(106)
    bpy.context.view_layer.objects.active = stand.face
    bpy.ops.object.mode_set(mode="EDIT")
    assert operator.edit_add(falloff=0) == {"FINISHED"}
    assert stand.face.mode == "EDIT", "the artist stays in the mode he was in"
    assert operator.output_set(form="MESH_CACHE") == {"FINISHED"} and stand.face.mode == "OBJECT"
    assert [block.name for block in edits.listed(stand.face)] == ["Edit f0106"]
    assert operator.edit_remove(name="Edit f0106") == {"FINISHED"} and not edits.listed(stand.face)
    with pytest.raises(RuntimeError, match="no correction named"):
        operator.edit_remove(name="Edit f0106")
    assert operator.solve_clear() == {"FINISHED"} and not stand.face.modifiers
    assert not operator.edit_add.poll() and operator.output_set(form="FRAMES") == {"FINISHED"}
    assert stand.shot.output == "FRAMES", "the form of the solve to come"
