"""`blender -b scene.blend -c understudy ...`: what pipeline people run."""

import importlib.util
import json
from pathlib import Path

import bpy
import pytest

from understudy.blender_addon import cli
from understudy.core.errors import UsageError


def run(capsys, *arguments: str) -> tuple[int, list[dict]]:
    code = cli.main([*arguments, "--json"])
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]


def test_solve_by_name(scene, capsys):
    code, events = run(capsys, "solve", "--shot", "take one", "--save")
    assert code == 0 and events[-1]["type"] == "done" and events[-1]["shot"] == "take one"
    bpy.ops.wm.open_mainfile(filepath=bpy.data.filepath)
    assert bpy.context.scene.understudy.shot.solved


def test_from_nothing(folder, worker_python, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("UNDERSTUDY_PYTHON", str(worker_python))
    out = tmp_path / "new" / "out ö.blend"
    out.parent.mkdir()
    code, _ = run(capsys, "solve", "--actor", str(folder / "actor"), "--footage", str(folder / "take one.mp4"),
                  str(folder / "second.mp4"), "--save-as", str(out))
    assert code == 0
    assert sorted(path.name for path in (out.parent / "understudy").glob("*.pc2")) == [
        "second.v001.pc2", "take one.v001.pc2"]
    bpy.ops.wm.open_mainfile(filepath=str(out))
    assert [shot.solved for shot in bpy.context.scene.understudy.shots] == [True, True]


def test_all_takes_what_needs_it(scene, folder, capsys):
    bpy.ops.understudy.shot_add(filepath=str(folder / "second.mp4"))
    run(capsys, "solve", "--shot", "second")
    code, events = run(capsys, "solve", "--all")
    assert code == 0 and {event["shot"] for event in events} == {"take one"}
    code, events = run(capsys, "solve", "--all")
    assert code == 0 and events == []


def test_range_and_output(scene, capsys):
    code, _ = run(capsys, "solve", "--shot", "take one", "--range", "5", "9", "--output", "basis")
    shot = scene.understudy.shot
    assert code == 0 and (shot.solved_first, shot.solved_last, shot.output) == (5, 9, "BASIS")


def test_list(scene, capsys):
    code, events = run(capsys, "list")
    assert code == 0
    assert events[0]["name"] == "take one" and events[0]["solved"] is False and events[0]["frames"] == 40


def test_check(scene, folder, capsys):
    code, events = run(capsys, "check")
    assert code == 1 and [event["text"] for event in events] == ["It is not solved."]
    run(capsys, "solve", "--all")
    assert run(capsys, "check") == (0, [])
    Path(bpy.path.abspath(scene.understudy.shot.cache)).unlink()
    (folder / "take one.mp4").unlink()
    code, events = run(capsys, "check")
    assert code == 1 and len(events) == 2 and "missing" in events[0]["text"]


@pytest.mark.parametrize("arguments, said", [
    (["solve"], "Say which shots"),
    (["solve", "--shot", "nobody"], "no shot nobody"),
    (["list", "--scene", "nowhere"], "no scene nowhere"),
])
def test_wrong_arguments(scene, capsys, arguments, said):
    assert cli.main(arguments) == UsageError.exit_code == 2
    assert said in capsys.readouterr().err


def test_arguments_that_argparse_refuses(scene):
    with pytest.raises(SystemExit) as stop:
        cli.main(["solve", "--nonsense"])
    assert stop.value.code == 2


def test_a_shot_that_fails_does_not_stop_the_others(scene, folder, capsys):
    bpy.ops.understudy.shot_add(filepath=str(folder / "second.mp4"))
    (folder / "take one.mp4").unlink()
    code, events = run(capsys, "solve", "--all")
    ends = {event["shot"]: event["type"] for event in events if event["type"] in ("done", "failed")}
    assert code == 1 and ends == {"take one": "failed", "second": "done"}


def test_the_documented_script(folder, worker_python, monkeypatch):
    path = Path(__file__).parents[2] / "docs" / "solve_in_bpy.py"
    spec = importlib.util.spec_from_file_location("solve_in_bpy", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setenv("UNDERSTUDY_PYTHON", str(worker_python))
    script.solve(folder / "actor", folder / "take one.mp4", folder / "out.blend")
    bpy.ops.wm.open_mainfile(filepath=str(folder / "out.blend"))
    assert bpy.context.scene.understudy.shot.solved
