"""From a checkpoint and model.yaml to a run folder: what `fusionlens import checkpoint` does."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from analysis.baseline_file import read_baseline, write_baseline
from analysis.cohort.schema import CohortError
from analysis.features import Progress
from analysis.importing.draft import Draft, draft_model, settle_vocabulary
from analysis.importing.model_file import read_model_file
from analysis.importing.summary import first_few, misfits
from analysis.predict import predict
from analysis.survival.baseline import breslow
from analysis.survival.concordance import harrell_c, why_undefined
from analysis.survival.data import SurvivalData
from models.checkpoint import (
    BASELINE_FILE,
    CohortEntry,
    EncoderEntry,
    ImportedEntry,
    ModalityEntry,
    Run,
    RunConfig,
    StrategyEntry,
    TrainingEntry,
    load_run,
    save_encoder,
    write_model,
)
from models.importing.inference import infer_settings, unseen
from models.importing.layouts import looks_like
from models.importing.names import KeyReport, compare
from models.importing.pickles import CheckpointError
from models.importing.source import Checkpoint, open_checkpoint
from models.network import FusionModel

# Numbers that a model may have whatever the checkpoint holds, and how many times its numbers.
_LARGE, _TIMES_LARGER = 500_000_000, 20
Note = Callable[[str], None]


@dataclass(frozen=True)
class Examined:
    """A checkpoint beside the model it is to fill; nothing has been written.

    report: every tensor. looks_like: the public model whose layout it has, and what to do with it;
    empty for none. inferred: settings read off the shapes. assumed: settings that neither
    model.yaml nor any shape confirms. notes: sentences on what was learnt on the cohort.
    """

    checkpoint: Checkpoint
    draft: Draft
    report: KeyReport
    looks_like: str
    inferred: dict[str, Any]
    assumed: dict[str, Any]
    notes: tuple[str, ...]

    def misfits(self, allowed: Sequence[str] = ()) -> list[str]:
        """Why it cannot be accepted, a sentence each; allowed: missing tensors that may be."""
        return misfits(self.report, allowed)


def examine_checkpoint(
    source: Path | str, model_file: Path | str, encoder_places: Sequence[Path] = ()
) -> Examined:
    """Compare a checkpoint with the model that model.yaml describes, tensor by tensor.

    encoder_places: where stored encoders are looked for. Raises CheckpointError, CohortError,
    RunError or KeyError in one sentence.
    """
    path = Path(model_file)
    file = read_model_file(path)
    checkpoint = open_checkpoint(source, file.within)
    draft = draft_model(path, file, encoder_places)
    start = draft.numbers
    try:
        _check_size(draft, checkpoint)
        draft.build()
    except (ValueError, ArithmeticError, RuntimeError, AssertionError) as error:
        raise CheckpointError(f"{path}: {_sentence(error)}") from error
    found = infer_settings(draft.expected, start, checkpoint.entries, file.rules)
    blind = {_dotted(p) for p in unseen(draft.expected, start)}
    draft.take(found.settings)
    notes = [
        settle_vocabulary(draft, name)
        for name, encoder in draft.encoders.items()
        if encoder.learns_vocabulary and _fits_but_for_vocabulary(found.report, name)
    ]
    report = compare(draft.expected(), checkpoint.entries, file.rules)
    inferred = {_dotted(path): value for path, value in found.settings.items()}
    settings = draft.open_settings()
    numbers = {_dotted(p[:2]) for p in start}
    assumed = {
        name: value
        for name, value in settings.items()
        if name not in numbers or any(b == name or b.startswith(f"{name}.") for b in blind)
    }
    public = looks_like(checkpoint.entries)
    return Examined(
        checkpoint,
        draft,
        report,
        f"{public.title}; {public.advice}" if public else "",
        inferred,
        assumed,
        tuple(notes),
    )


def _check_size(draft: Draft, checkpoint: Checkpoint) -> None:
    """Refuse a model that is far larger than its weights before it takes any memory."""
    described = sum(tensor.numel() for tensor in draft.expected().values())
    there = sum(entry.numel for entry in checkpoint.entries.values())
    if described > max(_LARGE, _TIMES_LARGER * there):
        raise ValueError(
            f"describes a model of {described:,} numbers, and {checkpoint.path.name} holds "
            f"{there:,}; mend its settings."
        )


def _fits_but_for_vocabulary(report: KeyReport, name: str) -> bool:
    """Whether the encoder's weights are there; without them no size of a vocabulary is known."""
    inside = f"encoders.{name}."
    return not any(line.name.startswith(inside) for line in report.of("missing", "shape differs"))


def _dotted(path: Sequence[str]) -> str:
    return ".".join(path)


def _sentence(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        inner = ".".join(map(str, first["loc"]))
        return f"field '{inner}': {first['msg'].removeprefix('Value error, ')}."
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text if text.endswith(".") else f"{text}."


# ---------------------------------------------------------------- accepting


def import_checkpoint(
    examined: Examined,
    out: Path | str,
    *,
    allow_missing: Sequence[str] = (),
    encoder_places: Sequence[Path] = (),
    command: str = "",
    source: str = "",
    progress: Progress | None = None,
    note: Note | None = None,
) -> Run:
    """Write an examined checkpoint as a run folder and open it.

    allow_missing: names, or patterns with *, of tensors that may be missing and then keep their
    untrained values. source: the checkpoint's name, where its file is called otherwise. Work in
    progress lies in OUT.partial and is removed when anything fails. Raises CheckpointError,
    CohortError or RunError in one sentence.
    """
    out = Path(out)
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise CheckpointError(f"{out}: already exists; name a new folder or delete this one.")
    wrong = examined.misfits(allow_missing)
    if wrong:
        public = f" It looks like {examined.looks_like}." if examined.looks_like else ""
        raise CheckpointError(
            f"{examined.checkpoint.path}: does not fit {examined.draft.path.name}: "
            f"{'; '.join(wrong)}.{public}"
        )
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        named = source or examined.checkpoint.path.name
        run = _write(examined, out, partial, encoder_places, command, named, progress, note)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return run


def _write(
    examined: Examined,
    out: Path,
    partial: Path,
    places: Sequence[Path],
    command: str,
    source: str,
    progress: Progress | None,
    note: Note | None,
) -> Run:
    say = note or (lambda _: None)
    model = _filled(examined)
    partial.mkdir(parents=True)
    config = _config(examined, out.name, model, partial, command, source)
    vocabularies = {
        name: encoder.vocabulary
        for name, encoder in examined.draft.encoders.items()
        if encoder.vocabulary is not None
    }
    write_model(partial, config, model, vocabularies)
    run = load_run(partial, places)
    fitted = [*examined.notes, *_fit(examined, run, partial, progress)]
    score = _tuning_score(examined, run)
    imported = config.imported
    assert imported is not None
    config = config.model_copy(
        update={
            "imported": imported.model_copy(update={"fitted": tuple(fitted)}),
            "training": config.training.model_copy(update={"tuning_score": score}),
        }
    )
    write_model(partial, config, model, vocabularies)
    for sentence in fitted:
        say(f"Learnt on the cohort's training patients: {sentence}.")
    if out.exists():
        out.rmdir()
    partial.rename(out)
    return load_run(out, places)


def _filled(examined: Examined) -> FusionModel:
    """The model with the checkpoint's numbers."""
    torch.manual_seed(0)
    model = examined.draft.build()
    state: dict[str, Tensor] = {}
    expected = model.state_dict()
    for name, source in examined.report.sources.items():
        tensor = examined.checkpoint.read(source)
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"{examined.checkpoint.path}: '{source[:120]}' holds values that are not finite; "
                "import an earlier checkpoint."
            )
        kept = tensor.to(expected[name].dtype)
        if tensor.is_floating_point() and not bool(torch.isfinite(kept).all()):
            raise CheckpointError(
                f"{examined.checkpoint.path}: '{source[:120]}' holds values that are too large "
                f"for {expected[name].dtype}."
            )
        state[name] = kept
    model.load_state_dict(state, strict=False)
    for name, part in examined.draft.file.modalities.items():
        if part.encoder.weights is not None:
            _fill_encoder(examined.draft, name, model.encoder(name))
    model.requires_grad_(False)
    model.eval()
    return model


def _fill_encoder(draft: Draft, name: str, encoder: nn.Module) -> None:
    """An encoder's own checkpoint."""
    part = draft.file.modalities[name].encoder
    path = draft.path.parent / str(part.weights)
    published = getattr(encoder, "load_published", None)
    if published is not None and not part.within:
        published(path)
        return
    checkpoint = open_checkpoint(path, part.within)
    report = compare(encoder.state_dict(), checkpoint.entries, draft.file.rules)
    wrong = report.of("missing", "shape differs", "type differs")
    if wrong:
        raise CheckpointError(f"{path}: does not fit the encoder of '{name}': {first_few(wrong)}.")
    state = {n: checkpoint.read(source) for n, source in report.sources.items()}
    bad = next((n for n, t in state.items() if not bool(torch.isfinite(t.float()).all())), None)
    if bad is not None:
        raise CheckpointError(f"{path}: '{bad}' holds values that are not finite.")
    encoder.load_state_dict(state)


def _config(
    examined: Examined, name: str, model: FusionModel, partial: Path, command: str, source: str
) -> RunConfig:
    draft, checkpoint = examined.draft, examined.checkpoint
    modalities = {}
    for modality, encoder in draft.encoders.items():
        built = model.encoder(modality)
        weights = encoder.stored.hash if encoder.stored else None
        if encoder.frozen and weights is None:
            weights = save_encoder(
                built,
                partial / "encoders",
                vocabulary=encoder.vocabulary,
                provenance={"encodes": str(built.kind), "imported_from": source},
            )
        own = draft.cohort.spec.modalities[modality]
        modalities[modality] = ModalityEntry(
            kind=built.kind,
            title=own.title,
            unit=own.unit,
            encoder=EncoderEntry(
                name=encoder.name,
                config=built.config.model_dump(mode="json"),
                frozen=encoder.frozen,
                weights=weights,
            ),
        )
    spec = draft.cohort.spec
    try:
        return RunConfig(
            name=name,
            title=draft.file.title or f"{model.strategy.title}, imported",
            strategy=StrategyEntry(
                name=draft.file.strategy.name, config=model.strategy.config.model_dump(mode="json")
            ),
            modalities=modalities,
            task=draft.task,
            cohort=CohortEntry(
                name=spec.name, title=spec.title, fingerprint=draft.cohort.fingerprint
            ),
            training=_training(command),
            imported=ImportedEntry(
                source=source,
                sha256=_sha256(checkpoint.path),
                form=checkpoint.form,
                inferred=examined.inferred,
                assumed=examined.assumed,
                fresh=tuple(line.name for line in examined.report.of("missing")),
            ),
            intended_use=draft.file.intended_use,
        )
    except ValidationError as error:
        raise CheckpointError(f"{name}: {_sentence(error)}") from error


def _training(command: str) -> TrainingEntry:
    return TrainingEntry(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        device="not known",
        precision="not known",
        seconds=None,
        n_train=None,
        n_tuning=None,
        epochs=None,
        best_epoch=None,
        tuning_score=None,
        settings={},
        versions={"torch": version("torch")},
    )


def _sha256(path: Path) -> str:
    if not path.is_file():
        return ""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# ---------------------------------------------------------------- the cohort's part


def _fit(examined: Examined, run: Run, partial: Path, progress: Progress | None) -> list[str]:
    """Write the baseline hazard; a sentence when it was learnt on the training patients."""
    draft = examined.draft
    if draft.task.kind != "survival":
        return []
    if draft.file.baseline is not None:
        given = draft.path.parent / draft.file.baseline
        if given.name != BASELINE_FILE:
            raise CheckpointError(f"{given}: a baseline hazard lies in a file {BASELINE_FILE}.")
        write_baseline(read_baseline(given.parent), partial / BASELINE_FILE)
        return []
    data, risk = _predicted(examined, run, "train", progress)
    if data is None:
        raise CheckpointError(
            f"{draft.cohort.folder}: has no training patients with an outcome for "
            f"'{draft.task.name}' to learn the baseline hazard on; give one as 'baseline'."
        )
    if not np.isfinite(risk).all():
        raise CheckpointError(
            f"{examined.checkpoint.path}: predicts risks that are not finite; its weights do not "
            "belong to this model."
        )
    write_baseline(breslow(data, risk), partial / BASELINE_FILE)
    return [f"the baseline hazard: {len(risk):,} patients, {data.n_events:,} events"]


def _predicted(
    examined: Examined, run: Run, split: str, progress: Progress | None
) -> tuple[SurvivalData | None, Any]:
    cohort = examined.draft.cohort
    outcomes = cohort.outcomes(run.config.task.name, cohort.subject_ids(split))
    if not len(outcomes) or outcomes.time_days is None or outcomes.event is None:
        return None, np.empty(0)
    if split == "train" and not outcomes.event.any():
        raise CohortError(f"{cohort.folder}: split 'train' has no event to learn a baseline on.")
    risk = predict(run, cohort, outcomes.subject_ids, progress).risk
    return SurvivalData(outcomes.time_days, outcomes.event), np.asarray(risk, np.float64)


def _tuning_score(examined: Examined, run: Run) -> float | None:
    """Harrell's C on the cohort's tuning patients, where it is defined."""
    if examined.draft.task.kind != "survival":
        return None
    data, risk = _predicted(examined, run, "tuning", None)
    if data is None or why_undefined(data) or not np.isfinite(risk).all():
        return None
    return harrell_c(data, risk)
