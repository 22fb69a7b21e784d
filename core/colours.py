"""The colours of errors, the same in the viewport, along the timeline, in pictures and on pages. Numpy only."""

import numpy as np

# Matplotlib's viridis (CC0), which colour-blind people can read, at equal steps: bright is bad.
STOPS = np.array([
    (68, 1, 84), (72, 24, 106), (71, 45, 123), (66, 64, 134), (59, 82, 139), (51, 99, 141),
    (44, 114, 142), (38, 130, 142), (33, 145, 140), (31, 160, 136), (40, 174, 128), (63, 188, 115),
    (94, 201, 98), (132, 212, 75), (173, 220, 48), (216, 226, 25), (253, 231, 37)], np.float32) / 255


def heat_colours(fractions: np.ndarray) -> np.ndarray:
    """Colours of fractions of what is still told apart, (n, 3) float32 sRGB 0..1.

    fractions : (n,); what is below 0 or above 1 has the first or the last colour, NaN the first.
    """
    place = np.clip(np.nan_to_num(np.asarray(fractions, np.float32)), 0, 1) * (len(STOPS) - 1)
    below = np.minimum(place.astype(np.int32), len(STOPS) - 2)
    part = (place - below)[:, None]
    return STOPS[below] * (1 - part) + STOPS[below + 1] * part


def linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB values 0..1 as scene linear ones, which colour attributes hold."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(np.float32)
