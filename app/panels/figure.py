"""A figure with its downloads: PNG and SVG drawn by the browser, data as CSV."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from analysis.sheets import spreadsheet_csv
from app.panels import static

_SCRIPT = static.text("figure_download.js")
_STYLE = static.text("figure_download.css")
_CONFIG = {
    "displaylogo": False,
    "modeBarButtons": [["toImage"]],
    "toImageButtonOptions": {"format": "png", "scale": 3},
}
_ZOOM = [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]]


def show(
    figure: go.Figure,
    data: pd.DataFrame | None,
    name: str,
    *,
    alt: str,
    file: str | None = None,
    on_point: Callable[[list[Any]], None] | None = None,
) -> None:
    """Draw a figure and offer it as PNG, SVG and its data as CSV.

    data: None where the reader may not have it. name: unique on the page; a figure of the same
    name is changed in its place, which takes the browser half as long as a new one. alt: what it
    shows, for those who cannot see it. file: name of the files (default: name). on_point: gets the
    customdata of a point that a reader clicked, before the page is drawn again; such a figure can
    also be zoomed and moved.
    """
    key = _plain(name)
    file = _plain(file or name)
    options = {**_CONFIG["toImageButtonOptions"], "filename": file}  # type: ignore[dict-item]
    config = {**_CONFIG, "toImageButtonOptions": options}
    if on_point is not None:
        config["modeBarButtons"] = _ZOOM
    with st.container(key=f"figure-{key}", gap="xsmall"):
        st.plotly_chart(
            figure,
            theme=None,
            key=f"chart-{key}",
            config=config,
            alt=alt,
            on_select="ignore" if on_point is None else partial(_clicked, f"chart-{key}", on_point),
            selection_mode="points",
        )
        with st.container(horizontal=True, gap="small", vertical_alignment="center"):
            _buttons()(key=f"image-{key}", data={"chart": f"chart-{key}"}, width="content")
            if data is not None:
                csv(data, name, file=file)


def csv(
    data: pd.DataFrame, name: str, label: str = "Data (CSV)", *, file: str | None = None
) -> None:
    """A download of a table in full precision. name: unique on the page. file: as in `show`."""
    key = _plain(name)
    st.download_button(
        label,
        spreadsheet_csv(data).encode(),
        file_name=f"{_plain(file or name)}.csv",
        mime="text/csv",
        key=f"csv-{key}",
        on_click="ignore",
        type="tertiary",
        icon=":material/download:",
    )


def _clicked(key: str, on_point: Callable[[list[Any]], None]) -> None:
    points = st.session_state[key]["selection"]["points"]
    if points and points[0].get("customdata"):
        data = points[0]["customdata"]
        # A typed array comes back from the browser as {"0": ..., "1": ...}.
        on_point(list(data.values()) if isinstance(data, Mapping) else list(data))


def _plain(name: str) -> str:
    return name.replace(" ", "-").replace("/", "-")


def _buttons():
    """The two image buttons, registered with the running app."""
    return st.components.v2.component(
        "fusionlens_image_download",
        html='<div class="images"></div>',
        css=_STYLE,
        js=_SCRIPT,
    )
