"""Makes everything in sample_data/checkpoints from nothing: `make checkpoints`.

1. Pretrain the CT encoder on fresh simulated scans (radiology targets, no outcomes).
2. Write the demo's cohorts (`small`, seed 0) with the encoders' features.
3. Train the sample runs of all tasks; the event encoder is pretrained on the way.
4. Measure how far each run's explanations can be believed (trust.json beside the weights).
5. Store what each run predicts for a few patients, so that anyone can check a copy.

Steps that are already done are kept, so the command may be stopped and started again.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer
from rich.console import Console

from analysis.benchmark.rows import AS_PUBLISHED, PLAIN
from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import Split
from analysis.experiment import Plan, train_run
from analysis.explain import TRUST_FILE
from analysis.features import Ids
from analysis.predict import predict
from analysis.trust.report import trust_report
from models.checkpoint import load_run, save_encoder
from models.contracts import Kind
from models.encoders.base import ModalityEncoder
from models.encoders.signal import ECGCNN, ECGCNNConfig
from models.encoders.video import EchoNet, EchoNetConfig
from models.encoders.volume import CTResNet, CTResNetConfig
from models.pretraining import location_loss, pretrain_ct, radiology_loss
from models.pretraining_cardiac import ECGReadings, EchoReadings, pretrain_readings
from models.runtime import keep_large_blocks, quiet_transformers
from models.training import TrainingSettings
from sample_data.cohorts import plan, write_cohort
from sample_data.heart_cohort import heart_plan, write_heart_cohort
from sample_data.heart_pretraining import ecg_batches, echo_batches
from sample_data.hnscc_cohort import hnscc_plan, write_hnscc_cohort
from sample_data.hnscc_patients import MODALITIES
from sample_data.pretraining import radiology_batches
from sample_data.progress import stage_bar
from sample_data.workspace import (
    CHECKPOINTS,
    ENCODERS,
    HEART,
    HNSCC,
    RUNS,
    shipped_ct_encoder,
    write_sample,
)

TASKS = {"pe": "mortality", "cvd": "mace"}
# Alternating: crops teach the small lesions cheaply, whole scans the rest and their true scale.
# (what is looked at, steps, learning rate)
CT_ROUNDS = (
    ("crops", 1800, 3e-3),
    ("scans", 600, 1e-3),
    ("crops", 1000, 2.5e-3),
    ("scans", 700, 1e-3),
)
REFERENCE_FILE = "reference_predictions.parquet"
N_REFERENCE = 12
N_TRUST = 50


@dataclass(frozen=True)
class Recipe:
    """One sample run of every task."""

    name: str
    title: str
    strategy: str
    modalities: tuple[str, ...] = ("ct", "ehr")
    ehr: str = "onehot"
    options: Mapping[str, Any] = field(default_factory=dict)
    tables: str = "text"
    settings: Mapping[str, Any] = field(default_factory=dict)


RECIPES = (
    Recipe("ct", "CT only", "unimodal", ("ct",)),
    Recipe("ehr-onehot", "EHR only (one-hot)", "unimodal", ("ehr",)),
    Recipe("ehr-clmbr", "EHR only (CLMBR)", "unimodal", ("ehr",), "clmbr"),
    *(
        Recipe(f"{name}-{ehr}", f"{title} ({label})", strategy, ehr=ehr, options=options)
        for ehr, label in (("onehot", "one-hot"), ("clmbr", "CLMBR"))
        for name, title, strategy, options in (
            ("late", "Late fusion", "late", {}),
            ("contrastive", "Contrastive alignment", "contrastive", {}),
            ("cross-attention", "Cross-attention", "cross_attention", {"query": "ehr"}),
            ("co-attention-image", "Co-attention, image-guided", "co_attention", {"guide": "ct"}),
        )
    ),
)


# Name of a run's prefix to its task; the prefix begins with the cohort's name.
HEART_TASKS = {"hf": "hf", "hf-risk": "incident_hf"}
_THREE = ("labs", "ecg", "echo")
# TGMM's table 2 (single modalities), table 5 (fusion) and table 6 (what guides and who answers).
HEART_RECIPES = (
    Recipe("labs", "Labs only", "unimodal", ("labs",)),
    Recipe("ecg", "ECG only", "unimodal", ("ecg",)),
    Recipe("echo", "Echo only", "unimodal", ("echo",)),
    Recipe("late", "Late fusion", "late", _THREE),
    Recipe("mean-concat", "Mean and concatenate", "mean_concat", _THREE),
    Recipe("multisurv", "Attentive fusion (MultiSurv)", "multisurv", _THREE),
    Recipe("tgmm", "TGMM", "tgmm", _THREE),
    Recipe(
        "tgmm-human", "TGMM, human guidance only", "tgmm", _THREE, options={"guidance": "human"}
    ),
    Recipe("tgmm-unguided", "TGMM, no guidance", "tgmm", _THREE, options={"guidance": "none"}),
    Recipe(
        "tgmm-linear",
        "TGMM, no guidance, linear probe",
        "tgmm",
        _THREE,
        options={"guidance": "none", "response": "linear"},
    ),
)
DIAGNOSIS_RECIPES = (
    # The embeddings of this one are aligned, so that one modality finds another.
    Recipe(
        "tgmm-retrieval",
        "TGMM, aligned for retrieval",
        "tgmm",
        _THREE,
        options={"retrieval_weight": 1.0},
    ),
    Recipe("text-if", "Text-guided modulation (Text-IF)", "text_if", _THREE),
)

HNSCC_TASKS = {"hnscc": "overall_survival", "hnscc-5y": "death_5y"}


def _as_published(name: str, title: str, **options: Any) -> Recipe:
    """A part of HAF, built and trained as in its paper (table 1, section 3.1)."""
    parts = {"random_drop": False, "monotonic": False, **options}
    return Recipe(
        name,
        f"{title}, as published",
        "haf",
        MODALITIES,
        options={**PLAIN, **parts},
        tables="columns",
        settings=AS_PUBLISHED,
    )


# Single modalities and strategies for missing ones on survival; HAF's table 1 on death within five
# years: the same fusion without alignment, with one kind of it, and with all three stages.
HNSCC_RECIPES: Mapping[str, tuple[Recipe, ...]] = {
    "hnscc": (
        Recipe("clinical", "Clinical data only", "unimodal", ("clinical",), tables="columns"),
        Recipe("pathological", "Pathology only", "unimodal", ("pathological",), tables="columns"),
        Recipe("blood", "Blood tests only", "unimodal", ("blood",), tables="columns"),
        Recipe("wsi", "Slide only", "unimodal", ("wsi",)),
        Recipe("late", "Late fusion", "late", MODALITIES, tables="columns"),
        Recipe("missing-token", "Missing tokens", "missing_token", MODALITIES, tables="columns"),
        Recipe("maria", "Masked attention (MARIA)", "maria", MODALITIES, tables="columns"),
        Recipe("haf", "HAF", "haf", MODALITIES, tables="columns"),
    ),
    "hnscc-5y": (
        Recipe("late", "Late fusion", "late", MODALITIES, tables="columns"),
        _as_published("mlp", "Fusion MLP", alignment="none"),
        _as_published("clip", "CLIP alignment", alignment="clip", anchor="wsi"),
        _as_published("ga", "Global alignment (GA)", alignment="global"),
        _as_published("haf", "HAF", alignment="global", random_drop=True, monotonic=True),
    ),
}


def planned_runs() -> dict[str, tuple[str, str, Recipe]]:
    """{run folder: (cohort, task, recipe)} of everything that ships."""
    planned = {
        f"{kind}-{recipe.name}": (kind, task, recipe)
        for kind, task in TASKS.items()
        for recipe in RECIPES
    }
    for prefix, task in HEART_TASKS.items():
        recipes = (*HEART_RECIPES, *(DIAGNOSIS_RECIPES if prefix == HEART else ()))
        for recipe in recipes:
            planned[f"{prefix}-{recipe.name}"] = (HEART, task, recipe)
    for prefix, task in HNSCC_TASKS.items():
        for recipe in HNSCC_RECIPES[prefix]:
            planned[f"{prefix}-{recipe.name}"] = (HNSCC, task, recipe)
    return planned


def pretrain_shipped_ct(say: Any) -> str:
    """The CT encoder from nothing; returns its hash."""
    torch.manual_seed(0)
    encoder = CTResNet(CTResNetConfig())
    batches = radiology_batches(0)

    for number, (what, steps, rate) in enumerate(CT_ROUNDS, start=1):

        def report(
            done: int, total: int, losses: Mapping[str, float], name: str = f"{number}, {what}"
        ) -> None:
            say(f"Pretraining the CT encoder, round {name}", done, total, losses)

        losses_of = location_loss if what == "crops" else radiology_loss
        pretrain_ct(encoder, batches, steps, losses_of=losses_of, learning_rate=rate, report=report)
    return save_encoder(encoder, ENCODERS, provenance=CT_PROVENANCE)


# (steps, learning rate); a second round starts with a fresh optimiser and fresh hearts.
ECG_ROUNDS = ((1000, 3e-3),)
ECHO_ROUNDS = ((450, 3e-3), (260, 2.5e-3))
ECHO_CONFIG = EchoNetConfig(size=64)
ECG_PROVENANCE = {
    "encodes": "signal",
    "objective": "measurements of simulated ECGs: rate, intervals, axis, rhythm, blocks, voltage "
    "and repolarisation; never an outcome",
    "rounds": [list(part) for part in ECG_ROUNDS],
}
ECHO_PROVENANCE = {
    "encodes": "video",
    "objective": "measurements of simulated echoes: ejection fraction, diameters, wall and "
    "regurgitation; never an outcome",
    "rounds": [list(part) for part in ECHO_ROUNDS],
}


def pretrain_shipped_heart(say: Any) -> None:
    """The ECG and the echo encoder from nothing, whichever is not there yet."""
    there = {
        json.loads(path.read_text(encoding="utf-8"))["provenance"].get("encodes")
        for path in ENCODERS.glob("*/encoder.json")
    }
    jobs: list[tuple[str, ModalityEncoder, Any, Any, Any, Mapping[str, Any]]] = [
        ("ECG", ECGCNN(ECGCNNConfig()), ECGReadings, ecg_batches, ECG_ROUNDS, ECG_PROVENANCE),
        ("echo", EchoNet(ECHO_CONFIG), EchoReadings, echo_batches, ECHO_ROUNDS, ECHO_PROVENANCE),
    ]
    for name, encoder, readings_of, batches_of, rounds, provenance in jobs:
        if provenance["encodes"] in there:
            continue
        readings = readings_of(encoder.pooled_width)
        for number, (steps, rate) in enumerate(rounds):

            def report(
                done: int,
                total: int,
                losses: Mapping[str, float],
                words: str = f"Pretraining the {name} encoder, round {number + 1}",
            ) -> None:
                say(words, done, total, losses)

            torch.manual_seed(number)
            batches = batches_of(encoder, number)
            pretrain_readings(encoder, readings, batches, steps, learning_rate=rate, report=report)
        save_encoder(encoder, ENCODERS, provenance=provenance)


CT_PROVENANCE = {
    "encodes": "volume",
    "objective": "radiology targets of simulated scans: embolus and calcium, present, how much "
    "and where, and the RV/LV ratio; never an outcome",
    "rounds": [list(part) for part in CT_ROUNDS],
}


def build_runs(cohorts: Path, say: Any) -> None:
    """All sample runs that are not there yet."""
    for name, (cohort, task, recipe) in planned_runs().items():
        out = RUNS / name
        if out.is_dir():
            continue
        todo = Plan(
            cohort=cohorts / cohort,
            task=task,
            strategy=recipe.strategy,
            out=out,
            encoder_store=ENCODERS,
            modalities=recipe.modalities,
            ehr=recipe.ehr,
            tables=recipe.tables,
            strategy_config=recipe.options,
            settings=TrainingSettings(**recipe.settings),
            title=recipe.title,
            command="make checkpoints",
        )

        def stage(
            what: str, done: int, total: int, numbers: Mapping[str, float], name: str = name
        ) -> None:
            say(f"{name}: {what}", done, total, numbers)

        train_run(todo, stage)


def store_trust(cohorts: Path, say: Any) -> None:
    """The trust report of every run that has none, on the small cohorts' internal patients."""
    threads = torch.get_num_threads()
    # Many small batches: a second thread would cost more than it brings.
    torch.set_num_threads(1)
    for folder in sorted(RUNS.iterdir()):
        path = folder / TRUST_FILE
        if path.is_file():
            continue

        def progress(what: str, done: int, total: int, name: str = folder.name) -> None:
            say(f"{name}: {what}", done, total)

        run = load_run(folder, [ENCODERS])
        cohort = Cohort.open(cohorts / folder.name.split("-")[0])
        report = trust_report(run, cohort, n_patients=N_TRUST, progress=progress)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(json.dumps(report, separators=(",", ":")), encoding="utf-8")
        partial.rename(path)
    torch.set_num_threads(threads)


def store_references() -> None:
    """What each run predicts for the first internal patients of the tiny cohorts, from files."""
    with tempfile.TemporaryDirectory() as home:
        for kind in TASKS:
            write_cohort(plan(kind, "tiny", 0), Path(home) / kind)
        # No sink: what is predicted comes from the files alone.
        write_heart_cohort(
            heart_plan("tiny", 0), Path(home) / HEART, files_for=(Split.INTERNAL,), most_files=16
        )
        write_hnscc_cohort(hnscc_plan("tiny", 0), Path(home) / HNSCC)
        for folder in sorted(RUNS.iterdir()):
            run = load_run(folder, [ENCODERS])
            cohort = Cohort.open(Path(home) / folder.name.split("-")[0])
            if (folder / REFERENCE_FILE).is_file():
                continue
            ids = _with_files(cohort, cohort.subject_ids("internal", run.config.task.name))
            ids = ids[:N_REFERENCE]
            made = predict(run, cohort, ids)
            frame = pd.DataFrame({"subject_id": made.subject_ids, "log_risk": made.values[:, 0]})
            frame.to_parquet(folder / REFERENCE_FILE, index=False)


def _with_files(cohort: Cohort, ids: Ids) -> Ids:
    """Those whose recordings are files, where the cohort has recordings."""
    for name, modality in cohort.spec.modalities.items():
        if modality.kind in (Kind.SIGNAL, Kind.VIDEO):
            latest = int(cohort.having(name).max(initial=0))
            ids = ids[ids <= latest]
    return ids


def main(
    cohorts: Annotated[
        Path, typer.Option(help="Where the small cohorts are kept; made when missing.")
    ] = Path("build/cohorts"),
    fresh: Annotated[bool, typer.Option(help="Forget the shipped checkpoints first.")] = False,
    processes: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Make sample_data/checkpoints again."""
    keep_large_blocks()
    quiet_transformers()
    if fresh:
        shutil.rmtree(CHECKPOINTS, ignore_errors=True)
    RUNS.mkdir(parents=True, exist_ok=True)
    with stage_bar(Console(stderr=True)) as say:
        encoder = shipped_ct_encoder() or pretrain_shipped_ct(say)
        pretrain_shipped_heart(say)
        for kind in (*TASKS, HEART, HNSCC):
            if not (cohorts / kind).is_dir():
                write_sample(
                    kind, "small", 0, cohorts / kind, processes=processes, report=say,
                    encoder_hash=encoder,
                )  # fmt: skip
        build_runs(cohorts, say)
        store_trust(cohorts, say)
    store_references()


if __name__ == "__main__":
    typer.run(main)
