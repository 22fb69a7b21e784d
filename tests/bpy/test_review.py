"""Review: errors of a solve as strip, curves and colours, the frames to look at next, and what is made for others."""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import bpy
import numpy as np
import pytest

from understudy.blender_addon import cleaning, comparing, curves, dailies, edits, heat, pump, review, review_curves
from understudy.blender_addon import review_strip as strip
from understudy.blender_addon.paths import absolute
from understudy.blender_addon.scene_io import positions, set_positions
from understudy.core.actor import Actor
from understudy.core.colours import heat_colours, linear
from understudy.core.errors import UnderstudyError
from understudy.core.frame_errors import FrameErrors
from understudy.core.meshcache import cache_writer
from understudy.core.solved import read_solved

SPEC = importlib.util.spec_from_file_location("stand", Path(__file__).with_name("stand.py"))
stands = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(stands)


@pytest.fixture
def stand(tmp_path):
    """12 samples of the source frames 3 to 14, which play from scene frame 101 on at 60 to 24 frames a second."""
    made = stands.make_stand(tmp_path)
    made.scene.understudy.unit, made.scene.understudy.model_sha256 = made.unit, "m"
    from understudy.blender_addon import outputs

    for _ in outputs.show(made.scene, made.shot, "MESH_CACHE"):
        pass
    tell(made, all=[0.1] * 8 + [2.0] + [0.1] * 3, lips=[0.5] * 12)
    return made


def tell(stand, **spread):
    path = stand.cache.with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"confidence_mm": spread}))


def settings():
    return bpy.context.window_manager.understudy_review


def shown(face):
    """The colours on a face, (V, 3), linear."""
    attribute = face.data.color_attributes[heat.ATTRIBUTE]
    values = np.empty(4 * len(face.data.vertices), np.float32)
    attribute.data.foreach_get("color", values)
    return values.reshape(-1, 4)[:, :3]


def colour(millimetres, limit=3.0):
    return linear(heat_colours(np.array([millimetres / limit])))[0]


def test_a_single_bad_frame_of_ten_thousand_is_seen_and_what_is_excluded_is_gray():
    errors = np.full(10_000, 0.2, np.float32)
    errors[7777], errors[100] = 3.0, 9.0
    gray = np.zeros(10_000, bool)
    gray[96:112] = True
    for level in (0, 4, 7):
        corners, colours = strip.columns(errors, gray, 4.0, level)
        step = 1 << level
        assert len(corners) == 4 * -(-10_000 // step) and corners[:, 0].max() == 9999.5
        tall = corners[2::4][7777 // step]
        assert tall[1] == pytest.approx(0.75) and np.allclose(colours[4 * (7777 // step)][:3], heat_colours([0.75])[0])
        excluded = colours[4 * (100 // step)]
        assert (tuple(excluded) == pytest.approx(strip.GREY)) == (level < 7), "one that counts beside it decides"
        assert level < 7 or corners[2::4][100 // step][1] == pytest.approx(0.05)
    unknown, colours = strip.columns(np.full(5, np.nan, np.float32), np.zeros(5, bool), 1.0, 0)
    assert unknown[:, 1].max() == pytest.approx(strip.UNKNOWN) and np.allclose(colours, strip.GREY)
    assert [strip.level_of(pixels) for pixels in (12, 1, 0.5, 0.1)] == [0, 0, 1, 4]


def test_the_next_worst_frame_says_why(stand):
    assert bpy.ops.understudy.frame_suggested() == {"FINISHED"}
    assert stand.scene.frame_current == 109
    known = review.read(stand.scene, stand.shot)
    assert known.drawn["next"][0] == 11 and "2.00 mm spread, unsure about" in known.drawn["next"][1]
    second = cleaning.suggested(stand.scene, stand.shot)[1][0]
    bpy.ops.understudy.frame_suggested()
    assert review.source_now(stand.scene, stand.shot) == second
    bpy.ops.understudy.frame_suggested(back=True)
    assert stand.scene.frame_current == 109


def test_with_a_cleaned_shot_the_next_worst_frame_is_where_it_is_farthest(stand):
    known = review.read(stand.scene, stand.shot)
    true = np.linspace(0.5, 0.1, 12, dtype=np.float32)
    known.errors = FrameErrors(3, known.errors.expected, {"all": true, "lips": 2 * true}, truth="talk")
    frame, reason, millimetres = cleaning.suggested(stand.scene, stand.shot)[0]
    assert (frame, millimetres) == (3, 0.5) and reason == "from the cleaned shot, 1.0 mm at the lips"
    stand.shot.excluded.add().last = 5
    assert min(frame for frame, _, _ in cleaning.suggested(stand.scene, stand.shot)) > 5


def test_curves_follow_the_timing_and_leave_no_trace(stand):
    face = stand.face
    face.location.x = 1
    face.keyframe_insert("location", index=0, frame=5)
    before = set(curves.curves_of(face))
    assert bpy.ops.understudy.error_curves() == {"FINISHED"}
    curve = curves.curves_of(face)[('["expected_error_mm"]', 0)]
    times, values = curves.read(curve)
    assert times.tolist() == list(range(101, 113)) and values[8] == pytest.approx(2.0)
    stand.scene.frame_set(109)
    assert face["expected_error_mm"] == pytest.approx(2.0) and "rmse_mm" not in face
    stand.shot.pace = "TIME"  # 60 to 24 frames a second
    assert curves.read(curves.curves_of(face)[('["expected_error_mm"]', 0)])[0][8] == pytest.approx(101 + 8 * 24 / 60)
    stand.shot.anchor_scene = 201
    review_curves.refresh(stand.scene, stand.shot)
    assert curves.read(curves.curves_of(face)[('["expected_error_mm"]', 0)])[0][0] == pytest.approx(201)
    assert bpy.ops.understudy.error_curves(remove=True) == {"FINISHED"}
    assert set(curves.curves_of(face)) == before and "expected_error_mm" not in face
    assert not review_curves.have(face)


def test_colours_follow_the_frame_and_are_taken_away(stand):
    face = stand.face
    own = face.data.color_attributes.new("Paint", "BYTE_COLOR", "POINT")
    face.data.color_attributes.active_color = own
    stand.scene.frame_set(101)
    assert bpy.ops.understudy.heat_switch() == {"FINISHED"}
    assert settings().heat and heat.last["kind"] == "EXPECTED"
    rest = [vertex for vertex in stand.animated if vertex not in stand.animated[:4]]
    assert np.allclose(shown(face)[stand.animated[0]], colour(0.5), atol=0.01), "lips"
    assert np.allclose(shown(face)[rest[0]], colour(0.1), atol=0.01)
    assert np.allclose(shown(face)[0], colour(0.0), atol=0.01), "not animated"
    stand.scene.frame_set(109)
    assert np.allclose(shown(face)[rest[0]], colour(2.0), atol=0.01)
    settings().limit_mm = 4
    assert np.allclose(shown(face)[rest[0]], colour(2.0, 4), atol=0.01)
    assert bpy.ops.understudy.heat_switch() == {"FINISHED"}
    assert heat.ATTRIBUTE not in face.data.color_attributes and face.data.color_attributes.active_color.name == "Paint"
    assert heat._frame_changed not in bpy.app.handlers.frame_change_post
    assert heat.KEPT not in face.data and not any(heat.KEPT in screen for screen in bpy.data.screens)


def test_colours_of_corrections_are_what_the_artist_moved(stand):
    face = stand.face
    block = edits.add(stand.scene, stand.shot, 105)
    moved = positions(block)
    moved[20] += (0, 0, 0.15)  # cm
    set_positions(block, moved)
    stand.scene.frame_set(105)
    settings().against = "EDITS"
    bpy.ops.understudy.heat_switch()
    away = heat.last["most"]
    assert 0.5 < away < 4 and np.allclose(shown(face)[20], colour(away), atol=0.01)
    assert np.allclose(shown(face)[40], colour(0.0), atol=0.01)
    stand.scene.frame_set(108)
    assert heat.last["most"] < 1e-2, "the correction is off there"
    bpy.ops.understudy.heat_switch()


def test_colours_of_two_runs(stand, monkeypatch):
    other = stand.folder / "B.pc2"
    moved = stand.mean + np.float32(0.01)
    stands.write_solve(other, stand.template, stand.animated, stand.weights, moved, stand.codes, 3)
    found = bpy.data.objects.new("Two", stand.face.data.copy())
    found["first"], found["shot"] = 3, stand.shot.uid
    monkeypatch.setattr(comparing, "object_of", lambda: found)
    monkeypatch.setattr(comparing, "caches", lambda: [stand.cache, other])
    bpy.ops.understudy.heat_switch()
    assert heat.last["kind"] == "RUNS" and heat.last["most"] == pytest.approx(0.1 * np.sqrt(3), rel=1e-3)
    assert np.allclose(shown(found)[stand.animated[3]], colour(0.1 * np.sqrt(3)), atol=0.01)
    bpy.ops.understudy.heat_switch()


def test_colours_that_cannot_be_say_why(stand):
    settings().against = "TRUTH"
    with pytest.raises(RuntimeError, match="No cleaned shot of the actor has the footage of take"):
        bpy.ops.understudy.heat_switch()
    assert not settings().heat and heat.ATTRIBUTE not in stand.face.data.color_attributes
    settings().against = "RUNS"
    with pytest.raises(RuntimeError, match="Compare two runs"):
        bpy.ops.understudy.heat_switch()
    settings().against = "EDITS"
    bpy.ops.understudy.heat_switch()
    stand.face.modifiers.new("Subdivision", "SUBSURF")
    stand.scene.frame_set(107)
    assert "changes the vertices" in heat.last["text"]
    bpy.ops.understudy.heat_switch()


def test_a_file_saved_with_colours_opens_without(stand, tmp_path):
    bpy.ops.understudy.heat_switch()
    settings().strip = True
    name = stand.face.name
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "saved.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "saved.blend"))
    assert heat.ATTRIBUTE not in bpy.data.objects[name].data.color_attributes
    assert not settings().heat and not settings().strip
    assert heat._frame_changed not in bpy.app.handlers.frame_change_post


def test_samples_between_frames_are_those_that_play():
    samples = np.arange(12, dtype=np.float32).reshape(4, 1, 3)
    assert heat.at(samples, 1.5)[0, 0] == pytest.approx(4.5)
    assert heat.at(samples, -3)[0, 0] == 0 and heat.at(samples, 9)[0, 0] == 9


@pytest.fixture
def truth(scene):
    """A solved shot whose footage the actor has a cleaned shot of: 1 mm away from it, and 5 mm at frame 2."""
    bpy.ops.understudy.solve()
    shot = scene.understudy.shot
    actor, solved = Actor.load(absolute(scene.understudy.actor)), read_solved(absolute(shot.cache))
    target = np.repeat(actor.template.vertices[None], solved.count, 0)
    away = np.zeros_like(target)
    away[:, actor.animated, 2] = 0.001 / actor.unit
    with cache_writer(solved.path, *away.shape[1::-1]) as writer:  # as if the model, which nobody trained, had learned
        writer.write(target + away * np.where(np.arange(solved.count) == 2, 5, 1)[:, None, None])
    made = actor.add_shot("take one", absolute(shot.footage), target, "pangram", "validation")
    made.excluded = [[1, 1]]
    made.save()
    return SimpleNamespace(scene=scene, shot=shot, actor=actor, solved=solved)


def test_the_cleaned_shot_is_found_and_measured_by_the_worker(truth):
    scene, shot = truth.scene, truth.shot
    assert bpy.ops.understudy.errors_read() == {"FINISHED"}
    known = review.read(scene, shot)
    assert known.text == "" and known.errors.truth == "take one"
    assert known.errors.rmse["all"][2] == pytest.approx(5.0, abs=0.01)
    assert known.errors.rmse["all"][0] == pytest.approx(1.0, abs=0.01) and np.isnan(known.errors.rmse["all"][1])
    bpy.ops.understudy.frame_suggested()
    assert review.source_now(scene, shot) == 2
    bpy.ops.understudy.heat_switch()
    assert heat.last["kind"] == "TRUTH" and heat.last["most"] == pytest.approx(5.0, abs=0.01)
    bpy.ops.understudy.heat_switch()
    bpy.ops.understudy.error_curves()
    times, values = curves.read(curves.curves_of(shot.face)[('["rmse_mm"]', 0)])
    assert len(values) == truth.solved.count - 1 and values.max() == pytest.approx(5.0, abs=0.01)


def test_sheet_movie_and_page_are_made_beside_the_solve(truth):
    for kind, suffix in (("sheet", ".png"), ("dailies", ".mp4"), ("report", ".html")):
        assert bpy.ops.understudy.dailies_make(kind=kind) == {"FINISHED"}
        assert dailies.made.path.is_file() and dailies.made.path.suffix == suffix
        assert dailies.made.path.parent == truth.solved.path.parent
    page = dailies.made.path.read_text(encoding="utf-8")
    assert "against the cleaned shot take one" in page
    settings().folder = str(truth.solved.path.parent / "für Zoë")
    bpy.ops.understudy.dailies_make(kind="sheet")
    assert dailies.made.path.parent.name == "für Zoë" and dailies.made.path.is_file()
    settings().folder = ""


def test_what_cannot_be_made_says_why(truth):
    footage = truth.shot.footage
    truth.shot.footage = "//gone.mp4"
    with pytest.raises(RuntimeError, match="gone.mp4"):
        bpy.ops.understudy.dailies_make(kind="report")
    truth.shot.footage = footage
    made = dailies.start(truth.scene, truth.shot, "dailies")
    with pytest.raises(UnderstudyError, match="is being made"):
        dailies.start(truth.scene, truth.shot, "sheet")
    bpy.ops.understudy.dailies_stop()
    dailies.finish()
    assert made.job.state.state == "cancelled" and not made.path.exists()
    assert not pump.busy()
