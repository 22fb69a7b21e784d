"""The crop of a shot: the rectangle over the plate that can be dragged, and the one function that changes it.

`Scene.understudy_crop` are the numbers of the active shot's crop for the panel: setting one keeps the rectangle 3:4 and
inside the picture.
"""

import math

import bpy
import numpy as np
from bpy.props import BoolProperty, FloatVectorProperty
from bpy_extras.view3d_utils import location_3d_to_region_2d, region_2d_to_origin_3d, region_2d_to_vector_3d
from mathutils import Matrix, Vector
from mathutils.geometry import intersect_line_plane

from . import plate

ASPECT = 240 / 320  # of the network's input, width to height
SMALLEST = 22  # pixels high; core's Crop wants 16 of width too
STEP = 0.25  # pixels; positions and widths are whole steps, which float32 keeps exactly
REACH = 14  # pixels of the screen around a corner that take hold of it
INSIDE = 4  # the part of the rectangle that is no corner: 0 to 3, from the top left with the clock


def set_crop(scene: bpy.types.Scene, shot, x: float, y: float, width: float, height: float) -> None:
    """Set the crop that a shot is solved with: the shot's own or the actor's.

    In pixels of the footage. The height decides the size; the rectangle is made 3:4 and moved into the picture.
    """
    picture = plate.picture_size(shot)
    owner = shot if shot.own_crop else scene.understudy
    owner.crop = fitted(x, y, height, *picture)


def fitted(x: float, y: float, height: float, picture_width: int, picture_height: int) -> tuple[float, ...]:
    """The 3:4 rectangle (x, y, width, height) that comes nearest and lies in the picture."""
    largest = math.floor(min(picture_height, picture_width / ASPECT))
    height = min(max(round(height), SMALLEST), largest)
    width = height * ASPECT
    x, y = (min(max(round(place / STEP) * STEP, 0), room) for place, room in ((x, picture_width - width),
                                                                               (y, picture_height - height)))
    return x, y, width, height


def scaled(crop: tuple[float, ...], corner: int, x: float, y: float, picture_width: int, picture_height: int
           ) -> tuple[float, ...]:
    """The crop after one of its corners was dragged to a pixel; the opposite corner stays."""
    right, down = corner in (1, 2), corner in (2, 3)
    fixed_x, fixed_y = crop[0] + (0 if right else crop[2]), crop[1] + (0 if down else crop[3])
    # the corner of a 3:4 rectangle that comes nearest to the mouse
    across, along = (x - fixed_x) * (1 if right else -1), (y - fixed_y) * (1 if down else -1)
    height = (across * ASPECT + along) / (ASPECT ** 2 + 1)
    room_x, room_y = picture_width - fixed_x if right else fixed_x, picture_height - fixed_y if down else fixed_y
    height = max(math.floor(min(round(height), room_x / ASPECT, room_y)), SMALLEST)
    width = height * ASPECT
    return fitted(fixed_x - (0 if right else width), fixed_y - (0 if down else height), height,
                  picture_width, picture_height)


def crop_or_largest(scene: bpy.types.Scene, shot) -> tuple[float, ...]:
    """The crop of a shot; while it has none, the largest in the middle of the picture."""
    crop = scene.understudy.crop_of(shot)
    if crop[2] > 0:
        return crop
    width, height = plate.picture_size(shot)
    x, y, crop_width, crop_height = fitted(0, 0, height, width, height)
    return fitted((width - crop_width) / 2, (height - crop_height) / 2, crop_height, width, height)


def _get_numbers(scene: bpy.types.Scene) -> tuple[float, ...]:
    shot = scene.understudy.shot
    return crop_or_largest(scene, shot) if shot is not None else (0, 0, 0, 0)


def _set_numbers(scene: bpy.types.Scene, values: tuple[float, ...]) -> None:
    shot = scene.understudy.shot
    if shot is not None:
        x, y, width, height = values
        widened = abs(width - crop_or_largest(scene, shot)[2]) > 1e-4
        set_crop(scene, shot, x, y, width, width / ASPECT if widened else height)


class UNDERSTUDY_GT_crop(bpy.types.Gizmo):
    """The rectangle: dragged inside it moves, at a corner it changes its size."""

    bl_idname = "UNDERSTUDY_GT_crop"
    __slots__ = ("frame", "handle", "shade", "before", "grip", "corner")

    def setup(self):
        corners = [(0, 0), (1, 0), (1, 1), (0, 1)]
        self.frame = self.new_custom_shape("LINES", [corners[(i + j) % 4] for i in range(4) for j in range(2)])
        square = [(x - 0.5, y - 0.5) for x, y in corners]
        self.handle = self.new_custom_shape("TRIS", [square[i] for i in (0, 1, 2, 0, 2, 3)])
        self.corner = -1

    def draw(self, context):
        shot = context.scene.understudy.shot
        if not _shows(context, shot):
            return
        x, y, width, height = crop_or_largest(context.scene, shot)
        pixels = shot.plate.matrix_world @ plate.pixel_matrix(shot)
        editing = context.window_manager.understudy_edit_crop
        self.line_width = 2.5 if editing else 1
        self.draw_custom_shape(self.frame, matrix=pixels @ Matrix.Translation((x, y, 0)) @ Matrix.Diagonal(
            (width, height, 1, 1)))
        if editing:
            for corner_x, corner_y in ((x, y), (x + width, y), (x + width, y + height), (x, y + height)):
                self.draw_custom_shape(self.handle, matrix=pixels @ Matrix.Translation((corner_x, corner_y, 0))
                                       @ Matrix.Scale(0.07 * width, 4))

    def test_select(self, context, location):
        shot = context.scene.understudy.shot
        if not context.window_manager.understudy_edit_crop or not _shows(context, shot):
            return -1
        return _part(context, shot, location)

    def invoke(self, context, event):
        shot = context.scene.understudy.shot
        self.corner = _part(context, shot, (event.mouse_region_x, event.mouse_region_y))
        self.before = crop_or_largest(context.scene, shot)
        self.grip = _pixel(context, shot, (event.mouse_region_x, event.mouse_region_y))
        return {"RUNNING_MODAL"} if self.grip is not None and self.corner >= 0 else {"CANCELLED"}

    def modal(self, context, event, tweak):
        shot = context.scene.understudy.shot
        at = _pixel(context, shot, (event.mouse_region_x, event.mouse_region_y))
        if at is not None:
            x, y, width, height = self.before
            if self.corner == INSIDE:
                crop = (x + at.x - self.grip.x, y + at.y - self.grip.y, width, height)
            else:
                dx, dy = (x + width if self.corner in (1, 2) else x), (y + height if self.corner in (2, 3) else y)
                crop = scaled(self.before, self.corner, dx + at.x - self.grip.x, dy + at.y - self.grip.y,
                              *plate.picture_size(shot))
            set_crop(context.scene, shot, *crop)
            x, y, width, height = context.scene.understudy.crop_of(shot)
            context.area.header_text_set(f"Crop: left {x:g}  top {y:g}  width {width:g}  height {height:g} pixels")
            _redraw(context)
        return {"RUNNING_MODAL"}

    def exit(self, context, cancel):
        context.area.header_text_set(None)
        shot = context.scene.understudy.shot
        if shot is None:
            return
        if cancel:
            set_crop(context.scene, shot, *self.before)
        else:
            bpy.ops.ed.undo_push(message="Crop")
        _redraw(context)


class UNDERSTUDY_GGT_crop(bpy.types.GizmoGroup):
    """Holds the rectangle over the active shot's plate, while it is edited or the plate is selected."""

    bl_idname = "UNDERSTUDY_GGT_crop"
    bl_label = "Understudy Crop"
    bl_space_type = "VIEW_3D"
    bl_region_type = "WINDOW"
    bl_options = {"3D", "PERSISTENT", "SHOW_MODAL_ALL"}

    @classmethod
    def poll(cls, context):
        return _shows(context, context.scene.understudy.shot)

    def setup(self, context):
        gizmo = self.gizmos.new(UNDERSTUDY_GT_crop.bl_idname)
        gizmo.color = gizmo.color_highlight = (1.0, 0.62, 0.1)
        gizmo.alpha, gizmo.alpha_highlight = 0.8, 1.0
        gizmo.use_draw_modal, gizmo.use_draw_scale = True, False


def _shows(context: bpy.types.Context, shot) -> bool:
    if shot is None or shot.plate is None or not shot.plate.visible_get():
        return False
    return context.window_manager.understudy_edit_crop or shot.plate.select_get()


def _pixel(context: bpy.types.Context, shot, mouse: tuple[float, float]) -> Vector | None:
    """The pixel of the footage under the mouse, also beside the plate; None if the view looks along the plate."""
    region, view = context.region, context.region_data
    origin, ray = region_2d_to_origin_3d(region, view, mouse), region_2d_to_vector_3d(region, view, mouse)
    matrix = shot.plate.matrix_world
    hit = intersect_line_plane(origin, origin + ray, matrix.translation, matrix.col[2].to_3d())
    return None if hit is None else (matrix @ plate.pixel_matrix(shot)).inverted() @ hit


def _part(context: bpy.types.Context, shot, mouse: tuple[float, float]) -> int:
    """The part of the crop under the mouse: a corner, INSIDE, or -1."""
    x, y, width, height = crop_or_largest(context.scene, shot)
    pixels = shot.plate.matrix_world @ plate.pixel_matrix(shot)
    corners = [location_3d_to_region_2d(context.region, context.region_data, pixels @ Vector((*corner, 0)))
               for corner in ((x, y), (x + width, y), (x + width, y + height), (x, y + height))]
    distances = [np.inf if corner is None else (corner - Vector(mouse)).length for corner in corners]
    nearest = int(np.argmin(distances))
    if distances[nearest] <= REACH * context.preferences.system.ui_scale:
        return nearest
    at = _pixel(context, shot, mouse)
    inside = at is not None and x <= at.x <= x + width and y <= at.y <= y + height
    return INSIDE if inside else -1


def _redraw(context: bpy.types.Context) -> None:
    for area in context.screen.areas:
        if area.type == "VIEW_3D":
            area.tag_redraw()


def _edit_changed(self, context: bpy.types.Context) -> None:
    _redraw(context)


CLASSES = (UNDERSTUDY_GT_crop, UNDERSTUDY_GGT_crop)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.understudy_crop = FloatVectorProperty(
        name="Crop", size=4, min=0, precision=2, step=100, get=_get_numbers, set=_set_numbers,
        description="Left, top, width and height in pixels of the footage; it stays 3:4 and inside the picture")
    bpy.types.WindowManager.understudy_edit_crop = BoolProperty(
        name="Edit Crop", update=_edit_changed, options={"SKIP_SAVE"},
        description="Drag the crop over the plate: inside to move it, at a corner to change its size")


def unregister() -> None:
    del bpy.types.WindowManager.understudy_edit_crop
    del bpy.types.Scene.understudy_crop
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
