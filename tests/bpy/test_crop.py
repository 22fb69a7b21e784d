"""The crop stays 3:4 and inside the picture, however it is changed."""

import bpy
import numpy as np
import pytest

from understudy.blender_addon import crop_gizmo


@pytest.fixture
def shot():
    made = bpy.context.scene.understudy.shots.add()
    made.name = made.uid = "take"
    made.width, made.height, made.frames = 640, 480, 10
    return made


def is_valid(crop, width: int, height: int) -> bool:
    """What core.crop.Crop.check asks for, which needs OpenCV."""
    x, y, w, h = crop
    return (np.isfinite(crop).all() and w >= 16 and h >= 16 and x >= 0 and y >= 0 and x + w <= width
            and y + h <= height and abs(w - h * 0.75) <= 1)


@pytest.mark.parametrize("wanted, expected", [
    ((100, 50, 150, 200), (100, 50, 150, 200)),
    ((100.1, 50.2, 150, 200.4), (100, 50.25, 150, 200)),
    ((-30, 460, 150, 200), (0, 280, 150, 200)),           # moved back into the picture
    ((100, 50, 900, 1200), (100, 0, 360, 480)),           # as large as fits
    ((100, 50, 3, 4), (100, 50, 16.5, 22)),               # as small as may be
    ((100, 50, 300, 200), (100, 50, 150, 200))])          # the height decides
def test_set_crop(shot, wanted, expected):
    scene = bpy.context.scene
    crop_gizmo.set_crop(scene, shot, *wanted)
    assert tuple(scene.understudy.crop) == expected and is_valid(expected, 640, 480)


@pytest.mark.parametrize("size", [(640, 480), (240, 320), (1080, 1920), (333, 77), (1201, 1601)])
def test_no_wish_leaves_the_picture(size):
    random = np.random.default_rng(0)
    for _ in range(300):
        crop = crop_gizmo.fitted(*random.uniform(-500, 2500, 3), *size)
        assert is_valid(np.float32(crop), *size)  # as Blender keeps it
        for corner in range(4):
            assert is_valid(np.float32(crop_gizmo.scaled(crop, corner, *random.uniform(-500, 2500, 2), *size)), *size)


@pytest.mark.parametrize("corner, fixed", [(0, (250, 250)), (1, (100, 250)), (2, (100, 50)), (3, (250, 50))])
def test_a_corner_leaves_the_opposite_one_where_it_is(corner, fixed):
    for x, y in ((300, 300), (20, 30), (200, 140), (600, 10), (-900, 900)):
        left, top, width, height = crop_gizmo.scaled((100, 50, 150, 200), corner, x, y, 640, 480)
        found = (left if corner in (1, 2) else left + width, top if corner in (2, 3) else top + height)
        assert found == fixed


def test_a_corner_follows_the_mouse():
    assert crop_gizmo.scaled((100, 50, 150, 200), 2, 325, 350, 640, 480) == (100, 50, 225, 300)
    assert crop_gizmo.scaled((100, 50, 150, 200), 0, 175, 150, 640, 480) == (175, 150, 75, 100)


def test_numbers_of_the_panel(shot):
    scene = bpy.context.scene
    assert tuple(scene.understudy_crop) == (140, 0, 360, 480), "the largest in the middle, before there is one"
    scene.understudy.crop = (100, 50, 150, 200)
    scene.understudy_crop[2] = 300  # the width takes the height along
    assert tuple(scene.understudy.crop) == (100, 50, 300, 400)
    scene.understudy_crop[3] = 100
    assert tuple(scene.understudy.crop) == (100, 50, 75, 100)
    scene.understudy_crop[0] = 9999
    assert tuple(scene.understudy.crop) == (565, 50, 75, 100)


def test_a_crop_of_its_own(shot):
    scene = bpy.context.scene
    scene.understudy.crop = (100, 50, 150, 200)
    shot.own_crop = True
    crop_gizmo.set_crop(scene, shot, 0, 0, 75, 100)
    assert tuple(scene.understudy.crop) == (100, 50, 150, 200)
    assert scene.understudy.crop_of(shot) == tuple(scene.understudy_crop) == (0, 0, 75, 100)


def test_without_a_shot_nothing_happens():
    scene = bpy.context.scene
    assert tuple(scene.understudy_crop) == (0, 0, 0, 0)
    scene.understudy_crop[0] = 5
    assert tuple(scene.understudy.crop) == (0, 0, 0, 0)
