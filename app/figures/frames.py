"""Result objects as tables: what the CSV beside each figure holds, in full precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from app.figures.survival import Panel
from app.workspace import CohortSummary, Gain

Evaluations = Mapping[str, Mapping[str, Any]]


def availability(summary: CohortSummary) -> pd.DataFrame:
    """Patients with each modality, by split."""
    return pd.DataFrame(
        [
            {
                "modality": name,
                "split": split,
                "patients": n,
                "with_modality": summary.available[name][split],
            }
            for name in summary.available
            for split, n in summary.splits.items()
        ]
    )


def runs(evaluations: Evaluations) -> pd.DataFrame:
    """One row a run and split."""
    return pd.DataFrame(
        [_run(row) for evaluation in evaluations.values() for row in evaluation["runs"]]
    )


def _run(row: Mapping[str, Any]) -> dict[str, Any]:
    c, uno, brier = row["c_index"], row["uno_c"], row["integrated_brier"]
    return {
        "run": row["run"],
        "title": row["title"],
        "strategy": row["strategy"],
        "task": row["task"],
        "split": row["split"],
        "patients": row["n"],
        "events": row["events"],
        "c_index": c["value"],
        "c_index_low": c["low"],
        "c_index_high": c["high"],
        "uno_c": uno["value"],
        "uno_tau_days": uno["tau_days"],
        "integrated_brier": brier["value"],
        "integrated_brier_kaplan_meier": brier.get("reference"),
        "brier_from_day": brier.get("start_days"),
        "brier_to_day": brier.get("end_days"),
        **{f"lacking_{name}": n for name, n in row["absent"].items()},
        "without_any_modality": row["without_any_modality"],
    }


def differences(evaluations: Evaluations) -> pd.DataFrame:
    """One row a pair of runs and split; C of first minus C of second."""
    return pd.DataFrame(
        [
            {
                "split": split,
                "first": d["first"],
                "second": d["second"],
                "difference": d["difference"]["value"],
                "low": d["difference"]["low"],
                "high": d["difference"]["high"],
                "p": d["p"],
                "p_holm": d["p_holm"],
            }
            for split, evaluation in evaluations.items()
            for d in evaluation["differences"]
        ]
    )


def gains(found: Mapping[str, Sequence[Gain]]) -> pd.DataFrame:
    """One row a fusion run and split."""
    return pd.DataFrame(
        [
            {
                "split": split,
                "run": g.run,
                "baseline": g.baseline,
                "points": g.points["value"],
                "points_low": g.points["low"],
                "points_high": g.points["high"],
                "percent": g.percent["value"],
                "percent_low": g.percent["low"],
                "percent_high": g.percent["high"],
                "p_holm": g.p_holm,
            }
            for split, split_gains in found.items()
            for g in split_gains
        ]
    )


def curves(panels: Sequence[Panel], split: str) -> pd.DataFrame:
    """Every step of every Kaplan-Meier curve."""
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "run": panel.run,
                    "split": split,
                    "cut_rule": panel.split.cutoffs.rule,
                    "cut_log_risk": " ".join(map(repr, panel.split.cutoffs.values)),
                    "cut_learned_on": panel.split.cutoffs.learned_on,
                    "group": group.name,
                    "time_days": group.curve.time_days,
                    "survival": group.curve.survival,
                    "low": group.curve.low,
                    "high": group.curve.high,
                    "at_risk": group.curve.at_risk,
                    "events": group.curve.events,
                    "censored": group.curve.censored,
                }
            )
            for panel in panels
            for group in panel.split.groups
            if group.curve is not None
        ],
        ignore_index=True,
    )
