"""A worker that stays, in real processes: commands one after another, whatever becomes of each of them.

Most are run by a copy of the package whose `solve` does what the name of the model says; the last ones really solve.
Waiting is bounded generously and never measured.
"""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from understudy.core import jobs
from understudy.core.events import Watcher, process_lives
from understudy.core.jobs import RunningJob
from understudy.core.meshcache import PC2_HEADER, read_cache
from understudy.core.movie_writer import MovieWriter
from understudy.core.service import Service
from understudy.core.solved import read_solved

PATIENCE = 60  # s until a test gives up
FRAMES = 400  # of the footage that is really solved

SOLVE = '''
import ctypes, os, sys, time
from pathlib import Path
from .errors import UnderstudyError

def solve(model, footage, out, report, **options):
    """Behaves as the name of the model says."""
    what = Path(model).name
    if what == "noise":
        print("printed by Python")
        os.write(2, b"written by C\\n")
        ctypes.CDLL(None).puts(b"put by C")
        ctypes.CDLL(None).fflush(None)
    if what == "error":
        raise UnderstudyError("The movie is too short; record é longer.")
    if what == "bug":
        return 1 / 0
    if what == "exit":
        sys.exit(5)
    if what == "crash":
        print("about to crash")
        os.kill(os.getpid(), 11)
    if what == "package":
        import thing_that_only_this_test_has
    for done in range(1, 100000 if what in ("steps", "deaf") else 2):
        if what != "deaf":
            report.check_cancel()
        report.progress(done, 100000, "steps")
        time.sleep(0.01)
    return {"first": 0, "last": os.getpid(), "engine": "", "device": "", "batch": 1}
'''


@pytest.fixture(scope="module")
def program(copy_program):
    return copy_program(core_solve=SOLVE)


@pytest.fixture
def service(program, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "PROGRAM", program)
    service = Service(sys.executable, tmp_path / "sërvice 1")
    yield service
    service.close(grace=0)


@pytest.fixture
def submit(service, tmp_path):
    """submit(what) queues a command that behaves as named."""
    numbers = iter(range(100))

    def submit(what, service=service):
        folder = tmp_path / "jöb s" / f"{what} {next(numbers)}"
        return service.submit(["solve", what, "film", "--out", "x.pc2", "--job", str(folder)], folder)

    return submit


def wait(job, until=lambda job: job.state.ended):
    """Poll until something is so; returns all events on the way."""
    news, deadline = [], time.monotonic() + PATIENCE
    while True:
        news += job.poll()
        if until(job):
            return news
        assert time.monotonic() < deadline, f"gave up waiting: {job.state}, log {job.log_tail()}"
        time.sleep(0.02)


def moving(job):
    return job.state.progress is not None


def test_commands_run_in_order_in_one_process(service, submit):
    assert not service.alive
    one, two, three = (submit("short") for _ in range(3))
    wait(three)
    assert one.process is two.process is three.process is service.process
    for job in (one, two):  # whoever polls later finds everything there
        news = wait(job)
        assert [event["type"] for event in news] == ["hello", "progress", "done"]
        assert news[0]["pid"] == service.process.pid == job.state.results["last"]
    assert one.state.exit_code == 0 and service.alive


def test_a_job_folder_may_be_removed_as_soon_as_its_end_is_known(service, submit):
    job, deadline = submit("short"), time.monotonic() + PATIENCE
    while not job.state.ended and time.monotonic() < deadline:
        RunningJob.poll(job)  # sees the end before the service does, which job.poll() does only now and then
    shutil.rmtree(job.folder)
    wait(submit("short"))


def test_a_job_that_nobody_asks_about_and_whose_folder_is_gone_holds_nobody_up(service, submit):
    job = submit("steps")
    wait(job, moving)
    job.cancel()
    watcher, deadline = Watcher(job.folder), time.monotonic() + PATIENCE
    while not watcher.state.ended and time.monotonic() < deadline:
        watcher.poll()
    shutil.rmtree(job.folder)
    wait(submit("short"))


@pytest.mark.parametrize(("what", "state", "says", "in_log"), [
    ("error", "failed", "The movie is too short; record é longer.", []),
    ("bug", "failed", "ZeroDivisionError", ["Traceback"]),
    ("noise", "done", "", ["printed by Python", "written by C", "put by C"]),
])
def test_what_one_command_does_does_not_hurt_the_next(service, submit, what, state, says, in_log):
    job, following = submit(what), submit("noise")
    wait(following)
    wait(job)
    assert job.state.state == state and says in job.state.text
    assert all(text in "\n".join(job.log_tail()) for text in in_log)
    assert following.state.state == "done" and following.process is job.process
    assert following.log_tail().count("put by C") == 1
    assert not (service.folder / "log.txt").read_text()  # noise is its job's


def test_wrong_arguments_fail_with_a_sentence(service, tmp_path):
    job = service.submit(["solve", "--job", str(tmp_path / "job")], tmp_path / "job")
    wait(job)
    assert (job.state.state, job.state.exit_code) == ("failed", 1)
    assert "the following arguments are required" in job.state.text
    assert service.alive


@pytest.mark.parametrize(("what", "number"), [("crash", signal.SIGSEGV), ("steps", signal.SIGKILL)])
def test_a_command_that_takes_the_process_with_it(service, submit, what, number):
    job, following = submit(what), submit("short")
    if what == "steps":
        wait(job, moving)
        job.process.kill()
    wait(job)
    assert (job.state.state, job.state.exit_code) == ("dead", -number)
    assert f"signal {number:d}" in job.state.text
    if what == "crash":
        assert "about to crash" in "\n".join(job.log_tail(50))
    wait(following)  # in a new process
    assert following.state.state == "done" and following.process.pid != job.process.pid


def test_a_command_that_leaves(service, submit):
    job, following = submit("exit"), submit("short")
    wait(following)
    wait(job)
    assert job.state.state == "failed" and following.state.state == "done"


def test_a_worker_that_died_idle_is_started_again(service, submit):
    wait(submit("short"))
    service.process.kill()
    wait(job := submit("short"))
    assert job.state.state == "done"


def test_cancel(service, submit):
    running, waiting, last = submit("steps"), submit("steps"), submit("short")
    wait(running, moving)
    waiting.cancel()
    assert waiting.poll() == [] and (waiting.state.state, waiting.state.exit_code) == ("cancelled", 3)
    assert not (waiting.folder / "events.jsonl").exists()
    running.poll()
    assert running.state.state == "running"
    running.cancel()
    wait(last)
    wait(running)
    assert running.state.state == "cancelled" and last.state.state == "done"


def test_a_deaf_command_is_killed_and_nobody_else(service, submit):
    quick, deaf, last = submit("short"), submit("deaf"), submit("short")
    wait(quick)
    wait(deaf, moving)
    quick.kill_after(0)  # too late
    quick.poll()
    assert deaf.process.poll() is None
    deaf.cancel()
    deaf.kill_after(0.1)
    wait(deaf)
    assert deaf.state.state == "dead" and "did not stop within 0.1 s" in deaf.state.text
    wait(last)
    assert quick.state.state == last.state.state == "done"


def test_close_cancels_what_runs_and_what_waits(service, submit):
    running, waiting = submit("steps"), submit("short")
    wait(running, moving)
    service.close(grace=PATIENCE)
    wait(running)
    assert running.state.state == waiting.state.state == "cancelled"
    assert not service.alive
    wait(job := submit("short"))  # it can be used again
    assert job.state.state == "done"


def test_close_kills_what_does_not_stop(service, submit):
    deaf = submit("deaf")
    wait(deaf, moving)
    service.close(grace=0.1)
    wait(deaf)
    assert deaf.state.state == "dead" and not process_lives(deaf.state.pid)


@pytest.mark.parametrize("what, last_word", [("steps", "cancelled"), ("deaf", "dead")])
def test_the_worker_ends_with_its_parent(program, tmp_path, what, last_word):
    script = ("import sys, time; from understudy.core import jobs; from understudy.core.service import Service\n"
              "jobs.PROGRAM = sys.argv[1]; service = Service(sys.executable, sys.argv[2])\n"
              "job = service.submit(['solve', sys.argv[4], 'film', '--out', 'x.pc2', '--job', sys.argv[3]],"
              " sys.argv[3])\n"
              "time.sleep(1000)")
    parent = subprocess.Popen([sys.executable, "-c", script, program, tmp_path / "service", tmp_path / "job", what])
    child = Watcher(tmp_path / "job")
    wait(child, moving)
    parent.kill()
    parent.wait()
    wait(child)
    assert child.state.state == last_word
    deadline = time.monotonic() + PATIENCE
    while process_lives(child.state.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not process_lives(child.state.pid)


def test_closing_does_not_wait(service, submit):
    wait(running := submit("deaf"), moving)
    process = service.process
    service.close(grace=PATIENCE)
    assert not service.alive and process.poll() is None
    process.kill()
    wait(running)


def test_no_such_interpreter_is_how_the_job_fails(tmp_path, submit):
    job = submit("short", Service(tmp_path / "no-python", tmp_path / "s"))
    wait(job)
    assert job.state.state == "failed" and "no-python" in job.state.text


def test_an_interpreter_that_is_none(tmp_path, submit):
    job = submit("short", Service("/bin/false", tmp_path / "s"))
    wait(job)
    assert job.state.ended and job.state.exit_code == 1


def test_further_packages_are_for_the_worker_alone(tmp_path, submit):
    folder = tmp_path / "pâckages 1"
    folder.mkdir()
    (folder / "thing_that_only_this_test_has.py").write_text("")
    service = Service(sys.executable, tmp_path / "s", [tmp_path / "absent", folder])
    job = submit("package", service)
    wait(job)
    service.close()
    assert job.state.state == "done" and str(folder) not in sys.path


@pytest.mark.skipif(not hasattr(os, "getpriority"), reason="only POSIX tells")
def test_the_worker_steps_back(service, submit):
    job = submit("steps")
    wait(job, moving)
    ours, theirs = (os.getpriority(os.PRIO_PROCESS, pid) for pid in (0, job.process.pid))
    assert theirs == min(ours + 10, 19)


def test_a_folder_in_use_is_refused(service, submit):
    job = submit("steps")
    wait(job, moving)
    with pytest.raises(jobs.UnderstudyError, match="A job is running"):
        service.submit(job.arguments, job.folder)


# ---- with the real solve


@pytest.fixture(scope="module")
def files(tmp_path_factory, small_model):
    folder = tmp_path_factory.mktemp("näch takes")
    small_model().save(folder / "model.safetensors")
    with MovieWriter(folder / "take 1.mp4", 264, 352, 30) as movie:
        for index in range(FRAMES):
            movie.write(np.full((352, 264), index % 256, np.uint8))
    return folder / "model.safetensors", folder / "take 1.mp4"


@pytest.fixture
def solver(tmp_path):
    service = Service(sys.executable, tmp_path / "service")
    yield service
    service.close(grace=0)


def solve(service, files, out, *options):
    arguments = ["solve", *files, "--out", out, "--live", "--device", "cpu", "--job", out.with_suffix(".job"), *options]
    return service.submit(arguments, out.with_suffix(".job"))


def test_the_second_solve_finds_the_model_loaded(solver, files, tmp_path):
    job = solver.submit(["warm", files[0], "--device", "cpu", "--job", tmp_path / "w"], tmp_path / "w")
    wait(job)
    assert job.state.state == "done"
    model = files[0].stat()
    content = files[0].read_bytes()
    try:
        files[0].write_bytes(bytes(len(content)))  # whoever reads it now will notice
        os.utime(files[0], ns=(model.st_atime_ns, model.st_mtime_ns))
        wait(job := solve(solver, files, tmp_path / "x.pc2"))
        assert job.state.state == "done"
        os.utime(files[0])  # a new file
        wait(job := solve(solver, files, tmp_path / "y.pc2"))
        assert job.state.state == "failed" and "model file" in job.state.text
    finally:
        files[0].write_bytes(content)


def read_as_blender(path):
    """The samples that the header counts, whatever lies behind them; the reader of Blender's modifier is as lenient."""
    content = path.read_bytes()
    magic, version, vertices, _, _, count = PC2_HEADER.unpack_from(content)
    assert (magic, version, vertices) == (b"POINTCACHE2\0", 1, 8) and count >= 1
    return np.frombuffer(content, "<f4", 24 * count, PC2_HEADER.size).reshape(count, 8, 3)


def test_the_cache_can_be_read_at_every_moment(solver, files, tmp_path):
    out, seen = tmp_path / "x.pc2", []
    job = solve(solver, files, out)
    while not job.state.ended:
        job.poll()
        if out.exists():
            samples = read_as_blender(out)
            if not seen or len(seen[-1]) != len(samples):
                seen.append(samples)
    assert job.state.state == "done"
    whole = read_cache(out)
    assert len(whole) == FRAMES and len(seen) > 1
    if len(seen[0]) == 1:  # the first frame alone, shown before its batch is there
        np.testing.assert_allclose(seen.pop(0), whole[:1], atol=1e-3)
    assert all(np.array_equal(samples, whole[:len(samples)]) for samples in seen)
    assert [len(samples) for samples in seen] == sorted(len(samples) for samples in seen)


def test_a_killed_solve_leaves_what_can_be_read_and_the_next_one_begins(solver, files, tmp_path):
    out = tmp_path / "x.pc2"
    job, following = solve(solver, files, out), solve(solver, files, tmp_path / "y.pc2", "--range", "0", "9")
    wait(job, lambda job: out.exists() and len(read_as_blender(out)) > 1)  # a whole batch
    solver.process.kill()
    wait(following)
    wait(job)
    assert job.state.state == "dead" and following.state.state == "done"
    assert np.array_equal(read_as_blender(out)[:10], read_cache(tmp_path / "y.pc2")[:len(read_as_blender(out))])
    assert not list(tmp_path.glob(".*"))


def test_a_cancelled_solve_keeps_its_frames(solver, files, tmp_path):
    job = solve(solver, files, tmp_path / "x.pc2", "--online")
    following = solve(solver, files, tmp_path / "y.pc2", "--range", "5", "7")
    wait(job, moving)
    job.cancel()
    wait(following)
    wait(job)
    assert job.state.state == "cancelled"
    solved = read_solved(tmp_path / "x.pc2")
    assert 0 < len(solved.vertices()) == len(solved.codes()) < FRAMES
    assert following.state.state == "done" and read_solved(tmp_path / "y.pc2").count == 3
