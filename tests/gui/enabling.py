"""Scenario: the sidebar's tab is there, goes with the add-on, and comes back."""

import bpy
import drive

ID = "bl_ext.user_default.understudy"


def story():
    assert hasattr(bpy.types.Scene, "understudy")
    yield from drive.sidebar("Understudy")
    yield from drive.shot("enabled")
    bpy.ops.preferences.addon_disable(module=ID)
    yield from drive.shot("disabled")
    assert not hasattr(bpy.types.Scene, "understudy")
    bpy.ops.preferences.addon_enable(module=ID)
    bar = yield from drive.sidebar("Understudy")
    assert bar.active_panel_category == "Understudy"
    with drive.Gaps() as gaps:
        yield 1.0
    assert gaps.count > 10
    yield from drive.shot("again")


drive.run(story)
