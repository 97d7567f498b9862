"""The timeline and the attention matrix in Chromium: what a reader points at is what was given."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.panels import event_timeline
from tests.browser import patient_panels_page as page_data
from tests.browser.conftest import _wait_for

pytestmark = pytest.mark.browser
PAGE = Path(page_data.__file__)
ROOT = PAGE.parents[2]
SCREEN = {"width": 1440, "height": 1400}


@pytest.fixture(scope="module")
def panels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page with the pieces, served until the module ends."""
    home = tmp_path_factory.mktemp("panels")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(PAGE), "--server.headless=true"]
    command += ["--server.address=127.0.0.1", f"--server.port={port}"]
    command += ["--server.fileWatcherType=none", "--browser.gatherUsageStats=false"]
    log = home / "server.log"
    with log.open("w") as out:
        server = subprocess.Popen(
            command,
            cwd=home,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/_stcore/health", server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(10)


class Panel:
    """One component in a tab."""

    def __init__(self, tab: Any, name: str) -> None:
        self.tab = tab
        self.root = tab.locator(f".{name}")
        self.root.locator("canvas").first.wait_for(timeout=60_000)
        self.said = "event: " if name == "timeline" else "picked: "
        self.wait(lambda: self.data("visible") or self.data("visibleRows"))

    def data(self, name: str) -> str:
        return self.root.evaluate("(root, name) => root.dataset[name] ?? ''", name)

    def where(self, *what: Any) -> tuple[float, float] | None:
        """Where something lies on the screen."""
        spot = self.root.evaluate("(root, what) => root.where(...what)", list(what))
        if spot is None:
            return None
        box = self.root.locator(".plot").bounding_box()
        return box["x"] + spot["x"], box["y"] + spot["y"]

    def point(self, *what: Any) -> str:
        """Point at it; what the tooltip says."""
        self.tab.mouse.move(*self.where(*what))
        tip = self.root.locator(".tip")
        tip.wait_for(state="visible")
        return tip.inner_text()

    def click(self, *what: Any) -> None:
        self.tab.mouse.click(*self.where(*what))

    def press(self, words: str) -> None:
        self.root.get_by_role("button", name=words, exact=True).click()

    def wait(self, holds: Callable[[], Any]) -> None:
        for _ in range(100):
            if holds():
                return
            self.tab.wait_for_timeout(50)
        raise AssertionError("it did not come to that")

    def told(self, expected: Any) -> None:
        """Wait until Python says that it was told this."""
        self.tab.get_by_text(f"{self.said}{expected}", exact=True).wait_for(timeout=15_000)

    def runs(self) -> int:
        return int(self.tab.get_by_text("script runs:").inner_text().split(":")[1])


def opened(browser: Any, panels: str, show: str, name: str) -> Panel:
    tab = browser.new_context(viewport=SCREEN).new_page()
    tab.problems = []
    tab.on("pageerror", lambda error: tab.problems.append(str(error)))
    tab.sent = []
    tab.on("websocket", lambda ws: ws.on("framesent", lambda frame: tab.sent.append(frame)))
    tab.goto(f"{panels}/?show={show}")
    tab.get_by_role("button", name="Run again").wait_for(timeout=60_000)
    return Panel(tab, name)


@pytest.fixture
def timeline(browser: Any, panels: str) -> Iterator[Panel]:
    panel = opened(browser, panels, "timeline", "timeline")
    yield panel
    assert panel.tab.problems == []
    assert "broken" not in panel.tab.title()
    panel.tab.context.close()


@pytest.fixture
def matrix(browser: Any, panels: str) -> Iterator[Panel]:
    panel = opened(browser, panels, "matrix", "matrix")
    yield panel
    assert panel.tab.problems == []
    assert "broken" not in panel.tab.title()
    panel.tab.context.close()


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    return event_timeline.payload(page_data.attribution())


def largest(content: dict[str, Any], n: int = 0) -> int:
    """The event with the nth largest share that has a date."""
    dated = [i for i, day in enumerate(content["days"]) if day is not None]
    return sorted(dated, key=lambda i: -abs(content["share"][i]))[n]


# ---------------------------------------------------------------- timeline


def test_pointing_at_an_event_says_what_it_is_without_asking_the_server(
    timeline: Panel, content: dict[str, Any]
) -> None:
    assert int(timeline.data("visible")) == len(content["share"])
    before = len(timeline.tab.sent)
    assert before > 0
    for n in range(5):
        event = largest(content, n)
        text = timeline.point(event)
        for part in ("name", "shareText", "spreadText", "when", "value"):
            assert content[part][event] in text, part
    timeline.tab.mouse.wheel(0, 40)
    timeline.tab.wait_for_timeout(600)
    assert timeline.runs() == 1
    assert len(timeline.tab.sent) == before


def test_a_name_from_a_file_is_text(timeline: Panel, content: dict[str, Any]) -> None:
    event = content["about"].index("LOINC/99 · Laboratory")
    assert content["name"][event] == page_data.HOSTILE
    text = timeline.point(event)
    assert page_data.HOSTILE in text
    assert "7.25 <b>u</b>" in text
    assert timeline.root.locator("img").count() == 0


def test_a_click_tells_the_event_and_a_second_one_clears_it(
    timeline: Panel, content: dict[str, Any]
) -> None:
    first, second = largest(content, 0), largest(content, 3)
    timeline.click(first)
    timeline.told(first)
    assert timeline.data("selected") == str(first)
    timeline.click(second)
    timeline.told(second)
    timeline.click(second)
    timeline.told(None)
    assert timeline.data("selected") == ""
    assert timeline.runs() == 4


def test_a_choice_made_elsewhere_is_shown_and_a_later_click_counts_more(
    timeline: Panel, content: dict[str, Any]
) -> None:
    field = timeline.tab.get_by_label("Event chosen elsewhere")
    field.fill("12")
    field.press("Enter")
    timeline.told(12)
    timeline.wait(lambda: timeline.data("selected") == "12")
    event = largest(content)
    timeline.click(event)
    timeline.told(event)


def test_a_hidden_kind_has_no_lane_until_it_is_shown_again(
    timeline: Panel, content: dict[str, Any]
) -> None:
    lane = content["lanes"][2]
    event = content["lane"].index(2)
    assert timeline.where(event) is not None
    timeline.press(f"{lane['title']} {lane['count']}")
    assert timeline.data("hidden") == lane["title"]
    assert lane["title"] not in timeline.data("lanes").split("|")
    assert timeline.where(event) is None
    assert int(timeline.data("visible")) == len(content["share"]) - lane["count"]
    # A rerun of the page keeps what the reader hid, other data do not.
    timeline.tab.get_by_role("button", name="Run again").click()
    timeline.wait(lambda: timeline.runs() == 2)
    assert timeline.data("hidden") == lane["title"]
    timeline.press("Show all kinds")
    assert timeline.where(event) is not None


def test_both_axes_keep_the_order_of_time_and_only_one_enlarges_the_last_days(
    timeline: Panel, content: dict[str, Any]
) -> None:
    dated = [i for i, day in enumerate(content["days"]) if day is not None]
    old, week = (min(dated, key=lambda i, d=d: abs(content["days"][i] - d)) for d in (150.0, 7.0))
    assert timeline.data("axis") == "recent"
    x = {name: timeline.where(i)[0] for name, i in (("old", old), ("week", week))}
    timeline.press("Linear")
    assert timeline.data("axis") == "linear"
    straight = {name: timeline.where(i)[0] for name, i in (("old", old), ("week", week))}
    assert x["old"] < x["week"]
    assert straight["old"] < straight["week"]
    assert straight["week"] - x["week"] > 200
    assert timeline.runs() == 1


def test_zoom_stays_through_a_rerun_and_ends_with_other_data(timeline: Panel) -> None:
    box = timeline.root.locator("canvas").bounding_box()
    y = box["y"] + 200
    timeline.tab.mouse.move(box["x"] + 500, y)
    timeline.tab.mouse.down()
    timeline.tab.mouse.move(box["x"] + 800, y, steps=4)
    timeline.tab.mouse.up()
    span = timeline.data("span")
    assert span != "0.0000 1.0000"
    assert timeline.runs() == 1
    timeline.tab.get_by_role("button", name="Run again").click()
    timeline.wait(lambda: timeline.runs() == 2)
    timeline.tab.wait_for_timeout(300)
    assert timeline.data("span") == span
    timeline.press("Linear")
    field = timeline.tab.get_by_label("Patient")
    field.fill("4")
    field.press("Enter")
    timeline.wait(lambda: timeline.data("span") == "0.0000 1.0000")
    assert timeline.data("axis") == "linear"


def test_the_keyboard_walks_by_size_and_by_time(timeline: Panel, content: dict[str, Any]) -> None:
    order = sorted(range(len(content["share"])), key=lambda i: -abs(content["share"][i]))
    timeline.root.locator(".plot").focus()
    timeline.tab.keyboard.press("ArrowDown")
    timeline.tab.keyboard.press("ArrowDown")
    assert timeline.data("hover") == str(order[1])
    assert content["name"][order[1]] in timeline.root.locator(".spoken").inner_text()
    timeline.tab.keyboard.press("Enter")
    timeline.told(order[1])
    timeline.tab.keyboard.press("Escape")
    timeline.told(None)


def test_large_records_are_drawn_quickly(timeline: Panel) -> None:
    spent = timeline.root.evaluate("""root => {
      const view = root.view, {content} = view;
      const many = n => Array.from({length: n}, (_, i) => i);
      for (const name of ["lane", "days", "share", "name", "label", "about", "value", "when",
                          "shareText", "spreadText"]) {
        content[name] = many(512).map(i => content[name][i % content[name].length]);
      }
      view.ranked = many(512);
      const before = performance.now();
      view.arrange();
      const arranged = performance.now();
      for (let i = 0; i < 20; i++) view.paint();
      return [arranged - before, (performance.now() - arranged) / 20, root.dataset.visible];
    }""")
    assert spent[2] == "512"
    assert spent[0] < 400, spent
    assert spent[1] < 40, spent


# ---------------------------------------------------------------- matrix


@pytest.fixture(scope="module")
def weights() -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    return page_data.attention()


def weight_of(matrix: Panel) -> float:
    return float(matrix.root.locator("[data-weight]").get_attribute("data-weight"))


def test_the_strongest_rows_and_columns_come_first(matrix: Panel, weights: Any) -> None:
    given = weights[0]
    assert (matrix.data("visibleRows"), matrix.data("visibleColumns")) == ("40", "40")
    assert int(matrix.data("firstRow")) == int(given.max(axis=1).argmax())
    assert int(matrix.data("firstColumn")) == int(given.astype(float).sum(axis=0).argmax())
    matrix.press("As recorded")
    kept = np.sort(np.argsort(-given.max(axis=1), kind="stable")[:40])
    assert int(matrix.data("firstRow")) == int(kept[0])
    matrix.press("All")
    assert (matrix.data("visibleRows"), matrix.data("visibleColumns")) == ("120", "216")
    assert (matrix.data("firstRow"), matrix.data("firstColumn")) == ("0", "0")
    assert matrix.runs() == 1


@pytest.mark.parametrize("extent", ["Top 40", "All"])
def test_the_number_under_the_pointer_is_the_weight(
    matrix: Panel, weights: Any, extent: str
) -> None:
    given, _, rows, columns = weights
    matrix.press(extent)
    strong = np.argsort(-given.max(axis=1), kind="stable")[:40]
    received = np.argsort(-given.astype(float).sum(axis=0), kind="stable")[:40]
    for row, column in [(strong[0], received[0]), (strong[7], received[31])]:
        text = matrix.point("cell", int(row), int(column))
        assert weight_of(matrix) == pytest.approx(float(given[row, column]), rel=1e-6)
        assert rows[row] in text
        assert columns[column] in text
        times = float(given[row, column]) * 217
        shown = f"{times:.1f} ×" if 0.1 <= times < 10 else "×"
        assert shown in text
    assert matrix.runs() == 1


def test_what_looks_at_nothing_has_a_column_of_its_own(matrix: Panel, weights: Any) -> None:
    _, null, rows, _ = weights
    assert matrix.data("nullColumn") == "true"
    row = int(matrix.data("firstRow"))
    text = matrix.point("null", row)
    assert "looks at nothing" in text
    assert rows[row] in text
    assert weight_of(matrix) == pytest.approx(float(null[row]), rel=1e-6)


def test_clicks_tell_rows_and_columns(matrix: Panel) -> None:
    row, column = int(matrix.data("firstRow")), int(matrix.data("firstColumn"))
    matrix.click("cell", row, column)
    matrix.told({"axis": "row", "index": row})
    assert matrix.data("selected") == f"row {row}"
    matrix.click("column", row, column)
    matrix.told({"axis": "column", "index": column})
    matrix.click("row", row, column)
    matrix.told({"axis": "row", "index": row})
    matrix.click("row", row, column)
    matrix.told(None)
    assert matrix.runs() == 5


def test_a_label_with_markup_is_text(matrix: Panel) -> None:
    matrix.press("All")
    assert page_data.HOSTILE in matrix.point("column", 0, 5)
    assert matrix.root.locator("img").count() == 0


def test_a_selected_row_outside_the_top_stays_in_the_picture(matrix: Panel, weights: Any) -> None:
    last = int(np.argsort(-weights[0].max(axis=1), kind="stable")[-1])
    matrix.press("All")
    matrix.click("row", last, 0)
    matrix.told({"axis": "row", "index": last})
    matrix.press("Top 40")
    assert matrix.data("visibleRows") == "41"
    assert matrix.where("row", last) is not None


def test_dragging_zooms_in_and_a_rerun_keeps_it(matrix: Panel) -> None:
    row, column = int(matrix.data("firstRow")), int(matrix.data("firstColumn"))
    x, y = matrix.where("cell", row, column)
    matrix.tab.mouse.move(x, y)
    matrix.tab.mouse.down()
    matrix.tab.mouse.move(x + 200, y + 80, steps=4)
    matrix.tab.mouse.up()
    shown = matrix.data("visibleRows"), matrix.data("visibleColumns")
    assert int(shown[0]) < 12
    assert int(shown[1]) < 15
    matrix.tab.get_by_role("button", name="Run again").click()
    matrix.wait(lambda: matrix.runs() == 2)
    matrix.tab.wait_for_timeout(400)
    assert (matrix.data("visibleRows"), matrix.data("visibleColumns")) == shown
    matrix.press("Zoom out")
    assert matrix.data("visibleRows") == "40"


def test_the_keyboard_moves_and_selects(matrix: Panel) -> None:
    row, column = matrix.data("firstRow"), matrix.data("firstColumn")
    matrix.root.locator(".plot").focus()
    matrix.tab.keyboard.press("ArrowDown")
    assert matrix.data("hover") == f"{row} {column}"
    matrix.tab.keyboard.press("Shift+Enter")
    matrix.told({"axis": "column", "index": int(column)})


# ---------------------------------------------------------------- cards


def test_a_card_says_in_words_that_a_map_fails(browser: Any, panels: str) -> None:
    tab = browser.new_context(viewport=SCREEN).new_page()
    tab.goto(f"{panels}/?show=trust")
    tab.get_by_role("button", name="Run again").wait_for(timeout=60_000)
    tab.get_by_text("Fails its checks").wait_for()
    text = tab.locator('[data-testid="stMain"]').inner_text().replace("\u2060", "")
    for words in ("Checks passed", "Read with care", "Not checked", "*a* :smile: <b>b</b>"):
        assert words in text
    # The card of a map that fails is open, the others are not.
    assert tab.get_by_text("Similarity with the map of a random network").is_visible()
    assert not tab.get_by_text("Stable.").is_visible()
    tab.context.close()
