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

from ..core import draw, pca
from ..core.actor import Actor
from ..core.crop import Crop
from ..core.engine import pick_device, reduced_precision
from ..core.errors import Cancelled, UnderstudyError
from ..core.files import make_folder, read_json, write_json
from ..core.jobs import Reporter
from ..core.metrics import loss_to_rmse, rmse_per_frame
from ..core.model import Model, load_model, write_tensors
from ..core.network import CONVOLUTIONS, Network
from . import augment, schedule
from .config import Config
from .dataset import Frames, open_frames

AHEAD = 4              # batches made in advance, beside the network
STATUS_SECONDS = 2.0   # between progress events
VALIDATE_EVERY = 10    # training frames shown for each frame of a regular validation: about 4 % of the time
PREVIEW_GROWTH = 1.25  # from one preview to the next, in frames shown: about 30 pictures for any length of run
PREVIEW_ROWS = 4
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
        write_json(run / "config.json", {"config": config.to_json(), "actor": actor.name,
                                         "topology": actor.template.hash})
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
        raise UnderstudyError(f"{path} was trained for another mesh or mask than {actor.name} has now. "
                              "Train from scratch.")
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


def _loop(state: _State, frames: Frames, validation: Frames | None, run: Path, report: Reporter,
          started: float) -> None:
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
    every = VALIDATE_EVERY * min(config.validation_frames, len(validation)) if validation else math.inf
    last = {"status": seconds(), "checkpoint": seconds(), "images": state.images}
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

        # Validate and save. By position, not by the clock, so that a resumed run chooses the same model.
        if validation is not None and state.images // every > (state.images - len(inputs)) // every:
            _validate(state, validation, run, report)
        if now - last["checkpoint"] > config.checkpoint_seconds:
            state.seconds = now
            state.save(run / "checkpoint.safetensors")
            last["checkpoint"] = seconds()

    # Finish: the last weights are a candidate too; the best model is measured on every validation frame.
    report.status("Validating")
    state.seconds = seconds()
    state.save(run / "checkpoint.safetensors")
    if validation is None:
        model.save(run / "model.safetensors")
        return
    _validate(state, validation, run, report)
    best = load_model(run / "model.safetensors")
    model.network.load_state_dict(best.network.state_dict())
    loss, shots = _validation_loss(state, validation, np.arange(len(validation)))
    best.about["validation"] = {"rmse_mm": loss_to_rmse(loss, 10.0), "frames": len(validation), "shots": shots}
    best.save(run / "model.safetensors")
    report.metrics(images=best.about["images"], final=True, validation_loss=loss,
                   validation_rmse=loss_to_rmse(loss, 10.0), validation_frames=len(validation), shots=shots)


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


def _predict(state: _State, frames: Frames, indices: np.ndarray) -> np.ndarray:
    """Predicted vertices without augmentation, (n, A, 3) float32."""
    mean, deviation = state.model.whitening
    state.network.eval()
    with torch.no_grad():
        inputs = torch.from_numpy(frames.inputs(indices)).to(state.device)[:, None].float().sub_(mean).div_(deviation)
        return state.network(inputs, state.precision).cpu().view(len(indices), -1, 3).numpy()


def _validation_seconds(state: _State, validation: Frames | None) -> float:
    """How long the last validation will take: a few batches, measured."""
    if validation is None:
        return 0.0
    indices = np.arange(min(64, len(validation)))
    _predict(state, validation, indices[:16])
    began = time.monotonic()
    _predict(state, validation, indices)
    return (time.monotonic() - began) * len(validation) / len(indices) + 1.0


def _validate(state: _State, validation: Frames, run: Path, report: Reporter) -> None:
    """Loss over evenly spaced validation frames; keeps the model when it is the best so far, and shows some frames."""
    count = min(state.config.validation_frames, len(validation))
    chosen = np.linspace(0, len(validation) - 1, count).round().astype(int)
    loss, shots = _validation_loss(state, validation, chosen)
    report.metrics(images=state.images, validation_loss=loss, validation_rmse=loss_to_rmse(loss, 10.0),
                   validation_frames=count, shots=shots)
    if loss < state.best:
        state.best = loss
        state.model.about["images"] = state.images
        state.model.save(run / "model.safetensors")
    folder = make_folder(run / "previews")
    shown = [int(path.stem) for path in folder.glob("*.png") if path.stem.isdigit()]
    if state.images >= PREVIEW_GROWTH * max(shown, default=0):
        path = folder / f"{state.images:08d}.png"
        draw.write_png(path, _preview(state, validation, chosen[:: -(-count // PREVIEW_ROWS)]))
        report.artifact(path, "picture")


def _validation_loss(state: _State, validation: Frames, chosen: np.ndarray) -> tuple[float, dict[str, float]]:
    """Loss in cm2 over the chosen frames (paper, Sec. 4.2), and RMSE in mm by shot."""
    losses = np.concatenate([
        np.square(_predict(state, validation, block) - validation.targets(block)).mean(axis=(1, 2))
        for block in np.array_split(chosen, -(-len(chosen) // 50))]) * (state.model.unit / 0.01) ** 2
    of_shot = validation.shot[chosen]
    return float(losses.mean()), {shot.name: loss_to_rmse(float(losses[of_shot == i].mean()), 10.0)
                                  for i, shot in enumerate(validation.shots) if (of_shot == i).any()}


def _preview(state: _State, validation: Frames, chosen: np.ndarray) -> np.ndarray:
    """Input, target, inferred and difference of a few validation frames (the paper's Figure 7)."""
    model, rows = state.model, []
    view, triangles = draw.View.front(model.template.vertices), model.template.triangles()
    for picture, truth, guess in zip(validation.inputs(chosen), validation.targets(chosen),
                                     _predict(state, validation, chosen), strict=True):
        whole = np.stack([model.template.vertices] * 2)
        whole[0, model.animated], whole[1, model.animated] = truth, guess
        error = rmse_per_frame(guess[None], truth[None], model.millimetres)[0]
        rows.append(draw.comparison(picture, *whole, triangles, view, model.millimetres, f"{error:.2f} mm"))
    return np.vstack(rows)
