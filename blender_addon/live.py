"""Live: a camera or a movie drives a copy of the face in the viewport, while the face itself is hidden and untouched.

A worker of its own solves (core/livesolve.py); a timer copies its newest vertices onto the copy. The copy is found by
its custom property, never kept, so that undo may take it away or bring it back: it is made again while live goes on,
and swept away otherwise.
"""

import contextlib
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import bpy
from bpy.app.handlers import persistent

from ..core.errors import UnderstudyError
from ..core.jobs import RunningJob
from ..core.livefeed import LiveReader
from . import faces, pump, runtime, scene_io, solving
from .modifier import modifier_of
from .paths import absolute
from .preferences import preferences

TICK = 1 / 120  # s between looks; a viewport that draws takes longer
MARK, HIDDEN = "understudy_live", "understudy_live_hidden"  # on the copy: its face, and whether that was hidden
RECENT = 1.0    # s over which frames a second are counted


@dataclass
class _Session:
    uid: str
    job: RunningJob
    folder: Path
    reader: LiveReader | None = None
    redrawn: float = 0.0
    shown: list[tuple[float, float]] = field(default_factory=list)  # when, and how late, of the last second


_session: _Session | None = None


def running() -> bool:
    return _session is not None


def reason_not_to(scene: bpy.types.Scene, shot) -> str:
    """Why live cannot start, a sentence; empty if it can."""
    settings = scene.understudy
    if not settings.model_sha256:
        return "Open an actor that has a model first"
    if shot is None:
        return "Add a shot first"
    if running():
        return "Live is on already"
    return ""


def start(scene: bpy.types.Scene, shot, source: str = "") -> None:
    """Drive a copy of the shot's face by a camera ("0", "1", ...), a movie, or with "" by the shot's own footage.

    Raises UnderstudyError when something is missing for it.
    """
    global _session
    if why := reason_not_to(scene, shot):
        raise UnderstudyError(f"{why}.")
    settings = scene.understudy
    crop = settings.crop_of(shot)
    given = str(absolute(source or shot.footage)) if not source.isdecimal() else source
    if not given or (not source and not shot.footage):
        raise UnderstudyError(f"{shot.name} has no footage: choose a movie, or a camera such as 0.")
    solving.identify(scene, shot)
    faces.refresh_model(settings)
    faces.ensure(scene, shot)
    folder = Path(tempfile.mkdtemp(dir=pump.session_folder()))
    arguments = ["live", str(absolute(settings.model)), given, "--out", str(folder / "vertices.live"),
                 "--device", preferences().device, "--job", str(folder),
                 *(["--crop", *map(str, crop)] if not source and crop[2] else [])]
    _session = _Session(shot.uid, pump.service("live").submit(arguments, folder), folder)
    runtime.live = runtime.Live(shot.uid, shot.name)
    _show(scene, shot)
    if not bpy.app.background:
        bpy.app.timers.register(_timer, first_interval=0, persistent=True)


def stop(text: str = "Live was stopped", failed: bool = False) -> None:
    """Take the copy away and show the face as it was. Harmless when live is off."""
    global _session
    session, _session = _session, None
    if session is None:
        return
    if session.reader is not None:
        session.reader.close()
    session.job.cancel()
    pump.release("live")
    shutil.rmtree(session.folder, ignore_errors=True)
    runtime.live.active, runtime.live.failed, runtime.live.text = False, failed, text
    sweep()
    pump.redraw()


def tick() -> None:
    """Copy the newest vertices onto the copy; notice when the worker ends or the shot is gone."""
    session = _session
    if session is None:
        return
    found = solving.find(session.uid)
    if found is None:
        stop("The shot was removed")
        return
    try:
        _hear(session)
        frame = session.reader.newest() if session.reader is not None else None
        if frame is not None:
            copy = _show(*found)
            if copy.mode == "OBJECT":
                _put(copy, frame.vertices)
                _count(session, frame.captured)
    except UnderstudyError as error:
        stop(str(error), failed=True)
        return
    if session.job.state.ended:
        state = session.job.state
        stop(state.text or "The source has ended", failed=state.state in ("failed", "dead"))


def _hear(session: _Session) -> None:
    """What the worker says."""
    for event in session.job.poll():
        if event["type"] == "artifact" and session.reader is None:
            session.reader = LiveReader(session.folder / "vertices.live")
        elif event["type"] == "metrics":
            runtime.live.solved_fps, runtime.live.dropped = event.get("fps", 0.0), int(event.get("dropped", 0))
        elif event["type"] in ("status", "warning"):
            runtime.live.text = event["text"]


def _count(session: _Session, captured: float) -> None:
    now = time.time()
    session.shown = [entry for entry in session.shown if entry[0] > now - RECENT] + [(now, now - captured)]
    runtime.live.fps = len(session.shown) / RECENT
    runtime.live.latency_ms = 1000 * sum(late for _, late in session.shown) / len(session.shown)
    if now - session.redrawn > RECENT / 2:
        session.redrawn = now
        pump.redraw()


def _put(copy: bpy.types.Object, vertices) -> None:
    if len(vertices) != len(copy.data.vertices):
        raise UnderstudyError(f"The model moves {len(vertices)} vertices, {copy[MARK]} has {len(copy.data.vertices)}. "
                              "Choose another face for the shot.")
    scene_io.set_positions(copy.data, vertices)
    copy.data.update()


def copies() -> list[bpy.types.Object]:
    return [found for found in bpy.data.objects if MARK in found]


def _show(scene: bpy.types.Scene, shot) -> bpy.types.Object:
    """The copy of the shot's face, made if it is not there, and the face hidden."""
    face = shot.face
    if face is None:
        raise UnderstudyError(f"The face of {shot.name} was removed.")
    copy = next((found for found in copies() if found[MARK] == face.name and found.name in scene.objects), None)
    if copy is None:
        sweep()
        copy = face.copy()
        copy.name, copy.data = f"{face.name} Live", face.data.copy()
        if (keys := copy.data.shape_keys) is not None:
            copy.shape_key_clear()
            bpy.data.batch_remove([keys])
        copy.data.animation_data_clear()
        if modifier := modifier_of(copy):
            copy.modifiers.remove(modifier)
        copy[MARK], copy[HIDDEN] = face.name, face.hide_viewport
        for collection in face.users_collection:
            collection.objects.link(copy)
    if not face.hide_viewport:
        face.hide_viewport = True
    return copy


def sweep() -> None:
    """Remove every copy, and show the faces as they were: what undo or a saved file may bring back."""
    for copy in copies():
        face, mesh = bpy.data.objects.get(copy[MARK]), copy.data
        if face is not None:
            face.hide_viewport = bool(copy[HIDDEN])
        bpy.data.objects.remove(copy)
        if not mesh.users:
            bpy.data.meshes.remove(mesh)


def _timer() -> float | None:
    tick()
    if _session is None:
        return None
    return TICK


@persistent
def _settle(*_: object) -> None:
    """After undo, redo and loading: leave nothing of a live session that is over."""
    if _session is None:
        sweep()


@persistent
def _leave(*_: object) -> None:
    stop("Another file was opened")


_HANDLERS = (("undo_post", _settle), ("redo_post", _settle), ("load_post", _settle), ("load_pre", _leave))


def register() -> None:
    for name, handler in _HANDLERS:
        getattr(bpy.app.handlers, name).append(handler)


def unregister() -> None:
    stop()
    for name, handler in _HANDLERS:
        with contextlib.suppress(ValueError):
            getattr(bpy.app.handlers, name).remove(handler)
    if bpy.app.timers.is_registered(_timer):
        bpy.app.timers.unregister(_timer)
