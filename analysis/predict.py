"""What a run says of a cohort's patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from analysis.cohort.cohort import Cohort
from analysis.cohort.dataset import CohortDataset, Reading, all_inputs
from analysis.cohort.readings import reading_for
from analysis.cohort.schema import CohortError
from analysis.external import AnyRun, ExternalRun
from analysis.features import Ids, Progress, ensure_features, read_features
from analysis.store import ResultStore
from models.checkpoint import Run, RunConfig
from models.contracts import Encoded, FusionOutput, Inputs, Kind, ModalityInput
from models.encoders.base import ModalityEncoder
from models.fusion.attention import without_maps

Floats = npt.NDArray[np.float64]
BATCH = 16
"""Patients of one call: a fusion over many long sequences holds a matrix a patient."""
# Patients who are read at once, so that a cohort of any size takes the same memory.
_READ = 256


@dataclass(frozen=True)
class Predictions:
    """Predictions of one run for some patients of one cohort.

    subject_ids (n,). values (n, K): log-risk (K = 1, higher is worse) or logits. present:
    {modality: (n,) bool}. before, after: {modality: (n, D)} embeddings around alignment, fused
    (n, D'). A patient without any of the run's modalities has the prediction that the run
    gives when it knows nothing; `known` (n,) bool is false there. A run without a model has no
    modalities and no embeddings, and only patients with a prediction.
    """

    run: str
    run_hash: str
    cohort: str
    subject_ids: Ids
    values: Floats
    present: Mapping[str, npt.NDArray[np.bool_]]
    before: Mapping[str, npt.NDArray[np.float32]]
    after: Mapping[str, npt.NDArray[np.float32]]
    fused: npt.NDArray[np.float32]

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """(n,) patients with at least one of the run's modalities."""
        if not self.present:
            return np.ones(len(self.subject_ids), bool)
        return np.asarray(np.stack(list(self.present.values())).any(axis=0), bool)

    @property
    def risk(self) -> Floats:
        """(n,) log-risk. Raises ValueError for a classification run."""
        if self.values.shape[1] != 1:
            raise ValueError(f"run '{self.run}' predicts classes, not a risk.")
        return self.values[:, 0]

    def of(self, subject_ids: Ids) -> Predictions:
        """The same for some of the patients, in their order; all must be among them."""
        rows = pd.Index(self.subject_ids).get_indexer(pd.Index(subject_ids))
        return Predictions(
            run=self.run,
            run_hash=self.run_hash,
            cohort=self.cohort,
            subject_ids=np.asarray(subject_ids, np.int64),
            values=self.values[rows],
            present={name: there[rows] for name, there in self.present.items()},
            before={name: array[rows] for name, array in self.before.items()},
            after={name: array[rows] for name, array in self.after.items()},
            fused=self.fused[rows],
        )


def kind_on_file(kind: Kind) -> Kind:
    """What a modality is in a cohort: a text that models read is a table, told."""
    return Kind.TABLE if kind is Kind.TEXT else kind


def encode_frozen(
    run: Run, cohort: Cohort, subject_ids: npt.ArrayLike, progress: Progress | None = None
) -> dict[str, Path]:
    """{modality: feature file} of the frozen encoders, with all of these patients in them.

    Raises CohortError when the cohort lacks one of the run's modalities altogether or has it as
    another kind.
    """
    found = {}
    for name, modality in run.config.modalities.items():
        if name not in cohort.spec.modalities:
            raise CohortError(
                f"run '{run.config.name}' reads '{name}', which cohort '{cohort.spec.name}' "
                f"does not have; it has {', '.join(cohort.spec.modalities)}."
            )
        cohort.modality(name, kind_on_file(modality.kind))
        if modality.encoder.frozen and modality.encoder.weights:
            encoder, reading = _reading(run, name)
            found[name] = ensure_features(
                cohort,
                name,
                encoder,
                modality.encoder.weights,
                reading,
                subject_ids,
                progress=progress,
            )
    return found


def _reading(run: Run, name: str) -> tuple[ModalityEncoder, Reading]:
    encoder = run.model.encoder(name)
    return encoder, reading_for(encoder, run.vocabularies.get(name))


def run_inputs(
    run: Run, cohort: Cohort, subject_ids: npt.ArrayLike, progress: Progress | None = None
) -> Inputs:
    """What the run's model reads of these patients: stored features where an encoder is frozen.

    Raises CohortError as `encode_frozen` does.
    """
    ids = np.asarray(subject_ids, np.int64)
    files = encode_frozen(run, cohort, ids, progress)
    inputs: dict[str, ModalityInput | Encoded] = {
        name: read_features(path, ids) for name, path in files.items() if path.is_file()
    }
    raw = {name: _reading(run, name)[1] for name in run.config.modalities if name not in inputs}
    if raw:
        inputs.update(all_inputs(CohortDataset(cohort, ids, raw)).inputs)
    return {name: inputs[name] for name in run.config.modalities}


def predict(
    run: Run, cohort: Cohort, subject_ids: npt.ArrayLike, progress: Progress | None = None
) -> Predictions:
    """Predictions and embeddings for `subject_ids`, in that order."""
    ids = np.asarray(subject_ids, np.int64)
    if not len(ids):
        raise CohortError(f"cohort '{cohort.spec.name}': no patients to predict for.")
    encode_frozen(run, cohort, ids, progress)
    outputs, present = [], []
    for start in range(0, len(ids), _READ):
        inputs = run_inputs(run, cohort, ids[start : start + _READ])
        present.append({name: item.present.numpy() for name, item in inputs.items()})
        with torch.inference_mode(), without_maps():
            for rows in torch.split(torch.arange(len(ids[start : start + _READ])), BATCH):
                output = run.model({name: _batch(item, rows) for name, item in inputs.items()})
                # Some strategies give their maps nevertheless; those of all patients are gigabytes.
                outputs.append(replace(output, attention=()))
    return _join(run, cohort, ids, present, outputs)


def _batch(item: ModalityInput | Encoded, rows: torch.Tensor) -> ModalityInput | Encoded:
    taken = item.take(rows)
    return taken.without_padding() if isinstance(taken, Encoded) else taken


def _join(
    run: Run,
    cohort: Cohort,
    ids: Ids,
    present: list[dict[str, npt.NDArray[np.bool_]]],
    outputs: list[FusionOutput],
) -> Predictions:
    def gather(part: str) -> dict[str, npt.NDArray[np.float32]]:
        names = getattr(outputs[0], part)
        return {n: torch.cat([getattr(o, part)[n] for o in outputs]).numpy() for n in names}

    return Predictions(
        run=run.config.name,
        run_hash=run.hash,
        cohort=cohort.fingerprint,
        subject_ids=ids,
        values=torch.cat([o.prediction for o in outputs]).double().numpy(),
        present={n: np.concatenate([part[n] for part in present]) for n in present[0]},
        before=gather("before"),
        after=gather("after"),
        fused=torch.cat([o.fused for o in outputs]).numpy(),
    )


def predict_stored(
    run: AnyRun,
    cohort: Cohort,
    split: str,
    store: ResultStore,
    progress: Progress | None = None,
    *,
    everyone: bool = False,
) -> Predictions:
    """Predictions for a split's patients with an outcome for the run's task, computed once.

    everyone: also for those without an outcome. A run without a model has what was imported, for
    those who have it; raises CohortError where that is nobody.
    """
    if isinstance(run, ExternalRun):
        return _imported(run, cohort, split, everyone)

    ids, parameters = _asked(run.config, run.hash, cohort, split, everyone)

    def stored() -> Predictions | None:
        return read_stored(run.config, run.hash, cohort, split, store, everyone=everyone)

    def make() -> Predictions:
        made = predict(run, cohort, ids, progress)
        store.put(parameters, {"run": run.config.name, "n": len(ids)}, _pack(made))
        return made

    return store.once(parameters, stored, make)


def _imported(run: ExternalRun, cohort: Cohort, split: str, everyone: bool) -> Predictions:
    asked = cohort.subject_ids(split, None if everyone else run.config.task.name)
    ids, values = run.of(cohort, asked)
    if not len(ids):
        raise CohortError(
            f"'{run.config.name}' has no prediction for any of the {len(asked):,} patients of "
            f"split '{split}' with an outcome; import predictions that cover them."
        )
    nothing = np.empty((len(ids), 0), np.float32)
    return Predictions(
        run.config.name, run.hash, cohort.fingerprint, ids, values, {}, {}, {}, nothing
    )


def on_common_patients(made: Sequence[Predictions], ids: Ids) -> list[Predictions]:
    """All predictions for those of the patients `ids` whom every run has predicted.

    Runs are compared in the same patients: one that lacks a prediction for a patient takes the
    patient out for all. Raises CohortError where none is left.
    """
    common = ids[np.all([np.isin(ids, one.subject_ids) for one in made], axis=0)]
    if not len(common):
        raise CohortError("no patient has a prediction of every run; compare fewer runs.")
    return [one if np.array_equal(one.subject_ids, common) else one.of(common) for one in made]


def without_prediction(made: Sequence[Predictions], ids: Ids) -> dict[str, Any]:
    """Who of the patients `ids` is left out of a comparison, as JSON; empty where nobody is.

    {'left_out': {'n': patients whom at least one run did not predict, 'of': all, 'runs': {run:
    patients whom it did not predict}}}.
    """
    lacking = {one.run: int((~np.isin(ids, one.subject_ids)).sum()) for one in made}
    lacking = {run: n for run, n in lacking.items() if n}
    if not lacking:
        return {}
    n = len(ids) - len(on_common_patients(made, ids)[0].subject_ids)
    return {"left_out": {"n": n, "of": len(ids), "runs": lacking}}


def read_stored(
    config: RunConfig,
    run_hash: str,
    cohort: Cohort,
    split: str,
    store: ResultStore,
    *,
    everyone: bool = False,
) -> Predictions | None:
    """What `predict_stored` has stored of a run that need not be loaded; None where nothing is."""
    ids, parameters = _asked(config, run_hash, cohort, split, everyone)
    found = store.get(parameters)
    if found is None or not np.array_equal(found.arrays["subject_id"], ids):
        return None
    return _unpack(config, run_hash, cohort, found.arrays)


def _asked(
    config: RunConfig, run_hash: str, cohort: Cohort, split: str, everyone: bool
) -> tuple[Ids, dict[str, Any]]:
    """Whom a stored prediction is for, and what it is found by."""
    ids = cohort.subject_ids(split, config.task.name)
    parameters: dict[str, Any] = {
        "method": "predict",
        "run": run_hash,
        "cohort": cohort.fingerprint,
        "task": config.task.name,
        "split": split,
        "version": 1,
    }
    if everyone and len(ids) < len(cohort.subject_ids(split)):
        ids = cohort.subject_ids(split)
        parameters["everyone"] = True
    return ids, parameters


def _pack(made: Predictions) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {
        "subject_id": made.subject_ids,
        "values": made.values,
        "fused": made.fused,
    }
    for part in ("present", "before", "after"):
        arrays.update({f"{part}/{name}": a for name, a in getattr(made, part).items()})
    return arrays


def _unpack(
    config: RunConfig, run_hash: str, cohort: Cohort, arrays: Mapping[str, npt.NDArray[Any]]
) -> Predictions:
    def part(name: str) -> dict[str, npt.NDArray[Any]]:
        """In the run's order; a file gives them by the alphabet."""
        keys = {modality: f"{name}/{modality}" for modality in config.modalities}
        return {modality: arrays[key] for modality, key in keys.items() if key in arrays}

    return Predictions(
        run=config.name,
        run_hash=run_hash,
        cohort=cohort.fingerprint,
        subject_ids=arrays["subject_id"],
        values=arrays["values"],
        present=part("present"),
        before=part("before"),
        after=part("after"),
        fused=arrays["fused"],
    )
