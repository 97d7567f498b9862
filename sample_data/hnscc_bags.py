"""The bags of a simulated head and neck cancer patient: tiles of a slide, cores of a microarray.

A tile or core is the vector that a pathology encoder would give it: 1,024 numbers, the sum of

    the tissue's (or stain's) own vector
    what the tissue shows of the patient, each quantity along a direction of its own
    the site's colour, and twelve directions in which slides and tiles differ without meaning
    noise

The directions belong to the encoder, not to the cohort: they are the same whatever the seed, so
that a run trained on one simulated cohort reads another.

Only some instances show the patient. On a slide, tumour shows aggression, budding and p16, and
stroma within the tumour shows whether immune cells are kept out; lymphoid tissue, epithelium,
muscle and keratin show nothing. On a microarray HE shows aggression,
CD3, CD8 and MHC1 exclusion, PDL1 and CD68 the checkpoint ligand, unless the core missed the tumour;
CD56 and CD163 show nothing.

Numbers are kept in steps of a quarter: a hundredth of their variance, and a sixth of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sample_data.hnscc_patients import TMA, WSI, HnsccPatient, Stream

WIDTH = 1024
STEP, LARGEST = 0.25, 3.75

TUMOUR, STROMA = "tumour", "tumour stroma"
TISSUES = (TUMOUR, STROMA, "lymphoid tissue", "squamous epithelium", "muscle", "keratin")
_OTHER_SHARES = (0.20, 0.25, 0.40, 0.15)  # of what is neither tumour nor its stroma
STAINS = ("CD163", "CD3", "CD56", "CD68", "CD8", "HE", "MHC1", "PDL1")
PLACES = ("tumour centre", "invasion front")
QUANTITIES = ("aggression", "exclusion", "budding", "p16", "checkpoint")
SHOWN_BY_TISSUE: Mapping[str, tuple[str, ...]] = {
    TUMOUR: ("aggression", "budding", "p16"),
    STROMA: ("exclusion",),
}
SHOWN_BY_STAIN: Mapping[str, tuple[str, ...]] = {
    "HE": ("aggression",),
    "CD3": ("exclusion",),
    "CD8": ("exclusion",),
    "MHC1": ("exclusion",),
    "CD68": ("checkpoint",),
    "PDL1": ("checkpoint",),
}
_NUISANCE = 12
_LOST_CORE, _MISSED_TUMOUR = 0.12, 0.15

_OWN = 0.40  # of each number, the tissue's or stain's own
_STATE = 12.0  # length along a quantity
_WITHIN = 0.4  # spread about the patient's value where it is shown
_BY_CHANCE = 0.3  # spread about nothing where it is not
_SLIDE, _TILE = 2.0, 1.5  # length along the directions without meaning
_COLOUR = 3.0
_NOISE = 0.60

_encoder = np.random.default_rng(20252025)
_OF_TISSUE = dict(zip(TISSUES, _OWN * _encoder.standard_normal((len(TISSUES), WIDTH)), strict=True))
_OF_STAIN = dict(zip(STAINS, _OWN * _encoder.standard_normal((len(STAINS), WIDTH)), strict=True))
_DIRECTIONS = _encoder.standard_normal((2, len(QUANTITIES) + _NUISANCE + 1, WIDTH)) / WIDTH**0.5
"""By bag (slide, microarray): quantities, directions without meaning, colour; of length 1."""


@dataclass(frozen=True)
class Instances:
    """A bag with its truth. features: float32 (N, WIDTH). names: unique within the bag.

    tissue: of TISSUES for a slide; 'tumour' or 'no tumour' for a core. carries: the quantities
    that the instance shows of this patient, '' where none. x, y: of a tile on the slide's grid.
    """

    features: npt.NDArray[np.float32]
    names: tuple[str, ...]
    tissue: tuple[str, ...]
    carries: tuple[str, ...]
    x: tuple[int | None, ...]
    y: tuple[int | None, ...]


def draw_slide(patient: HnsccPatient, fewest: int, most: int) -> Instances:
    """The tiles of the patient's slide, `fewest` to `most` of them."""
    rng = patient.generator(Stream.WSI)
    n = int(rng.integers(fewest, most + 1))
    x, y = _places(n, rng)
    tissue = _tissues(x, y, rng)
    values = {**patient.shown[WSI], "p16": 1.6 * patient.p16_positive - 0.3}
    shown = [SHOWN_BY_TISSUE.get(name, ()) for name in tissue]
    own = np.stack([_OF_TISSUE[name] for name in tissue])
    return Instances(
        features=_features(own, shown, values, patient.site.stain, 0, rng),
        names=tuple(f"x{a:02d} y{b:02d}" for a, b in zip(x, y, strict=True)),
        tissue=tuple(tissue),
        carries=tuple(", ".join(names) for names in shown),
        x=tuple(x),
        y=tuple(y),
    )


def draw_cores(patient: HnsccPatient) -> Instances:
    """Up to sixteen cores: each stain at the tumour's centre and at the invasion front."""
    rng = patient.generator(Stream.TMA)
    cores = sorted((stain, place) for stain in STAINS for place in PLACES)
    lost, missed = rng.random((2, len(cores)))
    kept = [at for at in range(len(cores)) if lost[at] >= _LOST_CORE] or [
        cores.index(("HE", PLACES[0]))
    ]
    hit = [bool(missed[at] >= _MISSED_TUMOUR) for at in kept]
    stains = [cores[at][0] for at in kept]
    shown = [SHOWN_BY_STAIN.get(s, ()) if h else () for s, h in zip(stains, hit, strict=True)]
    own = np.stack([_OF_STAIN[stain] for stain in stains])
    nowhere = (None,) * len(kept)
    return Instances(
        features=_features(own, shown, patient.shown[TMA], patient.site.stain, 1, rng),
        names=tuple(", ".join(cores[at]) for at in kept),
        tissue=tuple(TUMOUR if h else "no tumour" for h in hit),
        carries=tuple(", ".join(names) for names in shown),
        x=nowhere,
        y=nowhere,
    )


def _places(n: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """The n tiles' places, all different, on a square grid half as large again; by x, then y."""
    side = int(np.ceil((1.5 * n) ** 0.5))
    cells = np.sort(rng.choice(side * side, size=n, replace=False))
    return (cells // side).tolist(), (cells % side).tolist()


def _tissues(x: list[int], y: list[int], rng: np.random.Generator) -> list[str]:
    """The tumour lies around one point, its stroma around it, everything else further out."""
    n = len(x)
    side = max(*x, *y) + 1
    centre = rng.uniform(0.25, 0.75, size=2) * side
    far = np.hypot(np.subtract(x, centre[0]), np.subtract(y, centre[1]))
    order = np.argsort(far + 0.12 * side * rng.normal(size=n), kind="stable")
    share = 1.0 / (1.0 + np.exp(-(-0.9 + 0.7 * rng.normal())))
    tumour = int(np.clip(round(share * n), 2, n - 4))
    stroma = int(np.clip(round(0.20 * n), 2, n - tumour))
    rest = rng.choice(TISSUES[2:], size=n - tumour - stroma, p=_OTHER_SHARES)
    named = [TUMOUR] * tumour + [STROMA] * stroma + [str(name) for name in rest]
    tissue = [""] * n
    for at, name in zip(order.tolist(), named, strict=True):
        tissue[at] = name
    return tissue


def _features(
    own: npt.NDArray[np.float64],
    shown: list[tuple[str, ...]],
    values: Mapping[str, float],
    stain: float,
    bag: int,
    rng: np.random.Generator,
) -> npt.NDArray[np.float32]:
    n, m = len(own), len(QUANTITIES)
    state = rng.normal(size=(n, m))
    along = _BY_CHANCE * state
    for at, names in enumerate(shown):
        for name in names:
            q = QUANTITIES.index(name)
            along[at, q] = values[name] + _WITHIN * state[at, q]
    nuisance = _SLIDE * rng.normal(size=_NUISANCE) + _TILE * rng.normal(size=(n, _NUISANCE))
    colour = np.full((n, 1), _COLOUR * (stain + 0.5 * rng.normal()))
    vectors = own + np.hstack([_STATE * along, nuisance, colour]) @ _DIRECTIONS[bag]
    vectors += _NOISE * rng.standard_normal((n, WIDTH), dtype=np.float32)
    stepped = np.clip(np.round(vectors / STEP) * STEP, -LARGEST, LARGEST)
    # no negative zero, which would be a value of its own in the file
    return (stepped + 0.0).astype(np.float32)
