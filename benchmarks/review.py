"""What review costs in Blender: errors as colours on the face, frame by frame, and the strip along the timeline.

    .venv-bpy/5.0/bin/python benchmarks/review.py ACTOR [--frames 2000] [--rounds 5]

ACTOR is an actor folder with a model and cleaned shots, whose frames are the solve. "own" is our part of a frame change
(reading, comparing, colouring), "frame" the whole of it without drawing: Blender evaluates the mesh once more when its
colours have changed. For the strip, the time to make its columns, once for a solve, and what is sent to the GPU.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import bpy
import numpy as np
import playback

STEP = 100  # frames in a round


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("actor", type=Path)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    playback.load("understudy", playback.ROOT / "__init__.py",
                  submodule_search_locations=[str(playback.ROOT)]).register()
    with tempfile.TemporaryDirectory() as folder:
        cache = playback.write_solve(options.actor, options.frames, Path(folder))
        scene, shot = make_scene(options.actor, cache, options.frames)
        costs = {kind: measure(scene, shot, kind, options) for kind in ("off", "EXPECTED", "TRUTH", "EDITS")}
    print(f"Blender {bpy.app.version_string}, {len(shot.face.data.vertices)} vertices, {options.rounds} rounds of "
          f"{STEP} frames, medians and the slowest round:\n\n| colours | own, ms | frame, ms |\n| --- | ---: | ---: |")
    for kind, (own, whole) in costs.items():
        print(f"| {kind.lower()} | {told(own)} | {told(whole)} |")
    print(f"\nStrip of 10,000 frames: {strip():.1f} ms to make its columns, once.")
    print(f"<!-- {json.dumps(costs)} -->")


def told(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({max(values):.2f})" if values else ""


def make_scene(actor: Path, cache: Path, count: int):
    """A scene with one face that plays the solve, its sidecar telling of all regions."""
    from understudy.blender_addon import outputs, review, scene_io
    from understudy.core.meshcache import read_cache
    from understudy.core.modelfile import ModelFile

    model, sidecar = ModelFile.load(actor / "model.safetensors"), cache.with_suffix(".json")
    values = json.loads(sidecar.read_text())
    spread = np.abs(np.random.default_rng(0).normal(0.5, 0.3, count)).tolist()
    values["confidence_mm"] = {name: spread for name in ("all", *model.regions)}
    sidecar.write_text(json.dumps(values))
    scene = bpy.context.scene
    settings = scene.understudy
    settings.model, settings.model_sha256, settings.unit = str(model.path), model.sha256(), model.unit
    face = scene_io.build_object("face", model.template, {})
    scene.collection.objects.link(face)
    shot = settings.shots.add()
    shot.uid, shot.name, shot.face, shot.cache, shot.frames = "one", "one", face, str(cache), count
    shot.solved_first, shot.solved_last, shot.last = 0, count - 1, count - 1
    for _ in outputs.show(scene, shot, "MESH_CACHE"):
        pass
    known = review.read(scene, shot)
    known.truth = read_cache(cache)[::-1]  # another file's worth of reading
    return scene, shot


def measure(scene: bpy.types.Scene, shot, kind: str, options: argparse.Namespace) -> tuple[list[float], list[float]]:
    """Milliseconds of our part and of whole frame changes, a round each."""
    from understudy.blender_addon import edits, heat, scene_io

    settings = bpy.context.window_manager.understudy_review
    if kind == "EDITS":
        block = edits.add(scene, shot, 1, last=options.frames)
        scene_io.set_positions(block, scene_io.positions(block) + np.float32(0.1))
    if kind != "off":
        settings.against = kind
        heat.switch(bpy.context, True)
    own, whole = [], []
    for number in range(options.rounds + 1):
        first, mine = 1 + number * STEP % (options.frames - STEP), 0.0
        began = time.perf_counter()
        for frame in range(first, first + STEP):
            scene.frame_set(frame)
            mine += heat.last.get("ms", 0)
        whole.append((time.perf_counter() - began) * 1000 / STEP)
        own.append(mine / STEP)
    if kind != "off":
        heat.switch(bpy.context, False)
    return (own[1:] if kind != "off" else []), whole[1:]  # the first round reads files for the first time


def strip() -> float:
    """Milliseconds for the columns of 10,000 frames."""
    from understudy.blender_addon.review_strip import columns

    errors = np.abs(np.random.default_rng(0).normal(0.5, 0.3, 10_000)).astype(np.float32)
    began = time.perf_counter()
    columns(errors, np.zeros(10_000, bool), 2.0, 0)
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # bpy 4.2 crashes while Python ends
