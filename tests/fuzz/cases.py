"""A case: a reader's name and a number, from which the damaged files follow."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from tests.fuzz.mutate import BLIND, Mutation, name_of
from tests.fuzz.readers import READERS, STRUCTURED

Files = dict[str, bytes]
_TRIES = 20
_LARGE = 256 << 10


@dataclass(frozen=True)
class Case:
    """reader: out of READERS. number: draws everything else."""

    reader: str
    number: int

    def __str__(self) -> str:
        return f"{self.reader} {self.number}"


@cache
def sound(reader: str, at: int) -> Files:
    """{path: bytes} of one of a reader's sound folders."""
    folder = Path(tempfile.mkdtemp(prefix="sound-"))
    try:
        READERS[reader].seeds[at](folder)
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
    finally:
        shutil.rmtree(folder)


def damaged(case: Case) -> tuple[Files, list[str]]:
    """The files of a case, and what was done to them, in order."""
    rng = Random(f"{case.reader}/{case.number}")
    at = rng.randrange(len(READERS[case.reader].seeds))
    files = dict(sound(case.reader, at))
    told = [READERS[case.reader].seeds[at].__name__]
    if rng.random() < 0.04:
        told.append(_whole(rng, files))
        return files, told
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        name = rng.choice(sorted(files))
        other = files[rng.choice(sorted(files))]
        if len(files[name]) > _LARGE:
            break  # a bomb; to work on it the generator would have to unpack it
        for _ in range(_TRIES):
            mutation = _drawn(rng, name)
            try:
                made = mutation(rng, files[name], other)
            except Exception:  # the file is no longer what the mutation knows how to lie in
                continue
            if made != files[name]:
                files[name] = made
                told.append(f"{name}: {name_of(mutation)}")
                break
    return files, told


def _drawn(rng: Random, name: str) -> Mutation:
    known = [mutations for end, mutations in STRUCTURED.items() if name.endswith(end)]
    return rng.choice(known[-1] if known and rng.random() < 0.65 else BLIND)


def _whole(rng: Random, files: Files) -> str:
    """A file that is not there, or a folder in its place, or two files swapped."""
    name, other = rng.choice(sorted(files)), rng.choice(sorted(files))
    how = rng.randrange(3)
    if how == 0:
        del files[name]
        return f"{name}: taken away"
    if how == 1:
        files[f"{name}/inside"] = files.pop(name)
        return f"{name}: a folder in its place"
    files[name], files[other] = files[other], files[name]
    return f"{name} and {other}: swapped"


def written(files: Files, folder: Path) -> None:
    """Write the files of a case into an empty folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def drawn(total: int, first: int = 0) -> list[Case]:
    """About `total` cases over all readers, by their shares; every reader has some."""
    shares = sum(reader.share for reader in READERS.values())
    return [
        Case(name, first + number)
        for name, reader in READERS.items()
        for number in range(max(1, round(total * reader.share / shares)))
    ]
