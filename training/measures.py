"""What a reproduction measures, each as plain numbers by name."""

import statistics
import time
from pathlib import Path

import cv2
import numpy as np

from ..core import metrics, pca
from ..core.actor import Actor
from ..core.crop import HEIGHT, WIDTH
from ..core.files import atomic
from ..core.jobs import Reporter
from ..core.solver import Solver, load_solver
from .augment import light, matrices
from .config import Config
from .dataset import Frames, read_frames
from .evaluate import evaluate

CHUNK = 64           # frames held at a time
MOVED_FRAMES = 120   # frames that are moved about, evenly spaced
PAPER_BATCH = 200    # of the paper's Table 1
SECONDS = 2.0        # that a speed is measured for, and how often
ROUNDS = 3
PICTURES = 2000      # whose principal components are counted
SHARE = 0.999        # of the variance (Sec. 3.1 and 5.1)
MOVES = {            # what is done to pictures, well within what the base is trained with
    "8 pixels aside": ((8, 0, 0, 1), (1, 0)), "8 pixels down": ((0, 8, 0, 1), (1, 0)),
    "turned by 3 degrees": ((0, 0, 3, 1), (1, 0)), "5 % larger": ((0, 0, 0, 1 / 1.05), (1, 0)),
    "15 % more contrast": ((0, 0, 0, 1), (1.15, 0)), "brighter by 0.25 deviations": ((0, 0, 0, 1), (1, 0.25)),
}


def model(actor: Actor, path: Path, device: str, moved: bool, report: Reporter) -> dict:
    """Errors, temporal noise and attenuation of a model on the validation shots; `moved`, also on moved pictures."""
    solver, _ = load_solver(path, device, engine="torch")
    figures = metrics.motion_figures(_motion(actor, solver, report), ["all"])["all"]
    return figures | ({"moved": _moved(actor, solver, report)} if moved else {})


def _motion(actor: Actor, solver: Solver, report: Reporter) -> np.ndarray:
    """metrics.Motion over all validation shots, summed up."""
    frames = read_frames(actor, actor.training_shots(), actor.validation_shots(), Config(), report)[1]
    sums = []
    for number in range(len(frames.shots)):
        motion, own = metrics.Motion({"all": np.arange(len(actor.animated))}, actor.millimetres), frames.shot == number
        for rows in np.array_split(np.flatnonzero(own), -(-own.sum() // CHUNK)):
            report.check_cancel()
            motion.add(frames.sample[rows], solver.solve(frames.inputs(rows))[:, actor.animated], frames.targets(rows))
        sums.append(motion.sums())
    return sum(sums)


def _moved(actor: Actor, solver: Solver, report: Reporter) -> dict:
    """RMSE in mm on some validation frames as they are ("not moved") and with each of MOVES."""
    frames = read_frames(actor, actor.validation_shots(), [], Config(), report)[0]  # with room to move
    rows = np.unique(np.linspace(0, len(frames) - 1, MOVED_FRAMES).round().astype(int))
    targets, deviation = frames.targets(rows), solver.model.whitening[1]
    found = {}
    for name, ((x, y, degrees, scale), (gain, offset)) in {"not moved": ((0, 0, 0, 1), (1, 0)), **MOVES}.items():
        turn = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), degrees, scale)
        turn[:, 2] += x, y
        maps = np.tile(np.vstack([turn, [0, 0, 1]]), (len(rows), 1, 1))
        pictures = frames.inputs(rows, maps).astype(np.float32)
        mean = solver.model.whitening[0]
        pictures = np.clip(np.rint((pictures - mean) * gain + mean + offset * deviation), 0, 255).astype(np.uint8)
        found[name] = metrics.pooled(metrics.rmse_per_frame(solver.solve(pictures)[:, actor.animated], targets,
                                                            actor.millimetres))
        report.check_cancel()
    return found


def evaluation(actor: Actor, path: Path, out: Path, device: str, report: Reporter) -> dict:
    """`understudy evaluate` of the converged model, whose Figures 6 and 7 are taken over."""
    result = evaluate(actor.folder, out / "evaluation", path, report, device)
    figures = result["overall"]["regions"]["all"]
    about = result["model"]["about"]
    return {name: figures[name] for name in figures} | {
        "frames": result["overall"]["frames"], "shots": {shot["name"]: shot["rmse_mm"] for shot in result["shots"]},
        "marked": [mark["rmse_mm"] for shot in result["shots"] for mark in shot["marked"] if mark["which"] == "worst"],
        "trained_rmse_mm": about.get("validation", {}).get("rmse_mm"), "images": about.get("images"),
        "training_frames": about.get("frames")}


def components(actor: Actor, report: Reporter) -> dict:
    """How many principal components hold 99.9 % of the variance: of the training meshes, and of their pictures."""
    frames = read_frames(actor, actor.training_shots(), [], Config(), report)[0]
    wanted = Config().components
    *_, deviations, explained = pca.fit(frames.targets, len(frames), min(2 * wanted, len(frames) - 1))
    shares = np.cumsum(np.square(deviations, dtype=np.float64))
    shares *= explained / shares[-1]
    report.check_cancel()
    pictures = _pictures(frames)
    values = np.linalg.eigvalsh(pictures @ pictures.T)[::-1].clip(0)
    return {"mesh_dimensions": _reached(shares), "mesh_share": float(shares[min(wanted, len(shares)) - 1]),
            "frames": len(frames), "coordinates": 3 * len(actor.animated),
            "picture_dimensions": _reached(np.cumsum(values) / values.sum()), "pictures": len(pictures)}


def _reached(shares: np.ndarray) -> int | None:
    found = np.flatnonzero(shares >= SHARE)
    return int(found[0]) + 1 if len(found) else None


def _pictures(frames: Frames) -> np.ndarray:
    """Training inputs less their mean, (n, 19200) float32: at half the size, which has the same large components."""
    rows = np.unique(np.linspace(0, len(frames) - 1, PICTURES).round().astype(int))
    small = [cv2.resize(frames.inputs(rows[i:i + 1])[0], (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA)
             for i in range(len(rows))]
    pictures = np.stack(small).reshape(len(rows), -1).astype(np.float32)
    return pictures - pictures.mean(0)


def speed(path: Path, device: str) -> dict:
    """Frames a second of the network one by one and in batches, the medians of ROUNDS (paper, Table 1).

    The paper's batches are of 200 frames, on a GPU; here 200 frames go through in what is the fastest on the device.
    """
    inputs = np.random.default_rng(0).integers(0, 256, (PAPER_BATCH, HEIGHT, WIDTH), np.uint8)
    found: dict = {}
    for name, batch in (("online", 1), ("batched", None)):
        solver, _ = load_solver(path, device, batch)
        shown = inputs[:batch]
        solver.solve(shown)
        found[name] = statistics.median(_rate(solver, shown) for _ in range(ROUNDS))
        found[f"{name}_batch"] = solver.batch
        found[f"{name}_engine"] = solver.engine
    return found | {"device": str(solver.device)}


def _rate(solver: Solver, inputs: np.ndarray) -> float:
    began, done = time.perf_counter(), 0
    while (taken := time.perf_counter() - began) < SECONDS or not done:
        solver.solve(inputs)
        done += len(inputs)
    return done / taken


def figure3(actor: Actor, config: Config, path: Path, report: Reporter) -> None:
    """A training input as it is, top left, and as training shows it at full strength (paper, Fig. 3)."""
    frames = read_frames(actor, actor.training_shots()[:1], [], config, report)[0]
    rows, columns, rng = 2, 6, np.random.default_rng(3)
    index, count = len(frames) // 2, rows * columns
    maps, lights = matrices(config, 1.0, count, rng), light(config, 1.0, count, rng)
    maps[0], lights[0] = np.eye(3), (1, 0, 1, 0)
    pictures = frames.inputs(np.full(count, index), maps).astype(np.float32)
    mean, deviation = pictures[0].mean(), pictures[0].std()
    gain, offset = lights[:, :2].T[:, :, None, None]
    pictures = np.clip((pictures - mean) * gain + mean + offset * deviation, 0, 255).astype(np.uint8)
    grid = pictures.reshape(rows, columns, HEIGHT, WIDTH)
    grid = np.pad(grid, ((0, 0), (0, 0), (2, 2), (2, 2)), constant_values=255)
    sheet = grid.transpose(0, 2, 1, 3).reshape(rows * (HEIGHT + 4), -1)
    with atomic(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", cv2.resize(sheet, None, fx=0.6, fy=0.6,
                                                              interpolation=cv2.INTER_AREA))[1].tobytes())

