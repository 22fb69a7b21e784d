"""Scenario: the sample actor's shot is solved and looked at: strip, errors on the face, wipe, contact sheet."""

import importlib

import bpy
import drive

heat, review, dailies = (importlib.import_module(f"bl_ext.user_default.understudy.blender_addon.{name}")
                         for name in ("heat", "review", "dailies"))
PINS = ((1244, 136, 194), (1209, 182, 194), (1190, 249, 196), (1280, 292, 196), (2237, 209, 253), (3290, 182, 322),
        (3308, 253, 324))  # corners of eyes and mouth and the tip of the nose: vertex, and its place in frame 60
HEADER = 28  # pixels from one closed panel to the next
CLOSED = 6   # panels above that of review


def story():
    scene, settings = bpy.context.scene, bpy.context.scene.understudy
    shown = bpy.context.window_manager.understudy_review
    for name in ("Cube", "Light", "Camera"):
        bpy.data.objects.remove(bpy.data.objects[name])
    bar = yield from drive.sidebar("Understudy")
    with drive.override():
        bpy.ops.understudy.actor_sample()
    yield from drive.wait(lambda: settings.shot is not None and settings.shot.plate is not None, "the plate is there")
    with drive.override():
        bpy.ops.understudy.scene_match()
        bpy.ops.understudy.shot_view()
        bpy.ops.understudy.solve()
    yield from drive.wait(lambda: settings.shot.solved, "the shot is solved", 240)
    timeline = drive.area("DOPESHEET_EDITOR")
    yield from drive.drag(timeline.x + 300, timeline.y + timeline.height, timeline.x + 300, timeline.y + 150)
    with drive.override("DOPESHEET_EDITOR"):
        bpy.ops.action.view_all()
    yield from panel(bar, CLOSED)
    shading = drive.area().spaces.active.shading
    before = shading.color_type, shading.light

    shown.strip = True
    yield from drive.wait(lambda: review.of(scene, settings.shot) is not None, "the errors are read")
    with drive.override():
        bpy.ops.understudy.frame_suggested()
        bpy.ops.understudy.heat_switch()
    shown.limit_mm = 0.5
    yield 1.5  # the panel opens slowly
    yield from drive.shot("blender-6-review")
    with drive.override():
        bpy.ops.understudy.heat_switch()
    assert (shading.color_type, shading.light) == before
    shown.strip = False

    scene.frame_set(61)
    with drive.override():
        bpy.ops.understudy.camera_make()
        settings.shot.camera.understudy_camera.solve_focal = True
        settings.shot.plate.hide_viewport = True
        for vertex, u, v in PINS:
            bpy.ops.understudy.pin_add(vertex=vertex, u=u, v=v)
    drive.area().spaces.active.region_3d.view_perspective = "CAMERA"
    shown.wipe = True
    yield from drive.shot("blender-7-wipe")
    yield from drag_line(shown)
    with drive.override():
        bpy.ops.understudy.dailies_make(kind="sheet")
    yield from drive.wait(lambda: not dailies.made.active, "the sheet is there", 200)
    assert dailies.made.path.is_file(), dailies.made.text


def drag_line(shown):
    """Take the line in the middle of the picture and move it."""
    wipe = importlib.import_module("bl_ext.user_default.understudy.blender_addon.wipe")
    with drive.override():
        left, low, right, high = wipe.frame(bpy.context)
    region = drive.region()
    x, y = region.x + (left + right) / 2, region.y + low + 0.6 * (high - low)
    yield from drive.drag(x, y, x + 60, y)
    assert shown.place > 0.55, f"the line is at {shown.place}"


def panel(bar, number):
    """Open one panel and close all others."""
    yield from drive.click(*drive.at(bar, 100, 12), hold="ctrl")
    yield from drive.click(*drive.at(bar, 100, 12))
    yield from drive.click(*drive.at(bar, 100, 12 + HEADER * number))


drive.run(story)
