"""The sample actor's face: a sculpted mesh of fixed topology and the controls that move it, in centimetres.

The head is sculpted as a smooth union of ellipsoids and rods; its skin is one grid of rays cast from a point inside the
head, with rows that follow the lips and the lids. The grid folds inwards between the lips as a pocket (the inside of
the mouth) and is cut between the lids. Y is up, +Z looks at the camera, +X is the actor's left; the eyes are at y = 0.
"""

import numpy as np

from .sample_sculpt import CENTRE, EYE, EYE_RADIUS, cast

CONTROLS = ("jaw_open", "jaw_side", "smile_left", "smile_right", "frown", "pucker", "funnel", "lid_left", "lid_right",
            "brow_inner", "brow_outer", "brow_lower", "nose_wrinkle", "cheek_puff")
"""0 is neutral, 1 is full; jaw_side goes from -1 to 1 (the actor's left), lids from -1 (wide open) to 1 (closed)."""

HINGE = np.array([0.0, -1.6, 0.8])  # the jaw turns about the X axis through here
JAW_ANGLE, JAW_SIDE_ANGLE = np.radians(21.0), np.radians(7.0)

# Columns of the skin: azimuth in degrees, dense in the middle of the face. Canthi and mouth corners lie on columns.
_HALF = np.concatenate([np.linspace(0, 16.6, 11), np.linspace(16.6, 36.6, 11)[1:], np.linspace(36.6, 60, 7)[1:],
                        np.linspace(60, 112, 7)[1:]])
AZIMUTHS = np.concatenate([-_HALF[:0:-1], _HALF])
MOUTH_CORNER, CANTHI = _HALF[10], (_HALF[8], _HALF[19])

# Rows of the skin: elevation in degrees before `_bent` lays them around lips and lids.
EYE_LINE, MOUTH_LINE = 31.6, -15.6
LID_ROWS = 8  # rows that slide with the upper lid, and half as many with the lower lid
_FOREHEAD = np.concatenate([np.linspace(86, 54, 6)[:-1], np.linspace(54, 41, 5)[:-1],
                            np.linspace(41, EYE_LINE, LID_ROWS + 1)])
_MIDFACE = np.concatenate([np.linspace(EYE_LINE, 25.6, LID_ROWS // 2 + 1)[1:], np.linspace(25.6, 12, 6)[1:],
                           np.linspace(12, 7.2, 4)[1:], np.linspace(7.2, -1, 8)[1:], np.linspace(-1, -10.6, 5)[1:],
                           np.linspace(-10.6, MOUTH_LINE, 6)[1:]])
_CHIN = np.concatenate([np.linspace(MOUTH_LINE, -21.2, 6)[1:], np.linspace(-21.2, -42, 8)[1:],
                        np.linspace(-42, -62, 5)[1:], np.linspace(-62, -79, 4)[1:]])
POCKET_ROWS = 7
EYE_SPAN = (72, 78)  # degrees of latitude and longitude that an eyeball covers from its middle
UPPER_LID = len(_FOREHEAD) - 1  # the row of the upper lid's rim; then two inner rims; then the lower lid's rim
LOWER_LID = UPPER_LID + 3
UPPER_LIP = LOWER_LID + len(_MIDFACE)  # the row where the upper lip meets the lower one; then the pocket's rows
LOWER_LIP = UPPER_LIP + POCKET_ROWS + 1
ELEVATIONS = np.concatenate([_FOREHEAD, [EYE_LINE] * 3, _MIDFACE, [MOUTH_LINE] * (POCKET_ROWS + 1), _CHIN])


def smoothstep(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth in between; `low` may be the larger one."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _bell(x: np.ndarray, centre: float, width: float) -> np.ndarray:
    return np.exp(-((x - centre) / width) ** 2)


class Face:
    """The mesh and its controls.

    atlas : (rows, columns) int32, the vertex at every place of a grid that holds all parts side by side (-1 between
    them); `parts` names their places. In the skin several places may share a vertex: the grid is welded there.
    faces : (F, 4) int32, counter-clockwise from outside; a triangle has its last vertex twice. `face_places` are the
    same corners as places of the flattened atlas.    layers : (F,) what lies in front of what: 0 the mouth's pocket,
    1 teeth and tongue, 2 eyeballs, 3 skin and ears.    closed : (V, 3) vertices with lips and lids closed.
    """

    def __init__(self):
        self.grid, index = _skin()
        self.parts = {"skin": np.s_[:index.shape[0], :index.shape[1]]}
        self.atlas = np.full((index.shape[0], index.shape[1] + 17), -1, np.int32)
        self.atlas[self.parts["skin"]] = index
        positions = [_scatter(index, self.grid)]
        for name, row, column, part in _solid_parts():
            start = sum(map(len, positions))
            column += index.shape[1]
            self.parts[name] = np.s_[row:row + part.shape[0], column:column + part.shape[1]]
            self.atlas[self.parts[name]] = start + np.arange(part[..., 0].size).reshape(part.shape[:2])
            positions.append(part.reshape(-1, 3))
        self.closed = np.concatenate(positions)
        self.face_places, self.layers = _faces(self.atlas, self.parts)
        self.faces = self.atlas.ravel()[self.face_places]
        self._fields, self._jaw = self._weights()
        self._lids = [_LidTables(self.grid, index, side) for side in (1, -1)]

    def part(self, name: str) -> np.ndarray:
        """(rows, columns) int32 vertex indices of a part."""
        return self.atlas[self.parts[name]]

    def _weights(self) -> tuple[np.ndarray, np.ndarray]:
        """(controls, V, 3) linear displacements and (V,) share of the jaw's motion."""
        skin = self.part("skin")
        fields = np.zeros((len(CONTROLS), *self.closed.shape))
        for control, grid in _skin_fields(self.grid).items():
            fields[CONTROLS.index(control)][: skin.max() + 1] = _scatter(skin, _pocket_follows(grid))
        jaw = np.zeros(len(self.closed))
        jaw[: skin.max() + 1] = _scatter(skin, _pocket_follows(_jaw_share()))
        jaw[self.part("lower_teeth")] = jaw[self.part("tongue")] = 1
        return fields, jaw

    def pose(self, controls: np.ndarray) -> np.ndarray:
        """Vertices for control values.    controls : (N, 14), see CONTROLS.    Returns (N, V, 3) float32."""
        controls = np.atleast_2d(np.asarray(controls, np.float64))
        value = dict(zip(CONTROLS, controls.T, strict=True))
        vertices = self.closed + np.tensordot(controls, self._fields, 1)
        for lids, side in zip(self._lids, ("left", "right"), strict=True):
            lids.slide(vertices, value[f"lid_{side}"], value[f"smile_{side}"])
        return _turn_jaw(vertices, self._jaw, value["jaw_open"], value["jaw_side"]).astype(np.float32)

    def masks(self) -> tuple[np.ndarray, np.ndarray]:
        """Vertices (A,) that some control moves by 0.2 mm or more, and (S,) of the still, bony upper head."""
        poses = np.concatenate([np.eye(len(CONTROLS)), -np.eye(len(CONTROLS))[[CONTROLS.index("jaw_side"),
                                CONTROLS.index("lid_left"), CONTROLS.index("lid_right")]]])
        neutral = self.pose(np.zeros(len(CONTROLS)))[0]
        moves = np.linalg.norm(self.pose(poses) - neutral, axis=-1).max(axis=0)
        bony = np.isin(np.arange(len(neutral)), self.part("skin")) & (neutral[:, 1] > 1) & (neutral[:, 2] > 0)
        return np.flatnonzero(moves >= 0.02), np.flatnonzero((moves < 0.002) & bony)

    def regions(self) -> dict[str, np.ndarray]:
        """Vertices by name: lips, lids, brows, jaw, cheeks."""
        skin, side = self.part("skin"), np.abs(AZIMUTHS)
        mouth = side < MOUTH_CORNER + 0.1
        eyes = (side > CANTHI[0] - 0.1) & (side < CANTHI[1] + 0.1)
        x, y, z = np.abs(self.closed[:, 0]), self.closed[:, 1], self.closed[:, 2]
        on_skin = np.isin(np.arange(len(x)), skin)
        regions = {
            "lips": skin[UPPER_LIP - 5:LOWER_LIP + 6][[*range(7), *range(-7, 0)]][:, mouth],
            "lids": skin[UPPER_LID - LID_ROWS + 2:LOWER_LID + LID_ROWS // 2][:, eyes],
            "brows": np.flatnonzero(on_skin & (x > 0.8) & (x < 5.6) & (y > 1.2) & (y < 3.3) & (z > 4)),
            "jaw": np.flatnonzero(on_skin & (self._jaw > 0.75)),
            "cheeks": np.flatnonzero(on_skin & (x > 2.6) & (x < 6.2) & (y > -7.0) & (y < -1.8) & (z > 3)),
        }
        return {name: np.unique(vertices) for name, vertices in regions.items()}


# --- the mesh ---------------------------------------------------------------------------------------------------------

def _bent() -> np.ndarray:
    """(rows, columns) elevations in degrees: rows curve along the closed lids and the lips and pinch at the corners."""
    nominal, side = ELEVATIONS[:, None], np.abs(AZIMUTHS)[None]
    from_eye, from_mouth = nominal - EYE_LINE, nominal - MOUTH_LINE
    eye = -5.3 * _bell(side, 24, 9.5) * np.where(from_eye > 0, np.clip(1 - from_eye / 9.4, 0, 1),
                                                   np.clip(1 + from_eye / 19, 0, 1)) ** 2
    lips = (0.8 * _bell(side, 0, 9) - 0.3 * _bell(side, 17, 6)) * _bell(from_mouth, 0, 9)
    lips = lips + (0.35 * _bell(side, 4.2, 2.2) - 0.6 * _bell(side, 0, 2.0)) * _bell(from_mouth, 5, 3)  # cupid's bow
    pinch = 1 - 0.8 * _bell(side, MOUTH_CORNER, 6) * _bell(from_mouth, 0, 6)
    return nominal + eye + lips + from_mouth * (pinch - 1)


def _skin() -> tuple[np.ndarray, np.ndarray]:
    """Positions (rows, columns, 3) of the skin's grid with lips and lids closed, and its vertex indices."""
    elevation, azimuth = np.radians(_bent()), np.radians(AZIMUTHS)[None]
    directions = np.stack(np.broadcast_arrays(np.sin(azimuth) * np.cos(elevation), np.sin(elevation),
                                              np.cos(azimuth) * np.cos(elevation)), axis=-1)
    grid = CENTRE + (cast(directions) + _lip_relief())[..., None] * directions
    for side in (1, -1):  # inner rims of the lids lie on the eyeball
        eye, columns = EYE * (side, 1, 1), eye_columns(side)
        outward = grid[UPPER_LID, columns] - eye
        outward *= (EYE_RADIUS + 0.02) / np.linalg.norm(outward, axis=-1, keepdims=True)
        grid[UPPER_LID + 1, columns] = grid[UPPER_LID + 2, columns] = eye + outward
    inwards = _mouth_open()[None, :, None] ** 0.5 * np.array(
        [(0, 0.10, -0.35), (0, 0.5, -1.0), (0, 1.0, -2.4), (0, 0, -3.6), (0, -1.0, -2.4), (0, -0.5, -1.0),
         (0, -0.10, -0.35)])[:, None]
    grid[UPPER_LIP + 1:LOWER_LIP] = grid[UPPER_LIP] + inwards
    index = np.zeros(grid.shape[:2], np.int32)
    eyes = np.concatenate([eye_columns(1), eye_columns(-1)])
    mouth = np.flatnonzero(np.abs(AZIMUTHS) < MOUTH_CORNER - 0.1)
    count = 0
    for row in range(len(index)):
        index[row] = index[row - 1]  # welded to the row above, except:
        own = (eyes if UPPER_LID < row <= LOWER_LID else mouth if UPPER_LIP < row <= LOWER_LIP
               else np.arange(len(AZIMUTHS)))
        index[row, own] = count + np.arange(len(own))
        count += len(own)
    return grid, index


def eye_columns(side: int) -> np.ndarray:
    """Columns of the skin strictly between the canthi of the left (1) or right (-1) eye."""
    return np.flatnonzero((side * AZIMUTHS > CANTHI[0] + 0.1) & (side * AZIMUTHS < CANTHI[1] - 0.1))


def _mouth_open() -> np.ndarray:
    """(columns,) how freely the lips part there: 1 in the middle, 0 from the corners on."""
    return np.clip(1 - np.abs(AZIMUTHS / MOUTH_CORNER) ** 2.2, 0, 1) ** 0.85


def _lip_relief() -> np.ndarray:
    """(rows, columns) cm by which the lips stand out of the head, with a fold where they meet."""
    height = (ELEVATIONS - MOUTH_LINE)[:, None] / 5.3
    upper = 0.30 * np.sin(np.pi * np.clip(height, 0, 1) ** 0.75) + 0.05 * _bell(height, 1, 0.2)
    lower = 0.42 * np.sin(np.pi * np.clip(-height, 0, 1.15) ** 0.7 / 1.15) - 0.16 * _bell(height, -1.6, 0.5)
    return np.where(height >= 0, upper, lower) * _mouth_open() ** 0.6 - 0.10 * _bell(height, 0, 0.15) * _mouth_open()


def _solid_parts() -> list[tuple[str, int, int, np.ndarray]]:
    """The parts that keep their shape: name, row and column in the atlas beside the skin, positions."""
    parts = []
    for name, side in (("left", 1), ("right", -1)):
        up, around = np.meshgrid(np.linspace(1, -1, 11), np.linspace(0, 1, 6)[::side], indexing="ij")
        out = np.sqrt(np.clip(1 - up ** 2, 0, 1)) * (0.85 + 0.15 * up) * around
        ear = np.stack([6.3 + 1.55 * out - 0.3 * _bell(around, 0.6, 0.25) * out, -1.2 + 2.9 * up + 0.3 * out,
                        -0.6 - 1.4 * out + 0.5 * _bell(around, 1, 0.15)], axis=-1)
        parts.append((f"ear_{name}", 0, 0 if side > 0 else 7, ear * (side, 1, 1)))
    up, across = np.meshgrid(np.radians(np.linspace(EYE_SPAN[0], -EYE_SPAN[0], 12)),
                             np.radians(np.linspace(-EYE_SPAN[1], EYE_SPAN[1], 12)), indexing="ij")
    ball = EYE_RADIUS * np.stack([np.sin(across) * np.cos(up), np.sin(up), np.cos(across) * np.cos(up)], axis=-1)
    parts += [("eye_left", 12, 0, ball + EYE), ("eye_right", 25, 0, ball + EYE * (-1, 1, 1))]
    for name, at, radius, top, bottom, end in (("upper_teeth", 38, 2.35, -5.5, -7.1, 75),
                                               ("lower_teeth", 43, 2.15, -6.65, -8.4, 58)):
        down, around = np.meshgrid(np.linspace(0, 1, 4), np.radians(np.linspace(-end, end, 17)), indexing="ij")
        parts.append((name, at, 0, np.stack([radius * np.sin(around), top + (bottom - top) * down,
                                             5.6 + (radius + 0.55) * np.cos(around)], axis=-1)))
    along, across = np.meshgrid(np.linspace(0, 1, 7), np.linspace(-1, 1, 7), indexing="ij")
    width = 1.5 * np.sqrt(np.clip(1.02 - along ** 4, 0, 1))
    parts.append(("tongue", 48, 0, np.stack([across * width, -7.4 - 0.5 * across ** 2 - 0.9 * along ** 2,
                                             4.6 + 3.0 * along], axis=-1)))
    return parts


def _faces(atlas: np.ndarray, parts: dict) -> tuple[np.ndarray, np.ndarray]:
    """Corners (F, 4) of the faces as places of the flattened atlas, and their layers (F,)."""
    flat = np.arange(atlas.size).reshape(atlas.shape)
    faces, layers = [], []
    for name, where in parts.items():
        i = flat[where]
        quads = np.stack([i[1:, :-1], i[1:, 1:], i[:-1, 1:], i[:-1, :-1]], axis=-1)
        layer = np.full(quads.shape[:2], {"upper_teeth": 1, "lower_teeth": 1, "tongue": 1, "eye_left": 2,
                                          "eye_right": 2}.get(name, 3))
        keep = np.ones(quads.shape[:2], bool)
        if name == "skin":
            layer[UPPER_LIP + 1:LOWER_LIP - 1] = 0
            for side in (1, -1):  # the lids are cut apart, but for the corners of the eye
                keep[UPPER_LID + 1, eye_columns(side)[:-1]] = False
        for quad, at in zip(quads[keep], layer[keep], strict=True):
            corners = list({atlas.flat[place]: place for place in quad[::-1].tolist()}.values())[::-1]
            if len(corners) > 2:  # welded corners make triangles, or nothing
                faces.append((corners + corners[-1:])[:4])
                layers.append(at)
    return np.array(faces, np.int32), np.array(layers, np.int32)


def _scatter(index: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Grid values (rows, columns, ...) to vertex values (V, ...)."""
    values = np.zeros((index.max() + 1, *grid.shape[2:]))
    values[index] = grid
    return values


# --- the controls -----------------------------------------------------------------------------------------------------

def _pocket_follows(grid: np.ndarray) -> np.ndarray:
    """Let the pocket's rows follow the lips: from the upper lip's value over to the lower lip's."""
    share = smoothstep(0, 1, np.linspace(0, 1, POCKET_ROWS + 2))[1:-1].reshape(-1, *[1] * (grid.ndim - 1))
    grid[UPPER_LIP + 1:LOWER_LIP] = grid[UPPER_LIP] * (1 - share) + grid[LOWER_LIP] * share
    return grid


def _jaw_share() -> np.ndarray:
    """(rows, columns) share of the jaw's motion: the lips part in the middle and stay together at the corners."""
    height, side = (ELEVATIONS - MOUTH_LINE)[:, None], np.abs(AZIMUTHS)[None]
    corner = 0.5 * (1 - _mouth_open())
    near = corner * np.exp(-np.abs(height) / 7.5)
    above, below = near * smoothstep(42, 15, height), 1 - near
    upper = np.arange(len(ELEVATIONS))[:, None] <= UPPER_LIP
    return (np.where(upper, above, below) * smoothstep(92, 36, side)
            * smoothstep(-75, -46, ELEVATIONS)[:, None])


def _skin_fields(grid: np.ndarray) -> dict[str, np.ndarray]:
    """Displacements (rows, columns, 3) of the skin at full strength, for the controls that are linear."""
    x, y = grid[..., 0], grid[..., 1]
    size, side = np.sqrt(x ** 2 + 0.5), x / np.sqrt(x ** 2 + 0.5)  # |x| and its sign, without a kink in the middle
    upper = (np.arange(len(ELEVATIONS)) <= UPPER_LIP)[:, None] * np.ones_like(x)
    parting = _mouth_open()[None] * _bell(y, -7.0, 1.9)  # moves one lip alone
    off_lids = smoothstep(1.55, 2.6, np.linalg.norm(np.stack([size, y, grid[..., 2]], axis=-1) - EYE, axis=-1))

    def spot(cx, cy, cz, rx, ry, rz=4.0):  # a soft spot on both halves
        return np.exp(-(((size - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((grid[..., 2] - cz) / rz) ** 2))

    def push(weight, dx, dy, dz):  # dx away from the middle
        return weight[..., None] * np.stack(np.broadcast_arrays(dx * side, dy, dz), axis=-1)

    lips = spot(0, -7.0, 9, 2.9, 1.9)
    cheek, corner = spot(4.2, -3.4, 6.6, 1.9, 1.5), spot(2.7, -7.0, 8, 1.7, 1.6)
    fold = (size - 1.7) * 0.86 - (-4.2 - y) * 0.42  # cm sideways from the line between nostril and mouth corner
    along_fold = _bell(y, -5.6, 1.7) * smoothstep(0.4, 1.2, size)
    smile = (push(corner, 0.85, 0.95, -0.6) + push(cheek, 0.15, 0.55, 0.28)
             + push(_bell(fold, 0.1, 0.4) * along_fold, 0, 0, -0.2)
             + push(_bell(fold, 1.0, 0.6) * along_fold, 0.08, 0.12, 0.22)
             + push(parting * upper, 0, 0.40, -0.05) - push(parting * (1 - upper), 0, 0.06, 0.05))
    left = smoothstep(-1.2, 1.2, x)[..., None]
    puffed = spot(4.1, -6.4, 6.6, 1.7, 1.9)
    fields = {
        "smile_left": smile * left,
        "smile_right": smile * (1 - left),
        "frown": push(corner, 0.12, -0.62, -0.05) + push(spot(0, -9.8, 8.5, 1.8, 1.2), 0, 0.3, 0.12)
        + push(lips * _mouth_open(), 0, 0.12, 0),
        "pucker": push(lips, -0.40 * size, -0.13 * (y + 7.0), 0.75) + push(spot(2.9, -7, 8, 1.4, 1.4), -0.35, 0, 0),
        "funnel": push(lips, -0.27 * size, 0, 0.5) + push(parting * upper, 0, 0.36, 0.12)
        + push(parting * (1 - upper), 0, -0.5, 0.05),
        "brow_inner": push(spot(1.3, 2.5, 8.5, 1.7, 1.6), 0.0, 0.75, 0.05),
        "brow_outer": push(spot(4.6, 2.6, 6.8, 1.8, 1.6), 0.05, 0.7, 0.0),
        "brow_lower": push(spot(1.6, 2.1, 8.5, 1.7, 1.2), -0.34, -0.55, 0.15)
        + push(spot(4.4, 2.2, 7, 1.5, 1.0), 0, -0.3, 0),
        "nose_wrinkle": push(spot(1.2, -3.8, 9.5, 0.9, 1.2), 0.08, 0.32, 0.05)
        + push(spot(0.9, 0.3, 8.5, 0.7, 1), 0, 0.15, 0.12)
        + push(spot(1.7, 2.0, 8.5, 1.4, 1.0), -0.1, -0.25, 0.05) + push(parting * upper, 0, 0.35, 0.05)
        + push(spot(3.0, -2.4, 7.5, 1.2, 1.0), 0, 0.25, 0.1),
        "cheek_puff": push(puffed, 0.85, 0, 0.6) + push(lips * _mouth_open(), 0, 0, 0.12),
    }
    return {name: field * off_lids[..., None] for name, field in fields.items()}


def _turn_jaw(vertices: np.ndarray, share: np.ndarray, opening: np.ndarray, sideways: np.ndarray) -> np.ndarray:
    """Turn every vertex about the hinge by its share of the jaw's angles (arcs, not straight lines)."""
    x, y, z = np.moveaxis(vertices - HINGE, -1, 0)
    angle = JAW_ANGLE * opening[:, None] * share
    y, z = y * np.cos(angle) - z * np.sin(angle), y * np.sin(angle) + z * np.cos(angle)
    angle = JAW_SIDE_ANGLE * sideways[:, None] * share
    x, z = x * np.cos(angle) + z * np.sin(angle), z * np.cos(angle) - x * np.sin(angle)
    return np.stack([x, y, z], axis=-1) + HINGE


class _LidTables:
    """The lids of one eye: where their vertices are between wide open and closed, as tables to interpolate in."""

    LEVELS = 65

    def __init__(self, grid: np.ndarray, index: np.ndarray, side: int):
        columns = eye_columns(side)
        t = (np.abs(AZIMUTHS[columns]) - CANTHI[0]) / (CANTHI[1] - CANTHI[0])
        eye = EYE * (side, 1, 1)
        level = np.linspace(-1, 1, self.LEVELS)[:, None]
        amount = np.where(level > 0, 1 - level, 1 - 0.3 * level)  # cm of opening: closed 0, neutral 1, wide 1.3
        shape = np.sin(np.pi * t ** 0.9) ** 0.75
        self.upper = self._table(grid, index, columns, UPPER_LID - np.arange(LID_ROWS + 1), UPPER_LID + 1, eye,
                                 0.90 * amount * shape)
        self.lower = self._table(grid, index, columns, LOWER_LID + np.arange(LID_ROWS // 2 + 1), LOWER_LID - 1, eye,
                                 0.18 * amount * shape)

    @staticmethod
    def _table(grid, index, columns, rows, inner, eye, opening):
        """Slide each column of a lid along itself.    opening : (levels, columns) cm.

        Returns vertex indices (n,) and their moves from the closed lid (levels, n, 3).
        """
        curve = grid[rows][:, columns]  # (rows, columns, 3), from the rim to the row that stays
        length = np.concatenate([np.zeros((1, len(columns))),
                                 np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=-1), axis=0)])
        places = opening[:, None] + length * (1 - opening[:, None] / length[-1])  # (levels, rows, columns)
        slid = np.empty((*places.shape, 3))
        for column in range(len(columns)):
            offset = curve[:, column] - eye
            radius = np.linalg.norm(offset, axis=-1)
            at = [np.interp(places[..., column], length[:, column], values) for values in (*offset.T, radius)]
            direction = np.stack(at[:3], axis=-1)
            slid[:, :, column] = direction * (at[3] / np.linalg.norm(direction, axis=-1))[..., None]
        rim = slid[:, :1] * ((EYE_RADIUS + 0.02) / np.linalg.norm(slid[:, :1], axis=-1, keepdims=True))
        moves = np.concatenate([slid - (curve - eye), rim - (grid[[inner]][:, columns] - eye)], axis=1)
        where = np.concatenate([index[rows][:, columns], index[[inner]][:, columns]])
        return where.ravel(), moves.reshape(len(moves), -1, 3)

    def slide(self, vertices: np.ndarray, lid: np.ndarray, smile: np.ndarray) -> None:
        """Move the lids in vertices (N, V, 3), in place; a smile narrows the eye."""
        for (where, moves), value in ((self.upper, lid + 0.18 * smile * (1 - lid)),
                                      (self.lower, np.maximum(lid, smile))):
            place = (np.clip(value, -1, 1) + 1) / 2 * (self.LEVELS - 1)
            low = np.minimum(place.astype(int), self.LEVELS - 2)
            share = (place - low)[:, None, None]
            vertices[:, where] += moves[low] * (1 - share) + moves[low + 1] * share
