"""Public models, known by the names and shapes of their weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from models.importing.names import Shaped, common_prefix


@dataclass(frozen=True)
class PublicLayout:
    """A published model. signs: {name of a tensor: its shape, None for any side}.

    advice: what to do with such a file here.
    """

    title: str
    signs: Mapping[str, tuple[int | None, ...]]
    advice: str


_ADAPTER = "its network is not part of FusionLens; bring it with --adapter"
PUBLIC: tuple[PublicLayout, ...] = (
    PublicLayout(
        "ST-MEM (Na et al. 2024), the encoder of a 12-lead ECG",
        {
            "pos_embedding": (1, None, None),
            "sep_embedding": (None,),
            "to_patch_embedding.2.weight": (None, None),
            "lead_embeddings.0": (None,),
            "lead_embeddings.11": (None,),
            "block0.attn.fn.to_qkv.weight": (None, None),
            "block0.ff.fn.net.0.weight": (None, None),
        },
        "name it as the weights of a signal modality with the encoder stmem",
    ),
    PublicLayout(
        "EchoPrime (Vukadinovic et al. 2024), the video encoder",
        {
            "conv_proj.weight": (96, 3, 3, 7, 7),
            "pos_encoding.class_token": (96,),
            "blocks.0.attn.rel_pos_t": (None, None),
            "blocks.15.attn.pool_q.pool.weight": (None, None, None, None, None),
            "head.1.weight": (512, 768),
        },
        "name it as the weights of a video modality with the encoder echoprime",
    ),
    PublicLayout(
        "EchoPrime's view classifier (ConvNeXt-base)",
        {"features.0.0.weight": (128, 3, 4, 4), "classifier.2.weight": (11, 1024)},
        "it tells views apart and predicts no outcome, so it is no run",
    ),
    PublicLayout(
        "EchoPrime's text encoder",
        {"text_projection.weight": (None, None)},
        "it reads reports and predicts no outcome, so it is no run",
    ),
    PublicLayout(
        "MCAT (Chen et al. 2021), co-attention of slides and genes",
        {
            "wsi_net.0.weight": (None, 1024),
            "sig_networks.0.0.0.weight": (None, None),
            "coattn.in_proj_weight": (None, None),
            "path_attention_head.attention_a.0.weight": (None, None),
            "omic_attention_head.attention_c.weight": (1, None),
            "classifier.weight": (None, None),
        },
        _ADAPTER,
    ),
    PublicLayout(
        "CLAM (Lu et al. 2021), gated attention over a slide's tiles",
        {
            "attention_net.0.weight": (None, None),
            "instance_classifiers.0.weight": (2, None),
        },
        _ADAPTER,
    ),
    PublicLayout(
        "a 3D DenseNet121 of MONAI, as INSPECT's time-to-event pretraining uses",
        {
            "features.conv0.weight": (64, None, 7, 7, 7),
            "features.denseblock1.denselayer1.layers.conv1.weight": (128, 64, 1, 1, 1),
            "features.norm5.weight": (1024,),
        },
        _ADAPTER,
    ),
    PublicLayout(
        "a 3D ResNet of MONAI, as INSPECT's time-to-event pretraining uses",
        {
            "conv1.weight": (64, None, None, None, None),
            "bn1.running_mean": (64,),
            "layer1.0.conv1.weight": (64, None, None, None, None),
            "layer4.0.conv1.weight": (512, None, None, None, None),
        },
        _ADAPTER,
    ),
    PublicLayout(
        "a Swin UNETR of MONAI, as INSPECT's time-to-event pretraining uses",
        {
            "swinViT.patch_embed.proj.weight": (None, None, None, None, None),
            "swinViT.layers1.0.blocks.0.attn.relative_position_bias_table": (None, None),
        },
        _ADAPTER,
    ),
)


def looks_like(entries: Mapping[str, Shaped]) -> PublicLayout | None:
    """The public model whose signs are all among the tensors, under any prefix; None for none."""
    names = {re.sub(r"_orig_mod\.|_fsdp_wrapped_module\.", "", name): name for name in entries}
    for layout in PUBLIC:
        prefix = common_prefix(layout.signs, names)
        if all(
            prefix + sign in names and _fits(entries[names[prefix + sign]].shape, shape)
            for sign, shape in layout.signs.items()
        ):
            return layout
    return None


def _fits(shape: tuple[int, ...], sign: tuple[int | None, ...]) -> bool:
    return len(shape) == len(sign) and all(
        wanted is None or have == wanted for have, wanted in zip(shape, sign, strict=True)
    )
