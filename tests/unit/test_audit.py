import csv
import json

import numpy as np
import pytest
import torch

from understudy.__main__ import main
from understudy.core.actor import Actor
from understudy.core.composition import compose
from understudy.core.jobs import Reporter
from understudy.core.meshcache import cache_writer
from understudy.training.audit import abrupt, stand_out
from understudy.training.config import Config
from understudy.training.dataset import read_frames
from understudy.training.state import new_model

FRAMES = 400


@pytest.fixture
def measured():
    """Distances and spreads of two shots and two regions, as networks have them: the second shot is harder."""
    rng = np.random.default_rng(0)
    spreads = [np.exp(rng.normal(-2, .4, (FRAMES, 2))) for _ in range(2)]
    errors = [(2 + 2 * hard) * spread * np.exp(rng.normal(0, .2, spread.shape)) for hard, spread in enumerate(spreads)]
    return errors, spreads


def test_slips_stand_out_and_little_else(measured):
    errors, spreads = measured
    errors[0][100, 1] += 2
    errors[1][200:208, 0] += 2
    strange, usual = stand_out(errors, spreads)
    assert strange[0][100].tolist() == [False, True] and strange[1][200:208, 0].all()
    assert sum(int(one.sum()) for one in strange) <= 11
    assert np.median(usual[1] / spreads[1]) > 1.5 * np.median(usual[0] / spreads[0])


def test_a_frame_of_which_the_network_is_unsure_is_no_slip(measured):
    errors, spreads = measured
    spreads[0][50] *= 10
    errors[0][50] *= 10
    assert not stand_out(errors, spreads)[0][0][50].any()
    assert not np.isnan(stand_out([np.zeros((3, 1))], [np.zeros((3, 1))])[1][0]).any()


def replace_vertices(shot, vertices):
    with cache_writer(shot.cache, vertices.shape[1], len(vertices)) as writer:
        writer.write(vertices)


def test_what_comes_and_goes_slowly_is_the_networks_fault():
    errors = np.zeros((60, 1))
    errors[10:18] = 2
    errors[30:50, 0] = 2 * np.sin(np.linspace(0, np.pi, 20))
    steps = np.abs(np.diff(errors, axis=0, prepend=0))
    assert np.flatnonzero(abrupt(errors > .5, errors, steps)).tolist() == list(range(10, 18))
    errors[58:] = 2  # until the end of the shot
    assert abrupt(errors > .5, errors, np.abs(np.diff(errors, axis=0, prepend=0)))[58:].all()


@pytest.fixture
def slipped(actor):
    """An actor one label of which has slipped by a centimetre, and a model that answers with the mean mesh."""
    actor = Actor.load(actor)
    shot = actor.training_shots()[0]
    vertices = np.array(shot.vertices())
    vertices[7, 4:8] += [1, 0, 0]
    replace_vertices(shot, vertices)
    config = Config()
    model = new_model(actor, read_frames(actor, [shot], [], config, Reporter())[0], config)
    torch.nn.init.zeros_(model.network.fc.weight)
    model.save(actor.folder / "model.safetensors")
    return actor


def test_the_command_tells_which_and_so_does_the_composition(slipped, capsys):
    assert main(["audit", str(slipped.folder)]) == 1
    assert "talk: Frame 7: the mouth is" in capsys.readouterr().out
    result = json.loads((slipped.folder / "audit" / "audit.json").read_text())
    (found,) = result["findings"]
    assert (found["shot"], found["first"], found["last"], found["regions"]) == ("talk", 7, 7, ["mouth"])
    assert found["error_mm"] == pytest.approx(10, abs=1.5)
    with open(slipped.folder / "audit" / "audit.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["worst"] == "7"
    assert any("Frame 7" in text for text in compose(Actor.load(slipped.folder)).suspicious["talk"])

    shot = slipped.training_shots()[0]  # the artist mends it: what was found no longer counts
    vertices = np.array(shot.vertices())
    vertices[7] = vertices[8]
    replace_vertices(shot, vertices)
    assert not any("sure" in text for text in compose(Actor.load(slipped.folder)).suspicious.get("talk", []))
    assert main(["audit", str(slipped.folder)]) == 0


def test_a_damaged_audit_does_not_stop_the_composition(slipped):
    (slipped.folder / "audit").mkdir()
    for text in ("[]", "{", '{"findings": [{"shot": "talk", "text": "x"}], "shots": 7}', '{"findings": 3}'):
        (slipped.folder / "audit" / "audit.json").write_text(text)
        assert not any("sure" in text for text in compose(slipped).suspicious.get("talk", []))
