"""Scenario: the sidebar's tab and the keys are there, go with the add-on, and come back."""

import bpy
import drive

ID = "bl_ext.user_default.understudy"
OURS = ["J", "Shift J"]


def keys() -> list[str]:
    """Our keys over a 3D viewport, as the user has them."""
    found = bpy.context.window_manager.keyconfigs.user.keymaps["3D View"].keymap_items
    return sorted(item.to_string() for item in found if item.idname.startswith("understudy."))


def story():
    assert hasattr(bpy.types.Scene, "understudy")
    assert keys() == OURS, keys()
    taken = [item.idname for name in ("3D View", "3D View Generic", "Object Mode", "Sculpt", "Screen", "Window")
             for item in bpy.context.window_manager.keyconfigs.default.keymaps[name].keymap_items
             if item.type == "J" and not (item.ctrl or item.alt or item.oskey)]
    assert not taken, taken
    yield from drive.sidebar("Understudy")
    yield from drive.shot("enabled")
    bpy.ops.preferences.addon_disable(module=ID)
    yield from drive.shot("disabled")
    assert not hasattr(bpy.types.Scene, "understudy") and not keys()
    bpy.ops.preferences.addon_enable(module=ID)
    bar = yield from drive.sidebar("Understudy")
    assert bar.active_panel_category == "Understudy"
    assert keys() == OURS
    yield from drive.shot("again")
    bpy.ops.screen.userpref_show()
    yield 1.0
    bpy.context.preferences.active_section = "ADDONS"
    bpy.context.window_manager.addon_search = "Understudy"
    bpy.ops.preferences.addon_expand(module=ID)
    yield from drive.shot("preferences")
    with drive.Gaps() as gaps:
        yield 1.0
    assert gaps.count > 10


drive.run(story)
