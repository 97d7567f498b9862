"""`fusionlens precompute`: everything the pages ask for, the same whoever computes it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from analysis.attribution.case import open_case
from analysis.explain import default_contexts, find_trust, recommended_map
from analysis.imbalance.shuffle import shuffled
from analysis.precompute.devices import DeviceError, devices_of
from analysis.store import ResultStore
from app.cli import cli
from app.patients import PatientDesk
from app.workspace import Workspace
from tests.app.toy import BROKEN_COHORT, BROKEN_RUN
from tests.models.elsewhere import on_path

PATIENTS = 5
RUNS = ("pe-late", "pe-co_attention")


@pytest.fixture(scope="module")
def home(workspace_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy workspace by itself, without results."""
    copy = tmp_path_factory.mktemp("precompute") / "workspace"
    shutil.copytree(
        workspace_folder,
        copy,
        ignore=shutil.ignore_patterns("results", BROKEN_RUN, BROKEN_COHORT, "cvd*"),
    )
    return copy


@pytest.fixture(scope="module")
def serial(home: Path) -> dict[str, Any]:
    """The answer of one process, whose results stay in the workspace."""
    return answer(command(home))


def command(home: Path, *more: str, runs: tuple[str, ...] = RUNS) -> Any:
    given = [str(home / "runs" / run) for run in runs]
    given += ["--cohort", str(home / "cohorts" / "pe"), "--patients", str(PATIENTS), "--json"]
    return CliRunner().invoke(cli, ["precompute", *given, *more])


def answer(found: Any) -> dict[str, Any]:
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def files(store: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file() and not path.relative_to(store).parts[0].startswith(".")
    }


def test_the_page_and_the_command_find_everything(home: Path, serial: dict[str, Any]) -> None:
    assert serial["explained"] == len(RUNS) * PATIENTS
    assert serial["failed"] == []
    workspace = Workspace(home)
    before = workspace.store.keys()
    assert len(before) == serial["computed"]
    desk = PatientDesk(workspace)
    task = next(t for t in workspace.tasks() if t.cohort == "pe")
    asked = 0
    for name in RUNS:
        run = workspace.run(name)
        listing = desk.listing(task, run)
        for subject in listing.index[:PATIENTS]:
            case = desk.case(task, run, int(subject))
            target = desk.target(run, "log_risk")
            for modality in case.present:
                contexts = default_contexts(case)
                assert desk.has_attribution(case, modality, target, contexts=contexts)
                asked += 1
    assert asked > PATIENTS
    patient = str(workspace.cohort("pe").subject_ids("internal")[0])
    given = ["explain", str(home / "runs" / RUNS[0]), "--cohort", str(home / "cohorts" / "pe")]
    explained = CliRunner().invoke(cli, [*given, "--patient", patient, "--json"])
    assert explained.exit_code == 0, explained.output
    people = workspace.population(task, RUNS[0], "internal")
    workspace.representation(people)
    workspace.combinations(task, RUNS[0], "internal")
    shuffled(workspace.run(RUNS[0]), workspace.cohort("pe"), "internal", workspace.store)
    assert workspace.store.keys() == before


def test_the_same_command_again_finds_all_and_computes_nothing(
    home: Path, serial: dict[str, Any]
) -> None:
    again = answer(command(home))
    assert again["computed"] == 0
    # One result may hold two (a table needs its predictions), so these are jobs, not folders.
    assert again["found"] > 0
    assert again["explained"] == serial["explained"]


@pytest.mark.parametrize("how", [("--jobs", "2"), ("--ray", "local", "--jobs", "2")])
def test_who_computes_makes_no_difference_to_the_last_bit(
    home: Path, serial: dict[str, Any], tmp_path: Path, how: tuple[str, ...]
) -> None:
    if "--ray" in how:
        pytest.importorskip("ray")
    what = "predictions,parts,maps"
    other = answer(command(home, "--what", what, "--results", str(tmp_path / "other"), *how))
    assert other["workers"] == 2
    one, two = files(home / "results"), files(tmp_path / "other")
    assert len(two) > 2 * PATIENTS
    assert two == {name: content for name, content in one.items() if name in two}
    assert other["computed"] == len({name.split("/")[0] for name in two})


def elsewhere(folder: Path, home: Path, *more: str, runs: tuple[str, ...]) -> dict[str, Any]:
    """The command in a process of its own, with a device that is not the CPU."""
    given = [str(home / "runs" / run) for run in runs]
    given += ["--cohort", str(home / "cohorts" / "pe"), "--json", "--results", str(folder / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "precompute", *given, *more],
        env={**os.environ, **on_path(folder)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def assert_alike(one: Path, other: Path) -> int:
    """The same results but for rounding; how many arrays are not the same to the last bit."""
    assert files(one).keys() >= files(other).keys()
    rounded = 0
    for path in sorted(other.rglob("arrays.safetensors")):
        here, there = load_file(path), load_file(one / path.relative_to(other))
        assert here.keys() == there.keys()
        for name, array in here.items():
            if array.dtype.kind == "f":
                scale = np.abs(there[name]).max(initial=1e-3)
                assert np.abs(array - there[name]).max(initial=0) <= 1e-3 * scale, (path, name)
                rounded += not np.array_equal(array, there[name])
            else:
                assert np.array_equal(array, there[name])
    return rounded


def test_one_worker_on_each_device_gives_the_same_but_for_rounding(
    home: Path, serial: dict[str, Any], tmp_path: Path
) -> None:
    what = ("--what", "predictions,parts,missing", "--patients", str(PATIENTS))
    made = elsewhere(tmp_path, home, *what, "--devices", "cpu,elsewhere", runs=RUNS)
    assert made["devices"] == ["cpu", "elsewhere:0"]
    assert made["workers"] == 2
    assert made["failed"] == []
    assert made["explained"] == serial["explained"]
    assert_alike(home / "results", tmp_path / "out")
    assert len(files(tmp_path / "out")) > 2 * PATIENTS


@pytest.mark.slow
def test_maps_and_sequences_computed_elsewhere(tiny_workspace: Path, tmp_path: Path) -> None:
    """Class activation maps take their gradient on the device; parts ask it thousands of times."""
    home = tmp_path / "workspace"
    shutil.copytree(tiny_workspace, home, ignore=shutil.ignore_patterns("results"))
    runs = ("pe-co-attention-image-clmbr",)
    what = ("--what", "predictions,parts,maps", "--patients", "2", "--split", "internal")
    answer(command(home, *what, runs=runs))
    made = elsewhere(tmp_path, home, *what, "--devices", "elsewhere", runs=runs)
    assert made["computed"] > 4
    assert made["failed"] == []
    assert assert_alike(home / "results", tmp_path / "out") > 0


def test_devices_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.precompute.devices._number", lambda kind: 3)
    assert devices_of("cuda") == ("cuda:0", "cuda:1", "cuda:2")
    assert devices_of("cuda:2, cuda:0") == ("cuda:2", "cuda:0")
    assert devices_of("cpu,cuda:1,cuda:1") == ("cpu", "cuda:1")
    with pytest.raises(DeviceError, match="there is 3 of them, from cuda:0 on"):
        devices_of("cuda:3")


def test_maps_of_scans_are_found_under_the_recommended_layer(
    tiny_workspace: Path, tmp_path: Path
) -> None:
    home = tmp_path / "workspace"
    shutil.copytree(tiny_workspace / "cohorts" / "pe", home / "cohorts" / "pe")
    shutil.copytree(tiny_workspace / "encoders", home / "encoders")
    shutil.copytree(tiny_workspace / "runs" / "pe-ct", home / "runs" / "pe-ct")
    made = answer(command(home, "--what", "maps", "--split", "internal", runs=("pe-ct",)))
    assert made["computed"] == PATIENTS - made["without_any_modality"]
    workspace = Workspace(home)
    before = workspace.store.keys()
    desk, cohort = PatientDesk(workspace), workspace.cohort("pe")
    run = workspace.run("pe-ct")
    ids = [int(i) for i in cohort.subject_ids("internal")[:PATIENTS]]
    seen = [i for i in ids if i in cohort.having("ct")]
    for subject in seen:
        case = open_case(run, cohort, subject)
        chosen = recommended_map(case, "ct", find_trust(run, [cohort], workspace.store))
        desk.volume_map(case, "ct", desk.target(run, "log_risk"), *chosen)
    assert len(seen) == made["computed"]
    assert workspace.store.keys() == before
    # A scan that cannot be read: named at the end, and the others are there.
    volume = cohort.volumes("ct")[seen[0]]
    volume.unlink()
    volume.write_bytes(b"no scan")
    (feature,) = (home / "cohorts" / "pe" / "features" / "ct").glob("*.safetensors")
    feature.unlink()
    shutil.rmtree(home / "results")
    found = command(home, "--what", "maps", "--split", "internal", runs=("pe-ct",))
    assert found.exit_code == 2
    told = json.loads(found.stdout[: found.stdout.rindex("}") + 1])
    assert told["computed"] == len(seen) - 1
    assert {failed["patient"] for failed in told["failed"]} == {seen[0]}
    assert volume.name in told["failed"][0]["why"]
    assert told["encoded"] == len(seen) - 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--what", "everything"), "choose of predictions, parts"),
        (("--split", "validation"), "choose one of internal"),
        (("--devices", "gpu"), "torch knows no such device; write cpu, cuda"),
        (("--devices", "meta"), "there is none; choose one that is there, or cpu"),
        (("--devices", "cuda:0", "--ray", "local"), "every worker gets its own; write cpu or cuda"),
    ],
)
def test_bad_input_in_one_sentence(home: Path, given: tuple[str, ...], words: str) -> None:
    found = command(home, *given)
    assert found.exit_code == 2
    assert words in " ".join(found.output.split())


def test_a_trust_report_is_found_among_any_number_of_results(tmp_path: Path) -> None:
    """Also in a store that was filled before there were lists."""
    store = ResultStore(tmp_path / "results")
    for number in range(30):
        store.put({"method": "predict", "n": number}, {"n": number})
    assert store.parameters_of("trust") == {}
    report = {"method": "trust", "run": "r", "cohort": "c"}
    store.put(report, {"created": "2026"})
    assert list(store.parameters_of("trust").values()) == [report]
    shutil.rmtree(store.folder / ".listed")
    assert list(store.parameters_of("trust").values()) == [report]
    assert len(store.keys()) == 31


def test_outcomes_that_are_not_there_leave_no_patient_out(home: Path, tmp_path: Path) -> None:
    """Patients without an outcome are on the page, too."""
    copy = tmp_path / "workspace"
    shutil.copytree(home, copy, ignore=shutil.ignore_patterns("results"))
    path = copy / "cohorts" / "pe" / "outcomes.parquet"
    outcomes = pd.read_parquet(path)
    internal = Workspace(copy).cohort("pe").subject_ids("internal")[:3]
    outcomes[~outcomes["subject_id"].isin(internal)].to_parquet(path, index=False)
    made = answer(command(copy, "--what", "predictions,parts", runs=("pe-late",)))
    assert made["explained"] == PATIENTS
    workspace = Workspace(copy)
    desk = PatientDesk(workspace)
    task = next(t for t in workspace.tasks() if t.cohort == "pe")
    before = workspace.store.keys()
    listing = desk.listing(task, workspace.run("pe-late"))
    assert set(internal) <= set(listing.index)
    assert workspace.store.keys() == before
