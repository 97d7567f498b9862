"""What a reviewer reads, as sections: a question, its answer in words, and the evidence.

Page and report are both made of these, from one dossier (`analysis.reporting.dossier`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis.cohort.table_one import table_rows
from app import theme
from app.figures import assessment as pictures
from app.figures import classification as labels
from app.figures import comparison, frames
from app.figures import imbalance as balance
from app.figures.text import (
    MISSING,
    count,
    counted,
    days,
    interval,
    listed,
    number,
    p_value,
    signed_interval,
)
from app.panels import compare_labels
from app.panels.verdict import verdict
from app.theme import RunStyle

Dossier = Mapping[str, Any]
Styles = Mapping[str, RunStyle]
_NONE_FUSED = "No run of several modalities is among these."
_TABLE_ONE = (
    "Shares are of those in whom the variable is known. SMD: standardised mean difference; from "
    "0.1 on groups are often called different. Development: training and tuning patients."
)
_MANY, _SHOWN = 24, 10  # columns of a modality's table: more than many, so many are shown
_FLOW = {
    "subjects": "Patients",
    "without_outcome": "Without an outcome for the task",
    "with_outcome": "Analysed",
    "events": "With the event",
    "with_all_modalities": "With every modality",
    "without_any_modality": "Without any modality",
}
_LEVELS = {
    "good": "checks passed",
    "mixed": "read with care",
    "fails": "fails its checks",
    "unknown": "not checked",
}


@dataclass(frozen=True, eq=False)
class Evidence:
    """A figure with its data. name: unique among all sections. alt: what it shows, in words."""

    name: str
    figure: go.Figure
    data: pd.DataFrame
    alt: str
    title: str = ""
    caption: str = ""


@dataclass(frozen=True, eq=False)
class Rows:
    """A table of texts; the first column is its heading. note: below it."""

    caption: str
    data: pd.DataFrame
    note: str = ""


@dataclass(frozen=True, eq=False)
class Section:
    """number and question: its heading. answer: sentences, the most important first."""

    number: int
    question: str
    answer: Sequence[str]
    parts: Sequence[Evidence | Rows] = field(default_factory=tuple)


def sections(found: Dossier, styles: Styles) -> list[Section]:
    """Everything, top to bottom."""
    names = _ordered(found)
    return [
        _people(found),
        _best(found, styles),
        _calibrated(found, styles, names),
        _useful(found, styles, names),
        _carries(found, styles),
        _missing(found, styles),
        _transfers(found, styles, names),
        _believed(found, styles),
        _open_items(found),
    ]


def first_split(found: Dossier) -> str:
    """The split that sections speak of where they speak of one."""
    return str(found["about"]["splits"][0])


def assessed(found: Dossier) -> Mapping[str, Any]:
    """The assessment on the first split."""
    answer: Mapping[str, Any] = found["splits"][first_split(found)]["assessment"]
    return answer


def _ordered(found: Dossier) -> list[str]:
    rows = sorted(assessed(found)["runs"], key=lambda row: -(row["score"]["value"] or 0))
    return [row["run"] for row in rows]


def _whom(found: Dossier, split: str | None = None) -> str:
    split = split or first_split(found)
    told = found["splits"][split]["assessment"]
    positive = told.get("positive_class") or ""
    return f"{theme.split_title(split)}: {counted(told['n'], told['events'], positive)}"


# ---------------------------------------------------------------- 1


def _people(found: Dossier) -> Section:
    about = found["about"]
    told = [
        f"{about['cohort_title']}: {about['task_title']}.",
        *(f"{_whom(found, split)}." for split in about["splits"]),
    ]
    if about["simulated"]:
        told.append("Simulated patients, not real people.")
    return Section(1, "Who was studied?", told, people_rows(found["people"]))


def people_rows(people: Mapping[str, Any]) -> list[Rows]:
    """Flow and characteristics as tables."""
    flow = people["flow"][0]
    counts = {"All": flow["all"], **{theme.split_title(s): c for s, c in flow["splits"].items()}}
    rows = {
        "Patients": {name: f"{c['subjects']:,}" for name, c in counts.items()},
        "Without an outcome for the task": {
            name: f"{c['without_outcome']:,}" for name, c in counts.items()
        },
        "Analysed": {name: f"{c['with_outcome']:,}" for name, c in counts.items()},
        "With the event": {
            name: MISSING if c["events"] is None else f"{c['events']:,}"
            for name, c in counts.items()
        },
        "With every modality": {
            name: f"{c['with_all_modalities']:,}" for name, c in counts.items()
        },
        "Without any modality": {
            name: f"{c['without_any_modality']:,}" for name, c in counts.items()
        },
    }
    return [
        Rows(
            "Flow of patients",
            pd.DataFrame([{"": label, **cells} for label, cells in rows.items()]),
            "Who lacks a modality, or all of them, stays in every number below.",
        ),
        Rows("Table 1", _table_one(people), _TABLE_ONE),
    ]


def _table_one(people: Mapping[str, Any]) -> pd.DataFrame:
    splits = {
        name: "All" if name == "all" else theme.split_title(name) for name in people["splits"]
    }
    table = []
    for row in _shortened(table_rows(people)):
        label = str(row["label"])
        deep = row["kind"] in ("level", "missing")
        cells: dict[str, str] = {"": f"– {label}" if deep else label}
        cells |= {title: str(row.get(name, "")) for name, title in splits.items()}
        for first, second in people["compared"]:
            value = row.get(f"smd {first} vs {second}")
            told = "" if row["kind"] != "variable" else number(_float(value), 2)
            cells[f"SMD, {first} and {second}"] = told
        table.append(cells)
    return pd.DataFrame(table)


def _shortened(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of a table with many columns only those in which the splits differ most."""
    kept: list[Mapping[str, Any]] = []
    for section, group in groupby(rows, key=lambda row: row["section"]):
        variables: list[list[Mapping[str, Any]]] = []
        for row in group:
            if row["kind"] in ("variable", "outcome") or not variables:
                variables.append([])
            variables[-1].append(row)
        if section != "patient" and len(variables) > _MANY:
            most = sorted(variables, key=lambda rows: -_largest(rows[0]))[:_SHOWN]
            left = len(variables) - len(most)
            variables = [v for v in variables if v in most]
            words = f"{left} more, all with smaller differences ('fusionlens describe')"
            variables.append([{"kind": "level", "label": words}])
        kept += [row for one in variables for row in one]
    return kept


def _largest(row: Mapping[str, Any]) -> float:
    """The largest standardised difference of a variable, 0 where none is defined."""
    found = [abs(v) for k, v in row.items() if k.startswith("smd") and isinstance(v, float)]
    return max(found, default=0.0)


def _float(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


# ---------------------------------------------------------------- 2


def _best(found: Dossier, styles: Styles) -> Section:
    evaluations = {split: part["comparison"] for split, part in found["splits"].items()}
    if found["about"]["kind"] == "survival":
        told = [f"{theme.split_title(s)}. {verdict(e)}" for s, e in evaluations.items()]
        told += _left_out(evaluations, styles)
        parts = _best_survival(found, evaluations, styles)
    else:
        told = [
            f"{theme.split_title(s)}. {compare_labels.verdict(e)}" for s, e in evaluations.items()
        ]
        told += _left_out(evaluations, styles)
        parts = _best_labels(evaluations, styles)
    return Section(2, "Which is best, by how much, and how sure is it?", told, parts)


def _left_out(evaluations: Mapping[str, Any], styles: Styles) -> list[str]:
    """Who takes no part, since some run does not predict them."""
    told = []
    for split, evaluation in evaluations.items():
        found = evaluation.get("left_out")
        if found:
            lacking = [f"{styles[run].title} {n:,}" for run, n in found["runs"].items()]
            told.append(
                f"{theme.split_title(split)}: {found['n']:,} of {found['of']:,} patients are left "
                f"out, for whom a run has no prediction ({', '.join(lacking)})."
            )
    return told


def _best_survival(
    found: Dossier, evaluations: Mapping[str, Any], styles: Styles
) -> list[Evidence | Rows]:
    primary = evaluations[first_split(found)]
    parts: list[Evidence | Rows] = [
        Evidence(
            "best",
            comparison.forest(evaluations, styles),
            frames.runs(evaluations),
            "Harrell's C of every run with its 95% interval, by split",
            caption=(
                f"Lines: 95% intervals from {primary['resamples']['n']:,} resamples of patients. "
                "A colour is a strategy, greys are single modalities."
            ),
        )
    ]
    over_time = assessed(found)
    if any((row["auc"] or {}).get("curve") for row in over_time["runs"]):
        reference = styles[over_time["reference"]["run"]].title
        parts.append(
            Evidence(
                "auc over time",
                pictures.over_time(over_time, _ordered(found), styles, "auc"),
                pictures.curve_frame(over_time, "auc"),
                "Cumulative/dynamic AUC of every run over time",
                title="Who had the event by then, against who had not",
                caption=(
                    f"{_whom(found)}. Cumulative/dynamic AUC, weighted by the censoring of the "
                    f"training and tuning patients (Uno 2007). Band: 95%, {reference}."
                ),
            )
        )
    if len(primary["runs"]) > 1:
        parts.append(
            Evidence(
                "differences",
                comparison.differences(primary, styles),
                frames.differences(evaluations),
                "Every run minus every other, with what stands after Holm's correction",
                title=f"Row minus column, {theme.split_title(first_split(found)).lower()}",
                caption=(
                    "Bold: the 95% interval leaves out 0. Outlined: also p < 0.05 after Holm's "
                    "correction for all pairs."
                ),
            )
        )
    return parts


def _best_labels(evaluations: Mapping[str, Any], styles: Styles) -> list[Evidence | Rows]:
    parts: list[Evidence | Rows] = []
    for split, evaluation in evaluations.items():
        title = theme.split_title(split)
        parts.append(
            Evidence(
                f"roc {split}",
                labels.roc_figure(evaluation, styles),
                compare_labels.frame(evaluation),
                f"ROC curves of every run, {title.lower()}",
                title=title,
                caption="Bands: 95% at each place; marks: where the learned cut-off decides.",
            )
        )
        parts.append(Rows(f"Every measure, {title.lower()}", compare_labels.table(evaluation)))
    return parts


# ---------------------------------------------------------------- 3


def _calibrated(found: Dossier, styles: Styles, names: Sequence[str]) -> Section:
    told_of = assessed(found)
    given = [r for r in pictures.rows_of(told_of, names) if r["calibration"] is not None]
    rows = [r for r in given if r["calibration"]["undefined"] is None]
    told = list(dict.fromkeys(r["calibration"]["undefined"] for r in given if r not in rows))
    if rows:
        good, off = [], []
        for row in rows:
            made = row["calibration"]
            whole = _contains(made["observed_to_expected"], 1.0)
            slope = _contains(made["slope"], 1.0)
            (good if whole and slope else off).append(styles[row["run"]].title)
        if good:
            told.append(
                f"{listed(good)}: as many events as predicted, and a slope of 1, within chance."
            )
        if off:
            told.append(f"{listed(off)}: not calibrated; O/E or slope leaves out 1.")
        told.append(
            "O/E: observed over expected events, 1 is best. Slope below 1: predictions too "
            "extreme. ICI: mean distance of the smooth curve from the predictions, 0 is best."
        )
    without = [styles[r["run"]].title for r in told_of["runs"] if r["calibration"] is None]
    if without:
        told.append(f"{listed(without)}: no probabilities, so nothing to calibrate.")
    parts: list[Evidence | Rows] = []
    if rows:
        shown = [row["run"] for row in rows][:6]
        by = told_of.get("horizon_days")
        parts.append(
            Evidence(
                "calibration",
                pictures.calibration(told_of, shown, styles),
                pictures.calibration_frame(told_of),
                "Observed against predicted risk of every run",
                caption=(
                    f"{_whom(found)}. {f'Risk by day {by:,.0f}. ' if by else ''}Points: tenths of "
                    "the predicted risk with 95% intervals; line and band: smooth calibration "
                    "curve; dashed: perfect."
                ),
            )
        )
        parts.append(_calibration_rows(rows, styles))
    return Section(3, "Is it calibrated?", told, parts)


def _contains(found: Mapping[str, Any], value: float) -> bool:
    return found["low"] is not None and found["low"] <= value <= found["high"]


def _calibration_rows(rows: Sequence[Mapping[str, Any]], styles: Styles) -> Rows:
    table = [
        {
            "Run": styles[row["run"]].title,
            "O/E": interval(row["calibration"]["observed_to_expected"], 2),
            "Intercept": interval(row["calibration"]["intercept"], 2),
            "Slope": interval(row["calibration"]["slope"], 2),
            "ICI": interval(row["calibration"]["ici"]),
            "E90": interval(row["calibration"]["e90"]),
            "Brier": _brier(row, "integrated", "value"),
            "Better than the curve of all": _brier(row, "ipa", "ipa"),
        }
        for row in rows
    ]
    return Rows(
        "Calibration and accuracy",
        pd.DataFrame(table),
        "Brier: integrated up to the horizon for survival; better than the curve of all: 1 - "
        "Brier / Brier of the Kaplan-Meier curve (or of the share of the class), 0 is no better.",
    )


def _brier(row: Mapping[str, Any], *keys: str) -> str:
    found = row["brier"] or {}
    value = next((found[key] for key in keys if key in found), None)
    return MISSING if value is None else interval(value)


# ---------------------------------------------------------------- 4


def _useful(found: Dossier, styles: Styles, names: Sequence[str]) -> Section:
    told_of = assessed(found)
    rows = [r for r in pictures.rows_of(told_of, names) if r["net_benefit"] is not None]
    if not rows:
        return Section(4, "Is it useful?", ["No run gives probabilities to act on."])
    threshold = told_of["threshold"]
    reference = told_of["reference"]["run"]
    best = next((row for row in rows if row["run"] == reference), rows[0])
    alerts = best["alerts"]
    if alerts["undefined"] is not None:
        return Section(4, "Is it useful?", [alerts["undefined"]])
    told = [
        f"Flagging at a risk of {number(100 * threshold, 0)}%: {styles[best['run']].title} flags "
        f"{alerts['n_flagged']:,} of {alerts['n']:,} patients, finds "
        f"{_share(alerts['sensitivity'])} of those with the event, and "
        f"{_share(alerts['ppv'])} of the flagged have it."
    ]
    parts: list[Evidence | Rows] = [
        Evidence(
            "net benefit",
            pictures.net_benefit(told_of, [row["run"] for row in rows], styles),
            pictures.curve_frame(told_of, "net_benefit"),
            "Net benefit of acting on each run, beside acting on everybody and on nobody",
            caption=(
                f"{_whom(found)}. Above both grey lines a run is worth acting on at that "
                f"threshold. Band: 95%, {styles[reference].title}."
            ),
        ),
        _alert_rows(rows, told_of["treat_all_at_threshold"], styles),
    ]
    changed = _reclassified(told_of, styles)
    if changed is not None:
        parts.append(changed)
    return Section(4, "Is it useful?", told, parts)


def _share(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return MISSING
    scaled = {k: None if v is None else 100 * v for k, v in found.items()}
    return f"{number(scaled['value'], 0)}% ({number(scaled['low'], 0)} to " + (
        f"{number(scaled['high'], 0)})"
    )


def _alert_rows(
    rows: Sequence[Mapping[str, Any]], everybody: Mapping[str, Any], styles: Styles
) -> Rows:
    table = [
        {
            "Run": styles[row["run"]].title,
            "Flagged": f"{row['alerts']['n_flagged']:,}",
            "Sensitivity": _share(row["alerts"]["sensitivity"]),
            "Specificity": _share(row["alerts"]["specificity"]),
            "PPV": _share(row["alerts"]["ppv"]),
            "Needed to alert": interval(row["alerts"]["needed"], 1),
            "Net benefit": interval(row["net_benefit_at_threshold"]),
        }
        for row in rows
    ]
    return Rows(
        f"At a threshold of {number(rows[0]['alerts']['threshold'], 2)}",
        pd.DataFrame(table),
        "Needed to alert: flagged patients for one with the event (1 / PPV). Net benefit of "
        f"flagging everybody: {interval(everybody)}; of nobody: 0.",
    )


def _reclassified(told_of: Mapping[str, Any], styles: Styles) -> Rows | None:
    pairs = [p for p in told_of["pairs"] if p["reclassification"] is not None]
    table = [
        {
            "From": styles[p["second"]].title,
            "To": styles[p["first"]].title,
            "Up": f"{p['reclassification']['n_up']:,}",
            "Down": f"{p['reclassification']['n_down']:,}",
            "Net, with the event": _net(p["reclassification"]["events"]),
            "Net, without": _net(p["reclassification"]["nonevents"]),
            "p": p_value(p["reclassification"]["p"]),
        }
        for p in pairs
    ]
    if not table:
        return None
    return Rows(
        "Who changes group at the threshold",
        pd.DataFrame(table),
        "Net: per 100 patients, up minus down of those with the event, down minus up of the rest.",
    )


def _net(found: Mapping[str, Any]) -> str:
    return signed_interval({k: None if v is None else 100 * v for k, v in found.items()})


# ---------------------------------------------------------------- 5


def _carries(found: Dossier, styles: Styles) -> Section:
    question = "Which modality carries it?"
    if not found["imbalance"]:
        return Section(5, question, [_NONE_FUSED, *_notes(found)])
    told = [f"{styles[n].title}: {r['verdict']['words']}" for n, r in found["imbalance"].items()]
    table = []
    scored = {n: r for n, r in found["imbalance"].items() if r["undefined"] is None}
    if not scored:
        return Section(5, question, told)
    for name, report in scored.items():
        for at, row in enumerate(report["shapley"]["modalities"]):
            table.append(
                {
                    "Run": styles[name].title,
                    "Modality": report["modalities"][row["modality"]],
                    "Shapley, points": _points(row["value"]),
                    "Adds to the rest, points": _points(report["utilisation"][at]["gain"]),
                    "Exchanged between patients, points lost": _points(
                        report["shuffled"]["modalities"][at]["drop"]
                    ),
                    "Mean share of a prediction": _share(
                        report["shares"]["modalities"][at]["mean"]
                    ),
                }
            )
    note = (
        f"Points of {'C' if found['about']['kind'] == 'survival' else 'AUC'} x 100 with 95% "
        "intervals. Shapley values add up to the run's score minus 0.5. Exchanged: the modality of "
        "another patient in its place."
    )
    rows = Rows("What each modality carries", pd.DataFrame(table), note)
    best = next(name for name in _ordered(found) if name in scored)
    report = scored[best]
    drawn = Evidence(
        "shapley",
        balance.forest(report),
        balance.frame(report),
        "Shapley value, gain and loss by exchange of each modality",
        title=f"What the score owes to each modality, {styles[best].title}",
        caption=f"{theme.split_title(first_split(found))}: {count(report['n'], 'patient')}.",
    )
    return Section(5, question, told, [drawn, rows])


def _points(found: Mapping[str, Any]) -> str:
    return signed_interval({k: None if v is None else 100 * v for k, v in found.items()})


def _notes(found: Dossier) -> list[str]:
    return [text for notes in found["notes"].values() for text in notes]


# ---------------------------------------------------------------- 6


def _missing(found: Dossier, styles: Styles) -> Section:
    question = "What if a modality is missing?"
    if not found["missing"]:
        return Section(6, question, [_NONE_FUSED, *_notes(found)])
    told = ["A modality that is missing is told to the run as absent, never as zero."]
    metric = "C" if found["about"]["kind"] == "survival" else "AUC"
    table = []
    for name, parts in found["missing"].items():
        drop, rule = parts["drop"], parts["monotonicity"]
        measure = next(iter(drop["measures"].values()))
        half = min(range(len(drop["chances"])), key=lambda i: abs(drop["chances"][i] - 0.5))
        worst = max(rule["modalities"], key=lambda row: row["worse"] / max(row["n"], 1))
        if measure["plain"]["value"] is None:
            continue
        told.append(
            f"{styles[name].title}: {metric} goes from {number(measure['plain']['value'])} to "
            f"{number(measure['mean'][half])} when each modality is hidden with chance "
            f"{drop['chances'][half]:.0%}."
        )
        table.append(
            {
                "Run": styles[name].title,
                "As patients are": interval(measure["plain"]),
                f"Each hidden with chance {drop['chances'][half]:.0%}": (
                    f"{number(measure['mean'][half])} ({number(measure['low'][half])} to "
                    f"{number(measure['high'][half])})"
                ),
                "Most often harmful when added": (
                    f"{_title_in(found, name, worst['modality'])}: worse in {worst['worse']:,} of "
                    f"{worst['n']:,}"
                ),
            }
        )
    if not table:
        return Section(6, question, [*told, assessed(found)["undefined"] or "Nothing to score."])
    return Section(
        6,
        question,
        told,
        [
            Rows(
                "Scores with less",
                pd.DataFrame(table),
                f"{_whom(found)}. Hidden at random: mean over repeats, and their middle 95%; "
                "harmful: patients whose loss is higher with the modality than without.",
            )
        ],
    )


def _title_in(found: Dossier, run: str, modality: str) -> str:
    report = found["imbalance"].get(run)
    return report["modalities"].get(modality, modality) if report else modality


# ---------------------------------------------------------------- 7


def _transfers(found: Dossier, styles: Styles, names: Sequence[str]) -> Section:
    told_of = assessed(found)
    rows = [row for row in pictures.rows_of(told_of, names) if row.get("elsewhere")]
    told = []
    parts: list[Evidence | Rows] = []
    metric = "C" if told_of["metric"] == "c_index" else "AUC"
    if rows:
        there = rows[0]["elsewhere"]
        lost = [r for r in rows if _below(r["elsewhere"]["change"])]
        where = theme.split_title(there["split"]).lower()
        whom = f"{count(there['n'], 'patient')}, {count(there['events'], 'event')}"
        if all(row["elsewhere"]["change"]["value"] is None for row in rows):
            told.append(f"{where.capitalize()} ({whom}): {there['undefined']}")
        elif lost:
            named = listed([styles[row["run"]].title for row in lost])
            told.append(f"{named}: {metric} is lower in the {where} ({whom}), beyond chance.")
        else:
            told.append(f"No run is lower in the {where} ({whom}) beyond chance.")
        parts.append(
            Evidence(
                "transfer",
                pictures.transfer(told_of, [row["run"] for row in rows], styles),
                frames_of_transfer(rows),
                f"{metric} here and elsewhere, and the change",
                caption=(
                    f"Full marks: {_whom(found).lower()}. Open marks: {where}, {whom}. Points: "
                    "change x 100 with 95% interval; other patients, so not paired."
                ),
            )
        )
    else:
        told.append("There are no other patients to test on.")
    reference = told_of["reference"]["run"]
    groups = pictures.rows_of(told_of, [reference])[0]["subgroups"]
    if groups:
        tested = [g for g in groups if g["p"] is not None]
        uneven = [g for g in groups if g["p_holm"] is not None and g["p_holm"] < 0.05]
        told.append(
            f"{styles[reference].title} does differently by "
            f"{listed([g['attribute'].removeprefix('modality ') for g in uneven])} "
            "(p < 0.05 after Holm's correction)."
            if uneven
            else f"{styles[reference].title}: "
            + (
                "no subgroup differs beyond chance."
                if tested
                else "subgroups are too small to be compared."
            )
        )
        parts.append(
            Evidence(
                "subgroups",
                pictures.subgroups(told_of, reference, styles[reference]),
                pictures.subgroup_frame(told_of),
                f"{metric} in subgroups of the patients",
                title=f"Subgroups, {styles[reference].title}",
                caption=(
                    f"{_whom(found)}. Dashed: all patients. p: Cochran's Q over the levels, "
                    "adjusted for the number of attributes (Holm)."
                ),
            )
        )
    return Section(7, "Does it transfer?", told, parts)


def _below(change: Mapping[str, Any]) -> bool:
    return change["high"] is not None and change["high"] < 0


def frames_of_transfer(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Scores here and elsewhere, one row a run."""
    return pd.DataFrame(
        [
            {
                "run": row["run"],
                "here": row["score"]["value"],
                "elsewhere": row["elsewhere"]["score"]["value"],
                "change": row["elsewhere"]["change"]["value"],
                "change_low": row["elsewhere"]["change"]["low"],
                "change_high": row["elsewhere"]["change"]["high"],
                "p": row["elsewhere"]["p"],
            }
            for row in rows
        ]
    )


# ---------------------------------------------------------------- 8, 9


def _believed(found: Dossier, styles: Styles) -> Section:
    question = "Can its explanations be believed?"
    if not found["trust"]:
        return Section(
            8, question, ["No explanation of these runs was checked; run 'fusionlens trust'."]
        )
    table = [
        {
            "Run": styles[name].title,
            "Modality": row["modality"],
            "Explanation": row["explanation"],
            "Verdict": _LEVELS[row["level"]],
            "Why": row["sentences"][0] if row["sentences"] else "",
        }
        for name, rows in found["trust"].items()
        for row in rows
    ]
    levels = [row["level"] for rows in found["trust"].values() for row in rows]
    told = [
        f"Of {count(len(levels), 'explanation')} that are shown first, {levels.count('good')} pass "
        f"every check, {levels.count('mixed')} are to be read with care, "
        f"{levels.count('fails')} fail."
    ]
    names = [row["run"] for row in found["about"]["runs"]]
    unchecked = [styles[name].title for name in names if name not in found["trust"]]
    if unchecked:
        told.append(f"Not checked: {listed(unchecked)}.")
    return Section(8, question, told, [Rows("Explanations and their checks", pd.DataFrame(table))])


def _open_items(found: Dossier) -> Section:
    items = found["checklist"]
    answers = sum(bool(item["answer"]) for item in items)
    told = [
        f"Of {len(items)} items of TRIPOD+AI and CLAIM this workspace answers {answers}; "
        f"{len(items) - answers} are open and for the authors to answer."
    ]
    parts = []
    for guideline in dict.fromkeys(item["guideline"] for item in items):
        table = [
            {
                "Item": item["number"],
                "Section": item["section"],
                "Asks for": item["asks"],
                "Answer": item["answer"] or "open",
            }
            for item in items
            if item["guideline"] == guideline
        ]
        parts.append(Rows(guideline, pd.DataFrame(table)))
    return Section(9, "What is still open?", told if items else ["No run with a model."], parts)


def headlines(found: Dossier, styles: Styles) -> list[str]:
    """The answers without their evidence, one line a question."""
    return [f"{one.question} {' '.join(one.answer)}" for one in sections(found, styles)]


def about_facts(found: Dossier) -> dict[str, str]:
    """The head of a report."""
    about = found["about"]
    facts = {
        "Task": about["task_title"],
        "Cohort fingerprint": about["fingerprint"],
        "Runs": f"{len(about['runs'])}",
        "Resamples": f"{about['n_resamples']:,}, seed {about['seed']}",
    }
    if about["horizon_days"]:
        facts["Horizon"] = days(about["horizon_days"])
    if about["threshold"] is not None:
        facts["Threshold"] = number(about["threshold"], 3)
    return facts
