"""One additive explanation of the very number that is shown, and the same as plain JSON."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import explain as module
from analysis.attribution.case import Case, open_case
from analysis.attribution.modalities import modality_ledger
from analysis.attribution.target import ClassLogit, LogRisk, Survival
from analysis.baseline_file import read_baseline
from analysis.cohort.cohort import Cohort
from analysis.explain import (
    TRUST_FILE,
    Explained,
    curve_days,
    explain,
    explanation_json,
    find_trust,
    ledger_json,
    output_of,
    over_time,
    recommended_map,
)
from analysis.outlook import outlook
from analysis.predict import predict_stored
from analysis.store import ResultStore
from analysis.survival.baseline import BaselineHazard
from models.checkpoint import Run, load_run

BOTH, NO_CT, NO_EHR = 10001, 10043, 10087
BASE = BaselineHazard(np.array([10.0, 200.0, 365.0]), np.array([0.1, 0.4, 0.9]), 0.5)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ResultStore:
    return ResultStore(tmp_path_factory.mktemp("explain") / "results")


@pytest.fixture(scope="module")
def pe(tiny_workspace: Path) -> Cohort:
    return Cohort.open(tiny_workspace / "cohorts" / "pe")


@pytest.fixture(scope="module")
def late(tiny_workspace: Path) -> Run:
    return load_run(tiny_workspace / "runs" / "pe-late-onehot")


@pytest.fixture(scope="module")
def cross(tiny_workspace: Path) -> Run:
    return load_run(tiny_workspace / "runs" / "pe-cross-attention-onehot")


def told(case: Case, target: Any, found: Explained, store: ResultStore, **more: Any) -> dict:
    """The JSON, through text and back: what is not plain JSON does not get here."""
    risks = predict_stored(case.run, case.cohort, "train", store).risk
    shown = outlook(case, read_baseline(case.run.folder), risks)
    answer = explanation_json(case, target, found, shown, **more)
    return json.loads(json.dumps(answer, allow_nan=False))


@pytest.fixture(scope="module")
def explained(late: Run, cross: Run, pe: Cohort, store: ResultStore) -> Mapping[str, Any]:
    """{run: (case, results, JSON)} of a patient who has everything, for the log-risk."""
    made = {}
    for name, run in (("late", late), ("cross", cross)):
        case = open_case(run, pe, BOTH)
        found = explain(case, LogRisk(), store)
        made[name] = (case, found, told(case, LogRisk(), found, store))
    return made


# ---------------------------------------------------------------- one additive ledger


@pytest.mark.parametrize("name", ["late", "cross"])
def test_reference_and_shares_add_up_to_the_shown_number(explained, name):
    case, _, answer = explained[name]
    value = float(case.prediction[0, 0])
    assert answer["explained"]["value"] == answer["prediction"]["log_risk"] == value
    ledger = answer["ledger"]
    assert ledger["prediction"] == pytest.approx(value, abs=1e-6)
    total = ledger["reference"] + sum(ledger["shares"].values())
    assert total == pytest.approx(value, abs=1e-5)
    assert abs(total - value) == pytest.approx(ledger["gap"], abs=1e-6)
    assert all(abs(share) > 1e-3 for share in ledger["shares"].values())


@pytest.mark.parametrize("name", ["late", "cross"])
def test_the_ledgers_share_opens_into_the_shares_of_its_events(explained, name):
    _, _, answer = explained[name]
    (part,) = answer["parts"]
    assert part["contexts"] == "ledger"
    share = answer["ledger"]["shares"]["ehr"]
    assert sum(row["share"] for row in part["parts"]) == pytest.approx(share, abs=1e-4)
    assert part["sum_of_shares"] == pytest.approx(part["whole"] - part["reference"], abs=1e-4)
    assert part["gap"] <= 1e-4
    assert part["n_parts"] == len(part["parts"]) == 87
    shares = [abs(row["share"]) for row in part["parts"]]
    assert shares == sorted(shares, reverse=True)


def test_shares_given_the_others_add_up_to_what_the_modality_adds(cross, pe, store):
    case = open_case(cross, pe, BOTH)
    found = explain(case, LogRisk(), store, contexts="given")
    (part,) = told(case, LogRisk(), found, store)["parts"]
    without = float(modality_ledger(case, LogRisk()).without("ehr")[0])
    assert part["whole"] == pytest.approx(case.value(LogRisk())[0], abs=1e-5)
    assert part["reference"] == pytest.approx(without, abs=1e-5)
    assert part["sum_of_shares"] == pytest.approx(part["whole"] - without, abs=1e-4)


def test_survival_at_a_horizon_is_the_curves_day(late, pe, store):
    """The curve is explained for the slider's sake; the day that is told is the horizon's."""
    case = open_case(late, pe, BOTH)
    target = Survival(read_baseline(late.folder), (200.0,))
    found = explain(case, target, store)
    answer = told(case, target, found, store)
    (part,) = answer["parts"]
    assert found.attributions[0].values.shape[1] > 1
    ledger = modality_ledger(case, target)
    assert part["sum_of_shares"] == pytest.approx(float(ledger.share("ehr")[0]), abs=1e-4)
    assert answer["explained"]["days"] == [200.0]
    assert answer["explained"]["value"] == pytest.approx(case.value(target)[0])
    assert answer["explained"]["worse_is_higher"] is False


def test_survival_at_day_zero_is_not_another_day(late, pe, store):
    """S(0) = 1 whatever the record: shares of 0, or a refusal in one sentence."""
    case = open_case(late, pe, BOTH)
    try:
        target = Survival(read_baseline(late.folder), (0.0,))
        found = explain(case, target, store)
    except ValueError as refused:
        assert "0" in str(refused)  # noqa: PT017
        return
    (part,) = told(case, target, found, store)["parts"]
    assert part["whole"] == pytest.approx(1.0)
    assert part["sum_of_shares"] == pytest.approx(0.0, abs=1e-6)


# ---------------------------------------------------------------- what is not there


@pytest.mark.parametrize(("subject", "absent"), [(NO_CT, "ct"), (NO_EHR, "ehr")])
def test_an_absent_modality_has_no_share_rather_than_zero(late, pe, store, subject, absent):
    case = open_case(late, pe, subject)
    found = explain(case, LogRisk(), store)
    answer = told(case, LogRisk(), found, store)
    present = "ehr" if absent == "ct" else "ct"
    assert (answer["present"], answer["absent"]) == ([present], [absent])
    assert answer["ledger"]["shares"][absent] is None
    assert answer["ledger"]["shares"][present] is not None
    assert answer["ledger"]["interactions"] == {}
    assert [m["modality"] for m in answer["maps"]] == (["ct"] if absent == "ehr" else [])
    assert [p["modality"] for p in answer["parts"]] == (["ehr"] if absent == "ct" else [])
    assert answer["notes"] == []


def test_attention_is_left_out_when_there_is_nobody_to_look_at(cross, pe, store):
    case = open_case(cross, pe, NO_CT)
    assert told(case, LogRisk(), explain(case, LogRisk(), store), store)["attention"] == []


def test_a_scan_kept_only_as_features_is_noted_and_the_rest_is_told(
    late, pe, store, tmp_path, explained
):
    copy = tmp_path / "slim"
    shutil.copytree(pe.folder, copy, ignore=shutil.ignore_patterns("ct", "truth"))
    shutil.copytree(pe.folder / "features" / "ct", copy / "features" / "ct")
    imaging = pd.read_parquet(copy / "imaging.parquet")
    imaging[imaging["subject_id"] != BOTH].to_parquet(copy / "imaging.parquet")
    case = open_case(late, Cohort.open(copy), BOTH)
    assert case.present == ("ct", "ehr")
    answer = told(case, LogRisk(), explain(case, LogRisk(), store), store)
    assert answer["maps"] == []
    (note,) = answer["notes"]
    assert f"patient {BOTH}: only the features of 'ct' were kept" in note
    whole = explained["late"][2]
    assert answer["ledger"] == whole["ledger"]
    assert answer["parts"][0]["parts"] == whole["parts"][0]["parts"]


# ---------------------------------------------------------------- as plain JSON


def test_the_json_says_what_was_explained_where_and_how(explained, pe, late):
    _, found, answer = explained["late"]
    assert answer["run"] == "pe-late-onehot"
    assert answer["run_hash"] == late.hash
    assert answer["patient"] == BOTH
    assert answer["notice"] == "Research use only. Not for clinical decisions."
    (made,) = answer["maps"]
    values = found.maps[0].values
    assert made["grid"] == list(values.shape)
    assert made["largest"] == pytest.approx(float(np.abs(values).max()))
    assert made["peak_mm"] == pytest.approx(list(found.maps[0].peak_mm))
    x, y, z = (round(mm) for mm in made["peak_mm"])
    assert f"(x {x}, y {y}, z {z} mm, slice" in made["place"]
    assert answer["attention"] == []
    (attention,) = explained["cross"][2]["attention"]
    assert (attention["query"], attention["key"]) == ("ehr", "ct")
    weights = explained["cross"][1].attention[0].weights
    assert attention["strongest"][0]["weight"] == pytest.approx(float(weights.max()))
    assert len(attention["strongest"]) == 20


def test_missing_cells_are_null_and_dates_are_iso(explained):
    rows = explained["late"][2]["parts"][0]["parts"]
    assert any(row["value"] is None for row in rows)
    assert all(row["value"] is None or np.isfinite(row["value"]) for row in rows)
    assert all(pd.Timestamp(row["time"]) < pd.Timestamp("2175") for row in rows if row["time"])
    assert isinstance(rows[0]["event"], int)
    assert all(row["spread"] >= 0 for row in rows)


def test_top_shortens_the_lists_and_changes_no_sum(explained, store):
    case, found, whole = explained["cross"]
    short = told(case, LogRisk(), found, store, top=3)
    assert short["parts"][0]["parts"] == whole["parts"][0]["parts"][:3]
    assert short["parts"][0]["n_parts"] == 87
    assert short["parts"][0]["sum_of_shares"] == whole["parts"][0]["sum_of_shares"]
    assert len(short["attention"][0]["strongest"]) == 3


def test_a_ledger_of_several_numbers_is_told_one_at_a_time(late, pe):
    case = open_case(late, pe, BOTH)
    target = Survival(read_baseline(late.folder), (30.0, 365.0))
    ledger = modality_ledger(case, target)
    for output in (0, 1):
        answer = ledger_json(ledger, output)
        assert answer["prediction"] == pytest.approx(case.value(target)[output])
        total = answer["reference"] + sum(answer["shares"].values())
        assert total == pytest.approx(answer["prediction"], abs=1e-6)


def test_the_page_and_the_command_share_the_store(explained, late, pe, store, monkeypatch):
    """Asked again, nothing is computed and the JSON is the same to the last digit."""

    def computed(*_: Any, **__: Any) -> None:
        raise AssertionError("computed again")

    from analysis.attribution import stored

    monkeypatch.setattr(stored, "explain_modality", computed)
    monkeypatch.setattr(stored, "volume_map", computed)
    case = open_case(late, pe, BOTH)
    answer = told(case, LogRisk(), explain(case, LogRisk(), store), store)
    assert answer == explained["late"][2]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "method of maps": ({"volume_choice": ("nonsense", None)}, "no volume method 'nonsense'"),
    "layer": ({"volume_choice": ("hirescam", "nolayer")}, "no layer 'nolayer'"),
    "method of shares": ({"part_method": "nonsense"}, "no method 'nonsense'"),
    "contexts": ({"contexts": "nonsense"}, "not 'nonsense'"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_question_is_refused_rather_than_noted(late, pe, store, wrong):
    """Notes are for what this patient lacks; a method that does not exist is nobody's."""
    options, message = WRONG[wrong]
    case = open_case(late, pe, BOTH)
    with pytest.raises(ValueError, match=message):
        explain(case, LogRisk(), store, **options)


# ---------------------------------------------------------------- small pieces


@pytest.mark.parametrize(
    ("end", "horizon"), [(365.0, 365.0), (365.0, 30.0), (364.7, 90.5), (5.0, 2.0), (1.0, 1.0)]
)
def test_curve_days_are_whole_distinct_within_and_hold_the_horizon(end, horizon):
    days = curve_days(end, horizon)
    assert list(days) == sorted(set(days))
    assert horizon in days
    assert all(0 < day <= end for day in days)
    assert all(day == horizon or day == int(day) for day in days)
    assert len(days) <= 17
    if end > 100:
        assert len(days) >= 8
        assert days[-1] == pytest.approx(end, abs=1)


def test_over_time_keeps_everything_but_one_horizon():
    assert over_time(LogRisk()).parameters == {"target": "log_risk"}
    several = Survival(BASE, (10.0, 20.0))
    assert over_time(several) is several
    logit = ClassLogit(1, "yes")
    assert over_time(logit) is logit
    curve = over_time(Survival(BASE, (90.0,)))
    assert isinstance(curve, Survival)
    assert 90.0 in curve.days
    assert max(curve.days) == 365.0


def test_output_of_finds_the_targets_own_day(explained, late, pe, store):
    _, found, _ = explained["late"]
    assert output_of(found.attributions[0], LogRisk()) == 0
    case = open_case(late, pe, BOTH)
    target = Survival(read_baseline(late.folder), (200.0,))
    (made,) = explain(case, target, store).attributions
    at = output_of(made, target)
    assert made.target["days"][at] == 200.0
    assert 0 < at < made.values.shape[1] - 1
    assert float(made.values[:, at].sum()) != pytest.approx(float(made.values[:, 0].sum()))


# ---------------------------------------------------------------- whose trust report


def report(run: Run, cohort: str = "x", **more: Any) -> dict[str, Any]:
    return {"run_hash": run.hash, "cohort": cohort, **more}


@pytest.fixture
def copy_of_run(late: Run, tmp_path: Path) -> Run:
    shutil.copytree(late.folder, tmp_path / "run")
    return load_run(tmp_path / "run", [late.folder.parents[1] / "encoders"])


def test_without_a_stored_report_the_one_that_came_with_the_run(copy_of_run, pe, store):
    (copy_of_run.folder / TRUST_FILE).unlink(missing_ok=True)
    assert find_trust(copy_of_run, [pe, None], store) is None
    path = copy_of_run.folder / TRUST_FILE
    path.write_text(json.dumps(report(copy_of_run)), encoding="utf-8")
    assert find_trust(copy_of_run, [pe, None], store) == report(copy_of_run)
    assert find_trust(copy_of_run, [], store) == report(copy_of_run)


@pytest.mark.parametrize(
    "content", ['{"run_hash": "0000000000000000"}', "{ not JSON", "[]", '{"no": 1}', "7"]
)
def test_a_report_of_other_weights_or_none_is_refused(copy_of_run, pe, store, content):
    (copy_of_run.folder / TRUST_FILE).write_text(content, encoding="utf-8")
    assert find_trust(copy_of_run, [pe], store) is None


def test_the_first_cohort_that_was_measured_counts(copy_of_run, pe, tiny_workspace, monkeypatch):
    cvd = Cohort.open(tiny_workspace / "cohorts" / "cvd")
    came = copy_of_run.folder / TRUST_FILE
    came.write_text(json.dumps(report(copy_of_run, "came")), encoding="utf-8")
    measured = {cvd.fingerprint: report(copy_of_run, "cvd")}
    monkeypatch.setattr(module, "stored_trust", lambda run, c, store: measured.get(c.fingerprint))
    assert find_trust(copy_of_run, [pe, cvd], ResultStore(Path()))["cohort"] == "cvd"
    assert find_trust(copy_of_run, [None, pe], ResultStore(Path()))["cohort"] == "came"
    measured[pe.fingerprint] = report(copy_of_run, "pe")
    assert find_trust(copy_of_run, [pe, cvd], ResultStore(Path()))["cohort"] == "pe"


def test_without_a_report_the_stated_map_is_shown(late, pe, store):
    case = open_case(late, pe, BOTH)
    assert recommended_map(case, "ct", None) == (module.FALLBACK_METHOD, module.FALLBACK_LAYER)
    found = explain(case, LogRisk(), store)
    assert (found.maps[0].method, found.maps[0].layer) == ("hirescam", "fine")
    other = explain(case, LogRisk(), store, volume_choice=("gradcam", "lesions"))
    assert (other.maps[0].method, other.maps[0].layer) == ("gradcam", "lesions")
