"""VICReg and Barlow Twins against transcriptions with loops, in plain floats, and at their edges (exact)."""

from math import sqrt

import numpy as np
import pytest
import torch

from vitdyn.losses import barlow_twins, vicreg


def normal(rng, *shape):
    return torch.from_numpy(rng.standard_normal(shape))


def moment(rows, i, j, centres, other=None):
    """Σ_b (x_bi − x̄_i)(y_bj − ȳ_j)."""
    other = rows if other is None else other
    return sum((x[i] - centres[0][i]) * (y[j] - centres[1][j]) for x, y in zip(rows, other, strict=True))


def mean_of(rows):
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def literal_vicreg(first, second, weights, target, convention):
    n, d = len(first), len(first[0])
    apart = sum((a - b) ** 2 for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True))
    total = weights[0] * apart / (n * d if convention == "code" else n)
    for rows in (first, second):
        centres = (mean_of(rows), mean_of(rows))
        for i in range(d):
            deviation = sqrt(moment(rows, i, i, centres) / (n - 1) + 1e-4)
            halved = 0.5 if convention == "code" else 1.0
            total += weights[1] * halved * max(0.0, target - deviation) / d
            for j in range(d):
                total += weights[2] * (i != j) * (moment(rows, i, j, centres) / (n - 1)) ** 2 / d
    return total


def literal_barlow(first, second, weight, epsilon):
    n, d = len(first), len(first[0])
    centres = mean_of(first), mean_of(second)
    total = 0.0
    for i in range(d):
        for j in range(d):
            own = [
                sqrt(moment(rows, k, k, (centre, centre)) / n + epsilon)
                for rows, k, centre in ((first, i, centres[0]), (second, j, centres[1]))
            ]
            value = moment(first, i, j, centres, second) / n / (own[0] * own[1])
            total += (1 - value) ** 2 if i == j else weight * value**2
    return total


CASES = {
    "vicreg, paper": (vicreg, lambda x, y: literal_vicreg(x, y, (25, 25, 1), 1.0, "paper")),
    "vicreg, code": (
        lambda x, y: vicreg(x, y, convention="code"),
        lambda x, y: literal_vicreg(x, y, (25, 25, 1), 1.0, "code"),
    ),
    "vicreg, weights": (
        lambda x, y: vicreg(x, y, invariance=3.0, variance=0.5, covariance=2.0, target=0.3),
        lambda x, y: literal_vicreg(x, y, (3, 0.5, 2), 0.3, "paper"),
    ),
    "barlow, paper": (barlow_twins, lambda x, y: literal_barlow(x, y, 0.005, 0.0)),
    "barlow, code": (
        lambda x, y: barlow_twins(x, y, convention="code"),
        lambda x, y: literal_barlow(x, y, 0.0051, 1e-5),
    ),
    "barlow, weight": (lambda x, y: barlow_twins(x, y, weight=0.3), lambda x, y: literal_barlow(x, y, 0.3, 0.0)),
}  # fmt: skip
EACH = pytest.mark.parametrize("name", CASES)


@EACH
def test_it_is_its_formula_over_any_leading_axes(name, rng):
    loss, literal = CASES[name]
    x, y = normal(rng, 2, 3, 6, 4), normal(rng, 2, 3, 6, 4) / 3
    expected = [
        [literal(a.tolist(), b.tolist()) for a, b in zip(*rows, strict=True)]
        for rows in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(loss(x, y), expected, rtol=1e-12)
    assert loss(x.float(), y.float()).dtype == torch.float32


def test_a_column_of_weights_is_one_for_each_entry(rng):
    x, y, values = normal(rng, 2, 6, 4), normal(rng, 2, 6, 4), (0.3, 1.0)
    column = torch.tensor(values, dtype=x.dtype)[:, None, None]
    fields = {vicreg: ("invariance", "variance", "covariance", "target"), barlow_twins: ("weight",)}
    for loss, names in fields.items():
        for name in names:
            expected = [loss(x[i], y[i], **{name: value}) for i, value in enumerate(values)]
            torch.testing.assert_close(
                loss(x, y, **{name: column}), torch.stack(expected), rtol=1e-14, atol=0
            )


@EACH
def test_gradients_are_finite_where_nothing_varies(name):
    loss, _ = CASES[name]
    for where in (torch.zeros(3, 4), torch.ones(3, 4), torch.diag(torch.tensor([0.0, 1.0, 1.0]))):
        leaf = where.clone().requires_grad_()
        (found,) = torch.autograd.grad(loss(leaf, where), leaf)
        assert found.isfinite().all()


def test_values_at_the_edges():
    flat, spread = torch.ones(4, 3).double(), torch.eye(4, 3).double()
    assert vicreg(flat, flat).item() == pytest.approx(2 * 25 * (1 - 0.01))  # all deviations are √ε
    assert barlow_twins(flat, flat).item() == 3  # no coordinate correlates with itself
    assert barlow_twins(spread, spread, weight=0.0).item() == pytest.approx(0)
    assert vicreg(spread, spread, variance=0.0, covariance=0.0).item() == 0


@pytest.mark.parametrize("loss", [vicreg, barlow_twins])
def test_it_refuses(loss, complaint):
    with complaint("batch", "at least 2"):
        loss(torch.ones(1, 3), torch.ones(1, 3))
    with complaint("second", "a pair for each row"):
        loss(torch.ones(3, 3), torch.ones(2, 3))
    with complaint("convention", "paper, code"):
        loss(torch.ones(3, 3), torch.ones(3, 3), convention="thesis")
