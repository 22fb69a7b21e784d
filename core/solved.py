"""A solve on disk, as `solve` wrote it: the positions (.pc2), what they come from (.json) and their codes (.npy).

The codes are the K numbers a frame from which the model's linear head makes the vertices (modelfile.ModelFile.head).
Where parts of a take were solved by models of different K, rows of fewer codes end in zeros.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .arrays import read_npy
from .errors import UnderstudyError
from .fields import is_number, is_whole
from .files import read_json
from .meshcache import read_cache
from .modelfile import COMPONENT_LIMIT

COLUMNS = ("confidence_mm", "novelty_mm", "expected_mm", "signals")  # older sidecars have the first
FRAME_LIMIT = 100_000_000  # a month at 30 frames a second


@dataclass(frozen=True, eq=False)
class Solved:
    """A solve whose sidecar was checked.

    sidecar : the content of the JSON file.    first, last : footage frames of the first and the last sample.
    parts : who solved which frames: dicts of first, last, model_sha256, engine, device and crop, in order of frames.
    """

    path: Path
    sidecar: dict = field(repr=False)
    first: int
    last: int
    topology: str
    parts: list[dict] = field(repr=False)

    @property
    def count(self) -> int:
        """Samples, one a frame."""
        return self.last - self.first + 1

    @property
    def complete(self) -> bool:
        """Whether the solve reached the end of the range it was asked for."""
        return self.sidecar.get("complete", True) is True

    @property
    def models(self) -> list[str]:
        """SHA-256 of the models that solved the parts, each once."""
        return list(dict.fromkeys(part["model_sha256"] for part in self.parts))

    def vertices(self) -> np.ndarray:
        """(n, V, 3) float32 in mesh units, memory-mapped. Raises UnderstudyError if the cache is not whole."""
        cache = read_cache(self.path)
        if len(cache) != self.count:
            raise UnderstudyError(f"{self.path} holds {len(cache)} samples, but its sidecar speaks of the frames "
                                  f"{self.first} to {self.last}. One of them was replaced; solve again.")
        return cache

    def codes(self) -> np.ndarray:
        """(n, K) float32, memory-mapped. Raises UnderstudyError if they are missing or do not fit."""
        path = self.path.with_suffix(".npy")
        if not path.is_file():
            raise UnderstudyError(f"{self.path.name} has no codes {path.name} beside it: it was tracked elsewhere, or "
                                  "copied without them. Solve the shot to get them.")
        codes = read_npy(path)
        if codes.dtype != np.float32 or codes.ndim != 2 or len(codes) != self.count \
                or not 0 < codes.shape[1] <= COMPONENT_LIMIT:
            raise UnderstudyError(f"{path} should hold the codes of {self.count} frames, but holds {codes.dtype} of "
                                  f"shape {codes.shape}. Solve again.")
        return codes


def read_solved(path: Path | str) -> Solved:
    """The solve whose cache is `path`, by its sidecar. Raises UnderstudyError if that is missing or makes no sense.

    The cache itself is looked at by `vertices`, the codes by `codes`.
    """
    path = Path(path)
    sidecar = path.with_suffix(".json")
    if not sidecar.is_file():
        raise UnderstudyError(f"{path} has no sidecar {sidecar.name} beside it: it is no solve, was copied without it, "
                              "or its solve did not come to an end. Solve again.")
    values = read_json(sidecar)
    try:
        first, last, topology = values["first"], values["last"], values["topology"]
        if not (is_whole(first) and is_whole(last) and 0 <= first <= last < FRAME_LIMIT):
            raise ValueError(f"it speaks of the frames {str(first)[:20]} to {str(last)[:20]}")
        if not isinstance(topology, str):
            raise ValueError("its topology is no text")
        for kind in COLUMNS:
            _check_columns(values[kind] if kind == "confidence_mm" else values.get(kind, {}), last - first + 1)
        parts = _parts(values, first, last)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise UnderstudyError(f"{sidecar} is no sidecar of a solve, or is damaged: {reason}. Solve again.") from error
    return Solved(path, values, first, last, topology, parts)


def find_solves(paths: Sequence[Path | str]) -> list[Solved]:
    """The solves at paths: caches, their sidecars, or folders that hold such at any depth, in order.

    Raises UnderstudyError for a path that is none, and for a folder without any.
    """
    found: dict[Path, Solved] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            cache = path.with_suffix(".pc2") if path.suffix == ".json" else path
            found[cache.resolve()] = read_solved(cache)
            continue
        inside = []
        for cache in sorted(path.rglob("*.pc2")):
            with contextlib.suppress(UnderstudyError):  # cleaned vertices are no solve
                inside.append(read_solved(cache))
        if not inside:
            raise UnderstudyError(f"There is no solve in {path}. Solve a take first, or name where solves are.")
        found.update((solved.path.resolve(), solved) for solved in inside)
    return list(found.values())


def _check_columns(columns: dict[str, list], count: int) -> None:
    for name, column in columns.items():
        if not (isinstance(column, list) and len(column) == count
                and all(value is None or is_number(value) for value in column)):
            raise ValueError(f"what it tells of {name[:40]!r} is not a number a frame")


def _parts(values: dict, first: int, last: int) -> list[dict]:
    """The parts, which follow each other without gaps; a sidecar without the list is one part."""
    wanted = {"first": int, "last": int, "model_sha256": str, "engine": str, "device": str, "crop": list}
    parts = values.get("parts", [values])
    if not isinstance(parts, list):
        raise ValueError("its parts are no list")
    found = [{name: part[name] for name in wanted} for part in parts]
    next_frame = first
    for part in found:
        if any(not isinstance(part[name], kind) or isinstance(part[name], bool) for name, kind in wanted.items()):
            raise ValueError("a part has values of wrong types")
        if len(part["crop"]) != 4 or not all(map(is_number, part["crop"])):
            raise ValueError("the crop of a part is not four numbers")
        if part["first"] != next_frame or part["last"] < next_frame:
            raise ValueError("its parts do not follow each other")
        next_frame = part["last"] + 1
    if next_frame != last + 1:
        raise ValueError("its parts do not cover its frames")
    return found
