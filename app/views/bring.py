"""Bring your own: a checkpoint that was trained elsewhere, and what is wrong with a cohort."""

from __future__ import annotations

import re

import streamlit as st

from app.bring.belongings import Belongings
from app.bring.description import NAME
from app.bring.importer import Importer
from app.bring.inbox import inbox_of
from app.bring.visit import Compared, Desk, Source, Visit
from app.figures.text import markdown
from app.panels import (
    address,
    bring_accept,
    bring_cohort,
    bring_describe,
    bring_report,
    bring_source,
    frame,
)
from app.workspace import WorkspaceError
from models.fusion.base import STRATEGIES

SECTIONS = {"model": "A trained model", "cohort": "A cohort"}
_VISIT = "bring visit"


@st.cache_resource(show_spinner=False)
def _importer() -> Importer:
    return Importer()


@st.cache_resource(show_spinner=False, scope="session", on_release=Belongings.close)
def _belongings() -> Belongings:
    return Belongings()


def main() -> None:
    """A model, step by step; or a cohort."""
    frame.title(
        "Bring your own",
        "See what a checkpoint holds and how it fits before it is accepted as a run. Nothing that "
        "came with the weights is run, and nothing is written until you say so.",
    )
    workspace = frame.workspace()
    visit = st.session_state.setdefault(_VISIT, Visit())
    desk = Desk(workspace, inbox_of(workspace.folder), _belongings(), _importer(), visit)
    address.start("section", "bring section", list(SECTIONS), "model", "section")
    chosen = st.segmented_control(
        "Bring",
        list(SECTIONS),
        format_func=SECTIONS.__getitem__,
        required=True,
        label_visibility="collapsed",
        key="bring section",
    )
    address.keep("section", chosen)
    if chosen == "cohort":
        bring_cohort.show(desk)
    else:
        desk.importer.get_ready("look")
        _model(desk)


def _model(desk: Desk) -> None:
    st.header("1. The checkpoint", anchor=False)
    source = bring_source.choose(desk)
    imported = desk.visit.imported is not None and desk.visit.compared is not None
    opened = None
    if source is not None:
        opened = bring_source.contents(desk, source, _within(desk))
    if opened is None and not imported:
        st.caption("Next: describe the model, compare, and accept it.")
        return
    text = None
    if opened is not None:
        st.header("2. The model", anchor=False)
        text = bring_describe.describe(desk)
        _own_network(text or "")
    compared = desk.visit.compared
    if source is not None and text is not None:
        label = "Compare" if compared is None else "Compare again"
        if st.button(label, type="primary", key="bring compare", disabled=not text.strip()):
            compared = _compare(desk, source, text)
    if imported and source is not None and (source, text) != (compared.source, compared.text):
        compared = None
    if compared is not None:
        _report(desk, compared, stale=(source, text) != (compared.source, compared.text))


def _compare(desk: Desk, source: Source, text: str) -> Compared | None:
    try:
        desk.compare(source, text)
    except (WorkspaceError, OSError) as error:
        desk.visit.compared = None
        st.error(markdown(desk.in_words(str(error))))
    return desk.visit.compared


def _report(desk: Desk, compared: Compared, stale: bool) -> None:
    st.header("3. How it fits", anchor=False)
    job = desk.importer.job(compared.job)
    if job is None:
        st.info("Nothing is known of this comparison any more; compare again.")
    elif not job.over:
        bring_source.waiting(desk.importer, compared.job, f"Comparing {compared.source.name}")
    elif job.answer is None:
        st.error(f"**Not compared.** {markdown(desk.in_words(job.error or ''))}")
    else:
        over = desk.visit.imported is not None
        report = bring_report.show(desk, compared, job.answer, stale and not over)
        bring_accept.accept(desk, compared, report, stale)


def _within(desk: Desk) -> str:
    """Where in the file the description says that the weights lie."""
    if desk.visit.kept.get("bring describe") == "text":
        found = re.search(r"^within:[ \t]*['\"]?([\w.]+)", desk.visit.text, re.MULTILINE)
        return found[1] if found else ""
    kept = desk.visit.kept.get(bring_describe.WITHIN, "")
    return str(st.session_state.get(bring_describe.WITHIN, kept)).strip()


def _own_network(text: str) -> None:
    """Say how a network that is not part of FusionLens gets here."""
    named = re.search(r"^strategy:.*?([A-Za-z_][\w.]*:[A-Za-z_]\w*)", text, re.MULTILINE)
    if named and named[1] not in STRATEGIES:
        st.info(
            f"{NAME} names a network of its own, {markdown(named[1])}. Its code is taken from no "
            "page and no file: whoever runs this app starts it with 'fusionlens --adapter "
            f"{markdown(named[1])} app' if they trust it."
        )


main()
