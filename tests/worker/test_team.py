"""Several processes train one network: the result is that of one process, and the death of one loses nothing."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

STEPS = ["--epochs", "1", "--batch", "5"]  # of 16 frames: parts of 2 and 3, at last of 0 and 1
TOLERANCE = 0.02  # of how far the weights went, in float32; Adam makes much of rounding where gradients are small
CHILD = """
import sys
from understudy.__main__ import main
from understudy.training import state
state.reduced_precision = lambda device: False
sys.exit(main(sys.argv[1:]))
"""


def start(actor, run, *arguments, size=2) -> list[subprocess.Popen]:
    """The processes that torchrun would start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", CHILD, "train", str(actor), "--device", "cpu", *arguments]
    command += [] if "--resume" in arguments else ["--run", str(run)]
    common = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    return [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             env=common | {"RANK": str(i), "LOCAL_RANK": str(i), "WORLD_SIZE": str(size)})
            for i in range(size)]


def network(path) -> torch.Tensor:
    tensors = load_file(path)
    return torch.cat([value.flatten() for name, value in sorted(tensors.items()) if name.startswith("network.")])


def last_event(run) -> dict:
    return json.loads((run / "events.jsonl").read_text().splitlines()[-1])


@pytest.fixture
def alone(actor, tmp_path):
    run = tmp_path / "alone"
    (process,) = start(actor, run, *STEPS, size=1)
    assert process.wait(120) == 0, process.stdout.read()
    return run


def test_two_processes_end_like_one(actor, alone, tmp_path):
    run = tmp_path / "team"
    for process in start(actor, run, *STEPS):
        assert process.wait(120) == 0, process.stdout.read()
    assert last_event(run)["type"] == "done"
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert [event["type"] for event in events].count("hello") == 1  # only the first one writes
    first = load_file(alone / "start.safetensors")
    begun = torch.cat([first[name.removeprefix("network.")].flatten()
                       for name in sorted(load_file(alone / "checkpoint.safetensors")) if name.startswith("network.")])
    one, two = network(alone / "checkpoint.safetensors"), network(run / "checkpoint.safetensors")
    assert (two - one).norm() < TOLERANCE * (one - begun).norm()


def test_when_one_dies_the_other_saves_and_any_number_resumes(actor, tmp_path):
    run = tmp_path / "team"
    leader, helper = start(actor, run, "--minutes", "5", "--batch", "8")
    until = time.monotonic() + 120
    while not (run / "events.jsonl").exists() or '"epoch"' not in (run / "events.jsonl").read_text():
        assert leader.poll() is None and time.monotonic() < until, leader.stdout.read()
        time.sleep(0.1)
    assert not (run / "checkpoint.safetensors").exists()
    helper.kill()
    assert leader.wait(60) == 1
    assert last_event(run)["type"] == "failed"
    assert "Another process of this training has ended" in last_event(run)["text"]
    config = json.loads((run / "config.json").read_text())
    config["config"] |= {"minutes": None, "epochs": 1.0}  # that it ends soon
    (run / "config.json").write_text(json.dumps(config))
    (process,) = start(actor, run, "--resume", str(run), size=1)
    assert process.wait(120) == 0, process.stdout.read()
    for process in start(actor, run, "--resume", str(run)):
        assert process.wait(120) == 0, process.stdout.read()
    assert last_event(run)["type"] == "done"
