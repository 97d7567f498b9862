"""An explanation is computed once, found again as it was, and never given for another question."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from analysis.attribution import stored
from analysis.attribution.case import Case, open_case
from analysis.attribution.result import Attribution, VolumeMap
from analysis.attribution.stored import (
    inputs_digest,
    pack_frame,
    stored_attribution,
    stored_map,
    unpack_frame,
)
from analysis.attribution.target import LogRisk, Survival
from analysis.baseline_file import read_baseline
from analysis.cohort.cohort import Cohort
from analysis.cohort.write import write_table
from analysis.store import ResultStore
from analysis.whatif import Change, what_if
from models.checkpoint import load_run
from models.network import FusionModel
from tests.analysis.attribution.toys_ct import OneConv, Weigh, case_of, run_of, solved, two_cells
from tests.app.toy import IMAGING, train, write_cohort

LOG_RISK = LogRisk()


class ComputedError(Exception):
    """The engine was asked."""


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results")


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, whoever computes raises."""

    def stop() -> None:
        def computed(*arguments: Any, **options: Any) -> None:
            raise ComputedError

        monkeypatch.setattr(stored, "explain_modality", computed)
        monkeypatch.setattr(stored, "volume_map", computed)

    return stop


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of tables and events, and two runs of one name with other weights."""
    home = tmp_path_factory.mktemp("stored")
    cohort = write_cohort(home / "cohorts" / "pe", "pe", seed=0)
    train(cohort, home, "late", "late")
    twin = home / "twin"
    shutil.copytree(home / "runs" / "late", twin)
    from safetensors.torch import load_file, save_file

    weights = load_file(twin / "model.safetensors")
    save_file({n: 1.1 * w if w.is_floating_point() else w for n, w in weights.items()},
              twin / "model.safetensors")  # fmt: skip
    return home


def patient(home: Path, number: int = 0, run: str = "runs/late", cohort: str = "pe") -> Case:
    """A patient who has everything."""
    loaded, opened = load_run(home / run), Cohort.open(home / "cohorts" / cohort)
    there = opened.availability()
    return open_case(loaded, opened, int(there.index[there.all(axis=1)][number]))


def same_attribution(one: Attribution, two: Attribution) -> None:
    pd.testing.assert_frame_equal(one.parts, two.parts)
    for name in ("values", "whole", "reference"):
        a, b = getattr(one, name), getattr(two, name)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert (one.spread is None) == (two.spread is None)
    if one.spread is not None:
        np.testing.assert_array_equal(one.spread, two.spread)
    for name in ("subject", "modality", "kind", "method", "agreement", "evaluations"):
        assert getattr(one, name) == getattr(two, name), name
    # As JSON: a tuple of days may come back as a list.
    for name in ("target", "parameters"):
        assert json.dumps(getattr(one, name), default=list) == json.dumps(getattr(two, name))


# ---------------------------------------------------------------- found again


@pytest.mark.parametrize("modality", ["ehr", "imaging"])
def test_shares_are_found_again_as_they_were(home, store, silent, modality):
    case = patient(home)
    ask = {"contexts": "ledger", "seed": 3}
    first = stored_attribution(case, modality, LOG_RISK, store, **ask)
    silent()
    again = stored_attribution(patient(home), modality, LOG_RISK, store, **ask)
    same_attribution(first, again)
    assert again.table().equals(first.table())
    assert again.gap == first.gap < 1e-6


def test_sampled_shares_keep_their_halves_and_curves_their_days(tiny_workspace, store, silent):
    """With static facts (no time) and events without a value among the parts."""
    run = load_run(tiny_workspace / "runs" / "pe-late-onehot")
    case = open_case(run, Cohort.open(tiny_workspace / "cohorts" / "pe"), 10001)
    curve = Survival(read_baseline(run.folder), (30.0, 200.0, 365.0))
    first = stored_attribution(case, "ehr", curve, store, seed=1)
    assert first.spread is not None
    assert first.values.shape[1] == 3
    assert first.parts["value"].isna().any()
    silent()
    same_attribution(first, stored_attribution(case, "ehr", curve, store, seed=1))


def test_a_map_is_found_again_where_it_lay(tmp_path, store, silent):
    case = case_of(tmp_path, solved(), two_cells())
    first = stored_map(case, "ct", LOG_RISK, store, method="hirescam", layer="conv")
    assert first.peak_mm is not None
    silent()
    again = stored_map(case, "ct", LOG_RISK, store, method="hirescam", layer="conv")
    assert isinstance(again, VolumeMap)
    np.testing.assert_array_equal(first.values, again.values)
    assert again.values.dtype == np.float32
    np.testing.assert_array_equal(first.affine, again.affine)
    for name in ("subject", "method", "layer", "signed", "whole", "reference", "gap", "peak_mm"):
        assert getattr(first, name) == getattr(again, name), name
    assert dict(first.target) == dict(again.target)
    assert dict(first.parameters) == dict(again.parameters)


def test_signed_maps_keep_gap_and_reference(tmp_path, store, silent):
    case = case_of(
        tmp_path, run_of(OneConv((2.0, -1.0), relu=False), Weigh((3.0, 5.0))), two_cells()
    )
    first = stored_map(case, "ct", LOG_RISK, store, method="integrated_gradients")
    assert first.gap is not None
    assert (first.values < 0).any()
    silent()
    again = stored_map(case, "ct", LOG_RISK, store, method="integrated_gradients")
    assert (again.gap, again.reference) == (first.gap, first.reference)
    np.testing.assert_array_equal(first.values, again.values)


def test_frames_of_labels_come_back_with_their_types():
    frame = pd.DataFrame(
        {
            "number": np.arange(4),
            "flag": [True, False, True, True],
            "value": [1.5, np.nan, 0.1, 7.699999809265137],
            "single": np.array([0.1, np.nan, 2, 3], np.float32),
            "text": ["a", None, "é \u2028 <b>", ""],
            "mixed": pd.Series([1.5, None, "yes", 2], dtype=object),
            "time": np.array(
                ["2111-03-02T02:22:00.123456", "NaT", "1899-12-31", "2020-01-01"], "datetime64[us]"
            ),
        }
    )
    back = unpack_frame(json.loads(json.dumps(pack_frame(frame))))
    pd.testing.assert_frame_equal(frame, back)
    assert back["text"][1] is None
    empty = frame.iloc[:0]
    pd.testing.assert_frame_equal(empty, unpack_frame(json.loads(json.dumps(pack_frame(empty)))))
    never = frame.assign(time=np.array(["NaT"] * 4, "datetime64[us]"), text=None)
    pd.testing.assert_frame_equal(never, unpack_frame(json.loads(json.dumps(pack_frame(never)))))


# ---------------------------------------------------------------- another question

SURVIVAL_DAYS = (100.0, 200.0)
OTHER: dict[str, dict[str, Any]] = {
    "method": {"method": "integrated_gradients"},
    "contexts": {"contexts": "ledger"},
    "seed": {"seed": 1},
    "budget": {"budget": 9_999},
    "agreement": {"agreement": 0.99},
}


@pytest.mark.parametrize("what", OTHER)
def test_other_parameters_are_another_result(home, store, silent, what):
    case = patient(home)
    stored_attribution(case, "ehr", LOG_RISK, store)
    silent()
    stored_attribution(case, "ehr", LOG_RISK, store)
    with pytest.raises(ComputedError):
        stored_attribution(case, "ehr", LOG_RISK, store, **OTHER[what])


def test_another_number_modality_or_patient_is_another_result(home, store, silent):
    case = patient(home)
    baseline = read_baseline(home / "runs" / "late")
    first, second = (Survival(baseline, (day,)) for day in SURVIVAL_DAYS)
    stored_attribution(case, "ehr", first, store)
    silent()
    stored_attribution(case, "ehr", first, store)
    for asked in (
        lambda: stored_attribution(case, "ehr", second, store),
        lambda: stored_attribution(case, "ehr", LOG_RISK, store),
        lambda: stored_attribution(case, "ehr", Survival(baseline, SURVIVAL_DAYS), store),
        lambda: stored_attribution(case, "imaging", first, store),
        lambda: stored_attribution(patient(home, 1), "ehr", first, store),
    ):
        with pytest.raises(ComputedError):
            asked()


def test_two_models_of_one_name_never_show_one_number_twice(home, store):
    one, two = patient(home), patient(home, run="twin")
    assert one.run.config.name == two.run.config.name
    assert one.run.hash != two.run.hash
    made = [stored_attribution(c, "ehr", LOG_RISK, store) for c in (one, two)]
    found = [stored_attribution(c, "ehr", LOG_RISK, store) for c in (one, two)]
    for case, first, again in zip((one, two), made, found, strict=True):
        same_attribution(first, again)
        assert float(again.whole[0]) == pytest.approx(case.value(LOG_RISK)[0], abs=1e-6)
        assert again.subject.run_hash == case.run.hash
    assert abs(float(found[0].whole[0]) - float(found[1].whole[0])) > 1e-4


def test_a_replaced_record_is_another_patient(home, store, silent, tmp_path):
    """Neither the patient's number nor the cohort's fingerprint tells of it."""
    case = patient(home)
    first = stored_attribution(case, "imaging", LOG_RISK, store)
    folder = tmp_path / "pe"
    shutil.copytree(home / "cohorts" / "pe", folder)
    frame = pd.read_parquet(folder / "tables" / "imaging.parquet")
    frame.loc[frame["subject_id"] == case.subject_id, "clot_burden"] += 5
    (folder / "tables" / "imaging.parquet").unlink()
    write_table(folder / "tables" / "imaging.parquet", frame, IMAGING)
    changed = open_case(case.run, Cohort.open(folder), case.subject_id)
    assert changed.subject == case.subject
    second = stored_attribution(changed, "imaging", LOG_RISK, store)
    assert abs(float(second.whole[0]) - float(first.whole[0])) > 1e-3
    assert second.parts["value"].tolist() != first.parts["value"].tolist()
    silent()
    # Another modality's shares were made beside the old table: they are not found either.
    for name in ("ehr", "labs"):
        with pytest.raises(ComputedError):
            stored_attribution(changed, name, LOG_RISK, store)
    same_attribution(first, stored_attribution(case, "imaging", LOG_RISK, store))


def test_a_replaced_scan_is_another_patient(tmp_path, store):
    run = solved()
    case = case_of(tmp_path, run, two_cells())
    first = stored_map(case, "ct", LOG_RISK, store, method="hirescam", layer="conv")
    nib.save(nib.Nifti1Image(two_cells()[::-1].T.astype(np.float32), case.scan("ct").affine),
             tmp_path / "1.nii.gz")  # fmt: skip
    other = open_case(run, Cohort.open(tmp_path), 1)
    assert other.subject == case.subject
    # The summary of the scan is the same: only the voxels tell.
    assert float(other.prediction[0, 0]) == pytest.approx(float(case.prediction[0, 0]))
    second = stored_map(other, "ct", LOG_RISK, store, method="hirescam", layer="conv")
    np.testing.assert_array_equal(second.values, first.values[::-1])


def test_other_layers_seeds_and_numbers_are_other_maps(tmp_path, store, silent):
    case = case_of(tmp_path, solved(), two_cells())
    stored_map(case, "ct", LOG_RISK, store, method="hirescam", layer="conv")
    silent()
    for options in (
        {"method": "gradcam", "layer": "conv"},
        {"method": "hirescam"},
        {"method": "hirescam", "layer": "conv", "seed": 1},
        {"method": "occlusion"},
    ):
        with pytest.raises(ComputedError):
            stored_map(case, "ct", LOG_RISK, store, **options)


def test_a_what_if_is_never_taken_for_the_record(home):
    """The digest follows what the model reads, whichever modality is explained."""
    case = patient(home)
    seen = {inputs_digest(case, "ehr")}
    seen.add(inputs_digest(what_if(case, without=["labs"]), "ehr"))
    seen.add(inputs_digest(what_if(case, changes=[Change("imaging", values={0: 2.0})]), "ehr"))
    seen.add(inputs_digest(what_if(case, changes=[Change("ehr", remove=(0,))]), "ehr"))
    assert len(seen) == 4
    assert inputs_digest(patient(home), "ehr") in seen
    # One bit of one token is enough.
    encoded = case.encoded["imaging"]
    tokens = encoded.tokens.clone()
    tokens.view(-1)[0] = torch.nextafter(tokens.view(-1)[0], torch.tensor(1e9))
    nudged = case.with_inputs({**case.encoded, "imaging": replace(encoded, tokens=tokens)}, {})
    assert inputs_digest(nudged, "ehr") not in seen


def test_a_result_made_on_another_machine_is_found(home, monkeypatch):
    """Its networks differ in the last bits; what they read does not."""
    here = patient(home)
    encode = FusionModel.encode_modality

    def elsewhere(self, name, item):
        made = encode(self, name, item)
        return replace(made, tokens=torch.nextafter(made.tokens, torch.tensor(1e9)))

    monkeypatch.setattr(FusionModel, "encode_modality", elsewhere)
    there = patient(home)
    assert not torch.equal(there.encoded["ehr"].tokens, here.encoded["ehr"].tokens)
    assert inputs_digest(there, "ehr") == inputs_digest(here, "ehr")


def test_what_failed_is_not_stored(home, store):
    case = patient(home)
    with pytest.raises(ValueError, match="no method 'nonsense'"):
        stored_attribution(case, "ehr", LOG_RISK, store, method="nonsense")
    assert not store.folder.exists()
