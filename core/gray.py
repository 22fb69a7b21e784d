"""From whatever a camera recorded to one gray picture: (H, W) uint8, display-encoded.

One transfer curve is declared, sRGB: gray values are display-encoded, as cameras, editors and screens hold them.
- Y'CbCr (nearly every movie, and JPEG): the luma plane itself, no colour conversion; limited range 16..235 is spread
  over 0..255, full range is left as it is, deeper samples are rounded to 8 bits.
- RGB: Rec. 709 luma weights on the encoded values. Integers are taken as encoded, whatever their depth.
- Floating point (EXR, float TIFF) is scene-linear: it is encoded with the sRGB curve first; below 0 is black, above 1
  white.
Rounding to 8 bits adds 1/sqrt(12) = 0.29 levels rms, far below the noise of any sensor (a good one has 1 to 2 levels).
"""

import functools
import re
from pathlib import Path

import cv2
import numpy as np

from .errors import UnderstudyError

Window = tuple[int, int, int, int] | None  # left, top, right, bottom: the part that is wanted; None = all

LIMIT = 16384  # pixels, the largest width and height of a picture
WEIGHTS = np.array([0.2126, 0.7152, 0.0722])  # Rec. 709 luma of R, G, B

# Formats whose first plane holds nothing but luma, one sample a pixel, in the low bits, little-endian.
_LUMA_PLANE = re.compile(r"(yuv[aj]?4\d\dp(\d+le)?|gray(\d+le)?|nv(12|16|21|24|42))$")
_LIMITED_RANGE, _FULL_RANGE = 1, 2  # AVCOL_RANGE_MPEG, AVCOL_RANGE_JPEG


def check_size(path: Path, width: int, height: int) -> None:
    """Raise UnderstudyError for a picture size, read from a header, that no camera has: before memory is taken."""
    if not (0 < width <= LIMIT and 0 < height <= LIMIT):
        raise UnderstudyError(f"{path} says that its pictures have {width} x {height} pixels; 1 to {LIMIT} a side are "
                              "possible. The file is damaged; copy or export it again.")


def from_video(frame, window: Window = None) -> np.ndarray:
    """Gray picture of a decoded av.VideoFrame, before its rotation. Returns (H, W) uint8, a copy.

    Of a luma plane, nothing outside the window is read.
    """
    pixels = frame.format
    if pixels.is_rgb or pixels.has_palette or pixels.name.startswith(("mono", "xyz")):
        deep = pixels.components[0].bits > 8
        return from_rgb(cut(frame.to_ndarray(format="rgb48le" if deep else "rgb24"), window))
    gray = pixels.name.startswith(("gray", "ya"))
    full = gray or frame.color_range == _FULL_RANGE or pixels.name.startswith("yuvj")
    if not _LUMA_PLANE.match(pixels.name):  # packed, semi-planar and big-endian: the same samples, rearranged
        same = _FULL_RANGE if full else _LIMITED_RANGE
        target = "gray16le" if gray else "yuv444p16le" if pixels.components[0].bits > 8 else "yuv444p"
        frame = frame.reformat(format=target, src_color_range=same, dst_color_range=same)
    bits = frame.format.components[0].bits
    return expand(cut(_first_plane(frame, np.uint8 if bits == 8 else np.uint16), window), bits, full)


def cut(picture: np.ndarray, window: Window) -> np.ndarray:
    """A view on the window of a picture."""
    if window is None:
        return picture
    left, top, right, bottom = window
    return picture[top:bottom, left:right]


def _first_plane(frame, dtype) -> np.ndarray:
    """The first plane of a frame as a (H, W) view on the decoder's memory; it must not be written to."""
    plane = frame.planes[0]
    stride = plane.line_size // np.dtype(dtype).itemsize
    rows = np.frombuffer(plane, dtype).reshape(-1, abs(stride))
    return (rows if stride > 0 else rows[::-1])[:frame.height, :frame.width]


def expand(luma: np.ndarray, bits: int, full: bool) -> np.ndarray:
    """Luma samples of `bits` bits to 8 bits in full range, rounded.

    luma : (H, W) uint8 (8 bits) or uint16 (9 to 16 bits).    full : False for limited range, 16..235 at 8 bits.
    Returns (H, W) uint8, a copy.
    """
    black, span = (0, (1 << bits) - 1) if full else (16 << (bits - 8), 219 << (bits - 8))
    if bits == 8:
        return luma.copy() if full else cv2.LUT(luma, _limited_table())
    return cv2.convertScaleAbs(cv2.subtract(luma, black) if black else luma, alpha=255 / span)


@functools.cache
def _limited_table() -> np.ndarray:
    """(256,) uint8: limited to full range."""
    return np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)


def from_rgb(rgb: np.ndarray) -> np.ndarray:
    """Rec. 709 luma of display-encoded RGB. rgb : (H, W, 3) uint8 or uint16. Returns (H, W) uint8."""
    luma = cv2.transform(rgb, WEIGHTS[None])
    return luma if luma.dtype == np.uint8 else cv2.convertScaleAbs(luma, alpha=255 / 65535)


def from_linear(pixels: np.ndarray) -> np.ndarray:
    """Gray picture of scene-linear values. pixels : (H, W, 1 or 3) float16. Returns (H, W) uint8.

    Half floats suffice: their rounding moves the encoded value by less than 0.03 levels of 255.
    """
    encoded = _srgb_table()[np.ascontiguousarray(pixels).view(np.uint16)]
    luma = encoded @ WEIGHTS.astype(np.float32) if pixels.shape[2] == 3 else encoded[..., 0]
    return cv2.convertScaleAbs(luma, alpha=255)


@functools.cache
def _srgb_table() -> np.ndarray:
    """(65536,) float32: every half float, clipped to 0..1 and encoded with the sRGB curve (IEC 61966-2-1)."""
    linear = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32)
    linear = np.clip(np.nan_to_num(linear, nan=0.0), 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055).astype(np.float32)


def orient(picture: np.ndarray, transpose: bool, mirror_x: bool, mirror_y: bool) -> np.ndarray:
    """Turn a picture upright: exchange rows and columns, then mirror left-right, then top-bottom."""
    if transpose:
        picture = cv2.transpose(picture)
    if mirror_x or mirror_y:
        picture = cv2.flip(picture, -1 if mirror_x and mirror_y else int(mirror_x))
    return picture
