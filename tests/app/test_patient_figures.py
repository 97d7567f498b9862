"""The patient page's figures and tables hold the numbers of the results they are made of."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.attribution.case import Subject
from analysis.attribution.modalities import ModalityLedger
from analysis.attribution.result import Attribution
from app.figures import ledger, outlook, shares
from app.figures.ledger import Ledger
from app.figures.outlook import Outcome, Outlook, Standing
from app.figures.shares import BETTER, WORSE, Direction
from app.panels import attention_matrix, event_timeline, trust_card

SUBJECT = Subject("run", "0" * 8, "0" * 8, 1)
LOG_RISK = {"title": "log-risk", "unit": "log hazard ratio", "worse_is_higher": True}
YEAR = {"title": "survival at 365 days", "unit": "probability", "worse_is_higher": False}
LOGIT = {"title": "logit of PE", "unit": "logit", "worse_is_higher": None}


def make_ledger(**changed: Any) -> Ledger:
    fields: dict[str, Any] = {
        "title": "A",
        "colour": "#C2417C",
        "target": LOG_RISK,
        "base": -0.5,
        "shares": {"CT": 0.75, "ECG": None, "EHR": -0.25},
        "prediction": 0.0,
    }
    return Ledger(**(fields | changed))


def make_attribution(target: dict[str, Any] = LOG_RISK, **changed: Any) -> Attribution:
    given = np.array([0.5, -0.25, 0.0, 0.125, -0.0625])
    parts = pd.DataFrame(
        {
            "event": range(5),
            "code": ["MEDS_BIRTH", "LOINC/1", "RxNorm/2", "LOINC/3", "ICD10CM/I10"],
            "description": [
                "Birth",
                "Albumin <b>x</b>",
                "aspirin",
                "Sodium [Moles/volume] in Blood",
                "Hypertension",
            ],
            "group": ["Demographics", "Laboratory", "Medication", "Laboratory", "Diagnosis"],
            "value": [np.nan, 3.4, np.nan, 139.0, np.nan],
            "unit": ["", "g/dL", "", "mmol/L", ""],
            "text": None,
            "time": pd.to_datetime(["1950-01-01", "2013-01-01", "2013-01-09", "2013-01-10", None]),
            "days_before": [23021.0, 10.0, 2.0, 0.5, np.nan],
        }
    )
    fields: dict[str, Any] = {
        "subject": SUBJECT,
        "modality": "ehr",
        "kind": "events",
        "method": "permutation",
        "target": target,
        "parts": parts,
        "values": given[:, None],
        "whole": np.array([1.0 + given.sum()]),
        "reference": np.array([1.0]),
        "spread": np.array([0.01, 0.02, 0.0, 0.03, 0.04]),
    }
    return Attribution(**(fields | changed))


def traces(figure: Any, meta: str) -> list[Any]:
    return [trace for trace in figure.data if trace.meta == meta]


def words(figure: Any) -> str:
    return " | ".join(a.text for a in figure.layout.annotations)


# ---------------------------------------------------------------- ledger


def test_waterfall_bars_follow_each_other_from_base_to_prediction() -> None:
    figure = ledger.waterfall([make_ledger()])
    (bars,), (levels,) = traces(figure, "shares"), traces(figure, "levels")
    assert list(bars.ids) == ["CT", "EHR"]
    assert list(bars.x) == [0.75, -0.25]
    assert list(bars.base) == [-0.5, 0.25]
    assert list(levels.x) == [-0.5, 0.0]
    assert bars.base[-1] + bars.x[-1] == levels.x[-1]
    assert list(bars.marker.color) == [WORSE, BETTER]


def test_an_absent_modality_is_no_bar_of_zero() -> None:
    figure = ledger.waterfall([make_ledger()])
    (bars,) = traces(figure, "shares")
    assert "ECG" not in bars.ids
    assert 2 not in bars.y
    assert "<b>ECG</b>" in figure.layout.yaxis.ticktext
    assert ledger.ABSENT in words(figure)
    zero = ledger.waterfall([make_ledger(shares={"CT": 0.75, "ECG": 0.0, "EHR": -0.25})])
    assert "ECG" in traces(zero, "shares")[0].ids
    assert ledger.ABSENT not in words(zero)


def test_a_modality_that_a_run_does_not_read_is_not_called_missing() -> None:
    figure = ledger.waterfall([make_ledger(), make_ledger(shares={"CT": 0.5}, base=-0.5)])
    assert words(figure).count(ledger.NOT_READ) == 2
    assert words(figure).count(ledger.ABSENT) == 1


def test_two_runs_share_one_scale() -> None:
    other = make_ledger(base=0.0, shares={"CT": 2.0, "EHR": 1.0}, prediction=3.0)
    figure = ledger.waterfall([make_ledger(), other])
    first, second = figure.layout.xaxis.range, figure.layout.xaxis2.range
    assert first == second
    assert first[0] < -0.5
    assert first[1] > 3.0
    assert traces(figure, "shares")[1].x[0] == 2.0


def test_a_zero_of_its_own_moves_levels_and_no_shares() -> None:
    figure = ledger.waterfall([make_ledger(zero=-0.5, zero_title="mean training patient")])
    (bars,), (levels,) = traces(figure, "shares"), traces(figure, "levels")
    assert list(bars.x) == [0.75, -0.25]
    assert list(levels.x) == [0.0, 0.5]
    assert "mean training patient" in figure.layout.xaxis.title.text


def test_both_scales_and_the_interaction_are_in_words() -> None:
    also = make_ledger(
        target=YEAR, base=0.8, shares={"CT": -0.15, "ECG": None, "EHR": 0.05}, prediction=0.7
    )
    made = make_ledger(also=also, interactions={("CT", "EHR"): 0.12, ("CT", "ECG"): -0.03})
    text = words(ledger.waterfall([made]))
    for expected in (
        "−0.50",
        "80.0%",
        "+0.75",
        "−15.0 points",
        "−0.25",
        "+5.0 points",
        "70.0%",
        "CT and EHR together: +0.12 more than apart.",
        "CT and ECG together: −0.03 (less than apart).",
    ):
        assert expected in text
    assert ledger.together("CT", "EHR", 1e-9, Direction.of(YEAR)).endswith("as much as apart.")


@pytest.mark.parametrize(("fourth", "expected"), [(0.02, "0.02 or less"), (2e-8, "as much as")])
def test_small_interactions_are_summed_up(fourth: float, expected: str) -> None:
    names = ("CT", "EHR"), ("CT", "ECG"), ("EHR", "ECG"), ("CT", "Labs"), ("EHR", "Labs")
    made = make_ledger(
        interactions=dict(zip(names, (0.12, 0.11, -0.03, -fourth, 1e-9), strict=True))
    )
    assert f"2 other pairs: {expected}" in words(ledger.waterfall([made]))


def test_a_ledger_that_does_not_add_up_is_refused() -> None:
    with pytest.raises(ValueError, match=r"add up to 0, the prediction is 0\.1"):
        make_ledger(prediction=0.1)
    with pytest.raises(ValueError, match="same number"):
        ledger.waterfall([make_ledger(), make_ledger(target=LOGIT)])


def test_ledger_of_the_analysis_keeps_its_numbers() -> None:
    found = ModalityLedger(
        subject=SUBJECT,
        target=LOG_RISK,
        modalities=("ct", "ehr"),
        absent=("ecg",),
        titles={"ct": "CT", "ecg": "ECG", "ehr": "EHR"},
        base=np.array([0.5]),
        shares=np.array([[1.0], [-0.25]]),
        whole=np.array([1.25]),
        interactions={("ct", "ehr"): np.array([0.5])},
        subsets={frozenset(s): np.zeros(1) for s in ((), ("ct",), ("ehr",), ("ct", "ehr"))},
    )
    made = Ledger.of(found, "A", "#000000")
    assert dict(made.shares) == {"CT": 1.0, "ECG": None, "EHR": -0.25}
    assert (made.base, made.prediction) == (0.5, 1.25)
    assert made.interactions == {("CT", "EHR"): 0.5}
    table = ledger.ledger_table([made])
    assert table["value"].tolist()[:2] == [0.5, 1.0]
    assert np.isnan(table.loc[table["modality"] == "ECG", "value"].item())


def test_names_from_files_are_no_markup() -> None:
    figure = ledger.waterfall([make_ledger(title="<i>A", shares={"<b>CT": 0.5}, base=-0.5)])
    assert "&lt;i&gt;A" in words(figure)
    assert any("&lt;b&gt;CT" in label for label in figure.layout.yaxis.ticktext)


# ---------------------------------------------------------------- event waterfall


def test_event_waterfall_adds_up_with_all_others_in_one_bar() -> None:
    explained = make_attribution()
    figure = ledger.event_waterfall(explained, top=2)
    (bars,), (levels,) = traces(figure, "shares"), traces(figure, "levels")
    assert list(bars.ids) == ["part-0", "part-1", "others"]
    assert list(bars.x) == [0.5, -0.25, 0.0625]
    assert levels.x[0] == 1.0
    assert bars.base[-1] + bars.x[-1] == levels.x[-1] == explained.whole[0]
    labels = " ".join(figure.layout.yaxis.ticktext)
    assert "63.0 years old" in labels
    assert "3.4 g/dL, 10 days before" in labels
    assert "Albumin &lt;b&gt;x&lt;/b&gt;" in labels
    assert "3 others" in labels


def test_an_estimates_gap_has_a_row_of_its_own() -> None:
    figure = ledger.event_waterfall(make_attribution(whole=np.array([2.0])), top=10)
    (bars,) = traces(figure, "shares")
    assert bars.ids[-1] == "gap"
    assert bars.x[-1] == pytest.approx(2.0 - 1.3125)


@pytest.mark.parametrize(
    ("target", "raising", "lowering", "text"),
    [
        (LOG_RISK, WORSE, BETTER, "+0.50"),
        (YEAR, BETTER, WORSE, "+50.0 points"),
        (LOGIT, "#01665E", "#8C510A", "+0.50"),
    ],
)
def test_colours_say_worse_or_better_whatever_the_number(
    target: dict[str, Any], raising: str, lowering: str, text: str
) -> None:
    direction = Direction.of(target)
    assert (direction.colour(0.1), direction.colour(-0.1)) == (raising, lowering)
    assert direction.share(0.5) == text
    (bars,) = traces(ledger.event_waterfall(make_attribution(target), top=2), "shares")
    assert list(bars.marker.color)[:2] == [raising, lowering]
    assert ("(worse)" in direction.legend()) == (target is not LOGIT)


def test_small_shares_are_not_rounded_to_nothing() -> None:
    direction = Direction.of(LOG_RISK)
    assert direction.share(0.004) == "+0.004"
    assert direction.share(0.0) == "0.00"
    assert direction.share(-2e-5) == "−2e−05"


@pytest.mark.parametrize(
    ("days", "text"),
    [
        (0.01, "within the last hour"),
        (0.5, "12 hours before"),
        (12.2, "12 days before"),
        (800.0, "2.2 years before"),
        (np.nan, ""),
    ],
)
def test_time_before_in_words(days: float, text: str) -> None:
    assert shares.ago(days) == text


# ---------------------------------------------------------------- outlook

TIME = np.array([0.0, 10.0, 100.0, 365.0])


def make_outlook(**changed: Any) -> Outlook:
    fields: dict[str, Any] = {
        "title": "A",
        "colour": "#C2417C",
        "times_days": TIME,
        "patient": np.array([1.0, 0.9, 0.7, 0.4]),
        "cohort_median": np.array([1.0, 0.95, 0.9, 0.8]),
        "cohort_low": np.array([1.0, 0.8, 0.6, 0.5]),
        "cohort_high": np.array([1.0, 0.99, 0.98, 0.97]),
    }
    return Outlook(**(fields | changed))


def test_outlook_draws_the_curves_that_it_was_given() -> None:
    what_if = np.array([1.0, 0.95, 0.8, 0.6])
    made = make_outlook(what_if=what_if)
    figure = outlook.survival_outlook([made], 100.0)
    (patient,), (median,) = traces(figure, "patient"), traces(figure, "median")
    assert list(patient.x) == list(TIME)
    assert list(patient.y) == list(made.patient)
    assert list(median.y) == list(made.cohort_median)
    (changed,) = traces(figure, "what_if")
    assert list(changed.y) == list(what_if)
    assert changed.line.dash == "dash"
    (band,) = traces(figure, "band")
    assert (max(band.y), min(band.y)) == (1.0, 0.5)
    horizon = traces(figure, "horizon")
    assert [t.x[0] for t in horizon] == [100.0] * 3
    assert [t.y[0] for t in horizon] == [0.7, 0.8, 0.9]
    for text in ("70.0%", "80.0%", "90.0%", "day 100"):
        assert text in words(figure)


def test_the_curve_is_a_step_function_between_its_times() -> None:
    figure = outlook.survival_outlook([make_outlook()], 364.0)
    assert traces(figure, "horizon")[0].y[0] == 0.7


def test_what_happened_is_drawn_only_when_asked() -> None:
    hidden = outlook.survival_outlook([make_outlook()], 365.0)
    assert not traces(hidden, "outcome")
    assert "Observed" not in words(hidden)
    died = outlook.survival_outlook([make_outlook()], 365.0, outcome=Outcome(20, True, "death"))
    (mark,) = traces(died, "outcome")
    assert (mark.x[0], mark.y[0], mark.marker.symbol) == (20, 0.9, "x-thin")
    assert "day 20: death" in words(died)
    left = outlook.survival_outlook([make_outlook()], 365.0, outcome=Outcome(300, False, "death"))
    assert traces(left, "outcome")[0].marker.symbol == "line-ns"
    assert "no death up to day 300" in words(left)


def test_two_runs_have_the_same_axes() -> None:
    short = make_outlook(
        **{
            name: getattr(make_outlook(), name)[:3]
            for name in ("times_days", "patient", "cohort_median", "cohort_low", "cohort_high")
        }
    )
    figure = outlook.survival_outlook([make_outlook(), short], 100.0)
    assert figure.layout.xaxis.range == figure.layout.xaxis2.range
    assert figure.layout.yaxis.range == figure.layout.yaxis2.range


def test_no_survival_is_made_up_beyond_the_follow_up() -> None:
    with pytest.raises(ValueError, match="no survival at day 400"):
        outlook.survival_outlook([make_outlook()], 400.0)
    unknown = make_outlook(patient=np.array([1.0, 0.9, 0.7, np.nan]))
    with pytest.raises(ValueError, match="no survival at day 365"):
        outlook.survival_outlook([unknown], 365.0)


def test_percentile_counts_ties_half() -> None:
    training = np.array([0.1, 0.2, 0.3, 0.3, 0.9])
    assert Standing("A", "#000000", 0.3, training).percentile == pytest.approx(60.0)
    assert Standing("A", "#000000", 0.3, training).words == "higher than 60% of 5 training patients"
    assert Standing("A", "#000000", 0.95, training).words == "higher than all 5 training patients"
    assert Standing("A", "#000000", 0.05, training).words == "lower than all 5 training patients"


def test_strip_holds_every_training_patient_on_one_axis() -> None:
    rng = np.random.default_rng(0)
    standings = [
        Standing("A", "#C2417C", 0.62, rng.beta(2, 5, 500), what_if=0.4),
        Standing("B", "#D98200", 0.3, rng.beta(2, 5, 300)),
    ]
    figure = outlook.percentile_strip(standings, "risk")
    assert [int(np.sum(t.customdata)) for t in traces(figure, "training")] == [500, 300]
    assert [t.x[0] for t in traces(figure, "patient")] == [0.62, 0.3]
    assert [t.x[0] for t in traces(figure, "what_if")] == [0.4]
    assert figure.layout.xaxis.range == figure.layout.xaxis2.range
    assert all(standing.words in words(figure) for standing in standings)


def test_labels_move_apart_and_no_further() -> None:
    moved = outlook.apart([0.5, 0.52, 0.9], 0.1, 0.0, 1.0)
    assert moved == pytest.approx([0.5, 0.6, 0.9])
    assert outlook.apart([0.99, 0.98], 0.1, 0.0, 1.0) == pytest.approx([1.0, 0.9])


def test_shares_over_time_add_up_at_every_day() -> None:
    days = [0.0, 100.0, 365.0]
    values = np.outer([-0.2, 0.05, 0.0, -0.01, 0.02], [0.0, 0.5, 1.0])
    target = {**YEAR, "title": "survival over time", "days": days}
    reference = np.array([1.0, 0.9, 0.8])
    explained = make_attribution(
        target, values=values, whole=reference + values.sum(axis=0), reference=reference
    )
    figure = outlook.shares_over_time(explained, top=2)
    assert [t.name for t in figure.data] == [
        "Birth",
        "Albumin <b>x</b>",
        "3 others",
        "all together",
    ]
    drawn = np.array([t.y for t in figure.data])
    assert drawn[0] == pytest.approx([0.0, -10.0, -20.0])
    assert drawn[:-1].sum(axis=0) == pytest.approx(drawn[-1])
    assert figure.data[0].line.color == WORSE
    with pytest.raises(ValueError, match="several days"):
        outlook.shares_over_time(make_attribution())


# ---------------------------------------------------------------- timeline and matrix


def test_timeline_payload_carries_each_event_with_its_share() -> None:
    explained = make_attribution()
    content = event_timeline.payload(explained)
    assert content["share"] == explained.values[:, 0].tolist()
    # A birth and what has no date are no points in time.
    assert content["days"] == [None, 10.0, 2.0, 0.5, None]
    assert content["shareText"][0] == "+0.50 raises the risk"
    assert content["spreadText"][1] == "± 0.02"
    assert content["value"][1] == "3.4 g/dL"
    assert content["when"][1].startswith("1 Jan 2013, 00:00 (10 days before")
    lanes = {lane["title"]: lane for lane in content["lanes"]}
    assert list(lanes) == ["Demographics", "Diagnoses", "Laboratory", "Medication"]
    assert (lanes["Laboratory"]["count"], lanes["Laboratory"]["sum"]) == (2, "−0.12")
    assert content["lane"] == [0, 2, 3, 2, 1]
    assert content["label"][3] == "Sodium 139 mmol/L"
    json.dumps(content, allow_nan=False)


def test_timeline_hash_names_the_content() -> None:
    first = event_timeline.payload(make_attribution())["hash"]
    assert first == event_timeline.payload(make_attribution())["hash"]
    other = replace(make_attribution(), values=np.full((5, 1), 0.01))
    assert first != event_timeline.payload(other)["hash"]


def test_tables_hold_the_largest_of_each_sign() -> None:
    raising, lowering = event_timeline.tables(make_attribution(), n=1)
    assert raising["share"].tolist() == [0.5]
    assert lowering["share"].tolist() == [-0.25]
    assert lowering.index.tolist() == [1]
    row = lowering.iloc[0]
    assert (row["value"], row["unit"], row["spread"]) == ("3.4", "g/dL", 0.02)
    both = event_timeline.tables(make_attribution(), n=9)
    assert [len(table) for table in both] == [2, 2]


def test_the_newer_of_click_and_outer_choice_counts() -> None:
    memory: dict[str, Any] = {}
    resolve = event_timeline.resolve
    assert resolve(memory, None, "a", None) == (None, 0.0)
    click = {"hash": "a", "stamp": 5.0, "value": 7}
    assert resolve(memory, click, "a", None) == (7, 5.0)
    assert resolve(memory, click, "a", None) == (7, 5.0)
    assert resolve(memory, click, "a", 3) == (3, 5.0)
    assert resolve(memory, {"hash": "a", "stamp": 6.0, "value": None}, "a", 3) == (None, 6.0)
    # Other data: an old click says nothing about them.
    assert resolve(memory, {"hash": "a", "stamp": 7.0, "value": 7}, "b", None) == (None, 7.0)


def test_matrix_message_holds_the_weights_bit_by_bit() -> None:
    rng = np.random.default_rng(1)
    weights = rng.random((3, 5)).astype(np.float32)
    null = rng.random(3).astype(np.float32)
    rows, columns = list("abc"), ["ü", "b", "c", "d", "e"]
    digest, body = attention_matrix.pack(
        weights, rows, columns, row_title="r", column_title="c", null=null
    )
    length = int.from_bytes(body[:4], "little")
    content = json.loads(body[4 : 4 + length])
    assert length % 4 == 0
    floats = np.frombuffer(body[4 + length :], "<f4")
    np.testing.assert_array_equal(floats[:15].reshape(3, 5), weights)
    np.testing.assert_array_equal(floats[15:], null)
    assert content["columns"] == columns
    assert content["even"] == pytest.approx(1 / 6)
    changed = attention_matrix.pack(
        weights * 0.5, rows, columns, row_title="r", column_title="c", null=null
    )
    assert changed[0] != digest


def test_matrix_compares_with_what_an_even_spread_would_give() -> None:
    matrix = np.full((2, 4), 0.25, np.float32)
    assert attention_matrix.even_weight(matrix, False, 0.0, True) == 0.25
    assert attention_matrix.even_weight(matrix, True, 0.5, True) == pytest.approx(0.1)
    assert attention_matrix.even_weight(matrix * 3, True, 0.0, False) == pytest.approx(0.75)
    assert "adds up to 1" not in attention_matrix.meaning("r", False, True, 0.0)


def test_matrix_refuses_labels_of_another_length() -> None:
    with pytest.raises(ValueError, match=r"weights are \(2, 3\), labels say \(2, 4\)"):
        attention_matrix.pack(
            np.ones((2, 3)), ["a", "b"], list("abcd"), row_title="r", column_title="c"
        )
    with pytest.raises(ValueError, match="not negative"):
        attention_matrix.pack(-np.ones((1, 1)), ["a"], ["b"], row_title="r", column_title="c")


def test_an_unknown_trust_level_is_refused() -> None:
    class Card:
        level = "great"
        sentences = ("It is.",)

    with pytest.raises(ValueError, match="good, mixed, fails, unknown, not 'great'"):
        trust_card.show(Card(), key="a")
