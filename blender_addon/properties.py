"""What a .blend file keeps of an actor and its shots. What is going on right now is not kept: see runtime.py."""

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    FloatVectorProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from ..core.actor import ROLES, SPLITS, STATUSES
from . import paths

OUTPUTS = (
    ("MESH_CACHE", "Mesh Cache", "A .pc2 file beside the .blend, played by Blender's own Mesh Cache modifier: the "
                                 "exact solve, plays fastest, adds nothing to the .blend", "FILE_CACHE", 0),
    ("BASIS", "Basis Keys", "The network's 160 components as shape keys with a curve each: the same solve, editable "
                            "in the Graph Editor, its size hardly grows with the length", "FCURVE", 1),
    ("FRAMES", "Frame Keys", "A shape key for every frame, to sculpt single frames by hand: the .blend grows with "
                             "every frame", "SHAPEKEY_DATA", 2),
)
PACES = (
    ("FRAME", "Frame by Frame", "Every frame of the footage is one frame of the scene, whatever the two frame rates"),
    ("TIME", "Real Time", "The footage plays at its own speed; with frame rates that differ, source frames fall "
                          "between scene frames and the mesh is interpolated there"),
)


def _choices(names: tuple[str, ...], texts: tuple[str, ...]) -> list[tuple[str, str, str]]:
    return [(name.upper().replace(" ", "_"), name.title(), text) for name, text in zip(names, texts, strict=True)]


def _is_mesh(self, object: bpy.types.Object) -> bool:
    return object.type == "MESH"


def _retimed(self, context: bpy.types.Context) -> None:
    from . import follow  # imports outputs and plate, which read these properties

    follow.timing(self.id_data, self)


def _selected(self, context: bpy.types.Context) -> None:
    from . import follow

    follow.active_shot(self.id_data)


def _compared(self, context: bpy.types.Context) -> None:
    from . import cleaning

    cleaning.show(self)


class UnderstudyRange(bpy.types.PropertyGroup):
    """Source frames of a shot that do not train, both ends included."""

    first: IntProperty(name="First", min=0, description="First source frame that is left out, counted from 0")
    last: IntProperty(name="Last", min=0, description="Last source frame that is left out, this one included")


class UnderstudyShot(bpy.types.PropertyGroup):
    """A shot of the scene: footage, how it maps to scene frames, and the solve that its face shows."""

    uid: StringProperty(options={"HIDDEN"})  # who this is across undo, renaming and reordering
    name: StringProperty(name="Name", description="What the shot is called here and on the command line")
    footage: StringProperty(
        name="Footage", subtype="FILE_PATH", options=paths.OPTIONS,
        description="A movie, or one picture of an image sequence; // is the folder of the .blend")
    role: EnumProperty(name="Role", items=_choices(ROLES, (
        "Range of motion, pushed to the extremes", "Single muscle actions, one after another",
        "Sentences made to hold every sound", "In character, as in the film")), default="CHARACTER",
        description="What the actor does; training wants 10 % extreme, 30 % FACS and 60 % speech")
    status: EnumProperty(name="Status", items=_choices(STATUSES, (
        "Not solved yet", "Solved by the network, not looked at", "An artist is at it", "Approved; may train")),
        description="How far this shot has come")

    # What training gets of it.
    split: EnumProperty(name="Split", items=_choices(SPLITS, (
        "The network learns from it", "Kept back to judge the network; it never learns from it")),
        description="Whether the shot teaches or judges; whole shots, never single frames of one")
    teaches: EnumProperty(name="Frames", items=(
        ("ALL", "All Frames", "Every frame of the shot is clean"),
        ("CORRECTED", "Corrected Only", "Only frames at which a correction is fully on count: the solve of the others "
                                        "would teach the network its own mistakes")),
        description="Which frames count")
    excluded: CollectionProperty(type=UnderstudyRange)
    excluded_active: IntProperty(name="Excluded Range")
    taught: StringProperty()       # name of the shot in the actor folder; "" until it is marked
    taught_when: StringProperty()  # for people
    head: StringProperty(name="Head Motion", subtype="FILE_PATH", options=paths.OPTIONS,
                         description="The head's own motion, which was taken out of the tracked vertices")
    head_empty: PointerProperty(type=bpy.types.Object)  # the parent of the face that carries the head's motion
    compare: EnumProperty(name="Compare", update=_compared, items=(
        ("EDITED", "Edited", "The solve with the corrections"), ("SOLVE", "Solve", "The solve without the corrections"),
        ("PLATE", "Plate", "The footage alone")), description="What of the shot is shown")

    # The footage, as the worker found it.
    width: IntProperty()
    height: IntProperty()
    frames: IntProperty()  # exact count; 0 = not asked yet
    fps: FloatProperty()
    variable: BoolProperty()  # the frame rate changes
    audio: BoolProperty()
    identity: StringProperty()
    stamp: StringProperty()  # size and time of a movie when it was asked
    framing: StringProperty()  # "" unknown or the same as in training; else a sentence
    framing_within: BoolProperty()  # whether training has prepared the network for the difference

    # Source frames count from 0, as on the command line.
    first: IntProperty(name="First", min=0, description="First source frame to solve, counted from 0",
                       update=_retimed)
    last: IntProperty(name="Last", min=0, description="Last source frame to solve, this one included",
                      update=_retimed)
    anchor_source: IntProperty(name="Source Frame", min=0, update=_retimed,
                               description="The source frame, counted from 0, that plays at Scene Frame")
    anchor_scene: FloatProperty(name="Scene Frame", default=1, precision=1, step=100, update=_retimed,
                                description="The scene frame at which Source Frame plays; trimming does not move it")
    pace: EnumProperty(name="Pace", items=PACES, default="FRAME", update=_retimed,
                       description="How source frames follow each other in the scene")

    own_crop: BoolProperty(name="Crop of Its Own", description="This footage is framed unlike the training footage: "
                                                               "use a crop that cuts the same part of the face")
    crop: FloatVectorProperty(name="Crop", size=4, min=0, precision=1, subtype="NONE",
                              description="Left, top, width and height in pixels of the footage")

    face: PointerProperty(name="Face", type=bpy.types.Object, poll=_is_mesh,
                          description="The mesh that the solve moves; it has the actor's vertices in the actor's order")
    plate: PointerProperty(type=bpy.types.Object)   # the empty that shows the footage
    camera: PointerProperty(type=bpy.types.Object)
    output: EnumProperty(name="Output", items=OUTPUTS, description="The form in which the face carries the solve")

    # The solve that the face shows; its cache tells more (core/solved.py).
    cache: StringProperty(name="Cache", subtype="FILE_PATH", options=paths.OPTIONS,
                          description="The mesh cache of the newest solve; // is the folder of the .blend")
    solved_first: IntProperty()
    solved_last: IntProperty(default=-1)
    solved_model: StringProperty()      # sha256
    solved_footage: StringProperty()    # identity
    solved_crop: FloatVectorProperty(size=4)
    solved_by: StringProperty()         # engine and device, in words
    solved_ratio: FloatProperty()       # source frames a scene frame when the output was made

    @property
    def solved(self) -> bool:
        return self.solved_last >= self.solved_first and bool(self.cache)


class UnderstudyScene(bpy.types.PropertyGroup):
    """`Scene.understudy`: the actor and its shots."""

    actor: StringProperty(name="Actor", subtype="FILE_PATH", options=paths.OPTIONS,
                          description="The actor folder, or a model file alone; // is the folder of the .blend")
    actor_name: StringProperty()
    model: StringProperty(name="Model", subtype="FILE_PATH", options=paths.OPTIONS,
                          description="The model file that solves; // is the folder of the .blend")
    model_sha256: StringProperty()  # "" when there is no model yet
    model_stamp: StringProperty()   # size and time of the file, to notice that it was replaced
    topology: StringProperty()
    vertices: IntProperty()
    components: IntProperty()
    unit: FloatProperty(default=1.0)  # metres per mesh unit
    crop: FloatVectorProperty(
        name="Crop", size=4, min=0, precision=1,
        description="Left, top, width and height in pixels of the part of the picture that the network sees")
    rate: FloatProperty()  # frames a second of the scene when all shots followed it
    template: PointerProperty(name="Template", type=bpy.types.Object, poll=_is_mesh)
    cache_folder: StringProperty(
        name="Cache Folder", subtype="DIR_PATH", options=paths.OPTIONS,
        description="Where solves are written; empty: as the preferences say")
    shots: CollectionProperty(type=UnderstudyShot)
    active: IntProperty(name="Active Shot", update=_selected)

    @property
    def shot(self) -> UnderstudyShot | None:
        """The active shot."""
        return self.shots[self.active] if 0 <= self.active < len(self.shots) else None

    def find(self, uid: str) -> UnderstudyShot | None:
        """The shot of that identity, if it is still there."""
        return next((shot for shot in self.shots if shot.uid == uid), None)

    def crop_of(self, shot: UnderstudyShot) -> tuple[float, float, float, float]:
        """The crop that this shot is solved with; width 0 when none is set."""
        return tuple(shot.crop if shot.own_crop else self.crop)


CLASSES = (UnderstudyRange, UnderstudyShot, UnderstudyScene)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.understudy = PointerProperty(type=UnderstudyScene)


def unregister() -> None:
    del bpy.types.Scene.understudy
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
