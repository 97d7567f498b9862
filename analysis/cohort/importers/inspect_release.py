"""The tables of INSPECT (Huang et al., NeurIPS 2023), as one row a CT study.

Two layouts are in use. The release of 2025 has `full/` with labels, study_mapping, splits and
series_metadata as TSV, each with a date in its name, joined by impression_id, and CTPA/ with
<image_id>.nii.gz. Before it there was cohort_0.2.0_master_file_anon.csv, one row a study, whose
images are named after person and time.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import pandas as pd

from analysis.cohort.importers.compose import Note
from analysis.cohort.schema import CohortError

CTPA = "CTPA"
_SLICES = ("num_slices", "n_slices", "number_of_slices", "slice_count", "slices")
_PERSON = ("person_id", "PatientID", "patient_id")
_TIME = ("procedure_DATETIME", "StudyTime", "procedure_time")
_SPLITS = {"train": "train", "valid": "tuning", "val": "tuning", "test": "internal"}


@dataclass(frozen=True)
class Release:
    """What a copy of INSPECT says.

    studies: index study (text); person (text), split (train, tuning, internal), time (of the CT,
    NaT where not known) and the label columns as texts. images: file names of each study, the one
    to prefer first. folder: where the files lie.
    """

    studies: pd.DataFrame
    images: dict[str, tuple[Path, ...]]
    folder: Path


def read_release(src: Path, note: Note) -> Release:
    """Read `src`, the folder `full` or the one above it.

    Raises CohortError when a table or a column is missing, or a study has two labels or splits.
    """
    src = Path(src)
    if not src.is_dir():
        raise CohortError(f"{src}: there is no such folder; name INSPECT's folder 'full'.")
    if (src / "full").is_dir() and not list(src.glob("labels*.tsv")):
        src = src / "full"
    if list(src.glob("labels*.tsv")):
        return _of_2025(src, note)
    masters = sorted(src.glob("cohort*master_file*.csv"))
    if masters:
        return _of_master(src, masters[-1], note)
    raise CohortError(
        f"{src}: holds neither labels_<date>.tsv nor cohort_<version>_master_file_anon.csv; name "
        "INSPECT's folder 'full'."
    )


def _of_2025(src: Path, note: Note) -> Release:
    labels = _table(src, "labels", ("impression_id",))
    mapping = _table(src, "study_mapping", ("impression_id", "image_id", "person_id"))
    splits = _table(src, "splits", ("impression_id", "split"))
    studies = _one_row(labels, src / "labels")
    split = _one_row(splits[["impression_id", "split"]], src / "splits")["split"]
    home = mapping[[c for c in ("impression_id", "person_id", _TIME[0]) if c in mapping]]
    if _TIME[0] in home:  # of several times of a study the first
        home = home.sort_values(_TIME[0]).drop_duplicates(["impression_id", "person_id"])
    home = _one_row(home, src / "study_mapping")
    studies = studies.drop(columns=[c for c in (*_PERSON, *_TIME, "split") if c in studies])
    whole = studies.join(home, how="inner", rsuffix="_mapping").join(split, how="inner")
    lost = len(studies) - len(whole)
    if lost:
        note(f"{lost:,} of {len(studies):,} studies have no person or no split, and are left out.")
    files = mapping.dropna(subset=["image_id"]).groupby("impression_id")["image_id"]
    named = {str(study): tuple(dict.fromkeys(of)) for study, of in files}
    counts = _slices(src)
    images = {
        study: _best([src / CTPA / _file(image) for image in named.get(study, ())], counts)
        for study in whole.index
    }
    return Release(_finished(whole, src, note), images, src / CTPA)


def _of_master(src: Path, path: Path, note: Note) -> Release:
    frame = _read(path, ",")
    person, time = _column(frame, _PERSON, path), _column(frame, _TIME, path)
    if "split" not in frame:
        raise CohortError(f"{path}: column 'split' is missing; use the published file.")
    frame = frame.drop_duplicates()
    own = "impression_id" if "impression_id" in frame else None
    clock = pd.to_datetime(frame[time], errors="coerce").dt.strftime("%Y-%m-%d_%H_%M_%S")
    image = frame[person].astype(str) + "_" + clock.fillna("")
    frame = frame.assign(impression_id=frame[own] if own else image)
    frame = frame.rename(columns={person: "person_id", time: "procedure_DATETIME"})
    whole = _one_row(frame, path)
    given = frame.get("image_id", image)
    images: dict[str, tuple[Path, ...]] = {
        str(study): (src / CTPA / _file(str(name)),)
        for study, name in zip(frame["impression_id"], given, strict=True)
        if isinstance(name, str) and not name.endswith("_")
    }
    return Release(_finished(whole, src, note), images, src / CTPA)


def _finished(whole: pd.DataFrame, src: Path, note: Note) -> pd.DataFrame:
    split = whole["split"].str.strip().str.lower()
    unknown = sorted(set(split) - set(_SPLITS))
    if unknown:
        raise CohortError(
            f"{src}: split '{unknown[0]}' is not known; use {', '.join(sorted(_SPLITS))}."
        )
    given = whole["procedure_DATETIME"] if "procedure_DATETIME" in whole else pd.Series(dtype=str)
    time = pd.to_datetime(given, errors="coerce", format="mixed").reindex(whole.index)
    odd = int((given.notna() & time.reindex(given.index).isna()).sum())
    if odd:
        note(f"warning: {odd:,} times of a study are not readable and count as not known.")
    if getattr(time.dt, "tz", None) is not None:
        time = time.dt.tz_localize(None)
    return whole.assign(
        person=whole["person_id"].str.strip(),
        split=split.map(_SPLITS),
        time=time.astype("datetime64[us]"),
    )


def _file(image: str) -> str:
    """The 2025 mapping names images without, the older file with its ending."""
    return f"{image.removesuffix('.gz').removesuffix('.nii')}.nii.gz"


def _best(paths: list[Path], counts: dict[str, int]) -> tuple[Path, ...]:
    """The images of a study, that with most slices first: another may be a localiser."""
    if len(paths) < 2:
        return tuple(paths)

    def slices(path: Path) -> int:
        stated = counts.get(path.name)
        if stated is not None:
            return stated
        try:
            return int(nib.load(path).shape[2])
        except Exception:  # missing or damaged: whoever reads it says so
            return 0

    return tuple(sorted(paths, key=lambda path: (-slices(path), path.name)))


def _slices(src: Path) -> dict[str, int]:
    """{file: slices} where series_metadata counts them."""
    if not list(src.glob("series_metadata*.tsv")):
        return {}
    frame = _table(src, "series_metadata", ())
    column = next((name for name in _SLICES if name in frame), None)
    if column is None or "image_id" not in frame:
        return {}
    counted = pd.to_numeric(frame[column], errors="coerce")
    pairs = zip(frame["image_id"], counted, strict=True)
    return {_file(str(image)): int(n) for image, n in pairs if pd.notna(n) and pd.notna(image)}


def _table(src: Path, stem: str, required: tuple[str, ...]) -> pd.DataFrame:
    """The newest of the tables of a name, all texts."""
    paths = sorted(src.glob(f"{stem}*.tsv"))
    if not paths:
        raise CohortError(f"{src}: {stem}_<date>.tsv is missing; download it from the portal.")
    frame = _read(paths[-1], "\t")
    missing = [name for name in required if name not in frame]
    if missing:
        there = ", ".join(map(str, frame))[:120]
        raise CohortError(
            f"{paths[-1]}: column '{missing[0]}' is missing (found: {there}); download the file "
            "again."
        )
    return frame


def _read(path: Path, separator: str) -> pd.DataFrame:
    try:
        return pd.read_csv(path, sep=separator, dtype=str)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        reason = " ".join(str(error).split())[:120]
        raise CohortError(f"{path}: not readable ({reason}); download it again.") from error


def _column(frame: pd.DataFrame, names: tuple[str, ...], path: Path) -> str:
    for name in names:
        if name in frame:
            return name
    raise CohortError(f"{path}: column '{names[0]}' is missing; use the published file.")


def _one_row(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """By impression_id; rows that repeat another in full are one."""
    frame = frame.dropna(subset=["impression_id"]).drop_duplicates()
    twice = frame["impression_id"][frame["impression_id"].duplicated()]
    if len(twice):
        raise CohortError(
            f"{path}: {len(twice.unique()):,} studies, e.g. {twice.iloc[0]}, have several rows "
            "that differ; keep one each."
        )
    return frame.set_index("impression_id")
