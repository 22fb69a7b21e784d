"""The panels of training: begin it, watch it, choose among its runs. Only reads; what it shows is in training.py."""

import time

import bpy
from bpy.props import BoolProperty, CollectionProperty, EnumProperty, FloatProperty, IntProperty, PointerProperty

from ..core.runs import Run, describe_errors
from ..core.terminal import duration
from . import comparing, run_pictures, training
from .panels import Panel, lines

STATES = {"starting": "SORTTIME", "running": "PLAY", "done": "CHECKMARK", "stopped": "PAUSE", "failed": "ERROR",
          "crashed": "ERROR"}
LENGTHS = (
    ("MINUTES", "Minutes", "Train for this long, whatever the number of frames"),
    ("QUICK", "Quick", "Every frame 15 times: for a look at new data"),
    ("PAPER", "Full", "Every frame 200 times, as in the paper: the best there is, overnight"),
)
BEGINNINGS = (
    ("SCRATCH", "From Scratch", "Forget what was learned before; the components are found anew from all cleaned shots"),
    ("PRESENT", "From Present Model", "Go on from the model in use: every step mixes frames that are new to it with "
                                      "some that it knows, so that new shots are soon good and old ones stay so"),
)
KINDS = (("shots", "Shots", ""), ("roles", "Roles", ""), ("regions", "Regions", ""))


def _chosen(self, context: bpy.types.Context) -> None:
    training.touch()


_listed: list[str] = []  # names of the runs in the list; not in its lines, as setting those draws the whole window anew


class UnderstudyRun(bpy.types.PropertyGroup):
    """A line of the list; all else is looked up by its place in it."""


class UnderstudyTraining(bpy.types.PropertyGroup):
    """What the panel is set to; not saved: `WindowManager.understudy_training`."""

    length: EnumProperty(name="Length", items=LENGTHS, description="How long to train")
    minutes: FloatProperty(name="Minutes", default=20, min=0.1, soft_max=600, precision=0, step=500,
                           description="Minutes to train, reading the footage included")
    begin: EnumProperty(name="Begin", items=BEGINNINGS, description="What the first weights are")
    device: EnumProperty(name="Device", items=training.DEVICES,
                         description="What the network trains on")
    batch: IntProperty(name="Batch", default=50, min=1, soft_max=200,
                       description="Frames a step: fewer take less memory and learn more unevenly")
    gaps: BoolProperty(name="Favour Closed Lips and Lids",
                       description="Count more how exactly lips and lids meet: closures come nearer, by a tenth to a "
                                   "half of their error, and the whole face stays as near as without")
    runs: CollectionProperty(type=UnderstudyRun)
    active: IntProperty(name="Run", update=_chosen)
    kind: EnumProperty(name="Errors By", items=KINDS, description="What the validation errors are listed by")
    show_picture: BoolProperty(name="Validation Frames", default=True,
                               description="Show input, target, inferred face and difference of some validation frames")

    @property
    def chosen(self) -> str:
        """The name of the active run."""
        return _listed[self.active] if 0 <= self.active < len(_listed) else ""

    def list_runs(self, names: list[str]) -> None:
        """Let the list have these lines; the active run stays active, a new one at the top becomes it."""
        if names != _listed:
            chosen = self.chosen if names[:1] == _listed[:1] else ""
            _listed[:] = names
            place = names.index(chosen) if chosen in names else 0
            if self.active != place:
                self.active = place
        while len(self.runs) < len(names):  # another file may have brought another list
            self.runs.add()
        while len(self.runs) > len(names):
            self.runs.remove(0)


class UNDERSTUDY_UL_runs(bpy.types.UIList):
    """Date, length and error of runs."""

    bl_idname = "UNDERSTUDY_UL_runs"

    def draw_item(self, context, layout, data, item, icon, active_data, active_property, index=0, flt_flag=0):
        run = training.find(context.scene.understudy, _listed[index]) if index < len(_listed) else None
        if run is None:
            return
        split = layout.split(factor=0.56)
        split.label(text=date(run), icon=STATES[run.state])
        split = split.split(factor=0.42)
        split.label(text=run.length)
        split.label(text=f"{run.best:.2f} mm" if run.best is not None else "")


class UNDERSTUDY_PT_training(Panel, bpy.types.Panel):
    bl_label = "Training"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context):
        return training.folder_of(context.scene.understudy) is not None

    def draw(self, context):
        training.seen = time.monotonic()
        settings, layout = context.scene.understudy, self.layout
        run = training.live_run(settings)
        if run is not None:
            draw_live(layout, run)
        else:
            draw_start(layout, settings, context.window_manager.understudy_training)
            last = next(iter(training.runs_of(settings)), None)
            if last is not None and last.state in ("failed", "crashed"):
                lines(layout, last.text, "ERROR")
        if training.text:
            lines(layout, training.text, "INFO")
        chosen = run or training.find(settings, context.window_manager.understudy_training.chosen)
        if chosen is not None:
            draw_curves(layout, chosen, context)


def draw_start(layout: bpy.types.UILayout, settings, panel: UnderstudyTraining) -> None:
    """What to train, and the button."""
    column = layout.column(align=True)
    column.row(align=True).prop(panel, "length", expand=True)
    if panel.length == "MINUTES":
        column.prop(panel, "minutes")
    layout.prop(panel, "begin", text="")
    row = layout.row(align=True)
    row.prop(panel, "device", text="")
    row.prop(panel, "batch")
    layout.prop(panel, "gaps")
    row = layout.row()
    row.scale_y = 1.6
    button = row.operator("understudy.train_start", icon="PLAY")
    for name in ("length", "minutes", "begin", "device", "batch", "gaps"):
        setattr(button, name, getattr(panel, name))


def draw_live(layout: bpy.types.UILayout, run: Run) -> None:
    """How far a run is, and how to stop it."""
    row = layout.row()
    row.scale_y = 1.6
    left = f"{duration(run.left)} left" if run.left is not None else run.text or "Starting"
    row.progress(factor=run.fraction, text=left, type="BAR")
    row = layout.row(align=True)
    row.operator("understudy.train_stop", text="Pause").then = "PAUSE"
    row.operator("understudy.train_stop", text="Stop and Use").then = "USE"
    row.operator("understudy.train_stop", text="", icon="X").then = "DELETE"
    for text in run.watcher.state.warnings[-2:]:
        lines(layout, text, "INFO")


def draw_curves(layout: bpy.types.UILayout, run: Run, context: bpy.types.Context) -> None:
    """The curves as wide as the sidebar, what they mean, and frames of validation."""
    column = layout.column(align=True)
    row = column.row(align=True)
    trained = f"{run.train[-1][1]:.2f}" if run.train else "-"
    best = f"{run.best:.2f}" if run.best is not None else "-"
    row.label(text=f"Training {trained}", icon="COLLECTION_COLOR_05")
    row.label(text=f"Validation {best}", icon="COLLECTION_COLOR_02")
    if run_pictures.icon("curves") and (run.train or run.validation):
        run_pictures.size = round(20 * context.preferences.system.ui_scale * units(context))
        column.template_icon(run_pictures.icon("curves"), scale=units(context))
        column.label(text="RMSE in mm by frames shown; gray: earlier")
    panel = context.window_manager.understudy_training
    if run_pictures.icon("picture"):
        layout.prop(panel, "show_picture", icon="DOWNARROW_HLT" if panel.show_picture else "RIGHTARROW", emboss=False)
        if panel.show_picture:
            layout.template_icon(run_pictures.icon("picture"), scale=units(context))


def units(context: bpy.types.Context) -> float:
    """How large an icon is that fills the width of the sidebar."""
    system = context.preferences.system
    width = context.region.width / system.ui_scale if context.region else 280.0
    return max(min((width - 44) / 20, 24.0), 6.0)


class UNDERSTUDY_PT_runs(Panel, bpy.types.Panel):
    bl_label = "Runs"
    bl_parent_id = "UNDERSTUDY_PT_training"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context):
        return bool(training.runs_of(context.scene.understudy))

    def draw(self, context):
        settings, layout, panel = context.scene.understudy, self.layout, context.window_manager.understudy_training
        layout.template_list("UNDERSTUDY_UL_runs", "", panel, "runs", panel, "active", rows=3)
        run = training.find(settings, panel.chosen)
        if run is None:
            return
        draw_facts(layout, run)
        column = layout.column(align=True)
        row = column.row(align=True)
        row.operator("understudy.run_use", icon="CHECKMARK").run = run.name
        row.operator("understudy.run_delete", text="", icon="TRASH").run = run.name
        row = column.row(align=True)
        row.operator("understudy.run_resume", icon="PLAY").run = run.name
        extend = row.operator("understudy.run_extend", icon="ADD")
        extend.run, extend.minutes = run.name, panel.minutes
        draw_errors(layout, run, panel)
        draw_comparison(layout, run, settings)


def draw_facts(layout: bpy.types.UILayout, run: Run) -> None:
    """What a run learned from, and how it ended."""
    column = layout.column(align=True)
    column.label(text=f"{run.state.title()}, {duration(run.seconds)} of {run.length or 'unknown length'}",
                 icon=STATES[run.state])
    if run.about["frames"]:
        shots = run.about["shots"]
        column.label(text=f"{len(shots)} shot{'s' * (len(shots) != 1)}, {run.about['frames']:,} frames")
    if run.text and run.state in ("failed", "crashed"):
        lines(layout, run.text, "ERROR")


def draw_errors(layout: bpy.types.UILayout, run: Run, panel: UnderstudyTraining) -> None:
    """Validation errors by shot, role or region."""
    if not run.errors:
        return
    layout.row(align=True).prop(panel, "kind", expand=True)
    column = layout.column(align=True)
    for name, rmse in describe_errors(run, panel.kind)[:12]:
        split = column.split(factor=0.7)
        split.label(text=name)
        split.label(text=f"{rmse:.2f} mm")
    if panel.kind not in run.errors:
        column.label(text="Not told by this run")


def draw_comparison(layout: bpy.types.UILayout, run: Run, settings) -> None:
    """Two runs side by side on the active shot."""
    if settings.shot is None:
        return
    box = layout.column(align=True)
    box.label(text=f"Compare on {settings.shot.name}")
    row = box.row(align=True)
    for side in comparing.SIDES:
        chosen = training.find(settings, comparing.chosen.get(side, ""))
        text = f"{side}: {date(chosen)}" if chosen is not None else f"Set as {side}"
        button = row.operator("understudy.compare_choose", text=text)
        button.side, button.run = side, run.name
    if comparing.text:
        lines(box, comparing.text, "INFO")
    row = box.row(align=True)
    if comparing.object_of() is not None:
        row.operator("understudy.compare_toggle", text=comparing.label(), icon="ARROW_LEFTRIGHT")
        row.operator("understudy.compare_clear", text="", icon="X")
    else:
        row.operator("understudy.compare", icon="VIEW_CAMERA")


def date(run: Run) -> str:
    """When a run began, as people say it."""
    return time.strftime("%d %b %H:%M", time.localtime(run.started)) if run.started else run.name


CLASSES = (UnderstudyRun, UnderstudyTraining, UNDERSTUDY_UL_runs, UNDERSTUDY_PT_training, UNDERSTUDY_PT_runs)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.WindowManager.understudy_training = PointerProperty(type=UnderstudyTraining, options={"SKIP_SAVE"})


def unregister() -> None:
    del bpy.types.WindowManager.understudy_training
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
