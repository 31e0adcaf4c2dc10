"""Trained values against autograd over every mask and latent at Q = 0 (exact); contrast's scale along literal flows."""

from itertools import combinations, product
from math import inf

import numpy as np
import pytest
import torch

from vitdyn.data import AreaSizes, Constant, PatchLayout, TwoPoint, Uniform
from vitdyn.theory import (
    contrast_scale_limit,
    contrast_scale_time,
    contrast_value_at,
    uniform_values,
    value_moments,
    value_start_rates,
)

LAYOUT = PatchLayout.from_sizes([3, 2, 2])
AREA, LATENTS, HIDDEN = (
    torch.tensor([0, 0, 0, 1, 1, 2, 2]),
    TwoPoint(low=0.7, high=1.3, probability_high=0.25),
    3 / 7,
)
VALUES = {"local_value": 0.8, "global_value": 1.7}
OF = {"mask_ratio": HIDDEN, **VALUES}


def every_sample():
    """Patches of every latent and mask, (sample, patch, area), what is visible, and probabilities."""
    masks = torch.ones(35, 7, dtype=torch.float64)
    for row, hidden in zip(masks, combinations(range(7), 3), strict=True):
        row[list(hidden)] = 0
    z = torch.tensor(list(product([0.7, 1.3], repeat=3)), dtype=torch.float64)
    weights = torch.where(z == 1.3, 0.25, 0.75).prod(1).double() / len(masks)
    patches = torch.nn.functional.one_hot(AREA).double() * z[:, AREA, None]
    return patches.repeat(35, 1, 1), masks.repeat_interleave(8, 0), weights.repeat(35)


def slopes(loss, values):
    """−∂L/∂W and −∂L/∂Φ of a loss of outputs F_p, patches, visibility: means over every sample."""
    patches, shown, weights = every_sample()
    row = torch.zeros(7, 3, dtype=torch.float64, requires_grad=True)
    W = values.clone().requires_grad_()
    logits = torch.einsum("pj,bqj->bpq", row, patches * shown[..., None])
    outputs = torch.softmax(logits, -1) @ (patches * shown[..., None]) @ W.T
    total = (weights * loss(outputs, patches, shown)).sum()
    return [-each for each in torch.autograd.grad(total, (W, row))]


def reconstruction(outputs, patches, shown):
    return 0.5 * ((1 - shown) * (outputs - patches).square().sum(-1)).sum(-1)


DIAGONAL = torch.diag(torch.tensor([1.7, 0.8, 0.8], dtype=torch.float64))


def as_rates(W, row):
    return {"local value": W[1, 1], "global value": W[0, 0], "own": row[3, 1], "global": row[3, 0]}


def test_reconstruction():
    expected = {name: float(each) for name, each in as_rates(*slopes(reconstruction, DIAGONAL)).items()}
    assert value_start_rates(AreaSizes.of(LAYOUT), LATENTS, **OF) == pytest.approx(expected, rel=1e-9)


def test_contrast_at_vanishing_similarity():
    patches, _, weights = every_sample()
    second = (4 / 7 * patches.mean(1)) @ DIAGONAL.T
    negative = 0.5 * (weights[:, None] * second).sum(0)  # of two clusters

    def loss(outputs, patches, shown):
        return -(outputs.mean(1) * (second - negative)).sum(-1)

    expected = {name: float(each) / 2 for name, each in as_rates(*slopes(loss, DIAGONAL)).items()}
    found = value_start_rates(AreaSizes.of(LAYOUT), LATENTS, "contrast", clusters=2, **OF)
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_value_matrix_goes_to_its_least_squares(rng):
    W = torch.from_numpy(rng.standard_normal((3, 3)))
    target, gram = value_moments(LAYOUT, LATENTS, HIDDEN)
    np.testing.assert_allclose(target - W.numpy() @ gram, slopes(reconstruction, W)[0], rtol=1e-9, atol=1e-13)
    scalars = np.diag(target) / np.diag(gram)
    assert uniform_values(AreaSizes.of(LAYOUT), mask_ratio=HIDDEN) == pytest.approx(
        {"global": scalars[0], "local": scalars[1]}
    )
    still = value_start_rates(
        AreaSizes.of(LAYOUT), LATENTS, mask_ratio=HIDDEN, local_value=scalars[1], global_value=scalars[0]
    )
    assert abs(still["local value"]) + abs(still["global value"]) < 1e-15
    assert not value_moments(PatchLayout.from_sizes([3, 2, 2], clusters=2), LATENTS, HIDDEN)[0][:3, 3:].any()


def test_the_scale_of_contrast_grows_as_the_logarithm():
    """Runge–Kutta steps of the literal loss: one positive, negatives tied with it and orthogonal to it."""
    sizes, law = AreaSizes(patches=64.0, global_size=44.0, local_size=5.0), Constant(value=1.2)
    c, tau, clusters, negatives = (1.2 * 0.5 * 44 / 64) ** 2, 0.4, 4, 12

    def rate(w):
        first = torch.tensor(w, dtype=torch.float64, requires_grad=True)
        s = first * w * c / tau
        loss = -s + torch.log((1 + negatives / clusters) * s.exp() + negatives - negatives / clusters)
        return -float(torch.autograd.grad(loss, first)[0]) / clusters

    w, step = 1.0, 0.5
    for _ in range(200):
        first = rate(w)
        second = rate(w + step / 2 * first)
        third = rate(w + step / 2 * second)
        w += step / 6 * (first + 2 * second + 2 * third + rate(w + step * third))
    of = {"temperature": tau, "negatives": negatives, "clusters": clusters}
    assert contrast_scale_time(sizes, law, w * w * c, **of) == pytest.approx(100.0, rel=1e-5)
    assert contrast_scale_time(sizes, law, 0.5 * c, **of) == 0.0


def test_contrast_spends_its_pull_on_the_scale_before_attention():
    """P rows and one value, by small steps along −∂L of two losses of the pooled output: w² follows the logit."""
    sizes, law = AreaSizes(patches=8.0, global_size=4.0, local_size=2.0), Constant(value=1.2)
    for tau in (0.3, 3.0):
        state = torch.cat([torch.ones(1), torch.zeros(8)]).double()
        for _ in range(400):
            state.requires_grad_()
            odds = 2 * torch.exp(1.2 * state[1:])  # two visible keys of the global area, six of weight 1
            pooled = state[0] * 1.2 * (odds / (6 + odds)).mean()
            (slope,) = torch.autograd.grad(torch.log1p(5 * torch.exp(-pooled * pooled.detach() / tau)), state)
            state = state.detach() - 0.1 * slope
        found = contrast_value_at(sizes, law, 1.2 * float(state[1]))
        assert found == pytest.approx(float(state[0]), rel=5e-3) and found > 1.3


def test_repulsion_within_a_cluster_stops_the_scale():
    law, tau, negatives, clusters = Uniform(low=1.0, high=2.0), 0.3, 16, 4
    found = contrast_scale_limit(law, tau, negatives, clusters)
    z = torch.linspace(1, 2, 513, dtype=torch.float64)[1::2]

    def loss(scale):
        """Two views of one w, all similarities scale · z z'."""
        same = torch.exp(scale / tau * z[:, None] * (z - z[:, None])).mean(1)
        other = torch.exp(-scale / tau * z**2)
        return torch.log(1 + negatives / clusters * same + negatives * (1 - 1 / clusters) * other).mean()

    assert loss(found) < min(loss(found * 0.95), loss(found * 1.05))
    assert contrast_scale_limit(Constant(value=1.0), tau, negatives, clusters) == inf


def test_complaints(complaint):
    sizes = AreaSizes.of(LAYOUT)
    for field, call in (
        ("objective", lambda: value_start_rates(sizes, LATENTS, "mae")),
        ("local_value", lambda: value_start_rates(sizes, LATENTS, local_value=inf)),
        ("mask_ratio", lambda: uniform_values(sizes, mask_ratio=1.0)),
        ("layout", lambda: value_moments(sizes, LATENTS)),
        ("clusters", lambda: contrast_scale_time(sizes, LATENTS, 1.0, clusters=1)),
        ("negatives", lambda: contrast_scale_limit(LATENTS, 1.0, 0, 2)),
    ):
        with complaint(field):
            call()
