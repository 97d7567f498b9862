"""The ECG paper and the echo loops in Chromium: millimetres, milliseconds and pixels."""

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

from app.panels.ecg_paper import LEADS
from tests.browser import cardiac_viewers_page as scene

pytestmark = pytest.mark.browser
PAGE = Path(scene.__file__)
MM = 96 / 25.4  # CSS pixels
PIXELS = """([holder, which]) => {
  const home = [...document.querySelectorAll('[data-testid=stBidiComponentIsolated]')]
    .map(e => e.shadowRoot).find(root => root?.querySelector(holder));
  const canvas = home.querySelector(`${holder} ${which}`);
  const image = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return [canvas.width, canvas.height, btoa(Array.from(image.data, c =>
    String.fromCharCode(c)).join(''))];
}"""
# Every change of the frame on show for a while, with the time of the browser's clock.
WATCH = """(root, ms) => new Promise(done => {
  const seen = [];
  const watch = new MutationObserver(() => seen.push([performance.now(), +root.dataset.frame]));
  watch.observe(root, { attributes: true, attributeFilter: ['data-frame'] });
  setTimeout(() => { watch.disconnect(); done(seen); }, ms);
})"""
PLAIN = [255, 253, 252]  # the paper


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("viewers")
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
    """A viewer in a tab, with what it sent and what went wrong."""

    def __init__(self, tab: Any) -> None:
        self.tab = tab
        self.errors: list[str] = []
        self.contents = 0
        tab.on("pageerror", lambda error: self.errors.append(str(error)))
        tab.on("websocket", lambda web: web.on("framereceived", self._took))

    def _took(self, frame: Any) -> None:
        message = frame if isinstance(frame, bytes) else frame.encode()
        self.contents += message.count(b'"kind": "content"')

    def open(self, address: str, query: str) -> Screen:
        self.tab.goto(f"{address}/?{query}")
        self.root.wait_for(timeout=60_000)
        self.tab.get_by_text("runs:").wait_for()
        return self.wait(300)

    @property
    def root(self) -> Any:
        return self.tab.locator("[data-ready=true]")

    def wait(self, milliseconds: int = 150) -> Screen:
        self.tab.wait_for_timeout(milliseconds)
        return self

    def read(self, name: str) -> str:
        return self.root.get_attribute(f"data-{name}")

    def number(self, name: str) -> float:
        return float(self.read(name))

    def choose(self, label: str, option: str) -> Screen:
        self.tab.get_by_label(label, exact=True).select_option(option)
        return self.wait()

    def tick(self, label: str) -> Screen:
        self.tab.get_by_text(label, exact=True).click()
        return self.wait()

    def slide(self, label: str, percent: int) -> Screen:
        self.tab.get_by_role("slider", name=label, exact=True).fill(str(percent))
        return self.wait()

    def press(self, *keys: str) -> Screen:
        self.tab.locator("[role=application]").focus()
        for key in keys:
            self.tab.keyboard.press(key)
        return self.wait()

    def run_until(self, act: Callable[[], Any], runs: int) -> Screen:
        act()
        self.tab.get_by_text(f"runs: {runs}").wait_for(timeout=15_000)
        return self.wait(300)

    def pixels(self, holder: str, which: str) -> np.ndarray:
        """(height, width, 3) as drawn; the tab has one device pixel a CSS pixel."""
        width, height, text = self.tab.evaluate(PIXELS, [holder, which])
        flat = np.frombuffer(base64.b64decode(text), np.uint8)
        return flat.reshape(height, width, 4)[..., :3].astype(int)


class Paper(Screen):
    """Places on the ECG paper."""

    def map(self) -> list[float]:
        """x of the first instant, that instant, px a second, y of the first row, px a row."""
        return [float(part) for part in self.read("map").split(",")]

    def x(self, time_s: float) -> float:
        left, start, per_second, _, _ = self.map()
        return left + (time_s - start) * per_second

    def base(self, row: int) -> float:
        """y of the middle of a row, where its lead's median lies."""
        _, _, _, top, height = self.map()
        return top + (row + 0.5) * height

    def sheet(self) -> np.ndarray:
        return self.pixels(".sheet", "canvas.base")

    def ink(self) -> np.ndarray:
        """Where the black trace is."""
        return self.sheet().max(axis=-1) < 170

    def mouse(self, x: float, y: float) -> tuple[float, float]:
        box = self.tab.locator(".sheet").bounding_box()
        return box["x"] + x, box["y"] + y

    def hover(self, time_s: float, row: int) -> Paper:
        self.tab.mouse.move(*self.mouse(self.x(time_s), self.base(row)))
        self.wait()
        return self

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> Paper:
        self.tab.mouse.move(*self.mouse(*start))
        self.tab.mouse.down()
        self.tab.mouse.move(*self.mouse(*end), steps=4)
        self.tab.mouse.up()
        self.wait()
        return self

    def spikes(self, row: int, low_s: float, high_s: float) -> tuple[float, float]:
        """Time of the highest point of a row's trace between two times, and its mV."""
        _, start, per_second, _, _ = self.map()
        a, b = round(self.x(low_s)), round(self.x(high_s))
        rows, columns = np.nonzero(self.ink()[:, a:b])
        near = np.abs(rows - self.base(row)) < 20 * MM
        top = rows[near].min()
        at = columns[near][rows[near] == top].mean() + 0.5
        mv = (self.base(row) - top) / (self.number("px-per-mm") * float(self.read("gain")))
        return start + (a + at - self.x(start)) / per_second, mv


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1440, "height": 1100})
    yield context.new_page()
    context.close()


@pytest.fixture
def paper(tab: Any, server: str) -> Iterator[Paper]:
    screen = Paper(tab)
    yield screen
    assert screen.errors == []


@pytest.fixture
def echo(tab: Any) -> Iterator[Screen]:
    screen = Screen(tab)
    yield screen
    assert screen.errors == []


# ---------------------------------------------------------------- ECG


def test_the_paper_is_at_true_scale(paper: Paper, server: str) -> None:
    """5 mm boxes, a 1 mV pulse of 10 mm and 200 ms, 25 mm a second."""
    paper.open(server, "show=ecg")
    assert paper.number("px-per-mm") == pytest.approx(MM, abs=1e-4)
    assert "true size at 96 dpi" in paper.root.inner_text()
    sheet = paper.sheet()
    last = sheet[round(133.5 * MM)]  # below the writing, between two level lines
    bold = np.flatnonzero((last[:, 1] < 190) & (last[:, 0] > 200))
    first = bold[np.diff(bold, prepend=-9) > 1]
    assert len(first) == 265 / 5  # the very last lies on the edge
    np.testing.assert_allclose(np.diff(first), 5 * MM, atol=1.01)
    assert (first[-1] - first[0]) / (len(first) - 1) == pytest.approx(5 * MM, abs=0.02)
    light = np.flatnonzero(last[:, 1] < 240)
    assert len(light[np.diff(light, prepend=-9) > 1]) == pytest.approx(265, abs=1)
    # The pulse: from 2.5 to 7.5 mm, 10 mm high, on every row.
    ink = paper.ink()[:, : round(8.5 * MM)]
    for row in range(4):
        near = slice(round(paper.base(row) - 12 * MM), round(paper.base(row) + 3 * MM))
        rows, columns = np.nonzero(ink[near])
        assert np.ptp(rows) == pytest.approx(10 * MM, abs=1.5)
        high = columns[rows <= rows.min() + 1]
        assert np.ptp(high) == pytest.approx(5 * MM, abs=1.5)
    assert paper.map()[2] == pytest.approx(25 * MM)
    assert paper.number("draw-ms") < 300  # a guard; measured alone it takes about 10


def test_the_trace_lies_where_it_was_recorded(paper: Paper, server: str) -> None:
    paper.open(server, "show=ecg").tick("Waves shaded")
    at, mv = paper.spikes(0, 0.2, 2.4)  # lead I
    assert at == pytest.approx(scene.SPIKE_S, abs=0.012)
    assert mv == pytest.approx(scene.SPIKE_MV, abs=0.06)
    for lead_row, low in ((3, 8.2), (1, 0.2)):  # II in the strip and in its column
        at, mv = paper.spikes(lead_row, low, low + 0.6)
        assert at == pytest.approx(low + 0.3, abs=0.012)
        assert mv == pytest.approx(1.1, abs=0.08)
    # aVF's offset does not move it off its row; the gap in III has no trace at all.
    assert paper.spikes(2, 3.2, 3.8)[1] == pytest.approx(0.8, abs=0.08)
    band = slice(round(paper.base(2) - 8 * MM), round(paper.base(2) + 8 * MM))
    ink = paper.ink()[band]
    low, high = scene.GAP_S
    assert not ink[:, round(paper.x(low)) + 2 : round(paper.x(high)) - 2].any()
    assert ink[:, round(paper.x(high)) + 3 : round(paper.x(2.4))].any(axis=0).all()
    # Twice the gain, half the speed.
    paper.choose("Gain", "20").choose("Speed", "12.5")
    # 1.5 mV are 30 mm: two big boxes more than the first row has above it.
    assert paper.map()[3] == pytest.approx((5 + 10) * MM)
    assert paper.map()[2] == pytest.approx(12.5 * MM)
    paper.hover(scene.SPIKE_S, 0)
    assert (paper.read("lead"), paper.number("mv")) == ("I", scene.SPIKE_MV)
    paper.choose("Gain", "5")
    assert paper.spikes(0, 0.2, 2.4)[1] == pytest.approx(scene.SPIKE_MV, abs=0.12)


def test_layouts_name_their_leads_and_those_not_recorded(paper: Paper, server: str) -> None:
    paper.open(server, "show=ecg").tick("Waves shaded")
    assert paper.read("rows") == "I/aVR/V1/V4 II/aVL/V2/V5 III/aVF/V3/V6 II"
    assert paper.read("missing") == "V5,V6"
    # In V5's place are words, pale, and no trace; V4 above it has one.
    row = lambda n: slice(round(paper.base(n) - 2 * MM), round(paper.base(n) + 2 * MM))  # noqa: E731
    x = slice(round(paper.x(7.7)), round(paper.x(9.9)))
    sheet = paper.sheet()
    dark = sheet.max(axis=-1)
    assert (dark[row(0), x] < 60).any()
    assert not (dark[row(1), x] < 60).any()
    assert 30 < (dark[row(1), x] < 130).sum() < 700
    told = {}
    for layout in ("3x4+V1,II,V5", "6x2", "12x1"):
        told[layout] = paper.choose("Layout", layout).read("rows").split()
    assert told["3x4+V1,II,V5"][3:] == ["V1", "II", "V5"]
    assert told["6x2"] == ["I/V1", "II/V2", "III/V3", "aVR/V4", "aVL/V5", "aVF/V6"]
    assert told["12x1"] == list(LEADS)
    paper.choose("Layout", "6x2").tick("Cabrera order")
    assert [row.split("/")[0] for row in paper.read("rows").split()] == [
        "aVL", "I", "−aVR", "II", "aVF", "III",
    ]  # fmt: skip
    # aVR is -0.9 mV at the QRS; turned over it points up.
    assert paper.hover(1.5, 2).number("mv") == pytest.approx(0.9, abs=0.01)
    assert paper.spikes(2, 1.2, 1.8)[1] == pytest.approx(0.9, abs=0.08)


def test_calipers_and_cursor_measure(paper: Paper, server: str) -> None:
    paper.open(server, "show=ecg")
    x, y = paper.x(1.0), paper.base(1)
    paper.drag((x, y), (x + 10 * MM, y - 7.5 * MM))
    assert paper.number("caliper-ms") == pytest.approx(400, abs=6)
    assert paper.number("caliper-mv") == pytest.approx(0.75, abs=0.02)
    assert paper.number("caliper-bpm") == pytest.approx(150, abs=3)
    assert "Calipers 4" in paper.tab.locator(".reading").inner_text()
    assert paper.tab.get_by_text("picked: nothing").count() == 1  # a drag is no click
    paper.choose("Gain", "5").choose("Speed", "50")
    paper.drag((paper.x(1.0), y), (paper.x(1.0) + 10 * MM, y - 10 * MM))
    assert paper.number("caliper-ms") == pytest.approx(200, abs=4)
    assert paper.number("caliper-mv") == pytest.approx(2.0, abs=0.04)
    # By keys: from one R to the next, sample by sample and by small boxes of 20 ms.
    paper.press("Escape")
    assert paper.read("caliper-ms") == ""
    paper.press("ArrowDown", "ArrowDown", "ArrowDown", *["Shift+ArrowRight"] * 25)
    assert (paper.read("lead"), paper.number("time")) == ("II", 0.5)
    assert paper.number("mv") == pytest.approx(1.09, abs=0.02)
    paper.press("c", *["Shift+ArrowRight"] * 49, *["ArrowRight"] * 10, "c", "ArrowLeft")
    assert paper.number("time") == pytest.approx(1.498)
    assert paper.number("caliper-ms") == pytest.approx(1000)
    assert paper.number("caliper-bpm") == pytest.approx(60)
    assert paper.number("caliper-mv") == pytest.approx(0, abs=0.02)


def mix(colour: list[float], opacity: float) -> np.ndarray:
    """A colour on plain paper, multiplied as a highlighter does."""
    return np.asarray(PLAIN) * (255 + (np.asarray(colour) - 255) * opacity) / 255


def test_the_overlay_colours_its_own_instant(paper: Paper, server: str) -> None:
    paper.open(server, "show=ecg&overlay=1").choose("Drawn", "row").slide("Opacity", 60)
    red, pale_blue = [200, 17, 46], [124, 167.5, 244.5]

    def colour(time_s: float, row: int = 0) -> np.ndarray:
        """Median around a place between the lines, above the trace."""
        x, y = round(paper.x(time_s)), round(paper.base(row) - 6 * MM)
        part = paper.sheet()[y - 9 : y + 10, x - 3 : x + 4].reshape(-1, 3)
        return part[part.sum(axis=1).argsort()][-len(part) // 3 :].mean(axis=0)

    np.testing.assert_allclose(colour(0.4), PLAIN, atol=2)
    # Two cells at the limit, 1.0 to 1.5 s. Half of it lies between two stops, as opaque.
    np.testing.assert_allclose(colour(1.28), mix(red, 0.6), atol=6)
    np.testing.assert_allclose(colour(2.125), mix(pale_blue, 0.6), atol=14)
    np.testing.assert_allclose(colour(1.9), PLAIN, atol=3)
    # The trace stays black upon it.
    assert paper.spikes(0, 1.1, 1.4)[1] == pytest.approx(scene.SPIKE_MV, abs=0.06)
    assert paper.hover(1.375, 0).number("value") == pytest.approx(2, abs=0.05)
    # Linear between the middles of cells: half way to the empty cell after it.
    assert paper.hover(1.5, 0).number("value") == pytest.approx(1, abs=0.1)
    paper.slide("Hidden below", 60)
    np.testing.assert_allclose(colour(2.125), PLAIN, atol=2)
    # By beat: the mean over one second; two of its four cells are 2.
    paper.slide("Hidden below", 0).choose("By", "beat")
    for time_s in (1.03, 1.97):
        assert paper.hover(time_s, 0).number("value") == pytest.approx(1)
    np.testing.assert_allclose(colour(1.85), mix(red, 0.6), atol=6)
    assert paper.hover(2.4, 0).number("value") == pytest.approx(-0.25)
    paper.choose("By", "segment")
    assert paper.hover(1.3, 0).number("value") == pytest.approx(2)  # P, 1.28 to 1.40 s
    assert paper.hover(1.2, 0).read("value") == ""
    paper.tab.locator(".sheet").focus()
    paper.press("o")
    np.testing.assert_allclose(colour(1.34), PLAIN, atol=2)
    assert paper.read("overlay") == ""
    paper.press("g").press("o", "o")
    assert paper.read("lead") == "I"
    assert paper.number("time") == pytest.approx(1.125, abs=0.01)
    paper.choose("By", "time").choose("Drawn", "trace").slide("Hidden below", 10)
    np.testing.assert_allclose(colour(1.40), PLAIN, atol=3)  # 6 mm above a flat trace
    y = round(paper.base(0) - 0.7 * MM)
    beside = paper.sheet()[y, round(paper.x(1.36)) : round(paper.x(1.45))]
    assert (beside[:, 0] - beside[:, 2] > 60).all()


def test_a_click_tells_python_and_a_rerun_keeps_everything(paper: Paper, server: str) -> None:
    paper.open(server, "show=ecg&overlay=1").choose("Layout", "6x2")
    assert paper.contents == 1
    place = paper.mouse(paper.x(3.5), paper.base(1))
    paper.run_until(lambda: paper.tab.mouse.click(*place), 2)
    told = paper.tab.get_by_text("picked:").inner_text()
    assert "picked: II" in told
    assert "label='beat 4'" in told
    assert "label='QRS'" in told
    paper.run_until(lambda: paper.tab.get_by_text("Run again").click(), 3)
    assert paper.read("layout") == "6x2"
    assert paper.contents == 1
    assert paper.read("picked").startswith("II,3.5")


def test_both_fit_the_page(tab: Any, server: str) -> None:
    paper = Paper(tab).open(server, "show=ecg&overlay=1")
    overflow = "e => e.scrollWidth - e.clientWidth"
    for width in (1440, 1024, 700):
        tab.set_viewport_size({"width": width, "height": 1000})
        paper.wait(400)
        assert paper.root.evaluate(overflow) <= 0
        assert tab.locator(".stage").evaluate(overflow) <= 0
        zoom = paper.number("zoom")
        assert zoom == 1 if width == 1440 else 0.4 < zoom < 1
        note = paper.root.inner_text()
        assert ("true size at 96 dpi" in note) is (width == 1440)
        assert (f"{round(100 * zoom)} % of true size" in note) is (width < 1440)
    paper.choose("Size", "1")
    assert paper.number("px-per-mm") == pytest.approx(MM, abs=1e-4)
    echo = Screen(tab).open(server, "show=echo")
    for width, columns in ((1440, "4"), (1024, "3"), (500, "2")):
        tab.set_viewport_size({"width": width, "height": 1000})
        echo.wait(400)
        assert echo.root.evaluate(overflow) <= 0
        assert echo.read("columns") == columns
    assert paper.errors == echo.errors == []


# ---------------------------------------------------------------- echo


def card(view: str) -> str:
    return f".card[data-view={view}]"


def shown(echo: Screen, view: str) -> np.ndarray:
    return echo.pixels(card(view), "canvas")


def corner(echo: Screen, view: str) -> float:
    """The frame's number as the grey of its upper left corner says it."""
    x, y, width, _ = (
        float(part) for part in echo.tab.locator(card(view)).get_attribute("data-place").split(",")
    )
    side = int(8 / 112 * width)
    patch = shown(echo, view)[int(y) + 3 : int(y) + side, int(x) + 3 : int(x) + side]
    return float(patch.mean()) / 7


def test_frames_are_stepped_and_are_those_that_were_sent(echo: Screen, server: str) -> None:
    echo.tab.emulate_media(reduced_motion="reduce")
    echo.open(server, "show=echo").press("o")
    assert echo.read("playing") == "false"
    assert (echo.read("view"), echo.read("frame")) == ("A2C", "0")
    assert echo.read("missing") == "SSN,still 2"
    echo.press("ArrowRight", "ArrowRight", "ArrowRight")
    assert echo.read("frame") == "3"
    assert corner(echo, "A2C") == pytest.approx(3, abs=0.35)
    # 3 frames of 40 ms: the views with 33.3 ms a frame stand at their fourth.
    assert echo.tab.locator(card("A4C")).get_attribute("data-frame") == "3"
    echo.press(*["ArrowRight"] * 4)
    assert echo.tab.locator(card("A4C")).get_attribute("data-frame") == "8"  # 280 ms
    assert corner(echo, "A4C") == pytest.approx(8, abs=0.35)
    echo.press(*["ArrowLeft"] * 8)
    assert echo.read("frame") == "23"  # round the loop's start
    echo.press("ArrowDown")
    assert echo.read("view") == "A3C"
    echo.press("ArrowRight")
    text = echo.tab.locator(card("A3C")).inner_text()
    number = int(echo.read("frame"))
    assert f"{number + 1}/32" in text
    assert f"{round(number * 1000 / 30)} ms" in text
    assert "56 bpm" in text
    # End-systole by its mark; it is written on the picture.
    echo.tab.locator(card("A4C")).get_by_title("ES, frame 17").click()
    assert echo.wait().read("frame") == "16"
    assert (np.ptp(shown(echo, "A4C")[:30, :40], axis=-1) > 60).sum() > 20
    # The views that are missing or are not read say so.
    assert "not recorded" in echo.tab.locator(card("SSN")).inner_text()
    assert "Suprasternal" in echo.tab.locator(card("SSN")).inner_text()
    still = echo.tab.locator(card("Subcostal")).inner_text()
    assert "not used by the model: still" in still
    # Centimetres along the right edge: the picture is 16 cm deep.
    picture = shown(echo, "A3C")
    height, width = picture.shape[:2]
    ticks = np.flatnonzero(picture[:, width - 6].min(axis=-1) > 120)
    np.testing.assert_allclose(ticks[:16], height / 16 * np.arange(16), atol=1.01)
    long = np.flatnonzero(picture[:, width - 11].min(axis=-1) > 120)
    np.testing.assert_allclose(long, height / 16 * np.array([0, 5, 10, 15]), atol=1.01)


def test_the_cycle_is_marked_and_what_is_not_read_is_set_apart(echo: Screen, server: str) -> None:
    echo.tab.emulate_media(reduced_motion="reduce")
    echo.open(server, "show=echo").press("ArrowDown", "ArrowDown", "s")
    assert (echo.read("view"), echo.read("frame")) == ("A4C", "16")
    slider = echo.tab.get_by_role("slider", name="Frame", exact=True)
    spoken = "frame 17/32, end-systole by the simulation's truth"
    assert slider.get_attribute("aria-valuetext") == spoken
    echo.wait(700)
    assert echo.tab.locator(".spoken").inner_text() == f"Apical four-chamber, {spoken}"
    echo.press("d")  # the only one, at the start: round the loop's end
    assert echo.read("frame") == "0"
    assert "R wave stated in the file" in slider.get_attribute("aria-valuetext")
    # R waves at 8 and 1026.7 of 1066.7 ms, on the line that the frames run along.
    track = echo.tab.locator(f"{card('A4C')} .track").bounding_box()
    ticks = echo.tab.locator(f"{card('A4C')} .tick").all()
    for tick, wave in zip(ticks, (8, 1026.7), strict=True):
        box = tick.bounding_box()
        at = track["x"] + track["width"] * wave / (32000 / 30)
        assert box["x"] + box["width"] / 2 == pytest.approx(at, abs=1)
    # The ECG stands below its loop only: one spike at 500 ms, and the needle where the frame is.
    assert echo.tab.locator(".strip").count() == 1
    strip = echo.pixels(card("A4C"), ".strip canvas")
    green = strip[..., 1] > 120
    top = np.flatnonzero(green[:6].any(axis=0)).mean()
    assert top == pytest.approx(strip.shape[1] * 500 / (32000 / 30), abs=1.5)
    echo.press(*["ArrowRight"] * 8)
    needle = echo.tab.locator(f"{card('A4C')} .strip .needle").bounding_box()
    assert needle["x"] - track["x"] == pytest.approx(track["width"] * 8 / 32, abs=1.5)
    # A strip of spectral Doppler: greyed, named, under no map; a damaged file is said to be one.
    aside = echo.tab.locator(".card[data-view='still 1']")
    assert "not used by the model: spectral Doppler" in aside.inner_text()
    colour = "e => getComputedStyle(e.querySelector('.title b')).color"
    usual = echo.tab.locator(card("A2C")).evaluate(colour)
    assert aside.evaluate(colour) != usual
    assert np.ptp(echo.pixels(".card[data-view='still 1']", "canvas"), axis=-1).max() < 6
    assert "cannot be read" in echo.tab.locator(".card[data-view='still 2']").inner_text()
    name = aside.locator("canvas").get_attribute("aria-label")
    assert name == "View not stated, not used by the model: spectral Doppler"


def test_the_overlay_follows_its_cells_in_space_and_time(echo: Screen, server: str) -> None:
    echo.tab.emulate_media(reduced_motion="reduce")
    echo.open(server, "show=echo").press("ArrowDown", "ArrowDown")
    assert echo.read("view") == "A4C"

    def tint(x: float, y: float) -> float:
        """Red minus blue around a place of the picture."""
        picture = shown(echo, "A4C")
        height, width = picture.shape[:2]
        a, b = round(x * width), round(y * height)
        part = picture[b - 3 : b + 4, a - 3 : a + 4]
        return float((part[..., 0] - part[..., 2]).mean())

    blue, red = (0.25, 0.3), (0.75, 0.75)
    assert tint(*blue) < -60
    assert abs(tint(*red)) < 3
    assert abs(tint(0.75, 0.2)) < 3
    reds = []
    for frame in range(1, 24):  # the model read 24 frames, in cells of 6
        echo.press("ArrowRight")
        assert echo.read("frame") == str(frame)
        if frame in (8, 12, 15, 20):
            reds.append(tint(*red))
    assert reds[0] < 3 < 20 < reds[1] < reds[2]  # it comes in between 9 and 15
    assert reds[2] == pytest.approx(reds[3], abs=8)
    echo.slide("Hidden below", 100)
    assert abs(tint(*red)) < 40
    echo.slide("Hidden below", 10).slide("Opacity", 0)
    assert abs(tint(*red)) < 3
    echo.slide("Opacity", 80)
    assert tint(*red) > reds[3]
    echo.press("ArrowRight")  # frame 24: the model did not read it
    assert abs(tint(*red)) < 3
    assert abs(tint(*blue)) < 3
    echo.press("g")
    assert (echo.read("view"), int(echo.read("frame"))) == ("A4C", 3)
    echo.choose("Which", "Grad-CAM").slide("Opacity", 80)
    assert tint(*blue) > 5  # half of the limit is red in these colours
    echo.press("o")
    assert echo.read("overlay") == ""
    assert abs(tint(*blue)) < 3


def test_it_plays_at_true_speed(echo: Screen, server: str) -> None:
    """By the browser's clock; a busy machine leaves frames out but keeps the time."""
    echo.open(server, "show=eleven")
    assert echo.read("playing") == "true"

    def speed(milliseconds: int) -> float:
        """Frames a second, laps counted."""
        seen = echo.root.evaluate(WATCH, milliseconds)
        at, frames = np.array(seen).T
        laps = np.unwrap(frames, period=32)
        return float(1000 * np.polyfit(at, laps, 1)[0])

    assert speed(2500) == pytest.approx(30, rel=0.1)
    echo.press("2")
    assert echo.read("speed") == "0.5"
    assert speed(2000) == pytest.approx(15, rel=0.1)
    echo.press("Space")
    assert echo.read("playing") == "false"
    frame = echo.read("frame")
    assert echo.wait(400).read("frame") == frame
    assert corner(echo, "A5C") == pytest.approx(int(frame), abs=0.35)
    echo.tab.get_by_role("button", name="Play").click()
    assert echo.wait().read("playing") == "true"
    echo.tab.get_by_role("button", name="¼×").click()
    assert echo.wait().read("speed") == "0.25"


def test_a_view_is_enlarged_and_python_is_told(echo: Screen, server: str) -> None:
    echo.tab.emulate_media(reduced_motion="reduce")
    echo.open(server, "show=echo")
    assert echo.contents == 1
    small = echo.tab.locator(f"{card('A4C')} .picture canvas").bounding_box()["height"]
    click = lambda: echo.tab.locator(f"{card('A4C')} .picture").click()  # noqa: E731
    echo.run_until(click, 2)
    assert echo.tab.get_by_text("enlarged: A4C").count() == 1
    assert echo.read("big") == "A4C"
    assert not echo.tab.locator(card("A2C")).is_visible()
    assert echo.tab.locator(f"{card('A4C')} .picture canvas").bounding_box()["height"] > 1.5 * small
    echo.run_until(lambda: echo.press("Escape"), 3)
    assert echo.tab.get_by_text("enlarged: None").count() == 1
    assert echo.tab.locator(card("A2C")).is_visible()
    assert echo.contents == 1
    with echo.tab.expect_download() as caught:
        echo.tab.get_by_role("button", name="PNG").click()
    assert caught.value.suggested_filename == "synthetic-all-views.png"
    picture = cv2.imread(str(caught.value.path()))
    assert picture.shape[1] == pytest.approx(
        echo.tab.locator(".grid").bounding_box()["width"], abs=1
    )
    assert picture.std() > 30
