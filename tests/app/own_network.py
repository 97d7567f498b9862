"""A network that was trained elsewhere, and the adapter its owner wrote for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.contracts import Columns, Encoded, FusionOutput, Kind, ModalityInput
from models.encoders.base import ModalityEncoder
from models.encoders.table import TableConfig
from models.importing.adapter import OwnNetwork


class TheirNet(nn.Module):
    """What the owner trained: two tables in, one log-risk out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.image_net = nn.Linear(2, width)
        self.labs_net = nn.Linear(2, width)
        self.head = nn.Sequential(nn.Linear(2 * width, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, image: Tensor, labs: Tensor, has_image: Tensor, has_labs: Tensor) -> Tensor:
        image = torch.relu(self.image_net(image)) * has_image[:, None]
        labs = torch.relu(self.labs_net(labs)) * has_labs[:, None]
        return self.head(torch.cat([image, labs], dim=1))


class RowConfig(TableConfig):
    """The width of a row's embedding."""

    token_width: int = 16


class Row(ModalityEncoder):
    """A row of a table: what each column adds, and their sum after a ReLU."""

    kind = Kind.TABLE
    Config = RowConfig

    def __init__(self, config: RowConfig) -> None:
        super().__init__(config)
        self.layer = nn.Linear(len(config.columns), config.token_width)
        self.names = tuple(column.name for column in config.columns)
        self.token_width = self.pooled_width = config.token_width

    def forward(self, inputs: ModalityInput) -> Encoded:
        mask = inputs.fields["mask"] & inputs.present[:, None]
        x = inputs.fields["values"] * mask
        return Encoded(
            tokens=x[..., None] * self.layer.weight.T,
            mask=mask,
            pooled=torch.relu(self.layer(x)) * inputs.present[:, None],
            present=inputs.present,
            layout=Columns(self.names),
        )


class TheirFusion(OwnNetwork):
    """Both rows side by side, then the head."""

    title = "A friend's network"
    encoders = {"friends_row": Row}  # noqa: RUF012

    def build(self, streams) -> None:
        width = sum(stream.pooled for stream in streams.values())
        self.head = nn.Sequential(nn.Linear(width, 8), nn.Tanh(), nn.Linear(8, self.outputs))

    def fuse(self, encoded) -> FusionOutput:
        parts = {name: encoded[name].pooled for name in self.modalities}
        fused = torch.cat(list(parts.values()), dim=1)
        return FusionOutput(self.head(fused), before=parts, after=parts, fused=fused)
