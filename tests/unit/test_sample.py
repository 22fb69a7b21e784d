"""The sample actor: its face does what its controls say, and it comes out the same every time."""

from dataclasses import replace

import numpy as np
import pytest

from understudy.core.actor import Actor
from understudy.core.errors import Cancelled, UnderstudyError
from understudy.core.footage import open_footage
from understudy.core.jobs import Reporter
from understudy.training import sample_face
from understudy.training.sample import PLANS, expression, film, make_sample, make_take
from understudy.training.sample_render import Renderer
from understudy.training.sample_sculpt import EYE, EYE_RADIUS

SHORT = tuple(replace(plan, frames=4) for plan in PLANS if plan.name in ("rom", "scene", "val_talk"))
MIDDLE = len(sample_face.AZIMUTHS) // 2


@pytest.fixture(scope="module")
def face():
    return sample_face.Face()


@pytest.fixture(scope="module")
def renderer(face):
    return Renderer(face, 1)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return make_sample(tmp_path_factory.mktemp("sample") / "actor", plans=SHORT)


def pose(face, **controls):
    return face.pose(expression(**controls))[0]


def lip_gap(face, vertices, column=MIDDLE):
    skin = face.part("skin")[:, column]
    return vertices[skin[sample_face.UPPER_LIP], 1] - vertices[skin[sample_face.LOWER_LIP], 1]


def lid_gap(face, vertices, side):
    skin, columns = face.part("skin"), sample_face.eye_columns(side)
    return (vertices[skin[sample_face.UPPER_LID, columns]] - vertices[skin[sample_face.LOWER_LID, columns]])[:, 1].max()


def moved(face, **controls):
    return np.linalg.norm(pose(face, **controls) - pose(face), axis=1)


def test_mesh_is_mostly_quads_of_five_thousand_vertices(face):
    assert 4500 <= len(face.closed) <= 5500
    triangles = face.faces[:, 2] == face.faces[:, 3]
    assert triangles.mean() < 0.02
    np.testing.assert_array_equal(np.unique(face.faces), np.arange(len(face.closed)))
    assert all(len(set(quad)) == 4 for quad in face.faces[~triangles])


def test_surface_has_no_edge_of_more_than_two_faces_and_one_orientation(face):
    edges = [(a, b) for quad in face.faces.tolist() for a, b in zip(quad, quad[1:] + quad[:1], strict=True) if a != b]
    assert len(set(edges)) == len(edges)  # an edge that two faces share runs both ways, once each


def test_neutral_mouth_is_closed_and_eyes_are_open(face):
    neutral = pose(face)
    assert lip_gap(face, neutral) == pytest.approx(0, abs=1e-6)
    assert 0.7 < lid_gap(face, neutral, 1) < 1.2


def test_jaw_parts_the_lips_in_the_middle_and_holds_the_corners(face):
    opened = pose(face, jaw_open=1)
    corner = np.flatnonzero(np.isclose(sample_face.AZIMUTHS, sample_face.MOUTH_CORNER))[0]
    assert 2.5 < lip_gap(face, opened) < 4.5
    assert 0.8 < lip_gap(face, pose(face, jaw_open=0.3)) < 1.4
    assert lip_gap(face, opened, corner) == pytest.approx(0, abs=1e-6)


def test_jaw_turns_about_its_hinge(face):
    chin, opened = face.part("lower_teeth").ravel(), pose(face, jaw_open=1)
    radius = [np.linalg.norm((vertices[chin] - sample_face.HINGE)[:, 1:], axis=1) for vertices in (pose(face), opened)]
    np.testing.assert_allclose(*radius, rtol=1e-5)
    assert moved(face, jaw_open=1)[chin].min() > 1


@pytest.mark.parametrize("control, side", [("lid_left", 1), ("lid_right", -1)])
def test_lids_close_without_a_gap_and_never_enter_the_eyeball(face, control, side):
    skin = face.part("skin")[sample_face.UPPER_LID - 5:sample_face.LOWER_LID + 4, sample_face.eye_columns(side)]
    gaps = []
    for value in np.linspace(-1, 1, 9):
        vertices = pose(face, **{control: value})
        gaps.append(lid_gap(face, vertices, side))
        assert np.linalg.norm(vertices[skin] - EYE * (side, 1, 1), axis=-1).min() > EYE_RADIUS
        assert lid_gap(face, vertices, -side) == pytest.approx(lid_gap(face, pose(face), -side))
    assert np.all(np.diff(gaps) < 0)
    assert gaps[-1] == pytest.approx(0, abs=1e-6)


def test_inside_of_the_mouth_lies_behind_the_lips(face):
    rows = face.part("skin")[:, np.abs(sample_face.AZIMUTHS) < sample_face.MOUTH_CORNER - 0.1]
    for controls in ({}, {"jaw_open": 1}, {"smile_left": 1, "smile_right": 1}, {"pucker": 1}, {"funnel": 1}):
        depth = pose(face, **controls)[:, 2]
        lips = np.minimum(depth[rows[sample_face.UPPER_LIP]], depth[rows[sample_face.LOWER_LIP]])
        assert np.all(depth[rows[sample_face.UPPER_LIP + 4]] < lips - 0.5)
        for teeth, rim in (("upper_teeth", sample_face.UPPER_LIP), ("lower_teeth", sample_face.LOWER_LIP)):
            assert depth[face.part(teeth)].max() < depth[rows[rim]].max()


def test_smiles_are_mirror_images_and_stay_on_their_side(face):
    left, right = moved(face, smile_left=1), moved(face, smile_right=1)
    assert left.max() > 1 and left.max() == pytest.approx(right.max(), rel=1e-4)
    far = face.closed[:, 0] < -1.5
    assert left[far].max() < 0.02


def test_brows_and_jaw_do_not_reach_each_other(face):
    regions = face.regions()
    assert moved(face, brow_inner=1, brow_outer=1)[regions["brows"]].mean() > 0.3
    assert moved(face, brow_inner=1, brow_outer=1)[regions["jaw"]].max() < 0.002
    assert moved(face, jaw_open=1)[regions["brows"]].max() == 0
    assert moved(face, jaw_open=1)[regions["jaw"]].min() > 1


def test_masks_leave_out_what_never_moves(face):
    animated, stabiliser = face.masks()
    still = [face.part(name).ravel() for name in ("eye_left", "eye_right", "ear_left", "upper_teeth")]
    neck = np.flatnonzero(face.closed[:, 1] < -16)
    assert not np.isin(animated, np.concatenate([*still, neck])).any()
    assert not np.isin(animated, stabiliser).any() and len(stabiliser) > 100
    assert 3000 < len(animated) < len(face.closed)
    for name in ("lips", "lids"):
        assert np.isin(face.regions()[name], animated).mean() > 0.9


def test_open_mouth_shows_in_the_picture_and_nowhere_else(face, renderer):
    still = np.eye(3), np.zeros(3), (0.0, 0.0)
    closed, opened = (renderer.draw(pose(face, jaw_open=value), *still).astype(int) for value in (0, 1))
    assert closed.shape == (512, 384, 3)
    assert opened[335:350, 180:204].mean() < 0.5 * closed[335:350, 180:204].mean()
    np.testing.assert_array_equal(opened[:180], closed[:180])


def test_head_moves_in_the_picture_and_not_in_the_vertices(face):
    take = make_take(replace(PLANS[0], frames=60), face, 0)
    assert np.ptp(take.turns, axis=0).max() > np.radians(1)
    _, stabiliser = face.masks()
    assert np.ptp(take.vertices[:, stabiliser], axis=0).max() < 0.01


def test_shots_are_repeatable_and_differ(face, renderer):
    first, again, other = (make_take(SHORT[0], face, number) for number in (0, 0, 1))
    np.testing.assert_array_equal(first.vertices, again.vertices)
    assert not np.array_equal(first.controls, other.controls)
    fresh = Renderer(sample_face.Face(), 1)
    for picture, same in zip(film(first, renderer, 0), film(again, fresh, 0), strict=True):
        np.testing.assert_array_equal(picture, same)


def test_controls_of_every_shot_stay_in_their_range(face):
    for number, plan in enumerate(PLANS):
        controls = make_take(replace(plan, frames=40), face, number).controls
        assert np.abs(controls).max() <= 1
        assert controls[:, sample_face.CONTROLS.index("jaw_open")].min() >= 0


def test_folder_is_a_complete_actor(sample):
    actor = Actor.load(sample.folder)
    assert actor.millimetres == 10 and actor.crop == (36, 56, 312, 416)
    assert sorted(actor.regions) == ["brows", "cheeks", "jaw", "lids", "lips"]
    assert [shot.name for shot in actor.validation_shots()] == ["val_talk"]
    assert {shot.role for shot in actor.training_shots()} == {"extreme", "character"}
    for shot in actor.shots:
        assert shot.vertices().shape == (4, len(actor.template.vertices), 3)
        with open_footage(shot.footage_path(), actor.transfer) as footage:
            assert (footage.frames, footage.width, footage.height) == (4, 384, 512)
    assert not list(sample.folder.parent.glob(".*"))


def test_making_it_twice_gives_the_same_vertices(sample, tmp_path):
    again = make_sample(tmp_path / "again", plans=SHORT[:1])
    name = again.shots[0].name
    assert again.template.hash == sample.template.hash
    np.testing.assert_array_equal(again.template.vertices, sample.template.vertices)
    assert ((again.folder / "shots" / name / "vertices.pc2").read_bytes()
            == (sample.folder / "shots" / name / "vertices.pc2").read_bytes())


def test_cancelling_leaves_nothing(tmp_path):
    class Impatient(Reporter):
        def progress(self, done, total, unit="frames", **more):
            self.done = done

        def cancelled(self):
            return getattr(self, "done", 0) >= 2

    with pytest.raises(Cancelled):
        make_sample(tmp_path / "actor", Impatient(), SHORT)
    assert not list(tmp_path.iterdir())


def test_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UnderstudyError, match="not empty"):
        make_sample(tmp_path, plans=SHORT)
    assert (tmp_path / "notes.txt").read_text() == "mine"
