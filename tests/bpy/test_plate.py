"""The footage that stands beside the face shows the frame that the mapping says, whatever the rates are."""

import subprocess
from pathlib import Path

import bpy
import numpy as np
import pytest
from mathutils import Vector

from understudy.blender_addon import plate, sound, timing

COUNTS = {"30.mp4": 90, "60.mp4": 120, "24.mp4": 48, "varying.mp4": 60, "séquence/take2_v3.1013.png": 20}


@pytest.fixture(scope="session")
def numbered(tmp_path_factory, worker_python) -> Path:
    folder = tmp_path_factory.mktemp("numbered footage ü")
    subprocess.run([worker_python, Path(__file__).with_name("make_numbered.py"), folder], check=True)
    return folder


def add(folder: Path, name: str, fps: float, **properties):
    """A shot of the scene with the facts of its footage."""
    shot = bpy.context.scene.understudy.shots.add()
    shot.uid = shot.name = name
    shot.footage, shot.width, shot.height, shot.fps = str(folder / name), 320, 160, fps
    shot.frames = COUNTS.get(name, 10)
    shot.last = shot.frames - 1
    if name == "varying.mp4":
        shot.variable = True
        shot["times"] = np.load(folder / "times.npy").tolist()
    for key, value in properties.items():
        setattr(shot, key, value)
    return shot


def shown(shot, frame: int) -> int:
    """The number that Blender gives the picture of the plate at a scene frame."""
    bpy.context.scene.frame_set(frame)
    return shot.plate.evaluated_get(bpy.context.evaluated_depsgraph_get()).image_user.frame_current


def rendered(shot, frame: int, path: Path) -> int:
    """The number that is written in the picture, from a render of the plane at a scene frame."""
    scene = bpy.context.scene
    scene.frame_set(frame)
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(str(path))
    pixels = np.empty(320 * 160 * 4, np.float32)
    image.pixels.foreach_get(pixels)
    bpy.data.images.remove(image)
    rows = pixels.reshape(160, 320, 4)[70:90, :, 0].mean(0)
    return sum(1 << (9 - bar) for bar in range(10) if rows[32 * bar + 10:32 * bar + 22].mean() > 0.5)


def look_at_plane(shot) -> None:
    """Render settings that show the plane pixel by pixel."""
    scene = bpy.context.scene
    plate.render_plane(scene, shot)
    camera = bpy.data.objects.new("eye", bpy.data.cameras.new("eye"))
    camera.data.type, camera.data.ortho_scale = "ORTHO", shot.plate.empty_display_size
    camera.parent = shot.plate
    camera.location.z = 1
    scene.collection.objects.link(camera)
    scene.camera = camera
    scene.render.engine = "CYCLES"
    scene.cycles.samples = 1
    scene.render.resolution_x, scene.render.resolution_y = 320, 160
    scene.view_settings.view_transform = "Standard"


@pytest.mark.parametrize("name, fps, scene_fps, properties", [
    ("30.mp4", 30, 30, {}), ("60.mp4", 60, 24, {"pace": "TIME"}), ("24.mp4", 24, 60, {"pace": "TIME"}),
    ("24.mp4", 24, 60, {}), ("varying.mp4", 22.5, 24, {}), ("séquence/take2_v3.1013.png", 30, 24, {}),
    ("60.mp4", 60, 24, {"pace": "TIME", "first": 11, "last": 90, "anchor_source": 20, "anchor_scene": 12.5}),
    ("30.mp4", 30, 24, {"first": 5, "last": 60, "anchor_scene": 100})])
def test_the_picture_is_the_one_of_the_mapping(numbered, tmp_path, name, fps, scene_fps, properties):
    scene = bpy.context.scene
    scene.render.fps = scene_fps
    shot = add(numbered, name, fps, **properties)
    assert plate.update(scene, shot) == ""
    look_at_plane(shot)
    start, end = (int(frame) for frame in timing.scene_range(scene, shot))
    frames = (start - 3, start, start + 1, start + 2, (start + end) // 2, end - 1, end, end + 1, end + 30, start + 1)
    for frame in frames[:6] if name == "varying.mp4" else frames:  # Blender has no number for its very last picture
        source = np.floor(timing.mapping(scene, shot).source(frame) + 0.5)
        expected = int(np.clip(source, shot.first, shot.last))  # holds the first and the last
        assert rendered(shot, frame, tmp_path / "p.png") == expected, frame
        if name != "varying.mp4":
            assert shown(shot, frame) == expected + (1001 if "take2" in name else 1), frame


def test_a_new_timing_is_followed(numbered):
    scene = bpy.context.scene
    scene.render.fps = 30
    shot = add(numbered, "30.mp4", 30)
    plate.update(scene, shot)
    shot.anchor_scene = 11  # its update function calls plate.retime
    assert [shown(shot, frame) for frame in (1, 11, 12)] == [1, 1, 2]
    shot.anchor_source, shot.first = 4, 4
    assert [shown(shot, frame) for frame in (1, 11, 12)] == [5, 5, 6]


def test_updating_twice_changes_nothing(numbered):
    scene = bpy.context.scene
    shot = add(numbered, "30.mp4", 30)
    plate.update(scene, shot)
    shot.plate.location.x = 5  # as the artist wants it
    plate.update(scene, shot)
    assert shot.plate.location.x == 5
    assert len(bpy.data.objects) == len(bpy.data.images) == 1
    assert len(shot.plate.animation_data.drivers) == 2
    plate.render_plane(scene, shot)
    plate.render_plane(scene, shot)
    plate.remove(scene, shot)
    for kind in ("objects", "images", "meshes", "materials"):
        assert not getattr(bpy.data, kind), kind


def test_other_footage_takes_the_place(numbered):
    scene = bpy.context.scene
    shot = add(numbered, "30.mp4", 30)
    plate.update(scene, shot)
    before = shot.plate
    shot.footage = str(numbered / "60.mp4")
    assert plate.update(scene, shot) == ""
    assert shot.plate == before and [image.name for image in bpy.data.images] == ["60.mp4"]


@pytest.mark.parametrize("name", ["nothing.mp4", "nothing.0001.png", "times.npy", ""])
def test_footage_that_cannot_be_shown_is_a_sentence(numbered, name):
    scene = bpy.context.scene
    shot = add(numbered, name, 30)
    if not name:
        shot.footage = ""
    text = plate.update(scene, shot)
    assert text.endswith(".") and (name in text)
    assert shot.plate is None and not bpy.data.images
    plate.retime(scene, shot)
    plate.remove(scene, shot)


def test_footage_that_goes_missing_keeps_the_plate(numbered):
    scene = bpy.context.scene
    shot = add(numbered, "30.mp4", 30)
    plate.update(scene, shot)
    shot.footage = str(numbered / "gone.mp4")
    assert "gone.mp4 is not there" in plate.update(scene, shot)
    assert shot.plate is not None
    plate.retime(scene, shot)


def test_the_plate_stands_beside_the_face_and_is_as_high(numbered):
    scene = bpy.context.scene
    mesh = bpy.data.meshes.new("face")
    mesh.from_pydata([(0, 0, 2), (0.2, 0, 2), (0.2, 0, 2.4), (0, 0, 9)], [], [(0, 1, 2)])
    face = bpy.data.objects.new("face", mesh)
    scene.collection.objects.link(face)
    face.vertex_groups.new(name="animated").add([0, 1, 2], 1, "REPLACE")
    scene.understudy.crop = (0, 40, 75, 100)
    shot = add(numbered, "30.mp4", 30, face=face)
    plate.update(scene, shot)
    bpy.context.view_layer.update()
    pixels = shot.plate.matrix_world @ plate.pixel_matrix(shot)
    corners = [pixels @ Vector((*pixel, 0)) for pixel in ((0, 40), (320, 140))]
    assert corners[0].z == pytest.approx(2.4) and corners[1].z == pytest.approx(2)  # the crop is as high as the face
    assert corners[1].x < 0 and corners[1].x - corners[0].x == pytest.approx(320 * 0.004, rel=1e-5)
    assert corners[0].y == pytest.approx(0, abs=1e-6)


def test_match_scene(numbered):
    scene = bpy.context.scene
    scene.render.fps = 24
    shot = add(numbered, "60.mp4", 60, pace="TIME", first=10, anchor_scene=1)
    plate.update(scene, shot)
    shot.fps = 59.94005994
    scene.understudy.active = 0
    bpy.ops.understudy.scene_match()
    assert (scene.render.fps, round(scene.render.fps_base, 6)) == (60, 1.001)
    assert (scene.frame_start, scene.frame_end) == (11, 120)
    assert [shown(shot, frame) for frame in (1, 11, 12, 120)] == [11, 11, 12, 120]


def test_sound_needs_the_same_pace(numbered):
    scene = bpy.context.scene
    scene.render.fps = 24
    shot = add(numbered, "60.mp4", 60)
    assert "no sound" in sound.add_sound(scene, shot)
    shot.audio = True
    assert "60 frames a second play at 24" in sound.add_sound(scene, shot)
    shot.variable = True
    assert "varies" in sound.add_sound(scene, shot)
    assert sound.find_strip(scene, shot) is None


@pytest.mark.skipif(not bpy.app.build_options.audaspace, reason="this bpy has no sound")
def test_sound_plays_with_its_pictures(numbered, tmp_path):
    import wave

    with wave.open(str(tmp_path / "take.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 8000 * 3))  # 3 s
    scene = bpy.context.scene
    scene.render.fps = 30
    shot = add(numbered, "30.mp4", 30, audio=True, anchor_scene=101, first=15, last=74)
    shot.footage = str(tmp_path / "take.wav")
    assert sound.add_sound(scene, shot) == "" and sound.add_sound(scene, shot) == ""
    strip, = scene.sequence_editor.strips
    assert (strip.frame_final_start, strip.frame_final_end, strip.frame_start) == (116, 176, 101)
    shot.anchor_scene = 1
    assert (strip.frame_final_start, strip.frame_final_end, strip.mute) == (16, 76, False)
    scene.render.fps = 15
    plate.retime(scene, shot)
    assert strip.mute, "its pictures now play at half the speed"
    shot.pace = "TIME"
    assert (strip.frame_final_start, strip.frame_final_end, strip.mute) == (8, 38, False)
    shot.audio = True
    plate.remove(scene, shot)
    assert not scene.sequence_editor.strips
