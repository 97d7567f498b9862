"""What the cardiac sections of the patient page say of a result, without a browser."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from analysis.attribution.case import Subject
from analysis.attribution.result import Attribution
from analysis.attribution.signal import SignalMap, segment_shares
from analysis.attribution.video import VideoMap
from app.figures.shares import Direction
from app.panels.echo_cine import Cine
from app.panels.patient_ecg import lead_map, wave_table
from app.panels.patient_echo import cine_map

SUBJECT = Subject("run", "0" * 8, "0" * 8, 1)
LOGIT = {"title": "logit of heart failure", "unit": "logit", "worse_is_higher": None}
LOG_RISK = {"title": "log-risk", "unit": "log hazard ratio", "worse_is_higher": True}


# ---------------------------------------------------------------- ECG


def signal_map(signed: bool = False) -> SignalMap:
    """Two leads, ten steps of 0.1 s; by hand 8 in the QRS (0.2 to 0.4 s), 2 between the waves."""
    values = np.zeros((2, 10), np.float32)
    values[0, 2], values[0, 3], values[1, 2] = 3, 1, 4
    values[1, 8] = -2 if signed else 2
    return SignalMap(
        subject=SUBJECT,
        modality="ecg",
        method="integrated_gradients" if signed else "gradcam",
        layer=None if signed else "merge",
        target=LOGIT,
        leads=("I", "II"),
        values=values,
        step_s=0.1,
        signed=signed,
        whole=1.0,
    )


WAVES = pd.DataFrame(
    {
        "beat": [0, 0, 1],
        "segment": ["QRS", "T", "P"],
        "start_s": [0.2, 0.5, 0.9],
        "end_s": [0.4, 0.7, 0.9],
    }
)


def test_waves_are_told_by_share_time_and_weight() -> None:
    table = wave_table(segment_shares(signal_map(), WAVES), signed=False).set_index("Wave")
    assert table.columns.tolist() == ["Share of the map", "Share of time", "Weight"]
    assert table.loc["QRS"].tolist() == ["80%", "20%", "4.0"]
    assert table.loc["T"].tolist() == ["0%", "20%", "0.0"]
    assert table.loc["between waves"].tolist() == ["20%", "60%", "0.3"]
    # A wave that takes no time has no weight, not an infinite one.
    assert table.loc["P"].tolist() == ["0%", "0%", "–"]


def test_signed_maps_have_a_sum_with_a_real_minus() -> None:
    table = wave_table(segment_shares(signal_map(signed=True), WAVES), signed=True)
    sums = table.set_index("Wave")["Sum"]
    assert (sums["QRS"], sums["between waves"]) == ("8.000", "−2.000")
    # Shares are of |values|: what lowers the number counts as well.
    assert table.set_index("Wave").loc["between waves", "Share of the map"] == "20%"


@pytest.mark.parametrize("signed", [False, True])
def test_a_map_for_the_paper_keeps_its_cells_and_says_what_it_explains(signed: bool) -> None:
    found = signal_map(signed)
    drawn = lead_map("TGMM", found)
    assert drawn.values is found.values
    assert (drawn.start_s, drawn.step_s, drawn.leads) == (0.0, 0.1, ("I", "II"))
    assert drawn.note == "explains logit of heart failure"
    name = "Integrated gradients" if signed else "Grad-CAM"
    assert drawn.title == f"{name}: TGMM"
    assert drawn.ends == (("lowers it", "raises it") if signed else ("nothing", "raises it most"))


# ---------------------------------------------------------------- echo


def test_a_map_lies_on_the_centred_square_of_the_loops() -> None:
    """A picture of 60 x 80: the square is its middle 60 columns, 10 to 70."""
    frames = np.zeros((20, 60, 80, 3), np.uint8)
    cines = [
        Cine("A2C", "Apical two-chamber"),
        Cine("A4C", "Apical four-chamber", frames, [33.0 * i for i in range(20)], 0.5),
    ]
    found = VideoMap(
        subject=SUBJECT,
        modality="echo",
        method="gradcam",
        layer="merge",
        target=LOGIT,
        views=("A4C",),
        values=np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4),
        frames=4,
        stride=2,
        whole=0.0,
    )
    drawn = cine_map("TGMM", found, cines)
    assert drawn.box == pytest.approx((10 / 80, 0.0, 70 / 80, 1.0))
    assert drawn.stride == 8  # frames of the file that one cell covers
    assert set(drawn.values) == {"A4C"}
    np.testing.assert_array_equal(drawn.values["A4C"], found.values[0])
    assert drawn.title == "Grad-CAM: TGMM"


# ---------------------------------------------------------------- labs as sentences

HOSTILE = '<img src=x onerror="alert(1)">&'


def told(target: dict[str, Any] = LOGIT) -> Attribution:
    """Two sentences of which one names a category that would be HTML."""
    words = ["BNP", "is", "900", "pg/mL", ".", "Rhythm", "is", HOSTILE, "."]
    sentence = [0, 0, 0, 0, 0, 1, 1, 1, 1]
    values = np.array([0.0, 0.1, 0.4, 0.0, 0.0, -0.2, 0.0, 0.05, 0.0])
    parts = pd.DataFrame(
        {
            "token": range(len(words)),
            "word": words,
            "is_value": [w in ("900", HOSTILE) for w in words],
            "sentence": sentence,
            "name": ["bnp" if s == 0 else "rhythm" for s in sentence],
            "title": ["BNP" if s == 0 else "Rhythm" for s in sentence],
            "value": None,
            "unit": "",
        }
    )
    return Attribution(
        subject=SUBJECT,
        modality="labs",
        kind="text",
        method="permutation",
        target=target,
        parts=parts,
        values=values[:, None],
        whole=np.array([values.sum()]),
        reference=np.array([0.0]),
    )


def _page(found: object) -> None:
    from app.panels import patient_text

    patient_text.show(found)  # type: ignore[arg-type]


def written(found: Attribution) -> str:
    """The HTML that the panel gives to the browser."""
    test = AppTest.from_function(_page, args=(found,), default_timeout=60).run()
    assert not test.exception
    (element,) = [e for e in test.main if e.type == "html"]
    return str(element.proto.body)


def spans(page: str) -> list[tuple[str, float, str, str]]:
    """(class, depth, title, word) of every word of the text."""
    text = page.split('<div class="told" role="text">')[1]
    found = re.findall(
        r'<span class="(word[^"]*)" style="background: rgba\(\d+, \d+, \d+, ([\d.]+)\)" '
        r'title="([^"]*)">([^<]*)</span>',
        text,
    )
    return [(kind, float(depth), title, word) for kind, depth, title, word in found]


def test_words_from_files_are_text_and_no_html() -> None:
    page = written(told())
    assert "<img" not in page
    assert "&lt;img src=x onerror=&quot;alert(1)&quot;&gt;&amp;" in page
    assert len(spans(page)) == len(told().parts)


def test_the_target_of_a_result_is_text_as_well() -> None:
    page = written(told({**LOGIT, "title": 'logit of <b onclick="x">failure</b>'}))
    assert "<b" not in page
    assert "&lt;b onclick=&quot;x&quot;&gt;failure" in page


def test_the_deeper_the_colour_the_larger_the_share() -> None:
    found = told()
    shown = spans(written(found))
    shares = found.values[:, 0]
    for (kind, depth, title, word), share, part in zip(
        shown, shares, found.parts.itertuples(), strict=True
    ):
        assert depth == pytest.approx(0.6 * abs(share) / 0.4, abs=6e-4)
        assert ("value" in kind) == part.is_value
        if part.word != HOSTILE:
            assert word == part.word
        direction = Direction.of(found.target)
        assert title == f"{direction.words(share)}: {direction.share(share)}"
    assert shown[2][1] == 0.6
    assert shown[5][2] == "lowers the logit of heart failure: −0.20"


def test_marks_close_up_and_sentences_stay_together() -> None:
    page = written(told())
    first, second = re.findall(r'<span class="sentence">(.*?</span>)</span>', page)
    assert re.sub(r"<[^>]+>", "", first).strip() == "BNP is 900 pg/mL."
    assert re.sub(r"<[^>]+>", "", second).strip().startswith("Rhythm is &lt;img")


def test_what_is_worse_has_the_colour_of_worse() -> None:
    """In both targets the value 900 raises the number; only a risk is worse for it."""
    colour = re.compile(r"rgba\((\d+, \d+, \d+), 0\.600\)\" title=\"raises")
    (risk,) = colour.findall(written(told(LOG_RISK)).split('role="text"')[1])
    rgb = tuple(int(n) for n in risk.split(", "))
    assert "#{:02X}{:02X}{:02X}".format(*rgb) == Direction.of(LOG_RISK).raising.upper()


def test_shares_of_nothing_are_not_coloured() -> None:
    found = told()
    empty = Attribution(**{**vars(found), "values": np.zeros_like(found.values)})
    assert {depth for _, depth, _, _ in spans(written(empty))} == {0.0}
