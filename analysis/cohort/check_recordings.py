"""The part of the cohort check that looks into the files of a signal or a video modality."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from analysis.cohort.readers.echo import VIEWS, is_still, probe_cine, read_cine
from analysis.cohort.readers.signal import (
    LEADS,
    flat_leads,
    probe_signal,
    read_signal,
    with_derived,
)
from analysis.cohort.report import Report, some
from analysis.cohort.schema import ModalitySpec

_LEAST_HZ, _LEAST_S, _MOST_GAPS = 100.0, 10.0, 0.1


def check_signals(
    report: Report, modality: ModalitySpec, files: Iterable[tuple[int, str, Path]], deep: bool
) -> set[int]:
    """Note what is wrong with the ECGs (subject, path as given, path); gives those who have one.

    deep: read the samples, not only the header.
    """
    having: set[int] = set()
    short: dict[int, None] = {}
    slow: dict[int, None] = {}
    lacking: dict[str, dict[int, None]] = {}
    for subject, text, path in files:
        having.add(subject)
        info = report.attempt(text, partial(probe_signal, path))
        if info is None:
            continue
        if info.seconds < _LEAST_S:
            short[subject] = None
        if info.rate_hz < _LEAST_HZ:
            slow[subject] = None
        there = _samples(report, subject, text, path) if deep else with_derived(info.leads)
        for lead in LEADS:
            if lead not in there:
                lacking.setdefault(lead, {})[subject] = None
    file = modality.path
    if slow:
        what = f"{some(slow)} with fewer than {_LEAST_HZ:g} samples a second"
        report.warn(file, "rate", what, "fast waves are lost; export the full rate")
    if short:
        what = f"{some(short)} with less than {_LEAST_S:g} s"
        report.warn(file, "duration", what, "the rest is masked; give whole recordings if you can")
    for lead, subjects in lacking.items():
        what = f"{some(subjects)} without it"
        report.warn(file, f"lead {lead}", what, "it is masked; add it if it was recorded")
    return having


def _samples(report: Report, subject: int, text: str, path: Path) -> tuple[str, ...]:
    """Leads with samples, derived ones too; gaps and flat leads are noted."""
    signal = report.attempt(text, partial(read_signal, path))
    if signal is None:
        return LEADS  # the file itself is already noted
    flat = flat_leads(signal)
    if flat:
        what = f"lead {', '.join(flat)} is flat"
        report.warn(text, f"subject {subject}", what, "it is masked; an electrode was off")
    gaps = np.isnan(signal.array).mean(axis=1)
    for lead, share in zip(signal.leads, gaps.tolist(), strict=True):
        if _MOST_GAPS < share < 1:
            what = f"{share:.0%} of lead {lead} was not recorded"
            report.warn(text, f"subject {subject}", what, "the gaps are masked")
    full = zip(signal.leads, gaps.tolist(), strict=True)
    return tuple(lead for lead, share in full if share < 1)


def check_videos(
    report: Report,
    modality: ModalitySpec,
    files: Iterable[tuple[int, str, Path, str | None]],
    deep: bool,
) -> set[int]:
    """Note what is wrong with the cines (subject, path as given, path, view).

    Gives those who have one. deep: decode every frame, not only the header.
    """
    having: set[int] = set()
    stills: dict[int, int] = {}
    untimed: dict[int, None] = {}
    for subject, text, path, view in files:
        still = report.attempt(text, partial(is_still, path))
        if still:
            stills[subject] = stills.get(subject, 0) + 1
            continue
        if view is None:
            what = "has no view"
            report.error(modality.path, f"file {text}", what, f"name one of {', '.join(VIEWS)}")
            continue
        if view not in VIEWS:
            what = f"view '{view}' is not one of the {len(VIEWS)} known ones"
            remedy = f"name one of {', '.join(VIEWS)}"
            report.error(modality.path, f"file {text}", what, remedy)
        having.add(subject)
        if still is None:
            continue
        info = report.attempt(text, partial(probe_cine, path))
        if info is not None and not info.timed:
            untimed[subject] = None
        if info is not None and deep:
            report.attempt(text, partial(read_cine, path))
    if stills:
        what = f"{some(stills)} with {sum(stills.values())} stills or spectral strips in all"
        report.warn(modality.path, "view", what, "they are shown; no model reads them")
    if untimed:
        what = f"{some(untimed)} with cines that do not say how fast they are"
        report.warn(modality.path, "frame time", what, "30 frames a second are assumed")
    return having
