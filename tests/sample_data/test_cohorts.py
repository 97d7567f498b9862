import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lifelines.utils import concordance_index

from analysis.cohort.schema import CohortError, Split, read_spec
from sample_data.cohorts import (
    SIZES,
    CohortPlan,
    plan,
    read_masks,
    simulate_patients,
    write_cohort,
)
from sample_data.hazard import HAZARDS
from sample_data.patients import CohortKind

FEW = {Split.TRAIN: 10, Split.TUNING: 3, Split.INTERNAL: 8, Split.EXTERNAL: 5}


def few(kind=CohortKind.PE, seed=3):
    return CohortPlan(kind=kind, seed=seed, counts=FEW)


def mean_hu():
    """A sink factory; of the module, so that a worker process can import it."""
    return lambda scans: {"mean": np.array([[scan.volume.mean()] for scan in scans])}


def short_rows():
    return lambda scans: {"mean": np.zeros(len(scans) - 1)}


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("one") / "pe"
    return write_cohort(few(), out, processes=1, sink=mean_hu)


@pytest.fixture(scope="module")
def large():
    """Thousands of patients of each cohort, not rendered."""
    counts = {Split.INTERNAL: 3000, Split.EXTERNAL: 3000}
    return {
        kind: simulate_patients(CohortPlan(kind=kind, seed=11, counts=counts))
        for kind in CohortKind
    }


# ---------------------------------------------------------------- files


def test_two_processes_write_the_same_bytes_as_one(written, tmp_path):
    seen = []
    again = write_cohort(
        few(),
        tmp_path / "pe",
        processes=2,
        sink=mean_hu,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert digests(again.folder) == digests(written.folder)
    assert again.sink_subjects.tolist() == written.sink_subjects.tolist()
    assert np.array_equal(again.sink_arrays["mean"], written.sink_arrays["mean"])
    assert seen == [(16, 26), (26, 26)]


def test_another_seed_writes_other_patients(written, tmp_path):
    other = write_cohort(few(seed=4), tmp_path / "pe", processes=1, volumes_for=())
    ours = pd.read_parquet(written.folder / "subjects.parquet")
    theirs = pd.read_parquet(other.folder / "subjects.parquet")
    assert (ours["age_years"] != theirs["age_years"]).mean() > 0.9


def test_the_folder_is_a_valid_cohort_and_its_tables_agree(written):
    spec = read_spec(written.folder)
    assert spec.tasks["mortality"].horizon_days == 365
    assert spec.modalities["ct"].shape == (48, 96, 96)
    subjects = pd.read_parquet(written.folder / "subjects.parquet").set_index("subject_id")
    outcomes = pd.read_parquet(written.folder / "outcomes.parquet").set_index("subject_id")
    truth = pd.read_parquet(written.folder / "truth/patients.parquet").set_index("subject_id")
    imaging = pd.read_parquet(written.folder / "imaging.parquet")
    events = pd.read_parquet(written.folder / "ehr/data/0.parquet")
    assert subjects["split"].value_counts().to_dict() == {k.value: v for k, v in FEW.items()}
    assert list(subjects.index) == list(outcomes.index) == list(truth.index)
    assert set(imaging["subject_id"]) == set(truth.index[truth["has_ct"]])
    assert set(events["subject_id"]) == set(truth.index[truth["has_record"]])
    assert all((written.folder / path).is_file() for path in imaging["path"])
    assert outcomes["time_days"].between(0.01, 365).all()
    assert set(outcomes["event"]) <= {0, 1}
    last = events.groupby("subject_id")["time"].max()
    assert (last < subjects.loc[last.index, "index_time"]).all()


def test_the_log_hazard_is_the_sum_of_its_terms_and_uses_the_rendered_measures(written):
    truth = pd.read_parquet(written.folder / "truth/patients.parquet")
    terms = truth[[name for name in truth if name.startswith("term_")]].sum(axis=1)
    assert np.allclose(terms, truth["true_log_hazard"])
    clot = {t.name: t for t in HAZARDS[CohortKind.PE].terms}["clot_burden"]
    expected = clot.coefficient * (truth["clot_burden_percent"] - 35) / 10
    assert np.allclose(truth["term_clot_burden"], expected)


def test_masks_are_stored_for_the_volumes_that_are_files(written):
    truth = pd.read_parquet(written.folder / "truth/patients.parquet").set_index("subject_id")
    imaging = pd.read_parquet(written.folder / "imaging.parquet")
    for subject in imaging["subject_id"]:
        masks = read_masks(written.folder, subject)
        burden = truth.loc[subject, "clot_burden_percent"]
        assert masks["embolus"].any() == (burden > 0)
        shape = (44, 96, 96) if truth.loc[subject, "noise_hu"] > 20 else (48, 96, 96)
        assert masks["embolus"].shape == masks["calcium"].shape == shape


def test_volumes_of_other_splits_reach_only_the_sink(tmp_path):
    result = write_cohort(
        few(CohortKind.CVD),
        tmp_path / "cvd",
        processes=1,
        volumes_for={Split.INTERNAL},
        sink=mean_hu,
        sink_for={Split.TRAIN},
    )
    imaging = pd.read_parquet(result.folder / "imaging.parquet")
    subjects = pd.read_parquet(result.folder / "subjects.parquet").set_index("subject_id")
    assert set(subjects.loc[imaging["subject_id"], "split"]) == {"internal"}
    assert set(subjects.loc[result.sink_subjects, "split"]) == {"train"}
    assert result.sink_arrays["mean"].shape == (len(result.sink_subjects), 1)


def test_a_failure_leaves_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match="sink array 'mean'"):
        write_cohort(few(), tmp_path / "pe", processes=1, volumes_for=(), sink=short_rows)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    with pytest.raises(CohortError, match="not empty"):
        write_cohort(few(), tmp_path / "full", processes=1)


def test_finish_sees_the_folder_before_it_is_published(tmp_path):
    def finish(folder, result):
        assert (folder / "cohort.yaml").is_file()
        assert not (tmp_path / "pe").exists()
        (folder / "extra.txt").write_text(str(result.subjects))

    write_cohort(few(), tmp_path / "pe", processes=1, volumes_for=(), finish=finish)
    assert (tmp_path / "pe" / "extra.txt").read_text() == "26"


def test_sizes_are_those_of_the_paper():
    paper = SIZES["paper"]
    for kind, train, internal, external in (
        (CohortKind.PE, 3099, 1098, 435),
        (CohortKind.CVD, 2951, 837, 682),
    ):
        counts = paper[kind]
        assert counts[Split.TRAIN] + counts[Split.TUNING] == train
        assert counts[Split.TUNING] / train == pytest.approx(0.15, abs=0.001)
        assert (counts[Split.INTERNAL], counts[Split.EXTERNAL]) == (internal, external)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="pe, cvd"):
        plan("echo", "small", 0)
    with pytest.raises(ValueError, match="tiny, small, paper"):
        plan("pe", "huge", 0)


# ---------------------------------------------------------------- the truth


def c_index(frame, risk):
    return concordance_index(frame["time_days"], -risk, frame["event"])


def part(frame, kind, modality):
    names = [t.name for t in HAZARDS[kind].terms if t.modality == modality]
    return frame[[f"term_{name}" for name in names]].sum(axis=1)


@pytest.mark.parametrize("split", ["internal", "external"])
def test_both_modalities_matter_for_pe(large, split):
    frame = large[CohortKind.PE].query("split == @split")
    assert 0.79 < c_index(frame, frame["true_log_hazard"]) < 0.84
    assert 0.68 < c_index(frame, part(frame, CohortKind.PE, "ct")) < 0.74
    assert 0.69 < c_index(frame, part(frame, CohortKind.PE, "ehr")) < 0.75
    assert 0.35 < frame["event"].mean() < 0.46


def test_the_pe_record_says_little_of_what_the_ct_shows(large):
    frame = large[CohortKind.PE]
    for ct in ("term_clot_burden", "term_rv_lv_ratio"):
        for record in ("term_troponin", "term_shock_index", "term_age", "term_cancer"):
            assert abs(frame[ct].corr(frame[record])) < 0.35


def test_the_interaction_adds_to_the_main_effects(large):
    frame = large[CohortKind.PE]
    additive = part(frame, CohortKind.PE, "ct") + part(frame, CohortKind.PE, "ehr")
    assert c_index(frame, frame["true_log_hazard"]) - c_index(frame, additive) > 0.01


@pytest.mark.parametrize("split", ["internal", "external"])
def test_the_record_carries_most_of_cvd(large, split):
    frame = large[CohortKind.CVD].query("split == @split")
    record = c_index(frame, part(frame, CohortKind.CVD, "ehr"))
    whole = c_index(frame, frame["true_log_hazard"])
    assert 0.74 < record < 0.79
    assert 0.60 < c_index(frame, part(frame, CohortKind.CVD, "ct")) < 0.67
    assert 0.0 < whole - record < 0.016


def test_the_external_site_is_older_and_misses_more(large):
    for frame in large.values():
        inside, outside = (frame[frame["split"] == s] for s in ("internal", "external"))
        assert outside["age_years"].mean() - inside["age_years"].mean() > 3
        assert outside["noise_hu"].iloc[0] > inside["noise_hu"].iloc[0]
        for name in ("has_ct", "has_record"):
            assert 0.01 < 1 - inside[name].mean() < 0.05
            assert 0.08 < 1 - outside[name].mean() < 0.12
        assert (frame["has_ct"] | frame["has_record"]).all()


def test_the_surrogate_agrees_with_the_rendered_scans(written):
    rendered = pd.read_parquet(written.folder / "truth/patients.parquet")
    quick = simulate_patients(few())
    close = np.abs(rendered["clot_burden_percent"] - quick["clot_burden_percent"])
    assert close.max() < 12
    assert np.allclose(rendered["rv_lv_ratio"], quick["rv_lv_ratio"], atol=0.05)
