"""Trust of the maps of an ECG or an echo: every layer and method; and of a told table's words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from analysis.attribution.cam import CAMS
from analysis.attribution.case import Case
from analysis.attribution.explained import layers_of
from analysis.attribution.game import ChannelRemoval
from analysis.attribution.parts import part_table
from analysis.attribution.signal import METHODS as SIGNAL_METHODS
from analysis.attribution.signal import SignalMap, signal_layer_maps, signal_map
from analysis.attribution.target import Target
from analysis.attribution.video import METHODS as VIDEO_METHODS
from analysis.attribution.video import VideoMap, video_layer_maps
from analysis.attribution.within import default_budget, explain_modality
from analysis.cohort.dataset import SignalReading, VideoReading
from analysis.trust import faithfulness as faith
from analysis.trust.agreement import agreement
from analysis.trust.localisation import MapScore, summarise_events, summarise_maps
from analysis.trust.localisation_recording import (
    masks_as_read,
    on_frames,
    score_columns,
    score_signal,
    score_video,
    sector_of,
)
from analysis.trust.study import (
    RULE_FAITHFUL,
    RULE_FEW,
    RULE_NOTHING,
    RULE_TRUTH,
    Entry,
    Study,
    check_sanity,
    entry,
    gain,
    halves,
    mean_matrices,
    survives,
)
from analysis.trust.study_parts import MOST, ROUND, study_parts
from models.contracts import Encoded, Kind, LeadTimeGrid, ModalityInput, ViewGrid
from models.encoders.base import SummaryOfTokens

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Shown = SignalMap | VideoMap

SHORTLIST = 3
FEWEST = 8
"""With fewer patients whose truth is known, the choice rests on faithfulness."""
BLOCK_S = 0.5
"""Shortest block of a lead that is left out, in seconds; whole steps of the encoder's tokens."""


def key_of(method: str, layer: str | None) -> str:
    """Names a map within a report: 'hirescam at merge'."""
    return method if layer is None else f"{method} at {layer}"


def study_recording(study: Study, modality: str) -> dict[str, Any]:
    """The report's part for a signal or a video, in the form of a volume's."""
    kind = study.run.config.modalities[modality].kind
    recording: _Recording = (_Signal if kind is Kind.SIGNAL else _Video)(study, modality)
    ids = recording.patients()
    if not ids:
        why = "no recordings"
        return {"kind": str(kind), "n": 0, "methods": [], "recommended": None, "why": why}
    n = recording.budget
    first = ids[: max(n.faithful, n.sanity, n.slow)]
    cases = list(study.cases(modality, first))
    entries = _entries(cases[0], modality, recording)
    carrying = [i for i in ids if recording.carries(i)]
    scores = _localise(study, modality, recording, cases, carrying[: n.patients])
    for name, found in scores.items():
        entries[name]["localisation"] = summarise_maps(found, study.seed)
    random, still = check_sanity(
        study,
        modality,
        cases[: n.sanity],
        lambda case: {name: shown.values for name, shown in recording.maps(case).items()},
    )
    measured = _faithful(study, modality, recording, cases)
    for name, item in entries.items():
        item["randomisation"], item["stability"] = random.get(name), still.get(name)
        if name in measured:
            curves = faith.summarise(measured[name], study.seed)
            item["faithfulness"] = {recording.left_out: {"n": len(measured[name]), **curves}}
    shortlist, recommended = _recommend(study, entries, scores, measured)
    localised = len(next(iter(scores.values()), []))
    without = len(ids) - len(carrying) if study.truth is not None else 0
    return {
        "kind": str(kind),
        "n": localised or len(cases),
        "truth": {**recording.said(), "left_out_nothing_carries": without} if scores else None,
        "methods": list(entries.values()),
        "recommended": recommended,
        "agreement": mean_matrices(
            [_agree(recording, case, shortlist) for case in cases[: n.slow]]
        ),
    }


def _entries(case: Case, modality: str, recording: _Recording) -> dict[str, Entry]:
    made = {}
    for method, title in recording.methods.items():
        layers: dict[str | None, str] = {None: ""}
        if method in CAMS:
            layers = dict(layers_of(case, modality, recording.kind).items())
        for layer, where in layers.items():
            words = f"{title} at {where}" if where else title
            made[key_of(method, layer)] = entry(method, layer, words)
    return made


def _localise(
    study: Study,
    modality: str,
    recording: _Recording,
    cases: Sequence[Case],
    ids: Sequence[int],
) -> dict[str, list[MapScore]]:
    """Scores of every map by patient; methods on the input on the first few only."""
    scores: dict[str, list[MapScore]] = {}
    opened = {case.subject_id: case for case in cases}
    rest = iter(study.cases(modality, [i for i in ids if i not in opened]))
    for number, subject in enumerate(ids):
        case = opened[subject] if subject in opened else next(rest)
        shown = recording.maps(case)
        if number < recording.budget.slow:
            shown = {**shown, **recording.slow_maps(case)}
        for name, score in recording.score(case, shown).items():
            scores.setdefault(name, []).append(score)
    return scores


def _faithful(
    study: Study, modality: str, recording: _Recording, cases: Sequence[Case]
) -> dict[str, list[faith.Faithfulness]]:
    found: dict[str, list[faith.Faithfulness]] = {}
    cases = cases[: recording.budget.faithful]
    for number, case in enumerate(cases):
        study.say(f"{modality}: deletion and insertion", number, len(cases))
        removal = recording.removal(case)
        if removal.n_parts < 2:
            continue  # one part has no order
        maps: dict[str, Shown] = {**recording.maps(case)}
        if number < recording.budget.slow:
            maps |= recording.slow_maps(case)
        parts = {name: removal.parts(shown) for name, shown in maps.items()}
        made = faith.faithfulness(removal, parts, n_points=10, n_random=6, seed=study.seed + number)
        for name, item in made.items():
            found.setdefault(name, []).append(item)
    return found


def _recommend(
    study: Study,
    entries: Mapping[str, Entry],
    scores: Mapping[str, Sequence[MapScore]],
    measured: Mapping[str, Sequence[faith.Faithfulness]],
) -> tuple[list[str], dict[str, Any] | None]:
    """The best maps of layers, best first, and the first of them as the report's choice."""
    whole = [name for name in entries if entries[name]["layer"] is not None]
    placed = {name: scores[name] for name in whole if len(scores.get(name, ())) >= FEWEST}

    def worth(name: str) -> float:
        if placed:
            return float(np.mean([s.energy / s.lesion_share for s in halves(placed[name])[0]]))
        return gain(halves(measured[name])[0]) if name in measured else -np.inf

    ranked = sorted(placed or whole, key=worth, reverse=True)
    shortlist = [name for name in ranked if not survives(entries[name])][:SHORTLIST] or ranked[:1]
    if not shortlist:
        return [], None
    name = shortlist[0]
    chosen = entries[name]
    chosen["recommended"] = True
    if placed:
        held: dict[str, Any] = {"localisation": summarise_maps(halves(placed[name])[1], study.seed)}
    else:
        rest = faith.summarise(halves(measured.get(name, ()))[1], study.seed)
        held = {"faithfulness": {next(iter(chosen["faithfulness"] or {"": 0})): rest}}
    rule = RULE_TRUTH["recording"] if placed else RULE_FEW if scores else RULE_FAITHFUL
    return shortlist, {
        "method": chosen["method"],
        "layer": chosen["layer"],
        "title": chosen["title"],
        "rule": rule,
        "held_out": held,
        "survives_random_weights": survives(chosen),
    }


def _agree(recording: _Recording, case: Case, names: Sequence[str]) -> dict[str, Any]:
    maps = recording.maps(case)
    chosen: dict[str, Shown] = {name: maps[name] for name in names}
    chosen |= recording.slow_maps(case)
    return agreement({n: recording.dense(case, m) for n, m in chosen.items()}).as_json()


# ---------------------------------------------------------------- the two kinds


class _Recording(ABC):
    """What differs between a signal and a video.

    methods: titles by name. left_out: what deletion removes. budget: patients of each check.
    """

    kind: Kind
    methods: Mapping[str, str]
    left_out: str

    def __init__(self, study: Study, modality: str) -> None:
        self.study, self.modality = study, modality
        self.task = study.run.config.task.name
        self.budget = study.budget
        self._slow: dict[int, dict[str, Shown]] = {}

    @abstractmethod
    def patients(self) -> list[int]:
        """Those of the split whose recording is a file, in the study's order."""

    @abstractmethod
    def carries(self, subject_id: int) -> bool:
        """Whether the truth knows something that carries the outcome in this patient."""

    @abstractmethod
    def maps(self, case: Case) -> Mapping[str, Shown]:
        """The maps of all layers."""

    @abstractmethod
    def score(self, case: Case, shown: Mapping[str, Shown]) -> dict[str, MapScore]:
        """Localisation of these maps, for a patient in whom something carries."""

    @abstractmethod
    def removal(self, case: Case) -> LeadBlocks | ViewTokens:
        """The value function of deletion."""

    @abstractmethod
    def dense(self, case: Case, shown: Any) -> npt.NDArray[np.float32]:
        """A map on the grid that all maps of the patient share."""

    @abstractmethod
    def said(self) -> dict[str, Any]:
        """The truth section: what carries, in words."""

    def slow_maps(self, case: Case) -> dict[str, Shown]:
        """Maps of methods on the input, made once a patient."""
        return {}


class _Signal(_Recording):
    kind = Kind.SIGNAL
    methods = SIGNAL_METHODS
    left_out = "lead_blocks_left_out"

    def __init__(self, study: Study, modality: str) -> None:
        super().__init__(study, modality)
        # Every value of the deletion curves encodes the signal again.
        self.budget = replace(study.budget, faithful=min(study.budget.faithful, 6))

    def patients(self) -> list[int]:
        files = self.study.cohort.signals(self.modality)
        return [int(i) for i in self.study.order() if int(i) in files]

    def carries(self, subject_id: int) -> bool:
        return len(self._spans(subject_id)) > 0

    def _spans(self, subject_id: int) -> Floats:
        truth = self.study.truth
        rows = truth.ecg_segments(subject_id, self.task) if truth is not None else None
        if rows is None:
            return np.zeros((0, 2))
        return rows.loc[rows["carries"] != "", ["start_s", "end_s"]].to_numpy(np.float64)

    def maps(self, case: Case) -> Mapping[str, SignalMap]:
        made = signal_layer_maps(case, self.modality, self.study.target)
        return {key_of(method, layer): shown for (method, layer), shown in made.items()}

    def slow_maps(self, case: Case) -> dict[str, Shown]:
        if case.subject_id not in self._slow:
            name = "integrated_gradients"
            shown = signal_map(case, self.modality, self.study.target, name)
            self._slow[case.subject_id] = {name: shown}
        return self._slow[case.subject_id]

    def score(self, case: Case, shown: Mapping[str, Any]) -> dict[str, MapScore]:
        spans = self._spans(case.subject_id)
        mask = case.raw(self.modality).fields["mask"][0].numpy()
        return {name: score_signal(item, spans, mask) for name, item in shown.items()}

    def removal(self, case: Case) -> LeadBlocks:
        return LeadBlocks(case, self.modality, self.study.target)

    def dense(self, case: Case, shown: Any) -> npt.NDArray[np.float32]:
        seconds = shown.values.shape[1] * shown.step_s
        at = np.linspace(0, seconds, 501)
        values: npt.NDArray[np.float32] = shown.on((at[1:] + at[:-1]) / 2)
        return values

    def said(self) -> dict[str, Any]:
        return {
            "carriers": "waves",
            "of": "the recorded time",
            "note": (
                "Waves that the stated formula counts, in patients in whom they are abnormal: the "
                "same spans in every lead. A map may also read the finding elsewhere, such as "
                "fibrillation in uneven beats: that counts as a miss."
            ),
        }


class _Video(_Recording):
    kind = Kind.VIDEO
    methods = VIDEO_METHODS
    left_out = "tokens_left_out"

    def __init__(self, study: Study, modality: str) -> None:
        super().__init__(study, modality)
        # Every random network and every noisy picture encodes all views again.
        self.budget = replace(study.budget, sanity=min(study.budget.sanity, 4))
        self._sectors: dict[int, Any] = {}

    def patients(self) -> list[int]:
        files = self.study.cohort.videos(self.modality)
        return [int(i) for i in self.study.order() if int(i) in files]

    def carries(self, subject_id: int) -> bool:
        truth = self.study.truth
        return truth is not None and bool(truth.echo_structures(subject_id, self.task))

    def maps(self, case: Case) -> Mapping[str, VideoMap]:
        made = video_layer_maps(case, self.modality, self.study.target)
        return {key_of(method, layer): shown for (method, layer), shown in made.items()}

    def score(self, case: Case, shown: Mapping[str, Any]) -> dict[str, MapScore]:
        truth, reading = self.study.truth, case.reading(self.modality)
        assert truth is not None
        assert isinstance(reading, VideoReading)
        views = next(iter(shown.values())).views
        masks = masks_as_read(
            truth.echo_masks(case.subject_id) or {},
            truth.echo_structures(case.subject_id, self.task),
            views,
            reading,
        )
        fields = case.raw(self.modality).fields
        sector = sector_of(fields["video"][0][fields["mask"][0]].numpy())
        if not (masks & sector[:, None]).any():
            return {}
        return {name: score_video(item, masks, sector) for name, item in shown.items()}

    def removal(self, case: Case) -> ViewTokens:
        return ViewTokens(case, self.modality, self.study.target)

    def dense(self, case: Case, shown: Any) -> npt.NDArray[np.float32]:
        reading = case.reading(self.modality)
        assert isinstance(reading, VideoReading)
        return on_frames(shown, reading.frames, reading.size)

    def said(self) -> dict[str, Any]:
        return {
            "carriers": "structures",
            "of": "the ultrasound sector",
            "note": (
                "Structures that show a summand of the stated formula which is raised in the "
                "patient, in all recorded views. The strongest cell counts as right within one "
                "cell of them. A map may also read the size of a structure at what lies around "
                "it: beyond one cell that counts as a miss."
            ),
        }


# ---------------------------------------------------------------- what deletion leaves out


class LeadBlocks:
    """A signal without some blocks of some leads: the value function of its deletion.

    A block that is left out was not recorded (its mask is false), and the signal is encoded
    again. Parts are the blocks of which anything was recorded, lead by lead.
    """

    def __init__(self, case: Case, modality: str, target: Target, *, batch: int = 16) -> None:
        self.case, self.modality, self.target, self.batch = case, modality, target, batch
        fields = case.raw(modality).fields
        self.signal, self.mask = fields["signal"][0], fields["mask"][0]
        reading, layout = case.reading(modality), case.encoded[modality].layout
        assert isinstance(reading, SignalReading)
        step = layout.step_s if isinstance(layout, LeadTimeGrid) else BLOCK_S
        block = step * int(np.ceil(BLOCK_S / step - 1e-9))
        count = int(np.ceil(reading.seconds / block - 1e-9))
        self.edges_s = np.minimum(np.arange(count + 1) * block, reading.seconds)
        middles = (np.arange(self.mask.shape[1]) + 0.5) * reading.seconds / self.mask.shape[1]
        self.block_of = torch.from_numpy(np.searchsorted(self.edges_s, middles) - 1)
        inside = torch.stack([self.block_of == b for b in range(count)])
        there = (self.mask[:, None] & inside).any(dim=2).numpy()
        self.shape, self.at = there.shape, np.nonzero(there)
        self.n_parts = len(self.at[0])

    def parts(self, shown: Any) -> Floats:
        """(P,) a map summed over each block."""
        values = np.asarray(shown.values, np.float64)
        until = np.concatenate([np.zeros((len(values), 1)), values.cumsum(axis=1)], axis=1)
        edges = np.arange(until.shape[1]) * shown.step_s
        summed = np.stack([np.diff(np.interp(self.edges_s, edges, row)) for row in until])
        parts: Floats = summed[self.at]
        return parts

    def __call__(self, kept: Mask) -> Floats:
        """(n, P) bool, true where a block stays -> (n,) the explained number."""
        found = []
        for rows in np.array_split(kept, max(1, -(-len(kept) // self.batch))):
            stays = np.zeros((len(rows), *self.shape), bool)
            stays[:, self.at[0], self.at[1]] = rows
            mask = self.mask & torch.from_numpy(stays)[:, :, self.block_of]
            fields = {"signal": self.signal * mask, "mask": mask}
            item = ModalityInput(Kind.SIGNAL, fields, torch.from_numpy(rows.any(axis=1)))
            with torch.inference_mode():
                encoded = self.case.model.encode_modality(self.modality, item)
            found.append(_value(self.case, self.modality, self.target, encoded))
        return np.concatenate(found)


class ViewTokens:
    """An echo without some of its tokens: the value function of its deletion.

    Parts are the tokens of the recorded views; where the encoder's summary is made of more than
    its tokens, whole views that are left out instead.
    """

    def __init__(self, case: Case, modality: str, target: Target, *, batch: int = 32) -> None:
        self.case, self.modality, self.target, self.batch = case, modality, target, batch
        reading, encoder = case.reading(modality), case.model.encoder(modality)
        assert isinstance(reading, VideoReading)
        self.reading, self.encoder = reading, encoder
        # Encoded afresh: stored features keep no tokens of views that were not recorded.
        with torch.inference_mode():
            self.whole = encoder(case.raw(modality))
        layout = self.whole.layout
        if not isinstance(encoder, SummaryOfTokens) or not isinstance(layout, ViewGrid):
            self.views: ChannelRemoval | None = ChannelRemoval(case, modality, "video")
            self.shape, self.n_parts = (1, 1, 1), self.views.n_parts
            return
        self.views, self.shape = None, layout.shape
        self.at = np.nonzero(self.whole.mask[0].numpy())[0]
        self.n_parts = len(self.at)

    def parts(self, shown: Any) -> Floats:
        """(P,) a map summed over the cell of each token."""
        dense = on_frames(shown, self.reading.frames, self.reading.size).astype(np.float64)
        split = [k for n, b in zip(dense.shape[1:], self.shape, strict=True) for k in (b, n // b)]
        parts: Floats = dense.reshape(len(dense), *split).sum(axis=(2, 4, 6)).reshape(-1)
        return parts

    def __call__(self, kept: Mask) -> Floats:
        """(n, P) bool, true where a part stays -> (n,) the explained number."""
        found = []
        for rows in np.array_split(kept, max(1, -(-len(kept) // self.batch))):
            with torch.inference_mode():
                encoded = self._without(rows) if self.views is None else self.views.encode(rows)
            found.append(_value(self.case, self.modality, self.target, encoded))
        return np.concatenate(found)

    def _without(self, kept: Mask) -> Encoded:
        keep = torch.zeros(len(kept), self.whole.mask.shape[1], dtype=torch.bool)
        keep[:, self.at] = torch.from_numpy(np.ascontiguousarray(kept))
        tokens = self.whole.tokens.expand(len(kept), -1, -1) * keep[..., None]
        present = keep.any(dim=1)
        assert isinstance(self.encoder, SummaryOfTokens)
        pooled = self.encoder.summarise(tokens, keep) * present[:, None]
        encoded = replace(self.whole, tokens=tokens, mask=keep, pooled=pooled, present=present)
        frozen = self.modality in self.case.model.frozen
        return encoded.at_stored_precision() if frozen else encoded


def _value(case: Case, modality: str, target: Target, encoded: Encoded) -> Floats:
    with torch.inference_mode():
        output = case.fuse(**{modality: encoded})
    values: Floats = target(output.prediction)[:, 0].double().numpy()
    return values


# ---------------------------------------------------------------- told tables


def study_table(study: Study, modality: str) -> dict[str, Any]:
    """`study_parts` of a table or a told table, and whether its causal columns rank first."""
    # Shares of hundreds of words take seconds a patient.
    n = replace(
        study.budget,
        faithful=min(study.budget.faithful, 6),
        sanity=min(study.budget.sanity, 3),
        patients=min(study.budget.patients, 12),
    )
    study = replace(study, budget=n)
    part = study_parts(study, modality)
    causes, stated = {}, {}
    if study.truth is not None:
        own = study.cohort.modality(modality).columns
        stated = study.truth.causal_columns(study.run.config.task.name)
        causes = {name: terms for name, terms in stated.items() if name in own}
    if not causes or not part["methods"]:
        if stated and part["recommended"]:
            part["recommended"]["rule"] = RULE_NOTHING
        return part
    there = set(study.cohort.having(modality).tolist())
    ids = [int(i) for i in study.order() if int(i) in there]
    scores = []
    for case in study.cases(modality, ids[: n.patients]):
        parts = part_table(case, modality)
        budget = max(ROUND * len(parts), min(default_budget(len(parts)), MOST))
        shown = explain_modality(case, modality, study.target, budget=budget, seed=study.seed)
        scores.append(score_columns(parts, np.asarray(shown.values[:, 0], np.float64), causes))
    chosen = next(item for item in part["methods"] if item["method"] == "permutation")
    chosen["localisation"] = summarise_events(scores, study.seed)
    part["n"] = len(scores)
    part["truth"] = {
        "causal_columns": sorted(causes),
        "unit": "column",
        "note": (
            "A column counts as a cause when the stated formula reads it. The patient's own value "
            "may happen to contribute nothing; a column that goes with a cause counts as none."
        ),
    }
    if part["recommended"] and len(part["methods"]) == 1:
        part["recommended"]["rule"] = RULE_TRUTH["columns"]
        held = summarise_events(halves(scores)[1], study.seed)
        part["recommended"]["held_out"] = {"localisation": held}
    return part
