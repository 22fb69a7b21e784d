"""NumPy files from strangers: nothing pickled, and every declared size is checked before memory is taken."""

import struct
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from .errors import UnderstudyError

INFLATE_LIMIT = 2 << 30  # bytes; a compressed array is read whole, a longer one belongs into a memory-mapped format
# what NumPy and zipfile raise for damaged files, found by damaging files at random
DAMAGE = (OSError, ValueError, KeyError, EOFError, OverflowError, RuntimeError, NotImplementedError, struct.error,
          tokenize.TokenError, zipfile.BadZipFile, zlib.error)


def read_npy(path: Path | str) -> np.ndarray:
    """Memory-map an .npy file, read-only. Raises UnderstudyError if it is damaged, cut short or holds objects."""
    try:
        return np.lib.format.open_memmap(path, mode="r")  # refuses objects: it never unpickles
    except DAMAGE as error:
        raise UnderstudyError(f"Cannot read {path} as an .npy file: {_reason(error)}. Export it again.") from error


def read_npz(path: Path | str) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Names, shapes and dtypes of the arrays of an .npz file, from their headers alone."""
    return {name: _open(path, name)[:2] for name in _names(path)}


def read_npz_array(path: Path | str, name: str) -> np.ndarray:
    """One array of an .npz file: memory-mapped if it is stored, read whole if it is compressed."""
    shape, dtype, fortran, header_size, info = _open(path, name)
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if info.file_size != header_size + size:
        raise UnderstudyError(f"The array {name!r} in {path} declares {size} bytes but has "
                              f"{info.file_size - header_size}. The file is damaged; export it again.")
    order = "F" if fortran else "C"
    try:
        if info.compress_type == zipfile.ZIP_STORED and size:
            with open(path, "rb") as file:
                file.seek(info.header_offset)
                name_length, extra_length = struct.unpack("<26x2H", file.read(30))
            start = info.header_offset + 30 + name_length + extra_length + header_size
            return np.memmap(path, dtype, "r", start, shape, order)
        if size > INFLATE_LIMIT:
            raise UnderstudyError(f"The array {name!r} in {path} is compressed and would take {size / 2**30:.1f} GB of "
                                  "memory. Save it uncompressed (np.savez), as .npy or as PC2.")
        with zipfile.ZipFile(path) as archive, archive.open(info) as member:
            member.read(header_size)
            data = member.read(size)
        return np.frombuffer(data, dtype).reshape(shape, order=order)
    except DAMAGE as error:
        raise UnderstudyError(f"Cannot read {name!r} in {path}: {_reason(error)}. Export it again.") from error


def _names(path: Path | str) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [name[:-4] for name in archive.namelist() if name.endswith(".npy")]
    except DAMAGE as error:
        raise UnderstudyError(f"Cannot read {path} as an .npz file: {_reason(error)}. Export it again.") from error


def _open(path: Path | str, name: str) -> tuple[tuple[int, ...], np.dtype, bool, int, zipfile.ZipInfo]:
    """Shape, dtype, Fortran order, header size in bytes and zip entry of one array."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
            if np.lib.format.read_magic(member) != (1, 0):  # later versions allow headers of 4 GB
                raise ValueError("it is no plain array")
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(member)
            header_size, info = member.tell(), archive.getinfo(f"{name}.npy")
    except DAMAGE as error:
        raise UnderstudyError(f"Cannot read {name!r} in {path}: {_reason(error)}. Export it again.") from error
    if dtype.hasobject:
        raise UnderstudyError(f"The array {name!r} in {path} holds Python objects, which are never read. "
                              "Save plain numbers.")
    return shape, dtype, fortran, header_size, info


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0].rstrip(".")
