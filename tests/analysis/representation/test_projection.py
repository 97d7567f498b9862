"""Pictures in one frame: repeatable, rigidly turned, judged as scikit-learn judges."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file
from sklearn.manifold import trustworthiness

from analysis.representation import projection as module
from analysis.representation.projection import (
    Method,
    find_projection,
    make_projection,
    project,
    starting_places,
)
from analysis.representation.quality import PICTURE_METRICS, judge
from analysis.representation.worker import serve
from analysis.store import ResultStore


def unit(v):
    return v / np.linalg.norm(v, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def stages():
    """Two islands of 45 before; after it each patient's two points are nearly one; other width."""
    rng = np.random.default_rng(0)
    patient = rng.normal(size=(45, 6))
    island = np.repeat([[4.0] + [0] * 7, [-4.0] + [0] * 7], 45, axis=0)
    before = unit(island + np.tile(np.c_[patient, patient[:, :2]], (2, 1)) * 0.5)
    after = unit(np.tile(patient, (2, 1)) + 0.02 * rng.normal(size=(90, 6)))
    return {"before": before, "after": after}


@pytest.fixture(scope="module")
def made(stages):
    return project(stages, Method.TSNE, seed=3)


def test_one_frame_for_both_stages(made):
    for places in made.places.values():
        assert places.shape == (90, 2)
        np.testing.assert_allclose(places.mean(axis=0), 0, atol=1e-9)
        assert np.abs(places).max() <= made.limit
    assert max(np.abs(p).max() for p in made.places.values()) > 0.9 * made.limit
    # Turned as well as can be: no further turn or mirror brings the second nearer the first.
    cross = made.places["after"].T @ made.places["before"]
    np.testing.assert_allclose(cross, cross.T, rtol=1e-5, atol=1e-5)
    assert (np.linalg.eigvalsh((cross + cross.T) / 2) >= -1e-6).all()
    assert made.settings["perplexity"] == pytest.approx(89 / 3)


def test_the_picture_shows_what_was_planted(made):
    """Islands before; after it a patient's two points lie together."""
    before, after = made.places["before"], made.places["after"]

    def apart(places):
        own = np.linalg.norm(places[:45] - places[45:], axis=1)
        return np.median(own) / np.median(np.linalg.norm(places - places.mean(0), axis=1))

    assert apart(before) > 1
    assert apart(after) < 0.3
    assert all(judged["trustworthiness"] > 0.9 for judged in made.quality.values())


def test_the_same_seed_gives_the_same_picture(made, stages):
    again = project(stages, Method.TSNE, seed=3)
    for name in stages:
        np.testing.assert_array_equal(again.places[name], made.places[name])


def test_progress_goes_through_both_stages(stages):
    told = []
    project(stages, Method.TSNE, say=lambda *words: told.append(words))
    assert [what for what, _, _ in told[:1] + told[-1:]] == [
        "t-SNE, before alignment",
        "t-SNE, after alignment",
    ]
    steps = [done for _, done, _ in told]
    assert steps == sorted(steps)
    assert told[-1][1] == told[-1][2] == 2 * module.STEPS


def test_points_that_are_all_alike_are_still_drawn():
    same = np.tile(unit(np.ones((1, 4))), (12, 1))
    places = starting_places(same)
    assert np.isfinite(places).all()
    found = project({"before": same}, Method.TSNE)
    assert np.isfinite(found.places["before"]).all()
    assert np.linalg.norm(starting_places(unit(np.eye(4)[:, :2] + 1))[:, 0]) > 0


def test_wrong_input_is_refused(stages):
    with pytest.raises(ValueError, match="at least 10 embeddings; there are 9"):
        project({"before": stages["before"][:9]}, Method.TSNE)
    with pytest.raises(ValueError, match=r"different points: \[90, 80\]"):
        project({"before": stages["before"], "after": stages["after"][:80]}, Method.TSNE)


def test_umap_starts_from_the_same_places_and_is_turned_alike(stages, monkeypatch):
    """UMAP itself is compiled for half a minute; here its place is taken by what it was asked."""
    asked = []

    class FakeUMAP:
        def __init__(self, **settings):
            self.settings = settings

        def fit_transform(self, rows):
            asked.append(self.settings)
            quarter = np.array([[0.0, 1.0], [-1.0, 0.0]])
            turn = quarter if len(asked) > 1 else np.eye(2)
            return self.settings["init"] @ turn + len(asked)

    class FakeModule:
        UMAP = FakeUMAP

    monkeypatch.setitem(sys.modules, "umap", FakeModule)
    found = project(stages, Method.UMAP, seed=7)
    np.testing.assert_array_equal(asked[0]["init"], asked[1]["init"])
    assert {a["random_state"] for a in asked} == {7}
    assert {(a["n_neighbors"], a["min_dist"]) for a in asked} == {(15, 0.1)}
    # The quarter turn and the shift are taken back.
    np.testing.assert_allclose(found.places["after"], found.places["before"], atol=1e-4)


@pytest.mark.slow
def test_umap_keeps_neighbourhoods_and_repeats(stages):
    first = project(stages, Method.UMAP, seed=1)
    again = project(stages, Method.UMAP, seed=1)
    for name in stages:
        np.testing.assert_array_equal(first.places[name], again.places[name])
        assert first.quality[name]["trustworthiness"] > 0.85


# ---------------------------------------------------------------- quality


def test_quality_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(80, 5))
    picture = points[:, :2]
    found = judge(points, picture)
    assert found["trustworthiness"] == trustworthiness(points, picture, n_neighbors=15)
    assert found["continuity"] == trustworthiness(picture, points, n_neighbors=15)
    assert (found["neighbours"], found["points"]) == (15, 80)
    perfect = judge(picture, 3 * picture)
    assert perfect["trustworthiness"] == perfect["continuity"] == 1.0
    for name in PICTURE_METRICS:
        assert PICTURE_METRICS.get(name).says


def test_a_large_picture_is_judged_on_some_of_its_points(monkeypatch):
    from analysis.representation import quality

    monkeypatch.setattr(quality, "MOST_JUDGED", 50)
    rng = np.random.default_rng(0)
    points = rng.normal(size=(80, 5))
    assert judge(points, points[:, :2], seed=1)["points"] == 50


# ---------------------------------------------------------------- stored, and the process


def test_the_process_makes_stores_and_answers(stages, tmp_path):
    store = ResultStore(tmp_path / "results")
    save_file(
        {f"{i} {n}": v for i, (n, v) in enumerate(stages.items())}, tmp_path / "p.safetensors"
    )
    request = {
        "id": "one",
        "store": str(store.folder),
        "parameters": {"picture": 1},
        "method": "tsne",
        "seed": 3,
        "points": str(tmp_path / "p.safetensors"),
    }
    broken = {**request, "id": "two", "parameters": {"picture": 2}, "points": "nowhere"}
    answers = io.StringIO()
    lines = "\n".join(json.dumps(r) for r in (request, broken, {**request, "id": "three"}))
    serve(io.StringIO(lines + "\n"), answers)
    told = [json.loads(line) for line in answers.getvalue().splitlines()]
    assert told[0]["what"] == "t-SNE, before alignment"
    assert [t["id"] for t in told if t.get("finished")] == ["one", "three"]
    assert [t["id"] for t in told if "error" in t] == ["two"]
    assert len([t for t in told if t["id"] == "three"]) == 1  # found in the store
    found = find_projection(store, {"picture": 1})
    expected = project(stages, Method.TSNE, seed=3)
    assert list(found.places) == ["before", "after"]
    for name in stages:
        np.testing.assert_array_equal(found.places[name], expected.places[name])
    assert (found.limit, found.quality) == (expected.limit, expected.quality)
    assert find_projection(store, {"picture": 2}) is None


def test_nobody_listening_does_not_stop_a_picture(stages, tmp_path):
    class Gone(io.StringIO):
        def write(self, _text):
            raise BrokenPipeError

    store = ResultStore(tmp_path / "results")
    save_file({"0 before": stages["before"]}, tmp_path / "p.safetensors")
    request = {
        "id": "one",
        "store": str(store.folder),
        "parameters": {"a": 1},
        "method": "tsne",
        "seed": 0,
        "points": str(tmp_path / "p.safetensors"),
    }
    serve(io.StringIO(json.dumps(request) + "\n"), Gone())
    assert find_projection(store, {"a": 1}) is not None


def test_a_stored_picture_is_what_was_made(stages, tmp_path):
    store = ResultStore(tmp_path)
    made = make_projection(store, {"b": 2}, stages, Method.TSNE, 0)
    found = find_projection(store, {"b": 2})
    assert found.settings == made.settings
    np.testing.assert_array_equal(found.places["after"], made.places["after"])
