"""The quadrature rules against the moments of the distributions and against closed forms. Exact."""

from math import exp

import numpy as np
import pytest

from vitdyn.data import Beta, Constant, Custom, TruncatedNormal, TwoPoint, Uniform
from vitdyn.reduced.quadrature import quadrature

DISTRIBUTIONS = {
    "uniform": Uniform(),
    "uniform from zero": Uniform(low=0.0, high=2.0),
    "two-point": TwoPoint(probability_high=0.3),
    "two-point, one atom": TwoPoint(probability_high=0.0),
    "truncated normal": TruncatedNormal(location=1.1, scale=0.3),
    "beta": Beta(alpha=0.7, beta=3.0),
    "constant": Constant(value=1.3),
    "a point": Uniform(low=1.2, high=1.2),
}
distributions = pytest.mark.parametrize("distribution", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)


@distributions
def test_first_two_moments(distribution):
    z, weights = quadrature(distribution, 24)
    assert weights.sum() == pytest.approx(1, rel=1e-14)
    assert (weights > 0).all() and (z >= distribution.low).all() and (z <= distribution.high).all()
    assert weights @ z == pytest.approx(distribution.mean, rel=1e-12)
    assert weights @ z**2 == pytest.approx(distribution.second_moment, rel=1e-12)


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_polynomials_up_to_twice_the_nodes_are_exact(count):
    low, high = 0.4, 1.7
    z, weights = quadrature(Uniform(low=low, high=high), count)
    for power in range(2 * count):
        truth = (high ** (power + 1) - low ** (power + 1)) / ((power + 1) * (high - low))
        assert weights @ z**power == pytest.approx(truth, rel=1e-12)
    power = 2 * count
    truth = (high ** (power + 1) - low ** (power + 1)) / ((power + 1) * (high - low))
    assert abs(weights @ z**power / truth - 1) > 1e-12, "one degree more is beyond the rule"


def test_polynomials_of_a_beta_law():
    distribution = Beta(low=0.0, high=1.0, alpha=1.5, beta=2.5)
    z, weights = quadrature(distribution, 5)
    truth = 1.0
    for power in range(10):
        assert weights @ z**power == pytest.approx(truth, rel=1e-12)
        truth *= (distribution.alpha + power) / (distribution.alpha + distribution.beta + power)


@pytest.mark.parametrize("phi", [-60.0, -5.0, 5.0, 60.0])
def test_exponential_moments(phi):
    distribution = Uniform(low=1.0, high=1.5)
    z, weights = quadrature(distribution, 24)
    truth = (exp(phi * distribution.high) - exp(phi * distribution.low)) / (
        phi * (distribution.high - distribution.low)
    )
    assert weights @ np.exp(phi * z) == pytest.approx(truth, rel=1e-8)


def test_a_law_without_a_rule_is_refused(complaint):
    distribution = Custom(draw=lambda generator, shape: generator.uniform(1.0, 2.0, shape), low=1.0, high=2.0)
    with complaint("latents", "uniform, two-point"):
        quadrature(distribution, 8)
