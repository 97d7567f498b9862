"""Which modality carries the prediction: one additive ledger, one run or two."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from analysis.attribution.modalities import ModalityLedger
from analysis.attribution.target import Survival, Target
from analysis.outlook import SurvivalOutlook
from app.figures import ledger as figures
from app.panels import figure
from app.panels.patient_header import Shown
from app.patients import Explains, PatientDesk


def show(desk: PatientDesk, shown: Sequence[Shown], targets: Sequence[Target]) -> None:
    """The waterfall; targets: one a run, of the same name."""
    st.header("Which modality carries it?", anchor=False)
    found = [desk.ledger(s.case, t) for s, t in zip(shown, targets, strict=True)]
    name = "ledger " + " ".join(s.case.run.config.name for s in shown)
    figure.show(
        drawn(desk, shown, targets),
        frame(found, shown),
        name,
        alt="Shares of the modalities in the prediction",
        file=f"{name} {shown[0].case.subject_id}",
    )
    st.caption(
        "Exact Shapley shares over all combinations of the patient's modalities; a modality that "
        "is left out is told to the model as absent. A share says what this model makes of a "
        "modality, not what causes the outcome."
    )


def drawn(desk: Explains, shown: Sequence[Shown], targets: Sequence[Target]) -> go.Figure:
    """The waterfall of each run; those of one task on one scale."""
    return figures.waterfall(
        [
            figures.Ledger.of(
                desk.ledger(item.case, target),
                item.strategy,
                item.colour,
                also=_also(desk, item, target),
                zero=_zero(item, target),
                zero_title="the mean training patient" if _of_log_risk(item, target) else "",
                task=item.task.title if item.of_several else "",
            )
            for item, target in zip(shown, targets, strict=True)
        ]
    )


def _zero(item: Shown, target: Target) -> float:
    """Log-risks are shown from the mean training patient; probabilities have a zero."""
    if not _of_log_risk(item, target) or not isinstance(item.outlook, SurvivalOutlook):
        return 0.0
    return item.outlook.log_risk - item.outlook.relative


def _of_log_risk(item: Shown, target: Target) -> bool:
    return isinstance(item.outlook, SurvivalOutlook) and not isinstance(target, Survival)


def _also(desk: Explains, item: Shown, target: Target) -> ModalityLedger | None:
    """The same ledger of event-free survival at the horizon, beside that of the log-risk."""
    found = item.outlook
    if isinstance(target, Survival) or not isinstance(found, SurvivalOutlook):
        return None
    if pd.isna(found.at_horizon):
        return None
    at = desk.target(item.case.run, "survival", [found.horizon_days])
    return desk.ledger(item.case, at)


def frame(found: Sequence[ModalityLedger], shown: Sequence[Shown]) -> pd.DataFrame:
    """One row a run and modality, with the reference and the prediction."""
    rows = []
    for one, item in zip(found, shown, strict=True):
        table = one.table()
        table.insert(0, "run", item.case.run.config.name)
        table["task"] = item.task.title
        table["explained"] = str(one.target["title"])
        table["unit"] = str(one.target["unit"])
        table["reference"] = float(one.base[0])
        table["prediction"] = float(one.whole[0])
        rows.append(table)
    return pd.concat(rows, ignore_index=True)
