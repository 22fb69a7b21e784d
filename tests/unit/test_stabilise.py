import numpy as np
import pytest

from understudy.core.errors import UnderstudyError
from understudy.core.meshcache import cache_writer, read_cache
from understudy.core.stabilise import Motion, check_stabiliser, describe, fit, join, quaternions, stabilise

RNG = np.random.default_rng(3)
TEMPLATE = RNG.uniform(-8, 8, (200, 3)).astype(np.float32)
STABILISER = np.arange(0, 40)


def turned(axis, angle):
    """Rodrigues."""
    x, y, z = np.asarray(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def performance(frames=30):
    """A face that moves outside its stabiliser, on a head that moves: still, rotations, translations, tracked."""
    still = np.repeat(TEMPLATE[None], frames, 0).astype(np.float64)
    still[:, 40:] += RNG.normal(0, 1, (frames, 160, 3))
    rotations = np.stack([turned([1, 2, .5], angle) for angle in np.linspace(-2.5, 2.5, frames)])
    translations = np.cumsum(RNG.normal(0, 1, (frames, 3)), 0)
    return still, rotations, translations, still @ rotations.transpose(0, 2, 1) + translations[:, None]


def test_the_heads_motion_is_found_taken_out_and_put_back():
    still, rotations, translations, tracked = performance()
    motion = fit(tracked[:, STABILISER], TEMPLATE[STABILISER])
    assert np.allclose(motion.rotations, rotations, atol=1e-9) and np.allclose(motion.translations, translations)
    assert motion.residuals.max() < 1e-9
    assert np.abs(motion.take_out(tracked) - still).max() < 1e-4
    assert np.abs(motion.put_back(motion.take_out(tracked)) - tracked).max() < 1e-4


def test_residual_and_weights_tell_of_a_stabiliser_that_slides():
    _, _, _, tracked = performance()
    tracked[7, 3] += 10
    plain = fit(tracked[:, STABILISER], TEMPLATE[STABILISER])
    assert plain.residuals.argmax() == 7 and plain.residuals[7] > 1
    weights = np.ones(40)
    weights[3] = 0
    assert fit(tracked[:, STABILISER], TEMPLATE[STABILISER], weights).residuals.max() < 1e-9


def test_a_flat_stabiliser_is_turned_never_mirrored():
    flat = TEMPLATE[STABILISER] * [1, 1, 0]
    noisy = (flat @ turned([0, 1, 0], 2).T + RNG.normal(0, 1e-3, (1, 40, 3)))
    motion = fit(noisy, flat)
    assert np.linalg.det(motion.rotations[0]) == pytest.approx(1)
    assert np.allclose(motion.rotations[0], turned([0, 1, 0], 2), atol=1e-3)


def test_a_cache_is_streamed(tmp_path):
    still, _, _, tracked = performance()
    with cache_writer(tmp_path / "a.pc2", 200, 30) as writer:
        writer.write(tracked)
    pieces = list(stabilise(read_cache(tmp_path / "a.pc2"), TEMPLATE, STABILISER))
    assert np.abs(np.concatenate([piece for piece, _ in pieces]) - still).max() < 1e-4
    motion = join([part for _, part in pieces], first=12)
    assert len(motion) == 30 and motion.first == 12
    assert "residual is 0.00 mm, at most 0.00 mm" in describe(motion, TEMPLATE[STABILISER].mean(0), 10)


@pytest.mark.parametrize("chosen", [[], [1], [1, 2]])
def test_too_few_stabilisers_are_refused(chosen):
    with pytest.raises(UnderstudyError, match=f"has {len(chosen)} vertices"):
        check_stabiliser(TEMPLATE, np.array(chosen, int))


def test_stabilisers_on_a_line_are_refused():
    line = np.arange(5.0)[:, None] * [1, 2, 3]
    with pytest.raises(UnderstudyError, match="do not lie on a line"):
        check_stabiliser(line, np.arange(5))


def test_motion_is_saved_and_damage_is_noticed(tmp_path):
    _, rotations, translations, _ = performance()
    motion = Motion(rotations, translations, np.ones(30), 5)
    motion.save(tmp_path / "ä.npz")
    again = Motion.load(tmp_path / "ä.npz")
    assert again.first == 5 and np.array_equal(again.rotations, rotations) and len(again) == 30
    np.savez(tmp_path / "bad.npz", rotations=rotations[:3], translations=translations, residuals=np.ones(30), first=[0])
    with pytest.raises(UnderstudyError, match="is damaged"):
        Motion.load(tmp_path / "bad.npz")
    with pytest.raises(UnderstudyError, match="no head motion at"):
        Motion.load(tmp_path / "none.npz")


def test_quaternions_turn_the_short_way_and_are_the_rotations():
    rotations = np.stack([turned([.2, 1, .4], angle) for angle in np.linspace(0, 4 * np.pi, 60)])
    found = quaternions(rotations)
    assert ((found[1:] * found[:-1]).sum(1) > 0.9).all() and np.allclose(np.linalg.norm(found, axis=1), 1)
    w, v = found[:, :1], found[:, 1:]
    point = np.array([1.0, 2, 3])
    cross = np.cross(v, point)
    assert np.allclose(point + 2 * (w * cross + np.cross(v, cross)), rotations @ point)
