"""The page as one HTML file, and every map and share as a file."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version

import streamlit as st

from analysis.attribution.export import attribution_csv, map_nifti, provenance, recording_csv
from analysis.attribution.target import Target
from app.panels import audited, progress
from app.panels.patient_header import Shown
from app.panels.patient_report import Collected, collect, made_from, report_of, told_of
from app.patients import PatientDesk
from app.report import render


def show(
    desk: PatientDesk,
    shown: Sequence[Shown],
    targets: Sequence[Target],
    index_event: str,
) -> None:
    """Make the report and the files on demand; what is stored already is not computed again."""
    st.caption(
        "The report is one HTML file without any connection to this app: header, curves, ledger, "
        "maps, shares, attention and how far they can be believed. What happened is in it only "
        "while it is shown above. The archive holds every map as NIfTI on the scan's own grid, "
        "every table of shares as CSV, and how each was made."
    )
    key = "-".join(s.case.run.config.name for s in shown) + f"-{shown[0].case.subject_id}"
    if not st.button("Make report and files", key=f"make {key}", type="primary"):
        return
    runs = [s.case.run.config.name for s in shown]
    audited.exported(shown[0].task, [shown[0].case.subject_id], runs, "report and files")
    with progress.spinner("Collecting the explanations; those that are missing are computed"):
        found = collect(desk, shown, targets)
        report = report_of(
            desk,
            shown,
            targets,
            found,
            index_event,
            told_of(desk, shown),
            made_from(desk, shown),
        )
    left, right = st.columns(2)
    left.download_button(
        "Report (HTML)",
        render(report),
        f"fusionlens-{key}.html",
        "text/html",
        key=f"html {key}",
        on_click="ignore",
    )
    right.download_button(
        "Maps and shares (ZIP)",
        archive(shown, found),
        f"fusionlens-{key}.zip",
        "application/zip",
        key=f"zip {key}",
        on_click="ignore",
    )


def archive(shown: Sequence[Shown], found: Collected) -> bytes:
    """NIfTI maps, CSV shares and their provenance, in one ZIP file."""
    buffer = io.BytesIO()
    about: list[dict[str, object]] = []
    tasks = {s.case.run.hash: s.task.name for s in shown}
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as pack:
        for made in found.maps:
            item = next(s for s in shown if s.case.run.hash == made.subject.run_hash)
            scan = item.case.scan(made.modality, native=True)
            layer = f"-{made.layer}" if made.layer else ""
            name = f"{made.subject.run}-{made.modality}-{made.method}{layer}.nii"
            pack.writestr(name, map_nifti(made, scan))
            _add(about, name, tasks, provenance(made))
        for recording in found.recordings:
            layer = f"-{recording.layer}" if recording.layer else ""
            name = f"{recording.subject.run}-{recording.modality}-map-{recording.method}{layer}.csv"
            pack.writestr(name, recording_csv(recording))
            _add(about, name, tasks, provenance(recording))
        for part in found.attributions:
            name = f"{part.subject.run}-{part.modality}-{part.method}.csv"
            pack.writestr(name, attribution_csv(part))
            _add(about, name, tasks, provenance(part))
        stamp = {
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "fusionlens": version("fusionlens"),
            "files": about,
        }
        pack.writestr("about.json", json.dumps(stamp, indent=2, default=str))
    return buffer.getvalue()


def _add(
    about: list[dict[str, object]], name: str, tasks: Mapping[str, str], made: Mapping[str, object]
) -> None:
    """A file's entry in about.json: what it is, of which task, and how it was made."""
    about.append({"file": name, "task": tasks[str(made["run_hash"])], **made})
