"""What a frame costs in Blender: a solve in its three forms and with a correction, against Blender's plain Mesh Cache.

    .venv-bpy/5.0/bin/python benchmarks/playback.py ACTOR [--frames 2000] [--rounds 7]

ACTOR is an actor folder with a model and cleaned shots; their frames, as the model's components give them, are the
solve. Each side is a face in a scene of its own; the sides take turns, so that what slows a round down falls out of the
ratios. Cost is that of evaluating the scene at one frame after the other, as playing does; drawing comes on top.
"""

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import bpy
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
STEP = 200  # frames that a side plays in a round


def load(name: str, path: Path, **options):
    """A module from a file, known by a name."""
    spec = importlib.util.spec_from_file_location(name, path, **options)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("actor", type=Path)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    load("understudy", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]).register()
    with tempfile.TemporaryDirectory() as folder:
        cache = write_solve(arguments.actor, arguments.frames, Path(folder))
        sides = make_sides(arguments.actor, cache, arguments.frames)
        costs: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(arguments.rounds):
            for name, scene in sides.items():
                costs[name].append(play(scene, 1 + number * STEP % max(1, arguments.frames - STEP)))
        print(table(costs, cache, arguments.frames))


def write_solve(actor: Path, count: int, folder: Path) -> Path:
    """A solve as the worker writes it, from the actor's shots: cache, codes and sidecar."""
    from understudy.core.actor import Actor
    from understudy.core.files import write_json
    from understudy.core.meshcache import cache_writer
    from understudy.core.modelfile import ModelFile

    model = ModelFile.load(actor / "model.safetensors")
    weights, mean = model.head()
    samples = np.concatenate([shot.vertices() for shot in Actor.load(actor).training_shots()])[:count]
    if len(samples) < count:
        sys.exit(f"The shots of {actor} have only {len(samples)} frames; ask for fewer with --frames.")
    codes = np.linalg.lstsq(weights, samples[:, model.animated].reshape(count, -1).T - mean[:, None], rcond=1e-6)[0].T
    codes = np.ascontiguousarray(codes, np.float32)
    cache = folder / "take.v001.pc2"
    with cache_writer(cache, len(model.template.vertices), count) as writer:
        for code in codes:
            frame = model.template.vertices.copy()
            frame[model.animated] = (weights @ code + mean).reshape(-1, 3)
            writer.write(frame[None])
    np.save(cache.with_suffix(".npy"), codes)
    write_json(cache.with_suffix(".json"), {
        "first": 0, "last": count - 1, "model_sha256": model.sha256(), "engine": "none", "device": "none",
        "crop": list(model.crop), "topology": model.topology, "confidence_mm": {}})
    return cache


def make_sides(actor: Path, cache: Path, count: int) -> dict[str, bpy.types.Scene]:
    """A scene for each side, with one face."""
    from understudy.blender_addon import edits, outputs, scene_io
    from understudy.core.modelfile import ModelFile

    model = ModelFile.load(actor / "model.safetensors")
    sides = {}
    for name, form in (("Blender's plain Mesh Cache", ""), ("Mesh Cache", "MESH_CACHE"), ("Basis Keys", "BASIS"),
                       ("Frame Keys", "FRAMES"), ("Mesh Cache with a correction", "MESH_CACHE"),
                       ("Basis Keys with a correction", "BASIS")):
        sides[name] = scene = bpy.data.scenes.new(name)
        face = scene_io.build_object(name, model.template, {})
        scene.collection.objects.link(face)
        if not form:
            modifier = face.modifiers.new("Plain", "MESH_CACHE")
            modifier.cache_format, modifier.filepath, modifier.frame_start = "PC2", str(cache), 1
            continue
        scene.understudy.model, scene.understudy.unit = str(model.path), model.unit
        shot = scene.understudy.shots.add()
        shot.uid, shot.name, shot.face, shot.cache = name, name, face, str(cache)
        shot.solved_first, shot.solved_last = 0, count - 1
        for _ in outputs.show(scene, shot, form):
            pass
        if name.endswith("correction"):
            block = edits.add(scene, shot, 1, last=count)
            scene_io.set_positions(block, scene_io.positions(block) + np.float32(0.1))
    return sides


def play(scene: bpy.types.Scene, first: int) -> float:
    """Milliseconds that a frame takes, over a stretch of frames."""
    scene.frame_set(first)
    began = time.perf_counter()
    for frame in range(first + 1, first + 1 + STEP):
        scene.frame_set(frame)
    return (time.perf_counter() - began) / STEP * 1000


def table(costs: dict[str, list[float]], cache: Path, count: int) -> str:
    """The medians, as Markdown, and every figure in a JSON comment."""
    plain = next(iter(costs.values()))
    vertices = (cache.stat().st_size - 32) // (12 * count)
    lines = [f"Blender {bpy.app.version_string}, {count} frames of {vertices} vertices, {len(plain)} rounds of {STEP}:",
             "", "| | ms a frame | against the plain modifier |", "| --- | ---: | ---: |"]
    for name, side in costs.items():
        ratio = statistics.median(own / other for own, other in zip(side, plain, strict=True))
        lines.append(f"| {name} | {statistics.median(side):.2f} | {ratio:.2f} |")
    return "\n".join([*lines, "", f"<!-- {json.dumps(costs)} -->"])


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # bpy 4.2 crashes while Python ends
