"""What runs the convolutions of a solve: PyTorch anywhere, OpenVINO on CPUs that have it installed.

An engine is a function from (batch, 320, 240) uint8 inputs to (batch, 9720) float32 features. Its batch size is fixed:
a short batch is filled up by the caller, so that a frame's result does not depend on how many others it came with.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from .crop import HEIGHT, WIDTH
from .errors import UnderstudyError
from .network import CONVOLUTIONS, FEATURES, Network

ENGINES = ("auto", "torch", "openvino")
Engine = Callable[[np.ndarray], torch.Tensor]


def pick_device(name: str) -> torch.device:
    """The device called `name`; "auto" is the first GPU, else the CPU. Raises UnderstudyError if it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UnderstudyError(f"The device {name!r} cannot be used: {reason}. Choose another, such as cpu.") from error
    return device


def reduced_precision(device: torch.device) -> bool:
    """Whether this device computes convolutions faster in bfloat16 than in float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":  # absent in builds without oneDNN
        return any(getattr(torch.cpu, name, bool)() for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return False


def make_engine(name: str, network: Network, whitening: tuple[float, float], device: torch.device, batch: int,
                ) -> tuple[str, Engine]:
    """The engine called `name`, and what a sidecar calls it. "auto": OpenVINO on a CPU if it is there, else PyTorch."""
    if name not in ENGINES:
        raise UnderstudyError(f"There is no engine {name!r}; there are {', '.join(ENGINES)}.")
    if name == "openvino" and device.type != "cpu":
        raise UnderstudyError("OpenVINO solves on the CPU only. Choose --device cpu with it.")
    features = _Features(network.eval(), whitening, reduced_precision(device))
    if name == "openvino" or (name == "auto" and device.type == "cpu"):
        try:
            import openvino
        except ImportError as error:
            if name == "openvino":
                raise UnderstudyError("OpenVINO is not installed here: pip install openvino.") from error
        else:
            return _openvino(openvino, features, batch)

    def run(inputs: np.ndarray) -> torch.Tensor:
        with torch.inference_mode():
            return features(torch.from_numpy(inputs).to(device, non_blocking=True))

    return f"torch {torch.__version__} {'bf16' if features.reduced else 'fp32'}", run


class _Features(nn.Module):
    """Whitening and the convolutions, as one module of uint8 pictures."""

    def __init__(self, network: Network, whitening: tuple[float, float], reduced: bool):
        super().__init__()
        self.network, self.whitening, self.reduced = network, whitening, reduced

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        mean, deviation = self.whitening
        return self.network.features((inputs[:, None].float() - mean) / deviation, self.reduced)


def _openvino(openvino, features: _Features, batch: int) -> tuple[str, Engine]:
    """The convolutions as OpenVINO's own operations: to convert the torch module takes a second, this does not."""
    precision = "bf16" if features.reduced else "f32"
    ops, (mean, deviation) = openvino.opset13, np.array(features.whitening, np.float32)[:, None]
    inputs = ops.parameter([batch, HEIGHT, WIDTH], np.uint8)
    x = ops.unsqueeze((ops.convert(inputs, np.float32) - mean) / deviation, 1)
    for name in CONVOLUTIONS:
        layer = getattr(features.network, name)
        weight, bias = (value.detach().cpu().numpy() for value in (layer.weight, layer.bias))
        x = ops.convolution(x, weight, layer.stride, layer.padding, layer.padding, layer.dilation)
        x = ops.relu(x + bias[:, None, None])
    model = openvino.Model([ops.reshape(x, [batch, FEATURES], False)], [inputs])
    compiled = openvino.Core().compile_model(model, "CPU", {
        "INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads()})
    request = compiled.create_infer_request()

    def run(inputs: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(request.infer([inputs], share_inputs=True, share_outputs=True)[0])

    return f"openvino {openvino.__version__.split('-')[0]} {'bf16' if precision == 'bf16' else 'fp32'}", run
