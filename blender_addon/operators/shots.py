"""Step 2: the list of shots."""

from pathlib import Path

import bpy
from bpy.props import CollectionProperty, EnumProperty, FloatProperty, StringProperty

from ...core.errors import UnderstudyError
from .. import faces, follow, plate, pump, runtime, solving
from ..paths import absolute

MOVIES = (".mov", ".mp4", ".m4v", ".mkv", ".avi", ".webm")
SENSOR = 72.0  # mm, twice the sensor of a viewport: its view is that wide at the distance of its lens
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".exr", ".dpx", ".bmp")


class UNDERSTUDY_OT_shot_add(bpy.types.Operator):
    """Add a shot for every chosen movie, or for the image sequence of a chosen picture"""

    bl_idname = "understudy.shot_add"
    bl_label = "Add Shots"
    bl_options = {"REGISTER"}  # the undo step comes when the footage was read

    filepath: StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})
    directory: StringProperty(subtype="DIR_PATH", options={"SKIP_SAVE", "HIDDEN"})
    files: CollectionProperty(type=bpy.types.OperatorFileListElement, options={"SKIP_SAVE", "HIDDEN"})
    filter_movie: bpy.props.BoolProperty(default=True, options={"HIDDEN", "SKIP_SAVE"})
    filter_image: bpy.props.BoolProperty(default=True, options={"HIDDEN", "SKIP_SAVE"})
    filter_folder: bpy.props.BoolProperty(default=True, options={"HIDDEN", "SKIP_SAVE"})

    @classmethod
    def poll(cls, context):
        return _has_actor(cls, context)

    def invoke(self, context, event):
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context):
        folder = Path(bpy.path.abspath(self.directory))
        chosen = [folder / file.name for file in self.files if file.name] or [absolute(self.filepath)]
        return add(self, context, chosen, "Add Shots")


class UNDERSTUDY_OT_shot_add_folder(bpy.types.Operator):
    """Add a shot for every movie of a folder, and for every folder of pictures in it"""

    bl_idname = "understudy.shot_add_folder"
    bl_label = "Add Folder of Shots"
    bl_options = {"REGISTER"}

    directory: StringProperty(subtype="DIR_PATH", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context):
        return _has_actor(cls, context)

    def invoke(self, context, event):
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context):
        folder = Path(bpy.path.abspath(self.directory))
        if not folder.is_dir():
            self.report({"ERROR"}, f"There is no folder {folder}.")
            return {"CANCELLED"}
        known = {absolute(shot.footage) for shot in context.scene.understudy.shots}
        found = [path for path in footage_in(folder) if path not in known]
        if not found:
            self.report({"ERROR"}, f"{folder} holds no movies or folders of pictures that are not in the list yet.")
            return {"CANCELLED"}
        return add(self, context, found, "Add Folder of Shots")


class UNDERSTUDY_OT_shot_remove(bpy.types.Operator):
    """Take the active shot out of the list; its face stays in the scene, and its files on the disk"""

    bl_idname = "understudy.shot_remove"
    bl_label = "Remove Shot"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        return context.scene.understudy.shot is not None

    def execute(self, context):
        settings = context.scene.understudy
        run = runtime.run_of(settings.shot.uid)
        if run is not None:
            run.stop = True
        plate.remove(context.scene, settings.shot)
        settings.shots.remove(settings.active)
        settings.active = max(0, min(settings.active, len(settings.shots) - 1))
        return {"FINISHED"}


class UNDERSTUDY_OT_shot_move(bpy.types.Operator):
    """Move the active shot in the list; Solve All goes through it from the top"""

    bl_idname = "understudy.shot_move"
    bl_label = "Move Shot"
    bl_options = {"REGISTER", "UNDO"}

    direction: EnumProperty(items=(("UP", "Up", ""), ("DOWN", "Down", "")))

    @classmethod
    def poll(cls, context):
        return len(context.scene.understudy.shots) > 1

    def execute(self, context):
        settings = context.scene.understudy
        place = settings.active + (1 if self.direction == "DOWN" else -1)
        if not 0 <= place < len(settings.shots):
            return {"CANCELLED"}
        settings.shots.move(settings.active, place)
        settings.active = place
        return {"FINISHED"}


class UNDERSTUDY_OT_shot_probe(bpy.types.Operator):
    """Read the facts of the footage again, after it was replaced or has moved"""

    bl_idname = "understudy.shot_probe"
    bl_label = "Reload Footage"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        shot = context.scene.understudy.shot
        return shot is not None and bool(shot.footage)

    def execute(self, context):
        shot = context.scene.understudy.shot
        try:
            solving.probe(context.scene, shot, follow.probed([shot.uid], "Reload Footage"))
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return wait(self, lambda: runtime.footage_text.get(shot.uid, ""))


class UNDERSTUDY_OT_shot_nudge(bpy.types.Operator):
    """Move the shot by scene frames against the scene: mesh, plate and sound together"""

    bl_idname = "understudy.shot_nudge"
    bl_label = "Nudge"
    bl_options = {"REGISTER", "UNDO"}

    frames: FloatProperty(name="Frames", default=1, description="Scene frames by which the shot plays later")

    @classmethod
    def poll(cls, context):
        return context.scene.understudy.shot is not None

    def execute(self, context):
        context.scene.understudy.shot.anchor_scene += self.frames
        return {"FINISHED"}


class UNDERSTUDY_OT_shot_here(bpy.types.Operator):
    """Let the first frame of the trimmed shot play at the scene's start frame"""

    bl_idname = "understudy.shot_to_start"
    bl_label = "Move to Scene Start"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        return context.scene.understudy.shot is not None

    def execute(self, context):
        shot = context.scene.understudy.shot
        shot.anchor_source = shot.first
        shot.anchor_scene = context.scene.frame_start
        return {"FINISHED"}


class UNDERSTUDY_OT_shot_view(bpy.types.Operator):
    """Look at the active shot from the front, with face and plate side by side"""

    bl_idname = "understudy.shot_view"
    bl_label = "View Shot"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        if context.area is None or context.area.type != "VIEW_3D":
            cls.poll_message_set("Needs a 3D viewport")
            return False
        return context.scene.understudy.shot is not None

    def execute(self, context):
        shot = context.scene.understudy.shot
        regions = {region.type: region for region in context.area.regions}
        view = context.area.spaces.active.region_3d
        with context.temp_override(region=regions["WINDOW"]):
            bpy.ops.view3d.view_axis(type="FRONT")
        low, high = plate.box(context.scene, shot)
        # Sidebar and tool bar lie over the view: what is free between them has to hold both.
        bars = {name: regions[name].width if regions[name].width > 1 else 0 for name in ("TOOLS", "UI")}
        window = regions["WINDOW"]
        free = max(window.width - sum(bars.values()), window.width // 4), window.height * 0.8
        pixel = 1.1 * max((high.x - low.x) / free[0], (high.z - low.z) / free[1])  # of the window, in the scene
        middle = (low + high) / 2
        middle.x += pixel * (bars["UI"] - bars["TOOLS"]) / 2
        lens = context.area.spaces.active.lens
        view.view_perspective = "ORTHO"
        view.view_location = middle
        view.view_distance = pixel * max(window.width, window.height) * lens / SENSOR
        return {"FINISHED"}


def add(operator: bpy.types.Operator, context: bpy.types.Context, paths: list[Path], step: str) -> set[str]:
    """Add shots for an operator, as one undo step when their footage was read."""
    scene, settings = context.scene, context.scene.understudy
    for path in paths:
        if not path.exists() and not set("%#") & set(path.name):
            operator.report({"ERROR"}, f"There is no footage at {path}.")
            return {"CANCELLED"}
    uids = [faces.new_shot(scene, path).uid for path in paths]
    then = follow.probed(uids, step)
    try:
        for uid in uids:
            solving.probe(scene, settings.find(uid), then)
    except UnderstudyError as error:
        operator.report({"ERROR"}, str(error))
        return {"CANCELLED"}
    return wait(operator, lambda: " ".join(filter(None, (runtime.footage_text.get(uid) for uid in uids))))


def wait(operator: bpy.types.Operator, error) -> set[str]:
    """In background mode, do now what the timer would do later; `error()` is then what went wrong, or empty."""
    if bpy.app.background:
        pump.finish()
        if error():
            operator.report({"ERROR"}, error())
            return {"CANCELLED"}
    return {"FINISHED"}


def footage_in(folder: Path) -> list[Path]:
    """The movies of a folder, and the first picture of every folder of pictures in it (itself included)."""
    found = []
    for place in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        files = sorted(path for path in place.iterdir() if path.is_file() and not path.name.startswith("."))
        if place == folder:
            found += [path for path in files if path.suffix.lower() in MOVIES]
        pictures = [path for path in files if path.suffix.lower() in PICTURES]
        if len(pictures) > 1:
            found.append(pictures[0])
    return found


def _has_actor(cls, context: bpy.types.Context) -> bool:
    if not context.scene.understudy.actor:
        cls.poll_message_set("Open an actor first")
        return False
    return True


CLASSES = (UNDERSTUDY_OT_shot_add, UNDERSTUDY_OT_shot_add_folder, UNDERSTUDY_OT_shot_remove, UNDERSTUDY_OT_shot_move,
           UNDERSTUDY_OT_shot_probe, UNDERSTUDY_OT_shot_nudge, UNDERSTUDY_OT_shot_here,
           UNDERSTUDY_OT_shot_view)
