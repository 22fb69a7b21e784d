"""Makes docs/reproduction.md and its pictures from what `understudy reproduce` leaves behind.

    python docs/reproduction.py OUT [OUT ...]     what `understudy reproduce` was given as --out, named as the actor
"""

import sys
from pathlib import Path

import cv2

from understudy.core.files import read_json
from understudy.training.reproduce_page import figure4, figure5
from understudy.training.variants import TRIED

HERE = Path(__file__).parent
WIDE = 900  # pixels across of a picture
CREDIT = {"Otto": "Otto's likeness: \"Infinite, 3D Head Scan\" by Lee Perry-Smith, CC BY 3.0; rig and identities "
                  "ICT-FaceKit (MIT)."}
INTRODUCTION = """# The paper, reproduced

What Laine et al. 2017 claim, and what came of it here, as `understudy reproduce ACTOR --out DIR` writes it; it
writes a web page with more. `make reproduce` does it for the sample actor, `make reproduce-otto` for Otto. The page is
made by `python docs/reproduction.py`.

**held** and **did not hold** are about these runs, on two CPU cores: the paper's are hundreds of times as long, and a
difference that is no larger than that between seeds counts as none. Where the paper gives no limit ("slightly", "much",
"not sensitive"), the one that was used stands beside the figure ([training/claims.py](../training/claims.py)).

The run that Otto's Figure 4 is of, `otto_nofacs`, learned without the shot facs; Figures 6 to 8 are of models that had
20 minutes (Otto) and 4 (sample).
"""


def section(out: Path) -> str:
    """One actor's part of the page; writes its pictures."""
    results = read_json(out / "results.json")
    settings, runs = results["settings"], results["runs"]
    short = out.name.lower()
    title = short.capitalize()
    base = runs["base"]
    lines = [f"## {title}", "",
             f"Every run was shown {base['images']:,.0f} frames ({settings['epochs']:g} epochs of "
             f"{settings['frames']:,} training frames, batches of {base['config']['batch']:g}), fully connected ones "
             "longer.", "",
             "| paper | it says | its figure | ours | here |", "| --- | --- | --- | --- | --- |"]
    for claim in results["claims"]:
        verdict = claim["verdict"] if claim["verdict"] == "not tested" else f"**{claim['verdict']}**"
        lines.append("| " + " | ".join(claim[key].replace("|", "/") for key in ("where", "says", "paper", "ours"))
                     + f" | {verdict} |")
    lines += ["", "| run | frames shown | frames/s | RMSE, mm | noise, mm | motion kept |",
              "| --- | ---: | ---: | ---: | ---: | ---: |"]
    for run_name, run in runs.items():
        measured = results["measured"].get(run_name, {})
        cells = [f"{run_name}: {run['what']}", f"{run['images']:,.0f}",
                 f"{run['images'] / run['seconds']:.0f}" if run["seconds"] else "",
                 f"{run['rmse_mm']:.2f}" if run["rmse_mm"] else run["state"],
                 f"{measured['noise_mm']:.3f}" if measured.get("noise_mm") is not None else "",
                 f"{measured['attenuation']:.0%}" if measured.get("attenuation") is not None else ""]
        lines.append(f"| {' | '.join(cells)} |")
    tried = ", ".join(f"{what} {value:g}" for what, value in TRIED.items())
    lines += ["", f"Magnitudes of what the paper rejected, which it does not tell: {tried}.", ""]
    for number, caption, picture in pictures(out, results, short):
        lines += [f"**Figure {number}**: {caption}", "", f"![Figure {number}, {title}]({picture})", ""]
    return "\n".join([*lines, *([CREDIT[title], ""] if title in CREDIT else [])])


def pictures(out: Path, results: dict, short: str) -> list[tuple[int, str, str]]:
    """Number, caption and file name of each figure that there is, written small."""
    found = []
    for number, caption, source in (
            (3, "a training picture, top left, and as training shows it.", out / "figure3.png"),
            (4, "loss of the run that converged furthest, in cm²; the gray part is the ramp-down.", figure4(
                results["converged"])),
            (5, "validation loss of the fully connected network; dashed, the converged convolutional one.", figure5(
                results)),
            (6, "RMSE of every validation frame.", out / "evaluation" / "figure6.png"),
            (7, "input, target, inferred, difference.", out / "evaluation" / "figure7.png"),
            (8, "input, target, ours, the monocular peer.", out / "figure8.png")):
        path = HERE / f"reproduction-{short}-{number}.jpg"
        if isinstance(source, Path):
            picture = cv2.imread(str(source))
        elif source is None:
            picture = None
        else:
            drawn = path.with_suffix(".png")
            source.savefig(drawn, dpi=110, facecolor="white")
            picture = cv2.imread(str(drawn))
            drawn.unlink()
        if picture is None:
            continue
        scale = min(1.0, WIDE / picture.shape[1])
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 82])
        found.append((number, caption, path.name))
    return found


if __name__ == "__main__":
    parts = [section(Path(out)) for out in sys.argv[1:]]
    (HERE / "reproduction.md").write_text("\n".join([INTRODUCTION, *parts]), encoding="utf-8")
