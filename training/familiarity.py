"""At the end of training: what the model knows of its footage, and what error to expect of an unfamiliar frame.

Novelty (core/familiarity.py) is measured on the validation shots, as they are and with faults planted into them that go
beyond what augmentation has shown the network; the error that it stands for is a power of it, fitted by region.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from ..core.batches import novelty
from ..core.engine import reduced_precision
from ..core.familiarity import COMPONENTS, Familiarity
from ..core.model import Model, confidence_weights
from . import augment
from .config import Config
from .dataset import Frames

TRAINING_FRAMES = 1000    # looked at, evenly spread
VALIDATION_FRAMES = 300   # looked at twice: as they are, and with a fault
FAULT = 2.0               # strength of the augmentation in planted faults; training's is 1
PATCH = 60                # input pixels, side of a patch that hides a part of the face
CLEAN_WEIGHT = 3.0        # of a frame as it is, against one with a fault
LEAST = 1e-3
BLOCK = 25


def learn_familiarity(model: Model, frames: Frames, validation: Frames | None, config: Config, device: torch.device,
                      ) -> Familiarity:
    """What a trained convolutional model is familiar with; as much work as to solve `looked_at` frames.

    frames, validation : that it was trained on and judged by.    config : with the augmentation of training.
    """
    rng = np.random.default_rng(config.seed)
    features = np.concatenate([_features(model, frames, block, config, 1.0, rng, device)
                               for block in _blocks(frames, TRAINING_FRAMES)])
    mean, head = features.mean(axis=0), Head(model)
    known = Familiarity(mean, _components(features - mean), _metric(head.output), head.codes(features))
    if not validation:
        return known
    return replace(known, expected=learn_errors(model, known, validation, config, device))


def learn_errors(model: Model, known: Familiarity, validation: Frames, config: Config, device: torch.device,
                 ) -> dict[str, tuple[float, float]]:
    """`Familiarity.expected`, of frames that the model was not trained on."""
    rng, head = np.random.default_rng(config.seed), Head(model)
    seen, errors, weight = [], [], []
    for strength in (0.0, FAULT):
        for block in _blocks(validation, VALIDATION_FRAMES):
            features = _features(model, validation, block, config, strength, rng, device)
            seen.append(head.novelty(known, features))
            errors.append(head.errors(features, validation.targets(block)))
            weight.append(np.full(len(block), 1.0 if strength else CLEAN_WEIGHT))
    names, weight = ["all", *sorted(model.regions)], np.concatenate(weight)
    columns = zip(names, np.concatenate(seen).T, np.concatenate(errors).T, strict=True)
    return {name: fit_power(novelties, truth, weight) for name, novelties, truth in columns}


def looked_at(frames: Frames, validation: Frames | None) -> int:
    """How many frames `learn_familiarity` looks at."""
    return min(TRAINING_FRAMES, len(frames)) + 2 * min(VALIDATION_FRAMES, len(validation or ()))


def fit_power(seen: np.ndarray, errors: np.ndarray, weight: np.ndarray | None = None) -> tuple[float, float]:
    """Factor and power by which errors (n,) mm follow novelties (n,) mm, by least squares of their logarithms.

    The power is kept between 0.3 and 3, so that a few frames cannot make it meaningless.
    """
    x, y = np.log(np.maximum(seen, LEAST)), np.log(np.maximum(errors, LEAST))
    weight = np.ones(len(x)) if weight is None else weight
    x0, y0 = np.average(x, weights=weight), np.average(y, weights=weight)
    varies = np.average(np.square(x - x0), weights=weight)
    power = np.average((x - x0) * (y - y0), weights=weight) / varies if varies > 1e-6 else 1.0
    power = float(np.clip(power, 0.3, 3.0))
    return float(np.exp(y0 - power * x0)), power


def _blocks(frames: Frames, count: int) -> Iterator[np.ndarray]:
    """Indices of at most `count` frames, evenly spread, some at a time."""
    chosen = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
    yield from np.array_split(chosen, -(-len(chosen) // BLOCK))


@torch.inference_mode()
def _features(model: Model, frames: Frames, indices: np.ndarray, config: Config, strength: float,
              rng: np.random.Generator, device: torch.device) -> np.ndarray:
    """Features of frames, (n, F) float32, augmented by `strength`; beyond 1 a patch hides a part of half of them."""
    maps = augment.matrices(config, strength, len(indices), rng) if strength else None
    inputs = frames.inputs(indices, maps)
    if strength > 1:
        for picture in inputs[::2]:
            top, left = rng.integers(0, picture.shape[0] - PATCH), rng.integers(0, picture.shape[1] - PATCH)
            picture[top:top + PATCH, left:left + PATCH] = rng.integers(0, 256)
    mean, deviation = model.whitening
    whitened = (torch.from_numpy(inputs)[:, None].to(device).float() - mean) / deviation
    light = torch.from_numpy(augment.light(config, strength, len(indices), rng)).to(device)
    whitened = whitened * light[:, 0].view(-1, 1, 1, 1) + light[:, 1].view(-1, 1, 1, 1)
    return model.network.features(whitened, reduced_precision(device)).cpu().numpy()


def _metric(weights: np.ndarray) -> np.ndarray:
    """(K, K) float32, by which a code is as long as the RMSE, in mm, that it causes.    weights : (3 n, K), cm."""
    weights = weights.astype(np.float64)
    values, vectors = np.linalg.eigh(weights.T @ weights * 300 / len(weights))  # mm2 a vertex
    return (vectors * np.sqrt(np.maximum(values, 0))).T.astype(np.float32)


def _components(features: np.ndarray) -> np.ndarray:
    """The principal components of centred features, (D, F) float32; from the smaller of the two Gram matrices."""
    values, vectors = np.linalg.eigh(features @ features.T)
    kept = np.flatnonzero(values > 1e-6 * max(values[-1], 1e-12))[-COMPONENTS:]
    if not len(kept):  # all frames are identical
        kept, values = np.array([len(values) - 1]), np.ones(len(values))
    return (vectors[:, kept].T @ features / np.sqrt(values[kept])[:, None]).astype(np.float32)


class Head:
    """What is behind the convolutions of a model, on the processor."""

    def __init__(self, model: Model):
        network, animated = model.network, model.animated
        self.fc, self._fc_bias, self.output, self._output_bias = (
            value.detach().cpu().numpy() for value in (network.fc.weight, network.fc.bias, network.output.weight,
                                                       network.output.bias))
        self.confidence = torch.from_numpy(confidence_weights(network, animated, model.regions))
        self._parts = [np.ones(len(animated), bool), *(np.isin(animated, model.regions[name])
                                                       for name in sorted(model.regions))]
        self._centimetres = model.centimetres

    def codes(self, features: np.ndarray) -> np.ndarray:
        return features @ self.fc.T + self._fc_bias

    def vertices(self, codes: np.ndarray) -> np.ndarray:
        """(n, 3 A) cm."""
        return codes @ self.output.T + self._output_bias

    def novelty(self, known: Familiarity, features: np.ndarray) -> np.ndarray:
        arrays = (torch.from_numpy(array) for array in (features, known.mean, known.components))
        return novelty(*arrays, self.confidence).numpy()

    def errors(self, features: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """RMSE in mm, (n, 1 + regions).    targets : (n, A, 3) in mesh units."""
        outputs = self.vertices(self.codes(features))
        squares = np.square(outputs.reshape(targets.shape) - targets * self._centimetres).sum(axis=2) * 100
        return np.stack([np.sqrt(squares[:, part].sum(axis=1) / max(1, part.sum())) for part in self._parts], axis=1)
