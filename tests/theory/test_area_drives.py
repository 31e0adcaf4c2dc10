"""Drives between areas of any sizes against autograd through a literal softmax, over every mask and latent (exact)."""

from itertools import combinations, product

import numpy as np
import pytest
import torch

from vitdyn.data import AreaSizes, Constant, PatchLayout, TwoPoint
from vitdyn.theory import (
    competitor_gap,
    contrast_drives,
    discriminating_size_ratio,
    reconstruction_drives,
    start_drives,
)

LAYOUT, LATENTS = PatchLayout.from_sizes([2, 4, 3]), TwoPoint(low=0.7, high=1.3, probability_high=0.25)
LAYOUT_OF_TWO = PatchLayout.from_sizes([2, 4, 3], clusters=2)
AREA, HIDDEN = torch.tensor([0, 0, 1, 1, 1, 1, 2, 2, 2]), 4 / 9


def slopes(loss):
    """−∂L/∂Φ, (query, area), of a loss of outputs, patches and visibility: means over every mask and latent."""
    masks = torch.ones(126, 9, dtype=torch.float64)
    for row, hidden in zip(masks, combinations(range(9), 4), strict=True):
        row[list(hidden)] = 0
    z = torch.tensor(list(product([0.7, 1.3], repeat=3)), dtype=torch.float64)
    weights = torch.where(z == 1.3, 0.25, 0.75).prod(1).double().repeat(126) / 126
    patches = (torch.nn.functional.one_hot(AREA).double() * z[:, AREA, None]).repeat(126, 1, 1)
    shown = masks.repeat_interleave(8, 0)
    rows = torch.zeros(9, 3, dtype=torch.float64, requires_grad=True)
    content = patches * shown[..., None]
    outputs = torch.softmax(torch.einsum("pj,bqj->bpq", rows, content), -1) @ content
    (slope,) = torch.autograd.grad((weights * loss(outputs, patches, shown, weights)).sum(), rows)
    return -slope.numpy()


def test_reconstruction():
    expected = slopes(lambda F, X, shown, _: 0.5 * ((1 - shown) * (F - X).square().sum(-1)).sum(-1))
    found = reconstruction_drives(LAYOUT, LATENTS, HIDDEN)
    np.testing.assert_allclose(found[0], expected[[0, 2, 6]], rtol=1e-9)
    # what the general sizes say is what the theory's own say
    sizes = AreaSizes(patches=12.0, global_size=6.0, local_size=3.0)
    drives = reconstruction_drives(PatchLayout.from_sizes([6, 3, 3]), LATENTS)[0]
    of = start_drives(sizes, LATENTS)
    np.testing.assert_allclose(drives[1], [of["global"], of["own"], of["other"]], rtol=1e-7)


def test_contrast_at_vanishing_similarity():
    def loss(F, X, shown, weights):
        second = 5 / 9 * X.mean(1)
        return -(F.mean(1) * (second - (weights[:, None] * second).sum(0))).sum(-1)

    expected = slopes(loss) * 9
    np.testing.assert_allclose(expected, np.tile(expected[0], (9, 1)))
    np.testing.assert_allclose(contrast_drives(LAYOUT, LATENTS, HIDDEN)[0], expected[0], rtol=1e-9)
    two = PatchLayout.from_sizes([[2, 4, 3], [5, 4]], patches=9)
    assert contrast_drives(two, LATENTS, HIDDEN)[1, 2] == 0.0


def test_contrast_of_unequal_clusters_that_share_a_feature():
    """Two clusters with the probabilities 0.3 and 0.7: features (shared, private, private) and (shared, others)."""
    weights, places = (0.3, 0.7), ([0, 1, 2], [0, 3, 4])
    negative = torch.zeros(5, dtype=torch.float64)
    for part, place in zip(weights, places, strict=True):
        negative[place] += (
            part * LATENTS.mean * 5 / 9 * torch.tensor([2.0, 4.0, 3.0], dtype=torch.float64) / 9
        )
    expected = np.zeros((2, 3))
    for cluster, (part, place) in enumerate(zip(weights, places, strict=True)):

        def loss(F, X, shown, _, place=place):
            return -(F.mean(1) * (5 / 9 * X.mean(1) - negative[place])).sum(-1)

        expected[cluster] = part * slopes(loss)[0] * 9
    expected[:, 0] = expected[:, 0].sum()
    found = contrast_drives(LAYOUT_OF_TWO, LATENTS, HIDDEN, cluster_probabilities=weights, shared_areas=[0])
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_shared_feature_loses_to_a_private_one_of_a_like_size():
    """From the ratio of sizes on at which both have one drive; at constant latents always."""
    ratio = discriminating_size_ratio(LATENTS)
    for factor, ahead in ((0.8, False), (1.25, True)):
        wide = round(40 * factor * ratio)
        layout = PatchLayout.from_sizes([wide, *[40] * 200], clusters=2)
        drives = contrast_drives(layout, LATENTS, 0.5, shared_areas=[0])[0]
        assert (drives[0] > drives[1]) == ahead
    drives = contrast_drives(layout, Constant(value=1.0), 0.5, shared_areas=[0])[0]
    assert drives[0] < 0 < drives[1] and discriminating_size_ratio(Constant(value=1.0)) == np.inf


@pytest.mark.parametrize(
    ("sizes", "dropped"),
    [
        ([1200, 100, 100, 100], [[1, 0], [2, 0], [3, 0]]),
        ([60, 960, 960, 960], [[0, 1], [0, 2], [0, 3]]),
        ([400, 400, 400], []),
    ],
)
def test_the_gap_of_two_areas_tells_who_moves_first(sizes, dropped):
    """The leading order, and the area that a query drops before it finds its own: the one with νC_b² > PC_a."""
    layout, nu = PatchLayout.from_sizes(sizes), 0.5
    drives = reconstruction_drives(layout, TwoPoint(low=1.0, high=1.0), 1 - nu)[0]
    mean = nu * sum(size**2 for size in sizes) / layout.patches
    for own, other in product(range(len(sizes)), repeat=2):
        if own != other:
            a, b = sizes[own], sizes[other]
            drop = 1 - (2 * a - mean) * nu / layout.patches  # 1 where areas are small
            lead = -drives[own, other] / drives[own, own] * drop
            expected = nu * layout.patches ** competitor_gap(a, b, layout.patches) * (1 + (a - mean) / b)
            assert lead == pytest.approx(expected, rel=0.03, abs=0.01)
    assert np.argwhere(-drives > drives.diagonal()[:, None]).tolist() == dropped


def test_complaints(complaint):
    for field, call in (
        ("layout", lambda: reconstruction_drives(None, LATENTS)),
        ("distribution", lambda: contrast_drives(LAYOUT, None)),
        ("mask_ratio", lambda: contrast_drives(LAYOUT, LATENTS, 1.0)),
        ("cluster_probabilities", lambda: contrast_drives(LAYOUT, LATENTS, cluster_probabilities=[0.5, 0.5])),
        ("shared_areas", lambda: contrast_drives(LAYOUT, LATENTS, shared_areas=[3])),
        ("probability", lambda: discriminating_size_ratio(LATENTS, 0.0)),
        ("other_size", lambda: competitor_gap(4.0, 65.0, 64.0)),
    ):
        with complaint(field):
            call()
