"""The error of every vertex as a colour on the face, frame by frame, in mm.

What is compared: the solve with the cleaned shot of its footage, what is shown with the plain solve, two runs with each
other, or nothing: then every region has the colour of the error that is to be expected of it. The colours are a colour
attribute of the mesh, which a viewport in solid shading shows; both are put back when it is switched off.
"""

import time

import blf
import bpy
import gpu
import numpy as np
from bpy.app.handlers import persistent
from gpu_extras.batch import batch_for_shader

from ..core.colours import STOPS, heat_colours, linear
from ..core.errors import UnderstudyError
from ..core.frame_errors import distances, expected_vertices
from ..core.meshcache import read_cache
from ..core.modelfile import ModelFile
from . import comparing, edits, keys, review
from .keys import check_writable
from .paths import absolute

ATTRIBUTE = "Understudy Error"
KEPT = "understudy_shading"  # custom property of a screen: how its viewports were shaded before
SHADING = {"type": "SOLID", "color_type": "VERTEX", "light": "FLAT", "show_cavity": True}
TITLES = {"TRUTH": "Solve against cleaned shot", "EDITS": "What is shown against the solve",
          "RUNS": "Run A against run B", "EXPECTED": "What is to be expected, by region"}
GREY = linear(np.full(3, 0.45))  # where nothing is known
BAR = 200, 12                # pixels of the legend's colours
LEVELS = 1024

last: dict[str, object] = {}  # what is shown now: kind, mean and most in mm, or a text; how many ms it took

_handlers: list = []  # of drawing
_model: tuple[str, ModelFile] | None = None
_runs: tuple[str, list[np.ndarray]] | None = None
_table: np.ndarray | None = None  # colours of LEVELS fractions, linear, and opaque


def switch(context: bpy.types.Context, on: bool) -> None:
    """Show the colours in the viewports of this window, or put everything back. Raises UnderstudyError."""
    scene, manager = context.scene, context.window_manager
    if on:
        update(scene, context.evaluated_depsgraph_get(), strict=True)
    manager.understudy_review.heat = on
    if not on:
        clear(scene)
    _shade(on)
    _listen(on)
    review.redraw()


def update(scene: bpy.types.Scene, depsgraph: bpy.types.Depsgraph, strict: bool = False) -> None:
    """Colour the face for the present frame. `strict` raises what stands in the way as an UnderstudyError."""
    began = time.perf_counter()
    last.clear()
    shot = scene.understudy.shot
    try:
        if shot is None or not shot.solved or shot.face is None:
            raise UnderstudyError("Solve a shot first.")
        face, kind, values = _values(scene, shot, depsgraph)
        _paint(face, values, bpy.context.window_manager.understudy_review.limit_mm)
    except UnderstudyError as error:
        last["text"] = str(error)
        if strict:
            raise
        return
    known = values[np.isfinite(values)]
    last.update(kind=kind, mean=float(np.sqrt(np.square(known).mean())) if len(known) else np.nan,
                most=float(known.max()) if len(known) else np.nan, ms=1000 * (time.perf_counter() - began))


def clear(scene: bpy.types.Scene) -> None:
    """Take the colours off all faces of a scene."""
    found = [shot.face for shot in scene.understudy.shots] + [comparing.object_of()]
    for face in found:
        mesh = face.data if face is not None else None
        attribute = mesh.color_attributes.get(ATTRIBUTE) if mesh is not None and mesh.library is None else None
        if attribute is not None and face.mode == "OBJECT":
            mesh.color_attributes.remove(attribute)
            before = mesh.get(KEPT, "")
            if before in mesh.color_attributes:
                mesh.color_attributes.active_color = mesh.color_attributes[before]
            mesh.pop(KEPT, None)
            mesh.update_tag()


def _values(scene: bpy.types.Scene, shot, depsgraph: bpy.types.Depsgraph
            ) -> tuple[bpy.types.Object, str, np.ndarray]:
    """The object to colour, what is compared, and (V,) float32 mm, NaN where nothing is known."""
    known = review.read(scene, shot)
    if known.solved is None:
        raise UnderstudyError(known.text)
    millimetres, source = 1000 * scene.understudy.unit, review.source_now(scene, shot)
    kind = bpy.context.window_manager.understudy_review.against
    runs = _two_runs(shot)
    if kind == "AUTO":
        kind = "RUNS" if runs else "TRUTH" if known.truth is not None else "EDITS" if _edited(shot.face) else "EXPECTED"
    solved = at(known.samples, source - known.solved.first)
    if kind == "RUNS":
        if not runs:
            raise UnderstudyError("Compare two runs of this shot first, in the panel of training.")
        found = comparing.object_of()
        one, other = (at(samples, source - found["first"]) for samples in runs)
        return found, kind, distances(one, other, millimetres)
    if kind == "TRUTH":
        if known.truth is None:
            raise UnderstudyError(known.text or f"No cleaned shot of the actor has the footage of {shot.name}.")
        place = source - known.truth_first
        if not -0.5 <= place < len(known.truth) - 0.5:
            return shot.face, kind, np.full(len(solved), np.nan, np.float32)
        return shot.face, kind, distances(solved, at(known.truth, place), millimetres)
    if kind == "EDITS":
        shown = _shown(shot.face, depsgraph)
        if len(shown) != len(solved):
            raise UnderstudyError(f"A modifier changes the vertices of {shot.face.name}: turn it off to compare.")
        return shot.face, kind, distances(shown, solved, millimetres)
    model = _model_of(scene)
    sample = min(max(round(source) - known.solved.first, 0), known.solved.count - 1)
    return shot.face, kind, expected_vertices(known.errors, sample, len(solved), model.animated, model.regions)


def at(samples: np.ndarray, place: float) -> np.ndarray:
    """The sample at a place between two, as the Mesh Cache modifier plays it, (V, 3) float32."""
    place = min(max(place, 0.0), len(samples) - 1.0)
    below = int(place)
    part = np.float32(place - below)
    one = np.asarray(samples[below], np.float32)
    return one if part < 1e-4 else one + part * (np.asarray(samples[below + 1], np.float32) - one)


def _paint(face: bpy.types.Object, values: np.ndarray, limit_mm: float) -> None:
    """Write values as colours to the mesh of a face."""
    global _table
    mesh = face.data
    if face.mode == "EDIT":
        raise UnderstudyError(f"Leave Edit Mode of {face.name} to see its errors.")
    if len(mesh.vertices) != len(values):
        raise UnderstudyError(f"{face.name} has other vertices than its solve.")
    if _table is None:
        _table = np.ones((LEVELS + 1, 4), np.float32)
        _table[:LEVELS, :3] = linear(heat_colours(np.linspace(0, 1, LEVELS)))
        _table[LEVELS, :3] = GREY
    attribute = mesh.color_attributes.get(ATTRIBUTE)
    if attribute is None:
        check_writable(face, in_any_mode=True)
        active = mesh.color_attributes.active_color
        mesh[KEPT] = active.name if active is not None else ""
        attribute = mesh.color_attributes.new(ATTRIBUTE, "FLOAT_COLOR", "POINT")
        mesh.color_attributes.active_color = attribute
    with np.errstate(invalid="ignore"):
        level = np.clip(values * np.float32((LEVELS - 1) / limit_mm), 0, LEVELS - 1)
    level = np.where(np.isfinite(values), level, LEVELS).astype(np.int32)
    attribute.data.foreach_set("color", _table[level].ravel())
    mesh.update_tag()


def _shown(face: bpy.types.Object, depsgraph: bpy.types.Depsgraph) -> np.ndarray:
    """The vertices of a face with all its keys and modifiers, (V, 3) float32 in its own space."""
    vertices = face.evaluated_get(depsgraph).data.vertices
    found = np.empty(3 * len(vertices), np.float32)
    vertices.foreach_get("co", found)
    return found.reshape(-1, 3)


def _edited(face: bpy.types.Object) -> bool:
    return bool(edits.listed(face)) or keys.note(face).get("form") == "FRAMES"


def _model_of(scene: bpy.types.Scene) -> ModelFile:
    global _model
    settings = scene.understudy
    if not settings.model_sha256:
        raise UnderstudyError("The actor has no model that says how sure it is of its regions.")
    if _model is None or _model[0] != settings.model_sha256:
        _model = settings.model_sha256, ModelFile.load(absolute(settings.model))
    return _model[1]


def _two_runs(shot) -> list[np.ndarray]:
    """The caches of the two runs that are compared on a shot, memory-mapped; none if they are not."""
    global _runs
    found, files = comparing.object_of(), comparing.caches()
    if found is None or found.get("shot") != shot.uid or not files:
        return []
    name = str(files[0])
    if _runs is None or _runs[0] != name:
        _runs = name, [read_cache(path) for path in files]
    return _runs[1]


# ---- in the window


@persistent
def _frame_changed(scene: bpy.types.Scene, depsgraph: bpy.types.Depsgraph) -> None:
    if not bpy.app.is_job_running("RENDER"):
        update(scene, depsgraph)


@persistent
def _edited_now(scene: bpy.types.Scene, depsgraph: bpy.types.Depsgraph) -> None:
    """A correction has changed; what we paint ourselves changes the mesh and not its keys."""
    if depsgraph.id_type_updated("KEY") and last.get("kind") == "EDITS":
        update(scene, depsgraph)


@persistent
def _brought_back(scene: bpy.types.Scene, *_: object) -> None:
    """Undo may have taken the colours away."""
    update(scene, bpy.context.evaluated_depsgraph_get())


_ON = (("frame_change_post", _frame_changed), ("depsgraph_update_post", _edited_now), ("undo_post", _brought_back),
       ("redo_post", _brought_back))


def _listen(on: bool) -> None:
    """Follow the frame, and draw the legend, or no more."""
    for name, handler in _ON:
        handlers = getattr(bpy.app.handlers, name)
        if on and handler not in handlers:
            handlers.append(handler)
        elif not on and handler in handlers:
            handlers.remove(handler)
    if on and not _handlers and not bpy.app.background:
        _handlers.append(bpy.types.SpaceView3D.draw_handler_add(_draw_legend, (), "WINDOW", "POST_PIXEL"))
    while not on and _handlers:
        bpy.types.SpaceView3D.draw_handler_remove(_handlers.pop(), "WINDOW")


def _shade(on: bool) -> None:
    """Have viewports show the colours, or put their shading back."""
    screens = [window.screen for window in bpy.context.window_manager.windows] if on else list(bpy.data.screens)
    for screen in screens:
        spaces = [area.spaces.active for area in screen.areas if area.type == "VIEW_3D"]
        if on and KEPT not in screen:
            screen[KEPT] = [{name: getattr(space.shading, name) for name in SHADING} for space in spaces]
        kept = [] if on or KEPT not in screen else [dict(one) for one in screen[KEPT]]
        for space, before in zip(spaces, [SHADING] * len(spaces) if on else kept, strict=False):
            for name in SHADING if on else reversed(SHADING):  # the type decides which colours there are
                setattr(space.shading, name, type(SHADING[name])(before[name]))
        if not on and KEPT in screen:
            del screen[KEPT]


def _draw_legend() -> None:
    context = bpy.context
    scale = context.preferences.system.ui_scale
    limit = context.window_manager.understudy_review.limit_mm
    left, low = 24 * scale, 24 * scale
    width, height = BAR[0] * scale, BAR[1] * scale
    shader = gpu.shader.from_builtin("SMOOTH_COLOR")
    x = np.repeat(np.linspace(left, left + width, len(STOPS)), 2)
    y = np.tile([low, low + height], len(STOPS))
    colours = np.ones((len(x), 4), np.float32)
    colours[:, :3] = np.repeat(STOPS, 2, axis=0)
    places = np.column_stack([x, y, np.zeros_like(x)]).astype(np.float32)
    batch_for_shader(shader, "TRI_STRIP", {"pos": places, "color": colours}).draw(shader)
    text = str(last.get("text", ""))
    if not text and last:
        text = f"{TITLES[last['kind']]}: {last['mean']:.2f} mm RMS, {last['most']:.2f} mm at most"
        if not np.isfinite(last["mean"]):
            text = f"{TITLES[last['kind']]}: not known at this frame"
    for at_x, at_y, words in ((left, low + height + 8 * scale, text), (left, low - 14 * scale, "0"),
                              (left + width / 2 - 8 * scale, low - 14 * scale, f"{limit / 2:.3g}"),
                              (left + width - 8 * scale, low - 14 * scale, f"{limit:.3g} mm")):
        blf.size(0, 12 * scale)
        blf.enable(0, blf.SHADOW)
        blf.shadow(0, 3, 0, 0, 0, 0.9)
        blf.color(0, 0.95, 0.95, 0.95, 1)
        blf.position(0, at_x, at_y, 0)
        blf.draw(0, words)
        blf.disable(0, blf.SHADOW)


def stop() -> None:
    """Nothing follows the frame or draws any more; viewports are shaded as before."""
    global _model, _runs
    _listen(False)
    _shade(False)
    last.clear()
    _model = _runs = None
