"""Whether footage is framed and lit as what a model was trained on.

The mean network input of a shot is registered with the mean training input, which the model file holds. A mean shows
the head where it mostly is: expressions and noise wash out. What is registered is the strength of edges, which light
and exposure hardly change. benchmarks/framing.py measures what the limits find and what they flag wrongly.
"""

import dataclasses
from dataclasses import dataclass

import cv2
import numpy as np

from .crop import HEIGHT, WIDTH, Crop
from .fields import is_number

SHIFT = 4.5         # network-input pixels
SCALE = 0.025       # ratio, either way
ROLL = 1.5          # degrees
BRIGHTNESS = 0.045  # ratio of gray levels, either way
CONTRAST = 0.15     # ratio, either way
MATCH = 0.6         # correlation of edges; below it, the pictures show different things
STARTS = (1.0, 0.85, 1.18)  # scales from which registration starts: each finds what is about 15 % away


@dataclass(frozen=True)
class Framing:
    """How footage differs from what a model was trained on; the numbers say where footage stands against training.

    verdict : "same", "different" or "unknown".    text : a sentence for the artist.    within : whether augmentation
    in training covered the difference, None if unknown.    shift : (x, y) network-input pixels, to the right and down.
    scale : ratio.    roll : degrees, clockwise.    brightness, contrast : ratios, of gray levels and of their relative
    spread.    match : correlation of edges, at most 1.
    """

    verdict: str
    text: str
    within: bool | None = None
    shift: tuple[float, float] | None = None
    scale: float | None = None
    roll: float | None = None
    brightness: float | None = None
    contrast: float | None = None
    match: float | None = None

    def to_json(self) -> dict:
        return dataclasses.asdict(self)

    def corrected(self, crop: Crop) -> Crop | None:
        """The crop that undoes shift and scale of footage seen through `crop`; None where they are as in training."""
        if self.shift is None or self.scale is None or not (_is_shift(*self.shift) or _off(self.scale) > SCALE):
            return None
        width, height = crop.width * self.scale, crop.height * self.scale
        x = crop.x + crop.width / 2 + self.shift[0] * crop.width / WIDTH - width / 2
        y = crop.y + crop.height / 2 + self.shift[1] * crop.height / HEIGHT - height / 2
        return Crop(x, y, width, height)


def compare(reference: np.ndarray, shown: np.ndarray, training: object = None) -> Framing:
    """Compare the mean network input of a shot with that of training.

    reference, shown : (320, 240) gray levels, 0..255.    training : the training configuration in the model file, which
    says what augmentation covered; anything else is ignored.
    """
    found = register(reference, shown)
    if found is None or found[1] < MATCH:
        text = ("The crop does not show what the model was trained on. Check that it holds the whole face, and that "
                "the model is this actor's.")
        return Framing("different", text, False, match=found and round(found[1], 2))
    matrix, match = found
    turn, middle = matrix[:2, :2], np.array([WIDTH / 2, HEIGHT / 2])
    x, y = (turn @ middle + matrix[:2, 2] - middle).tolist()
    scale = float(np.sqrt(np.linalg.det(turn)))
    roll = float(np.degrees(np.arctan2(turn[1, 0] - turn[0, 1], turn[0, 0] + turn[1, 1])))
    brightness, contrast = _light(reference, shown, matrix)
    parts = []
    if _is_shift(x, y):
        parts.append("shifted " + " and ".join(_sides(x, y)))
    if _off(scale) > SCALE:
        parts.append(f"{100 * _off(scale):.0f} % {'larger' if scale > 1 else 'smaller'}")
    if abs(roll) > ROLL:
        parts.append(f"rolled {abs(roll):.0f} degrees {'clockwise' if roll > 0 else 'counterclockwise'}")
    if _off(brightness) > BRIGHTNESS:
        parts.append(f"{100 * abs(brightness - 1):.0f} % {'brighter' if brightness > 1 else 'darker'}")
    if _off(contrast) > CONTRAST:
        parts.append(f"{100 * abs(contrast - 1):.0f} % {'higher' if contrast > 1 else 'lower'} in contrast")
    numbers = {"shift": (round(x, 1), round(y, 1)), "scale": round(scale, 3), "roll": round(roll, 1),
               "brightness": round(brightness, 3), "contrast": round(contrast, 3), "match": round(match, 2)}
    if not parts:
        return Framing("same", "Framed and lit like the training footage.", True, **numbers)
    within = _within(training, x, y, scale, roll, brightness - 1, brightness * contrast, reference)
    outcome = {True: ", which is within what the model was trained to bear", None: "",
               False: ", which is more than the model was trained to bear"}[within]
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    text = f"Unlike the training footage: {listed}{outcome}."
    return Framing("different", text, within, **numbers)


def register(reference: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, float] | None:
    """The affine map that leads from `reference` to `shown`, and the correlation of edges that it reaches.

    Returns ((3, 3) float64, continuous input pixels; float), or None if the pictures have nothing in common.
    """
    still, moved = _edges(reference), _edges(shown)
    height, width = still.shape
    guess, _ = cv2.phaseCorrelate(still - still.mean(), moved - moved.mean(),
                                  cv2.createHanningWindow((width, height), cv2.CV_32F))
    best, match, everywhere = None, -1.0, np.full(still.shape, 255, np.uint8)
    for scale in STARTS:
        for x, y in ((0.0, 0.0), guess):
            start = np.array([[scale, 0, x + width / 2 * (1 - scale)], [0, scale, y + height / 2 * (1 - scale)]])
            try:
                reached, matrix = cv2.findTransformECC(
                    still, moved, start.astype(np.float32), cv2.MOTION_AFFINE,
                    (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 60, 1e-5), everywhere, 5)
            except cv2.error:  # it did not converge
                continue
            if reached > match and np.linalg.det(matrix[:, :2]) > 0:
                best, match = np.vstack([matrix, [0, 0, 1]]).astype(np.float64), float(reached)
    if best is None:
        return None
    to_input = np.array([[2, 0, 1], [0, 2, 1], [0, 0, 1]])  # of the centres of pixels that are 2 x 2 input pixels
    return to_input @ best @ np.linalg.inv(to_input), match


def _edges(picture: np.ndarray) -> np.ndarray:
    """(160, 120) float32 strength of edges, compressed so that a few strong ones do not outweigh all others."""
    small = cv2.resize(picture.astype(np.float32), (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), 1)
    strength = cv2.magnitude(cv2.Sobel(small, cv2.CV_32F, 1, 0), cv2.Sobel(small, cv2.CV_32F, 0, 1))
    return np.log1p(strength / (0.25 * strength.mean() + 1e-3))


def _light(reference: np.ndarray, shown: np.ndarray, matrix: np.ndarray) -> tuple[float, float]:
    """Ratios of the mean gray level and of its relative spread, over what both pictures show."""
    to_index = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
    affine = (to_index @ matrix @ np.linalg.inv(to_index))[:2]
    back = cv2.warpAffine(shown.astype(np.float32), affine, (WIDTH, HEIGHT), borderValue=(-1.0,),
                          flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_CONSTANT)
    both = back >= 0
    if not both.any():
        return 1.0, 1.0
    of, was = back[both], reference[both].astype(np.float32)
    brightness = max(float(of.mean()), 1.0) / max(float(was.mean()), 1.0)
    return brightness, max(float(of.std()), 0.1) / max(float(was.std()), 0.1) / brightness


def _within(training: object, x: float, y: float, scale: float, roll: float, brighter: float, gain: float,
            reference: np.ndarray) -> bool | None:
    """Whether the augmentation of a training configuration (training/config.py) reaches a difference; None: unknown."""
    names = ("translation", "zoom", "rotation", "brightness", "contrast")
    if not isinstance(training, dict) or not all(is_number(training.get(name)) for name in names):
        return None
    offset = brighter * reference.mean() / max(float(reference.std()), 1.0)  # in deviations, as training counts it
    return bool(max(abs(x), abs(y)) <= training["translation"] and _off(scale) <= training["zoom"]
                and abs(roll) <= training["rotation"] and abs(offset) <= training["brightness"]
                and _off(gain) <= training["contrast"])


def _off(ratio: float) -> float:
    """How far a ratio is from 1, the same for a half as for the double."""
    return max(ratio, 1 / ratio) - 1


def _is_shift(x: float, y: float) -> bool:
    return bool(np.hypot(x, y) > SHIFT)


def _sides(x: float, y: float) -> list[str]:
    """Words for a shift; a small part beside a large one is left out."""
    sides = (x, "right" if x > 0 else "left"), (y, "down" if y > 0 else "up")
    return [f"{abs(length):.0f} px {side}" for length, side in sides if abs(length) >= max(abs(x), abs(y)) / 4]
