"""What this Python has and lacks for solving, in words and as numbers.

Standard library only, and every package is tried on its own: this must work exactly where nothing else does.
"""

import contextlib
import ctypes
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import asdict, dataclass, field

# The dependencies of pyproject.toml: the module, the oldest version that will do, and what it is needed for.
NEEDED = {
    "torch": ("torch", "2.5", "solving and training"),
    "numpy": ("numpy", "1.26", "everything"),
    "opencv-python-headless": ("cv2", "4.9", "everything that looks at pictures"),
    "av": ("av", "18", "reading movies"),
    "safetensors": ("safetensors", "0.4", "reading and writing models"),
}
OPTIONAL = {
    "openvino": ("openvino", "2024.4", "solving on the CPU at twice the speed"),
    "openimageio": ("OpenImageIO", "3.0", "reading EXR, DPX and 16-bit sequences"),
    "tqdm": ("tqdm", "4.66", "the progress bar of the command line"),
    "matplotlib": ("matplotlib", "3.8", "the report of `understudy evaluate`"),
    "tensorboard": ("tensorboard", "2.16", "`understudy train --tensorboard`"),
}
SECONDS = 10  # that nvidia-smi may take
BUILDS = "https://pytorch.org/get-started/locally"


@dataclass
class Package:
    """One dependency. version : None if it is missing or broken.    error : why it cannot be used, "" if it can."""

    name: str
    needed: bool
    use: str
    version: str | None = None
    error: str = ""

    @property
    def line(self) -> str:
        if self.version:
            return f"{self.name} {self.version}"
        wrong = f"cannot be used ({self.error})" if self.error else "is missing"
        return f"{self.name} {wrong}; {'it is needed' if self.needed else 'optional,'} for {self.use}"


@dataclass
class Gpu:
    """A GPU that torch sees. memory, free : bytes, None if unknown.    problem : why torch cannot use it, or ""."""

    device: str
    name: str
    memory: int | None = None
    free: int | None = None
    capability: str = ""
    bf16: bool = False
    problem: str = ""

    @property
    def line(self) -> str:
        size = f", {gigabytes(self.memory)}, {gigabytes(self.free)} free" if self.memory is not None else ""
        able = f", compute capability {self.capability}" if self.capability else ""
        return f"{self.device}: {self.name}{size}{able}, {self.problem or ('bfloat16' if self.bf16 else 'no bfloat16')}"


@dataclass
class Findings:
    """The answer of `examine`."""

    python: str
    executable: str
    machine: str
    cores: int
    memory: int | None
    free: int | None
    packages: list[Package]
    build: str = ""  # of torch: CPU, CUDA 12.8, ROCm 6.4, MPS; "" without torch
    gpus: list[Gpu] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what keeps a GPU from being used
    engine: str = ""
    device: str = ""
    ready: bool = False
    verdict: str = ""

    def lines(self) -> list[str]:
        """The whole answer for people, the verdict first."""
        memory = f", {gigabytes(self.memory)} of memory, {gigabytes(self.free)} free" if self.memory else ""
        lines = [self.verdict, f"Python {self.python} at {self.executable}",
                 f"{self.machine}, {self.cores} threads{memory}"]
        lines += [package.line for package in self.packages]
        if self.build:
            lines.append(f"torch is built for {self.build}")
        return lines + [gpu.line for gpu in self.gpus] + self.notes


def examine(device: str = "auto") -> dict:
    """Everything about this interpreter and machine, as plain values for programs.

    device : where somebody wants to solve.    `ready` and `verdict` say whether that works; `lines` is all of it in
    words. Never raises: what is wrong is the answer.
    """
    found = Findings(platform.python_version(), sys.executable, f"{platform.system()} {platform.machine()}",
                     os.cpu_count() or 1, *machine_memory(), [])
    modules = {}
    for table, needed in ((NEEDED, True), (OPTIONAL, False)):
        for name, (module, oldest, use) in table.items():
            package = Package(name, needed, use)
            modules[name] = load(package, module, oldest, really=needed or name == "openvino")
            found.packages.append(package)
    torch = modules["torch"]
    if torch is not None:
        look_at_torch(torch, found)
    elif there := nvidia_smi():
        found.notes.append(f"{listed(there)} would be used by a CUDA build of torch: {BUILDS}")
    lacking = [package for package in found.packages if package.needed and not package.version]
    if lacking:
        found.verdict = cannot_solve(lacking, found)
    else:
        decide(torch, modules["openvino"], device, found)
    return {**asdict(found), "lines": found.lines()}


def load(package: Package, module: str, oldest: str, really: bool):
    """Fill in a package's version or error; returns the module, or None if it cannot be used.

    really : import it; otherwise only look whether it is there.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = importlib.import_module(module) if really else importlib.util.find_spec(module)
    except Exception as error:  # whatever a broken installation raises: a DLL missing, another numpy's ABI ...
        if not (isinstance(error, ModuleNotFoundError) and error.name == module):
            package.error = first_line(error)
        return None
    if loaded is None:
        return None
    try:
        package.version = importlib.metadata.version(package.name)
    except importlib.metadata.PackageNotFoundError:
        package.version = str(getattr(loaded, "__version__", "of unknown version"))
    if numbers(package.version) and numbers(package.version) < numbers(oldest):
        package.error, package.version = f"{package.version} is too old, {oldest} or newer is needed", None
        return None
    return loaded


def look_at_torch(torch, found: Findings) -> None:
    """The build of torch and its GPUs, and what keeps other GPUs from being used."""
    cuda, rocm = getattr(torch.version, "cuda", None), getattr(torch.version, "hip", None)
    mps = torch.backends.mps.is_available()
    found.build = f"ROCm {rocm}" if rocm else f"CUDA {cuda}" if cuda else "MPS" if mps else "CPU"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found.gpus += [look_at_gpu(torch, index, found.build) for index in range(count)]
    if mps:
        found.gpus.append(Gpu("mps", "the GPU of this Mac, which shares the machine's memory"))
    there = listed(nvidia_smi()) if not count else ""
    if there and not cuda:
        found.notes.append(f"torch cannot use {there}: this build is for {found.build}. A CUDA build of torch would: "
                           f"{BUILDS}")
    elif there and "CUDA_VISIBLE_DEVICES" in os.environ:
        found.notes.append(f"torch cannot use {there}: the environment variable CUDA_VISIBLE_DEVICES hides it.")
    elif there:
        why = first_line(told[0].message) if told else "its driver does not answer"
        found.notes.append(f"torch cannot use {there}: {why}. Install an NVIDIA driver for CUDA {cuda} or newer.")


def look_at_gpu(torch, index: int, build: str) -> Gpu:
    """One GPU of a CUDA or ROCm build: what it is, and whether this build has code for it, tried with a convolution."""
    gpu = Gpu(f"cuda:{index}", torch.cuda.get_device_name(index))
    known = torch.cuda.get_arch_list()
    if build.startswith("CUDA"):
        major, minor = torch.cuda.get_device_capability(index)
        gpu.capability, gpu.bf16, has_code = f"{major}.{minor}", major >= 8, runs_on(known, major, minor)
    else:
        gpu.capability = torch.cuda.get_device_properties(index).gcnArchName.split(":")[0]
        gpu.bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        has_code = not known or gpu.capability in known
    if not has_code:
        gpu.problem = (f"but this torch for {build} has no code for it, only for {', '.join(known)}. Install a build "
                       f"for {gpu.capability}: {BUILDS}")
        return gpu
    try:
        gpu.free, gpu.memory = torch.cuda.mem_get_info(index)
        torch.nn.functional.conv2d(torch.ones(1, 1, 8, 8, device=gpu.device), torch.ones(1, 1, 3, 3, device=gpu.device)
                                   ).sum().item()
    except Exception as error:
        gpu.problem = f"but it does not compute: {first_line(error)}"
    return gpu


def runs_on(known: list[str], major: int, minor: int) -> bool:
    """Whether a CUDA build with this list of architectures runs on a compute capability.

    Machine code (sm_86) runs on the same generation, from its own minor version up; PTX (compute_90) on all newer ones.
    """
    for name in known:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", name)
        if match:
            of = int(match[2]), int(match[3])
            if of <= (major, minor) and (match[1] == "compute" or of[0] == major):
                return True
    return not known


def decide(torch, openvino, device: str, found: Findings) -> None:
    """Where a solve would run, by the rules of core/engine.py, which can be imported now."""
    from .choice import machine_key, recall
    from .engine import pick_device, reduced_precision
    from .errors import UnderstudyError

    try:
        picked = pick_device(device)
        name = str(picked) if picked.type != "cuda" or picked.index is not None else "cuda:0"
        gpu = next((gpu for gpu in found.gpus if gpu.device == name), None)
        if gpu is not None and gpu.problem:
            raise UnderstudyError(f"{gpu.name} is there, {gpu.problem}. Or choose the device cpu, which is slower.")
        precision = "bfloat16" if reduced_precision(picked) else "float32"
    except UnderstudyError as error:
        found.verdict = f"Cannot solve: {error}"
        return
    package = openvino if picked.type == "cpu" and openvino is not None else torch
    engine = f"{'OpenVINO' if package is openvino else 'torch'} {package.__version__.split('-')[0]}"
    place = gpu.name if gpu else f"the CPU with {found.cores} threads"
    found.ready, found.engine, found.device = True, engine, name
    with contextlib.suppress(Exception):  # whatever is odd here keeps nobody from solving
        measured = recall(machine_key(picked))
        if measured is not None:
            found.notes += [f"the last solve chose the engine {measured.text}", *measured.notes]
    found.verdict = f"Ready: solves on {place} ({name}) by {engine} in {precision}."


def cannot_solve(lacking: list[Package], found: Findings) -> str:
    """The verdict when packages are missing or broken."""
    missing = [package.name for package in lacking if not package.error]
    broken = [f"{package.name} cannot be used ({package.error})" for package in lacking if package.error]
    parts = []
    if missing:
        parts.append(f"{listed(missing)} {'are' if len(missing) > 1 else 'is'} missing from {found.executable}")
    names = " ".join(package.name for package in lacking)
    again = " --force-reinstall" if broken else ""
    return (f"Cannot solve: {'; '.join(parts + broken)}. Install with \"{found.executable}\" -m pip install{again} "
            f"{names}; or choose another Python.")


def nvidia_smi() -> list[str]:
    """The NVIDIA GPUs that the driver's own tool names, with the driver's version; [] without driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run(
            [program, "--query-gpu=name,driver_version", "--format=csv,noheader"], capture_output=True, text=True,
            errors="replace", timeout=SECONDS, creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0), check=True)
        rows = [line.rsplit(",", 1) for line in told.stdout.splitlines() if "," in line]
        return [f"{name.strip()} (driver {driver.strip()})" for name, driver in rows]
    return []


def machine_memory() -> tuple[int | None, int | None]:
    """All and free memory of the machine, bytes; None where it cannot be told."""
    with contextlib.suppress(OSError, ValueError, AttributeError, KeyError, subprocess.SubprocessError):
        if sys.platform == "win32":
            return _windows_memory()
        if sys.platform == "darwin":
            total = int(subprocess.run(["sysctl", "-n", "hw.memsize"], capture_output=True, check=True).stdout)
            pages = subprocess.run(["vm_stat"], capture_output=True, text=True, check=True).stdout
            counts = dict(re.findall(r"Pages (free|inactive|speculative):\s+(\d+)", pages))
            return total, sum(map(int, counts.values())) * os.sysconf("SC_PAGE_SIZE")
        with open("/proc/meminfo", encoding="ascii") as file:
            kilobytes = dict(re.findall(r"^(\w+):\s+(\d+)", file.read(), re.MULTILINE))
        return int(kilobytes["MemTotal"]) << 10, int(kilobytes["MemAvailable"]) << 10
    return None, None


def _windows_memory() -> tuple[int, int]:
    class Status(ctypes.Structure):  # MEMORYSTATUSEX
        _fields_ = [("length", ctypes.c_uint32), ("load", ctypes.c_uint32),
                    *((name, ctypes.c_uint64) for name in ("total", "free", "page_total", "page_free",
                                                           "virtual_total", "virtual_free", "extended"))]

    status = Status(length=ctypes.sizeof(Status))
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    return status.total, status.free


def first_line(error: object) -> str:
    """What an exception or warning says first, at most 200 letters."""
    text = next(iter(str(error).splitlines()), "") or type(error).__name__
    return text[:200].rstrip(". ")


def listed(names: list[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def numbers(version: str) -> list[int]:
    """2.13.0+cpu -> [2, 13, 0]."""
    return [int(number) for number in re.findall(r"\d+", version.split("+")[0])[:3]]


def gigabytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size / (1 << 30):.1f} GB"
