"""How the modalities fared in training: gradient norms and scores alone, epoch by epoch.

`gradient_norm` is the norm of the gradient that reaches a modality's own parameters (projection,
encoder, and linear path where it is trained). A modality whose share of the norms soon falls
while it could say more is outrun by another (Wang et al., CVPR 2020; Peng et al., CVPR 2022).
Norms also grow with the number of parameters, so that a share shows a course, not an importance.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.cohort.readers.frame import read_frame
from analysis.cohort.schema import CohortError
from models.checkpoint import HISTORY_FILE, Run, RunError

ABSENT = "The run has no training history, so how its modalities fared in training is not known."
_COLUMNS = {"epoch", "name", "modality", "value"}


def training_history(run: Run) -> dict[str, Any]:
    """By epoch: each modality's gradient norm, its share of all, and its score alone; plain JSON.

    Lists run over `epochs`; null where an epoch has no number. unimodal_score: of the tuning
    patients who have the modality, told it alone; tuning_score: of all with everything.
    best_epoch: whose weights the run has. `note` says what is not there, and why. Raises RunError
    for a file that is no history.
    """
    nothing: dict[str, Any] = {"epochs": [], "best_epoch": None, "gradient_norm": {}}
    nothing |= {"gradient_share": {}, "unimodal_score": {}, "tuning_score": []}
    path = run.folder / HISTORY_FILE
    if not path.is_file():
        return nothing | {"note": ABSENT}
    table = _read(path)
    names = list(run.config.modalities)
    epochs = sorted(int(e) for e in table["epoch"].unique())
    norms = {n: _course(table, "gradient_norm", n, epochs) for n in names}
    total = np.sum(list(norms.values()), axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = {n: np.where(total > 0, v / total, np.nan) for n, v in norms.items()}
    known = bool(np.isfinite(total).any())
    return {
        "epochs": epochs,
        "best_epoch": run.config.training.best_epoch,
        "gradient_norm": {n: _listed(v) for n, v in norms.items()},
        "gradient_share": {n: _listed(v) for n, v in shares.items()},
        "unimodal_score": {n: _listed(_course(table, "unimodal_score", n, epochs)) for n in names},
        "tuning_score": _listed(_course(table, "tuning_score", "", epochs)),
        "note": None if known else "The run's training history holds no gradient norms.",
    }


def _read(path: Path) -> pd.DataFrame:
    try:
        table = read_frame(path)
    except CohortError as error:
        raise RunError(
            f"{path}: this is no readable training history; remove it or train again."
        ) from error
    if not set(table.columns) >= _COLUMNS:
        raise RunError(
            f"{path}: a training history has the columns {', '.join(sorted(_COLUMNS))}, this file "
            f"has {', '.join(map(str, table.columns))}; remove it or train again."
        )
    try:
        epochs = pd.to_numeric(table["epoch"]).astype("int64")
        values = pd.to_numeric(table["value"]).astype("float64")
    except (ValueError, TypeError, OverflowError) as error:
        raise RunError(
            f"{path}: its epochs are no whole numbers or its values no numbers; remove it or train "
            "again."
        ) from error
    words = {name: table[name].fillna("").map(str) for name in ("name", "modality")}
    return table.assign(epoch=epochs, value=values, **words)


def _course(table: pd.DataFrame, name: str, modality: str, epochs: list[int]) -> Any:
    rows = table[(table["name"] == name) & (table["modality"] == modality)]
    course = rows.drop_duplicates("epoch", keep="last").set_index("epoch")["value"]
    return course.reindex(epochs).to_numpy(np.float64)


def _listed(values: Any) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]
