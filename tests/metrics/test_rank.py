"""RankMe, NESum, participation ratio, α-ReQ: closed forms, transcriptions, invariances (exact)."""

from math import inf, isnan

import numpy as np
import pytest
import torch

from vitdyn.metrics import ne_sum, participation_ratio, rank_me, spectral_decay
from vitdyn.metrics.rank import RANK, DecayConvention, RankConvention

CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def normal(rng, *shape):
    return torch.from_numpy(rng.standard_normal(shape))


def with_spectrum(rng, values, samples=40, dimension=12, *, centred=True):
    """Features with singular values ``values``, of mean 0 where ``centred``."""
    values = np.asarray(values)
    first = np.ones(samples) if centred else rng.standard_normal(samples)
    left = np.linalg.qr(np.c_[first, rng.standard_normal((samples, len(values)))])[0][:, 1:]
    right = np.linalg.qr(rng.standard_normal((dimension, len(values))))[0]
    return torch.from_numpy(left * values @ right.T)


def entropic(p):
    return np.exp(-(p * np.log(p)).sum())


class TestRankMe:
    @pytest.mark.parametrize("rank", [1, 5, 12])
    def test_equal_singular_values(self, rng, rank):
        features = with_spectrum(rng, [2.0] * rank, centred=False)
        np.testing.assert_allclose(rank_me(features).value, rank, **CLOSE)

    def test_identity_and_zero(self):
        np.testing.assert_allclose(rank_me(torch.eye(7)).value, 7, **CLOSE)
        for name in RANK:
            assert rank_me(torch.zeros(5, 3), convention=name).value == 0

    def test_constant_features_have_rank_one_or_none(self):
        """Uncentred, one direction; centred, nothing is left."""
        features = torch.full((6, 3), 0.1)
        np.testing.assert_allclose(rank_me(features).value, 1, **CLOSE)
        assert rank_me(features, convention="req-metrics").value == 0

    @pytest.mark.parametrize("name", RANK)
    def test_literal(self, rng, name):
        used = RANK[name]
        features = normal(rng, 9, 5) + 1
        z = features.numpy()
        s = np.linalg.svd(z - z.mean(0) if used.centred else z, compute_uv=False)
        s = s**2 if used.weights == "variance" else s
        expected = entropic(s / s.sum() + used.epsilon)
        np.testing.assert_allclose(rank_me(features, convention=name).value, expected, **CLOSE)

    @pytest.mark.parametrize("guard", ["renormalised", "mixed", "inside"])
    def test_literal_guards(self, rng, guard):
        features = normal(rng, 9, 5)
        s, eps = np.linalg.svd(features.numpy(), compute_uv=False), 1e-3
        p = s / s.sum() + eps
        p = {"renormalised": p / p.sum(), "mixed": (s + eps) / (s + eps).sum(), "inside": s / (s.sum() + eps)}
        expected = (
            np.exp(-(p[guard] * np.log(p[guard] + eps)).sum()) if guard == "inside" else entropic(p[guard])
        )
        used = RankConvention(guard=guard, epsilon=eps)
        np.testing.assert_allclose(rank_me(features, convention=used).value, expected, **CLOSE)

    def test_rotations_and_scale(self, rng):
        features = normal(rng, 9, 5) + 1
        left, right = (torch.linalg.qr(normal(rng, n, n))[0] for n in (9, 5))
        expected = rank_me(features).value
        np.testing.assert_allclose(rank_me(1e5 * left @ features @ right).value, expected, **CLOSE)
        assert abs(rank_me(features + 1).value - expected) > 1e-3
        shifted = rank_me(features + 1, convention="reptrix").value
        np.testing.assert_allclose(shifted, rank_me(features, convention="reptrix").value, **CLOSE)

    def test_complaints(self, complaint):
        with complaint("guard", "none, added"):
            RankConvention(guard="clipped")
        with complaint("weights", "singular, variance"):
            RankConvention(weights="energy")


class TestSums:
    @pytest.mark.parametrize("rank", [1, 5, 12])
    def test_equal_eigenvalues(self, rng, rank):
        features = with_spectrum(rng, [2.0] * rank) + 3
        np.testing.assert_allclose(ne_sum(features).value, rank, **CLOSE)
        np.testing.assert_allclose(participation_ratio(features).value, rank, **CLOSE)

    def test_designed(self, rng):
        features = with_spectrum(rng, [4.0, 2.0, 1.0])
        np.testing.assert_allclose(ne_sum(features).value, 21 / 16, **CLOSE)
        np.testing.assert_allclose(participation_ratio(features).value, 21**2 / (256 + 16 + 1), **CLOSE)

    def test_literal_and_scale(self, rng):
        features = normal(rng, 9, 5)
        values = np.linalg.eigvalsh(np.cov(features.numpy().T))
        for scale in (1e-100, 1.0, 1e100):
            np.testing.assert_allclose(ne_sum(scale * features).value, values.sum() / values.max(), **CLOSE)
            np.testing.assert_allclose(
                participation_ratio(scale * features).value, values.sum() ** 2 / (values**2).sum(), **CLOSE
            )

    def test_constant(self):
        assert ne_sum(torch.full((5, 3), 0.1)).value == 0
        assert participation_ratio(torch.full((5, 3), 0.1)).value == 0


class TestDecay:
    @pytest.mark.parametrize("alpha", [0.0, 0.5, 1.7])
    @pytest.mark.parametrize("name", ["exact", "equal"])
    def test_a_power_law(self, rng, alpha, name):
        features = with_spectrum(rng, np.arange(1, 13.0) ** (-alpha / 2))
        for first, last in ((1, 12), (3, 9), (3, 100)):
            found = spectral_decay(features, first=first, last=last, convention=name).value
            np.testing.assert_allclose(found, alpha, **CLOSE)

    def test_literal(self, rng):
        features = normal(rng, 300, 150)
        values = np.sort(np.linalg.eigvalsh(np.cov(features.numpy().T)))[::-1]
        j = np.arange(11, 101)
        weight, x, y = 1 / j, np.log(j), np.log(values[10:100])
        design = np.c_[x, np.ones_like(x)] * np.sqrt(weight)[:, None]
        slope = np.linalg.lstsq(design, y * np.sqrt(weight), rcond=None)[0][0]
        np.testing.assert_allclose(spectral_decay(features).value, -slope, **CLOSE)

    def test_the_range_matters(self, rng):
        features = normal(rng, 300, 150)
        assert abs(spectral_decay(features).value - spectral_decay(features, first=1).value) > 0.05

    def test_a_spectrum_that_ends(self, rng):
        features = with_spectrum(rng, [2.0, 1.0, 0.5])
        assert spectral_decay(features, first=1, last=6).value == inf
        assert isnan(spectral_decay(features, first=6, last=9).value)

    def test_complaints(self, rng, complaint):
        with complaint("first", "two eigenvalues"):
            spectral_decay(normal(rng, 12, 40))
        with complaint("last"):
            spectral_decay(normal(rng, 12, 40), first=3, last=3)
        with complaint("weights", "1/j, equal"):
            DecayConvention(weights="j")


def test_the_numbers_of_a_peer_s_own_tests():
    """Its normals, 1000 × 1024 in float32, to the digits at hand."""
    features = torch.randn(1000, 1024, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(rank_me(features, convention="reptrix").value, 613.4726, rtol=3e-7)
    np.testing.assert_allclose(spectral_decay(features).value, 0.148936, rtol=0, atol=1e-6)
