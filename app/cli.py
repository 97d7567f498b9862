"""The `fusionlens` command. Everything the app shows can be had from here as a file.

A bad input ends with one sentence and exit code 2; nothing is half-written. Heavy imports are
made inside the commands, so that `fusionlens --help` answers at once.
"""

from __future__ import annotations

from app.commands import (
    assess,
    benchmark,
    checkpoints,
    cohorts,
    imbalance,
    import_cohort,
    import_imaging,
    missing,
    patient,
    report,
    representation,
    runs,
    scores,
    serve,
)
from app.commands.base import cli

__all__ = [
    "assess",
    "benchmark",
    "checkpoints",
    "cli",
    "cohorts",
    "imbalance",
    "import_cohort",
    "import_imaging",
    "main",
    "missing",
    "patient",
    "report",
    "representation",
    "runs",
    "scores",
    "serve",
]


def main() -> None:
    """Entry point of the console script."""
    cli()


if __name__ == "__main__":
    main()
