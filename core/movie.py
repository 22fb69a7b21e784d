"""A movie as a list of frames: exact count and time stamps, any frame at any time, through PyAV.

The list comes from one pass over the packets, without decoding: their presentation time stamps, sorted, less those that
the container says are not shown (edit lists). The first frames are then decoded; where they disagree with the list, or
time stamps are missing, repeated or, as in AVI with B-frames, made up, the movie is decoded once and what comes out is
the list. Headers are believed in nothing: not their frame count, not their rate, not their duration.
"""

import bisect
import contextlib
import hashlib
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NoReturn

import av
import numpy as np

from . import gray
from .doctor import first_line
from .errors import UnderstudyError
from .gray import Window, cut

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"  # seekable to the frame; no playlists, which open other files
OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file", "max_pixels": str(gray.LIMIT ** 2)}
PROBE = 8  # frames decoded to judge the list; more than any reordering delay that cameras and editors use
NEAR = 8  # frames that are decoded and dropped rather than sought past


class Movie:
    """One video stream.

    width, height : of the upright picture.    times : (N,) float64 seconds from the first frame.    fps : average.
    warnings : sentences.    Raises UnderstudyError for anything that is no whole movie.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.warnings: list[str] = []
        with open_stream(self.path) as (container, stream):
            gray.check_size(self.path, stream.width, stream.height)
            self._time_base, rate = stream.time_base, stream.average_rate
            packets = _packets(self.path, container, stream)
            reorders_in_avi = container.format.name == "avi" and not all(key for _, key in packets)
        self._list(packets, trusted=not reorders_in_avi)
        self._time(rate or Fraction(30))

    def _list(self, packets: list[tuple[int | None, bool]], trusted: bool) -> None:
        """Make the list: time stamps in the order shown (None where they cannot tell frames apart) and key frames."""
        with contextlib.closing(MovieReader(self)) as reader:
            first = list(itertools.islice(reader.decode(), PROBE))
        if not first:
            raise UnderstudyError(f"{self.path} holds no frame that can be decoded. Copy or export it again.")
        self._shape = first[0].height, first[0].width
        self._orientation = _orientation(first[0])
        self.height, self.width = reversed(self._shape) if self._orientation[0] else self._shape
        if any(frame.interlaced_frame for frame in first):
            self.warnings.append(f"{self.path} is interlaced; both fields stay woven in one frame.")

        if trusted and _distinct(stamps := [stamp for stamp, _ in packets]):
            trusted = [frame.pts for frame in first] == sorted(stamps)[:PROBE]
        else:
            trusted = False
        if trusted:
            shown = sorted(packets)
        else:
            with contextlib.closing(MovieReader(self)) as reader:
                shown = [(frame.pts, frame.key_frame) for frame in reader.decode()]
            self.warnings.append(
                f"{self.path} had to be decoded once to count its frames, because its time stamps do not tell: "
                f"{len(packets)} are stored, {len(shown)} are shown. As MP4, MOV or MKV it may open faster.")
        self.frames = len(shown)
        stamps = [stamp for stamp, _ in shown]
        self.stamps = stamps if _distinct(stamps) else None
        self.keys = [index for index, (_, key) in enumerate(shown) if key or index == 0] if self.stamps else [0]
        self.index = {stamp: index for index, stamp in enumerate(stamps)} if self.stamps else {}

    def _time(self, rate: Fraction) -> None:
        """Times in seconds, and whether their intervals vary by more than a container's rounding."""
        if self.stamps:
            stamps = np.sort(np.array(self.stamps, np.int64))  # sorted: AVI stamps count packets, not pictures
            self.times = (stamps - stamps[0]) * float(self._time_base)
        else:
            self.times = np.arange(self.frames) / float(rate)
        intervals = np.diff(self.times)
        self.fps = float(rate)
        self.variable = False
        if len(intervals):
            fps = len(intervals) / self.times[-1]
            if abs(fps / self.fps - 1) > 1e-3:  # the declared rate is exact where it is true at all
                self.fps = float(fps)
            slack = max(0.15 * np.median(intervals), 0.0015)  # the coarsest clock of a container ticks in milliseconds
            self.variable = bool(np.abs(intervals - np.median(intervals)).max() > slack)
        if self.variable:
            self.warnings.append(
                f"{self.path} has a variable frame rate: frames last {intervals.min() * 1000:.1f} to "
                f"{intervals.max() * 1000:.1f} ms. Frames count as recorded, none is repeated or dropped; check that "
                "the vertices were made the same way.")

    @property
    def identity(self) -> str:
        """Short SHA-256 of the file's size, first and last MB."""
        digest = hashlib.sha256(str(size := self.path.stat().st_size).encode())
        with open(self.path, "rb") as file:
            digest.update(file.read(1 << 20))
            file.seek(max(0, size - (1 << 20)))
            digest.update(file.read())
        return digest.hexdigest()[:16]

    def reader(self, hardware: str | None = None) -> "MovieReader":
        return MovieReader(self, hardware)

    def gray(self, frame: av.VideoFrame, index: int, window: Window = None) -> np.ndarray:
        """The upright gray picture of a decoded frame, or the window of it."""
        if (frame.height, frame.width) != self._shape:
            raise UnderstudyError(f"Frame {index} of {self.path} has {frame.width} x {frame.height} pixels, the first "
                                  f"has {self._shape[1]} x {self._shape[0]}. Export it at one size.")
        if not any(self._orientation):
            return gray.from_video(frame, window)
        return cut(gray.orient(gray.from_video(frame), *self._orientation), window)


class MovieReader:
    """Decodes one movie and remembers where it stands, so that reading on never seeks. For one thread.

    hardware : FFmpeg's name of what decodes, such as "cuda"; None = the processor.
    """

    def __init__(self, movie: Movie, hardware: str | None = None):
        self._movie, self._hardware = movie, hardware
        self._open = contextlib.ExitStack()
        self._container = self._stream = None
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._next = 0  # index of the frame that comes next
        self._sought = True  # nothing decoded since the last seek, so _next is a hope

    def close(self) -> None:
        self._open.close()
        self._container, self._sought = None, True

    def read(self, index: int, window: Window = None) -> np.ndarray:
        """The picture of frame `index`, (H, W) uint8, or the window of it; the same pixels whatever was read before.

        Raises UnderstudyError naming the frame that cannot be decoded.
        """
        keys = self._movie.keys
        key = bisect.bisect_right(keys, index) - 1
        frame = None
        if not self._sought and self._next <= index and (keys[key] <= self._next or index - self._next < NEAR):
            frame = self._advance(index)
        else:
            # A seek can land late (decoding order, recovery points): then again from further back, last from the start.
            for start in [*reversed(keys[max(0, key - 3):key + 1]), None]:
                self._seek(start)
                frame = self._advance(index)
                if frame is not None:
                    break
        if frame is None:
            self._fail(index)
        return self._movie.gray(frame, index, window)

    def decode(self) -> Iterator[av.VideoFrame]:
        """Every frame from the start in the order shown, whatever the list says."""
        self._seek(None)
        try:
            for frame in self._frames:
                self._next += 1
                yield frame
        except av.FFmpegError as error:
            self._fail(self._next, error)

    def _seek(self, index: int | None) -> None:
        """Stand before key frame `index`, as far as the container can; None opens the movie anew, at its start."""
        anew = self._container is None or index is None or not self._movie.stamps
        if anew:
            self.close()
            self._container, self._stream = self._open.enter_context(
                open_stream(self._movie.path, self._hardware))
        if index or not anew:
            self._container.seek(self._movie.stamps[index], stream=self._stream)
        self._frames = self._container.decode(self._stream)
        self._next, self._sought = index or 0, True

    def _advance(self, index: int) -> av.VideoFrame | None:
        """Decode up to frame `index`; None if the seek landed after it. Raises UnderstudyError if it is left out."""
        try:
            for frame in self._frames:
                found = self._movie.index.get(frame.pts) if self._movie.stamps else self._next
                if found is None:  # a picture that is not in the list
                    continue
                late, self._sought, self._next = self._sought, False, found + 1
                if found == index:
                    return frame
                if found > index:
                    if late:
                        return None
                    break
        except av.FFmpegError as error:
            self._fail(self._next, error)
        if self._sought:  # landed after the last frame
            return None
        self._fail(index)

    def _fail(self, index: int, error: av.FFmpegError | None = None) -> NoReturn:
        self.close()
        reason = f" ({error.strerror})" if error else ""
        raise UnderstudyError(f"Frame {index} of {self._movie.path} cannot be decoded{reason}. The file is damaged "
                              "there: copy or export it again, or leave that frame out.") from error


@contextlib.contextmanager
def open_stream(path: Path, hardware: str | None = None,
                ) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Open the video stream of a movie for as long as the block lasts; a sentence for what is no movie."""
    try:
        container = av.open(f"file:{path}", options=OPTIONS, hwaccel=_accelerator(hardware))
    except (av.FFmpegError, OSError) as error:
        raise UnderstudyError(first_line(error) if hardware else _no_movie(path, error)) from error
    with container:
        streams = [stream for stream in container.streams.video
                   if not stream.disposition & av.stream.Disposition.attached_pic]  # cover art is no footage
        if not streams:
            raise UnderstudyError(f"{path} holds no video (sound only?).")
        stream = streams[0]
        if stream.codec_context is None:
            raise UnderstudyError(f"{path} uses a video codec that cannot be decoded. Export it as H.264 or ProRes.")
        stream.thread_type = "AUTO"
        stream.codec_context.options = {"max_pixels": OPTIONS["max_pixels"]}
        yield container, stream


def _accelerator(hardware: str | None) -> av.codec.hwaccel.HWAccel | None:
    """What decodes on `hardware` and brings the pictures to main memory; it raises rather than decode elsewhere."""
    return av.codec.hwaccel.HWAccel(hardware, allow_software_fallback=False) if hardware else None


def _no_movie(path: Path, error: Exception) -> str:
    """Why a file could not be opened as a movie."""
    if not path.exists():
        return f"{path} does not exist."
    if path.stat().st_size == 0:
        return f"{path} is empty (0 bytes). Copy or export it again."
    with contextlib.suppress(OSError), open(path, "rb") as file:
        if file.read(8)[4:] in (b"ftyp", b"wide", b"mdat", b"free"):
            return (f"{path} is cut off: its index (moov), which comes last, is missing, so no frame can be read. The "
                    "recording or the copy was interrupted; copy it again.")
    if isinstance(error, PermissionError):
        return f"{path} cannot be read: {error.strerror}."
    return f"{path} cannot be read as a movie; it is damaged or something else. Give a MOV, MP4, MKV or AVI file."


def _packets(path: Path, container, stream) -> list[tuple[int | None, bool]]:
    """(time stamp, is key frame) of every packet that is shown, in stored order. Raises UnderstudyError if cut off."""
    size = path.stat().st_size
    entries = list(stream.index_entries) if "mov" in container.format.name else []
    for number, entry in enumerate(entries):
        if entry.pos + entry.size > size:
            raise _cut_off(path, number, len(entries))
    if entries and len(entries) == stream.frames and all(entry.is_keyframe for entry in entries):
        # Intra-only with a full index: nothing is reordered and nothing needs reading, which can be 100 GB of ProRes.
        return [(entry.timestamp, True) for entry in entries if not entry.is_discard]
    packets = []
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise _cut_off(path, len(packets))
            if packet.size and not packet.is_discard:
                packets.append((packet.pts, packet.is_keyframe))
    except av.FFmpegError as error:
        raise _cut_off(path, len(packets)) from error
    if _declared_size(path) > size:
        raise _cut_off(path, len(packets))
    return packets


def _cut_off(path: Path, frame: int, frames: int | None = None) -> UnderstudyError:
    of = f" of {frames}" if frames else ""
    return UnderstudyError(f"{path} breaks off at frame {frame}{of}; the rest of the file is missing or damaged. Copy "
                           "it again, or save what is there as a new movie, as with: ffmpeg -i OLD -c copy NEW.")


def _declared_size(path: Path) -> int:
    """The bytes that an AVI or Matroska file says it has, 0 if it does not say; FFmpeg reads short ones in silence."""
    with open(path, "rb") as file:
        head = file.read(64)
    if head.startswith(b"RIFF"):
        declared = int.from_bytes(head[4:8], "little")
        return 0 if declared == 0xFFFFFFFF else declared + 8
    segment = head.find(b"\x18\x53\x80\x67")
    if head.startswith(b"\x1a\x45\xdf\xa3") and segment > 0 and head[segment + 4]:
        start = segment + 4
        length = 9 - head[start].bit_length()  # of the size field: 1 to 8 bytes, 7 bits each
        declared = int.from_bytes(head[start:start + length], "big") & (unknown := (1 << 7 * length) - 1)
        return 0 if declared == unknown else start + length + declared
    return 0


def _distinct(stamps: list[int | None]) -> bool:
    return None not in stamps and len(set(stamps)) == len(stamps)


def _orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """(transpose, mirror_x, mirror_y) that turn a picture upright: its display matrix, to the nearest 90 degrees."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, False, False
    # pixel (x, y) is shown at (a x + c y, b x + d y); 16.16 fixed point, rows of three
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, c < 0, b < 0
    return False, a < 0, d < 0
