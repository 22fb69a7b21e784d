"""Does training in bfloat16 end where training in float32 does, and how long does each take?

    python benchmarks/precision.py ACTOR --epochs 2.5 --batch 16 --seeds 3       in minutes on a processor
    python benchmarks/precision.py ACTOR --paper --device cuda                   the paper's 200 epochs, batches of 50

Trains with what training uses by itself, and with float32 throughout, on the same frames in the same order. More seeds
tell how much of a difference is chance. The mark is 2 % of the validation RMSE; on one H100 the paper's training, 200
epochs of 15,173 frames, is to take less than 5 minutes.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

from understudy.core.process import prepare

prepare()

from understudy.core.jobs import Job  # noqa: E402
from understudy.core.modelfile import ModelFile  # noqa: E402
from understudy.core.runs import Run  # noqa: E402
from understudy.training import state  # noqa: E402
from understudy.training.config import Config  # noqa: E402
from understudy.training.loop import train  # noqa: E402
from understudy.training.variants import PAPER_EPOCHS, base_config  # noqa: E402

PAPER_FRAMES = 15_173


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("actor", type=Path)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=float, default=1.0)
    length.add_argument("--paper", action="store_true", help="the paper's 200 epochs")
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    config = base_config(PAPER_EPOCHS if options.paper else options.epochs, options.batch)
    own = state.reduced_precision
    errors: dict[str, list[float]] = {"as it is": [], "float32": []}
    print("| | seed | validation RMSE, mm | frames shown | s | frames/s | the paper's training, minutes |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for seed in range(options.seeds):
        for name, precision in (("as it is", own), ("float32", lambda device: False)):
            state.reduced_precision = precision
            rmse, images, seconds = learn(options.actor, dataclasses.replace(config, seed=seed), options.device)
            errors[name].append(rmse)
            whole = PAPER_FRAMES * PAPER_EPOCHS / images * seconds / 60
            print(f"| {name} | {seed} | {rmse:.3f} | {images:,.0f} | {seconds:.0f} | {images / seconds:.0f} | "
                  f"{whole:,.1f} |", flush=True)
    means = {name: statistics.mean(found) for name, found in errors.items()}
    print(f"\nRatio of the validation RMSE: {means['as it is'] / means['float32']:.4f} (mark: 0.98 to 1.02)")


def learn(actor: Path, config: Config, device: str) -> tuple[float, float, float]:
    """Train once; returns validation RMSE in mm, frames shown, and seconds with everything that training does."""
    with tempfile.TemporaryDirectory() as folder:
        run, began = Run(Path(folder) / "run"), time.monotonic()
        with Job(run.folder, "train", show=lambda event: None) as job:
            train(actor, config, run=run.folder, device=device, report=job, use=False)
        seconds = time.monotonic() - began
        run.catch_up()
        about = ModelFile.load(run.folder / "model.safetensors").about
        return about["validation"]["rmse_mm"], run.images, seconds


if __name__ == "__main__":
    main()
