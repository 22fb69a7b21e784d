"""Error measures against figures worked out independently."""

import numpy as np
import pytest

from understudy.core import metrics


def test_rmse_is_over_euclidean_distances_in_millimetres():
    target = np.zeros((2, 4, 3), np.float32)
    predicted = target.copy()
    predicted[0] += [3, 0, 4]  # every vertex 5 cm off
    predicted[1, 0] = [0, 0, 2]  # one of four vertices 2 cm off
    np.testing.assert_allclose(metrics.rmse_per_frame(predicted, target, millimetres=10), [50, 10])


def test_one_mesh_can_be_held_against_all_frames():
    target = np.ones((3, 5, 3), np.float32)
    np.testing.assert_allclose(metrics.rmse_per_frame(np.zeros((5, 3)), target, 1), np.sqrt([3, 3, 3]))


def test_loss_and_rmse_agree_with_the_paper():
    assert metrics.loss_to_rmse(0.0028, millimetres=10) == pytest.approx(0.92, abs=0.005)
    generator = np.random.default_rng(0)
    predicted, target = generator.normal(size=(2, 7, 11, 3)).astype(np.float32)
    loss = np.mean((predicted - target) ** 2)
    assert metrics.pooled(metrics.rmse_per_frame(predicted, target, 25.4)) == pytest.approx(
        metrics.loss_to_rmse(loss, 25.4), rel=1e-6)


def test_mean_mesh_does_not_depend_on_the_chunks():
    frames = np.random.default_rng(1).normal(100, 1, (10, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(metrics.mean_mesh([frames[:3], frames[3:]]), frames.mean(axis=0), rtol=1e-6)


def test_nearest_frame_is_chosen_by_its_picture():
    training = np.random.default_rng(2).integers(0, 256, (6, 320, 240), dtype=np.uint8)
    queries = training[[4, 1]] // 8 * 8  # the same pictures, coarser
    assert metrics.nearest(metrics.thumbnails(queries), metrics.thumbnails(training)).tolist() == [4, 1]


def test_thumbnails_are_block_means():
    picture = np.zeros((1, 320, 240), np.uint8)
    picture[0, 8:16, 16:20] = 100
    thumbnail = metrics.thumbnails(picture).reshape(40, 30)
    assert thumbnail[1, 2] == 50 and thumbnail.sum() == 50


def moving_shot(frames: int = 200) -> np.ndarray:
    """At rest, then in motion: (frames, 6, 3) in cm."""
    time = np.arange(frames) / 30
    path = np.where(np.arange(frames) < frames // 2, 0, 1 - np.cos(8 * (time - time[frames // 2])))
    shape = np.random.default_rng(3).normal(size=(6, 3))
    return (path[:, None, None] * shape).astype(np.float32)


def figures(predicted: np.ndarray, target: np.ndarray, chunk: int, samples: np.ndarray | None = None) -> dict:
    regions = {"all": np.arange(6), "some": np.array([1, 4])}
    motion = metrics.Motion(regions, millimetres=10)
    samples = np.arange(len(target)) if samples is None else samples
    for at in range(0, len(target), chunk):
        motion.add(samples[at:at + chunk], predicted[at:at + chunk], target[at:at + chunk])
    return metrics.motion_figures(motion.sums(), regions)


def test_temporal_noise_finds_jitter_in_still_passages_only():
    target = moving_shot()
    jitter = np.random.default_rng(4).normal(0, 0.02, target.shape).astype(np.float32)  # 0.2 mm a coordinate
    result = figures(target + jitter, target, chunk=64)
    expected = 0.2 * np.sqrt(6 * 3)  # second difference of white noise has variance 1 + 4 + 1 times its own
    assert result["all"]["noise_mm"] == pytest.approx(expected, rel=0.1)
    assert result["all"]["target_noise_mm"] == 0
    assert 95 <= result["all"]["still_frames"] <= 105  # the first half


def test_motion_figures_do_not_depend_on_the_chunks():
    target = moving_shot() + np.float32(50)
    predicted = target + np.random.default_rng(5).normal(0, 0.01, target.shape).astype(np.float32)
    whole, pieces = figures(predicted, target, chunk=200), figures(predicted, target, chunk=1)
    for name in whole:
        assert pieces[name] == pytest.approx(whole[name], rel=1e-3)


def test_attenuation_is_the_ratio_of_standard_deviations():
    target = moving_shot()
    result = figures(0.6 * target + 5, target, chunk=30)
    assert result["all"]["attenuation"] == pytest.approx(0.6, rel=1e-3)
    assert result["some"]["attenuation"] == pytest.approx(0.6, rel=1e-3)


def test_an_excluded_frame_breaks_a_still_passage():
    target = np.zeros((10, 6, 3), np.float32)
    samples = np.array([0, 1, 2, 3, 4, 6, 7, 8, 9, 10])
    assert figures(target, target, 10, samples)["all"]["still_frames"] == 6
    assert figures(target, target, 3, samples)["all"]["still_frames"] == 6


def test_no_still_passage_and_no_motion_give_no_figure():
    moving = np.arange(10, dtype=np.float32)[:, None, None] * np.ones((1, 6, 3), np.float32)
    assert figures(moving, moving, 10)["all"]["noise_mm"] is None
    assert figures(moving, np.zeros_like(moving), 10)["all"]["attenuation"] is None
