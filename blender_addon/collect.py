"""The files that a .blend needs from us: gathered beside it for a farm, and old caches that nothing uses."""

import shutil
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import bpy

from ..core.errors import UnderstudyError
from ..core.files import atomic, make_folder
from ..core.meshcache import BLOCK
from ..core.numbered import find_images, is_sequence
from .outputs import size_text
from .paths import absolute, relative
from .switching import VERSION

COMPANIONS = (".json", ".npy")  # beside a cache: its sidecar and its codes


@dataclass(frozen=True)
class Dependency:
    """Files that belong together; the first is the one that the .blend names."""

    kind: str           # "cache", "footage" or "model"
    path: Path          # as the .blend names it, which may be missing
    files: tuple[Path, ...]
    size: int           # bytes, of all files

    @property
    def missing(self) -> bool:
        return not self.files


def dependencies() -> list[Dependency]:
    """What the shots and actors of all scenes of the .blend are made from, each once."""
    named: dict[Path, str] = {}
    for scene in bpy.data.scenes:
        for shot in scene.understudy.shots:
            for kind, path in (("cache", shot.cache if shot.solved else ""), ("footage", shot.footage)):
                if path:
                    named[absolute(path)] = kind
        if scene.understudy.model:
            named[absolute(scene.understudy.model)] = "model"
    return [_dependency(kind, path) for path, kind in named.items()]


def collect(with_model: bool = False) -> Generator[bool, None, str]:
    """Copy what lies outside the folder of the .blend into a folder beside it, and make all paths relative.

    With the .blend and that folder, another machine shows and renders the same. Files in the folder of the .blend stay
    where they are. Yields True between pieces of work; returns a sentence. Raises UnderstudyError if the .blend is not
    saved, a file is missing or the disk is full; then no path has changed.
    """
    if not bpy.data.filepath:
        raise UnderstudyError("Save the .blend first: the files are collected beside it.")
    root = Path(bpy.data.filepath).parent
    wanted = [found for found in dependencies() if with_model or found.kind != "model"]
    for found in wanted:
        if found.missing:
            raise UnderstudyError(f"{found.path} is missing. Put it back, choose another {found.kind}, or remove its "
                                  "shot; then collect again.")
    outside = [found for found in wanted if not found.path.is_relative_to(root)]
    size, free = sum(found.size for found in outside), shutil.disk_usage(root).free
    if size > free:
        raise UnderstudyError(f"Collecting takes {size_text(size)}, but {root} has only {size_text(free)} free.")
    target = root / f"{Path(bpy.data.filepath).stem} files"
    places: dict[Path, Path] = {}  # old -> new, also of files that stay
    for found in wanted:
        if found in outside:
            yield from _copy(found, target / found.kind, places)
        else:
            places |= {path: path for path in (found.path, *found.files)}
    if not bpy.data.filepath or Path(bpy.data.filepath).parent != root:
        raise UnderstudyError("The .blend was saved elsewhere while its files were collected. Collect again.")
    _rename(places)
    count = sum(len(found.files) for found in outside)
    where = f"{count} files, {size_text(size)}, are collected in {target.name}" if count else "All files are here"
    return f"{where}; their paths are relative now. Save the .blend."


def unused_caches() -> list[Dependency]:
    """Older versions of the caches of our shots, in their folders, that nothing in the .blend plays."""
    used = {absolute(modifier.filepath) for modifier in _modifiers()}
    used |= {absolute(shot.cache) for scene in bpy.data.scenes for shot in scene.understudy.shots if shot.cache}
    found: dict[Path, Dependency] = {}
    for cache in used:
        mine = VERSION.search(cache.stem)
        if mine is None or not cache.parent.is_dir():
            continue
        for other in sorted(cache.parent.glob("*.pc2")):
            version = VERSION.search(other.stem)
            if version and other not in used and other.stem[:version.start()] == cache.stem[:mine.start()] \
                    and int(version[1]) < int(mine[1]):
                found[other] = _dependency("cache", other)
    return list(found.values())


def remove_unused() -> str:
    """Delete what `unused_caches` finds; returns a sentence. Raises UnderstudyError if a file cannot be deleted."""
    found = unused_caches()
    for file in (file for cache in found for file in cache.files):
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise UnderstudyError(f"Cannot delete {file}: {error.strerror or error}.") from error
    return f"Deleted {len(found)} old caches, {size_text(sum(cache.size for cache in found))}."


def _dependency(kind: str, path: Path) -> Dependency:
    files: list[Path] = []
    if kind == "footage" and is_sequence(path):
        try:
            files = find_images(path)[0]
        except UnderstudyError:
            files = []
    elif path.is_file():
        files = [path]
        if kind == "cache":
            files += [other for suffix in COMPANIONS if (other := path.with_suffix(suffix)).is_file()]
    return Dependency(kind, path, tuple(files), sum(file.stat().st_size for file in files))


def _copy(found: Dependency, folder: Path, places: dict[Path, Path]) -> Iterator[bool]:
    """Copy the files of a dependency next to each other, keeping their names."""
    folder = _free(found, folder, places)
    make_folder(folder)
    for file in found.files:
        new = folder / file.name
        if not _same(new, file):
            with atomic(new) as temporary, open(file, "rb") as source, open(temporary, "wb") as target:
                while block := source.read(BLOCK):
                    target.write(block)
                    yield True
            shutil.copystat(file, new)
        places[file] = new
    if found.path not in places:  # a folder of images, or a pattern
        places[found.path] = folder if found.path.is_dir() else folder / found.path.name


def _free(found: Dependency, folder: Path, places: dict[Path, Path]) -> Path:
    """The folder for the files of a dependency, one in which no other files have their names."""
    if found.files[0].parent == found.path or len(found.files) > 1 and found.kind == "footage":
        folder = folder / found.files[0].parent.name  # an image sequence
    taken, number, free = set(places.values()), 1, folder
    while any(new in taken or new.exists() and not _same(new, file)
              for file in found.files for new in [free / file.name]):
        number += 1
        free = folder.with_name(f"{folder.name} {number}")
    return free


def _rename(places: dict[Path, Path]) -> None:
    """Point whatever in the .blend names one of these files to its new place, by a relative path."""

    def change(owner: object, name: str) -> None:
        old = getattr(owner, name)
        new = places.get(absolute(old)) if old else None
        if new is not None and relative(new) != old:
            setattr(owner, name, relative(new))

    for scene in bpy.data.scenes:
        for name in ("actor", "model"):
            change(scene.understudy, name)
        for shot in scene.understudy.shots:
            for name in ("footage", "cache"):
                change(shot, name)
    for data in (bpy.data.images, bpy.data.sounds, bpy.data.movieclips):
        for block in data:
            if block.library is None:
                change(block, "filepath")
    for modifier in _modifiers():
        change(modifier, "filepath")


def _modifiers() -> list[bpy.types.Modifier]:
    """All Mesh Cache modifiers of the .blend that name a file."""
    return [modifier for object in bpy.data.objects if object.library is None for modifier in object.modifiers
            if modifier.type == "MESH_CACHE" and modifier.filepath]


def _same(new: Path, old: Path) -> bool:
    """Whether a file was copied before and has not changed since."""
    if not new.is_file():
        return False
    one, other = new.stat(), old.stat()
    return one.st_size == other.st_size and abs(one.st_mtime - other.st_mtime) < 2  # FAT counts in 2 s
