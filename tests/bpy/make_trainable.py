"""Makes an actor with two cleaned shots of 16 frames, whose mouth follows a bright bar: `make_trainable.py DIR`."""

import sys
from pathlib import Path

import numpy as np

from understudy.core.actor import create_actor
from understudy.core.movie_writer import MovieWriter

FRAMES = 16
folder = Path(sys.argv[1])
grid = np.stack(np.meshgrid(np.arange(4.0), np.arange(3.0), indexing="ij"), -1).reshape(-1, 2)
template = np.column_stack([grid, np.zeros(len(grid))]).astype(np.float32)
faces = np.array([[3 * i + j, 3 * i + j + 1, 3 * i + j + 4, 3 * i + j + 3] for i in range(3) for j in range(2)])
np.savez(folder.with_suffix(".npz"), vertices=template, faces=faces)
actor = create_actor(folder, folder.with_suffix(".npz"), 0.01, name="Zoë", animated=np.arange(2, 12),
                     crop=(12, 16, 240, 320), regions={"mouth": np.arange(4, 8)})
for name, split, seed in (("talk", "train", 0), ("held out", "validation", 1)):
    opening = np.random.default_rng(seed).uniform(0, 1, FRAMES)
    footage = folder / f"{name}.mp4"  # inside, so that a copy of the folder is an actor of its own
    with MovieWriter(footage, 272, 352, 30) as movie:
        for value in opening:
            picture = np.full((352, 272), 60, np.uint8)
            picture[150:160 + int(100 * value), 80:180] = 200
            movie.write(picture)
    vertices = np.repeat(template[None], FRAMES, 0)
    vertices[:, 4:8, 1] -= 0.2 * opening[:, None]
    actor.add_shot(name, footage, vertices, "pangram", split)
