"""The plate over the mesh, up to a line that can be dragged: in the view of the shot's camera.

Left of the line is the plate alone, right of it the mesh in front of the plate. The plate is drawn last, over whatever
the viewport shows; with less opacity both show through each other.
"""

import bpy
import gpu
from bpy_extras.view3d_utils import location_3d_to_region_2d
from gpu_extras.batch import batch_for_shader

from . import plate

REACH = 12    # pixels from the line that take hold of it
LINE = (1.0, 0.62, 0.2, 0.9)
HANDLE = 7    # pixels, half the width of what shows that the line can be dragged

# The texture of a picture is linear, and so is what is drawn over a viewport. Blender's own shader for pictures takes
# the first for sRGB, which would make the plate too dark.
VERTEX = """
void main() {
  uv = texCoord;
  gl_Position = ModelViewProjectionMatrix * vec4(pos, 0.0, 1.0);
}
"""
FRAGMENT = """
void main() {
  colour = vec4(texture(image, uv).rgb, opacity);
}
"""

_handlers: list = []
_shader: gpu.types.GPUShader | None = None


def switch(on: bool) -> None:
    """Draw the wipe in all viewports that look through the shot's camera, or no more."""
    if on and not _handlers and not bpy.app.background:
        _handlers.append(bpy.types.SpaceView3D.draw_handler_add(_draw, (), "WINDOW", "POST_PIXEL"))
    while not on and _handlers:
        bpy.types.SpaceView3D.draw_handler_remove(_handlers.pop(), "WINDOW")


def frame(context: bpy.types.Context) -> tuple[float, float, float, float] | None:
    """Where the plate is in a viewport, left, low, right, high in pixels; None unless it looks through the camera."""
    shot, view = context.scene.understudy.shot, context.region_data
    if shot is None or shot.camera is None or shot.plate is None or shot.plate.data is None or view is None \
            or view.view_perspective != "CAMERA" or context.space_data.camera != shot.camera:
        return None
    camera = shot.camera
    corners = [location_3d_to_region_2d(context.region, view, camera.matrix_world @ corner)
               for corner in camera.data.view_frame(scene=context.scene)]
    if None in corners:
        return None
    left, right = min(corner.x for corner in corners), max(corner.x for corner in corners)
    low, high = min(corner.y for corner in corners), max(corner.y for corner in corners)
    width, height = plate.picture_size(shot)
    scale = min((right - left) / width, (high - low) / height)  # as the picture behind the camera is fitted
    x, y = (left + right) / 2, (low + high) / 2
    return x - scale * width / 2, y - scale * height / 2, x + scale * width / 2, y + scale * height / 2


def _picture_shader() -> gpu.types.GPUShader:
    global _shader
    if _shader is None:
        between = gpu.types.GPUStageInterfaceInfo("understudy_wipe")
        between.smooth("VEC2", "uv")
        info = gpu.types.GPUShaderCreateInfo()
        info.push_constant("MAT4", "ModelViewProjectionMatrix")
        info.push_constant("FLOAT", "opacity")
        info.sampler(0, "FLOAT_2D", "image")
        info.vertex_in(0, "VEC2", "pos")
        info.vertex_in(1, "VEC2", "texCoord")
        info.vertex_out(between)
        info.fragment_out(0, "VEC4", "colour")
        info.vertex_source(VERTEX)
        info.fragment_source(FRAGMENT)
        _shader = gpu.shader.create_from_info(info)
    return _shader


def _draw() -> None:
    context = bpy.context
    settings, box = context.window_manager.understudy_review, frame(context)
    if box is None:
        return
    try:
        texture = gpu.texture.from_image(context.scene.understudy.shot.plate.data)
    except RuntimeError:  # the footage is gone
        return
    left, low, right, high = box
    edge = left + settings.place * (right - left)
    shader = _picture_shader()
    batch = batch_for_shader(shader, "TRI_STRIP", {
        "pos": ((left, low), (edge, low), (left, high), (edge, high)),
        "texCoord": ((0, 0), (settings.place, 0), (0, 1), (settings.place, 1))})
    gpu.state.blend_set("ALPHA")
    shader.bind()
    shader.uniform_sampler("image", texture)
    shader.uniform_float("opacity", settings.opacity)
    shader.uniform_float("ModelViewProjectionMatrix",
                         gpu.matrix.get_projection_matrix() @ gpu.matrix.get_model_view_matrix())
    batch.draw(shader)
    shader = gpu.shader.from_builtin("UNIFORM_COLOR")
    shader.uniform_float("color", LINE)
    size, middle = HANDLE * context.preferences.system.ui_scale, (low + high) / 2
    for points in (((edge - 1, low, 0), (edge + 1, low, 0), (edge - 1, high, 0), (edge + 1, high, 0)),
                   ((edge - size, middle, 0), (edge, middle - size, 0), (edge, middle + size, 0),
                    (edge + size, middle, 0))):
        batch_for_shader(shader, "TRI_STRIP", {"pos": points}).draw(shader)
    gpu.state.blend_set("NONE")


class UNDERSTUDY_GT_wipe(bpy.types.Gizmo):
    """The line; dragged, it moves. What is seen of it is drawn with the plate."""

    bl_idname = "UNDERSTUDY_GT_wipe"
    __slots__ = ("before",)

    def setup(self):
        pass

    def draw(self, context):
        pass

    def test_select(self, context, location):
        box = frame(context)
        if box is None or not box[1] <= location[1] <= box[3]:
            return -1
        edge = box[0] + context.window_manager.understudy_review.place * (box[2] - box[0])
        return 0 if abs(location[0] - edge) <= REACH * context.preferences.system.ui_scale else -1

    def invoke(self, context, event):
        self.before = context.window_manager.understudy_review.place
        return {"RUNNING_MODAL"}

    def modal(self, context, event, tweak):
        box = frame(context)
        if box is not None and event.type == "MOUSEMOVE":
            context.window_manager.understudy_review.place = (event.mouse_region_x - box[0]) / (box[2] - box[0])
        return {"RUNNING_MODAL"}

    def exit(self, context, cancel):
        if cancel:
            context.window_manager.understudy_review.place = self.before


class UNDERSTUDY_GGT_wipe(bpy.types.GizmoGroup):
    bl_idname = "UNDERSTUDY_GGT_wipe"
    bl_label = "Wipe"
    bl_space_type = "VIEW_3D"
    bl_region_type = "WINDOW"
    bl_options = {"3D", "PERSISTENT", "SHOW_MODAL_ALL"}

    @classmethod
    def poll(cls, context):
        return context.window_manager.understudy_review.wipe and frame(context) is not None

    def setup(self, context):
        self.gizmos.new(UNDERSTUDY_GT_wipe.bl_idname)


CLASSES = (UNDERSTUDY_GT_wipe, UNDERSTUDY_GGT_wipe)
