"""What of the stated truth has the run learnt? The ceiling of every explanation of it.

An explanation can only show what the model uses. Where a run ignores a cause, a faithful map of
it does not show the cause either, so a poor localisation may be the model's fault and not the
method's. The predicted log-risk is regressed on the true summands of the log-hazard.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.trust.estimate import Floats


def knowledge(risk: Floats, terms: pd.DataFrame) -> dict[str, Any] | None:
    """Least squares of the log-risk (n,) on the true terms (n, T) of the same patients.

    r2: share of the predictions' variance that the true terms explain, 0..1. slopes: {term: 1 is
    exactly the truth, 0 not used, shrunk in between}; terms that do not vary are left out. None
    for fewer than 10 patients a term.
    """
    varied = terms.loc[:, terms.std() > 0]
    if varied.shape[1] == 0 or len(risk) < 10 * varied.shape[1]:
        return None
    X = (varied - varied.mean()).to_numpy(np.float64)
    y = np.asarray(risk, np.float64) - np.mean(risk)
    slopes, *_ = np.linalg.lstsq(X, y, rcond=None)
    left = float(((y - X @ slopes) ** 2).sum())
    total = float((y**2).sum())
    return {
        "n": len(y),
        "r2": 1 - left / total if total > 0 else 0.0,
        "slopes": {
            str(name).removeprefix("term_"): float(b)
            for name, b in zip(varied.columns, slopes, strict=True)
        },
    }
