"""A figure with its downloads: PNG and SVG drawn by the browser, data as CSV."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from app.panels import static

_SCRIPT = static.text("figure_download.js")
_STYLE = static.text("figure_download.css")
_CONFIG = {
    "displaylogo": False,
    "modeBarButtons": [["toImage"]],
    "toImageButtonOptions": {"format": "png", "scale": 3},
}


def show(figure: go.Figure, data: pd.DataFrame, name: str, *, alt: str) -> None:
    """Draw a figure and offer it as PNG, SVG and its data as CSV.

    name: of the files, and unique on the page. alt: what it shows, for those who cannot see it.
    """
    key = name.replace(" ", "-").replace("/", "-")
    options = {**_CONFIG["toImageButtonOptions"], "filename": key}  # type: ignore[dict-item]
    with st.container(key=f"figure-{key}", gap="xsmall"):
        st.plotly_chart(
            figure,
            theme=None,
            key=f"chart-{key}",
            config={**_CONFIG, "toImageButtonOptions": options},
            alt=alt,
        )
        with st.container(horizontal=True, gap="small", vertical_alignment="center"):
            _buttons()(key=f"image-{key}", data={"chart": f"chart-{key}"}, width="content")
            csv(data, name)


def csv(data: pd.DataFrame, name: str, label: str = "Data (CSV)") -> None:
    """A download of a table in full precision."""
    key = name.replace(" ", "-").replace("/", "-")
    st.download_button(
        label,
        data.to_csv(index=False).encode(),
        file_name=f"{key}.csv",
        mime="text/csv",
        key=f"csv-{key}",
        on_click="ignore",
        type="tertiary",
        icon=":material/download:",
    )


def _buttons():
    """The two image buttons, registered with the running app."""
    return st.components.v2.component(
        "fusionlens_image_download",
        html='<div class="images"></div>',
        css=_STYLE,
        js=_SCRIPT,
    )
