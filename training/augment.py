"""Data augmentation (paper, Sec. 4.1): translation, rotation, zoom, brightness and contrast.

The geometric steps are one matrix, applied by the single resampling that makes every input (core/crop.py), so that
borders that move into the picture show what the camera saw there. Image noise, gamma and perspective are off unless
asked for: the paper found that the first two hurt and the third does not help (Sec. 5.2), and reproduce.py tries it.
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
    if config.perspective:  # about the middle, as if the head were turned before the rest
        tilt = np.tile(np.eye(3), (count, 1, 1))
        tilt[:, 2, :2] = rng.uniform(-1, 1, (count, 2)) * strength * config.perspective / (WIDTH / 2, HEIGHT / 2)
        result = result @ middle @ tilt @ np.linalg.inv(middle)
    return result


def light(config: Config, strength: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """What happens to each picture's gray levels, (count, 4) float32: gain and offset of the whitened picture, exponent
    of the gray levels in 0..1, deviation of the noise in the whitened picture."""
    gain = np.exp(rng.uniform(-1, 1, count) * strength * np.log1p(config.contrast))
    offset = rng.uniform(-1, 1, count) * strength * config.brightness
    exponent = np.exp(rng.uniform(-1, 1, count) * strength * np.log1p(config.gamma))
    noise = np.full(count, strength * config.noise)
    return np.stack([gain, offset, exponent, noise], axis=1).astype(np.float32)


def sample_on_device(pictures: torch.Tensor, maps: torch.Tensor, perspective: bool = False) -> torch.Tensor:
    """core.crop.sample for a batch on the device that holds it.

    pictures : (N, H, W) uint8.    maps : (N, 3, 3) float32 from input to picture, continuous pixels; affine unless
    `perspective`.
    Returns (N, 1, 320, 240) float32, gray levels. Agrees with core.crop.sample to about a gray level, which rounds
    positions to 1/32 pixel.
    """
    height, width = pictures.shape[1:]
    if perspective:
        fine = F.grid_sample(pictures[:, None].float(), _projected(maps, height, width), padding_mode="border",
                             align_corners=False)
        return F.avg_pool2d(fine, 2)
    # affine_grid and grid_sample count both pictures from -1 to 1 between their outer edges. Written with numbers
    # alone: a constant matrix would have to be copied to the device, which a CUDA graph cannot.
    x, y = maps[:, :2, 0] * (WIDTH / 2), maps[:, :2, 1] * (HEIGHT / 2)
    moved = torch.stack([x, y, x + y + maps[:, :2, 2]], 2)
    theta = torch.stack([moved[:, 0] * (2 / width), moved[:, 1] * (2 / height)], 1)
    theta[:, :, 2] -= 1
    grid = F.affine_grid(theta, [len(maps), 1, 2 * HEIGHT, 2 * WIDTH], align_corners=False)
    fine = F.grid_sample(pictures[:, None].to(grid.dtype), grid, padding_mode="border", align_corners=False)
    return F.avg_pool2d(fine, 2)


def _projected(maps: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Where the pixels of a grid twice as fine as the input lie in the picture, (N, 640, 480, 2), edges at -1 and 1."""
    x = (torch.arange(2 * WIDTH, device=maps.device) + 0.5) / 2
    y = (torch.arange(2 * HEIGHT, device=maps.device) + 0.5) / 2
    across, down, one = (maps[:, None, None, :, i] for i in range(3))
    places = across * x[None, None, :, None] + down * y[None, :, None, None] + one
    return torch.stack([places[..., 0] * (2 / width), places[..., 1] * (2 / height)], 3) / places[..., 2:] - 1
