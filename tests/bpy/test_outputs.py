"""A solve on a face in its three forms: exact, switched without loss, never over what the artist made."""

import importlib.util
from pathlib import Path

import bpy
import numpy as np
import pytest

from understudy.blender_addon import curves, edits, keys, outputs, scene_io, switching
from understudy.blender_addon.modifier import modifier_of
from understudy.blender_addon.timing import mapping
from understudy.core.errors import UnderstudyError
from understudy.core.meshcache import read_cache
from understudy.core.solved import read_solved

SPEC = importlib.util.spec_from_file_location("stand", Path(__file__).with_name("stand.py"))
stands = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(stands)
look, between = stands.look, stands.between

FORMS = ("MESH_CACHE", "BASIS", "FRAMES")
TOLERANCE = 1e-4  # mesh units of a centimetre: 0.001 mm


@pytest.fixture
def stand(tmp_path):
    return stands.make_stand(tmp_path)


def show(stand, form):
    generator = outputs.show(stand.scene, stand.shot, form)
    while True:
        try:
            assert next(generator) is True
        except StopIteration as end:
            return end.value


def differs(stand, samples=None, step=0.5):
    """The largest distance in any coordinate from the solve, over the shot and a little on either side."""
    samples = stand.samples if samples is None else samples
    frames = mapping(stand.scene, stand.shot)
    times = np.arange(frames.scene(stand.first) - 1, frames.scene(stand.first + len(samples)) + 1, step)
    return max(np.abs(look(stand.face, time) - between(samples, frames.source(time) - stand.first)).max()
               for time in times)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("pace, footage, scene", [("FRAME", 60, 24), ("TIME", 60, 24), ("TIME", 24, 60)])
def test_form_is_exact(stand, form, pace, footage, scene):
    stand.scene.render.fps = scene
    stand.shot.fps, stand.shot.pace = footage, pace
    show(stand, form)
    assert stand.shot.output == form
    if pace == "FRAME":
        assert differs(stand) < TOLERANCE
    else:  # between its keys, a curve is straight in time, as the cache is
        assert differs(stand, step=0.1) < TOLERANCE


@pytest.mark.parametrize("old", FORMS)
@pytest.mark.parametrize("new", FORMS)
def test_switch_is_lossless(stand, old, new):
    show(stand, old)
    cache = stand.shot.cache
    assert show(stand, new) == []
    assert differs(stand) < TOLERANCE and stand.shot.output == new
    assert stand.shot.cache == cache, "the very same cache, when nothing was changed"
    show(stand, "MESH_CACHE")
    assert stand.face.data.shape_keys is None and not bpy.data.actions, "nothing of the old form is left"
    assert np.array_equal(look(stand.face, 104), stand.samples[3])


@pytest.mark.parametrize("form", FORMS)
def test_retime(stand, form):
    show(stand, form)
    stand.shot.anchor_scene = -7.5
    outputs.retime(stand.scene, stand.shot)
    assert differs(stand) < TOLERANCE
    stand.shot.pace = "TIME"
    outputs.retime(stand.scene, stand.shot)
    assert differs(stand, step=0.1) < TOLERANCE
    assert stand.shot.solved_ratio == 2.5


def test_growing_cache_is_read_again(stand, tmp_path):
    path = tmp_path / "growing.pc2"
    whole = stand.cache.read_bytes()
    size = 12 * len(stand.template.vertices)
    path.write_bytes(whole[:28] + (1).to_bytes(4, "little") + whole[32:32 + size])
    frames = mapping(stand.scene, stand.shot)
    outputs.attach_cache(stand.face, path, frames, stand.first)
    assert np.array_equal(look(stand.face, 104), stand.samples[0])
    with open(path, "r+b") as file:
        file.write(whole[:32 + 5 * size])
        file.seek(28)
        file.write((5).to_bytes(4, "little"))
    outputs.refresh(stand.face)
    evaluated = stand.face.evaluated_get(bpy.context.evaluated_depsgraph_get())
    assert np.array_equal(scene_io.positions(evaluated.data), stand.samples[3])


def test_our_modifier_comes_first_and_its_path_is_relative(stand, tmp_path):
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    stand.face = bpy.data.objects["Zoë"]
    smooth = stand.face.modifiers.new("Artist's", "SMOOTH")
    smooth.factor = 0
    show(stand, "MESH_CACHE")
    assert [modifier.name for modifier in stand.face.modifiers] == ["Understudy", "Artist's"]
    assert modifier_of(stand.face).filepath == "//take ä.v001.pc2"
    assert np.array_equal(look(stand.face, 104), stand.samples[3])


@pytest.mark.parametrize("form", ["BASIS", "FRAMES"])
def test_a_solve_shows_while_it_is_written_and_leaves_nothing_if_it_fails(stand, form):
    artist_keys(stand)
    show(stand, form)
    before = look(stand.face, 104)
    other = stand.folder / "take ä.v002.pc2"
    other.write_bytes(stand.cache.read_bytes()[:32] + (stand.samples + 1).tobytes())
    outputs.show_growing(stand.scene, stand.shot, other, stand.first)
    assert np.array_equal(look(stand.face, 104), stand.samples[3] + 1)
    other.unlink()
    show(stand, form)
    assert np.array_equal(look(stand.face, 104), before)
    assert Path(modifier_of(stand.face).filepath) == stand.cache


def test_edited_curves_go_along(stand):
    show(stand, "BASIS")
    key = stand.face.data.shape_keys
    curve = curves.curves_of(key)[(keys.value_path("Understudy 005"), 0)]
    curve.keyframe_points[4].co.y = 0.25
    curve.keyframe_points[7].interpolation = "CONSTANT"
    curve.update()
    key.key_blocks["Understudy 004"].mute = True
    frames = mapping(stand.scene, stand.shot)
    seen = [look(stand.face, frames.scene(stand.first + index)) for index in range(len(stand.codes))]
    assert np.abs(seen - stand.samples).max() > 0.1
    told = show(stand, "MESH_CACHE")
    assert len(told) == 1 and "take ä.v002.pc2" in told[0]
    assert differs(stand, np.array(seen), step=1) < TOLERANCE
    solved = read_solved(stand.folder / "take ä.v002.pc2")
    assert solved.sidecar["edited"] is True and solved.sidecar["edited_from"] == "take ä.v001.pc2"
    assert np.array_equal(solved.codes()[0, :3], stand.codes[0, :3]) and not solved.codes()[:, 3].any()
    assert np.array_equal(read_cache(stand.cache), stand.samples), "the solve itself is still there"
    show(stand, "BASIS")
    assert differs(stand, np.array(seen), step=1) < TOLERANCE


def test_solving_again_keeps_edited_curves_as_an_action(stand):
    show(stand, "BASIS")
    key = stand.face.data.shape_keys
    curves.curves_of(key)[(keys.value_path("Understudy 002"), 0)].keyframe_points[4].co.y = -0.5
    stands.solve_again(stand)
    told = show(stand, "BASIS")
    assert differs(stand) < TOLERANCE
    kept = bpy.data.actions["Zoë before take ä.v002"]
    assert kept.use_fake_user and kept.name in told[0]
    assert kept != stand.face.data.shape_keys.animation_data.action


def test_sculpted_frames_become_corrections(stand):
    show(stand, "FRAMES")
    block = stand.face.data.shape_keys.key_blocks["Understudy f0008"]
    sculpted = stand.samples[5] + 0.3 * np.sin(stand.template.vertices)
    scene_io.set_positions(block, sculpted)
    frames = mapping(stand.scene, stand.shot)
    expected = stand.samples.copy()
    expected[5] = sculpted
    assert differs(stand, expected) < TOLERANCE
    assert "1 sculpted frame" in show(stand, "MESH_CACHE")[0]
    assert [edit.name for edit in edits.listed(stand.face)] == ["Edit f0106"]
    assert differs(stand, expected, step=1) < TOLERANCE
    for form in ("FRAMES", "BASIS", "FRAMES", "MESH_CACHE"):
        show(stand, form)
        assert differs(stand, expected, step=1) < TOLERANCE, form
    assert np.array_equal(look(stand.face, frames.scene(stand.first + 3)), stand.samples[3]) or \
        np.abs(look(stand.face, frames.scene(stand.first + 3)) - stand.samples[3]).max() < TOLERANCE


def test_solving_again_keeps_sculpted_frames(stand):
    show(stand, "FRAMES")
    block = stand.face.data.shape_keys.key_blocks["Understudy f0008"]
    delta = 0.3 * np.sin(stand.template.vertices)
    scene_io.set_positions(block, stand.samples[5] + delta)
    expected = stands.solve_again(stand).copy()
    expected[5] += delta
    show(stand, "FRAMES")
    assert differs(stand, expected) < TOLERANCE


def artist_keys(stand):
    """A shape key with a curve in an action of the artist's, one with a driver, and an edit."""
    face = stand.face
    face.shape_key_add(name="Basis", from_mix=False)
    key = face.data.shape_keys
    rest = stand.template.vertices
    own = keys.add(face, "own", rest + np.float32([0, 0, 0.5]))
    action = key.animation_data_create().action = bpy.data.actions.new("Artist")
    if hasattr(action, "slots"):
        key.animation_data.action_slot = action.slots.new(id_type="KEY", name="Artist")
    curves.write(key, keys.value_path("own"), np.array([100.0, 105.0, 120.0]), np.array([0.0, 1.0, 0.2]))
    driven = keys.add(face, "driven", rest + np.float32([0.2, 0, 0]))
    driven.driver_add("value").driver.expression = "0.5"
    return own


@pytest.mark.parametrize("form", FORMS)
def test_artists_keys_work_on_every_form_and_survive(stand, form):
    artist_keys(stand)
    before = look(stand.face, 104) - stand.template.vertices
    assert np.abs(before).max() > 0.3
    show(stand, form)
    moved = look(stand.face, 104) - stand.samples[3]
    assert np.linalg.norm(moved, axis=1).min() > 0.01, "his keys work on top of the solve"
    show(stand, "FRAMES")
    show(stand, "BASIS")
    show(stand, "MESH_CACHE")
    outputs.clear(stand.scene, stand.shot)
    key = stand.face.data.shape_keys
    assert key.use_relative and [block.name for block in key.key_blocks] == ["Basis", "own", "driven"]
    assert key.animation_data.action.name == "Artist" and list(curves.curves_of(key)) == [(keys.value_path("own"), 0)]
    assert len(bpy.data.actions) == 1 and len(bpy.data.scenes) == 1 and len(bpy.data.meshes) == 1
    assert np.allclose(look(stand.face, 104) - stand.template.vertices, before, atol=1e-6)
    assert not stand.face.modifiers and not stand.shot.solved


def test_mesh_cache_and_frame_keys_show_the_same_with_artists_keys(stand):
    artist_keys(stand)
    show(stand, "MESH_CACHE")
    seen = np.array([look(stand.face, 101 + index) for index in range(len(stand.codes))])
    show(stand, "FRAMES")
    assert differs(stand, seen, step=1) < TOLERANCE


def test_absolute_keys_of_the_artist_are_refused(stand):
    stand.face.shape_key_add(name="Basis", from_mix=False)
    stand.face.data.shape_keys.use_relative = False
    with pytest.raises(UnderstudyError, match="absolute shape keys of its own"):
        show(stand, "BASIS")
    show(stand, "MESH_CACHE")
    assert differs(stand) < TOLERANCE


def test_another_mesh_is_refused_before_anything_is_written(stand):
    other = scene_io.build_object("Other", stands.grid(5), {})
    bpy.context.scene.collection.objects.link(other)
    with pytest.raises(UnderstudyError, match="25 against 81 vertices"):
        outputs.check_face(other, stand.template.hash, lambda: stand.template)
    stand.shot.face = other
    with pytest.raises(UnderstudyError, match="solved for another mesh than Other"):
        show(stand, "BASIS")
    assert not other.modifiers and other.data.shape_keys is None


def test_another_model_is_refused_before_anything_is_written(stand):
    show(stand, "FRAMES")
    stands.write_model(stand.model, stand.template, stand.animated, 2 * stand.weights, stand.mean)
    with pytest.raises(UnderstudyError, match="solved by another model"):
        show(stand, "BASIS")
    assert stand.shot.output == "FRAMES" and differs(stand) < TOLERANCE


def test_shared_mesh_becomes_the_faces_own(stand):
    other = bpy.data.objects.new("Other", stand.face.data)
    told = show(stand, "FRAMES")
    assert "mesh of its own" in told[0] and other.data != stand.face.data and other.data.shape_keys is None


def test_linked_face_is_refused(stand, tmp_path):
    bpy.data.libraries.write(str(tmp_path / "lib.blend"), {stand.face})
    with bpy.data.libraries.load(str(tmp_path / "lib.blend"), link=True) as (_, target):
        target.objects = ["Zoë"]
    with pytest.raises(UnderstudyError, match="linked from .*lib.blend.*Make it local"):
        outputs.check_face(target.objects[0], stand.template.hash, lambda: stand.template)


def test_face_in_edit_mode_is_refused(stand):
    bpy.context.view_layer.objects.active = stand.face
    bpy.ops.object.mode_set(mode="EDIT")
    with pytest.raises(UnderstudyError, match="in Edit Mode. Leave it first"):
        show(stand, "BASIS")
    bpy.ops.object.mode_set(mode="OBJECT")


def test_unfinished_switch_is_cleaned_up(stand):
    artist_keys(stand)
    for form, steps in (("BASIS", 3), ("FRAMES", 3)):
        generator = outputs.show(stand.scene, stand.shot, form)
        for _ in range(steps):
            next(generator)
        generator.close()
        assert len(bpy.data.scenes) == 1
        show(stand, "MESH_CACHE")
        assert not keys.ours(stand.face)


@pytest.mark.parametrize("form, count", [("MESH_CACHE", 400), ("BASIS", 400), ("FRAMES", 400)])
def test_forecast(tmp_path, form, count):
    stand = stands.make_stand(tmp_path, count, 60, side=40)
    blend = tmp_path / "scene.blend"

    def saved() -> int:
        bpy.ops.wm.save_as_mainfile(filepath=str(blend), compress=False)
        return blend.stat().st_size

    forecast = outputs.forecast(form, count, len(stand.template.vertices), 60)
    if form == "MESH_CACHE":
        real = stand.cache.stat().st_size + stand.cache.with_suffix(".npy").stat().st_size
    else:
        before = saved()
        show(stand, form)
        real = saved() - before
    assert abs(forecast - real) < 0.1 * real


def test_forecast_text():
    assert outputs.forecast_text("MESH_CACHE", 1000, 5041, 160) == "61 MB on disk beside the .blend"
    assert outputs.forecast_text("BASIS", 500, 5041, 160) == "Adds 16 MB to the .blend"


def test_next_version(tmp_path):
    for name in ("a.v001.pc2", "a.v009.json", "b.v030.pc2"):
        (tmp_path / name).touch()
    assert switching.next_version(tmp_path / "a.v001.pc2").name == "a.v010.pc2"
    assert switching.next_version(tmp_path / "c.pc2").name == "c.v001.pc2"
