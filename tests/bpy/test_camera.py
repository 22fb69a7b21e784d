"""A camera that is lined up by pins sees the face where the picture shows it."""

import bpy
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Matrix, Vector

from understudy.blender_addon import camera, plate


@pytest.fixture
def shot(tmp_path):
    """A bulging face, upright, and a picture of 640 x 480 pixels."""
    scene = bpy.context.scene
    image = bpy.data.images.new("picture", 640, 480)
    image.filepath_raw, image.file_format = str(tmp_path / "picture.png"), "PNG"
    image.save()
    bpy.data.images.remove(image)
    grid = np.linspace(-0.1, 0.1, 9)
    x, z = (values.ravel() for values in np.meshgrid(grid, grid))
    vertices = np.column_stack((x, 4 * (x ** 2 + z ** 2), z))
    faces = [(i, i + 1, i + 10, i + 9) for row in range(8) for i in range(9 * row, 9 * row + 8)]
    mesh = bpy.data.meshes.new("face")
    mesh.from_pydata(vertices.tolist(), [], faces)
    face = bpy.data.objects.new("face", mesh)
    face.location.z = 1.6
    scene.collection.objects.link(face)
    made = scene.understudy.shots.add()
    made.name = made.uid = "take"
    made.width, made.height, made.frames, made.fps, made.last = 640, 480, 10, 24, 9
    made.footage, made.face = str(tmp_path / "picture.png"), face
    bpy.context.view_layer.update()
    return made


def seen(shot, vertices) -> np.ndarray:
    """(N, 2) pixels at which Blender's own projection puts vertices of the face, from the top left."""
    bpy.context.view_layer.update()
    face = shot.face.evaluated_get(bpy.context.evaluated_depsgraph_get())
    places = [world_to_camera_view(bpy.context.scene, shot.camera, face.matrix_world @ face.data.vertices[i].co)
              for i in vertices]
    return np.array([(640 * place.x, 480 * (1 - place.y)) for place in places])


def pins_of(shot, vertices, matrix: Matrix, lens: float = 50) -> np.ndarray:
    """Where a camera that stands elsewhere sees vertices; the shot's own stays."""
    before = shot.camera.matrix_world.copy(), shot.camera.data.lens
    shot.camera.matrix_world, shot.camera.data.lens = matrix, lens
    pixels = seen(shot, vertices)
    shot.camera.matrix_world, shot.camera.data.lens = before
    return pixels


def elsewhere(shot) -> Matrix:
    """A place to the side, above and nearer, that still looks at the face."""
    turn = Matrix.Rotation(0.3, 4, "Z") @ Matrix.Rotation(-0.15, 4, "X")
    center = Matrix.Translation(shot.face.location)
    return center @ turn @ center.inverted() @ shot.camera.matrix_world @ Matrix.Translation((0.02, 0.01, -0.05))


def test_a_new_camera_looks_at_the_face(shot):
    scene = bpy.context.scene
    assert bpy.ops.understudy.camera_make() == {"FINISHED"}
    assert scene.camera == shot.camera and shot.camera.name == "take Camera"
    assert (scene.render.resolution_x, scene.render.resolution_y) == (640, 480)
    background, = shot.camera.data.background_images
    assert background.image == shot.plate.data and shot.camera.data.show_background_images
    middle, top, bottom = seen(shot, (40, 76, 4))
    np.testing.assert_allclose(middle, (320, 240), atol=1)
    assert bottom[1] - top[1] == pytest.approx(320, rel=0.1)  # two thirds of the picture
    bpy.ops.understudy.camera_make()
    assert len(bpy.data.cameras) == 1 and len(shot.camera.data.background_images) == 1


def test_a_new_camera_fits_the_crop(shot):
    bpy.context.scene.understudy.crop = (40, 100, 150, 200)
    bpy.ops.understudy.camera_make()
    top, bottom, middle = seen(shot, (76, 4, 40))
    assert (top[1], bottom[1]) == (pytest.approx(100, abs=8), pytest.approx(300, abs=8))
    assert middle[0] == pytest.approx(40 + 75, abs=1)


@pytest.mark.parametrize("count", [4, 8])
def test_pins_line_the_camera_up(shot, count):
    bpy.ops.understudy.camera_make()
    vertices = [10, 16, 70, 66, 40, 4, 36, 76][:count]
    target = elsewhere(shot)
    pixels = pins_of(shot, vertices, target)
    for vertex, (u, v) in zip(vertices, pixels, strict=True):
        assert bpy.ops.understudy.pin_add(vertex=vertex, u=u, v=v) == {"FINISHED"}
    np.testing.assert_allclose(seen(shot, vertices), pixels, atol=0.1)
    np.testing.assert_allclose(shot.camera.matrix_world, target, atol=5e-3)
    assert shot.camera.understudy_camera.residual < 0.05
    # Blender's own projection agrees at a vertex that is not pinned
    np.testing.assert_allclose(seen(shot, [29]), pins_of(shot, [29], target), atol=0.5)


def test_the_focal_length_is_found(shot):
    bpy.ops.understudy.camera_make()
    shot.camera.understudy_camera.solve_focal = True
    vertices = list(range(0, 81, 4))
    target = elsewhere(shot) @ Matrix.Translation((0, 0, -0.35))
    pixels = pins_of(shot, vertices, target, 30)
    for vertex, (u, v) in zip(vertices, pixels, strict=True):
        camera.add_pin(bpy.context.scene, shot, vertex, u, v)
    camera.solve(shot, bpy.context.evaluated_depsgraph_get())
    assert shot.camera.data.lens == pytest.approx(30, rel=0.01)
    np.testing.assert_allclose(seen(shot, vertices), pixels, atol=0.2)


def test_one_pin_only_moves_the_camera_sideways(shot):
    bpy.ops.understudy.camera_make()
    before = shot.camera.matrix_world.copy()
    u, v = seen(shot, [40])[0] + (60, -25)
    bpy.ops.understudy.pin_add(vertex=40, u=u, v=v)
    np.testing.assert_allclose(seen(shot, [40])[0], (u, v), atol=0.1)
    np.testing.assert_allclose(shot.camera.matrix_world.to_3x3(), before.to_3x3(), atol=1e-4)


def test_pinning_a_vertex_again_moves_its_pin(shot):
    bpy.ops.understudy.camera_make()
    bpy.ops.understudy.pin_add(vertex=40, u=100, v=100)
    bpy.ops.understudy.pin_add(vertex=40, u=200, v=150)
    pin, = shot.camera.understudy_camera.pins
    assert (pin.u, pin.v) == (200, 150)
    bpy.ops.understudy.pins_clear()
    assert not shot.camera.understudy_camera.pins


def test_pins_use_the_shape_of_the_present_frame(shot):
    bpy.ops.understudy.camera_make()
    shot.face.shape_key_add(name="Basis")
    shot.face.shape_key_add(name="moved").data[40].co.x += 0.05
    shot.face.data.shape_keys.key_blocks["moved"].value = 1
    bpy.context.view_layer.update()
    camera.add_pin(bpy.context.scene, shot, 40, 0, 0)
    place, = camera.pinned_points(shot, bpy.context.evaluated_depsgraph_get())
    assert place[0] == pytest.approx(0.05, abs=1e-5)


def test_picking_takes_the_near_side(shot):
    bpy.ops.understudy.camera_make()
    near = shot.face.matrix_world @ shot.face.data.vertices[42].co
    origin = shot.camera.matrix_world.translation
    depsgraph = bpy.context.evaluated_depsgraph_get()
    vertex, place = camera.pick(shot, depsgraph, origin, near - origin + Vector((1e-3, 0, 0)))
    assert vertex == 42 and (place - near).length < 1e-6
    assert camera.pick(shot, depsgraph, origin, Vector((0, -1, 0))) is None


def test_pins_are_saved_and_undone_with_the_camera(shot, tmp_path):
    bpy.ops.understudy.camera_make()
    bpy.ops.understudy.pin_add(vertex=40, u=100, v=120)
    before = np.array(shot.camera.matrix_world)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "saved.blend"))
    bpy.ops.wm.read_homefile(use_empty=True)
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "saved.blend"))
    loaded = bpy.context.scene.understudy.shot
    pin, = loaded.camera.understudy_camera.pins
    assert (pin.vertex, pin.u, pin.v) == (40, 100, 120)
    np.testing.assert_allclose(loaded.camera.matrix_world, before, atol=1e-6)


def test_what_is_missing_is_said(shot):
    with pytest.raises(RuntimeError, match="Make the camera of the shot first"):
        bpy.ops.understudy.pin_add(vertex=1)
    bpy.ops.understudy.camera_make()
    with pytest.raises(RuntimeError, match="no vertex 81"):
        bpy.ops.understudy.pin_add(vertex=81)
    shot.footage = "/nowhere/gone.mp4"
    with pytest.raises(RuntimeError, match="gone.mp4 is not there"):
        bpy.ops.understudy.camera_make()


def test_removing_the_plate_leaves_camera_and_pins(shot):
    bpy.ops.understudy.camera_make()
    bpy.ops.understudy.pin_add(vertex=40, u=100, v=120)
    shot.camera.data.background_images.new()  # the artist's own
    plate.remove(bpy.context.scene, shot)
    assert len(shot.camera.understudy_camera.pins) == 1 and len(shot.camera.data.background_images) == 1
    assert not bpy.data.images
    assert plate.update(bpy.context.scene, shot) == ""
    assert [background.image for background in shot.camera.data.background_images] == [None, shot.plate.data]
