"""Pixel conventions: what lands where, and that training and solving see the same pixels."""

import cv2
import numpy as np
import pytest
import torch

from understudy.core.crop import HEIGHT, WIDTH, Crop, network_input, sample
from understudy.core.errors import UnderstudyError
from understudy.training.augment import light, matrices, sample_on_device
from understudy.training.config import Config


def smooth_noise(height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(0).uniform(0, 255, (height // 4, width // 4)).astype(np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def test_a_crop_of_the_inputs_size_is_copied():
    picture = np.random.default_rng(0).integers(0, 255, (400, 300)).astype(np.uint8)
    got = network_input(picture, Crop(17, 23, WIDTH, HEIGHT)).astype(int)
    # a quarter pixel to each side in both axes, averaged: a 3 x 3 smoothing with weights 1/8, 6/8, 1/8
    kernel = np.array([0.125, 0.75, 0.125])
    want = cv2.sepFilter2D(picture.astype(float), -1, kernel, kernel)[23:23 + HEIGHT, 17:17 + WIDTH]
    assert np.abs(got - want).max() <= 1


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 6])
def test_large_crops_are_averaged_without_skipping_pixels(factor):
    picture = np.zeros((HEIGHT * factor, WIDTH * factor), np.uint8)
    rng = np.random.default_rng(1)
    picture[:] = rng.integers(0, 255, picture.shape)
    got = network_input(picture, Crop(0, 0, WIDTH * factor, HEIGHT * factor)).astype(float)
    want = picture.reshape(HEIGHT, factor, WIDTH, factor).mean((1, 3))
    # every pixel counts: noise falls with the number of pixels that are averaged
    assert got.std() < 1.35 * want.std()
    assert got.mean() == pytest.approx(want.mean(), abs=0.6)


@pytest.mark.parametrize(("x", "y"), [(0, 0), (100, 200), (239, 319)])
def test_a_point_lands_where_the_matrix_says(x, y):
    crop = Crop(31.5, 12, 480, 640)
    picture = np.zeros((800, 640), np.uint8)
    centre = crop.matrix() @ [x + 0.5, y + 0.5, 1]
    column, row = int(centre[0]), int(centre[1])
    picture[row - 1:row + 2, column - 1:column + 2] = 255
    got = network_input(picture, crop)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    weight = got / got.sum()
    assert (columns * weight).sum() == pytest.approx(x, abs=0.8) and (rows * weight).sum() == pytest.approx(y, abs=0.8)


def test_the_window_of_a_crop_is_all_that_its_input_needs():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (1600, 1200), np.uint8)
    for number in range(60):
        height = rng.uniform(60, 1600)
        x, y = rng.uniform(0, 1200 - 0.75 * height), rng.uniform(0, 1600 - height)
        crop = Crop(*(np.floor if number % 3 else np.array)([x, y, 0.75 * height, height]))
        if number % 5 == 0:
            crop = Crop(0, 1600 - crop.height, crop.width, crop.height)
        left, top, right, bottom = crop.window(1200, 1600)
        got = network_input(picture[top:bottom, left:right], crop.moved(left, top))
        assert np.array_equal(got, network_input(picture, crop))
        assert right - left < crop.width + 30 and bottom - top < crop.height + 30


@pytest.mark.parametrize("crop", [(-1, 0, 240, 320), (0, 0, 243, 320), (100, 0, 240, 320), (0, 0, 120, 120),
                                  (0, 0, float("nan"), 320), (0, 0, 3, 4)])
def test_bad_crops_get_a_sentence(crop):
    with pytest.raises(UnderstudyError, match="crop"):
        Crop(*crop).check(300, 400)


def test_the_largest_crop_is_accepted():
    for size in ((1200, 1600), (384, 512), (480, 480), (1920, 1080), (241, 1000)):
        Crop.largest(*size).check(*size)


def test_no_augmentation_is_the_plain_input():
    config, rng = Config.preset("paper"), np.random.default_rng(0)
    picture, crop = smooth_noise(512, 384), Crop(36, 56, 312, 416)
    maps = matrices(config, 0.0, 1, rng)
    assert np.array_equal(sample(picture, crop.matrix() @ maps[0]), network_input(picture, crop))
    assert light(config, 0.0, 1, rng).tolist() == [[1, 0, 1, 0]]


def test_augmentation_stays_in_its_bounds_and_uses_them():
    config = Config.preset("paper")
    maps = matrices(config, 1.0, 2000, np.random.default_rng(0))
    middle = (maps @ [WIDTH / 2, HEIGHT / 2, 1])[:, :2] - [WIDTH / 2, HEIGHT / 2]
    angle = np.degrees(np.arctan2(maps[:, 1, 0], maps[:, 0, 0]))
    zoom = np.sqrt(np.linalg.det(maps[:, :2, :2]))
    for values, bound in ((middle[:, 0], config.translation), (middle[:, 1], config.translation),
                          (angle, config.rotation), (np.log(zoom), np.log1p(config.zoom))):
        assert 0.98 * bound < values.max() <= bound + 1e-9 and -bound - 1e-9 <= values.min() < -0.98 * bound


def test_the_device_resampling_agrees_with_the_one_on_the_cpu():
    config = Config.preset("paper")
    picture, crop = smooth_noise(512, 384), Crop(36, 56, 312, 416)
    maps = crop.matrix() @ matrices(config, 1.0, 4, np.random.default_rng(0))
    want = np.stack([sample(picture, m) for m in maps]).astype(float)
    got = sample_on_device(torch.from_numpy(picture).expand(4, -1, -1), torch.from_numpy(maps).float())
    difference = np.abs(got[:, 0].numpy() - want)
    assert difference.max() < 4 and difference.mean() < 0.5
