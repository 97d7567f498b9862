"""One patient under two tasks: who each task is about, what may be compared and what may not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import pandas as pd
import streamlit as st

from analysis.attribution.result import Attribution
from analysis.attribution.target import Target
from analysis.ordering import Ordering, ordering
from app import theme
from app.figures.shares import Direction, part_title
from app.figures.text import MISSING, count, listed, markdown, number
from app.panels.patient_header import Shown, asked, by_task
from app.patients import Membership, PatientDesk
from models.contracts import Kind

SETTLED = 0.9
_Overlay = TypeVar("_Overlay")


def standing(desk: PatientDesk, shown: Sequence[Shown]) -> None:
    """Whether the runs have seen the patient, and whom their tasks are about.

    Whether this patient has an outcome of a task is said only where that gives nothing away, or
    where the reader asked what happened under it.
    """
    tasks = by_task(shown)
    found = {task: desk.membership(items[0].case) for task, items in tasks.items()}
    split = theme.split_title(str(_split(shown[0]))).lower()
    said = [
        _seen(known, task.title if len(tasks) > 1 else "", asked(task))
        for task, known in found.items()
        if known.learnt_from
    ]
    if said:
        st.warning(f"This patient is in the {split} split: {'; '.join(said)}.")
    for task, known in found.items():
        # Where the runs were made from others, the page says that instead.
        if known.everybody or not known.home:
            continue
        st.caption(about(known, markdown(task.title), asked(task)))


def _split(item: Shown) -> object:
    return item.case.cohort.subjects.loc[item.case.subject_id, "split"]


def _seen(known: Membership, task: str, asked_: bool) -> str:
    """What the runs of a task have seen of a patient of the learning splits."""
    runs = f"the runs of '{markdown(task)}'" if task else "the runs"
    if known.everybody or (asked_ and known.told):
        return f"{runs} have seen what happened, so their predictions flatter them"
    if asked_:
        return f"{runs} have not seen what happened, for the cohort holds no outcome of it"
    return (
        f"if the cohort holds their outcome, {runs} have seen it, and their predictions flatter "
        "them"
    )


def about(known: Membership, task: str, asked_: bool) -> str:
    """Whom a task is about that not everybody has an outcome of."""
    who = (
        f"{task}: the cohort holds the outcome of {known.n_told:,} of its "
        f"{count(known.n, 'patient')}, and the strategies were made from those. "
    )
    if not asked_:
        return who + (
            "Whether this patient is one of them is told with what happened, for it may give that "
            "away; a prediction is made for everybody, and holds for those whom the task is about."
        )
    if known.told:
        return who + "This patient is one of them."
    return who + (
        "This patient is not one of them: there is nothing to compare the prediction with, and it "
        "does not hold if the task is not about patients like this one."
    )


def compare_text(shown: Sequence[Shown], targets: Sequence[Target]) -> str:
    """What may be compared between runs of different tasks; '' where all are of one task."""
    if len(by_task(shown)) < 2:
        return ""
    explained = listed(
        [f"{s.title} explains the {t.title}" for s, t in zip(shown, targets, strict=True)]
    )
    return (
        f"Two tasks, two numbers: {explained}. Compare where the maps look and which shares come "
        "first. Do not compare how large shares are or how deep a colour is: the numbers are about "
        "different things, so every picture has its own scale."
    )


def say(shown: Sequence[Shown], targets: Sequence[Target]) -> None:
    """`compare_text` on the page."""
    text = compare_text(shown, targets)
    if text:
        with st.container(key="two-tasks"):
            st.info(markdown(text), icon=":material/compare_arrows:")


def viewers(
    maps: Sequence[tuple[Shown, Any]], overlays: Sequence[_Overlay]
) -> list[tuple[str, list[_Overlay]]]:
    """(heading, maps) of each viewer: one with all maps to choose from, or one a task.

    Maps of two tasks are drawn apart, each under its own name and on its own scale.
    """
    tasks = {item.task for item, _ in maps}
    if len(tasks) < 2:
        return [("", list(overlays))]
    return [(item.title, [one]) for (item, _), one in zip(maps, overlays, strict=True)]


def looks(
    what: str, shares: Sequence[tuple[Shown, pd.Series]], titles: Mapping[str, str] | None = None
) -> None:
    """Where the maps of two tasks look, in one table: shares of each map, which have no unit.

    what: of the places, 'Wave'. shares: of each run's map, by place. titles: of the places.
    """
    if len(by_task([item for item, _ in shares])) < 2:
        return
    st.markdown("**Where the maps look**")
    table = pd.DataFrame({markdown(item.title): found for item, found in shares})
    st.table(table.rename(index=titles or {}).map(_share).rename_axis(what))
    st.caption("Each column is the whole of one map: where it lies, not how strong it is.")


def _share(value: float) -> str:
    return MISSING if pd.isna(value) else f"{value:.0%}"


def order(found: Sequence[tuple[Shown, Attribution, int]]) -> None:
    """Which parts come first under each task: their order, for their sizes cannot be compared.

    found: each run's shares, and which of the explained numbers is shown.
    """
    if len(by_task([item for item, _, _ in found])) < 2 or any(
        a.kind == Kind.EVENTS for _, a, _ in found
    ):
        return
    names = [tuple(part_title(part) for _, part in a.parts.iterrows()) for _, a, _ in found]
    if len(set(names)) > 1:
        st.caption("The runs read other parts of this modality, so there is no common order.")
        return
    made = ordering(names[0], {item.title: a.values[:, at] for item, a, at in found})
    directions = {item.title: Direction.of(a.target) for item, a, _ in found}
    st.markdown("**Which come first**")
    st.table(order_table(made, directions).set_index("What"))
    like = made.agreement
    unsettled = [
        f"{item.title} ({number(a.agreement, 2)})"
        for item, a, _ in found
        if a.agreement is not None and a.agreement < SETTLED
    ]
    st.caption(
        f"Place by size of share among {len(made.names)}. Rank correlation of the sizes "
        f"{number(like.rank[0, 1], 2)}; {like.top[0, 1]:.0%} of the {like.k} first are the same "
        f"(by chance {like.chance:.0%})."
        + (
            f" The order is not settled for {markdown(listed(unsettled))}: two halves of the "
            f"estimate agree at less than {number(SETTLED, 1)}."
            if unsettled
            else ""
        )
    )


def order_table(made: Ordering, directions: Mapping[str, Direction]) -> pd.DataFrame:
    """'2: raises the risk' for every part among the first of either explanation."""
    rows = made.first(made.agreement.k)
    table: dict[str, list[str]] = {"What": [markdown(made.names[i]) for i in rows]}
    for title, direction in directions.items():
        table[markdown(title)] = [
            f"{made.ranks[title][i]}: {markdown(direction.words(float(made.signs[title][i])))}"
            for i in rows
        ]
    return pd.DataFrame(table)


def not_read(shown: Sequence[Shown], modality: str) -> None:
    """Say so where one of the runs does not read a modality that the other explains."""
    blind = [item for item in shown if modality not in item.case.encoded]
    if len(blind) < len(shown):
        for item in blind:
            st.info(f"**{markdown(item.title)}** does not read this modality.")
