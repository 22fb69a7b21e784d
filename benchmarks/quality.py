"""How close are solves to the truth? Trains a test actor for a time and measures it on shots it never saw.

    python benchmarks/quality.py otto ../shared/actors OUT --minutes 20

The test actors are not part of the project: OTTO has exact ground truth, SPEAKER is real video with the vertices of a
landmark tracker. OUT/ACTOR becomes an actor folder, OUT/ACTOR-report the evaluation.
"""

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Collection
from pathlib import Path

from understudy.core.process import prepare

prepare()

import numpy as np  # noqa: E402

from understudy.core.actor import create_actor  # noqa: E402
from understudy.core.architectures import PAPER  # noqa: E402
from understudy.core.jobs import Job  # noqa: E402
from understudy.training.config import Config  # noqa: E402
from understudy.training.evaluate import evaluate  # noqa: E402
from understudy.training.loop import new_run, train  # noqa: E402

FRAMES = {"train": (0, 700), "validation": (720, 1008)}  # of the speaker's one take


def make_otto(source: Path, folder: Path, only: Collection[str] = ()) -> None:
    """Otto's actor folder; `only` names the shots that are wanted, if not all are."""
    about = json.loads((source / "actor.json").read_text())
    regions = {name: np.array(indices) for name, indices in json.loads((source / "regions.json").read_text()).items()
               if isinstance(indices, list)}
    actor = create_actor(folder, source / "template.obj", about["unit"], "Otto", np.load(source / "animated.npy"),
                         regions=regions, crop=tuple(about["crop"]))
    with np.load(source / "basis.npz") as basis:
        neutral, basis = basis["neutral"], basis["basis"]
    for shot in about["shots"]:
        if only and shot["name"] not in only:
            continue
        coefficients = np.load(source / f"{shot['name']}.npz")["coef"]
        vertices = (neutral + np.tensordot(coefficients, basis, 1)).astype(np.float32)
        actor.add_shot(shot["name"], source / f"{shot['name']}.mp4", vertices, shot["role"], shot["split"])


def make_speaker(source: Path, folder: Path, frames: dict[str, tuple[int, int]] | None = None) -> None:
    """The speaker's actor folder; `frames` has first and end of each split, if not the usual ones."""
    about = json.loads((source / "actor.json").read_text())
    actor = create_actor(folder, source / "template.obj", about["unit"], "speaker", crop=tuple(about["crop"]))
    vertices = np.load(source / "take.npz")["vertices"]
    for split, (first, end) in (frames or FRAMES).items():
        actor.add_shot(split, source / "take.mp4", vertices[first:end], "character", split, first_frame=first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("actor", choices=("otto", "speaker"))
    parser.add_argument("actors", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--architecture", default=PAPER, help="of core/architectures.py, to compare")
    parser.add_argument("--set", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
                        help="another value of the configuration, to measure what it does")
    options = parser.parse_args()
    folder = options.out / options.actor
    if not (folder / "actor.json").exists():
        {"otto": make_otto, "speaker": make_speaker}[options.actor](options.actors / options.actor, folder)
    values = {name: json.loads(value) for name, value in options.set}
    base = Config.preset(options.preset).of(options.architecture)
    config = dataclasses.replace(base, minutes=options.minutes or None, **values)
    usual = not values and options.architecture == PAPER
    run = new_run(folder)
    with Job(run, "train") as job:
        train(folder, config, run, report=job)
    with tempfile.TemporaryDirectory() as scratch:
        report = evaluate(folder, options.out / f"{options.actor}-report" if usual else Path(scratch) / "report",
                          run / "model.safetensors")
    for shot in report["shots"]:
        every = shot["regions"]["all"]
        print(f"{shot['name']:12} {every['rmse_mm']:6.2f} mm  mean mesh {every['mean_mesh_mm']:6.2f}  "
              f"nearest training frame {every['nearest_mm']:6.2f}  motion {every['attenuation']:.3f} of the target's")


if __name__ == "__main__":
    main()
