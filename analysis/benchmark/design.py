"""What a plain regression reads of a patient: all columns side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from analysis.cohort.cohort import Cohort
from analysis.cohort.dataset import CohortDataset, TableReading, all_inputs
from analysis.experiment import table_config
from analysis.features import Ids
from models.contracts import Kind
from models.encoders.table import TableEncoder

Floats = npt.NDArray[np.float64]


def design(
    cohort: Cohort, modalities: Sequence[str], train: Ids, test: Ids
) -> tuple[Floats, Floats]:
    """(n, P) columns of the training and of the test patients; all scales from `train`.

    A table gives what the strategies' linear path reads of it (standardised, drawn in at 4 sd,
    nominal columns one a category, a missing value at the training mean and a flag that says
    so). A bag gives the standardised mean of its instances; an absent one is the training mean
    with a flag. Columns that do not vary among `train` are left out.
    """
    parts = [
        _bag(cohort, name, train, test)
        if cohort.modality(name, Kind.TABLE, Kind.BAG).kind is Kind.BAG
        else _table(cohort, name, train, test)
        for name in modalities
    ]
    a, b = (np.concatenate([part[i] for part in parts], axis=1) for i in (0, 1))
    varies = a.std(axis=0) > 1e-9
    return a[:, varies], b[:, varies]


def _table(cohort: Cohort, name: str, train: Ids, test: Ids) -> list[Floats]:
    encoder = TableEncoder(table_config(cohort, name)).eval()
    inputs = [
        all_inputs(CohortDataset(cohort, ids, {name: TableReading()})).inputs[name]
        for ids in (train, test)
    ]
    encoder.fit(inputs[0])
    with torch.no_grad():
        return [encoder(x).pooled.double().numpy() for x in inputs]


def _bag(cohort: Cohort, name: str, train: Ids, test: Ids) -> list[Floats]:
    bag = cohort.bag(name)
    has = np.isin(np.concatenate([train, test]), bag.subject_ids)
    means = np.zeros((len(has), bag.features.shape[1]))
    for i, subject in enumerate([*train.tolist(), *test.tolist()]):
        if has[i]:
            means[i] = bag.features[bag.rows(subject)].mean(axis=0)
    seen = means[: len(train)][has[: len(train)]]
    sd = seen.std(axis=0)
    z = (means - seen.mean(axis=0)) / np.where(sd > 1e-9, sd, 1.0)
    columns = np.concatenate([z * has[:, None], ~has[:, None]], axis=1).astype(np.float64)
    return [columns[: len(train)], columns[len(train) :]]
