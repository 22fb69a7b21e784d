import json
import pathlib
import subprocess
import sys

import av
import numpy as np
import pytest

import understudy
from understudy.core.actor import Actor, create_actor
from understudy.core.check import check
from understudy.core.topology import make_mesh, write_obj

OTTO = pathlib.Path(understudy.__file__).parent.parent / "shared/actors/otto"
SIDE = 12
ROLES = ("extreme", "facs", "pangram", "character")


def grid():
    """A mesh of 144 vertices, 12 units wide, slightly bent."""
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    corner = (y * SIDE + x)[:-1, :-1].ravel()
    faces = np.stack([corner, corner + 1, corner + SIDE + 1, corner + SIDE], axis=1)
    return make_mesh(np.stack([x, y, np.sin(x / 3)], axis=2).reshape(-1, 3), np.full(len(faces), 4), faces.ravel())


def motion(frames):
    template = grid().vertices
    return template + np.random.default_rng(0).normal(0, .1, (frames, *template.shape)).astype(np.float32)


def movie(path, frames, size=(48, 64), fps=30, stamps=None):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height = size
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0]), 100 + number % 50, np.uint8), "gray")
            frame = frame.reformat(format="yuv420p")
            frame.pts = number if stamps is None else stamps[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture
def actor(tmp_path):
    """An actor without problems: four training shots of all roles, 200 frames, and one for validation."""
    write_obj(tmp_path / "face.obj", grid())
    actor = create_actor(tmp_path / "otto", tmp_path / "face.obj", "cm", regions={"lips": [1, 2]}, crop=(0, 0, 48, 64))
    for role in ROLES:
        actor.add_shot(role, movie(tmp_path / f"{role}.mp4", 50), motion(50), role, "train")
    actor.add_shot("val", movie(tmp_path / "val.mp4", 50), motion(50), "facs", "validation")
    return actor


def found(actor):
    return {(problem.severity, problem.where) for problem in check(actor.folder)}


def only(actor, severity, where, *words):
    """The one problem that there is."""
    problem, = check(actor.folder)
    assert (problem.severity, problem.where) == (severity, where), problem
    for word in words:
        assert word in problem.message


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values))


def shot_json(actor, name):
    return actor.folder / "shots" / name / "shot.json"


def test_a_sound_actor_has_no_problem(actor):
    assert check(actor.folder) == []


def test_no_actor(tmp_path):
    problem, = check(tmp_path)
    assert problem.severity == "error" and "no actor.json" in problem.message


def test_everything_wrong_is_told_at_once(actor, tmp_path):
    change(actor.folder / "actor.json", crop=[10, 0, 48, 64], unit="cm", masks={"animated": [999], "regions": {}})
    (actor.folder / "template.obj").write_text("v 0 0 0")
    (tmp_path / "extreme.mp4").unlink()
    (tmp_path / "facs.mp4").write_bytes(b"no movie")
    change(shot_json(actor, "pangram"), role="hero", first_frame=3)
    (actor.folder / "shots" / "character" / "vertices.pc2").write_bytes(b"")
    messages = "\n".join(f"{problem.where}: {problem.message}" for problem in check(actor.folder))
    for words in ("outside the picture", "actor.json: ", "'unit' should be", "vertex 999", "template.obj: ",
                  "extreme.mp4 does not exist", "facs.mp4 cannot be read", "'role' should be", "3 too many",
                  "not a PC2"):
        assert words in messages, words


def test_unreadable_actor_json_is_the_only_complaint_about_it(actor):
    change(actor.folder / "actor.json", schema=2)
    only(actor, "error", "actor.json", "newer Understudy")
    (actor.folder / "actor.json").write_text("{")
    only(actor, "error", "actor.json", "not valid JSON")


def test_template_of_another_topology(actor):
    mesh = grid()
    write_obj(actor.folder / "template.obj", make_mesh(mesh.vertices, mesh.face_sizes, mesh.face_indices[::-1]))
    only(actor, "error", "template.obj", "not the template")


def test_crop(actor):
    actor.crop = None
    actor.save()
    only(actor, "error", "actor.json", "No crop")
    actor.crop = (0, 0, 48, 60)
    actor.save()
    only(actor, "error", "actor.json", "not 3:4")


def test_unit_that_no_face_has(actor):
    change(actor.folder / "actor.json", unit=1.0)
    only(actor, "warning", "actor.json", "11 m large")


def test_region_that_is_never_animated(actor):
    actor.animated = np.arange(50, 144)
    actor.save()
    only(actor, "warning", "actor.json", "'lips'")


def test_shorter_footage(actor, tmp_path):
    movie(tmp_path / "facs.mp4", 45)
    only(actor, "error", "shot facs", "45 frames (0 to 44)", "frames 0 to 49", "5 too many")
    change(shot_json(actor, "facs"), excluded=[[45, 49]])
    assert not [problem for problem in check(actor.folder) if problem.severity == "error"]


def test_longer_footage(actor, tmp_path):
    movie(tmp_path / "facs.mp4", 57)
    only(actor, "warning", "shot facs", "goes on for 7 frames", "57 frames, 50 samples from frame 0")
    change(shot_json(actor, "facs"), first_frame=7)
    assert check(actor.folder) == []


def test_footage_of_another_size(actor, tmp_path):
    movie(tmp_path / "facs.mp4", 50, size=(96, 128))
    only(actor, "error", "footage", "48 x 64: ", "96 x 128: facs.mp4")


def test_variable_frame_rate(actor, tmp_path):
    movie(tmp_path / "facs.mp4", 50, stamps=np.cumsum(np.arange(50) % 3 + 1))
    assert found(actor) == {("warning", "shot facs")}
    assert any("variable frame rate" in problem.message for problem in check(actor.folder))


def test_frame_rate_of_another_shot(actor, tmp_path):
    movie(tmp_path / "facs.mp4", 50, fps=24)
    only(actor, "warning", "shot facs", "30 frames a second, its footage 24")


def replace_vertices(actor, name, vertices):
    """As an export over the file would."""
    header = np.array([1, vertices.shape[1]], "<i4").tobytes() + np.array([0, 1], "<f4").tobytes()
    (actor.folder / "shots" / name / "vertices.pc2").write_bytes(
        b"POINTCACHE2\0" + header + np.array([len(vertices)], "<i4").tobytes() + vertices.astype("<f4").tobytes())


@pytest.mark.parametrize("damage, words", [
    (lambda v: v[:, :140], "140 vertices, but the template has 144"),
    (lambda v: np.where(np.arange(50)[:, None, None] == 31, np.inf, v), "vertex 0 in frame 31"),
    (lambda v: v[:, np.random.default_rng(0).permutation(144)], "another order"),
    (lambda v: v * 10, "looks like mm"),
])
def test_vertices_replaced_by_wrong_ones(actor, damage, words):
    replace_vertices(actor, "facs", damage(motion(50)))
    told = [problem for problem in check(actor.folder) if problem.severity == "error"]
    assert [problem.where for problem in told] == ["shot facs"] and words in told[0].message


def test_vertices_with_other_axes(actor):
    replace_vertices(actor, "facs", motion(50)[:, :, [0, 2, 1]])
    only(actor, "warning", "shot facs", "same axes")


def test_missing_vertices(actor):
    (actor.folder / "shots" / "val" / "vertices.pc2").unlink()
    assert ("error", "shot val") in found(actor)
    change(shot_json(actor, "val"), status="raw")
    assert found(actor) == {("warning", "shots")}


def test_excluded_samples(actor):
    change(shot_json(actor, "facs"), excluded=[[40, 50]])
    only(actor, "error", "shot facs", "0 to 49")
    change(shot_json(actor, "val"), excluded=[[0, 49]])
    assert ("error", "shot val") in found(actor)


def test_splits_roles_and_frames(actor):
    change(shot_json(actor, "val"), status="in cleanup")
    only(actor, "warning", "shots", "training error")
    change(shot_json(actor, "val"), status="cleaned")
    change(shot_json(actor, "pangram"), split="validation")
    messages = [problem.message for problem in check(actor.folder)]
    assert len(messages) == 2
    assert "150 frames train" in messages[0] and "149 components" in messages[0]
    assert "role pangram" in messages[1] and "character 33 %" in messages[1]
    for name in ("extreme", "facs", "character"):
        change(shot_json(actor, name), split="validation")
    only(actor, "error", "shots", "No sound shot trains")


def test_single_shot(tmp_path):
    write_obj(tmp_path / "face.obj", grid())
    actor = create_actor(tmp_path / "a", tmp_path / "face.obj", "cm", crop=(0, 0, 48, 64))
    actor.add_shot("one", movie(tmp_path / "one.mp4", 20), motion(20), "facs", "train")
    messages = "".join(problem.message for problem in check(actor.folder))
    assert "single cleaned shot" in messages and {severity for severity, _ in found(actor)} == {"warning"}


def test_frames_that_train_and_validate(actor, tmp_path):
    actor.add_shot("val2", tmp_path / "facs.mp4", motion(20), "facs", "validation", first_frame=30)
    only(actor, "warning", "shots", "20 frames of", "facs.mp4 train in facs and validate in val2")
    change(shot_json(actor, "facs"), excluded=[[30, 49]])
    assert check(actor.folder) == []


def test_folder_that_is_no_shot(actor):
    (actor.folder / "shots" / "empty").mkdir()
    only(actor, "warning", "shot empty", "no shot.json")


@pytest.mark.skipif(not OTTO.exists(), reason="the test actors are not here")
def test_otto(tmp_path):
    shots = [("scene_b", "character", "train"), ("val_talk", "character", "validation")]
    subprocess.run([sys.executable, str(OTTO.parent / "expand.py"), "otto", str(tmp_path), *(s[0] for s in shots)],
                   check=True)
    actor = create_actor(tmp_path / "otto", OTTO / "template.obj", "cm", animated=OTTO / "animated.npy",
                         regions=json.loads((OTTO / "regions.json").read_text()), crop=(36, 56, 312, 416))
    for name, role, split in shots:
        actor.add_shot(name, OTTO / f"{name}.mp4", tmp_path / f"{name}.pc2", role, split)
    assert found(Actor.load(actor.folder)) == {("warning", "shots")}  # few frames, few roles
