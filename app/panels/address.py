"""What a page shows, kept in its address, so that a view can be sent to a colleague."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.figures.text import markdown
from app.workspace import Workspace

LONGEST = 80
_SEEN = "address seen"


def start(name: str, key: str, options: Sequence[str], default: str | None, what: str) -> None:
    """Set the control `key` before it is drawn: to what a new address asks for, else as it was.

    A control that was never drawn, or whose choice is gone, gets the last one chosen under this
    name, else the default. An address that asks for what is not there is answered with a warning,
    never with something else in silence.
    """
    seen = st.session_state.setdefault(_SEEN, {})
    asked = st.query_params.get(name)
    if asked is not None and asked != seen.get(name):
        seen[name] = asked
        if asked in options:
            st.session_state[key] = asked
            return
        st.warning(f"The address asks for {what} {told(asked)}, which is not here.")
    if st.session_state.get(key) not in options:
        kept = st.session_state.get(f"chosen {name}")
        st.session_state[key] = kept if kept in options else default


def told(asked: str) -> str:
    """What an address asked for, as text and no longer than a name is."""
    cut = asked if len(asked) <= LONGEST else f"{asked[:LONGEST]} ..."
    return markdown(cut.replace("\0", "\ufffd"))


def keep(name: str, value: str | None) -> None:
    """Write a choice into the address and remember it for other pages."""
    st.session_state[f"chosen {name}"] = value
    st.session_state.setdefault(_SEEN, {})[name] = value
    if value is None:
        st.query_params.pop(name, None)
    elif st.query_params.get(name) != value:
        st.query_params[name] = value


def workspace(here: Workspace) -> None:
    """Say so when the address was made in another workspace; then name this one."""
    asked = st.query_params.get("workspace")
    if asked is not None and asked != here.name:
        st.warning(
            f"This address was made in the workspace {told(asked)}; this one is "
            f"{markdown(here.name)}, so its patients and runs may be others."
        )
    if asked != here.name:
        st.query_params["workspace"] = here.name
