"""Pinning the face to the picture with the mouse, in the camera's view."""

from dataclasses import dataclass

import bpy
from bpy_extras.view3d_utils import location_3d_to_region_2d, region_2d_to_origin_3d, region_2d_to_vector_3d
from mathutils import Vector

from ...core.errors import UnderstudyError
from .. import camera, plate

REACH = 14  # pixels of the screen around a pin that take hold of it
PLACE, HOVER, VERTEX = (1.0, 0.62, 0.1, 1.0), (1.0, 0.9, 0.5, 1.0), (0.2, 0.9, 1.0, 1.0)
HELP = ("Click on the face and drag the pin to where that point is in the picture   |   Delete: remove pin   |   "
        "Esc: done   |   {count} pins, {residual:.1f} pixels off")


@dataclass
class Look:
    """A viewport that looks through a shot's camera, for as long as an event or a redraw lasts."""

    scene: bpy.types.Scene
    shot: object
    region: bpy.types.Region
    view: bpy.types.RegionView3D

    def frame(self) -> tuple[Vector, float]:
        """Middle of the camera's picture in the region, and pixels of the region a pixel of the footage."""
        corners = [location_3d_to_region_2d(self.region, self.view, self.shot.camera.matrix_world @ corner)
                   for corner in self.shot.camera.data.view_frame(scene=self.scene)]  # top right first
        return (corners[0] + corners[2]) / 2, (corners[0] - corners[3]).length / plate.picture_size(self.shot)[0]

    def to_pixel(self, place: Vector) -> tuple[float, float]:
        """The pixel of the footage at a place of the region."""
        middle, scale = self.frame()
        width, height = plate.picture_size(self.shot)
        return width / 2 + (place.x - middle.x) / scale, height / 2 - (place.y - middle.y) / scale

    def places(self) -> list[Vector]:
        """Where the pins' pixels are in the region."""
        middle, scale = self.frame()
        width, height = plate.picture_size(self.shot)
        return [middle + Vector((pin.u - width / 2, height / 2 - pin.v)) * scale
                for pin in self.shot.camera.understudy_camera.pins]

    def pin_at(self, mouse: Vector) -> int:
        """Index of the pin under the mouse, or -1."""
        distances = [(place - mouse).length for place in self.places()]
        nearest = min(range(len(distances)), key=distances.__getitem__, default=-1)
        reach = REACH * bpy.context.preferences.system.ui_scale
        return nearest if nearest >= 0 and distances[nearest] <= reach else -1

    def pick(self, mouse: Vector) -> tuple[int, Vector] | None:
        """The vertex of the face under the mouse and its world position."""
        return camera.pick(self.shot, bpy.context.evaluated_depsgraph_get(),
                           region_2d_to_origin_3d(self.region, self.view, mouse),
                           region_2d_to_vector_3d(self.region, self.view, mouse))


class UNDERSTUDY_OT_pins_edit(bpy.types.Operator):
    """Line the camera up: click on the face and drag the point to where it is in the picture; the camera follows. \
Two pins place the face, four or more turn it too"""

    bl_idname = "understudy.pins_edit"
    bl_label = "Edit Pins"
    bl_options = {"REGISTER"}  # every drag is an undo step of its own

    @classmethod
    def poll(cls, context):
        shot = context.scene.understudy.shot
        if shot is None or shot.camera is None or shot.face is None:
            cls.poll_message_set("Make the camera of the shot first")
            return False
        if context.area is None or context.area.type != "VIEW_3D":
            cls.poll_message_set("Pins are dragged in the 3D viewport")
            return False
        return True

    def invoke(self, context, event):
        shot = context.scene.understudy.shot
        camera.use(context.scene, shot)
        context.space_data.region_3d.view_perspective = "CAMERA"
        self.uid, self.held, self.hover, self.before = shot.uid, -1, -1, None
        shading = context.space_data.shading
        self.xray = shading.show_xray, shading.xray_alpha
        shading.show_xray, shading.xray_alpha = True, 0.4  # the picture is behind the face
        self.handle = bpy.types.SpaceView3D.draw_handler_add(self.draw_view, (), "WINDOW", "POST_PIXEL")
        context.window_manager.modal_handler_add(self)
        self.tell(context, shot)
        return {"RUNNING_MODAL"}

    def modal(self, context, event):
        shot = context.scene.understudy.find(self.uid)
        in_view = context.area is not None and context.area.type == "VIEW_3D"
        if not in_view or shot is None or shot.camera is None or shot.face is None:
            self.cancel(context)
            return {"FINISHED"}
        region = next(region for region in context.area.regions if region.type == "WINDOW")
        look = Look(context.scene, shot, region, context.space_data.region_3d)
        mouse = Vector((event.mouse_x - region.x, event.mouse_y - region.y))
        if event.type in {"ESC", "RIGHTMOUSE"} and event.value == "PRESS":
            if self.held < 0:
                self.cancel(context)
                return {"FINISHED"}
            self.restore(shot)
        elif self.held >= 0:
            if event.type == "MOUSEMOVE":
                pin = shot.camera.understudy_camera.pins[self.held]
                pin.u, pin.v = look.to_pixel(mouse)
                self.solve(context, shot)
            elif event.type == "LEFTMOUSE" and event.value == "RELEASE":
                self.held = -1
                bpy.ops.ed.undo_push(message="Move Pin")
        elif look.view.view_perspective != "CAMERA" or not over_view(context.area, event):
            return {"PASS_THROUGH"}
        elif event.type == "MOUSEMOVE":
            self.hover = look.pin_at(mouse)
        elif event.type == "LEFTMOUSE" and event.value in {"PRESS", "DOUBLE_CLICK"}:
            self.press(look, mouse)
        elif event.type in {"DEL", "X", "BACK_SPACE"} and event.value == "PRESS":
            self.remove(context, look, mouse)
        else:
            return {"PASS_THROUGH"}
        self.tell(context, shot)
        return {"RUNNING_MODAL"}

    def cancel(self, context):
        """Also called by Blender, when a file is opened or the window is closed."""
        bpy.types.SpaceView3D.draw_handler_remove(self.handle, "WINDOW")
        if context.area is not None and context.area.type == "VIEW_3D":
            shading = context.space_data.shading
            shading.show_xray, shading.xray_alpha = self.xray
            context.area.header_text_set(None)
            context.area.tag_redraw()

    def press(self, look: Look, mouse: Vector) -> None:
        """Take hold of the pin under the mouse, or make one on the face."""
        placed, pins = look.shot.camera, look.shot.camera.understudy_camera.pins
        self.before = [(pin.vertex, pin.u, pin.v) for pin in pins], placed.matrix_world.copy(), placed.data.lens
        self.held = look.pin_at(mouse)
        if self.held < 0 and (found := look.pick(mouse)) is not None:
            vertex, place = found
            camera.add_pin(look.scene, look.shot, vertex,
                           *look.to_pixel(location_3d_to_region_2d(look.region, look.view, place)))
            self.held = next(index for index, pin in enumerate(pins) if pin.vertex == vertex)
        self.hover = self.held

    def remove(self, context, look: Look, mouse: Vector) -> None:
        index = look.pin_at(mouse)
        if index >= 0:
            look.shot.camera.understudy_camera.pins.remove(index)
            self.hover = -1
            if look.shot.camera.understudy_camera.pins:
                self.solve(context, look.shot)
            bpy.ops.ed.undo_push(message="Remove Pin")

    def restore(self, shot) -> None:
        """Take back what is being dragged."""
        pins = shot.camera.understudy_camera.pins
        pins.clear()
        values, shot.camera.matrix_world, shot.camera.data.lens = self.before
        for vertex, u, v in values:
            pin = pins.add()
            pin.vertex, pin.u, pin.v = vertex, u, v
        self.held = self.hover = -1

    def solve(self, context, shot) -> None:
        try:
            camera.solve(shot, context.evaluated_depsgraph_get())
        except UnderstudyError as error:
            self.report({"ERROR"}, str(error))

    def tell(self, context, shot) -> None:
        settings = shot.camera.understudy_camera
        context.area.header_text_set(HELP.format(count=len(settings.pins), residual=settings.residual))
        context.area.tag_redraw()

    def draw_view(self) -> None:
        context = bpy.context
        shot = context.scene.understudy.find(self.uid)
        if (shot is None or shot.camera is None or shot.face is None or context.scene.camera != shot.camera
                or context.region_data.view_perspective != "CAMERA"):
            return
        look = Look(context.scene, shot, context.region, context.region_data)
        try:
            points = camera.pinned_points(shot, context.evaluated_depsgraph_get())
        except UnderstudyError:
            return  # told when the pins are solved
        places = look.places()
        vertices = [location_3d_to_region_2d(look.region, look.view, point) or place
                    for point, place in zip(points, places, strict=True)]
        draw_pins(places, vertices, self.hover)


def over_view(area: bpy.types.Area, event: bpy.types.Event) -> bool:
    """Is the mouse over the viewport itself, not over a sidebar that lies on it?"""
    under = [region.type for region in area.regions
             if region.x <= event.mouse_x < region.x + region.width and region.width > 1
             and region.y <= event.mouse_y < region.y + region.height]
    return under == ["WINDOW"]


def draw_pins(places: list[Vector], vertices: list[Vector], highlighted: int) -> None:
    """A square where each pin holds its vertex, a cross where the vertex is, and a line between the two."""
    import gpu  # there is none without a window
    from gpu_extras.batch import batch_for_shader

    shader = gpu.shader.from_builtin("UNIFORM_COLOR")
    gpu.state.blend_set("ALPHA")
    gpu.state.line_width_set(2)
    size = 7 * bpy.context.preferences.system.ui_scale
    for index, (place, vertex) in enumerate(zip(places, vertices, strict=True)):
        square = [place + Vector(corner) * size for corner in ((-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1))]
        cross = [vertex + Vector(end) * size * 0.6 for end in ((-1, 0), (1, 0), (0, -1), (0, 1))]
        for kind, ends, color in (("LINE_STRIP", square, HOVER if index == highlighted else PLACE),
                                  ("LINES", [place, vertex, *cross], VERTEX)):
            shader.uniform_float("color", color)
            batch_for_shader(shader, kind, {"pos": ends}).draw(shader)
    gpu.state.line_width_set(1)
    gpu.state.blend_set("NONE")
