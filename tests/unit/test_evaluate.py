"""Evaluation of a tiny actor whose mesh is known from the gray level of its pictures."""

import csv
import json
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from understudy.core.actor import Actor, create_actor
from understudy.core.crop import Crop
from understudy.core.errors import Cancelled, UnderstudyError
from understudy.core.jobs import Reporter
from understudy.core.model import Model
from understudy.core.network import Network
from understudy.core.topology import Mesh
from understudy.training import evaluate as module
from understudy.training.evaluate import evaluate
from understudy.training.report import figure6

CROP = (0, 0, 96, 128)
ANIMATED = np.arange(24)  # of 30 vertices
REGIONS = {"brows": np.arange(6), "l<i>ps & more": np.arange(12, 30)}
TRAINING = np.arange(40, 161, 5)  # gray levels of the training pictures
VALIDATION = np.arange(61, 131)


def grid() -> np.ndarray:
    """(30, 3) vertices of a 6 x 5 sheet of 12 cm."""
    y, x = np.meshgrid(np.linspace(6, -6, 5), np.linspace(-5, 5, 6), indexing="ij")
    return np.stack([x, y, 0.1 * x * y], axis=2).reshape(-1, 3).astype(np.float32)


def mesh(gray: np.ndarray) -> np.ndarray:
    """(n, 30, 3) the meshes that belong to pictures of these gray levels, cm."""
    shape = np.random.default_rng(0).normal(0, 0.3, (30, 3))
    return (grid() + np.sin(np.asarray(gray) / 20)[:, None, None] * shape).astype(np.float32)


def footage(folder: Path, grays: np.ndarray) -> Path:
    folder.mkdir()
    for i, gray in enumerate(grays):
        cv2.imwrite(str(folder / f"face.{i:04d}.png"), np.full((128, 96), gray, np.uint8))
    return folder


@pytest.fixture
def actor(tmp_path: Path) -> Actor:
    """One training shot, and one validation shot that starts at its footage's frame 3 and excludes two samples."""
    lines = [f"v {x} {y} {z}" for x, y, z in grid()]
    lines += [f"f {a} {a + 6} {a + 7} {a + 1}" for row in range(4) for a in range(6 * row + 1, 6 * row + 6)]
    (tmp_path / "sheet.obj").write_text("\n".join(lines))
    actor = create_actor(tmp_path / "actor", tmp_path / "sheet.obj", "cm", name="A & <b>", animated=ANIMATED,
                         regions=REGIONS, crop=CROP)
    actor.add_shot("learned", footage(tmp_path / "a", TRAINING), mesh(TRAINING), "pangram", "train")
    pictures = footage(tmp_path / "b", np.concatenate([[0, 0, 0], VALIDATION]))
    shot = actor.add_shot("held out", pictures, mesh(VALIDATION), "character", "validation", first_frame=3)
    shot.excluded = [[10, 11]]
    shot.save()
    save_model(actor)
    return actor


def save_model(actor: Actor, **changes: object) -> None:
    """A model that always answers with the mean of the training meshes."""
    mean = mesh(TRAINING)[:, ANIMATED].mean(axis=0)
    network = Network(mean.size, 2)
    with torch.no_grad():
        network.output.weight.zero_()
        network.output.bias.copy_(torch.from_numpy(mean.ravel()))
    values = dict(actor=actor.name, unit=actor.unit, crop=Crop(*CROP), transfer="sRGB", template=actor.template,
                  animated=actor.animated, stabiliser=actor.stabiliser, regions=actor.regions, whitening=(100.0, 30.0),
                  mean=mean, basis=np.zeros((2, *mean.shape), np.float32), network=network, about={"epochs": 1})
    Model(**(values | changes)).save(actor.folder / "model.safetensors")


@pytest.fixture
def seeing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A solver that reads the mesh off the picture, but keeps 80 % of the motion and lies 0.05 cm aside."""
    class Seeing:
        def __init__(self, *_: object):
            pass

        def solve(self, inputs: np.ndarray) -> np.ndarray:
            return grid() + 0.8 * (mesh(inputs[:, 160, 120]) - grid()) + np.float32([0.05, 0, 0])

    monkeypatch.setattr(module, "Solver", Seeing)


def rmse(predicted: np.ndarray, grays: np.ndarray, vertices: np.ndarray = ANIMATED) -> np.ndarray:
    """Independent of core/metrics.py: mm for a mesh unit of a centimetre."""
    return 10 * np.sqrt(((predicted - mesh(grays)) ** 2).sum(axis=2)[:, vertices].mean(axis=1))


def read_table(path: Path) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_figures_agree_with_an_independent_count(actor: Actor, tmp_path: Path, seeing: None):
    result = evaluate(actor.folder, tmp_path / "out")
    grays = np.delete(VALIDATION, [10, 11])
    solved = grid() + 0.8 * (mesh(grays) - grid()) + [0.05, 0, 0]
    mean = np.broadcast_to(mesh(TRAINING).mean(axis=0), solved.shape)
    nearest = mesh(5 * np.round(grays / 5))
    expected = [rmse(predicted, grays) for predicted in (solved, mean, nearest)]

    rows = read_table(tmp_path / "out/frames.csv")
    assert [int(row["frame"]) for row in rows] == [sample + 3 for sample in range(70) if sample not in (10, 11)]
    assert [int(row["frame"]) - int(row["sample"]) for row in rows] == [3] * 68
    for name, values in zip(("rmse_mm", "mean_mesh_mm", "nearest_mm"), expected, strict=True):
        np.testing.assert_allclose([float(row[name]) for row in rows], values, atol=2e-4)
        pooled = np.sqrt((values ** 2).mean())
        for group in (result["overall"], result["roles"]["character"], result["shots"][0]):
            assert group["regions"]["all"][name] == pytest.approx(pooled, rel=1e-4)
    for region, vertices in REGIONS.items():
        values = rmse(solved, grays, np.intersect1d(vertices, ANIMATED))
        np.testing.assert_allclose([float(row[f"{region}_mm"]) for row in rows], values, atol=2e-4)
        assert result["overall"]["regions"][region]["attenuation"] == pytest.approx(0.8, rel=1e-3)
    assert result["region_vertices"] == {"all": 24, "brows": 6, "l<i>ps & more": 12}
    assert result["overall"]["worst_mm"] == pytest.approx(expected[0].max(), rel=1e-4)
    assert result["headline"].startswith(f"Solved frames lie {np.sqrt((expected[0] ** 2).mean()):.2f} mm")


def test_dots_of_figure_6_lie_on_its_curve(actor: Actor, tmp_path: Path, seeing: None, monkeypatch: pytest.MonkeyPatch):
    drawn = []
    monkeypatch.setattr(module, "write_report", lambda out, result, curves, marked: drawn.append((curves, marked)))
    evaluate(actor.folder, tmp_path / "out")
    (strip,) = figure6(*drawn[0], "black").axes
    line, *dots = [np.array(part.get_data()) for part in strip.lines]
    assert line[0, 0] == 3 and np.isnan(line[1, 10:12]).all()  # footage frames; excluded samples leave a gap
    for x, y in (dot[:, 0] for dot in dots):
        assert line[1, line[0] == x] == y
    assert len(dots) == 3


def test_marked_frames_are_worst_median_and_best(actor: Actor, tmp_path: Path, seeing: None):
    shot = evaluate(actor.folder, tmp_path / "out")["shots"][0]
    errors = {int(row["frame"]): float(row["rmse_mm"]) for row in read_table(tmp_path / "out/frames.csv")}
    marks = {mark["which"]: mark for mark in shot["marked"]}
    assert errors[marks["worst"]["frame"]] == max(errors.values())
    assert errors[marks["best"]["frame"]] == min(errors.values())
    assert marks["median"]["rmse_mm"] == pytest.approx(shot["median_mm"], abs=0.02)


def test_a_model_that_only_knows_the_mean_is_no_better_than_it(actor: Actor, tmp_path: Path):
    figures = evaluate(actor.folder, tmp_path / "out", device="cpu")["overall"]["regions"]["all"]
    assert figures["rmse_mm"] == pytest.approx(figures["mean_mesh_mm"], rel=1e-5)
    assert figures["attenuation"] == pytest.approx(0, abs=1e-4)


class Page(HTMLParser):
    """Collects tags, checks that they close, and refuses whatever reaches outside the file."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            assert not name.startswith("on")
            if name in ("href", "src", "xlink:href"):
                assert value.startswith(("#", "data:"))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list) -> None:
        self.handle_starttag(tag, attributes)
        self.open.remove(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_alone_and_shows_names_as_they_are(actor: Actor, tmp_path: Path, seeing: None):
    out = tmp_path / "out"
    result = evaluate(actor.folder, out)
    text = (out / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.tags.count("img") == 3 and page.tags.count("svg") == 1
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "A &amp; &lt;b&gt;" in text and "l&lt;i&gt;ps &amp; more" in text and "<i>" not in text
    assert result["headline"] in text and "url(" not in text.replace("url(#", "")
    assert json.loads((out / "evaluation.json").read_text(encoding="utf-8")) == json.loads(json.dumps(result))
    assert {path.name for path in out.iterdir()} == {"evaluation.json", "frames.csv", "shots.csv", "report.html",
                                                     "figure6.png", "figure7.png"}
    assert all(cv2.imread(str(out / f"figure{i}.png")) is not None for i in (6, 7))


def test_shots_table_has_a_line_for_each_region(actor: Actor, tmp_path: Path, seeing: None):
    result = evaluate(actor.folder, tmp_path / "out")
    rows = read_table(tmp_path / "out/shots.csv")
    assert [(row["shot"], row["region"]) for row in rows] == [("held out", name) for name in ("all", *REGIONS)]
    assert float(rows[1]["rmse_mm"]) == result["shots"][0]["regions"]["brows"]["rmse_mm"]


def test_lips_that_stay_ajar_are_told(actor: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The first rows of the sheet are lips, shut in dark pictures; the solver leaves them open by 0.7 mm."""
    def lips(grays: np.ndarray, ajar: float = 0.0) -> np.ndarray:
        meshes = np.repeat(grid()[None], len(grays), axis=0)
        opening = np.maximum((np.asarray(grays) - 100) / 50, ajar)  # cm
        meshes[:, 6:12] = meshes[:, :6] - np.array([0, 1, 0], np.float32) * opening[:, None, None]
        return meshes

    class Ajar:
        def __init__(self, *_: object):
            pass

        def solve(self, inputs: np.ndarray) -> np.ndarray:
            return lips(inputs[:, 160, 120].astype(int), 0.07)

    actor.regions["lips"] = np.arange(12, dtype=np.int32)
    actor.save()
    for name, shot in (("tight", "train"), ("speech", "validation")):
        grays = TRAINING if shot == "train" else VALIDATION
        actor.add_shot(name, footage(tmp_path / name, grays), lips(grays), "pangram", shot)
    for shot in actor.shots:  # only these two
        shot.status = "cleaned" if shot.name in ("tight", "speech") else "raw"
        shot.save()
    save_model(actor, regions=actor.regions)
    monkeypatch.setattr(module, "Solver", Ajar)
    found = evaluate(actor.folder, tmp_path / "out")["overall"]["gaps"]["lips"]
    shut = int(sum(VALIDATION < 100 + 5 * found["shut_mm"]))
    assert found["shut_frames"] == shut >= 40
    wrong = np.maximum(0.7 - np.maximum(VALIDATION[:shut] - 100, 0) / 5, 0).mean()
    assert found["error_mm"] == found["too_open_mm"] == pytest.approx(wrong, abs=1e-3)
    assert "Closed lips and lids" in (tmp_path / "out/report.html").read_text(encoding="utf-8")


def test_without_validation_shots_training_shots_are_measured_and_called_so(actor: Actor, tmp_path: Path, seeing: None):
    for shot in actor.shots:
        shot.split = "train"
        shot.save()
    warnings = []

    class Listening(Reporter):
        def warning(self, text: str) -> None:
            warnings.append(text)

    result = evaluate(actor.folder, tmp_path / "out", report=Listening())
    assert result["split"] == "train" and len(result["shots"]) == 2
    assert "training" in result["headline"] and "no cleaned validation shot" in warnings[0]
    assert "no validation shot" in (tmp_path / "out/report.html").read_text(encoding="utf-8")


def test_a_model_of_another_mesh_or_unit_is_refused(actor: Actor, tmp_path: Path):
    save_model(actor, unit=0.001)
    with pytest.raises(UnderstudyError, match="units of 0.001 m"):
        evaluate(actor.folder, tmp_path / "out")
    template = actor.template
    save_model(actor, template=Mesh(template.vertices, template.face_sizes[:-1], template.face_indices[:-4]))
    with pytest.raises(UnderstudyError, match="another mesh"):
        evaluate(actor.folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_footage_shorter_than_its_vertices_is_named(actor: Actor, tmp_path: Path, seeing: None):
    (tmp_path / "b/face.0072.png").unlink()
    with pytest.raises(UnderstudyError, match="72 frames, but shot held out needs frame 72"):
        evaluate(actor.folder, tmp_path / "out")


def test_cancel_stops_between_chunks_and_leaves_no_half_report(actor: Actor, tmp_path: Path, seeing: None):
    class Impatient(Reporter):
        steps = 0

        def progress(self, done: float, total: float, unit: str = "frames", **more: object) -> None:
            self.steps += 1

        def cancelled(self) -> bool:
            return self.steps >= 2

    report = Impatient()
    with pytest.raises(Cancelled):
        evaluate(actor.folder, tmp_path / "out", report=report)
    assert report.steps == 2 and not list((tmp_path / "out").iterdir())
