from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import (
    CohortError,
    CohortSpec,
    ModalitySpec,
    Provenance,
    TaskSpec,
    write_spec,
)
from analysis.cohort.truth import read_masks, read_truth
from analysis.cohort.write import write_outcomes, write_subjects
from models.contracts import Kind

MASK = np.zeros((3, 4, 5), bool)
MASK[1, 2, 3] = True


def write(folder, *, truth="truth", masks=True):
    write_subjects(
        folder,
        pd.DataFrame(
            {"subject_id": [1, 2], "split": "internal", "index_time": "2020-06-01"}
        ).astype({"index_time": "datetime64[us]"}),
    )
    write_outcomes(
        folder,
        pd.DataFrame({"subject_id": [1, 2], "task": "death", "time_days": 9.0, "event": 1}),
    )
    write_spec(
        CohortSpec(
            name="toy",
            title="Toy",
            modalities={
                "ehr": ModalitySpec(kind=Kind.EVENTS, title="EHR", path="ehr"),
                "ct": ModalitySpec(kind=Kind.VOLUME, title="CT", path="imaging.parquet"),
            },
            tasks={"death": TaskSpec(kind="survival", title="Death")},
            provenance=Provenance(source="test", simulated=True),
            truth=truth,
        ),
        folder,
    )
    home = folder / "truth"
    home.mkdir()
    pd.DataFrame({"subject_id": [1], "term_clot_burden": 0.1, "term_age": 0.2}).to_parquet(
        home / "patients.parquet"
    )
    if masks:
        (home / "masks").mkdir()
        np.savez_compressed(
            home / "masks" / "1.npz",
            embolus=np.packbits(MASK),
            calcium=np.packbits(~MASK),
            shape=np.asarray(MASK.shape, np.int32),
            spacing_mm=np.ones(3, np.float32),
        )
    return Cohort.open(folder)


def test_masks_come_back_and_only_causes_are_lesions(tmp_path) -> None:
    truth = read_truth(write(tmp_path))
    assert truth is not None
    assert truth.volume_modality == "ct"
    # The scan shows calcium too, but the hazard has no term for it.
    assert truth.lesions == ("embolus",)
    assert np.array_equal(truth.mask(1, "embolus"), MASK)
    assert truth.mask(2, "embolus") is None
    assert truth.causal_codes is None
    with pytest.raises(CohortError, match="has no mask 'tumour'; it has embolus, calcium"):
        truth.mask(1, "tumour")
    assert np.array_equal(read_masks(tmp_path, 1)["calcium"], ~MASK)


def test_causal_codes_are_read_and_checked(tmp_path) -> None:
    truth = read_truth(write(tmp_path))
    table = pd.DataFrame({"code": ["A"], "term": ["age"], "coefficient": [0.3]})
    table.to_parquet(truth.folder / "causal_codes.parquet")
    assert truth.causal_codes["term"].tolist() == ["age"]
    other = read_truth(Cohort.open(tmp_path))
    table.drop(columns="term").to_parquet(truth.folder / "causal_codes.parquet")
    with pytest.raises(CohortError, match="term"):
        _ = other.causal_codes


def test_real_cohorts_have_no_truth(tmp_path) -> None:
    assert read_truth(write(tmp_path, truth=None)) is None


def test_without_masks_there_is_no_lesion(tmp_path) -> None:
    assert read_truth(write(tmp_path, masks=False)).lesions == ()


def test_a_damaged_mask_says_so(tmp_path) -> None:
    truth = read_truth(write(tmp_path))
    (truth.folder / "masks" / "1.npz").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(CohortError, match=r"1\.npz: not a readable mask file"):
        truth.mask(1, "embolus")
    with pytest.raises(FileNotFoundError):
        read_masks(tmp_path, 7)
