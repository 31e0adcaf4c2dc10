"""LiDAR: closed forms, a literal transcription, invariances and the peers' conventions (exact)."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vitdyn.metrics import lidar
from vitdyn.metrics.lidar import LIDAR, LidarConvention

CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def designed(between, within):
    """Embeddings with diagonal Sb and Sw, exactly: objects on ± axes of means, views on ± axes of spread.

    Sb = 2 between²/(n − 1), Sw = 2 n within²/(n (q − 1)) on each axis, with n = 2d objects and q = 2d views.
    """
    d = len(between)
    axes = np.concatenate([np.eye(d), -np.eye(d)])
    return torch.from_numpy((axes * between)[:, None] + (axes * within)[None])


def ratios(between, within):
    """The exponential of the entropy of p ∝ between²/within²."""
    p = (np.asarray(between) / np.asarray(within)) ** 2
    p = p[p > 0] / p.sum()
    return np.exp(-(p * np.log(p)).sum())


def random_embeddings(rng, *lead, objects=9, views=5, dimension=4):
    centres = rng.standard_normal((*lead, objects, 1, dimension))
    return torch.from_numpy(centres + 0.4 * rng.standard_normal((*lead, objects, views, dimension)))


def literal(embeddings, convention):
    """The definition, matrix by matrix, with an explicit inverse root."""
    e = embeddings.numpy()
    n, q, d = e.shape
    mean = e.mean(1)
    between, within = np.zeros((d, d)), np.zeros((d, d))
    for x in range(n):
        offset = mean[x] - mean.mean(0)
        between += np.outer(offset, offset) / (n - convention.unbiased)
        for i in range(q):
            spread = e[x, i] - mean[x]
            within += np.outer(spread, spread) / (n * (q - convention.unbiased))
    delta = convention.delta * (np.trace(within) / d if convention.relative else 1)
    values, vectors = np.linalg.eigh(within + delta * np.eye(d))
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    lam = np.clip(np.linalg.eigvalsh(root @ between @ root), 0, None)
    eps = convention.epsilon
    if convention.guard == "inside":
        p = lam / (lam.sum() + eps)
        return np.exp(-(p * np.log(p + eps)).sum())
    p = (lam + eps) / (lam + eps).sum() if convention.guard == "mixed" else lam / lam.sum() + eps
    if convention.guard == "renormalised":
        p = p / p.sum()
    p = p[p > 0]
    return np.exp(-(p * np.log(p)).sum())


class TestClosedForms:
    def test_isotropic(self):
        np.testing.assert_allclose(lidar(designed([1.0] * 5, [0.3] * 5)).value, 5, **CLOSE)

    def test_low_rank(self):
        found = lidar(designed([2.0, 2.0, 0.0, 0.0, 0.0], [0.3] * 5)).value
        np.testing.assert_allclose(found, 2, **CLOSE)

    def test_unequal(self):
        between, within = [1.0, 2.0, 0.5], [0.3, 0.2, 0.7]
        np.testing.assert_allclose(lidar(designed(between, within)).value, ratios(between, within), **CLOSE)

    def test_delta_adds_to_the_within_variance(self):
        between, within = np.array([1.0, 2.0, 0.5]), np.array([0.3, 0.2, 0.7])
        spread = 2 * within**2 / 5  # d = 3: n = q = 6, Sw = 2 within²/(q − 1)
        for relative in (False, True):
            delta = 0.1 * (spread.mean() if relative else 1)
            used = LidarConvention(delta=0.1, relative=relative)
            np.testing.assert_allclose(
                lidar(designed(between, within), convention=used).value,
                ratios(between, np.sqrt(spread + delta)),
                **CLOSE,
            )


@pytest.mark.parametrize("name", LIDAR)
@pytest.mark.parametrize("objects", [9, 3])
def test_literal(rng, name, objects):
    """With fewer objects than dimensions too, where most eigenvalues are 0."""
    embeddings = random_embeddings(rng, objects=objects, views=6)
    np.testing.assert_allclose(
        lidar(embeddings, convention=name).value, literal(embeddings, LIDAR[name]), **CLOSE
    )


def test_denominators_matter_through_delta_only(rng):
    embeddings = random_embeddings(rng)
    used = replace(LIDAR["req-metrics"], unbiased=False)
    found = lidar(embeddings, convention=used).value
    np.testing.assert_allclose(found, literal(embeddings, used), **CLOSE)
    assert abs(found - lidar(embeddings, convention="req-metrics").value) > 1e-8
    plain = lidar(embeddings, convention=LidarConvention(unbiased=False)).value
    np.testing.assert_allclose(plain, lidar(embeddings).value, **CLOSE)


class TestInvariance:
    def test_invertible_maps_at_delta_zero(self, rng):
        embeddings = random_embeddings(rng)
        turned = embeddings @ torch.from_numpy(rng.standard_normal((4, 4)) + 3 * np.eye(4)) + 7
        np.testing.assert_allclose(lidar(turned).value, lidar(embeddings).value, **CLOSE)

    def test_not_with_an_absolute_delta(self, rng):
        embeddings = random_embeddings(rng)
        used = LidarConvention(delta=0.1)
        assert (
            abs(lidar(10 * embeddings, convention=used).value - lidar(embeddings, convention=used).value)
            > 1e-3
        )

    def test_scale_and_rotation_with_a_relative_delta(self, rng):
        embeddings = random_embeddings(rng)
        used = LidarConvention(delta=0.1, relative=True)
        rotation = torch.linalg.qr(torch.from_numpy(rng.standard_normal((4, 4))))[0]
        np.testing.assert_allclose(
            lidar(100 * embeddings @ rotation, convention=used).value,
            lidar(embeddings, convention=used).value,
            **CLOSE,
        )

    def test_order_of_views_within_an_object_but_not_across(self, rng):
        """Views are an axis: shuffling within objects changes nothing, mixing objects does."""
        embeddings = random_embeddings(rng)
        within = embeddings[:, rng.permutation(5)]
        np.testing.assert_allclose(lidar(within).value, lidar(embeddings).value, **CLOSE)
        mixed = embeddings.flatten(0, 1)[rng.permutation(45)].reshape(9, 5, 4)
        assert abs(lidar(mixed).value - lidar(embeddings).value) > 1e-3


class TestEdges:
    def test_views_that_agree(self):
        """Sw = 0: the limit δ → 0 is the effective rank of Sb, here of three equal axes."""
        embeddings = designed([1.0, 1.0, 1.0, 0.0], [0.0] * 4)
        np.testing.assert_allclose(lidar(embeddings).value, 3, **CLOSE)
        tiny = LidarConvention(delta=1e-12)
        np.testing.assert_allclose(lidar(embeddings, convention=tiny).value, 3, **CLOSE)

    def test_an_axis_without_spread_outweighs_all(self):
        embeddings = designed([1.0, 1.0, 1.0], [0.0, 0.3, 0.3])
        np.testing.assert_allclose(lidar(embeddings).value, 1, **CLOSE)
        assert abs(lidar(embeddings, convention=LidarConvention(delta=1e-13)).value - 1) < 1e-9

    def test_a_dead_axis_does_not_count(self, rng):
        embeddings = random_embeddings(rng)
        padded = torch.cat([embeddings, torch.full((9, 5, 2), 0.1)], -1)
        rotation = torch.linalg.qr(torch.from_numpy(rng.standard_normal((6, 6))))[0]
        np.testing.assert_allclose(lidar(padded).value, lidar(embeddings).value, **CLOSE)
        np.testing.assert_allclose(lidar(padded @ rotation).value, lidar(embeddings).value, **CLOSE)

    def test_objects_that_agree(self, rng):
        views = torch.from_numpy(rng.standard_normal((1, 5, 4)))
        assert lidar(views.expand(6, 5, 4)).value == 0
        assert lidar(torch.ones(6, 5, 4)).value == 0
        np.testing.assert_allclose(lidar(torch.ones(6, 5, 4), convention="stable-ssl").value, 1, **CLOSE)

    def test_too_few(self, complaint):
        with complaint("shape of embeddings", "object ≥ 2, view ≥ 2"):
            lidar(torch.ones(5, 1, 3))

    def test_bad_guard(self, complaint):
        with complaint("epsilon", "must be 0 with the guard none"):
            LidarConvention(guard="added")
        with complaint("delta"):
            LidarConvention(delta=-1.0)


def test_not_the_wrong_formula(rng):
    """A known defect: the d × d matrix taken as activations, centred by row, squared singular values."""
    embeddings = random_embeddings(rng)
    e = embeddings.numpy()
    mean = e.mean(1)
    between = (mean - mean.mean(0)).T @ (mean - mean.mean(0))
    rest = (e - mean[:, None]).reshape(-1, 4)
    values, vectors = np.linalg.eigh(rest.T @ rest + 1e-6 * np.eye(4))
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    matrix = root @ between @ root
    p = np.linalg.svd(matrix - matrix.mean(1, keepdims=True), compute_uv=False) ** 2
    p = p / p.sum()
    wrong = np.exp(-(p * np.log(p + 1e-7)).sum())
    assert abs(wrong - lidar(embeddings).value) > 0.1
