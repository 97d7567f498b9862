from __future__ import annotations

import fcntl
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from scipy.stats import ttest_rel
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

from analysis.benchmark import folds as folds_module
from analysis.benchmark import rows as rows_module
from analysis.benchmark import suite
from analysis.benchmark.folds import FoldJob, patients, run_fold
from analysis.benchmark.rows import ROWS, SURVIVAL_TASK, WINDOW_TASK, Row, choose_rows
from analysis.benchmark.suite import hancock_cohort
from analysis.benchmark.table import make_lines, markdown_table, paired_difference
from app.cli import cli
from models.contracts import Kind
from models.fusion.base import STRATEGIES, StreamWidths
from models.training import TrainingSettings
from tests.analysis.cohort.test_cohort_hancock import N, make_source

QUICK = {"max_epochs": 2, "linear_start": False}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small HANCOCK: followed for up to 8 years, staining brighter in those who die early."""
    folder = make_source(tmp_path_factory.mktemp("hancock") / "src")
    rng = np.random.default_rng(3)
    targets = pd.read_csv(folder / "targets.csv", dtype={"patient_id": str})
    targets["days_to_last_information"] = rng.integers(50, 2900, N)
    targets["days_to_rfs_event"] = targets["days_to_last_information"]
    targets["survival_status"] = np.where(rng.random(N) < 0.5, "deceased", "living")
    targets.to_csv(folder / "targets.csv", index=False)
    early = (targets["survival_status"] == "deceased") & (
        targets["days_to_last_information"] <= 1095
    )
    for stain, some in (("CD3", N), ("HE", 40)):
        vectors = {
            key: (rng.normal(size=512) + 0.2 * early[i]).astype(np.float32)
            for i, key in enumerate(targets["patient_id"][:some])
        }
        # One patient has no stain at all.
        vectors.pop("050", None)
        np.savez(folder / f"tma_tile_dtr_256_{stain}.npz", **vectors)
    return folder


def command(source: Path, out: Path, *more: str) -> Result:
    arguments = ["benchmark", "hancock", str(source), "--out", str(out), "--folds", "2"]
    return CliRunner().invoke(cli, [*arguments, *more])


def job(source: Path, out: Path, row: Row, task: str, fold: int = 0) -> FoldJob:
    folder, key = hancock_cohort(source, out, 2, 0)
    return FoldJob(folder, key, row, task, fold, 0, out)


# ---------------------------------------------------------------- one fold


def test_a_fold_equals_scikit_learn_on_the_published_files(source: Path, tmp_path: Path) -> None:
    row = Row(name="x", title="X", group="x", modalities=("tma",), estimator="logistic_ridge")
    found = run_fold(job(source, tmp_path, row, WINDOW_TASK))

    targets = pd.read_csv(source / "targets.csv").set_index("patient_id")
    days, dead = targets["days_to_last_information"], targets["survival_status"] == "deceased"
    label = (dead & (days <= 1095)).astype(int)[(dead & (days <= 1095)) | (days > 1095)]
    stains = [np.load(source / f"tma_tile_dtr_256_{s}.npz") for s in ("CD3", "HE")]
    mean = pd.DataFrame(
        {
            i: np.mean(
                [s[f"{i:03d}"] for s in stains if f"{i:03d}" in s.files] or [[np.nan] * 512], 0
            )
            for i in label.index
        }
    ).T
    test = found["subject_ids"]
    train = [i for i in label.index if i not in test]
    scaler = StandardScaler().fit(mean.loc[train])
    a, b = (
        np.column_stack([np.nan_to_num(scaler.transform(mean.loc[i])), mean.loc[i][0].isna()])
        for i in (train, test)
    )
    varies = a.std(axis=0) > 0
    model = LogisticRegressionCV(
        Cs=np.logspace(-5, 0, 11),
        l1_ratios=(0,),
        cv=StratifiedKFold(5, shuffle=True, random_state=0),
        scoring="neg_log_loss",
        max_iter=2000,
        use_legacy_attributes=False,
    ).fit(a[:, varies], label.loc[train])
    expected = model.predict_proba(b[:, varies])[:, 1]
    np.testing.assert_allclose(found["prediction"], expected, atol=1e-4)
    assert found["auc"] == pytest.approx(roc_auc_score(label.loc[test], expected))
    assert found["accuracy"] == accuracy_score(label.loc[test], expected >= 0.5)
    assert (found["n"], found["events"]) == (len(test), label.loc[test].sum())
    assert found["n_train"] == len(train)


def test_folds_part_the_patients_who_have_an_outcome(source: Path, tmp_path: Path) -> None:
    from analysis.cohort.cohort import Cohort

    cohort = Cohort.open(hancock_cohort(source, tmp_path, 2, 0)[0])
    for task in (WINDOW_TASK, SURVIVAL_TASK):
        parts = [patients(cohort, task, fold) for fold in (0, 1)]
        everyone = cohort.subject_ids(None, task)
        for train, test in parts:
            assert sorted([*train, *test]) == everyone.tolist()
        assert sorted([*parts[0][1], *parts[1][1]]) == everyone.tolist()
    assert len(cohort.subject_ids(None, WINDOW_TASK)) < N


def test_members_of_a_strategy_are_averaged(source: Path, tmp_path: Path) -> None:
    def row(members: int) -> Row:
        return Row(
            name="late", title="Late", group="x", strategy="late", members=members,
            modalities=("clinical", "tma"), settings=QUICK,
        )  # fmt: skip

    one, both = (run_fold(job(source, tmp_path, row(m), WINDOW_TASK)) for m in (1, 2))
    assert len(both["chosen"]["best_epoch"]) == 2
    assert one["prediction"] != both["prediction"]
    assert np.ptp(both["prediction"]) > 0
    assert (np.abs(np.asarray(both["prediction"]) - 0.5) <= 0.5).all()
    assert not list((tmp_path / "work").iterdir())


# ---------------------------------------------------------------- the table


def test_the_difference_is_the_corrected_paired_t_test() -> None:
    a, b = [0.71, 0.75, 0.68, 0.74], [0.70, 0.71, 0.69, 0.70]
    plain = paired_difference(a, b, 0.0)
    outside = ttest_rel(a, b)
    interval = outside.confidence_interval()
    assert plain.p == pytest.approx(outside.pvalue)
    assert (plain.low, plain.high) == pytest.approx((interval.low, interval.high))
    # 4 folds: 1/4 + 1/3 instead of 1/4, so the interval is wider by the root of 7/3.
    wide = paired_difference(a, b, 1 / 3)
    assert wide.value == plain.value
    assert wide.high - wide.value == pytest.approx(math.sqrt(7 / 3) * (plain.high - plain.value))
    assert paired_difference(a[:1], b[:1], 1 / 3).low is None


def test_rows_are_compared_on_the_folds_that_both_have() -> None:
    def fold(number: int, c: float | None) -> dict[str, Any]:
        return {
            "fold": number, "n": 10, "n_train": 10, "events": 3, "c_index": c, "seconds": 1.0
        }  # fmt: skip

    by_name = {row.name: row for row in ROWS}
    rows = [by_name[n] for n in ("coxnet", "coxnet_tables", "survival_forest", "late")]
    found = {
        "coxnet": [fold(0, 0.6), fold(1, 0.8)],
        "coxnet_tables": [fold(0, 0.6), fold(1, 0.7)],
        "survival_forest": [fold(0, 0.9)],
        "late": [fold(1, 0.9), fold(0, None)],
    }
    lines = {line.row.name: line for line in make_lines("t", "survival", rows, found)}
    # The forest has one fold only, so it is not the reference although its mean is higher.
    assert {line.against for line in lines.values()} == {"coxnet"}
    assert lines["late"].difference is not None
    assert lines["late"].difference.value == pytest.approx(0.1)
    assert lines["late"].mean["c_index"] == 0.9
    assert lines["coxnet"].sd["c_index"] == pytest.approx(np.std([0.6, 0.8], ddof=1))
    text = markdown_table(list(lines.values()), 2)
    assert "(1 of 2 folds)" in text
    assert "best regression |" in text


def test_every_row_is_named_once_and_has_a_model() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert bool(row.estimator) != bool(row.strategy), row.name
    assert len({json.dumps([r.recipe, r.tasks], sort_keys=True) for r in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", [row for row in ROWS if row.strategy], ids=lambda row: row.name)
def test_a_rows_strategy_takes_its_settings_and_modalities(row: Row) -> None:
    strategy = STRATEGIES.get(row.strategy)
    config = strategy.Config.model_validate(dict(row.config))
    kinds = {name: Kind.BAG if name == "tma" else Kind.TABLE for name in row.modalities}
    widths = {name: StreamWidths(4, 6, kind) for name, kind in kinds.items()}
    assert strategy(widths, 1, config).modalities == row.modalities
    TrainingSettings.model_validate(dict(row.settings))


# ---------------------------------------------------------------- the command


def test_a_stopped_benchmark_goes_on(source: Path, tmp_path: Path, monkeypatch) -> None:
    rows = ("--row", "coxnet_tables", "--row", "logistic_ridge_tables", "--seed", "1")
    calls: list[tuple[str, int]] = []

    def stopped(wanted: FoldJob) -> dict[str, Any]:
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append((wanted.row.name, wanted.fold))
        return folds_module.run_fold(wanted)

    monkeypatch.setattr(suite, "run_fold", stopped)
    first = command(source, tmp_path, *rows)
    assert first.exit_code == 130
    assert "goes on from here" in first.stderr
    early = pd.read_csv(tmp_path / "table.csv")
    assert early["folds"].tolist() == [2, 1]

    calls.clear()
    calls += [("", 0)] * 4
    second = command(source, tmp_path, *rows, "--json")
    assert second.exit_code == 0, second.output
    assert calls[4:] == [("coxnet_tables", 1)]
    told = json.loads(second.stdout)
    assert [r["folds"] for r in told["rows"]] == [2, 2]
    assert told["about"]["tasks"][SURVIVAL_TASK]["n"] == N
    table = pd.read_csv(tmp_path / "table.csv")
    assert table["row"].tolist() == ["logistic_ridge_tables", "coxnet_tables"]
    kept = [json.loads(p.read_text())["content"] for p in tmp_path.glob("folds/*/result.json")]
    values = [f["c_index"] for f in kept if f["row"] == "coxnet_tables"]
    assert told["rows"][1]["c_index"] == pytest.approx(np.mean(values))
    assert told["rows"][1]["c_index_sd"] == pytest.approx(np.std(values, ddof=1))
    assert "Harrell's C" in (tmp_path / "table.md").read_text()


def test_bad_input_ends_in_a_sentence(source: Path, tmp_path: Path, monkeypatch) -> None:
    unknown = Row(name="future", title="Future", group="x", strategy="not_there_yet")
    monkeypatch.setattr(rows_module, "ROWS", (*ROWS, unknown))
    cases = {
        ("--row", "lat"): "There is no row 'lat'. Did you mean 'late'?",
        ("--row", "future"): "Row 'future' needs the fusion strategy 'not_there_yet'",
        ("--row", "coxnet", "--task", WINDOW_TASK): "Row 'coxnet' is for task overall_survival",
        ("--row", "coxnet", "--folds", "40"): "40 folds cannot be drawn",
    }
    for more, says in cases.items():
        found = command(source, tmp_path / "out", *more)
        assert found.exit_code == 2, found.output
        assert says in " ".join(found.stderr.split())
    nowhere = command(tmp_path / "nowhere", tmp_path / "out", "--row", "coxnet")
    assert nowhere.exit_code == 2
    assert "there is no such folder" in nowhere.stderr
    assert not list((tmp_path / "out").glob("cohorts/*/*"))
    with (tmp_path / "out" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        busy = command(source, tmp_path / "out", "--row", "coxnet")
    assert busy.exit_code == 2
    assert "another benchmark is writing there" in " ".join(busy.stderr.split())


def test_rows_come_in_the_tables_order_for_the_chosen_tasks() -> None:
    chosen = choose_rows(["late", "coxnet", "random_forest"], [SURVIVAL_TASK, WINDOW_TASK])
    assert [row.name for row in chosen] == ["random_forest", "coxnet", "late"]


@pytest.mark.slow
def test_processes_give_what_one_gives(source: Path, tmp_path: Path) -> None:
    rows = [r for r in ROWS if r.name in ("coxnet_tables", "random_forest_tables")]
    tables = [
        suite.run_hancock(source, tmp_path / str(jobs), rows, folds=2, jobs=jobs).records
        for jobs in (1, 2)
    ]
    for record in tables[0] + tables[1]:
        del record["seconds_per_fold"]
    assert tables[0] == tables[1]


@pytest.mark.slow
def test_regressions_on_the_real_cohort(real_data, tmp_path: Path) -> None:
    rows = [r for r in ROWS if r.name in ("commonest", "logistic_ridge_tables", "coxnet_tables")]
    made = suite.run_hancock(real_data("hancock"), tmp_path, rows)
    common, ridge, cox = made.lines
    assert (common.n, common.events, cox.n, cox.events) == (550, 139, 763, 213)
    assert common.mean["auc"] == 0.5
    assert common.mean["accuracy"] == pytest.approx(411 / 550, abs=0.002)
    assert ridge.mean["auc"] == pytest.approx(0.76, abs=0.02)
    assert cox.mean["c_index"] == pytest.approx(0.73, abs=0.02)
