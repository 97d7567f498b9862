"""What would the model say if the patient's record were another? Edits of one patient's inputs.

This answers a question about the model, not about the patient: the new record need not be
possible, and a changed prediction is no effect of a treatment.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from analysis.attribution.case import AttributionError, Case
from analysis.cohort.dataset import TextReading
from models.contracts import Encoded, Kind, ModalityInput


@dataclass(frozen=True)
class Change:
    """Edits of one modality of kind events, table or text (a told table).

    remove: positions of events (0 is the oldest the model read) or columns that are taken away;
    a column becomes missing. values: {position: new value} in the part's own unit.
    """

    modality: str
    remove: tuple[int, ...] = ()
    values: Mapping[int, float] = field(default_factory=dict)


def what_if(case: Case, *, without: Collection[str] = (), changes: Sequence[Change] = ()) -> Case:
    """The same patient with some modalities taken away and others edited; `case` is unchanged.

    A modality whose parts are all removed is absent, not empty. Raises AttributionError for a
    modality the patient lacks, a position that is not there, a value that is not finite, or when
    nothing would be left.
    """
    encoded, raw = dict(case.encoded), {}
    gone = torch.ones(1, dtype=torch.bool)
    for name in without:
        case.require(name)
        encoded[name] = encoded[name].without(gone)
    for change in changes:
        if change.modality in without:
            continue
        item = _edited(case, change)
        raw[change.modality] = item
        with torch.inference_mode():
            encoded[change.modality] = case.model.encode_modality(change.modality, item)
    if not any(bool(e.present[0]) for e in encoded.values()):
        raise AttributionError(
            f"patient {case.subject_id}: nothing would be left for the model to read; keep at "
            "least one modality."
        )
    return case.with_inputs({n: _plain(e) for n, e in encoded.items()}, raw)


def _edited(case: Case, change: Change) -> ModalityInput:
    kind = case.kind(change.modality)
    if kind not in (Kind.EVENTS, Kind.TABLE, Kind.TEXT):
        raise AttributionError(
            f"'{change.modality}' is of kind '{kind}': it can be left out as a whole, but only "
            "events and table columns can be changed one by one."
        )
    item = case.raw(change.modality)
    sentences = None
    if kind is Kind.TEXT:
        # Edited as the table it tells of, then told again.
        reading = case.reading(change.modality)
        assert isinstance(reading, TextReading)
        sentences = reading.sentences
        values, mask = sentences.decode(item.fields)
        item = replace(item, fields={"values": values, "mask": mask})
    n = item.fields["mask"].shape[1]
    for position in (*change.remove, *change.values):
        if not 0 <= position < n:
            raise AttributionError(
                f"'{change.modality}' has positions 0 to {n - 1}, not {position}."
            )
    bad = [v for v in change.values.values() if not np.isfinite(v)]
    if bad:
        raise AttributionError(f"'{change.modality}': {bad[0]} is not a value; give a number.")
    if kind is Kind.EVENTS:
        return _edited_events(item, change)
    edited = _edited_table(item, change)
    if sentences is None:
        return edited
    fields = sentences.encode(edited.fields["values"], edited.fields["mask"])
    return ModalityInput(Kind.TEXT, fields, edited.present)


def _edited_events(item: ModalityInput, change: Change) -> ModalityInput:
    fields = {name: tensor.clone() for name, tensor in item.fields.items()}
    for position, value in change.values.items():
        fields["values"][0, position] = value
        fields["has_value"][0, position] = True
    keep = torch.ones(fields["mask"].shape[1], dtype=torch.bool)
    keep[list(change.remove)] = False
    left = bool((keep & fields["mask"][0]).any())
    if not left:
        return replace(item, present=torch.zeros(1, dtype=torch.bool))
    return replace(item, fields={name: tensor[:, keep] for name, tensor in fields.items()})


def _edited_table(item: ModalityInput, change: Change) -> ModalityInput:
    values, mask = item.fields["values"].clone(), item.fields["mask"].clone()
    for position, value in change.values.items():
        values[0, position] = value
        mask[0, position] = True
    mask[0, list(change.remove)] = False
    if not bool(mask.any()):
        return replace(item, present=torch.zeros(1, dtype=torch.bool))
    return replace(item, fields={"values": values, "mask": mask})


def _plain(encoded: Encoded) -> Encoded:
    """Out of inference mode, so that gradients may be taken through it."""
    return replace(
        encoded,
        tokens=encoded.tokens.clone(),
        mask=encoded.mask.clone(),
        pooled=encoded.pooled.clone(),
        present=encoded.present.clone(),
    )
