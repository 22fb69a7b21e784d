"""The camera that filmed a shot: it stands where pins put it, vertices of the face held to places in the picture.

Pins lie on the camera object, in pixels of the footage from the top left corner, and so follow it through saving, undo
and copying.
"""

import math

import bpy
import numpy as np
from bpy.props import BoolProperty, CollectionProperty, FloatProperty, IntProperty, PointerProperty
from mathutils import Matrix, Vector

from ..core.errors import UnderstudyError
from ..core.pose import solve_pose
from . import faces, plate

LENS, SENSOR = 50.0, 36.0  # mm; Blender's own defaults, to start from
_FLIP = Matrix.Diagonal((1, -1, -1, 1))  # Blender's camera looks along -z with y up, core's along z with y down


class UnderstudyPin(bpy.types.PropertyGroup):
    """A vertex of the face and where it is in the picture."""

    vertex: IntProperty(min=0)
    u: FloatProperty(description="Pixels of the footage, from the left")
    v: FloatProperty(description="Pixels of the footage, from the top")


class UnderstudyCamera(bpy.types.PropertyGroup):
    """`Object.understudy_camera`: how the camera is lined up."""

    pins: CollectionProperty(type=UnderstudyPin)
    solve_focal: BoolProperty(name="Solve Focal Length",
                              description="Find the focal length too, from four pins on; leave it off if you know it")
    residual: FloatProperty(options={"HIDDEN"})  # pixels, root mean square over the pins


def make(scene: bpy.types.Scene, shot) -> bpy.types.Object:
    """The camera of a shot, made in front of the face if there is none, with the footage behind it.

    It becomes the scene's, which takes the size of the footage for its renders. Raises UnderstudyError if the footage
    cannot be shown.
    """
    if problem := plate.update(scene, shot):
        raise UnderstudyError(problem)
    if shot.camera is None:
        data = bpy.data.cameras.new(f"{shot.name} Camera")
        data.lens, data.sensor_width, data.sensor_fit = LENS, SENSOR, "HORIZONTAL"
        shot.camera = bpy.data.objects.new(f"{shot.name} Camera", data)
        _stand_in_front(scene, shot)
    faces.to_collection(scene, shot, shot.camera)
    plate.behind_camera(shot)
    use(scene, shot)
    plate.retime(scene, shot)
    return shot.camera


def use(scene: bpy.types.Scene, shot) -> None:
    """Look through a shot's camera: the scene's camera, and renders of the footage's size."""
    scene.camera = shot.camera
    scene.render.resolution_x, scene.render.resolution_y = plate.picture_size(shot)
    scene.render.pixel_aspect_x = scene.render.pixel_aspect_y = 1


def add_pin(scene: bpy.types.Scene, shot, vertex: int, u: float, v: float) -> None:
    """Pin a vertex to a pixel, or move its pin there. Raises UnderstudyError for a vertex that is not there."""
    if shot.face is None or not 0 <= vertex < len(shot.face.data.vertices):
        raise UnderstudyError(f"The face of {shot.name} has no vertex {vertex}.")
    pins = shot.camera.understudy_camera.pins
    pin = next((pin for pin in pins if pin.vertex == vertex), None) or pins.add()
    pin.vertex, pin.u, pin.v = vertex, u, v


def solve(shot, depsgraph: bpy.types.Depsgraph) -> None:
    """Move the camera to where the pins fit best, with the face as it is at the present frame.

    Raises UnderstudyError if there is no pin, or one whose vertex is gone.
    """
    camera, settings = shot.camera, shot.camera.understudy_camera
    points = pinned_points(shot, depsgraph)
    width, height = plate.picture_size(shot)
    data = camera.data
    shift = np.array((data.shift_x, -data.shift_y)) * width
    pixels = np.array([(pin.u, pin.v) for pin in settings.pins], float).reshape(-1, 2) + shift
    before = np.array(_FLIP @ camera.matrix_world.normalized().inverted())
    pose, focal, settings.residual = solve_pose(points, pixels, width, height, before, focal_pixels(shot),
                                                settings.solve_focal)
    camera.matrix_world = (_FLIP @ Matrix(pose)).inverted()
    if settings.solve_focal:
        data.lens = focal * data.sensor_width / width


def focal_pixels(shot) -> float:
    """The focal length of a shot's camera in pixels of the footage."""
    data = shot.camera.data
    return data.lens / data.sensor_width * plate.picture_size(shot)[0]


def pinned_points(shot, depsgraph: bpy.types.Depsgraph) -> np.ndarray:
    """(N, 3) float64 world positions of the pinned vertices, with modifiers and shape keys at the present frame."""
    face = shot.face.evaluated_get(depsgraph)
    vertices = face.data.vertices
    pins = shot.camera.understudy_camera.pins
    for pin in pins:
        if pin.vertex >= len(vertices):
            raise UnderstudyError(f"Vertex {pin.vertex} of {shot.face.name} is pinned but is not there any more. Clear "
                                  "the pins.")
    return np.array([face.matrix_world @ vertices[pin.vertex].co for pin in pins], float).reshape(-1, 3)


def pick(shot, depsgraph: bpy.types.Depsgraph, origin: Vector, ray: Vector) -> tuple[int, Vector] | None:
    """The vertex nearest to where a ray meets the face, and its world position; None if the ray misses.

    What the ray meets first is seen, so the vertex is on the near side.
    """
    face = shot.face.evaluated_get(depsgraph)
    to_local = face.matrix_world.inverted()
    local = to_local @ origin
    hit, place, _, _ = face.ray_cast(local, (to_local @ (origin + ray) - local).normalized())
    if not hit:
        return None
    points = np.empty(3 * len(face.data.vertices), np.float32)
    face.data.vertices.foreach_get("co", points)
    points = points.reshape(-1, 3)[:len(shot.face.data.vertices)]  # subdivision adds its own behind those of the face
    vertex = int(((points - np.array(place)) ** 2).sum(1).argmin())
    return vertex, face.matrix_world @ Vector(points[vertex])


def _stand_in_front(scene: bpy.types.Scene, shot) -> None:
    """Place a new camera so that the face fills the crop, or two thirds of the picture."""
    low, high = plate.face_box(scene, shot)
    width, height = plate.picture_size(shot)
    x, y, w, h = scene.understudy.crop_of(shot)
    if h <= 0:
        x, y, w, h = width / 2, height / 6, 0, height * 2 / 3
    focal = focal_pixels(shot)
    distance = focal * (high.z - low.z) / h
    unit = distance / focal
    middle = (low + high) / 2
    place = Vector((middle.x - (x + w / 2 - width / 2) * unit, low.y - distance,
                    middle.z + (y + h / 2 - height / 2) * unit))
    shot.camera.matrix_world = Matrix.Translation(place) @ Matrix.Rotation(math.radians(90), 4, "X")
    shot.camera.data.clip_start, shot.camera.data.clip_end = distance / 100, distance * 100


CLASSES = (UnderstudyPin, UnderstudyCamera)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Object.understudy_camera = PointerProperty(type=UnderstudyCamera)


def unregister() -> None:
    del bpy.types.Object.understudy_camera
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
