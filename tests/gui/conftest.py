"""Scenarios in the window of the real Blender. Their pictures are kept in build/gui, to be looked at."""

import shutil
from pathlib import Path

import pytest

from understudy.tools.window import Window

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def blender_window(real_blender, tmp_path, request):
    """A tools.window.Window without anything installed."""
    window = Window(real_blender, tmp_path)
    yield window
    kept = ROOT / "build" / "gui" / request.node.name
    shutil.rmtree(kept, ignore_errors=True)
    if window.shots.is_dir():
        shutil.copytree(window.shots, kept)
