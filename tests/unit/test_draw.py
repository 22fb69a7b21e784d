"""The software renderer: what is in front covers, what is bent away is dark, columns are where they belong."""

import cv2
import numpy as np
import pytest

from understudy.core import draw


def sphere(steps: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """A closed sphere of radius 1, (V, 3) and (T, 3) counter-clockwise from outside."""
    polar, around = np.meshgrid(np.linspace(0, np.pi, steps), np.linspace(0, 2 * np.pi, 2 * steps), indexing="ij")
    vertices = np.stack([np.sin(polar) * np.cos(around), np.cos(polar), -np.sin(polar) * np.sin(around)], -1)
    grid = np.arange(vertices.size // 3).reshape(polar.shape)
    a, b, c, d = grid[:-1, :-1].ravel(), grid[1:, :-1].ravel(), grid[1:, 1:].ravel(), grid[:-1, 1:].ravel()
    return vertices.reshape(-1, 3), np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])


def covered(image: np.ndarray) -> np.ndarray:
    return (image != draw.BACKGROUND).any(axis=2)


def test_the_template_fills_the_view_up_to_its_margin():
    vertices, triangles = sphere()
    image = draw.shaded(vertices, triangles, draw.View.front(vertices, margin=0.1))
    rows, columns = np.flatnonzero(covered(image).any(axis=1)), np.flatnonzero(covered(image).any(axis=0))
    assert image.shape == (320, 240, 3) and image.dtype == np.uint8
    assert abs(columns[0] - 24) <= 1 and abs(columns[-1] - 215) <= 1  # a tenth of 240 left free on each side
    assert abs(rows[0] - 64) <= 1 and abs(rows[-1] - 255) <= 1  # as high as wide, in the middle


def test_x_is_right_and_y_is_up():
    vertices = np.array([[0, 0, 0], [4, 0, 0], [0, 4, 0]], float)
    view = draw.View((0.0, 0.0), (10.0, 10.0))
    image = covered(draw.shaded(vertices, np.array([[0, 1, 2]]), view, (100, 100)))
    assert image[40, 60] and not image[60, 60] and not image[40, 40]


def test_the_winding_does_not_matter():
    vertices, triangles = sphere()
    view = draw.View.front(vertices)
    np.testing.assert_array_equal(draw.shaded(vertices, triangles, view),
                                  draw.shaded(vertices, triangles[:, [0, 2, 1]], view))


def test_what_is_in_front_covers_what_is_behind():
    vertices, triangles = sphere()
    near = vertices * 0.5 + [0, 0, 3]
    both, faces = np.concatenate([near, vertices]), np.concatenate([triangles, triangles + len(vertices)])
    values = np.repeat([0.0, 10.0], len(vertices))
    view = draw.View.front(vertices)
    image = draw.heat(both, faces, values, view, limit_mm=10, legend=False)
    assert image[160, 120, 0] > image[160, 120, 1]  # viridis starts violet and ends yellow
    assert image[160, 30, 0] < image[160, 30, 1]


def test_light_comes_from_the_upper_left():
    vertices, triangles = sphere()
    image = draw.shaded(vertices, triangles, draw.View.front(vertices)).mean(axis=2)
    assert image[110, 80] > 1.5 * image[215, 160]


def test_heat_is_graded_and_stops_at_the_limit():
    vertices, triangles = sphere()
    view = draw.View.front(vertices)
    pictures = [draw.heat(vertices, triangles, np.full(len(vertices), mm), view, limit_mm=4, legend=False)
                for mm in (0, 2, 4, 40)]
    centre = [picture[160, 120].astype(int) for picture in pictures]
    assert np.abs(centre[0] - centre[1]).sum() > 60 and np.abs(centre[1] - centre[2]).sum() > 60
    np.testing.assert_array_equal(centre[2], centre[3])


def test_comparison_has_four_columns():
    vertices, triangles = sphere()
    picture = np.random.default_rng(0).integers(0, 256, (320, 240), dtype=np.uint8)
    inferred = vertices * [1, 0.5, 1]
    view = draw.View.front(vertices)
    row = draw.comparison(picture, vertices, inferred, triangles, view, millimetres=10, text="0.92 mm")
    assert row.shape == (320, 960, 3)
    np.testing.assert_array_equal(row[:, :240], np.repeat(picture[..., None], 3, axis=2))
    np.testing.assert_array_equal(row[:, 240:480], draw.shaded(vertices, triangles, view))
    np.testing.assert_array_equal(row[:, 480:720], draw.shaded(inferred, triangles, view))
    pole, middle = row[54, 840].astype(int), row[160, 840].astype(int)  # moved by 5 mm, and not at all
    assert pole[0] < pole[1] and middle[0] > middle[1]


@pytest.mark.parametrize(("count", "shape"), [(1, (20, 30, 3)), (3, (44, 64, 3)), (4, (44, 64, 3))])
def test_contact_sheet(count: int, shape: tuple[int, int, int]):
    images = [np.full((20, 30), 100 + i, np.uint8) for i in range(count)]
    sheet = draw.contact_sheet(images, columns=min(2, count))
    assert sheet.shape == shape
    assert (sheet[-20:, :30] == images[-1 if count != 4 else 2][0, 0]).all()


def test_png_round_trip(tmp_path):
    image = np.random.default_rng(1).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    draw.write_png(tmp_path / "a.png", image)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png")), image)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.png"]
