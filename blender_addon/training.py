"""Training runs of the actors in this file: begun here or anywhere else, and watched while they go on.

A run is a process that outlives Blender, and a folder that tells of it (core/runs.py). What is known here is read from
those folders, so that nothing depends on who began a run. None of it is saved with the .blend or undone.
"""

import contextlib
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import bpy
from bpy.app.handlers import persistent

from ..core import events, jobs
from ..core.actor import Actor
from ..core.doctor import gigabytes, machine_memory
from ..core.errors import UnderstudyError
from ..core.files import atomic
from ..core.modelfile import ModelFile
from ..core.runs import Run, memory_needed, run_folders, why_not_now
from . import faces, preferences, pump, run_pictures
from .paths import absolute
from .preferences import worker

LOOK = 0.25   # s between looks at runs that go on
SCAN = 2.0    # s between looks for runs that others began
BUDGET = 0.02  # s of reading in one go, so that the window stays live
LOOKED_AT = 3.0  # s since the panel was drawn in which it is kept up to date
EARLIER = 4   # runs behind the one that is looked at
LOOKING = "Looking for a GPU ..."
DEVICES = (("PREFERENCES", "As in Preferences", "What the preferences of Understudy say"), *preferences.DEVICES)
GAPS = 10  # weight of the gaps, measured by benchmarks/losses.py
PRESETS = {"QUICK": "quick", "PAPER": "paper", "SMOKE": "smoke"}

text = ""     # what goes on before a run begins, or why it did not; for the panel
seen = 0.0    # when the panel was drawn last, by the monotonic clock
changed = 0   # counts whatever the panel may show anew

_actors: dict[Path, dict[str, Run]] = {}  # by actor folder and name
_after: dict[Path, str] = {}  # run folder -> USE or DELETE when it has ended
_work: list[tuple[Future, Callable[[object], None]]] = []  # what threads do, and what follows
_looked_at: set[Path] = set()  # runs whose model has been asked for its data
_next_scan = 0.0
_shown = _tagged = -1  # `changed`, when the pictures were made and when the panel was last told to draw


@dataclass(frozen=True)
class Order:
    """What is asked of a training.

    length : MINUTES or a key of PRESETS.    model : start from this one instead of random weights.
    batch : frames a step.    device : "" is as the preferences say.    gaps : whether closed lips and lids count more.
    """

    length: str = "MINUTES"
    minutes: float = 20.0
    model: Path | None = None
    batch: int = 50
    device: str = ""
    gaps: bool = False


def folder_of(settings) -> Path | None:
    """The actor folder of a scene; None if there is none, or a model file alone is open. Looks at no file."""
    if not settings.actor or settings.actor.endswith(".safetensors"):
        return None
    return absolute(settings.actor)


def runs_of(settings) -> list[Run]:
    """The runs of a scene's actor that are known, the newest first."""
    known = _actors.get(folder_of(settings), {})
    return sorted(known.values(), key=lambda run: (run.started or float("inf"), run.name), reverse=True)


def find(settings, name: str) -> Run | None:
    """The run of that name of a scene's actor."""
    return _actors.get(folder_of(settings), {}).get(name)


def live_run(settings) -> Run | None:
    """The run of a scene's actor that goes on now."""
    return next((run for run in runs_of(settings) if run.live), None)


def reason_not_to(settings) -> str:
    """Why no training can begin now; empty if it can. Cheap enough for `poll`."""
    if folder_of(settings) is None:
        return "Open an actor folder first: a model file alone has nothing to learn from"
    if text == LOOKING:
        return "A training is about to begin"
    return why_not_now(runs_of(settings))


def start(scene: bpy.types.Scene, order: Order) -> None:
    """Begin a run, after a look at whether it can work. Raises UnderstudyError for what is known at once.

    On a GPU the worker is asked about it first; the run then begins later, or `text` says why not.
    """
    settings = scene.understudy
    folder = _ready(settings)
    if order.model is not None and not order.model.is_file():
        raise UnderstudyError(f"There is no model {order.model} to start from. Train from scratch.")
    actor = Actor.load(folder)
    check_memory(actor, order.batch, machine_memory()[1])
    device = order.device or preferences.preferences().device
    name = time.strftime("%Y-%m-%d_%H-%M-%S")
    run = next(path for i in range(1000) if not (path := folder / "runs" / (name + (f"_{i}" if i else ""))).exists())
    length = ["--minutes", order.minutes] if order.length == "MINUTES" else ["--preset", PRESETS[order.length]]
    arguments = ["train", folder, *length, "--batch", order.batch, "--device", device, *_limit(), "--run", run,
                 *(["--from", order.model] if order.model is not None else []),
                 *(["--painted"] if actor.weights is not None else []),
                 *(["--gaps", GAPS] if order.gaps else [])]
    _say("")
    if device == "cpu":
        _launch(folder, Run(run), arguments)
        return

    def done(found: dict) -> None:
        _say("")
        if not found["ready"]:
            raise UnderstudyError(found["verdict"].replace("Cannot solve", "Cannot train"))
        _launch(folder, Run(run), arguments)
        free = next((gpu["free"] for gpu in found["gpus"] if gpu["device"] == found["device"]), None)
        if free is not None and (limit := preferences.preferences().memory_limit):
            free = min(free, int(limit * 1e9))
        needed = memory_needed(actor, order.batch)
        if free is not None and free < needed:
            _say(f"{found['device']} has {gigabytes(free)} free, less than the {gigabytes(needed)} that {order.batch} "
                 "frames at once can take: training goes on with fewer at once if need be, more slowly.")

    pump.ask(["doctor", "--device", device], done, _say)
    _say(LOOKING)


def resume(scene: bpy.types.Scene, run: Run) -> None:
    """Go on with a run that was stopped or has crashed, as if it never had. Raises UnderstudyError."""
    folder = _ready(scene.understudy)
    if not run.resumable:
        raise UnderstudyError(f"The run {run.name} is {run.state}: only one that was stopped or failed can be resumed. "
                              "Extend it instead.")
    check_memory(Actor.load(folder), int(run.config.get("batch", 50)), machine_memory()[1])
    run.catch_up()
    _say("")
    device = preferences.preferences().device
    _launch(folder, run, ["train", folder, "--resume", run.folder, "--device", device, *_limit()])


def check_memory(actor: Actor, batch: int, free: int | None) -> None:
    """Raise UnderstudyError if training cannot fit into `free` bytes of memory, or if there is nothing to learn."""
    if actor.crop is None:
        raise UnderstudyError(f"{actor.name} has no crop yet. Set it in the Crop panel, and store it with the actor.")
    if not actor.training_shots():
        raise UnderstudyError(f"{actor.name} has no cleaned training shot. Clean one, and mark it as cleaned.")
    needed = memory_needed(actor, batch)
    if free is None or needed <= free:
        return
    fits = next((size for size in (32, 16, 8, 4) if size < batch and memory_needed(actor, size) <= free), None)
    what = f"set the batch to {fits} frames" if fits else "train on another machine"
    raise UnderstudyError(f"Training with {batch} frames a step takes about {gigabytes(needed)} of memory, but only "
                          f"{gigabytes(free)} are free. Close other programs, or {what}.")


def stop(run: Run, then: str = "") -> None:
    """Ask a run to stop at its next step; it can be resumed.    then : USE its model, or DELETE it. UnderstudyError."""
    events.cancel(run.folder)
    if then:
        _after[run.folder] = then
    wake()


def use(run: Run) -> None:
    """Make a run's best model the one in use by its actor, in every scene. Raises UnderstudyError if it has none."""
    model, target = run.model, run.folder.parent.parent / "model.safetensors"
    if model is None:
        raise UnderstudyError(f"The run {run.name} has no model yet: the first one comes with its first validation.")

    def copy() -> ModelFile:
        ModelFile.load(model)
        with atomic(target) as temporary:
            shutil.copyfile(model, temporary)
        return _read(target)

    _in_thread(copy, _show_model)


def delete(run: Run) -> None:
    """Remove a run's folder; the model in use stays. Raises UnderstudyError if the run goes on."""
    if run.live:
        raise UnderstudyError(f"The run {run.name} goes on. Stop it first.")
    actor = run.folder.parent.parent

    def remove() -> None:
        gone = run.folder.with_name(f".{run.name}.deleted")  # at once and whole, whatever hinders the rest
        try:
            run.folder.rename(gone)
            shutil.rmtree(gone)
        except OSError as error:
            raise UnderstudyError(f"Cannot delete {run.folder}: {error.strerror or error}.") from error

    _in_thread(remove, lambda _: _actors.get(actor, {}).pop(run.name, None))


def refresh(settings) -> list[Run]:
    """Read at once all that there is of the runs of a scene's actor: for background mode, and before a start."""
    folder = folder_of(settings)
    if folder is not None:
        _scan(folder)
        for run in _actors[folder].values():
            run.catch_up()
    return runs_of(settings)


def finish() -> None:
    """Wait for what threads do, and for runs that were asked to stop: for background mode and scripts."""
    while _work or _after:
        look()
        time.sleep(pump.QUICK)


def look() -> float:
    """One look at everything; the timer's function. Returns seconds until the next."""
    global _next_scan
    began = time.monotonic()
    scan = began >= _next_scan
    if scan:
        _next_scan = began + SCAN
        _forget()
        for folder in _folders():
            _scan(folder)
    for item in list(_work):
        if item[0].done():
            _work.remove(item)
            _conclude(*item)
    for known in list(_actors.values()):
        for run in list(known.values()):
            if run.live or scan or run.folder in _after:
                _follow(run, began + BUDGET)
    _show()
    return LOOK


def wake() -> None:
    """Start the timer if it does not run."""
    if not bpy.app.background and not bpy.app.timers.is_registered(look):
        bpy.app.timers.register(look, persistent=True)


def _ready(settings) -> Path:
    """The actor folder, after a look at what runs right now. Raises UnderstudyError if no training can begin."""
    refresh(settings)
    if why := reason_not_to(settings):
        raise UnderstudyError(f"{why}.")
    worker()
    return folder_of(settings)


def _limit() -> list:
    """The option that keeps a trainer to the GPU memory that the preferences allow."""
    return ["--gpu-memory", preferences.preferences().memory_limit]


def _launch(folder: Path, run: Run, arguments: list) -> None:
    python, packages = worker()
    run.watcher = jobs.start([str(argument) for argument in arguments], run.folder, python, True, packages)
    _actors.setdefault(folder, {})[run.name] = run
    touch()
    wake()


def _follow(run: Run, until: float) -> None:
    """Read what is new of a run, and do what its end asks for."""
    was_live = run.read and run.live
    news = run.poll()
    while news and time.monotonic() < until:
        touch()
        news = run.poll()
    if news:
        return
    if was_live != run.live or (run.train and not run.about["frames"] and run.folder not in _looked_at):
        _looked_at.add(run.folder)
        _in_thread(run.look_at_model, lambda _: None)
    if run.live:
        return
    wish = _after.pop(run.folder, "")
    if wish == "DELETE":
        delete(run)
    elif wish == "USE":
        try:
            use(run)
        except UnderstudyError as error:
            _say(str(error))
    elif was_live and run.state == "done":  # the trainer has put its model in use itself
        model = run.folder.parent.parent / "model.safetensors"
        _in_thread(lambda: _read(model), _show_model)


def _read(path: Path) -> ModelFile:
    model = ModelFile.load(path)
    model.sha256()  # remembered; takes a while
    return model


def _show_model(model: ModelFile) -> None:
    """Let every scene of that actor know the model; shots that another one has solved are stale then."""
    for scene in bpy.data.scenes:
        settings = scene.understudy
        if folder_of(settings) == model.path.parent:
            if model.topology != settings.topology:
                raise UnderstudyError(f"{model.path} is a model of another mesh. Open its actor in a scene of its own.")
            faces.use_model(settings, model)
    if not bpy.app.background:
        pump.warm(model.path)


def _in_thread(work: Callable[[], object], then: Callable[[object], None]) -> None:
    """Do something with files, and afterwards `then` with its result in Blender's own thread."""
    future: Future = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except (OSError, UnderstudyError) as error:
            future.set_exception(error if isinstance(error, UnderstudyError) else UnderstudyError(f"{error}."))

    threading.Thread(target=run).start()
    _work.append((future, then))
    wake()


def _conclude(future: Future, then: Callable[[object], None]) -> None:
    try:
        then(future.result())
    except UnderstudyError as error:
        _say(str(error))
    touch()


def _folders() -> set[Path]:
    """The actor folders of all scenes."""
    return {folder for scene in bpy.data.scenes if (folder := folder_of(scene.understudy)) is not None}


def _scan(folder: Path) -> None:
    """Take notice of runs that have come and gone."""
    known = _actors.setdefault(folder, {})
    there = {path.name: path for path in run_folders(folder)}
    for name, path in there.items():
        if name not in known:
            known[name] = Run(path)
            touch()
    for name in [name for name, run in known.items() if name not in there and not run.folder.is_dir()]:
        del known[name]
        touch()


def _show() -> None:
    """Have the panel drawn, and bring its list and pictures up to date while somebody looks at it."""
    global _shown, _tagged
    if bpy.app.background or _shown == changed:
        return
    if _tagged != changed:  # if it is open, being drawn sets `seen`
        _tagged = changed
        pump.redraw()
    if time.monotonic() > seen + LOOKED_AT:
        return
    _shown = changed
    manager = bpy.context.window_manager
    settings, panel = manager.windows[0].scene.understudy, manager.understudy_training
    runs = runs_of(settings)
    panel.list_runs([run.name for run in runs])
    chosen = live_run(settings) or find(settings, panel.chosen)
    run_pictures.show(chosen, [run for run in runs if run is not chosen][:EARLIER])
    pump.redraw()


def _forget() -> None:
    """Drop actors that are in no scene any more, once their runs have ended: a process has to be waited for."""
    folders = _folders()
    for folder in [folder for folder, known in _actors.items() if folder not in folders]:
        if not any(run.live for run in _actors[folder].values()):
            del _actors[folder]


def _say(sentence: str) -> None:
    global text
    text = sentence
    touch()


def touch() -> None:
    """Have the panel drawn again, with its pictures."""
    global changed
    changed += 1


@persistent
def _loaded(*_: object) -> None:
    """Another file may have other actors; runs go on, whatever is loaded."""
    global _next_scan
    _next_scan = 0.0
    _say("")
    wake()


def register() -> None:
    bpy.app.handlers.load_post.append(_loaded)
    wake()


def unregister() -> None:
    with contextlib.suppress(ValueError):
        bpy.app.handlers.load_post.remove(_loaded)
    if bpy.app.timers.is_registered(look):
        bpy.app.timers.unregister(look)
    for future, _ in _work:  # a model that is being copied
        with contextlib.suppress(UnderstudyError):
            future.result()
    run_pictures.clear()
    _work.clear()
    _after.clear()
    _looked_at.clear()
    _actors.clear()
