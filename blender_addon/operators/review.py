"""Step 4: look where a solve is wrong, and show it to others."""

import bpy
from bpy.props import BoolProperty, EnumProperty

from ...core.errors import UnderstudyError
from .. import dailies, heat, pump, review, review_curves
from .outputs import leave_mode, solved_shot_of


class SolvedShot:
    """An operator on the active shot, which is solved. `work` returns what to report."""

    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        return solved_shot_of(cls, context) is not None

    def execute(self, context):
        try:
            self.report({"INFO"}, self.work(context, context.scene.understudy.shot))
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class UNDERSTUDY_OT_errors_read(SolvedShot, bpy.types.Operator):
    """Read the errors of the active shot's solve again, and compare it again with the cleaned shot of its footage, \
if the actor has one"""

    bl_idname = "understudy.errors_read"
    bl_label = "Read Errors Again"

    def work(self, context, shot):
        known = review.read(context.scene, shot, again=True)
        if bpy.app.background:
            pump.finish()
        if known.errors is None:
            raise UnderstudyError(known.text)
        review.redraw()
        return f"Reads the errors of {shot.name}."


class UNDERSTUDY_OT_error_curves(SolvedShot, bpy.types.Operator):
    """Put the error of every frame, in mm, on the face as animated custom properties, to be seen in the Graph Editor: \
what is to be expected, and the distance from the cleaned shot"""

    bl_idname = "understudy.error_curves"
    bl_label = "Errors as Curves"
    bl_options = {"REGISTER", "UNDO"}

    remove: BoolProperty(name="Remove", options={"SKIP_SAVE"}, description="Take the curves off the face instead")

    def work(self, context, shot):
        if self.remove:
            review_curves.remove(shot.face)
            return f"{shot.face.name} has no error curves any more."
        return f"{shot.face.name} has {' and '.join(review_curves.write(context.scene, shot))}; select it in the " \
               "Graph Editor."


class UNDERSTUDY_OT_heat_switch(SolvedShot, bpy.types.Operator):
    """Show the error of every vertex as colours that follow the frame, in the viewports of this window; once more \
puts their shading back as it was"""

    bl_idname = "understudy.heat_switch"
    bl_label = "Errors as Colours"
    bl_options = {"REGISTER", "UNDO"}

    def work(self, context, shot):
        on = not context.window_manager.understudy_review.heat
        leave_mode(context, shot.face)
        heat.switch(context, on)
        return heat.TITLES[heat.last["kind"]] + "." if on else "Viewports are shaded as before."


class UNDERSTUDY_OT_dailies_make(SolvedShot, bpy.types.Operator):
    """Make a contact sheet, a movie for dailies, or a page for the supervisor of the active shot's solve, in a \
process beside Blender"""

    bl_idname = "understudy.dailies_make"
    bl_label = "Make Dailies"

    kind: EnumProperty(name="Kind", items=(
        ("sheet", "Contact Sheet", "A picture of the worst, the median and the best frames and of every Nth: input, "
                                   "solve and error"),
        ("dailies", "Movie", "Plate, mesh and error side by side, with frame numbers burnt in"),
        ("report", "Page", "One page with figures, curves, what differs from training, and the frames to look at")),
        options={"SKIP_SAVE"}, description="What to make")

    @classmethod
    def description(cls, context, properties):
        return cls.bl_rna.properties["kind"].enum_items[properties.kind].description

    def work(self, context, shot):
        settings = context.window_manager.understudy_review
        made = dailies.start(context.scene, shot, self.kind, settings.folder)
        if bpy.app.background:
            dailies.finish()
            if made.job.state.state != "done":
                raise UnderstudyError(made.job.state.text)
            return f"Wrote {made.path}."
        return f"Makes {made.path}."


class UNDERSTUDY_OT_dailies_stop(bpy.types.Operator):
    """Stop what is being made; nothing is left of it"""

    bl_idname = "understudy.dailies_stop"
    bl_label = "Stop"
    bl_options = {"REGISTER"}

    def execute(self, context):
        dailies.stop()
        return {"FINISHED"}


class UNDERSTUDY_OT_dailies_open(bpy.types.Operator):
    """Open what was made last with the program that this system has for it"""

    bl_idname = "understudy.dailies_open"
    bl_label = "Open"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        if dailies.made is None or not dailies.made.path.is_file():
            cls.poll_message_set("Nothing was made yet")
            return False
        return True

    def execute(self, context):
        bpy.ops.wm.path_open(filepath=str(dailies.made.path))
        return {"FINISHED"}


CLASSES = (UNDERSTUDY_OT_errors_read, UNDERSTUDY_OT_error_curves, UNDERSTUDY_OT_heat_switch,
           UNDERSTUDY_OT_dailies_make, UNDERSTUDY_OT_dailies_stop, UNDERSTUDY_OT_dailies_open)
