"""The import page in Chromium: its report is the command's, and what it accepts is a run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from typer.testing import CliRunner

from analysis.cohort.cohort import Cohort
from analysis.predict import predict
from app.cli import cli
from models.checkpoint import Run, load_run
from tests.browser.driver import Reader
from tests.browser.test_patient import Page
from tests.models.importing.formats import lightning
from tests.models.importing.hostile import Command

pytestmark = pytest.mark.browser
RUN, NAME = "pe-late-onehot", "a-friends-late"
IDLE = """() => !document.querySelector('[class*="st-key-stop-"]')"""


@dataclass(frozen=True)
class Inbox:
    """What the operator put there: a run as somebody else would have saved it, and a trap."""

    folder: Path
    original: Run
    canary: Path


@pytest.fixture(scope="module")
def inbox(workspace_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inbox]:
    original = load_run(workspace_folder / "runs" / RUN, [workspace_folder / "encoders"])
    folder = workspace_folder / "inbox" / "friend"
    folder.mkdir(parents=True)
    state = {
        name.replace("encoders.", "towers.").replace("strategy.", "fusion.head."): tensor.clone()
        for name, tensor in original.model.state_dict().items()
        if not name.startswith("encoders.ct.")
    }
    torch.save(lightning(state, {"width": 64}), folder / "best.ckpt")
    shutil.copy(original.folder / "vocabulary.json", folder / "codes.json")
    content = {
        "title": "A friend's late fusion",
        "task": "mortality",
        "cohort": "../../cohorts/pe",
        "strategy": "late",
        "modalities": {
            "ct": {"encoder": {"stored": original.config.modalities["ct"].encoder.weights}},
            "ehr": {"encoder": "onehot", "vocabulary": "codes.json"},
        },
        "rename": [{"prefix": "model.towers.", "to": "encoders."}],
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    canary = tmp_path_factory.mktemp("trap") / "canary"
    torch.save({"w": torch.zeros(2), "x": Command(canary)}, folder / "trap.pt")
    yield Inbox(folder, original, canary)
    shutil.rmtree(folder.parent)
    shutil.rmtree(workspace_folder / "runs" / NAME, ignore_errors=True)


@pytest.fixture(scope="module")
def page(browser: Any, address: str, inbox: Inbox) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, accept_downloads=True)
    page = Page(context.new_page(), address)
    page.open("import")
    yield page
    assert page.errors == []
    context.close()


def ready(page: Reader) -> Reader:
    """Wait for what the worker does."""
    page.settle()
    page.tab.wait_for_function(IDLE, timeout=90_000)
    return page.settle()


def command(inbox: Inbox) -> dict[str, Any]:
    given = [str(inbox.folder / "best.ckpt"), "--config", str(inbox.folder / "model.yaml")]
    out = ["--out", str(inbox.folder.parents[1] / "runs" / NAME), "--dry-run", "--json"]
    told = CliRunner().invoke(cli, ["import", "checkpoint", *given, *out])
    assert told.exit_code == 0, told.output
    return json.loads(told.stdout)


def compared(page: Page, inbox: Inbox) -> dict[str, Any]:
    """Compare on the page and by the command; counts and every tensor are the same."""
    page.tab.get_by_role("button", name="Compare").click()
    ready(page)
    told = command(inbox)
    counts = {row["State"]: int(row["Tensors"]) for row in page.table("Meaning")}
    assert {state: n for state, n in counts.items() if n} == told["counts"]
    path = page.download(page.tab.get_by_role("button", name="All tensors (CSV)"))
    rows = pd.read_csv(path, keep_default_na=False).to_dict("split")["data"]
    assert rows == [[t["state"], t["name"], t["source"], t["why"]] for t in told["tensors"]]
    for sentence in told["misfits"]:
        assert sentence in page.text()
    for name, value in {**told["inferred"], **told["assumed"]}.items():
        assert f"{name} = {value}" in page.text()
    return told


def kept(content: bytes) -> list[str]:
    """Names of the uploads with this content, wherever the server keeps them."""
    folders = Path(tempfile.gettempdir()).glob("fusionlens-import-*")
    return [p.name for f in folders for p in f.rglob("*.pt") if p.read_bytes() == content]


@contextmanager
def frozen_workers() -> Iterator[None]:
    """Nothing that the page asks for gets on, for as long as one likes to look at it."""
    found = [
        int(home.name)
        for home in Path("/proc").glob("[0-9]*")
        if b"app.bring.worker" in (home / "cmdline").read_bytes()
    ]
    assert found
    for process in found:
        os.kill(process, signal.SIGSTOP)
    yield
    for process in found:
        if Path(f"/proc/{process}").exists():
            os.kill(process, signal.SIGCONT)


def stopped_midway(page: Page, runs: Path) -> None:
    """Accept, and stop before it is written: nothing is left, and it can be tried again."""
    before = sorted(runs.iterdir())
    with frozen_workers():
        page.tab.get_by_role("button", name="Import as run").click()
        page.tab.get_by_text("Importing: ").wait_for(timeout=60_000)
        page.tab.get_by_role("button", name="Stop").click()
        page.tab.get_by_text("Not imported, and nothing was written.").wait_for(timeout=60_000)
    page.settle()
    assert "It was stopped." in page.text()
    assert sorted(runs.iterdir()) == before
    page.tab.get_by_role("button", name="Try again").click()
    page.settle()


def test_a_trap_is_refused_and_leaves_nothing(page: Page, inbox: Inbox) -> None:
    page.choose("Checkpoint in the inbox", "friend/trap.pt")
    ready(page)
    refused = "Refused. friend/trap.pt: not read: it wants 'posix.system' to be run"
    assert refused in page.text()
    page.press("On the server", "Upload")
    upload = {"name": "../../../trap.pt", "mimeType": "application/octet-stream"}
    content = (inbox.folder / "trap.pt").read_bytes()
    page.tab.locator("input[type=file]").set_input_files([{**upload, "buffer": content}])
    page.tab.get_by_text("Refused. ../../../trap.pt: not read").wait_for(timeout=60_000)
    page.settle()
    assert kept(content) == ["0001.pt"]
    page.tab.get_by_role("button", name="Remove").click()
    page.settle()
    assert kept(content) == []
    assert not inbox.canary.exists()
    page.press("On the server", "On the server")


def test_the_report_is_the_commands_and_the_run_predicts_as_the_original(
    page: Page, inbox: Inbox, workspace_folder: Path
) -> None:
    page.choose("Checkpoint in the inbox", "friend/best.ckpt")
    ready(page)
    assert "Lightning checkpoint (torch.save), weights at state_dict" in page.text()
    page.press("Form", "Text")
    page.choose("model.yaml in the inbox", "friend/model.yaml")
    page.tab.get_by_role("button", name="Take it").click()
    page.settle()
    told = compared(page, inbox)
    assert not told["fits"]
    assert "may be missing" in page.text()
    (rule,) = told["rules_that_fit_more"]
    assert f"{rule['prefix']} -> {rule['to']}" in page.text()
    text = page.tab.get_by_role("textbox", name="model.yaml")
    added = f"{text.input_value()}- prefix: {rule['prefix']}\n  to: {rule['to']}\n"
    text.fill(added)
    text.press("Control+Enter")
    page.settle()
    assert "compare again before you import" in page.text()
    (inbox.folder / "model.yaml").write_text(added)
    assert compared(page, inbox)["fits"]

    page.type("Name of the run", RUN)
    assert f"There is a run {RUN} already" in page.text()
    page.type("Name of the run", NAME)
    page.type("Title, as it is shown", "A friend's own late fusion")
    stopped_midway(page, workspace_folder / "runs")
    for box, value in (("Name of the run", NAME), ("Title", "A friend's own late fusion")):
        assert page.tab.get_by_role("textbox", name=box).input_value() == value
    page.tab.get_by_role("button", name="Import as run").click()
    page.tab.get_by_text("is now the run").wait_for(timeout=150_000)
    page.settle()
    assert f"A friend's own late fusion is now the run {NAME}" in page.text()
    page.tab.get_by_role("link", name="Overview").last.click()
    page.tab.get_by_text("What is here?").wait_for()
    page.settle()
    assert "A friend's own late fusion was trained elsewhere" in page.text()

    run = load_run(workspace_folder / "runs" / NAME, [workspace_folder / "encoders"])
    assert run.config.imported.source == "friend/best.ckpt"
    assert run.config.imported.fresh == ()
    cohort = Cohort.open(workspace_folder / "cohorts" / "pe")
    ids = cohort.subject_ids("internal")
    theirs, ours = (predict(r, cohort, ids).values for r in (inbox.original, run))
    assert np.array_equal(ours, theirs)
    hidden = [p.name for p in (workspace_folder / "runs").iterdir() if p.name.startswith(".")]
    assert hidden == []
