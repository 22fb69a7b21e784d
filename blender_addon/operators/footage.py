"""Step 2: the footage. Plate, sound, rate of the scene, and the camera with its pins."""

import bpy
from bpy.props import FloatProperty, IntProperty

from ...core.errors import UnderstudyError
from .. import camera, plate, sound
from .pins import UNDERSTUDY_OT_pins_edit


class ShotOperator:
    """Works on the active shot."""

    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        shot = context.scene.understudy.shot
        if shot is None or not shot.frames:
            cls.poll_message_set("Add a shot with footage first")
            return False
        return True

    def execute(self, context):
        try:
            self.work(context, context.scene.understudy.shot)
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class CameraOperator(ShotOperator):
    """Works on the camera of the active shot."""

    @classmethod
    def poll(cls, context):
        shot = context.scene.understudy.shot
        if shot is None or shot.camera is None or shot.face is None:
            cls.poll_message_set("Make the camera of the shot first")
            return False
        return True


class UNDERSTUDY_OT_plate_place(ShotOperator, bpy.types.Operator):
    """Stand the plate beside the face again, the crop as high as the face"""

    bl_idname = "understudy.plate_place"
    bl_label = "Place Plate"

    def work(self, context, shot):
        if problem := plate.update(context.scene, shot):
            raise UnderstudyError(problem)
        plate.place(context.scene, shot)


class UNDERSTUDY_OT_sound_add(ShotOperator, bpy.types.Operator):
    """Put the sound of the footage into the sequencer, where its pictures play; it follows when the shot is moved"""

    bl_idname = "understudy.sound_add"
    bl_label = "Add Sound"

    def work(self, context, shot):
        if problem := sound.add_sound(context.scene, shot):
            raise UnderstudyError(problem)


class UNDERSTUDY_OT_scene_match(ShotOperator, bpy.types.Operator):
    """Give the scene the frame rate of the footage and the frame range of the shot; all shots of the scene follow"""

    bl_idname = "understudy.scene_match"
    bl_label = "Match Scene"

    def work(self, context, shot):
        sound.match_scene(context.scene, shot)


class UNDERSTUDY_OT_camera_make(ShotOperator, bpy.types.Operator):
    """Make a camera in front of the face with the footage behind it, and give renders the footage's size in pixels"""

    bl_idname = "understudy.camera_make"
    bl_label = "Make Camera"

    def work(self, context, shot):
        camera.make(context.scene, shot)


class UNDERSTUDY_OT_pin_add(CameraOperator, bpy.types.Operator):
    """Hold a vertex of the face to a place in the picture and move the camera so that it fits"""

    bl_idname = "understudy.pin_add"
    bl_label = "Add Pin"

    vertex: IntProperty(name="Vertex", min=0, description="Index of the vertex, from 0")
    u: FloatProperty(name="U", description="Pixels of the footage, from the left")
    v: FloatProperty(name="V", description="Pixels of the footage, from the top")

    def work(self, context, shot):
        camera.add_pin(context.scene, shot, self.vertex, self.u, self.v)
        camera.solve(shot, context.evaluated_depsgraph_get())


class UNDERSTUDY_OT_pins_clear(CameraOperator, bpy.types.Operator):
    """Remove all pins; the camera stays where it is"""

    bl_idname = "understudy.pins_clear"
    bl_label = "Clear Pins"

    def work(self, context, shot):
        shot.camera.understudy_camera.pins.clear()


CLASSES = (UNDERSTUDY_OT_plate_place, UNDERSTUDY_OT_sound_add, UNDERSTUDY_OT_scene_match, UNDERSTUDY_OT_camera_make,
           UNDERSTUDY_OT_pin_add, UNDERSTUDY_OT_pins_clear, UNDERSTUDY_OT_pins_edit)
