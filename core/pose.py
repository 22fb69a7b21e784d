"""Where a camera stands, from points in space and the pixels at which they were seen.

A pose is the (4, 4) float64 matrix from the world to the camera: x to the right, y down, z along the view. Pixels are
continuous: (0, 0) is the top left corner of the picture, the optical axis goes through its middle.
"""

import numpy as np

from .errors import UnderstudyError

STEPS = 60
SETTLED = 1e-3  # pixels; a step that moves every pin less is the last
POOR = 0.01  # of the picture's width; pins that are missed by more are tried from another start too
PULL = 1e-4  # of the start, against pixels: too weak to be seen where pins decide, decides where they do not
# What it costs to move along x, y and z, to tilt about x and y, to roll, and to zoom, for the same pixels. Few pins
# shift the face before they resize or roll it, and do so before they tilt it.
COSTS = np.array([1, 1, 20, 100, 100, 20, 300], float)
TOO_NEAR = 1e-3  # depth of a point, relative to the depth at the start, at which the camera would be inside the face


def project(points: np.ndarray, pose: np.ndarray, focal: float, width: float, height: float) -> np.ndarray:
    """The pixels of points.

    points : (N, 3) float, world.    pose : (4, 4) world to camera.    focal, width, height : pixels.
    Returns (N, 2) float64; NaN for points that are not in front of the camera.
    """
    local = points @ pose[:3, :3].T + pose[:3, 3]
    depth = np.where(local[:, 2:] > 0, local[:, 2:], np.nan)
    return focal * local[:, :2] / depth + (width / 2, height / 2)


def solve_pose(
    points: np.ndarray,   # (N, 3) float, world
    pixels: np.ndarray,   # (N, 2) float, where they were seen
    width: float,         # of the picture, pixels
    height: float,
    pose: np.ndarray,     # (4, 4) world to camera, to start from
    focal: float,         # pixels, to start from
    solve_focal: bool = False,
) -> tuple[np.ndarray, float, float]:
    """Fit a camera to pins (Levenberg-Marquardt on the distances in the picture).

    Any number of pins will do: what they leave open changes as little as possible. From six pins that do not lie in a
    plane on, the start need not be near.
    Returns pose, focal and the root mean square distance in pixels. Raises UnderstudyError without pins or for numbers
    that are not finite.
    """
    points, pixels = np.asarray(points, float).reshape(-1, 3), np.asarray(pixels, float).reshape(-1, 2)
    if len(points) != len(pixels):
        raise ValueError(f"{len(points)} points and {len(pixels)} pixels")
    if not len(points):
        raise UnderstudyError("The camera has no pins. Pin a vertex of the face to the picture first.")
    numbers = (points, pixels, pose, (width, height, focal))
    if not all(np.isfinite(values).all() for values in numbers) or min(width, height, focal) <= 0:
        raise UnderstudyError("A pin or the camera has a position that is not a number. Remove that pin.")
    picture = pixels - (width / 2, height / 2)
    near = _fit(points, picture, _facing(points, picture, np.asarray(pose, float), focal), focal, solve_focal)
    if near[2] < POOR * width or len(points) < 6 or (start := _weak_perspective(points, picture, focal)) is None:
        return near
    far = _fit(points, picture, start, focal, solve_focal)
    return far if far[2] < near[2] - POOR * width / 2 else near  # no jump for next to nothing


def _fit(points: np.ndarray, picture: np.ndarray, start: np.ndarray, focal: float, solve_focal: bool
         ) -> tuple[np.ndarray, float, float]:
    """Levenberg-Marquardt from one start: pose, focal, root mean square distance. `picture` counts from its middle."""
    middle = points.mean(0)
    turned, shift = (points - middle) @ start[:3, :3].T, start[:3, :3] @ middle + start[:3, 3]
    depth = shift[2]
    size = max(np.sqrt((turned ** 2).sum(1).mean()), 0.1 * depth)
    pixel = focal / depth  # pixels a unit at the middle of the points
    costs = COSTS * np.array([pixel, pixel, pixel * size / depth] + [pixel * size] * 4)
    pull = PULL * costs
    free = np.arange(7 if solve_focal and len(points) > 3 else 6)

    def errors(change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(2N + 7,) pixels and their derivatives; change: translation, rotation vector about the middle, log focal."""
        arms = turned @ _rotation(change[3:6]).T
        x, y, z = (arms + shift + change[:3]).T
        if z.min() <= TOO_NEAR * depth:
            return np.full(2 * len(points) + 7, np.inf), np.zeros(0)
        scale = focal * np.exp(change[6]) / z
        u, v, zero = scale * x, scale * y, np.zeros_like(z)
        by_x, by_y = (np.column_stack(row) for row in ((scale, zero, -u / z), (zero, scale, -v / z)))
        # a small further turn w moves an arm by w x arm
        slopes = [np.column_stack((by, np.cross(arms, by), value)) for by, value in ((by_x, u), (by_y, v))]
        return (np.concatenate((u - picture[:, 0], v - picture[:, 1], pull * change)),
                np.concatenate((*slopes, np.diag(pull))))

    change, damping = np.zeros(7), 1e-3
    error, slope = errors(change)
    for _ in range(STEPS):
        normal = slope[:, free].T @ slope[:, free]
        step = np.zeros(7)
        step[free] = -np.linalg.solve(normal + damping * np.diag(costs[free] ** 2), slope[:, free].T @ error)
        following = change + step
        following[3:6] = _vector(_rotation(step[3:6]) @ _rotation(change[3:6]))
        trial, trial_slope = errors(following)
        gain = 1 - (trial @ trial) / (error @ error) if error @ error > 0 else 0
        if gain > 0:
            change, error, slope, damping = following, trial, trial_slope, max(damping / 5, 1e-9)
        else:
            damping *= 4
        if np.abs(slope[:-7] @ step).max() < SETTLED or damping > 1e9:
            break
    result = np.eye(4)
    result[:3, :3] = _rotation(change[3:6]) @ start[:3, :3]
    result[:3, 3] = shift + change[:3] - result[:3, :3] @ middle
    return result, float(focal * np.exp(change[6])), float(np.sqrt(2 * np.mean(error[:-7] ** 2)))


def _facing(points: np.ndarray, picture: np.ndarray, pose: np.ndarray, focal: float) -> np.ndarray:
    """The start, moved so that all points are in front of the camera."""
    middle = points.mean(0)
    radius = np.linalg.norm(points - middle, axis=1).max()
    depth = (pose[:3, :3] @ middle + pose[:3, 3])[2]
    if (points @ pose[2, :3] + pose[2, 3]).min() > TOO_NEAR * max(depth, 0) and depth > 0:
        return pose
    depth = max(abs(depth), 4 * radius, 1e-6)
    moved = pose.copy()
    moved[:3, 3] = np.append(picture.mean(0) * depth / focal, depth) - pose[:3, :3] @ middle
    return moved


def _weak_perspective(points: np.ndarray, picture: np.ndarray, focal: float) -> np.ndarray | None:
    """The pose of a camera far away; None for points in a plane, which leave it open."""
    arms = points - points.mean(0)
    sizes = np.linalg.svd(arms, compute_uv=False)
    if sizes[2] < 0.02 * sizes[0]:
        return None
    affine = np.linalg.lstsq(arms, picture - picture.mean(0), rcond=None)[0].T  # (2, 3)
    left, scales, right = np.linalg.svd(affine, full_matrices=False)
    if scales[1] < 1e-9:
        return None
    rows = left @ right
    pose = np.eye(4)
    pose[:3, :3] = np.vstack((rows, np.cross(rows[0], rows[1])))
    depth = focal / scales.mean()
    depth = max(depth, -1.5 * (arms @ pose[2, :3]).min())
    pose[:3, 3] = np.append(picture.mean(0) * depth / focal, depth) - pose[:3, :3] @ points.mean(0)
    return pose


def _rotation(vector: np.ndarray) -> np.ndarray:
    """(3, 3) of a rotation vector (Rodrigues)."""
    angle = np.linalg.norm(vector)
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _vector(rotation: np.ndarray) -> np.ndarray:
    """The rotation vector of a (3, 3) matrix, by way of its quaternion, which is exact near half a turn too."""
    symmetric = np.array([
        [np.trace(rotation), 0, 0, 0], [rotation[2, 1] - rotation[1, 2], 0, 0, 0],
        [rotation[0, 2] - rotation[2, 0], 0, 0, 0], [rotation[1, 0] - rotation[0, 1], 0, 0, 0]])
    symmetric[1:, 1:] = rotation + rotation.T - np.trace(rotation) * np.eye(3)
    w, *axis = np.linalg.eigh(symmetric)[1][:, -1]  # eigh reads the lower triangle
    length = np.linalg.norm(axis)
    if length < 1e-12:
        return np.zeros(3)
    return 2 * np.arctan2(length, abs(w)) / length * np.array(axis) * (1 if w >= 0 else -1)
