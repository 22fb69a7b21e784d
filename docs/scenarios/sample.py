"""Scenario: from an empty scene to checked animation, with the sample actor that comes with the extension."""

import bpy
import drive


def story():
    settings = bpy.context.scene.understudy
    for name in ("Cube", "Light", "Camera"):
        bpy.data.objects.remove(bpy.data.objects[name])
    yield from drive.sidebar("Understudy")
    yield from drive.shot("actor")
    with drive.override():
        bpy.ops.understudy.actor_sample()
    yield from drive.wait(lambda: settings.shot is not None and settings.shot.plate is not None, "the plate is there")
    with drive.override():
        bpy.ops.understudy.scene_match()
        bpy.ops.understudy.shot_view()
    yield from drive.shot("shot")
    with drive.Gaps() as gaps, drive.override():
        bpy.ops.understudy.solve()
        yield from drive.wait(lambda: settings.shot.solved, "the shot is solved")
    print(f"longest gap while solving: {gaps.longest:.3f} s", flush=True)
    bpy.context.scene.frame_set(60)
    yield from drive.shot("solved")


drive.run(story)
