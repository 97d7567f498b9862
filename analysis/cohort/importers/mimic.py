"""What the imports of MIMIC-IV-ECG and MIMIC-IV-ECHO share: lists of records, and their times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis.cohort.importers.compose import Note, Persons
from analysis.cohort.importers.imaging_add import counted
from analysis.cohort.schema import CohortError


def read_list(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> pd.DataFrame:
    """A CSV of MIMIC (plain or .gz) as texts. Raises CohortError naming file and column."""
    found = next((p for p in (path, path.with_name(f"{path.name}.gz")) if p.is_file()), None)
    if found is None:
        raise CohortError(
            f"{path}: there is no such file; name the folder of the download that holds it."
        )
    try:
        names = pd.read_csv(found, nrows=0).columns
        missing = [name for name in required if name not in names]
        if missing:
            raise CohortError(
                f"{found}: column '{missing[0]}' is missing (found: {', '.join(names)[:120]}); "
                "download the file again."
            )
        wanted = [name for name in (*required, *optional) if name in names]
        return pd.read_csv(found, usecols=wanted, dtype=str)
    except CohortError:
        raise
    except (OSError, EOFError, ValueError, pd.errors.ParserError) as error:
        reason = " ".join(str(error).split())[:120]
        raise CohortError(f"{found}: not readable ({reason}); download it again.") from error


def before_index(
    records: pd.DataFrame, time: str, persons: Persons, note: Note, noun: str
) -> pd.DataFrame:
    """Rows of the cohort's subjects by the end of their index day, by subject and time.

    records: subject_id as the source has it, and a column `time`. Adds source_id, shift_us and
    `taken` (datetime64, as in the source); subject_id is the cohort's. A subject without an index
    time gets none, because nothing says what was recorded before the outcome.
    """
    of = persons.table(records["subject_id"].dropna().unique())
    rows = records.rename(columns={"subject_id": "source_id"}).merge(of, on="source_id")
    rows["taken"] = pd.to_datetime(rows[time], errors="coerce", format="ISO8601")
    undated = int(rows["taken"].isna().sum())
    index = persons.cohort.subjects["index_time"]
    zero = rows["subject_id"].map(index)
    own = rows["taken"] + pd.to_timedelta(rows["shift_us"], unit="us")
    usable = rows[own.dt.normalize() <= zero.dt.normalize()]
    if undated:
        note(f"{counted(undated, noun)} without a readable {time} left out.")
    lacking = rows.loc[zero.isna(), "subject_id"].nunique()
    if lacking:
        note(
            f"{counted(lacking, 'patient')} without an index time: nothing says which {noun} is "
            "from before it, so they get none."
        )
    late = set(rows.loc[zero.notna(), "subject_id"]) - set(usable["subject_id"])
    if late:
        note(f"{counted(len(late), 'patient')} with nothing but {noun}s after the index day.")
    ordered: pd.DataFrame = usable.sort_values(["subject_id", "taken"], kind="stable")
    return ordered
