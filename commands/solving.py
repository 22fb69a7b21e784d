"""solve, live, warm: from footage to vertices."""

import argparse
from collections.abc import Callable
from pathlib import Path

from .running import add_crop, add_device, run_job


def add_commands(command: Callable) -> None:
    """The options of this file's commands."""
    solve = command("solve", run_solve, "solve footage to a mesh cache",
                    "The cache's suffix says what it is: .pc2, .mdd or .npz. Frames count from 0.",
                    "otto/model.safetensors take.mov --out take.pc2",
                    "otto/model.safetensors take.mov --range 1200 1799 --out part.pc2",
                    "otto take.mov --range 300 340 --live --base take.v001.pc2 --out take.v002.pc2")
    solve.add_argument("model", metavar="MODEL", help="a model file, or an actor folder")
    solve.add_argument("footage", metavar="FOOTAGE", help="a movie, or a folder or pattern of pictures")
    solve.add_argument("--out", required=True, metavar="X.pc2",
                       help="the cache to write; beside it X.json tells of it, and X.npy holds its codes")
    solve.add_argument("--range", type=int, nargs=2, metavar=("A", "B"),
                       help="solve the frames A to B, B included (default: all)")
    solve.add_argument("--crop", type=float, nargs=4, metavar=("X", "Y", "W", "H"),
                       help="where the face is in this footage, 3:4, in pixels (default: where the model has it)")
    solve.add_argument("--live", action="store_true",
                       help="write X.pc2, a new file, so that Blender can show it while it grows")
    solve.add_argument("--base", metavar="OLD.pc2",
                       help="with --live: begin as a copy of this solve, and replace the range or go on behind it")
    size = solve.add_mutually_exclusive_group()
    size.add_argument("--batch", type=int, metavar="N", help="frames at once (default: what the device likes)")
    size.add_argument("--online", action="store_true", help="one frame at a time, each written as soon as it is read")
    solve.add_argument("--engine", default="auto", metavar="E", help="auto (default), torch, compiled, openvino")
    solve.add_argument("--job", metavar="DIR", help="job folder (default: X.job beside the cache)")
    add_device(solve)

    live = command("live", run_live, "let a camera, or a movie played in real time, drive the mesh",
                   "The newest vertices are in a small file that Blender looks at (core/livefeed.py). Frames that come "
                   "too fast are dropped. Ctrl-C ends it.",
                   "otto 0", "otto take.mov --job live.job")
    live.add_argument("model", metavar="MODEL", help="a model file, or an actor folder")
    live.add_argument("source", metavar="SOURCE", help="a camera, counted from 0, or a movie")
    live.add_argument("--out", metavar="FILE", help="the file for the vertices (default: JOB/vertices.live)")
    add_crop(live, "where the face is in the picture, 3:4, in pixels (default: where the model has it)")
    live.add_argument("--engine", default="auto", metavar="E", help="as in solve")
    live.add_argument("--job", metavar="DIR", help="job folder (default: live.job)")
    add_device(live)

    warm = command("warm", run_warm, "load a model, so that the next solve in this process begins at once",
                   "It is of use in `understudy serve` only.", "otto --job warm.job")
    warm.add_argument("model", metavar="MODEL", help="a model file, or an actor folder")
    warm.add_argument("--job", required=True, metavar="DIR", help="job folder")
    add_device(warm)


def run_solve(options: argparse.Namespace) -> None:
    out = Path(options.out)
    first, last = options.range or (None, None)

    def work(job) -> str:
        from ..core.modelfile import model_in
        from ..core.solve import solve

        sidecar = solve(model_in(options.model), options.footage, out, first=first, last=last,
                        batch=1 if options.online else options.batch, device=options.device, engine=options.engine,
                        crop=options.crop, live=options.live, base=options.base, report=job)
        job.results.update({name: sidecar[name] for name in ("first", "last", "engine", "device", "batch")})
        return f"Wrote frames {sidecar['first']} to {sidecar['last']} to {out}, solved by {sidecar['engine']}."

    run_job(options, options.job or out.with_suffix(".job"), "solve", work)


def run_live(options: argparse.Namespace) -> None:
    folder = Path(options.job or "live.job")

    def work(job) -> str:
        from ..core.livesolve import live
        from ..core.modelfile import model_in

        result = live(model_in(options.model), options.source, options.out or folder / "vertices.live",
                      device=options.device, engine=options.engine, crop=options.crop, report=job)
        job.results.update(result)
        return (f"{result['frames']} frames, {result['fps']:.0f} a second, each {result['latency_ms']:.0f} ms after it "
                f"was captured (95 % within {result['latency_95_ms']:.0f} ms); {result['dropped']} were dropped.")

    run_job(options, folder, "live", work)


def run_warm(options: argparse.Namespace) -> None:
    def work(job) -> str:
        from ..core.modelfile import model_in
        from ..core.solver import warm_up

        warm_up(model_in(options.model), options.device)
        return f"{options.model} is loaded."

    run_job(options, options.job, "warm", work)
