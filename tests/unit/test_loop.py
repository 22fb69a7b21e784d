"""Training on a tiny actor: what a run leaves behind, and that stopping it changes nothing."""

import dataclasses
import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from understudy.core.actor import Actor, create_actor
from understudy.core.crop import Crop, network_input
from understudy.core.errors import Cancelled, UnderstudyError
from understudy.core.footage import open_footage
from understudy.core.jobs import Reporter
from understudy.core.model import load_model
from understudy.core.runs import Run
from understudy.core.solver import Solver
from understudy.training.config import Config
from understudy.training.dataset import read_frames
from understudy.training.loop import new_run, train

FRAMES = 16  # of the tiny actor's shots
SMALL = dataclasses.replace(Config.preset("smoke"), epochs=3, batch=8)


class Log(Reporter):
    """Keeps what it is told, and asks to stop after some steps."""

    def __init__(self, stop_after: int | None = None):
        self.values, self.warnings, self.asked, self.stop_after = [], [], 0, stop_after

    def metrics(self, **values):
        self.values.append(values)

    def warning(self, text):
        self.warnings.append(text)

    def cancelled(self):
        self.asked += 1
        return self.stop_after is not None and self.asked > self.stop_after

    def check_cancel(self):
        pass


def weights(run):
    tensors = load_file(run / "checkpoint.safetensors")
    return {name: value for name, value in tensors.items() if name.startswith("network")}


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_leaves_a_model_that_solves(actor):
    log = Log()
    run = train(actor, SMALL, report=log)
    model = load_model(actor / "model.safetensors")
    assert model.actor == "actor" and model.regions["mouth"].tolist() == [4, 5, 6, 7]
    assert model.about["training"] == SMALL.to_json() and model.about["frames"] == FRAMES
    final = log.values[-1]
    assert final["final"] and final["validation_frames"] == FRAMES
    assert [values["images"] for values in log.values[:-1] if "validation_rmse" in values] == [24, 40, 48]  # soon, too
    assert model.about["validation"]["rmse_mm"] == pytest.approx(final["validation_rmse"])
    newest = cv2.imread(str(max((run / "previews").glob("*.png"))))[..., ::-1]
    small = Run(run).small_picture()
    assert max(small.shape) <= 640
    assert abs(cv2.resize(newest, small.shape[1::-1], interpolation=cv2.INTER_AREA).astype(int) - small).mean() < 0.5
    assert not list(run.glob(".*"))
    # the model alone, on the footage, repeats the figure
    shot = Actor.load(actor).validation_shots()[0]
    with open_footage(shot.footage_path()) as footage:
        inputs = np.stack([network_input(picture, model.crop) for picture in footage.iterate()])
    difference = Solver(model, "cpu", 8, "torch").solve(inputs)[:, model.animated] - shot.vertices()[:, model.animated]
    rmse = 10 * np.sqrt(np.square(difference).sum(-1).mean())
    assert rmse == pytest.approx(final["validation_rmse"], rel=0.02)
    mouth = difference[:, np.isin(model.animated, model.regions["mouth"])]
    assert final["regions"] == {"mouth": pytest.approx(10 * np.sqrt(np.square(mouth).sum(-1).mean()), rel=0.02)}
    assert final["roles"] == {"pangram": pytest.approx(final["validation_rmse"])}
    assert model.about["validation"]["regions"] == final["regions"]


def test_stopping_and_resuming_ends_with_the_same_weights(actor, tmp_path):
    whole = train(actor, SMALL, run=tmp_path / "whole")
    part = tmp_path / "part"
    for steps in (0, 1):
        with pytest.raises(Cancelled, match="resumed"):
            train(actor, SMALL, run=part, resume=part if part.exists() else None, report=Log(stop_after=steps))
    train(actor, SMALL, resume=part)
    assert same(weights(whole), weights(part))
    assert (whole / "model.safetensors").read_bytes() == (part / "model.safetensors").read_bytes()


def test_stopping_where_a_validation_is_due_does_not_skip_it(actor, tmp_path):
    often = dataclasses.replace(SMALL, validation_frames=1)  # validates after 16 frames, among others
    whole, part = Log(), [Log(stop_after=1), Log()]
    train(actor, often, run=tmp_path / "whole", report=whole)
    with pytest.raises(Cancelled):
        train(actor, often, run=tmp_path / "part", report=part[0])
    train(actor, often, resume=tmp_path / "part", report=part[1])
    want, got = ([value["images"] for log in logs for value in log.values if "validation_loss" in value]
                 for logs in ([whole], part))
    assert 16 in want and got == want


def test_another_seed_ends_elsewhere(actor, tmp_path):
    short = dataclasses.replace(SMALL, epochs=0.5)
    one = train(actor, short, run=tmp_path / "a")
    other = train(actor, dataclasses.replace(short, seed=1), run=tmp_path / "b")
    assert not same(weights(one), weights(other))


def test_the_unit_of_the_mesh_changes_nothing(actor, tmp_path):
    """The same face in metres and in centimetres learns the same."""
    metres = tmp_path / "metres"
    template = Actor.load(actor).template
    np.savez(tmp_path / "template.npz", vertices=template.vertices / 100, face_sizes=template.face_sizes,
             face_indices=template.face_indices)
    made = create_actor(metres, tmp_path / "template.npz", "m", "actor", np.arange(2, 12), crop=(12, 16, 240, 320))
    for shot in Actor.load(actor).shots:
        made.add_shot(shot.name, shot.footage_path(), shot.vertices() / 100, shot.role, shot.split)
    logs = {folder: Log() for folder in (actor, metres)}
    for folder, log in logs.items():
        train(folder, SMALL, run=folder / "runs" / "x", report=log)
    in_cm, in_m = (log.values[-1]["validation_rmse"] for log in logs.values())
    assert in_m == pytest.approx(in_cm, rel=0.05)


def test_the_output_layer_can_be_frozen(actor, tmp_path):
    run = train(actor, dataclasses.replace(SMALL, epochs=1, freeze_output=True), run=tmp_path / "run")
    free = train(actor, dataclasses.replace(SMALL, epochs=1), run=tmp_path / "free")
    start = train(actor, dataclasses.replace(SMALL, epochs=1e-9, freeze_output=True), run=tmp_path / "start")
    key = "network.output.weight"
    assert torch.equal(weights(run)[key], weights(start)[key])
    assert not torch.equal(weights(free)[key], weights(start)[key])


def test_the_model_remembers_the_mean_training_input(actor, tmp_path):
    train(actor, dataclasses.replace(SMALL, epochs=1e-9), run=tmp_path / "run")
    model, shot = load_model(actor / "model.safetensors"), Actor.load(actor).training_shots()[0]
    with open_footage(shot.footage_path()) as footage:
        inputs = [network_input(picture, model.crop) for picture in footage.iterate()]
    assert np.array_equal(model.reference, np.rint(np.mean(inputs, 0)))


def test_training_goes_on_from_a_model(actor, tmp_path):
    train(actor, dataclasses.replace(SMALL, epochs=1), run=tmp_path / "first")
    log = Log()
    train(actor, dataclasses.replace(SMALL, epochs=1e-9), start_from=actor / "model.safetensors",
          run=tmp_path / "second", report=log)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert torch.allclose(before["conv3a.weight"], after["conv3a.weight"], atol=1e-3)


def test_a_time_budget_is_kept_to(actor, tmp_path):
    log = Log()
    train(actor, dataclasses.replace(SMALL, minutes=0.05), run=tmp_path / "run", report=log)
    assert log.values[-1]["final"]


def test_without_a_validation_shot_the_last_weights_are_kept(actor, tmp_path):
    shutil.rmtree(actor / "shots" / "held out")
    log = Log()
    run = train(actor, dataclasses.replace(SMALL, epochs=1), run=tmp_path / "run", report=log)
    assert "no validation shot" in log.warnings[0]
    assert torch.equal(load_file(run / "model.safetensors")["fc.weight"], weights(run)["network.fc.weight"])


def test_every_missing_footage_is_named(actor):
    for path in actor.glob("shots/*/shot.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"footage": f"gone/{path.parent.name}.mp4"}))
    with pytest.raises(UnderstudyError, match="talk.mp4"):
        train(actor, SMALL)


def test_footage_shorter_than_its_vertices_gets_a_sentence(actor):
    path = actor / "shots" / "talk" / "shot.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"first_frame": 3}))
    with pytest.raises(UnderstudyError, match="16 frames, but shot talk needs frame 18"):
        train(actor, SMALL)


def test_excluded_frames_are_not_learned_from(actor, tmp_path):
    path = actor / "shots" / "talk" / "shot.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"excluded": [[0, 4], [10, 10]]}))
    loaded = Actor.load(actor)
    frames, _ = read_frames(loaded, loaded.training_shots(), [], SMALL, Reporter())
    assert frames.sample.tolist() == [*range(5, 10), *range(11, FRAMES)]
    with open_footage(loaded.training_shots()[0].footage_path()) as footage:
        want = network_input(footage.read(11), Crop(*loaded.crop))
    assert np.array_equal(frames.inputs(np.array([5]))[0], want)


def test_new_runs_do_not_share_a_folder(tmp_path):
    first = new_run(tmp_path)
    first.mkdir(parents=True)
    assert new_run(tmp_path) != first
