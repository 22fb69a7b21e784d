"""The head's own motion, which was taken out of tracked vertices: an empty above the face plays it, or it does not."""

import bpy
import numpy as np
from mathutils import Matrix

from ..core.errors import UnderstudyError
from ..core.stabilise import Motion, quaternions
from . import curves, faces
from .paths import absolute
from .timing import Mapping, mapping

TIMING = "understudy_timing"  # custom property of the empty: the timing that its keys were made with


def put_on(scene: bpy.types.Scene, shot) -> bpy.types.Object:
    """Let the face of a shot move as the head did. Raises UnderstudyError if its motion is not known.

    The empty takes the face's place under its parent, and the face becomes its child; nothing of the face changes.
    """
    if not shot.head or shot.face is None:
        raise UnderstudyError(f"No motion of the head is known of {shot.name}: bring in a track that is not "
                              "stabilised, or mark one.")
    motion, face = Motion.load(absolute(shot.head)), shot.face
    if is_on(shot):
        take_off(shot)
    empty = bpy.data.objects.new(f"{shot.name} Head", None)
    empty.empty_display_type, empty.empty_display_size = "ARROWS", 0.1
    faces.to_collection(scene, shot, empty)
    _hang(empty, face)
    face.parent, face.parent_type, face.matrix_parent_inverse = empty, "OBJECT", Matrix()
    shot.head_empty = empty
    _key(empty, motion, np.array(face.matrix_basis, np.float64), mapping(scene, shot))
    return empty


def take_off(shot) -> None:
    """Give the face back to its former parent; the head stays still."""
    empty, face = shot.head_empty, shot.face
    shot.head_empty = None
    if empty is None:
        return
    if face is not None and face.parent == empty:
        _hang(face, empty)
    action = empty.animation_data.action if empty.animation_data else None
    bpy.data.objects.remove(empty)
    if action is not None and action.get(curves.OURS) and not action.users:
        bpy.data.actions.remove(action)


def is_on(shot) -> bool:
    return shot.head_empty is not None and shot.face is not None and shot.face.parent == shot.head_empty


def retime(scene: bpy.types.Scene, shot) -> None:
    """Let the head's motion play the same source frames in another timing."""
    empty, new = shot.head_empty, mapping(scene, shot)
    if empty is None or TIMING not in empty:
        return
    source, at, ratio = empty[TIMING]
    old = Mapping(int(source), at, ratio)
    if old != new:
        for curve in curves.curves_of(empty).values():
            curves.move(curve, old.ratio / new.ratio, new.scene(old.source(0)))
        empty[TIMING] = [float(new.anchor_source), new.anchor_scene, new.ratio]


def _hang(object: bpy.types.Object, like: bpy.types.Object) -> None:
    """Give an object the parent that another one has."""
    object.parent = like.parent
    object.parent_type, object.parent_bone = like.parent_type, like.parent_bone
    object.matrix_parent_inverse = like.matrix_parent_inverse


def _key(empty: bpy.types.Object, motion: Motion, basis: np.ndarray, frames: Mapping) -> None:
    """Key the empty so that it does to the face, placed by `basis`, what the motion does to its vertices."""
    empty.rotation_mode = "QUATERNION"
    linear, place = basis[:3, :3], basis[:3, 3]
    rotations = linear @ motion.rotations @ np.linalg.inv(linear)
    locations = motion.translations @ linear.T + place - rotations @ place
    times = np.array([frames.scene(motion.first + index) for index in range(len(motion))])
    for path, columns in (("location", locations.T), ("rotation_quaternion", quaternions(rotations).T)):
        for index, values in enumerate(columns):
            curves.write_many(empty, [(path, values)], times, "Understudy Head", index=index)
    empty[TIMING] = [float(frames.anchor_source), frames.anchor_scene, frames.ratio]
