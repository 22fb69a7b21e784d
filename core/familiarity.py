"""What a model knows of its own training footage, so that a solve tells how unlike it each frame is.

The spread that dropout would cause (model.confidence_weights) says how much a result hangs on single features, not
whether the network has seen such a picture. What tells that is the part of the features which the principal components
of the training features do not explain. Weighed like the spread it is in millimetres, for each region, and needs no
sampling either: here it is called novelty. benchmarks/confidence.py holds both against true errors, and the distance
of the expression from those of training, which ranks them less well but says why.
"""

from dataclasses import dataclass, field

import numpy as np

from .fields import is_number

COMPONENTS = 64   # of the features
BLOCK = 4096      # frames compared with them at a time


@dataclass(frozen=True, eq=False)
class Familiarity:
    """Of a model with F features and K components.

    mean : (F,) float32 and components : (D, F) float32, orthonormal rows: of the features of training pictures that
    were augmented as in training.
    metric : (K, K) float32; the distance of two expressions is |metric (a - b)|, their RMSE in mm over all animated
    vertices.    expressions : (E, K) float32, codes of training pictures.
    expected : region -> (factor, power): the error to expect, in mm, is factor * novelty ** power, as it was on the
    validation shots; half of the errors were larger. "all" is every animated vertex. Empty without validation shots.
    """

    mean: np.ndarray
    components: np.ndarray
    metric: np.ndarray
    expressions: np.ndarray
    expected: dict[str, tuple[float, float]] = field(default_factory=dict)

    def distance(self, codes: np.ndarray) -> np.ndarray:
        """How far expressions, codes (n, K), are from the nearest one that was trained on, (n,) float32, RMSE in mm."""
        known = self.expressions @ self.metric.T
        return np.concatenate([_nearest(block @ self.metric.T, known)
                               for block in np.split(codes, range(BLOCK, len(codes), BLOCK))])

    def errors(self, novelty: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The error to expect by region, in mm, of novelties in mm. Regions that were not measured are left out."""
        return {name: self.expected[name][0] * column ** self.expected[name][1]
                for name, column in novelty.items() if name in self.expected}

    def arrays(self) -> dict[str, np.ndarray]:
        """What a model file holds of it; `expected` is in the metadata."""
        return {f"familiarity.{name}": getattr(self, name) for name in SHAPES}


SHAPES = {"mean": "F", "components": "DF", "metric": "KK", "expressions": "EK"}


def read_familiarity(arrays: dict[str, np.ndarray], expected: object, features: int, components: int) -> Familiarity:
    """What a model file says of it.

    arrays : its tensors of SHAPES, checked to be finite.    expected : from the metadata.
    Raises ValueError for shapes that do not fit the network.
    """
    sizes = {"F": features, "K": components}
    for name, axes in SHAPES.items():
        shape = arrays[name].shape if name in arrays else ()
        if len(shape) != len(axes) or any(sizes.setdefault(axis, size) != size
                                          for axis, size in zip(axes, shape, strict=True)) or 0 in shape:
            raise ValueError(f"familiarity.{name} is {shape}")
    known = expected if isinstance(expected, dict) else {}
    return Familiarity(*(arrays[name].astype(np.float32) for name in SHAPES),
                       {str(name): (float(pair[0]), float(pair[1])) for name, pair in known.items()
                        if isinstance(pair, list) and len(pair) == 2 and all(map(is_number, pair))})


def _nearest(points: np.ndarray, known: np.ndarray) -> np.ndarray:
    squares = np.square(points).sum(axis=1)[:, None] + np.square(known).sum(axis=1) - 2 * points @ known.T
    return np.sqrt(np.maximum(squares.min(axis=1), 0)).astype(np.float32)
