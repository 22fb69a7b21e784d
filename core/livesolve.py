"""A camera, or a movie played in real time, drives a mesh: the newest picture is solved, and older ones are dropped.

Cameras are read through OpenCV, which counts them from 0 on every system; FFmpeg's devices want names, sizes and rates
that differ from system to system. What a picture shows is in the file that core/livefeed.py describes.
"""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .crop import HEIGHT, WIDTH, Crop, network_input
from .errors import Cancelled, UnderstudyError
from .footage import open_footage
from .gray import from_rgb
from .jobs import Reporter
from .livefeed import LiveWriter
from .solver import load_solver

EVERY = 1.0   # s between metrics
WAIT = 5.0    # s without a picture after which a camera counts as gone


class Newest:
    """A place for one thing: who puts replaces, who takes waits."""

    def __init__(self):
        self._condition, self._thing = threading.Condition(), None
        self.dropped, self.ended, self.error = 0, False, None

    def put(self, thing: Any) -> None:
        with self._condition:
            self.dropped += self._thing is not None
            self._thing = thing
            self._condition.notify()

    def end(self, error: BaseException | None = None) -> None:
        with self._condition:
            self.ended, self.error = True, error
            self._condition.notify()

    def take(self, timeout: float) -> Any:
        """What was put last; None if nothing comes in time, or all has been taken and there will be no more."""
        with self._condition:
            self._condition.wait_for(lambda: self._thing is not None or self.ended, timeout)
            thing, self._thing = self._thing, None
            return thing


Frames = Iterator[tuple[int, float, np.ndarray]]  # number, when it was captured (Unix seconds), network input
Source = tuple[Callable[[Crop], Frames], tuple[int, int]]  # what gives frames, and the size of its pictures


def movie(path: Path | str, transfer: str) -> Source:
    """A movie in real time. A frame counts as captured when it is due; what is decoded too late is not waited for."""
    footage = open_footage(path, transfer)

    def play(crop: Crop) -> Frames:
        with footage, contextlib.closing(footage.inputs(crop)) as inputs:
            began = None
            for number, (picture, due) in enumerate(zip(inputs, footage.times.tolist(), strict=True)):
                began = time.time() if began is None else began
                time.sleep(max(0.0, began + due - time.time()))
                yield number, began + due, picture

    return play, (footage.width, footage.height)


def camera(number: int) -> Source:
    """A camera, counted from 0; it never ends."""
    device = cv2.VideoCapture(number)
    opened, first = device.read() if device.isOpened() else (False, None)
    if not opened:
        raise UnderstudyError(f"Camera {number} cannot be opened. Cameras count from 0; check that it is connected, "
                              "that no other program uses it, and that this one may.")
    device.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest picture, not the oldest; not every camera obeys

    def watch(crop: Crop) -> Frames:
        try:
            for index in itertools.count():
                if not device.grab():
                    raise UnderstudyError(f"Camera {number} gives no more pictures. Connect it again and start again.")
                captured = time.time()
                _, picture = device.retrieve()
                yield index, captured, network_input(from_rgb(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)), crop)
        finally:
            device.release()

    return watch, (first.shape[1], first.shape[0])


def live(model: Path | str, source: str, out: Path | str, device: str = "auto", engine: str = "auto",
         crop: tuple[float, float, float, float] | None = None, report: Reporter = Reporter()) -> dict:
    """Solve a camera ("0", "1", ...) or a movie as it plays, into the live file `out`, until it ends or is cancelled.

    crop : x, y, width, height in pixels; None = the model's if the picture holds it, else the largest in the middle.
    Every second the reporter gets `metrics` with fps, latency_ms (median and, as latency_95_ms, what 95 % stay below,
    from capture until the vertices can be read) and dropped (frames so far). Returns the same for the whole time, and
    frames. Raises UnderstudyError if the source cannot be read.
    """
    report.status("Loading the model")
    solver, _ = load_solver(model, device, 1, engine)
    for note in solver.notes:
        report.warning(note)
    play, size = camera(int(source)) if source.isdecimal() else movie(source, solver.model.transfer)
    chosen = solver.model.crop if crop is None else Crop(*crop)
    try:
        chosen.check(*size)
    except UnderstudyError:
        if crop is not None:
            raise
        chosen = Crop.largest(*size)
        report.warning(f"The model's crop does not fit into pictures of {size[0]} x {size[1]} pixels; the largest in "
                       "the middle is used. Give another crop if the face is elsewhere.")
    newest, stop = Newest(), threading.Event()
    thread = threading.Thread(target=_watch, args=(play(chosen), newest, stop), name="live", daemon=True)
    with LiveWriter(out, len(solver.model.template.vertices)) as writer:
        solver.solve(np.zeros((1, HEIGHT, WIDTH), np.uint8))  # first uses take longer
        thread.start()
        try:
            return _drive(solver, newest, writer, report)
        finally:
            stop.set()
            thread.join(WAIT)


def _watch(frames: Frames, newest: Newest, stop: threading.Event) -> None:
    error = None
    try:
        with contextlib.closing(frames):
            for frame in frames:
                newest.put(frame)
                if stop.is_set():
                    break
    except Exception as caught:  # raised again where the frames are solved
        error = caught
    newest.end(error)


def _drive(solver, newest: Newest, writer: LiveWriter, report: Reporter) -> dict:
    """Solve what comes until nothing more does."""
    before: list[float] = []  # s from capture to readable, of frames that were told of
    delays: list[float] = []
    began = told = time.time()
    report.status("Live")
    while not report.cancelled():
        taken = newest.take(WAIT)
        if taken is None:
            if newest.error is not None:
                raise newest.error
            if newest.ended:
                break
            raise UnderstudyError(f"No picture has come for {WAIT:g} s. Check the camera.")
        number, captured, picture = taken
        (vertices, _, _), = solver.stream([picture])
        delays.append(writer.write(number, captured, vertices[0]) - captured)
        if not before and len(delays) == 1:
            report.artifact(writer.path, "live")
        if (now := time.time()) - told >= EVERY:
            report.metrics(**_figures(delays, now - told, newest.dropped))
            before += delays
            delays, told = [], now
    before += delays
    results = {"frames": len(before), **_figures(before, time.time() - began, newest.dropped)}
    if report.cancelled():
        raise Cancelled(f"Stopped after {len(before)} frames, {results['fps']:.0f} a second, "
                        f"{results['latency_ms']:.0f} ms after they were captured.")
    return results


def _figures(delays: list[float], seconds: float, dropped: int) -> dict[str, float]:
    median, most = np.percentile(delays, (50, 95)) if delays else (0.0, 0.0)
    return {"fps": round(len(delays) / max(seconds, 1e-6), 1), "latency_ms": round(1000 * median, 1),
            "latency_95_ms": round(1000 * most, 1), "dropped": dropped}
