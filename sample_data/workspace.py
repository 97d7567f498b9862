"""The demo's workspace: four simulated cohorts and the trained runs that ship with FusionLens."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from analysis.clinical_scores import clinical_score
from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import Split
from analysis.external_import import import_predictions
from sample_data.cohorts import CohortKind, Written, plan, write_cohort
from sample_data.encoding import ct_encoder, ct_sink, token_layout, write_ct_features
from sample_data.heart_cohort import HeartWritten, heart_plan, write_heart_cohort
from sample_data.heart_encoding import heart_sink, write_heart_features
from sample_data.heart_patients import ECG, ECHO
from sample_data.hnscc_cohort import HnsccWritten, hnscc_plan, write_hnscc_cohort

CHECKPOINTS = Path(__file__).parent / "checkpoints"
ENCODERS = CHECKPOINTS / "encoders"
RUNS = CHECKPOINTS / "runs"
HEART = "hf"
HNSCC = "hnscc"
SPESI = "pe-spesi"
# An ECG and eleven loops are 2.4 MB: so many internal patients have theirs as files.
HEART_FILES = {"tiny": 16, "small": 80}
Report = Callable[[str, int, int], None]
"""(what is being made, done, in all)."""


def shipped_ct_encoder() -> str | None:
    """Hash of the CT encoder that ships with FusionLens, or None before it was made."""
    for path in sorted(ENCODERS.glob("*/encoder.json")):
        if json.loads(path.read_text(encoding="utf-8"))["name"] == "ct_resnet":
            return path.parent.name
    return None


def shipped_heart_encoders() -> dict[str, str]:
    """{ECG: hash, ECHO: hash} of the shipped encoders; empty before both were made."""
    found = {}
    for path in sorted(ENCODERS.glob("*/encoder.json")):
        encodes = json.loads(path.read_text(encoding="utf-8"))["provenance"].get("encodes")
        if encodes in ("signal", "video"):
            found[ECG if encodes == "signal" else ECHO] = path.parent.name
    return found if len(found) == 2 else {}


def write_sample(
    kind: CohortKind | str,
    size: str,
    seed: int,
    out: Path,
    *,
    processes: int = 2,
    report: Report | None = None,
    encoder_store: Path = ENCODERS,
    encoder_hash: str | None = None,
) -> Written | HeartWritten | HnsccWritten:
    """One simulated cohort with its truth; features of the frozen encoders beside it.

    Every CT, ECG and echo becomes a file, except in `small`, so that the demo stays small: there
    CTs of the training and tuning splits, and ECGs and echoes of all but the first 80 internal
    patients, are kept as encoded features only.
    """
    if str(kind) == HEART:
        return _write_heart(size, seed, out, processes, report, encoder_store)
    if str(kind) == HNSCC:
        return _write_hnscc(size, seed, out, report)
    cohort_plan = plan(kind, size, seed)
    encoder_hash = encoder_hash or shipped_ct_encoder()
    slim = size == "small" and encoder_hash is not None
    title = "pulmonary embolism" if CohortKind(kind) is CohortKind.PE else "cardiovascular risk"

    def progress(done: int, total: int) -> None:
        if report is not None:
            report(f"Simulating the {title} cohort", done, total)

    finish = None
    if encoder_hash is not None:
        layout = token_layout(ct_encoder(encoder_hash, encoder_store))
        finish = partial(write_ct_features, encoder_hash=encoder_hash, layout=layout)
    return write_cohort(
        cohort_plan,
        out,
        volumes_for=(Split.INTERNAL, Split.EXTERNAL) if slim else None,
        sink=ct_sink(encoder_hash, encoder_store) if encoder_hash else None,
        processes=processes,
        progress=progress,
        finish=finish,
    )


def _write_heart(
    size: str, seed: int, out: Path, processes: int, report: Report | None, store: Path
) -> HeartWritten:
    hashes = shipped_heart_encoders()

    def progress(done: int, total: int) -> None:
        if report is not None:
            report("Simulating the heart failure cohort", done, total)

    finish = None
    slim = size in HEART_FILES and bool(hashes)
    if hashes:
        finish = partial(write_heart_features, hashes=hashes, store=store)
    return write_heart_cohort(
        heart_plan(size, seed),
        out,
        files_for=(Split.INTERNAL,) if slim else None,
        most_files=HEART_FILES[size] if slim else None,
        sink=heart_sink(hashes, store) if hashes else None,
        processes=processes,
        progress=progress,
        finish=finish,
    )


def _write_hnscc(size: str, seed: int, out: Path, report: Report | None) -> HnsccWritten:
    def progress(done: int, total: int) -> None:
        if report is not None:
            report("Simulating the head and neck cancer cohort", done, total)

    return write_hnscc_cohort(hnscc_plan(size, seed), out, progress=progress)


def write_workspace(
    out: Path,
    size: str = "small",
    seed: int = 0,
    *,
    processes: int = 2,
    report: Report | None = None,
) -> Path:
    """All cohorts and all shipped runs under OUT. What is already there is kept.

    Runs were trained on the `small` cohorts of seed 0; in another workspace they are runs from
    elsewhere, and the app says so.
    """
    (out / "cohorts").mkdir(parents=True, exist_ok=True)
    for kind in (*CohortKind, HEART, HNSCC):
        target = out / "cohorts" / str(kind)
        if not target.is_dir():
            write_sample(kind, size, seed, target, processes=processes, report=report)
    copy_checkpoints(out)
    add_clinical_baseline(out)
    return out


def add_clinical_baseline(out: Path) -> None:
    """The simplified PESI of the pulmonary embolism cohort, from its events, beside the runs.

    A run without a model: what fusion is held against where no model is at hand.
    """
    cohort, run = out / "cohorts" / CohortKind.PE.value, out / "runs" / SPESI
    if run.exists():
        return
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "spesi.csv"
        made = clinical_score(Cohort.open(cohort), "spesi")
        made.table().to_csv(path, index=False)
        import_predictions(path, cohort, "mortality", SPESI, run, title=made.score.title)


def copy_checkpoints(out: Path) -> None:
    """Shipped runs and encoders into a workspace; those already there stay as they are."""
    for part in ("encoders", "runs"):
        for source in sorted((CHECKPOINTS / part).glob("*")):
            target = out / part / source.name
            if source.is_dir() and not target.exists():
                partial_copy = target.with_name(f".{target.name}.partial")
                shutil.rmtree(partial_copy, ignore_errors=True)
                shutil.copytree(source, partial_copy)
                partial_copy.rename(target)
