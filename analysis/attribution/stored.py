"""Explanations that are computed once and found again.

A key is made of the run, what the model reads of the patient (not only the patient's number: a
replaced scan is another patient), the explained number, the method and its parameters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.attribution.case import Case, Subject, digest_of
from analysis.attribution.result import Attribution, VolumeMap, subject_json
from analysis.attribution.signal import SignalMap, signal_map
from analysis.attribution.target import Target
from analysis.attribution.video import VideoMap, video_map
from analysis.attribution.volume import volume_map
from analysis.attribution.within import explain_modality
from analysis.store import Result, ResultStore

# Raised whenever a method would answer otherwise than before.
VERSION = 3
Progress = Callable[[int, int], None]
Packed = tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]
"""Content and arrays of a result."""


def inputs_digest(case: Case, modality: str) -> str:
    """16 hex digits over what the model reads of the patient, the modality's raw input included."""
    digest = hashlib.sha256()
    for name, read in case.read.items():
        digest.update(f"{name}|{read}|".encode())
    if case.has_input(modality):
        digest.update(digest_of(case.raw(modality)).encode())
    return digest.hexdigest()[:16]


def _key(case: Case, modality: str, target: Target, method: str, **more: Any) -> dict[str, Any]:
    return {
        "result": "explanation",
        "version": VERSION,
        **subject_json(case.subject),
        "modality": modality,
        "inputs": inputs_digest(case, modality),
        "target": dict(target.parameters),
        "method": method,
        **more,
    }


def stored_attribution(
    case: Case,
    modality: str,
    target: Target,
    store: ResultStore,
    *,
    method: str = "permutation",
    contexts: str = "given",
    budget: int | None = None,
    agreement: float = 0.9,
    seed: int = 0,
    progress: Progress | None = None,
) -> Attribution:
    """`explain_modality`, computed once."""
    options = _options(contexts, budget, agreement, seed)
    parameters = _key(case, modality, target, method, **options)

    def make() -> Packed:
        return _pack_attribution(
            explain_modality(case, modality, target, method=method, progress=progress, **options)
        )

    return _unpack_attribution(store.compute(parameters, make))


def is_stored(
    case: Case,
    modality: str,
    target: Target,
    store: ResultStore,
    *,
    method: str = "permutation",
    contexts: str = "given",
    budget: int | None = None,
    agreement: float = 0.9,
    seed: int = 0,
) -> bool:
    """Whether `stored_attribution` would find its answer."""
    options = _options(contexts, budget, agreement, seed)
    return store.has(_key(case, modality, target, method, **options))


def _options(contexts: str, budget: int | None, agreement: float, seed: int) -> dict[str, Any]:
    return {"contexts": contexts, "budget": budget, "agreement": agreement, "seed": seed}


def stored_map(
    case: Case,
    modality: str,
    target: Target,
    store: ResultStore,
    *,
    method: str,
    layer: str | None = None,
    seed: int = 0,
) -> VolumeMap:
    """`volume_map`, computed once."""
    parameters = _key(case, modality, target, method, layer=layer, seed=seed)

    def make() -> Packed:
        return _pack_map(volume_map(case, modality, target, method, layer, seed=seed))

    return _unpack_map(store.compute(parameters, make))


def stored_signal_map(
    case: Case,
    modality: str,
    target: Target,
    store: ResultStore,
    *,
    method: str,
    layer: str | None = None,
) -> SignalMap:
    """`signal_map`, computed once."""
    parameters = _key(case, modality, target, method, layer=layer)

    def make() -> Packed:
        made = signal_map(case, modality, target, method, layer)
        return _plain_fields(made), {"values": made.values}

    found = store.compute(parameters, make)
    content = dict(found.content)
    subject, leads = Subject(**content.pop("subject")), tuple(content.pop("leads"))
    return SignalMap(subject=subject, leads=leads, **content, values=found.arrays["values"])


def stored_video_map(
    case: Case,
    modality: str,
    target: Target,
    store: ResultStore,
    *,
    method: str,
    layer: str | None = None,
) -> VideoMap:
    """`video_map`, computed once."""
    parameters = _key(case, modality, target, method, layer=layer)

    def make() -> Packed:
        made = video_map(case, modality, target, method, layer)
        return _plain_fields(made), {"values": made.values}

    found = store.compute(parameters, make)
    content = dict(found.content)
    subject, views = Subject(**content.pop("subject")), tuple(content.pop("views"))
    return VideoMap(subject=subject, views=views, **content, values=found.arrays["values"])


def _plain_fields(made: SignalMap | VideoMap) -> dict[str, Any]:
    """All fields of a map but its array, as plain JSON."""
    content = {f.name: getattr(made, f.name) for f in fields(made) if f.name != "values"}
    content |= {"subject": subject_json(made.subject), "target": dict(made.target)}
    return content | {"parameters": dict(made.parameters)}


# ---------------------------------------------------------------- to and from plain JSON


def _pack_attribution(made: Attribution) -> Packed:
    content = {
        "subject": subject_json(made.subject),
        "modality": made.modality,
        "kind": made.kind,
        "method": made.method,
        "target": dict(made.target),
        "parts": pack_frame(made.parts),
        "agreement": made.agreement,
        "evaluations": made.evaluations,
        "parameters": dict(made.parameters),
    }
    arrays = {"values": made.values, "whole": made.whole, "reference": made.reference}
    if made.spread is not None:
        arrays["spread"] = made.spread
    return content, arrays


def _unpack_attribution(found: Result) -> Attribution:
    content = dict(found.content)
    return Attribution(
        subject=Subject(**content.pop("subject")),
        parts=unpack_frame(content.pop("parts")),
        **content,
        values=found.arrays["values"],
        whole=found.arrays["whole"],
        reference=found.arrays["reference"],
        spread=found.arrays.get("spread"),
    )


def _pack_map(made: VolumeMap) -> Packed:
    content = {
        "subject": subject_json(made.subject),
        **{
            name: getattr(made, name)
            for name in ("modality", "method", "layer", "signed", "whole", "reference", "gap")
        },
        "target": dict(made.target),
        "parameters": dict(made.parameters),
    }
    return content, {"values": made.values, "affine": made.affine}


def _unpack_map(found: Result) -> VolumeMap:
    content = dict(found.content)
    return VolumeMap(
        subject=Subject(**content.pop("subject")),
        **content,
        values=found.arrays["values"],
        affine=found.arrays["affine"],
    )


def pack_frame(frame: pd.DataFrame) -> dict[str, Any]:
    """A frame of labels as plain JSON that `unpack_frame` reads back, types included."""
    columns = {}
    for name in frame.columns:
        column = frame[name]
        plain = column.astype(str) if column.dtype.kind == "M" else column.astype(object)
        values = plain.where(column.notna(), None).tolist()
        columns[str(name)] = {"dtype": str(column.dtype), "values": values}
    return {"n": len(frame), "columns": columns}


def unpack_frame(content: Mapping[str, Any]) -> pd.DataFrame:
    """Read what `pack_frame` wrote."""
    columns = {}
    for name, column in content["columns"].items():
        values = pd.Series(column["values"], dtype=object)
        columns[name] = values.astype(column["dtype"])
    return pd.DataFrame(columns, index=np.arange(content["n"]))
