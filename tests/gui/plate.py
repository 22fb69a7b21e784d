"""Scenario: the plate shows the right frames, the crop and the pins are dragged with the mouse, and undone."""

import importlib
import os
from pathlib import Path

import bpy
import drive
import numpy as np
from bpy_extras.view3d_utils import location_3d_to_region_2d
from mathutils import Vector

plate, preview, timing = (importlib.import_module(f"bl_ext.user_default.understudy.blender_addon.{name}")
                          for name in ("plate", "preview", "timing"))
FOOTAGE = Path(os.environ["FOOTAGE"])
WIDTH, HEIGHT = 320, 160


def shot():
    return bpy.context.scene.understudy.shot


def add(name: str, count: int, fps: float, **properties) -> None:
    """Make a shot the active one, with its plate."""
    settings = bpy.context.scene.understudy
    made = settings.shots.add()
    made.uid, made.name = f"{name} {len(settings.shots)}", name
    made.footage, made.width, made.height, made.fps = str(FOOTAGE / name), WIDTH, HEIGHT, fps
    made.frames, made.last = count, count - 1
    for key, value in properties.items():
        setattr(made, key, value)
    if made.variable:
        made["times"] = np.load(FOOTAGE / "times.npy").tolist()
    settings.active = len(settings.shots) - 1
    assert plate.update(bpy.context.scene, made) == ""


def view() -> bpy.types.RegionView3D:
    return drive.area().spaces.active.region_3d


def to_window(place: Vector) -> Vector:
    """Where a place of the world is in the window."""
    region = drive.region()
    return location_3d_to_region_2d(region, view(), place) + Vector((region.x, region.y))


def pixel(x: float, y: float) -> Vector:
    """Where a pixel of the plate is in the window."""
    return to_window(shot().plate.matrix_world @ plate.pixel_matrix(shot()) @ Vector((x, y, 0)))


def read_number(name: str, places: list[Vector]) -> int:
    """The number that ten bars show on a screenshot."""
    image = bpy.data.images.load(str(drive.SHOTS / f"{name}.png"))
    values = np.empty(image.size[0] * image.size[1] * 4, np.float32)
    image.pixels.foreach_get(values)
    values = values.reshape(image.size[1], image.size[0], 4)
    bpy.data.images.remove(image)
    bars = [values[round(y) - 2:round(y) + 3, round(x) - 2:round(x) + 3, 0].mean() > 0.5 for x, y in places]
    return sum(1 << (9 - bar) for bar in range(10) if bars[bar])


def frames(name: str, count: int, fps: float, scene_fps: int, scene_frames: tuple[int, ...], **properties):
    scene = bpy.context.scene
    scene.render.fps = scene_fps
    add(name, count, fps, **properties)
    view().view_location, view().view_distance = shot().plate.location, 2 * shot().plate.empty_display_size
    yield 0.3
    for frame in scene_frames:
        scene.frame_set(frame)
        yield from drive.shot("frame")
        expected = np.floor(timing.mapping(scene, shot()).source(frame) + 0.5)
        number = read_number("frame", [pixel(16 + 32 * bar, 80) for bar in range(10)])
        assert number == np.clip(expected, shot().first, shot().last), (name, frame, number)
    shot().plate.hide_viewport = True


def input_is_previewed():
    assert preview.icon() == 0
    for number in (1003, 1011):  # the second replaces the first
        preview.load(FOOTAGE / "séquence" / f"take2_v3.{number}.png")
        yield 0.2
        assert preview.icon() > 0


def crop_is_dragged():
    scene, manager = bpy.context.scene, bpy.context.window_manager
    add("30.mp4", 90, 30)
    scene.understudy.crop = (100, 30, 75, 100)
    shot().plate.select_set(False)
    bpy.ops.ed.undo_push(message="Begin")
    view().view_location, view().view_distance = shot().plate.location, 2 * shot().plate.empty_display_size
    manager.understudy_edit_crop = True
    yield from drive.shot("crop")
    yield from drive.drag(*pixel(130, 80), *pixel(170, 100))
    moved = tuple(scene.understudy.crop)
    assert np.allclose(moved, (140, 50, 75, 100), atol=2), moved
    yield from drive.shot("crop moved")
    yield from drive.drag(*pixel(moved[0], moved[1]), *pixel(moved[0] + 30, moved[1] + 40))
    scaled = tuple(scene.understudy.crop)
    assert np.allclose(scaled, (moved[0] + 30, moved[1] + 40, 45, 60), atol=2), scaled
    yield from drive.drag(*pixel(scaled[0] + 20, scaled[1] + 20), *pixel(400, 300))  # it stays in the picture
    edge = tuple(bpy.context.scene.understudy.crop)
    assert edge[0] + edge[2] == WIDTH and edge[1] + edge[3] == HEIGHT and edge[2:] == scaled[2:], edge
    yield from drive.shot("crop scaled")
    for expected in (scaled, moved, (100, 30, 75, 100)):  # one undo step each
        yield from drive.press("ctrl+z")
        assert np.allclose(bpy.context.scene.understudy.crop, expected), (expected, tuple(scene.understudy.crop))
    bpy.context.window_manager.understudy_edit_crop = False
    yield from drive.drag(*pixel(130, 80), *pixel(140, 90))
    assert np.allclose(bpy.context.scene.understudy.crop, (100, 30, 75, 100)), "it is no longer edited"
    shot().plate.select_set(True)
    yield from drive.shot("crop at rest")


def camera_is_lined_up():
    bpy.ops.mesh.primitive_uv_sphere_add(segments=64, ring_count=32, radius=0.1, location=(0, 0, 1.6))
    shot().face = bpy.context.object
    bpy.ops.ed.undo_push(message="Face")
    with drive.override():
        bpy.ops.understudy.camera_make()
        bpy.ops.understudy.pins_edit("INVOKE_DEFAULT")
    yield from drive.wait(lambda: view().view_perspective == "CAMERA", "the camera's view")
    yield 0.5
    center = Vector((0, -0.1, 1.6))

    def pin(place: Vector, right: int, up: int):
        start = to_window(place)
        yield from drive.drag(*start, start.x + right, start.y + up)

    before = to_window(center)
    yield from pin(center, 60, 30)
    pins = shot().camera.understudy_camera.pins
    assert len(pins) == 1
    assert (to_window(center) - before - Vector((60, 30))).length < 8, "the face follows the pin"
    for x, z in ((-0.05, 0.05), (0.05, 0.05), (0, -0.06)):
        yield from pin(Vector((x, -(0.01 - x ** 2 - z ** 2) ** 0.5, 1.6 + z)), round(200 * x), 4)
    pins = shot().camera.understudy_camera.pins
    assert len(pins) == 4 and shot().camera.understudy_camera.residual < 5
    yield from drive.shot("pins")
    placed = np.array(shot().camera.matrix_world)
    yield from pin(center, 25, 0)  # takes hold of the first pin again
    assert len(shot().camera.understudy_camera.pins) == 4
    assert not np.allclose(shot().camera.matrix_world, placed, atol=1e-4)
    yield from drive.press("ctrl+z")
    yield from drive.wait(lambda: np.allclose(shot().camera.matrix_world, placed, atol=1e-5), "the pin is undone")
    yield from drive.move(*to_window(center))
    yield from drive.press("Delete")
    assert len(shot().camera.understudy_camera.pins) == 3
    yield from drive.press("Escape")
    assert not drive.window().modal_operators
    yield from drive.shot("pins done")


def story():
    bpy.ops.object.select_all(action="SELECT")
    bpy.ops.object.delete()
    drive.area().spaces.active.show_region_ui = False
    with drive.override():
        bpy.ops.view3d.view_axis(type="FRONT")
    view().view_perspective = "ORTHO"
    yield 0.5
    yield from frames("30.mp4", 90, 30, 30, (-3, 1, 2, 45, 90, 95, 2))
    yield from frames("60.mp4", 120, 60, 24, (0, 1, 2, 3, 25, 48, 49, 90), pace="TIME")
    yield from frames("24.mp4", 48, 24, 60, (1, 2, 3, 4, 5, 60, 118, 119), pace="TIME")
    yield from frames("varying.mp4", 60, 22.5, 24, (0, 1, 2, 3, 10, 30, 45, 4), variable=True)
    yield from frames("séquence/take2_v3.1013.png", 20, 30, 24, (-2, 1, 2, 11, 20, 30))
    yield from input_is_previewed()
    yield from crop_is_dragged()
    yield from camera_is_lined_up()


drive.run(story)
