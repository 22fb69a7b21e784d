"""The template mesh: its vertex order is the actor's topology, and a hash of it is checked wherever meshes meet.

The hash is SHA-256 over little-endian int32 numbers: vertex count, face count, the size of every face, then all vertex
indices of all faces in order. Positions are not part of it: every frame of an actor has the topology of its template.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from .arrays import read_npy, read_npz, read_npz_array
from .errors import UnderstudyError
from .files import write_text
from .ply import read_ply

FILE_LIMIT = 1 << 30  # bytes; a mesh file is read whole, and no face is this large


@dataclass(frozen=True, eq=False)
class Mesh:
    """A polygon mesh: vertices (V, 3) float32, face_sizes (F,) int32, face_indices (sum of sizes,) int32, 0-based."""

    vertices: np.ndarray
    face_sizes: np.ndarray
    face_indices: np.ndarray

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the topology, hexadecimal (see the head of this file)."""
        numbers = np.concatenate([[len(self.vertices), len(self.face_sizes)], self.face_sizes, self.face_indices])
        return hashlib.sha256(numbers.astype("<i4").tobytes()).hexdigest()

    def triangles(self) -> np.ndarray:
        """(T, 3) int32 triangles, each face a fan around its first corner."""
        counts = self.face_sizes - 2
        first = np.repeat(np.cumsum(self.face_sizes) - self.face_sizes, counts)
        step = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.face_indices[np.stack([first, first + step + 1, first + step + 2], axis=1)]

    def edges(self) -> np.ndarray:
        """(E, 2) int64 vertex pairs, each edge once."""
        following = np.arange(1, len(self.face_indices) + 1)
        ends = np.cumsum(self.face_sizes)
        following[ends - 1] = ends - self.face_sizes
        pairs = np.stack([self.face_indices, self.face_indices[following]], axis=1).astype(np.int64)
        pairs.sort(axis=1)
        keys = np.unique(pairs[:, 0] * len(self.vertices) + pairs[:, 1])
        return np.stack(np.divmod(keys, len(self.vertices)), axis=1)


def make_mesh(vertices: np.ndarray, face_sizes: np.ndarray, face_indices: np.ndarray,
              name: object = "The mesh") -> Mesh:
    """A Mesh from arrays of any numeric dtype; `name` is the subject of the sentence if it is not a mesh.

    Raises UnderstudyError for wrong shapes, non-finite positions, indices out of range, or no faces.
    """
    with np.errstate(over="ignore"):
        vertices = np.ascontiguousarray(vertices, np.float32)
    sizes, indices = np.asarray(face_sizes), np.asarray(face_indices)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or not len(vertices):
        raise UnderstudyError(f"{name} has no vertices with x, y and z.")
    if not np.isfinite(vertices).all():
        bad = int(np.argmin(np.isfinite(vertices).all(axis=1)))
        raise UnderstudyError(f"{name}: the position of vertex {bad} is not a finite number.")
    if sizes.ndim != 1 or indices.ndim != 1 or not len(sizes):
        raise UnderstudyError(f"{name} has no faces. The template needs its faces, not its points alone.")
    if sizes.dtype.kind not in "iu" or indices.dtype.kind not in "iu":
        raise UnderstudyError(f"{name}: faces must be whole numbers.")
    if sizes.min() < 3 or sizes.max() > len(indices) or sizes.sum(dtype=np.int64) != len(indices):
        raise UnderstudyError(f"{name}: the sizes of the faces do not fit their {len(indices)} corners, "
                              "or a face has fewer than three.")
    if indices.min() < 0 or indices.max() >= len(vertices):
        corner = int(np.argmax((indices < 0) | (indices >= len(vertices))))
        face = int(np.searchsorted(np.cumsum(sizes), corner, side="right"))
        raise UnderstudyError(f"{name}: face {face} uses vertex {indices[corner]}, but the mesh has the vertices "
                              f"0 to {len(vertices) - 1}.")
    return Mesh(vertices, sizes.astype(np.int32), indices.astype(np.int32))


def read_mesh(path: Path | str) -> Mesh:
    """Read a mesh from OBJ, PLY (ASCII or binary) or npz; vertices and faces keep the order of the file.

    npz: `vertices` (V, 3) and `faces` (F, k), or `face_sizes` and `face_indices`. Raises UnderstudyError.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in (".obj", ".ply", ".npz"):
        raise UnderstudyError(f"{path} is no mesh that can be read here: use OBJ, PLY or npz.")
    if kind == ".npz":
        return _read_npz_mesh(path)
    data = _read_bytes(path)
    vertices, sizes, indices = read_ply(data, path) if kind == ".ply" else _read_obj(data, path)
    return make_mesh(vertices, sizes, indices, path)


def read_obj_vertices(path: Path | str) -> np.ndarray:
    """(V, 3) float32 positions of an OBJ file alone, for frames whose faces are the template's."""
    rows = [line.split(None, 4)[1:4] for line in _read_bytes(Path(path)).split(b"\n")
            if line.startswith((b"v ", b"v\t"))]
    try:
        if any(len(row) != 3 for row in rows):
            raise ValueError("one has fewer")
        return np.array([[float(number) for number in row] for row in rows], np.float32).reshape(-1, 3)
    except ValueError as error:
        raise UnderstudyError(f"{path}: a vertex is not three numbers ({error}). Export it again.") from error


def write_obj(path: Path | str, mesh: Mesh) -> None:
    """Write an OBJ that reads back bit for bit (nine digits hold every float32)."""
    lines = [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in mesh.vertices.tolist()]
    corners = np.split(mesh.face_indices + 1, np.cumsum(mesh.face_sizes)[:-1])
    lines += ["f " + " ".join(map(str, face.tolist())) for face in corners]
    write_text(path, "\n".join(lines) + "\n")


def read_vertex_list(path: Path | str, vertex_count: int) -> np.ndarray:
    """Vertex indices of a mask, (n,) int32, 0-based, sorted, each once.

    npy: whole numbers, or a boolean per vertex. Text: numbers between spaces, commas or lines; `#` starts a comment.
    """
    path = Path(path)
    if path.suffix.lower() == ".npy":
        return check_vertex_list(read_npy(path), vertex_count, f"{path}")
    text = _read_bytes(path).decode("utf-8-sig", errors="replace")
    words = [word for line in text.splitlines() for word in line.split("#")[0].replace(",", " ").strip("[] ").split()]
    try:
        numbers = np.array([int(word) for word in words], dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise UnderstudyError(f"{path} should hold vertex numbers, counted from 0, but {error}.") from error
    return check_vertex_list(numbers, vertex_count, f"{path}")


def check_vertex_list(values: object, vertex_count: int, name: str) -> np.ndarray:
    """The indices as (n,) int32, sorted, each once; UnderstudyError if there are none or one is out of range."""
    try:
        values = np.asarray(values)
    except ValueError:  # nested lists of unequal lengths
        values = np.array([None])
    if values.dtype == bool and values.shape == (vertex_count,):
        values = np.flatnonzero(values)
    if values.size == 0:
        raise UnderstudyError(f"{name} names no vertices.")
    if values.dtype.kind not in "iu" or values.ndim != 1:
        raise UnderstudyError(f"{name} should be a list of vertex numbers, counted from 0.")
    if values.min() < 0 or values.max() >= vertex_count:
        bad = values[(values < 0) | (values >= vertex_count)][0]
        raise UnderstudyError(f"{name} names vertex {bad}, but the mesh has the vertices 0 to {vertex_count - 1}.")
    return np.unique(values).astype(np.int32)


def describe_difference(a: Mesh, b: Mesh) -> str:
    """In words, the first way in which the topology of two meshes differs; empty if it does not."""
    if len(a.vertices) != len(b.vertices):
        return f"{len(a.vertices)} against {len(b.vertices)} vertices"
    if len(a.face_sizes) != len(b.face_sizes):
        return f"{len(a.face_sizes)} against {len(b.face_sizes)} faces"
    if a.hash == b.hash:
        return ""
    faces = [np.split(mesh.face_indices, np.cumsum(mesh.face_sizes)[:-1]) for mesh in (a, b)]
    pairs = zip(*faces, strict=True)
    number, (one, other) = next(item for item in enumerate(pairs) if not np.array_equal(*item[1]))
    return f"face {number} joins the vertices {one.tolist()} against {other.tolist()}"


def _read_bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > FILE_LIMIT:
            raise UnderstudyError(f"{path} is larger than {FILE_LIMIT >> 20} MB, too large for one mesh.")
        return path.read_bytes()
    except OSError as error:
        raise UnderstudyError(f"Cannot read {path}: {error.strerror or error}.") from error


def _read_obj(data: bytes, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    vertices: list[list[float]] = []
    sizes: list[int] = []
    indices: list[int] = []
    text = data.decode("utf-8-sig", errors="replace").replace("\r\n", "\n").replace("\\\n", " ")
    for line in text.split("\n"):
        words = line.split("#")[0].split()
        try:
            if words[:1] == ["v"]:
                x, y, z = words[1:4]
                vertices.append([float(x), float(y), float(z)])
            elif words[:1] == ["f"]:
                corners = [int(word.split("/")[0]) for word in words[1:]]
                if 0 in corners or len(corners) < 3:
                    raise ValueError("a face needs three corners, counted from 1")
                sizes.append(len(corners))
                indices += [corner - 1 if corner > 0 else len(vertices) + corner for corner in corners]
        except ValueError as error:
            raise UnderstudyError(f"{path}: cannot understand the line {line.strip()[:60]!r} ({error}).") from error
    try:
        return np.array(vertices), np.array(sizes, np.int32), np.array(indices, np.int64)
    except OverflowError as error:
        raise UnderstudyError(f"{path}: a face uses a vertex number beyond every mesh.") from error


def _read_npz_mesh(path: Path) -> Mesh:
    names = read_npz(path)
    if "vertices" not in names or not ("faces" in names or {"face_sizes", "face_indices"} <= set(names)):
        raise UnderstudyError(f"{path} should hold the arrays 'vertices' and 'faces' (or 'face_sizes' and "
                              f"'face_indices'), but holds {', '.join(sorted(names)) or 'none'}.")
    vertices = read_npz_array(path, "vertices")
    if vertices.dtype.kind not in "fiu":
        raise UnderstudyError(f"{path}: 'vertices' should hold numbers.")
    if "faces" not in names:
        return make_mesh(vertices, read_npz_array(path, "face_sizes"), read_npz_array(path, "face_indices"), path)
    faces = read_npz_array(path, "faces")
    if faces.ndim != 2:
        raise UnderstudyError(f"{path}: 'faces' should have one row per face, but its shape is {faces.shape}.")
    return make_mesh(vertices, np.full(len(faces), faces.shape[1]), faces.ravel(), path)
