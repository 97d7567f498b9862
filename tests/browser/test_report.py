"""A report in Chromium: it draws, asks nobody anything, and prints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.report import render
from tests.app.reports import HOSTILE, full_report

pytestmark = pytest.mark.browser
DRAWN = """() => document.querySelectorAll('.plot').length ===
  document.querySelectorAll('.plot.drawn').length"""


class Opened:
    def __init__(self, tab: Any) -> None:
        self.tab = tab
        self.asked: list[str] = []
        self.said: list[str] = []
        tab.on("request", lambda request: self.asked.append(request.url))
        tab.on("console", lambda message: self.said.append(message.text))
        tab.on("pageerror", lambda error: self.said.append(str(error)))
        tab.on("dialog", lambda dialog: self.said.append(dialog.message))


@pytest.fixture
def tab(browser: Any) -> Iterator[Opened]:
    context = browser.new_context(viewport={"width": 1024, "height": 900}, offline=True)
    context.route("http*://**", lambda route: route.abort())
    yield Opened(context.new_page())
    context.close()


@pytest.mark.parametrize("words", ["", HOSTILE], ids=["plain", "hostile"])
def test_a_report_draws_without_a_network(tab: Opened, tmp_path: Path, words: str) -> None:
    report = full_report(words=words)
    path = tmp_path / "report.html"
    path.write_text(render(report), encoding="utf-8")
    tab.tab.goto(path.as_uri())
    tab.tab.wait_for_function(DRAWN)
    tab.tab.wait_for_timeout(300)

    assert tab.asked == [path.as_uri()]
    assert tab.said == []
    assert tab.tab.locator(".plot .main-svg").count() >= len(report.charts)
    assert tab.tab.locator("script").count() == len(report.charts) + 2
    wide = "all => all.map(i => i.naturalWidth)"
    assert all(n > 500 for n in tab.tab.locator(".picture img").evaluate_all(wide))
    assert tab.tab.locator(".pair img").evaluate_all(wide) == [264] * 3
    assert tab.tab.evaluate("document.documentElement.scrollWidth") <= 1024
    waterfall = tab.tab.locator(".plot").nth(2).inner_text()
    assert "+0.44" in waterfall
    assert "−0.33" in waterfall
    if words:
        assert tab.tab.locator("h1").inner_text() == f"Patient 17 {HOSTILE}"


def test_a_report_prints_on_a4(tab: Opened, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(render(full_report()), encoding="utf-8")
    tab.tab.goto(path.as_uri())
    tab.tab.wait_for_function(DRAWN)
    pdf = tab.tab.pdf(prefer_css_page_size=True, print_background=True)
    assert pdf.startswith(b"%PDF")
    assert 3 <= pdf.count(b"/Type /Page\n") <= 11
    boxes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf)
    lying = [(float(w), float(h)) for w, h in boxes if float(w) > float(h)]
    assert lying == [pytest.approx((297 / 25.4 * 72, 210 / 25.4 * 72), abs=0.5)]  # the ECG's
    tab.tab.emulate_media(media="print")
    ecg = tab.tab.locator(".ecg-paper").evaluate("e => e.getBoundingClientRect().toJSON()")
    assert ecg["width"] / 96 * 25.4 == pytest.approx(265, abs=0.02)
    assert ecg["height"] / 96 * 25.4 == pytest.approx(135, abs=0.02)
    tab.tab.set_viewport_size({"width": 703, "height": 1000})  # A4 less its margins, in CSS px
    plots = tab.tab.locator(".plot").evaluate_all("all => all.map(p => p.getBoundingClientRect())")
    assert plots
    assert all(plot["left"] + plot["width"] <= 704 for plot in plots)
