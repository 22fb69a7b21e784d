"""Runs inside Blender: a life of the extension. Arguments: the zip, a newer zip, the worker's interpreter.

A failed assertion ends Blender with a traceback and status 1.
"""

import os
import sys
import time
from pathlib import Path

import bpy  # first: it brings the others

import addon_utils  # isort: skip

ID = "bl_ext.user_default.understudy"
FOLDER = Path(bpy.utils.user_resource("EXTENSIONS"), "user_default", "understudy")


def install(path: str, version: str) -> None:
    bpy.ops.extensions.package_install_files(repo="user_default", filepath=path, enable_on_install=True,
                                             overwrite=True)
    assert (FOLDER / "blender_manifest.toml").is_file(), f"nothing was installed from {path}"
    assert enabled() and sys.modules[ID].__version__ == version
    addon_utils.extensions_refresh()
    addon_utils._extensions_warnings_get._is_first = True  # look again: Blender does so once, when it first shows them
    assert addon_utils._extensions_warnings_get() == {}


def enabled() -> bool:
    return ID in bpy.context.preferences.addons and hasattr(bpy.types.Scene, "understudy")


def modules() -> dict:
    return {name: module for name, module in sys.modules.items() if name == ID or name.startswith(f"{ID}.")}


def children() -> list[int]:
    """Process ids of what this Blender started and has not ended."""
    return [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


def start_worker(python: str) -> None:
    bpy.context.preferences.addons[ID].preferences.python = python
    pump = sys.modules[f"{ID}.blender_addon.pump"]
    answers = []
    pump.ask(["doctor"], answers.append, answers.append)
    pump.finish()
    assert len(answers) == 1 and isinstance(answers[0], dict), answers
    assert children(), "the worker stays, to answer the next question"


def main(package: str, newer: str, python: str) -> None:
    without = set(dir(bpy.types))
    install(package, "0.1.0")
    for _ in range(2):
        bpy.ops.preferences.addon_disable(module=ID)
        assert not enabled()
        assert set(dir(bpy.types)) - without == set()
        bpy.ops.preferences.addon_enable(module=ID)
        assert enabled()
    before = set(children())
    start_worker(python)
    old = modules()
    install(newer, "9.9.9")
    assert [name for name, module in modules().items() if module is old.get(name)] == [], "still the old version's"
    until = time.monotonic() + 10
    while set(children()) - before and time.monotonic() < until:
        time.sleep(0.1)
    assert set(children()) - before == set(), "the old version's worker still runs"
    bpy.ops.extensions.package_uninstall(repo_index=repository(), pkg_id="understudy")
    assert not enabled() and not FOLDER.exists()
    assert [str(path) for path in FOLDER.parent.rglob("*") if "understudy" in path.name] == []
    print("LIFE DONE", bpy.app.version_string)


def repository() -> int:
    repos = bpy.context.preferences.extensions.repos
    return next(i for i, repo in enumerate(repos) if repo.module == "user_default")


if __name__ == "__main__":
    main(*(sys.argv[sys.argv.index("--") + 1:] if "--" in sys.argv else sys.argv[1:]))
    if bpy.app.version < (4, 3):  # as a module this one crashes when Python ends, with the plainest of add-ons too
        sys.stdout.flush()
        os._exit(0)
