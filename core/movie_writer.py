"""Writing movies: gray or colour pictures to a file that every player opens."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from .errors import UnderstudyError
from .files import atomic


class MovieWriter:
    """Write pictures to a movie, one after the other; a context manager.

    The container follows from the suffix of `path`. The file appears when the block ends without an error; otherwise
    nothing is left. H.264 in yuv420p, limited range, plays everywhere; it needs an even width and height.
    Raises UnderstudyError if the folder cannot be written or the codec refuses the settings.
    """

    def __init__(
        self,
        path: Path | str,
        width: int,
        height: int,
        fps: float = 30.0,
        codec: str = "libx264",                    # name of an FFmpeg encoder
        pixels: str = "yuv420p",                   # pixel format, one that the encoder knows
        crf: int | None = 18,                      # quality of libx264 and libx265, small is good; None: the encoder's
        keyframes: int | None = None,              # frames between key frames; None: the encoder's choice
        bframes: int | None = None,                # B-frames in a row; None: the encoder's choice
        options: dict[str, str] | None = None,  # further options of the encoder
    ):
        self.path, self.width, self.height = Path(path), width, height
        self._rate = Fraction(fps).limit_denominator(1001)
        self._codec, self._pixels = codec, pixels
        settings = {"crf": crf if codec in ("libx264", "libx265") else None, "g": keyframes, "bf": bframes}
        self._options = {name: str(value) for name, value in settings.items() if value is not None} | (options or {})
        full = pixels.startswith(("yuvj", "gray", "rgb", "bgr", "gbr"))
        self._range = ColorRange.JPEG if full else ColorRange.MPEG
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "MovieWriter":
        with contextlib.ExitStack() as stack, self._sentences():
            temporary = stack.enter_context(atomic(self.path))
            faststart = {"movflags": "+faststart"} if self.path.suffix in (".mp4", ".mov") else {}
            self._container = stack.enter_context(av.open(str(temporary), "w", options=faststart))
            self._stream = self._container.add_stream(self._codec, rate=self._rate, options=self._options)
            self._stream.width, self._stream.height, self._stream.pix_fmt = self.width, self.height, self._pixels
            self._stream.codec_context.color_range = self._range
            self._stream.codec_context.open()
            stack.push(self._flush)
            self._open = stack.pop_all()
        return self

    def write(self, picture: np.ndarray) -> None:
        """Append one picture: (H, W) uint8 gray or (H, W, 3) uint8 RGB."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "gray" if picture.ndim == 2 else "rgb24")
        if (frame.width, frame.height) != (self.width, self.height):
            raise ValueError(f"a picture of {frame.width} x {frame.height} in a movie of {self.width} x {self.height}")
        # without a colour space for gray: swscale would truncate instead of rounding
        frame = frame.reformat(format=self._pixels, src_color_range=ColorRange.JPEG, dst_color_range=self._range,
                               dst_colorspace=Colorspace.ITU709 if picture.ndim == 3 else None)
        with self._sentences():
            self._container.mux(self._stream.encode(frame))

    def __exit__(self, *error: object) -> None:
        with self._sentences():
            self._open.__exit__(*error)  # flush, close, rename; after an error close and remove

    def _flush(self, kind: type | None, *_: object) -> None:
        if kind is None:
            self._container.mux(self._stream.encode(None))

    @contextlib.contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, ValueError) as error:  # ValueError: a suffix that stands for no container
            reason = getattr(error, "strerror", error)
            raise UnderstudyError(f"Cannot write {self.path} with {self.width} x {self.height} pixels as {self._codec} "
                                  f"{self._pixels} ({reason}). Choose an even size, or another codec or suffix."
                                  ) from error
