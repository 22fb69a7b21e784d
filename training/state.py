"""All that changes while training: the network, Adam and where the run stands; one step of it, and its checkpoint."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open

from ..core import pca
from ..core.actor import Actor
from ..core.crop import Crop
from ..core.engine import reduced_precision
from ..core.errors import UnderstudyError
from ..core.model import Model, load_model, write_tensors
from ..core.network import CONVOLUTIONS, Network
from . import augment, schedule
from .config import Config
from .dataset import Frames


@dataclass
class Batch:
    pictures: torch.Tensor     # (n, 320, 240) uint8 inputs; with maps (n, H, W) uint8, still to be sampled
    maps: torch.Tensor | None  # (n, 3, 3) float32 from input to picture
    light: torch.Tensor        # (n, 2) float32 gain and offset of the whitened picture
    targets: torch.Tensor      # (n, 3 A) float32 cm

    def inputs(self, device: torch.device) -> torch.Tensor:
        """(n, 1, 320, 240) float32 gray levels on the device."""
        pictures = self.pictures.to(device)
        return pictures[:, None].float() if self.maps is None else augment.sample_on_device(
            pictures, self.maps.to(device))


class State:
    """All that changes while training, and that a checkpoint holds."""

    def __init__(self, model: Model, config: Config, device: torch.device):
        self.model, self.config, self.device = model, config, device
        self.network = model.network.to(device, memory_format=torch.channels_last)  # as convolutions read it
        self.network.output.requires_grad_(not config.freeze_output)
        self.optimizer = torch.optim.Adam([p for p in self.network.parameters() if p.requires_grad],
                                          eps=config.epsilon, fused=device.type in ("cpu", "cuda"))
        self.images = 0               # training frames shown so far: where the run stands
        self.seconds = 0.0            # spent training, over all sessions of this run
        self.best = math.inf          # validation loss, cm2
        self.precision = reduced_precision(device)

    def step(self, batch: Batch, done: float) -> float:
        """One training step on a batch; `done`, 0..1, is where the run stands. Returns the loss in cm2 (Sec. 4.2)."""
        config, (mean, deviation) = self.config, self.model.whitening
        inputs = batch.inputs(self.device).sub_(mean).div_(deviation)
        gain, offset = batch.light.to(self.device).view(-1, 2, 1, 1, 1).unbind(1)
        inputs = inputs.mul_(gain).add_(offset)
        targets = batch.targets.to(self.device)
        torch.manual_seed(config.seed * 1_000_003 + self.images)  # so that a resumed run drops the same features
        self.network.train()
        loss = F.mse_loss(self.network(inputs, self.precision), targets)
        self.optimizer.zero_grad()
        loss.backward()
        rate, beta1 = schedule.learning_rate(config, done), schedule.beta1(config, done)
        for group in self.optimizer.param_groups:
            group["lr"], group["betas"] = rate, (beta1, config.beta2)
        self.optimizer.step()
        self.images += len(inputs)
        return loss.item()

    def save(self, path: Path) -> None:
        """Write a checkpoint atomically: weights, both Adam moments and where the run stands."""
        tensors = {f"network.{name}": value.detach().cpu() for name, value in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"adam.{key}.{name}"] = value.cpu()
        about = {"images": self.images, "seconds": self.seconds, "best": None if math.isinf(self.best) else self.best}
        write_tensors(path, {name: value.contiguous() for name, value in tensors.items()}, about)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint. Raises UnderstudyError when it is absent, damaged or of another network."""
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {})["understudy"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            self.network.load_state_dict({name.removeprefix("network."): value for name, value in tensors.items()
                                          if name.startswith("network.")})
            for name, parameter in self.network.named_parameters():
                self.optimizer.state[parameter] = {
                    key: tensors[f"adam.{key}.{name}"].to("cpu" if key == "step" and self.device.type == "cpu"
                                                          else self.device)
                    for key in ("step", "exp_avg", "exp_avg_sq") if f"adam.{key}.{name}" in tensors}
            self.images, self.seconds = int(about["images"]), float(about["seconds"])
            self.best = math.inf if about["best"] is None else float(about["best"])
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise UnderstudyError(f"Cannot resume from {path}: {error}. Start a new run, or go on --from its "
                                  "model.") from error


def new_model(actor: Actor, frames: Frames, config: Config) -> Model:
    """An untrained model: He initialisation, and the output layer from PCA (paper, Sec. 3.1 and 4.2)."""
    mean, basis, *_ = pca.fit(frames.targets, len(frames), config.components)
    network = Network(mean.size, len(basis))
    generator = torch.Generator().manual_seed(config.seed)
    for name in (*CONVOLUTIONS, "fc"):
        layer = getattr(network, name)
        torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        torch.nn.init.zeros_(layer.bias)
    with torch.no_grad():
        network.output.weight.copy_(torch.from_numpy(basis.reshape(len(basis), -1).T))
        network.output.bias.copy_(torch.from_numpy(mean.reshape(-1) * 100 * actor.unit))
    return Model(actor.name, actor.unit, Crop(*actor.crop), actor.transfer, actor.template, actor.animated,
                 actor.stabiliser, actor.regions, frames.whitening, mean, basis, network,
                 reference=frames.reference)


def continue_model(actor: Actor, frames: Frames, path: Path | str) -> Model:
    """A model to train further. Its whitening and components stay; crop, names, regions and reference are today's."""
    model = load_model(path)
    if model.topology != actor.template.hash or not np.array_equal(model.animated, actor.animated):
        raise UnderstudyError(f"{path} was trained for another mesh or mask than {actor.name} has now. "
                              "Train from scratch.")
    return replace(model, actor=actor.name, crop=Crop(*actor.crop), transfer=actor.transfer, regions=actor.regions,
                   stabiliser=actor.stabiliser, reference=frames.reference, confidence=None)
