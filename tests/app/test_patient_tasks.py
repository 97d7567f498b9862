"""One patient under two tasks: whose numbers, on whose scale, and nothing given away."""

from __future__ import annotations

import html
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest

from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import TaskSpec, read_spec, write_spec
from analysis.cohort.write import write_outcomes
from analysis.experiment import Plan, train_run
from app import report
from app.counterpart import counterpart
from app.figures import ledger as figures
from app.panels import frame, patient_ledger, patient_report
from app.panels.patient_header import Shown
from app.panels.patient_runs import Beside, offered, resolved
from app.panels.patient_tasks import about, compare_text
from app.patients import Membership, PatientDesk
from app.workspace import Task, Workspace
from models.training import TrainingSettings
from tests.app.toy import COHORTS, write_cohort

MAIN = Path(frame.__file__).resolve().parents[1] / "main.py"
DEATH, SEVERE, STROKE = "mortality", "severe", "stroke"
CLASSES = ("mild", "severe")
SEVERE_TITLE, STROKE_TITLE = "Severe at admission", "Stroke after a mild course"
RUNS = {
    "late": (DEATH, "late", ("imaging", "ehr", "labs")),
    "ehr": (DEATH, "unimodal", ("ehr",)),
    "severe-ehr": (SEVERE, "unimodal", ("ehr",)),
    "severe-late": (SEVERE, "late", ("imaging", "ehr", "labs")),
    "stroke-late": (STROKE, "late", ("imaging", "ehr", "labs")),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of three tasks: everybody may die; only the mild ones are followed for a stroke."""
    folder = tmp_path_factory.mktemp("tasks") / "workspace"
    cohort = write_cohort(folder / "cohorts" / "pe", "pe", seed=0)
    outcomes = pd.read_parquet(cohort / "outcomes.parquet")
    severe = (outcomes["time_days"] < outcomes["time_days"].median()).astype(int)
    classes = outcomes.assign(task=SEVERE, label=severe, time_days=None, event=None)
    stroke = outcomes[severe == 0].assign(task=STROKE)
    (cohort / "outcomes.parquet").unlink()
    every = [outcomes, classes, stroke]
    write_outcomes(cohort, pd.concat([part.astype(object) for part in every]))
    spec = read_spec(cohort)
    tasks = dict(spec.tasks) | {
        SEVERE: TaskSpec(kind="classification", title=SEVERE_TITLE, classes=CLASSES),
        STROKE: TaskSpec(
            kind="survival", title=STROKE_TITLE, event_title="Stroke", horizon_days=900
        ),
    }
    (cohort / "cohort.yaml").unlink()
    write_spec(spec.model_copy(update={"tasks": tasks}), cohort)
    for name, (task, strategy, modalities) in RUNS.items():
        plan = Plan(
            cohort=cohort,
            task=task,
            strategy=strategy,
            out=folder / "runs" / name,
            encoder_store=folder / "encoders",
            modalities=modalities,
            settings=TrainingSettings(max_epochs=2),
        )
        train_run(plan, accelerator="cpu")
    return folder


@pytest.fixture(scope="module")
def desk(folder: Path) -> PatientDesk:
    return PatientDesk(Workspace(folder))


@pytest.fixture(scope="module")
def tasks(desk: PatientDesk) -> dict[str, Task]:
    return {task.name: task for task in desk.workspace.tasks()}


@pytest.fixture(scope="module")
def severe_patient(folder: Path) -> int:
    """A test patient with a severe course, who was never followed for a stroke."""
    cohort = Cohort.open(folder / "cohorts" / "pe")
    followed = cohort.subject_ids(task=STROKE)
    there = cohort.availability()
    whole = there[there.all(axis=1)].index
    return next(int(i) for i in cohort.subject_ids("internal") if i not in followed and i in whole)


def shown_of(desk: PatientDesk, tasks: dict[str, Task], runs: list[str], subject: int):
    found = []
    for name in runs:
        run = desk.workspace.run(name)
        task = tasks[run.config.task.name]
        case = desk.case(task, run, subject)
        several = len({RUNS[r][0] for r in runs}) > 1
        found.append(Shown(case, desk.outlook(case), task, several))
    return found


# ---------------------------------------------------------------- which runs


def test_the_counterpart_is_the_same_strategy_on_the_same_modalities(desk, tasks):
    entries = {name: desk.workspace.runs(task) for name, task in tasks.items()}
    by_name = {e.name: e for part in entries.values() for e in part}
    late, ehr = by_name["late"].config, by_name["ehr"].config
    assert counterpart(late, entries[SEVERE]).name == "severe-late"
    assert counterpart(ehr, entries[SEVERE]).name == "severe-ehr"
    assert counterpart(ehr, entries[STROKE]) is None
    # Of two that would do, the one told apart by its settings.
    changed = late.model_copy(
        update={"strategy": late.strategy.model_copy(update={"config": {"dropout": -1.0}})}
    )
    twins = [
        type(by_name["late"])("other", Path("other"), changed, None),
        by_name["severe-late"],
    ]
    assert counterpart(late, twins).name == "severe-late"
    assert counterpart(late, twins[::-1]).name == "severe-late"


def test_other_tasks_are_offered_after_the_own_with_the_counterpart_first(desk, tasks):
    workspace = desk.workspace
    death = tasks[DEATH]
    assert [t.name for t in workspace.other_tasks(death)] == [SEVERE, STROKE]
    first = Beside(death, workspace.runs(death)[-1], own=True)
    assert first.config.name == "late"
    runs = {t: workspace.runs(t) for t in (death, *workspace.other_tasks(death))}
    options = offered(first, runs)
    assert list(options) == [
        "ehr",
        f"{SEVERE}/severe-late",
        f"{SEVERE}/severe-ehr",
        f"{STROKE}/stroke-late",
    ]
    title = options[f"{SEVERE}/severe-late"].title
    assert SEVERE_TITLE in title
    assert first.config.title in title
    # An address may name a task, or a run by its name alone.
    assert resolved(SEVERE, first, options) == f"{SEVERE}/severe-late"
    assert resolved("severe-ehr", first, options) == f"{SEVERE}/severe-ehr"
    assert resolved("ehr", first, options) == "ehr"
    assert resolved("nobody", first, options) == "nobody"


# ---------------------------------------------------------------- who knows the patient


def test_membership_is_that_of_the_outcomes(desk, tasks, severe_patient):
    cohort = desk.workspace.cohort("pe")
    followed = cohort.subject_ids(task=STROKE)
    death, stroke = (
        desk.membership(item.case)
        for item in shown_of(desk, tasks, ["late", "stroke-late"], severe_patient)
    )
    assert death.everybody
    assert (stroke.n, stroke.n_told) == (len(cohort.subjects), len(followed))
    assert not stroke.everybody
    assert not stroke.told
    assert stroke.home
    assert not stroke.learnt_from
    learnt = int(cohort.subject_ids("train")[0])
    (item,) = shown_of(desk, tasks, ["stroke-late"], learnt)
    known = desk.membership(item.case)
    assert known.learnt_from
    assert known.told == (learnt in followed)


def test_a_patient_without_an_outcome_has_a_prediction_and_no_outcome(desk, tasks, severe_patient):
    (item,) = shown_of(desk, tasks, ["stroke-late"], severe_patient)
    assert 0 <= item.outlook.at_horizon <= 1
    assert np.isfinite(item.outlook.percentile)
    assert item.outlook.n_training == len(desk.workspace.cohort("pe").subject_ids("train", STROKE))
    assert desk.observed(item.case) is None


def test_membership_is_told_only_to_who_asked():
    told, other = (Membership(100, 40, t, True, False) for t in (True, False))
    assert about(told, "Stroke", False) == about(other, "Stroke", False)
    assert "40 of its 100 patients" in about(told, "Stroke", False)
    assert about(told, "Stroke", True) != about(other, "Stroke", True)


# ---------------------------------------------------------------- figures and words


def targets_of(desk, shown):
    names = {DEATH: "log_risk", STROKE: "log_risk", SEVERE: "severe"}
    return [desk.target(item.case.run, names[item.task.name]) for item in shown]


@pytest.mark.parametrize("other", ["severe-late", "stroke-late"])
def test_ledgers_of_two_tasks_share_no_axis(desk, tasks, severe_patient, other):
    """Not even two log-risks: they are risks of different events."""
    shown = shown_of(desk, tasks, ["late", other], severe_patient)
    targets = targets_of(desk, shown)
    figure = patient_ledger.drawn(desk, shown, targets)
    for item, target, axis in zip(shown, targets, ("", "2"), strict=True):
        ledger = desk.ledger(item.case, target)
        zero = item.outlook.log_risk - item.outlook.relative if item.task.name != SEVERE else 0.0
        low, high = figure.layout[f"xaxis{axis}"].range
        steps = np.r_[ledger.base, ledger.base + np.cumsum(ledger.shares[:, 0])] - zero
        ends = [*steps, 0.0] if item.task.name != SEVERE else steps
        air = 0.06 * (max(ends) - min(ends))
        assert low == pytest.approx(min(ends) - air, abs=1e-5)
        assert high == pytest.approx(max(ends) + air, abs=1e-5)
        assert str(target.title) in figure.layout[f"xaxis{axis}"].title.text.lower()
    words = " ".join(note.text for note in figure.layout.annotations)
    for item in shown:
        assert item.task.title in words
    table = patient_ledger.frame(
        [desk.ledger(s.case, t) for s, t in zip(shown, targets, strict=True)], shown
    )
    assert table.groupby("run")["task"].unique().map(list).to_dict() == {
        s.case.run.config.name: [s.task.title] for s in shown
    }


def test_runs_of_one_task_still_share_their_axis(desk, tasks, severe_patient):
    shown = shown_of(desk, tasks, ["late", "ehr"], severe_patient)
    figure = patient_ledger.drawn(desk, shown, targets_of(desk, shown))
    assert figure.layout.xaxis.range == figure.layout.xaxis2.range
    with pytest.raises(ValueError, match="must explain the same number"):
        patient_ledger.drawn(
            desk,
            shown,
            [
                desk.target(shown[0].case.run, "log_risk"),
                desk.target(shown[1].case.run, "survival", [100]),
            ],
        )


def test_what_may_be_compared_is_said_for_two_tasks_only(desk, tasks, severe_patient):
    two = shown_of(desk, tasks, ["late", "severe-late"], severe_patient)
    words = compare_text(two, targets_of(desk, two))
    for text in ("log-risk", "logit of severe", SEVERE_TITLE, two[0].title, "Do not compare"):
        assert text in words
    one = shown_of(desk, tasks, ["late", "ehr"], severe_patient)
    assert compare_text(one, targets_of(desk, one)) == ""
    assert one[0].title == one[0].strategy


def test_a_report_of_two_tasks_is_blinded_for_each(desk, tasks, severe_patient, monkeypatch):
    shown = shown_of(desk, tasks, ["late", "stroke-late"], severe_patient)
    targets = targets_of(desk, shown)
    found = patient_report.Collected()

    def text(*asked: str) -> str:
        monkeypatch.setattr(patient_report, "asked", lambda task: task.name in asked)
        made = patient_report.report_of(
            desk,
            shown,
            targets,
            found,
            "admission",
            patient_report.told_of(desk, shown),
            patient_report.made_from(desk, shown),
        )
        return " ".join(html.unescape(report.render(made)).split())

    death, stroke = (f"<dt>Outcome: {t}</dt><dd>" for t in (shown[0].task.title, STROKE_TITLE))
    blind = "not included (blinded read)"
    happened = desk.observed(shown[0].case)
    words = patient_report.outcome_words(happened, shown[0].task)
    assert f"{death}{blind}" in text()
    assert f"{stroke}{blind}" in text()
    assert f"{death}{words}" in text(DEATH)
    assert f"{stroke}{blind}" in text(DEATH)
    assert f"{death}{blind}" in text(STROKE)
    assert f"{stroke}the cohort holds none for this patient" in text(STROKE)
    whole = text()
    known = desk.membership(shown[1].case)
    assert f"the {known.n_told} of {known.n} patients with an outcome" in whole
    for item in shown:
        event = item.task.event_title
        assert f"Predicted risk of {event} by day {item.outlook.horizon_days:,.0f}" in whole
        assert f"{100 * item.outlook.at_horizon:.1f}%" in whole


def test_a_chart_of_one_task_does_not_tell_the_outcome_of_another():
    drawn = go.Figure(go.Scatter(x=[1], y=[1], meta=report.OUTCOME))
    chart = report.Chart(drawn, "curve", task="B")
    with pytest.raises(ValueError, match="blinded"):
        report.PatientReport(outlook=[chart], outcomes={"A": "yes", "B": None})
    report.PatientReport(outlook=[chart], outcomes={"A": None, "B": "day 3: stroke"})


def test_two_scales_have_two_legends():
    log_risk = {"title": "log-risk", "unit": "log hazard ratio", "worse_is_higher": True}
    logit = {"title": "logit of PE", "unit": "logit", "worse_is_higher": None}
    one = figures.Ledger("A", "#000000", log_risk, -1.0, {"CT": 3.0}, 2.0, task="Death")
    two = figures.Ledger("A", "#000000", logit, 10.0, {"CT": 20.0}, 30.0, task="PE")
    drawn = figures.waterfall([one, two])
    words = " ".join(note.text for note in drawn.layout.annotations)
    assert "raises the risk (worse)" in words
    assert "raises the logit of PE" in words
    bars = [trace for trace in drawn.data if trace.meta == "shares"]
    assert bars[0].marker.color != bars[1].marker.color


# ---------------------------------------------------------------- the page without a browser


@pytest.fixture
def opened(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(frame.VARIABLE, str(folder))
    frame._open.clear()
    frame._desk.clear()

    def run(explained: str = "log_risk", **asked: str) -> AppTest:
        test = AppTest.from_file(str(MAIN), default_timeout=180).run()
        test.switch_page("views/patient.py")
        for task in (DEATH, STROKE):
            test.session_state[f"explained number pe/{task}"] = explained
        for name, value in {"task": f"pe/{DEATH}", "strategy": "late", **asked}.items():
            test.query_params[name] = value
        test.run()
        assert not test.exception
        assert not test.error
        return test

    return run


def said(test: AppTest) -> str:
    parts = [*test.markdown, *test.caption, *test.info, *test.warning, *test.subheader]
    return " ".join(part.value for part in parts).replace("\\", "")


@pytest.mark.parametrize("other", ["severe-late", "stroke-late"])
def test_every_section_does_two_tasks(opened, desk, tasks, severe_patient, other):
    for section in ("imaging", "ehr", "labs", "attention", "what-if", "similar", "export"):
        test = opened(compare=other, section=section, patient=str(severe_patient))
        words = said(test)
        shown = shown_of(desk, tasks, ["late", other], severe_patient)
        for item in shown:
            assert item.title in words
        assert "Do not compare how large" in words
        values = [metric.value for metric in test.metric]
        assert f"{shown[0].outlook.at_horizon:.1%}" in values
        if other == "severe-late":
            assert f"{shown[1].outlook.probabilities['severe']:.1%}" in values
        else:
            assert f"{shown[1].outlook.at_horizon:.1%}" in values
    value = f"{RUNS[other][0]}/{other}"
    assert test.query_params["compare"] in (value, [value])


@pytest.mark.parametrize("section", ["imaging", "ehr", "labs", "export"])
def test_survival_at_two_horizons_and_a_logit_go_together(opened, severe_patient, section):
    for other in ("severe-late", "stroke-late"):
        test = opened("survival", compare=other, section=section, patient=str(severe_patient))
        words = said(test)
        assert "explains the survival at 1000 days" in words
        assert ("logit of severe", "survival at 900 days")[other == "stroke-late"] in words
        assert ("Which come first" in words) == (section in ("imaging", "labs"))


def test_what_happened_is_asked_for_task_by_task(opened, severe_patient):
    test = opened(compare=STROKE, section="similar", patient=str(severe_patient))
    toggles = {t.label.replace("\\", ""): t for t in test.toggle if "what happened:" in t.label}
    assert [label.split(": ")[1] for label in toggles] == [COHORTS["pe"][2], STROKE_TITLE]
    none = "holds no outcome of this task for this patient"
    assert none not in said(test)
    assert "This patient is not" not in said(test)
    toggles[f"Show what happened: {STROKE_TITLE}"].set_value(True).run()
    assert none in said(test)
    assert "This patient is not" in said(test)
    assert not any(t.value for t in test.toggle if COHORTS["pe"][2] in t.label)


def test_a_training_patient_has_been_seen_by_the_runs_that_had_an_outcome(opened, desk):
    cohort = desk.workspace.cohort("pe")
    followed = cohort.subject_ids(task=STROKE)
    lost = next(int(i) for i in cohort.subject_ids("train") if i not in followed)
    test = opened(compare=STROKE, section="similar", patient=str(lost))
    seen = f"the runs of '{COHORTS['pe'][2]}' have seen what happened"
    perhaps = f"if the cohort holds their outcome, the runs of '{STROKE_TITLE}' have seen it"
    (warning,) = [w.value.replace("\\", "") for w in test.warning if "split" in w.value]
    assert "in the training split" in warning
    assert seen in warning
    assert perhaps in warning
    (asked,) = [t for t in test.toggle if "what happened" in t.label and STROKE_TITLE in t.label]
    asked.set_value(True).run()
    assert f"the runs of '{STROKE_TITLE}' have not seen what happened" in said(test)
    assert perhaps not in said(test)


def test_a_modality_that_only_one_of_the_tasks_reads_is_said(opened, severe_patient):
    test = opened(compare="severe-ehr", section="imaging", patient=str(severe_patient))
    assert "does not read this modality" in said(test)


def test_the_same_strategy_under_another_task_is_one_press_away(opened, severe_patient):
    test = opened(patient=str(severe_patient), section="similar")
    (press,) = [b for b in test.button if STROKE_TITLE in b.label]
    press.click().run()
    value = f"{STROKE}/stroke-late"
    assert test.query_params["compare"] in (value, [value])
    assert STROKE_TITLE in said(test)


def test_a_second_run_of_the_same_name_is_left_out_with_its_reason(
    folder, tmp_path, monkeypatch, severe_patient
):
    copy = tmp_path / "workspace"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("results"))
    path = copy / "runs" / "severe-late" / "config.json"
    path.write_text(path.read_text().replace('"severe-late"', '"late"'), encoding="utf-8")
    monkeypatch.setenv(frame.VARIABLE, str(copy))
    frame._open.clear()
    frame._desk.clear()
    test = AppTest.from_file(str(MAIN), default_timeout=180).run()
    test.switch_page("views/patient.py")
    asked = {"task": f"pe/{DEATH}", "strategy": "late", "compare": f"{SEVERE}/late"}
    for name, value in {**asked, "patient": str(severe_patient)}.items():
        test.query_params[name] = value
    test.run()
    assert not test.exception
    assert "change the field 'name' of one of them" in said(test)
