import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

import understudy
from understudy.core.actor import Actor, check_shot_name, create_actor
from understudy.core.errors import UnderstudyError
from understudy.core.topology import make_mesh, read_mesh, write_obj

OTTO = pathlib.Path(understudy.__file__).parent.parent / "shared/actors/otto"
SIDE = 12


def grid():
    """A mesh of 144 vertices, 12 units wide, slightly bent."""
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    corner = (y * SIDE + x)[:-1, :-1].ravel()
    faces = np.stack([corner, corner + 1, corner + SIDE + 1, corner + SIDE], axis=1)
    vertices = np.stack([x, y, np.sin(x / 3)], axis=2).reshape(-1, 3)
    return make_mesh(vertices, np.full(len(faces), 4), faces.ravel())


def motion(frames=7):
    template = grid().vertices
    return template + np.random.default_rng(0).normal(0, .1, (frames, *template.shape)).astype(np.float32)


@pytest.fixture
def place(tmp_path):
    """A folder with a template and footage."""
    write_obj(tmp_path / "face.obj", grid())
    (tmp_path / "footage ä").mkdir()
    (tmp_path / "footage ä" / "take 1.mp4").write_bytes(b"a movie")
    return tmp_path


@pytest.fixture
def actor(place):
    return create_actor(place / "Otto ö", place / "face.obj", "cm", animated=range(100), stabiliser=[3, 1],
                        regions={"lips": [5, 4, 5]}, crop=(10, 20, 240, 320.5))


def footage(actor):
    return actor.folder.parent / "footage ä" / "take 1.mp4"


def test_what_is_created_loads_again(actor):
    again = Actor.load(actor.folder)
    assert (again.name, again.unit, again.millimetres, again.transfer) == ("Otto ö", 0.01, 10.0, "sRGB")
    assert again.crop == (10, 20, 240, 320.5)
    assert again.animated.tolist() == list(range(100)) and again.animated.dtype == np.int32
    assert again.stabiliser.tolist() == [1, 3] and again.regions["lips"].tolist() == [4, 5]
    assert again.template.hash == grid().hash and np.array_equal(again.template.vertices, grid().vertices)
    stored = json.loads((actor.folder / "actor.json").read_text(encoding="utf-8"))
    assert set(stored) == {"schema", "name", "unit", "crop", "input", "transfer", "topology", "masks"}
    assert stored["input"] == [240, 320] and stored["topology"] == {"hash": grid().hash, "vertices": 144}


def test_all_vertices_are_animated_unless_named(place):
    create_actor(place / "a", place / "face.obj", 0.02, name="Ann")
    actor = Actor.load(place / "a")
    assert actor.animated.tolist() == list(range(144)) and len(actor.stabiliser) == 0
    assert actor.crop is None and actor.unit == 0.02 and actor.name == "Ann"
    assert json.loads((place / "a" / "actor.json").read_text())["masks"]["animated"] is None


def test_painted_weights_are_kept(actor):
    assert actor.weights is None
    actor.weights = np.linspace(0, 2, SIDE * SIDE)
    actor.save()
    again = Actor.load(actor.folder).weights
    assert again.dtype == np.float32
    np.testing.assert_allclose(again, np.linspace(0, 2, SIDE * SIDE), atol=0.0006)


@pytest.mark.parametrize("weights", [np.ones(3), np.zeros(SIDE * SIDE), np.full(SIDE * SIDE, -1.0),
                                     np.full(SIDE * SIDE, np.nan)], ids=["count", "all 0", "negative", "not finite"])
def test_weights_that_cannot_weigh_are_refused(actor, weights):
    actor.weights = weights
    with pytest.raises(UnderstudyError, match="Paint them again"):
        actor.save()
    assert Actor.load(actor.folder).weights is None


def test_masks_from_files(place):
    np.save(place / "animated.npy", np.arange(50))
    (place / "lips.txt").write_text("7 8 9")
    actor = create_actor(place / "a", place / "face.obj", "m", animated=place / "animated.npy",
                         regions={"lips": str(place / "lips.txt")})
    assert len(actor.animated) == 50 and actor.regions["lips"].tolist() == [7, 8, 9]


@pytest.mark.parametrize("change, words", [
    ({"unit": "furlong"}, "'furlong' is unknown; use mm, cm, dm, m, inch, foot"),
    ({"unit": 0}, "is unknown"),
    ({"animated": [144]}, "animated mask names vertex 144, but the mesh has the vertices 0 to 143"),
    ({"animated": []}, "animated mask names no vertices"),
    ({"regions": {"lips": [1, -1]}}, "region 'lips' names vertex -1"),
    ({"stabiliser": [[1], [2, 3]]}, "list of vertex numbers"),
    ({"crop": (0, 0, 240, float("nan"))}, "crop"),
    ({"crop": (-1, 0, 240, 320)}, "crop"),
    ({"template_file": "none.obj"}, "none.obj"),
])
def test_refused_actor_leaves_nothing(place, change, words):
    before = sorted(place.iterdir())
    with pytest.raises(UnderstudyError) as error:
        create_actor(**{"folder": place / "a", "template_file": place / "face.obj", "unit": "cm"} | change)
    assert words in str(error.value)
    assert sorted(place.iterdir()) == before


def test_existing_folders(place, actor):
    with pytest.raises(UnderstudyError, match="already an actor"):
        create_actor(actor.folder, place / "face.obj", "cm")
    with pytest.raises(UnderstudyError, match="not empty"):
        create_actor(place, place / "face.obj", "cm")
    with pytest.raises(UnderstudyError, match="not empty"):
        create_actor(place / "face.obj", place / "face.obj", "cm")
    (place / "empty").mkdir()
    create_actor(place / "empty", place / "face.obj", "cm")
    assert Actor.load(place / "empty").name == "empty"
    with pytest.raises(UnderstudyError, match="no actor folder"):
        Actor.load(place)


def test_shot_round_trip(actor):
    actor.add_shot("Szene 2_ä", footage(actor), motion(), "pangram", "train", first_frame=720, fps=23.976)
    np.save(actor.folder.parent / "v.npy", motion(9).astype(np.float64))
    actor.add_shot("Szene 1", footage(actor), actor.folder.parent / "v.npy", "facs", "validation")
    actor.add_shot("a", footage(actor), None, "character", "train", status="raw")
    actor.add_shot("b", footage(actor), motion(), "character", "train", status="in cleanup")
    again = Actor.load(actor.folder)
    assert [shot.name for shot in again.shots] == ["Szene 1", "Szene 2_ä", "a", "b"]
    assert again.shots == actor.shots
    one, two, raw, _ = again.shots
    assert np.array_equal(two.vertices(), motion()) and np.array_equal(one.vertices(), motion(9))
    assert (two.first_frame, two.fps, two.role, two.status) == (720, 23.976, "pangram", "cleaned")
    assert two.footage == "../footage ä/take 1.mp4" and two.footage_path() == footage(actor)
    assert again.training_shots() == [two] and again.validation_shots() == [one]
    assert raw.sample_count() == 0 and len(raw.frames()) == 0
    with pytest.raises(UnderstudyError, match="no mesh cache"):
        raw.vertices()


def test_excluded_samples_are_left_out(actor):
    shot = actor.add_shot("a", footage(actor), motion(), "facs", "train")
    assert shot.frames().tolist() == [0, 1, 2, 3, 4, 5, 6]
    shot.excluded = [[0, 1], [4, 4], [6, 99]]
    shot.save()
    assert Actor.load(actor.folder).shots[0].frames().tolist() == [2, 3, 5]


def test_folder_travels_with_its_footage(actor, tmp_path_factory):
    actor.add_shot("a", footage(actor), motion(), "facs", "train")
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "b"
    shutil.move(actor.folder.parent, elsewhere)
    shot = Actor.load(elsewhere / "Otto ö").shots[0]
    assert shot.footage_path().read_bytes() == b"a movie" and len(shot.vertices()) == 7


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_footage_is_found_through_links(actor):
    os.symlink(actor.folder, actor.folder.parent / "footage ä" / "link")
    linked = Actor.load(actor.folder.parent / "footage ä" / "link")
    assert linked.add_shot("a", footage(actor), motion(), "facs", "train").footage_path() == footage(actor)


def test_saved_changes_are_checked(actor):
    actor.crop, actor.name = (0, 0, 120, 160), "Ötto"
    actor.save()
    assert Actor.load(actor.folder).crop == (0, 0, 120, 160) and Actor.load(actor.folder).name == "Ötto"
    actor.animated = np.array([1000])
    with pytest.raises(UnderstudyError, match="vertex 1000"):
        actor.save()
    assert len(Actor.load(actor.folder).animated) == 100


@pytest.mark.parametrize("change, words", [
    ({"name": "a"}, "already has a shot named a"),
    ({"name": "A"}, "already has a shot named A"),
    ({"name": "../b"}, "cannot name a shot"),
    ({"vertices": motion()[:, :143]}, "143 vertices, but the template has 144"),
    ({"vertices": motion()[0]}, "shape"),
    ({"vertices": motion()[:0]}, "shape"),
    ({"vertices": np.where(np.arange(7)[:, None, None] == 5, np.nan, motion())}, "vertex 0 in frame 5"),
    ({"vertices": motion() * 10}, "looks like mm; export"),
    ({"vertices": motion() / 2.54}, "looks like inch; export"),
    ({"vertices": motion() * 5}, "looks like another unit; export"),
    ({"vertices": motion()[:, np.random.default_rng(0).permutation(144)]}, "another order"),
    ({"vertices": None}, "only a raw shot"),
    ({"vertices": "none.pc2"}, "none.pc2"),
    ({"role": "hero"}, "role 'hero' is unknown; use extreme, facs, pangram, character"),
    ({"split": "test"}, "split 'test'"),
    ({"status": "done"}, "status 'done'"),
    ({"first_frame": -1}, "first frame"),
    ({"fps": float("nan")}, "per second"),
    ({"footage": "none.mp4"}, "no footage at none.mp4"),
])
def test_refused_shot_leaves_nothing(actor, change, words):
    actor.add_shot("a", footage(actor), motion(), "facs", "train")
    good = {"name": "b", "footage": footage(actor), "vertices": motion(), "role": "facs", "split": "train"}
    with pytest.raises(UnderstudyError) as error:
        actor.add_shot(**good | change)
    assert words in str(error.value)
    assert [path.name for path in (actor.folder / "shots").iterdir()] == ["a"]
    assert [shot.name for shot in actor.shots] == ["a"]


def test_failure_while_copying_leaves_nothing(actor):
    class Breaks(np.ndarray):
        def __getitem__(self, key):
            if isinstance(key, slice) and self.told:
                raise OSError(28, "No space left on device")
            self.told = True
            return super().__getitem__(key)

    vertices = motion().view(Breaks)
    vertices.told = False
    with pytest.raises(UnderstudyError, match="No space left"):
        actor.add_shot("a", footage(actor), vertices, "facs", "train")
    assert not list((actor.folder / "shots").iterdir()) and not actor.shots


@pytest.mark.parametrize("name", ["rom", "Szene 12", "größe_-.b", "तारा", "x" * 120, "console"])
def test_good_shot_names(name):
    assert check_shot_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\\b", "C:", "a\0", "a\n", " a", "a ", "a.", "con",
                                  "NUL", "nul.txt", "LPT1", "a*", "what?", "x" * 121])
def test_bad_shot_names(name):
    with pytest.raises(UnderstudyError):
        check_shot_name(name)


def test_decomposed_letters_name_the_same_shot():
    assert check_shot_name("a\u0308") == "\u00e4"


@pytest.mark.parametrize("change, words", [
    ({"schema": 2}, "newer Understudy (schema 2; this one knows 1)"),
    ({"schema": None}, "no schema version"),
    ({"unit": -1}, "'unit' should be metres"),
    ({"unit": 10**400}, "'unit' should be metres"),
    ({"crop": [1, 2, 3]}, "'crop' should be four numbers"),
    ({"input": [320, 240]}, "'input' should be [240, 320]"),
    ({"name": ""}, "'name' should be"),
    ({"topology": {"hash": "0", "vertices": 144}}, "not the template"),
    ({"topology": {"hash": "0", "vertices": 10**12}}, "'topology' should be"),
    ({"masks": {"animated": [0, 5000]}}, "animated mask names vertex 5000"),
    ({"masks": {"animated": None, "regions": {"lips": "all"}}}, "region 'lips'"),
    ({"masks": {"animated": None, "regions": [1]}}, "regions in actor.json"),
    ({"masks": {"animated": None, "weights": [1, 2]}}, "painted weights"),
    ({"masks": {"animated": None, "weights": "heavy"}}, "painted weights"),
])
def test_damaged_actor_json(actor, change, words):
    path = actor.folder / "actor.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change))
    with pytest.raises(UnderstudyError) as error:
        Actor.load(actor.folder)
    assert words in str(error.value)


@pytest.mark.parametrize("change, words", [
    ({"schema": 7}, "newer"), ({"footage": 5}, "'footage'"), ({"role": ["facs"]}, "'role'"), ({"fps": 0}, "'fps'"),
    ({"first_frame": 1.5}, "'first_frame'"), ({"excluded": [[3, 1]]}, "'excluded'"), ({"status": "x"}, "'status'")])
def test_damaged_shot_json(actor, change, words):
    actor.add_shot("a", footage(actor), motion(), "facs", "train")
    path = actor.folder / "shots" / "a" / "shot.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UnderstudyError) as error:
        Actor.load(actor.folder)
    assert words in str(error.value) and "shot.json" in str(error.value)


def test_all_faults_are_told_to_a_listener(actor):
    actor.add_shot("a", footage(actor), motion(), "facs", "train")
    for path, change in ((actor.folder / "actor.json", {"unit": "cm", "crop": 5}),
                         (actor.folder / "shots" / "a" / "shot.json", {"role": "x", "fps": None})):
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change))
    (actor.folder / "template.obj").unlink()
    told = []
    Actor.load(actor.folder, lambda where, sentence: told.append(where))
    assert sorted(told) == ["actor.json", "actor.json", "shot a", "shot a", "template.obj"]


@pytest.mark.skipif(not OTTO.exists(), reason="the test actors are not here")
def test_otto(tmp_path):
    subprocess.run([sys.executable, str(OTTO.parent / "expand.py"), "otto", str(tmp_path), "scene_b"], check=True)
    regions = json.loads((OTTO / "regions.json").read_text())
    actor = create_actor(tmp_path / "otto", OTTO / "template.obj", "cm", animated=OTTO / "animated.npy",
                         regions=regions, crop=(36, 56, 312, 416))
    actor.add_shot("scene_b", OTTO / "scene_b.mp4", tmp_path / "scene_b.pc2", "character", "train")
    again = Actor.load(tmp_path / "otto")
    assert len(again.animated) == 5046 and again.template.hash == read_mesh(OTTO / "template.obj").hash
    assert again.shots[0].vertices().shape == (160, 6706, 3)
    assert again.shots[0].footage_path() == (OTTO / "scene_b.mp4").resolve()
    shifted = np.roll(again.shots[0].vertices(), 1, axis=1)
    with pytest.raises(UnderstudyError, match="another order"):
        actor.add_shot("shifted", OTTO / "scene_b.mp4", shifted, "character", "train")
