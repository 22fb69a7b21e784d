"""Solve footage from a plain Python script: the panel's operators, with the `bpy` module or in `blender -b -P`.

    UNDERSTUDY_PYTHON=.venv/bin/python python docs/solve_in_bpy.py otto take.mov take.blend

Needs `bpy`, and the extension: installed and enabled in Blender, or the package `understudy` on Python's path.
"""

import sys
from pathlib import Path

import bpy


def solve(actor: Path, footage: Path, out: Path) -> None:
    """Make a .blend with the solved shot; the caches lie in understudy/ beside it."""
    if not hasattr(bpy.types.Scene, "understudy"):
        import understudy

        understudy.register()
    bpy.ops.wm.read_homefile(use_empty=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(out.absolute()))
    bpy.ops.understudy.actor_open(filepath=str(actor.absolute()))
    bpy.ops.understudy.shot_add(filepath=str(footage.absolute()))
    bpy.ops.understudy.scene_match()
    bpy.ops.understudy.solve(output="MESH_CACHE")  # raises RuntimeError, with a sentence, if it fails
    shot = bpy.context.scene.understudy.shot
    print(f"{shot.name}: frames {shot.solved_first} to {shot.solved_last} in {bpy.path.abspath(shot.cache)}")
    bpy.ops.wm.save_mainfile()


if __name__ == "__main__":
    solve(*map(Path, sys.argv[-3:]))
