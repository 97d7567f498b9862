"""The patient's echo loops, all views at once, with what the prediction rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import streamlit as st

from analysis.attribution.case import AttributionError, Case
from analysis.attribution.explained import layers_of
from analysis.attribution.target import Target
from analysis.attribution.video import METHODS, VideoMap
from analysis.cohort.dataset import VideoReading
from analysis.cohort.readers.echo import Cine as Loop
from analysis.cohort.readers.echo import Still, centre_square
from analysis.cohort.readers.echo_header import VIEW_TITLES
from analysis.cohort.schema import CohortError
from analysis.echo import FILE, TRUTH, CycleMarks, cycle_marks
from analysis.explain import Choice, recommended_recording_map
from analysis.trust.card import card
from analysis.trust.report import report_part
from app.figures.text import count, markdown
from app.panels import (
    echo_cine,
    figure,
    map_choice,
    patient_parts,
    patient_tasks,
    progress,
    trust_card,
)
from app.panels.echo_cine import Cine, CineMap
from app.panels.patient_ct import distinct
from app.panels.patient_header import Shown
from app.patients import PatientDesk
from models.contracts import Kind

MOST_ASIDES = 12
_FROM = {FILE: "R wave stated in the file", TRUTH: "the simulation's truth", "": ""}
_WHO = {words: who for who, words in _FROM.items()}
_drawn: WeakKeyDictionary[Case, dict[str, list[Cine]]] = WeakKeyDictionary()
_aside: WeakKeyDictionary[Case, dict[str, list[Cine]]] = WeakKeyDictionary()


def show(
    desk: PatientDesk, shown: Sequence[Shown], targets: Sequence[Target], modality: str
) -> None:
    """Loops, trust cards, and shares of the views."""
    readers = [(s, t) for s, t in zip(shown, targets, strict=True) if modality in s.case.encoded]
    if not readers:
        st.info("The strategy does not read these videos.")
        return
    case = readers[0][0].case
    if modality not in case.present:
        st.info(
            "The patient does not have this modality: the models were told that it is absent, and "
            "there is nothing in it to explain."
        )
        return
    try:
        cines = drawing(case, modality)
        aside, more = asides(case, modality)
    except AttributionError as error:
        st.info(markdown(str(error)))
        return
    choices = _choose(desk, [item.case for item, _ in readers], modality)
    maps: list[tuple[Shown, VideoMap]] = []
    with progress.spinner("Computing the map: one pass through the echo network for each strategy"):
        for (item, target), choice in zip(readers, choices, strict=True):
            try:
                found = desk.video_map(item.case, modality, target, *choice)
                maps.append((item, found))
            except AttributionError as error:
                st.warning(f"**{markdown(item.title)}** has no map. {markdown(str(error))}")
    names = distinct([(item.title, found.subject.run) for item, found in maps])
    overlays = [cine_map(name, found, cines) for name, (_, found) in zip(names, maps, strict=True)]
    viewers = patient_tasks.viewers(maps, overlays)
    for place, (column, (heading, drawn)) in enumerate(
        zip(st.columns(len(viewers), vertical_alignment="bottom"), viewers, strict=True)
    ):
        with column:
            if heading:
                st.subheader(markdown(heading), anchor=False)
            echo_cine.show(
                [*cines, *aside],
                key=f"echo {modality}" + (f" {place}" if place else ""),
                alt=f"Echo of patient {case.subject_id} with what the model's prediction rests on",
                title=f"{case.cohort.spec.title}, patient {case.subject_id}",
                overlays=drawn,
            )
    st.caption(
        "Loops play at the speed at which they were recorded. The model reads "
        f"{_reading(case, modality).frames} frames from the first one on, one in "
        f"{_reading(case, modality).stride}, of the picture's centred square; colours fade between "
        f"the cells of the map. {cycle_words(cines)}{more}"
    )
    for item, found in maps:
        part = report_part(desk.trust(item.case), modality, found.method, found.layer)
        trust_card.show(
            card(part),
            key=f"echo {item.case.run.config.name}",
            subject=item.title if len(maps) > 1 else "",
        )
    patient_tasks.looks(
        "View",
        [(item, found.by_view().set_index("view")["share"]) for item, found in maps],
        VIEW_TITLES,
    )
    for name, (item, found) in zip(names, maps, strict=True):
        if len(maps) > 1:
            st.markdown(f"**{markdown(name)}**")
        views = found.by_view()
        table = pd.DataFrame(
            {
                "View": [VIEW_TITLES.get(v) or markdown(str(v)) for v in views["view"]],
                "Share of the map": [f"{s:.0%}" for s in views["share"]],
            }
        )
        st.table(table.head(6).set_index("View"))
        figure.csv(views, f"views {item.case.run.config.name} {item.case.subject_id}")
    st.subheader("Each view's share in the prediction", anchor=False)
    patient_parts.show(desk, shown, targets, modality)


def drawing(case: Case, modality: str) -> list[Cine]:
    """Every view that the run reads, recorded or not; read once a case.

    Raises AttributionError where only features were kept.
    """
    kept = _drawn.setdefault(case, {})
    if modality not in kept:
        found = case.cines(modality)
        marks = cycle_marks(case, found)
        kept[modality] = [
            _drawn_loop(view, found[view], marks[view])
            if view in found
            else Cine(view, VIEW_TITLES.get(view, view))
            for view in _reading(case, modality).views
        ]
    return kept[modality]


def _drawn_loop(view: str, loop: Loop, marks: CycleMarks) -> Cine:
    return Cine(
        view,
        VIEW_TITLES.get(view, view),
        loop.frames,
        tuple(float(t) for t in loop.frame_times_ms),
        loop.mm_per_pixel,
        ed_frames=marks.ed,
        es_frames=marks.es,
        ed_from=_FROM[marks.ed_from],
        es_from=_FROM[marks.es_from],
        r_waves_ms=loop.r_waves_ms,
        ecg=loop.ecg,
        heart_rate_bpm=loop.rate_bpm,
    )


def asides(case: Case, modality: str) -> tuple[list[Cine], str]:
    """Stills and strips, which no model reads, the first `MOST_ASIDES` of them; a sentence says
    how many were left out. Read once a case.
    """
    kept = _aside.setdefault(case, {})
    if modality not in kept:
        found = case.stills(modality)
        kept[modality] = [_drawn_still(n, *one) for n, one in enumerate(found, start=1)]
    shown = kept[modality][:MOST_ASIDES]
    left = len(kept[modality]) - len(shown)
    return shown, f" {count(left, 'more still')} of the study are not shown." if left else ""


def _drawn_still(number: int, view: str | None, found: Still | CohortError) -> Cine:
    name = f"still {number}"
    title = VIEW_TITLES.get(str(view), "") or "View not stated"
    if isinstance(found, CohortError):
        return Cine(name, title, missing="cannot be read", note=str(found))
    return Cine(name, title, found.picture[None], aside=found.kind)


def cycle_words(cines: Sequence[Cine]) -> str:
    """Where the marks of the cycle come from, or that there are none."""
    loops = [c for c in cines if c.frames is not None]
    words = marks_words(
        {c.view: CycleMarks(ed_from=_WHO[c.ed_from], es_from=_WHO[c.es_from]) for c in loops}
    )
    if any(len(c.r_waves_ms) for c in loops):
        words += " Blue ticks below a loop are the R waves."
    carried = sum(c.ecg is not None for c in loops)
    if carried:
        return f"{words} The ECG below a loop is the file's own, in {carried} of {len(loops)}."
    return f"{words} No file carries an ECG trace of its own."


def marks_words(marks: Mapping[str, CycleMarks]) -> str:
    """Where end-diastole and end-systole of the loops come from, in sentences."""
    said = []
    for name, full, sources in (
        ("ED", "End-diastole", [m.ed_from for m in marks.values()]),
        ("ES", "End-systole", [m.es_from for m in marks.values()]),
    ):
        by_file, by_truth = sources.count(FILE), sources.count(TRUTH)
        of = f"of {count(len(sources), 'loop')}"
        if by_file:
            said.append(
                f"{full} ({name}): the frame nearest an R wave that the file states, in "
                f"{by_file} {of}."
            )
        if by_truth:
            said.append(
                f"{full} ({name}) by the simulation's truth in {by_truth} {of}, which no "
                "real file states."
            )
        if not by_file and not by_truth:
            said.append(f"{full} is not marked: the files do not state it.")
    return " ".join(said)


def cine_map(name: str, found: VideoMap, cines: Sequence[Cine]) -> CineMap:
    """A map for the loops: on the frames and the square that the model read."""
    first = next(c for c in cines if c.view in found.views)
    assert first.frames is not None
    height, width = first.frames.shape[1:3]
    top, left, side = centre_square(height, width)
    # A loop that is shorter than what the model reads was read again from its start.
    return CineMap(
        values={
            v: np.asarray(x, np.float32) for v, x in zip(found.views, found.values, strict=True)
        },
        stride=float(found.frames * found.stride),
        signed=False,
        title=f"{METHODS[found.method]}: {name}",
        box=(left / width, top / height, (left + side) / width, (top + side) / height),
        note=f"explains {found.target['title']}",
        ends=("nothing", "raises it most"),
    )


def _reading(case: Case, modality: str) -> VideoReading:
    reading = case.reading(modality)
    assert isinstance(reading, VideoReading)
    return reading


def _choose(desk: PatientDesk, cases: Sequence[Case], modality: str) -> list[Choice]:
    bests = [recommended_recording_map(case, modality, desk.trust(case)) for case in cases]
    layers = {n: w for case in cases for n, w in layers_of(case, modality, Kind.VIDEO).items()}
    others: list[Choice] = [(name, layer) for name in METHODS for layer in reversed(layers)]

    def words(option: Choice) -> str:
        method, layer = option
        return f"{METHODS[method]}, {layers[str(layer)]}"

    runs = " ".join(case.run.config.name for case in cases)
    return map_choice.choose(bests, others, words, f"map {runs} {modality}")
