"""A told table with every word coloured by its share in the prediction."""

from __future__ import annotations

import streamlit as st

from analysis.attribution.result import Attribution
from app.figures.told import told_html

_STYLE = """
<style>
.told { line-height: 2.05; max-width: 75rem; }
.told .sentence { margin-right: 0.7em; }
.told .word { padding: 0.12em 0.22em; border-radius: 0.25em; }
.told .value { font-weight: 600; }
.told-key { font-size: 0.85rem; opacity: 0.85; }
.told-key .word { padding: 0.1em 0.5em; border-radius: 0.25em; }
</style>
"""


def show(found: Attribution, output: int = 0) -> None:
    """The text as the model reads it; deeper colour, larger share; the number under the cursor."""
    st.html(_STYLE + told_html(found, output))
