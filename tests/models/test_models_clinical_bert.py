from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.contracts import Kind, ModalityInput, TextTokens
from models.encoders.clinical_bert import ClinicalBERTConfig, ClinicalBERTEncoder, WordPieces
from models.sentences import Sentences, TextColumn, split

SENTENCES = Sentences(
    columns=(
        TextColumn(name="age", title="Age", unit="years"),
        TextColumn(name="ph", title="pH"),
        TextColumn(name="diabetes", title="Diabetes", kind="binary"),
    )
)
VALUES = torch.tensor([[71.0, 7.35, 1.0], [8.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
MASK = torch.tensor([[True, True, True], [True, False, True], [False, False, False]])
WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "Age", "of", "the", "patient", "is", "years", ".", "p"),
    *("##H", "##1", "7", "35", "8", "Diab", "##etes", "yes", "no", "age"),
)
CONFIG = {
    "vocab_size": len(WORDS),
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}


def tensors() -> dict[str, Tensor]:
    """Random weights under the names of a published masked-language BERT."""
    generator = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(WORDS), 24),
        "embeddings.position_embeddings.weight": (40, 24),
        "embeddings.token_type_embeddings.weight": (2, 24),
        "embeddings.LayerNorm.weight": (24,),
        "embeddings.LayerNorm.bias": (24,),
        "pooler.dense.weight": (24, 24),
        "pooler.dense.bias": (24,),
    }
    for i in range(2):
        layer = f"encoder.layer.{i}."
        for part, outside, inside in (
            ("attention.self.query", 24, 24),
            ("attention.self.key", 24, 24),
            ("attention.self.value", 24, 24),
            ("attention.output.dense", 24, 24),
            ("intermediate.dense", 48, 24),
            ("output.dense", 24, 48),
        ):
            shapes[f"{layer}{part}.weight"] = (outside, inside)
            shapes[f"{layer}{part}.bias"] = (outside,)
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"{layer}{part}.weight"] = shapes[f"{layer}{part}.bias"] = (24,)
    made = {n: torch.randn(s, generator=generator) * 0.3 for n, s in shapes.items()}
    return {f"bert.{name}": tensor for name, tensor in made.items()} | {
        "cls.predictions.bias": torch.zeros(len(WORDS)),
        "bert.embeddings.position_ids": torch.arange(40)[None],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    save_file(tensors(), tmp_path / "model.safetensors")
    return tmp_path


def bert(folder: Path, **more: object) -> ClinicalBERTEncoder:
    config = ClinicalBERTConfig(sentences=SENTENCES, path=str(folder), **more)
    return ClinicalBERTEncoder(config).eval()


def text(values: Tensor = VALUES, mask: Tensor = MASK) -> ModalityInput:
    return ModalityInput(Kind.TEXT, SENTENCES.encode(values, mask), mask.any(dim=1))


def in_words(encoder: ClinicalBERTEncoder, words: str) -> list[str]:
    return [WORDS[i] for word in words.split() for i in encoder.pieces(word)]


def test_words_are_cut_as_bert_cuts_them(folder: Path):
    encoder = bert(folder)
    assert in_words(encoder, "Diabetes pH 7.35 71 yes!") == [
        "Diab", "##etes", "p", "##H", "7", ".", "35", "7", "##1", "yes", "[UNK]",
    ]  # fmt: skip
    assert in_words(encoder, "Diabolic") == ["[UNK]"]
    assert in_words(bert(folder, lower_case=True), "Áge") == ["age"]
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    assert in_words(bert(folder), "AGE") == ["age"]
    assert WordPieces(list(WORDS), False)("") == [1]


def by_torch(state: dict[str, Tensor], ids: list[int]) -> Tensor:
    """States of one text by torch's own transformer layer."""
    own = {name.removeprefix("bert."): tensor for name, tensor in state.items()}
    x = own["embeddings.word_embeddings.weight"][ids]
    x = x + own["embeddings.position_embeddings.weight"][: len(ids)]
    x = x + own["embeddings.token_type_embeddings.weight"][0]
    norm = "embeddings.LayerNorm"
    x = nn.functional.layer_norm(x, (24,), own[f"{norm}.weight"], own[f"{norm}.bias"], 1e-12)
    for i in range(2):
        part = f"encoder.layer.{i}."
        layer = nn.TransformerEncoderLayer(24, 4, 48, 0.0, "gelu", 1e-12, batch_first=True).eval()
        qkv = [f"{part}attention.self.{name}" for name in ("query", "key", "value")]
        names = {
            "self_attn.out_proj": "attention.output.dense",
            "linear1": "intermediate.dense",
            "linear2": "output.dense",
            "norm1": "attention.output.LayerNorm",
            "norm2": "output.LayerNorm",
        }
        weights = {
            f"{ours}.{kind}": own[f"{part}{theirs}.{kind}"]
            for ours, theirs in names.items()
            for kind in ("weight", "bias")
        }
        for kind in ("weight", "bias"):
            weights[f"self_attn.in_proj_{kind}"] = torch.cat([own[f"{n}.{kind}"] for n in qkv])
        layer.load_state_dict(weights)
        x = layer(x[None])[0]
    return x


def test_a_word_is_the_mean_of_its_pieces_states(folder: Path):
    encoder = bert(folder)
    age = ["Age", "of", "the", "patient", "is", "7", "##1", "years", "."]
    ph = ["p", "##H", "of", "the", "patient", "is", "7", ".", "35", "."]
    diabetes = ["Diab", "##etes", "of", "the", "patient", "is", "yes", "."]
    pieces = ["[CLS]", *age, *ph, *diabetes, "[SEP]"]
    with torch.no_grad():
        encoded = encoder(text())
        states = by_torch(tensors(), [WORDS.index(piece) for piece in pieces])
    tokens = encoded.tokens[0][encoded.mask[0]]
    assert isinstance(encoded.layout, TextTokens)
    assert len(tokens) == 22
    assert torch.allclose(tokens[0], states[1], atol=1e-5)
    assert torch.allclose(tokens[5], states[6:8].mean(dim=0), atol=1e-5)  # 71
    assert torch.allclose(tokens[13], states[16:19].mean(dim=0), atol=1e-5)  # 7.35
    assert torch.allclose(tokens[21], states[27], atol=1e-5)
    assert torch.allclose(encoded.pooled[0], tokens.mean(dim=0), atol=1e-5)


def test_it_agrees_with_transformers(folder: Path):
    """The published implementation, where it is installed."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    model = transformers.BertModel.from_pretrained(folder, local_files_only=True).eval()
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    tokenizer = transformers.BertTokenizer.from_pretrained(folder, local_files_only=True)
    ids = tokenizer("Age of the patient is 71 years. pH is 7.35.")["input_ids"]
    encoder = bert(folder)
    words = split("Age of the patient is 71 years. pH is 7.35.")
    ours = [i for word in words for i in encoder.pieces(word)]
    assert ids == [2, *ours, 3]
    batch = torch.tensor([ids])
    with torch.no_grad():
        theirs = model(input_ids=batch).last_hidden_state
        states = encoder.states(batch, torch.ones_like(batch, dtype=torch.bool))
    assert torch.allclose(states, theirs, atol=1e-5)


def test_absent_patients_and_batches_of_one(folder: Path):
    encoder = bert(folder)
    with torch.no_grad():
        batch = encoder(text())
        alone = encoder(text(VALUES[1:2], MASK[1:2]))
    n = int(alone.mask.sum())
    assert torch.allclose(batch.tokens[1, :n], alone.tokens[0], atol=1e-5)
    assert torch.allclose(batch.pooled[1], alone.pooled[0], atol=1e-5)
    assert batch.mask.sum(dim=1).tolist() == [22, n, 0]
    assert batch.present.tolist() == [True, True, False]
    assert batch.pooled[2].abs().max() == 0


def test_what_does_not_fit_is_masked(folder: Path):
    with torch.no_grad():
        encoded = bert(folder, max_pieces=10)(text())
    # Start, eight pieces (71 has two) and the end.
    assert encoded.mask[0].tolist() == [True] * 7 + [False] * 15
    assert encoded.mask[1].tolist() == [True] * 8 + [False] * 14


def test_missing_and_foreign_files_are_named(folder: Path):
    with pytest.raises(ValueError, match=r"nowhere/config\.json: there is no such file"):
        bert(folder / "nowhere")
    state = tensors()
    del state["bert.encoder.layer.1.output.dense.bias"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"lacks 'layers\.1\.narrow\.bias'"):
        bert(folder)
    (folder / "config.json").write_text(json.dumps(CONFIG | {"hidden_act": "relu"}))
    with pytest.raises(ValueError, match="hidden_act 'relu'"):
        bert(folder)
    (folder / "config.json").write_text(json.dumps({"vocab_size": 3}))
    with pytest.raises(ValueError, match="lacks 'hidden_size'"):
        bert(folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ValueError, match=r"model\.safetensors, not as a pickle"):
        bert(folder)


def test_older_names_of_the_norms_are_read(folder: Path):
    pooled = bert(folder)(text()).pooled
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in tensors().items()
    }
    save_file(old, folder / "model.safetensors")
    assert torch.equal(bert(folder)(text()).pooled, pooled)
    assert math.isfinite(float(pooled.detach().abs().sum()))
