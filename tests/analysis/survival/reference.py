"""R's answers of tests/reference/r_reviewer.json, and its patients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from analysis.survival.data import SurvivalData

FILE = Path(__file__).resolve().parents[2] / "reference" / "r_reviewer.json"
R: dict[str, Any] = json.loads(FILE.read_text())
LUNG = SurvivalData(R["lung"]["time"], R["lung"]["event"])
HORIZON = float(R["lung"]["horizon"])
PREDICTED = {name: np.array(R["lung"][name]) for name in ("first", "second")}


def repeated(data: SurvivalData, weights: np.ndarray) -> tuple[SurvivalData, np.ndarray]:
    """The slow twin of one weighted copy: its rows, repeated."""
    rows = np.repeat(np.arange(data.n), weights)
    return data.subset(rows), rows
