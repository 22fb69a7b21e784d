"""Processes that train one network together, on several GPUs or machines: each computes a part of every batch.

`torchrun --nproc-per-node 2 -m understudy train ACTOR ...` starts them, PyTorch's own engine (NCCL between GPUs, gloo
between CPUs) connects them. The batch is that of the whole team, and all that is random hangs on a frame's place in
the run: how many processes share the work changes a result by rounding alone.
"""

import datetime
import json
import os
from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.distributed as dist

from ..core.errors import UnderstudyError

PATIENCE = datetime.timedelta(hours=2)  # that the others wait for one that decodes


class TeamLost(UnderstudyError):
    """Another process of the team has ended."""


class Team:
    """This process and the others; alone, every method does nothing. The leader, rank 0, is the one that writes."""

    def __init__(self):
        self.rank, self.size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.place = int(os.environ.get("LOCAL_RANK", 0))  # on this machine
        self.leader = self.rank == 0

    def __enter__(self) -> "Team":
        if self.size > 1:
            self._do(lambda: dist.init_process_group(timeout=PATIENCE))
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self.size > 1 and kind is None:  # after an error the others may no longer be there to take leave of
            dist.destroy_process_group()

    def device(self, name: str) -> str:
        """The device of this process: of several GPUs each has its own."""
        gpus = torch.cuda.device_count()
        if self.size == 1 or name not in ("auto", "cuda") or not gpus:
            return name
        if self.place >= gpus:
            raise UnderstudyError(f"This machine has {gpus} GPUs, but more processes were started on it. "
                                  f"Use torchrun --nproc-per-node {gpus}.")
        torch.cuda.set_device(self.place)
        return f"cuda:{self.place}"

    def rows(self, count: int) -> slice:
        """Which of the `count` frames of a batch are this process's."""
        bounds = [count * rank // self.size for rank in (self.rank, self.rank + 1)]
        return slice(*bounds)

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            self._do(lambda: dist.all_reduce(torch.zeros(1)))

    def tell(self, value: dict | None) -> dict:
        """The leader's `value`, which JSON can hold, for all."""
        if self.size == 1:
            return value
        content = np.frombuffer(json.dumps(value).encode(), np.uint8).copy() if self.leader else np.empty(0, np.uint8)
        size = torch.tensor([len(content)])
        self.send([size])
        content = torch.from_numpy(content) if self.leader else torch.empty(int(size), dtype=torch.uint8)
        self.send([content])
        return json.loads(content.numpy().tobytes())

    def send(self, tensors: Iterable[torch.Tensor]) -> None:
        """Overwrite tensors with the leader's."""
        if self.size > 1:
            for tensor in tensors:
                self._do(lambda tensor=tensor: dist.broadcast(_dense(tensor), 0))

    def add(self, tensors: Iterable[torch.Tensor]) -> None:
        """Overwrite tensors with their sums over the team."""
        if self.size > 1:
            waiting = [self._do(lambda tensor=tensor: dist.all_reduce(_dense(tensor), async_op=True))
                       for tensor in tensors]
            for work in waiting:
                self._do(work.wait)

    def agree(self, done: float, stop: bool) -> tuple[float, bool]:
        """The leader's `done`, and whether anybody wants to stop. Raises TeamLost when not everybody answers."""
        if self.size == 1:
            return done, stop
        both = torch.tensor([done if self.leader else 0.0, float(stop)], dtype=torch.float64)
        self._do(lambda: dist.all_reduce(both))
        return float(both[0]), bool(both[1] > 0)

    def _do(self, talk: Callable):
        try:
            return talk()
        except RuntimeError as error:  # what torch.distributed raises when a connection ends
            raise TeamLost("Another process of this training has ended. Look at what it said, then go on with "
                           "--resume; any number of processes can.") from error


def _dense(tensor: torch.Tensor) -> torch.Tensor:
    """The same memory in the order in which it lies: weights keep their channels last."""
    tensor = tensor.detach()
    return tensor.permute(0, 2, 3, 1) if tensor.dim() == 4 else tensor
