"""Calibration, net benefit, accuracy over time, transfer, subgroups: drawn is what was computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from analysis.reviewer.survival import Elsewhere, Prediction, Question, survival_statistics
from analysis.survival.data import SurvivalData
from app.figures import assessment as figures
from app.theme import RunStyle

NAMES = ["good", "poor", "ranks"]
STYLES = {
    "good": RunStyle("Good <run>", "#0072B2", "square"),
    "poor": RunStyle("Poor run", "#D98200", "circle"),
    "ranks": RunStyle("Only ranks", "#3F474F", "diamond"),
}


def patients(n: int, seed: int) -> tuple[SurvivalData, np.ndarray]:
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=n)
    time = rng.exponential(400 / np.exp(risk))
    censored = rng.uniform(100, 900, size=n)
    return SurvivalData(np.minimum(time, censored) + 1, time <= censored), risk


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    data, risk = patients(240, 0)
    other, risk_2 = patients(120, 1)
    rng = np.random.default_rng(2)
    noisy = risk + rng.normal(size=len(risk))

    def curve(shown: np.ndarray) -> Any:
        return lambda times: np.exp(-np.exp(shown)[:, None] * times[None] / 400)

    predictions = [
        Prediction("good", risk, curve(risk)),
        Prediction("poor", noisy, curve(noisy)),
        Prediction("ranks", risk, lacking="No curve."),
    ]
    half = np.arange(len(risk)) % 2 == 0
    question = Question(
        data=data,
        train=data,
        horizon_days=365,
        threshold=0.5,
        attributes={"sex": {"F": half, "M": ~half}, "modality ct": {"with CT": half}},
        elsewhere=Elsewhere("external", other, dict.fromkeys(NAMES, risk_2)),
        n_resamples=60,
    )
    return survival_statistics(predictions, question)


def words(figure: go.Figure) -> str:
    return " ".join(str(a.text) for a in figure.layout.annotations)


def row(told: dict[str, Any], name: str) -> dict[str, Any]:
    return next(r for r in told["runs"] if r["run"] == name)


def test_calibration_draws_every_tenth_and_the_smooth_curve(told: dict[str, Any]) -> None:
    figure = figures.calibration(told, NAMES, STYLES)
    marks = [t for t in figure.data if t.mode == "markers"]
    assert len(marks) == 2  # who has no probability has no panel
    for trace, name in zip(marks, ("good", "poor"), strict=True):
        groups = row(told, name)["calibration"]["groups"]
        groups = [g for g in groups if g["observed"]["value"] is not None]
        assert len(groups) >= 9
        np.testing.assert_allclose(trace.x, [g["predicted"] for g in groups])
        np.testing.assert_allclose(trace.y, [g["observed"]["value"] for g in groups])
    assert "Good &lt;run&gt;" in words(figure)
    assert "O/E" in words(figure)
    assert len(figures.calibration_frame(told)) == 20


def test_net_benefit_stands_beside_everybody_and_nobody(told: dict[str, Any]) -> None:
    figure = figures.net_benefit(told, NAMES, STYLES)
    by_name = {t.name: t for t in figure.data if t.name}
    assert set(by_name) == {"everybody", "nobody", "Good &lt;run&gt;", "Poor run"}
    np.testing.assert_allclose(
        np.array(by_name["Poor run"].y, float),
        np.array(row(told, "poor")["net_benefit"]["value"], float),
    )
    assert "threshold 0.50" in words(figure)
    frame = figures.curve_frame(told, "net_benefit")
    assert set(frame["run"]) == {"good", "poor"}


@pytest.mark.parametrize("measure", ["auc", "brier"])
def test_over_time(told: dict[str, Any], measure: str) -> None:
    figure = figures.over_time(told, NAMES, STYLES, measure)
    titles = {t.name for t in figure.data if t.name}
    assert ("Kaplan-Meier" in titles) == (measure == "brier")
    assert ("Only ranks" in titles) == (measure == "auc")
    curve = row(told, "good")[measure]["curve"]
    drawn = next(t for t in figure.data if t.name == "Good &lt;run&gt;")
    np.testing.assert_allclose(np.array(drawn.y, float), np.array(curve["value"], float))


def test_here_and_elsewhere(told: dict[str, Any]) -> None:
    figure = figures.transfer(told, NAMES, STYLES)
    marks = [t.x[0] for t in figure.data if t.mode == "markers"]
    expected = [
        v
        for name in NAMES
        for v in (row(told, name)["score"]["value"], row(told, name)["elsewhere"]["score"]["value"])
    ]
    np.testing.assert_allclose(marks, expected)
    assert words(figure).count("points, p") == 3


def test_subgroups(told: dict[str, Any]) -> None:
    figure = figures.subgroups(told, "good", STYLES["good"])
    labels = list(figure.layout.yaxis.ticktext)
    assert labels[0] == "<b>Sex</b>"
    assert labels[3] == "<b>Modality</b>"
    assert any(label.startswith("F (120, ") for label in labels)
    assert "between levels" in words(figure)
    assert len(figures.subgroup_frame(told)) == 9
