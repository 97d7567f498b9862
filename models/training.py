"""Training a fusion model with Lightning: any device, early stopping, resumable."""

from __future__ import annotations

import logging
import math
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, SequentialSampler

from models.contracts import Encoded, FusionOutput, Inputs
from models.linear_start import FEWEST_EVENTS, LinearStart, class_start, cox_start
from models.losses import class_loss, cox_loss
from models.network import FusionModel


class TrainingSettings(BaseModel):
    """How a model is trained. batch_size 0 means all patients in one step (full-batch Cox).

    linear_start: hold the linear path at the elastic net of the training patients, so that the
    network learns what is left. linear_penalty: ridge on what of it is trained instead.
    patience: epochs without a better tuning loss before training stops.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_epochs: int = Field(default=80, gt=0)
    batch_size: int = Field(default=256, ge=0)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    linear_start: bool = True
    linear_penalty: float = Field(default=0.05, ge=0)
    branch_weight: float = Field(default=0.5, ge=0, description="losses of unimodal branches")
    patience: int = Field(default=8, gt=0)
    seed: int = 0


class Batch(Protocol):
    """What training reads of a batch."""

    @property
    def inputs(self) -> Inputs: ...  # noqa: D102
    @property
    def time_days(self) -> Tensor | None: ...  # noqa: D102
    @property
    def event(self) -> Tensor | None: ...  # noqa: D102
    @property
    def label(self) -> Tensor | None: ...  # noqa: D102


@dataclass(frozen=True)
class SplitData(Dataset[Any]):
    """Patients of one split in memory, encoded or raw; indexed by a list of rows.

    time_days (n,) and event (n,) bool for survival, label (n,) int64 for classification.
    """

    inputs: Inputs
    time_days: Tensor | None = None
    event: Tensor | None = None
    label: Tensor | None = None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def __getitem__(self, rows: Sequence[int]) -> SplitData:
        """The patients at `rows`."""
        index = torch.as_tensor(list(rows), dtype=torch.long)
        return SplitData(
            {name: item.take(index) for name, item in self.inputs.items()},
            *(
                None if target is None else target[index]
                for target in (self.time_days, self.event, self.label)
            ),
        )

    def to(self, device: torch.device | str) -> SplitData:
        """The same patients on another device."""
        return SplitData(
            {name: item.to(device) for name, item in self.inputs.items()},
            *(
                None if target is None else target.to(device)
                for target in (self.time_days, self.event, self.label)
            ),
        )


Score = Callable[[Tensor, SplitData], float]
"""(prediction (n, K), patients) -> a score for which higher is better, e.g. Harrell's C."""


@dataclass(frozen=True)
class TrainingResult:
    """What training did. history: long table with columns epoch, name, modality, value."""

    history: list[dict[str, object]]
    best_epoch: int
    epochs: int
    tuning_score: float
    seconds: float
    device: str
    precision: str


def outcome_loss(kind: str, prediction: Tensor, batch: Batch) -> Tensor:
    """The outcome's loss for a survival or classification task."""
    if kind == "survival":
        assert batch.event is not None
        assert batch.time_days is not None
        return cox_loss(prediction, batch.event, batch.time_days)
    assert batch.label is not None
    return class_loss(prediction, batch.label)


class _Module(L.LightningModule):  # type: ignore[misc]
    """Losses, gradient norms and unimodal scores of one run."""

    def __init__(
        self,
        model: FusionModel,
        kind: Literal["survival", "classification"],
        settings: TrainingSettings,
        score: Score,
    ) -> None:
        super().__init__()
        self.model = model
        self.kind = kind
        self.settings = settings
        self.score = score
        self.rows: list[dict[str, object]] = []
        self._sums: dict[tuple[str, str], list[float]] = {}
        self._tuning: list[tuple[FusionOutput, dict[str, Encoded], SplitData]] = []

    # -- bookkeeping

    def _note(self, name: str, value: float, modality: str = "") -> None:
        self._sums.setdefault((name, modality), []).append(value)

    def _flush(self) -> None:
        for (name, modality), values in self._sums.items():
            mean = sum(values) / len(values)
            self.rows.append(
                {"epoch": self.current_epoch, "name": name, "modality": modality, "value": mean}
            )
        self._sums.clear()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the history with the weights, so that a resumed run has all of it."""
        checkpoint["fusionlens_history"] = list(self.rows)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the history up again."""
        self.rows = list(checkpoint.get("fusionlens_history", []))

    def transfer_batch_to_device(
        self, batch: SplitData, device: torch.device, dataloader_idx: int
    ) -> SplitData:
        """Move a batch of the project's own type."""
        return batch.to(device)

    # -- steps

    def on_train_epoch_start(self) -> None:
        """Learning rate by epoch, so that a resumed run is the uninterrupted one."""
        share = self.current_epoch / self.settings.max_epochs
        rate = self.settings.learning_rate * (0.525 + 0.475 * math.cos(math.pi * share))
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate

    def training_step(self, batch: SplitData, batch_idx: int) -> Tensor:
        """Outcome loss, branches, auxiliary losses and the linear path's ridge."""
        # By step, since data loaders draw from the same stream at moments of their own choice.
        torch.manual_seed(self.settings.seed * 100_003 + self.current_epoch * 1_009 + batch_idx)
        output = self.model(batch.inputs)
        own = self.model.strategy.own_loss(output, batch.time_days, batch.event, batch.label)
        loss = outcome_loss(self.kind, output.prediction, batch) if own is None else own
        self._note("train_outcome_loss", float(loss.detach()))
        if output.unimodal and self.settings.branch_weight:
            for name, prediction in output.unimodal.items():
                rows = torch.nonzero(batch.inputs[name].present)[:, 0]
                alone = self.model.strategy.with_intercept(prediction[rows])
                part = outcome_loss(self.kind, alone, batch[rows.tolist()])
                loss = loss + self.settings.branch_weight * part
        for name, term in output.losses.items():
            self._note(f"train_{name}_loss", float(term.detach()))
            loss = loss + term
        for layer in self.model.strategy.linear.values():
            weight = cast(Tensor, layer.weight)
            if weight.requires_grad:
                loss = loss + self.settings.linear_penalty * weight.pow(2).sum()
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Gradient norm that reaches each modality's own parameters."""
        strategy = self.model.strategy
        for name in self.model.modalities:
            owned = [*strategy.project[name].parameters(), *self.model.encoders[name].parameters()]
            if name in strategy.linear:
                owned += list(strategy.linear[name].parameters())
            squares = [p.grad.pow(2).sum() for p in owned if p.grad is not None]
            self._note("gradient_norm", float(sum(squares, torch.zeros(())).sqrt()), name)

    def validation_step(self, batch: SplitData, batch_idx: int) -> None:
        """Collect the tuning split; scores need all of it at once."""
        encoded = self.model.encode(batch.inputs)
        self._tuning.append((self.model.fuse(encoded), encoded, batch))

    def on_validation_epoch_end(self) -> None:
        """Tuning loss and score, and the score of each modality alone."""
        outputs, batches = self._tuning, [item[2] for item in self._tuning]
        self._tuning = []
        everyone = _join_targets(batches)
        prediction = torch.cat([output.prediction for output, _, _ in outputs]).float()
        loss = float(outcome_loss(self.kind, prediction, everyone))
        self.log("tuning_loss", loss)
        score = float(self.score(prediction.cpu(), everyone.to("cpu")))
        self.log("tuning_score", score)
        if self.trainer.sanity_checking:
            return
        self._note("tuning_loss", loss)
        self._note("tuning_score", score)
        if len(self.model.modalities) > 1:
            for name in self.model.modalities:
                self._note("unimodal_score", self._alone(name, outputs), name)

    def _alone(
        self, name: str, outputs: list[tuple[FusionOutput, dict[str, Encoded], SplitData]]
    ) -> float:
        """Score of the model when it is given one modality only, over patients who have it."""
        predictions, kept = [], []
        for _, encoded, batch in outputs:
            rows = torch.nonzero(encoded[name].present)[:, 0]
            if len(rows) == 0:
                continue
            hidden = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
            alone = {
                other: item.take(rows) if other == name else item.take(rows).without(hidden)
                for other, item in encoded.items()
            }
            predictions.append(self.model.fuse(alone).prediction)
            kept.append(_targets(batch, rows))
        if not kept:
            return float("nan")
        return float(
            self.score(torch.cat(predictions).float().cpu(), _join_targets(kept).to("cpu"))
        )

    def on_train_epoch_end(self) -> None:
        """Write the epoch's means into the history."""
        self._flush()

    def configure_optimizers(self) -> Any:
        """AdamW; the linear path has its own ridge and biases and norms have none."""
        linear = {id(p) for p in self.model.strategy.linear.parameters()}
        decayed: list[nn.Parameter] = []
        free: list[nn.Parameter] = []
        for parameter in self.model.parameters():
            if not parameter.requires_grad:
                continue
            small = parameter.ndim < 2 or id(parameter) in linear
            (free if small else decayed).append(parameter)
        return torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": self.settings.weight_decay},
                {"params": free, "weight_decay": 0.0},
            ],
            lr=self.settings.learning_rate,
        )


def _targets(batch: SplitData, rows: Tensor) -> SplitData:
    """The outcomes of some rows, without inputs."""
    return SplitData(
        {},
        *(None if t is None else t[rows] for t in (batch.time_days, batch.event, batch.label)),
    )


def _join_targets(batches: Sequence[SplitData]) -> SplitData:
    """The outcomes of several batches, without inputs."""

    def join(targets: list[Tensor | None]) -> Tensor | None:
        known = [t for t in targets if t is not None]
        return torch.cat(known) if known else None

    return SplitData(
        {},
        join([b.time_days for b in batches]),
        join([b.event for b in batches]),
        join([b.label for b in batches]),
    )


Progress = Callable[[int, int, Mapping[str, float]], None]
"""(epoch done, epochs at most, latest metrics)."""


class _Report(Callback):  # type: ignore[misc]
    def __init__(self, progress: Progress, max_epochs: int) -> None:
        self.progress = progress
        self.max_epochs = max_epochs

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.progress(trainer.current_epoch + 1, self.max_epochs, metrics)


class _SeededSampler(Sampler[int]):
    """Shuffles by (seed, epoch), so that a resumed run continues the same order."""

    def __init__(self, n: int, seed: int, epoch: Callable[[], int]) -> None:
        self.n = n
        self.seed = seed
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 7919 + self.epoch())
        return iter(torch.randperm(self.n, generator=generator).tolist())

    def __len__(self) -> int:
        return self.n


def loader(data: SplitData, batch_size: int, sampler: Any) -> DataLoader[SplitData]:
    """Batches by one indexing operation each, since the patients are in memory."""
    size = batch_size or max(len(data), 1)
    # A last batch of a few patients has hardly a comparable pair and a wild gradient.
    drop = isinstance(sampler, _SeededSampler) and len(data) % size < size // 4 and len(data) > size
    return DataLoader(data, sampler=BatchSampler(sampler, size, drop), batch_size=None)


def fit_statistics(model: FusionModel, data: SplitData) -> None:
    """Let trainable encoders and the strategy take their scales from the training patients."""
    model.eval()
    with torch.no_grad():
        for name in model.modalities:
            item = data.inputs[name]
            if name not in model.frozen and not isinstance(item, Encoded):
                model.encoder(name).fit(item)
        model.strategy.fit(model.encode(data.inputs))


def start_linear(
    model: FusionModel, kind: Literal["survival", "classification"], data: SplitData
) -> LinearStart | None:
    """Set the linear path to the elastic net of the training patients, and hold it there.

    Modalities whose summary is itself still to be learnt stay trainable, from zero. None where
    all are like that, and where too few patients had the event to choose a penalty by.
    """
    strategy = model.strategy
    if kind == "survival":
        assert data.event is not None
        if int(data.event.sum()) < FEWEST_EVENTS:
            return None
    with torch.no_grad():
        encoded = model.encode(data.inputs)
        columns = {
            name: strategy.linear_inputs(name, encoded[name]).double().numpy()
            for name in strategy.linear
            if name in model.frozen or model.encoder(name).pooled_is_fixed
        }
    if not columns:
        return None
    x = np.concatenate(list(columns.values()), axis=1)
    if kind == "survival":
        assert data.time_days is not None
        assert data.event is not None
        found = cox_start(x, data.time_days.double().numpy(), data.event.numpy().astype(bool))
    else:
        assert data.label is not None
        found = class_start(x, data.label.numpy(), strategy.outputs)
    ends = np.cumsum([c.shape[1] for c in columns.values()])
    with torch.no_grad():
        for name, part in zip(columns, np.split(found.weight, ends[:-1]), strict=True):
            weight = cast(Tensor, strategy.linear[name].weight)
            weight.copy_(torch.from_numpy(part.T))
            weight.requires_grad_(False)
    return found


def start_intercept(model: FusionModel, data: SplitData, start: LinearStart | None) -> None:
    """Set a strategy's intercept to the linear start's, or to the training patients' log-odds."""
    intercept = model.strategy.intercept
    if intercept is None or data.label is None:
        return
    if start is not None and start.intercept is not None:
        value = torch.from_numpy(start.intercept).to(intercept.dtype)
    else:
        share = data.label.double().mean().clamp(1e-3, 1 - 1e-3)
        value = torch.logit(share).to(intercept.dtype).expand_as(intercept)
    with torch.no_grad():
        intercept.copy_(value)


def train(
    model: FusionModel,
    kind: Literal["survival", "classification"],
    training: SplitData,
    tuning: SplitData,
    settings: TrainingSettings,
    score: Score,
    *,
    checkpoint_folder: Path,
    progress: Progress | None = None,
    accelerator: str = "auto",
) -> TrainingResult:
    """Train `model` in place and leave its best weights (lowest tuning loss) in it.

    Continues from `checkpoint_folder`/last.ckpt when an earlier process was stopped there.
    """
    started = time.perf_counter()
    fit_statistics(model, training)
    start = start_linear(model, kind, training) if settings.linear_start else None
    start_intercept(model, training, start)
    module = _Module(model, kind, settings, score)
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    precision = (
        ("bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed") if on_gpu else "32-true"
    )
    best = ModelCheckpoint(
        dirpath=checkpoint_folder,
        filename="best",
        monitor="tuning_loss",
        mode="min",
        save_top_k=1,
        save_last=True,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    stop = EarlyStopping("tuning_loss", mode="min", patience=settings.patience)
    callbacks: list[Callback] = [best, stop]
    if progress is not None:
        callbacks.append(_Report(progress, settings.max_epochs))
    last = _readable(checkpoint_folder / "last.ckpt")
    with _quiet():
        trainer = L.Trainer(
            accelerator=accelerator,
            devices="auto" if on_gpu else 1,
            precision=cast(Any, precision),
            max_epochs=settings.max_epochs,
            callbacks=callbacks,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            gradient_clip_val=1.0,
            use_distributed_sampler=False,
        )
        # Lightning keeps the mode it finds.
        model.train()
        trainer.fit(
            module,
            loader(
                training,
                settings.batch_size,
                _SeededSampler(len(training), settings.seed, lambda: module.current_epoch),
            ),
            loader(tuning, 1024, SequentialSampler(cast(Any, range(len(tuning))))),
            ckpt_path=None if last is None else str(last),
            weights_only=True,
        )
    state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
    module.load_state_dict(state["state_dict"])
    model.cpu().eval()
    scores = [row for row in module.rows if row["name"] == "tuning_score"]
    best_epoch = int(state["epoch"])
    return TrainingResult(
        history=module.rows,
        best_epoch=best_epoch,
        epochs=len(scores),
        tuning_score=next(
            (cast(float, r["value"]) for r in scores if r["epoch"] == best_epoch), float("nan")
        ),
        seconds=time.perf_counter() - started,
        device=str(trainer.strategy.root_device),
        precision=precision,
    )


def _readable(last: Path) -> Path | None:
    """A checkpoint to go on from; one that a kill left half written is removed, with its folder.

    Training starts anew then, and ends with the same weights.
    """
    if not last.is_file():
        return None
    try:
        torch.load(last, map_location="cpu", weights_only=True)
    except Exception:  # torch raises what its readers raise: whatever it is, nobody can go on
        shutil.rmtree(last.parent, ignore_errors=True)
        return None
    return last


class _quiet:  # noqa: N801
    """Lightning's notices about loggers and workers mean nothing to the people who train here."""

    def __enter__(self) -> None:
        self.logger = logging.getLogger("lightning.pytorch")
        self.level = self.logger.level
        self.logger.setLevel(logging.ERROR)
        self.caught = warnings.catch_warnings()
        self.caught.__enter__()
        warnings.filterwarnings("ignore", module="lightning")

    def __exit__(self, *error: object) -> None:
        self.logger.setLevel(self.level)
        self.caught.__exit__(None, None, None)
