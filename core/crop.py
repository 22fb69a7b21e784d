"""From a gray picture to the network's input: the one place where pixel conventions live.

Conventions. A picture is (H, W) uint8, row 0 at the top. A continuous point (x, y) has its origin at the top left
*corner* of the picture, so the centre of pixel (column i, row j) is (i + 0.5, j + 0.5). A crop (x, y, width, height) in
these coordinates covers exactly `width` pixels from column x on. The network's input is 240 wide and 320 high.

Every input, in training, validation and production, is made by the same single resampling: the affine map from input
to picture is sampled bilinearly on a grid twice as fine as the input, and each 2 x 2 block is averaged. Below four
times the input size that covers every picture pixel; larger crops are first reduced by whole pixel blocks (`block`).
With the identity augmentation, training sees the very same pixels that production sees.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from .errors import UnderstudyError

WIDTH, HEIGHT = 240, 320  # the paper's input, Sec. 3
ASPECT = WIDTH / HEIGHT


@dataclass(frozen=True)
class Crop:
    """A fixed rectangle of the picture, in pixels: top left corner, width and height; 3:4 within one pixel."""

    x: float
    y: float
    width: float
    height: float

    def check(self, picture_width: int, picture_height: int) -> None:
        """Raise UnderstudyError unless the crop lies in the picture and has the input's aspect."""
        if not all(np.isfinite((self.x, self.y, self.width, self.height))) or self.width < 16 or self.height < 16:
            raise UnderstudyError(f"The crop {self.text} is too small or not a number; it needs at least 16 pixels.")
        if self.x < 0 or self.y < 0 or self.x + self.width > picture_width or self.y + self.height > picture_height:
            raise UnderstudyError(f"The crop {self.text} reaches outside the picture of {picture_width} x "
                                  f"{picture_height} pixels. Move or shrink it.")
        if abs(self.width - self.height * ASPECT) > 1:
            raise UnderstudyError(f"The crop {self.text} is not 3:4; with height {self.height:g} its width should be "
                                  f"{self.height * ASPECT:g}.")

    @property
    def text(self) -> str:
        return f"{self.x:g} {self.y:g} {self.width:g} {self.height:g} (x y width height)"

    @classmethod
    def largest(cls, picture_width: int, picture_height: int) -> "Crop":
        """The largest centred 3:4 rectangle of a picture."""
        height = min(picture_height, int(picture_width / ASPECT))
        width = round(height * ASPECT)
        return cls((picture_width - width) // 2, (picture_height - height) // 2, width, height)

    def matrix(self) -> np.ndarray:
        """(3, 3) float64 map from input to picture, both continuous."""
        return np.array([[self.width / WIDTH, 0, self.x], [0, self.height / HEIGHT, self.y], [0, 0, 1]])


    def window(self, picture_width: int, picture_height: int) -> tuple[int, int, int, int]:
        """The pixels that this crop's input depends on, (left, top, right, bottom): whole blocks, and one more around.

        `network_input(picture[top:bottom, left:right], crop.moved(left, top))` is the same, bit for bit, as that of the
        whole picture.
        """
        size = block(self.matrix())
        low = [max(0, int(edge // size) - 1) * size for edge in (self.x, self.y)]
        high = [min(whole // size, int(-(-edge // size)) + 1) * size for edge, whole in
                ((self.x + self.width, picture_width), (self.y + self.height, picture_height))]
        return low[0], low[1], high[0], high[1]

    def moved(self, left: int, top: int) -> "Crop":
        """This crop in a picture whose first pixel is (left, top) of the old one."""
        return Crop(self.x - left, self.y - top, self.width, self.height)


def sample(picture: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """One resampling of a gray picture to the network's input.

    picture : (H, W) uint8.    matrix : (3, 3) map from input to picture, continuous coordinates; affine but for
    training's perspective.
    Returns (320, 240) uint8. Beyond the picture its border pixels go on.
    """
    picture, matrix = reduce(picture, block(matrix), matrix)
    # pixel centres: fine grid pixel u has its centre at input coordinate (u + 0.5) / 2, picture pixel i at i + 0.5
    to_input = np.array([[0.5, 0, 0.25], [0, 0.5, 0.25], [0, 0, 1]])
    to_pixel = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
    matrix, size = to_pixel @ matrix @ to_input, (2 * WIDTH, 2 * HEIGHT)
    how = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REPLICATE}
    affine = matrix[2, 0] == 0 == matrix[2, 1]
    fine = cv2.warpAffine(picture, matrix[:2], size, **how) if affine else cv2.warpPerspective(
        picture, matrix, size, **how)
    return cv2.resize(fine, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)


def block(matrix: np.ndarray) -> int:
    """Size of the pixel blocks to average before sampling with `matrix`; 1 below four picture pixels an input pixel.

    Bilinear taps half an input pixel apart would otherwise skip picture pixels.
    """
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    return 1 if scale < 4 else int(scale / 2)


def reduce(picture: np.ndarray, factor: int, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average whole blocks of `factor` x `factor` pixels; returns the picture and `matrix` leading into it.

    Rows and columns that do not fill a block at the right and bottom are dropped.
    """
    if factor == 1:
        return picture, matrix
    height, width = picture.shape[0] // factor, picture.shape[1] // factor
    small = cv2.resize(picture[:height * factor, :width * factor], (width, height), interpolation=cv2.INTER_AREA)
    return small, np.diag([1 / factor, 1 / factor, 1]) @ matrix


def network_input(picture: np.ndarray, crop: Crop) -> np.ndarray:
    """The network's input for a picture, (320, 240) uint8 (paper, Sec. 3)."""
    return sample(picture, crop.matrix())
