"""The router: `streamlit run app/main.py`, with FUSIONLENS_WORKSPACE naming the workspace.

The pages lie in views/, one question each. A folder called pages/ would be taken by Streamlit as
an app of its own: the first visitor who opens a page by its address would get it without router.
A page that the visitor's role does not have is never run: its address says so instead.
"""

from __future__ import annotations

from functools import partial

import streamlit as st

from app.access import FILES, PAGES
from app.adapters import use_given_adapters
from app.panels import account, audited, frame

use_given_adapters()
frame.begin()
visitor = account.enter()
allowed = () if visitor is None else visitor.pages
first = next(iter(allowed), "overview")
pages = []
for name, title in PAGES.items():
    if name in allowed:
        file = f"views/{FILES.get(name, name)}.py"
        pages.append(st.Page(file, title=title, url_path=name, default=name == first))
    else:
        shown = account.nothing if visitor is None else partial(frame.not_for_this_role, title)
        pages.append(
            st.Page(shown, title=title, url_path=name, default=name == first, visibility="hidden")
        )
page = st.navigation(pages, position="hidden" if visitor is None else "top")
if visitor is not None:
    with frame.around():
        audited.page(page.title.lower())
        page.run()
