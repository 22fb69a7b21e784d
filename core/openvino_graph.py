"""OpenVINO on CPUs: one graph from uint8 inputs to codes and spread, and another, the output layer in float32.

Nothing of it is left to PyTorch, whose threads and OpenVINO's take turns on the same cores: what follows the
convolutions cost a tenth of a solve's processor time there, and the output layer alone, one by one, another tenth. In
bf16 the first graph multiplies bf16 numbers, but sums in float32, and what leaves it is float32. The output layer has a
graph of its own, as the precision is one for a whole graph: so vertices are made of codes as anybody else makes them
(core/solved.py), to the precision of float32.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .batches import Solution
from .crop import HEIGHT, WIDTH
from .errors import UnderstudyError
from .model import Model, confidence_weights
from .network import WHITENED_EACH
from .process import openvino_core


class OpenvinoSlot:
    """A batch in work, as core/batches.py has them; the work is done where it is submitted."""

    def __init__(self, model: Model, precision: str, batch: int):
        import openvino

        self._inputs = np.zeros((batch, HEIGHT, WIDTH), np.uint8)
        self._request = _request(_graph(model, batch), "f32" if precision == "fp32" else precision)
        self._request.set_input_tensor(openvino.Tensor(self._inputs, shared_memory=True))
        self._head = _request(_output_layer(model, batch), "f32")
        self._head.set_input_tensor(self._request.get_output_tensor(0))
        self._codes, self._squared = (self._request.get_output_tensor(index).data for index in (0, 1))
        self._positions = self._head.get_output_tensor(0).data
        self._template = np.ascontiguousarray(model.template.vertices, np.float32)
        self._places = (3 * model.animated.astype(np.int64)[:, None] + np.arange(3)).ravel()

    def submit(self, chunk: Sequence[np.ndarray]) -> None:
        """Begin with at most a batch of inputs; what is left of an earlier batch fills it up."""
        np.stack(chunk, out=self._inputs[:len(chunk)])
        self._request.infer(share_outputs=True)
        self._head.infer(share_outputs=True)  # of all, because a product of fewer rows may round otherwise

    def collect(self, count: int) -> Solution:
        """The first `count` frames of the batch that was submitted last."""
        vertices = np.empty((count, self._template.size), np.float32)
        vertices[:] = self._template.ravel()
        vertices[:, self._places] = self._positions[:count]
        spread = np.sqrt(np.maximum(self._squared[:count], 0)) * np.float32(10)  # cm to mm
        return vertices.reshape(count, -1, 3), spread, self._codes[:count].copy()


def _request(graph: Any, precision: str) -> Any:
    return openvino_core().compile_model(graph, "CPU", {
        "INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads()}).create_infer_request()


def _output_layer(model: Model, batch: int) -> Any:
    """An openvino.Model from codes to the positions of the animated vertices, (batch, 3 A), in the model's units."""
    import openvino

    ops = openvino.opset13
    weight, bias = (values / np.float32(model.centimetres) for values in _arrays(model.network.output))
    codes = ops.parameter([batch, weight.shape[1]], np.float32)
    return openvino.Model([ops.matmul(codes, np.ascontiguousarray(weight), False, True) + bias], [codes])


def _graph(model: Model, batch: int) -> Any:
    """An openvino.Model of (batch, 320, 240) uint8: the codes, and the squares of spread and novelty in cm2.

    Its own operations, because to convert the torch module takes a second.
    """
    import openvino

    network = model.network
    if not network.convolutions:
        raise UnderstudyError("it solves convolutional networks only")
    ops, (mean, deviation) = openvino.opset13, np.array(model.whitening, np.float32)[:, None]
    inputs = ops.parameter([batch, HEIGHT, WIDTH], np.uint8)
    x = ops.unsqueeze((ops.convert(inputs, np.float32) - mean) / deviation, 1)
    if network.architecture == WHITENED_EACH:
        x = ops.mvn(x, [1, 2, 3], True, 1e-6, "inside_sqrt")
    for name in network.convolutions:
        layer = getattr(network, name)
        weight, bias = _arrays(layer)
        x = ops.convolution(x, weight, layer.stride, layer.padding, layer.padding, layer.dilation)
        x = ops.relu(x + bias[:, None, None])
    features = ops.reshape(x, [batch, network.feature_count], False)
    weight, bias = _arrays(network.fc)
    codes = ops.matmul(features, weight, False, True) + bias
    return openvino.Model([codes, _squared_spread(ops, features, model)], [inputs])


def _squared_spread(ops: Any, features: Any, model: Model) -> Any:
    """Spread, and novelty where the model can tell it, as core/batches.py has them before the root."""
    weights, known = model.confidence, model.familiarity
    if weights is None:
        weights = confidence_weights(model.network, model.animated, model.regions)
    weights = ops.constant(np.ascontiguousarray(weights))
    spread = ops.matmul(features * features, weights, False, False)
    if known is None:
        return spread
    left, components = features - known.mean, ops.constant(known.components)
    left = left - ops.matmul(ops.matmul(left, components, False, True), components, False, False)
    return ops.concat([spread, ops.matmul(left * left, weights, False, False)], 1)


def _arrays(layer: torch.nn.Module) -> tuple[np.ndarray, np.ndarray]:
    return layer.weight.detach().cpu().numpy(), layer.bias.detach().cpu().numpy()
