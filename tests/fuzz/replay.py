"""Runs one case again, or a stretch of them: `python -m tests.fuzz.replay READER NUMBER [END]`.

With --here it runs in this process, for a debugger, and shows the traceback. With --keep FOLDER
the damaged files are only written there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.fuzz.cage import outcomes
from tests.fuzz.cases import Case, damaged, drawn, written
from tests.fuzz.readers import READERS


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """0 where all passes."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("reader", choices=[*READERS, "all"])
    asked.add_argument("number", type=int)
    asked.add_argument("end", type=int, nargs="?", help="run the numbers up to this one, too")
    asked.add_argument("--here", action="store_true")
    asked.add_argument("--keep", type=Path)
    told = asked.parse_args()
    if told.reader == "all":
        cases = drawn(told.number)
    else:
        last = told.end if told.end is not None else told.number + 1
        cases = [Case(told.reader, number) for number in range(told.number, last)]
    if told.keep is not None:
        files, done = damaged(cases[0])
        written(files, told.keep)
        say("; ".join(done))
        return 0
    if told.here:
        files, done = damaged(cases[0])
        folder = Path(tempfile.mkdtemp()) / "a"
        folder.mkdir()
        written(files, folder)
        say("; ".join(done))
        READERS[told.reader].read(folder)
        return 0
    return _report(cases)


def _report(cases: list[Case]) -> int:
    found = []
    wrong = 0
    for outcome in outcomes(cases):
        found.append(outcome)
        if outcome.wrong:
            wrong += 1
            say(str(outcome))
    refused = Counter(o.case.reader for o in found if o.said)
    for name in READERS:
        mine = [o for o in found if o.case.reader == name]
        if not mine:
            continue
        slowest, biggest = max(mine, key=lambda o: o.seconds), max(mine, key=lambda o: o.grown)
        say(
            f"{name}: {len(mine)} cases, {refused[name]} refused, "
            f"{sum(bool(o.wrong) for o in mine)} wrong; slowest {slowest.seconds:.2f} s "
            f"({slowest.case.number}), most memory {biggest.grown / 2**20:.0f} MB "
            f"({biggest.case.number})"
        )
    say(f"{len(found)} cases, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
