"""What this machine is, and how fast it multiplies matrices and copies memory: the ceilings of everything else.

As a program: a side that measures the ceilings of a device.
"""

import importlib.metadata
import os
import platform
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from measure import serve

from understudy.core.process import prepare

PACKAGES = ("torch", "openvino", "numpy", "opencv-python-headless", "av")
UNITS = (("AMX", "_is_amx_tile_supported"), ("AVX-512", "_is_avx512_bf16_supported"))


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def about() -> dict:
    """Processor, cores, GPU and versions; nothing that tells whose machine it is."""
    import torch

    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    installed = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()}
    return {
        "cpu": found[1] if found else platform.processor() or platform.machine(),
        "cores": cores(),
        "bf16": " ".join(unit for unit, has in UNITS if getattr(torch.cpu, has, bool)()),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.system(), "python": platform.python_version(),
        **{name: installed.get(name) for name in PACKAGES},
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY"),
    }


def load() -> float | None:
    """How many threads wanted a core in the last minute."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None


def shares(rate: float, ceilings: dict, outputs: int, precision: str, batch: int, training: bool = False) -> str:
    """How much of the ceilings a network takes that runs at `rate` frames a second.

    Arithmetic: its multiplications and additions against those of a matrix product in the same precision. Memory:
    what its layers read and write against copying. Training does each of both three times: forward, gradients of
    inputs, gradients of weights.
    """
    from understudy.core.crop import HEIGHT, WIDTH
    from understudy.core.network import COMPONENTS, WIDTHS

    height, width, before, size = HEIGHT, WIDTH, 1, 2 if precision == "bf16" else 4
    operations, moved = 0.0, 0.0
    for channels in WIDTHS:
        moved += size * before * height * width
        height, width = -(-height // 2), -(-width // 2)
        weights = 9 * channels * (before + channels)
        operations += 2.0 * weights * height * width
        moved += size * (3 * channels * height * width + weights / batch)
        before = channels
    head = before * height * width * COMPONENTS + COMPONENTS * outputs
    operations, moved = operations + 2 * head, moved + 4 * head / batch
    times = rate * (3 if training else 1)
    return (f"arithmetic {times * operations / ceilings[precision]:.0%}, "
            f"memory {times * moved / ceilings['copy']:.0%}")


def ceilings(device: str) -> dict:
    """Operations a second of matrix products, bytes a second of copying (read and written); the best of many."""
    import torch

    def best(run: Callable[[], object], seconds: float = 1.0) -> float:
        shortest, until = float("inf"), time.perf_counter() + seconds
        while time.perf_counter() < until:
            began = time.perf_counter()
            run()
            if device == "cuda":
                torch.cuda.synchronize()
            shortest = min(shortest, time.perf_counter() - began)
        return shortest

    torch.backends.cuda.matmul.allow_tf32 = True  # as convolutions do unasked
    size, result = 2048 if device == "cpu" else 8192, {}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = (torch.randn(size, size, device=device).to(kind) for _ in range(2))
        result[name] = 2 * size ** 3 / best(lambda a=a, b=b: a @ b)
    source = torch.ones(1 << 26, device=device)
    target = torch.empty_like(source)
    result["copy"] = 2 * source.nbytes / best(lambda: target.copy_(source))
    return result


if __name__ == "__main__":
    prepare()
    serve(lambda: ceilings(sys.argv[1]))
