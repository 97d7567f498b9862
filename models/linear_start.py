"""A ridge regression as the starting point of the linear path.

A few hundred patients and a hundred columns are a problem that penalised Cox regression solves
well and that stochastic gradients solve badly: stopped early they have hardly moved, later they
have learnt the noise. So the linear path starts at the ridge solution, its penalty chosen by
cross-validation inside the training patients, and the network learns what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

PENALTIES = (4.0, 2.0, 1.0, 0.5, 0.25, 0.12, 0.06, 0.03)
Loss = Callable[[Tensor, Tensor], Tensor]
"""(prediction of some rows (m, K), those rows (m,)) -> mean loss."""


def ridge(
    x: Tensor, rows: Tensor, loss: Loss, penalty: float, start: Tensor, iterations: int = 40
) -> Tensor:
    """Weights (P, K) that minimise loss(x w) + penalty |w|^2 over `rows`, by L-BFGS."""
    weight = start.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [weight], max_iter=iterations, tolerance_change=1e-7, line_search_fn="strong_wolfe"
    )
    chosen = x[rows]

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(chosen @ weight, rows) + penalty * weight.pow(2).sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach()


def ridge_path(
    x: Tensor,
    loss: Loss,
    total: Callable[[Tensor, Tensor], Tensor],
    outputs: int,
    *,
    penalties: Sequence[float] = PENALTIES,
    folds: int = 5,
    seed: int = 0,
) -> tuple[Tensor, float]:
    """Ridge weights (P, outputs) and the penalty with the best cross-validated likelihood.

    total: like `loss`, but summed over events or patients. A held-out fold counts as the loss
    of all patients minus that of the others (Verweij and van Houwelingen 1993), since a partial
    likelihood of a small fold alone says little.
    """
    n = len(x)
    everyone = torch.arange(n)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    scores = torch.zeros(len(penalties))
    for held in torch.chunk(order, folds):
        kept = everyone[~torch.isin(everyone, held)]
        weight = torch.zeros(x.shape[1], outputs)
        for i, penalty in enumerate(penalties):
            weight = ridge(x, kept, loss, penalty, weight)
            scores[i] += total(x @ weight, everyone) - total(x[kept] @ weight, kept)
    best = int(scores.argmin())
    weight = torch.zeros(x.shape[1], outputs)
    for penalty in penalties[: best + 1]:
        weight = ridge(x, everyone, loss, penalty, weight)
    return weight, float(penalties[best])
