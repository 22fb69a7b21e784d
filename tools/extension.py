"""Build the Blender extension, with the sample inside, and the index of a repository that serves it.

    python tools/extension.py small --actor demo/actor         dist/understudy-VERSION.zip, for every platform
    python tools/extension.py full --actor demo/actor          dist/full/..., with the wheels of this platform
    python tools/extension.py repository --out dist            dist/index.json and index.html

Needs Python 3.11 or newer, pip for `full`, and Blender's own packaging tool: that of .venv-bpy/5.0, or of --blender.
"""

import argparse
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What a worker imports, and what that requires. Without pip's resolver, because torch of the usual index requires
# gigabytes of CUDA on Linux. Never numpy: it would shadow Blender's own, for every other add-on too.
WHEELS = ("av", "opencv-python-headless", "safetensors", "tqdm", "OpenImageIO",
          "filelock", "fsspec", "Jinja2", "MarkupSafe", "mpmath", "networkx", "sympy", "typing_extensions")
SAMPLE = {"model.safetensors": "model.safetensors", "footage/val_talk.mp4": "val_talk.mp4"}
SAMPLE_README = """\
The sample actor of Understudy: a trained model, and a shot that it was not trained on. Open model.safetensors in the
sidebar tab "Understudy" of a 3D viewport, add val_talk.mp4 and solve it. The face, the footage and the model are made
from code alone; use them for whatever you like.
"""


def main() -> int:
    options = parser().parse_args()
    try:
        tool = blender_tool(options.blender)
        if options.what == "repository":
            run(*tool, "server-generate", "--repo-dir", options.out, "--html")
        else:
            build(tool, options)
    except (subprocess.CalledProcessError, RuntimeError) as error:
        print(f"extension: {error}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root.add_argument("what", choices=("small", "full", "repository"))
    root.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the zip (default: %(default)s)")
    root.add_argument("--actor", type=Path, help="the trained sample actor, which goes into the zip")
    root.add_argument("--python", default="3.11", help="full: the Python of the target Blender (default: %(default)s)")
    root.add_argument("--torch", default="torch", help="full: the pin of torch, as torch==2.13.0")
    root.add_argument("--torch-index", default="https://download.pytorch.org/whl/cpu", help="full: where torch is")
    root.add_argument("--also", nargs="*", default=[], help="full: further packages to bundle, as openvino")
    root.add_argument("--blender", help="a Blender to package with (default: the tool inside .venv-bpy/5.0)")
    return root


def blender_tool(blender: str | None) -> list[str]:
    """The command that packages: `blender --command extension`, or the script behind it."""
    if blender:
        return [blender, "--command", "extension"]
    scripts = sorted(ROOT.glob(".venv-bpy/5.0/**/bl_pkg/cli/blender_ext.py"))
    if not scripts:
        raise RuntimeError("there is no packaging tool. Run `make test-bpy`, or name a Blender with --blender.")
    return [sys.executable, "-I", str(scripts[0])]


def build(tool: list[str], options: argparse.Namespace) -> None:
    """Pack what the manifest lets through, add the sample and, for `full`, the wheels, and pack it again."""
    manifest = tomllib.loads((ROOT / "blender_manifest.toml").read_text(encoding="utf-8"))
    name = f"{manifest['id']}-{manifest['version']}"
    if options.what == "full":
        name += f"-{blender_platform()}-python{options.python}"
    with tempfile.TemporaryDirectory() as scratch:
        bare, stage = Path(scratch, "bare.zip"), Path(scratch, "stage")
        run(*tool, "build", "--source-dir", ROOT, "--output-filepath", bare)
        with zipfile.ZipFile(bare) as archive:
            archive.extractall(stage)
        add_sample(options.actor, stage / "sample")
        if options.what == "full":
            add_wheels(stage, options)
        options.out.mkdir(parents=True, exist_ok=True)
        target = options.out.resolve() / f"{name}.zip"
        run(*tool, "build", "--source-dir", stage, "--output-filepath", target)
    run(*tool, "validate", target)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")


def add_sample(actor: Path | None, folder: Path) -> None:
    missing = [name for name in SAMPLE if not actor or not (actor / name).is_file()]
    if missing:
        raise RuntimeError(f"--actor {actor} has no {' and no '.join(missing)}. Run `make demo` and give demo/actor.")
    folder.mkdir()
    for source, target in SAMPLE.items():
        shutil.copyfile(actor / source, folder / target)
    (folder / "README.txt").write_text(SAMPLE_README, encoding="utf-8")


def add_wheels(stage: Path, options: argparse.Namespace) -> None:
    """Wheels of this platform for the target Python, pinned, beside a manifest that lists them."""
    folder = stage / "wheels"
    download = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
                "--python-version", options.python, "--dest", folder)
    run(*download, "--retries", "1", "--extra-index-url", options.torch_index, options.torch)
    run(*download, "--constraint", ROOT / "requirements-dev.txt", *WHEELS, *options.also)
    wheels = sorted(path.name for path in folder.glob("*.whl"))
    torch = next(name for name in wheels if name.startswith("torch-"))
    if sys.platform == "linux" and "+cpu" not in torch:
        raise RuntimeError(f"pip found {torch}, which needs CUDA packages that no zip can hold. The CPU build is at "
                           f"https://download.pytorch.org/whl/cpu; make it reachable, or name another --torch-index.")
    manifest = stage / "blender_manifest.toml"
    before, table, after = manifest.read_text(encoding="utf-8").partition("\n[")
    listed = "".join(f'    "./wheels/{name}",\n' for name in wheels)
    manifest.write_text(f'{before}\nplatforms = ["{blender_platform()}"]\nwheels = [\n{listed}]\n{table}{after}',
                        encoding="utf-8")


def blender_platform() -> str:
    """This machine, in the words of a manifest."""
    system = {"linux": "linux", "darwin": "macos", "win32": "windows"}[sys.platform]
    return f"{system}-{'arm64' if platform.machine().lower() in ('arm64', 'aarch64') else 'x64'}"


def run(*command: object) -> None:
    subprocess.run(list(map(str, command)), check=True)


if __name__ == "__main__":
    sys.exit(main())
