"""Jobs in real child processes: the command line is run from a copy of the package whose `sample` does what we ask.

It is run as a file by an isolated Python.
Waiting is bounded generously and never measured.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time

import pytest

from understudy.core import events, jobs
from understudy.core.errors import UnderstudyError
from understudy.core.events import Watcher, job_state, read_events

PATIENCE = 60  # s until a test gives up

SAMPLE = '''
import ctypes, os, sys, time
from pathlib import Path
from ..core.errors import UnderstudyError
from ..core.jobs import Reporter, start

def make_sample(folder, report=Reporter()):
    """Behaves as the name of the folder says."""
    what = Path(folder).name
    if what == "noise":
        print("printed by Python")
        print("warned by Python", file=sys.stderr)
        os.write(1, b"written by C\\n")
        ctypes.CDLL(None).puts(b"put by C")
        ctypes.CDLL(None).fflush(None)
        return
    if what == "error":
        raise UnderstudyError("The movie is too short; record é longer.")
    if what == "bug":
        return 1 / 0
    if what == "crash":
        print("about to crash")
        os.kill(os.getpid(), 11)
    if what == "parent":
        start(["sample", str(Path(folder).with_name("steps"))], str(Path(folder).with_name("steps.job")))
    for done in range(1, 100000):
        if what != "deaf":
            report.check_cancel()
        report.progress(done, 100000, "steps")
        time.sleep(0.01)
'''


@pytest.fixture(scope="module")
def program(copy_program):
    """__main__.py of the copy."""
    return copy_program(training_sample=SAMPLE)


@pytest.fixture
def begin(program, tmp_path, monkeypatch):
    """begin(what, ...) starts a job that behaves as named; whatever still lives at the end is killed."""
    monkeypatch.setattr(jobs, "PROGRAM", program)
    begun = []

    def begin(what, **options):
        folder = tmp_path / "jöb s" / what
        begun.append(jobs.start(["sample", str(folder)], folder.with_name(what + ".job"), **options))
        return begun[-1]

    yield begin
    for job in begun:
        job.process.kill()
        job.process.wait()


def wait(watcher, until=lambda watcher: watcher.state.ended):
    """Poll until something is so; returns all events on the way."""
    news, deadline = [], time.monotonic() + PATIENCE
    while True:
        news += watcher.poll()
        if until(watcher):
            return news
        assert time.monotonic() < deadline, f"gave up waiting: {watcher.state}, log {watcher.log_tail()}"
        time.sleep(0.02)


def moving(watcher):
    return watcher.state.progress is not None


def test_progress_and_cancel(begin):
    job = begin("steps")
    news = wait(job, moving)
    assert news[0]["type"] == "hello" and news[0]["pid"] == job.process.pid
    assert job_state(job.folder).state == "running"
    job.cancel()
    wait(job)
    assert (job.state.state, job.state.exit_code) == ("cancelled", 3)
    assert job.process.wait(PATIENCE) == 3


def test_cancel_before_the_worker_has_begun(begin):
    job = begin("steps")
    job.cancel()
    wait(job)
    assert job.state.state == "cancelled" and job.state.progress is None


def test_terminate_is_cancel(begin):
    job = begin("steps")
    wait(job, moving)
    job.process.terminate()
    wait(job)
    assert job.state.state == "cancelled"
    assert job.process.wait(PATIENCE) == 3


def test_killed_worker_is_noticed(begin):
    job = begin("steps")
    other = Watcher(job.folder)
    wait(other, moving)
    job.process.kill()
    wait(job)
    assert job.state.state == "dead" and job.state.exit_code == -signal.SIGKILL
    assert "signal 9" in job.state.text
    wait(other)  # and by somebody who did not start it
    assert other.state.state == "dead"
    again = begin("steps")  # the folder is free again
    wait(again, moving)


def test_crash_is_noticed_with_the_end_of_the_log(begin):
    job = begin("crash")
    wait(job)
    assert job.state.state == "dead" and job.state.exit_code == -signal.SIGSEGV
    log = "\n".join(job.log_tail(50))
    assert "about to crash" in log and "make_sample" in log  # also where it happened


def test_deaf_worker_is_killed(begin):
    job = begin("deaf")
    wait(job, moving)
    job.cancel()
    job.kill_after(0.1)
    wait(job)
    assert job.state.state == "dead" and "did not stop within 0.1 s" in job.state.text


def test_noise_goes_to_the_log(begin):
    job = begin("noise")
    news = wait(job)
    assert [event["type"] for event in news] == ["hello", "done"]
    log = "\n".join(job.log_tail())
    for text in ("printed by Python", "warned by Python", "written by C", "put by C"):
        assert text in log


def test_errors(begin):
    job = begin("error")
    wait(job)
    assert (job.state.state, job.state.text) == ("failed", "The movie is too short; record é longer.")
    assert job.process.wait(PATIENCE) == 1
    assert "Traceback" not in "\n".join(job.log_tail())
    job = begin("bug")
    wait(job)
    assert job.state.state == "failed" and "ZeroDivisionError" in job.state.text
    assert "Traceback" in "\n".join(job.log_tail())


def test_wrong_arguments_are_in_the_log(begin, tmp_path):
    job = jobs.start(["sample"], tmp_path / "job")
    wait(job)
    assert (job.state.state, job.state.exit_code) == ("dead", 2)
    assert "DIR" in job.state.text


def test_no_such_interpreter(tmp_path):
    with pytest.raises(UnderstudyError, match="no-python"):
        jobs.start(["check", "x"], tmp_path, python=str(tmp_path / "no-python"))


@pytest.mark.parametrize("way", ["killed", "closed"])
def test_attached_job_ends_with_its_parent(begin, way):
    parent = begin("parent")
    child = Watcher(parent.folder.with_name("steps.job"))
    wait(child, moving)
    if way == "killed":
        parent.process.kill()
    else:
        parent.cancel()
    wait(child)
    assert child.state.state == "cancelled"


def test_detached_job_outlives_its_parent(program, tmp_path):
    folder = tmp_path / "steps.job"
    script = ("import sys; from understudy.core import jobs; jobs.PROGRAM = sys.argv[1];"
              "jobs.start(['sample', sys.argv[2]], sys.argv[3], detach=True)")
    subprocess.run([sys.executable, "-c", script, program, tmp_path / "steps", folder], check=True)
    watcher = Watcher(folder)
    wait(watcher, moving)
    before = watcher.state.progress["done"]
    wait(watcher, lambda watcher: watcher.state.progress["done"] > before)
    events.cancel(folder)
    wait(watcher)
    assert watcher.state.state == "cancelled"


# ---- the same from a terminal or a script


def run(program, *arguments, **options):
    return subprocess.Popen([sys.executable, "-I", str(program), *map(str, arguments)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, encoding="utf-8", **options)


def test_json_has_nothing_but_events(program, tmp_path):
    out, err = run(program, "sample", tmp_path / "noise", "--json").communicate(timeout=PATIENCE)
    assert [events.parse_event(line.encode())["type"] for line in out.splitlines()] == ["hello", "done"]
    assert err == ""
    assert "put by C" in (tmp_path / "noise.job" / "log.txt").read_text()


def test_ctrl_c_cancels(program, tmp_path):
    process = run(program, "sample", tmp_path / "steps")
    watcher = Watcher(tmp_path / "steps.job")
    wait(watcher, moving)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 3
    assert "understudy: Cancelled." in err and "Traceback" not in err
    assert job_state(watcher.folder).state == "cancelled"


def test_closed_pipe_does_not_stop_the_job(program, tmp_path):
    process = run(program, "sample", tmp_path / "steps", "--json")
    process.stdout.close()
    watcher = Watcher(tmp_path / "steps.job")
    wait(watcher, moving)
    before = watcher.state.progress["done"]
    wait(watcher, lambda watcher: watcher.state.progress["done"] > before)
    events.cancel(watcher.folder)
    assert process.wait(PATIENCE) == 3
    process.stderr.close()


def test_watch_ends_with_the_job_and_its_exit_code(program, begin):
    job = begin("steps")
    wait(job, moving)
    watch = run(program, "watch", job.folder)
    assert "running" in watch.stdout.readline()
    assert "steps" in watch.stdout.readline()  # progress
    stop = run(program, "watch", job.folder, "--cancel")
    out, err = stop.communicate(timeout=PATIENCE)
    assert stop.returncode == 3 and "Cancelled." in err
    watch.communicate(timeout=PATIENCE)
    assert watch.returncode == 3
    out, _ = run(program, "watch", job.folder, "--json").communicate(timeout=PATIENCE)  # and when all is over
    assert [events.parse_event(line.encode()) for line in out.splitlines()] == read_events(job.folder)[0]


def test_interrupted_watch_leaves_the_job(program, begin):
    job = begin("steps")
    wait(job, moving)
    watch = run(program, "watch", job.folder)
    watch.stdout.readline()
    watch.send_signal(signal.SIGINT)
    assert watch.wait(PATIENCE) == 3
    watch.communicate()
    job.poll()
    assert job.state.state == "running"


def test_watch_tells_of_a_dead_job(program, begin):
    job = begin("crash")
    wait(job)
    watch = run(program, "watch", job.folder)
    out, err = watch.communicate(timeout=PATIENCE)
    assert watch.returncode == 1
    assert "about to crash" in err and "without a last word" in err


def test_terminal_shows_a_bar(program, tmp_path):
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (25, 120))
    process = subprocess.Popen([sys.executable, "-I", str(program), "sample", str(tmp_path / "steps")],
                               stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    seen, stopped, deadline = b"", False, time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        if select.select([ours], [], [], 0.1)[0]:
            with contextlib.suppress(OSError):  # the other side has closed
                seen += os.read(ours, 4096)
        if b"left" in seen and not stopped:
            stopped = True
            process.send_signal(signal.SIGINT)
    process.kill()
    os.close(ours)
    assert process.wait() == 3
    assert b"/100000 steps" in seen and b"steps/s" in seen
