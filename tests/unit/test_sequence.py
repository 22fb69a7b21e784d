import struct
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from understudy.core import image
from understudy.core.errors import UnderstudyError
from understudy.core.footage import open_footage

H, W = 24, 32
RAMP = np.tile(np.arange(W, dtype=np.uint8) * 8, (H, 1))  # 0 .. 248 from left to right
COLOURS = np.random.default_rng(0).integers(0, 256, (H, W, 3), np.uint8)
LUMA = COLOURS @ np.array([0.2126, 0.7152, 0.0722])


def save(path: Path, picture: np.ndarray) -> Path:
    """Write with OpenCV; colours are RGB."""
    path.parent.mkdir(exist_ok=True)
    data = cv2.imencode(path.suffix, picture[..., ::-1] if picture.ndim == 3 else picture)[1]
    path.write_bytes(data.tobytes())
    return path


def save_oiio(path: Path, pixels: np.ndarray, kind: str, origin=(0, 0), full=None, **attributes) -> Path:
    """Write with OpenImageIO. origin : x, y of the data window.    full : width, height of the display window."""
    oiio = pytest.importorskip("OpenImageIO")
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    spec = oiio.ImageSpec(pixels.shape[1], pixels.shape[0], pixels.shape[2], kind)
    spec.x, spec.y = origin
    if full:
        spec.full_x, spec.full_y, (spec.full_width, spec.full_height) = 0, 0, full
    for name, value in attributes.items():
        spec.attribute(name.replace("__", ":"), value)
    output = oiio.ImageOutput.create(str(path))
    assert output.open(str(path), spec) and output.write_image(np.ascontiguousarray(pixels)), output.geterror()
    output.close()
    return path


def srgb(linear: np.ndarray) -> np.ndarray:
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def make_sequence(folder: Path, numbers, name: str = "face.{:04d}.png") -> Path:
    for index in numbers:
        save(folder / name.format(index), np.full((H, W), index % 256, np.uint8))
    return folder


def numbers(path: Path) -> list[int]:
    with open_footage(path) as footage:
        pictures = [int(picture[0, 0]) for picture in footage.iterate()]
        assert footage.frames == len(pictures) == len(footage.times)
        assert [int(footage.read(index)[0, 0]) for index in reversed(range(footage.frames))] == pictures[::-1]
        return pictures


# Which files

@pytest.mark.parametrize("path", ["", "face.####.png", "face.%04d.png", "face.#.png", "face.%d.png", "face.0007.png"])
def test_a_folder_a_pattern_or_one_image_stand_for_the_sequence(tmp_path, path):
    folder = make_sequence(tmp_path / "Zoë, take 1", range(5, 15))
    (folder / "notes.txt").touch()
    (folder / "._face.0005.png").touch()
    with open_footage(folder / path) as footage:
        assert (footage.frames, footage.width, footage.height, footage.fps) == (10, W, H, 30)
        assert footage.times[3] == pytest.approx(0.1)
    assert numbers(folder / path) == list(range(5, 15))


def test_numbers_sort_as_numbers(tmp_path):
    assert numbers(make_sequence(tmp_path / "a", range(8, 13), "{}.png")) == [8, 9, 10, 11, 12]
    assert numbers(make_sequence(tmp_path / "b", range(8, 13), "face2_{}_v3a.png") / "face2_##_v3a.png") == [10, 11, 12]
    assert numbers(save(tmp_path / "still.png", np.full((H, W), 77, np.uint8))) == [77]


def test_missing_images_are_named(tmp_path):
    folder = make_sequence(tmp_path / "a", [998, 999, 1001, 1002, 1010])
    for path in (folder, folder / "face.####.png", folder / "face.1001.png"):
        with pytest.raises(UnderstudyError, match=r"face.1000.png, face.1003.png, face.1004.png and 5 more missing"):
            open_footage(path)
    make_sequence(tmp_path / "b", [8, 10], "{}.png")
    with pytest.raises(UnderstudyError, match="b: 9.png missing"):
        open_footage(tmp_path / "b")
    make_sequence(tmp_path / "c", [1, 99999999999], "{}.png")
    with pytest.raises(UnderstudyError, match="2.png, 3.png, 4.png and 99999999994 more"):
        open_footage(tmp_path / "c")


def test_two_images_with_one_number_are_named(tmp_path):
    make_sequence(tmp_path / "a", [1, 2], "{}.png")
    with pytest.raises(UnderstudyError, match="01.png and 1.png have the same number"):
        open_footage(make_sequence(tmp_path / "a", [1], "{:02d}.png"))


def test_a_folder_needs_one_sequence(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(UnderstudyError, match="a holds no images"):
        open_footage(tmp_path / "a")
    make_sequence(tmp_path / "a", range(3))
    save(tmp_path / "a" / "slate.jpg", RAMP)
    with open_footage(tmp_path / "a") as footage:
        assert footage.frames == 3 and "1 other images" in footage.warnings[0]
    make_sequence(tmp_path / "a", range(3), "body.{}.png")
    with pytest.raises(UnderstudyError, match="2 sequences, starting with body.0.png, face.0000.png"):
        open_footage(tmp_path / "a")
    for path, words in (("face.#####.png", "No image"), ("no.png", "does not exist"), ("b/c.#.png", "does not exist")):
        with pytest.raises(UnderstudyError, match=words):
            open_footage(tmp_path / "a" / path)


def test_images_of_differing_sizes_are_named(tmp_path):
    folder = make_sequence(tmp_path / "a", range(5))
    save(folder / "face.0003.png", RAMP[:, 1:])
    with open_footage(folder) as footage, pytest.raises(UnderstudyError, match="face.0003.png has 31 x 24 pixels"):
        list(footage.iterate())


def test_identity_follows_names_and_sizes(tmp_path):
    one, two = make_sequence(tmp_path / "a", range(3)), make_sequence(tmp_path / "b", range(3))
    assert open_footage(one).identity == open_footage(two).identity
    assert open_footage(one).identity != open_footage(make_sequence(tmp_path / "b", [3])).identity


# What is in them

def read(path: Path) -> np.ndarray:
    with open_footage(path) as footage:
        return footage.read(0).astype(float)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_and_tiff_of_8_and_16_bits(tmp_path, suffix, dtype):
    scale = 257 if dtype == np.uint16 else 1
    assert np.abs(read(save(tmp_path / f"gray{suffix}", RAMP.astype(dtype) * scale)) - RAMP).max() == 0
    assert np.abs(read(save(tmp_path / f"rgb{suffix}", COLOURS.astype(dtype) * scale)) - LUMA).max() <= 0.51
    rgba = np.dstack([COLOURS, RAMP]).astype(dtype) * scale
    (tmp_path / f"rgba{suffix}").write_bytes(cv2.imencode(suffix, rgba[..., [2, 1, 0, 3]])[1].tobytes())
    assert np.abs(read(tmp_path / f"rgba{suffix}") - LUMA).max() <= 0.51


def test_jpeg_gives_its_luma(tmp_path):
    assert np.abs(read(save(tmp_path / "gray.jpg", RAMP)) - RAMP).max() <= 2
    flat = np.zeros((H, W, 3), np.uint8)
    flat[:] = 200, 100, 30
    assert np.abs(read(save(tmp_path / "rgb.jpg", flat)) - flat[0, 0] @ [0.299, 0.587, 0.114]).max() <= 1  # JFIF's luma


@pytest.mark.parametrize(("suffix", "kind"), [(".exr", "half"), (".exr", "float"), (".tif", "float"), (".tif", "half")])
def test_floating_point_is_linear_and_encoded_with_the_srgb_curve(tmp_path, suffix, kind):
    linear = np.linspace(-0.1, 1.5, H * W, dtype=np.float32).reshape(H, W)
    linear[0, :2] = 1e6, 0.002
    assert np.abs(read(save_oiio(tmp_path / f"gray{suffix}", linear, kind)) - srgb(linear)).max() <= 0.55
    rgb = np.random.default_rng(0).random((H, W, 3), np.float32)
    exact = srgb(rgb) @ [0.2126, 0.7152, 0.0722]
    assert np.abs(read(save_oiio(tmp_path / f"rgb{suffix}", rgb, kind)) - exact).max() <= 0.55


def test_what_is_not_a_number_is_black(tmp_path):
    linear = np.full((H, W), 0.5, np.float32)
    linear[0, 0], linear[0, 1], linear[0, 2] = np.nan, np.inf, -np.inf
    assert read(save_oiio(tmp_path / "a.exr", linear, "float"))[0, :4].tolist() == [0, 255, 0, 188]


def test_an_exr_shows_its_display_window(tmp_path):
    linear = np.full((8, 10), 0.5, np.float32)
    smaller = read(save_oiio(tmp_path / "small.exr", linear, "half", origin=(3, 2), full=(W, H)))
    assert smaller.shape == (H, W)
    assert np.argwhere(smaller)[[0, -1]].tolist() == [[2, 3], [9, 12]]
    overscan = np.zeros((H + 4, W + 6), np.float32)
    overscan[2, 3] = 1
    larger = read(save_oiio(tmp_path / "large.exr", overscan, "half", origin=(-3, -2), full=(W, H)))
    assert larger.shape == (H, W) and np.argwhere(larger).tolist() == [[0, 0]]


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_dpx_is_taken_as_encoded(tmp_path, bits):
    pixels = COLOURS.astype(np.uint16) * 257
    path = save_oiio(tmp_path / "a.dpx", pixels, "uint16" if bits > 8 else "uint8", oiio__BitsPerSample=bits)
    assert np.abs(read(path) - LUMA).max() <= 0.75


def test_tiff_of_32_bit_integers(tmp_path):
    samples = RAMP.astype("<u4") * 0x1010101
    tags = [(256, 4, W), (257, 4, H), (258, 3, 32), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 4, H),
            (279, 4, samples.nbytes), (339, 3, 1)]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, kind, 1, value)
                                                        for tag, kind, value in tags) + bytes(4)
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", 8 + samples.nbytes) + samples.tobytes() + directory)
    pytest.importorskip("OpenImageIO")
    assert np.abs(read(tmp_path / "a.tif") - RAMP).max() <= 1


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".exr"])
@pytest.mark.parametrize(("orientation", "upright"), [
    (2, lambda p: p[:, ::-1]), (3, lambda p: p[::-1, ::-1]), (4, lambda p: p[::-1]), (5, lambda p: p.T),
    (6, lambda p: np.rot90(p, -1)), (7, lambda p: p[::-1, ::-1].T), (8, lambda p: np.rot90(p)),
])
def test_orientation_in_the_metadata_is_honoured(tmp_path, suffix, orientation, upright):
    picture = np.zeros((H, W), np.uint8)
    picture[:8, :16] = 255
    pixels, kind = (picture / np.float32(255), "half") if suffix == ".exr" else (picture, "uint8")
    path = save_oiio(tmp_path / f"a{suffix}", pixels, kind, Orientation=orientation)
    np.testing.assert_allclose(read(path), upright(picture), atol=20)


# Bad images

@pytest.mark.parametrize(("suffix", "kind"), [(".png", "uint8"), (".jpg", "uint8"), (".tif", "uint16"),
                                              (".exr", "half"), (".dpx", "uint16"), (".tif", "float")])
@pytest.mark.parametrize("share", [0, 0.002, 0.1, 0.7, 0.9])
def test_an_image_that_is_cut_off_is_named(tmp_path, suffix, kind, share):
    noise = np.random.default_rng(0).random((H, W, 3), np.float32)
    pixels = (noise * np.iinfo(kind).max).astype(kind) if kind.startswith("u") else noise
    depth = {"oiio__BitsPerSample": 10} if suffix == ".dpx" else {}
    save_oiio(tmp_path / f"a.1{suffix}", pixels, kind, **depth)
    data = save_oiio(tmp_path / f"a.2{suffix}", pixels, kind, **depth).read_bytes()
    (tmp_path / f"a.2{suffix}").write_bytes(data[:int(len(data) * share)])
    with open_footage(tmp_path) as footage, pytest.raises(UnderstudyError, match=f"a.2{suffix} cannot be read"):
        footage.read(1)


def test_something_else_with_the_suffix_of_an_image_is_named(tmp_path):
    for suffix in (".png", ".tif", ".exr", ".jpg", ".dpx"):
        (tmp_path / f"a{suffix}").write_text("Dear diary")
        with pytest.raises(UnderstudyError, match=f"a{suffix} cannot be read as an image"):
            open_footage(tmp_path / f"a{suffix}")


def test_a_picture_size_that_no_camera_has_is_refused(tmp_path):
    data = bytearray(save(tmp_path / "a.png", RAMP).read_bytes())
    data[16:24] = struct.pack(">II", 60000, 60000)
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(UnderstudyError, match="a.png .*60000 x 60000"):
        open_footage(tmp_path / "a.png")


def test_without_openimageio_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.exr").write_bytes(b"\x76\x2f\x31\x01")
    monkeypatch.setitem(sys.modules, "OpenImageIO", None)
    with pytest.raises(UnderstudyError, match="a.exr needs OpenImageIO.*pip install"):
        image.read_image(tmp_path / "a.exr")
