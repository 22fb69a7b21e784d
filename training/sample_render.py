"""Pictures of the sample actor: textured quads, lit per vertex, drawn far to near at twice the picture's size.

Each quad's number is filled in by OpenCV; an affine map per quad then leads every pixel into one texture, the atlas of
all parts, which is lit afresh for the frame. Facets do not show, because light is interpolated in the atlas.
"""

import cv2
import numpy as np

from . import sample_face as face
from . import sample_paint as paint
from .sample_sculpt import EYE, EYE_RADIUS

WIDTH, HEIGHT = 384, 512
CAMERA = 95.0  # cm from the camera to the plane z = 8 of a head that looks into it
SCALE = 18.0  # picture pixels a centimetre in that plane
LOOK_AT = np.array([0.0, -3.0, 8.0])  # seen in the middle of the picture
NECK = np.array([0.0, -9.0, -1.0])  # the head turns about this point
FILL_LIGHT = np.array([0.80, 0.10, 0.59])
_FINE = 2  # drawn at this many times the picture's size
_SHIFT = 4  # fractional bits of drawn corners


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """(3, 3) rotation from angles in radians: yaw to the actor's left, pitch down, roll to the actor's right ear up."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


class Renderer:
    """Draws poses of one face; `seed` decides skin and hair."""

    def __init__(self, actor: face.Face, seed: int):
        self.face = actor
        rng = np.random.default_rng(seed)
        rows, columns = np.unravel_index(actor.face_places, actor.atlas.shape)
        self._uv = paint.TEXELS * (columns + 1j * rows + 0.5 + 0.5j) - 0.5 - 0.5j  # (F, 4) texels of the corners
        self._lengths = _lengths(actor.pose(np.zeros(len(face.CONTROLS)))[0][actor.atlas])
        self._eyeballs = [actor.part("eye_left").ravel(), actor.part("eye_right").ravel()]
        self._eye_faces = np.flatnonzero(actor.layers == 2)
        self._inside = _inside_mouth(actor)
        self._key, self._rest, self._gloss, self._creases = paint.atlas(actor, rng)
        self._background, self._shirt, self._shirt_cover = paint.studio(rng, (WIDTH, HEIGHT), _FINE)

    def draw(self, vertices: np.ndarray, turn: np.ndarray, shift: np.ndarray, gaze: tuple[float, float]) -> np.ndarray:
        """One picture, (512, 384, 3) uint8 RGB.

        vertices : (V, 3) head-stabilised.    turn : (3, 3) rotation of the head about the neck.    shift : (3,) cm.
        gaze : radians to the actor's left and up.
        """
        vertices = vertices.astype(np.float32)
        vertices, shade = self._look(vertices, gaze)
        normals = self._normals(vertices) @ turn.T.astype(np.float32)
        half = paint.KEY_LIGHT + (0, 0, 1)
        half *= EYE_RADIUS / np.linalg.norm(half)  # where an eyeball mirrors the key light
        eyes = (EYE * [[1, 1, 1], [-1, 1, 1]] - NECK) @ turn.T + NECK + shift + half
        world = (vertices - NECK) @ turn.T + NECK + shift
        corners, depth = self._project(world)[self.face.faces], world[:, 2][self.face.faces].mean(axis=1)
        picture, numbers = self._fill(corners, depth, self._light(vertices, normals, shade))
        for spot in self._project(eyes):
            self._catchlight(picture, numbers, spot)
        picture = cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        return cv2.blendLinear(self._shirt, picture, self._shirt_cover, 1 - self._shirt_cover)

    def _look(self, vertices: np.ndarray, gaze: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
        """Turn the eyeballs, and tell how much light reaches each vertex between the lids and the lips, (V,)."""
        vertices = vertices.copy()
        turn = rotation(gaze[0], -gaze[1], 0).astype(np.float32)
        shade = np.ones(len(vertices), np.float32)
        skin = self.face.part("skin")
        for side, ball in zip((1, -1), self._eyeballs, strict=True):
            eye = (EYE * (side, 1, 1)).astype(np.float32)
            vertices[ball] = (vertices[ball] - eye) @ turn.T + eye
            rim = vertices[skin[face.UPPER_LID, face.eye_columns(side)], 1].max()
            shade[ball] = 0.45 + 0.55 * face.smoothstep(rim + 0.1, rim - 0.55, vertices[ball, 1])
        middle = skin.shape[1] // 2
        gap = vertices[skin[face.UPPER_LIP, middle], 1] - vertices[skin[face.LOWER_LIP, middle], 1]
        inside, depth = self._inside
        shade[inside] = depth * (0.5 + 0.5 * face.smoothstep(0.0, 1.8, gap))
        return vertices, shade

    def _normals(self, vertices: np.ndarray) -> np.ndarray:
        quads = vertices[self.face.faces]
        normal = np.cross(quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1])
        corners = self.face.faces.T.ravel()
        total = np.stack([np.bincount(corners, np.tile(normal[:, k], 4), len(vertices)) for k in range(3)], axis=-1)
        return (total / (np.linalg.norm(total, axis=-1, keepdims=True) + 1e-9)).astype(np.float32)

    def _light(self, vertices: np.ndarray, normals: np.ndarray, shade: np.ndarray) -> np.ndarray:
        """The atlas as displayed, (h, w, 3) uint8."""
        facing = normals @ paint.KEY_LIGHT.astype(np.float32)
        key = 1.12 * np.clip((facing + 0.12) / 1.12, 0, None) * shade
        rest = (0.33 + 0.07 * normals[:, 1] + 0.36 * np.clip(normals @ FILL_LIGHT, 0, None)
                + 0.16 * np.clip(normals[:, 2], 0, None)) * shade
        half = paint.KEY_LIGHT + (0, 0, 1)
        gloss = np.clip(normals @ (half / np.linalg.norm(half)), 0, None) ** 18 * shade
        light = np.stack([key, rest, gloss], axis=-1).astype(np.float32)[self.face.atlas]
        pushed = np.clip(1 - _lengths(vertices[self.face.atlas]) / self._lengths, 0, 1)  # the skin, down and across
        key, rest, gloss, down, across = cv2.split(paint.upsample(np.concatenate([light, 2.2 * pushed], -1)))
        creased = 1 - cv2.multiply(self._creases[0], cv2.min(down, 1)) - self._creases[1] * cv2.min(across, 1)
        gloss *= self._gloss
        key *= creased
        rest *= creased
        lit = self._key * cv2.merge([key] * 3)
        lit += self._rest * cv2.merge([rest] * 3)
        lit += cv2.merge([gloss] * 3)
        return cv2.convertScaleAbs(cv2.sqrt(np.maximum(lit, 0, out=lit)), alpha=255)

    @staticmethod
    def _project(world: np.ndarray) -> np.ndarray:
        """Continuous fine pixels (n, 2) of points (n, 3)."""
        offset = world - LOOK_AT
        size = _FINE * SCALE * CAMERA / (CAMERA - offset[:, 2])
        return np.stack([_FINE * WIDTH / 2 + size * offset[:, 0], _FINE * HEIGHT / 2 - size * offset[:, 1]], axis=-1)

    def _fill(self, corners: np.ndarray, depth: np.ndarray, lit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draw the faces.    Returns the fine picture, uint8 RGB, and each pixel's face number plus one, int32."""
        across, along = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
        area = across[:, 1] * along[:, 0] - across[:, 0] * along[:, 1]  # twice the area, positive when facing us
        seen = np.flatnonzero(area > 0.5)
        seen = seen[np.lexsort((depth[seen], self.face.layers[seen]))]
        numbers = np.zeros((_FINE * HEIGHT, _FINE * WIDTH), np.int32)
        points = np.rint((corners - 0.5) * (1 << _SHIFT)).astype(np.int32)
        for number, polygon in zip((seen + 1).tolist(), points[seen], strict=True):
            cv2.fillConvexPoly(numbers, polygon, number, cv2.LINE_8, _SHIFT)
        steps = self._steps(corners, across, along, np.maximum(area, 0.5))
        low, high = corners[seen].min(axis=(0, 1)).astype(int) - 1, corners[seen].max(axis=(0, 1)).astype(int) + 2
        box = np.s_[max(low[1], 0):high[1], max(low[0], 0):high[0]]  # what the head may cover
        texels = _texels(steps, numbers[box], box)
        pixels = cv2.remap(lit, texels, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        picture = self._background.copy()
        np.copyto(picture[box], pixels, where=(numbers[box] > 0)[..., None])
        return picture, numbers

    def _steps(self, corners: np.ndarray, across: np.ndarray, along: np.ndarray, area: np.ndarray) -> np.ndarray:
        """Affine maps of the faces from their diagonals, (3, F + 1) complex64: texel = first + dx * x + dy * y.

        Texels are complex numbers; face 0 is none.
        """
        u, v = self._uv[:, 2] - self._uv[:, 0], self._uv[:, 3] - self._uv[:, 1]
        steps = np.zeros((3, len(corners) + 1), np.complex64)
        steps[1, 1:] = (v * across[:, 1] - u * along[:, 1]) / area
        steps[2, 1:] = (u * along[:, 0] - v * across[:, 0]) / area
        x, y = (corners.mean(axis=1) - 0.5).T
        steps[0, 1:] = self._uv.mean(axis=1) - steps[1, 1:] * x - steps[2, 1:] * y
        return steps

    def _catchlight(self, picture: np.ndarray, numbers: np.ndarray, spot: np.ndarray) -> None:
        """Brighten `picture` where an eyeball mirrors the key light and no lid covers it."""
        x, y = np.rint(spot).astype(int)
        where = np.s_[y - 8:y + 8, x - 8:x + 8]
        far = np.hypot(*np.subtract(np.mgrid[where][::-1] + 0.5, spot[:, None, None]))
        cover = np.clip(3.6 - far, 0, 1) * np.isin(numbers[where] - 1, self._eye_faces)
        picture[where] = np.maximum(picture[where], (235 * cover[..., None]).astype(np.uint8))


def _texels(steps: np.ndarray, numbers: np.ndarray, box: tuple[slice, slice]) -> np.ndarray:
    """Where pixels of `box` are in the atlas, (h, w, 2) float32.    numbers : (h, w) their faces plus one."""
    y, x = (np.arange(side.start, side.start + n, dtype=np.float32) for side, n in zip(box, numbers.shape, strict=True))
    at = np.empty(numbers.shape, np.complex64)
    for row in range(0, len(at), 32):  # in strips that stay in the processor's cache
        first, across, down = (np.take(step, numbers[row:row + 32]) for step in steps)
        across *= x
        down *= y[row:row + 32, None]
        np.add(first, across, out=at[row:row + 32])
        at[row:row + 32] += down
    return at.view(np.float32).reshape(*numbers.shape, 2)


def _lengths(grid: np.ndarray) -> np.ndarray:
    """Lengths down and across at each place of a grid (rows, columns, 3), (rows, columns, 2) float32, never 0."""
    lengths = np.ones((*grid.shape[:2], 2), np.float32)
    lengths[1:-1, :, 0] = np.linalg.norm(grid[2:] - grid[:-2], axis=-1) + 0.01
    lengths[:, 1:-1, 1] = np.linalg.norm(grid[:, 2:] - grid[:, :-2], axis=-1) + 0.01
    return lengths


def _inside_mouth(actor: face.Face) -> tuple[np.ndarray, np.ndarray]:
    """Vertices between the lips, and how much light reaches each when the mouth is wide open."""
    skin = actor.part("skin")
    pocket = np.setdiff1d(skin[face.UPPER_LIP + 1:face.LOWER_LIP], skin[[face.UPPER_LIP, face.LOWER_LIP]])
    solid = [actor.part(name).ravel() for name in ("upper_teeth", "lower_teeth", "tongue")]
    vertices = np.concatenate([pocket, *solid])
    return vertices, face.smoothstep(3.0, 8.6, actor.closed[vertices, 2])
