"""Back to the address that was opened before the login, which always returns to the first page."""

from __future__ import annotations

import streamlit as st

from app.panels import static

KEY = "returning"
_DONE = "returned after login"
_SCRIPT = static.text("returning.js")


def remember() -> None:
    """Drawn with the login: the browser tab keeps its address."""
    st.session_state.pop(_DONE, None)
    _draw(entered=False)


def resume() -> None:
    """Drawn once somebody is in: the tab goes to the address it kept, if it kept one."""
    if not st.session_state.get(_DONE):
        st.session_state[_DONE] = True
        _draw(entered=True)


def _draw(*, entered: bool) -> None:
    with st.container(key=KEY):  # takes no room: see the frame
        component = st.components.v2.component("fusionlens_returning", html="<i></i>", js=_SCRIPT)
        component(key=f"{KEY}-{entered}", data={"entered": entered})
