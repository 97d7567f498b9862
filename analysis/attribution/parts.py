"""What the parts of a modality are, in the order in which their shares come."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.attribution.case import AttributionError, Case
from analysis.attribution.code_words import code_words
from analysis.attribution.game import cell_blocks
from analysis.attribution.labels import code_units
from analysis.attribution.regions import region_name, token_regions
from analysis.cohort.dataset import (
    EventReading,
    SignalReading,
    TextReading,
    VideoReading,
    event_rows,
)
from analysis.cohort.readers.events import STATIC
from analysis.cohort.schema import Column
from models.contracts import Kind, VoxelGrid

_DAY_US = 86_400_000_000.0
DEMOGRAPHICS, VISIT = "Demographics", "Visit"

# By the prefix of a code, in capitals: the dialects of OMOP exports (INSPECT, Stanford), of
# MEDS's own MIMIC-IV and eICU transforms, and of FHIR-like exports.
GROUPS = {
    "Diagnosis": (
        "ICD10CM ICD10 ICD9CM ICD9 ICD10GM ICDO3 SNOMED DIAGNOSIS DX CONDITION PHECODE DRG "
        "DISEASE CANCER"
    ),
    "Laboratory": "LOINC LAB LABS LABORATORY",
    "Vital sign": (
        "VITAL VITALS BLOODPRESSURE WEIGHT HEIGHT BMI EGFR SUBJECT_WEIGHT_AT_INFUSION TEMPERATURE"
    ),
    "Medication": (
        "RXNORM RXNORMEXTENSION NDC ATC CVX MEDICATION MED MEDS DRUG INFUSION_START INFUSION_END "
        "INFUSION PRESCRIPTION"
    ),
    "Procedure": "CPT CPT4 HCPCS ICD10PCS ICD9PROC ICD9PCS OPS PROCEDURE PROC SURGERY",
    "Intake and output": "SUBJECT_FLUID_OUTPUT FLUID OUTPUT INTAKE",
    VISIT: (
        "VISIT ENCOUNTER HOSPITAL_ADMISSION HOSPITAL_DISCHARGE ICU_ADMISSION ICU_DISCHARGE "
        "ED_REGISTRATION ED_OUT TRANSFER_TO ADMISSION DISCHARGE CMS_PLACE_OF_SERVICE"
    ),
    DEMOGRAPHICS: "GENDER SEX RACE ETHNICITY MEDS_BIRTH BIRTH MARITAL_STATUS LANGUAGE AGE",
    "Death": "MEDS_DEATH DEATH",
    "Note": "NOTE NOTES",
}
_GROUP_OF = {prefix: group for group, prefixes in GROUPS.items() for prefix in prefixes.split()}
OTHER = "Other"


def code_group(code: str) -> str:
    """The kind of thing a code names, by its prefix: 'Diagnosis', 'Laboratory', ... or 'Other'.

    The prefix is what stands before the first '/' (or '(' or ','), whatever its case.
    """
    prefix = code.split("/", 1)[0].split("(", 1)[0].split(",", 1)[0].strip().upper()
    words = prefix.replace(" ", "")
    first = prefix.split(" ", 1)[0]
    if prefix.startswith("BLOOD PRESSURE"):
        first = "BLOODPRESSURE"
    return _GROUP_OF.get(words) or _GROUP_OF.get(first) or OTHER


def code_unit(code: str, units: dict[str, str]) -> str:
    """The unit stated in codes.parquet, or by the code itself ('LAB//50912//mg/dL')."""
    if units.get(code):
        return units[code]
    parts = code.split("//")
    stated = parts[2] if len(parts) == 3 and code_group(code) in _MEASURED else ""
    return "" if stated.upper() == "UNK" else stated


_MEASURED = {"Laboratory", "Intake and output", "Vital sign"}


def part_table(case: Case, modality: str, block: int = 1) -> pd.DataFrame:
    """One row a part of the modality, in the order of a Game's parts. By kind:

    events: event (number), code, description (the code in words where none is known), group (see
    `code_group`), value (NaN where none), unit, text, time (NaT for a static fact), days_before
    the index time (NaN likewise). tables: name, title, value (a category's name for a nominal
    column, None where missing), unit. texts: token, word, is_value, sentence (number of its
    column), name, title, value, unit of that column. signals: lead. videos: view. bags: instance,
    name. volumes: name, x_mm, y_mm, z_mm (RAS centre of the block), size_x_mm, size_y_mm,
    size_z_mm, cells (their number).

    Raises AttributionError when the patient lacks the modality, or when the case reads another
    input than the one on file: the names would be of other parts.
    """
    case.require(modality)
    if modality in case.changed:
        raise AttributionError(
            f"'{modality}' was edited, so its parts are not those on file; explain the patient's "
            "own record."
        )
    kind = case.kind(modality)
    if kind is Kind.EVENTS:
        return event_parts(case, modality)
    if kind is Kind.TABLE:
        return column_table(case, modality)
    if kind is Kind.TEXT:
        return text_parts(case, modality)
    if kind in (Kind.SIGNAL, Kind.VIDEO):
        return _channels(case, modality)
    if kind is Kind.BAG:
        return _instances(case, modality)
    layout = case.encoded[modality].layout
    if isinstance(layout, VoxelGrid):
        return _blocks(case, modality, layout, block)
    raise AttributionError(f"'{modality}' is {kind}: it has no parts that could be named.")


def event_parts(case: Case, modality: str) -> pd.DataFrame:
    """Events in the order of the model's sequence; see `part_table`."""
    reading = case.reading(modality)
    assert isinstance(reading, EventReading)
    table = case.cohort.events(modality)
    usable = case.cohort.usable_events(modality)
    rows = event_rows(table, usable, case.subject_id, reading.max_events)
    codes = [table.codes[i] for i in table.code_index[rows]]
    known = case.cohort.codes
    units = dict(code_units(case, modality))
    time = table.time_us[rows]
    zero = int(case.cohort.index_time_us([case.subject_id])[0])
    timed = time != STATIC
    days = np.full(len(rows), np.nan)
    days[timed] = (zero - time[timed]) / _DAY_US
    return pd.DataFrame(
        {
            "event": np.arange(len(rows)),
            "code": codes,
            "description": [
                (known[c].description if c in known else "") or code_words(c, code_unit(c, units))
                for c in codes
            ],
            "group": [code_group(code) for code in codes],
            "value": table.value[rows].astype(np.float64),
            "unit": [code_unit(code, units) for code in codes],
            "text": [table.texts[i] if i >= 0 else None for i in table.text_index[rows]],
            "time": time.view("datetime64[us]"),
            "days_before": days,
        }
    )


def column_table(case: Case, modality: str, *, words: bool = False) -> pd.DataFrame:
    """The columns of a table, told in sentences or not: name, title, value, unit.

    value: a category's name for a nominal column (words: for a binary one, too), else a number;
    None where missing.
    """
    spec = case.cohort.modality(modality).columns
    fields = case.raw(modality).fields
    if case.kind(modality) is Kind.TEXT:
        reading = case.reading(modality)
        assert isinstance(reading, TextReading)
        found = reading.sentences.decode(fields)
        spec = {column.name: spec[column.name] for column in reading.sentences.columns}
    else:
        found = fields["values"], fields["mask"]
    numbers, seen = found[0][0].tolist(), found[1][0].tolist()
    values: list[object] = []
    for column, number, there in zip(spec.values(), numbers, seen, strict=True):
        if not there:
            values.append(None)
        elif words or column.kind == "nominal":
            values.append(_cell(column, number))
        else:
            values.append(number)
    return pd.DataFrame(
        {
            "name": list(spec),
            "title": [column.title or name for name, column in spec.items()],
            "value": pd.Series(values, dtype=object),
            "unit": [column.unit for column in spec.values()],
        }
    )


def text_parts(case: Case, modality: str) -> pd.DataFrame:
    """Words in the order of the model's text; see `part_table`."""
    reading = case.reading(modality)
    assert isinstance(reading, TextReading)
    told = reading.sentences.text(case.raw(modality).fields)
    columns = [reading.sentences.columns[word.sentence] for word in told]
    spec = case.cohort.modality(modality).columns
    table = case.cohort.table(modality)
    row = table.values[int(np.searchsorted(table.subject_ids, case.subject_id))]
    number = dict(zip(table.names, row.tolist(), strict=True))
    values = [_cell(spec[column.name], number[column.name]) for column in columns]
    return pd.DataFrame(
        {
            "token": np.arange(len(told)),
            "word": [word.word for word in told],
            "is_value": [word.is_value for word in told],
            "sentence": [word.sentence for word in told],
            "name": [column.name for column in columns],
            "title": [column.spoken for column in columns],
            "value": pd.Series(values, dtype=object),
            "unit": [column.unit for column in columns],
        }
    )


def _cell(column: Column, number: float) -> object:
    """A cell in words where the column's kind has words for it."""
    if column.kind == "nominal":
        return column.categories[round(number)]
    if column.kind == "binary" and number in (0, 1):
        return (column.categories or ("no", "yes"))[int(number)]
    return number


def _channels(case: Case, modality: str) -> pd.DataFrame:
    reading = case.reading(modality)
    mask = case.raw(modality).fields["mask"][0].numpy()
    there = [bool(channel.any()) for channel in mask]
    if isinstance(reading, SignalReading):
        return pd.DataFrame({"lead": [n for n, t in zip(reading.leads, there, strict=True) if t]})
    assert isinstance(reading, VideoReading)
    return pd.DataFrame({"view": [n for n, t in zip(reading.views, there, strict=True) if t]})


def _instances(case: Case, modality: str) -> pd.DataFrame:
    bag = case.cohort.bag(modality)
    names = list(bag.instances[bag.rows(case.subject_id)])
    return pd.DataFrame({"instance": np.arange(len(names)), "name": names})


def _blocks(case: Case, modality: str, layout: VoxelGrid, block: int) -> pd.DataFrame:
    scan = case.scan(modality) if case.has_scan(modality) else None
    cells = token_regions(layout, scan)
    owner = cell_blocks(layout, block)
    if block == 1:
        return cells.assign(cells=1)
    axes = ("x", "y", "z")
    low = {a: _extreme(cells, owner, a, -0.5).min() for a in axes}
    high = {a: _extreme(cells, owner, a, 0.5).max() for a in axes}
    frame = pd.DataFrame({f"{a}_mm": (low[a] + high[a]) / 2 for a in axes})
    for a in axes:
        frame[f"size_{a}_mm"] = high[a] - low[a]
    frame["cells"] = np.bincount(owner)
    centres = frame[["x_mm", "y_mm", "z_mm"]].to_numpy()
    if scan is not None:
        names = [region_name(centre, scan) for centre in centres]
    else:
        # The cell nearest to a block's centre lends it its name.
        xyz = cells[["x_mm", "y_mm", "z_mm"]].to_numpy()
        near = [int(((xyz - c) ** 2).sum(axis=1).argmin()) for c in centres]
        names = [f"{cells['name'][i].split(' (')[0]} (block {n})" for n, i in enumerate(near)]
    frame.insert(0, "name", names)
    return frame.reset_index(drop=True)


def _extreme(cells: pd.DataFrame, owner: npt.NDArray[np.int64], axis: str, side: float) -> Any:
    """A face of each cell along an axis, grouped by block."""
    return (cells[f"{axis}_mm"] + side * cells[f"size_{axis}_mm"]).groupby(owner)
