"""The value function behind every Shapley attribution: the model without some parts of a modality.

A part that is left out is removed, not blanked: its event is dropped from the sequence, its
column is missing, its instance or region is not among the tokens. The modality is encoded again
by the run's own encoder and fused with the other modalities, which were encoded once. When no
part is left the modality is absent as the model knows absence, never present and empty.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from math import factorial
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from analysis.attribution.case import AttributionError, Case
from analysis.attribution.target import Target
from models.contracts import CodeVocabulary, Encoded, Kind, ModalityInput, VoxelGrid
from models.encoders.base import SummaryOfTokens
from models.fusion.attention import without_maps

Contexts = Literal["given", "ledger"]
Masks = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

# Tokens of all modalities in one batch, and its rows: measured to be fastest on two cores; larger
# batches leave the cache.
BATCH_TOKENS = 10240
MAX_ROWS = 256


@dataclass(frozen=True)
class Context:
    """A set of other modalities that are there while the parts come and go, and its weight."""

    others: tuple[str, ...]
    weight: float


def contexts_of(case: Case, modality: str, contexts: Contexts) -> tuple[Context, ...]:
    """In which company of the patient's other modalities the parts are judged.

    'given': all that the patient has, as the shown prediction. 'ledger': every subset S of them
    with the Shapley weight |S|! (M - |S| - 1)! / M!, where M counts the patient's modalities: the
    shares of the parts then add up to the modality's Shapley value among the modalities (the
    value for games with a coalition structure, Owen 1977).
    """
    others = tuple(name for name in case.present if name != modality)
    if contexts == "given":
        return (Context(others, 1.0),)
    if contexts != "ledger":
        raise AttributionError(f"contexts are 'given' or 'ledger', not '{contexts}'.")
    m = len(others) + 1
    return tuple(
        Context(chosen, factorial(size) * factorial(m - size - 1) / factorial(m))
        for size in range(m)
        for chosen in combinations(others, size)
    )


def cell_blocks(grid: VoxelGrid, block: int) -> npt.NDArray[np.int64]:
    """(N,) int64: the block of `block` cells a side that each cell of a token grid belongs to."""
    if block < 1:
        raise AttributionError(f"a block is at least one cell a side, not {block}.")
    d, h, w = (np.arange(n) // block for n in grid.shape)
    nh, nw = int(h[-1]) + 1, int(w[-1]) + 1
    return ((d[:, None, None] * nh + h[:, None]) * nw + w).ravel().astype(np.int64)


# ---------------------------------------------------------------- what can be removed


class Removal(ABC):
    """Encodes one modality of the patient with some of its parts left out.

    n_parts: P. repeats: rows of the encoding for each coalition (1, or the number of background
    rows, over which the explained number is averaged). empty_is_absent: whether the modality is
    absent when no part is left.
    """

    n_parts: int
    repeats: int = 1
    empty_is_absent: bool = True

    @abstractmethod
    def encode(self, masks: Masks) -> Encoded:
        """Coalitions (B, P) bool, true where a part stays -> an encoding of B x repeats rows."""

    @abstractmethod
    def lengths(self, masks: Masks) -> npt.NDArray[np.int64]:
        """(B,) tokens of each coalition's row, by which batches are made."""


class EventRemoval(Removal):
    """Events, or words of a text, dropped from the sequence: order kept, padded to the batch's
    longest only.
    """

    def __init__(self, case: Case, modality: str) -> None:
        raw = case.raw(modality)
        self.case, self.modality = case, modality
        self.fields = {name: field[0].contiguous() for name, field in raw.fields.items()}
        self.n_parts = int(self.fields["mask"].shape[0])

    def lengths(self, masks: Masks) -> npt.NDArray[np.int64]:
        """One an event that stays."""
        return np.asarray(masks.sum(axis=1), np.int64)

    def inputs(self, masks: Masks) -> ModalityInput:
        """What the encoder reads of the coalitions."""
        lengths = masks.sum(axis=1)
        row, event = np.nonzero(masks)
        slot = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        at = np.zeros((len(masks), max(int(lengths.max(initial=0)), 1)), np.int64)
        at[row, slot] = event
        keep = torch.from_numpy(np.arange(at.shape[1]) < lengths[:, None])
        index = torch.from_numpy(at)
        fields = {name: field[index] * keep for name, field in self.fields.items()}
        return ModalityInput(self.case.kind(self.modality), fields, torch.from_numpy(lengths > 0))

    def encode(self, masks: Masks) -> Encoded:
        """Encoded by the run's own encoder, rounded as the shown prediction is."""
        return self.case.model.encode_modality(self.modality, self.inputs(masks))


class ColumnRemoval(Removal):
    """Columns of a table that are missing, or hold what background patients have there.

    background: (R, C) float, NaN where missing, in the columns' order; None for missing.
    """

    def __init__(self, case: Case, modality: str, background: npt.ArrayLike | None) -> None:
        raw = case.raw(modality)
        self.case, self.modality = case, modality
        self.values, self.mask = raw.fields["values"][0], raw.fields["mask"][0]
        self.n_parts = len(self.values)
        self.other: Tensor | None = None
        if background is not None:
            rows = np.asarray(background, np.float32)
            if rows.ndim != 2 or rows.shape[1] != self.n_parts or not len(rows):
                raise AttributionError(
                    f"background rows of '{modality}' need its {self.n_parts} columns, got an "
                    f"array of shape {rows.shape}; give training rows in the columns' order."
                )
            seen = ~np.isnan(rows)
            self.other = torch.from_numpy(np.where(seen, rows, 0).astype(np.float32))
            self.other_mask = torch.from_numpy(seen)
            self.repeats = len(rows)
            self.empty_is_absent = False

    def lengths(self, masks: Masks) -> npt.NDArray[np.int64]:
        """One a column."""
        return np.full(len(masks), self.n_parts)

    def encode(self, masks: Masks) -> Encoded:
        """Encoded by the run's own encoder."""
        keep = torch.from_numpy(np.ascontiguousarray(masks))
        if self.other is None:
            values, mask = self.values * keep, self.mask & keep
            present = keep.any(dim=1)
        else:
            # Coalition by coalition, all background rows of one together.
            stays = keep[:, None]
            values = torch.where(stays, self.values, self.other).flatten(0, 1)
            mask = torch.where(stays, self.mask, self.other_mask).flatten(0, 1)
            present = torch.ones(len(values), dtype=torch.bool)
        table = ModalityInput(Kind.TABLE, {"values": values, "mask": mask}, present)
        return self.case.model.encode_modality(self.modality, table)


class ChannelRemoval(Removal):
    """Leads of a signal, or views of a video, that were not recorded.

    Only those that the patient has are parts. field: what holds them, channels second.
    """

    def __init__(self, case: Case, modality: str, field: str) -> None:
        raw = case.raw(modality)
        self.case, self.modality, self.field = case, modality, field
        self.values, self.mask = raw.fields[field][0], raw.fields["mask"][0]
        there = self.mask.flatten(1).any(dim=1) if self.mask.ndim > 1 else self.mask
        self.channels = torch.nonzero(there)[:, 0]
        self.n_parts = len(self.channels)

    def lengths(self, masks: Masks) -> npt.NDArray[np.int64]:
        """So many that a batch's inputs, not its tokens, decide its size."""
        cost = self.values[0].numel() // 64 + 1
        return np.asarray(masks.sum(axis=1) * cost, np.int64)

    def encode(self, masks: Masks) -> Encoded:
        """Encoded by the run's own encoder."""
        keep = torch.zeros(len(masks), len(self.values), dtype=torch.bool)
        keep[:, self.channels] = torch.from_numpy(np.ascontiguousarray(masks))
        values = self.values * keep.reshape(*keep.shape, *[1] * (self.values.ndim - 1))
        mask = self.mask & keep.reshape(*keep.shape, *[1] * (self.mask.ndim - 1))
        fields = {self.field: values, "mask": mask}
        item = ModalityInput(self.case.kind(self.modality), fields, keep.any(dim=1))
        return self.case.model.encode_modality(self.modality, item)


class TokenRemoval(Removal):
    """Tokens left out of a modality whose summary is made of its tokens; nothing is re-encoded.

    owner: (N,) the part that each token belongs to.
    """

    def __init__(self, case: Case, modality: str, owner: npt.NDArray[np.int64]) -> None:
        encoder = case.model.encoder(modality)
        if not isinstance(encoder, SummaryOfTokens):
            raise AttributionError(
                f"the encoder of '{modality}' makes its summary of more than its tokens, so "
                "tokens cannot be left out of it; explain its input instead."
            )
        self.encoder, self.whole = encoder, case.encoded[modality]
        self.rounded = modality in case.model.frozen
        self.owner = owner
        self.n_parts = int(owner.max()) + 1

    def lengths(self, masks: Masks) -> npt.NDArray[np.int64]:
        """All tokens, whichever are left out: they keep their places."""
        return np.full(len(masks), len(self.owner))

    def encode(self, masks: Masks) -> Encoded:
        """Masked tokens, summarised as the encoder does."""
        rows = torch.zeros(len(masks), dtype=torch.long)
        keep = torch.from_numpy(masks[:, self.owner]) & self.whole.mask
        tokens = self.whole.tokens.expand(len(masks), -1, -1)
        present = keep.any(dim=1)
        encoded = replace(
            self.whole,
            tokens=tokens * keep[..., None],
            mask=keep,
            pooled=self.encoder.summarise(tokens, keep) * present[:, None],
            present=present,
        )
        if self.rounded:
            encoded = encoded.at_stored_precision()
        # The stored summary was made before its tokens were rounded.
        everything = torch.from_numpy(masks.all(axis=1))
        pooled = torch.where(everything[:, None], self.whole.pooled[rows], encoded.pooled)
        return replace(encoded, pooled=pooled)


def removal_of(
    case: Case, modality: str, *, block: int = 1, background: npt.ArrayLike | None = None
) -> Removal:
    """How parts of this modality are removed. Raises AttributionError where it cannot be done."""
    kind = case.kind(modality)
    case.require(modality)
    if background is not None and kind is not Kind.TABLE:
        raise AttributionError(
            f"background rows are for tables; '{modality}' is {kind}, leave them out."
        )
    if kind in (Kind.EVENTS, Kind.TEXT):
        return EventRemoval(case, modality)
    if kind is Kind.SIGNAL:
        return ChannelRemoval(case, modality, "signal")
    if kind is Kind.VIDEO:
        return ChannelRemoval(case, modality, "video")
    if kind is Kind.TABLE:
        return ColumnRemoval(case, modality, background)
    if kind is Kind.BAG:
        return TokenRemoval(case, modality, np.arange(case.encoded[modality].tokens.shape[1]))
    layout = case.encoded[modality].layout
    if kind is Kind.VOLUME and isinstance(layout, VoxelGrid):
        return TokenRemoval(case, modality, cell_blocks(layout, block))
    raise AttributionError(
        f"'{modality}' is {kind}: its parts cannot be removed one by one; use a gradient method."
    )


# ---------------------------------------------------------------- the game


class Game:
    """v(coalition): the explained number when only these parts of a modality are there.

    Call with (n, P) bool, true where a part stays; gives (n, T) float64. `everything` and
    `nothing` are the numbers with all parts and with none; with contexts 'given' the first is
    the number that the app shows. `evaluations` counts coalitions that the model was asked about
    (the same coalition twice in one call counts once).
    """

    def __init__(
        self,
        case: Case,
        modality: str,
        target: Target,
        *,
        contexts: Contexts = "given",
        block: int = 1,
        background: npt.ArrayLike | None = None,
    ) -> None:
        self.case = case
        self.modality = modality
        self.target = target
        self.removal = removal_of(case, modality, block=block, background=background)
        self.contexts = contexts_of(case, modality, contexts)
        if contexts == "ledger" and background is not None:
            raise AttributionError(
                "a ledger compares with the modality's absence, background rows with other "
                "patients; choose one of the two."
            )
        self.n_parts = self.removal.n_parts
        self.evaluations = 0
        others = {n: e for n, e in case.encoded.items() if n != modality}
        self._beside = sum(item.tokens.shape[1] for item in others.values())
        self._company = self._repeated(others)
        self._ends: dict[bool, Floats] = {}

    @property
    def everything(self) -> Floats:
        """(T,) with all parts."""
        return self._end(True)

    @property
    def nothing(self) -> Floats:
        """(T,) with none."""
        return self._end(False)

    def _end(self, full: bool) -> Floats:
        if full not in self._ends:
            self._ends[full] = self._evaluate(np.full((1, self.n_parts), full))[0]
        return self._ends[full]

    def __call__(self, masks: npt.ArrayLike) -> Floats:
        """(n, P) bool -> (n, T) float64."""
        asked = np.asarray(masks, bool)
        if not len(asked):
            raise ValueError("no coalition was asked about.")
        if asked.ndim != 2 or asked.shape[1] != self.n_parts:
            raise ValueError(f"coalitions are (n, {self.n_parts}) bool, got {asked.shape}.")
        packed = np.packbits(asked, axis=1)
        keys = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).ravel()
        _, first, back = np.unique(keys, return_index=True, return_inverse=True)
        distinct = asked[first]
        sizes = distinct.sum(axis=1)
        inner = (sizes > 0) & (sizes < self.n_parts)
        found: list[tuple[Masks, Floats]] = []
        if inner.any():
            found.append((inner, self._evaluate(distinct[inner])))
        for size, full in ((0, False), (self.n_parts, True)):
            if (sizes == size).any():
                found.append((sizes == size, self._end(full)))
        values = np.empty((len(distinct), found[0][1].shape[-1]))
        for at, value in found:
            values[at] = value
        return np.asarray(values[back.ravel()])

    def _evaluate(self, masks: Masks) -> Floats:
        """Distinct coalitions (n, P) -> (n, T), in batches of like length."""
        self.evaluations += len(masks)
        lengths = self.removal.lengths(masks)
        order = np.argsort(lengths, kind="stable")
        out: Floats | None = None
        with torch.inference_mode(), without_maps():
            for at in self._batches(order, lengths):
                batch = self._batch(masks[at])
                if out is None:
                    out = np.empty((len(masks), batch.shape[1]))
                out[at] = batch
        assert out is not None
        return out

    def _batches(
        self, order: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
    ) -> Iterator[npt.NDArray[np.int64]]:
        """Runs of coalitions, shortest first, each padded only to its own longest."""
        start = 0
        while start < len(order):
            shortest = int(lengths[order[start]])
            rows = min(MAX_ROWS, BATCH_TOKENS // (shortest + self._beside + 1))
            stop = start + max(1, rows // self.removal.repeats)
            yield order[start:stop]
            start = stop

    def _batch(self, masks: Masks) -> Floats:
        removal = self.removal
        if removal.empty_is_absent and not masks.any():
            own = self.case.encoded[self.modality]
            encoded = own.take(torch.zeros(len(masks), dtype=torch.long))
            encoded = encoded.without(torch.ones(len(masks), dtype=torch.bool))
        else:
            encoded = removal.encode(masks)
        total: Tensor | None = None
        for context, company in zip(self.contexts, self._others(len(encoded)), strict=True):
            output = self.case.model.fuse({**company, self.modality: encoded})
            value = self.target(output.prediction).double() * context.weight
            total = value if total is None else total + value
        assert total is not None
        if len(encoded) != len(masks):
            total = total.view(len(masks), removal.repeats, -1).mean(dim=1)
        return np.asarray(total.numpy(), np.float64)

    def _repeated(self, others: Mapping[str, Encoded]) -> list[Mapping[str, Encoded]]:
        """The other modalities, repeated for the largest batch, one mapping a context."""
        rows = max(MAX_ROWS, self.removal.repeats) if others else 1
        gone = torch.ones(1, dtype=torch.bool)
        # Hidden, then expanded and not copied: a strategy projects a repeated patient once.
        return [
            {n: _expanded(e if n in c.others else e.without(gone), rows) for n, e in others.items()}
            for c in self.contexts
        ]

    def _others(self, rows: int) -> list[Mapping[str, Encoded]]:
        return [{n: _first(e, rows) for n, e in company.items()} for company in self._company]


def _mapped(encoded: Encoded, change: Callable[[Tensor], Tensor]) -> Encoded:
    layout = encoded.layout
    if isinstance(layout, CodeVocabulary):
        layout = replace(layout, code_ids=change(layout.code_ids))
    return Encoded(
        tokens=change(encoded.tokens),
        mask=change(encoded.mask),
        pooled=change(encoded.pooled),
        present=change(encoded.present),
        layout=layout,
    )


def _expanded(encoded: Encoded, rows: int) -> Encoded:
    return _mapped(encoded, lambda x: x.expand(rows, *x.shape[1:]))


def _first(encoded: Encoded, rows: int) -> Encoded:
    return _mapped(encoded, lambda x: x[:rows])
