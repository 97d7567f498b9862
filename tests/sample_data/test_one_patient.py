"""One patient costs the same in a cohort of any size, and is the same as among all others."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.cohort.cohort import Cohort
from analysis.cohort.readings import reading_for
from analysis.features import ensure_features, feature_path, read_features, stored_subjects
from models.checkpoint import load_encoder
from sample_data.workspace import ENCODERS, shipped_ct_encoder


@pytest.mark.parametrize("name", ["pe", "cvd", "hf", "hnscc"])
def test_who_has_what_among_a_few_is_who_has_it_among_all(tiny_workspace: Path, name: str) -> None:
    cohort = Cohort.open(tiny_workspace / "cohorts" / name)
    everybody = cohort.subjects.index.to_numpy(np.int64)
    few = np.r_[everybody[::3], everybody[0], -1]  # one of them twice, one unknown
    for modality in cohort.spec.modalities:
        all_of_them = cohort.having(modality)
        assert np.array_equal(cohort.having(modality, everybody), all_of_them)
        assert np.array_equal(cohort.having(modality, few), np.intersect1d(all_of_them, few))


def test_rows_of_a_feature_file_are_those_of_the_whole(tiny_workspace: Path) -> None:
    files = sorted((tiny_workspace / "cohorts").glob("*/features/*/*.safetensors"))
    assert files
    for path in files:
        ids = stored_subjects(path)
        whole = read_features(path, ids)
        last = len(ids) - 1
        asked = np.r_[ids[last], -1, ids[0]]
        some = read_features(path, asked)
        assert some.present.tolist() == [True, False, True]
        for row, at in ((0, last), (2, 0)):
            n = int(some.mask[row].nonzero().max()) + 1
            assert torch.equal(some.tokens[row, :n], whole.tokens[at, :n])
            assert torch.equal(some.pooled[row], whole.pooled[at])
            assert int(some.mask[row].sum()) == int(whole.mask[at].sum())
        assert not some.tokens[1].any()


def test_what_others_encode_meanwhile_is_kept(tiny_workspace: Path, tmp_path: Path) -> None:
    """Two readers of two patients who are encoded at the same time, one in the midst of it."""
    shutil.copytree(tiny_workspace / "cohorts" / "pe", tmp_path / "pe")
    cohort, name = Cohort.open(tmp_path / "pe"), shipped_ct_encoder()
    feature_path(cohort.folder, "ct", name).unlink()
    encoder = load_encoder(name, [ENCODERS]).encoder
    first, second = np.intersect1d(cohort.subject_ids("internal"), cohort.having("ct"))[:2]

    def encode(subject: int, progress=None) -> Path:
        reading = reading_for(encoder, None)
        return ensure_features(cohort, "ct", encoder, name, reading, [subject], progress=progress)

    path = encode(first, lambda *_: encode(second))
    assert stored_subjects(path).tolist() == [first, second]
    assert read_features(path, [first, second]).present.all()
    before = path.read_bytes()
    assert encode(second) == path
    assert path.read_bytes() == before
