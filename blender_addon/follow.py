"""What follows when something of a shot changes: called by the update functions in properties.py and by the pump."""

from collections.abc import Callable, Iterable

import bpy

from . import faces, outputs, plate, pump, runtime, solving


def timing(scene: bpy.types.Scene, shot) -> None:
    """Move whatever exists of a shot to where its timing now puts it."""
    outputs.retime(scene, shot)
    plate.retime(scene, shot)


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
