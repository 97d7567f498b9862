"""The patient's CT with maps over it, how far they can be believed, and the regions' shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from analysis.attribution.case import AttributionError, Case
from analysis.attribution.regions import region_name
from analysis.attribution.result import Attribution, VolumeMap
from analysis.attribution.target import Target
from analysis.attribution.volume import METHODS, layers_of
from analysis.cohort.truth import read_truth
from analysis.explain import Choice, default_contexts, recommended_map
from analysis.trust.card import card
from analysis.trust.report import recommended, report_part
from app.figures.text import count, markdown, number, signed
from app.panels import ct_viewer, figure, map_choice, patient_agreement, progress, trust_card
from app.panels.patient_header import Shown
from app.patients import PatientDesk

PART_NOUNS = {
    "events": "event",
    "table": "column",
    "text": "word",
    "signal": "lead",
    "video": "view",
    "bag": "instance",
    "volume": "region",
}
MASK_COLOURS = ("#4CD964", "#F2C14E")


def show(
    desk: PatientDesk, shown: Sequence[Shown], targets: Sequence[Target], modality: str
) -> None:
    """Viewer, trust cards and table of regions of one volume modality."""
    readers = [(s, t) for s, t in zip(shown, targets, strict=True) if modality in s.case.encoded]
    if not readers:
        st.info("The strategy does not read this scan.")
        return
    case = readers[0][0].case
    try:
        volume = case.scan(modality, native=True)
    except AttributionError as error:
        st.info(markdown(str(error)))
        if modality in case.present:
            _regions(desk, readers, modality)
        return
    choices = _choose(desk, [item.case for item, _ in readers], modality)
    maps = _maps(desk, readers, modality, choices)
    names = distinct([(item.title, found.subject.run) for item, found in maps])
    overlays = [overlay(name, found) for name, (_, found) in zip(names, maps, strict=True)]
    peak = next((m.peak_mm for _, m in maps if m.peak_mm is not None), None)
    viewer = ct_viewer.show(
        volume,
        overlays,
        key=f"ct {modality}",
        alt=f"CT of patient {case.subject_id} with a map of what the model's prediction rests on",
        title=f"{case.cohort.spec.title}, patient {case.subject_id}",
        start_mm=peak,
        masks=true_masks(case, modality),
    )
    _say(readers, maps, volume, viewer)
    for item, found in maps:
        part = report_part(desk.trust(item.case), modality, found.method, found.layer)
        trust_card.show(
            card(part),
            key=f"ct {item.case.run.config.name}",
            subject=item.title if len(maps) > 1 else "",
        )
    _regions(desk, readers, modality)
    for item, target in readers:
        patient_agreement.show_maps(
            desk, item, target, modality, subject=item.title if len(readers) > 1 else ""
        )


def _choose(desk: PatientDesk, cases: Sequence[Case], modality: str) -> list[Choice]:
    """The map of each run; the trust report's recommendation comes first."""
    bests = [recommended_map(case, modality, desk.trust(case)) for case in cases]
    layers = {n: words for case in cases for n, words in layers_of(case, modality).items()}
    others: list[Choice] = [
        (name, layer)
        for name, spec in METHODS.items()
        for layer in (reversed(layers) if spec.needs_layer else (None,))
    ]
    measured = [recommended(desk.trust(case), modality) is not None for case in cases]

    def words(option: Choice) -> str:
        text = map_title(*option, layers)
        known = [m for best, m in zip(bests, measured, strict=True) if best == option]
        if not known:
            return text
        return f"{text} ({'best in the trust checks' if any(known) else 'default, not measured'})"

    runs = " ".join(case.run.config.name for case in cases)
    return map_choice.choose(bests, others, words, f"map {runs} {modality}")


def map_title(method: str, layer: str | None, layers: Mapping[str, str]) -> str:
    """'HiResCAM, fine features'."""
    title = METHODS[method].title
    return title if layer is None else f"{title}, {layers.get(layer, layer)}"


def _maps(
    desk: PatientDesk,
    readers: Sequence[tuple[Shown, Target]],
    modality: str,
    choices: Sequence[Choice],
) -> list[tuple[Shown, VolumeMap]]:
    found = []
    with progress.spinner("Computing the map: one pass through the CT network for each strategy"):
        for (item, target), choice in zip(readers, choices, strict=True):
            try:
                found.append((item, desk.volume_map(item.case, modality, target, *choice)))
            except AttributionError as error:
                st.warning(f"**{markdown(item.title)}** has no map. {markdown(str(error))}")
    return found


def distinct(runs: Sequence[tuple[str, str]]) -> list[str]:
    """Titles of (title, name), with the run's name where two runs share a title."""
    titles = [title for title, _ in runs]
    return [t if titles.count(t) == 1 else f"{t} [{name}]" for t, name in runs]


def overlay(title: str, found: VolumeMap) -> ct_viewer.Overlay:
    """A map as the viewer draws it."""
    d, h, w = found.values.shape
    worse = found.target["worse_is_higher"]
    name = str(found.target["title"])
    ends = (f"lowers {name}", f"raises {name}") if found.signed else ("none", f"raises {name}")
    values = found.values
    # Red is what is worse for the patient, whatever number is explained.
    if found.signed and worse is False:
        values, ends = -values, ends[::-1]
    layer = f" at {found.layer}" if found.layer else ""
    return ct_viewer.Overlay(
        values=values,
        affine=found.affine,
        signed=found.signed,
        title=f"{METHODS[found.method].title}: {title}",
        note=f"{METHODS[found.method].title}{layer}; grid {d} x {h} x {w}",
        ends=ends,
    )


def true_masks(case: Case, modality: str) -> list[ct_viewer.Mask]:
    """Outlines of the lesions that a simulated cohort knows of; off until asked for."""
    truth = read_truth(case.cohort)
    if truth is None or truth.volume_modality != modality:
        return []
    volume = case.scan(modality, native=True)
    found = []
    for lesion, colour in zip(truth.lesions, MASK_COLOURS, strict=False):
        inside = truth.mask(case.subject_id, lesion)
        if inside is not None and inside.shape == volume.array.shape and inside.any():
            found.append(ct_viewer.Mask(f"true {lesion} (simulated)", inside, colour))
    return found


def _say(
    readers: Sequence[tuple[Shown, Target]],
    maps: Sequence[tuple[Shown, VolumeMap]],
    volume: Any,
    viewer: ct_viewer.ViewerState,
) -> None:
    """Where the maps point, in words."""
    for item, found in maps:
        name = f"{markdown(item.title)}: " if len(readers) > 1 else ""
        if found.peak_mm is None:
            st.markdown(
                f"{name}the map is empty: nothing in this scan raises the "
                f"{found.target['title']} by this method."
            )
            continue
        place = region_name(found.peak_mm, volume)
        gap = "" if found.gap is None else f" Completeness gap {number(found.gap, 4)}."
        st.markdown(f"{name}strongest in the {markdown(place)}.{gap}")
    if viewer.picked_mm is not None:
        st.caption(f"Picked: {region_name(viewer.picked_mm, volume)}")


def _regions(desk: PatientDesk, readers: Sequence[tuple[Shown, Target]], modality: str) -> None:
    with st.expander("Shares of regions: they add up to the scan's share in the ledger"):
        if not st.toggle("Compute them", value=False, key=f"regions {modality}"):
            st.caption("Shapley shares of 27 blocks of the scan, by leaving out their tokens.")
            return
        for item, target in readers:
            usual = default_contexts(item.case)
            found = desk.attribution(item.case, modality, target, contexts=usual)
            st.markdown(f"**{markdown(item.title)}** {sum_words(found)}")
            st.dataframe(
                region_table(found), hide_index=True, alt="Shares of the regions of the scan"
            )
            figure.csv(found.table(), f"regions {item.case.run.config.name} {item.case.subject_id}")


def region_table(found: Attribution) -> pd.DataFrame:
    """Regions, largest absolute share first."""
    table = found.table().head(10)
    return pd.DataFrame({"Region": table["name"], "Share": [signed(v, 3) for v in table["share"]]})


def sum_words(found: Attribution) -> str:
    """'90 events; shares add up to +0.46 (gap 0.0000); two halves agree at 0.93 ...'."""
    noun = PART_NOUNS.get(found.kind, "part")
    total = float(found.values[:, 0].sum())
    words = [
        f"{count(len(found.parts), noun)}; shares add up to {signed(total, 3)} "
        f"(gap {number(found.gap, 5)})"
    ]
    if found.agreement is not None:
        words.append(
            f"two independent halves of the estimate agree in rank at {number(found.agreement, 2)}"
        )
    if found.evaluations:
        words.append(f"{found.evaluations:,} evaluations")
    return "; ".join(words) + "."
