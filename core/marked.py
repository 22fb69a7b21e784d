"""Writing the vertices of a shot that an artist has cleaned: all of them at once or nothing, as often as he likes.

A shot that is marked again gets a new file, and shot.json, replaced last and atomically, names it: whoever reads the
actor at any moment finds the old shot or the new one, never a mixture. The marking before is kept until the next time:
a training run may be reading its vertices, and `unmark` goes back to it.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from .actor import VERTICES, Actor, Shot, check_shot_name, check_vertices, new_folder, stored_path
from .errors import UnderstudyError
from .files import atomic, check_space
from .meshcache import CacheWriter, cache_writer, check_finite, read_cache

PREVIOUS = "shot.previous.json"  # the marking before, in the folder of its shot


def shot_for(actor: Actor, name: str, footage: Path) -> Shot:
    """The actor's shot of that name, to be replaced, or a new one that is not written yet.

    Raises UnderstudyError if the name is no name, or belongs to a shot of other footage.
    """
    name = check_shot_name(name)
    stored = stored_path(footage, actor.folder)
    for shot in actor.shots:
        if shot.name.casefold() == name.casefold():
            if shot.footage_path() != replace(shot, footage=stored).footage_path():
                raise UnderstudyError(f"{actor.name} already has a shot named {shot.name}, with other footage: "
                                      f"{shot.footage_path()}. Give this shot another name.")
            return replace(shot, footage=stored)
    return Shot(actor.folder / "shots" / name, stored, "character", "train")


@contextlib.contextmanager
def write_shot(actor: Actor, shot: Shot, count: int) -> Iterator[Callable[[np.ndarray], None]]:
    """Write the `count` samples of a shot of `shot_for`, in constant memory. Its other fields may still be changed.

    Yields what takes the samples, (n, V, 3), in order. When the block ends, the vertices are checked and the shot is
    the actor's. If it fails, or the check does, all is as before. Raises UnderstudyError.
    """
    name, vertices = f"The shot {shot.name}", len(actor.template.vertices)
    check_space(actor.folder, 12 * vertices * count + (1 << 20))
    if not (shot.folder / "shot.json").exists():
        with new_folder(shot.folder) as temporary:
            path = temporary / "vertices.pc2"
            with cache_writer(path, vertices, count) as writer:
                yield lambda positions: _write(writer, positions, name)
            check_vertices(read_cache(path), actor.template, actor.unit, name, finite=True)
            replace(shot, folder=temporary, file=path.name).save()
        shot = replace(shot, file=path.name)
    else:
        old, path = shot.cache, shot.folder / _next_file(shot.folder)
        try:
            with cache_writer(path, vertices, count) as writer:
                yield lambda positions: _write(writer, positions, name)
            check_vertices(read_cache(path), actor.template, actor.unit, name, finite=True)
            with atomic(shot.folder / PREVIOUS) as temporary:
                temporary.write_bytes((shot.folder / "shot.json").read_bytes())
            shot = replace(shot, file=path.name)
            shot.save()
        except BaseException:
            _remove([path])
            raise
        _remove(other for other in shot.folder.iterdir()
                if VERTICES.fullmatch(other.name) and other not in (old, path))
    actor.shots = sorted([other for other in actor.shots if other.name != shot.name] + [shot], key=lambda one: one.name)


def unmark(actor: Actor, shot: Shot) -> bool:
    """Take back the newest marking of one of the actor's shots: that before it counts again, else none does.

    Returns whether there was one before that counted; if not, the shot is in cleanup again and does not train. Its
    vertices stay until it is marked again, since a training run may be reading them. Raises UnderstudyError if a file
    is damaged or cannot be written.
    """
    path = shot.folder / PREVIOUS
    before = Shot.load(shot.folder, file=PREVIOUS) if path.is_file() else None
    if before is not None and before.file != shot.file and before.cache.is_file():
        before.save()
    else:
        before = None
        shot.status = "in cleanup"
        shot.save()
    _remove([path])
    now = before or shot
    actor.shots = [now if other.name == shot.name else other for other in actor.shots]
    return now.status == "cleaned"


def _write(writer: CacheWriter, positions: np.ndarray, name: str) -> None:
    check_finite(positions, name, writer.written)
    writer.write(positions)


def samples(ranges: Iterable[tuple[int, int]], first: int, count: int) -> list[list[int]]:
    """Ranges of footage frames as ranges of the samples of a shot: inside it, in order, those that touch as one.

    first : footage frame of sample 0.    count : of samples.
    """
    inside = sorted((max(begin - first, 0), min(end - first, count - 1)) for begin, end in ranges)
    joined: list[list[int]] = []
    for begin, end in inside:
        if begin > end:
            continue
        if joined and begin <= joined[-1][1] + 1:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([begin, end])
    return joined


def _next_file(folder: Path) -> str:
    numbers = [int(found[1].lstrip(".")) for path in folder.iterdir()
               if (found := VERTICES.fullmatch(path.name)) and found[1]]
    return f"vertices.{max(numbers, default=0) + 1:04}.pc2"


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):  # somebody reads it, and another time will do
            path.unlink(missing_ok=True)
