"""Subgroups of a cohort's patients: site, sex, age band, and which modalities they have."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd

from analysis.cohort.cohort import Cohort
from analysis.features import Ids
from analysis.survival.data import Bools, Floats

AGE_EDGES = (50.0, 65.0, 80.0)
NOT_STATED = "not stated"

Attributes = dict[str, dict[str, Bools]]


def attributes_of(
    cohort: Cohort, subject_ids: Ids, present: Mapping[str, Bools] | None = None
) -> Attributes:
    """{attribute: {level: (n,) bool}} of the patients; only attributes of 2 or more levels.

    present: {modality: (n,) bool} as the runs read them. Levels of an attribute share no patient
    and hold everybody; who has no entry is 'not stated'.
    """
    rows = cohort.subjects.loc[subject_ids]
    found: Attributes = {}
    for name in ("site", "sex"):
        values = rows[name]
        stated = values.notna().to_numpy()
        texts = values.astype(str).to_numpy()
        found[name] = {str(v): stated & (texts == v) for v in sorted(set(texts[stated]))}
        found[name][NOT_STATED] = ~stated
    found["age"] = age_bands(pd.to_numeric(rows["age_years"]).to_numpy(np.float64))
    for name, there in (present or {}).items():
        title = cohort.spec.modalities[name].title
        found[f"modality {name}"] = {f"with {title}": there, f"without {title}": ~there}
    kept = {a: {k: v for k, v in levels.items() if v.any()} for a, levels in found.items()}
    return {attribute: levels for attribute, levels in kept.items() if len(levels) > 1}


def age_bands(age_years: Floats) -> dict[str, Bools]:
    """{'under 50', '50 to 64', ...: (n,) bool}; missing ages are 'not stated'."""
    names = [f"under {AGE_EDGES[0]:g}"]
    names += [f"{lower:g} to {upper - 1:g}" for lower, upper in pairwise(AGE_EDGES)]
    names.append(f"{AGE_EDGES[-1]:g} or older")
    known = ~np.isnan(age_years)
    band = np.searchsorted(AGE_EDGES, age_years, side="right")
    bands = {name: known & (band == k) for k, name in enumerate(names)}
    return {**bands, NOT_STATED: ~known}
