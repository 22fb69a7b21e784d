"""The doctor: what an interpreter has and lacks, told by one that has nothing and by machines made up here."""

import importlib
import json
import re
import subprocess
import sys
import tomllib
import types
import warnings
from pathlib import Path

import pytest

import understudy
from understudy.__main__ import main
from understudy.core import doctor
from understudy.core.doctor import examine, runs_on
from understudy.core.events import job_state

ROOT = Path(understudy.__file__).parent
H100 = {"name": "NVIDIA H100", "capability": (9, 0)}


def without_packages(*arguments: str, before: str = "pass") -> subprocess.CompletedProcess:
    """The command line in a Python without site-packages."""
    code = (f"import runpy, sys; {before}; sys.argv = {['understudy', *arguments]!r}; "
            f"runpy.run_path({str(ROOT / '__main__.py')!r}, run_name='__main__')")
    return subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, encoding="utf-8",
                          timeout=60)


@pytest.fixture
def break_import(monkeypatch):
    """break_import(torch=OSError("...")): importing the module raises."""
    def break_import(**errors):
        real = importlib.import_module

        def fake(name, package=None):
            if name in errors:
                raise errors[name]
            return real(name, package)

        monkeypatch.setattr(doctor.importlib, "import_module", fake)

    return break_import


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """machine(gpus, ...) makes torch tell of another machine, new to us; `smi` is what the driver's own tool would."""
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))

    def machine(gpus=(), cuda="12.8", archs=("sm_80", "sm_90", "compute_90"), smi=(), told="", hip=None, fails=None):
        import torch

        def is_available():
            if told:
                warnings.warn(told, UserWarning, stacklevel=1)
            return bool(gpus)

        def conv2d(*_):
            if fails:
                raise RuntimeError(fails)
            return types.SimpleNamespace(sum=lambda: types.SimpleNamespace(item=lambda: 9.0))

        fake = types.SimpleNamespace(
            __version__="2.9.1+cu128", version=types.SimpleNamespace(cuda=cuda, hip=hip),
            backends=types.SimpleNamespace(mps=types.SimpleNamespace(is_available=lambda: False)),
            cuda=types.SimpleNamespace(
                is_available=is_available, device_count=lambda: len(gpus), get_arch_list=lambda: list(archs),
                get_device_name=lambda i: gpus[i]["name"], get_device_capability=lambda i: gpus[i]["capability"],
                get_device_properties=lambda i: types.SimpleNamespace(gcnArchName=gpus[i]["capability"]),
                is_bf16_supported=lambda including_emulation: True, mem_get_info=lambda i: (60 << 30, 80 << 30)),
            ones=lambda *_, device: None, nn=types.SimpleNamespace(functional=types.SimpleNamespace(conv2d=conv2d)))
        real = importlib.import_module
        monkeypatch.setattr(doctor.importlib, "import_module", lambda name: fake if name == "torch" else real(name))
        monkeypatch.setattr(doctor, "nvidia_smi", lambda: list(smi))
        picked = types.SimpleNamespace(type="cuda" if gpus else "cpu", index=None)
        monkeypatch.setattr("understudy.core.engine.pick_device", lambda name: picked if gpus else torch.device("cpu"))
        monkeypatch.setattr("understudy.core.engine.reduced_precision", lambda device: True)

    return machine


def test_this_interpreter_is_ready():
    found = examine("cpu")
    assert found["ready"] and found["device"] == "cpu" and found["verdict"].startswith("Ready: solves on the CPU")
    assert found["lines"][0] == found["verdict"] and any(line.startswith("torch 2.") for line in found["lines"])
    assert found["memory"] > found["free"] > 0
    assert {package["name"] for package in found["packages"] if package["version"]} >= {"torch", "numpy", "av"}
    json.dumps(found)


def test_a_device_that_is_not_there():
    found = examine("cuda:93")
    assert not found["ready"] and "Cannot solve: The device 'cuda:93' cannot be used" in found["verdict"]


def test_every_dependency_is_looked_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    texts = project["dependencies"] + sum(project["optional-dependencies"].values(), [])
    wanted = dict(re.match(r"([\w-]+)>=([\d.]+)", text).groups() for text in texts if ">=" in text)
    assert {name: oldest for name, (_, oldest, _) in (doctor.NEEDED | doctor.OPTIONAL).items()} == wanted


def test_an_interpreter_with_nothing_says_what_is_missing(tmp_path):
    done = without_packages("doctor", "--job", str(tmp_path / "job é"))
    assert (done.returncode, done.stderr) == (1, "")
    assert "torch, numpy, opencv-python-headless, av and safetensors are missing from" in done.stdout
    assert "-m pip install torch numpy" in done.stdout
    assert "openvino is missing; optional, for solving on the CPU at twice the speed" in done.stdout
    state = job_state(tmp_path / "job é")
    assert state.state == "done" and state.results["ready"] is False
    assert state.results["verdict"].startswith("Cannot solve: torch, numpy,")


def test_an_old_python_gets_a_sentence():
    done = without_packages("doctor", before="sys.version_info = (3, 9, 2)")
    assert done.returncode == 1 and done.stdout == ""
    assert re.fullmatch(r"Understudy needs Python 3\.11 or newer; .* is 3\.\d+\.\d+.*\.\n", done.stderr)


@pytest.mark.parametrize(("error", "says"), [
    (OSError("[WinError 126] The specified module could not be found. Error loading c10.dll\nmore"), "c10.dll"),
    (ImportError("libcudnn.so.9: cannot open shared object file"), "libcudnn.so.9"),
    (ModuleNotFoundError("No module named 'typing_extensions'", name="typing_extensions"), "typing_extensions"),
    (RuntimeError(""), "RuntimeError"),
])
def test_a_broken_torch_is_told_from_a_missing_one(break_import, error, says):
    break_import(torch=error)
    found = examine()
    assert not found["ready"] and "torch cannot be used (" in found["verdict"] and says in found["verdict"]
    assert "--force-reinstall torch" in found["verdict"] and "more" not in found["verdict"]


def test_a_missing_torch_beside_a_gpu(break_import, monkeypatch):
    break_import(torch=ModuleNotFoundError("No module named 'torch'", name="torch"))
    monkeypatch.setattr(doctor, "nvidia_smi", lambda: ["NVIDIA H100 (driver 570.1)"])
    found = examine()
    assert found["verdict"].startswith(f"Cannot solve: torch is missing from {sys.executable}. Install with")
    assert "NVIDIA H100 (driver 570.1) would be used by a CUDA build of torch" in found["lines"][-1]


def test_an_old_package_is_not_used(monkeypatch):
    real = doctor.importlib.metadata.version
    monkeypatch.setattr(doctor.importlib.metadata, "version", lambda name: "9.2.0" if name == "av" else real(name))
    found = examine()
    assert "av cannot be used (9.2.0 is too old, 18 or newer is needed)" in found["verdict"]


def test_without_optional_packages_it_is_ready(break_import, monkeypatch):
    break_import(openvino=ModuleNotFoundError("No module named 'openvino'", name="openvino"))
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    found = examine("cpu")
    assert found["ready"] and found["engine"].startswith("torch 2.")
    assert "tqdm is missing; optional, for the progress bar of the command line" in found["lines"]


def test_a_gpu_that_works(machine):
    machine([H100])
    found = examine()
    assert found["verdict"] == "Ready: solves on NVIDIA H100 (cuda:0) by torch 2.9.1+cu128 in bfloat16."
    assert found["build"] == "CUDA 12.8"
    assert "cuda:0: NVIDIA H100, 80.0 GB, 60.0 GB free, compute capability 9.0, bfloat16" in found["lines"]


def test_a_gpu_that_this_build_has_no_code_for(machine):
    machine([{"name": "NVIDIA RTX 6090", "capability": (12, 0)}], archs=("sm_80", "sm_90"))
    found = examine()
    assert not found["ready"]
    assert "NVIDIA RTX 6090 is there, but this torch for CUDA 12.8 has no code for it" in found["verdict"]
    assert "only for sm_80, sm_90. Install a build for 12.0" in found["verdict"]


def test_a_gpu_that_does_not_compute(machine):
    machine([H100], fails="CUDA error: no kernel image is available for execution on the device\nmore")
    found = examine()
    assert not found["ready"] and "does not compute: CUDA error: no kernel image" in found["verdict"]


def test_an_amd_gpu(machine):
    machine([{"name": "AMD MI300X", "capability": "gfx942:sramecc+:xnack-"}], cuda=None, hip="6.4", archs=("gfx942",))
    found = examine()
    assert found["ready"] and found["build"] == "ROCm 6.4" and found["gpus"][0]["capability"] == "gfx942"


@pytest.mark.parametrize(("settings", "says"), [
    ({"told": "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040)."},
     "driver on your system is too old (found version 11040). Install an NVIDIA driver for CUDA 12.8"),
    ({}, "its driver does not answer"),
    ({"cuda": None}, "this build is for CPU. A CUDA build of torch would"),
])
def test_a_gpu_that_torch_does_not_see(machine, settings, says, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    machine(smi=["NVIDIA GTX 1080 (driver 470.2)"], **settings)
    found = examine()
    assert found["ready"] and "the CPU" in found["verdict"]
    assert says in found["lines"][-1] and "torch cannot use NVIDIA GTX 1080 (driver 470.2)" in found["lines"][-1]


def test_a_gpu_that_is_hidden(machine, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    machine(smi=["NVIDIA H100 (driver 570.1)"])
    assert "CUDA_VISIBLE_DEVICES hides it" in examine()["lines"][-1]


@pytest.mark.parametrize(("known", "capability", "runs"), [
    (["sm_80", "sm_90"], (8, 6), True), (["sm_86"], (8, 0), False), (["sm_80"], (9, 0), False),
    (["sm_80", "compute_80"], (12, 0), True), (["sm_100", "sm_120"], (12, 0), True), (["compute_90"], (8, 9), False),
    (["sm_90a"], (9, 0), True), ([], (7, 0), True),
])
def test_which_code_runs_where(known, capability, runs):
    assert runs_on(known, *capability) is runs


def test_people_and_programs_ask_it(capfd, monkeypatch):
    assert main(["doctor", "--device", "cpu"]) == 0
    assert capfd.readouterr().out.startswith("Ready: solves on the CPU")
    assert main(["doctor", "--device", "cuda:93", "--json"]) == 1
    event = json.loads(capfd.readouterr().out)
    assert event["type"] == "done" and event["ready"] is False and event["lines"][0] == event["verdict"]
