"""Makes the pictures of the documentation from what `make demo` leaves behind: `make pictures`."""

import sys
from pathlib import Path

import cv2
import numpy as np

from understudy.core import draw
from understudy.core.actor import Actor
from understudy.core.crop import network_input
from understudy.core.footage import open_footage
from understudy.core.metrics import rmse_per_frame
from understudy.core.model import load_model
from understudy.core.solver import Solver
from understudy.training.sample import expression
from understudy.training.sample_face import Face
from understudy.training.sample_render import Renderer

HERE = Path(__file__).parent
EXPRESSIONS = [{}, {"jaw_open": 1}, {"smile_left": 1, "smile_right": 1}, {"pucker": 1},
               {"lid_left": 1, "lid_right": 1}, {"brow_inner": 1, "brow_outer": 1}]
FRAMES = (("val_facs", 40), ("val_facs", 90), ("val_talk", 60))


def expressions() -> np.ndarray:
    """The sample actor as the camera sees it."""
    face = Face()
    renderer = Renderer(face, 0)
    controls = np.stack([expression(**controls) for controls in EXPRESSIONS])
    pictures = [renderer.draw(vertices, np.eye(3), np.zeros(3), np.zeros(2))[..., ::-1]
                for vertices in face.pose(controls)]
    return draw.contact_sheet(pictures, 6)


def solves(folder: Path) -> np.ndarray:
    """Input, target, inferred and difference of frames that the sample's model never saw (the paper's Figure 7)."""
    actor, model = Actor.load(folder), load_model(folder / "model.safetensors")
    shots = {shot.name: shot for shot in actor.shots}
    view, solver, rows = draw.View.front(actor.template.vertices), Solver(model, "cpu", 1), []
    for name, frame in FRAMES:
        with open_footage(shots[name].footage_path(), model.transfer) as footage:
            picture = network_input(footage.read(frame), model.crop)
        target, inferred = shots[name].vertices()[frame], solver.solve(picture[None])[0]
        error = rmse_per_frame(inferred[None, model.animated], target[None, model.animated], model.millimetres)[0]
        rows.append(draw.comparison(picture, target, inferred, model.template.triangles(), view, model.millimetres,
                                    f"{error:.2f} mm"))
    return np.vstack(rows)


if __name__ == "__main__":
    for name, picture in (("expressions.jpg", expressions()), ("solve.jpg", solves(Path(sys.argv[1])))):
        small = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) if name[0] == "e" else picture
        cv2.imwrite(str(HERE / name), small, [cv2.IMWRITE_JPEG_QUALITY, 88])
