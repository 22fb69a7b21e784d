"""The sound of a shot in the sequencer, and the rate and range of the scene: what else is in step with the face."""

import math

import bpy

from . import timing
from .paths import absolute

NO_STEP = ("Sound plays in real time, this shot does not: {why}. Set Pace to Real Time, or use Match Scene to give the "
           "scene the rate of the footage.")


def add_sound(scene: bpy.types.Scene, shot) -> str:
    """Put the sound of a shot into the sequencer, where its pictures play, or move it there.

    Returns why that cannot be, as a sentence, or "".
    """
    if not shot.audio:
        return f"The footage of {shot.name} has no sound."
    if why := out_of_step(scene, shot):
        return NO_STEP.format(why=why)
    path = absolute(shot.footage)
    if not path.is_file():
        return f"{path} is not there. Choose the footage of {shot.name} again."
    strip = find_strip(scene, shot)
    if strip is not None and absolute(strip.sound.filepath) != path:
        remove(scene, shot)
        strip = None
    if strip is None:
        if scene.sequence_editor is None:
            scene.sequence_editor_create()
        strips = _strips(scene)
        channel = 1 + max((other.channel for other in strips), default=0)
        try:
            strip = strips.new_sound(f"{shot.name} Sound", str(path), channel, 1)
        except RuntimeError:
            return f"Blender cannot play the sound of {path}. Export it with PCM or AAC sound."
        strip["understudy_shot"] = shot.uid
    retime(scene, shot)
    return ""


def retime(scene: bpy.types.Scene, shot) -> None:
    """Move the sound of a shot to where its pictures play; mute it when it cannot stay in step with them."""
    strip = find_strip(scene, shot)
    if strip is None:
        return
    strip.mute = bool(out_of_step(scene, shot))
    frames = timing.mapping(scene, shot)
    # These names are on their way out in 6.0, but the only ones that 4.2 and 5.2 share.
    strip.frame_offset_start = strip.frame_offset_end = 0
    strip.frame_start = round(frames.scene(0))
    end = strip.frame_start + strip.frame_duration
    strip.frame_offset_start = max(0, round(frames.scene(shot.first)) - strip.frame_start)
    strip.frame_offset_end = max(0, end - round(frames.scene(shot.last + 1)))


def remove(scene: bpy.types.Scene, shot) -> None:
    """Take the sound of a shot out of the sequencer."""
    strip = find_strip(scene, shot)
    if strip is not None:
        _strips(scene).remove(strip)


def find_strip(scene: bpy.types.Scene, shot):
    """The strip that plays the sound of a shot, or None."""
    return next((strip for strip in _strips(scene) if shot.uid and strip.get("understudy_shot") == shot.uid), None)


def out_of_step(scene: bpy.types.Scene, shot) -> str:
    """Why sound, which plays in real time, does not stay with the pictures of a shot; "" if it does."""
    if shot.variable:
        return "the frame rate of the footage varies"
    if shot.pace == "FRAME" and shot.frames * abs(shot.fps / timing.scene_fps(scene) - 1) > 1:  # frames, at the end
        return f"{shot.fps:.6g} frames a second play at {timing.scene_fps(scene):.6g}"
    return ""


def match_scene(scene: bpy.types.Scene, shot) -> None:
    """Give the scene the frame rate of a shot's footage and the frame range of the shot; all shots follow."""
    from . import follow  # imports plate, which imports this

    if shot.fps > 0:
        scene.render.fps, scene.render.fps_base = _rate(shot.fps)
    first, last = timing.scene_range(scene, shot)
    # rates are rounded to float32: 10.9999 is 11
    scene.frame_start, scene.frame_end = max(math.floor(first + 0.01), 0), max(math.ceil(last - 0.01), 1)
    follow.rate(scene)


def _rate(fps: float) -> tuple[int, float]:
    """Blender's two numbers for a frame rate; NTSC's as everybody writes them: 30 / 1.001."""
    for base in (1.0, 1.001):
        if abs(fps * base - round(fps * base)) < 1e-3 * base and round(fps * base) > 0:
            return round(fps * base), base
    whole = max(1, math.ceil(fps))
    return whole, whole / fps


def _strips(scene: bpy.types.Scene):
    editor = scene.sequence_editor
    if editor is None:
        return ()
    return editor.strips if hasattr(editor, "strips") else editor.sequences  # 4.2
