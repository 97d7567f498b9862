"""The patient desk: who is listed, what is said of them, and nothing shown for somebody else."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from analysis.attribution.case import AttributionError
from analysis.attribution.regions import token_regions
from analysis.attribution.target import LogRisk, Survival
from analysis.cohort.cohort import Cohort
from analysis.cohort.readers.volume import Volume
from analysis.cohort.write import write_outcomes
from analysis.outlook import SurvivalOutlook, percentile
from analysis.predict import predict, predict_stored
from analysis.whatif import Change
from app import patients as module
from app.panels import frame
from app.panels.patient_attention import nearest_region, region_weights, short_place
from app.panels.patient_ct import distinct
from app.panels.patient_header import Shown
from app.panels.patient_picker import label
from app.panels.patient_whatif import Asked, _after, change_of, part_names
from app.patients import PatientDesk, modalities_of, titles_of
from app.workspace import Task, Workspace
from models.contracts import Kind, VoxelGrid
from tests.app.toy import BROKEN_RUN, rename_run, train

NOBODY_KNOWS = [5, 200, 300]  # patients whose outcome is taken away below


@pytest.fixture(scope="module")
def folder(workspace_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which three patients have no outcome."""
    copy = tmp_path_factory.mktemp("desk") / "workspace"
    shutil.copytree(workspace_folder, copy, ignore=shutil.ignore_patterns("results"))
    path = copy / "cohorts" / "pe" / "outcomes.parquet"
    outcomes = pd.read_parquet(path)
    path.unlink()
    write_outcomes(path.parent, outcomes[~outcomes["subject_id"].isin(NOBODY_KNOWS)])
    return copy


@pytest.fixture
def desk(folder: Path) -> PatientDesk:
    return PatientDesk(Workspace(folder))


@pytest.fixture
def task(desk: PatientDesk) -> Task:
    return next(t for t in desk.workspace.tasks() if t.cohort == "pe")


# ---------------------------------------------------------------- the list


def test_everybody_is_listed_test_patients_first(desk, task):
    run = desk.workspace.run("pe-late")
    listing = desk.listing(task, run)
    cohort = desk.workspace.cohort("pe")
    assert sorted(listing.index) == cohort.subjects.index.tolist()
    assert list(dict.fromkeys(listing["split"])) == ["internal", "external", "tuning", "train"]
    for _, part in listing.groupby("split"):
        assert part.index.is_monotonic_increasing
    there = cohort.availability()
    for name in ("imaging", "ehr", "labs"):
        assert listing[f"has {name}"].equals(there[name].loc[listing.index].rename(f"has {name}"))
    assert listing["age_years"].eq(60).all()


def test_patients_without_an_outcome_are_listed_with_a_risk(desk, task):
    run = desk.workspace.run("pe-late")
    listing = desk.listing(task, run)
    lost = listing.loc[NOBODY_KNOWS]
    assert lost["time_days"].isna().all()
    assert lost["event"].isna().all()
    assert lost["risk"].notna().all()
    assert lost["percentile"].between(0, 100).all()
    known = listing.drop(NOBODY_KNOWS)
    truth = desk.workspace.cohort("pe").outcomes("mortality", known.index)
    np.testing.assert_array_equal(known["time_days"], truth.time_days)
    np.testing.assert_array_equal(known["event"].astype(bool), truth.event)


def test_risks_are_the_runs_and_percentiles_those_of_its_training_patients(desk, task):
    run = desk.workspace.run("pe-late")
    cohort = desk.workspace.cohort("pe")
    listing = desk.listing(task, run)
    made = predict(run, cohort, listing.index.to_numpy())
    np.testing.assert_allclose(listing["risk"], np.where(made.known, made.risk, np.nan), atol=1e-5)
    training = predict(run, cohort, cohort.subject_ids("train", "mortality")).risk
    assert len(training) == len(cohort.subject_ids("train")) - 1
    expected = [
        100 * ((training < r - 1e-6).mean() + 0.5 * (np.abs(training - r) <= 1e-6).mean())
        for r in made.risk
    ]
    np.testing.assert_allclose(listing["percentile"], np.where(made.known, expected, np.nan))
    # The list and the patient's own header say the same.
    for subject in (int(listing.index[0]), int(listing.index[-1])):
        shown = desk.outlook(desk.case(task, run, subject))
        assert shown.percentile == pytest.approx(listing.loc[subject, "percentile"])


def test_disagreement_counts_only_runs_whose_predictions_are_stored(folder, tmp_path):
    copy = tmp_path / "workspace"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("results"))
    desk = PatientDesk(Workspace(copy))
    task = next(t for t in desk.workspace.tasks() if t.cohort == "pe")
    run = desk.workspace.run("pe-late")
    alone = desk.listing(task, run)
    assert alone["compared"].eq(1).all()
    assert alone["disagreement"].isna().all()
    other = desk.workspace.run("pe-ehr")
    both = desk.listing(task, other)
    assert both["compared"].eq(2).all()
    again = desk.listing(task, run)
    gap = (again["percentile"] - both["percentile"].reindex(again.index)).abs()
    pd.testing.assert_series_equal(
        again["disagreement"][gap.notna()], gap[gap.notna()], check_names=False
    )
    assert again["disagreement"].max() > 10


def test_one_opinion_is_no_agreement(folder, tmp_path):
    """Disagreement about a patient whom one run alone can read is missing, not 0."""
    copy = tmp_path / "workspace"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("results"))
    desk = PatientDesk(Workspace(copy))
    task = next(t for t in desk.workspace.tasks() if t.cohort == "pe")
    desk.listing(task, desk.workspace.run("pe-ehr"))
    listing = desk.listing(task, desk.workspace.run("pe-ct"))
    one = listing["has imaging"] & ~listing["has ehr"]
    assert one.any()
    assert listing.loc[one, "percentile"].notna().all()
    assert listing.loc[one, "disagreement"].isna().all()
    two = listing["has imaging"] & listing["has ehr"]
    assert listing.loc[two, "disagreement"].notna().all()


def test_whom_the_run_cannot_read_has_no_risk(desk, task):
    listing = desk.listing(task, desk.workspace.run("pe-ehr"))
    blind = ~listing["has ehr"]
    assert blind.any()
    assert listing.loc[blind, ["risk", "percentile"]].isna().all(axis=None)
    assert listing.loc[~blind, ["risk", "percentile"]].notna().all(axis=None)
    with pytest.raises(AttributionError, match="none of the modalities"):
        desk.case(task, desk.workspace.run("pe-ehr"), int(listing.index[blind][0]))


def test_a_broken_run_beside_them_hides_nobody(desk, task):
    folder = desk.workspace.folder / "runs" / BROKEN_RUN
    assert folder.is_dir()
    assert len(desk.listing(task, desk.workspace.run("pe-late"))) == 430


def test_without_the_training_cohort_nobody_has_a_percentile(folder, tmp_path):
    """A run from elsewhere: it predicts, and how that compares is not known."""
    copy = tmp_path / "workspace"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("results"))
    # The cohort as another hospital's: neither its name nor its content is the training cohort's.
    spec = copy / "cohorts" / "pe" / "cohort.yaml"
    text = spec.read_text().replace("name: pe\n", "name: ours\nfollows: pe\n")
    assert "follows: pe" in text
    spec.write_text(text)
    desk = PatientDesk(Workspace(copy))
    task = next(t for t in desk.workspace.tasks() if t.cohort == "pe")
    run = desk.workspace.run("pe-late")
    assert desk.training_risks(run) is None
    listing = desk.listing(task, run)
    assert listing["risk"].notna().sum() > 400
    assert listing["percentile"].isna().all()
    shown = desk.outlook(desk.case(task, run, 1))
    assert isinstance(shown, SurvivalOutlook)
    assert np.isnan(shown.percentile)
    assert shown.n_training == 0
    assert 0 < shown.at_horizon < 1


# ---------------------------------------------------------------- one patient


def test_standing_is_among_the_training_patients(desk, task):
    run = desk.workspace.run("pe-late")
    cohort = desk.workspace.cohort("pe")
    expected = predict_stored(run, cohort, "train", desk.store).risk
    np.testing.assert_array_equal(desk.training_risks(run), expected)
    case = desk.case(task, run, 250)
    shown = desk.outlook(case)
    assert shown.n_training == len(expected)
    assert shown.percentile == percentile(shown.log_risk, expected)
    assert shown.horizon_days == 1000


def test_a_case_is_kept_by_what_the_run_is_not_by_its_name(desk, task, tmp_path):
    run = desk.workspace.run("pe-late")
    assert desk.case(task, run, 7) is desk.case(task, run, 7)
    other = desk.workspace.run("pe-co_attention")
    assert desk.case(task, other, 7).run is other
    # Retrained under the same name: another hash, another prediction.
    copy = tmp_path / "workspace"
    shutil.copytree(desk.workspace.folder, copy, ignore=shutil.ignore_patterns("results"))
    mine = PatientDesk(Workspace(copy))
    before = mine.case(task, mine.workspace.run("pe-late"), 7)
    shutil.rmtree(copy / "runs" / "pe-late")
    made = train(copy / "cohorts" / "pe", copy, "contrastive", "again")
    made.rename(copy / "runs" / "pe-late")
    rename_run(copy / "runs" / "pe-late", name="pe-late")
    after = mine.case(task, mine.workspace.run("pe-late"), 7)
    assert after.run.config.name == before.run.config.name
    assert after.run.hash != before.run.hash
    assert float(after.prediction[0, 0]) != float(before.prediction[0, 0])


def test_old_cases_are_let_go(desk, task, monkeypatch):
    monkeypatch.setattr(module, "KEPT_CASES", 2)
    run = desk.workspace.run("pe-late")
    first = desk.case(task, run, 1)
    second = desk.case(task, run, 2)
    assert desk.case(task, run, 1) is first  # used again: the other one is older now
    desk.case(task, run, 3)
    assert desk.case(task, run, 1) is first
    assert desk.case(task, run, 2) is not second


def test_targets_by_name(desk, task):
    run = desk.workspace.run("pe-late")
    case = desk.case(task, run, 1)
    assert isinstance(desk.target(run, "log_risk"), LogRisk)
    target = desk.target(run, "survival", [300])
    assert isinstance(target, Survival)
    shown = desk.outlook(case, 300)
    assert case.value(target)[0] == pytest.approx(shown.at_horizon, abs=1e-6)
    ledger = desk.ledger(case, target)
    assert float(ledger.whole[0]) == pytest.approx(shown.at_horizon, abs=1e-6)


def test_shares_and_neighbours_are_stored_once(desk, task, monkeypatch):
    run = desk.workspace.run("pe-late")
    case = desk.case(task, run, 1)
    first = desk.attribution(case, "imaging", LogRisk())
    from analysis.attribution import stored

    monkeypatch.setattr(stored, "explain_modality", None)
    again = desk.attribution(case, "imaging", LogRisk())
    np.testing.assert_array_equal(first.values, again.values)
    share = float(desk.ledger(case, LogRisk()).share("imaging")[0])
    assert float(first.values.sum()) == pytest.approx(share, abs=1e-5)
    similar = desk.similar(case, 5)
    splits = case.cohort.subjects.loc[similar["subject_id"], "split"]
    assert splits.eq("train").all()


def test_what_happened_is_asked_for_apart(desk, task):
    run = desk.workspace.run("pe-late")
    truth = desk.workspace.cohort("pe").outcomes("mortality", [1])
    seen = desk.observed(desk.case(task, run, 1))
    assert (seen.time_days, seen.event) == (truth.time_days[0], truth.event[0])
    assert desk.observed(desk.case(task, run, NOBODY_KNOWS[0])) is None


def test_modalities_and_titles(desk, task):
    case = desk.case(task, desk.workspace.run("pe-late"), 1)
    assert modalities_of(case, Kind.TABLE) == ["imaging", "labs"]
    assert modalities_of(case, Kind.EVENTS) == ["ehr"]
    assert titles_of(case.run) == {"imaging": "CT", "ehr": "EHR", "labs": "Labs"}


# ---------------------------------------------------------------- words of the picker


def row(**changes: object) -> pd.Series:
    known = {"split": "internal", "site": "A", "age_years": 37.4, "sex": "M", "percentile": 45.4}
    return pd.Series({**known, **changes}, dtype=object)


def test_a_label_says_who_and_how_high():
    text = label(11101, row())
    assert text.startswith("11101, internal test, site A, M 37 years")
    assert "45% of training patients" in text
    bare = label(3, row(site=None, age_years=np.nan, sex=None, percentile=np.nan))
    assert bare == "3, internal test"
    assert "%" not in label(3, row(percentile=np.nan))
    assert "nan" not in label(3, row(sex=np.nan, site=np.nan)).lower()


# ---------------------------------------------------------------- edits of a record

FILE = pd.DataFrame(
    {
        "Keep": True,
        "What": ["Sodium", "Flu", "Heart rate", "Birth"],
        "Value": [140.0, np.nan, 99.0, np.nan],
    }
)


def edited(**columns: list) -> pd.DataFrame:
    return FILE.assign(**columns)


def test_nothing_edited_is_no_change():
    assert change_of("ehr", FILE, FILE.copy()) == (None, [])
    # A value that was rounded on its way through the browser, and one that was cleared.
    same = edited(Value=[140.0 * (1 + 1e-12), np.nan, np.nan, np.nan])
    assert change_of("ehr", FILE, same) == (None, [])
    assert change_of("ehr", FILE, edited(Value=[140.0, None, 99.0, None])) == (None, [])


def test_edits_become_one_change_and_words():
    after = edited(Keep=[True, False, True, False], Value=[131.5, np.nan, 99.0, np.nan])
    change, words = change_of("ehr", FILE, after)
    assert change.modality == "ehr"
    assert change.remove == (1, 3)
    assert dict(change.values) == {0: 131.5}
    assert words == ["Sodium 131.5 instead of 140", "without Flu and Birth"]
    # What is taken away has no value any more.
    change, words = change_of(
        "ehr", FILE, edited(Keep=[False, True, True, True], Value=[1.0, np.nan, 99.0, np.nan])
    )
    assert (change.remove, dict(change.values)) == ((0,), {})
    assert words == ["without Sodium"]


def test_a_value_where_none_was_is_a_change():
    change, words = change_of("ehr", FILE, edited(Value=[140.0, 3.0, 99.0, np.nan]))
    assert dict(change.values) == {1: 3.0}
    assert "nan" not in words[0]


def test_many_removed_are_counted():
    change, words = change_of("ehr", FILE, edited(Keep=[False] * 4))
    assert change.remove == (0, 1, 2, 3)
    assert words == ["without Sodium, Flu and Heart rate and 1 more"]


# ---------------------------------------------------------------- attention and places

ATTENTION = SimpleNamespace(weights=np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]]))


@pytest.mark.parametrize(
    ("selection", "on_rows", "expected"),
    [
        (None, False, [0.3, 0.5, 0.2]),
        (None, True, [1 / 3, 1 / 3]),
        ({"axis": "row", "index": 0}, False, [0.1, 0.7, 0.2]),
        ({"axis": "column", "index": 2}, False, [0, 0, 1]),
        ({"axis": "column", "index": 0}, True, [0.1, 0.5]),
        ({"axis": "row", "index": 1}, True, [0, 1]),
    ],
)
def test_weights_of_regions_by_what_is_chosen(selection, on_rows, expected):
    found = region_weights(ATTENTION, selection, on_rows=on_rows)
    np.testing.assert_allclose(found, expected)


def test_the_nearest_region_is_by_millimetres():
    labels = pd.DataFrame(
        {"name": list("abc"), "x_mm": [0, 10, 0], "y_mm": [0, 0, 40], "z_mm": [0, 0, 100.0]}
    )
    assert nearest_region(labels, (6, 0, 0)) == 1
    assert nearest_region(labels, (4, 0, 0)) == 0
    assert nearest_region(labels, (10, 40, 80)) == 2


def test_short_places_stay_apart():
    layout = VoxelGrid((6, 6, 6), (44.0, 57.6, 57.6))
    affine = np.diag([3.6, 3.6, 5.5, 1.0])
    volume = Volume(np.zeros((48, 96, 96), np.float32), affine, (5.5, 3.6, 3.6))
    names = token_regions(layout, volume)["name"]
    short = [short_place(name) for name in names]
    assert len(set(short)) == 216
    assert all(" z " not in name and "slice" in name for name in short)
    assert short_place("Heart rate (2123-11-02)") == "Heart rate (2123-11-02)"


def test_maps_of_runs_with_one_title_keep_apart():
    runs = [("Late fusion", "a"), ("Late fusion", "b"), ("CT only", "c")]
    assert distinct(runs) == ["Late fusion [a]", "Late fusion [b]", "CT only"]


def test_edits_by_position_fit_no_other_list(desk, task):
    run = desk.workspace.run("pe-late")
    case = desk.case(task, run, 250)
    item = Shown(case, desk.outlook(case), task)
    name = next(n for n in case.present if case.kind(n) is Kind.EVENTS)
    change = Change(name, remove=(0,))
    own = {name: part_names(item, name)}
    assert _after(desk, item, Asked((), (change,), ("x",), own)) is not None
    with pytest.raises(AttributionError, match="reads other parts of"):
        _after(desk, item, Asked((), (change,), ("x",), {name: ("other",)}))


# ---------------------------------------------------------------- the address


def address_page() -> None:
    import streamlit as st

    from app.panels import address

    address.start("patient", "box", ["1", "2"], "1", "patient")
    found = st.segmented_control("Patient", ["1", "2"], required=True, key="box")
    st.text(f"patient {found}")
    address.keep("patient", found)


def says(test: AppTest) -> str:
    return " ".join(t.value for t in test.text)


def test_the_address_chooses_once_and_then_follows():
    test = AppTest.from_function(address_page)
    test.query_params["patient"] = "2"
    test.run()
    assert "patient 2" in says(test)
    assert not test.warning
    # Every choice counts, also the second and third one after an address.
    for wanted in ("1", "2", "1"):
        test.session_state["box"] = wanted
        test.run()
        assert f"patient {wanted}" in says(test)
        assert test.query_params["patient"] in (wanted, [wanted])
    test.query_params["patient"] = "2"
    assert "patient 2" in says(test.run())


def test_an_address_for_nobody_warns_and_shows_the_default():
    test = AppTest.from_function(address_page)
    test.query_params["patient"] = "3"
    test.run()
    assert "patient 1" in says(test)
    (warning,) = test.warning
    assert "The address asks for patient 3, which is not here" in warning.value
    assert test.query_params["patient"] in ("1", ["1"])
    assert not test.run().warning


def test_names_in_an_address_are_text():
    test = AppTest.from_function(address_page)
    test.query_params["patient"] = "**bold** :red[x]"
    (warning,) = test.run().warning
    assert "**bold**" not in warning.value


# ---------------------------------------------------------------- the page without a browser

MAIN = Path(frame.__file__).resolve().parents[1] / "main.py"


@pytest.fixture
def opened(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(frame.VARIABLE, str(folder))
    frame._open.clear()
    frame._desk.clear()

    def run(**asked: str) -> AppTest:
        test = AppTest.from_file(str(MAIN), default_timeout=180).run()
        test.switch_page("views/patient.py")
        for name, value in asked.items():
            test.query_params[name] = value
        test.run()
        assert not test.exception
        assert "error in the program" not in " ".join(e.value for e in test.error)
        return test

    return run


def test_the_page_shows_the_numbers_of_the_desk(opened, desk, task):
    test = opened(task="pe/mortality", strategy="pe-late", patient="230", section="similar")
    shown = desk.outlook(desk.case(task, desk.workspace.run("pe-late"), 230))
    values = [m.value for m in test.metric]
    assert values[0] == f"{shown.at_horizon:.1%}"
    assert values[1] == f"{shown.percentile:.0f}%"


def test_two_runs_of_one_title_can_be_compared(folder, opened, desk, task):
    """Titles are for people and need not be unique."""
    titles = {name: desk.workspace.run(name).config.title for name in ("pe-late", "pe-ehr")}
    for name in titles:
        rename_run(folder / "runs" / name, title="The same")
    try:
        for section in ("similar", "imaging", "export"):
            test = opened(
                task="pe/mortality",
                strategy="pe-late",
                compare="pe-ehr",
                section=section,
                patient="230",
            )
            assert len(test.metric) >= 8
    finally:
        for name, title in titles.items():
            rename_run(folder / "runs" / name, title=title)


def test_a_patient_nobody_can_read_is_said(opened, desk):
    there = Cohort.open(desk.workspace.folder / "cohorts" / "pe").availability()
    blind = int(there.index[~there["ehr"]][0])
    test = opened(task="pe/mortality", strategy="pe-ehr", patient=str(blind))
    assert "has none of the modalities" in " ".join(w.value for w in test.warning)
    assert not test.metric


def test_the_trust_page_without_a_report_says_how_to_make_one(opened):
    test = opened(task="pe/mortality")
    test.switch_page("views/trust.py").run()
    assert not test.exception
    said = " ".join(i.value for i in test.info)
    assert "No run of this task has been checked yet" in said
    assert "fusionlens trust" in said
