"""Every measure against a hand-solved case, an independent computation and what must not matter."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import ortho_group, pearsonr

from analysis.representation.embeddings import Embeddings, designed_sample
from analysis.representation.metrics import NEIGHBOURS, Study, interval, replicate_weights
from analysis.representation.report import METRICS, ordered
from analysis.representation.spectrum import shares
from analysis.representation.within import even_uniformity


def study(vectors, present=None, outcome=None):
    n = len(next(iter(vectors.values())))
    everyone = {name: np.ones(n, bool) for name in vectors}
    stage = Embeddings.of(np.arange(n), vectors, present or everyone)
    return Study(stage, np.arange(n) % 2 if outcome is None else outcome)


def value(name, made, part=0):
    metric = METRICS.get(name)()
    assert metric.why_not(made) is None
    chosen = metric.parts(made.stage)[part]
    measured = metric.measure(made, chosen)
    return float(measured.replicate(np.ones((1, len(chosen.rows))))[0]), measured.chance


def unit(v):
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def toy():
    """Two modalities of 60 patients that share a signal, at some distance, one lacked by some."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(60, 5))
    vectors = {
        "ct": shared + 0.5 * rng.normal(size=(60, 5)) + 1.0,
        "ehr": shared + 0.5 * rng.normal(size=(60, 5)) - 0.5,
        "ecg": rng.normal(size=(60, 5)),
    }
    present = {name: np.ones(60, bool) for name in vectors}
    present["ehr"][:9] = False
    return vectors, present


# ---------------------------------------------------------------- by hand


def test_three_patients_by_hand():
    """Three patients on the axes, and the same turned by a right angle."""
    x = np.array([[1.0, 0], [0, 1], [-1, 0]])
    y = np.array([[0.0, 1], [-1, 0], [0, -1]])
    made = study({"x": 3 * x, "y": 0.2 * y})
    # Centroids (0, 1/3) and (-1/3, 0); swaps of (1, -1), (1, 1), (-1, 1), all of squared length 2.
    assert value("gap", made) == pytest.approx((np.sqrt(2) / 3, np.sqrt(2 / 3)))
    # A right angle each; of different patients the cosines are -1, 0, 1, -1, 0, 1.
    assert value("alignment", made) == pytest.approx((2.0, 2.0))
    # A rotation of all patients alike is no difference to CKA.
    assert value("cka", made)[0] == pytest.approx(1.0)
    # sigma of two columns at a right angle: both 1.
    assert value("sigma1", made)[0] == pytest.approx(0.5)
    # Each own one is at cosine 0; nearer others 0, 1, 1 of x to y, of which tied 1, 0, 1 more.
    assert value("foscttm", made) == pytest.approx((0.5, 0.5))
    assert value("recall_1", made) == pytest.approx((0.0, 1 / 3))


def test_matching_of_three_patients_by_hand():
    """Forward 0, 2 and 1 of the two others are nearer than the own one; backward 0, 0 and 2."""
    x = np.array([[1.0, 0.0], [1.0, 0.1], [-1.0, -0.2]])
    y = np.array([[2.0, 0.0], [0.0, 3.0], [5.0, -9.0]])
    made = study({"x": x, "y": y})
    assert value("foscttm", made)[0] == pytest.approx(((0 + 2 + 1) / 6 + (0 + 0 + 2) / 6) / 2)
    assert value("recall_1", made)[0] == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert value("recall_5", made) == (1.0, 1.0)


def test_chance_of_the_gap_is_the_mean_over_all_swaps():
    rng = np.random.default_rng(3)
    x, y = (unit(rng.normal(size=(6, 4))) for _ in range(2))
    squared = [
        np.sum(np.mean([s * (a - b) for s, a, b in zip(signs, x, y, strict=True)], axis=0) ** 2)
        for signs in product((1, -1), repeat=6)
    ]
    _, chance = value("gap", study({"x": x, "y": y}))
    assert chance == pytest.approx(np.sqrt(np.mean(squared)))


def test_identical_embeddings_reach_the_best_of_every_measure():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 6))
    made = study({"a": x, "b": 7 * x, "c": x})
    for name, best in (
        ("gap", 0.0),
        ("alignment", 0.0),
        ("row_correlation", 1.0),
        ("cka", 1.0),
        ("recall_1", 1.0),
        ("recall_5", 1.0),
        ("foscttm", 0.0),
        ("sigma1", 1.0),
    ):
        assert value(name, made)[0] == pytest.approx(best, abs=1e-9), name
    # The two nearest of an embedding are the same patient's others.
    assert value("modality_purity", made)[0] <= (NEIGHBOURS - 2) / NEIGHBOURS


def test_a_model_that_maps_everybody_to_one_point_stands_at_chance():
    made = study({"a": np.ones((20, 3)), "b": np.ones((20, 3))})
    assert value("foscttm", made)[0] == pytest.approx(0.5)
    assert value("recall_1", made)[0] == 0
    assert value("alignment", made) == pytest.approx((0.0, 0.0), abs=1e-12)
    assert value("uniformity", made)[0] == pytest.approx(0.0, abs=1e-6)
    assert np.isnan(value("cka", made)[0])


def test_singular_values_of_two_unit_columns():
    """They are sqrt(1 +- cos) of the angle between them."""
    cos = 0.28
    two = np.array([[[1.0, cos], [0.0, np.sqrt(1 - cos**2)]]])
    top, low = np.sqrt(1 + cos), np.sqrt(1 - cos)
    np.testing.assert_allclose(shares(two), [[top / (top + low), low / (top + low)]])


# ---------------------------------------------------------------- independent computations


def test_against_plain_loops(toy):
    vectors, present = toy
    made = study(vectors, present)
    both = present["ehr"]
    x, y = unit(vectors["ct"])[both], unit(vectors["ehr"])[both]
    n = len(x)
    squared = cdist(x, y, "sqeuclidean")
    off = ~np.eye(n, dtype=bool)
    assert value("alignment", made) == pytest.approx((np.diag(squared).mean(), squared[off].mean()))
    assert value("gap", made)[0] == pytest.approx(np.linalg.norm(x.mean(0) - y.mean(0)))
    rows = np.array([[pearsonr(a, b).statistic for b in y] for a in x])
    assert value("row_correlation", made) == pytest.approx((np.diag(rows).mean(), rows[off].mean()))
    hits, share = [], []
    for d in (squared, squared.T):
        hits.append(np.mean(np.argsort(d, axis=1)[:, 0] == np.arange(n)))
        share.append(np.mean([np.delete(r, i) < r[i] for i, r in enumerate(d)]))
    assert value("recall_1", made) == pytest.approx((np.mean(hits), 1 / n))
    assert value("foscttm", made)[0] == pytest.approx(np.mean(share))
    gram = [v @ v.T for v in (x, y)]
    centre = np.eye(n) - 1 / n
    k, m = (centre @ g @ centre for g in gram)
    cka = np.sum(k * m) / np.sqrt(np.sum(k * k) * np.sum(m * m))
    assert value("cka", made)[0] == pytest.approx(cka)
    pairs = cdist(x, x, "sqeuclidean")
    ehr = unit(vectors["ehr"])[both]
    pairs = cdist(ehr, ehr, "sqeuclidean")
    assert value("uniformity", made, part=1)[0] == pytest.approx(
        np.log(np.exp(-2 * pairs[off]).mean()), abs=1e-5
    )


def test_neighbour_purity_against_plain_loops(toy):
    vectors, present = toy
    outcome = np.arange(60) % 3 - 1  # -1: not known
    made = study(vectors, present, outcome)
    points, rows, names = [], [], []
    for name, v in vectors.items():
        points.append(unit(v)[present[name]])
        rows += np.flatnonzero(present[name]).tolist()
        names += [name] * int(present[name].sum())
    d = cdist(np.concatenate(points), np.concatenate(points))
    rows, names = np.array(rows), np.array(names)
    for part, name in enumerate(vectors):
        same, hits, known = [], 0, 0
        chances = []
        for i in np.flatnonzero(names == name):
            order = [j for j in np.argsort(d[i]) if j != i]
            same.append(np.mean(names[order[:NEIGHBOURS]] == name))
            if outcome[rows[i]] < 0:
                continue
            others = [j for j in order if rows[j] != rows[i]]
            counted = [j for j in others[:NEIGHBOURS] if outcome[rows[j]] >= 0]
            hits += sum(outcome[rows[j]] == outcome[rows[i]] for j in counted)
            known += len(counted)
            every = [j for j in others if outcome[rows[j]] >= 0]
            chances.append(np.mean([outcome[rows[j]] == outcome[rows[i]] for j in every]))
        mixed = (np.sum(names == name) - 1) / (len(names) - 1)
        assert value("modality_purity", made, part) == pytest.approx((np.mean(same), mixed))
        expected = (hits / known, np.mean(chances))
        assert value("outcome_purity", made, part) == pytest.approx(expected)


def test_leaving_patients_out_of_cka_is_cka_of_the_others():
    """The jackknife subtracts sums; weights of any kind are counted one by one."""
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(50, 4)), rng.normal(size=(50, 6))
    made = study({"a": x, "b": y})
    metric = METRICS.get("cka")()
    measured = metric.measure(made, metric.parts(made.stage)[0])
    few = (np.arange(50) > 6).astype(float)
    twice = np.where(few > 0, 2.0, 0.0)
    expected = value("cka", study({"a": x[7:], "b": y[7:]}))[0]
    np.testing.assert_allclose(measured.replicate(np.stack([few, twice])), expected, rtol=1e-10)


def test_even_uniformity_is_that_of_many_random_directions():
    rng = np.random.default_rng(0)
    for width in (3, 40):
        made = study({"a": rng.normal(size=(3000, width))})
        found, chance = value("uniformity", made)
        assert chance == even_uniformity(width)
        assert found == pytest.approx(chance, abs=0.01)


def test_chance_of_cka_and_sigma_is_that_of_unrelated_modalities():
    rng = np.random.default_rng(2)
    made = study({"a": rng.normal(size=(300, 20)), "b": rng.normal(size=(300, 20))})
    for name in ("cka", "sigma1"):
        found, chance = value(name, made)
        assert found == pytest.approx(chance, rel=0.08)


# ---------------------------------------------------------------- what must not matter


@pytest.mark.parametrize("name", list(METRICS))
def test_order_of_patients_and_a_common_rotation_do_not_matter(name, toy):
    vectors, present = toy
    outcome = np.arange(60) % 2
    first = value(name, study(vectors, present, outcome))
    order = np.random.default_rng(4).permutation(60)
    shuffled = study(
        {n: v[order] for n, v in vectors.items()},
        {n: p[order] for n, p in present.items()},
        outcome[order],
    )
    # Chance of CKA and of sigma_1 is sampled by shuffling.
    assert value(name, shuffled)[0] == pytest.approx(first[0], abs=1e-6)
    if name != "row_correlation":  # it centres each row over the dimensions
        turn = ortho_group.rvs(5, random_state=np.random.default_rng(5))
        turned = study({n: v @ turn for n, v in vectors.items()}, present, outcome)
        assert value(name, turned)[0] == pytest.approx(first[0], abs=1e-6)


def test_only_cka_survives_a_rotation_of_one_modality(toy):
    vectors, present = toy
    turn = ortho_group.rvs(5, random_state=np.random.default_rng(6))
    turned = study({**vectors, "ct": vectors["ct"] @ turn}, present)
    made = study(vectors, present)
    assert value("cka", turned)[0] == pytest.approx(value("cka", made)[0])
    assert value("alignment", turned)[0] != pytest.approx(value("alignment", made)[0], abs=0.05)


def test_an_absent_modality_has_no_numbers(toy):
    """What the model writes for the absent never counts, whatever it is."""
    vectors, present = toy
    wild = {n: v.copy() for n, v in vectors.items()}
    wild["ehr"][~present["ehr"]] = 1e9
    other = {n: v.copy() for n, v in vectors.items()}
    other["ehr"][~present["ehr"]] = np.nan
    for name in METRICS:
        assert value(name, study(wild, present)) == value(name, study(other, present))
    stage = study(wild, present).stage
    assert np.isnan(stage.vectors["ehr"][:9]).all()
    assert len(stage.points) == 3 * 60 - 9
    assert len(METRICS.get("gap")().parts(stage)[0].rows) == 51


def test_one_modality_and_unlike_widths_say_why_not():
    rng = np.random.default_rng(0)
    alone = study({"a": rng.normal(size=(20, 4))})
    wide = study({"a": rng.normal(size=(20, 4)), "b": rng.normal(size=(20, 6))})
    few = study(
        {"a": rng.normal(size=(20, 4)), "b": rng.normal(size=(20, 4))},
        {"a": np.ones(20, bool), "b": np.arange(20) < 2},
    )
    for name in METRICS:
        metric = METRICS.get(name)()
        if name in ("uniformity", "outcome_purity"):
            assert metric.why_not(alone) is None
        else:
            assert "two modalities" in metric.why_not(alone)
        if name in ("cka", "uniformity"):
            assert metric.why_not(wide) is None
        else:
            assert "different widths here (a 4, b 6)" in metric.why_not(wide)
        if metric.scope != "modality":
            assert "fewer than 3 patients" in metric.why_not(few)
    assert 0 < value("cka", wide)[0] < 1
    same = study({"a": rng.normal(size=(20, 4))}, outcome=np.zeros(20, int))
    assert "the same one" in METRICS.get("outcome_purity")().why_not(same)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="'a': embeddings"):
        Embeddings.of([1, 2], {"a": np.ones((3, 2))}, {"a": np.ones(2, bool)})
    with pytest.raises(ValueError, match="'a': an embedding is missing"):
        Embeddings.of([1], {"a": np.full((1, 2), np.nan)}, {"a": np.ones(1, bool)})
    with pytest.raises(ValueError, match="3 patients, 2 outcomes"):
        study({"a": np.ones((3, 2))}, outcome=[0, 1])


# ---------------------------------------------------------------- intervals


def test_the_bootstrap_has_the_width_of_a_mean():
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    weights = replicate_weights(400, "bootstrap", 3000, 0)
    found = interval(weights @ x / weights.sum(axis=1), "bootstrap")
    assert found.value == pytest.approx(x.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * x.std() / 20, rel=0.06)


def test_the_jackknife_has_the_width_of_a_mean_and_stays_in_range():
    """Leaving out single patients gives the textbook error of a mean exactly."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=70)
    weights = replicate_weights(70, "jackknife", 0, 0)
    assert weights.shape == (71, 70)
    found = interval(weights @ x / weights.sum(axis=1), "jackknife")
    error = x.std(ddof=1) / np.sqrt(70)
    assert found.high - found.value == pytest.approx(1.959964 * error, rel=1e-5)
    grouped = replicate_weights(4000, "jackknife", 0, 0)
    assert grouped.shape == (41, 4000)
    assert (grouped[1:].sum(axis=1) == 3900).all()
    near = interval(np.array([0.1, 0.9, -0.8]), "jackknife", low=0.0, high=1.0)
    assert (near.low, near.high) == (0.0, 1.0)


def test_every_measure_states_what_it_means():
    assert sorted(ordered()) == list(METRICS)
    for name in METRICS:
        metric = METRICS.get(name)
        assert metric.better in ("higher", "lower", "neither")
        assert metric.low < metric.high
        for text in (metric.title, metric.chance, metric.says, metric.source, metric.__doc__):
            assert text
            assert text.strip()


# ---------------------------------------------------------------- sampling


def test_a_designed_sample_keeps_every_groups_share():
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    people = pd.DataFrame(
        {
            "split": rng.choice(["train", "internal"], 997, p=[0.8, 0.2]),
            "event": rng.random(997) < 0.07,
            "time": rng.random(997),
        }
    )
    rows = designed_sample(people, 200, seed=1)
    assert len(np.unique(rows)) == 200
    assert (np.diff(rows) > 0).all()
    groups = people.groupby(["split", "event"]).size()
    drawn = people.iloc[rows].groupby(["split", "event"]).size().reindex(groups.index, fill_value=0)
    assert (np.abs(drawn - groups * 200 / 997) <= 1).all()
    assert designed_sample(people, 200, seed=1).tolist() == rows.tolist()
    assert designed_sample(people, 2000).tolist() == list(range(997))
