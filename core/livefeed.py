"""The newest solved vertices in a small file that one process writes and others look at, as often as they like.

Layout, little-endian, 64 bytes and then the vertices:
     0  8 s   "USLIVE1" and a zero byte
     8  u8    counter: odd while the rest is being written, and two more with every frame
    16  i8    number of the frame, counted from 0
    24  f8    when it was captured, Unix seconds
    32  f8    when it was written
    40  u4    number of vertices V; 44 to 63 are zero
    64  (V, 3) f4 vertices in mesh units
A reader copies the frame and looks at the counter before and after: odd or changed means that it came in between.
Standard library and numpy only, so that Blender can import it.
"""

import contextlib
import mmap
import struct
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import UnderstudyError

HEADER = struct.Struct("<8sQqddI20x")
MAGIC = b"USLIVE1\0"
COUNTER, VALUES = struct.Struct("<Q"), struct.Struct("<qdd")
LIMIT = 10_000_000  # vertices that are believed
TRIES = 20


@dataclass
class LiveFrame:
    """number : of the frame.    captured, written : Unix seconds.    vertices : (V, 3) float32, mesh units, a copy."""

    number: int
    captured: float
    written: float
    vertices: np.ndarray


class LiveWriter:
    """Makes the file and writes frames; a context manager that removes it. Raises UnderstudyError if it cannot."""

    def __init__(self, path: Path | str, vertex_count: int):
        self.path, self._count, self._counter = Path(path), vertex_count, 0
        temporary = self.path.with_name(f".{self.path.name}.new")
        try:
            with open(temporary, "wb") as file:
                file.write(HEADER.pack(MAGIC, 0, -1, 0.0, 0.0, vertex_count))
                file.write(bytes(12 * vertex_count))
            temporary.replace(self.path)
            with open(self.path, "r+b") as file:
                self._map = mmap.mmap(file.fileno(), 0)
        except OSError as error:
            raise UnderstudyError(f"Cannot write {self.path}: {error.strerror or error}. Choose another place for the "
                                  "live vertices.") from error
        self._vertices = np.frombuffer(self._map, "<f4", 3 * vertex_count, HEADER.size).reshape(-1, 3)

    def write(self, number: int, captured: float, vertices: np.ndarray) -> float:
        """Show a frame, (V, 3) float32; returns when it could be read, Unix seconds."""
        COUNTER.pack_into(self._map, 8, self._counter + 1)
        self._vertices[:] = vertices
        VALUES.pack_into(self._map, 16, number, captured, now := time.time())
        self._counter += 2
        COUNTER.pack_into(self._map, 8, self._counter)
        return now

    def __enter__(self) -> "LiveWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._vertices = None
        self._map.close()
        with contextlib.suppress(OSError):  # Windows keeps it while somebody reads
            self.path.unlink(missing_ok=True)


class LiveReader:
    """Looks at the newest frame. Raises UnderstudyError for a file that is not one."""

    def __init__(self, path: Path | str):
        path = Path(path)
        try:
            with open(path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise UnderstudyError(f"Cannot read the live vertices in {path}: {error}.") from error
        if len(self._map) >= HEADER.size:
            magic, *_, count = HEADER.unpack_from(self._map)
            if magic == MAGIC and 0 < count <= LIMIT and len(self._map) == HEADER.size + 12 * count:
                self.vertex_count, self._seen = count, 0
                return
        self._map.close()
        raise UnderstudyError(f"{path} holds no live vertices.")

    def newest(self) -> LiveFrame | None:
        """The newest frame; None if there is none that has not been given before, or it is just being written."""
        for _ in range(TRIES):
            before, = COUNTER.unpack_from(self._map, 8)
            if before == self._seen:
                return None
            if before % 2 == 0:
                values = VALUES.unpack_from(self._map, 16)
                vertices = np.frombuffer(self._map, "<f4", 3 * self.vertex_count, HEADER.size).reshape(-1, 3).copy()
                if COUNTER.unpack_from(self._map, 8)[0] == before:
                    self._seen = before
                    return LiveFrame(*values, vertices)
        return None

    def close(self) -> None:
        self._map.close()
