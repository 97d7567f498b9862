"""study.yaml: what is refused, in one sentence with a remedy, and what YAML must not change."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.cohort.importers.study import DAYS, read_study
from analysis.cohort.schema import CohortError, Split

HEAD = "name: mine\ntitle: Mine\n"
DEATH = "tasks:\n  death: {title: Death, time: days, event: dead, happened: [1]}\n"
WHOLE = HEAD + DEATH


def study(folder: Path, text: str):
    file = folder / "study.yaml"
    file.write_text(text)
    return read_study(file)


def test_values_are_texts_whatever_yaml_makes_of_them(tmp_path: Path) -> None:
    read = study(
        tmp_path,
        HEAD + "tasks:\n"
        "  a: {title: A, time: t, event: e, happened: [yes, TRUE, 1, 2.0, Dead], again: true}\n"
        "  b: {title: B, kind: classification, label: l, classes: [No PE, PE], unknown: [off]}\n"
        "split: {column: fold, values: {1: train, 2: tuning, Holdout: internal},\n"
        "  external: [7, X]}\n",
    )
    assert read.tasks["a"].happened == ("yes", "true", "1", "2", "dead")
    assert read.tasks["a"].again is True
    assert read.tasks["b"].classes == ("No PE", "PE")
    assert read.tasks["b"].class_texts == ("no pe", "pe")
    assert read.tasks["b"].unknown == ("off",)
    assert read.split.values == {
        "1": Split.TRAIN, "2": Split.TUNING, "holdout": Split.INTERNAL,
    }  # fmt: skip
    assert read.split.external == ("7", "x")


def test_units_of_time() -> None:
    assert DAYS["weeks"] == 7
    assert DAYS["months"] * 12 == pytest.approx(DAYS["years"]) == pytest.approx(365.25)
    assert DAYS["hours"] * 24 == DAYS["minutes"] * 1440 == DAYS["seconds"] * 86400 == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colums: {id: x}\n" + WHOLE, "there is no field 'colums'; perhaps 'columns' is meant"),
        (WHOLE + "columns: {idd: x}\n", "there is no field 'columns.idd'; perhaps 'id' is meant"),
        (WHOLE + "wibble: 1\n", "there is no field 'wibble'; take it out"),
        ("title: Mine\n" + DEATH, "field 'name' is missing; add it"),
        (HEAD, "field 'tasks' is missing; add it"),
        ("name: My Study\ntitle: Mine\n" + DEATH, "the name 'My Study' (name) must start with a"),
        (WHOLE.replace("  death:", "  Death:"), "the name 'Death' (tasks.Death) must start with"),
        (
            WHOLE.replace("time: days,", "time: days, unit: fortnights,"),
            "holds 'fortnights': input",
        ),
        (WHOLE.replace("happened: [1]", "happened: []"), "list at least one value"),
        (WHOLE.replace(", happened: [1]", ""), "say which values of 'dead' mean that it happened"),
        (WHOLE.replace("happened: [1]", "happened: [1], censored: [1]"), "'1' is given two mean"),
        (WHOLE.replace("time: days, ", ""), "'time' and 'event' come together"),
        (WHOLE.replace("time:", "codes: [X], time:"), "give codes, or time and event, or event_"),
        (HEAD + "tasks: {d: {title: D, event_date: x}}\n", "'event_date' and 'last_date' come tog"),
        (HEAD + "tasks: {d: {title: D, kind: classification, label: x}}\n", "needs its 'classes'"),
        (
            HEAD + "tasks: {d: {title: D, kind: classification, codes: [x]}}\n",
            "a class from codes needs 'within_days'",
        ),
        (HEAD + "tasks: {d: {title: D, kind: classification}}\n", "either from a column 'label'"),
        (WHOLE + "index: {column: a, codes: [b]}\n", "either from a column or from codes"),
        (WHOLE + "index: {column: a, plus_hours: -1}\n", "field 'index.plus_hours' holds '-1'"),
        (WHOLE + "split: {values: {a: holdout}}\n", "field 'split.values.a' holds 'holdout'"),
        (WHOLE + "name: other\n", "it names 'name' twice"),
        (HEAD + "tasks: &t {death: *t}\n", "it uses aliases"),
        ("[1, 2]", "expected named fields, found list"),
        ("name: [", "cannot be read as a study"),
        ("\xff\xfe", "expected named fields"),
    ],
)
def test_each_mistake_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(CohortError) as error:
        study(tmp_path, text)
    message = str(error.value)
    assert said in message
    assert message.startswith(str(tmp_path / "study.yaml"))
    assert message.endswith(".")
    assert "\n" not in message
    assert "pydantic" not in message.lower()


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="there is no such file; name the study's yaml"):
        read_study(tmp_path / "none.yaml")
    (tmp_path / "big.yaml").write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(CohortError, match="longer than settings can be"):
        read_study(tmp_path / "big.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(CohortError, match="cannot be read as a study"):
        read_study(tmp_path / "bytes.yaml")
