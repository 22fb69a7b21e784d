"""The runs of an actor folder, as their files tell: also when those were killed, resumed, or made by nobody of ours."""

import json
import os
import socket
import time

import numpy as np
import pytest

from understudy.__main__ import main
from understudy.core import plot, runs
from understudy.core.actor import Actor
from understudy.core.runs import Run, list_runs, small_picture_of


def write(folder, *events, beat: float = 0.0, config: str | None = None):
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "events.jsonl", "a") as file:
        for i, event in enumerate(events):
            file.write(json.dumps({"time": 1000.0 + i, **event}) + "\n")
    (folder / "heartbeat").touch()
    os.utime(folder / "heartbeat", (beat, beat))
    if config is not None:
        (folder / "config.json").write_text(config)
    return folder


HELLO = {"type": "hello", "command": "train", "pid": 2 ** 22 + 5, "host": socket.gethostname()}
CONFIG = json.dumps({"config": {"epochs": 15.0, "minutes": 4.0, "batch": 16, "junk": "text"}})


def metrics(images, **more):
    return {"type": "metrics", "images": images, "seconds": images / 50, **more}


DONE = (HELLO, metrics(100, train_rmse=4.0), metrics(100, validation_rmse=3.0, shots={"talk": 2.0, "facs": 3.5}),
        metrics(200, train_rmse=2.0), metrics(200, validation_rmse=2.5, shots={"talk": 1.5, "facs": 3.0}),
        metrics(200, final=True, validation_rmse=2.6, shots={"talk": 1.6, "facs": 3.1}, roles={"pangram": 1.6}),
        {"type": "done"})


def test_a_run_that_is_done(tmp_path):
    write(tmp_path / "runs" / "a", *DONE, config=CONFIG)
    run, = list_runs(tmp_path)
    assert (run.name, run.state, run.live, run.length, run.resumable) == ("a", "done", False, "4 min", False)
    assert run.train == [(100, 4.0), (200, 2.0)] and run.validation == [(100, 3.0), (200, 2.5)]
    assert run.best == run.final == 2.6 and run.model is None
    assert run.errors == {"shots": {"talk": 1.6, "facs": 3.1}, "roles": {"pangram": 1.6}}
    assert runs.describe_errors(run, "shots") == [("facs", 3.1), ("talk", 1.6)]
    assert (run.seconds, run.started, run.ended) == (4.0, 1000.0, 1006.0)
    assert "junk" not in run.config and json.loads(json.dumps(run.facts()))["rmse_mm"] == 2.6


def test_resumed_from_an_older_checkpoint(tmp_path):
    folder = write(tmp_path / "a", HELLO, *(metrics(100 * i, train_rmse=10.0 - i) for i in range(1, 6)), config=CONFIG)
    run = Run(folder)
    run.catch_up()
    assert (run.state, run.resumable) == ("crashed", True)
    write(folder, {**HELLO, "pid": os.getpid()}, metrics(300, train_rmse=1.0), beat=time.time())
    run.catch_up()
    assert run.train == [(100, 9.0), (200, 8.0), (300, 1.0)] and run.live and not run.resumable


def test_begun_again_after_the_end(tmp_path):
    """The error of the model that was kept is no longer the last word once the run goes on."""
    folder = write(tmp_path / "a", *DONE)
    write(folder, HELLO, metrics(300, validation_rmse=2.0))
    run = Run(folder)
    run.catch_up()
    assert run.final is None and run.best == 2.0


def test_progress(tmp_path):
    run = Run(write(tmp_path / "a", {**HELLO, "pid": os.getpid()}, beat=time.time()))
    progress = {"type": "progress", "done": 25, "total": 100, "unit": "frames", "left": 30.0}
    write(run.folder, {**progress, "unit": "pictures"}, beat=time.time())
    run.catch_up()
    assert (run.fraction, run.left) == (0.0, None), "pictures that are read are no training"
    write(run.folder, metrics(25, train_rmse=1.0), progress, beat=time.time())
    run.catch_up()
    assert (run.fraction, run.left) == (0.25, 30.0)


def test_two_at_once_are_refused(tmp_path):
    live = Run(write(tmp_path / "live", {**HELLO, "pid": os.getpid()}, beat=time.time()))
    done = Run(write(tmp_path / "done", *DONE))
    for run in (live, done):
        run.catch_up()
    assert runs.why_not_now([done]) == ""
    assert "live" in runs.why_not_now([done, live])


def test_a_run_that_ended_before_its_first_word_stands_in_nobodys_way(tmp_path):
    """As a power cut leaves it: the file is there, and empty."""
    run = Run(write(tmp_path / "a", beat=time.time()))
    run.catch_up()
    assert run.state == "starting" and run.live
    run = Run(write(tmp_path / "a", beat=time.time() - 200))
    run.catch_up()
    assert run.state == "crashed" and "before it began" in run.text and runs.why_not_now([run]) == ""


@pytest.mark.parametrize("host, silent, refused", [(HELLO["host"], 0, True), ("farm", 5, True), ("farm", 200, False)])
def test_the_command_refuses_a_second_run(actor, monkeypatch, capsys, host, silent, refused):
    begun = []
    monkeypatch.setattr("understudy.commands.training.run_job", lambda *arguments, **options: begun.append(arguments))
    write(actor / "runs" / "first", {**HELLO, "pid": os.getpid(), "host": host}, beat=time.time() - silent)
    assert main(["train", str(actor), "--epochs", "1"]) == (1 if refused else 0)
    assert len(begun) == (0 if refused else 1)
    if refused:
        said = capsys.readouterr().err
        assert f"The run first is training this actor on {host}" in said and "--cancel" in said
        assert [path.name for path in (actor / "runs").iterdir()] == ["first"]


@pytest.mark.parametrize("pixels", [
    np.zeros((5000, 4, 3), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8),
    np.array([[[None] * 3]]), b"", b"rubbish", b"\x93NUMPY\x01\x00"])
def test_a_small_picture_that_is_none(tmp_path, pixels):
    path = small_picture_of(tmp_path)
    path.parent.mkdir()
    if isinstance(pixels, bytes):
        path.write_bytes(pixels)
    else:
        np.save(path, pixels, allow_pickle=True)
    assert Run(tmp_path).small_picture() is None


@pytest.mark.parametrize("rubbish", [
    b"", b"\0" * 5000, b"{", b'{"type": "metrics", "time": 1}\n' * 3, b"[[[[" * 5000, "ü\n".encode("utf-16"),
    b'{"type": "metrics", "time": 1, "images": "x", "validation_rmse": true, "shots": [1], "seconds": {}}\n',
    b'{"type": "metrics", "time": 1, "images": 1e400, "validation_rmse": NaN, "train_rmse": -Infinity}\n',
    b'{"type": "metrics", "time": 1, "images": 5, "train_rmse": 1, "shots": {"a": null, "b": "2"}}\n',
    b'{"type": "artifact", "time": 1, "path": "../../secret.png", "kind": "picture"}\n',
    b'{"type": "artifact", "time": 1, "path": "/etc/secret.png", "kind": "picture"}\n'])
def test_garbage(tmp_path, rubbish):
    folder = tmp_path / "runs" / "a"
    folder.mkdir(parents=True)
    for name in ("events.jsonl", "config.json", "model.safetensors"):
        (folder / name).write_bytes(rubbish)
    run, = list_runs(tmp_path)
    assert run.picture is None and run.best is None and run.errors == {}
    assert run.length == "" and run.look_at_model() == {"shots": [], "frames": 0, "architecture": ""}
    json.dumps(run.facts(), allow_nan=False)
    plot.plot([plot.Curve(run.train, (255, 0, 0))])


def test_no_runs(tmp_path):
    (tmp_path / "runs").write_text("not a folder")
    assert list_runs(tmp_path) == list_runs(tmp_path / "nowhere") == []
    (tmp_path / "actor" / "runs" / "empty").mkdir(parents=True)
    assert list_runs(tmp_path / "actor") == []


def test_newest_first(tmp_path):
    for name, when in (("b", 10.0), ("a", 30.0), ("c", 20.0)):
        write(tmp_path / "runs" / name, {**HELLO, "time": when})
    assert [run.name for run in list_runs(tmp_path)] == ["a", "c", "b"]


def test_command(actor, capsys):
    assert main(["runs", str(actor)]) == 0 and "no runs yet" in capsys.readouterr().out
    write(actor / "runs" / "a", *DONE, config=CONFIG)
    assert main(["runs", str(actor)]) == 0
    assert "done, 0.1 min of 4 min, 2.60 mm" in capsys.readouterr().out
    assert main(["runs", str(actor), "--json"]) == 0
    listed, = json.loads(capsys.readouterr().out)["runs"]
    assert listed["errors"]["shots"] == {"talk": 1.6, "facs": 3.1} and listed["images"] == 200
    assert main(["runs", str(actor / "nowhere")]) == 1


def test_what_a_model_tells(tmp_path, small_model):
    from understudy.core.network import make_network

    model = small_model()
    model.about = {"data": {"talk": "1", "facs": "2"}, "frames": 300}
    folder = write(tmp_path / "a", HELLO)
    model.save(folder / "start.safetensors")
    run = Run(folder)
    run.catch_up()
    assert run.look_at_model()["shots"] == ["facs", "talk"] and run.model is None
    model.about["frames"] = 400
    model.save(folder / "model.safetensors")
    assert run.look_at_model()["frames"] == 400 and run.model == folder / "model.safetensors"
    assert run.facts()["architecture"] == "convolutional" and "convolutional" not in runs.describe(run)
    model.network = make_network("fully-connected-unstabilised", 15, 6, 4)
    model.save(folder / "model.safetensors")
    assert "fully-connected-unstabilised" in runs.describe(run)


def test_memory_grows_with_the_batch(original):
    actor = Actor.load(original)
    assert runs.data_frames(actor) == {"train": 16, "validation": 16}
    small, large = (runs.memory_needed(actor, batch) for batch in (2, 12))
    assert large - small == 10 * runs.PER_FRAME
    assert runs.memory_needed(actor, 5000) == runs.memory_needed(actor, 16), "a batch has no more than all frames"


def rows_of(picture, colour):
    """Mean row of a colour in each column where it is; NaN elsewhere."""
    mask = (picture == colour).all(-1)
    with np.errstate(invalid="ignore"):
        return (np.arange(len(picture))[:, None] * mask).sum(0) / mask.sum(0)


def test_plot_is_logarithmic():
    picture = plot.plot([plot.Curve([(0, 8.0), (10, 8.0), (20, 4.0), (30, 4.0), (40, 2.0), (50, 2.0)], (255, 0, 0))])
    rows = rows_of(picture, (255, 0, 0))
    levels = [np.nanmedian(rows[columns]) for columns in np.array_split(np.flatnonzero(rows > 0), 5)[::2]]
    assert levels[1] - levels[0] == pytest.approx(levels[2] - levels[1], abs=2), "each halving is as high"
    assert levels[1] - levels[0] > 100


def test_plot_puts_the_last_curve_on_top():
    points = [(0, 2.0), (10, 1.0)]
    picture = plot.plot([plot.Curve(points, (255, 0, 0)), plot.Curve(points, (0, 255, 0))])
    assert (picture == (0, 255, 0)).all(-1).any() and not (picture == (255, 0, 0)).all(-1).any()


@pytest.mark.parametrize("points", [[], [(1, 5.0)], [(0, 0.0), (1, -1.0)], [(0, 1e-12), (1e9, 1e12)], [(0, 1.0)] * 9])
def test_plot_of_little(points):
    picture = plot.plot([plot.Curve(points, (255, 255, 255))], size=200)
    assert picture.shape == (200, 200, 3) and picture.dtype == np.uint8


@pytest.mark.parametrize("count, text", [(0, "0"), (950, "950"), (1200, "1.2k"), (48_050, "48k"), (3_100_000, "3.1M"),
                                         (999_700, "1M")])
def test_short(count, text):
    assert plot.short(count) == text
