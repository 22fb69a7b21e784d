"""The panels between a solve, or a track, and training: bring in, correct, mark. Only reads."""

import bpy

from . import edits, head, importing, runtime
from .panels import STATES, Panel, lines

SHOWN = (("EDITED", "Edited"), ("SOLVE", "Solve"), ("PLATE", "Plate"))


class UNDERSTUDY_UL_excluded(bpy.types.UIList):
    """The source frames that do not train."""

    bl_idname = "UNDERSTUDY_UL_excluded"

    def draw_item(self, context, layout, data, item, icon, active_data, active_property, index=0, flt_flag=0):
        row = layout.row(align=True)
        row.prop(item, "first", text="", emboss=False)
        row.prop(item, "last", text="to", emboss=False)


class CleaningPanel(Panel):
    """A panel about what the face of the active shot shows, with footage or without."""

    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context):
        shot = context.scene.understudy.shot
        return shot is not None and (shot.frames > 0 or shot.solved)


class UNDERSTUDY_PT_track(Panel, bpy.types.Panel):
    bl_label = "Track"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context):
        return bool(context.scene.understudy.actor)

    def draw(self, context):
        layout, shot = self.layout, context.scene.understudy.shot
        column = layout.column(align=True)
        if shot is not None:
            column.operator("understudy.track_open", icon="IMPORT", text="Bring In Track File")
            column.operator("understudy.track_object", icon="OUTLINER_OB_MESH")
        column.operator("understudy.shot_from_track", icon="ADD")
        if shot is None or not shot.solved:
            return
        if importing.is_track(shot):
            layout.label(text="Does it play with the footage?")
            row = layout.row(align=True)
            for which in ("FIRST", "MIDDLE", "LAST"):
                row.operator("understudy.frame_check", text=which.title()).which = which
            row = layout.row(align=True)
            row.operator("understudy.track_nudge", text="Earlier", icon="TRIA_LEFT").frames = -1
            row.operator("understudy.track_nudge", text="Later", icon="TRIA_RIGHT").frames = 1
        if shot.head or shot.head_empty is not None:
            on = head.is_on(shot)
            layout.operator("understudy.head_motion", icon="CON_ROTLIKE", depress=on,
                            text="Head Moves" if on else "Head Is Held Still")


class UNDERSTUDY_PT_edits(CleaningPanel, bpy.types.Panel):
    bl_label = "Corrections"

    def draw(self, context):
        layout, shot = self.layout, context.scene.understudy.shot
        row = layout.row(align=True)
        for show, text in SHOWN:
            row.operator("understudy.show_toggle", text=text, depress=shot.compare == show).show = show
        row.operator("understudy.show_toggle", text="", icon="ARROW_LEFTRIGHT").show = "NEXT"
        column = layout.column(align=True)
        column.operator("understudy.frame_suggested", icon="VIEWZOOM", text="Next Doubtful Frame")
        column.operator("understudy.edit_add", icon="SCULPTMODE_HLT")
        column.operator("understudy.edit_project", icon="MOD_SHRINKWRAP")
        found = sorted(edits.listed(shot.face), key=lambda key: key.name) if shot.face is not None else []
        if not found:
            return
        row = layout.row(align=True)
        row.label(text=f"{len(found)} correction{'s' * (len(found) > 1)}")
        off = all(key.mute for key in found)
        row.operator("understudy.edits_switch", text="All On" if off else "All Off",
                     icon="HIDE_OFF" if off else "HIDE_ON")
        column = layout.column(align=True)
        for key in found:
            row = column.row(align=True)
            row.prop(key, "mute", text="", icon="HIDE_OFF", emboss=False)  # Blender closes the eye itself
            row.prop(key, "value", text=key.name, slider=True)
            row.operator("understudy.edit_remove", text="", icon="X").name = key.name


class UNDERSTUDY_PT_cleaned(CleaningPanel, bpy.types.Panel):
    bl_label = "Training Data"

    def draw(self, context):
        layout, shot = self.layout, context.scene.understudy.shot
        run = runtime.marks.get(shot.uid)
        if run is not None and run.active:
            row = layout.row(align=True)
            row.scale_y = 1.6
            row.progress(factor=run.done / max(run.total, 1), text=run.text, type="BAR")
            row.operator("understudy.mark_stop", text="", icon="CANCEL")
        else:
            draw_mark(layout, shot, run)
        layout.label(text="Source frames left out:")
        row = layout.row()
        row.template_list("UNDERSTUDY_UL_excluded", "", shot, "excluded", shot, "excluded_active", rows=2)
        column = row.column(align=True)
        column.operator("understudy.exclude_add", text="", icon="ADD")
        column.operator("understudy.exclude_remove", text="", icon="REMOVE")
        layout.operator("understudy.composition", icon="PRESET")
        for text in runtime.composition:
            lines(layout, text, "DOT")


def draw_mark(layout: bpy.types.UILayout, shot, run: runtime.Run | None) -> None:
    """What a shot is to training, the button that makes it so, and how the last marking ended."""
    column = layout.column(align=True)
    column.row(align=True).prop(shot, "split", expand=True)
    column.row(align=True).prop(shot, "teaches", expand=True)
    row = layout.row(align=True)
    row.scale_y = 1.6
    row.operator("understudy.mark_cleaned", icon="CHECKMARK", text="Mark Again" if shot.taught else "Mark as Cleaned")
    if run is not None:
        lines(layout, run.text, STATES[run.state])
        for text in run.warnings[-3:]:
            lines(layout, text, "INFO")
    if shot.taught or (run is not None and run.state == "done"):
        column = layout.column(align=True)
        column.operator("understudy.mark_facts", icon="FILE_REFRESH")
        column.operator("understudy.unmark", icon="LOOP_BACK")


CLASSES = (UNDERSTUDY_UL_excluded, UNDERSTUDY_PT_track, UNDERSTUDY_PT_edits, UNDERSTUDY_PT_cleaned)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
