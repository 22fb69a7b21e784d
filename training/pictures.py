"""The pictures of shots as training needs them: decoded once, and kept on this machine for the next run.

They lie in the user's cache folder and not in the actor's, which travels: `$UNDERSTUDY_CACHE`, or where this system
keeps such things. A file holds the used frames of one shot, named by all that they are made from; adding a shot decodes
that shot alone, and another crop decodes all. Whoever deletes them loses nothing but the time to decode.
"""

import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np

from ..core.actor import Shot
from ..core.crop import WIDTH, Crop, block, reduce
from ..core.errors import Cancelled, UnderstudyError
from ..core.files import make_folder, user_cache
from ..core.footage import Footage
from ..core.jobs import Reporter
from ..core.numbered import find_images
from .config import Config

VERSION = 1  # to be raised when the same footage gives other pictures
SHARE = 0.1  # of its disk that the cache may take; beyond, what was not used for longest goes
SETTLED = 86_400  # s after which a file that is still being written belongs to nobody


class Region:
    """The part of a picture that is kept: the crop and what augmentation can bring in, on whole pixel blocks.

    matrix : (3, 3) map from network input to the part, continuous pixels.    shape : of the part, rows and columns.
    """

    def __init__(self, crop: Crop, size: tuple[int, int], config: Config | None):
        self.block = block(crop.matrix())
        left, top, right, bottom = crop.x, crop.y, crop.x + crop.width, crop.y + crop.height
        if config is not None:
            # half diagonal of the zoomed crop against its half sides, plus the shift: a safe outer bound
            turn = np.radians(config.rotation)
            zoom = (1 + config.zoom) / (1 - 2 * config.perspective)  # in a corner both tilts add up
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


def cache_folder() -> Path:
    """Where pictures are kept, made if it is absent; a temporary folder if it cannot be written."""
    try:
        return make_folder(user_cache("pictures"))
    except UnderstudyError:
        return make_folder(Path(tempfile.gettempdir()) / "understudy-pictures")


def pictures_of(shots: list[Shot], footages: list[Footage], regions: list[Region], transfer: str, report: Reporter,
                ) -> list[np.ndarray]:
    """The used frames of each shot, (n, H, W) uint8, memory-mapped, read-only.

    transfer : the curve that the footages were opened with.
    What is not in the cache is decoded, several shots at a time. Raises UnderstudyError naming a frame that cannot be
    decoded, or telling that the disk is full, and Cancelled.
    """
    folder = cache_folder()
    shapes = [(len(shot.frames()), *region.shape) for shot, region in zip(shots, regions, strict=True)]
    paths = [folder / _name(*parts, transfer) for parts in zip(shots, footages, regions, strict=True)]
    missing = [i for i, (path, shape) in enumerate(zip(paths, shapes, strict=True))
               if not (path.exists() and path.stat().st_size == np.prod(shape))]
    for path in paths:
        if path.exists():
            os.utime(path)
    _make_room(folder, sum(int(np.prod(shapes[i])) for i in missing), set(paths))
    done, stop = np.zeros(len(shots), int), threading.Event()

    def decode(i: int) -> None:
        def show(index: int) -> None:
            done[i] = index
            if stop.is_set():
                raise Cancelled("Cancelled.")

        _decode(paths[i], shapes[i], shots[i], footages[i], regions[i], show)

    with ThreadPoolExecutor(os.cpu_count(), "pictures") as pool:
        running = [pool.submit(decode, i) for i in sorted(missing, key=lambda i: -shapes[i][0])]
        try:
            left = running
            while left:
                left = wait(left, 0.2).not_done
                report.progress(int(done.sum()), sum(shapes[i][0] for i in missing), "pictures")
                report.check_cancel()
                for future in running:
                    if future.done():
                        future.result()
        finally:
            stop.set()
    return [np.memmap(path, np.uint8, "r", shape=shape) for path, shape in zip(paths, shapes, strict=True)]


def _name(shot: Shot, footage: Footage, region: Region, transfer: str) -> str:
    """A file name that only the same pictures have. Times of files count: images often keep their size."""
    files = [footage.path] if footage.path.is_file() else find_images(footage.path)[0]
    times = hashlib.sha256(str([file.stat().st_mtime_ns for file in files]).encode()).hexdigest()
    made_from = [VERSION, transfer, footage.identity, times, footage.width, footage.height, region.block, *region.shape,
                 region.columns.start, region.rows.start,
                 hashlib.sha256((shot.first_frame + shot.frames()).astype("<i8").tobytes()).hexdigest()]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:32] + ".u8"


def _decode(path: Path, shape: tuple[int, ...], shot: Shot, footage: Footage, region: Region,
            show: Callable[[int], None]) -> None:
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}")
    try:
        pictures = _allocate(temporary, shape)
        for index, picture in enumerate(footage.pick(shot.first_frame + shot.frames(), transform=region.cut)):
            pictures[index] = picture
            show(index + 1)
        pictures.flush()
        del pictures  # Windows renames no file that is mapped
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _allocate(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """A picture file of its final size. Its pages are reserved at once, so that a full disk is told now, not later."""
    size = int(np.prod(shape))
    try:
        with open(path, "wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        return np.memmap(path, np.uint8, "r+", shape=shape)
    except OSError as error:
        raise UnderstudyError(f"{size / 1e9:.1f} GB for decoded pictures do not fit in {path.parent}: "
                              f"{error.strerror}. Free some space, or name another folder in the environment variable "
                              "UNDERSTUDY_CACHE, and train again.") from error


def _make_room(folder: Path, size: int, keep: set[Path]) -> None:
    """Delete what was not used for longest until `size` bytes more are within the cache's share of the disk."""
    files = {path: path.stat() for path in folder.iterdir() if path.is_file()}
    abandoned = {path for path, stat in files.items()
                 if path.name.startswith(".") and stat.st_mtime < time.time() - SETTLED}
    total = size + sum(stat.st_size for stat in files.values())
    for path in sorted(files, key=lambda path: files[path].st_mtime):
        old = total > SHARE * shutil.disk_usage(folder).total and path.suffix == ".u8" and path not in keep
        if path in abandoned or old:
            total -= files[path].st_size
            try:
                path.unlink()
            except OSError:  # another run has it, or has removed it
                continue
