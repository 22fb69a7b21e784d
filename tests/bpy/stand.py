"""A small actor with a solved shot, made with numpy alone: what the tests of the outputs stand on."""

import json
import struct
from pathlib import Path
from types import SimpleNamespace

import bpy
import numpy as np

from understudy.blender_addon import scene_io
from understudy.core.meshcache import cache_writer
from understudy.core.topology import Mesh, make_mesh

KINDS = {"f": "F32", "i": "I32", "u": "U8"}
UNIT = 0.01


def grid(side: int = 9) -> Mesh:
    """A curved sheet of quads, about 8 units wide."""
    x, y = np.meshgrid(np.arange(float(side)), np.arange(float(side)), indexing="ij")
    vertices = np.stack([x, y, 0.3 * np.sin(x) + 0.2 * np.cos(y)], -1).reshape(-1, 3)
    faces = [[i * side + j, i * side + j + 1, (i + 1) * side + j + 1, (i + 1) * side + j]
             for i in range(side - 1) for j in range(side - 1)]
    return make_mesh(vertices, np.full(len(faces), 4), np.array(faces).ravel())


def write_model(path: Path, template: Mesh, animated: np.ndarray, weights: np.ndarray, mean: np.ndarray) -> None:
    """A model file with just what ModelFile reads; weights (3A, K) and mean (3A,) in mesh units of a centimetre."""
    arrays = {"output.weight": weights, "output.bias": mean, "mask.animated": animated,
              "mask.stabiliser": np.array([0], np.int32), "region.lips": animated[:4],
              "template.vertices": template.vertices, "template.face_sizes": template.face_sizes,
              "template.face_indices": template.face_indices}
    header, blobs, at = {}, [], 0
    for name, array in arrays.items():
        blob = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": KINDS[array.dtype.kind], "shape": array.shape, "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    about = {"format": 1, "actor": "Zoë", "topology": template.hash, "unit": UNIT, "crop": [0, 0, 240, 320],
             "transfer": "sRGB", "architecture": {"name": "convolutional", "components": weights.shape[1]}}
    header["__metadata__"] = {"understudy": json.dumps(about)}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def write_solve(path: Path, template: Mesh, animated: np.ndarray, weights: np.ndarray, mean: np.ndarray,
                codes: np.ndarray, first: int, model: str = "m") -> np.ndarray:
    """A solve as the worker leaves it: cache, codes and sidecar. Returns its positions (n, V, 3)."""
    samples = np.repeat(template.vertices[None], len(codes), 0)
    samples[:, animated] = (codes @ weights.T + mean).reshape(len(codes), -1, 3)
    with cache_writer(path, len(template.vertices), len(codes)) as writer:
        writer.write(samples)
    np.save(path.with_suffix(".npy"), codes)
    part = {"first": first, "last": first + len(codes) - 1, "model_sha256": model, "engine": "torch", "device": "cpu",
            "crop": [0, 0, 240, 320]}
    sidecar = {**part, "topology": template.hash, "confidence_mm": {"animated": [0.1] * len(codes)}}
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    return samples


def make_codes(count: int, components: int, seed: int = 0) -> np.ndarray:
    """Smooth codes of very different sizes, one of them constant zero."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.standard_normal((count, components)), 0) * np.geomspace(0.02, 3, components)
    walk[:, components // 2] = 0
    return walk.astype(np.float32)


def make_stand(folder: Path, count: int = 12, components: int = 5, first: int = 3, side: int = 9):
    """A scene with an actor and a solved shot without form: .scene .shot .face .samples .codes .first, ..."""
    rng = np.random.default_rng(5)
    template = grid(side)
    animated = np.arange(side, len(template.vertices) - 2, dtype=np.int32)
    weights = (0.2 * rng.standard_normal((3 * len(animated), components))).astype(np.float32)
    mean = (template.vertices[animated] + 0.1).ravel().astype(np.float32)
    codes = make_codes(count, components)
    model, cache = folder / "model.safetensors", folder / "take ä.v001.pc2"
    write_model(model, template, animated, weights, mean)
    samples = write_solve(cache, template, animated, weights, mean, codes, first)
    stand = SimpleNamespace(template=template, animated=animated, weights=weights, mean=mean, codes=codes,
                            samples=samples, first=first, folder=folder, cache=cache, model=model, unit=UNIT)
    fill_scene(stand)
    return stand


def fill_scene(stand) -> None:
    """Put actor, shot and face of a stand into the scene."""
    scene = bpy.context.scene
    scene.render.fps, scene.render.fps_base = 24, 1
    settings = scene.understudy
    settings.model, settings.topology = str(stand.model), stand.template.hash
    settings.vertices, settings.components = len(stand.template.vertices), stand.codes.shape[1]
    face = scene_io.build_object("Zoë", stand.template, {"animated": stand.animated})
    scene.collection.objects.link(face)
    shot = settings.shots.add()
    shot.uid, shot.name, shot.face, shot.fps = "abc", "take", face, 60
    shot.anchor_source, shot.anchor_scene = stand.first, 101
    shot.first, shot.last = stand.first, stand.first + len(stand.codes) - 1
    shot.cache, shot.solved_first, shot.solved_last = str(stand.cache), shot.first, shot.last
    stand.scene, stand.shot, stand.face = scene, shot, face


def solve_again(stand, seed: int = 9) -> np.ndarray:
    """A newer solve of the same frames becomes the shot's."""
    path = stand.folder / "take ä.v002.pc2"
    stand.codes = make_codes(len(stand.codes), stand.codes.shape[1], seed)
    stand.samples = write_solve(path, stand.template, stand.animated, stand.weights, stand.mean, stand.codes,
                                stand.first)
    stand.shot.cache = str(path)
    return stand.samples


def look(face: bpy.types.Object, time: float) -> np.ndarray:
    """What a face shows at a scene frame, (V, 3) in object space."""
    scene = bpy.context.scene
    scene.frame_set(int(np.floor(time)), subframe=time - np.floor(time))
    return scene_io.positions(face.evaluated_get(bpy.context.evaluated_depsgraph_get()).data)


def between(samples: np.ndarray, index: float) -> np.ndarray:
    """Samples at a fraction, straight between two, held at both ends."""
    index = min(max(index, 0), len(samples) - 1)
    low = min(int(index), len(samples) - 2) if len(samples) > 1 else 0
    part = index - low
    return (1 - part) * samples[low].astype(np.float64) + part * samples[min(low + 1, len(samples) - 1)]
