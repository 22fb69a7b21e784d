"""Principal components of the training pictures, which the fully connected network sees them through (paper, Sec. 5.1).

Where nothing moves the pictures while training, the coefficients of all frames are computed once, before it.
"""

import numpy as np
import torch

from ..core.jobs import Reporter
from ..core.model import Model
from ..core.network import FullyConnected, make_network
from ..core.steady import choose_place, still
from .config import Config
from .dataset import Frames

COMPONENTS = 3000  # the paper's
FRAMES = 8192      # at most, evenly spaced: beyond, the eigenvectors alone would take longer than training
BLOCK = 256        # frames held as numbers at a time
PIXELS = 2400      # columns of the Gram matrix's factors held as numbers at a time


def fit(frames: Frames, whitening: tuple[float, float], components: int = COMPONENTS, report: Reporter = Reporter(),
        ) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Mean and principal components of the whitened training inputs.

    Returns mean (76800,) and orthonormal basis (K, 76800) float32, largest variance first, and the
    explained share of the variance, 0..1. K is less than the number of frames.
    Differs from the paper: of more than 8,192 frames, evenly spaced ones are looked at, not all.

    By way of the frames' Gram matrix: it is far smaller than that of the pixels.
    """
    chosen = np.linspace(0, len(frames) - 1, min(len(frames), FRAMES)).round().astype(int)
    pictures = torch.from_numpy(frames.inputs(chosen)).flatten(1)
    mean = torch.stack([column.float().mean(0) for column in pictures.split(PIXELS, 1)]).flatten()
    gram = torch.zeros((len(chosen), len(chosen)))
    for column, middle in zip(pictures.split(PIXELS, 1), mean.split(PIXELS), strict=True):
        report.check_cancel()
        centred = column.float() - middle
        gram.addmm_(centred, centred.T)
    values, vectors = (found.float() for found in torch.linalg.eigh(gram.double()))  # in float32 the weak ones mix
    total = float(values.clamp(min=0).double().sum())
    count = max(1, min(components, len(chosen) - 1, int((values > 1e-7 * values[-1]).sum())))
    values, vectors = values.flip(0)[:count], vectors.flip(1)[:, :count]
    turned = (vectors / values.clamp(min=1e-12).sqrt()).T.contiguous()
    basis = torch.empty((count, pictures.shape[1]))
    for first in range(0, pictures.shape[1], PIXELS):
        report.check_cancel()
        columns = slice(first, first + PIXELS)
        basis[:, columns] = turned @ (pictures[:, columns].float() - mean[columns])
    return (mean - whitening[0]) / whitening[1], basis, float(values.double().sum() / total) if total else 1.0


def new_network(architecture: str, outputs: int, components: int, frames: Frames, whitening: tuple[float, float],
                report: Reporter) -> FullyConnected:
    """A fully connected network that knows how to see a picture, and nothing else yet."""
    known = {}
    if frames.heads is not None:
        place, usual = choose_place(frames.heads)
        frames.still = still(frames.heads, place, usual)
        known = {"place": torch.from_numpy(place), "usual": torch.from_numpy(usual)}
    report.status("Finding the principal components of the pictures")
    mean, basis, _ = fit(frames, whitening, report=report)
    known |= {"image_mean": mean, "image_basis": basis.half()}  # as the model file has it
    network = make_network(architecture, outputs, components, len(basis))
    for name, value in known.items():
        network.get_buffer(name).copy_(value)
    return network


def prepare(model: Model, config: Config, frames: Frames, validation: Frames | None, report: Reporter) -> None:
    """Hold the head still in training and validation frames, and compute their coefficients once and for all, unless
    training shows a picture in more ways than one.
    """
    network = model.network
    for part in filter(len, (frames, validation or ())):
        if network.stabilised:
            part.still = still(part.heads, network.place.numpy(), network.usual.numpy())
        if not config.augments:
            part.coefficients = project(network, part, model.whitening, report)


@torch.no_grad()
def project(network: FullyConnected, frames: Frames, whitening: tuple[float, float],
            report: Reporter = Reporter()) -> torch.Tensor:
    """The coefficients of all frames, (N, K) float32."""
    mean, deviation = whitening
    result = torch.empty((len(frames), len(network.image_basis)))
    for first in range(0, len(frames), BLOCK):
        rows = np.arange(first, min(first + BLOCK, len(frames)))
        inputs = torch.from_numpy(frames.inputs(rows))[:, None].float().sub_(mean).div_(deviation)
        result[rows[0]:rows[-1] + 1] = network.coefficients(inputs)
        report.check_cancel()
        report.progress(first + len(rows), len(frames), "pictures")
    return result
