"""Where in an echo loop the ventricles are fullest and emptiest, by what is stated about it.

End-diastole is the frame nearest to an R wave that the machine noted in the file. DICOM has no
place for end-systole in a loop: it is known only where a cohort was simulated. Neither is guessed
from the picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.attribution.case import Case
from analysis.cohort.readers.echo import Cine
from analysis.cohort.truth import read_truth

FILE, TRUTH = "file", "truth"


@dataclass(frozen=True)
class CycleMarks:
    """Frames of a loop at end-diastole and end-systole; empty where nothing states them.

    ed_from, es_from: `FILE` where R waves in the file say so, `TRUTH` where the simulation does,
    '' where nothing does.
    """

    ed: tuple[int, ...] = ()
    es: tuple[int, ...] = ()
    ed_from: str = ""
    es_from: str = ""


def end_diastoles(times_ms: npt.ArrayLike, r_waves_ms: npt.ArrayLike) -> tuple[int, ...]:
    """The frame nearest to each R wave that lies within half a frame of the loop.

    times_ms: (F,) growing, from the first frame on, as the R waves are.
    """
    times = np.asarray(times_ms, np.float64)
    waves = np.asarray(r_waves_ms, np.float64)
    if len(times) < 2 or not len(waves):
        return ()
    first, last = times[0] - (times[1] - times[0]) / 2, times[-1] + (times[-1] - times[-2]) / 2
    inside = waves[(waves >= first) & (waves <= last)]
    nearest = np.abs(times[:, None] - inside).argmin(axis=0)
    return tuple(dict.fromkeys(nearest.tolist()))


def cycle_marks(case: Case, cines: Mapping[str, Cine]) -> dict[str, CycleMarks]:
    """{view: marks} of the patient's loops. The file's own R waves come before the truth."""
    truth = read_truth(case.cohort)
    known = truth.echo_cycle(case.subject_id) if truth is not None else {}
    found = {}
    for view, cine in cines.items():
        ed, ed_from = end_diastoles(cine.frame_times_ms, cine.r_waves_ms), FILE
        es: tuple[int, ...] = ()
        if view in known and max(known[view]) < len(cine.frames):
            es = (known[view][1],)
            if not ed:
                ed, ed_from = (known[view][0],), TRUTH
        found[view] = CycleMarks(ed, es, ed_from if ed else "", TRUTH if es else "")
    return found
