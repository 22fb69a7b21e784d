"""Software drawing of meshes for previews and reports: fast, without a GPU or a window. Images are (h, w, 3) uint8 BGR.

Triangles are painted back to front as flat facets, each lit by the mean of its vertices' smooth normals, on a canvas
of twice the size that is then averaged down: smooth enough to read lips and lids at 240 x 320.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from .crop import HEIGHT, WIDTH
from .files import atomic

SIZE = (HEIGHT, WIDTH)
BACKGROUND = (38, 34, 32)
SKIN = np.array([206, 214, 222], np.float32)  # neutral clay, slightly warm
INK = (235, 235, 235)
FONT = cv2.FONT_HERSHEY_SIMPLEX
DIM, AMBIENT = 0.25, 0.75  # light from everywhere on clay, and on colours that have to be read
OVERSAMPLE, SHIFT = 2, 4  # canvas pixels per image pixel and axis; fractional bits of a corner's place


@dataclass(frozen=True)
class View:
    """An orthographic camera looking along -Z: X to the right, Y up. The rectangle that must stay in the image."""

    centre: tuple[float, float]
    extent: tuple[float, float]

    @classmethod
    def front(cls, vertices: np.ndarray, margin: float = 0.04) -> "View":
        """The front view that shows all of a template. vertices : (V, 3); margin : fraction left free on each side."""
        low, high = vertices[:, :2].min(axis=0), vertices[:, :2].max(axis=0)
        centre, extent = (low + high) / 2, (high - low) / (1 - 2 * margin)
        return cls(tuple(map(float, centre)), tuple(map(float, extent)))

    def project(self, vertices: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """(V, 2) float32 image places, continuous with the origin at the top left corner. size : (height, width)."""
        scale = min(size[1] / self.extent[0], size[0] / self.extent[1])
        x = (vertices[:, 0] - self.centre[0]) * scale + size[1] / 2
        y = (self.centre[1] - vertices[:, 1]) * scale + size[0] / 2
        return np.stack([x, y], axis=1).astype(np.float32)


def shaded(vertices: np.ndarray, triangles: np.ndarray, view: View, size: tuple[int, int] = SIZE) -> np.ndarray:
    """The mesh as lit clay. vertices : (V, 3), triangles : (T, 3).    size : (h, w)."""
    return _paint(vertices, triangles, np.broadcast_to(SKIN, vertices.shape), view, size)


def heat(vertices: np.ndarray, triangles: np.ndarray, values_mm: np.ndarray, view: View,
         size: tuple[int, int] = SIZE, limit_mm: float = 5.0, legend: bool = True) -> np.ndarray:
    """The mesh coloured by a distance per vertex. values_mm : (V,); what reaches limit_mm has the last colour."""
    image = _paint(vertices, triangles, _colours(values_mm / limit_mm), view, size, ambient=AMBIENT)
    if legend:
        _legend(image, limit_mm)
    return image


def shaded_and_heat(vertices: np.ndarray, triangles: np.ndarray, values_mm: np.ndarray, view: View,
                    size: tuple[int, int] = SIZE, limit_mm: float = 5.0, legend: bool = True
                    ) -> tuple[np.ndarray, np.ndarray]:
    """`shaded` and `heat` of the same mesh, for the price of one."""
    facets = _facets(vertices, triangles, view, size)
    image = _colour(facets, _colours(values_mm / limit_mm), AMBIENT)
    if legend:
        _legend(image, limit_mm)
    return _colour(facets, np.broadcast_to(SKIN, vertices.shape), DIM), image


def seen(vertices: np.ndarray, triangles: np.ndarray, view: View, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Which triangle the drawing shows where, (2 h, 2 w) indices into triangles, -1 for none: OVERSAMPLE a pixel."""
    facets = _facets(vertices, triangles, view, size)
    return np.append(facets.order, -1)[facets.canvas]


def comparison(picture: np.ndarray, target: np.ndarray, inferred: np.ndarray, triangles: np.ndarray, view: View,
               millimetres: float, text: str = "", limit_mm: float = 5.0) -> np.ndarray:
    """Input | target | inferred | difference, one row of the paper's Figure 7.

    picture : (320, 240) uint8, the network's input.    target, inferred : (V, 3) mesh units.
    text : written over the difference, such as "0.92 mm".
    """
    size = picture.shape[:2]
    distance = millimetres * np.linalg.norm(inferred - target, axis=1)
    difference = heat(target, triangles, distance, view, size, limit_mm)
    if text:
        write(difference, text, (8, 20))
    return np.hstack([cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR), shaded(target, triangles, view, size),
                      shaded(inferred, triangles, view, size), difference])


def contact_sheet(images: Sequence[np.ndarray], columns: int, gap: int = 4) -> np.ndarray:
    """Images of one size, gray or BGR, in rows of `columns`; the last row is filled up with background."""
    height, width = images[0].shape[:2]
    rows = -(-len(images) // columns)
    sheet = np.empty((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), np.uint8)
    sheet[:] = BACKGROUND
    for i, image in enumerate(images):
        y, x = i // columns * (height + gap), i % columns * (width + gap)
        sheet[y:y + height, x:x + width] = image if image.ndim == 3 else image[..., None]
    return sheet


def write(image: np.ndarray, text: str, place: tuple[int, int], scale: float = 0.5) -> None:
    """Write light text with a dark rim into the image, in place. place : left end of the base line."""
    cv2.putText(image, text, place, FONT, scale, BACKGROUND, 3, cv2.LINE_AA)
    cv2.putText(image, text, place, FONT, scale, INK, 1, cv2.LINE_AA)


def png(image: np.ndarray) -> bytes:
    """An image as a PNG file in memory."""
    return cv2.imencode(".png", image)[1].tobytes()


def write_png(path: Path | str, image: np.ndarray) -> None:
    """Write an image as PNG, atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(png(image))


def _paint(vertices: np.ndarray, triangles: np.ndarray, colours: np.ndarray, view: View, size: tuple[int, int],
           ambient: float = DIM) -> np.ndarray:
    """The mesh in colours. colours : (V, 3) float32, 0 to 255."""
    return _colour(_facets(vertices, triangles, view, size), colours, ambient)


@dataclass(frozen=True)
class _Facets:
    """Which triangle each pixel of the canvas shows, -1 for none; the triangles in the order of painting, lit."""

    canvas: np.ndarray
    order: np.ndarray
    triangles: np.ndarray
    light: np.ndarray
    size: tuple[int, int]


def _facets(vertices: np.ndarray, triangles: np.ndarray, view: View, size: tuple[int, int]) -> _Facets:
    """Painter's algorithm."""
    corners = vertices[triangles].astype(np.float32)
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros((len(vertices), 3), np.float32)
    for axis in range(3):  # area-weighted vertex normals
        normals[:, axis] = np.bincount(triangles.ravel(), np.repeat(faces[:, axis], 3), len(vertices))
    outward = corners.mean(axis=1) - vertices.mean(axis=0)
    if np.einsum("tc,tc->", outward, faces) < 0:  # wound the other way round
        faces, normals = -faces, -normals
    front = np.flatnonzero(faces[:, 2] > 0)
    order = front[np.argsort(corners[front, :, 2].mean(axis=1), kind="stable")]

    smooth = normals[triangles[order]].mean(axis=1)
    smooth /= np.linalg.norm(smooth, axis=1, keepdims=True) + 1e-12
    height, width = size[0] * OVERSAMPLE, size[1] * OVERSAMPLE
    places = view.project(vertices, (height, width)) - 0.5  # OpenCV counts from pixel centres
    points = np.rint(places * (1 << SHIFT)).astype(np.int32)[triangles[order]]
    canvas = np.full((height, width), -1, np.int32)
    for number, polygon in enumerate(points):
        cv2.fillConvexPoly(canvas, polygon, number, cv2.LINE_8, SHIFT)
    return _Facets(canvas, order, triangles[order], _light(smooth), size)


def _colour(facets: _Facets, colours: np.ndarray, ambient: float) -> np.ndarray:
    lit = colours[facets.triangles].mean(axis=1) * (ambient + (1 - ambient) * facets.light)[:, None]
    table = np.concatenate([np.clip(np.rint(lit), 0, 255), [BACKGROUND]]).astype(np.uint8)  # -1 is the last one
    return cv2.resize(table[facets.canvas], facets.size[::-1], interpolation=cv2.INTER_AREA)


def _light(normals: np.ndarray) -> np.ndarray:
    """Brightness 0 to 1 of unit normals: a key light from the upper left, a weaker fill from the right."""
    def lamp(x: float, y: float, z: float) -> np.ndarray:
        return np.clip(normals @ (np.array([x, y, z], np.float32) / np.linalg.norm([x, y, z])), 0, 1)
    return np.clip(0.85 * lamp(-0.45, 0.55, 0.9) + 0.25 * lamp(0.9, -0.1, 0.35), 0, 1)


def _colours(fractions: np.ndarray) -> np.ndarray:
    """(n, 3) float32 BGR of fractions 0 to 1."""
    levels = np.clip(fractions * 255, 0, 255).astype(np.uint8)
    return cv2.applyColorMap(levels.reshape(-1, 1), cv2.COLORMAP_VIRIDIS)[:, 0].astype(np.float32)


def _legend(image: np.ndarray, limit_mm: float) -> None:
    """A colour bar along the lower edge, from 0 to the limit."""
    height, width = image.shape[:2]
    left, right, top = 24, width - 58, height - 14
    if right - left < 40:
        return
    image[top:top + 6, left:right] = _colours(np.linspace(0, 1, right - left))[None]
    write(image, "0", (10, top + 7), 0.36)
    write(image, f"{limit_mm:g} mm", (right + 6, top + 7), 0.36)
