"""Where in a signal a prediction comes from: maps over leads and time, and shares by segment.

Time is in seconds of the signal as it was recorded: the model reads it from its first sample on,
so step k of a map covers k to k + 1 times `step_s`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from analysis.attribution.cam import CAMS
from analysis.attribution.capture import evaluating
from analysis.attribution.case import AttributionError, Case, Subject
from analysis.attribution.explained import ExplainedInput, layer_cams, layers_of
from analysis.attribution.input_maps import integrated_gradients
from analysis.attribution.result import describe_target
from analysis.attribution.target import Target
from analysis.cohort.dataset import SignalReading
from models.contracts import Kind

METHODS: Mapping[str, str] = {
    "gradcam": "Grad-CAM",
    "gradcam_plus_plus": "Grad-CAM++",
    "hirescam": "HiResCAM",
    "integrated_gradients": "Integrated gradients",
}
STEPS, BATCH = 32, 8


@dataclass(frozen=True, eq=False)
class SignalMap:
    """A map over leads and time.

    values: (L, S) float32, leads in the order of `leads`; signed where the method is (positive
    raises the explained number), else >= 0; 0 where nothing was recorded. step_s: seconds a
    column. layer: None for methods on the input. whole: the explained number. reference, gap:
    the number of a flat line and the completeness error, of integrated gradients only.
    """

    subject: Subject
    modality: str
    method: str
    layer: str | None
    target: Mapping[str, Any]
    leads: tuple[str, ...]
    values: npt.NDArray[np.float32]
    step_s: float
    signed: bool
    whole: float
    reference: float | None = None
    gap: float | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or len(self.values) != len(self.leads):
            raise ValueError(
                f"a map of {len(self.leads)} leads has as many rows, got {self.values.shape}."
            )

    @property
    def is_empty(self) -> bool:
        """Whether the map is 0 everywhere."""
        return not self.values.any()

    @property
    def peak(self) -> tuple[str, float] | None:
        """(lead, seconds of the middle of the step) of the largest |value|; None where empty."""
        if self.is_empty:
            return None
        lead, step = np.unravel_index(int(np.abs(self.values).argmax()), self.values.shape)
        return self.leads[int(lead)], (float(step) + 0.5) * self.step_s

    def by_lead(self) -> pd.DataFrame:
        """lead, share: each lead's part of the sum of |values| (0 to 1), largest first."""
        total = np.abs(self.values).sum(axis=1)
        share = total / total.sum() if total.sum() else total
        frame = pd.DataFrame({"lead": list(self.leads), "share": share.astype(np.float64)})
        return frame.sort_values("share", ascending=False, kind="stable", ignore_index=True)

    def on(self, seconds: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """(L, n) the map at times in seconds: linear between the middles of steps, 0 outside."""
        at = np.asarray(seconds, np.float64)
        middles = (np.arange(self.values.shape[1]) + 0.5) * self.step_s
        inside = (at >= 0) & (at <= self.values.shape[1] * self.step_s)
        rows = [np.interp(at, middles, row) * inside for row in self.values]
        return np.asarray(rows, np.float32)


def signal_map(
    case: Case, modality: str, target: Target, method: str, layer: str | None = None
) -> SignalMap:
    """The map of one method; `layer` is for layer methods only, None is the last one.

    Raises AttributionError in one sentence on an unknown method or layer, a target of several
    numbers, or a patient without the signal.
    """
    if method not in METHODS:
        raise AttributionError(
            f"there is no signal method '{method}'; choose one of {', '.join(METHODS)}."
        )
    if method in CAMS:
        known = list(layers_of(case, modality, Kind.SIGNAL))
        chosen = [layer] if layer is not None else known[-1:]
        return next(iter(signal_layer_maps(case, modality, target, (method,), chosen).values()))
    if layer is not None:
        raise AttributionError(
            f"{METHODS[method]} explains the signal itself; leave the layer '{layer}' out."
        )
    explained = ExplainedInput(case, modality, target, Kind.SIGNAL)
    with evaluating(case.model), torch.inference_mode(False), torch.enable_grad():
        signal = explained.input()
        with torch.no_grad():
            value = explained(signal)
        explained.check(value)
        # Zero is the isoelectric line of a band-passed ECG.
        made = integrated_gradients(
            lambda x: explained(x[:, 0]),
            signal[:, None],
            torch.zeros_like(signal)[:, None],
            steps=STEPS,
            batch=BATCH,
        )
    return replace(
        _result(explained, method, None, made.values, float(value[0])),
        reference=made.reference,
        gap=made.gap,
    )


def signal_layer_maps(
    case: Case,
    modality: str,
    target: Target,
    methods: Sequence[str] = tuple(CAMS),
    layers: Sequence[str] | None = None,
) -> dict[tuple[str, str], SignalMap]:
    """{(method, layer): map} of layer methods, all from one forward and one backward pass."""
    known = layers_of(case, modality, Kind.SIGNAL)
    chosen = list(known) if layers is None else list(dict.fromkeys(layers))
    explained = ExplainedInput(case, modality, target, Kind.SIGNAL)
    made = layer_cams(explained, methods, chosen)
    found = {}
    for (method, layer), grid in made.grids.items():
        if grid.ndim != 3 or grid.shape[1] != explained.input().shape[1]:
            raise AttributionError(
                f"a map over leads needs activations (1, C, L, steps); those of '{layer}' give "
                f"{grid.shape}; choose another layer."
            )
        found[method, layer] = _result(explained, method, layer, grid[0], made.value)
    return found


def _result(
    explained: ExplainedInput,
    method: str,
    layer: str | None,
    values: npt.NDArray[np.float32],
    recomputed: float,
) -> SignalMap:
    case, modality = explained.case, explained.modality
    reading = case.reading(modality)
    assert isinstance(reading, SignalReading)
    steps = values.shape[1]
    recorded = case.raw(modality).fields["mask"][0].numpy()
    # A step counts where anything of it was recorded.
    edges = np.linspace(0, recorded.shape[1], steps + 1).astype(int)
    there = np.stack(
        [recorded[:, a : max(b, a + 1)].any(axis=1) for a, b in pairwise(edges)],
        axis=1,
    )
    return SignalMap(
        subject=case.subject,
        modality=modality,
        method=method,
        layer=layer,
        target=describe_target(explained.target),
        leads=tuple(reading.leads),
        values=np.ascontiguousarray(values * there, np.float32),
        step_s=reading.seconds / steps,
        signed=method == "integrated_gradients",
        whole=explained.shown,
        parameters={"recomputed": recomputed},
    )


def segment_shares(found: SignalMap, segments: pd.DataFrame) -> pd.DataFrame:
    """How much of a map lies in each kind of ECG segment, beside how much of the time it takes.

    segments: segment ('P', 'QRS', 'ST', 'T'), start_s, end_s, a row a beat and segment (see
    `analysis.ecg`). Returns segment, share (of the sum of |values| over all leads), signed (sum
    of the values, in the explained number's unit for integrated gradients), time (share of the
    recorded time) and density = share / time (1 is what a map without preference has), in the
    order given, and a last row 'between' for the rest.
    """
    if not len(segments):
        raise AttributionError("no beats were found, so there are no segments to sum over.")
    steps = found.values.shape[1]
    fine = 10
    at = (np.arange(steps * fine) + 0.5) * found.step_s / fine
    values = np.repeat(found.values, fine, axis=1) / fine
    taken = np.zeros(len(at), bool)
    total = float(np.abs(values).sum()) or 1.0
    rows = []
    for name in dict.fromkeys(segments["segment"]):
        inside = np.zeros(len(at), bool)
        spans = segments.loc[segments["segment"] == name, ["start_s", "end_s"]].to_numpy(float)
        for start, end in spans:
            inside |= (at >= start) & (at < end)
        inside &= ~taken
        taken |= inside
        rows.append((name, inside))
    rows.append(("between", ~taken))
    out = [
        {
            "segment": name,
            "share": float(np.abs(values[:, inside]).sum()) / total,
            "signed": float(values[:, inside].sum()),
            "time": float(inside.mean()),
        }
        for name, inside in rows
    ]
    frame = pd.DataFrame(out)
    frame["density"] = frame["share"] / frame["time"].where(frame["time"] > 0)
    return frame
