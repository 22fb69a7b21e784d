"""Image sequences: one file a frame, numbered without gaps; the lowest number is frame 0.

Images carry no time, so frames count at 30 a second, the paper's rate.
"""

import hashlib
from pathlib import Path

import numpy as np

from .errors import UnderstudyError
from .gray import Window, cut
from .image import read_image
from .numbered import find_images

FPS = 30.0


class ImageSequence:
    """Numbered images as footage; the attributes are those of `Movie`. It keeps no state, so it is its own reader."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self._files, self.warnings = find_images(self.path)
        self.frames, self.fps, self.variable = len(self._files), FPS, False
        self.times = np.arange(self.frames) / FPS
        self.keys = range(self.frames)  # any of them can be read by itself
        self.height, self.width = read_image(self._files[0]).shape

    @property
    def identity(self) -> str:
        """Short SHA-256 of the files' names and sizes."""
        listing = "".join(f"{file.name}\0{file.stat().st_size}\0" for file in self._files)
        return hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def reader(self) -> "ImageSequence":
        return self

    def close(self) -> None:
        pass

    def read(self, index: int, window: Window = None) -> np.ndarray:
        """The picture of frame `index`, (H, W) uint8, or the window of it.

        Raises UnderstudyError naming the file that is wrong.
        """
        picture = read_image(self._files[index])
        if picture.shape != (self.height, self.width):
            raise UnderstudyError(f"{self._files[index]} has {picture.shape[1]} x {picture.shape[0]} pixels, the first "
                                  f"image of the sequence has {self.width} x {self.height}. Export it again.")
        return cut(picture, window)
