"""What a solve becomes on a face, in three exact forms: Mesh Cache, Basis Keys and Frame Keys (DESIGN.md 5).

The modifier that plays the cache is on the face in every form, and switched off where shape keys carry the solve. Every
switch goes through it: the old form is taken off, what the artist had changed in it is kept (basis curves as a new
cache, sculpted frames as corrections), then the new one is put on.
"""

from collections.abc import Callable, Generator
from pathlib import Path

import bpy

from ..core.errors import UnderstudyError
from ..core.topology import Mesh, describe_difference
from . import edits, keys, switching
from .keys import check_writable, own_mesh
from .modifier import assign, attach_cache, modifier_of, refresh, switch_off
from .paths import absolute
from .scene_io import file_name, mesh_of
from .stage import Stage
from .timing import mapping

__all__ = ["attach_cache", "refresh"]  # part of what the rest of the add-on calls here

GROWING = "understudy_growing"  # custom property of a face that plays a cache which is still written
FORMS = {"MESH_CACHE": "Mesh Cache", "BASIS": "Basis Keys", "FRAMES": "Frame Keys"}
KEYFRAME, BLOCK = 72, 300  # bytes that a .blend takes for a keyframe and, beside its coordinates, for a shape key


def show(scene: bpy.types.Scene, shot, form: str) -> Generator[bool, None, list[str]]:
    """Bring a face into a form, with the solve that the shot names; yields True until all is done.

    No step between two yields takes longer than a window may stall. Returns sentences for the artist: what of his was
    moved where. What he changed in the form that is left is kept. Raises UnderstudyError if files are missing or the
    mesh is another one; the face then shows what it showed before.
    """
    stage = Stage.of(scene, shot)
    if not shot.solved or shot.face is None:
        raise UnderstudyError(f"{shot.name} is not solved yet.")
    face = shot.face
    notes, now = [], keys.note(face)
    check_writable(face, mesh=form != "MESH_CACHE" or now.get("form") in ("BASIS", "FRAMES"))
    if form != "MESH_CACHE":
        keys.refuse_absolute(face)
    if form != "MESH_CACHE" or now.get("form") in ("BASIS", "FRAMES"):
        notes += own_mesh(face)
    if form == "MESH_CACHE" or now.get("form") != form or file_name(now["cache"]) != file_name(shot.cache):
        try:
            yield from switching.switch(stage, form, notes)
        except UnderstudyError:
            stage.shot.output = keys.note(stage.face).get("form") or "MESH_CACHE"
            raise
    scene, shot = stage.scene, stage.shot
    settle(scene, shot)  # a solve that came to nothing may have shown itself
    shot.output = form
    retime(scene, shot)
    return notes + _overruled(shot.face)


def _overruled(face: bpy.types.Object) -> list[str]:
    """What else on a face says where its vertices are, and so hides the solve, as sentences."""
    return [f"{modifier.name} on {face.name} is another Mesh Cache, which hides the solve. Turn it off or remove it."
            for modifier in face.modifiers if modifier.type == "MESH_CACHE" and modifier != modifier_of(face)
            and modifier.show_viewport and modifier.deform_mode == "OVERWRITE" and modifier.factor == 1]


def retime(scene: bpy.types.Scene, shot) -> None:
    """Apply the timing of a shot to whatever its face carries; nothing is solved again."""
    face = shot.face
    if face is None or not shot.solved:
        return
    frames = mapping(scene, shot)
    modifier, about = modifier_of(face), keys.note(face)
    if modifier is not None:
        start, scale = frames.cache_settings(shot.solved_first)
        assign(modifier, frame_start=start, frame_scale=scale)
    if "anchor_source" in about and keys.noted_mapping(about) != frames:
        old = keys.noted_mapping(about)
        edits.retime(face, old, frames)
        keys.retime(face, old, frames)
    shot.solved_ratio = frames.ratio


def show_growing(scene: bpy.types.Scene, shot, path: Path, first: int) -> None:
    """Let a face play a mesh cache that is still being written; `settle`, `show` and `clear` end that.

    first : source frame of the cache's first sample.
    """
    if GROWING not in shot.face:
        shot.face[GROWING] = True
    attach_cache(shot.face, path, mapping(scene, shot), first)


def settle(scene: bpy.types.Scene, shot) -> None:
    """Show the shot's own solve, or none, on a face that plays what once was being written.

    Undo, or a file that was saved in the middle of a solve, brings such faces back.
    """
    face = shot.face
    if face is None or GROWING not in face or face.mode != "OBJECT":
        return
    del face[GROWING]
    if not shot.solved:
        clear(scene, shot)
        return
    attach_cache(face, absolute(shot.cache), mapping(scene, shot), shot.solved_first)
    if keys.note(face).get("form") in ("BASIS", "FRAMES"):
        switch_off(face)


def clear(scene: bpy.types.Scene, shot) -> None:
    """Take the solve off a face; the artist's shape keys, corrections and modifiers stay."""
    face = shot.face
    if face is not None:
        check_writable(face, mesh=bool(keys.ours(face)))
        if keys.ours(face):
            keys.strip(face)
        modifier = modifier_of(face)
        if modifier is not None:
            face.modifiers.remove(modifier)
        keys.forget_form(face)
        face.pop(GROWING, None)
    shot.cache, shot.solved_first, shot.solved_last = "", 0, -1


def forecast(form: str, frames: int, vertices: int, components: int) -> int:
    """Bytes that a form adds: to the .blend as keys (not compressed), on disk beside it as a mesh cache."""
    if form == "MESH_CACHE":
        return 32 + 12 * vertices * frames + 128 + 4 * components * frames
    if form == "BASIS":
        return (components + 2) * (12 * vertices + BLOCK) + components * frames * KEYFRAME
    return (frames + 1) * (12 * vertices + BLOCK)


def forecast_text(form: str, frames: int, vertices: int, components: int) -> str:
    """The forecast for the panel."""
    size = size_text(forecast(form, frames, vertices, components))
    return f"{size} on disk beside the .blend" if form == "MESH_CACHE" else f"Adds {size} to the .blend"


def size_text(size: int) -> str:
    """Bytes for people, in decimal units as file managers show them."""
    for unit, digits in ((1e9, 1), (1e6, 0 if size >= 1e7 else 1), (1e3, 0)):
        if size >= unit:
            return f"{size / unit:.{digits}f} {({1e9: 'GB', 1e6: 'MB', 1e3: 'kB'})[unit]}"
    return f"{size} bytes"


def check_face(face: bpy.types.Object, topology: str, template: Callable[[], Mesh] | None = None) -> None:
    """Raise UnderstudyError if a face cannot carry a solve of that topology, saying what differs from the template."""
    check_writable(face, in_any_mode=True, mesh=False)
    mesh = mesh_of(face)
    if mesh.hash != topology:
        difference = describe_difference(mesh, template()) if template is not None else "its vertices or faces differ"
        raise UnderstudyError(f"{face.name} is not the mesh that the actor was trained on: {difference}. Solves move "
                              "vertices by their order; use the actor's template, or undo what changed the mesh.")
