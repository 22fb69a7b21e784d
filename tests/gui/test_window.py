"""What an artist sees and clicks, in the real Blender's window."""

import shutil
from pathlib import Path

import numpy as np
import pytest

SAMPLE = Path(__file__).resolve().parents[2] / "build" / "actor"
SCENARIOS = Path(__file__).parent


def test_enabling(blender_window, package):
    blender_window.install(package)
    shots = blender_window.play(SCENARIOS / "enabling.py")
    assert set(shots) == {"enabled", "disabled", "preferences", "again"}
    assert (shots["enabled"] != shots["disabled"]).any(-1).sum() > 1000, "the tab is still there"
    assert np.isclose(shots["enabled"].mean(), shots["again"].mean(), rtol=0.02)


def moved(shots: dict[str, np.ndarray], one: str, other: str) -> int:
    """How many pixels of the viewport differ between two pictures."""
    views = (shots[name][60:700, :760].astype(int) for name in (one, other))
    return int((np.abs(np.subtract(*views)).max(-1) > 16).sum())


def test_the_whole_story(blender_window, package):
    """Install, enable, open the sample, solve, scrub, undo, change the form: with clicks where there are buttons."""
    blender_window.install(package)
    shots = blender_window.play(SCENARIOS / "story.py")
    assert moved(shots, "1 empty", "2 shot") > 10000, "face and plate are there"
    assert moved(shots, "3 solved", "4 later") > 1000, "the face moves beside the plate"


def test_review(blender_window, packager, tmp_path):
    """Strip along the timeline, errors on the face, the wipe that is dragged; shading is put back."""
    if not (SAMPLE / "model.safetensors").is_file():
        pytest.skip("needs the trained sample actor, which make extension makes")
    built = packager("small", "--actor", SAMPLE, "--out", tmp_path)
    assert built.returncode == 0, built.stdout
    blender_window.install(next(tmp_path.glob("*.zip")))
    shots = blender_window.play(SCENARIOS.parents[1] / "docs" / "scenarios" / "review.py", timeout=500)
    assert set(shots) == {"blender-6-review", "blender-7-wipe"}
    blue, _, red = (shots["blender-6-review"][..., channel].astype(int) for channel in range(3))
    coloured = blue > red + 40
    assert coloured[650:770, 40:1000].sum() > 5000, "the strip"
    assert coloured[100:560, 470:760].sum() > 10000, "the face"


@pytest.mark.parametrize("name", ["otto", "speaker"])
def test_the_story_of_a_real_actor(blender_window, package, trained, name, tmp_path):
    actor, footage = trained(name)
    model = shutil.copyfile(actor / "model.safetensors", tmp_path / "model.safetensors")
    footage = shutil.copyfile(footage, tmp_path / footage.name)  # below /tmp, which the window sees
    blender_window.install(package)
    shots = blender_window.play(SCENARIOS / "story.py", env={"ACTOR": model, "FOOTAGE": footage}, timeout=500)
    assert moved(shots, "3 solved", "4 later") > 1000


def test_faults(blender_window, package, tmp_path):
    """Undo, other modes, another frame rate, disabling, loading and quitting in the middle of solves."""
    folder = tmp_path / "Zoë s"
    folder.mkdir()
    blender_window.install(package)
    blender_window.play(SCENARIOS / "faults.py", env={"FOLDER": folder}, timeout=500)
    caches = folder / "understudy"
    assert {path.stem for path in caches.glob("*.pc2")} == {path.stem for path in caches.glob("*.json")}
    assert not list(caches.glob(".*"))
