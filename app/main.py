"""The router: `streamlit run app/main.py`, with FUSIONLENS_WORKSPACE naming the workspace.

The pages lie in views/, one question each. A folder called pages/ would be taken by Streamlit as
an app of its own: the first visitor who opens a page by its address would get it without router.
"""

from __future__ import annotations

import streamlit as st

from app.adapters import use_given_adapters
from app.panels import frame

use_given_adapters()
frame.begin()
page = st.navigation(
    [
        st.Page("views/overview.py", title="Overview", default=True),
        st.Page("views/compare.py", title="Compare"),
        st.Page("views/survival.py", title="Survival"),
        st.Page("views/patient.py", title="Patient"),
        st.Page("views/modalities.py", title="Modalities"),
        st.Page("views/representation.py", title="Representation"),
        st.Page("views/retrieval.py", title="Retrieval"),
        st.Page("views/trust.py", title="Trust"),
        st.Page("views/report.py", title="Report"),
        st.Page("views/bring.py", title="Import", url_path="import"),
    ],
    position="top",
)
with frame.around():
    page.run()
