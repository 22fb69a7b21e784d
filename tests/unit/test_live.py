"""Live: the newest picture drives the mesh, through a file that is never read half written."""

import threading
import time

import numpy as np
import pytest

from understudy.__main__ import main
from understudy.core import livesolve
from understudy.core.crop import Crop, network_input
from understudy.core.errors import Cancelled, UnderstudyError
from understudy.core.events import job_state
from understudy.core.footage import open_footage
from understudy.core.gray import from_rgb
from understudy.core.jobs import Reporter
from understudy.core.livefeed import HEADER, MAGIC, LiveReader, LiveWriter
from understudy.core.livesolve import Newest, live
from understudy.core.movie_writer import MovieWriter
from understudy.core.solver import load_solver


@pytest.fixture
def model(small_model, tmp_path):
    small_model().save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def film(path, width=264, height=352, frames=12, fps=60):
    with MovieWriter(path, width, height, fps) as writer:
        for index in range(frames):
            writer.write(np.full((height, width), 60 + 10 * index, np.uint8))
    return path


class Told(Reporter):
    def __init__(self, most=10**9):
        self.metric, self.texts, self.files, self.most, self.asked = [], [], [], most, 0

    def metrics(self, **values):
        self.metric.append(values)

    def warning(self, text):
        self.texts.append(text)

    def artifact(self, path, kind):
        self.files.append((path, kind))

    def cancelled(self):
        self.asked += 1
        return self.asked > self.most


# ---- the file


def test_a_reader_sees_the_newest_frame_once(tmp_path):
    vertices = np.random.default_rng(0).standard_normal((3, 7, 3)).astype(np.float32)
    with LiveWriter(tmp_path / "é.live", 7) as writer:
        reader = LiveReader(tmp_path / "é.live")
        assert reader.newest() is None and reader.vertex_count == 7
        for number, sample in enumerate(vertices):
            written = writer.write(number, 5.5, sample)
        frame = reader.newest()
        assert (frame.number, frame.captured, frame.written) == (2, 5.5, written)
        assert np.array_equal(frame.vertices, vertices[2]) and reader.newest() is None
        writer.write(3, 6.0, vertices[0])
        assert reader.newest().number == 3
        reader.close()
    assert not list(tmp_path.iterdir())


def test_no_frame_is_ever_torn(tmp_path):
    """A writer that never rests, and a reader beside it: every frame is all of one number."""
    with LiveWriter(tmp_path / "x.live", 20000) as writer:
        stop = threading.Event()

        def write():
            number = 0
            while not stop.is_set():
                number += 1
                writer.write(number, 0.0, np.full((20000, 3), number, np.float32))

        thread = threading.Thread(target=write)
        thread.start()
        reader, seen = LiveReader(tmp_path / "x.live"), []
        until = time.monotonic() + 60
        while len(seen) < 50 and time.monotonic() < until:
            if frame := reader.newest():
                assert (frame.vertices == frame.number).all()
                seen.append(frame.number)
        stop.set()
        thread.join()
        reader.close()
    assert len(seen) == 50 and seen == sorted(seen)


def test_a_frame_that_is_being_written_is_not_given(tmp_path):
    with LiveWriter(tmp_path / "x.live", 2) as writer:
        reader = LiveReader(tmp_path / "x.live")
        writer.write(0, 0.0, np.zeros((2, 3), np.float32))
        writer._map[8:16] = (3).to_bytes(8, "little")
        assert reader.newest() is None
        writer._map[8:16] = (4).to_bytes(8, "little")
        assert reader.newest().number == 0
        reader.close()


@pytest.mark.parametrize("content", [
    b"", b"x" * 63, b"x" * 100, HEADER.pack(MAGIC, 0, 0, 0, 0, 0), HEADER.pack(MAGIC, 0, 0, 0, 0, 9) + bytes(12 * 8),
    HEADER.pack(MAGIC, 0, 0, 0, 0, 0xFFFFFFFF)])
def test_a_file_that_is_none_gets_a_sentence(tmp_path, content):
    (tmp_path / "x.live").write_bytes(content)
    with pytest.raises(UnderstudyError, match="live vertices"):
        LiveReader(tmp_path / "x.live")


def test_a_place_that_cannot_be_written_gets_a_sentence(tmp_path):
    with pytest.raises(UnderstudyError, match="Cannot write"):
        LiveWriter(tmp_path / "absent" / "x.live", 3)


# ---- solving


def test_a_movie_in_real_time_gives_the_vertices_of_a_solve(model, tmp_path, monkeypatch):
    path, frames = film(tmp_path / "a.mp4"), []
    write = LiveWriter.write

    def see(self, number, captured, vertices):
        frames.append((number, captured, vertices.copy()))
        return write(self, number, captured, vertices)

    monkeypatch.setattr(LiveWriter, "write", see)
    told = Told()
    result = live(model, str(path), tmp_path / "x.live", device="cpu", engine="torch", report=told)
    assert told.files == [(tmp_path / "x.live", "live")] and not (tmp_path / "x.live").exists()
    assert result["frames"] == len(frames) and result["frames"] + result["dropped"] == 12
    solver, _ = load_solver(model, "cpu", 1, "torch")
    with open_footage(path) as footage:
        want = solver.solve(np.stack([network_input(picture, solver.model.crop) for picture in footage.iterate()]))
        for number, captured, vertices in frames:
            assert np.array_equal(vertices, want[number])
            assert captured - frames[0][1] == pytest.approx(footage.times[number] - footage.times[frames[0][0]])


def test_slow_solving_drops_pictures_rather_than_lag():
    newest = Newest()
    for number in range(10):
        newest.put(number)
    assert newest.take(1) == 9 and newest.dropped == 9
    assert newest.take(0.01) is None
    newest.put(10)
    newest.end()
    assert newest.take(1) == 10 and newest.take(1) is None and newest.ended


def test_the_crop_of_other_sizes(model, tmp_path):
    told = Told()
    live(model, str(film(tmp_path / "a.mp4", 128, 96, 3)), tmp_path / "x.live", "cpu", "torch", report=told)
    assert "does not fit into pictures of 128 x 96" in told.texts[0]
    with pytest.raises(UnderstudyError, match="outside the picture of 128 x 96"):
        live(model, str(tmp_path / "a.mp4"), tmp_path / "x.live", "cpu", "torch", crop=(0, 0, 240, 320))


def test_stopping(model, tmp_path):
    with pytest.raises(Cancelled, match="Stopped after 3 frames, .* ms after they were captured"):
        live(model, str(film(tmp_path / "a.mp4", frames=200)), tmp_path / "x.live", "cpu", "torch", report=Told(3))
    assert not (tmp_path / "x.live").exists()
    assert not [thread for thread in threading.enumerate() if thread.name in ("live", "footage")]


class Camera:
    """OpenCV's camera, with so many pictures."""

    def __init__(self, pictures):
        self.pictures, self.released = list(pictures), False

    def isOpened(self):
        return bool(self.pictures)

    def read(self):
        return True, self.pictures[0]

    def set(self, *_):
        return False

    def grab(self):
        return bool(self.pictures)

    def retrieve(self):
        return True, self.pictures.pop(0)

    def release(self):
        self.released = True


def test_a_camera_that_is_pulled_out(model, tmp_path, monkeypatch):
    made = Camera(np.random.default_rng(0).integers(0, 256, (4, 352, 264, 3), np.uint8))
    gray = network_input(from_rgb(np.ascontiguousarray(made.pictures[0][..., ::-1])), Crop(12, 16, 240, 320))
    monkeypatch.setattr(livesolve.cv2, "VideoCapture", lambda number: made)
    play, size = livesolve.camera(0)
    number, captured, picture = next(play(Crop(12, 16, 240, 320)))
    assert size == (264, 352) and number == 0 and abs(captured - time.time()) < 60 and np.array_equal(picture, gray)
    made.pictures.insert(0, made.pictures[0])
    with pytest.raises(UnderstudyError, match="Camera 0 gives no more pictures"):
        live(model, "0", tmp_path / "x.live", "cpu", "torch")
    assert made.released and not (tmp_path / "x.live").exists()
    with pytest.raises(UnderstudyError, match="Camera 0 cannot be opened"):
        live(model, "0", tmp_path / "x.live", "cpu", "torch")


def test_the_command(model, tmp_path, capsys):
    path = film(tmp_path / "a.mp4", frames=80)
    assert main(["live", str(model), str(path), "--device", "cpu", "--engine", "torch", "--job",
                 str(tmp_path / "job é")]) == 0
    state = job_state(tmp_path / "job é")
    assert state.state == "done" and state.results["frames"] > 0
    assert "ms after it was captured" in capsys.readouterr().out
    assert main(["live", str(model), str(tmp_path / "absent.mp4"), "--job", str(tmp_path / "job é")]) == 1
