"""The composition meter: what the cleaned shots of an actor hold, beside what the paper advises (Sec. 4).

What a shot's file says is reckoned from about 400 of its vertices and kept in .composition.json of the actor, by size
and time of the file, so that asking again costs nothing.
"""

import contextlib
from collections.abc import Generator
from dataclasses import asdict, dataclass

import numpy as np

from .actor import Actor, Shot, size_of
from .errors import UnderstudyError
from .files import read_json, write_json
from .labels import Motions, Suspicion, sentences, suspicions
from .meshcache import blocks

ADVICE = (("expressions", ("extreme", "facs"), 0.1), ("pangrams", ("pangram",), 0.3),
          ("in character", ("character",), 0.6))
CACHE, VERSION = ".composition.json", 2
AUDIT = "audit/audit.json"  # in the actor folder, as training/audit.py writes it
LISTED = 5        # findings of an audit that are told of a shot
VERTICES = 400    # looked at in all, and at least an eighth of them in each region
POSES = 60        # of a shot, evenly spaced, that are compared with those of the other shots
FAR = 0.04        # of the face's size: a region that stays within it, about 3 mm, has never moved far
ALIKE = 0.002     # of the face's size, about 0.15 mm: nearer poses are near-duplicates
APART = 1.0       # s between two poses of a shot that are held against each other


@dataclass(frozen=True)
class Part:
    """A share of the training set. shots, frames, minutes; share and advised : 0..1."""

    name: str
    shots: int
    frames: int
    minutes: float
    share: float
    advised: float


@dataclass(frozen=True)
class Composition:
    """What an actor's cleaned shots hold.

    parts : the training frames by kind.    validation : names of the shots that judge.    reach : mm by region, how far
    its farthest vertices get from where they are most, seen shot by shot.    still : regions that have never moved far.
       duplicates : share of the training poses, 0..1, that another one all but repeats.
    suspicious : sentences by shot.
    """

    frames: int
    minutes: float
    parts: tuple[Part, ...]
    validation: tuple[str, ...]
    validation_minutes: float
    reach: dict[str, float]
    still: tuple[str, ...]
    duplicates: float
    suspicious: dict[str, list[str]]

    def lines(self) -> list[str]:
        """The meter in lines of text."""
        found = [f"{self.minutes:.1f} minutes train ({self.frames:,} frames)"]
        found += [f"{part.name}: {100 * part.share:.0f} % ({part.minutes:.1f} min), advised {100 * part.advised:.0f} %"
                  for part in self.parts]
        found.append(f"Validation: {', '.join(self.validation)} ({self.validation_minutes:.1f} min)" if self.validation
                     else "No shot validates: keep one back")
        found += [f"{name}: moves up to {reach:.1f} mm" + (", never far" if name in self.still else "")
                  for name, reach in self.reach.items()]
        if self.duplicates:
            found.append(f"{100 * self.duplicates:.0f} % of the poses are nearly the same as another")
        return found + [f"{shot}: {text}" for shot, texts in self.suspicious.items() for text in texts]

    def to_json(self) -> dict:
        return asdict(self)


def compose(actor: Actor) -> Composition:
    """The composition of an actor's cleaned shots. Shots whose vertices cannot be read are told as suspicious."""
    steps = composing(actor)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def composing(actor: Actor) -> Generator[None, None, Composition]:
    """As `compose`, in steps of some milliseconds."""
    facts, wrong = {}, {}
    kept = _kept(actor)
    for shot in actor.training_shots() + actor.validation_shots():
        try:
            stamp = _stamp(actor, shot)
            found = kept.get(shot.name)
            if not found or found.get("stamp") != stamp:
                found = {**(yield from _look(actor, shot)), "stamp": stamp}
            facts[shot.name] = found
        except UnderstudyError as error:
            wrong[shot.name] = [str(error)]
    if facts != kept:
        with contextlib.suppress(UnderstudyError):  # the folder may be read-only
            write_json(actor.folder / CACHE, {"version": VERSION, "shots": facts})
    return _composition(actor, facts, wrong)


def _composition(actor: Actor, facts: dict[str, dict], wrong: dict[str, list[str]]) -> Composition:
    train = [shot for shot in actor.training_shots() if shot.name in facts]
    judges = [shot for shot in actor.validation_shots() if shot.name in facts]
    size = size_of(actor.template.vertices)

    def minutes(shots: list[Shot]) -> float:
        return sum(facts[shot.name]["used"] / shot.fps for shot in shots) / 60

    total = minutes(train)
    parts = []
    for name, roles, advised in ADVICE:
        those = [shot for shot in train if shot.role in roles]
        parts.append(Part(name, len(those), sum(facts[shot.name]["used"] for shot in those), minutes(those),
                          minutes(those) / total if total else 0.0, advised))
    reach = {name: max((facts[shot.name]["reach"][name] for shot in train), default=0.0)
             for name in _regions(actor)}
    suspicious = {shot.name: texts for shot in train + judges if (texts := sentences(
        [Suspicion(*one) for one in facts[shot.name]["suspicions"]], actor.millimetres))}
    return Composition(
        sum(part.frames for part in parts), total, tuple(parts), tuple(shot.name for shot in judges), minutes(judges),
        {name: value * actor.millimetres for name, value in reach.items()},
        tuple(name for name, value in reach.items() if train and value < FAR * size),
        _duplicates([facts[shot.name]["poses"] for shot in train], [shot.fps for shot in train], size),
        {**_joined(suspicious, _audited(actor)), **wrong})


def _audited(actor: Actor) -> dict[str, list[str]]:
    """What the last audit of the labels found, by shot, as far as the labels are still those that it looked at."""
    with contextlib.suppress(UnderstudyError, OSError, KeyError, TypeError, AttributeError):
        values, found = read_json(actor.folder / AUDIT), {}
        for one in values["findings"]:
            found.setdefault(one["shot"], []).append(str(one["text"]))
        known = {shot.name: shot for shot in actor.training_shots()}
        fresh = {name: texts for name, texts in found.items()
                 if name in known and labels_stamp(known[name]) == values["shots"].get(name)}
        return {name: [f"{text}." for text in texts[:LISTED]]
                + ([f"The audit found {len(texts) - LISTED} more."] if len(texts) > LISTED else [])
                for name, texts in fresh.items()}
    return {}


def labels_stamp(shot: Shot) -> list[int]:
    """Size and time of a shot's vertices, which change when they do."""
    status = shot.cache.stat()
    return [status.st_size, status.st_mtime_ns]


def _joined(*parts: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: [text for part in parts for text in part.get(name, [])] for name in {**parts[0], **parts[1]}}


def _look(actor: Actor, shot: Shot) -> Generator[None, None, dict]:
    """What is to know of a shot's vertices, as JSON takes it."""
    regions, cache, used = _regions(actor), shot.vertices(), shot.frames()
    if cache.shape[1] != len(actor.template.vertices):
        raise UnderstudyError(f"{shot.cache} has {cache.shape[1]} vertices, but the template has "
                              f"{len(actor.template.vertices)}. Mark the shot again.")
    chosen = np.unique(np.concatenate([_thin(vertices, VERTICES // 8) for vertices in regions.values()]
                                      + [_thin(actor.animated, VERTICES)]))
    motions, pieces = Motions(), []
    for _, block in blocks(cache, 4 << 20):
        pieces.append(block[:, chosen])
        motions.feed(pieces[-1])
        yield
    positions = np.concatenate(pieces)
    whole = np.isfinite(positions).all()
    size = size_of(actor.template.vertices)
    found = suspicions(motions.steps, motions.bends, size)
    left_out = np.setdiff1d(np.arange(len(cache)), used)
    positions = positions[used]
    moved = np.linalg.norm(positions - np.median(positions, axis=0), axis=2) if len(used) else None
    reach = {name: float(np.percentile(np.percentile(moved[:, np.isin(chosen, vertices)], 95, axis=1), 99))
             if len(used) and whole else 0.0 for name, vertices in regions.items()}
    spread = np.linspace(0, len(used) - 1, min(POSES, len(used))).round().astype(int)
    poses = positions[spread][:, ::max(1, len(chosen) // 60)].reshape(len(spread), -1)
    return {"used": len(used), "reach": reach,
            "poses": [[int(used[place]), *map(float, row.round(4))] for place, row in zip(spread, poses, strict=True)],
            "suspicions": [[one.kind, one.first, one.last, one.amount] for one in found if _of(one, left_out)]}


def _of(one: Suspicion, left_out: np.ndarray) -> bool:
    """Whether a suspicion is of frames that are learned from: one that only stands out against others is of these."""
    frames = np.arange(one.first - (one.kind != "held"), one.last + 1 + (one.kind == "spike"))
    missing = np.isin(frames, left_out)
    return not (missing.all() if one.kind == "held" else missing.any())


def _duplicates(shots: list[list[list[float]]], fps: list[float], size: float) -> float:
    """The share of the poses that have a near-duplicate: in another shot, or in their own a second away or more."""
    rows = [(number, row[0] / rate, row[1:]) for number, (poses, rate) in enumerate(zip(shots, fps, strict=True))
            for row in poses]
    if len(rows) < 2:
        return 0.0
    number, time, poses = (np.array(column) for column in zip(*rows, strict=True))
    poses -= poses.mean(axis=0)
    squares = np.square(poses).sum(axis=1)
    distance = np.maximum(squares[:, None] + squares - 2 * poses @ poses.T, 0) / (poses.shape[1] / 3)
    beside = (number[:, None] == number) & (np.abs(time[:, None] - time) < APART)
    distance[beside] = np.inf
    return float((distance.min(axis=1) < np.square(ALIKE * size)).mean())


def _regions(actor: Actor) -> dict[str, np.ndarray]:
    """The regions that can move; without any, the whole face."""
    found = {name: np.intersect1d(vertices, actor.animated) for name, vertices in actor.regions.items()}
    return {name: vertices for name, vertices in found.items() if len(vertices)} or {"face": actor.animated}


def _thin(vertices: np.ndarray, count: int) -> np.ndarray:
    return vertices[::max(1, len(vertices) // count)]


def _stamp(actor: Actor, shot: Shot) -> list:
    """Changes when what `_look` sees may have changed."""
    try:
        status = shot.cache.stat()
    except OSError as error:
        raise UnderstudyError(f"Cannot read {shot.cache}: {error.strerror}.") from error
    masks = sum(int(vertices.sum()) for vertices in _regions(actor).values())
    return [shot.file, status.st_size, status.st_mtime_ns, shot.excluded, masks]


def _kept(actor: Actor) -> dict[str, dict]:
    with contextlib.suppress(UnderstudyError):
        values = read_json(actor.folder / CACHE)
        if values.get("version") == VERSION and isinstance(values.get("shots"), dict):
            return values["shots"]
    return {}
