"""The reviewer's report: from arrays, and of trained runs on a cohort."""

import json
from pathlib import Path

import numpy as np
import pytest

from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import CohortError
from analysis.evaluation import evaluate
from analysis.reviewer.attributes import age_bands, attributes_of
from analysis.reviewer.report import reviewer_statistics
from analysis.reviewer.survival import Elsewhere, Prediction, Question, survival_statistics
from analysis.store import ResultStore
from analysis.survival.baseline import breslow, survival_curve
from analysis.survival.comparison import compare
from analysis.survival.data import SurvivalData
from models.checkpoint import load_run
from tests.analysis.classification.toys import train, write_cohort


def simulated(n: int, seed: int = 0) -> tuple[SurvivalData, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    event_time, loss = rng.exponential(700 * np.exp(-z)), rng.exponential(900, n)
    days = np.ceil(np.minimum(event_time, loss) / 5) * 5
    return SurvivalData(days, event_time <= loss), z


@pytest.fixture(scope="module")
def question() -> Question:
    data, _ = simulated(180)
    other, _ = simulated(70, seed=5)
    train, _ = simulated(400, seed=9)
    half = np.arange(180) < 90
    return Question(
        data=data,
        train=train,
        horizon_days=365,
        threshold=0.4,
        attributes={"sex": {"F": half, "M": ~half}},
        elsewhere=Elsewhere("external", other, {n: np.arange(70.0) for n in ("good", "noisy")}),
        n_resamples=80,
    )


def predictions() -> list[Prediction]:
    train, z_train = simulated(400, seed=9)
    _, z = simulated(180)
    noisy = (z + np.random.default_rng(1).normal(size=180)).round(1)
    baseline = breslow(train, z_train)
    return [
        Prediction(name, risk, lambda t, risk=risk: survival_curve(baseline, risk, t))
        for name, risk in (("good", z), ("noisy", noisy))
    ]


def test_one_set_of_resamples_for_everything(question: Question) -> None:
    found = survival_statistics(predictions(), question)
    json.dumps(found, allow_nan=False)
    good, noisy = found["runs"]
    given = {p.name: p.risk for p in predictions()}
    known = compare(question.data, given, 80)
    for row in (good, noisy):
        ci = known.run(row["run"]).c
        assert row["score"] == {"value": ci.value, "low": ci.low, "high": ci.high}
    (pair,) = found["pairs"]
    gap = known.difference("good", "noisy")
    assert pair["score"]["low"] == pytest.approx(gap.difference.low)
    assert pair["score"]["p"] == pytest.approx(gap.p)
    # The two curves' difference is that of the same patients: narrower than either alone.
    width = [b["high"][30] - b["low"][30] for b in (good["net_benefit"], pair["net_benefit"])]
    assert width[1] < width[0]
    assert pair["net_benefit"]["value"][30] == pytest.approx(
        good["net_benefit"]["value"][30] - noisy["net_benefit"]["value"][30], abs=2e-6
    )
    curve = found["treat_all"]
    assert curve["at"][39] == found["threshold"] == 0.4
    for band, at in (
        (curve, found["treat_all_at_threshold"]),
        (good["net_benefit"], good["net_benefit_at_threshold"]),
    ):
        assert band["low"][39] == pytest.approx(at["low"], abs=1e-6)
        assert band["value"][39] == pytest.approx(at["value"], abs=1e-6)
    assert found["reference"]["run"] == "good"
    assert good["auc"]["mean"]["value"] > noisy["auc"]["mean"]["value"]
    assert good["brier"]["ipa"]["low"] > 0
    assert good["elsewhere"]["n"] == 70
    assert [g["attribute"] for g in good["subgroups"]] == ["sex"]


def test_without_probabilities_only_ranks_are_judged(question: Question) -> None:
    bare = [Prediction("good", predictions()[0].risk, lacking="No baseline hazard.")]
    (row,) = survival_statistics(bare, question)["runs"]
    assert row["score"]["value"] > 0.5
    assert row["auc"]["mean"]["value"] > 0.5
    assert row["brier"] is None
    assert row["undefined"] == "No baseline hazard."
    short = predictions()[0]
    ended = Prediction("good", short.risk, short.event_free, until_days=200)
    (row,) = survival_statistics([ended], question)["runs"]
    assert row["brier"]["end_days"] < 200
    assert "end at 200 days" in row["undefined"]
    assert row["calibration"] is None


@pytest.mark.parametrize("event", [0.0, 0.02])
def test_no_or_hardly_any_events_end_in_sentences(event: float, question: Question) -> None:
    data = question.data
    rare = SurvivalData(data.time_days, np.arange(180) < event * 180)
    given = Question(rare, question.train, 365, 0.4, question.attributes, None, 30)
    found = survival_statistics(predictions(), given)
    json.dumps(found, allow_nan=False)
    row = found["runs"][0]
    if not event:
        assert (
            found["undefined"]
            == "None of the 180 patients had the event, so no pair can be compared."
        )
        assert row["auc"]["undefined"] == "None of the 180 patients had the event."
        assert row["calibration"]["undefined"] is not None
        assert row["alerts"]["sensitivity"]["value"] is None
    assert "too few for a score" in row["subgroups"][0]["levels"][0]["undefined"]


def test_wrong_runs_are_refused(question: Question) -> None:
    with pytest.raises(ValueError, match="all different"):
        survival_statistics([predictions()[0]] * 2, question)
    with pytest.raises(ValueError, match="no run 'x'"):
        survival_statistics(predictions(), question, "x")
    with pytest.raises(ValueError, match="risk of run 'bad'"):
        survival_statistics([Prediction("bad", np.ones(3))], question)


# ---------------------------------------------------------------- of trained runs


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("reviewer")
    cohort = write_cohort(home / "cohort", lacking=0.2)
    train(cohort, home / "late", task="incident_hf")
    train(cohort, home / "labs", task="incident_hf", strategy="unimodal", modalities=("labs",))
    train(cohort, home / "hf")
    train(cohort, home / "grade", task="grade")
    return home


def test_survival_runs_agree_with_evaluate_and_are_found_again(home: Path, tmp_path: Path) -> None:
    cohort, store = Cohort.open(home / "cohort"), ResultStore(tmp_path)
    runs = [load_run(home / name) for name in ("late", "labs")]
    found = reviewer_statistics(runs, cohort, "internal", store, 400, n_resamples=40)
    stored = sorted(tmp_path.iterdir())
    assert reviewer_statistics(runs, cohort, "internal", store, 400, n_resamples=40) == found
    assert sorted(tmp_path.iterdir()) == stored
    known = evaluate(runs, cohort, "internal", store, n_resamples=40)
    for mine, theirs in zip(found["runs"], known["runs"], strict=True):
        assert mine["score"] == theirs["c_index"]
        assert mine["calibration"]["observed"]["value"] == found["observed_risk"]["value"]
        assert mine["elsewhere"]["split"] == "external"
    named = {group["attribute"] for group in found["runs"][0]["subgroups"]}
    assert named == {"modality labs", "modality ecg", "modality echo"}
    assert found["censoring"] == {"learned_on": "train and tuning", "n": 240}
    assert found["threshold_rule"].startswith("observed risk by the horizon")


def test_label_runs(home: Path, tmp_path: Path) -> None:
    cohort, store = Cohort.open(home / "cohort"), ResultStore(tmp_path)
    found = reviewer_statistics([load_run(home / "hf")], cohort, "internal", store, n_resamples=40)
    assert found["positive_class"] == "heart failure"
    assert found["runs"][0]["score"]["value"] > 0.5
    grade = load_run(home / "grade")
    with pytest.raises(CohortError, match="one of none, mild, severe"):
        reviewer_statistics([grade], cohort, "internal", store)
    severe = reviewer_statistics(
        [grade], cohort, "internal", store, n_resamples=40, positive="severe"
    )
    labels = cohort.outcomes("grade", cohort.subject_ids("internal", "grade")).label
    assert severe["events"] == (labels == 2).sum()


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["late"], {}, "states no horizon"),
        (["late", "hf"], {"horizon_days": 300}, "different tasks"),
        (["late", "late"], {"horizon_days": 300}, "same name"),
        (["late"], {"horizon_days": -3}, "above 0"),
        (["late"], {"horizon_days": 300, "threshold": 1.5}, "above 0 and below 1"),
        (["late"], {"horizon_days": 9999}, "ends before 9999 days"),
        (["late"], {"horizon_days": 300, "reference": "x"}, "there is no run 'x'"),
        ([], {}, "no run to evaluate"),
    ],
)
def test_bad_questions_end_in_a_sentence(home, tmp_path, names, options, message) -> None:
    runs = [load_run(home / name) for name in names]
    with pytest.raises(CohortError, match=message):
        reviewer_statistics(
            runs, Cohort.open(home / "cohort"), "internal", ResultStore(tmp_path), **options
        )


def test_levels_hold_everybody_once(home: Path) -> None:
    cohort = Cohort.open(home / "cohort")
    ids = cohort.subject_ids("internal")
    there = np.arange(len(ids)) % 3 == 0
    cohort.subjects.loc[ids[:50], ["sex", "age_years"]] = ["F", 44.0]
    cohort.subjects.loc[ids[50:], ["sex", "age_years"]] = ["M", 80.0]
    found = attributes_of(cohort, ids, {"labs": there, "ecg": np.ones(len(ids), bool)})
    assert set(found) == {"sex", "age", "modality labs"}
    assert {k: int(v.sum()) for k, v in found["age"].items()} == {
        "under 50": 50,
        "80 or older": len(ids) - 50,
    }
    assert found["modality labs"]["without Labs"].sum() == (~there).sum()
    for levels in found.values():
        np.testing.assert_array_equal(np.sum(list(levels.values()), axis=0), 1)
    bands = age_bands(np.array([49.9, 50, 64.99, 65, 79, 80, np.nan]))
    assert [int(v.sum()) for v in bands.values()] == [1, 2, 2, 1, 1]
