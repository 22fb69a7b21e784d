"""Understudy: production facial performance capture with a network per actor (Laine et al., SCA 2017)."""

__version__ = "0.1.0"


def register() -> None:
    """Called by Blender when the extension is enabled; plain Python never imports the add-on."""
    from . import blender_addon

    blender_addon.register()


def unregister() -> None:
    """Called by Blender when the extension is disabled."""
    from . import blender_addon

    blender_addon.unregister()
