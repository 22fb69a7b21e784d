"""Does a solve know where it is wrong? Held against the truth on validation shots, as they are and with planted faults.

    python benchmarks/confidence.py ACTOR [--model MODEL]

Prints a page and stores it in benchmarks/results/confidence.md, its figures in confidence.json. A model that was
trained before there was a novelty learns what its footage looks like first; nothing is written to it.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

from understudy.core.process import prepare

prepare()

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from understudy.core.actor import Actor, Shot  # noqa: E402
from understudy.core.engine import reduced_precision  # noqa: E402
from understudy.core.familiarity import Familiarity  # noqa: E402
from understudy.core.jobs import Reporter  # noqa: E402
from understudy.core.model import Model, load_model  # noqa: E402
from understudy.core.network import DROPOUT  # noqa: E402
from understudy.core.solver import Solver  # noqa: E402
from understudy.training.config import Config  # noqa: E402
from understudy.training.dataset import Frames, read_frames  # noqa: E402
from understudy.training.familiarity import Head, learn_errors, learn_familiarity  # noqa: E402

PASSES, FRAMES = 1000, 50
EVERY = 4    # of a shot's frames, for the ranking
ROUNDS = 100  # of the cost: the median lies between the percentiles 40 and 60 of so many, with 95 % certainty
CPU = torch.device("cpu")


def turned(x: float = 0, y: float = 0, roll: float = 0, scale: float = 1) -> np.ndarray:
    """The map from an input in which the face stands elsewhere to the plain one."""
    turn = cv2.getRotationMatrix2D((120, 160), -roll, scale)
    turn[:, 2] += x, y
    return np.linalg.inv(np.vstack([turn, [0, 0, 1]]))


def hidden(x: int, y: int, side: int) -> Callable[[np.ndarray], np.ndarray]:
    def hide(pictures: np.ndarray) -> np.ndarray:
        pictures[:, y:y + side, x:x + side] = 110
        return pictures
    return hide


def lit(gain: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pictures: np.clip(pictures * np.float32(gain), 0, 255).astype(np.uint8)


def noisy(pictures: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 18, pictures.shape)
    return np.clip(pictures + noise, 0, 255).astype(np.uint8)


def blurred(pictures: np.ndarray) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(picture, (0, 0), 3) for picture in pictures])


AS_IS, STILL = "as it is", np.eye(3)
FAULTS = {  # name -> map of the picture, change of the gray levels
    AS_IS: (STILL, np.array), "35 % darker": (STILL, lit(0.65)), "45 % brighter": (STILL, lit(1.45)),
    "24 px to the right": (turned(22, 10), np.array), "25 px up": (turned(-6, -24), np.array),
    "rolled 8 degrees": (turned(roll=8), np.array), "15 % larger": (turned(scale=1.15), np.array),
    "mouth hidden": (STILL, hidden(85, 190, 70)), "eye hidden": (STILL, hidden(60, 100, 55)),
    "blurred": (STILL, blurred), "noisy": (STILL, noisy),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("actor", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--engine", default="auto", help="that a solve's cost is measured with")
    options = parser.parse_args()
    result = measure(options.actor, options.model or options.actor / "model.safetensors", options.engine)
    text = page(result)
    print(text)
    path = Path(__file__).parent / "results" / "confidence.md"
    path.write_text(text, encoding="utf-8")
    path.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def measure(folder: Path, model_path: Path, engine: str) -> dict:
    """All figures, as the page has them."""
    actor, model, config = Actor.load(folder), load_model(model_path), Config()
    shots = actor.validation_shots()
    whole = {shot.name: _frames(actor, [shot], config) for shot in shots}
    known = model.familiarity or learn_familiarity(model, _frames(actor, actor.training_shots(), config), None, config,
                                                   CPU)
    seen = {(shot.name, fault): _look(model, known, whole[shot.name], fault) for shot in shots for fault in FAULTS}
    return {"actor": actor.name, "shots": {name: len(frames) for name, frames in whole.items()},
            "equality": equality(model, whole), "cost": cost(model, known, whole[shots[0].name], engine),
            "ranking": ranking(seen), "faults": faults(seen),
            "calibration": calibration(actor, model, known, shots, config, seen)}


def _frames(actor: Actor, shots: list[Shot], config: Config) -> Frames:
    """With margins, as augmentation needs them."""
    return read_frames(actor, shots, [], config, Reporter())[0]


def _look(model: Model, known: Familiarity, frames: Frames, fault: str, every: int = EVERY) -> dict[str, np.ndarray]:
    """Error and signals of a shot's frames under a fault, (n, 1 + regions) mm each."""
    head, (move, change), signals = Head(model), FAULTS[fault], []
    center, inverse = known.expressions.mean(axis=0), np.linalg.pinv(np.cov(known.expressions.T) + 1e-3 * np.eye(
        known.expressions.shape[1]) * known.expressions.var(axis=0).mean())
    for block in np.array_split(np.arange(0, len(frames), every), max(1, len(frames) // every // 25)):
        pictures = change(frames.inputs(block, np.repeat(move[None], len(block), 0)))
        features = _features(model, pictures)
        codes, off = head.codes(features), head.codes(features) - center
        spread = np.sqrt(np.square(features) @ head.confidence.numpy()) * 10
        new, far = head.novelty(known, features), known.distance(codes)
        mahalanobis = np.sqrt(np.einsum("nk,kl,nl->n", off, inverse, off))
        light = np.abs(np.log(np.maximum(pictures.mean(axis=(1, 2)), 1) / model.whitening[0]))
        wide = np.ones(spread.shape[1])
        signals.append({"error": head.errors(features, frames.targets(block)), "dropout spread": spread, "novelty": new,
                        "distance of the expression": np.outer(far, wide),
                        "novelty x distance": np.sqrt(new * far[:, None]),
                        "Mahalanobis distance of the code": np.outer(mahalanobis, wide),
                        "brightness": np.outer(light, wide)})
    return {name: np.concatenate([one[name] for one in signals]) for name in signals[0]}


@torch.inference_mode()
def _features(model: Model, pictures: np.ndarray) -> np.ndarray:
    mean, deviation = model.whitening
    whitened = (torch.from_numpy(pictures)[:, None].float() - mean) / deviation
    return model.network.features(whitened, reduced_precision(CPU)).numpy()


@torch.inference_mode()
def equality(model: Model, whole: dict[str, Frames]) -> dict:
    """The closed form against passes with dropout, by frame and region: ratios of the two spreads."""
    head, animated = Head(model), model.animated
    parts = [np.arange(len(animated)), *(np.flatnonzero(np.isin(animated, model.regions[name]))
                                         for name in sorted(model.regions))]
    generator, ratios = torch.Generator().manual_seed(0), []
    for frames in whole.values():
        chosen = np.linspace(0, len(frames) - 1, -(-FRAMES // len(whole))).round().astype(int)
        for features in _features(model, frames.inputs(chosen)):
            keep = torch.empty(PASSES, len(features)).bernoulli_(1 - DROPOUT, generator=generator) / (1 - DROPOUT)
            drawn = model.network.output(model.network.fc(keep * torch.from_numpy(features)))
            variance = drawn.var(dim=0).view(-1, 3).sum(dim=1).numpy()
            sampled = np.sqrt([variance[part].mean() for part in parts])
            ratios.append(sampled / np.sqrt(np.square(features) @ head.confidence.numpy()))
    ratios = np.array(ratios)
    return {"frames": len(ratios), "passes": PASSES, "regions": ["all", *sorted(model.regions)],
            "mean": ratios.mean(axis=0).tolist(), "rms_off": float(np.sqrt(np.square(ratios - 1).mean())),
            "worst_off": float(np.abs(ratios - 1).max())}


def cost(model: Model, known: Familiarity, frames: Frames, engine: str) -> dict:
    """Processor time of each signal as a share of that of a solve without any: (median, lowest, highest) of ROUNDS.

    Spread and novelty are told by the engine that solves: the difference of a solve with and without them.
    """
    inputs = frames.inputs(np.arange(96))
    codes = np.repeat(known.expressions, 4096 // len(known.expressions) + 1, axis=0)
    names = ["all", *sorted(model.regions)]
    told = dict(zip(names, np.ones((len(names), 4096)), strict=True))
    plain, whole = (Solver(dataclasses.replace(model, familiarity=what), engine=engine) for what in (None, known))
    tasks = {"solve": (96, lambda: plain.solve(inputs)), "solve with novelty": (96, lambda: whole.solve(inputs)),
             "distance": (len(codes), lambda: known.distance(codes)),
             "expected error": (4096, lambda: known.errors(told)),
             "brightness": (96, lambda: [cv2.mean(picture) for picture in inputs])}
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(ROUNDS):
        for name, (count, task) in list(tasks.items())[::1 if number % 2 else -1]:
            task()  # what came before has filled the caches
            began = time.process_time()
            task()
            times[name].append((time.process_time() - began) / count)
    base = np.array(times["solve"])
    shares = {"novelty": np.array(times["solve with novelty"]) / base - 1,
              **{name: np.array(times[name]) / base for name in ("distance", "expected error", "brightness")}}
    return {"engine": plain.engine, **{name: np.percentile(share, (50, 40, 60)).tolist()
                                       for name, share in shares.items()}}


def ranking(seen: dict) -> dict:
    """By region and signal: rank correlation with the error, and AUROC of its worst tenth."""
    shots, result = list(dict.fromkeys(shot for shot, _ in seen)), {}
    signals = [name for name in next(iter(seen.values())) if name != "error"]
    for region in range(next(iter(seen.values()))["error"].shape[1]):
        for name in signals:
            own = {shot: (seen[shot, AS_IS]["error"][:, region], seen[shot, AS_IS][name][:, region]) for shot in shots}
            clean = [np.concatenate(parts) for parts in zip(*own.values(), strict=True)]
            every = [np.concatenate([one[what][:, region] for one in seen.values()]) for what in ("error", name)]
            result.setdefault(name, []).append({
                "spearman": spearman(*clean), "auroc": auroc(*clean), "all_spearman": spearman(*every),
                "all_auroc": auroc(*every), "shots": {shot: spearman(*pair) for shot, pair in own.items()}})
    return result


def faults(seen: dict) -> dict:
    """By fault: median error, and the share of frames that each signal lifts above 95 % of the frames as they are."""
    shots, result = list(dict.fromkeys(shot for shot, _ in seen)), {}
    for fault in FAULTS:
        joined, usual = ({name: np.concatenate([seen[shot, which][name][:, 0] for shot in shots])
                          for name in seen[shots[0], AS_IS]} for which in (fault, AS_IS))
        result[fault] = {name: float((values > np.quantile(usual[name], 0.95)).mean())
                         for name, values in joined.items() if name != "error"}
        result[fault]["error_mm"] = float(np.median(joined["error"]))
    return result


def calibration(actor: Actor, model: Model, known: Familiarity, shots: list[Shot], config: Config, seen: dict) -> dict:
    """Expected against true error of each shot, by what was learned from the other shots."""
    result, names = {}, ["all", *sorted(model.regions)]
    for shot in shots if len(shots) > 1 else []:
        others = _frames(actor, [other for other in shots if other is not shot], config)
        fitted = learn_errors(model, known, others, config, CPU)
        for fault in (AS_IS, "with faults"):
            parts = [one for (name, which), one in seen.items()
                     if name == shot.name and (which == AS_IS) == (fault == AS_IS)]
            for region, name in enumerate(names):
                factor, power = fitted[name]
                error, new = (np.concatenate([one[what][:, region] for one in parts]) for what in ("error", "novelty"))
                ratio = np.log(error / (factor * new ** power))
                result.setdefault(name, {})[f"{shot.name}, {fault}"] = {
                    "true_over_expected": float(np.exp(np.median(ratio))),
                    "typical_factor": float(np.exp(np.median(np.abs(ratio))))}
    return result


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def auroc(error: np.ndarray, signal: np.ndarray) -> float:
    """How often a frame of the worst tenth has a higher signal than another one."""
    bad = error >= np.quantile(error, 0.9)
    return float((ranks(signal)[bad].sum() - bad.sum() * (bad.sum() - 1) / 2) / (bad.sum() * (~bad).sum()))


def ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[inverse]


def page(result: dict) -> str:
    equal, regions = result["equality"], result["equality"]["regions"]
    lines = [f"# Confidence: {result['actor']}", "",
             "Validation shots: " + ", ".join(f"{name} ({count} frames)" for name, count in result["shots"].items()),
             f"`python benchmarks/confidence.py ACTOR` on every {EVERY}th frame.", "",
             f"## Closed form against {equal['passes']:,} passes with dropout, {equal['frames']} frames", "",
             "Ratio of the spreads, mean over frames: "
             + ", ".join(f"{name} {value:.4f}" for name, value in zip(regions, equal["mean"], strict=True))
             + f". Frame by frame they differ by {equal['rms_off']:.2%} rms, {equal['worst_off']:.2%} at most: the "
             "noise of drawing.", "",
             f"## Processor time against that of a solve without ({result['cost']['engine']})", ""]
    lines += [f"- {name}: {value[0]:.2%} ({value[1]:.2%} to {value[2]:.2%}, the median lies there with 95 % certainty)"
              for name, value in result["cost"].items() if name != "engine"]
    lines += ["", "## Ranking of the true error", "",
              "Rank correlation over all shots, within each shot, and AUROC of the worst tenth; then the same over "
              "frames with and without planted faults together.", "",
              "| region | signal | correlation | within shots | AUROC | with faults | AUROC |",
              "| --- | --- | ---: | --- | ---: | ---: | ---: |"]
    for region, name in enumerate(regions):
        for signal, rows in result["ranking"].items():
            row = rows[region]
            within = ", ".join(f"{value:.2f}" for value in row["shots"].values())
            lines.append(f"| {name} | {signal} | {row['spearman']:.2f} | {within} | {row['auroc']:.2f} | "
                         f"{row['all_spearman']:.2f} | {row['all_auroc']:.2f} |")
    signals = list(result["ranking"])
    lines += ["", "## Planted faults", "", "Share of frames above 95 % of those as they are.", "",
              f"| fault | median error, mm | {' | '.join(signals)} |", f"| --- | ---: |{' ---: |' * len(signals)}"]
    lines += [f"| {fault} | {row['error_mm']:.2f} | {' | '.join(f'{row[name]:.0%}' for name in signals)} |"
              for fault, row in result["faults"].items()]
    lines += ["", "## Expected millimetres, learned from the other validation shots", "",
              "Median of true over expected error, and the factor within which half of the frames lie.", "",
              "| region | shot | true / expected | factor |", "| --- | --- | ---: | ---: |"]
    lines += [f"| {name} | {shot} | {row['true_over_expected']:.2f} | {row['typical_factor']:.2f} |"
              for name, rows in result["calibration"].items() for shot, row in rows.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
