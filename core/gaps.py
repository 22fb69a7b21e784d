"""The gaps between the lips and between the lids: which vertices meet there, and how wide open they stand. Numpy only.

A solve may be near everywhere and still leave lips ajar on a p or b, or lids on a blink: a fraction of a millimetre
that everybody sees (paper, Sec. 5.6: lips and eyes look worst). Nobody has to mark who meets whom: two vertices that
all but touch in one frame of the training data and are far apart in another lie on both sides of an opening.
"""

from dataclasses import dataclass

import numpy as np

from .actor import Actor, Shot

REGIONS = ("lips", "lids")  # regions of these names have a gap
TOUCH = 2.0       # mm, the nearest that a pair comes
OPEN = 5.0        # mm, how much farther apart it gets
LIMIT = 1500      # vertices of a region that are looked at; of more, evenly spaced ones
FRAMES = 400      # of the training data, in which pairs are looked for
CLOSED = 0.1      # of the range of a gap: below it lips or lids are shut


@dataclass(frozen=True)
class Opening:
    """Where lips or lids meet. vertices : of the region, indices into the animated; pairs : (P, 2) indices into those.

    shut_mm : the width below which it counts as shut.
    """

    vertices: np.ndarray
    pairs: np.ndarray
    shut_mm: float

    def width(self, meshes: np.ndarray, millimetres: float) -> np.ndarray:
        """(n,) mm of meshes (n, A, 3)."""
        return width(meshes[:, self.vertices], self.pairs, millimetres)


def find_openings(actor: Actor, shots: list[Shot]) -> dict[str, Opening]:
    """The openings of an actor's face by region, as the cleaned frames of some shots show them."""
    caches = [(shot.vertices(), frames) for shot in shots if len(frames := shot.frames())]
    each = -(-FRAMES // max(1, len(caches)))
    meshes = np.concatenate([
        cache[frames[np.unique(np.linspace(0, len(frames) - 1, each).astype(int))]][:, actor.animated]
        for cache, frames in caches]).astype(np.float32)
    found = {}
    for name in REGIONS:
        vertices = np.flatnonzero(np.isin(actor.animated, actor.regions.get(name, [])))
        if not len(vertices):
            continue
        pairs = find_pairs(meshes[:, vertices], actor.millimetres)
        if len(pairs):
            shut = shut_below(width(meshes[:, vertices], pairs, actor.millimetres))
            found[name] = Opening(vertices, pairs, shut)
    return found


def find_pairs(meshes: np.ndarray, millimetres: float) -> np.ndarray:
    """Pairs of vertices that meet when a gap closes, each the other's nearest, in (P, 2) int64; P may be 0.

    meshes : (n, R, 3) float32, a region in frames that hold it shut and open, mesh units; 200 of them are plenty.
    """
    looked = np.linspace(0, meshes.shape[1] - 1, min(meshes.shape[1], LIMIT)).round().astype(int)
    low = np.full((len(looked),) * 2, np.inf, np.float32)
    high = np.zeros_like(low)
    for mesh in meshes[:, looked]:
        mesh = (mesh - mesh.mean(axis=0)) * np.float32(millimetres)
        lengths = np.einsum("vc,vc->v", mesh, mesh)
        squares = lengths[:, None] + lengths - 2 * mesh @ mesh.T
        np.minimum(low, squares, out=low)
        np.maximum(high, squares, out=high)
    low, high = np.sqrt(low.clip(0)), np.sqrt(high)
    low[(high - low < OPEN) | (low > TOUCH)] = np.inf
    partner = low.argmin(axis=1)
    own = np.arange(len(looked))
    mutual = (partner[partner] == own) & np.isfinite(low[own, partner]) & (own < partner)
    return looked[np.stack([own, partner], axis=1)[mutual]]


def width(meshes: np.ndarray, pairs: np.ndarray, millimetres: float) -> np.ndarray:
    """How far a gap stands open: mean distance of its pairs, (n,) float64 mm.    meshes : (n, R, 3), mesh units."""
    between = meshes[:, pairs[:, 0]] - meshes[:, pairs[:, 1]]
    return millimetres * np.sqrt(np.square(between, dtype=np.float64).sum(axis=2)).mean(axis=1)


def shut_below(widths: np.ndarray) -> float:
    """The width in mm below which a gap counts as shut, given its widths (n,) in frames that hold it shut and open."""
    low, high = np.percentile(widths, (1, 99))
    return float(low + CLOSED * (high - low))
