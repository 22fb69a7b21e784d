"""Where a tracked face comes from: a mesh cache, a file that Blender imports, or an object of the scene.

A file is imported into a scene of its own, which is gone afterwards with all that came with it.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np

from ..core.errors import UnderstudyError
from ..core.meshcache import read_cache
from ..core.topology import Mesh
from . import capture
from .timing import mapping, scene_fps

CACHES = (".pc2", ".mdd", ".npy", ".npz")
# suffix -> (operators, the first that is there is used; options)
IMPORTERS = {
    ".abc": (("wm.alembic_import",), {"as_background_job": False}),
    **{suffix: (("wm.usd_import",), {}) for suffix in (".usd", ".usda", ".usdc", ".usdz")},
    ".fbx": (("wm.fbx_import", "import_scene.fbx"), {}),
    **{suffix: (("import_scene.gltf",), {}) for suffix in (".gltf", ".glb")}}
SUFFIXES = (*CACHES, *IMPORTERS, ".obj")


@dataclass(frozen=True)
class Track:
    """name : for people.    count : samples.    sample(index) : (V, 3) float32 in the units and axes of the source.

    faces : in words, how the faces compare with the template's.    first : source frame of sample 0, if it is known.
    """

    name: str
    count: int
    sample: Callable[[int], np.ndarray]
    faces: str
    first: int | None = None


@contextlib.contextmanager
def opened(scene: bpy.types.Scene, shot, template: Mesh, filepath: Path | None = None,
           object: bpy.types.Object | None = None, fps: float = 0.0) -> Iterator[Track]:
    """A track from a file, or from an object of the scene over the frames of a shot.

    fps : frames a second at which files that know times, not frames, are looked at; 0 is as the footage.
    Raises UnderstudyError if it cannot be read or has another number of vertices than the template.
    """
    if object is not None:
        with _of_object(scene, shot, object, template) as track:
            yield track
        return
    path = filepath.parent if filepath.suffix.lower() == ".obj" else filepath  # one file of a folder of them
    if path.is_dir() or path.suffix.lower() in CACHES:
        cache = read_cache(path)
        if cache.shape[1] != len(template.vertices):
            raise UnderstudyError(f"{path.name} has {cache.shape[1]} vertices, but the template has "
                                  f"{len(template.vertices)}. Export the mesh with the template's topology.")
        yield Track(path.name, len(cache), lambda index: np.asarray(cache[index], np.float32),
                    "It has no faces; the order of its vertices is judged by the edges")
        return
    if not path.is_file():
        raise UnderstudyError(f"There is no file {path}.")
    if path.suffix.lower() not in IMPORTERS:
        raise UnderstudyError(f"{path.name} is no track that can be read here: use PC2, MDD, npy, npz, Alembic, USD, "
                              "FBX, glTF or a folder of OBJ files.")
    with _imported(path, fps or (shot.fps if shot is not None else 0) or scene_fps(scene)) as (there, objects, last):
        found = _face_of(objects, there, template, path.name)
        yield _played(there, found, template, path.name, [float(frame) for frame in range(there.frame_start, last + 1)])


@contextlib.contextmanager
def _of_object(scene: bpy.types.Scene, shot, object: bpy.types.Object, template: Mesh) -> Iterator[Track]:
    frames = mapping(scene, shot)
    first, last = shot.first, shot.last
    if not shot.frames:
        first, last = (max(0, round(frames.source(time))) for time in (scene.frame_start, scene.frame_end))
    times = [frames.scene(source) for source in range(first, last + 1)]
    with capture.playing(scene):
        layer = capture.layer_of(scene, object)
        with capture.before_topology_changes(layer, object, template):
            track = _played(scene, object, template, object.name, times)
            yield Track(track.name, track.count, track.sample, track.faces, first)


def _played(scene: bpy.types.Scene, object: bpy.types.Object, template: Mesh, name: str,
            times: list[float]) -> Track:
    """A track of what an object shows at the given frames, in the scene's space."""
    layer = capture.layer_of(scene, object)

    def sample(index: int) -> np.ndarray:
        capture.go(scene, times[index])
        matrix = np.array(capture.shown(layer, object).matrix_world)
        return capture.vertices(layer, object, len(template.vertices)) @ matrix[:3, :3].T + matrix[:3, 3]

    same = capture.has_topology(capture.shown(layer, object).data, template)
    return Track(name, len(times), sample, "Its faces are the template's" if same else
                 "Its faces are not the template's; the order of its vertices is judged by the edges")


def _face_of(objects: list[bpy.types.Object], scene: bpy.types.Scene, template: Mesh, name: str) -> bpy.types.Object:
    """The one of the imported objects that has the template's vertices; best its faces too."""
    meshes = [one for one in objects if one.type == "MESH"]
    layer = scene.view_layers[0]
    scene.frame_set(scene.frame_start)
    counts = {one.name: len(capture.shown(layer, one).data.vertices) for one in meshes}
    fitting = [one for one in meshes if counts[one.name] == len(template.vertices)]
    fitting.sort(key=lambda one: not capture.has_topology(capture.shown(layer, one).data, template))
    if not fitting:
        listed = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items())[:6]) or "no mesh"
        raise UnderstudyError(f"No mesh in {name} has the template's {len(template.vertices)} vertices; there are: "
                              f"{listed}. Export the mesh with the template's topology, without split vertices.")
    return fitting[0]


@contextlib.contextmanager
def _imported(path: Path, fps: float) -> Iterator[tuple[bpy.types.Scene, list[bpy.types.Object], int]]:
    """Import a file into a new scene of that frame rate: the scene, its objects and its last frame with motion."""
    before = set(bpy.data.user_map())
    scene = bpy.data.scenes.new(".understudy track")
    try:
        scene.frame_start = scene.frame_end = 1
        scene.render.fps = max(1, round(fps))
        scene.render.fps_base = scene.render.fps / fps
        _import(scene, path)
        for key in set(bpy.data.shape_keys) - before:
            for block in key.key_blocks:  # values outside the sliders would be cut off, and files know no sliders
                block.slider_min, block.slider_max = -10, 10
        moves = [bound for action in set(bpy.data.actions) - before for bound in action.frame_range]
        if scene.frame_end == scene.frame_start and moves:  # the importer has not said how long it is
            scene.frame_start, last = int(np.floor(min(moves))), int(np.ceil(max(moves)))
        else:
            last = scene.frame_end
        objects = [one for one in bpy.data.objects if one not in before]
        for one in objects:
            if one.name not in scene.objects:
                scene.collection.objects.link(one)
        yield scene, objects, last
    finally:
        bpy.data.batch_remove(set(bpy.data.user_map()) - before)


def _import(scene: bpy.types.Scene, path: Path) -> None:
    names, options = IMPORTERS[path.suffix.lower()]
    for name in names:
        module, _, function = name.partition(".")
        operator = getattr(getattr(bpy.ops, module), function)
        try:
            operator.get_rna_type()
        except KeyError:
            continue
        known = operator.get_rna_type().properties
        layer = scene.view_layers[0]
        try:
            with bpy.context.temp_override(scene=scene, view_layer=layer, collection=scene.collection,
                                           layer_collection=layer.layer_collection):
                result = operator(filepath=str(path), **{key: value for key, value in options.items() if key in known})
        except RuntimeError as error:
            raise UnderstudyError(f"Blender cannot import {path.name}: {str(error).strip()}") from error
        if result != {"FINISHED"}:
            raise UnderstudyError(f"Blender could not import {path.name}. Look at it in another program, or export it "
                                  "again.")
        return
    raise UnderstudyError(f"This Blender has no importer for {path.suffix} files. Enable its add-on in the "
                          "preferences.")
