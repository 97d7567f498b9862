"""What is known of a simulated cohort: where the lesions are and which codes cause the outcome.

    truth/patients.parquet       subject_id, true_log_hazard and its summands term_*
    truth/causal_codes.parquet   code, description, term, coefficient, meaning
    truth/masks/ID.npz           packed bits of each lesion's mask, shape, spacing_mm

Only simulated cohorts have a truth; a cohort says so by `truth` in cohort.yaml.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.cohort.cohort import Cohort
from analysis.cohort.readers.frame import read_frame
from analysis.cohort.schema import CohortError
from models.contracts import Kind

Mask = npt.NDArray[np.bool_]

# Which lesion shows the summand of the hazard; a lesion that is no cause is no target of a map.
LESION_OF_TERM: Mapping[str, str] = {"clot_burden": "embolus", "coronary_calcium": "calcium"}
_NOT_A_MASK = ("shape", "spacing_mm")


@dataclass(frozen=True)
class Truth:
    """The truth folder of one cohort."""

    cohort: Cohort
    folder: Path

    @cached_property
    def lesions(self) -> tuple[str, ...]:
        """Lesions that the hazard counts, e.g. ('embolus',). Empty where none has a mask."""
        if self.terms is None or not (self.folder / "masks").is_dir():
            return ()
        terms = self.terms.columns
        return tuple(mask for term, mask in LESION_OF_TERM.items() if f"term_{term}" in terms)

    @cached_property
    def terms(self) -> pd.DataFrame | None:
        """Summands of each patient's true log-hazard (columns term_*), indexed by subject_id."""
        path = self.folder / "patients.parquet"
        if not path.is_file():
            return None
        table = read_frame(path, ("subject_id",)).set_index("subject_id")
        return table.filter(regex="^term_").astype("float64")

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
    path = Path(folder) / truth / "masks" / f"{int(subject_id)}.npz"
    try:
        with np.load(path) as stored:
            shape = tuple(stored["shape"].tolist())
            count = int(np.prod(shape))
            return {
                name: np.unpackbits(stored[name], count=count).reshape(shape).astype(bool)
                for name in stored.files
                if name not in _NOT_A_MASK
            }
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CohortError(
            f"{path}: not a readable mask file ({type(error).__name__}); write the cohort again."
        ) from error
