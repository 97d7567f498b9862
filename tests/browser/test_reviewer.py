"""The Report page in Chromium: its sentences and numbers are those of `fusionlens report`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app import review, theme
from app.cli import cli
from models.checkpoint import read_config
from tests.browser.conftest import HANCOCK, HANCOCK_RUN, need
from tests.browser.test_patient import Page

pytestmark = pytest.mark.browser
CELLS = """() => [...document.querySelectorAll('[data-testid=stTable] table')].map(table =>
  [...table.querySelectorAll('tbody tr')].map(row =>
    [...row.querySelectorAll('th, td')].map(cell => cell.innerText.trim())))"""


@pytest.fixture(scope="module")
def page(browser: Any, address: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, accept_downloads=True)
    page = Page(context.new_page(), address)
    yield page
    assert page.errors == []
    context.close()


def test_one_task_from_top_to_bottom(page: Page, workspace_folder: Path, tmp_path: Path) -> None:
    """The page asks for the best runs on tuning patients; so does the command, by their names."""
    names = [f"pe-{name}" for name in ("ct", "ehr-onehot", "late-onehot")]
    page.open("report", "task=pe/mortality")
    chosen = page.tab.locator('[data-testid="stButtonGroup"]').first
    for pressed in chosen.get_by_role("button", pressed=True).all_inner_texts():
        chosen.get_by_text(pressed, exact=True).click()
        page.settle()
    titles = [read_config(workspace_folder / "runs" / n).title for n in names]
    for title in titles:
        chosen.get_by_text(title, exact=True).click()
        page.settle()
    out = tmp_path / "report.html"
    given = [a for name in names for a in ("--run", name)]
    told = CliRunner().invoke(
        cli,
        ["report", "--workspace", str(workspace_folder), "--task", "pe/mortality", *given,
         "--out", str(out), "--json"],
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    styles = {n: theme.run_style(read_config(workspace_folder / "runs" / n)) for n in names}
    expect(page, review.sections(found, styles))


def test_a_real_cohort(page: Page, workspace_folder: Path, tmp_path: Path) -> None:
    need(workspace_folder, HANCOCK)
    out = tmp_path / "report.html"
    told = CliRunner().invoke(
        cli,
        ["report", "--workspace", str(workspace_folder), "--task", f"{HANCOCK}/overall_survival",
         "--run", HANCOCK_RUN, "--out", str(out), "--json"],
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    style = theme.run_style(read_config(workspace_folder / "runs" / HANCOCK_RUN))
    page.open("report", f"task={HANCOCK}/overall_survival")
    expect(page, review.sections(found, {HANCOCK_RUN: style}))


def expect(page: Page, sections: list[review.Section]) -> None:
    """Every sentence, every cell, and the data of every figure."""
    text = " ".join(page.text().split())
    shown = [
        [[" ".join(cell.split()) for cell in row] for row in table]
        for table in page.tab.evaluate(CELLS)
    ]
    for section in sections:
        assert f"{section.number}. {section.question}" in text
        for sentence in section.answer:
            assert " ".join(sentence.split()) in text
        for part in section.parts:
            if isinstance(part, review.Evidence):
                assert page.csv(f"report {part.name}").shape == part.data.shape
            elif section.number != 9:  # folded away until asked for
                rows = [[" ".join(str(c).split()) for c in row] for row in part.data.to_numpy()]
                assert rows in shown, part.caption
