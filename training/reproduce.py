"""Reproduce the paper on any actor (Laine et al. 2017): train what it compares, measure what it claims, write it down.

OUT/runs/NAME is a training run, finished ones are kept; OUT/measured/NAME.json is what was measured; results.json and
report.html are made anew from all that is there. So it can be stopped at any time, and gone on with.
"""

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from ..core.actor import Actor
from ..core.architectures import PAPER
from ..core.errors import Cancelled, UnderstudyError
from ..core.files import hash_file, make_folder, read_json, write_json
from ..core.jobs import Job, Reporter, plain
from ..core.runs import Run
from . import measures, peer
from .claims import judge
from .config import Config
from .loop import train
from .reproduce_page import write_page
from .variants import PARTS, Variant, base_config, plan

EPOCHS = 1.0          # of every run, if nobody says how long
VALIDATIONS = 12      # along a run, so that it has a curve
SEEDS = 3
TRIAL_MINUTES = 0.5   # to find out how fast training is


def reproduce(
    actor_folder: Path | str,          # the actor folder, which is only read
    out: Path | str,                   # folder of the runs and the report; goes on with what is there
    parts: Sequence[str] = (),         # of PARTS. Empty = all
    epochs: float | None = None,       # length of every run. None = as begun, or EPOCHS
    minutes: float | None = None,      # instead: how long the base is to take on this machine
    batch: int | None = None,          # frames a step. None = as begun, or the paper's 50; 16 for short runs
    seeds: int | None = None,          # how often the base is trained. None = as begun, or SEEDS
    run: Path | str | None = None,     # finished run for Figure 4. None = the actor's longest, or the base
    model: Path | str | None = None,   # the converged model. None = the actor's, or the base
    device: str = "auto",              # "auto", "cpu", "cuda", ...
    report: Reporter = Reporter(),     # told what happens; asked whether to stop
) -> dict:
    """Train, measure and judge; returns what results.json holds.

    Raises UnderstudyError for an actor that cannot be trained, for parts that there are not, and where OUT was begun
    with another length or actor; Cancelled after writing the report of what is there.
    """
    actor = Actor.load(actor_folder)
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        raise UnderstudyError(f"There is no part {unknown[0]!r}; there are {', '.join(PARTS)}.")
    if not actor.validation_shots():
        raise UnderstudyError(f"{actor.name} has no cleaned validation shot, and without one nothing can be compared.")
    out = make_folder(out)
    whole = _Reproduction(actor, out, set(parts or PARTS), device, report)
    whole.settle(epochs, minutes, batch, seeds)
    whole.name(run=run, model=model)
    try:
        whole.train_all(minutes)
        whole.measure_all()
    except Cancelled:
        whole.write()
        raise
    return whole.write()


class _Training(Job):
    """The job of one run, which stops when the whole is to stop and shows its progress as a part of it."""

    def __init__(self, folder: Path, whole: Reporter, show: Callable[[dict], None]):
        super().__init__(folder, "train", show=show)
        self._whole = whole

    def cancelled(self) -> bool:
        return super().cancelled() or self._whole.cancelled()


class _Reproduction:
    """What OUT holds, and what makes more of it."""

    def __init__(self, actor: Actor, out: Path, parts: set[str], device: str, report: Reporter):
        self.actor, self.out, self.parts, self.device, self.report = actor, out, parts, device, report
        self.frames = sum(len(shot.frames()) for shot in actor.training_shots())
        self.settings: dict = {}

    def settle(self, epochs: float | None, minutes: float | None, batch: int | None, seeds: int | None) -> None:
        """Fix the length of all runs, or find it as it was fixed: what is to be compared must be alike."""
        path = self.out / "reproduction.json"
        begun = read_json(path) if path.exists() else {}
        if begun.get("epochs") is None or not any((self.out / "runs").glob("*/config.json")):  # nothing to be alike
            length = None if minutes else epochs or begun.get("epochs") or EPOCHS
            begun |= {"actor": self.actor.name, "topology": self.actor.template.hash, "frames": self.frames,
                      "epochs": length, "batch": base_config(length or EPOCHS, batch).batch}
        if (begun["topology"], begun["frames"]) != (self.actor.template.hash, self.frames):
            raise UnderstudyError(f"{self.out} was begun with {begun['actor']} and {begun['frames']} training frames, "
                                  f"not with {self.actor.name} and {self.frames}. Name another folder.")
        for what, value in (("epochs", epochs), ("batch", batch)):
            if value is not None and begun[what] != value:
                raise UnderstudyError(f"{self.out} was begun with {begun[what]:g} for {what}, not {value:g}; what is "
                                      "compared must be alike. Name another folder, or leave that out.")
        begun["seeds"] = max(begun.get("seeds", 0), seeds or 0) or SEEDS
        self.settings = begun
        write_json(path, begun)

    def name(self, **paths: Path | str | None) -> None:
        """Remember what figures are to be drawn from, where that was named."""
        self.settings |= {what: str(Path(path).absolute()) for what, path in paths.items() if path is not None}
        write_json(self.out / "reproduction.json", self.settings)

    def config(self, variant: Variant) -> Config:
        base = base_config(self.settings["epochs"], self.settings["batch"])
        config = variant.config(base)
        shown = config.epochs * self.frames
        return dataclasses.replace(config, validation_frames=int(min(400, max(40, shown / VALIDATIONS / 10))))

    # ---- training

    def train_all(self, minutes: float | None) -> None:
        """Train what is asked for and not yet there."""
        wanted = [variant for variant in plan(self.settings["seeds"]) if variant.part in self.parts]
        if self.settings["epochs"] is None:
            wanted[:0] = [variant for variant in plan(1) if variant.needed and variant not in wanted]
            self._find_length(wanted[0], minutes)
        wanted = [variant for variant in wanted if not self.finished(variant)]
        lengths = [round(self.config(variant).epochs * self.frames) for variant in wanted]
        for number, variant in enumerate(wanted):
            self.report.status(f"Run {number + 1} of {len(wanted)}, {variant.name}: {variant.what}")
            try:
                self._train(variant, self.config(variant), sum(lengths[:number]), sum(lengths))
            except Cancelled:
                raise
            except UnderstudyError as error:
                if variant.needed:
                    raise
                self.report.warning(f"{variant.name} was left out: {error}")

    def _find_length(self, first: Variant, minutes: float) -> None:
        """The length of all runs: what the first is shown in `minutes`, by how fast it begins."""
        self.report.status(f"Finding out how many frames {minutes:g} minutes show")
        config = dataclasses.replace(base_config(EPOCHS, self.settings["batch"]), minutes=min(minutes, TRIAL_MINUTES))
        trial = Run(self._train(dataclasses.replace(first, name="trial"), config, 0, 0))
        trial.catch_up()
        self.settings["epochs"] = round(60 * minutes * trial.train[-1][0] / trial.seconds / self.frames, 3)
        write_json(self.out / "reproduction.json", self.settings)
        shutil.rmtree(trial.folder)

    def folder(self, variant: Variant) -> Path:
        return self.out / "runs" / variant.name

    def finished(self, variant: Variant) -> bool:
        """Whether a run is there, done, and of this configuration."""
        run = Run(self.folder(variant))
        run.catch_up()
        return run.state == "done" and run.final is not None and self._same(variant)

    def _same(self, variant: Variant) -> bool:
        try:
            stored = Config.from_json(read_json(self.folder(variant) / "config.json").get("config", {}))
        except UnderstudyError:
            return False
        return stored == self.config(variant)

    def _train(self, variant: Variant, config: Config, before: float, total: float) -> Path:
        """Train one run, or go on with it; `before` of `total` frames of all runs lie behind. Returns its folder."""
        folder = self.folder(variant)
        resumable = config.minutes is None and (folder / "checkpoint.safetensors").exists() and self._same(variant)
        if folder.exists() and not resumable:
            shutil.rmtree(folder)

        def show(event: dict) -> None:
            if event["type"] == "progress" and event["unit"] == "frames" and total:
                self.report.progress(before + event["done"], total, "frames")

        with _Training(folder, self.report, show) as job:
            train(self.actor.folder, config, run=folder, resume=folder if resumable else None, device=self.device,
                  report=job, use=False)
        for name in ("checkpoint.safetensors", "start.safetensors"):  # of the size of several models, and done with
            (folder / name).unlink(missing_ok=True)
        return folder

    # ---- measuring

    def measure_all(self) -> None:
        """Measure what is asked for and not yet known."""
        make_folder(self.out / "measured")
        for variant in plan(self.settings["seeds"]):
            if variant.solves and variant.part in self.parts and self.finished(variant):
                path = self.folder(variant) / "model.safetensors"
                self._remember(variant.name, path, f"Measuring {variant.name}",
                               lambda path=path, moved=variant.moved: measures.model(
                                   self.actor, path, self.device, moved, self.report))
        converged = self._converged()
        if converged is None:
            return
        measure = {
            "evaluation": lambda: measures.evaluation(self.actor, converged, self.out, self.device, self.report),
            "components": lambda: measures.components(self.actor, self.report),
            "speed": lambda: measures.speed(converged, self.device),
            "peer": lambda: peer.compare(self.actor, converged, self.out, self.device, self.report),
        }
        for name, function in measure.items():
            if name in self.parts:
                self._remember(name, converged, f"Measuring {PARTS[name]}", function)
        if not (self.out / "figure3.png").exists():
            measures.figure3(self.actor, self.config(plan(1)[0]), self.out / "figure3.png", self.report)

    def _converged(self) -> Path | None:
        """The model that the paper's figures are drawn from here."""
        base = self.folder(plan(1)[0]) / "model.safetensors"
        named = self.settings.get("model")
        listed = [Path(named)] if named else [self.actor.folder / "model.safetensors", base]
        return next((path for path in listed if path.is_file()), None)

    def _remember(self, name: str, model: Path, status: str, function: Callable[[], dict]) -> None:
        """Measure once for each model."""
        path, sha256 = self.out / "measured" / f"{name}.json", hash_file(model)
        if path.exists() and read_json(path).get("model_sha256") == sha256:
            return
        self.report.check_cancel()
        self.report.status(status)
        try:
            found = function()
        except Cancelled:
            raise
        except UnderstudyError as error:
            self.report.warning(f"{name} was not measured: {error}")
            found = {"reason": str(error)}
            sha256 = ""  # to be tried again
        write_json(path, {"model_sha256": sha256, **found})

    # ---- writing

    def write(self) -> dict:
        """Judge every claim by what is there; write results.json and report.html."""
        measured = {path.stem: read_json(path) for path in sorted((self.out / "measured").glob("*.json"))}
        runs = {}
        for variant in plan(self.settings["seeds"]):
            run = Run(self.folder(variant))
            run.catch_up()
            if run.folder.exists():
                runs[variant.name] = {"what": variant.what, "part": variant.part, **_facts(run)}
        results = {"actor": self.actor.name, "settings": self.settings, "runs": runs, "measured": measured,
                   "converged": self._converged_run(runs)}
        results["claims"] = [dataclasses.asdict(claim) for claim in judge(results)]
        write_json(self.out / "results.json", plain(results))
        write_page(self.out, results)
        self.report.artifact(self.out / "report.html", "report")
        return results

    def _converged_run(self, runs: dict) -> dict | None:
        """The longest convolutional run that there is: the one that was named, the actor's, or the base."""
        named = self.settings.get("run")
        folders = [Path(named)] if named else [run.parent for run in (self.actor.folder / "runs").glob("*/config.json")]
        found = [{"name": "base", **runs["base"]}] if "base" in runs and not named else []
        for folder in folders:
            run = Run(folder)
            run.catch_up()
            if _convolutional(folder):
                found.append({"name": "/".join(folder.absolute().parts[-3:]), **_facts(run)})
        return max((run for run in found if run["rmse_mm"]), key=lambda run: run["images"], default=None)


def _facts(run: Run) -> dict:
    return {"state": run.state, "text": run.text, "rmse_mm": run.final, "errors": run.errors, "train": run.train,
            "validation": run.validation, "images": run.images, "seconds": run.seconds,
            "config": run.config}


def _convolutional(folder: Path) -> bool:
    try:
        return Config.from_json(read_json(folder / "config.json").get("config", {})).architecture == PAPER
    except UnderstudyError:
        return False
