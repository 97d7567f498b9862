"""The patient page as one HTML file that asks nothing of any network and prints on A4.

Everything that a report shows is given to it, so that it holds the very numbers of the page. Every
part is optional; what is not given is not mentioned, but for the outcome: a report without it says
so, for it may be read blinded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.attribution.attention import LabelledAttention
from analysis.attribution.export import label_texts
from analysis.attribution.result import Attribution
from analysis.outlook import ClassOutlook, SurvivalOutlook
from app.figures.shares import Direction, ago, part_title, value_text
from app.figures.text import MISSING, count, days, minus, number
from app.report_document import (
    LEVELS,
    Block,
    Card,
    Chart,
    Picture,
    Table,
    cards_html,
    chart_html,
    chart_ids,
    day_text,
    document,
    escaped,
    fact_list,
    header,
    picture_html,
    section,
    table_html,
)

OUTCOME = "outcome"  # `meta` of the trace that tells it
_PARTS = {"events": "event", "columns": "value", "instances": "instance"}
_PARAMETERS_SAID = ("seed", "evaluations", "recomputed")


# ---------------------------------------------------------------- what a report is made of


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What one run says. survival: S(horizon_days), in [0, 1]. percentile: in [0, 100].

    event_title: what is predicted, where that is not the report's own.
    """

    title: str
    event_title: str = ""
    run: str = ""
    run_hash: str = ""
    log_risk: float | None = None
    hazard_ratio: float | None = None
    percentile: float | None = None
    n_training: int | None = None
    horizon_days: float | None = None
    survival: float | None = None
    median_days: float | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls, found: SurvivalOutlook | ClassOutlook, title: str, event_title: str = ""
    ) -> Prediction:
        """From the analysis' outlook; title is the run's."""
        whose: dict[str, Any] = {
            "title": title,
            "event_title": event_title,
            "run": found.subject.run,
            "run_hash": found.subject.run_hash,
        }
        if isinstance(found, ClassOutlook):
            return cls(**whose, probabilities=found.probabilities)
        return cls(
            **whose,
            log_risk=found.log_risk,
            hazard_ratio=math.exp(found.relative),
            percentile=found.percentile,
            n_training=found.n_training,
            horizon_days=found.horizon_days,
            survival=None if math.isnan(found.at_horizon) else found.at_horizon,
            median_days=found.median_days,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ModalityPart:
    """Why, in one modality, for one run.

    title: the modality's. run: the run's title, where a report has two. summary: a sentence, its
    share of the prediction for instance. blocks: recordings and told tables. tables: where a map
    lies. cards: {what is judged: card}.
    """

    title: str
    run: str = ""
    summary: str = ""
    pictures: Sequence[Picture] = ()
    blocks: Sequence[Block] = ()
    tables: Sequence[Table] = ()
    waterfall: Chart | None = None
    raising: Table | None = None
    lowering: Table | None = None
    attention: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    cards: Mapping[str, Card] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class PatientReport:
    """Everything a report may show.

    patient: the number or name that the cohort uses. facts: {what: value} of the patient (split,
    site, modalities). event_title: what is predicted, 'death from any cause'. outcome: in words,
    only when the reader asked for it; outcomes: {task: outcome or None} instead, where a report
    has several tasks. compare: a sentence on what may be compared between its runs. methods:
    `provenance` of every result that is shown. versions: {what: version}. Raises ValueError when a
    figure tells an outcome that is not given, and for a card of an unknown level.
    """

    patient: str = ""
    cohort: str = ""
    cohort_hash: str = ""
    task: str = ""
    event_title: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    predictions: Sequence[Prediction] = ()
    outcome: str | None = None
    outcomes: Mapping[str, str | None] = field(default_factory=dict)
    compare: str = ""
    outlook: Sequence[Chart] = ()
    ledger: Chart | None = None
    ledger_table: Table | None = None
    modalities: Sequence[ModalityPart] = ()
    what_if: Table | None = None
    similar: Table | None = None
    cards: Mapping[str, Card] = field(default_factory=dict)
    methods: Sequence[Mapping[str, Any]] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    created: datetime | None = None

    def __post_init__(self) -> None:
        cards = [*self.cards.items(), *(c for p in self.modalities for c in p.cards.items())]
        for title, card in cards:
            if card.level not in LEVELS:
                raise ValueError(
                    f"card '{title}' is '{card.level}'; a card is {', '.join(LEVELS)}."
                )
        blinded = [c for c in self.charts if self.outcomes.get(c.task, self.outcome) is None]
        if any(_tells_outcome(chart.figure) for chart in blinded):
            raise ValueError(
                "a figure shows the outcome and the report is to be blinded; give the outcome too, "
                "or draw the figure without it."
            )

    @property
    def charts(self) -> list[Chart]:
        """All figures, in the order of the report."""
        of_parts = [
            chart
            for part in self.modalities
            for chart in ([part.waterfall] if part.waterfall else []) + list(part.charts)
        ]
        return [*self.outlook, *([self.ledger] if self.ledger else []), *of_parts]


def _tells_outcome(figure: go.Figure) -> bool:
    return any(trace.meta == OUTCOME for trace in figure.data)


# ---------------------------------------------------------------- results as tables


def part_tables(found: Attribution, top: int = 10, output: int = 0) -> tuple[Table, Table]:
    """The `top` parts that raise the explained number and the `top` that lower it, with sums."""
    direction = Direction.of(found.target)
    shares = found.values[:, output]
    order = np.argsort(-np.abs(shares), kind="stable")
    noun = _PARTS.get(found.kind, "part")
    tables = []
    for sign, words in ((1, direction.raises), (-1, direction.lowers)):
        rows = [int(i) for i in order if shares[i] * sign > 0]
        shown = rows[:top]
        caption = f"What {words}"
        note = f"None of the {count(len(shares), noun)}."
        if rows:
            total, said = float(shares[rows].sum()), float(shares[shown].sum())
            note = f"{count(len(rows), noun)} of {len(shares):,}, together "
            note += f"{direction.share(total)}."
            if len(rows) > len(shown):
                note += f" The {len(shown)} largest are shown: {direction.share(said)}."
        tables.append(_parts(found, shown, shares, direction, caption, note))
    return tables[0], tables[1]


def _parts(
    found: Attribution,
    rows: Sequence[int],
    shares: np.ndarray,
    direction: Direction,
    caption: str,
    note: str,
) -> Table:
    parts = [found.parts.iloc[row] for row in rows]
    columns: dict[str, list[str]] = {
        _PARTS.get(found.kind, "part").capitalize(): [part_title(part) for part in parts],
        "Code": [_text(part.get("code")) for part in parts],
        "Measured": [value_text(part.get("value"), part.get("unit")) for part in parts],
        "Date": [day_text(part.get("date", part.get("time"))) for part in parts],
        "Before index": [ago(part.get("days_before")).removesuffix(" before") for part in parts],
        "Share": [direction.share(float(shares[row])) for row in rows],
    }
    if found.spread is not None:
        scale, unit = (100, " points") if direction.percent else (1, "")
        digits = 1 if direction.percent else 3
        columns["Halves differ by"] = [
            number(scale * float(found.spread[row]), digits) + unit for row in rows
        ]
    first = next(iter(columns))
    kept = {n: cells for n, cells in columns.items() if n in (first, "Share") or any(cells)}
    names = list(kept)
    numeric = [names.index(n) for n in ("Measured", "Share", "Halves differ by") if n in names]
    cells = [list(row) for row in zip(*kept.values(), strict=True)]
    return Table(caption, names, cells, numeric, note)


def attention_table(found: LabelledAttention, query: str, key: str, top: int = 10) -> Table:
    """The `top` largest weights; query and key are the modalities' titles."""
    rows, columns = label_texts(found.rows), label_texts(found.columns)
    strongest = found.strongest(top)
    cells = [
        [rows[r], columns[c], number(float(w), 4)]
        for r, c, w in zip(strongest["row"], strongest["column"], strongest["weight"], strict=True)
    ]
    how = f"head {found.head + 1} of {found.heads}" if found.head is not None else found.method
    note = f"{len(cells)} of {found.weights.size:,} weights ({how})."
    if found.null is not None and len(found.null):
        note += f" To no token at all: {number(float(found.null.mean()), 3)} of a row on average."
    note += " A weight says where a token looked, not how much the prediction owes to it."
    return Table(f"{query} looks at {key}", [query, key, "Weight"], cells, [2], note)


def quality(found: Any) -> str:
    """A result's own error in a sentence: gap, agreement of halves, evaluations; '' for none."""
    words = []
    gap = getattr(found, "gap", None)
    if gap is not None:
        words.append(f"shares miss the explained number by {_gap(gap)}")
    if getattr(found, "agreement", None) is not None:
        words.append(f"two independent halves agree in rank at {number(found.agreement, 2)}")
    if getattr(found, "evaluations", 0):
        words.append(count(found.evaluations, "model evaluation"))
    text = "; ".join(words)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _method_rows(methods: Sequence[Mapping[str, Any]]) -> Table:
    rows = []
    for about in methods:
        what = about.get("modality") or " to ".join(
            str(about[end]) for end in ("query", "key") if about.get(end)
        )
        method = " at ".join(str(about[n]) for n in ("method", "layer") if about.get(n))
        settings = dict(about.get("parameters", {}))
        said = [f"{n} {_setting(about[n])}" for n in ("seed", "head") if about.get(n) is not None]
        said += [
            f"{name} {_setting(value)}"
            for name, value in settings.items()
            if name not in _PARAMETERS_SAID and value is not None
        ]
        agreement, gap = about.get("agreement"), about.get("gap")
        rows.append(
            [
                what or "modalities",
                method or "exact Shapley values",
                str(about.get("target", {}).get("title", "")) or MISSING,
                str(about.get("run", "")),
                ", ".join(said) or MISSING,
                number(agreement, 2),
                MISSING if gap is None else _gap(gap),
                f"{about['evaluations']:,}" if about.get("evaluations") else MISSING,
            ]
        )
    columns = ("Of", "Method", "Explains", "Run", "Parameters", "Agreement", "Gap", "Evaluations")
    note = (
        "Agreement: rank correlation of two independent halves of the estimate (1 is best). Gap: "
        "largest difference between the sum of shares and the explained number."
    )
    return Table("How each explanation was made", columns, rows, [5, 6, 7], note)


# ---------------------------------------------------------------- HTML


def render(report: PatientReport) -> str:
    """The report as one HTML document."""
    name = f"Patient {report.patient}" if report.patient else "Patient report"
    charts = chart_ids(report.charts)
    body = "".join(
        (
            _header(report, name),
            _predictions(report),
            _charts("What is predicted", report.outlook, charts),
            _ledger(report, charts),
            *(_modality(part, charts) for part in report.modalities),
            _cards_section(report.cards),
            _table_section("What if", report.what_if),
            _table_section("Similar patients of the training split", report.similar),
            _methods(report),
            _versions(report),
        )
    )
    whose = ", ".join(text for text in (name, report.cohort) if text)
    return document(name, body, report.charts, whose)


def _header(report: PatientReport, name: str) -> str:
    facts = dict(report.facts)
    if report.cohort_hash:
        facts["Cohort fingerprint"] = report.cohort_hash
    if report.created is not None:
        facts["Report made"] = f"{report.created:%Y-%m-%d %H:%M}"
    told = {f"Outcome: {task}": words for task, words in report.outcomes.items()}
    for what, words in (told or {"Outcome": report.outcome}).items():
        facts[what] = words if words is not None else "not included (blinded read)"
    compare = f'<p class="compare">{escaped(report.compare)}</p>' if report.compare else ""
    return header(name, (report.task, report.cohort), facts, compare)


def _predictions(report: PatientReport) -> str:
    runs = report.predictions
    if not runs:
        return ""
    lines: dict[str, list[str]] = {}
    events = [run.event_title or report.event_title or "the event" for run in runs]
    horizons = {
        (run.horizon_days, event)
        for run, event in zip(runs, events, strict=True)
        if run.horizon_days is not None
    }
    for day, event in sorted(horizons):
        at = [
            run.survival if (run.horizon_days, about) == (day, event) else None
            for run, about in zip(runs, events, strict=True)
        ]
        lines[f"Predicted risk of {event} by day {day:,.0f}"] = [
            _percent(None if s is None else 1 - s) for s in at
        ]
        without = "it" if len(set(events)) == 1 else event
        lines[f"Predicted chance to be without {without}, S({day:g})"] = [_percent(s) for s in at]
    lines["Percentile of the risk among training patients"] = [
        MISSING
        if run.percentile is None
        else number(run.percentile, 1) + (f" (of {run.n_training:,})" if run.n_training else "")
        for run in runs
    ]
    lines["Hazard ratio to the mean training patient"] = [number(r.hazard_ratio, 2) for r in runs]
    lines["Log-risk, as the model gives it"] = [number(run.log_risk, 3) for run in runs]
    lines["Predicted median time"] = [days(run.median_days) for run in runs]
    for label in dict.fromkeys(label for run in runs for label in run.probabilities):
        lines[f"Probability of {label}"] = [_percent(run.probabilities.get(label)) for run in runs]
    lines["Run"] = [run.run or MISSING for run in runs]
    lines["Run hash"] = [run.run_hash or MISSING for run in runs]
    rows = [[name, *cells] for name, cells in lines.items() if any(c != MISSING for c in cells)]
    table = Table(
        "What the model says" if len(runs) == 1 else "What the models say",
        ["", *(run.title for run in runs)],
        rows,
        range(1, len(runs) + 1),
    )
    return section("Prediction", table_html(table, "predictions"))


def _charts(heading: str, charts: Sequence[Chart], ids: Mapping[int, str]) -> str:
    return section(heading, "".join(chart_html(c, ids) for c in charts)) if charts else ""


def _ledger(report: PatientReport, ids: Mapping[int, str]) -> str:
    inner = chart_html(report.ledger, ids) if report.ledger else ""
    inner += table_html(report.ledger_table) if report.ledger_table else ""
    return section("Which modality carries it", inner) if inner else ""


def _modality(part: ModalityPart, ids: Mapping[int, str]) -> str:
    inner = f'<p class="summary">{escaped(part.summary)}</p>' if part.summary else ""
    inner += "".join(picture_html(picture) for picture in part.pictures)
    inner += "".join(block.html for block in part.blocks)
    inner += "".join(table_html(table) for table in part.tables)
    inner += cards_html(part.cards)
    inner += chart_html(part.waterfall, ids) if part.waterfall else ""
    inner += "".join(table_html(table) for table in (part.raising, part.lowering) if table)
    inner += "".join(table_html(table) for table in part.attention)
    inner += "".join(chart_html(chart, ids) for chart in part.charts)
    inner += "".join(f'<p class="note">{escaped(note)}</p>' for note in part.notes)
    if part.run:
        inner = f'<p class="run">{escaped(part.run)}</p>{inner}'
    return section(f"Why: {part.title}", inner)


def _cards_section(cards: Mapping[str, Card]) -> str:
    return section("How far to trust it", cards_html(cards)) if cards else ""


def _table_section(heading: str, table: Table | None) -> str:
    return section(heading, table_html(table)) if table else ""


def _methods(report: PatientReport) -> str:
    if not report.methods:
        return ""
    return section("Methods and parameters", table_html(_method_rows(report.methods), "methods"))


def _versions(report: PatientReport) -> str:
    return section("Versions", fact_list(report.versions)) if report.versions else ""


# ---------------------------------------------------------------- text


def _text(value: Any) -> str:
    return "" if value is None or (not isinstance(value, str) and pd.isna(value)) else str(value)


def _percent(share: float | None) -> str:
    return MISSING if share is None else f"{number(100 * share, 1)}%"


def _gap(value: float) -> str:
    return minus(f"{value:.1e}".replace("e-0", "e-")) if value else "0"


def _setting(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name} {_setting(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return " x ".join(_setting(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
