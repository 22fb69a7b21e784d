"""Disabling the add-on leaves Blender as it was before, so that it can be enabled again and upgraded."""

import bpy


def state() -> dict[str, set]:
    """What an add-on may leave in Blender: types and properties, operators, handlers, menu entries, keys."""
    types = {name: getattr(bpy.types, name) for name in dir(bpy.types)}
    keys = bpy.context.window_manager.keyconfigs.addon.keymaps
    return {
        "properties": {(name, key) for name, cls in types.items() if hasattr(cls, "bl_rna")
                       for key in cls.bl_rna.properties.keys()},
        "operators": {(module, name) for module in dir(bpy.ops) for name in dir(getattr(bpy.ops, module))},
        "handlers": {(name, function) for name in dir(bpy.app.handlers)
                     if isinstance(functions := getattr(bpy.app.handlers, name), list) for function in functions},
        "menu entries": {(name, function) for name, cls in types.items()
                         for function in getattr(getattr(cls, "draw", None), "_draw_funcs", ())
                         if function.__module__.startswith("understudy")},
        "keys": {(keymap.name, item.idname) for keymap in keys for item in keymap.keymap_items},
    }


def test_unregister_leaves_no_trace(registered, monkeypatch):
    timers, commands = [], []
    register_timer = bpy.app.timers.register
    register_command, unregister_command = bpy.utils.register_cli_command, bpy.utils.unregister_cli_command

    def note_timer(function, **options):
        timers.append(function)
        register_timer(function, **options)

    def note_command(name, execute):
        commands.append(register_command(name, execute))
        return commands[-1]

    def forget_command(handle):
        commands.remove(handle)
        unregister_command(handle)

    registered.unregister()
    without = state()
    monkeypatch.setattr(bpy.app.timers, "register", note_timer)
    monkeypatch.setattr(bpy.utils, "register_cli_command", note_command)
    monkeypatch.setattr(bpy.utils, "unregister_cli_command", forget_command)
    for _ in range(2):
        registered.register()
        assert state()["properties"] > without["properties"]
        registered.unregister()
        assert {kind: found - without[kind] for kind, found in state().items()} == {kind: set() for kind in without}
        assert [function for function in timers if bpy.app.timers.is_registered(function)] == []
        assert commands == []
    monkeypatch.undo()
    registered.register()
