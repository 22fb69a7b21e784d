"""How fast the network alone solves: the product's engines against plain PyTorch.

Plain: the same layers and weights in float32, eager, memory as it comes; the product also computes the confidence.
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

BATCHES = (1, 32, 200)
MARK = 2.5        # on CPUs that compute in bf16
TOLERANCE = 0.05  # how far the sides may lie apart, as a share of the motion (root mean squares)


def rows(folder: Path, device: str, ceilings: dict, effort: Effort) -> Iterator[Row]:
    engines = ["torch", "openvino"] if device == "cpu" and importlib.util.find_spec("openvino") else ["torch"]
    default = engines[-1]  # what a solve takes by itself
    with contextlib.ExitStack() as stack:
        sides = {name: stack.enter_context(Side("solving.py", name, device, str(folder / "model.safetensors")))
                 for name in ("plain", *engines)}
        for batch in BATCHES:
            turns = in_turns(effort, {name: functools.partial(side.measure, batch=batch, seconds=effort.seconds)
                                      for name, side in sides.items()})
            question = f"network only, batch {batch}"
            made = [Row(question, turns[name][0]["engine"], device, turns[name]) for name in turns]
            for row, name in zip(made, turns, strict=True):
                about = row.turns[0]
                row.limit = shares(row.median("rate"), ceilings, about["outputs"], about["precision"], batch)
                if name != "plain":
                    row.against = made[0]
                if device == "cpu" and name == default and about["precision"] == "bf16":
                    row.mark = MARK
                yield row


def side(name: str, device: str, path: str) -> None:
    if name != "plain":
        prepare()
    import torch
    from material import plain

    from understudy.core.model import load_model
    from understudy.core.solve import Solver

    model = load_model(path)
    mean, deviation = model.whitening
    layers = plain(model.network).to(device).eval()

    @torch.inference_mode()
    def run_plain(inputs: np.ndarray) -> np.ndarray:
        whitened = (torch.from_numpy(inputs).to(device)[:, None].float() - mean) / deviation
        return layers(whitened).view(len(inputs), -1, 3).cpu().numpy()

    @functools.lru_cache(1)
    def prepared(batch: int) -> tuple:
        """A function that solves a batch, warmed up, and what it is called."""
        inputs = np.random.default_rng(0).integers(0, 256, (batch, 320, 240), np.uint8)
        if name == "plain":
            run, engine = run_plain, "plain PyTorch fp32"
        else:
            solver = Solver(model, device, batch, name)
            run, engine = solver.solve, f"{name} {solver.engine.split()[-1]}"
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
