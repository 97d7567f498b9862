"""Nothing that names a person crosses over from the headers, names and comments of a source."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom import examples
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from typer.testing import CliRunner

from analysis.cohort.cohort import Cohort
from analysis.cohort.importers.identities import Identities
from analysis.cohort.importers.imaging import import_imaging
from analysis.cohort.importers.imaging_add import How
from analysis.cohort.importers.masking import read_masks
from analysis.cohort.readers.echo import read_cine
from analysis.cohort.readers.echo_ecg import CineECG
from analysis.cohort.readers.volume import read_volume
from analysis.cohort.write_recordings import _waveform
from app.cli import cli
from tests.analysis.cohort.imaging_sources import (
    ZERO,
    cine,
    ct_series,
    ecg,
    holding,
    make_cohort,
    nifti,
    subject_of,
)

KEY = b"0123456789abcdef0123456789abcdef"
MARK = "ZQXM"
ROOT = "1.2.826.0.77665544"
PERSON = "HOSP7701"
WORDS = (
    "PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName",
    "PatientAddress", "PatientComments", "PatientTelephoneNumbers", "EthnicGroup", "Occupation",
    "AdditionalPatientHistory", "AccessionNumber", "StudyID", "StudyDescription",
    "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName",
    "ReferringPhysicianName", "PerformingPhysicianName", "NameOfPhysiciansReadingStudy",
    "OperatorsName", "RequestingPhysician", "RequestedProcedureDescription", "ProtocolName",
    "Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions",
    "SeriesDescription", "ImageComments", "DerivationDescription", "ContrastBolusAgent",
    "PerformedProcedureStepDescription", "ReasonForStudy", "BodyPartExamined",
)  # fmt: skip
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")


def plant(path: Path, patient: str = PERSON) -> None:
    """Put the mark into every text of a DICOM file's header that places no data."""
    content = pydicom.dcmread(path)
    for word in WORDS:
        text = f"{MARK}^{MARK}" if dictionary_VR(word) == "PN" else MARK
        setattr(content, word, text)
    for number, uid in enumerate(UIDS):
        same = path.parent if uid != "SOPInstanceUID" else path
        setattr(content, uid, f"{ROOT}.{number}.{sum(map(ord, str(same)))}")
    content.file_meta.MediaStorageSOPInstanceUID = content.SOPInstanceUID
    content.file_meta.SourceApplicationEntityTitle = MARK
    content.file_meta.ImplementationVersionName = MARK
    content.PatientID, content.PatientBirthDate, content.PatientSex = patient, "19450607", "F"
    content.PatientAge = "075Y"
    content.AcquisitionDate = content.StudyDate = content.ContentDate = "20210302"
    content.OtherPatientIDsSequence = [Dataset()]
    content.OtherPatientIDsSequence[0].PatientID = MARK
    block = content.private_block(0x0011, MARK, create=True)
    block.add_new(0x10, "LO", MARK)
    block.add_new(0x11, "UN", MARK.encode())
    content.preamble = MARK.encode() * 32
    if "WaveformSequence" in content:
        for channel in content.WaveformSequence[0].ChannelDefinitionSequence:
            channel.ChannelLabel = MARK
    content.save_as(path)


def marked_nifti(path: Path) -> Path:
    """Every free text of the header, an extension, and a name and comment in the gzip header."""
    plain = nifti(path.with_name("plain.nii"), 4)
    image = nib.load(plain)
    for name in ("descrip", "aux_file", "db_name", "intent_name"):
        image.header[name] = MARK.encode()
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", MARK.encode()))
    body = image.to_bytes()
    assert body.count(MARK.encode()) == 5
    with path.open("wb") as stream, gzip.GzipFile(f"{MARK}.nii", "wb", fileobj=stream) as packed:
        packed.write(body)
    plain.unlink()
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One person's CT series, NIfTI, WFDB record, DICOM waveform and two cines, all marked."""
    src = tmp_path_factory.mktemp("source") / f"export-{MARK}"
    home = src / PERSON / MARK
    ct_series(home / f"{MARK}-series", PERSON, 1)
    for path in (home / f"{MARK}-series").iterdir():
        plant(path)
    (src / "nifti").mkdir()
    marked_nifti(src / "nifti" / f"{PERSON}_{MARK}.nii.gz")
    header = ecg(home / "record.hea", 1, start=ZERO.to_pydatetime())
    lines = header.read_text().replace("record", f"{MARK}-record")
    lines = lines.rstrip("\n") + f"\n# name: {MARK}\n# born 1945-06-07\n"
    (home / f"{MARK}-record.hea").write_text(lines)
    header.unlink()
    header.with_suffix(".dat").rename(home / f"{MARK}-record.dat")
    shutil.copy(examples.get_path("waveform"), home / "waveform")
    plant(home / "waveform")
    cine(home / f"{MARK}-one.dcm", "A4C")
    content = pydicom.dcmread(home / f"{MARK}-one.dcm")
    content.ViewName, content.HeartRate = "A4C", 71
    trace = _waveform(CineECG(np.sin(np.arange(50) / 5), 0.0, 4.0, "mV"))
    unit = trace.ChannelDefinitionSequence[0].ChannelSensitivityUnitsSequence[0]
    unit.CodeValue = unit.CodeMeaning = MARK
    content.WaveformSequence = [trace]
    content.save_as(home / f"{MARK}-one.dcm")
    plant(home / f"{MARK}-one.dcm")
    shutil.copy(examples.get_path("ybr_color"), home / "real")
    plant(home / "real")
    return src


@pytest.fixture(scope="module", params=[b"", KEY], ids=["plain ids", "hashed ids"])
def imported(
    request: pytest.FixtureRequest, source: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, bytes]:
    """A cohort with all of it, text blackened, and the key it was made with."""
    key: bytes = request.param
    who, how = Identities(key), How(read_masks([], outside_sector=True))
    out = make_cohort(tmp_path_factory.mktemp("imported") / "co", [PERSON, "other"], key)
    done = import_imaging(
        source / "nifti", out, name="ct_nifti", id_from=rf"({PERSON})_", identities=who, how=how
    )
    done += import_imaging(
        source, out, id_from=rf"({PERSON})/", views={"real": "A2C"}, identities=who, how=how
    )
    assert done == ["ct_nifti", "ct", "ecg", "echo"]
    return out, key


def test_nothing_of_a_header_or_a_name_is_in_the_cohort(
    source: Path, imported: tuple[Path, bytes]
) -> None:
    assert holding(source, MARK), "the search finds what is there"
    out, key = imported
    cohort, who = Cohort.open(out), Identities(key)
    person = subject_of(out, PERSON, key)
    for name in cohort.spec.modalities:
        assert cohort.having(name).tolist() == [person]
    assert sorted(cohort.videos("echo")[person]) == ["A2C", "A4C"]
    for secret in (MARK, "77665544", "19450607", "1945-06-07", "075Y"):
        assert holding(out, secret) == [], f"{secret} crossed over"
    if key:
        for secret in (PERSON, "20210302", "2021-03-02", "04/03/2021"):
            assert holding(out, secret) == [], f"{secret} crossed over"
        times = pd.read_parquet(out / "imported/ct/imaging.parquet")["acquired"]
        shift = pd.Timedelta(microseconds=who.shift_us(PERSON))
        assert (times - shift).dt.strftime("%Y%m%d").tolist() == ["20210302"]
    else:
        assert holding(out, PERSON) == ["subjects.parquet", "subjects.parquet as text"]


def test_what_the_numbers_say_is_still_there(source: Path, tmp_path: Path) -> None:
    out = make_cohort(tmp_path / "co", [PERSON])
    import_imaging(source, out, id_from=rf"({PERSON})/", views={"real": "A2C"})
    cohort = Cohort.open(out)
    person = subject_of(out, PERSON)
    cine_of = cohort.videos("echo")[person]
    taken = read_cine(cine_of["A4C"])
    assert taken.rate_bpm == 71
    assert taken.ecg is not None
    assert taken.ecg.unit == "", "a unit that is none is not kept, and steps stay steps"
    shape = taken.ecg.values / np.abs(taken.ecg.values).max()
    np.testing.assert_allclose(shape, np.sin(np.arange(50) / 5), atol=1e-3)
    given = read_cine(source / PERSON / MARK / "real")
    np.testing.assert_array_equal(read_cine(cine_of["A2C"]).frames, given.frames)
    series = read_volume(source / PERSON / MARK / f"{MARK}-series")
    np.testing.assert_array_equal(read_volume(cohort.volumes("ct")[person]).array, series.array)


def test_only_what_is_written_anew_is_in_a_dicom_file(imported: tuple[Path, bytes]) -> None:
    """Element by element: no private ones, no UID of the source, no text but the cohort's own."""
    out, key = imported
    for path in sorted((out / "imported" / "echo").glob("*.dcm")):
        content = pydicom.dcmread(path)
        assert content.file_meta.TransferSyntaxUID != ExplicitVRLittleEndian
        own = {"tiny", str(subject_of(out, PERSON, key)), "A4C", "A2C", "US", "FUSIONLENS"}
        for element in content.iterall():
            assert not element.tag.is_private
            if element.VR == "UI":
                assert str(element.value).startswith(("2.25.", "1.2.840.10008."))
            if element.VR in ("LO", "PN", "LT", "ST", "UT", "AE") and str(element.value):
                words = set(str(element.value).split("-")) | {str(element.value)}
                assert words & own or element.keyword == "CodeMeaning", element
            if element.VR in ("DA", "DT", "TM"):
                assert not str(element.value)


@pytest.mark.parametrize("what", ["scans", "recordings"])
def test_patients_of_whom_nothing_else_is_known_can_be_hashed_too(
    source: Path, tmp_path: Path, what: str
) -> None:
    like = make_cohort(tmp_path / "like", ["x", "y"])
    nifti(tmp_path / "one" / "x.nii.gz")
    import_imaging(tmp_path / "one", like)
    ecg(tmp_path / "two" / "x.hea")
    cine(tmp_path / "three" / "x.dcm", "A4C")
    for kind in ("two", "three"):
        import_imaging(tmp_path / kind, like, id_from="(x)")
    key = tmp_path / "key"
    key.write_bytes(KEY)
    src = tmp_path / "src"
    if what == "scans":
        src.mkdir()
        shutil.copy(source / "nifti" / f"{PERSON}_{MARK}.nii.gz", src)
    else:
        (src / PERSON).mkdir(parents=True)
        for path in (source / PERSON / MARK).iterdir():
            if path.suffix in (".hea", ".dat", ".dcm"):
                shutil.copy(path, src / PERSON)
    command = ["import", what, str(src), str(tmp_path / "out"), "--like", str(like)]
    answer = CliRunner().invoke(cli, [*command, "--key", str(key)])
    assert answer.exit_code == 0, answer.output
    for secret in (MARK, PERSON, "1945"):
        assert holding(tmp_path / "out", secret) == []
    assert Cohort.open(tmp_path / "out").spec.pseudonyms == Identities(KEY).pseudonyms
