"""Scenario: from an empty scene to checked animation, with the sample actor that comes with the extension."""

import bpy
import drive


def story():
    settings = bpy.context.scene.understudy
    for name in ("Cube", "Light", "Camera"):
        bpy.data.objects.remove(bpy.data.objects[name])
    bar = yield from drive.sidebar("Understudy")
    yield from drive.shot("actor")
    yield from drive.click(*drive.at(bar, 130, 72))  # Try the Sample Actor
    yield from drive.wait(lambda: settings.shot is not None and settings.shot.plate is not None, "the plate is there")
    with drive.override():
        bpy.ops.understudy.scene_match()
        bpy.ops.understudy.shot_view()
    yield from drive.shot("shot")
    for panel in ("timing", "crop", "camera", "edits", "files"):
        pass
    yield from drive.click(*drive.at(bar, 130, 412))  # Solve Shot
    yield from drive.wait(lambda: settings.shot.solved, "the shot is solved")
    bpy.context.scene.frame_set(60)
    yield from drive.shot("solved")


drive.run(story)
