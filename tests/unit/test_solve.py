"""Solving: a frame gives the same vertices however it is reached, and a cancelled solve is a whole, shorter one."""

import importlib.util
import json

import numpy as np
import pytest
import torch

from understudy.core.crop import network_input
from understudy.core.engine import pick_device
from understudy.core.errors import Cancelled, UnderstudyError
from understudy.core.footage import open_footage
from understudy.core.jobs import Reporter
from understudy.core.meshcache import read_cache
from understudy.core.model import load_model
from understudy.core.movie_writer import MovieWriter
from understudy.core.solve import Solver, solve

FRAMES = 11
ENGINES = ["torch", pytest.param("openvino", marks=pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"))]


@pytest.fixture(scope="module")
def files(tmp_path_factory, small_model):
    folder = tmp_path_factory.mktemp("näch takes")
    model = small_model()
    for name, layer in model.network.named_children():
        if name.startswith("conv"):
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    model.save(folder / "model.safetensors")
    with MovieWriter(folder / "take 1.mp4", 264, 352, 30) as movie:
        for index in range(FRAMES):
            picture = np.full((352, 264), 40 + 10 * index, np.uint8)
            picture[20 * index:20 * index + 60, 50:200] = 220
            movie.write(picture)
    return folder / "model.safetensors", folder / "take 1.mp4"


@pytest.mark.parametrize("engine", ENGINES)
def test_any_range_alone_is_the_same_bit_for_bit(files, tmp_path, engine):
    solve(*files, tmp_path / "whole.pc2", batch=4, device="cpu", engine=engine)
    whole = read_cache(tmp_path / "whole.pc2")
    assert whole.shape == (FRAMES, 8, 3)
    for first, last in ((0, 0), (3, 8), (10, 10)):
        sidecar = solve(*files, tmp_path / "part.pc2", first, last, batch=4, device="cpu", engine=engine)
        assert np.array_equal(read_cache(tmp_path / "part.pc2"), whole[first:last + 1])
        assert (sidecar["first"], sidecar["last"]) == (first, last)
        assert len(sidecar["confidence_mm"]["lips"]) == last - first + 1


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_and_batches_agree_with_plain_float32(files, engine):
    model = load_model(files[0])
    with open_footage(files[1]) as footage:
        inputs = np.stack([network_input(picture, model.crop) for picture in footage.iterate()])
    mean, deviation = model.whitening
    with torch.no_grad():
        want = model.network.eval()((torch.from_numpy(inputs)[:, None].float() - mean) / deviation).view(FRAMES, -1, 3)
    scale = np.abs(want.numpy() - model.mean).max()
    for batch in (1, 3, 16):
        vertices = Solver(load_model(files[0]), "cpu", batch, engine).solve(inputs)
        assert np.abs(vertices[:, model.animated] - want.numpy()).max() < 0.02 * scale
        still = np.setdiff1d(np.arange(8), model.animated)
        assert np.array_equal(vertices[:, still], np.repeat(model.template.vertices[None, still], FRAMES, 0))


@pytest.mark.parametrize("suffix", ["pc2", "mdd", "npz"])
def test_every_format_holds_the_same(files, tmp_path, suffix):
    sidecar = solve(*files, tmp_path / f"x.{suffix}", batch=4, device="cpu", engine="torch")
    solve(*files, tmp_path / "y.pc2", batch=4, device="cpu", engine="torch")
    assert np.array_equal(read_cache(tmp_path / f"x.{suffix}"), read_cache(tmp_path / "y.pc2"))
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == sidecar
    assert sidecar["footage"] == "take 1.mp4" and sidecar["actor"] == "Zoë" and len(sidecar["model_sha256"]) == 64


def test_cancelling_keeps_what_is_solved(files, tmp_path):
    class Stop(Reporter):
        def cancelled(self):
            return True

    with pytest.raises(Cancelled, match="4 of 11 frames"):
        solve(*files, tmp_path / "x.pc2", batch=4, device="cpu", engine="torch", report=Stop())
    assert len(read_cache(tmp_path / "x.pc2")) == 4
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["last"] == 3


@pytest.mark.parametrize(("first", "last"), [(5, 4), (-1, 3), (0, FRAMES), (FRAMES, None)])
def test_a_range_outside_the_footage_gets_a_sentence(files, tmp_path, first, last):
    with pytest.raises(UnderstudyError, match="frames are 0 to 10"):
        solve(*files, tmp_path / "x.pc2", first, last, device="cpu")
    assert not list(tmp_path.iterdir())


def test_a_crop_outside_the_picture_gets_a_sentence(files, tmp_path):
    with MovieWriter(tmp_path / "small.mp4", 200, 300, 30) as movie:
        movie.write(np.zeros((300, 200), np.uint8))
    with pytest.raises(UnderstudyError, match="outside the picture of 200 x 300"):
        solve(files[0], tmp_path / "small.mp4", tmp_path / "x.pc2", device="cpu")
    assert not (tmp_path / "x.pc2").exists()


def test_a_failure_on_the_way_leaves_an_older_solve_alone(files, tmp_path):
    class Break(Reporter):
        def progress(self, done, total, unit="frames", **more):
            raise RuntimeError("pulled the plug")

    solve(*files, tmp_path / "x.pc2", 0, 2, batch=4, device="cpu", engine="torch")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RuntimeError):
        solve(*files, tmp_path / "x.pc2", batch=4, device="cpu", engine="torch", report=Break())
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(("options", "says"), [
    ({"device": "warp:9"}, "warp:9"), ({"engine": "steam"}, "steam"), ({"batch": 0}, "batch of 0"),
    ({"device": "cuda:77"}, "cuda:77")])
def test_senseless_options_get_a_sentence(files, tmp_path, options, says):
    with pytest.raises(UnderstudyError, match=says):
        solve(*files, tmp_path / "x.pc2", **options)


def test_the_automatic_device_exists():
    assert torch.zeros(1, device=pick_device("auto")).item() == 0
