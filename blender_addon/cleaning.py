"""Helpers of an artist who cleans a solve: what to look at next, before and after, what the actor himself can do."""

import bpy
import numpy as np

from ..core.errors import UnderstudyError
from ..core.frame_errors import FrameErrors
from ..core.modelfile import ModelFile
from ..core.review import clean_next, suggest_frames
from ..core.review import project as nearest
from ..core.solved import read_solved
from . import capture, curves, edits, keys, review, skin
from .modifier import modifier_of
from .paths import absolute
from .scene_io import mesh_of, positions, set_positions
from .timing import mapping

SUGGESTED = 20               # frames that are suggested at a time
MUTED = "understudy_muted"   # custom property of the Key: the corrections that comparing has muted
LEAST = 1e-3                 # value that a correction needs to be projected


def show(shot) -> None:
    """Show what `shot.compare` says: the solve with corrections, without, or the plate alone."""
    face = shot.face
    if face is None:
        return
    face.hide_viewport = shot.compare == "PLATE"
    key = keys.key_of(face)
    if key is None:
        return
    muted = set(key.get(MUTED, ()))
    for block in edits.listed(face):
        if shot.compare == "SOLVE" and not block.mute:
            block.mute = True
            muted.add(block.name)
        elif shot.compare != "SOLVE" and block.name in muted:
            block.mute = False
    if shot.compare == "SOLVE":
        key[MUTED] = sorted(muted)
    elif MUTED in key:
        del key[MUTED]


def suggested(scene: bpy.types.Scene, shot) -> list[tuple[int, str, float]]:
    """The source frames most worth cleaning: frame, reason, mm; the most urgent first, spread over time.

    By the error against the cleaned shot of the footage where there is one, else by what is to be expected; away from
    frames that have a correction, none that is excluded. Raises UnderstudyError if nothing is known of the solve.
    """
    known = review.read(scene, shot)
    if known.errors is None:
        raise UnderstudyError(known.text)
    errors, solved = known.errors, known.solved
    if not np.isfinite(errors.best).any():
        raise UnderstudyError(f"{shot.name} was tracked, not solved: no model says how sure it is of its frames.")
    taken, out = [source - solved.first for source in corrected(scene, shot)], review.left_out(shot, solved)
    if errors.rmse:
        found = [(sample, _reason(errors, sample), float(errors.best[sample]))
                 for sample in suggest_frames(errors.best, SUGGESTED, taken, out)]
    else:
        kind = "to be expected" if errors.calibrated else "spread"  # of which only the order means something
        found = [(one.sample, f"{kind}, {one.reason}", one.expected_mm)
                 for one in clean_next(solved.sidecar, SUGGESTED, taken, out)]
    found = [(solved.first + sample, *why) for sample, *why in found]
    known.drawn["suggested"] = [frame for frame, _, _ in found]
    return found


def _reason(errors: FrameErrors, sample: int) -> str:
    """What the error of a sample is, where the shot has a cleaned one."""
    if not np.isfinite(errors.rmse["all"][sample]):
        return "to be expected, beyond the cleaned shot"
    regions = {name: float(column[sample]) for name, column in errors.rmse.items() if name != "all"}
    worst = max(regions, key=regions.get, default="")
    return "from the cleaned shot" + (f", {regions[worst]:.1f} mm at the {worst}" if worst else "")


def corrected(scene: bpy.types.Scene, shot) -> list[int]:
    """The source frames in the middle of each correction."""
    return [(first + last) // 2 for first, last in corrected_ranges(scene, shot, muted=True)]


def corrected_ranges(scene: bpy.types.Scene, shot, muted: bool = False) -> list[tuple[int, int]]:
    """First and last source frame at which each correction is fully on.    muted : those that are switched off too."""
    face = shot.face
    if face is None or keys.key_of(face) is None:
        return []
    known, frames = curves.curves_of(keys.key_of(face)), mapping(scene, shot)
    found = [known.get((keys.value_path(block.name), 0)) for block in edits.listed(face) if muted or not block.mute]
    held = [edits.held(curve) for curve in found if curve is not None]
    return [(round(frames.source(begin)), round(frames.source(end))) for begin, end in held]


def go_to_next(scene: bpy.types.Scene, shot, step: int = 1) -> str:
    """Go to the suggested frame after the one that is shown, or before it; returns why, a sentence."""
    found, frames = suggested(scene, shot), mapping(scene, shot)
    if not found:
        raise UnderstudyError(f"No frame of {shot.name} is left to suggest.")
    here, order = round(frames.source(scene.frame_current_final)), [frame for frame, _, _ in found]
    known = review.read(scene, shot)
    again = here in order and known.drawn.get("next", (None,))[0] == here  # else begin with the most urgent
    place = (order.index(here) + step) % len(found) if again else 0
    frame, reason, millimetres = found[place]
    capture.go(scene, frames.scene(frame))
    known.drawn["next"] = frame, f"{place + 1} of {len(found)}: {millimetres:.2f} mm {reason}"
    return f"Suggestion {place + 1} of {len(found)}: source frame {frame}, {millimetres:.2f} mm {reason}."


def project(scene: bpy.types.Scene, shot) -> tuple[str, float, float]:
    """Change the active correction so that the present frame is one that the actor's components can show.

    Returns its name and what the components cannot show of it, in mm: root mean square over the animated vertices, and
    the most. Raises UnderstudyError if no correction is on at this frame.
    """
    face = shot.face
    model = ModelFile.load(absolute(scene.understudy.model))
    block = _active(scene, shot)
    if model.topology != mesh_of(face).hash:
        raise UnderstudyError(f"{model.path.name} is a model of another mesh than {face.name}.")
    layer = capture.layer_of(scene, face)
    layer.update()
    with capture.before_topology_changes(layer, face, model.template):
        sculpted = capture.vertices(layer, face, len(model.template.vertices))
    made, _ = nearest(sculpted[model.animated], *model.head())
    change = np.zeros_like(sculpted)
    change[model.animated] = made - sculpted[model.animated]
    if keys.note(face).get("form") == "FRAMES":
        value = 1.0
    else:
        value = block.value
        if modifier_of(face) is not None and modifier_of(face).show_viewport:
            change = skin.carry(mesh_of(face), _solve_now(scene, shot), change, back=True)
    set_positions(block, positions(block) + change / value)
    face.data.update_tag()  # older versions do not notice
    left = np.linalg.norm(made - sculpted[model.animated], axis=1) * 1000 * model.unit
    return block.name, float(np.sqrt(np.square(left).mean())), float(left.max())


def _active(scene: bpy.types.Scene, shot) -> bpy.types.ShapeKey:
    """The correction, or the frame key, that the artist sculpts at this frame."""
    face = shot.face
    block = face.active_shape_key
    if block is None or not block.name.startswith((edits.PREFIX, keys.PREFIX + "f")):
        raise UnderstudyError(f"Choose a correction of {face.name} among its shape keys, or add one at this frame.")
    here = round(mapping(scene, shot).source(scene.frame_current_final))
    if block.name.startswith(keys.PREFIX) and block.name != keys.frame_name(here):
        raise UnderstudyError(f"{block.name} is not the key of this frame, {keys.frame_name(here)}.")
    if block.name.startswith(edits.PREFIX) and (block.mute or block.value < LEAST):
        raise UnderstudyError(f"{block.name} is off at this frame. Go to a frame where it is on.")
    return block


def _solve_now(scene: bpy.types.Scene, shot) -> np.ndarray:
    """The sample of the solve that plays at this frame, (V, 3)."""
    solved = read_solved(absolute(shot.cache))
    source = round(mapping(scene, shot).source(scene.frame_current_final))
    return np.array(solved.vertices()[min(max(source - solved.first, 0), solved.count - 1)])
