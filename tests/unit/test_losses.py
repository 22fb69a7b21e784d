"""What may be added to the paper's loss, against sums worked out by hand; off, it changes nothing."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from understudy.core.errors import UnderstudyError
from understudy.training.config import Config
from understudy.training.feed import in_pairs
from understudy.training.losses import NEAR, Extra

CPU = torch.device("cpu")
FRAMES, VERTICES = 4, 6


@pytest.fixture
def both():
    """Outputs and targets (4, 18), cm."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, FRAMES, 3 * VERTICES, generator=generator).double()


def term(both, follows=None, weights=None, pairs=None, **config):
    outputs, targets = both
    return Extra(Config(**config), weights, pairs, CPU)(outputs, targets, follows, FRAMES).item()


def mean_square(errors: torch.Tensor) -> float:
    """As a share of the step's loss, which counts every coordinate of every frame."""
    return errors.square().sum().item() / (FRAMES * 3 * VERTICES)


def test_weights_make_vertices_count_as_painted(both):
    weights = np.array([0, 1, 1, 1, 1, 2], np.float32)
    errors = (both[0] - both[1]).view(FRAMES, VERTICES, 3)
    wanted = mean_square(errors * torch.from_numpy(weights).sqrt()[:, None]) - mean_square(errors)
    assert term(both, weights=weights) == pytest.approx(wanted, rel=1e-6)


def test_velocity_counts_how_the_error_changes_between_frames_that_follow(both):
    errors = both[0] - both[1]
    follows = torch.tensor([0.0, 1, 0, 0])
    assert term(both, follows, velocity=3.0) == pytest.approx(3 * mean_square(errors[1] - errors[0]), rel=1e-6)
    steady = both.clone()
    steady[0] = steady[1] + 0.5  # wrong, but the same in every frame
    assert term(steady, torch.tensor([0.0, 1, 1, 1]), velocity=3.0) == pytest.approx(0, abs=1e-12)


def test_gaps_count_what_lies_between_the_sides_and_most_where_they_meet(both):
    outputs, targets = both.clone()
    targets.view(FRAMES, VERTICES, 3)[:, 1] = targets.view(FRAMES, VERTICES, 3)[:, 0]  # shut
    apart = targets.view(FRAMES, VERTICES, 3)
    apart[2:, 1, 1] += NEAR                                                            # open by as much as NEAR
    errors = (outputs - targets).view(FRAMES, VERTICES, 3)
    between = errors[:, 0] - errors[:, 1]
    wanted = mean_square(between[:2]) + mean_square(between[2:]) / 2
    assert term((outputs, targets), pairs=np.array([[0, 1]]), gaps=1.0) == pytest.approx(wanted, rel=1e-6)


def test_a_face_without_gaps_adds_nothing(both):
    assert term(both, pairs=np.empty((0, 2), np.int64), gaps=10.0) == 0


def test_all_off_is_the_paper_loss():
    assert Extra.of(Config(), SimpleNamespace(weights=np.ones(3)), CPU) is None


def test_painted_weights_are_those_of_the_animated_vertices_with_mean_one():
    actor = SimpleNamespace(weights=np.array([9, 1, 3], np.float32), animated=np.array([1, 2]))
    np.testing.assert_allclose(Extra.of(Config(painted=True), actor, CPU).weights + 1, [0.5, 1.5])


@pytest.mark.parametrize("weights", [np.array([1, 0, 0], np.float32), None], ids=["on what never moves", "none"])
def test_weights_that_leave_nothing_to_learn_are_refused(weights):
    actor = SimpleNamespace(name="Otto", weights=weights, animated=np.array([1, 2]))
    with pytest.raises(UnderstudyError, match="[Pp]aint"):
        Extra.of(Config(painted=True), actor, CPU)


def test_pairs_stay_within_a_shot_and_skip_what_is_excluded():
    class Listed:
        shot, sample = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 3, 0, 1])

        def __len__(self):
            return len(self.shot)

    indices, follows = in_pairs(np.array([0, 9, 1, 9, 2, 9, 3, 9, 4]), Listed())
    assert indices.tolist() == [0, 1, 1, 9, 2, 9, 3, 4, 4]
    assert np.flatnonzero(follows).tolist() == [1, 7]
