"""How a displacement of the rest mesh appears on the solve where Blender's Mesh Cache modifier integrates it.

With shape keys under it the modifier does not add their displacement as it is: it carries it along with the triangles
around each vertex, so that a correction turns and stretches with the skin. That is linear in the displacement: a 3 x 3
matrix for every vertex and frame, which this file reckons, so that a correction can be carried into the form where
shape keys simply add up, and back.
"""

import numpy as np

from ..core.topology import Mesh


def matrices(mesh: Mesh, deformed: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """(n, 3, 3) float64 that take displacements of `vertices` of the rest mesh to where the modifier puts them.

    mesh : the rest mesh.    deformed : (V, 3), the solve.    vertices : (n,) indices. The mean over the corners at a
    vertex of the map from its triangle at rest to the deformed one; lengths along the normal scale with the square
    root of the area. Where triangles have no area, or a matrix cannot be inverted, it is the identity.
    """
    corners = _corners(mesh)
    place = np.full(len(mesh.vertices), -1)
    place[vertices] = np.arange(len(vertices))
    corners = corners[:, place[corners[1]] >= 0]
    rest, rest_size = _frames(mesh.vertices, corners)
    now, now_size = _frames(deformed, corners)
    whole = rest_size > 0
    corners, rest, now = corners[:, whole], rest[whole], now[whole]
    now[:, :, 2] *= (now_size[whole] / rest_size[whole])[:, None]
    target = place[corners[1]]
    result = np.zeros((len(vertices), 3, 3))
    np.add.at(result, target, np.einsum("nij,njk->nik", now, inverse(rest)))
    counts = np.bincount(target, minlength=len(vertices))
    result /= np.maximum(counts, 1)[:, None, None]
    flat = np.abs(_determinant(result)) <= 1e-6 * np.linalg.norm(result, axis=1).prod(1)
    result[flat] = np.eye(3)
    return result


def apart(mesh: Mesh) -> np.ndarray | None:
    """Small displacements (V, 3) float32 after which no triangle around a vertex is without area; None if none is.

    Where vertices of the rest mesh lie on each other, the modifier divides by zero and the vertex is gone.
    """
    corners = _corners(mesh)
    size = _frames(mesh.vertices, corners)[1]
    if size.all():
        return None
    result = np.zeros_like(mesh.vertices)
    step = np.median(size) / 200
    for attempt in range(8):
        flat = np.unique(corners[:, size == 0])
        angle = flat + 2.4 * attempt  # neighbours go different ways
        result[flat] = step * np.stack([np.cos(angle), np.sin(angle), np.cos(1.7 * angle)], axis=1)
        size = _frames(mesh.vertices + result, corners)[1]
        if size.all():
            break
    return result


def carry(mesh: Mesh, deformed: np.ndarray, displacement: np.ndarray, back: bool = False) -> np.ndarray:
    """Where the modifier takes a displacement (V, 3) of the rest mesh, (V, 3) float32; `back` is the inverse."""
    vertices = np.flatnonzero(displacement.any(1))
    result = np.zeros_like(displacement, np.float32)
    if len(vertices):
        maps = matrices(mesh, deformed, vertices)
        if back:
            maps = inverse(maps)
        result[vertices] = np.einsum("vij,vj->vi", maps, displacement[vertices])
    return result


def inverse(maps: np.ndarray) -> np.ndarray:
    """Inverses of (n, 3, 3) matrices; numpy's own takes a thousand times as long when all cores are busy."""
    a, b, c = maps[:, :, 0], maps[:, :, 1], maps[:, :, 2]
    return np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)], axis=1) / _determinant(maps)[:, None, None]


def _determinant(maps: np.ndarray) -> np.ndarray:
    return (np.cross(maps[:, :, 0], maps[:, :, 1]) * maps[:, :, 2]).sum(1)


def _corners(mesh: Mesh) -> np.ndarray:
    """(3, corners) vertices before, at and after each corner of each face."""
    starts = np.repeat(np.cumsum(mesh.face_sizes) - mesh.face_sizes, mesh.face_sizes)
    sizes = np.repeat(mesh.face_sizes, mesh.face_sizes)
    step = np.arange(len(mesh.face_indices)) - starts
    around = [starts + (step + shift) % sizes for shift in (-1, 0, 1)]
    return mesh.face_indices[np.stack(around)]


def _frames(points: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two edges and the normal of each triangle as columns, (n, 3, 3), and the square root of its area."""
    a, b, c = points.astype(np.float64)[corners]
    normal = np.cross(b - a, c - a)
    double_area = np.linalg.norm(normal, axis=1)
    normal /= np.where(double_area > 0, double_area, 1)[:, None]
    return np.stack([b - a, c - a, normal], axis=-1), np.sqrt(double_area / 2)
