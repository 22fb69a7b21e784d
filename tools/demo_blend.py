"""The end of `make demo`: a .blend with the sample actor, its solved shot and its plate, and a picture of it.

    .venv-bpy/5.0/bin/python tools/demo_blend.py demo/actor demo/actor/footage/val_talk.mp4 demo/demo.blend

The same operators as the panel's buttons; the worker is the Python named by UNDERSTUDY_PYTHON.
"""

import importlib.util
import sys
from math import radians
from pathlib import Path

import bpy
from mathutils import Vector

ROOT = Path(__file__).resolve().parents[1]
FRAME = 60  # in the middle of a word


def load_understudy():
    """The repository as package `understudy`, which need not be installed here."""
    spec = importlib.util.spec_from_file_location("understudy", ROOT / "__init__.py",
                                                  submodule_search_locations=[str(ROOT)])
    sys.modules["understudy"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    return package


def main(actor: Path, footage: Path, out: Path) -> None:
    load_understudy().register()
    bpy.ops.wm.read_homefile(use_empty=True)
    bpy.context.preferences.filepaths.save_version = 0  # no demo.blend1
    bpy.ops.wm.save_as_mainfile(filepath=str(out))  # so that the solve goes beside it
    bpy.ops.understudy.actor_open(filepath=str(actor))
    bpy.ops.understudy.shot_add(filepath=str(footage))
    bpy.ops.understudy.scene_match()
    bpy.ops.understudy.solve()
    stage(bpy.context.scene)
    bpy.ops.wm.save_mainfile()
    bpy.ops.render.render(write_still=True)
    print(f"Saved {out} and {bpy.context.scene.render.filepath}")


def stage(scene: bpy.types.Scene) -> None:
    """A camera that sees face and plate, light, and the plate as a plane that renders."""
    from understudy.blender_addon import plate

    shot = scene.understudy.shot
    plate.render_plane(scene, shot)
    points = [*plate.box(scene, shot), *(shot.face.matrix_world @ Vector(corner) for corner in shot.face.bound_box)]
    low, high = (Vector(pick(point[axis] for point in points) for axis in range(3)) for pick in (min, max))
    width, height = 1.05 * (high.x - low.x), 1.05 * (high.z - low.z)
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    camera.data.type, camera.data.ortho_scale = "ORTHO", max(width, height)
    camera.location = (low + high) / 2
    camera.location.y = low.y - width
    camera.rotation_euler = (radians(90), 0, 0)
    light = bpy.data.objects.new("Light", bpy.data.lights.new("Light", "SUN"))
    light.data.energy, light.data.angle, light.rotation_euler = 2.0, radians(60), (radians(55), 0, radians(30))
    for object in (camera, light):
        scene.collection.objects.link(object)
    scene.camera = camera
    scene.world = scene.world or bpy.data.worlds.new("World")
    scene.world.color = (0.25, 0.25, 0.25)
    scene.view_settings.view_transform = "Standard"  # the plate as it is
    scene.frame_set(FRAME)
    render = scene.render
    render.engine, scene.cycles.samples, scene.cycles.use_denoising = "CYCLES", 32, False
    render.resolution_x, render.resolution_y = 960, round(960 * height / width)
    render.filepath = bpy.data.filepath.replace(".blend", ".png")


if __name__ == "__main__":
    main(*(Path(argument).resolve() for argument in sys.argv[1:4]))
