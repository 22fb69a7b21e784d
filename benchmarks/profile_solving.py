"""Where the time of a whole solve goes: `python benchmarks/profile_solving.py [MODEL MOVIE]`, processor time by part.

Each part runs alone, on one picture or batch after another, and is told as milliseconds of one core a frame: on few
cores all parts share these, so that they add up to what a solve takes. Without arguments a movie is made first.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from understudy.core.process import prepare

FRAMES, ROUNDS = 96, 5


def profile(model_path: Path, movie: Path) -> None:
    prepare()
    import av
    import numpy as np

    from understudy.core import gray
    from understudy.core.crop import network_input
    from understudy.core.footage import open_footage
    from understudy.core.live import LiveCache
    from understudy.core.solver import load_solver

    solver, _ = load_solver(model_path, "cpu")
    crop, slot = solver.model.crop, solver._slots[0]
    with av.open(str(movie)) as container:
        frame = next(container.decode(video=0))
    with open_footage(movie) as footage:
        window = crop.window(footage.width, footage.height)
        inputs = list(footage.inputs(crop, 0, min(footage.frames, FRAMES)))
    part = gray.from_video(frame, window)
    pictures = inputs[:solver.batch]
    vertices = solver.solve(np.stack(pictures))

    def decode() -> int:
        with av.open(str(movie)) as container:
            container.streams.video[0].thread_type = "AUTO"
            for count, _ in enumerate(container.decode(video=0), 1):
                if count == FRAMES:
                    break
            return count

    def write() -> int:
        with tempfile.TemporaryDirectory() as scratch, LiveCache(Path(scratch) / "x.pc2", vertices.shape[1]) as cache:
            cache.write(vertices)
        return len(vertices)

    def batch(run: Callable) -> Callable[[], int]:
        def step() -> int:
            run()
            return solver.batch
        return step

    moved = crop.moved(*window[:2])
    parts = {
        "decoding H.264 (FFmpeg)": decode,
        "gray of the crop's part of the luma plane": lambda: gray.from_video(frame, window) is not None,
        "crop and resize": lambda: network_input(part, moved) is not None,
        f"network ({solver.engine}, batch {solver.batch})": batch(lambda: slot.submit(pictures)),
        "output layer and placing the vertices, or copying them": batch(lambda: slot.collect(solver.batch)),
        "writing the cache": write,
    }
    found = {name: best(step) for name, step in parts.items()}
    total = sum(found.values())
    print("| ms of a core | share | what |\n| ---: | ---: | --- |")
    for name, milliseconds in found.items():
        print(f"| {milliseconds:.2f} | {milliseconds / total:.0%} | {name} |")
    print(f"| {total:.2f} | 100% | a frame |")


def best(step: Callable[[], int]) -> float:
    """Milliseconds of processor time a frame, the least of some rounds."""
    step()
    found = []
    for _ in range(ROUNDS):
        began, frames = time.process_time(), 0
        while frames < FRAMES:
            frames += step()
        found.append(1000 * (time.process_time() - began) / frames)
    return min(found)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        profile(*map(Path, sys.argv[1:]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            import material

            material.make(Path(scratch))
            profile(Path(scratch) / "model.safetensors", Path(scratch) / "movie.mp4")
