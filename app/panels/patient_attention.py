"""Who looks at whom: the attention matrix beside the scan that it lights up."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st

from analysis.attribution.attention import METHODS, LabelledAttention, attention_maps
from analysis.attribution.case import Case
from analysis.attribution.export import attention_csv, label_texts
from analysis.attribution.feature_attention import FeatureAttention, feature_attention
from analysis.attribution.target import Target
from analysis.trust.card import card
from analysis.trust.report import report_part
from app import theme
from app.figures import features
from app.figures.text import markdown, number
from app.panels import attention_matrix, ct_viewer, figure, progress, trust_card
from app.panels.patient_header import Shown
from app.patients import PatientDesk
from models.contracts import Kind

METHOD_WORDS = {
    "mean": "mean of all heads",
    "head": "one head",
    "max": "largest of all heads",
    "gradient": "weighted by gradient (Chefer)",
    "rollout": "rollout, with the residual",
}
# What the trust report calls the forms of attention that it checks as reasons.
TRUSTED = {"mean": "attention", "gradient": "attention_gradient"}
TOP_CELLS = 12
# Below this many times an even spread nothing was chosen.
EVEN = 2.0


def show(desk: PatientDesk, shown: Sequence[Shown], targets: Sequence[Target]) -> None:
    """The maps of each run that has attention; for one that has none, why."""
    for number_, (item, target) in enumerate(zip(shown, targets, strict=True)):
        if len(shown) > 1:
            st.subheader(markdown(item.title), anchor=False)
        _run(desk, item, target, number_)


def _run(desk: PatientDesk, item: Shown, target: Target, place: int) -> None:
    case = item.case
    own = feature_attention(case)
    if own is not None:
        _features(desk, item, own)
    if not attention_maps(case, target):
        if own is None:
            st.info(why_none(case))
        return
    name = case.run.config.name
    first, second = st.columns(2)
    with first:
        method = st.selectbox(
            "Weights",
            list(METHODS),
            format_func=METHOD_WORDS.__getitem__,
            key=f"attention method {name}",
        )
    head = None
    heads = attention_maps(case, target)[0].heads
    if method == "head":
        with second:
            head = st.segmented_control(
                "Head",
                list(range(heads)),
                format_func=lambda h: str(h + 1),
                default=0,
                required=True,
                key=f"attention head {name}",
            )
    maps = attention_maps(case, target, method, head)
    chosen = maps[0]
    if len(maps) > 1:
        titles = {m.name: _direction(m, case) for m in maps}
        with second:
            wanted = st.selectbox(
                "Direction", list(titles), format_func=titles.__getitem__, key=f"direction {name}"
            )
        chosen = next(m for m in maps if m.name == wanted)
    part = report_part(desk.trust(case), chosen.key, TRUSTED.get(chosen.method, ""))
    trust_card.show(card(part), key=f"attention {name} {place}")
    _linked(case, chosen, f"{name} {place} {case.subject_id}")


def _features(desk: PatientDesk, item: Shown, own: FeatureAttention) -> None:
    """What is specific to a modality and what is shared: this patient, and by outcome."""
    case = item.case
    split = str(case.cohort.subjects.loc[case.subject_id, "split"])
    with progress.spinner("Averaging the attention of the split's patients"):
        groups = desk.feature_attention(case, split)
    maps = {"This patient": own, **groups}
    name = f"features {case.run.config.name}"
    figure.show(
        features.feature_matrices(maps),
        features.feature_frame(maps),
        name,
        alt="Attention between the strategy's features, for the patient and by outcome",
        file=f"{name} {case.subject_id}",
    )
    st.caption(
        "Rows look at columns; a patient's row adds up to 1. One feature a modality is specific to "
        "it, one a combination is shared by its members; a feature of a modality that the patient "
        f"lacks is not there. Averages are over the {theme.split_title(split).lower()} patients "
        "with a known outcome, each cell over those who have both features, so that their rows "
        "need not add up to 1. Attention says where the strategy looks, not what the prediction "
        "owes to it."
    )


def why_none(case: Case) -> str:
    """Why there is no attention to show."""
    strategy = case.run.config.strategy.name
    if strategy in ("cross_attention", "co_attention"):
        return (
            "This strategy attends from one modality to another, and the patient lacks one of "
            "them: there is nobody to look at."
        )
    return (
        f"{markdown(case.run.config.title)} fuses summaries of the modalities, so no token looks "
        "at another. Choose a cross-attention or co-attention run to see attention."
    )


def _direction(found: LabelledAttention, case: Case) -> str:
    titles = {n: m.title for n, m in case.run.config.modalities.items()}
    return f"{titles[found.query]} looks at {titles[found.key]}"


def _linked(case: Case, found: LabelledAttention, key: str) -> None:
    """Matrix and viewer; a choice in one shows in the other."""
    titles = {n: m.title for n, m in case.run.config.modalities.items()}
    memory = st.session_state.setdefault(f"picked {key}", {})
    selection = attention_matrix.show(
        found.weights,
        label_texts(found.rows),
        label_texts(found.columns),
        key=f"matrix {key}",
        row_title=titles[found.query],
        column_title=titles[found.key],
        null=found.null,
        own=found.own,
        shares=found.method in ("mean", "head", "rollout"),
        selected=memory.get("selection"),
    )
    volume = next(
        (n for n in (found.query, found.key) if case.kind(n) is Kind.VOLUME and case.has_scan(n)),
        None,
    )
    if found.method in ("mean", "head", "max"):
        st.caption(evenness(found))
    left, right = st.columns([3, 2])
    with right:
        _words(found, selection, titles)
    with left:
        if volume is None:
            st.caption("No scan on file to light up: the list at the right names the places.")
        else:
            _scan(case, found, selection, volume, key, memory)
    st.download_button(
        "Data (CSV)",
        attention_csv(found),
        f"attention-{key.replace(' ', '-')}.csv",
        "text/csv",
        key=f"attention csv {key}",
        on_click="ignore",
    )
    st.caption(
        "Attention inside the fusion layer, after the softmax: rows look at columns. A weight says "
        "where the model looked, not how much the prediction owes to it."
    )


def evenness(found: LabelledAttention) -> str:
    """How far the weights are from an even spread, in a sentence."""
    even = 1 / max(found.weights.shape[1] + (found.null is not None), 1)
    largest = float(found.weights.max(initial=0.0)) / even
    words = f"The largest weight is {number(largest, 1)} times that of an even spread."
    if largest < EVEN:
        return words + " This attention hardly chooses: read no reason into it."
    return words


def _scan(
    case: Case,
    found: LabelledAttention,
    selection: attention_matrix.Selection | None,
    modality: str,
    key: str,
    memory: dict[str, object],
) -> None:
    volume = case.scan(modality, native=True)
    on_rows = found.query == modality
    labels = found.rows if on_rows else found.columns
    weights = region_weights(found, selection, on_rows=on_rows)
    order = np.argsort(-weights, kind="stable")[:TOP_CELLS]
    regions = [_region(labels.iloc[int(i)], float(weights[i])) for i in order if weights[i] > 0]
    state = ct_viewer.show(
        volume,
        [],
        key=f"attention ct {key}",
        alt="CT with the regions that the chosen row of the matrix looks at",
        title=f"{case.cohort.spec.title}, patient {case.subject_id}",
        start_mm=regions[0].center_mm if regions else None,
        regions=regions,
    )
    if state.picked_mm is not None and state.picked_mm != memory.get("mm"):
        memory["mm"] = state.picked_mm
        memory["selection"] = {
            "axis": "row" if on_rows else "column",
            "index": nearest_region(labels, state.picked_mm),
        }
        st.rerun(scope="fragment")


def region_weights(
    found: LabelledAttention, selection: attention_matrix.Selection | None, *, on_rows: bool
) -> np.ndarray:
    """(N,) weight of each region: of the chosen row or column, else what it gives or gets.

    on_rows: the regions are the rows of the matrix.
    """
    weights = found.weights if not on_rows else found.weights.T
    # Now (others, regions).
    if selection is not None:
        other = "column" if on_rows else "row"
        if selection["axis"] == other:
            return np.asarray(weights[selection["index"]])
        alone = np.zeros(weights.shape[1])
        alone[selection["index"]] = 1.0
        return alone
    return np.asarray(weights.mean(axis=0))


def nearest_region(labels: pd.DataFrame, mm: Sequence[float]) -> int:
    """The row whose centre is nearest to a point in RAS mm."""
    centres = labels[["x_mm", "y_mm", "z_mm"]].to_numpy()
    return int(np.square(centres - np.asarray(mm)).sum(axis=1).argmin())


def short_place(text: str) -> str:
    """'right upper, back (x 29, y -86, slice 12)' of a place; other labels as they are.

    The slice says what z says; without x and y places of one third could not be told apart.
    """
    return re.sub(r", z \S+ mm, (slice \d+) of \d+\)$", r", \1)", text)


def _region(row: pd.Series, weight: float) -> ct_viewer.Region:
    return ct_viewer.Region(
        name=f"{row['name']}: {number(weight, 4)}",
        center_mm=(row["x_mm"], row["y_mm"], row["z_mm"]),
        size_mm=(row["size_x_mm"], row["size_y_mm"], row["size_z_mm"]),
        weight=weight,
    )


def _words(
    found: LabelledAttention,
    selection: attention_matrix.Selection | None,
    titles: dict[str, str],
) -> None:
    """The chosen row's columns, or the chosen column's rows, ranked; else the strongest cells."""
    rows, columns = ([short_place(t) for t in label_texts(f)] for f in (found.rows, found.columns))
    if selection is None:
        st.markdown("**Strongest pairs.** Choose a row or a column to rank the other side.")
        cells = found.strongest(TOP_CELLS)
        table = pd.DataFrame(
            {
                titles[found.query]: [rows[i] for i in cells["row"]],
                titles[found.key]: [columns[i] for i in cells["column"]],
                "Weight": cells["weight"].round(4),
            }
        )
    else:
        index = selection["index"]
        on_row = selection["axis"] == "row"
        weights = found.weights[index] if on_row else found.weights[:, index]
        own, others = (rows, columns) if on_row else (columns, rows)
        verb = "looks at" if on_row else "is looked at by"
        st.markdown(f"**{markdown(own[index])}** {verb}")
        order = np.argsort(-weights, kind="stable")[: 2 * TOP_CELLS]
        title = titles[found.key if on_row else found.query]
        table = pd.DataFrame(
            {title: [others[i] for i in order], "Weight": np.round(weights[order], 4)}
        )
        if on_row and found.null is not None:
            st.caption(f"{number(float(found.null[index]), 3)} of its weight goes to nothing.")
    st.dataframe(table, hide_index=True, height=420, alt="Attention weights, largest first")
