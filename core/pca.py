"""Principal components of mesh animation, for the output layer's initial weights (paper, Sec. 3.1)."""

from collections.abc import Callable

import numpy as np

BLOCK = 256    # frames held at a time
SAMPLE = 1024  # frames that the first guess is made from
NEGLIGIBLE = 1e-5


def fit(targets: Callable[[np.ndarray], np.ndarray], frames: int, components: int,
        ) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Mean and principal components of `frames` meshes, without holding them in memory.

    targets : gives the meshes of an index array (n,) as (n, A, 3) float32.    components : K wanted.
    Returns mean (A, 3) float32, orthonormal basis (K', A, 3) float32 with the largest variance first, standard
    deviation of each component (K',) float32 in mesh units, and the explained share of the variance, 0..1.
    K' = min(K, frames - 1, 3 A), at least 1.

    The first guess are the components of evenly spaced frames, from their Gram matrix. A pass over all frames turns
    them to the principal axes; if they leave out more than NEGLIGIBLE of the variance, another pass, a step of subspace
    iteration (Halko et al. 2011), makes that exact to float32 for spectra that fall as those of faces do.
    """
    chosen = np.linspace(0, frames - 1, min(frames, SAMPLE)).round().astype(int)
    sample = targets(chosen).reshape(len(chosen), -1)
    near = sample.mean(axis=0)  # what is summed up in float32 stays small
    sample = sample - near
    components = max(1, min(components, frames - 1, near.size))
    wide = min(near.size, components + 20)
    codes = np.ascontiguousarray(np.linalg.eigh(sample @ sample.T)[1][:, ::-1][:, :wide])  # else numpy leaves BLAS
    spare = np.random.default_rng(0).standard_normal((near.size, wide - codes.shape[1]), dtype=np.float32)
    basis = np.linalg.qr(np.hstack([sample.T @ codes, spare]))[0]
    for _ in range(2):
        # product = covariance @ basis; the mean is known at the end of the pass, and taken out then
        product, total, offset = np.zeros(basis.shape, np.float32), 0.0, np.zeros(near.size)
        for block in _blocks(frames):
            moved = targets(block).reshape(len(block), -1) - near
            product += moved.T @ (moved @ basis)
            total += float(np.square(moved).sum(dtype=np.float64))
            offset += moved.sum(axis=0, dtype=np.float64)
        offset /= frames
        product = product - frames * np.outer(offset, offset @ basis)
        total -= frames * float(offset @ offset)
        covariance = basis.T.astype(np.float64) @ product
        last = basis
        if np.trace(covariance) >= (1 - NEGLIGIBLE) * total:
            break
        basis = np.linalg.qr(product.astype(np.float32))[0]
    # Rayleigh-Ritz: rotate the last subspace so that its covariance is diagonal
    values, turn = np.linalg.eigh(covariance)
    order = np.argsort(values)[::-1][:components]
    basis = (last @ turn[:, order]).T.astype(np.float32)
    variance = np.maximum(values[order], 0) / frames
    explained = float(variance.sum() * frames / total) if total > 0 else 1.0
    return ((near + offset).reshape(-1, 3).astype(np.float32), basis.reshape(components, -1, 3),
            np.sqrt(variance).astype(np.float32), min(1.0, explained))


def _blocks(frames: int) -> list[np.ndarray]:
    return [np.arange(first, min(first + BLOCK, frames)) for first in range(0, frames, BLOCK)]
