"""From files that a stranger has to the answer: a table, a record, scans and a checkpoint.

The files are those of the simulated cohort in forms that others use, so that the answer is known:
the run made of the checkpoint must say of each patient what the run that ships says.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from analysis.cohort.cohort import Cohort
from analysis.predict import predict
from app.cli import cli
from models.checkpoint import load_run

pytestmark = pytest.mark.slow
RUN = "pe-late-onehot"
STUDY = """\
name: mine
title: Pulmonary embolism, our hospitals
index_event: CT pulmonary angiography
columns: {id: mrn, site: hospital, age_years: age, sex: sex}
index: {column: scanned}
tasks:
  mortality:
    title: Death within a year
    horizon_days: 365
    time: follow_up
    unit: weeks
    event: status
    happened: [dead]
    censored: [alive]
split: {column: part, values: {development: train, holdout: internal, elsewhere: external}}
modalities:
  ehr: {title: EHR}
  ct: {title: CT, unit: HU}
"""
MODEL = """\
title: Late fusion, trained elsewhere
task: mortality
cohort: workspace/cohorts/mine
strategy: {name: late, config: {heads: 4}}
modalities:
  ct: {encoder: ct_resnet}
  ehr: {encoder: onehot, vocabulary: codes.json}
rename:
  - {prefix: model.fusion., to: strategy.}
  - {prefix: model.backbones., to: encoders.}
"""


def write_sources(workspace: Path, home: Path) -> Path:
    """outcomes.csv, record/ (MEDS), scans/ (NIfTI by id), best.ckpt, codes.json and two yaml."""
    home.mkdir(parents=True, exist_ok=True)
    cohort = Cohort.open(workspace / "cohorts" / "pe")
    outcomes = pd.read_parquet(cohort.folder / "outcomes.parquet").set_index("subject_id")
    subjects = cohort.subjects
    names = {"train": "development", "internal": "holdout", "external": "elsewhere"}
    table = pd.DataFrame(
        {
            "mrn": subjects.index,
            "scanned": subjects["index_time"],
            "part": subjects["split"].replace(names),
            "hospital": subjects["site"],
            "age": subjects["age_years"],
            "sex": subjects["sex"],
            "follow_up": outcomes["time_days"].reindex(subjects.index) / 7,
            "status": outcomes["event"].reindex(subjects.index).map({0: "alive", 1: "Dead"}),
        }
    )
    table.sample(frac=1, random_state=0).to_csv(home / "outcomes.csv", index=False)
    shutil.copytree(cohort.path("ehr"), home / "record")
    (home / "scans").mkdir()
    for subject, path in cohort.volumes("ct").items():
        if path.is_file():
            shutil.copy(path, home / "scans" / f"{subject}.nii.gz")
    run = load_run(workspace / "runs" / RUN, [workspace / "encoders"])
    state = {
        "model." + name.replace("strategy.", "fusion.").replace("encoders.", "backbones."): tensor
        for name, tensor in run.model.state_dict().items()
    }
    content = {"epoch": 7, "pytorch-lightning_version": "2.6.6", "state_dict": state}
    torch.save({**content, "hyper_parameters": {"lr": 1e-3}}, home / "best.ckpt")
    shutil.copy(run.folder / "vocabulary.json", home / "codes.json")
    (home / "study.yaml").write_text(STUDY)
    (home / "model.yaml").write_text(MODEL)
    return home


def steps(home: Path) -> list[list[str]]:
    """The commands, in their order."""
    cohort = str(home / "workspace" / "cohorts" / "mine")
    study = ["--study", str(home / "study.yaml")]
    model = [
        "--config",
        str(home / "model.yaml"),
        "--out",
        str(home / "workspace" / "runs" / "mine"),
    ]
    return [
        ["import", "table", str(home / "outcomes.csv"), cohort, *study],
        ["import", "meds", str(home / "record"), cohort, *study],
        ["import", "dicom", str(home / "scans"), cohort, *study, "--as", "ct"],
        ["check", cohort],
        ["import", "checkpoint", str(home / "best.ckpt"), *model],
    ]


def test_the_files_of_a_stranger_give_the_same_answer(tiny_workspace: Path, tmp_path: Path) -> None:
    home = write_sources(tiny_workspace, tmp_path / "mine")
    for words in steps(home):
        done = CliRunner().invoke(cli, words)
        assert done.exit_code == 0, (words, done.output)
    workspace = home / "workspace"
    theirs = Cohort.open(tiny_workspace / "cohorts" / "pe")
    mine = Cohort.open(workspace / "cohorts" / "mine")
    ids = theirs.subject_ids("internal", "mortality")
    known, found = theirs.outcomes("mortality", ids), mine.outcomes("mortality", ids)
    assert known.time_days is not None
    np.testing.assert_allclose(found.time_days, known.time_days)
    np.testing.assert_array_equal(found.event, known.event)
    both = np.isin(ids, np.intersect1d(theirs.having("ct"), mine.having("ct")))
    np.testing.assert_array_equal(theirs.having("ct"), mine.having("ct"))
    original = load_run(tiny_workspace / "runs" / RUN, [tiny_workspace / "encoders"])
    imported = load_run(workspace / "runs" / "mine", [workspace / "encoders"])
    expected = predict(original, theirs, ids[both]).values
    np.testing.assert_allclose(predict(imported, mine, ids[both]).values, expected, atol=2e-4)
    words = ["explain", str(workspace / "runs" / "mine"), "--cohort", str(mine.folder)]
    told = CliRunner().invoke(cli, [*words, "--patient", str(ids[both][0]), "--json"])
    assert told.exit_code == 0, told.output
    answer = json.loads(told.stdout)
    assert {"ct", "ehr"} <= set(json.dumps(answer).replace('"', " ").split())
