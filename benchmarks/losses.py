"""Do the terms beyond the paper's loss make closed lips and lids better, and what do they cost everywhere else?

    python benchmarks/losses.py ../shared/actors/otto OUT --from OTTO/model.safetensors --epochs 1.4

A trained model goes on learning once with the paper's loss, and once with each term added: the same frames in the same
order, but for the velocity term, which needs neighbours. OUT keeps the runs; the test actor is not part of the project.
"""

import argparse
import dataclasses
from pathlib import Path

from understudy.core.process import prepare

prepare()

import numpy as np  # noqa: E402
from quality import make_otto  # noqa: E402

from understudy.core.actor import Actor  # noqa: E402
from understudy.core.files import write_json  # noqa: E402
from understudy.core.jobs import Job  # noqa: E402
from understudy.training.config import Config  # noqa: E402
from understudy.training.evaluate import evaluate  # noqa: E402
from understudy.training.loop import train  # noqa: E402

TERMS = {"paper": {}, "gaps": {"gaps": 10.0}, "velocity": {"velocity": 1.0}, "painted": {"painted": True}}
EMPHASIS = 4.0  # of lips and lids, as painted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--from", dest="start", type=Path, help="model to go on from (default: from scratch)")
    parser.add_argument("--epochs", type=float, default=1.4)
    parser.add_argument("--terms", nargs="+", choices=TERMS, default=list(TERMS))
    options = parser.parse_args()
    if not (options.out / "actor").exists():
        make_otto(options.source, options.out / "actor")
    actor = Actor.load(options.out / "actor")
    actor.weights = np.ones(len(actor.template.vertices))
    for name in ("lips", "lids"):
        actor.weights[actor.regions[name]] = EMPHASIS
    actor.save()
    config = Config.preset("quick") if options.start is None else Config.preset("quick").fine_tuning()
    results = {}
    for name in options.terms:
        run = options.out / name
        if not (run / "evaluation" / "evaluation.json").exists():
            with Job(run, "train") as job:
                train(actor.folder, dataclasses.replace(config, epochs=options.epochs, **TERMS[name]), run,
                      start_from=options.start, report=job)
        results[name] = evaluate(actor.folder, run / "evaluation", run / "model.safetensors")["overall"]
    write_json(options.out / "losses.json", results)
    columns = ["RMSE", "lips", "lids", "width of shut lips", "width of shut lids"]
    print(f"| mm | {' | '.join(columns)} |\n| --- |{' ---: |' * len(columns)}")
    for name, found in results.items():
        figures = [found["regions"][region]["rmse_mm"] for region in ("all", "lips", "lids")]
        figures += [found["gaps"][region]["error_mm"] for region in ("lips", "lids")]
        print(f"| {name} | {' | '.join(f'{figure:.3f}' for figure in figures)} |")


if __name__ == "__main__":
    main()
