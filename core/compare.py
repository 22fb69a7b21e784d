"""A solved take beside its cleaned shot, as a movie (the paper's Figure 7, moving)."""

from pathlib import Path

import cv2
import numpy as np

from . import draw
from .actor import Actor, Shot
from .crop import HEIGHT, WIDTH, Crop, network_input
from .errors import UnderstudyError
from .files import read_json
from .footage import open_footage
from .jobs import Reporter
from .meshcache import read_cache
from .metrics import rmse_per_frame
from .movie_writer import MovieWriter


def compare(
    actor_folder: Path | str,        # the actor folder
    shot: str,                       # name of the cleaned shot
    solved: Path | str,              # cache that `solve` wrote of the shot's footage, its sidecar beside it
    out: Path | str,                 # movie to write; a picture of its worst frame lies beside it, as .png
    frames: int | None = None,       # at most so many, from the middle of what both hold. None = all
    report: Reporter = Reporter(),   # told what happens; asked whether to stop
) -> dict:
    """Write input | target | inferred | difference for every frame that the shot and the solve share.

    Returns {"rmse_mm", "worst_mm", "worst_frame", "frames"}: RMSE over animated vertices pooled over the frames shown.
    Raises UnderstudyError if the solve is of other footage or another mesh, and Cancelled.
    """
    actor, out = Actor.load(actor_folder), Path(out)
    cleaned = _shot(actor, shot)
    target, inferred = cleaned.vertices(), read_cache(solved)
    topology, identity, begun, crop = _sidecar(Path(solved).with_suffix(".json"))
    if topology != actor.template.hash or inferred.shape[1:] != target.shape[1:]:
        raise UnderstudyError(f"{solved} was solved with another mesh than {actor.name}'s. Solve again with its model.")
    with open_footage(cleaned.footage_path(), actor.transfer) as footage:
        if identity != footage.identity:
            raise UnderstudyError(f"{solved} was solved from other footage than {footage.path}, that of {shot}.")
        first = max(cleaned.first_frame, begun)
        stop = min(cleaned.first_frame + len(target), begun + len(inferred), footage.frames)
        if first >= stop:
            raise UnderstudyError(f"{solved} and {shot} share no frame.")
        if frames is not None and stop - first > frames:
            first += (stop - first - frames) // 2
            stop = first + frames
        target = target[first - cleaned.first_frame:stop - cleaned.first_frame]
        inferred = inferred[first - begun:stop - begun]
        errors = np.concatenate([rmse_per_frame(inferred[[i]][:, actor.animated], target[[i]][:, actor.animated],
                                                actor.millimetres) for i in range(stop - first)])
        triangles, view = actor.template.triangles(), draw.View.front(actor.template.vertices)
        report.status("Drawing")
        pictures = footage.iterate(first, stop, transform=lambda picture: network_input(picture, crop))
        with MovieWriter(out, 4 * WIDTH, HEIGHT, footage.fps) as movie:
            for i, picture in enumerate(pictures):
                report.check_cancel()
                row = draw.comparison(picture, np.asarray(target[i], np.float32), np.asarray(inferred[i], np.float32),
                                      triangles, view, actor.millimetres, f"{errors[i]:.2f} mm")
                movie.write(cv2.cvtColor(row, cv2.COLOR_BGR2RGB))
                if i == errors.argmax():
                    draw.write_png(out.with_suffix(".png"), row)
                report.progress(i + 1, stop - first)
    report.artifact(out, "movie")
    report.artifact(out.with_suffix(".png"), "picture")
    return {"frames": stop - first, "rmse_mm": float(np.sqrt(np.square(errors).mean())),
            "worst_mm": float(errors.max()), "worst_frame": first + int(errors.argmax())}


def _sidecar(path: Path) -> tuple[str, str, int, Crop]:
    """Topology, footage identity, first frame and crop of a solve."""
    values = read_json(path)
    try:
        return values["topology"], values["footage_identity"], int(values["first"]), Crop(*map(float, values["crop"]))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UnderstudyError(f"{path} is no sidecar of a solve, or is damaged. Solve again.") from error


def _shot(actor: Actor, name: str) -> Shot:
    for shot in actor.shots:
        if shot.name == name:
            return shot
    raise UnderstudyError(f"{actor.name} has no shot named {name}; it has {', '.join(s.name for s in actor.shots)}.")
