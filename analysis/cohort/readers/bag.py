"""Bags: any number of feature vectors a subject (tiles of a slide, stains of a tissue core)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from analysis.cohort.readers.frame import column_texts, integers, read_arrow
from analysis.cohort.schema import CohortError


@dataclass(frozen=True)
class Bag:
    """subject_ids: (S,) int64, ascending. starts: (S + 1,) int64; subject s owns the rows
    starts[s]:starts[s + 1]. instances: E names. features: (E, F) float32, finite.
    """

    subject_ids: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    instances: tuple[str, ...]
    features: npt.NDArray[np.float32]

    def rows(self, subject_id: int) -> slice:
        """The rows of a subject; an empty slice when it has none."""
        at = int(np.searchsorted(self.subject_ids, subject_id))
        if at == len(self.subject_ids) or self.subject_ids[at] != subject_id:
            return slice(0, 0)
        return slice(int(self.starts[at]), int(self.starts[at + 1]))


def read_bag(path: Path, width: int) -> Bag:
    """Read a bag parquet: subject_id, instance, features (a list of `width` numbers a row).

    Instances keep the file's order within a subject. Raises CohortError on another width, a
    missing feature, NaN or infinity.
    """
    table = read_arrow(path, ("subject_id", "instance", "features"), ())
    subject = integers(table, "subject_id", path)
    column = table["features"]
    kind = column.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not (is_list or pa.types.is_fixed_size_list(kind)):
        raise CohortError(f"{path}: column 'features' holds {kind}; use lists of float32.")
    lengths = np.asarray(pc.fill_null(pc.list_value_length(column), -1).to_numpy(), np.int64)
    wrong = np.flatnonzero(lengths != width)
    if len(wrong):
        raise CohortError(
            f"{path}: {len(wrong)} instances are not {width} wide (subject {subject[wrong[0]]}: "
            f"{max(int(lengths[wrong[0]]), 0)}); write equal widths or mend feature_width."
        )
    try:
        flat = pc.cast(pc.list_flatten(column), pa.float32(), safe=False)
    except pa.ArrowException as error:
        raise CohortError(f"{path}: column 'features' holds {kind}; use float32.") from error
    features = np.asarray(flat.to_numpy(zero_copy_only=False), np.float32).reshape(-1, width)
    broken = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(broken):
        raise CohortError(
            f"{path}: {len(broken)} instances hold NaN or infinite features (subject "
            f"{subject[broken[0]]}); compute them again or remove the instances."
        )
    order = np.argsort(subject, kind="stable")
    names = column_texts(table, "instance", path)
    subject_ids, first = np.unique(subject[order], return_index=True)
    return Bag(
        subject_ids,
        np.append(first, len(subject)).astype(np.int64),
        tuple(str(names[i]) for i in order),
        features[order],
    )
