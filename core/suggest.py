"""A crop to start from: the face as a detector sees it over the shot, else where the picture moves."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from .crop import ASPECT, Crop
from .footage import open_footage

FRAMES = 24
SIZE = 640         # pixels, the longer side of the pictures that are searched
SMALLEST = 48      # pixels, the smallest face in those
ENOUGH = 0.25      # of the frames must show the same face
CASCADE = "haarcascade_frontalface_alt2.xml"  # comes with the OpenCV wheels
# The detector's square box ends at the cheeks, above the brows and at the chin. In the crops of two actors, chosen by
# hand, it is as wide as the crop and its middle lies at this part of the crop's height: jaws open downwards.
MIDDLE = 0.39
MOVING = 4.0       # gray levels, deviation over time that is no noise


@dataclass(frozen=True)
class Suggestion:
    """crop : 3:4 and inside the picture, whole pixels.    how : where it comes from, for people.    confidence : 0..1,
    the part of the frames that agree; 0.3 and less without a face."""

    crop: Crop
    how: str
    confidence: float


def suggest_crop(path: Path | str) -> Suggestion:
    """A crop that holds the whole face with room for its motion, as far as the picture has it.

    Raises UnderstudyError for footage that cannot be read.
    """
    with open_footage(path) as footage:
        size = footage.width, footage.height
        scale = min(1.0, SIZE / max(size))
        small = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
        pictures = [cv2.resize(footage.read(int(frame)), small, interpolation=cv2.INTER_AREA)
                    for frame in footage.spread(FRAMES)]
    faces = agreeing(detect(pictures))
    if len(faces) >= max(1, ENOUGH * len(pictures)):
        found = len(faces) / len(pictures)
        return Suggestion(around_face(faces / scale, size), f"face detector in {len(faces)} of {len(pictures)} frames",
                          round(found, 2))
    moving = where_it_moves(pictures)
    if moving is not None:
        x, y, width, height = moving / scale
        return Suggestion(fit(x, y, width, height, size), "motion", 0.3)
    return Suggestion(Crop.largest(*size), "whole picture", 0.0)


def detect(pictures: list[np.ndarray]) -> list[np.ndarray]:
    """What a face detector, if there is one, finds in each picture: (n, 3) float64 middle x, y and width."""
    cascade = _cascade()
    if cascade is None:
        return []
    found = []
    for picture in pictures:
        boxes = np.asarray(cascade.detectMultiScale(picture, 1.1, 4, minSize=(SMALLEST, SMALLEST)), np.float64)
        boxes = boxes.reshape(-1, 4)
        found.append(np.column_stack([boxes[:, 0] + boxes[:, 2] / 2, boxes[:, 1] + boxes[:, 3] / 2, boxes[:, 2]]))
    return found


def _cascade():
    """OpenCV's detector; None in builds without. It is read as text: OpenCV opens no non-ASCII paths on Windows."""
    try:
        from cv2.data import haarcascades

        text = (Path(haarcascades) / CASCADE).read_text(encoding="utf-8")
        cascade = cv2.CascadeClassifier()
    except (ImportError, AttributeError, OSError):
        return None
    storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
    return cascade if cascade.read(storage.getFirstTopLevelNode()) else None


def agreeing(found: list[np.ndarray]) -> np.ndarray:
    """The face that most frames show, at most once a frame: (n, 3) float64 middle x, y and width.

    Of two faces in as many frames, the larger one counts: the actor's. What is found elsewhere is no face.
    """
    best = np.empty((0, 3))
    for candidate in np.concatenate([np.empty((0, 3)), *found]):
        members = []
        for boxes in found:
            if len(boxes):
                away = np.hypot(*(boxes[:, :2] - candidate[:2]).T) / candidate[2]
                away += abs(np.log(boxes[:, 2] / candidate[2]))
                if away.min() < 0.5:  # about half a face away, or half as large again
                    members.append(boxes[away.argmin()])
        if (len(members), candidate[2]) > (len(best), np.median(best[:, 2]) if len(best) else 0):
            best = np.array(members)
    return best


def around_face(faces: np.ndarray, size: tuple[int, int]) -> Crop:
    """The crop for faces, (n, 3) middle x, y and width in pixels of a picture of this size."""
    width = float(np.median(faces[:, 2]))
    (left, top), (right, bottom) = np.percentile(faces[:, :2], (5, 95), axis=0)
    height = max(width / ASPECT + bottom - top, (width + right - left) / ASPECT)
    middle = (top + bottom) / 2 + (0.5 - MIDDLE) * width / ASPECT
    return fit((left + right) / 2, middle, height * ASPECT, height, size)


def where_it_moves(pictures: list[np.ndarray]) -> np.ndarray | None:
    """Middle x, y, width and height of what moves, (4,) in pixels; None when nothing does."""
    deviation = cv2.GaussianBlur(np.std(np.array(pictures, np.float32), axis=0), (0, 0), SIZE / 200)
    moving = np.where(deviation > MOVING, deviation, 0)
    if not moving.any():
        return None
    edges = []
    for axis in (0, 1):
        share = np.cumsum(moving.sum(axis=axis)) / moving.sum()
        edges.append(np.searchsorted(share, (0.02, 0.98)) + (0, 1))
    (left, right), (top, bottom) = edges
    return np.array([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top])


def fit(x: float, y: float, width: float, height: float, size: tuple[int, int]) -> Crop:
    """The 3:4 crop about (x, y) that holds width x height, moved into the picture; shrunk if it does not fit."""
    unit = min(max(round(max(width / 3, height / 4)), 8), size[0] // 3, size[1] // 4)  # 3 x 4 of these, whole pixels
    wide, high = 3 * unit, 4 * unit
    left, top = min(max(x - wide / 2, 0), size[0] - wide), min(max(y - high / 2, 0), size[1] - high)
    return Crop(int(left), int(top), wide, high)
