"""Does a map depend on the model, and does it hold still when the input barely changes?

Cascading parameter randomisation (Adebayo et al., NeurIPS 2018): weights are drawn anew from the
head down, layer group by layer group, and the map is made again each time. A map that stays the
same shows the input, not what the model has learnt: it survives. Everything happens on a copy of
the model; the shared one is never written to.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.metrics.regression import SSIMMetric
from scipy.stats import rankdata
from torch import nn

from analysis.attribution.case import Case
from analysis.cohort.readers.volume import Volume
from analysis.trust.estimate import mean_interval
from models.contracts import Kind, ModalityInput
from models.network import FusionModel

Floats = npt.NDArray[np.float64]
Explain = Callable[[Case], Mapping[str, npt.ArrayLike]]
"""Makes the maps of a case, {name: array}; arrays of one name have one shape."""

SURVIVES_AT = 0.5
"""A map whose mean rank correlation with its fully randomised self exceeds this survives."""
PARTLY_AT = 0.3
TOP = 0.01
"""Share of voxels (or 5 events, if those are more) that count as the top of a map."""
TOP_EVENTS = 5


# ---------------------------------------------------------------- similarity


@dataclass(frozen=True)
class Similarity:
    """Likeness of two maps. All are 1 for equal maps.

    rank, rank_abs: Spearman correlation of the values and of their magnitudes, -1..1; 0 where one
    of the two is constant (an all-zero map says nothing). top: share of the strongest parts that
    both have. ssim: structural similarity of the magnitudes, volumes only; maps that are zero
    almost everywhere are alike by it whatever they show, so no verdict rests on it.
    """

    rank: float
    rank_abs: float
    top: float
    ssim: float | None = None

    @property
    def strongest(self) -> float:
        """The larger magnitude of the two rank correlations."""
        return max(abs(self.rank), abs(self.rank_abs))


def compare(first: npt.ArrayLike, second: npt.ArrayLike, *, structure: bool = True) -> Similarity:
    """How like two maps of one shape are. Raises ValueError when the shapes differ.

    structure: also SSIM where the maps are volumes, which takes longest.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"maps of {a.shape} and {b.shape} cannot be compared.")
    rank = spearman(a, b)
    unsigned = a.min(initial=0) >= 0 and b.min(initial=0) >= 0
    return Similarity(
        rank=rank,
        rank_abs=rank if unsigned else spearman(np.abs(a), np.abs(b)),
        top=top_overlap(a, b),
        ssim=ssim(a, b) if structure and a.ndim == 3 else None,
    )


def spearman(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Rank correlation in [-1, 1], ties share their mean rank; 0 where one is constant."""
    x, y = rankdata(np.ravel(a)), rankdata(np.ravel(b))
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(np.clip(x @ y / scale, -1.0, 1.0)) if scale > 0 else 0.0


def top_overlap(a: npt.ArrayLike, b: npt.ArrayLike, k: int | None = None) -> float:
    """Share of the k parts with the largest magnitude that two maps have in common.

    k: default 1% of the parts, at least 5. Parts that are 0 are in nobody's top: of two maps with
    fewer than k others, the larger top is the whole. Unrelated full maps share k / P.
    """
    x, y = np.abs(np.ravel(a)), np.abs(np.ravel(b))
    size = min(k or max(TOP_EVENTS, round(TOP * x.size)), x.size)
    first, second = _top(x, size), _top(y, size)
    most = max(len(first), len(second))
    return len(np.intersect1d(first, second)) / most if most else 0.0


def _top(values: npt.NDArray[Any], k: int) -> npt.NDArray[np.int64]:
    chosen = np.argpartition(-values, k - 1)[:k]
    return np.asarray(chosen[values[chosen] > 0], np.int64)


def ssim(a: Floats, b: Floats) -> float:
    """Structural similarity of two magnitude maps, each scaled to a maximum of 1 (MONAI).

    Wang et al. 2004, in 3-D, window of at most 7 voxels. 0 where one map is all zero.
    """
    scaled = []
    for values in (a, b):
        top = np.abs(values).max()
        if top == 0:
            return 0.0
        scaled.append(torch.from_numpy(np.abs(values) / top).float()[None, None])
    window = min(7, *(n if n % 2 else n - 1 for n in a.shape))
    metric = SSIMMetric(spatial_dims=3, data_range=1.0, win_size=window, kernel_type="uniform")
    return float(metric(scaled[0], scaled[1]))


# ---------------------------------------------------------------- twins of a case


class Twin(Case):
    """A patient as `original`, with another model or another input of one modality.

    The other modalities keep their encodings. Its run hash is marked, so that nothing of it can
    be stored as the run's own.
    """

    def __init__(
        self,
        original: Case,
        modality: str,
        mark: str,
        *,
        model: FusionModel | None = None,
        raw: ModalityInput | None = None,
    ) -> None:
        run = original.run
        run = replace(run, model=model or run.model, hash=f"{run.hash}-{mark}")
        self.original = original
        self._changed = {modality: raw or original.raw(modality)}
        with torch.inference_mode():
            encoded = run.model.encode_modality(modality, self._changed[modality])
        plain = _out_of_inference(encoded)
        super().__init__(
            run, original.cohort, original.subject_id, {**original.encoded, modality: plain}
        )

    def raw(self, modality: str) -> ModalityInput:
        """The changed input, or the original one."""
        return self._changed.get(modality) or self.original.raw(modality)

    def scan(self, modality: str, *, native: bool = False) -> Volume:
        """The original's: where the voxels lie."""
        return self.original.scan(modality, native=native)


def _out_of_inference(encoded: Any) -> Any:
    parts = ("tokens", "mask", "pooled", "present")
    return replace(encoded, **{name: getattr(encoded, name).clone() for name in parts})


# ---------------------------------------------------------------- randomisation


def cascade(model: FusionModel, modality: str, n_groups: int = 4) -> list[tuple[str, list[str]]]:
    """The groups of modules that are randomised one after another, head first.

    [(title, module names)]: the fusion with its head, then the modality's encoder in `n_groups`
    runs of modules from the last to the first. Modules without parameters are not listed.
    """
    head = [n for n, m in model.named_modules() if _own(m) and n.startswith("strategy")]
    prefix = f"encoders.{modality}"
    inner = [n for n, m in model.named_modules() if _own(m) and _within(n, prefix)]
    groups = [("fusion and head", head)]
    cuts = np.array_split(np.array(inner[::-1], dtype=object), max(1, min(n_groups, len(inner))))
    for names in cuts:
        if len(names):
            first, last = (n.removeprefix(prefix).lstrip(".") or "encoder" for n in names[[0, -1]])
            groups.append((first if first == last else f"{first} to {last}", list(names)))
    return groups


def randomise(model: nn.Module, names: Sequence[str], seed: int) -> None:
    """Draw the own parameters of these modules anew, in place: the caller owns the model.

    By the module's own `reset_parameters` where it has one; else normal with mean 0 and the
    spread of the trained values (their size, for single numbers).
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for name in names:
            module = model.get_submodule(name)
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
                continue
            for parameter in module.parameters(recurse=False):
                spread = parameter.std() if parameter.numel() > 1 else parameter.abs()
                scale = max(float(spread.max()) if spread.numel() else 0.0, 0.02)
                parameter.copy_(torch.randn_like(parameter) * scale)


def randomised(
    case: Case, modality: str, n_groups: int = 4, seed: int = 0
) -> Iterator[tuple[str, Twin]]:
    """The case with more and more random weights: (title of the last group, twin)."""
    model = copy.deepcopy(case.model)
    model.requires_grad_(False)
    for number, (title, names) in enumerate(cascade(model, modality, n_groups)):
        randomise(model, names, seed * 1000 + number)
        yield title, Twin(case, modality, f"random-{seed}-{number}", model=model)


def randomisation(
    case: Case, modality: str, explain: Explain, *, n_groups: int = 4, seed: int = 0
) -> dict[str, list[tuple[str, Similarity]]]:
    """Likeness of each map of a patient to its remake, stage by stage; the last is full.

    {map name: [(group last randomised, similarity)]}. `explain` is called once a stage.
    """
    original = explain(case)
    found: dict[str, list[tuple[str, Similarity]]] = {name: [] for name in original}
    last = len(cascade(case.model, modality, n_groups)) - 1
    for number, (title, twin) in enumerate(randomised(case, modality, n_groups, seed)):
        again = explain(twin)
        for name, values in original.items():
            like = compare(values, again[name], structure=number == last)
            found[name].append((title, like))
    return found


def summarise_randomisation(
    patients: Sequence[Sequence[tuple[str, Similarity]]], seed: int = 0
) -> dict[str, Any]:
    """Over patients: likeness at each stage and the verdict on the last one.

    verdict: 'survives' when the mean of the larger |rank correlation| after full randomisation
    exceeds SURVIVES_AT, 'partly' above PARTLY_AT, else 'depends on the weights'.
    """
    if not patients:
        return {"n": 0, "verdict": "not measured", "stages": []}
    stages: list[dict[str, Any]] = []
    for number, (title, _) in enumerate(patients[0]):
        at = [p[number][1] for p in patients]
        stages.append(
            {
                "after": title,
                "rank": mean_interval([s.rank for s in at], seed),
                "rank_abs": mean_interval([s.rank_abs for s in at], seed),
                "strongest": mean_interval([s.strongest for s in at], seed),
                "top_overlap": mean_interval([s.top for s in at], seed),
                "ssim": _ssim(at, seed),
            }
        )
    last = stages[-1]["strongest"]["value"]
    verdict = "depends on the weights"
    if last > PARTLY_AT:
        verdict = "survives" if last > SURVIVES_AT else "partly"
    return {
        "n": len(patients),
        "verdict": verdict,
        "similarity": stages[-1]["strongest"],
        "threshold": SURVIVES_AT,
        "stages": stages,
    }


def _ssim(at: Sequence[Similarity], seed: int) -> dict[str, Any] | None:
    values = [s.ssim for s in at if s.ssim is not None]
    return mean_interval(values, seed) if values else None


# ---------------------------------------------------------------- stability


NOISE_HU, NOISE_MV, NOISE_GRAY = 7.0, 0.02, 3.0
"""Standard deviations of the noise on a voxel, a sample of a signal, a pixel of 0 to 255."""
_NOISY: Mapping[Kind, str] = {
    Kind.VOLUME: "volume",
    Kind.SIGNAL: "signal",
    Kind.VIDEO: "video",
    Kind.BAG: "features",
    Kind.TEXT: "numbers",
}


def jittered(
    case: Case, modality: str, *, noise_hu: float = NOISE_HU, share: float, seed: int
) -> Twin:
    """The case with a little noise on one modality.

    Volumes: Gaussian noise of `noise_hu` on every voxel. Signals: of `NOISE_MV` on every recorded
    sample. Videos: of `NOISE_GRAY` on every pixel of the recorded views, cut to 0 to 255. Events:
    every value times 1 + `share` z. Tables, told in sentences or not: likewise, every number.
    Bags: every feature plus `share` of its own spread times z.
    """
    raw = case.raw(modality)
    rng = torch.Generator().manual_seed(seed)
    fields = dict(raw.fields)
    name = _NOISY.get(raw.kind, "values")
    values = fields[name]
    noise = torch.randn(values.shape, generator=rng)
    if raw.kind is Kind.VOLUME:
        fields[name] = values + noise_hu * noise
    elif raw.kind is Kind.SIGNAL:
        fields[name] = values + NOISE_MV * noise * fields["mask"]
    elif raw.kind is Kind.VIDEO:
        seen = fields["mask"].reshape(*fields["mask"].shape, 1, 1, 1, 1)
        fields[name] = (values + NOISE_GRAY * noise * seen).clamp(0.0, 255.0)
    elif raw.kind is Kind.BAG:
        fields[name] = values + share * values.std(dim=1, keepdim=True) * noise
    else:
        fields[name] = values * (1 + share * noise)
    return Twin(case, modality, f"noise-{seed}", raw=replace(raw, fields=fields))


def stability(
    case: Case,
    modality: str,
    explain: Explain,
    *,
    noise_hu: float = NOISE_HU,
    share: float = 0.01,
    repeats: int = 2,
    seed: int = 0,
) -> dict[str, Similarity]:
    """Mean likeness of each map to its remake from an input with a little noise."""
    original = explain(case)
    made: dict[str, list[Similarity]] = {name: [] for name in original}
    for number in range(repeats):
        twin = jittered(case, modality, noise_hu=noise_hu, share=share, seed=seed * 97 + number)
        again = explain(twin)
        for name, values in original.items():
            made[name].append(compare(values, again[name]))
    return {name: _mean(items) for name, items in made.items()}


def _mean(items: Sequence[Similarity]) -> Similarity:
    likeness = [s.ssim for s in items if s.ssim is not None]
    return Similarity(
        rank=float(np.mean([s.rank for s in items])),
        rank_abs=float(np.mean([s.rank_abs for s in items])),
        top=float(np.mean([s.top for s in items])),
        ssim=float(np.mean(likeness)) if likeness else None,
    )


def summarise_stability(patients: Sequence[Similarity], seed: int = 0) -> dict[str, Any]:
    """Over patients: mean likeness; 1 is a map that does not move."""
    return {
        "n": len(patients),
        "rank": mean_interval([s.rank for s in patients], seed),
        "top_overlap": mean_interval([s.top for s in patients], seed),
        "ssim": _ssim(patients, seed),
    }


def _own(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None


def _within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")
