"""What follows when something of a shot changes: called by the update functions in properties.py and by the pump.

Blender tells nobody that the frame rate of a scene has changed, nor what undo has brought back; so this looks, after
every change of the scene at two numbers, after undo and loading at every shot.
"""

from collections.abc import Callable, Iterable

import bpy
from bpy.app.handlers import persistent

from . import faces, head, outputs, plate, pump, review_curves, runtime, solving
from . import timing as frames


def timing(scene: bpy.types.Scene, shot) -> None:
    """Move whatever exists of a shot to where its timing now puts it."""
    outputs.retime(scene, shot)
    plate.retime(scene, shot)
    head.retime(scene, shot)
    review_curves.retime(scene, shot)


def rate(scene: bpy.types.Scene) -> None:
    """Move all shots of a scene to where its frame rate now puts them."""
    settings = scene.understudy
    settings.rate = frames.scene_fps(scene)
    for shot in settings.shots:
        timing(scene, shot)


@persistent
def _changed(scene: bpy.types.Scene, *_: object) -> None:
    settings = scene.understudy
    if settings.shots and abs(settings.rate - frames.scene_fps(scene)) > 1e-4 and scene.library is None:
        rate(scene)


@persistent
def _brought_back(*_: object) -> None:
    for scene in bpy.data.scenes:
        for shot in scene.understudy.shots:
            run = runtime.run_of(shot.uid)
            if run is None or not run.active:
                outputs.settle(scene, shot)


def active_shot(scene: bpy.types.Scene) -> None:
    """Show the active shot and hide the others, in the viewport and in renders."""
    settings = scene.understudy
    for collection in scene.collection.children_recursive:
        uid = collection.get("understudy_shot")
        if uid is not None and settings.find(uid) is not None:
            collection.hide_viewport = collection.hide_render = uid != settings.shot.uid


def probed(uids: Iterable[str], step: str) -> Callable[[str, str], None]:
    """What to do when the facts of each shot's footage are there: make its face and plate, or keep what is wrong.

    The shots are one undo step together, called `step`, when the last of them is there.
    """
    waiting = set(uids)

    def then(uid: str, text: str) -> None:
        runtime.footage_text[uid] = text
        found = solving.find(uid)
        if found is not None and not text:
            scene, shot = found
            faces.ensure(scene, shot)
            plate.update(scene, shot)
            active_shot(scene)
        waiting.discard(uid)
        if not waiting:
            pump.undo_step(step)

    return then


_HANDLERS = (("depsgraph_update_post", _changed), ("undo_post", _brought_back), ("redo_post", _brought_back),
             ("load_post", _brought_back))


def register() -> None:
    for name, handler in _HANDLERS:
        getattr(bpy.app.handlers, name).append(handler)


def unregister() -> None:
    for name, handler in _HANDLERS:
        getattr(bpy.app.handlers, name).remove(handler)
