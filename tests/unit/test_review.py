import numpy as np
import pytest

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
