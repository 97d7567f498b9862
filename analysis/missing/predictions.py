"""What a run says of a split's patients under every combination of its modalities.

Encoding is the expensive part: every modality is encoded once, and the fusion runs once for each
thing that a patient can be told. A modality that is left out is marked absent
(`Encoded.without`), the state that the model was trained to expect; one that the patient lacks
stays absent, so combination S shows what the run says when told S of what the patient has.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import CohortError
from analysis.features import Ids, Progress
from analysis.missing.design import Design, design_of
from analysis.predict import BATCH, predict_stored, run_inputs
from analysis.store import ResultStore
from models.checkpoint import Run
from models.contracts import Encoded, Inputs
from models.fusion.attention import without_maps

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class SubsetPredictions:
    """A run's predictions for n patients under the C combinations of a design.

    subject_ids (n,). have: (n, M) bool, the modalities each patient has, in the run's order.
    values: (C, n, K) log-risk or logits when the patient's own modalities within the combination
    are told and nothing else.
    """

    run: str
    run_hash: str
    cohort: str
    design: Design
    subject_ids: Ids
    have: Bools
    values: Floats

    def of(self, combination: Collection[str]) -> Floats:
        """(n, K) predictions under a combination, in any order of names.

        Raises KeyError for one that the design does not hold.
        """
        found: Floats = self.values[self._at[self.design.code(combination)]]
        return found

    @property
    def as_they_are(self) -> Floats:
        """(n, K) predictions from everything the patients have: those every page shows."""
        whole: Floats = self.values[-1]
        return whole

    @cached_property
    def complete(self) -> Bools:
        """(n,) patients who have all of the run's modalities."""
        return np.asarray(self.have.all(axis=1), bool)

    @cached_property
    def codes(self) -> npt.NDArray[np.int64]:
        """(n,) what each patient has, as `Design.code`."""
        return codes_of(self.have)

    def untold(self, combination: Collection[str]) -> Bools:
        """(n,) patients who have none of a combination, so that the run knows nothing of them."""
        return np.asarray((self.codes & self.design.code(combination)) == 0, bool)

    def told(self, left: npt.NDArray[np.int64]) -> Floats:
        """(R, n, K) predictions when patient i is told left[r, i] (R, n), codes of the design.

        Raises KeyError where the design does not hold what a patient would be told.
        """
        wanted = np.asarray(left, np.int64) & self.codes
        known = np.full(1 << len(self.design.modalities), -1)
        for code, at in self._at.items():
            known[code] = at
        rows = known[wanted]
        if (rows < 0).any():
            raise KeyError("the design does not hold every combination that is asked for.")
        return np.asarray(self.values[rows, np.arange(len(self.subject_ids))], np.float64)

    @cached_property
    def _at(self) -> dict[int, int]:
        return {self.design.code(c): i for i, c in enumerate(self.design.combinations)}


def codes_of(have: Bools) -> npt.NDArray[np.int64]:
    """(n,) the rows of (n, M) bool as whole numbers: bit i stands for modality i."""
    return np.asarray(have @ (1 << np.arange(have.shape[1], dtype=np.int64)), np.int64)


def subset_predictions(
    run: Run,
    cohort: Cohort,
    split: str,
    store: ResultStore,
    progress: Progress | None = None,
) -> SubsetPredictions:
    """Of a split's patients with an outcome for the run's task, stored.

    The whole is `predict_stored`'s, to the last bit. Raises CohortError for a split without such
    patients.
    """
    task = run.config.task.name
    ids = cohort.subject_ids(split, task)
    if not len(ids):
        raise CohortError(
            f"cohort '{cohort.spec.name}' has no patients with task '{task}' in split '{split}'."
        )
    design = design_of(tuple(run.config.modalities))
    parameters = {
        "method": "subset_predictions",
        "run": run.hash,
        "cohort": cohort.fingerprint,
        "task": task,
        "split": split,
        "design": design.parameters,
        "version": 1,
    }

    def make() -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        content = {"run": run.config.name, "n": len(ids), "design": design.words}
        return content, _made(run, cohort, split, store, design, progress)

    found = store.compute(parameters, make, lambda r: np.array_equal(r.arrays["subject_id"], ids))
    return SubsetPredictions(
        run=run.config.name,
        run_hash=run.hash,
        cohort=cohort.fingerprint,
        design=design,
        subject_ids=found.arrays["subject_id"],
        have=found.arrays["have"],
        values=found.arrays["values"],
    )


def _made(
    run: Run,
    cohort: Cohort,
    split: str,
    store: ResultStore,
    design: Design,
    progress: Progress | None,
) -> dict[str, npt.NDArray[Any]]:
    whole = predict_stored(run, cohort, split, store)
    inputs = run_inputs(run, cohort, whole.subject_ids)
    have = np.stack([whole.present[name] for name in design.modalities], axis=1)
    codes = np.array([design.code(c) for c in design.combinations], np.int64)
    left = np.repeat(codes[:, None], len(have), axis=1)
    values = predict_left(run, inputs, left, progress, as_they_are=whole.values)
    return {"subject_id": whole.subject_ids, "have": have, "values": values}


def predict_left(
    run: Run,
    inputs: Inputs,
    left: npt.NDArray[np.int64],
    progress: Progress | None = None,
    *,
    as_they_are: Floats | None = None,
) -> Floats:
    """(R, n, K) predictions when patient i is told left[r, i] of what they have.

    left: (R, n) codes, bit m for the run's modality m. Each patient is encoded once and fused
    once for each different thing that they are told. as_they_are: (n, K) the known predictions
    from everything: one patient in batches of two sizes differs in the last bits, and the app
    shows one number. progress gets (patients done, of all).
    """
    names = tuple(run.config.modalities)
    have = codes_of(np.stack([inputs[name].present.numpy() for name in names], axis=1))
    wanted = np.asarray(left, np.int64) & have
    n = wanted.shape[1]
    values = np.empty((*wanted.shape, run.config.task.outputs))
    with torch.inference_mode(), without_maps():
        for part in torch.split(torch.arange(n), BATCH):
            encoded = run.model.encode({name: item.take(part) for name, item in inputs.items()})
            rows = part.numpy()
            here = wanted[:, rows]
            for code in np.unique(here):
                at, patient = np.nonzero(here == code)
                whole = have[rows[patient]] == code
                if as_they_are is not None:
                    values[at[whole], rows[patient[whole]]] = as_they_are[rows[patient[whole]]]
                    at, patient = at[~whole], patient[~whole]
                if len(at):
                    values[at, rows[patient]] = _fused(run, encoded, int(code), patient)
            if progress is not None:
                progress(int(part[-1]) + 1, n)
    return values


def _fused(
    run: Run, encoded: Mapping[str, Encoded], code: int, patient: npt.NDArray[np.int64]
) -> Floats:
    """(r, K) predictions for rows of a batch when only what `code` names is told."""
    # Told nothing, all patients are one.
    who, back = np.unique(patient if code else np.zeros_like(patient), return_inverse=True)
    some = torch.from_numpy(who)
    everyone = torch.ones(len(who), dtype=torch.bool)
    told = {}
    for bit, name in enumerate(run.config.modalities):
        item = encoded[name].take(some).without_padding()
        told[name] = item if code >> bit & 1 else item.without(everyone)
    said: Floats = run.model.fuse(told).prediction.double().numpy()[back]
    return said
