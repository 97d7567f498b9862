"""Runs cases in a process of their own, with bounds on time and memory, and judges them.

Workers are forked off a server that has imported everything once. One that dies or hangs is
replaced, and the case is to blame.
"""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import io
import multiprocessing
import os
import re
import resource
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.fuzz.cases import Case, damaged, written
from tests.fuzz.readers import OUT, READERS

MOST_SECONDS: float = 10
"""Of computing, as other work may share the processor; of waiting without any, MOST_WAITING."""
MOST_WAITING = 60
_MOST_MAKING = 40
MOST_BYTES = 1 << 30
_RESERVE = 4 << 30
"""Address space beyond which an allocation fails, so that a case cannot take the machine along."""
MOST_LETTERS = 950
"""Of a sentence, without the paths in it."""
_PASSES = 1
_ENDS = (".", ")", "…", "!", "?")


@dataclass(frozen=True)
class Outcome:
    """What became of a case. wrong: why it fails, empty where it passes. said: the refusal."""

    case: Case
    done: tuple[str, ...]
    wrong: str
    said: str
    seconds: float
    grown: int

    def __str__(self) -> str:
        steps = "; ".join(self.done)
        return (
            f"{self.case.reader} case {self.case.number} ({steps}): {self.wrong}\n"
            f"    python -m tests.fuzz.replay '{self.case.reader}' {self.case.number}"
        )


def unlike_a_sentence(text: str) -> str:
    """What keeps a message from being one clear sentence; empty where nothing does."""
    if not text.strip():
        return "the message is empty"
    if "\n" in text or "\r" in text:
        return "the message has several lines"
    if not all(c.isprintable() for c in text):
        return "the message is not printable"
    if len(re.sub(r"/\S+", "", text)) > MOST_LETTERS:
        return f"the message has {len(text)} letters"
    if "Traceback" in text or 'File "' in text:
        return "the message holds a traceback"
    if not text.endswith(_ENDS):
        return "the message is no whole sentence"
    return ""


# ---------------------------------------------------------------- in the worker


def judge(case: Case) -> Outcome:
    """Run one case here, in this process; bounds on time are the caller's."""
    files, done = damaged(case)
    home = Path(tempfile.mkdtemp(prefix="fuzz-"))
    folder = home / "a"
    folder.mkdir()
    written(files, folder)
    os.chdir(home)
    before = _seen(home)
    _forget_peak()
    start, held = time.process_time(), _status("VmRSS")
    made, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (ceil(start + MOST_SECONDS) + 1, hard))
    wrong, said, refused = _tried(case, folder)
    resource.setrlimit(resource.RLIMIT_CPU, (made, hard))
    seconds, grown = time.process_time() - start, _status("VmHWM") - held
    os.chdir("/")
    if not wrong:
        wrong = _left(home, before, refused, READERS[case.reader].mends)
    if not wrong and grown > MOST_BYTES:
        wrong = f"held {grown / 2**30:.1f} GB"
    if not wrong and seconds > MOST_SECONDS:
        wrong = f"took {seconds:.0f} s"
    shutil.rmtree(home)
    return Outcome(case, tuple(done), wrong, said, seconds, grown)


def _tried(case: Case, folder: Path) -> tuple[str, str, bool]:
    """Why the case fails, the refusal, and whether there was one."""
    reader = READERS[case.reader]
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            reader.read(folder)
    except reader.refuses as error:
        said = str(error)
        if any(isinstance(cause, MemoryError) for cause in _causes(error)):
            return f"asked for {_RESERVE >> 30} GB: {said[:200]}", said, True
        return unlike_a_sentence(said) and f"{unlike_a_sentence(said)}: {said[:300]!r}", said, True
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        own = [f for f in traceback.extract_tb(error.__traceback__) if _is_ours(f.filename)]
        place = own[-1] if own else where
        told = f"{type(error).__name__}: {str(error)[:200]!r}"
        at = f"{Path(place.filename).name}:{place.lineno}"
        return f"{told} at {at} ({Path(where.filename).name}:{where.lineno})", "", True
    return "", "", False


def _is_ours(name: str) -> bool:
    return (
        any(f"/{part}/" in name for part in ("analysis", "models")) and "site-packages" not in name
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _seen(home: Path) -> dict[str, str]:
    """{path: what it holds} of everything below a folder."""
    found = {}
    for path in sorted(home.rglob("*")):
        held = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        found[path.relative_to(home).as_posix()] = held
    return found


def _left(home: Path, before: dict[str, str], refused: bool, mends: bool) -> str:
    after = _seen(home)
    fresh = [
        name
        for name in after
        if before.get(name) != after[name]
        and (refused or not (name == f"a/{OUT}" or name.startswith(f"a/{OUT}/")))
    ]
    if fresh:
        return f"left {fresh[0]} behind"
    gone = [name for name in before if name not in after]
    return f"removed {gone[0]}" if gone and not mends else ""


def _status(field: str) -> int:
    text = Path("/proc/self/status").read_text()
    found = re.search(rf"{field}:\s+(\d+) kB", text)
    return int(found[1]) << 10 if found else 0


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def serve(line: Connection) -> None:
    """A worker: takes cases and gives outcomes until the line is closed."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import pyarrow as pa
    import torch

    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    warnings.simplefilter("ignore")
    faulthandler.disable()
    # What libraries print below Python is not for the report.
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            case: Case = line.recv()
        except EOFError:
            return
        limit = ceil(time.process_time()) + _MOST_MAKING
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        resource.setrlimit(resource.RLIMIT_DATA, (_status("VmData") + _RESERVE, hard))
        try:
            line.send(judge(case))
        except BaseException as error:
            line.send(Outcome(case, (), f"the cage broke: {error!r}", "", 0.0, 0))


# ---------------------------------------------------------------- outside


def _computed(pid: int) -> str:
    """User and system time of a process, in ticks; empty where there is none."""
    try:
        return " ".join(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13])
    except OSError:
        return ""


class Cage:
    """One worker, replaced whenever a case has cost it. work: what it runs."""

    def __init__(self, work: Callable[[Connection], None] = serve) -> None:
        self.work = work
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["tests.fuzz.cage"])
        self.process: Any = None
        self.line: Any = None

    def __enter__(self) -> Cage:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _begin(self) -> None:
        self.line, other = self.context.Pipe()
        self.process = self.context.Process(target=self.work, args=(other,), daemon=True)
        self.process.start()
        other.close()

    def _end(self) -> None:
        if self.process is not None:
            self.line.close()
            self.process.kill()
            self.process.join()
            self.process = None

    def outcome(self, case: Case) -> Outcome:
        """Run a case; a worker that hangs or dies is a failure of the case."""
        if self.process is None:
            self._begin()
        self.line.send(case)
        if not self._answers():
            self._end()
            return self._lost(case, f"hung for more than {MOST_WAITING} s")
        try:
            found: Outcome = self.line.recv()
        except (EOFError, ConnectionError):
            self.process.join(5)
            code = self.process.exitcode
            self._end()
            if code == -signal.SIGXCPU:
                return self._lost(case, f"computed for more than {MOST_SECONDS} s")
            return self._lost(case, f"its process died (exit code {code})")
        return found

    def _answers(self) -> bool:
        """Whether an answer comes, or the end; not where nothing is computed for too long.

        A worker that computes without end is ended by its own limit.
        """
        idle, used = 0, ""
        while not self.line.poll(5):
            now = _computed(self.process.pid)
            idle, used = (idle + 5, used) if now == used else (0, now)
            if idle >= MOST_WAITING:
                return False
        return True

    def _lost(self, case: Case, wrong: str) -> Outcome:
        return Outcome(case, ("see the replay",), wrong, "", float(MOST_SECONDS), 0)


def outcomes(cases: Sequence[Case]) -> Iterator[Outcome]:
    """What becomes of each case, one after the other."""
    with Cage() as cage:
        for case in cases:
            yield cage.outcome(case)
