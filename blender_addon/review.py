"""What is known of the errors of the shots' solves, kept for whoever shows it: strip, curves, colours, panel.

What is to be expected stands in the sidecar of a solve; a cleaned shot of the same footage is found, and compared with,
by the worker. Whoever draws asks `of`, which looks at no file: what is not known yet is read a moment later.
"""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import bpy
import numpy as np

from ..core.errors import UnderstudyError
from ..core.frame_errors import FrameErrors, expected, read_errors
from ..core.meshcache import read_cache
from ..core.solved import Solved, read_solved
from . import pump
from .paths import absolute
from .timing import mapping


@dataclass(eq=False)
class Known:
    """A solve of a shot and its errors.

    key : what it was read from.    solved, errors : None until they are read, and if that fails.    text : what goes
    on, or what is wrong.    truth : the cleaned shot, memory-mapped (n, V, 3), from source frame `truth_first` on.
    drawn : what others keep with it while it is valid.
    """

    key: tuple
    solved: Solved | None = None
    errors: FrameErrors | None = None
    text: str = ""
    truth: np.ndarray | None = None
    truth_first: int = 0
    samples: np.ndarray | None = None
    drawn: dict = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What the errors are, in words."""
        if self.errors is not None and self.errors.rmse:
            return "RMSE against the cleaned shot"
        return "Expected error" if self.errors is None or self.errors.calibrated else "Spread of an uncalibrated model"


_known: dict[str, Known] = {}  # by uid of the shot
_wanted: set[str] = set()      # uids of shots that somebody has asked about


def of(scene: bpy.types.Scene, shot) -> Known | None:
    """What is known of a shot, None while it is read; looks at no file, but has it read soon."""
    found = _known.get(shot.uid)
    if found is not None and found.key == _key(scene, shot):
        return found
    if shot.solved and not bpy.app.background:
        _wanted.add(shot.uid)
        if not bpy.app.timers.is_registered(_read_wanted):
            bpy.app.timers.register(_read_wanted)
    return None


def read(scene: bpy.types.Scene, shot, again: bool = False) -> Known:
    """What is known of a shot, read now; what the worker has to say of it comes later."""
    found = _known.get(shot.uid)
    if found is not None and found.key == _key(scene, shot) and not again:
        return found
    _known[shot.uid] = found = Known(_key(scene, shot))
    try:
        if not shot.solved:
            raise UnderstudyError(f"{shot.name} is not solved yet.")
        found.solved = read_solved(absolute(shot.cache))
        found.samples = found.solved.vertices()
    except UnderstudyError as error:
        found.text = str(error)
        return found
    found.errors = expected(found.solved)
    if scene.understudy.actor and not scene.understudy.actor.endswith(".safetensors"):
        _measure(scene, shot, found)
    return found


def left_out(shot, solved: Solved) -> np.ndarray:
    """(n,) bool, the samples of a solve that are excluded or trimmed."""
    sources = solved.first + np.arange(solved.count)
    result = (sources < shot.first) | (sources > shot.last)
    for one in shot.excluded:
        result |= (sources >= one.first) & (sources <= one.last)
    return result


def error_at(scene: bpy.types.Scene, shot, known: Known) -> float:
    """The error in mm at the frame that is shown; NaN where it is not known."""
    sample = round(source_now(scene, shot)) - known.solved.first
    return float(known.errors.best[sample]) if 0 <= sample < known.solved.count else np.nan


def source_now(scene: bpy.types.Scene, shot) -> float:
    """The source frame that is shown; a fraction is between two."""
    return mapping(scene, shot).source(scene.frame_current_final)


def clear() -> None:
    """Forget everything."""
    _known.clear()
    _wanted.clear()
    if bpy.app.timers.is_registered(_read_wanted):
        bpy.app.timers.unregister(_read_wanted)


def _key(scene: bpy.types.Scene, shot) -> tuple:
    return shot.cache, shot.solved_first, shot.solved_last, shot.footage, shot.taught_when, scene.understudy.actor


def _read_wanted() -> None:
    for scene in bpy.data.scenes:
        for shot in scene.understudy.shots:
            if shot.uid in _wanted:
                read(scene, shot)
    _wanted.clear()
    redraw()


def _measure(scene: bpy.types.Scene, shot, known: Known) -> None:
    """Have the worker compare a solve with the cleaned shot of its footage."""
    out = Path(tempfile.mkdtemp(dir=pump.session_folder())) / "errors.csv"
    known.text = "Looking for a cleaned shot"

    def done(results: dict) -> None:
        known.text = ""
        if results.get("truth"):
            known.errors.rmse, known.errors.truth = read_errors(out).rmse, str(results["truth"])
            known.truth, known.truth_first = read_cache(results["truth_cache"]), int(results["truth_first"])
            known.drawn.clear()
        redraw()

    def failed(text: str) -> None:
        known.text = text
        redraw()

    try:
        pump.ask(["errors", str(absolute(shot.cache)), "--actor", str(absolute(scene.understudy.actor)), "--footage",
                  str(absolute(shot.footage)), "--out", str(out)], done, failed)
    except UnderstudyError as error:  # no interpreter: what is to be expected is known without
        known.text = str(error)


def redraw() -> None:
    """Draw again what shows errors: timelines, viewports and their sidebars."""
    if bpy.app.background:
        return
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in ("DOPESHEET_EDITOR", "VIEW_3D"):
                area.tag_redraw()
