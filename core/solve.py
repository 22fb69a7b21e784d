"""Footage in, a mesh cache out: each frame on its own, nothing smoothed (paper, Sec. 3 and 5)."""

import errno
import os
import sys
import traceback
from pathlib import Path

from .crop import Crop
from .errors import Cancelled, UnderstudyError, UsageError
from .files import check_space
from .footage import Footage, open_footage
from .jobs import Reporter, sentence
from .live import LiveCache, refuse_existing
from .meshcache import cache_writer
from .model import Model
from .solved import Solved, read_solved
from .solver import Solver, load_solver
from .take import Take, write_beside

FEW_CORES = 16  # below, a GPU's decoder is taken to be faster than the processor; not measured yet


def solve(
    model: Path | str,               # model file
    footage: Path | str,             # movie or image sequence
    out: Path | str,                 # .pc2, .mdd or .npz; a sidecar .json and the codes .npy are written beside it
    first: int | None = None,        # first footage frame, 0-based. None = 0
    last: int | None = None,         # last footage frame, included. None = the end
    batch: int | None = None,        # as in Solver
    device: str = "auto",
    engine: str = "auto",
    crop: tuple[float, float, float, float] | None = None,  # x, y, width, height in pixels. None = the model's
    live: bool = False,              # write a PC2 in place that others can read while it grows; it must not exist
    base: Path | str | None = None,  # a solve that the live cache begins as a copy of: a part of its frames is replaced
    report: Reporter = Reporter(),   # told what happens; asked whether to stop
) -> dict:
    """Solve footage to a mesh cache with a sample for every frame of the range; returns the sidecar's content.

    Memory does not grow with length, but for the codes. When the reporter asks to stop, what is solved so far is kept
    as a whole, shorter cache with its sidecar, and Cancelled says so; so does, when live, UnderstudyError about what
    fails on the way. Raises UnderstudyError for files that cannot be used.
    """
    out = Path(out)
    if base is not None and not live:
        raise UsageError("Only a live solve can begin as a copy of another one: add --live.")
    if live:
        refuse_existing(out)
    old = None if base is None else read_solved(base)
    report.status("Loading the model")
    solver, sha256 = load_solver(model, device, batch, engine)
    for note in solver.notes:
        report.warning(note)
    if old is not None:
        _check_base(old, solver.model)
    with open_footage(footage, solver.model.transfer) as source:
        if solver.device.type == "cuda" and (os.cpu_count() or 1) < FEW_CORES:
            if told := source.use_hardware("cuda"):
                report.warning(told)
        take = _plan(source, solver, sha256, old, first, last, crop, report)
        report.check_cancel()
        stop = max(take.last, old.last) if old else take.last
        check_space(out.parent, (stop - take.start + 1) * solver.model.template.vertices.nbytes)
        if live:
            return _solve_live(take, Path(model), out, report)
        with cache_writer(out, len(solver.model.template.vertices), take.count, source.fps) as writer:
            complete = take.run(writer, report)
            if not complete:
                writer.truncate()
    sidecar = write_beside(take, Path(model), out, take.done, complete)
    report.artifact(out, "cache")
    if not complete:
        raise Cancelled(f"Stopped after {take.done} of {take.count} frames; {_kept(out, sidecar)}")
    return sidecar


def _check_base(old: Solved, model: Model) -> None:
    if old.topology != model.topology or old.vertices().shape[1] != len(model.template.vertices):
        raise UnderstudyError(f"{old.path} was solved with another mesh than {model.actor}'s. Solve the whole range "
                              "anew.")
    old.codes()  # says if they are missing


def _plan(source: Footage, solver: Solver, sha256: str, old: Solved | None, first: int | None, last: int | None,
          crop: tuple[float, float, float, float] | None, report: Reporter) -> Take:
    """The frames to solve: the range, and what lies between it and the base's. Tells what is worth telling."""
    chosen = solver.model.crop if crop is None else Crop(*crop)
    chosen.check(source.width, source.height)
    first, last = first or 0, source.frames - 1 if last is None else last
    if not 0 <= first <= last < source.frames:
        raise UnderstudyError(f"The range {first} to {last} is not in {source.path}, whose frames are 0 to "
                              f"{source.frames - 1}.")
    for warning in source.warnings:
        report.warning(warning)
    if old is not None:
        if old.sidecar.get("footage_identity") != source.identity:
            report.warning(f"{old.path} was solved from other footage than {source.path}; its frames outside {first} "
                           f"to {last} stay as they are.")
        if old.last >= source.frames:
            raise UnderstudyError(f"{old.path} goes on to frame {old.last}, but {source.path} ends with frame "
                                  f"{source.frames - 1}. Solve the whole range anew.")
        gap = (old.last + 1, first - 1) if first > old.last else (last + 1, old.first - 1)
        if gap[0] <= gap[1]:
            first, last = min(first, gap[0]), max(last, gap[1])
            return Take(source, solver, sha256, chosen, first, last, old, "Solving, also the frames "
                         f"{gap[0]} to {gap[1]} between the old range and the new one")
    return Take(source, solver, sha256, chosen, first, last, old)


def _solve_live(take: Take, model: Path, out: Path, report: Reporter) -> dict:
    """Solve into a live cache, and keep what is done whatever happens."""
    old, failure, complete = take.old, None, False
    replace = old is not None and old.first <= take.first  # else the base's frames come after the new ones
    with LiveCache(out, len(take.solver.model.template.vertices), old.path if replace else None,
                   take.first - take.start) as writer:
        try:
            complete = take.run(writer, report)
            reached = take.first + take.done
            if old is not None and not replace and old.first <= reached <= old.last:
                writer.append(old.path, reached - old.first)
        except (Exception, KeyboardInterrupt) as error:
            failure = error
            if not isinstance(error, UnderstudyError):
                traceback.print_exception(error, file=sys.stderr)  # for the log; the user gets a sentence
        separate = old is not None and not replace and take.first + take.done < old.first
        if not take.done or separate:
            writer.remove()
            nothing = f"Nothing was written{f'; {old.path} is as it was' if old else ''}."
            if separate and take.done:
                nothing = f"What was solved does not reach the frames of {old.path} yet. {nothing}"
            raise _ending(failure, take, nothing) from failure
        try:
            _make_room(failure, take, writer, old.count if replace else 0)
            writer.shorten(writer.count)
            sidecar = write_beside(take, model, out, writer.count, complete and failure is None)
        except BaseException:
            writer.remove()
            raise
    report.artifact(out, "cache")
    if failure is not None or not complete:
        following = min(take.first + take.done, sidecar["last"] + 1)
        rest = f" Then solve from frame {following} on." if failure and following <= take.last else ""
        raise _ending(failure, take, _kept(out, sidecar) + rest) from failure
    return sidecar


def _ending(failure: BaseException | None, take: Take, then: str) -> UnderstudyError:
    """What ended a solve before its time, and what is left of it."""
    if failure is None or isinstance(failure, (Cancelled, KeyboardInterrupt)):
        return Cancelled(f"Stopped after {take.done} of {take.count} frames. {then}")
    return UnderstudyError(f"{sentence(failure)} {then}")


def _kept(out: Path, sidecar: dict) -> str:
    return f"{out} holds the frames {sidecar['first']} to {sidecar['last']}."


def _make_room(failure: BaseException | None, take: Take, writer: LiveCache, least: int) -> None:
    """On a full disk, give up as many samples, down to `least`, as the sidecar and the codes need."""
    cause = getattr(failure, "__cause__", None)
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        beside = writer.count * (take.codes[0][0].nbytes + 16 * (2 * take.signals[0].shape[1] + 1)) + (64 << 10)
        writer.shorten(max(1, least, writer.count - -(-beside // writer.size)))
