"""Rename rules found in names and shapes: those that were applied backwards come out again."""

from __future__ import annotations

import torch

from models.importing.names import Rename, compare
from models.importing.suggest import suggest_rules

MODEL = {
    "encoders.ct.conv.weight": torch.empty(4, 3),
    "encoders.ct.conv.bias": torch.empty(4),
    "encoders.ehr.code.weight": torch.empty(9, 5),
    "strategy.gate.weight": torch.empty(1, 5),
    "strategy.gate.bias": torch.empty(1),
}


def suggested(found, rules=()):
    return suggest_rules(MODEL, found, rules, compare(MODEL, found, rules))


def renamed(**prefixes: str) -> dict[str, torch.Tensor]:
    found = {}
    for name, tensor in MODEL.items():
        for have, to in prefixes.items():
            have = have.replace("__", ".") + "."
            if name.startswith(have):
                name = to + name.removeprefix(have)
        found[name] = tensor
    return found


def test_prefixes_come_out_again_with_what_they_bring():
    found = renamed(encoders__ct="image_net.", encoders__ehr="codes.net.", strategy="head.")
    rules = suggested(found)
    assert {(r.pattern, r.to, n) for r, n in rules} == {
        ("image_net.", "encoders.ct.", 2),
        ("codes.net.", "encoders.ehr.", 1),
        ("head.", "strategy.", 2),
    }
    report = compare(MODEL, found, [rule for rule, _ in rules])
    assert report.counts == {"renamed": 5}


def test_they_go_on_from_the_rules_there_are():
    found = renamed(encoders="towers.", strategy="head.")
    given = [Rename("towers.", "encoders.")]
    assert [(str(r), n) for r, n in suggested(found, given)] == [("head. → strategy.", 2)]


def test_a_like_name_of_another_shape_is_no_partner():
    found = {n.replace("strategy", "head"): t for n, t in MODEL.items()}
    found["head.gate.weight"], found["head.gate.bias"] = torch.empty(2, 5), torch.empty(2)
    assert suggested(found) == []


def test_nothing_is_taken_from_what_fits():
    """`head.` also begins names that nobody wants, and two tensors never get one name."""
    found = {**renamed(strategy="head."), "strategy.gate.bias": torch.empty(1)}
    assert suggested(found) == []
    assert suggested(MODEL) == []
