"""The CT viewer in Chromium: pixels, readings and what does and does not reach the server."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from app.panels.ct_viewer import PRESETS
from tests.browser import ct_viewer_page as scene

pytestmark = pytest.mark.browser
PAGE = Path(scene.__file__)
VOLUME = scene.volume()
PIXELS = """([plane, layer]) => {
  const pane = document.querySelector('[data-testid=stBidiComponentIsolated]').shadowRoot
    .querySelector(`.pane[data-plane=${plane}]`);
  const canvas = pane.querySelector(`canvas.${layer}`);
  const image = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return [canvas.width, canvas.height, btoa(Array.from(image.data, c =>
    String.fromCharCode(c)).join(''))];
}"""
# Axes of the picture in (x, y, z): which one runs along its columns and which along its rows.
AXES = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("viewer")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {
        "server.headless": "true",
        "server.address": "127.0.0.1",
        "server.port": str(port),
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
    }
    command = [sys.executable, "-m", "streamlit", "run", str(PAGE)]
    for name, value in options.items():
        command += [f"--{name}", value]
    environment = {**os.environ, "PYTHONPATH": str(PAGE.parents[2])}
    with (home / "log").open("w") as out:
        process = subprocess.Popen(
            command, cwd=home, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
        try:
            yield _answering(f"http://127.0.0.1:{port}", process)
        finally:
            process.terminate()
            process.wait(10)


def _answering(address: str, process: subprocess.Popen[bytes]) -> str:
    for _ in range(240):
        assert process.poll() is None, "the page's server ended"
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=2):
                return address
        except OSError:
            time.sleep(0.25)
    raise AssertionError("the page's server does not answer")


class Screen:
    """The viewer in a tab, and what passed over its websocket."""

    def __init__(self, tab: Any) -> None:
        self.tab = tab
        self.sent = 0
        self.received: list[bytes] = []
        self.errors: list[str] = []
        tab.on("websocket", self._watch)
        tab.on("pageerror", lambda error: self.errors.append(str(error)))

    def _watch(self, web: Any) -> None:
        def took(frame: Any) -> None:
            self.received.append(frame if isinstance(frame, bytes) else frame.encode())

        def gave(_: Any) -> None:
            self.sent += 1

        web.on("framereceived", took)
        web.on("framesent", gave)

    @property
    def root(self) -> Any:
        return self.tab.locator(".ct[data-ready=true]")

    def open(self, address: str, show: str) -> Screen:
        self.tab.goto(f"{address}/?show={show}")
        self.root.wait_for(timeout=60_000)
        self.tab.get_by_text("picked:").wait_for()
        return self.wait()

    def wait(self, milliseconds: int = 150) -> Screen:
        self.tab.wait_for_timeout(milliseconds)
        return self

    def read(self, name: str) -> str:
        return self.root.get_attribute(f"data-{name}")

    def numbers(self, name: str) -> list[float]:
        return [float(part) for part in self.read(name).split(",")]

    def top(self, plane: str) -> Any:
        return self.tab.locator(f".pane[data-plane={plane}] canvas.top")

    def spot(self, plane: str, mm: Any) -> tuple[float, float]:
        """CSS pixels, from the pane's corner, of a point in RAS mm."""
        text = self.top(plane).get_attribute("data-map")
        left, upper, scale = (float(part) for part in text.split(","))
        across, down = AXES[plane]
        return (left - mm[across]) * scale, (upper - mm[down]) * scale

    def place(self, plane: str, mm: Any) -> tuple[float, float]:
        """Page coordinates of a point in RAS mm."""
        box = self.top(plane).bounding_box()
        x, y = self.spot(plane, mm)
        return box["x"] + x, box["y"] + y

    def hover(self, plane: str, mm: Any) -> Screen:
        self.tab.mouse.move(*self.place(plane, mm))
        return self.wait()

    def pixels(self, plane: str, layer: str = "base") -> np.ndarray:
        """(height, width, 4) as drawn; the tab has one device pixel a CSS pixel."""
        width, height, text = self.tab.evaluate(PIXELS, [plane, layer])
        return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)

    def pixel(self, plane: str, mm: Any) -> list[int]:
        x, y = self.spot(plane, mm)
        return self.pixels(plane)[int(y), int(x), :3].tolist()

    def coloured(self, plane: str = "axial") -> np.ndarray:
        """Where the picture is not grey."""
        rgb = self.pixels(plane)[..., :3].astype(int)
        return rgb.max(axis=-1) - rgb.min(axis=-1) > 6

    def press(self, *keys: str) -> Screen:
        self.tab.locator(".stage").focus()
        for key in keys:
            self.tab.keyboard.press(key)
        return self.wait()

    def button(self, name: str) -> Screen:
        self.tab.locator(".ct button").get_by_text(name, exact=True).click()
        return self.wait()

    def slide(self, name: str, percent: int) -> Screen:
        slider = self.tab.get_by_role("slider", name=name)
        slider.fill(str(percent))
        return self.wait()

    def runs(self) -> int:
        return int(self.tab.get_by_text("runs:").inner_text().split()[1])

    def run_until(self, act: Callable[[], Any], runs: int) -> Screen:
        act()
        self.tab.get_by_text(f"runs: {runs}").wait_for(timeout=15_000)
        return self.wait(300)


@pytest.fixture
def screen(browser: Any) -> Iterator[Screen]:
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    screen = Screen(context.new_page())
    yield screen
    assert screen.errors == []
    context.close()


def mm_of(d: int, h: int, w: int) -> np.ndarray:
    return VOLUME.to_mm([[d, h, w]])[0]


def voi(hu: float, level: float, width: float) -> float:
    """DICOM PS3.3 C.11.2.1.2.1 to 0..255."""
    if hu <= level - 0.5 - (width - 1) / 2:
        return 0
    if hu > level - 0.5 + (width - 1) / 2:
        return 255
    return ((hu - (level - 0.5)) / (width - 1) + 0.5) * 255


def test_scrolling_and_windowing_never_reach_the_server(screen: Screen, server: str) -> None:
    screen.open(server, "hot")
    assert screen.read("slice") == "9"
    screen.hover("axial", mm_of(9, 5, 20)).wait(500)
    before = screen.sent
    screen.tab.mouse.wheel(0, 100)
    screen.wait()
    assert screen.read("slice") == "8"  # towards the feet
    screen.tab.mouse.wheel(0, -100)
    screen.tab.mouse.wheel(0, -100)
    screen.wait()
    assert screen.read("slice") == "10"
    screen.press("ArrowDown", "PageUp", "1", "o", "v", "v", "v")
    assert screen.read("slice") == "19"
    screen.slide("Opacity", 80).slide("Hidden below", 30)
    screen.tab.get_by_role("slider", name="Axial slice").fill("20")
    screen.wait(500)
    assert screen.read("slice") == "0"
    assert screen.read("opacity") == "0.8"
    assert screen.sent == before
    assert screen.runs() == 1


def test_small_wheel_steps_of_a_touchpad_add_up(screen: Screen, server: str) -> None:
    screen.open(server, "none").hover("axial", mm_of(9, 5, 20))
    for _ in range(9):
        screen.tab.mouse.wheel(0, 10)
    assert screen.wait().read("slice") == "6"


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_the_reading_under_the_cursor_is_the_voxel(screen: Screen, server: str, plane: str) -> None:
    screen.open(server, "none")
    screen.tab.mouse.click(*screen.place("axial", mm_of(9, 13, 2)))
    screen.wait()
    for d, h, w in ((3, 13, 2), (9, 13, 2), (17, 13, 2)):
        steps = d - 9
        screen.hover("axial", mm_of(9, 13, 2))
        for _ in range(abs(steps)):
            screen.tab.mouse.wheel(0, -100 if steps > 0 else 100)
        screen.wait().hover(plane, mm_of(d, h, w))
        assert float(screen.read("hu")) == VOLUME.array[d, h, w] == -787
        np.testing.assert_allclose(screen.numbers("mm"), mm_of(d, h, w), atol=0.2)
        screen.hover("axial", mm_of(9, 13, 2))
        for _ in range(abs(steps)):
            screen.tab.mouse.wheel(0, 100 if steps > 0 else -100)
        screen.wait()


def test_every_row_of_the_ramp_reads_its_own_value(screen: Screen, server: str) -> None:
    screen.open(server, "none")
    for h in (0, 7, 22, 31):
        screen.hover("axial", mm_of(9, h, 1))
        assert float(screen.read("hu")) == -800 + h
    screen.hover("axial", mm_of(9, 0, 0) - [3, 0, 0])
    assert screen.read("hu") == ""


def test_windows_are_the_dicom_linear_function(screen: Screen, server: str) -> None:
    screen.open(server, "none")
    places = {(16, 28, 35): 1200, (16, 10, 20): 60, (16, 16, 1): -784}
    screen.hover("axial", mm_of(9, 5, 20))
    screen.press("Home", *["ArrowDown"] * 3, "x")
    assert screen.read("slice") == "16"
    seen = set()
    for number, preset in enumerate(PRESETS, 1):
        screen.press(str(number))
        assert float(screen.read("level")) == preset.level
        assert float(screen.read("window")) == preset.width
        for voxel, hu in places.items():
            grey = round(voi(hu, preset.level, preset.width))
            assert screen.pixel("axial", mm_of(*voxel)) == [grey] * 3
            seen.add(grey)
    assert len(seen) > 6


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_right_anterior_superior_is_top_left(screen: Screen, server: str, plane: str) -> None:
    """Right is on the left in axial and coronal; sagittal faces left; up is up."""
    screen.open(server, "none")
    screen.button(plane.capitalize()).press("Home", "4")
    assert screen.read("plane") == plane
    grey = screen.pixels(plane)[..., 0]
    rows, columns = np.nonzero(grey > 235)
    inside = np.argwhere(grey > 50)
    middle = inside.mean(axis=0)
    assert rows.size > 500
    assert rows.max() < middle[0]
    assert columns.max() < middle[1]
    # 5 mm slices and 1.5 mm pixels are drawn at their true sizes.
    height, width = np.ptp(inside, axis=0) + 1
    extent = [n * mm for n, mm in zip(scene.SHAPE[::-1], scene.SPACING[::-1], strict=True)]
    across, down = AXES[plane]
    if plane == "sagittal":  # the ramp of air is not in this slice, the whole of it is bright
        assert width / height == pytest.approx(extent[across] / extent[down], rel=0.02)


@pytest.mark.parametrize("show", ["hot", "turned"])
def test_the_overlay_lies_where_its_affine_says(screen: Screen, server: str, show: str) -> None:
    screen.open(server, show).press("2", "x", "Home")
    assert not screen.coloured("axial").any()  # the highest slice misses the cell
    screen.button("Go to strongest")
    hot = np.array([13.0, 65.0, -51.0])
    np.testing.assert_allclose(screen.numbers("cross"), hot, atol=2.5)
    screen.slide("Hidden below", 0)
    cell = {"axial": (6, 8), "coronal": (6, 15), "sagittal": (8, 15)}
    for plane, axes in AXES.items():
        rows, columns = np.nonzero(screen.coloured(plane))
        x, y = screen.spot(plane, hot)
        scale = float(screen.top(plane).get_attribute("data-map").split(",")[2])
        middle = (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2
        np.testing.assert_allclose(middle, (x, y), atol=0.15 * scale * max(cell[plane]))
        # Linear: it fades out over one cell to each side.
        width, height = (np.ptp(part) / scale for part in (columns, rows))
        assert 0.8 * 2 < width / cell[plane][0] <= 2.01, axes
        assert 0.8 * 2 < height / cell[plane][1] <= 2.01, axes
    screen.hover("axial", [13, 65, 0])
    share = 1 - 1 / 15  # the slice at -50 is 1 mm of 15 away from the cell's middle
    assert float(screen.read("value")) == pytest.approx(share, abs=0.03)


def test_the_raw_grid_shows_whole_cells(screen: Screen, server: str) -> None:
    screen.open(server, "hot").press("2", "x", "g")
    screen.tab.get_by_text("Raw grid").click()
    rows, columns = np.nonzero(screen.wait().coloured())
    scale = float(screen.top("axial").get_attribute("data-map").split(",")[2])
    assert np.ptp(columns) / scale == pytest.approx(6, abs=0.3)
    assert np.ptp(rows) / scale == pytest.approx(8, abs=0.3)


def test_the_threshold_hides_and_the_switch_switches_off(screen: Screen, server: str) -> None:
    screen.open(server, "hot").press("2", "g")
    areas = [screen.slide("Hidden below", percent).coloured().sum() for percent in (0, 40, 80)]
    assert areas[0] > 1.5 * areas[1] > 2 * areas[2] > 0
    assert screen.slide("Hidden below", 100).coloured().sum() == 0
    screen.slide("Hidden below", 10)
    assert screen.coloured().any()
    screen.press("o")
    assert not screen.coloured().any()
    assert screen.read("overlay") == ""
    screen.press("o").slide("Opacity", 0)
    assert not screen.coloured().any()


def test_opacity_mixes_colour_and_grey(screen: Screen, server: str) -> None:
    """At the limit the colour is inferno's last; opacity is how much of it there is."""
    screen.open(server, "signed").press("2", "x").slide("Opacity", 40)
    grey = voi(60, 40, 400)
    blue, red = [29, 78, 216], [238, 92, 74]
    low = screen.pixel("axial", mm_of(9, 10, 8))
    np.testing.assert_allclose(low, [0.4 * c + 0.6 * grey for c in blue], atol=1.5)
    # +1 of 2: in the middle of white and red, and opaque from half of the limit on.
    high = screen.pixel("axial", mm_of(9, 10, 34))
    np.testing.assert_allclose(high[0] - high[2], 0.4 * 0.5 * (red[0] - red[2]), atol=25)
    assert high[0] > grey > high[2]
    assert float(screen.hover("axial", mm_of(9, 10, 8)).read("value")) == -2


def test_a_rerun_keeps_the_view_and_does_not_send_the_volume(screen: Screen, server: str) -> None:
    screen.open(server, "hot")
    assert sum(b'"kind": "volume"' in frame for frame in screen.received) == 1
    screen.hover("axial", mm_of(9, 5, 20))
    screen.tab.mouse.wheel(0, 100)
    screen.tab.keyboard.down("Control")
    screen.tab.mouse.wheel(0, -300)
    screen.tab.keyboard.up("Control")
    screen.press("1").slide("Opacity", 70)
    kept = {name: screen.read(name) for name in ("slice", "window", "zoom", "opacity", "cross")}
    assert kept["slice"] == "8"
    assert float(kept["zoom"]) > 1.5
    screen.run_until(lambda: screen.tab.get_by_text("Run again").click(), 2)
    assert screen.read("overlay") == "Signed"
    assert {name: screen.read(name) for name in kept} == kept
    for runs, shown in ((3, False), (4, True)):
        screen.run_until(lambda: screen.tab.get_by_text("Viewer", exact=True).click(), runs)
        assert (screen.root.count() == 1) is shown
    assert {name: screen.read(name) for name in kept} == kept
    assert sum(b'"kind": "volume"' in frame for frame in screen.received) == 1


def test_a_volume_that_never_arrived_is_asked_for(screen: Screen, server: str) -> None:
    screen.open(server, "lost")
    assert screen.runs() == 2
    assert screen.pixels("axial")[..., 0].max() > 50


def test_a_click_moves_the_crosshair_and_tells_python(screen: Screen, server: str) -> None:
    screen.open(server, "none")
    point = np.add(mm_of(9, 22, 31), [0.4, -0.6, 0])
    click = lambda: screen.tab.mouse.click(*screen.place("axial", point))  # noqa: E731
    screen.run_until(click, 2)
    np.testing.assert_allclose(screen.numbers("cross"), mm_of(9, 22, 31), atol=1e-6)
    told = screen.tab.get_by_text("picked:").inner_text()
    mm = [float(part) for part in told.split("(")[1].rstrip(")").split(",")]
    np.testing.assert_allclose(mm, point, atol=0.15)
    assert screen.numbers("picked") == mm
    screen.press("Shift+ArrowRight", "ArrowDown")
    screen.run_until(lambda: screen.press("Enter"), 3)
    told = screen.tab.get_by_text("picked:").inner_text()
    mm = [float(part) for part in told.split("(")[1].rstrip(")").split(",")]
    np.testing.assert_allclose(mm, mm_of(8, 22, 30), atol=0.01)


def test_python_can_send_the_viewer_to_another_place(screen: Screen, server: str) -> None:
    screen.open(server, "none")
    screen.run_until(lambda: screen.tab.get_by_text("Look elsewhere").click(), 2)
    np.testing.assert_allclose(screen.numbers("cross"), [-5, 40, -20], atol=0.01)
    screen.press("ArrowDown")
    screen.run_until(lambda: screen.tab.get_by_text("Run again").click(), 3)
    np.testing.assert_allclose(screen.numbers("cross"), [-5, 40, -25], atol=0.01)


def test_dragging_windows_and_a_double_click_only_resets(screen: Screen, server: str) -> None:
    screen.open(server, "none")
    x, y = screen.place("axial", mm_of(9, 10, 20))
    screen.tab.mouse.move(x, y)
    screen.tab.mouse.down()
    screen.tab.mouse.move(x + 30, y + 20, steps=5)
    screen.tab.mouse.up()
    screen.wait()
    assert float(screen.read("window")) > 740
    assert float(screen.read("level")) > 130
    cross = screen.read("cross")
    screen.tab.mouse.dblclick(x + 40, y)
    screen.wait(700)
    assert (screen.read("window"), screen.read("level")) == ("700", "100")
    assert screen.read("cross") == cross
    assert screen.runs() == 1
    screen.press("p")
    before = screen.spot("axial", mm_of(9, 10, 20))
    screen.tab.mouse.move(x, y)
    screen.tab.mouse.down()
    screen.tab.mouse.move(x + 30, y + 20, steps=5)
    screen.tab.mouse.up()
    moved = np.subtract(screen.wait().spot("axial", mm_of(9, 10, 20)), before)
    np.testing.assert_allclose(moved, [30, 20], atol=0.01)


def test_zoom_keeps_the_point_under_the_mouse(screen: Screen, server: str) -> None:
    screen.open(server, "none").hover("axial", mm_of(9, 25, 8))
    before = screen.numbers("mm")
    screen.tab.keyboard.down("Control")
    screen.tab.mouse.wheel(0, -200)
    screen.tab.keyboard.up("Control")
    screen.wait()
    assert float(screen.read("zoom")) == pytest.approx(np.exp(0.4), rel=1e-3)
    np.testing.assert_allclose(screen.numbers("mm"), before, atol=0.1)


def test_small_panes_can_become_the_big_one(screen: Screen, server: str) -> None:
    screen.open(server, "none")
    screen.tab.mouse.dblclick(*screen.place("sagittal", mm_of(9, 16, 20)))
    screen.wait(600)
    assert screen.read("plane") == "sagittal"
    widths = [screen.top(plane).bounding_box()["width"] for plane in ("sagittal", "axial")]
    assert widths[0] > 1.5 * widths[1]
    screen.press("m")
    assert screen.read("layout") == "single"
    assert not screen.top("axial").is_visible()


def test_regions_are_boxes_in_the_patient(screen: Screen, server: str) -> None:
    screen.open(server, "regions").press("x")
    x, y, _ = scene.REGION.center_mm
    width, height, _ = scene.REGION.size_mm

    def lines() -> np.ndarray:
        drawn = screen.pixels("axial", "top").astype(int)
        return (drawn[..., 3] > 200) & (np.abs(drawn[..., :3] - [90, 209, 255]).max(-1) < 40)

    assert screen.numbers("cross")[2] == -55
    rows, columns = np.nonzero(lines())
    corner = screen.spot("axial", [x + width / 2, y + height / 2])
    other = screen.spot("axial", [x - width / 2, y - height / 2])
    np.testing.assert_allclose(columns.min(), corner[0], atol=2)
    np.testing.assert_allclose(columns.max(), other[0], atol=2)
    np.testing.assert_allclose(rows.max(), other[1], atol=2)
    assert lines()[int(corner[1]), int((corner[0] + other[0]) / 2)]
    assert lines()[int((corner[1] + other[1]) / 2), int(corner[0])]
    screen.press("ArrowDown", "ArrowDown")  # -65: below the box
    assert not lines().any()


def test_a_mask_is_outlined_only_when_asked_for(screen: Screen, server: str) -> None:
    screen.open(server, "none").press("x")

    def outline() -> np.ndarray:
        drawn = screen.pixels("axial", "top").astype(int)
        return (drawn[..., 1] > 150) & (drawn[..., 0] < 60) & (drawn[..., 2] < 60)

    assert screen.read("slice") == "9"
    assert not outline().any()
    screen.tab.get_by_text("Embolus").click()
    rows, columns = np.nonzero(screen.wait().pixels("axial", "top")[..., 1] * outline())
    edge = np.array([0.75, 1, 0])
    low, high = mm_of(9, 10, 20) - edge, mm_of(9, 12, 23) + edge
    x1, y1 = screen.spot("axial", low)
    x0, y0 = screen.spot("axial", high)
    np.testing.assert_allclose([columns.min(), columns.max()], [x0, x1], atol=2)
    np.testing.assert_allclose([rows.min(), rows.max()], [y0, y1], atol=2)
    assert not outline()[int(y0) + 5 : int(y1) - 5, int(x0) + 5 : int(x1) - 5].any()
    screen.press("ArrowDown")
    assert not outline().any()


def test_the_picture_can_be_saved(screen: Screen, server: str, tmp_path: Path) -> None:
    screen.open(server, "hot")
    with screen.tab.expect_download() as caught:
        screen.button("PNG")
    assert caught.value.suggested_filename == "synthetic-axial-11-of-20.png"
    caught.value.save_as(tmp_path / "view.png")
    picture = cv2.imread(str(tmp_path / "view.png"))
    box = screen.tab.locator(".stage").bounding_box()
    assert abs(picture.shape[1] - box["width"]) <= 1
    assert picture.shape[0] > box["height"] + 40
    assert picture[: int(box["height"])].std() > 20
    assert picture[int(box["height"]) + 5 :].max() > 150  # the words below it


@pytest.mark.parametrize("width", [1024, 1440, 700])
def test_it_fits_the_page(screen: Screen, server: str, width: int) -> None:
    screen.tab.set_viewport_size({"width": width, "height": 1000})
    screen.open(server, "hot")
    overflow = screen.root.evaluate("e => e.scrollWidth - e.clientWidth")
    assert overflow <= 0
    assert 480 <= screen.tab.locator(".stage").bounding_box()["height"] <= 620
    assert screen.top("axial").bounding_box()["width"] > 250


def test_it_is_named_for_those_who_cannot_see_it(screen: Screen, server: str) -> None:
    screen.open(server, "hot")
    assert screen.tab.get_by_role("group", name="A synthetic CT").count() == 1
    for name in ("Opacity", "Hidden below", "Axial slice"):
        assert screen.tab.get_by_role("slider", name=name).count() == 1
    screen.press("ArrowDown").wait(900)
    spoken = screen.tab.locator(".spoken").inner_text()
    assert "Axial slice 12/20" in spoken
    assert "60 HU" in spoken
