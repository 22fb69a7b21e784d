"""Live: a camera or a movie drives the face in the viewport."""

import bpy
from bpy.props import StringProperty

from ...core.errors import UnderstudyError
from .. import live


class UNDERSTUDY_OT_live_start(bpy.types.Operator):
    """Let a camera or a movie, played in real time, move a copy of the face; the solve stays as it is. Esc stops it"""

    bl_idname = "understudy.live_start"
    bl_label = "Start Live"
    bl_options = {"REGISTER"}  # nothing of it stays, so there is nothing to undo

    source: StringProperty(name="Source", default="", options={"SKIP_SAVE"},
                           description="A camera, counted from 0, or a movie; empty plays the footage of the shot")

    @classmethod
    def poll(cls, context):
        if why := live.reason_not_to(context.scene, context.scene.understudy.shot):
            cls.poll_message_set(why)
            return False
        return True

    def execute(self, context):
        try:
            live.start(context.scene, context.scene.understudy.shot, self.source)
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}

    def invoke(self, context, event):
        result = self.execute(context)
        if result == {"FINISHED"} and context.window is not None:
            context.window_manager.modal_handler_add(self)
            return {"RUNNING_MODAL"}
        return result

    def modal(self, context, event):
        if not live.running():
            return {"FINISHED"}
        if event.type == "ESC" and event.value == "PRESS":
            live.stop()
            return {"FINISHED"}
        return {"PASS_THROUGH"}


class UNDERSTUDY_OT_live_stop(bpy.types.Operator):
    """End the live view and show the face as it was before"""

    bl_idname = "understudy.live_stop"
    bl_label = "Stop Live"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        if not live.running():
            cls.poll_message_set("Live is off")
            return False
        return True

    def execute(self, context):
        live.stop()
        return {"FINISHED"}


CLASSES = (UNDERSTUDY_OT_live_start, UNDERSTUDY_OT_live_stop)
