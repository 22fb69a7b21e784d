"""Paths in a .blend: kept relative to it, and kept right when it is saved somewhere else.

Blender does so for its own images and modifiers, but not for properties of add-ons.
"""

import os
from collections.abc import Callable
from pathlib import Path

import bpy
from bpy.app.handlers import persistent

from ..core.numbered import is_sequence

# Options of a property that holds such a path; newer versions warn without it, older ones do not know it.
OPTIONS = ({"PATH_SUPPORTS_BLEND_RELATIVE"}
           if "is_path_supports_blend_relative" in bpy.types.Property.bl_rna.properties else set())


def absolute(path: str) -> Path:
    """A path of the .blend as the system knows it. One that begins with // may have been written on Windows."""
    if path.startswith("//"):
        path = path.replace("\\", "/")
    return Path(os.path.normpath(bpy.path.abspath(path)))


def relative(path: Path | str, folder: str | None = None) -> str:
    """A path as the .blend keeps it: relative once it is saved, where drives allow.

    folder : that of the .blend, if it is about to change.
    """
    start = folder or os.path.dirname(bpy.data.filepath)
    if not start:
        return str(path)
    try:
        return bpy.path.relpath(str(path), start=start)
    except ValueError:  # another drive
        return str(path)


def stamp(path: Path) -> str:
    """Changes when a file does; empty if there is no file, or one of many that belong together."""
    if is_sequence(path):
        return ""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def _each(change: Callable[[str], str]) -> None:
    for scene in bpy.data.scenes:
        settings = scene.understudy
        shots = ((shot, ("footage", "cache", "head")) for shot in settings.shots)
        for owner, names in ((settings, ("actor", "model")), *shots):
            for name in names:
                old = getattr(owner, name)
                if old and (new := change(old)) != old:
                    owner[name] = new  # not through the update functions: nothing has moved


@persistent
def _save_pre(filepath: str, *_: object) -> None:
    folder = os.path.dirname(filepath) if filepath else ""
    if folder:
        _each(lambda path: relative(absolute(path), folder))


@persistent
def _save_post(filepath: str, *_: object) -> None:
    """A copy was saved elsewhere: this file stays where it was."""
    here, there = os.path.dirname(bpy.data.filepath), os.path.dirname(filepath or "")
    if there and here != there:
        _each(lambda path: relative(Path(os.path.normpath(bpy.path.abspath(path, start=there)))))


def register() -> None:
    bpy.app.handlers.save_pre.append(_save_pre)
    bpy.app.handlers.save_post.append(_save_post)


def unregister() -> None:
    bpy.app.handlers.save_pre.remove(_save_pre)
    bpy.app.handlers.save_post.remove(_save_post)
