"""Looking at a solve: the errors of its frames, contact sheet, movie, and the page for the supervisor."""

import cv2
import numpy as np
import pytest

from understudy.__main__ import main
from understudy.core.actor import Actor, create_actor
from understudy.core.colours import heat_colours
from understudy.core.dailies import band, marked_frames, movie, sheet
from understudy.core.errors import UnderstudyError
from understudy.core.files import read_json, write_json
from understudy.core.footage import open_footage
from understudy.core.frame_errors import (
    FrameErrors,
    expected_vertices,
    measure,
    read_errors,
    top_of,
    truth_of,
    write_errors,
)
from understudy.core.meshcache import cache_writer
from understudy.core.movie_writer import MovieWriter
from understudy.core.page import curves
from understudy.core.reviewed import open_reviewed
from understudy.core.shot_report import figures, shot_report
from understudy.core.solved import read_solved

SIDE = 6
FRAMES = 40


def template():
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    vertices = np.stack([x.ravel(), y.ravel(), 0.1 * x.ravel()], 1)
    faces = [[i * SIDE + j, i * SIDE + j + 1, (i + 1) * SIDE + j + 1, (i + 1) * SIDE + j]
             for i in range(SIDE - 1) for j in range(SIDE - 1)]
    return vertices, np.array(faces)


@pytest.fixture
def folder(tmp_path):
    """An actor whose shot has the footage frames 2 to 33; a solve of 4 to 39 beside it, whose region lips is
    frame / 100 cm away, and which was sure of all but frame 20."""
    folder = tmp_path / "Zoë s"
    folder.mkdir()
    vertices, faces = template()
    np.savez(folder / "template.npz", vertices=vertices, faces=faces)
    with MovieWriter(folder / "talk.mp4", 240, 320) as writer:
        for i in range(FRAMES):
            writer.write(np.full((320, 240), 6 * i, np.uint8))
    actor = create_actor(folder / "actor", folder / "template.npz", "cm", crop=(0, 0, 240, 320), name="Zoë",
                         animated=np.arange(6, 36), regions={"lips": np.arange(6, 12)})
    way = np.repeat(vertices[None], FRAMES, 0)
    shot = actor.add_shot("talk", folder / "talk.mp4", way[2:34], "pangram", "validation", first_frame=2)
    shot.excluded = [[3, 4]]  # the footage frames 5 and 6
    shot.save()
    way[:, 6:12, 1] += np.arange(FRAMES)[:, None] / 100
    with cache_writer(folder / "talk.v001.pc2", SIDE * SIDE, FRAMES - 4) as writer:
        writer.write(way[4:])
    with open_footage(folder / "talk.mp4") as footage:
        identity = footage.identity
    spread = [0.5] * (FRAMES - 4)
    spread[16] = 2.0
    write_json(folder / "talk.v001.json", {
        "actor": "Zoë", "topology": actor.template.hash, "model": "model.safetensors", "model_sha256": "abcdefg",
        "footage": "talk.mp4", "footage_identity": identity, "fps": 30.0, "first": 4, "last": 39, "complete": True,
        "crop": [0, 0, 240, 320], "engine": "torch", "device": "cpu", "confidence_mm": {"all": spread, "lips": spread}})
    return folder


@pytest.fixture
def take(folder):
    return open_reviewed(folder / "talk.v001.pc2", folder / "actor")


def test_errors_are_those_of_the_right_frames(folder, take):
    errors = take.errors
    assert errors.truth == "talk" and errors.first == 4
    assert errors.rmse["lips"][16] == pytest.approx(20 / 100 * 10, rel=1e-4), "frame 20: 0.2 cm"
    assert errors.rmse["all"][16] == pytest.approx(2 * np.sqrt(6 / 30), rel=1e-4)
    known = np.isfinite(errors.rmse["all"])
    assert np.flatnonzero(~known).tolist() == [1, 2, *range(30, 36)], "left out by the artist, and beyond the shot"
    assert errors.best[31] == pytest.approx(0.5), "beyond the cleaned shot the expected error counts"
    assert errors.vertices[0] == 0 and errors.vertices[6] == pytest.approx(
        np.sqrt(np.mean(np.square(np.array([4, *range(7, 34)]) / 10))), rel=1e-4)
    write_errors(folder / "é.csv", errors)
    again = read_errors(folder / "é.csv")
    assert again.first == 4 and set(again.rmse) == {"all", "lips"}
    assert np.allclose(again.best, errors.best, atol=1e-4)
    (folder / "é.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UnderstudyError, match="no table of errors"):
        read_errors(folder / "é.csv")


def test_whose_truth(folder):
    actor = Actor.load(folder / "actor")
    (folder / "elsewhere").mkdir()
    copy = folder / "elsewhere" / "talk.mp4"
    copy.write_bytes((folder / "talk.mp4").read_bytes())
    assert truth_of(actor, folder / "talk.mp4").name == truth_of(actor, copy).name == "talk"
    copy.write_bytes(b"other footage of the same name")
    assert truth_of(actor, copy) is None
    actor.shots[0].status = "solved"
    assert truth_of(actor, folder / "talk.mp4") is None, "a solve is no truth"
    assert measure(read_solved(folder / "talk.v001.pc2"), actor, None).rmse == {}


def test_expected_by_vertex():
    errors = FrameErrors(0, np.array([1, np.nan]), parts={"lips": np.array([3, np.nan]), "lids": np.array([0.5, 1])})
    regions = {"lips": np.array([1, 2]), "lids": np.array([2, 3, 5])}
    found = expected_vertices(errors, 0, 6, np.array([1, 2, 3, 4]), regions)
    assert found.tolist() == [0, 3, 3, 0.5, 1, 0]
    assert not expected_vertices(errors, 1, 6, np.array([1, 2, 3, 4]), regions).any()


def test_sheet(folder, take):
    groups = sheet(take, folder / "sheet é.png", every=10)
    picture = cv2.imdecode(np.fromfile(folder / "sheet é.png", np.uint8), cv2.IMREAD_COLOR)
    assert groups["Worst frames"][0] == 33 and groups["Best frames"][0] == 4
    assert groups["Every 10 frames"] == [4, 14, 24, 34]
    assert not {5, 6} & {frame for name, group in groups.items() if "Every" not in name for frame in group}
    assert picture.shape[1] > 1400 and picture.std() > 10


def test_movie_shows_the_right_frames_and_leaves_nothing_when_it_fails(folder, take):
    made = movie(take, folder / "dailies.mp4", 10, 14)
    assert made == {"frames": 5}
    with open_footage(folder / "dailies.mp4") as footage:
        assert footage.frames == 5 and footage.width % 2 == footage.height % 2 == 0
        plates = [np.median(footage.read(i)[100:400, 60:300]) for i in range(5)]
    assert plates == pytest.approx([60, 66, 72, 78, 84], abs=4)
    with pytest.raises(UnderstudyError, match="range 0 to 3 is not in the solve"):
        movie(take, folder / "none.mp4", 0, 3)
    write_json(folder / "talk.v001.json", read_json(folder / "talk.v001.json") | {"footage_identity": "other"})
    with pytest.raises(UnderstudyError, match="other footage"):
        movie(open_reviewed(folder / "talk.v001.pc2", folder / "actor"), folder / "none.mp4")
    assert not (folder / "none.mp4").exists()


def test_the_band_shows_a_single_bad_frame_of_many(take):
    take.errors.rmse = {}
    take.errors.expected = np.full(36, 0.1, np.float32)
    take.errors.expected[20] = 2.0
    tall = (band(take, 9)[10, :] == heat_colours(np.ones(1))[0, ::-1].astype(np.float32) * 255).all(1)
    assert tall.tolist() == [False] * 5 + [True] + [False] * 3


def test_report_with_and_without_truth(folder, take):
    found = shot_report(take, folder / "a é.html")
    page = (folder / "a é.html").read_text(encoding="utf-8")
    counted = [frame for frame in range(4, 34) if frame not in (5, 6)]
    assert found["rmse_mm"] == pytest.approx(np.sqrt(np.mean(np.square(np.array(counted) / 10 * np.sqrt(0.2)))), 1e-4)
    assert found["worst_frame"] == 33 and "at worst 1.48 mm, in frame 33" in page
    assert "Zoë" in page and "frame 20" in page and "<script" not in page and "http" not in page
    actor = Actor.load(folder / "actor")
    actor.shots[0].status = "raw"
    actor.shots[0].save()
    blind = open_reviewed(folder / "talk.v001.pc2", folder / "actor")
    assert figures(blind)["rmse_mm"] is None and marked_frames(blind)["Worst frames"][0] == 20
    shot_report(blind, folder / "b.html")
    assert "There is no cleaned shot to measure against" in (folder / "b.html").read_text(encoding="utf-8")


def test_a_tracked_shot_has_a_page_too(folder):
    """No model says how sure it was of what was tracked elsewhere."""
    write_json(folder / "talk.v001.json", read_json(folder / "talk.v001.json") | {"confidence_mm": {}})
    Actor.load(folder / "actor").shots[0].cache.unlink()
    take = open_reviewed(folder / "talk.v001.pc2", folder / "actor")
    assert np.isnan(take.errors.best).all() and not take.excluded.any()
    shot_report(take, folder / "c.html")
    assert "Nobody knows" in (folder / "c.html").read_text(encoding="utf-8")
    assert list(sheet(take, folder / "c.png")) == ["Every 3 frames"]


def test_what_belongs_to_a_solve_is_found_or_asked_for(folder, capsys):
    with pytest.raises(UnderstudyError, match="--actor"):
        open_reviewed(folder / "talk.v001.pc2")
    assert open_reviewed(folder / "talk.v001.pc2", folder / "actor" / "actor.json").footage.name == "talk.mp4"
    assert main(["errors", str(folder / "talk.v001.pc2"), "--actor", str(folder / "actor")]) == 0
    assert (folder / "talk.v001.csv").read_text().startswith("frame,expected_mm,all_mm,lips_mm\n4,0.5000,")
    assert main(["sheet", str(folder / "talk.v001.pc2"), "--out", "x.jpg"]) == 2
    assert "end the name x.jpg with .png" in capsys.readouterr().err
    (folder / "actor" / "shots" / "talk" / "shot.json").unlink()
    (folder / "talk.mp4").unlink()
    with pytest.raises(UnderstudyError, match="--footage"):
        open_reviewed(folder / "talk.v001.pc2", folder / "actor")


def test_colours_are_those_of_the_pictures():
    levels = np.arange(256, dtype=np.uint8).reshape(-1, 1)
    theirs = cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)[:, 0, ::-1] / 255
    assert np.abs(heat_colours(np.linspace(0, 1, 256)) - theirs).max() < 0.035


def test_curves_keep_peaks_and_leave_gaps():
    values = np.full(5000, 0.5, np.float32)
    values[1234], values[3000:3100] = 7.0, np.nan
    svg = curves(10, [("expected", values)], [20])
    assert svg.count("<polyline") == 2 and len(svg) < 60000
    top = min(float(point.split(",")[1]) for part in svg.split('points="')[1:] for point in part.split('"')[0].split())
    assert top < 25, "the single frame that is bad"


def test_axes_end_at_round_numbers():
    assert [top_of(np.array([value, np.nan])) for value in (0.02, 0.17, 1.0, 1.4, 2.01, 7, 9.5, np.nan)] == [
        0.1, 0.2, 1, 1.5, 3, 8, 10, 1]
