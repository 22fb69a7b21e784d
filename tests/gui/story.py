"""Scenario: from an empty scene to checked animation. Environment: ACTOR and FOOTAGE, else the sample."""

import os
import struct

import bpy
import drive
import numpy as np


def story():
    for name in ("Cube", "Light", "Camera"):
        bpy.data.objects.remove(bpy.data.objects[name])
    bar = yield from drive.sidebar("Understudy")
    yield from drive.shot("1 empty")
    if "ACTOR" in os.environ:
        with drive.override():
            bpy.ops.understudy.actor_open(filepath=os.environ["ACTOR"])
            bpy.ops.understudy.shot_add(filepath=os.environ["FOOTAGE"])
    else:
        yield from drive.click(*drive.at(bar, 130, 72))
    yield from drive.wait(lambda: shot() is not None and shot().plate is not None, "the footage was read")
    with drive.override():
        bpy.ops.understudy.scene_match()
        bpy.ops.understudy.shot_view()
    yield from drive.shot("2 shot")
    if "ACTOR" in os.environ:
        with drive.override():
            bpy.ops.understudy.solve()
    else:
        yield from drive.click(*drive.at(bar, 130, 356))
    yield from drive.wait(lambda: shot().solved, "the shot is solved")
    yield from check_against_the_file()
    yield from drive.shot("3 solved")

    yield from drive.move(*drive.at(drive.region(), 300, 400))  # so that keys go to the viewport
    yield from drive.press("ctrl+z")
    yield from drive.wait(lambda: not shot().solved, "one undo takes the solve away")
    yield from drive.press("ctrl+shift+z")
    yield from drive.wait(lambda: shot().solved, "redo brings it back")
    yield from check_against_the_file()

    for form in ("BASIS", "FRAMES", "MESH_CACHE"):
        with drive.override():
            bpy.ops.understudy.output_set(form=form)
        yield from drive.wait(lambda form=form: shot().output == form, f"{form} is there")
        yield from check_against_the_file()
    bpy.context.scene.frame_set(shot().frames // 2)
    yield from drive.shot("4 later")


def shot():
    return bpy.context.scene.understudy.shot


def check_against_the_file():
    """The first, a middle and the last frame show what the cache holds."""
    with open(bpy.path.abspath(shot().cache), "rb") as file:
        _, _, vertices, _, _, samples = struct.unpack("<12siiffi", file.read(32))
        cache = np.frombuffer(file.read(), "<f4").reshape(samples, vertices, 3)
    for sample in (samples - 1, samples // 2, 0):
        bpy.context.scene.frame_set(round(shot().anchor_scene) + sample)
        yield 0.1
        mesh = shot().face.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
        seen = np.empty((vertices, 3), np.float32)
        mesh.vertices.foreach_get("co", seen.ravel())
        np.testing.assert_allclose(seen, cache[sample], atol=1e-4 * float(np.abs(cache[0]).max()))


drive.run(story)
