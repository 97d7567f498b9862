"""How everything looks: one palette, one figure template, one colour a strategy everywhere.

Nothing here knows Streamlit. Streamlit's own colours are in .streamlit/config.toml and match.

Colours of strategies and groups keep their difference under the common forms of colour
blindness (after Okabe & Ito 2008), and no figure relies on colour alone: marks differ in shape
and everything is labelled.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from analysis.external import EXTERNAL, ExternalConfig
from models.checkpoint import RunConfig
from models.contracts import Kind

APP_NAME = "FusionLens"
NOTICE = "Research use only. Not for clinical decisions."

INK = "#1B2733"
MUTED = "#5F6B77"
FAINT = "#8A949E"
GRID = "#E6EAEE"
PANEL = "#F4F6F8"
ACCENT = "#1F5A8A"
FONT = '"Source Sans", "Source Sans Pro", "Helvetica Neue", Arial, sans-serif'

STRATEGY_COLOURS = {
    "contrastive": "#0072B2",
    "co_attention": "#C2417C",
    "cross_attention": "#00875F",
    "late": "#D98200",
    "tgmm": "#6A51A3",
    "mean_concat": "#8C6D31",
    "multisurv": "#B4500F",
    "cmta": "#00838F",
    "deepavfusion": "#3AA0D8",
    "text_if": "#6B7A00",
    "haf": "#4F7F3A",
    "ps3": "#A0522D",
    "mdlm": "#5B6F9E",
    "mfmf": "#9C6ADE",
    "feature_interaction": "#7A4E8A",
    "missing_token": "#2F6F8F",
    "modality_dropout": "#D1495B",
    "maria": "#B03A9B",
    "drfuse": "#1F8F8F",
    EXTERNAL: "#5B3A1E",
}
# Runs of one strategy that differ in what guides it and who answers: towards what, how far.
GUIDANCE_SHADES = {"human": ("#FFFFFF", 0.25), "none": ("#FFFFFF", 0.5)}
LINEAR_SHADE = ("#000000", 0.45)
ALIGNED_SHADE = ("#C2417C", 0.5)
# HAF's parts: by what aligns, and darker where all do and none is hidden in training.
ALIGNMENT_SHADES = {"none": ("#FFFFFF", 0.4), "clip": ("#D98200", 0.5)}
UNDROPPED_SHADE = ("#000000", 0.35)
# A strategy that is added later gets one of these, always the same one for the same name.
SPARE_COLOURS = ("#8A7A0F", "#6C4F3D", "#C06C84", "#355C7D", "#7D7461")
UNIMODAL_GREYS = {Kind.VOLUME: "#3F474F", Kind.VIDEO: "#3F474F", Kind.EVENTS: "#7C8792"}
OTHER_GREY = "#A3ACB5"
EHR_SYMBOLS = {"clmbr": "circle", "onehot": "diamond"}
SYMBOL_WORDS = {
    "circle": "circle: EHR read by a pretrained language model of codes (CLMBR)",
    "diamond": "diamond: EHR as one-hot code counts",
    "square": "square: no EHR",
    "triangle-up": "triangle: predictions made elsewhere",
}

GROUP_COLOURS = {
    2: ("#2166AC", "#B2182B"),
    3: ("#2166AC", "#B8860B", "#B2182B"),
    4: ("#2166AC", "#4FA3B8", "#D9832B", "#B2182B"),
}
# Worse to better: brown to teal, white where nothing differs.
DIVERGING = (
    (0.0, "#8C510A"),
    (0.25, "#DDB67B"),
    (0.5, "#FFFFFF"),
    (0.75, "#79C4B8"),
    (1.0, "#01665E"),
)
SEQUENTIAL = ((0.0, "#F7F9FB"), (0.5, "#A9C5DD"), (1.0, "#3E7CB1"))

# Modalities of a run in its order (after Tol's muted scheme), with a mark each: where points of
# several modalities lie in one picture, a strategy has no colour.
MODALITY_COLOURS = (
    "#332288",
    "#CC6677",
    "#117733",
    "#C9A227",
    "#44AA99",
    "#882255",
    "#5FA8D3",
    "#999933",
)
MODALITY_SYMBOLS = (
    "circle",
    "diamond",
    "square",
    "triangle-up",
    "cross",
    "star",
    "triangle-down",
    "pentagon",
)

SPLIT_TITLES = {
    "train": "Training",
    "tuning": "Tuning",
    "internal": "Internal test",
    "external": "External test",
}
ENCODER_TITLES = {
    "ct_resnet": "3-D ResNet",
    "clmbr": "CLMBR",
    "onehot": "one-hot counts",
    "table_tokenizer": "table tokens",
    "gated_attention_mil": "gated-attention MIL",
    "table_text": "told in sentences, transformer",
    "clinical_bert": "told in sentences, ClinicalBERT",
    "ecg_cnn": "residual CNN",
    "stmem": "ST-MEM",
    "echo_r2plus1d": "(2+1)D network",
    "echoprime": "EchoPrime",
}


@dataclass(frozen=True)
class RunStyle:
    """How a run is drawn, on every page."""

    title: str
    colour: str
    symbol: str


def run_style(config: RunConfig | ExternalConfig) -> RunStyle:
    """Colour by strategy, shade by what guides it, mark by how the EHR is read."""
    if isinstance(config, ExternalConfig):
        return RunStyle(config.title, _colour(config), "triangle-up")
    encoders = [modality.encoder.name for modality in config.modalities.values()]
    symbol = next((EHR_SYMBOLS[name] for name in encoders if name in EHR_SYMBOLS), "square")
    return RunStyle(config.title, _colour(config), symbol)


def _colour(config: RunConfig | ExternalConfig) -> str:
    strategy = config.strategy
    kinds = {name: modality.kind for name, modality in config.modalities.items()}
    if strategy.name == "unimodal":
        return UNIMODAL_GREYS.get(next(iter(kinds.values())), OTHER_GREY)
    base = strategy_colour(strategy.name)
    if strategy.config.get("response") == "linear":
        return mix(base, *LINEAR_SHADE)
    if strategy.config.get("retrieval_weight"):
        return mix(base, *ALIGNED_SHADE)
    if strategy.config.get("alignment") in ALIGNMENT_SHADES:
        base = mix(base, *ALIGNMENT_SHADES[strategy.config["alignment"]])
    elif strategy.config.get("random_drop") is False:
        base = mix(base, *UNDROPPED_SHADE)
    if strategy.config.get("guidance") in GUIDANCE_SHADES:
        return mix(base, *GUIDANCE_SHADES[strategy.config["guidance"]])
    guide = strategy.config.get("guide") or strategy.config.get("query")
    if kinds.get(str(guide)) is Kind.EVENTS:
        return mix(base, "#000000", 0.35)
    return mix(base, "#FFFFFF", 0.3) if guide in kinds else base


def strategy_colour(name: str) -> str:
    """The colour of a strategy's name."""
    return STRATEGY_COLOURS.get(name) or SPARE_COLOURS[zlib.crc32(name.encode()) % 5]


def modality_mark(position: int) -> tuple[str, str]:
    """Colour and symbol of a run's modality, by its place in the run."""
    at = position % len(MODALITY_COLOURS)
    return MODALITY_COLOURS[at], MODALITY_SYMBOLS[at]


def mix(colour: str, other: str, share: float) -> str:
    """A colour moved towards another by a share of the way."""
    parts = (
        round(int(colour[i : i + 2], 16) * (1 - share) + int(other[i : i + 2], 16) * share)
        for i in (1, 3, 5)
    )
    return "#" + "".join(f"{part:02X}" for part in parts)


def faded(colour: str, alpha: float) -> str:
    """The colour with an opacity."""
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},{alpha})"


def split_title(split: str) -> str:
    """A split in words."""
    return SPLIT_TITLES.get(split, split)


def encoder_title(name: str) -> str:
    """An encoder in words."""
    return ENCODER_TITLES.get(name, name.replace("_", " "))


def finish(figure: go.Figure, *, height: int, **layout: Any) -> go.Figure:
    """Give a figure the house's font, colours and margins; white, so that exports print well."""
    settings: Mapping[str, Any] = {
        "template": None,
        "height": height,
        "paper_bgcolor": "#FFFFFF",
        "plot_bgcolor": "#FFFFFF",
        "font": {"family": FONT, "size": 13, "color": INK},
        "margin": {"l": 10, "r": 10, "t": 40, "b": 40},
        "hoverlabel": {"bgcolor": "#FFFFFF", "bordercolor": GRID, "font": {"color": INK}},
        "dragmode": False,
        "showlegend": False,
        **layout,
    }
    figure.update_layout(**settings)
    figure.update_xaxes(fixedrange=True)
    figure.update_yaxes(fixedrange=True)
    return figure
