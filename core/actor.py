"""The actor folder: one folder that travels, with everything about one actor's face.

    actor.json                 name, unit, crop, transfer curve, topology, masks
    template.obj               the template mesh; its vertex order is the actor's topology
    shots/NAME/shot.json       footage, first frame, fps, role, split, status, excluded samples, provenance
    shots/NAME/vertices.pc2    one sample per footage frame, in template space, head-stabilised; after the shot was
                               marked again vertices.0001.pc2 and so on, which shot.json then names
"""

import contextlib
import functools
import os
import re
import shutil
import unicodedata
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from .errors import UnderstudyError
from .fields import Fields, Tell, is_number, is_whole, refuse
from .files import make_folder, write_json
from .meshcache import blocks, cache_writer, check_finite, read_cache
from .topology import Mesh, check_vertex_list, read_mesh, read_vertex_list, write_obj

SCHEMA = 1
INPUT_SIZE = [240, 320]  # width and height of the network's input (paper, Sec. 3)
ROLES = ("extreme", "facs", "pangram", "character")  # the paper's composition of a training set, Sec. 4
SPLITS = ("train", "validation")
STATUSES = ("raw", "solved", "in cleanup", "cleaned")
UNITS = {"mm": 0.001, "cm": 0.01, "dm": 0.1, "m": 1.0, "inch": 0.0254, "foot": 0.3048}  # metres per unit
VERTICES = re.compile(r"vertices(\.\d{4,9})?\.pc2")
RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(1, 10))}


@dataclass
class Shot:
    """A shot: footage and, sample by sample, the vertices of its frames. Sample i belongs to frame first_frame + i."""

    folder: Path
    footage: str  # relative to the actor folder where possible, with forward slashes
    role: str
    split: str
    first_frame: int = 0  # footage frame of sample 0
    fps: float = 30.0
    status: str = "cleaned"
    excluded: list[list[int]] = field(default_factory=list)  # [first, last] samples left out, both included
    file: str = "vertices.pc2"
    provenance: dict = field(default_factory=dict)  # who made the vertices, when and from what; empty if nobody said

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def cache(self) -> Path:
        """Where the vertices lie."""
        return self.folder / self.file

    def footage_path(self) -> Path:
        """Where the footage lies, absolute."""
        return Path(os.path.normpath(self.folder.parent.parent.resolve() / self.footage))

    def vertices(self) -> np.ndarray:
        """The positions, (N, V, 3) float32, memory-mapped, mesh units. UnderstudyError if missing or damaged."""
        return read_cache(self.cache)

    def sample_count(self) -> int:
        """How many samples there are; 0 for a raw shot without vertices."""
        return len(self.vertices()) if self.cache.exists() else 0

    def frames(self) -> np.ndarray:
        """(n,) int64 indices of the samples that are not excluded."""
        keep = np.ones(self.sample_count(), bool)
        for first, last in self.excluded:
            keep[first:last + 1] = False
        return np.flatnonzero(keep)

    def save(self) -> None:
        """Write shot.json."""
        optional = {"vertices": self.file} if self.file != "vertices.pc2" else {}
        if self.provenance:
            optional["provenance"] = self.provenance
        write_json(self.folder / "shot.json", {
            "schema": SCHEMA, "footage": self.footage, "first_frame": self.first_frame, "fps": self.fps,
            "role": self.role, "split": self.split, "status": self.status, "excluded": self.excluded, **optional})

    @classmethod
    def load(cls, folder: Path, tell: Tell = refuse, file: str = "shot.json") -> "Shot":
        """Read a shot's folder; `tell` hears of every fault, and faulty values are then replaced by defaults."""
        read = Fields(folder / file, SCHEMA, f"shot {folder.name}", tell)
        return cls(
            folder,
            read("footage", lambda v: isinstance(v, str) and v and "\0" not in v, "a path", ""),
            read("role", lambda v: v in ROLES, f"one of {', '.join(ROLES)}", ROLES[0]),
            read("split", lambda v: v in SPLITS, f"one of {', '.join(SPLITS)}", SPLITS[0]),
            read("first_frame", lambda v: is_whole(v) and v >= 0, "a frame number, 0 or more", 0),
            read("fps", lambda v: is_number(v) and v > 0, "frames per second, above 0", 30.0),
            read("status", lambda v: v in STATUSES, f"one of {', '.join(STATUSES)}", STATUSES[0]),
            read("excluded", is_ranges, "a list of [first, last] samples", []),
            read("vertices", lambda v: v is None or isinstance(v, str) and VERTICES.fullmatch(v),
                 "vertices.pc2 or a later one as vertices.0001.pc2", None) or "vertices.pc2",
            read("provenance", lambda v: v is None or isinstance(v, dict), "an object", None) or {})


@dataclass
class Actor:
    """An actor: template, masks, conventions and shots. Change it and call `save`; shots are saved on their own."""

    folder: Path
    name: str
    unit: float  # metres per mesh unit
    crop: tuple[float, float, float, float] | None  # x, y, width, height in footage pixels (core/crop.py)
    transfer: str  # transfer curve of the footage
    animated: np.ndarray  # (A,) int32 vertices that loss and RMSE count and the network regresses
    stabiliser: np.ndarray  # (S,) int32 vertices that hold the head still; may be empty
    regions: dict[str, np.ndarray]  # (n,) int32 each
    template: Mesh
    shots: list[Shot] = field(default_factory=list)
    weights: np.ndarray | None = None  # (V,) float32, 0 or more: how much each vertex counts in training, if painted

    @property
    def millimetres(self) -> float:
        """Millimetres per mesh unit."""
        return 1000 * self.unit

    def training_shots(self) -> list[Shot]:
        """The cleaned shots that train."""
        return [shot for shot in self.shots if shot.status == "cleaned" and shot.split == "train"]

    def validation_shots(self) -> list[Shot]:
        """The cleaned shots that judge."""
        return [shot for shot in self.shots if shot.status == "cleaned" and shot.split == "validation"]

    def save(self) -> None:
        """Write actor.json; the template and the shots stay as they are. Raises UnderstudyError for bad values."""
        count = len(self.template.vertices)
        animated = check_vertex_list(self.animated, count, "The animated mask")
        regions = {name: check_vertex_list(region, count, f"The region {name!r}").tolist()
                   for name, region in self.regions.items()}
        stabiliser = None
        if len(self.stabiliser):
            stabiliser = check_vertex_list(self.stabiliser, count, "The stabiliser mask").tolist()
        weights = None
        if self.weights is not None:
            weights = check_weights(self.weights, count).astype(np.float64).round(3).tolist()
        write_json(self.folder / "actor.json", {
            "schema": SCHEMA, "name": self.name, "unit": metres_per_unit(self.unit),
            "crop": None if self.crop is None else list(check_crop(self.crop)), "input": INPUT_SIZE,
            "transfer": self.transfer, "topology": {"hash": self.template.hash, "vertices": count},
            "masks": {"animated": None if len(animated) == count else animated.tolist(), "stabiliser": stabiliser,
                      "regions": regions, **({} if weights is None else {"weights": weights})}})

    @classmethod
    def load(cls, folder: Path | str, tell: Tell = refuse) -> "Actor":
        """Read an actor folder with its shots, in the order of their names.

        Raises UnderstudyError at the first fault; with `tell`, reports all faults to it instead and leaves a faulty
        crop empty, a faulty unit NaN, a template that cannot be read None, other faulty values at their defaults.
        """
        folder = Path(folder).absolute()
        if not (folder / "actor.json").is_file():
            raise UnderstudyError(f"{folder} is no actor folder: it has no actor.json. "
                                  "Make one with `understudy new`.")
        read = Fields(folder / "actor.json", SCHEMA, "actor.json", tell)
        topology = read("topology", _is_topology, "a topology with hash and vertices", {"hash": "", "vertices": 0})
        masks = read("masks", lambda v: isinstance(v, dict), "masks", {})
        read("input", lambda v: v == INPUT_SIZE, f"{INPUT_SIZE} (the network's input)", INPUT_SIZE)
        template = _load_template(folder / "template.obj", topology, tell)
        crop = read("crop", lambda v: v is None or _is_crop(v), "four numbers: x, y, width, height", [])
        actor = cls(
            folder,
            read("name", lambda v: isinstance(v, str) and v.strip(), "a name", folder.name),
            float(read("unit", lambda v: is_number(v) and v > 0, "metres per mesh unit, above 0", np.nan)),
            None if crop is None else tuple(crop),
            read("transfer", lambda v: isinstance(v, str) and v, "a transfer curve", "sRGB"),
            *_load_masks(masks, topology["vertices"], 0 if template is None else len(template.vertices), tell),
            template, weights=_load_weights(masks, topology["vertices"], tell))
        shots = sorted((path.parent for path in (folder / "shots").glob("*/shot.json")), key=lambda path: path.name)
        actor.shots = [Shot.load(path, tell) for path in shots if not path.name.startswith(".")]
        return actor

    def add_shot(self, name: str, footage: Path | str, vertices: Path | str | np.ndarray | None, role: str, split: str,
                 first_frame: int = 0, status: str = "cleaned", fps: float = 30.0) -> Shot:
        """Add a shot; its vertices are checked, then copied in constant memory. A failure leaves nothing behind.

        vertices : any mesh cache that `read_cache` reads, or (N, V, 3) positions in mesh units; sample i belongs to
        footage frame first_frame + i. None for a raw shot, which has none yet.
        The footage stays where it is and is not opened here. Raises UnderstudyError.
        """
        name = check_shot_name(name)
        folder = self.folder / "shots" / name
        if folder.exists() or name.casefold() in {shot.name.casefold() for shot in self.shots}:
            raise UnderstudyError(f"The actor {self.name} already has a shot named {name}. Choose another name.")
        for what, value, known in (("role", role, ROLES), ("split", split, SPLITS), ("status", status, STATUSES)):
            if value not in known:
                raise UnderstudyError(f"The {what} {value!r} is unknown; use {', '.join(known)}.")
        if not is_whole(first_frame) or first_frame < 0 or not is_number(fps) or fps <= 0:
            raise UnderstudyError(f"The first frame of {name} must be 0 or more and its frames per second above 0, "
                                  f"but they are {first_frame} and {fps}.")
        if vertices is None and status != "raw":
            raise UnderstudyError(f"The shot {name} has no vertices: only a raw shot can do without.")
        footage = Path(footage)
        if not footage.exists() and not set("%#") & set(footage.name):  # a pattern names an image sequence
            raise UnderstudyError(f"There is no footage at {footage}.")
        shot = Shot(folder, stored_path(footage, self.folder), role, split, int(first_frame), float(fps), status)
        with new_folder(folder) as temporary:
            if vertices is not None:
                source = f"shot {name}" if isinstance(vertices, np.ndarray) else vertices
                cache = vertices if isinstance(vertices, np.ndarray) else read_cache(vertices)
                check_vertices(cache, self.template, self.unit, source)
                with cache_writer(temporary / "vertices.pc2", cache.shape[1], len(cache)) as writer:
                    for _, block in blocks(cache):
                        writer.write(block)
            replace(shot, folder=temporary).save()
        self.shots.append(shot)
        self.shots.sort(key=lambda shot: shot.name)
        return shot


def create_actor(folder: Path | str, template_file: Path | str, unit: str | float, name: str | None = None,
                 animated: Any = None, stabiliser: Any = None, regions: dict[str, Any] | None = None,
                 crop: tuple[float, float, float, float] | None = None, transfer: str = "sRGB") -> Actor:
    """Make an actor folder, all of it or nothing.

    folder : absent, or empty.    template_file : OBJ, PLY or npz.    unit : a name of UNITS, or metres per mesh unit.
    animated, stabiliser, values of regions : vertex indices, or a file that lists them (`read_vertex_list`);
    animated None means all vertices.    crop : x, y, width, height in pixels; may be set later.
    Raises UnderstudyError.
    """
    folder = Path(folder).absolute()
    if (folder / "actor.json").exists():
        raise UnderstudyError(f"{folder} is already an actor. Choose another folder.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UnderstudyError(f"{folder} is not empty. Choose a new folder for the actor.")
    template = read_mesh(template_file)
    count = len(template.vertices)

    def mask(value: Any, what: str) -> np.ndarray:
        if isinstance(value, str | Path):
            return read_vertex_list(value, count)
        return check_vertex_list(value, count, what)

    actor = Actor(
        folder, name or folder.name, metres_per_unit(unit), None if crop is None else check_crop(crop), transfer,
        np.arange(count, dtype=np.int32) if animated is None else mask(animated, "The animated mask"),
        np.zeros(0, np.int32) if stabiliser is None else mask(stabiliser, "The stabiliser mask"),
        {name: mask(value, f"The region {name!r}") for name, value in (regions or {}).items()}, template)
    with new_folder(folder) as temporary:
        write_obj(temporary / "template.obj", template)
        replace(actor, folder=temporary).save()
    return actor


def metres_per_unit(unit: str | float) -> float:
    """Metres per mesh unit, of a unit's name or given as a number."""
    if isinstance(unit, str) and unit.strip().lower() in UNITS:
        return UNITS[unit.strip().lower()]
    if is_number(unit) and unit > 0:
        return float(unit)
    raise UnderstudyError(f"The unit {unit!r} is unknown; use {', '.join(UNITS)}, or metres per unit as a number.")


def check_crop(crop: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """The crop as four plain numbers; whether it fits the picture is for those who know the picture."""
    numbers = [int(number) if float(number).is_integer() else float(number) for number in crop]
    if not _is_crop(numbers):
        raise UnderstudyError(f"The crop {tuple(crop)} should be x, y, width and height in pixels, x and y 0 or more, "
                              "width and height at least 16.")
    return tuple(numbers)


def check_weights(weights: np.ndarray, count: int) -> np.ndarray:
    """Painted weights as (count,) float32; UnderstudyError unless they can weigh vertices."""
    weights = np.asarray(weights, np.float64)
    if weights.shape != (count,) or not np.isfinite(weights).all() or weights.min() < 0 or not weights.any():
        raise UnderstudyError(f"The painted weights should be {count} numbers, one a vertex, 0 or more and not all 0. "
                              "Paint them again.")
    return weights.astype(np.float32)


def check_shot_name(name: str) -> str:
    """The name in Unicode's composed form, if every system can have a folder of this name; else UnderstudyError."""
    name = unicodedata.normalize("NFC", name)
    known = all(unicodedata.category(letter)[0] in "LNM" or letter in " _-." for letter in name)
    if not name or not known or name[0] in " ." or name[-1] in " .":
        raise UnderstudyError(f"{name!r} cannot name a shot: use letters, digits, spaces, _, - and ., not beginning or "
                              "ending with a space or a dot.")
    if name.split(".")[0].rstrip().upper() in RESERVED:
        raise UnderstudyError(f"{name!r} cannot name a shot: Windows reserves it.")
    if len(name.encode()) > 120:
        raise UnderstudyError(f"The shot name {name[:20]}... is too long; use at most 120 letters.")
    return name


def check_vertices(cache: np.ndarray, template: Mesh, unit: float, name: object, finite: bool = False) -> None:
    """Raise UnderstudyError unless `cache` (N, V, 3) can be the template in motion; `name` begins the sentence.

    Looked at: vertex count, finite numbers, and in the first, middle and last frame the size (a wrong unit) and the
    lengths of the edges: in a wrong vertex order, edges join vertices that lie apart. Of real expressions of two
    actors, at most 1.2 % of the edges grew more than threefold; an order shifted by one vertex makes it 39 %.
    finite : all numbers are known to be.
    """
    if cache.ndim != 3 or cache.shape[2] != 3 or not len(cache):
        raise UnderstudyError(f"{name}: positions should be of shape (samples, vertices, 3), but are {cache.shape}.")
    if cache.shape[1] != len(template.vertices):
        raise UnderstudyError(f"{name} has {cache.shape[1]} vertices, but the template has {len(template.vertices)}. "
                              "Export the mesh with the template's topology.")
    if not finite:
        check_finite(cache, name)
    edges = template.edges()
    rest, rest_size = _edge_lengths(template.vertices, edges), size_of(template.vertices)
    for frame in sorted({0, len(cache) // 2, len(cache) - 1}):
        positions = np.asarray(cache[frame], np.float64)
        scale = size_of(positions) / max(rest_size, 1e-30)
        if not 0.5 < scale < 2:
            guess = [known for known, metres in UNITS.items() if 0.8 < metres * scale / unit < 1.25]
            raise UnderstudyError(f"{name}: frame {frame} is {scale:.3g} times the size of the template. It looks like "
                                  f"{guess[0] if guess else 'another unit'}; export it in the template's unit.")
        stretched = np.mean(_edge_lengths(positions, edges) > 3 * scale * rest)
        if stretched > 0.1:
            raise UnderstudyError(f"{name}: in frame {frame}, {100 * stretched:.0f} % of the edges are more than three "
                                  "times as long as in the template: the vertices are in another order. Export them in "
                                  "the template's order.")


def size_of(positions: np.ndarray) -> float:
    """Root of the mean squared distance of (V, 3) positions from their centre."""
    return float(np.sqrt(np.square(positions - positions.mean(axis=0)).sum(axis=1).mean()))


def _edge_lengths(positions: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.linalg.norm(positions[edges[:, 0]] - positions[edges[:, 1]], axis=1)


def _load_masks(masks: dict, count: int, here: int, tell: Tell,
                ) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """The masks of an actor of `count` vertices by its actor.json, `here` by its template."""
    def mask(values: Any, name: str, default: np.ndarray) -> np.ndarray:
        try:
            return default if values is None or not count else check_vertex_list(values, count, name)
        except UnderstudyError as error:
            tell("actor.json", str(error))
            return default

    regions = masks.get("regions") or {}
    if not isinstance(regions, dict):
        tell("actor.json", "The regions in actor.json should be lists of vertices by name.")
        regions = {}
    none = np.zeros(0, np.int32)
    return (mask(masks.get("animated"), "The animated mask", np.arange(here, dtype=np.int32)),
            mask(masks.get("stabiliser"), "The stabiliser mask", none),
            {name: mask(values, f"The region {name!r}", none) for name, values in regions.items()})


def _load_weights(masks: dict, count: int, tell: Tell) -> np.ndarray | None:
    weights = masks.get("weights")
    if weights is None:
        return None
    try:
        if not isinstance(weights, list) or not all(map(is_number, weights)):
            weights = []
        return check_weights(np.array(weights), count)
    except UnderstudyError as error:
        return tell("actor.json", str(error))


@functools.lru_cache(maxsize=4)
def _read_template(path: Path, size: int, changed: int) -> Mesh:
    """A template as it was when the file had that size and time: reading it takes longer than all else of an actor."""
    return read_mesh(path)


def _load_template(path: Path, topology: dict, tell: Tell) -> Any:
    try:
        status = path.stat() if path.is_file() else None
        template = _read_template(path, status.st_size, status.st_mtime_ns) if status else read_mesh(path)
    except UnderstudyError as error:
        return tell("template.obj", str(error))
    if topology["hash"] and template.hash != topology["hash"]:
        tell("template.obj", f"{path} is not the template that this actor was made with: its vertex order or faces "
                             f"have changed ({len(template.vertices)} vertices, {topology['vertices']} then). Put the "
                             "original back.")
    return template


def _is_crop(value: Any) -> bool:
    return (isinstance(value, list) and len(value) == 4 and all(map(is_number, value))
            and min(value[:2]) >= 0 and min(value[2:]) >= 16)


def _is_topology(value: Any) -> bool:
    return (isinstance(value, dict) and isinstance(value.get("hash"), str) and is_whole(value.get("vertices"))
            and 0 < value["vertices"] < 2**31)


def is_ranges(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(map(is_whole, pair)) and 0 <= pair[0] <= pair[1]
        for pair in value)


def stored_path(footage: Path, folder: Path) -> str:
    """The footage as the actor stores it: relative to its folder, or absolute when on another drive."""
    place = footage.parent.resolve() / footage.name
    try:
        return PurePosixPath(Path(os.path.relpath(place, folder.resolve()))).as_posix()
    except ValueError:
        return place.as_posix()


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder` that becomes `folder` if the block succeeds, else disappears."""
    temporary = make_folder(folder.parent) / f".{uuid.uuid4().hex[:12]}"
    try:
        temporary.mkdir()
        yield temporary
        if folder.exists():  # and empty: keep it, someone may stand in it
            for child in sorted(temporary.iterdir(), reverse=True):  # actor.json last: it makes the folder an actor
                child.rename(folder / child.name)
        else:
            temporary.rename(folder)
    except OSError as error:
        raise UnderstudyError(f"Cannot make the folder {folder}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
