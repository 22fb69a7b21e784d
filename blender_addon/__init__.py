"""The Blender side: what artists see, and the glue between the scene and core. The only folder that imports bpy."""

ROOT_PACKAGE = __package__.rpartition(".")[0]  # as Blender's preferences know this add-on

from . import operators, preferences, properties  # noqa: E402

MODULES = (preferences, properties, operators)


def register() -> None:
    for module in MODULES:
        module.register()


def unregister() -> None:
    for module in reversed(MODULES):
        module.unregister()
