"""Masks and views: exact size (exact), uniform over all subsets (statistical)."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitdyn.data.masking import draw_view_pair, draw_visible, masked_count


def count_subsets(visible, masked):
    """How often each subset of ``masked`` patches is hidden, over all such subsets."""
    patches = visible.shape[1]
    codes = (~visible) @ (1 << np.arange(patches))
    subsets = [sum(1 << patch for patch in subset) for subset in combinations(range(patches), masked)]
    found = np.bincount(codes, minlength=2**patches)
    assert found[subsets].sum() == len(visible)
    return found[subsets]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(data=st.data(), patches=st.integers(2, 300), samples=st.integers(0, 20), seed=st.integers(0, 99))
def test_exactly_the_asked_number_is_hidden(data, patches, samples, seed):
    masked = data.draw(st.integers(1, patches - 1))
    visible = draw_visible(np.random.default_rng(seed), samples, patches, masked)
    assert visible.shape == (samples, patches)
    assert visible.dtype == bool
    assert (visible.sum(1) == patches - masked).all()


@pytest.mark.parametrize(("patches", "masked"), [(2, 1), (3, 1), (5, 1), (5, 4), (6, 2), (6, 3), (7, 3)])
def test_every_subset_is_equally_likely(generator, statistics, patches, masked):
    visible = draw_visible(generator, 20_000, patches, masked)
    statistics.assert_uniform(count_subsets(visible, masked))


def test_samples_are_independent(generator, statistics):
    """Two samples of one draw hide the same of three patches in one case of three."""
    visible = draw_visible(generator, 20_000, 3, 1)
    same = (visible[::2] == visible[1::2]).all(1)
    statistics.assert_mean(same.astype(float), 1 / 3)


def test_neighbouring_samples_overlap_as_independent_ones_do(generator, statistics):
    """Two independent subsets of m of P patches share m²/P on average, with the hypergeometric variance."""
    hidden = (~draw_visible(generator, 20_000, 200, 70)).astype(np.int64)
    shared = (hidden[::2] * hidden[1::2]).sum(1)
    statistics.assert_mean(shared, 70 * 70 / 200)
    statistics.assert_mean((shared - 24.5) ** 2, 70 * 0.35 * 0.65 * 130 / 199)


@pytest.mark.parametrize(
    ("patches", "ratio", "masked"),
    [(100, 0.75, 75), (196, 0.75, 147), (10, 0.06, 1), (10, 0.94, 9), (2, 0.5, 1)],
)
def test_masked_count_rounds_to_the_nearest_number(patches, ratio, masked):
    assert masked_count(patches, ratio) == masked


@pytest.mark.parametrize(
    ("patches", "ratio", "remedy"),
    [
        (10, 0.04, "masks 0 of 10 patches; at least one must be masked and one visible"),
        (10, 0.96, "masks 10 of 10 patches; at least one must be masked and one visible"),
        (10, 0.0, "take a ratio from 0.1 to 0.9"),
        (10, 1.0, "take a ratio from 0.1 to 0.9"),
        (10, 1.5, "must be a number in [0, 1]"),
        (10, -0.5, "must be a number in [0, 1]"),
    ],
)
def test_bad_ratios_are_named(complaint, patches, ratio, remedy):
    with complaint("mask_ratio", remedy):
        masked_count(patches, ratio)


@pytest.mark.parametrize("patches", range(2, 60))
def test_suggested_ratios_work(complaint, patches):
    for ratio, masked in ((0.0, 1), (1.0, patches - 1)):
        with complaint("mask_ratio", "take a ratio from") as caught:
            masked_count(patches, ratio)
        suggested = str(caught.value).rsplit("from ", 1)[1].split(" to ")
        assert masked_count(patches, float(suggested[ratio == 1.0])) == masked


def test_one_patch_is_too_few(complaint):
    with complaint("patches", "must be a whole number, 2 or more"):
        masked_count(1, 0.5)


class TestViews:
    def test_complementary_views_share_the_patches_out(self, generator):
        first, second = draw_view_pair(generator, 50, 9, 4, "complementary")
        assert np.array_equal(second, ~first)
        assert (first.sum(1) == 5).all()

    def test_independent_views_have_the_same_size(self, generator):
        views = draw_view_pair(generator, 50, 9, 4)
        assert all((view.sum(1) == 5).all() for view in views)

    def test_independent_views_overlap_as_independent_ones_do(self, generator, statistics):
        first, second = draw_view_pair(generator, 10_000, 256, 95)
        shared = (~first & ~second).sum(1)
        statistics.assert_mean(shared, 95**2 / 256)
        assert not (first == second).all(1).any()

    def test_independent_views_are_independent(self, generator, statistics):
        """The pair of subsets is uniform over all pairs, which neither equal nor opposite views are."""
        first, second = draw_view_pair(generator, 20_000, 4, 2, "independent")
        codes = [(~view) @ (1 << np.arange(4)) for view in (first, second)]
        _, pairs = np.unique(np.stack(codes), axis=1, return_counts=True)
        assert pairs.size == 6 * 6
        statistics.assert_uniform(pairs)

    @pytest.mark.parametrize("kind", ["independent", "complementary"])
    def test_first_view_is_uniform(self, generator, statistics, kind):
        first, _ = draw_view_pair(generator, 20_000, 5, 2, kind)
        statistics.assert_uniform(count_subsets(first, 2))

    def test_unknown_kind_is_named(self, complaint, generator):
        with complaint("views", "must be one of independent, complementary"):
            draw_view_pair(generator, 5, 4, 2, "opposite")
