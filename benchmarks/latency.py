"""How long it takes from the click on Solve to the first solved frame in a file that Blender can show.

Measured where the click happens: through the service that Blender uses, until the cache is there with a sample. Cold is
without a worker process (the files of torch and the others in the system's cache), warm with one that has solved with
the model and the movie before. As a program: `latency.py MODEL MOVIE [DEVICE]` measures those.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from measure import Effort, Row, in_turns

from understudy.core.meshcache import PC2_HEADER
from understudy.core.service import Service

MARKS = {"cold": 6.0, "warm": 0.3}  # s, on a CPU
LOOK = 0.005  # s between looks


def rows(folder: Path, device: str, ceilings: dict, effort: Effort) -> Iterator[Row]:
    yield from _rows(folder / "model.safetensors", folder / "movie.mp4", device, effort)


def _rows(model: Path, movie: Path, device: str, effort: Effort) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        places = (Path(scratch) / f"{number}" for number in range(1000))
        service = Service(sys.executable, Path(scratch) / "service")
        first_frame(service, model, movie, device, next(places))  # the worker that is warm from now on
        turns = in_turns(effort, {
            "cold": lambda: cold(model, movie, device, next(places)),
            "warm": lambda: first_frame(service, model, movie, device, next(places))})
        service.close()
    for name, made in turns.items():
        yield Row("from the click to the first frame", f"{name} worker", device, made, unit="s",
                  limit=f"should be below {MARKS[name]:g} s" if device == "cpu" else "")


def cold(model: Path, movie: Path, device: str, place: Path) -> dict:
    service = Service(sys.executable, place / "service")
    try:
        return first_frame(service, model, movie, device, place)
    finally:
        service.close()


def first_frame(service: Service, model: Path, movie: Path, device: str, place: Path) -> dict:
    """Seconds until a solve's first frame can be read; the solve is then cancelled."""
    out, job_folder = place / "take.pc2", place / "job"
    place.mkdir(exist_ok=True)
    began = time.perf_counter()
    job = service.submit(["solve", model, movie, "--out", out, "--live", "--device", device, "--job", job_folder],
                         job_folder)
    while not _samples(out):
        time.sleep(LOOK)
        job.poll()
        if job.state.ended:
            raise SystemExit(f"The solve ended before its first frame: {job.state.text}")
    passed = time.perf_counter() - began
    job.cancel()
    while not job.state.ended:
        time.sleep(LOOK)
        job.poll()
    return {"rate": passed}


def _samples(path: Path) -> int:
    """How many samples the header of a PC2 promises; 0 if it is not there."""
    try:
        with open(path, "rb") as file:
            return PC2_HEADER.unpack(file.read(PC2_HEADER.size))[-1]
    except FileNotFoundError:
        return 0


if __name__ == "__main__":
    for row in _rows(Path(sys.argv[1]), Path(sys.argv[2]), *(sys.argv[3:] or ["cpu"]), Effort(rounds=5)):
        print(f"{row.what}: {row.median('rate'):.2f} s ({min(row.rates):.2f}..{max(row.rates):.2f})")
