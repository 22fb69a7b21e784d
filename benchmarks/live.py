"""How many frames a second a 640 x 480 camera could drive the mesh with, and how late: a movie of 120 frames a second,
which no solve on a few cores keeps up with, played in real time.

As a program: the one side.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
from measure import Effort, Row, Side, in_turns, serve

from understudy.core.footage import open_footage
from understudy.core.process import prepare

WIDTH, HEIGHT, FPS, SECONDS = 640, 480, 120, 3
MARK = 30  # frames a second on two cores


def rows(folder: Path, device: str, ceilings: dict, effort: Effort) -> Iterator[Row]:
    with Side("live.py", device, str(folder)) as side:
        turns = in_turns(effort, {"live": side.measure})["live"]
    row = Row("live, source of 640 x 480", "from capture to readable vertices", device, turns)
    row.limit = (f"{row.median('latency_ms'):.0f} ms late, 95 % within {row.median('latency_95_ms'):.0f} ms; a source "
                 f"of {FPS} frames/s, mark {MARK}")
    yield row


def side(device: str, folder: str) -> None:
    prepare()
    from understudy.core.livesolve import live
    from understudy.core.movie_writer import MovieWriter

    movie = Path(folder) / "camera.mp4"
    with open_footage(Path(folder) / "movie.mp4") as footage, MovieWriter(movie, WIDTH, HEIGHT, FPS) as writer:
        for picture in footage.iterate(0, min(footage.frames, FPS * SECONDS)):
            writer.write(cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA))

    def measure() -> dict:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            result = live(Path(folder) / "model.safetensors", str(movie), Path(scratch) / "live", device)
        return result | {"rate": result["fps"]}

    serve(measure)


if __name__ == "__main__":
    side(*sys.argv[1:])
