"""A solve beside its cleaned shot: the right frames side by side, and refusals."""

import numpy as np
import pytest

from understudy.core.actor import create_actor
from understudy.core.compare import compare
from understudy.core.errors import UnderstudyError
from understudy.core.files import read_json, write_json
from understudy.core.footage import open_footage
from understudy.core.meshcache import cache_writer
from understudy.core.movie_writer import MovieWriter

REST = np.array([[0, 0, 0], [4, 0, 0], [4, 4, 1], [0, 4, 0]], np.float32)
WAY = REST + 0.1 * np.arange(10, dtype=np.float32)[:, None, None] * [1, 0, 0]  # by footage frame
SHIFT = np.array([0, 0.03, 0.04], np.float32)  # 0.5 mm, the mesh being in cm


@pytest.fixture
def folder(tmp_path):
    """Footage of 10 frames; the shot has frames 2 to 8, the solve frames 4 to 9, off by SHIFT."""
    (tmp_path / "template.obj").write_text("v 0 0 0\nv 4 0 0\nv 4 4 1\nv 0 4 0\nf 1 2 3 4\n")
    with MovieWriter(tmp_path / "talk.mp4", 240, 320) as movie:
        for i in range(10):
            movie.write(np.full((320, 240), 20 * i, np.uint8))
    actor = create_actor(tmp_path / "actor", tmp_path / "template.obj", "cm", crop=(0, 0, 240, 320))
    actor.add_shot("talk", tmp_path / "talk.mp4", WAY[2:9].astype(np.float32), "pangram", "validation", first_frame=2)
    with cache_writer(tmp_path / "solve.pc2", 4, 6) as writer:
        writer.write((WAY[4:10] + SHIFT).astype(np.float32))
    with open_footage(tmp_path / "talk.mp4") as footage:
        write_json(tmp_path / "solve.json", {"topology": actor.template.hash, "footage_identity": footage.identity,
                                             "first": 4, "crop": [0, 0, 240, 320]})
    return tmp_path


def test_frames_of_both(folder):
    result = compare(folder / "actor", "talk", folder / "solve.pc2", folder / "talk é.mp4")
    assert result["frames"] == 5  # 4 to 8
    assert result["rmse_mm"] == pytest.approx(0.5, abs=1e-4)  # a frame out of step would add 1 mm
    with open_footage(folder / "talk é.mp4") as movie:
        assert (movie.frames, movie.width, movie.height) == (5, 960, 320)
        inputs = [np.median(movie.read(i)[:, :240]) for i in range(5)]
    assert inputs == pytest.approx([80, 100, 120, 140, 160], abs=4)
    assert (folder / "talk é.png").exists()


def test_fewer_frames_come_from_the_middle(folder):
    assert compare(folder / "actor", "talk", folder / "solve.pc2", folder / "a.mp4", frames=1)["worst_frame"] == 6


@pytest.mark.parametrize(("change", "says"), [
    ({"footage_identity": "other"}, "other footage"), ({"topology": "other"}, "another mesh"),
    ({"first": 40}, "no frame"), ({"first": None}, "damaged"), ({"crop": [1, 2]}, "damaged"),
])
def test_a_solve_of_something_else(folder, change, says):
    write_json(folder / "solve.json", read_json(folder / "solve.json") | change)
    with pytest.raises(UnderstudyError, match=says):
        compare(folder / "actor", "talk", folder / "solve.pc2", folder / "a.mp4")
    assert not (folder / "a.mp4").exists()


def test_unknown_shot(folder):
    with pytest.raises(UnderstudyError, match="no shot named walk; it has talk"):
        compare(folder / "actor", "walk", folder / "solve.pc2", folder / "a.mp4")
