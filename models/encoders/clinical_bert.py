"""A told table read by a published BERT, e.g. Bio-ClinicalBERT, from a folder on this machine."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from models.contracts import Encoded, Kind, ModalityInput, TextTokens
from models.encoders.base import (
    ENCODERS,
    EncoderConfig,
    ModalityEncoder,
    SummaryOfTokens,
)
from models.encoders.published import load_exactly, read_published
from models.sentences import Sentences

CONFIG_FILE, WORDS_FILE, WEIGHTS_FILE = "config.json", "vocab.txt", "model.safetensors"
_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
# Where the published names of a layer's parts lie here.
_PARTS = {
    "attention.self.query.": "query.",
    "attention.self.key.": "key.",
    "attention.self.value.": "value.",
    "attention.output.dense.": "out.",
    "attention.output.LayerNorm.": "norm_attention.",
    "intermediate.dense.": "wide.",
    "output.dense.": "narrow.",
    "output.LayerNorm.": "norm_feed.",
}


class ClinicalBERTConfig(EncoderConfig):
    """How the table is told, and where the weights lie.

    path: a folder with `config.json`, `vocab.txt` and `model.safetensors` as published for BERT.
    max_pieces: word pieces that are read, start and end included. lower_case: whether words are
    read in lower case; where None, as `tokenizer_config.json` in the folder says, else not.
    """

    sentences: Sentences
    path: str
    max_pieces: int = Field(default=512, gt=2)
    lower_case: bool | None = None


class WordPieces:
    """BERT's word pieces: the longest known piece first, `##` before one inside a word."""

    def __init__(self, words: list[str], lower_case: bool) -> None:
        self.ids = {word: i for i, word in enumerate(words)}
        self.lower_case = lower_case
        self._known: dict[str, list[int]] = {}

    def __call__(self, word: str) -> list[int]:
        """Ids of a word's pieces, at least one."""
        if word not in self._known:
            self._known[word] = [i for part in self._parts(word) for i in self._pieces(part)]
        return self._known[word] or [self.ids["[UNK]"]]

    def _parts(self, word: str) -> list[str]:
        """A word cut at white space and at every punctuation mark."""
        if self.lower_case:
            bare = unicodedata.normalize("NFD", word.lower())
            word = "".join(c for c in bare if unicodedata.category(c) != "Mn")
        spaced = "".join(f" {c} " if _is_mark(c) else c for c in word)
        return spaced.split()

    def _pieces(self, part: str) -> list[int]:
        ids, start = [], 0
        while start < len(part):
            for end in range(len(part), start, -1):
                piece = ("##" if start else "") + part[start:end]
                if piece in self.ids:
                    ids.append(self.ids[piece])
                    break
            else:
                return [self.ids["[UNK]"]]
            start = end
        return ids


def _is_mark(character: str) -> bool:
    ascii_mark = character.isascii() and character.isprintable() and not character.isalnum()
    return (ascii_mark and character != " ") or unicodedata.category(character).startswith("P")


class BertLayer(nn.Module):
    """Post-norm transformer layer (Devlin et al. 2019)."""

    def __init__(self, sizes: Mapping[str, int], eps: float) -> None:
        super().__init__()
        width, hidden = sizes["hidden_size"], sizes["intermediate_size"]
        self.heads = sizes["num_attention_heads"]
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.norm_attention = nn.LayerNorm(width, eps=eps)
        self.wide, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm_feed = nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D); keys (B, N) bool, at least one a row."""
        q, k, v = (
            part(x).view(*x.shape[:2], self.heads, -1).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=keys[:, None, None])
        x = self.norm_attention(x + self.out(mixed.transpose(1, 2).flatten(2)))
        fed: Tensor = self.norm_feed(x + self.narrow(F.gelu(self.wide(x))))
        return fed


@ENCODERS.register("clinical_bert")
class ClinicalBERTEncoder(ModalityEncoder, SummaryOfTokens):
    """Reads the sentences of a table row with a published BERT, as TGMM does (section 4.2.1).

    tokens (B, N, 768): word n of the text as the mean of its word pieces' last states.
    pooled (B, 768): mean over the words. Numbers are read by their digits, as text, so no gradient
    reaches them. What does not fit into `max_pieces` is masked, words at the end first.

    Written for weights alone: nothing of the folder is run. Raises ValueError when a file is
    missing or holds another network.
    """

    kind = Kind.TEXT
    Config = ClinicalBERTConfig

    def __init__(self, config: ClinicalBERTConfig) -> None:
        super().__init__(config)
        self.config: ClinicalBERTConfig = config
        self.sentences = config.sentences
        folder = Path(config.path)
        for name in (CONFIG_FILE, WORDS_FILE, WEIGHTS_FILE):
            if not (folder / name).is_file():
                raise ValueError(
                    f"{folder / name}: there is no such file; put the published {CONFIG_FILE}, "
                    f"{WORDS_FILE} and weights (as {WEIGHTS_FILE}, not as a pickle) there."
                )
        sizes, eps = _sizes(folder / CONFIG_FILE)
        width = sizes["hidden_size"]
        words = (folder / WORDS_FILE).read_text(encoding="utf-8").split("\n")
        self.pieces = WordPieces([w for w in words if w], self._lower_case(folder))
        lacking = [w for w in ("[CLS]", "[SEP]", "[UNK]") if w not in self.pieces.ids]
        if lacking:
            raise ValueError(f"{folder / WORDS_FILE}: lacks '{lacking[0]}'; restore the file.")
        self.max_pieces = min(config.max_pieces, sizes["max_position_embeddings"])
        self.word = nn.Embedding(sizes["vocab_size"], width)
        self.place = nn.Embedding(sizes["max_position_embeddings"], width)
        self.segment = nn.Embedding(sizes["type_vocab_size"], width)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.layers = nn.ModuleList(
            BertLayer(sizes, eps) for _ in range(sizes["num_hidden_layers"])
        )
        path = folder / WEIGHTS_FILE
        load_exactly(self, _renamed(read_published(path)), path, f"the network in {CONFIG_FILE}")
        self.token_width = width
        self.pooled_width = width

    def _lower_case(self, folder: Path) -> bool:
        if self.config.lower_case is not None:
            return self.config.lower_case
        path = folder / "tokenizer_config.json"
        return bool(_read_json(path).get("do_lower_case", False)) if path.is_file() else False

    def states(self, ids: Tensor, keys: Tensor) -> Tensor:
        """(B, M, D) last states of word pieces (B, M) where `keys` (B, M)."""
        x = self.word(ids) + self.place.weight[: ids.shape[1]] + self.segment.weight[0]
        x = cast(Tensor, self.norm(x))
        for layer in self.layers:
            x = cast(Tensor, layer(x, keys))
        return x

    def forward(self, inputs: ModalityInput) -> Encoded:
        """One token a word of the sentences."""
        fields = inputs.fields
        rows, n = fields["mask"].shape
        device = fields["mask"].device
        start, stop = self.pieces.ids["[CLS]"], self.pieces.ids["[SEP]"]
        told: list[list[int]] = []
        owners: list[list[int]] = []
        for row in range(rows):
            ids, owner = [start], [n]
            words = self.sentences.text(fields, row) if bool(inputs.present[row]) else []
            for at, word in enumerate(words):
                pieces = self.pieces(word.word)
                if len(ids) + len(pieces) + 1 > self.max_pieces:
                    break
                ids += pieces
                owner += [at] * len(pieces)
            told.append([*ids, stop])
            owners.append([*owner, n])
        longest = max(len(ids) for ids in told)
        padded = torch.zeros(rows, longest, dtype=torch.int64, device=device)
        # Start, end and padding belong to a word after the last, which is dropped.
        owned = torch.full((rows, longest), n, dtype=torch.int64, device=device)
        keys = torch.zeros(rows, longest, dtype=torch.bool, device=device)
        for row, (ids, owner) in enumerate(zip(told, owners, strict=True)):
            padded[row, : len(ids)] = torch.tensor(ids, device=device)
            owned[row, : len(ids)] = torch.tensor(owner, device=device)
            keys[row, : len(ids)] = True
        states = self.states(padded, keys)
        at_word = owned[..., None].expand_as(states)
        total = states.new_zeros(rows, n + 1, states.shape[2]).scatter_add(1, at_word, states)
        count = states.new_zeros(rows, n + 1).scatter_add(1, owned, keys.to(states.dtype))
        mask = count[:, :n] > 0
        tokens = (total / count.clamp_min(1)[..., None])[:, :n] * mask[..., None]
        return Encoded(
            tokens=tokens,
            mask=mask,
            pooled=self.summarise(tokens, mask),
            present=inputs.present,
            layout=TextTokens(),
        )

    def summarise(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Mean of the words that are there; zeros where there is none."""
        keep = mask[..., None]
        mean: Tensor = (tokens * keep).sum(dim=1) / keep.sum(dim=1).clamp_min(1)
        return mean


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as JSON ({error}); restore the file.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds no settings by name; restore the file.")
    return content


def _sizes(path: Path) -> tuple[dict[str, int], float]:
    content = _read_json(path)
    lacking = next((name for name in _SIZES if not isinstance(content.get(name), int)), None)
    if lacking is not None:
        raise ValueError(f"{path}: lacks '{lacking}'; give the config of a BERT model.")
    activation = content.get("hidden_act", "gelu")
    places = content.get("position_embedding_type", "absolute")
    if (activation, places) != ("gelu", "absolute"):
        raise ValueError(
            f"{path}: hidden_act '{activation}' with {places} positions is not read; give a BERT "
            "with gelu and absolute positions."
        )
    return {name: content[name] for name in _SIZES}, float(content.get("layer_norm_eps", 1e-12))


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published tensors by the names used here; heads, the pooler and counters are left out."""
    renamed = {}
    top = {
        "embeddings.word_embeddings.": "word.",
        "embeddings.position_embeddings.": "place.",
        "embeddings.token_type_embeddings.": "segment.",
        "embeddings.LayerNorm.": "norm.",
    }
    for published, tensor in state.items():
        name = published.removeprefix("bert.")
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight")
        name = name.replace("LayerNorm.beta", "LayerNorm.bias")
        if name.startswith(("cls.", "pooler.")) or name == "embeddings.position_ids":
            continue
        for theirs, ours in top.items():
            if name.startswith(theirs):
                name = ours + name.removeprefix(theirs)
        if name.startswith("encoder.layer."):
            number, part = name.removeprefix("encoder.layer.").split(".", 1)
            for theirs, ours in _PARTS.items():
                if part.startswith(theirs):
                    name = f"layers.{number}.{ours}{part.removeprefix(theirs)}"
        renamed[name] = tensor
    return renamed
