"""Step 1: the actor. Open one, try the sample, make one from a mesh, set its crop, choose the worker."""

import shutil
from pathlib import Path

import bpy
import numpy as np
from bpy.props import EnumProperty, FloatProperty, StringProperty

from ...core.actor import UNITS, Actor, create_actor
from ...core.errors import UnderstudyError
from ...core.topology import write_obj
from .. import faces, outputs, pump, runtime, scene_io, solving, training
from ..paths import absolute
from ..preferences import preferences, session_file, user_folder
from . import shots
from .shots import wait

SAMPLE = Path(__file__).resolve().parents[2] / "sample"  # in the extension; a checkout has none


class UNDERSTUDY_OT_actor_open(bpy.types.Operator):
    """Open an actor folder or a model file: its face comes into the scene, and its model solves"""

    bl_idname = "understudy.actor_open"
    bl_label = "Open Actor"
    bl_options = {"REGISTER", "UNDO"}

    filepath: StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})
    directory: StringProperty(subtype="DIR_PATH", options={"SKIP_SAVE", "HIDDEN"})
    filter_glob: StringProperty(default="*.safetensors;actor.json", options={"HIDDEN"})

    def invoke(self, context, event):
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context):
        path = absolute(self.filepath) if self.filepath else Path(self.directory)
        if not path.exists() and path.parent.joinpath("actor.json").is_file():  # a folder was entered, no file chosen
            path = path.parent
        return open_actor(self, context, path)


class UNDERSTUDY_OT_actor_sample(bpy.types.Operator):
    """Open the sample actor that comes with the extension, with a shot to solve: no files of your own are needed"""

    bl_idname = "understudy.actor_sample"
    bl_label = "Try the Sample Actor"
    bl_options = {"REGISTER"}  # the undo step comes when the footage was read

    @classmethod
    def poll(cls, context):
        if not (SAMPLE / "model.safetensors").is_file():
            cls.poll_message_set("This build has no sample actor; `make demo` makes one in demo/actor")
            return False
        return True

    def execute(self, context):
        folder = user_folder("sample")  # the extension's own folder goes with its next upgrade
        try:
            for file in SAMPLE.iterdir():
                if not (folder / file.name).exists() or (folder / file.name).stat().st_size != file.stat().st_size:
                    shutil.copy2(file, folder / file.name)
        except OSError as error:
            self.report({"ERROR"}, f"Cannot copy the sample actor to {folder}: {error.strerror}.")
            return {"CANCELLED"}
        result = open_actor(self, context, folder / "model.safetensors")
        if result == {"FINISHED"} and not context.scene.understudy.shots:
            return shots.add(self, context, shots.footage_in(folder), "Try the Sample Actor")
        return result


class UNDERSTUDY_OT_actor_from_mesh(bpy.types.Operator):
    """Make an actor folder from the active mesh; its vertex groups animated, stabiliser and any others become masks"""

    bl_idname = "understudy.actor_from_mesh"
    bl_label = "New Actor from Mesh"
    bl_options = {"REGISTER", "UNDO"}

    directory: StringProperty(subtype="DIR_PATH", options={"SKIP_SAVE"})
    name: StringProperty(name="Name", description="The actor's name; its folder is called the same", default="")
    unit: EnumProperty(name="Unit", default="m", description="How long one unit of the mesh is; errors in millimetres "
                                                             "depend on it",
                       items=[(name, name, f"{metres:g} m") for name, metres in UNITS.items()])

    @classmethod
    def poll(cls, context):
        if context.object is None or context.object.type != "MESH":
            cls.poll_message_set("Select the mesh of the face at rest")
            return False
        return True

    def invoke(self, context, event):
        self.name = self.name or context.object.name
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context):
        object = context.object
        try:
            folder = Path(bpy.path.abspath(self.directory), self.name or object.name)
            with session_file("template.obj") as template:
                write_obj(template, scene_io.mesh_of(object))
                groups = scene_io.read_groups(object)
                masks = {name: groups.pop(name, None) for name in ("animated", "stabiliser")}
                create_actor(folder, template, self.unit, name=self.name or None, **masks, regions=groups)
            context.scene.understudy.template = object
            faces.open_actor(context.scene, folder)
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, f"Made {folder}")
        return {"FINISHED"}


class UNDERSTUDY_OT_actor_weights(bpy.types.Operator):
    """Write the active vertex group of the active face into the actor: what is painted counts more in training"""

    bl_idname = "understudy.actor_weights"
    bl_label = "Use Painted Weights"
    bl_options = {"REGISTER"}

    emphasis: FloatProperty(name="Emphasis", default=4.0, min=1.0, soft_max=20.0, options={"SKIP_SAVE"},
                            description="How many times as much a fully painted vertex counts as an unpainted one; "
                                        "1 takes the weights away")

    @classmethod
    def poll(cls, context):
        if training.folder_of(context.scene.understudy) is None:
            cls.poll_message_set("Open an actor folder first: weights are kept there")
            return False
        if context.object is None or context.object.type != "MESH" or context.object.vertex_groups.active is None:
            cls.poll_message_set("Select a face of this actor with a painted vertex group")
            return False
        return True

    def invoke(self, context, event):
        return context.window_manager.invoke_props_dialog(self)

    def execute(self, context):
        object, settings = context.object, context.scene.understudy
        try:
            actor = Actor.load(training.folder_of(settings))
            outputs.check_face(object, settings.topology, lambda: actor.template)
            painted = scene_io.read_weights(object, object.vertex_groups.active)
            actor.weights = 1 + (self.emphasis - 1) * painted if self.emphasis > 1 else None
            actor.save()
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        count = np.count_nonzero(painted)
        self.report({"INFO"}, f"{count} painted vertices count up to {self.emphasis:g} times as much in training"
                    if self.emphasis > 1 else "All vertices count the same in training")
        return {"FINISHED"}


class UNDERSTUDY_OT_actor_reload(bpy.types.Operator):
    """Read the actor again, for instance after training: shots solved by an older model are then marked as stale"""

    bl_idname = "understudy.actor_reload"
    bl_label = "Reload Actor"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        return bool(context.scene.understudy.actor)

    def execute(self, context):
        return open_actor(self, context, absolute(context.scene.understudy.actor))


class UNDERSTUDY_OT_crop_suggest(bpy.types.Operator):
    """Find the face in the active shot's footage and lay the crop around it; look at the result and adjust it"""

    bl_idname = "understudy.crop_suggest"
    bl_label = "Suggest Crop"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        return _has_footage(cls, context)

    def execute(self, context):
        uid = context.scene.understudy.shot.uid

        def done(results: dict) -> None:
            found = solving.find(uid)
            if found is not None:
                from ..crop_gizmo import set_crop

                set_crop(*found, *results["crop"])
                runtime.crop_text = f"Found by {results['how']}"
                pump.undo_step("Suggest Crop")
                show_input(*found)

        try:
            pump.ask(["suggest-crop", str(absolute(context.scene.understudy.shot.footage))], done, crop_failed)
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        runtime.crop_text = "Looking for the face"
        return wait(self, lambda: runtime.crop_text if not runtime.crop_text.startswith("Found") else "")


class UNDERSTUDY_OT_crop_preview(bpy.types.Operator):
    """Show the exact 240 x 320 gray picture that the network gets at this frame"""

    bl_idname = "understudy.crop_preview"
    bl_label = "Preview Input"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        return _has_footage(cls, context)

    def execute(self, context):
        try:
            show_input(context.scene, context.scene.understudy.shot)
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return wait(self, lambda: "")


class UNDERSTUDY_OT_crop_store(bpy.types.Operator):
    """Write the crop into the actor folder, for training and for everybody else; the present model keeps its own"""

    bl_idname = "understudy.crop_store"
    bl_label = "Store with Actor"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        if not context.scene.understudy.actor or absolute(context.scene.understudy.actor).suffix:
            cls.poll_message_set("A model file alone cannot be changed: open the actor folder")
            return False
        return True

    def execute(self, context):
        settings = context.scene.understudy
        try:
            actor = Actor.load(absolute(settings.actor))
            actor.crop = tuple(round(number, 2) for number in settings.crop)
            actor.save()
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, f"Stored the crop in {actor.folder / 'actor.json'}")
        return {"FINISHED"}


class UNDERSTUDY_OT_worker_check(bpy.types.Operator):
    """Start the worker's Python and tell what it has and what it lacks: torch, GPU, memory"""

    bl_idname = "understudy.worker_check"
    bl_label = "Check"
    bl_options = {"REGISTER"}

    def execute(self, context):
        runtime.worker_text = "Starting the worker's Python ..."
        try:
            pump.ask(["doctor", "--device", preferences().device], _checked, _check_failed, name="solver")
        except UnderstudyError as error:
            _check_failed(str(error))
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return wait(self, lambda: "")


def _checked(results: dict) -> None:
    runtime.worker_text = "\n".join(results["lines"])


def _check_failed(text: str) -> None:
    runtime.worker_text = text


def open_actor(operator: bpy.types.Operator, context: bpy.types.Context, path: Path) -> set[str]:
    """Open an actor for an operator: reports what is wrong, and has the worker load the model meanwhile."""
    try:
        source = faces.open_actor(context.scene, path)
    except UnderstudyError as error:
        operator.report({"ERROR"}, str(error))
        return {"CANCELLED"}
    if source.model is None:
        operator.report({"WARNING"}, f"{source.name} has no model yet: train the actor first")
    else:
        operator.report({"INFO"}, f"{source.name}: {len(source.template.vertices)} vertices")
        if not bpy.app.background:
            pump.warm(source.model.path)
    return {"FINISHED"}


def show_input(scene: bpy.types.Scene, shot) -> None:
    """Ask for the network's input at the current frame of a shot, for the crop panel."""
    from .. import preview
    from ..timing import mapping

    crop = scene.understudy.crop_of(shot)
    if not crop[2]:
        raise UnderstudyError("There is no crop yet: drag one over the plate, or use Suggest Crop.")
    frame = round(mapping(scene, shot).source(scene.frame_current))
    frame = min(max(frame, 0), max(shot.frames - 1, 0))
    out = pump.session_folder() / "input.png"
    pump.ask(["picture", str(absolute(shot.footage)), "--frame", str(frame), "--crop", *map(str, crop), "--out",
              str(out)], lambda results: preview.load(out), crop_failed)


def crop_failed(text: str) -> None:
    runtime.crop_text = text


def _has_footage(cls, context: bpy.types.Context) -> bool:
    shot = context.scene.understudy.shot
    if shot is None or not shot.frames:
        cls.poll_message_set("Add a shot with footage first")
        return False
    return True


CLASSES = (UNDERSTUDY_OT_actor_open, UNDERSTUDY_OT_actor_sample, UNDERSTUDY_OT_actor_from_mesh,
           UNDERSTUDY_OT_actor_weights, UNDERSTUDY_OT_actor_reload, UNDERSTUDY_OT_crop_suggest,
           UNDERSTUDY_OT_crop_preview, UNDERSTUDY_OT_crop_store, UNDERSTUDY_OT_worker_check)
