"""What is set once for all files: the worker's interpreter, its device, where caches go."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import bpy
from bpy.props import EnumProperty, FloatProperty, StringProperty

from ..core.errors import UnderstudyError
from ..core.files import make_folder
from . import ROOT_PACKAGE, keymap, paths, runtime

PYTHON = "UNDERSTUDY_PYTHON"  # environment: the worker's interpreter, for farms and scripts without preferences
DEVICES = (
    ("auto", "Automatic", "The first GPU that torch can use, else the CPU"),
    ("cpu", "CPU", "Works everywhere"),
    ("cuda", "CUDA GPU", "An NVIDIA GPU, or an AMD one with a ROCm build of torch"),
    ("mps", "Apple GPU", "The GPU of a Mac"),
)


class UnderstudyPreferences(bpy.types.AddonPreferences):
    bl_idname = ROOT_PACKAGE

    python: StringProperty(
        name="Python", subtype="FILE_PATH",
        description="An interpreter that has torch, for instance of a virtual environment; it runs the network outside "
                    "Blender. Empty: Blender's own, with what the full build of the extension brings")
    device: EnumProperty(name="Device", items=DEVICES, description="What the network runs on")
    memory_limit: FloatProperty(
        name="GPU Memory Limit (GB)", min=0, soft_max=48, precision=1,
        description="Gigabytes of GPU memory that the worker, and a training beside it, may each take; 0 is as "
                    "much as they need. On the CPU a solve takes about 0.7 GB, however long the shot")
    idle_minutes: FloatProperty(
        name="Keep Ready (Minutes)", min=0, default=10, soft_max=120, precision=0,
        description="Minutes for which the worker keeps the model loaded after the last solve, so that the next one "
                    "starts at once; then its memory is given back")
    cache_folder: StringProperty(
        name="Cache Folder", subtype="DIR_PATH", options=paths.OPTIONS, default="//understudy/",
        description="Where solves are written; // is the folder of the .blend. While a .blend is not saved, they go to "
                    "a folder of your user account")

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        column = layout.column()
        column.prop(self, "python", placeholder="Blender's own, with the full build")
        column.prop(self, "device")
        column.prop(self, "memory_limit")
        column.prop(self, "idle_minutes")
        column.prop(self, "cache_folder")
        layout.operator("understudy.worker_check", icon="CHECKMARK")
        box = layout.column(align=True)
        for line in runtime.worker_text.splitlines():
            box.label(text=line)
        layout.use_property_split = False
        layout.label(text="Keys")
        keymap.draw(layout.column())


class Defaults:
    """The preferences where the add-on is not installed but run as a plain package."""

    python, device, memory_limit, idle_minutes, cache_folder = "", "auto", 0.0, 10.0, "//understudy/"


_defaults = Defaults()


def preferences() -> UnderstudyPreferences | Defaults:
    """The preferences; without an installed add-on an object with the same fields, which a script may set."""
    addon = bpy.context.preferences.addons.get(ROOT_PACKAGE)
    return addon.preferences if addon and addon.preferences else _defaults


def worker() -> tuple[str, list[str]]:
    """The worker's interpreter, and folders with packages that it would not find by itself.

    Raises UnderstudyError if the chosen interpreter is not there.
    """
    chosen = preferences().python or os.environ.get(PYTHON, "")
    if chosen:
        path = bpy.path.abspath(chosen)
        found = shutil.which(path)
        if not found:
            raise UnderstudyError(f"The worker's Python {path} is not there or cannot be run. Choose another in the "
                                  "preferences of Understudy.")
        return found, []
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    wheels = Path(bpy.utils.user_resource("EXTENSIONS"), ".local", "lib", version, "site-packages")
    return sys.executable, [str(wheels)] if wheels.is_dir() else []


def user_folder(name: str) -> Path:
    """A folder of ours outside the add-on, made if it is absent."""
    try:
        return Path(bpy.utils.extension_path_user(ROOT_PACKAGE, path=name, create=True))
    except ValueError:  # not installed as an extension
        return make_folder(Path(tempfile.gettempdir(), "understudy", name))


@contextlib.contextmanager
def session_file(name: str) -> Iterator[Path]:
    """A path for a file that is gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="understudy-") as folder:
        yield Path(folder, name)


def cache_folder(scene: bpy.types.Scene) -> Path:
    """Where solves of a scene go; it need not exist yet."""
    folder = scene.understudy.cache_folder or preferences().cache_folder
    if folder.startswith("//") and not bpy.data.filepath:
        return user_folder("unsaved")
    return Path(os.path.normpath(bpy.path.abspath(folder)))


CLASSES = (UnderstudyPreferences,)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
