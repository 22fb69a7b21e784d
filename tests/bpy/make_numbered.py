"""Footage whose frames carry their number as ten bars, the most significant first: `python make_numbered.py FOLDER`."""

import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from understudy.core.movie_writer import MovieWriter

WIDTH, HEIGHT = 320, 160
folder = Path(sys.argv[1])


def picture(number: int) -> np.ndarray:
    result = np.full((HEIGHT, WIDTH), 128, np.uint8)
    for bar in range(10):
        result[20:-20, 32 * bar + 4:32 * bar + 28] = 235 if number >> (9 - bar) & 1 else 20
    return result


for fps, count in ((30, 90), (60, 120), (24, 48)):
    with MovieWriter(folder / f"{fps}.mp4", WIDTH, HEIGHT, fps, bframes=2, keyframes=12) as movie:
        for number in range(count):
            movie.write(picture(number))

times = np.cumsum(np.random.default_rng(0).choice([1, 1, 2], 60)) / 30  # s; a camera that skips
times -= times[0]
with av.open(str(folder / "varying.mp4"), "w") as container:
    stream = container.add_stream("libx264", rate=30, options={"bf": "2"})
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    stream.time_base = stream.codec_context.time_base = Fraction(1, 90000)
    for number, time in enumerate(times):
        frame = av.VideoFrame.from_ndarray(picture(number), "gray").reformat(format="yuv420p")
        frame.pts, frame.time_base = round(time * 90000), Fraction(1, 90000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
np.save(folder / "times.npy", times)

(folder / "séquence").mkdir()
for number in range(20):
    cv2.imencode(".png", picture(number))[1].tofile(folder / "séquence" / f"take2_v3.{1001 + number}.png")
