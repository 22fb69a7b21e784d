"""How fast training goes: `train` itself on a shot of the sample actor, against a naive loop.

Naive: the same layers, batch 50, float32, Adam, its batch ready in memory; the product reads, augments and uploads
pictures meanwhile. Validation is left out; it adds about 4 %. As a program: one side, for one device.
"""

import contextlib
import functools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from machine import shares
from measure import Effort, Row, Side, Watch, in_turns, rate, serve

from understudy.core.process import prepare

BATCH = 50
MARK = 5.0
STRETCH = 2.5  # a step takes long and progress is told every 2 s, so turns are longer here
SIDES = {
    "naive": "naive fp32 loop",
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
        row.against = made["naive"] if name != "naive" else None
    made["own"].mark = MARK if turns["own"][0]["precision"] == "bf16" else None
    yield from made.values()


def side(name: str, device: str, folder: str) -> None:
    if name == "own":
        prepare()
    import torch
    from material import plain

    from understudy.core.engine import reduced_precision
    from understudy.core.errors import Cancelled
    from understudy.core.model import load_model
    from understudy.training.config import Config
    from understudy.training.loop import train

    model = load_model(Path(folder) / "model.safetensors")
    outputs = model.mean.size
    precision = "bf16" if reduced_precision(torch.device(device)) and name != "naive" else "fp32"

    def own(seconds: float) -> dict:
        watch = Watch(seconds)
        with tempfile.TemporaryDirectory(dir=folder) as run, contextlib.suppress(Cancelled):
            train(Path(folder) / "actor", Config(batch=BATCH), run, device=device, report=watch)
        return watch.result()

    @functools.lru_cache(1)
    def naive_step():
        network = plain(model.network).to(device).train()
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
        inputs = torch.randn(BATCH, 1, 320, 240, device=device)
        targets = torch.randn(BATCH, outputs, device=device)

        def step() -> int:
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(network(inputs), targets)
            loss.backward()
            optimizer.step()
            loss.item()
            return BATCH

        step()
        return step

    def measure(seconds: float) -> dict:
        result = rate(naive_step(), seconds) if name == "naive" else own(seconds)
        return result | {"outputs": outputs, "precision": precision}

    serve(measure)


if __name__ == "__main__":
    side(*sys.argv[1:])
