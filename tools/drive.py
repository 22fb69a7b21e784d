"""Drive Blender's window from inside: `import drive` in a scenario, a script that tools/window.py runs in a window.

    import drive

    def story():
        bar = yield from drive.sidebar("Understudy")
        yield from drive.click(*drive.at(bar, 60, 40))
        yield from drive.wait(lambda: bpy.context.scene.understudy.actor_name, "the actor is open")
        yield from drive.shot("actor")

    drive.run(story)

A story is a generator: between its steps Blender draws and handles events. What it calls with `yield from` takes its
time; a plain `yield 0.5` waits that many seconds. Places are pixels of the window from its lower left corner, as in
Blender. A story that fails ends Blender at once with status 5, its traceback and the picture failure.png.
"""

import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Generator
from pathlib import Path

import bpy

SHOTS = Path(os.environ.get("UNDERSTUDY_SHOTS", "."))
Steps = Generator[float, None, None]

bpy.context.preferences.view.show_splash = False
bpy.context.preferences.use_preferences_save = False


def run(story: Callable[[], Generator]) -> None:
    """Play a story once the window is there, then quit Blender."""
    steps = story()

    def step() -> float | None:
        try:
            return next(steps) or 0.0
        except StopIteration:
            print("STORY DONE", flush=True)
            bpy.ops.wm.quit_blender()
        except BaseException:  # a timer that raises would be dropped, and the window stay for ever
            traceback.print_exc()
            sys.stderr.flush()
            try:
                _grab("failure")
            finally:
                os._exit(5)
        return None

    bpy.app.timers.register(step, first_interval=1.0, persistent=True)


# ---- what is there


def window() -> bpy.types.Window:
    return bpy.context.window_manager.windows[0]


def area(kind: str = "VIEW_3D") -> bpy.types.Area:
    """The largest editor of that type in the window."""
    return max((found for found in window().screen.areas if found.type == kind),
               key=lambda found: found.width * found.height)


def region(kind: str = "WINDOW", of: str = "VIEW_3D") -> bpy.types.Region:
    return next(found for found in area(of).regions if found.type == kind)


def at(place: bpy.types.Region, right: float, down: float) -> tuple[int, int]:
    """The window's pixel that is so many pixels right of and below a region's upper left corner."""
    return round(place.x + right), round(place.y + place.height - 1 - down)


def override(of: str = "VIEW_3D"):
    """Call operators as if the mouse were in that editor: `with drive.override(): bpy.ops.view3d.view_all()`."""
    return bpy.context.temp_override(window=window(), area=area(of), region=region(of=of))


# ---- what takes its time


def wait(predicate: Callable[[], object], what: str = "", timeout: float = 60) -> Steps:
    """Go on when the predicate is true; fail after `timeout` seconds."""
    until = time.monotonic() + timeout
    while not predicate():
        assert time.monotonic() < until, f"waited {timeout:g} s in vain: {what}"
        yield 0.05


def click(x: float, y: float, button: int = 1, count: int = 1, hold: str = "") -> Steps:
    """A real click; button 3 is the right one. `hold` is a key to hold meanwhile, as "ctrl"."""
    yield from move(x, y)
    if hold:
        _xdotool("keydown", hold)
    _xdotool("click", "--repeat", count, "--delay", 50, button)
    yield 0.3
    if hold:
        _xdotool("keyup", hold)


def drag(x: float, y: float, to_x: float, to_y: float) -> Steps:
    """Press the left button, move, release."""
    yield from move(x - 9, y - 9)  # an edge between regions wakes up when the mouse comes over it
    yield from move(x, y)
    _xdotool("mousedown", 1)
    yield 0.2
    for i in range(1, 11):
        yield from move(x + (to_x - x) * i / 10, y + (to_y - y) * i / 10, 0.05)
    _xdotool("mouseup", 1)
    yield 0.3


def move(x: float, y: float, pause: float = 0.2) -> Steps:
    """Put the mouse there."""
    _xdotool("mousemove", round(x), window().height - 1 - round(y))
    yield pause


def press(*keys: str) -> Steps:
    """Press keys one after another, wherever the mouse is: "n", "ctrl+z", "Escape" (names of X)."""
    for key in keys:
        _xdotool("key", key)
        yield 0.3


def sidebar(tab: str, width: int = 0) -> Generator[float, None, bpy.types.Region]:
    """Open a tab of the 3D viewport's sidebar, `width` pixels wide if that is given; returns its region."""
    area().spaces.active.show_region_ui = True
    yield 0.7  # it slides in, and has tabs once they were drawn
    region("UI").active_panel_category = tab
    area().tag_redraw()
    yield 0.5
    if width:
        bar = region("UI")
        edge = bar.x + 1, bar.y + bar.height // 3
        yield from drag(*edge, edge[0] + bar.width - width, edge[1])
        assert abs(region("UI").width - width) < 10, f"the sidebar is {region('UI').width} pixels wide, not {width}"
    return region("UI")


def shot(name: str) -> Steps:
    """Save what the window shows as name.png."""
    for found in window().screen.areas:
        found.tag_redraw()
    yield 0.5
    _grab(name)


class Gaps:
    """The longest time for which the window could not react. `with drive.Gaps() as gaps: yield from ...`"""

    INTERVAL = 0.01  # s

    def __init__(self):
        self.longest, self.count = 0.0, 0  # s, calls
        self._timer = self._tick  # one object, by which Blender knows it

    def __enter__(self) -> "Gaps":
        self._last = time.perf_counter()
        bpy.app.timers.register(self._timer, first_interval=self.INTERVAL)
        return self

    def __exit__(self, *error: object) -> None:
        bpy.app.timers.unregister(self._timer)
        self._look()

    def _tick(self) -> float:
        self._look()
        return self.INTERVAL

    def _look(self) -> None:
        now = time.perf_counter()
        self.longest, self.count, self._last = max(self.longest, now - self._last), self.count + 1, now


def _xdotool(*arguments: object) -> None:
    subprocess.run(["xdotool", *map(str, arguments)], check=True, stdin=subprocess.DEVNULL)


def _grab(name: str) -> None:
    """From the X display: under a software OpenGL Blender's own screenshots are black."""
    subprocess.run(["ffmpeg", "-y", "-loglevel", "error", "-f", "x11grab", "-draw_mouse", "0",
                    "-video_size", f"{window().width}x{window().height}", "-i", os.environ["DISPLAY"],
                    "-frames:v", "1", "-pix_fmt", "rgb24", str(SHOTS / f"{name}.png")],
                   check=True, stdin=subprocess.DEVNULL)
