"""The artist's corrections: relative shape keys above the solve, keyed in and out over frames.

They belong to the artist. Solving again, switching the form of the solve and clearing it leave them where they are. In
a Mesh Cache they move with the skin (skin.py), in Basis Keys they simply add up; a switch carries them over so that
each looks the same at its own frame. In Frame Keys they are baked into the frames, and come back when the form is left.
"""

import bpy
import numpy as np

from ..core.errors import UnderstudyError
from . import curves, keys
from .keys import key_of, value_path
from .modifier import match_deform_mode
from .scene_io import positions
from .timing import Mapping, mapping

PREFIX = "Edit "  # keys with such names are corrections; the rest of the name is the artist's


def listed(face: bpy.types.Object) -> list[bpy.types.ShapeKey]:
    """The corrections on a face."""
    return [block for block in keys.theirs(face) if block.name.startswith(PREFIX)]


def add(scene: bpy.types.Scene, shot, frame: float, falloff: float = 0.0, last: float | None = None,
        from_mix: bool = False) -> bpy.types.ShapeKey:
    """Add a correction, active and ready to sculpt; in Frame Keys instead make the frame's own key active.

    frame, last : scene frames from the first to the last of which it is fully on; None is `frame` alone.
    falloff : scene frames over which it eases in before and out after; 0 is no frame but these.
    from_mix : begin with what the artist's keys add now, instead of nothing.
    Raises UnderstudyError if the face cannot take shape keys.
    """
    face = shot.face
    if face is None:
        raise UnderstudyError(f"{shot.name} has no face to correct. Solve it first.")
    keys.check_writable(face)
    if keys.note(face).get("form") == "FRAMES":
        return _activate_frame(scene, shot, frame)
    keys.refuse_absolute(face)
    keys.own_mesh(face)
    key = keys.ensure_key(face)
    rest = positions(key.reference_key)
    name = f"{PREFIX}f{round(frame):04}"
    block = keys.add(face, name, rest + (_mix(face, rest) if from_mix else 0))
    key_in(key, block.name, frame, frame if last is None else last, falloff)
    _note(scene, shot)
    match_deform_mode(face)
    _activate(face, block)
    return block


def key_in(key: bpy.types.Key, name: str, first: float, last: float, falloff: float) -> None:
    """Key a shape key to 1 from `first` to `last`, and to 0 `falloff` frames before and after, at least one."""
    fade = max(falloff, 1.0)
    points = [(first - fade, 0.0), (first, 1.0), (last, 1.0), (last + fade, 0.0)]
    times, values = np.array(points if last > first else points[:2] + points[3:]).T
    curves.write(key, value_path(name), times, values, "Understudy Edits",
                 curves.BEZIER if falloff > 0 else curves.LINEAR)


def remove(shot, name: str) -> None:
    """Remove a correction and its curve. Raises UnderstudyError if there is none of that name."""
    face = shot.face
    block = next((block for block in listed(face) if block.name == name), None) if face else None
    if block is None:
        raise UnderstudyError(f"{shot.name} has no correction named {name}.")
    keys.check_writable(face)
    path = value_path(name)
    curves.remove(key_of(face), lambda other: other == path)
    face.shape_key_remove(block)
    keys.remove_key_if_empty(face)
    match_deform_mode(face)


def held(curve: bpy.types.FCurve) -> tuple[float, float]:
    """The first and the last scene frame at which a correction is fully on."""
    times, values = curves.read(curve)
    top = times[values >= values.max() - 1e-4]
    return float(top[0]), float(top[-1])


def retime(face: bpy.types.Object, old: Mapping, new: Mapping) -> None:
    """Let the corrections play at the source frames at which they played before."""
    known = curves.curves_of(key_of(face))
    factor = old.ratio / new.ratio
    for block in listed(face):
        curve = known.get((value_path(block.name), 0))
        if curve is not None:
            curves.move(curve, factor, new.scene(old.source(0)))


def shift(face: bpy.types.Object, frames: float) -> None:
    """Let the corrections play later by scene frames."""
    known = curves.curves_of(key_of(face)) if key_of(face) else {}
    for block in listed(face):
        curve = known.get((value_path(block.name), 0))
        if curve is not None:
            curves.move(curve, 1.0, frames)


def _mix(face: bpy.types.Object, rest: np.ndarray) -> np.ndarray:
    """What the artist's keys add now, (V, 3)."""
    total = np.zeros_like(rest)
    for block in keys.theirs(face):
        if not block.mute and block.value:
            total += block.value * (positions(block) - positions(block.relative_key))
    return total


def _note(scene: bpy.types.Scene, shot) -> None:
    """Note in which timing the corrections are keyed, so that they can follow it."""
    if "anchor_source" not in keys.note(shot.face):
        keys.set_note(shot.face, "MESH_CACHE", shot.cache, shot.solved_first, mapping(scene, shot))


def _activate(face: bpy.types.Object, block: bpy.types.ShapeKey) -> None:
    face.active_shape_key_index = key_of(face).key_blocks.find(block.name)
    face.show_only_shape_key = False
    face.use_shape_key_edit_mode = True


def _activate_frame(scene: bpy.types.Scene, shot, frame: float) -> bpy.types.ShapeKey:
    face = shot.face
    source = round(mapping(scene, shot).source(frame))
    block = key_of(face).key_blocks.get(keys.frame_name(source))
    if block is None:
        raise UnderstudyError(f"{face.name} has no key for source frame {source}. Go to a frame of the shot.")
    _activate(face, block)
    return block
