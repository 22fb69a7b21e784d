"""The model file: what goes in comes out, and nothing else comes in."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from understudy.core.errors import UnderstudyError
from understudy.core.model import confidence_weights, load_model
from understudy.core.network import DROPOUT

REFERENCE = np.arange(320 * 240).astype(np.uint8).reshape(320, 240)


@pytest.fixture
def saved(tmp_path, small_model):
    replace(small_model(), reference=REFERENCE).save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def change(path, tensors: dict | None = None, about: dict | None = None):
    """Write the file again with some tensors and metadata entries replaced; None removes a tensor."""
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    metadata = json.loads(header["__metadata__"]["understudy"]) | (about or {})
    changed = {name: value for name, value in (load_file(path) | (tensors or {})).items() if value is not None}
    save_file(changed, path, {"understudy": json.dumps(metadata)})


def test_a_model_survives_its_file(saved, small_model):
    want, got = replace(small_model(), reference=REFERENCE), load_model(saved)
    for name in ("actor", "unit", "crop", "transfer", "topology", "whitening", "about"):
        assert getattr(got, name) == getattr(want, name)
    for name in ("animated", "stabiliser", "mean", "basis", "reference"):
        assert np.array_equal(getattr(got, name), getattr(want, name))
    assert {name: list(value) for name, value in got.regions.items()} == {"lips": [2, 4], "brows": [7]}
    picture = torch.randn(1, 1, 320, 240)
    assert torch.equal(got.network.eval()(picture), want.network.eval()(picture))


def test_an_old_file_has_no_reference(saved):
    change(saved, {"reference": None})
    assert load_model(saved).reference is None


def test_the_closed_form_spread_is_what_dropout_causes(small_model):
    model = small_model()
    weights = confidence_weights(model.network, model.animated, model.regions)
    features = torch.rand(9720)
    keep = (torch.rand(4000, 9720) > DROPOUT).float() / (1 - DROPOUT)
    with torch.no_grad():
        drawn = model.network.output(model.network.fc(features * keep)).view(4000, 5, 3)
    variance = drawn.var(0).sum(-1)  # of each animated vertex
    spread = features.square().numpy() @ weights
    assert spread[0] == pytest.approx(variance.mean().item(), rel=0.05)
    assert spread[1] == pytest.approx(variance[4].item(), rel=0.06)  # brows: vertex 7
    assert spread[2] == pytest.approx(variance[[1, 2]].mean().item(), rel=0.06)  # lips: vertices 2 and 4


@pytest.mark.parametrize(("tensors", "about", "says"), [
    ({}, {"format": 99}, "newer"),
    ({}, {"format": "new"}, "not one of ours"),
    ({}, {"crop": [1, 2]}, "not a valid model"),
    ({}, {"unit": -1}, "unit"),
    ({}, {"topology": "00"}, "topology"),
    ({}, {"architecture": {"components": 10**9}}, "no sense"),
    ({}, {"architecture": {"name": "resnet", "components": 6}}, "architecture 'resnet'"),
    ({}, {"architecture": {"name": "convolutional-wide", "components": 6}}, "conv1a.weight"),
    ({"conv3a.weight": torch.zeros(2, 2)}, {}, "conv3a.weight"),
    ({"output.bias": torch.zeros(16)}, {}, "no sense"),
    ({"fc.bias": None}, {}, "fc.bias"),
    ({"mask.stabiliser": None}, {}, "mask.stabiliser"),
    ({"pca.basis": torch.zeros(6, 9, 3)}, {}, "pca.basis"),
    ({"fc.bias": torch.full((6,), float("nan"))}, {}, "fc.bias holds numbers that are not finite"),
    ({"reference": torch.zeros(240, 320, dtype=torch.uint8)}, {}, "reference is"),
    ({"mask.animated": torch.tensor([1, 2, 4, 5, 8], dtype=torch.int32)}, {}, "names vertex 8"),
    ({"region.lips": torch.tensor([-1], dtype=torch.int32)}, {}, "lips"),
    ({"template.face_sizes": torch.tensor([4, 5], dtype=torch.int32)}, {}, "faces"),
    ({"whitening": torch.tensor([1.0, 0.0], dtype=torch.float64)}, {}, "whitening"),
])
def test_a_tampered_file_gets_a_sentence(saved, tensors, about, says):
    change(saved, tensors, about)
    with pytest.raises(UnderstudyError, match=says):
        load_model(saved)


def test_a_file_cut_anywhere_gets_a_sentence(saved):
    whole = saved.read_bytes()
    for length in (0, 4, 8, 200, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:length])
        with pytest.raises(UnderstudyError, match="whole model file"):
            load_model(saved)


def test_a_header_that_promises_more_than_the_file_has_gets_a_sentence(saved):
    whole = saved.read_bytes()
    saved.write_bytes(struct.pack("<Q", 1 << 60) + whole[8:])
    with pytest.raises(UnderstudyError):
        load_model(saved)


def test_other_files_are_not_models(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "pickle.pt")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    wanted = {"pickle.pt": "whole model", "other.safetensors": "not one of ours", "none": "no model file"}
    for name, says in wanted.items():
        with pytest.raises(UnderstudyError, match=says):
            load_model(tmp_path / name)


def test_saving_where_nothing_can_be_written_leaves_nothing(tmp_path, small_model):
    with pytest.raises(UnderstudyError, match="Cannot write"):
        small_model().save(tmp_path / "absent" / "model.safetensors")
    assert not list(tmp_path.iterdir())
