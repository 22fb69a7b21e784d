"""Contact sheets, movies and pages of a solve, made by a worker of its own, one after another."""

import time
from dataclasses import dataclass
from pathlib import Path

import bpy
from bpy.app.handlers import persistent

from ..core.errors import UnderstudyError
from ..core.files import make_folder
from ..core.jobs import RunningJob
from . import pump, review
from .paths import absolute
from .pump import TICK

KINDS = {"sheet": ("Contact Sheet", ".png"), "dailies": ("Movie", ".mp4"), "report": ("Page", ".html")}
SERVICE = "drawer"


@dataclass(eq=False)
class Made:
    """What is being made, or was made last."""

    kind: str
    name: str        # of the shot
    path: Path
    job: RunningJob
    text: str = "Waiting for the worker"
    part: float = 0.0  # that is done

    @property
    def active(self) -> bool:
        return not self.job.state.ended


made: Made | None = None


def start(scene: bpy.types.Scene, shot, kind: str, folder: str = "", limit_mm: float | None = None) -> Made:
    """Have the worker make a sheet, a movie or a page of a solve.

    folder : where to; empty is beside the solve.    limit_mm : where the colours end; None fits.
    Raises UnderstudyError if one is being made, the folder cannot be made, or there is no worker.
    """
    global made
    if made is not None and made.active:
        raise UnderstudyError(f"The {KINDS[made.kind][0].lower()} of {made.name} is being made. Wait for it, or stop "
                              "it.")
    cache = absolute(shot.cache)
    target = make_folder(absolute(folder)) if folder else cache.parent
    out = target / (cache.stem + KINDS[kind][1])
    job = pump.session_folder() / f"made.{kind}"
    arguments = [kind, cache, "--actor", absolute(scene.understudy.actor), "--footage", absolute(shot.footage),
                 "--out", out, "--job", job]
    if limit_mm and kind != "report":
        arguments += ["--limit", limit_mm]
    made = Made(kind, shot.name, out, pump.service(SERVICE).submit([str(argument) for argument in arguments], job))
    if not bpy.app.background:
        bpy.app.timers.register(_look, first_interval=TICK)
    return made


def stop() -> None:
    """Stop what is being made; nothing is left of it."""
    if made is not None and made.active:
        made.job.cancel()


def look() -> bool:
    """Hear how far it is; returns whether it goes on."""
    made.job.poll()
    state = made.job.state
    done = state.progress
    if done:
        made.part = done["done"] / max(done["total"], 1)
    made.text = state.text or made.text
    if state.state == "done":
        made.text = f"Wrote {made.path.name}"
    if state.ended:
        pump.release(SERVICE)
    return made.active


def finish() -> None:
    """Wait for what is being made: for background mode and scripts."""
    while look():
        time.sleep(pump.QUICK)


def forget() -> None:
    """Stop, and show nothing of it any more."""
    global made
    stop()
    if made is not None and made.active:
        pump.release(SERVICE)
    made = None
    if bpy.app.timers.is_registered(_look):
        bpy.app.timers.unregister(_look)


def _look() -> float | None:
    if made is None:
        return None
    going = look()
    review.redraw()
    return TICK if going else None


@persistent
def _loading(*_: object) -> None:
    forget()


def register() -> None:
    bpy.app.handlers.load_pre.append(_loading)


def unregister() -> None:
    bpy.app.handlers.load_pre.remove(_loading)
    forget()
