"""The Representation page: pictures, rows, verdict, table, command and background process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

import app.projecting as projecting
from analysis.cohort.cohort import Cohort
from analysis.representation.patient import PatientRows
from analysis.representation.population import population
from analysis.representation.projection import Method, find_projection
from analysis.representation.report import representation
from analysis.store import ResultStore
from app.cli import cli
from app.figures.patient_rows import rows_figure, rows_frame, spectrum
from app.figures.representation import Named, picture
from app.panels import frame, represent_numbers
from app.panels.represent_verdict import verdict
from app.projecting import Projector
from models.checkpoint import load_run
from tests.app.toy import rename_run

MAIN = Path(frame.__file__).resolve().parents[1] / "main.py"
NAMED = Named({"ct": "CT", "ehr": "EHR"}, "Risk above that of the run's training patients", "death")


def table(n: int = 6) -> pd.DataFrame:
    """Two modalities of n patients; patient 2 has no EHR."""
    rng = np.random.default_rng(0)
    rows = [(i, m) for m in ("ct", "ehr") for i in range(n) if (i, m) != (2, "ehr")]
    found = pd.DataFrame(rows, columns=["subject_id", "modality"])
    at = found["subject_id"]
    return found.assign(
        split="internal",
        site=np.where(at < 3, "A", "B"),
        outcome=np.where(at % 2 == 0, "event", "censored"),
        time_days=100.0 * at,
        group=at % 2,
        prediction=at / 10,
        percentile=10.0 * at,
        **{f"{a}_{s}": rng.normal(size=len(found)) for s in ("before", "after") for a in "xy"},
    )


def traces(figure: go.Figure, axis: str, meta: Any = None) -> list[Any]:
    found = [t for t in figure.data if t.xaxis == axis and t.x[0] is not None]
    return [t for t in found if meta is None or t.meta == meta]


# ---------------------------------------------------------------- the picture


def test_both_panels_have_one_frame_and_all_points() -> None:
    points = table()
    figure = picture(points, 5.0, NAMED)
    layout = figure.layout
    for axis in (layout.xaxis, layout.xaxis2, layout.yaxis, layout.yaxis2):
        assert tuple(axis.range) == (-5.0, 5.0)
    assert layout.xaxis2.matches == "x"
    assert layout.yaxis2.matches == "y"
    for axis, stage in (("x", "before"), ("x2", "after")):
        drawn = {t.meta: np.asarray(t.x) for t in traces(figure, axis)}
        for name, x in drawn.items():
            np.testing.assert_array_equal(x, points[points["modality"] == name][f"x_{stage}"])
    assert {t.type for t in traces(figure, "x")} == {"scattergl"}
    assert [t.name for t in figure.data if t.name] == ["CT (6)", "EHR (5)"]


def test_a_run_without_after_has_one_panel() -> None:
    figure = picture(table().drop(columns=["x_after", "y_after"]), 5.0, NAMED)
    assert traces(figure, "x2") == []
    assert [a.text for a in figure.layout.annotations] == ["<b>Before alignment</b>"]


@pytest.mark.parametrize("colour", ["outcome", "site", "time_days", "prediction", "split"])
def test_every_colour_draws_every_point_once_with_counts(colour: str) -> None:
    points = table()
    figure = picture(points, 5.0, NAMED, colour)
    drawn = np.concatenate([np.asarray(t.x) for t in traces(figure, "x")])
    np.testing.assert_array_equal(np.sort(drawn), np.sort(points["x_before"]))
    names = [t.name for t in figure.data if t.name]
    assert names[:2] == ["CT (6)", "EHR (5)"]
    expected = {
        "outcome": ["censored (3 patients)", "death (3 patients)"],
        "site": ["site A (3 patients)", "site B (3 patients)"],
        "time_days": ["death (3 patients)", "censored (3 patients)"],
        "split": ["Internal test (6 patients)"],
        "prediction": [],
    }
    assert names[2:] == expected[colour]
    if colour in ("time_days", "prediction"):
        shown = {
            i: v for t in traces(figure, "x") for i, v in zip(t.x, t.marker.color, strict=True)
        }
        column = {"time_days": "time_days", "prediction": "percentile"}[colour]
        assert shown == dict(zip(points["x_before"], points[column], strict=True))
        assert figure.layout.coloraxis.cmin == 0
        assert figure.layout.coloraxis.cmax == (500 if colour == "time_days" else 100)


def test_what_happened_is_told_only_where_it_is_the_colour() -> None:
    def hover(colour: str) -> str:
        return " ".join(t.hovertemplate for t in traces(picture(table(), 5.0, NAMED, colour), "x"))

    for colour in ("modality", "prediction", "site"):
        assert "death" not in hover(colour)
        assert "Patient %{customdata[0]}" in hover(colour)
    assert "death" in hover("outcome")


def test_lines_join_one_patients_modalities() -> None:
    points = table()
    figure = picture(points, 5.0, NAMED, patient=4)
    (line,) = traces(figure, "x2", "lines")
    mine = points[points["subject_id"] == 4]
    ends = np.column_stack([line.x, line.y]).reshape(2, 3, 2)
    np.testing.assert_allclose(ends[:, 1], mine[["x_after", "y_after"]])
    np.testing.assert_allclose(ends[:, 0], [mine[["x_after", "y_after"]].mean()] * 2)
    assert np.isnan(ends[:, 2]).all()
    (marks,) = traces(figure, "x2", "patient")
    assert len(marks.x) == 2
    alone = traces(picture(points, 5.0, NAMED, patient=2), "x", "patient")[0]
    assert list(alone.text) == ["CT"]  # no point for what the patient lacks


def test_names_from_files_are_escaped() -> None:
    named = Named({"ct": "<b>CT</b>", "ehr": "EHR"}, "Risk", "<i>death</i>")
    for colour in ("modality", "outcome", "time_days"):
        text = picture(table(), 5.0, named, colour).to_json()
        assert "<b>CT" not in text.replace("\\u003c", "<").replace("<b>Before", "")
        assert "<i>death" not in text.replace("\\u003c", "<")


# ---------------------------------------------------------------- rows, spectrum


def rows(stage: str, mean: float) -> PatientRows:
    values = {"ct": np.array([1.0, -4.0, 0.5])}
    return PatientRows(7, stage, "as_given", values, {}, mean, 0.25)


def test_rows_show_absence_and_the_correlation() -> None:
    found = {"before": rows("before", float("nan")), "after": rows("after", 0.5)}
    figure = rows_figure(found, NAMED.modalities)
    first, second = figure.data
    np.testing.assert_array_equal(first.z[0], [1, -4, 0.5])
    assert np.isnan(second.z[1]).all()
    texts = [a.text for a in figure.layout.annotations]
    assert texts.count("absent in this patient") == 2
    assert "mean correlation of its rows 0.50 (with rows of other patients 0.25)" in texts[2]
    scale = figure.layout.coloraxis
    assert (scale.cmin, scale.cmax) == (-3, 3)
    assert scale.colorbar.title.text == "typical size = 1"
    assert scale.colorbar.ticktext[0].endswith("or less")
    data = rows_frame(found, NAMED.modalities)
    assert data["value"].tolist() == [1, -4, 0.5] * 2
    assert data["dimension"].tolist() == [1, 2, 3] * 2


def test_the_spectrum_is_drawn_as_told() -> None:
    figure = spectrum({"n": 5, "before": [0.6, 0.4], "after": [0.9, 0.1]})
    assert [list(t.y) for t in figure.data] == [[0.6, 0.4], [0.9, 0.1]]
    assert len(spectrum({"n": 5, "before": [0.6, 0.4]}).data) == 1


# ---------------------------------------------------------------- words and numbers


ENDS = ("value", "low", "high")


def measure(name: str, before: Any, after: Any, change: Any, chance: float) -> dict[str, Any]:
    def told(value: Any) -> Any:
        return value and {
            **dict(zip(("value", "low", "high"), value, strict=True)),
            "chance": chance,
        }

    gap = change and dict(zip(("value", "low", "high"), change, strict=True))
    return {"name": name, "before": told(before), "after": told(after), "change": gap}


def answer(
    foscttm: tuple, change: tuple, purity: float, rows: tuple, rise: float = 0.0
) -> dict[str, Any]:
    return {
        "stages": ["before", "after"],
        "modalities": {"a": {}, "b": {}},
        "after_is": "each modality on a sphere.",
        "alignment_loss": "InfoNCE",
        "measures": [
            measure("foscttm", (0.5, 0.4, 0.6), foscttm, change, 0.5),
            measure("modality_purity", (1, 1, 1), (purity,) * 3, (0, 0, 0), 0.5),
            measure("sigma1", (0.2,) * 3, (0.2 + rise,) * 3, (rise,) * 3, 0.2),
            measure("row_correlation", (0, 0, 0), (rows[0],) * 3, (rows[0],) * 3, rows[1]),
        ],
    }


def test_the_verdict_says_what_the_numbers_allow() -> None:
    good = verdict(answer((0.2, 0.1, 0.3), (-0.3, -0.4, -0.2), 0.55, (0.8, 0.1)))
    assert good[0] == "After alignment: each modality on a sphere. Aligned in training by InfoNCE."
    assert "find each other better than by chance" in good[1]
    assert "better than before alignment" in good[1]
    assert good[2].startswith("The modalities lie mixed: 55% of")
    assert len(good) == 3
    none = verdict(answer((0.49, 0.45, 0.53), (-0.01, -0.05, 0.03), 0.99, (0.4, 0.38)))
    assert "within chance" in none[1]
    assert "no clear change" in none[1]
    assert "islands" in none[2]
    assert "nearly as much (0.38)" in none[3]
    bad = verdict(answer((0.7, 0.6, 0.8), (0.2, 0.1, 0.3), 0.75, (0.05, 0.0)))
    assert "further apart than those of different patients" in bad[1]
    assert "worse than before" in bad[1]
    assert "overlap in part" in bad[2]
    apart = (0.5, 0.4, 0.6), (0, -0.1, 0.1), 0.99
    line = verdict(answer(*apart, (-0.09, 0.0), rise=0.3))
    assert "share of the first singular value 0.20 to 0.50" in line[3]
    assert "both of its ends (mean correlation of the rows −0.09)" in line[3]
    assert len(verdict(answer(*apart, (0.09, 0.0), rise=0.3))) == 3
    assert len(verdict(answer(*apart, (-0.09, 0.0), rise=0.04))) == 3


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ResultStore:
    return ResultStore(tmp_path_factory.mktemp("representation") / "results")


@pytest.fixture(scope="module")
def told(workspace_folder: Path, store: ResultStore) -> dict[str, Any]:
    """What the command prints of an aligned run."""
    return command(workspace_folder, store, "pe-contrastive", "--picture", "none")


def command(home: Path, store: ResultStore, name: str, *more: str) -> dict[str, Any]:
    arguments = ["represent", str(home / "runs" / name), "--cohort", str(home / "cohorts" / "pe")]
    arguments += ["--results", str(store.folder), "--resamples", "50", "--json"]
    found = CliRunner().invoke(cli, [*arguments, *more])
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def test_the_table_holds_every_number_and_its_parts(told: dict[str, Any]) -> None:
    data = represent_numbers.frame(told)
    for row in told["measures"]:
        mine = data[data["measure"] == row["name"]]
        assert mine["of"].tolist() == ["mean", *(" + ".join(p["of"]) for p in row["parts"])]
        assert mine["after_value"].iloc[0] == row["after"]["value"]
        assert mine["change_high"].iloc[0] == row["change"]["high"]
    words = represent_numbers.explained(told["measures"][0])
    for part in ("Lower is better", "Range 0 to 2", "Chance:", "Liang", "axis by axis"):
        assert part in words


# ---------------------------------------------------------------- the command


def test_the_command_gives_the_librarys_numbers_and_a_file(
    told: dict[str, Any], workspace_folder: Path, store: ResultStore, tmp_path: Path
) -> None:
    run = load_run(workspace_folder / "runs" / "pe-contrastive")
    cohort = Cohort.open(workspace_folder / "cohorts" / "pe")
    people = population(run, cohort, "internal", store, training=cohort)
    expected = representation(people, ResultStore(tmp_path / "other"), n_resamples=50)
    numbers = represent_numbers.frame(expected)
    # Where numbers lie in memory changes the order of sums, and so their last bits.
    pd.testing.assert_frame_equal(represent_numbers.frame(told), numbers, rtol=1e-9, atol=1e-12)
    assert {k: v for k, v in told.items() if k not in ("measures", "spectrum")} == {
        k: v for k, v in expected.items() if k not in ("measures", "spectrum")
    }
    patient = str(people.people["subject_id"][0])
    out = tmp_path / "places.csv"
    full = command(
        workspace_folder, store, "pe-contrastive", "--out", str(out), "--patient", patient
    )
    assert full["measures"] == told["measures"]
    assert set(full["picture"]["quality"]) == {"before", "after"}
    assert full["picture"]["settings"]["method"] == "tsne"
    assert full["patient"]["subject_id"] == int(patient)
    saved = pd.read_csv(out)
    assert len(saved) == people.n_points
    assert np.abs(saved[["x_before", "y_after"]]).max().max() <= full["picture"]["limit"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "places.csv"]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--split", "nowhere"], "there is no split 'nowhere'; choose one of"),
        (["--patient", "987654"], "patient 987654 is not among the patients shown"),
        (["--picture", "none", "--out", "x.csv"], "choose --picture tsne or umap"),
        (["--out", "/nowhere/at/all.csv"], "there is no folder /nowhere/at; make it first"),
    ],
)
def test_bad_input_ends_in_one_sentence(
    more: list[str], sentence: str, workspace_folder: Path, store: ResultStore, tmp_path: Path
) -> None:
    arguments = ["represent", str(workspace_folder / "runs" / "pe-contrastive")]
    arguments += ["--cohort", str(workspace_folder / "cohorts" / "pe"), "--resamples", "20"]
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        found = CliRunner().invoke(cli, [*arguments, "--results", str(store.folder), *more])
    finally:
        os.chdir(here)
    assert found.exit_code == 2, found.output
    assert sentence in found.output
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- the background process


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[str]]]:
    """The worker processes that a test starts."""
    started: list[subprocess.Popen[str]] = []
    real = projecting.start_worker

    def start(module: str) -> subprocess.Popen[str]:
        started.append(real(module))
        return started[-1]

    monkeypatch.setattr(projecting, "start_worker", start)
    yield started
    for process in started:
        process.kill()


def stages(n: int = 40) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(n, 5))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return {"before": rows, "after": rows[:, ::-1].copy()}


def finished(projector: Projector, parameters: dict[str, Any]) -> projecting.Job | None:
    for _ in range(1200):
        job = projector.job(parameters)
        if job is None or job.error is not None:
            return job
        time.sleep(0.05)
    raise AssertionError("the picture was never finished")


def test_one_process_makes_one_picture_after_the_other(
    processes: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    store = ResultStore(tmp_path)
    projector = Projector(store, idle_seconds=1.0)
    assert projector.job({"a": 1}) is None
    for key in (1, 1, 2, 3):
        points = stages() if key != 3 else {"before": stages()["before"][:4]}
        projector.ask({"a": key}, points, Method.TSNE, 0)
    first = projector.job({"a": 1})
    assert first is not None
    assert 0 <= first.share < 1
    assert finished(projector, {"a": 1}) is None
    assert finished(projector, {"a": 2}) is None
    failed = finished(projector, {"a": 3})
    assert failed is not None
    assert "at least 10 embeddings" in str(failed.error)
    assert len(processes) == 1
    assert find_projection(store, {"a": 1}) is not None
    processes[0].wait(20)  # idle: it has ended by itself
    projector.ask({"a": 4}, stages(), Method.TSNE, 0)
    assert finished(projector, {"a": 4}) is None
    assert len(processes) == 2


def test_a_process_that_dies_is_told_and_replaced(
    processes: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    projector = Projector(ResultStore(tmp_path))
    projector.ask({"a": 1}, stages(), Method.TSNE, 0)
    while not processes:
        time.sleep(0.01)
    processes[0].send_signal(signal.SIGKILL)
    failed = finished(projector, {"a": 1})
    assert failed is not None
    projector.ask({"a": 1}, stages(), Method.TSNE, 0)
    assert finished(projector, {"a": 1}) is None
    assert len(processes) == 2


# ---------------------------------------------------------------- the page without a browser


def opened(query: dict[str, str] | None = None) -> AppTest:
    test = AppTest.from_file(str(MAIN), default_timeout=120).run()
    for name, value in (query or {}).items():
        test.query_params[name] = value
    return test.switch_page("views/representation.py").run()


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(frame.VARIABLE, raising=False)
    frame._open.clear()
    frame._projector.clear()


def words(test: AppTest) -> str:
    kinds = ("markdown", "caption", "error", "warning", "info", "title", "header")
    return "\n".join(str(e.value) for kind in kinds for e in getattr(test, kind))


def test_without_a_workspace_a_sentence() -> None:
    assert "fusionlens app" in opened().error[0].value


def test_a_run_that_aligns_nothing_says_so(
    workspace_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(frame.VARIABLE, str(workspace_folder))
    test = opened({"task": "pe/mortality", "strategy": "pe-late"})
    assert not test.exception
    assert "There is no embedding after alignment" in words(test)
    assert "every modality predicts by itself" in words(test)
    assert "because of an error" not in words(test)


def test_titles_from_files_show_as_text(
    workspace_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(workspace_folder, copy, ignore=shutil.ignore_patterns("results"))
    rename_run(copy / "runs" / "pe-contrastive", title="<script>alert(1)</script> :red[red]")
    monkeypatch.setenv(frame.VARIABLE, str(copy))
    test = opened({"task": "pe/mortality", "strategy": "pe-contrastive"})
    assert not test.exception
    text = words(test)
    assert "Aligned in training by InfoNCE" in text.replace("\\", "")
    assert "<script>" not in text
    assert ":red[red]" not in text
