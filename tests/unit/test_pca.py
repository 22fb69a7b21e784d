"""The principal components against a plain singular value decomposition."""

import numpy as np
import pytest

from understudy.core import pca


def animation(frames: int, vertices: int, rank: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((frames, rank)) * 0.7 ** np.arange(rank)
    return (codes @ rng.standard_normal((rank, 3 * vertices)) + 5).reshape(frames, vertices, 3).astype(np.float32)


@pytest.mark.parametrize(("frames", "rank", "wanted"), [(700, 30, 12), (300, 12, 20), (9, 40, 160)])
def test_components_match_the_exact_ones(frames, rank, wanted):
    meshes = animation(frames, 50, rank)
    mean, basis, deviation, explained = pca.fit(lambda index: meshes[index], frames, wanted)
    centred = (meshes - meshes.mean(0)).reshape(frames, -1).astype(np.float64)
    _, values, exact = np.linalg.svd(centred, full_matrices=False)
    count = min(wanted, frames - 1)
    assert basis.shape == (count, 50, 3) and np.allclose(mean, meshes.mean(0), atol=1e-4)
    assert np.allclose(deviation, values[:count] / np.sqrt(frames), atol=1e-3)
    flat = basis.reshape(count, -1)
    assert np.allclose(flat @ flat.T, np.eye(count), atol=1e-4)
    strong = min(count, rank, 8)
    assert np.allclose(np.abs((flat[:strong] * exact[:strong]).sum(1)), 1, atol=1e-3)
    assert explained == pytest.approx((values[:count] ** 2).sum() / (values ** 2).sum(), abs=1e-4)


def test_a_still_face_has_components_of_no_size():
    meshes = np.ones((10, 5, 3), np.float32)
    mean, basis, deviation, explained = pca.fit(lambda index: meshes[index], 10, 160)
    assert len(basis) == 9 and np.isfinite(basis).all() and np.allclose(deviation, 0) and explained == 1
