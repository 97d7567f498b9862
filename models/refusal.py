"""Errors that are read by a user: one sentence, whatever a damaged file puts into it."""

from __future__ import annotations

LONGEST_WORD = 200
LONGEST = 900
_ENDS = (".", "!", "?", ")", "…")


class RefusalError(ValueError):
    """A file or setting cannot be used; the message says what, where and the remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(sentence(message))


def sentence(text: str) -> str:
    """The text on one line and printable; what is too long for a sentence is cut within.

    Names and values out of a file can be of any length and hold control characters. The beginning
    (what and where) and the end (the remedy) are kept. Paths are never cut as words.
    """
    words = "".join(c if c.isprintable() else " " for c in text).split(" ")
    line = " ".join(_short(word) for word in words if word or len(words) < 2).strip()
    if len(line) > LONGEST:
        line = f"{line[: LONGEST * 2 // 3]} … {line[-LONGEST // 3 :]}"
    return line if line.endswith(_ENDS) else f"{line}."


def _short(word: str) -> str:
    if len(word) <= LONGEST_WORD or "/" in word:
        return word
    return f"{word[: LONGEST_WORD // 2]}…{word[-LONGEST_WORD // 4 :]}"
