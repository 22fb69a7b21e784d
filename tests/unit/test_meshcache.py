import io
import pathlib
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import understudy
from understudy.core.errors import Cancelled, UnderstudyError
from understudy.core.meshcache import blocks, cache_writer, check_finite, read_cache
from understudy.core.topology import make_mesh, write_obj

SHARED = pathlib.Path(understudy.__file__).parent.parent / "shared"
V = np.random.default_rng(1).normal(size=(9, 5, 3)).astype(np.float32)
SUFFIXES = [".pc2", ".mdd", ".npz"]


def write(path, samples=V, announced=None, truncate=False, fps=25.0):
    with cache_writer(path, samples.shape[1], announced or len(samples), fps) as writer:
        for first in range(0, len(samples), 4):
            writer.write(samples[first:first + 4])
        if truncate:
            writer.truncate()
    return path


def decode(path, fps=25.0):
    """What the bytes say, by the published layouts alone."""
    data = path.read_bytes()
    if path.suffix == ".pc2":
        magic, version, vertices, start, sampling, samples = struct.unpack_from("<12siiffi", data)
        assert (magic, version, start, sampling) == (b"POINTCACHE2\0", 1, 0.0, 1.0)
        numbers = struct.unpack_from(f"<{samples * vertices * 3}f", data, 32)
        assert len(data) == 32 + 4 * len(numbers)
    elif path.suffix == ".mdd":
        samples, vertices = struct.unpack_from(">ii", data)
        times = struct.unpack_from(f">{samples}f", data, 8)
        assert times == pytest.approx([frame / fps for frame in range(samples)])
        numbers = struct.unpack_from(f">{samples * vertices * 3}f", data, 8 + 4 * samples)
        assert len(data) == 8 + 4 * samples + 4 * len(numbers)
    else:
        assert zipfile.ZipFile(path).testzip() is None
        return np.load(path)["vertices"]
    return np.array(numbers, np.float32).reshape(samples, vertices, 3)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_the_published_layout(tmp_path, suffix):
    path = write(tmp_path / f"Gesicht ä{suffix}")
    assert np.array_equal(decode(path), V)
    cache = read_cache(path)
    assert np.array_equal(cache, V) and isinstance(cache, np.memmap)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_truncated_cache_says_how_many_samples_it_holds(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", V, announced=100_000, truncate=True)
    assert np.array_equal(decode(path), V)
    assert np.array_equal(read_cache(path), V)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nothing_is_left_unless_all_samples_came(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    with pytest.raises(UnderstudyError, match="Only 9 of 10 samples"):
        write(path, announced=10)
    with pytest.raises(ZeroDivisionError), cache_writer(path, 5, 9) as writer:
        writer.write(V)
        1 / 0  # noqa: B018
    with pytest.raises(Cancelled), cache_writer(path, 5, 9) as writer:
        writer.truncate()
    with pytest.raises(ValueError), cache_writer(path, 5, 8) as writer:
        writer.write(V)
    with pytest.raises(ValueError), cache_writer(path, 6, 9) as writer:
        writer.write(V)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are POSIX")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_full_disk_keeps_the_old_file(tmp_path, suffix):
    """A limit on file size fails writes as a full disk does; in a child process, because it cannot be raised again."""
    path = write(tmp_path / f"a{suffix}")
    code = f"""if True:
        import resource, numpy as np
        from understudy.core.errors import UnderstudyError
        from understudy.core.meshcache import cache_writer
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        try:
            with cache_writer({str(path)!r}, 7000, 100) as writer:
                for _ in range(100):
                    writer.write(np.zeros((1, 7000, 3), np.float32))
        except UnderstudyError as error:
            print(error)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"Cannot write {path}: ") and "space" in done.stdout
    assert np.array_equal(read_cache(path), V) and len(list(tmp_path.iterdir())) == 1


def test_numpy_arrays(tmp_path):
    np.save(tmp_path / "a.npy", V)
    np.savez_compressed(tmp_path / "b.npz", times=np.arange(9), positions=V)
    np.savez(tmp_path / "c.npz", other=V[:1], vertices=V.astype(np.float64))
    np.save(tmp_path / "d.npy", np.asfortranarray(V.astype(">f8")))
    np.savez(tmp_path / "e.npz", vertices=np.asfortranarray(V))
    for name in ("a.npy", "b.npz", "c.npz", "d.npy", "e.npz"):
        cache = read_cache(tmp_path / name)
        assert np.array_equal(cache, V) and cache.dtype == np.float32, name
    assert isinstance(read_cache(tmp_path / "a.npy"), np.memmap)
    np.save(tmp_path / "half.npy", V.astype(np.float16))
    assert np.abs(read_cache(tmp_path / "half.npy") - V).max() < 2e-3


@pytest.mark.parametrize("array", [V[0], V[:, :, :2], V[:0], (V * 100).astype(int), V.astype(complex)])
def test_arrays_that_are_no_cache(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UnderstudyError, match="a.npy"):
        read_cache(tmp_path / "a.npy")


def test_folder_of_obj_files_in_natural_order(tmp_path):
    for frame in (8, 9, 10, 11):
        write_obj(tmp_path / f"Take_{frame}.obj", make_mesh(V[frame - 8], [4, 3], [0, 1, 2, 3, 2, 3, 4]))
    (tmp_path / "notes.txt").write_text("no frame")
    (tmp_path / "._Take_8.obj").write_text("left by another system")
    assert np.array_equal(read_cache(tmp_path), V[:4])
    (tmp_path / "Take_12.obj").write_text("v 0 0 0\n")
    with pytest.raises(UnderstudyError, match="Take_12.obj has 1 vertices, but Take_8.obj has 5"):
        read_cache(tmp_path)


def test_empty_folder_and_missing_file(tmp_path):
    with pytest.raises(UnderstudyError, match="no OBJ files"):
        read_cache(tmp_path)
    with pytest.raises(UnderstudyError, match="no mesh cache at"):
        read_cache(tmp_path / "none.pc2")
    (tmp_path / "a.abc").write_text("")
    with pytest.raises(UnderstudyError, match="use PC2, MDD"):
        read_cache(tmp_path / "a.abc")


def pc2(version=1, vertices=5, samples=9, magic=b"POINTCACHE2\0", size=540):
    return struct.pack("<12siiffi", magic, version, vertices, 0, 1, samples) + bytes(size)


def npy_header(shape):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return header.getvalue()


@pytest.mark.parametrize("name, data, words", [
    ("a.pc2", pc2(size=539), "only 8 are there"),
    ("a.pc2", pc2(size=541), "longer than the 9 samples"),
    ("a.pc2", pc2(samples=2**31 - 1, vertices=2**31 - 1), "only 0 are there"),
    ("a.pc2", pc2(samples=0, size=0), "empty or damaged"),
    ("a.pc2", pc2(samples=-9, vertices=-5), "empty or damaged"),
    ("a.pc2", pc2(version=2), "version 2"),
    ("a.pc2", pc2(magic=b"POINTCACHE3"), "not a PC2"),
    ("a.pc2", b"POINTCACHE2\0", "not a PC2"),
    ("a.mdd", struct.pack(">ii", 9, 5) + bytes(36 + 539), "only 8 are there"),
    ("a.mdd", struct.pack(">ii", -1, -1), "empty or damaged"),
    ("a.mdd", b"\0\0", "not an MDD"),
    ("a.npy", npy_header((1 << 40, 5, 3)) + bytes(60), "Export it again"),
    ("a.npy", npy_header((-1, -20, 3)) + bytes(240), "Export it again"),
    ("a.npy", npy_header((1 << 63, 3, 3)) + bytes(60), "Export it again"),
    ("a.npy", npy_header((1, 5, 3)).replace(b"}", b" ") + bytes(60), "Export it again"),
    ("a.npy", b"no array", "Export it again"),
    ("a.npz", b"PK no zip", "Export it again"),
])
def test_damaged_and_hostile_caches(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UnderstudyError, match=name) as error:
        read_cache(tmp_path / name)
    assert words in str(error.value)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_npz_that_lies_about_its_size(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
        archive.writestr("vertices.npy", npy_header((1 << 40, 5, 3)) + bytes(60))
    with pytest.raises(UnderstudyError, match="a.npz declares"):
        read_cache(tmp_path / "a.npz")


def test_zip_bomb_is_not_inflated(tmp_path, monkeypatch):
    monkeypatch.setattr("understudy.core.arrays.INFLATE_LIMIT", 1 << 20)
    np.savez_compressed(tmp_path / "a.npz", vertices=np.zeros((100, 1000, 3), np.float32))
    with pytest.raises(UnderstudyError, match="would take"):
        read_cache(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", vertices=np.zeros((100, 1000, 3), np.float32))  # stored: mapped whatever its size
    assert read_cache(tmp_path / "b.npz").shape == (100, 1000, 3)


def test_objects_are_never_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "b.npz", vertices=np.array([{}], dtype=object))
    for name in ("a.npy", "b.npz"):
        with pytest.raises(UnderstudyError, match=name):
            read_cache(tmp_path / name)


def test_blocks_cover_everything_once(tmp_path):
    cache = read_cache(write(tmp_path / "a.mdd"))
    pieces = list(blocks(cache, size=12 * 5 * 2))
    assert [first for first, _ in pieces] == [0, 2, 4, 6, 8]
    assert np.array_equal(np.concatenate([block for _, block in pieces]), V)


def test_first_bad_position_is_named(monkeypatch):
    monkeypatch.setattr("understudy.core.meshcache.blocks", lambda cache: blocks(cache, size=120))
    bad = V.copy()
    check_finite(bad, "take")
    bad[7, 1, 0], bad[5, 3, 2] = np.inf, np.nan
    with pytest.raises(UnderstudyError, match="take: the position of vertex 3 in frame 5"):
        check_finite(bad, "take")
    with pytest.raises(UnderstudyError, match="vertex 0 in frame 0"):  # beyond float32
        check_finite(np.full((1, 1, 3), 1e300), "take")


@pytest.mark.skipif(not SHARED.exists(), reason="the test actors are not here")
def test_caches_of_the_test_actors(tmp_path):
    subprocess.run([sys.executable, str(SHARED / "actors/expand.py"), "otto", str(tmp_path), "scene_b"], check=True)
    cache = read_cache(tmp_path / "scene_b.pc2")
    assert cache.shape[1:] == (6706, 3)
    write(tmp_path / "again.pc2", cache)
    assert (tmp_path / "again.pc2").read_bytes() == (tmp_path / "scene_b.pc2").read_bytes()
