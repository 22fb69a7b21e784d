"""What an artist has at the beginning of docs/scenarios/session.py, made from an actor whose shots are all known.

    python tools/session.py demo/actor build/session --known pangram_calm --tracked rom facs --take scene \\
        --held val_talk

OUT/actor has a hastily trained model of one known shot and the held-back one; OUT/tracks has the tracked shots as a
vendor delivers them, OUT/footage their movies and the take's, which nobody has tracked. OUT/truth.npy is how the take's
face really moves.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from understudy.core.actor import Actor, create_actor
from understudy.core.meshcache import cache_writer

UPRIGHT = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0.0]])  # Y up -> Z up


def make(source: Actor, out: Path, known: str, tracked: list[str], take: str, held: str, training: list[str]) -> None:
    """Make the folder; `training` are the options with which the first model is trained."""
    shots = {shot.name: shot for shot in source.shots}
    footage, tracks = out / "footage", out / "tracks"
    footage.mkdir(parents=True)
    tracks.mkdir()
    for name in (known, held, take, *tracked):
        shutil.copyfile(shots[name].footage_path(), footage / f"{name}.mp4")
    actor = create_actor(out / "actor", source.folder / "template.obj", source.unit, source.name, source.animated,
                         source.stabiliser if len(source.stabiliser) else None, source.regions, source.crop)
    for name in (known, held):
        actor.add_shot(name, footage / f"{name}.mp4", shots[name].vertices(), shots[name].role, shots[name].split)
    for name in tracked:  # in metres, Z up
        with cache_writer(tracks / f"{name}_track_v003.pc2", len(source.template.vertices),
                          shots[name].sample_count()) as writer:
            for sample in shots[name].vertices():
                writer.write((sample[None] * source.unit @ UPRIGHT).astype(np.float32))
    np.save(out / "truth.npy", shots[take].vertices())
    subprocess.run([sys.executable, "-m", "understudy", "train", out / "actor", "--device", "cpu", *training],
                   check=True)
    shutil.rmtree(out / "actor" / "runs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("actor", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--known", required=True, help="the shot that the first model knows")
    parser.add_argument("--tracked", nargs="+", required=True, help="the shots that come as tracks")
    parser.add_argument("--take", required=True, help="the shot that nobody has tracked")
    parser.add_argument("--held", required=True, help="the shot that judges")
    options = parser.parse_args()
    make(Actor.load(options.actor), options.out, options.known, options.tracked, options.take, options.held,
         ["--epochs", "2", "--batch", "16"])


if __name__ == "__main__":
    main()
