"""Principal components of mesh animation, for the output layer's initial weights (paper, Sec. 3.1)."""

from collections.abc import Callable

import numpy as np

BLOCK = 256  # frames held at a time


def fit(targets: Callable[[np.ndarray], np.ndarray], frames: int, components: int,
        ) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Mean and principal components of `frames` meshes, without holding them in memory.

    targets : gives the meshes of an index array (n,) as (n, A, 3) float32.    components : K wanted.
    Returns mean (A, 3) float32, orthonormal basis (K', A, 3) float32 with the largest variance first, standard
    deviation of each component (K',) float32 in mesh units, and the explained share of the variance, 0..1.
    K' = min(K, frames - 1, 3 A), at least 1.

    Subspace iteration (Halko et al. 2011) from a fixed random start: three passes over the data instead of a
    decomposition of a 15,000 x 15,000 matrix, to float32 accuracy for spectra that fall as those of faces do.
    """
    mean = sum(targets(block).sum(axis=0, dtype=np.float64) for block in _blocks(frames)) / frames
    size = mean.size
    components = max(1, min(components, frames - 1, size))
    wide = min(size, components + 20)
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((size, wide), dtype=np.float32))[0]
    for _ in range(3):
        product, total = np.zeros((size, wide)), 0.0
        for block in _blocks(frames):
            centred = (targets(block) - mean).reshape(len(block), size).astype(np.float32)
            product += centred.T @ (centred @ basis)
            total += float(np.square(centred, dtype=np.float64).sum())
        last, basis = basis, np.linalg.qr(product)[0].astype(np.float32)
    # Rayleigh-Ritz: rotate the last subspace so that its covariance is diagonal
    values, turn = np.linalg.eigh(last.T.astype(np.float64) @ product)
    order = np.argsort(values)[::-1][:components]
    basis = (last @ turn[:, order]).T.astype(np.float32)
    variance = np.maximum(values[order], 0) / frames
    explained = float(variance.sum() * frames / total) if total > 0 else 1.0
    return (mean.astype(np.float32), basis.reshape(components, -1, 3), np.sqrt(variance).astype(np.float32),
            min(1.0, explained))


def _blocks(frames: int) -> list[np.ndarray]:
    return [np.arange(first, min(first + BLOCK, frames)) for first in range(0, frames, BLOCK)]
