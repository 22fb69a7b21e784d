import random
import re
import shutil
import struct
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import understudy
from understudy.core import gray, movie
from understudy.core.crop import Crop, network_input
from understudy.core.errors import UnderstudyError
from understudy.core.footage import AHEAD, open_footage
from understudy.core.movie_writer import MovieWriter

W, H, N = 96, 64, 40
OTTO = Path(understudy.__file__).parent.parent / "shared" / "actors" / "otto"


def coded(number: int, width: int = W, height: int = H) -> np.ndarray:
    """A picture that carries its number: eight bits, black or white, in blocks of 4 x 2."""
    bits = np.array([number >> bit & 1 for bit in range(8)], np.uint8).reshape(2, 4)
    return np.kron(30 + 190 * bits, np.ones((height // 2, width // 4), np.uint8))


def number(picture: np.ndarray) -> int:
    """The number that a picture carries, whatever a codec did to it."""
    height, width = picture.shape[0] // 2, picture.shape[1] // 4
    blocks = picture[:2 * height, :4 * width].reshape(2, height, 4, width).mean((1, 3))
    return sum(int(bit) << index for index, bit in enumerate((blocks > 125).ravel()))


def make_movie(path: Path, frames: int = N, **settings) -> Path:
    with MovieWriter(path, W, H, **settings) as writer:
        for index in range(frames):
            writer.write(coded(index))
    return path


def make_timed(path: Path, stamps: list[int], rate: int = 1000, matrix: tuple = (), sound: bool = False) -> Path:
    """A movie with these time stamps in units of 1 / rate seconds, or a rotation, or sound without pictures."""
    with av.open(str(path), "w") as container:
        if sound:
            stream = container.add_stream("aac", rate=48000)
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
            frame.sample_rate = 48000
            container.mux(stream.encode(frame))
        else:
            stream = container.add_stream("libx264", rate=30)
            stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
            stream.codec_context.time_base = Fraction(1, rate)
            if matrix:
                stream.set_display_rotation(*matrix)
            for index, stamp in enumerate(stamps):
                frame = av.VideoFrame.from_ndarray(coded(index), "gray")
                frame.pts, frame.time_base = stamp, Fraction(1, rate)
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def remux(path: Path, to: Path, **options: str) -> Path:
    """Copy the packets of a movie into another container."""
    with av.open(str(path)) as source, av.open(str(to), "w", options=options) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    return to


def refused(path: Path, *words: str) -> None:
    """Opening or reading the footage gives one sentence with these words."""
    with pytest.raises(UnderstudyError) as caught, open_footage(path) as footage:
        list(footage.iterate())
    assert path.name in str(caught.value)
    for word in words:
        assert word in str(caught.value)


x264 = {"keyframes": 12, "bframes": 3}
MOVIES = {
    "h264 in mp4": ("a.mp4", x264),
    "h264 in mov": ("a.mov", x264),
    "h264 in mkv": ("a.mkv", x264),
    "h264 in avi, whose time stamps are made up": ("a.avi", x264),
    "h264 with open groups": ("a.mp4", x264 | {"options": {"x264-params": "open-gop=1:b-adapt=0"}}),
    "h264 refreshed piece by piece": ("a.mkv", {"keyframes": 10, "bframes": 0,
                                                "options": {"x264-params": "intra-refresh=1"}}),
    "h264 in one group": ("a.mp4", {}),
    "h264 rgb": ("a.mkv", {"codec": "libx264rgb", "pixels": "rgb24"}),
    "h265": ("a.mp4", {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=12:open-gop=1"}}),
    "h265 10 bit": ("a.mov", {"codec": "libx265", "pixels": "yuv420p10le",
                              "options": {"x265-params": "log-level=none"}}),
    "prores": ("a.mov", {"codec": "prores_ks", "pixels": "yuv422p10le"}),
    "prores in mkv": ("a.mkv", {"codec": "prores_ks", "pixels": "yuv422p10le"}),
    "mjpeg in avi": ("a.avi", {"codec": "mjpeg", "pixels": "yuvj420p"}),
    "mjpeg in mkv": ("a.mkv", {"codec": "mjpeg", "pixels": "yuvj420p"}),
    "mjpeg in mov": ("a.mov", {"codec": "mjpeg", "pixels": "yuvj420p"}),
    "mpeg4 in avi": ("a.avi", {"codec": "mpeg4", "bframes": 2, "keyframes": 12}),
    "gray": ("a.mkv", {"codec": "ffv1", "pixels": "gray"}),
    "gray 10 bit": ("a.mkv", {"codec": "ffv1", "pixels": "gray10le"}),
    "packed yuv": ("a.avi", {"codec": "rawvideo", "pixels": "yuyv422"}),
    "uncompressed rgb": ("a.avi", {"codec": "rawvideo", "pixels": "bgr24"}),
}


def encoder_is_there(name: str) -> bool:
    try:
        return bool(av.codec.Codec(name, "w"))
    except av.codec.codec.UnknownCodecError:
        return False


@pytest.mark.parametrize("name", MOVIES)
def test_any_order_gives_the_pictures_that_reading_in_order_gives(tmp_path, name):
    file, settings = MOVIES[name]
    if not encoder_is_there(settings.get("codec", "libx264")):
        pytest.skip("this PyAV has no such encoder")
    with open_footage(make_movie(tmp_path / file, **settings)) as footage:
        in_order = list(footage.iterate())
        assert [number(picture) for picture in in_order] == list(range(N))
        assert (footage.frames, footage.width, footage.height, footage.variable) == (N, W, H, False)
        assert footage.fps == 30
        np.testing.assert_allclose(footage.times, np.arange(N) / 30, atol=0.001)
        order = [*range(N), *range(N)[::-1], *range(0, N, 3)]
        random.Random(1).shuffle(order)
        for index in [*order, 0, 0, N - 1, N - 1, 5, 6, 7, 30]:
            np.testing.assert_array_equal(footage.read(index), in_order[index], err_msg=f"frame {index}")
        for start, stop in ((0, 1), (17, 30), (N - 1, N), (8, 8)):
            for index, picture in zip(range(start, stop), footage.iterate(start, stop), strict=True):
                np.testing.assert_array_equal(picture, in_order[index])


def test_dnxhd(tmp_path):
    with MovieWriter(tmp_path / "a.mov", 256, 128, codec="dnxhd", pixels="yuv422p",
                     options={"profile": "dnxhr_hq"}) as writer:
        for index in range(9):
            writer.write(coded(index, 256, 128))
    with open_footage(tmp_path / "a.mov") as footage:
        assert [number(footage.read(index)) for index in (8, 3, 4, 0)] == [8, 3, 4, 0]
        assert [number(picture) for picture in footage.iterate()] == list(range(9))


@pytest.mark.parametrize("rate", [24, Fraction(24000, 1001), 25, Fraction(30000, 1001), 59.94, 120])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_frame_rate_is_exact_and_rounded_time_stamps_are_not_taken_for_a_variable_rate(tmp_path, rate, suffix):
    with open_footage(make_movie(tmp_path / f"a{suffix}", fps=float(rate), bframes=0)) as footage:
        assert footage.fps == pytest.approx(float(rate), rel=1e-4)
        assert not footage.variable


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_frame_rate_is_noticed_and_no_frame_is_repeated_or_dropped(tmp_path, suffix):
    stamps = np.cumsum([500, *[33, 34, 33] * 4, *[50] * 12, 100, *[33] * 10]).tolist()
    with open_footage(make_timed(tmp_path / f"a{suffix}", stamps)) as footage:
        assert footage.frames == len(stamps)
        assert footage.variable
        assert "33.0 to 100.0 ms" in footage.warnings[0]
        assert footage.fps == pytest.approx((len(stamps) - 1) / (stamps[-1] - stamps[0]) * 1000)
        np.testing.assert_allclose(footage.times, (np.array(stamps) - stamps[0]) / 1000, atol=1e-6)
        assert [number(picture) for picture in footage.iterate()] == list(range(len(stamps)))
        assert number(footage.read(25)) == 25


@pytest.mark.parametrize(("matrix", "upright"), [
    ((90, False, False), lambda p: np.rot90(p)),
    ((180, False, False), lambda p: np.rot90(p, 2)),
    ((-90, False, False), lambda p: np.rot90(p, -1)),
    ((0, True, False), lambda p: p[:, ::-1]),
    ((0, False, True), lambda p: p[::-1]),
])
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_rotation_in_the_metadata_is_honoured(tmp_path, matrix, upright, suffix):
    with open_footage(make_timed(tmp_path / f"a{suffix}", [0, 33], matrix=matrix)) as footage:
        expected = upright(coded(1)).astype(int)
        assert (footage.height, footage.width) == expected.shape
        assert np.abs(footage.read(1) - expected).mean() < 6


def test_an_edit_list_hides_the_frames_before_its_start(tmp_path):
    data = bytearray(make_movie(tmp_path / "a.mp4", **x264).read_bytes())
    entry = data.find(b"elst") + 12  # version, count, then duration, media time, rate
    duration, media_time = struct.unpack_from(">Ii", data, entry)
    ticks = 512  # of a frame, in the 1 / 15360 s of this file
    struct.pack_into(">Ii", data, entry, duration, media_time + 5 * ticks)
    (tmp_path / "edited.mp4").write_bytes(data)
    with open_footage(tmp_path / "edited.mp4") as footage:
        assert [number(picture) for picture in footage.iterate()] == list(range(5, N))
        assert [number(footage.read(index)) for index in (20, 0, 7)] == [25, 5, 12]
        assert footage.times[0] == 0
        assert not footage.warnings  # the list was right at once


@pytest.mark.parametrize("settings", [x264, {"codec": "prores_ks", "pixels": "yuv422p10le"}])
def test_a_movie_in_fragments_is_read_to_its_end(tmp_path, settings):
    path = make_movie(tmp_path / "a.mov", **settings)
    for flags in ("frag_keyframe+empty_moov", "frag_keyframe"):
        with open_footage(remux(path, tmp_path / "b.mov", movflags=flags)) as footage:
            assert [number(picture) for picture in footage.iterate()] == list(range(N))
            assert [number(footage.read(index)) for index in (30, 2, 39)] == [30, 2, 39]


def test_time_stamps_that_cannot_tell_frames_apart_are_not_believed(tmp_path):
    data = make_movie(tmp_path / "a.mov", codec="prores_ks", pixels="yuv422p10le").read_bytes()
    table = data.find(b"stts") + 12  # one entry: 40 frames of 512 ticks
    assert struct.unpack_from(">II", data, table) == (N, 512)
    (tmp_path / "still.mov").write_bytes(data[:table + 4] + struct.pack(">I", 0) + data[table + 8:])
    for path in (tmp_path / "still.mov", make_movie(tmp_path / "b.avi", **x264)):
        with open_footage(path) as footage:
            assert "had to be decoded once" in footage.warnings[0]
            assert [number(picture) for picture in footage.iterate(10)] == list(range(10, N))
            assert [number(footage.read(index)) for index in (30, 31, 2, 2, 39, 0)] == [30, 31, 2, 2, 39, 0]
            assert len(footage.times) == footage.frames == N
    np.testing.assert_allclose(footage.times, np.arange(N) / 30)  # of the AVI, where the rate at least is true


def test_an_avi_whose_pictures_are_reordered_late_is_read_in_the_order_shown(tmp_path):
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"bf": "3", "x264-params": "b-adapt=0"})
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        for index in range(N):
            frame = av.VideoFrame.from_ndarray(coded(index), "gray").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 30)
            frame.pict_type = av.video.frame.PictureType.P if index < 20 else av.video.frame.PictureType.NONE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with open_footage(tmp_path / "a.avi") as footage:
        assert [number(picture) for picture in footage.iterate()] == list(range(N))
        assert [number(footage.read(index)) for index in (35, 21, 22, 3)] == [35, 21, 22, 3]


def test_an_intra_movie_is_indexed_as_its_packets_would_be(tmp_path):
    path = make_movie(tmp_path / "a.mov", codec="prores_ks", pixels="yuv422p10le")
    with av.open(str(path)) as container:
        stamps = [float(packet.pts * packet.time_base) for packet in container.demux(video=0) if packet.size]
    with open_footage(path) as footage:
        np.testing.assert_allclose(footage.times, stamps)


@pytest.mark.parametrize(("pixels", "tolerance"), [("yuv420p", 1), ("yuvj420p", 0), ("yuv420p10le", 1), ("yuv444p", 1)])
def test_gray_is_the_luma_in_full_range(tmp_path, pixels, tolerance):
    ramp = np.tile(np.arange(256, dtype=np.uint8), (32, 1))
    with MovieWriter(tmp_path / "a.mp4", 256, 32, pixels=pixels, crf=None, options={"qp": "0"}) as writer:
        writer.write(ramp)
    with open_footage(tmp_path / "a.mp4") as footage:
        assert np.abs(footage.read(0).astype(int) - ramp).max() <= tolerance


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_expanding_luma_rounds(bits):
    levels = np.arange(1 << bits, dtype=np.uint8 if bits == 8 else np.uint16)[None]
    black, span = 16 << bits - 8, 219 << bits - 8
    exact = np.clip((levels.astype(float) - black) / span, 0, 1) * 255
    assert np.abs(gray.expand(levels, bits, full=False) - exact).max() <= 0.5 + 1e-6
    assert np.abs(gray.expand(levels, bits, full=True) - levels / ((1 << bits) - 1) * 255.0).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("layout", ["yuyv422", "uyvy422", "nv12", "p010le", "yuv422p12le", "yuv420p10be", "gray16be",
                                    "yuva444p", "rgb24", "bgra", "gbrp", "gbrp10le", "rgb48be"])
def test_every_pixel_layout_gives_the_same_gray(layout):
    ramp = np.tile(np.arange(16, 236, dtype=np.uint8), (16, 1))
    frame = av.VideoFrame.from_ndarray(ramp, "gray").reformat(format=layout, src_color_range=2)
    assert np.abs(gray.from_video(frame).astype(int) - ramp).max() <= 1


def test_rgb_becomes_gray_with_rec_709_weights(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    with MovieWriter(tmp_path / "a.mkv", 32, 32, codec="ffv1", pixels="bgr0") as writer:
        writer.write(colours)
    with open_footage(tmp_path / "a.mkv") as footage:
        assert np.abs(footage.read(0) - colours @ [0.2126, 0.7152, 0.0722]).max() <= 0.51


# Bad movies

def test_what_is_no_movie_gets_a_sentence(tmp_path):
    (tmp_path / "empty.mp4").touch()
    refused(tmp_path / "empty.mp4", "is empty")
    (tmp_path / "text.mp4").write_text("Dear diary\n" * 100)
    refused(tmp_path / "text.mp4", "cannot be read as a movie")
    refused(tmp_path / "none.mp4", "does not exist")
    refused(make_timed(tmp_path / "sound.mp4", [], sound=True), "holds no video")


def test_a_playlist_does_not_open_other_files(tmp_path):
    make_movie(tmp_path / "other.mp4", 3)
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile other.mp4\n")
    refused(tmp_path / "list.mp4", "cannot be read as a movie")


@pytest.mark.parametrize(("file", "settings"), [
    ("a.mov", {"codec": "prores_ks", "pixels": "yuv422p10le"}),
    ("a.mp4", {"crf": 1, "bframes": 0}),
    ("a.mkv", {"codec": "mjpeg", "pixels": "yuvj420p"}),
    ("a.avi", {"codec": "mjpeg", "pixels": "yuvj420p"}),
])
@pytest.mark.parametrize("inside", [True, False])
def test_a_movie_that_is_cut_off_says_where(tmp_path, file, settings, inside):
    path = make_movie(tmp_path / file, **settings)
    with av.open(str(path)) as container:
        start, size = [(packet.pos, packet.size) for packet in container.demux(video=0)][23]
    (tmp_path / f"cut_{file}").write_bytes(path.read_bytes()[:start + size // 2 if inside else start])
    refused(tmp_path / f"cut_{file}", "breaks off at frame 23", "Copy it again")


def test_a_movie_cut_off_before_its_index_says_so(tmp_path):
    data = make_movie(tmp_path / "a.mp4").read_bytes()
    head, index = data.find(b"moov") - 4, data.find(b"mdat") - 4
    late = data[:head] + data[index:]  # as recorders write it: the pictures first
    (tmp_path / "cut.mp4").write_bytes(late)
    refused(tmp_path / "cut.mp4", "moov", "copy it again")


def test_a_damaged_frame_is_named_and_the_others_can_be_read(tmp_path):
    path = make_movie(tmp_path / "a.mov", codec="prores_ks", pixels="yuv422p10le")
    with av.open(str(path)) as container:
        packet = [(packet.pos, packet.size) for packet in container.demux(video=0)][17]
    data = bytearray(path.read_bytes())
    data[packet[0]:sum(packet)] = bytes(packet[1])
    path.write_bytes(data)
    with open_footage(path) as footage:
        with pytest.raises(UnderstudyError, match="Frame 17 of .* cannot be decoded"):
            list(footage.iterate())
        with pytest.raises(UnderstudyError, match="Frame 17 of .* cannot be decoded"):
            footage.read(17)
        assert [number(footage.read(index)) for index in (18, 39, 16)] == [18, 39, 16]


def test_a_picture_size_that_no_camera_has_is_refused(tmp_path):
    path = make_movie(tmp_path / "a.avi", 2, codec="rawvideo", pixels="yuyv422")
    data = path.read_bytes()
    size = data.find(b"strf") + 12
    assert struct.unpack_from("<II", data, size) == (W, H)
    for wide in (20_000, 60_000):
        path.write_bytes(data[:size] + struct.pack("<II", wide, wide // 10) + data[size + 8:])
        refused(path, "1 to 16384 a side are possible")


# Iterating

def footage_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "footage"]


def test_iterating_stays_a_few_frames_ahead_and_ends_its_thread_when_closed(tmp_path):
    decoded = []
    with open_footage(make_movie(tmp_path / "a.mp4")) as footage:
        pictures = footage.iterate(transform=lambda picture: decoded.append(1) or number(picture))
        assert next(pictures) == 0
        footage_threads()[0].join(0.3)  # it would be done by now, were it not held back
        assert len(decoded) <= AHEAD + 2
        assert next(pictures) == 1
        pictures.close()
        assert not footage_threads()
        for picture in footage.iterate():
            assert picture.shape == (H, W)
            break
        del picture
        assert list(footage.iterate(3, 6, number)) == [3, 4, 5]
    assert not footage_threads()


def test_two_iterators_and_reading_do_not_disturb_one_another(tmp_path):
    with open_footage(make_movie(tmp_path / "a.mp4", **x264)) as footage:
        for index, (one, two) in enumerate(zip(footage.iterate(0, 20), footage.iterate(10, 30), strict=True)):
            assert (number(one), number(two), number(footage.read(N - 1 - index))) == (index, index + 10, N - 1 - index)


def test_an_error_in_the_thread_is_raised_where_the_pictures_are_used(tmp_path):
    def transform(picture):
        if number(picture) == 5:
            raise ValueError("five")
        return number(picture)

    seen = []
    with open_footage(make_movie(tmp_path / "a.mp4")) as footage, pytest.raises(ValueError, match="five"):
        seen.extend(footage.iterate(2, transform=transform))
    assert not footage_threads()


def test_a_frame_that_is_not_there_gets_a_sentence(tmp_path):
    with open_footage(make_movie(tmp_path / "a.mp4", 5)) as footage:
        for ask in (lambda: footage.read(5), lambda: footage.read(-1), lambda: footage.iterate(0, 6)):
            with pytest.raises(UnderstudyError, match="has 5 frames, 0 to 4"):
                ask()


@pytest.mark.parametrize("matrix", [(), (90,), (180, True, False)])
def test_a_window_is_a_part_of_the_whole_picture(tmp_path, matrix):
    make_timed(tmp_path / "a.mp4", [0, 40, 80], matrix=matrix)
    with open_footage(tmp_path / "a.mp4") as footage:
        whole = list(footage.iterate())
        for picture, part in zip(whole, footage.iterate(window=(6, 8, 50, 60)), strict=True):
            assert np.array_equal(part, picture[8:60, 6:50])
        crop = Crop.largest(footage.width, footage.height)
        for picture, got in zip(whole, footage.inputs(crop), strict=True):
            assert np.array_equal(got, network_input(picture, crop))


def test_hardware_that_does_not_decode_is_told_and_not_used(tmp_path, monkeypatch):
    with open_footage(make_movie(tmp_path / "a.mp4", 5)) as footage:
        assert re.search("by the processor, because steam does not do it: .", footage.use_hardware("steam"))
        assert [number(picture) for picture in footage.iterate()] == list(range(5))

        readers = []
        monkeypatch.setattr(movie, "_accelerator", lambda name: readers.append(name))
        assert footage.use_hardware("good") == ""
        assert [number(picture) for picture in footage.iterate()] == list(range(5))
        assert readers.count("good") == 2

        monkeypatch.setattr(movie.Movie, "gray", lambda self, frame, index, window=None: np.full((H, W), next(values)))
        values = iter(range(9))
        assert "decodes other pixels" in footage.use_hardware("other")
        assert "other" in readers and list(footage.iterate(0, 1)) and readers[-1] == "good"


def test_an_unknown_transfer_curve_gets_a_sentence(tmp_path):
    with pytest.raises(UnderstudyError, match="'PQ' is unknown; known: sRGB"):
        open_footage(make_movie(tmp_path / "a.mp4", 2), transfer="PQ")


def test_a_movie_that_was_replaced_is_read_anew(tmp_path):
    for count in (5, 7):
        with MovieWriter(tmp_path / "x.mp4", 64, 48, 25) as movie:
            for _ in range(count):
                movie.write(np.zeros((48, 64), np.uint8))
        for _ in range(2):
            with open_footage(tmp_path / "x.mp4") as footage:
                assert footage.frames == len(list(footage.iterate())) == count


def test_identity_follows_the_content_and_not_the_name(tmp_path):
    first = make_movie(tmp_path / "a.mp4", 5)
    other = make_movie(tmp_path / "b.mp4", 6)
    shutil.copy(first, tmp_path / "c.mp4")
    identities = [open_footage(path).identity for path in (first, other, tmp_path / "c.mp4")]
    assert identities[0] == identities[2] != identities[1]


def test_any_path_will_do(tmp_path):
    folder = tmp_path / "Aufnahme 1 für Zoë %d [x]"
    folder.mkdir()
    with open_footage(make_movie(folder / "tête à tête: 50%.mp4", 3)) as footage:
        assert number(footage.read(2)) == 2


# Writing

def test_a_movie_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(ZeroDivisionError), MovieWriter(tmp_path / "a.mp4", W, H) as writer:
        writer.write(coded(0))
        1 / 0  # noqa: B018
    with pytest.raises(UnderstudyError, match="63 x 64 pixels"), MovieWriter(tmp_path / "a.mp4", 63, H):
        pass
    with pytest.raises(UnderstudyError, match="a.xyz"), MovieWriter(tmp_path / "a.xyz", W, H):
        pass
    assert not list(tmp_path.iterdir())
    with pytest.raises(UnderstudyError, match="Cannot write"), MovieWriter(tmp_path / "none" / "a.mp4", W, H):
        pass


def test_a_colour_movie_keeps_its_luma(tmp_path):
    picture = np.zeros((H, W, 3), np.uint8)
    picture[:] = 200, 50, 20
    with MovieWriter(tmp_path / "a.mp4", W, H) as writer:
        writer.write(picture)
    with open_footage(tmp_path / "a.mp4") as footage:
        assert abs(footage.read(0).mean() - picture[0, 0] @ [0.2126, 0.7152, 0.0722]) < 1.5


# Real footage

@pytest.mark.skipif(not OTTO.is_dir(), reason="no shared actor")
def test_otto_has_a_frame_for_every_sample():
    for path in sorted(OTTO.glob("*.mp4")):
        with open_footage(path) as footage, np.load(path.with_suffix(".npz")) as samples:
            assert footage.frames == len(samples["coef"]), path.name
            assert not footage.warnings


@pytest.mark.skipif(not OTTO.is_dir(), reason="no shared actor")
def test_otto_reads_the_same_in_any_order():
    with open_footage(OTTO / "scene_b.mp4") as footage:
        in_order = list(footage.iterate())
        assert len(in_order) == footage.frames
        for index in random.Random(2).sample(range(footage.frames), 30):
            np.testing.assert_array_equal(footage.read(index), in_order[index])
