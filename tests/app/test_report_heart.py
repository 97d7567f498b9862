"""An ECG, an echo and told labs in a report: millimetres, colours and words."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest

from analysis.cohort.readers.signal import Signal
from analysis.echo import FILE, TRUTH, CycleMarks
from app.figures.ecg_svg import ecg_svg
from app.figures.echo_frames import FramePair, frame_pairs, frames_of
from app.report import PatientReport, render
from tests.app import reports
from tests.app.test_report import Document

MM = 100  # units of the drawing
LEFT_MM, ROW_MM = 10, 30


def drawing(signal: Signal, **more: object) -> Document:
    return Document(ecg_svg(signal, alt="ECG", **{"found": None, **more}))  # type: ignore[arg-type]


def points(path: str) -> list[np.ndarray]:
    """(n, 2) mm of each piece of a path of M, l, h and v."""
    pieces: list[list[tuple[float, float]]] = []
    for command, numbers in re.findall(r"([Mlhv])([^A-Za-z]*)", path):
        values = [int(n) for n in re.findall(r"[-+]?\d+", numbers)]
        if command == "M":
            pieces.append([(values[0], values[1])])
            continue
        if command == "l":
            steps = list(zip(values[::2], values[1::2], strict=True))
        else:
            steps = [(v, 0) if command == "h" else (0, v) for v in values]
        for dx, dy in steps:
            x, y = pieces[-1][-1]
            pieces[-1].append((x + dx, y + dy))
    return [np.asarray(piece) / MM for piece in pieces]


def traces(document: Document) -> list[str]:
    """Of the cells row by row: I, aVR, V1, V4, II, ..., and the rhythm strip."""
    return [str(path["d"]) for path in document.all("path") if path.get("class") == "trace"]


def base(row: int) -> float:
    return 5 + ROW_MM * (row + 0.5)


# ---------------------------------------------------------------- ECG


def test_the_paper_has_its_size_in_mm_and_a_pulse_of_one_millivolt() -> None:
    document = drawing(reports.ecg())
    (svg,) = document.all("svg")
    assert (svg["width"], svg["height"]) == ("265mm", "135mm")
    assert svg["viewbox"] == "0 0 26500 13500"  # a unit is 0.01 mm
    (pulse,) = [p for p in document.all("path") if p.get("class") == "pulse"]
    pieces = points(str(pulse["d"]))
    assert len(pieces) == 4
    for row, piece in enumerate(pieces):
        assert piece[0, 1] == base(row)
        assert np.ptp(piece[:, 1]) == 10  # 1 mV
        top = piece[piece[:, 1] == piece[:, 1].min()]
        assert np.ptp(top[:, 0]) == 5  # 200 ms
    for every in (1, 5):
        (grid,) = [p for p in document.all("path") if p.get("class") == f"grid-{every}"]
        lines = [int(x) for x in re.findall(r"M(\d+) 0V", str(grid["d"]))]
        assert lines == [x * MM for x in range(0, 266, every)]
    assert "25 mm/s   10 mm/mV   unfiltered as recorded" in " ".join(document.words)
    assert "500 Hz 0.0–10.0 s" in document.text


@pytest.mark.parametrize("rate_hz", [250.0, 500.0, 1000.0])
def test_the_trace_lies_at_its_second_and_millivolt(rate_hz: float) -> None:
    document = drawing(reports.ecg(rate_hz))
    found = traces(document)
    assert len(found) == 13
    (lead_i,) = points(found[0])
    assert lead_i[0].tolist() == [LEFT_MM, base(0)]
    assert lead_i[-1, 0] == pytest.approx(LEFT_MM + 62.5, abs=0.11)
    high = lead_i[lead_i[:, 1] < base(0) - 9.99]
    assert high[:, 1].tolist() == [base(0) - 10] * len(high)
    assert (high[0, 0], high[-1, 0]) == pytest.approx((LEFT_MM + 25, LEFT_MM + 30), abs=0.11)
    # Columns go on in time: V4, the fourth of the first row, starts at 7.5 s.
    assert points(found[3])[0][0, 0] == LEFT_MM + 187.5
    # Nothing is drawn across the gap of III, nor where a lead was not recorded.
    before, after = points(found[8])
    assert before[-1, 0] == pytest.approx(LEFT_MM + 12.5, abs=0.11)
    assert after[0, 0] == pytest.approx(LEFT_MM + 25, abs=0.11)
    assert (found[7], found[11]) == ("", "")
    assert document.words.count("not recorded") == 2


def test_tall_complexes_of_the_first_row_make_room_for_themselves() -> None:
    signal = reports.ecg()
    signal.array[0, 500:505] = 2.6  # 26 mm above the first row's base, which is 20 mm from the edge
    (svg,) = drawing(signal).all("svg")
    assert svg["height"] == "145mm"
    signal.array[0, 500:505] = 9.0
    (svg,) = drawing(signal).all("svg")
    assert svg["height"] == "150mm"  # no more than fits on the page


def test_short_and_long_records() -> None:
    assert drawing(reports.ecg(seconds=5.0)).all("svg")[0]["width"] == "140mm"
    long = drawing(reports.ecg(seconds=12.0))
    assert long.all("svg")[0]["width"] == "265mm"
    assert "0.0–10.0 s of 12.0 s" in long.text


def coloured(document: Document) -> list[tuple[str, float, float, float, float]]:
    """Colour, left, right, top and bottom of every coloured piece, mm."""
    found = []
    for path in document.all("path"):
        if not str(path.get("fill", "")).startswith("#"):
            continue
        words = re.findall(r"([MHV])(\d+)(?: (\d+))?", str(path["d"]))
        x = [int(a) for c, a, _ in words if c in "MH"]
        y = [int(b or a) for c, a, b in words if c in "MV"]
        x1, x2, y1, y2 = (n / MM for n in (min(x), max(x), min(y), max(y)))
        found.append((str(path["fill"]), x1, x2, y1, y2))
    return found


@pytest.mark.parametrize("signed", [False, True])
def test_colour_lies_at_its_instant_and_lead(signed: bool) -> None:
    document = drawing(
        reports.ecg(), found=reports.ecg_map(signed), ends=("low end", "high end <b>")
    )
    pieces = coloured(document)
    strongest = "#D0344D" if signed else "#D8712F"  # the last colour at an opacity of 0.85
    full = [p for p in pieces if p[0] == strongest]
    assert full
    # Linear between the middles of the steps 1.05 and 1.15 s, and 0.5 mm further.
    left, right = min(p[1] for p in full), max(p[2] for p in full)
    assert (left, right) == pytest.approx((LEFT_MM + 25.75, LEFT_MM + 29.25), abs=0.6)
    assert min(p[3] for p in full) == pytest.approx(base(0) - 10 - 1.2, abs=0.01)
    weak = [p for p in pieces if p[1] > LEFT_MM + 190]
    assert weak
    assert min(p[1] for p in weak) > LEFT_MM + 25 * 7.93
    assert max(p[2] for p in weak) < LEFT_MM + 25 * 8.17
    red, _, blue = (int(weak[len(weak) // 2][0][i : i + 2], 16) for i in (1, 3, 5))
    assert (blue > red) == signed
    # II and the others have none: they are 0 there.
    assert not [p for p in pieces if p[4] > base(0) + 3]
    assert ("−0.5 low end" if signed else "0 low end") in document.text
    assert f"high end <b> {'+' if signed else ''}0.5" in document.text


def test_an_empty_map_has_neither_colours_nor_a_legend() -> None:
    empty = reports.ecg_map()
    empty.values[:] = 0
    document = drawing(reports.ecg(), found=empty, ends=("nothing", "most"))
    assert coloured(document) == []
    assert "most" not in document.text


def test_what_surrounds_an_ecg_is_text() -> None:
    document = drawing(reports.ecg(), filter_text=reports.HOSTILE)
    assert reports.HOSTILE in " ".join(document.words)
    hostile = Document(ecg_svg(reports.ecg(), None, reports.HOSTILE))
    assert hostile.all("svg")[0]["aria-label"] == reports.HOSTILE
    assert not hostile.all("script")


# ---------------------------------------------------------------- echo


def test_frames_are_those_of_the_cycle_else_the_first_and_the_middle() -> None:
    cine = reports.echo()
    assert frames_of(cine, CycleMarks()) == {0: "first frame", 10: "middle frame"}
    known = CycleMarks((3, 19), (9,), FILE, TRUTH)
    assert frames_of(cine, known) == {3: "end-diastole", 9: "end-systole (simulation's truth)"}
    only = CycleMarks((10,), (), FILE)
    assert frames_of(cine, only) == {10: "end-diastole"}  # the middle one is the same frame


def pixels(jpeg: bytes) -> np.ndarray:
    read = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    return read[..., ::-1].astype(float)


def pairs(*ed: int) -> list[FramePair]:
    return frame_pairs("A4C", reports.echo(), CycleMarks(ed, (), FILE), reports.echo_map())


def test_the_map_lies_on_the_models_square_of_its_own_frame() -> None:
    late, *_ = pairs(14)
    assert (late.number, late.frames, late.time_ms, late.read) == (15, 20, 700.0, True)
    plain, over = pixels(late.jpeg), pixels(late.overlaid or b"")
    assert plain.shape == over.shape == (198, 264, 3)  # 60 x 80 to 264 across
    np.testing.assert_allclose(plain, 40 + 14, atol=2)
    # The square is 198 pixels from column 33 on; its lower right cell's middle is at 3/4.
    y, x = round(198 * 0.75), 33 + round(198 * 0.75)
    ground, strongest = 54, np.array([0xFC, 0xFF, 0xA4])
    expected = ground * (1 - 0.55) + strongest * 0.55
    np.testing.assert_allclose(over[y + 20, x + 20], expected, atol=8)
    np.testing.assert_allclose(over[:, :30], plain[:, :30], atol=8)
    np.testing.assert_allclose(over[:, -30:], plain[:, -30:], atol=8)
    np.testing.assert_allclose(over[20:60, 60:100], ground, atol=3)


def test_a_frame_without_colours_says_why() -> None:
    early, late = pairs(0)[0], pairs(17)[0]
    assert (early.overlaid, early.read) == (None, True)
    assert (late.overlaid, late.read) == (None, False)
    text = Document(render(PatientReport(modalities=reports.heart_parts()))).text
    assert "below 15% of the largest" in text
    assert "end-diastole, frame 3/20, 100 ms" in text
    assert "middle frame, frame 11/20, 500 ms" in text


# ---------------------------------------------------------------- the document


def test_the_blocks_stand_in_their_sections_in_order() -> None:
    document = Document(render(PatientReport(modalities=reports.heart_parts())))
    text = document.text
    order = ["Why: ECG", "Rate 54 bpm", "9 beats", "By lead (9 beats)", "Why: Echo", "Subcostal",
             "Why: Labs", "BNP is 900 ."]  # fmt: skip
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    images = document.all("img")
    assert [image["alt"] for image in images][-1].endswith("with the map")
    words = [span for span in document.all("span") if "word" in str(span.get("class"))]
    assert [str(span["title"]) for span in words[2:]][2] == "raises the risk: +0.40"
