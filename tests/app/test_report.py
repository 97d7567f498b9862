from __future__ import annotations

import base64
import dataclasses
import gzip
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs

from analysis.attribution.export import provenance
from analysis.cohort.readers.volume import Volume, read_volume
from app import theme
from app.figures.ct_slices import (
    DIVERGING,
    PLANES,
    Plane,
    draw,
    ends_of,
    grey,
    plane_png,
    slices_png,
)
from app.report import PatientReport, part_tables, quality, render
from app.report_document import Chart, Table
from tests.analysis.attribution.test_export import ORIENTATIONS, write_scan
from tests.app.reports import HASH, HOSTILE, Card, ct_map, events, full_report, scan

# ---------------------------------------------------------------- grey values


@pytest.mark.parametrize(("level", "width"), [(-600, 1500), (40, 400), (100, 700), (40.5, 1)])
def test_grey_is_the_dicom_linear_voi_function(level: float, width: float) -> None:
    for hu in np.r_[np.arange(-1400, 1400, 7), level, level - 0.5 - (width - 1) / 2]:
        low, high = level - 0.5 - (width - 1) / 2, level - 0.5 + (width - 1) / 2
        if hu <= low:
            expected = 0.0
        elif hu > high:
            expected = 255.0
        else:
            expected = ((hu - (level - 0.5)) / (width - 1) + 0.5) * 255
        assert grey(hu, level, width) == round(expected)


def test_a_window_without_width_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 HU"):
        grey([0], 40, 0)


# ---------------------------------------------------------------- slices


def marked(volume: Volume, at: tuple[int, int, int], hu: float, half: int = 2) -> Volume:
    """The volume with a small cube of another number."""
    array = volume.array.copy()
    array[tuple(slice(i - half, i + half + 1) for i in at)] = hu
    return Volume(array, volume.affine, volume.spacing_mm)


@pytest.mark.parametrize("plane", PLANES)
def test_a_known_voxel_has_its_grey_where_its_millimetre_is(plane: Plane) -> None:
    at = (25, 30, 20)
    volume = marked(scan(), at, 150.0)
    point = volume.to_mm([at])[0]
    drawn = draw(volume, None, plane, point, 100, 700, pixels_per_mm=3.0)
    column, row = drawn.pixel(point)
    assert drawn.image[row, column].tolist() == [int(grey(150.0, 100, 700))] * 3
    box = drawn.image[drawn.top : drawn.top + drawn.height, drawn.left : drawn.left + drawn.width]
    where = np.argwhere(box[..., 0] == grey(150.0, 100, 700))
    middle = where.mean(0) + np.array([drawn.top, drawn.left])
    np.testing.assert_allclose(middle, (row, column), atol=2)


def corner(drawn) -> tuple[str, str]:
    """In which corner of the anatomy the brightest spot is."""
    box = drawn.image[drawn.top : drawn.top + drawn.height, drawn.left : drawn.left + drawn.width]
    row, column = np.argwhere(box[..., 0] == 255).mean(0)
    return "top" if row < drawn.height / 2 else "bottom", (
        "left" if column < drawn.width / 2 else "right"
    )


def test_radiological_convention() -> None:
    """Right, anterior and superior: top left in all; the sagittal slice faces left."""
    volume = scan()
    d, h, w = volume.array.shape
    right_anterior_superior = (d - 8, h - 9, w - 10)
    bright = marked(volume, right_anterior_superior, 900.0)
    point = bright.to_mm([right_anterior_superior])[0]
    for plane in PLANES:
        assert corner(draw(bright, None, plane, point, 40, 400)) == ("top", "left")
    left = (8, h - 9, 9)
    bright = marked(volume, left, 900.0)
    point = bright.to_mm([left])[0]
    assert corner(draw(bright, None, "axial", point, 40, 400)) == ("top", "right")
    assert corner(draw(bright, None, "coronal", point, 40, 400)) == ("bottom", "right")
    assert corner(draw(bright, None, "sagittal", point, 40, 400)) == ("bottom", "left")


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_the_picture_is_the_same_in_every_orientation_of_the_file(
    tmp_path: Path, codes: str
) -> None:
    volume = write_scan(tmp_path / "scan.nii.gz", codes)
    reference = write_scan(tmp_path / "ras.nii.gz", "RAS")
    point = reference.to_mm([(5, 6, 7)])[0]
    assert slices_png(volume, None, point, 40, 400) == slices_png(reference, None, point, 40, 400)


def test_pixels_are_square_in_millimetres() -> None:
    volume = scan()  # 2 x 1.5 x 1.5 mm
    drawn = draw(volume, None, "sagittal", (0, 0, 340), 40, 400, pixels_per_mm=4.0)
    assert (drawn.width, drawn.height) == (50 * 1.5 * 4, 40 * 2 * 4)


def test_slices_are_counted_from_the_head_and_the_point_is_moved_inside() -> None:
    volume = scan()
    top = draw(volume, None, "axial", (0, 0, 1e4), 40, 400)
    assert top.index == volume.array.shape[0] - 1
    assert draw(volume, None, "axial", (0, 0, -1e4), 40, 400).index == 0


def overlay_colour(value: float, limit: float, opacity: float, stops=DIVERGING) -> np.ndarray:
    """BGR of a signed value over black, worked out one value at a time."""
    share = value / limit / 2 + 0.5
    place = share * (len(stops) - 1)
    low = min(int(place), len(stops) - 2)
    mix = [
        [int(stops[low + i][k : k + 2], 16) for k in (5, 3, 1)] for i in (0, 1)
    ]  # fmt: skip
    colour = np.asarray(mix[0]) + (np.asarray(mix[1]) - mix[0]) * (place - low)
    return colour * opacity * min(1, abs(value / limit) / 0.5)


@pytest.mark.parametrize("worse", [True, False])
def test_the_map_lies_at_its_millimetre_and_red_is_worse(worse: bool) -> None:
    volume = scan()
    volume = Volume(np.full_like(volume.array, -1000), volume.affine, volume.spacing_mm)
    found = ct_map(volume, worse_is_higher=worse)
    stops = DIVERGING if worse else DIVERGING[::-1]
    for cell, value in (((5, 5, 5), 0.08), ((2, 2, 2), -0.04)):
        point = (found.affine @ [*cell, 1.0])[:3]
        drawn = draw(volume, found, "axial", point, 40, 400, 0.6, 0.1, pixels_per_mm=6.0)
        column, row = drawn.pixel(point)
        shown = float(found.on(volume)[tuple(np.rint(volume.to_voxels([point])[0]).astype(int))])
        assert shown == pytest.approx(value, rel=0.25)
        expected = overlay_colour(shown, 0.08, 0.6, stops)
        np.testing.assert_allclose(drawn.image[row, column], expected, atol=14)
        red, blue = drawn.image[row, column, 2], drawn.image[row, column, 0]
        assert (red > blue) == ((value > 0) == worse)
    assert ends_of(found) == (("better", "worse") if worse else ("worse", "better"))


def test_below_the_threshold_and_off_the_map_only_the_ct_is_seen() -> None:
    volume = scan()
    found = ct_map(volume)
    point = (found.affine @ [2, 2, 2, 1.0])[:3]  # half of the largest
    bare = draw(volume, None, "coronal", point, 40, 400)
    np.testing.assert_array_equal(
        draw(volume, found, "coronal", point, 40, 400, 0.9, 0.6).image, bare.image
    )
    assert (draw(volume, found, "coronal", point, 40, 400, 0.9, 0.2).image != bare.image).any()
    np.testing.assert_array_equal(
        draw(volume, found, "coronal", point, 40, 400, 0.0, 0.2).image, bare.image
    )


def test_png_files_and_what_they_refuse() -> None:
    volume, found = scan(), ct_map(scan())
    one = cv2.imdecode(
        np.frombuffer(plane_png(volume, found, "axial", found.peak_mm, 40, 400), np.uint8), 1
    )
    titled = cv2.imdecode(
        np.frombuffer(
            slices_png(volume, found, found.peak_mm, 40, 400, title="Patient 17, −3"), np.uint8
        ),
        1,
    )
    plain = cv2.imdecode(
        np.frombuffer(slices_png(volume, found, found.peak_mm, 40, 400), np.uint8), 1
    )
    assert one.shape[2] == 3
    np.testing.assert_array_equal(titled[: len(plain)], plain)
    assert titled[len(plain) :].max() > 200
    with pytest.raises(ValueError, match="opacity"):
        slices_png(volume, found, found.peak_mm, 40, 400, opacity=1.5)


def test_the_real_scan_has_its_artery_under_the_mark(real_data) -> None:
    """A map of the artery's mask is seen on the artery."""
    volume = read_volume(real_data("ct/pulmonary/ct_cropped.nii.gz"))
    mask = read_volume(real_data("ct/pulmonary/pulmonary_artery.nii.gz"))
    inside = np.argwhere(mask.array > 0.5)
    middle = inside[np.abs(inside - inside.mean(0)).sum(1).argmin()]
    found = dataclasses.replace(
        ct_map(volume, signed=False),
        values=(mask.array > 0.5).astype(np.float32),
        affine=mask.affine,
    )
    point = mask.to_mm([middle])[0]
    drawn = draw(volume, found, "axial", point, 100, 700, 1.0, 0.5, pixels_per_mm=3.0)
    column, row = drawn.pixel(point)
    assert drawn.image[row, column].tolist() == [0xA4, 0xFF, 0xFC]


# ---------------------------------------------------------------- tables


def test_part_tables_hold_the_largest_and_say_what_they_leave_out() -> None:
    found = events()
    shares = found.values[:, 0]
    raising, lowering = part_tables(found, top=5)
    assert len(raising.rows) == len(lowering.rows) == 5
    assert raising.rows[0][raising.columns.index("Share")] == "+0.44"
    assert lowering.rows[0][lowering.columns.index("Share")] == "−0.33"
    assert raising.caption == "What raises the risk"
    total = shares[shares > 0].sum()
    assert f"together +{total:.2f}." in raising.note
    assert f"{(shares > 0).sum()} events of 30" in raising.note
    first = int(np.argmax(shares))
    assert raising.rows[0][raising.columns.index("Code")] == found.parts["code"][first]
    assert f"{found.parts['time'][first]:%Y-%m-%d}" in raising.rows[0]


def test_quality_says_the_results_own_error() -> None:
    assert quality(events()) == (
        "Shares miss the explained number by 2.0e−7; two independent halves agree in rank at "
        "0.93; 2,052 model evaluations."
    )
    assert quality(ct_map(scan())) == ""


def test_a_table_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="2 columns, a row 1"):
        Table("x", ["a", "b"], [["only"]])


# ---------------------------------------------------------------- the document


VOID = {"meta", "img", "br", "circle"}


class Document(HTMLParser):
    """Tags with their attributes, text by heading, and unbalanced tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_numbers_of_the_report_are_those_given() -> None:
    report = full_report(outcome="day 45: death from any cause")
    text = Document(render(report)).text
    for number in ("33.3%", "66.7%", "87.4 (of 1,098)", "1.87", "0.432", HASH, "co_attention"):
        assert number in text
    assert "day 45: death from any cause" in text
    assert "blinded" not in text
    assert "0.93" in text
    assert "2.0e−7" in text
    assert "hirescam at layer3" in text
    assert "block_mm 40" in text
    assert "cohort-f00d" in text
    assert "2025-02-03 04:05" in text
    assert text.count(theme.NOTICE) == 2
    for table in (*(t for p in report.modalities for t in (p.raising, p.lowering) if t),):
        for row in table.rows:
            assert " ".join(cell for cell in row if cell) in text


def test_a_report_without_outcome_says_so_and_no_figure_tells_it() -> None:
    assert "not included (blinded read)" in Document(render(full_report())).text
    telling = Chart(go.Figure(go.Scatter(x=[1], y=[1], meta="outcome")), "curve")
    with pytest.raises(ValueError, match="blinded"):
        PatientReport(outlook=[telling])
    PatientReport(outlook=[telling], outcome="no event up to day 359")


def test_a_card_of_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="good, mixed, fails, unknown"):
        PatientReport(cards={"CT map": Card("fine", ())})


def test_an_empty_report_is_a_whole_document_without_scripts() -> None:
    text = render(PatientReport())
    document = Document(text)
    assert document.open == []
    assert not document.all("script")
    assert document.all("h1")
    assert len(text) < 20_000


def test_strings_of_files_are_text_everywhere() -> None:
    report = full_report(words=HOSTILE)
    text = render(report)
    document = Document(text)
    assert document.open == []
    plotly, data, ours = 1, len(report.charts), 1
    assert len(document.all("script")) == plotly + data + ours
    assert "<script>fetch" not in text
    assert text.count("</script>") == plotly + data + ours
    assert document.text.count("<script>fetch") > 20
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    assert "fetch(" not in style.group(1)
    assert not [a for a in document.tags if any(name.startswith("on") for name in a[1])]


def test_nothing_in_it_asks_a_network() -> None:
    document = Document(render(full_report()))
    assert not document.all("link")
    assert not [s for s in document.all("script") if "src" in s]
    images = [str(image["src"]) for image in document.all("img")]
    pngs = [source for source in images if source.startswith("data:image/png;base64,")]
    jpegs = [source for source in images if source.startswith("data:image/jpeg;base64,")]
    # Two CT maps; two frames of the echo, of which one has the map beside it.
    assert (len(pngs), len(jpegs), len(images)) == (2, 3, 5)
    for kind, start in ((pngs, b"\x89PNG"), (jpegs, b"\xff\xd8\xff")):
        for source in kind:
            assert base64.b64decode(source.partition(",")[2]).startswith(start)
    policy = next(m for m in document.all("meta") if m.get("http-equiv"))["content"]
    assert str(policy).startswith("default-src 'none'")


def test_plotly_is_in_it_once_and_figures_keep_their_data() -> None:
    report = full_report()
    text = render(report)
    packed = re.findall(r'<script type="application/gzip" id="plotly">(.*?)</script>', text)
    assert [gzip.decompress(base64.b64decode(one)).decode() for one in packed] == [get_plotlyjs()]
    assert len(text) < 3e6
    blocks = re.findall(
        r'<script type="application/json" data-figure="(figure-\d+)">(.*?)</script>', text
    )
    assert [name for name, _ in blocks] == [f"figure-{i + 1}" for i in range(len(report.charts))]
    for (_, block), chart in zip(blocks, report.charts, strict=True):
        assert len(json.loads(block)["data"]) == len(chart.figure.data)
    assert report.charts[0].figure.layout.width is None  # the page's own figure is left alone


def test_it_can_be_read_aloud() -> None:
    document = Document(render(full_report()))
    assert document.all("html")[0]["lang"] == "en"
    assert all(image["alt"] for image in document.all("img"))
    plots = [d for d in document.all("div") if d.get("class") == "plot"]
    assert len(plots) == 3
    assert all(plot["role"] == "img" and plot["aria-label"] for plot in plots)
    assert len(document.all("caption")) == len(document.all("table"))
    assert all(head.get("scope") in ("col", "row") for head in document.all("th"))
    levels = [int(tag[1]) for tag, _ in document.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_methods_say_every_result_given() -> None:
    report = PatientReport(methods=[provenance(events()), provenance(ct_map(scan()))])
    text = Document(render(report)).text
    assert "permutation" in text
    assert "occlusion" in text
    assert "seed 4, budget 4096" in text
