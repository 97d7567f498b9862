"""Figures of missing modalities carry exactly the numbers of the results they are made of."""

from __future__ import annotations

import re

import numpy as np
import pytest

from analysis.attribution.case import open_case
from analysis.baseline_file import read_baseline
from analysis.cohort.cohort import Cohort
from analysis.missing.combinations import by_combination
from analysis.missing.drop import drop_curve
from analysis.missing.monotonicity import monotonicity
from analysis.missing.natural import by_pattern
from analysis.missing.patient import patient_combinations
from analysis.missing.patterns import availability
from analysis.store import ResultStore
from app import theme
from app.figures import availability as who
from app.figures import drop, fewer
from app.figures import monotonicity as more
from app.figures.text import counted, interval
from tests.analysis.classification.toys import train, write_cohort


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    home = tmp_path_factory.mktemp("missing-figures")
    cohort = Cohort.open(write_cohort(home / "hf", lacking=0.25))
    runs = {
        "hf": train(cohort.folder, home / "hf-run"),
        "time": train(cohort.folder, home / "time-run", task="incident_hf"),
    }
    store = ResultStore(home / "results")
    found = {}
    for name, run in runs.items():
        given = (run, cohort, "internal", store)
        found[name] = {
            "table": by_combination(*given, n_resamples=40),
            "natural": by_pattern(*given, n_resamples=40),
            "drop": drop_curve(*given, repeats=20, n_resamples=40),
            "more": monotonicity(*given, n_resamples=40),
            "who": availability(run, cohort, store),
            "style": theme.run_style(run.config),
            "titles": {n: m.title for n, m in run.config.modalities.items()},
        }
    there = cohort.availability().loc[cohort.subject_ids("internal", "incident_hf")]
    subject = int(there.index[there.sum(axis=1) == 2][0])
    case = open_case(runs["time"], cohort, subject)
    found["time"]["patient"] = patient_combinations(case, read_baseline(runs["time"].folder))
    return found


def traces(figure):
    return {trace.meta: trace for trace in figure.data}


def texts(figure):
    return [re.sub(r"<[^>]+>", " ", a.text) for a in figure.layout.annotations]


def told(figure):
    """{(column, row)} of the dark dots."""
    dots = traces(figure)["told"]
    return set(zip(dots.x, dots.y, strict=True))


@pytest.mark.parametrize(("name", "metric"), [("hf", "auc"), ("time", "c_index")])
def test_a_row_a_combination(made, name, metric):
    table = made[name]["table"]
    entries = list(reversed(table["combinations"]))
    figure = fewer.combinations(table, entries, made[name]["style"])
    names = list(table["modalities"])
    expected = {(names.index(m), row) for row, e in enumerate(entries) for m in e["modalities"]}
    assert told(figure) == expected
    score = traces(figure)["score"]
    assert list(score.x) == [e[metric]["value"] for e in entries]
    assert list(score.y) == list(range(7))
    low = [e[metric]["value"] - e[metric]["low"] for e in entries]
    np.testing.assert_allclose(score.error_x.arrayminus, low)
    losses = {tuple(d["modalities"]): d["difference"] for d in table["differences"]}
    lost = traces(figure)["lost"]
    np.testing.assert_allclose(
        lost.x, [100 * losses[tuple(e["modalities"])]["value"] for e in entries[1:]]
    )
    words = texts(figure)
    for entry in entries:
        assert interval(entry[metric]) in words
    assert "everything is told" in words
    positive = "heart failure" if metric == "auc" else ""
    assert any(counted(table["n"], table["events"], positive) in w for w in words)


def test_the_short_list_is_the_whole_all_but_one_and_each_alone(made):
    table = made["hf"]["table"]
    sizes = [len(e["modalities"]) for e in fewer.short_list(table)]
    assert sizes == [3, 2, 2, 2, 1, 1, 1]
    assert not fewer.is_long(table)


@pytest.mark.parametrize(("name", "metric"), [("hf", "auc"), ("time", "c_index")])
def test_by_nature_and_by_force(made, name, metric):
    answer = made[name]["natural"]
    figure = fewer.natural(answer, made[name]["titles"], made[name]["style"], "heart failure")
    drawn = traces(figure)
    own = [p["natural"][metric]["value"] for p in answer["patterns"]]
    assert list(drawn["came so"].x) == [v for v in own if v is not None]
    forced = [p["forced"][metric]["value"] for p in answer["patterns"] if p["forced"]]
    assert list(drawn["the rest hidden"].x) == forced
    assert any("no score" in text for text in texts(figure))
    frame = fewer.natural_frame(answer, made[name]["titles"])
    assert frame["natural_patients"].tolist() == [p["natural"]["n"] for p in answer["patterns"]]
    assert frame[f"natural_{metric}"].dropna().tolist() == [v for v in own if v is not None]
    assert frame["undefined"].notna().sum() == sum(v is None for v in own)


def test_one_patient_and_what_is_absent(made):
    answer = made["time"]["patient"]
    figure = fewer.patient(answer, answer["rows"], "#336699")
    said = traces(figure)["said"]
    assert list(said.x) == [r["event_free"] for r in answer["rows"]]
    (absent,) = answer["absent"]
    column = list(answer["modalities"]).index(absent)
    dots = [traces(figure)[name] for name in ("told", "not told")]
    assert all(column not in trace.x for trace in dots)
    assert sum(text == "–" for text in texts(figure)) == len(answer["rows"])
    assert "absent" in figure.layout.xaxis.ticktext[column]
    words = texts(figure)
    assert any(w.endswith("all that is there") for w in words)
    assert any(w.endswith("told nothing") for w in words)
    frame = fewer.patient_frame(answer)
    assert frame[f"told_{absent}"].isna().all()
    assert frame["event_free"].tolist() == [r["event_free"] for r in answer["rows"]]


def test_bars_and_rates_of_patterns(made):
    answer = made["time"]["who"]
    group = answer["groups"][0]
    figure = who.upset(answer, group)
    bars, rates = traces(figure)["bars"], traces(figure)["estimates"]
    assert list(bars.x) == [p["n"] for p in group["patterns"]]
    assert list(rates.x) == [p["rate"]["value"] for p in group["patterns"]]
    for head, name in zip(figure.layout.xaxis.ticktext, answer["modalities"], strict=True):
        assert head.endswith(f"<b>{group['marginals'][name]:,}</b>")
    frame = who.frame(answer)
    assert len(frame) == sum(len(g["patterns"]) for g in answer["groups"])
    whole = frame[frame["split"] == "all"]
    assert whole["patients"].sum() == group["n"]
    shares = traces(who.upset(made["hf"]["who"], made["hf"]["who"]["groups"][0]))["estimates"]
    first = made["hf"]["who"]["groups"][0]["patterns"][0]
    assert shares.x[0] == pytest.approx(100 * first["rate"]["value"])


def test_a_line_and_a_band_a_run(made):
    curve = made["hf"]["drop"]
    styles = dict.fromkeys(("hf-run", "a", "b", "c"), made["hf"]["style"])
    others = [{**curve, "run": n} for n in "abc"]
    for measure in ("auc", "accuracy"):
        values = curve["measures"][measure]
        drawn = traces(drop.curves([curve], measure, styles))
        assert list(drawn["hf-run"].y) == values["mean"]
        assert list(drawn["hf-run/band"].y) == [*values["low"], *reversed(values["high"])]
        assert list(drawn["hf-run/patients"].y) == [values["plain"]["low"], values["plain"]["high"]]
        many = traces(drop.curves([*others, curve], measure, styles, first="hf-run"))
        assert {m for m in many if "/" in m} == {"hf-run/band", "hf-run/patients"}
        assert set("abc") < set(many)
    frame = drop.frame([curve])
    assert len(frame) == 20
    assert frame[frame["measure"] == "auc"]["mean"].tolist() == curve["measures"]["auc"]["mean"]


def test_shares_and_lattice(made):
    answer, titles = made["hf"]["more"], made["hf"]["titles"]
    drawn = traces(more.shares(answer["modalities"], titles))
    for part in ("worse", "same", "better"):
        expected = [r[part] / r["n"] for r in reversed(answer["modalities"])]
        assert list(drawn[part].x) == expected
    found = answer["lattice"]
    figure = more.lattice(found, titles)
    drawn = traces(figure)
    assert list(drawn["nodes"].y) == [n["auc"]["value"] for n in found["nodes"]]
    kinds = [more.kind_of(edge) for edge in found["edges"]]
    for kind in ("higher", "lower", "beyond"):
        assert len(drawn[kind].x) == 3 * kinds.count(kind)
        assert drawn[kind].name.endswith(f"({kinds.count(kind)})")
    assert kinds.count("lower") + kinds.count("beyond") == found["lower"]
    assert kinds.count("beyond") == found["beyond_chance"]
    ends = set(drawn["nodes"].y)
    assert {y for k in ("higher", "lower", "beyond") for y in drawn[k].y if y is not None} <= ends
    frame = more.shares_frame(answer["modalities"])
    assert frame["mean_change"].tolist() == [
        r["mean_change"]["value"] for r in answer["modalities"]
    ]
    assert len(more.lattice_frame(found)) == 9


def test_an_edge_is_what_its_interval_says():
    def edge(value, high):
        return {"difference": {"value": value, "low": -1.0, "high": high}}

    assert more.kind_of(edge(0.1, 0.2)) == "higher"
    assert more.kind_of(edge(-0.1, 0.2)) == "lower"
    assert more.kind_of(edge(-0.1, -0.05)) == "beyond"
    assert more.kind_of(edge(None, None)) is None
