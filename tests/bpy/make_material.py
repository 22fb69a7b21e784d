"""Makes an actor with two models that nobody trained, and two movies: `python make_material.py FOLDER`."""

import sys
from pathlib import Path

import numpy as np
import torch

from understudy.core.actor import create_actor
from understudy.core.crop import Crop
from understudy.core.model import Model
from understudy.core.movie_writer import MovieWriter
from understudy.core.network import Network

folder = Path(sys.argv[1])
torch.manual_seed(0)
grid = np.stack(np.meshgrid(np.arange(4.0), np.arange(3.0), indexing="ij"), -1).reshape(-1, 2)
vertices = np.column_stack([grid, np.zeros(len(grid))]).astype(np.float32)
faces = np.array([[3 * i + j, 3 * i + j + 1, 3 * i + j + 4, 3 * i + j + 3] for i in range(3) for j in range(2)])
np.savez(folder / "template.npz", vertices=vertices, faces=faces)
actor = create_actor(folder / "actor", folder / "template.npz", 0.01, name="Zoë", animated=np.arange(2, 12),
                     crop=(12, 16, 240, 320), regions={"mouth": np.arange(4, 8)}, stabiliser=[0, 1])
# Widths that are no multiple of 16 make Blender 4.2.0 crash now and then when it loads the movie itself.
for name, count in (("take one", 40), ("second", 12)):
    with MovieWriter(folder / f"{name}.mp4", 272, 352, 30) as movie:
        for value in np.random.default_rng(len(name)).uniform(0, 1, count):
            picture = np.full((352, 272), 60, np.uint8)
            picture[150:160 + int(100 * value), 80:180] = 200
            movie.write(picture)
for seed, name in ((0, "model"), (1, "other")):
    torch.manual_seed(seed)
    basis = np.random.default_rng(1).standard_normal((6, 10, 3)).astype(np.float32)
    model = Model(actor.name, actor.unit, Crop(*actor.crop), "sRGB", actor.template, actor.animated, actor.stabiliser,
                  actor.regions, (80.0, 40.0), vertices[2:], basis, Network(30, 6), {})
    model.save(folder / "actor" / f"{name}.safetensors")
