from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from models.fusion.alignment_losses import (
    anchored_alignment_loss,
    direction_loss,
    global_alignment_loss,
    leading_share,
    singular_emphasis_loss,
    spectrum,
)
from models.fusion.instances import InstanceClassifiers, instance_loss
from models.losses import class_loss, class_terms, cox_loss, cox_terms

DOUBLE = torch.float64


def batch(n: int, modalities: int, width: int, seed: int = 0, missing: float = 0.4):
    """Columns (n, M, D) and who has them; rows 0, 1 and 2 have all, one and none."""
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(n, modalities, width))
    present = rng.random((n, modalities)) > missing
    present[0], present[1], present[2] = True, np.arange(modalities) == modalities - 1, False
    return torch.tensor(columns), torch.tensor(present)


def by_numpy(columns, present, temperature: float, lambda_pd: float) -> tuple[float, float, float]:
    """L_SV, L_PD and L_GA from numpy's own SVD, patient after patient."""
    emphasis, directions = [], []
    for u, there in zip(columns.numpy(), present.numpy(), strict=True):
        if not there.any():
            continue
        q, sigma, _ = np.linalg.svd(u[there].T, full_matrices=False)
        up = np.exp(sigma / temperature)
        if there.sum() > 1:
            emphasis.append(-np.log(up[0] / up.sum()))
        side = np.sign(q[:, 0] @ u[there].sum(axis=0))
        directions.append(q[:, 0] * side)
    q = np.array(directions)
    up = np.exp(q @ q.T / temperature)
    discriminability = -np.mean(np.log(np.diag(up) / up.sum(axis=1)))
    total = np.mean(emphasis) + lambda_pd * discriminability
    return float(np.mean(emphasis)), float(discriminability), float(total)


def named(columns, present, order=None):
    order = range(columns.shape[1]) if order is None else order
    return (
        {f"m{i}": columns[:, i] for i in order},
        {f"m{i}": present[:, i] for i in order},
    )


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("modalities", [1, 2, 3, 7])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_global_alignment_is_numpys(modalities, temperature):
    columns, present = batch(9, modalities, 5, seed=modalities)
    sigma, leading = spectrum(columns, present)
    count = present.sum(dim=1).clamp(max=5)
    if modalities > 1:
        expected = by_numpy(columns, present, temperature, 0.3)
        assert float(singular_emphasis_loss(sigma, count, temperature)) == pytest.approx(
            expected[0], rel=1e-9
        )
        assert float(direction_loss(leading, sigma[:, 0] > 0, temperature)) == pytest.approx(
            expected[1], rel=1e-9
        )
        total = global_alignment_loss(*named(columns, present), temperature, 0.3)
        assert float(total) == pytest.approx(expected[2], rel=1e-9)
    else:
        assert float(singular_emphasis_loss(sigma, count, temperature)) == 0.0
    for row in np.flatnonzero(present.any(dim=1).numpy()):
        there = present[row]
        expected_sigma = np.linalg.svd(columns[row][there].numpy(), compute_uv=False)
        got = sigma[row, : int(count[row])].numpy()
        np.testing.assert_allclose(got, expected_sigma, rtol=1e-7, atol=1e-7)
        assert float(leading[row].norm()) == pytest.approx(1.0)


def test_two_unit_vectors_by_hand():
    """At an angle a the singular values are sqrt(1 + cos a) and sqrt(1 - cos a)."""
    angle = 0.7
    columns = torch.tensor([[[1.0, 0.0], [np.cos(angle), np.sin(angle)]]], dtype=DOUBLE)
    there = torch.ones(1, 2, dtype=torch.bool)
    sigma, leading = spectrum(columns, there)
    first, second = np.sqrt(1 + np.cos(angle)), np.sqrt(1 - np.cos(angle))
    np.testing.assert_allclose(sigma[0].numpy(), [first, second])
    np.testing.assert_allclose(leading[0].numpy(), [np.cos(angle / 2), np.sin(angle / 2)])
    loss = singular_emphasis_loss(sigma, torch.tensor([2]), 0.5)
    assert float(loss) == pytest.approx(np.log1p(np.exp((second - first) / 0.5)))
    assert float(leading_share(columns, there)) == pytest.approx((1 + np.cos(angle)) / 2)


def test_order_and_scale_of_the_share_do_not_matter():
    columns, present = batch(8, 5, 4)
    forward = global_alignment_loss(*named(columns, present), 0.3, 0.5)
    backward = global_alignment_loss(*named(columns, present, [3, 0, 4, 2, 1]), 0.3, 0.5)
    assert float(forward) == pytest.approx(float(backward), rel=1e-10)
    longer = columns * torch.tensor([1.0, 5.0, 0.1, 2.0, 30.0])[None, :, None]
    share = leading_share(columns, present)
    assert torch.allclose(share, leading_share(longer, present), equal_nan=True)
    assert share.isnan().tolist() == (~present.any(dim=1)).tolist()


def test_more_modalities_than_the_width():
    columns, present = batch(6, 5, 2)
    expected = by_numpy(columns, present, 0.4, 0.2)[2]
    found = global_alignment_loss(*named(columns, present), 0.4, 0.2)
    assert float(found) == pytest.approx(expected, rel=1e-6)


# ---------------------------------------------------------------- gradients


@pytest.mark.parametrize("modalities", [2, 3, 6])
def test_gradients_are_finite_differences(modalities):
    columns, present = batch(5, modalities, 4, seed=3)
    columns.requires_grad_()

    def loss(u):
        return global_alignment_loss(*named(u, present), 0.5, 2.0)

    # Broadened by GAP_SHARE = 1e-3, the direction's gradient is right to (1e-3 s_1^2 / gap)^2.
    assert gradcheck(loss, columns, atol=1e-4, rtol=1e-3)
    # A singular value beyond the width is 0 for all columns, and has no derivative.
    real = torch.arange(modalities) < present.sum(dim=1, keepdim=True).clamp(max=4)
    assert gradcheck(lambda u: spectrum(u, present)[0][real].sin().sum(), columns, atol=1e-6)


def test_the_directions_gradient_alone_is_finite_differences():
    columns, present = batch(4, 3, 5, seed=8, missing=0.2)
    columns.requires_grad_()
    weights = torch.randn(4, 5, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    assert gradcheck(lambda u: (spectrum(u, present)[1] * weights).sum(), columns, atol=1e-4)


def degenerate() -> dict[str, torch.Tensor]:
    one = torch.nn.functional.normalize(torch.randn(1, 1, 6), dim=2)
    return {
        "identical": one.expand(3, 4, 6),
        "opposite": torch.cat([one, -one], dim=1).expand(3, 2, 6),
        "orthogonal, all singular values equal": torch.eye(6)[None, :4].expand(3, 4, 6),
        "zeros": torch.zeros(3, 4, 6),
        "one zero": torch.cat([one, one * 0], dim=1).expand(3, 2, 6),
        "nearly tied": (torch.eye(6)[None, :3] * torch.tensor([1.0, 1.0 + 1e-6, 1.0])[:, None]),
        "tiny": one.expand(3, 4, 6) * 1e-12,
        "huge": torch.randn(3, 4, 6) * 1e12,
    }


@pytest.mark.parametrize("which", list(degenerate()))
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_repeated_and_zero_singular_values_give_bounded_gradients(which, dtype):
    torch.manual_seed(0)
    columns = degenerate()[which].to(dtype).clone().requires_grad_()
    present = torch.ones(columns.shape[:2], dtype=torch.bool)
    loss = global_alignment_loss(*named(columns, present), 0.1, 1.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(columns.grad).all()
    length = columns.detach().norm(dim=2).amax()
    # 1 / (2 GAP_SHARE) times the length-free part of the gradient.
    if which not in ("zeros", "tiny"):
        assert float(columns.grad.norm() * length) <= 500 * (1 + float(length)) / 0.1


def test_a_tie_leaves_the_symmetric_part_of_the_gradient():
    """Two orthogonal columns: L_SV falls when they turn to each other, whatever basis was found."""
    columns = torch.eye(3, dtype=DOUBLE)[None, :2].clone().requires_grad_()
    present = torch.ones(1, 2, dtype=torch.bool)
    sigma, _ = spectrum(columns, present)
    sigma.square().sum().backward()
    # Sum of squares is the squared Frobenius norm: its gradient is 2 u.
    assert torch.allclose(columns.grad, 2 * columns.detach())


def test_an_absent_modality_has_no_part_and_no_gradient():
    columns, present = batch(8, 4, 5)
    a = columns.clone().requires_grad_()
    b = torch.where(present[..., None], columns, 1e6).requires_grad_()
    losses = [global_alignment_loss(*named(u, present), 0.2, 0.5) for u in (a, b)]
    assert torch.equal(*losses)
    for loss, u in zip(losses, (a, b), strict=True):
        loss.backward()
        assert (u.grad[~present] == 0).all()
    assert torch.equal(a.grad, b.grad)
    assert a.grad[0].abs().sum() > 0


def test_nobody_and_one_modality_have_no_loss_but_a_gradient():
    columns = torch.randn(3, 2, 4, requires_grad=True)
    for present in (torch.zeros(3, 2), torch.tensor([[1.0, 0.0], [0, 0], [0, 0]])):
        loss = global_alignment_loss(*named(columns, present.bool()), 0.1, 1.0)
        assert float(loss.detach()) == 0.0
        (gradient,) = torch.autograd.grad(loss, columns)
        assert (gradient == 0).all()


def test_descent_makes_the_modalities_one_direction_and_keeps_patients_apart():
    torch.manual_seed(0)
    free = torch.randn(12, 4, 8, requires_grad=True)
    present = torch.rand(12, 4) > 0.25
    present[:, 0] = True
    optimizer = torch.optim.Adam([free], lr=0.05)
    shares, losses = [], []
    for _ in range(120):
        unit = torch.nn.functional.normalize(free, dim=2)
        loss = global_alignment_loss(*named(unit, present), 0.5, 0.01)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        shares.append(float(leading_share(free.detach(), present).mean()))
    assert all(b < a + 1e-3 for a, b in pairwise(losses))
    assert shares[0] < 0.7
    assert shares[-1] > 0.98
    leading = spectrum(free.detach(), present)[1]
    off = (leading @ leading.T)[~torch.eye(12, dtype=torch.bool)]
    assert off.mean() < 0.5


def test_anchored_alignment_is_clip_by_numpy():
    rng = np.random.default_rng(1)
    u = {n: rng.normal(size=(6, 4)) for n in ("tma", "blood", "icd")}
    u = {n: x / np.linalg.norm(x, axis=1, keepdims=True) for n, x in u.items()}
    present = {n: np.ones(6, bool) for n in u}
    present["blood"][[0, 3]] = False
    present["tma"][5] = False
    terms = []
    for name in ("blood", "icd"):
        both = present["tma"] & present[name]
        similarity = u["tma"][both] @ u[name][both].T / 0.3
        rows = -np.log(np.diag(np.exp(similarity)) / np.exp(similarity).sum(axis=1))
        columns = -np.log(np.diag(np.exp(similarity)) / np.exp(similarity).sum(axis=0))
        terms.append((rows.mean() + columns.mean()) / 2)
    found = anchored_alignment_loss(
        {n: torch.tensor(x) for n, x in u.items()},
        {n: torch.tensor(x) for n, x in present.items()},
        "tma",
        0.3,
    )
    assert float(found) == pytest.approx(np.mean(terms), rel=1e-9)


# ---------------------------------------------------------------- terms and instances


def test_terms_of_cox_average_to_its_loss_with_ties_and_are_shared_evenly():
    rng = np.random.default_rng(0)
    time = torch.tensor(np.ceil(rng.exponential(4, 60)))
    event, risk = torch.tensor(rng.random(60) < 0.6), torch.tensor(rng.normal(size=60))
    terms = cox_terms(risk, event, time)
    assert len(terms) == int(event.sum())
    assert float(terms.mean()) == pytest.approx(float(cox_loss(risk, event, time)), rel=1e-6)
    shuffled = torch.tensor(rng.permutation(60))
    again = cox_terms(risk[shuffled], event[shuffled], time[shuffled])
    assert torch.allclose(again, terms[event.cumsum(0)[shuffled][event[shuffled]] - 1])
    assert len(cox_terms(risk, torch.zeros(60, dtype=torch.bool), time)) == 0


def test_a_term_of_cox_by_hand():
    risk = torch.tensor([[0.5], [1.0], [-1.0]])
    terms = cox_terms(risk, torch.tensor([False, True, True]), torch.tensor([9.0, 2.0, 5.0]))
    first = np.log(np.exp(0.5) + np.exp(1.0) + np.exp(-1.0)) - 1.0
    second = np.log(np.exp(0.5) + np.exp(-1.0)) + 1.0
    assert terms.tolist() == pytest.approx([first, second], rel=1e-5)


@pytest.mark.parametrize("outputs", [1, 3])
def test_terms_of_classes_average_to_their_loss(outputs):
    torch.manual_seed(0)
    logits, label = torch.randn(7, outputs), torch.randint(0, max(outputs, 2), (7,))
    assert float(class_terms(logits, label).mean()) == pytest.approx(
        float(class_loss(logits, label)), rel=1e-6
    )


def test_instances_are_the_most_and_least_attended_of_each_bag():
    """Token n carries n; the classifier hands it on, so that what was picked can be read."""
    classifiers = InstanceClassifiers(1, 2, 2)
    with torch.no_grad():
        classifiers.classify.weight.copy_(torch.tensor([[1.0], [0.0], [0.0], [0.0]]))
        classifiers.classify.bias.zero_()
    tokens = torch.arange(5.0).expand(3, 5)[..., None]
    attention = torch.tensor([[0.1, 0.4, 0.2, 0.3, 0.0], [0.3, 0.5, 0.2, 0, 0], [1.0, 0, 0, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]).bool()
    logits, chosen = classifiers(tokens, attention, mask)
    assert logits.shape == (3, 4, 2, 2)
    assert logits[0, :, 0, 0].tolist() == [1, 3, 0, 2]
    assert logits[1, [0, 2], 0, 0].tolist() == [1, 2]
    assert chosen.tolist() == [[True] * 4, [True, False, True, False], [False] * 4]


def test_instance_loss_by_hand():
    logits = torch.zeros(2, 2, 2, 2)
    logits[0, 0, 1] = torch.tensor([0.0, 2.0])
    logits[0, 1, 1] = torch.tensor([0.0, -1.0])
    logits[1] = 50.0
    chosen = torch.ones(2, 2, dtype=torch.bool)
    label, known = torch.tensor([1, 0]), torch.tensor([True, False])
    expected = (np.log1p(np.exp(-2)) + np.log1p(np.exp(-1))) / 2
    assert float(instance_loss(logits, chosen, label, known)) == pytest.approx(expected, rel=1e-6)
    nothing = instance_loss(logits.requires_grad_(), chosen, label, known & False)
    nothing.backward()
    assert float(nothing.detach()) == 0.0
