"""Learning rate, beta1 and augmentation strength against the paper's words (Sec. 4.2)."""

import dataclasses

import pytest

from understudy.core.errors import UnderstudyError
from understudy.training.config import PRESETS, Config
from understudy.training.schedule import augmentation, beta1, learning_rate

PAPER = Config.preset("paper")


def at_epoch(function, epoch: float) -> float:
    return function(PAPER, epoch / 200)


def test_the_rate_grows_by_the_same_ratio_through_the_first_epoch():
    rates = [at_epoch(learning_rate, e) for e in (0, 0.25, 0.5, 0.75, 1)]
    ratios = [b / a for a, b in zip(rates, rates[1:], strict=False)]
    assert ratios == pytest.approx([ratios[0]] * 4) and ratios[0] > 1
    assert rates[-1] == pytest.approx(PAPER.learning_rate)


def test_the_body_falls_with_the_square_root_of_time():
    assert at_epoch(learning_rate, 4) == pytest.approx(PAPER.learning_rate / 2)
    assert at_epoch(learning_rate, 100) == pytest.approx(PAPER.learning_rate / 10)


def test_the_last_30_epochs_lead_smoothly_to_zero_and_beta1_to_a_half():
    assert at_epoch(beta1, 170) == pytest.approx(0.9)
    assert at_epoch(beta1, 185) == pytest.approx(0.7)
    assert at_epoch(beta1, 200) == pytest.approx(0.5)
    assert at_epoch(learning_rate, 200) == 0
    body = PAPER.learning_rate / 170 ** 0.5
    assert at_epoch(learning_rate, 170) == pytest.approx(body)
    assert at_epoch(learning_rate, 170.1) == pytest.approx(body, rel=1e-3)  # no kink
    assert at_epoch(learning_rate, 199.9) < 1e-4 * body


def test_augmentation_grows_linearly_over_five_epochs():
    assert [at_epoch(augmentation, e) for e in (0, 1, 2.5, 5, 100)] == pytest.approx([0, 0.2, 0.5, 1, 1])


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_json(name):
    config = Config.preset(name)
    assert Config.from_json(config.to_json()) == config


def test_the_paper_preset_has_the_papers_numbers():
    assert (PAPER.epochs, PAPER.batch, PAPER.components, PAPER.beta1, PAPER.beta2, PAPER.epsilon) == (
        200, 50, 160, 0.9, 0.999, 1e-8)


@pytest.mark.parametrize("values", [{"epochs": 0}, {"batch": 0}, {"minutes": 0}, {"learning_rate": -1}])
def test_senseless_numbers_are_refused(values):
    with pytest.raises(UnderstudyError):
        dataclasses.replace(PAPER, **values)


@pytest.mark.parametrize("values", [{"epoch": 3}, {"batch": "fifty"}, {"epochs": None}])
def test_a_strange_configuration_file_is_refused(values):
    with pytest.raises(UnderstudyError, match=next(iter(values))):
        Config.from_json(values)
