"""Bringing in shots that were tracked elsewhere."""

from pathlib import Path

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, StringProperty

from ...core.conversion import MATRICES, Conversion, check, describe_axes
from ...core.errors import UnderstudyError
from .. import faces, importing, tracks
from ..paths import absolute
from .outputs import Spread, leave_mode, shot_of

TRACKS = ";".join(f"*{suffix}" for suffix in tracks.SUFFIXES)
GUESS = "GUESS"
AXES = ((GUESS, "Guess", "As the first frame lies against the template"),
        *((axes, describe_axes(axes) + (" (mirrored)" if place >= 24 else ""),
           "The axes of the track that become the template's X, Y and Z") for place, axes in enumerate(MATRICES)))
LENGTH = 92  # letters in a line of the dialog


class UNDERSTUDY_OT_track_open(bpy.types.Operator):
    """Choose the file of a track: PC2, MDD, npy, npz, Alembic, USD, FBX, glTF, or one OBJ file of a folder of them"""

    bl_idname = "understudy.track_open"
    bl_label = "Bring In Track"
    bl_options = {"REGISTER"}

    filepath: StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_glob: StringProperty(default=TRACKS, options={"HIDDEN"})

    @classmethod
    def poll(cls, context):
        return can_bring_in(cls, context)

    def invoke(self, context, event):
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context):
        bpy.ops.understudy.track_import("INVOKE_DEFAULT", filepath=self.filepath)
        return {"FINISHED"}


class UNDERSTUDY_OT_shot_from_track(bpy.types.Operator):
    """Add a shot for a track whose footage has not come yet; choose the footage when it has: training needs both"""

    bl_idname = "understudy.shot_from_track"
    bl_label = "New Shot from Track"
    bl_options = {"REGISTER"}

    filepath: StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_glob: StringProperty(default=TRACKS, options={"HIDDEN"})

    @classmethod
    def poll(cls, context):
        return has_actor(cls, context)

    def invoke(self, context, event):
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context):
        how = "EXEC_DEFAULT" if bpy.app.background else "INVOKE_DEFAULT"
        bpy.ops.understudy.track_import(how, filepath=self.filepath, new_shot=True)
        return {"FINISHED"}


class UNDERSTUDY_OT_track_import(Spread, bpy.types.Operator):
    """Let the face of the active shot play a track, converted to the template's unit and axes and stabilised; from \
then on it is a shot like any other"""

    bl_idname = "understudy.track_import"
    bl_label = "Bring In Track"
    bl_options = {"REGISTER", "UNDO"}

    filepath: StringProperty(name="File", subtype="FILE_PATH", options={"SKIP_SAVE"})
    object: StringProperty(name="Object", options={"SKIP_SAVE"},
                           description="Name of an object of the scene to bring in instead of a file, as it moves over "
                                       "the shot's frames")
    scale: FloatProperty(name="Scale", default=0, min=0, precision=4, options={"SKIP_SAVE"},
                         description="Template units a unit of the track; 0 is guessed by size")
    axes: EnumProperty(name="Axes", items=AXES, options={"SKIP_SAVE"},
                       description="The axes of the track that become the template's X, Y and Z")
    first: IntProperty(name="First Frame", options={"SKIP_SAVE"},
                       description="Source frame, counted from 0, at which the first sample plays; below 0 the samples "
                                   "before the footage are left out")
    fps: FloatProperty(name="Frame Rate", default=0, min=0, options={"SKIP_SAVE"},
                       description="Frames a second at which Alembic, FBX and glTF files, which know times, are looked "
                                   "at; 0 is as the footage")
    stabilise: BoolProperty(name="Stabilise", default=True,
                            description="Take the head's own motion out, by the actor's stabiliser vertices; it is "
                                        "kept and can be put on again")
    new_shot: BoolProperty(options={"HIDDEN", "SKIP_SAVE"}, description="Into a new shot without footage")

    @classmethod
    def poll(cls, context):
        return has_actor(cls, context)

    def invoke(self, context, event):
        try:
            with self._track(context) as track:
                found, lines = importing.look(context.scene, self._shot(context), track)
                self._frame, first = track.sample(0), track.first
            self._source = faces.read(absolute(context.scene.understudy.actor))
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self._lines, self._doubt = [*lines, found.lines[0]], not found.sure
        self.scale, self.axes = found.conversion.scale, found.conversion.axes
        self.first = self.first or first or 0
        return context.window_manager.invoke_props_dialog(self, width=560)

    def draw(self, context):
        layout = self.layout
        layout.use_property_split = True
        column = layout.column(align=True)
        told = check(self._conversion(), self._frame, self._source.template.vertices, self._source.unit)
        for text in (*self._lines, *told):
            column.label(text=text[:LENGTH])
        if self._doubt:
            column.label(text="Size or axes are in doubt: check them", icon="ERROR")
        for name in ("scale", "axes", "first", "fps", "stabilise"):
            if name != "fps" or Path(self.filepath).suffix.lower() in tracks.IMPORTERS:
                layout.prop(self, name)

    def work(self, context):
        scene, shot = context.scene, self._shot(context)
        if shot is not None and shot.face is not None:
            leave_mode(context, shot.face)
        with self._track(context) as track:
            if not self.scale or self.axes == GUESS:
                found, lines = importing.look(scene, shot, track)
                self.report({"INFO"} if found.sure else {"WARNING"}, "; ".join([*lines, *found.lines]) + ".")
                self.scale = self.scale or found.conversion.scale
                self.axes = found.conversion.axes if self.axes == GUESS else self.axes
            first = track.first if track.first is not None and not self.first else self.first
            order = importing.Order(self._conversion(), first, self.stabilise)
            if shot is None:
                return (yield from importing.new_shot(scene, track, order))
            return (yield from importing.bring_in(scene, shot, track, order))

    def _shot(self, context):
        """The shot that gets the track; None for a new one. Raises UnderstudyError if it cannot be changed now."""
        if self.new_shot:
            return None
        if not can_bring_in(type(self), context):
            raise UnderstudyError("There is no shot, or it is being solved. Add one, or wait.")
        return context.scene.understudy.shot

    def _conversion(self) -> Conversion:
        return Conversion(self.scale or 1.0, self.axes if self.axes != GUESS else next(iter(MATRICES)))

    def _track(self, context):
        """The track that is asked for."""
        scene, shot = context.scene, self._shot(context)
        template = faces.read(absolute(scene.understudy.actor)).template
        if not self.object:
            return tracks.opened(scene, shot, template, Path(bpy.path.abspath(self.filepath)), fps=self.fps)
        if self.object not in scene.objects or scene.objects[self.object].type != "MESH":
            raise UnderstudyError(f"The scene {scene.name} has no mesh object named {self.object}.")
        return tracks.opened(scene, shot, template, object=scene.objects[self.object])


class UNDERSTUDY_OT_track_object(bpy.types.Operator):
    """Bring in the selected mesh object, as it moves over the frames of the active shot"""

    bl_idname = "understudy.track_object"
    bl_label = "Bring In Selected Object"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        if not can_bring_in(cls, context):
            return False
        chosen, face = context.active_object, context.scene.understudy.shot.face
        if chosen is None or chosen.type != "MESH" or chosen == face:
            cls.poll_message_set("Select a mesh object other than the shot's own face")
            return False
        return True

    def execute(self, context):
        how = "EXEC_DEFAULT" if bpy.app.background else "INVOKE_DEFAULT"
        return bpy.ops.understudy.track_import(how, object=context.active_object.name)


class UNDERSTUDY_OT_track_nudge(bpy.types.Operator):
    """Let the track play later or earlier against its footage, by source frames"""

    bl_idname = "understudy.track_nudge"
    bl_label = "Nudge Track"
    bl_options = {"REGISTER", "UNDO"}

    frames: IntProperty(name="Frames", default=1, description="Source frames by which the track plays later")

    @classmethod
    def poll(cls, context):
        shot = shot_of(cls, context)
        if shot is not None and not importing.is_track(shot):
            cls.poll_message_set(f"{shot.name} plays no track from elsewhere")
        return shot is not None and importing.is_track(shot)

    def execute(self, context):
        try:
            importing.nudge(context.scene, context.scene.understudy.shot, self.frames)
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class UNDERSTUDY_OT_frame_check(bpy.types.Operator):
    """Go to the first, middle or last frame of the shot, to hold face and plate side by side"""

    bl_idname = "understudy.frame_check"
    bl_label = "Check Frame"
    bl_options = {"REGISTER"}

    which: EnumProperty(name="Frame", items=(("FIRST", "First", ""), ("MIDDLE", "Middle", ""), ("LAST", "Last", "")),
                        description="Which frame is shown")

    @classmethod
    def poll(cls, context):
        return shot_of(cls, context) is not None

    def execute(self, context):
        source = importing.go_to(context.scene, context.scene.understudy.shot, self.which)
        self.report({"INFO"}, f"Source frame {source}.")
        return {"FINISHED"}


def can_bring_in(cls, context) -> bool:
    """Whether the active shot can take a track; else the reason goes to the operator's poll message."""
    return has_actor(cls, context) and shot_of(cls, context) is not None


def has_actor(cls, context) -> bool:
    """Whether an actor is open; else the reason goes to the operator's poll message."""
    if not context.scene.understudy.actor:
        cls.poll_message_set("Open an actor first")
        return False
    return True


CLASSES = (UNDERSTUDY_OT_track_open, UNDERSTUDY_OT_shot_from_track, UNDERSTUDY_OT_track_import,
           UNDERSTUDY_OT_track_object, UNDERSTUDY_OT_track_nudge, UNDERSTUDY_OT_frame_check)
