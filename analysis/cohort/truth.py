"""What is known of a simulated cohort: where the lesions are and which codes cause the outcome.

    truth/patients.parquet       subject_id, true_log_hazard and its summands term_* (of a cohort
                                 with several tasks: term_TASK_*)
    truth/causal_codes.parquet   code, description, term, coefficient, meaning
    truth/masks/ID.npz           packed bits of each lesion's mask, shape, spacing_mm
    truth/lab_columns.parquet    task, column, term, coefficient, meaning
    truth/ecg_segments.parquet   subject_id, beat, segment, start_s, end_s, carries (the findings
                                 that the wave shows), task
    truth/echo_loops.parquet     subject_id, view, ed_frame, es_frame, ...
    truth/echo/ID.npz            packed bits of every structure's mask, named VIEW.STRUCTURE;
                                 shape (frames, height, width)
    truth/bag_instances.parquet  subject_id, modality, instance, tissue, carries (the terms that
                                 the instance shows, separated by commas, '' where none)

Only simulated cohorts have a truth; a cohort says so by `truth` in cohort.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.cohort.cohort import Cohort
from analysis.cohort.readers.arrays import read_arrays
from analysis.cohort.readers.frame import read_frame
from analysis.cohort.schema import CohortError
from models.contracts import Kind

Mask = npt.NDArray[np.bool_]

# Which lesion shows the summand of the hazard; a lesion that is no cause is no target of a map.
LESION_OF_TERM: Mapping[str, str] = {"clot_burden": "embolus", "coronary_calcium": "calcium"}
_NOT_A_MASK = ("shape", "spacing_mm")
_LV = ("lv_cavity", "lv_wall", "mitral_valve")
# Where in an echo each summand of an outcome is seen. The valve moves with the pump.
STRUCTURES_OF_TERM: Mapping[str, tuple[str, ...]] = {
    "ejection_fraction": _LV,
    "left_ventricle": _LV,
    "wall_thickness": ("lv_wall",),
    "left_atrium": ("la",),
    "regurgitation": ("regurgitant_jet", "la"),
}
RAISED = 0.25
"""A patient's summand above this is there to be seen: the odds or hazard is 1.28 times as high."""


@dataclass(frozen=True)
class Truth:
    """The truth folder of one cohort."""

    cohort: Cohort
    folder: Path

    @cached_property
    def lesions(self) -> tuple[str, ...]:
        """Lesions that the hazard counts, e.g. ('embolus',). Empty where none has a mask."""
        terms = self.terms()
        if terms is None or not (self.folder / "masks").is_dir():
            return ()
        return tuple(
            mask for term, mask in LESION_OF_TERM.items() if f"term_{term}" in terms.columns
        )

    @cached_property
    def _terms(self) -> pd.DataFrame | None:
        path = self.folder / "patients.parquet"
        if not path.is_file():
            return None
        table = read_frame(path, ("subject_id",)).set_index("subject_id")
        return table.filter(regex="^term_").astype("float64")

    def terms(self, task: str | None = None) -> pd.DataFrame | None:
        """Summands of each patient's true log-hazard or logit (term_NAME), indexed by subject_id.

        task: where the columns are named by task (term_TASK_NAME), those of this one, without
        its name; None gives every column as it is. None where the truth states no summands, or
        none of this task.
        """
        table = self._terms
        if table is None or task is None:
            return table
        # The longest name wins: 'term_hf_risk_age' is of 'hf_risk' and not of 'hf'.
        known = sorted({*self.cohort.spec.tasks, task}, key=len, reverse=True)
        owner = {
            column: next((t for t in known if column.startswith(f"term_{t}_")), None)
            for column in table.columns
        }
        if not any(owner.values()):
            return table
        own = {c: f"term_{c[len(f'term_{task}_') :]}" for c, t in owner.items() if t == task}
        return table[list(own)].rename(columns=own) if own else None

    @cached_property
    def volume_modality(self) -> str | None:
        """The modality that the masks were drawn on: the cohort's first volume."""
        found = (n for n, m in self.cohort.spec.modalities.items() if m.kind is Kind.VOLUME)
        return next(found, None)

    @cached_property
    def causal_codes(self) -> pd.DataFrame | None:
        """One row for each code and term of the hazard: code, term, coefficient, ..."""
        path = self.folder / "causal_codes.parquet"
        if not path.is_file():
            return None
        return read_frame(path, ("code", "term", "coefficient"))

    def causal_columns(self, task: str) -> dict[str, set[str]]:
        """{column of the table: terms of the task's formula that read it}; empty where unknown."""
        path = self.folder / "lab_columns.parquet"
        if not path.is_file():
            return {}
        table = read_frame(path, ("task", "column", "term"))
        rows = table[table["task"] == task]
        return {str(name): set(found["term"]) for name, found in rows.groupby("column")}

    @cached_property
    def _segments(self) -> pd.DataFrame | None:
        path = self.folder / "ecg_segments.parquet"
        if not path.is_file():
            return None
        columns = ("subject_id", "beat", "segment", "start_s", "end_s", "carries", "task")
        return read_frame(path, columns).set_index("subject_id").sort_index()

    def ecg_segments(self, subject_id: int, task: str) -> pd.DataFrame | None:
        """The waves of a patient's ECG: beat, segment, start_s, end_s, carries.

        Seconds from the start of the record. carries: what the wave shows that moves the outcome
        of this task in this patient, '' where nothing. None where the truth has no such ECG.
        """
        table = self._segments
        if table is None or int(subject_id) not in table.index:
            return None
        rows = table.loc[[int(subject_id)]].reset_index(drop=True)
        carries = rows["carries"].astype(str).where(rows["task"] == task, "")
        return rows.drop(columns="task").assign(carries=carries)

    @cached_property
    def _instances(self) -> pd.DataFrame | None:
        path = self.folder / "bag_instances.parquet"
        if not path.is_file():
            return None
        columns = ("subject_id", "modality", "instance", "tissue", "carries")
        return read_frame(path, columns).set_index(["modality", "subject_id"]).sort_index()

    def bag_instances(self, modality: str, subject_id: int) -> pd.DataFrame | None:
        """A patient's instances as the truth names them: instance, tissue, carries.

        carries: the names of the terms that the instance shows. None where the truth has no such
        bag.
        """
        table = self._instances
        if table is None or (modality, int(subject_id)) not in table.index:
            return None
        rows = table.loc[[(modality, int(subject_id))]].reset_index(drop=True)
        named = rows["carries"].astype(str).str.split(", ")
        carries = named.map(lambda terms: tuple(term for term in terms if term))
        return rows[["instance", "tissue"]].assign(carries=carries)

    def echo_structures(self, subject_id: int, task: str) -> dict[str, tuple[str, ...]]:
        """{structure: terms of the task that it shows}, of those that count in this patient.

        A term counts where its summand exceeds `RAISED`: a ventricle of usual size is in every
        echo, and carries nothing. Which structures show a term says `STRUCTURES_OF_TERM`.
        """
        table = self.terms(task)
        if table is None or int(subject_id) not in table.index:
            return {}
        row = table.loc[int(subject_id)]
        found: dict[str, tuple[str, ...]] = {}
        for term, structures in STRUCTURES_OF_TERM.items():
            if row.get(f"term_{term}", 0.0) > RAISED:
                for structure in structures:
                    found[structure] = (*found.get(structure, ()), term)
        return found

    def echo_masks(self, subject_id: int) -> dict[str, dict[str, Mask]] | None:
        """{view: {structure: (frames, height, width) bool}} on the loops' own pixels and frames.

        None where the patient has no file of masks. Raises CohortError when it is damaged.
        """
        if not (self.folder / "echo" / f"{int(subject_id)}.npz").is_file():
            return None
        return read_echo_masks(self.cohort.folder, subject_id, str(self.cohort.spec.truth))

    @cached_property
    def _loops(self) -> pd.DataFrame | None:
        path = self.folder / "echo_loops.parquet"
        if not path.is_file():
            return None
        columns = ("subject_id", "view", "ed_frame", "es_frame")
        return read_frame(path, columns).set_index("subject_id").sort_index()

    def echo_cycle(self, subject_id: int) -> dict[str, tuple[int, int]]:
        """{view: (end-diastolic, end-systolic frame)} of one beat in each loop that is a file."""
        table = self._loops
        if table is None or int(subject_id) not in table.index:
            return {}
        rows = table.loc[[int(subject_id)]]
        return {
            str(view): (int(ed), int(es))
            for view, ed, es in zip(rows["view"], rows["ed_frame"], rows["es_frame"], strict=True)
        }

    def mask(self, subject_id: int, lesion: str) -> Mask | None:
        """(D, H, W) bool on the scan file's own voxels; None where the patient has no mask file.

        Raises CohortError when the file is damaged or does not hold the lesion.
        """
        if not (self.folder / "masks" / f"{int(subject_id)}.npz").is_file():
            return None
        masks = read_masks(self.cohort.folder, subject_id, str(self.cohort.spec.truth))
        if lesion not in masks:
            raise CohortError(
                f"{self.folder / 'masks'}: {subject_id}.npz has no mask '{lesion}'; it has "
                f"{', '.join(masks)}."
            )
        return masks[lesion]


def read_truth(cohort: Cohort) -> Truth | None:
    """The cohort's truth, or None where it states none (real patients)."""
    if cohort.spec.truth is None:
        return None
    folder = cohort.folder / cohort.spec.truth
    return Truth(cohort, folder) if folder.is_dir() else None


def read_masks(folder: Path, subject_id: int, truth: str = "truth") -> dict[str, Mask]:
    """The true masks of a patient whose volume was written: {lesion: bool (D, H, W)}.

    folder: the cohort's. Raises FileNotFoundError where the patient has none, CohortError when
    the file is damaged.
    """
    return _unpacked(Path(folder) / truth / "masks" / f"{int(subject_id)}.npz")


def read_echo_masks(
    folder: Path, subject_id: int, truth: str = "truth"
) -> dict[str, dict[str, Mask]]:
    """{view: {structure: (frames, height, width) bool}} of a patient whose echo was written.

    folder: the cohort's. Raises FileNotFoundError where the patient has none, CohortError when
    the file is damaged.
    """
    found: dict[str, dict[str, Mask]] = {}
    path = Path(folder) / truth / "echo" / f"{int(subject_id)}.npz"
    for name, mask in _unpacked(path).items():
        view, _, structure = name.partition(".")
        found.setdefault(view, {})[structure] = mask
    return found


def _unpacked(path: Path) -> dict[str, Mask]:
    """Packed bits of masks of one shape, by name."""
    try:
        stored = read_arrays(path)
        shape = tuple(map(int, stored["shape"].tolist()))
        count = prod(shape)
        packed = {name: bits for name, bits in stored.items() if name not in _NOT_A_MASK}
        if any(bits.ndim != 1 or not count <= 8 * len(bits) for bits in packed.values()):
            raise ValueError("fewer bits than voxels")
        return {
            name: np.unpackbits(bits, count=count).reshape(shape).astype(bool)
            for name, bits in packed.items()
        }
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise CohortError(
            f"{path}: not a readable mask file ({type(error).__name__}); write the cohort again."
        ) from error
