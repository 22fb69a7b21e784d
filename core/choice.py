"""Which engine solves: the fastest on this machine whose vertices are those of float32.

Measured for a moment when a model is first solved on a machine, and remembered in the user's cache folder for that
machine, model and the versions of all that takes part; never in the actor's folder, which travels.
"""

import contextlib
import json
import os
import platform
import re
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .doctor import first_line
from .errors import UnderstudyError
from .files import make_folder, read_json, user_cache, write_json

RMS_MM, MOST_MM = 0.01, 0.1  # how far vertices may be from those of float32
SHARE = 0.003   # the same as a share of the motion, for faces larger than people's
SECONDS, TURNS = 0.15, 3  # that a candidate is timed at least
REMEMBERED = 64  # choices in the file; beyond, the oldest goes


@dataclass
class Choice:
    """engine, precision : what solves.    rates : frames a second by candidate.    notes : why not others."""

    engine: str
    precision: str
    rates: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        listed = ", ".join(f"{name} {rate:.0f}" for name, rate in self.rates.items())
        return f"{self.engine} {self.precision}" + (f", frames a second measured here: {listed}" if listed else "")


def machine_key(device) -> list[str]:
    """What a measurement holds for, but for the model: processor or GPU, threads, and versions."""
    import torch

    try:
        from openvino import __version__ as openvino
    except Exception:  # missing, or broken in any way
        openvino = "none"
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    isa = os.environ.get("ONEDNN_MAX_CPU_ISA", "") + torch.backends.cpu.get_cpu_capability()
    return [_processor(), gpu, str(torch.get_num_threads()), isa, torch.__version__, openvino]


def choose(key: list[str], candidates: list[tuple[str, str]], build, compare) -> tuple[Choice, object]:
    """The choice for `key`, remembered or measured, and what `build` made of it.

    candidates : (engine, precision), the last of which is float32 and always does.    build(engine, precision) : a
    function without arguments that solves a batch and returns how many frames that was.    compare(built) : (rms, most,
    motion) of the difference from float32, in millimetres.
    """
    known = recall(key)
    if known is not None and (known.engine, known.precision) in candidates:
        with contextlib.suppress(Exception):  # what loaded when it was measured may not load now
            return known, build(known.engine, known.precision)
    choice, best = Choice("", ""), None
    for engine, precision in candidates:
        name, last = f"{engine} {precision}", (engine, precision) == candidates[-1]
        if last and best is not None:
            break  # float32 is what remains, and slow: it is not worth timing
        try:
            built = build(engine, precision)
            rms, most, motion = compare(built)
            allowed = max(1.0, SHARE * motion / RMS_MM)
            if not last and not (rms <= RMS_MM * allowed and most <= MOST_MM * allowed):
                raise UnderstudyError(f"its vertices differ by {rms:.4f} mm rms and {most:.3f} mm at most from float32")
            rates = _rates([built] if best is None else [best, built])
        except Exception as error:  # a library that is missing or broken may raise anything
            if last or _out_of_memory(error):
                raise
            missing = isinstance(error, ModuleNotFoundError) and error.name == engine
            why = "it is not installed" if missing else first_line(error)
            choice.notes.append(f"The engine {name} is not used: {why}.")
            continue
        if best is not None:
            choice.rates[f"{choice.engine} {choice.precision}"] = round(rates[0], 1)
        choice.rates[name] = round(rates[-1], 1)
        if best is None or rates[-1] > rates[0]:
            choice.engine, choice.precision, best = engine, precision, built
    remember(key, choice)
    return choice, best


def _rates(runs: list) -> list[float]:
    """Frames a second of each, the best of a few, in turns: what else the machine does meanwhile slows all of them."""
    best, until, turns = [0.0] * len(runs), time.perf_counter() + SECONDS * len(runs), 0
    while time.perf_counter() < until or turns < TURNS:
        turns += 1
        for index, run in enumerate(runs):
            began = time.perf_counter()
            frames = run()
            best[index] = max(best[index], frames / (time.perf_counter() - began))
    return best


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and "out of memory" in str(error)


def recall(key: list[str]) -> Choice | None:
    """What was measured for `key`, or, of a key without its model, the last that was."""
    for known, value in reversed(_remembered().items()):
        with contextlib.suppress(TypeError, ValueError):
            if json.loads(known)[:len(key)] == key:
                return Choice(**value)
    return None


def remember(key: list[str], choice: Choice) -> None:
    """Keep a choice; a folder that cannot be written costs a second at every start, and no more."""
    kept = _remembered()
    kept.pop(json.dumps(key), None)
    kept[json.dumps(key)] = asdict(choice)
    with contextlib.suppress(UnderstudyError):
        write_json(_file(), dict(list(kept.items())[-REMEMBERED:]))


def _remembered() -> dict:
    try:
        return read_json(_file()) if _file().exists() else {}
    except UnderstudyError:
        return {}


def _file() -> Path:
    return make_folder(user_cache()) / "engines.json"


def _processor() -> str:
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
        if found:
            return found[1]
    return platform.processor() or platform.machine()
