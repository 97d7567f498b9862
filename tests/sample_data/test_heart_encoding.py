"""Features that are made while a patient is simulated are those of the patient's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.cohort.cohort import Cohort
from analysis.cohort.dataset import CohortDataset, Reading, SignalReading, VideoReading
from analysis.cohort.readings import reading_for
from analysis.cohort.schema import Split
from analysis.features import feature_path, read_features
from models.checkpoint import load_encoder
from models.contracts import Encoded, Kind
from sample_data.heart import LEADS, VIEWS
from sample_data.heart_cohort import HeartPlan, HeartWritten, draw, write_heart_cohort
from sample_data.heart_encoding import ecg_input, echo_input, heart_sink, write_heart_features
from sample_data.heart_patients import ECG, ECHO, HeartPatient
from sample_data.workspace import ENCODERS, shipped_heart_encoders

# Two patients of the first hospital and one of the second, whose records are noisier.
PLAN = HeartPlan(seed=4, counts={Split.INTERNAL: 2, Split.EXTERNAL: 1})
TOLERANCE = 5e-3


@pytest.fixture(scope="module")
def hashes() -> dict[str, str]:
    found = shipped_heart_encoders()
    if not found:
        pytest.skip("the ECG and echo encoders do not ship yet: run 'make checkpoints'")
    return found


@pytest.fixture(scope="module")
def patients() -> dict[int, HeartPatient]:
    drawn = [draw(PLAN, n, split)[0] for n, split in enumerate(PLAN.splits())]
    return {patient.subject_id: patient for patient in drawn}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, hashes: dict[str, str]) -> HeartWritten:
    def finish(folder: Path, made: HeartWritten) -> None:
        write_heart_features(folder, made, hashes, ENCODERS)

    return write_heart_cohort(
        PLAN,
        tmp_path_factory.mktemp("heart") / "hf",
        sink=heart_sink(hashes, ENCODERS),
        processes=1,
        finish=finish,
    )


def of_files(cohort: Cohort, name: str, key: str, ids: np.ndarray) -> Encoded:
    """The features that a run would make from the files."""
    encoder = load_encoder(key, [ENCODERS]).encoder
    dataset = CohortDataset(cohort, ids, {name: reading_for(encoder)})
    with torch.inference_mode():
        made = [encoder(dataset[row].inputs[name]).at_stored_precision() for row in range(len(ids))]
    parts = {
        field: torch.cat([getattr(one, field) for one in made])
        for field in ("tokens", "mask", "pooled", "present")
    }
    return Encoded(**parts, layout=made[0].layout)


@pytest.mark.parametrize("name", [ECG, ECHO])
def test_features_of_the_sink_are_those_of_the_files(
    name: str, written: HeartWritten, hashes: dict[str, str]
) -> None:
    cohort = Cohort.open(written.folder)
    ids = written.sink_subjects
    stored = read_features(feature_path(cohort.folder, name, hashes[name]), ids)
    fresh = of_files(cohort, name, hashes[name], ids)
    assert torch.equal(stored.present, fresh.present)
    assert torch.equal(stored.present, torch.tensor(np.isin(ids, sorted(cohort.having(name)))))
    assert torch.equal(stored.mask.sum(dim=1), fresh.mask.sum(dim=1))
    assert stored.layout == fresh.layout
    there = fresh.present
    assert there.sum() >= 2
    # Patients differ by far more than the two ways may.
    assert (fresh.pooled[there][0] - fresh.pooled[there][1]).abs().max() > 20 * TOLERANCE
    pairs = [(stored.pooled[there], fresh.pooled[there])]
    pairs += [
        (stored.tokens[row][stored.mask[row]], fresh.tokens[row][fresh.mask[row]])
        for row in range(len(ids))
    ]
    for one, other in pairs:
        assert torch.allclose(one, other, atol=TOLERANCE, rtol=TOLERANCE)


def test_the_sink_is_given_whoever_has_an_ecg_or_an_echo(
    written: HeartWritten, patients: dict[int, HeartPatient]
) -> None:
    assert written.sink_subjects.tolist() == [
        subject for subject, p in patients.items() if p.has_ecg or p.has_echo
    ]
    assert set(written.sink_arrays) == {
        f"{name}/{field}"
        for name in (ECG, ECHO)
        for field in ("tokens", "mask", "pooled", "present")
    }
    assert written.sink_arrays[f"{ECG}/tokens"].dtype == np.float16


def test_the_mask_of_the_echo_says_which_views_were_recorded(
    written: HeartWritten, hashes: dict[str, str], patients: dict[int, HeartPatient]
) -> None:
    reading = reading_for(load_encoder(hashes[ECHO], [ENCODERS]).encoder)
    assert isinstance(reading, VideoReading)
    mask = written.sink_arrays[f"{ECHO}/mask"]
    by_view = mask.reshape(len(mask), len(reading.views), -1)
    assert (by_view.all(axis=2) == by_view.any(axis=2)).all()
    lacking = 0
    for row, subject in enumerate(written.sink_subjects.tolist()):
        patient = patients[subject]
        expected = [patient.has_echo and view in patient.heart.views for view in reading.views]
        assert by_view[row, :, 0].tolist() == expected
        lacking += patient.has_echo and not all(expected)
    assert lacking  # or this would say nothing of views


def test_absent_records_are_masked_not_zero_signals(hashes: dict[str, str]) -> None:
    for name, make in ((ECG, ecg_input), (ECHO, echo_input)):
        encoder = load_encoder(hashes[name], [ENCODERS]).encoder
        empty = make(encoder, None if name == ECG else {})  # type: ignore[operator]
        assert not empty.present.any()
        assert not empty.fields["mask"].any()
        with torch.inference_mode():
            encoded = encoder(empty)
        assert not encoded.present.any()
        assert not encoded.mask.any()


def test_an_ecg_is_rounded_as_its_file_is(hashes: dict[str, str]) -> None:
    """WFDB keeps steps of 5 microvolts; half a step more or less is the same record."""
    encoder = load_encoder(hashes[ECG], [ENCODERS]).encoder
    reading: Reading = reading_for(encoder)
    assert isinstance(reading, SignalReading)
    time = np.arange(5000) / 500
    wave = np.stack([0.8 * np.sin(2 * np.pi * (2 + k) * time) for k in range(len(LEADS))])
    on_grid = (np.round(wave * 200) / 200).astype(np.float32)
    made = [ecg_input(encoder, on_grid + shift) for shift in (0.0, 0.002, -0.002)]
    for other in made[1:]:
        assert torch.equal(made[0].fields["signal"], other.fields["signal"])
    assert made[0].kind is Kind.SIGNAL
    assert made[0].fields["mask"].all()
    moved = ecg_input(encoder, on_grid + 0.004 * np.sign(wave))
    assert not torch.equal(made[0].fields["signal"], moved.fields["signal"])


def test_each_loop_lands_on_its_own_view(hashes: dict[str, str]) -> None:
    """Loops are given by name in any order; frames are taken as the reading says."""
    encoder = load_encoder(hashes[ECHO], [ENCODERS]).encoder
    reading = reading_for(encoder)
    assert isinstance(reading, VideoReading)
    frames = reading.frames * reading.stride
    side = reading.size

    def loop(level: int) -> np.ndarray:
        return np.stack([np.full((side, side, 3), level + at, np.uint8) for at in range(frames)])

    given = {VIEWS[7]: loop(100), VIEWS[2]: loop(20)}
    made = echo_input(encoder, given)
    places = {reading.views.index(VIEWS[7]): 100, reading.views.index(VIEWS[2]): 20}
    assert np.flatnonzero(made.fields["mask"][0].numpy()).tolist() == sorted(places)
    for place, level in places.items():
        shown = made.fields["video"][0, place].mean(dim=(0, 2, 3))
        expected = level + reading.stride * torch.arange(reading.frames)
        assert torch.allclose(shown, expected.float(), atol=0.51)
    rest = [v for v in range(len(reading.views)) if v not in places]
    assert not made.fields["video"][0, rest].any()
