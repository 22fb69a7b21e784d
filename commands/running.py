"""How a command runs and answers: in a job folder, or at once; and the options that several commands share."""

import argparse
import contextlib
import faulthandler
import json
import os
import time
from collections.abc import Callable
from pathlib import Path


def add_crop(command: argparse.ArgumentParser, help: str) -> None:
    command.add_argument("--crop", nargs=4, type=float, metavar=("X", "Y", "W", "H"), help=help)


def add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", metavar="D", help="auto (default), cpu, cuda, cuda:1, mps")


def answer(options: argparse.Namespace, text: str, **results: object) -> None:
    """What a command without a job folder has to say."""
    from ..core.jobs import plain

    event = {"type": "done", "time": time.time(), **plain(results)}
    print(json.dumps(event, ensure_ascii=False) if options.json else text)


def run_question(options: argparse.Namespace, name: str, work: Callable[[], tuple[str, dict]]) -> None:
    """Print the text that `work` returns, or its results, or put them in a job folder."""
    def answer_in(job) -> str:
        text, results = work()
        job.results.update(results)
        return text

    if options.job:
        run_job(options, options.job, name, answer_in)
    else:
        text, results = work()
        answer(options, text, **results)


def run_job(options: argparse.Namespace, folder: Path | str, command: str, work: Callable,
            tensorboard: bool = False) -> None:
    """Do `work(job)` in a job folder, show it as the options say, and print the text that it returns."""
    from .. import __version__
    from ..core.files import make_folder
    from ..core.jobs import STARTED, Job
    from ..core.process import prepare
    from ..core.terminal import Lines, Screen, noise_to

    folder = make_folder(folder)
    started = STARTED in os.environ  # by a program that reads the events itself
    with noise_to(folder / "log.txt") as (out, err), contextlib.ExitStack() as stack:
        screen = Lines(out) if options.json else Screen(err)
        stack.callback(screen.close)
        listeners: list[Callable[[dict], None]] = [] if started else [screen.show]
        if tensorboard:
            listeners.append(mirror(folder / "tensorboard", stack))

        def show(event: dict) -> None:
            for listener in listeners:
                listener(event)

        job = Job(folder, command, show=show, version=__version__)
        try:
            with job:
                faulthandler.enable(2, all_threads=False)  # a crash in C code leaves its Python lines in the log
                prepare()
                text = work(job)
        finally:
            options.told = job.told
    if not options.json:
        print(text)


def mirror(folder: Path, stack: contextlib.ExitStack) -> Callable[[dict], None]:
    """A listener that writes every number of `metrics` events for TensorBoard, over training frames shown."""
    from ..core.errors import UnderstudyError

    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UnderstudyError("TensorBoard is not installed: pip install tensorboard") from None
    writer = stack.enter_context(SummaryWriter(str(folder)))

    def show(event: dict) -> None:
        if event["type"] == "metrics":
            for name, value in event.items():
                if name not in ("time", "images") and isinstance(value, (int, float)):
                    writer.add_scalar(name, value, event.get("images"), event["time"])

    return show
