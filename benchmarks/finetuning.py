"""Is fine-tuning on newly cleaned frames nearly as good as training on everything again, and what do old shots lose?

    python benchmarks/finetuning.py ../shared/actors/otto OUT

A model learns Otto without the shot `facs`. Then 200 frames of that shot, evenly spread, are cleaned. The model goes on
from there for the frames that five minutes of 2 cores show; beside it, a long run learns everything from scratch, with
as many frames shown as the first model. OUT keeps all of it: what is there is not made again, so that --set measures
another setting alone. The test actor is not part of the project.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from understudy.core.process import prepare

prepare()

import numpy as np  # noqa: E402
from quality import make_otto  # noqa: E402

from understudy.core.actor import Actor, Shot  # noqa: E402
from understudy.core.events import job_state  # noqa: E402
from understudy.core.files import write_json  # noqa: E402
from understudy.core.jobs import Job, Reporter  # noqa: E402
from understudy.core.metrics import pooled, rmse_per_frame  # noqa: E402
from understudy.core.model import load_model  # noqa: E402
from understudy.core.solver import Solver  # noqa: E402
from understudy.training.config import Config  # noqa: E402
from understudy.training.dataset import read_frames  # noqa: E402
from understudy.training.loop import train  # noqa: E402

NEW = "facs"
CLEANED = 200
MARKS = {"new": 1.25, "old": 1.03}  # of the long run's RMSE, and of the first model's


def shots_of(source: Path) -> list[str]:
    return [shot["name"] for shot in json.loads((source / "actor.json").read_text())["shots"]]


def make_actors(source: Path, out: Path) -> tuple[Path, Path]:
    """Otto before and after the frames of the new shot were cleaned."""
    before, after = out / "before", out / "after"
    if not before.exists():
        make_otto(source, before, [name for name in shots_of(source) if name != NEW])
    if not after.exists():
        make_otto(source, after)
        shot = next(shot for shot in Actor.load(after).shots if shot.name == NEW)
        count = shot.sample_count()
        cleaned = np.linspace(0, count - 1, CLEANED).round().astype(int)
        edges = [-1, *cleaned.tolist(), count]
        shot.excluded = [[a + 1, b - 1] for a, b in zip(edges, edges[1:], strict=False) if b - a > 1]
        shot.save()
    return before, after


def learn(actor: Path, run: Path, config: Config, start_from: Path | None = None) -> Path:
    """The model of a run; begun, gone on with, or there already."""
    if not (run.exists() and job_state(run).state == "done"):
        with Job(run, "train") as job:
            begun = run if (run / "config.json").exists() else None
            train(actor, config, run, begun, start_from, report=job)
    return run / "model.safetensors"


def measure(actor: Actor, path: Path) -> dict[str, float]:
    """RMSE in mm on each validation shot, and on the frames of the new shot that nobody cleaned."""
    model, errors = load_model(path), {}
    solver = Solver(model, "cpu", 16, "torch")
    for shot in [*actor.validation_shots(), left_out(actor)]:
        frames, _ = read_frames(actor, [shot], [], Config(), Reporter())
        found = []
        for block in np.array_split(np.arange(len(frames)), -(-len(frames) // 64)):
            solved = solver.solve(frames.inputs(block))[:, actor.animated]
            found.append(rmse_per_frame(solved, frames.targets(block), actor.millimetres))
        name = shot.name if shot.split == "validation" else f"{NEW}, not cleaned"
        errors[name] = float(pooled(np.concatenate(found)))
    return errors


def left_out(actor: Actor) -> Shot:
    """The new shot with the frames that are excluded, and no others."""
    shot = next(shot for shot in actor.shots if shot.name == NEW)
    return dataclasses.replace(shot, excluded=[[sample, sample] for sample in shot.frames().tolist()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--base", type=Path, help="a model of Otto without the shot, instead of a new one")
    parser.add_argument("--frames", type=int, default=69_000, help="shown to the first model, and in the long run")
    parser.add_argument("--fine", type=int, default=25_000, help="shown when fine-tuning")
    parser.add_argument("--steps", nargs="+", choices=("base", "long", "fine"), default=("base", "long", "fine"))
    parser.add_argument("--name", default="fine", help="of the run that fine-tunes")
    parser.add_argument("--set", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
                        help="another value of the configuration for fine-tuning, to measure what it does")
    options = parser.parse_args()
    before, after = make_actors(options.source, options.out)
    actor, first = Actor.load(after), Actor.load(before)
    counts = [sum(len(shot.frames()) for shot in one.training_shots()) for one in (first, actor)]
    quick = Config.preset("quick")
    models = {}
    if "base" in options.steps:
        models["before"] = options.base or learn(before, before / "runs" / "base", dataclasses.replace(
            quick, epochs=options.frames / counts[0]))
    if "fine" in options.steps:
        fine = dataclasses.replace(quick.fine_tuning(), epochs=options.fine / counts[1],
                                   **{name: json.loads(value) for name, value in options.set})
        models["fine-tuned"] = learn(after, after / "runs" / options.name, fine, models["before"])
    if "long" in options.steps:
        models["long run"] = learn(after, after / "runs" / "long", dataclasses.replace(
            quick, epochs=options.frames / counts[1]))
    result = {name: measure(actor, path) for name, path in models.items()}
    write_json(options.out / f"{options.name}.json", result)
    print("|  |", " | ".join(result), "|\n| ---", "| ---:" * len(result), "|")
    for shot in next(iter(result.values())):
        print(f"| {shot} |", " | ".join(f"{errors[shot]:.3f}" for errors in result.values()), "|")


if __name__ == "__main__":
    main()
