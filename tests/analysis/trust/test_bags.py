"""Trust of a bag's shares, on the simulated cohort that says what each instance shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import Split, read_spec, write_spec
from analysis.cohort.truth import read_truth
from analysis.experiment import Plan, train_run
from analysis.trust.card import card
from analysis.trust.localisation import auroc
from analysis.trust.report import report_part, tables, trust_report
from analysis.trust.study import RULE_NOTHING, Budget
from models.checkpoint import Run
from models.training import TrainingSettings
from sample_data.hnscc_cohort import HnsccPlan, write_hnscc_cohort

COUNTS = {Split.TRAIN: 40, Split.TUNING: 20, Split.INTERNAL: 12}
SMALL = Budget(patients=4, faithful=2, sanity=2, slow=1)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    plan = HnsccPlan(seed=2, counts=COUNTS, tiles=(8, 12))
    return Cohort.open(write_hnscc_cohort(plan, tmp_path_factory.mktemp("bags") / "hnscc").folder)


@pytest.fixture(scope="module")
def run(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Run:
    home = tmp_path_factory.mktemp("run")
    plan = Plan(
        cohort=cohort.folder, task="overall_survival", strategy="late", out=home / "late",
        encoder_store=home / "encoders", modalities=("wsi", "cell_density"),
        settings=TrainingSettings(max_epochs=1),
    )  # fmt: skip
    return train_run(plan, accelerator="cpu")


def test_the_truth_names_what_each_instance_shows(cohort: Cohort) -> None:
    truth = read_truth(cohort)
    assert truth is not None
    bag = cohort.bag("wsi")
    subject = int(bag.subject_ids[0])
    told = truth.bag_instances("wsi", subject)
    assert told is not None
    assert told["instance"].tolist() == list(bag.instances[bag.rows(subject)])
    tumour = told["tissue"] == "tumour"
    assert told.loc[tumour, "carries"].tolist() == [("aggression", "budding", "p16")] * tumour.sum()
    assert () in told["carries"].tolist()
    assert truth.bag_instances("wsi", 1) is None
    assert truth.bag_instances("clinical", subject) is None


def test_a_bag_is_judged_by_its_instances_and_noise_has_no_truth(cohort: Cohort, run: Run) -> None:
    report = trust_report(run, cohort, n_patients=4, budget=SMALL)
    part = report["modalities"]["wsi"]
    assert part["truth"]["one"] == "tile"
    assert part["n"] == 4
    methods = {item["method"]: item for item in part["methods"]}
    assert set(methods) >= {"permutation", "attention"}
    for item in methods.values():
        found = item["localisation"]
        assert found["n"] + found["left_out"] == 4
        assert 0.0 <= found["auroc"]["code"]["value"] <= 1.0
        assert set(found["by_term"]) == {"aggression", "budding", "exclusion", "p16"}
    assert "instances that show a cause" in part["recommended"]["rule"]
    chosen = report_part(report, "wsi", part["recommended"]["method"])
    sentences = " ".join(check.sentence for check in card(chosen).checks)
    assert "a tile that shows a cause of the outcome ranked above one that does not" in sentences
    columns = {table.title: table.columns for table in tables(report)}
    assert columns["Whole-slide image (wsi)"][1] == "AUROC instances"
    noise = report["modalities"]["cell_density"]
    assert noise["recommended"]["rule"] == RULE_NOTHING
    assert all(item["localisation"] is None for item in noise["methods"])


def test_attention_is_scored_against_the_truth_tile_by_tile(cohort: Cohort, run: Run) -> None:
    """The report's number again, from the truth's own file and the pooling weights."""
    from analysis.attribution.attention import mil_attention
    from analysis.attribution.case import open_case

    report = trust_report(run, cohort, n_patients=4, budget=SMALL, modalities=["wsi"])
    methods = {item["method"]: item for item in report["modalities"]["wsi"]["methods"]}
    truth = read_truth(cohort)
    assert truth is not None
    order = np.random.default_rng(0).permutation(cohort.subject_ids("internal", "overall_survival"))
    areas = []
    for subject in [int(i) for i in order if i in cohort.having("wsi")][:4]:
        weights = mil_attention(open_case(run, cohort, subject), "wsi").weights
        told = truth.bag_instances("wsi", subject)
        assert told is not None
        areas.append(auroc(weights, told["carries"].map(bool)))
    found = methods["attention"]["localisation"]["auroc"]["code"]["value"]
    assert found == pytest.approx(np.mean(areas))


def test_without_the_truth_nothing_is_localised(cohort: Cohort, run: Run, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "real"
    shutil.copytree(cohort.folder, folder)
    write_spec(read_spec(folder).model_copy(update={"truth": None}), folder)
    real = Cohort.open(folder)
    report = trust_report(run, real, n_patients=4, budget=SMALL, modalities=["wsi"])
    part = report["modalities"]["wsi"]
    assert part["truth"] is None
    assert all(item["localisation"] is None for item in part["methods"])
    assert "truth is not known" in part["recommended"]["rule"]
