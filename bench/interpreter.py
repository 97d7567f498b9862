"""What a network costs while other threads of the app draw pages, by Python's switch interval.

    python bench/interpreter.py WORKSPACE [--run pe-cross-attention-clmbr] [--threads 3]

One exchange of every modality of a run between the internal test patients, alone and beside
threads that do nothing but Python, as scripts of pages do; at Python's own interval and at the
app's.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from pathlib import Path

from analysis.imbalance.shuffle import exchanged_predictions
from analysis.predict import predict_stored, run_inputs
from app.turns import SWITCH_SECONDS
from app.workspace import Workspace

DEFAULT_SECONDS = 0.005


def drawing(stop: threading.Event) -> None:
    """As long as it is not stopped, what a script does: small objects of Python."""
    made: dict[int, str] = {}
    while not stop.is_set():
        for number in range(200):
            made[number] = str(number) * 3


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--run", default="pe-cross-attention-clmbr")
    parser.add_argument("--threads", type=int, default=3)
    arguments = parser.parse_args()
    workspace = Workspace(arguments.workspace)
    run = workspace.run(arguments.run)
    cohort = workspace.cohort(run.config.cohort.name.removesuffix("_simulated"))
    whole = predict_stored(run, cohort, "internal", workspace.store)
    inputs = run_inputs(run, cohort, whole.subject_ids)

    def seconds(threads: int, interval: float) -> float:
        sys.setswitchinterval(interval)
        stop = threading.Event()
        others = [threading.Thread(target=drawing, args=(stop,)) for _ in range(threads)]
        for other in others:
            other.start()
        begun = time.perf_counter()
        try:
            exchanged_predictions(run, inputs, whole.values, 1, 0)
            return time.perf_counter() - begun
        finally:
            stop.set()
            for other in others:
                other.join()

    seconds(0, DEFAULT_SECONDS)
    alone = seconds(0, DEFAULT_SECONDS)
    print("| other threads | switch interval (ms) | seconds | of alone |\n|---|---|---|---|")
    print(f"| none | {1000 * DEFAULT_SECONDS:g} | {alone:.2f} | 1 |")
    for interval in (DEFAULT_SECONDS, SWITCH_SECONDS):
        found = seconds(arguments.threads, interval)
        row = f"{arguments.threads} | {1000 * interval:g} | {found:.2f} | {found / alone:.1f}"
        print(f"| {row} |")


if __name__ == "__main__":
    main()
