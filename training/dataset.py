"""The training and validation frames of an actor: pictures and targets, both read from disk as they are needed."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from ..core.actor import Actor, Shot
from ..core.crop import HEIGHT, WIDTH, Crop, sample
from ..core.errors import UnderstudyError
from ..core.footage import Footage, open_footage
from ..core.jobs import Reporter
from .config import Config
from .pictures import Region, pictures_of

WHITENING_FRAMES = 1024  # at most, evenly spaced: on 6,899 frames both numbers came within 0.01 gray levels


class _Rows:
    """The rows of a memory-mapped array, read from its file one by one.

    What is mapped counts as this process's memory, gigabytes of it; and whoever cuts a mapped file ends the process.
    """

    def __init__(self, mapped: np.memmap):
        self.path, self.shape, self._dtype, self._offset = mapped.filename, mapped.shape, mapped.dtype, mapped.offset
        self._file, self._lock = open(mapped.filename, "rb", buffering=0), threading.Lock()

    def __getitem__(self, index: int) -> np.ndarray:
        row = np.empty(self.shape[1:], self._dtype)
        with self._lock:
            self._file.seek(self._offset + int(index) * row.nbytes)
            count = self._file.readinto(row.reshape(-1).view(np.uint8))
        if count < row.nbytes:
            raise UnderstudyError(f"{self._file.name} was cut short by another program while it trained. Put it back, "
                                  "then go on with --resume.")
        return row


@dataclass
class Frames:
    """Frames of several shots in one row.

    matrix : (3, 3) map from network input to a kept picture, continuous pixels.
    shots : the shots in order.    shot : (N,) index into shots.    sample : (N,) mesh sample in the shot.
    pictures : of each shot, (n, H, W) uint8; the part of a picture that augmentation can reach.
    footage : identity of each shot's footage.
    heads : (N, 3, 3), where the head is (training/heads.py), for networks that want it held still; else None.
    still : (N, 3, 3) maps that stabilise the inputs (core/steady.py); None = inputs are as the crop shows them.
    coefficients : (N, K) float32, the inputs as a fully connected network sees them (training/image_pca.py); else None.
    """

    matrix: np.ndarray
    shots: list[Shot]
    animated: np.ndarray
    pictures: list[np.ndarray]
    footage: dict[str, str]
    heads: np.ndarray | None = None
    still: np.ndarray | None = None
    coefficients: torch.Tensor | None = None

    def __post_init__(self):
        used = [shot.frames() for shot in self.shots]
        self.shot, self.sample = np.repeat(np.arange(len(used)), [len(u) for u in used]), np.concatenate(used)
        self._first = np.cumsum([0, *map(len, used)])
        self._caches = [_Rows(shot.vertices()) for shot in self.shots]
        self.pictures = [_Rows(pictures) for pictures in self.pictures]

    def __len__(self) -> int:
        return len(self.sample)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a kept picture."""
        return self.pictures[0].shape[1:]

    def picture(self, index: int) -> np.ndarray:
        """The kept part of one picture, (H, W) uint8."""
        shot = self.shot[index]
        return self.pictures[shot][index - self._first[shot]]

    def targets(self, indices: np.ndarray) -> np.ndarray:
        """Cleaned positions of the animated vertices, (n, A, 3) float32, in mesh units.

        Raises UnderstudyError naming a sample that is no finite number.
        """
        result = np.empty((len(indices), len(self.animated), 3), np.float32)
        for row, index in enumerate(indices):
            shot, number = self.shot[index], self.sample[index]
            result[row] = self._caches[shot][number][self.animated]
            if not np.isfinite(result[row]).all():
                raise UnderstudyError(f"Shot {self.shots[shot].name}: sample {number} of its vertices holds what is no "
                                      "finite number. Mark the shot again, or exclude that sample.")
        return result

    def check(self) -> None:
        """Raise UnderstudyError if there is a sample that cannot be learned from."""
        for index in range(len(self)):
            self.targets([index])

    def inputs(self, indices: np.ndarray, maps: np.ndarray | None = None) -> np.ndarray:
        """Network inputs, (n, 320, 240) uint8; `maps` (n, 3, 3) moves them as training/augment.py says."""
        result = np.empty((len(indices), HEIGHT, WIDTH), np.uint8)
        for row, index in enumerate(indices):
            if self.still is None:
                matrix = self.matrix if maps is None else self.matrix @ maps[row]
                result[row] = sample(self.picture(index), matrix)
            else:
                matrix = self.still[index] if maps is None else self.still[index] @ maps[row]
                result[row] = sample(sample(self.picture(index), self.matrix), matrix)
        return result

    def statistics(self) -> tuple[tuple[float, float], np.ndarray]:
        """Whitening and reference: mean and standard deviation of all input pixels in gray levels (paper, Sec. 3.1),
        and the mean input, (320, 240) uint8.

        Differs from the paper: of more than 1,024 frames, evenly spaced ones are looked at, not all.
        """
        chosen = np.linspace(0, len(self) - 1, min(len(self), WHITENING_FRAMES)).round().astype(int)

        def add(block: np.ndarray) -> tuple[np.ndarray, float]:
            inputs = self.inputs(block)
            return inputs.sum(0, dtype=np.uint32), cv2.norm(inputs.reshape(len(block), -1), cv2.NORM_L2SQR)

        with ThreadPoolExecutor() as pool:
            sums, squares = zip(*pool.map(add, np.array_split(chosen, -(-len(chosen) // 64))), strict=True)
        total = sum(sums) / len(chosen)
        mean = float(total.mean())
        deviation = max(1.0, (sum(squares) / len(chosen) / total.size - mean * mean) ** 0.5)
        return (mean, deviation), np.rint(total).astype(np.uint8)


def read_frames(actor: Actor, shots: list[Shot], held_out: list[Shot], config: Config, report: Reporter,
                ) -> tuple[Frames, Frames | None]:
    """The frames of `shots` as augmentation needs them, and those of `held_out` as they are; None if there are none.

    Raises UnderstudyError that tells of every footage that is missing or does not fit its vertices and the crop.
    """
    shots, held_out = ([shot for shot in listed if len(shot.frames())] for listed in (shots, held_out))
    both = [*shots, *held_out]
    if not shots:
        raise UnderstudyError("All frames of these shots are excluded; nothing is left to learn from.")
    with contextlib.ExitStack() as stack:
        footages = _open_all(both, Crop(*actor.crop), actor.transfer, stack)
        size = footages[0].width, footages[0].height
        train, plain = (Region(Crop(*actor.crop), size, used) for used in (config, None))
        regions = [train] * len(shots) + [plain] * len(held_out)
        pictures = pictures_of(both, footages, regions, actor.transfer, report)
        identities = {shot.name: footage.identity for shot, footage in zip(shots, footages, strict=False)}
    cut = len(shots)
    frames = Frames(train.matrix, shots, actor.animated, pictures[:cut], identities)
    validation = Frames(plain.matrix, held_out, actor.animated, pictures[cut:], {}) if held_out else None
    return frames, validation


def check_length(shot: Shot, footage: Footage) -> None:
    """Raise UnderstudyError if the footage ends before the last used sample of the shot."""
    samples = shot.frames()
    if len(samples) and shot.first_frame + int(samples[-1]) >= footage.frames:
        raise UnderstudyError(f"{footage.path} has {footage.frames} frames, but shot {shot.name} needs frame "
                              f"{shot.first_frame + int(samples[-1])}. Check its first frame, or cut the vertices.")


def _open_all(shots: list[Shot], crop: Crop, transfer: str, stack: contextlib.ExitStack) -> list[Footage]:
    """The footage of every shot, checked against the shot, the crop and the first shot's framing."""
    def attempt(shot: Shot) -> Footage | UnderstudyError:
        try:
            footage = stack.enter_context(open_footage(shot.footage_path(), transfer))
            crop.check(footage.width, footage.height)
            return footage
        except UnderstudyError as error:
            return UnderstudyError(f"Shot {shot.name}: {error}")

    with ThreadPoolExecutor() as pool:  # to list the frames of a long movie is a pass over its file
        opened = list(pool.map(attempt, shots))
    wrong = [str(error) for error in opened if isinstance(error, UnderstudyError)]
    footages = [footage for footage in opened if isinstance(footage, Footage)]
    for shot, footage in zip(shots, opened, strict=True):
        if not isinstance(footage, Footage):
            continue
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
