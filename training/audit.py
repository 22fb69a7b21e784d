"""Which cleaned frames the network disagrees with although it is sure: slips in the labels, more likely than not.

A network averages what contradicts itself (paper, Sec. 5.3), so it does not learn a slip that its other frames speak
against, unless it is trained for very long. How far it usually is from a label depends on how sure it is, and on the
passage of the shot; what lies far beyond both stands out. A network that has not learned an expression stands out as
well, but its error comes and goes with the expression: so only what begins and ends from one frame to the next is
listed. A slip that an artist blended in and out is not found. benchmarks/audit.py measures what is.
"""

import csv
import io
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..core.actor import Actor, Shot
from ..core.composition import AUDIT, labels_stamp
from ..core.crop import network_input
from ..core.errors import UnderstudyError
from ..core.files import hash_file, make_folder, write_json, write_text
from ..core.footage import open_footage
from ..core.jobs import Reporter
from ..core.metrics import rmse_per_frame
from ..core.model import load_model
from ..core.solver import Solver
from .dataset import check_length

SIGMAS = 5.0      # robust deviations beyond the usual, in the logarithm of the error
RATIO = 1.8       # times the usual, at least
LEAST_MM = 0.3    # smaller errors are nobody's slip
WINDOW = 61       # frames of a passage
ABRUPT = 0.7      # of the error comes within one frame, and goes within one


@dataclass(frozen=True)
class Finding:
    """Frames of a shot that stand out together. first, last : samples.    regions : in which, the worst first.

    error_mm : the worst frame's distance from the network in the worst region, RMSE.    usual_mm : what is usual there.
    """

    shot: str
    first: int
    last: int
    worst: int
    regions: tuple[str, ...]
    error_mm: float
    usual_mm: float

    @property
    def text(self) -> str:
        where = " and ".join("face" if name == "all" else name for name in self.regions[:2])
        frames = f"Frame {self.first}" if self.first == self.last else f"The frames {self.first} to {self.last}"
        return (f"{frames}: the {where} is {self.error_mm:.1f} mm from where the network is sure that it is; "
                f"{self.usual_mm:.1f} mm would be usual")


def audit(
    actor_folder: Path | str,         # the actor folder
    out: Path | str | None = None,    # folder of audit.json and audit.csv, made if need be. None = ACTOR/audit
    model: Path | str | None = None,  # model file. None = ACTOR/model.safetensors
    report: Reporter = Reporter(),    # told what happens; asked whether to stop
    device: str = "auto",             # "auto", "cpu", "cuda", ...
) -> dict:
    """Look for slips among the cleaned frames that the model was trained on; returns what audit.json holds.

    Raises UnderstudyError for a model of another mesh, or data that cannot be read.
    """
    actor = Actor.load(actor_folder)
    path = Path(model) if model is not None else actor.folder / "model.safetensors"
    trained = load_model(path)
    if trained.topology != actor.template.hash:
        raise UnderstudyError(f"{path} was trained on another mesh than {actor.name} has. Name a model of this actor.")
    shots = [shot for shot in actor.training_shots() if len(shot.frames())]
    if not shots:
        raise UnderstudyError(f"{actor.name} has no cleaned training shot whose labels could be looked at.")
    out = make_folder(out or (actor.folder / AUDIT).parent)
    solver, done, total = Solver(trained, device), 0, sum(len(shot.frames()) for shot in shots)
    errors, spreads, steps = [], [], []
    for shot in shots:
        report.status(f"Looking at {shot.name}")
        report.check_cancel()
        found = _measure(actor, shot, solver, lambda count, done=done: report.progress(done + count, total))
        done += len(found[0])
        for column, values in zip((errors, spreads, steps), found, strict=True):
            column.append(values)
    names = ["all", *sorted(trained.regions)]
    strange, usual = stand_out(errors, spreads)
    strange = [abrupt(*parts) for parts in zip(strange, errors, steps, strict=True)]
    findings = [finding for parts in zip(shots, strange, usual, errors, strict=True)
                for finding in _findings(*parts, names)]
    findings.sort(key=lambda one: -one.error_mm / one.usual_mm)
    result = {"actor": actor.name, "model_sha256": hash_file(path), "frames": total,
              "shots": {shot.name: labels_stamp(shot) for shot in shots},
              "findings": [asdict(one) | {"text": one.text} for one in findings]}
    write_json(out / Path(AUDIT).name, result)
    _write_csv(out / "audit.csv", findings)
    report.artifact(out / Path(AUDIT).name, "table")
    return result


def stand_out(errors: list[np.ndarray], spreads: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Which frames of several shots stand out, and what would be usual.

    errors, spreads : of each shot, (n, regions) mm: distance of label and network, and what dropout would cause.
    Returns for each shot (n, regions) bool and (n, regions) mm.
    """
    every, unsure = (np.log(np.maximum(np.concatenate(columns), 1e-4)) for columns in (errors, spreads))
    usual = np.stack([_line(unsure[:, region], every[:, region]) for region in range(every.shape[1])], axis=1)
    cuts = np.cumsum([len(one) for one in errors])[:-1]
    for part, found in zip(np.split(every - usual, cuts), np.split(usual, cuts), strict=True):
        found += np.stack([_around(column) for column in part.T], axis=1)  # in place: of the passage
    beyond = every - usual
    limit = np.maximum(SIGMAS * 1.4826 * np.median(np.abs(beyond), axis=0), np.log(RATIO))
    strange = (beyond > limit) & (every > np.log(LEAST_MM))
    return np.split(strange, cuts), np.split(np.exp(usual), cuts)


def abrupt(strange: np.ndarray, errors: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """What of a shot's strange frames belongs to runs that begin and end from one frame to the next.

    strange, errors, steps : (n, regions) bool, mm, mm; a step is how far label minus network has moved since the frame
    before.
    """
    kept = np.zeros_like(strange)
    for region in range(strange.shape[1]):
        for run in _runs(np.flatnonzero(strange[:, region])):
            edges = [steps[frame, region] for frame in (run[0], run[-1] + 1) if 0 < frame < len(steps)]
            if edges and min(edges) > ABRUPT * np.median(errors[run, region]):
                kept[run, region] = True
    return kept


def _runs(numbers: np.ndarray) -> list[np.ndarray]:
    """Ascending numbers, cut where one is missing."""
    return np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1) if len(numbers) else []


def _line(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The values of a straight line through most of the points: those far from it do not count."""
    kept = np.ones(len(x), bool)
    fitted = np.full(len(x), np.median(y))
    for _ in range(5):
        if kept.sum() > 10 and np.ptp(x[kept]) > 1e-3:
            fitted = np.polyval(np.polyfit(x[kept], y[kept], 1), x)
        off = y - fitted
        kept = np.abs(off - np.median(off)) <= 2.5 * 1.4826 * np.median(np.abs(off - np.median(off))) + 1e-9
    return fitted


def _around(values: np.ndarray) -> np.ndarray:
    """The median of each value's passage."""
    half = WINDOW // 2
    padded = np.pad(values, half, mode="reflect" if len(values) > half else "edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, WINDOW), axis=1)


def _measure(actor: Actor, shot: Shot, solver: Solver, tell: Callable[[int], None],
             ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distance of label and network, spread, and how that distance moved in one frame, (n, 1 + regions) mm."""
    model, cache, samples = solver.model, shot.vertices(), shot.frames()
    parts = [np.arange(len(actor.animated)), *(np.flatnonzero(np.isin(actor.animated, model.regions[name]))
                                               for name in sorted(model.regions))]
    errors, spreads, steps, done = [], [], [], 0
    before = None

    def lengths(vectors: np.ndarray) -> np.ndarray:
        return np.stack([rmse_per_frame(vectors[:, part], np.float32(0), actor.millimetres) if len(part)
                         else np.zeros(len(vectors)) for part in parts], axis=1)

    with open_footage(shot.footage_path(), model.transfer) as footage:
        model.crop.check(footage.width, footage.height)
        check_length(shot, footage)
        inputs = footage.pick(shot.first_frame + samples, transform=partial(network_input, crop=model.crop))
        for vertices, signals, _ in solver.stream(inputs):
            labels = cache[samples[done:done + len(vertices)]][:, actor.animated]
            off = labels.astype(np.float32) - vertices[:, actor.animated]
            errors.append(lengths(off))
            steps.append(lengths(np.diff(off, axis=0, prepend=off[:1] if before is None else before)))
            spreads.append(signals[:, :len(parts)])
            before, done = off[-1:], done + len(vertices)
            tell(done)
    return np.concatenate(errors), np.concatenate(spreads), np.concatenate(steps)


def _findings(shot: Shot, strange: np.ndarray, usual: np.ndarray, errors: np.ndarray, names: list[str],
              ) -> list[Finding]:
    found, samples = [], shot.frames()
    for run in _runs(np.flatnonzero(strange.any(axis=1))):
        ratio = np.where(strange[run], errors[run] / usual[run], 0)
        if strange[run, 1:].any():
            ratio[:, 0] = 0  # the whole face stands out because of a region
        row, region = np.unravel_index(ratio.argmax(), ratio.shape)
        order = [int(i) for i in np.argsort(-ratio.max(axis=0)) if ratio[:, i].any()]
        found.append(Finding(shot.name, int(samples[run[0]]), int(samples[run[-1]]), int(samples[run[row]]),
                             tuple(names[i] for i in order),
                             float(errors[run[row], region]), float(usual[run[row], region])))
    return found


def _write_csv(path: Path, findings: list[Finding]) -> None:
    text = io.StringIO()
    rows = [[one.shot, one.first, one.last, one.worst, " ".join(one.regions), f"{one.error_mm:.3f}",
             f"{one.usual_mm:.3f}", one.text] for one in findings]
    csv.writer(text, lineterminator="\n").writerows(
        [["shot", "first", "last", "worst", "regions", "error_mm", "usual_mm", "text"], *rows])
    write_text(path, text.getvalue())
