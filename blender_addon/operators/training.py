"""Step 5: training. Begin it, stop it, and choose among its runs."""

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, StringProperty

from ...core.errors import UnderstudyError
from ...core.runs import Run
from .. import comparing, panels_training, pump, training
from ..training import Order


class RunOperator:
    """An operator on a run of the scene's actor, named by `run`; empty is the active one of the list."""

    bl_options = {"REGISTER"}

    run: StringProperty(name="Run", options={"SKIP_SAVE"}, description="Name of the run; empty is the active one")

    @classmethod
    def poll(cls, context):
        if not training.runs_of(context.scene.understudy):
            cls.poll_message_set("This actor has no runs yet: train it first")
            return False
        return True

    def chosen(self, context: bpy.types.Context) -> Run:
        """The run. Raises UnderstudyError if there is none of that name."""
        settings = context.scene.understudy
        name = self.run or context.window_manager.understudy_training.chosen
        found = training.find(settings, name)
        if found is None:
            known = ", ".join(run.name for run in training.runs_of(settings))
            raise UnderstudyError(f"{settings.actor_name} has no run {name or 'that is chosen'}; it has {known}.")
        return found

    def execute(self, context):
        try:
            self.report({"INFO"}, self.work(context))
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if bpy.app.background:
            training.finish()
        return {"FINISHED"}


class UNDERSTUDY_OT_train_start(bpy.types.Operator):
    """Train the actor on its cleaned shots, in a process that goes on when Blender is closed"""

    bl_idname = "understudy.train_start"
    bl_label = "Train"
    bl_options = {"REGISTER"}

    length: EnumProperty(name="Length", items=(*panels_training.LENGTHS, ("SMOKE", "Smoke", "Does it run at all?")),
                         options={"SKIP_SAVE"}, description="How long to train")
    minutes: FloatProperty(name="Minutes", default=20, min=0.01, options={"SKIP_SAVE"},
                           description="Minutes to train, reading the footage included")
    begin: EnumProperty(name="Begin", items=panels_training.BEGINNINGS, options={"SKIP_SAVE"},
                        description="What the first weights are")
    device: EnumProperty(name="Device", items=training.DEVICES, options={"SKIP_SAVE"},
                         description="What the network trains on")
    batch: IntProperty(name="Batch", default=50, min=1, options={"SKIP_SAVE"}, description="Frames a step")
    gaps: BoolProperty(name="Favour Closed Lips and Lids", default=False, options={"SKIP_SAVE"},
                       description="Count more how exactly lips and lids meet")

    @classmethod
    def poll(cls, context):
        if why := training.reason_not_to(context.scene.understudy):
            cls.poll_message_set(why)
            return False
        return True

    def execute(self, context):
        folder = training.folder_of(context.scene.understudy)
        model = folder / "model.safetensors" if self.begin == "PRESENT" else None
        device = "" if self.device == "PREFERENCES" else self.device
        try:
            training.start(context.scene, Order(self.length, self.minutes, model, self.batch, device, self.gaps))
            if bpy.app.background:
                pump.finish()
                if training.text:
                    raise UnderstudyError(training.text)
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class UNDERSTUDY_OT_train_stop(RunOperator, bpy.types.Operator):
    """Stop the training of this actor at its next step"""

    bl_idname = "understudy.train_stop"
    bl_label = "Stop Training"

    then: EnumProperty(name="Then", options={"SKIP_SAVE"}, items=(
        ("PAUSE", "Pause", "Stop, keeping all that is learned; Resume goes on exactly there"),
        ("USE", "Stop and Use", "Stop, and let the best model so far be the one in use"),
        ("DELETE", "Cancel", "Stop, and delete this run and what it has learned")))

    @classmethod
    def description(cls, context, properties):
        items = cls.bl_rna.properties["then"].enum_items
        return items[properties.then].description

    @classmethod
    def poll(cls, context):
        if training.live_run(context.scene.understudy) is None:
            cls.poll_message_set("No training of this actor goes on")
            return False
        return True

    def invoke(self, context, event):
        return context.window_manager.invoke_confirm(self, event) if self.then == "DELETE" else self.execute(context)

    def work(self, context):
        run = self.chosen(context) if self.run else training.live_run(context.scene.understudy)
        if not run.live:
            raise UnderstudyError(f"The run {run.name} does not go on: it is {run.state}.")
        training.stop(run, "" if self.then == "PAUSE" else self.then)
        return f"{run.name} stops at its next step"


class UNDERSTUDY_OT_run_resume(RunOperator, bpy.types.Operator):
    """Go on with a run that was stopped or has crashed, ending as if it never had"""

    bl_idname = "understudy.run_resume"
    bl_label = "Resume"

    def work(self, context):
        run = self.chosen(context)
        training.resume(context.scene, run)
        return f"Going on with {run.name}"


class UNDERSTUDY_OT_run_extend(RunOperator, bpy.types.Operator):
    """Train on from the best model of a run, on the shots as they are now, as a new run"""

    bl_idname = "understudy.run_extend"
    bl_label = "Extend"

    minutes: FloatProperty(name="Minutes", default=20, min=0.01, options={"SKIP_SAVE"},
                           description="Minutes to train, reading the footage included")

    def work(self, context):
        run = self.chosen(context)
        if run.model is None:
            raise UnderstudyError(f"The run {run.name} has no model yet. Resume it instead.")
        batch = int(run.config.get("batch", 50))
        training.start(context.scene, Order("MINUTES", self.minutes, run.model, max(batch, 1)))
        if bpy.app.background:
            pump.finish()
        return f"Training on from {run.name}"


class UNDERSTUDY_OT_run_use(RunOperator, bpy.types.Operator):
    """Make the best model of this run the actor's model in use: shots solved by another one are then stale"""

    bl_idname = "understudy.run_use"
    bl_label = "Use This Model"

    def work(self, context):
        run = self.chosen(context)
        training.use(run)
        return f"The model of {run.name} is in use"


class UNDERSTUDY_OT_run_delete(RunOperator, bpy.types.Operator):
    """Delete this run's folder, with its model; the actor's model in use stays"""

    bl_idname = "understudy.run_delete"
    bl_label = "Delete Run"

    def invoke(self, context, event):
        return context.window_manager.invoke_confirm(self, event)

    def work(self, context):
        run = self.chosen(context)
        training.delete(run)
        return f"Deleted {run.name}"


class UNDERSTUDY_OT_compare_choose(RunOperator, bpy.types.Operator):
    """Let this side of the comparison be the active run"""

    bl_idname = "understudy.compare_choose"
    bl_label = "Compare This Run"

    side: EnumProperty(name="Side", items=[(side, side, "") for side in comparing.SIDES], options={"SKIP_SAVE"})

    def work(self, context):
        run = self.chosen(context)
        comparing.chosen[self.side] = run.name
        return f"{self.side} is {run.name}"


class UNDERSTUDY_OT_compare(RunOperator, bpy.types.Operator):
    """Solve the active shot by the runs A and B, to look at them in turn; the shot's own solve stays as it is"""

    bl_idname = "understudy.compare"
    bl_label = "Compare A and B"

    run_a: StringProperty(name="A", options={"SKIP_SAVE"}, description="Name of a run; empty is the chosen one")
    run_b: StringProperty(name="B", options={"SKIP_SAVE"}, description="Name of a run; empty is the chosen one")

    @classmethod
    def poll(cls, context):
        if context.scene.understudy.shot is None:
            cls.poll_message_set("Add a shot first")
            return False
        return super().poll(context)

    def work(self, context):
        settings = context.scene.understudy
        names = {"A": self.run_a, "B": self.run_b}
        runs = {side: run for side in comparing.SIDES
                if (run := training.find(settings, names[side] or comparing.chosen.get(side, ""))) is not None}
        comparing.start(context.scene, settings.shot, runs)
        if bpy.app.background:
            pump.finish()
            if comparing.text:
                raise UnderstudyError(comparing.text)
        return f"Comparing on {settings.shot.name}"


class UNDERSTUDY_OT_compare_toggle(bpy.types.Operator):
    """Show the next of run A, run B and the shot's own solve"""

    bl_idname = "understudy.compare_toggle"
    bl_label = "Toggle A and B"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        return comparing.object_of() is not None

    def execute(self, context):
        try:
            self.report({"INFO"}, comparing.toggle())
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class UNDERSTUDY_OT_compare_clear(bpy.types.Operator):
    """Take the comparison out of the scene and remove its caches"""

    bl_idname = "understudy.compare_clear"
    bl_label = "End Comparison"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context):
        comparing.clear()
        return {"FINISHED"}


CLASSES = (UNDERSTUDY_OT_train_start, UNDERSTUDY_OT_train_stop, UNDERSTUDY_OT_run_resume, UNDERSTUDY_OT_run_extend,
           UNDERSTUDY_OT_run_use, UNDERSTUDY_OT_run_delete, UNDERSTUDY_OT_compare_choose, UNDERSTUDY_OT_compare,
           UNDERSTUDY_OT_compare_toggle, UNDERSTUDY_OT_compare_clear)
