"""The pieces of the patient page on data of its own: `streamlit run` this file.

?show=timeline,matrix,ledger,outlook,trust chooses pieces; without it all are drawn. Nothing is
read from a cohort: one patient's 300 events with a seed, whose names contain HTML on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

from analysis.attribution.case import Subject
from analysis.attribution.parts import code_group
from analysis.attribution.result import Attribution
from app.figures import ledger, outlook
from app.figures.shares import ago
from app.panels import attention_matrix, event_timeline, trust_card

HOSTILE = "<img src=x onerror=document.title='broken'> & </canvas>"
INDEX = pd.Timestamp("2174-02-11 14:04")
LOG_RISK = {"title": "log-risk", "unit": "log hazard ratio", "worse_is_higher": True}
YEAR = {"title": "survival at 365 days", "unit": "probability", "worse_is_higher": False}
CODES = [
    ("ICD10CM/C34.11", "Malignant neoplasm of upper lobe, right bronchus or lung", None, ""),
    ("ICD10CM/I10", "Essential (primary) hypertension", None, ""),
    ("ICD10CM/F17.210", "Nicotine dependence, cigarettes, uncomplicated", None, ""),
    ("LOINC/2160-0", "Creatinine [Mass/volume] in Serum or Plasma", 1.1, "mg/dL"),
    ("LOINC/10839-9", "Troponin I.cardiac [Mass/volume] in Serum or Plasma", 0.2, "ng/mL"),
    ("LOINC/8310-5", "Body temperature", 37.1, "Cel"),
    ("LOINC/8867-4", "Heart rate", 92.0, "/min"),
    ("LOINC/1751-7", "Albumin [Mass/volume] in Serum or Plasma", 3.4, "g/dL"),
    ("RxNorm/32968", "clopidogrel", None, ""),
    ("RxNorm/7407", "nicotine", None, ""),
    ("ICD10PCS/06H03DZ", "Insertion of Intraluminal Device into Inferior Vena Cava", None, ""),
    ("Visit/IP", "Inpatient visit", None, ""),
]


@dataclass(frozen=True)
class Card:
    """What analysis.trust gives, as far as the panel needs it."""

    level: str
    sentences: tuple[str, ...]


def events(n: int = 300, seed: int = 3) -> pd.DataFrame:
    """A record of 63 years, most of it in the last months."""
    rng = np.random.default_rng(seed)
    days = np.sort(np.r_[rng.exponential(90, n - 60), rng.uniform(0, 0.6, 56)])[::-1]
    born = 62.95 * 365.25
    rows = [
        ("MEDS_BIRTH", "Birth", np.nan, "", born),
        ("Gender/F", "Female", np.nan, "", born),
        ("Race/unknown", HOSTILE, np.nan, "", np.nan),
        ("LOINC/99", HOSTILE, 7.25, "<b>u</b>", 2.5),
    ]
    for day in days:
        code, description, value, unit = CODES[rng.integers(len(CODES))]
        shown = np.nan if value is None else round(float(value * rng.lognormal(0, 0.25)), 3)
        rows.append((code, description, shown, unit, float(day)))
    frame = pd.DataFrame(rows, columns=["code", "description", "value", "unit", "days_before"])
    frame = frame.sort_values("days_before", ascending=False, na_position="first")
    frame = frame.reset_index(drop=True)
    frame.insert(0, "event", np.arange(len(frame)))
    frame["group"] = [code_group(code) for code in frame["code"]]
    frame["time"] = INDEX - pd.to_timedelta(frame["days_before"], unit="D")
    return frame


def attribution(seed: int = 3, n: int = 300, days: tuple[float, ...] = ()) -> Attribution:
    """Random shares with a few large ones; over `days` when a curve is explained."""
    parts = events(n, seed)
    rng = np.random.default_rng(seed + 1)
    shares = rng.normal(0, 0.004, len(parts)) * (rng.random(len(parts)) > 0.3)
    large = rng.choice(len(parts), 14, replace=False)
    shares[large] = rng.normal(0, 0.16, 14)
    shares[parts["code"] == "MEDS_BIRTH"] = 0.31
    shares[parts["code"] == "LOINC/99"] = 0.5
    values = shares[:, None]
    target = LOG_RISK
    if days:
        values = -0.2 * shares[:, None] * (1 - np.exp(-np.asarray(days) / 120))[None]
        target = {**YEAR, "title": "survival over time", "days": list(days)}
    reference = np.full(values.shape[1], -0.35 if not days else 0.8)
    return Attribution(
        subject=Subject("run", "0" * 8, "0" * 8, 10001),
        modality="ehr",
        kind="events",
        method="permutation",
        target=target,
        parts=parts,
        values=values,
        whole=reference + values.sum(axis=0),
        reference=reference,
        agreement=0.94,
        spread=np.abs(rng.normal(0, 0.01, len(parts))),
    )


def attention(q: int = 120, k: int = 216) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    """Peaked weights with a null key; rows add up to 1 with it."""
    rng = np.random.default_rng(8)
    logits = rng.normal(0, 1.2, (q, k + 1)) + rng.normal(0, 1.0, (1, k + 1))
    logits[:, -1] = rng.normal(5.5, 1.5, q)
    weights = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    parts = events(q)
    rows = [
        f"{name}, {ago(day) or 'no date'}"
        for name, day in zip(parts["description"], parts["days_before"], strict=True)
    ]
    sides, heights, depths = ("left", "right"), ("lower", "middle", "upper"), ("back", "front")
    columns = [
        f"{sides[i % 2]} {heights[i // 72]}, {depths[i // 36 % 2]} (x {7 * (i % 30) - 90}, "
        f"y {i % 17 * 6 - 40}, z {i} mm, slice {i // 5 + 1} of 48)"
        for i in range(k)
    ]
    columns[5] = HOSTILE
    return weights[:, :-1].astype(np.float32), weights[:, -1].astype(np.float32), rows, columns


def ledgers() -> list[ledger.Ledger]:
    """Two runs; the second reads a modality that the patient lacks."""
    return [
        ledger.Ledger(
            title="Co-attention: CT (3-D ResNet) and EHR (CLMBR), CT asks",
            colour="#C2417C",
            target=LOG_RISK,
            base=-0.12,
            shares={"CT": 0.44, "EHR": 0.71},
            prediction=1.03,
            interactions={("CT", "EHR"): 0.12},
            also=ledger.Ledger("s", "#000000", YEAR, 0.83, {"CT": -0.094, "EHR": -0.156}, 0.58),
        ),
        ledger.Ledger(
            title="Late fusion: CT, ECG and EHR (one-hot counts)",
            colour="#D98200",
            target=LOG_RISK,
            base=0.05,
            shares={"CT": -0.22, "ECG": None, "EHR": 0.95},
            prediction=0.78,
            interactions={("CT", "EHR"): -0.03},
            also=ledger.Ledger(
                "s", "#000000", YEAR, 0.81, {"CT": 0.051, "ECG": None, "EHR": -0.213}, 0.648
            ),
        ),
    ]


def outlooks() -> list[outlook.Outlook]:
    """Two runs' curves, the first with a what-if."""
    time = np.arange(0.0, 366.0)
    hazard = 0.0006 * time + 0.18 * (1 - np.exp(-time / 25))
    curve = lambda log_risk: np.exp(-hazard * np.exp(log_risk))  # noqa: E731
    around = (curve(-0.2), curve(0.9), curve(-1.4))
    titles = [item.title for item in ledgers()]
    return [
        outlook.Outlook(titles[0], "#C2417C", time, curve(1.03), *around, what_if=curve(0.32)),
        outlook.Outlook(titles[1], "#D98200", time, curve(0.78), *around),
    ]


def main() -> None:
    """Draw the chosen pieces and what they return."""
    st.set_page_config(layout="wide")
    st.session_state["runs"] = st.session_state.get("runs", 0) + 1
    wanted = st.query_params.get("show", "trust,outlook,ledger,timeline,matrix").split(",")
    st.text(f"script runs: {st.session_state['runs']}")
    if "trust" in wanted:
        _trust()
    if "outlook" in wanted:
        _outlook()
    if "ledger" in wanted:
        _ledger()
    if "timeline" in wanted:
        seed = st.number_input("Patient", value=3, step=1)
        other = st.number_input("Event chosen elsewhere", value=-1, step=1)
        explained = attribution(int(seed))
        chosen = event_timeline.show(
            explained, key="timeline", selected=None if other < 0 else int(other)
        )
        st.text(f"event: {chosen}")
    if "matrix" in wanted:
        weights, null, rows, columns = attention()
        picked = attention_matrix.show(
            weights,
            rows,
            columns,
            key="matrix",
            row_title="EHR events",
            column_title="CT regions",
            null=null,
        )
        st.text(f"picked: {picked}")
    st.button("Run again")


def _trust() -> None:
    cards = [
        Card("good", ("Points into the clot in 72 of 100 patients (chance: 0.05).", "Stable.")),
        Card("mixed", ("Causal codes rank high (AUROC 0.84).", "Differs between two halves.")),
        Card(
            "fails",
            (
                "Survives random weights: it shows edges, not reasons. *a* :smile: <b>b</b>",
                "Similarity with the map of a random network: 0.93.",
            ),
        ),
        Card("unknown", ()),
    ]
    for column, card in zip(st.columns(4), cards, strict=True):
        with column:
            trust_card.show(card, key=card.level)


def _outlook() -> None:
    curves = outlooks()
    observed = outlook.Outcome(45.0, True, "death from any cause")
    for name, part, seen in (("one", curves[:1], None), ("two", curves, observed)):
        figure = outlook.survival_outlook(
            part, 365.0, event_title="death from any cause", outcome=seen
        )
        st.plotly_chart(figure, theme=None, key=f"outlook-{name}")
    rng = np.random.default_rng(2)
    standings = [
        outlook.Standing(c.title, c.colour, 1 - float(c.patient[-1]), rng.beta(2, 6, 1098))
        for c in curves
    ]
    strip = outlook.percentile_strip(standings, "Predicted chance of death within 365 days")
    st.plotly_chart(strip, theme=None, key="strip")
    days = tuple(float(day) for day in range(0, 361, 30))
    over_time = outlook.shares_over_time(attribution(days=days))
    st.plotly_chart(over_time, theme=None, key="over-time")


def _ledger() -> None:
    both = ledgers()
    st.plotly_chart(ledger.waterfall(both[:1]), theme=None, key="ledger-one")
    st.plotly_chart(ledger.waterfall(both), theme=None, key="ledger-two")
    st.plotly_chart(ledger.event_waterfall(attribution()), theme=None, key="ledger-events")


if __name__ == "__main__":
    main()
