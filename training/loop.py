"""The training loop (paper, Sec. 4): an actor folder in, a run folder with the best model out."""

import contextlib
import math
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch

from ..core import draw
from ..core.actor import Actor
from ..core.architectures import CONVOLUTIONAL, STABILISED
from ..core.engine import pick_device
from ..core.errors import Cancelled, UnderstudyError
from ..core.files import atomic, hash_file, make_folder, read_json, sweep, write_json
from ..core.jobs import Reporter
from ..core.metrics import loss_to_rmse, rmse_per_frame
from ..core.model import Model, load_model
from ..core.modelfile import ModelFile
from ..core.runs import SMALL, small_picture_of
from . import image_pca, schedule
from .config import Config
from .dataset import Frames, read_frames
from .familiarity import learn_familiarity, looked_at
from .feed import Data, batches
from .heads import find_heads
from .losses import Extra
from .replay import Order, fingerprints, known_to
from .state import DIVERGED, State, check_model, continue_model, describe_model, new_model, receive_model
from .team import Team, TeamLost

STATUS_SECONDS = 2.0   # between progress events
VALIDATE_EVERY = 10    # training frames shown for each frame of a regular validation: about 4 % of the time
VALIDATE_EARLY = 1 / 8, 1 / 4, 1 / 2  # of that: so that a short run soon tells, too
PREVIEW_GROWTH = 1.25  # from one preview to the next, in frames shown: about 30 pictures for any length of run
PREVIEW_ROWS = 4
ORIGIN = "origin.safetensors"  # in a run's folder until it has its own start: the model to start from


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
    use: bool = True,                    # put the model into the actor folder; False = an experiment
) -> Path:
    """Train an actor's network and put its best model on validation at ACTOR/model.safetensors.

    Returns the run folder: config.json, start.safetensors (the untrained model), checkpoint.safetensors,
    model.safetensors (the best on validation so far), previews/. Raises UnderstudyError for data that cannot be
    trained on, and Cancelled after saving a checkpoint when the reporter asks to stop.
    """
    started = time.monotonic()
    actor = Actor.load(actor_folder)
    _check_trainable(actor, report)
    cv2.setNumThreads(1)  # the pictures are made beside the network, which has the cores
    with Team() as team:
        run = Path(resume or run or new_run(actor.folder))
        if team.leader:
            if resume is not None:
                config = Config.from_json(read_json(run / "config.json").get("config", {}))
            sweep(make_folder(run / "previews"))
            sweep(run)
            if resume is None:
                _begin(run, actor, config, start_from)
        config = Config.from_json(team.tell(config.to_json()))
        if team.size > 1 and config.architecture not in CONVOLUTIONAL:
            raise UnderstudyError("Only convolutional networks are trained by several processes. Start one alone: this "
                                  "one takes minutes.")
        device = pick_device(team.device(device), report.warning)
        try:
            return _train(actor, config, run, device, report, team, started, use)
        except RuntimeError as error:
            if "CUDA error" not in str(error):  # of a GPU that is lost, or whose driver is
                raise
            raise UnderstudyError(f"{device} has stopped working: {str(error).splitlines()[0]}. Go on from the last "
                                  f"checkpoint with --resume {run}, on another device if need be.") from error


def _begin(run: Path, actor: Actor, config: Config, start_from: Path | str | None) -> None:
    """Make the files that a run can be resumed from at any moment."""
    if (run / "config.json").exists():
        raise UnderstudyError(f"{run} is a run already. Go on with it by --resume, or name another folder.")
    if start_from is not None:  # a copy: it may be this actor's model in use, which others replace
        check_model(actor, ModelFile.load(start_from), start_from)
        with atomic(run / ORIGIN) as temporary:
            shutil.copyfile(start_from, temporary)
    write_json(run / "config.json", {"config": config.to_json(), "actor": actor.name, "topology": actor.template.hash})


def _train(actor: Actor, config: Config, run: Path, device: torch.device, report: Reporter, team: Team,
           started: float, use: bool) -> Path:
    shots, checkpoint = actor.training_shots(), run / "checkpoint.safetensors"
    with ThreadPoolExecutor(1, "hashes") as pool, _own_stream(device):
        hashes = pool.submit(lambda: {shot.name: hash_file(shot.cache) for shot in shots})
        report.status("Reading footage")
        if team.place:
            team.wait()  # for the first process on this machine, which decodes
        frames, validation = read_frames(actor, shots, actor.validation_shots(), config, report)
        if not team.place:
            team.wait()

        if config.architecture == STABILISED:
            report.status("Looking for the face")
            for part in filter(len, (frames, validation or ())):
                find_heads(part, report)
        if not team.leader:
            model, new = receive_model(actor, team), np.empty(0, int)
        else:
            model, new = _model(actor, config, run, frames, hashes.result(), report)
            if validation is not None:
                validation.check()
            describe_model(model, team)
        if not model.network.convolutions:
            image_pca.prepare(model, config, frames, validation, report)
        in_advance = model.network.convolutions and Data.fits(frames, device)
        data = Data.upload(frames, model.centimetres, device) if in_advance else None
        state = State(model, config, device, team, data, report.warning, Extra.of(config, actor, device))
        if team.leader and checkpoint.exists():
            state.load(checkpoint)
            best = run / "model.safetensors"
            if best.exists() and ModelFile.load(best).about.get("data") != hashes.result():
                state.best = math.inf  # that of a model of other shots, which shall not stay
        state.share()

        order = Order(config, len(frames), np.array(team.tell({"new": new.tolist()})["new"], int))
        report.status(f"Training on {len(new):,} new frames among {len(frames):,}" if order.parts else "Training")
        try:
            _loop(state, frames, order, validation, run, report, started)
        except TeamLost:
            if team.leader:  # the step that could not be finished changed nothing yet
                state.save(checkpoint)
            raise

    if team.leader and use:
        with atomic(actor.folder / "model.safetensors") as temporary:
            shutil.copyfile(run / "model.safetensors", temporary)
        report.artifact(actor.folder / "model.safetensors", "model")
    return run


def _model(actor: Actor, config: Config, run: Path, frames: Frames, hashes: dict[str, str], report: Reporter,
           ) -> tuple[Model, np.ndarray]:
    """The untrained model of a run, and which frames are new to it, (n,) indices.    hashes : of the shots' files.

    A run that goes on has it already: whitening, components and what was new stay, whatever became of the data.
    """
    report.status("Reading the cleaned vertices")
    prints, start, origin = fingerprints(frames), run / "start.safetensors", run / ORIGIN
    report.status("Preparing the network")
    source = next((path for path in (start, origin) if path.exists()), None)
    model = (new_model(actor, frames, config, report) if source is None
             else continue_model(actor, frames, source, config.architecture))
    known = known_to(model, frames, prints, hashes)
    if source == start and (changed := dict(set(hashes.items()) ^ set(model.about.get("data", {}).items()))):
        report.warning(f"These shots have come, gone or changed since this run began: {', '.join(sorted(changed))}. It "
                       "goes on with what there is now.")
    model.about = {"training": config.to_json(), "frames": len(frames), "footage": frames.footage, "data": hashes}
    if source != start:  # it has learned what it had before this run
        model.learned = prints[known]
        model.save(start)
        origin.unlink(missing_ok=True)
    model.learned = prints
    return model, np.flatnonzero(~known)


def _own_stream(device: torch.device) -> contextlib.AbstractContextManager:
    """CUDA graphs are made on another stream than the default one, and everything else should then be there too."""
    return torch.cuda.stream(torch.cuda.Stream(device)) if device.type == "cuda" else contextlib.nullcontext()


def _check_trainable(actor: Actor, report: Reporter) -> None:
    if actor.crop is None:
        raise UnderstudyError(f"The actor {actor.name} has no crop yet. Give it one in {actor.folder / 'actor.json'}.")
    if not actor.training_shots():
        raise UnderstudyError(f"The actor {actor.name} has no cleaned training shot. Add one with role and split.")
    if not actor.validation_shots():
        report.warning("There is no validation shot: the last weights are kept, and nothing tells how good they are.")


def _loop(state: State, frames: Frames, order: Order, validation: Frames | None, run: Path, report: Reporter,
          started: float) -> None:
    config, model, team = state.config, state.model, state.team
    total = math.ceil(config.epochs * len(frames))
    budget = None
    if config.minutes is not None:  # what reading took counts; time to finish is kept free
        spare = _finishing_seconds(state, frames, validation) if team.leader else 0.0
        budget = max(1.0, config.minutes * 60 - (time.monotonic() - started) - spare)
    resumed, began = state.seconds, time.monotonic()
    seconds = lambda: resumed + time.monotonic() - began  # noqa: E731
    done = lambda images: min(1.0, seconds() / budget if budget else images / total)  # noqa: E731
    every = VALIDATE_EVERY * min(config.validation_frames, len(validation)) if validation else math.inf
    last = {"status": seconds(), "checkpoint": seconds(), "images": state.images}
    losses = []  # since the last status
    fraction, _ = team.agree(done(state.images), False)
    strength = lambda images: schedule.augmentation(config, fraction if budget else done(images))  # noqa: E731

    for batch in batches(config, frames, order, model.centimetres, state.device, state.data is not None, team,
                         state.images, None if budget else total, strength):
        # One step.
        if fraction >= 1:
            break
        losses.append(state.step(batch, fraction))

        # Report status.
        now = seconds()
        if team.leader and now - last["status"] > STATUS_SECONDS:
            train_loss = torch.stack(losses).mean().item() * batch.count / max(1, len(batch))
            now = seconds()  # a GPU has finished its steps only now
            speed = (state.images - last["images"]) / (now - last["status"])
            report.progress(state.images, total if not budget else round(state.images / max(fraction, 1e-9)), "frames",
                            speed=speed, left=(budget - now) if budget else (total - state.images) / speed)
            report.metrics(images=state.images, seconds=now, epoch=state.images / len(frames), train_loss=train_loss,
                           train_rmse=loss_to_rmse(train_loss, 10.0),
                           learning_rate=schedule.learning_rate(config, fraction),
                           augmentation=schedule.augmentation(config, fraction))
            if not math.isfinite(train_loss):
                raise UnderstudyError(DIVERGED)
            losses.clear()
            last.update(status=now, images=state.images)

        # Validate and save. By position, not by the clock, so that a resumed run chooses the same model.
        if team.leader and validation is not None and _is_due(state.images - batch.count, state.images, every):
            _validate(state, validation, run, report)
        fraction, stop = team.agree(done(state.images), report.cancelled())
        if team.leader and (stop or now - last["checkpoint"] > config.checkpoint_seconds):
            state.seconds = now
            state.save(run / "checkpoint.safetensors")
            last["checkpoint"] = seconds()
        if stop:
            raise Cancelled(f"Training was stopped; {run} can be resumed.")
    if not team.leader:
        return

    # Finish: the last weights are a candidate too; the best model is measured on every validation frame.
    report.status("Validating")
    state.seconds = seconds()
    state.save(run / "checkpoint.safetensors")
    if validation is not None:
        _validate(state, validation, run, report)
        best = load_model(run / "model.safetensors")
        model.network.load_state_dict(best.network.state_dict())
        loss, errors = _validation_loss(state, validation, np.arange(len(validation)))
        model.about = best.about | {"validation": {"rmse_mm": loss_to_rmse(loss, 10.0), "frames": len(validation),
                                                   **errors}}
    if model.network.convolutions:
        model.familiarity = learn_familiarity(model, frames, validation, config, state.device)
    model.save(run / "model.safetensors")
    if validation is None:
        return
    report.metrics(images=model.about["images"], final=True, validation_loss=loss,
                   validation_rmse=loss_to_rmse(loss, 10.0), validation_frames=len(validation), **errors)


def _predict(state: State, frames: Frames, indices: np.ndarray) -> np.ndarray:
    """Predicted vertices without augmentation, (n, A, 3) float32, mesh units."""
    mean, deviation = state.model.whitening
    state.network.eval()
    with torch.no_grad():
        if frames.coefficients is not None:
            inputs = frames.coefficients[indices].to(state.device)
        else:
            inputs = torch.from_numpy(frames.inputs(indices)).to(state.device)[:, None]
            inputs = inputs.float().sub_(mean).div_(deviation)
        outputs = state.network(inputs, state.precision) / state.model.centimetres
        return outputs.cpu().view(len(indices), -1, 3).numpy()


def _is_due(before: int, images: int, every: int) -> bool:
    """Whether a step from `before` to `images` frames shown passes one of the places to validate at."""
    return images // every > before // every or any(before < part * every <= images for part in VALIDATE_EARLY)


def _finishing_seconds(state: State, frames: Frames, validation: Frames | None) -> float:
    """How long it will take to validate for the last time and to learn what is familiar: a few batches, measured."""
    indices = np.arange(min(64, len(frames)))
    _predict(state, frames, indices[:16])
    began = time.monotonic()
    _predict(state, frames, indices)
    count = len(validation or ()) + (looked_at(frames, validation) if state.model.network.convolutions else 0)
    return (time.monotonic() - began) * count / len(indices) + 1.0


def _validate(state: State, validation: Frames, run: Path, report: Reporter) -> None:
    """Loss over evenly spaced validation frames; keeps the model when it is the best so far, and shows some frames."""
    count = min(state.config.validation_frames, len(validation))
    chosen = np.linspace(0, len(validation) - 1, count).round().astype(int)
    loss, errors = _validation_loss(state, validation, chosen)
    report.metrics(images=state.images, validation_loss=loss, validation_rmse=loss_to_rmse(loss, 10.0),
                   validation_frames=count, **errors)
    if loss < state.best:
        state.best = loss
        state.model.about["images"] = state.images
        state.model.save(run / "model.safetensors")
    folder = run / "previews"
    shown = [int(path.stem) for path in folder.glob("*.png") if path.stem.isdigit()]
    if state.images >= PREVIEW_GROWTH * max(shown, default=0):
        path = folder / f"{state.images:08d}.png"
        picture = _preview(state, validation, chosen[:: -(-count // PREVIEW_ROWS)])
        draw.write_png(path, picture)
        scale = min(SMALL[0] / picture.shape[1], SMALL[1] / picture.shape[0])
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        with atomic(small_picture_of(run)) as temporary:
            np.save(temporary, small[..., ::-1])
        report.artifact(path, "picture")


def _validation_loss(state: State, validation: Frames, chosen: np.ndarray) -> tuple[float, dict[str, dict]]:
    """Loss in cm2 over the chosen frames (paper, Sec. 4.2), and RMSE in mm by "shots", "roles" and "regions"."""
    model, losses = state.model, []
    parts = {name: np.flatnonzero(np.isin(model.animated, vertices)) for name, vertices in model.regions.items()}
    parts = {name: vertices for name, vertices in parts.items() if len(vertices)}
    for block in np.array_split(chosen, -(-len(chosen) // 50)):
        squares = np.square(_predict(state, validation, block) - validation.targets(block))
        losses.append([squares.mean(axis=(1, 2)), *(squares[:, part].mean(axis=(1, 2)) for part in parts.values())])
    whole, *of_parts = np.concatenate(losses, axis=1) * model.centimetres ** 2

    def rmse(values: np.ndarray) -> float:
        return loss_to_rmse(float(values.mean()), 10.0)

    names, roles = (np.array([getattr(shot, what) for shot in validation.shots])[validation.shot[chosen]]
                    for what in ("name", "role"))
    return float(whole.mean()), {
        "shots": {str(name): rmse(whole[names == name]) for name in dict.fromkeys(names)},
        "roles": {str(role): rmse(whole[roles == role]) for role in dict.fromkeys(roles)},
        "regions": {name: rmse(values) for name, values in zip(parts, of_parts, strict=True)}}


def _preview(state: State, validation: Frames, chosen: np.ndarray) -> np.ndarray:
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
