"""Where the head is in every frame of the data: looked for once, and kept beside the decoded pictures."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..core.files import atomic
from ..core.jobs import Reporter
from ..core.steady import VERSION, head
from .dataset import Frames
from .pictures import cache_folder

BLOCK = 64  # frames between two looks at whether to stop


def find_heads(frames: Frames, report: Reporter) -> None:
    """Give `frames` its heads, (N, 3, 3) float64 as from core.steady.head, NaN where no face is seen.

    Warns of frames without a face. Raises UnderstudyError where landmarks cannot be found on this machine.
    """
    found, done = [], 0
    for shot in range(len(frames.shots)):
        path, rows = _path(frames, shot), np.flatnonzero(frames.shot == shot)
        if path.exists():
            found.append(np.load(path))
        else:
            found.append(_look(frames, rows, done, report))
            with atomic(path) as temporary, open(temporary, "wb") as file:
                np.save(file, found[-1])
        done += len(rows)
    frames.heads = np.concatenate(found)
    if lost := int(np.isnan(frames.heads[:, 0, 0]).sum()):
        report.warning(f"No face was found in {lost} of {len(frames)} frames. There the head is taken to be where it "
                       "mostly is.")


def _look(frames: Frames, rows: np.ndarray, done: int, report: Reporter) -> np.ndarray:
    def one(row: int) -> np.ndarray:
        found = head(frames.inputs(np.array([row]))[0])
        return np.full((3, 3), np.nan) if found is None else found

    found = []
    with ThreadPoolExecutor(os.cpu_count(), "heads") as pool:
        for first in range(0, len(rows), BLOCK):
            found += pool.map(one, rows[first:first + BLOCK])
            report.check_cancel()
            report.progress(done + len(found), len(frames), "pictures")
    return np.stack(found)


def _path(frames: Frames, shot: int) -> Path:
    """A file name that only the same pictures, cropped the same, have."""
    made_from = [VERSION, Path(frames.pictures[shot].path).name, frames.matrix.tolist()]
    return cache_folder() / (hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:32] + ".heads.npy")
