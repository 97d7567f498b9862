"""What each token of a modality is: the words that a map's rows and columns are read by."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import assert_never

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.attribution.case import AttributionError, Case
from analysis.attribution.regions import token_regions
from analysis.cohort.dataset import EventReading
from analysis.cohort.readers.frame import read_frame
from models.contracts import (
    CodeVocabulary,
    Columns,
    EventPositions,
    Instances,
    LeadTimeGrid,
    TextTokens,
    ViewGrid,
    VoxelGrid,
)

_DAYS_A_YEAR = 365.25


def token_labels(case: Case, modality: str) -> pd.DataFrame:
    """One row a real token of the patient's modality, in the order of the tokens; no padding.

    Every frame has `token` (its number in the encoding) and `title` (a few words). Beside them,
    by the encoding's layout:
        events   event, code, description, group, value (NaN: none), unit, text, date (NaT: a
                 fact without a date), days_before the index time (NaN likewise)
        codes    code, description, group, count, date (the last one), value (the latest; age in
                 years for the code of birth), unit, days_before
        voxels   name, x_mm, y_mm, z_mm (RAS centre), size_x_mm, size_y_mm, size_z_mm
        columns  name, value (NaN: none; the category's number for a nominal one), unit
        text     word, is_value, sentence, name, value, unit: as `parts.text_parts`
        leads    lead, start_s, end_s
        views    view, frame (the first that the token covers), row, column (of its grid)
        bag      instance (its number), name

    Raises AttributionError when the patient lacks the modality, or when its record no longer has
    the events that the stored features were made of.
    """
    case.require(modality)
    encoded = case.encoded[modality]
    at = np.flatnonzero(encoded.mask[0].numpy())
    layout = encoded.layout
    if isinstance(layout, EventPositions):
        frame = _events(case, modality)
    elif isinstance(layout, CodeVocabulary):
        frame = _codes(case, modality, layout.code_ids[0].numpy()[at])
    elif isinstance(layout, VoxelGrid):
        frame = _voxels(case, modality, layout)
    elif isinstance(layout, Columns):
        frame = _columns(case, modality, layout).iloc[at].reset_index(drop=True)
    elif isinstance(layout, Instances):
        frame = _instances(case, modality)
    elif isinstance(layout, LeadTimeGrid):
        frame = _leads(layout).iloc[at].reset_index(drop=True)
    elif isinstance(layout, ViewGrid):
        frame = _views(layout).iloc[at].reset_index(drop=True)
    elif isinstance(layout, TextTokens):
        frame = _words(case, modality)
    else:
        assert_never(layout)
    if len(frame) != len(at):
        raise AttributionError(
            f"patient {case.subject_id}: the encoding of '{modality}' has {len(at)} tokens and the "
            f"cohort's files {len(frame)}; remove the cohort's features/{modality} folder so that "
            "it is encoded again."
        )
    frame.insert(0, "token", at)
    return frame


def _events(case: Case, modality: str) -> pd.DataFrame:
    # Here and not above: parts.py takes `code_units` from this file.
    from analysis.attribution.parts import event_parts

    frame = event_parts(case, modality).rename(columns={"time": "date"})
    frame.insert(0, "title", frame["description"])
    return frame


def _words(case: Case, modality: str) -> pd.DataFrame:
    # Here and not above, as in `_events`.
    from analysis.attribution.parts import text_parts

    frame = text_parts(case, modality).drop(columns="token")
    frame["title"] = [
        f"{word} ({title})" for word, title in zip(frame["word"], frame["title"], strict=True)
    ]
    return frame


def _leads(layout: LeadTimeGrid) -> pd.DataFrame:
    start = layout.start_s + np.arange(layout.steps) * layout.step_s
    lead = np.repeat(list(layout.leads), layout.steps)
    starts = np.tile(start, len(layout.leads))
    return pd.DataFrame(
        {
            "title": [f"{n}, {s:.1f} s" for n, s in zip(lead, starts, strict=True)],
            "lead": lead,
            "start_s": starts,
            "end_s": starts + layout.step_s,
        }
    )


def _views(layout: ViewGrid) -> pd.DataFrame:
    cells = np.indices((len(layout.views), *layout.shape)).reshape(4, -1)
    view = np.asarray(layout.views)[cells[0]]
    frame = cells[1] * layout.frames
    return pd.DataFrame(
        {
            "title": [
                f"{v}, frame {f}, row {r + 1}, column {c + 1}"
                for v, f, r, c in zip(view, frame, cells[2], cells[3], strict=True)
            ],
            "view": view,
            "frame": frame,
            "row": cells[2],
            "column": cells[3],
        }
    )


def code_units(case: Case, modality: str) -> Mapping[str, str]:
    """{code: unit} where metadata/codes.parquet has a `unit` column (MEDS allows further ones)."""
    path = case.cohort.path(modality)
    for home in [path] if path.is_dir() else [path.parent, path.parent.parent]:
        file = home / "metadata" / "codes.parquet"
        if file.is_file():
            return _units(file, file.stat().st_mtime_ns)
    return {}


@lru_cache(maxsize=16)
def _units(file: Path, changed: int) -> Mapping[str, str]:
    frame = read_frame(file, ("code",), ("unit",))
    if "unit" not in frame:
        return {}
    pairs = zip(frame["code"], frame["unit"].fillna(""), strict=True)
    return MappingProxyType({str(code): str(unit) for code, unit in pairs if unit})


def _codes(case: Case, modality: str, ids: npt.NDArray[np.int64]) -> pd.DataFrame:
    """Events of the patient gathered by vocabulary id, for the ids that are tokens."""
    events = _events(case, modality)
    reading = case.reading(modality)
    assert isinstance(reading, EventReading)
    vocabulary = reading.vocabulary
    events["id"] = vocabulary.ids(events["code"])
    # Oldest first, so the last of a group is its latest; `last` passes over missing values.
    groups = events.groupby("id", sort=False)
    gathered = groups.agg(
        description=("description", "first"),
        group=("group", "first"),
        count=("event", "size"),
        date=("date", "max"),
        value=("value", "last"),
        unit=("unit", "last"),
        days_before=("days_before", "min"),
    )
    missing = [int(i) for i in ids if i not in gathered.index]
    if missing:
        raise AttributionError(
            f"patient {case.subject_id}: the encoding of '{modality}' holds code "
            f"'{vocabulary.code(missing[0])}', which the patient's events do not; remove the "
            f"cohort's features/{modality} folder so that it is encoded again."
        )
    frame = gathered.loc[ids].reset_index(drop=True)
    codes = [vocabulary.code(int(i)) for i in ids]
    known = np.asarray([code in vocabulary.index for code in codes], bool)
    frame["description"] = frame["description"].where(known, "codes unknown to the run")
    frame["group"] = frame["group"].where(known, "Other")
    # The encoder reads an age where other codes have a value.
    birth = getattr(case.model.encoder(modality).config, "birth_id", None)
    if birth is not None and birth in ids:
        row = int(np.flatnonzero(ids == birth)[0])
        oldest = events.loc[events["id"] == birth, "days_before"].max()
        frame["value"] = frame["value"].astype(np.float64)
        frame.loc[row, "value"] = float(oldest) / _DAYS_A_YEAR
        frame.loc[row, "unit"] = "years"
    frame.insert(0, "code", codes)
    frame.insert(0, "title", frame["description"])
    return frame


def _voxels(case: Case, modality: str, layout: VoxelGrid) -> pd.DataFrame:
    scan = case.scan(modality) if case.has_scan(modality) else None
    frame = token_regions(layout, scan)
    return frame.assign(title=frame["name"])


def _columns(case: Case, modality: str, layout: Columns) -> pd.DataFrame:
    spec = case.cohort.modality(modality).columns
    fields = case.raw(modality).fields
    values = np.where(fields["mask"][0].numpy(), fields["values"][0].numpy(), np.nan)
    return pd.DataFrame(
        {
            "title": [(spec[n].title if n in spec else "") or n for n in layout.names],
            "name": list(layout.names),
            "value": values.astype(np.float64),
            "unit": [spec[n].unit if n in spec else "" for n in layout.names],
        }
    )


def _instances(case: Case, modality: str) -> pd.DataFrame:
    bag = case.cohort.bag(modality)
    names = list(bag.instances[bag.rows(case.subject_id)])
    return pd.DataFrame({"title": names, "instance": np.arange(len(names)), "name": names})
