"""A monocular peer to hold the network against: landmarks alone, fitted to the actor's own face (paper, Sec. 5.4).

It stands in for the paper's Cao et al. 2014 and Thies et al. 2016, of which there is no open implementation. As there,
the identity is fixed and only pose and expression are fitted, to each frame alone, without smoothing over time: the
expression that explains 468 landmarks of MediaPipe best, among those that the actor's principal components call likely.

It is not those methods. They follow the picture between landmarks (Thies) or learned their regression from many people
(Cao), and need no capture of the actor at all; this one knows the actor's expressions, where the landmarks lie on the
mesh and how far each is to be trusted from training shots, which is more than its models had. The landmarks are those
of MediaPipe without attention, whose lips and lids follow less closely than those of its newer networks.
"""

import functools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from ..core import draw, metrics, pca
from ..core.actor import Actor, Shot
from ..core.errors import UnderstudyError
from ..core.footage import open_footage
from ..core.jobs import Reporter
from ..core.landmarks import POINTS, find
from ..core.model import load_model
from ..core.solver import Solver
from .dataset import check_length
from .evaluate import inputs_of, regions_of

FRAMES = 400       # training frames, evenly spaced, that it is made from
COMPONENTS = 100   # of expression
FOCALS = (2, 4, 8, 16)  # focal lengths that are tried, in heights of the crop
PULLS = (1, 3, 10, 30, 100, 300, 1000)  # weights of the prior that are tried; landmarks' errors go together, so above 1
STEPS = 3          # of Gauss-Newton for a frame; more change nothing
SETTLED = 10       # to find the pose of a known mesh, from far away
CLAY = (640, 480)  # height and width of the drawing on which landmarks meet the mesh
CHUNK = 32         # frames held at a time
TIMED = 60         # frames for its speed
SHARPEST = 0.5     # pixels; no landmark is trusted more


@dataclass(frozen=True)
class Peer:
    """A camera, where the landmarks lie on the mesh, and the actor's expressions.

    size : width and height of the crop in pixels of the footage.    focal : pixels.    pose : (4, 4) mesh to camera, to
    start from.    corners, shares : (468, 3) vertices of each landmark's triangle and barycentric coordinates there.
    spread : (468,) pixels, how far landmarks lie from there in training frames.    mean : (V, 3), basis : (K, V, 3),
    deviations : (K,) of the training meshes, mesh units.    pull : weight of the prior against the landmarks.
    """

    size: tuple[float, float]
    focal: float
    pose: np.ndarray
    corners: np.ndarray
    shares: np.ndarray
    spread: np.ndarray
    mean: np.ndarray
    basis: np.ndarray
    deviations: np.ndarray
    pull: float = 1.0

    def solve(self, points: np.ndarray | None) -> np.ndarray:
        """The mesh, head-stabilised, (V, 3) float32, for the landmarks of a frame, (468, 2 or more) in pixels of the
        crop; for None, where no face was seen, the mean."""
        if points is None:
            return self.mean
        codes, _ = _fit(self, *self._on_face, points[:, :2])
        return self.mean + np.tensordot(codes.astype(np.float32), self.basis, 1)

    @functools.cached_property
    def _on_face(self) -> tuple[np.ndarray, np.ndarray]:
        return self.on_face(self.mean), self.on_face(self.basis)

    def on_face(self, meshes: np.ndarray) -> np.ndarray:
        """Where landmarks lie on meshes (..., V, 3): (..., 468, 3)."""
        return np.einsum("ic,...icd->...id", self.shares, meshes[..., self.corners, :])


@dataclass
class PeerErrors:
    """The peer on one shot. samples : (n,); found : (n,) whether a face was, else the mesh is the mean; errors :
    (2 methods, regions, n) RMSE in mm of the peer and of the mean mesh; motion : Motion.sums() of the peer."""

    shot: Shot
    samples: np.ndarray
    found: np.ndarray
    errors: np.ndarray
    motion: np.ndarray


def compare(
    actor: Actor,
    model: Path | str,              # model file of the network that the peer is held against
    out: Path,                      # folder for figure8.png
    device: str = "auto",           # of the network: "auto", "cpu", "cuda", ...
    report: Reporter = Reporter(),  # told what happens; asked whether to stop
) -> dict:
    """The network beside the peer on the validation shots (paper, Sec. 5.4, Fig. 8 and Table 1).

    Writes figure8.png: for each shot the frames at which the peer's error is the median and the 90th percentile. All
    figures but fps are RMSE over animated vertices in mm, pooled over frames.
    Raises UnderstudyError where the landmarks' models are not installed or see no face.
    """
    peer = calibrate(actor, report)
    solver, regions = Solver(load_model(model), device), regions_of(actor)
    measured, own, rows = [], [], []
    for shot in actor.validation_shots():
        one = measure(peer, actor, shot, report)
        measured.append(one)
        own.append(_own(actor, solver, shot, regions, report))
        order = np.argsort(one.errors[0, 0], kind="stable")
        for place in (0.5, 0.9) if len(order) else ():
            rows.append(_row(peer, solver, actor, shot, int(order[int(place * (len(order) - 1))])))
    if not rows:
        raise UnderstudyError(f"{actor.name} has no cleaned validation shot to measure the monocular peer on.")
    draw.write_png(out / "figure8.png", np.vstack(rows))
    errors, own = np.concatenate([one.errors for one in measured], 2), np.concatenate(own, 1)
    table = {name: {"peer_mm": metrics.pooled(errors[0, row]), "own_mm": metrics.pooled(own[row]),
                    "mean_mesh_mm": metrics.pooled(errors[1, row])} for row, name in enumerate(regions)}
    motion = metrics.motion_figures(sum(one.motion for one in measured), regions)["all"]
    return {"name": "MediaPipe's landmarks, fitted", "frames": errors.shape[2], "regions": table,
            "rmse_mm": table["all"]["peer_mm"], "own_rmse_mm": table["all"]["own_mm"],
            "mean_mesh_mm": table["all"]["mean_mesh_mm"], "attenuation": motion["attenuation"],
            "noise_mm": motion["noise_mm"], "found": float(np.mean(np.concatenate([one.found for one in measured]))),
            "shots": {one.shot.name: metrics.pooled(one.errors[0, 0]) for one in measured},
            "fps": _speed(peer, actor, measured[0].shot)}


def measure(peer: Peer, actor: Actor, shot: Shot, report: Reporter = Reporter()) -> PeerErrors:
    """Hold the peer against a shot's cleaned vertices."""
    report.status(f"The monocular peer: {shot.name}")
    samples, cache, regions = shot.frames(), shot.vertices(), regions_of(actor)
    motion, errors, found = metrics.Motion(regions, actor.millimetres), [np.zeros((2, len(regions), 0))], []
    rest = peer.mean[actor.animated]
    for chunk, points in _landmarks(actor, shot, samples):
        report.check_cancel()
        meshes = np.stack([peer.solve(seen)[actor.animated] for seen in points])
        target = cache[chunk][:, actor.animated].astype(np.float32)
        motion.add(chunk, meshes, target)
        errors.append(np.stack([[metrics.rmse_per_frame(solved[:, rows], target[:, rows], actor.millimetres)
                                 for rows in regions.values()]
                                for solved in (meshes, np.broadcast_to(rest, meshes.shape))]))
        found += [seen is not None for seen in points]
    return PeerErrors(shot, samples, np.array(found, bool), np.concatenate(errors, 2), motion.sums())


def _own(actor: Actor, solver: Solver, shot: Shot, regions: dict[str, np.ndarray], report: Reporter) -> np.ndarray:
    """The network's errors on the same frames, (regions, n) mm."""
    cache, errors = shot.vertices(), [np.zeros((len(regions), 0))]
    for samples, inputs in inputs_of(shot, solver.model, shot.frames()):
        report.check_cancel()
        solved, target = solver.solve(inputs)[:, actor.animated], cache[samples][:, actor.animated]
        errors.append(np.stack([metrics.rmse_per_frame(solved[:, rows], target[:, rows], actor.millimetres)
                                for rows in regions.values()]))
    return np.concatenate(errors, 1)


def _row(peer: Peer, solver: Solver, actor: Actor, shot: Shot, index: int) -> np.ndarray:
    """Input, target, network, peer: a row of Figure 8."""
    samples = shot.frames()[index:index + 1]
    (_, points), = _landmarks(actor, shot, samples)
    (_, inputs), = inputs_of(shot, solver.model, samples)
    triangles, view = actor.template.triangles(), draw.View.front(actor.template.vertices[actor.animated])
    target = np.asarray(shot.vertices()[samples[0]], np.float32)
    images = [cv2.cvtColor(inputs[0], cv2.COLOR_GRAY2BGR), draw.shaded(target, triangles, view)]
    for mesh in (solver.solve(inputs)[0], peer.solve(points[0])):
        error = metrics.rmse_per_frame(mesh[None, actor.animated], target[actor.animated], actor.millimetres)[0]
        image = draw.shaded(mesh, triangles, view)
        draw.write(image, f"{error:.2f} mm", (8, 20))
        images.append(image)
    return np.hstack(images)


def _speed(peer: Peer, actor: Actor, shot: Shot) -> float:
    """Frames a second of the peer, landmarks and fit, one frame after another."""
    pictures = list(_pictures(actor, shot, shot.frames()[:TIMED]))
    began = time.perf_counter()
    for picture in pictures:
        peer.solve(find(picture))
    return len(pictures) / (time.perf_counter() - began)


def calibrate(actor: Actor, report: Reporter = Reporter()) -> Peer:
    """The peer of an actor: camera, places of the landmarks and their spread from every other of FRAMES training
    frames, the weight of the prior from those between."""
    points, meshes = _training(actor, report)
    mean, basis, deviations, _ = pca.fit(lambda rows: meshes[rows], len(meshes), COMPONENTS)
    corners, shares, on_mesh = _meet(mean, actor.template.triangles(), actor.name)
    seen = _seen(mean, actor.template.triangles())
    size = actor.crop[2], actor.crop[3]
    peer = Peer(size, 0, np.eye(4), corners, shares, np.where(on_mesh, 1.0, 1e6), mean, basis, deviations)
    learn, tune = np.arange(0, len(points), 2), np.arange(1, len(points), 2)
    for _ in range(2):
        peer = _camera(peer, points[learn], meshes[learn])
        peer = _places(peer, points[learn], meshes[learn], seen)
        report.check_cancel()
    tried = [replace(peer, pull=pull) for pull in PULLS]
    wanted = actor.animated

    def error(one: Peer) -> float:
        report.check_cancel()
        return sum(float(np.square(one.solve(points[row])[wanted] - meshes[row][wanted]).sum()) for row in tune[::2])

    return min(tried, key=error)


def _training(actor: Actor, report: Reporter) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks (n, 468, 2) and cleaned vertices (n, V, 3) of evenly spaced training frames that show a face."""
    shots = [shot for shot in actor.training_shots() if len(shot.frames())]
    total = sum(len(shot.frames()) for shot in shots)
    points, meshes = [], []
    for shot in shots:
        report.check_cancel()
        samples, cache = shot.frames(), shot.vertices()
        count = min(len(samples), -(-FRAMES * len(samples) // total))
        samples = samples[np.linspace(0, len(samples) - 1, count).round().astype(int)]
        for chunk, seen in _landmarks(actor, shot, samples):
            points += [one[:, :2] for one in seen if one is not None]
            meshes += [cache[sample] for sample, one in zip(chunk, seen, strict=True) if one is not None]
    if len(points) < 20:
        raise UnderstudyError(f"Only {len(points)} of {total} training frames of {actor.name} show a face that "
                              "MediaPipe knows as one, so there is no monocular peer to compare with.")
    return np.array(points, np.float64), np.array(meshes, np.float32)


def _landmarks(actor: Actor, shot: Shot, samples: np.ndarray,
               ) -> Iterator[tuple[np.ndarray, list[np.ndarray | None]]]:
    """The landmarks of a shot's frames, in pixels of the crop, chunk by chunk."""
    with ThreadPoolExecutor() as pool:
        pictures = _pictures(actor, shot, samples)
        for first in range(0, len(samples), CHUNK):
            chunk = samples[first:first + CHUNK]
            yield chunk, list(pool.map(find, [next(pictures) for _ in chunk]))


def _pictures(actor: Actor, shot: Shot, samples: np.ndarray) -> Iterator[np.ndarray]:
    """The crop of a shot's frames, in the footage's own pixels."""
    left, top, width, height = actor.crop
    window = np.s_[int(top):int(np.ceil(top + height)), int(left):int(np.ceil(left + width))]
    with open_footage(shot.footage_path(), actor.transfer) as footage:
        check_length(shot, footage)
        yield from footage.pick(shot.first_frame + samples, transform=lambda picture: picture[window])


def _meet(mean: np.ndarray, triangles: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where landmarks lie on the mesh, from those of a drawing of it: corners, shares, whether they do at all."""
    view = draw.View.front(mean, 0.15)
    points = find(cv2.cvtColor(draw.shaded(mean, triangles, view, CLAY), cv2.COLOR_BGR2RGB))
    if points is None:
        raise UnderstudyError(f"MediaPipe sees no face in a drawing of {name}'s mesh, so there is no monocular peer to "
                              "compare with.")
    seen = draw.seen(mean, triangles, view, CLAY)
    scale = np.array(seen.shape) / CLAY
    columns, rows = (points[:, :2] * scale[::-1]).astype(int).T
    inside = (columns >= 0) & (rows >= 0) & (columns < seen.shape[1]) & (rows < seen.shape[0])
    found = np.where(inside, seen[rows.clip(0, seen.shape[0] - 1), columns.clip(0, seen.shape[1] - 1)], -1)
    corners = triangles[found]
    places = view.project(mean, CLAY).astype(np.float64)[corners]
    edges = np.stack([places[:, 1] - places[:, 0], places[:, 2] - places[:, 0]], axis=-1)
    along = np.linalg.solve(edges + 1e-9 * np.eye(2), (points[:, :2] - places[:, 0])[..., None])[..., 0]
    return corners, _shares(along), found >= 0


def _seen(mean: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """The triangles that a drawing from the front shows, (T', 3)."""
    shown = np.unique(draw.seen(mean, triangles, draw.View.front(mean), CLAY))
    return triangles[shown[shown >= 0]]


def _shares(along: np.ndarray) -> np.ndarray:
    """Barycentric coordinates (..., 3) inside the triangle, of coordinates along its first two edges."""
    shares = np.concatenate([1 - along.sum(-1, keepdims=True), along], axis=-1).clip(0, 1)
    return shares / shares.sum(-1, keepdims=True)


def _camera(peer: Peer, points: np.ndarray, meshes: np.ndarray) -> Peer:
    """The focal length, of FOCALS, and the mean pose with which cleaned meshes come nearest to the landmarks."""
    few = slice(None, None, max(1, len(points) // 24))
    best = (np.inf, peer)
    for heights in FOCALS:
        focal = heights * peer.size[1]
        pose = np.diag([1.0, -1, -1, 1])  # mesh: Y up, +Z to the camera; camera: y down, along the view
        pose[2, 3] = heights * 1.2 * np.ptp(peer.mean[:, 1])
        tried = replace(peer, focal=focal, pose=pose)
        poses, missed = zip(*(_fit(tried, tried.on_face(mesh), None, seen) for mesh, seen
                              in zip(meshes[few], points[few], strict=True)), strict=True)
        error = float(np.median([np.square(miss / peer.spread[:, None]).mean() for miss in missed]))
        if error < best[0]:
            rotation = np.linalg.svd(np.mean([pose[:3, :3] for pose in poses], 0))
            pose[:3, :3], pose[:3, 3] = rotation[0] @ rotation[2], np.mean([pose[:3, 3] for pose in poses], 0)
            best = error, replace(tried, pose=pose)
    return best[1]


def _places(peer: Peer, points: np.ndarray, meshes: np.ndarray, seen: np.ndarray) -> Peer:
    """For each landmark the place on the mesh whose way through the training frames is nearest to its own."""
    vertices, numbers = np.unique(seen, return_inverse=True)
    numbers = numbers.reshape(seen.shape)
    ways = np.empty((len(vertices), len(points), 2), np.float32)
    for row, (mesh, own) in enumerate(zip(meshes, points, strict=True)):
        pose, _ = _fit(peer, peer.on_face(mesh), None, own)
        ways[:, row] = _project(peer, mesh[vertices] @ pose[:3, :3].T + pose[:3, 3])
    ways, own = ways.reshape(len(vertices), -1), points.transpose(1, 0, 2).reshape(POINTS, -1).astype(np.float32)
    nearest = (np.square(ways).sum(1) - 2 * own @ ways.T).argmin(1)
    corners, shares, spread = np.empty((POINTS, 3), int), np.empty((POINTS, 3)), np.empty(POINTS)
    for row in range(POINTS):
        around = numbers[(numbers == nearest[row]).any(1)]
        first, edges = ways[around[:, 0]], ways[around[:, 1:]] - ways[around[:, :1]]
        normal = np.einsum("tap,tbp->tab", edges, edges) + 1e-6 * np.eye(2)
        along = np.linalg.solve(normal, np.einsum("tap,tp->ta", edges, own[row] - first)[..., None])[..., 0]
        places = np.einsum("tc,tcp->tp", _shares(along), ways[around])
        missed = np.square(places - own[row]).mean(1)
        best = missed.argmin()
        corners[row], shares[row], spread[row] = vertices[around[best]], _shares(along)[best], missed[best]
    return replace(peer, corners=corners, shares=shares, spread=np.maximum(np.sqrt(spread), SHARPEST))


def _project(peer: Peer, local: np.ndarray) -> np.ndarray:
    """Pixels of points (..., 3) of the camera's space."""
    return peer.focal * local[..., :2] / local[..., 2:] + np.array(peer.size) / 2


def _fit(peer: Peer, rest: np.ndarray, basis: np.ndarray | None, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Newton for pose and, with a basis, expression, from the mean pose on.

    rest : (468, 3), basis : (K, 468, 3) of the landmarks' places.    points : (468, 2) where they were seen.
    Returns what was solved for last, codes (K,) or the pose (4, 4), and how far each landmark is missed, (468, 2).
    """
    pose, codes = peer.pose.copy(), np.zeros(0 if basis is None else len(basis))
    weights = (1 / peer.spread)[:, None]
    prior = np.concatenate([np.full(6, 1e-9), peer.pull / peer.deviations[:len(codes)].astype(float) ** 2])
    for _ in range(STEPS if basis is not None else SETTLED):
        local, slopes = (rest if basis is None else rest + np.tensordot(codes, basis, 1)) @ pose[:3, :3].T, [None] * 3
        middle = local.mean(0)
        x, y, z = (local - middle).T
        zero, one = np.zeros_like(x), np.ones_like(x)
        for axis, turned in enumerate(((zero, z, -y), (-z, zero, x), (y, -x, zero))):  # a small turn about the middle
            moved = np.tile(np.eye(3)[axis], (len(x), 1))
            parts = [np.column_stack(turned), moved]
            if basis is not None:
                parts.append(np.tensordot(basis, pose[axis, :3], 1).T)
            slopes[axis] = np.hstack(parts)
        local = local + pose[:3, 3]
        missed = (_project(peer, local) - points) * weights
        scale = weights[:, 0] * peer.focal / local[:, 2] * one
        slope = np.concatenate([scale[:, None] * (slopes[axis] - (local[:, axis] / local[:, 2])[:, None] * slopes[2])
                                for axis in (0, 1)])
        normal = slope.T @ slope + np.diag(prior)
        step = -np.linalg.solve(normal, slope.T @ missed.T.ravel() + prior * np.concatenate([np.zeros(6), codes]))
        turn = cv2.Rodrigues(step[:3])[0]
        pose[:3, 3] += middle - turn @ middle + step[3:6]
        pose[:3, :3], codes = turn @ pose[:3, :3], codes + step[6:]
    return (pose if basis is None else codes), missed / weights
