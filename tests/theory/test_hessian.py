"""The Hessian by symmetry classes against that of a literal loss, averaged over every mask and latent (exact)."""

from itertools import combinations, product

import numpy as np
import pytest
import torch

from vitdyn.data import AreaSizes, TwoPoint, Uniform
from vitdyn.theory import (
    RowCorrelations,
    contrastive_hessian,
    reconstruction_hessian,
    reconstruction_hessian_at,
)
from vitdyn.theory.hessian import row_classes
from vitdyn.theory.visible_counts import latent_moments

SIZES = AreaSizes(patches=13.0, global_size=4.0, local_size=3.0)
AREA = np.repeat([0, 1, 2, 3], [4, 3, 3, 3])
LATENTS = TwoPoint(low=0.7, high=1.3, probability_high=0.25)
RATIO = 6 / 13
QUERY = {"local": 4, "global": 0}


def every_sample(query):
    """Every mask that hides the query, with every draw of two-point latents and its probability."""
    others = [q for q in range(13) if q != QUERY[query]]
    masks = np.ones((792, 13), bool)
    for row, hidden in zip(masks, combinations(others, 5), strict=True):
        row[[*hidden, QUERY[query]]] = False
    latents = np.array(list(product([0.7, 1.3], repeat=4)))
    weights = np.where(latents == 1.3, 0.25, 0.75).prod(1) / len(masks)
    return masks, latents, weights


def literal_errors(query, masks, latents, weights):
    """The coordinates of F_p − X_p as a function of the row (Φ, Υ), by one softmax over all keys; squares average."""
    own, area = AREA[QUERY[query]], torch.from_numpy(AREA)
    u, z, weights = (torch.from_numpy(np.asarray(each, float)) for each in (masks, latents, weights))

    def errors(row):
        content = u * (z * row[:4])[:, None, area]  # (latents, masks, keys)
        attention = torch.softmax(content + row[4:], -1) * u
        shares = torch.stack([attention[..., area == each].sum(-1) for each in range(4)], -1)
        target = torch.nn.functional.one_hot(torch.tensor(own), 4)
        return (RATIO * weights).sqrt()[:, None, None] * z[:, None] * (shares - target)

    return errors


def literal_loss(*sample):
    errors = literal_errors(*sample)
    return lambda row: 0.5 * errors(row).square().sum()


def literal_gauss_newton(*sample):
    *sample, row = sample
    slopes = torch.func.jacfwd(literal_errors(*sample))(row).flatten(0, -2)
    return (slopes.T @ slopes).numpy()


def literal_row(query, at):
    areas, own = np.arange(4), AREA[QUERY[query]]
    feature = np.where(areas == 0, at.global_area, np.where(areas == own, at.own, at.other))
    position = np.where(AREA == 0, at.global_key, np.where(own == AREA, at.own_key, at.other_key))
    position[QUERY[query]] = at.self_key
    return torch.tensor(np.concatenate([feature, position]))


def spectrum(classes, values=lambda each: each.eigenvalues):
    return np.sort(np.concatenate([np.tile(values(each), round(each.multiplicity)) for each in classes]))


@pytest.mark.parametrize("query", QUERY)
def test_at_the_start_the_classes_make_up_the_hessian_of_the_literal_loss(query):
    sample = query, *every_sample(query)
    loss = literal_loss(*sample)
    start = torch.zeros(17, dtype=torch.float64)
    expected = torch.autograd.functional.hessian(loss, start).numpy()
    part = literal_gauss_newton(*sample, start)
    classes = reconstruction_hessian(SIZES, LATENTS, query, mask_ratio=RATIO)
    np.testing.assert_allclose(spectrum(classes), np.linalg.eigvalsh(expected), rtol=1e-9, atol=1e-12)
    (gradient,) = torch.autograd.grad(loss(start.requires_grad_()), start)
    symmetric, own = classes[0], AREA[QUERY[query]]
    name = "Φ own" if query == "local" else "Φ global"
    assert symmetric.along(name) == pytest.approx((float(gradient[own]), expected[own, own]), rel=1e-10)
    assert np.linalg.norm(symmetric.gradient) == pytest.approx(float(gradient.norm()), rel=1e-10)
    found = spectrum(classes, lambda each: np.linalg.eigvalsh(each.gauss_newton))
    np.testing.assert_allclose(found, np.linalg.eigvalsh(part), rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="coordinate = 'Φ'"):
        symmetric.along("Φ")


@pytest.mark.parametrize("query", QUERY)
def test_where_rows_have_moved_too(query):
    at = RowCorrelations(
        own=1.5, global_area=-0.8, other=0.3, own_key=0.4, global_key=-0.2, other_key=0.1, self_key=0.7
    )
    sample = masks, latents, weights = every_sample(query)
    expected = torch.autograd.functional.hessian(literal_loss(query, *sample), literal_row(query, at))
    order = {"local": [1, 0, 2, 3], "global": [0, 1, 2, 3]}[query]
    visible = np.stack([masks[:, each == AREA].sum(1) for each in order], 1)
    counts = [int((np.delete(AREA, QUERY[query]) == each).sum()) for each in order]
    # a weight is a number of equal samples: probabilities are multiples of (1/4)^4
    draws = np.repeat(latents, np.rint(weights * len(masks) * 4**4).astype(int), 0)
    pairs = np.repeat(visible, len(draws), 0), np.tile(draws[:, order], (len(visible), 1))
    classes = row_classes(at, counts, *pairs, query, hidden_share=RATIO)
    np.testing.assert_allclose(spectrum(classes), np.linalg.eigvalsh(expected.numpy()), rtol=1e-9, atol=1e-12)


def test_drawn_masks_give_the_exact_classes_within_their_errors():
    """Statistical: two sizes of sample of a fixed stream against exact moments, each diagonal of the matrix."""
    sizes = AreaSizes(patches=64.0, global_size=44.0, local_size=5.0)
    exact = reconstruction_hessian(sizes, Uniform())[0]
    parts = [
        reconstruction_hessian_at(RowCorrelations(), sizes, Uniform(), samples=n)[0] for n in (2**13, 2**15)
    ]
    errors = [
        np.abs(np.diag(each.hessian - exact.hessian)) / np.abs(np.diag(exact.hessian)) for each in parts
    ]
    assert errors[0].max() < 0.1 and errors[1].max() < 0.05


def test_contrast_bends_down_along_the_global_area():
    """−κ/(P K) ν² (m_4 − m_1 m_3/K) P^{−2(1−κ_c)}, up to relative order P^{−(1−κ_c)}."""
    sizes, law = AreaSizes.from_exponents(1e8, kappa_c=0.6, kappa_s=0.3), Uniform()
    m = [float(each) for each in latent_moments(law)]
    symmetric, *_ = contrastive_hessian(sizes, law, clusters=4, temperature=0.5, negatives=63)
    rate, share = 63 / 64 / 0.5, 0.5 * 1e8**-0.4
    expected = -rate / 1e8 / 4 * share**2 * (m[4] - m[1] * m[3] / 4)
    found = symmetric.along("Φ global")[1]
    assert found == pytest.approx(expected, rel=0.6)
    assert found < 0 and not symmetric.gauss_newton.any()


def test_what_has_no_classes_is_refused(complaint):
    uneven = AreaSizes(patches=64.0, global_size=42.0, local_size=5.0)
    for field, call in (
        ("sizes", lambda: reconstruction_hessian(None, LATENTS)),
        (
            "sizes",
            lambda: reconstruction_hessian(AreaSizes(patches=4.0, global_size=2.0, local_size=2.0), LATENTS),
        ),
        ("query", lambda: reconstruction_hessian(SIZES, LATENTS, "own")),
        ("mask_ratio", lambda: reconstruction_hessian(SIZES, LATENTS, mask_ratio=1.0)),
        ("sizes.local_areas", lambda: reconstruction_hessian_at(RowCorrelations(), uneven, LATENTS)),
        ("own", lambda: RowCorrelations(own=float("nan"))),
        ("temperature", lambda: contrastive_hessian(SIZES, LATENTS, temperature=0.0)),
    ):
        with complaint(field):
            call()
