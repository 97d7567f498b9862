"""A report with every part in it, of made-up numbers that are easy to find again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from analysis.attribution.attention import LabelledAttention
from analysis.attribution.case import Subject
from analysis.attribution.export import provenance
from analysis.attribution.result import Attribution, VolumeMap
from analysis.attribution.signal import SignalMap
from analysis.attribution.video import VideoMap
from analysis.cohort.readers.echo import Cine
from analysis.cohort.readers.signal import Signal
from analysis.cohort.readers.volume import Volume
from analysis.echo import CycleMarks
from analysis.outlook import SurvivalOutlook
from app.figures import ledger, outlook
from app.figures.ct_slices import slices_png
from app.figures.ecg_svg import ecg_svg
from app.figures.echo_frames import frame_pairs, legend
from app.figures.told import told_html
from app.report import (
    ModalityPart,
    PatientReport,
    Prediction,
    attention_table,
    part_tables,
    quality,
)
from app.report_blocks import EcgSheet, EchoFrames, EchoView, ToldText
from app.report_document import Chart, Picture, Table

HOSTILE = "<script>fetch('//evil.example/x')</script>\"'&"
HASH = "4be1c0ffee" * 6 + "abcd"
SUBJECT = Subject("co_attention", HASH, "cohort-f00d", 17)
TARGET = {"title": "log-risk", "unit": "log hazard ratio", "worse_is_higher": True}


@dataclass(frozen=True)
class Card:
    level: str
    sentences: tuple[str, ...]


def scan(shape: tuple[int, int, int] = (40, 50, 60)) -> Volume:
    """Soft tissue of 40 HU in air, 2 x 1.5 x 1.5 mm, not at the origin."""
    array = np.full(shape, -1000.0, np.float32)
    array[4:-4, 5:-5, 6:-6] = 40.0
    affine = np.diag([1.5, 1.5, 2.0, 1.0])
    affine[:3, 3] = (-40.0, -20.0, 300.0)
    return Volume(array, affine, (2.0, 1.5, 1.5))


def ct_map(volume: Volume, signed: bool = True, **target: object) -> VolumeMap:
    """Eight cells on a side over the whole scan: one high, one low (or zero)."""
    step = np.asarray(volume.array.shape[::-1]) / 8
    cells = np.diag([*step, 1.0])
    cells[:3, 3] = (step - 1) / 2
    values = np.zeros((8, 8, 8), np.float32)
    values[5, 5, 5] = 0.08
    values[2, 2, 2] = -0.04 if signed else 0.0
    return VolumeMap(
        subject=SUBJECT,
        modality="ct",
        method="occlusion" if signed else "hirescam",
        layer=None if signed else "layer3",
        target={**TARGET, **target},
        values=values,
        affine=volume.affine @ cells,
        signed=signed,
        whole=0.4321,
        parameters={"seed": 4, "block_mm": 40.0},
    )


def events(n: int = 30, *, description: str = "Troponin I, cardiac") -> Attribution:
    rng = np.random.default_rng(7)
    shares = np.round(rng.normal(0, 0.12, n), 6)
    shares[:2] = (0.4444, -0.3333)
    names = [description, "Oxygen saturation", "Pulmonary embolism", "Heparin"]
    return Attribution(
        subject=SUBJECT,
        modality="ehr",
        kind="events",
        method="permutation",
        target=TARGET,
        parts=pd.DataFrame(
            {
                "code": [f"LOINC/{1000 + i}" for i in range(n)],
                "description": [names[i % 4] for i in range(n)],
                "value": np.where(np.arange(n) % 3, np.round(rng.uniform(1, 99, n), 1), np.nan),
                "unit": np.where(np.arange(n) % 3, "ng/mL", ""),
                "time": pd.Timestamp("2020-03-01") - pd.to_timedelta(np.arange(n) * 5, "D"),
                "days_before": np.arange(n) * 5.0,
            }
        ),
        values=shares[:, None],
        whole=np.array([0.4321]),
        reference=np.array([0.4321 - shares.sum() + 2e-7]),
        agreement=0.934,
        spread=np.abs(np.round(rng.normal(0, 0.01, n), 4)),
        evaluations=2052,
        parameters={"seed": 4, "budget": 4096},
    )


def attention() -> LabelledAttention:
    rng = np.random.default_rng(9)
    joint = rng.dirichlet(np.full(9, 0.3), 6)
    return LabelledAttention(
        subject=SUBJECT,
        name="ehr to ct",
        query="ehr",
        key="ct",
        method="mean",
        weights=joint[:, :-1],
        null=joint[:, -1],
        rows=pd.DataFrame(
            {
                "title": [f"event {i}" for i in range(6)],
                "date": pd.to_datetime(["2020-01-02"] * 6),
            }
        ),
        columns=pd.DataFrame({"title": [f"right, lower, slice {i}" for i in range(8)]}),
        heads=4,
        parameters={"attention": "mean", "head": None},
    )


def survival_outlook() -> SurvivalOutlook:
    days = np.linspace(0, 730, 60)
    curve = np.exp(-days / 900)
    return SurvivalOutlook(
        subject=SUBJECT,
        log_risk=0.4321,
        relative=np.log(1.87),
        percentile=87.4,
        times_days=days,
        survival=curve,
        median=np.exp(-days / 2000),
        low=np.exp(-days / 700),
        high=np.exp(-days / 9000),
        horizon_days=365.0,
        at_horizon=0.6666,
        median_days=None,
        n_training=1098,
    )


LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


def ecg(rate_hz: float = 500.0, seconds: float = 10.0) -> Signal:
    """Every lead 0 mV but for I, which is +1 mV from 1.0 to 1.2 s; V5 and V6 not recorded, and
    nothing in III from 0.5 to 1.0 s.
    """
    time = np.arange(round(rate_hz * seconds)) / rate_hz
    array = np.zeros((12, len(time)), np.float32)
    array[0, (time >= 1.0) & (time < 1.2)] = 1
    array[2, (time >= 0.5) & (time < 1.0)] = np.nan
    array[10:] = np.nan
    return Signal(LEADS, array, rate_hz, None, LEADS)


def ecg_map(signed: bool = False) -> SignalMap:
    """100 steps of 0.1 s: in I the largest value from 1.0 to 1.2 s; in V4 half of it at 8 s."""
    values = np.zeros((12, 100), np.float32)
    values[0, 10:12] = 0.5
    values[9, 80] = -0.25 if signed else 0.25
    return SignalMap(
        subject=SUBJECT,
        modality="ecg",
        method="integrated_gradients" if signed else "gradcam",
        layer=None if signed else "stem",
        target=TARGET,
        leads=LEADS,
        values=values,
        step_s=0.1,
        signed=signed,
        whole=0.4,
    )


def echo(frames: int = 20, size: tuple[int, int] = (60, 80)) -> Cine:
    """Grey frames of 50 ms, each a little lighter than the one before."""
    grey = np.arange(40, 40 + frames, dtype=np.uint8)[:, None, None, None]
    pictures = np.broadcast_to(grey, (frames, *size, 3)).copy()
    return Cine(pictures, np.arange(frames) * 50.0, "A4C", False, 0.5)


def echo_map() -> VideoMap:
    """Of 16 frames of A4C, the largest value in the lower right quarter of the second half."""
    values = np.zeros((1, 2, 2, 2), np.float32)
    values[0, 1, 1, 1] = 0.4
    return VideoMap(
        subject=SUBJECT,
        modality="echo",
        method="gradcam",
        layer="stem",
        target=TARGET,
        views=("A4C",),
        values=values,
        frames=4,
        stride=2,
        whole=0.4,
    )


def told(words: str = "") -> Attribution:
    """One sentence of a told table."""
    parts = pd.DataFrame(
        {
            "word": ["BNP", "is", words or "900", "."],
            "is_value": [False, False, True, False],
            "sentence": 0,
            "name": "bnp",
            "title": "BNP",
            "value": 900.0,
            "unit": "pg/mL",
        }
    )
    shares = np.array([0.0, 0.1, 0.4, 0.0])
    return Attribution(
        subject=SUBJECT,
        modality="labs",
        kind="text",
        method="permutation",
        target=TARGET,
        parts=parts,
        values=shares[:, None],
        whole=np.array([0.5]),
        reference=np.array([0.0]),
    )


def heart_parts(words: str = "") -> list[ModalityPart]:
    """An ECG on its sheet, an echo in frames and labs told in words."""
    sheet = EcgSheet(
        svg=ecg_svg(ecg(), ecg_map(), f"ECG {words}", ("nothing", f"most {words}"), words),
        title=f"ECG {words}",
        measures=[("Rate", "54 bpm"), (f"QT {words}", "–")],
        caption=f"9 beats {words}",
    )
    pairs = frame_pairs("A4C", echo(), CycleMarks((2,), (), "file"), echo_map())
    views = [
        EchoView(title=f"Apical {words}", share="100% of the map", frames=pairs),
        EchoView(title="Subcostal", note=f"not recorded {words}"),
    ]
    frames = EchoFrames(
        title=f"Echo {words}",
        views=views,
        legend=legend(echo_map(), ("nothing", f"most {words}")),
        caption=words,
    )
    text = ToldText(title=f"Told {words}", body=told_html(told(words)))
    leads = Table("By lead (9 beats)", ["Lead", "Share"], [[f"I {words}", "80%"]], [1])
    return [
        ModalityPart(title=f"ECG {words}", summary=words, blocks=[sheet], tables=[leads]),
        ModalityPart(title=f"Echo {words}", blocks=[frames], notes=[words]),
        ModalityPart(title=f"Labs {words}", blocks=[text]),
    ]


def full_report(*, words: str = "", outcome: str | None = None) -> PatientReport:
    """words: put into every text that comes from a file."""
    volume = scan()
    found = survival_outlook()
    signed, heat = ct_map(volume), ct_map(volume, signed=False)
    shares = events(description=words or "Troponin I, cardiac")
    raising, lowering = part_tables(shares, top=8)
    title = f"Co-attention: CT and CLMBR events {words}".strip()
    curve = outlook.Outlook(
        title, "#C2417C", found.times_days, found.survival, found.median, found.low, found.high
    )
    entries = ledger.Ledger(
        title, "#C2417C", TARGET, -0.1, {"CT": 0.2, f"EHR {words}": 0.3321, "ECG": None}, 0.4321
    )
    return PatientReport(
        patient=f"17 {words}".strip(),
        cohort=f"Simulated PE cohort {words}",
        cohort_hash="cohort-f00d",
        task=f"Death within a year {words}",
        event_title=f"death from any cause {words}".strip(),
        facts={"Split": "Internal test", "Site": f"A {words}", "Modalities": "CT, EHR"},
        predictions=[Prediction.of(found, title)],
        outcome=outcome,
        outlook=[
            Chart(
                outlook.survival_outlook([curve], 365.0),
                f"Predicted survival falls to 66.7% at day 365. {words}",
                title="Predicted survival",
                caption=f"Band: the middle 80% of 1,098 training patients. {words}",
            )
        ],
        ledger=Chart(ledger.waterfall([entries]), "CT +0.20, EHR +0.33.", caption=words),
        ledger_table=Table.of(ledger.ledger_table([entries]), "Every number of the figure"),
        modalities=[
            ModalityPart(
                title=f"CT {words}",
                run=title,
                summary=f"CT raises the risk by +0.20. {words}",
                pictures=[
                    Picture(
                        slices_png(
                            volume, made, made.peak_mm, 40, 400, title=f"{title}, {made.method}"
                        ),
                        f"Three slices through the strongest point. {words}",
                        f"{made.method}: {quality(made)} {words}",
                    )
                    for made in (signed, heat)
                ],
                cards={f"CT map {words}": Card("fails", (f"Points right in 38% (CI). {words}",))},
            ),
            ModalityPart(
                title="Health record",
                run=title,
                waterfall=Chart(ledger.event_waterfall(shares), "Waterfall", caption=words),
                raising=raising,
                lowering=lowering,
                attention=[attention_table(attention(), f"EHR {words}", "CT")],
                cards={"Event shares": Card("good", ("AUROC of causal codes 0.93.",))},
                notes=[quality(shares), words],
            ),
            *heart_parts(words),
        ],
        what_if=Table.of(
            pd.DataFrame({"Change": [f"Without CT {words}"], "Log-risk": [0.2321]}),
            "Changed records",
        ),
        similar=Table.of(
            pd.DataFrame({"Patient": [204], "Distance": [0.1212], "Outcome": ["alive, day 400"]}),
            "Nearest in the fused space",
        ),
        methods=[provenance(result) for result in (signed, heat, shares, attention())],
        versions={"FusionLens": "0.1.0", "Checkpoint": words or "2024-11"},
        created=datetime(2025, 2, 3, 4, 5),
    )
