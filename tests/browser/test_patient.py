"""The patient page in Chromium: the numbers of `fusionlens explain`, and ways to look closer."""

from __future__ import annotations

import html
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from analysis.attribution.attention import attention_maps
from analysis.attribution.case import Case, open_case
from analysis.attribution.export import label_texts
from analysis.attribution.modalities import modality_ledger
from analysis.attribution.target import LogRisk
from analysis.attribution.volume import METHODS
from analysis.cohort.cohort import Cohort
from analysis.store import ResultStore, result_key
from analysis.trust.card import card
from analysis.trust.report import report_part, trust_report
from analysis.trust.study import Budget
from analysis.whatif import Change, what_if
from app.cli import cli
from app.figures.outlook import Outcome
from app.figures.text import signed
from app.panels.ct_viewer import PRESETS
from app.panels.patient_attention import short_place
from models.checkpoint import load_run
from tests.analysis.trust.test_report import toy_cohort, toy_run
from tests.browser.driver import END, Reader

pytestmark = pytest.mark.browser
TASK, EVENT = "pe/mortality", "death from any cause"
CROSS, LATE, EHR = "pe-cross-attention-onehot", "pe-late-onehot", "pe-ehr-onehot"
# Internal test patients with short records; both have a scan, the third has none.
PATIENT, OTHER, NO_CT = 10064, 10054, 10043


@pytest.fixture(scope="module")
def context(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, accept_downloads=True)
    yield context
    context.close()


class Page(Reader):
    """A tab on the patient page, with what its script and its server say."""

    def __init__(self, tab: Any, address: str) -> None:
        super().__init__(tab, address)
        self.errors: list[str] = []
        self.sent = 0
        tab.on("pageerror", lambda error: self.errors.append(str(error)))
        tab.on("websocket", lambda web: web.on("framesent", self._count))

    def _count(self, _: Any) -> None:
        self.sent += 1

    def patient(self, subject: int = PATIENT, strategy: str = CROSS, **more: str) -> Page:
        asked = {"task": TASK, "patient": subject, "strategy": strategy, **more}
        self.open("patient", "&".join(f"{k}={v}" for k, v in asked.items()))
        return self

    @property
    def query(self) -> dict[str, str]:
        return {k: v[0] for k, v in parse_qs(urlsplit(self.tab.url).query).items()}

    def alerts(self) -> str:
        return " ".join(self.tab.locator('[data-testid="stAlert"]').all_inner_texts())

    def metrics(self) -> list[dict[str, str]]:
        """Label to value, a run each."""
        found: list[dict[str, str]] = []
        for box in self.tab.locator('[class*="st-key-prediction-"]').all():
            texts = [m.inner_text() for m in box.locator('[data-testid="stMetric"]').all()]
            found.append(dict(tuple(text.split("\n\n", 1)) for text in texts))
        return found

    def figure(self, name: str) -> Any:
        key = name.replace(" ", "-").replace("/", "-")
        return self.tab.locator(f".st-key-figure-{key}")

    def csv(self, name: str) -> pd.DataFrame:
        path = self.download(self.figure(name).get_by_text("Data (CSV)"))
        return pd.read_csv(path, float_precision="round_trip")

    def grids(self) -> list[list[list[str]]]:
        """The rows in sight of every interactive table, as a screen reader gets them."""
        return self.tab.evaluate(
            """() => [...document.querySelectorAll('[data-testid=stDataFrame]')].map(frame =>
              [...frame.querySelectorAll('canvas table tr')].map(row =>
                [...row.querySelectorAll('th, td')].map(cell => cell.textContent.trim())))"""
        )

    def grid(self, heading: str) -> list[list[str]]:
        """The list with a column of this name; it is drawn a little after the page is finished."""
        for _ in range(50):
            for rows in self.grids():
                if rows and heading in rows[0]:
                    return rows
            self.tab.wait_for_timeout(100)
        raise AssertionError(f"no list with a column {heading!r}: {[g[:1] for g in self.grids()]}")

    def section(self, title: str) -> Page:
        self.press("Similar patients", title)
        return self

    @property
    def ct(self) -> Any:
        root = self.tab.locator(".ct[data-ready=true]")
        root.wait_for(timeout=30_000)
        return root

    def seen(self, name: str) -> str:
        return self.ct.get_attribute(f"data-{name}")

    def cross(self) -> list[float]:
        return [float(mm) for mm in self.seen("cross").split(",")]

    def place(self, mm: Any) -> tuple[float, float]:
        """Page coordinates of a point in RAS mm in the axial picture."""
        top = self.tab.locator(".pane[data-plane=axial] canvas.top")
        top.scroll_into_view_if_needed()
        left, upper, scale = (float(part) for part in top.get_attribute("data-map").split(","))
        box = top.bounding_box()
        return box["x"] + (left - mm[0]) * scale, box["y"] + (upper - mm[1]) * scale

    def matrix(self, name: str) -> str:
        return self.tab.locator(".matrix").evaluate("(e, name) => e.dataset[name] ?? ''", name)

    def until(self, holds: Callable[[], Any]) -> None:
        for _ in range(300):
            if holds():
                return
            self.tab.wait_for_timeout(100)
        raise AssertionError("it did not come to that")


@pytest.fixture
def page(context: Any, address: str) -> Iterator[Page]:
    page = Page(context.new_page(), address)
    yield page
    assert page.errors == []
    page.tab.close()


@pytest.fixture(scope="module")
def told(
    workspace_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, int], dict[str, Any]]:
    """What `fusionlens explain --json` prints, with a store of its own."""
    results = tmp_path_factory.mktemp("told")
    made: dict[tuple[str, int], dict[str, Any]] = {}

    def get(run: str, subject: int = PATIENT) -> dict[str, Any]:
        if (run, subject) not in made:
            arguments = ["explain", str(workspace_folder / "runs" / run), "--patient", str(subject)]
            arguments += ["--cohort", str(workspace_folder / "cohorts" / "pe")]
            found = CliRunner().invoke(cli, [*arguments, "--results", str(results), "--json"])
            assert found.exit_code == 0, found.output
            made[run, subject] = json.loads(found.stdout)
        return made[run, subject]

    return get


@pytest.fixture(scope="module")
def cases(workspace_folder: Path) -> Callable[[str, int], Case]:
    cohort = Cohort.open(workspace_folder / "cohorts" / "pe")
    return lambda run, subject=PATIENT: open_case(
        load_run(workspace_folder / "runs" / run), cohort, subject
    )


def shown_numbers(answer: dict[str, Any]) -> list[str]:
    found = answer["prediction"]
    return [
        f"{found['survival_at_horizon']:.1%}",
        f"{found['percentile']:.0f}%",
        signed(found["relative_log_risk"], 2),
    ]


def expect_ledger(table: pd.DataFrame, answer: dict[str, Any]) -> None:
    mine = table[table["run"] == answer["run"]].set_index("modality")
    ledger = answer["ledger"]
    assert set(mine.index) == set(ledger["shares"])
    for name, share in ledger["shares"].items():
        if share is None:
            assert pd.isna(mine.loc[name, "share"])
        else:
            assert mine.loc[name, "share"] == pytest.approx(share, abs=1e-6)
    assert (mine["reference"] - ledger["reference"]).abs().max() < 1e-6
    assert (mine["prediction"] - ledger["prediction"]).abs().max() < 1e-6


# ---------------------------------------------------------------- the numbers of the command


def test_prediction_and_ledger_are_those_of_the_command(page: Page, told: Any) -> None:
    answer = told(CROSS)
    page.patient()
    (numbers,) = page.metrics()
    assert list(numbers.values())[:3] == shown_numbers(answer)
    expect_ledger(page.csv(f"ledger {CROSS}"), answer)
    drawn = page.figure(f"ledger {CROSS}").inner_text()
    for share in answer["ledger"]["shares"].values():
        assert signed(share, 2) in drawn


def test_event_shares_are_those_of_the_command(page: Page, told: Any) -> None:
    (part,) = told(CROSS)["parts"]
    page.patient(section="ehr")
    table = page.csv(f"shares ehr {CROSS} {PATIENT}")
    rows = pd.DataFrame(part["parts"]).sort_values("event")
    assert table["code"].tolist() == rows["code"].tolist()
    np.testing.assert_allclose(table["share"], rows["share"], atol=1e-6)
    drawn = page.figure(f"shares ehr {CROSS} {PATIENT}").inner_text()
    top = part["parts"][0]
    assert top["description"].split(" [")[0][:12] in drawn
    assert signed(top["share"], 2) in drawn
    assert f"{part['n_parts']} events" in page.text()
    assert signed(part["sum_of_shares"], 3) in page.text()
    # The timeline got every event.
    assert page.tab.locator(".timeline").evaluate("e => e.dataset.visible") == str(part["n_parts"])


def test_the_map_lies_where_the_command_says(page: Page, told: Any, cases: Any) -> None:
    (made,) = told(CROSS)["maps"]
    page.patient(section="ct")
    assert made["place"] in page.text()
    spacing = cases(CROSS).scan("ct", native=True).spacing_mm[::-1]
    away = np.abs(np.subtract(page.cross(), made["peak_mm"]))
    assert (away <= np.asarray(spacing) / 2 + 0.01).all()
    value = float(page.seen("value"))
    assert 0.3 * made["largest"] < value <= made["largest"] * 1.001


def test_survival_at_a_horizon_is_explained_in_probabilities(page: Page, cases: Any) -> None:
    page.patient(strategy=LATE, section="what-if").press(
        "Explain", "event-free probability at the horizon"
    )
    table = page.csv(f"ledger {LATE}").set_index("modality")
    (numbers,) = page.metrics()
    assert f"{table['prediction'].iloc[0]:.1%}" == next(iter(numbers.values()))
    total = table["reference"].iloc[0] + table["share"].sum()
    assert total == pytest.approx(table["prediction"].iloc[0], abs=1e-5)


# ---------------------------------------------------------------- the scan


def test_the_viewer_scrolls_windows_and_hides_without_the_server(
    page: Page, told: Any, cases: Any
) -> None:
    page.patient(section="ct")
    start = int(page.seen("slice"))
    page.tab.mouse.move(*page.place(page.cross()))
    page.tab.wait_for_timeout(800)
    before = page.sent
    page.tab.mouse.wheel(0, 100)
    page.tab.mouse.wheel(0, 100)
    page.until(lambda: int(page.seen("slice")) == start - 2)
    scan = cases(CROSS).scan("ct", native=True)
    at = np.round(scan.to_voxels([float(mm) for mm in page.seen("mm").split(",")])[0]).astype(int)
    assert float(page.seen("hu")) == pytest.approx(scan.array[tuple(at)], abs=0.5)
    lung = next(i for i, preset in enumerate(PRESETS) if preset.name == "Lung")
    page.tab.locator(".ct .stage").focus()
    page.tab.keyboard.press(str(lung + 1))
    page.until(lambda: (page.seen("window"), page.seen("level")) == ("1500", "-600"))
    title = page.seen("overlay")
    (made,) = told(CROSS)["maps"]
    assert METHODS[made["method"]].title in title
    page.tab.keyboard.press("o")
    page.until(lambda: page.seen("overlay") == "")
    page.tab.keyboard.press("o")
    page.until(lambda: page.seen("overlay") == title)
    page.tab.wait_for_timeout(500)
    assert page.sent == before


def test_a_patient_without_a_scan_has_no_zero(page: Page, told: Any) -> None:
    answer = told(LATE, NO_CT)
    assert answer["ledger"]["shares"]["ct"] is None
    page.patient(NO_CT, LATE, section="ct")
    assert "has no 'ct'" in page.text()
    assert page.tab.locator(".ct").count() == 0
    assert "not there" in page.figure(f"ledger {LATE}").inner_text()
    expect_ledger(page.csv(f"ledger {LATE}"), answer)
    (numbers,) = page.metrics()
    assert list(numbers.values())[:3] == shown_numbers(answer)
    assert "tuning split" in page.alerts()


# ---------------------------------------------------------------- attention


def lines(page: Page) -> bool:
    """Whether a lit region's outline is in the axial picture."""
    return page.tab.evaluate(
        """() => {
          const find = root => {
            for (const e of root.querySelectorAll('*')) {
              if (e.matches('.pane[data-plane=axial]')) return e;
              const deeper = e.shadowRoot && find(e.shadowRoot);
              if (deeper) return deeper;
            }
          };
          const top = find(document).querySelector('canvas.top');
          const { data } = top.getContext('2d').getImageData(0, 0, top.width, top.height);
          for (let i = 0; i < data.length; i += 4)
            if (data[i + 3] > 200 && Math.abs(data[i] - 90) < 40 && Math.abs(data[i + 1] - 209) < 40
                && Math.abs(data[i + 2] - 255) < 40) return true;
          return false;
        }"""
    )


def click_row(page: Page, row: int) -> None:
    root = page.tab.locator(".matrix")
    root.scroll_into_view_if_needed()
    column = int(page.matrix("firstColumn"))
    spot = root.evaluate("(root, what) => root.where(...what)", ["row", row, column])
    box = root.locator(".plot").bounding_box()
    page.tab.mouse.click(box["x"] + spot["x"], box["y"] + spot["y"])


def test_a_row_lights_its_regions_and_a_region_ranks_the_events(page: Page, cases: Any) -> None:
    case = cases(CROSS)
    (found,) = attention_maps(case, LogRisk())
    page.patient(section="attention")
    assert page.matrix("selected") == ""
    row = int(page.matrix("firstRow"))
    click_row(page, row)
    page.until(lambda: page.matrix("selected") == f"row {row}")
    page.settle()
    strongest = found.columns.iloc[int(found.weights[row].argmax())]
    centre = strongest[["x_mm", "y_mm", "z_mm"]].to_numpy(float)
    half = np.asarray(case.scan("ct", native=True).spacing_mm[::-1]) / 2 + 0.01
    page.until(lambda: (np.abs(np.subtract(page.cross(), centre)) <= half).all())
    assert lines(page)
    assert label_texts(found.rows)[row] in page.text()
    ranked = page.grid("Weight")
    places = [short_place(text) for text in label_texts(found.columns)]
    order = np.argsort(-found.weights[row], kind="stable")
    assert [r[0] for r in ranked[1:4]] == [places[i] for i in order[:3]]
    assert float(ranked[1][1]) == pytest.approx(found.weights[row].max(), abs=6e-5)

    region = int(found.weights[row].argmax())
    page.tab.mouse.click(*page.place(centre))
    page.until(lambda: page.matrix("selected") == f"column {region}")
    page.settle()
    ranked = page.grid("Weight")
    order = np.argsort(-found.weights[:, region], kind="stable")
    assert [r[0] for r in ranked[1:4]] == [label_texts(found.rows)[i] for i in order[:3]]
    assert float(ranked[1][1]) == pytest.approx(found.weights[:, region].max(), abs=6e-5)


def test_what_was_picked_for_one_patient_is_not_picked_for_the_next(page: Page) -> None:
    """The memory of the picked region is a patient's, not a run's."""
    page.patient(section="attention")
    page.tab.mouse.click(*page.place(page.cross()))
    page.until(lambda: page.matrix("selected").startswith("column"))
    page.settle()
    page.tab.locator(".st-key-patient-before button, .st-key-patient-after button").first.click()
    page.tab.wait_for_timeout(500)
    page.settle()
    assert page.query["patient"] != str(PATIENT)
    assert page.query["section"] == "attention"
    assert page.matrix("selected") == ""


def test_a_strategy_without_attention_says_why(page: Page) -> None:
    page.patient(strategy=LATE, section="attention")
    assert "fuses summaries of the modalities" in page.text()
    assert page.tab.locator(".matrix").count() == 0


# ---------------------------------------------------------------- what if


def test_leaving_the_record_out_is_the_ledgers_subset(page: Page, told: Any, cases: Any) -> None:
    answer = told(CROSS)["prediction"]
    zero = answer["log_risk"] - answer["relative_log_risk"]
    without = float(modality_ledger(cases(CROSS), LogRisk()).without("ehr")[0])
    page.patient(section="what-if")
    assert "Nothing is changed yet" in page.text()
    page.press("Leave a modality out", "EHR")
    (row,) = page.table("Change in log-risk")
    assert row["Log-risk, on file"] == signed(answer["relative_log_risk"], 3)
    assert row["Log-risk, changed"] == signed(without - zero, 3)
    assert row["Change in log-risk"] == signed(without - answer["log_risk"], 3)
    (survival,) = [name for name in row if name.startswith("Event-free")]
    assert row[survival] == f"{answer['survival_at_horizon']:.1%}"
    curves = page.csv(f"what if {PATIENT}")
    assert (curves["survival"] - curves["survival_changed"]).abs().max() > 0.01
    # Both: nothing would be left, and that is said.
    page.press("Leave a modality out", "CT")
    assert "nothing would be left for the model to read" in page.alerts()


def test_an_event_unticked_in_the_list_is_taken_away(page: Page, cases: Any) -> None:
    case = cases(LATE)
    page.patient(strategy=LATE, section="what-if")
    frame = page.tab.locator('[data-testid="stDataFrame"]').last
    frame.scroll_into_view_if_needed()
    page.tab.wait_for_timeout(500)
    rows = page.grid("Keep")
    position = 2
    box = frame.bounding_box()
    page.tab.mouse.click(box["x"] + 30, box["y"] + 35 * (position + 1.5))
    page.tab.wait_for_timeout(500)
    page.tab.keyboard.press("Space")
    page.until(lambda: "Nothing is changed yet" not in page.text())
    page.settle()
    after = what_if(case, changes=[Change("ehr", remove=(position,))])
    (row,) = page.table("Change in log-risk")
    change = float(after.prediction[0, 0] - case.prediction[0, 0])
    assert row["Change in log-risk"] == signed(change, 3)
    what = rows[position + 1][rows[0].index("What")]
    assert f"without {what}" in page.text()


def test_what_if_of_two_strategies(page: Page, told: Any, cases: Any) -> None:
    """Two runs that read one record share its list."""
    page.patient(strategy=LATE, compare=CROSS, section="what-if")
    page.press("Leave a modality out", "CT")
    rows = {row["Strategy"]: row for row in page.table("Change in log-risk")}
    for run in (LATE, CROSS):
        ledger = modality_ledger(cases(run), LogRisk())
        change = float(ledger.without("ct")[0]) - told(run)["prediction"]["log_risk"]
        assert rows[told(run)["title"]]["Change in log-risk"] == signed(change, 3)


# ---------------------------------------------------------------- blinded


def test_what_happened_is_hidden_until_asked_for(page: Page, workspace_folder: Path) -> None:
    cohort = Cohort.open(workspace_folder / "cohorts" / "pe")
    outcome = cohort.outcomes("mortality", [PATIENT])
    happened = Outcome(float(outcome.time_days[0]), bool(outcome.event[0]), EVENT).words
    page.patient(strategy=LATE, section="similar")
    name = f"outlook {LATE}"

    def drawn() -> str:
        return page.figure(name).locator(".js-plotly-plot").inner_text()

    def similar() -> list[str]:
        return page.grid("Distance (sd)")[0]

    before = drawn()
    assert happened not in " ".join(page.text().split())
    assert "Event" not in similar()
    page.tab.get_by_text("Show what happened", exact=True).click()
    page.settle()
    assert happened in " ".join(drawn().split())
    assert "Event" in similar()
    page.tab.get_by_text("Show what happened", exact=True).click()
    page.settle()
    assert drawn() == before


# ---------------------------------------------------------------- choosing


def test_a_patient_is_chosen_by_a_click_in_the_list(page: Page) -> None:
    page.patient(strategy=LATE, section="what-if")
    page.tab.get_by_text("Choose from a list").click()
    page.settle()
    rows = page.grid("Risk percentile")
    head, body = rows[0], rows[1:]
    assert {"Patient", "Split", "Has", "Risk percentile"} <= set(head)
    assert "Followed (days)" not in head
    wanted = next(i for i, row in enumerate(body) if row[0] != str(PATIENT))
    frame = page.tab.locator('[data-testid="stDataFrame"]').first
    frame.scroll_into_view_if_needed()
    page.tab.wait_for_timeout(500)  # a picture above may still take its height
    box = frame.bounding_box()
    page.tab.mouse.click(box["x"] + 18, box["y"] + 35 * (wanted + 1.5))
    page.until(lambda: page.query["patient"] == body[wanted][0])
    # The run that took the click ends with a rerun; until then its footer stands there, too.
    page.until(lambda: page.tab.get_by_text(END).count() == 1)
    page.settle()
    subject = body[wanted][0]
    box = page.tab.get_by_role("combobox", name="Patient (")
    assert box.input_value().startswith(f"{subject}, ")
    saved = page.download(page.figure(f"ledger {LATE}").get_by_text("Data (CSV)"))
    assert saved.name == f"ledger-{LATE}-{subject}.csv"


@pytest.mark.parametrize("times", [1, 2, 3])
def test_every_choice_of_a_section_counts(page: Page, times: int) -> None:
    """A control whose key holds the last choice loses every second click."""
    page.patient(strategy=LATE, section="what-if")
    titles = {"Attention": "attention", "Export": "export", "What if": "what-if"}
    for title in list(titles)[:times]:
        page.section(title)
        assert page.query["section"] == titles[title]


def test_every_choice_of_a_strategy_counts(page: Page, told: Any) -> None:
    """As for sections; and a number always belongs to the strategy above it."""
    page.patient(strategy=CROSS, section="what-if")
    for run in (LATE, EHR, CROSS):
        page.choose("Strategy", told(run)["title"])
        assert page.query["strategy"] == run
        (numbers,) = page.metrics()
        assert list(numbers.values())[:3] == shown_numbers(told(run))
    for run in (LATE, EHR):
        page.choose("Side by side", told(run)["title"])
        assert page.query["compare"] == run
        assert [list(n.values())[:3] for n in page.metrics()] == [
            shown_numbers(told(CROSS)),
            shown_numbers(told(run)),
        ]


def test_two_strategies_stand_side_by_side(page: Page, told: Any) -> None:
    page.patient(strategy=LATE, compare=CROSS, section="ct")
    assert [list(n.values())[:3] for n in page.metrics()] == [
        shown_numbers(told(LATE)),
        shown_numbers(told(CROSS)),
    ]
    table = page.csv(f"ledger {LATE} {CROSS}")
    for run in (LATE, CROSS):
        expect_ledger(table, told(run))
        assert told(run)["maps"][0]["place"] in page.text()
    # One model's number is never shown twice.
    assert table["prediction"].nunique() == 2


# ---------------------------------------------------------------- the address


def test_a_shared_address_opens_the_same_view_elsewhere(
    page: Page, browser: Any, told: Any
) -> None:
    page.patient(strategy=LATE, section="ct")
    page.choose("Side by side", told(CROSS)["title"])
    page.section("What if")
    shared = page.tab.url
    assert page.query["workspace"]
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    try:
        other = Page(context.new_page(), page.address)
        other.tab.goto(shared)
        other.settle()
        assert other.query == page.query
        assert other.query["patient"] == str(PATIENT)
        assert other.alerts() == page.alerts()
        other.until(lambda: other.metrics() == page.metrics())
        assert "Nothing is changed yet" in other.text()
        pressed = other.tab.locator('[data-testid="stButtonGroup"] [aria-checked="true"]')
        assert "What if" in " ".join(pressed.all_inner_texts())
        assert other.errors == []
    finally:
        context.close()


def test_an_address_that_asks_for_what_is_not_here_is_answered(page: Page) -> None:
    page.patient(99, "no-such-run", workspace="elsewhere", section="no-such-section")
    said = page.alerts()
    assert "made in the workspace elsewhere" in said
    for what in ("strategy no-such-run", "patient 99", "section no-such-section"):
        assert f"The address asks for {what}, which is not here" in said
    assert page.query["patient"] != "99"
    assert page.query["workspace"] != "elsewhere"
    assert len(page.metrics()) == 1


# ---------------------------------------------------------------- export


def test_the_report_and_the_archive_hold_the_numbers(
    page: Page, told: Any, cases: Any, tmp_path: Path
) -> None:
    answer = told(CROSS)
    page.patient(section="export")
    page.tab.get_by_role("button", name="Make report and files").click()
    button = page.tab.get_by_role("button", name="Report (HTML)")
    button.wait_for(timeout=60_000)
    page.settle()
    report = html.unescape(page.download(button).read_text(encoding="utf-8"))
    for text in (str(PATIENT), answer["title"], answer["notice"], *shown_numbers(answer)[:1]):
        assert text in report
    assert answer["parts"][0]["parts"][0]["description"] in report
    assert answer["maps"][0]["place"] in report

    pack = zipfile.ZipFile(page.download(page.tab.get_by_role("button", name="Maps and shares")))
    about = json.loads(pack.read("about.json"))
    assert {item["file"] for item in about["files"]} <= set(pack.namelist())
    assert {item["run_hash"] for item in about["files"]} == {answer["run_hash"]}
    (share,) = [name for name in pack.namelist() if name.endswith(".csv")]
    with pack.open(share) as stream:
        table = pd.read_csv(stream, float_precision="round_trip")
    assert table["share"].sum() == pytest.approx(answer["ledger"]["shares"]["ehr"], abs=1e-4)
    (name,) = [name for name in pack.namelist() if ".nii" in name]
    # A name that ends in .gz and no compression: no program opens it.
    assert (pack.read(name)[:2] == b"\x1f\x8b") == name.endswith(".gz")
    pack.extract(name, tmp_path)
    image = nib.load(tmp_path / name)
    scan = cases(CROSS).scan("ct", native=True)
    values = np.asarray(image.dataobj)
    assert values.shape == scan.array.shape[::-1]
    np.testing.assert_allclose(image.affine, scan.affine, atol=1e-4)
    at = np.unravel_index(values.argmax(), values.shape)
    away = np.abs(np.subtract((image.affine @ [*at, 1])[:3], answer["maps"][0]["peak_mm"]))
    assert (away <= np.asarray(scan.spacing_mm[::-1]) * 1.01).all()


# ---------------------------------------------------------------- trust


def test_the_trust_page_tells_what_was_measured_last(
    page: Page, workspace_folder: Path, tmp_path: Path
) -> None:
    """A report that is stored while the app runs is seen; the numbers are a toy's."""
    run = load_run(workspace_folder / "runs" / LATE)
    cohort = Cohort.open(workspace_folder / "cohorts" / "pe")
    page.open("trust", f"task={TASK}")
    measured = trust_report(
        toy_run(), toy_cohort(tmp_path), n_patients=4, budget=Budget(4, 2, 2, 1)
    )
    report = {**measured, "run": LATE, "run_hash": run.hash, "cohort": cohort.spec.name}
    store = ResultStore(workspace_folder / "results")
    parameters = {"run": run.hash, "cohort": cohort.fingerprint, "split": "internal", "seed": 0}
    parameters |= {"method": "trust", "version": measured["version"]}
    store.put(parameters, report)
    try:
        page.open("trust", f"task={TASK}")
        strategy = page.tab.get_by_role("combobox", name="Strategy")
        if strategy.input_value() != run.config.title:
            page.choose("Strategy", run.config.title)
        assert strategy.input_value() == run.config.title
        part = report["modalities"]["ct"]
        best = part["recommended"]
        assert best["title"] in page.text()
        judged = card(report_part(report, "ct", best["method"], best["layer"]))
        assert judged.sentences[0] in page.text()
        path = page.download(page.tab.get_by_role("button", name="Everything measured (JSON)"))
        assert json.loads(path.read_text(encoding="utf-8")) == json.loads(json.dumps(report))
        # The page of a patient shows the recommended map first, and what was measured of it.
        page.patient(strategy=LATE, section="ct")
        assert judged.sentences[0] in page.text()
        assert METHODS[best["method"]].title in page.seen("overlay")
    finally:
        shutil.rmtree(store.folder / result_key(parameters))
