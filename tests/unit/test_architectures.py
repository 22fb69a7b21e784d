"""The networks that the paper compared (Sec. 5.1) go the same way as its own: trained, kept, resumed, solved."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from understudy.__main__ import main
from understudy.core import steady
from understudy.core.architectures import ARCHITECTURES
from understudy.core.errors import Cancelled, UnderstudyError
from understudy.core.jobs import Reporter
from understudy.core.model import confidence_weights, load_model
from understudy.core.modelfile import ModelFile
from understudy.core.network import DROPOUT, FullyConnected
from understudy.core.solver import Solver
from understudy.core.steady import Steady
from understudy.training import image_pca
from understudy.training.config import Config
from understudy.training.evaluate import evaluate
from understudy.training.loop import train

SMALL = dataclasses.replace(Config.preset("smoke"), epochs=3, batch=8)
PLAIN = "fully-connected-unstabilised"


class Stop(Reporter):
    """Asks to stop after some steps."""

    def __init__(self, after: int):
        self.left = after

    def cancelled(self):
        self.left -= 1
        return self.left < 0

    def check_cancel(self):
        pass


@pytest.fixture(scope="module")
def trained(original, tmp_path_factory):
    """A function that gives an actor's folder and a run of an architecture, trained once."""
    import shutil

    made = {}

    def give(name):
        if name not in made:
            folder = shutil.copytree(original, tmp_path_factory.mktemp(name) / "actor")
            made[name] = folder, train(folder, SMALL.of(name), run=folder / "runs" / "a")
        return made[name]

    return give


@pytest.mark.parametrize("name", ["convolutional-shallow", PLAIN])
def test_a_network_is_trained_kept_and_solved(trained, tmp_path, name):
    folder, run = trained(name)
    model = load_model(folder / "model.safetensors")
    assert model.network.architecture == name == ModelFile.load(folder / "model.safetensors").architecture
    inputs = np.random.default_rng(0).integers(0, 255, (5, 320, 240), np.uint8)
    whole, online = Solver(model, "cpu", 4).solve(inputs), Solver(model, "cpu", 1).solve(inputs)
    assert np.isfinite(whole).all() and np.allclose(whole, online, atol=1e-3)
    result = evaluate(folder, tmp_path / "report", device="cpu")
    assert result["overall"]["rmse_mm"] > 0 and result["overall"]["regions"]["all"]["attenuation"] is not None


@pytest.mark.parametrize("name", ["convolutional-shallow", PLAIN])
def test_resuming_ends_with_the_same_weights(trained, actor, tmp_path, name):
    _, whole = trained(name)
    with pytest.raises(Cancelled):
        train(actor, SMALL.of(name), run=tmp_path / "part", report=Stop(2))
    train(actor, Config(), resume=tmp_path / "part")
    ended, want = (load_file(run / "checkpoint.safetensors") for run in (tmp_path / "part", whole))
    assert ended.keys() == want.keys() and all(torch.equal(ended[key], want[key]) for key in want)


def test_an_engine_that_knows_convolutions_only_is_replaced_with_a_word(trained):
    model = load_model(trained(PLAIN)[0] / "model.safetensors")
    solver = Solver(model, "cpu", 2, engine="openvino")
    assert solver.engine.startswith("torch") and "convolutional networks only" in solver.notes[0]
    assert not Solver(model, "cpu", 2).notes


def test_going_on_from_another_architecture_gets_a_sentence(trained, actor):
    model = trained("convolutional-shallow")[0] / "model.safetensors"
    with pytest.raises(UnderstudyError, match="of the architecture convolutional-shallow, not convolutional. Name its"):
        train(actor, SMALL, start_from=model)
    with pytest.raises(UnderstudyError, match="not fully-connected-unstabilised"):
        train(actor, SMALL.of(PLAIN), start_from=model)


def test_a_fully_connected_network_goes_on_with_its_own_image_components(trained, actor, tmp_path):
    model = trained(PLAIN)[0] / "model.safetensors"
    run = train(actor, SMALL.of(PLAIN), run=tmp_path / "run", start_from=model)
    first, then = load_file(model), load_file(run / "model.safetensors")
    assert torch.equal(first["image_basis"], then["image_basis"]) and first["image_basis"].dtype == torch.float16
    assert not torch.equal(first["fc1.weight"], then["fc1.weight"])


def test_the_model_file_solves_as_the_network_that_was_trained(trained):
    """Its image components are kept in half precision, and were while training."""
    folder, run = trained(PLAIN)
    network = load_model(folder / "model.safetensors").network
    assert torch.equal(network.image_basis, load_model(run / "start.safetensors").network.image_basis)
    assert torch.equal(network.image_basis.half().float(), network.image_basis)


def test_moved_pictures_train_it_too(actor, tmp_path):
    jitter = dataclasses.replace(SMALL.of(PLAIN), translation=2.0, brightness=0.1, epochs=1)
    run = train(actor, jitter, run=tmp_path / "run")
    assert load_model(run / "model.safetensors").about["training"]["translation"] == 2.0


def test_a_wrong_name_on_the_command_line_leaves_no_run(actor, capsys):
    assert main(["train", str(actor), "--architecture", "resnet"]) == 1
    assert "no architecture 'resnet'; there are convolutional, " in capsys.readouterr().err
    assert not (actor / "runs").exists()


def test_every_name_makes_a_configuration_that_survives_its_file():
    for name in ARCHITECTURES:
        config = Config().of(name)
        assert Config.from_json(config.to_json()) == config and config.architecture == name
        assert config.augments == name.startswith("convolutional")
    with pytest.raises(UnderstudyError, match="no architecture 'resnet'"):
        Config.from_json({"architecture": "resnet"})
    with pytest.raises(UnderstudyError, match="should be a name"):
        Config.from_json({"architecture": 3})
    with pytest.raises(UnderstudyError, match="should be a number"):
        Config.from_json({"epochs": "many"})


class Pictures:
    """As much of training.dataset.Frames as shows pictures: sums of a few patterns."""

    def __init__(self, count: int, patterns: int):
        rng = np.random.default_rng(0)
        self.patterns = rng.standard_normal((patterns, 320 * 240)) * np.geomspace(30, 3, patterns)[:, None]
        self.codes = rng.standard_normal((count, patterns))

    def __len__(self):
        return len(self.codes)

    def inputs(self, indices, maps=None):
        values = 128 + self.codes[indices] @ self.patterns
        return np.clip(values, 0, 255).astype(np.uint8).reshape(-1, 320, 240)


def test_image_components_are_those_of_a_singular_value_decomposition():
    frames, whitening = Pictures(60, 8), (100.0, 50.0)
    mean, basis, explained = image_pca.fit(frames, whitening, 12)
    whitened = (torch.from_numpy(frames.inputs(np.arange(60))).flatten(1).double() - 100) / 50
    centred = whitened - whitened.mean(0)
    _, values, want = torch.linalg.svd(centred, full_matrices=False)
    assert torch.allclose(mean.double(), whitened.mean(0), atol=1e-4)
    assert explained == pytest.approx(float(values[:12].square().sum() / values.square().sum()), abs=1e-4)
    assert torch.allclose(basis @ basis.T, torch.eye(12), atol=1e-2)
    alike = (basis.double() * want[:12]).sum(1).abs()
    assert alike[:8] == pytest.approx(np.ones(8), abs=1e-3)


def test_there_are_fewer_image_components_than_frames():
    assert len(image_pca.fit(Pictures(20, 30), (100.0, 50.0))[1]) == 19


def test_both_dropouts_are_in_training_and_none_in_solving():
    torch.manual_seed(0)
    network, inputs = FullyConnected(15, 6, 40, False), torch.randn(3, 40)
    torch.nn.init.orthogonal_(network.image_basis)
    network.eval()
    whole = network(inputs)
    everything = torch.ones(3, network.droppable) * (1 - DROPOUT)
    assert torch.allclose(network(inputs, keep=everything), whole, atol=1e-6)
    for part in (slice(0, 2000), slice(2000, 3000)):
        keep = everything.clone()
        keep[:, part] = (torch.rand(keep[:, part].shape) > DROPOUT).float()
        assert not torch.allclose(network(inputs, keep=keep), whole, atol=1e-3)
    assert not torch.equal(network.train()(inputs), whole)
    pictures = inputs @ network.image_basis + network.image_mean
    assert torch.allclose(network.eval()(pictures.view(3, 1, 320, 240)), whole, atol=1e-4)


def test_the_spread_of_a_fully_connected_network_is_what_its_last_dropout_causes():
    torch.manual_seed(0)
    network = FullyConnected(15, 6, 40, False)
    weights = confidence_weights(network, np.arange(5), {"brows": np.array([4])})
    features = network.features(torch.randn(1, 40))[0].detach()
    keep = (torch.rand(4000, 1000) > DROPOUT).float() / (1 - DROPOUT)
    with torch.no_grad():
        variance = network.output(network.fc(features * keep)).view(4000, 5, 3).var(0).sum(-1)
    assert features.square().numpy() @ weights == pytest.approx([variance.mean().item(), variance[4].item()], rel=0.08)


@pytest.fixture
def seen(monkeypatch):
    """Landmarks as a stand-in finds them: the bright bar's left end, if there is a bar, on a head that is upright."""
    def find(picture):
        bright = np.argwhere(picture > 130)
        if not len(bright):
            return None
        points = np.zeros((468, 3), np.float32)
        points[:, :2] = bright[:, ::-1].min(axis=0) + 0.5
        points[[263, 362], 0] += 1  # the eyes, so that there is a line between them
        return points

    monkeypatch.setattr(steady, "find", find)


def bar(x: int, y: int) -> np.ndarray:
    picture = np.full((320, 240), 60, np.uint8)
    picture[y:y + 40, x:x + 60] = 200
    return picture


def test_stabilised_pictures_have_the_head_in_one_place(seen):
    pictures = [bar(80, 120), bar(96, 112), bar(88, 140)]
    heads = np.stack([steady.head(picture) for picture in pictures])
    place, usual = steady.choose_place(heads)
    assert place == pytest.approx([88.5 + 0.5, 124.5], abs=1e-6)
    still = Steady(place, usual)(pictures)
    assert all(np.abs(picture.astype(int) - still[0]).max() <= 1 for picture in still)
    assert still[0][130, 100] == 200 and still[0][110, 100] == 60


def test_where_no_face_is_seen_the_head_is_where_it_mostly_is(seen):
    heads = np.stack([steady.head(bar(80, 120)), steady.head(bar(84, 128)), np.full((3, 3), np.nan)])
    place, usual = steady.choose_place(heads)
    held = Steady(place, usual)
    blank = np.random.default_rng(0).integers(0, 100, (320, 240), np.uint8)
    assert np.allclose(usual, np.eye(3)) and held.lost == 0
    assert np.array_equal(held([bar(80, 120), blank])[1], steady.sample(blank, np.eye(3))) and held.lost == 1


def test_a_stabilised_network_is_trained_and_solves_a_part_as_it_solves_the_whole(seen, actor, tmp_path):
    folder = actor
    run = train(folder, SMALL.of("fully-connected"), run=tmp_path / "run")
    model = load_model(folder / "model.safetensors")
    assert model.network.stabilised and not torch.equal(model.network.place, torch.zeros(2))
    pictures = np.stack([bar(x, 130) for x in (70, 80, 90, 100, 110)])
    told = []
    solver = Solver(model, "cpu", 2)
    whole = np.concatenate([vertices for vertices, _, _ in solver.stream(pictures, warn=told.append)])
    assert np.array_equal(solver.solve(pictures[3:]), whole[3:]) and not told
    assert np.abs(whole - whole[0]).max() < 0.02 * np.abs(whole - model.template.vertices).max()
    list(solver.stream([np.zeros((320, 240), np.uint8), *pictures], warn=told.append))
    assert told == ["No face was found in 1 of the frames. There the head was taken to be where it mostly is in "
                    "training."]
    assert load_model(run / "start.safetensors").network.usual.shape == (3, 3)


def test_heads_are_looked_for_once(seen, actor, tmp_path, monkeypatch):
    train(actor, SMALL.of("fully-connected"), run=tmp_path / "a")
    monkeypatch.setattr(steady, "find", lambda picture: pytest.fail("looked for again"))
    train(actor, SMALL.of("fully-connected"), run=tmp_path / "b")


def test_without_landmarks_a_sentence_says_what_to_install(actor, tmp_path, monkeypatch):
    def find(picture):
        raise UnderstudyError("Finding landmarks needs a package.")

    monkeypatch.setattr(steady, "find", find)
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))  # where no other test has found heads
    with pytest.raises(UnderstudyError, match="needs a package"):
        train(actor, SMALL.of("fully-connected"), run=tmp_path / "a")
