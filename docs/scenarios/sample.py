"""Scenario: from an empty scene to checked animation, with the sample actor that comes with the extension."""

import bpy
import drive

PINS = ((1244, 136, 194), (1209, 182, 194), (1190, 249, 196), (1280, 292, 196), (2237, 209, 253), (3290, 182, 322),
        (3308, 253, 324))  # corners of eyes and mouth and the tip of the nose: vertex, and its place in frame 60
HEADER = 28  # pixels from one closed panel to the next


def story():
    scene, settings = bpy.context.scene, bpy.context.scene.understudy
    for name in ("Cube", "Light", "Camera"):
        bpy.data.objects.remove(bpy.data.objects[name])
    bar = yield from drive.sidebar("Understudy")
    yield from drive.shot("blender-1-actor")
    yield from drive.click(*drive.at(bar, 130, 72))  # Try the Sample Actor
    yield from drive.wait(lambda: settings.shot is not None and settings.shot.plate is not None, "the plate is there")
    with drive.override():
        bpy.ops.understudy.scene_match()
        bpy.ops.understudy.shot_view()
    scene.frame_set(60)
    with drive.override():
        bpy.ops.understudy.solve()
    from bl_ext.user_default.understudy.blender_addon import runtime

    yield from drive.wait(lambda: runtime.run_of(settings.shot.uid).done > 60, "some frames are solved")
    yield from drive.shot("blender-2-solving")
    yield from drive.wait(lambda: settings.shot.solved, "the shot is solved")
    yield from drive.shot("blender-3-solved")

    yield from panel(bar, 4)  # Crop
    bpy.context.window_manager.understudy_edit_crop = True
    with drive.override():
        bpy.ops.understudy.crop_preview()
    yield 1.5
    yield from drive.shot("blender-4-crop")
    bpy.context.window_manager.understudy_edit_crop = False

    yield from panel(bar, 5)  # Camera
    with drive.override():
        bpy.ops.understudy.camera_make()
        settings.shot.camera.understudy_camera.solve_focal = True
        settings.shot.plate.hide_viewport = True
        for vertex, u, v in PINS:
            bpy.ops.understudy.pin_add(vertex=vertex, u=u, v=v)
    drive.area().spaces.active.region_3d.view_perspective = "CAMERA"
    yield 1.0
    yield from drive.shot("blender-5-camera")


def panel(bar, number):
    """Open one panel and close all others."""
    yield from drive.click(*drive.at(bar, 100, 12), hold="ctrl")
    yield from drive.click(*drive.at(bar, 100, 12))
    yield from drive.click(*drive.at(bar, 100, 12 + HEADER * number))


drive.run(story)
