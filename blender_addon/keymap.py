"""The keys of the add-on. Whoever wants others changes them in the add-on's preferences, or in Blender's keymap."""

from collections.abc import Iterator

import bpy

MAP = "3D View"
# J goes from one render slot to the next in the Image Editor; over a 3D viewport only Edit Mode uses it, and keeps it.
KEYS = (("understudy.show_toggle", "J", False), ("understudy.frame_suggested", "J", True))  # the last is Shift

_added: list[tuple[bpy.types.KeyMap, bpy.types.KeyMapItem]] = []


def items() -> Iterator[tuple[bpy.types.KeyMap, bpy.types.KeyMapItem]]:
    """Our keys as the user has them now; none without a window."""
    keys = bpy.context.window_manager.keyconfigs.user
    found = keys.keymaps.get(MAP) if keys is not None else None
    for item in found.keymap_items if found is not None else ():
        if item.idname in {operator for operator, _, _ in KEYS}:
            yield found, item


def shown(operator: str) -> str:
    """The key of an operator in words; empty if it has none."""
    return next((item.to_string() for _, item in items() if item.idname == operator and item.active), "")


def draw(layout: bpy.types.UILayout) -> None:
    """Our keys, to be changed."""
    import rna_keymap_ui  # Blender's own, where there is a window

    for keymap, item in items():
        layout.context_pointer_set("keymap", keymap)
        rna_keymap_ui.draw_kmi([], bpy.context.window_manager.keyconfigs.user, keymap, item, layout, 0)


def register() -> None:
    keys = bpy.context.window_manager.keyconfigs.addon
    if keys is None:  # without a window
        return
    added = keys.keymaps.new(MAP, space_type="VIEW_3D")
    for operator, key, shift in KEYS:
        _added.append((added, added.keymap_items.new(operator, key, "PRESS", shift=shift)))


def unregister() -> None:
    for keymap, item in _added:
        keymap.keymap_items.remove(item)
    _added.clear()
