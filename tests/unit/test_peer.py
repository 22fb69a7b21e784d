"""The monocular peer: where landmarks are exact it finds the face; it says when it cannot be had."""

from dataclasses import replace

import numpy as np
import pytest

from understudy.core import metrics
from understudy.core.actor import Actor
from understudy.core.errors import UnderstudyError
from understudy.core.topology import make_mesh
from understudy.training import peer
from understudy.training.peer import Peer

SIDE, EXPRESSIONS, SIZE = 24, 4, (312.0, 416.0)


@pytest.fixture(scope="module")
def face():
    """A dome of 24 x 24 vertices, its expressions (K, V, 3), triangles, and the places of 468 landmarks on it."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[8:-8:SIDE * 1j, -6:6:SIDE * 1j]
    rest = np.stack([x, y, 5 - 0.08 * (x ** 2 + 0.6 * y ** 2)], -1).reshape(-1, 3).astype(np.float32)
    corners = (np.arange(SIDE - 1)[:, None] * SIDE + np.arange(SIDE - 1)).ravel()
    quads = corners[:, None] + [0, SIDE, SIDE + 1, 1]
    mesh = make_mesh(rest, np.full(len(quads), 4), quads.ravel())
    waves = [np.exp(-((rest[:, :2] - centre) ** 2).sum(1) / 8) for centre in rng.uniform(-4, 4, (EXPRESSIONS, 2))]
    basis = np.stack([np.outer(wave, way) for wave, way in zip(waves, rng.standard_normal((EXPRESSIONS, 3)),
                                                               strict=True)]).astype(np.float32)
    triangles = mesh.triangles()
    shares = rng.dirichlet((1, 1, 1), peer.POINTS)
    return rest, basis, triangles, triangles[rng.integers(0, len(triangles), peer.POINTS)], shares


@pytest.fixture(scope="module")
def truth(face):
    rest, basis, _, corners, shares = face
    pose = np.diag([1.0, -1, -1, 1])
    pose[:3, 3] = 0.5, -0.3, 75
    return Peer(SIZE, 4 * SIZE[1], pose, corners, shares, np.ones(peer.POINTS), rest, basis,
                np.ones(EXPRESSIONS, np.float32), 1e-6)


def filmed(truth, count, seed, noise=0.0):
    """Landmarks and meshes of `count` frames in which the head moves."""
    rng, points, meshes = np.random.default_rng(seed), [], []
    for _ in range(count):
        codes = rng.standard_normal(EXPRESSIONS).astype(np.float32)
        pose = truth.pose.copy()
        pose[:3, :3] = peer.cv2.Rodrigues(rng.normal(0, 0.04, 3))[0] @ pose[:3, :3]
        pose[:3, 3] += rng.normal(0, 0.4, 3)
        meshes.append(truth.mean + np.tensordot(codes, truth.basis, 1))
        seen = peer._project(truth, truth.on_face(meshes[-1]) @ pose[:3, :3].T + pose[:3, 3])
        points.append(seen + rng.normal(0, noise, seen.shape))
    return np.array(points), np.array(meshes, np.float32)


def test_exact_landmarks_give_the_mesh(truth):
    for points, mesh in zip(*filmed(truth, 5, 1), strict=True):
        assert metrics.rmse_per_frame(truth.solve(points)[None], mesh, 10)[0] < 0.05


def test_a_frame_without_a_face_is_the_mean(truth):
    np.testing.assert_array_equal(truth.solve(None), truth.mean)


def test_the_prior_holds_back_what_landmarks_do_not_say(truth):
    points, _ = filmed(truth, 1, 2, noise=2.0)
    free, held = (replace(truth, pull=pull).solve(points[0]) - truth.mean for pull in (1e-6, 1e6))
    assert np.linalg.norm(held) < 0.05 * np.linalg.norm(free)


def test_the_camera_and_the_places_of_the_landmarks_are_found(actor, face, truth, monkeypatch):
    """From places that are half a triangle off."""
    points, meshes = filmed(truth, 60, 3, noise=0.5)
    monkeypatch.setattr(peer, "_training", lambda *_: (points, meshes))
    monkeypatch.setattr(peer, "_meet", lambda *_: (truth.corners, np.full((peer.POINTS, 3), 1 / 3),
                                                   np.ones(peer.POINTS, bool)))
    rest, _, triangles, _, _ = face
    stand_in = Actor.load(actor)
    stand_in.template = make_mesh(rest, np.full(len(triangles), 3), triangles.ravel())
    stand_in.animated, stand_in.crop = np.arange(len(rest)), (0, 0, *SIZE)
    found = peer.calibrate(stand_in)
    offsets = np.linalg.norm(found.on_face(rest) - truth.on_face(rest), axis=1)
    before = np.linalg.norm(rest[truth.corners].mean(1) - truth.on_face(rest), axis=1)
    assert np.median(offsets) < 0.3 * np.median(before)
    points, meshes = filmed(truth, 10, 4, noise=0.5)
    solved = np.stack([found.solve(seen) for seen in points])
    still = metrics.pooled(metrics.rmse_per_frame(np.broadcast_to(found.mean, meshes.shape), meshes, 10))
    assert metrics.pooled(metrics.rmse_per_frame(solved, meshes, 10)) < 0.2 * still


def test_footage_without_faces_says_so(actor):
    with pytest.raises(UnderstudyError, match="0 of 16 training frames of actor show a face"):
        peer.calibrate(Actor.load(actor))
