"""Does the window stand still while a shot is solved, and how soon is the first frame on the mesh?

    .venv/bin/python benchmarks/window.py --actor otto --footage otto/take.mp4 --package dist/understudy-0.1.0.zip

Needs the real Blender of tools/window.py. Its window is drawn in software here: the gap that drawing alone makes is
measured in the same run.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from window import Window, find_blender  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--actor", type=Path, required=True)
    parser.add_argument("--footage", type=Path, required=True)
    parser.add_argument("--package", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        copy = Path(folder, "model.safetensors")  # where the window sees it
        shutil.copyfile(options.actor / "model.safetensors", copy)
        footage = shutil.copyfile(options.footage, Path(folder, options.footage.name))
        window = Window(find_blender(), Path(folder))
        window.install(options.package.resolve())
        window.shots.mkdir()
        ran = window.blender.run("--offline-mode", "--window-geometry", 0, 0, 1280, 800, "--python-expr",
                                 f"import sys; sys.path.insert(0, {str(ROOT / 'tools')!r})", "-P",
                                 ROOT / "benchmarks" / "scenarios" / "solving.py", home=window.home, window=True,
                                 env={"UNDERSTUDY_PYTHON": sys.executable, "ACTOR": copy, "FOOTAGE": footage})
        line = next((line for line in ran.stdout.splitlines() if line.startswith("RESULT ")), None)
        if line is None:
            sys.exit(ran.stdout)
        for name, value in json.loads(line[7:]).items():
            print(f"{name:18} {value:8.3f}")


if __name__ == "__main__":
    main()
