"""The errors of a solve as curves on the face, for the Graph Editor: custom properties that are animated."""

import bpy
import numpy as np

from ..core.errors import UnderstudyError
from . import curves, review
from .timing import Mapping, mapping

GROUP = "Understudy Errors"
NAMES = {"expected_error_mm": "Error that is to be expected of the solve, in mm",
         "rmse_mm": "Distance of the solve from the cleaned shot, root mean square over the animated vertices, in mm"}
NOTE = "understudy_errors"  # custom property of the face: the timing of the curves


def have(face: bpy.types.Object | None) -> bool:
    """Whether a face has such curves."""
    return face is not None and NOTE in face


def write(scene: bpy.types.Scene, shot) -> list[str]:
    """Put the errors of a shot on its face, or bring them up to date; returns the names of the properties.

    Raises UnderstudyError if nothing is known, or the face or its action cannot be changed.
    """
    known, face = review.read(scene, shot), shot.face
    if known.errors is None:
        raise UnderstudyError(known.text)
    if face.library is not None and face.override_library is None:
        raise UnderstudyError(f"{face.name} is linked from another file: make it local, or a library override.")
    frames = mapping(scene, shot)
    values = {"expected_error_mm": known.errors.expected, "rmse_mm": known.errors.rmse.get("all", np.empty(0))}
    remove(face)
    written = []
    for name, column in values.items():
        there = np.flatnonzero(np.isfinite(column))
        if not len(there):
            continue
        face[name] = 0.0
        face.id_properties_ui(name).update(min=0.0, description=NAMES[name])
        times = np.array([frames.scene(known.solved.first + int(sample)) for sample in there])
        curves.write(face, f'["{name}"]', times, column[there], GROUP)
        written.append(name)
    if not written:
        raise UnderstudyError(f"Nothing is known of the errors of {shot.name}: it was tracked, and no cleaned shot has "
                              "its footage.")
    face[NOTE] = (frames.anchor_source, frames.anchor_scene, frames.ratio)
    return written


def refresh(scene: bpy.types.Scene, shot) -> None:
    """After another solve, put what is to be expected of it on a face that has curves; the RMSE is known only later."""
    if have(shot.face):
        try:
            write(scene, shot)
        except UnderstudyError:  # nothing is known of it
            remove(shot.face)


def remove(face: bpy.types.Object) -> None:
    """Take the curves and the properties off a face; whatever else is animated stays."""
    paths = {f'["{name}"]' for name in NAMES}
    curves.remove(face, lambda path: path in paths)
    for name in (*NAMES, NOTE):
        if name in face:
            del face[name]


def retime(scene: bpy.types.Scene, shot) -> None:
    """Let the curves follow the timing of a shot."""
    face = shot.face
    if not have(face):
        return
    source, anchor, ratio = face[NOTE]
    old, new = Mapping(int(source), anchor, ratio), mapping(scene, shot)
    if old != new:
        known = curves.curves_of(face)
        for name in NAMES:
            if (curve := known.get((f'["{name}"]', 0))) is not None:
                curves.move(curve, old.ratio / new.ratio, new.scene(old.source(0)))
        face[NOTE] = (new.anchor_source, new.anchor_scene, new.ratio)
