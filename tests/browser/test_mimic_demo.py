"""Every page on a real record: the MIMIC-IV demo, 100 patients, with runs of two epochs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from analysis.cohort.cohort import Cohort
from analysis.experiment import Plan, train_run
from app.cli import cli
from app.figures.text import interval, number, signed
from models.training import TrainingSettings
from tests.analysis.cohort.mimic_demo import EVENTS, write_mimic_demo
from tests.browser.conftest import serving
from tests.browser.driver import Reader

pytestmark = pytest.mark.browser
TASK = "mimic/death"
RUNS = {"labs": ("unimodal", ("labs",)), "late": ("late", ("ehr", "labs"))}


@pytest.fixture(scope="module")
def workspace(real_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mimic") / "workspace"
    cohort = write_mimic_demo(real_data(EVENTS), folder / "cohorts" / "mimic")
    for name, (strategy, modalities) in RUNS.items():
        train_run(
            Plan(
                cohort=cohort,
                task="death",
                strategy=strategy,
                out=folder / "runs" / f"mimic-{name}",
                encoder_store=folder / "encoders",
                modalities=modalities,
                settings=TrainingSettings(max_epochs=2),
            ),
            accelerator="cpu",
        )
    return folder


@pytest.fixture(scope="module")
def reader(
    browser: Any, workspace: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reader]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    with serving(workspace, tmp_path_factory.mktemp("server")) as address:
        yield Reader(context.new_page(), address)
    context.close()


@pytest.fixture(scope="module")
def patient(workspace: Path) -> int:
    """A test patient with few events, so that its shares are soon there."""
    cohort = Cohort.open(workspace / "cohorts" / "mimic")
    table = cohort.events("ehr")
    usable = cohort.usable_events("ehr")
    counts = {int(i): int(usable[table.rows(int(i))].sum()) for i in cohort.subject_ids("internal")}
    return min(counts, key=lambda i: counts[i])


def command(*words: str) -> dict[str, Any]:
    done = CliRunner().invoke(cli, [*words, "--json"])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_overview_and_compare_show_what_the_command_says(reader: Reader, workspace: Path) -> None:
    reader.open()
    text = reader.text()
    assert "MIMIC-IV demo" in text
    assert "time zero: a day after the first admission" in text
    runs = [str(workspace / "runs" / f"mimic-{name}") for name in RUNS]
    told = command("evaluate", *runs, "--cohort", str(workspace / "cohorts" / "mimic"))
    reader.open("compare", f"task={TASK}")
    rows = {row["Run"]: row for row in reader.table("Uno's C")}
    assert len(rows) == len(told["runs"]) == 2
    for expected in told["runs"]:
        row = rows[expected["title"]]
        assert row["Harrell's C (95% interval)"] == interval(expected["c_index"])
        assert row["Uno's C"] == number(expected["uno_c"]["value"])
        assert (row["Patients"], row["Events"]) == ("20", "6")


def test_a_patient_s_record_with_the_shares_of_the_command(
    reader: Reader, workspace: Path, patient: int
) -> None:
    cohort, run = workspace / "cohorts" / "mimic", workspace / "runs" / "mimic-late"
    # The page reads what the command computes, so the record is explained once.
    told = command(
        "explain", str(run), "--cohort", str(cohort), "--patient", str(patient),
        "--results", str(workspace / "results"),
    )  # fmt: skip
    reader.open("patient", f"task={TASK}&strategy=mimic-late&patient={patient}")
    reader.tab.locator(".js-plotly-plot").first.wait_for(timeout=30_000)
    text = reader.text()
    found = told["prediction"]
    for shown in (
        f"{found['survival_at_horizon']:.1%}",
        f"{found['percentile']:.0f}%",
        signed(found["relative_log_risk"], 2),
    ):
        assert shown in text
    assert str(patient) in reader.tab.get_by_role("combobox", name="Patient").input_value()
    # Codes without a description are told in words.
    assert "Laboratory: " in text
    assert "LAB//" not in text


PAGES = ("survival", "modalities", "representation", "retrieval", "trust", "report")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_other_page_opens(reader: Reader, page: str) -> None:
    reader.open(page, f"task={TASK}")
    text = reader.text()
    boxes = [box.input_value() for box in reader.tab.get_by_role("combobox").all()]
    # Trust has nothing to choose from before something was measured, and says how to.
    where = "fusionlens trust RUN" if page == "trust" else "Death from any cause"
    assert where in " ".join([text, *boxes])
    assert "Traceback" not in text
    assert "cannot be used" not in text
