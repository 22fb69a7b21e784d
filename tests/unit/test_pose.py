"""Cameras are found from pins: many, noisy, few, in a plane, useless."""

import numpy as np
import pytest

from understudy.core.errors import UnderstudyError
from understudy.core.pose import _rotation, project, solve_pose

WIDTH, HEIGHT = 640, 480


def camera(turn=(0.2, -0.4, 0.1), place=(0.02, -0.03, 0.9)) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = _rotation(np.array(turn)), place
    return pose


def face(count: int, seed: int = 0) -> np.ndarray:
    """Points on a bulge as big as a head, in metres."""
    xy = np.random.default_rng(seed).uniform(-0.1, 0.1, (count, 2))
    return np.column_stack((xy, -0.08 + 6 * (xy ** 2).sum(1)))


def angle(a: np.ndarray, b: np.ndarray) -> float:
    return np.degrees(np.arccos(np.clip((np.trace(a[:3, :3] @ b[:3, :3].T) - 1) / 2, -1, 1)))


@pytest.mark.parametrize("count", [4, 6, 20])
def test_the_camera_comes_back(count):
    points, truth = face(count), camera()
    pixels = project(points, truth, 800, WIDTH, HEIGHT)
    pose, focal, residual = solve_pose(points, pixels, WIDTH, HEIGHT, camera((0, 0, 0), (0, 0, 1.2)), 800)
    assert residual < 0.01 and focal == 800
    assert angle(pose, truth) < 0.05
    np.testing.assert_allclose(pose, truth, atol=1e-3)


def test_the_focal_length_comes_back():
    points, truth = face(30), camera(place=(0, 0, 0.45))
    pixels = project(points, truth, 800, WIDTH, HEIGHT)
    pose, focal, residual = solve_pose(points, pixels, WIDTH, HEIGHT, camera((0, 0, 0)), 1100, solve_focal=True)
    assert residual < 0.05
    assert focal == pytest.approx(800, rel=0.01)
    np.testing.assert_allclose(pose, truth, atol=0.01)


@pytest.mark.parametrize("turn", [(3.0, 0, 0), (0, 2.5, 0.5), (0, 0, np.pi)])
def test_many_pins_need_no_start(turn):
    points, truth = face(8), camera()
    pixels = project(points, truth, 800, WIDTH, HEIGHT)
    pose, _, residual = solve_pose(points, pixels, WIDTH, HEIGHT, camera(turn, (0.3, 0, 3)), 800)
    assert residual < 0.01 and angle(pose, truth) < 0.05


def test_noise_stays_noise():
    points, truth = face(40), camera()
    noise = np.random.default_rng(1).normal(0, 1, (40, 2))
    pixels = project(points, truth, 800, WIDTH, HEIGHT) + noise
    pose, _, residual = solve_pose(points, pixels, WIDTH, HEIGHT, camera((0, 0, 0)), 800)
    assert 0.8 * np.sqrt(2) < residual < 1.1 * np.sqrt(2)  # of two coordinates
    assert angle(pose, truth) < 1
    # no other camera nearby fits better
    assert residual <= np.sqrt(((project(points, truth, 800, WIDTH, HEIGHT) - pixels) ** 2).sum(1).mean())


def test_one_pin_shifts_the_face_and_nothing_else():
    points, start = face(1), camera((0.1, 0.2, 0))
    target = project(points, start, 800, WIDTH, HEIGHT) + (50, -30)
    pose, _, residual = solve_pose(points, target, WIDTH, HEIGHT, start, 800)
    assert residual < 0.01
    np.testing.assert_allclose(pose[:3, :3], start[:3, :3], atol=1e-6)
    assert (points @ pose[2, :3] + pose[2, 3])[0] == pytest.approx((points @ start[2, :3] + start[2, 3])[0], rel=0.02)


def test_two_pins_resize_and_roll_but_hardly_tilt():
    start = camera((0, 0, 0), (0, 0, 1))
    points = np.array([[-0.05, 0, 0], [0.05, 0, 0.0]])
    pixels = project(points, start, 800, WIDTH, HEIGHT)
    pose, _, residual = solve_pose(points, pixels * 1.2 - (64, 48), WIDTH, HEIGHT, start, 800)
    assert residual < 0.01
    assert pose[2, 3] == pytest.approx(1 / 1.2, rel=0.01) and angle(pose, start) < 0.5
    pixels = project(points @ _rotation(np.array([0, 0, 0.3])).T, start, 800, WIDTH, HEIGHT)
    pose, _, residual = solve_pose(points, pixels, WIDTH, HEIGHT, start, 800)
    np.testing.assert_allclose(pose[:3, :3], _rotation(np.array([0, 0, 0.3])), atol=0.01)


def test_pins_that_already_fit_move_nothing():
    points, start = face(5), camera()
    pixels = project(points, start, 800, WIDTH, HEIGHT)
    pose, focal, residual = solve_pose(points, pixels, WIDTH, HEIGHT, start, 800, True)
    assert residual < 1e-6 and focal == pytest.approx(800)
    np.testing.assert_allclose(pose, start, atol=1e-9)


def test_points_in_a_plane():
    points, truth = face(8) * (1, 1, 0), camera()
    pixels = project(points, truth, 800, WIDTH, HEIGHT)
    pose, _, residual = solve_pose(points, pixels, WIDTH, HEIGHT, camera((0.1, -0.2, 0)), 800)
    assert residual < 0.01 and angle(pose, truth) < 0.1


def test_all_pins_on_one_vertex_settle_in_the_middle():
    points, start = np.repeat(face(1), 7, 0), camera()
    pixels = np.random.default_rng(2).uniform(200, 300, (7, 2))
    pose, _, residual = solve_pose(points, pixels, WIDTH, HEIGHT, start, 800, True)
    np.testing.assert_allclose(project(points[:1], pose, 800, WIDTH, HEIGHT)[0], pixels.mean(0), atol=0.1)
    np.testing.assert_allclose(pose[:3, :3], start[:3, :3], atol=1e-3)
    assert residual == pytest.approx(np.sqrt(((pixels - pixels.mean(0)) ** 2).sum(1).mean()), rel=1e-3)


def test_a_camera_that_looks_away_or_stands_in_the_face():
    points, truth = face(5), camera((0, 0, 0))
    pixels = project(points, truth, 800, WIDTH, HEIGHT)
    for place in ((0, 0, -2.0), (0, 0, 0.05)):
        pose, _, residual = solve_pose(points, pixels, WIDTH, HEIGHT, camera((0, 0, 0), place), 800)
        assert residual < 0.01 and angle(pose, truth) < 0.1


def test_bad_pins_are_refused_in_words():
    with pytest.raises(UnderstudyError, match="no pins"):
        solve_pose(np.zeros((0, 3)), np.zeros((0, 2)), WIDTH, HEIGHT, camera(), 800)
    for points, pixels, focal in (((np.nan, 0, 0), (1, 1), 800), ((0, 0, 0), (np.inf, 1), 800), ((0, 0, 0), (1, 1), 0)):
        with pytest.raises(UnderstudyError, match="not a number"):
            solve_pose(np.array([points]), np.array([pixels]), WIDTH, HEIGHT, camera(), focal)
