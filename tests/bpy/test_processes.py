"""Real processes that end when they should not: workers that are killed, Blenders that quit, two of them at once."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import bpy
import pytest

from understudy.blender_addon import pump, runtime, solving
from understudy.core.events import process_lives
from understudy.core.solved import read_solved

PATIENCE = 120  # s until a test gives up
ROOT = Path(__file__).resolve().parents[2]
BLENDER = '''
import importlib.util, sys, time
from pathlib import Path
root = Path(sys.argv[1])
spec = importlib.util.spec_from_file_location("understudy", root, submodule_search_locations=[str(root.parent)])
sys.modules["understudy"] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
package.register()
import bpy
from understudy.blender_addon import pump, solving
bpy.ops.wm.open_mainfile(filepath=sys.argv[2])
scene = bpy.context.scene
run = solving.solve(scene, scene.understudy.shot)
while pump.busy():
    pump.tick()
    service = pump._services.get("solver")
    if sys.argv[3] == "told":
        print("told", run.state, service.process.pid if service and service.process else 0, flush=True)
    if sys.argv[3] == "quit" and run.done:
        print("pid", service.process.pid, flush=True)
        package.unregister()
        sys.exit()
    time.sleep(0.02)
print(run.state, run.text, scene.understudy.shot.cache, flush=True)
'''


def wait(condition) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def half_files(folder: Path) -> list[str]:
    """What is no whole solve in a cache folder, apart from the folders of jobs."""
    files = [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    whole = {path for path in files if path.suffix == ".pc2" and path.with_suffix(".json").is_file()}
    for path in whole:
        read_solved(path).vertices()
        read_solved(path).codes()
    return [path.name for path in files if path.with_suffix(".pc2") not in whole]


@pytest.fixture
def patched(worker_python, tmp_path, monkeypatch):
    """patched(code): workers run this first, in a Python that has torch."""
    def patch(code: str) -> None:
        (tmp_path / "patched.py").write_text(f"import runpy, sys, time, torch\n{code}\nsys.argv = sys.argv[1:]\n"
                                             "runpy.run_path(sys.argv[0], run_name='__main__')\n")
        wrapper = tmp_path / "python"  # it is called as: python -I -u -X utf8 __main__.py serve ...
        wrapper.write_text(f'#!/bin/sh\nshift 4\nexec "{worker_python}" -I -u "{tmp_path / "patched.py"}" "$@"\n')
        wrapper.chmod(0o755)
        monkeypatch.setenv("UNDERSTUDY_PYTHON", str(wrapper))

    return patch


@pytest.fixture
def slow(patched):
    """Workers take their time for each batch."""
    patched("square = torch.Tensor.square\n"
            "torch.Tensor.square = lambda tensor: (time.sleep(0.5), square(tensor))[1]")


@pytest.fixture
def blender(scene, slow, folder, tmp_path):
    """blender(what it does): another Blender that solves the shot of the same file."""
    bpy.ops.wm.save_mainfile()
    script = tmp_path / "blender.py"
    script.write_text(BLENDER)
    started = []

    def start(what: str) -> subprocess.Popen:
        started.append(subprocess.Popen([sys.executable, script, ROOT / "__init__.py", folder / "scene.blend", what],
                                        stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def told(process: subprocess.Popen, reached) -> int:
    """Listen to another Blender until it has come that far; the number of its worker's process."""
    pid = 0
    for line in process.stdout:
        if line.startswith("told "):
            state, pid = line.split()[1:]
            if reached(state):
                break
    return int(pid)


# ---- the worker


@pytest.mark.parametrize("stage", ["probing", "loading", "solving"])
def test_worker_killed(scene, folder, slow, stage):
    shot = scene.understudy.shot
    shot.stamp = ""
    run = solving.solve(scene, shot)
    cache = folder / "understudy" / "take one.v001.pc2"
    reached = {"probing": lambda: run.text == "Reading the footage", "loading": lambda: run.text.startswith("Loading"),
               "solving": cache.exists}[stage]
    while not reached() and pump.busy():
        pump.tick()
    process = pump.service("asker" if stage == "probing" else "solver").process
    process.kill()
    pump.finish()
    if run.state == "done" and stage == "probing":
        return  # the process had not even read the question: it was asked again
    assert run.state == "failed" and "without a last word" in run.text, run.text
    assert half_files(folder / "understudy") == []
    assert shot.face is None or not shot.face.modifiers
    assert bpy.ops.understudy.solve() == {"FINISHED"}
    assert not list((folder / "understudy").glob("*.job")), "the log of the one that failed is of no use any more"


def test_memory_of_the_gpu_does_not_suffice(scene, folder, patched):
    patched("def full(*_, **__): raise torch.OutOfMemoryError('CUDA out of memory.')\ntorch.nn.Module.to = full")
    run = solving.solve(scene, scene.understudy.shot)
    pump.finish()
    assert run.state == "failed" and "does not suffice" in run.text and "device cpu" in run.text, run.text
    assert half_files(folder / "understudy") == []


# ---- Blender


def test_blender_killed(blender, folder):
    process = blender("told")
    pid = told(process, lambda state: state == "solving")
    process.kill()
    wait(lambda: not process_lives(pid))
    assert half_files(folder / "understudy") == []


def test_blender_quits(blender, folder):
    output = blender("quit").communicate(timeout=PATIENCE)[0]
    if not output.startswith("pid"):
        pytest.skip("the worker was faster")
    wait(lambda: not process_lives(int(output.split()[1])))
    assert half_files(folder / "understudy") == []


def test_both_killed_and_what_they_left(scene, blender, folder):
    process = blender("told")
    pid = told(process, lambda state: (folder / "understudy" / "take one.v001.pc2").exists())
    process.kill()  # first, for it would clear up
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait(lambda: not process_lives(pid))
    if not half_files(folder / "understudy"):
        pytest.skip("the worker was faster")
    assert bpy.ops.understudy.solve() == {"FINISHED"}
    assert half_files(folder / "understudy") == [] and not list((folder / "understudy").glob("*.job"))


def test_two_blenders_at_once(blender, folder):
    one, other = blender("solve"), blender("solve")
    said = sorted(process.communicate(timeout=PATIENCE)[0].splitlines()[-1] for process in (one, other))
    assert all(line.startswith("done ") for line in said), said
    assert {line.split("//")[1] for line in said} == {"understudy/take one.v001.pc2", "understudy/take one.v002.pc2"}
    assert half_files(folder / "understudy") == []


def test_closing_leaves_no_process(scene):
    run = solving.solve(scene, scene.understudy.shot)
    while run.state in ("queued", "starting"):
        pump.tick()
    processes = [service.process for service in pump._services.values() if service.process]
    pump.stop()
    assert not pump.busy() and not runtime.runs
    wait(lambda: all(process.poll() is not None for process in processes))
