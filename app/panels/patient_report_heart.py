"""What a report shows of an ECG, an echo or a told table, beyond its shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from analysis.attribution.explained import layers_of
from analysis.attribution.result import Attribution
from analysis.attribution.signal import METHODS as SIGNAL_METHODS
from analysis.attribution.signal import SignalMap, segment_shares
from analysis.attribution.video import METHODS as VIDEO_METHODS
from analysis.attribution.video import VideoMap
from analysis.cohort.dataset import VideoReading
from analysis.cohort.readers.echo import Still
from analysis.cohort.readers.echo_header import VIEW_TITLES
from analysis.cohort.schema import CohortError
from analysis.echo import cycle_marks
from app.figures.ecg_svg import ASIDE_COLUMNS, COLUMN_MM, HIDDEN, ecg_svg
from app.figures.echo_frames import THRESHOLD, frame_pairs, legend
from app.figures.text import count, listed
from app.figures.told import told_html
from app.panels import patient_ecg
from app.panels.ecg_paper import header_line
from app.panels.patient_echo import marks_words
from app.panels.patient_header import Shown
from app.report_blocks import EcgSheet, EchoFrames, EchoView, ToldText
from app.report_document import Table
from models.contracts import Kind


def recording_title(item: Shown, found: SignalMap | VideoMap) -> str:
    """Method and layer of a map in words."""
    signal = isinstance(found, SignalMap)
    method = (SIGNAL_METHODS if signal else VIDEO_METHODS)[found.method]
    if found.layer is None:
        return method
    layers = layers_of(item.case, found.modality, Kind.SIGNAL if signal else Kind.VIDEO)
    return f"{method}, {layers.get(found.layer, found.layer)}"


def ecg(item: Shown, found: SignalMap) -> tuple[EcgSheet, list[Table]]:
    """The paper with its map, and where the map lies: by wave and by lead."""
    signal = item.case.tracing(found.modality)
    waves = patient_ecg.drawing(item.case, found.modality)[1]
    drawn = patient_ecg.lead_map(item.title, found)
    method = recording_title(item, found)
    measured = waves.measures
    known = {n: v for n, v in asdict(measured).items() if n in patient_ecg.MEASURED}
    n = count(measured.beats, "beat")
    said = (
        f"Medians over {n}, found automatically, P and T on {listed(list(measured.leads))}; not "
        "read by a cardiologist."
        if measured.beats
        else "No beats were found, so nothing is measured."
    )
    sheet = EcgSheet(
        svg=ecg_svg(signal, found, f"ECG under {method}", drawn.ends),
        title=f"ECG of patient {item.case.subject_id} under {method}",
        measures=header_line(known, "Bazett"),
        caption=f"{drawn.note[:1].upper()}{drawn.note[1:]}; each place has the strongest colour "
        f"within {ASIDE_COLUMNS * COLUMN_MM:g} mm along the trace, below {HIDDEN:.0%} of the "
        f"largest value none. {said} True size where printed at 100%: a small box is 1 mm, 40 ms "
        "and 0.1 mV.",
    )
    return sheet, _ecg_tables(found, waves, n)


def _ecg_tables(found: SignalMap, waves: patient_ecg.Delineation, n: str) -> list[Table]:
    tables = []
    if found.is_empty:
        return tables
    if len(waves.segments):
        shares = patient_ecg.wave_table(segment_shares(found, waves.segments), found.signed)
        tables.append(
            Table(
                f"The map by wave ({n}, all leads)",
                list(shares.columns),
                shares.to_numpy().tolist(),
                range(1, shares.shape[1]),
                "Weight 1 is what a map without preference has.",
            )
        )
    leads = found.by_lead()
    rows = [[lead, f"{s:.0%}"] for lead, s in zip(leads["lead"], leads["share"], strict=True)]
    tables.append(Table(f"The map by lead ({n})", ["Lead", "Share of the map"], rows, [1]))
    return tables


def echo(item: Shown, found: VideoMap) -> EchoFrames:
    """Frames of every view that the run reads, plain and under the map."""
    case = item.case
    reading = case.reading(found.modality)
    assert isinstance(reading, VideoReading)
    cines = case.cines(found.modality)
    marks = cycle_marks(case, cines)
    shares = dict(found.by_view().itertuples(index=False))
    views = []
    # The view that carries most of the map comes first.
    for view in sorted(reading.views, key=lambda v: -shares.get(v, -1.0)):
        title = VIEW_TITLES.get(view, view)
        if view not in cines:
            views.append(EchoView(title=title, note="not recorded"))
            continue
        share = f"{shares[view]:.0%} of the map" if view in shares and not found.is_empty else ""
        pairs = frame_pairs(view, cines[view], marks[view], found)
        views.append(EchoView(title=title, share=share, frames=pairs))
    method = recording_title(item, found)
    empty = " It is empty: nothing raises the explained number by this method."
    return EchoFrames(
        title=f"Echo of patient {case.subject_id} under {method}",
        views=views,
        legend="" if found.is_empty else legend(found, ("nothing", "raises it most")),
        caption=f"Each frame plain, and beside it under the map, which explains "
        f"{found.target['title']}.{empty if found.is_empty else ''} Values below "
        f"{THRESHOLD:.0%} of the largest are left plain. {marks_words(marks)}"
        f"{_asides(case.stills(found.modality))}",
    )


def _asides(stills: Sequence[tuple[str | None, Still | CohortError]]) -> str:
    """What else the study holds, which no model reads."""
    kinds = Counter(still.kind for _, still in stills if isinstance(still, Still))
    if not kinds:
        return ""
    listing = listed([f"{n} {kind}" for kind, n in sorted(kinds.items())])
    return f" Also in the study and not used by the model: {listing}."


def told(found: Attribution, output: int) -> ToldText:
    """The table as the model reads it, its words coloured by their shares."""
    return ToldText(title="As the model is told it", body=told_html(found, output))
