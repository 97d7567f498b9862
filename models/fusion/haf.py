"""HAF: heterogeneous aligned fusion for missing modalities (Zheng et al., under review 2026).

| equation | what                                      | where                                    |
|----------|-------------------------------------------|------------------------------------------|
| 1, 2     | gated-attention embedding of a bag        | encoders.bag.GatedAttentionMIL           |
| 3        | prognostic and instance supervision       | HAF.branch, instances.instance_loss      |
| 4        | projection to the shared latent space     | HAF.latent                               |
| 5, 6, 7  | L_SV, L_PD, L_GA                          | alignment_losses.global_alignment_loss   |
| 8, 9     | concatenation and the fusion MLP          | HAF.fused, HAF.head                      |
| 10, 11   | monotonic and fusion loss                 | fusion_loss                              |
| 12       | all stages, detached from each other      | HAF.combine, HAF.own_loss                |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from models.contracts import Encoded, FusionOutput, Kind
from models.fusion.alignment_losses import anchored_alignment_loss, global_alignment_loss
from models.fusion.base import (
    STRATEGIES,
    Combined,
    Entrance,
    FusionConfig,
    FusionStrategy,
    Head,
    Stream,
)
from models.fusion.base import StreamWidths as Widths
from models.fusion.instances import InstanceClassifiers, instance_loss
from models.losses import class_terms, cox_terms


class HAFConfig(FusionConfig):
    """Settings of HAF. What the paper does not state (temperature, chance of a drop) is ours.

    d_out: width of the shared latent space; `width` is that of the hidden layers. alignment: of
    stage 2: 'none', 'clip' (towards the anchor) or 'global' (singular values). anchor: the
    modality that the others are aligned to by 'clip'; empty: the first bag, else the first
    modality. random_drop: also train on a random subset of each patient's modalities, each
    hidden with chance drop_chance. monotonic: penalise where all modalities do worse than the
    subset; without random_drop there is no subset and it does nothing. lambda_pd: of eq. 7.
    lambda_m: of eq. 11. temperature: of eqs 5 and 6, and of 'clip'. detach: no gradient from a
    stage to the one before (table 2). instances: taken from either end of a bag's attention for
    the instance loss, 0 for none. modality_dropout is 0, since random_drop keeps the full set.
    """

    modality_dropout: float = Field(default=0.0, ge=0, lt=1)
    d_out: int = Field(default=128, gt=0)
    alignment: Literal["none", "clip", "global"] = "global"
    anchor: str = ""
    random_drop: bool = True
    drop_chance: float = Field(default=0.5, gt=0, lt=1)
    monotonic: bool = True
    lambda_pd: float = Field(default=0.01, ge=0)
    lambda_m: float = Field(default=0.1, ge=0)
    temperature: float = Field(default=0.5, gt=0)
    detach: bool = True
    instances: int = Field(default=8, ge=0)


class Embedding(Entrance):
    """z of a modality: its encoder's summary, standardised; 0 where it is absent."""

    def forward(self, encoded: Encoded) -> Stream:
        """The tokens as they are, the summary (B, P) in its own width."""
        z = self.pooled_scale(encoded.pooled) * encoded.present[:, None]
        return Stream(encoded.tokens, encoded.mask, z, encoded.present)


@STRATEGIES.register("haf")
class HAF(FusionStrategy):
    """Heterogeneous aligned fusion (HAF, Zheng et al. 2026, eqs 1 to 12).

    Stage 1: every modality's embedding z has a prognostic head of its own (`unimodal`), trained
    on the outcome; for bags an instance loss beside it. Heads of tables train nothing but
    themselves; those of bags, and of any other encoder trained here, are its only teacher when
    stages are detached. Stage 2: a two-layer MLP a modality gives u, a unit vector (as in Liu et
    al. 2025; eq. 5 would otherwise reward mere length), aligned over what each patient has.
    Stage 3: eq. 8 concatenates the observed u; so that one MLP can read any subset, the slot of
    an absent modality holds a learnt vector of its own, never zeros and never anything of its
    content. A patient with one modality has nothing to align.

    Survival: the loss l of eqs 10 and 11 is Cox's in the place of cross-entropy. Its terms belong
    to patients with the event, each against those still at risk, so the monotonic loss compares
    term by term (a censored patient has none); for classes it compares patient by patient. A
    bag's instance label is the class, or, for survival, whether the event came by the batch's
    median event time; who was censored before has no label.

    Without alignment, or with one modality only, stage 2 has no loss of its own: its MLP is then
    trained by the fusion loss, and only stage 1 is detached. The linear path reads z, detached
    likewise. `before` is z and `after` is u; z is turned to the width of u by a fixed random map,
    orthonormal in the smaller width, so that lengths and angles stay as they were.
    """

    title = "HAF (aligned, monotonic)"
    Config = HAFConfig
    min_modalities = 1

    def __init__(self, streams: Mapping[str, Widths], outputs: int, config: HAFConfig) -> None:
        super().__init__(streams, outputs, config)
        self.settings = config
        self.anchor = config.anchor or next(
            (name for name, w in streams.items() if w.kind is Kind.BAG), self.modalities[0]
        )
        if self.anchor not in streams:
            raise ValueError(
                f"anchor '{self.anchor}' is none of the modalities {', '.join(streams)}."
            )
        self.aligned = config.alignment != "none" and len(streams) > 1
        self.branch = nn.ModuleDict()
        self.instances = nn.ModuleDict()
        self.latent = nn.ModuleDict()
        for name, widths in streams.items():
            self.branch[name] = nn.Linear(widths.pooled, outputs)
            self.latent[name] = nn.Sequential(
                nn.Linear(widths.pooled, config.width),
                nn.GELU(),
                nn.Dropout(config.dropout),
                nn.Linear(config.width, config.d_out),
            )
            if widths.kind is Kind.BAG and config.instances:
                self.instances[name] = InstanceClassifiers(
                    widths.tokens, max(outputs, 2), config.instances
                )
            turn = nn.init.orthogonal_(torch.empty(widths.pooled, config.d_out))
            self.register_buffer(f"turn_{name}", turn / min(turn.shape) ** 0.5)
        self.scale = config.d_out**0.5
        self.absent = nn.ParameterDict(
            {n: nn.Parameter(torch.randn(config.d_out)) for n in streams}
        )
        self.head = Head(len(streams) * config.d_out, config.width, outputs, config.dropout)

    def entrance(self, widths: Widths, config: FusionConfig) -> Entrance:
        """The summary itself: eq. 4 is the projection."""
        return Embedding(widths)

    def linear_inputs(self, name: str, encoded: Encoded) -> Tensor:
        """As the base's; it teaches no encoder when stages are detached."""
        x = super().linear_inputs(name, encoded)
        return x.detach() if self.detached else x

    @property
    def detached(self) -> bool:
        """Whether stages are detached now: an explanation's gradient passes through all."""
        return self.settings.detach and self.training

    def forward(self, encoded: Mapping[str, Encoded]) -> FusionOutput:
        """The base's, with z turned to the width of u, and what the instance loss needs."""
        output = super().forward(encoded)
        answers = dict(output.answers)
        if self.training:
            for name, classifiers in self.instances.items():
                item = encoded[name]
                if item.attention is None:
                    continue
                logits, chosen = classifiers(item.tokens, item.attention, item.mask)
                answers[f"instances {name}"], answers[f"chosen {name}"] = logits, chosen
        turned = {n: z.detach() @ getattr(self, f"turn_{n}") for n, z in output.before.items()}
        return replace(output, before=turned, answers=answers)

    def combine(self, streams: Mapping[str, Stream], linear: Mapping[str, Tensor]) -> Combined:
        """Stages 1 to 3; in training also the prediction from a random subset of modalities."""
        present = {name: stream.present for name, stream in streams.items()}
        branches, u = {}, {}
        for name, stream in streams.items():
            z = stream.summary
            branches[name] = self.branch[name](z)
            u[name] = F.normalize(self.latent[name](z.detach() if self.detached else z), dim=1)
        losses, answers = {}, {}
        if self.training and self.aligned:
            losses["alignment"] = self.alignment_loss(u, present)
        passed = {n: x.detach() for n, x in u.items()} if self.detached and self.aligned else u
        fused = self.fused(passed, present)
        if self.training and self.settings.random_drop and len(streams) > 1:
            kept = random_subset(present, self.settings.drop_chance)
            answers["reduced"] = self.predict(self.fused(passed, kept), kept, linear)
        return Combined(
            prediction=self.predict(fused, present, linear),
            after={name: x * present[name][:, None] for name, x in u.items()},
            fused=fused,
            unimodal=branches,
            losses=losses,
            answers=answers,
            includes_linear=True,
        )

    def alignment_loss(self, u: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """L_GA (eq. 7), or CLIP's towards the anchor."""
        config = self.settings
        if config.alignment == "clip":
            return anchored_alignment_loss(u, present, self.anchor, config.temperature)
        return global_alignment_loss(u, present, config.temperature, config.lambda_pd)

    def fused(self, u: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """The h of eq. 8 (B, M d_out): u where the modality is there, its learnt vector else."""
        slots = [
            torch.where(present[name][:, None], x * self.scale, self.absent[name])
            for name, x in u.items()
        ]
        return torch.cat(slots, dim=1)

    def predict(
        self, h: Tensor, present: Mapping[str, Tensor], linear: Mapping[str, Tensor]
    ) -> Tensor:
        """The s of eq. 9 (B, K), with the linear path's terms of what is there."""
        s: Tensor = self.head(h)
        for name, term in linear.items():
            s = s + term * present[name][:, None]
        return s

    def own_loss(
        self,
        output: FusionOutput,
        time_days: Tensor | None,
        event: Tensor | None,
        label: Tensor | None,
    ) -> Tensor | None:
        """L_fusion (eq. 11) and the bags' instance losses (eq. 3).

        Prognostic losses of stage 1 come from `unimodal`, that of stage 2 from `losses`.
        """

        def terms(prediction: Tensor) -> Tensor:
            if event is not None and time_days is not None:
                return cox_terms(prediction, event, time_days)
            assert label is not None
            return class_terms(prediction, label)

        reduced = output.answers.get("reduced")
        lambda_m = self.settings.lambda_m if self.settings.monotonic else 0.0
        less = None if reduced is None else terms(self.with_intercept(reduced))
        loss = fusion_loss(terms(output.prediction), less, lambda_m)
        # A batch without events has no terms, and still a gradient.
        loss = loss + output.prediction.sum() * 0.0
        if event is not None and time_days is not None:
            label, known = early_event(event, time_days)
        else:
            assert label is not None
            known = torch.ones_like(label, dtype=torch.bool)
        for name in self.instances:
            if f"instances {name}" in output.answers:
                logits, chosen = (output.answers[f"{k} {name}"] for k in ("instances", "chosen"))
                loss = loss + instance_loss(logits, chosen, label, known)
        return loss


def fusion_loss(full: Tensor, reduced: Tensor | None, lambda_m: float) -> Tensor:
    """L_fusion (eqs 10 and 11) of the terms (n,) with all modalities and with a subset of them.

    mean(full) + mean(reduced) + lambda_m mean(max(full - reduced, 0)); without `reduced` the
    first alone. 0 where there are no terms.
    """
    if not len(full):
        return full.sum()
    if reduced is None:
        return full.mean()
    return full.mean() + reduced.mean() + lambda_m * (full - reduced).clamp(min=0.0).mean()


def random_subset(present: Mapping[str, Tensor], chance: float) -> dict[str, Tensor]:
    """{modality: (B,) bool} of what stays: each is hidden with `chance`, one always stays."""
    there = torch.stack(list(present.values()), dim=1)
    draw = torch.rand(there.shape, device=there.device)
    last = torch.where(there, draw, -1.0).argmax(dim=1, keepdim=True)
    kept = there & ((draw >= chance) | (torch.arange(there.shape[1], device=there.device) == last))
    return dict(zip(present, kept.T, strict=True))


def early_event(event: Tensor, time_days: Tensor) -> tuple[Tensor, Tensor]:
    """(label, known) (B,): whether the event came by the median of the event times.

    Not known of those censored by then, nor of anybody where there is no event.
    """
    if not bool(event.any()):
        return torch.zeros_like(event, dtype=torch.long), torch.zeros_like(event)
    median = time_days[event].median()
    label = event & (time_days <= median)
    return label.long(), label | (time_days > median)
