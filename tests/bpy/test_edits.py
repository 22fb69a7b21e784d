"""Corrections above the solve: keyed in and out, the same in every form, never touched by solving again."""

import importlib.util
from pathlib import Path

import bpy
import numpy as np
import pytest

from understudy.blender_addon import curves, edits, keys, outputs, scene_io, skin
from understudy.blender_addon.modifier import modifier_of
from understudy.core.errors import UnderstudyError

SPEC = importlib.util.spec_from_file_location("stand", Path(__file__).with_name("stand.py"))
stands = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(stands)
look = stands.look

TOLERANCE = 1e-4  # mesh units of a centimetre: 0.001 mm


@pytest.fixture
def stand(tmp_path):
    return stands.make_stand(tmp_path, count=30)


def show(stand, form):
    list(outputs.show(stand.scene, stand.shot, form))


def sculpt(stand, block):
    """A bump that points in another direction at every vertex, and none at all at most."""
    x = stand.template.vertices
    bump = 0.4 * np.exp(-((x - x[40]) ** 2).sum(1, keepdims=True)) * np.sin(3 * x + 1)
    bump[np.abs(bump).max(1) < 0.01] = 0
    scene_io.set_positions(block, x + bump.astype(np.float32))
    return bump


def test_add_is_keyed_and_ready_to_sculpt(stand):
    show(stand, "MESH_CACHE")
    block = edits.add(stand.scene, stand.shot, 110, falloff=4)
    curve = curves.curves_of(stand.face.data.shape_keys)[(keys.value_path("Edit f0110"), 0)]
    assert [(key.co.x, key.co.y) for key in curve.keyframe_points] == [(106, 0), (110, 1), (114, 0)]
    assert [curve.evaluate(time) for time in (100, 106, 110, 114, 120)] == [0, 0, 1, 0, 0]
    assert curve.evaluate(107) < 0.2 and curve.evaluate(108) == pytest.approx(0.5), "it eases in"
    assert stand.face.active_shape_key == block and not stand.face.show_only_shape_key
    assert modifier_of(stand.face).deform_mode == "INTEGRATE"
    assert np.abs(look(stand.face, 110) - stand.samples[9]).max() < TOLERANCE, "nothing is changed yet"


def test_vertices_that_lie_on_each_other_stay(stand):
    """As where lids are closed at rest: Blender's modifier divides by the area of the triangles between them."""
    show(stand, "MESH_CACHE")
    for vertex in (41, 42):
        stand.face.data.vertices[vertex].co = stand.face.data.vertices[40].co
    block = edits.add(stand.scene, stand.shot, 110)
    assert np.abs(look(stand.face, 110) - stand.samples[9]).max() < TOLERANCE
    rest = scene_io.positions(stand.face.data)
    assert np.abs(rest[41:43] - rest[40]).max() < 0.02 and np.array_equal(rest[:30], stand.template.vertices[:30])
    bump = np.zeros_like(rest)
    bump[60] = 0.2
    scene_io.set_positions(block, rest + bump)
    stand.face.data.update_tag()
    seen = look(stand.face, 110)
    assert np.isfinite(seen).all() and np.abs(seen - stand.samples[9]).max() > 0.1
    show(stand, "BASIS")
    show(stand, "MESH_CACHE")
    assert np.abs(look(stand.face, 110) - seen).max() < 1e-3


def test_single_frame_and_hold(stand):
    show(stand, "BASIS")
    edits.add(stand.scene, stand.shot, 110)
    edits.add(stand.scene, stand.shot, 112, falloff=2, last=118)
    found = curves.curves_of(stand.face.data.shape_keys)
    one, hold = (found[(keys.value_path(name), 0)] for name in ("Edit f0110", "Edit f0112"))
    assert [one.evaluate(time) for time in (109, 110, 111)] == [0, 1, 0]
    assert [hold.evaluate(time) for time in (110, 112, 115, 118, 120)] == [0, 1, 1, 1, 0]


@pytest.mark.parametrize("form", ["MESH_CACHE", "BASIS"])
def test_sculpting_shows_on_the_solve(stand, form):
    """In Mesh Cache the displacement turns with the skin, in Basis Keys it is added as it is."""
    show(stand, form)
    bump = sculpt(stand, edits.add(stand.scene, stand.shot, 110, falloff=4))
    turned = skin.carry(stand.template, stand.samples[9], bump) if form == "MESH_CACHE" else bump
    assert np.abs(turned - bump).max() > 0.05 or form == "BASIS"
    assert np.abs(look(stand.face, 110) - stand.samples[9] - turned).max() < TOLERANCE
    assert np.abs(look(stand.face, 105) - stand.samples[4]).max() < TOLERANCE


@pytest.mark.parametrize("old, new", [("MESH_CACHE", "BASIS"), ("BASIS", "MESH_CACHE"), ("MESH_CACHE", "FRAMES"),
                                      ("BASIS", "FRAMES")])
def test_switch_carries_the_look_over_and_back(stand, old, new):
    show(stand, old)
    block = edits.add(stand.scene, stand.shot, 110, falloff=4)
    sculpt(stand, block)
    before, shape = look(stand.face, 110), scene_io.positions(block)
    show(stand, new)
    assert np.abs(look(stand.face, 110) - before).max() < TOLERANCE
    assert np.abs(look(stand.face, 105) - stand.samples[4]).max() < TOLERANCE
    show(stand, old)
    assert np.abs(look(stand.face, 110) - before).max() < TOLERANCE
    assert np.allclose(scene_io.positions(stand.face.data.shape_keys.key_blocks["Edit f0110"]), shape, atol=1e-5)


def test_a_held_correction_that_looks_different_is_told(stand):
    show(stand, "MESH_CACHE")
    sculpt(stand, edits.add(stand.scene, stand.shot, 108, last=116, falloff=2))
    before = look(stand.face, 112)
    told = list_of_notes(stand, "BASIS")
    assert "Edit f0108 turns with the skin" in told[0] and "frame 112" in told[0]
    assert np.abs(look(stand.face, 112) - before).max() < TOLERANCE


def list_of_notes(stand, form):
    generator = outputs.show(stand.scene, stand.shot, form)
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize("form", ["MESH_CACHE", "BASIS", "FRAMES"])
def test_solving_again_leaves_corrections_alone(stand, form):
    show(stand, "BASIS")
    block = edits.add(stand.scene, stand.shot, 110, falloff=4)
    bump = sculpt(stand, block)
    show(stand, form)
    shape = scene_io.positions(stand.face.data.shape_keys.key_blocks["Edit f0110"])
    stands.solve_again(stand)
    show(stand, form)
    assert np.array_equal(scene_io.positions(stand.face.data.shape_keys.key_blocks["Edit f0110"]), shape)
    show(stand, "BASIS")
    assert [block.name for block in edits.listed(stand.face)] == ["Edit f0110"]
    assert np.abs(look(stand.face, 105) - stand.samples[4]).max() < TOLERANCE
    if form == "BASIS":
        assert np.abs(look(stand.face, 110) - stand.samples[9] - bump).max() < TOLERANCE
    assert np.abs(look(stand.face, 110) - stand.samples[9]).max() > 0.1


@pytest.mark.parametrize("form", ["MESH_CACHE", "BASIS"])
def test_corrections_follow_the_timing(stand, form):
    show(stand, form)
    edits.add(stand.scene, stand.shot, 110, falloff=5)
    stand.shot.pace, stand.shot.anchor_scene = "TIME", 1
    outputs.retime(stand.scene, stand.shot)
    curve = curves.curves_of(stand.face.data.shape_keys)[(keys.value_path("Edit f0110"), 0)]
    assert np.allclose(curves.read(curve)[0], [1 + 4 / 2.5, 1 + 9 / 2.5, 1 + 14 / 2.5], atol=1e-4)


def test_from_mix_begins_with_the_present_look(stand):
    show(stand, "BASIS")
    bump = sculpt(stand, edits.add(stand.scene, stand.shot, 110))
    look(stand.face, 110)
    block = edits.add(stand.scene, stand.shot, 120, from_mix=True)
    assert np.allclose(scene_io.positions(block) - stand.template.vertices, bump, atol=1e-5)


def test_remove_leaves_the_solve(stand):
    show(stand, "MESH_CACHE")
    sculpt(stand, edits.add(stand.scene, stand.shot, 110))
    edits.remove(stand.shot, "Edit f0110")
    assert stand.face.data.shape_keys is None and not bpy.data.actions
    assert modifier_of(stand.face).deform_mode == "OVERWRITE"
    assert np.array_equal(look(stand.face, 110), stand.samples[9])
    with pytest.raises(UnderstudyError, match="no correction named Edit f0110"):
        edits.remove(stand.shot, "Edit f0110")


def test_clear_keeps_corrections(stand):
    show(stand, "BASIS")
    sculpt(stand, edits.add(stand.scene, stand.shot, 110))
    outputs.clear(stand.scene, stand.shot)
    assert [block.name for block in stand.face.data.shape_keys.key_blocks] == ["Basis", "Edit f0110"]
    assert len(curves.curves_of(stand.face.data.shape_keys)) == 1 and not stand.face.modifiers


def test_in_frame_keys_the_frames_own_key_becomes_active(stand):
    show(stand, "FRAMES")
    block = edits.add(stand.scene, stand.shot, 110)
    assert block.name == "Understudy f0012" and stand.face.active_shape_key == block
    with pytest.raises(UnderstudyError, match="no key for source frame 402"):
        edits.add(stand.scene, stand.shot, 500)


def test_skin_maps_are_what_the_modifier_does(stand):
    """Each vertex against the modifier itself, on a face turned and stretched a lot."""
    rng = np.random.default_rng(0)
    bump = rng.standard_normal(stand.template.vertices.shape).astype(np.float32)
    show(stand, "MESH_CACHE")
    block = edits.add(stand.scene, stand.shot, 110)
    scene_io.set_positions(block, stand.template.vertices + bump)
    expected = stand.samples[9] + skin.carry(stand.template, stand.samples[9], bump)
    assert np.abs(look(stand.face, 110) - expected).max() < TOLERANCE
    back = skin.carry(stand.template, stand.samples[9], skin.carry(stand.template, stand.samples[9], bump), back=True)
    assert np.abs(back - bump).max() < 1e-3
