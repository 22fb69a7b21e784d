"""The command line: help, exit codes, sentences, --json. Long commands are tried in tests/worker/test_jobs.py."""

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import understudy
from understudy.__main__ import main
from understudy.core import terminal
from understudy.core.jobs import Job
from understudy.core.movie_writer import MovieWriter

COMMANDS = ("new", "add-shot", "check", "composition", "runs", "sample", "train", "solve", "evaluate", "compare",
            "errors", "sheet", "dailies", "report", "watch", "probe", "picture", "suggest-crop", "doctor", "warm",
            "serve", "reproduce", "next", "audit")
TEMPLATE = "v 0 0 0\nv 4 0 0\nv 4 4 1\nv 0 4 0\nf 1 2 3 4\n"


@pytest.fixture
def folder(tmp_path):
    """A folder with a space and a non-ASCII letter, a template and its animation."""
    folder = tmp_path / "Otto Müller"
    folder.mkdir()
    (folder / "template.obj").write_text(TEMPLATE)
    rest = np.array([[0, 0, 0], [4, 0, 0], [4, 4, 1], [0, 4, 0]], np.float32)
    np.save(folder / "moves.npy", rest + np.linspace(0, 0.5, 5, dtype=np.float32)[:, None, None])
    with MovieWriter(folder / "film é.mov", 64, 64, 24) as movie:
        for _ in range(7):
            movie.write(np.zeros((64, 64), np.uint8))
    (folder / "letter.mov").write_bytes(b"no movie")
    return folder


@pytest.fixture
def run(capfd, monkeypatch):
    """run(*arguments) -> exit code, standard output, standard error; standard input is no terminal."""
    monkeypatch.setattr(sys, "stdin", open("/dev/null"))  # noqa: SIM115

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def actor(folder, run):
    assert run("new", folder / "actor", "--template", folder / "template.obj", "--unit", "cm")[0] == 0
    return folder / "actor"


def test_help_lists_every_command_and_shows_the_way(run):
    code, out, err = run("--help")
    assert code == 0 and err == ""
    assert all(f"\n    {name}" in out for name in COMMANDS)
    assert "exit codes: 0 done, 1 failed, 2 wrong arguments, 3 cancelled" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_has_examples(run, name):
    code, out, _ = run(name, "--help")
    assert code == 0 and f"examples:\n  understudy {name} " in out


def test_examples_of_the_help_are_valid(run, monkeypatch):
    """What the help shows can be typed: every example parses."""
    from understudy.__main__ import parser

    texts = [run(*command, "--help")[1] for command in ([], *([name] for name in COMMANDS))]
    examples = [line.split("understudy ", 1)[1] for text in texts for line in text.splitlines()
                if line.startswith("  understudy ")]
    assert len(examples) > 15
    for example in examples:
        parser().parse_args(example.replace("'", "").split())


def test_common_options_may_stand_before_the_command(run, actor):
    code, out, _ = run("--json", "check", actor)
    assert code == 1 and json.loads(out)["type"] == "done"


def test_version(run):
    assert run("--version") == (0, f"understudy {understudy.__version__}\n", "")


@pytest.mark.parametrize("arguments", [
    [], ["fly"], ["train"], ["solve", "m", "f"], ["train", "x", "--epochs", "3", "--minutes", "2"],
    ["train", "x", "--epochs", "many"], ["solve", "m", "f", "--out", "x.pc2", "--range", "1"], ["check", "x", "--fast"],
], ids=" ".join)
def test_wrong_arguments(run, arguments):
    code, out, err = run(*arguments)
    assert code == 2 and out == "" and "usage: understudy" in err


def test_new_add_shot_check(run, folder, actor):
    code, out, err = run("add-shot", actor, "röm 1", "--footage", folder / "film é.mov", "--vertices",
                         folder / "moves.npy", "--role", "extreme", "--split", "train", "--first-frame", "2")
    assert (code, err) == (0, "") and "5 samples" in out
    assert json.loads((actor / "shots" / "röm 1" / "shot.json").read_text())["fps"] == 24  # the footage's own
    (folder / "film é.mov").write_bytes(b"no movie any more")
    code, out, err = run("check", actor)
    assert code == 1 and err == ""
    assert "film é.mov" in out and "No crop is set" in out  # all at once
    code, out, _ = run("check", actor, "--json")
    event = json.loads(out)
    assert code == 1 and event["type"] == "done" and event["errors"] >= 2
    assert {"error", "warning"} == {problem["severity"] for problem in event["problems"]}


def test_masks_and_regions(run, folder):
    (folder / "lips.txt").write_text("1 2")
    np.save(folder / "face.npy", [0, 1, 2])
    code, out, _ = run("new", folder / "a", "--template", folder / "template.obj", "--unit", "mm", "--json",
                       "--animated", folder / "face.npy", "--region", "lips", folder / "lips.txt",
                       "--crop", 0, 0, 240, 320)
    assert code == 0 and json.loads(out)["animated"] == 3
    saved = json.loads((folder / "a" / "actor.json").read_text())
    assert saved["masks"]["regions"] == {"lips": [1, 2]} and saved["crop"] == [0, 0, 240, 320]


def test_unit_is_asked_on_a_terminal_only(run, folder, monkeypatch):
    arguments = ("new", folder / "a", "--template", folder / "template.obj")
    code, _, err = run(*arguments)
    assert code == 2 and "--unit" in err and not (folder / "a").exists()
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: "inch")
    assert run(*arguments, "--json")[0] == 2  # a program is not asked
    assert run(*arguments)[0] == 0
    assert json.loads((folder / "a" / "actor.json").read_text())["unit"] == 0.0254


@pytest.mark.parametrize(("arguments", "says"), [
    (["check", "nowhere"], "nowhere is no actor folder"),
    (["new", "a", "--template", "missing.obj", "--unit", "cm"], "missing.obj"),
    (["new", "a", "--template", "template.obj", "--unit", "furlong"], "furlong"),
    (["add-shot", "actor", "a", "--footage", "none.mov", "--vertices", "moves.npy", "--role", "facs", "--split",
      "train"], "none.mov"),
    (["add-shot", "actor", "a", "--footage", "letter.mov", "--vertices", "moves.npy", "--role", "facs", "--split",
      "train"], "letter.mov"),
    (["add-shot", "actor", "a", "--footage", "film é.mov", "--vertices", "moves.npy", "--role", "ballet", "--split",
      "train"], "ballet"),
    (["train", "nowhere"], "nowhere is no actor folder"),
    (["watch", "nowhere"], "There is no job in nowhere"),
])
def test_mistakes_get_a_sentence(run, folder, actor, monkeypatch, arguments, says):
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    code, out, err = run(*arguments)
    assert code == 1
    said = err if arguments[0] != "check" else out  # check is asked for what is wrong
    assert says in said and "Traceback" not in err
    assert sorted(folder.rglob("*")) == before
    code, out, _ = run(*arguments, "--json")
    assert code == 1 and json.loads(out)["type"] in ("failed", "done")
    assert "Traceback" not in run(*arguments)[2]


def test_job_folder_that_cannot_be_written(run, folder):
    (folder / "x.job" / "log.txt").mkdir(parents=True)
    code, _, err = run("solve", "m", "f", "--out", folder / "x.pc2")
    assert code == 1 and "log.txt" in err and err.count("\n") == 1


def test_hostile_job_cannot_steer_the_terminal(run, tmp_path):
    hello = {"type": "hello", "time": 1.0, "command": "\x1b[2J", "pid": 1, "host": "\x07"}
    failed = {"type": "failed", "time": 1.0, "text": "a\nunderstudy: b\x1b]0;c"}
    (tmp_path / "events.jsonl").write_text(json.dumps(hello) + "\n" + json.dumps(failed) + "\n")
    (tmp_path / "log.txt").write_text("\x1b[31mred")
    code, out, err = run("watch", tmp_path)
    assert code == 1 and not {"\x1b", "\x07"} & set(out + err)


def test_debug_shows_where(run, folder):
    code, _, err = run("watch", folder, "--debug")
    assert code == 1 and "Traceback" in err and err.rstrip().endswith("events.jsonl.")


def test_bugs_are_no_tracebacks_either(run, monkeypatch):
    monkeypatch.setattr("understudy.core.check.check", lambda folder: 1 / 0)
    code, _, err = run("check", "x")
    assert code == 1 and "Traceback" not in err
    assert err.startswith("understudy: Unexpected ZeroDivisionError: division by zero.\n") and "--debug" in err


def test_resume_changes_nothing(run, actor):
    code, _, err = run("train", actor, "--resume", actor / "runs" / "a", "--batch", "10")
    assert code == 2 and "--resume" in err
    code, _, err = run("train", actor, "--resume", actor / "runs" / "a")
    assert code == 1 and "is no run" in err
    assert not (actor / "runs").exists()


def test_metrics_are_mirrored_to_tensorboard(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from understudy.commands.running import mirror

    with contextlib.ExitStack() as stack:
        show = mirror(tmp_path, stack)
        show({"type": "status", "time": 1.0, "text": "Training"})
        for images in (50, 100):
            show({"type": "metrics", "time": 1.0, "images": images, "train_loss": 1 / images, "shots": {"a": 1.0}})
    found = reader.EventAccumulator(str(tmp_path)).Reload()
    assert found.Tags()["scalars"] == ["train_loss"]
    assert [(one.step, round(one.value, 6)) for one in found.Scalars("train_loss")] == [(50, 0.02), (100, 0.01)]


def test_broken_model_fails_the_job(run, folder):
    (folder / "model.safetensors").write_bytes(b"nothing")
    code, out, err = run("solve", folder / "model.safetensors", folder / "film é.mov", "--out", folder / "täke.pc2")
    assert code == 1 and out == "" and err.count("understudy: ") == 1 and "model.safetensors" in err
    code, out, err = run("watch", folder / "täke.job")
    assert code == 1 and "failed" in out and "model.safetensors" in err
    code, out, _ = run("watch", folder / "täke.job", "--json")
    assert [json.loads(line)["type"] for line in out.splitlines()][-1] == "failed"
    assert not (folder / "täke.pc2").exists()


def test_watch_of_a_finished_job(run, tmp_path):
    with Job(tmp_path / "run", "train") as job:
        job.metrics(validation_rmse=1.234)
    code, out, err = run("watch", tmp_path / "run")
    assert (code, err) == (0, "") and "train" in out and "done" in out


def test_runs_as_a_file_from_a_folder_of_any_name(tmp_path):
    """As Blender runs it: isolated, from a folder of another name. Nothing needs to be installed to be told how."""
    source, root = Path(understudy.__file__).parent, tmp_path / "extensión 1"
    for folder in ("commands", "core", "training"):
        shutil.copytree(source / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "__main__.py"):
        shutil.copy(source / name, root / name)
    done = subprocess.run([sys.executable, "-I", "-S", root / "__main__.py", "--version"], capture_output=True,
                          text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"understudy {understudy.__version__}\n", "")


def test_light_commands_import_nothing_heavy():
    script = ("import sys; from understudy.__main__ import main; main(['--version']); main(['watch', 'nowhere']);"
              "print(sorted({'torch', 'cv2', 'av', 'numpy', 'tqdm', 'matplotlib'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


# ---- what a person sees


class Tty:
    """Collects what is written."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return False


def test_screen_tells_the_essentials(monkeypatch):
    out = Tty()
    screen = terminal.Screen(out)
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0] + 100)
    screen.show({"type": "hello"})
    screen.show({"type": "status", "text": "Training"})
    for done in range(5):
        screen.show({"type": "progress", "done": done, "total": 10, "unit": "frames", "rate": 48.04, "left": 200.4})
        now[0] += terminal.LINE_EVERY / 4
    screen.show({"type": "metrics", "epoch": 3, "validation_rmse": 1.2345})
    screen.show({"type": "warning", "text": "Few frames.\x1b[2J"})
    screen.show({"type": "artifact", "path": "model.safetensors", "kind": "model"})
    assert out.text.splitlines() == [
        "Training",
        "Training: 0 of 10 frames, 48 frames/s, 3 min 20 s left",
        "Training: 4 of 10 frames, 48 frames/s, 3 min 20 s left",
        "validation rmse 1.23 mm",
        "warning: Few frames.?[2J",
        "wrote model.safetensors",
    ]


@pytest.mark.parametrize(("seconds", "text"), [
    (-3, "0 s"), (0.4, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_duration(seconds, text):
    assert terminal.duration(seconds) == text
