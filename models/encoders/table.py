"""Tables: a feature tokenizer, one token a column, beside the standardised columns themselves."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from models.contracts import Columns, Encoded, Kind, ModalityInput
from models.encoders.base import ENCODERS, EncoderConfig, ModalityEncoder

# Values beyond this many standard deviations are drawn in, so that one typing error in a lab
# cannot rule a small cohort's regression.
WINSOR_SD = 4.0


class TableColumn(BaseModel):
    """One column: its name, whether it is nominal, and how many categories it then has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: Literal["continuous", "binary", "ordinal", "nominal"] = "continuous"
    n_categories: int = Field(default=0, ge=0)

    @property
    def width(self) -> int:
        """Features the column gives: one, or one a category."""
        return self.n_categories if self.kind == "nominal" else 1


class TableConfig(EncoderConfig):
    """The columns in order, and the width of a token."""

    columns: tuple[TableColumn, ...]
    token_width: int = Field(default=32, gt=0)


@ENCODERS.register("table_tokenizer")
class TableEncoder(ModalityEncoder):
    """One token a column (the feature tokenizer of Gorishniy et al. 2021), missing ones masked.

    tokens (B, C, token_width). pooled (B, P): the standardised columns (nominal ones as
    one-hot), a missing value at the training mean, then one 0/1 flag a column that says it was
    missing; a linear layer on it is an ordinary Cox regression with missing indicators.
    """

    kind = Kind.TABLE
    pooled_is_fixed = True
    Config = TableConfig
    mean: Tensor
    scale: Tensor
    log_scale: Tensor
    flag_mean: Tensor
    flag_scale: Tensor
    owner: Tensor

    def __init__(self, config: TableConfig) -> None:
        super().__init__(config)
        self.config: TableConfig = config
        n, width = len(config.columns), sum(c.width for c in config.columns)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("log_scale", torch.zeros(n, dtype=torch.bool))
        self.register_buffer("flag_mean", torch.zeros(n))
        self.register_buffer("flag_scale", torch.zeros(n))
        self.weight = nn.Parameter(
            torch.randn(width, config.token_width) * config.token_width**-0.5
        )
        self.bias = nn.Parameter(torch.randn(n, config.token_width) * config.token_width**-0.5)
        owner = [i for i, column in enumerate(config.columns) for _ in range(column.width)]
        self.register_buffer("owner", torch.tensor(owner), persistent=False)
        self.token_width = config.token_width
        self.pooled_width = width + n

    def _features(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, P') raw features with NaN-free padding and which of them were observed."""
        columns = []
        for i, column in enumerate(self.config.columns):
            value = values[:, i]
            if column.kind == "nominal":
                index = torch.where(mask[:, i], value, -1.0).round().long()
                categories = torch.arange(column.n_categories, device=values.device)
                columns.append((index[:, None] == categories).float())
            else:
                logged = torch.sign(value) * torch.log1p(value.abs())
                columns.append(torch.where(self.log_scale[i], logged, value)[:, None])
        features = torch.cat(columns, dim=1)
        observed = mask[:, self.owner]
        return torch.where(observed, features, torch.zeros_like(features)), observed

    def fit(self, inputs: ModalityInput) -> None:
        """Means and scales of the training patients' observed values; skewed columns are logged."""
        rows = inputs.present
        values, mask = inputs.fields["values"][rows], inputs.fields["mask"][rows]
        for i, column in enumerate(self.config.columns):
            seen = values[mask[:, i], i]
            if column.kind == "continuous" and len(seen) > 10 and bool((seen >= 0).all()):
                centred = seen - seen.mean()
                sd = centred.std().clamp_min(1e-12)
                self.log_scale[i] = bool((centred / sd).pow(3).mean() > 2.0)
        features, observed = self._features(values, mask)
        n = observed.sum(dim=0).clamp_min(1)
        self.mean.copy_(features.sum(dim=0) / n)
        spread = torch.where(observed, features - self.mean, torch.zeros_like(features))
        sd = (spread.pow(2).sum(dim=0) / n).sqrt()
        self.scale.copy_(torch.where(sd > 1e-6, sd, torch.ones_like(sd)))
        missing = (~mask).float()
        self.flag_mean.copy_(missing.mean(dim=0))
        flag_sd = missing.std(dim=0, unbiased=False)
        # A column missing in fewer than 1% of patients teaches nothing about missingness.
        usable = flag_sd > 0.1
        self.flag_scale.copy_(torch.where(usable, 1.0 / flag_sd.clamp_min(0.1), 0.0))

    def forward(self, inputs: ModalityInput) -> Encoded:
        """One token a column; missing columns are masked, not zero-valued."""
        values, mask = inputs.fields["values"], inputs.fields["mask"]
        features, observed = self._features(values, mask)
        z = ((features - self.mean) / self.scale).clamp(-WINSOR_SD, WINSOR_SD)
        z = torch.where(observed, z, torch.zeros_like(z))
        flags = ((~mask).float() - self.flag_mean) * self.flag_scale
        contribution = z[:, :, None] * self.weight
        tokens = self.bias.expand(len(values), -1, -1).index_add(1, self.owner, contribution)
        present = inputs.present
        mask = mask & present[:, None]
        return Encoded(
            tokens=tokens * mask[..., None],
            mask=mask,
            pooled=torch.cat([z, flags], dim=1) * present[:, None],
            present=present,
            layout=Columns(tuple(c.name for c in self.config.columns)),
        )
