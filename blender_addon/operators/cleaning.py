"""Step 4: what helps to clean a solve."""

import bpy
from bpy.props import BoolProperty, EnumProperty

from ...core.errors import UnderstudyError
from .. import cleaning, edits, keymap
from .outputs import leave_mode, solved_shot_of

ORDER = ("EDITED", "SOLVE", "PLATE")
SHOWS = {"EDITED": "The solve with your corrections", "SOLVE": "The solve alone", "PLATE": "The plate alone"}

_left: dict[str, str] = {}  # uid of a shot -> the mode that comparing has left, to come back to it


class UNDERSTUDY_OT_edit_project(bpy.types.Operator):
    """Change the active correction so that the present frame is the nearest one that the actor's own components can \
show, and say in mm what is lost"""

    bl_idname = "understudy.edit_project"
    bl_label = "Project onto Actor"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        if not context.scene.understudy.model_sha256:
            cls.poll_message_set("The actor has no model yet")
            return False
        return solved_shot_of(cls, context) is not None

    def execute(self, context):
        scene, shot = context.scene, context.scene.understudy.shot
        mode = leave_mode(context, shot.face)
        try:
            name, mean, most = cleaning.project(scene, shot)
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        finally:
            if mode != "OBJECT" and context.view_layer.objects.active == shot.face:
                bpy.ops.object.mode_set(mode=mode)
        self.report({"INFO"}, f"{name} is now what the actor can do; {mean:.2f} mm RMS of it are not, {most:.2f} mm at "
                              "most.")
        return {"FINISHED"}


class UNDERSTUDY_OT_frame_suggested(bpy.types.Operator):
    """Go to the next frame that is worth cleaning: farthest from the cleaned shot, or where there is none, of the \
largest error to be expected; spread over the shot, away from frames that have a correction"""

    bl_idname = "understudy.frame_suggested"
    bl_label = "Next Suggested Frame"
    bl_options = {"REGISTER"}

    back: BoolProperty(name="Back", options={"SKIP_SAVE"}, description="Go to the suggestion before instead")

    @classmethod
    def description(cls, context, properties):
        key = keymap.shown(cls.bl_idname)
        return cls.__doc__ + (f"; {key} over the viewport" if key else "")

    @classmethod
    def poll(cls, context):
        return solved_shot_of(cls, context) is not None

    def execute(self, context):
        scene, shot = context.scene, context.scene.understudy.shot
        try:
            text = cleaning.go_to_next(scene, shot, -1 if self.back else 1)
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, text)
        return {"FINISHED"}


class UNDERSTUDY_OT_show_toggle(bpy.types.Operator):
    """Show in turn the solve with your corrections, the solve alone, and the plate alone"""

    bl_idname = "understudy.show_toggle"
    bl_label = "Compare Solve, Edit and Plate"
    bl_options = {"REGISTER", "UNDO"}

    show: EnumProperty(name="Show", items=(
        ("NEXT", "Next", "Show in turn the solve with your corrections, the solve alone, and the plate alone"),
        ("EDITED", "Edited", "Show the solve with your corrections"), ("SOLVE", "Solve", "Show the solve alone"),
        ("PLATE", "Plate", "Show the plate alone")), options={"SKIP_SAVE"}, description="What is shown from now on")

    @classmethod
    def description(cls, context, properties):
        text = cls.bl_rna.properties["show"].enum_items[properties.show].description
        key = keymap.shown(cls.bl_idname)
        return f"{text}; {key} over the viewport goes from one to the next" if key else text

    @classmethod
    def poll(cls, context):
        return solved_shot_of(cls, context) is not None

    def execute(self, context):
        shot = context.scene.understudy.shot
        mode = leave_mode(context, shot.face)
        if mode != "OBJECT":
            _left[shot.uid] = mode
        shot.compare = ORDER[(ORDER.index(shot.compare) + 1) % 3] if self.show == "NEXT" else self.show
        if shot.compare == "EDITED" and shot.uid in _left and context.view_layer.objects.active == shot.face:
            bpy.ops.object.mode_set(mode=_left.pop(shot.uid))
        self.report({"INFO"}, SHOWS[shot.compare])
        return {"FINISHED"}


class UNDERSTUDY_OT_edits_switch(bpy.types.Operator):
    """Switch all corrections of the active shot off, or on if they are off. A model that has learned from them no \
longer needs them on top of its solve"""

    bl_idname = "understudy.edits_switch"
    bl_label = "Switch All Corrections"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        shot = solved_shot_of(cls, context)
        if shot is not None and not edits.listed(shot.face):
            cls.poll_message_set(f"{shot.name} has no corrections")
            return False
        return shot is not None

    def execute(self, context):
        shot = context.scene.understudy.shot
        shot.compare = "EDITED"  # comparing mutes too
        found = edits.listed(shot.face)
        off = not all(block.mute for block in found)
        for block in found:
            block.mute = off
        self.report({"INFO"}, f"{len(found)} corrections are {'off' if off else 'on'}.")
        return {"FINISHED"}


CLASSES = (UNDERSTUDY_OT_edit_project, UNDERSTUDY_OT_frame_suggested, UNDERSTUDY_OT_show_toggle,
           UNDERSTUDY_OT_edits_switch)
