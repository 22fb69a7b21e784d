"""How fast the network alone solves: the product's engines against plain PyTorch and plain OpenVINO.

Plain: the same layers and weights, PyTorch in float32, eager, memory as it comes, and OpenVINO in bfloat16 as it
converts the module, head included, of inputs that are whitened already; the product also computes the confidence.
As a program: one side, for one device.
"""

import contextlib
import functools
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from machine import shares
from measure import Effort, Row, Side, in_turns, rate, serve

from understudy.core.process import prepare

BATCHES = {"cpu": (1, 16, 32), "cuda": (1, 200, 800)}
MARK = 0.95       # of plain OpenVINO
MARKS = {1: 2500, 200: 60_000}  # frames a second on one H100
TOLERANCE = 0.05  # how far the sides may lie apart, as a share of the motion (root mean squares)


def rows(folder: Path, device: str, ceilings: dict, effort: Effort) -> Iterator[Row]:
    openvino = device == "cpu" and importlib.util.find_spec("openvino") is not None
    names = ["plain", *(["bare", "openvino"] if openvino else []), "torch",
             *(["compiled"] if device == "cuda" else []), "auto"]
    with contextlib.ExitStack() as stack:
        sides = {name: stack.enter_context(Side("solving.py", name, device, str(folder / "model.safetensors")))
                 for name in names}
        for batch in BATCHES[device]:
            turns = in_turns(effort, {name: functools.partial(side.measure, batch=batch, seconds=effort.seconds)
                                      for name, side in sides.items()})
            made = {name: Row(f"network only, batch {batch}", turn[0]["engine"], device, turn)
                    for name, turn in turns.items()}
            for name, row in made.items():
                about = row.turns[0]
                row.limit = shares(row.median("rate"), ceilings, about["outputs"], about["precision"], batch)
                row.against = None if name == "plain" else made["plain"]
            if openvino:
                made["auto"].against, made["auto"].mark = made["bare"], MARK
            if device == "cuda" and batch in MARKS:
                made["auto"].limit += f"; mark on one H100: {MARKS[batch]} frames/s"
            yield from made.values()


def side(name: str, device: str, path: str) -> None:
    if name not in ("plain", "bare"):
        prepare()
    import torch
    from material import plain

    from understudy.core.model import load_model
    from understudy.core.solver import Solver

    model = load_model(path)
    mean, deviation = model.whitening
    layers = plain(model.network).to(device).eval()

    @torch.inference_mode()
    def run_plain(inputs: np.ndarray) -> np.ndarray:
        whitened = (torch.from_numpy(inputs).to(device)[:, None].float() - mean) / deviation
        return layers(whitened).view(len(inputs), -1, 3).cpu().numpy()

    def bare(batch: int):
        import openvino

        converted = openvino.convert_model(layers, example_input=torch.zeros(batch, 1, 320, 240))
        converted.reshape([batch, 1, 320, 240])
        request = openvino.Core().compile_model(converted, "CPU", {
            "INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "LATENCY"}).create_infer_request()
        whitened = np.random.default_rng(0).standard_normal((batch, 1, 320, 240)).astype(np.float32)
        return lambda inputs: request.infer([whitened], share_inputs=True, share_outputs=True)[0]

    @functools.lru_cache(1)
    def prepared(batch: int) -> tuple:
        """A function that solves a batch, warmed up, and what it is called."""
        inputs = np.random.default_rng(0).integers(0, 256, (batch, 320, 240), np.uint8)
        if name == "plain":
            run, engine = run_plain, "plain PyTorch fp32"
        elif name == "bare":
            run, engine = bare(batch), "plain OpenVINO bf16"
        else:
            solver = Solver(model, device, batch, name)
            precision = solver.engine.split()[-1]
            run, engine = solver.solve, f"{name} {precision}"
            if name == "auto":
                engine = f"what is chosen ({solver.engine.split()[0]}) {precision}"
            check(run(inputs)[:2, model.animated], run_plain(inputs[:2]))
        run(inputs)
        return lambda: len(run(inputs)), engine

    def check(own: np.ndarray, other: np.ndarray) -> None:
        apart = np.sqrt(np.square(own - other).mean() / np.square(other - model.mean).mean())
        if not apart < TOLERANCE:
            raise SystemExit(f"{name} and plain torch do not compute the same: {apart:.1%} of the motion apart.")

    def measure(batch: int, seconds: float) -> dict:
        step, engine = prepared(batch)
        about = {"engine": engine, "precision": engine.split()[-1], "outputs": model.mean.size}
        return rate(step, seconds) | about

    serve(measure)


if __name__ == "__main__":
    side(*sys.argv[1:])
