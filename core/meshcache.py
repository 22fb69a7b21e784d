"""Mesh caches: the positions of every vertex in every frame, read memory-mapped and written in constant memory.

PC2 (little-endian): 12 characters "POINTCACHE2\\0", int32 version 1, int32 vertices, float32 start 0, float32 sampling
1, int32 samples; then samples x vertices x 3 float32. MDD (big-endian): int32 samples, int32 vertices, float32 time in
seconds of each sample; then as PC2. Read as well: npy and npz arrays (samples, vertices, 3), and folders of OBJ files.
Blender's Mesh Cache modifier reads PC2 and MDD; in its FRAME mode it ignores start and sampling.
"""

import contextlib
import io
import re
import shutil
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from .arrays import read_npy, read_npz, read_npz_array
from .errors import Cancelled, UnderstudyError
from .files import atomic
from .topology import read_obj_vertices

PC2_HEADER = struct.Struct("<12siiffi")
PC2_MAGIC = b"POINTCACHE2\0"
BLOCK = 16 << 20  # bytes handled at a time


def read_cache(path: Path | str) -> np.ndarray:
    """The positions in a mesh cache, (N, V, 3) float32, read-only and memory-mapped where the format allows.

    Memory-mapped: PC2, MDD (then of dtype '>f4'), float32 npy and uncompressed npz (`vertices`, or its only array of
    three dimensions). Read whole: other float types, compressed npz, folders of OBJ files (in natural order).
    Values are not looked at; see `check_finite`. Raises UnderstudyError for anything that is not a whole cache.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if path.is_dir():
        return _read_obj_folder(path)
    if not path.is_file():
        raise UnderstudyError(f"There is no mesh cache at {path}.")
    if kind == ".pc2":
        return _read_pc2(path)
    if kind == ".mdd":
        return _read_mdd(path)
    if kind == ".npy":
        return _positions(read_npy(path), path)
    if kind == ".npz":
        return _read_npz(path)
    raise UnderstudyError(f"{path} is no mesh cache that can be read here: use PC2, MDD, npy, npz or a folder of OBJ "
                          "files.")


def blocks(cache: np.ndarray, size: int = BLOCK) -> Iterator[tuple[int, np.ndarray]]:
    """Runs through (N, V, 3) positions in pieces of about `size` bytes: (first frame, (n, V, 3) native float32)."""
    step = max(1, size // (12 * cache.shape[1]))
    for first in range(0, len(cache), step):
        with np.errstate(over="ignore"):
            yield first, np.asarray(cache[first:first + step], np.float32)


def check_finite(cache: np.ndarray, name: object, offset: int = 0) -> None:
    """Raise UnderstudyError naming the first frame and vertex of `cache` (N, V, 3) that is no finite number.

    offset : number of the first frame.
    """
    for first, block in blocks(cache):
        bad = ~np.isfinite(block).all(axis=2)
        if bad.any():
            frame, vertex = np.unravel_index(np.argmax(bad), bad.shape)
            raise UnderstudyError(f"{name}: the position of vertex {vertex} in frame {offset + first + frame} is not a "
                                  "finite number. Export it again.")


@contextlib.contextmanager
def cache_writer(path: Path | str, vertex_count: int, frame_count: int, fps: float = 30.0) -> Iterator["CacheWriter"]:
    """Write a mesh cache (.pc2, .mdd or .npz by its suffix) sample by sample, in constant memory.

    The file appears when the block ends and all `frame_count` samples are there, or as many as were written when
    `truncate` was called. After an exception, or with no sample at all, nothing is left.
    Raises UnderstudyError when samples are missing or the disk is full, Cancelled when truncated before the first.
    """
    writers = {".pc2": _Pc2Writer, ".mdd": _MddWriter, ".npz": _NpzWriter}
    path = Path(path)
    writer_class = writers.get(path.suffix.lower())
    if writer_class is None:
        raise UnderstudyError(f"Cannot write a mesh cache named {path.name!r}: end its name with .pc2, .mdd or .npz.")
    with atomic(path) as temporary:
        with contextlib.closing(writer_class(temporary, vertex_count, frame_count, fps)) as writer:
            yield writer
            if writer.truncated and not writer.written:
                raise Cancelled(f"Stopped before the first sample of {path}; nothing was written.")
            if not writer.truncated and writer.written < max(frame_count, 1):
                raise UnderstudyError(f"Only {writer.written} of {frame_count} samples of {path} could be made; "
                                      "nothing was written.")
        if writer.written < frame_count:
            writer.shorten()


class CacheWriter:
    """Takes samples in order; `written` counts them. Made by `cache_writer`."""

    dtype = "<f4"

    def __init__(self, path: Path, vertex_count: int, frame_count: int, fps: float) -> None:
        self.path, self.vertex_count, self.frame_count, self.fps = path, vertex_count, frame_count, fps
        self.written, self.truncated = 0, False
        self.file = self.open()
        self.file.write(self.header(frame_count))

    def open(self) -> IO[bytes]:
        return open(self.path, "wb")

    def header(self, frame_count: int) -> bytes:
        raise NotImplementedError

    def write(self, samples: np.ndarray) -> None:
        """Append samples, (n, V, 3) of any float type."""
        if samples.ndim != 3 or samples.shape[1:] != (self.vertex_count, 3):
            raise ValueError(f"samples of shape {samples.shape} in a cache of {self.vertex_count} vertices")
        if self.written + len(samples) > self.frame_count:
            raise ValueError(f"more than the {self.frame_count} samples announced")
        self.file.write(np.ascontiguousarray(samples, self.dtype))
        self.written += len(samples)

    def truncate(self) -> None:
        """Keep what is written as a whole, shorter cache."""
        self.truncated = True

    def close(self) -> None:
        self.file.close()

    def shorten(self) -> None:
        """Make the closed file a whole cache of the samples it holds."""
        header, old_size = self.header(self.written), len(self.header(self.frame_count))
        with open(self.path, "rb") as source, open(self.path, "r+b") as target:
            source.seek(old_size)
            target.write(header)
            if len(header) < old_size:  # move the samples to the front: what is written was read before
                shutil.copyfileobj(source, target, BLOCK)
                target.truncate()


class _Pc2Writer(CacheWriter):
    def header(self, frame_count: int) -> bytes:
        return PC2_HEADER.pack(PC2_MAGIC, 1, self.vertex_count, 0.0, 1.0, frame_count)


class _MddWriter(CacheWriter):
    dtype = ">f4"

    def header(self, frame_count: int) -> bytes:
        times = np.arange(frame_count) / self.fps
        return struct.pack(">ii", frame_count, self.vertex_count) + times.astype(">f4").tobytes()


class _NpzWriter(CacheWriter):
    """An npz with the array `vertices`, not compressed, so that it can be memory-mapped again."""

    member = "vertices.npy"

    def open(self) -> IO[bytes]:
        self.archive = zipfile.ZipFile(self.path, "w")
        return self.archive.open(self.member, "w", force_zip64=True)

    def header(self, frame_count: int) -> bytes:
        text = io.BytesIO()
        shape = (frame_count, self.vertex_count, 3)
        np.lib.format.write_array_header_1_0(text, {"descr": "<f4", "fortran_order": False, "shape": shape})
        return text.getvalue()

    def close(self) -> None:
        with self.archive:
            self.file.close()

    def shorten(self) -> None:
        with atomic(self.path) as short, zipfile.ZipFile(self.path) as archive, archive.open(self.member) as source, \
                contextlib.closing(_NpzWriter(short, self.vertex_count, self.written, self.fps)) as target:
            source.read(len(self.header(self.frame_count)))
            shutil.copyfileobj(source, target.file, BLOCK)


def _read_pc2(path: Path) -> np.ndarray:
    with open(path, "rb") as file:
        header = file.read(PC2_HEADER.size)
    if len(header) < PC2_HEADER.size or not header.startswith(PC2_MAGIC):
        raise UnderstudyError(f"{path} is not a PC2 cache: its header is missing.")
    _, version, vertex_count, _, _, frame_count = PC2_HEADER.unpack(header)
    if version != 1:
        raise UnderstudyError(f"{path} is a PC2 cache of version {version}; only version 1 is known.")
    return _map(path, "<f4", PC2_HEADER.size, frame_count, vertex_count)


def _read_mdd(path: Path) -> np.ndarray:
    with open(path, "rb") as file:
        header = file.read(8)
    if len(header) < 8:
        raise UnderstudyError(f"{path} is not an MDD cache: its header is missing.")
    frame_count, vertex_count = struct.unpack(">ii", header)
    return _map(path, ">f4", 8 + 4 * frame_count, frame_count, vertex_count)


def _map(path: Path, dtype: str, offset: int, frame_count: int, vertex_count: int) -> np.ndarray:
    """Map the samples after the header, once the size of the file is exactly what the header says."""
    if frame_count < 1 or vertex_count < 1:
        raise UnderstudyError(f"{path} declares {frame_count} samples of {vertex_count} vertices: it is empty or "
                              "damaged. Export it again.")
    here, wanted = path.stat().st_size, offset + 12 * frame_count * vertex_count
    if here < wanted:
        whole = max(0, here - offset) // (12 * vertex_count)
        raise UnderstudyError(f"{path} is cut short: its header says {frame_count} samples of {vertex_count} vertices, "
                              f"but only {whole} are there. Export it again.")
    if here > wanted:
        raise UnderstudyError(f"{path} is longer than the {frame_count} samples of {vertex_count} vertices that its "
                              f"header declares, by {here - wanted} bytes. Export it again.")
    return np.memmap(path, dtype, "r", offset, (frame_count, vertex_count, 3))


def _read_npz(path: Path) -> np.ndarray:
    shapes = read_npz(path)
    names = ["vertices"] if "vertices" in shapes else [n for n, (shape, _) in shapes.items() if len(shape) == 3]
    if len(names) != 1:
        raise UnderstudyError(f"{path} should hold the array 'vertices' (samples, vertices, 3), but holds "
                              f"{', '.join(sorted(shapes)) or 'none'}.")
    return _positions(read_npz_array(path, names[0]), path)


def _positions(array: np.ndarray, path: Path) -> np.ndarray:
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape or array.dtype.kind != "f":
        raise UnderstudyError(f"{path} should hold decimal numbers of shape (samples, vertices, 3), but holds "
                              f"{array.dtype} of shape {array.shape}.")
    with np.errstate(over="ignore"):
        return array if array.dtype == np.float32 else array.astype(np.float32)


def _read_obj_folder(folder: Path) -> np.ndarray:
    files = sorted((file for file in folder.iterdir() if file.suffix.lower() == ".obj" and file.name[0] != "."),
                   key=lambda file: [int(part) if part.isdecimal() else part.casefold()
                                     for part in re.split(r"(\d+)", file.name)])
    if not files:
        raise UnderstudyError(f"The folder {folder} holds no OBJ files.")
    frames: list[np.ndarray] = []
    for file in files:
        frames.append(read_obj_vertices(file))
        if len(frames[-1]) != len(frames[0]) or not len(frames[0]):
            raise UnderstudyError(f"{file} has {len(frames[-1])} vertices, but {files[0].name} has {len(frames[0])}. "
                                  "Every frame needs the vertices of the template, in its order.")
    return np.stack(frames)
