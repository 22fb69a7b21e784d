"""reproduce: the paper's evaluation on any actor."""

import argparse
import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ..training.variants import PARTS
from .running import add_device, run_job


def add_commands(command: Callable) -> None:
    """The options of this file's commands."""
    made = command("reproduce", run_reproduce, "try every claim of the paper on an actor, and write a report",
                   "Trains what the paper compares, each for as many frames, measures, and says which claims held. It "
                   "only reads the actor. Stopped at any time, it goes on where it was; --parts can be added "
                   "later.",
                   "otto --out otto-paper --minutes-per-run 1.5", "otto --out otto-paper --parts speed components",
                   "otto --out otto-200 --paper --device cuda")
    made.epilog += "\n\nparts:\n" + "\n".join(f"  {name:18}{what}" for name, what in PARTS.items())
    made.add_argument("folder", metavar="ACTOR", help="the actor folder")
    made.add_argument("--out", required=True, metavar="DIR", help="folder of the runs, the report and the job")
    made.add_argument("--parts", nargs="+", default=(), metavar="PART", help="only these (default: all)")
    length = made.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=float, metavar="N", help="length of every run (default: 1)")
    length.add_argument("--minutes-per-run", type=float, metavar="M",
                        help="as many epochs as the paper's network is shown in M minutes here")
    length.add_argument("--paper", action="store_true", help="the paper's 200 epochs and batches of 50")
    made.add_argument("--batch", type=int, metavar="N", help="frames a step (default: 50 for long runs, else 16)")
    made.add_argument("--seeds", type=int, metavar="N", help="how often the base is trained (default: 3)")
    made.add_argument("--run", dest="run_folder", metavar="RUN",
                      help="a finished run for Figure 4 (default: the longest there is)")
    made.add_argument("--model", metavar="M", help="the converged model (default: ACTOR/model.safetensors)")
    add_device(made)


def run_reproduce(options: argparse.Namespace) -> None:
    out = Path(options.out)

    def work(job) -> str:
        from ..training.reproduce import reproduce

        results = reproduce(options.folder, out, parts=options.parts, epochs=200.0 if options.paper else options.epochs,
                            minutes=options.minutes_per_run, batch=options.batch, seeds=options.seeds,
                            run=options.run_folder, model=options.model, device=options.device, report=job)
        verdicts = Counter(claim["verdict"] for claim in results["claims"])
        job.results.update(verdicts=dict(verdicts))
        lines = [f"{claim['verdict']:14}{claim['says']}: {claim['ours']}" for claim in results["claims"]]
        return "\n".join([*lines, ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()) + ".",
                          f"The report is {shlex.quote(str(out / 'report.html'))}."])

    run_job(options, out, "reproduce", work)
