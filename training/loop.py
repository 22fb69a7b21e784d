"""The training loop (paper, Sec. 4): an actor folder in, a run folder with the best model out."""

import contextlib
import dataclasses
import hashlib
import json
import math
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..core import draw, pca
from ..core.actor import Actor
from ..core.crop import Crop
from ..core.errors import Cancelled, UnderstudyError
from ..core.files import atomic, make_folder, read_json, write_json
from ..core.jobs import Reporter
from ..core.metrics import loss_to_rmse
from ..core.model import Model, load_model
from ..core.network import CONVOLUTIONS, Network
from ..core.engine import pick_device, reduced_precision
from . import augment, schedule
from .config import Config
from .dataset import Frames, open_frames

AHEAD = 4              # batches made in advance, beside the network
STATUS_SECONDS = 2.0   # between progress events
CHECKPOINT_SECONDS = 60.0
VALIDATION_SHARE = 0.04  # of the time may go into regular validations
LAYER_UNIT = 0.02      # learning_rate holds for weights of this size (see `parameter_groups`)


def new_run(actor_folder: Path | str) -> Path:
    """A fresh folder name for a run of this actor: its date and time."""
    folder = Path(actor_folder) / "runs"
    name = time.strftime("%Y-%m-%d_%H-%M-%S")
    return next(path for i in range(1000) if not (path := folder / (name + (f"_{i}" if i else ""))).exists())


def train(
    actor_folder: Path | str,            # the actor folder
    config: Config,                      # every hyper-parameter; with `resume`, that run's own is used
    run: Path | str | None = None,       # run folder to make. None = runs/<date and time> in the actor folder
    resume: Path | str | None = None,    # run folder to go on with, ending with the same weights as if never stopped
    start_from: Path | str | None = None,  # model file to start from instead of random weights
    device: str = "auto",                # "auto", "cpu", "cuda", "cuda:1", "mps"
    report: Reporter = Reporter(),       # told what happens; asked whether to stop
) -> Path:
    """Train an actor's network and put its best model on validation at ACTOR/model.safetensors.

    Returns the run folder: config.json, checkpoint.safetensors, model.safetensors, previews/. Raises UnderstudyError
    for data that cannot be trained on, and Cancelled after saving a checkpoint when the reporter asks to stop.
    """
    started = time.monotonic()
    actor = Actor.load(actor_folder)
    shots, held_out = actor.training_shots(), actor.validation_shots()
    _check_trainable(actor, report)
    if resume is not None:
        run = Path(resume)
        config = Config.from_json(read_json(run / "config.json").get("config", {}))
    run = make_folder(run or new_run(actor.folder))
    if resume is None:
        write_json(run / "config.json", {"config": config.to_json(), "actor": actor.name, "topology": actor.template.hash})
    cv2.setNumThreads(1)  # the pictures are made beside the network, which has the cores

    with contextlib.ExitStack() as stack:
        report.status("Reading footage")
        frames = stack.enter_context(open_frames(actor, shots, run, config, report))
        validation = stack.enter_context(open_frames(actor, held_out, run, None, report)) if held_out else None

        report.status("Preparing the network")
        model = _new_model(actor, frames, config) if start_from is None else _continue_model(actor, start_from)
        model.about = {"training": config.to_json(), "data": _data_hash(shots), "frames": len(frames)}
        state = _State(model, config, pick_device(device))
        if resume is not None:
            state.load(run / "checkpoint.safetensors")

        report.status("Training")
        _loop(state, frames, validation, run, report, started)

    shutil.copyfile(run / "model.safetensors", partial := actor.folder / ".model.partial")
    partial.replace(actor.folder / "model.safetensors")
    report.artifact(str(actor.folder / "model.safetensors"), "model")
    return run


class _State:
    """All that changes while training, and that a checkpoint holds."""

    def __init__(self, model: Model, config: Config, device: torch.device):
        self.model, self.config, self.device = model, config, device
        self.network = model.network.to(device)
        self.optimizer = torch.optim.Adam(parameter_groups(self.network, config), eps=config.epsilon,
                                          fused=device.type in ("cpu", "cuda"))
        self.images = 0               # training frames shown so far: where the run stands
        self.seconds = 0.0            # spent training, over all sessions of this run
        self.best = math.inf          # validation loss, cm2
        self.precision = reduced_precision(device)

    def save(self, path: Path) -> None:
        """Write a checkpoint atomically: weights, both Adam moments and where the run stands."""
        tensors = {f"network.{name}": value.detach().cpu() for name, value in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"adam.{key}.{name}"] = value.cpu()
        about = {"images": self.images, "seconds": self.seconds, "best": None if math.isinf(self.best) else self.best}
        with atomic(path) as temporary:
            save_file({name: value.contiguous() for name, value in tensors.items()}, temporary,
                      {"understudy": json.dumps(about)})

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
            raise UnderstudyError(f"Cannot resume from {path}: {error}. Start a new run, or start --from its model.") from error


def parameter_groups(network: Network, config: Config) -> list[dict]:
    """One Adam group a layer, its learning rate in proportion to the size of the layer's initial weights.

    Adam moves every weight by about the learning rate a step, whatever its size.
    """
    groups = []
    for name in (*CONVOLUTIONS, "fc", "output"):
        layer = getattr(network, name)
        if name == "output" and config.freeze_output:
            layer.requires_grad_(False)
            continue
        size = layer.weight.detach().square().mean().sqrt().item()
        groups.append({"params": list(layer.parameters()), "scale": size / LAYER_UNIT})
    return groups


def _check_trainable(actor: Actor, report: Reporter) -> None:
    if actor.crop is None:
        raise UnderstudyError(f"The actor {actor.name} has no crop yet. Give it one in {actor.folder / 'actor.json'}.")
    if not actor.training_shots():
        raise UnderstudyError(f"The actor {actor.name} has no cleaned training shot. Add one with role and split.")
    if not actor.validation_shots():
        report.warning("There is no validation shot: the last weights are kept, and nothing tells how good they are.")


def _new_model(actor: Actor, frames: Frames, config: Config) -> Model:
    """An untrained model: He initialisation, and the output layer from PCA (paper, Sec. 3.1 and 4.2)."""
    mean, basis, deviation, explained = pca.fit(frames.targets, len(frames), config.components)
    network = Network(mean.size, len(basis))
    generator = torch.Generator().manual_seed(config.seed)
    for name in (*CONVOLUTIONS, "fc"):
        layer = getattr(network, name)
        torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        torch.nn.init.zeros_(layer.bias)
    initialise_output(network, mean, basis, deviation)
    return Model(actor.name, actor.unit, Crop(*actor.crop), actor.transfer, actor.template, actor.animated,
                 actor.stabiliser, actor.regions, frames.whitening, mean, basis, network)


def initialise_output(network: Network, mean: np.ndarray, basis: np.ndarray, deviation: np.ndarray) -> None:
    with torch.no_grad():
        network.output.weight.copy_(torch.from_numpy(basis.reshape(len(basis), -1).T))
        network.output.bias.copy_(torch.from_numpy(mean.reshape(-1)))


def _continue_model(actor: Actor, path: Path | str) -> Model:
    model = load_model(path)
    if model.topology != actor.template.hash or not np.array_equal(model.animated, actor.animated):
        raise UnderstudyError(f"{path} was trained for another mesh or mask than {actor.name} has now. Train from scratch.")
    return model


def _data_hash(shots: list) -> str:
    """A hash that changes with any vertex file or list of used frames."""
    digest = hashlib.sha256()
    for shot in shots:
        digest.update(f"{shot.name}\0{shot.first_frame}\0{shot.footage}\0".encode())
        digest.update(shot.frames().astype("<i8").tobytes())
        stat = (shot.folder / "vertices.pc2").stat()
        digest.update(f"{stat.st_size}".encode())
    return digest.hexdigest()


def _loop(state: _State, frames: Frames, validation: Frames | None, run: Path, report: Reporter, started: float) -> None:
    config, model = state.config, state.model
    total = math.ceil(config.epochs * len(frames))
    to_cm2 = (model.unit / 0.01) ** 2  # the loss is in cm2 whatever the unit, as in the paper
    budget = None
    if config.minutes is not None:  # what reading took counts; the last validation is kept free
        spare = _validation_seconds(state, validation)
        budget = max(1.0, config.minutes * 60 - (time.monotonic() - started) - spare + state.seconds)
    resumed, began = state.seconds, time.monotonic()
    seconds = lambda: resumed + time.monotonic() - began  # noqa: E731
    done = lambda images: min(1.0, seconds() / budget if budget else images / total)  # noqa: E731
    mean, deviation = state.model.whitening
    last = {"status": seconds(), "checkpoint": seconds(), "validation": seconds(), "images": state.images, "took": 0.0}
    losses = torch.zeros(2)  # sum of losses and count since the last status

    for batch in _batches(frames, config, state.images, done, None if budget else total):
        # One step.
        if done(state.images) >= 1:
            break
        fraction = done(state.images)
        inputs = batch.inputs.to(state.device)[:, None].float().sub_(mean).div_(deviation)
        gain, offset = batch.light.to(state.device).view(-1, 2, 1, 1, 1).unbind(1)
        inputs = inputs.mul_(gain).add_(offset)
        targets = batch.targets.to(state.device)
        torch.manual_seed(config.seed * 1_000_003 + state.images)  # so that a resumed run drops the same features
        state.network.train()
        loss = F.mse_loss(state.network(inputs, state.precision), targets)
        state.optimizer.zero_grad()
        (loss * to_cm2).backward()
        rate, beta1 = schedule.learning_rate(config, fraction), schedule.beta1(config, fraction)
        for group in state.optimizer.param_groups:
            group["lr"], group["betas"] = rate * group["scale"], (beta1, config.beta2)
        state.optimizer.step()
        state.images += len(inputs)
        losses += torch.tensor([loss.item() * to_cm2, 1.0])

        # Report status.
        now = seconds()
        if report.cancelled():
            state.seconds = now
            state.save(run / "checkpoint.safetensors")
            raise Cancelled(f"Training was stopped; {run} can be resumed.")
        if now - last["status"] > STATUS_SECONDS:
            speed = (state.images - last["images"]) / (now - last["status"])
            train_loss = (losses[0] / losses[1]).item()
            report.progress(state.images, total if not budget else round(state.images / max(fraction, 1e-9)), "frames",
                            speed=speed, left=(budget - now) if budget else (total - state.images) / speed)
            report.metrics(images=state.images, seconds=now, epoch=state.images / len(frames), train_loss=train_loss,
                           train_rmse=loss_to_rmse(train_loss, 10.0), learning_rate=rate,
                           augmentation=schedule.augmentation(config, fraction))
            if not math.isfinite(train_loss):
                raise UnderstudyError("Training diverged: the loss is no longer a number. Use a smaller learning rate.")
            losses.zero_()
            last.update(status=now, images=state.images)

        # Validate and save.
        if validation is not None and now - last["validation"] > max(20.0, last["took"] / VALIDATION_SHARE):
            before = seconds()
            _validate(state, validation, config.validation_frames, run, report)
            last.update(validation=seconds(), took=seconds() - before)
        if now - last["checkpoint"] > CHECKPOINT_SECONDS:
            state.seconds = now
            state.save(run / "checkpoint.safetensors")
            last["checkpoint"] = seconds()

    # Finish: the last weights against all validation frames, and the better of them and the best so far.
    state.seconds = seconds()
    state.save(run / "checkpoint.safetensors")
    if validation is not None:
        _validate(state, validation, len(validation), run, report)
    else:
        model.save(run / "model.safetensors")


@dataclasses.dataclass
class _Batch:
    inputs: torch.Tensor   # (n, 320, 240) uint8
    light: torch.Tensor    # (n, 2) float32 gain and offset of the whitened picture
    targets: torch.Tensor  # (n, 3 A) float32


def _batches(frames: Frames, config: Config, images: int, done, total: int | None) -> Iterator[_Batch]:
    """Batches from frame `images` of the run on, made in threads beside the network. All randomness is by position."""

    def make(images: int, strength: float) -> _Batch:
        epoch, place = divmod(images, len(frames))
        order = np.random.default_rng((config.seed, 1, epoch)).permutation(len(frames))
        indices = order[place:place + config.batch]
        rng = np.random.default_rng((config.seed, 2, images))
        maps = augment.matrices(config, strength, len(indices), rng)
        light = augment.light(config, strength, len(indices), rng)
        return _Batch(torch.from_numpy(frames.inputs(indices, maps)), torch.from_numpy(light),
                      torch.from_numpy(frames.targets(indices)).flatten(1))

    with ThreadPoolExecutor(2, "batches") as pool:
        waiting = []
        while True:
            while len(waiting) < AHEAD and (total is None or images < total):
                waiting.append(pool.submit(make, images, schedule.augmentation(config, done(images))))
                images += min(config.batch, len(frames) - images % len(frames))
            if not waiting:
                return
            yield waiting.pop(0).result()


def _predict(state: _State, frames: Frames, indices: np.ndarray) -> torch.Tensor:
    """Predicted vertices without augmentation, (n, A, 3) float32 on the CPU."""
    mean, deviation = state.model.whitening
    state.network.eval()
    with torch.no_grad():
        inputs = torch.from_numpy(frames.inputs(indices)).to(state.device)[:, None].float().sub_(mean).div_(deviation)
        return state.network(inputs, state.precision).cpu().view(len(indices), -1, 3)


def _validation_seconds(state: _State, validation: Frames | None) -> float:
    """How long the last validation will take: a few batches, measured."""
    if validation is None:
        return 0.0
    indices = np.arange(min(64, len(validation)))
    _predict(state, validation, indices[:16])
    began = time.monotonic()
    _predict(state, validation, indices)
    return (time.monotonic() - began) * len(validation) / len(indices) + 1.0


def _validate(state: _State, validation: Frames, count: int, run: Path, report: Reporter) -> None:
    """Loss over evenly spaced validation frames; keeps the model when it is the best so far."""
    chosen = np.unique(np.linspace(0, len(validation) - 1, min(count, len(validation))).round().astype(int))
    errors = np.empty(len(chosen))
    for first in range(0, len(chosen), 50):
        block = chosen[first:first + 50]
        difference = _predict(state, validation, block).numpy() - validation.targets(block)
        errors[first:first + 50] = np.square(difference).mean(axis=(1, 2))
    to_cm2 = (state.model.unit / 0.01) ** 2
    loss = float(errors.mean()) * to_cm2
    by_shot = {shot.name: loss_to_rmse(float(errors[validation.shot[chosen] == i].mean()) * to_cm2, 10.0)
               for i, shot in enumerate(validation.shots) if (validation.shot[chosen] == i).any()}
    report.metrics(images=state.images, validation_loss=loss, validation_rmse=loss_to_rmse(loss, 10.0),
                   validation_frames=len(chosen), shots=by_shot)
    if loss < state.best:
        state.best = loss
        state.model.about["validation"] = {"rmse_mm": loss_to_rmse(loss, 10.0), "frames": len(chosen), "shots": by_shot}
        state.model.save(run / "model.safetensors")
