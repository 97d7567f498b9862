"""A cohort that follows another one: its tasks and modalities, but patients of its own.

Runs trained there can be opened here. Nobody has an outcome, and a modality that nobody has is
absent, not empty.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from analysis.cohort.schema import CohortSpec, ModalitySpec, Provenance
from analysis.cohort.write import IMAGING_FILE, write_bag, write_meds, write_table
from models.contracts import Kind


def following_spec(
    like: CohortSpec, having: Collection[str], name: str, title: str, description: str
) -> CohortSpec:
    """The spec of a cohort that follows `like`. having: modalities with rows in imaging.parquet."""
    return CohortSpec(
        name=name,
        title=title,
        description=f"{description} Tasks and modalities follow '{like.name}'.",
        index_event=like.index_event,
        modalities={
            n: m.model_copy(update={"path": IMAGING_FILE if n in having else m.path})
            for n, m in like.modalities.items()
        },
        tasks=like.tasks,
        provenance=Provenance(source=title.lower()),
        follows=like.follows or like.name,
    )


def write_absent(folder: Path, spec: CohortSpec) -> None:
    """Empty files of the modalities that nobody has."""
    for m in spec.modalities.values():
        if m.kind is Kind.EVENTS:
            events = {
                "subject_id": pd.Series([], dtype="int64"),
                "time": pd.Series([], dtype="datetime64[us]"),
                "code": pd.Series([], dtype=object),
            }
            codes = pd.DataFrame({"code": pd.Series([], dtype=object)})
            write_meds(folder / m.path, pd.DataFrame(events), codes)
        elif m.kind is Kind.TABLE:
            write_table(folder / m.path, _no_rows(m), m.columns)
        elif m.kind is Kind.BAG:
            empty = {name: pd.Series([], dtype=object) for name in ("instance", "features")}
            write_bag(folder / m.path, pd.DataFrame({"subject_id": [], **empty}))


def _no_rows(spec: ModalitySpec) -> pd.DataFrame:
    return pd.DataFrame({"subject_id": [], **{name: [] for name in spec.columns}})
