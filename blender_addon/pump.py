"""Work that goes on while the artist does: one timer looks how far the workers are and brings the scene up to date.

Timers do not run in background mode; there `finish` does what the timer would. Long work on the scene is a generator
that yields WAIT, WORK or LATER. Nothing of the scene is held over a yield: undo may have replaced it meanwhile.
"""

import atexit
import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bpy
from bpy.app.handlers import persistent

from ..core.errors import UnderstudyError
from ..core.events import JobState
from ..core.jobs import RunningJob
from ..core.service import Service
from . import runtime
from .preferences import preferences, worker

TICK = 0.1     # s between looks
QUICK = 0.02   # s between looks when something is expected at any moment
REDRAW = 0.25  # s between pictures of progress: each costs the time of drawing a whole sidebar
BUDGET = 0.02  # s of work on the scene in one go, so that the window stays live
# What generators yield: nothing to do now, more to do at once, or nothing until the artist has done something.
WAIT, WORK, LATER = "wait", "work", "later"

epoch = 0  # counts the times that undo, redo or loading may have replaced the scene

_services: dict[str, Service] = {}
_drawn = 0.0  # when the state of things was last drawn
_used = 0.0  # when there was last something to do
_questions: list[tuple[RunningJob, Callable[[dict], None], Callable[[str], None]]] = []
_tasks: list[Iterator[str]] = []   # the first is worked on, the others wait
_asides: list[Iterator[str]] = []  # likewise; they need no worker, and go on while tasks wait for theirs
_folder: Path | None = None


def service(name: str) -> Service:
    """The worker "solver", which has torch and keeps the model loaded, or "asker", which answers small questions.

    Raises UnderstudyError if the interpreter of the preferences is not there.
    """
    python, paths = worker()
    memory = preferences().memory_limit
    known = _services.get(name)
    if known is None or (known.python, known.gpu_memory) != (python, memory):
        if known is not None:
            known.close()
        _services[name] = known = Service(python, session_folder() / name, paths, memory)
    return known


def release(name: str) -> None:
    """End a worker, and with it what it runs."""
    if name in _services:
        _services.pop(name).close(grace=2.0)


def session_folder() -> Path:
    """A folder for small jobs, removed when this Blender ends."""
    global _folder
    if _folder is None or not _folder.is_dir():
        _folder = Path(tempfile.mkdtemp(prefix="understudy-"))
        atexit.register(shutil.rmtree, _folder, ignore_errors=True)  # scripts do not disable the add-on
    return _folder


def ask(arguments: list[str], done: Callable[[dict], None], failed: Callable[[str], None] = lambda text: None,
        name: str = "asker") -> None:
    """Run a short command in a worker; later `done` gets its results, or `failed` a sentence."""
    folder = Path(tempfile.mkdtemp(dir=session_folder()))
    job = service(name).submit([*arguments, "--job", str(folder)], folder)
    _questions.append((job, done, failed))
    wake()


def warm(model: Path) -> None:
    """Have the solver load a model before anybody asks for a solve; whoever solves will hear of what is wrong."""
    with contextlib.suppress(UnderstudyError):
        ask(["warm", str(model), "--device", preferences().device], lambda results: None, name="solver")


def add(task: Iterator[str]) -> None:
    """Put a task at the end of the queue."""
    _tasks.append(task)
    wake()


def add_aside(task: Iterator[str]) -> None:
    """Put a task that needs no worker at the end of a queue of its own.

    It is not worked on while another task is in the middle of changing the scene, so after WORK; and a task that has
    waited asks `aside` before it begins to.
    """
    _asides.append(task)
    wake()


def aside() -> bool:
    """Whether a task that needs no worker goes on, with the scene as it wants it."""
    return bool(_asides)


def move(task: Iterator[str], place: int) -> None:
    """Move a waiting task; 0 is the one that is worked on, which keeps its place."""
    if task in _tasks[1:]:
        _tasks.remove(task)
        _tasks.insert(max(place, 1), task)


def tick() -> float | None:
    """Go on with everything; returns seconds until the next look, or None when nothing is left to look at."""
    global _used
    delay = TICK
    if _tasks or _questions:
        _used = time.monotonic()
    _hear()
    if _tasks or _asides:
        delay = QUICK
        if not _tasks or _go_on(_tasks) != WORK:
            _go_on(_asides)
    elif "solver" in _services and time.monotonic() > _used + 60 * preferences().idle_minutes:
        _services.pop("solver").close()
    return delay if _tasks or _asides or _questions or _services else None


def _go_on(tasks: list[Iterator[str]]) -> str | None:
    """Work on the first of these tasks for a while; returns what it yielded last, None at its end."""
    if not tasks:
        return None
    until = time.monotonic() + BUDGET
    step = WORK
    while step == WORK and time.monotonic() < until:
        step = next(tasks[0], None)
    if step is None:
        tasks.pop(0)
    elif step == LATER:
        tasks.append(tasks.pop(0))
    redraw(at_once=step is None)
    return step


def _hear() -> None:
    for question in list(_questions):
        job, done, failed = question
        job.poll()
        if job.state.ended:
            _questions.remove(question)
            tell(job.state, done, failed)
            shutil.rmtree(job.folder, ignore_errors=True)
            redraw()


def tell(state: JobState, done: Callable[[dict], None], failed: Callable[[str], None]) -> None:
    """Pass on how a question ended; what `done` finds wrong is a failure too."""
    try:
        if state.state != "done":
            raise UnderstudyError(state.text)
        done(state.results)
    except UnderstudyError as error:
        failed(str(error))


def busy() -> bool:
    """Whether a task or a question is not finished."""
    return bool(_tasks or _asides or _questions)


def finish() -> None:
    """Go on until nothing is left to do: for background mode and scripts."""
    while busy():
        tick()
        time.sleep(QUICK)


def wake() -> None:
    """Start the timer if it does not run."""
    if not bpy.app.background and not bpy.app.timers.is_registered(tick):
        bpy.app.timers.register(tick, first_interval=0, persistent=True)


def redraw(at_once: bool = True) -> None:
    """Draw again what shows the state of things: sidebars, preferences and the status bar."""
    global _drawn
    now = time.monotonic()
    if bpy.app.background or not (at_once or now > _drawn + REDRAW):
        return
    _drawn = now
    for window in bpy.context.window_manager.windows:
        with bpy.context.temp_override(window=window):  # without a window, as in a timer after loading, Blender crashes
            window.workspace.status_text_set_internal(None)  # the only way to have the status bar drawn again
        for area in window.screen.areas:
            if area.type in ("VIEW_3D", "PREFERENCES"):
                for region in area.regions:
                    if region.type == ("UI" if area.type == "VIEW_3D" else "WINDOW"):
                        region.tag_redraw()


def undo_step(name: str) -> None:
    """One step for what a task has done to the scene."""
    if bpy.app.background:
        return
    with bpy.context.temp_override(window=bpy.context.window_manager.windows[0]):
        bpy.ops.ed.undo_push(message=name)


def stop() -> None:
    """End the workers and forget all that waits."""
    _drop()
    for running in _services.values():
        running.close()
    _services.clear()


def _drop() -> None:
    for task in (*_tasks, *_asides):
        task.close()
    _tasks.clear()
    _asides.clear()
    _questions.clear()
    runtime.clear()


@persistent
def _replaced(*_: object) -> None:
    global epoch
    epoch += 1


@persistent
def _leaving(*_: object) -> None:
    """Another file is about to be loaded: what runs belongs to this one."""
    _replaced()
    _drop()


_HANDLERS = (("undo_pre", _replaced), ("redo_pre", _replaced), ("load_pre", _leaving))


def register() -> None:
    for name, handler in _HANDLERS:
        getattr(bpy.app.handlers, name).append(handler)


def unregister() -> None:
    for name, handler in _HANDLERS:
        with contextlib.suppress(ValueError):
            getattr(bpy.app.handlers, name).remove(handler)
    if bpy.app.timers.is_registered(tick):
        bpy.app.timers.unregister(tick)
    stop()
    if _folder is not None:
        shutil.rmtree(_folder, ignore_errors=True)
