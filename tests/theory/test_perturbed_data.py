"""Noise and coherence: drives at Q = 0 against autograd through a literal softmax, over every mask and latent (exact).

Noise enters by its second derivative: the gradient at Q = 0 is of third degree in it, and odd orders average to 0.
"""

from itertools import combinations, product

import numpy as np
import pytest
import torch

from vitdyn.data import AreaSizes, Constant, TwoPoint
from vitdyn.theory import (
    Regime,
    coherence_levels,
    noise_detection_limit,
    noise_levels,
    noisy_attention,
    start_drives,
)

SIZES = AreaSizes(patches=7.0, global_size=3.0, local_size=2.0)
AREA, QUERY, CLUSTERS = torch.tensor([0, 0, 0, 1, 1, 2, 2]), 3, 2
LATENTS = TwoPoint(low=0.7, high=1.3, probability_high=0.25)
COHERENCE, NOISE = 0.3, 0.4
LEVELS = {"noise": NOISE, "coherence": COHERENCE, "mask_ratio": 3 / 7, "clusters": CLUSTERS}


def features():
    """Rows v of Gram matrix (1 − c) 1 + c 11ᵀ: all areas of both clusters."""
    gram = torch.full((6, 6), COHERENCE, dtype=torch.float64).fill_diagonal_(1.0)
    return torch.linalg.cholesky(gram)


def samples():
    """Every draw of the latents with its probability, in each cluster."""
    for cluster in range(CLUSTERS):
        for draw in product([0.7, 1.3], repeat=3):
            weight = np.prod([0.25 if z == 1.3 else 0.75 for z in draw]) / CLUSTERS
            rows = features()[3 * cluster + AREA]
            yield torch.tensor(draw, dtype=torch.float64)[AREA, None] * rows, weight


def with_noise(patches):
    """The corners ±√n s of n coordinates: with equal weights they have all moments of the noise up to the third."""
    corners = NOISE * patches.numel() ** 0.5 * torch.eye(patches.numel(), dtype=torch.float64)
    return patches + torch.cat([corners, -corners]).reshape(-1, *patches.shape)


def descent(loss, patches, views):
    """−∂L/∂Φ at Q = 0 of a loss of the query's output, averaged over noise (the patches' first axis) and masks."""
    row = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    attention = torch.softmax(views * (patches @ row)[:, None], -1) * views
    (slope,) = torch.autograd.grad(loss(attention @ patches, patches[:, None]), row)
    return -slope / len(views) / len(patches)


def check(drives, row):
    along = features() @ row
    assert drives == pytest.approx(
        dict(zip(("global", "own", "other"), along.tolist(), strict=False)), rel=1e-9
    )


def masks(hidden_keys, count):
    for hidden in combinations(hidden_keys, count):
        shown = torch.ones(7, dtype=torch.float64)
        shown[list(hidden)] = 0
        yield shown


def test_reconstruction():
    views = torch.stack([shown * (torch.arange(7) != QUERY) for shown in masks({*range(7)} - {QUERY}, 2)])
    row = sum(
        3
        / 7
        * weight
        * descent(lambda F, x: 0.5 * (F - x[..., QUERY, :]).square().sum(), with_noise(x), views)
        for x, weight in samples()
    )
    check(start_drives(SIZES, LATENTS, **LEVELS), row)


def test_contrast_at_vanishing_similarity():
    """Second views are linear in their masks, and negatives in all: their means stand for them."""
    views = torch.stack(list(masks(range(7), 3)))
    negative = sum(weight * 4 / 7 * x.mean(0) for x, weight in samples())
    row = sum(
        weight * descent(lambda F, x: -(F * (4 / 7 * x.mean(-2) - negative)).sum(), with_noise(x), views)
        for x, weight in samples()
    )
    check(start_drives(SIZES, LATENTS, "contrast", **LEVELS), row)


def test_levels_are_where_drives_reverse():
    sizes, law = AreaSizes.from_exponents(1e8, kappa_c=0.7, kappa_s=0.4), TwoPoint()
    found = coherence_levels(sizes, law, clusters=3)
    at = start_drives(sizes, law, coherence=found["own below global"], clusters=3)
    assert at["own"] == pytest.approx(at["global"], rel=1e-9)
    at = start_drives(sizes, law, coherence=found["global sign"], clusters=3)
    assert abs(at["global"]) < 1e-9 * at["own"] and found["own sign"] == np.inf
    m1, m2, nu = law.mean, law.second_moment, 0.5
    m3 = 0.5 * (law.low**3 + law.high**3)
    ratio = m3 * (1e8**-0.3 + nu * 1e8**-0.3) / ((1 - nu) * m1 * (m2 - nu * m1**2))
    assert found["own below global"] / (1 - found["own below global"]) == pytest.approx(ratio, rel=0.02)
    assert noise_levels(sizes, law) == {"own below global": np.inf, "own sign": np.inf, "global sign": np.inf}
    gap = AreaSizes.from_exponents(1e8, kappa_c=0.9, kappa_s=0.4)
    assert start_drives(gap, law, "contrast")["other"] < 0
    level = noise_levels(gap, law, "contrast")
    assert level["own below global"] == 0.0
    assert abs(start_drives(gap, law, "contrast", noise=level["own sign"])["own"]) < 1e-22


def test_the_least_costly_attention():
    """½ z² (1 − A)² + ½ d s² A²/V, on a grid."""
    sizes, noise = AreaSizes(patches=100.0, global_size=60.0, local_size=8.0), 0.3
    A, seen = np.linspace(0, 1, 100_001), 0.5 * 100 / 99 * 7
    cost = 1.2**2 * (1 - A) ** 2 + 2 * 6 * noise**2 * A**2 / seen
    found = noisy_attention(sizes, Constant(value=1.2), noise, clusters=2)
    assert found["local"] == pytest.approx(A[cost.argmin()], abs=1e-5)
    limit = noise_detection_limit(Regime(patches=1e4, kappa_c=0.9, kappa_s=0.25), Constant(value=1.2))
    assert limit.low == limit.high == pytest.approx(1.2 / (0.5 * (2 * np.log(1e4)) ** 0.5))


def test_complaints(complaint):
    for field, call in (
        ("objective", lambda: start_drives(SIZES, LATENTS, "mae")),
        ("noise", lambda: start_drives(SIZES, LATENTS, noise=-1.0)),
        ("coherence", lambda: start_drives(SIZES, LATENTS, coherence=1.1)),
        ("sizes", lambda: noise_levels(AreaSizes(patches=7.0, global_size=3.0, local_size=4.0), LATENTS)),
        ("clusters", lambda: noisy_attention(SIZES, LATENTS, 0.1, clusters=0)),
    ):
        with complaint(field):
            call()
