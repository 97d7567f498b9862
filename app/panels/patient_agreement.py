"""Do different methods give one reason for this patient?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import streamlit as st

from analysis.attribution.case import AttributionError
from analysis.attribution.target import Target
from analysis.attribution.volume import layers_of
from analysis.trust.agreement import Agreement, agreement, attention_shares, map_agreement
from app.figures.text import markdown, number
from app.panels import progress
from app.panels.patient_header import Shown
from app.patients import PatientDesk

# One of each family: gradient at a layer, elementwise, on the input, by leaving blocks out.
MAPS = {
    "HiResCAM, fine": ("hirescam", "fine"),
    "Grad-CAM, lesions": ("gradcam", "lesions"),
    "Integrated gradients": ("integrated_gradients", None),
    "Occlusion": ("occlusion", None),
}


def show_maps(
    desk: PatientDesk, item: Shown, target: Target, modality: str, subject: str = ""
) -> None:
    """Agreement of the volume methods, on demand: two of them take seconds.

    subject: the run, when the place does not say.
    """

    def compute() -> Agreement:
        layers = layers_of(item.case, modality)
        wanted = {n: c for n, c in MAPS.items() if c[1] is None or c[1] in layers}
        return map_agreement(
            item.case,
            {n: desk.volume_map(item.case, modality, target, *c) for n, c in wanted.items()},
        )

    _expander(f"{item.case.run.config.name} {modality}", compute, subject)


def show_events(desk: PatientDesk, item: Shown, target: Target, modality: str) -> None:
    """Agreement of sampled Shapley values, integrated gradients and attention on events."""

    def compute() -> Agreement:
        case = item.case
        shares = {
            "Shapley values": desk.attribution(case, modality, target, contexts="given"),
            "Integrated gradients": desk.attribution(
                case, modality, target, method="integrated_gradients", contexts="given"
            ),
        }
        found: dict[str, np.ndarray] = {n: a.values[:, 0] for n, a in shares.items()}
        looked = attention_shares(case, modality)
        if looked is not None:
            found["Attention"] = looked
            weighted = attention_shares(case, modality, target)
            if weighted is not None:
                found["Attention x gradient"] = weighted
        return agreement(found)

    _expander(f"{item.case.run.config.name} {modality}", compute)


def _expander(key: str, compute: Callable[[], Agreement], subject: str = "") -> None:
    whose = f"{markdown(subject)}: do" if subject else "Do"
    with st.expander(f"{whose} different methods give one reason for this patient?"):
        if not st.toggle("Compare methods (takes some seconds)", key=f"agreement {key}"):
            st.caption(
                "Rank correlation of the sizes of their shares. Agreement proves nothing by "
                "itself; where methods disagree, at least one of them is not to be believed."
            )
            return
        try:
            with progress.spinner("Explaining the prediction by every method"):
                found = compute()
        except (AttributionError, ValueError) as error:
            st.info(markdown(str(error)))
            return
        st.table(table(found))
        st.caption(
            "Each cell: rank correlation of the sizes (-1 to 1), and in brackets the part of the "
            f"{found.k} strongest places that two methods share (by chance {found.chance:.0%})."
        )


def table(found: Agreement) -> pd.DataFrame:
    """'0.81 (60%)' for each pair of methods."""
    cells = [
        [
            "" if i == j else f"{number(found.rank[i, j], 2)} ({found.top[i, j]:.0%})"
            for j in range(len(found.names))
        ]
        for i in range(len(found.names))
    ]
    return pd.DataFrame(cells, index=list(found.names), columns=list(found.names))
