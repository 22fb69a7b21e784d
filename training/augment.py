"""Data augmentation (paper, Sec. 4.1): translation, rotation, zoom, brightness and contrast.

The geometric steps are one matrix, applied by the single resampling that makes every input (core/crop.py), so that
borders that move into the picture show what the camera saw there. Image noise, gamma and perspective are left out:
the paper found that the first two hurt and the third does not help (Sec. 5.2).
"""

import numpy as np
import torch
import torch.nn.functional as F

from ..core.crop import HEIGHT, WIDTH
from .config import Config


def matrices(config: Config, strength: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random motions of the picture, (count, 3, 3): maps from augmented input to plain input, continuous pixels.

    strength : 0..1 scales every magnitude. Rotation and zoom turn about the middle of the input.
    """
    shift = rng.uniform(-1, 1, (count, 2)) * strength * config.translation
    angle = np.radians(rng.uniform(-1, 1, count) * strength * config.rotation)
    scale = np.exp(rng.uniform(-1, 1, count) * strength * np.log1p(config.zoom))
    cos, sin, zero, one = scale * np.cos(angle), scale * np.sin(angle), np.zeros(count), np.ones(count)
    turn = np.array([[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]]).transpose(2, 0, 1)
    middle = np.array([[1, 0, WIDTH / 2], [0, 1, HEIGHT / 2], [0, 0, 1]])
    result = middle @ turn @ np.linalg.inv(middle)
    result[:, :2, 2] += shift
    return result


def light(config: Config, strength: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random gain and offset of each whitened picture, (count, 2) float32."""
    gain = np.exp(rng.uniform(-1, 1, count) * strength * np.log1p(config.contrast))
    offset = rng.uniform(-1, 1, count) * strength * config.brightness
    return np.stack([gain, offset], axis=1).astype(np.float32)


def sample_on_device(pictures: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """core.crop.sample for a batch on the device that holds it.

    pictures : (N, H, W) uint8.    maps : (N, 3, 3) float32 from input to picture, continuous pixels.
    Returns (N, 1, 320, 240) float32, gray levels. Agrees with core.crop.sample to about a gray level, which rounds
    positions to 1/32 pixel.
    """
    height, width = pictures.shape[1:]
    # affine_grid and grid_sample count both pictures from -1 to 1 between their outer edges. Written with numbers
    # alone: a constant matrix would have to be copied to the device, which a CUDA graph cannot.
    x, y = maps[:, :2, 0] * (WIDTH / 2), maps[:, :2, 1] * (HEIGHT / 2)
    moved = torch.stack([x, y, x + y + maps[:, :2, 2]], 2)
    theta = torch.stack([moved[:, 0] * (2 / width), moved[:, 1] * (2 / height)], 1)
    theta[:, :, 2] -= 1
    grid = F.affine_grid(theta, [len(maps), 1, 2 * HEIGHT, 2 * WIDTH], align_corners=False)
    fine = F.grid_sample(pictures[:, None].to(grid.dtype), grid, padding_mode="border", align_corners=False)
    return F.avg_pool2d(fine, 2)
