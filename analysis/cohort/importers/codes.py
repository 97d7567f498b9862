"""Codes by pattern, as study.yaml names them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from analysis.cohort.readers.events import EventTable


class CodeSet:
    """Codes by pattern: `*` stands for anything, everything else for itself."""

    def __init__(self, patterns: Sequence[str]) -> None:
        parts = (".*".join(map(re.escape, pattern.split("*"))) for pattern in patterns)
        self._pattern = re.compile("|".join(f"(?:{part})" for part in parts), re.DOTALL)

    def of(self, codes: Sequence[str]) -> npt.NDArray[np.bool_]:
        """(C,) bool: which of the codes belong to the set."""
        return np.asarray([self._pattern.fullmatch(code) is not None for code in codes], bool)

    def rows(self, table: EventTable) -> npt.NDArray[np.bool_]:
        """(E,) bool: events of a code of the set."""
        if not len(table):
            return np.zeros(0, bool)
        return np.asarray(self.of(table.codes)[table.code_index], bool)
