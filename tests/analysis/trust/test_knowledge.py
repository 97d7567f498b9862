from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.trust.knowledge import knowledge


def terms(n=200):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {"term_age": rng.normal(size=n), "term_cancer": rng.random(n) < 0.3, "term_none": 0.0}
    ).astype(float)


def test_slopes_and_share_by_hand() -> None:
    t = terms()
    exact = knowledge((3 + t["term_age"] * 0.5 + t["term_cancer"]).to_numpy(), t)
    assert exact["slopes"] == pytest.approx({"age": 0.5, "cancer": 1.0})
    assert exact["r2"] == pytest.approx(1.0)
    assert exact["n"] == 200


def test_a_run_that_knows_nothing() -> None:
    noise = knowledge(np.random.default_rng(1).normal(size=200), terms())
    assert noise["r2"] < 0.05
    assert knowledge(np.zeros(200), terms())["r2"] == 0.0


def test_too_few_patients_or_no_terms_give_none() -> None:
    assert knowledge(np.zeros(15), terms(15)) is None
    assert knowledge(np.zeros(200), terms()[["term_none"]]) is None
