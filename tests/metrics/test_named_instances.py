"""Input of which a metric once made a wrong number, by name: each refused, or right by a transcription (exact)."""

import warnings
from math import inf, isnan, log, nan

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist
from scipy.stats import kendalltau, spearmanr

from vitdyn import metrics
from vitdyn.metrics.spectra import FourierConvention

TREE = np.random.default_rng(3)
X, Y = TREE.standard_normal((12, 4)), TREE.standard_normal((12, 3))
LABELS = np.repeat(np.arange(3), 4)


class TestNamedInstances:
    """Each came out as a number."""

    @pytest.mark.parametrize("bad", [nan, inf])
    def test_one_entry(self, bad, complaint):
        spoilt = X.copy()
        spoilt[7, 2] = bad
        with complaint("first[7, 2]", "must be finite; 1 of 48 values are not"):
            metrics.cka(spoilt, Y)
        with complaint("features[7, 2]"):
            metrics.rank_me(spoilt)
        for probe, more in (
            (metrics.neighbour_accuracy, {"neighbours": 1}),
            (metrics.ridge_probe, {"penalty": 0.1}),
            (metrics.logistic_probe, {"penalty": 0.1}),
        ):
            with complaint("features[7, 2]"):
                probe(spoilt, LABELS, X, LABELS, **more)
            with complaint("test_features[0, 0]", "48 of 48"):
                probe(X, LABELS, np.full((12, 4), bad), LABELS, **more)

    def test_a_nan_in_targets_is_named(self, complaint):
        targets = Y.copy()
        targets[3, 1] = nan
        with complaint("targets[3, 1]"):
            metrics.fit_ridge(X, targets, penalty=0.1)
        with complaint("test_targets[3, 1]"):
            metrics.ridge_r_squared(X, Y, X, targets, penalty=0.1)

    def test_maps_and_coordinates(self, complaint):
        maps = np.full((2, 9, 9), 1 / 9)
        maps[1, 0, 4] = nan
        for measure in (metrics.attention_entropy, metrics.mutual_information, metrics.position_deviation):
            with complaint("attention[1, 0, 4]"):
                measure(maps)
        with complaint("positions[2, 0]"):
            metrics.attention_distance(np.eye(4), [[0, 0], [0, 1], [nan, 0], [1, 1]])

    def test_an_interval_of_scores_of_which_one_is_missing(self):
        scores = TREE.standard_normal((2, 9))
        spoilt = scores.copy()
        spoilt[0, 3] = nan
        assert all(isnan(each) for each in metrics.agreement_interval(spoilt, scores, resamples=20))

    @pytest.mark.parametrize("convention", ["spearman", "kendall"])
    def test_agreement_of_few_and_tied_models(self, convention):
        slow = {"spearman": spearmanr, "kendall": kendalltau}[convention]
        for scores, quality in (([1, 2], [2, 1]), ([1, 1, 2], [3, 4, 4]), ([1, 1, 1], [1, 2, 3])):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = slow(scores, quality).statistic
            found = metrics.rank_agreement(scores, quality, convention=convention).value
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


class TestFourier:
    def test_one_dead_channel_of_768_is_left_out(self):
        """What numpy says of the 767 live ones, at 0, 1/7, ..., 1 of π."""
        features = np.random.default_rng(0).standard_normal((196, 768)) + 0.1
        features[:, 5] = 0
        live = np.delete(features, 5, 1).T.reshape(767, 14, 14)
        level = np.log(np.abs(np.fft.fft2(live))).mean(0).diagonal()[:8]
        np.testing.assert_allclose(
            metrics.fourier_log_amplitude(features, 14).value, level - level[0], rtol=0, atol=1e-10
        )

    def test_a_constant_channel_has_no_amplitude_and_says_so(self):
        features = np.c_[TREE.standard_normal((16, 3)), np.full(16, 0.1)]
        assert metrics.fourier_log_amplitude(features, 4).value.tolist() == [0, -inf, -inf]

    def test_amplitudes_that_vanish_here_and_there(self):
        """Of two channels, one without DC and one without anything else: −∞ less −∞ is no number."""
        board = np.indices((4, 4)).sum(0).ravel() % 2 * 2.0 - 1
        found = metrics.fourier_log_amplitude(np.c_[board, np.ones(16)], 4).value
        assert found[0] == 0 and found[1] == -inf and isnan(found[2])
        bump = np.r_[np.zeros(15), 1.0]  # white: 0 at every frequency
        assert metrics.fourier_log_amplitude(np.c_[board, bump], 4).value.tolist() == [0, 0, inf]

    def test_a_source_that_counts_dead_channels_is_reproduced(self):
        features = np.c_[TREE.standard_normal((16, 2)), np.zeros(16)]
        level = np.log(np.abs(np.fft.fft2(features.T.reshape(3, 4, 4))) + 1e-6).mean(0).diagonal()[:2]
        found = metrics.fourier_log_amplitude(features, 4, convention="cl-vs-mim").value
        np.testing.assert_allclose(found, level - level[0], rtol=0, atol=1e-10)

    @pytest.mark.parametrize("grid", [(4, 8), (12, 8), (9, 6), (4, 4)])
    def test_a_rectangular_grid_is_read_where_its_axes_share_a_frequency(self, grid):
        rows, columns = grid
        features = TREE.standard_normal((2, rows * columns, 3))
        spectrum = np.abs(np.fft.fft2(features.transpose(0, 2, 1).reshape(2, 3, rows, columns)))
        common = np.gcd(rows, columns)
        pairs = [(k * rows // common, k * columns // common) for k in range(common // 2 + 1)]
        for name, offset, count in (("exact", 0, len(pairs)), ("cl-vs-mim", 1e-6, (common + 1) // 2)):
            level = np.log(np.stack([spectrum[..., r, c] for r, c in pairs], -1) + offset).mean(1)[:, :count]
            found = metrics.fourier_log_amplitude(features, grid, convention=name).value
            np.testing.assert_allclose(found, level - level[:, :1], rtol=0, atol=1e-10)
            frequencies = metrics.diagonal_frequencies(grid, convention=name)
            np.testing.assert_allclose(
                frequencies, [2 * r / rows for r, _ in pairs][:count], rtol=0, atol=1e-15
            )

    def test_a_grid_without_such_a_frequency_is_refused(self, complaint):
        with complaint("side", "a frequency in common besides 0"):
            metrics.fourier_log_amplitude(np.ones((56, 2)), (7, 8))
        with complaint("side", "the number of tokens, 56"):
            metrics.fourier_log_amplitude(np.ones((56, 2)), (7, 7))

    def test_amplitudes_may_be_averaged_first(self):
        used = FourierConvention(averaged="amplitudes")
        features = np.c_[TREE.standard_normal((16, 2)), np.zeros(16)]
        live = metrics.fourier_log_amplitude(features[:, :2], 4, convention=used).value
        np.testing.assert_allclose(
            metrics.fourier_log_amplitude(features, 4, convention=used).value, live, rtol=0, atol=1e-12
        )

    def test_depths_are_read_on_rectangular_grids(self):
        tokens = TREE.standard_normal((5, 33, 3))
        found = metrics.representations_by_depth([tokens], (4, 8), prefix=1)["high_frequency"]
        expected = metrics.fourier_log_amplitude(tokens[:, 1:], (4, 8)).value[:, -1].mean()
        assert torch.equal(found[0], expected)


class TestLabels:
    @pytest.mark.parametrize("offset", [0, 1_440_764, 2**40])
    @pytest.mark.parametrize("convention", ["exact", "dino"])
    def test_their_numbers_do_not_matter_to_a_vote(self, offset, convention):
        """Nor to its memory: a column for each number up to 2^40 would be 8 TB a query."""
        found = metrics.neighbour_accuracy(
            X, LABELS + offset, Y @ Y.T[:, :4], LABELS + offset, neighbours=3, convention=convention
        )
        plain = metrics.neighbour_accuracy(
            X, LABELS, Y @ Y.T[:, :4], LABELS, neighbours=3, convention=convention
        )
        assert torch.equal(found.value, plain.value)

    def test_a_fit_of_labels_with_a_gap_is_refused_before_they_are_counted(self, complaint):
        with complaint("labels", "must occur"):
            metrics.fit_logistic(X, LABELS + 2**40, penalty=0.1)

    @pytest.mark.parametrize("truth", [0, 1])
    def test_one_class_is_all_that_can_be_predicted(self, truth):
        labels, asked = np.zeros(12, int), np.full(12, truth)
        for probe, more in (
            (metrics.neighbour_accuracy, {"neighbours": 3}),
            (metrics.ridge_probe, {"penalty": 0.1}),
            (metrics.logistic_probe, {"penalty": 0.1}),
        ):
            assert probe(X, labels, X, asked, **more).value == 1 - truth

    def test_true_and_false_are_labels(self):
        labels = LABELS > 0
        found = metrics.ridge_probe(X, labels, Y @ Y.T[:, :4], labels, penalty=0.1).value
        assert found == metrics.ridge_probe(X, 1 * labels, Y @ Y.T[:, :4], 1 * labels, penalty=0.1).value


class TestRoundOff:
    """What differs by the round-off of a mean or of a product only must decide nothing."""

    @pytest.fixture
    def tight(self):
        """Two clusters of diameter 1e-3, a million apart: products of vectors cannot tell the members apart."""
        middle = np.repeat([[0.0, 0, 0], [1e6, 0, 0]], 100, 0)
        return middle + 1e-3 * np.random.default_rng(1).standard_normal((200, 3))

    @pytest.mark.parametrize("count", [1, 7])
    def test_neighbours_in_tight_clusters(self, tight, count):
        apart = cdist(tight, tight)
        np.fill_diagonal(apart, inf)
        found = metrics.nearest(tight, tight, count, known="others")
        assert (found.row.numpy() == np.argsort(apart, 1)[:, :count]).all()
        np.testing.assert_allclose(found.distance, np.sort(apart, 1)[:, :count], rtol=1e-9)

    def test_dimension_of_tight_clusters(self, tight):
        apart = np.sort(cdist(tight, tight), 1)
        expected = 200 / np.log(apart[:, 2] / apart[:, 1]).sum()
        np.testing.assert_allclose(metrics.intrinsic_dimension(tight).value, expected, rtol=1e-6)

    def test_clusters_within_tight_clusters(self):
        """Four groups in two far pairs; with a centre in each, every sample is with its own."""
        middle = np.repeat([[0.0, 0], [0.01, 0], [1e6, 0], [1e6 + 0.01, 0]], 30, 0)
        x = middle + 1e-5 * np.random.default_rng(2).standard_normal((120, 2))
        label = metrics.k_means(x, 4, seed=0).numpy()
        centres = np.stack([x[label == each].mean(0) for each in range(4)])
        assert (label == cdist(x, centres).argmin(1)).all()

    def test_potentials_of_far_clusters(self):
        x = np.repeat([[0.0, 0, 0], [1e8, 0, 0]], 10, 0) + np.random.default_rng(3).standard_normal((20, 3))
        expected = log(np.exp(-2 * pdist(x) ** 2).mean())
        found = metrics.uniformity(x, convention="unnormalised").value
        np.testing.assert_allclose(found, expected, rtol=1e-9)

    def test_objects_of_one_mean_are_not_separated(self):
        """Views that sum to 0: means of 1e-17 are none."""
        views = TREE.standard_normal((6, 3, 4))
        views = views - views.mean(1, keepdims=True)
        for offset in (0, TREE.standard_normal(4)):
            assert metrics.lidar(views + offset).value == 0

    def test_images_of_one_mean_have_no_spectrum(self):
        image = TREE.standard_normal((9, 4))
        images = np.stack([image[TREE.permutation(9)] for _ in range(6)])
        assert (metrics.singular_value_spectrum(images, by="image").value == 0).all()
