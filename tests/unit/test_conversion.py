import numpy as np
import pytest

from understudy.core.conversion import MATRICES, SAME, Conversion, check, describe_axes, guess
from understudy.core.errors import UnderstudyError

RNG = np.random.default_rng(1)
FACE = (RNG.normal(0, 1, (300, 3)) * [7, 10, 5] + [0, 3, 8]).astype(np.float32)  # cm, not alike on any side


def expression():
    """The face doing something, its head turned a little."""
    angle = .2
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    return (FACE + RNG.normal(0, .3, FACE.shape)) @ turn.T + [1, 2, 0]


@pytest.mark.parametrize("axes", MATRICES)
@pytest.mark.parametrize("metres", [0.001, 0.01, 1.0, 0.0254])
def test_every_unit_and_all_axes_are_found(axes, metres):
    vendors = expression() @ MATRICES[axes] * (0.01 / metres)  # what `Conversion` has to undo
    found = guess(vendors, FACE, 0.01)
    assert found.conversion.axes == axes and found.conversion.scale == pytest.approx(metres / 0.01)
    assert found.sure and np.allclose(found.conversion.apply(vendors), vendors @ MATRICES[axes].T * (metres / 0.01))


def test_there_are_24_turns_before_24_mirrors():
    signs = [round(np.linalg.det(matrix)) for matrix in MATRICES.values()]
    assert signs == [1] * 24 + [-1] * 24 and next(iter(MATRICES)) == SAME


def test_the_report_has_the_numbers():
    found = guess(expression() @ MATRICES["+X+Z-Y"] / 100, FACE, 0.01)
    assert "it is in m, one unit is 100 of the template" in found.lines[0]
    assert found.lines[1] == "Its X, Z, -Y become the template's X, Y, Z"
    assert "turned by 11." in found.lines[2] and "mm away (RMS)" in found.lines[3]
    assert describe_axes("-Y+X+Z") == "-Y, X, Z"
    assert "mirrored" in check(Conversion(1, "-X+Y+Z"), FACE, FACE, .01)[0]


def test_odd_sizes_and_heads_upside_down_are_not_sure():
    odd = guess(FACE / 3.7, FACE, 0.01)
    assert not odd.sure and odd.conversion.scale == pytest.approx(3.7, rel=1e-3) and "a unit of its own" in odd.lines[0]
    angle = np.radians(45)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    assert not guess(FACE @ turn.T, FACE, 0.01).sure


def test_a_frame_without_size_is_refused():
    with pytest.raises(UnderstudyError, match="in one place"):
        guess(np.zeros((5, 3)), FACE[:5], .01)
