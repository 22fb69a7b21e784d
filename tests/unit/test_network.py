"""The network against the paper's table (Sec. 3.1)."""

import pytest
import torch
from torch import nn

from understudy.core.engine import reduced_precision
from understudy.core.errors import UnderstudyError
from understudy.core.network import Network, make_network

PARAMETERS = {  # weights and biases of each layer for 5,000 vertices
    "conv1a": 640, "conv1b": 36_928, "conv2a": 55_392, "conv2b": 83_040, "conv3a": 124_560, "conv3b": 186_768,
    "conv4a": 280_152, "conv4b": 420_120, "conv5a": 630_180, "conv5b": 945_108, "conv6a": 1_417_662,
    "conv6b": 2_126_250, "fc": 1_555_360, "output": 2_415_000,
}


def test_layers_have_the_papers_sizes():
    with torch.device("meta"):
        network = Network(3 * 5000)
    counted = {name: sum(p.numel() for p in getattr(network, name).parameters()) for name in PARAMETERS}
    assert counted == PARAMETERS
    assert sum(p.numel() for p in network.parameters()) == sum(PARAMETERS.values()) == 10_277_160


def test_every_pair_halves_the_picture():
    network, shapes = Network(30), {}
    for name in network.convolutions:
        getattr(network, name).register_forward_hook(lambda _, __, out, name=name: shapes.update({name: out.shape[1:]}))
    assert network(torch.zeros(1, 1, 320, 240)).shape == (1, 30)
    assert [tuple(shapes[f"conv{i}b"]) for i in range(1, 7)] == [
        (64, 160, 120), (96, 80, 60), (144, 40, 30), (216, 20, 15), (324, 10, 8), (486, 5, 4)]
    assert network.feature_count == 486 * 5 * 4


def test_dropout_is_the_only_difference_between_training_and_solving():
    torch.manual_seed(0)
    network, inputs = Network(30), torch.randn(2, 1, 320, 240)
    features = network.features(inputs)
    network.train()
    dropped = network(inputs)
    network.eval()
    assert torch.equal(network(inputs), network.output(network.fc(features)))
    assert not torch.equal(network(inputs), dropped)


@pytest.mark.parametrize(("name", "layers", "features", "parameters"), [
    ("convolutional", 12, 9720, 10_277_160), ("convolutional-narrow", 12, 4860, 4_770_269),
    ("convolutional-wide", 12, 14_580, 18_935_833), ("convolutional-shallow", 6, 9720, 6_478_946),
    ("convolutional-deep", 18, 9720, 14_075_374)])
def test_the_networks_that_the_paper_compared_have_other_widths_or_layers(name, layers, features, parameters):
    with torch.device("meta"):
        network, inputs = make_network(name, 3 * 5000), torch.zeros(1, 1, 320, 240)
        assert network(inputs).shape == (1, 15_000) and network.features(inputs).shape == (1, features)
    assert len(network.convolutions) == layers
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_an_architecture_that_there_is_not():
    with pytest.raises(UnderstudyError, match="no architecture 'resnet'; there are convolutional, "):
        make_network("resnet", 30)


@pytest.mark.skipif(not reduced_precision(torch.device("cpu")), reason="no fast bfloat16 on this CPU")
def test_reduced_precision_follows_full_precision_forward_and_backward():
    torch.manual_seed(0)
    network, inputs = Network(30), torch.randn(2, 1, 320, 240)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    results = {}
    for reduced in (False, True):
        network.zero_grad()
        features = network.features(inputs, reduced)
        features.square().mean().backward()
        results[reduced] = [features.detach()] + [p.grad.clone() for p in network.conv1a.parameters()] + [
            network.conv6b.weight.grad.clone(), network.conv3a.weight.grad.clone()]
    # bfloat16 has 8 bits; its rounding adds up over the layers that a gradient comes through
    for full, reduced, bound in zip(results[False], results[True], (0.02, 0.15, 0.15, 0.02, 0.1), strict=True):
        assert full.shape == reduced.shape and reduced.dtype == torch.float32
        assert (full - reduced).norm() < bound * full.norm()
