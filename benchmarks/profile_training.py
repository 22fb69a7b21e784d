"""Where the time of a training step goes: `python benchmarks/profile_training.py [cpu | cuda]`, under a minute.

The step is that of `train`, on random pictures; what stands beside it, making the pictures, is timed alone.
"""

import sys
import time
from types import SimpleNamespace

from understudy.core.process import prepare

prepare()
import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402

from understudy.core.crop import HEIGHT, WIDTH, sample  # noqa: E402
from understudy.core.network import Network  # noqa: E402
from understudy.training import augment  # noqa: E402
from understudy.training.config import Config  # noqa: E402
from understudy.training.feed import Batch  # noqa: E402
from understudy.training.state import State  # noqa: E402

BATCH, STEPS, OUTPUTS = 50, 5, 3 * 5000
SHOWN = 1.0  # per cent; what takes less is summed up


def main(device: str) -> None:
    device = torch.device(device)
    model = SimpleNamespace(network=Network(OUTPUTS), whitening=(100.0, 50.0))
    state = State(model, Config(batch=BATCH), device)
    pictures = torch.randint(0, 255, (BATCH, HEIGHT, WIDTH), dtype=torch.uint8)
    light = torch.tensor([[1.0, 0.0]]).repeat(BATCH, 1)
    batch = Batch(BATCH, pictures, None, light, torch.randn(BATCH, OUTPUTS)).to(device)

    def step() -> float:
        began = time.perf_counter()
        state.step(batch, 0.5).item()
        return time.perf_counter() - began

    for _ in range(5):
        step()
    alone = min(step() for _ in range(STEPS))
    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    best: dict[str, float] = {}  # the least that a kind of work took in a step: what disturbed the others falls out
    for _ in range(STEPS):
        with profile(activities=kinds, record_shapes=device.type == "cpu") as record:
            step()
        sums: dict[str, float] = {}
        for event in record.key_averages(group_by_input_shape=True):
            own = event.self_cpu_time_total if device.type == "cpu" else event.self_device_time_total
            sums[what(event)] = sums.get(what(event), 0.0) + own / 1e3
        best = {name: min(value, best.get(name, value)) for name, value in sums.items()}
    total = sum(best.values())
    print(f"{BATCH} frames a step, {alone * 1e3:.0f} ms without the profiler, {BATCH / alone:.0f} frames/s\n")
    print("| ms | share | what |\n| ---: | ---: | --- |")
    shown = {name: value for name, value in best.items() if 100 * value / total >= SHOWN}
    for name, value in sorted(shown.items(), key=lambda item: -item[1]):
        print(f"| {value:.1f} | {value / total:.0%} | {name} |")
    rest = total - sum(shown.values())
    print(f"| {rest:.1f} | {rest / total:.0%} | everything else |")
    print(f"\nMaking a picture beside it takes {picture() * 1e3:.2f} ms of a core.")


def what(event) -> str:
    """What an operation does, and for a convolution in which layer."""
    shapes = [shape for shape in event.input_shapes if shape]
    name = event.key.removeprefix("aten::").removeprefix("mkldnn::")
    names = {"_convolution_pointwise": "convolution and ReLU", "convolution_backward": "convolution's gradients",
             "threshold_backward": "ReLU's gradient", "mm": "matrix product: gradients of small layers, head"}
    if name in ("_convolution_pointwise", "convolution_backward"):
        weight = next(shape for shape in shapes if shape[2:] == [3, 3])
        return f"{names[name]}, {layer(weight)}"
    return names.get(name, name)


def layer(weight: list[int]) -> str:
    """The layer with weights of this shape; padding rounds channels up to 32."""
    network = Network(3)
    for name in network.convolutions:
        outputs, inputs = getattr(network, name).weight.shape[:2]
        if weight[0] == -(-outputs // 32) * 32 and weight[1] in (inputs, -(-inputs // 32) * 32):
            return name
    return str(weight)


def picture() -> float:
    config, rng = Config(), np.random.default_rng(0)
    picture = rng.integers(0, 255, (HEIGHT + 50, WIDTH + 50), dtype=np.uint8)
    times = []
    for matrix in augment.matrices(config, 1.0, 40, rng):
        began = time.perf_counter()
        sample(picture, matrix)
        times.append(time.perf_counter() - began)
    return min(times)


if __name__ == "__main__":
    import cv2

    cv2.setNumThreads(1)
    main(*sys.argv[1:] or ["cpu"])
