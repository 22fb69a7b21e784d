"""The sample actor's skin, eyes and teeth as textures, and the light and shadow baked into them."""

import cv2
import numpy as np

from . import sample_face as face
from .sample_sculpt import head, normals

TEXELS = 8  # per vertex, along rows and columns
KEY_LIGHT = np.array([-0.48, 0.52, 0.71])  # unit direction to the key light, head looking into the camera
_CANVAS = 40  # pixels a centimetre of the plane in which the skin is painted
_LEFT, _TOP = -17.0, 13.5  # its corner: cm of arc at radius 8.5, and height


def upsample(grid: np.ndarray) -> np.ndarray:
    """Vertex values (rows, columns[, k]) to texels, cubic; vertex (i, j) is at texel TEXELS * (i + 0.5) - 0.5."""
    return cv2.resize(np.ascontiguousarray(grid, np.float32), None, fx=TEXELS, fy=TEXELS, interpolation=cv2.INTER_CUBIC)


def _noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> np.ndarray:
    """Smooth random values of deviation about 1, with blobs of `cell` pixels."""
    coarse = rng.standard_normal((int(shape[0] / cell) + 3, int(shape[1] / cell) + 3)).astype(np.float32)
    return 1.5 * cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)


def _mix(picture: np.ndarray, colour: tuple, amount: np.ndarray) -> None:
    picture += (np.array(colour, np.float32) - picture) * np.clip(amount, 0, 1)[..., None].astype(np.float32)


def _hairs(mask: np.ndarray, roots: np.ndarray, angles: np.ndarray, length: float, thickness: int, rng) -> None:
    """Draw short strokes into mask (H, W) uint8.    roots : (n, 2) cm on the canvas, angles : (n,) radians."""
    for (s, y), angle in zip(roots, angles, strict=True):
        long = length * rng.uniform(0.6, 1.2)
        start = np.array([(s - _LEFT), (_TOP - y)]) * _CANVAS
        end = start + long * _CANVAS * np.array([np.cos(angle), -np.sin(angle)])
        cv2.line(mask, *[tuple(int(v) for v in np.rint(16 * p)) for p in (start, end)],
                 int(rng.integers(150, 255)), thickness, cv2.LINE_AA, 4)


def _brow_roots(rng, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Roots (n, 2) and growth angles of one (left) brow's hairs."""
    t = rng.uniform(0, 1, count) ** 0.9
    across = rng.uniform(-1, 1, count)
    s = 1.35 + 4.7 * t
    arch = 1.75 + 0.95 * np.sin(np.pi * np.clip(t * 0.62 + 0.06, 0, 1)) ** 1.2 - 0.55 * np.clip(t - 0.65, 0, 1) * 2
    width = 0.36 * (1 - t) ** 0.5 * np.clip(t * 6 + 0.5, 0, 1) + 0.07
    angle = np.radians(75 - 75 * np.clip(t * 2.2, 0, 1) - 28 * np.clip(t - 0.55, 0, 1) * 2 - 22 * across)
    return np.stack([s, arch + width * across], axis=-1), angle


def _canvas(rng: np.random.Generator) -> np.ndarray:
    """Skin colour, (H, W, 3) float32 RGB as displayed, on the plane of arc and height."""
    shape = (int(31.5 * _CANVAS), int(34 * _CANVAS))
    y, s = np.meshgrid(_TOP - np.arange(shape[0], dtype=np.float32) / _CANVAS,
                       _LEFT + np.arange(shape[1], dtype=np.float32) / _CANVAS, indexing="ij")
    a = np.abs(s)

    def spot(cs, cy, rs, ry):
        return np.exp(-((a - cs) / rs) ** 2 - ((y - cy) / ry) ** 2)

    skin = np.empty((*shape, 3), np.float32)
    skin[:] = (0.82, 0.63, 0.53)
    _mix(skin, (0.78, 0.50, 0.44), 0.45 * spot(4.6, -3.2, 2.0, 1.7) + 0.4 * spot(0, -3.7, 1.5, 1.0)
         + 0.2 * spot(0, -9.8, 1.6, 1.2))
    _mix(skin, (0.62, 0.47, 0.45), 0.40 * spot(2.9, -1.2, 1.5, 0.5) + 0.35 * spot(3.3, 0.9, 1.6, 0.5))
    mottle = sum(amount * _noise(rng, shape, cell) for amount, cell in ((0.014, 30), (0.018, 9), (0.022, 3)))
    skin *= 1 + mottle[..., None]
    beard = np.clip(1.2 - np.abs(y + 9.2) / 3.4, 0, 1) ** 0.7 * np.clip(1.5 - np.maximum(a - 3, 0) / 5.2, 0, 1)
    beard *= 1 - 0.9 * spot(0, -4.2, 2.6, 1.3)
    _mix(skin, (0.50, 0.43, 0.41), 0.28 * beard * (1 + 0.35 * _noise(rng, shape, 3)))
    freckles = np.zeros(shape, np.uint8)
    for _ in range(260):
        fs, fy = rng.normal(0, 3.4), rng.normal(-2.3, 1.6)
        cv2.circle(freckles, (int((fs - _LEFT) * _CANVAS * 8), int((_TOP - fy) * _CANVAS * 8)),
                   int(8 * rng.uniform(0.6, 1.7)), int(rng.integers(40, 130)), -1, cv2.LINE_AA, 3)
    for fs, fy in ((4.9, -5.6), (-3.6, -4.9), (-6.1, -2.0), (1.7, 4.6), (-2.2, -9.3), (6.6, -7.4), (-5.2, 3.9)):
        cv2.circle(freckles, (int((fs - _LEFT) * _CANVAS), int((_TOP - fy) * _CANVAS)), 3, 235, -1, cv2.LINE_AA)
    _mix(skin, (0.42, 0.27, 0.22), cv2.GaussianBlur(freckles, (0, 0), 0.8) / 255)
    nostril = np.hypot((a - 0.56) / 0.27, (y + 4.45 + 0.25 * (a - 0.56)) / 0.17)
    _mix(skin, (0.16, 0.08, 0.07), 0.9 * np.clip(1.6 - 1.2 * nostril, 0, 1))
    _mix(skin, (0.13, 0.09, 0.075), _hair(rng, shape, s, y))
    neck = skin[int((_TOP + 11.5) * _CANVAS):]  # the rows of texels are far apart there
    neck[:] = cv2.GaussianBlur(neck, (0, 0), 1, sigmaY=12)
    return np.clip(skin, 0.02, 1)


def _hair(rng: np.random.Generator, shape: tuple[int, int], s: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Coverage 0..1 by brows and close-cropped hair."""
    brows = np.zeros(shape, np.uint8)
    for side in (1, -1):
        roots, angles = _brow_roots(rng, 900)
        _hairs(brows, roots * (side, 1), angles if side > 0 else np.pi - angles, 0.42, 2, rng)
    a = np.abs(s)
    line = 6.9 + 1.0 * np.exp(-((a - 4.4) / 2.0) ** 2) - 10.5 * np.clip((a - 7.0) / 3.6, 0, 1) ** 1.6
    cap = 1 / (1 + np.exp(-np.clip((y - line - 0.12 * _noise(rng, shape, 8)) / 0.22, -30, 30)))
    return np.maximum(0.85 * cv2.GaussianBlur(brows, (0, 0), 0.9) / 255.0, cap * (0.88 + 0.06 * _noise(rng, shape, 2)))


def creases(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where skin folds when it is pushed together vertically and sideways: two (H, W) float32 of depth 0..1."""
    s, y = np.abs(8.5 * np.arctan2(positions[..., 0], np.maximum(positions[..., 2], 0.2))), positions[..., 1]

    def line(offset, width, *fade):  # a crease along offset = 0, within soft boxes of (value, centre, half length)
        return np.exp(-(offset / width) ** 2) * np.prod([np.exp(-((v - c) / h) ** 4) for v, c, h in fade], axis=0)

    wave = 0.12 * np.sin(1.3 * s) - 0.012 * s ** 2
    lying = sum(line(y - at - wave, 0.13, (s, 0, reach)) for at, reach in ((3.7, 4.6), (4.5, 4.2), (5.3, 3.4)))
    lying += sum(line(y + 1.35 - drop + 0.25 * (s - 3) - 0.08 * (s - 3) ** 2, 0.10, (s, 3.4, 1.6)) for drop in (0, 0.4))
    lying += sum(line(y - at, 0.10, (s, 0, 0.9)) for at in (0.1, 0.5))
    standing = line(s - 0.62 - 0.1 * (y - 1.6), 0.11, (y, 1.7, 1.0))
    standing += 0.7 * line(s - 2.0 - 0.42 * (-4.0 - y) - 0.05 * (-4.0 - y) ** 2, 0.3, (y, -5.2, 1.8))
    standing += sum(line(y + 0.1 - slope * (s - 5.6), 0.09, (s, 6.4, 0.8)) for slope in (-0.5, 0.0, 0.5))
    return lying.astype(np.float32), standing.astype(np.float32)


def skin_albedo(positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Linear colour (H, W, 3) of the skin patch.    positions : (H, W, 3) neutral position of each texel, cm."""
    azimuth = np.arctan2(positions[..., 0], np.maximum(positions[..., 2], 0.2))
    at = np.stack([8.5 * azimuth - _LEFT, _TOP - positions[..., 1]], axis=-1).astype(np.float32) * _CANVAS - 0.5
    skin = cv2.remap(_canvas(rng), at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    rows = (np.arange(skin.shape[0])[:, None] + 0.5) / TEXELS - 0.5
    columns = np.interp((np.arange(skin.shape[1]) + 0.5) / TEXELS - 0.5, np.arange(len(face.AZIMUTHS)), face.AZIMUTHS)
    _paint_lips(skin, rows, columns[None])
    _paint_lids(skin, rows, columns[None])
    return skin ** 2


def _paint_lips(skin: np.ndarray, rows: np.ndarray, azimuth: np.ndarray) -> None:
    inside = np.clip((face.MOUTH_CORNER + 0.6 - np.abs(azimuth)) / 1.5, 0, 1)
    up, down = face.UPPER_LIP - rows, rows - face.LOWER_LIP  # rows above and below the line between the lips
    full = np.clip(1 - (np.abs(azimuth) / (face.MOUTH_CORNER + 0.5)) ** 4, 0, 1) ** 0.7
    red = np.where(up > -0.5, (0.3 + 4.9 * full - up) / 0.7, (0.3 + 4.8 * full - down) / 1.3)
    _mix(skin, (0.64, 0.36, 0.33), 0.6 * np.clip(red, 0, 1) * inside)
    _mix(skin, (0.40, 0.17, 0.17), 0.75 * np.exp(-(np.maximum(np.maximum(up, down), 0) / 0.8) ** 2) * inside)
    pocket = np.minimum(rows - face.UPPER_LIP, face.LOWER_LIP - rows)
    _mix(skin, (0.42, 0.15, 0.15), np.clip(pocket / 0.8, 0, 1) * (inside > 0))
    _mix(skin, (0.20, 0.05, 0.045), np.clip((pocket - 0.8) / 1.5, 0, 1) * (inside > 0))


def _paint_lids(skin: np.ndarray, rows: np.ndarray, azimuth: np.ndarray) -> None:
    side = np.abs(azimuth)
    inside = np.clip((side - face.CANTHI[0] + 0.8) / 1.5, 0, 1) * np.clip((face.CANTHI[1] + 1.2 - side) / 1.5, 0, 1)
    upper, lower = face.UPPER_LID - rows, rows - face.LOWER_LID
    outer = np.clip((side - face.CANTHI[0]) / (face.CANTHI[1] - face.CANTHI[0]), 0, 1)
    _mix(skin, (0.10, 0.07, 0.06), (0.55 + 0.4 * outer) * np.exp(-((upper - 0.15) / 0.5) ** 2) * inside)
    _mix(skin, (0.35, 0.22, 0.20), 0.7 * np.exp(-((lower - 0.1) / 0.45) ** 2) * inside)
    _mix(skin, (0.62, 0.42, 0.38), 0.9 * ((upper < -0.5) & (lower < -0.5)) * inside)


def eye_albedo(size: int, span: tuple[float, float]) -> np.ndarray:
    """Linear colour (size, size, 3) of an eyeball.    span : degrees of latitude and longitude from its middle."""
    up, across = np.meshgrid(np.linspace(span[0], -span[0], size), np.linspace(-span[1], span[1], size), indexing="ij")
    angle = np.degrees(np.arccos(np.cos(np.radians(up)) * np.cos(np.radians(across))))
    around = np.arctan2(up, across)
    eye = np.empty((size, size, 3), np.float32)
    eye[:] = (0.78, 0.75, 0.73)
    _mix(eye, (0.80, 0.50, 0.46), np.clip((angle - 45) / 60, 0, 0.5))
    streaks = 0.5 + 0.5 * np.sin(around * 23 + 3 * np.sin(around * 7))
    iris = np.clip((27.5 - angle) / 2.5, 0, 1)
    _mix(eye, (0.10, 0.10, 0.10), iris)
    _mix(eye, (0.36, 0.40, 0.34), np.clip((25 - angle) / 3.0, 0, 1) * (0.65 + 0.35 * streaks))
    _mix(eye, (0.46, 0.36, 0.22), np.clip((16 - angle) / 5, 0, 0.8))
    _mix(eye, (0.015, 0.015, 0.02), np.clip((10.5 - angle) / 2.0, 0, 1))
    return eye ** 2


def teeth_albedo(shape: tuple[int, int], upper: bool) -> np.ndarray:
    """Linear colour (H, W, 3) of a row of teeth: gum at one end, gaps between teeth."""
    down, across = np.meshgrid(np.linspace(0, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")
    teeth = np.empty((*shape, 3), np.float32)
    teeth[:] = (0.84, 0.80, 0.72)
    width = np.abs(across) * (5.6 if upper else 5.0)
    gap = np.abs(width - np.rint(width)) if upper else np.abs(width - np.rint(width - 0.5) - 0.5)
    _mix(teeth, (0.30, 0.20, 0.17), 0.6 * np.exp(-(gap / 0.05) ** 2))
    scallop = 0.07 * np.cos(2 * np.pi * width)
    gum = 0.42 + scallop - down if upper else down - 0.62 + scallop
    _mix(teeth, (0.55, 0.28, 0.27), np.clip(gum * 25, 0, 1))
    return teeth ** 2


def occlusion(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much sky, and how much of the key light, reaches points on the neutral head: two arrays (H, W) in 0..1."""
    normal = normals(positions)
    positions = positions - head(positions)[..., None] * normal  # from the mesh onto the solid
    sky = np.ones(positions.shape[:2])
    for reach, weight in ((0.2, 0.55), (0.5, 0.35), (1.0, 0.22), (1.9, 0.13)):
        sky -= weight * np.clip(reach - head(positions + reach * normal), 0, None) / reach
    key = np.ones(positions.shape[:2])
    start = positions + 0.15 * normal
    for reach in np.geomspace(0.12, 7, 18):
        key = np.minimum(key, 0.5 + 3.5 * head(start + reach * KEY_LIGHT) / reach)
    return np.clip(sky, 0.15, 1), np.clip(key, 0, 1)


def atlas(actor: face.Face, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """What the atlas reflects: of the key light and of all other light, (h, w, 3) linear each, its gloss (h, w),
    and its creases (2, h, w), see `creases`."""
    rows, columns = (TEXELS * n for n in actor.atlas.shape)
    albedo = np.full((rows, columns, 3), 0.1, np.float32)
    sky, key = np.ones((rows, columns), np.float32), np.ones((rows, columns), np.float32)
    gloss = np.zeros((rows, columns), np.float32)

    def texels(name):
        return tuple(slice(TEXELS * s.start if s.start else 0, TEXELS * s.stop) for s in actor.parts[name])

    skin = texels("skin")
    positions = upsample(actor.grid)
    albedo[skin] = skin_albedo(positions, rng)
    half = positions[TEXELS // 4::TEXELS // 2, TEXELS // 4::TEXELS // 2].astype(np.float64)
    for baked, value in zip((sky, key), occlusion(half), strict=True):
        baked[skin] = cv2.resize(value.astype(np.float32), positions.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    gloss[skin] = 0.2 * albedo[skin].mean(axis=-1) ** 0.5
    for name in ("ear_left", "ear_right"):
        where = texels(name)
        around = np.linspace(0, 1, TEXELS * 6)[::1 if name == "ear_left" else -1]
        albedo[where] = np.square([0.78, 0.55, 0.47])
        sky[where] = 0.75 - 0.45 * np.exp(-((around - 0.5) / 0.2) ** 2)
    for name in ("eye_left", "eye_right"):
        where = texels(name)
        albedo[where] = eye_albedo(where[0].stop - where[0].start, face.EYE_SPAN)
    for name in ("upper_teeth", "lower_teeth"):
        where = texels(name)
        albedo[where] = teeth_albedo(albedo[where].shape[:2], name == "upper_teeth")
        gloss[where] = 0.2
    albedo[texels("tongue")] = np.square([0.62, 0.30, 0.30])
    gloss[texels("tongue")] = 0.1
    lit = albedo * sky[..., None]
    folds = np.zeros((2, rows, columns), np.float32)
    folds[:, skin[0], skin[1]] = creases(positions)
    return (lit * key[..., None] * np.float32((1.06, 1.0, 0.92)), lit * np.float32((0.92, 0.98, 1.10)),
            gloss * sky * (0.3 + 0.7 * key), folds)


def studio(rng: np.random.Generator, size: tuple[int, int], fine: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What does not move with the head: background (fine), shirt in front of the neck, and the shirt's cover 0..1."""
    width, height = size
    y, x = np.meshgrid(np.linspace(-1, 1, fine * height), np.linspace(-1, 1, fine * width), indexing="ij")
    glow = 70 - 26 * np.hypot(x - 0.15, y + 0.2)
    background = np.clip(np.stack([glow * 0.92, glow, glow * 1.06], axis=-1), 0, 255).astype(np.uint8)
    y, x = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width - 0.5, indexing="ij")
    collar = np.where(np.abs(x) < 0.26, 0.925 - 1.25 * x ** 2, 0.8405 + 0.45 * np.maximum(np.abs(x) - 0.26, 0) ** 1.25)
    cover = np.clip((y - collar) * height / 1.5, 0, 1).astype(np.float32)
    cloth = 0.20 - 0.10 * np.abs(x + 0.1) + 0.008 * _noise(rng, (height, width), 2)
    cloth *= 1 - 0.3 * np.exp(-((y - collar - 0.012) / 0.006) ** 2)
    shirt = np.clip(255 * cloth[..., None] * np.array([0.75, 0.9, 1.1]), 0, 255).astype(np.uint8)
    return background, shirt, cover
