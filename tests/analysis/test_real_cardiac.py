"""Real recordings go the whole way: import, prediction, explanation."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import examples

from analysis.attribution.case import open_case
from analysis.attribution.modalities import modality_ledger
from analysis.attribution.signal import signal_map
from analysis.attribution.target import ClassLogit
from analysis.attribution.video import video_map
from analysis.cohort.check import check_cohort
from analysis.cohort.cohort import Cohort
from analysis.cohort.importers.recordings import import_recordings
from analysis.cohort.readers.echo import CineECG, Still, read_cine, read_still
from analysis.cohort.readers.signal import read_signal
from analysis.cohort.schema import CohortError
from analysis.cohort.write_recordings import _waveform
from analysis.ecg import delineate
from analysis.echo import end_diastoles
from models.checkpoint import load_run
from sample_data.workspace import ENCODERS, RUNS

REAL = Path(__file__).resolve().parents[3] / "shared" / "real" / "ecg"
HF = ClassLogit(1, "heart failure")
ECG = np.sin(np.arange(250) / 11).astype(np.float32)


@pytest.fixture(scope="module")
def like(tiny_workspace: Path) -> Path:
    return tiny_workspace / "cohorts" / "hf"


@pytest.fixture(scope="module")
def run():
    return load_run(RUNS / "hf-tgmm", [ENCODERS])


@pytest.fixture(scope="module")
def dicom(tmp_path_factory: pytest.TempPathFactory, like: Path) -> Cohort:
    """A 12-lead waveform, a colour cine and a still, all pydicom's own real files, as one patient.

    The cine gets R waves and an ECG, as some machines write them.
    """
    src = tmp_path_factory.mktemp("dicom")
    for name in ("waveform", "ybr_color", "rgb_color"):
        shutil.copy(examples.get_path(name), src)
    cine = pydicom.dcmread(src / "examples_ybr_color.dcm")
    cine.RWaveTimeVector = [10.0, 810.0]
    cine.WaveformSequence = [_waveform(CineECG(ECG, 5.0, 4.0, "mV"))]
    cine.save_as(src / "examples_ybr_color.dcm")
    out = src.parent / f"{src.name}-cohort"
    told: list[str] = []
    import_recordings(src, out, like, {"examples_ybr_color.dcm": "A4C"}, told.append)
    assert any("A4C, 30 frames" in line for line in told)
    assert any("still, shown but not read by a model" in line for line in told)
    return Cohort.open(out)


def test_an_imported_cohort_passes_its_check(dicom: Cohort) -> None:
    assert [str(p) for p in check_cohort(dicom.folder, deep=True) if p.severity == "error"] == []
    assert dicom.availability().loc[1].to_dict() == {"labs": False, "ecg": True, "echo": True}
    for task in ("hf", "incident_hf"):  # the app asks for either kind of outcome
        assert dicom.outcomes(task, [1]).without == (1,)


def test_samples_and_frames_are_those_of_the_files(dicom: Cohort) -> None:
    ours, theirs = read_signal(dicom.signals("ecg")[1]), read_signal(examples.get_path("waveform"))
    assert ours.leads == theirs.leads
    assert ours.rate_hz == theirs.rate_hz
    assert np.nanmax(np.abs(ours.array - theirs.array)) <= 0.0026  # 5 uV steps
    cine = read_cine(dicom.videos("echo")[1]["A4C"])
    assert np.array_equal(cine.frames, read_cine(examples.get_path("ybr_color")).frames)
    assert cine.r_waves_ms == (10, 810)
    assert end_diastoles(cine.frame_times_ms, cine.r_waves_ms) == (0, 24)  # of 33.3 ms
    assert cine.ecg is not None
    assert (cine.ecg.start_ms, cine.ecg.step_ms, cine.ecg.unit) == (5, 4, "mV")
    np.testing.assert_allclose(cine.ecg.values, ECG, atol=1e-4)
    # Nothing of the headers came along.
    text = b"".join(p.read_bytes() for p in dicom.folder.rglob("*") if p.is_file())
    assert b"CompressedSamples" not in text


def test_a_still_comes_along_to_be_shown_and_is_not_read(dicom: Cohort, run) -> None:
    case = open_case(run, dicom, 1)
    assert list(case.cines("echo")) == ["A4C"]
    ((view, still),) = case.stills("echo")
    assert isinstance(still, Still)
    assert (view, still.kind) == (None, "still")
    np.testing.assert_array_equal(still.picture, read_still(examples.get_path("rgb_color")).picture)
    assert case.raw("echo").fields["mask"].sum() == 1


def test_a_real_echo_and_ecg_are_predicted_and_explained(dicom: Cohort, run) -> None:
    case = open_case(run, dicom, 1)
    assert case.present == ("ecg", "echo")
    ledger = modality_ledger(case, HF)
    assert ledger.gap < 1e-4
    assert ledger.share("labs") is None
    ecg = signal_map(case, "ecg", HF, "gradcam_plus_plus")
    assert ecg.values.shape[0] == 12
    assert np.isfinite(ecg.values).all()
    assert not ecg.is_empty
    echo = video_map(case, "echo", HF, "gradcam_plus_plus")
    assert echo.views == ("A4C",)
    assert np.isfinite(echo.values).all()
    found = delineate(case.tracing("ecg").array, case.tracing("ecg").leads, 1000.0)
    assert found.measures.rate_bpm == pytest.approx(61, abs=2)


def test_a_real_wfdb_record_is_predicted_and_explained(tmp_path: Path, like: Path, run) -> None:
    """PTB s0010_re: 15 channels of 1,000 Hz, of which Frank's three are left out."""
    if not (REAL / "s0010_re.hea").is_file():
        pytest.skip(f"{REAL} is not there: real data are kept outside the repository")
    src = tmp_path / "patient"
    src.mkdir()
    for path in REAL.glob("s0010_re.*"):
        shutil.copy(path, src)
    import_recordings(src, tmp_path / "cohort", like)
    case = open_case(run, Cohort.open(tmp_path / "cohort"), 1)
    assert case.present == ("ecg",)
    assert len(case.tracing("ecg").leads) == 12
    assert case.tracing("ecg").rate_hz == 1000
    for method in ("gradcam_plus_plus", "integrated_gradients"):
        made = signal_map(case, "ecg", HF, method)
        assert np.isfinite(made.values).all()
        assert made.whole == pytest.approx(case.value(HF)[0])
        if made.gap is not None:
            assert made.gap < 0.1 * abs(made.whole - float(made.reference or 0)) + 0.02


def test_what_cannot_be_imported_is_said(tmp_path: Path, like: Path) -> None:
    src = tmp_path / "empty"
    src.mkdir()
    (src / "notes.bin").write_bytes(b"nothing")
    with pytest.raises(CohortError, match="holds no ECG"):
        import_recordings(src, tmp_path / "cohort", like)
    assert not (tmp_path / "cohort").exists()
    with pytest.raises(CohortError, match="there is no view 'A9C'"):
        import_recordings(src, tmp_path / "cohort", like, {"notes.bin": "A9C"})
    shutil.copy(examples.get_path("ybr_color"), src / "unnamed.dcm")
    told: list[str] = []
    with pytest.raises(CohortError, match="--view"):
        import_recordings(src, tmp_path / "cohort", like, note=told.append)
    assert any("its view is not named" in line for line in told)
