"""A picture file as an icon for the panel: the network's input."""

from pathlib import Path

import bpy
import bpy.utils.previews

_NAME = "input"
_previews: bpy.utils.previews.ImagePreviewCollection | None = None


def load(path: Path | str) -> None:
    """Show this picture from now on. Does nothing without a window."""
    global _previews
    if bpy.app.background:
        return
    if _previews is None:
        _previews = bpy.utils.previews.new()
    _previews.clear()
    _previews.load(_NAME, str(path), "IMAGE", True)


def icon() -> int:
    """The picture for `layout.template_icon`; 0 while there is none."""
    return _previews[_NAME].icon_id if _previews is not None and _NAME in _previews else 0


def register() -> None:
    pass


def unregister() -> None:
    global _previews
    if _previews is not None:
        bpy.utils.previews.remove(_previews)
        _previews = None
