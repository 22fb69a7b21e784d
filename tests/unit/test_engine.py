"""The engine of a solve: measured, remembered, held to float32, and replaced with a word when it fails."""

import os
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import understudy
from understudy.core import batches, choice, engine
from understudy.core import solver as solving
from understudy.core.doctor import examine
from understudy.core.errors import UnderstudyError
from understudy.core.familiarity import Familiarity
from understudy.core.network import make_network
from understudy.core.openvino_graph import OpenvinoSlot
from understudy.core.solver import Solver

ROOT = Path(understudy.__file__).parent
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "engines.json"


@pytest.fixture
def model(small_model):
    """A model whose network sees something, and moves by millimetres."""
    model = small_model()
    for name, layer in model.network.named_children():
        if name.startswith("conv"):
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return model


@pytest.fixture
def inputs():
    return np.random.default_rng(0).integers(0, 256, (5, 320, 240), np.uint8)


def float32(model, inputs):
    model.network.eval()
    return solving._float32(model, inputs)


def test_the_choice_is_measured_once_and_remembered(model, cache, monkeypatch):
    first = Solver(model, "cpu", 2, identity="a")
    assert first.rates and cache.exists()
    monkeypatch.setattr(choice, "_rates", lambda runs: pytest.fail("measured again"))
    assert Solver(model, "cpu", 2, identity="a").engine == first.engine
    with pytest.raises(pytest.fail.Exception, match="measured again"):
        Solver(model, "cpu", 2, identity="another model")


def test_what_is_remembered_of_one_architecture_says_nothing_of_another(model, monkeypatch):
    plain = make_network("fully-connected-unstabilised", 15, 6, image_components=3)
    slow = Solver(replace(model, network=plain), "cpu", 2)
    assert slow.engine.endswith("fp32")
    monkeypatch.setattr(solving, "candidates", lambda *_: [("torch", "bf16"), ("torch", "fp32")])
    assert Solver(model, "cpu", 2).engine.endswith("bf16")


def test_the_fastest_is_chosen(model, monkeypatch):
    rates = iter([[3.0], [2.5, 2.9]])  # in turns, on a machine that has become busy meanwhile
    monkeypatch.setattr(solving, "candidates", lambda *_: [("torch", "bf16"), ("openvino", "fp32"), ("torch", "fp32")])
    monkeypatch.setattr(solving, "OpenvinoSlot", lambda model, precision, batch: batches.Slot(
        engine.make_engine("torch", "fp32", model.network, model.whitening, CPU, batch), batches.Head(model, CPU),
        batch, CPU))
    monkeypatch.setattr(solving, "version", lambda *how: " ".join(how))
    monkeypatch.setattr(choice, "_rates", lambda runs: next(rates))
    assert Solver(model, "cpu", 2).engine == "openvino fp32"


def test_a_damaged_memory_is_measured_anew(model, cache):
    cache.parent.mkdir()
    for damage in ("{", '{"x": 1}', '["torch"]'):
        cache.write_text(damage)
        assert Solver(model, "cpu", 1).rates


def test_a_cache_folder_that_cannot_be_written_keeps_nobody_from_solving(model, inputs, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "file" / "below"))
    assert len(Solver(model, "cpu", 2).solve(inputs)) == 5


class Broken(types.ModuleType):
    """An OpenVINO that is installed but does not work."""

    __version__ = "2026.1"

    def __getattr__(self, name):
        raise RuntimeError("libopenvino_intel_cpu_plugin.so: undefined symbol\nmore")


@pytest.mark.parametrize("asked", ["auto", "openvino"])
def test_a_broken_openvino_is_replaced_with_a_word(model, inputs, monkeypatch, asked):
    monkeypatch.setitem(sys.modules, "openvino", Broken("openvino"))
    solver = Solver(model, "cpu", 2, asked, "broken")
    assert solver.engine.startswith("torch") and len(solver.solve(inputs)) == 5
    assert any(note.startswith("The engine openvino") and "undefined symbol." in note for note in solver.notes)
    assert Solver(model, "cpu", 2, asked, "broken").notes == solver.notes  # and again, from memory


def test_a_missing_openvino_is_told_to_who_asks_for_it(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    asked, auto = Solver(model, "cpu", 2, "openvino"), Solver(model, "cpu", 2)
    assert asked.engine.startswith("torch") and "is not installed" in asked.notes[0]
    assert auto.engine.startswith("torch") and not auto.notes


def test_an_engine_out_of_tolerance_is_replaced_with_a_word(model, inputs, monkeypatch):
    make = engine.make_engine

    def wrong(name, precision, *rest):
        run = make("torch", "fp32", *rest)
        return run if (name, precision) == ("torch", "fp32") else lambda x: 1.05 * run(x)

    monkeypatch.setattr(solving, "candidates", lambda *_: [("torch", "bf16"), ("torch", "fp32")])
    monkeypatch.setattr(solving, "make_engine", wrong)
    solver = Solver(model, "cpu", 2)
    assert solver.engine.endswith("fp32") and "mm rms" in solver.notes[0]
    assert np.allclose(solver.solve(inputs)[:, model.animated], float32(model, inputs), atol=1e-5)


def test_not_a_number_is_out_of_tolerance(model, monkeypatch):
    make = engine.make_engine
    monkeypatch.setattr(solving, "candidates", lambda *_: [("torch", "bf16"), ("torch", "fp32")])
    monkeypatch.setattr(solving, "make_engine", lambda name, precision, *rest: (
        lambda x: make("torch", "fp32", *rest)(x) * (1 if precision == "fp32" else float("nan"))))
    assert Solver(model, "cpu", 2).engine.endswith("fp32")


@pytest.mark.parametrize("kind", ["bf16", "fp16"])
@pytest.mark.parametrize("batch", [1, 3])
def test_padded_layers_compute_what_the_network_does(model, inputs, kind, batch, monkeypatch):
    """The path of GPUs, with the layers that any device has."""
    monkeypatch.setattr(engine, "_onednn_layer", engine._torch_layer)
    run = engine.make_engine("torch", kind, model.network, model.whitening, CPU, batch)
    with torch.inference_mode():
        got = run(torch.from_numpy(inputs[:batch]))
        mean, deviation = model.whitening
        want = model.network.features((torch.from_numpy(inputs[:batch])[:, None].float() - mean) / deviation)
    assert got.shape == (batch, 9720) and got.dtype == torch.float32
    assert (got - want).norm() < 0.02 * want.norm()


def test_fused_layers_of_cudnn_give_way_where_there_are_none(monkeypatch):
    weight, bias = torch.ones(16, 1, 3, 3), torch.zeros(16)
    layer = engine._cudnn_layer(weight, bias, 2, (1, 1, 8, 8))  # no cuDNN here
    assert layer(torch.ones(1, 1, 8, 8)).shape == (1, 16, 4, 4)
    monkeypatch.setattr(torch, "cudnn_convolution_relu", lambda *_: torch.full((1,), 7.0))
    assert engine._cudnn_layer(weight, bias, 2, (1, 1, 8, 8))(torch.ones(1)).item() == 7

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "cudnn_convolution_relu", full)
    with pytest.raises(torch.OutOfMemoryError):
        engine._cudnn_layer(weight, bias, 2, (1, 1, 8, 8))


@pytest.mark.parametrize("architecture", ["convolutional", "convolutional-whitened-each"])
@pytest.mark.parametrize(("precision", "most"), [("fp32", 1e-4), ("bf16", 0.02)])
def test_openvino_computes_what_the_network_does(model, inputs, architecture, precision, most):
    """Vertices, spread with novelty, and codes; also of a batch that is not full."""
    pytest.importorskip("openvino")
    random = np.random.default_rng(1)
    components = np.linalg.qr(random.standard_normal((9720, 4)))[0].T.astype(np.float32)
    model.familiarity = Familiarity(random.random(9720, np.float32), np.ascontiguousarray(components),
                                    np.eye(6, dtype=np.float32), np.zeros((1, 6), np.float32))
    network = make_network(architecture, 15, 6)
    network.load_state_dict(model.network.state_dict())
    model.network = network.eval()
    slot = OpenvinoSlot(model, precision, 4)
    slot.submit(inputs[:4])
    slot.submit(inputs[4:])
    got = slot.collect(1)
    with torch.inference_mode():
        run = engine.make_engine("torch", "fp32", network, model.whitening, CPU, 1)
        want = batches.Head(model, CPU)(run(torch.from_numpy(inputs[4:])))
    for part, wanted in zip(got, want, strict=True):
        wanted = wanted.numpy()
        assert part.shape == wanted.shape and part.dtype == np.float32
        assert np.linalg.norm(part - wanted) < most * np.linalg.norm(wanted)
    still = np.setdiff1d(np.arange(8), model.animated)
    assert np.array_equal(got[0][0, still], model.template.vertices[still])


def test_ctrl_c_after_openvino_has_solved(model, tmp_path):
    pytest.importorskip("openvino")
    model.save(tmp_path / "model.safetensors")
    code = ("import signal, sys, numpy as np\n"
            "from understudy.core.model import load_model\n"
            "from understudy.core.openvino_graph import OpenvinoSlot\n"
            "heard = []\n"
            "signal.signal(signal.SIGINT, lambda *_: heard.append(1))\n"
            "for precision in ('fp32', 'bf16', 'fp32', 'bf16'):\n"
            "    slot = OpenvinoSlot(load_model(sys.argv[1]), precision, 1)\n"
            "    slot.submit([np.zeros((320, 240), np.uint8)])\n"
            "    slot.collect(1)\n"
            "    del slot\n"
            "    for _ in range(50):\n"
            "        signal.raise_signal(signal.SIGINT)\n"
            "print(len(heard))\n")
    ran = subprocess.run([sys.executable, "-X", "faulthandler", "-c", code, tmp_path / "model.safetensors"],
                         capture_output=True, text=True, cwd=ROOT.parent)
    assert (ran.returncode, ran.stdout.strip()) == (0, "200"), ran.stderr


class Stream:
    """Work on it is done at once."""

    def __init__(self, *_):
        pass

    def synchronize(self):
        pass

    def wait_stream(self, other):
        pass


@pytest.fixture
def graphs(monkeypatch):
    """CUDA graphs on the CPU: what is captured is run again."""
    def capture(run, stream):
        outputs = run()

        def replay():
            for kept, new in zip(outputs, run(), strict=True):
                kept.copy_(new)

        return replay, outputs

    monkeypatch.setattr(batches, "capture", capture)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: torch.inference_mode())


def test_graphs_solve_the_same_with_two_batches_under_way(model, inputs, graphs, monkeypatch):
    want = [part.copy() for part in map(np.concatenate, zip(*Solver(model, "cpu", 2, "torch").stream(inputs),
                                                          strict=True))]
    monkeypatch.setattr(solving, "make_slots", lambda run, head, batch, device: [
        batches.GraphSlot(run, head, batch, device) for _ in range(2)])
    solver = Solver(model, "cpu", 2, "torch")
    got = list(solver.stream(inputs))
    assert [len(vertices) for vertices, _, _ in got] == [2, 2, 1]
    for part, wanted in zip(zip(*got, strict=True), want, strict=True):
        assert np.array_equal(np.concatenate(part), wanted)

    def torn():
        yield from inputs[:3]
        raise UnderstudyError("torn")

    seen = []
    with pytest.raises(UnderstudyError, match="torn"):
        seen.extend(len(vertices) for vertices, _, _ in solver.stream(torn()))
    assert np.abs(solver.preview(inputs[4]) - want[0][4:]).max() < 1e-3 * np.abs(want[0]).max()


def test_a_full_gpu_is_given_smaller_batches_until_it_fits(model, inputs, monkeypatch):
    make = solving.make_slots

    def full(run, head, batch, device):
        if batch > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return make(run, head, batch, device)

    monkeypatch.setattr(solving, "make_slots", full)
    solver = Solver(model, "cpu", 8, "torch")
    assert solver.batch == 2 and len(solver.solve(inputs)) == 5
    monkeypatch.setattr(solving, "make_slots", lambda *_: full(None, None, 9, None))
    with pytest.raises(UnderstudyError, match="does not suffice, not even for the model"):
        Solver(model, "cpu", 8, "torch")


@pytest.mark.parametrize("fault", ["CUDA error: no kernel image is available for execution on the device\nmore",
                                   "CUDA error: out of memory",
                                   "The NVIDIA driver on your system is too old (found version 10010)."])
def test_a_gpu_that_does_not_compute_gives_way_to_the_cpu_with_a_word(model, inputs, monkeypatch, fault):
    """Too old for this torch, full, a wrong driver."""
    tried = engine._try

    def broken(device):
        if device.type == "cuda":
            raise RuntimeError(fault)
        tried(device)

    monkeypatch.setattr(engine, "_try", broken)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    solver = Solver(model, "auto", 2)
    assert solver.device == CPU and len(solver.solve(inputs)) == 5
    why = fault.splitlines()[0].rstrip(".")
    assert solver.notes[0] == f"The GPU is not used, the CPU is: {why}. `understudy doctor` tells more."
    with pytest.raises(UnderstudyError, match="'cuda' cannot be used: .*Choose another, such as cpu"):
        Solver(model, "cuda", 2)


def test_a_gpu_without_room_for_the_model_gives_way_to_the_cpu_with_a_word(model, inputs, monkeypatch):
    to, gpu = torch.nn.Module.to, torch.device("meta")

    def full(module, device):
        if device == gpu:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return to(module, device)

    monkeypatch.setattr(torch.nn.Module, "to", full)
    monkeypatch.setattr(solving, "pick_device", lambda name, warn: gpu)
    solver = Solver(model, "auto", engine="torch")
    assert (solver.device, solver.batch, solver.wanted) == (CPU, 16, 16) and len(solver.solve(inputs)) == 5
    assert solver.notes[0].startswith("The GPU is not used, the CPU is: CUDA out of memory")
    with pytest.raises(UnderstudyError, match="The memory of meta does not suffice, not even for the model"):
        Solver(model, "meta")


@pytest.mark.parametrize(("capability", "bf16", "kinds"), [
    ((9, 0), True, ["fp16", "bf16", "fp32"]), ((7, 5), False, ["fp16", "fp32"]), ((6, 1), False, ["fp32"])])
def test_what_old_and_new_gpus_try(monkeypatch, capability, bf16, kinds):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    assert engine.candidates("auto", torch.device("cuda")) == [("torch", kind) for kind in kinds]
    assert engine.candidates("compiled", torch.device("cuda"))[-1] == ("torch", "fp32")
    with pytest.raises(UnderstudyError, match="CPU only"):
        engine.candidates("openvino", torch.device("cuda"))


def test_the_doctor_tells_what_was_measured(model):
    solver = Solver(model, "cpu", 2)
    assert any("the last solve chose the engine" in line and f"{solver._how[0]} {solver._how[1]}" in line
               for line in examine("cpu")["lines"])


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="oneDNN's limits are tried on Linux")
@pytest.mark.parametrize(("isa", "cores"), [("AVX2", None), ("AVX512_CORE", None), (None, 1)])
def test_lesser_processors_solve_within_the_tolerance(model, inputs, tmp_path, isa, cores):
    """Without AMX, without AVX-512, on one core: each in a process of its own, because oneDNN looks once."""
    model.save(tmp_path / "m.safetensors")
    np.save(tmp_path / "inputs.npy", inputs)
    code = ("import os, sys, numpy as np\n"
            f"if {cores}: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{cores}])\n"
            "from understudy.core.model import load_model\nfrom understudy.core.solver import Solver\n"
            f"inputs = np.load({str(tmp_path / 'inputs.npy')!r})\n"
            f"solver = Solver(load_model({str(tmp_path / 'm.safetensors')!r}), 'cpu', 4)\n"
            f"np.save({str(tmp_path / 'out.npy')!r}, solver.solve(inputs))\n")
    environment = os.environ | ({"ONEDNN_MAX_CPU_ISA": isa} if isa else {})
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    want = float32(model, inputs)
    apart = np.linalg.norm(np.load(tmp_path / "out.npy")[:, model.animated] - want, axis=2) * model.millimetres
    moved = np.linalg.norm(want - model.mean / model.centimetres, axis=2) * model.millimetres
    assert np.sqrt(np.square(apart).mean()) <= max(0.01, 0.01 * np.sqrt(np.square(moved).mean()))
