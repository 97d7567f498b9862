"""Echo cines come out as RGB with true times and scale; stills are set aside unopened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pydicom import examples
from pydicom.encaps import generate_frames
from pydicom.uid import MPEG2MPML, UID, ExplicitVRLittleEndian

from analysis.cohort.check import check_cohort
from analysis.cohort.cohort import Cohort
from analysis.cohort.dataset import CohortDataset, VideoReading, all_inputs
from analysis.cohort.readers import cines, echo_header
from analysis.cohort.readers.echo import (
    VIEWS,
    Cine,
    CineECG,
    centre_square,
    for_model,
    frame_numbers,
    is_still,
    probe_cine,
    read_cine,
    read_for_model,
    read_still,
    view_name,
)
from analysis.cohort.schema import (
    CohortError,
    CohortSpec,
    ModalitySpec,
    Provenance,
    TaskSpec,
    write_spec,
)
from analysis.cohort.write import (
    write_cine,
    write_imaging,
    write_outcomes,
    write_still,
    write_subjects,
)
from analysis.echo import end_diastoles
from models.contracts import Kind

Bytes = npt.NDArray[np.uint8]


def noise(*shape: int, seed: int = 0) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def raw_file(path: Path, pixels: npt.NDArray[Any], kind: str, **fields: Any) -> Path:
    """An uncompressed cine whose stored numbers are `pixels` (F, H, W[, 3])."""
    write_cine(path, np.zeros((2, 4, 4), np.uint8), 40, None, "A4C", "raw")
    content = pydicom.dcmread(path)
    content.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content.NumberOfFrames, content.Rows, content.Columns = pixels.shape[:3]
    content.SamplesPerPixel = 3 if pixels.ndim == 4 else 1
    if pixels.ndim == 4:
        content.PlanarConfiguration = 0
    content.BitsAllocated = 8 * pixels.dtype.itemsize
    content.BitsStored = content.BitsAllocated
    content.HighBit = content.BitsStored - 1
    content.PhotometricInterpretation = kind
    for name, value in fields.items():
        setattr(content, name, value)
    content.PixelData = pixels.tobytes()
    content["PixelData"].VR = "OB" if pixels.dtype == np.uint8 else "OW"
    content["PixelData"].is_undefined_length = False
    content.save_as(path)
    return path


def edit(path: Path, **fields: Any) -> Path:
    """The same file with header fields changed; None takes one out."""
    content = pydicom.dcmread(path)
    for name, value in fields.items():
        if value is None:
            delattr(content, name)
        else:
            setattr(content, name, value)
    content.save_as(path)
    return path


# ---------------------------------------------------------------- writing and reading


@pytest.mark.parametrize("side", [24, 48])  # RLE, JPEG 2000
@pytest.mark.parametrize("colour", [False, True])
def test_what_is_written_is_read_exactly(tmp_path: Path, colour: bool, side: int) -> None:
    frames = noise(5, side, 50, 3)
    if not colour:
        frames = np.repeat(frames[..., :1], 3, axis=3)
    for name in ("a", "b"):
        write_cine(
            tmp_path / name / "c.dcm", frames, 31.25, 0.4, "Doppler_Parasternal_Short", ("hf", 7)
        )
    first = tmp_path / "a" / "c.dcm"
    assert first.read_bytes() == (tmp_path / "b" / "c.dcm").read_bytes()
    cine = read_cine(first)
    np.testing.assert_array_equal(cine.frames, frames)
    assert cine.frames.dtype == np.uint8
    np.testing.assert_allclose(cine.frame_times_ms, np.arange(5) * 31.25)
    assert cine.timed
    assert cine.view == "Doppler_Parasternal_Short"
    assert cine.is_colour is colour
    assert cine.mm_per_pixel == pytest.approx(0.4)
    header = pydicom.dcmread(first)
    for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        assert UID(header[name].value).is_valid
    assert len({header.SOPInstanceUID, header.SeriesInstanceUID, header.StudyInstanceUID}) == 3
    other = pydicom.dcmread(write_cine(tmp_path / "o.dcm", frames, 31.25, 0.4, "A4C", ("hf", 7)))
    assert other.StudyInstanceUID == header.StudyInstanceUID
    assert other.SOPInstanceUID != header.SOPInstanceUID


def test_gray_without_colour_axis_becomes_rgb(tmp_path: Path) -> None:
    frames = noise(3, 8, 9)
    cine = read_cine(write_cine(tmp_path / "g.dcm", frames, 40, None, "A2C", 1))
    np.testing.assert_array_equal(cine.frames, np.repeat(frames[..., None], 3, axis=3))
    assert cine.mm_per_pixel is None
    assert not cine.is_colour


def test_only_wanted_frames_come_with_their_times(tmp_path: Path) -> None:
    frames = noise(9, 8, 8)
    path = write_cine(tmp_path / "g.dcm", frames, 40, None, "A2C", 1)
    cine = read_cine(path, [1, 4, 8])
    np.testing.assert_array_equal(cine.frames[..., 0], frames[[1, 4, 8]])
    assert cine.frame_times_ms.tolist() == [40, 160, 320]


@pytest.mark.parametrize(
    ("frames", "changes", "words"),
    [
        (np.zeros((1, 4, 4), np.uint8), {}, "at least two frames"),
        (np.zeros((4, 4, 4), np.float32), {}, "float32"),
        (np.zeros((4, 4, 4, 4), np.uint8), {}, r"\(4, 4, 4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), {"frame_time_ms": 0}, "0 ms a frame"),
        (np.zeros((4, 4, 4), np.uint8), {"mm_per_pixel": -1}, "-1 mm a pixel"),
    ],
)
def test_what_is_no_cine_is_not_written(
    tmp_path: Path, frames: Any, changes: Mapping[str, Any], words: str
) -> None:
    given: dict[str, Any] = {"frame_time_ms": 33.0, "mm_per_pixel": 1.0, **changes}
    with pytest.raises(CohortError, match=words):
        write_cine(tmp_path / "c.dcm", frames, view="A4C", ids="x", **given)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- pixels of other makers


def test_a_real_clip_is_what_another_jpeg_decoder_gives() -> None:
    path = Path(examples.get_path("ybr_color"))
    cine = read_cine(path)
    assert cine.frames.shape == (30, 240, 320, 3)
    stored = list(generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=30))
    for at in (0, 13, 29):
        other = np.asarray(Image.open(BytesIO(stored[at])).convert("RGB"))
        assert np.abs(cine.frames[at].astype(int) - other).max() <= 3
    np.testing.assert_allclose(np.diff(cine.frame_times_ms), 33.333)
    assert not cine.is_colour
    # The picture was shrunk after its regions were measured, so their scale is not its scale.
    assert cine.mm_per_pixel is None


# ITU-R BT.601, full range: primary colours and gray
YBR = [(76, 85, 255), (150, 44, 21), (29, 255, 107), (128, 128, 128)]
RGB = [(254, 0, 0), (0, 255, 1), (0, 0, 254), (128, 128, 128)]


def test_colour_spaces_become_rgb(tmp_path: Path) -> None:
    ybr = np.tile(np.array(YBR, np.uint8).reshape(1, 2, 2, 3), (2, 1, 1, 1))
    cine = read_cine(raw_file(tmp_path / "ybr.dcm", ybr, "YBR_FULL"))
    assert np.abs(cine.frames[1].reshape(4, 3).astype(int) - RGB).max() <= 2
    rgb = noise(3, 4, 5, 3)
    cine = read_cine(raw_file(tmp_path / "rgb.dcm", rgb, "RGB"))
    np.testing.assert_array_equal(cine.frames, rgb)
    planes = np.ascontiguousarray(rgb.transpose(0, 3, 1, 2))
    path = raw_file(tmp_path / "planes.dcm", rgb, "RGB", PlanarConfiguration=1)
    content = pydicom.dcmread(path)
    content.PixelData = planes.tobytes()
    content.save_as(path)
    np.testing.assert_array_equal(read_cine(path).frames, rgb)
    indices = np.array([0, 1, 1, 0], np.uint8).reshape(2, 1, 2)
    path = raw_file(tmp_path / "palette.dcm", indices, "PALETTE COLOR")
    content = pydicom.dcmread(path)
    for at, row in enumerate((b"\x09\x00", b"\x08\x01", b"\x07\xc8")):
        content.add_new(0x00281101 + at, "US", [2, 0, 8])
        content.add_new(0x00281201 + at, "OW", row)
    content.save_as(path)
    cine = read_cine(path)
    assert cine.frames[0].tolist() == [[[9, 8, 7], [0, 1, 200]]]
    assert cine.frames[1].tolist() == [[[0, 1, 200], [9, 8, 7]]]


def test_inverted_and_deep_gray(tmp_path: Path) -> None:
    gray = np.array([[[0, 40]], [[255, 90]]], np.uint8)
    cine = read_cine(raw_file(tmp_path / "m1.dcm", gray, "MONOCHROME1"))
    assert cine.frames[..., 0].tolist() == [[[255, 215]], [[0, 165]]]
    deep = np.array([[[0, 4095]], [[2048, 16]]], np.uint16)
    cine = read_cine(raw_file(tmp_path / "m2.dcm", deep, "MONOCHROME2", BitsStored=12, HighBit=11))
    assert cine.frames[..., 2].tolist() == [[[0, 255]], [[128, 1]]]


def test_colour_is_told_by_the_header_and_else_by_the_pixels(tmp_path: Path) -> None:
    gray = np.repeat(noise(4, 20, 20, 1), 3, axis=3)
    flow = gray.copy()
    flow[:, 5:10, 5:10] = (250, 30, 20)
    text = gray.copy()
    text[:, 0, 0] = (0, 255, 0)
    for name, frames, colour in (("flow", flow, True), ("text", text, False)):
        path = raw_file(tmp_path / f"{name}.dcm", frames, "RGB", UltrasoundColorDataPresent=1)
        assert read_cine(path).is_colour
        edit(path, UltrasoundColorDataPresent=None)
        assert probe_cine(path).is_colour is None
        assert read_cine(path).is_colour is colour


# ---------------------------------------------------------------- times, scale, view


def test_times_come_from_whatever_the_header_has(tmp_path: Path) -> None:
    path = write_cine(tmp_path / "c.dcm", noise(4, 8, 8), 40, None, "A4C", 1)
    edit(path, FrameTimeVector=[0, 30, 35.5, 20])
    assert probe_cine(path).frame_times_ms.tolist() == [0, 30, 65.5, 85.5]
    edit(path, FrameTimeVector=[0, 30])  # not one a frame: not to be trusted
    assert probe_cine(path).frame_times_ms.tolist() == [0, 40, 80, 120]
    edit(path, FrameTimeVector=None, FrameTime=None, CineRate=50)
    assert probe_cine(path).frame_times_ms.tolist() == [0, 20, 40, 60]
    edit(path, CineRate=None, RecommendedDisplayFrameRate=25)
    assert probe_cine(path).timed
    assert probe_cine(path).frame_times_ms.tolist() == [0, 40, 80, 120]
    edit(path, RecommendedDisplayFrameRate=None)
    info = probe_cine(path)
    assert not info.timed
    np.testing.assert_allclose(info.frame_times_ms, np.arange(4) * 100 / 3)
    assert not read_cine(path).timed


def test_scale_is_the_calibration_of_the_picture(tmp_path: Path) -> None:
    path = write_cine(tmp_path / "c.dcm", noise(3, 40, 60), 40, 0.75, "A4C", 1)
    assert probe_cine(path).mm_per_pixel == pytest.approx(0.75)

    def region(**fields: Any) -> float | None:
        content = pydicom.dcmread(path)
        for name, value in fields.items():
            setattr(content.SequenceOfUltrasoundRegions[0], name, value)
        content.save_as(tmp_path / "r.dcm")
        return probe_cine(tmp_path / "r.dcm").mm_per_pixel

    assert region(RegionLocationMaxX1=600) is None
    assert region(PhysicalUnitsXDirection=4) is None  # seconds
    assert region(PhysicalDeltaX=0.1) is None
    assert region(PhysicalDeltaY=-0.075) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("A4C", "A4C"),
        ("a4c view", "A4C"),
        ("Apical four chamber", "A4C"),
        ("PLAX", "Parasternal_Long"),
        ("parasternal long", "Parasternal_Long"),
        ("Doppler Parasternal Short", "Doppler_Parasternal_Short"),
        ("Suprasternal notch", "SSN"),
        ("Abdomen", None),
    ],
)
def test_views_are_known_by_name(text: str, view: str | None) -> None:
    assert view_name(text) == view


# ---------------------------------------------------------------- the cycle, the ECG


def test_r_waves_and_rate_are_those_that_the_file_states(tmp_path: Path) -> None:
    frames = noise(4, 8, 8)
    path = write_cine(
        tmp_path / "c.dcm", frames, 40, None, "A4C", 1, r_waves_ms=[0.0, 93.5], rate_bpm=64.4
    )
    header = pydicom.dcmread(path, stop_before_pixels=True)
    assert header[0x0018, 0x6060].value == [0.0, 93.5]
    info, cine = probe_cine(path), read_cine(path)
    assert info.r_waves_ms == cine.r_waves_ms == (0.0, 93.5)
    assert info.rate_bpm == cine.rate_bpm == 64
    assert read_cine(edit(path, RWaveTimeVector=0.0)).r_waves_ms == (0.0,)
    for nonsense in ([60.0, 20.0], [float("nan")]):
        assert read_cine(edit(path, RWaveTimeVector=nonsense)).r_waves_ms == ()
    assert read_cine(edit(path, RWaveTimeVector=None)).r_waves_ms == ()
    assert read_cine(path).ecg is None


def test_end_diastole_is_the_frame_nearest_an_r_wave() -> None:
    even = np.arange(5) * 40.0
    assert end_diastoles(even, []) == ()
    assert end_diastoles(even, [19, 61]) == (0, 2)
    assert end_diastoles(even, [-19, 179]) == (0, 4)  # within half a frame of the loop
    assert end_diastoles(even, [-21, 181, 500]) == ()
    assert end_diastoles(even, [118, 121]) == (3,)
    assert end_diastoles([0, 10, 100, 110], [40, 70]) == (1, 2)
    assert end_diastoles([0], [0]) == ()


def test_uneven_frames_keep_their_times(tmp_path: Path) -> None:
    times = [0, 30, 65.5, 85.5]
    path = write_cine(tmp_path / "c.dcm", noise(4, 8, 8), 30, None, "A4C", 1, frame_times_ms=times)
    assert read_cine(path).frame_times_ms.tolist() == times


def test_an_ecg_beside_the_frames_is_read_as_it_was_written(tmp_path: Path) -> None:
    wave = np.sin(np.arange(200) / 9).astype(np.float32) * 1.3
    path = write_cine(
        tmp_path / "c.dcm", noise(3, 8, 8), 40, None, "A4C", 1, ecg=CineECG(wave, -12.5, 4.0, "mV")
    )
    found = read_cine(path).ecg
    assert found is not None
    assert (found.start_ms, found.step_ms, found.unit) == (-12.5, 4.0, "mV")
    np.testing.assert_allclose(found.values, wave, atol=1e-4)
    # A channel of something else is no ECG, and a damaged one does not take the loop away.
    content = pydicom.dcmread(path)
    channel = content.WaveformSequence[0].ChannelDefinitionSequence[0]
    channel.ChannelSourceSequence[0].CodeMeaning = "Respiration"
    content.save_as(tmp_path / "r.dcm")
    assert read_cine(tmp_path / "r.dcm").ecg is None
    channel.ChannelSourceSequence[0].CodeMeaning = "ECG Lead II"
    del content.WaveformSequence[0].WaveformData
    content.save_as(tmp_path / "d.dcm")
    assert read_cine(tmp_path / "d.dcm").ecg is None


@pytest.mark.parametrize("pairs", [False, True])
def test_an_ecg_as_the_curve_of_older_files(tmp_path: Path, pairs: bool) -> None:
    """By hand: 10, 20, 30 and -5, a sample every 5 ms from 15 ms on."""
    values, times = [10, 20, 30, -5], [15, 20, 25, 30]
    content = pydicom.dcmread(write_cine(tmp_path / "c.dcm", noise(3, 8, 8), 40, None, "A4C", 1))
    content.add_new(0x50020005, "US", 2 if pairs else 1)
    content.add_new(0x50020010, "US", 4)
    content.add_new(0x50020020, "CS", "ECG")
    content.add_new(0x50020030, "SH", ["MSEC", "NONE"])
    content.add_new(0x50020103, "US", 1)  # signed 16 bits
    if not pairs:
        content.add_new(0x50020110, "US", [0, 1])  # time by start and step
        content.add_new(0x50020112, "US", 15)
        content.add_new(0x50020114, "US", 5)
    data = np.stack([times, values], 1) if pairs else np.asarray(values)
    content.add_new(0x50023000, "OW", data.astype("<i2").tobytes())
    content.save_as(tmp_path / "ecg.dcm")
    found = read_cine(tmp_path / "ecg.dcm").ecg
    assert found is not None
    assert (found.start_ms, found.step_ms) == (15, 5)
    assert found.values.tolist() == values
    content[0x50020030].value = ["NONE", "NONE"]  # no time axis: nothing to draw it along
    content.save_as(tmp_path / "ecg.dcm")
    assert read_cine(tmp_path / "ecg.dcm").ecg is None


# ---------------------------------------------------------------- stills, bad files


@pytest.mark.parametrize("kind", ["still", "spectral Doppler", "M-mode"])
def test_stills_are_read_to_be_shown(tmp_path: Path, kind: str) -> None:
    picture = noise(40, 50, 3)
    path = write_still(tmp_path / "s.dcm", picture, kind, "A4C", ("hf", 7, 1))
    assert is_still(path)
    still = read_still(path)
    np.testing.assert_array_equal(still.picture, picture)
    assert (still.kind, still.view) == (kind, "A4C")
    unnamed = read_still(
        write_still(tmp_path / "u.dcm", picture[..., :1].repeat(3, 2), kind, None, (1,))
    )
    np.testing.assert_array_equal(unnamed.picture, picture[..., :1].repeat(3, 2))
    assert unnamed.view is None


def test_of_a_strip_of_several_frames_the_last_is_shown(tmp_path: Path) -> None:
    frames = noise(3, 40, 40, 3)
    path = write_cine(tmp_path / "c.dcm", frames, 40, 1.0, "A4C", 1)
    content = pydicom.dcmread(path)
    content.SequenceOfUltrasoundRegions[0].RegionSpatialFormat = 3
    content.save_as(path)
    still = read_still(path)
    assert still.kind == "spectral Doppler"
    np.testing.assert_array_equal(still.picture, frames[-1])


def test_stills_and_strips_are_told_without_their_pixels(tmp_path: Path) -> None:
    path = write_cine(tmp_path / "c.dcm", noise(3, 8, 8), 40, 1.0, "A4C", 1)
    assert not is_still(path)
    content = pydicom.dcmread(path)
    del content.PixelData
    content.save_as(path)
    assert not is_still(path)
    content.SequenceOfUltrasoundRegions[0].RegionSpatialFormat = 3  # spectral
    content.save_as(path)
    assert is_still(path)
    del content.SequenceOfUltrasoundRegions
    content.NumberOfFrames = 1
    assert is_still(content)
    del content.NumberOfFrames
    content.save_as(path)
    assert is_still(path)
    with pytest.raises(CohortError, match="a still or a spectral strip"):
        read_cine(path)


def test_bad_files_are_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CohortError, match="there is no such file"):
        read_cine(tmp_path / "none.dcm")
    (tmp_path / "junk.dcm").write_bytes(b"junk" * 100)
    with pytest.raises(CohortError, match="not readable as DICOM"):
        is_still(tmp_path / "junk.dcm")
    with pytest.raises(CohortError, match="holds no picture"):
        read_cine(Path(examples.get_path("waveform")))
    path = write_cine(tmp_path / "c.dcm", noise(6, 64, 64), 40, 1.0, "A4C", 1)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert probe_cine(path).frames == 6
    with pytest.raises(CohortError, match="cannot be decoded, perhaps truncated"):
        read_cine(path)
    path.write_bytes(whole)
    content = pydicom.dcmread(path)
    content.file_meta.TransferSyntaxUID = MPEG2MPML
    content.save_as(tmp_path / "mpeg.dcm")
    with pytest.raises(CohortError, match=r"MPEG2 .* is not read here; convert"):
        probe_cine(tmp_path / "mpeg.dcm")
    bad = whole.replace(b"\x28\x00\x08\x00IS\x02\x006 ", b"\x28\x00\x08\x00IS\x02\x006A")
    assert bad != whole
    (tmp_path / "bad.dcm").write_bytes(bad)
    with pytest.raises(CohortError, match="header is damaged"):
        is_still(tmp_path / "bad.dcm")

    class NoDecoder:
        is_available = False
        missing_dependencies = ("pylibjpeg - requires pylibjpeg-openjpeg",)

    monkeypatch.setattr(echo_header, "get_decoder", lambda _: NoDecoder())
    with pytest.raises(CohortError, match=r"no decoder for JPEG 2000 .*pylibjpeg-openjpeg"):
        read_cine(path)


# ---------------------------------------------------------------- as a model reads it


def test_short_cines_start_over() -> None:
    assert frame_numbers(32, 16, 2).tolist() == list(range(0, 32, 2))
    assert frame_numbers(60, 4, 3).tolist() == [0, 3, 6, 9]
    assert frame_numbers(5, 4, 2).tolist() == [0, 2, 4, 1]


def test_picture_is_cut_to_its_centre_and_shrunk_by_area() -> None:
    assert centre_square(4, 8) == (0, 2, 4)
    assert centre_square(9, 4) == (2, 0, 4)
    frames = np.zeros((2, 4, 8, 3), np.uint8)
    frames[0, :, :2] = 255  # cut away
    frames[0, :2, 2:4] = [[[10, 0, 0], [20, 0, 0]], [[30, 0, 0], [40, 0, 0]]]
    frames[1, 2:, 4:6, 1] = 200
    cine = Cine(frames, np.arange(2.0), None, True, None)
    seen = for_model(cine, 2, 1, 2)
    assert seen.shape == (3, 2, 2, 2)
    assert seen.dtype == np.float32
    assert seen[0, 0].tolist() == [[25, 0], [0, 0]]
    assert seen[1, 1].tolist() == [[0, 0], [0, 200]]
    assert seen.sum() == 225
    same = for_model(cine, 1, 1, 4)
    np.testing.assert_array_equal(same[:, 0], frames[0, :, 2:6].transpose(2, 0, 1))


def test_enlarging_stays_within_the_range_of_colours() -> None:
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    frames[:, 1:3, 1:3] = 255
    seen = for_model(Cine(frames, np.arange(2.0), None, False, None), 2, 1, 16)
    assert seen.min() == 0
    assert seen.max() == 255
    np.testing.assert_array_equal(seen, seen[:, :, ::-1, ::-1])


@pytest.mark.parametrize(("frames", "stride"), [(4, 2), (16, 2), (7, 3)])
def test_reading_only_what_is_needed_gives_the_same(
    tmp_path: Path, frames: int, stride: int
) -> None:
    path = write_cine(tmp_path / "c.dcm", noise(11, 20, 30, 3), 40, None, "A4C", 1)
    whole = for_model(read_cine(path), frames, stride, 16)
    np.testing.assert_array_equal(read_for_model(path, frames, stride, 16), whole)


# ---------------------------------------------------------------- in a cohort

ZERO = pd.Timestamp("2020-06-01 12:00:00")


@pytest.fixture
def echo_cohort(tmp_path: Path) -> Path:
    """1: A4C four times (the last in time a still, one too late), A2C. 2: only a still. 3: none."""
    folder = tmp_path / "echos"
    folder.mkdir()
    ids = [1, 2, 3]
    write_subjects(folder, pd.DataFrame({"subject_id": ids, "split": "train", "index_time": ZERO}))
    write_outcomes(folder, pd.DataFrame({"subject_id": ids, "task": "hf", "label": [0, 1, 0]}))
    day = pd.Timedelta(days=1)
    rows = []
    for name, subject, view, when, still in (
        ("early", 1, "A4C", ZERO - 2 * day, False),
        ("wanted", 1, "A4C", ZERO - day, False),
        ("still", 1, "A4C", ZERO, True),
        ("late", 1, "A4C", ZERO + day, False),
        ("two", 1, "A2C", ZERO, False),
        ("strip", 2, "Apical_Doppler", ZERO, True),
    ):
        frames = noise(6, 20, 24, 3, seed=len(rows))
        path = write_cine(folder / "echo" / f"{name}.dcm", frames, 40, 1.0, view, (subject, name))
        if still:
            content = pydicom.dcmread(path)
            content.SequenceOfUltrasoundRegions[0].RegionSpatialFormat = 3
            content.save_as(path)
        rows.append(("echo", subject, f"echo/{name}.dcm", view, when))
    columns = ["modality", "subject_id", "path", "view", "acquired"]
    write_imaging(folder, pd.DataFrame(rows, columns=columns))
    write_spec(
        CohortSpec(
            name="echos",
            title="Echos",
            modalities={
                "echo": ModalitySpec(kind=Kind.VIDEO, title="Echo", path="imaging.parquet")
            },
            tasks={"hf": TaskSpec(kind="classification", title="HF", classes=("no", "yes"))},
            provenance=Provenance(source="test"),
        ),
        folder,
    )
    return folder


def test_cohort_gives_the_last_cine_of_each_view(echo_cohort: Path) -> None:
    cohort = Cohort.open(echo_cohort)
    videos = cohort.videos("echo")
    assert {view: path.stem for view, path in videos[1].items()} == {"A2C": "two", "A4C": "wanted"}
    assert dict(videos[2]) == {}
    assert sorted(videos) == [1, 2]
    assert 3 not in videos
    assert cohort.having("echo").tolist() == [1, 2]
    assert videos is cohort.videos("echo")


def test_stills_of_a_subject_are_found_by_their_headers(
    echo_cohort: Path, edit: Callable[..., None]
) -> None:
    def unname(index: pd.DataFrame) -> pd.DataFrame:
        index.loc[index["path"] == "echo/still.dcm", "view"] = None
        return index

    stills = Cohort.open(echo_cohort).videos("echo").stills
    assert [(view, path.stem) for view, path in stills(1)] == [("A4C", "still")]
    assert [(view, path.stem) for view, path in stills(2)] == [("Apical_Doppler", "strip")]
    edit(echo_cohort / "imaging.parquet", unname)
    found = Cohort.open(echo_cohort).videos("echo")
    assert [(view, path.stem) for view, path in found.stills(1)] == [(None, "still")]
    assert found[1]["A4C"].stem == "wanted"
    # A still needs no view: nothing reads it.
    assert not [str(p) for p in check_cohort(echo_cohort) if "still.dcm" in str(p)]
    (echo_cohort / "echo" / "still.dcm").write_bytes(b"junk")
    assert found.stills(1) == []


def test_headers_are_read_when_a_subject_is_looked_up(
    echo_cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def spy(path: Path) -> bool:
        opened.append(path.stem)
        return is_still(path)

    monkeypatch.setattr(cines, "is_still", spy)
    cohort = Cohort.open(echo_cohort)
    assert cohort.availability()["echo"].tolist() == [True, True, False]
    videos = cohort.videos("echo")
    assert len(videos) == 2
    assert opened == []
    assert "A4C" in videos[1]
    assert "A4C" in videos[1]
    assert sorted(opened) == ["still", "two", "wanted"]


def test_dataset_gives_views_in_the_order_asked(echo_cohort: Path) -> None:
    reading = VideoReading(views=("A4C", "SSN", "A2C"), frames=4, stride=2, size=16)
    cohort = Cohort.open(echo_cohort)
    batch = all_inputs(CohortDataset(cohort, [1, 2, 3], {"echo": reading}, "hf"))
    given = batch.inputs["echo"]
    assert given.kind is Kind.VIDEO
    assert given.present.tolist() == [True, False, False]
    assert given.fields["mask"].tolist() == [[True, False, True], [False] * 3, [False] * 3]
    video = given.fields["video"]
    assert tuple(video.shape) == (3, 3, 3, 4, 16, 16)
    for at, name in ((0, "wanted"), (2, "two")):
        expected = for_model(read_cine(echo_cohort / "echo" / f"{name}.dcm"), 4, 2, 16)
        np.testing.assert_array_equal(video[0, at].numpy(), expected)
    assert not video[0, 1].any()
    assert not video[1:].any()


def test_a_damaged_cine_is_named_and_not_skipped(echo_cohort: Path) -> None:
    (echo_cohort / "echo" / "two.dcm").write_bytes(b"junk")
    dataset = CohortDataset(
        Cohort.open(echo_cohort), [1], {"echo": VideoReading(frames=2, size=16)}
    )
    with pytest.raises(CohortError, match=r"two\.dcm: not readable as DICOM"):
        dataset[0]


def test_check_counts_stills_and_finds_what_is_wrong(
    echo_cohort: Path, edit: Callable[..., None]
) -> None:
    problems = [str(p) for p in check_cohort(echo_cohort)]
    stills = [p for p in problems if "stills" in p]
    assert len(stills) == 1
    assert "2 subjects: 1, 2 with 2 stills or spectral strips" in stills[0]
    assert any("cine after the index day" in p for p in problems)
    assert any("without any modality" in p and "2, 3" in p for p in problems)
    assert not [p for p in problems if p.startswith("error") and "any modality" not in p]

    def mend(index: pd.DataFrame) -> pd.DataFrame:
        index.loc[index["path"] == "echo/two.dcm", "view"] = "A9C"
        index.loc[index["path"] == "echo/early.dcm", "view"] = None
        return index

    edit(echo_cohort / "imaging.parquet", mend)
    path = echo_cohort / "echo" / "wanted.dcm"
    path.write_bytes(path.read_bytes()[:-400])
    content = pydicom.dcmread(echo_cohort / "echo" / "late.dcm")
    del content.FrameTime
    content.save_as(echo_cohort / "echo" / "late.dcm")
    shallow = [str(p) for p in check_cohort(echo_cohort)]
    assert any("two.dcm" in p and "view 'A9C' is not one of the 11" in p for p in shallow)
    assert any("early.dcm" in p and "has no view" in p for p in shallow)
    assert any("do not say how fast" in p and "1 subject: 1" in p for p in shallow)
    assert not any("wanted.dcm" in p for p in shallow)
    deep = [str(p) for p in check_cohort(echo_cohort, deep=True)]
    assert any("wanted.dcm" in p and "cannot be decoded" in p for p in deep)


def test_the_eleven_views_are_those_of_the_simulator() -> None:
    heart = pytest.importorskip("sample_data.heart")
    assert VIEWS == heart.VIEWS
