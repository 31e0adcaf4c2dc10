"""Alignment, uniformity, intrinsic dimension, k-means and CLID: closed forms, loops, edges (exact)."""

from math import inf, isnan, log

import numpy as np
import pytest
import torch

from vitdyn.metrics import (
    alignment,
    clid,
    cluster_learnability,
    intrinsic_dimension,
    k_means,
    uniformity,
)
from vitdyn.metrics.clusters import DimensionConvention
from vitdyn.metrics.geometry import SphereConvention

CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def normal(rng, *shape):
    return torch.from_numpy(rng.standard_normal(shape))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


class TestAlignment:
    def test_closed_forms(self, rng):
        x = normal(rng, 6, 4)
        np.testing.assert_allclose(alignment(x, 3 * x).value, 0, **CLOSE)
        np.testing.assert_allclose(alignment(x, -x).value, 4, **CLOSE)
        np.testing.assert_allclose(alignment(torch.eye(4), torch.eye(4).roll(1, 0)).value, 2, **CLOSE)

    @pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
    def test_literal(self, rng, power):
        x, y = normal(rng, 6, 4), normal(rng, 6, 4)
        used = SphereConvention(power=power)
        expected = np.mean([np.linalg.norm(unit(a) - unit(b)) ** power for a, b in zip(x, y, strict=True)])
        np.testing.assert_allclose(alignment(x, y, convention=used).value, expected, **CLOSE)

    def test_unnormalised(self, rng):
        x, y = normal(rng, 6, 4), normal(rng, 6, 4)
        expected = (x - y).square().sum(-1).mean()
        np.testing.assert_allclose(alignment(x, y, convention="unnormalised").value, expected, **CLOSE)

    def test_length_zero(self):
        assert alignment(torch.zeros(2, 3), torch.eye(3)[:2]).value == 1

    def test_complaint(self, complaint):
        with complaint("second", "a pair for each row"):
            alignment(torch.ones(5, 2), torch.ones(4, 2))


class TestUniformity:
    def test_closed_forms(self, rng):
        agreeing = torch.from_numpy(rng.uniform(0.1, 9, (6, 1))) * normal(rng, 1, 5)
        np.testing.assert_allclose(uniformity(agreeing).value, 0, **CLOSE)
        np.testing.assert_allclose(uniformity(torch.tensor([[1.0, 0], [-2, 0]])).value, -8, **CLOSE)
        np.testing.assert_allclose(uniformity(torch.eye(7)).value, -4, **CLOSE)

    @pytest.mark.parametrize("count", [2, 9, 700])
    def test_literal(self, rng, count):
        """Over pairs i < j; 700 rows take more than one block."""
        x = normal(rng, count, 4)
        apart = np.linalg.norm(unit(x.numpy())[:, None] - unit(x.numpy()), axis=-1) ** 2
        pairs = apart[np.triu_indices(count, 1)]
        np.testing.assert_allclose(uniformity(x).value, log(np.exp(-2 * pairs).mean()), **CLOSE)

    def test_unnormalised_and_far_from_the_origin(self, rng):
        x = normal(rng, 9, 4)
        pairs = (x[:, None] - x).square().sum(-1).numpy()[np.triu_indices(9, 1)]
        expected = log(np.exp(-2 * pairs).mean())
        np.testing.assert_allclose(uniformity(x, convention="unnormalised").value, expected, **CLOSE)
        far = uniformity(x + 1e4, convention="unnormalised").value
        np.testing.assert_allclose(far, expected, rtol=1e-8)

    def test_a_high_temperature_does_not_underflow(self):
        used = SphereConvention(temperature=1e3)
        found = uniformity(torch.eye(3), convention=used).value
        np.testing.assert_allclose(found, -2e3, **CLOSE)

    def test_rotations(self, rng):
        x = normal(rng, 9, 4)
        turned = x @ torch.linalg.qr(normal(rng, 4, 4))[0]
        np.testing.assert_allclose(uniformity(turned).value, uniformity(x).value, **CLOSE)


class TestIntrinsicDimension:
    @pytest.mark.parametrize("name", ["exact", "facco"])
    def test_literal(self, rng, name):
        x = normal(rng, 30, 3)
        apart = np.linalg.norm(x.numpy()[:, None] - x.numpy(), axis=-1)
        ratios = np.sort([np.sort(row)[2] / np.sort(row)[1] for row in apart])
        if name == "exact":
            expected = 30 / np.log(ratios).sum()
        else:
            u, v = np.log(ratios[:27]), -np.log(1 - np.arange(1, 28) / 30)
            expected = (u * v).sum() / (u * u).sum()
        np.testing.assert_allclose(intrinsic_dimension(x, convention=name).value, expected, **CLOSE)

    def test_scale_rotation_embedding(self, rng):
        x = normal(rng, 40, 3)
        wide = torch.cat([x, torch.zeros(40, 5)], 1) @ torch.linalg.qr(normal(rng, 8, 8))[0]
        np.testing.assert_allclose(
            intrinsic_dimension(50 * wide + 3).value, intrinsic_dimension(x).value, rtol=1e-9
        )

    def test_ratios_given_by_hand(self):
        """Three points on a line at 0, 1, 3: ratios 3/1, 2/1, 3/2."""
        found = intrinsic_dimension(torch.tensor([[0.0], [1.0], [3.0]])).value
        np.testing.assert_allclose(found, 3 / log(3 * 2 * 1.5), **CLOSE)

    def test_duplicates_are_left_out(self):
        points = torch.tensor([[0.0], [1.0], [3.0], [100.0], [100.0]])
        found = intrinsic_dimension(points).value
        np.testing.assert_allclose(found, 3 / log(3 * 2 * 1.5), **CLOSE)
        assert isnan(intrinsic_dimension(torch.ones(4, 2)).value)

    def test_equal_distances(self):
        assert intrinsic_dimension(torch.eye(4)).value == inf

    def test_complaint(self, complaint):
        with complaint("discarded", "must be 0 with the likelihood"):
            DimensionConvention(discarded=0.1)


def test_the_dimension_of_a_cloud(rng):
    """Statistical: 2000 points on a plane in ten dimensions; the estimate has standard error d/√n."""
    plane = torch.from_numpy(rng.uniform(size=(2000, 2))) @ normal(rng, 2, 10)
    found = float(intrinsic_dimension(plane).value)
    assert abs(found - 2) < 5 * 2 / np.sqrt(2000)


def separated(rng, clusters=4, each=6):
    centres = 100 * torch.eye(clusters, dtype=torch.float64)
    order = rng.permutation(clusters * each)
    label = np.repeat(np.arange(clusters), each)[order]
    return centres[label] + normal(rng, clusters * each, clusters), label


class TestClusters:
    def test_separated_clusters_are_found(self, rng):
        x, label = separated(rng)
        found = k_means(x, 4, seed=1).numpy()
        assert len(set(zip(found, label, strict=True))) == 4

    def test_no_sample_gains_by_moving(self, rng):
        x = normal(rng, 50, 3)
        label = k_means(x, 5, seed=2)
        centres = torch.stack([x[label == c].mean(0) for c in range(5)])
        assert torch.equal(torch.cdist(x, centres).argmin(1), label)

    def test_the_seed_decides(self, rng):
        x = normal(rng, 50, 3)
        assert torch.equal(k_means(x, 5, seed=2), k_means(x, 5, seed=2))
        assert any(not torch.equal(k_means(x, 5, seed=2), k_means(x, 5, seed=s)) for s in range(3, 9))

    def test_equal_samples(self):
        assert k_means(torch.ones(6, 2), 3, seed=0).unique().numel() == 1

    @pytest.mark.parametrize(("name", "least"), [("exact", 1.0), ("prequential", 1 - 3 / 23)])
    def test_separated_clusters_are_learnable(self, rng, name, least):
        """Prequential: the first sample of each further cluster cannot be known."""
        x, _ = separated(rng)
        found = cluster_learnability(x, clusters=4, seed=1, convention=name).value
        np.testing.assert_allclose(found, least, **CLOSE)

    @pytest.mark.parametrize("name", ["exact", "prequential"])
    def test_literal(self, rng, name):
        x = normal(rng, 30, 2)
        label = k_means(x, 5, seed=3).numpy()
        hits = []
        for i in range(30):
            others = range(i) if name == "prequential" else [j for j in range(30) if j != i]
            if others:
                near = min(others, key=lambda j: float((x[i] - x[j]).square().sum()))
                hits.append(label[near] == label[i])
        found = cluster_learnability(x, clusters=5, seed=3, convention=name).value
        np.testing.assert_allclose(found, np.mean(hits), **CLOSE)

    def test_complaint(self, complaint):
        with complaint("clusters", "number of samples"):
            k_means(torch.ones(3, 2), 4, seed=0)


class TestClid:
    def test_literal(self, rng):
        a, b = rng.uniform(size=5), rng.uniform(1, 20, size=5)
        expected = (a - a.mean()) / a.std() + (b - b.mean()) / b.std()
        np.testing.assert_allclose(clid(torch.from_numpy(a), torch.from_numpy(b)).value, expected, **CLOSE)

    def test_what_all_share_adds_nothing(self):
        found = clid(torch.full((3,), 0.1), torch.tensor([1.0, 2.0, 3.0])).value
        np.testing.assert_allclose(found, np.array([-1, 0, 1]) * np.sqrt(1.5), **CLOSE)

    def test_complaint(self, complaint):
        with complaint("dimension", "same 3 models"):
            clid(torch.ones(3), torch.ones(4))
