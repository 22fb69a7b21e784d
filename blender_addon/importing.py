"""Tracked shots as vendors deliver them become shots like any other: the face plays them as a mesh cache."""

import json
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

import bpy
import numpy as np

from ..core.actor import check_vertices, size_of
from ..core.conversion import Conversion, Guess, guess
from ..core.errors import UnderstudyError
from ..core.files import make_folder, write_json
from ..core.labels import Motions, sentences, suspicions
from ..core.meshcache import cache_writer, read_cache
from ..core.stabilise import Motion, check_stabiliser, describe, fit, join
from . import capture, edits, faces, head, keys, marking, outputs, solving
from .paths import absolute, relative
from .preferences import cache_folder
from .switching import next_version
from .timing import mapping
from .tracks import Track

BLOCK = 16     # samples that are written in one go
ELSEWHERE = ""  # the model of a shot that no model has solved


@dataclass(frozen=True)
class Order:
    """How a track becomes a shot.

    conversion : of its units and axes.    first : source frame of its first sample, counted from 0; what plays before
    frame 0 is left out.    stabilise : take the head's motion out, if the actor has stabiliser vertices.
    """

    conversion: Conversion
    first: int = 0
    stabilise: bool = True


def is_track(shot) -> bool:
    """Whether the face plays a track from elsewhere."""
    return shot.solved and shot.solved_model == ELSEWHERE


def new_shot(scene: bpy.types.Scene, track: Track, order: Order) -> Generator[bool, None, str]:
    """As `bring_in`, into a new shot without footage, which is not there if it fails."""
    settings = scene.understudy
    uid = faces.new_shot(scene, None, Path(track.name).stem).uid
    try:
        return (yield from bring_in(scene, settings.find(uid), track, order))
    except BaseException:
        shot = settings.find(uid)
        if shot is not None:
            if shot.face not in (None, settings.template):
                bpy.data.meshes.remove(shot.face.data)
            settings.shots.remove(settings.shots.find(shot.name))
        raise


def look(scene: bpy.types.Scene, shot, track: Track) -> tuple[Guess, list[str]]:
    """What a track seems to be, for the artist to check before it is applied: the guess, and lines about the rest."""
    source = faces.read(absolute(scene.understudy.actor))
    found = guess(track.sample(0), source.template.vertices, source.unit)
    footage = f"{shot.frames:,} frames" if shot is not None and shot.frames else "no footage yet"
    return found, [f"{track.name}: {track.count:,} samples; the shot has {footage}", track.faces]


def bring_in(scene: bpy.types.Scene, shot, track: Track, order: Order) -> Generator[bool, None, str]:
    """Make a track the shot's, as a mesh cache of the template; yields True between samples, returns what was done.

    Raises UnderstudyError if its vertices cannot be the template in motion; then nothing has changed.
    """
    source = faces.read(absolute(scene.understudy.actor))
    face = faces.ensure(scene, shot)
    skipped = max(0, -order.first)
    count, first = track.count - skipped, max(order.first, 0)
    if count < 1:
        raise UnderstudyError(f"All {track.count} samples of {track.name} would play before the first frame of the "
                              "footage. Check the frame offset.")
    folder = make_folder(cache_folder(scene))
    path = next_version(folder / f"{marking.name_for(shot)}.v000.pc2")
    stabiliser = source.stabiliser if order.stabilise and len(source.stabiliser) else None
    try:
        motions, motion = yield from _write(path, track, skipped, count, order.conversion, source, stabiliser, first)
        check_vertices(read_cache(path), source.template, source.unit, track.name, finite=True)
        if motion is not None:
            motion.save(path.with_suffix(".head.npz"))
        write_json(path.with_suffix(".json"), {
            "first": first, "last": first + count - 1, "topology": source.template.hash, "model_sha256": ELSEWHERE,
            "engine": "none", "device": "none", "crop": [0, 0, 0, 0], "confidence_mm": {}, "track": track.name,
            "footage_identity": shot.identity, "scale": order.conversion.scale, "axes": order.conversion.axes})
    except BaseException:
        for suffix in (".pc2", ".json", ".head.npz"):
            path.with_suffix(suffix).unlink(missing_ok=True)
        raise
    _adopt(shot, path, first, count, track.name, motion)
    yield from outputs.show(scene, shot, "MESH_CACHE")
    head.take_off(shot)
    said = [f"{track.name} plays on {face.name}, {count:,} frames from source frame {first} on."]
    millimetres = 1000 * source.unit
    if motion is not None:
        said.append(describe(motion, source.template.vertices[stabiliser].mean(0), millimetres))
    if shot.frames and first + count > shot.frames:
        said.append(f"It goes on for {first + count - shot.frames} frames after the end of the footage.")
    found = suspicions(motions.steps, motions.bends, size_of(source.template.vertices), first)
    return " ".join(said + sentences(found, millimetres))


def nudge(scene: bpy.types.Scene, shot, frames: int) -> None:
    """Let a track play later against its footage, by source frames. Raises UnderstudyError if it cannot."""
    if not is_track(shot):
        raise UnderstudyError(f"{shot.name} plays a solve, whose frames are those of its footage. Only tracks can be "
                              "moved against it.")
    if shot.solved_first + frames < 0:
        raise UnderstudyError(f"{shot.name} would begin {-shot.solved_first - frames} frames before its footage. Bring "
                              "the track in again with that offset, and its first samples are left out.")
    if shot.face is not None and keys.note(shot.face).get("form") in ("BASIS", "FRAMES"):
        raise UnderstudyError(f"{shot.name} is shown by keys. Set its output to Mesh Cache, then nudge.")
    path = absolute(shot.cache).with_suffix(".json")
    sidecar = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {**sidecar, "first": sidecar["first"] + frames, "last": sidecar["last"] + frames})
    shot.solved_first += frames
    shot.solved_last += frames
    solving.fit_range(shot)
    outputs.retime(scene, shot)
    if shot.face is not None:
        edits.shift(shot.face, frames / mapping(scene, shot).ratio)
    if shot.head and absolute(shot.head).name == path.with_suffix(".head.npz").name:
        motion = Motion.load(absolute(shot.head))
        replace(motion, first=motion.first + frames).save(absolute(shot.head))
        if head.is_on(shot):
            head.put_on(scene, shot)


def go_to(scene: bpy.types.Scene, shot, which: str) -> int:
    """Show the FIRST, MIDDLE or LAST frame of a shot's track or solve; returns the source frame."""
    ends = (shot.solved_first, shot.solved_last) if shot.solved else (shot.first, shot.last)
    source = {"FIRST": ends[0], "MIDDLE": sum(ends) // 2, "LAST": ends[1]}[which]
    capture.go(scene, mapping(scene, shot).scene(source))
    return source


def _write(path: Path, track: Track, skipped: int, count: int, conversion: Conversion, source: faces.Source,
           stabiliser: np.ndarray | None, first: int) -> Generator[bool, None, tuple[Motions, Motion | None]]:
    """Write the converted, stabilised samples of a track; its first is checked before the others are looked at."""
    template, motions, parts, block = source.template.vertices, Motions(), [], []
    watched = source.animated[::max(1, len(source.animated) // marking.VERTICES)]
    if stabiliser is not None:
        check_stabiliser(template, stabiliser)
    with cache_writer(path, len(template), count) as writer:
        for index in range(count):
            block.append(conversion.apply(track.sample(skipped + index)))
            if not np.isfinite(block[-1]).all():
                raise UnderstudyError(f"{track.name}: the position of a vertex in sample {skipped + index} is not a "
                                      "finite number. Export it again.")
            if index == 0:
                check_vertices(block[0][None], source.template, source.unit, track.name)
            if len(block) == BLOCK or index == count - 1:
                positions, block = np.stack(block), []
                if stabiliser is not None:
                    parts.append(fit(positions[:, stabiliser], template[stabiliser]))
                    positions = parts[-1].take_out(positions)
                motions.feed(positions[:, watched])
                writer.write(positions)
            yield True
    return motions, join(parts, first) if parts else None


def _adopt(shot, path: Path, first: int, count: int, name: str, motion: Motion | None) -> None:
    """Write what a track is into its shot."""
    shot.cache, shot.solved_first, shot.solved_last = relative(path), first, first + count - 1
    shot.solved_model, shot.solved_footage = ELSEWHERE, shot.identity
    shot.solved_crop, shot.solved_by = (0, 0, 0, 0), f"tracked elsewhere: {name}"
    shot.head = relative(path.with_suffix(".head.npz")) if motion is not None else ""
    solving.fit_range(shot)
    if shot.status in ("RAW", "SOLVED"):
        shot.status = "IN_CLEANUP"
