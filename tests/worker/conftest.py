"""What the tests of worker processes share."""

import shutil
from pathlib import Path

import pytest

import understudy


@pytest.fixture(scope="session")
def copy_program(tmp_path_factory):
    """A function that copies the package, some of its files replaced, and gives the path of its __main__.py.

    The copy lies in a folder with a space and a non-ASCII letter in its name.
    """
    def copy_program(**replaced: str) -> Path:
        source = Path(understudy.__file__).parent
        copy = tmp_path_factory.mktemp("program") / "under stüdy"
        for part in ("commands", "core", "training"):
            (copy / part).mkdir(parents=True)
        whole = [path.relative_to(source) for part in ("commands", "core", "training")
                 for path in (source / part).glob("*.py")]
        for name in ("__init__.py", "__main__.py", *whole):
            shutil.copy(source / name, copy / name)
        for name, text in replaced.items():
            (copy / f"{name.replace('_', '/')}.py").write_text(text, encoding="utf-8")
        return copy / "__main__.py"

    return copy_program
