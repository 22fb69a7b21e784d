"""How fast training goes: `train` itself on a shot of the sample actor, against plain loops, and how soon it begins.

Plain: the same layers, batch 50, Adam, its batch ready in memory, in float32 or under bfloat16 autocast; the product
reads, augments and uploads pictures meanwhile. One plain loop also keeps freed memory as the product does
(core/process.py), which shows what the rest is worth. Validation is left out; it adds about 4 %. As a program: one
side, for one device.
"""

import contextlib
import functools
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from machine import shares
from measure import Effort, Row, Side, Watch, in_turns, rate, serve

from understudy.core.process import prepare

BATCH = 50
MARK = 2.2  # against plain bfloat16 autocast
STRETCH = 2.5  # a step takes long and progress is told every 2 s, so turns are longer here
SIDES = {
    "fp32": "plain PyTorch fp32",
    "autocast": "plain bf16 autocast",
    "prepared": "plain bf16 autocast, after core.process.prepare()",
    "bare": "train(), without core.process.prepare()",
    "own": "train()",
}


def rows(folder: Path, device: str, ceilings: dict, effort: Effort) -> Iterator[Row]:
    with contextlib.ExitStack() as stack:
        sides = {name: stack.enter_context(Side("training.py", name, device, str(folder))) for name in SIDES}
        turns = in_turns(effort, {name: functools.partial(side.measure, seconds=STRETCH * effort.seconds)
                                  for name, side in sides.items()})
    made = {name: Row(f"training, batch {BATCH}", what, device, turns[name]) for name, what in SIDES.items()}
    for name, row in made.items():
        about = row.turns[0]
        row.limit = shares(row.median("rate"), ceilings, about["outputs"], about["precision"], BATCH, training=True)
        row.against = made["autocast"] if name != "autocast" else None
    made["own"].mark = MARK if turns["own"][0]["precision"] == "bf16" else None
    yield from made.values()
    starts = [{"rate": turn["first"]} for turn in turns["own"]]
    for what, chosen in (("in a new process, pictures to be decoded", starts[:1]), ("again", starts[1:])):
        if chosen:
            yield Row("from train() to the end of its first step", what, device, chosen, unit="s")


class Steps(Watch):
    """Also sees when the first step is done: training then asks for the first time whether to stop."""

    first = None

    def check_cancel(self) -> None:
        pass

    def cancelled(self) -> bool:
        self.first = self.first or time.perf_counter() - self.began
        return super().cancelled()


def side(name: str, device: str, folder: str) -> None:
    if name in ("own", "prepared"):
        prepare()
    os.environ["UNDERSTUDY_CACHE"] = str(Path(folder) / f"cache {name}")
    import torch
    from material import plain

    from understudy.core.engine import reduced_precision
    from understudy.core.errors import Cancelled
    from understudy.core.model import load_model
    from understudy.training.config import Config
    from understudy.training.loop import train

    model = load_model(Path(folder) / "model.safetensors")
    outputs = model.mean.size
    precision = "bf16" if reduced_precision(torch.device(device)) and name != "fp32" else "fp32"

    def own(seconds: float) -> dict:
        watch = Steps(seconds)
        with tempfile.TemporaryDirectory(dir=folder) as run, contextlib.suppress(Cancelled):
            train(Path(folder) / "actor", Config(batch=BATCH), run, device=device, report=watch)
        return watch.result() | {"first": watch.first}

    @functools.lru_cache(1)
    def plain_step():
        network = plain(model.network).to(device).train()
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
        inputs = torch.randn(BATCH, 1, 320, 240, device=device)
        targets = torch.randn(BATCH, outputs, device=device)

        def step() -> int:
            optimizer.zero_grad()
            with torch.autocast(device, torch.bfloat16, enabled=name != "fp32"):
                outputs = network(inputs)
            loss = torch.nn.functional.mse_loss(outputs.float(), targets)
            loss.backward()
            optimizer.step()
            loss.item()
            return BATCH

        step()
        return step

    def measure(seconds: float) -> dict:
        result = own(seconds) if name in ("own", "bare") else rate(plain_step(), seconds)
        return result | {"outputs": outputs, "precision": precision}

    serve(measure)


if __name__ == "__main__":
    side(*sys.argv[1:])
