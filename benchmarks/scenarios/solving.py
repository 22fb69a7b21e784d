"""Scenario: how long the window stands still while a shot is solved, and how soon the first frame is on the mesh.

Environment: ACTOR, FOOTAGE. Prints a line of JSON.
"""

import json
import os
import time

import bpy
import drive


def story():
    scene = bpy.context.scene
    settings = scene.understudy
    for name in ("Cube", "Light", "Camera"):
        bpy.data.objects.remove(bpy.data.objects[name])
    bpy.context.preferences.system.viewport_aa = "OFF"  # drawn in software, smoothing takes longer than all the rest
    yield from drive.sidebar("Understudy")
    with drive.override():
        bpy.ops.understudy.actor_open(filepath=os.environ["ACTOR"])
    from bl_ext.user_default.understudy.blender_addon import pump, runtime

    pump.stop()  # opening the actor has the worker load the model: the first solve is to start from nothing
    with drive.override():
        bpy.ops.understudy.shot_add(filepath=os.environ["FOOTAGE"])
    yield from drive.wait(lambda: settings.shot.plate is not None, "the plate is there")
    with drive.override():
        bpy.ops.understudy.scene_match()
        bpy.ops.understudy.shot_view()
    yield 2.0
    result = {}
    with drive.Gaps() as gaps:
        for _ in range(30):  # what drawing alone costs here
            settings.shot.face.update_tag()
            drive.area().tag_redraw()
            yield 0.1
    result["drawing_gap"] = gaps.longest
    for name in ("cold", "warm", "undrawn"):
        if name == "undrawn":  # the same without a viewport: what is left is ours
            drive.area().type = "TEXT_EDITOR"
            yield 1.0
        rest = positions(settings.shot.face)
        begun = time.perf_counter()
        with drive.Gaps() as gaps:
            with bpy.context.temp_override(window=drive.window()):
                bpy.ops.understudy.solve()
            run = runtime.run_of(settings.shot.uid)
            first = None
            while run.active:
                if first is None and (positions(settings.shot.face) != rest).any():
                    first = time.perf_counter() - begun
                yield 0.0 if first is None else 0.05
        assert run.state == "done", run.text
        result |= {f"{name}_first_frame": first, f"{name}_gap": gaps.longest,
                   f"{name}_whole": time.perf_counter() - begun}
        with bpy.context.temp_override(window=drive.window()):
            bpy.ops.understudy.solve_clear()
        yield 1.0
    result["frames"] = settings.shot.frames
    print("RESULT", json.dumps(result), flush=True)


def positions(face: bpy.types.Object):
    import numpy as np

    mesh = face.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    values = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", values)
    return values


drive.run(story)
