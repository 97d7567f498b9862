"""Whatever a file holds, its reader gives a result or one sentence, in bounds, and leaves nothing.

The short run is part of the suite; `-m slow` runs thousands. A failure names the reader and the
number of the case, and the command that runs it again.
"""

from __future__ import annotations

from collections import Counter

import pytest

from models.refusal import LONGEST, sentence
from tests.fuzz.cage import outcomes, unlike_a_sentence
from tests.fuzz.cases import Case, damaged, drawn, sound, written
from tests.fuzz.readers import READERS
from tests.fuzz.sins import PLANTED, SINS, SinfulCage

SHORT, FULL = 250, 5000


def _failures(total: int, first: int) -> list[str]:
    cases = drawn(total, first)
    found = list(outcomes(cases))
    assert len(found) == len(cases) >= 0.95 * total
    assert {o.case.reader for o in found} == set(READERS)
    refused = Counter(o.case.reader for o in found if o.said)
    # A generator that damages nothing would find nothing.
    assert sum(refused.values()) > 0.4 * sum(bool(READERS[o.case.reader].refuses) for o in found)
    return [str(o) for o in found if o.wrong]


def test_readers_withstand_damaged_files():
    failures = _failures(SHORT, 0)
    assert not failures, "\n".join(failures)


@pytest.mark.slow
def test_readers_withstand_thousands_of_damaged_files():
    failures = _failures(FULL, 1000)
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("name", READERS)
def test_sound_files_are_read(name, tmp_path):
    """Else every refusal would count as a success."""
    for at in range(len(READERS[name].seeds)):
        folder = tmp_path / str(at)
        folder.mkdir()
        written(sound(name, at), folder)
        READERS[name].read(folder)


def test_a_case_is_its_number():
    for name in READERS:
        assert damaged(Case(name, 3)) == damaged(Case(name, 3))
    assert damaged(Case("nifti", 1)) != damaged(Case("nifti", 2))


# ---------------------------------------------------------------- the cage finds what is planted


@pytest.mark.parametrize("name", SINS)
def test_the_cage_notices(name):
    with SinfulCage(name) as cage:
        wrong = cage.outcome(Case(PLANTED, 1)).wrong
    assert SINS[name][1] in wrong
    assert bool(wrong) == bool(SINS[name][1])


# ---------------------------------------------------------------- sentences


@pytest.mark.parametrize(
    "text",
    ["a: b\nc", "x" * 5000, " ".join(["word"] * 2000), "a\x00b\x1b[1m", "", "no end", "a\u2028b"],
)
def test_any_text_becomes_one_sentence(text):
    said = sentence(f"/a/file.csv: {text}; mend it.")
    assert not unlike_a_sentence(said)
    assert said.startswith("/a/file.csv: ")
    assert said.endswith("; mend it.")
    assert len(said) <= LONGEST + 3


def test_an_ordinary_sentence_stays():
    text = "/a/b c.csv: column 'x' is missing (found: a, b); add or rename it."
    assert sentence(text) == text
