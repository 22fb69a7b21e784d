"""What a worker process sets for itself before torch is loaded; the user sets nothing."""

import contextlib
import ctypes
import functools
import os
import sys
from typing import Any

gpu_memory = 0.0  # GB that this process may take of a GPU; 0 is as much as it needs. Set by `serve` and `train`
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h


def prepare() -> None:
    """Make threads wait asleep, and make glibc keep freed memory instead of mapping every large tensor anew.

    Threads that spin while they wait take the cores from whoever they wait for: on 2 cores that other programs used
    too, training ran at 8 frames a second with spinning and at 80 without. Mapping costs more than the arithmetic of
    the first layers. benchmarks/results has the figures of a quiet machine, with and without.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch loads its OpenMP
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, 1 << 30)
            mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


@functools.cache
def openvino_core() -> Any:
    """The one openvino.Core of this process, which stays.

    On processors with AMX, OpenVINO gives the thread a stack for signals while a Core lives, and at its end the one
    that was there before. Of two that end in the order in which they began, the second gives back the first one's
    freed stack: the next Ctrl-C then kills the process.
    """
    import openvino

    return openvino.Core()


def step_back() -> None:
    """Lower this process's priority, so that the window of whoever started it stays live."""
    if os.name == "nt":
        ctypes.windll.kernel32.SetPriorityClass(ctypes.c_void_p(-1), 0x4000)  # this process, BELOW_NORMAL
    else:
        with contextlib.suppress(OSError):
            os.nice(10)


def limit_gpu_memory(device) -> None:
    """Keep a torch.device to the gigabytes that this process may take of it; what needs more is out of memory."""
    if not gpu_memory or device.type not in ("cuda", "mps"):
        return
    import torch

    if device.type == "cuda":
        whole = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(gpu_memory * 1e9 / whole, 1.0), device)
    else:
        torch.mps.set_per_process_memory_fraction(gpu_memory * 1e9 / torch.mps.recommended_max_memory())
