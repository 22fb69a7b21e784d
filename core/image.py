"""One image file as a gray picture.

OpenCV reads PNG, JPEG and TIFF of 8 and 16 bits; OpenImageIO, if installed, reads everything else: EXR, DPX, TIFF of 32
bits or floats, and so on.
"""

import struct
from pathlib import Path

import cv2
import numpy as np

from . import gray
from .errors import UnderstudyError

_JPEG = b"\xff\xd8\xff"
_ORIENTATIONS = (  # (transpose, mirror_x, mirror_y) for the EXIF orientations 1 to 8
    (False, False, False), (False, True, False), (False, True, True), (False, False, True),
    (True, False, False), (True, True, False), (True, True, True), (True, False, True),
)


def read_image(path: Path) -> np.ndarray:
    """One image file as a gray picture, (H, W) uint8, upright.

    Raises UnderstudyError naming the file if it cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnderstudyError(f"Cannot read {path}: {error.strerror}.") from error
    try:
        width, height, simple = _header(data)
    except (struct.error, KeyError) as error:
        raise _unreadable(path) from error
    if not simple:
        return _read_with_oiio(path, len(data))
    gray.check_size(path, width, height)
    jpeg = data.startswith(_JPEG)  # its luma plane as it is stored, like that of movies
    flags = cv2.IMREAD_GRAYSCALE if jpeg else cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        raise _unreadable(path)
    if pixels.ndim == 3:
        return gray.from_rgb(pixels[..., ::-1])
    return pixels if pixels.dtype == np.uint8 else gray.expand(pixels, 16, full=True)


def _unreadable(path: Path) -> UnderstudyError:
    return UnderstudyError(f"{path} cannot be read as an image; it is cut off, damaged or something else. Copy or "
                           "render it again.")


def _header(data: bytes) -> tuple[int, int, bool]:
    """(width, height, True) of a PNG, a JPEG, or a TIFF of 8 or 16 bits; (0, 0, False) of anything else.

    Raises struct.error or KeyError if it is cut off or damaged.
    """
    if data.startswith(b"\x89PNG"):
        return *struct.unpack_from(">II", data, 16), True
    if data.startswith(_JPEG):
        at = 2
        while True:
            marker, length, _, height, width = struct.unpack_from(">HHBHH", data, at)
            if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):  # a start of frame
                return width, height, True
            if marker < 0xFF00:
                raise struct.error("no marker")
            at += 1 if marker == 0xFFFF else 2 + length  # 0xFF fills
    if data[:4] in (b"II*\0", b"MM\0*"):
        order = "<" if data[:1] == b"I" else ">"
        directory, = struct.unpack_from(order + "I", data, 4)
        tags = {}
        for entry in range(struct.unpack_from(order + "H", data, directory)[0]):
            at = directory + 2 + 12 * entry
            tag, kind, count = struct.unpack_from(order + "HHI", data, at)
            if kind == 3 and count > 2:  # an array of 16-bit numbers, kept elsewhere
                at = struct.unpack_from(order + "I", data, at + 8)[0] - 8
            tags[tag], = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, at + 8)
        simple = tags.get(258) in (8, 16) and tags.get(339, 1) == 1  # bits per sample; unsigned integers
        return tags[256], tags[257], simple
    return 0, 0, False


def _read_with_oiio(path: Path, size: int) -> np.ndarray:
    """An image that OpenCV does not read. Floating point is linear, integers are encoded."""
    try:
        import OpenImageIO as oiio  # optional, and slow to load
    except ImportError as error:
        raise UnderstudyError(f"{path} needs OpenImageIO, which is not installed. Install it with: pip install "
                              "OpenImageIO; or convert the images to 16-bit PNG or TIFF.") from error
    image = oiio.ImageInput.open(str(path))
    if image is None:
        oiio.geterror()  # clears it
        raise _unreadable(path)
    spec = image.spec()
    gray.check_size(path, spec.width, spec.height)
    gray.check_size(path, spec.full_width, spec.full_height)
    if path.suffix.lower() == ".dpx" and _dpx_size(path) > size:  # OpenImageIO fills what is missing with black
        raise _unreadable(path)
    linear = spec.format.basetype in (oiio.HALF, oiio.FLOAT, oiio.DOUBLE)
    pixels = image.read_image(0, 0, 0, 3 if spec.nchannels >= 3 else 1, "half" if linear else "uint16")
    if pixels is None or image.geterror():
        raise _unreadable(path)
    if path.suffix.lower() == ".exr":
        pixels = _display_window(pixels, spec)
    if linear:
        picture = gray.from_linear(pixels)
    else:
        picture = gray.from_rgb(pixels) if pixels.shape[2] == 3 else gray.expand(pixels[..., 0], 16, full=True)
    orientation = spec.get_int_attribute("Orientation", 1)
    return gray.orient(picture, *_ORIENTATIONS[orientation - 1 if 1 <= orientation <= 8 else 0])


def _display_window(pixels: np.ndarray, spec) -> np.ndarray:
    """The pixels that an EXR shows: its data window may be smaller (black around it) or larger (overscan)."""
    x, y = spec.x - spec.full_x, spec.y - spec.full_y
    if (x, y, spec.width, spec.height) == (0, 0, spec.full_width, spec.full_height):
        return pixels
    shown = np.zeros((spec.full_height, spec.full_width, pixels.shape[2]), pixels.dtype)
    target = shown[max(0, y):, max(0, x):]
    inside = pixels[max(0, -y):, max(0, -x):][:target.shape[0], :target.shape[1]]
    target[:inside.shape[0], :inside.shape[1]] = inside
    return shown


def _dpx_size(path: Path) -> int:
    """The bytes that a DPX file says it has; 0 if it does not say."""
    with open(path, "rb") as file:
        head = file.read(20)
    size = int.from_bytes(head[16:20], "big" if head.startswith(b"SDPX") else "little")
    return 0 if size == 0xFFFFFFFF else size
