from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest

from analysis.sheets import harmless, spreadsheet_csv

FORMULAS = (
    '=HYPERLINK("http://evil.example","x")',
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "\t=1+1",
    "\r=1+1",
    "  =1+1",
    "\uff1d1+1",
    "-A1",
)
TEXTS = ("+4.2 (+1.1 to +7.4)", "-0.5", "+3", "-1e-05", "-12.5%", "a=b", "–", "", "1-2", "x@y")


@pytest.mark.parametrize("cell", FORMULAS)
def test_a_formula_becomes_text(cell: str) -> None:
    assert harmless(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", [*TEXTS, -0.5, None, np.nan, True])
def test_texts_and_numbers_stay(cell: object) -> None:
    assert harmless(cell) is cell


def test_numbers_come_back_exactly_and_texts_are_harmless() -> None:
    frame = pd.DataFrame(
        {
            "value": [-1 / 3, 2e-300, np.nan],
            "=title": [FORMULAS[0], "plain", None],
            "kind": pd.Categorical(["@a", "b", "@a"]),
        }
    )
    before = frame.copy()
    read = pd.read_csv(io.StringIO(spreadsheet_csv(frame)))
    assert list(read.columns) == ["value", "'=title", "kind"]
    assert np.array_equal(read["value"], frame["value"], equal_nan=True)
    assert read["'=title"].tolist()[:2] == [f"'{FORMULAS[0]}", "plain"]
    assert read["kind"].tolist() == ["'@a", "b", "'@a"]
    pd.testing.assert_frame_equal(frame, before)


def test_two_columns_of_one_name_are_kept() -> None:
    frame = pd.DataFrame([["=1", "b"]], columns=["a", "a"])
    assert spreadsheet_csv(frame) == "a,a\n'=1,b\n"
