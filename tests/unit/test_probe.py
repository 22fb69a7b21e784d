"""Questions about footage: what it is, whether it is framed as in training, one picture of it, where the face is."""

import json
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest

from understudy.__main__ import main
from understudy.core.crop import Crop, network_input
from understudy.core.errors import UnderstudyError
from understudy.core.events import job_state
from understudy.core.footage import open_footage
from understudy.core.movie_writer import MovieWriter
from understudy.core.probe import picture, probe
from understudy.core.suggest import agreeing, fit, suggest_crop

W, H, N = 480, 400, 60
CROP = (120, 0, 300, 400)


def scene(index: int = 0) -> np.ndarray:
    """A picture with corners and lines of its own, and a spot that moves."""
    rng = np.random.default_rng(3)
    image = cv2.resize(rng.integers(40, 200, (10, 12)).astype(np.uint8), (W, H), interpolation=cv2.INTER_CUBIC)
    image[300:310, 10 + index:20 + index] = 255
    return image


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    path = tmp_path_factory.mktemp("Fuß age") / "take é.mp4"
    with MovieWriter(path, W, H, 24, keyframes=10) as writer:
        for index in range(N):
            writer.write(scene(index))
    return path


@pytest.fixture
def model(tmp_path, small_model):
    """A model of the scene, as `save_model(**changes)`."""
    def save_model(**changes):
        mean = np.mean([network_input(scene(index), Crop(*CROP)) for index in range(N)], 0)
        values = {"crop": Crop(*CROP), "reference": np.rint(mean).astype(np.uint8)}
        replace(small_model(), **values | changes).save(tmp_path / "model.safetensors")
        return tmp_path / "model.safetensors"

    return save_model


def test_the_facts_of_a_movie(movie):
    facts = probe(movie)
    with open_footage(movie) as footage:
        identity = footage.identity
    assert facts == {"width": W, "height": H, "frames": N, "fps": 24.0, "variable": False, "identity": identity,
                     "audio": False, "start_timecode": None, "warnings": [], "times": None}


def test_a_variable_rate_comes_with_the_times_of_all_frames(tmp_path):
    times = [0, 1, 3, 4, 6]  # in 30ths of a second
    with av.open(str(tmp_path / "varying.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        for time in times:
            frame = av.VideoFrame.from_ndarray(scene(time), "gray")
            frame.pts = time
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    facts = probe(tmp_path / "varying.mp4")
    assert facts["variable"] and facts["times"] == pytest.approx([time / 30 for time in times], abs=1e-5)


def test_the_facts_of_a_sequence(tmp_path):
    for number in (1001, 1002, 1003):
        cv2.imwrite(str(tmp_path / f"face.{number}.png"), scene())
    facts = probe(tmp_path / "face.####.png")
    assert (facts["width"], facts["height"], facts["frames"]) == (W, H, 3)
    assert facts["audio"] is False and facts["start_timecode"] is None


def test_sound_and_timecode_are_seen(tmp_path):
    path = tmp_path / "slate.mov"
    with av.open(str(path), "w") as container:
        picture_stream = container.add_stream("libx264", rate=24)
        picture_stream.width, picture_stream.height, picture_stream.pix_fmt = W, H, "yuv420p"
        container.metadata["timecode"] = "01:02:03:04"
        sound = container.add_stream("aac", rate=48000)
        for _ in range(5):
            container.mux(picture_stream.encode(av.VideoFrame.from_ndarray(scene(), "gray")))
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        frame.sample_rate = 48000
        container.mux(sound.encode(frame))
        container.mux(picture_stream.encode(None))
        container.mux(sound.encode(None))
    facts = probe(path)
    assert facts["audio"] is True and facts["start_timecode"] == "01:02:03:04" and facts["frames"] == 5


@pytest.mark.parametrize("suffix", ["exr", "dpx"])
def test_timecode_of_images(tmp_path, suffix):
    oiio = pytest.importorskip("OpenImageIO")
    spec = oiio.ImageSpec(32, 24, 3, "half" if suffix == "exr" else "uint16")
    spec.attribute("smpte:TimeCode", oiio.TypeDesc("timecode"), (0x10203004, 0))
    out = oiio.ImageOutput.create(str(tmp_path / f"a.0001.{suffix}"))
    assert out.open(str(tmp_path / f"a.0001.{suffix}"), spec)
    out.write_image(np.full((24, 32, 3), 0.5, np.float32))
    out.close()
    assert probe(tmp_path / f"a.0001.{suffix}")["start_timecode"] == "10:20:30:04"


def test_footage_framed_as_in_training(movie, model):
    framing = probe(movie, model())["framing"]
    assert framing["verdict"] == "same" and framing["crop"] is None


def test_another_crop_is_told_and_put_right(movie, model):
    framing = probe(movie, model(), (140, 20, 270, 360))["framing"]
    assert framing["verdict"] == "different" and "11 % larger" in framing["text"]
    assert framing["crop"] == pytest.approx(CROP, abs=2)


def test_a_crop_outside_the_picture_is_an_answer(movie, model):
    framing = probe(movie, model(crop=Crop(300, 0, 300, 400)))["framing"]
    assert framing["verdict"] == "different" and "reaches outside the picture of 480 x 400" in framing["text"]
    assert framing["shift"] is None and framing["crop"] is None


def test_a_model_without_reference_leaves_it_open(movie, model):
    assert probe(movie, model(reference=None))["framing"]["verdict"] == "unknown"


def test_the_picture_is_the_exact_input(movie, tmp_path):
    out = tmp_path / "input ü.png"
    assert picture(movie, 17, out, CROP) == (240, 320)
    with open_footage(movie) as footage:
        wanted = network_input(footage.read(17), Crop(*CROP))
    assert np.array_equal(cv2.imdecode(np.fromfile(out, np.uint8), cv2.IMREAD_UNCHANGED), wanted)


def test_the_picture_of_a_replaced_movie_is_the_new_one(tmp_path):
    levels = []
    for level in (50, 200):
        film(tmp_path / "take.mp4", [np.full((H, W), level, np.uint8)] * 3)
        picture(tmp_path / "take.mp4", 1, tmp_path / "p.png", CROP)
        levels.append(cv2.imread(str(tmp_path / "p.png"), cv2.IMREAD_UNCHANGED).mean())
    assert levels == pytest.approx([50, 200], abs=2)


def test_a_whole_picture_is_a_thumbnail_at_most(movie, tmp_path):
    assert picture(movie, 0, tmp_path / "whole.png") == (W, H)
    large = tmp_path / "large.0001.png"
    cv2.imwrite(str(large), np.zeros((600, 4096), np.uint8))
    assert picture(large, 0, tmp_path / "thumbnail.png") == (1024, 150)


def test_a_picture_that_is_not_there_gets_a_sentence(movie, tmp_path):
    with pytest.raises(UnderstudyError, match="60 frames, 0 to 59"):
        picture(movie, 60, tmp_path / "p.png")
    with pytest.raises(UnderstudyError, match="reaches outside"):
        picture(movie, 0, tmp_path / "p.png", (300, 0, 300, 400))
    with pytest.raises(UnderstudyError, match="Cannot write"):
        picture(movie, 0, tmp_path / "absent" / "p.png")
    assert not list(tmp_path.iterdir())


def test_frames_that_are_quick_to_read_lie_all_over(movie):
    with open_footage(movie) as footage:
        assert footage.spread(6).tolist() == [0, 10, 20, 30, 40, 50]
        assert np.array_equal(footage.spread(1000), np.arange(N))
        many = footage.spread(24)
    assert len(many) == 24 and many[0] == 0 and many[-1] == N - 1 and (np.diff(many) > 0).all()


def test_programs_find_the_answer_in_a_job(movie, tmp_path, capfd):
    assert main(["probe", str(movie), "--job", str(tmp_path / "job")]) == 0
    state = job_state(tmp_path / "job")
    assert state.state == "done" and state.command == "probe" and state.results == probe(movie)
    assert main(["probe", str(tmp_path / "absent.mov"), "--job", str(tmp_path / "other")]) == 1
    state = job_state(tmp_path / "other")
    assert state.state == "failed" and "does not exist" in state.text


def test_people_get_the_answer_at_once(movie, model, tmp_path, capfd):
    assert main(["probe", str(movie), "--model", str(model()), "--crop", "140", "20", "270", "360"]) == 0
    out = capfd.readouterr().out
    assert "480 x 400 pixels, 60 frames, 24 per second, no sound" in out and "This would fit: --crop 1" in out
    assert main(["picture", str(movie), "--frame", "3", "--out", str(tmp_path / "p.png"), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["width"] == W
    assert (tmp_path / "p.png").is_file() and not list(tmp_path.glob("*.job"))


def face(x: float, y: float, width: float, size=(640, 400), mouth: float = 0.0) -> np.ndarray:
    """A drawn face, `width` from cheek to cheek, on a plain background."""
    picture = np.full(size[::-1], 90, np.uint8)

    def blob(dx: float, dy: float, rx: float, ry: float, level: int) -> None:
        cv2.ellipse(picture, (round(x + dx * width), round(y + dy * width)), (round(rx * width), round(ry * width)), 0,
                    0, 360, level, -1, cv2.LINE_AA)

    blob(0, 0, 0.5, 0.68, 190)
    for side in (-1, 1):
        blob(0.2 * side, -0.27, 0.13, 0.025, 70)
        blob(0.2 * side, -0.15, 0.11, 0.06, 100)
        blob(0.2 * side, -0.15, 0.04, 0.04, 30)
    blob(0, 0.05, 0.035, 0.14, 225)
    blob(0, 0.18, 0.09, 0.03, 120)
    blob(0, 0.36, 0.18, 0.03 + mouth, 80)
    return cv2.GaussianBlur(picture, (0, 0), width / 100)


def film(path, pictures):
    with MovieWriter(path, *pictures[0].shape[::-1], 24, keyframes=2) as writer:
        for each in pictures:
            writer.write(each)
    return path


def test_a_crop_is_laid_around_the_face(tmp_path):
    path = film(tmp_path / "face é.mp4", [face(430 + 6 * np.sin(k), 190, 150, mouth=0.03 * (k % 3)) for k in range(24)])
    found = suggest_crop(path)
    assert "face detector in 2" in found.how and found.confidence > 0.8
    found.crop.check(640, 400)
    assert found.crop.x < 430 - 75 and found.crop.x + found.crop.width > 430 + 75  # cheek to cheek
    assert found.crop.y < 190 - 60 and found.crop.y + found.crop.height > 190 + 100  # brows to chin
    assert found.crop.width < 2 * 150


def test_a_face_seen_now_and_then_is_not_believed():
    here, there = np.array([[100.0, 100, 50]]), np.array([[300.0, 200, 60], [100, 104, 52]])
    nothing = np.empty((0, 3))
    assert len(agreeing([nothing, here, there, nothing, here])) == 3
    assert agreeing([nothing, nothing]).shape == (0, 3)


def test_where_no_face_is_found_the_crop_holds_what_moves(tmp_path):
    def bar(k):
        picture = np.full((300, 400), 60, np.uint8)
        picture[100:190, 200 + 4 * k:230 + 4 * k] = 200
        return picture

    found = suggest_crop(film(tmp_path / "bar.mp4", [bar(k) for k in range(20)]))
    assert found.how == "motion" and found.confidence <= 0.3
    found.crop.check(400, 300)
    assert found.crop.x < 215 and found.crop.x + found.crop.width > 290
    assert found.crop.y < 115 and found.crop.y + found.crop.height > 175


def test_where_nothing_moves_the_crop_is_the_picture(tmp_path):
    cv2.imwrite(str(tmp_path / "gray.0001.png"), np.full((400, 300), 128, np.uint8))
    found = suggest_crop(tmp_path)
    assert (found.how, found.confidence, found.crop) == ("whole picture", 0.0, Crop(0, 0, 300, 400))


def test_a_crop_is_suggested_without_the_detector(tmp_path, monkeypatch):
    path = film(tmp_path / "face.mp4", [face(200 + 3 * k, 150, 120, (400, 300)) for k in range(12)])
    monkeypatch.delattr(cv2, "CascadeClassifier")
    assert suggest_crop(path).how == "motion"


@pytest.mark.parametrize("size", [(24, 32), (640, 33), (25, 400), (1920, 1080)])
def test_every_suggestion_fits_the_picture(size):
    for x, y, width, height in ((0, 0, 10, 10), (size[0], size[1], 1e4, 1e4), (size[0] / 2, 0, 100, 3)):
        fit(x, y, width, height, size).check(*size)
