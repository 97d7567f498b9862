"""Textual guidance (Zhang et al. 2025, section 4.2.3): words decide what of the features is kept.

Here are also the two operations that guidance shares with the fusion of modalities: the
projection P(*) to a common shape and the weighted keys of eqs 3 to 5.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.contracts import AttentionMap
from models.fusion.attention import join_heads, maps_wanted, split_heads
from models.pooling import masked_softmax


def mix(parts: Sequence[Tensor]) -> Tensor:
    """Keys (or values) of n parts as one (Zhang et al. 2025, eqs 3, 4 and 5).

    parts: n >= 2 tensors of one shape, in order. The j-th of them (from 1) but the last gets the
    elementwise weight lambda_j = sigmoid(sum of the first n - j + 1 parts); the last gets one
    minus the others', which may be negative where n > 2. For three parts lambda_1 is eq. 4 and
    lambda_2 eq. 5; for two parts the only weight is the sum of two, eq. 5.
    """
    running = [parts[0]]
    for part in parts[1:]:
        running.append(running[-1] + part)
    weights = [torch.sigmoid(running[len(parts) - 1 - j]) for j in range(len(parts) - 1)]
    last = 1.0 - torch.stack(weights).sum(dim=0)
    mixed = last * parts[-1]
    for weight, part in zip(weights, parts[:-1], strict=True):
        mixed = mixed + weight * part
    return mixed


class SlotPool(nn.Module):
    """The projection P(*): any number of tokens to `slots` tokens, by as many learnt queries.

    Eq. 3 adds keys of different modalities, so they need one shape; the paper leaves P open.
    """

    def __init__(self, width: int, slots: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(slots, width))
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Tokens (B, N, D), mask (B, N) -> (B, slots, D), zero for a patient without tokens."""
        scores = self.query @ self.key(tokens).transpose(1, 2) / tokens.shape[2] ** 0.5
        weights = masked_softmax(scores, mask[:, None, :].expand_as(scores))
        pooled: Tensor = self.norm(self.value(weights @ tokens))
        return pooled * mask.any(dim=1)[:, None, None]


def words_of(text: str) -> tuple[str, ...]:
    """A text's words and marks, lower case: the tokens of this module and of the answers."""
    return tuple(re.findall(r"[a-z0-9]+(?:[-'][a-z0-9]+)*|[^\sa-z0-9]", text.lower()))


class GuidanceText(nn.Module):
    """Semi-soft text: human-defined words C_h inside learnt tokens C_l, encoded as Z_C.

    The words get an embedding table of their own (one row for each distinct word of the text, so
    the config's text is the whole vocabulary). Learnt tokens start as copies of its rows, as the
    paper starts them from the same tokenizer. `position` of them stand before the words.

    Raises ValueError when the text has no word or the position is not between 0 and `learnt`.
    """

    rows: Tensor

    def __init__(
        self, text: str, learnt: int, position: int, width: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        words = words_of(text)
        if not words:
            raise ValueError("guidance_text has no word; say what the model is to look for.")
        if not 0 <= position <= learnt:
            raise ValueError(
                f"guidance_position {position} is not between 0 and the {learnt} learnt tokens."
            )
        self.vocabulary = tuple(sorted(set(words)))
        rows = torch.tensor([self.vocabulary.index(word) for word in words])
        self.register_buffer("rows", rows, persistent=False)
        self.position = position
        self.words = nn.Embedding(len(self.vocabulary), width)
        copies = self.words.weight.detach()[torch.arange(learnt) % len(self.vocabulary)]
        self.learnt = nn.Parameter(copies.clone()) if learnt else None
        self.place = nn.Parameter(torch.randn(len(words) + learnt, width) * 0.02)
        self.encoder = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )

    def forward(self) -> Tensor:
        """Z_C = TE(Concat(C_h, C_l)), (T, D)."""
        human = self.words(self.rows)
        text = human
        if self.learnt is not None:
            before, after = self.learnt[: self.position], self.learnt[self.position :]
            text = torch.cat([before, human, after])
        encoded: Tensor = self.encoder((text + self.place)[None])[0]
        return encoded


def stochastic_depth(x: Tensor, chance: float, training: bool) -> Tensor:
    """DP(x; p): in training each patient's x (B, ...) is dropped with that chance, else scaled up.

    Huang et al. 2016, with the scaling of inverted dropout, so that the mean stays.
    """
    if not training or chance == 0:
        return x
    keep = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) >= chance
    return x * keep / (1.0 - chance)


class TextualGuidance(nn.Module):
    """Eq. 9: LN(G_all * [softmax(Q_all K_all,C' / sqrt d) V_all,C] + DP(Z_all; p_drop)).

    Q, K, V are linear in features and words as in eq. 1, with weights of this stage's own. Words
    reach the features' shape by P (one learnt query a feature), then keys and values of features
    and words are mixed by eq. 3's rule for two. G_all has eq. 6's form over features, words and
    what was attended to. Missing features are neither keys nor queries.
    """

    def __init__(
        self, text: GuidanceText, features: int, width: int, heads: int, p_drop: float
    ) -> None:
        super().__init__()
        self.text = text
        self.heads = heads
        self.p_drop = p_drop
        self.shape = SlotPool(width, features)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(3 * width, width)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, features: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, tuple[AttentionMap, ...]]:
        """Z_all (B, F, D) with mask (B, F) -> Z_all,C (B, F, D), G_all (B, F, D) and its map.

        Both are zero for missing features, and so are their rows of the map (B, heads, F, F).
        """
        return self.refine(features, mask, self.text())

    def refine(
        self, features: Tensor, mask: Tensor, words: Tensor
    ) -> tuple[Tensor, Tensor, tuple[AttentionMap, ...]]:
        """Eq. 9 with the encoded words (T, D) given."""
        everywhere = torch.ones(1, len(words), dtype=torch.bool, device=words.device)
        guide = self.shape(words[None], everywhere).expand_as(features)
        query = split_heads(self.query(features), self.heads)
        key = split_heads(mix([self.key(features), self.key(guide)]), self.heads)
        value = split_heads(mix([self.value(features), self.value(guide)]), self.heads)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        pairs = (mask[:, :, None] & mask[:, None, :])[:, None].expand_as(scores)
        weights = masked_softmax(scores, pairs)
        attended = join_heads(weights @ value)
        gate = torch.sigmoid(self.gate(torch.cat([features, guide, attended], dim=2)))
        gate = gate * mask[..., None]
        kept = stochastic_depth(features, self.p_drop, self.training)
        refined = self.norm(gate * attended + kept) * mask[..., None]
        maps: tuple[AttentionMap, ...] = ()
        if maps_wanted(self):
            maps = (AttentionMap("textual guidance", "features", "features", weights, False),)
        return refined, gate, maps
