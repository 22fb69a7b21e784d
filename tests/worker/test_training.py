"""A trainer that is killed, at any moment, loses nothing that resuming does not bring back."""

import shutil
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

CHILD = """
import dataclasses, sys
from understudy.core.process import prepare
prepare()
from understudy.training.config import Config
from understudy.training.loop import train
actor, run, resume = sys.argv[1:]
config = dataclasses.replace(Config.preset("smoke"), epochs=3, batch=8, checkpoint_seconds=0)
train(actor, config, run=run, resume=run if resume == "yes" else None, device="cpu")
"""


def start(actor, run, resume: bool) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", CHILD, str(actor), str(run), "yes" if resume else "no"])


def wait_for(path, child, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not path.exists():
        assert child.poll() is None and time.monotonic() < until, f"{path} never came"
        time.sleep(0.02)


@pytest.mark.parametrize("moment", ["config.json", "start.safetensors", "checkpoint.safetensors", "model.safetensors"])
def test_killed_and_resumed_ends_like_a_run_that_was_not(actor, whole_run, tmp_path, moment):
    run = tmp_path / "run"
    child = start(actor, run, resume=False)
    wait_for(run / moment, child)
    child.kill()
    child.wait()
    for path in run.glob("*.safetensors"):
        load_file(path)  # whatever is there is whole
    assert start(actor, run, resume=True).wait() == 0
    for name in ("checkpoint.safetensors", "model.safetensors"):
        want, got = load_file(whole_run / name), load_file(run / name)
        assert want.keys() == got.keys()
        assert all(torch.equal(want[key], got[key]) for key in want)


@pytest.fixture(scope="module")
def whole_run(original, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    shutil.copytree(original, folder / "actor")
    assert start(folder / "actor", folder / "run", resume=False).wait() == 0
    return folder / "run"
