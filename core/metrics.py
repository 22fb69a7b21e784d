"""Error measures, in millimetres, over the animated vertices (paper, Sec. 5.3 and Fig. 7). Numpy only.

Shapes: n frames, A animated vertices. "Millimetres" is the length of one mesh unit in millimetres (10 for centimetres).
A figure over several frames is always pooled, sqrt(mean of squares), so it is the one that the loss stands for.
"""

from collections.abc import Iterable

import numpy as np

STILL_MM = 0.1  # RMS target motion per frame below which a region is at rest; 3 mm/s at 30 fps, less than tremor looks


def rmse_per_frame(predicted: np.ndarray, target: np.ndarray, millimetres: float) -> np.ndarray:
    """RMSE of each frame over Euclidean vertex distances (paper, Fig. 7).

    predicted, target : (n, A, 3), or (A, 3) for one mesh held against all; mesh units.
    Returns (n,) float64, mm.
    """
    difference = np.subtract(predicted, target, dtype=np.float32)
    return millimetres * np.sqrt(np.einsum("nvc,nvc->n", difference, difference, dtype=np.float64)
                                 / difference.shape[1])


def loss_to_rmse(loss: float, millimetres: float) -> float:
    """RMSE in mm of a loss, the mean squared error over *coordinates*: hence the 3 (paper, Sec. 5.3: 0.92 mm)."""
    return float(millimetres * np.sqrt(3 * loss))


def pooled(rmse: np.ndarray) -> float:
    """One RMSE for many frames: sqrt(mean of squares), mm."""
    return float(np.sqrt(np.mean(np.square(rmse, dtype=np.float64))))


def mean_mesh(chunks: Iterable[np.ndarray]) -> np.ndarray:
    """The mean-mesh baseline: the mean of all training frames, given as chunks (n, A, 3). Returns (A, 3) float32."""
    total, count = 0.0, 0
    for chunk in chunks:
        total, count = total + chunk.sum(axis=0, dtype=np.float64), count + len(chunk)
    return (total / count).astype(np.float32)


def thumbnails(inputs: np.ndarray) -> np.ndarray:
    """Network inputs (n, 320, 240) uint8 as the nearest-frame baseline sees them: (n, 1200) float32, 8 x 8 block means.

    30 x 40 pixels without normalisation: finer pictures or normalised ones change the baseline by less than 10 %.
    """
    n, height, width = inputs.shape
    return inputs.reshape(n, height // 8, 8, width // 8, 8).mean(axis=(2, 4), dtype=np.float32).reshape(n, -1)


def nearest(queries: np.ndarray, training: np.ndarray) -> np.ndarray:
    """The nearest-training-frame baseline: which training picture is closest to each query.

    It answers "what if one just looked the frame up?": the frame is chosen by its picture alone, as a solve must, not
    by its vertices.    queries : (n, P), training : (m, P) float32 thumbnails.
    Returns (n,) int64 indices into training, smallest L2 distance between pictures.
    """
    squared = np.einsum("mp,mp->m", training, training)
    return np.argmin(squared - 2 * (queries @ training.T), axis=1)


class Motion:
    """What single frames cannot show: does a solve tremble, and does it flatten the motion? One shot, chunk by chunk.

    Temporal noise: RMS over frames and vertices of the second difference x[t-1] - 2 x[t] + x[t+1], mm, taken in still
    passages only: where the region's *target* moves less than STILL_MM from t-1 to t and from t to t+1 (RMS over its
    vertices). The target's own figure beside it says how still it was. Memory does not depend on the shot's length.

    Attenuation: sqrt(sum over vertices of predicted variance / the same of the target), variance over the shot's time.
    1 = as much motion as the target, below 1 = flattened.

    regions : name -> (n,) indices into the animated vertices.
    """

    def __init__(self, regions: dict[str, np.ndarray], millimetres: float):
        self.regions, self.millimetres = regions, millimetres
        self.tail: tuple[np.ndarray, np.ndarray] | None = None  # samples and (2, n, A, 3) of the last two frames
        self.count, self.mean, self.squares = 0, 0.0, 0.0
        self.noise = np.zeros((len(regions), 3))  # squared differences of prediction and target, still frames

    def add(self, samples: np.ndarray, predicted: np.ndarray, target: np.ndarray) -> None:
        """Take the next frames, in order. samples : (n,) sample indices; predicted, target : (n, A, 3), mesh units."""
        both = np.stack([predicted, target]).astype(np.float32) * np.float32(self.millimetres)
        self._add_variance(both)
        if self.tail is not None:
            samples = np.concatenate([self.tail[0], samples])
            both = np.concatenate([self.tail[1], both], axis=1)
        self.tail = samples[-2:], both[:, -2:]
        if len(samples) > 2:
            self._add_noise(samples, both)

    def _add_variance(self, both: np.ndarray) -> None:
        """Merge the chunk's mean and squared deviations into the running ones (Chan et al. 1979)."""
        n = both.shape[1]
        mean = both.mean(axis=1, dtype=np.float64)
        squares = ((both - mean[:, None].astype(np.float32)) ** 2).sum(axis=(1, 3), dtype=np.float64)
        step = mean - self.mean
        total = self.count + n
        self.squares = self.squares + squares + (step ** 2).sum(axis=2) * self.count * n / total
        self.mean, self.count = self.mean + step * n / total, total

    def _add_noise(self, samples: np.ndarray, both: np.ndarray) -> None:
        step = np.diff(both, axis=1)
        speed = (step[1] ** 2).sum(axis=2)  # (n-1, A) mm2
        bend = (np.diff(step, axis=1) ** 2).sum(axis=3)  # (2, n-2, A) mm2
        joined = (np.diff(samples) == 1)[:-1] & (np.diff(samples) == 1)[1:]  # an excluded frame breaks a passage
        for row, vertices in enumerate(self.regions.values()):
            slow = speed[:, vertices].mean(axis=1) < STILL_MM ** 2
            still = joined & slow[:-1] & slow[1:]
            self.noise[row] += *bend[:, still][:, :, vertices].mean(axis=2).sum(axis=1), still.sum()

    def sums(self) -> np.ndarray:
        """(regions, 5) float64, to be added over shots and read by `motion_figures`."""
        squares = np.zeros((2, len(self.regions))) if not self.count else np.stack(
            [self.squares[:, vertices].sum(axis=1) for vertices in self.regions.values()], axis=1)
        return np.column_stack([self.noise, *squares])


def motion_figures(sums: np.ndarray, regions: Iterable[str]) -> dict[str, dict]:
    """Temporal noise and attenuation per region, from the sums of one `Motion` or of several.

    A figure is None where there is nothing to take it from: no still frame, or a target that never moves.
    """
    figures = {}
    for name, (noise, target_noise, still, variance, target_variance) in zip(regions, sums, strict=True):
        figures[name] = {
            "noise_mm": float(np.sqrt(noise / still)) if still else None,
            "target_noise_mm": float(np.sqrt(target_noise / still)) if still else None,
            "still_frames": int(still),
            "attenuation": float(np.sqrt(variance / target_variance)) if target_variance > 0 else None,
        }
    return figures
