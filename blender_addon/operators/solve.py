"""Step 3: solving."""

import bpy
from bpy.props import BoolProperty, EnumProperty, IntProperty, StringProperty

from ...core.errors import UnderstudyError
from .. import pump, runtime, solving
from ..properties import OUTPUTS
from ..solving import Order
from ..timing import mapping


class UNDERSTUDY_OT_solve(bpy.types.Operator):
    """Solve the active shot: the network gives every vertex of every frame; what an artist put on top of it stays"""

    bl_idname = "understudy.solve"
    bl_label = "Solve Shot"
    bl_options = {"REGISTER"}  # the undo step comes when the solve is there

    shot: StringProperty(name="Shot", options={"SKIP_SAVE"}, description="Name of the shot; empty is the active one")
    first: IntProperty(name="First", default=-1, min=-1, options={"SKIP_SAVE"},
                       description="First source frame, counted from 0; -1 is as the shot says")
    last: IntProperty(name="Last", default=-1, min=-1, options={"SKIP_SAVE"},
                      description="Last source frame, this one included; -1 is as the shot says")
    output: EnumProperty(name="Output", items=(("KEEP", "As the Shot Says", ""), *(item[:3] for item in OUTPUTS)),
                         options={"SKIP_SAVE"}, description="The form of the result")
    preview_range: BoolProperty(name="Preview Range", options={"SKIP_SAVE"},
                                description="Solve only the scene's preview range again; the rest stays as it is")

    @classmethod
    def poll(cls, context):
        settings = context.scene.understudy
        if why := solving.reason_not_to(context.scene, settings.shot):
            cls.poll_message_set(why)
            return False
        return True

    def execute(self, context):
        settings = context.scene.understudy
        shot = settings.shots.get(self.shot) if self.shot else settings.shot
        first, last = (number if number >= 0 else None for number in (self.first, self.last))
        try:
            if shot is None:
                raise UnderstudyError(f"There is no shot named {self.shot} in the scene {context.scene.name}.")
            if self.preview_range:
                first, last = preview_range(context.scene, shot)
            run = solving.solve(context.scene, shot, Order(first, last, None if self.output == "KEEP" else self.output))
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if not bpy.app.background:
            return {"FINISHED"}
        pump.finish()
        self.report({"INFO"} if run.state == "done" else {"ERROR"}, run.text)
        return {"FINISHED"} if run.state == "done" else {"CANCELLED"}


class UNDERSTUDY_OT_solve_all(bpy.types.Operator):
    """Solve every shot that is not solved, or whose model, crop or footage has changed since"""

    bl_idname = "understudy.solve_all"
    bl_label = "Solve All"
    bl_options = {"REGISTER"}

    again: BoolProperty(name="Solved Ones Too", description="Solve every shot, whether it needs it or not")

    @classmethod
    def poll(cls, context):
        settings = context.scene.understudy
        if not settings.shots:
            cls.poll_message_set("Add a shot first")
            return False
        return True

    def execute(self, context):
        settings = context.scene.understudy
        runs = []
        for shot in settings.shots:
            run = runtime.run_of(shot.uid)
            if (run is not None and run.active) or not (self.again or not shot.solved or solving.stale(settings, shot)):
                continue
            try:
                runs.append(solving.solve(context.scene, shot))
            except UnderstudyError as error:
                self.report({"ERROR"}, str(error))
        if not runs:
            self.report({"INFO"}, "Every shot is solved and up to date")
            return {"CANCELLED"}
        if bpy.app.background:
            pump.finish()
            for run in runs:
                self.report({"INFO"} if run.state == "done" else {"ERROR"}, f"{run.name}: {run.text}")
        return {"FINISHED"}


class UNDERSTUDY_OT_solve_cancel(bpy.types.Operator):
    """Stop solving; the frames that are done are kept"""

    bl_idname = "understudy.solve_cancel"
    bl_label = "Stop Solving"
    bl_options = {"REGISTER"}

    uid: StringProperty(options={"HIDDEN", "SKIP_SAVE"})
    everything: BoolProperty(name="All Shots", options={"SKIP_SAVE"}, description="Also those that wait")

    def execute(self, context):
        for run in runtime.active_runs():
            if self.everything or run.uid == (self.uid or context.scene.understudy.shot.uid):
                run.stop = True
        pump.wake()
        return {"FINISHED"}


class UNDERSTUDY_OT_solve_next(bpy.types.Operator):
    """Let this shot be solved before all others that wait"""

    bl_idname = "understudy.solve_next"
    bl_label = "Solve Next"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        shot = context.scene.understudy.shot
        run = runtime.run_of(shot.uid) if shot is not None else None
        if run is None or run.state != "queued":
            cls.poll_message_set("The shot does not wait")
            return False
        return True

    def execute(self, context):
        solving.solve_next(runtime.run_of(context.scene.understudy.shot.uid))
        return {"FINISHED"}


class UNDERSTUDY_OT_show_log(bpy.types.Operator):
    """Open the log of the active shot's last solve in the Text Editor"""

    bl_idname = "understudy.show_log"
    bl_label = "Show Log"
    bl_options = {"REGISTER"}

    uid: StringProperty(options={"HIDDEN", "SKIP_SAVE"})

    @classmethod
    def poll(cls, context):
        return any(run.log is not None for run in runtime.runs.values())

    def execute(self, context):
        shot = context.scene.understudy.shot
        run = runtime.run_of(self.uid or (shot.uid if shot else ""))
        if run is None or run.log is None or not run.log.is_file():
            self.report({"ERROR"}, "This solve has left no log.")
            return {"CANCELLED"}
        name = f"{run.name} log"
        text = bpy.data.texts.get(name) or bpy.data.texts.new(name)
        text.from_string(run.log.read_text(encoding="utf-8", errors="replace"))
        if not bpy.app.background:
            bpy.ops.wm.window_new()
            area = context.window_manager.windows[-1].screen.areas[0]
            area.type = "TEXT_EDITOR"
            area.spaces.active.text = text
        return {"FINISHED"}


def preview_range(scene: bpy.types.Scene, shot) -> tuple[int, int]:
    """The source frames of the scene's preview range, as far as the shot has them. Raises UnderstudyError."""
    if not scene.use_preview_range:
        raise UnderstudyError("Set a preview range first (P in the timeline): it says which frames to solve again.")
    frames = mapping(scene, shot)
    first = max(round(frames.source(scene.frame_preview_start)), shot.first)
    last = min(round(frames.source(scene.frame_preview_end)), shot.last)
    if first > last:
        raise UnderstudyError(f"No frame of {shot.name} plays in the preview range.")
    return first, last


CLASSES = (UNDERSTUDY_OT_solve, UNDERSTUDY_OT_solve_all, UNDERSTUDY_OT_solve_cancel, UNDERSTUDY_OT_solve_next,
           UNDERSTUDY_OT_show_log)
