"""Everything that explains one prediction of one run, as plain JSON: what the patient page shows.

The page and the command call this with the same settings and the same store, so they show the
same numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from analysis.attribution.attention import LabelledAttention, attention_maps
from analysis.attribution.case import Case
from analysis.attribution.modalities import ModalityLedger, modality_ledger
from analysis.attribution.regions import region_name
from analysis.attribution.result import Attribution, VolumeMap, describe_target
from analysis.attribution.signal import SignalMap, segment_shares
from analysis.attribution.stored import (
    stored_attribution,
    stored_map,
    stored_signal_map,
    stored_video_map,
)
from analysis.attribution.target import Survival, Target
from analysis.attribution.video import VideoMap
from analysis.attribution.volume import layers_of
from analysis.cohort.cohort import Cohort
from analysis.ecg import Delineation, delineate
from analysis.outlook import Outlook, SurvivalOutlook
from analysis.store import ResultStore
from analysis.trust.card import card
from analysis.trust.report import recommended, report_part, stored_trust
from models.checkpoint import Run
from models.contracts import Kind

Report = Mapping[str, Any]
Choice = tuple[str, str | None]
# Where no trust report says which map to show: the elementwise form at the finest layer that
# still looks at everything deeper.
FALLBACK_METHOD, FALLBACK_LAYER = "hirescam", "fine"
CURVE_DAYS = 16
LEDGER_MODALITIES = 3
TRUST_FILE = "trust.json"


@dataclass(frozen=True)
class Explained:
    """All results behind one explanation. notes: what could not be made, and why."""

    ledger: ModalityLedger
    maps: tuple[VolumeMap, ...]
    signals: tuple[SignalMap, ...]
    videos: tuple[VideoMap, ...]
    attributions: tuple[Attribution, ...]
    attention: tuple[LabelledAttention, ...]
    notes: tuple[str, ...]


def find_trust(run: Run, cohorts: Sequence[Cohort | None], store: ResultStore) -> Report | None:
    """The latest trust report of a run on the first of these cohorts that has one.

    Else the report that came with the run (RUN/trust.json), unless it is of other weights.
    """
    for cohort in cohorts:
        found = None if cohort is None else stored_trust(run, cohort, store)
        if found is not None:
            return found
    path = run.folder / TRUST_FILE
    try:
        came: Report = json.loads(path.read_text(encoding="utf-8"))
        return came if came["run_hash"] == run.hash else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def recommended_map(case: Case, modality: str, trust: Report | None) -> Choice:
    """(method, layer) that the trust report recommends for a volume, else a stated fallback."""
    chosen = recommended(trust, modality)
    if chosen is not None:
        return chosen
    layers = list(layers_of(case, modality))
    return FALLBACK_METHOD, FALLBACK_LAYER if FALLBACK_LAYER in layers else layers[-1]


def recommended_recording_map(case: Case, modality: str, trust: Report | None) -> Choice:
    """(method, layer) for an ECG or echo: the trust report's, else Grad-CAM++ at the last layer."""
    chosen = recommended(trust, modality)
    return chosen or ("gradcam_plus_plus", list(case.model.encoder(modality).map_layers)[-1])


def default_contexts(case: Case) -> str:
    """What shares of parts add up to where nobody says: the ledger's share, or f(x) - f(without).

    The ledger's average runs over 2^(M - 1) companies; above three modalities that costs more
    than a reader waits for, and the plain difference is explained.
    """
    return "ledger" if len(case.present) <= LEDGER_MODALITIES else "given"


def over_time(target: Target) -> Target:
    """Survival at one horizon as the curve over all days: the evaluations are the same."""
    if not isinstance(target, Survival) or len(target.days) > 1:
        return target
    end = float(target.baseline.time_days[-1])
    return Survival(target.baseline, curve_days(end, target.days[0]))


def curve_days(end: float, horizon: float, n: int = CURVE_DAYS) -> tuple[float, ...]:
    """Whole days, evenly spread to the horizon and from there to the end; the horizon is one."""
    first = np.linspace(0, horizon, n // 2 + 1)[1:]
    rest = np.linspace(horizon, end, n // 2 + 1)[1:]
    days = {float(np.floor(day)) for day in (*first, *rest)} | {float(horizon)}
    return tuple(sorted(day for day in days if 0 < day <= end or day == horizon))


def output_of(found: Attribution, target: Target) -> int:
    """Which of an attribution's outputs is the target's own number."""
    days = found.target.get("days")
    if not days or not isinstance(target, Survival):
        return 0
    return int(np.abs(np.asarray(days) - target.days[0]).argmin())


def explain(
    case: Case,
    target: Target,
    store: ResultStore,
    *,
    trust: Report | None = None,
    volume_choice: Choice | None = None,
    part_method: str = "permutation",
    contexts: str | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Explained:
    """Ledger, a map a volume, shares of all other modalities' parts, attention; all stored.

    target: of one number. contexts: `default_contexts` if not said. volume_choice: (method,
    layer) instead of the recommended one. What cannot be made for this patient (a map of a
    scan of which only features were kept) is noted. Raises AttributionError for what does not
    exist: a method, a layer.
    """
    planned, notes = pieces(
        case, target, store, trust=trust, volume_choice=volume_choice, part_method=part_method,
        contexts=contexts, seed=seed, progress=progress,
    )  # fmt: skip
    made = [piece.make() for piece in planned]
    return Explained(
        modality_ledger(case, target),
        tuple(m for m in made if isinstance(m, VolumeMap)),
        tuple(m for m in made if isinstance(m, SignalMap)),
        tuple(m for m in made if isinstance(m, VideoMap)),
        tuple(m for m in made if isinstance(m, Attribution)),
        tuple(attention_maps(case, target)),
        tuple(notes),
    )


@dataclass(frozen=True)
class Piece:
    """One stored explanation of a case: 'maps' or 'parts' of a modality, made or found."""

    what: str
    modality: str
    make: Callable[[], VolumeMap | SignalMap | VideoMap | Attribution]


def pieces(
    case: Case,
    target: Target,
    store: ResultStore,
    *,
    trust: Report | None = None,
    volume_choice: Choice | None = None,
    part_method: str = "permutation",
    contexts: str | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Piece], list[str]]:
    """What `explain` is made of, and why the rest is not there. Nothing is computed yet.

    Each piece is one result of the store, under the key that the patient page asks for.
    """
    found: list[Piece] = []
    notes = []

    def parts(name: str) -> Attribution:
        return stored_attribution(
            case, name, over_time(target), store, method=part_method,
            contexts=contexts or default_contexts(case), seed=seed, progress=progress,
        )  # fmt: skip

    def volume(name: str) -> VolumeMap:
        method, layer = volume_choice or recommended_map(case, name, trust)
        return stored_map(case, name, target, store, method=method, layer=layer, seed=seed)

    def signal(name: str) -> SignalMap:
        method, layer = recommended_recording_map(case, name, trust)
        return stored_signal_map(case, name, target, store, method=method, layer=layer)

    def video(name: str) -> VideoMap:
        method, layer = recommended_recording_map(case, name, trust)
        return stored_video_map(case, name, target, store, method=method, layer=layer)

    drawn: dict[Kind, Callable[[str], VolumeMap | SignalMap | VideoMap]]
    drawn = {Kind.VOLUME: volume, Kind.SIGNAL: signal, Kind.VIDEO: video}
    for name in case.present:
        kind = case.kind(name)
        there = case.has_scan(name) if kind is Kind.VOLUME else case.has_input(name)
        if kind in drawn and not there:
            notes.append(_only_features(case, name))
            continue
        if kind in drawn:
            found.append(Piece("maps", name, partial(drawn[kind], name)))
        if kind is not Kind.VOLUME:
            found.append(Piece("parts", name, partial(parts, name)))
    return found, notes


def _only_features(case: Case, name: str) -> str:
    words = "scan, so there is no picture to explain"
    if case.kind(name) is not Kind.VOLUME:
        words = "recording, so there is nothing to point to"
    return f"patient {case.subject_id}: only the features of '{name}' were kept, not the {words}."


# ---------------------------------------------------------------- as plain JSON


def explanation_json(
    case: Case,
    target: Target,
    found: Explained,
    outlook: Outlook,
    trust: Report | None = None,
    top: int | None = None,
) -> dict[str, Any]:
    """What `fusionlens explain --json` prints. top: rows a list; None keeps all parts."""
    config = case.run.config
    return {
        "run": config.name,
        "title": config.title,
        "run_hash": case.run.hash,
        "cohort": case.cohort.spec.name,
        "patient": case.subject_id,
        "task": config.task.name,
        "explained": {**describe_target(target), "value": case.value(target)[0]},
        "prediction": _prediction(outlook),
        "present": list(case.present),
        "absent": [n for n in config.modalities if n not in case.present],
        "ledger": ledger_json(found.ledger),
        "maps": [_map_json(case, made, trust) for made in found.maps],
        "signals": [_signal_json(case, made, trust) for made in found.signals],
        "videos": [_video_json(made, trust) for made in found.videos],
        "parts": [_parts_json(made, target, trust, top) for made in found.attributions],
        "attention": [_attention_json(made, top or 20) for made in found.attention],
        "notes": list(found.notes),
        "notice": "Research use only. Not for clinical decisions.",
    }


def _prediction(outlook: Outlook) -> dict[str, Any]:
    if not isinstance(outlook, SurvivalOutlook):
        return {"probabilities": dict(outlook.probabilities)}
    return {
        "log_risk": outlook.log_risk,
        "relative_log_risk": outlook.relative,
        "percentile": _finite(outlook.percentile),
        "training_patients": outlook.n_training,
        "horizon_days": outlook.horizon_days,
        "survival_at_horizon": _finite(outlook.at_horizon),
        "median_days": outlook.median_days,
    }


def ledger_json(found: ModalityLedger, output: int = 0) -> dict[str, Any]:
    """A ledger of one number; an absent modality's share is null."""
    shares = {name: found.share(name) for name in found.titles}
    return {
        "reference": float(found.base[output]),
        "shares": {n: None if s is None else float(s[output]) for n, s in shares.items()},
        "interactions": {
            " x ".join(pair): float(value[output]) for pair, value in found.interactions.items()
        },
        "prediction": float(found.whole[output]),
        "gap": found.gap,
    }


def _map_json(case: Case, found: VolumeMap, trust: Report | None) -> dict[str, Any]:
    peak = found.peak_mm
    judged = card(report_part(trust, found.modality, found.method, found.layer))
    return {
        "modality": found.modality,
        "method": found.method,
        "layer": found.layer,
        "signed": found.signed,
        "grid": list(found.values.shape),
        "largest": float(np.abs(found.values).max()),
        "peak_mm": None if peak is None else list(peak),
        "place": None
        if peak is None
        else region_name(peak, case.scan(found.modality, native=True)),
        "gap": found.gap,
        "trust": {"level": judged.level, "sentences": list(judged.sentences)},
    }


def _signal_json(case: Case, found: SignalMap, trust: Report | None) -> dict[str, Any]:
    """Where a map over leads and time lies: by lead, by segment, and its peak."""
    judged = card(report_part(trust, found.modality, found.method, found.layer))
    waves = delineation(case, found.modality)
    shares = segment_shares(found, waves.segments) if len(waves.segments) else None
    peak = found.peak
    return {
        "modality": found.modality,
        "method": found.method,
        "layer": found.layer,
        "signed": found.signed,
        "step_s": found.step_s,
        "largest": float(np.abs(found.values).max()),
        "peak": None if peak is None else {"lead": peak[0], "seconds": peak[1]},
        "leads": found.by_lead().to_dict("records"),
        "segments": [] if shares is None else _rows(shares),
        "measures": asdict(waves.measures),
        "gap": found.gap,
        "trust": {"level": judged.level, "sentences": list(judged.sentences)},
    }


def _video_json(found: VideoMap, trust: Report | None) -> dict[str, Any]:
    """Where a map over views lies."""
    judged = card(report_part(trust, found.modality, found.method, found.layer))
    return {
        "modality": found.modality,
        "method": found.method,
        "layer": found.layer,
        "grid": list(found.values.shape),
        "largest": float(found.values.max()),
        "peak_view": found.peak_view,
        "views": found.by_view().to_dict("records"),
        "trust": {"level": judged.level, "sentences": list(judged.sentences)},
    }


def delineation(case: Case, modality: str) -> Delineation:
    """Beats and segments of a patient's signal as it was recorded, not as the model filters it."""
    signal = case.tracing(modality)
    return delineate(signal.array, signal.leads, signal.rate_hz)


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): _plain(v) for k, v in row.items()} for row in frame.to_dict("records")]


def _parts_json(
    found: Attribution, target: Target, trust: Report | None, top: int | None
) -> dict[str, Any]:
    judged = card(report_part(trust, found.modality, found.method))
    output = output_of(found, target)
    shares = found.values[:, output]
    order = np.argsort(-np.abs(shares), kind="stable")[:top]
    rows = []
    for i in order:
        part = {name: _plain(value) for name, value in found.parts.iloc[int(i)].items()}
        part["share"] = float(shares[i])
        if found.spread is not None:
            part["spread"] = float(found.spread[i])
        rows.append(part)
    return {
        "modality": found.modality,
        "kind": found.kind,
        "method": found.method,
        "contexts": found.parameters.get("contexts"),
        "reference": float(found.reference[output]),
        "whole": float(found.whole[output]),
        "sum_of_shares": float(shares.sum()),
        "gap": found.gap,
        "agreement": found.agreement,
        "evaluations": found.evaluations,
        "n_parts": len(found.parts),
        "parts": rows,
        "trust": {"level": judged.level, "sentences": list(judged.sentences)},
    }


def _attention_json(found: LabelledAttention, top: int) -> dict[str, Any]:
    cells = found.strongest(top)
    return {
        "name": found.name,
        "query": found.query,
        "key": found.key,
        "method": found.method,
        "heads": found.heads,
        "rows": len(found.rows),
        "columns": len(found.columns),
        "to_nothing": None if found.null is None else float(found.null.mean()),
        "strongest": [
            {name: _plain(value) for name, value in row.items()} for _, row in cells.iterrows()
        ],
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _plain(value: Any) -> Any:
    """A cell of a table of labels as JSON; missing is null, a date is ISO 8601."""
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return None
    if hasattr(value, "isoformat"):
        return None if str(value) == "NaT" else value.isoformat()
    return value.item() if isinstance(value, np.generic) else value
