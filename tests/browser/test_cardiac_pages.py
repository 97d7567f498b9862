"""Heart-failure patients in Chromium: the pages' numbers are those of the commands and analyses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from analysis.attribution.case import Case, open_case
from analysis.attribution.feature_attention import by_outcome, feature_attention
from analysis.attribution.parts import column_table
from analysis.cohort.cohort import Cohort
from analysis.missing.combinations import by_combination
from analysis.predict import predict
from analysis.retrieval import candidates, evaluate_retrieval, ranks
from analysis.store import ResultStore
from analysis.whatif import Change, what_if
from app.cli import cli
from app.figures.shares import Direction
from app.figures.text import interval, number
from app.panels.ecg_paper import header_line
from app.panels.patient_ecg import MEASURED
from models.checkpoint import Run, load_run
from sample_data.heart import VIEWS
from tests.browser import test_patient as patients

pytestmark = pytest.mark.browser
TASK, RUN = "hf/hf", "hf-tgmm"
RISK = "hf-risk-tgmm"
FAILING = "heart failure"


class Page(patients.Page):
    """A tab on pages of the heart-failure cohort."""

    def heart(self, subject: int, section: str) -> Page:
        query = f"task={TASK}&patient={subject}&strategy={RUN}&section={section}"
        self.open("patient", query)
        return self

    def two(self, subject: int, section: str) -> Page:
        """The same strategy beside itself under the cohort's other task."""
        query = f"task={TASK}&patient={subject}&strategy={RUN}&compare=incident_hf"
        self.open("patient", f"{query}&section={section}")
        return self

    def saved(self, key: str) -> pd.DataFrame:
        """The table behind a download button, by the name it was given in the program."""
        plain = re.sub("[ /]", "-", key)
        button = self.tab.locator(f".st-key-csv-{plain} button")
        return pd.read_csv(self.download(button), float_precision="round_trip")

    def viewer(self, kind: str) -> Any:
        root = self.tab.locator(f".{kind}[data-ready=true]").first
        root.wait_for(timeout=60_000)
        return root


@pytest.fixture(scope="module")
def page(browser: Any, address: str) -> Iterator[Page]:
    """One tab for all tests: the app keeps what it has read of the patient."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, accept_downloads=True)
    page = Page(context.new_page(), address)
    yield page
    assert page.errors == []
    context.close()


@pytest.fixture(scope="module")
def cohort(workspace_folder: Path) -> Cohort:
    return Cohort.open(workspace_folder / "cohorts" / "hf")


@pytest.fixture(scope="module")
def run(workspace_folder: Path) -> Run:
    return load_run(workspace_folder / "runs" / RUN)


@pytest.fixture(scope="module")
def subject(cohort: Cohort) -> int:
    """An internal test patient with labs, an ECG and an echo as files that lacks some view."""
    labs, views = cohort.having("labs"), cohort.videos("echo")
    return next(
        int(i)
        for i in cohort.subject_ids("internal", "hf")
        if i in labs and i in cohort.signals("ecg") and 5 < len(views.get(i, ())) < len(VIEWS)
    )


@pytest.fixture(scope="module")
def case(run: Run, cohort: Cohort, subject: int) -> Case:
    return open_case(run, cohort, subject)


@pytest.fixture(scope="module")
def told(workspace_folder: Path, subject: int) -> dict[str, Any]:
    """What `fusionlens explain --json` prints; it leaves its results to the app, as for a user."""
    return command(workspace_folder, "explain", [RUN], "--patient", str(subject))


@pytest.fixture(scope="module")
def both(workspace_folder: Path, told: dict[str, Any], subject: int) -> dict[str, Any]:
    """{run: what the command prints} for the same strategy under both tasks."""
    risk = command(workspace_folder, "explain", [RISK], "--patient", str(subject))
    return {RUN: told, RISK: risk}


def command(home: Path, name: str, runs: list[str], *more: str) -> dict[str, Any]:
    folders = [str(home / "runs" / run) for run in runs]
    cohort = ["--cohort", str(home / "cohorts" / "hf")]
    found = CliRunner().invoke(cli, [name, *folders, *cohort, *more, "--json"])
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


# ---------------------------------------------------------------- one patient


def test_the_ecg_is_drawn_with_its_measures_and_the_shares_of_its_waves(
    page: Page, told: dict[str, Any], subject: int
) -> None:
    (signal,) = told["signals"]
    page.heart(subject, "ecg")
    (shown,) = page.metrics()
    probabilities = told["prediction"]["probabilities"]
    assert shown == {f"Probability of {name}": f"{p:.1%}" for name, p in probabilities.items()}

    paper = page.viewer("ecg")
    measures = {name: signal["measures"][name] for name in MEASURED}
    assert measures["rate_bpm"] is not None
    head = " ".join(paper.locator(".head").inner_text().split())
    for label, text in header_line(measures, "Bazett"):
        assert f"{label} {text}" in head
    ink = paper.locator("canvas.base").evaluate(
        """canvas => {
          const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
          let dark = 0;
          for (let i = 0; i < data.length; i += 4) {
            dark += data[i + 3] > 0 && data[i] + data[i + 1] + data[i + 2] < 200;
          }
          return dark;
        }"""
    )
    assert ink > 2000  # twelve leads, each a line through thousands of pixels
    assert told["title"] in paper.get_attribute("data-overlay")

    waves = page.saved(f"waves {RUN} {subject}")
    assert waves["segment"].tolist() == [row["segment"] for row in signal["segments"]]
    for name in ("share", "time", "density"):
        np.testing.assert_allclose(
            waves[name], [row[name] for row in signal["segments"]], rtol=1e-6
        )
    assert waves["share"].sum() == pytest.approx(1)
    for shown_, row in zip(page.table("Wave"), signal["segments"], strict=True):
        assert shown_["Share of the map"] == f"{row['share']:.0%}"
    leads = page.saved(f"leads {RUN} {subject}")
    assert leads["lead"].tolist() == [row["lead"] for row in signal["leads"]]
    np.testing.assert_allclose(leads["share"], [r["share"] for r in signal["leads"]], rtol=1e-6)


def test_the_echo_plays_all_views_with_their_shares(
    page: Page, told: dict[str, Any], cohort: Cohort, subject: int
) -> None:
    (video,) = told["videos"]
    page.heart(subject, "echo")
    echo = page.viewer("echo")
    cards = echo.locator(".card")
    names = [card.get_attribute("data-view") for card in cards.all()]
    assert sorted(names) == sorted(VIEWS)
    recorded = set(cohort.videos("echo")[subject])
    missing = set(VIEWS) - recorded
    assert set(echo.get_attribute("data-missing").split(",")) == missing
    for view in missing:
        assert "not recorded" in echo.locator(f".card[data-view={view}]").inner_text()
    assert {row["view"] for row in video["views"]} == recorded

    one = echo.locator(f".card[data-view={video['peak_view']}]")
    assert echo.get_attribute("data-playing") == "true"
    frames: set[str] = set()

    def moves() -> bool:
        frames.add(one.get_attribute("data-frame"))
        return len(frames) > 3

    page.until(moves)

    views = page.saved(f"views {RUN} {subject}")
    assert views["view"].tolist() == [row["view"] for row in video["views"]]
    np.testing.assert_allclose(views["share"], [r["share"] for r in video["views"]], rtol=1e-6)
    (part,) = [p for p in told["parts"] if p["modality"] == "echo"]
    shares = page.csv(f"shares echo {RUN} {subject}").set_index("view")["share"]
    assert set(shares.index) == recorded
    for row in part["parts"]:
        assert shares[row["view"]] == pytest.approx(row["share"], abs=1e-6)


def test_labs_are_told_in_coloured_words_that_add_up_to_columns(
    page: Page, told: dict[str, Any], subject: int
) -> None:
    (part,) = [p for p in told["parts"] if p["modality"] == "labs"]
    page.heart(subject, "labs")
    words = page.tab.locator(".told .word").evaluate_all(
        "all => all.map(e => [e.textContent, e.getAttribute('style'), e.title])"
    )
    shares = {row["token"]: row for row in part["parts"]}
    assert len(words) == len(shares) == part["n_parts"]
    largest = abs(part["parts"][0]["share"])
    direction = Direction.of(told["explained"])
    for token, (word, style, title) in enumerate(words):
        row = shares[token]
        assert word == row["word"]
        red, green, blue, depth = re.findall(r"[\d.]+", style)
        assert float(depth) == pytest.approx(0.6 * abs(row["share"]) / largest, abs=6e-4)
        colour = direction.colour(row["share"])
        assert f"#{int(red):02x}{int(green):02x}{int(blue):02x}" == colour.lower()
        assert title == f"{direction.words(row['share'])}: {direction.share(row['share'])}"

    columns = page.csv(f"shares labs {RUN} {subject}").set_index("name")["share"]
    sums = pd.DataFrame(part["parts"]).groupby("name")["share"].sum()
    assert set(columns.index) == set(sums.index)
    np.testing.assert_allclose(columns, sums[columns.index], atol=1e-6)
    assert columns.sum() == pytest.approx(told["ledger"]["shares"]["labs"], abs=1e-5)


def test_attention_between_features_is_the_patients_and_the_outcomes(
    page: Page, case: Case, run: Run, cohort: Cohort, subject: int, tmp_path: Path
) -> None:
    page.heart(subject, "attention")
    table = page.csv(f"features {RUN}")
    groups = by_outcome(run, cohort, "internal", ResultStore(tmp_path))
    assert table["group"].unique().tolist() == ["This patient", *groups]
    own = feature_attention(case)
    assert own is not None
    mine = table[table["group"] == "This patient"]
    np.testing.assert_allclose(mine.groupby("from")["attention"].sum(), 1, atol=1e-5)
    assert mine["from"].nunique() == 2 ** len(run.config.modalities) - 1
    for name, expected in {"This patient": own, **groups}.items():
        rows = table[table["group"] == name]
        assert set(rows["patients"]) == {expected.n}
        assert rows["to"].tolist() == [*expected.names] * len(expected.names)
        np.testing.assert_allclose(rows["attention"], expected.weights.ravel(), atol=1e-6)


def test_a_lab_column_that_is_taken_away_moves_the_probability(
    page: Page, case: Case, told: dict[str, Any], subject: int
) -> None:
    page.heart(subject, "what-if")
    assert "Nothing is changed yet" in page.text()
    frame = page.tab.locator('[data-testid="stDataFrame"]').last
    frame.scroll_into_view_if_needed()
    rows = page.grid("Keep")
    columns = column_table(case, "labs")
    measured = [i for i in range(5) if columns["value"].iloc[i] is not None]
    changed = {i: what_if(case, changes=[Change("labs", (i,))]) for i in measured}

    def logit(which: Case) -> float:
        return float(which.prediction[0, 0])

    position = max(changed, key=lambda i: abs(logit(changed[i]) - logit(case)))
    box = frame.bounding_box()
    page.tab.mouse.click(box["x"] + 30, box["y"] + 35 * (position + 1.5))
    page.tab.wait_for_timeout(500)
    page.tab.keyboard.press("Space")
    page.until(lambda: "Nothing is changed yet" not in page.text())
    page.settle()
    name = f"Probability of {FAILING}"
    (row,) = page.table(name)
    before = told["prediction"]["probabilities"][FAILING]
    after = 1 / (1 + np.exp(-logit(changed[position])))
    assert row[name] == f"{before:.1%} to {after:.1%}"
    # The page shows a tenth of a percent; the model itself must have moved.
    assert abs(logit(changed[position]) - logit(case)) > 1e-4
    assert f"without {rows[position + 1][rows[0].index('What')]}" in page.text()


# ---------------------------------------------------------------- two tasks


def names_of(cohort: Cohort, both: dict[str, Any]) -> dict[str, str]:
    """{run: its title and its task's}."""
    return {
        run: f"{answer['title']} – {cohort.spec.task(answer['task']).title}"
        for run, answer in both.items()
    }


def test_one_patient_under_two_tasks_has_the_numbers_of_both_commands(
    page: Page, both: dict[str, Any], cohort: Cohort, subject: int
) -> None:
    names = names_of(cohort, both)
    page.heart(subject, "ecg")
    page.choose("Side by side", names[RISK])
    assert page.query["compare"] == f"incident_hf/{RISK}"
    diagnosis, risk = page.metrics()
    probabilities = both[RUN]["prediction"]["probabilities"]
    assert diagnosis == {f"Probability of {name}": f"{p:.1%}" for name, p in probabilities.items()}
    assert list(risk.values())[:3] == patients.shown_numbers(both[RISK])
    text = page.text()
    for run, answer in both.items():
        assert names[run] in text
        assert f"{names[run]} explains the {answer['explained']['title']}" in text
    table = page.csv(f"ledger {RUN} {RISK}")
    units = table.groupby("run")["unit"].unique().map(list).to_dict()
    assert units == {run: [answer["explained"]["unit"]] for run, answer in both.items()}
    for answer in both.values():
        patients.expect_ledger(table, answer)

    # A paper each, with the map of its own task and the shares of its own waves.
    page.until(lambda: page.tab.locator(".ecg[data-ready=true]").count() == 2)
    papers = page.tab.locator(".ecg[data-ready=true]")
    shown = {row["Wave"]: row for row in page.table(names[RISK])}
    for place, (run, answer) in enumerate(both.items()):
        assert names[run] in papers.nth(place).get_attribute("data-overlay")
        (signal,) = answer["signals"]
        waves = page.saved(f"waves {run} {subject}")
        assert waves["segment"].tolist() == [row["segment"] for row in signal["segments"]]
        np.testing.assert_allclose(
            waves["share"], [row["share"] for row in signal["segments"]], rtol=1e-6
        )
        for row in signal["segments"]:
            wave = "between waves" if row["segment"] == "between" else row["segment"]
            assert shown[wave][names[run]] == f"{row['share']:.0%}"


def test_the_told_labs_of_two_tasks_stand_side_by_side_in_their_own_colours(
    page: Page, both: dict[str, Any], cohort: Cohort, subject: int
) -> None:
    names = names_of(cohort, both)
    page.two(subject, "labs")
    assert page.query["compare"] == f"incident_hf/{RISK}"
    ranks = {}
    tops = page.tab.locator(".told").evaluate_all(
        "all => all.map(e => e.getBoundingClientRect().y)"
    )
    assert tops[0] == pytest.approx(tops[1], abs=2)  # line beside line
    for run, answer in both.items():
        (part,) = [p for p in answer["parts"] if p["modality"] == "labs"]
        place = page.tab.locator(f".st-key-told-{run}-labs")
        assert names[run] in place.inner_text()
        direction = Direction.of(answer["explained"])
        words = place.locator(".told .word").evaluate_all("all => all.map(e => e.title)")
        assert words == [
            f"{direction.words(row['share'])}: {direction.share(row['share'])}"
            for row in sorted(part["parts"], key=lambda row: row["token"])
        ]
        sums = pd.DataFrame(part["parts"]).groupby("title")["share"].sum()
        ranks[run] = sums.abs().rank(ascending=False, method="first").astype(int)
        columns = page.csv(f"shares labs {run} {subject}")["share"]
        assert columns.sum() == pytest.approx(answer["ledger"]["shares"]["labs"], abs=1e-5)
    for row in page.table(names[RISK]):
        for run in both:
            assert row[names[run]].split(":")[0] == str(ranks[run][row["What"]])


def test_the_echo_has_a_board_for_each_task_and_outcomes_are_asked_for_apart(
    page: Page, both: dict[str, Any], cohort: Cohort, subject: int
) -> None:
    names = names_of(cohort, both)
    page.two(subject, "echo")
    page.until(lambda: page.tab.locator(".echo[data-ready=true]").count() == 2)
    for place, (run, answer) in enumerate(both.items()):
        board = page.tab.locator(".echo[data-ready=true]").nth(place)
        assert names[run] in board.get_attribute("data-overlay")
        views = page.saved(f"views {run} {subject}")
        (video,) = answer["videos"]
        assert views["view"].tolist() == [row["view"] for row in video["views"]]
        np.testing.assert_allclose(views["share"], [r["share"] for r in video["views"]], rtol=1e-6)

    followed = len(cohort.outcomes("incident_hf", [subject])) > 0
    label = cohort.outcomes("hf", [subject]).label[0]
    told = ("This patient is one of them", "This patient is not")[not followed]
    happened = f"What happened ({cohort.spec.task('hf').title}): {('no ' * (not label))}{FAILING}"
    assert told not in page.text()
    assert happened not in page.text()
    title = cohort.spec.task("incident_hf").title
    page.tab.get_by_text(f"Show what happened: {title}", exact=True).click()
    page.settle()
    assert told in page.text()
    assert happened not in page.text()
    page.tab.get_by_text(f"Show what happened: {title}", exact=True).click()
    page.settle()
    assert told not in page.text()


# ---------------------------------------------------------------- all patients


def test_areas_and_combinations_are_those_of_the_command_and_the_analysis(
    page: Page, workspace_folder: Path, run: Run, cohort: Cohort, tmp_path: Path
) -> None:
    runs = [
        path.parent.name
        for path in sorted((workspace_folder / "runs").glob("hf-*/config.json"))
        if json.loads(path.read_text(encoding="utf-8"))["task"]["name"] == "hf"
    ]
    answer = command(
        workspace_folder, "evaluate", runs, "--split", "internal", "--results", str(tmp_path / "r")
    )
    page.open("compare", f"task={TASK}")
    measures = page.saved("label measures hf/hf internal").set_index("run")
    assert set(measures.index) == {row["run"] for row in answer["runs"]} == set(runs)
    shown = {row["Run"]: row for row in page.table("AUC (95% interval)")}
    for row in answer["runs"]:
        mine = measures.loc[row["run"]]
        for end, column in (("value", "auc"), ("low", "auc_low"), ("high", "auc_high")):
            assert mine[column] == pytest.approx(row["auc"][end], abs=1e-9)
        assert shown[row["title"]]["AUC (95% interval)"] == interval(row["auc"])
    best = max(answer["runs"], key=lambda row: row["auc"]["value"])
    verdict = page.tab.locator(".st-key-verdict").inner_text()
    assert f"the largest AUC: {interval(best['auc'])}" in verdict

    table = by_combination(run, cohort, "internal", ResultStore(tmp_path / "c"))
    cells = page.csv("combinations hf/hf internal")
    mine = cells[cells["run"] == RUN].set_index("combination")
    assert len(mine) == len(table["combinations"]) == 7
    for entry in table["combinations"]:
        cell = mine.loc[" + ".join(entry["modalities"])]
        assert cell["patients"] == table["n"]
        for measure in ("auc", "accuracy"):
            for end, ending in (("value", ""), ("low", "_low"), ("high", "_high")):
                assert cell[f"{measure}{ending}"] == pytest.approx(entry[measure][end], abs=1e-9)
    whole = mine.loc["labs + ecg + echo"]
    for found in table["differences"]:
        one = mine.loc[" + ".join(found["modalities"])]
        assert one["auc_difference"] == pytest.approx(whole["auc"] - one["auc"], abs=1e-9)
        assert one["auc_p_holm"] == pytest.approx(found["p_holm"], abs=1e-9)


def test_retrieval_says_how_often_and_at_which_rank(
    page: Page, workspace_folder: Path, cohort: Cohort, tmp_path: Path
) -> None:
    aligned = f"{RUN}-retrieval"
    name = aligned if (workspace_folder / "runs" / aligned).is_dir() else RUN
    run = load_run(workspace_folder / "runs" / name)
    page.open("retrieval", f"task={TASK}&strategy={name}")
    found = evaluate_retrieval(run, cohort, "internal", ResultStore(tmp_path), 10)
    titles = found["modalities"]
    shown = {(row["From"], row["to"]): row for row in page.table("LRAP (95% interval)")}
    assert len(shown) == len(found["directions"]) == 6
    for row in found["directions"]:
        mine = shown[titles[row["query"]], titles[row["target"]]]
        assert mine["LRAP (95% interval)"] == interval(row["lrap"])
        assert mine["LRAP by chance"] == number(row["chance"]["lrap"])
        assert mine["Recall@1"] == interval(row["recall"]["1"])
    assert f"{found['n']} patients with all of the run's modalities" in page.text()

    predicted = predict(run, cohort, cohort.subject_ids("internal", "hf"))
    whole = np.stack(list(predicted.present.values())).all(axis=0)
    ids = predicted.subject_ids[whole]
    assert len(ids) == found["n"]
    first, second = list(titles)[:2]
    place = ranks(predicted.after[first][whole], predicted.after[second][whole])
    best = int(candidates(predicted, int(ids[0]), first, second).subject_ids[0])
    if best in cohort.having(second):  # of the others only features were kept
        page.viewer("ecg")
    assert f"{titles[second]} is number {place[0]} of {len(ids)}" in page.text()
    page.choose("Patient", str(ids[1]))
    assert f"{titles[second]} is number {place[1]} of {len(ids)}" in page.text()
    # The candidates' table marks the own one where it is among them.
    marked = [
        row["Patient"]
        for row in page.table("Cosine similarity")
        if row["Whose"] == "the patient's own"
    ]
    assert marked == ([str(ids[1])] if place[1] <= 5 else [])
