"""Drives by layer at Q = 0 against autograd through literal residual layers, over every mask and latent (exact)."""

from itertools import combinations, product

import numpy as np
import pytest
import torch

from vitdyn.data import AreaSizes, TwoPoint
from vitdyn.theory import depth_drives, layer_share, start_drives

SIZES = AreaSizes(patches=7.0, global_size=3.0, local_size=2.0)
AREA, QUERY, HIDDEN, LAYERS = torch.tensor([0, 0, 0, 1, 1, 2, 2]), 3, 3 / 7, 3
LATENTS = TwoPoint(low=0.7, high=1.3, probability_high=0.25)


def slopes(loss):
    """−∂L/∂Φ^ℓ of the query, (layer, area): means over every mask and latent of a loss of the stream."""
    masks = torch.ones(35, 7, dtype=torch.float64)
    for row, hidden in zip(masks, combinations(range(7), 3), strict=True):
        row[list(hidden)] = 0
    z = torch.tensor(list(product([0.7, 1.3], repeat=3)), dtype=torch.float64)
    weights = torch.where(z == 1.3, 0.25, 0.75).prod(1).double().repeat(35) / 35
    patches = (torch.nn.functional.one_hot(AREA).double() * z[:, AREA, None]).repeat(35, 1, 1)
    shown = masks.repeat_interleave(8, 0)
    rows = torch.zeros(LAYERS, 7, 3, dtype=torch.float64, requires_grad=True)
    stream = patches * shown[..., None]
    for row in rows:
        attention = torch.softmax(torch.einsum("pj,bqj->bpq", row, stream), -1)
        stream = stream + attention @ stream
    (slope,) = torch.autograd.grad((weights * loss(stream, patches, shown, weights)).sum(), rows)
    return -slope[:, QUERY].numpy()


def check(drives, expected):
    found = np.stack([drives[name] for name in ("global", "own", "other")], 1)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_reconstruction():
    expected = slopes(lambda F, X, shown, _: 0.5 * ((1 - shown) * (F - X).square().sum(-1)).sum(-1))
    check(depth_drives(SIZES, LATENTS, layers=LAYERS, mask_ratio=HIDDEN), expected)


def test_contrast_at_vanishing_similarity():
    def loss(F, X, shown, weights):
        second = 2**LAYERS * 4 / 7 * X.mean(1)
        return -(F.mean(1) * (second - (weights[:, None] * second).sum(0))).sum(-1)

    check(depth_drives(SIZES, LATENTS, "contrast", layers=LAYERS, mask_ratio=HIDDEN), slopes(loss) * 7)


def test_one_layer_is_the_theory_and_the_leading_order_is_the_sum_of_both_ways():
    alone, of = depth_drives(SIZES, LATENTS, layers=1), start_drives(SIZES, LATENTS)
    assert {name: float(each[0]) for name, each in alone.items()} == pytest.approx(of)
    sizes, law = AreaSizes.from_exponents(1e9, kappa_c=0.7, kappa_s=0.3), TwoPoint()
    drives, nu, above = depth_drives(sizes, law, layers=3, mask_ratio=0.25), 0.75, np.array([4, 2, 1])
    share = law.low**3 / 2 + law.high**3 / 2
    np.testing.assert_allclose(drives["own"], 0.25 * nu * share * 1e9**-0.7, rtol=0.02)
    factor = 7 * above - (above - 1) / nu
    np.testing.assert_allclose(drives["global"], -0.25 * nu**2 * share * 1e9**-0.6 * factor, rtol=0.02)
    assert (1 + layer_share(4)) ** 4 == pytest.approx(2)


def test_complaints(complaint):
    with complaint("layers"):
        depth_drives(SIZES, LATENTS, layers=0)
    with complaint("objective"):
        depth_drives(SIZES, LATENTS, "mae")
    with complaint("layers"):
        layer_share(0)
