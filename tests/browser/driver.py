"""What a reader does with the app, and what they see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

END = "FusionLens. Research use only. Not for clinical decisions."
TABLES = """() => [...document.querySelectorAll('[data-testid=stTable] table')].map(table =>
  [...table.querySelectorAll('tr')].map(row =>
    [...row.querySelectorAll('th, td')].map(cell => cell.innerText.trim())))"""
BUSY = """() => {
  const app = document.querySelector('[data-testid=stApp]');
  return app && app.dataset.testScriptState === 'notRunning'
    && !document.querySelector('[data-stale=true]')
    && !document.querySelector('[data-testid=stSpinner], [data-testid=stSkeleton]');
}"""


class Reader:
    """A browser tab with the app."""

    def __init__(self, tab: Any, address: str) -> None:
        self.tab = tab
        self.address = address

    def open(self, page: str = "", query: str = "") -> Reader:
        """Go to a page by its address."""
        self.tab.goto(f"{self.address}/{page}{'?' + query if query else ''}")
        return self.settle()

    def settle(self) -> Reader:
        """Wait until the page is finished; no exception may be on it."""
        self.tab.get_by_text(END).wait_for(timeout=90_000)
        self.tab.wait_for_timeout(250)
        self.tab.wait_for_function(BUSY, timeout=60_000)
        self.tab.wait_for_timeout(150)
        assert self.tab.locator('[data-testid="stException"]').count() == 0
        assert "because of an error in the program" not in self.text()
        return self

    def text(self) -> str:
        """All words on the page, without the word joiners that keep icons away."""
        return self.tab.locator('[data-testid="stMain"]').inner_text().replace("\u2060", "")

    def table(self, heading: str) -> list[dict[str, str]]:
        """The rows of the table that has a column of this name."""
        for header, *rows in self.tab.evaluate(TABLES):
            if heading in header:
                return [dict(zip(header, row, strict=True)) for row in rows]
        raise AssertionError(f"no table with a column {heading!r}")

    def press(self, group: str, option: str) -> Reader:
        """Press an option of a segmented control or a pill."""
        buttons = self.tab.locator('[data-testid="stButtonGroup"]').filter(has_text=group)
        buttons.first.get_by_text(option, exact=True).click()
        return self.settle()

    def choose(self, label: str, option: str) -> Reader:
        """Choose an option of a selectbox."""
        box = self.tab.locator('[data-testid="stSelectbox"]').filter(has_text=label).first
        # A list that is opened while the page still scrolls closes again.
        box.scroll_into_view_if_needed()
        self.tab.wait_for_timeout(300)
        box.get_by_label("Open").click()
        self.tab.get_by_role("option", name=option, exact=True).click()
        return self.settle()

    def slide(self, label: str, keys: list[str]) -> int:
        """Move a slider by keys; returns where it stands."""
        thumb = self.tab.get_by_role("slider", name=label)
        thumb.focus()
        for key in keys:
            thumb.press(key)
        self.settle()
        return int(float(thumb.get_attribute("value") or "nan"))

    def type(self, label: str, value: str) -> Reader:
        """Type into a field."""
        field = self.tab.get_by_label(label).first
        field.fill(value)
        field.press("Enter")
        return self.settle()

    def download(self, button: Any) -> Path:
        """Press a download button; the file and its suggested name."""
        with self.tab.expect_download(timeout=30_000) as caught:
            button.click()
        target = Path(caught.value.path()).with_name(caught.value.suggested_filename)
        caught.value.save_as(target)
        return target
