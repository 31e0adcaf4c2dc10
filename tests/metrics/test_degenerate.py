"""Metrics of degenerate but legal input, against slow transcriptions of their formulas (exact: float64 round-off).

Dead and constant units, rows of zeros, duplicates, few and equal samples; labels of any numbers; what round-off alone
would decide. A transcription that ends in 0/0 is told what the notes say of it.
"""

import warnings
from math import inf, isnan, log, nan

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist
from scipy.stats import kendalltau, spearmanr
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.neighbors import KNeighborsClassifier

from vitdyn import metrics
from vitdyn.metrics.spectra import FourierConvention

TREE = np.random.default_rng(3)
X, Y = TREE.standard_normal((12, 4)), TREE.standard_normal((12, 3))
LABELS = np.repeat(np.arange(3), 4)


def without(column, value):
    changed = X.copy()
    changed[:, column] = value
    return changed


def with_row(value):
    changed = X.copy()
    changed[3] = value
    return changed


INPUTS = {
    "plain": X,
    "a dead unit": without(1, 0.0),
    "a constant unit": without(1, 0.3),
    "two dead units": np.c_[X[:, :2], np.zeros((12, 2))],
    "a unit twice": np.c_[X, X[:, :1]],
    "a row of zeros": with_row(0.0),
    "an outlier": with_row(1e6),
    "every sample twice": np.repeat(X[:6], 2, 0),
    "one sample often": np.r_[X[:2], np.tile(X[2], (10, 1))],
    "equal samples": np.tile(X[0], (12, 1)),
    "zeros": np.zeros((12, 4)),
    "one unit": X[:, :1],
    "far from the origin": X + 1e3,
}


def ratio(one, other, empty):
    return one / other if other else empty


def entropic(weights):
    p = weights[weights > 1e-14 * max(weights.max(), 1e-300)]
    p = p / p.sum() if len(p) else p
    return np.exp(-(p * np.log(p)).sum()) if len(p) else 0.0


def covariance_values(x):
    values = np.linalg.svd(x - x.mean(0), compute_uv=False) ** 2 / (len(x) - 1)
    return np.where(values > 1e-26 * max(values[0], (x**2).max()), values, 0.0)


def slow_cka(x, y=Y):
    centring = np.eye(12) - 1 / 12
    k, m = (centring @ (v - v[0]) @ (v - v[0]).T @ centring for v in (x, y))
    return ratio((k * m).sum(), np.sqrt((k * k).sum() * (m * m).sum()), 0.0)


def slow_homogeneity(x):
    cosines = [
        x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j])
        for i in range(12)
        for j in range(i)
        if x[i].any() and x[j].any()
    ]
    return np.mean(cosines) if cosines else nan


def on_the_sphere(x):
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length == 0, 1, length)


def slow_dimension(x):
    apart = np.sort(np.linalg.norm(x[:, None] - x, axis=-1), 1)[:, 1:3]
    ratios = [b / a for a, b in apart if a > 0]
    return ratio(len(ratios), sum(map(log, ratios)), inf) if ratios else nan


def slow_neighbours(x):
    return KNeighborsClassifier(3, algorithm="brute").fit(x, LABELS).score(X + 0.1, LABELS)


def slow_ridge(x):
    fit = Ridge(alpha=1.2, solver="svd").fit(x, np.eye(3)[LABELS])
    return (fit.predict(x + 0.1).argmax(1) == LABELS).mean()


def slow_determination(x):
    fit = Ridge(alpha=1.2, solver="svd").fit(x, Y)
    return r2_score(Y[::-1], fit.predict(x), multioutput="raw_values")


def slow_logistic(x):
    fit = LogisticRegression(C=1 / 1.2, tol=1e-10, max_iter=10_000).fit(x, LABELS)
    return fit.score(x + 0.1, LABELS)


def labelled(function, **more):
    """Return a call on x and labels; of test samples near the training ones, or, for neighbours, of plain ones."""
    plain = function is metrics.neighbour_accuracy
    return lambda x: function(x, LABELS, (X if plain else x) + 0.1, LABELS, **more).value


# name: ours, a transcription, inputs that it does not have
SLOW = {
    "cka": (lambda x: metrics.cka(x, Y).value, slow_cka, ()),
    "rank_me": (
        lambda x: metrics.rank_me(x).value,
        lambda x: entropic(np.linalg.svd(x, compute_uv=False)),
        ("far from the origin",),
    ),
    "ne_sum": (
        lambda x: metrics.ne_sum(x).value,
        lambda x: ratio(covariance_values(x).sum(), covariance_values(x)[0], 0.0),
        (),
    ),
    "participation_ratio": (
        lambda x: metrics.participation_ratio(x).value,
        lambda x: ratio(covariance_values(x).sum() ** 2, (covariance_values(x) ** 2).sum(), 0.0),
        (),
    ),
    "singular_value_spectrum": (
        lambda x: metrics.singular_value_spectrum(x, by="token").value,
        covariance_values,
        (),
    ),
    "feature_map_variance": (
        lambda x: metrics.feature_map_variance(x).value,
        lambda x: np.mean([np.mean((c - c.mean()) ** 2) for c in x.T]),
        (),
    ),
    "homogeneity": (lambda x: metrics.homogeneity(x, over="token").value, slow_homogeneity, ()),
    "alignment": (
        lambda x: (
            metrics.alignment(x, X[:, : x.shape[1]] if x.shape[1] < 5 else INPUTS["a unit twice"][::-1]).value
        ),
        lambda x: np.mean(
            [
                ((a - b) ** 2).sum()
                for a, b in zip(
                    on_the_sphere(x),
                    on_the_sphere(X[:, : x.shape[1]] if x.shape[1] < 5 else INPUTS["a unit twice"][::-1]),
                    strict=True,
                )
            ]
        ),
        (),
    ),
    "uniformity": (
        lambda x: metrics.uniformity(x).value,
        lambda x: log(np.exp(-2 * pdist(on_the_sphere(x)) ** 2).mean()),
        (),
    ),
    "intrinsic_dimension": (lambda x: metrics.intrinsic_dimension(x).value, slow_dimension, ()),
    # where equal distances let more than three vote, the vote is open
    "neighbour_accuracy": (
        labelled(metrics.neighbour_accuracy, neighbours=3),
        slow_neighbours,
        ("one unit", "a unit twice", "every sample twice", "one sample often", "equal samples", "zeros"),
    ),
    "ridge_probe": (labelled(metrics.ridge_probe, penalty=0.1), slow_ridge, ("equal samples", "zeros")),
    "ridge_determination": (
        lambda x: metrics.ridge_determination(x, Y, x, Y[::-1], penalty=0.1).value,
        slow_determination,
        (),
    ),
    "logistic_probe": (
        labelled(metrics.logistic_probe, penalty=0.1),
        slow_logistic,
        ("an outlier", "far from the origin", "equal samples", "zeros"),
    ),
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name, (_, _, lacking) in SLOW.items() for kind in INPUTS if kind not in lacking],
)
def test_a_degenerate_input_has_the_value_of_the_formula(name, kind):
    ours, slow, _ = SLOW[name]
    with np.errstate(all="ignore"):
        expected = slow(INPUTS[kind])
    found = np.asarray(ours(INPUTS[kind]))
    full = np.zeros_like(np.atleast_1d(expected)) if name == "singular_value_spectrum" else expected
    if name == "singular_value_spectrum":
        full[: len(found)], expected = found, np.atleast_1d(expected)
        found = full
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", ["equal samples", "zeros"])
def test_features_that_say_nothing_predict_the_first_of_equal_classes(kind):
    x = INPUTS[kind]
    assert metrics.ridge_probe(x, LABELS, x, LABELS, penalty=0.1).value == pytest.approx(1 / 3)
    assert metrics.logistic_probe(x, LABELS, x, LABELS, penalty=0.1).value == pytest.approx(1 / 3)


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
            metrics.ridge_determination(X, Y, X, targets, penalty=0.1)

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


class TestFew:
    def test_one_sample(self, complaint):
        one = X[:1]
        assert metrics.rank_me(one).value == pytest.approx(1)
        assert metrics.feature_map_variance(one).value == 0
        assert metrics.alignment(one, one).value == 0
        assert metrics.k_means(one, 1, seed=0).tolist() == [0]
        assert metrics.neighbour_accuracy(one, [3], X, np.full(12, 3), neighbours=1).value == 1
        assert metrics.ridge_probe(one, [3], X, np.full(12, 3), penalty=0.1).value == 1
        assert metrics.ridge_determination(one, Y[:1], X, Y, penalty=0).value.shape == (3,)
        np.testing.assert_allclose(metrics.fit_ridge(one, Y[:1], penalty=0).scores(X), np.tile(Y[0], (12, 1)))
        for measure in (metrics.ne_sum, metrics.participation_ratio, metrics.uniformity):
            with complaint("shape of features", "sample ≥ 2"):
                measure(one)
        with complaint("shape of first", "sample ≥ 2"):
            metrics.cka(one, one)

    def test_two_samples(self, complaint):
        two = X[:2]
        assert metrics.ne_sum(two).value == pytest.approx(1)
        assert metrics.cka(two, Y[:2]).value == pytest.approx(1)
        cosine = two[0] @ two[1] / np.linalg.norm(two[0]) / np.linalg.norm(two[1])
        assert metrics.homogeneity(two, over="token").value == pytest.approx(cosine)
        assert metrics.uniformity(two).value == pytest.approx(-4 * (1 - cosine))
        assert metrics.cluster_learnability(two, clusters=2, seed=0).value == 0
        assert metrics.cluster_learnability(two, clusters=1, seed=0).value == 1
        assert metrics.lidar(two[:, None] + np.array([[0.1], [-0.1]])).value == pytest.approx(1)
        with complaint("shape of features", "sample ≥ 3"):
            metrics.intrinsic_dimension(two)
        with complaint("shape of first", "sample ≥ 4"):
            metrics.cka(two, two, convention="unbiased")

    def test_a_law_of_ratios_needs_a_point(self):
        """Of three samples two are equal: one ratio is left, which regression places at infinity."""
        x = [[0.0], [0.0], [1.0], [1.0], [4.0]]
        assert isnan(metrics.intrinsic_dimension(x, convention="facco").value)
        assert metrics.intrinsic_dimension(x).value == inf

    def test_one_model_is_compared_with_none(self):
        assert metrics.clid([0.5], [3.0]).value.tolist() == [0]
        assert metrics.clid([0.5, 0.5], [3.0, 3.0]).value.tolist() == [0, 0]

    def test_every_sample_twice_is_learnable(self):
        x = np.repeat(TREE.standard_normal((40, 3)), 2, 0)
        assert metrics.cluster_learnability(x, clusters=10, seed=0).value == 1

    def test_one_query_and_one_key(self):
        one = np.ones((1, 1))
        assert metrics.attention_entropy(one).value == 0
        assert metrics.attention_entropy(one, convention="normalised").value == 0
        assert metrics.mutual_information(one).value == 0
        assert metrics.attention_distance(one, (1, 1)).value == 0
        assert metrics.top_key_scores(one, top=5).value == 1
        assert metrics.position_deviation(one).value == 0
        assert metrics.mutual_information([[0.25, 0.75]]).value == 0

    def test_an_empty_row_is_no_row(self):
        maps = TREE.dirichlet(np.ones(4), 4)
        maps[2] = 0
        kept = maps[[0, 1, 3]]
        entropy = -(kept * np.log(kept)).sum(1).mean()
        assert metrics.attention_entropy(maps).value == pytest.approx(entropy)
        keys = kept.mean(0)
        information = -(keys * np.log(keys)).sum() - entropy
        expected = information / np.sqrt(log(3) * -(keys * np.log(keys)).sum())
        assert metrics.mutual_information(maps).value == pytest.approx(expected)
        assert all(
            isnan(measure(np.zeros((4, 4))).value)
            for measure in (metrics.attention_entropy, metrics.mutual_information)
        )


@pytest.mark.parametrize("convention", ["cosine", "dino"])
def test_a_row_without_a_direction_has_no_cosine_neighbours(convention, complaint):
    """At the centre of the sphere it would be nearer to all than rows at right angles are to each other."""
    x = with_row(0.0)
    with complaint("features[3]", "no direction"):
        metrics.neighbour_accuracy(x, LABELS, X, LABELS, neighbours=3, convention=convention)
    with complaint("test_features[3]", "no direction"):
        metrics.neighbour_accuracy(X, LABELS, x, LABELS, neighbours=3, convention=convention)
