"""The Mesh Cache modifier that plays a solve on a face."""

from pathlib import Path

import bpy
import numpy as np

from ..core.errors import UnderstudyError
from . import keys, skin
from .paths import relative
from .scene_io import mesh_of, positions, set_positions
from .timing import Mapping

MODIFIER = "Understudy"


def modifier_of(face: bpy.types.Object) -> bpy.types.Modifier | None:
    """The modifier of ours on a face."""
    return next((modifier for modifier in face.modifiers
                 if modifier.type == "MESH_CACHE" and modifier.name.startswith(MODIFIER)), None)


def attach_cache(face: bpy.types.Object, path: Path | str, frames: Mapping, first: int) -> bpy.types.Modifier:
    """Let a face play a mesh cache, before all other modifiers; also a cache that still grows, see `refresh`.

    first : source frame of the cache's first sample. Only what differs is written, so this is cheap to call again.
    """
    modifier = modifier_of(face)
    if modifier is None:
        modifier = face.modifiers.new(MODIFIER, "MESH_CACHE")
        modifier.show_in_editmode = modifier.show_on_cage = True
        modifier.show_expanded = False
    if face.modifiers[0] != modifier:
        try:
            face.modifiers.move(face.modifiers.find(modifier.name), 0)
        except RuntimeError as error:  # modifiers of a linked object cannot be moved behind ours
            raise UnderstudyError(f"The solve has to come first in the modifiers of {face.name}, but {error}. Make the "
                                  "object local.") from error
    start, scale = frames.cache_settings(first)
    assign(modifier, cache_format="PC2", filepath=relative(path), interpolation="LINEAR", time_mode="FRAME",
         play_mode="SCENE", frame_start=start, frame_scale=scale, show_viewport=True, show_render=True)
    match_deform_mode(face)
    return modifier


def refresh(face: bpy.types.Object) -> None:
    """Have a cache that has grown read again at the current frame."""
    face.update_tag()


def match_deform_mode(face: bpy.types.Object) -> None:
    """Let the artist's relative shape keys work on top of the cache, where there are any.

    INTEGRATE is exact to 0.0001 mm but costs ten times OVERWRITE, so it is on only for them.
    """
    modifier, key = modifier_of(face), keys.key_of(face)
    if modifier is not None:
        carried = keys.note(face).get("form") in ("BASIS", "FRAMES")
        under = key is not None and key.use_relative and not carried and bool(keys.theirs(face))
        if under and modifier.deform_mode != "INTEGRATE" and face.data.library is None:
            _pull_apart(face)
        assign(modifier, deform_mode="INTEGRATE" if under else "OVERWRITE")


def _pull_apart(face: bpy.types.Object) -> None:
    """Move vertices that lie on each other in the rest mesh by less than anybody sees, as INTEGRATE needs it."""
    away = skin.apart(mesh_of(face))
    for owner in (face.data, *keys.key_of(face).key_blocks) if away is not None else ():
        set_positions(owner, positions(owner) + away)


def switch_off(face: bpy.types.Object) -> None:
    """Let shape keys carry the solve; the modifier stays, and with it the path of the cache."""
    modifier = modifier_of(face)
    if modifier is not None:
        assign(modifier, show_viewport=False, show_render=False)


def assign(target: object, **values: object) -> None:
    """Set what differs; every setting, even to the same value, has the whole mesh evaluated again."""
    for name, value in values.items():
        if isinstance(value, float):
            value = float(np.float32(value))
        if getattr(target, name) != value:
            setattr(target, name, value)
