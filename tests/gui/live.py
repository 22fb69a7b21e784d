"""Scenario: a movie, played in real time, drives the face; Esc stops it, and nothing of it is left."""

import os

import bpy
import drive


def story():
    scene, settings = bpy.context.scene, bpy.context.scene.understudy
    yield from drive.sidebar("Understudy")
    with drive.override():
        bpy.ops.understudy.actor_sample()
    yield from drive.wait(lambda: settings.shot is not None and settings.shot.plate is not None, "the plate is there")
    from bl_ext.user_default.understudy.blender_addon import faces, live, runtime, scene_io

    face = faces.ensure(scene, settings.shot)
    before = sorted(found.name for found in bpy.data.objects), scene_io.positions(face.data).tolist()
    with drive.override():
        bpy.ops.understudy.live_start("INVOKE_DEFAULT", source=os.environ["MOVIE"])
    yield from drive.wait(lambda: runtime.live.fps > 0 or not runtime.live.active, "live shows a frame", 90)
    copy, = live.copies()
    seen = [scene_io.positions(copy.data).tolist()]
    for _ in range(10):
        yield 0.2
        seen.append(scene_io.positions(copy.data).tolist())
    print("LIVE", runtime.live, flush=True)
    assert runtime.live.active, runtime.live
    assert sum(one != other for one, other in zip(seen, seen[1:], strict=False)) >= 3, "it moves"
    assert face.hide_viewport and scene_io.positions(face.data).tolist() == before[1]
    yield from drive.shot("live")
    yield from drive.move(*drive.at(drive.region("WINDOW"), 300, 300))
    yield from drive.press("Escape")
    assert not live.running() and not face.hide_viewport
    assert (sorted(found.name for found in bpy.data.objects), scene_io.positions(face.data).tolist()) == before
    for key in ("ctrl+z", "ctrl+z", "ctrl+shift+z", "ctrl+shift+z"):
        yield from drive.press(key)
        assert not live.copies()


drive.run(story)
