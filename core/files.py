"""Files that are either whole or absent: atomic writing, JSON with limits, paths that stay in their folder."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from .errors import UnderstudyError

HALF_WRITTEN = re.compile(r"\..+\.[0-9a-f]{8}(\.\w+)?")  # the temporary names of `atomic`
JSON_LIMIT = 64 << 20  # bytes; the largest JSON that this project writes is a few MB


@contextlib.contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds, else remove it.

    The temporary name keeps the suffix of `path`, for writers that choose a format by it.
    Raises UnderstudyError when the folder cannot be written or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        _replace(temporary, path)
    except OSError as error:
        raise UnderstudyError(f"Cannot write {path}: {error.strerror or error}. "
                              "Check that the folder exists, can be written and has space.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _replace(temporary: Path, path: Path) -> None:
    """Rename over what is there. Windows refuses it while anybody reads that; whoever does is done in a moment."""
    for pause in (0.02, 0.1, 0.5, 1.0) if sys.platform == "win32" else ():
        try:
            return os.replace(temporary, path)
        except PermissionError:
            time.sleep(pause)
    os.replace(temporary, path)


def sweep(folder: Path | str) -> None:
    """Remove what `atomic` could not, in processes that were killed. Only for a folder that nobody writes to now."""
    for path in Path(folder).glob(".*"):
        if HALF_WRITTEN.fullmatch(path.name):
            with contextlib.suppress(OSError):
                path.unlink()


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path | str, value: object) -> None:
    """Write JSON atomically, indented, non-ASCII letters kept."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str) -> dict:
    """Read a JSON object. Raises UnderstudyError if it is absent, too large, or not a JSON object."""
    path = Path(path)
    try:
        if path.stat().st_size > JSON_LIMIT:
            raise UnderstudyError(f"{path} is larger than {JSON_LIMIT >> 20} MB and is no file of ours.")
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UnderstudyError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise UnderstudyError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise UnderstudyError(f"{path} should hold a JSON object, but holds a {type(value).__name__}.")
    return value


def make_folder(path: Path | str) -> Path:
    """Create a folder and its parents. Raises UnderstudyError if that is impossible."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnderstudyError(f"Cannot make the folder {path}: {error.strerror or error}.") from error
    return path


def user_cache(part: str = "") -> Path:
    """Where what can be made again is kept for this user, in a part of its own; it need not exist.

    The environment's UNDERSTUDY_CACHE is a folder to use instead, without parts.
    """
    if own := os.environ.get("UNDERSTUDY_CACHE"):
        return Path(own)
    home = Path(os.path.expanduser("~"))
    if sys.platform == "win32":
        usual = Path(os.environ.get("LOCALAPPDATA", home / "AppData/Local"))
    else:
        usual = home / "Library/Caches" if sys.platform == "darwin" else Path(
            os.environ.get("XDG_CACHE_HOME", home / ".cache"))
    return usual / "understudy" / part


def inside(folder: Path | str, relative: str) -> Path:
    """`folder / relative`, for names read from files: refuses absolute paths and every '..'."""
    parts = PurePosixPath(relative).parts
    if (not parts or ".." in parts or PurePosixPath(relative).is_absolute()
            or PureWindowsPath(relative).drive or PureWindowsPath(relative).is_absolute() or "\\" in relative):
        raise UnderstudyError(f"The path {relative!r} in {folder} leaves its folder; the file has been tampered with.")
    return Path(folder).joinpath(*parts)


def check_space(folder: Path | str, size: int) -> None:
    """Raise UnderstudyError if a file of `size` bytes cannot fit into `folder`."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return  # writing will say what is wrong
    if free < size:
        raise UnderstudyError(f"The disk of {folder} has {free >> 20:,} MB left, but {-(-size >> 20):,} MB are needed. "
                              "Make room or choose another folder.")


def hash_file(path: Path | str) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
