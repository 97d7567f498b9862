"""What lies in a folder of scans and recordings: told by content, from headers alone.

Of a DICOM header only what places the data is looked at: whose it is, when it was acquired, what
it shows. Stills and strips are set aside: no model reads them, and they are where names are
painted into the picture.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import pydicom
from pydicom.multival import MultiValue

from analysis.cohort.readers.echo_header import header_view, is_still, still_kind
from analysis.cohort.readers.signal import probe_signal
from analysis.cohort.schema import CohortError
from models.contracts import Kind

NIFTI = (".nii", ".nii.gz")
_BESIDE = (".dat", ".xyz", ".atr", ".txt", ".md", ".csv", ".json", ".tsv", ".xml", ".pdf", ".html")
_TAGS = (
    "SOPClassUID",
    "Modality",
    "ImageType",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "AcquisitionDateTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "StudyDate",
    "StudyTime",
    "ContentDate",
    "ContentTime",
    "BurnedInAnnotation",
    "ViewName",
    "ViewCodeSequence",
    "Rows",
    "NumberOfFrames",
    "SequenceOfUltrasoundRegions",
)
_WAVEFORMS = "1.2.840.10008.5.1.4.1.1.9."
_ULTRASOUND = ("1.2.840.10008.5.1.4.1.1.3.1", "1.2.840.10008.5.1.4.1.1.6.1")
_CT = "1.2.840.10008.5.1.4.1.1.2"
_BY_MODALITY = {"CT": Kind.VOLUME, "ECG": Kind.SIGNAL, "US": Kind.VIDEO}
# A series with fewer slices than this share of the largest is another picture, not its stand-in.
_STAND_IN = 0.5
Say = Callable[[int, int], None]


@dataclass(frozen=True)
class Item:
    """One scan or recording of a source.

    path: a NIfTI file, a WFDB header, a DICOM file, or the folder of a series. files: the slices
    of the series. patient_id: as the DICOM header has it, '' for other files. person: whose it
    is, once that is known. text: the header does not rule out text within the picture.
    """

    kind: Kind
    path: Path
    files: tuple[Path, ...] = ()
    patient_id: str = ""
    person: str = ""
    acquired: datetime | None = None
    view: str | None = None
    text: bool = False


@dataclass
class Found:
    """What there is. items: by path; the choices for one scan stand together, the best first.

    aside: how many files were not of use, by reason. unreadable: a sentence each.
    """

    items: list[tuple[Item, ...]] = field(default_factory=list)
    aside: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)

    def kinds(self) -> list[Kind]:
        """Kinds of what was found, in a fixed order."""
        there = {choices[0].kind for choices in self.items}
        return [kind for kind in (Kind.VOLUME, Kind.SIGNAL, Kind.VIDEO) if kind in there]


Slices = dict[tuple[str, str], list[Item]]
"""Slices by study and series."""


def files_below(src: Path) -> list[Path]:
    """Files of a folder and its folders, by path; `src` itself when it is a file."""
    if src.is_file():
        return [src]
    return sorted(
        path
        for path in src.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(src).parts)
        and path.name.upper() != "DICOMDIR"
        and path.is_file()
    )


def is_nifti(path: Path) -> bool:
    """Whether a file is a NIfTI volume by its name."""
    return path.name.lower().endswith(NIFTI)


def classify(files: Iterable[Path], say: Say | None = None) -> Found:
    """Tell what the files are.

    Slices become series, and of the series of one study (of one folder where no study is stated)
    the largest counts; others of at least half its size stand in where it cannot be read.
    """
    found = Found()
    slices: Slices = {}
    listed = list(files)
    for at, path in enumerate(listed, start=1):
        if is_nifti(path):
            found.items.append((Item(Kind.VOLUME, path),))
        elif path.suffix.lower() == ".hea":
            found.items.append((Item(Kind.SIGNAL, path, acquired=_start(path)),))
        elif path.suffix.lower() not in _BESIDE:
            with warnings.catch_warnings(action="ignore"):  # they quote headers
                _dicom(path, found, slices)
        if say is not None:
            say(at, len(listed))
    found.items += _series(slices, found.aside)
    found.items.sort(key=lambda choices: choices[0].path)
    return found


def acquired(header: pydicom.Dataset) -> datetime | None:
    """When the data were acquired, by the clock of the place; None where the header is silent."""
    whole = str(header.get("AcquisitionDateTime") or "")
    pairs = [(whole[:8], whole[8:])]
    pairs += [
        (str(header.get(f"{name}Date") or ""), str(header.get(f"{name}Time") or ""))
        for name in ("Acquisition", "Study", "Content")
    ]
    for day, clock in pairs:
        digits = clock.split(".")[0].split("+")[0].split("-")[0].replace(":", "")[:6]
        try:
            return datetime.strptime(f"{day}{digits.ljust(6, '0')}", "%Y%m%d%H%M%S")
        except ValueError:
            continue
    return None


def _start(path: Path) -> datetime | None:
    """When a WFDB record was begun; None where it does not say, or cannot be read."""
    try:
        return probe_signal(path).start
    except CohortError:
        return None


def _dicom(path: Path, found: Found, slices: Slices) -> None:
    try:
        with path.open("rb") as stream:
            is_dicom = stream.read(132)[128:] == b"DICM"
        if not is_dicom:
            found.aside["neither NIfTI, WFDB nor DICOM"] += 1
            return
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
        kind = _kind(header)
        if kind is Kind.VOLUME:
            if "LOCALIZER" in _words(header.get("ImageType")):
                found.aside["localizers"] += 1
                return
            study = str(header.get("StudyInstanceUID") or path.parent)
            series = str(header.get("SeriesInstanceUID") or path.parent)
            one = _item(kind, path, header)
            slices.setdefault((study, series), []).append(one)
        elif kind is Kind.SIGNAL:
            found.items.append((_item(kind, path, header),))
        elif kind is Kind.VIDEO and not is_still(header):
            found.items.append((_item(kind, path, header, view=header_view(header)),))
        elif kind is Kind.VIDEO:
            found.aside[f"ultrasound pictures without motion ({still_kind(header)})"] += 1
        else:
            found.aside[f"DICOM files of modality {_code(header)}"] += 1
    except Exception as error:  # a damaged header makes pydicom raise anything, and quote it
        reason = type(error).__name__
        found.unreadable.append(f"{path}: not readable as DICOM ({reason}); export it again.")


def _kind(header: pydicom.Dataset) -> Kind | None:
    sop = str(header.get("SOPClassUID") or "")
    if "Rows" not in header and (sop.startswith(_WAVEFORMS) or header.get("Modality") == "ECG"):
        return Kind.SIGNAL
    if sop in _ULTRASOUND:
        return Kind.VIDEO
    kind = Kind.VOLUME if sop == _CT else _BY_MODALITY.get(str(header.get("Modality") or ""))
    # A report or a screenshot made at the scanner states its modality, too.
    return kind if kind is not None and "Rows" in header and ".1.1.7" not in sop else None


def _code(header: pydicom.Dataset) -> str:
    """The modality's code: letters only, since a damaged header may hold anything."""
    code = str(header.get("Modality") or "")
    sop = str(header.get("SOPClassUID") or "")
    screenshot = sop.startswith("1.2.840.10008.5.1.4.1.1.7")
    return "SC" if screenshot else code if code.isalpha() and len(code) < 9 else "not stated"


def _words(value: object) -> list[str]:
    return [str(word).upper() for word in (value if isinstance(value, MultiValue) else [value])]


def _item(kind: Kind, path: Path, header: pydicom.Dataset, **more: object) -> Item:
    text = kind is Kind.VIDEO and str(header.get("BurnedInAnnotation") or "").upper() != "NO"
    made = Item(
        kind, path, patient_id=str(header.get("PatientID") or ""), acquired=acquired(header)
    )
    return replace(made, text=text, **more)  # type: ignore[arg-type]


def _series(slices: Slices, aside: Counter[str]) -> list[tuple[Item, ...]]:
    studies: dict[tuple[str, str], list[Item]] = {}
    for (study, _), members in sorted(slices.items()):
        times = [one.acquired for one in members if one.acquired is not None]
        paths = tuple(one.path for one in members)
        patient = members[0].patient_id
        first = min(times) if times else None
        item = Item(Kind.VOLUME, _home(paths), paths, patient, acquired=first)
        studies.setdefault((study, patient), []).append(item)
    found = []
    for series in studies.values():
        series.sort(key=lambda item: -len(item.files))
        near = tuple(s for s in series if len(s.files) >= _STAND_IN * len(series[0].files))
        found.append(near)
        if len(series) > 1:
            aside["smaller CT series of a study whose largest was taken"] += len(series) - 1
    return found


def _home(paths: Sequence[Path]) -> Path:
    """The folder that holds all of some files."""
    home = paths[0].parent
    while not all(home in path.parents for path in paths):
        home = home.parent
    return home
