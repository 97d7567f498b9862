"""A whole report on toy scans with planted lesions, and how reports are found again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from analysis.attribution.case import AttributionError
from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import read_spec, write_spec
from analysis.store import ResultStore
from analysis.trust.card import card
from analysis.trust.localisation import MapScore
from analysis.trust.report import (
    recommended,
    report_part,
    stored_trust,
    tables,
    trust_report,
)
from analysis.trust.study import Budget, halves
from analysis.trust.study_volume import _ranking, token_sums
from sample_data.workspace import RUNS
from tests.analysis.attribution.toys_ct import cohort_of, noise, resnet_run

SMALL = Budget(patients=4, faithful=2, sanity=2, slow=1)


def toy_run():
    run = resnet_run()
    task = SimpleNamespace(name="death", kind="survival", outputs=1, classes=())
    ct = run.config.modalities["ct"]
    ct = SimpleNamespace(kind=ct.kind, encoder=ct.encoder, title="CT")
    config = SimpleNamespace(name="toy", modalities={"ct": ct}, task=task)
    return replace(run, config=config)


def toy_cohort(folder: Path, *, truth: bool = True) -> Cohort:
    """Patients 1-6 with scans; all but patient 6 have a lesion where the truth is known."""
    spacing = (5.5, 3.6, 3.6)
    masks = folder / "truth" / "masks"
    masks.mkdir(parents=True)
    for subject in range(1, 7):
        image = nib.Nifti1Image(noise(subject).T.astype(np.float32), np.diag([3.6, 3.6, 5.5, 1]))
        nib.save(image, folder / f"{subject}.nii.gz")
        mask = np.zeros((16, 32, 32), bool)
        mask[8, 10 + subject, 12:15] = subject != 6
        np.savez_compressed(
            masks / f"{subject}.npz",
            embolus=np.packbits(mask), shape=np.array(mask.shape), spacing_mm=np.array(spacing),
        )  # fmt: skip
    pd.DataFrame({"subject_id": range(1, 7), "term_clot_burden": 0.0}).to_parquet(
        folder / "truth" / "patients.parquet"
    )
    cohort = cohort_of(folder, {i: f"{i}.nii.gz" for i in range(1, 7)})
    if truth:
        write_spec(read_spec(folder).model_copy(update={"truth": "truth"}), folder)
        cohort = Cohort.open(folder)
    return cohort


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    cohort = toy_cohort(tmp_path_factory.mktemp("toy"))
    store = ResultStore(tmp_path_factory.mktemp("results"))
    run = toy_run()
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    report = trust_report(run, cohort, n_patients=4, budget=SMALL, store=store)
    return SimpleNamespace(cohort=cohort, store=store, run=run, report=report, before=before)


def test_every_layer_and_method_is_measured_beside_chance(measured) -> None:
    part = measured.report["modalities"]["ct"]
    assert (part["n"], part["truth"]["lesion"]) == (4, "embolus")
    assert len(part["methods"]) == 3 * 7 + 2
    for item in part["methods"]:
        assert item["localisation"]["n"] == (4 if item["layer"] else 1)
        # 3 voxels grown by one in each direction: 3 x 3 x 5 of 16 x 32 x 32
        assert item["localisation"]["chance"] == pytest.approx(45 / 16384)
        assert item["localisation"]["lesion_share"] == pytest.approx(3 / 16384)
        if item["layer"]:
            assert item["randomisation"]["n"] == item["stability"]["n"] == 2
            assert item["faithfulness"]["tokens_left_out"]["n"] == 2


def test_one_map_is_recommended_by_a_stated_rule_and_reported_on_the_other_half(measured) -> None:
    part = measured.report["modalities"]["ct"]
    chosen = part["recommended"]
    marked = [m for m in part["methods"] if m["recommended"]]
    assert [(m["method"], m["layer"]) for m in marked] == [(chosen["method"], chosen["layer"])]
    assert chosen["held_out"]["localisation"]["n"] == 2
    assert "other half" in chosen["rule"]
    assert "blocks_blurred" in marked[0]["faithfulness"]
    assert recommended(measured.report, "ct") == (chosen["method"], chosen["layer"])
    assert recommended(None, "ct") is None
    assert recommended(measured.report, "ehr") is None


def test_the_report_is_plain_json_and_prints_as_tables(measured) -> None:
    again = json.loads(json.dumps(measured.report))
    (table,) = tables(again)
    assert len(table.rows) == 23
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert table.rows[0][0].endswith("*")
    assert all(isinstance(cell, str) for row in table.rows for cell in row)


def test_the_shared_model_is_unchanged(measured) -> None:
    after = measured.run.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in measured.before.items())


def test_a_report_is_found_again_whatever_its_size(measured) -> None:
    run, cohort, store = measured.run, measured.cohort, measured.store

    def never(*_: object) -> None:
        raise AssertionError("measured again")

    same = trust_report(run, cohort, n_patients=4, budget=SMALL, store=store, progress=never)
    assert same["created"] == measured.report["created"]
    assert stored_trust(run, cohort, store) == json.loads(json.dumps(measured.report))
    assert stored_trust(run, cohort, store, split="external") is None
    assert stored_trust(replace(run, hash="another"), cohort, store) is None
    later = {**measured.report, "created": "2999-01-01T00:00:00+00:00"}
    asked = {"method": "trust", "version": 1, "run": run.hash, "cohort": cohort.fingerprint}
    store.put({**asked, "split": "internal", "n": 7}, later)
    (store.folder / "damaged").mkdir()
    (store.folder / "damaged" / "result.json").write_text('{"parameters": {"method": "trust"')
    assert stored_trust(run, cohort, store)["created"].startswith("2999")
    assert stored_trust(run, cohort, ResultStore(store.folder / "none")) is None


def test_a_part_makes_a_card(measured) -> None:
    part = report_part(measured.report, "ct", "gradcam", "lesions")
    assert part["truth"]["lesion"] == "embolus"
    assert card(part).level in ("good", "mixed", "fails")
    assert card(report_part(measured.report, "ct", "gradcam", "nowhere")).level == "unknown"
    assert card(report_part(None, "ct", "gradcam", "lesions")).level == "unknown"


def test_without_the_truth_the_choice_rests_on_faithfulness(tmp_path) -> None:
    cohort = toy_cohort(tmp_path, truth=False)
    report = trust_report(toy_run(), cohort, n_patients=4, budget=SMALL)
    part = report["modalities"]["ct"]
    assert not report["truth_known"]
    assert part["truth"] is None
    assert all(item["localisation"] is None for item in part["methods"])
    assert "truth is not known" in part["recommended"]["rule"]
    assert "faithfulness" in part["recommended"]["held_out"]


def test_wrong_questions_are_refused_in_a_sentence(measured) -> None:
    with pytest.raises(AttributionError, match="does not read 'ecg'; it reads ct"):
        trust_report(measured.run, measured.cohort, modalities=["ecg"])
    with pytest.raises(AttributionError, match="too few"):
        trust_report(measured.run, measured.cohort, n_patients=1)


# ---------------------------------------------------------------- the choice


def score(pointing, energy):
    return MapScore(pointing, energy, 0.01, 0.02, False)


def test_among_the_best_pointers_the_one_with_the_most_energy_is_chosen_on_one_half_only() -> None:
    # 20 patients: the choosing half is every other one, beginning with the first.
    def scores(hits, energy, other_half):
        return [score(float(i < hits), energy) for i in range(10) for _ in (0,)], other_half

    def weave(first, second):
        return [x for pair in zip(first, second, strict=True) for x in pair]

    bad, good = [score(0.0, 0.0)] * 10, [score(1.0, 1.0)] * 10
    best, near = scores(9, 0.2, bad), scores(8, 0.5, bad)
    far = scores(7, 0.9, good)
    found = {"best": weave(*best), "near": weave(*near), "far": weave(*far)}
    ranked = _ranking({}, found, {key: [] for key in found})
    # `far` is best on the held-out half and has the most energy, but may not be chosen by either.
    assert ranked == ["near", "best", "far"]
    assert len(halves(found["best"])[0]) == 10


def test_token_sums_belong_to_their_tokens(measured, monkeypatch) -> None:
    from analysis.attribution.case import open_case
    from analysis.attribution.target import LogRisk
    from analysis.attribution.volume import volume_map

    case = open_case(measured.run, measured.cohort, 1)
    made = volume_map(case, "ct", LogRisk(), "gradcam", "fine")
    values = np.zeros((16, 32, 32), np.float32)
    values[0:8, 16:32, 0:16] = 0.5  # token (0, 1, 0) of 2 x 2 x 2
    monkeypatch.setattr(type(made), "on", lambda self, scan: values)
    sums = token_sums(case, "ct", made)
    assert sums.tolist() == [0, 0, 0.5 * 8 * 16 * 16, 0, 0, 0, 0, 0]


@pytest.mark.slow
def test_a_shipped_run_is_measured_whole(tiny_workspace, tmp_path) -> None:
    from models.checkpoint import load_run

    name = "pe-co-attention-image-onehot"
    assert (RUNS / name).is_dir()
    run = load_run(tiny_workspace / "runs" / name, [tiny_workspace / "encoders"])
    cohort = Cohort.open(tiny_workspace / "cohorts" / "pe")
    budget = Budget(patients=6, faithful=3, sanity=2, slow=1)
    report = trust_report(run, cohort, n_patients=6, budget=budget, store=ResultStore(tmp_path))
    ct, ehr = report["modalities"]["ct"], report["modalities"]["ehr"]
    best = next(m for m in ct["methods"] if m["recommended"])
    assert best["localisation"]["energy_ratio_mean"]["value"] > 20
    names = {m["method"] for m in ehr["methods"]}
    assert names == {"permutation", "integrated_gradients", "attention", "attention_gradient"}
    shap = next(m for m in ehr["methods"] if m["method"] == "permutation")
    assert shap["localisation"]["auroc"]["code"]["low"] > 0.5
