"""What a model knows of its own training footage, so that a solve tells how unlike it each frame is.

The spread that dropout would cause (model.confidence_weights) says how much a result hangs on single features, not
whether the network has seen such a picture. What tells that is the part of the features which the principal components
of the training features do not explain. Weighed like the spread it is in millimetres, for each region, and needs no
sampling either: here it is called novelty. It says that a picture is unusual, not whether that does harm; together with
the distance of the expression from those of training it ranks errors best (benchmarks/confidence.py).
"""

from dataclasses import dataclass, field

import numpy as np

from .fields import is_number

COMPONENTS = 64   # of the features
EXPRESSIONS = 256  # training expressions that are kept, as different from each other as can be
BLOCK = 4096      # frames compared with them at a time


@dataclass(frozen=True, eq=False)
class Familiarity:
    """Of a model with F features and K components.

    mean : (F,) float32 and components : (D, F) float32, orthonormal rows: of the features of training pictures that
    were augmented as in training.
    metric : (1 + regions, K, K) float32; the distance of two expressions is |metric (a - b)|, their RMSE in mm: over
    all animated vertices, then over each region in order of name.    expressions : (E, K) float32 codes.
    expected : region -> (factor, power): the error to expect, in mm, is factor * (novelty * distance) ** power, both in
    mm, as it was on the validation shots; half of the errors were larger. "all" is every animated vertex. Empty without
    validation shots.
    """

    mean: np.ndarray
    components: np.ndarray
    metric: np.ndarray
    expressions: np.ndarray
    expected: dict[str, tuple[float, float]] = field(default_factory=dict)

    def distance(self, codes: np.ndarray) -> np.ndarray:
        """How far expressions are from the nearest one that was trained on, (n, 1 + regions) float32, RMSE in mm.

        codes : (n, K).
        """
        blocks = np.split(codes, range(BLOCK, len(codes), BLOCK))
        return np.stack([np.concatenate([_nearest(block @ metric.T, self.expressions @ metric.T) for block in blocks])
                         for metric in self.metric], axis=1)

    def errors(self, novelty: dict[str, np.ndarray], distance: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The error to expect by region, in mm. Regions that were not measured are left out."""
        return {name: factor * (novelty[name] * distance[name]) ** power
                for name, (factor, power) in self.expected.items() if name in novelty}

    def arrays(self) -> dict[str, np.ndarray]:
        """What a model file holds of it; `expected` is in the metadata."""
        return {f"familiar.{name}": getattr(self, name) for name in SHAPES}


SHAPES = {"mean": "F", "components": "DF", "metric": "RKK", "expressions": "EK"}


def read_familiarity(arrays: dict[str, np.ndarray], expected: object, features: int, components: int, regions: int,
                     ) -> Familiarity:
    """What a model file says of it.

    arrays : its tensors of SHAPES, checked to be finite.    expected : from the metadata.
    Raises ValueError for shapes that do not fit the network.
    """
    sizes = {"F": features, "K": components, "R": 1 + regions}
    for name, axes in SHAPES.items():
        shape = arrays[name].shape if name in arrays else ()
        if len(shape) != len(axes) or any(sizes.setdefault(axis, size) != size
                                          for axis, size in zip(axes, shape, strict=True)) or 0 in shape:
            raise ValueError(f"familiar.{name} is {shape}")
    known = expected if isinstance(expected, dict) else {}
    return Familiarity(*(arrays[name].astype(np.float32) for name in SHAPES),
                       {str(name): (float(pair[0]), float(pair[1])) for name, pair in known.items()
                        if isinstance(pair, list) and len(pair) == 2 and all(map(is_number, pair))})


def far_apart(points: np.ndarray, count: int) -> np.ndarray:
    """Rows of `points` (n, K) that lie far from each other: each is the farthest from those before it (Gonzalez 1985).

    Returns at most `count` indices; points that lie on one another are taken once.
    """
    chosen = [int(np.square(points - points.mean(axis=0)).sum(axis=1).argmin())]
    away = np.square(points - points[chosen[0]]).sum(axis=1)
    while len(chosen) < count and away.max() > 0:
        chosen.append(int(away.argmax()))
        away = np.minimum(away, np.square(points - points[chosen[-1]]).sum(axis=1))
    return np.array(chosen)


def _nearest(points: np.ndarray, known: np.ndarray) -> np.ndarray:
    squares = np.square(points).sum(axis=1)[:, None] + np.square(known).sum(axis=1) - 2 * points @ known.T
    return np.sqrt(np.maximum(squares.min(axis=1), 0)).astype(np.float32)
