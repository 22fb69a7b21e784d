"""Who meets whom when lips or lids close, and how far they stay apart."""

import numpy as np
import pytest

from understudy.core import gaps

ACROSS = np.linspace(0, 40, 9)  # mm


def mouth(opening: float) -> np.ndarray:
    """An upper and a lower row of 9 vertices, `opening` mm apart; behind the upper a row that moves with it."""
    upper = np.stack([ACROSS, np.zeros(9), np.zeros(9)], axis=1)
    return np.concatenate([upper, upper + [0.3, -0.5 - opening, 0], upper + [0, 1.2, -1]]).astype(np.float32)


def test_the_two_sides_of_an_opening_are_paired():
    pairs = gaps.find_pairs(np.stack([mouth(0), mouth(3), mouth(12)]), 1.0)
    assert sorted(map(tuple, pairs)) == [(i, i + 9) for i in range(9)]


def test_units_do_not_matter():
    centimetres = np.stack([mouth(0), mouth(12)]) / 10
    assert len(gaps.find_pairs(centimetres, 10.0)) == 9


@pytest.mark.parametrize("openings", [(0, 2), (4, 15)], ids=["never opens", "never closes"])
def test_what_never_opens_or_never_closes_has_no_pairs(openings):
    assert gaps.find_pairs(np.stack([mouth(one) for one in openings]), 1.0).shape == (0, 2)


def test_a_head_that_moves_opens_nothing():
    there = mouth(0) + np.array([500, -300, 200], np.float32)
    assert len(gaps.find_pairs(np.stack([mouth(0), there]), 1.0)) == 0


def test_width_is_the_mean_distance_of_the_pairs():
    pairs = np.array([[i, i + 9] for i in range(9)])
    meshes = np.stack([mouth(0), mouth(4)]) / 10
    np.testing.assert_allclose(gaps.width(meshes, pairs, 10.0), np.hypot(0.3, [0.5, 4.5]), rtol=1e-5)


def test_shut_is_the_narrow_end_of_the_range():
    widths = np.concatenate([np.full(50, 1.0), np.linspace(1, 11, 50)])
    assert gaps.shut_below(widths) == pytest.approx(2, abs=0.1)
