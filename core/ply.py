"""Reading PLY meshes: ASCII and binary, either byte order, whatever other elements and properties the file carries."""

from itertools import chain
from pathlib import Path

import numpy as np

from .errors import UnderstudyError

TYPES = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
         "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
         "float32": "f4", "float64": "f8"}
Element = tuple[str, int, list[tuple[str, ...]]]  # name, count, properties (name, type) or (name, count type, type)


def read_ply(data: bytes, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (V, 3) float64, face sizes (F,) and face indices as the file declares them, not yet checked.

    Nothing is sized by a count in the header: rows are taken from the data while it lasts. Raises UnderstudyError.
    """
    try:
        order, elements, body = _header(data)
        reader = _Reader(body, order)
        vertices = faces = None
        for name, count, properties in elements:
            if name == "vertex":
                columns = reader.table(count, properties)
                vertices = np.stack([columns[axis].astype(np.float64) for axis in "xyz"], axis=1)
            elif name == "face":
                key = next(p[0] for p in properties if p[0] in ("vertex_indices", "vertex_index") and len(p) == 3)
                faces = reader.rows(count, properties)[key]
            elif vertices is None or faces is None:
                reader.rows(count, properties)
    except (ValueError, KeyError, StopIteration, OverflowError, UnicodeDecodeError) as error:
        reason = str(error) if type(error) is ValueError else "vertices with x, y, z or faces are missing"
        raise UnderstudyError(f"Cannot read {path} as a PLY mesh: {reason}. Export it again.") from error
    if vertices is None or faces is None:
        raise UnderstudyError(f"{path} has no {'vertices' if vertices is None else 'faces'}.")
    return vertices, np.array([len(face) for face in faces], np.int64), np.array(list(chain(*faces)), np.int64)


def _header(data: bytes) -> tuple[str, list[Element], bytes]:
    """Byte order ('' for ASCII), elements and the bytes after the header."""
    end = data.find(b"end_header")
    if not data.startswith(b"ply") or end < 0:
        raise ValueError("it does not begin with a PLY header")
    order, elements = None, []
    for line in data[:end].decode("latin-1").splitlines():
        words = line.split()
        if words[:1] == ["format"] and len(words) > 1:
            order = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}.get(words[1])
        elif words[:1] == ["element"] and len(words) == 3:
            elements.append((words[1], int(words[2]), []))
        elif words[:1] == ["property"] and elements:
            types = words[2:4] if words[1:2] == ["list"] else words[1:2]
            if not types or any(kind not in TYPES for kind in types):
                raise ValueError(f"it has an unknown property {line.strip()!r}")
            elements[-1][2].append((words[-1], *(TYPES[kind] for kind in types)))
    if order is None:
        raise ValueError("its header names no known format")
    return order, elements, data[data.index(b"\n", end) + 1:]


class _Reader:
    """Takes numbers from the body, ASCII or binary, and refuses to take more than there are."""

    def __init__(self, body: bytes, order: str) -> None:
        self.order, self.position = order, 0
        self.body = body if order else body.split()

    def advance(self, size: int) -> int:
        """Move on by bytes (binary) or words (ASCII); returns where they begin."""
        start, self.position = self.position, self.position + size
        if size < 0 or self.position > len(self.body):
            raise ValueError("it is cut short, or its header promises more than it holds")
        return start

    def take(self, kind: str, count: int = 1) -> list:
        if self.order:
            start = self.advance(count * int(kind[1]))
            return np.frombuffer(self.body, self.order + kind, count, start).tolist()
        start = self.advance(count)
        return [(float if kind[0] == "f" else int)(word) for word in self.body[start:self.position]]

    def table(self, count: int, properties: list[tuple[str, ...]]) -> dict[str, np.ndarray]:
        """Columns of an element, whole at once when no property is a list."""
        if not self.order or any(len(p) == 3 for p in properties):
            return {name: np.array(column) for name, column in self.rows(count, properties).items()}
        row = np.dtype([(name, self.order + kind) for name, kind in properties])
        start = self.advance(count * row.itemsize)
        data = np.frombuffer(self.body, row, count, start)
        return {name: data[name] for name in row.names}

    def rows(self, count: int, properties: list[tuple[str, ...]]) -> dict[str, list]:
        """Columns of an element, row by row: a list property gives a list for each row."""
        columns = {p[0]: [] for p in properties}
        for _ in range(count if properties else 0):
            for name, *kinds in properties:
                if len(kinds) == 1:
                    columns[name] += self.take(kinds[0])
                else:
                    columns[name].append(self.take(kinds[1], int(self.take(kinds[0])[0])))
        return columns
