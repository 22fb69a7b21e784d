"""What may be added to the paper's loss (Sec. 4.2), which counts every coordinate of every frame alike. All off unless
the configuration says otherwise; the loss that is reported is the paper's in any case.

- Painted weights: vertices count as much as the artist painted them.
- Velocity: the error should not change from a frame to the next, which is what looks restless.
- Gaps: what lies between the two vertices of a pair of lips or lids should be right, most of all where they meet
  (core/gaps.py).
"""

import numpy as np
import torch

from ..core.actor import Actor
from ..core.errors import UnderstudyError
from ..core.gaps import find_openings
from .config import Config

NEAR = 0.2     # cm, the width of a gap at which its error counts half as much as when it is shut


class Extra:
    """The terms that a configuration adds, in cm2 as the paper's loss, so that they can be summed.

    weights : (A,) float32 of mean 1, or None.    pairs : (P, 2) int64 into the animated vertices, or None.
    """

    def __init__(self, config: Config, weights: np.ndarray | None, pairs: np.ndarray | None, device: torch.device):
        self.config = config
        self.weights = None if weights is None else torch.from_numpy(weights - 1).to(device)
        self.pairs = None if pairs is None else torch.from_numpy(pairs).to(device).T

    @classmethod
    def of(cls, config: Config, actor: Actor, device: torch.device) -> "Extra | None":
        """The terms for an actor; None where nothing is added. UnderstudyError if nothing useful is painted."""
        if not (config.painted or config.velocity or config.gaps):
            return None
        weights = None
        if config.painted:
            weights = np.zeros(1) if actor.weights is None else actor.weights[actor.animated]
            if not weights.any():
                raise UnderstudyError(f"{actor.name} has no painted weights on what the network moves. Paint a vertex "
                                      "group and store it with Use Painted Weights, or train without them.")
            weights = weights / weights.mean()
        pairs = None
        if config.gaps:
            openings = find_openings(actor, actor.training_shots()).values()
            pairs = np.concatenate([np.empty((0, 2), np.int64), *(one.vertices[one.pairs] for one in openings)])
        return cls(config, weights, pairs, device)

    def __call__(self, outputs: torch.Tensor, targets: torch.Tensor, follows: torch.Tensor | None,
                 count: int) -> torch.Tensor:
        """Their sum over some frames of a step of `count`, a number.

        outputs, targets : (n, 3 A) cm.    follows : (n,) bool, whether a frame comes right after the one before it.
        """
        errors = (outputs - targets).view(len(outputs), -1, 3)
        total = outputs.new_zeros(())
        if self.weights is not None:
            total = total + (errors.square().sum(2) * self.weights).sum()
        if self.config.velocity:
            change = (errors[1:] - errors[:-1]).square().sum((1, 2))
            total = total + self.config.velocity * (change * follows[1:]).sum()
        if self.pairs is not None:
            first, second = self.pairs
            true = targets.view_as(errors)
            apart = (true[:, first] - true[:, second]).square().sum(2)
            wrong = (errors[:, first] - errors[:, second]).square().sum(2)
            total = total + self.config.gaps * (wrong / (1 + apart / NEAR ** 2)).sum()
        return total / (count * targets.shape[1])
