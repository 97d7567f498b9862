"""The Modalities page in Chromium: its numbers are those of `fusionlens missing --json`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.figures.text import interval, p_phrase, signed_interval
from app.panels.missing_monotonicity import LISTED
from tests.browser.conftest import HANCOCK, HANCOCK_RUN, need
from tests.browser.test_patient import Page

pytestmark = pytest.mark.browser
TASKS = {
    "pe": ("pe/mortality", "pe-late-onehot"),
    "hf": ("hf/hf", "hf-late"),
    HANCOCK: (f"{HANCOCK}/overall_survival", HANCOCK_RUN),
}
LONG = 7  # combinations that are drawn without being asked for
METRIC = {"pe": "c_index", "hf": "auc", HANCOCK: "c_index"}


@pytest.fixture(scope="module")
def page(browser: Any, address: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, accept_downloads=True)
    page = Page(context.new_page(), address)
    yield page
    assert page.errors == []
    context.close()


@pytest.fixture(scope="module")
def told(workspace_folder: Path) -> dict[str, dict[str, Any]]:
    """What the command prints of the runs; it leaves its results to the app, as for a user."""
    there = [name for name in TASKS if (workspace_folder / "cohorts" / name).is_dir()]
    return {name: command(workspace_folder, name) for name in there}


@pytest.fixture(params=list(TASKS))
def name(request: pytest.FixtureRequest, workspace_folder: Path) -> str:
    """A cohort of TASKS."""
    need(workspace_folder, request.param)
    return str(request.param)


def command(home: Path, name: str, *more: str) -> dict[str, Any]:
    run, cohort = home / "runs" / TASKS[name][1], home / "cohorts" / name
    found = CliRunner().invoke(cli, ["missing", str(run), "--cohort", str(cohort), *more, "--json"])
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def go(page: Page, name: str, section: str) -> Page:
    task, run = TASKS[name]
    page.open("modalities", f"task={task}&strategy={run}&section={section}")
    return page


def same(mine: Any, expected: Any) -> None:
    np.testing.assert_allclose(
        pd.Series(mine, dtype=float), pd.Series(expected, dtype=float), atol=1e-12
    )


def test_fewer_modalities(page: Page, told: dict[str, Any], name: str) -> None:
    answer, metric, run = told[name], METRIC[name], TASKS[name][1]
    go(page, name, "fewer")
    for population, key in (("complete", "combinations"), ("everyone", "everyone")):
        if population == "everyone":
            page.press("Complete patients", "Everyone, whatever they lack")
        table = answer[key]
        many = len(table["combinations"]) > LONG
        if many:
            page.press("all but one", f"all {len(table['combinations'])}")
        cells = page.csv(f"fewer {run} internal {population}").set_index("combination")
        assert len(cells) == len(table["combinations"])
        losses = {" + ".join(d["modalities"]): d for d in table["differences"]}
        drawn = page.figure(f"fewer {run} internal {population}").inner_text()
        for entry in table["combinations"]:
            combination = " + ".join(entry["modalities"])
            row = cells.loc[combination]
            assert row["patients"] == table["n"]
            for end, tail in (("value", ""), ("low", "_low"), ("high", "_high")):
                same([row[f"{metric}{tail}"]], [entry[metric][end]])
            assert interval(entry[metric], 2 if many else 3) in drawn
            if combination in losses:
                gap = losses[combination]["difference"]
                same([row[f"{metric}_difference"]], [gap["value"]])
                points = {k: None if v is None else 100 * v for k, v in gap.items()}
                assert signed_interval(points) in drawn
    page.press("Complete patients", "By nature against by force")
    cells = page.csv(f"natural {run} internal")
    patterns = answer["natural"]["patterns"]
    assert cells["natural_patients"].tolist() == [p["natural"]["n"] for p in patterns]
    same(cells[f"natural_{metric}"], [p["natural"][metric]["value"] for p in patterns])


def test_dropped_at_random(page: Page, told: dict[str, Any], name: str) -> None:
    answer, run = told[name]["drop"], TASKS[name][1]
    go(page, name, "dropped")
    for measure, values in answer["measures"].items():
        cells = page.csv(f"dropped {TASKS[name][0]} internal {measure}")
        assert len(set(cells["run"])) > (name != HANCOCK)  # several strategies in one picture
        mine = cells[(cells["run"] == run) & (cells["measure"] == measure)]
        same(mine["chance"], answer["chances"])
        for end in ("mean", "low", "high"):
            same(mine[end], values[end])
    assert "never the patient's last one" in page.text()


def test_more_that_harms_and_whom(page: Page, told: dict[str, Any], name: str) -> None:
    answer, run = told[name]["monotonicity"], TASKS[name][1]
    titles = told[name]["modalities"]
    go(page, name, "more")
    shown = {row["Modality"]: row for row in page.table("Worse with it")}
    for row in answer["modalities"]:
        mine = shown[titles[row["modality"]]]
        for column, part in (("Worse with it", "worse"), ("Same", "same"), ("Patients", "n")):
            assert mine[column] == f"{row[part]:,}"
        change = mine["Mean change in loss (95% interval)"]
        assert change == signed_interval(row["mean_change"], 3)
    cells = page.csv(f"lattice {run} internal")
    same(cells["difference"], [e["difference"]["value"] for e in answer["lattice"]["edges"]])
    first = answer["modalities"][0]
    listed = page.table("Loss higher by")
    worst = first["worst"][:LISTED]
    assert [row["Patient"] for row in listed] == [str(one["subject_id"]) for one in worst]
    if name == "pe":
        with page.tab.context.expect_page() as opened:
            page.tab.get_by_role("link", name=str(worst[0]["subject_id"]), exact=True).click()
        other = Page(opened.value, page.address)
        other.settle()
        assert other.query["patient"] == str(worst[0]["subject_id"])
        assert other.query["strategy"] == run
        assert "Why this risk?" in other.text()
        opened.value.close()


def test_who_has_what(page: Page, told: dict[str, Any], name: str) -> None:
    answer = told[name]["availability"]
    go(page, name, "who")
    cells = page.csv(f"availability {TASKS[name][0]} internal all")
    rows = [(g, p) for g in answer["groups"] for p in g["patterns"]]
    assert cells["patients"].tolist() == [p["n"] for _, p in rows]
    same(cells["rate"], [(p["rate"] or {"value": None})["value"] for _, p in rows])
    group = next(g for g in answer["groups"] if (g["split"], g["site"]) == ("internal", "all"))
    text = page.text()
    assert f"{group['n']} patients in {len(group['patterns'])} pattern" in text
    expected = p_phrase(group["test"]["p"]) if group["test"]["p"] is not None else "not tested"
    assert expected in text
    drawn = page.figure(f"availability {TASKS[name][0]} internal all").inner_text()
    unbroken = "".join(drawn.split())
    for modality, n in group["marginals"].items():
        assert f"{answer['modalities'][modality].replace(' ', '')}{n:,}" in unbroken


def test_one_patient_without_what_they_have(
    page: Page, workspace_folder: Path, told: dict[str, Any]
) -> None:
    task, run = TASKS["hf"]
    worst = [one for row in told["hf"]["monotonicity"]["modalities"] for one in row["worst"]]
    titles = told["hf"]["modalities"]
    subject = next(one["subject_id"] for one in worst if len(one["has"]) < len(titles))
    answer = command(workspace_folder, "hf", "--patient", str(subject))["patient"]
    page.open("modalities", f"task={task}&strategy={run}&section=patient&patient={subject}")
    cells = page.csv(f"without {run}")
    assert cells["patient"].tolist() == [subject] * len(answer["rows"])
    failing = list(answer["rows"][0]["probabilities"])[-1]
    same(cells[f"probability_{failing}"], [r["probabilities"][failing] for r in answer["rows"]])
    for absent in answer["absent"]:
        assert cells[f"told_{absent}"].isna().all()
        assert f"The patient lacks {titles[absent]}" in page.text() or len(answer["absent"]) > 1
    for present in answer["present"]:
        told_ = [present in r["modalities"] for r in answer["rows"]]
        assert cells[f"told_{present}"].tolist() == told_
