"""The Blender side: for now one panel that says where the work is done. The only folder that imports bpy."""

import bpy


class UNDERSTUDY_PT_about(bpy.types.Panel):
    """Tells how to train and solve, which runs outside Blender."""

    bl_label = "Understudy"
    bl_idname = "UNDERSTUDY_PT_about"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Understudy"

    def draw(self, context):
        column = self.layout.column()
        column.label(text="Train and solve on the command line:")
        column.label(text="understudy --help", icon="CONSOLE")
        column.label(text="Show a solved .pc2 with a Mesh Cache modifier.")


CLASSES = (UNDERSTUDY_PT_about,)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
