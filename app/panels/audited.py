"""Writes into the audit log what a reader opens, before it is shown.

Where the log cannot be written, AuditError is raised and nothing is shown: `frame.told` says so.
One row a change and not one a rerun: what this browser tab saw last in a place is remembered until
another page is opened.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from app.access import LOCAL, Visitor
from app.audit.log import FILE, AuditError, AuditLog, Entry, read_key
from app.workspace import Task

VARIABLE = "FUSIONLENS_AUDIT"
KEY_VARIABLE = "FUSIONLENS_AUDIT_KEY"
OFF = "none"
_WORKSPACE = "FUSIONLENS_WORKSPACE"
_VISITOR, _SEEN, _PAGE, _SESSION = "visitor", "audited", "audited page", "audited session"
log = logging.getLogger(__name__)


def visitor() -> Visitor:
    """Who looks at this page."""
    found: Visitor = st.session_state.get(_VISITOR, LOCAL)
    return found


def enter(who: Visitor) -> None:
    """From here on, this is who looks; another account starts with an empty memory."""
    if st.session_state.get(_VISITOR) != who:
        st.session_state[_SEEN] = {}
    st.session_state[_VISITOR] = who


def page(name: str) -> None:
    """A page is opened; a patient who is seen on it is seen anew."""
    if st.session_state.get(_PAGE) != name:
        st.session_state[_PAGE] = name
        kept = {k: v for k, v in _seen().items() if k == "login"}
        st.session_state[_SEEN] = kept


def opened(
    place: str,
    task: Task,
    subjects: Sequence[int],
    runs: Sequence[str],
    part: str = "",
    **detail: Any,
) -> None:
    """Patients whose data are about to be shown, a row each. place: where on the page.

    part: which of the views. Raises AuditError where that cannot be written.
    """
    once("open", place, task, [str(s) for s in subjects], runs, part, **detail)


def listed(place: str, task: Task, runs: Sequence[str], part: str, **detail: Any) -> None:
    """All patients of a cohort at once: a list, or a picture in which everybody is a point."""
    once("list", place, task, ["*"], runs, part, **detail)


def exported(
    task: Task, subjects: Sequence[int], runs: Sequence[str], part: str, **detail: Any
) -> None:
    """Files of a patient are made; every time."""
    _write(_entries("export", task, [str(s) for s in subjects], runs, part, detail))


def once(
    action: str,
    place: str,
    task: Task | None = None,
    subjects: Sequence[str] = ("",),
    runs: Sequence[str] = (),
    part: str = "",
    **detail: Any,
) -> None:
    """A row for each subject, unless this place saw the very same last."""
    now = (action, task.key if task else "", tuple(subjects), tuple(runs), part, str(detail))
    if _seen().get(place) == now:
        return
    _write(_entries(action, task, subjects, runs, part, detail))
    _seen()[place] = now


def of_account(action: str, account: str, **detail: Any) -> None:
    """A login, a logout or a refusal; every time."""
    _write([Entry(account=account, action=action, detail=detail, **_where())])


def _entries(
    action: str,
    task: Task | None,
    subjects: Sequence[str],
    runs: Sequence[str],
    part: str,
    detail: dict[str, Any],
) -> list[Entry]:
    who = visitor()
    return [
        Entry(
            account=who.account,
            role=who.role,
            action=action,
            part=part,
            cohort=task.cohort if task else "",
            task=task.name if task else "",
            subject=subject,
            run=", ".join(runs),
            detail=detail,
            **_where(),
        )
        for subject in subjects
    ]


def _where() -> dict[str, str]:
    return {
        "page": str(st.session_state.get(_PAGE, "")),
        "workspace": Path(os.environ.get(_WORKSPACE, "")).name,
        "session": st.session_state.setdefault(_SESSION, uuid.uuid4().hex[:12]),
    }


def _seen() -> dict[str, Any]:
    found: dict[str, Any] = st.session_state.setdefault(_SEEN, {})
    return found


def _write(entries: Sequence[Entry]) -> None:
    where = os.environ.get(VARIABLE, "").strip()
    if where == OFF:
        return
    made = _opened(
        where,
        os.environ.get(KEY_VARIABLE, "").strip(),
        os.environ.get(_WORKSPACE, "").strip(),
        must=bool(where) or visitor() != LOCAL,
    )
    if made is not None:
        made.append(entries)


@st.cache_resource(show_spinner=False)
def _opened(where: str, key: str, workspace: str, *, must: bool) -> AuditLog | None:
    """The log of this process, or None where nothing asks for one and none can be kept."""
    if not where and not workspace:
        return None
    try:
        found = AuditLog(where or Path(workspace) / FILE, read_key(Path(key)) if key else None)
        found.open()
    except AuditError:
        if must:
            raise
        log.warning("no audit log is kept", exc_info=True)
        return None
    return found
