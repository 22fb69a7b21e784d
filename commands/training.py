"""train: a job that outlives who started it."""

import argparse
import dataclasses
import os
import shlex
import time
from collections.abc import Callable
from pathlib import Path

from ..core.architectures import ARCHITECTURES, PAPER, check_architecture
from .running import add_device, run_job

CHANGES = ("epochs", "minutes", "batch", "seed", "freeze_output", "painted", "gaps", "velocity")  # of the preset


def add_commands(command: Callable) -> None:
    """The options of this file's commands."""
    train = command("train", run_train, "train an actor's network on the cleaned shots",
                    "The best model on the validation shots is put at DIR/model.safetensors. Ctrl-C saves a checkpoint "
                    "to --resume from.",
                    "otto --minutes 20", "otto --preset paper --device cuda",
                    "otto --resume otto/runs/2026-03-01_18-00-00", "otto --from otto/model.safetensors --epochs 5")
    train.epilog += ("\n\non several GPUs or machines, the batch being shared out among them:\n"
                     "  torchrun --nproc-per-node 4 -m understudy train otto --batch 200")
    train.epilog += "\n\narchitectures:\n" + "\n".join(f"  {name:30}{what}" for name, what in ARCHITECTURES.items())
    train.add_argument("folder", metavar="DIR", help="the actor folder")
    length = train.add_mutually_exclusive_group()
    length.add_argument("--preset", metavar="P",
                        help="paper (200 epochs; default), quick (15), smoke (does it run at all?)")
    length.add_argument("--epochs", type=float, metavar="N", help="the paper's schedule over N epochs")
    length.add_argument("--minutes", type=float, metavar="M", help="the schedule of preset quick over M minutes")
    length.add_argument("--resume", metavar="RUN", help="go on with a run that was stopped, as if it never had been")
    train.add_argument("--from", dest="start_from", metavar="MODEL", help="go on from a model, on what it has not "
                       "learned and with a share of what it has; with a schedule for that, as long as asked for")
    train.add_argument("--run", dest="run_folder", metavar="RUN", help="run folder (default: DIR/runs/DATE_TIME)")
    train.add_argument("--architecture", metavar="A", help="another network than the paper's, to compare with it")
    train.add_argument("--freeze-output", action="store_true", default=None, help="keep the output layer from PCA")
    train.add_argument("--batch", type=int, metavar="N", help="frames a step (default: 50, the paper's)")
    train.add_argument("--seed", type=int, metavar="N", help="of the initial weights and the augmentation (default: 0)")
    train.add_argument("--painted", action="store_true", default=None,
                       help="let vertices count as the actor's painted weights say")
    train.add_argument("--gaps", type=float, metavar="W",
                       help="weight of the gaps between the lips and between the lids, beside the paper's loss")
    train.add_argument("--velocity", type=float, metavar="W",
                       help="weight of how the error changes from a frame to the next, beside the paper's loss")
    train.add_argument("--tensorboard", action="store_true", help="mirror the metrics to RUN/tensorboard")
    add_device(train)
    train.add_argument("--gpu-memory", type=float, default=0, metavar="GB",
                       help="what it may take of a GPU (default: as much as it needs)")


def run_train(options: argparse.Namespace) -> None:
    from ..core import process
    from ..core.actor import Actor
    from ..core.errors import UnderstudyError, UsageError
    from ..core.jobs import STARTED
    from ..core.modelfile import ModelFile

    start = ModelFile.load(options.start_from) if options.start_from else None
    architecture = options.architecture or (start.architecture if start else PAPER)
    check_architecture(architecture)
    Actor.load(options.folder)  # says what is wrong before a run folder is made
    changes = {name: value for name in CHANGES if (value := vars(options)[name]) is not None}
    if options.resume and (changes or options.architecture or options.start_from or options.run_folder):
        raise UsageError("--resume goes on with the run as it was begun: leave out what would change it.")
    if options.resume and not (Path(options.resume) / "config.json").is_file():
        raise UnderstudyError(f"{options.resume} is no run: it has no config.json. Runs lie in {options.folder}/runs.")
    if STARTED in os.environ:  # by a program with a window, which has to stay live
        process.step_back()
    process.gpu_memory = options.gpu_memory
    folder = Path(options.resume or options.run_folder
                  or Path(options.folder) / "runs" / time.strftime("%Y-%m-%d_%H-%M-%S"))

    def work(job) -> str:
        job.status("Loading PyTorch")  # beside other programs, with the priority that a window leaves, it takes a while
        from ..training.config import Config
        from ..training.loop import train

        preset = options.preset or ("quick" if options.minutes else "paper")
        config = Config.preset(preset).of(architecture)
        config = dataclasses.replace(config.fine_tuning() if options.start_from else config, **changes)
        train(options.folder, config, run=folder, resume=options.resume, start_from=options.start_from,
              device=options.device, report=job)
        return (f"The model is {Path(options.folder) / 'model.safetensors'}, the run {folder}. "
                f"Next: understudy evaluate {shlex.quote(options.folder)} --out report")

    if int(os.environ.get("RANK", 0)):  # torchrun started several of us: the first has the job, this one only helps
        from ..core.jobs import Deputy

        process.prepare()
        with Deputy() as deputy:
            work(deputy)
        return
    refuse_a_second(Path(options.folder), folder)
    run_job(options, folder, "train", work, tensorboard=options.tensorboard)


def refuse_a_second(actor: Path, folder: Path) -> None:
    """Raise UnderstudyError if another run trains this actor, here or on another machine."""
    from ..core.errors import UnderstudyError
    from ..core.runs import list_runs, why_not_now

    live = [run for run in list_runs(actor) if run.live and run.folder.resolve() != folder.resolve()]
    if live:
        raise UnderstudyError(f'{why_not_now(live)}. To stop it: understudy watch --cancel "{live[0].folder}"')
