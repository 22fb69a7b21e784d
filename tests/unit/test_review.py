import json

import numpy as np
import pytest

from understudy.__main__ import main
from understudy.core.errors import UnderstudyError
from understudy.core.review import clean_next, expected_error, project, suggest_frames


def test_the_least_sure_frames_come_first_and_apart():
    confidence = np.full(300, .2)
    confidence[100:110] = 2.0
    confidence[250] = 1.0
    chosen = suggest_frames(confidence, 4)
    assert 100 <= chosen[0] < 110 and chosen[1] == 250
    assert all(abs(a - b) > 5 for a in chosen for b in chosen if a != b)


def test_what_is_cleaned_excluded_or_unknown_is_not_suggested_again():
    confidence = np.array([.1] * 50 + [3.0] * 10 + [np.nan] * 40)
    assert 50 <= suggest_frames(confidence, 1)[0] < 60
    assert not 45 <= suggest_frames(confidence, 1, excluded=np.arange(100) // 10 == 5)[0] < 60
    assert suggest_frames(confidence, 1, taken=[55])[0] in (50, 59)
    assert suggest_frames(np.full(5, np.nan), 3) == []


def test_what_is_expected_of_a_solve():
    sidecar = {"first": 5, "last": 7, "confidence_mm": {"all": [.1, None, .3], "lips": [.1, None, 2.0],
                                                        "brows": [.1, None, .1]}}
    assert expected_error(sidecar) == pytest.approx([.1, np.nan, .3], nan_ok=True)
    first, second = clean_next(sidecar)
    assert (first.sample, second.sample) == (2, 0)
    assert "lips" in first.reason and first.expected_mm == pytest.approx(.3)
    tracked = {"first": 0, "last": 2, "confidence_mm": {}}
    assert np.isnan(expected_error(tracked)).all() and len(expected_error(tracked)) == 3 and clean_next(tracked) == []


def sidecar(count, **changes):
    """Of a solve by a calibrated model, in which nothing stands out unless `changes` make it."""
    part = {"first": 10, "last": 9 + count, "model_sha256": "ab", "engine": "e", "device": "cpu", "crop": [0, 0, 3, 4]}
    columns = {"all": .4, "brows": .3, "lips": .5}
    made = {**part, "topology": "7" * 64, "confidence_mm": {name: [.1] * count for name in columns},
            "expected_mm": {name: [value] * count for name, value in columns.items()},
            "novelty_mm": {name: [.05] * count for name in columns},
            "signals": {"brightness": [1.0] * count, "expression_mm": [.5] * count}}
    for (kind, name, sample), value in changes.pop("at", {}).items():
        made[kind][name][sample] = value
    return made | changes


def test_what_is_expected_was_learned_where_it_could_be():
    made = sidecar(4, at={("expected_mm", "all", 2): None})
    assert expected_error(made) == pytest.approx([.4, .4, .1, .4])
    assert expected_error(made, "lips") == pytest.approx([.5] * 4)
    assert np.isnan(expected_error(made, "chin")).all()


@pytest.mark.parametrize("at, words", [
    ({("signals", "brightness", 5): .7}, "darker than the training footage"),
    ({("signals", "brightness", 5): 1.4}, "brighter than the training footage"),
    ({("signals", "expression_mm", 5): 2.1}, "an expression 2.1 mm from all training frames"),
    ({("novelty_mm", "all", 5): .2}, "a picture unlike the training footage"),
    ({("expected_mm", "lips", 5): 2.1}, "unsure about the lips, 2.1 mm expected there"),
])
def test_a_reason_is_told_in_words(at, words):
    (first,) = clean_next(sidecar(9, at=at | {("expected_mm", "all", 5): 1.0}), 1)
    assert first.sample == 5 and words in first.reason and first.expected_mm == pytest.approx(1)
    assert "training" not in clean_next(sidecar(9), 1)[0].reason


def test_the_worst_frames_of_several_solves_are_listed_together(tmp_path, capsys):
    folder = tmp_path / "takes é"
    folder.mkdir()
    for name, worst in (("a", 2.0), ("b", 1.0)):
        made = sidecar(200, at={("expected_mm", "all", 7): worst, ("expected_mm", "all", 150): worst / 4 + .6})
        (folder / f"{name}.json").write_text(json.dumps(made))
        (folder / f"{name}.pc2").write_bytes(b"")
    (folder / "cleaned.pc2").write_bytes(b"")  # not a solve
    assert main(["next", str(folder), "--count", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["frames"]
    assert [(one["solve"][-5:], one["frame"]) for one in found] == [("a.pc2", 17), ("a.pc2", 160), ("b.pc2", 17)]
    assert main(["next", str(folder / "b.json"), str(folder / "b.pc2"), "--count", "1"]) == 0
    assert capsys.readouterr().out.startswith("b.pc2  frame     17   1.00 mm  unsure about the")
    for missing in (tmp_path / "nothing.pc2", folder / "cleaned.pc2"):
        assert main(["next", str(missing)]) == 1
    (tmp_path / "empty").mkdir()
    assert main(["next", str(tmp_path / "empty")]) == 1
    assert "There is no solve in" in capsys.readouterr().err


def test_projection_is_the_nearest_face():
    rng = np.random.default_rng(0)
    weights, mean = rng.standard_normal((90, 7)).astype(np.float32), rng.standard_normal(90).astype(np.float32)
    weights[:, 6] = weights[:, 0]  # a component twice
    code = rng.standard_normal(7)
    inside = (weights @ code + mean).reshape(-1, 3)
    assert np.abs(project(inside, weights, mean)[0] - inside).max() < 1e-4
    sculpted = inside + rng.normal(0, .3, inside.shape)
    near = project(sculpted, weights, mean)[0]
    left = (sculpted - near).ravel()
    assert np.abs(weights.T @ left).max() < 1e-3, "what is left is at right angles to every component"
    assert np.linalg.norm(left) < np.linalg.norm(sculpted - inside)
    with pytest.raises(UnderstudyError, match="30 animated vertices, but 29"):
        project(inside[1:], weights, mean)
