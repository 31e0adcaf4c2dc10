"""Homogeneity and CKA: closed forms, transcriptions, invariances (exact)."""

from math import isnan

import numpy as np
import pytest
import torch

from vitdyn.metrics import cka, homogeneity
from vitdyn.metrics.similarity import CosineConvention

CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def normal(rng, *shape):
    return torch.from_numpy(rng.standard_normal(shape))


def cosine(x, y):
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


class TestHomogeneity:
    def test_parallel(self, rng):
        lengths = torch.from_numpy(rng.uniform(0.1, 9, (6, 1)))
        np.testing.assert_allclose(homogeneity(lengths * normal(rng, 1, 5), over="token").value, 1, **CLOSE)

    def test_orthogonal_and_simplex(self):
        np.testing.assert_allclose(homogeneity(torch.eye(5), over="token").value, 0, **CLOSE)
        simplex = torch.eye(5, dtype=torch.float64) - 1 / 5
        np.testing.assert_allclose(homogeneity(simplex, over="token").value, -1 / 4, **CLOSE)

    def test_literal_tokens(self, rng):
        x = normal(rng, 6, 5)
        pairs = [cosine(x[i].numpy(), x[j].numpy()) for i in range(6) for j in range(6) if i != j]
        np.testing.assert_allclose(homogeneity(x, over="token").value, np.mean(pairs), **CLOSE)

    def test_literal_heads(self, rng):
        x = normal(rng, 2, 4, 6, 5)
        for b in range(2):
            pairs = [
                cosine(x[b, h, t].numpy(), x[b, g, t].numpy())
                for t in range(6)
                for h in range(4)
                for g in range(4)
                if g != h
            ]
            np.testing.assert_allclose(homogeneity(x, over="head").value[b], np.mean(pairs), **CLOSE)

    def test_literal_depth(self, rng):
        x = normal(rng, 4, 6, 5)
        expected = [np.mean([cosine(x[m, t].numpy(), x[-1, t].numpy()) for t in range(6)]) for m in range(4)]
        found = homogeneity(x, over="depth").value
        np.testing.assert_allclose(found, expected, **CLOSE)
        np.testing.assert_allclose(found[-1], 1, **CLOSE)

    def test_attention_maps_too(self):
        """One row for all queries is homogeneous, a permutation is not; equal heads are homogeneous."""
        uniform = torch.full((6, 6), 1 / 6)
        np.testing.assert_allclose(homogeneity(uniform, over="token").value, 1, **CLOSE)
        np.testing.assert_allclose(homogeneity(torch.eye(6), over="token").value, 0, **CLOSE)
        np.testing.assert_allclose(homogeneity(torch.eye(6).expand(3, 6, 6), over="head").value, 1, **CLOSE)

    def test_scale_of_a_vector(self, rng):
        x = normal(rng, 6, 5)
        for scale in (1e-200, 1e200):
            np.testing.assert_allclose(
                homogeneity(scale * x, over="token").value, homogeneity(x, over="token").value, **CLOSE
            )

    @pytest.mark.parametrize("over", ["token", "head", "depth"])
    def test_vectors_of_length_zero(self, rng, over):
        x = normal(rng, 3, 4, 5)
        x[1, 2] = 0
        if over == "token":
            x = x[1]
            kept = homogeneity(x[[0, 1, 3]], over="token").value
            np.testing.assert_allclose(homogeneity(x, over=over).value, kept, **CLOSE)
            counted = homogeneity(x, over=over, convention="torch").value
            np.testing.assert_allclose(counted, kept * 6 / 12, **CLOSE)
        elif over == "head":
            each = [homogeneity(x[:, t], over="token").value for t in range(4)]
            np.testing.assert_allclose(homogeneity(x, over=over).value, np.mean(each), **CLOSE)
        else:
            each = [cosine(x[1, t].numpy(), x[2, t].numpy()) for t in (0, 1, 3)]
            np.testing.assert_allclose(homogeneity(x, over=over).value[1], np.mean(each), **CLOSE)
            counted = homogeneity(x, over=over, convention="torch").value[1]
            np.testing.assert_allclose(counted, np.sum(each) / 4, **CLOSE)

    def test_nothing_with_a_direction(self):
        assert isnan(homogeneity(torch.zeros(3, 2), over="token").value)
        assert homogeneity(torch.zeros(3, 2), over="token", convention="torch").value == 0

    def test_complaints(self, complaint):
        with complaint("over", "token, head, depth"):
            homogeneity(torch.ones(3, 2), over="layer")
        with complaint("shape of vectors", "head ≥ 2"):
            homogeneity(torch.ones(1, 3, 2), over="head")
        with complaint("without_direction"):
            CosineConvention(without_direction="nan")


def hsic(k, m):
    """Unbiased estimate, sum by sum over distinct indices of the Gram matrices."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    one = np.ones(n)
    return (
        np.trace(k @ m)
        + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
        - 2 / (n - 2) * (one @ k @ m @ one)
    ) / (n * (n - 3))


class TestCka:
    @pytest.mark.parametrize("dimensions", [(3, 4), (30, 40)])
    def test_literal(self, rng, dimensions):
        """More features than samples too, where Gram matrices are the smaller."""
        x, y = (normal(rng, 8, d) for d in dimensions)
        centre = np.eye(8) - 1 / 8
        k, m = (centre @ z.numpy() @ z.numpy().T @ centre for z in (x, y))
        expected = np.trace(k @ m) / np.sqrt(np.trace(k @ k) * np.trace(m @ m))
        np.testing.assert_allclose(cka(x, y).value, expected, **CLOSE)

    def test_literal_unbiased(self, rng):
        x, y = normal(rng, 8, 3), normal(rng, 8, 4)
        y[:, :3] += x
        k, m = (z.numpy() @ z.numpy().T for z in (x, y))
        expected = hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))
        np.testing.assert_allclose(cka(x, y, convention="unbiased").value, expected, **CLOSE)

    @pytest.mark.parametrize("name", ["exact", "unbiased"])
    def test_orthogonal_maps_scale_and_shift(self, rng, name):
        x, y = normal(rng, 9, 4), normal(rng, 9, 5)
        y[:, :4] += x
        rotation = torch.linalg.qr(normal(rng, 5, 5))[0]
        expected = cka(x, y, convention=name).value
        for scale in (1e-100, 3.0, 1e100):
            found = cka(x, scale * (y @ rotation + 2), convention=name).value
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
        np.testing.assert_allclose(cka(y, 3 * y @ rotation, convention=name).value, 1, **CLOSE)
        assert abs(cka(x, y @ normal(rng, 5, 5), convention=name).value - expected) > 1e-4

    def test_uncorrelated(self):
        signs = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
        np.testing.assert_allclose(cka(signs[:, :1], signs[:, 1:]).value, 0, **CLOSE)

    def test_projections(self):
        """X isotropic of d dimensions, Y its first r: √(r/d)."""
        x = torch.cat([torch.eye(5), -torch.eye(5)])
        np.testing.assert_allclose(cka(x, x[:, :2]).value, np.sqrt(2 / 5), **CLOSE)

    @pytest.mark.parametrize("name", ["exact", "unbiased"])
    def test_constant(self, rng, name):
        constant = torch.full((6, 3), 0.1)
        assert cka(normal(rng, 6, 2), constant, convention=name).value == 0
        assert cka(constant, constant, convention=name).value == 0

    def test_complaints(self, complaint):
        with complaint("second", "same 5 samples"):
            cka(torch.ones(5, 2), torch.ones(6, 2))
        with complaint("shape of first", "sample ≥ 4"):
            cka(torch.ones(3, 2), torch.ones(3, 2), convention="unbiased")
