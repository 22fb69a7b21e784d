"""A PC2 cache that others read while it grows: at every moment its header speaks of samples that are there.

Blender's Mesh Cache modifier opens the file for every frame it shows, looks at the header and ignores what lies behind
the samples that it counts. So samples are written first, then the count; the file gets its name with its first samples.
"""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .errors import UnderstudyError
from .meshcache import BLOCK, PC2_HEADER, PC2_MAGIC, blocks, read_cache

growing: set["LiveCache"] = set()  # those that are being written by this process
COUNT_AT = PC2_HEADER.size - 4  # bytes to the number of samples, which ends the header


class LiveCache:
    """A PC2 at `path`, which must not exist yet; a context manager that closes the file.

    base : a cache to begin with, copied; None = empty.    at : the sample that is written first, at most the base's
    count. Writing replaces samples and goes on behind the last. Every method raises UnderstudyError with the reason if
    it cannot write; the samples that `count` names are whole even then.
    """

    def __init__(self, path: Path, vertex_count: int, base: Path | None = None, at: int = 0):
        refuse_existing(path)
        self.path, self.vertex_count, self.size = path, vertex_count, 12 * vertex_count
        self.count, self.next = 0, at
        self._hidden: Path | None = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.pc2")  # until it has a sample
        with self._writing():
            self._file = open(self._hidden, "x+b", buffering=0)
            growing.add(self)
            try:
                if base is None:
                    self._put(0, PC2_HEADER.pack(PC2_MAGIC, 1, vertex_count, 0.0, 1.0, 0))
                else:
                    self.count = len(read_cache(base))
                    copy(base, self._hidden)
                    self._appear()
            except BaseException:
                self.remove()
                raise

    def write(self, samples: np.ndarray) -> None:
        """Put (n, V, 3) samples at `next` and go on behind them."""
        if samples.shape[1:] != (self.vertex_count, 3) or self.next > self.count:
            raise ValueError(f"samples of shape {samples.shape} at {self.next} in a cache of {self.count}")
        with self._writing():
            self._put(PC2_HEADER.size + self.next * self.size, np.ascontiguousarray(samples, "<f4"))
            self.next += len(samples)
            if self.next > self.count:
                self._set_count(self.next)
            if self._hidden:
                self._appear()

    def show(self, samples: np.ndarray) -> None:
        """Write samples that are to be replaced: `next` stays where it is."""
        before = self.next
        self.write(samples)
        self.next = before

    def append(self, other: Path, first: int) -> None:
        """Write the samples of another cache from `first` on."""
        for _, samples in blocks(read_cache(other)[first:]):
            self.write(samples)

    def shorten(self, count: int) -> None:
        """Keep the first `count` samples, and nothing behind them; at least one."""
        with self._writing():
            self._set_count(count)
            self._file.truncate(PC2_HEADER.size + count * self.size)

    def remove(self) -> None:
        """Leave nothing."""
        self._file.close()
        with contextlib.suppress(OSError):
            (self._hidden or self.path).unlink(missing_ok=True)
        growing.discard(self)

    def __enter__(self) -> "LiveCache":
        return self

    def __exit__(self, *_: object) -> None:
        if self._hidden:
            self.remove()
        self._file.close()
        growing.discard(self)

    def _put(self, place: int, content: bytes | np.ndarray) -> None:
        self._file.seek(place)
        view = memoryview(content).cast("B")
        while view:  # a file without buffer may take less than all
            view = view[self._file.write(view):]

    def _set_count(self, count: int) -> None:
        self._put(COUNT_AT, count.to_bytes(4, "little"))
        self.count = count

    def _appear(self) -> None:
        """Take the name, unless somebody else has taken it meanwhile."""
        self._file.close()  # Windows renames closed files only
        try:
            os.link(self._hidden, self.path)
        except FileExistsError:
            refuse_existing(self.path)
        except OSError:  # a file system without links
            os.rename(self._hidden, self.path)
        else:
            os.unlink(self._hidden)
        self._hidden = None
        self._file = open(self.path, "r+b", buffering=0)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UnderstudyError(f"Cannot write {self.path}: {error.strerror or error}. Check that its folder exists, "
                                  "can be written and has space.") from error


def refuse_existing(path: Path) -> None:
    """Raise UnderstudyError unless a live cache can be begun at `path`."""
    if path.suffix.lower() != ".pc2":
        raise UnderstudyError(f"Only a PC2 cache can be looked at while it is written; {path.name} is none.")
    if path.exists():
        raise UnderstudyError(f"{path} exists already. A live solve begins a new file, so that nobody who looks at the "
                              "old one is disturbed; choose another name.")


def copy(source: Path, target: Path) -> None:
    """Copy a file's content; file systems that can share it copy nothing."""
    with open(source, "rb") as old, open(target, "wb") as new:
        if hasattr(os, "copy_file_range"):
            with contextlib.suppress(OSError):
                while os.copy_file_range(old.fileno(), new.fileno(), 1 << 30):
                    pass
        shutil.copyfileobj(old, new, BLOCK)  # the rest, or all of it
