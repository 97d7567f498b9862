"""The Representation page in Chromium: its numbers, places and patient are those of the command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from analysis.cohort.cohort import Cohort
from app.cli import cli
from app.figures.text import interval, number, signed_interval
from app.panels.represent_numbers import BETTER
from app.panels.represent_verdict import verdict
from tests.browser import test_patient as patients
from tests.browser.conftest import HANCOCK, HANCOCK_RUN, need

pytestmark = pytest.mark.browser
HF, ALIGNED, APART = "hf/hf", "hf-tgmm-retrieval", "hf-late"
PE, CONTRASTIVE = "pe/mortality", "pe-contrastive-onehot"
CHART = ".st-key-chart-representation-picture .js-plotly-plot"
ROWS = """() => [...document.querySelectorAll('table.measures tbody tr')].map(row => ({
  name: row.dataset.measure, help: row.querySelector('th').title,
  cells: [...row.querySelectorAll('th, td')].map(cell => cell.innerText.trim())}))"""
# Traces of the picture, and where a point of one of them stands in the window.
DRAWN = f"""() => document.querySelector('{CHART}')._fullData.filter(t => t.x && t.x[0] != null)
  .map(t => ({{meta: t.meta, axis: t.xaxis, x: Array.from(t.x), y: Array.from(t.y)}}))"""
PLACE = f"""([trace, at]) => {{
  const graph = document.querySelector('{CHART}'), data = graph._fullData[trace];
  const box = graph.getBoundingClientRect(), {{xaxis, yaxis}} = graph._fullLayout;
  return [box.left + xaxis._offset + xaxis.d2p(data.x[at]),
          box.top + yaxis._offset + yaxis.d2p(data.y[at])]; }}"""


class Page(patients.Page):
    """A tab on the Representation page."""

    def represent(self, task: str, strategy: str, **more: Any) -> Page:
        asked = {"task": task, "strategy": strategy, **more}
        self.open("representation", "&".join(f"{k}={v}" for k, v in asked.items()))
        self.tab.locator(CHART).wait_for(timeout=60_000)
        self.settle()
        return self

    def measures(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in self.tab.evaluate(ROWS)}


@pytest.fixture(scope="module")
def page(browser: Any, address: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 1400}, accept_downloads=True)
    page = Page(context.new_page(), address)
    yield page
    assert page.errors == []
    context.close()


def command(home: Path, cohort: str, run: str, *more: str) -> dict[str, Any]:
    """It shares the workspace's store with the app, as for a user."""
    arguments = ["represent", str(home / "runs" / run), "--cohort", str(home / "cohorts" / cohort)]
    found = CliRunner().invoke(cli, [*arguments, *more, "--json"])
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def expect_numbers(page: Page, told: dict[str, Any]) -> None:
    shown = page.measures()
    assert list(shown) == [row["name"] for row in told["measures"]]
    for row in told["measures"]:
        cells = [f"{row['title']} {BETTER[row['better']]}"]
        for stage in told["stages"]:
            cells += [interval(row[stage]), number(row[stage]["chance"])]
        if len(told["stages"]) == 2:
            cells.append(signed_interval(row["change"], 3))
        assert shown[row["name"]]["cells"] == cells
        assert row["source"] in shown[row["name"]]["help"]
    text = " ".join(page.text().split())
    for sentence in verdict(told):
        assert " ".join(sentence.split()) in text


def test_the_app_makes_the_picture_that_the_command_finds(
    page: Page, workspace_folder: Path, tmp_path: Path
) -> None:
    """Nothing is stored beforehand: the picture comes from the app's background process."""
    page.represent(HF, ALIGNED)
    out = tmp_path / "places.csv"
    told = command(workspace_folder, "hf", ALIGNED, "--out", str(out))
    expect_numbers(page, told)
    text = " ".join(page.text().split())
    for stage, judged in told["picture"]["quality"].items():
        expected = f"{stage}: trustworthiness {number(judged['trustworthiness'])}, continuity "
        assert expected + number(judged["continuity"]) in text
    expected = pd.read_csv(out, float_precision="round_trip")
    assert f"{len(expected):,} embeddings" in text
    pd.testing.assert_frame_equal(page.csv("representation picture")[list(expected)], expected)
    for trace in page.tab.evaluate(DRAWN):
        mine = expected[expected["modality"] == trace["meta"]]
        stage = "before" if trace["axis"] == "x" else "after"
        np.testing.assert_allclose(trace["x"], mine[f"x_{stage}"])
        np.testing.assert_allclose(trace["y"], mine[f"y_{stage}"])


def test_a_click_joins_a_patients_modalities_and_leads_to_the_patient(
    page: Page, workspace_folder: Path, tmp_path: Path
) -> None:
    page.represent(HF, ALIGNED)
    page.tab.locator(CHART).scroll_into_view_if_needed()
    page.tab.mouse.click(*page.tab.evaluate(PLACE, [0, 3]))
    link = page.tab.get_by_text("on the Patient page")
    link.wait_for(timeout=20_000)
    page.settle()
    subject = page.query["patient"]
    out = tmp_path / "places.csv"
    told = command(workspace_folder, "hf", ALIGNED, "--patient", subject, "--out", str(out))
    expected = pd.read_csv(out)
    mine = expected[expected["subject_id"] == int(subject)]
    assert mine["modality"].iloc[0] == "labs"
    drawn = page.tab.evaluate(DRAWN)
    marks = {t["axis"]: t for t in drawn if t["meta"] == "patient"}
    np.testing.assert_allclose(marks["x"]["x"], mine["x_before"])
    np.testing.assert_allclose(marks["x2"]["y"], mine["y_after"])
    assert len([t for t in drawn if t["meta"] == "lines"]) == 2
    heading = page.figure("representation rows").inner_text()
    for one in told["patient"]["stages"].values():
        assert f"mean correlation of its rows {number(one['mean_correlation'], 2)}" in heading
        assert f"of other patients {number(one['with_other_patients'], 2)}" in heading
    assert link.text_content() == f"Open patient {subject} on the Patient page"
    link.click()
    page.tab.get_by_text("Why this risk?").wait_for(timeout=60_000)
    page.settle()
    assert page.query["patient"] == subject
    assert page.query["strategy"] == ALIGNED


def test_a_run_without_alignment_shows_what_there_is(page: Page, workspace_folder: Path) -> None:
    told = command(workspace_folder, "hf", APART)
    assert told["stages"] == ["before"]
    page.represent(HF, APART)
    expect_numbers(page, told)
    assert "There is no embedding after alignment" in page.text()
    assert {trace["axis"] for trace in page.tab.evaluate(DRAWN)} == {"x"}


def test_survival_runs_are_coloured_by_what_happened_when_asked(
    page: Page, workspace_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "places.csv"
    told = command(workspace_folder, "pe", CONTRASTIVE, "--split", "all", "--out", str(out))
    page.represent(PE, CONTRASTIVE, split="all")
    expect_numbers(page, told)
    expected = pd.read_csv(out)
    people = expected.drop_duplicates("subject_id")
    legend = page.tab.locator(f"{CHART} .legend").text_content()
    assert "censored" not in legend
    page.press("Outcome", "Outcome")
    legend = page.tab.locator(f"{CHART} .legend").text_content()
    for word, n in people["outcome"].value_counts().items():
        title = {"event": "death from any cause", "censored": "censored"}[str(word)]
        assert f"{title} ({n:,} patients)" in legend.replace("Death", "death")
    page.press("Outcome", "Split")
    legend = page.tab.locator(f"{CHART} .legend").text_content()
    assert f"Training ({(people['split'] == 'train').sum():,} patients)" in legend


def test_hancock_before_and_after_alignment(
    page: Page, workspace_folder: Path, tmp_path: Path
) -> None:
    """Real patients, six modalities, of whom some lack one: an absent one has no embedding."""
    need(workspace_folder, HANCOCK)
    out = tmp_path / "places.csv"
    told = command(workspace_folder, HANCOCK, HANCOCK_RUN, "--out", str(out))
    page.represent(f"{HANCOCK}/overall_survival", HANCOCK_RUN)
    expect_numbers(page, told)
    expected = pd.read_csv(out, float_precision="round_trip")
    pd.testing.assert_frame_equal(page.csv("representation picture")[list(expected)], expected)
    cohort = Cohort.open(workspace_folder / "cohorts" / HANCOCK)
    people = expected["subject_id"].unique()
    counts = expected["modality"].value_counts()
    assert counts.min() < len(people)
    for modality, n in counts.items():
        assert n == np.isin(people, cohort.having(str(modality))).sum()
