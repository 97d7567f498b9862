"""The contracts that every encoder, fusion strategy, analysis and panel is written against.

Conventions, said once: `event` is true when it happened. A larger risk is worse. Time is in
days. Attention rows sum to 1. Modalities are addressed by name, never by position. An absent
modality is marked by `present == False`; its numbers are padding and must not be read.

A volume is a tensor (D, H, W) in HU whose axes grow towards the patient's head (superior),
front (anterior) and right: the RAS+ axes of NIfTI, transposed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

import torch
from torch import Tensor


class Kind(StrEnum):
    """What a modality is made of; everything downstream is written for kinds."""

    VOLUME = "volume"
    VIDEO = "video"
    SIGNAL = "signal"
    EVENTS = "events"
    BAG = "bag"
    TABLE = "table"
    TEXT = "text"


# ---------------------------------------------------------------- inputs


@dataclass(frozen=True)
class ModalityInput:
    """One modality of a batch of patients, padded.

    fields: named tensors whose first dimension is the patient. By kind:
        volume  `volume` (B, 1, D, H, W) float32 HU
        events  `codes` (B, N) int64, `values` (B, N) float32 (0 where none),
                `has_value` (B, N) bool, `days_before` (B, N) float32 >= 0 before the index
                time, `mask` (B, N) bool; oldest event first
        bag     `features` (B, N, F) float32, `mask` (B, N) bool
        table   `values` (B, C) float32 (category number for nominal columns), `mask` (B, C) bool
        signal  `signal` (B, L, T) float32 mV, leads in the encoder's order at its sampling rate,
                `mask` (B, L, T) bool, false in gaps and missing leads
        video   `video` (B, V, 3, F, H, W) float32 RGB from 0 to 255, views in the encoder's
                order, `mask` (B, V) bool, false where the patient has no such view
        text    a table row told in sentences: `tokens` (B, N) int64, `numbers` (B, N) float32
                (the value in the column's own unit where `is_number` (B, N) bool, else 0),
                `sentence` (B, N) int64 number of the column that a token speaks of,
                `mask` (B, N) bool
    present: (B,) bool, false where the patient lacks the modality.
    """

    kind: Kind
    fields: Mapping[str, Tensor]
    present: Tensor

    def to(self, device: torch.device | str) -> ModalityInput:
        """The same input on another device."""
        moved = {name: tensor.to(device) for name, tensor in self.fields.items()}
        return replace(self, fields=moved, present=self.present.to(device))

    def take(self, rows: Tensor) -> ModalityInput:
        """The patients at `rows` (int64 or bool)."""
        taken = {name: tensor[rows] for name, tensor in self.fields.items()}
        return replace(self, fields=taken, present=self.present[rows])

    def __len__(self) -> int:
        return int(self.present.shape[0])


# ---------------------------------------------------------------- layouts


@dataclass(frozen=True)
class VoxelGrid:
    """Tokens lie on a grid over the volume, last axis (patient's right) fastest.

    shape: tokens along (D, H, W). spacing_mm: centre-to-centre distance of tokens along
    (D, H, W). The grid is centred on the volume the encoder saw.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    kind: Literal["voxel_grid"] = "voxel_grid"


@dataclass(frozen=True)
class EventPositions:
    """Token n is event n of the patient's sequence as given to the encoder, oldest first."""

    kind: Literal["event_positions"] = "event_positions"


@dataclass(frozen=True)
class CodeVocabulary:
    """Token n is the n-th distinct code of the patient; `code_ids` (B, N) are vocabulary ids."""

    code_ids: Tensor
    kind: Literal["code_vocabulary"] = "code_vocabulary"


@dataclass(frozen=True)
class Instances:
    """Token n is instance n of the bag."""

    kind: Literal["instances"] = "instances"


@dataclass(frozen=True)
class Columns:
    """Token n is column n of the table."""

    names: tuple[str, ...]
    kind: Literal["columns"] = "columns"


@dataclass(frozen=True)
class LeadTimeGrid:
    """Tokens lie on leads x time steps, time fastest: token n is lead n // steps, step n % steps.

    Step k covers `start_s` + k * `step_s` to one step later, in seconds of the signal as read.
    """

    leads: tuple[str, ...]
    steps: int
    step_s: float
    start_s: float = 0.0
    kind: Literal["lead_time_grid"] = "lead_time_grid"


@dataclass(frozen=True)
class ViewGrid:
    """Tokens lie on views x a (t, h, w) grid over each view's frames and picture, w fastest.

    shape: (t, h, w) tokens a view. frames: frames of the video as read that one t covers.
    """

    views: tuple[str, ...]
    shape: tuple[int, int, int]
    frames: int
    kind: Literal["view_grid"] = "view_grid"


@dataclass(frozen=True)
class TextTokens:
    """Token n is token n of the text as given to the encoder."""

    kind: Literal["text_tokens"] = "text_tokens"


Layout = (
    VoxelGrid
    | EventPositions
    | CodeVocabulary
    | Instances
    | Columns
    | LeadTimeGrid
    | ViewGrid
    | TextTokens
)


# ---------------------------------------------------------------- encoded, fused


@dataclass(frozen=True)
class Encoded:
    """What an encoder returns for one modality of a batch.

    tokens: (B, N, T) float. mask: (B, N) bool, true where a token is real. pooled: (B, P)
    float, one summary vector a patient (its width may differ from the tokens').
    present: (B,) bool. layout maps token n back to the input. attention: (B, N) the weights with
    which an encoder that pools by attention made the summary of its tokens.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor
    present: Tensor
    layout: Layout
    attention: Tensor | None = None

    def to(self, device: torch.device | str) -> Encoded:
        """The same encoding on another device; one patient repeated travels once."""

        def moved(x: Tensor) -> Tensor:
            if len(x) > 1 and x.stride(0) == 0:
                return x[:1].to(device).expand_as(x)
            return x.to(device)

        layout = self.layout
        if isinstance(layout, CodeVocabulary):
            layout = replace(layout, code_ids=moved(layout.code_ids))
        return replace(
            self,
            tokens=moved(self.tokens),
            mask=moved(self.mask),
            pooled=moved(self.pooled),
            present=moved(self.present),
            layout=layout,
            attention=None if self.attention is None else moved(self.attention),
        )

    def take(self, rows: Tensor) -> Encoded:
        """The patients at `rows` (int64 or bool)."""
        layout = self.layout
        if isinstance(layout, CodeVocabulary):
            layout = replace(layout, code_ids=layout.code_ids[rows])
        return replace(
            self,
            tokens=self.tokens[rows],
            mask=self.mask[rows],
            pooled=self.pooled[rows],
            present=self.present[rows],
            layout=layout,
            attention=None if self.attention is None else self.attention[rows],
        )

    def without_padding(self) -> Encoded:
        """A sequence without the tokens at the end that none of these patients has.

        The places of a grid or a table are all named by its layout, and stay.
        """
        if isinstance(self.layout, VoxelGrid | LeadTimeGrid | ViewGrid | Columns):
            return self
        there = torch.nonzero(self.mask.any(dim=0))
        n = int(there[-1]) + 1 if len(there) else 1
        layout = self.layout
        if isinstance(layout, CodeVocabulary):
            layout = replace(layout, code_ids=layout.code_ids[:, :n])
        return replace(
            self,
            tokens=self.tokens[:, :n],
            mask=self.mask[:, :n],
            layout=layout,
            attention=None if self.attention is None else self.attention[:, :n],
        )

    @property
    def is_one_repeated(self) -> bool:
        """Whether all rows are views of the same memory: one patient, expanded."""
        parts = (self.tokens, self.mask, self.pooled, self.present)
        return all(part.stride(0) == 0 for part in parts)

    def at_stored_precision(self) -> Encoded:
        """Tokens and summary rounded to half precision, as frozen features are stored.

        A frozen encoder's output is always rounded, so that a prediction from stored features
        and one from the raw scan are the same number.
        """
        return replace(self, tokens=self.tokens.half().float(), pooled=self.pooled.half().float())

    def without(self, rows: Tensor) -> Encoded:
        """The same encoding with the modality marked absent where `rows` (B,) bool is true."""
        return replace(
            self,
            present=self.present & ~rows,
            mask=self.mask & ~rows[:, None].expand_as(self.mask),
            attention=None if self.attention is None else self.attention * ~rows[:, None],
        )

    def __len__(self) -> int:
        return int(self.present.shape[0])


@dataclass(frozen=True)
class AttentionMap:
    """Who looks at whom. weights: (B, heads, queries, keys), rows sum to 1 over the keys.

    The last key column is the null key when `null_key` is true: where a query looks when no
    token of the key modality deserves it, and the only key when that modality is absent.
    Taken after softmax; strategies give maps in eval mode only. source: the tensor of the forward
    pass of which `weights` shows the first queries (a strategy's null token may ask, too, but is
    no place in the input); None where it is `weights` itself. residual: whether the answer is
    added to the token that asked, so that the token also keeps its own.
    """

    name: str
    query: str
    key: str
    weights: Tensor
    null_key: bool
    source: Tensor | None = None
    residual: bool = False

    @property
    def used(self) -> Tensor:
        """(B, heads, >= queries, keys): what the prediction was made of, to differentiate by.

        A slice is no part of the prediction's graph; its first `queries` rows are `weights`.
        """
        return self.weights if self.source is None else self.source


@dataclass(frozen=True)
class FusionOutput:
    """What a fusion strategy says of a batch. What a strategy does not have is empty.

    prediction: (B, K); log-risk (K = 1, higher is worse) for survival, logits for a class task.
    before, after: {modality: (B, D)} embeddings before and after alignment. fused: (B, D').
    attention: maps. gates: {name: (B,)} learned weights of modalities.
    unimodal: {modality: (B, K)} the prediction of a modality's own branch, where there is one.
    losses: auxiliary training losses (scalars), e.g. InfoNCE. answers: what the strategy's own
    loss needs besides the prediction (see `FusionStrategy.outcome_loss`).
    """

    prediction: Tensor
    before: Mapping[str, Tensor]
    after: Mapping[str, Tensor]
    fused: Tensor
    attention: Sequence[AttentionMap] = ()
    gates: Mapping[str, Tensor] = field(default_factory=dict)
    unimodal: Mapping[str, Tensor] = field(default_factory=dict)
    losses: Mapping[str, Tensor] = field(default_factory=dict)
    answers: Mapping[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> FusionOutput:
        """The same output on another device, but for what a map's gradient is taken by."""

        def each(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: x.to(device) for name, x in parts.items()}

        return replace(
            self,
            prediction=self.prediction.to(device),
            before=each(self.before),
            after=each(self.after),
            fused=self.fused.to(device),
            attention=[
                replace(a, weights=a.weights.to(device), source=a.used) for a in self.attention
            ],
            gates=each(self.gates),
            unimodal=each(self.unimodal),
            losses=each(self.losses),
            answers=each(self.answers),
        )


Inputs = Mapping[str, ModalityInput | Encoded]
