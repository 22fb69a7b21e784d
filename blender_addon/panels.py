"""What artists see: the tab Understudy of the sidebar, and the status bar while a solve runs. Only reads."""

import bpy

from ..core.terminal import duration
from . import outputs, preview, pump, runtime, solving
from .runtime import Run

STATES = {"queued": "TIME", "starting": "SORTTIME", "solving": "PLAY", "applying": "PLAY",
          "marking": "PLAY", "done": "CHECKMARK",
          "cancelled": "CANCEL", "failed": "ERROR"}
SHORT = {"MESH_CACHE": "Cache", "BASIS": "Basis Keys", "FRAMES": "Frame Keys"}


class UNDERSTUDY_UL_shots(bpy.types.UIList):
    """Name, what goes on with it, status."""

    bl_idname = "UNDERSTUDY_UL_shots"

    def draw_item(self, context, layout, data, item, icon, active_data, active_property, index=0, flt_flag=0):
        run = runtime.run_of(item.uid)
        row = layout.row(align=True)
        row.prop(item, "name", text="", emboss=False, icon=shot_icon(data, item, run))
        if run is not None and run.active:
            row.label(text=f"{100 * run.done // max(run.total, 1)} %" if run.state == "solving" else run.state.title())
        elif solving.stale(data, item):
            row.label(text="Stale", icon="FILE_REFRESH")
        else:
            row.prop(item, "status", text="", emboss=False)


class Panel:
    """Where all panels of ours are."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Understudy"


class ShotPanel(Panel):
    """A panel about the active shot."""

    @classmethod
    def poll(cls, context):
        shot = context.scene.understudy.shot
        return shot is not None and shot.frames > 0


class UNDERSTUDY_PT_actor(Panel, bpy.types.Panel):
    bl_label = "Actor"

    def draw(self, context):
        settings, layout = context.scene.understudy, self.layout
        if not settings.actor:
            column = layout.column(align=True)
            column.scale_y = 1.3
            column.operator("understudy.actor_open", icon="FILE_FOLDER")
            column.operator("understudy.actor_sample", icon="USER")
            layout.operator("understudy.actor_from_mesh", icon="MESH_DATA")
            return
        row = layout.row(align=True)
        row.label(text=settings.actor_name, icon="USER")
        row.operator("understudy.actor_reload", text="", icon="FILE_REFRESH")
        row.operator("understudy.actor_open", text="", icon="FILE_FOLDER")
        text = f"{settings.vertices:,} vertices"
        if settings.model_sha256:
            layout.label(text=f"{text}, model {settings.model_sha256[:7]}")
        else:
            layout.label(text=f"{text}, no model yet", icon="INFO")


class UNDERSTUDY_PT_shots(Panel, bpy.types.Panel):
    bl_label = "Shots"

    @classmethod
    def poll(cls, context):
        return bool(context.scene.understudy.actor)

    def draw(self, context):
        settings, layout = context.scene.understudy, self.layout
        row = layout.row()
        row.template_list("UNDERSTUDY_UL_shots", "", settings, "shots", settings, "active", rows=3)
        column = row.column(align=True)
        column.operator("understudy.shot_add", text="", icon="ADD")
        column.operator("understudy.shot_add_folder", text="", icon="FILE_FOLDER")
        column.operator("understudy.shot_remove", text="", icon="REMOVE")
        column.operator("understudy.shot_view", text="", icon="ZOOM_SELECTED")
        if len(settings.shots) > 1:
            column.operator("understudy.shot_move", text="", icon="TRIA_UP").direction = "UP"
            column.operator("understudy.shot_move", text="", icon="TRIA_DOWN").direction = "DOWN"
        if settings.shot is not None:
            draw_footage(layout, settings.shot)


def draw_footage(layout: bpy.types.UILayout, shot) -> None:
    """The footage of a shot and what is known of it."""
    row = layout.row(align=True)
    row.prop(shot, "role", text="")
    row.prop(shot, "status", text="")
    row = layout.row(align=True)
    row.prop(shot, "footage", text="")
    row.operator("understudy.shot_probe", text="", icon="FILE_REFRESH")
    if text := runtime.footage_text.get(shot.uid):
        lines(layout, text, "ERROR")
    elif not shot.footage:
        layout.label(text="No footage yet: choose it above", icon="INFO")
    elif not shot.frames and pump.busy():
        layout.label(text="Reading the footage ...", icon="SORTTIME")
    elif not shot.frames:
        layout.operator("understudy.shot_probe", text="Read Footage", icon="FILE_REFRESH")
    else:
        layout.label(text=f"{shot.width} x {shot.height}, {shot.frames:,} frames, {shot.fps:.6g} fps")
        if shot.variable:
            lines(layout, "The frame rate changes within the footage; frames are counted, not timed", "INFO")
        if shot.framing:
            lines(layout, shot.framing, "INFO" if shot.framing_within else "ERROR")


class UNDERSTUDY_PT_solve(ShotPanel, bpy.types.Panel):
    bl_label = "Solve"

    def draw(self, context):
        settings, layout = context.scene.understudy, self.layout
        shot = settings.shot
        run = runtime.run_of(shot.uid)
        if run is not None and run.active:
            draw_progress(layout, run)
        else:
            row = layout.row(align=True)
            row.scale_y = 1.6
            row.operator("understudy.solve", icon="PLAY", text="Solve Shot Again" if shot.solved else "Solve Shot")
            row = layout.row(align=True)
            row.operator("understudy.solve", text="Preview Range").preview_range = True
            row.operator("understudy.solve_all", text="All Shots")
            if run is not None:
                draw_end(layout, run)
        waiting = [other for other in runtime.active_runs() if other.uid != shot.uid]
        if waiting:
            row = layout.row(align=True)
            row.label(text=f"{len(waiting)} more in the queue: {waiting[0].name} is {waiting[0].state}")
            row.operator("understudy.solve_cancel", text="", icon="CANCEL").everything = True
        if stale := solving.stale(settings, shot):
            layout.label(text=f"Stale: {stale}", icon="FILE_REFRESH")
        draw_output(layout, settings, shot)


def draw_progress(layout: bpy.types.UILayout, run: Run) -> None:
    """How far a solve is, and how to stop it."""
    row = layout.row(align=True)
    row.scale_y = 1.6
    row.progress(factor=run.done / max(run.total, 1), text=progress_text(run), type="BAR")
    if run.state == "queued":
        row.operator("understudy.solve_next", text="", icon="TRIA_UP_BAR")
    row.operator("understudy.solve_cancel", text="", icon="CANCEL").uid = run.uid
    for text in run.warnings[-3:]:
        lines(layout, text, "INFO")


def progress_text(run: Run) -> str:
    """Frames a second and time left, in few words."""
    if run.state != "solving":
        return run.text
    return f"{run.done:,} of {run.total:,}, {run.rate:.0f} frames/s, {duration(run.left)} left"


def draw_end(layout: bpy.types.UILayout, run: Run) -> None:
    """How the last solve ended."""
    lines(layout, run.text, STATES[run.state])
    if run.state == "failed" and run.log is not None:
        layout.operator("understudy.show_log", icon="TEXT").uid = run.uid
    for text in run.warnings[-3:]:
        lines(layout, text, "INFO")


def draw_output(layout: bpy.types.UILayout, settings, shot) -> None:
    """The three forms of a solve, and what each would add."""
    row = layout.row(align=True)
    for form in outputs.FORMS:
        chosen = shot.output == form
        row.operator("understudy.output_set", text=SHORT[form], depress=chosen).form = form
    count = shot.solved_last - shot.solved_first + 1 if shot.solved else shot.last - shot.first + 1
    text = outputs.forecast_text(shot.output, count, settings.vertices, settings.components)
    if not bpy.data.filepath and not settings.cache_folder:
        text = text.replace("beside the .blend", "in your user folder")  # until the .blend has a place
    layout.label(text=text)


class UNDERSTUDY_PT_timing(ShotPanel, bpy.types.Panel):
    bl_label = "Timing"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context):
        shot, layout = context.scene.understudy.shot, self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        column = layout.column(align=True)
        column.prop(shot, "anchor_source")
        row = column.row(align=True)
        row.prop(shot, "anchor_scene", text="Plays at Scene")
        row.operator("understudy.shot_nudge", text="", icon="TRIA_LEFT").frames = -1
        row.operator("understudy.shot_nudge", text="", icon="TRIA_RIGHT").frames = 1
        column = layout.column(align=True)
        column.prop(shot, "first", text="Trim First")
        column.prop(shot, "last")
        layout.prop(shot, "pace")
        row = layout.row(align=True)
        row.operator("understudy.shot_to_start")
        row.operator("understudy.scene_match")
        row = layout.row(align=True)
        row.operator("understudy.plate_place", icon="IMAGE_PLANE")
        if shot.audio:
            row.operator("understudy.sound_add", icon="SOUND")


class UNDERSTUDY_PT_crop(ShotPanel, bpy.types.Panel):
    bl_label = "Crop"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context):
        layout, shot = self.layout, context.scene.understudy.shot
        row = layout.row(align=True)
        row.prop(context.window_manager, "understudy_edit_crop", toggle=True, icon="SELECT_SET")
        row.operator("understudy.crop_suggest", icon="VIEWZOOM")
        layout.prop(shot, "own_crop")
        column = layout.column(align=True)
        for index, name in enumerate(("Left", "Top", "Width", "Height")):
            column.prop(context.scene, "understudy_crop", index=index, text=name)
        if runtime.crop_text:
            lines(layout, runtime.crop_text, "INFO")
        row = layout.row(align=True)
        row.operator("understudy.crop_preview", icon="IMAGE_DATA")
        row.operator("understudy.crop_store", icon="FILE_TICK")
        if preview.icon():
            layout.template_icon(preview.icon(), scale=10)


class UNDERSTUDY_PT_camera(ShotPanel, bpy.types.Panel):
    bl_label = "Camera"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context):
        layout, shot = self.layout, context.scene.understudy.shot
        if shot.camera is None:
            layout.operator("understudy.camera_make", icon="OUTLINER_OB_CAMERA")
            return
        lined = shot.camera.understudy_camera
        row = layout.row(align=True)
        row.scale_y = 1.3
        row.operator("understudy.pins_edit", icon="PINNED", text="Line Up with Pins")
        row.operator("understudy.pins_clear", text="", icon="X")
        layout.prop(lined, "solve_focal")
        if shot.plate is not None:
            layout.prop(shot.plate, "hide_viewport", text="Hide Plate", toggle=True)
        if lined.pins:
            layout.label(text=f"{len(lined.pins)} pins, {lined.residual:.1f} px off on average")


class UNDERSTUDY_PT_live(ShotPanel, bpy.types.Panel):
    bl_label = "Live"
    bl_options = {"DEFAULT_CLOSED"}
    bl_order = 90  # after what panels_cleaning.py and panels_training.py have

    def draw(self, context):
        layout, live = self.layout, runtime.live
        if live is not None and live.active:
            layout.operator("understudy.live_stop", icon="PAUSE")
            layout.label(text=f"{live.fps:.0f} frames/s, {live.latency_ms:.0f} ms behind the camera")
        else:
            column = layout.column(align=True)
            column.operator("understudy.live_start", icon="OUTLINER_OB_CAMERA", text="Camera").source = "0"
            column.operator("understudy.live_start", icon="PLAY", text="This Footage in Real Time").source = ""
        if live is not None and (live.failed or live.active):
            lines(layout, live.text, "ERROR" if live.failed else "INFO")


class UNDERSTUDY_PT_files(ShotPanel, bpy.types.Panel):
    bl_label = "Files"
    bl_options = {"DEFAULT_CLOSED"}
    bl_order = 91

    def draw(self, context):
        settings, layout = context.scene.understudy, self.layout
        layout.prop(settings, "cache_folder", text="")
        if settings.shot.solved:
            layout.label(text=settings.shot.cache.replace("\\", "/").rpartition("/")[2], icon="FILE_CACHE")
            layout.label(text=f"Model {settings.shot.solved_model[:7]}, {settings.shot.solved_by}")
        column = layout.column(align=True)
        column.operator("understudy.collect", icon="PACKAGE")
        column.operator("understudy.caches_remove_unused", icon="TRASH")
        column.operator("understudy.solve_clear", icon="X")


def shot_icon(settings, shot, run: Run | None) -> str:
    """What a shot looks like in the list."""
    if run is not None and (run.active or run.state == "failed"):
        return STATES[run.state]
    if runtime.footage_text.get(shot.uid) or (shot.framing and not shot.framing_within):
        return "ERROR"
    return "CHECKMARK" if shot.solved else "SEQUENCE"


def lines(layout: bpy.types.UILayout, text: str, icon: str) -> None:
    """A sentence over as many lines as the sidebar's width asks for."""
    context = bpy.context
    width = int(context.region.width / (6.5 * context.preferences.system.ui_scale)) - 8 if context.region else 44
    column, line = layout.column(align=True), ""
    for word in text.split():
        if line and len(line) + len(word) >= width:
            column.label(text=line, icon=icon)
            line, icon = "", "BLANK1"
        line = f"{line} {word}".strip()
    column.label(text=line, icon=icon)


def draw_status(self, context: bpy.types.Context) -> None:
    """The solve that runs, in the status bar."""
    run = next(iter(runtime.active_runs()), None)
    if run is not None:
        row = self.layout.row()
        row.label(text=f"{run.name}:")
        row.progress(factor=run.done / max(run.total, 1), text=progress_text(run), type="BAR")


CLASSES = (UNDERSTUDY_UL_shots, UNDERSTUDY_PT_actor, UNDERSTUDY_PT_shots, UNDERSTUDY_PT_solve, UNDERSTUDY_PT_timing,
           UNDERSTUDY_PT_crop, UNDERSTUDY_PT_camera, UNDERSTUDY_PT_live, UNDERSTUDY_PT_files)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.STATUSBAR_HT_header.append(draw_status)


def unregister() -> None:
    bpy.types.STATUSBAR_HT_header.remove(draw_status)
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
