"""The router: `streamlit run app/main.py`, with FUSIONLENS_WORKSPACE naming the workspace."""

from __future__ import annotations

import streamlit as st

from app.panels import frame

frame.begin()
page = st.navigation(
    [
        st.Page("pages/overview.py", title="Overview", default=True),
        st.Page("pages/compare.py", title="Compare"),
        st.Page("pages/survival.py", title="Survival"),
    ],
    position="top",
)
with frame.around():
    page.run()
