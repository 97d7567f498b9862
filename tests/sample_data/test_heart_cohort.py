import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lifelines.utils import concordance_index
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from analysis.cohort.check import check_cohort
from analysis.cohort.cohort import Cohort
from analysis.cohort.readers.echo import read_cine
from analysis.cohort.readers.signal import read_signal
from analysis.cohort.schema import CohortError, Split
from analysis.cohort.truth import read_echo_masks
from analysis.echo import end_diastoles
from sample_data.heart import LEADS, VIEWS, Heart
from sample_data.heart_cohort import (
    SIZES,
    HeartPlan,
    draw,
    heart_plan,
    loop_of,
    simulate_heart_patients,
    tracing_of,
    write_heart_cohort,
)
from sample_data.heart_labs import LAB_COLUMNS
from sample_data.heart_outcomes import HF, INCIDENT_HF, INTERCEPT, TERMS
from sample_data.heart_truth import findings, truth_row

FEW = {Split.TRAIN: 6, Split.TUNING: 2, Split.INTERNAL: 2, Split.EXTERNAL: 1}
PLAN = HeartPlan(seed=3, counts=FEW)
FILES = {Split.INTERNAL}


def sizes():
    """A sink factory; of the module, so that a worker process can import it."""
    return lambda recordings: {
        "ecg": np.array([[0.0 if r.ecg is None else r.ecg.std()] for r in recordings]),
        "loops": np.array([[len(r.loops)] for r in recordings]),
    }


def short_rows():
    return lambda recordings: {"ecg": np.zeros(len(recordings) - 1)}


def write(plan, out, **options):
    return write_heart_cohort(
        plan, out, files_for=FILES, sink=sizes, sink_for={Split.TUNING}, **options
    )


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def table(written, name):
    return pd.read_parquet(written.folder / name)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write(PLAN, tmp_path_factory.mktemp("one") / "hf", processes=1)


@pytest.fixture(scope="module")
def patients():
    """{subject_id: HeartPatient} of the plan."""
    drawn = (draw(PLAN, number, split)[0] for number, split in enumerate(PLAN.splits()))
    return {patient.subject_id: patient for patient in drawn}


@pytest.fixture(scope="module")
def large():
    """Thousands of patients, not rendered: (patients, truth)."""
    plan = HeartPlan(seed=11, counts={Split.INTERNAL: 3000, Split.EXTERNAL: 900})
    drawn = [draw(plan, number, split) for number, split in enumerate(plan.splits())]
    rows = [
        {
            **truth_row(patient, outcome),
            "split": patient.split.value,
            "age_years": patient.age_years,
            "label": int(outcome.prevalent),
            "time_days": outcome.time_days,
            "event": outcome.event,
        }
        for patient, outcome in drawn
    ]
    return [patient for patient, _ in drawn], pd.DataFrame(rows)


# ---------------------------------------------------------------- files


def test_two_processes_write_the_same_bytes_as_one(written, tmp_path):
    seen = []
    again = write(PLAN, tmp_path / "hf", processes=2, progress=lambda *at: seen.append(at))
    assert digests(again.folder) == digests(written.folder)
    assert again.sink_subjects.tolist() == written.sink_subjects.tolist()
    for name in ("ecg", "loops"):
        assert np.array_equal(again.sink_arrays[name], written.sink_arrays[name])
    assert seen == [(8, 11), (11, 11)]


def test_the_folder_opens_and_its_tables_agree(written, patients):
    cohort = Cohort.open(written.folder)
    subjects = cohort.subjects
    assert subjects["split"].value_counts().to_dict() == {k.value: v for k, v in FEW.items()}
    assert set(subjects.loc[subjects["split"] == "external", "site"]) == {"B"}
    having = {name: set(cohort.having(name).tolist()) for name in cohort.spec.modalities}
    filed = {s for s, p in patients.items() if p.split in FILES}
    assert having["labs"] == {s for s, p in patients.items() if p.has_labs}
    assert having["ecg"] == {s for s in filed if patients[s].has_ecg}
    assert having["echo"] == {s for s in filed if patients[s].has_echo}
    for subject, views in cohort.videos("echo").items():
        assert set(views) == set(patients[subject].heart.views)
    assert (written.tracings, written.loops) == (
        len(having["ecg"]),
        sum(len(patients[s].heart.views) for s in having["echo"]),
    )
    outcomes = cohort.outcomes(HF, cohort.subject_ids())
    assert len(outcomes) == PLAN.total
    followed = cohort.outcomes(INCIDENT_HF, cohort.subject_ids())
    prevalent = set(outcomes.subject_ids[outcomes.label == 1].tolist())
    assert followed.time_days is not None
    assert len(followed) > 0
    assert not prevalent & set(followed.subject_ids.tolist())
    assert ((followed.time_days > 0) & (followed.time_days <= 1461)).all()


def test_the_deep_check_finds_no_error(written):
    problems = check_cohort(written.folder, deep=True)
    assert not [str(problem) for problem in problems if problem.severity == "error"]


def test_the_table_shows_the_values_of_the_patient_or_nothing(written, patients):
    labs = table(written, "tables/labs.parquet").set_index("subject_id")
    assert list(labs.columns) == list(LAB_COLUMNS)
    for subject, row in labs.iterrows():
        for name, value in row.items():
            if name in patients[subject].measured:
                assert value == patients[subject].labs[name]
            else:
                assert pd.isna(value)


def test_files_hold_what_was_rendered(written, patients):
    cohort = Cohort.open(written.folder)
    loops = table(written, "truth/echo_loops.parquet").set_index(["subject_id", "view"])
    for subject, path in cohort.signals("ecg").items():
        signal = read_signal(path)
        assert tuple(signal.leads) == LEADS
        assert np.abs(signal.array - tracing_of(patients[subject]).array).max() <= 0.0026
    subject, views = next(iter(cohort.videos("echo").items()))
    masks = read_echo_masks(written.folder, subject)
    assert set(masks) == set(views)
    for view in list(views)[:4]:
        loop, cine = loop_of(patients[subject], view), read_cine(views[view])
        assert np.array_equal(cine.frames, loop.frames)
        assert cine.mm_per_pixel == pytest.approx(loop.mm_per_pixel, rel=1e-4)
        assert set(masks[view]) == set(loop.masks)
        assert all(np.array_equal(masks[view][name], loop.masks[name]) for name in loop.masks)
        assert loops.loc[(subject, view), "ed_frame"] == loop.ed_frame
        assert loops.loc[(subject, view), "es_frame"] == loop.es_frame
        # The file states the R waves as a machine does; its end-diastole is the truth's, or the
        # frame before where the R wave came between the two.
        assert cine.r_waves_ms == pytest.approx(loop.r_waves_ms, abs=0.01)
        assert cine.rate_bpm == round(patients[subject].heart.rate_bpm)
        found = end_diastoles(cine.frame_times_ms, cine.r_waves_ms)
        assert min(abs(at - loop.ed_frame) for at in found) <= 1


def test_records_of_other_splits_reach_only_the_sink(written, patients):
    expected = [s for s, p in patients.items() if p.split is Split.TUNING]
    expected = [s for s in expected if patients[s].has_ecg or patients[s].has_echo]
    assert written.sink_subjects.tolist() == expected
    for row, subject in enumerate(expected):
        patient = patients[subject]
        views = len(patient.heart.views) if patient.has_echo else 0
        assert written.sink_arrays["loops"][row, 0] == views
        level = tracing_of(patient).array.std() if patient.has_ecg else 0.0
        assert written.sink_arrays["ecg"][row, 0] == pytest.approx(level)


def test_a_failure_leaves_nothing_behind_and_finish_sees_the_folder(tmp_path):
    plan = HeartPlan(seed=1, counts={Split.TRAIN: 4})
    with pytest.raises(ValueError, match="sink array 'ecg'"):
        write_heart_cohort(plan, tmp_path / "hf", processes=1, files_for=(), sink=short_rows)
    assert list(tmp_path.iterdir()) == []

    def finish(folder, result):
        assert not (tmp_path / "hf").exists()
        (folder / "extra.txt").write_text(str(result.subjects))

    write_heart_cohort(plan, tmp_path / "hf", processes=1, files_for=(), finish=finish)
    assert (tmp_path / "hf" / "extra.txt").read_text() == "4"
    with pytest.raises(CohortError, match="not empty"):
        write_heart_cohort(plan, tmp_path / "hf", processes=1)


def test_sizes_and_unknown_ones():
    assert sum(SIZES["paper"].values()) == 1524
    train, tuning, internal = (SIZES["paper"][s] for s in list(Split)[:3])
    assert train / tuning == pytest.approx(5, abs=0.02)
    assert tuning == internal
    assert heart_plan("paper", 0).followed == pytest.approx(0.5576, abs=1e-4)
    with pytest.raises(ValueError, match="tiny, small, paper"):
        heart_plan("huge", 0)


def test_the_quick_simulation_gives_the_written_patients(written):
    quick = simulate_heart_patients(PLAN)
    truth = table(written, "truth/patients.parquet")
    assert np.array_equal(quick[list(truth)].to_numpy(object), truth.to_numpy(object))
    outcomes = table(written, "outcomes.parquet")
    labels = outcomes[outcomes["task"] == HF].sort_values("subject_id")["label"]
    assert quick["label"].tolist() == labels.tolist()
    paper = simulate_heart_patients(heart_plan("paper", 0))
    assert paper["event"].notna().sum() == pytest.approx(455, abs=45)


# ---------------------------------------------------------------- the truth


def test_the_truth_is_the_sum_of_its_terms_and_the_terms_are_as_stated(written, patients):
    truth = table(written, "truth/patients.parquet").set_index("subject_id")
    hf, incident = (truth.filter(regex=f"^term_{task}_").sum(axis=1) for task in TERMS)
    assert np.allclose(hf + INTERCEPT, truth["true_logit_hf"])
    assert np.allclose(incident, truth["true_log_hazard_incident_hf"])
    ejection = 0.10 * (62.0 - 100.0 * truth["ejection_fraction"])
    assert np.allclose(truth["term_hf_ejection_fraction"], ejection)
    assert np.allclose(truth["term_hf_atrial_fibrillation"], 1.4 * (truth["rhythm"] == "af"))
    assert np.allclose(truth["term_incident_hf_wall_thickness"], 0.36 * (truth["wall_mm"] - 10.0))
    diabetes = [p.lab("history_diabetes") for p in patients.values()]
    assert np.allclose(truth["term_incident_hf_diabetes"], 0.75 * np.array(diabetes))
    causal = table(written, "truth/lab_columns.parquet")
    assert set(causal["column"]) <= set(LAB_COLUMNS)
    assert set(causal.query("task == 'incident_hf'")["column"]) == {
        "age",
        "history_diabetes",
        "history_hypertension",
    }


def test_segments_say_which_wave_carries_what(written, patients):
    segments = table(written, "truth/ecg_segments.parquet")
    assert set(segments["subject_id"]) == {s for s, p in patients.items() if p.has_ecg}
    assert set(segments["segment"]) <= {"P", "QRS", "ST", "T", "TQ"}
    for subject, rows in segments.groupby("subject_id"):
        carried = {(row.segment, row.task, row.carries) for row in rows.itertuples() if row.carries}
        found = findings(patients[subject].heart)
        assert carried == {(wave, *pair) for wave, pair in found.items()}
    assert findings(Heart()) == {}
    block = findings(Heart(block="left", qrs_ms=150.0))
    assert block["QRS"] == (HF, "left bundle branch block")
    assert block["T"] == (INCIDENT_HF, "inverted lateral T waves")
    large = findings(Heart(rhythm="af", voltage=1.6, qrs_ms=114.0))
    assert large == {
        "QRS": (HF, "wide QRS; high QRS voltage"),
        "TQ": (HF, "atrial fibrillation"),
    }


def test_prevalence_follow_up_and_events(large):
    _, truth = large
    inside = truth[truth["split"] == "internal"]
    assert 0.43 < inside["label"].mean() < 0.49
    free = inside[inside["label"] == 0]
    assert 0.87 < free["event"].notna().mean() < 0.93
    assert not inside.loc[inside["label"] == 1, "event"].notna().any()
    followed = free[free["event"].notna()]
    assert 0.26 < followed["event"].mean() < 0.32
    whole = concordance_index(
        followed["time_days"], -followed["true_log_hazard_incident_hf"], followed["event"]
    )
    assert 0.75 < whole < 0.80
    for modality in ("labs", "ecg", "echo"):
        names = [f"term_incident_hf_{t.name}" for t in TERMS[INCIDENT_HF] if t.modality == modality]
        alone = concordance_index(
            followed["time_days"], -followed[names].sum(axis=1), followed["event"]
        )
        assert 0.62 < alone < 0.70


def visible(patients, modality):
    """(N, F): all that the modality shows, its truth without gaps."""
    if modality == "labs":
        logs = ("nt_probnp", "creatinine", "urea_nitrogen", "troponin_t", "glucose")
        names = [name for name, column in LAB_COLUMNS.items() if column.kind != "nominal"]
        return np.array(
            [[np.log(p.lab(n)) if n in logs else p.lab(n) for n in names] for p in patients]
        )
    hearts = [p.heart for p in patients]
    if modality == "ecg":
        names = ("rate_bpm", "pr_ms", "qrs_ms", "qtc_ms", "axis_deg", "voltage", "t_inversion")
        columns = [[getattr(h, n) for n in names] for h in hearts]
        kinds = [[h.rhythm == "af", h.block == "left", h.block == "right"] for h in hearts]
        return np.hstack([columns, kinds])
    names = ("ejection_fraction", "lv_diameter_mm", "la_diameter_mm", "wall_mm", "rv_diameter_mm")
    return np.array([[getattr(h, n) for n in (*names, "regurgitation")] for h in hearts])


def auc(parts, label):
    features = StandardScaler().fit_transform(np.hstack(parts))
    half = len(label) // 2
    model = LogisticRegression(max_iter=300).fit(features[:half], label[:half])
    return roc_auc_score(label[half:], model.decision_function(features[half:]))


def test_each_modality_tells_as_much_as_in_the_paper_and_together_they_tell_more(large):
    patients, truth = large
    label = truth["label"].to_numpy()[:3000]
    shown = {m: visible(patients[:3000], m) for m in ("labs", "ecg", "echo")}
    alone = {name: auc([part], label) for name, part in shown.items()}
    pairs = [auc([shown[a], shown[b]], label) for a, b in (("labs", "ecg"), ("labs", "echo"))]
    whole = auc(list(shown.values()), label)
    assert all(0.79 < value < 0.85 for value in alone.values()), alone
    assert min(pairs) > max(alone.values()) + 0.02
    assert 0.905 < whole < 0.945
    assert whole > max(pairs) + 0.01
    assert roc_auc_score(label, truth["true_logit_hf"][:3000]) >= whole - 0.01


def test_what_is_missing_is_missing_as_often_as_stated(large):
    patients, truth = large
    inside = [p for p in patients if p.split is Split.INTERNAL]
    for name, share in (("has_labs", 0.03), ("has_ecg", 0.08), ("has_echo", 0.12)):
        absent = 1 - truth.loc[truth["split"] == "internal", name].mean()
        assert absent == pytest.approx(share, abs=0.015)
    assert truth[["has_labs", "has_ecg", "has_echo"]].any(axis=1).all()
    missing = {v: np.mean([v not in p.heart.views for p in inside]) for v in VIEWS}
    assert missing.pop("A5C") == pytest.approx(0.38, abs=0.03)
    assert all(0.03 < share < 0.28 for share in missing.values())
    gaps = {n: np.mean([n not in p.measured for p in inside]) for n in LAB_COLUMNS}
    assert gaps["age"] == 0
    assert gaps["troponin_t"] == pytest.approx(0.30, abs=0.03)
    assert all(share < 0.33 for share in gaps.values())


def test_the_external_site_is_older_noisier_and_misses_more(large):
    patients, truth = large
    outside = truth["split"] == "external"
    assert truth.loc[outside, "age_years"].mean() - truth.loc[~outside, "age_years"].mean() > 2.5
    assert truth.loc[outside, "noise_mv"].median() > 1.5 * truth.loc[~outside, "noise_mv"].median()
    assert truth.loc[outside, "has_echo"].mean() < truth.loc[~outside, "has_echo"].mean() - 0.03
    measured = pd.Series([len(p.measured) for p in patients])
    assert measured[outside].mean() < measured[~outside].mean() - 0.5


def test_values_are_physiological(large):
    patients, truth = large
    labs = pd.DataFrame([dict(p.labs) for p in patients])
    assert 136 < labs["sodium"].median() < 142
    assert 0.8 < labs["creatinine"].median() < 1.2
    assert 300 < labs["nt_probnp"].median() < 1500
    assert labs["nt_probnp"].skew() > 3  # log-normal
    assert abs(np.log(labs["nt_probnp"]).skew()) < 0.3
    bmi = labs["weight"] / (labs["height"] / 100) ** 2
    assert np.abs(labs["bmi"] - bmi).max() < 0.06
    by_label = labs["nt_probnp"].groupby(truth["label"]).median()
    assert by_label[1] > 2 * by_label[0]
    blocked = truth["block"] == "left"
    assert (truth.loc[blocked, "qrs_ms"] >= 120).all()
    assert (truth.loc[truth["block"] == "none", "qrs_ms"] < 120).all()
    assert 0.06 < blocked.mean() < 0.15
    assert 0.09 < (truth["rhythm"] == "af").mean() < 0.20
    assert truth["wall_mm"].between(6, 19).all()
    assert labs["history_atrial_fibrillation"].corr(truth["rhythm"] == "af") > 0.4
