"""The command tells all that the guards find, as lines and as JSON."""

from __future__ import annotations

import json

import numpy as np
from typer.testing import CliRunner

from app.cli import cli


def test_check_tells_lines_and_json(toy) -> None:
    toy.outcomes["time_days"] /= 365.25
    toy.labs["row"] = np.arange(80.0)
    toy.columns["row"] = toy.columns["urea"]
    problems = toy.problems()
    assert [p.severity for p in problems] == ["error", "warning"]
    lines = CliRunner().invoke(cli, ["check", str(toy.folder)])
    assert lines.exit_code == 2
    assert lines.stdout.splitlines() == [
        *map(str, problems),
        f"{toy.folder}: 1 errors, 1 warnings.",
    ]
    answer = json.loads(CliRunner().invoke(cli, ["check", str(toy.folder), "--json"]).stdout)
    assert answer["ok"] is False
    assert [p["what"] for p in answer["problems"]] == [p.what for p in problems]
    assert {"file", "where", "what", "remedy", "severity"} == set(answer["problems"][0])
