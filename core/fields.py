"""Checked values out of JSON files: each fault is a sentence, and a listener may hear all of them, not the first."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .errors import UnderstudyError
from .files import read_json

Tell = Callable[[str, str], None]  # told (where, sentence) of a fault; may raise


def refuse(where: str, sentence: str) -> None:
    """The listener that makes the first fault an UnderstudyError."""
    raise UnderstudyError(sentence)


def is_number(value: Any) -> bool:
    """Whether the value is a finite number, and no boolean."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and -1e300 < value < 1e300


def is_whole(value: Any) -> bool:
    """Whether the value is an integer, and no boolean."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


class Fields:
    """The values of a JSON file; once the file itself has failed, every value is its default."""

    def __init__(self, path: Path, schema: int, where: str, tell: Tell) -> None:
        """Read the file and compare its schema version with `schema`, the newest that is known."""
        self.path, self.where, self.tell = path, where, tell
        self.values: dict | None = None
        try:
            values = read_json(path)
        except UnderstudyError as error:
            tell(where, str(error))
            return
        version = values.get("schema")
        if not is_whole(version) or version < 1:
            tell(where, f"{path} has no schema version; it is no file of Understudy, or it is damaged.")
        elif version > schema:
            tell(where, f"{path} was written by a newer Understudy (schema {version}; this one knows {schema}). "
                        "Update Understudy to use it.")
        else:
            self.values = values

    def __call__(self, key: str, valid: Callable[[Any], Any], wanted: str, default: Any) -> Any:
        """The value of `key` if `valid`; else tells that it should be `wanted`, and gives the default."""
        if self.values is None:
            return default
        value = self.values.get(key)
        if valid(value):
            return value
        self.tell(self.where, f"{self.path}: {key!r} should be {wanted}, but is {str(value)[:60]!r}.")
        return default
