"""TGMM: textual guidance multimodal fusion for several tasks (Zhang et al. 2025, arXiv 2508.13072).

| equation | what                                   | where                                  |
|----------|----------------------------------------|----------------------------------------|
| 1        | Q, K, V, one set for all modalities    | MedFlexFusion.query, .key, .value      |
| 2        | local attention of a modality          | SharedFeature.forward                  |
| 3, 4, 5  | keys and values of a subset            | guidance.mix; P(*): guidance.SlotPool  |
| 6, 7     | gates, and the subset's shared feature | SharedFeature.forward                  |
| 8        | Z_all, specific and shared features    | feature_subsets, TGMM.features         |
| 9        | guidance by text                       | guidance.GuidanceText, TextualGuidance |
| (4.2.4)  | answers and their likelihoods          | response.AnswerDecoder, LinearProbe    |
| 10       | L_dig                                  | losses.answer_loss                     |
| 11       | L_lm, L_mc                             | losses.answer_{language,choice}_loss   |
| 12       | L_unlikely                             | losses.unlikely_answer_loss            |
| 13       | L_risk                                 | TGMM.own_loss                          |
| 14       | L_r                                    | losses.cox_loss                        |
| 15       | L_m                                    | losses.margin_ranking_loss             |
| 16       | retrieval, in both directions          | losses.info_nce, TGMM.retrieval_loss   |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.contracts import AttentionMap, FusionOutput
from models.fusion.attention import join_heads, split_heads
from models.fusion.base import STRATEGIES, Alignment, Combined, FusionConfig, FusionStrategy, Stream
from models.fusion.base import StreamWidths as Widths
from models.fusion.guidance import GuidanceText, SlotPool, TextualGuidance, mix
from models.fusion.response import AnswerDecoder, LinearProbe
from models.losses import answer_loss, class_loss, cox_loss, info_nce, margin_ranking_loss

MOST_MODALITIES = 4
ANSWERS = {"diagnosis": ("no", "yes"), "prognosis": ("low risk", "high risk")}
GUIDANCE = {
    "diagnosis": "Given the findings, does the patient have the condition now?",
    "prognosis": "Given the findings, is the patient at risk of the event in the future?",
}


class TGMMConfig(FusionConfig):
    """Settings of TGMM. The paper's values are in an appendix that is not public; these are ours.

    task: chooses the words where `answers` or `guidance_text` are not given. slots: tokens a
    modality is projected to. guidance, response: the ablations of the paper's table 6.
    guidance_position: how many of the learnt tokens stand before the human-defined words.
    answers: from the least to the worst one; for more than two classes the classes' answers.
    lambda_*: weights of eqs 10 and 13. margin: of eq. 15, in log-risk. retrieval_weight: of
    eq. 16, with its temperature. p_drop: stochastic depth of eq. 9, `dropout` where not given.
    """

    heads: int = Field(default=1, gt=0)
    linear_path: bool = False
    task: Literal["diagnosis", "prognosis"] = "diagnosis"
    slots: int = Field(default=4, gt=0)
    guidance: Literal["none", "human", "human+learnt"] = "human+learnt"
    guidance_text: str = ""
    learnt_tokens: int = Field(default=8, gt=0)
    guidance_position: int = Field(default=0, ge=0)
    response: Literal["decoder", "linear"] = "decoder"
    answers: tuple[str, ...] = ()
    lambda_lm: float = Field(default=0.3, ge=0)
    lambda_mc: float = Field(default=1.0, ge=0)
    lambda_unlikely: float = Field(default=0.3, ge=0)
    lambda_dig: float = Field(default=0.2, ge=0)
    lambda_r: float = Field(default=1.0, ge=0)
    lambda_m: float = Field(default=0.2, ge=0)
    margin: float = Field(default=0.5, ge=0)
    retrieval_weight: float = Field(default=0.0, ge=0)
    temperature: float = Field(default=0.1, gt=0)
    p_drop: float | None = Field(default=None, ge=0, lt=1)

    @model_validator(mode="after")
    def _no_linear_path(self) -> Self:
        if self.linear_path:
            raise ValueError(
                "linear_path adds a term to the prediction that no answer's likelihood has; leave "
                "it off for tgmm."
            )
        if self.guidance_position > self.learnt_tokens:
            raise ValueError(
                f"guidance_position {self.guidance_position} is beyond the {self.learnt_tokens} "
                "learnt tokens; name a position among them."
            )
        return self


def feature_subsets(names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The 2^M - 1 features of eq. 8, each named by its modalities, in the paper's order.

    Specific features in turn, each followed by what it shares with the next; then the other
    pairs, then larger subsets: for Lb, El, Ec it is Lb, LbEl, El, ElEc, Ec, LbEc, LbElEc.
    """
    order: list[tuple[str, ...]] = []
    for i, name in enumerate(names):
        order.append((name,))
        if i + 1 < len(names):
            order.append((name, names[i + 1]))
    for size in range(2, len(names) + 1):
        order += [subset for subset in combinations(names, size) if subset not in order]
    return tuple(order)


class SharedFeature(nn.Module):
    """Eqs 2, 6 and 7 of one subset of modalities; its keys come from its own members only.

    One P serves the gates of all members (they differ by Z_i,local); eq. 6's Cat holds the
    members' own features and Z_i,local.
    """

    def __init__(self, members: Sequence[str], width: int, heads: int) -> None:
        super().__init__()
        self.members = tuple(members)
        self.heads = heads
        self.gate = nn.Linear((len(members) + 1) * width, width)

    def forward(
        self,
        specific: Mapping[str, Tensor],
        query: Mapping[str, Tensor],
        key: Mapping[str, Tensor],
        value: Mapping[str, Tensor],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Each {modality: (B, S, D)} -> Z of the subset (B, S, D), {member: its gate (B, S, D)}."""
        keys = split_heads(mix([key[name] for name in self.members]), self.heads)
        values = split_heads(mix([value[name] for name in self.members]), self.heads)
        gates, shared = {}, torch.zeros_like(specific[self.members[0]])
        for name in self.members:
            asked = split_heads(query[name], self.heads)
            weights = torch.softmax(asked @ keys.transpose(-1, -2) / keys.shape[-1] ** 0.5, dim=-1)
            local = join_heads(weights @ values)
            context = torch.cat([*(specific[other] for other in self.members), local], dim=2)
            gates[name] = torch.sigmoid(self.gate(context))
            shared = shared + gates[name] * local
        return shared, gates


class MedFlexFusion(nn.Module):
    """MedFlexFusion (eqs 1 to 7): what every subset of the modalities shares."""

    def __init__(self, names: Sequence[str], width: int, heads: int) -> None:
        super().__init__()
        self.subsets = feature_subsets(names)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        # Module names hold no '+' or '.'; the order is that of the subsets of two and more.
        self.shared = nn.ModuleList(
            SharedFeature(subset, width, heads) for subset in self.subsets if len(subset) > 1
        )

    def forward(
        self, specific: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, dict[tuple[str, ...], dict[str, Tensor]]]:
        """Specific features {modality: (B, S, D)} and who has them {modality: (B,)}.

        Returns all features (B, F, S, D) in the order of `subsets`, zero where one is missing;
        mask (B, F), true where all members are there; and the gates of eq. 6 by subset.
        """
        query = {name: self.query(z) for name, z in specific.items()}
        key = {name: self.key(z) for name, z in specific.items()}
        value = {name: self.value(z) for name, z in specific.items()}
        shared = iter(self.shared)
        features, masks, gates = [], [], {}
        for subset in self.subsets:
            there = torch.stack([present[name] for name in subset]).all(dim=0)
            if len(subset) == 1:
                z = specific[subset[0]]
            else:
                z, gates[subset] = next(shared)(specific, query, key, value)
            features.append(torch.where(there[:, None, None], z, torch.zeros_like(z)))
            masks.append(there)
        return torch.stack(features, dim=1), torch.stack(masks, dim=1), gates


@STRATEGIES.register("tgmm")
class TGMM(FusionStrategy):
    """Textual guidance multimodal fusion (TGMM, Zhang et al. 2025).

    Every modality is projected to `slots` tokens (P of eq. 3), which its summary joins. Each
    subset of two or more modalities gives a shared feature, which a patient has who has all of
    its members; specific and shared features are rectified (eq. 8), guided by text (eq. 9) and
    answered (section 4.2.4). Nothing of an absent modality enters: its features are masked, not
    replaced.

    Where the paper leaves a choice, this is ours. Eq. 8 concatenates and eq. 9 attends among
    features, so a feature is one token there: its slots are joined by a linear layer (none for
    one slot). Without guidance (table 6, first rows) Z_all itself is answered. Two candidate
    answers make one number, ll(second) - ll(first): the logit, or the log-risk of a survival
    task; K > 2 answers make K log-likelihoods. For survival the answer's label is the event, as
    in the paper, so a censored patient counts as 'no' in L_dig (but not in L_r and L_m).
    """

    title = "TGMM (textual guidance)"
    Config = TGMMConfig
    min_modalities = 1
    # A prediction is what the answers' words are worth, and nothing beside them.
    takes_intercept = False

    def __init__(self, streams: Mapping[str, Widths], outputs: int, config: TGMMConfig) -> None:
        super().__init__(streams, outputs, config)
        if len(streams) > MOST_MODALITIES:
            raise ValueError(
                f"tgmm has a feature for every subset and fuses at most {MOST_MODALITIES} "
                f"modalities, got {len(streams)}: {', '.join(streams)}; leave some out."
            )
        if config.width % config.heads:
            raise ValueError(f"width {config.width} must be a multiple of heads {config.heads}")
        self.settings = config
        width, slots = config.width, config.slots
        self.slots = nn.ModuleDict({name: SlotPool(width, slots) for name in streams})
        self.norms = nn.ModuleDict({name: nn.LayerNorm(width) for name in streams})
        self.local = MedFlexFusion(self.modalities, width, config.heads)
        self.subsets = self.local.subsets
        self.feature_names = tuple(" + ".join(subset) for subset in self.subsets)
        count = len(self.subsets)
        self.join: nn.Module = nn.Linear(slots * width, width) if slots > 1 else nn.Identity()
        self.guide: TextualGuidance | None = None
        if config.guidance != "none":
            learnt = config.learnt_tokens if config.guidance == "human+learnt" else 0
            text = GuidanceText(
                config.guidance_text or GUIDANCE[config.task],
                learnt,
                min(config.guidance_position, learnt),
                width,
                config.heads,
                config.dropout,
            )
            p_drop = config.dropout if config.p_drop is None else config.p_drop
            self.guide = TextualGuidance(text, count, width, config.heads, p_drop)
        self.answers = config.answers or _default_answers(config.task, outputs)
        if len(self.answers) != max(outputs, 2):
            raise ValueError(
                f"{len(self.answers)} answers for {max(outputs, 2)} classes: "
                f"{', '.join(self.answers)}; give one answer a class."
            )
        self.response: AnswerDecoder | LinearProbe
        if config.response == "decoder":
            self.response = AnswerDecoder(self.answers, width, config.heads, config.dropout)
        else:
            self.response = LinearProbe(count, width, outputs)
        self.embed = nn.ModuleDict()
        if config.retrieval_weight:
            self.embed.update({name: nn.Linear(slots * width, width) for name in streams})

    @property
    def answer_words(self) -> tuple[str, ...]:
        """The words that ask in the 'response' map, candidate after candidate; none if linear."""
        return self.response.words if isinstance(self.response, AnswerDecoder) else ()

    def specific(self, streams: Mapping[str, Stream]) -> dict[str, Tensor]:
        """{modality: (B, slots, D)} from its tokens and its summary; zero where absent.

        The summary joins every slot: as one token beside some hundred words or patches it would
        hardly be looked at, though a pretrained encoder says most there.
        """
        found = {}
        for name, stream in streams.items():
            slots = self.slots[name](stream.tokens, stream.mask) + stream.summary[:, None]
            found[name] = self.norms[name](slots) * stream.present[:, None, None]
        return found

    def features(self, features: Tensor) -> Tensor:
        """Eq. 8: Z_all (B, F, D), rectified, of features (B, F, S, D) in the paper's order."""
        return torch.relu(self.join(features.flatten(2)))

    def combine(self, streams: Mapping[str, Stream], linear: Mapping[str, Tensor]) -> Combined:
        """Features of all subsets, guided by text, and the answers' likelihoods."""
        present = {name: stream.present for name, stream in streams.items()}
        specific = self.specific(streams)
        features, mask, local_gates = self.local(specific, present)
        z = self.features(features) * mask[..., None]
        gates = {
            f"{member} in {' + '.join(subset)}": gate.mean(dim=(1, 2)) * mask[:, at]
            for at, subset in enumerate(self.subsets)
            for member, gate in local_gates.get(subset, {}).items()
        }
        maps: tuple[AttentionMap, ...] = ()
        if self.guide is not None:
            z, gate, maps = self.guide(z, mask)
            gates = {**dict(zip(self.feature_names, gate.mean(dim=2).T, strict=True)), **gates}
        answers: dict[str, Tensor] = {}
        if isinstance(self.response, AnswerDecoder):
            likelihood, answered = self.response(z, mask)
            answers["log_likelihood"] = likelihood
            maps = (*maps, *answered)
            two = likelihood.shape[1] == 2
            prediction = likelihood[:, 1:] - likelihood[:, :1] if two else likelihood
        else:
            prediction = self.response(z, mask)
        after = self.embeddings(specific, z, present)
        losses = {}
        if self.training and self.settings.retrieval_weight:
            loss = self.retrieval_loss(after, present)
            if loss is not None:
                losses["retrieval"] = self.settings.retrieval_weight * loss
        return Combined(
            prediction=prediction,
            after=after,
            fused=z.flatten(1),
            attention=maps,
            gates=gates,
            losses=losses,
            answers=answers,
        )

    def alignment(self) -> Alignment:
        """The retrieval embeddings of eq. 16 where they are trained, else features of eq. 8."""
        if self.embed:
            return Alignment("each modality's unit vector for retrieval (eq. 16).", "InfoNCE")
        return Alignment(
            "each modality's own feature among all features of subsets (eq. 8), changed by the "
            "guiding text; no loss aligned them."
        )

    def embeddings(
        self, specific: Mapping[str, Tensor], z: Tensor, present: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """{modality: (B, D)} unit vectors for retrieval; without it, its own feature of Z_all,C.

        Zero where the modality is absent.
        """
        if not self.embed:
            return {n: z[:, self.subsets.index((n,))] for n in self.modalities}
        return {
            n: F.normalize(self.embed[n](specific[n].flatten(1)), dim=1) * present[n][:, None]
            for n in self.modalities
        }

    def retrieval_loss(
        self, after: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> Tensor | None:
        """Eq. 16 in both directions, mean over pairs of modalities that two patients have.

        after: {modality: (B, D)} unit vectors. None where there is no such pair.
        """
        terms = []
        for a, b in combinations(after, 2):
            both = present[a] & present[b]
            if int(both.sum()) > 1:
                terms.append(info_nce(after[a][both], after[b][both], self.settings.temperature))
        return torch.stack(terms).mean() if terms else None

    def own_loss(
        self,
        output: FusionOutput,
        time_days: Tensor | None,
        event: Tensor | None,
        label: Tensor | None,
    ) -> Tensor | None:
        """L_dig (eq. 10) for a class task, L_risk (eq. 13) for survival.

        The linear response has no words: its L_dig is the class loss times lambda_mc.
        """
        config = self.settings
        survival = event is not None and time_days is not None
        target = event.long() if survival and event is not None else label
        assert target is not None
        if "log_likelihood" in output.answers:
            assert isinstance(self.response, AnswerDecoder)
            diagnosis = answer_loss(
                output.answers["log_likelihood"],
                target,
                self.response.lengths,
                lm=config.lambda_lm,
                mc=config.lambda_mc,
                unlikely=config.lambda_unlikely,
            )
        else:
            diagnosis = config.lambda_mc * class_loss(output.prediction, target)
        if not survival:
            return diagnosis
        assert event is not None
        assert time_days is not None
        risk = output.prediction
        return (
            config.lambda_dig * diagnosis
            + config.lambda_r * cox_loss(risk, event, time_days)
            + config.lambda_m * margin_ranking_loss(risk, event, time_days, config.margin)
        )


def _default_answers(task: str, outputs: int) -> tuple[str, ...]:
    """The answers of a task in words; more than two classes are told apart by their number."""
    return ANSWERS[task] if outputs == 1 else tuple(f"class {i}" for i in range(outputs))
