import hashlib
import re

import numpy as np
import pandas as pd
import pytest
from lifelines.utils import concordance_index
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sksurv.linear_model import CoxPHSurvivalAnalysis

from analysis.cohort.check import check_cohort
from analysis.cohort.cohort import Cohort
from analysis.cohort.importers.hancock_columns import BLOOD, CLINICAL, PATHOLOGICAL
from analysis.cohort.schema import CohortError, Split
from sample_data import hnscc_cohort
from sample_data.hnscc_bags import LARGEST, STAINS, STEP, TISSUES, WIDTH, draw_cores, draw_slide
from sample_data.hnscc_cohort import (
    COLUMNS,
    SIZES,
    HnsccPlan,
    hnscc_plan,
    simulate_hnscc_patients,
    write_hnscc_cohort,
)
from sample_data.hnscc_missing import chance_of, present
from sample_data.hnscc_outcomes import (
    DEATH_5Y,
    HORIZON_DAYS,
    NOISE,
    OVERALL,
    RECURRENCE_FREE,
    TERMS,
)
from sample_data.hnscc_patients import MODALITIES, SHOWN, TABLES, draw_hnscc_patient
from sample_data.hnscc_tables import draw_cell_density

TERM = [f"term_{OVERALL}_{term.name}" for term in TERMS]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_hnscc_cohort(hnscc_plan("tiny", 0), tmp_path_factory.mktemp("one") / "hnscc")


@pytest.fixture(scope="module")
def large():
    counts = {Split.TRAIN: 3500, Split.INTERNAL: 3500, Split.EXTERNAL: 1000}
    return simulate_hnscc_patients(HnsccPlan(seed=5, counts=counts))


def table(written, name):
    return pd.read_parquet(written.folder / name)


def digests(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# ---------------------------------------------------------------- the folder


def test_the_check_finds_nothing_and_the_columns_are_hancocks(written):
    assert [str(problem) for problem in check_cohort(written.folder, deep=True)] == []
    cohort = Cohort.open(written.folder)
    assert tuple(cohort.spec.modalities) == MODALITIES
    assert cohort.spec.provenance.simulated
    for name, source in (("clinical", CLINICAL), ("pathological", PATHOLOGICAL), ("blood", BLOOD)):
        columns = cohort.spec.modalities[name].columns
        assert columns == {key: item.column for key, item in source.items()}
    assert cohort.subjects["split"].value_counts().to_dict() == {
        split.value: n for split, n in SIZES["tiny"].items()
    }
    assert set(cohort.subjects.groupby("split")["site"].unique()["external"]) == {"C"}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(written, tmp_path):
    seen = []
    again = write_hnscc_cohort(
        hnscc_plan("tiny", 0), tmp_path / "hnscc", progress=lambda *at: seen.append(at)
    )
    assert digests(again.folder) == digests(written.folder)
    assert seen[-1] == (100, 100)
    other = draw_hnscc_patient(0, 1, Split.TRAIN)
    assert other.latent != draw_hnscc_patient(0, 0, Split.TRAIN).latent
    with pytest.raises(CohortError, match="not empty"):
        write_hnscc_cohort(hnscc_plan("tiny", 0), tmp_path / "hnscc")


def test_sizes_and_unknown_ones():
    assert sum(SIZES["paper"].values()) == 763
    assert 763 <= sum(SIZES["small"].values()) <= 900
    with pytest.raises(ValueError, match="tiny, small, paper"):
        hnscc_plan("huge", 0)


def test_the_quick_simulation_gives_the_written_patients(written):
    _, quick = simulate_hnscc_patients(hnscc_plan("tiny", 0))
    truth = table(written, "truth/patients.parquet")
    assert np.array_equal(quick[list(truth)].to_numpy(object), truth.to_numpy(object))
    outcomes = table(written, "outcomes.parquet")
    deaths = outcomes[outcomes["task"] == OVERALL]
    assert np.array_equal(deaths["time_days"], quick["time_days"])
    assert np.array_equal(deaths["event"], quick["event"])


def test_outcomes_agree_with_each_other(written):
    cohort = Cohort.open(written.folder)
    ids = cohort.subject_ids()
    death, recurrence = cohort.outcomes(OVERALL, ids), cohort.outcomes(RECURRENCE_FREE, ids)
    assert len(death) == len(recurrence) == 100
    assert (recurrence.time_days <= death.time_days).all()
    assert (recurrence.event >= death.event).all()
    label = cohort.outcomes(DEATH_5Y, ids)
    known = death.event | (death.time_days >= HORIZON_DAYS)
    assert label.subject_ids.tolist() == death.subject_ids[known].tolist()
    assert np.array_equal(label.label == 1, (death.event & (death.time_days <= 1826))[known])
    assert 0 < len(label.without) < 60


# ---------------------------------------------------------------- bags


def test_bags_are_as_their_truth_says(written):
    cohort = Cohort.open(written.folder)
    told = table(written, "truth/bag_instances.parquet")
    assert set(told["modality"]) == {"wsi", "tma"}
    for name in ("wsi", "tma"):
        bag, rows = cohort.bag(name), told[told["modality"] == name]
        owner = np.repeat(bag.subject_ids, np.diff(bag.starts))
        assert rows["subject_id"].tolist() == owner.tolist()
        assert rows["instance"].tolist() == list(bag.instances)
        assert bag.features.shape == (len(rows), WIDTH)
        assert np.array_equal(bag.features, np.round(bag.features / STEP) * STEP)
        assert np.abs(bag.features).max() <= LARGEST
    assert (written.tiles, written.cores) == tuple(
        int((told["modality"] == name).sum()) for name in ("wsi", "tma")
    )
    slide = told[told["modality"] == "wsi"].groupby("subject_id")
    assert slide.size().between(12, 24).all()
    assert (slide["tumour"].sum() >= 2).all()
    assert 0.2 < slide["tumour"].mean().mean() < 0.5
    assert set(told.loc[told["modality"] == "wsi", "tissue"]) == set(TISSUES)
    shows = told[told["modality"] == "wsi"].groupby("tissue")["carries"].unique()
    assert shows["tumour"].tolist() == ["aggression, budding, p16"]
    assert shows["tumour stroma"].tolist() == ["exclusion"]
    assert shows["muscle"].tolist() == [""]
    cores = told[told["modality"] == "tma"]
    assert set(cores["instance"].str.split(", ").str[0]) == set(STAINS)
    assert (cores.loc[cores["instance"].str.startswith(("CD56", "CD163")), "carries"] == "").all()
    assert (cores.loc[~cores["tumour"], "carries"] == "").all()
    assert cores.groupby("subject_id").size().between(8, 16).all()


def test_only_instances_that_carry_a_quantity_follow_it():
    """Regress the patient's value on instances of each kind; nothing but what is said fits."""
    patients = [draw_hnscc_patient(n, 11, Split.TRAIN) for n in range(160)]
    slides = [draw_slide(p, 12, 16) for p in patients]
    budding = np.array([p.shown["wsi"]["budding"] for p in patients])
    exclusion = np.array([p.shown["wsi"]["exclusion"] for p in patients])

    def fit(target, wanted):
        means = [s.features[[t in wanted for t in s.tissue]].mean(axis=0) for s in slides]
        return _held_out(np.array(means), target)

    assert fit(budding, {"tumour"}) > 0.9
    assert fit(exclusion, {"tumour stroma"}) > 0.9
    assert fit(budding, {"muscle", "keratin", "squamous epithelium"}) < 0.3
    assert fit(exclusion, {"tumour"}) < 0.3
    arrays = [draw_cores(p) for p in patients]
    means = [a.features[[c == "checkpoint" for c in a.carries]] for a in arrays]
    kept = [len(m) > 0 for m in means]
    shown = np.array([p.shown["tma"]["checkpoint"] for p in patients])[kept]
    assert _held_out(np.array([m.mean(axis=0) for m in means if len(m)]), shown) > 0.85


def _held_out(features, target):
    half = len(target) // 2
    centred = features - features[:half].mean(axis=0)
    gram = centred[:half] @ centred[:half].T + 200.0 * np.eye(half)
    weights = np.linalg.solve(gram, target[:half] - target[:half].mean())
    return np.corrcoef(centred[half:] @ centred[:half].T @ weights, target[half:])[0, 1]


# ---------------------------------------------------------------- truth and missing data


def test_the_log_hazard_is_the_sum_of_its_terms_and_they_are_as_stated(large):
    patients, truth = large
    assert np.allclose(truth[TERM].sum(axis=1), truth["true_log_hazard_overall_survival"])
    assert np.allclose(truth[f"term_{OVERALL}_budding"], 0.40 * truth["budding"])
    assert np.allclose(truth[f"term_{DEATH_5Y}_p16"], -0.9 * truth["p16_positive"])
    ages = np.array([p.tables["clinical"]["age_at_initial_diagnosis"] for p in patients])
    assert np.allclose(truth[f"term_{OVERALL}_age"], 0.25 * (ages - 61) / 10)
    for modality in MODALITIES:
        shown = [term for term in TERMS if modality in term.shown_by]
        assert bool(shown) == (modality != NOISE)
        for term in shown:
            if modality in SHOWN and term.name != "p16":
                assert term.name in SHOWN[modality]
    columns = {name for term in TERMS for name in term.columns}
    assert columns <= {name for table in COLUMNS.values() for name in table}
    said = [p.tables["clinical"]["primarily_metastasis"] for p in patients]
    agree = [float(p.metastasis) for p in patients]
    assert all(s is None or s == a for s, a in zip(said, agree, strict=True))


def test_a_hazard_refitted_to_the_outcomes_is_the_stated_one(large):
    _, truth = large
    values = truth[TERM].to_numpy()
    fitted = CoxPHSurvivalAnalysis(ties="breslow").fit(values, outcome(truth))
    assert fitted.coef_ == pytest.approx(1.0, abs=0.22)
    assert fitted.coef_.mean() == pytest.approx(1.0, abs=0.05)


def test_events_and_follow_up_are_like_hancocks(large):
    _, truth = large
    inside = truth[truth["split"] != "external"]
    assert 0.29 < inside["event"].mean() < 0.36
    assert 0.37 < inside["rfs_event"].mean() < 0.46
    assert 1200 < inside["time_days"].median() < 1700
    assert inside["time_days"].max() <= 5163
    assert 0.55 < inside["dead_5y"].notna().mean() < 0.72
    assert 0.15 < inside["p16_positive"].mean() < 0.22
    assert 0.26 < (inside["site"] == "B").mean() < 0.34


def test_modalities_are_missing_as_stated(large):
    patients, truth = large
    inside = truth["split"] != "external"
    for name, share in (("blood", 692 / 763), ("icd", 712 / 763)):
        assert truth[f"has_{name}"].mean() == pytest.approx(share, abs=0.012)
    by_site = truth.groupby("site")["has_tma"].mean()
    assert by_site.to_dict() == pytest.approx({"A": 0.99, "B": 0.55, "C": 0.75}, abs=0.03)
    assert not (truth["has_cell_density"] & ~truth["has_tma"]).any()
    ranks = pd.Series([p.tables["pathological"]["pT_stage"] for p in patients])
    early, late = ranks.between(1, 3), ranks >= 5  # T1 to T1b; T3 and T4
    assert truth.loc[early, "has_wsi"].mean() == pytest.approx(0.82, abs=0.025)
    assert truth.loc[late, "has_wsi"].mean() == pytest.approx(0.99, abs=0.01)
    assert truth.loc[inside, "has_wsi"].mean() == pytest.approx(709 / 763, abs=0.02)
    assert truth[["has_clinical", "has_pathological"]].all(axis=None)
    # at random: given what is stated, who has a modality tells nothing of the hazard
    for name in ("wsi", "tma", "blood"):
        chance = np.array([chance_of(p, name) for p in patients])
        left = truth[f"has_{name}"] - chance
        assert abs(np.corrcoef(left, truth["true_log_hazard_overall_survival"])[0, 1]) < 0.035
    gone = ~truth["has_wsi"]
    hazard = truth["true_log_hazard_overall_survival"]
    assert hazard[gone].mean() < hazard[~gone].mean() - 0.1  # but it does tell without the stage


def test_the_missing_pattern_is_written_down(written):
    cohort = Cohort.open(written.folder)
    truth = table(written, "truth/patients.parquet").set_index("subject_id")
    there = cohort.availability()
    for name in MODALITIES:
        assert there[name].tolist() == truth[f"has_{name}"].tolist()
    patterns = table(written, "truth/patterns.parquet")
    assert patterns["patients"].sum() == 100
    joined = truth.join(cohort.subjects[["split", "site"]])
    names = ["split", "site", *(f"has_{name}" for name in MODALITIES)]
    counted = joined.groupby(names).size()
    assert counted.to_dict() == patterns.set_index(names)["patients"].to_dict()
    stated = table(written, "truth/missing.parquet")
    assert set(stated["modality"]) == set(MODALITIES)
    depends = stated.groupby("modality")["depends_on"].first().to_dict()
    assert (depends["tma"], depends["wsi"], depends["blood"]) == ("site", "pT_stage", "")
    assert all(present(draw_hnscc_patient(n, 0, Split.TRAIN))["clinical"] for n in range(5))


# ---------------------------------------------------------------- what each modality can tell


def outcome(truth):
    pairs = zip(truth["event"].astype(bool), truth["time_days"], strict=True)
    return np.array(list(pairs), dtype=[("event", bool), ("time", float)])


def visible(patients, truth, modality):
    """(N, F): all that the modality shows, its own gaps marked."""
    if modality in SHOWN:
        columns = [truth[f"shown_{modality}_{name}"] for name in SHOWN[modality]]
        extra = [truth["p16_positive"].astype(float)] if modality == "wsi" else []
        return np.column_stack([*columns, *extra])
    frame = pd.DataFrame([p.tables[modality] for p in patients])
    parts = []
    for name, column in COLUMNS[modality].items():
        if column.kind == "nominal":
            parts += [(frame[name] == level).astype(float) for level in column.categories[1:]]
            continue
        values = pd.to_numeric(frame[name])
        values = np.log1p(values) if modality in ("blood", "cell_density") else values
        parts += [values.fillna(values.median()), values.isna().astype(float)]
    return np.column_stack(parts)


def told(features, truth):
    """(C of overall survival, AUC of death within five years) on the internal half."""
    train, test = (truth["split"] == "train").to_numpy(), (truth["split"] == "internal").to_numpy()
    spread = features[train].std(axis=0)
    z = (features[:, spread > 0.01] - features[train][:, spread > 0.01].mean(axis=0)) / spread[
        spread > 0.01
    ]
    cox = CoxPHSurvivalAnalysis(alpha=0.1, ties="breslow").fit(z[train], outcome(truth[train]))
    c = concordance_index(truth["time_days"][test], -cox.predict(z[test]), truth["event"][test])
    known = truth["dead_5y"].notna().to_numpy()
    logit = LogisticRegression(max_iter=500).fit(z[train & known], truth["dead_5y"][train & known])
    score = logit.decision_function(z[test & known])
    return c, roc_auc_score(truth["dead_5y"][test & known], score)


def test_modalities_tell_something_alone_more_together_and_noise_nothing(large):
    patients, truth = large
    shown = {name: visible(patients, truth, name) for name in MODALITIES}
    alone = {name: told(features, truth) for name, features in shown.items()}
    together = told(np.hstack(list(shown.values())), truth)
    inside = truth[truth["split"] == "internal"]
    hazard = inside["true_log_hazard_overall_survival"]
    known = inside["dead_5y"].notna()
    ceiling = concordance_index(inside["time_days"], -hazard, inside["event"])
    ceiling_auc = roc_auc_score(inside["dead_5y"][known], hazard[known])
    found = {**alone, "all together": together, "the formula": (ceiling, ceiling_auc)}
    rows = re.findall(
        r"^    ([a-z][a-z_ ]*?) {2,}(0\.\d\d) {3}(0\.\d\d)$", hnscc_cohort.__doc__ or "", re.M
    )
    stated = {name: (float(c), float(auc)) for name, c, auc in rows}
    assert set(stated) == {*MODALITIES, "all together", "the formula"}
    for name, pair in stated.items():
        assert found[name] == pytest.approx(pair, abs=0.03), name
    assert alone[NOISE] == pytest.approx((0.5, 0.5), abs=0.025)
    for at in (0, 1):
        best = max(pair[at] for pair in alone.values())
        assert best + 0.06 < together[at] < found["the formula"][at] + 0.005


def test_one_modality_stands_in_for_another(large):
    """Redundancy: slide and microarray each tell of aggression, and both tell more."""
    _, truth = large
    slide, array = truth["shown_wsi_aggression"], truth["shown_tma_aggression"]
    own = truth["aggression"]
    assert own.corr(slide) == pytest.approx(0.85, abs=0.02)
    assert own.corr(array) == pytest.approx(0.75, abs=0.02)
    assert slide.corr(array) == pytest.approx(0.85 * 0.75, abs=0.03)
    both = np.linalg.lstsq(np.column_stack([slide, array]), own, rcond=None)[0]
    assert np.corrcoef(np.column_stack([slide, array]) @ both, own)[0, 1] > 0.87
    for name in ("budding", "checkpoint", "inflammation", "extent"):
        assert abs(own.corr(truth[name])) < 0.04


def test_cell_density_is_drawn_from_nothing_of_the_patient(large):
    patients, truth = large
    counts = np.array([list(p.tables[NOISE].values()) for p in patients], float)
    logs = np.log1p(np.where(np.isnan(counts), np.nanmedian(counts, axis=0), counts))
    for name in ("extent", "aggression", "exclusion", "frailty", "budding", "inflammation"):
        assert all(abs(np.corrcoef(logs[:, k], truth[name])[0, 1]) < 0.04 for k in range(4))
    assert np.corrcoef(logs.T)[0, 1] > 0.45
    again = [draw_cell_density(np.random.default_rng(3)) for _ in range(2)]
    assert again[0] == again[1]
    assert set(TABLES) == set(COLUMNS)
