"""A job folder: what a worker writes and what anybody reads, including what nobody should have written."""

import json
import os
import signal
import threading
import time

import numpy as np
import pytest

from understudy.core import events, jobs
from understudy.core.errors import Cancelled, UnderstudyError
from understudy.core.events import Watcher, job_state, read_events
from understudy.core.jobs import Job, Reporter, sentence


def kinds(folder):
    return [event["type"] for event in read_events(folder)[0]]


def test_reporter_is_silent():
    report = Reporter()
    report.progress(1, 2)
    report.metrics(loss=1.0)
    report.check_cancel()
    assert not report.cancelled()


def test_hello_first_and_done_last(tmp_path):
    with Job(tmp_path / "ü b", "train", version="1") as job:
        job.status("Reading")
        job.progress(1, 2, "frames", epoch=3)
        job.metrics(loss=np.float32(0.5), shots={"a": np.arange(2)}, bad=float("nan"))
        job.artifact(job.folder / "previews" / "a.png", "picture")
        job.warning("Few frames.")
        job.results["rmse"] = np.float64(1.25)
    found, offset = read_events(job.folder)
    assert [event["type"] for event in found] == [
        "hello", "status", "progress", "metrics", "artifact", "warning", "done"]
    assert found[0]["command"] == "train" and found[0]["pid"] == os.getpid() and found[0]["version"] == "1"
    assert found[2].items() >= {"done": 1, "total": 2, "unit": "frames", "epoch": 3}.items()
    assert found[3]["loss"] == 0.5 and found[3]["shots"] == {"a": [0, 1]} and found[3]["bad"] is None
    assert found[4]["path"] == "previews/a.png"
    assert found[6]["rmse"] == 1.25
    assert offset == (job.folder / "events.jsonl").stat().st_size
    state = job_state(job.folder)
    assert (state.state, state.exit_code, state.warnings) == ("done", 0, ["Few frames."])
    assert state.progress["done"] == 1 and state.metrics["loss"] == 0.5 and state.results == {"rmse": 1.25}


def test_what_an_event_is_cannot_be_overwritten(tmp_path):
    with Job(tmp_path, "x") as job:
        job.metrics(type="hello", time=-1)
    assert kinds(tmp_path) == ["hello", "metrics", "done"]


@pytest.mark.parametrize(("error", "last", "says", "logged"), [
    (UnderstudyError("The movie is short."), "failed", "The movie is short.", False),
    (ZeroDivisionError("division by zero"), "failed", "ZeroDivisionError: division by zero", True),
    (OSError(28, "No space left on device", "x.pc2"), "failed", "No space left on device: x.pc2", True),
    (MemoryError(), "failed", "not enough memory", True),
    (Cancelled("Stopped at frame 3."), "cancelled", "Stopped at frame 3.", False),
    (KeyboardInterrupt(), "cancelled", "Cancelled.", False),
])
def test_last_word_of_an_exception(tmp_path, error, last, says, logged):
    with pytest.raises(type(error)), Job(tmp_path, "x"):
        raise error
    state = job_state(tmp_path)
    assert state.state == last and says in state.text
    assert state.exit_code == {"failed": 1, "cancelled": 3}[last]
    log = "\n".join(Watcher(tmp_path).log_tail())
    assert (type(error).__name__ in log) == logged


def test_missing_library_is_a_sentence():
    error = ModuleNotFoundError("No module named 'torch'", name="torch")
    assert "torch is not installed" in sentence(error)


def test_cancel_file(tmp_path):
    with pytest.raises(Cancelled), Job(tmp_path, "x") as job:
        job.check_cancel()
        events.cancel(tmp_path)
        job._next_look = 0
        job.check_cancel()
    assert kinds(tmp_path) == ["hello", "status", "cancelled"]
    with Job(tmp_path, "x") as job:  # an old cancel is not meant for a new job
        job.check_cancel()
    assert job_state(tmp_path).state == "done"


def test_first_signal_cancels_and_second_interrupts(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Job(tmp_path, "x") as job:
        signal.raise_signal(signal.SIGINT)
        assert job.cancelled()
        signal.raise_signal(signal.SIGINT)
    assert job_state(tmp_path).state == "cancelled"
    assert signal.getsignal(signal.SIGINT) is before


def test_progress_is_thinned_but_never_loses_the_end(tmp_path):
    with Job(tmp_path, "x") as job:
        for done in range(1, 1001):
            job.progress(done, 1000)
        for done in range(1, 11):
            job.progress(done, 10, "pictures")
    shown = [event for event in read_events(tmp_path)[0] if event["type"] == "progress"]
    assert len(shown) < 100
    assert [event["done"] for event in shown if event["done"] == event["total"]] == [1000, 10]


def test_rate_and_time_left(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(jobs.time, "monotonic", lambda: now[0])
    job = Job(tmp_path, "x")
    job._event = lambda kind, **fields: shown.append(fields)
    shown = []
    for done in (10, 30, 50):
        job.progress(done, 110)
        now[0] += 4
    assert "rate" not in shown[0]
    assert (shown[2]["rate"], shown[2]["left"]) == (5.0, 12.0)
    job.progress(60, 110, left=99)
    assert shown[3]["left"] == 99  # the caller knows better
    job.progress(1, 110)
    assert "rate" not in shown[4]  # a new count begins


def test_listener_sees_all_and_may_go_away(tmp_path):
    seen = []

    def show(event):
        seen.append(event["type"])
        if len(seen) == 2:
            raise BrokenPipeError

    with Job(tmp_path, "x", show=show) as job:
        job.status("a")
        job.status("b")
    assert seen == ["hello", "status"]
    assert kinds(tmp_path) == ["hello", "status", "status", "done"]


def test_full_disk_does_not_hide_the_error(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with pytest.raises(UnderstudyError, match=r"The movie is short\."), Job(tmp_path, "x"):
        monkeypatch.setattr(jobs.os, "write", full)
        raise UnderstudyError("The movie is short.")
    monkeypatch.undo()
    assert kinds(tmp_path) == ["hello"]


def test_a_line_cut_by_a_full_disk_spoils_no_other(tmp_path, monkeypatch):
    write = os.write
    with Job(tmp_path, "x") as job:
        monkeypatch.setattr(jobs.os, "write", lambda file, line: write(file, line[:10]))
        job.status("lost")
        monkeypatch.undo()
        job.status("kept")
    assert kinds(tmp_path) == ["hello", "status", "done"]


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UnderstudyError, match="file"), Job(tmp_path / "file" / "run", "x"):
        pass


def test_threads_write_whole_lines(tmp_path):
    with Job(tmp_path, "x") as job:
        threads = [threading.Thread(target=lambda: [job.warning("w" * 500) for _ in range(100)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert kinds(tmp_path).count("warning") == 400
    job.warning("after the end")
    assert kinds(tmp_path)[-1] == "done"


def test_one_job_a_folder(tmp_path):
    with Job(tmp_path, "train"):
        with pytest.raises(UnderstudyError, match=f"process {os.getpid()}"), Job(tmp_path, "train"):
            pass
        with pytest.raises(UnderstudyError, match="is running"):
            jobs.start(["check", "x"], tmp_path)
    assert kinds(tmp_path) == ["hello", "done"]


def test_resumed_job_appends(tmp_path):
    with pytest.raises(Cancelled), Job(tmp_path, "train") as job:
        job.metrics(loss=2.0)
        raise Cancelled("Cancelled.")
    with open(tmp_path / "events.jsonl", "a") as file:
        file.write('{"type": "metr')  # and as if it had been killed while writing
    with Job(tmp_path, "train") as job:
        assert job_state(tmp_path).state == "running"
        assert job_state(tmp_path).metrics == {}
    assert kinds(tmp_path) == ["hello", "metrics", "cancelled", "hello", "done"]


# ---- reading


def line(**fields):
    return json.dumps({"time": 1.0, **fields}).encode() + b"\n"


HELLO = dict(type="hello", command="train", pid=2**22 + 1, host="elsewhere")


def test_torn_last_line_waits_for_its_rest(tmp_path):
    path = tmp_path / "events.jsonl"
    whole = line(type="status", text="é")
    path.write_bytes(line(**HELLO) + whole[:-4])
    found, offset = read_events(tmp_path)
    assert [event["type"] for event in found] == ["hello"]
    assert read_events(tmp_path, offset) == ([], offset)
    path.write_bytes(line(**HELLO) + whole)
    assert [event["text"] for event in read_events(tmp_path, offset)[0]] == ["é"]


def test_a_file_that_became_shorter_is_read_again(tmp_path):
    (tmp_path / "events.jsonl").write_bytes(line(**HELLO))
    assert len(read_events(tmp_path, 10**6)[0]) == 1


def test_no_file_no_events(tmp_path):
    assert read_events(tmp_path / "none") == ([], 0)
    assert job_state(tmp_path / "none").state == "waiting"


@pytest.mark.parametrize("garbage", [
    b"\n", b"null\n", b"[]\n", b"{}\n", b"\xff\xfe\x00\n", b'{"type": "stat', b"[" * 100000 + b"\n",
    b"9" * 5000 + b"\n", line(type="reboot"), line(type=["hello"]), line(type="hello"), line(**HELLO | {"pid": "1"}),
    line(**HELLO | {"pid": True}),
    line(type="progress", done="1", total=2, unit="frames"), line(type="progress", done=1, total=2, unit="f", rate="x"),
    b'{"type": "progress", "time": 1, "done": NaN, "total": 2, "unit": "f"}\n', line(type="status"),
    b'{"type": "progress", "time": 1, "done": 1e999, "total": 2, "unit": "f"}\n', line(type="status", text=None),
    b'{"type": "status", "text": "no time"}\n',
], ids=lambda garbage: garbage[:30].decode("ascii", "replace"))
def test_garbage_is_skipped(tmp_path, garbage):
    separator = b"" if garbage.endswith(b"\n") else b"\n"
    (tmp_path / "events.jsonl").write_bytes(line(**HELLO) + garbage + separator + line(type="done"))
    assert kinds(tmp_path) == ["hello", "done"]


def test_long_file_is_read_in_blocks(tmp_path):
    with open(tmp_path / "events.jsonl", "wb") as file:
        file.write(line(**HELLO))
        file.write(b"x" * (3 * events.BLOCK) + b"\n")  # no job writes such a line
        for number in range(30000):
            file.write(line(type="metrics", number=number))
        file.write(line(type="done"))
    watcher, largest, numbers = Watcher(tmp_path), 0, []
    while not watcher.state.ended:
        before = watcher._offset
        numbers += [event["number"] for event in watcher.poll() if event["type"] == "metrics"]
        largest = max(largest, watcher._offset - before)
    assert numbers == list(range(30000))
    assert largest <= events.BLOCK


def test_nothing_counts_after_the_last_word(tmp_path):
    (tmp_path / "events.jsonl").write_bytes(line(**HELLO) + line(type="failed", text="Short.") + line(type="done"))
    state = job_state(tmp_path)
    assert (state.state, state.text, state.exit_code) == ("failed", "Short.", 1)


# ---- life and death, seen from outside


def write_job(folder, beat, **hello):
    (folder / "events.jsonl").write_bytes(line(**HELLO | hello))
    (folder / "heartbeat").touch()
    os.utime(folder / "heartbeat", (beat, beat))


def test_dead_process_of_this_machine(tmp_path):
    write_job(tmp_path, time.time(), host=events.socket.gethostname(), pid=2**22 + 1)  # beyond any process id
    state = job_state(tmp_path)
    assert state.state == "dead" and state.exit_code == 1 and "without a last word" in state.text


def test_process_id_taken_by_another(tmp_path):
    write_job(tmp_path, time.time() - 3600, host=events.socket.gethostname(), pid=os.getpid())
    assert job_state(tmp_path).state == "dead"


def test_job_on_another_machine(tmp_path, monkeypatch):
    """Its clock may be wrong by a minute: what counts then is that the heartbeat changes."""
    now = [1000.0]
    monkeypatch.setattr(events.time, "monotonic", lambda: now[0])
    behind = time.time() - 0.9 * events.SKEW
    write_job(tmp_path, behind)
    watcher = Watcher(tmp_path)
    for beat in range(5):
        watcher.poll()
        now[0] += events.SILENCE * 0.9
        os.utime(tmp_path / "heartbeat", (behind + beat, behind + beat))
    watcher.poll()
    assert watcher.state.state == "running"
    now[0] += events.SILENCE * 1.1
    watcher.poll()
    assert watcher.state.state == "dead"
    with open(tmp_path / "events.jsonl", "ab") as file:  # it was only held up
        file.write(line(type="progress", done=1, total=2, unit="frames"))
    os.utime(tmp_path / "heartbeat", (behind + 60, behind + 60))
    watcher.poll()
    assert watcher.state.state == "running" and watcher.state.exit_code is None


def test_job_on_another_machine_that_is_long_gone(tmp_path):
    write_job(tmp_path, time.time() - 3600)
    assert job_state(tmp_path).state == "dead"


@pytest.mark.parametrize("pid", [0, -1, 10**14])
def test_impossible_process_ids_are_dead(pid):
    assert not events.process_lives(pid)
