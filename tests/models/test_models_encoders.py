from __future__ import annotations

import math

import pytest
import torch

from models.contracts import CodeVocabulary, Kind, ModalityInput, VoxelGrid
from models.encoders.bag import GatedAttentionMIL, GatedAttentionMILConfig
from models.encoders.base import ENCODERS, weights_hash
from models.encoders.clmbr import CLMBR, CLMBRConfig
from models.encoders.counts import CodeCounts, CodeCountsConfig
from models.encoders.table import TableColumn, TableConfig, TableEncoder
from models.encoders.volume import CTResNet, CTResNetConfig
from models.pretraining import pretrain_clmbr
from tests.models.toys import events


def table(values: list[list[float | None]]) -> ModalityInput:
    mask = torch.tensor([[v is not None for v in row] for row in values])
    numbers = torch.tensor([[v or 0.0 for v in row] for row in values])
    return ModalityInput(Kind.TABLE, {"values": numbers, "mask": mask}, mask.any(dim=1))


def test_table_standardises_by_hand():
    encoder = TableEncoder(
        TableConfig(
            columns=(
                TableColumn(name="age"),
                TableColumn(name="stage", kind="nominal", n_categories=2),
            )
        )
    )
    inputs = table([[1.0, 0.0], [2.0, 1.0], [3.0, 1.0], [None, 1.0]])
    encoder.fit(inputs)
    pooled = encoder(inputs).pooled
    sd = math.sqrt(2 / 3)
    assert torch.allclose(pooled[:3, 0], torch.tensor([-1.0, 0.0, 1.0]) / sd, atol=1e-6)
    assert pooled[3, 0] == 0
    share, spread = 0.75, math.sqrt(0.75 * 0.25)
    assert pooled[0, 2] == pytest.approx((0 - share) / spread, abs=1e-5)
    flag_sd = math.sqrt(0.25 * 0.75)
    assert pooled[3, 3] == pytest.approx(0.75 / flag_sd, abs=1e-5)
    assert not encoder(inputs).mask[3, 0]


def test_a_skewed_column_is_logged_and_an_outlier_drawn_in():
    encoder = TableEncoder(TableConfig(columns=(TableColumn(name="crp"),)))
    values = torch.distributions.LogNormal(0.0, 1.5).sample((400,))
    inputs = ModalityInput(
        Kind.TABLE,
        {"values": values[:, None], "mask": torch.ones(400, 1, dtype=torch.bool)},
        torch.ones(400, dtype=torch.bool),
    )
    encoder.fit(inputs)
    assert bool(encoder.log_scale[0])
    typo = table([[1e30]])
    assert encoder(typo).pooled[0, 0] == 4.0


def test_counts_by_hand():
    encoder = CodeCounts(CodeCountsConfig(vocabulary_size=5, birth_id=4))
    inputs = events(
        [[4, 2, 3, 2], [3], []],
        [[None, 5.0, None, 7.0], [None], []],
        [[3652.5, 9.0, 4.0, 1.0], [2.0], []],
    )
    counts, values, known = encoder._counts(inputs)
    assert counts[0, 2] == pytest.approx(math.log(3))
    assert counts[0, 3] == pytest.approx(math.log(2))
    assert values[0, 2] == 7.0
    assert values[0, 4] == pytest.approx(10.0)
    assert not known[1].any()
    encoded = encoder(inputs)
    assert isinstance(encoded.layout, CodeVocabulary)
    assert encoded.layout.code_ids[0].tolist() == [2, 3, 4]
    assert encoded.mask.tolist() == [[True] * 3, [True, False, False], [False] * 3]
    assert encoded.present.tolist() == [True, True, False]


def test_clmbr_never_looks_ahead():
    torch.manual_seed(0)
    encoder = CLMBR(CLMBRConfig(vocabulary_size=9, token_width=16)).eval()
    days = [[9.0, 5.0, 2.0, 1.0]]
    first = encoder(events([[2, 3, 4, 5]], [[None] * 4], days)).tokens
    other = encoder(events([[2, 3, 4, 8]], [[None] * 4], days)).tokens
    assert torch.allclose(first[:, :3], other[:, :3], atol=1e-6)
    assert not torch.allclose(first[:, 3], other[:, 3], atol=1e-3)


def test_clmbr_ignores_padding():
    torch.manual_seed(0)
    encoder = CLMBR(CLMBRConfig(vocabulary_size=9, token_width=16)).eval()
    alone = encoder(events([[2, 3]], [[None, 1.0]], [[5.0, 1.0]]))
    both = encoder(events([[2, 3], [4, 5, 6]], [[None, 1.0], [None] * 3], [[5, 1], [3, 2, 1]]))
    assert torch.allclose(alone.pooled[0], both.pooled[0], atol=1e-5)
    assert torch.allclose(alone.tokens[0], both.tokens[0, :2], atol=1e-5)


def test_next_code_pretraining_learns_a_grammar():
    """Codes 2, 3, 4 follow each other in a circle: the next code becomes certain."""
    torch.manual_seed(0)
    rows = [[2 + (start + i) % 3 for i in range(12)] for start in range(3)] * 20
    inputs = events(rows, [[None] * 12] * 60, [[float(12 - i) for i in range(12)]] * 60)
    encoder = CLMBR(CLMBRConfig(vocabulary_size=5, token_width=16, n_heads=2, dropout=0.0))
    before = float(encoder.pretraining_loss(inputs)["next_code"].detach())
    pretrain_clmbr(encoder, inputs, epochs=25, learning_rate=1e-2)
    after = float(encoder.pretraining_loss(inputs)["next_code"].detach())
    assert before > 0.9
    assert after < 0.05


def test_ct_tokens_lie_on_their_grid():
    torch.manual_seed(0)
    config = CTResNetConfig(shape=(32, 48, 48), spacing_mm=(11, 7.2, 7.2), token_grid=(2, 6, 6))
    encoder = CTResNet(config).eval()
    volume = torch.randn(2, 1, 32, 48, 48) * 100 - 500
    one = torch.tensor([True, False])
    with torch.no_grad():
        calm = encoder(ModalityInput(Kind.VOLUME, {"volume": volume}, one))
        volume[0, 0, 4:8, 42:46, 2:6] = 400.0
        lesion = encoder(ModalityInput(Kind.VOLUME, {"volume": volume}, one))
    assert isinstance(calm.layout, VoxelGrid)
    assert calm.layout.shape == (2, 6, 6)
    assert calm.layout.spacing_mm == pytest.approx((176.0, 57.6, 57.6))
    assert not calm.mask[1].any()
    assert calm.tokens[1].abs().max() == 0
    change = (lesion.tokens - calm.tokens)[0].abs().sum(-1)
    assert change.argmax() == 0 * 36 + 5 * 6 + 0  # slab 0, row 5, column 0


def test_ct_grid_must_be_whole_cells():
    with pytest.raises(ValueError, match="must divide its eighth"):
        CTResNetConfig(shape=(32, 48, 48))


def test_ct_refuses_another_grid():
    encoder = CTResNet(CTResNetConfig())
    wrong = ModalityInput(
        Kind.VOLUME, {"volume": torch.zeros(1, 1, 24, 48, 48)}, torch.tensor([True])
    )
    with pytest.raises(ValueError, match=r"reads volumes of \(48, 96, 96\)"):
        encoder(wrong)


def test_bag_pool_is_a_mean_when_instances_are_equal():
    torch.manual_seed(0)
    encoder = GatedAttentionMIL(GatedAttentionMILConfig(feature_width=6)).eval()
    instance = torch.randn(1, 1, 6)
    bag = instance.repeat(1, 4, 1)
    encoded = encoder(
        ModalityInput(
            Kind.BAG,
            {"features": bag, "mask": torch.ones(1, 4, dtype=torch.bool)},
            torch.tensor([True]),
        )
    )
    assert torch.allclose(encoded.pooled, encoded.tokens[:, 0], atol=1e-6)


def test_an_encoder_refuses_another_kind():
    encoder = TableEncoder(TableConfig(columns=(TableColumn(name="a"),)))
    with pytest.raises(ValueError, match="kind 'table', not 'bag'"):
        encoder(ModalityInput(Kind.BAG, {}, torch.tensor([True])))


def test_weights_hash_sees_values_names_and_shapes():
    state = {"a": torch.zeros(2, 3), "b": torch.ones(1)}
    assert weights_hash(state) == weights_hash(dict(reversed(state.items())))
    assert weights_hash(state) != weights_hash({**state, "b": torch.full((1,), 2.0)})
    assert weights_hash(state) != weights_hash({**state, "a": torch.zeros(3, 2)})


@pytest.mark.parametrize("name", list(ENCODERS))
def test_every_encoder_states_what_it_gives(name):
    cls = ENCODERS.get(name)
    assert cls.__doc__
    assert "tokens (B" in cls.__doc__ or "token for each" in cls.__doc__
    assert "pooled (B" in cls.__doc__
