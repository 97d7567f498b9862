"""Lies in NIfTI and DICOM: headers that claim other sizes, types and places than the file has."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from functools import cache
from random import Random
from typing import Any

import pydicom
from pydicom import config, uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.fuzz.mutate import BLIND, Mutation
from tests.fuzz.texts import odd_value

# Name: offset and struct letter in the header of NIfTI-1, and in that of NIfTI-2.
_NIFTI = {
    **{f"dim{i}": ((40 + 2 * i, "h"), (16 + 8 * i, "q")) for i in range(8)},
    "datatype": ((70, "h"), (12, "h")),
    "bitpix": ((72, "h"), (14, "h")),
    **{f"pixdim{i}": ((76 + 4 * i, "f"), (104 + 8 * i, "d")) for i in range(5)},
    "vox_offset": ((108, "f"), (168, "q")),
    "slope": ((112, "f"), (176, "d")),
    "intercept": ((116, "f"), (184, "d")),
    "qform": ((252, "h"), (344, "i")),
    "sform": ((254, "h"), (348, "i")),
    **{f"row{i}": ((280 + 4 * i, "f"), (400 + 8 * i, "d")) for i in range(12)},
    "magic": ((344, "i"), (4, "i")),
    "size": ((0, "i"), (0, "i")),
}
_WHOLE = (0, 1, -1, 2, 3, 4, 5, 7, 8, 16, 64, 128, 255, 256, 512, 1024, 1536, 2048, 2304, 30000)
_EDGES = {"h": (32767, -32768), "i": (2**31 - 1, -(2**31)), "q": (2**63 - 1, -(2**63), 2**40)}
_REAL = (0.0, -1.0, 1.0, 1e-30, 1e-6, 1e6, 1e30, float("nan"), float("inf"), 352.0, 1e9, 100.0)


def in_nifti_header(rng: Random, data: bytes, other: bytes) -> bytes:
    if len(data) < 348:
        return data
    order = "<" if data[0] in (0x5C, 0x1C) else ">"
    wide = struct.unpack(f"{order}i", data[:4])[0] == 540
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at, letter = _NIFTI[rng.choice(list(_NIFTI))][wide]
        values = _REAL if letter in "fd" else _WHOLE + _EDGES[letter]
        if letter == "h":
            values = tuple(v for v in values if -32768 <= v <= 32767)
        out[at : at + struct.calcsize(letter)] = struct.pack(f"{order}{letter}", rng.choice(values))
    return bytes(out)


def nifti_of_giants(rng: Random, data: bytes, other: bytes) -> bytes:
    """Sides that multiply to terabytes, with nothing behind them."""
    sides = rng.choice(((30000, 30000, 30000), (32767, 32767, 1), (512, 512, 4000), (1300,) * 3))
    out = bytearray(data)
    if len(data) < 348 or data[:4] != struct.pack("<i", 348):
        return data
    out[40:48] = struct.pack("<4h", 3, *sides)
    return bytes(out)


@cache
def _zeros() -> bytes:
    return gzip.compress(bytes(16 << 20), 6, mtime=0)


def nifti_bomb(rng: Random, data: bytes, other: bytes) -> bytes:
    """Gigabytes of zeros in a few megabytes, claimed by the header or not."""
    if data[:2] != b"\x1f\x8b":
        return data
    head = bytearray(gzip.decompress(data)[:352])
    if rng.random() < 0.6 and head[:4] == struct.pack("<i", 348):
        head[40:48] = struct.pack("<4h", 3, 1300, 1300, rng.choice((600, 2000)))
    return gzip.compress(bytes(head), mtime=0) + _zeros() * 200


def inside_gzip(inner: tuple[Mutation, ...]) -> Mutation:
    def unpacked(rng: Random, data: bytes, other: bytes) -> bytes:
        chosen = rng.choice(inner)
        if data[:2] != b"\x1f\x8b":
            return chosen(rng, data, other)
        try:
            return gzip.compress(chosen(rng, gzip.decompress(data), other), 1, mtime=0)
        except (OSError, EOFError, zlib.error):
            return data

    unpacked.__name__ = "inside_gzip"
    return unpacked


NIFTI: tuple[Mutation, ...] = (
    *(inside_gzip((in_nifti_header,)),) * 8,
    inside_gzip((nifti_of_giants,)),
    inside_gzip(BLIND),
    nifti_bomb,
)

# ---------------------------------------------------------------- DICOM

_PLAIN = (0, 1, 2, 3, 7, 8, 12, 15, 16, 17, 24, 32, 64, 65535, 40000)
_TEXTS = (
    "",
    "0",
    "-1",
    "1",
    "2",
    "4",
    "9",
    "1000000000",
    "1e400",
    "NaN",
    "inf",
    "x",
    "1\\2\\3",
    "0",
)
_KINDS = (
    *("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT"),
    *("YBR_ICT", "CMYK", "", "x" * 5000),
)
_SYNTAXES = (
    *(uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian),
    *(uid.DeflatedExplicitVRLittleEndian, uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit),
    *(uid.JPEGLossless, uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.JPEG2000, uid.RLELossless),
    *("1.2.840.10008.1.2.4.100", "1.2.3", "", "x" * 200),
)


def _walk(dataset: Dataset, depth: int = 0) -> list[tuple[Dataset, Any]]:
    found = []
    for element in list(dataset):
        found.append((dataset, element))
        if element.VR == "SQ" and depth < 6:
            for item in element.value:
                found += _walk(item, depth + 1)
    return found


def _changed(rng: Random, dataset: Dataset) -> None:
    home, element = rng.choice(_walk(dataset))
    how = rng.randrange(10)
    if how == 0:
        del home[element.tag]
    elif how == 1 and element.VR != "SQ":
        element.VR = rng.choice(("UN", "LO", "US", "OB", "DS", "FD", "SQ", "UI", "SL"))
    elif element.VR in ("US", "SS", "UL", "SL"):
        limit = {"US": 65535, "SS": 32767, "UL": 2**32 - 1, "SL": 2**31 - 1}[element.VR]
        element.value = rng.choice([v for v in (*_PLAIN, limit) if v <= limit])
    elif element.VR in ("IS", "DS"):
        home.add_new(element.tag, "LO", rng.choice(_TEXTS))
        home[element.tag].VR = "LO"
    elif element.VR in ("FL", "FD"):
        element.value = rng.choice(_REAL)
    elif element.VR in ("OB", "OW", "UN", "OF") and isinstance(element.value, bytes):
        raw = element.value
        element.value = rng.choice((b"", raw[: len(raw) // 4 * 2], raw * 2, b"\0\0" + raw, raw[2:]))
    elif element.VR == "SQ":
        element.value = Sequence(rng.choice(([], [Dataset()], list(element.value) * 50)))
    elif element.keyword == "PhotometricInterpretation":
        element.value = rng.choice(_KINDS)
    else:
        value = odd_value(rng)
        element.value = value if isinstance(value, str) else str(value)[:2000]


def _set(rng: Random, dataset: Dataset) -> None:
    """The fields on which sizes rest."""
    number = rng.choice(_PLAIN)
    how = rng.randrange(9)
    names = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit")
    if how < 4:
        setattr(dataset, rng.choice((*names, "PixelRepresentation", "PlanarConfiguration")), number)
    elif how == 4:
        dataset.Rows = dataset.Columns = 65535
    elif how == 5:
        frames = rng.choice(("0", "1", "2", "-1", "2147483647", "99999999999", "x", "1e9"))
        dataset.add_new("NumberOfFrames", "LO", frames)
    elif how == 6:
        dataset.PhotometricInterpretation = rng.choice(_KINDS)
    else:
        groups = dataset.get("WaveformSequence") or [dataset]
        name = rng.choice(
            ("NumberOfWaveformSamples", "NumberOfWaveformChannels", "WaveformBitsAllocated")
        )
        setattr(rng.choice(groups), name, number)


def _nested(depth: int) -> Dataset:
    inner = Dataset()
    for _ in range(depth):
        outer = Dataset()
        outer.ViewCodeSequence = Sequence([inner])
        inner = outer
    return inner


def _curve(rng: Random, dataset: Dataset) -> None:
    """An ECG of old, its shape drawn by chance."""
    curve = Dataset()
    curve.add_new(0x50000005, "US", rng.choice((0, 1, 2, 65535)))
    curve.add_new(0x50000010, "US", rng.choice((0, 16, 65535)))
    curve.add_new(0x50000020, "CS", "ECG")
    curve.add_new(0x50000030, "SH", rng.choice(("MSEC", "", "x")))
    curve.add_new(0x50000103, "US", rng.choice((0, 1, 2, 3, 4, 9)))
    curve.add_new(0x50000110, "US", rng.choice(([0, 1], [1, 1], [0], 1, [0] * 30)))
    curve.add_new(0x50000112, "US", rng.choice((0, 65535)))
    curve.add_new(0x50000114, "US", rng.choice((0, 1, 65535)))
    curve.add_new(0x50003000, "OW", rng.randbytes(rng.choice((0, 3, 16, 4000))))
    dataset.update(curve)


_MOST_ITEMS = 100
"""Of sequences; pydicom writes deeper ones no more, and takes ages to say so."""


def in_dicom(rng: Random, data: bytes, other: bytes) -> bytes:
    """Elements changed, taken out, of another type, another syntax, nested too deep."""
    if data.count(b"\xfe\xff\x00\xe0") > _MOST_ITEMS:
        return data
    with config.disable_value_validation():
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
        for _ in range(rng.choice((1, 1, 2, 4))):
            how = rng.random()
            if how < 0.4:
                _set(rng, dataset)
            elif how < 0.8:
                _changed(rng, dataset)
            elif how < 0.9 and hasattr(dataset, "file_meta"):
                dataset.file_meta.TransferSyntaxUID = rng.choice(_SYNTAXES)
            elif how < 0.95:
                _curve(rng, dataset)
            else:
                dataset.update(_nested(rng.choice((5, 30))))
        out = io.BytesIO()
        dataset.save_as(out, enforce_file_format=False)
        return out.getvalue()


def in_syntax(rng: Random, data: bytes, other: bytes) -> bytes:
    """Another transfer syntax in the header, and nothing else changed."""
    at = data.find(b"\x02\x00\x10\x00UI")
    if at < 0:
        return data
    (length,) = struct.unpack("<H", data[at + 6 : at + 8])
    name = str(rng.choice(_SYNTAXES)).encode()
    name += b"\0" * (len(name) % 2)
    head = data[: at + 6] + struct.pack("<H", len(name)) + name
    return head + data[at + 8 + length :]


def in_dicom_lengths(rng: Random, data: bytes, other: bytes) -> bytes:
    """Lengths of elements: undefined, or past the end."""
    places = [i for vr in (b"OB", b"OW", b"SQ", b"UN") for i in _all(data, vr + b"\0\0")]
    if not places:
        return data
    at = rng.choice(places) + 4
    length = rng.choice((0, 0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF, len(data), 1))
    return data[:at] + struct.pack("<I", length) + data[at + 4 :]


def _all(data: bytes, what: bytes) -> list[int]:
    found, at = [], data.find(what)
    while at >= 0 and len(found) < 200:
        found.append(at)
        at = data.find(what, at + 1)
    return found


def deep_sequences(rng: Random, data: bytes, other: bytes) -> bytes:
    """Sequences of undefined length within each other, thousands deep, before the rest."""
    at = data.find(b"\x08\x00\x05\x00") if rng.random() < 0.5 else -1
    at = at if at > 0 else data.find(b"\x08\x00")
    item = b"\x08\x00\x06\x00SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return data[:at] + item * rng.choice((50, 1000, 20_000)) + data[at:]


DICOM: tuple[Mutation, ...] = (
    *(in_dicom,) * 8,
    *(in_syntax, in_syntax, in_dicom_lengths, in_dicom_lengths, deep_sequences),
)
