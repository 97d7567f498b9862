from __future__ import annotations

import pytest

from analysis.cohort.cohort import Cohort
from analysis.reporting.checklists import CLAIM, TRIPOD_AI, answered
from analysis.reporting.facts import facts
from models.checkpoint import read_config


def test_every_item_is_there_once() -> None:
    """TRIPOD+AI has 27 main items, CLAIM 2024 has 44."""
    main = {int(item.number.rstrip("abcdefg")) for item in TRIPOD_AI}
    assert main == set(range(1, 28))
    assert [int(item.number) for item in CLAIM] == list(range(1, 45))
    for items in (TRIPOD_AI, CLAIM):
        assert len({item.number for item in items}) == len(items)


def test_what_nobody_wrote_down_is_open() -> None:
    answers = {(a.item.guideline, a.item.number): a for a in answered({"missing": "Told so."})}
    assert answers["TRIPOD+AI", "11"].text == "Told so."
    assert answers["CLAIM", "12"].text == "Told so."
    assert sum(not a.open for a in answers.values()) == 2
    assert all(a.open for a in answered({}))
    with pytest.raises(ValueError, match="no item asks for misspelt"):
        answered({"misspelt": "lost"})


def test_facts_are_those_of_the_workspace(tiny_workspace) -> None:
    cohort = Cohort.open(tiny_workspace / "cohorts" / "pe")
    configs = [read_config(tiny_workspace / "runs" / n) for n in ("pe-late-onehot", "pe-ct")]
    told = facts(cohort, "mortality", configs, {"explanations": "measured", "flow": ""})
    ids = cohort.subject_ids("internal", "mortality")
    deaths = int(cohort.outcomes("mortality", ids).event.sum())
    assert f"internal test {len(ids)} ({deaths} events)" in told["partition"]
    assert "Simulated patients, not real people." in told["source"]
    assert "time in days to death from any cause" in told["outcome"]
    assert "ct_resnet (frozen)" in told["encoders"]
    assert told["explanations"] == "measured"
    assert "flow" not in told
    answered(told)  # every fact is asked for


def test_facts_of_a_class_task(tiny_workspace) -> None:
    cohort = Cohort.open(tiny_workspace / "cohorts" / "hnscc")
    configs = [read_config(tiny_workspace / "runs" / "hnscc-5y-haf")]
    told = facts(cohort, "death_5y", configs, {})
    assert told["output"] == "A probability of each class."
    assert "Pathology (table, 15 columns)" in told["predictors"]
    assert told["sites"].startswith("3 sites (training: A")
