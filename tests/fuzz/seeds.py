"""Small sound files to be damaged, written by the house's own writers where it has one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import torch
import yaml
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    TwelveLeadECGWaveformStorage,
    UltrasoundMultiFrameImageStorage,
)

from analysis.baseline_file import write_baseline
from analysis.cohort.importers.hancock_columns import (
    BLOOD,
    CLINICAL,
    PATHOLOGICAL,
    TMA_CELL_DENSITY,
)
from analysis.cohort.readers.echo_ecg import CineECG
from analysis.cohort.schema import (
    CohortSpec,
    Column,
    ModalitySpec,
    Provenance,
    TaskSpec,
    write_spec,
)
from analysis.cohort.write import (
    write_bag,
    write_cine,
    write_folds,
    write_imaging,
    write_meds,
    write_outcomes,
    write_signal,
    write_still,
    write_subjects,
    write_table,
    write_volume,
)
from analysis.external_import import import_predictions
from analysis.features import FeatureWriter
from analysis.store import ResultStore
from analysis.survival.baseline import BaselineHazard
from models.checkpoint import (
    CohortEntry,
    EncoderEntry,
    ModalityEntry,
    RunConfig,
    StrategyEntry,
    TaskEntry,
    TrainingEntry,
    save_encoder,
    write_model,
)
from models.contracts import Encoded, Instances, Kind
from models.encoders.base import build_encoder
from models.fusion.base import STRATEGIES
from models.network import FusionModel, stream_widths
from models.vocabulary import Vocabulary
from tests.models.importing.formats import FORMATS

Writer = Callable[[Path], object]

ZERO = pd.Timestamp("2020-06-01 12:00:00")
COLUMNS = {
    "sodium": Column(unit="mmol/L"),
    "smoker": Column(kind="binary"),
    "site": Column(kind="nominal", categories=("larynx", "tongue")),
}
N = 24
RESULT = {"method": "fuzz", "seed": 1}


def _rng() -> np.random.Generator:
    return np.random.default_rng(7)


# ---------------------------------------------------------------- volumes


def _ct() -> np.ndarray:
    return _rng().integers(-1000, 500, (5, 6, 4)).astype(np.int16)


def nifti_packed(folder: Path) -> None:
    write_volume(folder / "scan.nii.gz", _ct(), (2.0, 1.0, 1.0))


def nifti_plain(folder: Path) -> None:
    image = nib.Nifti1Image(_ct(), np.diag([1.0, 2.0, 1.5, 1.0]))
    image.header.set_slope_inter(2.0, -100.0)
    nib.save(image, folder / "scan.nii")


def nifti_oblique(folder: Path) -> None:
    turn = np.eye(4)
    turn[:3, :3] = [[0.9, -0.4, 0.0], [0.4, 0.9, 0.1], [0.0, -0.1, 2.0]]
    nib.save(nib.Nifti1Image(_ct().astype(np.float32), turn), folder / "scan.nii")


def nifti_two(folder: Path) -> None:
    nib.save(nib.Nifti2Image(_ct(), np.diag([1.0, 1.0, 3.0, 1.0])), folder / "scan.nii.gz")


def nifti_big_endian(folder: Path) -> None:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nib.save(nib.Nifti1Image(_ct().astype(">i2"), np.eye(4), header), folder / "scan.nii")


def series(folder: Path) -> None:
    """Four slices of a CT."""
    for k, pixels in enumerate(_ct()[:4]):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = f"1.2.3.{k}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        out = Dataset()
        out.file_meta = meta
        out.SOPClassUID, out.SOPInstanceUID = CTImageStorage, f"1.2.3.{k}"
        out.SeriesInstanceUID, out.Modality = "1.2.9", "CT"
        out.Rows, out.Columns = pixels.shape
        out.PixelSpacing, out.SliceThickness = [1.5, 0.5], 2.0
        out.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        out.ImagePositionPatient = [-10.0, -20.0, 2.0 * k]
        out.RescaleSlope, out.RescaleIntercept = 1, -1024
        out.SamplesPerPixel, out.PhotometricInterpretation = 1, "MONOCHROME2"
        out.BitsAllocated, out.BitsStored, out.HighBit, out.PixelRepresentation = 16, 16, 15, 1
        out.PixelData = pixels.tobytes()
        out.save_as(folder / f"{k}.dcm", enforce_file_format=True)


# ---------------------------------------------------------------- recordings


def _frames(side: int = 8, colour: bool = False) -> np.ndarray:
    shape = (4, side, side, 3) if colour else (4, side, side)
    return _rng().integers(0, 256, shape).astype(np.uint8)


def cine_rle(folder: Path) -> None:
    ecg = CineECG(np.sin(np.arange(40, dtype=np.float32)), 0.0, 4.0, "mV")
    times = [0.0, 30.0, 65.0, 95.0]
    write_cine(
        *(folder / "echo.dcm", _frames(), 33.0, 0.4, "A4C", "p"),
        frame_times_ms=times,
        r_waves_ms=[10.0, 80.0],
        rate_bpm=70,
        ecg=ecg,
    )


def cine_wavelets(folder: Path) -> None:
    write_cine(folder / "echo.dcm", _frames(32, colour=True), 33.0, 0.4, "A4C", "p")


def cine_plain(folder: Path) -> None:
    _cine(folder, _frames(), ExplicitVRLittleEndian)


def cine_jpeg(folder: Path) -> None:
    _cine(folder, _frames(16), JPEGBaseline8Bit)


def _cine(folder: Path, frames: np.ndarray, syntax: str) -> None:
    write_cine(folder / "echo.dcm", frames, 33.0, 0.4, "A4C", "p")
    out = pydicom.dcmread(folder / "echo.dcm")
    out.file_meta.TransferSyntaxUID = syntax
    out.SOPClassUID = UltrasoundMultiFrameImageStorage
    if syntax == JPEGBaseline8Bit:
        import cv2

        coded = [cv2.imencode(".jpg", frame)[1].tobytes() for frame in frames]
        out.PixelData = pydicom.encaps.encapsulate(coded)
    else:
        out.PixelData = frames.tobytes()
    out["PixelData"].VR = "OB"
    out["PixelData"].is_undefined_length = syntax == JPEGBaseline8Bit
    out.save_as(folder / "echo.dcm", enforce_file_format=True)


def still(folder: Path) -> None:
    picture = _frames(16, colour=True)[0]
    write_still(folder / "echo.dcm", picture, "M-mode", "A4C", ("p", 1))


def record(folder: Path) -> None:
    leads = ("I", "II", "V1", "V2")
    array = np.sin(np.arange(4 * 300).reshape(4, 300) / 9)
    write_signal(folder / "r.hea", array, leads, 100.0)


def record_packed(folder: Path) -> None:
    """Formats 212 and 80, of two files."""
    raw = _rng().integers(0, 256, 3 * 150).astype(np.uint8)
    (folder / "r.dat").write_bytes(raw.tobytes())
    (folder / "s.dat").write_bytes(_rng().integers(0, 256, 150).astype(np.uint8).tobytes())
    (folder / "r.hea").write_text(
        "r 3 100 150 10:00:00 01/02/2003\n"
        "r.dat 212 200(0)/mV 12 0 0 0 0 I\nr.dat 212 200(0)/mV 12 0 0 0 0 II\n"
        "s.dat 80 50(0)/mV 8 0 0 0 0 V1\n"
    )


def record_segments(folder: Path) -> None:
    """Two segments, one after the other."""
    for name in ("r1", "r2"):
        write_signal(folder / f"{name}.hea", np.ones((2, 80)) * 0.1, ("I", "II"), 100.0)
    (folder / "r.hea").write_text("r/2 2 100 160\nr1 80\nr2 80\n")


def waveform(folder: Path) -> None:
    """Two groups of a DICOM ECG."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = TwelveLeadECGWaveformStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out = Dataset()
    out.file_meta = meta
    out.SOPClassUID, out.SOPInstanceUID = TwelveLeadECGWaveformStorage, "1.2.3"
    out.Modality, out.AcquisitionDateTime = "ECG", "20200102030405"
    out.WaveformSequence = [_group(200), _group(50)]
    out.save_as(folder / "ecg.dcm", enforce_file_format=True)


def _group(n: int) -> Dataset:
    group = Dataset()
    group.WaveformOriginality = "ORIGINAL"
    group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = 2, n
    group.SamplingFrequency = "250"
    group.ChannelDefinitionSequence = []
    for name in ("Lead I", "Lead II"):
        source, unit, channel = Dataset(), Dataset(), Dataset()
        source.CodeValue, source.CodingSchemeDesignator = "5.6.3-9-1", "SCPECG"
        source.CodeMeaning = name
        unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "uV", "UCUM", "microvolt"
        channel.ChannelSourceSequence = [source]
        channel.ChannelSensitivity, channel.ChannelBaseline = "5", "0"
        channel.ChannelSensitivityCorrectionFactor = "1"
        channel.ChannelSensitivityUnitsSequence = [unit]
        channel.WaveformBitsStored = 16
        group.ChannelDefinitionSequence.append(channel)
    group.WaveformBitsAllocated, group.WaveformSampleInterpretation = 16, "SS"
    group.WaveformPaddingValue = np.int16(-32768).tobytes()
    group["WaveformPaddingValue"].VR = "OW"
    group.WaveformData = _rng().integers(-300, 300, 2 * n).astype("<i2").tobytes()
    group["WaveformData"].VR = "OW"
    return group


# ---------------------------------------------------------------- cohorts


def meds(folder: Path) -> None:
    day = pd.Timedelta(days=1)
    rows = [
        (1, pd.NaT, "SEX//F", None, None),
        (1, ZERO - 10 * day, "LAB//NA", 140.0, None),
        (1, ZERO, "NOTE", None, "an embolism"),
        (2, ZERO - 3 * day, "LAB//NA", 130.0, None),
        (4, ZERO - 2 * day, "DX//PE", None, None),
    ]
    names = ["subject_id", "time", "code", "numeric_value", "text_value"]
    codes = pd.DataFrame({"code": ["SEX//F", "LAB//NA"], "description": ["female", "sodium"]})
    codes["parent_codes"] = [None, ["LAB"]]
    write_meds(folder / "ehr", pd.DataFrame(rows, columns=names), codes)


def table(folder: Path) -> None:
    labs = {"sodium": [140.0, 131, 120], "smoker": [1, 0, None], "site": ["tongue", None, "larynx"]}
    write_table(folder / "labs.parquet", pd.DataFrame({"subject_id": [1, 2, 5], **labs}), COLUMNS)


def table_csv(folder: Path) -> None:
    (folder / "labs.csv").write_text("subject_id,sodium,smoker,site\n1,140,1,tongue\n5,131,0,\n")


def bag(folder: Path) -> None:
    frame = pd.DataFrame({"subject_id": [1, 1, 2, 6], "instance": ["CD3", "CD8", "CD3", "HE"]})
    frame["features"] = list(np.arange(12, dtype=np.float32).reshape(4, 3))
    write_bag(folder / "tma.parquet", frame)


def _people(folder: Path) -> None:
    ids = np.arange(1, N + 1)
    split = np.resize(["train", "train", "tuning", "internal", "external"], N)
    people = {"subject_id": ids, "split": split, "age_years": 60.0 + ids, "index_time": ZERO}
    write_subjects(folder, pd.DataFrame({**people, "source_id": [f"P{i}" for i in ids]}))
    survival = {"task": "death", "time_days": 10.0 * ids, "event": ids % 2}
    classes = pd.DataFrame({"subject_id": ids, "task": "stage", "label": ids // 2 % 2})
    write_outcomes(folder, pd.concat([pd.DataFrame({"subject_id": ids, **survival}), classes]))


def index(folder: Path) -> None:
    """subjects, imaging index and a list of cached features."""
    _people(folder)
    paths = {"path": ["ct/1.nii.gz", "ct/2.nii.gz"], "acquired": ZERO}
    write_imaging(folder, pd.DataFrame({"modality": "ct", "subject_id": [1, 2], **paths}))
    features(folder)


def features(folder: Path) -> None:
    mask = torch.tensor([[True, True], [True, False]])
    encoded = Encoded(
        *(torch.ones(2, 2, 3), mask, torch.ones(2, 4), torch.tensor([True, True]), Instances())
    )
    writer = FeatureWriter("ct", "0123456789abcdef")
    writer.add([1, 3], encoded)
    writer.write(folder / "ct.safetensors")


def cohort(folder: Path) -> None:
    """One of everything."""
    _people(folder)
    write_folds(folder, pd.DataFrame({"subject_id": np.arange(1, N + 1), "fold": 0}))
    for part in (meds, table, bag):
        part(folder)
    write_volume(folder / "ct" / "1.nii.gz", _ct(), (2.0, 2.0, 2.0))
    (folder / "ecg").mkdir()
    record(folder / "ecg")
    (folder / "echo").mkdir()
    cine_rle(folder / "echo")
    rows = [("ct", 1, "ct/1.nii.gz", None), ("ecg", 2, "ecg/r.hea", None)]
    rows.append(("echo", 2, "echo/echo.dcm", "A4C"))
    write_imaging(folder, pd.DataFrame(rows, columns=["modality", "subject_id", "path", "view"]))
    (folder / "features" / "ct").mkdir(parents=True)
    features(folder / "features" / "ct")
    _spec(folder)


def spec_only(folder: Path) -> None:
    _spec(folder)


def small_cohort(folder: Path) -> None:
    """Labs alone."""
    _people(folder)
    table(folder)
    _spec(folder, ("labs",))


def _spec(folder: Path, names: tuple[str, ...] = ()) -> None:
    kinds = {"ct": Kind.VOLUME, "ecg": Kind.SIGNAL, "echo": Kind.VIDEO}
    every = {
        n: ModalitySpec(kind=k, title=n.upper(), path="imaging.parquet") for n, k in kinds.items()
    } | {
        "ehr": ModalitySpec(kind=Kind.EVENTS, title="EHR", path="ehr"),
        "labs": ModalitySpec(kind=Kind.TABLE, title="Labs", path="labs.parquet", columns=COLUMNS),
        "tma": ModalitySpec(kind=Kind.BAG, title="TMA", path="tma.parquet", feature_width=3),
    }
    write_spec(
        CohortSpec(
            name="toy",
            title="Toy",
            modalities={n: m for n, m in every.items() if not names or n in names},
            tasks={
                "death": TaskSpec(kind="survival", title="Death", horizon_days=100),
                "stage": TaskSpec(kind="classification", title="Stage", classes=("low", "high")),
            },
            provenance=Provenance(source="made up"),
            folds=None if names else "folds.parquet",
        ),
        folder,
    )


def hancock(folder: Path) -> None:
    """Tables as HANCOCK publishes them, small."""
    rng, n = _rng(), 40
    ids = [f"{i:03d}" for i in range(1, n + 1)]

    def save(name: str, columns: dict[str, object]) -> None:
        frame = pd.DataFrame({"patient_id": ids, **columns})
        frame.to_csv(folder / f"{name}.csv", index=False)

    save("clinical", {name: rng.integers(0, 2, n) for name in CLINICAL})
    save("pathological", {name: rng.integers(0, 2, n) for name in PATHOLOGICAL})
    save("blood", {name: rng.normal(10, 1, n).round(2) for name in BLOOD})
    save("icd_codes", {"c020": rng.integers(0, 3, n), "c770": 0})
    save("tma_cell_density", dict.fromkeys(TMA_CELL_DENSITY, 5.5))
    days = np.arange(900, 900 + 10 * n, 10)
    status = np.where(np.arange(n) % 3 == 0, "deceased", "living")
    free = {"rfs_event": np.arange(n) % 2, "days_to_rfs_event": days - 10}
    save("targets", {"survival_status": status, "days_to_last_information": days, **free})
    vectors = {key: np.full(512, int(key), np.float32) for key in ids[:4]}
    np.savez(folder / "tma_tile_dtr_256_CD3.npz", **vectors)


def masks(folder: Path) -> None:
    bits = {name: np.packbits(np.arange(60) % 3 == i) for i, name in enumerate(("a", "b"))}
    (folder / "masks").mkdir()
    np.savez(folder / "masks" / "1.npz", shape=np.array([5, 3, 4]), **bits)


def scans(folder: Path) -> None:
    """Two scans, and the cohort that they are to follow."""
    (folder / "src").mkdir()
    write_volume(folder / "src" / "a.nii.gz", _ct(), (2.0, 1.0, 1.0))
    write_volume(folder / "src" / "b.nii.gz", _ct(), (2.0, 1.0, 1.0))
    _follow(folder)


def scan_series(folder: Path) -> None:
    (folder / "src").mkdir()
    series(folder / "src")
    _follow(folder)


def recordings(folder: Path) -> None:
    """A patient with an ECG and a loop, and the cohort to be followed."""
    (folder / "src" / "p").mkdir(parents=True)
    record(folder / "src" / "p")
    cine_rle(folder / "src" / "p")
    waveform(folder / "src" / "p")
    _follow(folder)


def _follow(folder: Path) -> None:
    (folder / "like").mkdir()
    _spec(folder / "like")


def predictions(folder: Path) -> None:
    ids = np.arange(1, N + 1)
    frame = pd.DataFrame({"subject_id": ids, "risk": np.cos(ids), "probability": ids / (N + 1)})
    frame.to_parquet(folder / "given.parquet", index=False)
    _home(folder)


def predictions_csv(folder: Path) -> None:
    ids = np.arange(1, N + 1)
    frame = pd.DataFrame({"subject_id": ids, "probability": ids / (N + 1)})
    frame.to_csv(folder / "given.csv", index=False)
    _home(folder)


def _home(folder: Path) -> None:
    (folder / "cohort").mkdir()
    small_cohort(folder / "cohort")


def external_run(folder: Path) -> None:
    predictions_csv(folder)
    import_predictions(folder / "given.csv", folder / "cohort", "death", "run", folder / "run")
    shutil.rmtree(folder / "cohort")
    (folder / "given.csv").unlink()


# ---------------------------------------------------------------- studies

STUDY = """name: toy
title: Toy
columns: {id: mrn, site: hospital, age_years: age, sex: sex}
index: {column: scanned}
tasks:
  death: {title: Death, horizon_days: 100, time: days, event: died, happened: [yes], censored: [no]}
split: {values: {a: train}, seed: 3}
modalities:
  labs: {title: Labs, columns: {sodium: {unit: mmol/L}}}
  values: {title: Values, values: {sodium: {codes: ["LAB//NA"], unit: mmol/L, within_days: 90}}}
"""
RECORD_STUDY = """name: toy
title: Toy
index: {codes: ["NOTE", "DX*"], which: first, plus_hours: 1}
tasks: {relapse: {title: Relapse, codes: ["LAB//*"], again: true, horizon_days: 9}}
"""


def study(folder: Path) -> None:
    """A table of outcomes and a record beside study.yaml."""
    (folder / "study.yaml").write_text(STUDY)
    n = np.arange(1, 41)
    frame = pd.DataFrame({"mrn": [f"{i:03d}" for i in n], "hospital": np.resize(["A", "B"], 40)})
    frame["age"], frame["sex"] = 40 + n / 2, np.resize(["F", "M"], 40)
    frame["scanned"] = [f"2020-06-{1 + i % 28:02d} 12:00" for i in n]
    frame["days"], frame["died"] = 1.5 * n + 3, np.resize(["yes", "no", "no"], 40)
    frame["sodium"] = 130 + 7 * np.cos(n)
    frame.to_csv(folder / "patients.csv", index=False)


def record_study(folder: Path) -> None:
    """A record from which patients and outcomes are made."""
    (folder / "study.yaml").write_text(RECORD_STUDY)
    n = np.repeat(np.arange(1, 41), 3)
    day = np.tile([0, 5, 9], 40)
    code = np.tile(["NOTE", "DX//I26", "LAB//NA"], 40).astype(object)
    code[2::9] = "LAST"
    frame = pd.DataFrame({"subject_id": n, "time": ZERO + pd.to_timedelta(day, unit="D")})
    write_meds(
        folder / "record",
        frame.assign(code=code, numeric_value=130 + np.cos(n)),
        pd.DataFrame({"code": ["NOTE", "DX//I26"], "description": ["note", "embolism"]}),
    )


# ---------------------------------------------------------------- models

_TABLE = {"columns": [{"name": n} for n in ("a", "b", "c")], "token_width": 4}


def _entry(name: str, config: dict, weights: str | None = None) -> EncoderEntry:
    return EncoderEntry(name=name, config=config, frozen=weights is not None, weights=weights)


def run(folder: Path) -> None:
    """A run of labs and events with a vocabulary, and an encoder stored apart."""
    torch.manual_seed(0)
    vocabulary = Vocabulary(("DX", "LAB", "SEX"), (0.0, 140.0, 0.0), (1.0, 5.0, 1.0))
    labs = build_encoder("table_tokenizer", _TABLE)
    events = build_encoder("onehot", {"vocabulary_size": vocabulary.size})
    apart = build_encoder("table_tokenizer", _TABLE)
    stored = save_encoder(apart, folder / "encoders")
    encoders = {"labs": labs, "ehr": events, "more": apart}
    cls = STRATEGIES.get("late")
    model = FusionModel(
        encoders, cls(stream_widths(encoders), 1, cls.Config(width=8, heads=2)), ["more"]
    )
    entries = {
        "labs": (Kind.TABLE, _entry("table_tokenizer", labs.config.model_dump(mode="json"))),
        "ehr": (Kind.EVENTS, _entry("onehot", events.config.model_dump(mode="json"))),
        "more": (Kind.TABLE, _entry("table_tokenizer", _TABLE, stored)),
    }
    config = RunConfig(
        name="toy",
        title="Toy",
        strategy=StrategyEntry(name="late", config=model.strategy.config.model_dump(mode="json")),
        modalities={
            n: ModalityEntry(kind=kind, title=n, encoder=entry)
            for n, (kind, entry) in entries.items()
        },
        task=TaskEntry(name="death", kind="survival", title="Death"),
        cohort=CohortEntry(name="toy", title="Toy", fingerprint="0" * 16),
        training=TrainingEntry(
            created="2020-01-01",
            device="cpu",
            precision="float32",
            seconds=1.0,
            n_train=10,
            n_tuning=2,
            epochs=2,
            best_epoch=1,
            tuning_score=0.5,
            settings={},
            versions={},
        ),
    )
    write_model(folder, config, model, {"ehr": vocabulary})
    baseline = BaselineHazard(np.array([1.0, 2, 5]), np.array([0.0, 0.1, 0.3]), 0.2)
    write_baseline(baseline, folder / "baseline_hazard.parquet")
    names = {"name": ["loss", "loss", "gradient_norm"], "modality": ["", "", "labs"]}
    rows = pd.DataFrame({"epoch": [0, 1, 1], **names, "value": [0.7, 0.6, 1.0]})
    rows.to_parquet(folder / "history.parquet", index=False)


STATE = {
    "layer.0.weight": torch.arange(12.0).view(4, 3),
    "layer.0.bias": torch.zeros(4, dtype=torch.float16),
    "count": torch.tensor(3),
}


def weights(form: str) -> Writer:
    """A file of weights of one of the forms that training runs leave behind."""

    def write(folder: Path) -> None:
        FORMATS[form](STATE, folder / "weights")

    write.__name__ = form
    return write


def model_yaml(folder: Path) -> None:
    content = {
        "title": "Ours",
        "task": "death",
        "cohort": "cohort",
        "strategy": {"name": "unimodal", "config": {"width": 8, "heads": 2}},
        "modalities": {"labs": {"encoder": "table_tokenizer"}},
        "rename": [
            {"prefix": "fusion.", "to": "strategy."},
            {"regex": r"enc_(\w+)\.", "to": r"\1"},
        ],
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    (folder / "codes.json").write_text(json.dumps(["DX", "LAB", "SEX"]))


def checkpoint(folder: Path) -> None:
    """A model.yaml, its cohort and the weights that fit it."""
    torch.manual_seed(0)
    _home(folder)
    model_yaml(folder)
    columns = [{"name": "sodium"}, {"name": "smoker", "kind": "binary"}]
    columns.append({"name": "site", "kind": "nominal", "n_categories": 2})
    encoders = {"labs": build_encoder("table_tokenizer", {"columns": columns})}
    cls = STRATEGIES.get("unimodal")
    model = FusionModel(encoders, cls(stream_widths(encoders), 1, cls.Config(width=8, heads=2)))
    FORMATS["zip"](dict(model.state_dict()), folder)


def results(folder: Path) -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3)}
    ResultStore(folder / "results").put(RESULT, {"n": 3, "rows": [1, 2]}, arrays)


def manifest(folder: Path) -> None:
    content = {
        "version": 1,
        "created": "2020-01-01T00:00:00",
        "command": "fusionlens report",
        "cohort": "toy",
        "cohort_fingerprint": "0" * 16,
        "settings": {
            "task": "death",
            "runs": {"toy": "0" * 16},
            "splits": ["internal"],
            "horizon_days": 100.0,
            "threshold": None,
            "n_resamples": 10,
            "seed": 0,
        },
        "versions": {"python": "3.11"},
        "numbers": {"runs.0.c_index": 0.7, "runs.0.auc": None},
    }
    (folder / "report.json").write_text(json.dumps(content, indent=1))
