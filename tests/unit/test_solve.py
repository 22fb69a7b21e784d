"""Solving: a frame gives the same vertices however it is reached, and whatever ends a solve leaves a whole one."""

import contextlib
import errno
import importlib.util
import json
import shutil
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from understudy.core import footage as footages
from understudy.core import solve as solving
from understudy.core.crop import network_input
from understudy.core.engine import pick_device
from understudy.core.errors import Cancelled, UnderstudyError
from understudy.core.footage import open_footage
from understudy.core.jobs import Reporter
from understudy.core.live import LiveCache
from understudy.core.meshcache import read_cache
from understudy.core.model import confidence_weights, load_model
from understudy.core.modelfile import ModelFile
from understudy.core.movie_writer import MovieWriter
from understudy.core.solve import solve
from understudy.core.solved import read_solved
from understudy.core.solver import Solver, load_solver

FRAMES = 11
ENGINES = ["torch", pytest.param("openvino", marks=pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"))]


@pytest.fixture(scope="module")
def files(tmp_path_factory, small_model):
    folder = tmp_path_factory.mktemp("näch takes")
    model = small_model()
    for name, layer in model.network.named_children():
        if name.startswith("conv"):
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    model.save(folder / "model.safetensors")
    with MovieWriter(folder / "take 1.mp4", 264, 352, 30) as movie:
        for index in range(FRAMES):
            picture = np.full((352, 264), 40 + 10 * index, np.uint8)
            picture[20 * index:20 * index + 60, 50:200] = 220
            movie.write(picture)
    return folder / "model.safetensors", folder / "take 1.mp4"


@pytest.mark.parametrize("engine", ENGINES)
def test_any_range_alone_is_the_same_bit_for_bit(files, tmp_path, engine):
    solve(*files, tmp_path / "whole.pc2", batch=4, device="cpu", engine=engine)
    whole = read_cache(tmp_path / "whole.pc2")
    assert whole.shape == (FRAMES, 8, 3)
    for first, last in ((0, 0), (3, 8), (10, 10)):
        sidecar = solve(*files, tmp_path / "part.pc2", first, last, batch=4, device="cpu", engine=engine)
        assert np.array_equal(read_cache(tmp_path / "part.pc2"), whole[first:last + 1])
        assert (sidecar["first"], sidecar["last"]) == (first, last)
        assert len(sidecar["confidence_mm"]["lips"]) == last - first + 1


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_and_batches_agree_with_plain_float32(files, engine):
    model = load_model(files[0])
    with open_footage(files[1]) as footage:
        inputs = np.stack([network_input(picture, model.crop) for picture in footage.iterate()])
    mean, deviation = model.whitening
    with torch.no_grad():
        want = model.network.eval()((torch.from_numpy(inputs)[:, None].float() - mean) / deviation).view(FRAMES, -1, 3)
    scale = np.abs(want.numpy() - model.mean).max()
    for batch in (1, 3, 16):
        vertices = Solver(load_model(files[0]), "cpu", batch, engine).solve(inputs)
        assert np.abs(vertices[:, model.animated] - want.numpy()).max() < 0.02 * scale
        still = np.setdiff1d(np.arange(8), model.animated)
        assert np.array_equal(vertices[:, still], np.repeat(model.template.vertices[None, still], FRAMES, 0))


@pytest.mark.parametrize("suffix", ["pc2", "mdd", "npz"])
def test_every_format_holds_the_same(files, tmp_path, suffix):
    sidecar = solve(*files, tmp_path / f"x.{suffix}", batch=4, device="cpu", engine="torch")
    solve(*files, tmp_path / "y.pc2", batch=4, device="cpu", engine="torch")
    assert np.array_equal(read_cache(tmp_path / f"x.{suffix}"), read_cache(tmp_path / "y.pc2"))
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == sidecar
    assert sidecar["footage"] == "take 1.mp4" and sidecar["actor"] == "Zoë" and len(sidecar["model_sha256"]) == 64


class Stop(Reporter):
    """Cancels when so many frames are done, and remembers what it was told."""

    def __init__(self, after=10**9):
        self.after, self.done, self.told = after, 0, []

    def progress(self, done, total, unit="frames", **more):
        self.done = done

    def status(self, text):
        self.told.append(text)

    warning = status

    def cancelled(self):
        return self.done >= self.after


def test_cancelling_keeps_what_is_solved(files, tmp_path):
    with pytest.raises(Cancelled, match="4 of 11 frames"):
        solve(*files, tmp_path / "x.pc2", batch=4, device="cpu", engine="torch", report=Stop(1))
    solved = read_solved(tmp_path / "x.pc2")
    assert len(solved.vertices()) == len(solved.codes()) == 4 and solved.last == 3 and not solved.complete


@pytest.mark.parametrize("live", [False, True])
def test_cancelling_before_the_first_frame_leaves_nothing(files, tmp_path, live):
    with pytest.raises(Cancelled):
        solve(*files, tmp_path / "x.pc2", device="cpu", engine="torch", live=live, report=Stop(0))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("first", "last"), [(5, 4), (-1, 3), (0, FRAMES), (FRAMES, None)])
def test_a_range_outside_the_footage_gets_a_sentence(files, tmp_path, first, last):
    with pytest.raises(UnderstudyError, match="frames are 0 to 10"):
        solve(*files, tmp_path / "x.pc2", first, last, device="cpu")
    assert not list(tmp_path.iterdir())


def test_a_crop_outside_the_picture_gets_a_sentence(files, tmp_path):
    with MovieWriter(tmp_path / "small.mp4", 200, 300, 30) as movie:
        movie.write(np.zeros((300, 200), np.uint8))
    with pytest.raises(UnderstudyError, match="outside the picture of 200 x 300"):
        solve(files[0], tmp_path / "small.mp4", tmp_path / "x.pc2", device="cpu")
    assert not (tmp_path / "x.pc2").exists()


def test_a_failure_on_the_way_leaves_an_older_solve_alone(files, tmp_path):
    class Break(Reporter):
        def progress(self, done, total, unit="frames", **more):
            raise RuntimeError("pulled the plug")

    solve(*files, tmp_path / "x.pc2", 0, 2, batch=4, device="cpu", engine="torch")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RuntimeError):
        solve(*files, tmp_path / "x.pc2", batch=4, device="cpu", engine="torch", report=Break())
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(("options", "says"), [
    ({"device": "warp:9"}, "warp:9"), ({"engine": "steam"}, "steam"), ({"batch": 0}, "batch of 0"),
    ({"device": "cuda:77"}, "cuda:77")])
def test_senseless_options_get_a_sentence(files, tmp_path, options, says):
    with pytest.raises(UnderstudyError, match=says):
        solve(*files, tmp_path / "x.pc2", **options)


def test_the_automatic_device_exists():
    assert torch.zeros(1, device=pick_device("auto")).item() == 0


# ---- codes, crop, confidence, the warm solver


def test_codes_and_head_make_the_vertices(files, whole):
    solved, model = read_solved(whole), ModelFile.load(files[0])
    weight, bias = model.head()
    assert solved.codes().shape == (FRAMES, 6)
    made = (solved.codes() @ weight.T + bias).reshape(FRAMES, -1, 3)
    assert np.abs(made - solved.vertices()[:, model.animated]).max() < 1e-5 * np.abs(made).max()


def test_a_crop_of_its_own(files, tmp_path, whole):
    sidecar = solve(*files, tmp_path / "x.pc2", crop=(0, 0, 264, 352), batch=4, device="cpu", engine="torch")
    assert sidecar["crop"] == sidecar["parts"][0]["crop"] == [0, 0, 264, 352]
    assert not np.array_equal(read_cache(tmp_path / "x.pc2"), read_cache(whole))
    with pytest.raises(UnderstudyError, match="not 3:4"):
        solve(*files, tmp_path / "y.pc2", crop=(0, 0, 264, 264), device="cpu")


def test_the_stored_confidence_is_that_of_the_network(files):
    model = load_model(files[0])
    assert np.allclose(model.confidence, confidence_weights(model.network, model.animated, model.regions))


def test_the_solver_stays_warm_until_the_model_changes(files, tmp_path):
    model = shutil.copy(files[0], tmp_path / "model.safetensors")
    first, sha256 = load_solver(model, "cpu", 4, "torch")
    assert load_solver(model, "cpu", 4, "torch") == (first, sha256)
    assert load_solver(model, "cpu", 2, "torch")[0] is not first
    replace(load_model(model), actor="Ada").save(model)
    again, other = load_solver(model, "cpu", 4, "torch")
    assert again.model.actor == "Ada" and other != sha256


# ---- live: others read the cache while it is written


@pytest.fixture(scope="module")
def whole(files, tmp_path_factory):
    """A solve of all frames."""
    out = tmp_path_factory.mktemp("whole") / "take.v001.pc2"
    solve(*files, out, batch=4, device="cpu", engine="torch")
    return out


def part(files, out, *ranges, **options):
    return solve(*files, out, *ranges, **{"batch": 4, "device": "cpu", "engine": "torch", "live": True, **options})


def test_a_live_solve_is_the_same_and_whole_at_every_step(files, tmp_path, whole):
    want, counts = read_cache(whole), []

    class Look(Reporter):
        def progress(self, done, total, unit="frames", **more):
            got = read_cache(tmp_path / "x.pc2")
            assert np.array_equal(got, want[:len(got)])
            counts.append(len(got))

        def artifact(self, path, kind):
            got = read_cache(path)
            if kind == "live":  # the first frame, alone, before its batch is there
                assert np.abs(got - want[:1]).max() < 1e-3 * np.abs(want[0]).max()
            counts.append((kind, len(got)))

    sidecar = part(files, tmp_path / "x.pc2", report=Look())
    assert counts == [("live", 1), 4, 8, 11, ("cache", 11)]
    assert (tmp_path / "x.pc2").read_bytes() == whole.read_bytes()
    assert sidecar["complete"] is True and read_solved(tmp_path / "x.pc2").codes().tolist() == \
        read_solved(whole).codes().tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.json", "x.npy", "x.pc2"]


def test_a_live_solve_refuses_what_is_there(files, tmp_path):
    (tmp_path / "x.pc2").write_bytes(b"mine")
    with pytest.raises(UnderstudyError, match="exists already"):
        part(files, tmp_path / "x.pc2")
    with pytest.raises(UnderstudyError, match="Only a PC2"):
        part(files, tmp_path / "x.mdd")
    with pytest.raises(UnderstudyError, match="Cannot write"):
        part(files, tmp_path / "absent" / "x.pc2")
    with pytest.raises(UnderstudyError, match="--live"):
        part(files, tmp_path / "y.pc2", live=False, base=tmp_path / "x.pc2")
    assert [path.name for path in tmp_path.iterdir()] == ["x.pc2"]
    assert (tmp_path / "x.pc2").read_bytes() == b"mine"


@pytest.mark.parametrize(("old", "new", "frames", "parts"), [
    ((0, 10), (3, 6), (0, 10), [(0, 2), (3, 6), (7, 10)]),  # a part is replaced
    ((0, 10), (0, 10), (0, 10), [(0, 10)]),
    ((0, 5), (4, 10), (0, 10), [(0, 3), (4, 10)]),  # it goes on behind
    ((0, 5), (6, 8), (0, 8), [(0, 5), (6, 8)]),
    ((0, 2), (6, 8), (0, 8), [(0, 2), (3, 8)]),  # over a gap
    ((5, 8), (2, 4), (2, 8), [(2, 4), (5, 8)]),  # it begins before
    ((5, 8), (2, 6), (2, 8), [(2, 6), (7, 8)]),
    ((5, 8), (0, 1), (0, 8), [(0, 4), (5, 8)]),
    ((5, 8), (0, 10), (0, 10), [(0, 10)]),
], ids=str)
def test_a_part_replaces_only_itself(files, tmp_path, whole, old, new, frames, parts):
    other = tmp_path / "other.safetensors"  # the first solve is by another model, so that frames tell whose they are
    replace(load_model(files[0]), regions={"chin": np.array([1], np.int32)}, whitening=(120.0, 30.0)).save(other)
    part((other, files[1]), tmp_path / "all.pc2")
    part((other, files[1]), tmp_path / "v1.pc2", *old)
    before = (tmp_path / "v1.pc2").read_bytes()
    report = Stop()
    part(files, tmp_path / "v2.pc2", *new, base=tmp_path / "v1.pc2", report=report)
    solved, others = read_solved(tmp_path / "v2.pc2"), read_solved(tmp_path / "all.pc2")
    ours = np.array([new[0] <= frame <= new[1] or not old[0] <= frame <= old[1]
                     for frame in range(frames[0], frames[1] + 1)])
    for name in ("vertices", "codes"):
        mine, theirs = (getattr(one, name)()[frames[0]:frames[1] + 1] for one in (read_solved(whole), others))
        got = getattr(solved, name)()
        assert np.array_equal(got[ours], mine[ours]) and np.array_equal(got[~ours], theirs[~ours])
    assert (solved.first, solved.last) == frames
    assert [(p["first"], p["last"]) for p in solved.parts] == parts
    assert (tmp_path / "v1.pc2").read_bytes() == before
    gap = any("between the old range" in text for text in report.told)
    assert gap == (new[0] > old[1] + 1 or new[1] < old[0] - 1)
    confidence = solved.sidecar["confidence_mm"]
    assert [value is None for value in confidence["chin"]] == ours.tolist()
    assert [value is None for value in confidence["lips"]] == (~ours).tolist()


def test_a_base_of_fewer_components(files, tmp_path, small_model):
    small = small_model(1)
    small.network.fc, small.network.output = torch.nn.Linear(9720, 4), torch.nn.Linear(4, 15)
    small = replace(small, template=load_model(files[0]).template, basis=small.basis[:4])
    small.save(tmp_path / "small.safetensors")
    part((tmp_path / "small.safetensors", files[1]), tmp_path / "v1.pc2")
    part(files, tmp_path / "v2.pc2", 2, 3, base=tmp_path / "v1.pc2")
    old, new = read_solved(tmp_path / "v1.pc2").codes(), read_solved(tmp_path / "v2.pc2").codes()
    assert old.shape == (FRAMES, 4) and new.shape == (FRAMES, 6)
    assert np.array_equal(new[4:, :4], old[4:]) and not new[4:, 4:].any() and new[2:4].all()


def test_a_base_that_does_not_fit_gets_a_sentence(files, tmp_path, whole, small_model):
    small_model(3).save(tmp_path / "m.safetensors")  # the same topology, as a stranger would have it: other vertices
    mesh = replace(load_model(files[0]).template, face_indices=np.array([0, 1, 2, 3, 4, 5, 7, 6], np.int32))
    replace(load_model(files[0]), template=mesh).save(tmp_path / "m.safetensors")
    with pytest.raises(UnderstudyError, match="another mesh"):
        part((tmp_path / "m.safetensors", files[1]), tmp_path / "x.pc2", base=whole)
    for path in (whole, whole.with_suffix(".json")):
        shutil.copy(path, tmp_path)
    with pytest.raises(UnderstudyError, match="v001.npy"):
        part(files, tmp_path / "x.pc2", base=tmp_path / whole.name)
    (tmp_path / whole.with_suffix(".json").name).unlink()
    with pytest.raises(UnderstudyError, match="no sidecar"):
        part(files, tmp_path / "x.pc2", base=tmp_path / whole.name)
    with MovieWriter(tmp_path / "short.mp4", 264, 352, 30) as movie:
        movie.write(np.zeros((352, 264), np.uint8))
    with pytest.raises(UnderstudyError, match="goes on to frame 10"):
        part((files[0], tmp_path / "short.mp4"), tmp_path / "x.pc2", base=whole)
    assert not list(tmp_path.glob("*x*"))


def test_other_footage_under_a_base_is_told(files, tmp_path, whole):
    with MovieWriter(tmp_path / "other.mp4", 264, 352, 30) as movie:
        for _ in range(FRAMES):
            movie.write(np.zeros((352, 264), np.uint8))
    report = Stop()
    part((files[0], tmp_path / "other.mp4"), tmp_path / "x.pc2", 0, 1, base=whole, report=report)
    assert any("other footage" in text for text in report.told)


# ---- ended before its time


@pytest.mark.parametrize(("old", "new", "says", "last", "replaced"), [
    (None, (0, 10), "4 of 11 frames. .*holds the frames 0 to 3", 3, 4),
    ((0, 10), (2, 10), "4 of 9 frames. .*holds the frames 0 to 10", 10, 4),
    ((0, 3), (2, 10), "4 of 9 frames. .*holds the frames 0 to 5", 5, 4),
    ((3, 10), (0, 9), "4 of 10 frames. .*holds the frames 0 to 10", 10, 4),  # far enough to reach the old frames
    ((8, 10), (0, 9), "does not reach the frames of .*Nothing was written", None, 0),
], ids=str)
def test_cancelling_a_live_solve_keeps_what_is_done(files, tmp_path, whole, old, new, says, last, replaced):
    if old:
        part(files, tmp_path / "v1.pc2", *old)
    with pytest.raises(Cancelled, match=says):
        part(files, tmp_path / "v2.pc2", *new, base=tmp_path / "v1.pc2" if old else None, report=Stop(2))
    if last is None:
        assert not list(tmp_path.glob("*v2*"))
        return
    solved = read_solved(tmp_path / "v2.pc2")
    assert solved.last == last and not solved.complete
    assert np.array_equal(solved.vertices(), read_cache(whole)[:last + 1])
    assert np.array_equal(solved.codes(), read_solved(whole).codes()[:last + 1])
    assert any(p["first"] == new[0] and p["last"] == new[0] + replaced - 1 for p in solved.parts)


@pytest.fixture
def torn(files, tmp_path, monkeypatch):
    """A function that lets frame n of the footage be damaged."""
    def torn(number):
        read = footages.network_input
        numbers = iter(range(100))

        def damaged(picture, crop):
            if next(numbers) == number:
                raise UnderstudyError(f"Frame {number} of take 1.mp4 cannot be decoded. Copy or export it again.")
            return read(picture, crop)

        monkeypatch.setattr(footages, "network_input", damaged)
    return torn


def test_a_damaged_frame_keeps_what_comes_before_it(files, tmp_path, whole, torn):
    torn(7)
    with pytest.raises(UnderstudyError, match="Frame 7 .* again. .*holds the frames 0 to 6. .*from frame 7 on"):
        part(files, tmp_path / "x.pc2")
    solved = read_solved(tmp_path / "x.pc2")
    assert np.array_equal(solved.vertices(), read_cache(whole)[:7]) and not solved.complete
    torn(100)
    part(files, tmp_path / "y.pc2", 7, 10, base=tmp_path / "x.pc2")  # put right
    assert (tmp_path / "y.pc2").read_bytes() == whole.read_bytes() and read_solved(tmp_path / "y.pc2").complete


@pytest.mark.parametrize("base", [False, True])
def test_a_failure_before_the_first_frame_leaves_nothing(files, tmp_path, whole, torn, base):
    torn(0)
    with pytest.raises(UnderstudyError, match="Frame 0 .*Nothing was written"):
        part(files, tmp_path / "x.pc2", base=whole if base else None)
    assert not list(tmp_path.iterdir())


def test_a_bug_is_a_sentence_too_and_keeps_what_is_done(files, tmp_path, capfd):
    class Break(Stop):
        def progress(self, done, total, unit="frames", **more):
            raise ZeroDivisionError("pulled the plug")

    with pytest.raises(UnderstudyError, match="ZeroDivisionError.*holds the frames 0 to 3"):
        part(files, tmp_path / "x.pc2", report=Break())
    assert read_solved(tmp_path / "x.pc2").last == 3
    assert "Traceback" in capfd.readouterr().err


@contextlib.contextmanager
def largest_file(size):
    """Writing a file beyond so many bytes fails, as it does on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def wide(files, tmp_path):
    """The model with so many vertices that a sample is larger than all that stands beside the cache."""
    model = load_model(files[0])
    mesh = replace(model.template, vertices=np.concatenate([model.template.vertices, np.ones((1000, 3), np.float32)]))
    replace(model, template=mesh).save(tmp_path / "wide.safetensors")
    return tmp_path / "wide.safetensors", files[1]


def test_a_full_disk_keeps_the_frames_that_fit(files, tmp_path):
    files = wide(files, tmp_path)
    with largest_file(32 + 12 * 1008 * 6 + 500), pytest.raises(
            UnderstudyError, match="Cannot write .*space. .*holds the frames 0 to 3. Then solve from frame 4 on"):
        part(files, tmp_path / "x.pc2")
    solved = read_solved(tmp_path / "x.pc2")
    part(files, tmp_path / "y.pc2")
    assert np.array_equal(solved.vertices(), read_cache(tmp_path / "y.pc2")[:solved.count])
    with largest_file(32 + 12 * 1008 * 6), pytest.raises(UnderstudyError, match="Cannot write"):
        part(files, tmp_path / "z.pc2", base=tmp_path / "y.pc2")  # not even the copy
    assert not list(tmp_path.glob("*z*"))


def test_a_full_disk_gives_up_frames_for_the_sidecar_and_the_codes(files, tmp_path, monkeypatch):
    put = LiveCache._put

    def full(self, place, content):
        if place > 12 * 1008 * 7:
            raise OSError(errno.ENOSPC, "No space left on device")
        put(self, place, content)

    monkeypatch.setattr(LiveCache, "_put", full)
    with pytest.raises(UnderstudyError, match="No space left on device") as caught:
        part(wide(files, tmp_path), tmp_path / "x.pc2")
    solved = read_solved(tmp_path / "x.pc2")
    assert f"solve from frame {solved.last + 1} on" in str(caught.value)
    given_up = (9 - solved.count) * 12 * 1008
    beside = sum((tmp_path / name).stat().st_size for name in ("x.json", "x.npy"))
    assert solved.vertices().shape == (solved.count, 1008, 3) and given_up > beside


def test_a_disk_that_is_too_small_is_told_before(files, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 99, 1000))
    with pytest.raises(UnderstudyError, match="0 MB left"):
        part(files, tmp_path / "x.pc2")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small_gpu(monkeypatch):
    """A device that has memory for so many frames at once."""
    submit = Solver._submit

    def small_gpu(most):
        def limited(self, slot, chunk):
            if self.batch > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            return submit(self, slot, chunk)

        monkeypatch.setattr(Solver, "_submit", limited)
    return small_gpu


@pytest.mark.parametrize(("cores", "asked"), [(4, ["cuda"]), (64, [])])
def test_a_gpu_decodes_where_the_processor_is_small(files, tmp_path, monkeypatch, cores, asked):
    solver, sha256 = load_solver(files[0], "cpu", 4, "torch")
    names = []
    monkeypatch.setattr(solver, "device", SimpleNamespace(type="cuda"))
    monkeypatch.setattr(solving, "load_solver", lambda *_: (solver, sha256))
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    monkeypatch.setattr(footages.Footage, "use_hardware", lambda self, name: names.append(name) or "no NVDEC here")
    report = Stop()
    assert solve(*files, tmp_path / "x.pc2", report=report)["last"] == FRAMES - 1
    assert names == asked and ("no NVDEC here" in report.told) == bool(asked)


def test_a_batch_that_does_not_fit_is_halved(files, tmp_path, whole, small_gpu):
    small_gpu(3)
    report = Stop()
    sidecar = part(files, tmp_path / "x.pc2", batch=8, report=report)
    assert sidecar["batch"] == 2
    assert [text for text in report.told if "memory" in text] == [
        f"The memory of cpu did not suffice; it goes on with {n} frames at once." for n in (4, 2)]
    assert np.abs(read_cache(tmp_path / "x.pc2") - read_cache(whole)).max() < 1e-4
    small_gpu(8)
    assert part(files, tmp_path / "y.pc2", batch=8)["batch"] == 8  # the next solve tries again


def test_a_device_without_room_for_one_frame_gets_a_sentence(files, tmp_path, small_gpu):
    small_gpu(0)
    with pytest.raises(UnderstudyError, match="not even for one frame at a time. Close other programs"):
        part(files, tmp_path / "x.pc2", batch=4)
    assert not list(tmp_path.iterdir())


def test_a_gpu_is_kept_to_the_memory_that_is_granted(monkeypatch):
    from types import SimpleNamespace

    from understudy.core import process

    granted = []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=80e9))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *asked: granted.append(asked))
    for gigabytes in (0, 8, 100):
        monkeypatch.setattr(process, "gpu_memory", gigabytes)
        process.limit_gpu_memory(torch.device("cuda"))
    assert granted == [(0.1, torch.device("cuda")), (1.0, torch.device("cuda"))]
