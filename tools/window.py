"""The real Blender, headless and with a window, for tests, screenshots and benchmarks.

    python tools/window.py --package dist/understudy-0.1.0.zip --out docs docs/scenarios/sample.py

plays scenarios (see drive.py), each in a new Blender with the extension installed, and keeps their pictures in docs/.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT.parent / "shared" / "blender"  # installs and runs the newest Blender, apart from this machine's libraries
SIZE = 1280, 800  # of the window, in pixels


class NoBlender(Exception):
    """There is no real Blender here, and none can be installed."""


class RealBlender:
    """The newest Blender, an application with a window."""

    def run(self, *arguments: object, home: Path, window: bool = False, env: dict[str, object] | None = None,
            timeout: float = 300) -> subprocess.CompletedProcess:
        """Run it with preferences and extensions in `home`; its output is in the answer's stdout.

        It sees /tmp, the repository and this Python, which can run workers, at their own paths; writes to /tmp alone.
        """
        command = [TOOLS / "run-blender.sh", "-w", home, "--home", home, "--ro", ROOT, "--timeout", int(timeout)]
        for folder in sorted({sys.prefix, sys.base_prefix}):
            command += ["--ro", folder]
        for name, value in (env or {}).items():
            command += ["--env", f"{name}={value}"]
        command += ["-g", "--screen", "{}x{}".format(*SIZE)] if window else []
        home.mkdir(parents=True, exist_ok=True)
        return subprocess.run(list(map(str, [*command, "--", "--python-exit-code", 1, *arguments])), text=True,
                              errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)


class Window:
    """A window of the real Blender, with preferences and extensions of its own in a new folder below /tmp."""

    def __init__(self, blender: RealBlender, folder: Path):
        self.blender, self.home, self.shots = blender, folder / "home", folder / "shots"

    def install(self, package: Path) -> None:
        """Install an extension and enable it. Raises RuntimeError with what Blender said."""
        ran = self.blender.run("--command", "extension", "install-file", "--repo", "user_default", "--enable", package,
                               home=self.home)
        if ran.returncode:
            raise RuntimeError(ran.stdout)

    def play(self, scenario: Path, *arguments: object, env: dict[str, object] | None = None,
             timeout: float = 300) -> dict[str, np.ndarray]:
        """Run a scenario; returns its pictures by name, (H, W, 3) uint8 BGR, none of them empty.

        arguments : Blender's own, as a .blend to open.    env : for the scenario to read.
        Raises RuntimeError, with what Blender said, if the scenario failed. The pictures' files are in `shots`.
        """
        self.shots.mkdir(parents=True, exist_ok=True)
        drive = f"import sys; sys.path.insert(0, {str(Path(__file__).resolve().parent)!r})"
        # A worker in the window is this Python: Blender's own has no torch.
        known = {"UNDERSTUDY_PYTHON": sys.executable, "UNDERSTUDY_SHOTS": self.shots, **(env or {})}
        ran = self.blender.run("--offline-mode", "--window-geometry", 0, 0, *SIZE, *arguments, "--python-expr", drive,
                               "-P", scenario, home=self.home, window=True, env=known, timeout=timeout)
        print(ran.stdout)
        if ran.returncode or "STORY DONE" not in ran.stdout:
            raise RuntimeError(f"{scenario} ended with status {ran.returncode}:\n{ran.stdout}")
        return {path.stem: picture(path) for path in sorted(self.shots.glob("*.png"))}


def find_blender() -> RealBlender:
    """The real Blender, installed if it is not yet. Raises NoBlender."""
    if not (TOOLS / "install-blender.sh").is_file() or sys.platform != "linux" or os.getuid() != 0:
        raise NoBlender(f"A real Blender needs Linux, root and {TOOLS}.")
    made = subprocess.run([TOOLS / "install-blender.sh"], text=True, errors="replace", stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if made.returncode:
        raise NoBlender(f"The real Blender could not be installed: {made.stdout[-500:]}")
    return RealBlender()


def picture(path: Path) -> np.ndarray:
    """A screenshot, after a look at whether it shows anything."""
    pixels = cv2.imread(str(path))
    if pixels is None or pixels.mean() < 10 or len(np.unique(pixels.reshape(-1, 3), axis=0)) < 100:
        raise RuntimeError(f"{path} is black or empty.")
    return pixels


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", type=Path, nargs="+")
    parser.add_argument("--package", type=Path, required=True, help="the extension's zip")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--folder", type=Path, help="each scenario gets a copy of it, named by FOLDER")
    parser.add_argument("--timeout", type=float, default=300, metavar="S", help="seconds for a scenario (default: 300)")
    options = parser.parse_args()
    try:
        blender = find_blender()
        for scenario in options.scenario:
            with tempfile.TemporaryDirectory() as folder:
                window = Window(blender, Path(folder))
                window.install(options.package.resolve())
                env = {}
                if options.folder is not None:
                    env["FOLDER"] = shutil.copytree(options.folder, Path(folder) / options.folder.name)
                window.play(scenario.resolve(), env=env, timeout=options.timeout)
                shutil.copytree(window.shots, options.out, dirs_exist_ok=True)
    except (NoBlender, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
