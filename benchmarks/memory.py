"""How much memory does training take with as many frames as the paper's actors had?

    python benchmarks/memory.py ../shared/actors/otto OUT

Otto's training shots, each several times, until there are at least 15,000 frames; each time less one frame, so that no
two shots share their decoded pictures. A process trains on them for a minute and tells its peak. OUT keeps the actor.
The test actor is not part of the project.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from understudy.core.process import prepare

prepare()

from quality import make_otto  # noqa: E402

from understudy.core.actor import Actor  # noqa: E402
from understudy.core.errors import Cancelled  # noqa: E402
from understudy.core.jobs import Reporter  # noqa: E402
from understudy.core.runs import data_frames, memory_needed  # noqa: E402
from understudy.training.config import Config  # noqa: E402
from understudy.training.loop import train  # noqa: E402

MARK = 6e9  # bytes


class Watch(Reporter):
    """Asks to stop some seconds after training has begun."""

    def __init__(self, seconds: float):
        self.seconds, self.until, self.images = seconds, float("inf"), 0

    def status(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text} (peak {peak() / 1e9:.2f} GB)", flush=True)
        if text.startswith("Training"):
            self.until = time.monotonic() + self.seconds

    def progress(self, done: float, total: float, unit: str = "frames", **more: object) -> None:
        self.images = done

    def cancelled(self) -> bool:
        return time.monotonic() > self.until

    def check_cancel(self) -> None:
        pass


def peak() -> int:
    """Bytes of memory that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def make_actor(source: Path, folder: Path, frames: int) -> None:
    make_otto(source, folder)
    actor = Actor.load(folder)
    originals, copies = actor.training_shots(), 0
    while data_frames(actor)["train"] < frames:
        shot, copy = originals[copies % len(originals)], copies // len(originals) + 1
        actor.add_shot(f"{shot.name}_{copy}", shot.footage_path(), shot.vertices()[:-copy], shot.role, "train")
        copies += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--frames", type=int, default=15_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = options.out / f"otto-{options.frames}"
    if not options.child:  # what makes the actor is another process than the one that is measured
        if not folder.exists():
            make_actor(options.source, folder, options.frames)
        sys.exit(subprocess.run([sys.executable, *sys.argv, "--child"]).returncode)
    watch, actor = Watch(options.seconds), Actor.load(folder)
    with tempfile.TemporaryDirectory(dir=options.out) as run:
        try:
            train(folder, Config.preset("quick"), run, report=watch)
        except Cancelled:
            pass
    print(f"{data_frames(actor)['train']:,} frames, {watch.images:,.0f} of them shown: at most {peak() / 1e9:.2f} GB; "
          f"foretold were {memory_needed(actor, Config().batch) / 1e9:.2f} GB")
    sys.exit(peak() > MARK)


if __name__ == "__main__":
    main()
