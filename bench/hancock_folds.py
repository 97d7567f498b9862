"""HANCOCK, ten stratified folds: every strategy beside scikit-survival's Coxnet, paired by fold.

    python bench/hancock_folds.py COHORT --out folds.json [--strategy late ...] [--seeds 1]

COHORT is what `fusionlens import hancock SRC COHORT --folds 10` wrote. Coxnet (l1_ratio 0.1)
reads the very columns the strategies read (standardised, nominal ones as one-hot, missing values
at the training mean with a flag), its penalty chosen by 5-fold cross-validation inside the nine
training folds. A strategy trains on 85% of them and stops early on the rest. Finished folds are
kept in the JSON file, so the command may be stopped and started again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold, train_test_split
from sksurv.linear_model import CoxnetSurvivalAnalysis
from sksurv.util import Surv

from analysis.cohort.cohort import Cohort
from analysis.cohort.dataset import CohortDataset, TableReading, all_inputs
from analysis.experiment import Plan, table_config, train_run
from analysis.predict import predict
from analysis.survival.concordance import harrell_c
from analysis.survival.data import SurvivalData
from models.encoders.table import TableEncoder
from models.training import TrainingSettings

TASK = "overall_survival"
TABLES = ("clinical", "pathological", "blood", "icd_codes", "tma_cell_density")


def design(cohort: Cohort, train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of all tables as the strategies' linear path reads them; scales from `train`."""
    parts = []
    for name in TABLES:
        encoder = TableEncoder(table_config(cohort, name)).eval()
        inputs = [
            all_inputs(CohortDataset(cohort, ids, {name: TableReading()})).inputs[name]
            for ids in (train, test)
        ]
        encoder.fit(inputs[0])
        with torch.no_grad():
            parts.append([encoder(x).pooled.double().numpy() for x in inputs])
    columns = [np.concatenate([p[i] for p in parts], axis=1) for i in (0, 1)]
    varies = columns[0].std(axis=0) > 1e-9
    return columns[0][:, varies], columns[1][:, varies]


def coxnet(cohort: Cohort, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Risk of the test patients; penalty by 5-fold cross-validated C inside the training folds."""
    A, B = design(cohort, train, test)
    truth = cohort.outcomes(TASK, train)
    y = Surv.from_arrays(truth.event, truth.time_days)
    whole = CoxnetSurvivalAnalysis(l1_ratio=0.1, alpha_min_ratio=0.01, n_alphas=40).fit(A, y)
    scores = np.zeros(len(whole.alphas_))
    for a, b in StratifiedKFold(5, shuffle=True, random_state=1).split(A, truth.event):
        part = CoxnetSurvivalAnalysis(l1_ratio=0.1, alphas=whole.alphas_).fit(A[a], y[a])
        held = SurvivalData(truth.time_days[b], truth.event[b])
        scores += [harrell_c(held, part.predict(A[b], alpha=x)) for x in whole.alphas_]
    return whole.predict(B, alpha=whole.alphas_[scores.argmax()])


def fused(
    folder: Path, cohort: Cohort, strategy: str, train: np.ndarray, test: np.ndarray, seed: int,
    modalities: tuple[str, ...],
) -> np.ndarray:  # fmt: skip
    """Risk of the test patients by a freshly trained strategy, with its training defaults."""
    event = cohort.outcomes(TASK, train).event
    learn, tune = train_test_split(train, test_size=0.15, stratify=event, random_state=seed)
    with tempfile.TemporaryDirectory() as home:
        run = train_run(
            Plan(
                cohort=folder,
                task=TASK,
                strategy=strategy,
                out=Path(home) / "run",
                encoder_store=Path(home) / "encoders",
                modalities=modalities,
                settings=TrainingSettings(seed=seed),
                train_ids=learn.tolist(),
                tuning_ids=tune.tolist(),
            ),
            accelerator="cpu",
        )
        return predict(run, cohort, test).risk


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--strategy", action="append")
    parser.add_argument("--seeds", type=int, default=1, help="runs whose risks are averaged")
    parser.add_argument("--with-tma", action="store_true")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    cohort = Cohort.open(options.cohort)
    folds = cohort.folds
    ids = cohort.subject_ids(None, TASK)
    fold_of = folds.loc[ids].to_numpy()
    known = json.loads(options.out.read_text()) if options.out.is_file() else {}
    modalities = (*TABLES, "tma") if options.with_tma else TABLES
    tag = ("+tma" if options.with_tma else "") + (f" x{options.seeds}" if options.seeds > 1 else "")
    names = options.strategy or ["late", "contrastive", "cross_attention", "co_attention"]
    for fold in np.unique(fold_of):
        train, test = ids[fold_of != fold], ids[fold_of == fold]
        truth = cohort.outcomes(TASK, test)
        held = SurvivalData(truth.time_days, truth.event)
        for name in ["coxnet", *names]:
            key = f"{name}{'' if name == 'coxnet' else tag}"
            done = known.setdefault(key, {})
            if str(fold) in done:
                continue
            started = time.perf_counter()
            if name == "coxnet":
                risk = coxnet(cohort, train, test)
            else:
                risks = [
                    fused(options.cohort, cohort, name, train, test, seed, modalities)
                    for seed in range(options.seeds)
                ]
                risk = np.mean(risks, axis=0)
            done[str(fold)] = {
                "c": harrell_c(held, risk),
                "seconds": time.perf_counter() - started,
            }
            options.out.write_text(json.dumps(known, indent=1))
    reference = np.array([known["coxnet"][str(f)]["c"] for f in np.unique(fold_of)])
    print("| model | C, mean over folds | sd | minus Coxnet, mean (sd of folds) | s a fold |")
    print("|---|---|---|---|---|")
    for key, done in known.items():
        if len(done) < len(reference):
            continue
        c = np.array([done[str(f)]["c"] for f in np.unique(fold_of)])
        gap = c - reference
        seconds = np.mean([d["seconds"] for d in done.values()])
        print(
            f"| {key} | {c.mean():.4f} | {c.std(ddof=1):.4f} | {gap.mean():+.4f} "
            f"({gap.std(ddof=1):.4f}) | {seconds:.1f} |"
        )


if __name__ == "__main__":
    main()
