"""What several tests share. Fixtures import what they need: the interpreters of tests/bpy have no torch."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ACTOR_FRAMES = 16
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    """Decoded pictures go where the tests' other files go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNDERSTUDY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def small_model():
    """A function that makes an untrained model of 8 vertices, 5 of them animated."""
    return _small_model


def _small_model(seed: int = 0):
    import torch

    from understudy.core.crop import Crop
    from understudy.core.model import Model
    from understudy.core.network import Network
    from understudy.core.topology import make_mesh

    torch.manual_seed(seed)
    vertices = np.random.default_rng(seed).standard_normal((8, 3)).astype(np.float32)
    mesh = make_mesh(vertices, np.array([4, 4]), np.array([0, 1, 2, 3, 4, 5, 6, 7]))
    animated = np.array([1, 2, 4, 5, 7], np.int32)
    basis = np.random.default_rng(1).standard_normal((6, 5, 3)).astype(np.float32)
    return Model("Zoë", 0.01, Crop(12, 16, 240, 320), "sRGB", mesh, animated, np.array([0], np.int32),
                 {"lips": np.array([2, 4], np.int32), "brows": np.array([7], np.int32)}, (101.5, 42.25),
                 vertices[animated], basis, Network(15, 6), {"validation": {"rmse_mm": 0.9}})


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """An actor whose mouth follows a bright bar in the picture; the last frames are the validation shot."""
    from understudy.core.actor import create_actor
    from understudy.core.movie_writer import MovieWriter

    folder = tmp_path_factory.mktemp("actors")
    grid = np.stack(np.meshgrid(np.arange(4.0), np.arange(3.0), indexing="ij"), -1).reshape(-1, 2)
    template = np.column_stack([grid, np.zeros(len(grid))]).astype(np.float32)
    faces = np.array([[3 * i + j, 3 * i + j + 1, 3 * i + j + 4, 3 * i + j + 3] for i in range(3) for j in range(2)])
    np.savez(folder / "template.npz", vertices=template, faces=faces)
    actor = create_actor(folder / "actor", folder / "template.npz", 0.01, animated=np.arange(2, 12),
                         crop=(12, 16, 240, 320), regions={"mouth": np.arange(4, 8)})
    for name, split, seed in (("talk", "train", 0), ("held out", "validation", 1)):
        opening = np.random.default_rng(seed).uniform(0, 1, ACTOR_FRAMES)
        footage = folder / "actor" / f"{name}.mp4"  # inside, so that a copy of the folder is an actor of its own
        with MovieWriter(footage, 264, 352, 30) as movie:
            for value in opening:
                picture = np.full((352, 264), 60, np.uint8)
                picture[150:160 + int(100 * value), 80:180] = 200
                movie.write(picture)
        vertices = np.repeat(template[None], ACTOR_FRAMES, 0)
        vertices[:, 4:8, 1] -= 0.2 * opening[:, None]
        actor.add_shot(name, footage, vertices, "pangram", split)
    return folder / "actor"


@pytest.fixture
def actor(original, tmp_path):
    """A copy of the tiny actor's folder to do anything with."""
    return shutil.copytree(original, tmp_path / "actor")


@pytest.fixture(scope="session")
def real_blender():
    """The real Blender, installed once where that can be done."""
    from understudy.tools.window import NoBlender, find_blender

    try:
        return find_blender()
    except NoBlender as why:
        pytest.skip(str(why))


@pytest.fixture(scope="session")
def packager():
    """tools/extension.py as a function of its arguments."""
    if not list(ROOT.glob(".venv-bpy/5.0/**/blender_ext.py")):
        pytest.skip("needs .venv-bpy/5.0, which make test-bpy sets up")

    def run(*arguments: object) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, ROOT / "tools" / "extension.py", *map(str, arguments)], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    return run


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory, small_model):
    """An actor folder with what goes into a zip: a tiny untrained model, and footage for it."""
    from understudy.core.movie_writer import MovieWriter

    folder = tmp_path_factory.mktemp("stand-in")
    small_model().save(folder / "model.safetensors")
    (folder / "footage").mkdir()
    with MovieWriter(folder / "footage" / "val_talk.mp4", 264, 352, 30) as movie:
        for i in range(12):
            movie.write(np.full((352, 264), 10 * i, np.uint8))
    return folder


@pytest.fixture(scope="session")
def package(packager, stand_in, tmp_path_factory):
    """The small zip, with a stand-in for the sample."""
    folder = tmp_path_factory.mktemp("dist")
    built = packager("small", "--actor", stand_in, "--out", folder)
    assert built.returncode == 0, built.stdout
    return next(folder.glob("*.zip"))
