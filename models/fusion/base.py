"""What every fusion strategy shares: projection, absence, modality dropout and the linear path.

A strategy states only how modalities meet (`combine`). The base projects every modality to one
width, replaces an absent modality by a learnt vector of its own, hides modalities at random
while training (so that the model knows what to say without them) and adds a linear path from
each modality's own summary to the prediction, which keeps small cohorts as good as a ridge
regression.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from models.contracts import AttentionMap, Encoded, FusionOutput, Kind
from models.pooling import GatedAttentionPool
from models.registry import Registry


@dataclass(frozen=True)
class StreamWidths:
    """Widths of what a modality's encoder gives, tokens and summary, and what it reads."""

    tokens: int
    pooled: int
    kind: Kind | None = None


class FusionConfig(BaseModel):
    """Settings that all strategies share.

    width: of the shared space. modality_dropout: chance that a present modality is hidden from
    a training step (one always stays). linear_path: add a linear term from each summary.
    intercept: add a learnt constant, which a log-risk has no use for and a logit does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(default=64, gt=0)
    heads: int = Field(default=4, gt=0)
    dropout: float = Field(default=0.25, ge=0, lt=1)
    modality_dropout: float = Field(default=0.2, ge=0, lt=1)
    linear_path: bool = True
    intercept: bool = False


@dataclass(frozen=True)
class Stream:
    """One modality on its way through fusion, in the shared width D.

    tokens (B, N, D), mask (B, N), summary (B, D; the learnt absent vector where absent),
    present (B,).
    """

    tokens: Tensor
    mask: Tensor
    summary: Tensor
    present: Tensor


@dataclass(frozen=True)
class Combined:
    """What `combine` returns: everything of FusionOutput but the linear path."""

    prediction: Tensor
    after: Mapping[str, Tensor]
    fused: Tensor
    attention: tuple[AttentionMap, ...] = ()
    gates: Mapping[str, Tensor] | None = None
    unimodal: Mapping[str, Tensor] | None = None
    losses: Mapping[str, Tensor] | None = None
    answers: Mapping[str, Tensor] | None = None
    includes_linear: bool = False


class Standardiser(nn.Module):
    """Fixed (x - mean) / sd per feature, taken once from the training patients."""

    mean: Tensor
    sd: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("sd", torch.ones(width))

    def fit(self, x: Tensor) -> None:
        """x: (n, width) rows of present patients."""
        if len(x) > 1:
            self.mean.copy_(x.mean(dim=0))
            sd = x.std(dim=0)
            self.sd.copy_(torch.where(sd > 1e-5, sd, torch.ones_like(sd)))

    def forward(self, x: Tensor) -> Tensor:
        """Standardised features, drawn in at 5 sd."""
        return ((x - self.mean) / self.sd).clamp(-5.0, 5.0)


class Entrance(nn.Module, ABC):
    """How a modality enters fusion; it knows the scales of the encoder's features."""

    def __init__(self, widths: StreamWidths) -> None:
        super().__init__()
        self.token_scale = Standardiser(widths.tokens)
        self.pooled_scale = Standardiser(widths.pooled)

    def fit(self, encoded: Encoded) -> None:
        """Scales of the frozen features of the training patients."""
        self.token_scale.fit(encoded.tokens[encoded.mask])
        self.pooled_scale.fit(encoded.pooled[encoded.present])

    @abstractmethod
    def forward(self, encoded: Encoded) -> Stream:
        """The modality's stream."""


class Projection(Entrance):
    """One modality into the shared width: its tokens, and a summary of them."""

    def __init__(self, widths: StreamWidths, width: int, dropout: float) -> None:
        super().__init__(widths)
        self.tokens = nn.Sequential(nn.Linear(widths.tokens, width), nn.GELU(), nn.Dropout(dropout))
        self.pool = GatedAttentionPool(width, width // 2)
        self.pooled = nn.Sequential(nn.Dropout(dropout), nn.Linear(widths.pooled, width))
        self.norm = nn.LayerNorm(width)
        self.absent = nn.Parameter(torch.randn(width) * 0.1)

    def forward(self, encoded: Encoded) -> Stream:
        """The modality's stream."""
        tokens = self.tokens(self.token_scale(encoded.tokens)) * encoded.mask[..., None]
        pooled, _ = self.pool(tokens, encoded.mask)
        summary = self.norm(pooled + self.pooled(self.pooled_scale(encoded.pooled)))
        summary = torch.where(encoded.present[:, None], summary, self.absent)
        return Stream(tokens, encoded.mask, summary, encoded.present)


class FusionStrategy(nn.Module, ABC):
    """Base of all strategies.

    A subclass sets `Config`, a `title` for people, `min_modalities`, and implements `combine`.
    """

    Config: ClassVar[type[FusionConfig]] = FusionConfig
    title: ClassVar[str] = ""
    min_modalities: ClassVar[int] = 2
    takes_intercept: ClassVar[bool] = True

    def __init__(
        self, streams: Mapping[str, StreamWidths], outputs: int, config: FusionConfig
    ) -> None:
        super().__init__()
        if len(streams) < self.min_modalities:
            raise ValueError(
                f"strategy '{STRATEGIES.name_of(type(self))}' fuses at least "
                f"{self.min_modalities} modalities, got {len(streams)}: {', '.join(streams)}."
            )
        self.config = config
        self.modalities = tuple(streams)
        self.outputs = outputs
        self.project = nn.ModuleDict(
            {name: self.entrance(widths, config) for name, widths in streams.items()}
        )
        self.linear = nn.ModuleDict()
        if config.linear_path:
            for name, widths in streams.items():
                layer = nn.Linear(widths.pooled, outputs, bias=False)
                nn.init.zeros_(layer.weight)
                self.linear[name] = layer
        self.intercept = nn.Parameter(torch.zeros(outputs)) if config.intercept else None

    def entrance(self, widths: StreamWidths, config: FusionConfig) -> Entrance:
        """What a modality passes first: the projection to the shared width."""
        return Projection(widths, config.width, config.dropout)

    @abstractmethod
    def combine(self, streams: Mapping[str, Stream], linear: Mapping[str, Tensor]) -> Combined:
        """How the modalities meet. linear: {modality: (B, K)} the linear path's terms."""

    def own_loss(
        self,
        output: FusionOutput,
        time_days: Tensor | None,
        event: Tensor | None,
        label: Tensor | None,
    ) -> Tensor | None:
        """The strategy's own training loss, in place of Cox or cross-entropy; None: those.

        time_days (B,) and event (B,) bool for a survival task, label (B,) int64 for a
        classification task. The tuning split is always scored by Cox or cross-entropy.
        """
        return None

    def fit(self, encoded: Mapping[str, Encoded]) -> None:
        """Take the scales of all features from the training patients."""
        for name in self.modalities:
            self._entrance(name).fit(encoded[name])

    def _entrance(self, name: str) -> Entrance:
        entrance = self.project[name]
        assert isinstance(entrance, Entrance)
        return entrance

    def _stream(self, name: str, encoded: Encoded) -> Stream:
        """A modality's projection; computed once where all rows are views of one patient's.

        That is how an explanation repeats the modalities it does not touch.
        """
        entrance = self._entrance(name)
        rows = len(encoded)
        if self.training or rows < 2 or not encoded.is_one_repeated:
            stream: Stream = entrance(encoded)
            return stream
        one = entrance(encoded.take(torch.zeros(1, dtype=torch.long)))
        return Stream(
            one.tokens.expand(rows, -1, -1),
            one.mask.expand(rows, -1),
            one.summary.expand(rows, -1),
            one.present.expand(rows),
        )

    def _hide_at_random(self, encoded: Mapping[str, Encoded]) -> Mapping[str, Encoded]:
        """Mark present modalities absent with the dropout chance, never a patient's last one."""
        chance = self.config.modality_dropout
        if chance == 0 or len(encoded) < 2:
            return encoded
        names = list(encoded)
        present = torch.stack([encoded[name].present for name in names], dim=1)
        hide = present & (torch.rand(present.shape, device=present.device) < chance)
        everything = (present & ~hide).sum(dim=1) == 0
        hide &= ~everything[:, None]
        return {name: encoded[name].without(hide[:, i]) for i, name in enumerate(names)}

    def with_intercept(self, prediction: Tensor) -> Tensor:
        """A prediction (B, K) moved by the intercept, where the strategy has one."""
        return prediction if self.intercept is None else prediction + self.intercept

    def linear_terms(self, encoded: Mapping[str, Encoded]) -> dict[str, Tensor]:
        """{modality: (B, K)} terms of the linear path; an absent modality contributes nothing.

        Summaries are standardised, so nothing means the training mean.
        """
        return {
            name: layer(self.linear_inputs(name, encoded[name]))
            for name, layer in self.linear.items()
        }

    def linear_inputs(self, name: str, encoded: Encoded) -> Tensor:
        """(B, P) standardised summary of a modality, zero where it is absent."""
        x: Tensor = self._entrance(name).pooled_scale(encoded.pooled)
        return x * encoded.present[:, None]

    def forward(self, encoded: Mapping[str, Encoded]) -> FusionOutput:
        """Fuse a batch of encoded modalities."""
        if self.training:
            encoded = self._hide_at_random({name: encoded[name] for name in self.modalities})
        streams = {name: self._stream(name, encoded[name]) for name in self.modalities}
        linear = self.linear_terms(encoded)
        combined = self.combine(streams, linear)
        prediction = combined.prediction
        if not combined.includes_linear:
            for term in linear.values():
                prediction = prediction + term
        prediction = self.with_intercept(prediction)
        return FusionOutput(
            prediction=prediction,
            before={name: stream.summary for name, stream in streams.items()},
            after=combined.after,
            fused=combined.fused,
            attention=combined.attention,
            gates=combined.gates or {},
            unimodal=combined.unimodal or {},
            losses=combined.losses or {},
            answers=combined.answers or {},
        )


class Head(nn.Sequential):
    """(B, n) -> (B, K): one hidden layer, its last layer small so that training starts linear."""

    def __init__(self, width: int, hidden: int, outputs: int, dropout: float) -> None:
        last = nn.Linear(hidden, outputs, bias=outputs > 1)
        nn.init.normal_(last.weight, std=0.01)
        super().__init__(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), last)


STRATEGIES: Registry[FusionStrategy] = Registry("fusion strategy")


def with_null_key(stream: Stream, null: Tensor) -> Stream:
    """The stream with one learnt token (D,) appended that is always there to be looked at."""
    rows = len(stream.present)
    token = null.expand(rows, 1, -1)
    always = torch.ones(rows, 1, dtype=torch.bool, device=stream.mask.device)
    return replace(
        stream,
        tokens=torch.cat([stream.tokens, token], dim=1),
        mask=torch.cat([stream.mask, always], dim=1),
    )
