"""Predictions made elsewhere: what is taken in, what is refused, and what they are worth."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from lifelines.utils import concordance_index
from sklearn.metrics import roc_auc_score
from sksurv.metrics import brier_score
from sksurv.util import Surv

from analysis.classification.evaluation import evaluate_labels
from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import CohortError, read_spec, write_spec
from analysis.cohort.write import write_outcomes
from analysis.evaluation import evaluate, risk_groups
from analysis.external import ExternalRun, hash_of, load_external, open_run
from analysis.external_import import import_predictions
from analysis.predict import predict_stored
from analysis.store import ResultStore
from models.checkpoint import RunError, load_run
from tests.app.toy import write_cohort

Importer = Callable[..., ExternalRun]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy cohort 'pe' (430 patients), and a class task of who died within a year."""
    folder = write_cohort(tmp_path_factory.mktemp("external") / "pe", "pe", seed=0)
    outcomes = pd.read_parquet(folder / "outcomes.parquet")
    label = (outcomes["event"].astype(bool) & (outcomes["time_days"] <= 365)).astype(int)
    labels = pd.DataFrame({"subject_id": outcomes["subject_id"], "task": "early", "label": label})
    stages = labels.assign(task="stage", label=outcomes["subject_id"].to_numpy() % 3)
    write_outcomes(folder, pd.concat([outcomes, labels, stages]))
    spec = read_spec(folder)
    early = spec.tasks["mortality"].model_copy(
        update={"kind": "classification", "classes": ("alive", "dead"), "horizon_days": None}
    )
    stage = early.model_copy(update={"classes": ("one", "two", "three")})
    tasks = {**spec.tasks, "early": early, "stage": stage}
    write_spec(spec.model_copy(update={"tasks": tasks}), folder)
    return folder


@pytest.fixture
def cohort(folder: Path) -> Cohort:
    return Cohort.open(folder)


@pytest.fixture
def score(cohort: Cohort) -> pd.DataFrame:
    """A score of 0 to 100 that goes with the hazard: clot burden, noisy where it is missing."""
    rng = np.random.default_rng(3)
    table = pd.read_parquet(cohort.folder / "tables" / "imaging.parquet").set_index("subject_id")
    clot = table["clot_burden"].reindex(cohort.subjects.index).fillna(10)
    noisy = clot + rng.normal(0, 1, len(clot))
    return pd.DataFrame(
        {"subject_id": noisy.index, "risk": np.clip(50 + 6 * (noisy - 10), 0, 100).round()}
    )


@pytest.fixture
def imported(folder: Path, tmp_path: Path) -> Importer:
    """Writes a table and imports it as a run."""

    def run(
        table: pd.DataFrame, task: str = "mortality", name: str = "pesi", **more
    ) -> ExternalRun:
        file = tmp_path / "scores.csv"
        table.to_csv(file, index=False)
        return import_predictions(file, folder, task, name, tmp_path / "runs" / name, **more)

    return run


def test_a_score_is_ranked_as_lifelines_ranks_it(
    imported: Importer, cohort: Cohort, score: pd.DataFrame, tmp_path: Path
) -> None:
    run = imported(score, title="PESI")
    answer = evaluate([run], cohort, "internal", ResultStore(tmp_path / "results"), n_resamples=20)
    ids = cohort.subject_ids("internal", "mortality")
    found = cohort.outcomes("mortality", ids)
    risk = score.set_index("subject_id").loc[ids, "risk"]
    expected = concordance_index(found.time_days, -risk, found.event)
    (row,) = answer["runs"]
    assert row["c_index"]["value"] == pytest.approx(expected, abs=1e-12)
    assert expected > 0.6, "the score of this fixture tells patients apart"
    assert (row["title"], row["strategy"]) == ("PESI", "external_predictions")
    assert row["absent"] == {}
    assert row["n"] == len(ids)
    assert "left_out" not in answer


def test_slope_and_baseline_are_those_of_a_cox_model_of_the_learning_patients(
    imported: Importer, cohort: Cohort, score: pd.DataFrame, tmp_path: Path
) -> None:
    run = imported(score)
    ids = np.concatenate([cohort.subject_ids(s, "mortality") for s in ("train", "tuning")])
    found = cohort.outcomes("mortality", ids)
    frame = pd.DataFrame({"t": found.time_days, "e": found.event})
    frame["risk"] = score.set_index("subject_id").loc[ids, "risk"].to_numpy()
    cox = CoxPHFitter(baseline_estimation_method="breslow").fit(frame, "t", "e")
    made = run.config.predictions.calibration
    assert made is not None
    # lifelines handles ties by Efron, which differs in the third digit
    assert made.slope == pytest.approx(cox.params_["risk"], rel=0.02)
    assert (made.n, made.events) == (len(ids), int(found.event.sum()))
    assert made.learned_on == ("train", "tuning")
    answer = evaluate([run], cohort, "internal", ResultStore(tmp_path / "results"), n_resamples=20)
    brier = answer["runs"][0]["integrated_brier"]
    assert brier["value"] < brier["reference"], "better than a curve that knows no patient"
    assert "were learned on 220 training and tuning patients" in brier["note"]


def test_a_probability_is_judged_as_stated(
    imported: Importer, cohort: Cohort, score: pd.DataFrame, tmp_path: Path
) -> None:
    p = 1 / (1 + np.exp(-(score["risk"] - 50) / 15))
    table = pd.DataFrame({"subject_id": score["subject_id"], "probability": p})
    run = imported(table, horizon_days=365.0)
    store = ResultStore(tmp_path / "results")
    row = evaluate([run], cohort, "internal", store, n_resamples=20)["runs"][0]
    ids = cohort.subject_ids("internal", "mortality")
    learned = np.concatenate([cohort.subject_ids(s, "mortality") for s in ("train", "tuning")])
    train, test = (cohort.outcomes("mortality", i) for i in (learned, ids))
    inside = test.time_days < train.time_days.max()
    stated = 1 - p.to_numpy()[ids - 1]
    if inside.all():
        _, expected = brier_score(
            Surv.from_arrays(train.event, train.time_days),
            Surv.from_arrays(test.event, test.time_days),
            stated[:, None],
            [365.0],
        )
        assert row["brier_at_horizon"]["value"] == pytest.approx(expected[0], abs=1e-9)
    assert row["brier_at_horizon"]["days"] == 365
    survival = pd.DataFrame({"subject_id": score["subject_id"], "survival": 1 - p})
    twin = imported(survival, name="twin", horizon_days=365.0)
    np.testing.assert_allclose(twin.frame["value"], run.frame["value"], atol=1e-9)
    assert run.frame["value"].iloc[0] == pytest.approx(np.log(-np.log(1 - p.iloc[0])))


def test_certain_probabilities_are_kept_finite(imported: Importer, score: pd.DataFrame) -> None:
    p = pd.Series(0.3, index=score.index)
    p.iloc[:2] = 0.0, 1.0
    run = imported(pd.DataFrame({"subject_id": score["subject_id"], "probability": p}))
    value = run.frame["value"]
    assert value.loc[1] < value.loc[3] < value.loc[2]
    assert np.isfinite(value).all()
    assert run.event_probability([1, 2]).tolist() == [0.0, 1.0]
    assert run.config.predictions.horizon_days == 1000, "the task's where none is said"


def test_patients_without_a_prediction_leave_every_comparison(
    imported: Importer, cohort: Cohort, score: pd.DataFrame, tmp_path: Path
) -> None:
    internal = cohort.subject_ids("internal", "mortality")
    gone = set(internal[:25].tolist()) | set(cohort.subject_ids("train", "mortality")[:10].tolist())
    said: list[str] = []
    part = imported(score[~score["subject_id"].isin(gone)], name="part", note=said.append)
    whole = imported(score.assign(risk=score["risk"] ** 2), name="whole")
    assert part.config.predictions.without == {
        "train": 10, "tuning": 0, "internal": 25, "external": 0
    }  # fmt: skip
    assert "10 of 160 train, 25 of 120 internal" in said[0]
    store = ResultStore(tmp_path / "results")
    answer = evaluate([part, whole], cohort, "internal", store, n_resamples=20)
    assert answer["left_out"] == {"n": 25, "of": 120, "runs": {"part": 25}}
    assert {row["n"] for row in answer["runs"]} == {95}
    kept = np.setdiff1d(internal, sorted(gone))
    found = cohort.outcomes("mortality", kept)
    risk = score.set_index("subject_id").loc[kept, "risk"]
    expected = concordance_index(found.time_days, -risk, found.event)
    assert [r["c_index"]["value"] for r in answer["runs"]] == pytest.approx([expected] * 2)
    assert evaluate([whole], cohort, "internal", store, n_resamples=20)["n"] == 120
    groups = risk_groups(part, cohort, "internal", store)
    assert sum(g.n for g in groups.groups) == 95
    assert groups.cutoffs.n == 210


def test_nobody_of_a_split_is_said(
    imported: Importer, cohort: Cohort, score: pd.DataFrame, tmp_path: Path
) -> None:
    test_only = score[score["subject_id"].isin(cohort.subject_ids("internal"))]
    run = imported(test_only)
    store = ResultStore(tmp_path / "results")
    with pytest.raises(CohortError, match="no prediction for any of the 90 patients"):
        predict_stored(run, cohort, "external", store)
    with pytest.raises(CohortError, match="predicts nobody of the training and tuning"):
        risk_groups(run, cohort, "internal", store)
    row = evaluate([run], cohort, "internal", store, n_resamples=20)["runs"][0]
    assert row["c_index"]["value"] > 0.6
    assert row["uno_c"]["value"] > 0.5, "weights come from the outcomes, whoever predicts them"
    assert row["integrated_brier"]["value"] is None
    assert "only the ranking of patients can be judged" in row["integrated_brier"]["note"]


def test_class_probabilities_come_back_as_they_were(
    imported: Importer, cohort: Cohort, score: pd.DataFrame, tmp_path: Path
) -> None:
    p = (score["risk"] / 100).clip(0, 1)
    table = pd.DataFrame({"subject_id": score["subject_id"], "probability": p})
    run = imported(table, task="early", name="early")
    store = ResultStore(tmp_path / "results")
    row = evaluate_labels([run], cohort, "internal", store, n_resamples=20)["runs"][0]
    ids = cohort.subject_ids("internal", "early")
    label = cohort.outcomes("early", ids).label
    expected = roc_auc_score(label, p.to_numpy()[ids - 1])
    assert row["auc"]["value"] == pytest.approx(expected, abs=1e-12)
    assert row["brier"]["value"] == pytest.approx(
        float(np.mean((p.to_numpy()[ids - 1] - label) ** 2)), abs=1e-9
    )
    with pytest.raises(CohortError, match="needs probabilities, not a risk"):
        imported(score, task="early", name="other")


def test_three_classes(imported: Importer, score: pd.DataFrame) -> None:
    table = pd.DataFrame({"subject_id": [1, 2], "one": [0.2, 0.0], "two": [0.3, 1.0]})
    run = imported(table.assign(three=[0.5, 0.0]), task="stage", name="stage")
    values = np.exp(run.frame.to_numpy())
    np.testing.assert_allclose(
        values / values.sum(1, keepdims=True), [[0.2, 0.3, 0.5], [0, 1, 0]], atol=1e-9
    )
    with pytest.raises(CohortError, match=r"of subject_id 1 sum to 0.9 \(1 such rows\)"):
        imported(table.assign(three=[0.4, 0.0]), task="stage", name="sum")


def test_a_scale_upside_down_is_said(imported: Importer, score: pd.DataFrame) -> None:
    said: list[str] = []
    run = imported(score.assign(risk=-score["risk"]), note=said.append)
    assert said[0].startswith("The scale looks upside down: concordance 0.3")
    assert run.config.predictions.warnings == (said[0],)
    assert run.config.predictions.calibration is None
    assert "higher values go with later events" in said[1]


@pytest.mark.parametrize(
    ("change", "more", "sentence"),
    [
        (lambda t: t.assign(subject_id=t["subject_id"] + 400), {}, r"431 \(400 of 430 rows\) is n"),
        (lambda t: pd.concat([t, t.tail(2)]), {}, r"subject_id 429 has two rows \(2 such rows\)"),
        (
            lambda t: t.assign(risk=t["risk"].where(t["subject_id"] != 7)),
            {},
            "number for subject_id 7",
        ),
        (lambda t: t.assign(risk=t["risk"].replace(t["risk"].max(), np.inf)), {}, "no finite num"),
        (lambda t: t.assign(risk="high"), {}, "no finite number for subject_id 1"),
        (lambda t: t.rename(columns={"risk": "probability"}), {}, "outside 0 to 1"),
        (lambda t: t.rename(columns={"risk": "score"}), {}, "needs one column named risk"),
        (lambda t: t.assign(survival=0.5), {}, "has risk and survival"),
        (lambda t: t, {"kind": "survival"}, "column 'survival' is missing"),
        (lambda t: t.assign(probability=0.5), {"horizon_days": -1.0}, "days above 0"),
        (lambda t: t.head(0), {}, "subject_id"),
        (lambda t: t, {"name": "a b"}, "name 'a b' cannot be used"),
    ],
)
def test_refused_in_a_sentence(
    imported: Importer, score: pd.DataFrame, tmp_path: Path, change, more: dict, sentence: str
) -> None:
    with pytest.raises(CohortError, match=sentence) as error:
        imported(change(score), **more)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists(), "nothing is half-written"


def test_a_run_is_not_overwritten_and_other_cohorts_are_refused(
    imported: Importer, score: pd.DataFrame, tmp_path: Path
) -> None:
    run = imported(score)
    before = run.hash
    with pytest.raises(CohortError, match="already exists"):
        imported(score.assign(risk=1.0 + score["risk"]))
    assert load_external(run.folder).hash == before
    other = Cohort.open(write_cohort(tmp_path / "elsewhere", "pe", seed=9))
    with pytest.raises(CohortError, match="another version of cohort 'pe'; import them again"):
        evaluate([run], other, "internal", ResultStore(tmp_path / "results"))


def test_provenance_hash_and_what_has_no_model(
    imported: Importer, cohort: Cohort, score: pd.DataFrame, tmp_path: Path
) -> None:
    run = imported(score)
    entry = run.config.predictions
    text = (tmp_path / "scores.csv").read_bytes()
    assert entry.source == "scores.csv"
    assert entry.source_sha256 == hashlib.sha256(text).hexdigest()
    assert run.config.cohort.fingerprint == cohort.fingerprint
    assert hash_of(run.folder) == run.hash == open_run(run.folder).hash
    with pytest.raises(RunError, match="no model; evaluate and compare it"):
        load_run(run.folder)
    config = json.loads((run.folder / "config.json").read_text())
    (run.folder / "config.json").write_text(json.dumps({**config, "title": "Other"}))
    assert hash_of(run.folder) != run.hash
    (run.folder / "predictions.parquet").write_bytes(b"no table")
    with pytest.raises(RunError, match="import the predictions again"):
        open_run(run.folder)
