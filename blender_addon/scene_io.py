"""Blender's meshes to arrays and back, and the objects made from an actor's template.

Mesh data stay in template space, so that caches need no conversion; the object carries the actor's unit and turns the
template's Y up into Blender's Z up.
"""

from math import pi

import bpy
import numpy as np

from ..core.topology import Mesh


def file_name(path: str) -> str:
    """The last part of a path of the .blend, whatever system saved it."""
    return path.replace("\\", "/").rpartition("/")[2]


def mesh_of(object: bpy.types.Object) -> Mesh:
    """The mesh of an object as the artist edits it, in object space: its basis, without modifiers and shape keys."""
    if object.mode == "EDIT":
        object.update_from_editmode()
    data = object.data
    sizes = np.empty(len(data.polygons), np.int32)
    data.polygons.foreach_get("loop_total", sizes)
    indices = np.empty(len(data.loops), np.int32)
    data.loops.foreach_get("vertex_index", indices)
    return Mesh(positions(data.shape_keys.reference_key if data.shape_keys else data), sizes, indices)


def positions(source: bpy.types.Mesh | bpy.types.ShapeKey) -> np.ndarray:
    """The coordinates of a mesh's vertices or of a shape key, (V, 3) float32."""
    points = source.points if isinstance(source, bpy.types.ShapeKey) else source.vertices
    values = np.empty(3 * len(points), np.float32)
    points.foreach_get("co", values)
    return values.reshape(-1, 3)


def set_positions(target: bpy.types.Mesh | bpy.types.ShapeKey, values: np.ndarray) -> None:
    """Write (V, 3) coordinates to a mesh's vertices or to a shape key."""
    points = target.points if isinstance(target, bpy.types.ShapeKey) else target.vertices
    points.foreach_set("co", np.ascontiguousarray(values, np.float32).ravel())


def build_object(name: str, mesh: Mesh, masks: dict[str, np.ndarray]) -> bpy.types.Object:
    """An object with the vertices and faces of `mesh` in their order, not yet in any collection.

    masks : vertex group name -> vertex indices; the groups are made with weight 1.
    """
    data = bpy.data.meshes.new(name)
    data.vertices.add(len(mesh.vertices))
    set_positions(data, mesh.vertices)
    data.loops.add(len(mesh.face_indices))
    data.loops.foreach_set("vertex_index", mesh.face_indices)
    data.polygons.add(len(mesh.face_sizes))
    data.polygons.foreach_set("loop_start", (np.cumsum(mesh.face_sizes) - mesh.face_sizes).astype(np.int32))
    data.polygons.foreach_set("use_smooth", np.ones(len(mesh.face_sizes), bool))
    data.update(calc_edges=True)
    object = bpy.data.objects.new(name, data)
    for group, vertices in masks.items():
        object.vertex_groups.new(name=group).add(vertices.tolist(), 1.0, "REPLACE")
    return object


def place(scene: bpy.types.Scene, object: bpy.types.Object, unit: float) -> None:
    """Turn an object in template space upright and to its true size.

    unit : metres per mesh unit.
    """
    object.rotation_mode = "XYZ"
    object.rotation_euler = (pi / 2, 0, 0)
    object.scale = (unit / scene.unit_settings.scale_length,) * 3


def read_groups(object: bpy.types.Object) -> dict[str, np.ndarray]:
    """The vertices of each vertex group, those with a weight of at least a half, as sorted int32 indices."""
    members: dict[int, list[int]] = {group.index: [] for group in object.vertex_groups}
    for vertex in object.data.vertices:
        for element in vertex.groups:
            if element.weight >= 0.5 and element.group in members:
                members[element.group].append(vertex.index)
    return {group.name: np.array(members[group.index], np.int32) for group in object.vertex_groups}


def read_weights(object: bpy.types.Object, group: bpy.types.VertexGroup) -> np.ndarray:
    """The weights of a vertex group, (V,) float32 in 0..1; 0 for vertices outside of it."""
    weights = np.zeros(len(object.data.vertices), np.float32)
    for vertex in object.data.vertices:
        for element in vertex.groups:
            if element.group == group.index:
                weights[vertex.index] = element.weight
    return weights
