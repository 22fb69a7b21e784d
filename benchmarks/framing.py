"""How well footage that is framed or lit differently is told from footage that is not.

    python benchmarks/framing.py ACTOR [ACTOR ...]

Each ACTOR is an actor folder with its footage. The reference is the mean training input, without any training. Takes
are whole shots and, as harder ones, pieces of 200 frames; into each, differences are planted through the crop (a camera
that moved, rolled or zoomed) and the gray levels (exposure).
"""

import sys

import cv2
import numpy as np

from understudy.core import framing
from understudy.core.actor import Actor
from understudy.core.crop import HEIGHT, WIDTH, Crop, sample
from understudy.core.footage import open_footage

FRAMES = 24   # a mean, as core/probe.py takes it
PIECE = 200   # frames
PLANTED = {   # name -> what the camera does: a list of (x, y, roll, scale, gain of the scene's light)
    "nothing": [(0, 0, 0, 1, 1)],
    "shift of 8 px": [(8 * np.cos(a), 8 * np.sin(a), 0, 1, 1) for a in np.arange(8) * np.pi / 4],
    "shift of 12 px": [(12 * np.cos(a), 12 * np.sin(a), 0, 1, 1) for a in np.arange(8) * np.pi / 4],
    "roll of 3 degrees": [(0, 0, -3, 1, 1), (0, 0, 3, 1, 1)],
    "4 % larger or smaller": [(0, 0, 0, 1.04, 1), (0, 0, 0, 1 / 1.04, 1)],
    "15 % exposure": [(0, 0, 0, 1, 0.85), (0, 0, 0, 1, 1.15)],
}


def main(folders: list[str]) -> None:
    """Print the table: how many of the planted differences are found, and how many takes are flagged without one."""
    cv2.setNumThreads(1)
    found: dict[tuple[str, str], list[bool]] = {}
    own: list[tuple[float, ...]] = []
    for folder in folders:
        actor = Actor.load(folder)
        crop = Crop(*actor.crop)
        reference = mean_input(actor, crop)
        for kind, shot, frames in takes(actor):
            with open_footage(shot.footage_path()) as footage:
                pictures = list(footage.pick(frames))
            for name, cameras in PLANTED.items():
                for camera in cameras:
                    result = framing.compare(reference, shown(pictures, crop, *camera))
                    found.setdefault((kind, name), []).append(result.verdict == "different")
                    if name == "nothing" and result.shift:
                        own.append((np.hypot(*result.shift), abs(np.log(result.scale)), abs(result.roll),
                                    abs(np.log(result.brightness)), abs(np.log(result.contrast)), -result.match))
    kinds = sorted({kind for kind, _ in found})
    print("| planted |", " | ".join(kinds), "|\n| --- |", " | ".join("---:" for _ in kinds), "|")
    for name in PLANTED:
        cells = [f"{np.mean(found[kind, name]):.1%} of {len(found[kind, name])}" for kind in kinds]
        print(f"| {name} |", " | ".join(cells), "|")
    print("takes as they are, 95th percentile and worst: shift, scale, roll, brightness, contrast, match")
    print(np.percentile(own, 95, axis=0).round(3), np.max(own, axis=0).round(3))


def mean_input(actor: Actor, crop: Crop) -> np.ndarray:
    """The mean training input, of every 10th training frame."""
    total, count = np.zeros((HEIGHT, WIDTH)), 0
    for shot in actor.training_shots():
        with open_footage(shot.footage_path()) as footage:
            for picture in footage.pick(shot.first_frame + shot.frames()[::10]):
                total += sample(picture, crop.matrix())
                count += 1
    return np.rint(total / count).astype(np.uint8)


def takes(actor: Actor):
    """(kind, shot, footage frames) of whole shots and pieces."""
    for shot in actor.shots:
        frames = shot.first_frame + np.arange(shot.sample_count())
        pieces = [(f"{PIECE} frames", part) for part in np.array_split(frames, max(1, round(len(frames) / PIECE)))]
        for kind, part in [("whole shots", frames), *pieces]:
            yield kind, shot, part[np.linspace(0, len(part) - 1, min(FRAMES, len(part))).round().astype(int)]


def shown(pictures: list[np.ndarray], crop: Crop, x: float, y: float, roll: float, scale: float,
          light: float) -> np.ndarray:
    """Mean input of a camera that shows the face elsewhere, in another light (sRGB is about gamma 2.2)."""
    turn = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), -roll, scale)  # OpenCV counts counterclockwise
    turn[:, 2] += x, y
    matrix = crop.matrix() @ np.linalg.inv(np.vstack([turn, [0, 0, 1]]))
    mean = np.mean([sample(picture, matrix) for picture in pictures], axis=0)
    return np.clip(mean * light ** (1 / 2.2), 0, 255)


if __name__ == "__main__":
    main(sys.argv[1:])
