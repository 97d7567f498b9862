"""Explanations as files that other programs read: NIfTI for maps, CSV for shares and attention."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Mapping
from datetime import date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Protocol

import nibabel as nib
import numpy as np
import pandas as pd

from analysis.attribution.attention import LabelledAttention, LabelledPool
from analysis.attribution.case import AttributionError, Subject
from analysis.attribution.result import Attribution, VolumeMap
from analysis.attribution.signal import SignalMap
from analysis.attribution.video import VideoMap
from analysis.cohort.readers.volume import Volume
from analysis.sheets import spreadsheet_csv

NO_TOKEN = "no token"
_DESCRIPTION = 79  # the header's field has 80 bytes, one ends it
_HASH = 12
_OWN = (
    "modality",
    "kind",
    "name",
    "query",
    "key",
    "method",
    "layer",
    "head",
    "heads",
    "own",
    "signed",
    "whole",
    "reference",
    "agreement",
    "gap",
    "evaluations",
)


class Explained(Protocol):
    """Any result of an explanation: it knows whom and what it explains."""

    @property
    def subject(self) -> Subject:
        """Run, cohort and patient."""
        ...


# ---------------------------------------------------------------- maps


def map_nifti(found: VolumeMap, like: Volume | None = None) -> bytes:
    """The map as an uncompressed NIfTI-1 file, float32, axes right, anterior, superior, in mm.

    like: resample to this volume's grid (as `VolumeMap.on` does); None keeps the map's own.
    The header's description names method, layer and run; a comment extension holds
    `provenance` whole, as JSON.
    """
    values, affine = (found.values, found.affine) if like is None else (found.on(like), like.affine)
    xyz = np.ascontiguousarray(values.transpose(2, 1, 0), np.float32)
    image = nib.Nifti1Image(xyz, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    header = image.header
    header.set_xyzt_units("mm")
    header["descrip"] = _description(found).encode("ascii", "replace")
    largest = float(np.abs(xyz).max(initial=0))
    header["cal_min"], header["cal_max"] = (-largest if found.signed else 0.0), largest
    about = json.dumps(provenance(found), ensure_ascii=True).encode()
    header.extensions.append(nib.nifti1.Nifti1Extension("comment", about))
    return bytes(image.to_bytes())


def write_map_nifti(found: VolumeMap, path: Path, like: Volume | None = None) -> Path:
    """Write `map_nifti` under a temporary name and rename it; compressed where path ends in .gz.

    Raises AttributionError when the path does not end in .nii or .nii.gz.
    """
    path = Path(path)
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise AttributionError(f"{path}: a map is written as NIfTI; end the name in .nii.gz.")
    content = map_nifti(found, like)
    if path.name.lower().endswith(".gz"):
        content = gzip.compress(content, 6, mtime=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _description(found: VolumeMap) -> str:
    """'METHOD LAYER run HASH'; a long layer is cut, the hash never."""
    tail = f" run {found.subject.run_hash[:_HASH]}"
    head = f"{found.method} {found.layer}" if found.layer else found.method
    return head[: _DESCRIPTION - len(tail)] + tail


# ---------------------------------------------------------------- tables


def attribution_csv(found: Attribution) -> str:
    """One row a part, in the order of the input, in full precision.

    The part's own columns; its share (`share`, or `share_day_D` where the target is a curve over
    days); `spread` where the estimate was sampled; and the same provenance in every row.
    """
    days = found.target.get("days", [])
    outputs = len(found.whole)
    names = (
        ["share"]
        if outputs == 1
        else [f"share_day_{day:g}" for day in days]
        if len(days) == outputs
        else [f"share_{t}" for t in range(outputs)]
    )
    table = found.parts.reset_index(drop=True)
    for t, name in enumerate(names):
        table[name] = found.values[:, t]
    if found.spread is not None:
        table["spread"] = found.spread
    columns: dict[str, Any] = {
        **_whose(found.subject),
        "modality": found.modality,
        "target": found.target.get("title", ""),
        "target_unit": found.target.get("unit", ""),
        "method": found.method,
        "seed": found.parameters.get("seed"),
        "agreement": found.agreement,
        "gap": found.gap,
    }
    return spreadsheet_csv(table.assign(**columns))


def attention_csv(
    found: LabelledAttention | LabelledPool, form: Literal["long", "matrix"] = "long"
) -> str:
    """Attention weights with their labels, in full precision.

    long: one row a cell (`row`, `row_label`, `column`, `column_label`, `weight`) with provenance;
    the weight that went to no token has an empty `column` and the label 'no token'.
    matrix: one line a row token, one column a column token ('NUMBER: LABEL', for labels repeat).
    A pool has one weight a token, and no columns.
    """
    rows = label_texts(found.rows)
    if isinstance(found, LabelledPool):
        pool = pd.DataFrame({"row": np.arange(len(rows)), "row_label": rows})
        pool = pool.assign(weight=found.weights, **_whose(found.subject))
        pool = pool.assign(modality=found.modality, method=found.method)
        return spreadsheet_csv(pool)
    columns = label_texts(found.columns)
    weights, labels, numbers = found.weights, columns, [str(k) for k in range(len(columns))]
    if found.null is not None:
        weights = np.c_[weights, found.null]
        labels, numbers = [*columns, NO_TOKEN], [*numbers, ""]
    if form == "matrix":
        heads = [f"{n}: {label}" if n else label for n, label in zip(numbers, labels, strict=True)]
        matrix = pd.DataFrame(weights, columns=heads)
        matrix.insert(0, "row_label", rows, allow_duplicates=True)
        matrix.insert(0, "row", np.arange(len(rows)), allow_duplicates=True)
        return spreadsheet_csv(matrix)
    long = pd.DataFrame(
        {
            "row": np.repeat(np.arange(len(rows)), len(labels)),
            "row_label": np.repeat(np.asarray(rows, object), len(labels)),
            "column": np.tile(np.asarray(numbers, object), len(rows)),
            "column_label": np.tile(np.asarray(labels, object), len(rows)),
            "weight": weights.ravel(),
        }
    )
    about: dict[str, Any] = {
        **_whose(found.subject),
        "attention": found.name,
        "query": found.query,
        "key": found.key,
        "method": found.method,
        "head": found.head,
        "own": found.own,
        "target": found.target.get("title", ""),
    }
    return spreadsheet_csv(long.assign(**about))


def recording_csv(found: SignalMap | VideoMap) -> str:
    """One row a cell of a map over a signal or videos, zeros included, largest |value| first.

    signals: lead, start_s, end_s, value. videos: view, first_frame, last_frame (of the file),
    row, column, rows, columns (of the map's grid over the centred square), value.
    """
    at = np.indices(found.values.shape).reshape(found.values.ndim, -1)
    if isinstance(found, SignalMap):
        start = at[1] * found.step_s
        columns: dict[str, Any] = {
            "lead": np.asarray(found.leads)[at[0]],
            "start_s": start.round(6),
            "end_s": (start + found.step_s).round(6),
        }
    else:
        each = found.frames * found.stride
        _, _, rows, across = found.values.shape
        columns = {
            "view": np.asarray(found.views)[at[0]],
            "first_frame": at[1] * each,
            "last_frame": (at[1] + 1) * each - 1,
            "row": at[2],
            "column": at[3],
            "rows": rows,
            "columns": across,
        }
    frame = pd.DataFrame({**columns, "value": found.values.ravel().astype(np.float64)})
    order = np.argsort(-frame["value"].abs().to_numpy(), kind="stable")
    whose = {**_whose(found.subject), "method": found.method, "layer": found.layer or ""}
    return spreadsheet_csv(frame.iloc[order].assign(**whose))


def label_texts(frame: pd.DataFrame) -> list[str]:
    """What each token is: its title, and its date where it has one."""
    titles = [str(title) for title in frame["title"]]
    if "date" not in frame:
        return titles
    dates = pd.to_datetime(frame["date"])
    return [
        title if pd.isna(day) else f"{title} ({day:%Y-%m-%d})"
        for title, day in zip(titles, dates, strict=True)
    ]


def _whose(subject: Subject) -> dict[str, Any]:
    return {
        "run": subject.run,
        "run_hash": subject.run_hash,
        "cohort": subject.cohort,
        "patient": subject.subject_id,
    }


# ---------------------------------------------------------------- provenance


def provenance(found: Explained) -> dict[str, Any]:
    """What is needed to make a result again, as plain JSON; only what the result knows.

    run, run_hash, cohort, patient; modality, method, layer, head and the like; target; seed;
    parameters; agreement, gap, evaluations; the version of FusionLens.
    """
    about: dict[str, Any] = _whose(found.subject)
    for name in _OWN:
        value = getattr(found, name, None)
        if value is not None:
            about[name] = _plain(value)
    parameters = dict(getattr(found, "parameters", {}) or {})
    if "seed" in parameters:
        about["seed"] = _plain(parameters["seed"])
    for name, value in (("target", getattr(found, "target", {})), ("parameters", parameters)):
        if value:
            about[name] = _plain(value)
    about["fusionlens"] = version("fusionlens")
    return about


def _plain(value: Any) -> Any:
    """A value as JSON knows it; NaN and infinity, which it does not, become None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value if value is None else str(value)
