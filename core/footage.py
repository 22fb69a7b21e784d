"""Footage: a movie or an image sequence as gray pictures, counted from 0, each with its time.

`open_footage` takes a movie (see `movie`), a folder of images, an image pattern or an image (see `sequence`). What gray
means, and the one transfer curve, stand in `gray`. Footage is never held in memory: `read` gives one picture,
`iterate` decodes in a thread of its own, a few pictures ahead of whoever consumes them.
"""

import contextlib
import functools
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .crop import Crop, network_input
from .doctor import first_line
from .errors import UnderstudyError
from .gray import Window
from .movie import Movie, MovieReader
from .numbered import is_sequence
from .sequence import ImageSequence

TRANSFERS = ("sRGB",)
AHEAD = 8  # pictures decoded ahead of the consumer: enough to ride out uneven work, small in memory
cv2.setNumThreads(1)  # pictures are small, and other threads decode: to share one out costs more than it gives
LOOK = 200e6  # pixels that a look at footage may decode: a second or so


def open_footage(path: Path | str, transfer: str = "sRGB") -> "Footage":
    """Open a movie, a folder of images, a pattern such as face.####.png or face.%04d.png, or one image of a sequence.

    transfer : the declared transfer curve of the gray values; "sRGB" is the only one.
    Raises UnderstudyError saying what is wrong: no such file, no movie, cut off, image missing, ...
    """
    if transfer not in TRANSFERS:
        raise UnderstudyError(f"The transfer curve {transfer!r} is unknown; known: {', '.join(TRANSFERS)}.")
    path = Path(path)
    if is_sequence(path):
        return Footage(ImageSequence(path))
    if not path.is_file():
        return Footage(Movie(path))  # says so
    return Footage(_movie(path, path.stat().st_mtime_ns, path.stat().st_size))


@functools.lru_cache(2)
def _movie(path: Path, *changes: int) -> Movie:
    """A movie. Its list of frames is kept while the file stays what it is, so that a second solve begins at once."""
    return Movie(path)


class Footage:
    """Opened footage; a context manager. Use it from one thread.

    path : Path.    width, height : pixels, upright.    frames : exact number.    fps : float, average (30 for images).
    times : (N,) float64 seconds, the first 0.    variable : True if the frame rate varies.    warnings : sentences.
    """

    def __init__(self, source: Movie | ImageSequence):
        self._source, self._new_reader = source, source.reader
        self._reader = source.reader()
        self.path, self.width, self.height = source.path, source.width, source.height
        self.frames, self.fps, self.times, self.variable = source.frames, source.fps, source.times, source.variable
        self.warnings: list[str] = source.warnings

    @property
    def identity(self) -> str:
        """Short SHA-256 that tells this footage from other footage, for provenance."""
        return self._source.identity

    def read(self, index: int) -> np.ndarray:
        """Picture `index`, (H, W) uint8 gray. Raises UnderstudyError if there is none or it cannot be decoded."""
        self._check(index, index + 1)
        return self._reader.read(index)

    def iterate(self, start: int = 0, stop: int | None = None,
                transform: Callable[[np.ndarray], Any] | None = None, window: Window = None) -> Iterator[Any]:
        """Pictures start to stop - 1 (None: to the end), decoded ahead in a thread.

        transform : called on each picture in that thread, such as crop and resize; what it returns is yielded.
        window : left, top, right, bottom of the part that pictures are cut down to, in pixels; the rest costs less.
        Ending or closing the iterator ends the thread. Errors of decoding and of `transform` are raised here.
        """
        stop = self.frames if stop is None else stop
        self._check(start, stop)
        return _ahead(self._new_reader, range(start, stop), transform, window)

    def inputs(self, crop: Crop, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """The network's inputs, (320, 240) uint8, of pictures start to stop - 1, as `iterate` gives them."""
        window = crop.window(self.width, self.height)
        return self.iterate(start, stop, functools.partial(network_input, crop=crop.moved(*window[:2])), window)

    def use_hardware(self, name: str) -> str:
        """Let `iterate` decode on hardware, by FFmpeg's name of it; returns "", or why it stays with the processor.

        The first picture is decoded both ways, and must be the same.
        """
        if not isinstance(self._source, Movie):
            return ""
        new_reader = functools.partial(self._source.reader, name)
        try:
            with contextlib.closing(new_reader()) as reader:
                same = np.array_equal(reader.read(0), self.read(0))
        except (UnderstudyError, RuntimeError, ValueError, NotImplementedError) as error:
            return f"{self.path} is decoded by the processor, because {name} does not do it: {first_line(error)}."
        if not same:
            return f"{self.path} is decoded by the processor, because {name} decodes other pixels."
        self._new_reader = new_reader
        return ""

    def pick(self, indices: np.ndarray, transform: Callable[[np.ndarray], Any] | None = None) -> Iterator[Any]:
        """The pictures at ascending `indices`, (n,) integers, in one pass as `iterate` makes it."""
        if not len(indices):
            return
        wanted, first = set(indices.tolist()), int(indices[0])
        for index, picture in enumerate(self.iterate(first, int(indices[-1]) + 1, transform), first):
            if index in wanted:
                yield picture

    def spread(self, count: int) -> np.ndarray:
        """At most `count` frames all over the footage that are quick to read: key frames, or, where those are few, the
        frames that follow them. Ascending int64.
        """
        keys = np.asarray(self._source.keys)
        reach = 0 if len(keys) >= count else int(LOOK / (self.width * self.height)) // len(keys)
        frames = np.arange(self.frames)
        quick = np.flatnonzero(frames - keys[np.searchsorted(keys, frames, "right") - 1] <= reach)
        return quick[np.linspace(0, len(quick) - 1, min(count, len(quick))).round().astype(int)]

    def _check(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= self.frames:
            raise UnderstudyError(f"{self.path} has {self.frames} frames, 0 to {self.frames - 1}; frames {start} to "
                                  f"{stop - 1} were asked for.")

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> "Footage":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _ahead(new_reader: Callable[[], MovieReader | ImageSequence], indices: range, transform: Callable | None,
           window: Window) -> Iterator[Any]:
    """Yield pictures that a thread decodes with a reader of its own."""
    pictures: queue.Queue = queue.Queue(AHEAD)
    stop = threading.Event()

    def work() -> None:
        try:
            with contextlib.closing(new_reader()) as reader:
                for index in indices:
                    picture = reader.read(index, window)
                    pictures.put((transform(picture) if transform else picture, None))
                    if stop.is_set():
                        return
        except BaseException as error:  # raised again where the pictures are consumed
            pictures.put((None, error))

    thread = threading.Thread(target=work, name="footage", daemon=True)
    thread.start()
    try:
        for _ in indices:
            picture, error = pictures.get()
            if error is not None:
                raise error
            yield picture
    finally:
        stop.set()
        while not pictures.empty():  # lets a waiting put through; the thread then sees the event and ends
            pictures.get()
        thread.join()
