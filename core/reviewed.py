"""A solve together with all that looking at it needs: footage, crop, mesh, masks, and its errors frame by frame."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .actor import Actor
from .crop import Crop
from .errors import UnderstudyError
from .footage import Footage, open_footage
from .frame_errors import FrameErrors, measure, truth_of
from .jobs import Reporter
from .modelfile import ModelFile, model_in
from .review import clean_next
from .solved import Solved, read_solved
from .topology import Mesh

ROUGH = ("The model was not calibrated: what it expects ranks frames, but its millimetres are far too few. A model "
         "trained anew is.")
TRAINED = "This very footage trained the model, so the error says little about other footage."


@dataclass(eq=False)
class Reviewed:
    """A solve and what it is of.

    template, animated, regions, millimetres : the actor's.    samples : (n, V, 3) mesh units, of footage frame
    solved.first on.    truth : the same of the cleaned shot, from footage frame `truth_first` on; None without.
    notes : sentences for whoever reads the figures.    suggested : footage frames that are worth a look, with reasons.
    """

    solved: Solved
    footage: Path
    actor: str
    template: Mesh
    animated: np.ndarray
    regions: dict[str, np.ndarray]
    millimetres: float
    transfer: str
    model: ModelFile | None
    samples: np.ndarray
    errors: FrameErrors
    truth: np.ndarray | None
    truth_first: int
    truth_file: Path | None
    excluded: np.ndarray  # (n,) bool, samples that the cleaned shot leaves out
    notes: list[str]

    @property
    def name(self) -> str:
        return self.footage.stem

    def target(self, frame: int) -> np.ndarray | None:
        """The cleaned vertices of a footage frame, (V, 3), where they are known."""
        at = frame - self.truth_first
        return None if self.truth is None or not 0 <= at < len(self.truth) else np.asarray(self.truth[at], np.float32)

    def solve(self, frame: int) -> np.ndarray:
        """The solved vertices of a footage frame, (V, 3)."""
        return np.asarray(self.samples[frame - self.solved.first], np.float32)

    def error(self, frame: int) -> float:
        """Of a footage frame in mm: true where that is known, else expected."""
        return float(self.errors.best[frame - self.solved.first])

    def crop(self, frame: int) -> Crop:
        """The part of the picture that the network saw."""
        part = next(part for part in self.solved.parts if part["first"] <= frame <= part["last"])
        return Crop(*part["crop"])

    def suggested(self, count: int) -> list[tuple[int, str, float]]:
        """Footage frame, reason and expected mm of the frames that are most worth cleaning."""
        return [(self.solved.first + one.sample, one.reason, one.expected_mm)
                for one in clean_next(self.solved.sidecar, count, excluded=self.excluded)]

    def open(self) -> Footage:
        """The footage. Raises UnderstudyError if it is other footage than what was solved."""
        footage = open_footage(self.footage, self.transfer)
        if self.solved.sidecar.get("footage_identity", footage.identity) != footage.identity:
            raise UnderstudyError(f"{self.solved.path} was solved from other footage than {self.footage}. Name the "
                                  "right one.")
        return footage


def open_reviewed(solve: Path | str, source: Path | str | None = None, footage: Path | str | None = None,
                  shot: str | None = None, report: Reporter = Reporter()) -> Reviewed:
    """Read a solve with what belongs to it, and measure it where there is a cleaned shot.

    source : actor folder or model file; None = the folder above the solve that is an actor, or its model beside it.
    footage : None = the actor's shot of that name, or the file beside the solve.    shot : the cleaned shot to measure
    against; None = the one of the same footage.    Raises UnderstudyError saying what to name.
    """
    solved = read_solved(solve)
    source = _source(solved) if source is None else Path(source)
    source = source.parent if source.name == "actor.json" else source
    actor = Actor.load(source) if source.is_dir() else None
    path = model_in(source)
    model = ModelFile.load(path) if path.is_file() or actor is None else None
    of = actor or model
    if solved.topology != of.template.hash:
        raise UnderstudyError(f"{solved.path} was solved with another mesh than that of {source}. Name its own actor.")
    found = _footage(solved, actor) if footage is None else Path(footage)
    report.status("Measuring")
    truth = None
    if actor is not None:
        truth = _shot(actor, shot) if shot else truth_of(actor, found)

    def progress(done: int, total: int) -> None:
        report.check_cancel()
        report.progress(done, total)

    errors = measure(solved, actor, truth, progress) if actor else measure(solved, None, None)
    excluded, notes = np.zeros(solved.count, bool), _notes(solved, model, path)
    if truth is not None and errors.truth:
        for first, last in truth.excluded:
            begin = max(0, first + truth.first_frame - solved.first)
            excluded[begin:max(begin, last + 1 + truth.first_frame - solved.first)] = True
    return Reviewed(solved, found, actor.name if actor else model.actor, of.template, of.animated, of.regions,
                    1000 * of.unit, of.transfer, model, solved.vertices(), errors,
                    truth.vertices() if errors.truth else None, truth.first_frame if truth else 0,
                    truth.cache if truth else None, excluded, notes)


def _source(solved: Solved) -> Path:
    folder = solved.path.resolve().parent
    for place in (folder, *folder.parents):
        if (place / "actor.json").is_file():
            return place
    model = folder / Path(str(solved.sidecar.get("model", ""))).name
    if model.is_file():
        return model
    raise UnderstudyError(f"{solved.path} lies in no actor folder, and its model is not beside it. Name the actor "
                          "folder or the model file with --actor.")


def _footage(solved: Solved, actor: Actor | None) -> Path:
    name = Path(str(solved.sidecar.get("footage", ""))).name
    places = [shot.footage_path() for shot in actor.shots] if actor else []
    places += [folder / name for folder in (solved.path.parent, solved.path.resolve().parent.parent)]
    found = next((path for path in places if name and path.name == name and path.exists()), None)
    if found is None:
        raise UnderstudyError(f"The footage {name or 'of'} {solved.path} is not known here. Name it with --footage.")
    return found


def _shot(actor: Actor, name: str):
    for shot in actor.shots:
        if shot.name == name:
            return shot
    raise UnderstudyError(f"{actor.name} has no shot named {name}; it has {', '.join(s.name for s in actor.shots)}.")


def _notes(solved: Solved, model: ModelFile | None, path: Path) -> list[str]:
    notes = []
    if model is not None and model.sha256() not in solved.models:
        notes.append(f"Solved by another model than {path.name} is now.")
    if len(solved.models) > 1:
        notes.append(f"Its parts were solved by {len(solved.models)} models.")
    trained = model.about.get("footage") if model is not None else None
    if isinstance(trained, dict) and solved.sidecar.get("footage_identity") in trained.values():
        notes.append(TRAINED)
    if solved.sidecar["confidence_mm"] and not solved.sidecar.get("expected_mm"):
        notes.append(ROUGH)
    if not solved.complete:
        notes.append("The solve was stopped before its end.")
    return notes
