"""Scenario: what artists do in the window while a solve runs. The window goes on; no worker and no half file stays."""

import importlib
import os
from pathlib import Path

import bpy
import drive

ID = "bl_ext.user_default.understudy"
pump, runtime = (importlib.import_module(f"{ID}.blender_addon.{name}") for name in ("pump", "runtime"))
FOLDER = Path(os.environ["FOLDER"])


def shot():
    return bpy.context.scene.understudy.shot


def run():
    return runtime.run_of(shot().uid)


def begin(until=lambda: run().done > 0):
    """Click Solve and wait until it has come that far."""
    with drive.override():
        bpy.ops.understudy.solve()
    yield from drive.wait(lambda: until() or not run().active, "the solve has begun", 120)


def ended():
    yield from drive.wait(lambda: not run().active, "the solve has ended", 120)


def mode(name: str, object: bpy.types.Object):
    bpy.context.view_layer.objects.active = object
    with drive.override():
        bpy.ops.object.mode_set(mode=name)


def undo_and_redo():
    yield from drive.click(*drive.at(drive.region(), 300, 400))  # so that keys go to the viewport
    bpy.ops.ed.undo_push(message="Begin")
    bpy.context.scene.frame_end = 77
    bpy.ops.ed.undo_push(message="End Frame")
    yield from begin(lambda: True)  # its few frames are soon solved, which would be the step that is undone
    yield from drive.press("ctrl+z")
    yield from drive.wait(lambda: bpy.context.scene.frame_end != 77, "it is undone", 10)
    yield from drive.press("ctrl+shift+z")
    yield from ended()
    assert run().state == "done" and shot().solved, run().text
    first = shot().cache
    yield from drive.press("ctrl+z")
    yield from drive.wait(lambda: not shot().solved and not shot().face.modifiers, "the solve is undone", 10)
    yield from drive.press("ctrl+shift+z")
    yield from drive.wait(lambda: shot().cache == first and shot().face.modifiers, "it is redone", 10)


def other_modes():
    bpy.ops.mesh.primitive_cube_add()
    other = bpy.context.object
    for name in ("EDIT", "SCULPT", "VERTEX_PAINT"):
        mode(name, other)
        yield from begin()
        yield from ended()
        assert run().state == "done", (name, run().text)
        mode("OBJECT", other)
    bpy.ops.object.armature_add()
    mode("POSE", bpy.context.object)
    yield from begin()
    yield from ended()
    assert run().state == "done"
    mode("OBJECT", bpy.context.object)
    for name in ("SCULPT", "EDIT"):
        before = shot().cache
        mode(name, shot().face)
        yield from begin()
        yield from drive.wait(lambda: run().state == "applying" and run().text.startswith("Leave"), "it waits", 120)
        yield from drive.shot(f"waits in {name.lower()}")
        assert shot().cache == before
        mode("OBJECT", shot().face)
        yield from ended()
        assert run().state == "done" and shot().cache != before


def frame_rate():
    scene = bpy.context.scene
    scene.render.fps = 30
    shot().pace = "TIME"
    yield 0.3
    before = shot().face.modifiers[0].frame_scale
    scene.render.fps = 60
    yield from drive.wait(lambda: abs(shot().face.modifiers[0].frame_scale - before / 2) < 1e-3, "the shot follows", 5)
    bpy.ops.ed.undo_push(message="Frame rate")
    scene.render.fps = 24
    shot().pace = "FRAME"
    yield 0.3


def disable_in_the_middle():
    yield from begin()
    processes = [service.process for service in pump._services.values() if service.process]
    assert processes
    with drive.Gaps() as gaps:
        yield 0.5
        bpy.ops.preferences.addon_disable(module=ID)
        yield 0.5
    print(f"longest gap while disabling: {gaps.longest:.3f} s", flush=True)
    yield from drive.wait(lambda: all(process.poll() is not None for process in processes), "the workers end", 10)
    bpy.ops.preferences.addon_enable(module=ID)
    yield 0.5


def new_file_in_the_middle():
    global pump, runtime  # enabling has loaded the modules again
    pump, runtime = (importlib.import_module(f"{ID}.blender_addon.{name}") for name in ("pump", "runtime"))
    yield from begin()
    bpy.ops.wm.open_mainfile(filepath=str(FOLDER / "scene.blend"))
    assert not runtime.runs and not pump.busy()
    yield from begin()
    yield from ended()
    assert run().state == "done"


def story():
    for name in ("Cube", "Light", "Camera"):
        bpy.data.objects.remove(bpy.data.objects[name])
    yield from drive.sidebar("Understudy")
    bpy.ops.wm.save_as_mainfile(filepath=str(FOLDER / "scene.blend"))
    with drive.override():
        bpy.ops.understudy.actor_sample()
    yield from drive.wait(lambda: shot() is not None and shot().plate is not None, "the footage was read", 120)
    bpy.ops.wm.save_mainfile()
    yield from undo_and_redo()
    yield from other_modes()
    yield from frame_rate()
    yield from disable_in_the_middle()
    yield from new_file_in_the_middle()
    yield from begin()  # and quit


drive.run(story)
