"""The footage of a shot in the viewport: an empty that shows it beside the face, in step with the scene.

Blender's image users have no speed, but the picture they show can be driven. So plate, camera background and the plane
for renders all carry the same two drivers, made from timing.mapping: `frame_current` for what reads the picture number
that the depsgraph left there (empties, EEVEE), `frame_offset` for what works it out again while it draws (camera
backgrounds, Cycles). The drivers are simple expressions, which Blender evaluates without Python and in any file.
"""

import math
import re
from collections.abc import Iterable
from pathlib import Path

import bpy
import numpy as np
from bpy.app.handlers import persistent
from mathutils import Matrix, Vector

from ..core.errors import UnderstudyError
from ..core.numbered import find_images, is_sequence
from . import faces, scene_io, sound, timing
from .paths import absolute, relative

START = -100000  # scene frame before any that plays; image users of movies stay at their first frame from there on
GAP = 0.15  # between face and plate, of the plate's width


def update(scene: bpy.types.Scene, shot) -> str:
    """Make the plate of a shot, or bring it up to date with the shot's footage and timing.

    It is placed when it is made, and then stays where the artist moves it. Returns what is wrong with the footage as a
    sentence, or "".
    """
    try:
        image = _image(shot)
    except UnderstudyError as error:
        return str(error)
    if shot.plate is None:
        shot.plate = bpy.data.objects.new(f"{shot.name} Plate", None)
        shot.plate.empty_display_type = "IMAGE"
        shot.plate.data = image
        place(scene, shot)
    old, shot.plate.data = shot.plate.data, image
    faces.to_collection(scene, shot, shot.plate)
    for _, background in _backgrounds(shot, old):
        background.image = image
    behind_camera(shot)
    plane = _plane(shot)
    if plane is not None:
        _texture(plane).image = image
    if old is not None and old is not image:
        _free(old)
    retime(scene, shot)
    return ""


def retime(scene: bpy.types.Scene, shot) -> None:
    """Let everything that shows or plays the footage of a shot follow its timing. """
    sound.retime(scene, shot)
    if shot.plate is None or shot.plate.data is None:
        return
    image = shot.plate.data
    image.gl_free()  # see _refresh
    _drive(scene, shot, image, shot.plate, "image_user")
    for path, _ in _backgrounds(shot, image):
        _drive(scene, shot, image, shot.camera.data, path)
    plane = _plane(shot)
    if plane is not None:
        node = _texture(plane)
        _drive(scene, shot, image, node.id_data, f'nodes["{node.name}"].image_user')


@persistent
def _refresh(scene: bpy.types.Scene, *_: object) -> None:
    """Let the pictures of all plates be drawn anew, at every frame.

    Blender sees that a picture has changed before it has evaluated our drivers, and so may miss it.
    """
    if bpy.app.background or bpy.app.is_job_running("RENDER"):
        return
    for shot in scene.understudy.shots:
        if shot.plate is not None and shot.plate.data is not None:
            shot.plate.data.gl_free()


def remove(scene: bpy.types.Scene, shot) -> None:
    """Remove the plate, its plane, the picture behind the camera and the sound; camera and pins stay."""
    sound.remove(scene, shot)
    plate, plane = shot.plate, _plane(shot)
    shot.plate = None
    if plate is None:
        return
    image = plate.data
    for path, background in reversed(_backgrounds(shot, image)):
        _undrive(shot.camera.data, path)
        background.image = None
        shot.camera.data.background_images.remove(background)
    if plane is not None:
        material, mesh = plane.active_material, plane.data
        bpy.data.objects.remove(plane)
        bpy.data.meshes.remove(mesh)
        bpy.data.materials.remove(material)
    bpy.data.objects.remove(plate)
    if image is not None:
        _free(image)


def place(scene: bpy.types.Scene, shot) -> None:
    """Stand the plate beside the face, upright, its crop as high as the face."""
    low, high = face_box(scene, shot)
    width, height = picture_size(shot)
    _, y, _, h = scene.understudy.crop_of(shot)
    if h <= 0 or y + h > height:
        y, h = 0, height
    unit = (high.z - low.z) / h  # of the scene, a pixel
    plate = shot.plate
    plate.empty_display_size = max(width, height) * unit
    plate.empty_image_offset = (-0.5, -0.5)
    middle = Vector((low.x - (0.5 + GAP) * width * unit, (low.y + high.y) / 2,
                     (low.z + high.z) / 2 + (y + h / 2 - height / 2) * unit))
    plate.matrix_world = Matrix.Translation(middle) @ Matrix.Rotation(math.radians(90), 4, "X")


def face_box(scene: bpy.types.Scene, shot) -> tuple[Vector, Vector]:
    """The corners of the box around the animated part of a shot's face, at rest, in the world.

    Without a face: a head's size about the origin.
    """
    face = shot.face or scene.understudy.template
    if face is None or not face.data.vertices:
        return Vector((-0.08, -0.1, -0.12)), Vector((0.08, 0.1, 0.12))
    points = scene_io.positions(face.data)[scene_io.read_groups(face).get("animated", slice(None))]
    # A face that was just made, or is hidden, has not been evaluated.
    matrix = np.array(face.matrix_world if face.parent or face.constraints else face.matrix_basis)
    world = points @ matrix[:3, :3].T + matrix[:3, 3]
    return Vector(world.min(0)), Vector(world.max(0))


def box(scene: bpy.types.Scene, shot) -> tuple[Vector, Vector]:
    """The corners of the box around the animated part of a shot's face and its plate, in the world."""
    points = list(face_box(scene, shot))
    if shot.plate is not None:
        width, height = picture_size(shot)
        points += [shot.plate.matrix_world @ pixel_matrix(shot) @ Vector((x, y, 0))
                   for x in (0, width) for y in (0, height)]
    return tuple(Vector(pick(point[axis] for point in points) for axis in range(3)) for pick in (min, max))


def picture_size(shot) -> tuple[int, int]:
    """Width and height of a shot's footage in pixels: as the worker found them, else as Blender does."""
    if shot.width and shot.height:
        return shot.width, shot.height
    size = tuple(shot.plate.data.size) if shot.plate is not None and shot.plate.data is not None else (0, 0)
    return size if all(size) else (1920, 1080)


def pixel_matrix(shot) -> Matrix:
    """From pixels of the footage (right, down) to the plate's own space."""
    width, height = picture_size(shot)
    unit = shot.plate.empty_display_size / max(width, height)
    x, y = shot.plate.empty_image_offset
    return Matrix(((unit, 0, 0, x * width * unit), (0, -unit, 0, (1 + y) * height * unit), (0, 0, 1, 0), (0, 0, 0, 1)))


def render_plane(scene: bpy.types.Scene, shot) -> bpy.types.Object:
    """A plane where the plate is that shows the footage in renders, which leave empties out. Returns it."""
    plane = _plane(shot)
    if plane is None:
        material = bpy.data.materials.new(shot.plate.name)
        if not material.use_nodes:  # always true from 5.0 on
            material.use_nodes = True
        nodes, links = material.node_tree.nodes, material.node_tree.links
        nodes.clear()
        kinds = ("TexImage", "Emission", "OutputMaterial")
        texture, emission, output = (nodes.new(f"ShaderNode{kind}") for kind in kinds)
        links.new(texture.outputs["Color"], emission.inputs["Color"])
        links.new(emission.outputs[0], output.inputs["Surface"])
        texture.extension = "EXTEND"
        nodes.active = texture  # what Workbench shows
        mesh = bpy.data.meshes.new(shot.plate.name)
        mesh.from_pydata([(0, 0, 0)] * 4, [], [(0, 1, 2, 3)])
        mesh.uv_layers.new().data.foreach_set("uv", [0, 0, 1, 0, 1, 1, 0, 1])
        mesh.materials.append(material)
        plane = bpy.data.objects.new(f"{shot.plate.name} Plane", mesh)
        plane["understudy_plane"] = True
        plane.parent = shot.plate
        faces.to_collection(scene, shot, plane)
    width, height = picture_size(shot)
    corners = [pixel_matrix(shot) @ Vector((x, y, 0)) for x, y in ((0, height), (width, height), (width, 0), (0, 0))]
    plane.data.vertices.foreach_set("co", np.array(corners, np.float32).ravel())
    plane.data.update()
    _texture(plane).image = shot.plate.data
    retime(scene, shot)
    return plane


def behind_camera(shot) -> None:
    """Show the footage behind what the shot's camera sees, if there is a camera."""
    if shot.camera is None or _backgrounds(shot, shot.plate.data):
        return
    shot.camera.data.show_background_images = True
    background = shot.camera.data.background_images.new()
    background.alpha, background.frame_method, background.display_depth = 1, "FIT", "BACK"
    background.image = shot.plate.data


def _image(shot) -> bpy.types.Image:
    """The image data-block of a shot's footage. Raises UnderstudyError in words if there is no picture to show."""
    path = absolute(shot.footage)
    if not shot.footage:
        raise UnderstudyError(f"{shot.name} has no footage. Choose a movie or a picture of an image sequence.")
    source = "MOVIE"
    if is_sequence(path):
        files, _ = find_images(path)
        path = files[0]  # the lowest number, which also has the fewest digits
        source = "SEQUENCE" if len(files) > 1 else "FILE"
    elif not path.is_file():
        raise UnderstudyError(f"{path} is not there. Choose the footage of {shot.name} again.")
    for image in bpy.data.images:
        if image.source == source and not image.library and absolute(image.filepath) == path:
            image.reload()  # it may have been missing before, or another
            return image
    image = bpy.data.images.load(str(path))
    shows = image.source == ("MOVIE" if source == "MOVIE" else "FILE") and image.size[0] > 0
    image.filepath = relative(path)
    image.source = source
    if not shows:
        bpy.data.images.remove(image)
        raise UnderstudyError(f"Blender cannot show {path}. Export it as MP4, MOV or PNG.")
    return image


def _free(image: bpy.types.Image) -> None:
    if not image.users:
        bpy.data.images.remove(image)


def _backgrounds(shot, image: bpy.types.Image) -> list[tuple[str, bpy.types.CameraBackgroundImage]]:
    """Path of the image user, and the background of the shot's camera, of those that show the footage."""
    backgrounds = shot.camera.data.background_images if shot.camera is not None else ()
    return [(f"background_images[{index}].image_user", background) for index, background in enumerate(backgrounds)
            if background.image == image]


def _plane(shot) -> bpy.types.Object | None:
    children = shot.plate.children if shot.plate is not None else ()
    return next((child for child in children if child.get("understudy_plane")), None)


def _texture(plane: bpy.types.Object) -> bpy.types.ShaderNodeTexImage:
    return next(node for node in plane.active_material.node_tree.nodes if node.type == "TEX_IMAGE")


def _undrive(owner: bpy.types.ID, path: str) -> None:
    for name in ("frame_current", "frame_offset"):
        owner.driver_remove(f"{path}.{name}")


def _drive(scene: bpy.types.Scene, shot, image: bpy.types.Image, owner: bpy.types.ID, path: str) -> None:
    """Let an image user show the source frame that plays: the first before the shot, the last after it."""
    _undrive(owner, path)
    if image.source == "FILE":
        return
    movie = image.source == "MOVIE"
    user = owner.path_resolve(path)
    # Out of their range sequences are not shown, movies hold. A movie's range of one frame leaves all to the offset.
    user.frame_start, user.frame_duration = START, 1 if movie else 1000000
    user.use_auto_refresh, user.use_cyclic = True, False
    first, last = shot.first, max(shot.last if shot.frames else image.frame_duration - 1, shot.first)
    frames = timing.mapping(scene, shot)
    shown = f"min(max(floor({frames.source(0) + 0.5:.15g}+{frames.ratio:.15g}*frame),{first}),{last})"
    number = 1 if movie else _number(image)  # what Blender calls the first picture
    played = "1" if movie else f"(floor(frame)-{START}+1)"
    current, offset = (_add_driver(owner, f"{path}.{name}") for name in ("frame_current", "frame_offset"))
    current.driver.expression, offset.driver.expression = f"{shown}+{number}", f"{shown}+{number}-{played}"
    if movie and shot.variable and shot.get("times"):
        pictures = _by_the_clock(image, shot["times"])[first:last + 1]
        starts = [frames.scene(source - 0.5) for source in range(first, first + len(pictures))]
        _drive_by_table(current, starts, pictures + 1)
        _drive_by_table(offset, starts, pictures)


def _add_driver(owner: bpy.types.ID, path: str) -> bpy.types.FCurve:
    """A driver whose value is that of its expression: no modifier (4.2) and no keys (5.0) between the two."""
    curve = owner.driver_add(path)
    for modifier in list(curve.modifiers):
        curve.modifiers.remove(modifier)
    curve.keyframe_points.clear()
    return curve


def _drive_by_table(curve: bpy.types.FCurve, starts: list[float], values: np.ndarray) -> None:
    """Let a driver's curve map scene frames to values, each from its start on."""
    curve.driver.expression = "frame"
    curve.keyframe_points.add(len(values))
    curve.keyframe_points.foreach_set("co", np.column_stack((starts, values)).astype(np.float32).ravel())
    for key in curve.keyframe_points:
        key.interpolation = "CONSTANT"
    curve.update()


def _by_the_clock(image: bpy.types.Image, times: Iterable[float]) -> np.ndarray:
    """Blender's numbers, from 0, of the pictures of a movie with a variable rate that play at `times`, (N,) int.

    Understudy counts pictures one by one, Blender by the clock. Measured in 4.2 and 5.0: its picture n is the last one
    that plays at n / rate or before; of pictures closer together than that, it shows the later.
    """
    if "understudy_rate" not in image:  # images do not tell by what rate Blender counts, clips do
        clip = bpy.data.movieclips.load(bpy.path.abspath(image.filepath))
        image["understudy_rate"] = clip.fps
        bpy.data.movieclips.remove(clip)
    return np.ceil(np.array(times) * image["understudy_rate"] - 0.003).astype(int)


def _number(image: bpy.types.Image) -> int:
    """The number in the name of a sequence's first file."""
    return int(re.findall(r"\d+", Path(bpy.path.basename(image.filepath)).stem)[-1])


def register() -> None:
    bpy.app.handlers.frame_change_post.append(_refresh)


def unregister() -> None:
    bpy.app.handlers.frame_change_post.remove(_refresh)
