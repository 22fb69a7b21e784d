"""What is suspicious about the motion of a shot: held frames, jumps, single frames that leave the motion."""

from dataclasses import dataclass, field

import numpy as np

HELD = 1e-5      # of the face's size: what moves less between two frames is the same frame twice
SPIKE = 8.0      # times its neighbourhood's median bend makes a frame a spike, or its median step a jump
LEAST = 0.015    # of the face's size, about 1 mm: a blink's fastest frames stay below it
WINDOW = 31      # frames of a neighbourhood
LISTED = 6


@dataclass
class Motions:
    """How a face moves from frame to frame; fed with its positions in pieces.

    steps[i] : distance from frame i - 1 to frame i.    bends[i] : of frame i from the middle of its neighbours.
    Both are roots of mean squares over the vertices, in mesh units; those without a neighbour are 0.
    """

    steps: list[float] = field(default_factory=list)
    bends: list[float] = field(default_factory=list)
    _last: list[np.ndarray] = field(default_factory=list, repr=False)

    def feed(self, positions: np.ndarray) -> None:
        """The next frames, (n, V, 3)."""
        for now in np.asarray(positions, np.float32):
            self.steps.append(_size(now - self._last[-1]) if self._last else 0.0)
            if len(self._last) == 2:
                before, middle = self._last
                self.bends[-1] = _size(middle - (before + now) / 2)
            self.bends.append(0.0)
            self._last = [*self._last[-1:], now]


@dataclass(frozen=True)
class Suspicion:
    """kind : 'held', 'jump' or 'spike'.    first, last : frames, both included.    amount : mesh units."""

    kind: str
    first: int
    last: int
    amount: float


def suspicions(steps: np.ndarray, bends: np.ndarray, size: float, first: int = 0) -> list[Suspicion]:
    """What is suspicious in a motion, in order of frames.

    steps, bends : of Motions.    size : the face's (actor.size_of), in mesh units.    first : number of frame 0.
    """
    steps, bends = np.asarray(steps), np.asarray(bends)
    found = []
    held = np.flatnonzero(steps[1:] < HELD * size) + 1
    for run in np.split(held, np.flatnonzero(np.diff(held) > 1) + 1):
        if len(run):
            found.append(Suspicion("held", int(run[0]) - 1, int(run[-1]), 0.0))
    usual = np.maximum(SPIKE * _around(bends), LEAST * size)
    peaks = bends > usual
    # A jump leaves two bends, of the frame before it and the one after, of half its size each; a spike leaves one, of
    # its size, between two of half of it.
    jumps = np.zeros(len(steps), bool)
    if len(steps) > 3:
        jumps[1:] = peaks[1:] & peaks[:-1] & (steps[1:] > np.maximum(SPIKE * _around(steps)[1:], 2 * LEAST * size))
        once = jumps[1:-1] & ~jumps[2:] & ~jumps[:-2]
        jumps[1:-1] = once
        for frame in np.flatnonzero(jumps):
            peaks[[frame - 1, frame]] = False
            found.append(Suspicion("jump", int(frame), int(frame), float(steps[frame])))
    for frame in range(1, len(bends) - 1):
        if peaks[frame] and bends[frame] > 1.5 * max(bends[frame - 1], bends[frame + 1]):
            found.append(Suspicion("spike", frame, frame, float(bends[frame])))
    return [Suspicion(one.kind, one.first + first, one.last + first, one.amount)
            for one in sorted(found, key=lambda one: one.first)]


def sentences(found: list[Suspicion], millimetres: float) -> list[str]:
    """The suspicions as sentences, one a kind.    millimetres : of a mesh unit."""
    said = []
    for kind, text, single in (("held", "stand still", "stands still"),
                               ("jump", "are reached by a jump", "is reached by a jump"),
                               ("spike", "leave the motion for one frame", "leaves the motion")):
        those = [one for one in found if one.kind == kind]
        if not those:
            continue
        listed = ", ".join(f"{one.first} to {one.last}" if one.last > one.first else str(one.first)
                           for one in those[:LISTED])
        if len(those) > LISTED:
            listed += f" and {len(those) - LISTED} more"
        amount = max(one.amount for one in those) * millimetres
        which = f"Frame {listed} {single}" if listed.isdecimal() else f"The frames {listed} {text}"
        said.append(which + (f", by up to {amount:.1f} mm." if amount else "."))
    return said


def _size(difference: np.ndarray) -> float:
    return float(np.sqrt(np.square(difference).sum() / len(difference)))


def _around(values: np.ndarray) -> np.ndarray:
    """The median of each value's neighbourhood."""
    if len(values) <= WINDOW:
        return np.full(len(values), np.median(values) if len(values) else 0.0)
    half = WINDOW // 2
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, half, mode="reflect"), WINDOW)
    return np.median(windows, axis=1)
