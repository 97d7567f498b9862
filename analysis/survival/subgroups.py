"""Does a run discriminate as well in every subgroup? Estimates of a forest plot and one test.

The subgroups of one attribute share no patient, so their estimates are independent and Cochran's
Q judges whether they scatter more than chance: the sum of squared distances from their
inverse-variance mean, each over its variance, chi-squared with one degree of freedom less than
there are subgroups (Cochran, Biometrics 1954; 10:101). It is taken on the logit scale, with the
bootstrap variance carried there by the delta method: near 1 a score hardly varies, and a small
group with a lucky one would outweigh all others. It says nothing of why they differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from analysis.survival.comparison import ConfidenceInterval
from analysis.survival.concordance import Multiplicities, bootstrap_c, why_undefined
from analysis.survival.data import Bools, Floats, SurvivalData, as_risk
from analysis.survival.observed import once
from analysis.survival.resampled import LEAST_KNOWN, difference_p, interval

# Of fewer a score says nothing: with one event C is 0 or 1 in every resample.
LEAST_PATIENTS, LEAST_EVENTS = 10, 5
_NAN = float("nan")


@dataclass(frozen=True)
class Subgroup:
    """A run's score in the patients of one level, its bootstrap variance; undefined: why none."""

    attribute: str
    level: str
    n: int
    n_events: int
    score: ConfidenceInterval
    variance: float
    undefined: str | None = None


@dataclass(frozen=True)
class Heterogeneity:
    """Cochran's Q over the levels of an attribute with a score inside (0, 1); p in [0, 1]."""

    attribute: str
    q: float
    df: int
    p: float
    undefined: str | None = None


@dataclass(frozen=True)
class Drop:
    """Score in other patients minus that in these: negative where it falls; p two-sided."""

    first: ConfidenceInterval
    second: ConfidenceInterval
    change: ConfidenceInterval
    p: float
    undefined: str | None = None


def subgroup_c(
    data: SurvivalData,
    risks: npt.ArrayLike,
    attributes: Mapping[str, Mapping[str, Bools]],
    weights: Multiplicities,
) -> list[tuple[Subgroup, ...]]:
    """Harrell's C of R risks (R, n) in every level of every attribute, one row a risk.

    attributes: {attribute: {level: (n,) bool}}, levels of one attribute without common patients.
    Intervals over the copies (B, n), of whom the level's patients are taken. A level of fewer
    than 10 patients or 5 events is counted and has no score.
    """
    scores = np.stack([as_risk(data, one) for one in np.atleast_2d(np.asarray(risks))])
    rows: list[list[Subgroup]] = [[] for _ in scores]
    for attribute, levels in attributes.items():
        for level, inside in levels.items():
            n, events = int(inside.sum()), int(data.event[inside].sum())
            reason = too_few(n, events)
            if reason is None:
                part = data.subset(inside)
                reason = why_undefined(part)
            for row, score in zip(rows, scores, strict=True):
                if reason is not None:
                    row.append(no_score(attribute, level, n, events, reason))
                    continue
                mine = score[inside][None]
                value = float(bootstrap_c(part, mine, once(n))[0, 0])
                # One risk at a time: whoever is drawn is the same, which keeps runs paired.
                copies = np.ascontiguousarray(weights[:, inside])
                sample = bootstrap_c(part, mine, copies)[0]
                row.append(with_score(attribute, level, n, events, value, sample))
    return [tuple(row) for row in rows]


def too_few(n: int, events: int, what: str = "events") -> str | None:
    """Why a level has no score, in one sentence; None where it may have one."""
    if n == 0:
        return "No patient is in this group."
    if n < LEAST_PATIENTS or events < LEAST_EVENTS:
        return (
            f"{n} patients with {events} {what} are too few for a score; it needs "
            f"{LEAST_PATIENTS} and {LEAST_EVENTS}."
        )
    return None


def no_score(attribute: str, level: str, n: int, events: int, reason: str) -> Subgroup:
    """A level that is counted and has no score."""
    nothing = ConfidenceInterval(_NAN, _NAN, _NAN)
    return Subgroup(attribute, level, n, events, nothing, _NAN, reason)


def with_score(
    attribute: str, level: str, n: int, events: int, value: float, sample: Floats
) -> Subgroup:
    """A level with its score and the resamples (B,) of it."""
    known = sample[~np.isnan(sample)]
    enough = known.size > 1 and known.size >= LEAST_KNOWN * sample.size
    variance = float(known.var(ddof=1)) if enough else _NAN
    return Subgroup(attribute, level, n, events, interval(value, sample), variance)


def heterogeneity(levels: Sequence[Subgroup]) -> Heterogeneity:
    """Cochran's Q of the levels of one attribute. Raises ValueError for levels of several."""
    names = {level.attribute for level in levels}
    if len(names) != 1:
        raise ValueError("Heterogeneity is judged within one attribute.")
    scored = [s for s in levels if 0 < s.score.value < 1 and s.variance > 0]
    name = names.pop()
    if len(scored) < 2:
        reason = f"Fewer than 2 groups by {name} have a score with a spread."
        return Heterogeneity(name, _NAN, 0, _NAN, reason)
    share = np.array([s.score.value for s in scored])
    value = np.log(share / (1 - share))
    precision = (share * (1 - share)) ** 2 / np.array([s.variance for s in scored])
    centre = (precision * value).sum() / precision.sum()
    q = float((precision * (value - centre) ** 2).sum())
    return Heterogeneity(name, q, len(scored) - 1, float(chi2.sf(q, len(scored) - 1)))


def drop(
    first: float, first_sample: Floats, second: float, second_sample: Floats, reason: str | None
) -> Drop:
    """Second minus first, of different patients: their resamples (B,) are independent draws."""
    change = second_sample - first_sample
    return Drop(
        interval(first, first_sample),
        interval(second, second_sample),
        interval(second - first, change),
        _NAN if reason is not None else difference_p(change),
        reason,
    )
