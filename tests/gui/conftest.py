"""Scenarios in the window of the real Blender. Their pictures are kept in build/gui, to be looked at."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from understudy.benchmarks.quality import make_otto, make_speaker
from understudy.tools.window import Window

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A function from the name of a test actor to its folder, hastily trained, and footage that it has not seen."""
    def train(name: str) -> tuple[Path, Path]:
        source = ROOT.parent / "shared" / "actors" / name
        if not source.is_dir():
            pytest.skip(f"needs the test actor {name}")
        folder = tmp_path_factory.mktemp("actors") / name
        if name == "otto":
            make_otto(source, folder, only=("scene_b", "val_talk"))
        else:
            make_speaker(source, folder, {"train": (0, 120), "validation": (200, 210)})
        subprocess.run([sys.executable, "-m", "understudy", "train", folder, "--minutes", "0.3", "--batch", "16"],
                       check=True)
        return folder, source / ("val_talk.mp4" if name == "otto" else "take.mp4")

    return train


@pytest.fixture
def blender_window(real_blender, tmp_path, request):
    """A tools.window.Window without anything installed."""
    window = Window(real_blender, tmp_path)
    yield window
    kept = ROOT / "build" / "gui" / request.node.name
    shutil.rmtree(kept, ignore_errors=True)
    if window.shots.is_dir():
        shutil.copytree(window.shots, kept)
