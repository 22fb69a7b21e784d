"""Live in the window of the real Blender: a movie drives the face until Esc."""

from pathlib import Path

import numpy as np

from understudy.core.movie_writer import MovieWriter


def test_a_movie_drives_the_face_until_escape(blender_window, package, tmp_path):
    with MovieWriter(tmp_path / "camera ü.mp4", 264, 352, 30) as movie:
        for i in range(3000):
            movie.write(np.full((352, 264), i % 200, np.uint8))
    blender_window.install(package)
    shots = blender_window.play(Path(__file__).with_name("live.py"), env={"MOVIE": tmp_path / "camera ü.mp4"})
    assert "live" in shots
