"""How fast a cohort is precomputed, beside explaining its patients one by one.

    python bench/precompute.py WORKSPACE [--cohort pe] [--run pe-late-onehot] [--patients 24]

The peer is what there was before: the very functions of `fusionlens explain`, patient by patient in
one process, imports not counted. Every row computes into an empty store; rows take turns.
Linearity: seconds a patient at n, 2n and 4n patients, one process, and its peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PEER_ROW = "explain, patient by patient"
PEER = """
import json, sys, time
from pathlib import Path
from app.commands.base import start_engine
start_engine()
import torch
torch.set_num_threads(1)
from analysis.attribution.case import open_case
from analysis.cohort.cohort import Cohort
from analysis.explain import explain, explanation_json, find_trust
from analysis.precompute.work import first_target
from analysis.store import ResultStore
from app.commands.patient import _outlook, _own
from models.checkpoint import load_run
run, cohort, store, n, places = sys.argv[1:6]
begun = busy = None
for patient in Cohort.open(cohort).subject_ids("internal")[: int(n)].tolist():
    begun, busy = begun or time.perf_counter(), busy or time.process_time()
    # As the command does it: everything is opened for each patient.
    loaded, opened = load_run(Path(run), [Path(places)]), Cohort.open(cohort)
    kept = ResultStore(store)
    trained = _own(loaded, opened)
    case = open_case(loaded, opened, patient)
    shown = _outlook(case, trained, kept, None)
    trust = find_trust(loaded, [opened, trained], kept)
    found = explain(case, first_target(loaded), kept, trust=trust)
    explanation_json(case, first_target(loaded), found, shown, trust)
told = {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - busy}
print(json.dumps(told))
"""


def peer(home: Path, cohort: str, run: str, n: int) -> dict[str, float]:
    """Seconds, and processor seconds, of explaining n patients one by one."""
    with tempfile.TemporaryDirectory() as store:
        given = [home / "runs" / run, home / "cohorts" / cohort, store, n, home / "encoders"]
        return _answer([sys.executable, "-c", PEER, *map(str, given)])


def ours(home: Path, cohort: str, run: str, n: int, *more: str) -> dict[str, Any]:
    """The answer of `fusionlens precompute` of the same explanations."""
    with tempfile.TemporaryDirectory() as store:
        command = [sys.executable, "-m", "app.cli", "precompute", str(home / "runs" / run)]
        command += ["--cohort", str(home / "cohorts" / cohort), "--split", "internal"]
        command += ["--patients", str(n), "--what", "parts,maps", "--results", store, "--json"]
        begun = time.perf_counter()
        found = _answer([*command, *more])
        return {**found, "wall": time.perf_counter() - begun}


def _answer(command: list[str]) -> dict[str, Any]:
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise RuntimeError(made.stderr)
    return json.loads(made.stdout)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--cohort", default="pe")
    parser.add_argument("--run", default="pe-late-onehot")
    parser.add_argument("--patients", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--linear", type=int, default=12, help="n of the second table")
    arguments = parser.parse_args()
    home, n = arguments.workspace, arguments.patients
    given = (home, arguments.cohort, arguments.run)
    rates: dict[str, list[tuple[float, float]]] = {}
    for _ in range(arguments.rounds):
        told = peer(*given, n)
        rates.setdefault(PEER_ROW, []).append((n / told["seconds"], told["cpu"] / n))
        for jobs in arguments.processes:
            found = ours(*given, n, "--jobs", str(jobs))
            rate = n / found["seconds"]["Explaining patients"]
            row = rates.setdefault(f"precompute, {jobs} processes", [])
            row.append((rate, found["cpu_seconds_a_patient"]))
    best, least = max(r for r, _ in rates[PEER_ROW]), min(c for _, c in rates[PEER_ROW])
    print(f"{arguments.run}, {n} patients; load average {os.getloadavg()[0]:.1f}\n")
    print("| how | patients a second | of the peer | CPU s a patient | of the peer |")
    print("|---|---|---|---|---|")
    for name, pairs in rates.items():
        rate, cpu = max(r for r, _ in pairs), min(c for _, c in pairs)
        print(f"| {name} | {rate:.2f} | {rate / best:.2f} | {cpu:.3f} | {cpu / least:.2f} |")
    print("\n| patients | CPU s a patient | seconds a patient | peak MiB |\n|---|---|---|---|")
    for size in (arguments.linear, 2 * arguments.linear, 4 * arguments.linear):
        found = ours(*given, size)
        each = found["seconds"]["Explaining patients"] / size
        peak = found["peak_memory_mib"]["largest_worker"]
        cpu = found["cpu_seconds_a_patient"]
        print(f"| {size} | {cpu:.3f} | {each:.3f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
