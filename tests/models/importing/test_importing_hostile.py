"""Nothing runs, nothing is written, memory stays bounded; a refusal is one sentence."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import torch

from models.importing.pickles import CheckpointError
from models.importing.source import open_checkpoint
from tests.models.importing.formats import FORMATS
from tests.models.importing.hostile import (
    COMMANDS,
    LIES,
    STATE,
    Command,
    Evaluated,
    Opened,
    Popen,
    unfolding,
    zip_of,
)

MOST_MEMORY = 600 << 20
MOST_SECONDS = 10


def read_all(path: Path) -> dict[str, torch.Tensor]:
    checkpoint = open_checkpoint(path)
    return {name: checkpoint.read(name) for name in checkpoint.entries}


def highest_memory() -> int:
    """The most this process has held since the mark was last put down, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10


def refusal(path: Path) -> str:
    """The sentence with which a file is refused."""
    before = {p: p.stat().st_mtime_ns for p in path.parent.rglob("*")}
    with pytest.raises(CheckpointError) as caught:
        read_all(path)
    said = str(caught.value)
    assert {p: p.stat().st_mtime_ns for p in path.parent.rglob("*")} == before
    assert "\n" not in said
    assert said.startswith(str(path))
    assert said.rstrip().endswith(".")
    assert len(said) < 400 + len(str(path))
    return said


@pytest.mark.parametrize("place", COMMANDS)
def test_a_command_is_found_wherever_it_hides(place, tmp_path):
    canary = tmp_path / "canary"
    (tmp_path / "in").mkdir()
    said = refusal(COMMANDS[place](tmp_path / "in", Command(canary)))
    assert not canary.exists()
    if place != "named safetensors":
        assert "system' to be run" in said


@pytest.mark.parametrize("kind", [Evaluated, Opened, Popen])
@pytest.mark.parametrize("place", ["zip, beside weights", "legacy", "hyperparameters", "metadata"])
def test_other_ways_of_running_are_found(kind, place, tmp_path):
    canary = tmp_path / "canary"
    (tmp_path / "in").mkdir()
    assert "to be run" in refusal(COMMANDS[place](tmp_path / "in", kind(canary)))
    assert not canary.exists()


def test_the_canary_would_appear(tmp_path):
    """The commands are live: torch runs them when it is told to trust the file."""
    path = COMMANDS["zip"](tmp_path, Command(tmp_path / "canary"))
    torch.load(path, weights_only=False)
    assert (tmp_path / "canary").exists()


def test_unknown_classes_are_never_imported(tmp_path, monkeypatch):
    """A class of the file's own choice is only a name, even where Python could import it."""
    (tmp_path / "evil_module.py").write_text(
        f"open({str(tmp_path / 'canary')!r}, 'w')\nclass Thing:\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    body = b"\x80\x02}X\x01\x00\x00\x00xcevil_module\nThing\n)\x81s."
    with pytest.raises(CheckpointError, match="holds no weights"):
        read_all(zip_of(tmp_path, {"data.pkl": body}))
    assert not (tmp_path / "canary").exists()


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the highest memory"
)
@pytest.mark.parametrize("lie", LIES)
def test_bombs_and_lies_are_refused_in_little_memory(lie, tmp_path):
    (tmp_path / "in").mkdir()
    path = LIES[lie](tmp_path / "in")
    # Linux forgets the highest memory so far, so that one case does not hide the next.
    Path("/proc/self/clear_refs").write_text("5")
    before, start = highest_memory(), time.process_time()
    refusal(path)
    assert time.process_time() - start < MOST_SECONDS
    assert highest_memory() - before < MOST_MEMORY


def test_settings_that_unfold_without_end_are_cut_short(tmp_path):
    start = time.process_time()
    checkpoint = open_checkpoint(unfolding(tmp_path))
    assert time.process_time() - start < 2
    assert len(str(checkpoint.settings)) < 100_000
    assert torch.equal(checkpoint.read("model.weight"), STATE["weight"])


@pytest.mark.parametrize(
    "form", ["zip", "legacy", "safetensors", "lightning", "distributed, two ranks", "bin shards"]
)
def test_a_file_cut_off_anywhere_is_refused(form, tmp_path):
    """At every hundredth of its length; what is cut off a folder is its largest file."""
    source = FORMATS[form](
        {k: v.repeat(20, 1) if v.dim() > 1 else v for k, v in STATE.items()}, tmp_path / "in"
    )
    files = [source] if source.is_file() else sorted(p for p in source.iterdir() if p.is_file())
    for file in files:
        whole = file.read_bytes()
        for percent in range(100):
            file.write_bytes(whole[: len(whole) * percent // 100])
            refusal(source)
        file.write_bytes(whole)
    assert len(read_all(source)) == len(STATE)


@pytest.mark.parametrize("form", ["zip", "legacy", "distributed, two ranks"])
def test_a_byte_turned_over_never_runs_nor_hangs(form, tmp_path):
    """300 files with a few bytes changed: read as they are or refused in a sentence."""
    source = FORMATS[form](STATE, tmp_path / "in")
    file = source if source.is_file() else source / ".metadata"
    whole = file.read_bytes()
    generator = torch.Generator().manual_seed(0)
    refused = []
    for _ in range(300):
        changed = bytearray(whole)
        for _ in range(3):
            at = int(torch.randint(len(whole), (1,), generator=generator))
            changed[at] = int(torch.randint(256, (1,), generator=generator))
        file.write_bytes(bytes(changed))
        try:
            read_all(source)
        except CheckpointError as error:
            refused.append(str(error))
    assert len(refused) > 30
    assert not any("\n" in said for said in refused)
