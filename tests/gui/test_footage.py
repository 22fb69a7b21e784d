"""The footage in the window of the real Blender: what is shown, and what is dragged."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_plate_crop_and_pins(blender_window, package, tmp_path):
    footage = tmp_path / "footage ü"
    footage.mkdir()
    subprocess.run([sys.executable, HERE.parent / "bpy" / "make_numbered.py", footage], check=True)
    blender_window.install(package)
    shots = blender_window.play(HERE / "plate.py", env={"FOOTAGE": footage})
    assert set(shots) >= {"crop", "crop moved", "crop at rest", "pins", "pins done"}
