"""Metrics of degenerate but legal input, against slow transcriptions of their formulas (exact: float64 round-off).

Dead and constant units, rows of zeros, duplicates, few and equal samples; labels of any numbers; what round-off alone
would decide. A transcription that ends in 0/0 is told what the notes say of it.
"""

from math import inf, isnan, log, nan

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.neighbors import KNeighborsClassifier

from vitdyn import metrics

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
    "ridge_r_squared": (
        lambda x: metrics.ridge_r_squared(x, Y, x, Y[::-1], penalty=0.1).value,
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


class TestFew:
    def test_one_sample(self, complaint):
        one = X[:1]
        assert metrics.rank_me(one).value == pytest.approx(1)
        assert metrics.feature_map_variance(one).value == 0
        assert metrics.alignment(one, one).value == 0
        assert metrics.k_means(one, 1, seed=0).tolist() == [0]
        assert metrics.neighbour_accuracy(one, [3], X, np.full(12, 3), neighbours=1).value == 1
        assert metrics.ridge_probe(one, [3], X, np.full(12, 3), penalty=0.1).value == 1
        assert metrics.ridge_r_squared(one, Y[:1], X, Y, penalty=0).value.shape == (3,)
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
