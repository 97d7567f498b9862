"""Figures carry exactly the numbers of the results they are made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.evaluation import best_unimodal, find_difference
from app import theme
from app.figures import cohort as cohort_figures
from app.figures import comparison, frames, survival
from app.figures.survival import Panel
from app.workspace import EVALUATED_SPLITS, Task, Workspace, gains, leader


@pytest.fixture(scope="module")
def workspace(workspace_folder: Path) -> Workspace:
    return Workspace(workspace_folder)


@pytest.fixture(scope="module")
def task(workspace: Workspace) -> Task:
    """The task with most runs."""
    return max(workspace.tasks("survival"), key=lambda t: len(workspace.usable_runs(t)[0]))


@pytest.fixture(scope="module")
def evaluations(workspace: Workspace, task: Task) -> dict[str, dict[str, Any]]:
    names = [run.config.name for run in workspace.usable_runs(task)[0]]
    return {split: workspace.evaluate(task, names, split) for split in EVALUATED_SPLITS}


@pytest.fixture(scope="module")
def styles(workspace: Workspace, task: Task) -> dict[str, theme.RunStyle]:
    runs, _ = workspace.usable_runs(task)
    return {run.config.name: theme.run_style(run.config) for run in runs}


def test_forest_shows_every_estimate_and_interval(evaluations: Any, styles: Any) -> None:
    figure = comparison.forest(evaluations, styles)
    for panel, evaluation in enumerate(evaluations.values(), start=1):
        axis = "x" if panel == 1 else f"x{panel}"
        drawn = {t.meta: t for t in figure.data if t.xaxis == axis}
        assert set(drawn) == {row["run"] for row in evaluation["runs"]}
        for row in evaluation["runs"]:
            c, trace = row["c_index"], drawn[row["run"]]
            assert trace.x[0] == c["value"]
            assert trace.x[0] + trace.error_x.array[0] == pytest.approx(c["high"], abs=1e-12)
            assert trace.x[0] - trace.error_x.arrayminus[0] == pytest.approx(c["low"], abs=1e-12)
            assert trace.marker.color == styles[row["run"]].colour
        lines = [s for s in figure.layout.shapes if s.xref == axis]
        assert [line.x0 for line in lines] == [
            best_unimodal(evaluation["runs"])["c_index"]["value"]
        ]
    ranges = {tuple(figure.layout[name].range) for name in ("xaxis", "xaxis2")}
    assert len(ranges) == 1


def test_panel_titles_state_patients_and_events(evaluations: Any, styles: Any) -> None:
    figure = comparison.forest(evaluations, styles)
    text = " ".join(a.text for a in figure.layout.annotations)
    for evaluation in evaluations.values():
        assert f"{evaluation['n']:,} patients, {evaluation['events']:,} events" in text


def test_difference_matrix_is_row_minus_column(evaluations: Any, styles: Any) -> None:
    evaluation = evaluations["internal"]
    figure = comparison.differences(evaluation, styles)
    names = comparison.ordered(evaluation)
    matrix = figure.data[0].z
    for i, row in enumerate(names):
        for j, column in enumerate(names):
            if i == j:
                assert matrix[i][j] is None
                continue
            found = find_difference(evaluation, row, column)
            assert matrix[i][j] == pytest.approx(100 * found["difference"]["value"], abs=1e-12)
            low, high = found["difference"]["low"], found["difference"]["high"]
            assert figure.data[0].text[i][j].startswith("<b>") == (low > 0 or high < 0)
    assert figure.data[0].zmin == -figure.data[0].zmax


def test_outlines_mark_differences_that_stand_after_holm(evaluations: Any, styles: Any) -> None:
    evaluation = {**evaluations["internal"]}
    strong = {
        "difference": {"value": 0.1, "low": 0.05, "high": 0.15},
        "p": 0.002,
        "p_holm": 0.02,
    }
    weak = {**strong, "p_holm": 0.2}
    first, *others = evaluation["differences"]
    evaluation["differences"] = [{**first, **strong}] + [{**d, **weak} for d in others]
    assert len(comparison.differences(evaluation, styles).layout.shapes) == 2


def test_gain_figure_and_gains_agree_with_the_evaluation(evaluations: Any, styles: Any) -> None:
    found = {split: gains(evaluation) for split, evaluation in evaluations.items()}
    fusion = [g.run for g in found["internal"]]
    figure = comparison.gain(found, fusion, styles)
    drawn = {t.meta: t for t in figure.data if t.xaxis == "x"}
    for g in found["internal"]:
        evaluation = evaluations["internal"]
        baseline = best_unimodal(evaluation["runs"])
        difference = find_difference(evaluation, g.run, baseline["run"])["difference"]
        assert drawn[g.run].x[0] == pytest.approx(100 * difference["value"])
        reference = baseline["c_index"]["value"]
        assert g.percent["low"] == pytest.approx(100 * difference["low"] / reference)


def test_winner_is_the_highest_c(evaluations: Any, styles: Any) -> None:
    figure = comparison.winners({"A task": evaluations}, styles)
    for annotation, evaluation in zip(figure.layout.annotations, evaluations.values(), strict=True):
        best = leader(evaluation)
        highest = max(row["c_index"]["value"] for row in evaluation["runs"])
        assert best["c_index"]["value"] == highest
        assert f"{highest:.3f}" in annotation.text


@pytest.mark.parametrize("rule", ["median", "tertiles", "quartiles"])
def test_kaplan_meier_draws_the_curves_as_they_are(
    workspace: Workspace, task: Task, rule: str
) -> None:
    run = workspace.usable_runs(task)[0][0].config
    ticks = survival.day_ticks(900)
    result = workspace.risk_groups(task, run.name, "internal", rule, 900, ticks)
    figure = survival.kaplan_meier([Panel(run.name, run.title, result)], 900, "Days")
    for position, group in enumerate(result.groups):
        lines = [
            t for t in figure.data if t.line.shape == "hv" and t.name.split(":")[0] == group.name
        ]
        whole = np.concatenate([lines[0].x, *[t.x[1:] for t in lines[1:]]])
        np.testing.assert_array_equal(whole, group.curve.time_days)
        levels = np.concatenate([lines[0].y, *[t.y[1:] for t in lines[1:]]])
        np.testing.assert_array_equal(levels, group.curve.survival)
        for faint in lines[1:]:
            assert (faint.customdata[1:, 2] < survival.FEW_AT_RISK).all()
        assert (lines[0].customdata[:, 2] >= survival.FEW_AT_RISK).all()
        (table,) = [t for t in figure.data if t.mode == "text" and t.name.startswith(group.name)]
        np.testing.assert_array_equal(table.x, ticks)
        assert list(table.y) == [position] * len(ticks)
        assert list(table.text) == [
            f"{n:,} ({d:,})"
            for n, d in zip(group.at_risk.at_risk, group.at_risk.events, strict=True)
        ]
    assert tuple(figure.layout.xaxis.tickvals) == tuple(figure.layout.xaxis2.tickvals)
    assert figure.layout.xaxis.domain == figure.layout.xaxis2.domain


def test_small_multiples_share_their_axes(workspace: Workspace, task: Task) -> None:
    panels = [
        Panel(
            run.config.name,
            run.config.title,
            workspace.risk_groups(task, run.config.name, "internal", "median", 900),
        )
        for run in workspace.usable_runs(task)[0][:3]
    ]
    layout = survival.kaplan_meier(panels, 900, "Days").layout
    axes = ["", "3", "5"][: len(panels)]
    assert len({tuple(layout[f"xaxis{a}"].range) for a in axes}) == 1
    assert len({tuple(layout[f"yaxis{a}"].range) for a in axes}) == 1


def test_an_empty_group_draws_nothing_and_breaks_nothing(workspace: Workspace, task: Task) -> None:
    run = workspace.usable_runs(task)[0][0].config
    result = workspace.risk_groups(task, run.name, "internal", 1e6, 900)
    figure = survival.kaplan_meier([Panel(run.name, run.title, result)], 900, "Days")
    assert not [t for t in figure.data if t.name == "High risk"]


def test_availability_counts_patients(workspace: Workspace, task: Task) -> None:
    summary = workspace.describe(task.cohort)
    drawn = cohort_figures.availability(summary).data[0]
    there = workspace.cohort(task.cohort).availability()
    split = workspace.cohort(task.cohort).subjects["split"]
    for i, name in enumerate(summary.available):
        for j, part in enumerate(summary.splits):
            assert drawn.customdata[i][j] == there.loc[split == part, name].sum()
    assert frames.availability(summary)["with_modality"].sum() == there.to_numpy().sum()


def test_names_from_files_are_no_markup(evaluations: Any, styles: Any) -> None:
    hostile = '<a href="javascript:alert(1)">x</a><b>bold</b>'
    disguised = {name: replace(style, title=hostile) for name, style in styles.items()}
    evaluation = {**evaluations["internal"]}
    evaluation["runs"] = [{**row, "title": hostile} for row in evaluation["runs"]]
    pictures = [
        comparison.forest({"internal": evaluation}, disguised),
        comparison.differences(evaluation, disguised),
        comparison.winners({hostile: {"internal": evaluation}}, disguised),
    ]
    for figure in pictures:
        text = figure.to_json().replace("\\u003c", "<")
        assert "<a href" not in text
        assert "&lt;a" in text


def test_undefined_numbers_leave_gaps_not_errors(evaluations: Any, styles: Any) -> None:
    nothing = {"value": None, "low": None, "high": None}
    evaluation = {**evaluations["internal"], "events": 0}
    evaluation["runs"] = [{**row, "c_index": nothing} for row in evaluation["runs"]]
    evaluation["differences"] = [
        {**d, "difference": nothing, "p": None, "p_holm": None} for d in evaluation["differences"]
    ]
    assert not comparison.forest({"internal": evaluation}, styles).data
    assert comparison.differences(evaluation, styles).data
    assert "no comparison" in comparison.winners({"T": {"internal": evaluation}}, styles).to_json()
    assert gains(evaluation) == []
    assert frames.runs({"internal": evaluation})["c_index"].isna().all()


def test_a_colour_belongs_to_a_strategy(styles: Any) -> None:
    colours = set(theme.STRATEGY_COLOURS.values()) | set(theme.SPARE_COLOURS)
    assert len(colours) == len(theme.STRATEGY_COLOURS) + len(theme.SPARE_COLOURS)
    assert theme.strategy_colour("a new one") == theme.strategy_colour("a new one")
    assert theme.mix("#000000", "#FFFFFF", 0.5) == "#808080"


def test_ticks_are_round_days_and_few() -> None:
    assert survival.day_ticks(1000) == [0, 180, 360, 540, 720, 900]
    assert survival.day_ticks(2000) == [0, 365, 730, 1095, 1460, 1825]
    assert survival.day_ticks(6) == [0, 1, 2, 3, 4, 5, 6]
    assert all(len(survival.day_ticks(end)) <= 7 for end in range(1, 40000, 97))
