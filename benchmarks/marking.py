"""What Mark as Cleaned costs: 1,000 frames of an actor's face through an armature, and through 50 shape keys.

    .venv-bpy/5.0/bin/python benchmarks/marking.py ACTOR [--frames 1000] [--rounds 3]

ACTOR is an actor folder; a copy of it without shots takes the marked ones. Told are the whole time, and the longest
single step of the task: it is what a window could stall, drawing aside.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import bpy
import numpy as np
from playback import ROOT, load

KEYS, BONES = 50, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("actor", type=Path)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    load("understudy", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]).register()
    with tempfile.TemporaryDirectory() as folder:
        actor = Path(folder, "actor")
        actor.mkdir()
        for name in ("actor.json", "template.obj"):
            shutil.copy(arguments.actor / name, actor)
        Path(folder, "take.mp4").write_bytes(b"")
        vertices = 0
        lines = ["| | s | ms a frame | longest step, ms |", "| --- | ---: | ---: | ---: |"]
        for title, rig in (("armature", add_armature), (f"{KEYS} shape keys", add_keys)):
            shot = make_shot(actor, arguments.frames)
            rig(shot.face, arguments.frames)
            vertices = len(shot.face.data.vertices)
            rounds = [mark(shot) for _ in range(arguments.rounds)]
            whole = statistics.median(seconds for seconds, _ in rounds)
            lines.append(f"| {title} | {whole:.1f} | {1000 * whole / arguments.frames:.1f} | "
                         f"{statistics.median(longest for _, longest in rounds):.0f} |")
        print(f"Blender {bpy.app.version_string}, {arguments.frames} frames of {vertices} vertices, median of "
              f"{arguments.rounds}:\n")
        print("\n".join(lines))


def make_shot(actor: Path, frames: int):
    """A new scene with a shot of its own face."""
    from understudy.blender_addon import faces

    scene = bpy.data.scenes.new("Marking")
    bpy.context.window.scene = scene
    faces.open_actor(scene, actor)
    shot = faces.new_shot(scene, actor.parent / "take.mp4")
    shot.frames, shot.fps, shot.first, shot.last = frames, 24, 0, frames - 1
    faces.ensure(scene, shot)
    return shot


def add_keys(face: bpy.types.Object, frames: int) -> None:
    """Shape keys that all move all the time."""
    from understudy.blender_addon import curves, keys, scene_io

    rest, rng = scene_io.positions(face.data), np.random.default_rng(0)
    key = keys.ensure_key(face)
    times = np.arange(1, frames + 1, 10.0)
    for number in range(KEYS):
        block = face.shape_key_add(name=f"Pose {number}", from_mix=False)
        scene_io.set_positions(block, rest + 0.01 * np.ptp(rest) * np.sin(rest @ rng.normal(0, 0.1, (3, 3))))
        curves.write(key, keys.value_path(block.name), times, rng.uniform(0, 0.2, len(times)))


def add_armature(face: bpy.types.Object, frames: int) -> None:
    """Bones that all move, each vertex led by two of them."""
    from understudy.blender_addon.scene_io import positions

    scene = bpy.context.scene
    rig = bpy.data.objects.new("Rig", bpy.data.armatures.new("Rig"))
    scene.collection.objects.link(rig)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    for number in range(BONES):
        bone = rig.data.edit_bones.new(f"Bone {number}")
        bone.head, bone.tail = (0, 0, 0.005 * number), (0, 0, 0.005 * number + 0.01)
    bpy.ops.object.mode_set(mode="OBJECT")
    rng = np.random.default_rng(0)
    height = np.argsort(np.argsort(positions(face.data)[:, 1])) * (BONES - 1) // len(face.data.vertices)
    lead = np.stack([height, height + 1])
    for number, bone in enumerate(rig.pose.bones):
        members = np.flatnonzero((lead == number).any(axis=0))
        face.vertex_groups.new(name=bone.name).add(members.tolist(), 0.5, "REPLACE")
        for frame in range(1, frames + 1, 10):
            bone.location = rng.normal(0, 0.001, 3)
            bone.keyframe_insert("location", frame=frame)
    face.modifiers.new("Armature", "ARMATURE").object = rig


def mark(shot) -> tuple[float, float]:
    """Seconds that marking takes, and milliseconds of its longest step."""
    from understudy.blender_addon import marking, pump

    run = marking.mark(bpy.context.scene, shot)
    began, steps = time.perf_counter(), [0.0]
    while pump._tasks:
        before = time.perf_counter()
        if next(pump._tasks[0], None) is None:
            pump._tasks.pop()
        steps.append(time.perf_counter() - before)
    if run.state != "done":
        sys.exit(run.text)
    return time.perf_counter() - began, 1000 * max(steps)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # bpy 4.2 crashes while Python ends
