"""Questions about footage that are answered in a second: what it is, how it is framed, what one picture looks like."""

import contextlib
import functools
import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from . import framing
from .crop import Crop, network_input
from .draw import write_png
from .errors import UnderstudyError
from .footage import Footage, open_footage
from .framing import Framing
from .modelfile import ModelFile, model_in
from .movie import open_stream
from .numbered import find_images, is_sequence

FRAMES = 24       # of a shot that its framing is judged by
THUMBNAIL = 1024  # pixels, the largest width of a whole picture
TIMECODE = re.compile(r"\d\d:\d\d:\d\d[:;.]\d\d")


def probe(path: Path | str, model: Path | str | None = None, crop: Sequence[float] | None = None) -> dict:
    """What footage is, for programs: width, height, frames, fps, variable, identity, audio, start_timecode, warnings.

    times : seconds from the first frame, of every frame, where the rate varies; else None.
    model : a model file or an actor folder; with it comes `framing`, a `Framing` as a dictionary, and in that `crop`:
    the crop that undoes shift and scale, or None.    crop : x, y, width, height; the model's unless given.
    Raises UnderstudyError for footage or a model that cannot be read; a crop that does not fit is told in `framing`.
    """
    file = ModelFile.load(model_in(model)) if model is not None else None
    with open_footage(path, file.transfer if file else "sRGB") as footage:
        audio, timecode = _container(footage.path)
        facts = {"width": footage.width, "height": footage.height, "frames": footage.frames, "fps": footage.fps,
                 "variable": footage.variable, "identity": footage.identity, "audio": audio,
                 "start_timecode": timecode, "warnings": footage.warnings,
                 "times": footage.times.round(6).tolist() if footage.variable else None}
        if file:
            facts["framing"] = _framing(footage, file, Crop(*(crop or file.crop)))
    return facts


def describe(path: Path | str, facts: dict) -> str:
    """The facts of `probe` in words."""
    rate = f"{facts['fps']:.6g} per second{' on average, varying' if facts['variable'] else ''}"
    parts = [f"{facts['width']} x {facts['height']} pixels", f"{facts['frames']} frames", rate,
             "with sound" if facts["audio"] else "no sound"]
    if facts["start_timecode"]:
        parts.append(f"from {facts['start_timecode']}")
    lines = [f"{path}: {', '.join(parts)}.", *(f"warning: {text}" for text in facts["warnings"])]
    if "framing" in facts:
        lines.append(facts["framing"]["text"])
        if facts["framing"]["crop"]:
            lines.append(f"This would fit: --crop {' '.join(f'{edge:g}' for edge in facts['framing']['crop'])}")
    return "\n".join(lines)


def picture(path: Path | str, frame: int, out: Path | str, crop: Sequence[float] | None = None
            ) -> tuple[int, int]:
    """Write one frame as a gray PNG, atomically; returns its width and height.

    crop : x, y, width, height: write the network's exact input of 240 x 320; None = the whole picture, reduced to a
    width of 1024.
    """
    path = Path(path)
    if path.is_file() and not is_sequence(path):
        image = _kept(path, frame, path.stat().st_mtime_ns, path.stat().st_size)
    else:
        image = _read(path, frame)
    if crop is not None:
        Crop(*crop).check(image.shape[1], image.shape[0])
        image = network_input(image, Crop(*crop))
    elif image.shape[1] > THUMBNAIL:
        height = max(1, round(image.shape[0] * THUMBNAIL / image.shape[1]))
        image = cv2.resize(image, (THUMBNAIL, height), interpolation=cv2.INTER_AREA)
    write_png(out, image)
    return image.shape[1], image.shape[0]


@functools.lru_cache(maxsize=1)
def _kept(path: Path, frame: int, modified: int, size: int) -> np.ndarray:
    """The last picture read from a movie: while a crop is dragged over it, it is asked for again and again."""
    return _read(path, frame)


def _read(path: Path, frame: int) -> np.ndarray:
    with open_footage(path) as footage:
        return footage.read(frame)


def mean_input(footage: Footage, crop: Crop) -> np.ndarray:
    """The mean network input of frames all over the footage, (320, 240) float64."""
    return np.mean([network_input(footage.read(int(frame)), crop) for frame in footage.spread(FRAMES)], axis=0)


def _framing(footage: Footage, model: ModelFile, crop: Crop) -> dict:
    """How the footage is framed against the model's training, and the crop that would put that right."""
    reference, better = model.reference(), None
    try:
        crop.check(footage.width, footage.height)
    except UnderstudyError as error:
        found = Framing("different", str(error), False)
    else:
        if reference is None:
            found = Framing("unknown", "The model does not tell how its training footage was framed, for it is older "
                            "than this check. A model trained anew will.")
        else:
            found = framing.compare(reference, mean_input(footage, crop), model.about.get("training"))
    if found.verdict == "different" and (moved := found.corrected(crop)) is not None:
        moved = Crop(*(round(edge, 1) for edge in (moved.x, moved.y, moved.width, moved.height)))
        with contextlib.suppress(UnderstudyError):  # it would reach outside the picture
            moved.check(footage.width, footage.height)
            better = [moved.x, moved.y, moved.width, moved.height]
    return {**found.to_json(), "crop": better}


def _container(path: Path) -> tuple[bool, str | None]:
    """Whether footage has sound, and the timecode of its first frame if it tells."""
    if is_sequence(path):
        return False, _image_timecode(find_images(path)[0][0])
    with open_stream(path) as (container, stream):
        told = [tags.get("timecode", "") for tags in (stream.metadata, container.metadata,
                                                      *(other.metadata for other in container.streams))]
        return bool(container.streams.audio), next(filter(TIMECODE.fullmatch, told), None)


def _image_timecode(path: Path) -> str | None:
    """The timecode in an EXR or DPX file."""
    if path.suffix.lower() not in (".exr", ".dpx"):
        return None
    try:
        import OpenImageIO as oiio  # optional
    except ImportError:
        return None
    image = oiio.ImageInput.open(str(path))
    if image is None:
        oiio.geterror()  # clears it
        return None
    told = [oiio.ImageSpec.metadata_val(entry).strip('"') for entry in image.spec().extra_attribs
            if "TimeCode" in entry.name]
    return next(filter(TIMECODE.fullmatch, told), None)
