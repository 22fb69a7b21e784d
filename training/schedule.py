"""Learning rate, beta1 and augmentation strength over a run (paper, Sec. 4.1 and 4.2).

All are functions of `done`, the fraction of the run that lies behind, 0..1.
"""

import math

from .config import Config


def learning_rate(config: Config, done: float) -> float:
    """Geometric ramp-up, then 1/sqrt(t), then half a cosine down to zero (Sec. 4.2).

    t counts in ramp-up lengths: with the paper's 200 epochs, in epochs. The body starts at the ramp-up's end.
    """
    if done < config.ramp_up:
        rate = config.learning_rate * config.ramp_start ** (1 - done / config.ramp_up)
    else:
        rate = config.learning_rate * math.sqrt(config.ramp_up / done)
    return rate * (1 - _ramp_down(config, done))


def beta1(config: Config, done: float) -> float:
    """Adam's beta1: 0.9, then to 0.5 while the learning rate goes to zero (Sec. 4.2)."""
    return config.beta1 + (config.beta1_end - config.beta1) * _ramp_down(config, done)


def augmentation(config: Config, done: float) -> float:
    """Strength of every augmentation, 0..1: grows linearly from zero (Sec. 4.2)."""
    return min(1.0, done / config.augment_ramp) if config.augment_ramp else 1.0


def _ramp_down(config: Config, done: float) -> float:
    """0 before the ramp-down, then half a cosine to 1 at the end: smooth at both ends, as the paper asks."""
    into = min(1.0, max(0.0, 1 - (1 - done) / config.ramp_down))
    return 0.5 - 0.5 * math.cos(math.pi * into)
