"""Which run discriminates better, and is the difference more than chance?

Patients are resampled, all runs together, so a difference is judged within the same patients
(paired bootstrap, percentile intervals: Efron & Tibshirani 1993, ch. 13 and 16). Differences are
tested pairwise and adjusted for their number (Holm, Scand J Stat 1979; 6:65).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from analysis.survival.concordance import bootstrap_c, harrell_c, resample_batches, why_undefined
from analysis.survival.data import Floats, SurvivalData, as_risk

LEVEL = 0.95


@dataclass(frozen=True)
class ConfidenceInterval:
    """An estimate with the bounds of its 95% interval; nan where it has no value."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RunConcordance:
    """Harrell's C of one run, in [0, 1], higher is better, 0.5 is chance."""

    run: str
    c: ConfidenceInterval


@dataclass(frozen=True)
class Difference:
    """C of `first` minus C of `second` in the same patients.

    p: two-sided bootstrap p; p_holm: adjusted for all pairs of the comparison. Both in (0, 1].
    """

    first: str
    second: str
    difference: ConfidenceInterval
    p: float
    p_holm: float


@dataclass(frozen=True)
class Comparison:
    """Harrell's C of every run and of every pair, with what is needed to repeat it.

    n_resamples: asked for; n_dropped: of these, without any comparable pair and left out.
    smallest_p: the least p this many resamples can give. undefined: the reason, in a sentence,
    when no value could be computed; None otherwise.
    """

    runs: tuple[RunConcordance, ...]
    differences: tuple[Difference, ...]
    n: int
    n_events: int
    n_resamples: int
    n_dropped: int
    smallest_p: float
    seed: int
    undefined: str | None = None

    def run(self, name: str) -> RunConcordance:
        """Return the result of one run by its name; raises KeyError for an unknown one."""
        found = {result.run: result for result in self.runs}
        if name not in found:
            raise KeyError(f"No run named {name!r}; there are {', '.join(found)}.")
        return found[name]

    def difference(self, first: str, second: str) -> Difference:
        """Return first minus second, in whichever order the pair was computed."""
        for d in self.differences:
            if (d.first, d.second) == (first, second):
                return d
            if (d.second, d.first) == (first, second):
                ci = d.difference
                turned = ConfidenceInterval(-ci.value, -ci.high, -ci.low)
                return Difference(first, second, turned, d.p, d.p_holm)
        raise KeyError(f"No comparison of {first!r} with {second!r}.")


def compare(
    data: SurvivalData,
    risks: Mapping[str, npt.ArrayLike],
    n_resamples: int = 1000,
    seed: int = 0,
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
) -> Comparison:
    """Compare runs by Harrell's C on the same patients.

    risks: {run name: (n,) risk, larger is worse}; at least one run. pairs: (first, second) names
    to take differences of, and to adjust for; all pairs without it. The p-value of a difference d
    is 2 * min((1 + #{d* <= 0}), (1 + #{d* >= 0})) / (B + 1), at most 1, over the B resamples kept
    (Davison & Hinkley 1997, section 4.2); it can therefore never be below 2 / (B + 1), whatever
    the truth. Raises ValueError for a risk that does not fit the data or no run at all.
    """
    if not risks:
        raise ValueError("There is no run to compare.")
    names = list(risks)
    scores = np.stack([as_risk(data, risks[name], f"The risk of run {name!r}") for name in names])
    observed = np.array([harrell_c(data, score) for score in scores])
    batches = resample_batches(data.n, n_resamples, seed)
    resampled = np.concatenate([bootstrap_c(data, scores, w) for w in batches], axis=1)
    # Whether a pair is comparable depends on no score, so the runs lose the same resamples.
    kept = resampled[:, ~np.isnan(resampled[0])]
    n_kept = kept.shape[1]

    at = {name: i for i, name in enumerate(names)}
    wanted = combinations(names, 2) if pairs is None else pairs
    positions = [(at[first], at[second]) for first, second in wanted]
    gaps = [kept[i] - kept[j] for i, j in positions]
    p = np.array([two_sided_p(gap) for gap in gaps])
    differences = tuple(
        Difference(
            names[i], names[j], percentile_interval(observed[i] - observed[j], gap), raw, adjusted
        )
        for (i, j), gap, raw, adjusted in zip(
            positions, gaps, p.tolist(), holm(p).tolist(), strict=True
        )
    )
    return Comparison(
        runs=tuple(
            RunConcordance(name, percentile_interval(c, sample))
            for name, c, sample in zip(names, observed, kept, strict=True)
        ),
        differences=differences,
        n=data.n,
        n_events=data.n_events,
        n_resamples=n_resamples,
        n_dropped=n_resamples - n_kept,
        smallest_p=min(1.0, 2 / (n_kept + 1)),
        seed=seed,
        undefined=why_undefined(data),
    )


def holm(p: Floats) -> Floats:
    """Return Holm's step-down adjusted p-values of (m,) p-values, in their order; nan stays nan.

    Holm 1979; R: p.adjust(p, "holm").
    """
    adjusted = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted


def percentile_interval(value: float, sample: Floats) -> ConfidenceInterval:
    """The value with the 2.5% and 97.5% quantiles of its resamples (b,); nan where undefined."""
    if sample.size == 0 or np.isnan(value):
        return ConfidenceInterval(float("nan"), float("nan"), float("nan"))
    low, high = np.quantile(sample, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return ConfidenceInterval(float(value), float(low), float(high))


def two_sided_p(gap: Floats) -> float:
    """Two-sided bootstrap p of resampled differences (b,), as `compare` states it."""
    if gap.size == 0:
        return float("nan")
    fewer = min(int((gap <= 0).sum()), int((gap >= 0).sum()))
    return min(1.0, 2 * (fewer + 1) / (gap.size + 1))
