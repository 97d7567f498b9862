"""All rows on all folds: resumable, in as many processes as one likes, written as a table."""

from __future__ import annotations

import fcntl
import hashlib
import json
import multiprocessing
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.benchmark.folds import TUNING_SHARE, FoldJob, run_fold
from analysis.benchmark.rows import TASKS, Row, RowError
from analysis.benchmark.table import Line, make_lines, markdown_table, record
from analysis.cohort.cohort import Cohort
from analysis.cohort.importers.hancock import import_hancock
from analysis.cohort.schema import CohortError

Report = Callable[[str, int, int, Mapping[str, float]], None]
"""(stage in words, done, in all, latest numbers)."""
LIBRARIES = ("torch", "lightning", "scikit-learn", "scikit-survival", "torchsurv", "numpy")


@dataclass(frozen=True)
class Benchmark:
    """lines: of every task with a finished fold, tasks in order. about: settings, versions."""

    lines: tuple[Line, ...]
    about: Mapping[str, Any]
    markdown: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """The lines as flat plain values."""
        return [record(line) for line in self.lines]


def hancock_cohort(src: Path, out: Path, folds: int, seed: int) -> tuple[Path, str]:
    """The cohort made of `src`, imported once, and the key of everything that it depends on."""
    digest = hashlib.sha256(f"{folds} {seed}".encode())
    for path in sorted([*src.glob("*.csv"), *src.glob("*.npz")]):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    folder = out / "cohorts" / digest.hexdigest()[:12]
    if not folder.is_dir():
        import_hancock(src, folder, folds=folds, seed=seed)
    cohort = Cohort.open(folder)
    return folder, f"{cohort.fingerprint}-{digest.hexdigest()[:12]}"


def run_hancock(
    src: Path,
    out: Path,
    rows: Sequence[Row],
    *,
    tasks: Sequence[str] = TASKS,
    folds: int = 10,
    seed: int = 0,
    jobs: int = 1,
    report: Report | None = None,
) -> Benchmark:
    """Run what is missing of the rows on the folds, and write the table into `out`.

    Every finished fold of a row is kept at once, so a stopped run goes on where it was. Writes
    table.csv, table.md and benchmark.json. Raises CohortError for a source that is not HANCOCK's
    and RowError for a task that there is not or when another process works in `out`.
    """
    for task in tasks:
        if task not in TASKS:
            raise RowError(f"There is no task '{task}'; choose {' or '.join(TASKS)}.")
    if not src.is_dir():
        raise CohortError(f"{src}: there is no such folder; name the feature tables of HANCOCK.")
    with _alone(out):
        folder, key = hancock_cohort(src, out, folds, seed)
        cohort = Cohort.open(folder)
        say = report or (lambda *_: None)
        wanted = [
            FoldJob(folder, key, row, task, fold, seed, out)
            for task in tasks
            for row in rows
            if task in row.tasks
            for fold in range(folds)
        ]
        found = {job: job.store.get(job.parameters) for job in wanted}
        results = [dict(stored.content) for stored in found.values() if stored is not None]
        missing = [job for job, stored in found.items() if stored is None]
        say("Folds of rows", len(results), len(wanted), {})
        about = _about(cohort, key, tasks, folds, seed)
        made = _summary(cohort, rows, tasks, results, about)
        _write(made, out)
        for content in _run(missing, jobs):
            results.append(content)
            say("Folds of rows", len(results), len(wanted), _numbers(content))
            made = _summary(cohort, rows, tasks, results, about)
            _write(made, out)
    return made


def _numbers(content: Mapping[str, Any]) -> dict[str, float]:
    """What the progress bar shows of the last fold."""
    score = content.get("c_index", content.get("auc"))
    return {} if score is None else {str(content["row"]): score}


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the folder for this process; the lock goes with the process, however it ends."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RowError(
                f"{out}: another benchmark is writing there; wait for it or name another folder."
            ) from error
        yield


# ---------------------------------------------------------------- processes


def _run(missing: Sequence[FoldJob], processes: int) -> Iterator[dict[str, Any]]:
    """The missing fold results, as they come."""
    if processes <= 1 or len(missing) < 2:
        yield from map(run_fold, missing)
        return
    # spawn: a forked child would inherit locks of torch's and numba's thread pools
    pool = ProcessPoolExecutor(
        max_workers=min(processes, len(missing)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(os.getpid(), max((os.cpu_count() or 1) // processes, 1)),
    )
    try:
        for done in as_completed([pool.submit(run_fold, job) for job in missing]):
            yield done.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(parent: int, threads: int) -> None:
    """Share the cores, and end with the parent even where it was killed."""
    import torch

    torch.set_num_threads(threads)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(2.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


# ---------------------------------------------------------------- the table


def _about(cohort: Cohort, key: str, tasks: Sequence[str], folds: int, seed: int) -> dict[str, Any]:
    return {
        "cohort": key,
        "description": cohort.spec.description,
        "tasks": {
            task: {
                "title": cohort.spec.task(task).title,
                "n": len(ids := cohort.subject_ids(None, task)),
                "events": _events(cohort, task, ids),
            }
            for task in tasks
        },
        "folds": folds,
        "seed": seed,
        "tuning_share": TUNING_SHARE,
        "versions": {
            **{name: version(name) for name in LIBRARIES},
            "python": platform.python_version(),
        },
    }


def _events(cohort: Cohort, task: str, ids: Any) -> int:
    truth = cohort.outcomes(task, ids)
    happened = truth.label if truth.event is None else truth.event
    assert happened is not None
    return int(happened.sum())


def _summary(
    cohort: Cohort,
    rows: Sequence[Row],
    tasks: Sequence[str],
    results: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
) -> Benchmark:
    lines: list[Line] = []
    text = []
    for task in tasks:
        found: dict[str, list[Mapping[str, Any]]] = {}
        for content in results:
            if content["task"] == task:
                found.setdefault(content["row"], []).append(content)
        made = make_lines(task, cohort.spec.task(task).kind, rows, found)
        if made:
            told = about["tasks"][task]
            text.append(
                f"## {told['title']}: {told['n']} patients, {told['events']} events\n\n"
                + markdown_table(made, about["folds"])
            )
        lines += made
    return Benchmark(tuple(lines), about, "\n".join([_heading(about), *text]))


def _heading(about: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    return (
        f"# HANCOCK, {about['folds']} stratified folds\n\n"
        f"{about['description']} Mean ± sd over test folds, seed {about['seed']}; every row on the "
        f"same folds. A strategy stops early on {about['tuning_share']:.0%} of the training "
        "folds, a regression chooses its penalty by 5-fold cross-validation inside them. The "
        "difference is paired by fold (Nadeau and Bengio 2003); the best regression is chosen by "
        "the test folds, in the regressions' favour. The paper's folds are another draw, and it "
        f"also reads whole-slide images. Versions: {versions}.\n"
    )


def _write(made: Benchmark, out: Path) -> None:
    content = {"about": made.about, "rows": made.records}
    files = {
        "table.csv": pd.DataFrame(made.records).to_csv(index=False),
        "table.md": made.markdown,
        "benchmark.json": json.dumps(content, indent=1, ensure_ascii=False) + "\n",
    }
    for name, text in files.items():
        partial = out / f".{name}.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(out / name)
