"""Rank agreement and metrics by depth, against transcriptions (exact: float64 round-off)."""

from itertools import combinations
from math import sqrt

import numpy as np
import pytest
import torch

from vitdyn.metrics import (
    agreement_interval,
    attention_by_depth,
    attention_distance,
    attention_entropy,
    cka,
    feature_map_variance,
    fourier_log_amplitude,
    homogeneity,
    mutual_information,
    rank_agreement,
    rank_me,
    representations_by_depth,
    top_key_scores,
)


def ranks(values):
    return [
        sum(other < each for other in values) + (sum(other == each for other in values) + 1) / 2
        for each in values
    ]


def kendall(first, second):
    pairs = list(combinations(range(len(first)), 2))
    signs = [(np.sign(first[i] - first[j]), np.sign(second[i] - second[j])) for i, j in pairs]
    untied = [sum(sign[side] != 0 for sign in signs) for side in (0, 1)]
    return sum(one * other for one, other in signs) / sqrt(untied[0] * untied[1])


def test_rank_agreement_is_its_formula_ties_included(rng):
    scores, quality = rng.integers(0, 5, (3, 12)).astype(float), rng.integers(0, 6, (3, 12)).astype(float)
    spearman = rank_agreement(torch.from_numpy(scores), torch.from_numpy(quality)).value
    tau = rank_agreement(torch.from_numpy(scores), torch.from_numpy(quality), convention="kendall").value
    for row in range(3):
        assert np.isclose(
            spearman[row], np.corrcoef(ranks(scores[row]), ranks(quality[row]))[0, 1], atol=1e-12
        )
        assert np.isclose(tau[row], kendall(scores[row], quality[row]), atol=1e-12)


@pytest.mark.parametrize("convention", ["spearman", "kendall"])
def test_only_the_order_counts(rng, convention):
    values = torch.from_numpy(rng.standard_normal(20))
    agree = rank_agreement(values, values.exp(), convention=convention).value
    assert float(agree) == pytest.approx(1, abs=1e-12)
    assert float(rank_agreement(values, -(values**3), convention=convention).value) == pytest.approx(
        -1, abs=1e-12
    )
    assert rank_agreement(values, torch.ones(20), convention=convention).value.isnan()


def test_bad_input_to_rank_agreement(complaint):
    with complaint("shape of quality"):
        rank_agreement(torch.zeros(4), torch.zeros(5))
    with complaint("shape of scores"):
        rank_agreement(torch.zeros(1), torch.zeros(1))
    with complaint("convention"):
        rank_agreement(torch.zeros(4), torch.zeros(4), convention="pearson")


def test_the_interval_is_that_of_resampled_models(rng):
    scores = torch.from_numpy(rng.standard_normal((2, 15)))
    quality = scores + torch.from_numpy(rng.standard_normal((2, 15)))
    value, low, high = agreement_interval(scores, quality, resamples=50, seed=3)
    assert value == pytest.approx(float(rank_agreement(scores, quality).value.mean()), abs=1e-12)
    picks = np.random.default_rng(3).integers(0, 15, (50, 15))
    drawn = [float(rank_agreement(scores[:, pick], quality[:, pick]).value.mean()) for pick in picks]
    assert (low, high) == pytest.approx(tuple(np.quantile(drawn, (0.025, 0.975))), abs=1e-12)
    assert low < value < high
    exact = agreement_interval(scores, scores, resamples=20)
    assert exact == pytest.approx((1, 1, 1), abs=1e-12)


def test_metrics_by_depth_are_the_metrics(rng):
    maps = [torch.from_numpy(rng.dirichlet(np.ones(10), (3, 2, 10))) for _ in range(2)]
    found = attention_by_depth(maps, (3, 3), pitch=4.0, prefix=1, top=2)
    for depth, each in enumerate(maps):
        expected = {
            "attention_distance": attention_distance(each, (3, 3), pitch=4.0, prefix=1),
            "mutual_information": mutual_information(each, prefix=1),
            "attention_entropy": attention_entropy(each, prefix=1),
            "top_key_scores": top_key_scores(each, top=2, prefix=1),
        }
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name][depth], each.value) for name, each in expected.items())


def test_representations_by_depth_are_the_metrics_without_the_prefix(rng):
    tokens = [torch.from_numpy(rng.standard_normal((5, 10, 6))) for _ in range(3)]
    found = representations_by_depth(tokens, 3, prefix=1)
    last = tokens[-1][:, 1:].flatten(0, 1)
    for depth, each in enumerate(tokens):
        kept = each[:, 1:]
        expected = {
            "high_frequency": fourier_log_amplitude(kept, 3).value[:, -1].mean(),
            "feature_map_variance": feature_map_variance(kept).value.mean(),
            "token_similarity": homogeneity(kept, over="token").value.mean(),
            "rank_me": rank_me(kept.mean(1)).value,
            "cka_to_last": cka(kept.flatten(0, 1), last).value,
        }
        assert found.keys() == expected.keys()
        assert all(torch.allclose(found[name][depth], each, atol=1e-12) for name, each in expected.items())


def test_depths_are_checked(complaint):
    with complaint("maps"):
        attention_by_depth([], (3, 3))
    with complaint("shape of maps"):
        attention_by_depth([torch.zeros(3, 9, 9)], (3, 3))
    with complaint("tokens"):
        representations_by_depth([], 3)
    with complaint("shape of tokens"):
        representations_by_depth([torch.zeros(2, 1, 4)], 3, prefix=1)
