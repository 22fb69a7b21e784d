"""A solve, from the click to the mesh: what pump.py goes on with, a step at a time."""

import contextlib
import glob
import os
import re
import shutil
import traceback
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import bpy

from ..core.actor import RESERVED
from ..core.errors import Cancelled, UnderstudyError
from ..core.events import job_state
from ..core.files import check_space, make_folder
from ..core.jobs import RunningJob, sentence
from ..core.solved import Solved, read_solved
from . import edits, faces, outputs, pump, review_curves, runtime
from .keys import check_writable
from .paths import absolute, relative, stamp
from .preferences import cache_folder, preferences, worker
from .pump import LATER, WAIT, WORK
from .runtime import Run
from .timing import mapping

ELSEWHERE = "Choose a cache folder that can be written, in the Files panel or in the preferences."
NAME_LIMIT = 48  # letters of a shot's name in its files: up to 4 bytes each, and file systems take 255
LEAST_SPACE = 1 << 16  # bytes that a job takes to tell how it goes
PATH_LIMIT = 1000  # bytes of a path that Blender keeps
VERSION = re.compile(r"\.v(\d+)\.[^.]+$")  # of a cache: take.v003.pc2


@dataclass(frozen=True)
class Order:
    """What is asked of a solve; None is as the shot and the preferences say."""

    first: int | None = None  # source frames, from 0
    last: int | None = None
    output: str | None = None
    device: str | None = None


def reason_not_to(scene: bpy.types.Scene, shot) -> str:
    """Why a shot cannot be solved now, a sentence; empty if it can. Cheap enough for `poll`."""
    settings = scene.understudy
    if not settings.actor:
        return "Open an actor first"
    if not settings.model_sha256:
        return f"{settings.actor_name} has no model yet: train the actor, or open a model file"
    if shot is None:
        return "Add a shot first"
    if not shot.footage:
        return f"{shot.name} has no footage: choose a movie or an image sequence"
    run = runtime.run_of(shot.uid)
    if run is not None and run.active:
        return f"{shot.name} is being solved"
    mark = runtime.marks.get(shot.uid)
    if mark is not None and mark.active:
        return f"{shot.name} is being marked as cleaned"
    return ""


def solve(scene: bpy.types.Scene, shot, order: Order = Order()) -> Run:
    """Put a solve of a shot at the end of the queue. Raises UnderstudyError when something is missing for it."""
    if why := reason_not_to(scene, shot):
        raise UnderstudyError(f"{why}.")
    worker()
    identify(scene, shot)
    run = Run(shot.uid, shot.name, text="Waiting for its turn")
    runtime.runs.pop(shot.uid, None)  # a dict keeps the place of a key that it has
    runtime.runs[shot.uid] = run
    run.task = _solve(run, order)
    pump.add(run.task)
    return run


def solve_next(run: Run) -> None:
    """Let a solve that waits be the next to begin."""
    pump.move(run.task, 1)
    later = [other for other in runtime.active_runs() if other.state == "queued" and other is not run]
    for other in later:  # the panel lists them in this order
        runtime.runs[other.uid] = runtime.runs.pop(other.uid)


def identify(scene: bpy.types.Scene, shot) -> None:
    """Give a shot an identity of its own: copies of a scene have copies of its shots."""
    found = find(shot.uid)
    if found is not None and found[0] != scene:
        collection = faces.collection(scene, shot)
        shot.uid = uuid.uuid4().hex
        if collection not in found[0].collection.children_recursive:  # as in a linked copy
            collection["understudy_shot"] = shot.uid


def find(uid: str):
    """(scene, shot) of that identity, wherever it is now, or None."""
    for scene in bpy.data.scenes:
        shot = scene.understudy.find(uid)
        if shot is not None:
            return scene, shot
    return None


def stale(settings, shot) -> str:
    """Why the solve of a shot is out of date, in words; empty if it is not."""
    if not shot.solved:
        return ""
    if shot.face is not None and len(shot.face.data.vertices) != settings.vertices:
        return f"the mesh of {shot.face.name} has changed"
    if not shot.solved_model:  # tracked elsewhere: there is nothing to solve again
        return ""
    if settings.model_sha256 and shot.solved_model != settings.model_sha256:
        return "solved by another model"
    if shot.identity and shot.solved_footage != shot.identity:
        return "the footage has changed"
    crop = settings.crop_of(shot)
    if crop[2] and any(abs(a - b) > 0.01 for a, b in zip(crop, shot.solved_crop, strict=True)):
        return "the crop has changed"
    return ""


def _here(run: Run):
    """(scene, shot) of a run; Cancelled if the artist has removed the shot."""
    found = find(run.uid)
    if found is None:
        raise Cancelled(f"{run.name} was removed while it was being solved.")
    return found


def _solve(run: Run, order: Order) -> Iterator[bool]:
    """One solve, from its turn in the queue to its last word."""
    job = None
    try:
        yield from _probe(run)
        job, out, first, origin = _begin(run, order)
        yield from _watch(run, job, out, first, origin)
        kept = out.with_suffix(".json").is_file()
        if not kept:
            clear_away(out)
        yield from (_apply(run, out, order) if kept else _restore(run))
        _last_word(run, job)
        if run.state != "failed":
            shutil.rmtree(run.log.parent, ignore_errors=True)
    except Cancelled as stop:
        run.state, run.text = "cancelled", str(stop)
    except Exception as error:
        run.state, run.text = "failed", sentence(error)
        if not isinstance(error, UnderstudyError):
            traceback.print_exception(error)  # on the console; others still have to be solved
    finally:
        if job is not None and not job.state.ended:
            with contextlib.suppress(UnderstudyError):
                job.cancel()


def _probe(run: Run) -> Iterator[bool]:
    """Wait until the facts of the footage are known, as it is now."""
    run.state, run.text = "starting", "Reading the footage"
    answer: list[str] = []
    scene, shot = _here(run)
    if shot.frames and shot.stamp and shot.stamp == stamp(absolute(shot.footage)):
        return
    probe(scene, shot, lambda uid, text: answer.append(text))
    while not answer:
        if run.stop:
            raise Cancelled("Cancelled before the first frame.")
        yield WAIT
    if answer[0]:
        raise UnderstudyError(answer[0])


def probe(scene: bpy.types.Scene, shot, then: Callable[[str, str], None]) -> None:
    """Ask the worker for the facts of a shot's footage; `then` gets the shot's uid, and "" or what is wrong."""
    identify(scene, shot)
    settings, uid = scene.understudy, shot.uid
    crop = settings.crop_of(shot)
    model = ["--model", str(absolute(settings.model))] if settings.model and crop[2] else []
    frame = ["--crop", *map(str, crop)] if crop[2] else []

    def done(facts: dict) -> None:
        found = find(uid)
        if found is not None:
            _store(found[1], facts)
        then(uid, "")

    pump.ask(["probe", str(absolute(shot.footage)), *model, *frame], done, lambda text: then(uid, text))


def _store(shot, facts: dict) -> None:
    new = not shot.frames
    shot.width, shot.height, shot.frames, shot.fps = facts["width"], facts["height"], facts["frames"], facts["fps"]
    shot.variable, shot.audio, shot.identity = facts["variable"], facts["audio"], facts["identity"]
    shot.stamp = stamp(absolute(shot.footage))
    shot["times"] = facts["times"] or []  # plate.py needs them: Blender counts by the clock where the rate varies
    framing = facts.get("framing") or {}
    shot.framing = framing.get("text", "") if framing.get("verdict") == "different" else ""
    shot.framing_within = bool(framing.get("within"))
    if new or shot.last >= shot.frames or shot.first > shot.last:
        shot.first, shot.last = min(shot.first, shot.frames - 1), shot.frames - 1
    if new and shot.solved:  # a track that was there before its footage
        fit_range(shot)


def fit_range(shot) -> None:
    """Trim a shot to where it has both footage, if it is known yet, and solve or track."""
    end = shot.solved_last if not shot.frames else min(shot.solved_last, shot.frames - 1)
    shot.first, shot.last = min(shot.solved_first, end), end


def _begin(run: Run, order: Order) -> tuple[RunningJob, Path, int, int]:
    """Start the worker; returns its job, the cache it writes, its first source frame and that of the cache."""
    scene, shot = _here(run)
    settings = scene.understudy
    faces.refresh_model(settings)
    face = faces.ensure(scene, shot)
    # Without a window nobody can leave Edit Mode.
    check_writable(face, not bpy.app.background, mesh=(order.output or shot.output) != "MESH_CACHE")
    first = shot.first if order.first is None else order.first
    last = shot.last if order.last is None else order.last
    if not 0 <= first <= last < shot.frames:
        raise UnderstudyError(f"The range {first} to {last} is not in the footage of {shot.name}, whose frames are 0 "
                              f"to {shot.frames - 1}.")
    old = absolute(shot.cache)
    part = shot.solved and old.is_file() and (first > shot.solved_first or last < shot.solved_last) \
        and shot.solved_last < shot.frames  # else the footage was replaced by a shorter one
    out, folder = _reserve(cache_folder(scene), shot.name)
    crop = settings.crop_of(shot)
    arguments = ["solve", absolute(settings.model), absolute(shot.footage), "--out", out, "--live", "--job", folder,
                 "--range", first, last, "--device", order.device or preferences().device,
                 *(["--crop", *crop] if crop[2] else []), *(["--base", old] if part else [])]
    run.log, run.total, run.text = folder / "log.txt", last - first + 1, "Starting"
    job = pump.service("solver").submit([str(argument) for argument in arguments], folder)
    return job, out, first, min(first, shot.solved_first) if part else first


def _reserve(folder: Path, name: str) -> tuple[Path, Path]:
    """A cache path of the next version that nobody else takes, and its job's folder, which exists from now on."""
    try:
        make_folder(folder)
    except UnderstudyError as error:
        raise UnderstudyError(f"{error} {ELSEWHERE}") from error
    check_space(folder, LEAST_SPACE)
    stem = file_stem(name)
    _clear_away_dead(folder, stem)
    taken = [int(found[1]) for path in folder.iterdir()
             if path.name.startswith(f"{stem}.v") and (found := VERSION.search(path.name))]
    number = max(taken, default=0) + 1
    while True:
        job = folder / f"{stem}.v{number:03}.job"
        if len(os.fsencode(relative(job))) > PATH_LIMIT:
            raise UnderstudyError(f"The path of the solve is too long for Blender: {job}. {ELSEWHERE}")
        try:
            os.mkdir(job)  # fails if another Blender was faster
        except FileExistsError:
            number += 1
        except OSError as error:
            raise UnderstudyError(f"Cannot write solves to {folder}: {error.strerror}. {ELSEWHERE}") from error
        else:
            return job.with_suffix(".pc2"), job


def file_stem(name: str) -> str:
    """What the files of a shot begin with: its name, as every system takes it."""
    stem = re.sub(r"[^\w .-]", "_", name)[:NAME_LIMIT].strip(" .") or "shot"
    return f"_{stem}" if stem.split(".")[0].rstrip().upper() in RESERVED else stem


def clear_away(out: Path) -> None:
    """Remove what a solve that ended without a last word has left: half a cache, and what was not to be seen yet."""
    left = list(out.parent.glob(f".{glob.escape(out.stem)}.*"))
    if not out.with_suffix(".json").is_file():
        left += [out, out.with_suffix(".npy")]
    for path in left:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _clear_away_dead(folder: Path, stem: str) -> None:
    """Remove what earlier solves of a shot have left that ended together with their Blender, or whose log is read."""
    for job in folder.glob(f"{glob.escape(stem)}.v*.job"):
        with contextlib.suppress(UnderstudyError):
            if job_state(job).ended:
                clear_away(job.with_suffix(".pc2"))
                shutil.rmtree(job, ignore_errors=True)


def _watch(run: Run, job: RunningJob, out: Path, first: int, origin: int) -> Iterator[bool]:
    """Follow the worker until it ends, and show its frames on the face as they are written."""
    asked, shown = False, 0
    while not job.state.ended:
        if run.stop and not asked:
            job.cancel()
            job.kill_after()
            asked = True
        job.poll()
        state = job.state
        run.text, run.warnings = state.text or run.text, list(state.warnings)
        if state.progress is not None:
            run.state = "solving"
            run.done, run.total = int(state.progress["done"]), int(state.progress["total"])
            run.rate, run.left = state.progress.get("rate") or 0.0, state.progress.get("left") or 0.0
            if run.done > shown and _show_growing(run, out, origin, first + shown):
                shown = run.done
        yield WAIT


def _show_growing(run: Run, out: Path, origin: int, new: int) -> bool:
    """Let the face play the cache that is being written; not while the artist edits that very mesh.

    origin : source frame of the cache's first sample.    new : source frame that was not there at the last look.
    """
    found = find(run.uid)
    if found is None:
        run.stop = True
        return False
    scene, shot = found
    if shot.face is None or shot.face.mode != "OBJECT":
        return False
    frames = mapping(scene, shot)
    outputs.show_growing(scene, shot, out, origin)
    if frames.source(scene.frame_current) > new - 1:  # what was solved before does not change any more
        outputs.refresh(shot.face)
    return True


def _apply(run: Run, out: Path, order: Order) -> Iterator[bool]:
    """Make a finished solve the shot's, in the form that the artist wants, as one undo step."""
    run.state, run.text = "applying", "Applying"
    solved = read_solved(out)
    yield from _when_free(run)
    scene, shot = _here(run)
    before = shot.solved_model
    _keep(shot, solved)
    yield from _show(run, order.output)
    scene, shot = _here(run)
    if before not in ("", shot.solved_model) and any(not block.mute for block in edits.listed(shot.face)):
        run.warnings.append("Your corrections lie on top of another model's solve now: switch off those that it does "
                            "not need.")
    review_curves.refresh(scene, shot)
    if shot.status == "RAW":
        shot.status = "SOLVED"
    pump.undo_step(f"Solve {shot.name}")


def _restore(run: Run) -> Iterator[bool]:
    """Put back what the face showed before a solve that left nothing."""
    yield from _when_free(run)
    if find(run.uid) is not None:
        yield from _show(run, None)


def _when_free(run: Run) -> Iterator[bool]:
    """Wait while a shot is marked, or the artist edits or sculpts the face; other shots go on meanwhile."""
    while True:
        face = _here(run)[1].face
        free = face is None or face.mode == "OBJECT"
        if free and not pump.aside():
            return
        mode = face.mode.replace("_", " ").title() if face is not None else ""
        run.text = "Waiting for a marking" if free else f"Leave {mode} Mode to see it"  # short, for the progress bar
        yield LATER


def _show(run: Run, output: str | None) -> Iterator[bool]:
    """Bring the face into the wanted form; begun again when undo replaces the scene meanwhile."""
    while True:
        scene, shot = _here(run)
        epoch = pump.epoch
        if not shot.solved:
            outputs.clear(scene, shot)
            return
        faces.ensure(scene, shot)  # it may have been deleted, or edited, meanwhile
        steps = outputs.show(scene, shot, output or shot.output)
        while pump.epoch == epoch:
            try:
                next(steps)
            except StopIteration as end:
                run.warnings += end.value
                return
            yield WORK


def _keep(shot, solved: Solved) -> None:
    """Write what a solve is into the shot."""
    part = solved.parts[-1]
    shot.cache = relative(solved.path)
    shot.solved_first, shot.solved_last = solved.first, solved.last
    shot.solved_model, shot.solved_footage = part["model_sha256"], solved.sidecar["footage_identity"]
    shot.solved_crop = part["crop"]
    shot.solved_by = f"{part['engine']} on {part['device']}"


def _last_word(run: Run, job: RunningJob) -> None:
    """How the solve ended, in words."""
    state = job.state
    if state.state == "done":
        speed = f", {run.rate:.0f} frames a second" if run.rate else ""
        run.state, run.text = "done", f"Solved {run.total} frames{speed}"
    elif state.state == "cancelled":
        run.state, run.text = "cancelled", state.text
    else:
        run.state, run.text = "failed", state.text
