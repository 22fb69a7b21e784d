"""What the paper tried and rejected, and is off unless asked for: noise, gamma, perspective, whitening each picture."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from understudy.core.crop import HEIGHT, WIDTH, Crop, sample
from understudy.core.engine import candidates, make_engine
from understudy.core.errors import Cancelled, UnderstudyError
from understudy.core.jobs import Reporter
from understudy.core.network import make_network
from understudy.training.augment import light, matrices, sample_on_device
from understudy.training.config import Config
from understudy.training.feed import Batch
from understudy.training.loop import train
from understudy.training.pictures import Region
from understudy.training.state import State
from understudy.training.team import Team

PLAIN = dataclasses.replace(Config.preset("smoke"), batch=6, augment_ramp=1e-6)
ALL = dataclasses.replace(PLAIN, noise=0.2, gamma=0.5, perspective=0.1)


class Stop(Reporter):
    """Asks to stop after some steps."""

    def __init__(self, steps: int):
        self.steps = steps

    def cancelled(self):
        self.steps -= 1
        return self.steps < 0

    def check_cancel(self):
        pass


@pytest.fixture
def second_step(actor, tmp_path, monkeypatch):
    """A function of a configuration: the state and the batch of a run's second step, which is at full strength."""
    def run(config: Config) -> tuple[State, Batch]:
        steps, real = [], State.step
        with monkeypatch.context() as patch, pytest.raises(Cancelled):
            patch.setattr(State, "step", lambda self, batch, done: steps.append((self, batch)) or real(
                self, batch, done))
            train(actor, config, tmp_path / str(len(list(tmp_path.iterdir()))), report=Stop(1))
        return steps[1]

    return run


def shown(state: State, batch: Batch) -> torch.Tensor:
    """What the network is shown when a batch is trained on, (n, 320, 240)."""
    seen = []
    with state.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone())):
        state.step(batch, 0.5)
    return seen[0][:, 0]


def test_noise_and_gamma_do_what_they_say(second_step):
    state, batch = second_step(dataclasses.replace(ALL, perspective=0.0))
    inputs = shown(state, batch)
    mean, deviation = state.model.whitening
    gain, offset, exponent, noise = batch.light.T[:, :, None, None]
    assert torch.equal(noise.unique(), torch.tensor([0.2]))
    levels = 255 * (batch.pictures / 255) ** exponent
    rest = inputs - ((levels - mean) / deviation * gain + offset)
    assert rest.std() == pytest.approx(0.2, rel=0.01) and abs(rest.mean()) < 1e-3
    assert not torch.equal(rest[0], rest[1])
    exponents = light(ALL, 1.0, 4000, np.random.default_rng(0))[:, 2]
    assert 1 / 1.5 <= exponents.min() < 0.68 and 1.48 < exponents.max() <= 1.5001
    assert light(ALL, 0.5, 1, np.random.default_rng(0))[0, 3] == pytest.approx(0.1)


def test_everything_else_stays_as_it_was(second_step):
    plain, noisy = (shown(*second_step(config)) for config in (PLAIN, dataclasses.replace(PLAIN, noise=0.2)))
    assert (noisy - plain).std() == pytest.approx(0.2, rel=0.01)


def test_noise_does_not_depend_on_the_number_of_processes(second_step):
    state, batch = second_step(ALL)
    place, parts = state.images, []
    for rank in range(2):
        state.team, state.images = Team(), place
        state.team.rank, state.team.size, state.team.add = rank, 2, lambda gradients: None
        parts.append(shown(state, batch[state.team.rows(batch.count)]))
    state.team, state.images = Team(), place
    assert torch.equal(torch.cat(parts), shown(state, batch))


def test_perspective_tilts_by_what_it_says():
    config = dataclasses.replace(ALL, translation=0, rotation=0, zoom=0)
    maps = matrices(config, 1.0, 3000, np.random.default_rng(0))

    def size(x: float, y: float) -> np.ndarray:
        """How large a pixel at a place of the input is in the picture."""
        places = np.array([[x - 0.5, y, 1], [x + 0.5, y, 1]])
        moved = np.einsum("nij,kj->nki", maps, places)
        moved = moved[..., :2] / moved[..., 2:]
        return np.linalg.norm(np.diff(moved, axis=1), axis=2)[:, 0]

    assert np.allclose(size(WIDTH / 2, HEIGHT / 2), 1, atol=0.01)
    edge = size(WIDTH / 2, HEIGHT)  # across the direction of the tilt
    assert 1.09 < edge.max() < 1.13 and 0.88 < edge.min() < 0.92


def test_perspective_agrees_on_the_device_and_stays_in_what_is_kept_of_a_picture():
    rng, crop = np.random.default_rng(0), Crop(60, 80, 240, 320)
    picture = np.kron(rng.integers(0, 256, (60, 45)), np.ones((8, 8))).astype(np.uint8)
    maps = matrices(ALL, 1.0, 200, rng)
    whole = crop.matrix() @ maps
    corners = np.einsum("nij,kj->nki", whole, [[0, 0, 1], [WIDTH, 0, 1], [0, HEIGHT, 1], [WIDTH, HEIGHT, 1]])
    corners = corners[..., :2] / corners[..., 2:]
    region = Region(crop, (1000, 1000), ALL)
    assert region.columns.start <= corners[..., 0].min() + 240 or region.columns.start == 0
    assert corners[..., 0].max() <= region.columns.stop and corners[..., 1].max() <= region.rows.stop
    want = np.stack([sample(picture, m) for m in whole[:4]]).astype(float)
    got = sample_on_device(torch.from_numpy(picture).expand(4, -1, -1), torch.from_numpy(whole[:4]).float(), True)
    difference = np.abs(got[:, 0].numpy() - want)
    assert difference.mean() < 0.6 and np.percentile(difference, 99) < 6


def test_stopping_and_resuming_ends_with_the_same_weights(actor, tmp_path):
    config = dataclasses.replace(ALL, epochs=3)

    train(actor, config, tmp_path / "whole")
    with pytest.raises(Cancelled):
        train(actor, config, tmp_path / "stopped", report=Stop(3))
    train(actor, config, resume=tmp_path / "stopped")
    whole, resumed = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


@pytest.mark.parametrize("values", [{"noise": -0.1}, {"gamma": -1.0}, {"perspective": 0.3},
                                    {"perspective": float("nan")}])
def test_what_makes_no_sense_is_refused(values):
    with pytest.raises(UnderstudyError, match="perspective"):
        Config(**values)


def test_whitening_each_picture_undoes_its_light_wherever_it_is_solved():
    torch.manual_seed(0)
    device = torch.device("cpu")
    network = make_network("convolutional-whitened-each", 15, 6).eval()
    for layer in network.children():
        torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    dark = np.random.default_rng(0).integers(20, 80, (2, 320, 240), np.uint8)
    pictures = torch.from_numpy(np.concatenate([dark, 3 * dark]))
    want = network.features((pictures[:, None].float() - 100) / 40).detach()
    assert torch.allclose(want[:2], want[2:], atol=1e-3)
    plain = make_network("convolutional", 15, 6)
    plain.load_state_dict(network.state_dict())
    plain = plain.features((pictures[:, None].float() - 100) / 40)
    assert (plain[:2] - plain[2:]).norm() > 0.1 * plain.norm()
    for engine, precision in candidates("torch", device):
        got = make_engine(engine, precision, network, (100.0, 40.0), device, 4)(pictures)
        assert (got - want).norm() < (1e-4 if precision == "fp32" else 0.02) * want.norm()


def test_an_experiment_leaves_the_actors_model_alone(actor, tmp_path):
    train(actor, PLAIN, tmp_path / "run", use=False)
    assert (tmp_path / "run" / "model.safetensors").exists() and not (actor / "model.safetensors").exists()
