"""What follows when a property of a shot changes: called by the update functions in properties.py."""

import bpy

from . import outputs, plate


def timing(scene: bpy.types.Scene, shot) -> None:
    """Move whatever exists of a shot to where its timing now puts it."""
    outputs.retime(scene, shot)
    plate.retime(scene, shot)


def active_shot(scene: bpy.types.Scene) -> None:
    """Show the active shot and hide the others, in the viewport and in renders."""
    settings = scene.understudy
    for shot in settings.shots:
        collection = bpy.data.collections.get(shot.uid and _collection_name(shot))
        if collection is not None:
            collection.hide_viewport = collection.hide_render = shot.uid != settings.shot.uid


def _collection_name(shot) -> str:
    return shot.name
