"""Figures of class tasks carry exactly the numbers of the results they are made of."""

from __future__ import annotations

import re

import numpy as np
import pytest

from analysis.classification.evaluation import evaluate_labels
from analysis.cohort.cohort import Cohort
from analysis.missing.combinations import by_combination
from analysis.store import ResultStore
from app import theme
from app.figures import classification as figures
from app.figures.text import interval, number
from tests.analysis.classification.toys import train, write_cohort


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    home = tmp_path_factory.mktemp("figures")
    cohort = Cohort.open(write_cohort(home / "hf"))
    runs = [
        train(cohort.folder, home / "labs", strategy="unimodal", modalities=("labs",)),
        train(cohort.folder, home / "two", modalities=("labs", "echo")),
        train(cohort.folder, home / "late"),
    ]
    grade = train(cohort.folder, home / "grade", task="grade")
    store = ResultStore(home / "results")
    return {
        "evaluation": evaluate_labels(runs, cohort, "internal", store, 60),
        "grade": evaluate_labels([grade], cohort, "internal", store, 40),
        "tables": [by_combination(run, cohort, "internal", store, n_resamples=40) for run in runs],
        "styles": {run.config.name: theme.run_style(run.config) for run in [*runs, grade]},
    }


def traces(figure):
    return {trace.meta: trace for trace in figure.data}


def words(figure):
    return re.sub(r"<[^>]+>", "", figure.layout.title.text)


def test_roc_curves_bands_and_areas(made):
    evaluation = made["evaluation"]
    figure = figures.roc_figure(evaluation, made["styles"])
    drawn = traces(figure)
    for row in evaluation["runs"]:
        curve, band = drawn[row["run"]], drawn[f"{row['run']}/band"]
        assert list(curve.x) == row["roc"]["fpr"]
        assert list(curve.y) == row["roc"]["tpr"]
        assert f"AUC {interval(row['auc'])}" in curve.name
        assert curve.line.color == made["styles"][row["run"]].colour
        assert list(band.y[:101]) == row["roc"]["band"]["low"]
        assert list(band.y[:100:-1]) == row["roc"]["band"]["high"]
        mark = drawn[f"{row['run']}/cutoff"]
        assert mark.x[0] == pytest.approx(1 - row["specificity"]["value"])
        assert mark.y[0] == row["sensitivity"]["value"]
        assert number(row["cutoff"]["value"]) in mark.hovertemplate
    order = [t.meta for t in figure.data if t.showlegend is None and t.name]
    area = {row["run"]: row["auc"]["value"] for row in evaluation["runs"]}
    assert order == sorted(area, key=area.__getitem__, reverse=True)
    assert figure.layout.yaxis.scaleanchor == "x"
    chance = figure.layout.shapes[0]
    assert (chance.x0, chance.y0, chance.x1, chance.y1) == (0, 0, 1, 1)
    assert words(figure) == (
        f"Internal test: {evaluation['n']} patients, {evaluation['positives']} with heart failure"
    )


def test_bands_of_whole_curves_and_of_the_best_of_many_runs(made):
    evaluation = made["evaluation"]
    drawn = traces(figures.roc_figure(evaluation, made["styles"], "whole"))
    row = evaluation["runs"][0]
    assert list(drawn[f"{row['run']}/band"].y[:101]) == row["roc"]["band"]["all_low"]
    bare = traces(figures.roc_figure(evaluation, made["styles"], "none"))
    assert not [name for name in bare if name.endswith("/band")]
    many = {**evaluation, "runs": [*evaluation["runs"], {**row, "run": "fourth"}]}
    styles = {**made["styles"], "fourth": made["styles"][row["run"]]}
    shown = [name for name in traces(figures.roc_figure(many, styles)) if name.endswith("/band")]
    best = max(many["runs"], key=lambda r: r["auc"]["value"])["run"]
    assert shown == [f"{best}/band"]


def test_the_area_under_the_drawn_precision_recall_curve_is_average_precision(made):
    evaluation = made["evaluation"]
    figure = figures.pr_figure(evaluation, made["styles"])
    drawn = traces(figure)
    for row in evaluation["runs"]:
        curve = drawn[row["run"]]
        assert curve.line.shape == "vh"  # vertical first: each step has the precision at its end
        area = float((np.diff(curve.x) * np.array(curve.y)[1:]).sum())
        assert area == pytest.approx(row["average_precision"]["value"], abs=1e-4)
        assert f"AP {interval(row['average_precision'])}" in curve.name
    share = evaluation["positives"] / evaluation["n"]
    assert figure.layout.shapes[0].y0 == pytest.approx(share)
    assert f"prevalence {share:.3f}" in figure.layout.annotations[0].text


def test_confusion_counts_and_shares_of_the_true_class(made):
    row = made["evaluation"]["runs"][2]
    figure = figures.confusion_figure(made["evaluation"], row["run"])
    cells = figure.data[0].text
    for truth, line in enumerate(row["confusion"]):
        for called, n in enumerate(line):
            assert f"<b>{n}</b>" in cells[truth][called]
            assert f"{100 * n / sum(line):.1f}%" in cells[truth][called]
    found = row["sensitivity"]["value"]
    assert f"{100 * found:.1f}%" in cells[1][1]
    assert f"≥ {number(row['cutoff']['value'])}" in words(figure)
    assert "80 tuning patients" in words(figure).replace("Youden'sindex", "")


def test_three_classes_have_a_mean_curve_and_a_larger_table(made):
    evaluation = made["grade"]
    drawn = traces(figures.roc_figure(evaluation, made["styles"]))
    assert set(drawn) == {"grade", "grade/band"}
    assert "most probable class" in words(figures.confusion_figure(evaluation, "grade"))
    counts = evaluation["class_counts"]
    assert f"severe {counts['severe']}" in words(figures.pr_figure(evaluation, made["styles"]))


@pytest.mark.parametrize("measure", ["auc", "accuracy"])
def test_combination_cells(made, measure):
    tables = made["tables"]
    figure = figures.combination_figure(tables, made["styles"], measure)
    heat = figure.data[0]
    heads = [text.replace("<br>", " ") for text in figure.layout.xaxis.ticktext]
    assert heads == [
        "Labs", "ECG", "Echo", "Labs + ECG", "Labs + Echo", "ECG + Echo", "Labs + ECG + Echo",
    ]  # fmt: skip
    where = {
        ("labs",): 0, ("ecg",): 1, ("echo",): 2, ("labs", "ecg"): 3, ("labs", "echo"): 4,
        ("ecg", "echo"): 5, ("labs", "ecg", "echo"): 6,
    }  # fmt: skip
    best = dict.fromkeys(range(7), (0.0, None))
    for row, table in enumerate(tables):
        shown = set()
        for entry in table["combinations"]:
            column, estimate = where[tuple(entry["modalities"])], entry[measure]
            shown.add(column)
            assert heat.z[row][column] == estimate["value"]
            assert f"<b>{number(estimate['value'], 2)}</b>" in heat.text[row][column]
            assert number(estimate["low"], 2) in heat.text[row][column]
            best[column] = max(best[column], (estimate["value"], -row))
        for column in set(range(7)) - shown:
            assert heat.z[row][column] is None
        for d in table["differences"]:
            p = (d["accuracy"] if measure == "accuracy" else d)["p_holm"]
            starred = "*" in heat.text[row][where[tuple(d["modalities"])]]
            assert starred == (p < 0.05)
    for column, (_, row) in best.items():
        underlined = ["<u>" in line[column] for line in heat.text]
        several = sum(line[column] is not None for line in heat.z) > 1
        assert underlined == [several and i == -row for i in range(len(tables))]
    labels = figure.layout.yaxis.ticktext
    for table, label in zip(tables, labels, strict=True):
        assert f"{table['n']} patients, {table['events']} with heart failure" in label


def test_runs_that_name_modalities_in_another_order_share_columns(made):
    late = made["tables"][2]
    turned = {
        **late,
        "combinations": [{**e, "modalities": e["modalities"][::-1]} for e in late["combinations"]],
        "differences": [{**d, "modalities": d["modalities"][::-1]} for d in late["differences"]],
    }
    heat = figures.combination_figure([late, turned], made["styles"]).data[0]
    assert len(heat.x) == 7
    assert heat.z[0] == heat.z[1]


def test_the_table_of_one_run_says_its_patients_above_and_underlines_nothing(made):
    table = made["tables"][2]
    figure = figures.combination_figure([table], made["styles"])
    assert f"{table['n']} patients, {table['events']} with heart failure" in words(figure)
    assert not any("<u>" in cell for cell in figure.data[0].text[0])
    assert "best run" not in words(figure)


def test_combination_frame_is_in_full_precision(made):
    frame = figures.combination_frame(made["tables"])
    assert len(frame) == 1 + 3 + 7
    whole = frame[(frame["run"] == "late") & (frame["combination"] == "labs + ecg + echo")].iloc[0]
    assert whole["auc"] == made["tables"][2]["combinations"][-1]["auc"]["value"]
    assert np.isnan(whole["auc_difference"])
    part = frame[(frame["run"] == "late") & (frame["combination"] == "labs")].iloc[0]
    assert part["auc"] + part["auc_difference"] == pytest.approx(whole["auc"])


def test_names_from_files_cannot_write_markup(made):
    evaluation = {**made["evaluation"], "positive_class": "<b>x</b>"}
    assert "&lt;b&gt;x" in figures.roc_figure(evaluation, made["styles"]).layout.title.text


def test_an_undefined_comparison_says_why(made):
    rows = [{**row, "roc": None, "pr": None} for row in made["evaluation"]["runs"]]
    evaluation = {**made["evaluation"], "runs": rows, "undefined": "None of them is sick."}
    figure = figures.roc_figure(evaluation, made["styles"])
    assert not figure.data
    assert "None of them is sick." in figure.layout.annotations[0].text
