"""Who a patient is in a cohort: the source's own id, or a keyed hash of it.

A keyed hash (HMAC-SHA-256, RFC 2104) of an id names the same person in every import made with the
same key, and nobody without the key can find the id by hashing all possible ones. With it all
times of a person are moved back by a number of days of their own, so that dates are no clue
either; intervals stay what they are.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.cohort.schema import CohortError, Pseudonyms

LEAST_KEY_BYTES = 16
_MOST_SHIFT_DAYS = 364
_ID_BITS = 52  # exact in a float64, which tables and browsers count in
DAY_US = 86_400_000_000


def text_id(value: Any) -> str:
    """An id as text: 7, 7.0 and '7' are one id, '007' is another."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


@dataclass(frozen=True)
class Identities:
    """Turns a source's ids into those of the cohort. key: empty keeps them as they are."""

    key: bytes = b""

    @property
    def hidden(self) -> bool:
        """Whether ids are replaced and times moved."""
        return bool(self.key)

    @property
    def pseudonyms(self) -> Pseudonyms | None:
        """What a cohort keeps to recognise the key by: a hash that tells nothing of it."""
        if not self.key:
            return None
        return Pseudonyms(check=self._digest("check", "FusionLens").hex()[:16])

    def name(self, source_id: Any) -> str:
        """The id that the cohort keeps as `source_id`."""
        text = text_id(source_id)
        return self._digest("id", text).hex()[:16] if self.key else text

    def names(self, source_ids: Iterable[Any]) -> list[str]:
        """`name` of each."""
        made: dict[Any, str] = {}
        return [made.setdefault(i, self.name(i)) for i in source_ids]

    def shift_us(self, source_id: Any) -> int:
        """Microseconds to add to this person's times: whole days back, 1 to 364; 0 without key."""
        if not self.key:
            return 0
        number = int.from_bytes(self._digest("shift", text_id(source_id))[:8], "big")
        return -DAY_US * (1 + number % _MOST_SHIFT_DAYS)

    def numbers(self, source_ids: Sequence[Any]) -> npt.NDArray[np.int64]:
        """(N,) int64 subject_id of N distinct source ids.

        Whole numbers stay what they are; other ids are numbered from 1 in alphabetical order.
        With a key: 52 bits of the hash. Raises CohortError where two ids would get one number.
        """
        texts = [text_id(i) for i in source_ids]
        if self.key:
            bits = [
                int.from_bytes(self._digest("id", t)[:8], "big") >> (64 - _ID_BITS) for t in texts
            ]
            found = np.asarray(bits, np.int64)
        elif all(t.isascii() and t.isdigit() and len(t) <= 15 and str(int(t)) == t for t in texts):
            found = np.asarray([int(t) for t in texts], np.int64)
        else:
            order = {text: at for at, text in enumerate(sorted(set(texts)), start=1)}
            found = np.asarray([order[t] for t in texts], np.int64)
        if len(np.unique(found)) != len(found):
            raise CohortError("an id is listed twice; keep one row a patient.")
        return found

    def _digest(self, purpose: str, text: str) -> bytes:
        return hmac.new(self.key, f"{purpose}:{text}".encode(), hashlib.sha256).digest()


def read_key(path: Path | None) -> bytes:
    """The key in a file, or empty without one. Raises CohortError when it is too short."""
    if path is None:
        return b""
    try:
        key = Path(path).read_bytes().strip()
    except OSError as error:
        raise CohortError(
            f"{path}: the key cannot be read ({error.strerror}); make one with "
            "'openssl rand -hex 32' and keep it away from the cohort."
        ) from error
    if len(key) < LEAST_KEY_BYTES:
        raise CohortError(
            f"{path}: a key of {len(key)} bytes can be guessed; make one with "
            "'openssl rand -hex 32'."
        )
    return key
