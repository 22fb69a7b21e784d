"""What a mesh shows at a frame: its vertices as shape keys, modifiers, rigs and constraints leave them."""

import contextlib
from collections.abc import Iterator
from math import floor

import bpy
import numpy as np

from ..core.errors import UnderstudyError
from ..core.topology import Mesh
from .scene_io import positions


@contextlib.contextmanager
def playing(scene: bpy.types.Scene) -> Iterator[None]:
    """Go back to the frame that the scene shows when the block ends."""
    uid, frame, part = scene.session_uid, scene.frame_current, scene.frame_subframe
    try:
        yield
    finally:
        for found in bpy.data.scenes:
            if found.session_uid == uid:
                found.frame_set(frame, subframe=part)


def go(scene: bpy.types.Scene, frame: float) -> None:
    """Show a frame, which may be a fraction."""
    scene.frame_set(floor(frame), subframe=frame - floor(frame))


def layer_of(scene: bpy.types.Scene, object: bpy.types.Object) -> bpy.types.ViewLayer:
    """A view layer that shows an object: Blender evaluates no others. Raises UnderstudyError if there is none."""
    for layer in scene.view_layers:
        if object.name in layer.objects and object.visible_get(view_layer=layer):
            return layer
    raise UnderstudyError(f"{object.name} is hidden, or not in the scene {scene.name}: Blender does not evaluate it. "
                          "Show it, its collection and its view layer first.")


def shown(layer: bpy.types.ViewLayer, object: bpy.types.Object) -> bpy.types.Object:
    """The object as it is at the present frame; it and its mesh are gone at the next."""
    return object.evaluated_get(layer.depsgraph)


def vertices(layer: bpy.types.ViewLayer, object: bpy.types.Object, count: int) -> np.ndarray:
    """What an object shows at the present frame, (V, 3) float32 in its own space.

    Raises UnderstudyError unless it has `count` vertices.
    """
    data = shown(layer, object).data
    if len(data.vertices) != count:
        raise UnderstudyError(f"{object.name} has {len(data.vertices)} vertices at frame "
                              f"{layer.id_data.frame_current_final:g}, but {count} are needed.")
    return positions(data)


def has_topology(data: bpy.types.Mesh, mesh: Mesh) -> bool:
    """Whether the vertices and faces of a mesh are those of `mesh`, in its order."""
    if (len(data.vertices), len(data.polygons), len(data.loops)) != (
            len(mesh.vertices), len(mesh.face_sizes), len(mesh.face_indices)):
        return False
    indices, sizes = np.empty(len(data.loops), np.int32), np.empty(len(data.polygons), np.int32)
    data.loops.foreach_get("vertex_index", indices)
    data.polygons.foreach_get("loop_total", sizes)
    return np.array_equal(indices, mesh.face_indices) and np.array_equal(sizes, mesh.face_sizes)


@contextlib.contextmanager
def before_topology_changes(layer: bpy.types.ViewLayer, object: bpy.types.Object, mesh: Mesh) -> Iterator[list[str]]:
    """Switch off the modifiers from the first that changes vertices or faces on; yields their names.

    Raises UnderstudyError if the object is another mesh without them too.
    """
    uid, muted = object.session_uid, []
    try:
        for modifier in reversed(object.modifiers):
            if has_topology(shown(layer, object).data, mesh):
                break
            if modifier.show_viewport:
                muted.append(modifier.name)
                modifier.show_viewport = False
                layer.update()
        if not has_topology(shown(layer, object).data, mesh):
            raise UnderstudyError(f"{object.name} has other vertices or faces than the actor's template, so that its "
                                  "vertices cannot be told apart. Choose another object.")
        yield muted[::-1]
    finally:
        for found in bpy.data.objects:
            if found.session_uid == uid:
                for name in muted:
                    if name in found.modifiers:
                        found.modifiers[name].show_viewport = True
