import numpy as np
import pytest
import torch

from understudy.core.batches import Head, novelty
from understudy.core.errors import UnderstudyError
from understudy.core.familiarity import Familiarity, read_familiarity
from understudy.core.model import load_model
from understudy.core.modelfile import ModelFile

rng = np.random.default_rng(0)


def familiarity(features=9720, codes=4):
    basis = np.linalg.qr(rng.standard_normal((features, 3)))[0].T
    return Familiarity(rng.random(features).astype(np.float32), basis.astype(np.float32),
                       np.diag([1, 2, 0, 1, 3, 1][:codes]).astype(np.float32),
                       rng.standard_normal((5, codes)).astype(np.float32), {"all": (2.0, 1.5)})


def test_novelty_is_the_spread_of_what_training_does_not_explain():
    known = familiarity(50)
    weights = rng.random((50, 2)).astype(np.float32)
    inside = known.mean + rng.standard_normal((4, 3)) @ known.components
    new = rng.standard_normal(50)
    new -= known.components.T @ (known.components @ new)
    features = torch.from_numpy((inside + np.outer([0, 1, 2, 3], new)).astype(np.float32))
    found = novelty(features, *map(torch.from_numpy, (known.mean, known.components, weights))).numpy()
    assert found == pytest.approx(np.outer([0, 1, 2, 3], 10 * np.sqrt(new ** 2 @ weights)), abs=1e-3)


def test_distance_and_expected_error():
    known = familiarity()
    codes = rng.standard_normal((6, 4)).astype(np.float32)
    want = np.linalg.norm((codes[:, None] - known.expressions) * [1, 2, 0, 1], axis=2).min(axis=1)
    assert known.distance(codes) == pytest.approx(want, abs=1e-3)
    assert known.errors({"all": np.array([4.0]), "lips": np.array([1.0])}) == {"all": pytest.approx([16.0])}


@pytest.mark.parametrize("wrong", ["mean", "components", "metric", "expressions", None])
def test_what_does_not_fit_the_network_is_refused(wrong):
    arrays = {name.removeprefix("familiarity."): array for name, array in familiarity().arrays().items()}
    if wrong:
        arrays[wrong] = arrays[wrong][..., :2]
        with pytest.raises(ValueError, match=wrong):
            read_familiarity(arrays, {}, 9720, 4)
    else:
        found = read_familiarity(arrays, {"all": [1, 2], "lips": "x", "lids": [1]}, 9720, 4)
        assert found.expected == {"all": (1, 2)}
        del arrays["mean"]
        with pytest.raises(ValueError, match="mean"):
            read_familiarity(arrays, None, 9720, 4)


def test_a_model_file_keeps_it_and_a_solve_tells_it(tmp_path, small_model):
    model, path = small_model(), tmp_path / "model.safetensors"
    plain = Head(model, torch.device("cpu"))(torch.ones(2, 9720))[1]
    model.save(path)
    assert load_model(path).familiarity is None
    model.familiarity = familiarity(codes=len(model.basis))
    model.save(path)
    found = load_model(path)
    assert found.familiarity.expected == {"all": (2.0, 1.5)} and "expected" not in found.about
    assert all(np.array_equal(array, model.familiarity.arrays()[name])
               for name, array in found.familiarity.arrays().items())
    with torch.inference_mode():
        signals = Head(found, torch.device("cpu"))(torch.ones(2, 9720))[1]
    assert signals.shape == (2, 6) and torch.allclose(signals[:, :3], plain) and (signals[:, 3:] > 0).all()


def test_a_damaged_one_is_told(tmp_path, small_model):
    model, path = small_model(), tmp_path / "model.safetensors"
    model.familiarity = familiarity(codes=len(model.basis))
    model.familiarity.mean[3] = np.nan
    model.save(path)
    with pytest.raises(UnderstudyError, match="familiarity.mean holds numbers that are not finite"):
        ModelFile.load(path).familiarity()
