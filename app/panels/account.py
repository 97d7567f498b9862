"""Who is here: login, refusal, and the small menu that names the account and logs it out."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from app import theme
from app.access import LOCAL, AccessError, AccessFile, Visitor, account_of
from app.audit.log import AuditError
from app.figures.text import markdown
from app.login import providers_of
from app.panels import audited, returning

ACCESS_VARIABLE = "FUSIONLENS_ACCESS"
LOGIN_VARIABLE = "FUSIONLENS_LOGIN"
_TOLD = "refusal told"
log = logging.getLogger(__name__)


def enter() -> Visitor | None:
    """Who may come in; None where a login or a refusal is shown instead of every page.

    Without a login configured everybody is `LOCAL`. A login that should be there (the command was
    given one) and is not lets nobody in.
    """
    claims = claims_of_login()
    roles = os.environ.get(ACCESS_VARIABLE, "").strip()
    configured = "is_logged_in" in claims
    if not configured and not roles and not os.environ.get(LOGIN_VARIABLE):
        audited.enter(LOCAL)
        return LOCAL
    try:
        if not configured:
            raise AccessError("a login is asked for, but its secrets cannot be read.")
        if not roles:
            raise AccessError(f"a login is configured, but no roles; {ACCESS_VARIABLE} is empty.")
        access = _file(roles).read()
    except AccessError:
        log.exception("nobody is let in")
        _closed("Nobody can log in at present: the roles or the login of this server cannot be "
                "read. The terminal that runs it has the details.")  # fmt: skip
        return None
    if not claims.get("is_logged_in"):
        _ask("Log in to open this workspace.")
        return None
    if access.expired(claims, time.time()):
        _ask(f"A login holds for {access.login_hours:g} hours, and yours is older. Log in again.")
        return None
    who = access.admit(claims)
    try:
        if who is None:
            _refused(claims, access.contact)
            return None
        audited.enter(who)
        audited.once("login", "login", subject_of_login=claims.get("sub"), iss=claims.get("iss"))
    except AuditError as error:
        _closed(str(error))
        return None
    returning.resume()
    return who


def unchanged() -> bool:
    """Whether who opened the page may still see it: a part that reruns alone asks again."""
    who = audited.visitor()
    if who == LOCAL:
        return True
    claims = claims_of_login()
    try:
        access = _file(os.environ.get(ACCESS_VARIABLE, "").strip()).read()
    except AccessError:
        return False
    if not claims.get("is_logged_in") or access.expired(claims, time.time()):
        return False
    return access.admit(claims) == who


def claims_of_login() -> dict[str, Any]:
    """What the provider says of the account, and `is_logged_in`; empty without a login."""
    return dict(st.user.to_dict())


def menu() -> None:
    """Account, role and the way out; nothing where no login is configured."""
    who = audited.visitor()
    if who == LOCAL:
        return
    with st.popover(markdown(who.account), icon=":material/account_circle:", type="tertiary"):
        st.markdown(f"Role: **{markdown(who.role)}**")
        if not who.patients:
            st.caption("Cohorts only: this role sees no single patients.")
        st.caption("What is opened here is written into an audit log.")
        _way_out(who.account)


def nothing() -> None:
    """What every address shows to somebody who is not in."""


def _ask(words: str) -> None:
    """The login page: a button a provider."""
    st.title(theme.APP_NAME, anchor=False)
    st.markdown(words)
    auth: Mapping[str, Any] = st.secrets.get("auth", {})
    for name in providers_of(auth):
        label = f"Log in with {markdown(name)}" if name else "Log in"
        if st.button(label, key=f"log in {name}", type="primary", icon=":material/login:"):
            st.login(name or None)
    st.caption(theme.NOTICE)
    returning.remember()


def _refused(claims: Mapping[str, Any], contact: str) -> None:
    account = account_of(claims)
    st.title(theme.APP_NAME, anchor=False)
    st.warning(
        f"The account **{markdown(account)}** has no role in this workspace, so nothing is shown. "
        f"Ask for one here: {markdown(contact)}."
    )
    if st.session_state.get(_TOLD) != account:
        audited.of_account("refused", account, subject_of_login=claims.get("sub"))
        st.session_state[_TOLD] = account
    _way_out(account)


def _closed(words: str) -> None:
    st.title(theme.APP_NAME, anchor=False)
    st.error(markdown(words))


def _way_out(account: str) -> None:
    if st.button("Log out", key="log out", icon=":material/logout:"):
        try:
            audited.of_account("logout", account)
        except AuditError:
            log.exception("a logout was not logged")  # who wants to leave is not kept
        st.logout()


@st.cache_resource(show_spinner=False)
def _file(path: str) -> AccessFile:
    return AccessFile(Path(path))
