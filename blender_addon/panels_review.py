"""The panel of review: where a solve is wrong, by how much, and what to show others of it. Only reads."""

import math

import bpy
from bpy.app.handlers import persistent
from bpy.props import BoolProperty, EnumProperty, FloatProperty, PointerProperty, StringProperty

from . import dailies, heat, paths, review, review_curves, review_strip, wipe
from .panels import ShotPanel, lines

AGAINST = (
    ("AUTO", "Automatic", "Two runs if they are compared, else the cleaned shot if there is one, else your "
                          "corrections, else what is to be expected"),
    ("TRUTH", "Cleaned Shot", "How far the solve is from the cleaned shot of the same footage"),
    ("EDITS", "Corrections", "How far what is shown, with your corrections, is from the plain solve"),
    ("RUNS", "Run A and B", "How far the two runs that are compared are from each other"),
    ("EXPECTED", "Expected Error", "The error that is to be expected of each region"),
)


def _strip_switched(self, context: bpy.types.Context) -> None:
    review_strip.switch(self.strip)


def _wipe_switched(self, context: bpy.types.Context) -> None:
    wipe.switch(self.wipe)
    review.redraw()


def _redraw(self, context: bpy.types.Context) -> None:
    review.redraw()


def _heat_changed(self, context: bpy.types.Context) -> None:
    if self.heat:
        heat.update(context.scene, context.evaluated_depsgraph_get())
        review.redraw()


class UnderstudyReview(bpy.types.PropertyGroup):
    """What is shown of a solve's errors; not saved: `WindowManager.understudy_review`."""

    strip: BoolProperty(name="Strip in Timeline", update=_strip_switched,
                        description="Show the error of every frame of the active shot along the bottom of timelines: "
                                    "higher and brighter is worse, gray does not count, an orange line is corrected")
    heat: BoolProperty(options={"HIDDEN"})  # set by heat.switch alone
    against: EnumProperty(name="Compare With", items=AGAINST, update=_heat_changed,
                          description="What the colours are the difference to")
    limit_mm: FloatProperty(name="Range (mm)", default=3.0, min=0.05, soft_max=20, precision=2, step=25,
                            update=_heat_changed, description="Millimetres at which the colours end")
    wipe: BoolProperty(name="Wipe", update=_wipe_switched,
                       description="In the view of the shot's camera, show the plate over the mesh up to a line that "
                                   "can be dragged")
    place: FloatProperty(name="Line", default=0.5, min=0, max=1, subtype="FACTOR", update=_redraw,
                         description="Where the line is: the part of the picture's width that shows the plate")
    opacity: FloatProperty(name="Opacity", default=1.0, min=0, max=1, subtype="FACTOR", update=_redraw,
                           description="How much of the plate is seen left of the line; less lets the mesh through")
    folder: StringProperty(name="Folder", subtype="DIR_PATH", options=paths.OPTIONS,
                           description="Where sheets, movies and pages go; empty is beside the solve")


class UNDERSTUDY_PT_review(ShotPanel, bpy.types.Panel):
    bl_label = "Review"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context):
        shot = context.scene.understudy.shot
        return shot is not None and shot.solved

    def draw(self, context):
        scene, layout, settings = context.scene, self.layout, context.window_manager.understudy_review
        shot = scene.understudy.shot
        known = review.of(scene, shot)
        draw_frame(layout, scene, shot, known)
        layout.separator()
        row = layout.row(align=True)
        row.prop(settings, "strip", toggle=True, icon="SEQ_HISTOGRAM")
        have = review_curves.have(shot.face)
        row.operator("understudy.error_curves", text="Curves", icon="FCURVE", depress=have).remove = have
        draw_heat(layout, settings)
        if shot.camera is not None:
            draw_wipe(layout, settings)
        else:
            layout.operator("understudy.camera_make", text="Make Camera for Wipe", icon="OUTLINER_OB_CAMERA")
        draw_dailies(layout, settings)


def draw_frame(layout: bpy.types.UILayout, scene: bpy.types.Scene, shot, known: review.Known | None) -> None:
    """The next frame to look at, and the error of this one."""
    row = layout.row(align=True)
    row.scale_y = 1.6
    row.operator("understudy.frame_suggested", text="", icon="TRIA_LEFT").back = True
    row.operator("understudy.frame_suggested", text="Next Worst Frame", icon="VIEWZOOM")
    row.operator("understudy.errors_read", text="", icon="FILE_REFRESH")
    if known is None or known.errors is None:
        lines(layout, known.text if known is not None and known.text else "Reading the errors ...", "INFO")
        return
    source, text = known.drawn.get("next", (None, ""))
    value = review.error_at(scene, shot, known)
    if source is not None and round(review.source_now(scene, shot)) == source:
        lines(layout, text, "DOT")
    elif math.isfinite(value):
        layout.label(text=f"This frame: {value:.2f} mm", icon="DOT")
    kind = f"{known.kind} {known.errors.truth}" if known.errors.truth else known.kind
    lines(layout, known.text or kind, "INFO")


def draw_heat(layout: bpy.types.UILayout, settings: UnderstudyReview) -> None:
    """The colours of the face."""
    layout.operator("understudy.heat_switch", icon="COLOR", depress=settings.heat, text="Errors on Face")
    if not settings.heat:
        return
    column = layout.column(align=True)
    column.prop(settings, "against", text="")
    column.prop(settings, "limit_mm")
    if text := heat.last.get("text"):
        lines(layout, str(text), "ERROR")


def draw_wipe(layout: bpy.types.UILayout, settings: UnderstudyReview) -> None:
    """Plate and mesh."""
    layout.prop(settings, "wipe", toggle=True, icon="SPLIT_VERTICAL", text="Wipe Plate over Mesh")
    if settings.wipe:
        row = layout.row(align=True)
        row.prop(settings, "place")
        row.prop(settings, "opacity")


def draw_dailies(layout: bpy.types.UILayout, settings: UnderstudyReview) -> None:
    """What others get to see."""
    layout.separator()
    made = dailies.made
    if made is not None and made.active:
        row = layout.row(align=True)
        row.progress(factor=made.part, text=made.text, type="BAR")
        row.operator("understudy.dailies_stop", text="", icon="CANCEL")
    else:
        row = layout.row(align=True)
        for kind, icon in (("sheet", "IMAGE_DATA"), ("dailies", "FILE_MOVIE"), ("report", "FILE_TEXT")):
            row.operator("understudy.dailies_make", text=dailies.KINDS[kind][0].split()[-1], icon=icon).kind = kind
        if made is not None:
            done = made.job.state.state == "done"
            lines(layout, made.text, "CHECKMARK" if done else "ERROR")
            if done:
                layout.operator("understudy.dailies_open", icon="FILEBROWSER")
    layout.prop(settings, "folder", text="To", placeholder="Beside the solve")


@persistent
def _loaded(*_: object) -> None:
    """Nothing of the file before is shown; what was saved while colours were on is put back."""
    off()
    for scene in bpy.data.scenes:
        if scene.library is None:
            heat.clear(scene)


def off() -> None:
    """Show nothing any more: no drawing, no handlers."""
    review_strip.switch(False)
    wipe.switch(False)
    heat.stop()
    review.clear()
    for manager in bpy.data.window_managers:
        for name in ("strip", "heat", "wipe"):
            setattr(manager.understudy_review, name, False)


CLASSES = (UnderstudyReview, UNDERSTUDY_PT_review, *wipe.CLASSES)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.WindowManager.understudy_review = PointerProperty(type=UnderstudyReview)
    bpy.app.handlers.load_post.append(_loaded)


def unregister() -> None:
    bpy.app.handlers.load_post.remove(_loaded)
    off()
    for scene in bpy.data.scenes:
        heat.clear(scene)
    del bpy.types.WindowManager.understudy_review
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
