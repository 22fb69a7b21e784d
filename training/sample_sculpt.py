"""The sample actor's head as a solid: smooth unions and cuts of ellipsoids and rods, in centimetres."""

import numpy as np

EYE = np.array([3.15, 0.0, 6.2])  # centre of the left eyeball
EYE_RADIUS, LID_RADIUS = 1.28, 1.45
CENTRE = np.array([0.0, -4.5, 0.0])  # rays to the skin start here


def _ball(p: np.ndarray, centre: tuple, radii: tuple | float) -> np.ndarray:
    """Approximate distance to an ellipsoid."""
    q = (p - centre) / radii
    near = np.linalg.norm(q, axis=-1)
    return near * (near - 1) / (np.linalg.norm(q / radii, axis=-1) + 1e-9)


def _rod(p: np.ndarray, start: tuple, end: tuple, start_radius: float, end_radius: float) -> np.ndarray:
    """Distance to a segment with a radius that changes along it."""
    start, along = np.asarray(start), np.subtract(end, start)
    t = np.clip((p - start) @ along / (along @ along), 0, 1)
    return np.linalg.norm(p - start - t[..., None] * along, axis=-1) - (start_radius + t * (end_radius - start_radius))


def _join(a: np.ndarray, b: np.ndarray, blend: float) -> np.ndarray:
    """Union with a fillet of about `blend`."""
    h = np.maximum(blend - np.abs(a - b), 0)
    return np.minimum(a, b) - h * h / (4 * blend)


def _cut(a: np.ndarray, b: np.ndarray, blend: float) -> np.ndarray:
    return -_join(-a, b, blend)


def head(points: np.ndarray) -> np.ndarray:
    """Signed distance to the head with closed eyes and a mouth without lips (negative inside).

    points : (..., 3).    Returns (...).
    """
    p = np.concatenate([np.abs(points[..., :1]), points[..., 1:]], axis=-1)
    d = _ball(p, (0, 3.2, -0.9), (7.4, 8.5, 9.6))  # skull
    d = _join(d, _ball(p, (0, -3.3, 1.6), (6.2, 7.7, 6.9)), 1.8)  # face
    d = _join(d, _rod(p, (4.2, -6.4, 0.6), (1.1, -9.9, 6.7), 0.9, 1.0), 2.4)  # jaw
    d = _join(d, _rod(p, (0, -8, -2.0), (0, -24, -2.4), 4.5, 5.2), 1.8)  # neck
    d = _join(d, _rod(p, (3.6, -2.6, 6.0), (5.9, -1.5, 2.0), 0.65, 0.5), 2.2)  # cheekbone
    d = _join(d, _rod(p, (0.9, 1.8, 7.95), (4.9, 1.9, 5.9), 0.55, 0.5), 1.4)  # brow ridge
    d = _cut(d, _ball(p, (3.2, -0.1, 8.7), (2.2, 1.2, 1.5)), 1.0)  # eye socket
    d = _join(d, _ball(p, (0, -6.9, 5.8), (3.3, 2.7, 3.2)), 1.4)  # muzzle
    d = _join(d, _rod(p, (0, 1.2, 7.5), (0, -3.1, 9.75), 0.62, 0.85), 1.2)  # bridge of the nose
    d = _join(d, _ball(p, (0, -3.5, 10.1), (0.88, 0.78, 0.85)), 0.6)  # tip
    d = _join(d, _ball(p, (1.12, -3.85, 9.15), (0.56, 0.56, 0.8)), 0.4)  # wing
    d = _join(d, _rod(p, (0, -4.0, 10.1), (0, -4.8, 8.9), 0.3, 0.35), 0.6)  # between the nostrils
    d = _cut(d, _ball(p, (0.6, -4.55, 9.6), (0.26, 0.22, 0.4)), 0.3)  # nostril
    d = _join(d, _ball(p, (0, -9.8, 7.6), (1.5, 1.15, 1.1)), 1.7)  # chin
    d = _cut(d, _rod(p, (0, -5.1, 9.7), (0, -6.0, 9.8), 0.2, 0.26), 0.4)  # philtrum
    d = _join(d, _ball(p, EYE, LID_RADIUS), 0.3)  # closed lids over the eyeball
    return np.maximum(d, -17 - p[..., 1])


def cast(directions: np.ndarray) -> np.ndarray:
    """Where rays from CENTRE leave the head.    directions : (..., 3) unit.    Returns (...) distances."""
    distance = np.full(directions.shape[:-1], 22.0)
    for _ in range(60):  # from outside inwards; 0.8 because the distances are approximate
        distance -= 0.8 * head(CENTRE + distance[..., None] * directions)
    return distance


def normals(points: np.ndarray) -> np.ndarray:
    """Outward unit normals of the head's surface.    points : (..., 3)."""
    steps = 0.02 * np.array([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]])
    gradient = sum(step * head(points + step)[..., None] for step in steps)
    return gradient / np.linalg.norm(gradient, axis=-1, keepdims=True)
