"""The command line: `understudy`, `python -m understudy`, or this file run by any interpreter that has torch.

Parses, calls one function of core or training, prints. Whatever is heavy is imported by the command that needs it.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import queue
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - anybody may choose any interpreter, and wants no traceback for it
    sys.exit(f"Understudy needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}.")

EPILOG = """\
from cleaned shots to a solved take:
  understudy new otto --template otto.obj --unit cm --crop 0 0 1200 1600
  understudy add-shot otto rom --footage rom.mov --vertices rom.pc2 --role extreme --split train
  understudy add-shot otto talk --footage talk.mov --vertices talk.pc2 --role pangram --split validation
  understudy check otto
  understudy train otto --minutes 20
  understudy solve otto/model.safetensors take.mov --out take.pc2
  understudy evaluate otto --out report
without an actor at hand, start with: understudy sample demo

exit codes: 0 done, 1 failed, 2 wrong arguments, 3 cancelled (Ctrl-C once, and the job ends after its step)
"""


# s that a served command has to stop when whoever asked for it is gone, and when it is in the middle of a cache
ORPHAN_GRACE, CACHE_GRACE = 1.5, 30.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 done, 1 failed, 2 wrong arguments, 3 cancelled."""
    return attempt(arguments)[0]


def attempt(arguments: Sequence[str] | None) -> tuple[int, bool]:
    """Run one command; returns its exit code, and whether a job folder tells of how it ended."""
    from .core.errors import Cancelled, UnderstudyError
    from .core.jobs import sentence

    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # not a stream of Python's own
            stream.reconfigure(errors="backslashreplace")
    try:
        options = parser().parse_args(arguments)
    except SystemExit as stop:  # argparse has said why
        return int(stop.code or 0), False
    try:
        return options.run(options) or 0, options.told
    except KeyboardInterrupt:
        error: BaseException = Cancelled("Cancelled.")
    except Exception as caught:
        error = caught
    if options.debug:
        traceback.print_exception(error)
    if options.json and not options.told:
        event = {"type": "cancelled" if isinstance(error, Cancelled) else "failed", "text": sentence(error)}
        print(json.dumps(event, ensure_ascii=False))
    print(f"understudy: {sentence(error)}", file=sys.stderr)
    if not isinstance(error, UnderstudyError) and not options.debug:
        print("Add --debug to see where this came from.", file=sys.stderr)
    return getattr(error, "exit_code", 1), options.told


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    from . import __version__
    from .commands import actor, dailies, questions, reproducing, review, solving, training

    root = argparse.ArgumentParser(
        prog="understudy", description="Learn an actor's face from cleaned shots and solve the rest of the footage.",
        epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
        parents=[common_options()])
    root.set_defaults(json=False, debug=False, told=False)
    root.add_argument("--version", action="version", version=f"understudy {__version__}")
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Callable, help: str, text: str, *examples: str) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name, help=help, description=textwrap.fill(f"{help[0].upper()}{help[1:]}. {text}", 80),
            allow_abbrev=False, parents=[common_options()],
            epilog="examples:\n" + "\n".join(f"  understudy {name} {example}" for example in examples),
            formatter_class=argparse.RawDescriptionHelpFormatter)
        added.set_defaults(run=run)
        return added

    for theme in (actor, training, solving, review, reproducing, dailies, questions):
        theme.add_commands(command)
    add_serve(command)
    return root


def common_options() -> argparse.ArgumentParser:
    """What may stand before or after the command. Made anew for each parser, which sets defaults of its own."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS,
                        help="print what happens as lines of JSON, for programs")
    common.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="print tracebacks of errors")
    return common


def add_serve(command: Callable) -> None:
    """serve: the others, one after another."""
    served = command("serve", run_serve, "run the commands that come on standard input, for programs",
                     "One JSON list of arguments a line, each with --job DIR, which is where it is answered. The last "
                     "model stays loaded. When standard input ends, the running command is cancelled.", "")
    served.add_argument("--gpu-memory", type=float, default=0, metavar="GB",
                        help="gigabytes of GPU memory that it may take (default: as much as it needs)")


def run_serve(options: argparse.Namespace) -> None:
    from .core import process
    from .core.jobs import STARTED, follow_parent

    process.gpu_memory = options.gpu_memory
    os.environ.pop(STARTED, None)
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def hear(line: bytes) -> None:
        lines.put(line)
        if not line:
            threading.Thread(target=give_up, daemon=True).start()

    process.step_back()
    follow_parent(hear)
    while line := lines.get():
        serve(json.loads(line))


def give_up() -> None:
    """End this process, whose parent is gone, also in the middle of a long step; but leave no half cache if possible.

    Importing torch is such a step, and nothing is being written then.
    """
    end = time.monotonic() + CACHE_GRACE
    time.sleep(ORPHAN_GRACE)
    while getattr(sys.modules.get(f"{__package__}.core.live"), "growing", None) and time.monotonic() < end:
        time.sleep(0.02)
    os._exit(3)


def serve(arguments: list[str]) -> None:
    """Run one command whose job folder is named by its last --job, and see to it that the folder tells how it ended."""
    from .core.errors import UsageError
    from .core.events import Watcher
    from .core.jobs import STARTED, Job
    from .core.terminal import noise_to

    folder = Path(arguments[-arguments[::-1].index("--job")])
    os.environ[STARTED] = "served"
    with noise_to(folder / "log.txt"):
        code, told = attempt(arguments)
    # It failed before its job began, or had no room for its last word. Without a folder to write to, this process ends,
    # which is seen too.
    if not told:
        with contextlib.suppress(UsageError), Job(folder, arguments[0]):
            if code:
                raise UsageError(next(iter(Watcher(folder).log_tail(1)), f"It ended with exit code {code}."))


def load_as_package() -> Callable:
    """This folder as the package `understudy`, whatever the folder is called, and its `main`."""
    root = Path(__file__).resolve().parent
    spec = importlib.util.spec_from_file_location("understudy", root / "__init__.py",
                                                  submodule_search_locations=[str(root)])
    sys.modules["understudy"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    packages = os.environ.get(importlib.import_module("understudy.core.jobs").PACKAGES, "")
    sys.path += [folder for folder in packages.split(os.pathsep) if folder]  # -I ignores PYTHONPATH
    return importlib.import_module("understudy.__main__").main


if __name__ == "__main__":
    sys.exit(main() if __package__ else load_as_package()())
