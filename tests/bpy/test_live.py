"""Live: a copy of the face moves, the face and its solve do not, and stopping leaves nothing."""

import time

import bpy
import numpy as np
import pytest

from understudy.blender_addon import faces, live, pump, runtime, scene_io
from understudy.core.livefeed import LiveWriter


def wait(predicate, seconds=60):
    until = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < until, runtime.live
        live.tick()
        time.sleep(0.005)


def state(scene):
    """What must be the same afterwards."""
    face = scene.understudy.shot.face
    return (sorted(found.name for found in bpy.data.objects), sorted(mesh.name for mesh in bpy.data.meshes),
            face.hide_viewport, scene_io.positions(face.data).tolist(), [modifier.name for modifier in face.modifiers])


@pytest.fixture
def still(scene):
    """The scene with a face."""
    faces.ensure(scene, scene.understudy.shot)
    yield scene
    live.stop()


def test_a_movie_moves_a_copy_and_stopping_restores_all(still):
    before, face = state(still), still.understudy.shot.face
    assert bpy.ops.understudy.live_start() == {"FINISHED"}
    assert not bpy.ops.understudy.live_start.poll() and face.hide_viewport
    copy, = live.copies()
    rest = scene_io.positions(copy.data).copy()
    wait(lambda: runtime.live.latency_ms > 0)
    moved = scene_io.positions(copy.data)
    assert not np.array_equal(moved, rest) and np.array_equal(scene_io.positions(face.data), rest)
    assert 0 < runtime.live.latency_ms < 60_000 and runtime.live.fps > 0 and runtime.live.active
    assert bpy.ops.understudy.live_stop() == {"FINISHED"}
    assert state(still) == before and not live.running() and not runtime.live.active
    assert "live" not in pump._services
    assert not bpy.ops.understudy.live_stop.poll()


def test_the_end_of_the_movie_ends_live(still):
    before = state(still)
    live.start(still, still.understudy.shot)
    wait(lambda: not live.running())
    assert state(still) == before and not runtime.live.failed


def test_a_source_that_is_none_is_told(still):
    before = state(still)
    live.start(still, still.understudy.shot, "/absent/x.mp4")
    wait(lambda: not live.running())
    assert runtime.live.failed and "/absent/x.mp4 does not exist" in runtime.live.text and state(still) == before


@pytest.fixture
def fed(still, tmp_path, monkeypatch):
    """Live from a worker that is played here; a function that shows vertices."""
    class Job:
        def __init__(self):
            self.state = type("State", (), {"ended": False, "text": "", "state": "running"})()
            self.events = [{"type": "artifact", "path": "vertices.live", "kind": "live"}]

        def poll(self):
            events, self.events = self.events, []
            return events

        def cancel(self):
            pass

    class Service:
        def submit(self, arguments, folder):
            self.writer = LiveWriter(arguments[arguments.index("--out") + 1], 12)
            return Job()

    service = Service()
    monkeypatch.setattr(pump, "service", lambda name: service)
    live.start(still, still.understudy.shot)
    yield lambda value: (service.writer.write(0, time.time(), np.full((12, 3), value, np.float32)), live.tick())
    live.stop()
    service.writer.__exit__()


def test_undo_during_live_brings_the_copy_back(fed, still):
    fed(1.0)
    live.sweep()  # as undo to before the start would
    assert not live.copies() and not still.understudy.shot.face.hide_viewport
    fed(2.0)
    copy, = live.copies()
    assert (scene_io.positions(copy.data) == 2).all() and still.understudy.shot.face.hide_viewport


def test_what_undo_brings_back_after_live_is_swept_away(fed, still):
    before = not still.understudy.shot.face.hide_viewport
    fed(1.0)
    live._settle()
    assert live.copies(), "live goes on"
    live._session = None
    live._settle()
    assert not live.copies() and still.understudy.shot.face.hide_viewport == before


def test_a_face_that_was_hidden_stays_hidden(still, monkeypatch):
    still.understudy.shot.face.hide_viewport = True
    before = state(still)
    live.start(still, still.understudy.shot)
    live.stop()
    assert state(still) == before


def test_another_mesh_is_told(fed, still):
    copy, = live.copies()
    copy.data = bpy.data.meshes.new("other")
    fed(1.0)
    assert runtime.live.failed and "moves 12 vertices" in runtime.live.text and not live.copies()


def test_shape_keys_and_the_cache_stay_off_the_copy(still):
    face = still.understudy.shot.face
    face.shape_key_add(name="Basis")
    face.shape_key_add(name="Smile")
    keys = len(bpy.data.shape_keys)
    live.start(still, still.understudy.shot)
    copy, = live.copies()
    assert copy.data.shape_keys is None and face.data.shape_keys is not None
    live.stop()
    assert len(bpy.data.shape_keys) == keys


def test_removing_the_shot_ends_live(fed, still):
    still.understudy.shots.remove(0)
    live.tick()
    assert not live.running() and "removed" in runtime.live.text


def test_opening_another_file_ends_live(fed):
    bpy.ops.wm.read_homefile(use_empty=True)
    assert not live.running()
