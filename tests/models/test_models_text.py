from __future__ import annotations

import math

import pytest
import torch

from models.contracts import Kind, ModalityInput, TextTokens
from models.encoders.base import build_encoder
from models.encoders.table import TableColumn, TableConfig, TableEncoder
from models.encoders.text import TableTextConfig, TableTextEncoder, TextBlock
from models.sentences import NUMBER, SPECIAL, UNKNOWN, Sentences, TextColumn, joined, split

SENTENCES = Sentences(
    columns=(
        TextColumn(name="age", title="Age", unit="years"),
        TextColumn(name="bnp", title="NT-proBNP", unit="pg/mL"),
        TextColumn(name="diabetes", title="History of diabetes", kind="binary"),
        TextColumn(name="sex", title="Sex", kind="nominal", categories=("female", "male")),
        TextColumn(
            name="nyha", kind="ordinal", categories=("class I", "class II", "class III, IV")
        ),
        TextColumn(name="alcohol", kind="ordinal", unit="units a week"),
    ),
    further_words=("Does the patient have heart failure?",),
)
VALUES = torch.tensor(
    [
        [71.0, 1250.5, 1.0, 0.0, 2.0, 3.0],
        [55.0, 0.0, 0.0, 1.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    ]
)
MASK = torch.tensor([[True] * 6, [True, False, True, True, True, True], [False] * 6])


def text(values: torch.Tensor = VALUES, mask: torch.Tensor = MASK) -> ModalityInput:
    return ModalityInput(Kind.TEXT, SENTENCES.encode(values, mask), mask.any(dim=1))


def encoder(**more: object) -> TableTextEncoder:
    torch.manual_seed(0)
    return TableTextEncoder(TableTextConfig(sentences=SENTENCES, **more)).eval()


def test_a_row_is_told_in_the_words_of_the_paper():
    fields = SENTENCES.encode(VALUES, MASK)
    assert joined([told.word for told in SENTENCES.text(fields, 0)]) == (
        "Age of the patient is 71 years. NT-proBNP of the patient is 1250 pg/mL. "
        "History of diabetes of the patient is yes. Sex of the patient is female. "
        "nyha of the patient is class III, IV. alcohol of the patient is 3 units a week."
    )
    told = joined([word.word for word in SENTENCES.text(fields, 1)])
    assert "NT-proBNP" not in told
    assert told.startswith("Age of the patient is 55 years. History of diabetes of the patient is")
    assert SENTENCES.text(fields, 2) == []
    assert not fields["mask"][2].any()


def test_numbers_travel_beside_the_text_and_words_know_their_column():
    fields = SENTENCES.encode(VALUES, MASK)
    numbers = fields["numbers"][0][fields["is_number"][0]]
    assert numbers.tolist() == [71.0, 1250.5, 3.0]
    assert (fields["tokens"][fields["is_number"]] == NUMBER).all()
    assert (fields["numbers"][~fields["is_number"]] == 0).all()
    words = SENTENCES.text(fields, 0)
    assert [w.word for w in words if w.is_value] == [
        "71", "1250", "yes", "female", "class III, IV", "3",
    ]  # fmt: skip
    spans = SENTENCES.spans(fields, 1)
    assert list(spans) == ["age", "diabetes", "sex", "nyha", "alcohol"]
    assert spans["diabetes"] == slice(8, 17)


def test_what_was_told_can_be_read_back():
    values, mask = SENTENCES.decode(SENTENCES.encode(VALUES, MASK))
    assert torch.equal(mask, MASK)
    assert torch.equal(values[mask], VALUES[MASK])
    assert (values[~mask] == 0).all()


def test_the_vocabulary_is_fixed_and_holds_the_guidance():
    words = SENTENCES.words
    assert words[:3] == SPECIAL
    assert len(set(words)) == len(words)
    assert {"NT-proBNP", "pg/mL", "class III, IV", "failure", "?"} <= set(words)
    ids = SENTENCES.ids("Does the patient have gout?")
    assert [words[i] for i in ids] == ["Does", "the", "patient", "have", "[unknown]", "?"]
    assert ids[4] == UNKNOWN
    again = Sentences.model_validate(SENTENCES.model_dump(mode="json"))
    assert again.words == words


def test_split_keeps_units_and_decimals_whole():
    assert split("pH 7.35, E/e' of 12:1.") == ["pH", "7.35", ",", "E/e'", "of", "12:1", "."]


def test_values_that_cannot_be_told_are_named():
    one = MASK[:1]
    with pytest.raises(ValueError, match=r"'nyha' is 3, but its categories are numbered 0 to 2"):
        SENTENCES.encode(torch.tensor([[71.0, 1.0, 1.0, 0.0, 3.0, 0.0]]), one)
    with pytest.raises(ValueError, match="'age' is nan"):
        SENTENCES.encode(torch.tensor([[math.nan, 1.0, 1.0, 0.0, 1.0, 0.0]]), one)
    with pytest.raises(ValueError, match="tell 6 columns"):
        SENTENCES.encode(torch.zeros(1, 5), torch.ones(1, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match="'age' is told twice"):
        Sentences(columns=(TextColumn(name="age"), TextColumn(name="age")))
    with pytest.raises(ValueError, match="nominal: name its categories"):
        TextColumn(name="sex", kind="nominal")


def test_the_linear_path_is_that_of_the_table():
    """The end of the summary is what the table encoder makes of the same rows."""
    generator = torch.Generator().manual_seed(0)
    n = 60
    values = torch.stack(
        [
            torch.randn(n, generator=generator) * 9 + 70,
            torch.randn(n, generator=generator).mul(1.5).exp() * 500,
            torch.randint(0, 2, (n,), generator=generator).float(),
            torch.randint(0, 2, (n,), generator=generator).float(),
            torch.randint(0, 3, (n,), generator=generator).float(),
            torch.randint(0, 9, (n,), generator=generator).float(),
        ],
        dim=1,
    )
    mask = torch.rand(n, 6, generator=generator) > 0.2
    mask[0] = False
    told = encoder()
    told.fit(text(values, mask))
    columns = tuple(
        TableColumn(name=c.name, kind=c.kind, n_categories=2 if c.kind == "nominal" else 0)
        for c in SENTENCES.columns
    )
    table = TableEncoder(TableConfig(columns=columns))
    rows = ModalityInput(Kind.TABLE, {"values": values, "mask": mask}, mask.any(dim=1))
    table.fit(rows)
    assert bool(table.log_scale[1])
    assert torch.allclose(
        told(text(values, mask)).pooled[:, told.token_width :], table(rows).pooled, atol=1e-5
    )


def test_a_patient_alone_is_the_same_as_in_a_batch_and_absence_is_marked():
    told = encoder()
    batch = told(text())
    alone = told(text(VALUES[1:2], MASK[1:2]))
    n = int(alone.mask.sum())
    assert isinstance(batch.layout, TextTokens)
    assert torch.allclose(batch.tokens[1, :n], alone.tokens[0], atol=1e-5)
    assert torch.allclose(batch.pooled[1], alone.pooled[0], atol=1e-5)
    assert batch.mask.sum(dim=1).tolist() == [49, n, 0]
    assert n == 41
    assert batch.present.tolist() == [True, True, False]
    assert batch.tokens[2].abs().max() == 0
    assert batch.pooled[2].abs().max() == 0
    assert torch.isfinite(batch.tokens).all()
    hidden = text()
    hidden = ModalityInput(hidden.kind, hidden.fields, torch.tensor([False, True, False]))
    assert told(hidden).pooled[0].abs().max() == 0
    assert not told(hidden).mask[0].any()


def test_values_reach_the_summary_with_a_gradient():
    told = encoder()
    inputs = text()
    numbers = inputs.fields["numbers"].clone().requires_grad_()
    fields = {**inputs.fields, "numbers": numbers}
    pooled = told(ModalityInput(Kind.TEXT, fields, inputs.present)).pooled
    pooled[:, : told.token_width].sum().backward()
    reached = numbers.grad != 0
    # The 1250.5 pg/mL lie beyond 4 sd of a scale that was not fitted; 71 years do as well.
    assert reached[inputs.fields["is_number"]].sum() == 2
    told.table.mean.copy_(torch.tensor([60.0, 1200.0, 0.5, 0.5, 0.5, 1.0, 2.0]))
    told.table.scale.copy_(torch.tensor([10.0, 300.0, 0.5, 0.5, 0.5, 1.0, 2.0]))
    numbers.grad = None
    pooled = told(ModalityInput(Kind.TEXT, fields, inputs.present)).pooled
    pooled[:, : told.token_width].sum().backward()
    assert torch.equal(numbers.grad != 0, inputs.fields["is_number"])


def test_in_training_some_words_are_looked_at_by_nobody_but_never_all():
    torch.manual_seed(0)
    block = TextBlock(8, 2, dropout=0.5)
    keys = torch.ones(400, 5, dtype=torch.bool)
    keys[:, 3:] = False
    seen = block._looked_at(keys)[:, 0, 0]
    assert not bool(seen[:, 3:].any())
    assert bool(seen.any(dim=1).all())
    # Half of the words stay, and where none would (1 in 8) all three do.
    assert float(seen[:, :3].float().mean()) == pytest.approx(0.5 + 1 / 8, abs=0.05)
    assert torch.equal(block.eval()._looked_at(keys)[:, 0, 0], keys)


def test_it_learns_an_interaction_that_a_linear_path_cannot():
    """Risk is high with diabetes and a low value, or a high value without diabetes."""
    generator = torch.Generator().manual_seed(1)
    values = torch.zeros(192, 6)
    values[:, 0] = torch.randn(192, generator=generator)
    values[:, 2] = torch.randint(0, 2, (192,), generator=generator).float()
    mask = torch.zeros(192, 6, dtype=torch.bool)
    mask[:, [0, 2]] = True
    label = ((values[:, 0] > 0) ^ (values[:, 2] > 0)).float()
    inputs = text(values, mask)
    told = encoder(token_width=16, n_heads=2, dropout=0.0)
    told.fit(inputs)
    head = torch.nn.Linear(16, 1)
    optimizer = torch.optim.AdamW([*told.parameters(), *head.parameters()], lr=3e-3)
    for _ in range(80):
        logit = head(told(inputs).pooled[:, :16])[:, 0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logit, label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert ((logit > 0) == (label > 0)).float().mean() > 0.95
    trained = [name for name, p in told.named_parameters() if p.grad is None]
    assert trained == []


def test_it_is_rebuilt_from_its_config():
    told = encoder()
    config = told.config.model_dump(mode="json")
    again = build_encoder("table_text", config).eval()
    again.load_state_dict(told.state_dict())
    assert torch.equal(again(text()).pooled, told(text()).pooled)
