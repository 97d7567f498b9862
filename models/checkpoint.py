"""A run: one trained model in a folder, and frozen encoders stored once, named by their hash.

    RUN/
      config.json               RunConfig: everything needed to rebuild and to understand it
      model.safetensors         strategy and trainable encoders
      vocabulary.json           {modality: vocabulary} of trainable event encoders
      baseline_hazard.parquet   Breslow's cumulative baseline hazard (survival tasks)
      history.parquet           epoch, name, modality, value
    ENCODERS/HASH/
      encoder.json, encoder.safetensors, vocabulary.json

Loading never runs code from a folder: JSON and safetensors only, on the CPU, whatever device
trained the model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import models.encoders
import models.fusion  # noqa: F401  registers all strategies
from models.contracts import Kind
from models.encoders.base import ENCODERS, ModalityEncoder, build_encoder, weights_hash
from models.fusion.base import STRATEGIES
from models.network import FusionModel, stream_widths
from models.refusal import RefusalError
from models.vocabulary import Vocabulary

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
VOCABULARY_FILE = "vocabulary.json"
BASELINE_FILE = "baseline_hazard.parquet"
HISTORY_FILE = "history.parquet"
PREDICTIONS = "predictions"
"""Field of a config.json that stands for predictions made elsewhere, without a model."""
LARGEST = 10_000_000
"""Numbers that are made before it is looked whether the weights have as many."""
ENCODER_CONFIG = "encoder.json"
ENCODER_WEIGHTS = "encoder.safetensors"


class RunError(RefusalError):
    """A run cannot be used; the message says what, where and the remedy in one sentence."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class EncoderEntry(_Strict):
    """An encoder of a run. weights: hash of a frozen encoder stored apart, None if trained here."""

    name: str
    config: dict[str, Any]
    frozen: bool = False
    weights: str | None = Field(default=None, pattern=r"^[0-9a-f]{16}$")


class ModalityEntry(_Strict):
    """A modality the model reads."""

    kind: Kind
    title: str
    unit: str = ""
    encoder: EncoderEntry


class TaskEntry(_Strict):
    """What is predicted. For survival the output is a log-risk: higher is worse."""

    name: str
    kind: Literal["survival", "classification"]
    title: str
    event_title: str = ""
    horizon_days: float | None = None
    classes: tuple[str, ...] = ()

    @property
    def outputs(self) -> int:
        """Width of the prediction: one log-risk, one logit for two classes, else one a class."""
        return len(self.classes) if self.kind == "classification" and len(self.classes) > 2 else 1


class CohortEntry(_Strict):
    """The cohort a run was trained on; a fingerprint names its exact subjects and outcomes."""

    name: str
    title: str
    fingerprint: str


class StrategyEntry(_Strict):
    """Name and settings of the fusion strategy."""

    name: str
    config: dict[str, Any]


class TrainingEntry(_Strict):
    """Provenance of the weights. None: not known, as of weights that were trained elsewhere."""

    created: str
    command: str = ""
    device: str
    precision: str
    seconds: float | None
    n_train: int | None
    n_tuning: int | None
    events_train: int | None = None
    epochs: int | None
    best_epoch: int | None
    tuning_score: float | None
    settings: dict[str, Any]
    versions: dict[str, str]


class ImportedEntry(_Strict):
    """Where the weights of a run come from that was not trained here.

    source: the name of the checkpoint. sha256: of the file, empty for a folder. form: what kind of
    file it was. inferred: settings read off the shapes. assumed: settings that neither the file of
    the model nor any shape confirms. fitted: what was learnt on the cohort's training patients.
    fresh: tensors that the checkpoint lacked and that hold their untrained values.
    """

    source: str
    sha256: str = ""
    form: str
    inferred: dict[str, Any] = {}
    assumed: dict[str, Any] = {}
    fitted: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()


class RunConfig(_Strict):
    """The whole of config.json."""

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")
    title: str
    strategy: StrategyEntry
    modalities: dict[str, ModalityEntry] = Field(min_length=1)
    task: TaskEntry
    cohort: CohortEntry
    training: TrainingEntry
    imported: ImportedEntry | None = None
    intended_use: str = "Research on fusion strategies; not for clinical decisions."


@dataclass(frozen=True)
class Run:
    """A loaded run. model is in eval mode on the CPU, its parameters need no gradient.

    vocabularies: {modality: Vocabulary} for every events modality. hash: 16 hex digits over
    config and weights, for cache keys.
    """

    folder: Path
    config: RunConfig
    model: FusionModel
    vocabularies: Mapping[str, Vocabulary]
    hash: str


# ---------------------------------------------------------------- reading


def read_config(folder: Path) -> RunConfig:
    """The validated config.json of a run folder. Raises RunError."""
    path = Path(folder) / CONFIG_FILE
    content = _read_json(path, "name a run folder, or make one with 'fusionlens train'")
    if isinstance(content, dict) and PREDICTIONS in content:
        raise RunError(
            f"{path}: this run holds predictions that were made elsewhere and no model; evaluate "
            "and compare it, there is nothing to explain."
        )
    try:
        return RunConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise RunError(
            f"{path}: field '{where}': {first['msg']}; restore the file or train the run again."
        ) from error


def run_hash(folder: Path) -> str:
    """16 hex digits over config.json and model.safetensors."""
    digest = hashlib.sha256()
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        path = Path(folder) / name
        if not path.is_file():
            raise RunError(f"{path}: there is no such file; the run is incomplete, train it again.")
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


def load_run(folder: Path, encoder_folders: Sequence[Path] = ()) -> Run:
    """Rebuild a run from its folder.

    Frozen encoders are looked for in RUN/encoders, beside the run (../encoders, ../../encoders)
    and in `encoder_folders`. Raises RunError in one sentence when anything is missing, does not
    fit or holds a value that is not finite.
    """
    folder = Path(folder)
    config = read_config(folder)
    vocabularies = dict(_read_vocabularies(folder / VOCABULARY_FILE))
    places = encoder_places(folder, encoder_folders)
    encoders: dict[str, ModalityEncoder] = {}
    frozen = []
    for name, modality in config.modalities.items():
        entry = modality.encoder
        if entry.weights is not None:
            stored = load_encoder(entry.weights, places)
            encoders[name] = stored.encoder
            if stored.vocabulary is not None:
                vocabularies[name] = stored.vocabulary
        else:
            encoders[name] = _build(folder, name, entry)
        if entry.frozen:
            frozen.append(name)
        if modality.kind is Kind.EVENTS and name not in vocabularies:
            raise RunError(
                f"{folder / VOCABULARY_FILE}: no vocabulary for '{name}'; restore the file."
            )
    model = _assemble(folder, config, encoders, frozen)
    apart = tuple(n for n, m in config.modalities.items() if m.encoder.weights is not None)
    state = _read_weights(folder / WEIGHTS_FILE)
    _load_strictly(model, state, apart, folder / WEIGHTS_FILE)
    model.requires_grad_(False)
    model.eval()
    return Run(folder, config, model, vocabularies, run_hash(folder))


def _check_numbers(
    path: Path, what: str, build: Callable[[], nn.Module], weights_bytes: int
) -> None:
    """Raise RunError where a part would have far more numbers than there are bytes of weights."""
    try:
        with torch.device("meta"):
            state = build().state_dict()
    except Exception:  # whatever is wrong, building it in earnest says it
        return
    numbers = sum(tensor.numel() for tensor in state.values())
    if numbers > max(LARGEST, 2 * weights_bytes):
        raise RunError(
            f"{path}: {what} asks for {numbers:,} numbers and {weights_bytes:,} bytes of weights "
            "are there; restore the file or train the run again."
        )


def _weights_bytes(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _assemble(
    folder: Path, config: RunConfig, encoders: dict[str, ModalityEncoder], frozen: list[str]
) -> FusionModel:
    path = folder / CONFIG_FILE
    try:
        strategy_class = STRATEGIES.get(config.strategy.name)
        make = partial(
            strategy_class,
            stream_widths(encoders),
            config.task.outputs,
            strategy_class.Config.model_validate(config.strategy.config),
        )
        _check_numbers(path, "the strategy", make, _weights_bytes(folder / WEIGHTS_FILE))
        strategy = make()
    except RunError:
        raise
    except (KeyError, ValueError, TypeError, ArithmeticError, RuntimeError) as error:
        raise RunError(f"{path}: strategy: {_first_line(error)}") from error
    return FusionModel(encoders, strategy, frozen)


def _build(folder: Path, name: str, entry: EncoderEntry) -> ModalityEncoder:
    _check_numbers(
        folder / CONFIG_FILE,
        f"the encoder of '{name}'",
        partial(build_encoder, entry.name, entry.config),
        _weights_bytes(folder / WEIGHTS_FILE),
    )
    try:
        return build_encoder(entry.name, entry.config)
    except (KeyError, ValueError, TypeError, ArithmeticError, RuntimeError) as error:
        raise RunError(f"{folder / CONFIG_FILE}: encoder: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"field '{'.'.join(map(str, first['loc']))}': {first['msg']}."
    text = str(error.args[0]) if error.args else ""
    return text.splitlines()[0] if text else type(error).__name__


def _read_json(path: Path, remedy: str) -> Any:
    if not path.is_file():
        raise RunError(f"{path}: there is no such file; {remedy}.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: not readable as JSON ({error}); restore the file.") from error


def _read_vocabularies(path: Path) -> Mapping[str, Vocabulary]:
    if not path.is_file():
        return {}
    content = _read_json(path, "restore the file")
    try:
        return {str(name): Vocabulary.from_json(json.dumps(part)) for name, part in content.items()}
    except (ValueError, AttributeError) as error:
        raise RunError(f"{path}: {error}; restore the file.") from error


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise RunError(f"{path}: there is no such file; the run is incomplete, train it again.")
    try:
        state: dict[str, Tensor] = load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        raise RunError(
            f"{path}: not readable as safetensors ({_first_line(error)}); restore the file."
        ) from error
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise RunError(f"{path}: '{name}' holds values that are not finite; train it again.")
    return state


def _load_strictly(
    module: nn.Module, state: Mapping[str, Tensor], apart: Iterable[str], path: Path
) -> None:
    """Load all of `state`, and all of the module but encoders stored apart."""
    own = module.state_dict()
    skipped = tuple(f"encoders.{name}." for name in apart)
    expected = {name for name in own if not name.startswith(skipped)} if skipped else set(own)
    missing = sorted(expected - set(state))
    unexpected = sorted(set(state) - expected)
    if missing or unexpected:
        what = f"lacks '{missing[0]}'" if missing else f"holds an unexpected '{unexpected[0]}'"
        count = len(missing) + len(unexpected)
        raise RunError(
            f"{path}: {what} ({count} such tensors); the weights do not belong to this config."
        )
    for name in sorted(expected):
        if own[name].shape != state[name].shape:
            raise RunError(
                f"{path}: '{name}' has shape {tuple(state[name].shape)}, the config asks for "
                f"{tuple(own[name].shape)}; the weights do not belong to this config."
            )
    module.load_state_dict(state, strict=False)


# ---------------------------------------------------------------- frozen encoders


@dataclass(frozen=True)
class StoredEncoder:
    """A frozen encoder from a store."""

    hash: str
    name: str
    encoder: ModalityEncoder
    vocabulary: Vocabulary | None
    provenance: Mapping[str, Any]


def encoder_places(folder: Path, more: Sequence[Path] = ()) -> list[Path]:
    """Where the frozen encoders of a run are looked for, nearest first."""
    folder = Path(folder).resolve()
    near = [folder / "encoders", folder.parent / "encoders", folder.parent.parent / "encoders"]
    return [*near, *map(Path, more)]


def save_encoder(
    encoder: ModalityEncoder,
    store: Path,
    *,
    vocabulary: Vocabulary | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> str:
    """Store a frozen encoder under its hash, once; returns the hash."""
    state = {name: tensor.contiguous() for name, tensor in encoder.state_dict().items()}
    name = weights_hash(state)
    folder = store / name
    if (folder / ENCODER_WEIGHTS).is_file():
        return name
    partial = store / f".{name}.partial"
    partial.mkdir(parents=True, exist_ok=True)
    save_file(state, partial / ENCODER_WEIGHTS)
    content = {
        "schema_version": 1,
        "name": ENCODERS.name_of(type(encoder)),
        "config": encoder.config.model_dump(mode="json"),
        "provenance": dict(provenance or {}),
    }
    (partial / ENCODER_CONFIG).write_text(json.dumps(content, indent=2), encoding="utf-8")
    if vocabulary is not None:
        vocabulary.save(partial / VOCABULARY_FILE)
    partial.rename(folder)
    return name


def load_encoder(name: str, places: Sequence[Path]) -> StoredEncoder:
    """The frozen encoder of that hash from the first place that has it. Raises RunError."""
    for place in places:
        folder = Path(place) / name
        if not (folder / ENCODER_CONFIG).is_file():
            continue
        content = _read_json(folder / ENCODER_CONFIG, "restore the file")
        try:
            make = partial(build_encoder, content["name"], content["config"])
            there = _weights_bytes(folder / ENCODER_WEIGHTS)
            _check_numbers(folder / ENCODER_CONFIG, "the encoder", make, there)
            encoder = make()
            provenance = content.get("provenance", {})
        except RunError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise RunError(
                f"{folder / ENCODER_CONFIG}: describes no encoder ({_first_line(error)}); restore "
                "the file."
            ) from error
        state = _read_weights(folder / ENCODER_WEIGHTS)
        _load_strictly(encoder, state, (), folder / ENCODER_WEIGHTS)
        if weights_hash(state) != name:
            raise RunError(
                f"{folder / ENCODER_WEIGHTS}: the weights do not have the hash in the folder's "
                "name; restore the file."
            )
        path = folder / VOCABULARY_FILE
        try:
            vocabulary = Vocabulary.load(path) if path.is_file() else None
        except ValueError as error:
            raise RunError(f"{path}: {error}; restore the file.") from error
        encoder.requires_grad_(False)
        encoder.eval()
        return StoredEncoder(name, content["name"], encoder, vocabulary, provenance)
    looked = ", ".join(str(place) for place in places)
    raise RunError(
        f"the frozen encoder {name} is in none of {looked}; copy its folder into one of them."
    )


# ---------------------------------------------------------------- writing


def write_model(
    folder: Path, config: RunConfig, model: FusionModel, vocabularies: Mapping[str, Vocabulary]
) -> None:
    """Write config, weights and vocabularies into a folder (made by the caller, temporary)."""
    apart = tuple(
        f"encoders.{name}."
        for name, modality in config.modalities.items()
        if modality.encoder.weights is not None
    )
    state = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
        if not apart or not name.startswith(apart)
    }
    save_file(state, folder / WEIGHTS_FILE)
    own = {
        name: json.loads(vocabulary.to_json())
        for name, vocabulary in vocabularies.items()
        if config.modalities[name].encoder.weights is None
    }
    if own:
        (folder / VOCABULARY_FILE).write_text(json.dumps(own, ensure_ascii=False), encoding="utf-8")
    (folder / CONFIG_FILE).write_text(config.model_dump_json(indent=2), encoding="utf-8")
