"""A shot and its face, found again after every yield of work that is spread over many ticks."""

from dataclasses import dataclass

import bpy

from ..core.errors import Cancelled


@dataclass(frozen=True)
class Stage:
    """Knows a scene and a shot by what undo, renaming and reordering do not change."""

    scene_uid: int
    shot_uid: str
    name: str

    @classmethod
    def of(cls, scene: bpy.types.Scene, shot) -> "Stage":
        return cls(scene.session_uid, shot.uid, shot.name)

    @property
    def scene(self) -> bpy.types.Scene:
        for scene in bpy.data.scenes:
            if scene.session_uid == self.scene_uid:
                return scene
        raise Cancelled(f"The scene of {self.name} was removed meanwhile.")

    @property
    def shot(self):
        shot = self.scene.understudy.find(self.shot_uid)
        if shot is None:
            raise Cancelled(f"{self.name} was removed meanwhile.")
        return shot

    @property
    def face(self) -> bpy.types.Object:
        face = self.shot.face
        if face is None:
            raise Cancelled(f"{self.name} has no face any more.")
        return face
