"""The rows of the comparison on HANCOCK, as data: who predicts, from what, trained how.

The paper is HAF (heterogeneous aligned fusion for survival prediction with missing modalities,
2026), tables 1 and 2; it also reads whole-slide images, which the public tables do not have.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from analysis.cohort.importers.hancock import WINDOW_TASK
from models.fusion.base import STRATEGIES

SURVIVAL_TASK = "overall_survival"
TASKS = (WINDOW_TASK, SURVIVAL_TASK)
TABLES = ("clinical", "pathological", "blood", "icd_codes", "tma_cell_density")
TMA = "tma"
ALL = (*TABLES, TMA)


class RowError(ValueError):
    """A row that there is not or that cannot be run; the message says the remedy."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """What the paper prints, mean and sd over ten folds of another draw."""

    accuracy: tuple[float, float]
    auc: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table.

    estimator: a name of `regression.ESTIMATORS`, or none and then strategy is a fusion strategy
    with its config and training settings. members: runs a fold, each with its own seed and
    tuning patients, whose predictions are averaged.
    """

    name: str
    title: str
    group: str
    tasks: tuple[str, ...] = TASKS
    modalities: tuple[str, ...] = ALL
    estimator: str = ""
    strategy: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    members: int = 1
    published: Published | None = None

    @property
    def recipe(self) -> dict[str, Any]:
        """What the row's numbers depend on; titles and the paper's numbers do not count."""
        content = asdict(self)
        for name in ("title", "group", "tasks", "published"):
            del content[name]
        return content


REGRESSION, SINGLE, OURS, PAPER, OTHERS = (
    "Regressions and forests",
    "One modality",
    "Fusion over an elastic net",
    "HAF and its parts, as the paper trains",
    "Other multimodal methods, as the paper trains",
)
# Section 3.1: Adam, 1e-4, 1e-5, 200 epochs, batches of 64, early stopping. The patience of early
# stopping is not said; the rate is lowered after 15 epochs, so it is longer than that.
AS_PUBLISHED = {
    "max_epochs": 200,
    "batch_size": 64,
    "learning_rate": 1e-4,
    "weight_decay": 1e-5,
    "patience": 30,
    "linear_start": False,
}
PLAIN = {"linear_path": False, "modality_dropout": 0.0}


def _estimator(name: str, title: str, task: str, modalities: tuple[str, ...] = ALL) -> Row:
    read = "" if modalities == ALL else "_tables"
    return Row(
        name=f"{name}{read}",
        title=f"{title}, tables {'and mean TMA embedding' if modalities == ALL else 'only'}",
        group=REGRESSION,
        tasks=(task,),
        modalities=modalities,
        estimator=name,
    )


def _haf(name: str, title: str, published: Published | None = None, **config: Any) -> Row:
    parts = {"alignment": "none", "random_drop": False, "monotonic": False, **config}
    if parts["alignment"] == "clip":
        parts["anchor"] = TMA
    return Row(
        name=name,
        title=title,
        group=PAPER,
        strategy="haf",
        config={**PLAIN, **parts},
        settings=AS_PUBLISHED,
        published=published,
    )


def _other(name: str, title: str, published: Published | None = None) -> Row:
    # Hiding modalities belongs to those for missing modalities, each with its own chance.
    config = {"linear_path": False} if published is None else PLAIN
    return Row(
        name=name,
        title=title,
        group=OTHERS,
        strategy=name,
        config=config,
        settings=AS_PUBLISHED,
        published=published,
    )


def _ours(name: str, title: str, strategy: str, **more: Any) -> Row:
    return Row(name=name, title=title, group=OURS, strategy=strategy, **more)


def _published(accuracy: float, sd: float, auc: float, auc_sd: float) -> Published:
    return Published(accuracy=(accuracy, sd), auc=(auc, auc_sd))


_FULL = {"alignment": "global", "random_drop": True, "monotonic": True}

ROWS: tuple[Row, ...] = (
    Row(
        name="commonest",
        title="The commonest class for everybody",
        group=REGRESSION,
        tasks=(WINDOW_TASK,),
        modalities=(),
        estimator="commonest",
    ),
    _estimator("logistic_ridge", "Logistic regression, ridge", WINDOW_TASK),
    _estimator("logistic_ridge", "Logistic regression, ridge", WINDOW_TASK, TABLES),
    _estimator("logistic_net", "Logistic regression, elastic net", WINDOW_TASK),
    _estimator("logistic_net", "Logistic regression, elastic net", WINDOW_TASK, TABLES),
    _estimator("random_forest", "Random forest", WINDOW_TASK),
    _estimator("random_forest", "Random forest", WINDOW_TASK, TABLES),
    _estimator("coxnet", "Cox regression, elastic net", SURVIVAL_TASK),
    _estimator("coxnet", "Cox regression, elastic net", SURVIVAL_TASK, TABLES),
    _estimator("survival_forest", "Random survival forest", SURVIVAL_TASK),
    _estimator("survival_forest", "Random survival forest", SURVIVAL_TASK, TABLES),
    *(
        Row(
            name=f"only_{name}",
            title=title,
            group=SINGLE,
            modalities=(name,),
            strategy="unimodal",
            config={"modality_dropout": 0.0},
        )
        for name, title in {
            "clinical": "Clinical data",
            "pathological": "Pathology report",
            "blood": "Blood tests",
            "icd_codes": "ICD-10 codes",
            "tma_cell_density": "Immune cell density",
            TMA: "Tissue microarray (gated attention)",
        }.items()
    ),
    _ours("late", "Late fusion", "late"),
    _ours("contrastive", "Contrastive fusion", "contrastive"),
    _ours("cross_attention", "Cross-attention", "cross_attention"),
    _ours("co_attention", "Co-attention", "co_attention"),
    _ours("multisurv", "MultiSurv attention", "multisurv"),
    _ours("mean_concat", "Mean and concatenate", "mean_concat"),
    _ours(
        "tgmm",
        "TGMM (tables but ICD-10 codes)",
        "tgmm",
        modalities=("clinical", "pathological", "blood", "tma_cell_density"),
    ),
    _ours("haf_linear", "HAF", "haf", config=_FULL),
    _ours("late_x5", "Late fusion, mean of 5 runs", "late", members=5),
    Row(
        name="tma_clam",
        title="TMA only (paper: TMA-CLAM)",
        group=PAPER,
        modalities=(TMA,),
        strategy="unimodal",
        config=PLAIN,
        settings=AS_PUBLISHED,
    ),
    _haf("fusion_mlp", "Fusion MLP", _published(0.748, 0.046, 0.694, 0.113)),
    _haf(
        "global_alignment",
        "Global alignment (GA)",
        _published(0.752, 0.047, 0.698, 0.127),
        alignment="global",
    ),
    _haf(
        "clip_alignment",
        "CLIP alignment",
        _published(0.741, 0.074, 0.697, 0.103),
        alignment="clip",
    ),
    _haf(
        "random_drop",
        "Random-modality drop",
        _published(0.748, 0.074, 0.715, 0.099),
        random_drop=True,
        monotonic=True,
    ),
    _haf(
        "clip_random_drop",
        "CLIP + random drop",
        _published(0.741, 0.073, 0.735, 0.097),
        alignment="clip",
        random_drop=True,
        monotonic=True,
    ),
    _haf("haf", "HAF (GA + random drop)", _published(0.745, 0.065, 0.739, 0.092), **_FULL),
    _haf(
        "fusion_mlp_attached",
        "Fusion MLP, not detached",
        _published(0.738, 0.063, 0.698, 0.110),
        detach=False,
    ),
    _haf(
        "global_alignment_attached",
        "GA, not detached",
        _published(0.752, 0.050, 0.727, 0.108),
        alignment="global",
        detach=False,
    ),
    _haf(
        "random_drop_attached",
        "Random drop, not detached",
        _published(0.748, 0.081, 0.714, 0.101),
        random_drop=True,
        monotonic=True,
        detach=False,
    ),
    _haf(
        "haf_attached",
        "HAF, not detached",
        _published(0.748, 0.052, 0.721, 0.098),
        **_FULL,
        detach=False,
    ),
    _other("ps3", "PS3", _published(0.626, 0.123, 0.718, 0.117)),
    _other("mdlm", "MDLM", _published(0.557, 0.145, 0.626, 0.122)),
    _other("mfmf", "MFMF", _published(0.675, 0.089, 0.732, 0.127)),
    _other(
        "feature_interaction",
        "Simple feature interaction",
        _published(0.705, 0.083, 0.677, 0.098),
    ),
    _other("missing_token", "Missing token"),
    _other("modality_dropout", "Modality dropout"),
    _other("maria", "MARIA"),
    _other("drfuse", "DrFuse"),
)


def choose_rows(names: Sequence[str], tasks: Sequence[str]) -> tuple[Row, ...]:
    """The rows of these names, in the table's order; all rows for those tasks without names.

    Raises RowError for a name that no row has, a row of none of the tasks, and a row whose
    strategy is not registered.
    """
    by_name = {row.name: row for row in ROWS}
    for name in names:
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise RowError(f"There is no row '{name}'.{hint} Known: {', '.join(by_name)}.")
        if not set(by_name[name].tasks) & set(tasks):
            raise RowError(
                f"Row '{name}' is for task {' and '.join(by_name[name].tasks)} only; choose that "
                "task or another row."
            )
    chosen = [row for row in ROWS if row.name in names or not names]
    chosen = [row for row in chosen if set(row.tasks) & set(tasks)]
    for row in chosen:
        if row.strategy and row.strategy not in STRATEGIES:
            raise RowError(
                f"Row '{row.name}' needs the fusion strategy '{row.strategy}', which is not "
                f"there; choose other rows with --row (strategies: {', '.join(STRATEGIES)})."
            )
    return tuple(chosen)
