"""What several tests share."""

import numpy as np
import pytest
import torch

from understudy.core.crop import Crop
from understudy.core.model import Model
from understudy.core.network import Network
from understudy.core.topology import make_mesh


@pytest.fixture(scope="session")
def small_model():
    """A function that makes an untrained model of 8 vertices, 5 of them animated."""
    return _small_model


def _small_model(seed: int = 0) -> Model:
    torch.manual_seed(seed)
    vertices = np.random.default_rng(seed).standard_normal((8, 3)).astype(np.float32)
    mesh = make_mesh(vertices, np.array([4, 4]), np.array([0, 1, 2, 3, 4, 5, 6, 7]))
    animated = np.array([1, 2, 4, 5, 7], np.int32)
    basis = np.random.default_rng(1).standard_normal((6, 5, 3)).astype(np.float32)
    return Model("Zoë", 0.01, Crop(12, 16, 240, 320), "sRGB", mesh, animated, np.array([0], np.int32),
                 {"lips": np.array([2, 4], np.int32), "brows": np.array([7], np.int32)}, (101.5, 42.25),
                 vertices[animated], basis, Network(15, 6), {"validation": {"rmse_mm": 0.9}})
