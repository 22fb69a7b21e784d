"""The actor in the scene: reading it from its folder or model file, and the mesh of each shot."""

import contextlib
import functools
import uuid
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from bpy.app.handlers import persistent

from ..core.actor import Actor
from ..core.errors import UnderstudyError
from ..core.modelfile import ModelFile
from ..core.topology import Mesh
from . import outputs, scene_io
from .paths import absolute, relative, stamp


@dataclass
class Source:
    """An actor as the scene needs it, from its folder or from a model file alone."""

    path: Path
    name: str
    unit: float                    # metres per mesh unit
    crop: tuple[float, ...] | None
    template: Mesh
    animated: np.ndarray
    stabiliser: np.ndarray
    regions: dict[str, np.ndarray]
    model: ModelFile | None


def read(path: Path) -> Source:
    """Read an actor folder (with or without a model), its actor.json, or a model file. Raises UnderstudyError."""
    path = path.parent if path.name == "actor.json" else path
    if path.is_dir():
        actor = Actor.load(path)
        model = ModelFile.load(path / "model.safetensors") if (path / "model.safetensors").exists() else None
        if model is not None and model.topology != actor.template.hash:
            raise UnderstudyError(f"{model.path} was trained on another mesh than {path / 'template.obj'}. Train the "
                                  "actor again, or open the model file alone.")
        return Source(path, actor.name, actor.unit, actor.crop, actor.template, actor.animated, actor.stabiliser,
                      actor.regions, model)
    model = ModelFile.load(path)
    return Source(path, model.actor, model.unit, model.crop, model.template, model.animated, model.stabiliser,
                  model.regions, model)


def open_actor(scene: bpy.types.Scene, path: Path) -> Source:
    """Make an actor the scene's: its facts in `scene.understudy`, its template as an object. Raises UnderstudyError."""
    source = read(path)
    settings = scene.understudy
    if settings.topology and settings.topology != source.template.hash and any(shot.solved for shot in settings.shots):
        raise UnderstudyError(f"The solved shots of this scene have another mesh than {source.name}. Open the actor in "
                              "a scene of its own.")
    settings.actor, settings.actor_name = relative(source.path), source.name
    settings.topology, settings.vertices = source.template.hash, len(source.template.vertices)
    settings.unit = source.unit
    use_model(settings, source.model)
    settings.crop = source.crop or (0, 0, 0, 0)
    if not in_scene(scene, settings.template) or not _same(settings.template, source):
        settings.template = scene_io.build_object(source.name, source.template, _masks(source))
        scene_io.place(scene, settings.template, source.unit)
        scene.collection.objects.link(settings.template)
    return source


def use_model(settings, model: ModelFile | None) -> None:
    """Make a model the one that solves."""
    settings.model = relative(model.path) if model else ""
    settings.model_sha256 = model.sha256() if model else ""
    settings.model_stamp = stamp(model.path) if model else ""
    settings.components = model.components if model else 0


def refresh_model(settings) -> None:
    """Notice that the model file was replaced, for instance by training. Raises UnderstudyError if it is damaged."""
    if settings.model and settings.model_stamp != stamp(absolute(settings.model)):
        if not absolute(settings.model).exists():
            raise UnderstudyError(f"{absolute(settings.model)} is not there any more. Open the actor where it is now, "
                                  "or copy it back.")
        model = _model_at(absolute(settings.model), stamp(absolute(settings.model)))
        if model.topology != settings.topology:
            raise UnderstudyError(f"{model.path} is now a model of another mesh. Open its actor in a scene of its own.")
        use_model(settings, model)


@functools.lru_cache(maxsize=2)
def _model_at(path: Path, changed: str) -> ModelFile:
    """A model as it is since then; every undo to before a training asks for it, and its hash takes a while."""
    return ModelFile.load(path)


@persistent
def _brought_back(*_: object) -> None:
    """The model may have been trained further since the file was saved, or since what undo brings back."""
    for scene in bpy.data.scenes:
        with contextlib.suppress(UnderstudyError):  # whoever solves will hear of it
            refresh_model(scene.understudy)


_HANDLERS = ("load_post", "undo_post", "redo_post")


def register() -> None:
    for name in _HANDLERS:
        getattr(bpy.app.handlers, name).append(_brought_back)


def unregister() -> None:
    for name in _HANDLERS:
        getattr(bpy.app.handlers, name).remove(_brought_back)


def ensure(scene: bpy.types.Scene, shot) -> bpy.types.Object:
    """The shot's face, made from the actor's template if the scene has none, and checked against the model's topology.

    The first shot takes the template object itself. Raises UnderstudyError if the face's mesh is another one.
    """
    settings = scene.understudy
    if not in_scene(scene, shot.face):
        taken = {other.face for other in settings.shots if other.face is not None}
        template = settings.template
        if template not in taken and in_scene(scene, template):
            shot.face = template
        else:
            source = read(absolute(settings.actor))
            shot.face = scene_io.build_object(f"{settings.actor_name} {shot.name}", source.template, _masks(source))
            scene_io.place(scene, shot.face, source.unit)
        to_collection(scene, shot, shot.face)
    outputs.check_face(shot.face, settings.topology, lambda: read(absolute(settings.actor)).template)
    return shot.face


def in_scene(scene: bpy.types.Scene, object: bpy.types.Object | None) -> bool:
    """Whether an object is there for the artist: one that was deleted lives on while a shot names it."""
    return object is not None and scene in object.users_scene


def collection(scene: bpy.types.Scene, shot) -> bpy.types.Collection:
    """The collection that holds what belongs to a shot."""
    for found in scene.collection.children_recursive:
        if found.get("understudy_shot") == shot.uid:
            return found
    made = bpy.data.collections.new(shot.name)
    made["understudy_shot"] = shot.uid
    scene.collection.children.link(made)
    return made


def to_collection(scene: bpy.types.Scene, shot, object: bpy.types.Object) -> None:
    """Move an object into the shot's collection."""
    target = collection(scene, shot)
    if len(object.users_scene) < 2:  # not from under a linked copy of the scene
        for other in list(object.users_collection):
            if other is not target:
                other.objects.unlink(object)
    if object.name not in target.objects:
        target.objects.link(object)


def new_shot(scene: bpy.types.Scene, footage: Path | None, name: str = ""):
    """Add a shot to the scene's list; the facts of its footage, if there is any yet, are asked for later."""
    settings = scene.understudy
    shot = settings.shots.add()
    shot.uid = uuid.uuid4().hex
    name = name or footage.stem.rstrip("0123456789#%. _-") or footage.parent.name or "shot"
    shot.name = unique(settings, name, shot)
    shot.footage = relative(footage) if footage is not None else ""
    shot.anchor_scene = scene.frame_start
    settings.active = len(settings.shots) - 1
    return shot


def unique(settings, name: str, shot=None) -> str:
    """A name that no other shot of the scene has."""
    taken = {other.name for other in settings.shots if shot is None or other.uid != shot.uid}
    number, result = 2, name
    while result in taken:
        number, result = number + 1, f"{name} {number}"
    return result


def _same(object: bpy.types.Object, source: Source) -> bool:
    return object.data is not None and scene_io.mesh_of(object).hash == source.template.hash


def _masks(source: Source) -> dict[str, np.ndarray]:
    return {"animated": source.animated, "stabiliser": source.stabiliser, **source.regions}
