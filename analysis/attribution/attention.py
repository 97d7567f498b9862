"""Who looks at whom: a strategy's attention with words on both axes.

The maps show what the fusion layer itself did, over tokens that the encoders made. A token of a
sequence encoder has already seen the events before it; that self-attention inside the encoder is
not part of any map here. Attention is not attribution (Jain & Wallace, NAACL 2019): a large weight
says where a token looked, not how much the prediction owes to it. `gradient` comes nearest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from analysis.attribution.case import AttributionError, Case, Subject
from analysis.attribution.labels import token_labels
from analysis.attribution.result import describe_target
from analysis.attribution.target import Target
from models.contracts import AttentionMap, Encoded
from models.encoders.bag import GatedAttentionMIL

Floats = npt.NDArray[np.float64]
Method = Literal["mean", "head", "max", "gradient", "rollout"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True, eq=False)
class LabelledAttention:
    """How much each token of `query` looks at each token of `key`.

    weights: (Q, K) float64 >= 0, over real tokens. null: (Q,) the weight that went to no token
    at all; None where the strategy has no null key. own: what a token keeps of itself (0 but
    for a rollout through a residual). With methods 'mean' and 'head' a row and its null add up
    to 1; with 'rollout' the rows of all maps of one query do, `own` included; 'max' and
    'gradient' add up to nothing in particular.
    rows (Q) and columns (K) say what the tokens are (`labels.token_labels`). head: the one
    shown, None where heads were joined. target: what the gradient was taken of; empty for
    methods that ask for none. Raises ValueError when weights and labels differ in length.
    """

    subject: Subject
    name: str
    query: str
    key: str
    method: Method
    weights: Floats
    null: Floats | None
    rows: pd.DataFrame
    columns: pd.DataFrame
    heads: int
    head: int | None = None
    own: float = 0.0
    signed: bool = False
    target: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = (len(self.rows), len(self.columns))
        if self.weights.shape != expected:
            raise ValueError(
                f"attention '{self.name}': weights are {self.weights.shape}, labels {expected}."
            )
        if self.null is not None and self.null.shape != expected[:1]:
            raise ValueError(
                f"attention '{self.name}': {len(self.null)} null weights for {expected[0]} rows."
            )

    @property
    def received(self) -> Floats:
        """(K,) what a column gets from the rows, on average."""
        mean: Floats = self.weights.mean(axis=0)
        return mean

    def strongest(self, n: int = 20) -> pd.DataFrame:
        """The `n` largest cells: row, column, their titles and the weight, largest first."""
        order = np.argsort(-self.weights, axis=None, kind="stable")[:n]
        row, column = np.unravel_index(order, self.weights.shape)
        return pd.DataFrame(
            {
                "row": row,
                "column": column,
                "row_title": self.rows["title"].to_numpy()[row],
                "column_title": self.columns["title"].to_numpy()[column],
                "weight": self.weights[row, column],
            }
        )


@dataclass(frozen=True, eq=False)
class LabelledPool:
    """The weight of each token of one modality in a pooled summary.

    weights: (N,) float64 >= 0 over real tokens, they sum to 1. rows: what the tokens are.
    """

    subject: Subject
    modality: str
    weights: Floats
    rows: pd.DataFrame
    method: str = "gated attention"

    def __post_init__(self) -> None:
        if self.weights.shape != (len(self.rows),):
            raise ValueError(
                f"pool of '{self.modality}': weights are {self.weights.shape}, labels "
                f"{len(self.rows)}."
            )


def attention_maps(
    case: Case, target: Target | None = None, method: Method = "mean", head: int | None = None
) -> list[LabelledAttention]:
    """The attention of a patient's fusion, one map a direction; empty where there is none.

    There is none when the strategy has no attention, and a direction is left out when the patient
    lacks one of its two modalities.

    method:
        head      one head's weights as the softmax gave them.
        mean      their mean over heads.
        max       the largest over heads.
        gradient  mean over heads of relu(dy/dA * A) (Chefer, Gur & Wolf, ICCV 2021, eq. 5), y
                  being the target's number and A the very weights that the prediction used. With
                  one layer and no self-attention in the fusion their update rule (eq. 10) ends
                  here. Its unit is that of the target.
        rollout   Abnar & Zuidema (ACL 2020): the head mean A, with 0.5 I + 0.5 A where the answer
                  is added to the token that asked. Cross-attention has that residual: a token
                  keeps 0.5 (`own`) and its n key modalities share the rest, 0.5 / n each.
                  Co-attention has none (a gathered token is made of the other modality only), so
                  nothing is added. One layer is one factor: the order within a row is that of
                  `mean`; what it adds is the share that stays with the token.

    Raises AttributionError when `head` does not exist, when 'gradient' gets no target or one
    of several numbers, or when a strategy's map is no part of its prediction.
    """
    if method not in METHODS:
        raise AttributionError(
            f"there is no attention method '{method}'; choose one of {', '.join(METHODS)}."
        )
    if method == "gradient":
        if target is None:
            raise AttributionError("method 'gradient' needs a target to take the gradient of.")
        maps, gradients = _with_gradients(case, target)
    else:
        maps, gradients = case.output.attention, []
    labels = {name: token_labels(case, name) for name in case.present if _shown(maps, name)}
    made = []
    for at, amap in enumerate(maps):
        if amap.query not in labels or amap.key not in labels:
            continue
        weights = _numpy(amap.weights)
        own, share = _residual(maps, amap) if method == "rollout" else (0.0, 1.0)
        if method == "gradient":
            joined = np.maximum(_numpy(gradients[at]) * weights, 0.0).mean(axis=0)
        elif method == "head":
            joined = weights[_checked_head(head, len(weights), amap.name)]
        elif method == "max":
            joined = weights.max(axis=0)
        else:
            joined = share * weights.mean(axis=0)
        rows, columns = labels[amap.query], labels[amap.key]
        joined = joined[rows["token"].to_numpy()]
        made.append(
            LabelledAttention(
                subject=case.subject,
                name=amap.name,
                query=amap.query,
                key=amap.key,
                method=method,
                weights=joined[:, columns["token"].to_numpy()],
                null=joined[:, -1] if amap.null_key else None,
                rows=rows,
                columns=columns,
                heads=len(weights),
                head=head if method == "head" else None,
                own=own,
                target=describe_target(target) if method == "gradient" else {},
                parameters={"attention": method, "head": head if method == "head" else None},
            )
        )
    return made


def mil_attention(case: Case, modality: str) -> LabelledPool:
    """What the bag's own encoder looked at: gated-attention weights over the instances.

    Ilse, Tomczak & Welling, ICML 2018, eq. 9. Raises AttributionError when the patient lacks
    the modality or its encoder pools otherwise.
    """
    case.require(modality)
    encoder = case.model.encoder(modality)
    if not isinstance(encoder, GatedAttentionMIL):
        raise AttributionError(
            f"'{modality}' is read by {type(encoder).__name__}, which has no attention over "
            "instances; choose a modality that is a bag."
        )
    encoded = case.encoded[modality]
    with torch.inference_mode():
        _, weights = encoder.pool(encoded.tokens, encoded.mask)
    rows = token_labels(case, modality)
    return LabelledPool(case.subject, modality, _numpy(weights)[rows["token"].to_numpy()], rows)


def _shown(maps: Sequence[AttentionMap], name: str) -> bool:
    return any(name in (amap.query, amap.key) for amap in maps)


def _numpy(tensor: Tensor) -> Floats:
    """The one patient of a batch of one, in double precision."""
    array: Floats = tensor[0].detach().cpu().double().numpy()
    return array


def _checked_head(head: int | None, heads: int, name: str) -> int:
    if head is None or not 0 <= head < heads:
        raise AttributionError(
            f"attention '{name}' has heads 0 to {heads - 1}, not {head}; choose one of them."
        )
    return head


def _residual(maps: Sequence[AttentionMap], amap: AttentionMap) -> tuple[float, float]:
    """What a token keeps of itself, and what this map hands on, of 1."""
    if not amap.residual:
        return 0.0, 1.0
    # Also an absent modality answers (with its null token) and takes its share.
    answers = sum(other.residual and other.query == amap.query for other in maps)
    return 0.5, 0.5 / answers


def _with_gradients(case: Case, target: Target) -> tuple[Sequence[AttentionMap], list[Tensor]]:
    """Maps of a fresh fusion, and the target's gradient by each one's weights.

    The model's parameters need no gradient and get none; the graph starts at copies of tokens.
    """
    with torch.inference_mode(False), torch.enable_grad():
        output = case.fuse(**{name: _leaf(item) for name, item in case.encoded.items()})
        number = target(output.prediction)
        if number.shape != (1, 1):
            raise AttributionError(
                f"a gradient is taken of one number, and '{target.title}' has {number.shape[1]}; "
                "choose one horizon."
            )
        if not output.attention:
            return (), []
        used = [amap.used for amap in output.attention]
        gradients = torch.autograd.grad(number.sum(), used, allow_unused=True)
    found = []
    for amap, gradient in zip(output.attention, gradients, strict=True):
        if gradient is None:
            raise AttributionError(
                f"attention '{amap.name}' is no part of the prediction, so it has no gradient; "
                "the strategy must give the weights that it used as `source`."
            )
        found.append(gradient[:, :, : amap.weights.shape[2]])
    return output.attention, found


def _leaf(encoded: Encoded) -> Encoded:
    return replace(encoded, tokens=encoded.tokens.detach().clone().requires_grad_())
