"""Lies in files of text: YAML, JSON, CSV, and the headers of WFDB."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import yaml

from tests.fuzz.mutate import Mutation

_ODD_TEXTS = (
    "",
    " ",
    "\0",
    "a\nb",
    "../../x",
    "/etc/passwd",
    "x" * 100_000,
    "\x1b[31mred",
    "\u202eevil",
    "NaN",
    "-1",
    "1e400",
    "%s%n{0}",
    "<script>",
    "[x](y)",
    "é\ud7ff",
)
_ODD_NUMBERS = (
    *(0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 10**400),
    *(float("nan"), float("inf"), -float("inf"), 1e308, 1e-320, 0.5),
)


def odd_value(rng: Random) -> Any:
    """A value that is seldom what a field wants."""
    kind = rng.randrange(8)
    if kind < 3:
        return rng.choice(_ODD_NUMBERS)
    if kind < 5:
        return rng.choice(_ODD_TEXTS)
    return rng.choice((None, True, [], {}, [[]], [None] * 1000, {"a": {"b": [1]}}, ["x"], [1.5, 2]))


_MOST_SPOTS = 2000


def _spots(content: Any) -> list[tuple[Any, ...]]:
    """Paths to entries, the shallow ones first; not all where aliases unfold without end."""
    found: list[tuple[Any, ...]] = []
    waiting: list[tuple[tuple[Any, ...], Any]] = [((), content)]
    for path, value in waiting:
        inner: Any = ()
        if isinstance(value, dict):
            inner = list(value.items())
        elif isinstance(value, list):
            inner = enumerate(value[:50])
        for key, below in inner:
            found.append((*path, key))
            waiting.append(((*path, key), below))
        if len(found) > _MOST_SPOTS:
            break
    return found


def change_tree(rng: Random, content: Any) -> Any:
    """Plain content with one entry replaced, dropped, renamed, doubled or moved."""
    spots = _spots(content)
    if not spots:
        return odd_value(rng)
    # Deep entries outnumber the shallow ones by far, so a depth is drawn first.
    depth = rng.choice(sorted({len(spot) for spot in spots}))
    *above, last = rng.choice([spot for spot in spots if len(spot) == depth])
    at = content
    for step in above:
        at = at[step]
    how = rng.randrange(6)
    if how < 3:
        at[last] = odd_value(rng)
    elif how == 3:
        del at[last]
    elif isinstance(at, dict) and how == 4:
        at[rng.choice(_ODD_TEXTS)] = at.pop(last)
    elif isinstance(at, list):
        at.extend(at[:1] * rng.choice((1, 2, 1000)))
    else:
        at[rng.choice(list(at))] = at[last]
    return content


def _tree(load: Callable[[str], Any], dump: Callable[[Any], str]) -> Mutation:
    def tree(rng: Random, data: bytes, other: bytes) -> bytes:
        content = load(data.decode("utf-8"))
        for _ in range(rng.choice((1, 1, 2, 4))):
            content = change_tree(rng, content)
        return dump(content).encode("utf-8", "surrogatepass")

    return tree


def _written(*texts: str | bytes) -> Mutation:
    whole = tuple(text.encode() if isinstance(text, str) else text for text in texts)

    def hostile(rng: Random, data: bytes, other: bytes) -> bytes:
        return rng.choice(whole)

    return hostile


def _around(*pairs: tuple[bytes, bytes]) -> Mutation:
    def wrapped(rng: Random, data: bytes, other: bytes) -> bytes:
        before, after = rng.choice(pairs)
        return before + data + after

    return wrapped


def in_lines(rng: Random, data: bytes, other: bytes) -> bytes:
    """Lines dropped, doubled, swapped, or with a field replaced."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    how = rng.randrange(5)
    if how == 0:
        del lines[at]
    elif how == 1:
        lines[at:at] = [lines[at]] * rng.choice((1, 1, 5000))
    elif how == 2:
        lines.insert(rng.randrange(len(lines)), lines.pop(at))
    else:
        parts = lines[at].replace(b",", b" , ").replace(b":", b" : ").split(b" ")
        odd = odd_value(rng)
        shown = odd if isinstance(odd, str) else str(odd)[:50_000]
        parts[rng.randrange(len(parts))] = shown.encode("utf-8", "surrogatepass")
        lines[at] = b" ".join(parts).replace(b" , ", b",").replace(b" : ", b":")
    return b"\n".join(lines)


_LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n"
    for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)
_ENCODINGS = ((b"\xef\xbb\xbf", b""), (b"\xff\xfe", b""), (b"", b"\0"), (b"\xff\xff", b"\xc3"))


def in_another_encoding(rng: Random, data: bytes, other: bytes) -> bytes:
    return data.decode("utf-8", "replace").encode(rng.choice(("utf-16", "utf-32", "utf-16-be")))


YAML: tuple[Mutation, ...] = (
    *(_tree(yaml.safe_load, lambda c: yaml.safe_dump(c, sort_keys=False)), in_lines) * 3,
    in_another_encoding,
    _around((_LAUGHS.encode(), b""), (b"", b"\n" + _LAUGHS.encode()), *_ENCODINGS),
    _around((b"", b"\nx: &x [*x]\n"), (b"&r ", b"\nz: *r\n"), (b"", b"\n<<: {a: 1}\n")),
    _written(
        _LAUGHS,
        "[" * 50_000,
        "{a: " * 20_000,
        "- " * 20_000,
        "a: !!python/object/apply:os.system ['true']",
        "!!python/name:os.system",
        f"schema_version: {'9' * 6000}",
        f"schema_version: 0x{'f' * 6000}",
        "schema_version: 1:" + "59:" * 3000 + "59",
        "? [a, b]\n: c",
        "a: 1\na: 2\n",
        "---\na: 1\n---\nb: 2\n",
        "a: 2020-99-99",
        "!!timestamp x",
        "!!binary '=='",
        "!!float x",
        "%YAML 9.9\n---\na: 1",
        "name: |" + "\n  x" * 50_000,
        "null",
        "1",
        "[]",
    ),
)
JSON: tuple[Mutation, ...] = (
    *(_tree(json.loads, json.dumps), in_lines) * 3,
    in_another_encoding,
    _around(*_ENCODINGS, (b"[", b"]"), (b'{"a": 1, "a": ', b"}")),
    _written(
        "[" * 100_000,
        '{"a":' * 100_000,
        "[" * 100_000 + "]" * 100_000,
        "NaN",
        "-Infinity",
        "1e999",
        "9" * 10_000,
        '{"a": ' + "9" * 10_000 + "}",
        '"\\ud800"',
        '{"schema_version": 1, "schema_version": 2}',
        "null",
        "[]",
        "{}",
        '{"predictions": null}',
        '{"weight_map": {"a": "../x"}}',
    ),
)


def in_cells(rng: Random, data: bytes, other: bytes) -> bytes:
    """Cells replaced, columns dropped, doubled and renamed, rows made ragged."""
    rows = [line.split(b",") for line in data.rstrip(b"\n").split(b"\n")]
    row = rows[rng.randrange(len(rows))]
    at = rng.randrange(len(rows[0]))
    how = rng.randrange(7)
    if how == 0:
        rows = [[c for i, c in enumerate(r) if i != at] for r in rows]
    elif how == 1:
        rows = [[*r, *r[at : at + 1]] for r in rows]
    elif how == 2:
        row.extend([b"9"] * rng.choice((1, 10_000)))
    elif how == 3:
        rows[0][at] = str(odd_value(rng))[:9999].encode("utf-8", "surrogatepass")
    else:
        odd = str(odd_value(rng))[:50_000].encode("utf-8", "surrogatepass")
        for chosen in rows[1:] if how == 4 else [row]:
            chosen[min(at, len(chosen) - 1)] = odd
    return b"\n".join(b",".join(r) for r in rows) + b"\n"


CSV: tuple[Mutation, ...] = (
    *(in_cells, in_cells, in_cells, in_lines),
    in_another_encoding,
    _around(*_ENCODINGS, (b'"', b""), (b"", b'"'), (b"\r\r\n", b""), (b"# x\n", b"\r")),
    lambda rng, data, other: data.replace(b"\n", rng.choice((b"\r", b"\r\n", b"\n\n", b"\0"))),
    lambda rng, data, other: data.replace(b",", rng.choice((b";", b"\t", b",,", b'","'))),
    _written(
        b",".join(b"c%d" % i for i in range(300_000)),
        b"subject_id," * 200_000,
        b"subject_id,risk\n" + b'1,"' + b"x" * 1_000_000,
        b"subject_id,risk\n" + b"\xff\xfe\n" * 1000,
        b"subject_id\n",
        b"\n\n\n",
        b"subject_id,risk\n9223372036854775808,1\n",
        b"subject_id,risk\n1," + b"9" * 100_000 + b"\n",
    ),
)


def in_fields(rng: Random, data: bytes, other: bytes) -> bytes:
    """Fields of a WFDB header: numbers, formats, gains and file names."""
    lines = data.decode("latin-1").split("\n")
    at = 0 if rng.random() < 0.4 else rng.randrange(len(lines))
    parts = lines[at].split(" ")
    where = rng.randrange(len(parts))
    parts[where] = rng.choice(
        (
            *("0", "-1", "1", "2", "12", "999999999", "99999999999999999999", "1e9", "NaN", "inf"),
            *("", "x", "0/mV", "NaN(0)/mV", "200(99999999999)/mV", "1e-320/mV", "200/V", "/mV"),
            *("16", "212", "80", "160", "24", "32", "8", "61", "310", "311", "508", "516", "524"),
            *("16x9999999", "16:99999999", "16+9999999999", "16x0", "16+-4", "7", "16x2:3+4"),
            *("../x.dat", "/etc/passwd", "~", "no.dat", "100.hea", "a/b.dat", "\0.dat", "."),
            *("500/1000", "500/0(9)", "500(NaN)", "1e308", "1e-320", "-500", "25:61:61", "/2"),
            *("I", "II", "V1", "é", "lead\x1b[1m", "x" * 20_000, "#", "-2147483648"),
        )
    )
    lines[at] = " ".join(parts)
    return "\n".join(lines).encode("latin-1", "replace")


def many_signals(rng: Random, data: bytes, other: bytes) -> bytes:
    lines = data.decode("latin-1").split("\n")
    n = rng.choice((100, 5000))
    return "\n".join([f"r {n} 500 8", *lines[1:2] * n]).encode("latin-1", "replace")


WFDB: tuple[Mutation, ...] = (
    *(in_fields, in_fields, in_fields, in_lines, many_signals),
    _around((b"#" * 1000 + b"\n", b""), (b"\n\n", b""), (b"", b"\n# <age>: x\n"), *_ENCODINGS),
    _written(
        "r/3 12 500 24\nr 8\nr 8\nr 8\n",
        "r/999999999 12 500 5000\n",
        "r/2 1 500 16\n~ 8\nno 8\n",
        "r/2 1 500 0\nr_layout 0\n~ 8\n",
        "r 1 500 999999999999\nr.dat 16 200/mV 16 0 0 0 0 I\n",
        "r 0 500 0\n",
        "r 1\nr.dat 16\n",
        "r 999999999 500 8\n",
        "r.x 1 500 8\nr.dat 16 200/mV 16 0 0 0 0 I\n",
        "r" + " 1" * 100_000,
        "r 1 500 8\nr.dat" + " 16" * 50_000,
    ),
)
