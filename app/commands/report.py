"""fusionlens report."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.commands.base import (
    JsonFlag,
    cli,
    err_console,
    in_one_sentence,
    print_json,
    print_line,
    start_engine,
)
from app.commands.runs import EvaluatedSplit
from sample_data.progress import stage_bar

if TYPE_CHECKING:
    from analysis.external import AnyRun
    from analysis.reporting.manifest import Manifest
    from analysis.store import ResultStore
    from app.workspace import Task, Workspace

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_SHOWN = 10  # differences that a replay prints


@cli.command()
def report(
    workspace: Annotated[Path, typer.Option(help="Workspace folder.")] = Path("workspace"),
    task: Annotated[
        str | None, typer.Option(help="Task, or COHORT/TASK where several cohorts have it.")
    ] = None,
    run: Annotated[
        list[str] | None, typer.Option(help="Repeat to choose runs; all of the task without it.")
    ] = None,
    split: Annotated[
        list[EvaluatedSplit] | None,
        typer.Option(help="Repeat; the first is the primary one. All there are without it."),
    ] = None,
    horizon: Annotated[
        float | None, typer.Option(min=0, help="Day by which events are predicted.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Risk at which patients are flagged.")
    ] = None,
    resamples: Annotated[int, typer.Option(min=10, max=100_000)] = 1000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[
        Path | None, typer.Option(help="HTML file; its manifest is written beside it.")
    ] = None,
    pdf: Annotated[bool, typer.Option(help="Also a PDF, by a Chromium that is installed.")] = False,
    replay: Annotated[
        Path | None, typer.Option(help="Manifest of a report whose numbers are computed anew.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """What a reviewer asks of the runs of a task, as one HTML file and a manifest to replay it.

    Who was studied, which run is best and how sure that is, calibration, usefulness, modalities,
    missing ones, transfer, trust in explanations, and the open items of TRIPOD+AI and CLAIM.
    """
    with in_one_sentence():
        start_engine()
        from analysis.reporting.manifest import manifest_of
        from app.workspace import Workspace

        opened = Workspace(workspace)
        if replay is not None:
            _replay(opened, replay, as_json)
            return
        if task is None or out is None:
            raise ValueError("name a --task and a file to write with --out, or a --replay.")
        if pdf and _browser() is None:
            raise ValueError(
                f"--pdf needs a browser ({', '.join(BROWSERS)}) and none is installed; install "
                "one, or print the HTML file from any browser."
            )
        chosen = _task(opened, task)
        runs = _runs(opened, chosen, run or [])
        splits = [str(s) for s in split] if split else opened.splits(chosen)
        found = _dossier(
            opened, chosen, runs, splits, horizon, threshold, resamples, seed, opened.store
        )
        made = manifest_of(found, chosen.cohort, datetime.now(UTC))
        _write(found, runs, made, out)
        if pdf:
            _print_pdf(out)
    if as_json:
        print_json(found)
    else:
        from app import review

        print_line(f"Written: {out}, {_manifest_path(out)}")
        for sentence in review.headlines(found, _styles(runs)):
            print_line(sentence)


def _task(workspace: Workspace, name: str) -> Task:
    cohort, _, task = name.rpartition("/")
    known = workspace.tasks()
    found = [t for t in known if t.name == task and (not cohort or t.cohort == cohort)]
    if len(found) == 1:
        return found[0]
    if found:
        told = " or ".join(t.key for t in found)
        raise ValueError(f"several cohorts have a task '{task}'; write --task {told}.")
    raise ValueError(
        f"there is no task '{name}' with runs in {workspace.folder}; known are "
        f"{', '.join(t.key for t in known) or 'none'}."
    )


def _runs(workspace: Workspace, task: Task, names: Sequence[str]) -> list[AnyRun]:
    usable, broken = workspace.predicting_runs(task)
    by_name = {run.config.name: run for run in usable}
    for name in names:
        if name not in by_name:
            raise ValueError(
                f"run '{name}': {broken.get(name) or 'it is not among the runs of the task'}; "
                f"choose of {', '.join(by_name)}."
            )
    for name, reason in broken.items():
        err_console.print(f"Left out: {name}: {reason}", style="yellow", markup=False)
    return [by_name[name] for name in names] if names else usable


def _dossier(
    workspace: Workspace,
    task: Task,
    runs: Sequence[AnyRun],
    splits: Sequence[str],
    horizon: float | None,
    threshold: float | None,
    resamples: int,
    seed: int,
    store: ResultStore,
) -> dict[str, Any]:
    from analysis.reporting.dossier import dossier

    with stage_bar(err_console) as say:
        return dossier(
            runs,
            workspace.cohort(task.cohort),
            splits,
            store,
            single=workspace.single_runs(task),
            trust_store=workspace.store,
            horizon_days=horizon,
            threshold=threshold,
            n_resamples=resamples,
            seed=seed,
            progress=say,
        )


def _manifest_path(out: Path) -> Path:
    return out.with_name(f"{out.stem}.manifest.json")


def _styles(runs: Sequence[AnyRun]) -> dict[str, Any]:
    from app import theme

    return {run.config.name: theme.run_style(run.config) for run in runs}


def _write(found: dict[str, Any], runs: Sequence[AnyRun], made: Manifest, out: Path) -> None:
    from analysis.reporting.manifest import write_manifest
    from app.review_report import render

    path = _manifest_path(out)
    text = render(found, _styles(runs), made, path.name)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    partial.write_text(text, encoding="utf-8")
    write_manifest(made, path)
    partial.replace(out)


# ---------------------------------------------------------------- PDF


def _browser() -> str | None:
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def _print_pdf(out: Path) -> None:
    """The HTML file printed by a headless browser, which asks nothing of any network."""
    browser = _browser()
    assert browser is not None
    pdf = out.with_suffix(".pdf")
    with tempfile.TemporaryDirectory() as home:
        made = Path(home) / "report.pdf"
        command = [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={home}/profile",
            "--no-pdf-header-footer",
            "--virtual-time-budget=60000",
            f"--print-to-pdf={made}",
            out.absolute().as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode or not made.is_file():
            told = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            raise ValueError(f"{browser} could not print {out}: {told[0]}")
        shutil.move(made, pdf)
    print_line(f"Written: {pdf}")


# ---------------------------------------------------------------- replay


def _replay(workspace: Workspace, path: Path, as_json: bool) -> None:
    """Compute every number of a manifest anew, with nothing stored, and compare."""
    from analysis.reporting.manifest import changed_hashes, differences, read_manifest
    from analysis.store import ResultStore

    told = read_manifest(path)
    settings = told.settings
    task = _task(workspace, f"{told.cohort}/{settings.task}")
    usable = {run.config.name: run for run in workspace.predicting_runs(task)[0]}
    problems = list(changed_hashes(settings.runs, {n: r.hash for n, r in usable.items()}))
    fingerprint = workspace.cohort(task.cohort).fingerprint
    if fingerprint != told.cohort_fingerprint:
        problems.append(
            f"Cohort '{told.cohort}' is not the one of the report: {fingerprint}, not "
            f"{told.cohort_fingerprint}."
        )
    if problems:
        raise ValueError(" ".join(problems) + " Open the workspace that the report was made from.")
    runs = [usable[name] for name in settings.runs]
    with tempfile.TemporaryDirectory() as home:
        found = _dossier(
            workspace,
            task,
            runs,
            settings.splits,
            settings.horizon_days,
            settings.threshold,
            settings.n_resamples,
            settings.seed,
            ResultStore(Path(home)),
        )
    wrong = differences(told.numbers, found)
    if as_json:
        print_json(
            {
                "numbers": len(told.numbers),
                "differences": [
                    {"place": d.place, "told": d.told, "found": d.found} for d in wrong
                ],
            }
        )
    else:
        for d in wrong[:_SHOWN]:
            print_line(f"{d.place}: {d.told} in the report, {d.found} now")
        print_line(
            f"All {len(told.numbers):,} numbers came out again."
            if not wrong
            else f"{len(wrong):,} of {len(told.numbers):,} numbers did not come out again."
        )
    if wrong:
        raise typer.Exit(1)
