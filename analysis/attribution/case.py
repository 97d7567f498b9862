"""One patient as one run sees them: what every explanation starts from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from analysis.attribution.target import Target
from analysis.cohort.cohort import Cohort
from analysis.cohort.dataset import CohortDataset, Reading, VideoReading, VolumeReading
from analysis.cohort.readers.echo import Cine, Still, read_cine, read_still
from analysis.cohort.readers.signal import Signal, read_signal
from analysis.cohort.readers.volume import Volume, read_volume
from analysis.cohort.readings import reading_for
from analysis.cohort.schema import CohortError
from analysis.predict import run_inputs
from models.checkpoint import Run
from models.contracts import Encoded, FusionOutput, Kind, ModalityInput
from models.network import FusionModel


class AttributionError(ValueError):
    """An explanation cannot be given; the message says what, where and the remedy."""


class NothingToReadError(AttributionError):
    """A patient has none of the modalities that a run reads."""


@dataclass(frozen=True)
class Subject:
    """What is explained; travels with every result."""

    run: str
    run_hash: str
    cohort: str
    subject_id: int


class Case:
    """A patient of a cohort with a run: encoded once, so that an explanation of one modality
    re-runs only that encoder and the fusion.

    encoded: {modality: Encoded} batches of one. output: what the model says of them, with maps.
    changed: modalities whose input is not the one on file (see analysis/whatif.py). read:
    {modality: `digest_of` what was read}; of the encoding where that is not said.
    """

    def __init__(
        self,
        run: Run,
        cohort: Cohort,
        subject_id: int,
        encoded: Mapping[str, Encoded],
        read: Mapping[str, str] | None = None,
    ) -> None:
        self.run = run
        self.cohort = cohort
        self.subject_id = int(subject_id)
        self.encoded = dict(encoded)
        told = read or {}
        self.read = {n: told[n] if n in told else digest_of(e) for n, e in encoded.items()}
        self.changed: frozenset[str] = frozenset()
        self._raw: dict[str, ModalityInput] = {}
        self._scans: dict[str, Volume] = {}

    @property
    def model(self) -> FusionModel:
        """The run's model, in eval mode; shared with others and never changed."""
        return self.run.model

    @property
    def subject(self) -> Subject:
        """Names this case in results."""
        return Subject(
            self.run.config.name, self.run.hash, self.cohort.fingerprint, self.subject_id
        )

    @property
    def present(self) -> tuple[str, ...]:
        """The run's modalities that the patient has, in the run's order."""
        return tuple(n for n, e in self.encoded.items() if bool(e.present[0]))

    @cached_property
    def output(self) -> FusionOutput:
        """The fusion output of the patient (batch of one), with attention maps."""
        with torch.inference_mode():
            return self.model.fuse(self.encoded)

    @property
    def prediction(self) -> Tensor:
        """(1, K) log-risk or logits."""
        return self.output.prediction

    def value(self, target: Target) -> list[float]:
        """The T explained numbers for this patient."""
        return [float(x) for x in target(self.prediction)[0]]

    def with_inputs(self, encoded: Mapping[str, Encoded], raw: Mapping[str, ModalityInput]) -> Case:
        """The same patient with other encodings, and the inputs they were made from."""
        read = {n: self.read[n] for n, e in encoded.items() if same_encoding(e, self.encoded[n])}
        read |= {name: digest_of(item) for name, item in raw.items()}
        other = Case(self.run, self.cohort, self.subject_id, encoded, read)
        other._raw = {**self._raw, **raw}
        other._scans = self._scans
        other.changed = self.changed | frozenset(raw)
        return other

    def fuse(self, **changed: Encoded) -> FusionOutput:
        """The model's output with some modalities' encodings (batches of B) replaced.

        The other modalities are the patient's own, repeated B times.
        """
        rows = next((len(item) for item in changed.values()), 1)
        at = torch.zeros(rows, dtype=torch.long)
        whole = {
            name: changed[name] if name in changed else item.take(at)
            for name, item in self.encoded.items()
        }
        return self.model.fuse(whole)

    def kind(self, modality: str) -> Kind:
        """The kind of one of the run's modalities. Raises AttributionError for others."""
        known = self.run.config.modalities
        if modality not in known:
            raise AttributionError(
                f"run '{self.run.config.name}' does not read '{modality}'; it reads "
                f"{', '.join(known)}."
            )
        return known[modality].kind

    def reading(self, modality: str) -> Reading:
        """How the run's encoder wants the modality read."""
        self.kind(modality)
        return reading_for(self.model.encoder(modality), self.run.vocabularies.get(modality))

    def require(self, modality: str) -> None:
        """Raises AttributionError when the patient lacks the modality."""
        self.kind(modality)
        if modality not in self.present:
            raise AttributionError(
                f"patient {self.subject_id} of cohort '{self.cohort.spec.name}' has no "
                f"'{modality}', so there is nothing in it to explain; choose another modality."
            )

    def raw(self, modality: str) -> ModalityInput:
        """The input itself (batch of one), as the encoder reads it; read once.

        Raises AttributionError when the patient lacks it or only its features were kept.
        """
        self.require(modality)
        if modality not in self._raw:
            reading = self.reading(modality)
            if isinstance(reading, VolumeReading):
                volume = torch.from_numpy(self.scan(modality).array)[None, None]
                self._raw[modality] = ModalityInput(
                    Kind.VOLUME, {"volume": volume}, torch.ones(1, dtype=torch.bool)
                )
            else:
                try:
                    data = CohortDataset(self.cohort, [self.subject_id], {modality: reading})
                except CohortError as error:
                    raise AttributionError(str(error)) from error
                self._raw[modality] = data[0].inputs[modality]
        return self._raw[modality]

    def scan(self, modality: str, *, native: bool = False) -> Volume:
        """A volume on the encoder's grid, or (`native`) on its file's own spacing and extent.

        Its affine says where every voxel lies in the patient. Raises AttributionError when only
        features of the scan were kept.
        """
        self.require(modality)
        key = f"{modality}/{'native' if native else 'encoder'}"
        if key not in self._scans:
            path = self.cohort.volumes(modality).get(self.subject_id)
            if path is None:
                raise AttributionError(
                    f"patient {self.subject_id}: only the features of '{modality}' were kept, not "
                    "the scan, so there is no picture to explain; choose a patient whose scan is "
                    "a file (in the sample workspace: the internal and external test patients)."
                )
            reading = self.reading(modality)
            assert isinstance(reading, VolumeReading)
            grid = (None, None) if native else (reading.spacing_mm, reading.shape)
            self._scans[key] = read_volume(path, *grid)
        return self._scans[key]

    def tracing(self, modality: str) -> Signal:
        """A signal as it was recorded, unfiltered. Raises AttributionError without its file."""
        self.require(modality)
        path = self.cohort.signals(modality).get(self.subject_id)
        if path is None:
            raise AttributionError(self._only_features(modality, "recording"))
        return read_signal(path)

    def cines(self, modality: str) -> dict[str, Cine]:
        """{view: cine loop as recorded}, in the encoder's order; missing views are left out.

        Raises AttributionError where only features were kept.
        """
        self.require(modality)
        reading = self.reading(modality)
        assert isinstance(reading, VideoReading)
        paths = self.cohort.videos(modality).get(self.subject_id)
        if not paths:
            raise AttributionError(self._only_features(modality, "recordings"))
        return {view: read_cine(paths[view]) for view in reading.views if view in paths}

    def stills(self, modality: str) -> list[tuple[str | None, Still | CohortError]]:
        """View as the index states it (or None), and each still or strip that the model does not
        read; in its place what is wrong with a file that cannot be decoded.
        """
        self.require(modality)
        found: list[tuple[str | None, Still | CohortError]] = []
        for view, path in self.cohort.videos(modality).stills(self.subject_id):
            try:
                found.append((view, read_still(path)))
            except CohortError as error:
                found.append((view, error))
        return found

    @property
    def held_bytes(self) -> int:
        """What is kept in memory of the patient's scans, inputs and encodings."""
        tensors = [t for item in self._raw.values() for t in item.fields.values()]
        tensors += [t for e in self.encoded.values() for t in (e.tokens, e.pooled)]
        scans = sum(scan.array.nbytes for scan in self._scans.values())
        return scans + sum(t.numel() * t.element_size() for t in tensors)

    def _only_features(self, modality: str, what: str) -> str:
        return (
            f"patient {self.subject_id}: only the features of '{modality}' were kept, not the "
            f"{what}; choose a patient whose {what} is a file (in the sample workspace: the first "
            "internal test patients)."
        )

    def has_input(self, modality: str) -> bool:
        """Whether what the encoder reads is there, and not only what it once made of it."""
        if modality not in self.present:
            return False
        return modality in self._raw or self.subject_id in self.cohort.having(
            modality, [self.subject_id]
        )

    def has_scan(self, modality: str) -> bool:
        """Whether the patient's volume is there as a file."""
        return modality in self.present and self.subject_id in self.cohort.volumes(modality)


def open_case(run: Run, cohort: Cohort, subject_id: int) -> Case:
    """Read and encode one patient.

    Stored features are used where an encoder is frozen, so the prediction is the one that every
    other page shows. Raises AttributionError when the cohort has no such patient, or when the
    patient has none of the run's modalities; CohortError when files cannot be read.
    """
    if subject_id not in cohort.subjects.index:
        raise AttributionError(
            f"{cohort.folder}: there is no patient {subject_id}; choose one of subjects.parquet."
        )
    inputs = run_inputs(run, cohort, [subject_id])
    with torch.inference_mode():
        encoded = run.model.encode(inputs)
    # Out of inference mode: gradients are taken through these later.
    case = Case(
        run,
        cohort,
        subject_id,
        {n: _detached(e) for n, e in encoded.items()},
        {n: digest_of(item) for n, item in inputs.items()},
    )
    if not case.present:
        raise NothingToReadError(
            f"patient {subject_id} of cohort '{cohort.spec.name}' has none of the modalities that "
            f"run '{run.config.name}' reads ({', '.join(run.config.modalities)})."
        )
    return case


def digest_of(item: ModalityInput | Encoded) -> str:
    """32 hex digits over a modality as it was read, to the last bit.

    Over what is read and not over what a network makes of it: that differs in its last bits
    between processors and numbers of threads, and a result made elsewhere is to be found here.
    """
    digest = hashlib.sha256()
    fields = (
        item.fields
        if isinstance(item, ModalityInput)
        else {"tokens": item.tokens, "mask": item.mask, "pooled": item.pooled}
    )
    for name, tensor in sorted({**fields, "present": item.present}.items()):
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def same_encoding(one: Encoded, other: Encoded) -> bool:
    """Whether two encodings are equal to the last bit."""
    pairs = ((getattr(one, n), getattr(other, n)) for n in ("tokens", "mask", "pooled", "present"))
    return all(a is b or torch.equal(a, b) for a, b in pairs)


def _detached(encoded: Encoded) -> Encoded:
    rows = torch.arange(len(encoded))
    with torch.inference_mode(False):
        plain = Encoded(
            tokens=encoded.tokens.clone(),
            mask=encoded.mask.clone(),
            pooled=encoded.pooled.clone(),
            present=encoded.present.clone(),
            layout=encoded.layout,
        )
        return plain.take(rows)
