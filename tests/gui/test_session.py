"""From tracks to a better model in the window, on a real clock: the scenario of docs/tutorial.md, with Otto."""

from pathlib import Path

import pytest

from understudy.benchmarks.quality import make_otto
from understudy.core.actor import Actor
from understudy.tools.session import make

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT.parent / "shared" / "actors" / "otto"
KNOWN, TRACKED, TAKE, HELD = "scene_a", ["scene_c", "scene_d"], "scene_b", "val_talk"


# As an artist would train: .venv/bin/python -m pytest -m slow tests/gui/test_session.py
@pytest.mark.parametrize("minutes", [1.0, pytest.param(2.0, marks=pytest.mark.slow)])
def test_a_session(blender_window, package, tmp_path, minutes):
    if not SOURCE.is_dir():
        pytest.skip("needs the test actor otto")
    make_otto(SOURCE, tmp_path / "known", [KNOWN, *TRACKED, TAKE, HELD])
    folder = tmp_path / "Otto s"
    make(Actor.load(tmp_path / "known"), folder, KNOWN, TRACKED, TAKE, HELD, ["--epochs", "1", "--batch", "16"])
    blender_window.install(package)
    shots = blender_window.play(ROOT / "docs" / "scenarios" / "session.py",
                                env={"FOLDER": folder, "MINUTES": minutes}, timeout=1800)
    assert len(shots) == 16
    curves = [shots[name][:, 700:1050].astype(int) for name in ("tutorial-11-train", "tutorial-12-curves")]
    assert (abs(curves[0] - curves[1]).max(-1) > 16).sum() > 1000, "the panel shows curves"
    taught = Actor.load(folder / "actor")
    assert {shot.name for shot in taught.training_shots()} == {KNOWN, *TRACKED, TAKE}
    assert not list((folder / "understudy").glob(".*"))
