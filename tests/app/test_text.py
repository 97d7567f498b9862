from __future__ import annotations

import re

import pytest

from app.figures import text
from app.panels.verdict import verdict


def test_numbers_have_real_minus_signs() -> None:
    assert text.number(-0.1234) == "−0.123"
    assert text.number(-0.0001) == "0.000"
    assert text.signed(4.21) == "+4.2"
    assert text.signed(-0.01) == "0.0"
    assert text.number(None) == text.number(float("nan")) == "–"
    assert text.interval({"value": 0.781, "low": 0.742, "high": 0.818}) == "0.781 (0.742 to 0.818)"
    assert text.interval({"value": None, "low": None, "high": None}) == "–"


def test_small_p_values_are_not_zero() -> None:
    assert text.p_value(0.00002) == "< 0.001"
    assert text.p_phrase(0.0121) == "p = 0.012"


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "*a* _b_ `c` [d](e) #f $g$ :red[h] ~i~ |j|"]
)
def test_markdown_is_escaped(name: str) -> None:
    escaped = text.markdown(name)
    assert escaped.replace("\\", "").replace("\u2060", "") == name
    for mark in "*_`[]()#$<>~|":
        assert escaped.count(f"\\{mark}") == name.count(mark)


@pytest.mark.parametrize(
    "name", ["https://evil.example/x", "HTTP://a.b", "WWW.evil.example", "anna@hospital.example"]
)
def test_addresses_are_no_links(name: str) -> None:
    shown = text.markdown(name).replace("\\", "")
    assert shown.replace("\u2060", "") == name
    assert not re.search(r"(?i)https?://|www\.|@[\w-]", shown)


def test_icon_names_stay_words() -> None:
    assert ":smile:" not in text.markdown(":smile:").replace("\\", "")


def _row(run: str, strategy: str, c: float) -> dict[str, object]:
    interval = {"value": c, "low": c - 0.04, "high": c + 0.04}
    return {"run": run, "title": run.title(), "strategy": strategy, "c_index": interval}


def _evaluation(gap: tuple[float, float, float], p: float, holm: float) -> dict[str, object]:
    value, low, high = gap
    return {
        "split": "internal",
        "undefined": None,
        "runs": [_row("ehr", "unimodal", 0.7), _row("fusion", "late", 0.7 + value)],
        "differences": [
            {
                "first": "fusion",
                "second": "ehr",
                "difference": {"value": value, "low": low, "high": high},
                "p": p,
                "p_holm": holm,
            }
        ],
    }


def test_verdict_names_a_real_gain() -> None:
    sentence = verdict(_evaluation((0.042, 0.011, 0.074), 0.004, 0.012))
    assert sentence == (
        "Fusion has the highest internal C, 0.742 (0.702 to 0.782); it beats the best single "
        "modality, Ehr, by 4.2 points (+1.1 to +7.4, Holm p = 0.012)."
    )


def test_verdict_does_not_praise_chance() -> None:
    assert "within chance" in verdict(_evaluation((0.01, -0.02, 0.04), 0.5, 0.5))
    assert "does not stand" in verdict(_evaluation((0.03, 0.001, 0.06), 0.04, 0.2))
    assert "beats" not in verdict(_evaluation((0.03, 0.001, 0.06), 0.04, 0.2))


def test_verdict_says_when_no_fusion_leads() -> None:
    sentence = verdict(_evaluation((-0.02, -0.05, 0.01), 0.3, 0.3))
    assert "no fusion strategy is above" in sentence
    assert "the closest is Fusion, 0.680" in sentence


def test_verdict_gives_the_reason_when_undefined() -> None:
    evaluation = _evaluation((0.0, 0.0, 0.0), 1, 1)
    for row in evaluation["runs"]:
        row["c_index"] = {"value": None, "low": None, "high": None}
    evaluation["undefined"] = "None of the 5 patients had the event."
    assert verdict(evaluation) == "None of the 5 patients had the event."
