"""Runs inside Blender: install the full zip and solve its sample on Blender's own Python. Arguments: the zip, a folder.

A failed assertion ends Blender with a traceback and status 1. Prints what took how long.
"""

import importlib
import os
import sys
import time
from pathlib import Path

import bpy

ID = "bl_ext.user_default.understudy"


def main(package: str, folder: str) -> None:
    start = time.perf_counter()
    bpy.ops.extensions.package_install_files(repo="user_default", filepath=package, enable_on_install=True)
    assert ID in bpy.context.preferences.addons
    print(f"FULL installed in {time.perf_counter() - start:.1f} s", flush=True)
    import numpy

    preferences = importlib.import_module(f"{ID}.blender_addon.preferences")
    Service = importlib.import_module(f"{ID}.core.service").Service
    python, paths = preferences.worker()
    wheels = [path for path in paths if Path(path, "torch").is_dir()]
    assert python == sys.executable and wheels, (python, paths)
    assert not any(Path(path, "numpy").exists() for path in paths) and ".local" not in numpy.__file__
    sample = Path(sys.modules[ID].__file__).parent / "sample"
    service = Service(python, Path(folder, "service"), paths)
    for take in ("cold", "warm"):
        start = time.perf_counter()
        job = Path(folder, f"{take}.job")
        running = service.submit(["solve", sample / "model.safetensors", sample / "val_talk.mp4", "--out",
                                  Path(folder, f"{take}.pc2"), "--job", job], job)
        while not running.state.ended:
            running.poll()
            time.sleep(0.02)
        assert running.state.state == "done", running.state.text
        print(f"FULL solved {take} in {time.perf_counter() - start:.1f} s: {running.state.results}", flush=True)
    service.close()
    print("FULL DONE", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # as a module Blender may crash when Python ends
