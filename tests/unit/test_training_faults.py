"""What can be wrong with the data of a training, or go wrong beside it: a sentence, and a run that can be resumed."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from understudy.core.actor import Actor
from understudy.core.errors import Cancelled, UnderstudyError
from understudy.core.jobs import Reporter
from understudy.core.model import load_model
from understudy.training import state
from understudy.training.config import Config
from understudy.training.dataset import read_frames
from understudy.training.loop import train

SMALL = dataclasses.replace(Config.preset("smoke"), epochs=1, batch=8, validation_frames=4)


class Log(Reporter):
    """Keeps warnings, and does something, or asks to stop, after some steps."""

    def __init__(self, steps: float = float("inf"), then=None):
        self.warnings, self.steps, self.then = [], steps, then

    def warning(self, text):
        self.warnings.append(text)

    def cancelled(self):
        self.steps -= 1
        if self.steps == 0 and self.then:
            self.then()
        return self.steps <= 0 and self.then is None

    def check_cancel(self):
        pass


def stop_after(steps, actor, run):
    with pytest.raises(Cancelled):
        train(actor, SMALL, run=run, report=Log(steps))


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def break_label(actor, shot, sample):
    found = next(one for one in Actor.load(actor).shots if one.name == shot).vertices()
    labels = np.memmap(found.filename, "<f4", "r+", found.offset, found.shape)
    labels[sample, 4, 1] = np.nan
    labels.flush()


@pytest.mark.parametrize("shot", ["talk", "held out"])
def test_a_label_that_is_no_number_is_named_before_anything_is_learned(actor, tmp_path, shot):
    break_label(actor, shot, 5)
    with pytest.raises(UnderstudyError, match=f"Shot {shot}: sample 5 .* Mark the shot again, or exclude"):
        train(actor, SMALL, run=tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()
    change(actor / "shots" / shot / "shot.json", excluded=[[5, 5]])
    train(actor, dataclasses.replace(SMALL, epochs=1e-9), resume=tmp_path / "run")


def test_weights_that_are_no_numbers_are_not_saved(actor, tmp_path, monkeypatch):
    run = tmp_path / "run"
    stop_after(1, actor, run)
    before = (run / "checkpoint.safetensors").read_bytes()
    real = state.State.step

    def diverge(self, batch, done):
        with torch.no_grad():
            self.network.fc.bias[0] = torch.nan
        return real(self, batch, done)

    with monkeypatch.context() as patch:
        patch.setattr(state.State, "step", diverge)
        with pytest.raises(UnderstudyError, match="Training diverged.*--seed"):
            train(actor, SMALL, resume=run)
    assert (run / "checkpoint.safetensors").read_bytes() == before
    train(actor, SMALL, resume=run)


@pytest.mark.parametrize("what", ["one frame", "all frames alike"])
def test_little_to_learn_from(actor, tmp_path, what):
    if what == "one frame":
        for shot in ("talk", "held out"):
            change(actor / "shots" / shot / "shot.json", excluded=[[0, 2], [4, 15]])
    else:
        shot = Actor.load(actor).training_shots()[0]
        still = np.repeat(shot.vertices()[:1], 16, 0)
        made = Actor.load(actor)
        shutil.rmtree(shot.folder)
        made.shots.remove(next(one for one in made.shots if one.name == "talk"))
        made.add_shot("talk", actor / "talk.mp4", still, "pangram", "train")
    run = train(actor, SMALL, run=tmp_path / "run")
    model = load_model(run / "model.safetensors")
    assert np.isfinite(model.network.output.weight.detach().numpy()).all()
    assert np.isfinite(model.about["validation"]["rmse_mm"])


def test_a_shot_deleted_meanwhile_is_no_longer_learned_from_when_the_run_is_resumed(actor, tmp_path):
    shot = Actor.load(actor).training_shots()[0]
    Actor.load(actor).add_shot("more", shot.footage_path(), shot.vertices()[:8], "pangram", "train")
    run = tmp_path / "run"
    report = Log(1, then=lambda: shutil.rmtree(actor / "shots" / "more"))
    train(actor, SMALL, run=run, report=report)  # goes on with what it has opened
    again = Log()
    train(actor, SMALL, resume=run, report=again)
    assert "come, gone or changed since this run began: more" in again.warnings[0]
    assert load_model(run / "model.safetensors").about["frames"] == 16


def test_vertices_that_are_cut_meanwhile_get_a_sentence(actor):
    loaded = Actor.load(actor)
    frames, _ = read_frames(loaded, loaded.training_shots(), [], SMALL, Reporter())
    path = loaded.training_shots()[0].cache
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 4)
    frames.targets([14])
    with pytest.raises(UnderstudyError, match=r"vertices.pc2 was cut short.*--resume"):
        frames.targets([15])


def test_an_actor_edited_meanwhile_changes_nothing(actor, tmp_path):
    text = (actor / "actor.json").read_text()
    report = Log(1, then=lambda: (actor / "actor.json").write_text("{"))
    run = train(actor, SMALL, run=tmp_path / "run", report=report)
    assert load_model(run / "model.safetensors").actor == "actor"
    with pytest.raises(UnderstudyError, match=r"actor.json is not valid JSON"):
        train(actor, SMALL, resume=run)
    (actor / "actor.json").write_text(text)
    train(actor, SMALL, resume=run)


def test_a_gpu_that_is_lost_gets_a_sentence(actor, tmp_path, monkeypatch):
    def lost(self, batch, done):
        raise torch.AcceleratorError("CUDA error: unspecified launch failure\nCUDA kernel errors might be ...")

    monkeypatch.setattr(state.State, "step", lost)
    with pytest.raises(UnderstudyError, match="unspecified launch failure.*--resume .*another device") as caught:
        train(actor, SMALL, run=tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_a_folder_that_holds_a_run_is_not_begun_anew(actor, tmp_path):
    run = tmp_path / "run"
    stop_after(1, actor, run)
    with pytest.raises(UnderstudyError, match="--resume"):
        train(actor, SMALL, run=run)


@pytest.mark.parametrize("fault", ["absent", "of another mesh"])
def test_a_model_to_start_from_is_looked_at_before_a_run_is_made(actor, tmp_path, small_model, fault):
    model = tmp_path / "model.safetensors"
    if fault != "absent":
        small_model().save(model)
    with pytest.raises(UnderstudyError, match=f"{model}"):
        train(actor, SMALL, run=tmp_path / "run", start_from=model)
    assert not (tmp_path / "run" / "config.json").exists()
