from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lifelines.utils import concordance_index

from analysis.baseline_file import read_baseline
from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import CohortError
from analysis.evaluation import (
    best_unimodal,
    cutoffs_of,
    evaluate,
    find_difference,
    learning_data,
    risk_groups,
)
from analysis.experiment import EHR_ENCODERS, Plan, _strategy_config, train_run
from analysis.predict import predict, predict_stored
from analysis.store import ResultStore, result_key
from models.checkpoint import RunError, TaskEntry, load_run
from models.fusion.base import STRATEGIES
from models.training import TrainingSettings
from tests.app.toy import write_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohorts") / "pe", "pe", seed=0)


def plan(cohort: Path, out: Path, **changes) -> Plan:
    known = {
        "strategy": "late",
        "modalities": ("imaging", "ehr"),
        "settings": TrainingSettings(max_epochs=3),
        **changes,
    }
    return Plan(
        cohort=cohort, task="mortality", out=out, encoder_store=out.parent / "encoders", **known
    )


@pytest.fixture(scope="module")
def runs(cohort, tmp_path_factory):
    home = tmp_path_factory.mktemp("runs")
    return {
        "imaging": train_run(
            plan(cohort, home / "imaging", strategy="unimodal", modalities=("imaging",)),
            accelerator="cpu",
        ),
        "late": train_run(plan(cohort, home / "late"), accelerator="cpu"),
        "clmbr": train_run(
            plan(cohort, home / "clmbr", ehr="clmbr", strategy="cross_attention"),
            accelerator="cpu",
        ),
    }


@pytest.fixture
def store(tmp_path) -> ResultStore:
    return ResultStore(tmp_path / "results")


def test_the_event_encoder_is_pretrained_once_frozen_and_named_by_its_hash(runs, cohort):
    run = runs["clmbr"]
    entry = run.config.modalities["ehr"].encoder
    assert entry.frozen
    assert entry.weights
    assert "ehr" in run.model.frozen
    assert (cohort / "features" / "ehr" / f"{entry.weights}.safetensors").is_file()
    again = plan(cohort, run.folder.parent / "again", ehr="clmbr", strategy="late")
    assert train_run(again, accelerator="cpu").config.modalities["ehr"].encoder == entry


def test_stored_features_and_raw_events_give_the_same_prediction(runs, cohort, tmp_path):
    """The number shown must not depend on whether the features were cached."""
    import shutil

    run = runs["clmbr"]
    opened = Cohort.open(cohort)
    ids = opened.subject_ids("internal")
    cached = predict(run, opened, ids)
    bare = tmp_path / "bare"
    shutil.copytree(cohort, bare, ignore=shutil.ignore_patterns("features"))
    fresh = predict(run, Cohort.open(bare), ids)
    assert np.abs(cached.values - fresh.values).max() < 1e-4


def test_predictions_do_not_depend_on_the_other_patients(runs, cohort):
    opened = Cohort.open(cohort)
    ids = opened.subject_ids("internal")[:9]
    together = predict(runs["late"], opened, ids).values
    alone = [predict(runs["late"], opened, [i]).values[0] for i in ids]
    assert np.allclose(together, alone, atol=1e-5)


def test_evaluation_equals_lifelines(runs, cohort, store):
    opened = Cohort.open(cohort)
    answer = evaluate(list(runs.values()), opened, "internal", store, n_resamples=200)
    ids = opened.subject_ids("internal", "mortality")
    truth = opened.outcomes("mortality", ids)
    for name, row in zip(runs, answer["runs"], strict=True):
        risk = predict(runs[name], opened, ids).risk
        expected = concordance_index(truth.time_days, -risk, truth.event)
        assert row["c_index"]["value"] == pytest.approx(expected, abs=1e-9)
        assert row["c_index"]["low"] < expected < row["c_index"]["high"]
        assert 0 < row["integrated_brier"]["value"] < 0.3
        assert row["uno_c"]["value"] == pytest.approx(expected, abs=0.1)
    assert len(answer["differences"]) == 3
    values = {r["run"]: r["c_index"]["value"] for r in answer["runs"]}
    for d in answer["differences"]:
        gap = values[d["first"]] - values[d["second"]]
        assert d["difference"]["value"] == pytest.approx(gap, abs=1e-12)
        back = find_difference(answer, d["second"], d["first"])
        assert back["difference"]["value"] == pytest.approx(-gap, abs=1e-12)
        assert back["difference"]["low"] == -d["difference"]["high"]
    assert best_unimodal(answer["runs"])["run"] == "imaging"
    json.dumps(answer, allow_nan=False)


def test_results_are_found_again_and_follow_the_run(runs, cohort, store):
    opened = Cohort.open(cohort)
    first = evaluate([runs["late"]], opened, "internal", store, n_resamples=50)
    written = sorted(store.folder.rglob("*"))
    assert evaluate([runs["late"]], opened, "internal", store, n_resamples=50) == first
    assert sorted(store.folder.rglob("*")) == written
    other = evaluate([runs["imaging"]], opened, "internal", store, n_resamples=50)
    assert other["runs"][0]["c_index"] != first["runs"][0]["c_index"]


def test_a_damaged_result_is_made_again(runs, cohort, store):
    opened = Cohort.open(cohort)
    good = predict_stored(runs["late"], opened, "internal", store).values
    for path in store.folder.rglob("arrays.safetensors"):
        path.write_bytes(path.read_bytes()[:50])
    assert np.array_equal(predict_stored(runs["late"], opened, "internal", store).values, good)


def test_result_keys_depend_on_every_parameter():
    base = {"method": "predict", "run": "a", "cohort": "b"}
    assert result_key(base) == result_key(dict(reversed(base.items())))
    assert len({result_key({**base, k: "x"}) for k in base} | {result_key(base)}) == 4


def test_cutoffs_come_from_training_and_tuning(runs, cohort, store):
    opened = Cohort.open(cohort)
    _, risk, splits = learning_data(runs["late"], opened, store)
    assert splits == ("train", "tuning")
    cutoffs = cutoffs_of(runs["late"], opened, store, "median")
    assert cutoffs.values == (pytest.approx(float(np.median(risk))),)
    split = risk_groups(runs["late"], opened, "external", store, "tertiles", 365.0)
    assert sum(g.n for g in split.groups) == len(opened.subject_ids("external", "mortality"))
    assert split.cutoffs.learned_on == "train and tuning"


def test_history_and_baseline_are_written(runs):
    history = pd.read_parquet(runs["late"].folder / "history.parquet")
    assert set(history.columns) == {"epoch", "name", "modality", "value"}
    assert {"gradient_norm", "unimodal_score", "tuning_score"} <= set(history["name"])
    baseline = read_baseline(runs["late"].folder)
    assert (np.diff(baseline.cumulative_hazard) >= 0).all()


def test_the_config_tells_what_was_done(runs):
    config = runs["late"].config
    assert config.training.n_train == 160
    assert config.training.device == "cpu"
    assert config.cohort.name == "pe"
    assert config.task.kind == "survival"
    assert load_run(runs["late"].folder).hash == runs["late"].hash


WRONG = {
    "task": ({"task": "deaht"}, CohortError, "no task 'deaht'"),
    "modality": ({"modalities": ("mri",)}, CohortError, "no modality 'mri'"),
    "strategy": ({"strategy": "lat"}, KeyError, "Unknown fusion strategy 'lat'"),
    "one modality": ({"modalities": ("imaging",)}, ValueError, "at least 2"),
    "setting": ({"strategy_config": {"widht": 3}}, ValueError, "widht"),
    "guide": (
        {"strategy": "co_attention", "strategy_config": {"guide": "mri"}},
        ValueError,
        "guide 'mri'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_plan_leaves_no_run(case, cohort, tmp_path):
    changes, error, message = WRONG[case]
    wrong = plan(cohort, tmp_path / "run")
    wrong = Plan(**{**wrong.__dict__, **changes})
    with pytest.raises(error, match=message):
        train_run(wrong, accelerator="cpu")
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_never_overwritten(cohort, runs):
    with pytest.raises(RunError, match="already exists"):
        train_run(plan(cohort, runs["late"].folder), accelerator="cpu")


def test_runs_for_different_tasks_are_not_compared(runs, cohort, store):
    with pytest.raises(CohortError, match="same name"):
        evaluate([runs["late"], runs["late"]], Cohort.open(cohort), "internal", store)


def test_only_class_tasks_of_two_have_an_intercept():
    def config(strategy: str, kind: str, classes: tuple[str, ...] = ()):
        task = TaskEntry(name="task", kind=kind, title="Task", classes=classes)
        plan = Plan(cohort=None, task="task", strategy=strategy, out=None, encoder_store=None)
        return _strategy_config(STRATEGIES.get(strategy), plan, task)

    assert config("late", "classification", ("no", "yes")).intercept
    assert not config("late", "classification", ("a", "b", "c")).intercept
    assert not config("late", "survival").intercept
    assert not config("tgmm", "classification", ("no", "yes")).intercept


def test_ehr_encoders_are_named():
    assert EHR_ENCODERS == ("onehot", "clmbr")


def fusionlens(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        **options,
    )


def train_arguments(cohort: Path, out: Path, epochs: int = 30) -> list[str]:
    return [
        "train", "--cohort", str(cohort), "--task", "mortality", "--strategy", "contrastive",
        "--modality", "imaging", "--modality", "ehr", "--out", str(out), "--accelerator", "cpu",
        "--setting", f"max_epochs={epochs}", "--setting", "patience=1000",
        "--setting", "batch_size=16",
    ]  # fmt: skip


def test_training_goes_on_after_kill_9(cohort, tmp_path):
    """A killed run, started again, is the run that was never killed."""
    whole = tmp_path / "whole"
    assert fusionlens(*train_arguments(cohort, whole, epochs=10)).returncode == 0
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", *train_arguments(cohort, out, epochs=10)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    last = tmp_path / ".killed.partial" / "training" / "last.ckpt"
    until = time.monotonic() + 120
    while not last.is_file() and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert last.is_file()
    assert not out.exists()
    again = fusionlens(*train_arguments(cohort, out, epochs=10))
    assert again.returncode == 0, again.stderr
    opened = Cohort.open(cohort)
    ids = opened.subject_ids("internal")
    a, b = (predict(load_run(f), opened, ids).values for f in (whole, out))
    assert np.abs(a - b).max() < 1e-5
    assert not list(tmp_path.glob(".*.partial"))


def test_the_command_prints_json(runs, cohort, tmp_path):
    done = fusionlens(
        "evaluate",
        str(runs["imaging"].folder),
        str(runs["late"].folder),
        "--cohort",
        str(cohort),
        "--split",
        "external",
        "--resamples",
        "100",
        "--results",
        str(tmp_path),
        "--json",
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert {"runs", "differences"} <= set(answer)
    row = answer["runs"][0]
    assert {"run", "strategy", "task", "split", "n", "events", "c_index"} <= set(row)
    assert set(row["c_index"]) == {"value", "low", "high"}


BAD_COMMANDS = {
    "no cohort": (["check", "nowhere"], "there is no such folder"),
    "no run": (["evaluate", "nowhere", "--cohort", "{cohort}"], "there is no such file"),
    "no task": (
        ["train", "--cohort", "{cohort}", "--task", "x", "--strategy", "late", "--out", "o"],
        "there is no task 'x'",
    ),
    "bad setting": (
        [
            "train",
            "--cohort",
            "{cohort}",
            "--task",
            "mortality",
            "--strategy",
            "late",
            "--out",
            "o",
            "--setting",
            "epochs=3",
        ],
        "--setting epochs",
    ),
    "no workspace": (["app", "--workspace", "nowhere"], "there is no such folder"),
}


@pytest.mark.parametrize("case", BAD_COMMANDS)
def test_bad_input_ends_with_one_sentence_and_code_2(case, cohort, tmp_path):
    arguments, message = BAD_COMMANDS[case]
    done = fusionlens(
        *[a.format(cohort=cohort) for a in arguments],
        cwd=tmp_path,
        env={**__import__("os").environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
