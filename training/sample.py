"""The sample actor: a complete actor folder with exact ground truth, made from code alone and always the same.

A sculpted face (sample_face.py) is moved by control curves and filmed (sample_render.py). The head moves in the
picture and never in the vertices; lights flicker, the exposure differs from shot to shot, and the sensor is noisy.
"""

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..core.actor import Actor, create_actor
from ..core.errors import UnderstudyError
from ..core.files import make_folder
from ..core.jobs import Reporter
from ..core.movie_writer import MovieWriter
from ..core.topology import Mesh, write_obj
from . import sample_face as face
from .sample_render import HEIGHT, WIDTH, Renderer, rotation

FPS = 30.0
CROP = (36, 56, 312, 416)  # leaves a margin of real pixels for augmentation
SEED = 20170728
NOISE = 2.2  # gray levels, deviation of the sensor's noise

NEUTRAL = np.zeros(len(face.CONTROLS))


def expression(**values: float) -> np.ndarray:
    """(14,) control values, zero but for those named."""
    controls = NEUTRAL.copy()
    for name, value in values.items():
        controls[face.CONTROLS.index(name)] = value
    return controls


SMILE, SHUT, WIDE = dict(smile_left=1, smile_right=1), dict(lid_left=1, lid_right=1), dict(lid_left=-1, lid_right=-1)
EXTREMES = [expression(**values) for values in (
    dict(jaw_open=1), dict(jaw_side=1, jaw_open=0.15), dict(jaw_side=-1, jaw_open=0.15), dict(SMILE), dict(pucker=1),
    dict(SHUT, brow_lower=1, nose_wrinkle=0.8, **SMILE), dict(WIDE, jaw_open=0.8, brow_inner=1, brow_outer=1),
    dict(frown=1, brow_lower=1), dict(funnel=1, jaw_open=0.5), dict(cheek_puff=1), dict(jaw_open=0.5, **SMILE),
    dict(pucker=1, jaw_open=0.3, brow_inner=1), dict(nose_wrinkle=1, brow_lower=0.6, lid_left=0.4, lid_right=0.4))]

VOWELS = [expression(**values) for values in (
    dict(jaw_open=0.55), dict(jaw_open=0.4, smile_left=0.15, smile_right=0.15), dict(jaw_open=0.34, funnel=0.5),
    dict(jaw_open=0.12, pucker=0.75), dict(jaw_open=0.15, smile_left=0.4, smile_right=0.4), dict(jaw_open=0.28))]
CONSONANTS = [expression(**values) for values in (
    {}, {}, dict(frown=0.12), dict(funnel=0.25, pucker=0.2), dict(jaw_open=0.08),
    dict(jaw_open=0.05, nose_wrinkle=0.15))]


# --- how the face moves -----------------------------------------------------------------------------------------------

def smooth(curves: np.ndarray, width: float) -> np.ndarray:
    """Curves (frames, k) smoothed by a bell of deviation `width` frames; their ends go on."""
    reach = int(np.ceil(3 * width))
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    padded = np.pad(curves, ((reach, reach), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, bell / bell.sum(), "valid") for column in padded.T], axis=-1)


def wander(rng: np.random.Generator, frames: int, kinds: int, period: float) -> np.ndarray:
    """(frames, kinds) smooth random curves of deviation 1 that turn about every `period` frames."""
    margin = int(3 * period)
    curves = smooth(rng.standard_normal((frames + 2 * margin, kinds)), period / 2)[margin:-margin]
    return curves * np.sqrt(np.sqrt(np.pi) * period)


def through(poses: list[np.ndarray], frames: int, hold: float) -> np.ndarray:
    """(frames, 14) from pose to pose at an even pace, each held for that share of its time, neutral at both ends."""
    steps = np.linspace(0, len(poses) + 1, frames)
    share = face.smoothstep(hold / 2, 1 - hold / 2, steps % 1)[:, None]
    stations = np.array([NEUTRAL, *poses, NEUTRAL, NEUTRAL])
    at = steps.astype(int)
    return stations[at] * (1 - share) + stations[at + 1] * share


def talk(rng: np.random.Generator, frames: int) -> np.ndarray:
    """(frames, 14) of speech: four to five syllables a second in phrases, with pauses and raised brows for stress."""
    times, poses, stressed = [0.0], [NEUTRAL], np.zeros(frames)
    while times[-1] < frames:
        for _ in range(rng.integers(5, 12)):
            loud = rng.uniform(0.6, 1.25)
            for sounds, length in ((CONSONANTS, rng.uniform(2, 3.5)), (VOWELS, rng.uniform(3, 5))):
                times.append(times[-1] + length)
                poses.append(sounds[rng.integers(len(sounds))] * loud)
            if rng.random() < 0.15 and times[-1] < frames:
                stressed[int(times[-1]):int(times[-1]) + 9] = rng.uniform(0.3, 0.9)
        for length in (5, rng.uniform(6, 16)):
            times.append(times[-1] + length)
            poses.append(NEUTRAL)
    mouth = np.stack([np.interp(np.arange(frames), times, curve) for curve in np.transpose(poses)], axis=-1)
    brows = smooth(stressed[:, None], 2.5) * expression(brow_inner=1, brow_outer=0.8)
    return smooth(mouth, 0.9) + brows


def moods(rng: np.random.Generator, frames: int, strength: float) -> np.ndarray:
    """(frames, 14) of slowly changing expression."""
    faces = np.array([expression(smile_left=0.6, smile_right=0.6), expression(smile_left=0.4),
                      expression(frown=0.6, brow_inner=0.7), expression(brow_lower=0.9, nose_wrinkle=0.2),
                      expression(brow_inner=0.7, brow_outer=0.8, lid_left=-0.6, lid_right=-0.6),
                      expression(lid_left=0.35, lid_right=0.35, cheek_puff=0.2),
                      expression(smile_right=0.45, jaw_side=0.2)])
    return strength * np.clip(0.8 * wander(rng, frames, len(faces), 25), 0, 1.2) @ faces


def blink(rng: np.random.Generator, controls: np.ndarray) -> None:
    """Close both lids for a moment every one to four seconds, in place."""
    shape = np.array([0.35, 0.9, 1.0, 0.85, 0.5, 0.2])
    lids = [face.CONTROLS.index("lid_left"), face.CONTROLS.index("lid_right")]
    start = int(rng.integers(5, 60))
    while start + len(shape) < len(controls):
        moment = controls[start:start + len(shape), lids]
        controls[start:start + len(shape), lids] = moment + shape[:, None] * (1 - moment)
        start += int(rng.integers(30, 120))


def _one_by_one(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Every control alone, and back to neutral after each."""
    poses = []
    for name in face.CONTROLS:
        poses += [expression(**{name: side}) for side in ((0.7, -0.7) if name == "jaw_side" else (0.75,))] + [NEUTRAL]
    return through(poses, frames, 0.2)


def _mixed(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Three random controls at a time."""
    poses = []
    for _ in range(frames // 14):
        pose = NEUTRAL.copy()
        pose[rng.choice(len(pose), 3, replace=False)] = rng.uniform(0.25, 0.8, 3)
        poses.append(pose)
    return through(poses, frames, 0.2)


@dataclass(frozen=True)
class Plan:
    """A shot to be made."""

    name: str
    role: str
    split: str
    frames: int
    move: Callable[[np.random.Generator, int], np.ndarray]  # (generator, frames) -> (frames, 14) controls


PLANS = (
    Plan("rom", "extreme", "train", 210, lambda rng, frames: through(EXTREMES, frames, 0.3)),
    Plan("facs", "facs", "train", 250, _one_by_one),
    Plan("pangram_calm", "pangram", "train", 170, talk),
    Plan("pangram_tense", "pangram", "train", 130,
         lambda rng, frames: 1.2 * talk(rng, frames) + expression(brow_lower=0.5, nose_wrinkle=0.1)),
    Plan("scene", "character", "train", 260, lambda rng, frames: 0.9 * talk(rng, frames) + moods(rng, frames, 0.9)),
    Plan("val_facs", "facs", "validation", 130, _mixed),
    Plan("val_talk", "character", "validation", 170,
         lambda rng, frames: talk(rng, frames) + moods(rng, frames, 0.6)),
)


# --- how it is filmed -------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Take:
    """What happens in a shot, frame by frame."""

    controls: np.ndarray  # (N, 14)
    turns: np.ndarray  # (N, 3) radians: yaw, pitch, roll of the head
    shifts: np.ndarray  # (N, 3) cm of the head
    gazes: np.ndarray  # (N, 2) radians of the eyes, left and up
    gains: np.ndarray  # (N,) exposure and flicker
    vertices: np.ndarray  # (N, V, 3) float32, head-stabilised


def make_take(plan: Plan, actor: face.Face, number: int) -> Take:
    """Decide all of a shot from its number."""
    rng = np.random.default_rng([SEED, number])
    frames = plan.frames
    controls = plan.move(rng, frames) + 0.03 * wander(rng, frames, len(face.CONTROLS), 12)  # a face is never still
    blink(rng, controls)
    low = np.where(np.isin(face.CONTROLS, ["jaw_side", "lid_left", "lid_right"]), -1.0, 0.0)
    controls = np.clip(controls, low, [1.0] * len(low))
    turns = np.radians([3.0, 2.2, 1.6]) * (wander(rng, frames, 3, 30) + 0.5 * rng.standard_normal(3))
    shifts = np.array([0.25, 0.20, 0.6]) * (wander(rng, frames, 3, 40) + 0.5 * rng.standard_normal(3))
    looks = np.radians([7.0, 4.0]) * rng.standard_normal((frames // 12 + 1, 2))  # eyes jump between places
    gazes = smooth(np.repeat(looks, 12, axis=0)[:frames], 0.6) - [0.5, -0.5] * turns[:, :2]
    time = np.arange(frames) / FPS
    flicker = 0.018 * np.sin(2 * np.pi * 100.3 * time + rng.uniform(0, 6))  # lamps on 50 Hz mains pulse at 100 Hz
    gains = rng.uniform(0.93, 1.07) * (1 + flicker + 0.012 * wander(rng, frames, 1, 60)[:, 0])
    return Take(controls, turns, shifts, gazes, gains, actor.pose(controls))


def film(take: Take, renderer: Renderer, number: int) -> Iterator[np.ndarray]:
    """The pictures of a shot, (512, 384, 3) uint8 RGB each."""
    rng = np.random.default_rng([SEED, number, 1])
    grain = np.rint(NOISE * rng.standard_normal((HEIGHT + 64, WIDTH + 64, 3))).astype(np.int16)
    for frame, vertices in enumerate(take.vertices):
        picture = renderer.draw(vertices, rotation(*take.turns[frame]), take.shifts[frame], take.gazes[frame])
        picture = cv2.convertScaleAbs(picture, alpha=take.gains[frame])
        y, x = rng.integers(64, size=2)
        yield cv2.add(picture, grain[y:y + HEIGHT, x:x + WIDTH], dtype=cv2.CV_8U)


# --- the folder -------------------------------------------------------------------------------------------------------

def make_sample(folder: Path | str, report: Reporter = Reporter(), plans: tuple[Plan, ...] = PLANS) -> Actor:
    """Make the sample actor's folder, with footage in `footage/`: all of it or nothing.

    folder : absent, or empty.    Raises UnderstudyError, and Cancelled when the report asks to stop.
    """
    folder = Path(folder).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UnderstudyError(f"{folder} is not empty. Choose a new folder for the sample actor.")
    temporary = make_folder(folder.parent) / f".{folder.name}.{uuid.uuid4().hex[:8]}"
    try:
        _fill(temporary, folder.name, report, plans)
        if folder.exists():
            folder.rmdir()
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    report.artifact(folder, "actor")
    return Actor.load(folder)


def _fill(folder: Path, name: str, report: Reporter, plans: tuple[Plan, ...]) -> None:
    report.status("Sculpting the face.")
    sculpture = face.Face()
    actor = _create(folder, name, sculpture)
    renderer = Renderer(sculpture, SEED)
    make_folder(folder / "footage")
    total, done = sum(plan.frames for plan in plans), 0
    for number, plan in enumerate(plans):
        report.status(f"Filming {plan.name}.")
        take = make_take(plan, sculpture, number)
        footage = folder / "footage" / f"{plan.name}.mp4"
        with MovieWriter(footage, WIDTH, HEIGHT, FPS) as movie:
            for picture in film(take, renderer, number):
                report.check_cancel()
                movie.write(picture)
                done += 1
                report.progress(done, total)
        actor.add_shot(plan.name, footage, take.vertices, plan.role, plan.split, fps=FPS)


def _create(folder: Path, name: str, sculpture: face.Face) -> Actor:
    """The actor folder without shots."""
    faces = sculpture.faces
    sizes = np.where(faces[:, 2] == faces[:, 3], 3, 4).astype(np.int32)
    corners = faces[np.arange(4) < sizes[:, None]]
    animated, stabiliser = sculpture.masks()
    with tempfile.TemporaryDirectory() as scratch:
        template = Path(scratch) / "template.obj"
        write_obj(template, Mesh(sculpture.pose(NEUTRAL)[0], sizes, corners))
        return create_actor(folder, template, "cm", name, animated, stabiliser, sculpture.regions(), CROP)
