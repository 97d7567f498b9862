"""A told table: a small transformer over its sentences."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from models.contracts import Encoded, Kind, ModalityInput, TextTokens
from models.encoders.base import ENCODERS, EncoderConfig, ModalityEncoder
from models.encoders.table import TableColumn, TableConfig, TableEncoder
from models.pooling import GatedAttentionPool
from models.sentences import PADDING, Sentences


class TableTextConfig(EncoderConfig):
    """How the table is told, and the transformer's sizes."""

    sentences: Sentences
    token_width: int = Field(default=64, gt=0)
    n_layers: int = Field(default=2, gt=0)
    n_heads: int = Field(default=4, gt=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)


class TextBlock(nn.Module):
    """Pre-norm transformer block in which every told word sees every other."""

    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.dropout = dropout
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_feed = nn.LayerNorm(width)
        self.feed = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D). keys (B, N) bool, at least one a row: what may be looked at."""
        rows, length, width = x.shape
        qkv = self.qkv(self.norm_attention(x)).view(rows, length, 3, self.n_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=self._looked_at(keys))
        x = x + self.out(mixed.transpose(1, 2).reshape(rows, length, width))
        fed: Tensor = self.feed(self.norm_feed(x))
        return x + fed

    def _looked_at(self, keys: Tensor) -> Tensor:
        """(B, 1, 1, N) bool: the keys, in training without some words that nobody sees.

        Dropout of single attention weights would hold every pair of words in memory; leaving out
        words regularises as well at a third of the time.
        """
        if self.training and self.dropout:
            kept = keys & (torch.rand(keys.shape, device=keys.device) >= self.dropout)
            keys = torch.where(kept.any(dim=1, keepdim=True), kept, keys)
        return keys[:, None, None]


@ENCODERS.register("table_text")
class TableTextEncoder(ModalityEncoder):
    """Reads a table row as it is told in sentences (TGMM, section 4.2.1), trained from scratch.

    A token is its word, the column its sentence speaks of and, where it is the column's value,
    that value: standardised on the training patients (`fit`; skewed columns logged, drawn in at
    4 sd) times a vector of the column, or a vector of the category, as in `TableEncoder`. Word
    order carries nothing more, every sentence being built alike, so no places are encoded.

    tokens (B, N, token_width): the words in their context, token n of the text. pooled (B, P):
    gated-attention mean of the tokens, then the standardised columns themselves and flags of the
    missing ones exactly as `TableEncoder` gives them, for a linear path.
    """

    kind = Kind.TEXT
    Config = TableTextConfig

    def __init__(self, config: TableTextConfig) -> None:
        super().__init__(config)
        self.config: TableTextConfig = config
        self.sentences = config.sentences
        width = config.token_width
        columns = tuple(
            TableColumn(
                name=column.name,
                kind=column.kind,
                n_categories=len(column.categories) if column.kind == "nominal" else 0,
            )
            for column in config.sentences.columns
        )
        self.table = TableEncoder(TableConfig(columns=columns, token_width=width))
        self.word = nn.Embedding(len(config.sentences.words), width, padding_idx=PADDING)
        self.column = nn.Embedding(len(columns), width)
        for embedding in (self.word, self.column):
            nn.init.normal_(embedding.weight, std=width**-0.5)
        self.blocks = nn.ModuleList(
            TextBlock(width, config.n_heads, config.dropout) for _ in range(config.n_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.pool = GatedAttentionPool(width, width // 2)
        self.token_width = width
        self.pooled_width = width + self.table.pooled_width

    def _row(self, inputs: ModalityInput) -> ModalityInput:
        values, mask = self.sentences.decode(inputs.fields)
        return ModalityInput(Kind.TABLE, {"values": values, "mask": mask}, inputs.present)

    def fit(self, inputs: ModalityInput) -> None:
        """Means and scales of the columns over the training patients who have them."""
        self.table.fit(self._row(inputs))

    def forward(self, inputs: ModalityInput) -> Encoded:
        """One token a word."""
        fields = inputs.fields
        mask = fields["mask"] & inputs.present[:, None]
        row = self.table(self._row(inputs))
        sentence = fields["sentence"]
        told = row.tokens.gather(1, sentence[..., None].expand(-1, -1, self.token_width))
        is_value = self.sentences.is_value(fields)[..., None]
        x = self.word(fields["tokens"]) + self.column(sentence) + torch.where(is_value, told, 0.0)
        # A softmax needs something to look at; what a patient without words says is masked below.
        keys = mask.clone()
        keys[:, 0] |= ~mask.any(dim=1)
        for block in self.blocks:
            x = block(x, keys)
        tokens = torch.where(mask[..., None], self.norm(x), 0.0)
        pooled: Tensor = self.pool(tokens, mask)[0]
        return Encoded(
            tokens=tokens,
            mask=mask,
            pooled=torch.cat([pooled, row.pooled], dim=1),
            present=inputs.present,
            layout=TextTokens(),
        )
