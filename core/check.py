"""Everything that is wrong with an actor folder, at once and in words."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from .actor import ROLES, Actor, Shot, check_vertices, size_of
from .crop import Crop
from .errors import UnderstudyError
from .footage import Footage, open_footage
from .numbered import is_sequence

COMPONENTS = 160  # of the paper's output layer, Sec. 3.1
ADVICE = "about 10 % extreme and facs, 30 % pangram, 60 % character"  # paper, Sec. 4
Say = Callable[[str, str], None]


@dataclass(frozen=True)
class Problem:
    """severity : 'error' (training or evaluation will refuse) or 'warning'.    where : file or shot.    message."""

    severity: str
    where: str
    message: str


def check(folder: Path | str) -> list[Problem]:
    """Every problem of an actor folder, in words. Reads all vertices, and of footage its index and first frame."""
    problems: list[Problem] = []

    def error(where: str, message: str) -> None:
        problems.append(Problem("error", where, message))

    def warning(where: str, message: str) -> None:
        problems.append(Problem("warning", where, message))

    try:
        actor = Actor.load(folder, error)
    except UnderstudyError as fault:
        return [Problem("error", str(folder), str(fault))]
    _check_actor(actor, error, warning)
    footage: dict[Path, Footage | None] = {}
    used: dict[str, np.ndarray] = {}  # samples by shot, of the shots whose vertices are sound
    for shot in actor.shots:
        where = f"shot {shot.name}"
        path = shot.footage_path()
        if shot.footage and path not in footage:
            footage[path] = _check_footage(actor, path, where, error, warning)
        samples = _check_vertices(actor, shot, where, error, warning)
        if samples is not None:
            used[shot.name] = samples
            if footage.get(path):
                _check_fit(shot, samples, footage[path], where, error, warning)
    _check_sizes(actor, list(filter(None, footage.values())), error)
    _check_set(actor, used, error, warning)
    return problems


def _check_actor(actor: Actor, error: Say, warning: Say) -> None:
    if actor.crop is None:
        error("actor.json", "No crop is set: the network needs a 3:4 rectangle around the face, in footage pixels.")
    if actor.template is not None:
        extent = float(np.ptp(actor.template.vertices, axis=0).max()) * actor.unit
        if extent < 0.05 or extent > 2:
            warning("actor.json", f"The template is {extent:.3g} m large, if one of its units is {actor.unit:g} m. "
                                  "No face is: check the unit.")
    for name, region in actor.regions.items():
        if len(region) and not np.isin(region, actor.animated).any():
            warning("actor.json", f"No vertex of the region {name!r} is animated, so it cannot be judged.")
    folders = (path for path in (actor.folder / "shots").glob("*") if path.is_dir() and path.name[0] != ".")
    for path in sorted(folders):
        if not (path / "shot.json").exists():
            warning(f"shot {path.name}", f"{path} has no shot.json and is no shot. Remove it, or add the shot again.")


def _check_footage(actor: Actor, path: Path, where: str, error: Say, warning: Say) -> Footage | None:
    """Open the footage, close it, and keep what it says about itself; None if it cannot be opened."""
    try:
        with open_footage(path, actor.transfer) as footage:
            footage.read(0)
    except UnderstudyError as fault:
        return error(where, str(fault))
    for message in footage.warnings:
        warning(where, message)
    return footage


def _check_vertices(actor: Actor, shot: Shot, where: str, error: Say, warning: Say) -> np.ndarray | None:
    """The samples that are not excluded, if the vertices are sound; else None."""
    path = shot.cache
    if not path.exists():
        if shot.status != "raw":
            error(where, f"{path} is missing, but the shot is {shot.status}. Add its vertices, or set it back to raw.")
        return None
    try:
        cache, samples = shot.vertices(), shot.frames()
        if actor.template is not None:
            check_vertices(cache, actor.template, actor.unit, path)
    except UnderstudyError as fault:
        return error(where, str(fault))
    for first, last in shot.excluded:
        if last >= len(cache):
            error(where, f"The samples {first} to {last} are excluded, but the shot has {len(cache)}: 0 to "
                         f"{len(cache) - 1}. Were its vertices replaced?")
    if not len(samples):
        error(where, "All its samples are excluded.")
        return None
    if actor.template is not None:
        away = max(float(np.sqrt(np.square(cache[frame] - actor.template.vertices).sum(axis=1).mean()))
                   for frame in (0, len(cache) // 2, len(cache) - 1))
        if away > 0.5 * size_of(actor.template.vertices):  # seen in sound shots: at most 0.22
            warning(where, f"Its vertices lie {away * actor.millimetres:.0f} mm from the template on average. Are they "
                           "head-stabilised, in template space, with the same axes?")
    return samples


def _check_fit(shot: Shot, samples: np.ndarray, footage: Footage, where: str, error: Say, warning: Say) -> None:
    """Compare the frames that the samples need with those that there are."""
    first, last = shot.first_frame + int(samples[0]), shot.first_frame + int(samples[-1])
    if last >= footage.frames:
        error(where, f"{footage.path} has {footage.frames} frames (0 to {footage.frames - 1}), but the vertices need "
                     f"frames {first} to {last}: {last + 1 - footage.frames} too many. Check the first frame "
                     f"({shot.first_frame}), or exclude the last samples.")
    elif (rest := footage.frames - shot.first_frame - shot.sample_count()) > 0:
        warning(where, f"{footage.path} goes on for {rest} frames after the last sample: {footage.frames} frames, "
                       f"{shot.sample_count()} samples from frame {shot.first_frame} on. If both were made together, "
                       "the first frame is wrong.")
    if not is_sequence(footage.path) and abs(footage.fps / shot.fps - 1) > 0.01:
        warning(where, f"The shot says {shot.fps:g} frames a second, its footage {footage.fps:g}. If the rate was "
                       "converted, samples and frames do not match.")


def _check_sizes(actor: Actor, footage: list[Footage], error: Say) -> None:
    sizes: dict[tuple[int, int], list[str]] = {}
    for one in footage:
        sizes.setdefault((one.width, one.height), []).append(one.path.name)
    if len(sizes) > 1:
        listing = "; ".join(f"{width} x {height}: {', '.join(names)}" for (width, height), names in sizes.items())
        error("footage", f"The pictures differ in size ({listing}), but one crop serves all. Export them alike.")
    for size, names in sizes.items():
        try:
            if actor.crop:
                Crop(*actor.crop).check(*size)
        except UnderstudyError as fault:
            error("actor.json", f"{fault} Footage: {', '.join(names)}.")


def _check_set(actor: Actor, used: dict[str, np.ndarray], error: Say, warning: Say) -> None:
    """The shots together: splits, roles, frames."""
    train, validation = ([shot for shot in shots if shot.name in used]
                         for shots in (actor.training_shots(), actor.validation_shots()))
    if not train:
        error("shots", "No sound shot trains: at least one with split 'train' and status 'cleaned' is needed.")
    if not validation:
        warning("shots", "No sound shot validates (split 'validation', status 'cleaned'), so the best model will be "
                         "chosen by its training error. Keep one shot back.")
    if len(train) + len(validation) == 1:
        warning("shots", "There is a single cleaned shot; more shots of other days and moods make a better model.")
    frames = {role: sum(len(used[shot.name]) for shot in train if shot.role == role) for role in ROLES}
    count = sum(frames.values())
    if 0 < count <= COMPONENTS:
        warning("shots", f"Only {count} frames train: the output layer gets {max(1, count - 1)} components instead of "
                         f"{COMPONENTS}.")
    if count and not all(frames.values()):
        shares = ", ".join(f"{role} {100 * n / count:.0f} %" for role, n in frames.items())
        warning("shots", f"No shot trains with the role {' or '.join(role for role in ROLES if not frames[role])}: the "
                         f"frames are {shares}; advised are {ADVICE}.")
    for one, other in product(train, validation):
        if one.footage_path() == other.footage_path():
            shared = len(np.intersect1d(one.first_frame + used[one.name], other.first_frame + used[other.name]))
            if shared:
                warning("shots", f"{shared} frames of {one.footage_path()} train in {one.name} and validate in "
                                 f"{other.name}, so that shot does not judge the model.")
