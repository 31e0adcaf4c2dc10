"""Fourier amplitude, singular-value spectra and feature-map variance: closed forms and transcriptions (exact)."""

from math import inf, log

import numpy as np
import pytest
import torch

from vitdyn.metrics import (
    diagonal_frequencies,
    feature_map_variance,
    fourier_log_amplitude,
    singular_value_spectrum,
)
from vitdyn.metrics.spectra import FourierConvention, SpectrumConvention

CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def normal(rng, *shape):
    return torch.from_numpy(rng.standard_normal(shape))


def waves(side, frequencies, amplitudes):
    """One channel: Σ a cos(2π f (r + c)/side), whose diagonal amplitude at f is a side²/2 (a side² at 0, Nyquist)."""
    r, c = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    field = sum(
        a * np.cos(2 * np.pi * f * (r + c) / side) for f, a in zip(frequencies, amplitudes, strict=True)
    )
    return torch.from_numpy(field.reshape(-1, 1))


class TestFourier:
    def test_waves(self):
        """8 × 8 with known amplitudes at 0, 1, 2, 3 and Nyquist."""
        features = waves(8, range(5), [3.0, 1.0, 0.5, 0.25, 2.0])
        expected = [0, log(1 / 6), log(0.5 / 6), log(0.25 / 6), log(2 / 3)]
        np.testing.assert_allclose(fourier_log_amplitude(features, 8).value, expected, **CLOSE)

    def test_one_token_switched_on_is_white(self):
        features = torch.zeros(25, 2)
        features[7] = 3
        np.testing.assert_allclose(fourier_log_amplitude(features, 5).value, np.zeros(3), **CLOSE)

    @pytest.mark.parametrize("side", [4, 5])
    def test_constant(self, side):
        features = torch.full((side * side, 3), 0.1)
        found = fourier_log_amplitude(features, side).value
        assert found[0] == 0 and (found[1:] == -inf).all()
        guarded = fourier_log_amplitude(features.double(), side, convention="cl-vs-mim").value
        total = float(features[0, 0]) * side * side
        np.testing.assert_allclose(guarded[1:], log(1e-6) - log(total + 1e-6), rtol=0, atol=1e-8)

    def test_checkerboard_is_seen_at_nyquist_only(self):
        features = waves(4, [2], [1.0])
        assert fourier_log_amplitude(features, 4).value.tolist() == [0, 0, inf]
        np.testing.assert_allclose(
            fourier_log_amplitude(features, 4, convention="cl-vs-mim").value, [0, 0], rtol=0, atol=1e-8
        )

    def test_nothing_at_all(self):
        assert fourier_log_amplitude(torch.zeros(9, 2), 3).value.tolist() == [0, 0]

    @pytest.mark.parametrize("side", [4, 5, 14])
    def test_literal_cl_vs_mim(self, rng, side):
        """fft2, log, roll, mean over channels, half of the main diagonal, relative to its first."""
        features = normal(rng, 2, side * side, 3)
        grid = features.numpy().transpose(0, 2, 1).reshape(2, 3, side, side)
        level = np.log(np.abs(np.fft.fft2(grid)) + 1e-6)
        level = np.roll(level, (side // 2, side // 2), (2, 3)).mean(1)
        half = np.stack([np.diag(one)[side // 2 :] for one in level])
        found = fourier_log_amplitude(features, side, convention="cl-vs-mim").value
        np.testing.assert_allclose(found, half - half[:, :1], **CLOSE)
        exact = fourier_log_amplitude(features, side).value
        np.testing.assert_allclose(exact[:, : half.shape[1]], half - half[:, :1], rtol=0, atol=1e-3)

    def test_mean_of_logs_is_not_log_of_mean(self, rng):
        features = normal(rng, 16, 3)
        used = FourierConvention(averaged="amplitudes")
        grid = features.numpy().T.reshape(3, 4, 4)
        amplitude = np.abs(np.fft.fft2(grid))[:, [0, 1, 2], [0, 1, 2]].mean(0)
        found = fourier_log_amplitude(features, 4, convention=used).value
        np.testing.assert_allclose(found, np.log(amplitude / amplitude[0]), **CLOSE)
        assert (found - fourier_log_amplitude(features, 4).value).abs().max() > 1e-3

    def test_scale_does_not_matter_without_offset(self, rng):
        features = normal(rng, 16, 3)
        np.testing.assert_allclose(
            fourier_log_amplitude(1e-6 * features, 4).value, fourier_log_amplitude(features, 4).value, **CLOSE
        )

    def test_frequencies(self):
        np.testing.assert_allclose(diagonal_frequencies(14, convention="cl-vs-mim"), np.arange(7) / 7)
        np.testing.assert_allclose(diagonal_frequencies(14), np.arange(8) / 7)
        for name in ("exact", "cl-vs-mim"):
            np.testing.assert_allclose(diagonal_frequencies(5, convention=name), [0, 0.4, 0.8])

    def test_wrong_side(self, complaint):
        with complaint("side", "number of tokens, 12"):
            fourier_log_amplitude(torch.ones(12, 2), 4)


class TestSingularValues:
    def test_designed(self, rng):
        """X = U diag(s) Vᵀ + offset with centred orthonormal U: λ = s²/(n − 1)."""
        s = np.array([4.0, 2.0, 1.0])
        left = np.linalg.qr(np.c_[np.ones(8), rng.standard_normal((8, 3))])[0][:, 1:]
        right = np.linalg.qr(rng.standard_normal((5, 3)))[0]
        features = torch.from_numpy(left * s @ right.T + 7)
        found = singular_value_spectrum(features, by="token").value
        np.testing.assert_allclose(found, [*(s**2 / 7), 0, 0], **CLOSE)
        np.testing.assert_allclose(
            singular_value_spectrum(features, by="token", convention="singular").value, [*s, 0, 0], **CLOSE
        )
        logs = singular_value_spectrum(features, by="token", convention="cl-vs-mim").value
        np.testing.assert_allclose(logs[:3], 2 * np.log(s / 4), **CLOSE)
        assert (logs[3:] == -inf).all()

    @pytest.mark.parametrize("shape", [(9, 4), (4, 9)])
    def test_literal_by_token(self, rng, shape):
        features = normal(rng, 2, *shape)
        count = min(shape[0] - 1, shape[1])
        for b in range(2):
            values = np.linalg.svd(np.cov(features[b].numpy().T), compute_uv=False)[:count]
            np.testing.assert_allclose(
                singular_value_spectrum(features, by="token").value[b], values, **CLOSE
            )
            np.testing.assert_allclose(
                singular_value_spectrum(features, by="token", convention="cl-vs-mim").value[b],
                np.log(values) - np.log(values[0]),
                **CLOSE,
            )

    def test_literal_by_image(self, rng):
        features = normal(rng, 2, 7, 5, 4)
        for b in range(2):
            means = features[b].numpy().mean(1)
            values = np.linalg.svd(np.cov(means.T), compute_uv=False)
            np.testing.assert_allclose(
                singular_value_spectrum(features, by="image").value[b], values, **CLOSE
            )

    def test_constant(self):
        assert singular_value_spectrum(torch.full((4, 3), 0.1), by="token").value.tolist() == [0, 0, 0]
        used = SpectrumConvention(relative=True)
        found = singular_value_spectrum(torch.full((4, 3), 0.1), by="token", convention=used).value
        assert found.tolist() == [1, 1, 1]

    def test_rotations(self, rng):
        features = normal(rng, 9, 4)
        turned = features @ torch.linalg.qr(normal(rng, 4, 4))[0] + 3
        np.testing.assert_allclose(
            singular_value_spectrum(turned, by="token").value,
            singular_value_spectrum(features, by="token").value,
            **CLOSE,
        )

    def test_complaints(self, complaint):
        with complaint("by", "token, image"):
            singular_value_spectrum(torch.ones(4, 3), by="head")
        with complaint("quantity"):
            SpectrumConvention(quantity="energy")


class TestFeatureMapVariance:
    def test_literal(self, rng):
        features = normal(rng, 2, 9, 3)
        grid = features.numpy().transpose(0, 2, 1).reshape(2, 3, 3, 3)
        for name, correction in (("exact", 0), ("how-do-vits-work", 1)):
            np.testing.assert_allclose(
                feature_map_variance(features, convention=name).value,
                grid.var((2, 3), ddof=correction).mean(1),
                **CLOSE,
            )

    def test_edges(self, complaint):
        assert feature_map_variance(torch.full((7, 3), 0.1)).value == 0
        assert feature_map_variance(torch.ones(1, 3)).value == 0
        with complaint("shape of features", "token ≥ 2"):
            feature_map_variance(torch.ones(1, 3), convention="how-do-vits-work")
