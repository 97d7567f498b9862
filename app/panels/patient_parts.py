"""What in a record, a table or a bag carries the prediction: shares of its parts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from analysis.attribution.attention import mil_attention
from analysis.attribution.case import AttributionError
from analysis.attribution.grouping import GROUPINGS, by_column, grouped
from analysis.attribution.result import Attribution
from analysis.attribution.target import Survival, Target
from analysis.explain import default_contexts, output_of, over_time
from analysis.outlook import SurvivalOutlook
from analysis.trust.card import card
from analysis.trust.report import report_part
from app.figures import ledger as figures
from app.figures import outlook
from app.figures.shares import Direction, part_title, value_text
from app.figures.text import markdown, number, signed
from app.panels import (
    event_timeline,
    figure,
    patient_agreement,
    patient_tasks,
    patient_text,
    trust_card,
)
from app.panels.patient_ct import sum_words
from app.panels.patient_header import Shown
from app.panels.patient_tasks import SETTLED
from app.patients import PatientDesk
from app.turns import TURNS
from models.contracts import Kind

GROUP_WORDS = {
    "code": "code",
    "visit": "visit",
    "group": "kind of code",
    "parent": "broader code",
}
CONTEXT_WORDS = {
    "ledger": "its share in the ledger",
    "given": "what it adds to the other modalities",
}


def show(
    desk: PatientDesk, shown: Sequence[Shown], targets: Sequence[Target], modality: str
) -> None:
    """Timeline (events), waterfall, tables and groups of one modality."""
    readers = [(s, t) for s, t in zip(shown, targets, strict=True) if modality in s.case.encoded]
    if not readers:
        st.info("The strategy does not read this modality.")
        return
    if modality not in readers[0][0].case.present:
        st.info(
            "The patient does not have this modality: the models were told that it is absent, and "
            "there is nothing in it to explain."
        )
        return
    usual = default_contexts(readers[0][0].case)
    contexts = st.segmented_control(
        "The shares add up to",
        list(CONTEXT_WORDS),
        format_func=CONTEXT_WORDS.__getitem__,
        default=usual,
        required=True,
        key=f"contexts {modality} {usual}",
        help="In the ledger a modality's share is an average over who else is there; what it adds "
        "to the others is the prediction minus the one without it. With more than three "
        "modalities the ledger's average takes long.",
    )
    places = _beside(readers, modality)
    order = st.container()
    found = []
    for (item, target), told in zip(readers, places, strict=True):
        if len(readers) > 1:
            st.subheader(markdown(item.title), anchor=False)
            st.caption(f"Shares in the {markdown(target.title)}.")
        try:
            found.append((item, *_one(desk, item, target, modality, contexts or usual, told)))
        except AttributionError as error:
            st.warning(markdown(str(error)))
    with order:
        patient_tasks.order(found)


def _beside(readers: Sequence[tuple[Shown, Target]], modality: str) -> list[Any]:
    """Places side by side for the words that two runs read; None where the words stand alone."""
    if len(readers) < 2 or any(s.case.kind(modality) is not Kind.TEXT for s, _ in readers):
        return [None] * len(readers)
    places = []
    columns = st.columns(len(readers), vertical_alignment="bottom")
    for column, (item, target) in zip(columns, readers, strict=True):
        place = column.container(key=f"told-{item.case.run.config.name}-{modality}")
        place.markdown(f"**{markdown(item.title)}**: shares in the {markdown(target.title)}")
        places.append(place)
    return places


def _one(
    desk: PatientDesk,
    item: Shown,
    target: Target,
    modality: str,
    contexts: str,
    told: Any = None,
) -> tuple[Attribution, int]:
    """The shares of one run; returns them, and which of the explained numbers is shown.

    told: where words and what is said of them stand, else in turn.
    """
    run = item.case.run.config.name
    more = f"more {run} {modality} {item.case.subject_id} {contexts} {target.parameters}"
    budget = st.session_state.get(more)
    found = attribution(desk, item, target, modality, contexts, budget)
    output = 0
    if isinstance(target, Survival) and found.values.shape[1] > 1:
        output = _day(found, target, f"day {run} {modality}")
    part = report_part(desk.trust(item.case), modality, found.method)
    with told or nullcontext():
        trust_card.show(card(part), key=f"parts {run} {modality}")
        st.caption(sum_words(found))
        _unsettled(found, more)
        if found.kind == Kind.TEXT:
            patient_text.show(found, output)
    if found.kind == Kind.EVENTS:
        event_timeline.show(
            found,
            key=f"timeline {run} {modality}",
            output=output,
            index_title=item.case.cohort.spec.index_event or "index time",
        )
    if found.kind == Kind.TEXT:
        found = by_column(found)
    left, right = st.columns([1, 1])
    with left:
        figure.show(
            waterfall(item, found, output),
            found.parts.assign(share=found.values[:, output]),
            f"shares {modality} {run} {item.case.subject_id}",
            alt="From the model's answer without this modality to its answer with it",
        )
    with right:
        _tables(found, output, f"{run} {modality}")
    if found.values.shape[1] > 1:
        figure.show(
            outlook.shares_over_time(found),
            over_time_table(found),
            f"shares over time {modality} {run} {item.case.subject_id}",
            alt="Shares of the largest parts in predicted survival over time",
        )
    if found.kind == Kind.EVENTS:
        _groups(found, item, output, f"{run} {modality}")
        if not isinstance(target, Survival):
            patient_agreement.show_events(desk, item, target, modality)
    if found.kind == Kind.BAG:
        _pooling(item, found, output)
    return found, output


def _unsettled(found: Attribution, more: str) -> None:
    """Say so when the halves do not agree, and offer to go on."""
    if found.agreement is None or found.agreement >= SETTLED:
        return
    st.warning(
        f"The order of these shares is not settled: two independent halves of the estimate agree "
        f"at {number(found.agreement, 2)} only ({number(SETTLED, 1)} is wanted). Their sum is "
        "exact; which part comes first may change."
    )
    spent = int(found.parameters.get("budget", found.evaluations))
    if st.button(f"Go on with {4 * spent:,} evaluations", key=f"button {more}"):
        st.session_state[more] = 4 * spent
        st.rerun(scope="fragment")


def waterfall(item: Shown, found: Attribution, output: int) -> go.Figure:
    """From the model's answer without the modality to its answer with it, or the ledger's share."""
    title = item.case.run.config.modalities[found.modality].title
    if found.parameters.get("contexts") == "ledger" and len(item.case.present) > 1:
        return figures.event_waterfall(found, output=output, share_of=title)
    if isinstance(item.outlook, SurvivalOutlook) and found.target["target"] == "log_risk":
        zero = item.outlook.log_risk - item.outlook.relative
        return figures.event_waterfall(
            found, output=output, zero=zero, zero_title="the mean training patient"
        )
    return figures.event_waterfall(found, output=output)


def attribution(
    desk: PatientDesk,
    item: Shown,
    target: Target,
    modality: str,
    contexts: str,
    budget: int | None = None,
) -> Attribution:
    """The stored shares, or new ones with a bar; survival is explained over all its days."""
    wanted = over_time(target)
    bar, first = st.empty(), st.empty()

    def progress(done: int, total: int) -> None:
        bar.progress(
            min(done / max(total, 1), 1.0),
            text=f"Leaving parts out and asking the model again: {done:,} of at most {total:,} "
            "evaluations, fewer where two halves agree before. Stored for next time.",
        )
        TURNS.give_way()

    try:
        stored = desk.has_attribution(item.case, modality, wanted, contexts=contexts, budget=budget)
        if not stored:
            _preview(desk, item, target, modality, contexts, first)
        return desk.attribution(
            item.case, modality, wanted, contexts=contexts, budget=budget, progress=progress
        )
    finally:
        bar.empty()
        first.empty()


def _preview(
    desk: PatientDesk, item: Shown, target: Target, modality: str, contexts: str, place: Any
) -> None:
    """Integrated gradients at once, while the sampled shares are being computed."""
    if item.case.kind(modality) is not Kind.EVENTS:
        return
    try:
        found = desk.attribution(
            item.case, modality, target, method="integrated_gradients", contexts=contexts
        )
    except AttributionError:
        return
    with place.container():
        st.caption(
            "Preview by integrated gradients, until the sampled shares below are there: "
            + sum_words(found)
        )
        st.plotly_chart(
            waterfall(item, found, 0), theme=None, key=f"preview {item.title} {modality}"
        )


def _day(found: Attribution, target: Survival, key: str) -> int:
    """Which day of the curve is shown."""
    days = [float(d) for d in found.target["days"]]
    chosen = st.select_slider(
        "Day of the predicted survival that is explained",
        days,
        value=days[output_of(found, target)],
        format_func=lambda d: f"{d:,.0f}",
        key=key,
    )
    return days.index(chosen)


def _tables(found: Attribution, output: int, key: str) -> None:
    direction = Direction.of(found.target)
    for words, table in zip(
        (direction.raises, direction.lowers), tables(found, output), strict=True
    ):
        st.markdown(f"**{words[:1].upper()}{words[1:]}**")
        if len(table):
            st.dataframe(
                table,
                hide_index=True,
                alt=words,
                key=f"{words} {key}",
                column_config={"What": st.column_config.TextColumn(width="medium")},
            )
        else:
            st.caption("Nothing.")


def tables(found: Attribution, output: int, n: int = 6) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The largest raising and lowering parts, with words for people."""
    direction = Direction.of(found.target)
    if found.kind == Kind.EVENTS:
        pair = event_timeline.tables(found, n, output)
    else:
        shares = found.values[:, output]
        order = np.argsort(-np.abs(shares), kind="stable")
        pair = tuple(
            pd.DataFrame(
                {
                    "description": [part_title(found.parts.iloc[int(i)]) for i in rows],
                    "value": [value_text(_get(found, i, "value")) for i in rows],
                    "unit": [str(_get(found, i, "unit") or "") for i in rows],
                    "share": shares[rows],
                }
            )
            for rows in ([i for i in order if shares[i] * sign > 0][:n] for sign in (1, -1))
        )
    return pair[0].pipe(_worded, direction), pair[1].pipe(_worded, direction)


def _get(found: Attribution, row: int, name: str) -> object:
    return found.parts.iloc[int(row)].get(name)


def _worded(table: pd.DataFrame, direction: Direction) -> pd.DataFrame:
    named = {"description": "What", "share": "Share", "value": "Measured", "date": "Date"}
    out = table[[name for name in named if name in table]].rename(columns=named)
    out["Share"] = [direction.share(float(v)) for v in table["share"]]
    out["Measured"] = [
        f"{value} {unit}".strip() for value, unit in zip(table["value"], table["unit"], strict=True)
    ]
    if not out["Measured"].any():
        # Tiles and cores are vectors: nothing was measured that could be read.
        del out["Measured"]
    if "Date" in out:
        out["Date"] = [("" if pd.isna(d) else f"{d:%Y-%m-%d}") for d in table["date"]]
    return out


def over_time_table(found: Attribution) -> pd.DataFrame:
    """Long form: part, day, share."""
    days = found.target["days"]
    names = [part_title(part) for _, part in found.parts.iterrows()]
    return pd.DataFrame(
        {
            "part": np.repeat(names, len(days)),
            "day": np.tile(days, len(names)),
            "share": found.values.reshape(-1),
        }
    )


def _groups(found: Attribution, item: Shown, output: int, key: str) -> None:
    with st.expander("Sums by code, visit, kind of code or broader code"):
        by = st.segmented_control(
            "Sum by",
            list(GROUPINGS),
            format_func=GROUP_WORDS.__getitem__,
            default="code",
            required=True,
            key=f"group {key}",
        )
        sums = grouped(found, by or "code", item.case.cohort.codes)
        table = sums.groups.copy()
        direction = Direction.of(found.target)
        order = np.argsort(-np.abs(sums.values[:, output]), kind="stable")
        words = pd.DataFrame(
            {
                GROUP_WORDS[by or "code"].capitalize(): table["title"],
                "Events": table["events"],
                "First": [_date(d) for d in table["first"]],
                "Last": [_date(d) for d in table["last"]],
                "Share": [direction.share(float(v)) for v in sums.values[:, output]],
            }
        ).iloc[order]
        st.dataframe(words, hide_index=True, height=320, alt="Sums of shares", key=f"sums {key}")
        st.caption(f"{sums.rule} Sum: {signed(float(sums.values[:, output].sum()), 3)}.")


def _pooling(item: Shown, found: Attribution, output: int) -> None:
    """What the bag's own attention gives each instance, beside its share."""
    try:
        pool = mil_attention(item.case, found.modality)
    except AttributionError:
        return
    table = pool.rows.assign(attention=pool.weights, share=found.values[:, output])
    one = item.case.cohort.modality(found.modality).instance_name
    attention = "Attention in the bag"
    st.dataframe(
        pd.DataFrame(
            {
                one.capitalize(): table["name"],
                attention: table["attention"],
                "Share": table["share"],
            }
        ),
        hide_index=True,
        column_config={
            attention: st.column_config.NumberColumn(format="%.3f"),
            "Share": st.column_config.NumberColumn(format="%+.3f"),
        },
        alt=f"Attention and share of each {one}",
    )
    st.caption(
        f"The bag's attention weighs every {one} and adds up to 1 over {len(table)}; "
        f"{1 / len(table):.3f} each if all counted alike. It has no sign: the share says which "
        "way the prediction goes."
    )


def _date(day: pd.Timestamp) -> str:
    return "" if pd.isna(day) else f"{day:%Y-%m-%d}"
