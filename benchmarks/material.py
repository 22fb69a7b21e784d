"""What is measured with: a short shot of the sample actor, the same as a large movie, and an untrained model of it."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from understudy.core import pca
from understudy.core.actor import Actor
from understudy.core.crop import Crop
from understudy.core.footage import open_footage
from understudy.core.model import Model
from understudy.core.movie_writer import MovieWriter
from understudy.core.network import DROPOUT, Network
from understudy.training.sample import NOISE, PLANS, make_sample

FRAMES = 200           # of the shot; whole training batches
WIDTH, HEIGHT = 1200, 1600
MOVIE_FRAMES = 400     # of the large movie; whole solving batches


def make(folder: Path) -> None:
    """Make actor/, movie.mp4 and model.safetensors in `folder`."""
    actor = make_sample(folder / "actor", plans=(dataclasses.replace(PLANS[0], frames=FRAMES),))
    with open_footage(actor.shots[0].footage_path()) as footage:
        pictures = list(footage.iterate())
    _film(folder / "movie.mp4", pictures)
    scale = WIDTH / pictures[0].shape[1]
    _model(actor, Crop(*(scale * edge for edge in actor.crop))).save(folder / "model.safetensors")


def _film(path: Path, pictures: list[np.ndarray]) -> None:
    """The shot forth and back, enlarged, with grain of its own as a camera would give."""
    rng = np.random.default_rng(0)
    grain = np.rint(NOISE * rng.standard_normal((HEIGHT + 64, WIDTH + 64))).astype(np.int16)
    order = [*pictures, *reversed(pictures)]
    with MovieWriter(path, WIDTH, HEIGHT, crf=15, options={"preset": "veryfast"}) as movie:
        for index in range(MOVIE_FRAMES):
            large = cv2.resize(order[index % len(order)], (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
            y, x = rng.integers(64, size=2)
            movie.write(cv2.add(large, grain[y:y + HEIGHT, x:x + WIDTH], dtype=cv2.CV_8U))


def _model(actor: Actor, crop: Crop) -> Model:
    """The paper's network as it is before training: He initialisation, and the output layer from PCA."""
    targets = np.array(actor.shots[0].vertices()[:, actor.animated], np.float32)
    mean, basis, _, _ = pca.fit(lambda indices: targets[indices], len(targets), 160)
    torch.manual_seed(0)
    network = Network(mean.size, len(basis))
    for name in (*network.convolutions, "fc"):
        nn.init.kaiming_normal_(getattr(network, name).weight, nonlinearity="relu")
    with torch.no_grad():
        network.fc.weight.mul_(0.3)  # so that it moves, and errs in bfloat16, no more than a trained one
        network.output.weight.copy_(torch.from_numpy(basis.reshape(len(basis), -1).T))
        network.output.bias.copy_(torch.from_numpy(mean.reshape(-1)))
    return Model(actor.name, actor.unit, crop, actor.transfer, actor.template, actor.animated, actor.stabiliser,
                 actor.regions, (100.0, 50.0), mean, basis, network)


def plain(network: Network) -> nn.Sequential:
    """The same layers as anybody would stack them in PyTorch."""
    layers = []
    for name in network.convolutions:
        layers += [getattr(network, name), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(DROPOUT), network.fc, network.output)
