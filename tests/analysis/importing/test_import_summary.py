"""What a comparison says as plain values, and which missing tensors may be allowed together."""

from __future__ import annotations

import fnmatch

from analysis.importing.summary import misfits, missing_patterns, report_of
from models.importing.names import KeyReport, Line


def missing(*names: str) -> KeyReport:
    return KeyReport(tuple(Line("missing", name, "", "(2,)") for name in names))


def test_patterns_name_a_module_and_nothing_beside_it():
    report = missing("strategy.a.weight", "strategy.a.bias", "strategy.b.weight", "strategy.gain")
    found = missing_patterns(report)
    assert found == {"strategy.a.*": 2, "strategy.b.weight": 1, "strategy.gain": 1}
    assert misfits(report, list(found)) == []
    assert misfits(report, ["strategy.gain"]) == [
        "3 tensors are missing (strategy.a.weight, strategy.a.bias, strategy.b.weight)"
    ]


def test_many_modules_are_named_by_what_they_lie_in():
    names = [f"encoders.ct.layer{i}.{part}" for i in range(20) for part in ("weight", "bias")]
    found = missing_patterns(missing(*names, "strategy.gate.weight"))
    assert found == {"encoders.ct.*": 40, "strategy.gate.weight": 1}
    for name in names:
        assert sum(fnmatch.fnmatchcase(name, pattern) for pattern in found) == 1


def test_nothing_missing_has_no_pattern():
    assert missing_patterns(KeyReport((Line("matched", "a.b", "a.b"),))) == {}


def test_a_report_comes_back_from_json():
    told = {"tensors": [{"state": "shape differs", "name": "a", "source": "x.a", "why": "w"}]}
    report = report_of(told)
    assert report.counts == {"shape differs": 1}
    assert misfits(report) == ["1 tensor has another shape (a: w)"]
