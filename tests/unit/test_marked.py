import json
import pathlib

import numpy as np
import pytest

from understudy.core.actor import Actor, create_actor
from understudy.core.errors import UnderstudyError
from understudy.core.marked import samples, shot_for, unmark, write_shot
from understudy.core.topology import make_mesh, write_obj

SIDE = 12


@pytest.fixture
def actor(tmp_path):
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    corner = (y * SIDE + x)[:-1, :-1].ravel()
    faces = np.stack([corner, corner + 1, corner + SIDE + 1, corner + SIDE], axis=1)
    mesh = make_mesh(np.stack([x, y, np.sin(x / 3)], axis=2).reshape(-1, 3), np.full(len(faces), 4), faces.ravel())
    write_obj(tmp_path / "face.obj", mesh)
    for name in ("take 1.mp4", "other.mp4"):
        (tmp_path / name).write_bytes(b"a movie")
    return create_actor(tmp_path / "Zoë", tmp_path / "face.obj", "cm")


def motion(actor, frames=6, seed=0):
    rng = np.random.default_rng(seed)
    return actor.template.vertices + rng.normal(0, .1, (frames, SIDE ** 2, 3)).astype(np.float32)


def mark(actor, positions, **changes):
    shot = shot_for(actor, "take", actor.folder.parent / "take 1.mp4")
    for name, value in changes.items():
        setattr(shot, name, value)
    with write_shot(actor, shot, len(positions)) as write:
        for one in positions:
            write(one[None])
    return Actor.load(actor.folder).shots[0]


def test_a_new_shot_is_the_actors(actor):
    shot = mark(actor, motion(actor), role="facs", split="validation", first_frame=4, fps=24.0,
                excluded=[[1, 2]], provenance={"by": "Zoë"})
    assert (shot.role, shot.split, shot.first_frame, shot.fps) == ("facs", "validation", 4, 24.0)
    assert shot.status == "cleaned"
    assert np.array_equal(shot.vertices(), motion(actor)) and shot.frames().tolist() == [0, 3, 4, 5]
    assert shot.provenance == {"by": "Zoë"} and shot.cache.name == "vertices.pc2"
    assert [one.name for one in actor.shots] == ["take"]


def test_marked_again_it_is_replaced_and_a_reader_keeps_what_it_had(actor):
    before = mark(actor, motion(actor))
    reading = before.vertices()
    again = mark(actor, motion(actor, 4, seed=1), role="extreme")
    assert len(again.vertices()) == 4 and again.role == "extreme" and again.cache.name == "vertices.0001.pc2"
    assert np.array_equal(reading, motion(actor)) and np.array_equal(before.vertices(), motion(actor))
    third = mark(actor, motion(actor, 5, seed=2))
    assert sorted(path.name for path in third.folder.iterdir()) == ["shot.json", "shot.previous.json",
                                                                    "vertices.0001.pc2", "vertices.0002.pc2"]


def test_taken_back_the_marking_before_counts_again(actor):
    mark(actor, motion(actor), role="facs", excluded=[[0, 1]], provenance={"by": "Zoë"})
    mark(actor, motion(actor, 4, seed=1), role="extreme")
    reading = actor.shots[0].vertices()
    assert unmark(actor, actor.shots[0])
    for found in (actor.shots[0], Actor.load(actor.folder).shots[0]):
        assert (found.role, found.excluded, found.provenance) == ("facs", [[0, 1]], {"by": "Zoë"})
        assert np.array_equal(found.vertices(), motion(actor)) and found.status == "cleaned"
    assert np.array_equal(reading, motion(actor, 4, seed=1))
    assert not unmark(actor, actor.shots[0]), "there is none before the first"
    assert not actor.training_shots() and Actor.load(actor.folder).shots[0].status == "in cleanup"
    assert mark(actor, motion(actor, 5, seed=2), status="cleaned").vertices().shape[0] == 5
    assert [len(shot.vertices()) for shot in Actor.load(actor.folder).training_shots()] == [5]


@pytest.mark.parametrize("marked_before", [False, True])
def test_what_fails_leaves_all_as_it_was(actor, marked_before):
    if marked_before:
        mark(actor, motion(actor))
    before = {path: path.read_bytes() for path in actor.folder.rglob("*") if path.is_file()}
    bad = motion(actor)
    bad[3, 7] = np.nan
    with pytest.raises(UnderstudyError, match="vertex 7 in frame 3 is not a finite number"):
        mark(actor, bad)
    with pytest.raises(UnderstudyError, match="is 100 times the size"):
        mark(actor, 100 * motion(actor))
    with pytest.raises(RuntimeError):
        with write_shot(actor, shot_for(actor, "take", actor.folder.parent / "take 1.mp4"), 6) as write:
            write(motion(actor)[:2])
            raise RuntimeError("the artist stopped")
    assert {path: path.read_bytes() for path in actor.folder.rglob("*") if path.is_file()} == before


def test_a_name_belongs_to_its_footage(actor):
    mark(actor, motion(actor))
    with pytest.raises(UnderstudyError, match="already has a shot named take, with other footage"):
        shot_for(Actor.load(actor.folder), "Take", actor.folder.parent / "other.mp4")


def test_shot_json_names_no_other_file(actor):
    shot = mark(actor, motion(actor))
    path = shot.folder / "shot.json"
    for name in ("../vertices.pc2", "/etc/passwd", "vertices.1.pc2", 3):
        path.write_text(json.dumps({**json.loads(path.read_text()), "vertices": name}))
        with pytest.raises(UnderstudyError, match="'vertices' should be vertices.pc2 or a later one"):
            Actor.load(actor.folder)


def test_excluded_frames_become_samples():
    assert samples([(0, 3), (20, 25), (8, 9), (10, 12), (99, 120)], first=2, count=100) == [
        [0, 1], [6, 10], [18, 23], [97, 99]]
    assert samples([(0, 1)], first=2, count=3) == [] and samples([], 0, 5) == []


def test_there_is_nothing_absolute_in_the_folder(actor):
    shot = mark(actor, motion(actor))
    assert str(pathlib.Path(actor.folder).parent) not in (shot.folder / "shot.json").read_text(encoding="utf-8")
