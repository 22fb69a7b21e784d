"""Step 5: cleaned shots become training data."""

import bpy
from bpy.props import BoolProperty, EnumProperty, IntProperty, StringProperty

from ...core.actor import Actor
from ...core.composition import composing
from ...core.errors import UnderstudyError
from .. import head, marking, pump, runtime
from ..marking import Order
from ..paths import absolute
from .outputs import Spread, leave_mode, shot_of
from .solve import preview_range


class UNDERSTUDY_OT_mark_cleaned(bpy.types.Operator):
    """Write what the face of the active shot shows, frame by frame, into the actor folder: training learns from it. \
Corrections, rigs and modifiers count; marking again replaces what was marked. Undo does not reach the actor folder: \
Unmark does"""

    bl_idname = "understudy.mark_cleaned"
    bl_label = "Mark as Cleaned"
    bl_options = {"REGISTER"}  # the undo step comes when all frames are there

    shot: StringProperty(name="Shot", options={"SKIP_SAVE"}, description="Name of the shot; empty is the active one")
    stabilise: BoolProperty(name="Stabilise", default=True,
                            description="Take the head's own motion out, by the actor's stabiliser vertices")

    @classmethod
    def poll(cls, context):
        return can_mark(cls, context)

    def execute(self, context):
        settings = context.scene.understudy
        shot = settings.shots.get(self.shot) if self.shot else settings.shot
        try:
            if shot is None:
                raise UnderstudyError(f"There is no shot named {self.shot} in the scene {context.scene.name}.")
            if shot.face is not None:
                leave_mode(context, shot.face)
            run = marking.mark(context.scene, shot, Order(stabilise=self.stabilise))
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if not bpy.app.background:
            return {"FINISHED"}
        pump.finish()
        for text in run.warnings:
            self.report({"WARNING"}, text)
        self.report({"INFO"} if run.state == "done" else {"ERROR"}, run.text)
        return {"FINISHED"} if run.state == "done" else {"CANCELLED"}


class UNDERSTUDY_OT_mark_stop(bpy.types.Operator):
    """Stop marking; the training data stay as they were"""

    bl_idname = "understudy.mark_stop"
    bl_label = "Stop Marking"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        return any(run.active for run in runtime.marks.values())

    def execute(self, context):
        for run in runtime.marks.values():
            run.stop = True
        pump.wake()
        return {"FINISHED"}


class UNDERSTUDY_OT_unmark(bpy.types.Operator):
    """Take back the newest marking of the active shot: training has the marking before again, or nothing of the shot"""

    bl_idname = "understudy.unmark"
    bl_label = "Unmark"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        return can_mark(cls, context)

    def invoke(self, context, event):
        return context.window_manager.invoke_confirm(self, event)

    def execute(self, context):
        try:
            self.report({"INFO"}, marking.take_back(context.scene, context.scene.understudy.shot))
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class UNDERSTUDY_OT_mark_facts(bpy.types.Operator):
    """Write role, split and excluded frames of the active shot into the actor folder; the vertices stay as marked"""

    bl_idname = "understudy.mark_facts"
    bl_label = "Update Role and Exclusions"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        if can_mark(cls, context) and not context.scene.understudy.shot.taught:
            cls.poll_message_set("Mark the shot as cleaned first")
            return False
        return can_mark(cls, context)

    def execute(self, context):
        try:
            self.report({"INFO"}, marking.write_facts(context.scene, context.scene.understudy.shot))
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class UNDERSTUDY_OT_exclude_add(bpy.types.Operator):
    """Leave frames of the active shot out of training, as where the face is hidden or badly tracked"""

    bl_idname = "understudy.exclude_add"
    bl_label = "Exclude Frames"
    bl_options = {"REGISTER", "UNDO"}

    source: EnumProperty(name="Frames", items=(
        ("PREVIEW", "Preview Range", "The scene's preview range"), ("FRAME", "Current Frame", "The frame shown now"),
        ("RANGE", "Range", "The source frames First to Last")), options={"SKIP_SAVE"})
    first: IntProperty(name="First", min=0, options={"SKIP_SAVE"}, description="First source frame, counted from 0")
    last: IntProperty(name="Last", min=0, options={"SKIP_SAVE"}, description="Last source frame, this one included")

    @classmethod
    def poll(cls, context):
        return shot_of(cls, context) is not None

    def execute(self, context):
        scene, shot = context.scene, context.scene.understudy.shot
        try:
            first, last = self._range(scene, shot)
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        inside = [(one.first, one.last) for one in shot.excluded]
        shot.excluded.clear()
        for begin, end in merged([*inside, (first, last)]):
            one = shot.excluded.add()
            one.first, one.last = begin, end
            if begin <= first <= end:
                shot.excluded_active = len(shot.excluded) - 1
        again = " Mark the shot again, or update its exclusions, for training to know." if shot.taught else ""
        self.report({"INFO"}, f"The source frames {first} to {last} are left out.{again}")
        return {"FINISHED"}

    def _range(self, scene, shot) -> tuple[int, int]:
        if self.source == "PREVIEW":
            return preview_range(scene, shot)
        if self.source == "FRAME":
            frame = round(marking.mapping(scene, shot).source(scene.frame_current_final))
            self.first = self.last = max(frame, 0)
        if not shot.first <= self.first <= self.last <= max(shot.last, shot.first):
            raise UnderstudyError(f"The source frames {self.first} to {self.last} are not in {shot.name}, which has "
                                  f"{shot.first} to {shot.last}.")
        return self.first, self.last


class UNDERSTUDY_OT_exclude_remove(bpy.types.Operator):
    """Let the chosen range of frames count again"""

    bl_idname = "understudy.exclude_remove"
    bl_label = "Include Frames"
    bl_options = {"REGISTER", "UNDO"}

    index: IntProperty(default=-1, options={"SKIP_SAVE"}, description="Place in the list; -1 is the chosen one")

    @classmethod
    def poll(cls, context):
        shot = shot_of(cls, context)
        if shot is not None and not len(shot.excluded):
            cls.poll_message_set("No frames are left out")
        return shot is not None and len(shot.excluded) > 0

    def execute(self, context):
        shot = context.scene.understudy.shot
        place = shot.excluded_active if self.index < 0 else self.index
        if not 0 <= place < len(shot.excluded):
            return {"CANCELLED"}
        shot.excluded.remove(place)
        shot.excluded_active = max(0, min(shot.excluded_active, len(shot.excluded) - 1))
        return {"FINISHED"}


class UNDERSTUDY_OT_head_motion(bpy.types.Operator):
    """Let the face of the active shot move with the head again, by an empty above it, or hold the head still"""

    bl_idname = "understudy.head_motion"
    bl_label = "Head Motion"
    bl_options = {"REGISTER", "UNDO"}

    on: EnumProperty(name="Head Motion", items=(("TOGGLE", "Toggle", ""), ("ON", "On", ""), ("OFF", "Off", "")),
                     options={"SKIP_SAVE"}, description="Whether the head moves")

    @classmethod
    def poll(cls, context):
        shot = shot_of(cls, context)
        if shot is not None and not shot.head and shot.head_empty is None:
            cls.poll_message_set(f"No motion of the head is known of {shot.name}")
            return False
        return shot is not None

    def execute(self, context):
        scene, shot = context.scene, context.scene.understudy.shot
        try:
            if self.on == "OFF" or (self.on == "TOGGLE" and head.is_on(shot)):
                head.take_off(shot)
            else:
                head.put_on(scene, shot)
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class UNDERSTUDY_OT_composition(Spread, bpy.types.Operator):
    """Weigh what the cleaned shots of the actor hold: minutes by role, how far each region moves, suspicious frames"""

    bl_idname = "understudy.composition"
    bl_label = "Weigh Training Data"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        actor = context.scene.understudy.actor
        if not actor or actor.endswith(".safetensors"):
            cls.poll_message_set("Open an actor folder first")
            return False
        return True

    def work(self, context):
        actor = Actor.load(absolute(context.scene.understudy.actor))
        found = yield from composing(actor)
        runtime.composition[:] = found.lines()
        pump.redraw()
        return found.lines()[0]


def can_mark(cls, context) -> bool:
    """Whether the active shot can be marked now; else the reason goes to the operator's poll message."""
    if why := marking.reason_not_to(context.scene, context.scene.understudy.shot):
        cls.poll_message_set(why)
        return False
    return True


def merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges in order, those that touch as one."""
    found: list[tuple[int, int]] = []
    for begin, end in sorted(ranges):
        if found and begin <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((begin, end))
    return found


CLASSES = (UNDERSTUDY_OT_mark_cleaned, UNDERSTUDY_OT_mark_stop, UNDERSTUDY_OT_unmark, UNDERSTUDY_OT_mark_facts,
           UNDERSTUDY_OT_exclude_add, UNDERSTUDY_OT_exclude_remove, UNDERSTUDY_OT_head_motion,
           UNDERSTUDY_OT_composition)
