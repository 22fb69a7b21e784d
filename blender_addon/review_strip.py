"""The errors of the active shot as a strip along the timeline: a column a frame, its height and colour in mm.

The columns are made once for a solve and kept on the GPU. Where many frames fall on a pixel, columns of 2, 4, 8 ...
frames stand for them, each as high as its worst: a single bad frame of ten thousand is seen.
"""

import math
import time

import blf
import bpy
import gpu
import numpy as np
from gpu_extras.batch import batch_for_shader
from mathutils import Matrix

from ..core.colours import heat_colours
from ..core.frame_errors import top_of
from . import cleaning, review
from .timing import mapping

HEIGHT, LEAST, ABOVE = 54, 24, 16  # pixels: of the strip, of one in a low editor, left free for the scroll bar
LEGEND = 13      # pixels of its text
GREY = (0.42, 0.42, 0.42, 1.0)
GROUND, INK, CORRECTED, NEXT = (0.08, 0.08, 0.08, 0.82), (0.9, 0.9, 0.9, 1), (1.0, 0.62, 0.2, 1), (1, 1, 1, 0.75)
LOOK = 1.0       # s between looks for corrections
UNKNOWN = 0.04   # height of frames of which nothing is known

_handler = None


def switch(on: bool) -> None:
    """Show the strip in all timelines, or in none."""
    global _handler
    if on and _handler is None and not bpy.app.background:
        _handler = bpy.types.SpaceDopeSheetEditor.draw_handler_add(_draw, (), "WINDOW", "POST_PIXEL")
    elif not on and _handler is not None:
        bpy.types.SpaceDopeSheetEditor.draw_handler_remove(_handler, "WINDOW")
        _handler = None
    review.redraw()


def columns(errors: np.ndarray, grey: np.ndarray, top: float, level: int) -> tuple[np.ndarray, np.ndarray]:
    """The columns of 2^level frames each: corners (4 n, 2) in frames and parts of the height, colours (4 n, 4).

    errors : (n,) mm, NaN where unknown.    grey : (n,) bool, frames that do not count.    top : mm of the full height.
    """
    step, count = 1 << level, len(errors)
    pad = -count % step
    known = np.isfinite(errors)
    worth = np.where(known & ~grey, errors, -1)  # what counts decides, even if something higher does not
    groups = np.pad(worth, (0, pad), constant_values=-2).reshape(-1, step)
    counted = groups.max(axis=1)
    any_known = np.pad(np.where(known, errors, -1), (0, pad), constant_values=-2).reshape(-1, step).max(axis=1)
    height = np.where(counted >= 0, counted, any_known)
    colours = np.ones((len(height), 4), np.float32)
    colours[:, :3] = heat_colours(height / top)
    colours[counted < 0] = GREY
    left = np.arange(len(height)) * step - 0.5
    right = np.minimum(left + step, count - 0.5)
    high = np.where(height >= 0, np.clip(height / top, UNKNOWN, 1), UNKNOWN)
    zero = np.zeros_like(high)
    corners = np.stack([left, zero, right, zero, right, high, left, high], axis=1).reshape(-1, 2)
    return corners.astype(np.float32), np.repeat(colours, 4, axis=0)


def level_of(pixels_a_frame: float) -> int:
    """How often frames are halved until a column is at least a pixel wide."""
    return max(0, math.ceil(-math.log2(max(pixels_a_frame, 1e-6))))


def _draw() -> None:
    context = bpy.context
    scene, region, space = context.scene, context.region, context.space_data
    shot = scene.understudy.shot
    if shot is None or not shot.solved or space.mode not in ("TIMELINE", "DOPESHEET", "ACTION", "SHAPEKEY"):
        return
    known = review.of(scene, shot)
    if known is None or known.errors is None:
        return
    scale = context.preferences.system.ui_scale
    low, high = ABOVE * scale, ABOVE * scale + max(LEAST * scale, min(HEIGHT * scale, 0.5 * region.height))
    frames, first = mapping(scene, shot), known.solved.first
    begin, after = (region.view2d.view_to_region(frames.scene(first + i), 0, clip=False)[0] for i in (0, 1000))
    step = (after - begin) / 1000  # pixels a source frame
    errors = known.errors.best
    top = known.drawn.setdefault("top", top_of(errors))
    gpu.state.blend_set("ALPHA")
    left, right = begin - step / 2, begin + (known.solved.count - 0.5) * step
    _box(max(left, 0), low, min(right, region.width), high, GROUND)
    with gpu.matrix.push_pop():
        gpu.matrix.multiply_matrix(Matrix.Translation((begin, low, 0)) @ Matrix.Diagonal((step, high - low, 1, 1)))
        _batch(shot, known, errors, top, level_of(step)).draw(gpu.shader.from_builtin("FLAT_COLOR"))
    _marks(scene, shot, known, begin, step, high, scale)
    _legend(scene, shot, known, top, low, high, max(left, 0) + 6 * scale, scale)
    gpu.state.blend_set("NONE")


def _batch(shot, known: review.Known, errors: np.ndarray, top: float, level: int) -> gpu.types.GPUBatch:
    """The columns on the GPU, made anew when frames are excluded or taken back."""
    out = tuple((one.first, one.last) for one in shot.excluded), shot.first, shot.last
    if known.drawn.get("out") != out:
        known.drawn["out"], known.drawn["batches"] = out, {}
    batches = known.drawn["batches"]
    if level not in batches:
        corners, colours = columns(errors, review.left_out(shot, known.solved), top, level)
        quads = 4 * np.arange(len(corners) // 4, dtype=np.int32)[:, None]
        triangles = (quads[:, None] + np.array([[0, 1, 2], [0, 2, 3]], np.int32)).reshape(-1, 3)
        shader = gpu.shader.from_builtin("FLAT_COLOR")
        flat = np.column_stack([corners, np.zeros(len(corners), np.float32)])
        batches[level] = batch_for_shader(shader, "TRIS", {"pos": flat, "color": colours}, indices=triangles)
    return batches[level]


def _marks(scene: bpy.types.Scene, shot, known: review.Known, begin: float, step: float, high: float, scale: float
           ) -> None:
    """Lines over the frames that a correction covers, and a tick at each that is suggested."""
    now = time.monotonic()
    if now > known.drawn.get("looked", 0) + LOOK:
        known.drawn["looked"], known.drawn["corrected"] = now, cleaning.corrected_ranges(scene, shot)
    for one, last in known.drawn["corrected"]:
        left, right = begin + (one - known.solved.first - 0.5) * step, begin + (last - known.solved.first + 0.5) * step
        _box(left, high - 3 * scale, max(right, left + 2 * scale), high, CORRECTED)
    here = known.drawn.get("suggested")
    for source in here or ():
        middle = begin + (source - known.solved.first) * step
        _box(middle - scale, high - 6 * scale, middle + scale, high, NEXT)


def _legend(scene: bpy.types.Scene, shot, known: review.Known, top: float, low: float, high: float, x: float,
            scale: float) -> None:
    """What the strip is, how high it is, and the error of the present frame."""
    value = review.error_at(scene, shot, known)
    text = f"{known.kind}, 0 to {top:g} mm"
    if math.isfinite(value):
        text += f"   |   this frame {value:.2f} mm"
    blf.size(0, 11 * scale)
    width, _ = blf.dimensions(0, text)
    _box(x - 4 * scale, high, x + width + 6 * scale, high + (LEGEND + 4) * scale, GROUND)
    blf.color(0, *INK)
    blf.position(0, x, high + 5 * scale, 0)
    blf.draw(0, text)


def _box(left: float, low: float, right: float, high: float, colour: tuple[float, ...]) -> None:
    shader = gpu.shader.from_builtin("UNIFORM_COLOR")
    batch = batch_for_shader(shader, "TRI_STRIP", {"pos": ((left, low, 0), (right, low, 0), (left, high, 0),
                                                           (right, high, 0))})
    shader.uniform_float("color", colour)
    batch.draw(shader)
