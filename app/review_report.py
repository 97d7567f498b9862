"""The reviewer's report as one HTML file: the sections of `review`, and what to replay it with."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from analysis.reporting.manifest import Manifest
from app import review
from app.report_document import (
    Chart,
    Table,
    chart_html,
    chart_ids,
    document,
    escaped,
    fact_list,
    header,
    section,
    table_html,
)
from app.review import Dossier, Evidence, Rows, Section
from app.theme import RunStyle


def render(found: Dossier, styles: Mapping[str, RunStyle], manifest: Manifest, name: str) -> str:
    """One document. name: of the manifest's file, beside the report."""
    parts = review.sections(found, styles)
    charts = {
        id(part): Chart(part.figure, part.alt, title=part.title, caption=part.caption)
        for one in parts
        for part in one.parts
        if isinstance(part, Evidence)
    }
    ids = chart_ids(list(charts.values()))
    about = found["about"]
    facts = {
        **review.about_facts(found),
        "Report made": f"{datetime.fromisoformat(manifest.created):%Y-%m-%d %H:%M} UTC",
    }
    body = header(
        "Report for reviewers",
        (about["task_title"], about["cohort_title"]),
        facts,
        f"<p>{escaped(about['description'])}</p>" if about["description"] else "",
    )
    body += "".join(_section(one, charts, ids) for one in parts)
    body += section("How to get these numbers again", _replay(found, manifest, name))
    whose = f"{about['task_title']}, {about['cohort_title']}"
    return document("Report for reviewers", body, list(charts.values()), whose)


def _section(one: Section, charts: Mapping[int, Chart], ids: Mapping[int, str]) -> str:
    answer = "".join(f"<p>{escaped(sentence)}</p>" for sentence in one.answer)
    inner = "".join(
        chart_html(charts[id(part)], ids) if isinstance(part, Evidence) else _rows(part)
        for part in one.parts
    )
    return section(f"{one.number}. {one.question}", f'<div class="answer">{answer}</div>{inner}')


def _rows(part: Rows) -> str:
    cells = [[str(cell) for cell in row] for row in part.data.itertuples(index=False)]
    table = Table(part.caption, [str(c) for c in part.data.columns], cells, (), part.note)
    return table_html(table)


def _replay(found: Dossier, manifest: Manifest, name: str) -> str:
    rows = [
        [row["title"], row["run"], ", ".join(row["modalities"]) or "not known", row["hash"]]
        for row in found["about"]["runs"]
    ]
    table = Table("Runs", ["Run", "Folder", "Modalities", "Hash"], rows)
    command = f"fusionlens report --replay {name} --workspace WORKSPACE"
    return (
        f"<p>{len(manifest.numbers):,} numbers are kept in {escaped(name)}. "
        f"<code>{escaped(command)}</code> computes all of them anew and compares.</p>"
        f"{table_html(table)}{fact_list(manifest.versions)}"
    )
