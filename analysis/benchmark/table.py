"""The table of a benchmark: mean and sd over folds, and the difference to the best regression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from analysis.benchmark.rows import REGRESSION, Published, Row

MEASURES: Mapping[str, tuple[str, ...]] = {
    "classification": ("auc", "accuracy"),
    "survival": ("c_index",),
}
"""By kind of task; rows are compared by the first one."""


MEASURE_TITLES = {"auc": "AUC", "accuracy": "Accuracy", "c_index": "Harrell's C"}


@dataclass(frozen=True)
class Difference:
    """Mean over folds of this row minus another, with a 95% confidence interval and p."""

    value: float
    low: float | None
    high: float | None
    p: float | None


@dataclass(frozen=True)
class Line:
    """A row of the table for one task. mean, sd: by measure, over the folds that are done."""

    row: Row
    task: str
    folds: int
    n: int
    events: int
    mean: Mapping[str, float]
    sd: Mapping[str, float | None]
    against: str
    difference: Difference | None
    seconds: float


def paired_difference(
    first: Sequence[float], second: Sequence[float], test_to_train: float
) -> Difference:
    """First minus second over the same folds, by the corrected resampled t-test.

    Training sets of folds overlap, so the variance of the mean is sd^2 (1/k + n_test/n_train)
    (Nadeau and Bengio 2003, eq. 6 onwards), with k - 1 degrees of freedom. The ends are None for
    one fold.
    """
    gaps = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    mean, k = float(gaps.mean()), len(gaps)
    if k < 2:
        return Difference(mean, None, None, None)
    error = float(gaps.std(ddof=1)) * np.sqrt(1 / k + test_to_train)
    if error == 0:
        return Difference(mean, mean, mean, None)
    half = float(student.ppf(0.975, k - 1)) * error
    p = 2 * float(student.sf(abs(mean) / error, k - 1))
    return Difference(mean, mean - half, mean + half, p)


def make_lines(
    task: str, kind: str, rows: Sequence[Row], found: Mapping[str, Sequence[Mapping[str, Any]]]
) -> tuple[Line, ...]:
    """One line a row of `task` with a finished fold, in order. found: fold results by row name.

    The best regression is the one with the best mean of the first measure over the test folds
    themselves, among those with as many folds as any row: a choice in the regressions' favour.
    A row is compared with it on the folds that both have.
    """
    measures = MEASURES[kind]
    done = {name: {r["fold"]: r for r in results} for name, results in found.items() if results}
    most = max((len(by_fold) for by_fold in done.values()), default=0)
    peers = [r.name for r in rows if r.group == REGRESSION and r.name in done]
    peers = [name for name in peers if len(done[name]) == most]
    peers = [name for name in peers if _values(done[name].values(), measures[0])]
    best = max(
        peers, key=lambda n: float(np.mean(_values(done[n].values(), measures[0]))), default=""
    )
    lines = []
    for row in rows:
        if row.name not in done:
            continue
        results = list(done[row.name].values())
        values = {m: _values(results, m) for m in measures}
        lines.append(
            Line(
                row=row,
                task=task,
                folds=len(results),
                n=sum(r["n"] for r in results),
                events=sum(r["events"] for r in results),
                mean={m: float(np.mean(v)) if v else float("nan") for m, v in values.items()},
                sd={m: float(np.std(v, ddof=1)) if len(v) > 1 else None for m, v in values.items()},
                against=best,
                difference=_difference(done[row.name], done.get(best, {}), measures[0])
                if row.name != best
                else None,
                seconds=float(np.mean([r["seconds"] for r in results])),
            )
        )
    return tuple(lines)


def _values(results: Any, measure: str) -> list[float]:
    return [r[measure] for r in results if r[measure] is not None]


def _difference(
    first: Mapping[int, Mapping[str, Any]], second: Mapping[int, Mapping[str, Any]], measure: str
) -> Difference | None:
    both = sorted(
        f
        for f in set(first) & set(second)
        if first[f][measure] is not None and second[f][measure] is not None
    )
    if not both:
        return None
    ratio = float(np.mean([first[f]["n"] / first[f]["n_train"] for f in both]))
    return paired_difference(
        [first[f][measure] for f in both], [second[f][measure] for f in both], ratio
    )


# ---------------------------------------------------------------- as files


def record(line: Line) -> dict[str, Any]:
    """A line as flat plain values, for CSV and JSON; what is not defined is None."""
    gap = line.difference
    flat: dict[str, Any] = {
        "task": line.task,
        "group": line.row.group,
        "row": line.row.name,
        "title": line.row.title,
        "modalities": " ".join(line.row.modalities),
        "members": line.row.members,
        "n": line.n,
        "events": line.events,
        "folds": line.folds,
    }
    for measure, mean in line.mean.items():
        flat[measure] = None if np.isnan(mean) else mean
        flat[f"{measure}_sd"] = line.sd[measure]
    flat |= {
        "against": line.against or None,
        "difference": None if gap is None else gap.value,
        "difference_low": None if gap is None else gap.low,
        "difference_high": None if gap is None else gap.high,
        "difference_p": None if gap is None else gap.p,
        "seconds_per_fold": round(line.seconds, 2),
    }
    if "auc" in line.mean:
        flat |= _published(line.row.published)
    return flat


def _published(published: Published | None) -> dict[str, float | None]:
    pair: dict[str, tuple[float, float]] = {}
    if published is not None:
        pair = {"accuracy": published.accuracy, "auc": published.auc}
    return {
        f"published_{name}{end}": pair[name][i] if name in pair else None
        for name in ("auc", "accuracy")
        for i, end in enumerate(("", "_sd"))
    }


def markdown_table(lines: Sequence[Line], wanted_folds: int) -> str:
    """A Markdown table of one task's lines; a row with fewer folds than wanted says how many."""
    measures = tuple(lines[0].mean)
    paper = "auc" in measures
    head = ["Row", "n (events)", *(MEASURE_TITLES[m] for m in measures)]
    head += [f"{MEASURE_TITLES[measures[0]]} minus best regression (95% CI)", "s a fold"]
    head += ["Paper: AUC", "Paper: accuracy"] if paper else []
    text = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    group = ""
    for line in lines:
        if line.row.group != group:
            group = line.row.group
            text.append(f"| *{group}* |{' |' * (len(head) - 1)}")
        text.append(f"| {' | '.join(_cells(line, wanted_folds, paper))} |")
    return "\n".join(text) + "\n"


def _cells(line: Line, wanted_folds: int, paper: bool) -> list[str]:
    partly = "" if line.folds == wanted_folds else f" ({line.folds} of {wanted_folds} folds)"
    cells = [f"{line.row.title}{partly}", f"{line.n} ({line.events})"]
    cells += [spread_text(line.mean[m], line.sd[m]) for m in line.mean]
    cells.append(difference_text(line))
    cells.append(f"{line.seconds:.1f}")
    if paper:
        known = line.row.published
        cells += (
            ["", ""] if known is None else [spread_text(*known.auc), spread_text(*known.accuracy)]
        )
    return cells


def difference_text(line: Line) -> str:
    """The difference to the best regression with its interval; words where there is none."""
    gap = line.difference
    if gap is None:
        return "best regression" if line.row.name == line.against else ""
    if gap.low is None or gap.high is None:
        return f"{gap.value:+.3f}"
    return f"{gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})"


def spread_text(mean: float, sd: float | None) -> str:
    """Mean ± sd at three digits."""
    if np.isnan(mean):
        return "not defined"
    return f"{mean:.3f}" if sd is None else f"{mean:.3f} ± {sd:.3f}"
