"""fusionlens explain, trust."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from app.commands.base import (
    JsonFlag,
    cli,
    err_console,
    in_one_sentence,
    out_console,
    print_json,
    print_line,
    results_of,
    start_engine,
)
from sample_data.progress import stage_bar

if TYPE_CHECKING:
    from analysis.attribution.case import Case
    from analysis.cohort.cohort import Cohort
    from analysis.explain import Explained
    from analysis.outlook import Outlook
    from analysis.store import ResultStore
    from models.checkpoint import Run


class What(StrEnum):
    """Numbers that can be explained."""

    LOG_RISK = "log_risk"
    SURVIVAL = "survival"


class Contexts(StrEnum):
    """What shares of parts add up to."""

    LEDGER = "ledger"
    GIVEN = "given"


@cli.command()
def explain(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    cohort: Annotated[Path, typer.Option(help="Cohort folder.")],
    patient: Annotated[int, typer.Option(help="A subject_id of the cohort.")],
    what: Annotated[
        What, typer.Option("--explain", help="Log-risk, or event-free probability at --horizon.")
    ] = What.LOG_RISK,
    horizon: Annotated[
        float | None, typer.Option(help="Days; the task's own horizon if not said.")
    ] = None,
    class_name: Annotated[
        str | None, typer.Option("--class", help="Class of a classification run; the last one.")
    ] = None,
    map_method: Annotated[
        str | None,
        typer.Option("--map", help="METHOD or METHOD:LAYER for scans; the recommended one."),
    ] = None,
    method: Annotated[
        str, typer.Option(help="For events, tables and bags: permutation, exact, ...")
    ] = "permutation",
    contexts: Annotated[
        Contexts | None,
        typer.Option(
            help="Shares add up to the ledger's share (the default up to three modalities), or "
            "to f(x) - f(without it)."
        ),
    ] = None,
    training_cohort: Annotated[
        Path | None,
        typer.Option(help="Cohort the run was trained on, for percentiles; --cohort if it fits."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the report (HTML), maps (NIfTI; CSV of signals and videos), shares "
            "and attention (CSV)."
        ),
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="Store of results; the cohort's workspace if not said.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Why a run predicts what it predicts for one patient: the numbers of the patient page."""
    with in_one_sentence():
        start_engine()
        from analysis.attribution.case import open_case
        from analysis.cohort.cohort import Cohort
        from analysis.cohort.write import atomic_folder
        from analysis.explain import explain as explain_case
        from analysis.explain import explanation_json, find_trust

        loaded, opened, store = _opened(run, cohort, results)
        trained = Cohort.open(training_cohort) if training_cohort else _own(loaded, opened)
        case = open_case(loaded, opened, patient)
        shown = _outlook(case, trained, store, horizon)
        target = _target(case, what, shown, class_name)
        trust = find_trust(loaded, [opened, trained], store)
        # A folder that cannot be written ends the command before the work, not after it.
        with (
            stage_bar(err_console) as say,
            atomic_folder(out) if out is not None else nullcontext() as folder,
        ):
            found = explain_case(
                case,
                target,
                store,
                trust=trust,
                volume_choice=_choice(map_method),
                part_method=method,
                contexts=None if contexts is None else str(contexts),
                seed=seed,
                progress=lambda done, total: say("Explaining", done, total),
            )
            if folder is not None:
                from app.commands.patient_report import write_report

                _write(folder, case, found)
                write_report(folder / "report.html", case, target, found, shown, trust)
        answer = explanation_json(case, target, found, shown, trust)
    if as_json:
        print_json(answer)
    else:
        _print_explanation(answer)


def _opened(run: Path, cohort: Path, results: Path | None) -> tuple[Run, Cohort, ResultStore]:
    """What both commands start from."""
    from analysis.cohort.cohort import Cohort
    from analysis.store import ResultStore
    from models.checkpoint import load_run
    from sample_data.workspace import ENCODERS

    store = ResultStore(results or results_of(cohort))
    return load_run(run, [ENCODERS]), Cohort.open(cohort), store


def _own(run: Any, cohort: Any) -> Any:
    """The cohort at hand, if it is the one that the run was trained on."""
    entry = run.config.cohort
    same = cohort.fingerprint == entry.fingerprint or cohort.spec.name == entry.name
    return cohort if same and len(cohort.subject_ids("train", run.config.task.name)) else None


def _outlook(case: Case, trained: Any, store: Any, horizon: float | None) -> Outlook:
    from analysis.baseline_file import read_baseline
    from analysis.outlook import outlook
    from analysis.predict import predict_stored

    if case.run.config.task.kind != "survival":
        return outlook(case, None, None)
    risks = None if trained is None else predict_stored(case.run, trained, "train", store).risk
    return outlook(case, read_baseline(case.run.folder), risks, horizon)


def _target(case: Case, what: What, shown: Outlook, class_name: str | None) -> Any:
    from analysis.attribution.target import ClassLogit, LogRisk, Survival
    from analysis.baseline_file import read_baseline
    from analysis.outlook import SurvivalOutlook

    if not isinstance(shown, SurvivalOutlook):
        names = list(shown.probabilities)
        name = class_name or names[-1]
        if name not in names:
            raise ValueError(f"there is no class '{name}'; choose one of {', '.join(names)}.")
        return ClassLogit(names.index(name), name)
    if class_name is not None:
        raise ValueError(f"run '{case.run.config.name}' predicts survival; leave --class out.")
    if what is What.SURVIVAL:
        return Survival(read_baseline(case.run.folder), (shown.horizon_days,))
    return LogRisk()


def _choice(text: str | None) -> tuple[str, str | None] | None:
    if text is None:
        return None
    name, _, layer = text.partition(":")
    return name, layer or None


def _write(folder: Path, case: Case, found: Explained) -> None:
    """Every map, share and attention matrix as a file."""
    from analysis.attribution.export import (
        attention_csv,
        attribution_csv,
        recording_csv,
        write_map_nifti,
    )

    for made in found.maps:
        layer = f"-{made.layer}" if made.layer else ""
        path = folder / f"{made.modality}-{made.method}{layer}.nii.gz"
        write_map_nifti(made, path, case.scan(made.modality, native=True))
    for recording in (*found.signals, *found.videos):
        layer = f"-{recording.layer}" if recording.layer else ""
        path = folder / f"{recording.modality}-map-{recording.method}{layer}.csv"
        path.write_text(recording_csv(recording), encoding="utf-8")
    for part in found.attributions:
        path = folder / f"{part.modality}-{part.method}.csv"
        path.write_text(attribution_csv(part), encoding="utf-8")
    for attention in found.attention:
        path = folder / f"attention-{attention.query}-{attention.key}.csv"
        path.write_text(attention_csv(attention), encoding="utf-8")


def _print_explanation(answer: Mapping[str, Any]) -> None:
    explained, ledger = answer["explained"], answer["ledger"]
    print_line(f"{answer['title']}, patient {answer['patient']}: {explained['title']}")
    table = Table(title="Which modality carries it")
    for column in ("", explained["unit"]):
        table.add_column(column)
    table.add_row("knowing nothing", f"{ledger['reference']:.4f}")
    for name, share in ledger["shares"].items():
        table.add_row(name, "not there" if share is None else f"{share:+.4f}")
    table.add_row("prediction", f"{ledger['prediction']:.4f}")
    out_console.print(table)
    for made in answer["maps"]:
        layer = f" at {made['layer']}" if made["layer"] else ""
        place = made["place"] or "nowhere: the map is empty"
        print_line(f"{made['modality']}, {made['method']}{layer}: strongest {place}")
        print_line("  " + " ".join(made["trust"]["sentences"]))
    for part in answer["parts"]:
        _print_parts(part)
    for note in answer["notes"]:
        print_line(note)


def _print_parts(part: Mapping[str, Any], top: int = 10) -> None:
    how = f"{part['evaluations']:,} evaluations, gap {part['gap']:.1e}"
    if part["agreement"] is not None:
        how += f", halves agree at {part['agreement']:.2f}"
    table = Table(title=f"{part['modality']}: largest of {part['n_parts']} shares ({how})")
    for column in ("what", "value", "share"):
        table.add_column(column)
    for row in part["parts"][:top]:
        what = row.get("description") or row.get("title") or row.get("name") or row.get("instance")
        value = row.get("value")
        unit = row.get("unit") or ""
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        table.add_row(str(what), "" if value is None else f"{shown} {unit}", f"{row['share']:+.4f}")
    out_console.print(table)


@cli.command()
def trust(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    cohort: Annotated[Path, typer.Option(help="Cohort folder.")],
    split: Annotated[str, typer.Option(help="Whose patients: internal, external, ...")] = (
        "internal"
    ),
    patients: Annotated[
        int, typer.Option(min=2, help="For localisation; slower checks on fewer.")
    ] = 50,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    modality: Annotated[
        list[str] | None, typer.Option(help="Repeat to choose modalities; all without it.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="Store of results; the cohort's workspace if not said.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """How far a run's explanations can be believed: localisation, faithfulness, sanity. Minutes."""
    with in_one_sentence():
        start_engine()
        from analysis.trust.report import tables, trust_report

        loaded, opened, store = _opened(run, cohort, results)
        with stage_bar(err_console) as say:
            report = trust_report(
                loaded,
                opened,
                split=split,
                n_patients=patients,
                seed=seed,
                store=store,
                modalities=modality,
                progress=say,
            )
    if as_json:
        print_json(report)
        return
    for item in tables(report):
        table = Table(title=item.title)
        for column in item.columns:
            table.add_column(column)
        for row in item.rows:
            table.add_row(*row)
        out_console.print(table)
        print_line(item.note)
