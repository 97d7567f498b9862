"""The real app in Chromium shows the numbers that the analysis gives."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest

from analysis.cohort.cohort import Cohort
from analysis.evaluation import best_unimodal, evaluate, find_difference, risk_groups
from analysis.store import ResultStore
from app.figures.text import days, interval, number, p_value, signed_interval
from app.panels.verdict import verdict
from app.workspace import Task, Workspace
from models.checkpoint import Run, load_run
from tests.app.toy import BROKEN_COHORT, BROKEN_RUN, rename_run
from tests.browser.conftest import HANCOCK
from tests.browser.driver import Reader

pytestmark = pytest.mark.browser
SPLITS = {"internal": "Internal test", "external": "External test"}


@pytest.fixture(scope="module")
def reader(browser: Any, address: str) -> Iterator[Reader]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    yield Reader(context.new_page(), address)
    context.close()


@pytest.fixture(scope="module")
def tasks(workspace_folder: Path) -> dict[str, Task]:
    """Tasks by what the selectbox calls them; HANCOCK has one run and no external patients."""
    workspace = Workspace(workspace_folder)
    return {
        f"{workspace.cohort(t.cohort).spec.title}: {t.title}": t
        for t in workspace.tasks("survival")
        if t.cohort != HANCOCK
    }


class Truth:
    """The analysis called directly, with a store of its own."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder = folder
        self.store = ResultStore(store)

    def cohort(self, task: Task) -> Cohort:
        return Cohort.open(self.folder / "cohorts" / task.cohort)

    def runs(self, task: Task) -> list[Run]:
        usable, _ = Workspace(self.folder).usable_runs(task)
        return [load_run(run.folder, [self.folder / "encoders"]) for run in usable]

    def evaluate(self, task: Task, runs: list[Run], split: str) -> dict[str, Any]:
        return evaluate(runs, self.cohort(task), split, self.store)

    def groups(self, task: Task, run: Run, split: str, rule: Any, horizon: float) -> Any:
        return risk_groups(run, self.cohort(task), split, self.store, rule, horizon)


@pytest.fixture(scope="module")
def truth(workspace_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return Truth(workspace_folder, tmp_path_factory.mktemp("truth"))


def plain(text: str) -> str:
    """Text as it appears on the page."""
    return " ".join(text.split())


# ---------------------------------------------------------------- overview


def test_overview_shows_cohorts_runs_and_what_is_broken(
    reader: Reader, truth: Truth, tasks: dict[str, Task]
) -> None:
    reader.open()
    # The script that draws tables is loaded by the first of them.
    reader.tab.locator("[data-testid=stTable] table").last.wait_for(timeout=30_000)
    text = plain(reader.text())
    assert "What is here?" in text
    assert f"Run {BROKEN_RUN} cannot be used." in text
    assert "not readable as JSON" in text
    assert BROKEN_COHORT in text
    for task in tasks.values():
        cohort = truth.cohort(task)
        assert cohort.spec.title in text
        for run in truth.runs(task):
            assert run.config.title in text
            assert number(run.config.training.tuning_score) in text
    rows = [r for t in reader.tab.evaluate(_TABLES_OF) for r in t]
    for task in tasks.values():
        outcomes = truth.cohort(task).outcomes
        for split, title in SPLITS.items():
            found = outcomes(task.name, truth.cohort(task).subject_ids(split, task.name))
            rate = found.event.mean()
            expected = [task.title, title, f"{len(found):,}", f"{found.event.sum():,} ({rate:.0%})"]
            assert expected in [row[:4] for row in rows]


_TABLES_OF = """() => [...document.querySelectorAll('[data-testid=stTable] table')].map(t =>
  [...t.querySelectorAll('tr')].map(r => [...r.querySelectorAll('td')].map(c => c.innerText)))"""


# ---------------------------------------------------------------- compare


def expect_measures(reader: Reader, evaluation: dict[str, Any]) -> None:
    rows = {row["Run"]: row for row in reader.table("Uno's C")}
    assert set(rows) == {row["title"] for row in evaluation["runs"]}
    for expected in evaluation["runs"]:
        row = rows[expected["title"]]
        assert row["Harrell's C (95% interval)"] == interval(expected["c_index"])
        assert row["Uno's C"] == number(expected["uno_c"]["value"])
        assert row["Integrated Brier score"] == number(expected["integrated_brier"]["value"])
        reference = number(expected["integrated_brier"].get("reference"))
        assert row["Brier of Kaplan-Meier"] == reference
        assert row["Patients"] == f"{expected['n']:,}"
        assert row["Events"] == f"{expected['events']:,}"
        assert row["Lack all"] == f"{expected['without_any_modality']:,}"


def expect_gains(reader: Reader, evaluation: dict[str, Any]) -> None:
    baseline = best_unimodal(evaluation["runs"])
    rows = {row["Run"]: row for row in reader.table("Internal: points")}
    split = evaluation["split"].capitalize()
    for expected in evaluation["runs"]:
        if expected["strategy"] == "unimodal":
            continue
        found = find_difference(evaluation, expected["run"], baseline["run"])
        points = {k: 100 * v for k, v in found["difference"].items()}
        percent = {k: v / baseline["c_index"]["value"] for k, v in points.items()}
        row = rows[expected["title"]]
        assert row[f"{split}: points"] == signed_interval(points)
        assert row[f"{split}: percent"] == signed_interval(percent, unit="%")
        assert row[f"{split}: Holm p"] == p_value(found["p_holm"])


def test_compare_shows_what_evaluate_gives_for_every_task_and_split(
    reader: Reader, truth: Truth, tasks: dict[str, Task]
) -> None:
    first, *others = tasks
    reader.open("compare", f"task={tasks[first].key}")
    for title in (first, *others):
        if title != first:
            reader.choose("Task", title)
        task = tasks[title]
        assert parse_qs(urlsplit(reader.tab.url).query) == {"task": [task.key]}
        runs = truth.runs(task)
        for split, name in SPLITS.items():
            evaluation = truth.evaluate(task, runs, split)
            reader.press("Patients", name)
            assert plain(verdict(evaluation)) in plain(reader.text())
            expect_measures(reader, evaluation)
            expect_gains(reader, evaluation)


def test_compare_with_fewer_runs_compares_fewer_runs(
    reader: Reader, truth: Truth, tasks: dict[str, Task]
) -> None:
    title, task = max(tasks.items(), key=lambda item: len(truth.runs(item[1])))
    reader.open("compare", f"task={task.key}")
    runs = truth.runs(task)
    reader.press("Runs", runs[-1].config.title)
    evaluation = truth.evaluate(task, runs[:-1], "internal")
    expect_measures(reader, evaluation)
    expect_gains(reader, evaluation)
    assert title in reader.tab.get_by_role("combobox", name="Task").input_value()


def test_compare_without_runs_says_what_to_do(reader: Reader, tasks: dict[str, Task]) -> None:
    task = next(iter(tasks.values()))
    reader.open("compare", f"task={task.key}")
    pressed = reader.tab.locator('[data-testid="stButtonGroup"] [aria-pressed="true"]')
    while pressed.count():
        pressed.first.click()
        reader.settle()
    assert "Choose at least one run" in reader.text()


def test_an_unknown_task_in_the_address_is_said(reader: Reader) -> None:
    reader.open("compare", "task=no/such")
    assert "asks for the task no/such" in reader.text()


# ---------------------------------------------------------------- survival


def expect_groups(reader: Reader, results: dict[str, Any]) -> None:
    rows = reader.table("Median time to event")
    expected = [
        {
            "Run": title,
            "Group": group.name,
            "Patients": f"{group.n:,}",
            "Events": f"{group.n_events:,}",
            "Median time to event": days(group.curve.median_days) if group.curve else "–",
            "Mean event-free days (95% interval)": _estimate(group.rmst, 0),
        }
        for title, result in results.items()
        for group in result.groups
    ]
    assert rows == expected
    contrasts = {row["Run"]: row for row in reader.table("Log-rank p")}
    for title, result in results.items():
        row = contrasts[title]
        assert row["Log-rank p"] == p_value(result.logrank.p)
        assert row["Hazard ratio (95% interval)"] == _estimate(result.hazard_ratio, 2)
        gap = row["Difference in event-free days (95% interval)"]
        assert gap == _estimate(result.rmst_difference, 0)
        assert row["Within"] == days(result.tau_days)


def _estimate(estimate: Any, digits: int) -> str:
    if estimate is None or estimate.undefined:
        return "–"
    bounds = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return interval(bounds, digits)


def chosen_runs(reader: Reader, runs: list[Run]) -> list[Run]:
    pressed = reader.tab.locator('[data-testid="stButtonGroup"] [aria-pressed="true"]')
    titles = [text.strip() for text in pressed.all_inner_texts()]
    return [run for run in runs if run.config.title in titles]


def test_survival_shows_what_risk_groups_gives_for_every_control(
    reader: Reader, truth: Truth, tasks: dict[str, Task]
) -> None:
    title, task = max(tasks.items(), key=lambda item: len(truth.runs(item[1])))
    runs = truth.runs(task)
    reader.open("survival", f"task={task.key}")
    chosen = chosen_runs(reader, runs)
    assert len(chosen) == 2
    slider = "Horizon in days"

    def check(split: str, rule: Any) -> None:
        horizon = reader.slide(slider, [])
        shown = chosen_runs(reader, runs)
        cut = rule if isinstance(rule, dict) else dict.fromkeys([r.config.name for r in runs], rule)
        expect_groups(
            reader,
            {
                run.config.title: truth.groups(task, run, split, cut[run.config.name], horizon)
                for run in shown
            },
        )

    check("internal", "median")
    for rule in ("tertiles", "quartiles"):
        reader.press("Cut the predicted risk at", rule.capitalize())
        check("internal", rule)
    reader.press("Patients", SPLITS["external"])
    check("external", "quartiles")
    before = reader.slide(slider, [])
    after = reader.slide(slider, ["PageDown", "PageDown"])
    assert after < before
    check("external", "quartiles")
    reader.press("Cut the predicted risk at", "Median")
    other = next(run for run in runs if run not in chosen)
    reader.press("Runs", other.config.title)
    check("external", "median")
    learned = truth.groups(task, chosen[0], "external", "median", after).cutoffs
    assert f"{learned.n:,} training and tuning patients" in plain(reader.text())
    assert number(learned.values[0]) in reader.text()

    reader.press("Cut the predicted risk at", "Fixed cut-off")
    cuts = {
        run.config.name: round(
            truth.groups(task, run, "external", "median", after).cutoffs.values[0], 3
        )
        for run in chosen_runs(reader, runs)
    }
    check("external", cuts)
    first = chosen_runs(reader, runs)[0]
    moved = round(cuts[first.config.name] + 0.001, 3)
    reader.type(f"Log-risk cut-off: {first.config.title}", f"{moved:.3f}")
    check("external", {**cuts, first.config.name: moved})

    for name in tasks:
        if name != title:
            reader.choose("Task", name)
            assert plain(tasks[name].event_title) in plain(reader.text())


def test_the_at_risk_table_stands_under_its_ticks(reader: Reader, tasks: dict[str, Task]) -> None:
    """Counts and day labels share their horizontal positions on the screen."""
    task = next(iter(tasks.values()))
    reader.open("survival", f"task={task.key}")
    ticks, counts = reader.tab.evaluate(
        """() => {
          const middle = e => { const b = e.getBoundingClientRect(); return b.x + b.width / 2; };
          const plot = document.querySelector('.js-plotly-plot');
          const ticks = [...plot.querySelectorAll('.xaxislayer-above text')].map(middle);
          const counts = [...plot.querySelectorAll('.scatterlayer .text text')].map(middle);
          return [ticks, counts];
        }"""
    )
    assert ticks
    assert len(counts) >= 2
    for count in counts:
        assert min(abs(count - tick) for tick in ticks) < 2


# ---------------------------------------------------------------- going about, downloads


def test_the_task_is_kept_from_page_to_page(reader: Reader, tasks: dict[str, Task]) -> None:
    title, task = list(tasks.items())[-1]
    reader.open("compare", f"task={task.key}")
    for page in ("Survival", "Overview", "Compare"):
        reader.tab.get_by_role("link", name=page, exact=True).click()
        reader.tab.wait_for_timeout(400)
        reader.settle()
        assert "Research use only. Not for clinical decisions." in reader.text()
    assert reader.tab.get_by_role("combobox", name="Task").input_value() == title


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, float_precision="round_trip")


def figure_named(reader: Reader, name: str) -> Any:
    key = name.replace(" ", "-").replace("/", "-")
    return reader.tab.locator(f".st-key-figure-{key}")


def test_downloads_hold_the_numbers(reader: Reader, truth: Truth, tasks: dict[str, Task]) -> None:
    task = next(iter(tasks.values()))
    reader.open("compare", f"task={task.key}")
    figure = figure_named(reader, f"concordance {task.key}")
    table = read(reader.download(figure.get_by_text("Data (CSV)")))
    runs = truth.runs(task)
    for split in SPLITS:
        for expected in truth.evaluate(task, runs, split)["runs"]:
            (row,) = table[(table.run == expected["run"]) & (table.split == split)].itertuples()
            assert row.c_index == expected["c_index"]["value"]
            assert (row.c_index_low, row.c_index_high) == (
                expected["c_index"]["low"],
                expected["c_index"]["high"],
            )
            assert row.uno_c == expected["uno_c"]["value"]
    png = reader.download(figure.get_by_role("button", name="Download this figure as PNG"))
    svg = reader.download(figure.get_by_role("button", name="Download this figure as SVG"))
    assert png.suffix == ".png"
    assert png.read_bytes().startswith(b"\x89PNG")
    picture = svg.read_text()
    assert svg.suffix == ".svg"
    assert picture.startswith("<svg")
    assert interval(truth.evaluate(task, runs, "internal")["runs"][0]["c_index"]) in picture


def test_survival_download_holds_the_curves(
    reader: Reader, truth: Truth, tasks: dict[str, Task]
) -> None:
    task = next(iter(tasks.values()))
    reader.open("survival", f"task={task.key}")
    horizon = reader.slide("Horizon in days", [])
    figure = figure_named(reader, f"survival {task.key} internal")
    table = read(reader.download(figure.get_by_text("Data (CSV)")))
    for run in chosen_runs(reader, truth.runs(task)):
        result = truth.groups(task, run, "internal", "median", horizon)
        for group in result.groups:
            mine = table[(table.run == run.config.name) & (table.group == group.name)]
            assert mine.time_days.tolist() == group.curve.time_days.tolist()
            assert mine.survival.tolist() == group.curve.survival.tolist()
            assert mine.at_risk.tolist() == group.curve.at_risk.tolist()


def test_names_from_files_run_no_script(reader: Reader, workspace_folder: Path) -> None:
    """A run that arrives while the app runs is seen, and its title is only ever text."""
    source = next(p for p in sorted((workspace_folder / "runs").iterdir()) if p.name != BROKEN_RUN)
    hostile = workspace_folder / "runs" / "zz_hostile"
    shutil.copytree(source, hostile)
    title = '<img src=x onerror="window.hacked=1"> **bold** :smile: [a](b): <b>c</b>'
    try:
        rename_run(hostile, name="zz_hostile", title=title)
        for page in ("", "compare", "survival"):
            reader.open(page)
            assert plain(title) in plain(reader.text())
            assert reader.tab.evaluate("window.hacked") is None
            assert reader.tab.locator('img[src="x"]').count() == 0
    finally:
        shutil.rmtree(hostile)
