"""Tables as CSV that a spreadsheet reads as text and numbers, and never runs.

A cell that starts with = + - @, a tab or a return is a formula to a spreadsheet; names and texts
come from files, so one of them may be meant as such (CWE-1236). An apostrophe before it makes it
text. Numbers and texts that are made of numbers ('+4.2 (+1.1 to +7.4)') stay as they are.
"""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

_STARTS = re.compile(r"^\s*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]")
_NUMERIC = re.compile(r"^[+\-]?[\d.,]+(e[+\-]?\d+)?%?( \([+\-\d., to%]+\))?$", re.IGNORECASE)


def spreadsheet_csv(frame: pd.DataFrame) -> str:
    """The table without its index, in full precision, its texts and headings made harmless."""
    safe = frame.copy(deep=False)
    for at, kind in enumerate(frame.dtypes):
        if kind.kind == "O":  # objects, strings and categories
            column = frame.iloc[:, at].astype(object)
            texts = {cell for cell in column if isinstance(cell, str)}
            changed = {text for text in texts if harmless(text) != text}
            if changed:  # a table of a million cells has few different texts
                safe.isetitem(at, column.map(harmless).to_numpy())
    safe.columns = [harmless(name) for name in frame.columns]
    return str(safe.to_csv(index=False, lineterminator="\n"))


def harmless(cell: Any) -> Any:
    """A text that no spreadsheet runs; anything else as it is."""
    if not isinstance(cell, str) or not _STARTS.match(cell) or _NUMERIC.match(cell):
        return cell
    return f"'{cell}"
