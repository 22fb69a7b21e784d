"""The arrows between the packages point one way, and the three places that hold the version agree."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest

import understudy

ROOT = Path(understudy.__file__).parent
SOURCES = [path for folder in (".", "commands", "core", "training", "blender_addon", "blender_addon/operators")
           for path in sorted((ROOT / folder).glob("*.py"))]
MAY_IMPORT = {  # our own packages that each may import
    "core": {"core", "__init__"},
    "training": {"training", "core", "__init__"},
    "blender_addon": {"blender_addon", "core", "__init__"},
    "__init__": {"blender_addon", "__init__"},
    "commands": {"commands", "core", "training", "__init__"},
    "__main__": {"commands", "core", "__init__"},
}
# Blender brings numpy and nothing else, and the add-on imports these in Blender's own process.
NUMPY_ONLY = ("errors", "files", "fields", "arrays", "topology", "ply", "meshcache", "actor", "metrics", "jobs",
              "events", "modelfile", "solved", "livefeed", "service", "numbered", "pose", "runs", "plot",
              "review", "frame_errors", "colours", "familiarity", "architectures")


def package_of(path: Path) -> str:
    """core, training, blender_addon, or the stem of a file in the root."""
    parts = path.relative_to(ROOT).parts
    return parts[0] if len(parts) > 1 else path.stem


def imports_of(path: Path, top_level: bool = False) -> list[tuple[int, str, list[str]]]:
    """(dots, module, names) of every import statement; `top_level`: only of those run when the module is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = []
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found += [(0, alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or "", [alias.name for alias in node.names]))
        if not (top_level and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))):
            pending += ast.iter_child_nodes(node)
    return found


def own_imports(path: Path, top_level: bool = False) -> list[Path]:
    """The files of this repository that a file imports."""
    result = []
    for dots, module, names in imports_of(path, top_level):
        if dots:
            base = path.parents[dots - 1].joinpath(*module.split(".")) if module else path.parents[dots - 1]
            for target in [base / name for name in names] + [base]:
                if target.with_suffix(".py").is_file():
                    result.append(target.with_suffix(".py"))
                elif (target / "__init__.py").is_file():
                    result.append(target / "__init__.py")
    return result


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows(path):
    package = package_of(path)
    for dots, module, _ in imports_of(path):
        outside = module.split(".")[0]
        assert dots or outside != "understudy", "import relatively: inside Blender the package has another name"
        assert dots or outside not in ("bpy", "bpy_extras", "mathutils") or package == "blender_addon"
    reached = {package_of(target) for target in own_imports(path)}
    assert reached <= MAY_IMPORT[package]


def test_arrows_are_seen():
    """The walk itself finds what is there, so that an empty answer above means something."""
    assert package_of(ROOT / "core" / "jobs.py") == "core"
    assert ROOT / "core" / "events.py" in own_imports(ROOT / "core" / "jobs.py")
    assert {package_of(path) for path in own_imports(ROOT / "commands" / "training.py")} >= {"core", "training"}
    assert (0, "bpy", []) in imports_of(ROOT / "blender_addon" / "properties.py")


@pytest.mark.parametrize("name", NUMPY_ONLY)
def test_blender_can_import(name):
    for path in (ROOT / "core" / f"{name}.py", ROOT / "core" / "__init__.py"):
        for dots, module, _ in imports_of(path, top_level=True):
            assert dots or module.split(".")[0] in sys.stdlib_module_names | {"numpy"}
        allowed = {ROOT / "core" / f"{other}.py" for other in (*NUMPY_ONLY, "__init__")}
        assert set(own_imports(path, top_level=True)) <= allowed


def test_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    manifest = tomllib.loads((ROOT / "blender_manifest.toml").read_text(encoding="utf-8"))
    assert project["version"] == manifest["version"] == understudy.__version__


def test_pins_cover_the_dependencies():
    """Whatever pyproject.toml asks for is pinned, except torch, which the Makefile installs from the user's index."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + sum(project["optional-dependencies"].values(), [])
    names = {text.split(">=")[0].lower() for text in wanted if not text.startswith("understudy[")} - {"torch"}
    pins = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").lower()
    assert {name for name in names if f"\n{name}==" not in pins} == set()
