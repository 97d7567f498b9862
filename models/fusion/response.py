"""Response module (Zhang et al. 2025, section 4.2.4): candidate answers and their likelihoods."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.contracts import AttentionMap
from models.fusion.attention import CrossAttention, FeedForward
from models.fusion.guidance import words_of


def checked_answers(answers: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The words of every answer. Raises ValueError when answers cannot be told apart.

    An answer that another one begins with is at least as likely whatever the patient, since a
    likelihood only falls with further words.
    """
    told = tuple(words_of(answer) for answer in answers)
    if len(told) < 2:
        raise ValueError(f"{len(told)} answers to choose from; give at least two.")
    for answer, words in zip(answers, told, strict=True):
        if not words:
            raise ValueError(f"answer '{answer}' has no word; give every answer one.")
    for i, first in enumerate(told):
        for j, second in enumerate(told):
            if i != j and second[: len(first)] == first:
                raise ValueError(
                    f"answer '{answers[j]}' begins with the whole of answer '{answers[i]}'; word "
                    "them so that neither begins with the other."
                )
    return told


class AnswerDecoder(nn.Module):
    """A single-layer transformer decoder, from scratch, that says how likely each answer is.

    The words of all candidates stand side by side, each candidate shifted behind a start token
    and blind to the others (a causal mask within each), so the features are read once instead of
    being duplicated. A learnt null token beside the features is what a patient without any
    feature is answered by. The paper pairs every candidate with its guidance text; here the text
    has already gone into the features (eq. 9).
    """

    inputs: Tensor
    places: Tensor
    targets: Tensor
    blind: Tensor
    belongs: Tensor
    lengths: Tensor

    def __init__(self, answers: Sequence[str], width: int, heads: int, dropout: float) -> None:
        super().__init__()
        told = checked_answers(answers)
        self.words = tuple(word for words in told for word in words)
        self.vocabulary = tuple(sorted(set(self.words)))
        number = {word: i for i, word in enumerate(self.vocabulary)}
        start = len(number)
        of = torch.tensor([i for i, words in enumerate(told) for _ in words])
        places = torch.tensor([i for words in told for i in range(len(words))])
        shifted = [number.get(w, start) for ws in told for w in ("", *ws[:-1])]
        same = of[:, None] == of[None, :]
        constants = {
            "inputs": torch.tensor(shifted),
            "targets": torch.tensor([number[word] for word in self.words]),
            "places": places,
            "blind": ~(same & (places[None, :] <= places[:, None])),
            "belongs": (of[:, None] == torch.arange(len(told))).float(),
            "lengths": torch.tensor([len(words) for words in told]),
        }
        for name, constant in constants.items():
            self.register_buffer(name, constant, persistent=False)
        self.embed = nn.Embedding(start + 1, width)
        self.place = nn.Embedding(int(self.lengths.max()), width)
        self.null = nn.Parameter(torch.randn(width) * 0.1)
        self.norm_self = nn.LayerNorm(width)
        self.attend_self = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm_cross = nn.LayerNorm(width)
        self.attend_features = CrossAttention(width, heads)
        self.feed = FeedForward(width, dropout)
        self.norm = nn.LayerNorm(width)
        self.say = nn.Linear(width, len(number))

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, tuple[AttentionMap, ...]]:
        """Features (B, F, D), mask (B, F) -> log-likelihood (B, C) of each answer, and its map.

        The map is of the answers' words (`words`) over the features, the null token last.
        """
        rows = len(features)
        # What candidates know of themselves is the same for all patients.
        x = (self.embed(self.inputs) + self.place(self.places))[None]
        asked = self.norm_self(x)
        x = x + self.attend_self(asked, asked, asked, attn_mask=self.blind, need_weights=False)[0]
        memory = torch.cat([features, self.null.expand(rows, 1, -1)], dim=1)
        there = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        x = x.expand(rows, -1, -1)
        answer, weights = self.attend_features(self.norm_cross(x), memory, there)
        x = self.norm(self.feed(x + answer))
        said = F.log_softmax(self.say(x).float(), dim=-1)
        words = said.gather(2, self.targets[None, :, None].expand(rows, -1, 1))[..., 0]
        maps: tuple[AttentionMap, ...] = ()
        if weights is not None:
            maps = (AttentionMap("response", "answers", "features", weights, True, residual=True),)
        # No matrix product: mixed precision would round the sum.
        return (words[:, :, None] * self.belongs).sum(dim=1), maps


class LinearProbe(nn.Module):
    """The paper's ablation of the response: one linear layer on all features and their masks."""

    def __init__(self, features: int, width: int, outputs: int) -> None:
        super().__init__()
        self.read = nn.Linear(features * (width + 1), outputs)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Features (B, F, D), zero where missing, mask (B, F) -> (B, K)."""
        flat = torch.cat([features.flatten(1), mask.to(features.dtype)], dim=1)
        read: Tensor = self.read(flat)
        return read
