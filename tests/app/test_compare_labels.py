"""Words and tables of the class tasks' Compare page, on evaluations made by hand."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from app.panels import compare_labels


def part(value: float | None, low: float | None = None, high: float | None = None) -> dict:
    return {"value": value, "low": low, "high": high}


def run(name: str, auc: float | None, **more: Any) -> dict[str, Any]:
    spread = (None, None) if auc is None else (auc - 0.05, auc + 0.05)
    row: dict[str, Any] = {
        "run": name,
        "title": name.upper(),
        "split": "internal",
        "n": 200,
        "positives": 60,
        "auc": part(auc, *spread),
        "average_precision": part(0.61, 0.5, 0.7),
        "accuracy": part(0.8, 0.75, 0.85),
        "sensitivity": part(0.7, 0.6, 0.8),
        "specificity": part(0.9, 0.85, 0.95),
        "brier": part(0.1234567),
    }
    return {**row, **more}


def evaluation(
    runs: list[dict[str, Any]], holm: dict[tuple[str, str], float | None], **more: Any
) -> dict[str, Any]:
    pairs = [
        {"first": a, "second": b, "difference": part(0.01, -0.1, 0.1), "p": p, "p_holm": p}
        for (a, b), p in holm.items()
    ]
    made: dict[str, Any] = {
        "n": 1200,
        "positives": 340,
        "positive_class": "heart failure",
        "runs": runs,
        "differences": pairs,
    }
    return {**made, **more}


# ---------------------------------------------------------------- the verdict


def test_a_lead_that_stands_over_all_is_said_so() -> None:
    found = evaluation(
        [run("a", 0.71), run("b", 0.8612), run("c", 0.7)],
        {("a", "b"): 0.01, ("b", "c"): 0.049, ("a", "c"): 0.9},
    )
    assert compare_labels.verdict(found) == (
        "B has the largest AUC: 0.861 (0.811 to 0.911) (1,200 patients, 340 with heart failure); "
        "its lead over every other run stands after correction."
    )


def test_runs_that_cannot_be_told_apart_are_named_best_first() -> None:
    """A pair counts in either order; 0.05 itself is not below 0.05."""
    found = evaluation(
        [run("a", 0.71), run("b", 0.86), run("c", 0.8), run("d", 0.6)],
        {("a", "b"): 0.05, ("c", "b"): 0.3, ("b", "d"): 0.0001},
    )
    assert compare_labels.verdict(found).endswith(
        "; after correction for all comparisons it cannot be told apart from C, A."
    )


def test_more_than_three_are_counted() -> None:
    names = "abcdef"
    found = evaluation([run(n, 0.9 - 0.01 * i) for i, n in enumerate(names)], {})
    assert compare_labels.verdict(found).endswith("told apart from B, C, D and 2 more.")


@pytest.mark.parametrize(
    ("p", "stands"), [(0.0, True), (1e-300, True), (None, False), (1.0, False)]
)
def test_the_smallest_p_is_no_missing_one(p: float | None, stands: bool) -> None:
    found = evaluation([run("a", 0.9), run("b", 0.6)], {("a", "b"): p})
    assert ("stands after correction" in compare_labels.verdict(found)) is stands


def test_one_run_several_classes_and_no_area() -> None:
    alone = evaluation([run("a", 0.7)], {}, positives=None)
    assert compare_labels.verdict(alone) == (
        "A has the largest AUC: 0.700 (0.650 to 0.750) (1,200 patients)."
    )
    none = evaluation([run("a", None), run("b", None)], {})
    assert compare_labels.verdict(none) == "The areas cannot be computed for these patients."
    assert compare_labels.verdict(evaluation([], {})).startswith("The areas cannot be computed")


# ---------------------------------------------------------------- tables


def test_the_table_is_in_words_best_area_first() -> None:
    shown = compare_labels.table(
        evaluation([run("a", 0.7), run("c", None), run("b", 0.8)], {})
    ).set_index("Run")
    assert shown.index.tolist() == ["B", "A", "C"]
    assert shown.loc["B"].to_dict() == {
        "AUC (95% interval)": "0.800 (0.750 to 0.850)",
        "Average precision": "0.610 (0.500 to 0.700)",
        "Accuracy": "0.800 (0.750 to 0.850)",
        "Sensitivity": "0.700 (0.600 to 0.800)",
        "Specificity": "0.900 (0.850 to 0.950)",
        "Brier score": "0.123",
    }
    assert shown.loc["C", "AUC (95% interval)"] == "–"


def test_several_classes_have_no_sensitivity() -> None:
    row = run("a", 0.7, positives=None)
    del row["sensitivity"], row["specificity"]
    made = evaluation([row], {}, positives=None)
    assert not {"Sensitivity", "Specificity"} & set(compare_labels.table(made))
    flat = compare_labels.frame(made).iloc[0]
    assert flat[["sensitivity", "sensitivity_low", "specificity_high"]].isna().all()


def test_the_frame_keeps_every_digit_and_the_order_of_the_runs() -> None:
    rows = [run("a", 0.123456789), run("b", None)]
    frame = compare_labels.frame(evaluation(rows, {}))
    assert frame["run"].tolist() == ["a", "b"]
    first = frame.iloc[0]
    assert first["auc"] == 0.123456789
    assert first["auc_low"] == rows[0]["auc"]["low"]
    assert first["specificity_high"] == 0.95
    assert first["brier"] == 0.1234567
    assert (first["n"], first["positives"], first["split"]) == (200, 60, "internal")
    assert pd.isna(frame.iloc[1]["auc"])
    assert frame.loc[1, "accuracy"] == 0.8


# ---------------------------------------------------------------- the combinations' caption


def _page(tables: dict[str, dict | str], n_modalities: dict[str, int]) -> None:
    """Runs in a script of its own; a name in `tables` that maps to text is a run that fails."""
    from types import SimpleNamespace

    from analysis.cohort.schema import CohortError
    from app import theme
    from app.panels import combinations

    class Home:
        def combinations(self, task: object, name: str, split: str) -> object:
            found = tables[name]
            if isinstance(found, str):
                raise CohortError(found)
            return {**found, "split": split}

    runs = [
        SimpleNamespace(config=SimpleNamespace(name=n, title=n, modalities=dict.fromkeys(range(k))))
        for n, k in n_modalities.items()
    ]
    styles = {n: theme.RunStyle(n, "#336699", "square") for n in n_modalities}
    task = SimpleNamespace(key="hf/hf")
    combinations.show(Home(), task, runs, ["internal"], styles)  # type: ignore[arg-type]


def combined(name: str, n: int, lacking: int) -> dict[str, Any]:
    entries = [["labs"], ["ecg"], ["labs", "ecg"]]
    return {
        "run": name,
        "title": name,
        "task": "hf",
        "split": "internal",
        "metric": "auc",
        "modalities": {"labs": "Labs", "ecg": "ECG"},
        "n": n,
        "events": 40,
        "n_incomplete": lacking,
        "combinations": [
            {"modalities": e, "auc": part(0.7, 0.6, 0.8), "accuracy": part(0.7, 0.6, 0.8)}
            for e in entries
        ],
        "differences": [],
        "resamples": {"n": 1000, "seed": 0, "units": "patients"},
        "convention": "",
        "class_counts": {},
        "classes": ["no", "yes"],
    }


def shown(tables: dict[str, Any], modalities: dict[str, int]) -> AppTest:
    test = AppTest.from_function(_page, args=(tables, modalities), default_timeout=60).run()
    assert not test.exception
    return test


def test_the_caption_counts_those_who_are_left_out() -> None:
    tables = {"a": combined("a", 260, 1040), "b": combined("b", 280, 20)}
    (caption,) = shown(tables, {"a": 2, "b": 2}).caption
    assert "those who have all of its modalities (1,040 others are left out)" in caption.value


def test_runs_of_one_or_of_many_modalities_are_not_asked() -> None:
    """Their names are not in the tables, so asking for them would fail."""
    tables = {"a": combined("a", 260, 7)}
    (caption,) = shown(tables, {"one": 1, "a": 2, "five": 5}).caption
    assert "(7 others" in caption.value
    alone = shown(tables, {"one": 1})
    assert not alone.caption
    assert not alone.header


def test_a_run_without_patients_is_left_out_with_its_reason() -> None:
    tables = {"a": combined("a", 260, 7), "b": "none of 12 patients has all of labs, ecg"}
    found = shown(tables, {"a": 2, "b": 2})
    (warning,) = found.warning
    assert "none of 12 patients has all of labs, ecg" in warning.value.replace("\\", "")
    assert len(found.caption) == 1
