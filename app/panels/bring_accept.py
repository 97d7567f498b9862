"""A checkpoint that fits becomes a run: what may be missing, its name, where it is then seen."""

from __future__ import annotations

import streamlit as st

from analysis.importing.summary import FITTING, misfits, missing_patterns
from app.bring.visit import Compared, Desk, free_name, why_not_named, why_read_only
from app.figures.text import count, markdown, number
from app.panels.bring_source import waiting
from app.workspace import WorkspaceError
from models.importing.names import KeyReport

_ANSWERS = ("bring name", "bring titled ", "bring allow ")


def accept(desk: Desk, compared: Compared, report: KeyReport, stale: bool) -> None:
    """Ask what has to be asked, then import."""
    st.header("4. Accept", anchor=False)
    if desk.visit.importing:
        _importing(desk, compared)
        return
    read_only = why_read_only(desk.workspace)
    if read_only:
        st.info(read_only)
        return
    allowed = _allowed(compared, report)
    wrong = misfits(report, allowed)
    if wrong:
        st.info(
            "It cannot be imported as it is. Mend the rename rules or the description, bring "
            "another checkpoint, or say which tensors may be missing."
            if report.of(*FITTING)
            else "Not one tensor of the model is in the checkpoint, so there is nothing to import. "
            "Mend the rename rules or the description, or bring another checkpoint."
        )
        return
    desk.importer.get_ready("import")
    one, two = st.columns(2)
    with one:
        st.session_state.setdefault("bring name", free_name(desk.workspace, compared.source.name))
        name = st.text_input("Name of the run, as in addresses and commands", key="bring name")
    with two:
        titled = f"bring titled {compared.job}"
        st.session_state.setdefault(titled, compared.file.title)
        title = st.text_input(
            "Title, as it is shown", key=titled, placeholder="The strategy's title, imported"
        )
    reason = why_not_named(desk.workspace, name)
    if reason:
        st.error(markdown(reason))
    if st.button("Import as run", type="primary", disabled=bool(reason or stale), key="bring go"):
        try:
            desk.accept(name, title.strip(), allowed)
        except (WorkspaceError, OSError) as error:
            st.error(markdown(desk.in_words(str(error))))
            return
        desk.visit.answers = {
            str(key): value
            for key, value in st.session_state.items()
            if str(key).startswith(_ANSWERS)
        }
        st.rerun()
    st.caption(
        "It is written whole or not at all. A survival model predicts the cohort's training and "
        "tuning patients on the way, which takes as long as it takes to run it on them."
    )


def _allowed(compared: Compared, report: KeyReport) -> list[str]:
    """The patterns of missing tensors that the visitor ticks."""
    patterns = missing_patterns(report)
    if not patterns:
        return []
    if not report.of(*FITTING):
        return []
    n = sum(patterns.values())
    st.warning(
        f"{count(n, 'tensor')} of the model {'is' if n == 1 else 'are'} missing. Those that you "
        "allow keep the values of an untrained network: what they compute has nothing to do with "
        "how the model was trained, and its predictions may be worthless. The run says so for good."
    )
    return [
        pattern
        for pattern, n in patterns.items()
        if st.checkbox(
            f"{markdown(pattern)} may be missing ({count(n, 'tensor')})",
            key=f"bring allow {compared.job} {pattern}",
        )
    ]


def _importing(desk: Desk, compared: Compared) -> None:
    job = desk.importer.job(desk.visit.importing)
    if job is not None and not job.over:
        waiting(desk.importer, desk.visit.importing, "Importing")
        st.caption("It goes on when you leave this page; come back to see how far it is.")
        return
    if job is None or job.answer is None:
        there = why_not_named(desk.workspace, desk.visit.naming)
        reason = desk.in_words(job.error or "") if job is not None else ""
        if there:
            st.warning(markdown(f"There is a run {desk.visit.naming} now. {reason}"))
        elif reason:
            st.error(f"**Not imported, and nothing was written.** {markdown(reason)}")
        else:
            st.error("Nothing is known of this import any more; the Overview says what is here.")
        if st.button("Try again", key="bring again"):
            desk.visit.importing = ""
            # A control that was not drawn meanwhile has forgotten what it was set to.
            st.session_state.update(desk.visit.answers)
            st.rerun()
        return
    if desk.visit.imported is None:
        desk.visit.imported = job.answer
        # Whatever was uploaded for it is in the run now.
        desk.mine.clear()
    _imported(desk, compared)


def _imported(desk: Desk, compared: Compared) -> None:
    told = desk.visit.imported
    assert told is not None
    score, fresh = told["tuning_score"], told["fresh"]
    sentences = [f"**{markdown(told['title'])}** is now the run {markdown(told['run'])}."]
    if told["fitted"]:
        learnt = markdown("; ".join(told["fitted"]))
        sentences.append(f"Learnt on the cohort's training patients: {learnt}.")
    if fresh:
        held = "was missing and holds" if fresh == 1 else "were missing and hold"
        sentences.append(f"{count(fresh, 'tensor')} {held} untrained values.")
    if score is not None:
        sentences.append(f"C-index on the cohort's tuning patients: {number(score)}.")
    sentences.append(
        "On which patients it was trained is not known: some of those shown here may be among "
        "them, and its scores then flatter it."
    )
    st.success(" ".join(sentences))
    with st.container(horizontal=True, gap="medium"):
        for page, label in (("compare", "Compare it"), ("patient", "See it on a patient")):
            st.page_link(
                f"views/{page}.py",
                label=label,
                icon=":material/arrow_forward:",
                query_params={"task": compared.task, "strategy": str(told["run"])},
            )
        st.page_link("views/overview.py", label="Overview", icon=":material/arrow_forward:")
