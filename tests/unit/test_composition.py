import json
import shutil

import numpy as np
import pytest

from understudy.core import composition
from understudy.core.actor import Actor, create_actor
from understudy.core.composition import CACHE, compose
from understudy.core.topology import make_mesh, write_obj

SIDE = 12
FPS = 30.0


@pytest.fixture
def actor(tmp_path):
    """A face of a centimetre a unit, 12 wide; lips and brows, no shots."""
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    corner = (y * SIDE + x)[:-1, :-1].ravel()
    faces = np.stack([corner, corner + 1, corner + SIDE + 1, corner + SIDE], axis=1)
    mesh = make_mesh(np.stack([x, y, np.sin(x / 3)], axis=2).reshape(-1, 3), np.full(len(faces), 4), faces.ravel())
    write_obj(tmp_path / "face.obj", mesh)
    (tmp_path / "take.mp4").write_bytes(b"a movie")
    return create_actor(tmp_path / "Zoë", tmp_path / "face.obj", "cm",
                        regions={"lips": range(0, 36), "brows": range(108, 144)})


def add(actor, name, role, frames, split="train", way=1.0, seed=0, **more):
    """A shot in which the lips move by `way` units at most, each shot in another way, and the brows hardly."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames)
    positions = np.repeat(actor.template.vertices[None], frames, 0)
    directions = rng.standard_normal((4, 3))
    for order, direction in enumerate(directions):
        wave = np.sin(time / (9 + 3.7 * order) + rng.uniform(0, 6))[:, None, None]
        positions[:, :36] += (way / 4 * direction / np.linalg.norm(direction) * wave).astype(np.float32)
    positions += rng.normal(0, .001, positions.shape).astype(np.float32)
    if "change" in more:
        more.pop("change")(positions)
    return actor.add_shot(name, actor.folder.parent / "take.mp4", positions, role, split, fps=FPS, **more)


def test_shares_are_held_against_the_papers(actor):
    add(actor, "rom", "extreme", 90)
    add(actor, "faces", "facs", 90, seed=1)
    add(actor, "alphabet", "pangram", 540, seed=2)
    add(actor, "scene", "character", 1080, seed=3)
    add(actor, "held back", "character", 300, "validation", seed=4)
    add(actor, "raw", "character", 300, status="in cleanup", seed=5)
    found = compose(actor)
    assert [(part.name, part.shots, part.frames, part.share, part.advised) for part in found.parts] == [
        ("expressions", 2, 180, pytest.approx(.1), .1), ("pangrams", 1, 540, pytest.approx(.3), .3),
        ("in character", 1, 1080, pytest.approx(.6), .6)]
    assert found.frames == 1800 and found.minutes == pytest.approx(1) and found.validation == ("held back",)
    assert found.validation_minutes == pytest.approx(1 / 6) and not found.suspicious and found.duplicates < .02
    assert "in character: 60 % (0.6 min), advised 60 %" in found.lines()
    json.dumps(found.to_json(), allow_nan=False)


def test_regions_that_never_moved_far_are_named(actor):
    add(actor, "rom", "extreme", 300, way=2.0)
    found = compose(actor)
    assert found.still == ("brows",) and 5 < found.reach["lips"] < 20 and found.reach["brows"] < .1
    assert any(line == f"brows: moves up to {found.reach['brows']:.1f} mm, never far" for line in found.lines())


def test_what_only_validates_does_not_count_as_covered(actor):
    add(actor, "small", "facs", 100, way=.01)
    add(actor, "large", "facs", 100, "validation", way=2.0)
    assert set(compose(actor).still) == {"lips", "brows"}


def test_takes_that_repeat_another_are_duplicates(actor):
    add(actor, "a", "character", 200)
    add(actor, "b", "character", 200, seed=1)
    assert compose(actor).duplicates < .05
    add(actor, "c", "character", 200)
    assert compose(actor).duplicates > .6


def test_suspicious_frames_are_told_unless_they_are_excluded(actor):
    def spoil(positions):
        positions[40] += 1
        positions[60:70] = positions[60]

    shot = add(actor, "a", "character", 200, change=spoil)
    found = compose(actor).suspicious["a"]
    assert any("Frame 40 leaves the motion" in text for text in found)
    assert any("60 to 69 stand still" in text for text in found)
    shot.excluded = [[38, 70]]
    shot.save()
    again = compose(Actor.load(actor.folder))
    assert "a" not in again.suspicious and again.frames == 200 - 33


def test_single_corrected_frames_do_not_stand_out_from_what_nobody_learns(actor):
    def correct(positions):
        positions[[30, 31, 50, 90], :36] += 2.0

    shot = add(actor, "a", "character", 100, change=correct)
    shot.excluded = [[0, 29], [32, 49], [51, 89], [91, 99]]
    shot.save()
    found = compose(actor)
    assert found.frames == 4 and not found.suspicious


def test_a_shot_that_cannot_be_read_is_told_and_the_others_count(actor):
    add(actor, "a", "character", 50)
    add(actor, "b", "character", 50).cache.write_bytes(b"no cache")
    found = compose(actor)
    assert found.frames == 50 and "is not a PC2 cache" in found.suspicious["b"][0]


def test_asked_again_nothing_is_read_until_a_file_changes(actor, monkeypatch):
    add(actor, "a", "character", 50)
    add(actor, "b", "character", 50, seed=1)
    first = compose(actor)
    looked = []
    look = composition._look
    monkeypatch.setattr(composition, "_look", lambda actor, shot: looked.append(shot.name) or look(actor, shot))
    assert compose(Actor.load(actor.folder)) == first and looked == []
    shutil.rmtree(actor.folder / "shots" / "b")
    actor = Actor.load(actor.folder)
    add(actor, "b", "character", 60, seed=2)
    assert compose(actor).frames == 110 and looked == ["b"]
    (actor.folder / CACHE).write_text("{")
    assert compose(actor).frames == 110 and looked == ["b", "a", "b"]


def test_an_actor_without_shots(actor):
    found = compose(actor)
    assert found.frames == 0 and not found.still and "No shot validates: keep one back" in found.lines()
