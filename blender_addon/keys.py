"""The shape keys of ours on a face: the components of the network, or a key for every frame.

They live in the Key that the mesh has, beside the artist's keys, which stay as they are. Frame keys make the Key
absolute; the artist's relative keys are then parked before the first frame, where the evaluation time never comes, with
all their curves and drivers, and are back as soon as the Key is relative again.

What was written is noted in a custom property of the Key, with checksums: by them a later switch sees what the artist
changed, even where the cache that it came from is gone.
"""

import zlib
from collections.abc import Generator
from dataclasses import dataclass
from math import ceil

import bpy
import numpy as np

from ..core.errors import UnderstudyError
from . import curves
from .scene_io import positions, set_positions
from .stage import Stage
from .timing import Mapping

PREFIX = "Understudy "    # of the names of all our keys
MEAN = PREFIX + "Mean"
NOTE = "understudy"       # custom property of the Key
SLIDER = 4.0              # limit of a component's value; the solve itself stays within 1
SPACING = 25.0            # evaluation time between two frame keys: a quarter of a unit, exact in float32
STEP = 16                 # keys that are worked on between two yields
FRAME_LIMIT = 40_000      # frame keys that the largest evaluation time has room for


def component_name(number: int) -> str:
    return f"{PREFIX}{number + 1:03}"


def frame_name(source: int) -> str:
    return f"{PREFIX}f{source:04}"


def value_path(name: str) -> str:
    """Data path of a shape key's value in its Key."""
    return f'key_blocks["{bpy.utils.escape_identifier(name)}"].value'


def key_of(face: bpy.types.Object) -> bpy.types.Key | None:
    return face.data.shape_keys


def ours(face: bpy.types.Object) -> list[bpy.types.ShapeKey]:
    """Our keys on a face."""
    key = key_of(face)
    return [block for block in key.key_blocks if block.name.startswith(PREFIX)] if key else []


def theirs(face: bpy.types.Object) -> list[bpy.types.ShapeKey]:
    """The artist's keys on a face, corrections too, without the one that the others are relative to."""
    key = key_of(face)
    return [block for block in key.key_blocks
            if block != key.reference_key and not block.name.startswith(PREFIX)] if key else []


def note(face: bpy.types.Object) -> dict:
    """What is noted about a face's keys: form, cache, first, count, anchor_source, anchor_scene, ratio, ..."""
    key = key_of(face)
    return key[NOTE].to_dict() if key and NOTE in key else {}


def set_note(face: bpy.types.Object, form: str, cache: str, first: int, frames: Mapping, **more: object) -> None:
    """Note what the keys of a face are. More: scales, shapes and values (components), shapes and start (frames)."""
    key = key_of(face)
    made = bool(note(face).get("made"))
    key[NOTE] = {"form": form, "cache": cache, "first": first, "made": made, "anchor_source": frames.anchor_source,
                 "anchor_scene": frames.anchor_scene, "ratio": frames.ratio, **more}


def noted_mapping(values: dict) -> Mapping:
    """The timing with which the keys were made."""
    return Mapping(values["anchor_source"], values["anchor_scene"], values["ratio"])


def forget_form(face: bpy.types.Object) -> None:
    """Forget what our keys were, once they are gone; that we made the Key is still known."""
    key = key_of(face)
    if key is not None and NOTE in key:
        key[NOTE] = {"made": bool(note(face).get("made"))}


def retime(face: bpy.types.Object, old: Mapping, new: Mapping) -> None:
    """Let our keys play the same source frames in another timing."""
    about = note(face)
    for (path, _), curve in curves.curves_of(key_of(face)).items():
        if is_our_path(path, about):
            curves.move(curve, old.ratio / new.ratio, new.scene(old.source(0)))
    key_of(face)[NOTE] = {**about, "anchor_source": new.anchor_source, "anchor_scene": new.anchor_scene,
                          "ratio": new.ratio}


def is_our_path(path: str, about: dict) -> bool:
    """Whether a curve of the Key is ours, given what is noted."""
    return path.startswith(f'key_blocks["{PREFIX}') or path == "eval_time" and about.get("form") == "FRAMES"


def ensure_key(face: bpy.types.Object) -> bpy.types.Key:
    """The face's Key; a new one begins with its Basis."""
    if key_of(face) is None:
        face.shape_key_add(name="Basis", from_mix=False)
        key_of(face)[NOTE] = {"made": True}
    return key_of(face)


def remove_key_if_empty(face: bpy.types.Object) -> None:
    """Remove a Key that we made, once only its Basis is left."""
    if note(face).get("made") and len(key_of(face).key_blocks) == 1:
        face.shape_key_clear()


def strip(face: bpy.types.Object, with_curves: bool = True) -> None:
    """Remove our keys and their curves; the artist's keys are relative again."""
    key = key_of(face)
    if key is None:
        return
    about = note(face)
    if with_curves:
        curves.remove(key, lambda path: is_our_path(path, about))
    active = face.active_shape_key.name if face.active_shape_key else ""
    for block in ours(face):
        face.shape_key_remove(block)
    if about.get("form") == "FRAMES":
        key.use_relative = True
    face.active_shape_key_index = max(key.key_blocks.find(active), 0)
    remove_key_if_empty(face)


def add(face: bpy.types.Object, name: str, coordinates: np.ndarray) -> bpy.types.ShapeKey:
    """Add a key of the artist's or of ours, relative to the Basis, of (V, 3) float32 coordinates."""
    block = face.shape_key_add(name=name, from_mix=False)
    set_positions(block, coordinates)
    return block


def checksum(values: np.ndarray) -> int:
    """Of an array's float32 bytes, as the signed 32 bits that a custom property holds."""
    number = zlib.crc32(np.ascontiguousarray(values, np.float32))
    return number - (1 << 32) if number >= 1 << 31 else number


def add_components(stage: Stage, mean: np.ndarray, columns: np.ndarray, animated: np.ndarray, codes: np.ndarray,
                   times: np.ndarray) -> Generator[bool, None, dict]:
    """Add the components of a solve as muted keys with their curves; returns what to note of them.

    mean : (V, 3).    columns : (K, A, 3), what a code of 1 adds to the animated vertices.    codes : (n, K).
    times : (n,) scene frames. A key is its column times a power of two, which loses nothing, chosen so that the
    values stay within 1.
    """
    rest = positions(key_of(stage.face).reference_key)
    add(stage.face, MEAN, mean).mute = True
    scales = np.exp2(np.ceil(np.log2(np.maximum(np.abs(codes).max(0), 1e-30)))).astype(np.float32)
    scales[~codes.any(0)] = 1
    values = codes / scales
    shapes = [checksum(mean)]
    for start in range(0, len(columns), STEP):
        face, part = stage.face, range(start, min(start + STEP, len(columns)))
        for number in part:
            coordinates = rest.copy()
            coordinates[animated] += columns[number] * scales[number]
            block = add(face, component_name(number), coordinates)
            block.mute = block.lock_shape = True  # locked: a component that is sculpted is no component any more
            block.slider_min, block.slider_max = -SLIDER, SLIDER
            shapes.append(checksum(coordinates))
        curves.write_many(key_of(face), [(value_path(component_name(number)), values[:, number]) for number in part],
                          times, "Understudy")
        yield True
    return {"scales": scales.tolist(), "shapes": shapes, "count": len(codes),
            "values": [checksum(column) for column in values.T]}


def unmute_components(face: bpy.types.Object) -> None:
    for block in ours(face):
        block.mute = False
    key_of(face).key_blocks[MEAN].value = 1.0


@dataclass
class Components:
    """What the components on a face do, as their curves, mutes and shapes are now."""

    values: np.ndarray     # (n, K) float32 at the source frames of the solve
    moved: bool = False    # the artist changed the values
    shaped: bool = False   # the artist changed the shapes


def read_components(stage: Stage) -> Generator[bool, None, Components]:
    """What the components on a face do, compared with what was noted."""
    about = note(stage.face)
    frames = noted_mapping(about)
    times = [frames.scene(about["first"] + index) for index in range(about["count"])]
    found = Components(np.zeros((len(times), len(about["scales"])), np.float32))
    mean = key_of(stage.face).key_blocks.get(MEAN)
    if mean is None or checksum(positions(mean)) != about["shapes"][0]:
        found.shaped = True
    elif mean.mute or mean.value != 1:
        found.moved = True
    for start in range(0, len(about["scales"]), STEP):
        key = key_of(stage.face)
        known = curves.curves_of(key)
        for number in range(start, min(start + STEP, len(about["scales"]))):
            block = key.key_blocks.get(component_name(number))
            if block is None:
                found.moved = True
                continue
            found.shaped |= checksum(positions(block)) != about["shapes"][number + 1]
            column = _column(block, known.get((value_path(block.name), 0)), times, about["values"][number])
            found.moved |= column[0]
            found.values[:, number] = column[1]
        yield True
    return found


def _column(block: bpy.types.ShapeKey, curve: bpy.types.FCurve | None, times: list[float],
            known: int) -> tuple[bool, np.ndarray | float]:
    """Whether the artist changed the values of a component, and the values at `times`."""
    if block.mute:
        return True, 0.0
    if curve is None or curve.mute:
        return True, block.value
    at, values = curves.read(curve)
    if curves.is_straight(curve) and checksum(values) == known and np.allclose(at, times, rtol=1e-6, atol=1e-3):
        return False, values
    return True, np.clip([curve.evaluate(time) for time in times], block.slider_min, block.slider_max)


def component_shapes(face: bpy.types.Object, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean face (V, 3) and what a value of 1 of each component adds (K, V, 3), from the keys themselves."""
    blocks = key_of(face).key_blocks
    rest = positions(key_of(face).reference_key)
    mean = blocks.get(MEAN)
    base = rest if mean is None or mean.mute else rest + mean.value * (positions(mean) - rest)
    added = np.zeros((count, *rest.shape), np.float32)
    for number in range(count):
        block = blocks.get(component_name(number))
        if block is not None:
            added[number] = positions(block) - rest
    return base, added


def first_time(face: bpy.types.Object) -> float:
    """The evaluation time of the first frame key: behind all keys that are parked before it."""
    return 100.0 * (ceil(max(block.frame for block in key_of(face).key_blocks) / 100) + 1)


def add_frames(face: bpy.types.Object, first: int, samples: list[np.ndarray], start: float, index: int) -> list[int]:
    """Add frame keys `index`, `index` + 1, ... of a take that begins with source frame `first`; returns checksums.

    The Key is absolute only meanwhile, since a new key takes its place from the evaluation time of an absolute Key;
    with the value 0 it does nothing in a relative one.
    """
    key = key_of(face)
    before = key.eval_time
    key.use_relative = False
    sums = []
    for number, coordinates in enumerate(samples, index):
        key.eval_time = start + SPACING * number
        block = add(face, frame_name(first + number), coordinates)
        block.interpolation = "KEY_LINEAR"
        sums.append(checksum(coordinates))
    key.use_relative = True
    key.eval_time = before
    return sums


def play_frames(face: bpy.types.Object, first: int, count: int, start: float, frames: Mapping) -> None:
    """Make the Key absolute, and let it play its frame keys, in the given timing."""
    key = key_of(face)
    ends = [0, count - 1] if count > 1 else [0]
    curves.write(key, "eval_time", np.array([frames.scene(first + end) for end in ends]),
                 np.array([start + SPACING * end for end in ends]), "Understudy")
    key.use_relative = False


def changed_frames(stage: Stage) -> Generator[bool, None, dict[int, np.ndarray]]:
    """The frame keys that were sculpted, source frame -> (V, 3)."""
    about = note(stage.face)
    first, known = about["first"], about["shapes"]
    found: dict[int, np.ndarray] = {}
    for start in range(0, len(known), 4 * STEP):
        blocks = key_of(stage.face).key_blocks
        for number in range(start, min(start + 4 * STEP, len(known))):
            block = blocks.get(frame_name(first + number))
            if block is not None:
                coordinates = positions(block)
                if checksum(coordinates) != known[number]:
                    found[first + number] = coordinates
        yield True
    return found


def check_writable(face: bpy.types.Object, in_any_mode: bool = False, mesh: bool = True) -> None:
    """Raise UnderstudyError if a face is linked, or being edited.

    mesh : its mesh as well, which shape keys need; a modifier is the object's alone.
    """
    if face.type != "MESH":
        raise UnderstudyError(f"{face.name} is no mesh.")
    for data in (face, face.data) if mesh else (face,):
        if data.library is not None:
            raise UnderstudyError(f"{data.name} is linked from {data.library.filepath} and cannot be changed here. "
                                  "Make it local, or make a library override of the object and its mesh.")
    if face.mode != "OBJECT" and not in_any_mode:
        raise UnderstudyError(f"{face.name} is in {face.mode.replace('_', ' ').title()} Mode. Leave it first.")


def own_mesh(face: bpy.types.Object) -> list[str]:
    """Give a face a mesh of its own, since shape keys are part of the mesh; returns what was done, in words."""
    data = face.data
    if data.users - data.use_fake_user <= 1:
        return []
    face.data = data.copy()
    return [f"{face.name} has a mesh of its own now: the other objects that share {data.name} keep it as it is."]


def refuse_absolute(face: bpy.types.Object) -> None:
    """Raise UnderstudyError if the artist has made the Key of a face absolute."""
    key = key_of(face)
    if key is not None and not key.use_relative and note(face).get("form") != "FRAMES":
        raise UnderstudyError(f"{face.name} has absolute shape keys of its own. Turn on Relative in its Shape Keys "
                              "panel, or show the solve as Mesh Cache.")
