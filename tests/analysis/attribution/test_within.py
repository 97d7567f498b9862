from __future__ import annotations

import copy

import numpy as np
import pytest
import shap
import torch

from analysis.attribution.case import AttributionError
from analysis.attribution.game import Game
from analysis.attribution.modalities import modality_ledger
from analysis.attribution.preview import ALMOST_NONE, event_gradients
from analysis.attribution.shapley import exact
from analysis.attribution.target import LogRisk, Survival
from analysis.attribution.within import METHODS, default_budget, explain_modality
from analysis.survival.baseline import BaselineHazard
from tests.analysis.attribution.toys_ehr import (
    brute_force,
    ct_case,
    fused_case,
    linear_case,
    write_cohort,
)

LN2 = float(np.log(2))
CURVE = Survival(
    BaselineHazard(np.array([10.0, 100.0, 900.0]), np.array([0.1, 0.4, 1.2])),
    (0.0, 10.0, 50.0, 200.0, 900.0),
)
SAMPLED = [name for name in METHODS if name != "integrated_gradients"]
DISTINCT = [(float(90 - i), f"DX//{i}", None) for i in range(12)]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("toys") / "cohort")


@pytest.fixture(scope="module")
def additive(tmp_path_factory):
    """Twelve distinct codes under a model that is linear in log(1 + count): (case, weights)."""
    cohort = write_cohort(tmp_path_factory.mktemp("distinct") / "cohort", DISTINCT)
    case = linear_case(cohort, "ehr", lambda e: torch.linspace(-2, 2, e.pooled_width).square() - 1)
    ids = case.raw("ehr").fields["codes"][0]
    weights = case.model.strategy.weights[ids].detach().numpy().astype(float)
    return case, weights * LN2


@pytest.mark.parametrize("method", [m for m in METHODS if m != "exact"])
def test_the_shares_of_an_additive_event_head_are_its_weights(additive, method):
    case, weights = additive
    found = explain_modality(case, "ehr", LogRisk(), method=method)
    np.testing.assert_allclose(found.values[:, 0], weights, atol=2e-5)
    assert found.method == method
    assert found.gap < 1e-4
    assert found.whole[0] == pytest.approx(weights.sum(), abs=1e-4)
    if method != "integrated_gradients":
        assert found.reference[0] == 0
    if method == "permutation":
        assert found.agreement == pytest.approx(1, abs=1e-6)
        assert found.evaluations <= 4 * 12 + 4


@pytest.mark.parametrize("strategy", ["late", "cross_attention", "co_attention", "contrastive"])
@pytest.mark.parametrize("events", ["onehot", "clmbr"])
def test_shares_lead_from_absent_to_the_shown_number(cohort, strategy, events):
    case = fused_case(cohort, strategy, events=events)
    for modality in case.present:
        found = explain_modality(case, modality, LogRisk())
        assert found.method == "exact"
        assert found.gap < 1e-4
        np.testing.assert_array_equal(found.whole, case.value(LogRisk()))
        assert len(found.parts) == len(found.values)


def test_it_is_shapleys_definition(cohort):
    case = fused_case(cohort, "co_attention")
    game = Game(case, "tiles", LogRisk())

    def value(members):
        return game(np.isin(np.arange(4), list(members))[None])[0]

    by_definition = brute_force(value, range(4))
    found = explain_modality(case, "tiles", LogRisk())
    np.testing.assert_allclose(found.values, [by_definition[i] for i in range(4)], atol=1e-6)


def test_equal_events_get_equal_shares_and_ignored_ones_nothing(tmp_path):
    """Two identical events an hour's tie apart, and one whose code has weight 0."""
    events = [(9.0, "A", None), (5.0, "B", None), (5.0, "B", None), (2.0, "C", None)]
    cohort = write_cohort(tmp_path / "c", events)

    def weights(encoder):
        w = torch.zeros(encoder.pooled_width)
        w[2:4] = torch.tensor([1.5, -2.0])
        return w

    found = explain_modality(linear_case(cohort, "ehr", weights), "ehr", LogRisk())
    third = -2.0 * np.log(3) / 2
    np.testing.assert_allclose(found.values[:, 0], [1.5 * LN2, third, third, 0.0], atol=1e-6)


@pytest.mark.parametrize("modality", ["ehr", "labs", "tiles"])
def test_the_ledger_opens_a_modalitys_exact_share_into_its_parts(cohort, modality):
    case = fused_case(cohort, "co_attention")

    def value(names):
        changed = {n: e.without(torch.tensor([n not in names])) for n, e in case.encoded.items()}
        return case.model.fuse(changed).prediction[0].double().numpy()

    share = brute_force(value, case.present)[modality]
    found = explain_modality(case, modality, LogRisk(), contexts="ledger")
    np.testing.assert_allclose(found.values.sum(axis=0), share, atol=1e-5)
    ledger = modality_ledger(case, LogRisk())
    np.testing.assert_allclose(found.values.sum(axis=0), ledger.share(modality), atol=1e-5)
    given = explain_modality(case, modality, LogRisk())
    assert abs(given.values.sum() - share[0]) > 1e-4
    # The encoder ran once a coalition, whatever the number of contexts.
    assert found.evaluations == given.evaluations


@pytest.mark.parametrize("method", SAMPLED)
def test_a_survival_curve_is_explained_at_every_time_at_once(cohort, method):
    case = fused_case(cohort, "late")
    found = explain_modality(case, "ehr", CURVE, method=method, budget=600)
    absent = case.encoded["ehr"].without(torch.tensor([True]))
    gone = CURVE(case.model.fuse({**case.encoded, "ehr": absent}).prediction)[0].numpy()
    np.testing.assert_allclose(found.values.sum(axis=0), case.value(CURVE) - gone, atol=1e-4)
    np.testing.assert_array_equal(found.values[:, 0], 0)
    alone = explain_modality(case, "ehr", Survival(CURVE.baseline, (200.0,)), method="exact")
    whole = explain_modality(case, "ehr", CURVE, method="exact")
    np.testing.assert_allclose(whole.values[:, 3], alone.values[:, 0], atol=1e-9)
    assert whole.evaluations == alone.evaluations


def test_a_linear_cox_table_with_a_background_is_survshap(cohort):
    """Equal to shap's exact explainer on S(t) itself (SurvSHAP(t): shares sum to S - mean S)."""
    case = linear_case(cohort, "labs", lambda e: torch.linspace(1.0, -0.7, e.pooled_width))
    table = cohort.table("labs")
    rows = np.where(table.mask, table.values, np.nan)
    found = explain_modality(case, "labs", CURVE, background=rows)

    def survival(values):
        from models.contracts import Kind, ModalityInput

        values = torch.as_tensor(np.asarray(values), dtype=torch.float32)
        here = torch.ones(len(values), dtype=torch.bool)
        fields = {"values": values, "mask": torch.ones_like(values, dtype=torch.bool)}
        with torch.no_grad():
            output = case.model({"labs": ModalityInput(Kind.TABLE, fields, here)})
        return CURVE(output.prediction).numpy()

    explainer = shap.ExactExplainer(survival, shap.maskers.Independent(rows, max_samples=len(rows)))
    own = case.raw("labs").fields["values"].numpy()
    expected = explainer(own.astype(float)).values[0]
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    np.testing.assert_allclose(found.reference, survival(rows).mean(axis=0), atol=1e-6)
    assert found.gap < 1e-6
    assert np.abs(found.values[:, 1:]).max() > 0.01
    assert found.parameters["background_rows"] == len(rows)


def test_regions_of_a_volume(cohort):
    found = explain_modality(ct_case(), "ct", LogRisk(), block=2)
    assert (found.kind, len(found.parts), found.parameters["block"]) == ("volume", 2, 2)
    assert found.gap < 1e-4
    fine = explain_modality(ct_case(), "ct", LogRisk(), block=1, budget=10000)
    assert len(fine.parts) == 16
    assert fine.agreement is not None
    assert fine.gap < 1e-4


def test_seeds_budget_and_settings_travel_with_the_result(cohort):
    case = fused_case(cohort, "late")
    options = {"method": "shap_permutation", "budget": 40}
    one, same, other = (
        explain_modality(case, "ehr", LogRisk(), seed=s, **options) for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.values, same.values)
    assert np.abs(one.values - other.values).max() > 1e-9
    assert one.parameters == {"contexts": "given", "budget": 40, "seed": 1}
    assert one.subject == case.subject
    assert one.target["title"] == "log-risk"
    assert default_budget(256) == 8 * (4 * 256 + 4)


def test_sampling_agrees_with_exact(cohort):
    case = fused_case(cohort, "co_attention", events="clmbr")
    game = Game(case, "ehr", LogRisk())
    truth = exact(game).values
    from analysis.attribution.shapley import permutation

    found = permutation(game, budget=8000, agreement=1.01)
    assert np.abs(found.values - truth).max() < 0.15 * np.abs(truth).max()


def test_gradients_add_up_and_leave_the_shared_model_alone(cohort):
    case = fused_case(cohort, "cross_attention")
    state = copy.deepcopy(case.model.state_dict())
    modules = [type(m) for m in case.model.modules()]
    found = event_gradients(case, "ehr", LogRisk(), steps=128)
    # The path is long for random weights; with enough steps the sum is the whole way.
    gap = found.values.sum(axis=0) - (found.everything - found.baseline)
    assert np.abs(gap).max() < 0.02 * max(1.0, np.abs(found.values).max())
    np.testing.assert_allclose(found.everything, case.value(LogRisk()), atol=1e-5)
    assert [type(m) for m in case.model.modules()] == modules
    assert all(torch.equal(v, state[k]) for k, v in case.model.state_dict().items())
    assert not any(p.requires_grad for p in case.model.parameters())
    assert not any(m._forward_hooks for m in case.model.modules())
    curve = explain_modality(case, "ehr", CURVE, method="integrated_gradients")
    assert curve.values.shape == (9, 5)
    assert curve.agreement is None


def test_gradients_of_counts_and_values_are_shapley_values_on_a_linear_path(tmp_path):
    """Two values of one code: the earlier one counts only without the later (Owen 1972)."""
    events = [(9.0, "A", None), (5.0, "V", 1.0), (4.0, "A", None), (2.0, "V", 3.0)]
    cohort = write_cohort(tmp_path / "c", events)
    case = linear_case(cohort, "ehr", lambda e: torch.linspace(0.5, 1.5, e.pooled_width))
    expected = explain_modality(case, "ehr", LogRisk()).values
    found = event_gradients(case, "ehr", LogRisk())
    np.testing.assert_allclose(found.values, expected, atol=50 * ALMOST_NONE)
    assert np.abs(np.diff(expected[[1, 3], 0])) > 0.1


def test_what_does_not_fit_is_said(cohort):
    case = fused_case(cohort, "late")
    with pytest.raises(AttributionError, match="choose one of permutation"):
        explain_modality(case, "ehr", LogRisk(), method="lime")
    with pytest.raises(AttributionError, match="use method 'permutation'"):
        explain_modality(case, "labs", LogRisk(), method="integrated_gradients")
    sequence = fused_case(cohort, "late", events="clmbr")
    with pytest.raises(AttributionError, match="half-included event for CLMBR"):
        explain_modality(sequence, "ehr", LogRisk(), method="integrated_gradients")
    with pytest.raises(AttributionError, match="at least 19"):
        explain_modality(case, "ehr", LogRisk(), method="shap_permutation", budget=18)
    with pytest.raises(AttributionError, match="'given' or 'ledger'"):
        explain_modality(case, "ehr", LogRisk(), contexts="all")
    with pytest.raises(AttributionError, match="at most 1"):
        explain_modality(case, "ehr", LogRisk(), agreement=2)
    with pytest.raises(AttributionError, match="does not read"):
        explain_modality(case, "ecg", LogRisk())
