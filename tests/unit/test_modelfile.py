"""The model file without torch: it reads what torch wrote, and gives a sentence for what a stranger made of it."""

import json

import numpy as np
import pytest
import torch

from understudy.core.errors import UnderstudyError
from understudy.core.modelfile import ModelFile


@pytest.fixture
def saved(tmp_path, small_model):
    small_model().save(tmp_path / "Zoës model.safetensors")
    return tmp_path / "Zoës model.safetensors"


def split(path):
    """The header, its metadata of ours, and the bytes of the tensors."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8:8 + length])
    return header, json.loads(header["__metadata__"]["understudy"]), content[8 + length:]


def join(path, header, about, data):
    header["__metadata__"] = {"understudy": json.dumps(about)}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def put(path, name, array):
    """Replace or add a tensor, or remove it; the others keep their bytes."""
    header, about, data = split(path)
    tensors = {key: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])])
               for key, entry in header.items() if key != "__metadata__"}
    kinds = {"float32": "F32", "int32": "I32", "int64": "I64", "uint8": "U8"}
    tensors.pop(name, None)
    if array is not None:
        tensors[name] = kinds[array.dtype.name], array.shape, array.tobytes()
    header, data = {}, b""
    for key, (kind, shape, content) in tensors.items():
        header[key] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    join(path, header, about, data)


def test_it_reads_what_torch_wrote(saved, small_model):
    want, got = small_model(), ModelFile.load(saved)
    for name in ("actor", "unit", "transfer", "topology"):
        assert getattr(got, name) == getattr(want, name)
    assert got.crop == (want.crop.x, want.crop.y, want.crop.width, want.crop.height)
    assert got.components == 6 and got.about["validation"] == {"rmse_mm": 0.9}
    assert np.array_equal(got.template.vertices, want.template.vertices)
    assert np.array_equal(got.animated, want.animated) and np.array_equal(got.stabiliser, want.stabiliser)
    assert {name: list(value) for name, value in got.regions.items()} == {"lips": [2, 4], "brows": [7]}
    assert len(got.sha256()) == 64


def test_the_head_is_the_output_layer_in_mesh_units(saved, small_model):
    network = small_model().network  # in centimetres, as is the mesh
    weight, bias = ModelFile.load(saved).head()
    codes = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    with torch.no_grad():
        want = network.output(torch.from_numpy(codes)).numpy()
    assert weight.dtype == bias.dtype == np.float32
    assert np.abs(codes @ weight.T + bias - want).max() < 1e-6


def test_the_unit_of_the_mesh_counts(tmp_path, small_model):
    model = small_model()
    model.unit = 0.001
    model.save(tmp_path / "mm.safetensors")
    assert np.allclose(ModelFile.load(tmp_path / "mm.safetensors").head()[1],
                       10 * model.network.output.bias.detach().numpy())


def test_the_reference_is_there_or_not(saved):
    assert ModelFile.load(saved).reference() is None
    picture = np.arange(320 * 240, dtype=np.uint8).reshape(320, 240)
    put(saved, "reference", picture)
    assert np.array_equal(ModelFile.load(saved).reference(), picture)


@pytest.mark.parametrize(("name", "array", "says"), [
    ("reference", np.zeros((240, 320), np.uint8), "reference is"),
    ("reference", np.zeros((320, 240), np.float32), "reference is no picture"),
    ("output.bias", np.zeros(16, np.float32), "make no sense"),
    ("output.bias", np.zeros(18, np.float32), "output.weight is"),
    ("output.weight", None, "output.weight is missing"),
    ("mask.stabiliser", None, "mask.stabiliser is missing"),
    ("mask.animated", np.array([1, 2, 4, 5, 8], np.int32), "names vertex 8"),
    ("region.lips", np.array([[1, 2]], np.int32), "should be a list of vertex numbers"),
    ("region.lips", np.array([-1], np.int32), "names vertex -1"),
    ("template.vertices", np.full((8, 3), np.nan, np.float32), "vertex 0 is not a finite number"),
    ("template.vertices", np.zeros(24, np.float32), "no vertices with x, y and z"),
    ("template.vertices", np.zeros((9, 3), np.float32), "not the topology"),
    ("template.face_sizes", np.array([4, 5], np.int32), "sizes of the faces"),
    ("template.face_indices", np.arange(1, 9, dtype=np.int32), "face 1 uses vertex 8"),
    ("template.face_sizes", np.array([4, 4], np.float32), "no list of numbers"),
])
def test_a_tampered_tensor_gets_a_sentence(saved, name, array, says):
    put(saved, name, array)
    with pytest.raises(UnderstudyError, match=says):
        ModelFile.load(saved)


@pytest.mark.parametrize(("about", "says"), [
    ({"format": 99}, "newer Understudy"), ({"format": "new"}, "not one of ours"),
    ({"format": 1e999}, "not one of ours"),
    ({"crop": [1, 2]}, "crop"), ({"crop": [0, 0, 1e999, 4]}, "crop"), ({"crop": "0 0 240 320"}, "crop"),
    ({"unit": -1}, "unit"), ({"unit": "cm"}, "unit"), ({"topology": "00"}, "topology"),
    ({"architecture": {"components": 10**9}}, "no sense"), ({"architecture": {"components": "6"}}, "no sense"),
    ({"architecture": 6}, "not a valid model"),
])
def test_tampered_metadata_gets_a_sentence(saved, about, says):
    header, before, data = split(saved)
    join(saved, header, before | about, data)
    with pytest.raises(UnderstudyError, match=says):
        ModelFile.load(saved)


@pytest.mark.parametrize(("entry", "says"), [
    ({"shape": [6, 1 << 40]}, "no place"), ({"shape": [-1]}, "no place"), ({"shape": [7.5]}, "no place"),
    ({"shape": [7]}, "not its size"), ({"dtype": "F64"}, "not its size"), ({"dtype": "Q9"}, "not a whole"),
    ({"dtype": ["F32"]}, "not a whole"), ({"data_offsets": [0, 24]}, "do not fill"),
    ({"data_offsets": [1 << 50, (1 << 50) + 24]}, "no place"), ({"data_offsets": [5]}, "not a whole"),
    ({"shape": [1] * 9 + [6]}, "no place"),
])
def test_a_header_that_lies_gets_a_sentence(saved, entry, says):
    header, about, data = split(saved)
    header["fc.bias"] |= entry  # (6,) float32
    join(saved, header, about, data)
    with pytest.raises(UnderstudyError, match=says):
        ModelFile.load(saved)


def test_a_file_cut_anywhere_gets_a_sentence(saved):
    whole = saved.read_bytes()
    for length in (0, 4, 8, 200, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:length])
        with pytest.raises(UnderstudyError, match="whole model file"):
            ModelFile.load(saved)
    saved.write_bytes(whole + b"more")
    with pytest.raises(UnderstudyError, match="do not fill"):
        ModelFile.load(saved)


@pytest.mark.parametrize("header", [b"[" * 100_000, b"9" * 100_000, b"null", b"[]", b'{"a": 1}', b"\xff\xfe",
                                    b'{"__metadata__": 7}', b" " * (5 << 20)], ids=lambda text: repr(text[:9]))
def test_a_header_that_is_no_header_gets_a_sentence(saved, header):
    saved.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(UnderstudyError, match="model file|not one of ours"):
        ModelFile.load(saved)


def test_a_header_length_beyond_the_file_gets_a_sentence(saved):
    saved.write_bytes(b"\xff" * 8 + saved.read_bytes()[8:])
    with pytest.raises(UnderstudyError, match="header"):
        ModelFile.load(saved)


def test_numbers_that_are_none_are_found_in_the_head(saved):
    put(saved, "output.bias", np.full(15, np.inf, np.float32))
    with pytest.raises(UnderstudyError, match="output.bias holds numbers that are not finite"):
        ModelFile.load(saved).head()


def test_no_file_gets_a_sentence(tmp_path):
    with pytest.raises(UnderstudyError, match="no model file"):
        ModelFile.load(tmp_path)
