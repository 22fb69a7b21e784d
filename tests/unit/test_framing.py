"""Framing: planted differences are found, measured and put into words."""

import cv2
import numpy as np
import pytest

from understudy.core import framing
from understudy.core.crop import HEIGHT, WIDTH, Crop
from understudy.training.config import Config

TRAINING = Config().to_json()


@pytest.fixture(scope="module")
def face():
    """Something like a face: soft blobs and lines on a gradient, (320, 240) float32."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    picture = 60 + 0.1 * y
    for px, py, rx, ry, level in ((120, 160, 80, 110, 70), (85, 130, 18, 8, -60), (155, 130, 18, 8, -60),
                                  (120, 220, 35, 10, -50), (120, 165, 10, 30, 25), (60, 60, 12, 9, 40)):
        picture += level * (1 - np.tanh(4 * (np.hypot((x - px) / rx, (y - py) / ry) - 1))) / 2
    return picture


def moved(picture, x=0.0, y=0.0, scale=1.0, roll=0.0):
    """The picture shifted, grown about its middle and turned clockwise."""
    matrix = cv2.getRotationMatrix2D((WIDTH / 2 - 0.5, HEIGHT / 2 - 0.5), -roll, scale)
    matrix[:, 2] += x, y
    return cv2.warpAffine(picture, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)


def test_the_same_is_the_same(face):
    noise = np.random.default_rng(0).normal(0, 1, face.shape)
    found = framing.compare(np.rint(face).astype(np.uint8), face + noise, TRAINING)
    assert found.verdict == "same" and found.within and found.corrected(Crop(0, 0, 240, 320)) is None


@pytest.mark.parametrize(("change", "says"), [
    ({"x": 12}, "shifted 12 px right"),
    ({"x": -9, "y": 7}, "shifted 9 px left and 7 px down"),
    ({"y": -40}, "shifted 40 px up"),
    ({"scale": 1.05}, "5 % larger"),
    ({"scale": 0.75}, "33 % smaller"),
    ({"roll": 3}, "rolled 3 degrees clockwise"),
    ({"roll": -12}, "rolled 12 degrees counterclockwise"),
    ({"x": 20, "scale": 1.2}, "shifted 20 px right and 20 % larger"),
])
def test_what_moved_is_measured_and_told(face, change, says):
    found = framing.compare(face, moved(face, **change), TRAINING)
    assert found.verdict == "different" and f": {says}" in found.text
    wanted = {"x": 0, "y": 0, "scale": 1, "roll": 0} | change
    assert found.shift == pytest.approx((wanted["x"], wanted["y"]), abs=0.5)
    assert found.scale == pytest.approx(wanted["scale"], abs=0.005)
    assert found.roll == pytest.approx(wanted["roll"], abs=0.3)
    assert found.brightness == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("change", "within"), [
    ({"x": 12}, True), ({"x": 16}, False), ({"scale": 1.06}, True), ({"scale": 1.1}, False), ({"roll": 3.5}, True),
    ({"roll": 5}, False)])
def test_what_augmentation_covers_is_told_from_what_it_does_not(face, change, within):
    found = framing.compare(face, moved(face, **change), TRAINING)
    assert found.within is within
    assert found.text.endswith("within what the model was trained to bear." if within else
                               "more than the model was trained to bear.")


@pytest.mark.parametrize("training", [None, [], {"translation": 14}, TRAINING | {"zoom": "large"}])
def test_a_model_that_tells_nothing_of_its_training_is_not_guessed_at(face, training):
    assert framing.compare(face, moved(face, x=12), training).within is None


def test_light_is_measured_where_both_pictures_show_the_same(face):
    found = framing.compare(face, moved(face, x=25) * 0.85, TRAINING)
    assert found.brightness == pytest.approx(0.85, abs=0.01) and "15 % darker" in found.text
    found = framing.compare(face, 0.7 * (face - face.mean()) + face.mean(), TRAINING)
    assert found.contrast == pytest.approx(0.7, abs=0.02) and "30 % lower in contrast" in found.text


@pytest.mark.parametrize("other", ["noise", "black", "stripes"])
def test_something_else_is_no_small_difference(face, other):
    picture = {"noise": np.random.default_rng(0).uniform(0, 255, face.shape), "black": np.zeros_like(face),
               "stripes": np.tile(np.float32(np.arange(WIDTH) // 8 % 2 * 200), (HEIGHT, 1))}[other]
    found = framing.compare(face, picture, TRAINING)
    assert found.verdict == "different" and "does not show" in found.text and found.shift is None


def test_the_corrected_crop_shows_what_training_showed(face):
    crop = Crop(100, 50, 480, 640)
    corrected = framing.compare(face, moved(face, x=12, y=-6, scale=1.1), TRAINING).corrected(crop)
    # two pixels of the picture for one of the input: the middle lies 24 to the right and 12 up, and all is 1.1 as large
    assert (corrected.width, corrected.height) == pytest.approx((528, 704), abs=3)
    assert corrected.x + corrected.width / 2 == pytest.approx(340 + 24, abs=1.5)
    assert corrected.y + corrected.height / 2 == pytest.approx(370 - 12, abs=1.5)
