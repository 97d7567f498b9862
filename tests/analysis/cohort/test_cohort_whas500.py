"""WHAS500 as a cohort, against scikit-survival's own table and lifelines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from sksurv.datasets import load_whas500
from typer.testing import CliRunner

from analysis.cohort.check import check_cohort
from analysis.cohort.cohort import Cohort
from analysis.cohort.importers.whas500 import TABLES, import_whas500
from analysis.cohort.schema import CohortError
from analysis.evaluation import evaluate
from analysis.experiment import Plan, train_run
from analysis.external_import import import_predictions
from analysis.store import ResultStore
from app.cli import cli
from models.training import TrainingSettings


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return import_whas500(tmp_path_factory.mktemp("whas") / "whas500")


def test_every_value_is_the_published_one(cohort: Cohort) -> None:
    table, outcome = load_whas500()
    for name, columns in TABLES.items():
        stored = cohort.table(name)
        assert stored.subject_ids.tolist() == list(range(1, 501))
        frame = pd.read_parquet(cohort.path(name))
        for column in columns:
            np.testing.assert_array_equal(frame[column], table[column].astype(float))
    found = cohort.outcomes("death", cohort.subject_ids())
    np.testing.assert_array_equal(found.time_days, outcome["lenfol"])
    np.testing.assert_array_equal(found.event, outcome["fstat"])
    assert not check_cohort(cohort.folder)


def test_nothing_known_later_than_the_stay_is_a_predictor(cohort: Cohort) -> None:
    columns = [c for spec in cohort.spec.modalities.values() for c in spec.columns]
    known = {"age", "gender", "bmi", "cvd", "miord", "hr", "sysbp", "diasbp"}
    assert set(columns) == known | {"mitype", "afb", "av3", "sho", "chf"}
    assert "los" not in columns
    assert "Length of stay is left out" in cohort.spec.description


def test_splits_hold_the_same_share_of_deaths_and_follow_the_seed(
    cohort: Cohort, tmp_path: Path
) -> None:
    assert cohort.subjects["split"].value_counts().to_dict() == {
        "train": 320, "internal": 100, "tuning": 80,
    }  # fmt: skip
    for split in ("train", "tuning", "internal"):
        share = cohort.outcomes("death", cohort.subject_ids(split)).event.mean()
        assert share == pytest.approx(0.43, abs=0.01)
    twin = import_whas500(tmp_path / "twin")
    assert twin.fingerprint == cohort.fingerprint
    other = import_whas500(tmp_path / "other", seed=1)
    assert (other.subjects["split"] != cohort.subjects["split"]).any()
    assert cohort.folds is not None
    assert cohort.folds.value_counts().tolist() == [50] * 10


def test_a_cox_model_of_the_tables_ranks_as_published(cohort: Cohort) -> None:
    """All 13 predictors on all 500 patients: C about 0.78 (age alone about 0.73)."""
    frame = pd.concat(
        [pd.read_parquet(cohort.path(n)).set_index("subject_id") for n in TABLES], axis=1
    )
    found = cohort.outcomes("death", frame.index)
    model = CoxPHFitter().fit(frame.assign(t=found.time_days, e=found.event), "t", "e")
    assert 0.76 < model.concordance_index_ < 0.80
    assert model.params_["age"] == pytest.approx(0.05, abs=0.01)


def test_command_and_a_folder_that_is_there(tmp_path: Path) -> None:
    out = tmp_path / "cohort"
    assert CliRunner().invoke(cli, ["import", "whas500", str(out)]).exit_code == 0
    again = CliRunner().invoke(cli, ["import", "whas500", str(out)])
    assert again.exit_code == 2
    assert "already exists" in again.output
    with pytest.raises(CohortError, match="choose 2 to 215"):
        import_whas500(tmp_path / "folds", folds=300)
    assert not (tmp_path / "folds").exists()


@pytest.mark.slow
def test_late_fusion_is_near_a_cox_model_of_the_same_patients(
    cohort: Cohort, tmp_path: Path
) -> None:
    ids = np.concatenate([cohort.subject_ids(s, "death") for s in ("train", "tuning")])
    frame = pd.concat(
        [pd.read_parquet(cohort.path(n)).set_index("subject_id") for n in TABLES], axis=1
    )
    found = cohort.outcomes("death", frame.index)
    known = frame.assign(t=found.time_days, e=found.event).loc[ids]
    model = CoxPHFitter(penalizer=0.1).fit(known, "t", "e")
    scores = tmp_path / "cox.csv"
    risk = model.predict_log_partial_hazard(frame).to_numpy()
    pd.DataFrame({"subject_id": frame.index, "risk": risk}).to_csv(scores, index=False)
    cox = import_predictions(scores, cohort.folder, "death", "cox", tmp_path / "cox")
    plan = Plan(
        cohort=cohort.folder,
        task="death",
        strategy="late",
        out=tmp_path / "late",
        encoder_store=tmp_path / "encoders",
        settings=TrainingSettings(max_epochs=20),
    )
    late = train_run(plan, accelerator="cpu")
    answer = evaluate([late, cox], cohort, "internal", ResultStore(tmp_path / "results"))
    first, second = (row["c_index"]["value"] for row in answer["runs"])
    assert second > 0.7
    assert first == pytest.approx(second, abs=0.04)
