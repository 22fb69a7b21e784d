import hashlib
import io
import pathlib
import struct
import zipfile

import numpy as np
import pytest

import understudy
from understudy.core.errors import UnderstudyError
from understudy.core.topology import (
    Mesh,
    describe_difference,
    make_mesh,
    read_mesh,
    read_obj_vertices,
    read_vertex_list,
    write_obj,
)

SHARED = pathlib.Path(understudy.__file__).parent.parent / "shared"
# a quad, a triangle and a pentagon over seven vertices
VERTICES = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [2, 0, .5], [2, 1, .5], [3, .5, 1e-7]], np.float32)
SIZES, INDICES = [4, 3, 5], [0, 1, 2, 3, 1, 4, 2, 4, 6, 5, 2, 1]


@pytest.fixture
def mesh() -> Mesh:
    return make_mesh(VERTICES, SIZES, INDICES)


def same(a: Mesh, b: Mesh) -> bool:
    return np.array_equal(a.vertices, b.vertices) and a.hash == b.hash


def test_obj_round_trip_is_exact(tmp_path, mesh):
    rng = np.random.default_rng(0)
    odd = make_mesh(rng.normal(size=(7, 3)) * 10.0 ** rng.integers(-20, 20, (7, 3)), SIZES, INDICES)
    write_obj(tmp_path / "Gesicht ä.obj", odd)
    assert same(read_mesh(tmp_path / "Gesicht ä.obj"), odd)
    assert np.array_equal(read_obj_vertices(tmp_path / "Gesicht ä.obj"), odd.vertices)


def test_obj_of_other_programs(tmp_path, mesh):
    text = ("# exported\nmtllib ä.mtl\no head\nv 0 0 0 1.0\nv 1 0 0 0.5 0.5 0.5\nv 1 1 0\nv 0 1 0\nvt 0 0\nvn 0 0 1\n"
            "g left\ns off\nf -4/1/1 -3/1/1 \\\n -2/1/1 -1/1/1\nv 2 0 .5\nv 2 1 5e-1\nv 3 .5 1e-7\n"
            "g right\nusemtl skin\nf 2//1 5//1 3//1\nf 5/1 7/1 6/1 3/1 2/1 # last\n")
    (tmp_path / "a.obj").write_bytes(text.replace("\n", "\r\n").encode())
    assert same(read_mesh(tmp_path / "a.obj"), mesh)


@pytest.mark.parametrize("text, words", [
    ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 4\n", "uses vertex 3"),
    ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 -9\n", "uses vertex -6"),
    ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 99999999999999999999999\n", "beyond every mesh"),
    ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2\n", "'f 1 2'"),
    ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 0 1 2\n", "counted from 1"),
    ("v 0 0 0\nv 1,5 0 0\nf 1 2 1\n", "'v 1,5 0 0'"),
    ("v 0 0 0\nv 1 nan 0\nv 1 1 0\nf 1 2 3\n", "vertex 1 is not a finite number"),
    ("v 0 0 0\nv 1 1e39 0\nv 1 1 0\nf 1 2 3\n", "vertex 1 is not a finite number"),
    ("v 0 0 0\nv 1 0 0\nv 1 1 0\n", "no faces"),
    ("", "no vertices"),
])
def test_bad_obj_gets_a_sentence(tmp_path, text, words):
    (tmp_path / "a.obj").write_text(text)
    with pytest.raises(UnderstudyError, match="a.obj") as error:
        read_mesh(tmp_path / "a.obj")
    assert words in str(error.value)


def ply(order: str, count: int = 7) -> bytes:
    kind = {"": "ascii", "<": "binary_little_endian", ">": "binary_big_endian"}[order]
    head = (f"ply\nformat {kind} 1.0\ncomment ä\nelement note 2\nproperty list uchar short words\n"
            f"element vertex {count}\nproperty double x\nproperty float nx\nproperty double y\nproperty double z\n"
            "property uchar red\nelement face 3\nproperty float quality\nproperty list uint8 int32 vertex_indices\n"
            "element edge 5\nproperty int a\nend_header\n").encode()
    faces = np.split(np.array(INDICES), np.cumsum(SIZES)[:-1])
    if not order:
        rows = ["2 5 -6", "0"] + [f"{x!r} 0.5 {y!r} {z!r} 255" for x, y, z in VERTICES.astype(float).tolist()]
        rows += [f"0.25 {len(face)} " + " ".join(map(str, face)) for face in faces]
        return head + "\n".join(rows).encode()
    body = struct.pack(order + "B2hB", 2, 5, -6, 0)
    body += b"".join(struct.pack(order + "dfddB", x, .5, y, z, 255) for x, y, z in VERTICES)
    return head + body + b"".join(struct.pack(f"{order}fB{len(f)}i", .25, len(f), *f) for f in faces)


@pytest.mark.parametrize("order", ["", "<", ">"])
def test_ply(tmp_path, mesh, order):
    (tmp_path / "a.ply").write_bytes(ply(order))
    assert same(read_mesh(tmp_path / "a.ply"), mesh)


@pytest.mark.parametrize("order", ["", "<", ">"])
@pytest.mark.parametrize("damage", [
    lambda data: data[:-9], lambda data: data[:120], lambda data: data.replace(b"double y", b"double w"),
    lambda data: data.replace(b"vertex_indices", b"strips"), lambda data: b"xyz" + data,
    lambda data: data.replace(b"uint8 int32", b"uint8 quaternion"),
    lambda data: data.replace(b"element vertex 7", b"element vertex 4000000000000"),
    lambda data: data.replace(b"element face 3", b"element face 4000000000000"),
    lambda data: data.replace(b"element vertex 7", b"element vertex -7"),
])
def test_damaged_ply_gets_a_sentence(tmp_path, order, damage):
    (tmp_path / "a.ply").write_bytes(damage(ply(order)))
    with pytest.raises(UnderstudyError, match="a.ply"):
        read_mesh(tmp_path / "a.ply")


def test_npz(tmp_path, mesh):
    np.savez(tmp_path / "a.npz", vertices=VERTICES.astype(float), face_sizes=SIZES, face_indices=INDICES)
    np.savez_compressed(tmp_path / "b.npz", vertices=VERTICES, faces=mesh.triangles())
    assert same(read_mesh(tmp_path / "a.npz"), mesh)
    assert np.array_equal(read_mesh(tmp_path / "b.npz").triangles(), mesh.triangles())


def test_hostile_npz_is_refused_unread(tmp_path):
    np.savez(tmp_path / "pickle.npz", vertices=np.array([{}], dtype=object), faces=np.zeros((1, 3), int))
    with pytest.raises(UnderstudyError, match="Python objects"):
        read_mesh(tmp_path / "pickle.npz")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 3)})
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("vertices.npy", header.getvalue() + bytes(12000))
        archive.writestr("faces.npy", header.getvalue())
    with pytest.raises(UnderstudyError, match="declares 13194139533312 bytes but has 12000"):
        read_mesh(tmp_path / "bomb.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(UnderstudyError, match="text.npz"):
        read_mesh(tmp_path / "text.npz")
    np.savez(tmp_path / "sizes.npz", vertices=VERTICES, face_sizes=np.array([4, -1, 9]), face_indices=INDICES)
    with pytest.raises(UnderstudyError, match="sizes of the faces"):
        read_mesh(tmp_path / "sizes.npz")


def test_missing_and_unknown_files(tmp_path):
    with pytest.raises(UnderstudyError, match="No such file"):
        read_mesh(tmp_path / "none.obj")
    with pytest.raises(UnderstudyError, match="use OBJ, PLY or npz"):
        read_mesh(tmp_path / "face.fbx")


def test_triangles_and_edges_of_mixed_faces(mesh):
    assert mesh.triangles().tolist() == [[0, 1, 2], [0, 2, 3], [1, 4, 2], [4, 6, 5], [4, 5, 2], [4, 2, 1]]
    assert {tuple(edge) for edge in mesh.edges().tolist()} == {
        (0, 1), (1, 2), (2, 3), (0, 3), (1, 4), (2, 4), (4, 6), (5, 6), (2, 5)}


def test_hash_depends_on_order_and_faces_alone(mesh):
    assert make_mesh(VERTICES * 2, SIZES, INDICES).hash == mesh.hash
    others = [make_mesh(VERTICES, [3, 4, 5], INDICES), make_mesh(VERTICES, SIZES, INDICES[::-1]),
              make_mesh(np.vstack([VERTICES, VERTICES[:1]]), SIZES, INDICES)]
    assert len({mesh.hash, *(other.hash for other in others)}) == 4
    # by hand, so that files written today are known tomorrow
    assert mesh.hash == hashlib.sha256(struct.pack("<17i", 7, 3, *SIZES, *INDICES)).hexdigest()


def test_difference_in_words(mesh):
    assert describe_difference(mesh, mesh) == ""
    assert "7 against 8 vertices" in describe_difference(mesh, make_mesh(np.vstack([VERTICES, VERTICES[:1]]),
                                                                         SIZES, INDICES))
    swapped = [0, 1, 2, 3, 1, 2, 4, 4, 6, 5, 2, 1]
    assert describe_difference(mesh, make_mesh(VERTICES, SIZES, swapped)) == \
        "face 1 joins the vertices [1, 4, 2] against [1, 2, 4]"


def test_vertex_lists(tmp_path):
    (tmp_path / "a.txt").write_text("# lips\n5, 3,3\n  0 # corner\n\n")
    (tmp_path / "b.json").write_text("[5,\n 3, 0]")
    np.save(tmp_path / "c.npy", np.array([5, 0, 3, 5]))
    np.save(tmp_path / "d.npy", np.array([True, False, False, True, False, True, False]))
    for name in ("a.txt", "b.json", "c.npy", "d.npy"):
        found = read_vertex_list(tmp_path / name, 7)
        assert found.tolist() == [0, 3, 5] and found.dtype == np.int32


@pytest.mark.parametrize("content, words", [
    ("1 2 7", "vertex 7, but the mesh has the vertices 0 to 6"), ("-1", "vertex -1"), ("1.5", "counted from 0"),
    ("", "names no vertices"), ("9" * 40, "counted from 0")])
def test_bad_vertex_lists(tmp_path, content, words):
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(UnderstudyError, match="a.txt") as error:
        read_vertex_list(tmp_path / "a.txt", 7)
    assert words in str(error.value)


def test_vertex_list_of_floats_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([0.0, 1.0]))
    with pytest.raises(UnderstudyError, match="list of vertex numbers"):
        read_vertex_list(tmp_path / "a.npy", 7)


@pytest.mark.skipif(not SHARED.exists(), reason="the test actors are not here")
def test_ottos_template():
    otto = read_mesh(SHARED / "actors/otto/template.obj")
    assert (len(otto.vertices), len(otto.face_sizes)) == (6706, 6560)
    assert len(read_vertex_list(SHARED / "actors/otto/animated.npy", 6706)) == 5046
