"""The files of an image sequence: one file a frame, numbered without gaps; the lowest number is frame 0."""

import re
from pathlib import Path

from .errors import UnderstudyError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".exr", ".dpx", ".cin", ".bmp", ".tga")
_PATTERN = re.compile(r"%0?(\d*)d|(#+)")
_NUMBER = re.compile(r"\d+(?=\D*$)")  # the last number in a name


def is_sequence(path: Path) -> bool:
    """True for a folder, an image, or a pattern for images."""
    return path.is_dir() or path.suffix.lower() in SUFFIXES


def find_images(path: Path) -> tuple[list[Path], list[str]]:
    """The images that a path stands for, in the order of their numbers, and warnings.

    path : a folder, one of the images, or a pattern such as face.####.png or face.%04d.png.
    Raises UnderstudyError if there is none, one is missing, or two have the same number.
    """
    warnings: list[str] = []
    folder = path if path.is_dir() else path.parent
    if not folder.is_dir():
        raise UnderstudyError(f"The folder {folder} does not exist.")
    groups = _groups(folder)
    if path.is_dir():
        images = _only_group(path, groups, warnings)
    elif path.is_file():
        images = groups.get(_split(path)[0], [(0, path)])
    elif pattern := _PATTERN.search(path.name):
        digits = int(pattern[1] or 1) if pattern[2] is None else len(pattern[2])
        head, tail = path.name[:pattern.start()], path.name[pattern.end():]
        name = re.compile(rf"{re.escape(head)}(\d{{{digits},}}){re.escape(tail)}")
        found = [(name.fullmatch(file.name), file) for images in groups.values() for _, file in images]
        images = sorted((int(match[1]), file) for match, file in found if match)
        if not images:
            raise UnderstudyError(f"No image in {folder} fits {path.name}. Check name and number of digits.")
    else:
        raise UnderstudyError(f"{path} does not exist.")
    _check_numbers(images)
    return [file for _, file in images], warnings


def _only_group(path: Path, groups: dict, warnings: list[str]) -> list[tuple[int, Path]]:
    """The one sequence of a folder; lone images beside it are ignored with a warning."""
    if not groups:
        raise UnderstudyError(f"{path} holds no images ({', '.join(SUFFIXES)}).")
    sequences = [images for images in groups.values() if len(images) > 1] or list(groups.values())
    if len(sequences) > 1:
        names = ", ".join(images[0][1].name for images in sequences[:4])
        raise UnderstudyError(f"{path} holds {len(sequences)} sequences, starting with {names}. Name one of them, for "
                              "instance as FOLDER/face.####.png.")
    lone = sum(map(len, groups.values())) - len(sequences[0])
    if lone:
        warnings.append(f"{path}: {lone} other images beside the sequence {sequences[0][0][1].name} ... are not used.")
    return sequences[0]


def _split(path: Path) -> tuple[tuple[str, str, bool], int]:
    """What all images of a sequence have in common, and the number of this one: the last number in its name."""
    number = _NUMBER.search(path.stem)
    if not number:
        return (path.stem, path.suffix, False), 0
    return (path.stem[:number.start()], path.stem[number.end():] + path.suffix, True), int(number[0])


def _groups(folder: Path) -> dict[tuple[str, str, bool], list[tuple[int, Path]]]:
    """The images of a folder, sorted into sequences of (number, file)."""
    groups: dict = {}
    for file in folder.iterdir():
        if file.suffix.lower() in SUFFIXES and not file.name.startswith("."):
            key, number = _split(file)
            groups.setdefault(key, []).append((number, file))
    return {key: sorted(groups[key]) for key in sorted(groups)}


def _check_numbers(images: list[tuple[int, Path]]) -> None:
    """Raise UnderstudyError naming the images that are missing, or that have the same number."""
    missing, count = [], 0
    for (number, file), (following, other) in zip(images, images[1:], strict=False):
        if following == number:
            raise UnderstudyError(f"{file} and {other.name} have the same number. Remove one of them.")
        count += following - number - 1
        for absent in range(number + 1, min(following, number + 4)):
            digits = list(_NUMBER.finditer(file.stem))[-1]
            name = f"{file.stem[:digits.start()]}{absent:0{len(digits[0])}d}{file.stem[digits.end():]}{file.suffix}"
            missing.append(name)
    if count:
        more = f" and {count - 3} more" if count > 3 else ""
        names = ", ".join(missing[:3]) + more
        raise UnderstudyError(f"{images[0][1].parent}: {names} missing from the sequence. Render or copy what is "
                              "missing; a gap would shift all frames after it.")
