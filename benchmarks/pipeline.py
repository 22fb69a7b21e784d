"""What a whole solve of a 1200 x 1600 H.264 movie costs beyond decoding it.

As a program: the one side that measures all parts, since none needs other settings of the process.
"""

import functools
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from machine import cores
from measure import Effort, Row, Side, Watch, in_turns, rate, serve

from understudy.core.footage import open_footage
from understudy.core.process import prepare

MARK = 0.87  # of the slower part alone: 1.15 times its time
PARTS = {
    "pyav": "bare PyAV, decoding only",
    "gray": "decoding to gray (Footage.iterate)",
    "inputs": "decoding, crop and resize",
    "network": "network alone, inputs ready",
    "whole": "solve() to PC2, after its start",
}


def rows(folder: Path, device: str, ceilings: dict, effort: Effort) -> Iterator[Row]:
    with Side("pipeline.py", device, str(folder)) as side:
        turns = in_turns(effort, {part: functools.partial(side.measure, part=part) for part in PARTS})
    made = {part: Row("solve of 1200 x 1600 H.264", what, device, turns[part]) for part, what in PARTS.items()}
    rates = {part: row.median("rate") for part, row in made.items()}
    made["whole"].against = min(made["gray"], made["network"], key=lambda row: row.median("rate"))
    made["whole"].mark = MARK
    bound = _bound(made["inputs"], made["network"])
    bound.against = made["whole"].against
    with open_footage(movie := folder / "movie.mp4") as footage:
        megabits = 8e-6 * movie.stat().st_size / footage.frames * footage.fps
    made["pyav"].limit = f"a movie of {megabits:.0f} Mbit/s"
    made["whole"].limit = f"{rates['whole'] / bound.median('rate'):.0%} of the bound. Starting took " \
                          f"{made['whole'].median('start'):.1f} s"
    yield from (*made.values(), bound)


def _bound(inputs: Row, network: Row) -> Row:
    """What no order of work can pass: the slower part alone, or the processor time of both, if they share the cores."""
    turns = []
    for ours, theirs in zip(inputs.turns, network.turns, strict=True):
        seconds = ours["cores"] / ours["rate"] + theirs["cores"] / theirs["rate"]
        turns.append({"rate": min(cores() / seconds, ours["rate"], theirs["rate"])})
    own, other = (statistics.median(row.costs) for row in (inputs, network))
    return Row(inputs.question, "bound: both parts at once, all cores busy", inputs.device, turns,
               limit=f"{own:.1f} ms of a core for decoding and crop, {other:.1f} for the network, over {cores()} cores")


def side(device: str, folder: str) -> None:
    prepare()
    import av

    from understudy.core.model import load_model
    from understudy.core.solve import solve
    from understudy.core.solver import Solver

    movie, path = Path(folder) / "movie.mp4", Path(folder) / "model.safetensors"
    model = load_model(path)

    def bare() -> int:
        with av.open(str(movie)) as container:
            container.streams.video[0].thread_type = "AUTO"
            return sum(1 for _ in container.decode(video=0))

    @functools.lru_cache(1)
    def network() -> tuple:
        with open_footage(movie) as footage:
            inputs = list(footage.inputs(model.crop))
        solver = Solver(model, device)
        return solver, inputs, list(solver.stream(inputs[:solver.batch]))

    def stream() -> int:
        solver, inputs, _ = network()
        return sum(len(vertices) for vertices, _, _ in solver.stream(inputs))

    def whole() -> dict:
        watch = Watch()
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            solve(path, movie, Path(scratch) / "out.pc2", device=device, report=watch)
        return watch.result()

    def measure(part: str) -> dict:
        if part == "whole":
            return whole()
        if part == "pyav":
            return rate(bare, 0)
        if part == "network":
            network()
            return rate(stream, 0)
        with open_footage(movie) as footage:
            read = (lambda: footage.inputs(model.crop)) if part == "inputs" else footage.iterate
            return rate(lambda: sum(1 for _ in read()), 0)

    serve(measure)


if __name__ == "__main__":
    side(*sys.argv[1:])
