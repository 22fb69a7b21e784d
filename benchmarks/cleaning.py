"""Does "clean these frames next" save work? RMSE against the number of frames cleaned, for its order, chance and even
spacing.

    python benchmarks/cleaning.py ACTOR MODEL [--whole 40 --epochs 0.4]

Shots of ACTOR that MODEL has not learned from are what is to be cleaned. Every other second of a shot may be cleaned;
the seconds between, which nobody cleans, are measured, and then the other way round. What is cleaned changes the layer
`fc` alone, by ridge regression on the features with replay of training frames: cheap enough for hundreds of points.
--whole trains the whole network instead, for some points: N frames in this order, and 2 N by chance and evenly. Prints
a page and stores it, with a plot, in benchmarks/results/cleaning.*.
"""

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from understudy.core.process import prepare

prepare()

import numpy as np  # noqa: E402
from confidence import CPU, _features, _frames  # noqa: E402

from understudy.core.actor import Actor, Shot, create_actor  # noqa: E402
from understudy.core.model import Model, load_model  # noqa: E402
from understudy.core.review import suggest_frames  # noqa: E402
from understudy.training.config import Config  # noqa: E402
from understudy.training.dataset import Frames  # noqa: E402
from understudy.training.familiarity import Head, learn_familiarity  # noqa: E402
from understudy.training.loop import train  # noqa: E402

COUNTS = (5, 10, 20, 40, 80, 160)
REPLAYED = 400     # training frames that must not get worse
RIDGE = 0.01       # of the mean squared length of the features
SEEDS = 6          # orders by chance, and offsets of even spacing
MOST = 720         # frames of a shot; of longer ones every other frame and so on is left out


@dataclass
class Material:
    """A shot to clean: features (n, F), the error of its codes (n, K), what no code can mend (n,) mm2, worth (n,)."""

    name: str
    features: np.ndarray
    off: np.ndarray
    rest: np.ndarray
    expected: np.ndarray
    spread: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("actor", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--whole", type=int, metavar="N")
    parser.add_argument("--epochs", type=float, default=0.4)
    options = parser.parse_args()
    actor, model = Actor.load(options.actor), load_model(options.model)
    known = set(model.about["data"])
    learned = [shot for shot in actor.shots if shot.name in known]
    new = [shot for shot in actor.shots if shot.name not in known and shot.status == "cleaned"]
    if options.whole:
        for text in whole(actor, options.model, learned, new, options.whole, options.epochs):
            print(text, flush=True)
        return
    result = measure(actor, model, learned, new)
    text = page(result)
    print(text)
    path = Path(__file__).parent / "results" / "cleaning.md"
    path.write_text(text, encoding="utf-8")
    path.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    draw(result, path.with_suffix(".png"))


def measure(actor: Actor, model: Model, learned: list[Shot], new: list[Shot]) -> dict:
    """RMSE by order and count, of each start: a shot and the half of it that may be cleaned."""
    config, head = Config(), Head(model)
    train_frames = _frames(actor, learned, config)
    known = model.familiarity or learn_familiarity(model, train_frames, None, config, CPU)
    metric = known.metric
    replay = _look(model, head, known, train_frames, np.linspace(0, len(train_frames) - 1, REPLAYED).astype(int), "")
    starts = []
    for shot in new:
        frames = _frames(actor, [shot], config)
        every = np.arange(0, len(frames), -(-len(frames) // MOST))
        one = _look(model, head, known, frames, every, shot.name)
        for half in (0, 1):
            allowed = (every // 30) % 2 == half
            measured = np.flatnonzero(~allowed)
            before = _rmse(one.off[measured] @ metric.T, one.rest[measured])
            curves = {name: [[_after(one, replay, order[:count], measured, metric) for count in COUNTS]
                             for order in orders] for name, orders in _orders(one, allowed).items()}
            starts.append({"shot": shot.name, "half": half, "before_mm": before,
                           "after_mm": {name: np.mean(rows, axis=0).tolist() for name, rows in curves.items()}})
            print(shot.name, half, f"{before:.3f}", flush=True)
    return {"actor": actor.name, "counts": COUNTS, "starts": starts}


def _look(model: Model, head: Head, known, frames: Frames, chosen: np.ndarray, name: str) -> Material:
    """Features of frames and what their labels say of the codes, whatever the mesh's size."""
    weights = head.output.astype(np.float64)
    inverse = np.linalg.pinv(weights)
    parts = []
    for block in np.array_split(chosen, -(-len(chosen) // 25)):
        features = _features(model, frames.inputs(block))
        codes = head.codes(features)
        left = frames.targets(block).reshape(len(block), -1) * model.centimetres - head.vertices(codes)
        off = left @ inverse.T
        rest = np.square(left - off @ weights.T).sum(axis=1) * 300 / len(weights)
        spread = np.sqrt(np.square(features) @ head.confidence.numpy()[:, 0])
        parts.append((features, off, rest, head.novelty(known, features)[:, 0], spread))
    return Material(name, *map(np.concatenate, zip(*parts, strict=True)))


def _orders(one: Material, allowed: np.ndarray) -> dict[str, list[np.ndarray]]:
    """By name, one or several orders of the frames that may be cleaned; an even one is made for every count."""
    frames, most = np.flatnonzero(allowed), max(COUNTS)
    return {"next": [np.array(suggest_frames(one.expected, most, excluded=~allowed))],
            "dropout spread alone": [np.array(suggest_frames(one.spread, most, excluded=~allowed))],
            "chance": [np.random.default_rng(seed).permutation(frames) for seed in range(SEEDS)],
            "even": [_Even(frames, (seed + 0.5) / SEEDS) for seed in range(SEEDS)]}


class _Even:
    """Frames at even distances: how many are asked for decides which."""

    def __init__(self, frames: np.ndarray, offset: float):
        self.frames, self.offset = frames, offset

    def __getitem__(self, first: slice) -> np.ndarray:
        places = (np.arange(first.stop) + self.offset) * len(self.frames) / first.stop
        return self.frames[np.unique(np.minimum(places.astype(int), len(self.frames) - 1))]


def _after(one: Material, replay: Material, cleaned: np.ndarray, measured: np.ndarray, metric: np.ndarray) -> float:
    """RMSE of the measured frames when `fc` has learned the cleaned ones, mm."""
    known = np.concatenate([one.features[cleaned], replay.features])
    wanted = np.concatenate([one.off[cleaned], np.zeros_like(replay.off)])
    gram = known @ known.T + 1.0  # 1: the bias
    gram[np.diag_indices(len(gram))] += RIDGE * np.trace(gram) / len(gram)
    change = (one.features[measured] @ known.T + 1.0) @ np.linalg.solve(gram, wanted)
    return _rmse((one.off[measured] - change) @ metric.T, one.rest[measured])


def _rmse(off: np.ndarray, rest: np.ndarray) -> float:
    return float(np.sqrt((np.square(off).sum(axis=1) + rest).mean()))


def mean_curves(result: dict) -> dict[str, np.ndarray]:
    """By order, RMSE against that before any cleaning, mean over the starts."""
    names = result["starts"][0]["after_mm"]
    starts = result["starts"]
    return {name: np.mean([np.array(start["after_mm"][name]) / start["before_mm"] for start in starts], axis=0)
            for name in names}


def needed(curve: np.ndarray, value: float) -> float:
    """How many frames an order needs for an RMSE, by straight lines over the logarithm of the count; inf = more."""
    counts = np.log(COUNTS)
    falling = np.minimum.accumulate(curve)
    return float(np.exp(np.interp(-value, -falling, counts))) if falling[-1] <= value else np.inf


def page(result: dict) -> str:
    curves, counts = mean_curves(result), result["counts"]
    shots = list(dict.fromkeys(start["shot"] for start in result["starts"]))
    lines = [f"# Frames to clean next: {result['actor']}", "",
             f"RMSE of frames that nobody cleaned, against that before; mean of {len(result['starts'])} starts in "
             f"{', '.join(shots)}. `python benchmarks/cleaning.py ACTOR MODEL`", "",
             f"| order | {' | '.join(f'{count} frames' for count in counts)} |", f"| --- |{' ---: |' * len(counts)}"]
    lines += [f"| {name} | {' | '.join(f'{value:.3f}' for value in curve)} |" for name, curve in curves.items()]
    lines += ["", "Share of the frames that `next` needs for the RMSE of another order (mark: 50 % or less):", ""]
    for name in ("chance", "even"):
        shares = [f"{share:.0%} of {count}" if np.isfinite(share) else f"more than there are, of {count}"
                  for count, value in zip(counts, curves[name], strict=True) if count >= 10
                  for share in [needed(curves["next"], value) / count]]
        lines.append(f"- {name}: {', '.join(shares)}")
    return "\n".join(lines) + "\n"


def draw(result: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4))
    for name, curve in mean_curves(result).items():
        axes.plot(result["counts"], 100 * curve, marker="o", label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(result["counts"], map(str, result["counts"]))
    axes.set_xlabel("frames cleaned")
    axes.set_ylabel("RMSE of the other frames, % of that before")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def whole(actor: Actor, model_path: Path, learned: list[Shot], new: list[Shot], count: int, epochs: float,
          ) -> Iterator[str]:
    """Train the whole network with the first new shot partly cleaned; the seconds between are its validation."""
    shot, model, config = new[0], load_model(model_path), Config()
    frames = _frames(actor, [shot], config)
    known = model.familiarity or learn_familiarity(model, _frames(actor, learned, config), None, config, CPU)
    one = _look(model, Head(model), known, frames, np.arange(len(frames)), shot.name)
    allowed = (np.arange(len(frames)) // 30) % 2 == 0
    yield f"{shot.name} before: {_rmse(one.off[~allowed] @ known.metric.T, one.rest[~allowed]):.4f} mm"
    orders = _orders(one, allowed)
    for name, cleaned in (("next", orders["next"][0][:count]), ("chance", orders["chance"][0][:2 * count]),
                          ("even", orders["even"][0][:2 * count])):
        with tempfile.TemporaryDirectory() as scratch:
            parts = {shot.name: ("train", frames.sample[cleaned]),
                     f"rest of {shot.name}": ("validation", frames.sample[~allowed])}
            copy = _copy(actor, Path(scratch) / "actor", learned, shot, parts)
            short = dataclasses.replace(Config.preset("quick"), epochs=epochs, augment_ramp=0.0)
            run = train(copy, short, start_from=model_path)
            found = load_model(run / "model.safetensors").about["validation"]
        yield f"{shot.name} with {len(cleaned)} frames, {name}: {found['rmse_mm']:.4f} mm"


def _copy(actor: Actor, folder: Path, learned: list[Shot], shot: Shot, parts: dict[str, tuple[str, np.ndarray]],
          ) -> Path:
    """The actor with some shots, and one in parts: name -> split and samples."""
    made = create_actor(folder, actor.folder / "template.obj", actor.unit, actor.name, actor.animated,
                        regions=actor.regions, crop=actor.crop)
    for one in learned:
        made.add_shot(one.name, one.footage_path(), one.cache, one.role, "train", one.first_frame, fps=one.fps)
    for name, (split, kept) in parts.items():
        added = made.add_shot(name, shot.footage_path(), shot.cache, shot.role, split, shot.first_frame, fps=shot.fps)
        added.excluded = [[int(sample), int(sample)] for sample in np.setdiff1d(np.arange(shot.sample_count()), kept)]
        added.save()
    return folder


if __name__ == "__main__":
    main()
