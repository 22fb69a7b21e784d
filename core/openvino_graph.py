"""OpenVINO on CPUs: one graph from uint8 inputs to codes and spread, and the output layer in float32 behind it.

What follows the convolutions is in the graph as well, because in PyTorch it cost a tenth of a solve's processor time:
its threads and OpenVINO's take turns on the same cores, and its weights are twice as large. In bf16 the graph
multiplies bf16 numbers, but sums in float32, and what leaves it is float32. The output layer is not in it, so that
vertices are made of codes as anybody else makes them (core/solved.py), to the precision of float32.
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


class OpenvinoSlot:
    """A batch in work, as core/batches.py has them; the work is done where it is submitted."""

    def __init__(self, model: Model, precision: str, batch: int):
        import openvino

        compiled = openvino.Core().compile_model(_graph(model, batch), "CPU", {
            "INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" else precision, "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads()})
        self._inputs = np.zeros((batch, HEIGHT, WIDTH), np.uint8)
        self._request = compiled.create_infer_request()
        self._request.set_input_tensor(openvino.Tensor(self._inputs, shared_memory=True))
        output = model.network.output
        self._weight, self._bias = (value.detach() / model.centimetres for value in (output.weight, output.bias))
        self._template = np.ascontiguousarray(model.template.vertices, np.float32)
        self._animated = model.animated.astype(np.int64)

    def submit(self, chunk: Sequence[np.ndarray]) -> None:
        """Begin with at most a batch of inputs; what is left of an earlier batch fills it up."""
        np.stack(chunk, out=self._inputs[:len(chunk)])
        self._request.infer(share_outputs=True)

    @torch.inference_mode()
    def collect(self, count: int) -> Solution:
        """The first `count` frames of the batch that was submitted last."""
        codes, squared = (self._request.get_output_tensor(index).data for index in (0, 1))
        # all of them, because a product of fewer rows may round otherwise
        animated = torch.addmm(self._bias, torch.from_numpy(codes), self._weight.T).numpy()[:count]
        vertices = np.empty((count, *self._template.shape), np.float32)
        vertices[:] = self._template
        vertices[:, self._animated] = animated.reshape(count, -1, 3)
        return vertices, np.sqrt(np.maximum(squared[:count], 0)) * np.float32(10), codes[:count].copy()  # cm to mm


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
