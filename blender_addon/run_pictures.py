"""The pictures of training that the panel shows, where there is a window: curves, and the newest validation frames."""

from pathlib import Path

import bpy
import bpy.utils.previews
import numpy as np

from ..core.plot import Curve, plot
from ..core.runs import Run

LEARNED, VALIDATED = (88, 130, 190), (245, 165, 60)
BEHIND = (120, 120, 120), (100, 100, 100), (84, 84, 84), (70, 70, 70)  # the newest first

size = 240  # pixels that a side of the curves takes in the panel

_icons: bpy.utils.previews.ImagePreviewCollection | None = None
_picture: Path | None = None  # the one that is shown


def show(run: Run | None, earlier: list[Run]) -> None:
    """Draw the curves of a run, the validation of earlier ones behind it, and its newest preview.

    Blender would read a file of its own in a job, and at a job's end draws the whole window twice.
    """
    global _icons, _picture
    if bpy.app.background:
        return
    if _icons is None:
        _icons = bpy.utils.previews.new()
    curves = [Curve(other.validation, colour) for other, colour in zip(earlier, BEHIND, strict=False)][::-1]
    if run is not None:
        curves += [Curve(run.train, LEARNED, 1.0), Curve(run.validation, VALIDATED, 2.0)]
    _draw("curves", plot(curves, size))
    wanted = run.picture if run is not None else None
    if wanted != _picture:
        _picture = wanted
        small = run.small_picture() if run is not None else None
        if small is not None:
            _draw("picture", small)
        elif "picture" in _icons:
            del _icons["picture"]


def _draw(name: str, image: np.ndarray) -> None:
    """Let an icon show an image, (h, w, 3) uint8 RGB."""
    height, width = image.shape[:2]
    pixels = np.ones((height, width, 4), np.float32)
    pixels[..., :3] = image[::-1] * np.float32(1 / 255)
    icon = _icons[name] if name in _icons else _icons.new(name)
    icon.image_size = width, height
    icon.image_pixels_float.foreach_set(pixels.ravel())


def icon(name: str) -> int:
    """ "curves" or "picture" for `layout.template_icon`; 0 while there is none."""
    return _icons[name].icon_id if _icons is not None and name in _icons else 0


def clear() -> None:
    """Forget all pictures."""
    global _icons, _picture
    if _icons is not None:
        bpy.utils.previews.remove(_icons)
    _icons = _picture = None
