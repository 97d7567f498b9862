"""From a report back to its numbers: what they were made of, and whether they come out again.

A manifest names the runs and the cohort by their hashes, the settings, the versions of the
libraries and the command, and holds every number of the report by its place. A replay computes
the numbers anew, with nothing stored, and compares them place by place.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.refusal import RefusalError

LIBRARIES = (
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "scikit-survival",
    "lifelines",
    "statsmodels",
)
# Sums in another order differ in the last bits; a resample that falls on a tie may then differ.
CLOSE = 1e-6
Number = Annotated[float, Field(allow_inf_nan=False)]


class ManifestError(RefusalError):
    """A manifest that cannot be used; the message names the file, the field and the remedy."""


class Settings(BaseModel):
    """What a report was asked for. splits: in the order of the report."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    runs: dict[str, str] = Field(min_length=1, description="folder name: hash")
    splits: tuple[str, ...]
    horizon_days: Number | None = None
    threshold: Number | None = None
    n_resamples: int = Field(gt=0)
    seed: int = 0


class Manifest(BaseModel):
    """The whole file. numbers: {place: number, or null where it is undefined}."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    created: str
    command: str
    cohort: str
    cohort_fingerprint: str
    settings: Settings
    versions: dict[str, str]
    numbers: dict[str, Number | None]


@dataclass(frozen=True)
class Difference:
    """A number that did not come out again; None: it was or is undefined, or not there."""

    place: str
    told: float | None
    found: float | None


def manifest_of(content: Mapping[str, Any], cohort: str, created: datetime) -> Manifest:
    """Of a dossier. cohort: name of its folder in the workspace."""
    about = content["about"]
    asked = about["asked"]
    told = [f"fusionlens report --workspace WORKSPACE --task {cohort}/{about['task']}"]
    told += [f"--run {row['run']}" for row in about["runs"]]
    told += [f"--split {split}" for split in about["splits"]]
    told += [f"--horizon {asked['horizon_days']:g}"] if asked["horizon_days"] is not None else []
    told += [f"--threshold {asked['threshold']:g}"] if asked["threshold"] is not None else []
    told += [f"--resamples {about['n_resamples']} --seed {about['seed']} --out REPORT.html"]
    return Manifest(
        created=created.isoformat(timespec="seconds"),
        command=" ".join(told),
        cohort=cohort,
        cohort_fingerprint=about["fingerprint"],
        settings=Settings(
            task=about["task"],
            runs={row["run"]: row["hash"] for row in about["runs"]},
            splits=tuple(about["splits"]),
            **asked,
            n_resamples=about["n_resamples"],
            seed=about["seed"],
        ),
        versions=library_versions(),
        numbers=dict(numbers_of(content)),
    )


def library_versions() -> dict[str, str]:
    """Of Python, of FusionLens and of what computes."""
    found = {name: version(name) for name in LIBRARIES if _installed(name)}
    return {"python": platform.python_version(), "fusionlens": version("fusionlens"), **found}


def _installed(name: str) -> bool:
    try:
        version(name)
    except ModuleNotFoundError:
        return False
    return True


def numbers_of(content: Any, place: str = "") -> Iterator[tuple[str, float | None]]:
    """Every number of plain JSON with its place ('runs.0.c_index.value'); true and false are 1, 0.

    A null counts as an undefined number; texts are left out.
    """
    if isinstance(content, Mapping):
        for name, inner in content.items():
            yield from numbers_of(inner, f"{place}.{name}" if place else str(name))
    elif isinstance(content, (list, tuple)):
        for at, inner in enumerate(content):
            yield from numbers_of(inner, f"{place}.{at}" if place else str(at))
    elif content is None:
        yield place, None
    elif isinstance(content, (int, float)):
        yield place, float(content) if math.isfinite(content) else None


def differences(told: Mapping[str, float | None], content: Any) -> list[Difference]:
    """Numbers of a manifest that `content` does not have within CLOSE, and those it has beside."""
    found = dict(numbers_of(content))
    out = []
    for place in [*told, *(p for p in found if p not in told)]:
        one, other = told.get(place), found.get(place)
        same = (place in told) == (place in found) and (
            one is other
            if one is None or other is None
            else math.isclose(one, other, rel_tol=CLOSE, abs_tol=CLOSE)
        )
        if not same:
            out.append(Difference(place, one, other))
    return out


def write_manifest(manifest: Manifest, path: Path) -> None:
    """As JSON, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    partial.replace(path)


def read_manifest(path: Path) -> Manifest:
    """Raises ManifestError in one sentence."""
    remedy = "name the manifest that 'fusionlens report' wrote beside the report"
    try:
        return Manifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ManifestError(f"{path}: there is no such file; {remedy}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ManifestError(f"{path}: field '{where}': {first['msg']}; {remedy}.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ManifestError(f"{path}: not JSON text; {remedy}.") from error


def changed_hashes(told: Mapping[str, str], found: Mapping[str, str]) -> Sequence[str]:
    """Sentences on runs that are gone or are not what they were."""
    out = []
    for name, hashed in told.items():
        if name not in found:
            out.append(f"Run '{name}' is not there.")
        elif found[name] != hashed:
            out.append(f"Run '{name}' is not the one of the report: {found[name]}, not {hashed}.")
    return out
