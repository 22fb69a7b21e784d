"""A trained model that goes on: what is new to it, and how new and old frames are mixed."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from understudy.__main__ import main
from understudy.core.actor import Actor
from understudy.core.errors import Cancelled, UnderstudyError
from understudy.core.jobs import Reporter
from understudy.core.model import load_model
from understudy.core.network import make_network
from understudy.training import schedule
from understudy.training.config import Config
from understudy.training.loop import train
from understudy.training.replay import Order

SMALL = dataclasses.replace(Config.preset("smoke").fine_tuning(), batch=8, validation_frames=4)
NONE = dataclasses.replace(SMALL, epochs=1e-9)  # a single step


class Log(Reporter):
    """Keeps the statuses, and asks to stop after some steps."""

    def __init__(self, steps: float = float("inf")):
        self.texts, self.steps = [], steps

    def status(self, text):
        self.texts.append(text)

    def cancelled(self):
        self.steps -= 1
        return self.steps < 0

    def check_cancel(self):
        pass


def batches(order: Order, images: int) -> list[np.ndarray]:
    places, place = [], 0
    while place < images:
        places.append(place)
        place += order.size(place)
    return [order.frames(place) for place in places]


def test_every_batch_has_its_share_of_new_frames_and_all_get_their_turn():
    new = np.arange(90, 110)
    made = batches(Order(Config(batch=10, new_share=0.4), 300, new), 700)
    assert all(len(batch) == 10 and np.isin(batch, new).sum() == 4 for batch in made)
    shown = np.bincount(np.concatenate(made), minlength=300)
    assert set(shown[new]) == {14}, "280 places for 20 frames"
    assert set(np.delete(shown, new)) == {1, 2}, "420 places for 280 frames"
    later = Order(Config(batch=10, new_share=0.4), 300, new).frames(350)
    assert np.array_equal(later, made[35]), "what comes hangs on the place alone"


def test_few_new_frames_come_at_most_once_a_batch():
    made = batches(Order(Config(batch=10), 300, np.array([5, 7])), 100)
    assert all(np.isin(batch, [5, 7]).sum() == 2 for batch in made)


@pytest.mark.parametrize("new", [[], range(300), range(150)], ids=["nothing", "everything", "more than the share"])
def test_otherwise_each_frame_is_shown_once_an_epoch(new):
    made = batches(Order(Config(batch=50), 310, np.array(new, int)), 310)
    assert np.array_equal(np.sort(np.concatenate(made)), np.arange(310)) and len(made[-1]) == 10


def test_the_schedule_suits_a_trained_model():
    config = Config.preset("quick")
    fine = config.fine_tuning()
    assert fine.epochs == config.epochs and fine.learning_rate < config.learning_rate
    assert schedule.augmentation(fine, 0.0) == 1
    rates = [schedule.learning_rate(fine, done) for done in np.linspace(0, 1, 50)]
    assert rates[0] < 0.02 * max(rates) and rates[-1] == 0


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_senseless_share_is_refused(share):
    with pytest.raises(UnderstudyError, match="between 0 and 1"):
        Config(new_share=share)


def exclude(actor, ranges):
    path = actor / "shots" / "talk" / "shot.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"excluded": ranges}))


@pytest.fixture
def begun(actor):
    """The actor, and a model of it that has learned the first twelve of its sixteen frames."""
    exclude(actor, [[12, 15]])
    return actor, train(actor, NONE) / "model.safetensors"


def new_to(actor, model, config=NONE, **options) -> tuple[int, int]:
    """How many frames a run from a model takes for new, of how many; read from what it says."""
    log = Log()
    train(actor, config, start_from=model, report=log, **options)
    words = next(text for text in log.texts if text.startswith("Training")).split()
    return (int(words[2]), int(words[-1])) if len(words) > 1 else (0, 0)


def test_frames_that_were_excluded_before_are_new(begun):
    actor, model = begun
    assert new_to(actor, model) == (0, 0)
    exclude(actor, [[14, 15]])
    assert new_to(actor, model) == (2, 14)
    exclude(actor, [])
    (actor / "shots" / "talk").rename(actor / "shots" / "renamed")
    assert new_to(actor, model) == (4, 16), "a shot is known by its frames, whatever its name"


def test_frames_that_were_cleaned_again_are_new(begun):
    actor, model = begun
    vertices = Actor.load(actor).training_shots()[0].vertices()
    changed = np.memmap(actor / "shots" / "talk" / "vertices.pc2", "<f4", "r+", vertices.offset, vertices.shape)
    changed[3, 5] += 0.01
    changed.flush()
    assert new_to(actor, model) == (1, 12)


def test_of_models_without_fingerprints_the_hashes_of_shots_are_compared(begun):
    actor, path = begun
    model = load_model(path)
    model.learned = None
    model.save(path)
    assert new_to(actor, path) == (0, 0)
    model.about["data"] = {"talk": "other"}
    model.save(path)
    assert new_to(actor, path) == (0, 0), "all is new"


def test_stopping_and_resuming_ends_with_the_same_weights(begun, tmp_path):
    actor, model = begun
    exclude(actor, [])
    config = dataclasses.replace(SMALL, epochs=3, batch=5, new_share=0.3)
    whole = train(actor, config, run=tmp_path / "whole", start_from=model)
    assert len(load_model(whole / "start.safetensors").learned) == 12
    assert len(load_model(whole / "model.safetensors").learned) == 16
    part = tmp_path / "part"
    with pytest.raises(Cancelled):
        train(actor, config, run=part, start_from=model, report=Log(steps=2))
    train(actor, config, resume=part)
    want, got = (load_file(run / "checkpoint.safetensors") for run in (whole, part))
    assert want.keys() == got.keys() and all(torch.equal(want[key], got[key]) for key in want)


def test_a_run_that_was_killed_before_it_began_still_starts_from_its_model(begun, tmp_path, monkeypatch):
    actor, model = begun
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("understudy.training.loop.read_frames", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(actor, NONE, run=run, start_from=model)
    model.unlink()
    train(actor, NONE, resume=run)
    assert len(load_model(run / "start.safetensors").learned) == 12


@pytest.mark.parametrize("options, want", [
    ([], "convolutional-narrow"), (["--architecture", "convolutional"], "convolutional")])
def test_the_command_takes_the_schedule_and_the_network_that_suit(actor, small_model, monkeypatch, options, want):
    model, asked = small_model(), []
    model.network = make_network("convolutional-narrow", 15, 6)
    model.save(actor / "model.safetensors")
    monkeypatch.setattr("understudy.commands.training.run_job", lambda options, folder, name, work, **_: work(Log()))
    monkeypatch.setattr("understudy.training.loop.train", lambda folder, config, **_: asked.append(config))
    assert main(["train", str(actor), "--minutes", "5", "--from", str(actor / "model.safetensors"), *options]) == 0
    assert asked == [dataclasses.replace(Config.preset("quick").fine_tuning(), minutes=5, architecture=want)]
