"""Results of the report as plain JSON: what is undefined is null, curves at six digits."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.classification.evaluation import interval_json, number_json
from analysis.survival.alerts import MEASURES, Alerts
from analysis.survival.calibration import Calibration
from analysis.survival.comparison import holm
from analysis.survival.concordance import Multiplicities
from analysis.survival.data import Floats
from analysis.survival.decision_curve import net_benefit
from analysis.survival.observed import Observed
from analysis.survival.reclassification import Reclassification
from analysis.survival.resampled import PointwiseBand, difference_p, interval
from analysis.survival.subgroups import Drop, Subgroup, heterogeneity


def numbers_json(values: Floats) -> list[float | None]:
    """(T,) numbers at six digits; nan is null."""
    return [number_json(float(v)) for v in np.round(values, 6)]


def band_json(band: PointwiseBand) -> dict[str, list[float | None]]:
    """{at, value, low, high} of a curve."""
    return {name: numbers_json(getattr(band, name)) for name in ("at", "value", "low", "high")}


def difference_json(value: float, sample: Floats) -> dict[str, Any]:
    """A difference with its interval and two-sided bootstrap p, from resampled differences (B,)."""
    p = float("nan") if np.isnan(value) else difference_p(sample)
    return {**interval_json(interval(value, sample)), "p": number_json(p)}


def adjust(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The pairs, each difference of score, AUC and Brier with its p adjusted for all pairs."""
    for name in ("score", "auc", "brier"):
        parts = [pair[name] for pair in pairs if pair.get(name)]
        p = [np.nan if part["p"] is None else part["p"] for part in parts]
        for part, adjusted in zip(parts, holm(np.array(p, np.float64)).tolist(), strict=True):
            part["p_holm"] = number_json(adjusted)
    return pairs


def calibration_json(found: Calibration) -> dict[str, Any]:
    """Everything of a `Calibration`."""
    smooth = found.smooth
    return {
        "predicted": number_json(found.predicted),
        "observed": interval_json(found.observed),
        "observed_to_expected": interval_json(found.observed_to_expected),
        "intercept": interval_json(found.intercept),
        "slope": interval_json(found.slope),
        "line_undefined": found.line_undefined,
        "groups": [
            {"n": g.n, "predicted": g.predicted, "observed": interval_json(g.observed)}
            for g in found.groups
        ],
        "smooth": None if smooth.curve is None else band_json(smooth.curve),
        **{name: interval_json(getattr(smooth, name)) for name in ("ici", "e50", "e90")},
        "smooth_undefined": smooth.undefined,
        "undefined": found.undefined,
    }


def benefit_at(
    observed: Observed, chances: Floats, threshold: float, weights: Multiplicities
) -> dict[str, float | None]:
    """Net benefit with its interval at one threshold; of treating all with chances of 1."""
    value = net_benefit(observed, chances, threshold)[0, 0]
    sample = net_benefit(observed, chances, threshold, weights)[:, 0]
    return interval_json(interval(float(value), sample))


def alerts_json(found: Alerts) -> dict[str, Any]:
    """Everything of `Alerts`."""
    return {
        "threshold": found.threshold,
        "n": found.n,
        "n_flagged": found.n_flagged,
        **{name: interval_json(getattr(found, name)) for name in (*MEASURES, "needed")},
        "undefined": found.undefined,
    }


def reclassification_json(found: Reclassification) -> dict[str, Any]:
    """Everything of a `Reclassification`; rows are the first prediction's groups."""
    return {
        "cuts": numbers_json(found.cuts),
        "counts": found.counts.tolist(),
        "observed_risk": [numbers_json(row) for row in found.risk],
        "n_up": found.n_up,
        "n_down": found.n_down,
        **{name: interval_json(getattr(found, name)) for name in ("events", "nonevents", "total")},
        "p": number_json(found.p),
        "undefined": found.undefined,
    }


def subgroups_json(found: tuple[Subgroup, ...]) -> list[dict[str, Any]]:
    """One entry an attribute: its levels and Cochran's Q over them, Holm over the attributes."""
    out = []
    names = dict.fromkeys(level.attribute for level in found)
    grouped = [[level for level in found if level.attribute == name] for name in names]
    tests = [heterogeneity(levels) for levels in grouped]
    adjusted = holm(np.array([test.p for test in tests], np.float64)).tolist()
    for attribute, levels, test, p_holm in zip(names, grouped, tests, adjusted, strict=True):
        out.append(
            {
                "attribute": attribute,
                "levels": [
                    {
                        "level": level.level,
                        "n": level.n,
                        "events": level.n_events,
                        "score": interval_json(level.score),
                        "undefined": level.undefined,
                    }
                    for level in levels
                ],
                "q": number_json(test.q),
                "df": test.df,
                "p": number_json(test.p),
                "p_holm": number_json(p_holm),
                "undefined": test.undefined,
            }
        )
    return out


def drop_json(found: Drop, other: str, n: int, events: int) -> dict[str, Any]:
    """The score elsewhere, n and events there, and how it changed."""
    return {
        "split": other,
        "n": n,
        "events": events,
        "score": interval_json(found.second),
        "change": interval_json(found.change),
        "p": number_json(found.p),
        "undefined": found.undefined,
    }
