"""A solve read back: whole, or a sentence that says what does not fit."""

import json

import numpy as np
import pytest

from understudy.core.errors import UnderstudyError
from understudy.core.meshcache import cache_writer
from understudy.core.solved import read_solved

PART = {"first": 10, "last": 12, "model_sha256": "a" * 64, "engine": "torch", "device": "cpu", "crop": [0, 0, 30, 40]}
SIDECAR = {"version": 1, "actor": "Zoë", "topology": "7" * 64, "unit": 0.01, "confidence_mm": {"all": [0.1, None, 2]},
           **PART}


@pytest.fixture
def take(tmp_path):
    """A function that writes a solve of 3 frames, its sidecar changed, and gives the path of its cache."""
    def take(**changes):
        path = tmp_path / "tàke.v001.pc2"
        with cache_writer(path, 4, 3) as writer:
            writer.write(np.arange(36, dtype=np.float32).reshape(3, 4, 3))
        np.save(path.with_suffix(".npy"), np.zeros((3, 5), np.float32))
        values = {name: value for name, value in (SIDECAR | changes).items() if value is not ...}
        path.with_suffix(".json").write_text(json.dumps(values), encoding="utf-8")
        return path
    return take


def test_what_it_tells(take):
    solved = read_solved(take())
    assert (solved.first, solved.last, solved.count, solved.topology) == (10, 12, 3, "7" * 64)
    assert solved.vertices().shape == (3, 4, 3) and solved.codes().shape == (3, 5)
    assert solved.parts == [PART] and solved.models == ["a" * 64]
    assert solved.complete and not read_solved(take(complete=False)).complete


def test_parts_of_several_models(take):
    parts = [PART | {"last": 10}, PART | {"first": 11, "last": 11, "model_sha256": "b"}, PART | {"first": 12}]
    solved = read_solved(take(parts=parts))
    assert solved.parts == parts and solved.models == ["a" * 64, "b"]


@pytest.mark.parametrize("changes", [
    {"first": "10"}, {"first": -1}, {"last": 9}, {"last": 1e9}, {"first": True, "last": 3}, {"last": ...},
    {"topology": 7}, {"topology": ...}, {"confidence_mm": [1, 2, 3]}, {"confidence_mm": {"all": [1, 2]}},
    {"confidence_mm": {"all": [1, 2, "3"]}}, {"confidence_mm": ...}, {"model_sha256": ["x"]}, {"engine": 5},
    {"crop": [0, 0, 30]}, {"crop": "../../etc"}, {"parts": {}}, {"parts": []}, {"parts": [7]},
    {"parts": [PART | {"first": 11}]}, {"parts": [PART | {"last": 11}]}, {"parts": [PART, PART]},
    {"parts": [PART | {"last": 12.0}]}, {"parts": [PART | {"device": None}]},
], ids=str)
def test_a_sidecar_of_a_stranger_gets_a_sentence(take, changes):
    with pytest.raises(UnderstudyError, match="is no sidecar of a solve"):
        read_solved(take(**changes))


def test_a_missing_sidecar_gets_a_sentence(take):
    path = take()
    path.with_suffix(".json").unlink()
    with pytest.raises(UnderstudyError, match="no sidecar"):
        read_solved(path)


@pytest.mark.parametrize("codes", [np.zeros((2, 5), np.float32), np.zeros((3, 5)), np.zeros(3, np.float32),
                                   np.zeros((3, 0), np.float32), np.zeros((3, 5000), np.float32)],
                         ids=lambda codes: f"{codes.dtype}{codes.shape}")
def test_codes_that_do_not_fit_get_a_sentence(take, codes):
    path = take()
    np.save(path.with_suffix(".npy"), codes)
    assert read_solved(path).vertices().shape == (3, 4, 3)  # the positions are as good as ever
    with pytest.raises(UnderstudyError, match="should hold the codes of 3 frames"):
        read_solved(path).codes()


def test_damaged_codes_get_a_sentence(take):
    path = take()
    for content in (b"", b"\x93NUMPY", path.with_suffix(".npy").read_bytes()[:-1]):
        path.with_suffix(".npy").write_bytes(content)
        with pytest.raises(UnderstudyError, match="npy"):
            read_solved(path).codes()
    path.with_suffix(".npy").unlink()
    with pytest.raises(UnderstudyError, match="npy"):
        read_solved(path).codes()


def test_a_cache_of_another_length_gets_a_sentence(take):
    path = take()
    with cache_writer(path, 4, 2) as writer:
        writer.write(np.zeros((2, 4, 3), np.float32))
    with pytest.raises(UnderstudyError, match="holds 2 samples, but its sidecar speaks of the frames 10 to 12"):
        read_solved(path).vertices()
