"""Operators, a file for each step of the work. They gather, call one function, report."""

import bpy

from . import actor, cleaning, footage, live, marking, outputs, review, shots, solve, tracking, training

MODULES = (actor, shots, footage, solve, live, outputs, cleaning, review, tracking, marking, training)


def register() -> None:
    for module in MODULES:
        for cls in module.CLASSES:
            bpy.utils.register_class(cls)


def unregister() -> None:
    for module in reversed(MODULES):
        for cls in reversed(module.CLASSES):
            bpy.utils.unregister_class(cls)
