"""From batches of inputs to vertices on a device: the float32 head, and the slots in which batches are worked on.

A slot takes a batch with `submit` and gives its solution with `collect`. On CPUs the work is done in between; a CUDA
slot is one graph on a stream of its own, so that with two of them copying to and from the GPU, computing, and what the
processor does with solutions all overlap.
"""

from collections.abc import Sequence

import numpy as np
import torch

from .crop import HEIGHT, WIDTH
from .engine import Engine
from .model import Model, confidence_weights

Solution = tuple[np.ndarray, np.ndarray, np.ndarray]  # vertices, spread, codes
WARM = 3  # runs before a graph is captured, in which cuDNN looks for its fastest kernels


class Head:
    """Everything behind the convolutions, in float32: from features to vertices (n, V, 3) in mesh units, the spread
    (n, 1 + regions) in millimetres, beside it the novelty where the model can tell it, and the codes (n, K).
    """

    def __init__(self, model: Model, device: torch.device):
        self._fc, self._output, self._centimetres = model.network.fc, model.network.output, model.centimetres
        confidence = model.confidence
        if confidence is None:
            confidence = confidence_weights(model.network, model.animated, model.regions)
        self._spread = torch.from_numpy(confidence).to(device)
        known = model.familiarity
        self._known = known and [torch.from_numpy(array).to(device) for array in (known.mean, known.components)]
        self._template = torch.from_numpy(np.ascontiguousarray(model.template.vertices, np.float32)).to(device)
        self._animated = torch.from_numpy(model.animated.astype(np.int64)).to(device)

    def __call__(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        codes = self._fc(features)
        animated = (self._output(codes) / self._centimetres).view(len(codes), -1, 3)
        vertices = self._template.repeat(len(codes), 1, 1).index_copy_(1, self._animated, animated)
        spread = (features.square() @ self._spread).clamp_(min=0).sqrt_() * 10  # cm to mm
        if self._known:
            spread = torch.cat([spread, novelty(features, *self._known, self._spread)], 1)
        return vertices, spread, codes


def novelty(features: torch.Tensor, mean: torch.Tensor, components: torch.Tensor, weights: torch.Tensor,
            ) -> torch.Tensor:
    """How much of the features is unlike those of training, in mm, (n, 1 + regions): core/familiarity.py.

    features : (n, F).    weights : (F, 1 + regions), by which the spread is reckoned too.
    """
    left = features - mean
    left -= (left @ components.T) @ components
    return (left.square_() @ weights).clamp_(min=0).sqrt_() * 10  # cm to mm


class Slot:
    """Work that is done at once, where it is submitted."""

    def __init__(self, engine: Engine, head: Head, batch: int, device: torch.device):
        self._engine, self._head, self._device = engine, head, device
        self._inputs = torch.zeros((batch, HEIGHT, WIDTH), dtype=torch.uint8)
        self._outputs: Sequence[torch.Tensor] = ()

    @torch.inference_mode()
    def submit(self, chunk: Sequence[np.ndarray]) -> None:
        """Begin with at most a batch of inputs; what is left of an earlier batch fills it up."""
        np.stack(chunk, out=self._inputs.numpy()[:len(chunk)])
        self._outputs = self._head(self._engine(self._inputs.to(self._device)))

    def collect(self, count: int) -> Solution:
        """The first `count` frames of the batch that was submitted last."""
        return tuple(values[:count].cpu().numpy() for values in self._outputs)


class GraphSlot:
    """A CUDA graph of engine and head, its inputs and outputs on the GPU and in pinned memory, and its stream."""

    def __init__(self, engine: Engine, head: Head, batch: int, device: torch.device):
        self._stream = torch.cuda.Stream(device)
        self._inputs = torch.zeros((batch, HEIGHT, WIDTH), dtype=torch.uint8, device=device)
        with torch.inference_mode():
            self._replay, self._outputs = capture(lambda: head(engine(self._inputs)), self._stream)
        self._given, *self._got = (torch.zeros_like(values, device="cpu", pin_memory=pinned())
                                   for values in (self._inputs, *self._outputs))

    @torch.inference_mode()
    def submit(self, chunk: Sequence[np.ndarray]) -> None:
        np.stack(chunk, out=self._given.numpy()[:len(chunk)])
        with torch.cuda.stream(self._stream):
            self._inputs.copy_(self._given, non_blocking=True)
            self._replay()
            for got, output in zip(self._got, self._outputs, strict=True):
                got.copy_(output, non_blocking=True)

    def collect(self, count: int) -> Solution:
        self._stream.synchronize()
        return tuple(got[:count].clone().numpy() for got in self._got)  # torch copies with all threads


def pinned() -> bool:
    return torch.cuda.is_available()


def capture(run, stream: torch.cuda.Stream):
    """A function that repeats what `run` does on the GPU, without the time that launching its kernels takes, and the
    tensors that hold what `run` returned.
    """
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=False):
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM):
                run()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            outputs = run()
    return graph.replay, outputs


def make_slots(engine: Engine, head: Head, batch: int, device: torch.device) -> list[Slot | GraphSlot]:
    """What works on batches: two where one can be filled while the other works, and several frames go in one."""
    if device.type != "cuda":
        return [Slot(engine, head, batch, device)]
    return [GraphSlot(engine, head, batch, device) for _ in range(1 if batch == 1 else 2)]
