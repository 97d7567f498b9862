"""`fusionlens explain`, `trust` and `import scans`, called as the command line calls them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from typer.testing import CliRunner

from analysis.attribution.case import open_case
from analysis.attribution.modalities import modality_ledger
from analysis.attribution.target import LogRisk, Survival
from analysis.baseline_file import read_baseline
from analysis.cohort.cohort import Cohort
from analysis.explain import explain as explain_case
from analysis.explain import explanation_json, find_trust
from analysis.outlook import outlook
from analysis.predict import predict_stored
from analysis.store import ResultStore
from app.cli import cli
from app.figures.text import number
from models.checkpoint import load_run

PATIENT, NO_CT = 10064, 10043
RUN = "pe-late-onehot"
Command = Callable[..., Result]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("commands") / "results"


@pytest.fixture(scope="module")
def command(tiny_workspace: Path, results: Path) -> Command:
    """`explain` on a run of the tiny workspace; nothing is left in it."""

    def run(*more: str, patient: int = PATIENT, name: str = RUN, cohort: Path | None = None) -> Any:
        arguments = ["explain", str(tiny_workspace / "runs" / name), "--patient", str(patient)]
        arguments += ["--cohort", str(cohort or tiny_workspace / "cohorts" / "pe")]
        return CliRunner().invoke(cli, [*arguments, "--results", str(results), *more])

    return run


def told(found: Result) -> dict[str, Any]:
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


# ---------------------------------------------------------------- explain


def test_the_json_is_the_librarys(command: Command, tiny_workspace: Path, tmp_path: Path) -> None:
    answer = told(command("--json"))
    run = load_run(tiny_workspace / "runs" / RUN)
    cohort = Cohort.open(tiny_workspace / "cohorts" / "pe")
    store = ResultStore(tmp_path)
    case = open_case(run, cohort, PATIENT)
    risks = predict_stored(run, cohort, "train", store).risk
    shown = outlook(case, read_baseline(run.folder), risks)
    trust = find_trust(run, [cohort], store)
    found = explain_case(case, LogRisk(), store, trust=trust)
    expected = explanation_json(case, LogRisk(), found, shown, trust)
    assert answer == json.loads(json.dumps(expected))
    assert answer["prediction"]["training_patients"] == 40


def test_survival_at_a_horizon(command: Command, tiny_workspace: Path) -> None:
    answer = told(command("--explain", "survival", "--horizon", "90", "--json"))
    run = load_run(tiny_workspace / "runs" / RUN)
    case = open_case(run, Cohort.open(tiny_workspace / "cohorts" / "pe"), PATIENT)
    target = Survival(read_baseline(run.folder), (90.0,))
    ledger = modality_ledger(case, target)
    assert answer["explained"]["days"] == [90.0]
    assert answer["explained"]["value"] == pytest.approx(case.value(target)[0])
    assert answer["prediction"]["survival_at_horizon"] == pytest.approx(case.value(target)[0])
    assert answer["ledger"]["shares"]["ehr"] == pytest.approx(float(ledger.share("ehr")[0]))
    (part,) = answer["parts"]
    assert part["sum_of_shares"] == pytest.approx(answer["ledger"]["shares"]["ehr"], abs=1e-4)


def test_a_chosen_map_is_the_one_that_is_made(command: Command) -> None:
    (made,) = told(command("--map", "gradcam:lesions", "--json"))["maps"]
    assert (made["method"], made["layer"]) == ("gradcam", "lesions")


def test_without_json_the_same_in_words(command: Command) -> None:
    answer = told(command("--json"))
    text = command().stdout
    assert f"patient {PATIENT}: log-risk" in text
    for name, share in answer["ledger"]["shares"].items():
        assert name in text
        assert f"{share:+.4f}" in text
    assert answer["maps"][0]["place"] in text
    assert f"{answer['parts'][0]['parts'][0]['share']:+.4f}" in text


def test_what_is_absent_is_not_zero(command: Command) -> None:
    answer = told(command("--json", patient=NO_CT))
    assert answer["ledger"]["shares"]["ct"] is None
    assert "not there" in command(patient=NO_CT).stdout


def test_files_are_read_back_as_they_were_told(
    command: Command, tiny_workspace: Path, tmp_path: Path
) -> None:
    out = tmp_path / "files"
    name = "pe-cross-attention-onehot"
    answer = told(command("--out", str(out), "--json", name=name))
    files = sorted(path.name for path in out.iterdir())
    (made,) = answer["maps"]
    layer = f"-{made['layer']}" if made["layer"] else ""
    name_of_map = f"ct-{made['method']}{layer}.nii.gz"
    assert files == ["attention-ehr-ct.csv", name_of_map, "ehr-permutation.csv", "report.html"]
    report = (out / "report.html").read_text(encoding="utf-8")
    assert f"<h1>Patient {PATIENT}</h1>" in report
    assert "not included (blinded read)" in report
    assert number(answer["prediction"]["log_risk"], 3) in report
    image = nib.load(out / name_of_map)
    case = open_case(
        load_run(tiny_workspace / "runs" / name),
        Cohort.open(tiny_workspace / "cohorts" / "pe"),
        PATIENT,
    )
    scan = case.scan("ct", native=True)
    assert image.shape == scan.array.shape[::-1]
    np.testing.assert_allclose(image.affine, scan.affine, atol=1e-4)
    values = np.asarray(image.dataobj)
    # Between the middles of a coarse map's cells a finer scan meets less than the largest.
    assert 0.3 * made["largest"] < values.max() <= 1.001 * made["largest"]
    at = np.unravel_index(values.argmax(), values.shape)
    away = np.abs((image.affine @ [*at, 1])[:3] - made["peak_mm"])
    assert (away <= np.asarray(scan.spacing_mm[::-1]) * 1.01).all()
    shares = pd.read_csv(out / "ehr-permutation.csv", float_precision="round_trip")
    rows = pd.DataFrame(answer["parts"][0]["parts"]).sort_values("event")
    assert shares["share"].tolist() == rows["share"].tolist()
    assert shares["code"].tolist() == rows["code"].tolist()
    assert shares["run_hash"].unique().tolist() == [answer["run_hash"]]
    looks = pd.read_csv(out / "attention-ehr-ct.csv", float_precision="round_trip")
    top = answer["attention"][0]["strongest"][0]
    real = looks[looks["column"].notna()]
    assert real["weight"].max() == top["weight"]
    assert looks.groupby("row")["weight"].sum().to_numpy() == pytest.approx(1.0, abs=1e-5)


def test_it_lies_in_the_workspace_if_nothing_else_is_said(tmp_path: Path) -> None:
    from app.commands.base import results_of

    assert results_of(tmp_path / "ws" / "cohorts" / "pe") == tmp_path / "ws" / "results"
    assert results_of(tmp_path / "pe") == tmp_path / "results"


WRONG: dict[str, tuple[list[str], int, str]] = {
    "patient": ([], 77, "there is no patient 77; choose one of subjects.parquet"),
    "method of shares": (["--method", "shapley"], PATIENT, "there is no method 'shapley'"),
    "method of maps": (["--map", "camgrad"], PATIENT, "there is no volume method 'camgrad'"),
    "layer": (["--map", "hirescam:top"], PATIENT, "has no layer 'top' for maps"),
    "a layer where there is none": (["--map", "occlusion:fine"], PATIENT, "leave the layer"),
    "beyond follow-up": (
        ["--explain", "survival", "--horizon", "9999"],
        PATIENT,
        "survival is known from day 0 to day 365",
    ),
    "before the start": (["--horizon", "-3"], PATIENT, "0 upwards"),
    "class of a survival run": (["--class", "dead"], PATIENT, "predicts survival; leave --class"),
    "cohort": (["--cohort", "nowhere"], PATIENT, "nowhere"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_bad_input_is_one_sentence_code_2_and_no_file(
    command: Command, tmp_path: Path, wrong: str
) -> None:
    more, patient, message = WRONG[wrong]
    found = command(*more, "--out", str(tmp_path / "out"), "--json", patient=patient)
    assert found.exit_code == 2, found.output
    said = " ".join(found.stderr.split())
    assert message in said
    assert "Traceback" not in found.output
    assert found.stdout == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value"), [("--explain", "risk"), ("--contexts", "all"), ("--seed", "-1")]
)
def test_options_with_a_list_of_choices_refuse_others(
    command: Command, option: str, value: str
) -> None:
    found = command(option, value)
    assert found.exit_code == 2
    assert option in found.stderr


def test_a_folder_with_something_in_it_is_left_alone(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    found = command("--out", str(tmp_path))
    assert found.exit_code == 2
    assert "already exists and is not empty" in " ".join(found.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


# ---------------------------------------------------------------- import scans, and explain them


def test_scans_are_imported_and_explained(
    command: Command, tiny_workspace: Path, tmp_path: Path
) -> None:
    """A scan of the cohort, alone: what the run says of that patient without the record."""
    like = tiny_workspace / "cohorts" / "pe"
    source = like / "ct" / f"{PATIENT}.nii.gz"
    out = tmp_path / "scans"
    found = CliRunner().invoke(cli, ["import", "scans", str(source), str(out), "--like", str(like)])
    assert found.exit_code == 0, found.output
    assert f"Written: {out}" in " ".join(found.stdout.split())
    assert "patient 1, " in " ".join(found.stderr.split())
    answer = told(command("--json", patient=1, cohort=out))
    whole = told(command("--json"))
    assert (answer["present"], answer["absent"]) == (["ct"], ["ehr"])
    assert answer["prediction"]["percentile"] is None
    assert answer["prediction"]["training_patients"] == 0
    run = load_run(tiny_workspace / "runs" / RUN)
    ledger = modality_ledger(open_case(run, Cohort.open(like), PATIENT), LogRisk())
    assert answer["explained"]["value"] == pytest.approx(ledger.value({"ct"})[0], abs=2e-3)
    np.testing.assert_allclose(answer["maps"][0]["peak_mm"], whole["maps"][0]["peak_mm"], atol=0.1)
    # With the training cohort at hand it has a percentile.
    training = ["--training-cohort", str(like)]
    placed = told(command("--json", *training, patient=1, cohort=out))
    assert 0 <= placed["prediction"]["percentile"] <= 100
    assert placed["prediction"]["training_patients"] == 40


def test_nothing_to_import_is_code_2(tiny_workspace: Path, tmp_path: Path) -> None:
    like = tiny_workspace / "cohorts" / "pe"
    for source in (tmp_path / "nowhere", tmp_path):
        found = CliRunner().invoke(
            cli, ["import", "scans", str(source), str(tmp_path / "out"), "--like", str(like)]
        )
        assert found.exit_code == 2
        assert str(source) in found.stderr.replace("\n", "")
        assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- trust


def trust(workspace: Path, *more: str, run: str = "pe-ehr-onehot") -> Result:
    arguments = ["trust", str(workspace / "runs" / run)]
    arguments += ["--cohort", str(workspace / "cohorts" / "pe"), *more]
    return CliRunner().invoke(cli, arguments)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--modality", "ecg"], "does not read 'ecg'; it reads ehr"),
        (["--split", "elsewhere"], "there is no split 'elsewhere'"),
        (["--patients", "1"], "--patients"),
    ],
)
def test_a_wrong_question_of_trust_is_code_2(
    tiny_workspace: Path, tmp_path: Path, more: list[str], message: str
) -> None:
    found = trust(tiny_workspace, *more, "--results", str(tmp_path / "results"))
    assert found.exit_code == 2
    assert message in " ".join(found.stderr.split())
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_trust_is_measured_stored_and_told_beside_the_explanation(
    tiny_workspace: Path, tmp_path: Path
) -> None:
    more = ["--patients", "2", "--results", str(tmp_path)]
    report = json.loads(trust(tiny_workspace, *more, "--json").stdout)
    assert report["run"] == "pe-ehr-onehot"
    assert list(report["modalities"]) == ["ehr"]
    again = json.loads(trust(tiny_workspace, *more, "--json").stdout)
    assert again == report
    text = trust(tiny_workspace, *more).stdout
    assert report["modalities"]["ehr"]["title"] in text
    arguments = ["explain", str(tiny_workspace / "runs" / "pe-ehr-onehot")]
    arguments += ["--cohort", str(tiny_workspace / "cohorts" / "pe"), "--patient", str(PATIENT)]
    answer = told(CliRunner().invoke(cli, [*arguments, "--results", str(tmp_path), "--json"]))
    assert answer["parts"][0]["trust"]["level"] != "unknown"
