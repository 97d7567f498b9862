from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.contracts import Encoded, Kind, LeadTimeGrid, ModalityInput
from models.encoders.stmem import STMEM, STMEMConfig

SMALL = STMEMConfig(leads=("I", "II", "V1"), seconds=1.2, width=12, depth=2, heads=3, feed_width=24)


def ecg(signal: Tensor, mask: Tensor | None = None, present: Tensor | None = None) -> ModalityInput:
    if mask is None:
        mask = torch.ones(signal.shape, dtype=torch.bool)
    if present is None:
        present = torch.ones(len(signal), dtype=torch.bool)
    return ModalityInput(Kind.SIGNAL, {"signal": signal, "mask": mask}, present)


def small() -> STMEM:
    torch.manual_seed(0)
    return STMEM(SMALL).eval()


def published(depth: int = 12, width: int = 768, feed: int = 3072) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published encoder (166 tensors without a head)."""
    shapes: dict[str, tuple[int, ...]] = {
        "pos_embedding": (1, 32, width),
        "sep_embedding": (width,),
        "to_patch_embedding.1.weight": (75,),
        "to_patch_embedding.1.bias": (75,),
        "to_patch_embedding.2.weight": (width, 75),
        "to_patch_embedding.2.bias": (width,),
        "to_patch_embedding.3.weight": (width,),
        "to_patch_embedding.3.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    shapes |= {f"lead_embeddings.{i}": (width,) for i in range(12)}
    for i in range(depth):
        for norm in ("attn.norm", "ff.norm"):
            shapes[f"block{i}.{norm}.weight"] = shapes[f"block{i}.{norm}.bias"] = (width,)
        for name, outside, inside in (
            ("attn.fn.to_qkv", 3 * width, width),
            ("attn.fn.to_out.0", width, width),
            ("ff.fn.net.0", feed, width),
            ("ff.fn.net.3", width, feed),
        ):
            shapes[f"block{i}.{name}.weight"] = (outside, inside)
            shapes[f"block{i}.{name}.bias"] = (outside,)
    return shapes


def test_the_default_has_exactly_the_published_tensors():
    with torch.device("meta"):
        encoder = STMEM(STMEMConfig())
    own = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
    assert own == published()
    assert len(own) == 166
    assert (encoder.config.samples, encoder.n_patches) == (2250, 30)


def shallow(path: Path, content: object) -> STMEM:
    torch.manual_seed(1)
    encoder = STMEM(STMEMConfig(width=24, heads=3, depth=2, feed_width=48)).eval()
    torch.save(content, path)
    encoder.load_published(path)
    return encoder


def test_published_files_of_all_three_forms_are_read(tmp_path: Path):
    torch.manual_seed(2)
    bare = {name: torch.randn(shape) for name, shape in published(2, 24, 48).items()}
    head = {"head.weight": torch.randn(5, 24), "head.bias": torch.randn(5)}
    full = {f"encoder.{name}": tensor for name, tensor in (bare | head).items()}
    full |= {n: t for n, t in bare.items() if n.startswith("to_patch_embedding")}
    full |= {
        "to_decoder_embedding.weight": torch.randn(16, 24),
        "mask_embedding": torch.randn(16),
        "decoder_pos_embed": torch.randn(1, 32, 16),
        "decoder_blocks.0.attn.norm.weight": torch.randn(16),
        "decoder_norm.weight": torch.randn(16),
        "decoder_head.weight": torch.randn(75, 16),
    }
    checkpoint = {"epoch": 3, "model": full, "optimizer": {"state": {}}, "config": {"lr": 1e-3}}
    signal = torch.randn(1, 12, 2250)
    outputs = []
    for i, content in enumerate((bare, {"model": bare | head, "epoch": 1}, checkpoint)):
        with torch.no_grad():
            outputs.append(shallow(tmp_path / f"{i}.pth", content)(ecg(signal)).pooled)
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


def test_other_files_are_refused_in_words(tmp_path: Path):
    good = {name: torch.randn(shape) for name, shape in published(2, 24, 48).items()}
    with pytest.raises(ValueError, match=r"holds an unexpected 'block2\.attn\.fn\.to_out"):
        shallow(tmp_path / "deep.pth", {n: torch.zeros(s) for n, s in published(3, 24, 48).items()})
    lacking = {name: tensor for name, tensor in good.items() if name != "sep_embedding"}
    with pytest.raises(ValueError, match="lacks 'sep_embedding'"):
        shallow(tmp_path / "lacking.pth", lacking)
    with pytest.raises(ValueError, match=r"'norm.bias' is \(25,\) instead of \(24,\)"):
        shallow(tmp_path / "wide.pth", good | {"norm.bias": torch.zeros(25)})
    with pytest.raises(ValueError, match=r"'norm\.bias' holds values that are not finite"):
        shallow(tmp_path / "nan.pth", good | {"norm.bias": torch.full((24,), math.nan)})
    with pytest.raises(ValueError, match="holds no weights by name"):
        shallow(tmp_path / "list.pth", [1, 2])
    with pytest.raises(ValueError, match="there is no such file"):
        small().load_published(tmp_path / "none.pth")


class Stranger:
    """Something that only runs if a file may run code."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path("ran").touch, ())


def test_a_file_with_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {"norm.bias": Stranger()}}, tmp_path / "code.pth")
    with pytest.raises(ValueError, match="holds no weights by name"):
        small().load_published(tmp_path / "code.pth")
    assert not (tmp_path / "ran").exists()


def by_hand(encoder: STMEM, signal: Tensor) -> tuple[Tensor, Tensor]:
    """One ECG through the published tensors, token by token and head by head."""
    w = encoder.state_dict()
    norm = torch.nn.functional.layer_norm

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def normed(x: Tensor, name: str) -> Tensor:
        return norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    z = (signal - signal.mean()) / signal.std(correction=0)
    sequence = []
    for lead in range(len(signal)):
        patches = z[lead].reshape(-1, 75)
        x = normed(linear(normed(patches, "to_patch_embedding.1"), "to_patch_embedding.2"),
                   "to_patch_embedding.3")  # fmt: skip
        place, separator = w["pos_embedding"][0], w["sep_embedding"][None]
        whole = torch.cat([separator + place[:1], x + place[1:-1], separator + place[-1:]])
        sequence.append(whole + w[f"lead_embeddings.{lead}"])
    x = torch.cat(sequence)
    for i in range(encoder.config.depth):
        q, k, v = linear(normed(x, f"block{i}.attn.norm"), f"block{i}.attn.fn.to_qkv").chunk(3, 1)
        size = encoder.config.width // encoder.config.heads
        heads = []
        for h in range(encoder.config.heads):
            s = slice(h * size, (h + 1) * size)
            heads.append(torch.softmax(q[:, s] @ k[:, s].T / math.sqrt(size), dim=1) @ v[:, s])
        x = x + linear(torch.cat(heads, dim=1), f"block{i}.attn.fn.to_out.0")
        hidden = linear(normed(x, f"block{i}.ff.norm"), f"block{i}.ff.fn.net.0")
        x = x + linear(torch.nn.functional.gelu(hidden), f"block{i}.ff.fn.net.3")
    tokens = x.reshape(len(signal), -1, x.shape[1])[:, 1:-1].flatten(0, 1)
    return tokens, normed(tokens.mean(dim=0), "norm")


def test_it_is_the_transformer_of_the_paper():
    encoder = small()
    signal = torch.randn(2, 3, 300)
    with torch.no_grad():
        encoded = encoder(ecg(signal))
        tokens, pooled = by_hand(encoder, signal[1])
    assert torch.allclose(encoded.tokens[1], tokens, atol=1e-5)
    assert torch.allclose(encoded.pooled[1], pooled, atol=1e-5)
    layout = encoded.layout
    assert isinstance(layout, LeadTimeGrid)
    assert (layout.leads, layout.steps, layout.step_s) == (SMALL.leads, 4, 0.3)


def test_a_missing_lead_is_as_if_it_were_not_asked_for():
    """The network of two leads says of two leads what that of three says without the third."""
    encoder = small()
    two = STMEM(SMALL.model_copy(update={"leads": ("I", "V1")})).eval()
    state = encoder.state_dict()
    state["lead_embeddings.1"] = state.pop("lead_embeddings.2")
    two.load_state_dict(state)
    signal = torch.randn(1, 3, 300)
    mask = torch.ones(1, 3, 300, dtype=torch.bool)
    mask[0, 1] = False
    signal[0, 1] = math.nan
    with torch.no_grad():
        part = encoder(ecg(signal, mask))
        whole = two(ecg(signal[:, [0, 2]]))
    assert torch.allclose(part.pooled, whole.pooled, atol=1e-5)
    assert torch.allclose(part.tokens[part.mask], whole.tokens[0], atol=1e-5)
    assert part.mask[0].tolist() == [True] * 4 + [False] * 4 + [True] * 4


def test_a_gap_is_seen_by_no_other_token():
    encoder = small()
    signal = torch.randn(1, 3, 300)
    mask = torch.ones(1, 3, 300, dtype=torch.bool)
    mask[0, 2, 75:150] = False
    other = signal.clone()
    other[0, 2, 75:150] = 9.0
    with torch.no_grad():
        one, two = encoder(ecg(signal, mask)), encoder(ecg(other, mask))
    assert torch.equal(one.tokens, two.tokens)
    assert torch.nonzero(~one.mask)[:, 1].tolist() == [9]


def test_absent_patients_and_batches_of_one():
    encoder = small()
    signal = torch.randn(3, 3, 300)
    with torch.no_grad():
        batch: Encoded = encoder(ecg(signal, present=torch.tensor([True, False, True])))
        alone = encoder(ecg(signal[2:]))
    assert not batch.mask[1].any()
    assert batch.tokens[1].abs().max() == 0
    assert batch.pooled[1].abs().max() == 0
    assert torch.allclose(batch.pooled[2], alone.pooled[0], atol=1e-5)
    assert torch.equal(encoder.summarise(batch.tokens, batch.mask), batch.pooled)


def test_maps_lie_on_leads_and_time_and_take_a_gradient():
    encoder = small().requires_grad_(False)
    seen: dict[str, Tensor] = {}

    def keep(name: str, out: Tensor) -> None:
        out.retain_grad()
        seen[name] = out

    for name in encoder.map_layers:
        encoder.get_submodule(name).register_forward_hook(
            lambda _m, _i, out, name=name: keep(name, out)
        )
    signal = torch.randn(1, 3, 300, requires_grad=True)
    encoded = encoder(ecg(signal))
    encoded.pooled[0, 0].backward()
    assert (signal.grad != 0).float().mean() > 0.9
    for activation in seen.values():
        assert activation.shape == (1, 12, 3, 4)
        assert activation.grad is not None
        assert bool((activation.grad.abs().sum(dim=1) > 0).all())
    last = seen["last"][0].flatten(1).T
    assert torch.allclose(last, encoded.tokens[0], atol=1e-6)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="multiple of patch"):
        STMEMConfig(seconds=10.1)
    with pytest.raises(ValueError, match=r"ST-MEM encoder reads 3 leads of 300 samples"):
        small()(ecg(torch.zeros(1, 3, 250)))
