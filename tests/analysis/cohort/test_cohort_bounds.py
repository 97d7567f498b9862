"""Files that claim more than they hold are refused before memory is asked for; honest ones stay."""

from __future__ import annotations

import gzip
import io
import struct
import tracemalloc
import zipfile
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import pytest

from analysis.cohort.readers.arrays import read_arrays
from analysis.cohort.readers.frame import read_arrow
from analysis.cohort.readers.signal import read_signal
from analysis.cohort.readers.volume import read_mask, read_volume
from analysis.cohort.schema import CohortError
from analysis.cohort.write import write_signal, write_volume
from analysis.plain_yaml import read_plain_yaml
from tests.fuzz.tables import far_too_many_rows

LITTLE = 50 << 20


def refused(read, *arguments) -> str:
    """The sentence, said without having taken much memory."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as caught:
            read(*arguments)
        assert tracemalloc.get_traced_memory()[1] < LITTLE
    finally:
        tracemalloc.stop()
    return str(caught.value)


def with_sides(path: Path, *sides: int) -> Path:
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[40:48] = struct.pack("<4h", 3, *sides)
    path.write_bytes(gzip.compress(bytes(raw)))
    return path


def test_a_volume_that_its_file_cannot_hold(tmp_path: Path) -> None:
    path = write_volume(tmp_path / "a.nii.gz", np.zeros((4, 5, 6), np.int16), (1.0, 1.0, 1.0))
    said = refused(read_volume, with_sides(path, 30000, 30000, 30000))
    assert "claims 54,000,000,000,352 bytes" in said


def test_a_spacing_that_would_fill_the_memory(tmp_path: Path) -> None:
    path = write_volume(tmp_path / "a.nii.gz", np.zeros((9, 9, 9), np.int16), (900.0,) * 3)
    assert "would make" in refused(read_volume, path, (1.0, 1.0, 1.0))
    assert read_volume(path, (1.0, 1.0, 1.0), (4, 4, 4)).array.shape == (4, 4, 4)
    tiny = write_volume(tmp_path / "b.nii.gz", np.zeros((9, 9, 9), np.int16), (1e-4, 9, 9))
    assert "as no scan has" in refused(read_volume, tiny)


def test_an_empty_mask_shrinks_as_far_as_it_likes(tmp_path: Path) -> None:
    like = read_volume(
        write_volume(tmp_path / "a.nii.gz", np.zeros((8, 8, 8), np.int16), (2.0,) * 3)
    )
    mask = write_volume(tmp_path / "m.nii.gz", np.zeros((200, 200, 200), np.uint8), (0.1,) * 3)
    assert mask.stat().st_size < 8_000_000 / 200
    assert not read_mask(mask, like).any()


@pytest.mark.parametrize("seed", range(6))
def test_a_table_of_billions_of_rows(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "a.parquet"
    frame = pd.DataFrame({"subject_id": [1, 2], "code": ["a", "b"], "value": [0.5, 1.0]})
    frame.to_parquet(path, index=False)
    sound = path.read_bytes()
    path.write_bytes(far_too_many_rows(Random(seed), sound, sound))
    claimed = path.stat().st_size
    assert claimed < 3 << 20
    said = refused(read_arrow, path) if claimed else ""
    assert "as no honest table does" in said


def test_an_honest_table_of_few_codes(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    codes = np.resize(["LAB//NA", "DX//PE", "MEDS_BIRTH"], 300_000)
    pd.DataFrame({"subject_id": 1, "code": codes, "note": None}).to_parquet(path, index=False)
    assert path.stat().st_size < 100_000
    table = read_arrow(path)
    assert table["code"].to_pylist() == codes.tolist()
    assert str(table.schema.field("code").type) == "string"
    again = read_arrow(path, encoded=True)
    assert again["code"].to_pylist() == codes.tolist()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("r.dat", "../r.dat", "not beside it"),
        ("r.dat", "/etc/passwd", "not beside it"),
        (" 100 300", " 100 99999999999", "cannot hold"),
        (".dat 16 ", ".dat 16x99999999 ", "cannot hold"),
        (".dat 16 ", ".dat 16:9999999999 ", "cannot hold"),
    ],
)
def test_a_record_that_reaches_beyond_its_files(tmp_path, old, new, says) -> None:
    path = write_signal(tmp_path / "r.hea", np.ones((2, 300)) * 0.1, ("I", "II"), 100.0)
    read_signal(path)
    path.write_text(path.read_text().replace(old, new))
    assert says in refused(read_signal, path)


def test_arrays_are_numbers_and_as_many_as_they_claim(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    sides = np.arange(6.0).reshape(2, 3)
    np.savez_compressed(path, rows=sides, columns=np.asfortranarray(sides), bits=sides > 2)
    found = read_arrays(path)
    assert {name: array.tolist() for name, array in found.items()} == {
        "rows": sides.tolist(),
        "columns": sides.tolist(),
        "bits": (sides > 2).tolist(),
    }
    np.savez(path, a=np.array([{}], object))
    assert "else than numbers" in refused(read_arrays, path)
    plain = io.BytesIO()
    np.save(plain, np.zeros(4, np.uint8))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", plain.getvalue().replace(b"(4,), }   ", b"(4000,), }"))
    assert "claims more numbers" in refused(read_arrays, path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: &a [x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in
         zip("abcdefghijklmnopqrs", "bcdefghijklmnopqrst", strict=True)), "unfold without end"),
        ("a: &a [*a]\n", "unfold without end"),
        ("a: 1\nb: {c: 1, c: 2}\n", "names 'c' twice"),
        ("[" * 2000, "nested too deeply"),
        ("a: !!python/name:os.system\n", "could not determine a constructor"),
        ("a: !!timestamp x\n", "not what it is said to be"),
        ("- a\n", "expected named fields"),
    ],
)  # fmt: skip
def test_yaml_that_unfolds_repeats_or_runs(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        read_plain_yaml(path)


def test_yaml_with_an_anchor_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: &lab {unit: mmol/L}\nb: *lab\n")
    assert read_plain_yaml(path) == {"a": {"unit": "mmol/L"}, "b": {"unit": "mmol/L"}}


def test_a_column_twice_is_named(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table([[1], [2]], names=["subject_id", "subject_id"]), path)
    with pytest.raises(CohortError, match="column 'subject_id' is there twice"):
        read_arrow(path)
