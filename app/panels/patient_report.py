"""What the report of one patient holds, gathered from the same stored results as the page."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np

from analysis.attribution.attention import LabelledAttention, attention_maps
from analysis.attribution.case import AttributionError
from analysis.attribution.export import provenance
from analysis.attribution.grouping import by_column
from analysis.attribution.regions import region_name
from analysis.attribution.result import Attribution, VolumeMap
from analysis.attribution.signal import SignalMap
from analysis.attribution.target import Target
from analysis.attribution.video import VideoMap
from analysis.attribution.volume import layers_of
from analysis.explain import default_contexts, output_of, recommended_map, recommended_recording_map
from analysis.outlook import Observed, SurvivalOutlook
from analysis.trust.card import card
from analysis.trust.report import report_part
from app import report, theme
from app.figures import outlook as outlooks
from app.figures.ct_slices import slices_png
from app.figures.text import count
from app.panels import patient_ledger, patient_tasks
from app.panels import patient_report_heart as heart
from app.panels.ct_viewer import CTPA
from app.panels.patient_ct import map_title
from app.panels.patient_header import Shown, asked, by_task, curve
from app.panels.patient_parts import attribution, waterfall
from app.patients import Explains, PatientDesk
from app.report_document import Block, Chart, Picture, Table
from app.workspace import Task
from models.contracts import Kind

Told = tuple[Observed | None, str | None]
"""What happened under a task, and in words; both None where the reader did not ask."""


@dataclass(frozen=True)
class Collected:
    """All explanations of the runs on a page."""

    maps: list[VolumeMap] = field(default_factory=list)
    recordings: list[SignalMap | VideoMap] = field(default_factory=list)
    attributions: list[Attribution] = field(default_factory=list)
    attention: list[LabelledAttention] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    """(modality, what cannot be made of it)."""


def collect(desk: PatientDesk, shown: Sequence[Shown], targets: Sequence[Target]) -> Collected:
    """Compute or find every explanation; what cannot be made is noted."""
    found = Collected()
    for item, target in zip(shown, targets, strict=True):
        for name in item.case.present:
            kind = item.case.kind(name)
            if kind in (Kind.SIGNAL, Kind.VIDEO):
                if not item.case.has_input(name):
                    found.notes.append(
                        (name, "Only its features were kept: no picture and no map.")
                    )
                    continue
                choice = recommended_recording_map(item.case, name, desk.trust(item.case))
                draw = desk.signal_map if kind is Kind.SIGNAL else desk.video_map
                found.recordings.append(draw(item.case, name, target, *choice))
            if kind is Kind.VOLUME:
                try:
                    found.maps.append(
                        desk.volume_map(
                            item.case,
                            name,
                            target,
                            *recommended_map(item.case, name, desk.trust(item.case)),
                        )
                    )
                except AttributionError as error:
                    found.notes.append((name, str(error)))
            else:
                usual = default_contexts(item.case)
                found.attributions.append(attribution(desk, item, target, name, usual))
        found.attention.extend(attention_maps(item.case, target))
    return found


def report_of(
    desk: Explains,
    shown: Sequence[Shown],
    targets: Sequence[Target],
    found: Collected,
    index_event: str,
    told: Mapping[Task, Told] | None = None,
    further: Mapping[str, str] | None = None,
) -> report.PatientReport:
    """The content of the HTML report. told: what happened, only where the reader asked for it;
    further: facts beside those of the patient.
    """
    tasks = by_task(shown)
    told = told or dict.fromkeys(tasks, (None, None))
    task, several = shown[0].task, len(tasks) > 1
    case = shown[0].case
    row = case.cohort.subjects.loc[case.subject_id]
    facts = {"Split": theme.split_title(str(row["split"])), "Site": str(row["site"] or "")}
    modalities = case.cohort.spec.modalities
    has = [
        spec.title
        for name, spec in modalities.items()
        if case.subject_id in case.cohort.having(name)
        or case.subject_id in case.cohort.having_features(name)
    ]
    facts["Modalities on file"] = ", ".join(has)
    facts |= further or {}
    return report.PatientReport(
        patient=str(case.subject_id),
        cohort=case.cohort.spec.title,
        cohort_hash=case.cohort.fingerprint,
        task="; ".join(t.title for t in tasks),
        event_title=task.event_title,
        facts={name: value for name, value in facts.items() if value and value != "nan"},
        predictions=[
            report.Prediction.of(s.outlook, s.title, s.task.event_title if several else "")
            for s in shown
        ],
        outcome=None if several else told[task][1],
        outcomes={t.title: words for t, (_, words) in told.items()} if several else {},
        compare=patient_tasks.compare_text(shown, targets),
        outlook=[
            chart
            for t, items in tasks.items()
            for chart in _outlook(items, index_event, told[t][0])
        ],
        ledger=_ledger(desk, shown, targets),
        modalities=_parts(desk, shown, targets, found),
        methods=[
            provenance(made)
            for made in (*found.maps, *found.recordings, *found.attributions, *found.attention)
        ],
        versions={
            "fusionlens": version("fusionlens"),
            "torch": version("torch"),
            "python": platform.python_version(),
        },
        created=datetime.now(UTC),
    )


def outcome_words(happened: Observed, task: Task) -> str:
    """'day 45: death from any cause'."""
    if happened.time_days is None:
        return str(happened.label)
    event = task.event_title.lower() or "event"
    return outlooks.Outcome(happened.time_days, bool(happened.event), event).words


def told_of(desk: PatientDesk, shown: Sequence[Shown]) -> dict[Task, Told]:
    """What happened under each task; nothing of it unless the reader asked."""
    return {task: _told(desk, items[0]) for task, items in by_task(shown).items()}


def made_from(desk: PatientDesk, shown: Sequence[Shown]) -> dict[str, str]:
    """Under several tasks: of whom the strategies of each were made, where not of everybody."""
    tasks = by_task(shown)
    facts = {}
    for task, items in tasks.items():
        known = desk.membership(items[0].case)
        if len(tasks) > 1 and known.home and not known.everybody:
            facts[f"{task.title}: strategies made from"] = (
                f"the {known.n_told:,} of {count(known.n, 'patient')} with an outcome"
            )
    return facts


def _told(desk: PatientDesk, item: Shown) -> Told:
    if not asked(item.task):
        return None, None
    happened = desk.observed(item.case)
    if happened is None:
        return None, "the cohort holds none for this patient"
    return happened, outcome_words(happened, item.task)


def _outlook(shown: Sequence[Shown], index_event: str, happened: Observed | None) -> list[Chart]:
    """The curves of one task's runs."""
    task = shown[0].task
    curves = [s for s in shown if isinstance(s.outlook, SurvivalOutlook)]
    if not curves:
        return []
    event = task.event_title.lower() or "the event"
    outcome = None
    if happened is not None and happened.time_days is not None:
        outcome = outlooks.Outcome(happened.time_days, bool(happened.event), event)
    figure = outlooks.survival_outlook(
        [curve(s) for s in curves],
        min(s.outlook.horizon_days for s in curves if isinstance(s.outlook, SurvivalOutlook)),
        time_title=f"Days since {index_event}" if index_event else "Days",
        event_title=event,
        outcome=outcome,
    )
    alt = "Predicted survival beside the training patients' predictions"
    return [Chart(figure, alt, task=task.title if shown[0].of_several else "")]


def _ledger(desk: Explains, shown: Sequence[Shown], targets: Sequence[Target]) -> Chart:
    return Chart(
        patient_ledger.drawn(desk, shown, targets), "Shares of the modalities in the prediction"
    )


def _parts(
    desk: Explains, shown: Sequence[Shown], targets: Sequence[Target], found: Collected
) -> list[report.ModalityPart]:
    return [
        _part(desk.trust(item.case), item, target, name, found, len(shown) > 1)
        for item, target in zip(shown, targets, strict=True)
        for name in item.case.run.config.modalities
    ]


def _part(
    trust: Mapping[str, Any] | None,
    item: Shown,
    target: Target,
    name: str,
    found: Collected,
    named: bool,
) -> report.ModalityPart:
    """One modality of one run. named: whether its run must be said."""
    mine = item.case.run.hash
    titles = {n: entry.title for n, entry in item.case.run.config.modalities.items()}
    maps = [m for m in found.maps if (m.modality, m.subject.run_hash) == (name, mine)]
    recordings = [r for r in found.recordings if (r.modality, r.subject.run_hash) == (name, mine)]
    made = [a for a in found.attributions if (a.modality, a.subject.run_hash) == (name, mine)]
    looks = [a for a in found.attention if (a.query, a.subject.run_hash) == (name, mine)]
    cards = {
        **{m.method: card(report_part(trust, name, m.method, m.layer)) for m in maps},
        **{
            f"Map, {heart.recording_title(item, r)}": card(
                report_part(trust, name, r.method, r.layer)
            )
            for r in recordings
        },
        **{f"Shares, {a.method}": card(report_part(trust, name, a.method)) for a in made},
    }
    blocks, tables = _blocks(item, target, recordings, made)
    # Words of a told table add up to the columns that they speak of.
    shares = [by_column(a) if a.kind == Kind.TEXT else a for a in made]
    absent = name not in item.case.present
    return report.ModalityPart(
        title=titles[name],
        run=item.title if named else "",
        summary="The patient does not have it; the model was told that it is absent."
        if absent
        else " ".join(report.quality(a) for a in made),
        pictures=[_picture(item, m) for m in maps],
        blocks=blocks,
        tables=tables,
        waterfall=_waterfall(item, shares, target),
        raising=report.part_tables(shares[0])[0] if shares else None,
        lowering=report.part_tables(shares[0])[1] if shares else None,
        attention=[report.attention_table(a, titles[a.query], titles[a.key]) for a in looks],
        cards=cards,
        notes=[sentence for modality, sentence in found.notes if modality == name],
    )


def _blocks(
    item: Shown,
    target: Target,
    recordings: Sequence[SignalMap | VideoMap],
    made: Sequence[Attribution],
) -> tuple[list[Block], list[Table]]:
    blocks: list[Block] = []
    tables: list[Table] = []
    for recording in recordings:
        if isinstance(recording, SignalMap):
            sheet, more = heart.ecg(item, recording)
            blocks.append(sheet)
            tables += more
        else:
            blocks.append(heart.echo(item, recording))
    blocks += [heart.told(a, output_of(a, target)) for a in made if a.kind == Kind.TEXT]
    return blocks, tables


def _waterfall(item: Shown, shares: Sequence[Attribution], target: Target) -> Chart | None:
    if not shares:
        return None
    output = output_of(shares[0], target)
    return Chart(
        waterfall(item, shares[0], output),
        "From the model's answer without this modality to its answer with it",
    )


def _picture(item: Shown, found: VolumeMap) -> Picture:
    case = item.case
    layers = layers_of(case, found.modality)
    title = map_title(found.method, found.layer, layers)
    scan = case.scan(found.modality, native=True)
    at = found.peak_mm
    where = "empty: nothing raises the explained number by this method"
    if at is None:
        at = tuple(scan.to_mm([(np.asarray(scan.array.shape) - 1) / 2])[0])
    else:
        where = f"through its strongest point: {region_name(at, scan)}"
    return Picture(
        slices_png(scan, found, at, CTPA.level, CTPA.width, title=title),
        f"{title} over three slices of the scan",
        f"{title}, {where}.",
    )
