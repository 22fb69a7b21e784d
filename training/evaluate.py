"""How good is a model? Solves the validation shots and holds them against their cleaned vertices (paper, Sec. 5.3)."""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..core import draw, metrics
from ..core.actor import ROLES, Actor, Shot
from ..core.crop import network_input
from ..core.errors import UnderstudyError
from ..core.files import hash_file, make_folder, write_json, write_text
from ..core.footage import open_footage
from ..core.gaps import Opening, find_openings
from ..core.jobs import Reporter
from ..core.model import Model, load_model
from ..core.solver import Solver
from .dataset import check_length
from .report import MarkedFrame, write_report

CHUNK = 64  # frames held at a time
SHOWN = 12  # shots in the figures; the tables hold all
METHODS = ("rmse_mm", "mean_mesh_mm", "nearest_mm")  # the solve and the two baselines


@dataclass
class ShotErrors:
    """What was measured on one shot.

    samples : (n,).    errors : (3 methods, regions, n) mm.    motion : Motion.sums().
    widths : by gap, (2, n) mm, how wide lips and lids stand open in the solve and in the target.
    """

    shot: Shot
    samples: np.ndarray
    errors: np.ndarray
    motion: np.ndarray
    widths: dict[str, np.ndarray]


def evaluate(
    actor_folder: Path | str,         # the actor folder
    out: Path | str,                  # folder for the results, made if need be
    model: Path | str | None = None,  # model file. None = ACTOR/model.safetensors
    report: Reporter = Reporter(),    # told what happens; asked whether to stop
    device: str = "auto",             # "auto", "cpu", "cuda", ...
) -> dict:
    """Measure a model on the actor's validation shots; on its training shots, and saying so, when there are none.

    Writes evaluation.json (what is returned), frames.csv, shots.csv, report.html, figure6.png and figure7.png to `out`.
    All figures are RMSE over animated vertices in mm, pooled over frames. Memory does not grow with a shot's length.
    Raises UnderstudyError for a model of another mesh, or data that cannot be read.
    """
    actor = Actor.load(actor_folder)
    path = Path(model) if model is not None else actor.folder / "model.safetensors"
    trained = load_model(path)
    _check_same_mesh(actor, trained, path)
    training = _with_frames(actor.training_shots())
    if not training:
        raise UnderstudyError(f"{actor.name} has no cleaned training shot, so there is no baseline to compare with.")
    split, shots = "validation", _with_frames(actor.validation_shots())
    if not shots:
        split, shots = "train", training
        report.warning(f"{actor.name} has no cleaned validation shot, so its training shots are measured. "
                       "The figures say nothing about footage that the model has not seen.")
    out = make_folder(out)
    regions = regions_of(actor)

    progress = _Progress(report, sum(len(shot.frames()) for shot in training + shots))
    report.status("Reading the training frames for the baselines")
    baselines = _Baselines(training, actor.animated, trained, progress)
    solver = Solver(trained, device)
    openings = find_openings(actor, training)
    measured = []
    for shot in shots:
        report.status(f"Measuring {shot.name}")
        measured.append(_measure(shot, actor, trained, solver, baselines, regions, openings, progress))

    result = _result(actor, trained, path, split, training, measured, regions, openings)
    report.status("Writing the report")
    marked = _marked_frames(actor, trained, solver, measured[:SHOWN], result["overall"]["rmse_mm"], report)
    for shot_result, one in zip(result["shots"], measured, strict=True):
        shot_result["marked"] = [{"which": frame.which, "sample": frame.sample, "frame": frame.frame,
                                  "rmse_mm": frame.rmse_mm} for frame in marked if frame.shot == one.shot.name]
    _write_tables(out, result, measured, list(regions))
    curves = {one.shot.name: (one.shot.first_frame + one.samples, one.errors[0, 0]) for one in measured[:SHOWN]}
    write_report(out, result, curves, marked)
    write_json(out / "evaluation.json", result)
    for name, kind in (("report.html", "report"), ("evaluation.json", "table"), ("frames.csv", "table"),
                       ("shots.csv", "table"), ("figure6.png", "picture"), ("figure7.png", "picture")):
        report.artifact(out / name, kind)
    report.metrics(**{name: result["overall"]["regions"]["all"][name] for name in METHODS})
    return result


def _check_same_mesh(actor: Actor, model: Model, path: Path) -> None:
    if model.topology != actor.template.hash:
        counts = len(model.template.vertices), len(actor.template.vertices)
        raise UnderstudyError(f"{path} was trained on another mesh ({counts[0]} vertices) than {actor.name} has "
                              f"({counts[1]} vertices, or another order). Name a model of this actor, or train one.")
    if not np.isclose(model.unit, actor.unit):
        raise UnderstudyError(f"{path} counts in units of {model.unit:g} m, the actor in {actor.unit:g} m. "
                              "Train again after changing the unit.")


def _with_frames(shots: list[Shot]) -> list[Shot]:
    return [shot for shot in shots if len(shot.frames())]


def regions_of(actor: Actor) -> dict[str, np.ndarray]:
    """Name -> indices into the animated vertices; "all" first. Regions without an animated vertex are left out."""
    regions = {"all": np.arange(len(actor.animated))}
    for name, vertices in actor.regions.items():
        found = np.flatnonzero(np.isin(actor.animated, vertices))
        if name not in regions and len(found):
            regions[name] = found
    return regions


class _Progress:
    """Counts frames over all passes and asks whether to stop."""

    def __init__(self, report: Reporter, total: int):
        self.report, self.done, self.total = report, 0, total

    def step(self, frames: int) -> None:
        self.report.check_cancel()
        self.done += frames
        self.report.progress(self.done, self.total)


def _inputs(shot: Shot, model: Model, progress: _Progress) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`inputs_of` all frames of a shot, with progress."""
    for samples, inputs in inputs_of(shot, model, shot.frames()):
        progress.step(len(samples))
        yield samples, inputs


def inputs_of(shot: Shot, model: Model, samples: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The network inputs of frames of a shot as the model sees them: (samples (n,), inputs (n, 320, 240) uint8)."""
    with open_footage(shot.footage_path(), model.transfer) as footage:
        model.crop.check(footage.width, footage.height)
        check_length(shot, footage)
        pictures = footage.pick(shot.first_frame + samples, transform=partial(network_input, crop=model.crop))
        for first in range(0, len(samples), CHUNK):
            chunk = samples[first:first + CHUNK]
            yield chunk, np.stack([next(pictures) for _ in chunk])


class _Baselines:
    """What a network must beat: the mean of the training meshes, and the training frame with the nearest picture."""

    def __init__(self, shots: list[Shot], animated: np.ndarray, model: Model, progress: _Progress):
        self.animated = animated
        self.caches = [shot.vertices() for shot in shots]
        self.places: list[tuple[int, int]] = []  # cache and sample of each training frame
        pictures = []

        def meshes() -> Iterator[np.ndarray]:
            for number, shot in enumerate(shots):
                for samples, inputs in _inputs(shot, model, progress):
                    self.places += [(number, int(sample)) for sample in samples]
                    pictures.append(metrics.thumbnails(inputs))
                    yield self.caches[number][samples][:, self.animated]

        self.mean = metrics.mean_mesh(meshes())
        self.pictures = np.concatenate(pictures)

    def nearest(self, inputs: np.ndarray) -> np.ndarray:
        """(n, A, 3) meshes of the training frames whose pictures are nearest."""
        found = metrics.nearest(metrics.thumbnails(inputs), self.pictures)
        places = (self.places[i] for i in found)
        return np.stack([self.caches[cache][sample][self.animated] for cache, sample in places])


def _measure(shot: Shot, actor: Actor, model: Model, solver: Solver, baselines: _Baselines,
             regions: dict[str, np.ndarray], openings: dict[str, Opening], progress: _Progress) -> ShotErrors:
    """Solve one shot chunk by chunk and keep its errors."""
    cache = shot.vertices()
    motion = metrics.Motion(regions, actor.millimetres)
    errors, widths = [], {name: [] for name in openings}
    for samples, inputs in _inputs(shot, model, progress):
        target = cache[samples][:, actor.animated].astype(np.float32)
        solved = solver.solve(inputs)[:, actor.animated]
        motion.add(samples, solved, target)
        for name, opening in openings.items():
            widths[name].append([opening.width(meshes, actor.millimetres) for meshes in (solved, target)])
        candidates = solved, np.broadcast_to(baselines.mean, target.shape), baselines.nearest(inputs)
        errors.append([[metrics.rmse_per_frame(candidate[:, vertices], target[:, vertices], actor.millimetres)
                        for vertices in regions.values()] for candidate in candidates])
    return ShotErrors(shot, shot.frames(), np.concatenate(errors, axis=2), motion.sums(),
                      {name: np.concatenate(found, axis=1) for name, found in widths.items()})


def _summary(measured: list[ShotErrors], regions: Iterable[str], openings: dict[str, Opening]) -> dict:
    """The figures of one or several shots together."""
    errors = np.concatenate([one.errors for one in measured], axis=2)
    motion = metrics.motion_figures(sum(one.motion for one in measured), regions)
    solved = errors[0, 0]
    table = {name: {method: metrics.pooled(errors[i, row]) for i, method in enumerate(METHODS)} | motion[name]
             for row, name in enumerate(regions)}
    return {"frames": errors.shape[2], "rmse_mm": table["all"]["rmse_mm"], "median_mm": float(np.median(solved)),
            "p95_mm": float(np.percentile(solved, 95)), "worst_mm": float(solved.max()), "regions": table,
            "gaps": {name: _gap_figures(np.concatenate([one.widths[name] for one in measured], axis=1), opening)
                     for name, opening in openings.items()}}


def _gap_figures(widths: np.ndarray, opening: Opening) -> dict:
    """How right an opening is where the target has it shut: closures of the lips, blinks.    widths : (2, n) mm."""
    solved, target = widths[:, widths[1] < opening.shut_mm]
    wrong = solved - target
    return {"shut_mm": opening.shut_mm, "shut_frames": len(wrong),
            "error_mm": float(np.abs(wrong).mean()) if len(wrong) else None,
            "too_open_mm": float(wrong.mean()) if len(wrong) else None}


def _result(actor: Actor, model: Model, path: Path, split: str, training: list[Shot], measured: list[ShotErrors],
            regions: dict[str, np.ndarray], openings: dict[str, Opening]) -> dict:
    roles = {role: found for role in ROLES if (found := [one for one in measured if one.shot.role == role])}
    overall = _summary(measured, regions, openings)
    return {
        "headline": _headline(overall["regions"]["all"], split),
        "actor": actor.name,
        "split": split,
        "overall": overall,
        "roles": {role: _summary(found, regions, openings) for role, found in roles.items()},
        "shots": [{"name": one.shot.name, "role": one.shot.role, **_summary([one], regions, openings)}
                  for one in measured],
        "region_vertices": {name: len(vertices) for name, vertices in regions.items()},
        "still_mm_per_frame": metrics.STILL_MM,
        "training": [{"name": shot.name, "role": shot.role, "frames": len(shot.frames())} for shot in training],
        "model": {"file": path.name, "sha256": hash_file(path), "actor": model.actor, "topology": model.topology,
                  "millimetres_per_unit": model.millimetres, "crop": model.crop.text, "transfer": model.transfer,
                  "components": len(model.basis), "about": model.about},
    }


def _headline(figures: dict, split: str) -> str:
    """The result in plain words."""
    solved = figures["rmse_mm"]

    def against(baseline_mm: float, what: str) -> str:
        ratio = baseline_mm / max(solved, 1e-6)
        if ratio >= 1.05:
            return f"{ratio:.1f} times closer than {what}"
        return f"about as close as {what}" if ratio > 0.95 else f"farther off than {what}"

    mean_mesh = against(figures["mean_mesh_mm"], "the mean mesh")
    if split == "train":  # where each frame is its own nearest training frame
        return f"Frames of the training set lie {solved:.2f} mm from the cleaned mesh on average: {mean_mesh}."
    return (f"Solved frames lie {solved:.2f} mm from the cleaned mesh on average: {mean_mesh}, "
            f"{against(figures['nearest_mm'], 'the nearest training frame')}.")


def _marked_frames(actor: Actor, model: Model, solver: Solver, measured: list[ShotErrors], rmse_mm: float,
                   report: Reporter) -> list[MarkedFrame]:
    """The worst, the median and the best frame of each shot, drawn as rows of Figure 7."""
    triangles, view = actor.template.triangles(), draw.View.front(actor.template.vertices)
    limit = _round_up(2 * rmse_mm)  # one scale for all rows, on which usual errors show
    marked = []
    for one in measured:
        report.check_cancel()
        order = np.argsort(one.errors[0, 0], kind="stable")
        chosen = {int(order[-1]): "worst"}
        chosen.setdefault(int(order[len(order) // 2]), "median")
        chosen.setdefault(int(order[0]), "best")
        with open_footage(one.shot.footage_path(), model.transfer) as footage:
            for index, which in chosen.items():
                sample, error = int(one.samples[index]), float(one.errors[0, 0, index])
                frame = one.shot.first_frame + sample
                picture = network_input(footage.read(frame), model.crop)
                inferred = solver.solve(picture[None])[0]
                row = draw.comparison(picture, np.asarray(one.shot.vertices()[sample], np.float32), inferred, triangles,
                                      view, actor.millimetres, f"{error:.2f} mm", limit)
                marked.append(MarkedFrame(one.shot.name, which, sample, frame, error, row))
    return marked


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10 ... times a power of ten."""
    power = 10.0 ** np.floor(np.log10(max(value, 1e-3)))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9)))


def _write_tables(out: Path, result: dict, measured: list[ShotErrors], regions: list[str]) -> None:
    rows = []
    for one in measured:
        for i, sample in enumerate(one.samples):
            errors = [*one.errors[:, 0, i], *one.errors[0, 1:, i]]
            rows.append([one.shot.name, sample, one.shot.first_frame + sample, *(f"{error:.5f}" for error in errors)])
    _write_csv(out / "frames.csv", ["shot", "sample", "frame", *METHODS, *(f"{name}_mm" for name in regions[1:])], rows)

    figures = [*METHODS, "noise_mm", "target_noise_mm", "still_frames", "attenuation"]
    rows = [[shot["name"], shot["role"], region, shot["frames"], *(table[name] for name in figures)]
            for shot in result["shots"] for region, table in shot["regions"].items()]
    _write_csv(out / "shots.csv", ["shot", "role", "region", "frames", *figures], rows)


def _write_csv(path: Path, header: list[str], rows: list[list]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_text(path, text.getvalue())
