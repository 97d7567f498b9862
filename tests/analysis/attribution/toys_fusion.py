"""Fusion models small enough to be solved by hand, as opened cases."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from analysis.attribution.case import Case
from analysis.cohort.readers.bag import Bag
from models.contracts import Encoded, FusionOutput, Instances, Kind
from models.encoders.bag import GatedAttentionMIL, GatedAttentionMILConfig
from models.fusion.base import STRATEGIES, FusionStrategy, StreamWidths
from models.network import FusionModel


def bag(tokens: Tensor, mask: Tensor | None = None) -> Encoded:
    """One patient's tokens (N, D); no tokens at all when the mask is all false."""
    n = len(tokens)
    mask = torch.ones(n, dtype=torch.bool) if mask is None else mask
    return Encoded(
        tokens=(tokens * mask[:, None])[None].float(),
        mask=mask[None],
        pooled=torch.zeros(1, tokens.shape[1]),
        present=mask.any()[None],
        layout=Instances(),
    )


class MeanPool(nn.Module):
    """The plain mean in place of a gated-attention pool."""

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        weights = mask.float() / mask.sum(dim=1, keepdim=True)
        return torch.einsum("bn,bnd->bd", weights, tokens), weights


def strategy_for(name: str, parts: dict[str, Encoded], heads: int = 1, **config) -> FusionStrategy:
    """A strategy of the tokens' own width, with weights large enough to matter."""
    torch.manual_seed(1)
    width = next(iter(parts.values())).tokens.shape[2]
    cls = STRATEGIES.get(name)
    widths = {n: StreamWidths(width, width) for n in parts}
    strategy = cls(widths, 1, cls.Config(width=width, heads=heads, **config))
    for parameter in strategy.parameters():
        if parameter.ndim == 2 and parameter.abs().max() < 0.1:
            nn.init.normal_(parameter, std=0.5)
    return strategy.eval()


def identity_co_attention(parts: dict[str, Encoded], heads: int = 1, guide: str = "both"):
    """Co-attention whose affinity is the dot product of the tokens; null tokens are zero."""
    strategy = strategy_for("co_attention", parts, heads, guide=guide, linear_path=False)
    width = strategy.config.width
    linears = [layer for a in strategy.affinity.values() for layer in (a.a, a.b)]
    linears += list(strategy.value.values())
    with torch.no_grad():
        for layer in linears:
            layer.weight.copy_(torch.eye(width))
            layer.bias.zero_()
        for name in parts:
            strategy.project[name].tokens = nn.Identity()
            strategy.null[name].zero_()
    return strategy


def case_of(strategy: FusionStrategy, parts: dict[str, Encoded], **task) -> Case:
    """The patient 1 with these encodings; token n of modality m is called 'm n'."""
    width = next(iter(parts.values())).tokens.shape[2]
    encoders = {
        n: GatedAttentionMIL(GatedAttentionMILConfig(feature_width=width, token_width=width))
        for n in parts
    }
    model = FusionModel(encoders, strategy)
    model.requires_grad_(False)
    model.eval()
    return plain_case(model, parts, **task)


def plain_case(model, parts: dict[str, Encoded], kind: str = "survival", classes=()) -> Case:
    entries = {
        n: SimpleNamespace(kind=Kind.BAG, title=n.upper(), encoder=SimpleNamespace()) for n in parts
    }
    task = SimpleNamespace(name="death", kind=kind, horizon_days=None, classes=classes)
    config = SimpleNamespace(name="toy", modalities=entries, task=task)
    run = SimpleNamespace(model=model, config=config, vocabularies={}, hash="0" * 16)

    def bags(name: str) -> Bag:
        here = [f"{name} {i}" for i in np.flatnonzero(parts[name].mask[0].numpy())]
        return Bag(np.array([1]), np.array([0, len(here)]), tuple(here), np.zeros((len(here), 1)))

    cohort = SimpleNamespace(
        spec=SimpleNamespace(name="toys"),
        fingerprint="f" * 16,
        bag=bags,
        subjects=pd.DataFrame(index=pd.Index([1], name="subject_id")),
    )
    return Case(run, cohort, 1, parts)


class Game(nn.Module):
    """A 'fusion' whose prediction is a function of which modalities are there."""

    def __init__(self, value: Callable[..., Tensor]) -> None:
        super().__init__()
        self.value = value
        self.calls = 0

    def fuse(self, encoded: dict[str, Encoded]) -> FusionOutput:
        self.calls += 1
        there = {name: item.present.float() for name, item in encoded.items()}
        prediction = self.value(**there)
        prediction = prediction if prediction.ndim == 2 else prediction[:, None]
        return FusionOutput(prediction=prediction, before={}, after={}, fused=prediction)


def game(value: Callable[..., Tensor], names: str, absent: str = "") -> Case:
    """A case of one-token modalities named by letters."""
    here = torch.ones(1, dtype=torch.bool)
    parts = {n: bag(torch.ones(1, 2), here if n not in absent else ~here) for n in names}
    return plain_case(Game(value), parts)
