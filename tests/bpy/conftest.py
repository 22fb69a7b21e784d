"""The add-on in Blender as a Python module (bpy), headless: .venv-bpy/5.0/bin/python -m pytest tests/bpy"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HAVE_BPY = importlib.util.find_spec("bpy") is not None
STATUS = pytest.StashKey[int]()
collect_ignore_glob = [] if HAVE_BPY else ["test_*.py"]


def load_understudy():
    """The repository's root as package `understudy`, which is not installed here; the folder may have any name."""
    spec = importlib.util.spec_from_file_location("understudy", ROOT / "__init__.py",
                                                  submodule_search_locations=[str(ROOT)])
    sys.modules["understudy"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    return package


if HAVE_BPY:
    import bpy

    load_understudy()


def pytest_sessionfinish(session, exitstatus):
    session.config.stash[STATUS] = int(exitstatus)


def pytest_unconfigure(config):
    if HAVE_BPY and bpy.app.version < (4, 3):  # crashes when Python ends, with the plainest of add-ons too
        sys.stdout.flush()
        os._exit(config.stash[STATUS])


@pytest.fixture(scope="session")
def registered():
    """The add-on, registered once."""
    import understudy

    understudy.register()
    yield understudy
    understudy.unregister()


@pytest.fixture(autouse=True)
def empty_file(registered):
    """Every test begins in an empty file."""
    bpy.ops.wm.read_homefile(use_empty=True)


@pytest.fixture(scope="session")
def worker_python():
    """The development interpreter, which has what a worker needs; Blender's has not."""
    for name in (".venv/bin/python", ".venv/Scripts/python.exe"):
        if (ROOT / name).is_file():
            return ROOT / name
    pytest.skip("needs .venv, which make test sets up")


@pytest.fixture(scope="session")
def material(worker_python, tmp_path_factory):
    """An actor with a model that nobody trained, and two movies, in a folder whose name is no ASCII."""
    folder = tmp_path_factory.mktemp("Zoë s") / "a b"
    folder.mkdir()
    subprocess.run([worker_python, Path(__file__).with_name("make_material.py"), folder], check=True)
    return folder


@pytest.fixture
def folder(material, tmp_path):
    return shutil.copytree(material, tmp_path / "ö folder")


@pytest.fixture
def scene(folder, worker_python, monkeypatch):
    """A saved scene in which the actor is open, with one of the movies as a shot."""
    monkeypatch.setenv("UNDERSTUDY_PYTHON", str(worker_python))
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "scene.blend"))
    assert bpy.ops.understudy.actor_open(filepath=str(folder / "actor")) == {"FINISHED"}
    assert bpy.ops.understudy.shot_add(filepath=str(folder / "take one.mp4")) == {"FINISHED"}
    return bpy.context.scene
