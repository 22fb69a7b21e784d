"""Curves of ours beside the artist's, alike in all versions of Blender."""

import bpy
import numpy as np
import pytest

from understudy.blender_addon import curves
from understudy.core.errors import UnderstudyError


@pytest.fixture
def cube():
    cube = bpy.data.objects.new("Cube", bpy.data.meshes.new("Cube"))
    bpy.context.scene.collection.objects.link(cube)
    return cube


def test_make_read_replace_and_remove(cube):
    times = np.array([1.0, 2.5, 4.0])
    made = curves.write_many(cube, [("pass_index", times), ("show_in_front", times)], times, "Ours")
    assert [curve.data_path for curve in made] == ["pass_index", "show_in_front"] and made[0].group.name == "Ours"
    assert curves.is_straight(made[0]) and made[0].evaluate(3.25) == pytest.approx(3.25)
    assert made[0].evaluate(0) == 1 and made[0].evaluate(9) == 4, "level outside"
    curves.write(cube, "pass_index", np.array([10.0]), np.array([7.0]))
    assert len(curves.curves_of(cube)) == 2
    assert [part.tolist() for part in curves.read(curves.curves_of(cube)["pass_index", 0])] == [[10], [7]]
    curves.remove(cube, lambda path: path == "pass_index")
    assert list(curves.curves_of(cube)) == [("show_in_front", 0)] and len(bpy.data.actions) == 1
    curves.remove(cube, lambda path: True)
    assert not bpy.data.actions and not curves.curves_of(cube)


def test_curves_move_what_they_belong_to(cube):
    curves.write(cube, "pass_index", np.array([1.0, 11.0]), np.array([0.0, 10.0]))
    bpy.context.scene.frame_set(6)
    assert cube.evaluated_get(bpy.context.evaluated_depsgraph_get()).pass_index == 5


def test_eased_keys_do_not_overshoot(cube):
    curve = curves.write(cube, "pass_index", np.array([0.0, 4.0, 8.0]), np.array([0.0, 1.0, 0.0]), "", curves.BEZIER)
    values = [curve.evaluate(time) for time in np.linspace(-1, 9, 50)]
    assert min(values) >= 0 and max(values) <= 1 and curve.evaluate(1) < 0.2 and not curves.is_straight(curve)


def test_move_takes_handles_along(cube):
    curve = curves.write(cube, "pass_index", np.array([0.0, 4.0, 8.0]), np.array([0.0, 1.0, 0.0]), "", curves.BEZIER)
    before = [curve.evaluate(time) for time in range(9)]
    curves.move(curve, 0.5, 100)
    assert np.allclose([curve.evaluate(100 + time / 2) for time in range(9)], before, atol=1e-3)


def test_an_artists_action_is_shared_and_comes_back_as_it_was(cube):
    cube.location.x = 3
    cube.keyframe_insert("location", index=0, frame=5)
    action = cube.animation_data.action
    curves.write(cube, "pass_index", np.array([1.0]), np.array([2.0]), "Ours")
    assert cube.animation_data.action == action and set(curves.curves_of(cube)) == {("location", 0), ("pass_index", 0)}
    curves.remove(cube, lambda path: path == "pass_index")
    assert cube.animation_data.action == action and list(curves.curves_of(cube)) == [("location", 0)]


def test_another_user_of_the_action_is_not_moved(cube):
    other = bpy.data.objects.new("Other", None)
    cube.keyframe_insert("location", index=0, frame=5)
    other.animation_data_create().action = cube.animation_data.action
    if hasattr(other.animation_data, "action_slot"):
        other.animation_data.action_slot = cube.animation_data.action_slot
    curves.write(cube, "pass_index", np.array([1.0]), np.array([2.0]))
    assert list(curves.curves_of(other)) == [("location", 0)]
    assert set(curves.curves_of(cube)) == {("location", 0), ("pass_index", 0)}


def test_keep_copy_survives_saving(cube, tmp_path):
    curves.write(cube, "pass_index", np.array([1.0]), np.array([2.0]))
    curves.keep_copy(cube, "Kept")
    curves.remove(cube, lambda path: True)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "a.blend"))
    assert [action.name for action in bpy.data.actions] == ["Kept"]


def test_linked_action_is_refused(cube, tmp_path):
    cube.keyframe_insert("location", index=0, frame=5)
    bpy.data.libraries.write(str(tmp_path / "lib.blend"), {cube.animation_data.action})
    with bpy.data.libraries.load(str(tmp_path / "lib.blend"), link=True) as (source, target):
        target.actions = source.actions
    cube.animation_data.action = target.actions[0]
    with pytest.raises(UnderstudyError, match="linked from another file"):
        curves.write(cube, "pass_index", np.array([1.0]), np.array([2.0]))
