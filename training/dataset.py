"""The training and validation frames of an actor: pictures on disk, decoded once; targets read from the mesh caches."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..core.actor import Actor, Shot
from ..core.crop import HEIGHT, WIDTH, Crop, block, reduce, sample
from ..core.errors import UnderstudyError
from ..core.footage import Footage, open_footage
from ..core.jobs import Reporter
from .config import Config


@dataclass
class Frames:
    """Frames of several shots in one row.

    pictures : (N, H, W) uint8, memory-mapped; the part of each picture that augmentation can reach.
    matrix : (3, 3) map from network input to such a picture, continuous pixels.
    shots : the shots in order.    shot : (N,) index into shots.    sample : (N,) mesh sample in the shot.
    whitening : mean and standard deviation over all pixels of all inputs (paper, Sec. 3.1), gray levels.
    reference : (320, 240) uint8, the mean of all inputs, for the model file.
    footage : identity of each shot's footage.
    """

    pictures: np.ndarray
    matrix: np.ndarray
    shots: list[Shot]
    shot: np.ndarray
    sample: np.ndarray
    animated: np.ndarray
    whitening: tuple[float, float]
    reference: np.ndarray
    footage: dict[str, str]

    def __post_init__(self):
        self._caches = [shot.vertices() for shot in self.shots]

    def __len__(self) -> int:
        return len(self.sample)

    def targets(self, indices: np.ndarray) -> np.ndarray:
        """Cleaned positions of the animated vertices, (n, A, 3) float32, in mesh units."""
        result = np.empty((len(indices), len(self.animated), 3), np.float32)
        for row, index in enumerate(indices):
            result[row] = self._caches[self.shot[index]][self.sample[index]][self.animated]
        return result

    def inputs(self, indices: np.ndarray, maps: np.ndarray | None = None) -> np.ndarray:
        """Network inputs, (n, 320, 240) uint8; `maps` (n, 3, 3) moves them as training/augment.py says."""
        result = np.empty((len(indices), HEIGHT, WIDTH), np.uint8)
        for row, index in enumerate(indices):
            matrix = self.matrix if maps is None else self.matrix @ maps[row]
            result[row] = sample(self.pictures[index], matrix)
        return result


@contextlib.contextmanager
def open_frames(actor: Actor, shots: list[Shot], folder: Path, config: Config | None, report: Reporter,
                ) -> Iterator[Frames]:
    """Decode the footage of `shots` into one file of pictures in `folder`, which goes when the block ends.

    config : keep what its augmentation can reach; None = no augmentation will be asked for.
    Raises UnderstudyError that tells of every footage that is missing or does not fit its vertices and the crop.
    """
    crop = Crop(*actor.crop)
    used = [shot.frames() for shot in shots]
    count = sum(map(len, used))
    if not count:
        raise UnderstudyError("All frames of these shots are excluded; nothing is left to learn from.")
    path = folder / f".pictures.{os.getpid()}.{shots[0].split}.tmp"
    with contextlib.ExitStack() as stack:
        footages = _open_all(shots, crop, actor.transfer, stack)
        region = _Region(crop, (footages[0].width, footages[0].height), config)
        stack.callback(lambda: path.unlink(missing_ok=True))
        pictures = _allocate(path, (count, *region.shape))
        whitening, reference = _decode(shots, used, footages, region, pictures, report)
        frames = Frames(pictures, region.matrix, shots, np.repeat(np.arange(len(shots)), [len(u) for u in used]),
                        np.concatenate(used), actor.animated, whitening, reference,
                        {shot.name: footage.identity for shot, footage in zip(shots, footages, strict=True)})
        del pictures
        try:
            yield frames
        finally:
            frames.pictures = None  # Windows removes no file that is still mapped


def check_length(shot: Shot, footage: Footage) -> None:
    """Raise UnderstudyError if the footage ends before the last used sample of the shot."""
    samples = shot.frames()
    if len(samples) and shot.first_frame + int(samples[-1]) >= footage.frames:
        raise UnderstudyError(f"{footage.path} has {footage.frames} frames, but shot {shot.name} needs frame "
                              f"{shot.first_frame + int(samples[-1])}. Check its first frame, or cut the vertices.")


def _open_all(shots: list[Shot], crop: Crop, transfer: str, stack: contextlib.ExitStack,
              ) -> list[Footage]:
    """The footage of every shot, checked against the shot, the crop and the first shot's framing."""
    footages, wrong = [], []
    for shot in shots:
        try:
            footage = stack.enter_context(open_footage(shot.footage_path(), transfer))
            crop.check(footage.width, footage.height)
        except UnderstudyError as error:
            wrong.append(f"Shot {shot.name}: {error}")
            continue
        footages.append(footage)
        size, first = (footage.width, footage.height), (footages[0].width, footages[0].height)
        if size != first:
            wrong.append(f"Shot {shot.name}: {footage.path} has {size[0]} x {size[1]} pixels, the first shot "
                         f"{first[0]} x {first[1]}; all shots need the same framing.")
        try:
            check_length(shot, footage)
        except UnderstudyError as error:
            wrong.append(str(error))
    if wrong:
        raise UnderstudyError("\n".join(wrong))
    return footages


def _decode(shots: list[Shot], used: list[np.ndarray], footages: list[Footage], region: "_Region",
            pictures: np.ndarray, report: Reporter) -> tuple[tuple[float, float], np.ndarray]:
    """Fill `pictures` with the used frames; returns mean and deviation of all input pixels, and the mean input."""
    done, total, square = 0, np.zeros((HEIGHT, WIDTH)), 0.0
    for shot, samples, footage in zip(shots, used, footages, strict=True):
        for picture in footage.pick(shot.first_frame + samples, transform=region.cut):
            pictures[done] = picture
            picture = sample(picture, region.matrix)
            total += picture
            square += cv2.norm(picture, cv2.NORM_L2SQR)
            done += 1
            report.progress(done, len(pictures), "pictures")
            report.check_cancel()
    total /= len(pictures)
    mean = float(total.mean())
    deviation = max(1.0, (square / len(pictures) / total.size - mean * mean) ** 0.5)
    return (mean, deviation), np.rint(total).astype(np.uint8)


class _Region:
    """The part of a picture that is kept: the crop and what augmentation can bring in, on whole pixel blocks."""

    def __init__(self, crop: Crop, size: tuple[int, int], config: Config | None):
        self.block = block(crop.matrix())
        left, top, right, bottom = crop.x, crop.y, crop.x + crop.width, crop.y + crop.height
        if config is not None:
            # half diagonal of the zoomed crop against its half sides, plus the shift: a safe outer bound
            turn = np.radians(config.rotation)
            zoom = 1 + config.zoom
            wide = (crop.width * np.cos(turn) + crop.height * np.sin(turn)) * zoom - crop.width
            high = (crop.height * np.cos(turn) + crop.width * np.sin(turn)) * zoom - crop.height
            shift = config.translation * zoom * crop.width / WIDTH
            left, right = left - wide / 2 - shift, right + wide / 2 + shift
            top, bottom = top - high / 2 - shift, bottom + high / 2 + shift
        low = [max(0, int(edge // self.block) - 1) * self.block for edge in (left, top)]
        high = [min(whole // self.block, int(-(-edge // self.block)) + 1) * self.block
                for edge, whole in zip((right, bottom), size, strict=True)]
        self.columns, self.rows = slice(low[0], high[0]), slice(low[1], high[1])
        self.shape = (high[1] - low[1]) // self.block, (high[0] - low[0]) // self.block
        to_region = np.array([[1, 0, -low[0]], [0, 1, -low[1]], [0, 0, 1]])
        self.matrix = np.diag([1 / self.block, 1 / self.block, 1]) @ to_region @ crop.matrix()

    def cut(self, picture: np.ndarray) -> np.ndarray:
        return reduce(picture[self.rows, self.columns], self.block, np.eye(3))[0]


def _allocate(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """A picture file of its final size. Its pages are reserved at once, so that a full disk is told now, not later."""
    try:
        with open(path, "wb") as file:
            size = int(np.prod(shape))
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        return np.memmap(path, np.uint8, "r+", shape=shape)
    except OSError as error:
        raise UnderstudyError(f"{size / 1e9:.1f} GB for decoded pictures do not fit in {path.parent}: "
                              f"{error.strerror}. Free some space and train again.") from error
