"""The one place where source frames meet scene frames.

Source frames count from 0, as everywhere in core. Scene frames are Blender's, and may be fractions: with frame rates
that differ, a source frame can play between two of them.
"""

from dataclasses import dataclass

import bpy


@dataclass(frozen=True)
class Mapping:
    """source = anchor_source + ratio * (scene - anchor_scene)."""

    anchor_source: int
    anchor_scene: float
    ratio: float  # source frames a scene frame

    def scene(self, source: float) -> float:
        """The scene frame at which a source frame plays."""
        return self.anchor_scene + (source - self.anchor_source) / self.ratio

    def source(self, scene: float) -> float:
        """The source frame that plays at a scene frame; a fraction is between two frames."""
        return self.anchor_source + self.ratio * (scene - self.anchor_scene)

    def cache_settings(self, first: int) -> tuple[float, float]:
        """(frame_start, frame_scale) of a Mesh Cache modifier in FRAME mode whose sample 0 is source frame `first`.

        Blender plays sample frame_scale * scene_frame - frame_start.
        """
        return self.ratio * self.anchor_scene - self.anchor_source + first, self.ratio


def scene_fps(scene: bpy.types.Scene) -> float:
    """Frames a second of the scene."""
    return scene.render.fps / scene.render.fps_base


def mapping(scene: bpy.types.Scene, shot) -> Mapping:
    """How the frames of a shot lie in a scene."""
    ratio = shot.fps / scene_fps(scene) if shot.pace == "TIME" and shot.fps > 0 else 1.0
    return Mapping(shot.anchor_source, shot.anchor_scene, ratio)


def scene_range(scene: bpy.types.Scene, shot) -> tuple[float, float]:
    """The scene frames of the first and the last frame of a shot."""
    frames = mapping(scene, shot)
    return frames.scene(shot.first), frames.scene(shot.last)
