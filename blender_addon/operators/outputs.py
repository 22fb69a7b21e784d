"""Step 4: the form of a solve, corrections on top of it, and its files."""

import time
from collections.abc import Generator

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, StringProperty

from ...core.errors import UnderstudyError
from .. import collect, edits, outputs, runtime
from ..outputs import FORMS, size_text
from ..properties import OUTPUTS
from ..pump import BUDGET


def shot_of(cls, context) -> object | None:
    """The active shot, if it can be changed now; else the reason goes to the operator's poll message."""
    shot = context.scene.understudy.shot
    if shot is None:
        cls.poll_message_set("Add a shot first")
        return None
    run = runtime.run_of(shot.uid)
    if run is not None and run.active:
        cls.poll_message_set(f"{shot.name} is being solved")
        return None
    return shot


def solved_shot_of(cls, context) -> object | None:
    """The active shot, if it has a solve on a face."""
    shot = shot_of(cls, context)
    if shot is not None and (not shot.solved or shot.face is None):
        cls.poll_message_set(f"{shot.name} is not solved yet")
        return None
    return shot


def leave_mode(context: bpy.types.Context, face: bpy.types.Object) -> str:
    """Bring a face that is being edited or sculpted into Object Mode, if it is the active object; returns the mode."""
    mode = face.mode
    if mode != "OBJECT" and context.view_layer.objects.active == face:
        bpy.ops.object.mode_set(mode="OBJECT")
    return mode


class Spread:
    """An operator whose work is a generator: a few milliseconds at a time in a window, at once without one."""

    def work(self, context: bpy.types.Context) -> Generator[bool, None, str]:
        """Yields between pieces of work; returns what to report."""
        raise NotImplementedError

    def execute(self, context):
        self._work = self.work(context)
        if bpy.app.background or context.window is None:
            return self._go_on(None) or {"FINISHED"}
        self._timer = context.window_manager.event_timer_add(0.01, window=context.window)
        context.window_manager.modal_handler_add(self)
        context.workspace.status_text_set(f"{self.bl_label} ...")
        return {"RUNNING_MODAL"}

    def modal(self, context, event):
        if event.type != "TIMER":
            return {"RUNNING_MODAL"}
        result = self._go_on(time.monotonic() + BUDGET)
        if result is None:
            return {"RUNNING_MODAL"}
        self.cancel(context)
        return result

    def cancel(self, context):
        """Also called when Blender loads another file, and when a dialog before the work is closed."""
        if not hasattr(self, "_work"):
            return
        self._work.close()
        context.window_manager.event_timer_remove(self._timer)
        context.workspace.status_text_set(None)

    def _go_on(self, until: float | None) -> set[str] | None:
        try:
            while until is None or time.monotonic() < until:
                next(self._work)
        except StopIteration as end:
            self.report({"INFO"}, end.value)
            return {"FINISHED"}
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return None


class UNDERSTUDY_OT_output_set(Spread, bpy.types.Operator):
    """Bring the solve of the active shot into another form; what it shows stays, and so does what you changed in it"""

    bl_idname = "understudy.output_set"
    bl_label = "Set Output"
    bl_options = {"REGISTER", "UNDO"}

    form: EnumProperty(name="Form", items=[item[:3] for item in OUTPUTS], options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context):
        return shot_of(cls, context) is not None

    @classmethod
    def description(cls, context, properties):
        text = next(item[2] for item in OUTPUTS if item[0] == properties.form)
        shot, settings = context.scene.understudy.shot, context.scene.understudy
        if shot is None or not shot.solved:
            return text
        count = shot.solved_last - shot.solved_first + 1
        return f"{text}. {outputs.forecast_text(properties.form, count, settings.vertices, settings.components)}"

    def execute(self, context):
        shot = context.scene.understudy.shot
        if shot.solved and shot.face is not None:
            leave_mode(context, shot.face)
            return super().execute(context)
        shot.output = self.form  # what the solve to come will be
        return {"FINISHED"}

    def work(self, context):
        shot, form = context.scene.understudy.shot, self.form
        text = f"{shot.name} is shown by {FORMS[form]}."
        notes = yield from outputs.show(context.scene, shot, form)
        return " ".join([text, *notes])


class UNDERSTUDY_OT_edit_add(bpy.types.Operator):
    """Add a shape key above the solve that is on at the current frame, and make it active, ready to sculpt or edit; \
solving again never touches it. With Frame Keys, choose the key of the current frame instead"""

    bl_idname = "understudy.edit_add"
    bl_label = "Correct This Frame"
    bl_options = {"REGISTER", "UNDO"}

    falloff: FloatProperty(name="Falloff", default=3, min=0, soft_max=50, precision=1, step=100,
                           description="Scene frames over which the correction eases in before and out after; 0 is "
                                       "this frame alone")
    hold: BoolProperty(name="Hold", options={"SKIP_SAVE"}, description="Stay fully on up to another frame")
    last: IntProperty(name="Up To", options={"SKIP_SAVE"}, description="Last scene frame that is fully corrected")
    from_mix: BoolProperty(name="From Mix", options={"SKIP_SAVE"},
                           description="Begin with what your shape keys add to the solve at this frame")

    @classmethod
    def poll(cls, context):
        return solved_shot_of(cls, context) is not None

    def draw(self, context):
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "falloff")
        layout.prop(self, "hold")
        row = layout.row()
        row.active = self.hold
        row.prop(self, "last")
        layout.prop(self, "from_mix")

    def execute(self, context):
        scene, shot = context.scene, context.scene.understudy.shot
        frame = scene.frame_current_final
        if not self.hold:
            self.last = max(self.last, round(frame))
        mode = leave_mode(context, shot.face)
        try:
            block = edits.add(scene, shot, frame, self.falloff, max(self.last, frame) if self.hold else None,
                              self.from_mix)
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if shot.face.name in context.view_layer.objects:
            context.view_layer.objects.active = shot.face
            shot.face.select_set(True)
            if mode != "OBJECT":
                bpy.ops.object.mode_set(mode=mode)
        self.report({"INFO"}, f"{block.name} is active: sculpt it, or move its vertices in Edit Mode.")
        return {"FINISHED"}


class UNDERSTUDY_OT_edit_remove(bpy.types.Operator):
    """Remove a correction and its keyframes; the solve shows as it is"""

    bl_idname = "understudy.edit_remove"
    bl_label = "Remove Correction"
    bl_options = {"REGISTER", "UNDO"}

    name: StringProperty(name="Name", options={"SKIP_SAVE"}, description="Name of the correction's shape key")

    @classmethod
    def poll(cls, context):
        return shot_of(cls, context) is not None

    def execute(self, context):
        shot = context.scene.understudy.shot
        if shot.face is not None:
            leave_mode(context, shot.face)
        try:
            edits.remove(shot, self.name)
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class UNDERSTUDY_OT_solve_clear(bpy.types.Operator):
    """Take the solve off the face of the active shot. Your shape keys, corrections and modifiers stay, and so do the \
cache files"""

    bl_idname = "understudy.solve_clear"
    bl_label = "Clear Solve"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        return solved_shot_of(cls, context) is not None

    def execute(self, context):
        shot = context.scene.understudy.shot
        leave_mode(context, shot.face)
        try:
            outputs.clear(context.scene, shot)
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class UNDERSTUDY_OT_collect(Spread, bpy.types.Operator):
    """Copy mesh caches and footage of all shots into a folder beside the .blend and make their paths relative, so \
that another machine renders the same"""

    bl_idname = "understudy.collect"
    bl_label = "Collect Files"
    bl_options = {"REGISTER", "UNDO"}

    model: BoolProperty(name="Model Too", description="Copy the model file as well, so that others can solve")

    @classmethod
    def poll(cls, context):
        if not bpy.data.filepath:
            cls.poll_message_set("Save the .blend first: the files are collected beside it")
            return False
        return True

    def invoke(self, context, event):
        self._lines = [(found.kind, found.path.name, "missing" if found.missing else size_text(found.size))
                       for found in collect.dependencies()]
        return context.window_manager.invoke_props_dialog(self, width=440)

    def draw(self, context):
        column = self.layout.column(align=True)
        for kind, name, size in self._lines:
            if kind != "model" or self.model:
                row = column.split(factor=0.75)
                row.label(text=name, icon={"cache": "FILE_CACHE", "footage": "SEQUENCE", "model": "FILE"}[kind])
                row.label(text=size)
        self.layout.prop(self, "model")

    def work(self, context):
        return (yield from collect.collect(self.model))


class UNDERSTUDY_OT_caches_remove_unused(bpy.types.Operator):
    """Delete older versions of the mesh caches of the shots, those that nothing in this .blend plays, from the disk. \
Another .blend that plays them loses them; there is no undo"""

    bl_idname = "understudy.caches_remove_unused"
    bl_label = "Delete Unused Caches"
    bl_options = {"REGISTER"}

    def invoke(self, context, event):
        self._found = [f"{cache.path.name}, {size_text(cache.size)}" for cache in collect.unused_caches()]
        if not self._found:
            self.report({"INFO"}, "There are no caches that nothing uses.")
            return {"CANCELLED"}
        return context.window_manager.invoke_props_dialog(self, width=360)

    def draw(self, context):
        column = self.layout.column(align=True)
        for text in self._found[:12]:
            column.label(text=text, icon="TRASH")
        if len(self._found) > 12:
            column.label(text=f"and {len(self._found) - 12} more")
        column.label(text="Files are deleted for good.", icon="ERROR")

    def execute(self, context):
        try:
            self.report({"INFO"}, collect.remove_unused())
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


CLASSES = (UNDERSTUDY_OT_output_set, UNDERSTUDY_OT_edit_add, UNDERSTUDY_OT_edit_remove, UNDERSTUDY_OT_solve_clear,
           UNDERSTUDY_OT_collect, UNDERSTUDY_OT_caches_remove_unused)
