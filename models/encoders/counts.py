"""EHR as counts: which codes a patient has, how often, and their latest values."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from models.contracts import CodeVocabulary, Encoded, Kind, ModalityInput
from models.encoders.base import ENCODERS, EncoderConfig, ModalityEncoder
from models.vocabulary import FIRST_CODE, PADDING

DAYS_A_YEAR = 365.25


class CodeCountsConfig(EncoderConfig):
    """vocabulary_size: ids, padding and unknown included. birth_id: the code of birth, if known."""

    vocabulary_size: int = Field(gt=FIRST_CODE)
    birth_id: int | None = None
    token_width: int = Field(default=48, gt=0)


@ENCODERS.register("onehot")
class CodeCounts(ModalityEncoder):
    """The one-hot representation of Zhang et al. 2026, with log-scaled counts and values.

    One token for each distinct code: its embedding times log(1 + count), plus its value
    embedding times the latest standardised value. pooled (B, 2V): log counts and latest
    values, standardised over the training patients; a code without a value stays at 0, the
    training mean, there. The value of the birth code is the age in years at the index time.
    """

    kind = Kind.EVENTS
    pooled_is_fixed = True
    Config = CodeCountsConfig
    value_mean: Tensor
    value_scale: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, config: CodeCountsConfig) -> None:
        super().__init__(config)
        self.config: CodeCountsConfig = config
        size, width = config.vocabulary_size, config.token_width
        self.code = nn.Embedding(size, width, padding_idx=PADDING)
        self.value = nn.Embedding(size, width, padding_idx=PADDING)
        nn.init.normal_(self.value.weight, std=0.3)
        self.register_buffer("value_mean", torch.zeros(size))
        self.register_buffer("value_scale", torch.ones(size))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.token_width = width
        self.pooled_width = 2 * size

    def _counts(self, inputs: ModalityInput) -> tuple[Tensor, Tensor, Tensor]:
        """Log counts (B, V), latest values (B, V) and whether there is one (B, V)."""
        codes = inputs.fields["codes"]
        mask = inputs.fields["mask"] & inputs.present[:, None]
        size, rows = self.config.vocabulary_size, len(codes)
        counts = torch.zeros(rows, size, device=codes.device)
        counts.scatter_add_(1, codes, mask.float())
        counts[:, PADDING] = 0.0
        valued = mask & inputs.fields["has_value"]
        # Events are oldest first, so the highest position of a code is its latest value.
        position = torch.arange(1, codes.shape[1] + 1, device=codes.device).expand_as(codes)
        latest = torch.zeros(rows, size, dtype=torch.long, device=codes.device)
        latest.scatter_reduce_(1, codes, position * valued, reduce="amax")
        known = latest > 0
        values = torch.gather(inputs.fields["values"], 1, (latest - 1).clamp_min(0))
        values = torch.where(known, values, torch.zeros_like(values))
        birth = self.config.birth_id
        if birth is not None:
            born = mask & (codes == birth)
            values[:, birth] = (inputs.fields["days_before"] * born).amax(dim=1) / DAYS_A_YEAR
            known[:, birth] = born.any(dim=1)
        return torch.log1p(counts), values, known

    def fit(self, inputs: ModalityInput) -> None:
        """Scales of log counts and of each code's latest value over the training patients."""
        counts, values, known = self._counts(inputs)
        counts = counts[inputs.present]
        self.mean.copy_(counts.mean(dim=0))
        sd = counts.std(dim=0)
        # A code of a handful of patients would otherwise weigh as much as a common one.
        self.scale.copy_(sd.clamp_min(0.1))
        n = known.sum(dim=0)
        mean = values.sum(dim=0) / n.clamp_min(1)
        centred = torch.where(known, values - mean, torch.zeros_like(values))
        spread = (centred.pow(2).sum(dim=0) / n.clamp_min(1)).sqrt()
        self.value_mean.copy_(mean)
        self.value_scale.copy_(
            torch.where((n > 10) & (spread > 1e-6), spread, 1e9 * torch.ones_like(spread))
        )

    def forward(self, inputs: ModalityInput) -> Encoded:
        """Tokens of the distinct codes, in vocabulary order."""
        counts, values, known = self._counts(inputs)
        z = ((values - self.value_mean) / self.value_scale).clamp(-4.0, 4.0) * known
        here = counts > 0
        longest = max(int(here.sum(dim=1).max()), 1)
        ids = torch.sort((~here).to(torch.int8), dim=1, stable=True).indices[:, :longest]
        mask = torch.gather(here, 1, ids)
        tokens = self.code(ids) * torch.gather(counts, 1, ids)[..., None]
        tokens = tokens + self.value(ids) * torch.gather(z, 1, ids)[..., None]
        present = inputs.present
        pooled = torch.cat([((counts - self.mean) / self.scale).clamp(-4.0, 4.0), z], dim=1)
        return Encoded(
            tokens=tokens * mask[..., None],
            mask=mask,
            pooled=pooled * present[:, None],
            present=present,
            layout=CodeVocabulary(ids * mask),
        )
