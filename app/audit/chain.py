"""Rows chained by their hashes, and how a chain is checked.

A row's hash is SHA-256 over the canonical JSON (sorted keys, no spaces, ASCII) of all its other
fields, its number and the hash of the row before among them; the first row follows 64 zeros. So a
row that is changed, removed, inserted or moved breaks the chain there. Without a key, somebody who
may write the database can compute every later hash anew; with one it is HMAC-SHA-256 (RFC 2104),
and they cannot. The last rows can be cut off unseen either way: note a head (`SEQ:HASH`) elsewhere.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HASHED = (
    "seq",
    "at",
    "account",
    "role",
    "action",
    "page",
    "part",
    "workspace",
    "cohort",
    "task",
    "subject",
    "run",
    "detail",
    "session",
    "previous",
)
START = "0" * 64
MOST_FINDINGS = 20
_HEAD = re.compile(r"^(\d{1,15}):([0-9a-f]{64})$")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Head:
    """The last row: its number (0 for an empty log) and hash."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """From 'SEQ:HASH'. Raises ValueError."""
        found = _HEAD.match(text.strip().lower())
        if found is None:
            raise ValueError(
                f"'{text[:80]}' is no head of an audit log: write SEQ:HASH as 'fusionlens audit "
                "head' prints it, a number and 64 hexadecimal digits."
            )
        return cls(int(found.group(1)), found.group(2))


EMPTY = Head(0, START)


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    rows: how many were read. findings: the first MOST_FINDINGS sentences, in the order of the
    rows; n_findings: all of them.
    """

    rows: int
    head: Head
    findings: Sequence[str]
    n_findings: int

    @property
    def intact(self) -> bool:
        """Whether nothing was found."""
        return self.n_findings == 0


def digest(row: Row, key: bytes | None = None) -> str:
    """The hash of a row, 64 hexadecimal digits."""
    content = {name: row[name] for name in HASHED}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=repr).encode()
    if key is None:
        return hashlib.sha256(text).hexdigest()
    return hmac.new(key, text, hashlib.sha256).hexdigest()


def verify(rows: Iterable[Row], key: bytes | None = None, expect: Head | None = None) -> Verdict:
    """Check rows in the order of their numbers. expect: a head noted earlier."""
    found: list[str] = []
    n, count, last = 0, 0, EMPTY
    for row in rows:
        n += 1
        told = list(_told(row, last, key, expect))
        count += len(told)
        found += told[: MOST_FINDINGS - len(found)]
        last = Head(int(row["seq"]), str(row["hash"]))
    if expect is not None and expect.seq > last.seq:
        count += 1
        end = f"ends with row {last.seq:,}" if n else "is empty"
        missing = f"row {expect.seq:,} was expected"
        found.append(f"the log {end}, but {missing}: its end was cut off.")
    return Verdict(n, last, tuple(found), count)


def _told(row: Row, last: Head, key: bytes | None, expect: Head | None) -> Iterable[str]:
    seq = int(row["seq"])
    if seq > last.seq + 1:
        first, end = last.seq + 1, seq - 1
        yield (
            f"row {first:,} is missing."
            if first == end
            else (f"rows {first:,} to {end:,} are missing.")
        )
    elif seq <= last.seq:
        yield f"row {seq:,} comes after row {last.seq:,}."
    elif row["previous"] != last.hash:
        yield (
            f"row {seq:,} does not follow row {seq - 1:,} as that row is now: one of them was "
            "changed."
            if last.seq
            else "row 1 does not start the log: what came before it was removed."
        )
    if not hmac.compare_digest(digest(row, key), str(row["hash"])):
        yield f"row {seq:,} does not have the hash of its contents: it was changed."
    if expect is not None and expect.seq == seq and expect.hash != row["hash"]:
        yield f"row {seq:,} has another hash than expected: it or a row before it was rewritten."
