"""What runs the convolutions of a solve: PyTorch anywhere, or OpenVINO (core/openvino_graph.py) on CPUs that have it.

An engine is a function from (batch, 320, 240) uint8 inputs, a tensor on the device, to (batch, feature_count) float32
features there. Its batch size is fixed: a short batch is filled up by the caller, so that a frame's result does not
depend on how many others it came with. Which engine is the fastest is measured on the machine at hand
(core/choice.py).

TensorRT and ONNX Runtime are left out. On CPUs ONNX Runtime computes these convolutions in float32 alone, 40 and 56
frames a second on two cores where OpenVINO's bfloat16 gives 266 and 400. On GPUs both would run the very same cuDNN and
CUTLASS kernels for plain 3 x 3 convolutions as PyTorch's graphs below; published gains of TensorRT over PyTorch in the
same precision come from launches that a graph saves as well, and from int8, which would leave the tolerance. Neither
pays for gigabytes to install and minutes to build a plan for every GPU.
"""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F

from .crop import HEIGHT, WIDTH
from .doctor import first_line
from .errors import UnderstudyError
from .network import WHITENED_EACH, FullyConnected, Network, whiten_each
from .process import limit_gpu_memory

ENGINES = ("auto", "torch", "compiled", "openvino")
Engine = Callable[[torch.Tensor], torch.Tensor]
NUMBERS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PAD = {"cpu": 32, "cuda": 16}  # channels are padded to what vector registers and tensor cores take at once


def pick_device(name: str, warn: Callable[[str], None] = lambda text: None) -> torch.device:
    """The device called `name`; "auto" is the first GPU, else the CPU.

    Whether it computes is tried: a GPU can be too old for this torch, full, or without a fitting driver. Then "auto" is
    the CPU, and `warn` is told why; for any other name UnderstudyError is raised.
    """
    auto = name == "auto"
    if auto:
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        limit_gpu_memory(device)
        _try(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = first_line(error).rstrip(".")
        if auto and name != "cpu":
            warn(f"The GPU is not used, the CPU is: {reason}. `understudy doctor` tells more.")
            return torch.device("cpu")
        raise UnderstudyError(f"The device {name!r} cannot be used: {reason}. Choose another, such as cpu.") from error
    return device


def _try(device: torch.device) -> None:
    F.conv2d(torch.ones(1, 1, 8, 8, device=device), torch.ones(1, 1, 3, 3, device=device)).sum().item()


def reduced_precision(device: torch.device) -> bool:
    """Whether this device computes convolutions faster in bfloat16 than in float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":  # absent in builds without oneDNN
        return any(getattr(torch.cpu, name, bool)() for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return False


def candidates(name: str, device: torch.device, convolutional: bool = True) -> list[tuple[str, str]]:
    """(engine, precision) of all that could run what is asked for with `name`, float32 of PyTorch last.

    A network that is not convolutional is only ever run by PyTorch in float32.
    "compiled" is not among what "auto" tries: compiling takes a minute, and a compiler, for each batch size.
    """
    if name not in ENGINES:
        raise UnderstudyError(f"There is no engine {name!r}; there are {', '.join(ENGINES)}.")
    if name == "openvino" and device.type != "cpu":
        raise UnderstudyError("OpenVINO solves on the CPU only. Choose --device cpu with it.")
    reduced = ["bf16"] if reduced_precision(device) else []
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0):
        reduced.insert(0, "fp16")
    engines = [name]
    if not convolutional:
        engines, reduced = ["torch" if name == "auto" else name], []
    elif name == "auto":
        engines = ["openvino", "torch"] if device.type == "cpu" and _has_openvino() else ["torch"]
    found = [(engine, precision) for engine in engines for precision in reduced or ["fp32"]]
    return found if found[-1] == ("torch", "fp32") else [*found, ("torch", "fp32")]


def _has_openvino() -> bool:
    """Whether OpenVINO is installed; one that is broken counts, so that whoever tries it tells."""
    try:
        import openvino  # noqa: F401
    except ModuleNotFoundError as error:
        return error.name != "openvino"
    except Exception:
        return True
    return True


def make_engine(name: str, precision: str, network: Network | FullyConnected, whitening: tuple[float, float],
                device: torch.device, batch: int) -> Engine:
    """One of `candidates`, but for OpenVINO's. Raises whatever its library does when it is broken or lacks memory."""
    with torch.inference_mode():
        if not network.convolutions:
            return _compiled(name, lambda inputs: network.features(_whiten(inputs, whitening, torch.float32)))
        whiten = functools.partial(_whiten, whitening=whitening, kind=NUMBERS[precision],
                                   each=network.architecture == WHITENED_EACH)
        if precision == "fp32":
            layers = [_plain_layer(getattr(network, layer)) for layer in network.convolutions]
        else:
            layers = _padded_layers(network, NUMBERS[precision], device, batch)

        def run(inputs: torch.Tensor) -> torch.Tensor:
            x = whiten(inputs)
            for layer in layers:
                x = layer(x)
            return x[:, :network.channels].float().flatten(1)

    return _compiled(name, run)


def _compiled(name: str, run: Engine) -> Engine:
    return torch.compile(run, mode="max-autotune-no-cudagraphs") if name == "compiled" else run


def version(name: str, precision: str) -> str:
    """What a sidecar calls an engine."""
    if name == "openvino":
        import openvino

        return f"openvino {openvino.__version__.split('-')[0]} {precision}"
    return f"{name} {torch.__version__} {precision}"


def _whiten(inputs: torch.Tensor, whitening: tuple[float, float], kind: torch.dtype,
            each: bool = False) -> torch.Tensor:
    mean, deviation = whitening
    x = (inputs[:, None].float() - mean) / deviation
    return (whiten_each(x) if each else x).to(kind).contiguous(memory_format=torch.channels_last)


def _plain_layer(layer: torch.nn.Conv2d) -> Engine:
    return lambda x: F.conv2d(x, layer.weight, layer.bias, layer.stride, 1).relu_()


def _padded_layers(network: Network, kind: torch.dtype, device: torch.device, batch: int) -> list[Engine]:
    """Convolutions with ReLU in one call each, in half precision, channels last, channels padded with zeros.

    Padded channels stay exactly zero. Weights are converted, and on CPUs brought into oneDNN's order, once and here.
    """
    multiple, layers, inputs, size = PAD.get(device.type, 32), [], 1, (HEIGHT, WIDTH)
    for name in network.convolutions:
        layer = getattr(network, name)
        outputs = -(-layer.out_channels // multiple) * multiple
        # Permuted, because for one input channel torch takes any memory for channels last, and oneDNN does not.
        weight = torch.zeros((outputs, 3, 3, inputs), dtype=kind, device=device)
        weight[:layer.out_channels, :, :, :layer.in_channels] = layer.weight.permute(0, 2, 3, 1)
        weight = weight.permute(0, 3, 1, 2)
        bias = F.pad(layer.bias, (0, outputs - layer.out_channels)).to(kind)
        make = _onednn_layer if device.type == "cpu" else _cudnn_layer if device.type == "cuda" else _torch_layer
        layers.append(make(weight, bias, layer.stride[0], (batch, inputs, *size)))
        inputs, size = outputs, tuple(-(-edge // layer.stride[0]) for edge in size)
    return layers


def _onednn_layer(weight: torch.Tensor, bias: torch.Tensor, stride: int, size: tuple[int, ...]) -> Engine:
    packed = torch.ops.mkldnn._reorder_convolution_weight(weight, [1, 1], [stride] * 2, [1, 1], 1, list(size))
    return lambda x: torch.ops.mkldnn._convolution_pointwise(
        x, packed, bias, [1, 1], [stride] * 2, [1, 1], 1, "relu", [], "")


def _cudnn_layer(weight: torch.Tensor, bias: torch.Tensor, stride: int, size: tuple[int, ...]) -> Engine:
    def fused(x: torch.Tensor) -> torch.Tensor:
        return torch.cudnn_convolution_relu(x, weight, bias, [stride] * 2, [1, 1], [1, 1], 1)

    try:
        fused(torch.zeros((1, *size[1:]), dtype=weight.dtype, device=weight.device).to(
            memory_format=torch.channels_last))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # cuDNN has no kernel that does both in one, for this GPU and shape
        return _torch_layer(weight, bias, stride, size)
    return fused


def _torch_layer(weight: torch.Tensor, bias: torch.Tensor, stride: int, size: tuple[int, ...]) -> Engine:
    return lambda x: F.conv2d(x, weight, bias, stride, 1).relu_()
