"""A trainer that is killed, or whose folder is copied, moved or full: nothing half-written, and all can be resumed."""

import contextlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from understudy.__main__ import main
from understudy.core.model import load_model
from understudy.core.runs import Run

KILLS = 10
SHORT = {"epochs": 3.0, "batch": 8, "checkpoint_seconds": 0.0, "validation_frames": 4,
         "architecture": "convolutional-narrow"}  # whose checkpoints are soon written
posix = pytest.mark.skipif(os.name == "nt", reason="limits and links as POSIX has them")


@pytest.fixture(scope="module")
def forks():
    """Processes that have torch already, so that a kill costs no start; where none can be forked, new ones."""
    known = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in known else "spawn")
    context.set_forkserver_preload(["understudy.__main__", "understudy.training.loop", "understudy.core.terminal"])
    return context


@pytest.fixture(scope="module")
def short(original, tmp_path_factory):
    """A function that makes an actor with a short run, begun and killed at once: an actor folder and the run in it."""
    def begin(name: str):
        actor = shutil.copytree(original, tmp_path_factory.mktemp(name) / "actor")
        run = actor / "runs" / "run"
        run.mkdir(parents=True)
        from understudy.core.actor import Actor
        from understudy.training.config import Config

        (run / "config.json").write_text(json.dumps({
            "config": {**Config.preset("smoke").to_json(), **SHORT}, "topology": Actor.load(actor).template.hash}))
        return actor, run

    return begin


@pytest.fixture(scope="module")
def whole(short):
    """A run that nothing happened to."""
    actor, run = short("whole")
    assert main(arguments(actor, run)) == 0
    return run


def arguments(actor, run) -> list[str]:
    return ["train", str(actor), "--resume", str(run), "--device", "cpu"]


def same(run, whole) -> bool:
    found, want = (load_file(folder / "checkpoint.safetensors") for folder in (run, whole))
    return found.keys() == want.keys() and all(torch.equal(found[name], want[name]) for name in want)


def check_whole(run) -> None:
    """Whatever is there can be read."""
    for path in run.glob("[!.]*.safetensors"):
        load_file(path) if path.name == "checkpoint.safetensors" else load_model(path)
    json.loads((run / "config.json").read_text())
    Run(run).catch_up()


def test_killed_at_ten_random_moments_ends_like_a_run_that_was_not(short, forks, whole):
    actor, run = short("killed")
    random = np.random.default_rng(5)
    for _ in range(KILLS):
        child = forks.Process(target=main, args=(arguments(actor, run),))
        child.start()
        child.join(random.uniform(0, 2.5))
        child.kill()
        child.join()
        check_whole(run)
    (run / ".checkpoint.0123abcd.safetensors").write_bytes(b"half of it")
    assert main(arguments(actor, run)) == 0
    assert same(run, whole)
    assert not list(run.glob(".*")), "what was half-written is gone"


def take_copy(run, copy):
    """The run's folder as it is at this moment, its last line torn."""
    copy.mkdir()
    for path in run.iterdir():
        with contextlib.suppress(FileNotFoundError):  # replaced just now
            if path.name == "events.jsonl":
                (copy / path.name).write_bytes(path.read_bytes()[:-3])
            elif path.is_file():
                os.link(path, copy / path.name)
    return copy


@posix
def test_a_copy_of_the_folder_at_any_moment_can_be_resumed(short, forks, whole, tmp_path):
    """As a power cut would leave it. Files are replaced, never changed, so links hold what they were; but one."""
    actor, run = short("copied")
    child = forks.Process(target=main, args=(arguments(actor, run),))
    child.start()
    copies, seen = [], set()
    while child.is_alive():
        now = {(entry.name, entry.inode()) for entry in os.scandir(run)}
        if not now <= seen:  # another moment
            seen |= now
            copies.append(take_copy(run, tmp_path / f"{len(copies)}"))
        time.sleep(0.02)
    child.join()
    begun = [copy for copy in copies if (copy / "checkpoint.safetensors").exists()]
    assert len(begun) > 1
    for copy in copies:
        check_whole(copy)
    for copy in (copies[0], begun[len(begun) // 2]):
        assert main(arguments(actor, copy)) == 0
        assert same(copy, whole)


CHILD = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))
from understudy.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@posix
def test_a_full_disk_gets_a_sentence_and_the_run_goes_on_when_there_is_room(short, whole):
    actor, run = short("full")
    room = 3 * (whole / "start.safetensors").stat().st_size // 2  # for a model, but not for a checkpoint
    result = subprocess.run([sys.executable, "-c", CHILD.format(room), *arguments(actor, run)],
                            capture_output=True, text=True)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "Cannot write" in result.stderr and "checkpoint.safetensors: File too large" in result.stderr
    state = Run(run)
    state.catch_up()
    assert state.state == "failed" and state.resumable and "has space" in state.text
    assert not list(run.glob(".*")) and not (run / "checkpoint.safetensors").exists()
    assert main(arguments(actor, run)) == 0
    assert same(run, whole)


@posix
def test_a_folder_that_is_moved_meanwhile_is_not_made_anew(short, forks, whole):
    actor, run = short("moved")
    child = subprocess.Popen([sys.executable, "-m", "understudy", *arguments(actor, run)], stderr=subprocess.PIPE,
                             text=True)
    while not (run / "checkpoint.safetensors").exists():
        assert child.poll() is None
        time.sleep(0.02)
    moved = actor.rename(actor.with_name("elsewhere"))
    said = child.communicate()[1]
    assert child.returncode == 1 and "Cannot write" in said and "Check that the folder exists" in said
    assert not actor.exists()
    state = Run(moved / "runs" / "run")
    state.catch_up()
    assert state.state == "failed" and state.resumable
    assert main(arguments(moved, moved / "runs" / "run")) == 0
    assert same(moved / "runs" / "run", whole)
