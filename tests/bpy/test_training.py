"""Training from Blender, with a real trainer: begin, watch, stop, find again, use its model, compare, delete."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import bpy
import pytest

from understudy.blender_addon import cli, comparing, panels_training, preferences, pump, solving, training
from understudy.core import jobs, runs
from understudy.core.actor import Actor
from understudy.core.errors import UnderstudyError, UsageError

LONG = dict(length="PAPER", device="cpu", batch=4)


@pytest.fixture(scope="module")
def made(worker_python, tmp_path_factory):
    """An actor folder with cleaned shots of a few frames, and its footage."""
    folder = tmp_path_factory.mktemp("trainable") / "ö actor"
    subprocess.run([worker_python, Path(__file__).with_name("make_trainable.py"), folder], check=True)
    return folder


@pytest.fixture
def trained(made, worker_python, tmp_path, monkeypatch):
    """A saved scene with a copy of that actor and one of its shots."""
    monkeypatch.setenv("UNDERSTUDY_PYTHON", str(worker_python))
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))
    folder = shutil.copytree(made, tmp_path / "a b" / "actor")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a b" / "scene.blend"))
    assert bpy.ops.understudy.actor_open(filepath=str(folder)) == {"FINISHED"}
    yield bpy.context.scene
    for known in list(training._actors.values()):  # trainers outlive us
        for run in [run for run in known.values() if run.live]:
            jobs.cancel(run.folder)
            wait(lambda run=run: not run.live, "it stops")


def wait(predicate, what="", seconds: float = 240):
    until = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < until, f"waited in vain: {what}"
        training.look()
        time.sleep(0.05)


def the_run(scene):
    return training.runs_of(scene.understudy)[0]


def start(scene, **options):
    assert bpy.ops.understudy.train_start(**options) == {"FINISHED"}
    return the_run(scene)


def test_painted_weights_and_closed_gaps_count(trained):
    face = trained.understudy.template
    bpy.context.view_layer.objects.active = face
    face.vertex_groups.new(name="painted").add([0, 1, 2], 1.0, "REPLACE")
    face.vertex_groups.active_index = len(face.vertex_groups) - 1
    assert bpy.ops.understudy.actor_weights() == {"FINISHED"}
    run = start(trained, **LONG, gaps=True)
    wait(lambda: run.train or not run.live, "it trains")
    config = json.loads((run.folder / "config.json").read_text())["config"]
    assert run.live and config["painted"] and config["gaps"] > 0


def to_the_end(run):
    wait(lambda: not run.live, "the run ends")
    training.finish()
    return run


def test_a_run_makes_the_model_of_the_scene(trained):
    settings = trained.understudy
    assert settings.model_sha256 == ""
    run = start(trained, length="SMOKE", device="cpu", batch=8)
    assert run.live and training.live_run(settings) is run
    to_the_end(run)
    assert run.state == "done", run.text
    assert run.validation and run.final is not None and run.picture.is_file()
    assert run.errors["shots"].keys() == {"held out"}
    assert (run.about["shots"], run.about["frames"]) == (["talk"], 16)
    assert settings.model_sha256 and settings.model == "//actor/model.safetensors"


def test_two_at_once_are_refused_with_the_reason(trained):
    run = start(trained, **LONG)
    with pytest.raises(RuntimeError, match="two at once"):
        bpy.ops.understudy.train_start(**LONG)
    assert len(training.runs_of(trained.understudy)) == 1
    bpy.ops.understudy.train_stop()
    to_the_end(run)


def test_paused_found_again_by_another_session_and_resumed(trained):
    run = start(trained, length="PAPER", device="cpu", batch=4)
    wait(lambda: run.train, "it learns")
    assert run.fraction > 0
    bpy.ops.wm.save_mainfile()
    bpy.ops.wm.read_homefile(use_empty=True)  # another file: nothing happens to the run
    training.look()
    assert run.live
    bpy.ops.wm.open_mainfile(filepath=bpy.data.filepath or str(run.folder.parents[2] / "scene.blend"))
    training._actors.clear()  # as if Blender had been closed
    settings = bpy.context.scene.understudy
    found = training.refresh(settings)[0]
    assert found is not run and found.name == run.name and found.live
    assert found.train[:1] == run.train[:1] and found.watcher.state.pid == run.watcher.state.pid
    assert bpy.ops.understudy.train_stop(then="PAUSE") == {"FINISHED"}
    run.watcher.process.wait()
    wait(lambda: not found.live, "it stops")
    assert found.state == "stopped" and found.resumable and (found.folder / "checkpoint.safetensors").is_file()
    images = found.train[-1][0]
    assert settings.model_sha256 == "", "a pause puts no model in use"
    assert bpy.ops.understudy.run_resume(run=found.name) == {"FINISHED"}
    wait(lambda: found.train and found.train[-1][0] > images, "it goes on")
    assert found.train[0] == run.train[0], "the curve keeps its beginning"
    assert bpy.ops.understudy.train_stop(then="DELETE") == {"FINISHED"}
    assert not found.folder.exists() and training.runs_of(settings) == []


BLENDER = """
import importlib.util, os, sys
root, actor = sys.argv[1:]
spec = importlib.util.spec_from_file_location("understudy", root + "/__init__.py", submodule_search_locations=[root])
sys.modules["understudy"] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
import bpy
package.register()
bpy.ops.understudy.actor_open(filepath=actor)
assert bpy.ops.understudy.train_start(length="PAPER", device="cpu", batch=4) == {"FINISHED"}
os._exit(0)
"""


def test_goes_on_when_blender_ends(trained):
    root, actor = Path(training.__file__).parents[1], training.folder_of(trained.understudy)
    subprocess.run([sys.executable, "-c", BLENDER, str(root), str(actor)], check=True)
    wait(lambda: training.live_run(trained.understudy), "the run of the other Blender is found")
    run = the_run(trained)
    wait(lambda: run.train, "it learns")
    assert run.live and run.watcher.state.pid != os.getpid()
    assert not bpy.ops.understudy.train_start.poll(), "it is seen that it trains"
    assert bpy.ops.understudy.train_stop(then="DELETE") == {"FINISHED"}
    assert not run.folder.exists()


def test_stop_and_use(trained):
    run = start(trained, **LONG)
    wait(lambda: run.validation, "a first model")
    assert bpy.ops.understudy.train_stop(then="USE") == {"FINISHED"}
    assert run.state == "stopped" and trained.understudy.model_sha256
    actor = run.folder.parent.parent
    assert (actor / "model.safetensors").read_bytes() == run.model.read_bytes()


def test_use_solve_stale_extend_compare_delete(trained, tmp_path):
    """The whole story: a solve is stale when another run's model comes into use, and is solved again in one click."""
    settings = trained.understudy
    first = to_the_end(start(trained, length="SMOKE", device="cpu", batch=8))
    bpy.ops.understudy.shot_add(filepath=str(first.folder.parents[1] / "held out.mp4"))
    shot = settings.shot
    bpy.ops.understudy.solve_all()
    assert shot.solved and solving.stale(settings, shot) == ""
    assert bpy.ops.understudy.run_extend(run=first.name, minutes=0.02) == {"FINISHED"}
    second = to_the_end(the_run(trained))
    assert second is not first and second.state == "done", second.text
    assert solving.stale(settings, shot) == "solved by another model"
    assert bpy.ops.understudy.solve_all() == {"FINISHED"}
    assert solving.stale(settings, shot) == ""
    assert bpy.ops.understudy.run_use(run=first.name) == {"FINISHED"}
    assert solving.stale(settings, shot) == "solved by another model"
    cache, objects = shot.cache, set(bpy.data.objects)
    assert bpy.ops.understudy.compare(run_a=first.name, run_b=second.name) == {"FINISHED"}
    made = comparing.object_of()
    shown = []
    for _ in range(3):
        shown.append((Path(bpy.path.abspath(made.modifiers[0].filepath)).stem, made.hide_viewport,
                      shot.face.hide_viewport))
        bpy.ops.understudy.compare_toggle()
    assert shown == [("A", False, True), ("B", False, True), ("B", True, False)]
    caches = [Path(bpy.path.abspath(made.modifiers[0].filepath)).with_stem(side) for side in "AB"]
    assert caches[0].read_bytes() != caches[1].read_bytes()
    bpy.ops.understudy.compare_clear()
    assert set(bpy.data.objects) == objects and not caches[0].exists()
    assert shot.cache == cache and not shot.face.hide_viewport
    model = settings.model_sha256
    assert bpy.ops.understudy.run_delete(run=first.name) == {"FINISHED"}
    assert [run.name for run in training.runs_of(settings)] == [second.name] and not first.folder.exists()
    assert settings.model_sha256 == model and Path(bpy.path.abspath(settings.model)).is_file()
    with pytest.raises(RuntimeError, match="no run nobody"):
        bpy.ops.understudy.run_use(run="nobody")


def test_memory_is_checked_first(trained, monkeypatch):
    monkeypatch.setattr(training, "machine_memory", lambda: (8 << 30, 1900 << 20))
    with pytest.raises(RuntimeError, match=r"about 2.0 GB of memory, but only 1.9 GB are free.*the batch to 8"):
        monkeypatch.setattr(runs, "PER_FRAME", 60 << 20)
        bpy.ops.understudy.train_start(**{**LONG, "batch": 16})
    assert training.runs_of(trained.understudy) == []


def test_memory_says_which_batch_fits(made):
    actor = Actor.load(made)
    with pytest.raises(UnderstudyError, match="set the batch to 8"):
        training.check_memory(actor, 16, runs.memory_needed(actor, 8))


@pytest.mark.parametrize("break_it, said", [
    (lambda actor: (actor / "shots" / "talk" / "shot.json").unlink(), "no cleaned training shot"),
    (lambda actor: (actor / "actor.json").write_text("{"), "actor.json"),
])
def test_what_cannot_be_trained(trained, break_it, said):
    break_it(training.folder_of(trained.understudy))
    with pytest.raises(RuntimeError, match=said):
        bpy.ops.understudy.train_start(**LONG)


def test_from_a_model_that_is_not_there(trained):
    with pytest.raises(RuntimeError, match="from scratch"):
        bpy.ops.understudy.train_start(**LONG, begin="PRESENT")


def test_missing_footage_is_how_the_run_fails(trained):
    actor = training.folder_of(trained.understudy)
    for name in ("talk", "held out"):
        (actor / f"{name}.mp4").unlink()
    run = to_the_end(start(trained, **LONG))
    assert run.state == "failed" and "talk.mp4" in run.text and "held out.mp4" in run.text


def test_killed(trained):
    run = start(trained, **LONG)
    wait(lambda: (run.folder / "start.safetensors").is_file(), "it learns")
    run.watcher.process.kill()
    wait(lambda: not run.live, "its death is noticed")
    assert run.state == "crashed" and run.resumable


def test_a_model_file_alone_cannot_be_trained(folder, worker_python):
    bpy.ops.understudy.actor_open(filepath=str(folder / "actor" / "model.safetensors"))
    assert not bpy.ops.understudy.train_start.poll()
    assert training.runs_of(bpy.context.scene.understudy) == []


def test_the_list_keeps_the_active_run(trained):
    panel = bpy.context.window_manager.understudy_training
    panel.list_runs(["b", "a"])
    panel.active = 1
    panel.list_runs(["b", "a", "old"])
    assert panel.chosen == "a"
    panel.list_runs(["c", "b", "a", "old"])
    assert panel.chosen == "c", "a run that begins is what is looked at"
    panel.list_runs([])
    assert panel.chosen == ""


def run_command(capfd, *arguments):
    code = cli.main([*arguments, "--json"])
    pump.finish()
    return code, [json.loads(line) for line in capfd.readouterr().out.splitlines() if line.startswith("{")]


def test_commands(trained, capfd):
    actor = str(training.folder_of(trained.understudy))
    code, events = run_command(capfd, "train", "--actor", actor, "--preset", "smoke", "--device", "cpu", "--batch", "8",
                               "--wait")
    assert code == 0 and events[0]["type"] == "run" and events[-1]["type"] == "done"
    code, listed = run_command(capfd, "runs")
    assert code == 0 and [(run["run"], run["state"]) for run in listed] == [(events[0]["run"], "done")]
    assert listed[0]["rmse_mm"] > 0 and listed[0]["shots"] == ["talk"]
    assert cli.main(["runs"]) == 0
    assert "1 shots with 16 frames" in capfd.readouterr().out


def test_command_without_waiting(trained, capfd):
    code, events = run_command(capfd, "train", "--preset", "paper", "--device", "cpu", "--batch", "4")
    assert code == 0 and len(events) == 1
    assert the_run(trained).live


@pytest.mark.parametrize("arguments", [["train", "--resume", "nobody"], ["train", "--resume", "a", "--from-present"]])
def test_wrong_arguments(trained, arguments):
    assert cli.main(arguments) == UsageError.exit_code


def test_commands_need_an_actor_folder(registered):
    assert cli.main(["runs"]) == cli.main(["train"]) == UsageError.exit_code


def test_icons_are_there_in_every_version():
    """Nothing is drawn without a window, and a panel with an unknown icon would stop in the middle."""
    known = bpy.types.UILayout.bl_rna.functions["label"].parameters["icon"].enum_items.keys()
    source = Path(panels_training.__file__).read_text(encoding="utf-8")
    used = set(re.findall(r'icon="(\w+)"', source)) | set(panels_training.STATES.values())
    assert len(used) > 10 and used <= {*known}


def test_the_trainer_keeps_to_the_gpu_memory_of_the_preferences(trained, monkeypatch):
    def begin(arguments, *_):
        raise UnderstudyError(" ".join(arguments))

    monkeypatch.setattr(preferences.preferences(), "memory_limit", 6.0)
    monkeypatch.setattr(jobs, "start", begin)
    with pytest.raises(RuntimeError, match="train .* --gpu-memory 6.0 "):
        bpy.ops.understudy.train_start(**LONG)
