"""The codes an event encoder knows, with the scale of their values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from pathlib import Path

PADDING = 0
UNKNOWN = 1
FIRST_CODE = 2


@dataclass(frozen=True)
class Vocabulary:
    """Codes in a fixed order; the id of `codes[i]` is i + 2 (0 pads, 1 is an unknown code).

    value_mean, value_sd: per code, of the numeric values seen in training (0 and 1 where the
    code never carried one), in the code's own unit.
    """

    codes: tuple[str, ...]
    value_mean: tuple[float, ...]
    value_sd: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.codes) == len(self.value_mean) == len(self.value_sd):
            raise ValueError("a vocabulary needs one value_mean and one value_sd for each code")
        if len(set(self.codes)) != len(self.codes):
            raise ValueError("a vocabulary lists a code twice")
        if not all(map(isfinite, self.value_mean)):
            raise ValueError("a vocabulary's value_mean is not finite")
        if not all(isfinite(sd) and sd > 0 for sd in self.value_sd):
            raise ValueError("a vocabulary's value_sd is not positive")

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Code to id."""
        return {code: FIRST_CODE + i for i, code in enumerate(self.codes)}

    @property
    def size(self) -> int:
        """Number of ids, padding and unknown included."""
        return FIRST_CODE + len(self.codes)

    def ids(self, codes: Iterable[str]) -> list[int]:
        """Ids of codes; unknown ones get 1."""
        index = self.index
        return [index.get(code, UNKNOWN) for code in codes]

    def code(self, identifier: int) -> str:
        """The code behind an id."""
        if identifier == UNKNOWN:
            return "(unknown code)"
        return self.codes[identifier - FIRST_CODE]

    def to_json(self) -> str:
        """A JSON text that `from_json` reads back."""
        return json.dumps(
            {"codes": self.codes, "value_mean": self.value_mean, "value_sd": self.value_sd},
            indent=0,
            ensure_ascii=False,
        )

    @classmethod
    def from_json(cls, text: str) -> Vocabulary:
        """Read what `to_json` wrote. Raises ValueError on anything else."""
        content = json.loads(text)
        try:
            return cls(
                tuple(map(str, content["codes"])),
                tuple(map(float, content["value_mean"])),
                tuple(map(float, content["value_sd"])),
            )
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError("a vocabulary holds codes, value_mean and value_sd") from error

    def save(self, path: Path) -> None:
        """Write vocabulary.json."""
        path.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read vocabulary.json."""
        return cls.from_json(path.read_text(encoding="utf-8"))

    @classmethod
    def fit(
        cls,
        counts: Mapping[str, int],
        values: Mapping[str, Sequence[float]],
        *,
        min_patients: int = 1,
    ) -> Vocabulary:
        """Codes seen in at least `min_patients` patients (counts: code -> patients), sorted."""
        codes = tuple(sorted(code for code, n in counts.items() if n >= min_patients))
        means, sds = [], []
        for code in codes:
            seen = values.get(code, ())
            mean = sum(seen) / len(seen) if seen else 0.0
            variance = sum((v - mean) ** 2 for v in seen) / len(seen) if len(seen) > 1 else 0.0
            means.append(mean)
            sds.append(variance**0.5 if variance > 0 else 1.0)
        return cls(codes, tuple(means), tuple(sds))
