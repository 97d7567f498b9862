"""A table row told in sentences: "<column> of the <object> is <value>."

Zhang et al. (TGMM, section 4.2.1), after Hegselmann et al. 2023. A column that was not measured
is not told, so nothing stands for what is missing. Numbers keep their value beside the text: a
number is one token, whatever its digits, and the value travels in `numbers`. A category is one
token as well, however many words name it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, model_validator
from torch import Tensor

PADDING, UNKNOWN, NUMBER = 0, 1, 2
SPECIAL = ("[padding]", "[unknown]", "[number]")
STOP = "."
_SPLIT = re.compile(r"[^\s.,;:?!]+(?:[.,:][^\s.,;:?!]+)*|[.,;:?!]")


class TextColumn(BaseModel):
    """One column of the table as it is told.

    title: what it is called in the sentence (the name where empty). categories: in the order of
    their numbers; a binary column without any is told as "no" and "yes", an ordinal one as its
    number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str = ""
    unit: str = ""
    kind: Literal["continuous", "binary", "ordinal", "nominal"] = "continuous"
    categories: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _is_told(self) -> TextColumn:
        if self.kind == "nominal" and not self.categories:
            raise ValueError(f"column '{self.name}' is nominal: name its categories")
        if self.kind == "continuous" and self.categories:
            raise ValueError(f"column '{self.name}' is continuous: it has no categories")
        if self.kind == "binary" and len(self.categories) not in (0, 2):
            raise ValueError(f"column '{self.name}' is binary: name two categories or none")
        if len(set(self.categories)) != len(self.categories):
            raise ValueError(f"column '{self.name}' has two categories of one name: rename one")
        return self

    @property
    def spoken(self) -> str:
        """What the column is called in its sentence."""
        return self.title or self.name

    @property
    def words_of_value(self) -> tuple[str, ...]:
        """How each category is told; empty for a column told as a number."""
        return ("no", "yes") if self.kind == "binary" and not self.categories else self.categories


@dataclass(frozen=True)
class ToldWord:
    """A word as it is shown. sentence: number of the column it speaks of. is_value: whether it is
    the column's value.
    """

    word: str
    sentence: int
    is_value: bool


class Sentences(BaseModel):
    """How the rows of a table are told, and the fixed vocabulary that this takes.

    object: the word for who the table is about. further_words: words beside those of the
    sentences that the vocabulary is to hold, e.g. of a task's guidance.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: tuple[TextColumn, ...]
    object: str = "patient"
    further_words: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_sentence_a_column(self) -> Sentences:
        names = [column.name for column in self.columns]
        twice = next((name for name in names if names.count(name) > 1), None)
        if not names or twice is not None:
            what = "there are no columns" if not names else f"column '{twice}' is told twice"
            raise ValueError(f"{what}; name every column of the table once")
        return self

    def vocabulary(self) -> tuple[str, ...]:
        """Every word, by its id: special tokens first, then in alphabetical order."""
        words = {word for frame in self._frames for part in frame for word in part}
        words.update(word for column in self.columns for word in column.words_of_value)
        for text in self.further_words:
            words.update(split(text))
        return SPECIAL + tuple(sorted(words - set(SPECIAL)))

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The vocabulary: word n has the id n."""
        return self.vocabulary()

    @cached_property
    def _ids(self) -> Mapping[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    @cached_property
    def _frames(self) -> tuple[tuple[list[str], list[str]], ...]:
        """Of each column's sentence the words before the value and those after it."""
        return tuple(
            (
                split(f"{column.spoken} of the {self.object} is"),
                [*([] if column.words_of_value else split(column.unit)), STOP],
            )
            for column in self.columns
        )

    def ids(self, text: str) -> list[int]:
        """Ids of a text's words; those outside the vocabulary are `UNKNOWN`."""
        return [self._ids.get(word, UNKNOWN) for word in split(text)]

    def encode(self, values: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """The fields of a text input (see `ModalityInput`) of rows of the table.

        values (B, C) float (the category's number for columns with categories), mask (B, C) bool.
        Raises ValueError for a number that is not finite or a category that does not exist.
        """
        if values.ndim != 2 or values.shape[1] != len(self.columns) or mask.shape != values.shape:
            raise ValueError(
                f"the sentences tell {len(self.columns)} columns, got values of shape "
                f"{tuple(values.shape)} and a mask of {tuple(mask.shape)}; give both one column "
                "each, in the same order."
            )
        told = [
            self._row(row, known) for row, known in zip(values.tolist(), mask.tolist(), strict=True)
        ]
        longest = max(1, *(len(row) for row in told)) if told else 1
        fields = {
            "tokens": torch.full((len(told), longest), PADDING, dtype=torch.int64),
            "numbers": torch.zeros(len(told), longest),
            "is_number": torch.zeros(len(told), longest, dtype=torch.bool),
            "sentence": torch.zeros(len(told), longest, dtype=torch.int64),
            "mask": torch.zeros(len(told), longest, dtype=torch.bool),
        }
        for i, row in enumerate(told):
            if row:
                ids, numbers, sentence = zip(*row, strict=True)
                n = len(row)
                fields["tokens"][i, :n] = torch.tensor(ids)
                fields["numbers"][i, :n] = torch.tensor(numbers)
                fields["is_number"][i, :n] = fields["tokens"][i, :n] == NUMBER
                fields["sentence"][i, :n] = torch.tensor(sentence)
                fields["mask"][i, :n] = True
        return fields

    def _row(self, values: list[float], known: list[bool]) -> list[tuple[int, float, int]]:
        told: list[tuple[int, float, int]] = []
        for c, column in enumerate(self.columns):
            if not known[c]:
                continue
            before, after = self._frames[c]
            value = values[c]
            if not math.isfinite(value):
                raise ValueError(
                    f"column '{column.name}' is {value}, which is no number; mark it as missing."
                )
            told += [(self._ids[word], 0.0, c) for word in before]
            if column.words_of_value:
                told.append((self._ids[self._category(column, value)], 0.0, c))
            else:
                told.append((NUMBER, value, c))
            told += [(self._ids[word], 0.0, c) for word in after]
        return told

    def _category(self, column: TextColumn, value: float) -> str:
        n = len(column.words_of_value)
        if value != round(value) or not 0 <= value < n:
            raise ValueError(
                f"column '{column.name}' is {value:g}, but its categories are numbered 0 to "
                f"{n - 1}; correct the value or name the category."
            )
        return column.words_of_value[round(value)]

    def decode(self, fields: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The rows that were told: values (B, C) and mask (B, C), as given to `encode`.

        Differentiable in `numbers`.
        """
        sentence, told = fields["sentence"], self.is_value(fields)
        category = self._category_table.to(sentence.device)[sentence, fields["tokens"]]
        value = torch.where(fields["is_number"], fields["numbers"], category)
        zeros = value.new_zeros(len(value), len(self.columns))
        # Every column has one value token at most, so the sums are the values themselves.
        values = zeros.scatter_add(1, sentence, torch.where(told, value, 0.0))
        return values, zeros.scatter_add(1, sentence, told.float()) > 0

    @cached_property
    def _category_table(self) -> Tensor:
        """(C, V) float32 number of the category that a word names in a column, else 0."""
        table = torch.zeros(len(self.columns), len(self.words))
        for c, column in enumerate(self.columns):
            for number, word in enumerate(column.words_of_value):
                table[c, self._ids[word]] = number
        return table

    @cached_property
    def _before(self) -> Tensor:
        return torch.tensor([len(before) for before, _ in self._frames])

    def is_value(self, fields: Mapping[str, Tensor]) -> Tensor:
        """(B, N) bool: the token of each sentence that is the column's value."""
        sentence, mask = fields["sentence"], fields["mask"]
        at = torch.arange(mask.shape[1], device=mask.device).expand_as(sentence)
        starts = torch.ones_like(mask)
        starts[:, 1:] = sentence[:, 1:] != sentence[:, :-1]
        place = at - torch.where(starts, at, 0).cummax(dim=1).values
        return mask & (place == self._before.to(mask.device)[sentence])

    def text(self, fields: Mapping[str, Tensor], row: int = 0) -> list[ToldWord]:
        """The tokens of one patient as words to be shown: entry n is token n."""
        n = int(fields["mask"][row].sum())
        values = self.is_value(fields)[row, :n].tolist()
        shown = []
        for i in range(n):
            token, is_number = int(fields["tokens"][row, i]), bool(fields["is_number"][row, i])
            word = (
                spoken_number(float(fields["numbers"][row, i])) if is_number else self.words[token]
            )
            shown.append(ToldWord(word, int(fields["sentence"][row, i]), values[i]))
        return shown

    def spans(self, fields: Mapping[str, Tensor], row: int = 0) -> dict[str, slice]:
        """{column: its tokens} of one patient, for the columns that were told."""
        spans: dict[str, slice] = {}
        for i, told in enumerate(self.text(fields, row)):
            name = self.columns[told.sentence].name
            spans[name] = slice(spans[name].start if name in spans else i, i + 1)
        return spans


def spoken_number(value: float) -> str:
    """A number as it is told: four digits, or all those before the decimal point."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def split(text: str) -> list[str]:
    """Words of a text in order; a mark at a word's end is a word of its own."""
    return _SPLIT.findall(text)


def joined(words: list[str]) -> str:
    """Words as running text."""
    return re.sub(r" ([.,;:?!])", r"\1", " ".join(words))
