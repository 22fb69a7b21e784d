"""Does the audit find slips in the labels? Plants some in a copy of a test actor, trains on it, and looks for them.

    python benchmarks/audit.py ../shared/actors/otto OUT --epochs 2.5

2 % of the training frames get a region that is moved by 2 mm, half of them single frames, half in runs of 8. The model
is trained from scratch on the labels with the slips in them. OUT/actor is kept: a second call only audits.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from understudy.core.process import prepare

prepare()

import numpy as np  # noqa: E402
from quality import make_otto  # noqa: E402

from understudy.core.actor import Actor  # noqa: E402
from understudy.core.jobs import Job  # noqa: E402
from understudy.core.meshcache import cache_writer  # noqa: E402
from understudy.training.audit import audit  # noqa: E402
from understudy.training.config import Config  # noqa: E402
from understudy.training.loop import train  # noqa: E402

SHARE, RUN = 0.02, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=float, default=2.5)
    parser.add_argument("--millimetres", type=float, default=2.0)
    options = parser.parse_args()
    folder = options.out / "actor"
    if not (folder / "actor.json").exists():
        make_otto(options.source, folder)
        planted = plant(Actor.load(folder), options.millimetres)
        (options.out / "planted.json").write_text(json.dumps(planted))
    if not (folder / "model.safetensors").exists():
        run = folder / "runs" / "planted"
        with Job(run, "train") as job:
            train(folder, dataclasses.replace(Config.preset("quick"), epochs=options.epochs), run, report=job)
    report(audit(folder), json.loads((options.out / "planted.json").read_text()))


def plant(actor: Actor, millimetres: float) -> list[dict]:
    """Move regions in some frames of the training shots; tells which: shot, sample, region and kind."""
    rng, planted = np.random.default_rng(0), []
    for shot in actor.training_shots():
        vertices = np.array(shot.vertices())
        half = max(1, round(SHARE * len(vertices) / 2))
        for kind, length, count in (("single", 1, half), ("run", RUN, max(1, round(half / RUN)))):
            for first in rng.choice(len(vertices) - length, count, replace=False):
                region = sorted(actor.regions)[rng.integers(len(actor.regions))]
                move = rng.standard_normal(3)
                move *= millimetres / actor.millimetres / np.linalg.norm(move)
                for sample in range(first, first + length):
                    if any(one["shot"] == shot.name and one["sample"] == sample for one in planted):
                        continue
                    vertices[sample, actor.regions[region]] += move.astype(np.float32)
                    planted.append({"shot": shot.name, "sample": int(sample), "region": region, "kind": kind})
        with cache_writer(shot.cache, vertices.shape[1], len(vertices)) as writer:
            writer.write(vertices)
    return planted


def report(result: dict, planted: list[dict]) -> None:
    """Precision and recall, of frames."""
    there = {(one["shot"], one["sample"]): one for one in planted}
    found = {(one["shot"], sample): one for one in result["findings"]
             for sample in range(one["first"], one["last"] + 1)}
    hits = there.keys() & found.keys()
    print(f"{len(there)} of {result['frames']} frames have a planted slip; {len(found)} frames are listed, in "
          f"{len(result['findings'])} findings")
    print(f"precision {len(hits) / max(1, len(found)):.3f}, recall {len(hits) / len(there):.3f}")
    for name in ("kind", "region"):
        for value in sorted({one[name] for one in planted}):
            those = [key for key, one in there.items() if one[name] == value]
            print(f"  {value:7} {sum(key in found for key in those):4} of {len(those):4} found")
    right = sum(there[key]["region"] == found[key]["regions"][0] for key in hits)
    print(f"the region is named rightly in {right / max(1, len(hits)):.1%} of those found")
    ranked = [(one["shot"], one["worst"]) in there for one in result["findings"]]
    for count in (10, 50, 100):
        print(f"of the first {count} findings {sum(ranked[:count])} are planted")


if __name__ == "__main__":
    main()
