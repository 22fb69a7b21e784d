"""All that changes while training: the network, Adam and where the run stands; one step of it, and its checkpoint."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open

from ..core import pca
from ..core.actor import Actor
from ..core.architectures import CONVOLUTIONAL
from ..core.crop import HEIGHT, WIDTH, Crop
from ..core.engine import reduced_precision
from ..core.errors import UnderstudyError
from ..core.jobs import Reporter
from ..core.model import Model, load_model, write_tensors
from ..core.modelfile import ModelFile
from ..core.network import DROPOUT, make_network
from . import augment, image_pca, schedule
from .config import Config
from .dataset import Frames
from .feed import Batch, Data
from .losses import Extra
from .team import Team

DIVERGED = ("Training diverged: the network's weights are no longer numbers. Look for faulty shots with `understudy "
            "check`, then train again, with another --seed or a larger --batch.")
WARM_STEPS = 3  # before a CUDA graph is made


class State:
    """All that changes while training, and that a checkpoint holds.

    data : the training data on the device, where it is there.    notice : called with a sentence for the user.
    extra : what is added to the paper's loss.
    """

    def __init__(self, model: Model, config: Config, device: torch.device, team: Team | None = None,
                 data: Data | None = None, notice: Callable[[str], None] = print, extra: Extra | None = None):
        self.model, self.config, self.device = model, config, device
        self.team, self.data, self.notice, self.extra = team or Team(), data, notice, extra
        self.network = model.network.to(device, memory_format=torch.channels_last)  # as convolutions read it
        self.network.output.requires_grad_(not config.freeze_output)
        self.parameters = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(self.parameters, eps=config.epsilon, fused=device.type in ("cpu", "cuda"))
        self.images = 0               # training frames shown so far: where the run stands
        self.seconds = 0.0            # spent training, over all sessions of this run
        self.best = math.inf          # validation loss, cm2
        self.precision = reduced_precision(device)
        rows = self.team.rows(config.batch)
        self.whole = self.at_once = rows.stop - rows.start  # frames of a whole batch, and that are computed together
        self._clock = device if device.type == "cuda" else torch.device("cpu")  # where Adam counts its steps
        self._graph, self._warm = None, 0
        torch.backends.cudnn.benchmark = True  # every step has the same shapes

    def step(self, batch: Batch, done: float) -> torch.Tensor:
        """One training step on a batch; `done`, 0..1, is where the run stands.

        Returns this process's part of the loss in cm2 (Sec. 4.2), a number that is still on the device: to read it
        makes the CPU wait for a GPU.
        """
        config, generator = self.config, torch.Generator(self.device)
        generator.manual_seed(config.seed * 1_000_003 + self.images)  # so that a resumed run drops the same features
        keep = torch.empty(batch.count, self.network.droppable, device=self.device)
        keep = keep.bernoulli_(1 - DROPOUT, generator=generator)[self.team.rows(batch.count)]
        if config.noise:
            grain = torch.empty(batch.count, 1, HEIGHT, WIDTH, device=self.device).normal_(generator=generator)
            batch = replace(batch, grain=grain[self.team.rows(batch.count)])
        self.network.train()
        while (loss := self._gradients(batch, keep)) is None:
            pass  # with fewer frames at once
        self.team.add(parameter.grad for parameter in self.parameters)
        rate, beta1 = schedule.learning_rate(config, done), schedule.beta1(config, done)
        for group in self.optimizer.param_groups:
            group["lr"], group["betas"] = rate, (beta1, config.beta2)
        self.optimizer.step()
        self.images += batch.count
        return loss

    def _gradients(self, batch: Batch, keep: torch.Tensor) -> torch.Tensor | None:
        """Forward and backward pass; None if the memory was too small for it, and fewer frames at once are next."""
        try:
            if self.device.type == "cuda" and len(batch) == self.whole == self.at_once:
                self._warm += 1  # cuDNN chooses its kernels in the first steps
                if self._warm == WARM_STEPS:
                    self._make_graph(batch, keep)
                if self._graph is not None:
                    return self._graph.run(batch, keep, self.parameters)
            self.optimizer.zero_grad()
            loss = torch.zeros((), device=self.device)
            for first in range(0, len(batch), max(1, self.at_once)):
                rows = slice(first, first + self.at_once)
                loss += self._loss(batch[rows].to(self.device), keep[rows])
            for parameter in self.parameters:
                if parameter.grad is None:  # a process that has no frame of a short batch
                    parameter.grad = torch.zeros_like(parameter)
            return loss
        except (RuntimeError, MemoryError) as error:
            if not _out_of_memory(error):
                raise
            frames = min(self.at_once, len(batch))
        # outside of the handler, whose traceback keeps what took the memory
        if frames == 1:
            raise UnderstudyError(f"The memory of {self.device} is too small for a single frame. Close other programs "
                                  "that use it, or train on another device.")
        self.at_once, self._graph = -(-frames // 2), None
        self.optimizer.zero_grad()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.notice(f"The memory of {self.device} is too small for {frames} frames at once. Training goes on with "
                    f"{self.at_once} at once, which changes the speed, not the result.")
        return None

    def _make_graph(self, batch: Batch, keep: torch.Tensor) -> None:
        try:
            self._graph = _Graph(self._loss, batch.to(self.device), keep, self.parameters)
        except RuntimeError as error:  # too little memory for the graph's own, or a driver that cannot
            self.notice(f"Training goes on without a CUDA graph, more slowly: {str(error).splitlines()[0]}")

    def _loss(self, batch: Batch, keep: torch.Tensor) -> torch.Tensor:
        """The loss of some frames, as their share of the step's; adds to the gradients."""
        pictures, targets = batch.pictures, batch.targets
        if targets is None:
            pictures, targets = self.data.pictures[batch.pictures], self.data.targets[batch.pictures]
        if pictures.dim() == 2:
            inputs = pictures
        else:
            inputs = self._inputs(pictures, batch)
        outputs = self.network(inputs, self.precision, keep)
        loss = F.mse_loss(outputs, targets, reduction="sum") / (batch.count * targets.shape[1])
        whole = loss
        if self.extra is not None:
            whole = loss + self.extra(outputs, targets, batch.follows, batch.count)
        whole.backward()
        return loss.detach()

    def _inputs(self, pictures: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Whitened pictures, (n, 1, 320, 240) float32, moved and lit as the batch says."""
        mean, deviation = self.model.whitening
        inputs = pictures[:, None].float() if batch.maps is None else augment.sample_on_device(
            pictures, batch.maps, self.config.perspective > 0)
        gain, offset, exponent, noise = batch.light.view(-1, 4, 1, 1, 1).unbind(1)
        if self.config.gamma:
            inputs = inputs.clamp_(min=0).div_(255).pow(exponent).mul_(255)
        gain = gain / deviation
        inputs = inputs.mul_(gain).add_(offset - mean * gain)
        if batch.grain is not None:
            inputs = inputs.addcmul_(batch.grain, noise)
        return inputs

    def share(self) -> None:
        """Give the leader's weights, moments and place in the run to the whole team."""
        about = self.team.tell({"images": self.images, "begun": bool(self.optimizer.state)})
        self.images = about["images"]
        for parameter in self.parameters:
            if about["begun"] and not self.team.leader:
                self.optimizer.state[parameter] = {
                    "step": torch.zeros((), device=self._clock), "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter)}
            moments = self.optimizer.state.get(parameter, {})
            self.team.send(moments[key] for key in sorted(moments))
        self.team.send(self.network.parameters())

    def save(self, path: Path) -> None:
        """Write a checkpoint atomically: weights, both Adam moments and where the run stands.

        Raises UnderstudyError when the weights are no longer numbers; the last checkpoint is then still good.
        """
        if not all(bool(torch.isfinite(parameter).all()) for parameter in self.parameters):
            raise UnderstudyError(DIVERGED)
        tensors = {f"network.{name}": value.detach().cpu() for name, value in self.network.named_parameters()}
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"adam.{key}.{name}"] = value.detach().cpu()
        about = {"images": self.images, "seconds": self.seconds, "best": None if math.isinf(self.best) else self.best}
        write_tensors(path, {name: value.contiguous() for name, value in tensors.items()}, about)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint. Raises UnderstudyError when it is absent, damaged or of another network."""
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {})["understudy"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            weights = {name: tensors[f"network.{name}"] for name, _ in self.network.named_parameters()}
            self.network.load_state_dict(weights | dict(self.network.named_buffers()))  # which nothing has changed
            for name, parameter in self.network.named_parameters():
                moments = {key: tensors[f"adam.{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")
                           if f"adam.{key}.{name}" in tensors}
                self.optimizer.state[parameter] = {
                    key: value.to(self._clock) if value.dim() == 0 else torch.empty_like(parameter).copy_(value)
                    for key, value in moments.items()}  # in the memory order of the weights, as Adam needs them
            self.images, self.seconds = int(about["images"]), float(about["seconds"])
            self.best = math.inf if about["best"] is None else float(about["best"])
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise UnderstudyError(f"Cannot resume from {path}: {error}. Start a new run, or go on --from its "
                                  "model.") from error


def _out_of_memory(error: BaseException) -> bool:
    """Whether a GPU or the CPU had too little memory; torch and oneDNN have no class of their own for the latter."""
    return (isinstance(error, (torch.OutOfMemoryError, MemoryError))
            or any(words in str(error) for words in ("can't allocate memory", "could not create a memory object",
                                                     "bad_alloc")))


class _Graph:
    """Forward and backward pass of a whole batch as one CUDA graph: the CPU says one word instead of a thousand."""

    def __init__(self, loss: Callable, batch: Batch, keep: torch.Tensor, parameters: list[torch.nn.Parameter]):
        self.batch, self.keep = batch, keep.clone()
        for parameter in parameters:
            parameter.grad = None  # so that the graph has gradients of its own, which every run overwrites
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"):
            self.loss = loss(self.batch, self.keep)
        self.gradients = [parameter.grad for parameter in parameters]

    def run(self, batch: Batch, keep: torch.Tensor, parameters: list[torch.nn.Parameter]) -> torch.Tensor:
        for name, value in batch.tensors().items():
            getattr(self.batch, name).copy_(value, non_blocking=True)
        self.keep.copy_(keep)
        self.graph.replay()
        for parameter, gradient in zip(parameters, self.gradients, strict=True):
            parameter.grad = gradient
        return self.loss.clone()


def new_model(actor: Actor, frames: Frames, config: Config, report: Reporter = Reporter()) -> Model:
    """An untrained model: He initialisation, and the output layer from PCA (paper, Sec. 3.1 and 4.2)."""
    mean, basis, *_ = pca.fit(frames.targets, len(frames), config.components)
    whitening, reference = frames.statistics()
    if config.architecture in CONVOLUTIONAL:
        network = make_network(config.architecture, mean.size, len(basis))
    else:
        network = image_pca.new_network(config.architecture, mean.size, len(basis), frames, whitening,
                                         report)
    generator = torch.Generator().manual_seed(config.seed)
    for name, layer in network.named_children():
        if name == "output":
            continue
        torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        torch.nn.init.zeros_(layer.bias)
    with torch.no_grad():
        network.output.weight.copy_(torch.from_numpy(basis.reshape(len(basis), -1).T))
        network.output.bias.copy_(torch.from_numpy(mean.reshape(-1) * 100 * actor.unit))
    return Model(actor.name, actor.unit, Crop(*actor.crop), actor.transfer, actor.template, actor.animated,
                 actor.stabiliser, actor.regions, whitening, mean, basis, network,
                 reference=reference)


def check_model(actor: Actor, model: Model | ModelFile, path: Path | str) -> None:
    """Raise UnderstudyError if a model cannot be trained further on an actor's data."""
    if model.topology != actor.template.hash or not np.array_equal(model.animated, actor.animated):
        raise UnderstudyError(f"{path} was trained for another mesh or mask than {actor.name} has now. "
                              "Train from scratch.")


def continue_model(actor: Actor, frames: Frames, path: Path | str, architecture: str) -> Model:
    """A model to train further. Its whitening and components stay; crop, names, regions and reference are today's."""
    model = load_model(path)
    check_model(actor, model, path)
    if model.network.architecture != architecture:
        raise UnderstudyError(f"{path} is a network of the architecture {model.network.architecture}, not "
                              f"{architecture}. Name its own with --architecture, or train from scratch.")
    return replace(model, actor=actor.name, crop=Crop(*actor.crop), transfer=actor.transfer, regions=actor.regions,
                   stabiliser=actor.stabiliser, reference=frames.statistics()[1], confidence=None, familiarity=None)


def describe_model(model: Model, team: Team) -> None:
    """Tell the rest of the team what `receive_model` needs; weights follow with `State.share`."""
    team.tell({"architecture": model.network.architecture, "components": len(model.basis),
               "whitening": list(model.whitening)})


def receive_model(actor: Actor, team: Team) -> Model:
    """The leader's model as far as training it needs one: the others neither fit nor save anything."""
    about = team.tell(None)
    mean = np.zeros((len(actor.animated), 3), np.float32)
    return Model(actor.name, actor.unit, Crop(*actor.crop), actor.transfer, actor.template, actor.animated,
                 actor.stabiliser, actor.regions, tuple(about["whitening"]), mean,
                 np.zeros((about["components"], *mean.shape), np.float32),
                 make_network(about["architecture"], mean.size, about["components"]))
