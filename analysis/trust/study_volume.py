"""Trust of the maps of a volume: every layer and method, and those on the input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.attribution.case import Case
from analysis.attribution.game import Game
from analysis.attribution.result import VolumeMap
from analysis.attribution.volume import METHODS, layer_maps, layers_of, volume_map
from analysis.trust import faithfulness as faith
from analysis.trust.agreement import map_agreement
from analysis.trust.localisation import MapScore, grow, score_map, summarise_maps
from analysis.trust.study import (
    RULE_FAITHFUL,
    RULE_TRUTH,
    WITHIN_POINTING,
    Entry,
    Study,
    check_sanity,
    entry,
    gain,
    halves,
    mean_matrices,
    survives,
)
from models.contracts import VoxelGrid

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SHORTLIST = 3
# Coarser than the page's defaults: what is measured here is where they point, not their detail.
SLOW: Mapping[str, dict[str, Any]] = {
    "integrated_gradients": {"steps": 16},
    "occlusion": {"block_mm": 55.0},
}


def key_of(method: str, layer: str | None) -> str:
    """Names a map within a report: 'hirescam at fine'."""
    return method if layer is None else f"{method} at {layer}"


def study_volume(study: Study, modality: str) -> dict[str, Any]:
    """The report's part for a volume."""
    lesion = _lesion(study, modality)
    ids, without = _patients(study, modality, lesion)
    if not ids:
        return {"kind": "volume", "n": 0, "methods": [], "recommended": None, "why": "no scans"}
    scores, cases = _localise(study, modality, lesion, ids)
    entries = _entries(cases[0], modality, study)
    for name, found in scores.items():
        entries[name]["localisation"] = summarise_maps(found, study.seed)
    n = study.budget
    random, still = check_sanity(
        study, modality, cases[: n.sanity], lambda case: _values(case, modality, study)
    )
    for name, item in entries.items():
        item["randomisation"], item["stability"] = random.get(name), still.get(name)
    measured = _faithful(study, modality, cases[: n.faithful])
    for name, patients in measured.items():
        entries[name]["faithfulness"] = {
            "tokens_left_out": {"n": len(patients), **faith.summarise(patients, study.seed)}
        }
    ranked = _ranking(entries, scores, measured)
    shortlist = [name for name in ranked if not survives(entries[name])][:SHORTLIST]
    shortlist = shortlist or ranked[:1]
    for name, patients in _blurred(study, modality, cases[: n.slow], shortlist).items():
        entries[name]["faithfulness"]["blocks_blurred"] = {
            "n": len(patients),
            **faith.summarise(patients, study.seed),
        }
    return {
        "kind": "volume",
        "n": len(ids),
        "truth": None if lesion is None else _truth_json(cases[0], modality, lesion, without),
        "methods": list(entries.values()),
        "recommended": _recommend(study, entries, shortlist[0], scores, measured),
        "agreement": _agreement(study, modality, cases[: n.slow], shortlist),
    }


def _lesion(study: Study, modality: str) -> str | None:
    truth = study.truth
    if truth is None or truth.volume_modality != modality or not truth.lesions:
        return None
    return truth.lesions[0]


def _patients(study: Study, modality: str, lesion: str | None) -> tuple[list[int], int]:
    """Patients whose scan is a file and (where known) shows the lesion; how many showed none."""
    scans = study.cohort.volumes(modality)
    chosen: list[int] = []
    without = 0
    for subject in study.order():
        if len(chosen) == study.budget.patients:
            break
        if int(subject) not in scans:
            continue
        if lesion is not None and study.truth is not None:
            mask = study.truth.mask(int(subject), lesion)
            if mask is None or not mask.any():
                without += 1
                continue
        chosen.append(int(subject))
    return chosen, without


def _localise(
    study: Study, modality: str, lesion: str | None, ids: Sequence[int]
) -> tuple[dict[str, list[MapScore]], list[Case]]:
    """Scores of every map by patient, and the first cases for the other checks."""
    budget = study.budget
    keep = max(budget.faithful, budget.sanity, budget.slow)
    scores: dict[str, list[MapScore]] = {}
    cases = []
    for number, case in enumerate(study.cases(modality, ids if lesion else ids[:keep])):
        if number < keep:
            cases.append(case)
        if lesion is None or study.truth is None:
            continue
        mask = study.truth.mask(case.subject_id, lesion)
        assert mask is not None
        scan = case.scan(modality, native=True)
        grown = grow(mask, scan.spacing_mm, case.scan(modality).spacing_mm)
        maps: dict[str, VolumeMap] = _layer_maps(case, modality, study)
        if number < budget.slow:
            maps |= _slow_maps(case, modality, study)
        for name, shown in maps.items():
            scores.setdefault(name, []).append(score_map(shown, scan, mask, grown))
    return scores, cases


def _layer_maps(case: Case, modality: str, study: Study) -> dict[str, VolumeMap]:
    made = layer_maps(case, modality, study.target)
    return {key_of(method, layer): shown for (method, layer), shown in made.items()}


def _slow_maps(case: Case, modality: str, study: Study) -> dict[str, VolumeMap]:
    key = (modality, case.subject_id)
    if key not in study.slow_maps:
        study.slow_maps[key] = {
            name: volume_map(case, modality, study.target, name, **settings)
            for name, settings in SLOW.items()
        }
    return study.slow_maps[key]


def _values(case: Case, modality: str, study: Study) -> dict[str, npt.NDArray[np.float32]]:
    return {name: shown.values for name, shown in _layer_maps(case, modality, study).items()}


def _entries(case: Case, modality: str, study: Study) -> dict[str, Entry]:
    made = {}
    titles = layers_of(case, modality)
    for method in METHODS.values():
        for layer in titles if method.needs_layer else [None]:
            where = f" at {titles[layer]}" if layer else ""
            made[key_of(method.name, layer)] = entry(method.name, layer, f"{method.title}{where}")
    return made


def _faithful(
    study: Study, modality: str, cases: Sequence[Case]
) -> dict[str, list[faith.Faithfulness]]:
    """Deletion and insertion by the encoder's own tokens (nothing is encoded again)."""
    found: dict[str, list[faith.Faithfulness]] = {}
    for number, case in enumerate(cases):
        study.say(f"{modality}: deletion and insertion", number, len(cases))
        game = Game(case, modality, study.target)
        maps = _layer_maps(case, modality, study)
        parts = {name: token_sums(case, modality, shown) for name, shown in maps.items()}
        made = faith.faithfulness(
            lambda kept, game=game: game(kept)[:, 0],  # type: ignore[misc]
            parts,
            n_points=14,
            n_random=8,
            seed=study.seed + number,
        )
        for name, item in made.items():
            found.setdefault(name, []).append(item)
    return found


def token_sums(case: Case, modality: str, shown: VolumeMap) -> Floats:
    """(N,) a map summed over the cell of each of the encoder's tokens."""
    layout = case.encoded[modality].layout
    assert isinstance(layout, VoxelGrid)
    values = shown.on(case.scan(modality)).astype(np.float64)
    split = [k for n, b in zip(values.shape, layout.shape, strict=True) for k in (b, n // b)]
    summed: Floats = values.reshape(split).sum(axis=(1, 3, 5)).reshape(-1)
    return summed


def _blurred(
    study: Study, modality: str, cases: Sequence[Case], names: Sequence[str]
) -> dict[str, list[faith.Faithfulness]]:
    """Deletion and insertion by blocks of the scan that are blurred and encoded again."""
    found: dict[str, list[faith.Faithfulness]] = {}
    for number, case in enumerate(cases):
        study.say(f"{modality}: deletion in the scan", number, len(cases))
        blocks = faith.Blocks(case, modality, study.target)
        maps = _layer_maps(case, modality, study)
        parts = {name: blocks.parts(maps[name]) for name in names}
        made = faith.faithfulness(blocks, parts, n_points=10, n_random=3, seed=study.seed + number)
        for name, item in made.items():
            found.setdefault(name, []).append(item)
    return found


# ---------------------------------------------------------------- which one is shown


def _ranking(
    entries: Mapping[str, Entry],
    scores: Mapping[str, list[MapScore]],
    measured: Mapping[str, list[faith.Faithfulness]],
) -> list[str]:
    """Maps of all layers, best first, on the half that is for choosing."""
    if not scores:
        return sorted(measured, key=lambda name: -gain(halves(measured[name])[0]))
    point, energy = {}, {}
    for name in measured:
        half = halves(scores[name])[0]
        point[name] = float(np.mean([s.pointing for s in half]))
        energy[name] = float(np.median([s.energy / s.lesion_share for s in half]))
    best = max(point.values())

    def place(name: str) -> tuple[bool, float, float]:
        near = point[name] >= best - WITHIN_POINTING - 1e-9
        return (not near, -energy[name] if near else -point[name], -energy[name])

    return sorted(point, key=place)


def _recommend(
    study: Study,
    entries: Mapping[str, Entry],
    name: str,
    scores: Mapping[str, list[MapScore]],
    measured: Mapping[str, list[faith.Faithfulness]],
) -> dict[str, Any]:
    chosen = entries[name]
    chosen["recommended"] = True
    held = {}
    if name in scores:
        held["localisation"] = summarise_maps(halves(scores[name])[1], study.seed)
    else:
        rest = halves(measured[name])[1]
        held["faithfulness"] = {"tokens_left_out": faith.summarise(rest, study.seed)}
    return {
        "method": chosen["method"],
        "layer": chosen["layer"],
        "title": chosen["title"],
        "rule": RULE_TRUTH["volume"] if scores else RULE_FAITHFUL,
        "held_out": held,
        "survives_random_weights": survives(chosen),
    }


def _truth_json(case: Case, modality: str, lesion: str, without: int) -> dict[str, Any]:
    return {
        "lesion": lesion,
        "without_lesion_left_out": without,
        "tolerance_mm": [float(mm) for mm in case.scan(modality).spacing_mm],
        "note": (
            "The strongest point counts as right within one voxel of the encoder's grid of the "
            "lesion. Other true causes in the scan (the shape of the heart) have no mask: a map "
            "that points at them counts as a miss."
        ),
    }


def _agreement(
    study: Study, modality: str, cases: Sequence[Case], shortlist: Sequence[str]
) -> dict[str, Any] | None:
    found = []
    for case in cases:
        maps = _layer_maps(case, modality, study)
        chosen = {name: maps[name] for name in shortlist}
        found.append(map_agreement(case, chosen | _slow_maps(case, modality, study)).as_json())
    return mean_matrices(found)
