"""The patient's ECG on paper with what the prediction rests on, by lead, by wave and by beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from weakref import WeakKeyDictionary

import pandas as pd
import streamlit as st

from analysis.attribution.case import AttributionError, Case
from analysis.attribution.explained import layers_of
from analysis.attribution.signal import METHODS, SignalMap, segment_shares
from analysis.attribution.target import Target
from analysis.ecg import Delineation
from analysis.explain import Choice, delineation, recommended_recording_map
from analysis.trust.card import card
from analysis.trust.report import report_part
from app.figures.text import listed, markdown, number
from app.panels import (
    ecg_paper,
    figure,
    map_choice,
    patient_parts,
    patient_tasks,
    progress,
    trust_card,
)
from app.panels.ecg_paper import Interval, LeadMap, PaperSignal
from app.panels.patient_ct import distinct
from app.panels.patient_header import Shown
from app.patients import PatientDesk
from models.contracts import Kind

MEASURED = ("rate_bpm", "pr_ms", "qrs_ms", "qt_ms", "qtc_ms", "axis_deg")
BETWEEN = {"between": "between waves"}
_drawn: WeakKeyDictionary[Case, dict[str, tuple[PaperSignal, Delineation]]] = WeakKeyDictionary()


def show(
    desk: PatientDesk, shown: Sequence[Shown], targets: Sequence[Target], modality: str
) -> None:
    """Paper, trust cards, shares of waves and of leads."""
    readers = [(s, t) for s, t in zip(shown, targets, strict=True) if modality in s.case.encoded]
    if not readers:
        st.info("The strategy does not read this signal.")
        return
    case = readers[0][0].case
    if modality not in case.present:
        st.info(
            "The patient does not have this modality: the models were told that it is absent, and "
            "there is nothing in it to explain."
        )
        return
    try:
        paper, waves = drawing(case, modality)
    except AttributionError as error:
        st.info(markdown(str(error)))
        return
    choices = _choose(desk, [item.case for item, _ in readers], modality)
    maps: list[tuple[Shown, SignalMap]] = []
    with progress.spinner("Computing the map: one pass through the ECG network for each strategy"):
        for (item, target), choice in zip(readers, choices, strict=True):
            try:
                found = desk.signal_map(item.case, modality, target, *choice)
                maps.append((item, found))
            except AttributionError as error:
                st.warning(f"**{markdown(item.title)}** has no map. {markdown(str(error))}")
    names = distinct([(item.title, found.subject.run) for item, found in maps])
    measures = {n: v for n, v in asdict(waves.measures).items() if n in MEASURED}
    overlays = [lead_map(name, found) for name, (_, found) in zip(names, maps, strict=True)]
    for place, (heading, drawn) in enumerate(patient_tasks.viewers(maps, overlays)):
        if heading:
            st.subheader(markdown(heading), anchor=False)
        ecg_paper.show(
            paper,
            key=f"ecg {modality}" + (f" {place}" if place else ""),
            alt=f"ECG of patient {case.subject_id} with what the model's prediction rests on",
            title=f"{case.cohort.spec.title}, patient {case.subject_id}",
            overlays=drawn,
            beats=_beats(waves),
            segments=_segments(waves),
            measurements=measures,
            qtc_formula="Bazett",
            filter_text="unfiltered as recorded",
        )
    _say(waves)
    for item, found in maps:
        part = report_part(desk.trust(item.case), modality, found.method, found.layer)
        trust_card.show(
            card(part),
            key=f"ecg {item.case.run.config.name}",
            subject=item.title if len(maps) > 1 else "",
        )
    if len(waves.segments):
        by_wave = [(item, segment_shares(found, waves.segments)) for item, found in maps]
        patient_tasks.looks(
            "Wave",
            [(item, shares.set_index("segment")["share"]) for item, shares in by_wave],
            BETWEEN,
        )
    for name, (item, found) in zip(names, maps, strict=True):
        _shares(item, found, waves, name if len(maps) > 1 else "")
    st.subheader("Each lead's share in the prediction", anchor=False)
    patient_parts.show(desk, shown, targets, modality)


def drawing(case: Case, modality: str) -> tuple[PaperSignal, Delineation]:
    """The ECG as recorded, and its waves; read and measured once a case.

    Raises AttributionError where only features were kept.
    """
    kept = _drawn.setdefault(case, {})
    if modality not in kept:
        signal = case.tracing(modality)
        paper = PaperSignal(signal.array, tuple(signal.leads), float(signal.rate_hz))
        kept[modality] = (paper, delineation(case, modality))
    return kept[modality]


def lead_map(name: str, found: SignalMap) -> LeadMap:
    """A map for the paper."""
    return LeadMap(
        values=found.values,
        leads=found.leads,
        start_s=0.0,
        step_s=found.step_s,
        signed=found.signed,
        title=f"{METHODS[found.method]}: {name}",
        note=f"explains {found.target['title']}",
        ends=("lowers it", "raises it") if found.signed else ("nothing", "raises it most"),
    )


def _choose(desk: PatientDesk, cases: Sequence[Case], modality: str) -> list[Choice]:
    bests = [recommended_recording_map(case, modality, desk.trust(case)) for case in cases]
    layers = {n: w for case in cases for n, w in layers_of(case, modality, Kind.SIGNAL).items()}
    others: list[Choice] = [
        *((name, layer) for name in list(METHODS)[:-1] for layer in reversed(layers)),
        ("integrated_gradients", None),
    ]

    def words(option: Choice) -> str:
        method, layer = option
        return METHODS[method] if layer is None else f"{METHODS[method]}, {layers[layer]}"

    runs = " ".join(case.run.config.name for case in cases)
    return map_choice.choose(bests, others, words, f"map {runs} {modality}")


def _beats(waves: Delineation) -> list[Interval]:
    return [
        Interval(float(b.start_s), float(b.end_s), f"beat {int(b.beat) + 1}")
        for b in waves.beats.itertuples()
    ]


def _segments(waves: Delineation) -> list[Interval]:
    return [
        Interval(float(s.start_s), float(s.end_s), str(s.segment))
        for s in waves.segments.itertuples()
    ]


def _say(waves: Delineation) -> None:
    measured = waves.measures
    if not measured.beats:
        st.caption(
            "No beats were found (too short, flat or noisy a recording), so there are no "
            "intervals and no shares by wave."
        )
        return
    st.caption(
        f"Beats were found automatically over all leads ({measured.beats} beats), P and T on "
        f"{listed(list(measured.leads))}; medians over beats, not read by a cardiologist. The "
        "trace is the recording; the model reads it at its own sampling rate, band-passed."
    )


def _shares(item: Shown, found: SignalMap, waves: Delineation, title: str) -> None:
    if title:
        st.markdown(f"**{markdown(title)}**")
    left, right = st.columns(2)
    name = f"{item.case.run.config.name} {item.case.subject_id}"
    with left:
        if len(waves.segments):
            shares = segment_shares(found, waves.segments)
            st.table(wave_table(shares, found.signed).set_index("Wave"))
            figure.csv(shares, f"waves {name}")
            st.caption(
                "Share of the map in each kind of wave, over all leads, beside the share of time "
                "it takes. Weight 1 is what a map without preference has."
            )
    with right:
        leads = found.by_lead()
        table = pd.DataFrame(
            {
                "Lead": leads["lead"].map(markdown),
                "Share of the map": [f"{s:.0%}" for s in leads["share"]],
            }
        )
        st.table(table.head(6).set_index("Lead"))
        figure.csv(leads, f"leads {name}")


def wave_table(shares: pd.DataFrame, signed: bool) -> pd.DataFrame:
    """Shares by wave in words."""
    table = pd.DataFrame(
        {
            "Wave": shares["segment"].replace(BETWEEN),
            "Share of the map": [f"{s:.0%}" for s in shares["share"]],
            "Share of time": [f"{t:.0%}" for t in shares["time"]],
            "Weight": ["–" if pd.isna(d) else number(float(d), 1) for d in shares["density"]],
        }
    )
    if signed:
        table["Sum"] = [number(float(v), 3) for v in shares["signed"]]
    return table
