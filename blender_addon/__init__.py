"""The Blender side: what artists see, and the glue between the scene and core. The only folder that imports bpy."""

ROOT_PACKAGE = __package__.rpartition(".")[0]  # as Blender's preferences know this add-on

from . import (  # noqa: E402
    camera,
    cli,
    comparing,
    crop_gizmo,
    dailies,
    faces,
    follow,
    keymap,
    live,
    operators,
    panels,
    panels_cleaning,
    panels_review,
    panels_training,
    paths,
    plate,
    preferences,
    preview,
    properties,
    pump,
    training,
)

MODULES = (preferences, properties, paths, faces, camera, plate, crop_gizmo, preview, training, comparing, live,
           dailies, operators, keymap, panels, panels_review, panels_cleaning, panels_training, follow, pump, cli)


def register() -> None:
    for module in MODULES:
        module.register()


def unregister() -> None:
    for module in reversed(MODULES):
        module.unregister()
