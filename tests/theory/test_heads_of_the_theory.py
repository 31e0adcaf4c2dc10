"""Several heads: the predictions against autograd of a literal softmax with two heads (exact)."""

import numpy as np
import pytest
import torch
from test_hessian import AREA, LATENTS, QUERY, RATIO, SIZES, every_sample, literal_loss, literal_row

from vitdyn.data import AreaSizes, Constant
from vitdyn.theory import (
    RowCorrelations,
    disorder_size,
    head_difference_growth,
    head_difference_rates,
    head_invariant,
    one_head_twin,
    parting_size,
    reconstruction_hessian,
)


def outputs(row, u, z):
    """A_j of one head; (latents, masks, area)."""
    area = torch.from_numpy(AREA)
    attention = torch.softmax(u * (z * row[:4])[:, None, area] + row[4:], -1) * u
    return torch.stack([attention[..., area == each].sum(-1) for each in range(4)], -1)


def literal_heads(query, masks, latents, weights):
    """Masked reconstruction of one query as a function of (head, row): the output is the mean over heads."""
    u, z, weights = (torch.from_numpy(np.asarray(each, float)) for each in (masks, latents, weights))
    target = torch.nn.functional.one_hot(torch.tensor(AREA[QUERY[query]]), 4)

    def loss(rows):
        mean = sum(outputs(row, u, z) for row in rows) / len(rows)
        return 0.5 * RATIO * (weights[:, None, None] * (z[:, None] * (mean - target)).square()).sum()

    return loss


def test_equal_heads_have_the_gradient_of_one_divided_by_their_number():
    masks, latents, weights = every_sample("local")
    sample = "local", masks[::50], latents, weights
    row = literal_row("local", RowCorrelations(own=0.6, global_area=-0.4, own_key=0.2))
    alone = torch.func.grad(literal_loss(*sample))(row)
    each = torch.func.grad(literal_heads(*sample))(row.expand(3, -1))
    rate, decay = one_head_twin(3, 1.0, 0.2)
    torch.testing.assert_close(each + 0.2 * row, (rate * (alone + decay * row)).expand(3, -1))


def test_differences_feel_the_residual_curvature_only():
    """The second derivative of two heads' literal loss along δ = (v, −v)/√2, v each symmetric direction of Φ."""
    gradient = torch.func.grad(literal_heads("local", *every_sample("local")))
    classes = reconstruction_hessian(SIZES, LATENTS, mask_ratio=RATIO)
    rates, start = head_difference_rates(classes, 2), torch.zeros(2, 17, dtype=torch.float64)
    for name, areas in {"own": [1], "global": [0], "others": [2, 3]}.items():
        direction = torch.zeros_like(start)
        direction[0, areas], direction[1, areas] = (2 * len(areas)) ** -0.5, -((2 * len(areas)) ** -0.5)
        _, bent = torch.func.jvp(gradient, (start,), (direction,))
        assert rates[f"Φ {name}"] == pytest.approx(-float((direction * bent).sum()), rel=1e-9)
    # not the whole curvature: its Gauss–Newton part moves the mean alone
    assert abs(rates["Φ global"] + classes[0].along("Φ global")[1] / 2) > 0.1 * abs(rates["Φ global"])


def test_heads_part_until_half_of_the_attention_and_then_become_copies():
    """Two heads and one visible area, by Runge–Kutta steps of the literal gradient: Ψ's difference is conserved."""
    n, masked, z = 3.0, 97.0, 1.2

    def attention(phi):
        weight = n * torch.exp(z * phi)
        return weight / (weight + masked)

    def drift(phi):
        return -torch.func.grad(lambda rows: 0.5 * z**2 * (1 - attention(rows).mean()) ** 2)(phi)

    phi, step = torch.tensor([0.3, -0.2], dtype=torch.float64), 1.0
    start, found = attention(phi).numpy(), []
    for _ in range(150):
        first = drift(phi)
        second = drift(phi + step / 2 * first)
        third = drift(phi + step / 2 * second)
        phi = phi + step / 6 * (first + 2 * second + 2 * third + drift(phi + step * third))
        found.append(attention(phi).numpy())
    invariant = head_invariant(np.array(found))
    np.testing.assert_allclose(
        invariant[:, 0] - invariant[:, 1], np.subtract(*head_invariant(start)), rtol=1e-6
    )
    assert found[-1].min() > 0.85
    # a small difference grows as the derivative of Ψ says
    near, step = np.array([0.03, 0.9]), 1e-6
    slope = (head_invariant(near + step) - head_invariant(near - step)) / (2 * step) * near * (1 - near)
    np.testing.assert_allclose(slope[0] / slope[1], head_difference_growth(near[1], near[0]), rtol=1e-6)


def test_sizes_of_the_disorder():
    sizes, law = AreaSizes(patches=101.0, global_size=51.0, local_size=11.0), Constant(value=2.0)
    assert parting_size(sizes, law) == pytest.approx(4 * 0.05 * 0.95 / (2 * (4 + 1 / 5.05)) ** 0.5, rel=1e-12)
    wide = disorder_size(AreaSizes.from_exponents(1e8, kappa_c=0.9, kappa_s=0.3), law)
    # at the upper end, Σ e^{2 logit}/(Σ e^logit)² of so many random logits no longer vanishes
    draw, shares = np.random.default_rng(0), {}
    for size in (wide.low, wide.high):
        weight = np.exp(2.0 * size * draw.standard_normal((16, 335_000)))
        shares[size] = np.median((weight**2).sum(1) / weight.sum(1) ** 2)
    assert shares[wide.low] < 0.01 < 0.1 < shares[wide.high]


def test_complaints(complaint):
    sizes = AreaSizes(patches=64.0, global_size=44.0, local_size=5.0)
    for field, call in (
        ("heads", lambda: one_head_twin(0, 1.0)),
        ("hessian", lambda: head_difference_rates(())),
        ("attention", lambda: head_invariant([0.2, 1.0])),
        ("start", lambda: head_difference_growth([0.2, 0.3], [0.1, 0.1, 0.1])),
        ("area", lambda: parting_size(sizes, LATENTS, "own")),
        ("sizes", lambda: disorder_size(None, LATENTS)),
    ):
        with complaint(field):
            call()
