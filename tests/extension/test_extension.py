"""The zip, its life in Blender 4.2, 5.0 and the newest, and the repository that serves it."""

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIFE = Path(__file__).with_name("life.py")
BPY = {version: ROOT / ".venv-bpy" / version / "bin" / "python" for version in ("4.2", "5.0")}


@pytest.fixture(scope="session")
def newer(package, tmp_path_factory):
    """The same with a higher version."""
    path = tmp_path_factory.mktemp("newer") / "understudy-9.9.9.zip"
    with zipfile.ZipFile(package) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name in ("blender_manifest.toml", "__init__.py"):
                data = data.replace(b'version = "0.1.0"', b'version = "9.9.9"').replace(
                    b'__version__ = "0.1.0"', b'__version__ = "9.9.9"')
            new.writestr(name, data)
    return path


@pytest.fixture
def resources(tmp_path):
    """Where Blender keeps a user's things, at a path that is hard to handle."""
    folder = tmp_path / "Blender von Zoë"
    folder.mkdir()
    return folder


def in_bpy(version: str, *arguments: object, resources: Path, timeout: float = 300) -> subprocess.CompletedProcess:
    if not BPY[version].is_file():
        pytest.skip(f"needs .venv-bpy/{version}, which make test-bpy sets up")
    return subprocess.run([BPY[version], *map(str, arguments)], text=True, timeout=timeout, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env={**os.environ, "BLENDER_USER_RESOURCES": str(resources)})


def test_contents(package):
    """What the product needs, and nothing that only developing it does."""
    with zipfile.ZipFile(package) as archive:
        names = archive.namelist()
    folders = {name.split("/")[0] for name in names if "/" in name}
    assert folders == {"blender_addon", "commands", "core", "training", "sample"}
    assert {name for name in names if "/" not in name} == {
        "__init__.py", "__main__.py", "blender_manifest.toml", "LICENSE", "README.md", "CHANGELOG.md"}
    assert {name for name in names if name.startswith("sample/")} == {
        "sample/model.safetensors", "sample/val_talk.mp4", "sample/README.txt"}
    code = {name for name in names if "/" in name and not name.startswith("sample/")}
    assert code >= {path.relative_to(ROOT).as_posix() for folder in ("blender_addon", "commands", "core", "training")
                    for path in (ROOT / folder).rglob("*.py")}
    assert {name for name in code if not name.endswith(".py")} == set()


@pytest.mark.parametrize("version", BPY)
def test_life_in_bpy(version, package, newer, resources):
    life = in_bpy(version, LIFE, package, newer, sys.executable, resources=resources)
    assert life.returncode == 0 and "LIFE DONE" in life.stdout, life.stdout


def test_life_in_real_blender(real_blender, package, newer, resources, tmp_path):
    life = real_blender.run("-b", "-P", LIFE, "--", package, newer, sys.executable, home=tmp_path / "home",
                            env={"BLENDER_USER_RESOURCES": resources})
    assert life.returncode == 0 and "LIFE DONE" in life.stdout, life.stdout


def test_command_line(real_blender, package, resources, tmp_path):
    """Installed by Blender's own command, enabled in the next Blender too, removed without a rest."""
    def blender(*arguments: object) -> str:
        ran = real_blender.run(*arguments, home=tmp_path / "home", env={"BLENDER_USER_RESOURCES": resources})
        assert ran.returncode == 0, ran.stdout
        return ran.stdout

    blender("--command", "extension", "install-file", "--repo", "user_default", "--enable", package)
    listed = blender("--command", "extension", "list")
    assert "understudy [installed]" in listed.replace('"', "") and "Policy violation" not in listed
    look = "import bpy; print('enabled:', hasattr(bpy.types.Scene, 'understudy'))"
    assert "enabled: True" in blender("-b", "--python-expr", look)
    blender("--command", "extension", "remove", "understudy")
    left = [path for path in (resources / "extensions").rglob("*") if "understudy" in path.name]
    assert left == []


def test_repository(package, packager, tmp_path):
    (tmp_path / package.name).write_bytes(package.read_bytes())
    made = packager("repository", "--out", tmp_path)
    assert made.returncode == 0, made.stdout
    (entry,) = json.loads((tmp_path / "index.json").read_text(encoding="utf-8"))["data"]
    manifest = tomllib.loads((ROOT / "blender_manifest.toml").read_text(encoding="utf-8"))
    assert (entry["id"], entry["version"]) == ("understudy", manifest["version"])
    assert entry["archive_size"] == package.stat().st_size
    assert (tmp_path / "index.html").is_file()


def test_without_a_trained_sample(packager, tmp_path):
    built = packager("small", "--actor", tmp_path, "--out", tmp_path)
    assert built.returncode == 1
    assert "has no model.safetensors" in built.stdout and "make demo" in built.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_full(packager, stand_in, resources, tmp_path):
    """One zip, installed in a fresh Blender, solves on Blender's own Python: nothing else is needed."""
    actor = next((path for path in (ROOT / "demo" / "actor", ROOT / "build" / "actor")
                  if (path / "model.safetensors").is_file()), stand_in)
    built = packager("full", "--actor", actor, "--out", tmp_path / "dist", "--torch", "torch==2.13.0")
    assert built.returncode == 0, built.stdout
    (package,) = (tmp_path / "dist").glob("*.zip")
    with zipfile.ZipFile(package) as archive:
        wheels = [name for name in archive.namelist() if name.startswith("wheels/")]
    assert not [name for name in wheels if "numpy" in name] and len(wheels) > 10
    ran = in_bpy("5.0", LIFE.with_name("full.py"), package, tmp_path, resources=resources)
    print(f"{built.stdout}\n{ran.stdout}")
    assert ran.returncode == 0 and "FULL DONE" in ran.stdout, ran.stdout
