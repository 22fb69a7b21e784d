"""Meshes and masks to Blender and back."""

import importlib.util
from pathlib import Path

import bpy
import numpy as np
import pytest
from mathutils import Vector

from understudy.blender_addon import scene_io

SPEC = importlib.util.spec_from_file_location("stand", Path(__file__).with_name("stand.py"))
stands = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(stands)


def test_round_trip_keeps_order_and_bits():
    mesh = stands.grid()
    masks = {"animated": np.array([3, 1, 7], np.int32), "stabiliser": np.array([], np.int32), "lips": np.array([80])}
    face = scene_io.build_object("Zoë", mesh, masks)
    back = scene_io.mesh_of(face)
    assert back.hash == mesh.hash and np.array_equal(back.vertices, mesh.vertices)
    assert not face.data.validate(), "Blender finds nothing to correct"
    groups = scene_io.read_groups(face)
    assert {name: list(group) for name, group in groups.items()} == {"animated": [1, 3, 7], "stabiliser": [],
                                                                     "lips": [80]}


def test_mesh_of_is_the_basis_and_knows_edit_mode():
    face = scene_io.build_object("Zoë", stands.grid(), {})
    bpy.context.scene.collection.objects.link(face)
    face.shape_key_add(name="Basis", from_mix=False)
    key = face.shape_key_add(name="Key", from_mix=False)
    scene_io.set_positions(key, stands.grid().vertices + 1)
    key.value = 1
    assert np.array_equal(scene_io.mesh_of(face).vertices, stands.grid().vertices)
    bpy.context.view_layer.objects.active = face
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.select_all(action="SELECT")
    bpy.ops.mesh.delete(type="ONLY_FACE")
    assert len(scene_io.mesh_of(face).face_sizes) == 0
    bpy.ops.object.mode_set(mode="OBJECT")


@pytest.mark.parametrize("scale_length, unit, size", [(1.0, 0.01, 0.02), (0.01, 0.01, 2.0), (1.0, 1.0, 2.0)])
def test_place_turns_y_up_and_gives_true_size(scale_length, unit, size):
    scene = bpy.context.scene
    scene.unit_settings.scale_length = scale_length
    face = scene_io.build_object("Zoë", stands.grid(), {})
    scene.collection.objects.link(face)
    scene_io.place(scene, face, unit)
    bpy.context.view_layer.update()
    assert tuple(face.matrix_world @ Vector((0, 2, 0))) == pytest.approx((0, 0, size), abs=1e-6)
    assert tuple(face.matrix_world @ Vector((0, 0, 2))) == pytest.approx((0, -size, 0), abs=1e-6)
