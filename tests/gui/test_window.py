"""What an artist sees and clicks, in the real Blender's window."""

from pathlib import Path

import numpy as np

SCENARIOS = Path(__file__).parent


def test_enabling(blender_window, package):
    blender_window.install(package)
    shots = blender_window.play(SCENARIOS / "enabling.py")
    assert set(shots) == {"enabled", "disabled", "again"}
    assert (shots["enabled"] != shots["disabled"]).any(-1).sum() > 1000, "the tab is still there"
    assert np.isclose(shots["enabled"].mean(), shots["again"].mean(), rtol=0.02)
