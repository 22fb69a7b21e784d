"""How a face gets from one form of its solve to another, and keeps what the artist has changed in the old one.

Everything is a generator that yields True after a few milliseconds of work. The modifier shows the solve meanwhile.
"""

import contextlib
import re
from collections.abc import Callable, Generator, Iterator
from math import floor
from pathlib import Path

import bpy
import numpy as np

from ..core.errors import UnderstudyError
from ..core.files import atomic, write_json
from ..core.meshcache import cache_writer
from ..core.modelfile import ModelFile
from ..core.solved import Solved, read_solved
from . import curves, edits, keys, skin
from .modifier import attach_cache, match_deform_mode, modifier_of, switch_off
from .paths import absolute, relative
from .scene_io import file_name, mesh_of, positions, set_positions
from .stage import Stage
from .timing import Mapping, mapping

VERSION = re.compile(r"\.v(\d+)$")  # at the end of a cache's stem: take.v003
TOLD = 0.05                         # mm that a correction may look different without a word
SCRATCH = "understudy_scratch"      # custom property of what is made to evaluate a face, and removed again


def switch(stage: Stage, form: str, notes: list[str]) -> Iterator[bool]:
    """Bring a face into a form. What the artist should know is added to `notes`."""
    solved = _read(stage)
    parts = None
    if form == "BASIS":  # fails, if at all, before anything has changed
        parts = yield from _components(stage, solved)
    elif form == "FRAMES" and solved.count > keys.FRAME_LIMIT:
        raise UnderstudyError(f"{solved.count} frames are too many for Frame Keys, which take {keys.FRAME_LIMIT} at "
                              "most. Use Mesh Cache or Basis Keys.")
    yield True
    carry = not keys.note(stage.face).get("form") == form == "BASIS"
    yield from _leave(stage, solved, carry, notes)
    if parts is not None:
        yield from _to_basis(stage, solved, *parts, carry, notes)
    elif form == "FRAMES":
        yield from _to_frames(stage)


def next_version(path: Path) -> Path:
    """The name after the newest version of a cache: take.v003.pc2 -> take.v004.pc2."""
    stem = VERSION.sub("", path.stem)
    taken = [int(found[1]) for other in path.parent.glob("*")
             if (found := VERSION.search(other.stem)) and other.stem[:found.start()] == stem]
    return path.with_name(f"{stem}.v{max(taken, default=0) + 1:03}.pc2")


def _read(stage: Stage) -> Solved:
    """The solve that the shot names, if it fits the face."""
    solved = read_solved(absolute(stage.shot.cache))
    samples = solved.vertices()
    face = stage.face
    if solved.topology != mesh_of(face).hash or samples.shape[1] != len(face.data.vertices):
        raise UnderstudyError(f"{solved.path.name} was solved for another mesh than {face.name}: its vertices or their "
                              "order have changed since. Undo what changed it, or choose another face.")
    return solved


# Leaving a form

def _leave(stage: Stage, solved: Solved, carry: bool, notes: list[str]) -> Iterator[bool]:
    """Take the old form off, so that the modifier alone shows the solve, with the artist's keys on top of it.

    carry : fit the corrections to the modifier; it is not needed when they only wait for the same form again.
    """
    about = keys.note(stage.face)
    again = bool(about.get("cache")) and file_name(about["cache"]) != solved.path.name
    corrections: list[tuple[int, np.ndarray]] = []
    if about.get("form") == "BASIS":
        solved = yield from _keep_curves(stage, solved, again, notes)
    elif about.get("form") == "FRAMES":
        corrections = yield from _keep_frames(stage, solved, notes)
    carried = _carried(stage, solved, True, notes) if carry and about.get("form") == "BASIS" else {}
    face, frames = stage.face, mapping(stage.scene, stage.shot)
    if keys.key_of(face) is not None:
        keys.strip(face)
    attach_cache(face, solved.path, frames, solved.first)
    key = keys.key_of(face)
    for name, coordinates in carried.items():
        set_positions(key.key_blocks[name], coordinates)
    if key is not None and "anchor_source" in about:
        edits.retime(face, keys.noted_mapping(about), frames)
    _add_corrections(face, corrections, frames)
    if keys.key_of(face) is not None:
        keys.set_note(face, "MESH_CACHE", stage.shot.cache, solved.first, frames)
    match_deform_mode(face)
    yield True


def _keep_curves(stage: Stage, solved: Solved, again: bool, notes: list[str]) -> Generator[bool, None, Solved]:
    """Keep edited component curves: in a new cache, which is returned, or as an action if the shot was solved anew."""
    found = yield from keys.read_components(stage)
    if not (found.moved or found.shaped):
        return solved
    if again:
        name = f"{stage.face.name} before {solved.path.stem}"
        kept = curves.keep_copy(keys.key_of(stage.face), name)
        if kept is not None:
            notes.append(f"The curves that you had edited are kept in the action {kept.name}.")
        return solved
    path = next_version(solved.path)
    yield from _write_edited(stage, solved, found, path)
    stage.shot.cache = relative(path)
    notes.append(f"The edited curves are kept in the mesh cache {path.name}.")
    return read_solved(path)


def _write_edited(stage: Stage, solved: Solved, found: keys.Components, path: Path) -> Iterator[bool]:
    """Write what the components on a face show as a cache with codes and sidecar."""
    base, added = keys.component_shapes(stage.face, found.values.shape[1])
    moved = np.flatnonzero(added.any((0, 2)))
    added = added[:, moved].reshape(len(added), -1)
    with cache_writer(path, len(base), len(found.values)) as writer:
        for start in range(0, len(found.values), 8):
            values = found.values[start:start + 8]
            samples = np.repeat(base[None], len(values), 0)
            samples[:, moved] += (values @ added).reshape(len(values), -1, 3)
            writer.write(samples)
            yield True
    if not found.shaped:  # else no codes tell what the keys show
        codes = found.values * np.array(keys.note(stage.face)["scales"], np.float32)
        with atomic(path.with_suffix(".npy")) as temporary:
            np.save(temporary, codes)
    write_json(path.with_suffix(".json"), {**solved.sidecar, "edited": True, "edited_from": solved.path.name})


def _keep_frames(stage: Stage, solved: Solved,
                 notes: list[str]) -> Generator[bool, None, list[tuple[int, np.ndarray]]]:
    """Sculpted frame keys as corrections on top of a solve: (source frame, displacement of the rest mesh)."""
    found = yield from keys.changed_frames(stage)
    if not found:
        return []
    about = keys.note(stage.face)
    old = _find_old(stage, about, solved)
    corrections = []
    with _baked(stage, old, keys.noted_mapping(about)) as written:
        mesh, samples = mesh_of(stage.face), solved.vertices()
        for source, coordinates in found.items():
            difference = coordinates - written(source)
            target = samples[min(max(source - solved.first, 0), solved.count - 1)]
            corrections.append((source, skin.carry(mesh, target, difference, back=True)))
            yield True
    notes.append(f"{len(found)} sculpted frame{'s are' if len(found) > 1 else ' is'} kept as "
                 f"correction{'s' if len(found) > 1 else ''} above the solve.")
    return corrections


def _find_old(stage: Stage, about: dict, solved: Solved) -> Solved:
    """The solve that the frame keys were made from; the new one if its files are gone."""
    for path in (absolute(about["cache"]), solved.path.with_name(file_name(about["cache"]))):
        with contextlib.suppress(UnderstudyError):
            old = read_solved(path)
            old.vertices()
            return old
    return solved


def _add_corrections(face: bpy.types.Object, corrections: list[tuple[int, np.ndarray]], frames: Mapping) -> None:
    """Add a correction for single source frames, which fades to their neighbours as frame keys did."""
    step = 1 / frames.ratio
    for source, displacement in corrections:
        key = keys.ensure_key(face)
        time = frames.scene(source)
        block = keys.add(face, f"{edits.PREFIX}f{round(time):04}", positions(key.reference_key) + displacement)
        curves.write(key, keys.value_path(block.name), np.array([time - step, time, time + step]),
                     np.array([0.0, 1.0, 0.0]), "Understudy Edits")


def _carried(stage: Stage, solved: Solved, back: bool, notes: list[str]) -> dict[str, np.ndarray]:
    """The corrections as they have to be in the other form, so that each looks the same at its own frame.

    In Mesh Cache they move with the skin, in Basis Keys they add up; `back` is to the former. name -> (V, 3).
    """
    face = stage.face
    if not edits.listed(face):
        return {}
    known, frames = curves.curves_of(keys.key_of(face)), keys.noted_mapping(keys.note(face))
    mesh, samples, result = mesh_of(face), solved.vertices(), {}

    def sample(time: float) -> np.ndarray:
        return samples[min(max(round(frames.source(time)) - solved.first, 0), solved.count - 1)]

    for block in edits.listed(face):
        curve = known.get((keys.value_path(block.name), 0))
        if curve is None or not len(curve.keyframe_points):
            continue
        begin, end = edits.held(curve)
        middle, rest = (begin + end) / 2, positions(block.relative_key)
        displacement = positions(block) - rest
        carried = skin.carry(mesh, sample(middle), displacement, back)
        result[block.name] = rest + carried
        resting, moved = (carried, displacement) if back else (displacement, carried)
        off = 1000 * stage.scene.understudy.unit * max(
            np.linalg.norm(skin.carry(mesh, sample(time), resting) - moved, axis=1).max() for time in (begin, end))
        if off > TOLD:
            notes.append(f"{block.name} turns with the skin in Mesh Cache, but not in Basis Keys: away from frame "
                         f"{middle:g} it looks different, by up to {off:.1f} mm.")
    return result


# Entering a form

def _to_basis(stage: Stage, solved: Solved, animated: np.ndarray, base: np.ndarray, columns: np.ndarray,
              codes: np.ndarray, carry: bool, notes: list[str]) -> Iterator[bool]:
    frames = mapping(stage.scene, stage.shot)
    keys.ensure_key(stage.face)
    times = np.array([frames.scene(solved.first + index) for index in range(solved.count)])
    about = yield from keys.add_components(stage, base, columns, animated, codes, times)
    face = stage.face
    carried = _carried(stage, solved, False, notes) if carry else {}
    keys.set_note(face, "BASIS", stage.shot.cache, solved.first, frames, **about)
    for name, coordinates in carried.items():
        set_positions(keys.key_of(face).key_blocks[name], coordinates)
    keys.unmute_components(face)
    switch_off(face)
    yield True


def _components(stage: Stage, solved: Solved) -> Generator[bool, None, tuple[np.ndarray, ...]]:
    """Animated vertices (A,), mean face (V, 3), what each component adds (K, A, 3), and the codes (n, K) of a solve.

    Raises UnderstudyError unless they give the solve, seen at some frames.
    """
    model = ModelFile.load(absolute(stage.scene.understudy.model))
    samples, codes = solved.vertices(), np.asarray(solved.codes())
    weights, mean = model.head()
    yield True
    base = model.template.vertices.copy()
    base[model.animated] = mean.reshape(-1, 3)
    fits = samples.shape[1] == len(base) and codes.shape[1] == weights.shape[1]
    for index in np.linspace(0, len(codes) - 1, 5).astype(int) if fits else ():
        made = base.copy()
        made[model.animated] += (weights @ codes[index]).reshape(-1, 3)
        fits &= bool(np.abs(made - samples[index]).max() * model.unit < 1e-5)
    if not fits:
        others = "several models" if len(solved.models) > 1 else "another model"
        raise UnderstudyError(f"{solved.path.name} was solved by {others}, not by {model.path.name} alone, so that its "
                              "components are not at hand. Solve the whole shot again to get Basis Keys.")
    yield True
    return model.animated, base, np.ascontiguousarray(weights.T).reshape(-1, len(model.animated), 3), codes


def _to_frames(stage: Stage) -> Iterator[bool]:
    solved = read_solved(absolute(stage.shot.cache))
    frames = mapping(stage.scene, stage.shot)
    with _baked(stage, solved, frames) as look:
        keys.ensure_key(stage.face)
        start, sums, waiting = keys.first_time(stage.face), [], []
        for index in range(solved.count):
            waiting.append(look(solved.first + index))
            if len(waiting) == keys.STEP or index == solved.count - 1:
                sums += keys.add_frames(stage.face, solved.first, waiting, start, len(sums))
                waiting = []
            if index % 4 == 3:
                yield True
    face = stage.face
    keys.set_note(face, "FRAMES", stage.shot.cache, solved.first, frames, shapes=sums, start=start)
    keys.play_frames(face, solved.first, solved.count, start, frames)
    switch_off(face)
    face.active_shape_key_index = 0
    yield True


# Evaluating the solve with the artist's keys on top

@contextlib.contextmanager
def _baked(stage: Stage, solved: Solved, frames: Mapping) -> Iterator[Callable[[int], np.ndarray]]:
    """A function that gives what the face shows at a source frame with the artist's keys on top, (V, 3) float32.

    Where the artist has keys, a copy of the face in a scene of its own is evaluated by Blender, so that curves,
    drivers, vertex groups and mutes of his keys count as they do in his scene.
    """
    samples = solved.vertices()
    if not any(not block.mute for block in keys.theirs(stage.face)):
        yield lambda source: samples[min(max(source - solved.first, 0), solved.count - 1)]
        return
    remove_scratch()
    try:
        name = _make_scratch(stage.face, solved, frames)
        yield lambda source: _evaluate(name, frames.scene(source))
    finally:
        remove_scratch()


def _make_scratch(face: bpy.types.Object, solved: Solved, frames: Mapping) -> str:
    scene = bpy.data.scenes.new(".understudy")
    scene[SCRATCH] = True
    copy = face.copy()
    copy.data = face.data.copy()
    copy.parent = None
    copy.constraints.clear()
    scene.collection.objects.link(copy)
    keys.strip(copy, with_curves=False)  # its action is the face's
    for modifier in [modifier for modifier in copy.modifiers if modifier != modifier_of(copy)]:
        copy.modifiers.remove(modifier)
    keys.forget_form(copy)
    attach_cache(copy, solved.path, frames, solved.first)
    return scene.name


def _evaluate(name: str, time: float) -> np.ndarray:
    scene = bpy.data.scenes[name]
    scene.frame_set(floor(time), subframe=time - floor(time))
    evaluated = scene.objects[0].evaluated_get(scene.view_layers[0].depsgraph)
    return positions(evaluated.data)


def remove_scratch() -> None:
    """Remove what was made to evaluate a face, also what an undone or saved switch has left."""
    for scene in [scene for scene in bpy.data.scenes if scene.get(SCRATCH)]:
        meshes = [object.data for object in scene.objects]
        for object in list(scene.objects):
            bpy.data.objects.remove(object)
        for mesh in meshes:
            bpy.data.meshes.remove(mesh)
        bpy.data.scenes.remove(scene)
