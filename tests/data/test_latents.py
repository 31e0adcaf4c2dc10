"""Distributions of the latents: stated moments against draws (statistical) and against quadrature (exact)."""

import warnings

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import truncnorm
from scipy.stats import uniform as flat

from vitdyn.data import (
    DISTRIBUTIONS,
    Beta,
    Constant,
    Custom,
    Distribution,
    PatchGenerator,
    PatchLayout,
    TruncatedNormal,
    TwoPoint,
    Uniform,
    latents,
)
from vitdyn.reduced.quadrature import quadrature
from vitdyn.seeds import Streams


def flat_draw(generator, shape):
    return 0.5 + generator.random(shape)


CONTINUOUS = {
    "uniform": (Uniform(low=0.3, high=2.0), lambda z: 1.0),
    "uniform from zero": (Uniform(low=0.0, high=1.0), lambda z: 1.0),
    "beta": (Beta(low=0.5, high=2.0, alpha=3.0, beta=1.5), lambda z: (z - 0.5) ** 2 * (2.0 - z) ** 0.5),
    "normal": (TruncatedNormal(), lambda z: np.exp(-((z - 1.25) ** 2) / (2 * 0.125**2))),
    "half normal": (
        TruncatedNormal(low=0.0, high=9.0, location=0.0, scale=1.0),
        lambda z: np.exp(-(z**2) / 2),
    ),
    "normal tail": (
        TruncatedNormal(location=0.0, scale=0.2),
        lambda z: np.exp(-(z**2 - 1) / (2 * 0.2**2)),
    ),
}
FAR = {
    "location 1000 scales below": TruncatedNormal(location=-100.0, scale=0.1),
    "location 1e6 scales above": TruncatedNormal(location=1e6, scale=1.0),
    "scale a million": TruncatedNormal(location=1e3, scale=1e6),
}
OTHER = {
    "two points": TwoPoint(low=0.5, high=2.0, probability_high=0.3),
    "always low": TwoPoint(probability_high=0.0),
    "always high": TwoPoint(probability_high=1.0),
    "constant": Constant(value=1.7),
    "one-point uniform": Uniform(low=1.2, high=1.2),
    "spiky beta": Beta(alpha=0.01, beta=0.02),
}
ALL = {name: distribution for name, (distribution, _) in CONTINUOUS.items()} | FAR | OTHER
by_name = pytest.mark.parametrize("distribution", ALL.values(), ids=ALL)


@by_name
def test_draws_have_the_shape_and_the_support(distribution, generator):
    draws = distribution.sample(generator, (40, 3, 5))
    assert draws.shape == (40, 3, 5)
    assert draws.dtype == np.float64
    assert draws.min() >= distribution.low >= 0
    assert draws.max() <= distribution.high


@by_name
def test_draws_have_the_stated_moments(distribution, generator, statistics):
    draws = distribution.sample(generator, (100_000,))
    statistics.assert_mean(draws, distribution.mean)
    statistics.assert_mean(draws**2, distribution.second_moment)


@by_name
def test_draws_are_those_of_the_generator_alone(distribution):
    first, second, other = (distribution.sample(np.random.default_rng(seed), (50,)) for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert distribution.mean**2 == pytest.approx(distribution.second_moment, rel=1e-12) or not np.array_equal(
        first, other
    )


@by_name
def test_seeds_together_draw_what_each_draws_alone(distribution):
    """Also a distribution that overrides how a distribution of ours is drawn."""

    class Shifted(type(distribution)):
        def sample(self, generator, shape):
            generator.random()
            return super().sample(generator, shape)

    for one in (distribution, Shifted(**vars(distribution))):
        streams = Streams((3, 0, 2**33), "latents", 5)
        alone = [one.sample(generator, (7, 3)) for generator in streams.each()]
        assert np.array_equal(latents.draw_of_streams(one, streams, (7, 3)), alone)


@pytest.mark.parametrize(("distribution", "density"), CONTINUOUS.values(), ids=CONTINUOUS)
def test_moments_agree_with_quadrature(distribution, density):
    mass, first, second = (
        quad(
            lambda z, power=power: z**power * density(z),
            distribution.low,
            distribution.high,
            epsabs=0,
            epsrel=1e-12,
        )[0]
        for power in range(3)
    )
    assert distribution.mean == pytest.approx(first / mass, rel=1e-9)
    assert distribution.second_moment == pytest.approx(second / mass, rel=1e-9)


@pytest.mark.parametrize("location", [1.0, 1.2, 1.6, 2.0])
def test_truncated_normal_agrees_with_scipy(location):
    distribution = TruncatedNormal(location=location, scale=0.2)
    reference = truncnorm((1.0 - location) / 0.2, (1.5 - location) / 0.2, loc=location, scale=0.2)
    assert distribution.mean == pytest.approx(reference.mean(), rel=1e-11)
    assert distribution.second_moment == pytest.approx(reference.moment(2), rel=1e-11)


@pytest.mark.parametrize("location", [-1e6, 0.0, 1.0, 1.25, 1.5, 1e6])
@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1.0, 1e6])
def test_truncated_normal_stays_in_its_support_at_every_allowed_location(location, scale):
    distribution = TruncatedNormal(location=location, scale=scale)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 1.0 <= distribution.mean <= 1.5
        assert distribution.mean**2 <= distribution.second_moment * (1 + 1e-14)


def test_moments_in_closed_form():
    two_points = TwoPoint(low=0.5, high=2.0, probability_high=0.3)
    assert two_points.mean == pytest.approx(0.7 * 0.5 + 0.3 * 2.0, rel=1e-15)
    assert two_points.second_moment == pytest.approx(0.7 * 0.25 + 0.3 * 4.0, rel=1e-15)
    uniform, reference = Uniform(low=0.3, high=2.0), flat(0.3, 1.7)
    assert uniform.mean == pytest.approx(reference.mean(), rel=1e-15)
    assert uniform.second_moment == pytest.approx(reference.moment(2), rel=1e-14)
    constant = Constant(value=1.7)
    assert (constant.low, constant.high, constant.mean) == (1.7, 1.7, 1.7)
    assert constant.second_moment == pytest.approx(2.89, rel=1e-15)


def test_two_points_are_the_only_values(generator):
    assert set(TwoPoint(low=0.5, high=2.0).sample(generator, (200,))) == {0.5, 2.0}


def test_uniform_fills_its_support_evenly(generator, statistics):
    draws = Uniform(low=0.5, high=2.5).sample(generator, (20_000,))
    statistics.assert_uniform(np.histogram(draws, bins=20, range=(0.5, 2.5))[0])


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_registered_laws_are_laws_with_defaults_that_work(name, generator):
    distribution = DISTRIBUTIONS[name]()
    assert isinstance(distribution, Distribution)
    assert distribution.low <= distribution.mean <= distribution.high
    assert distribution.sample(generator, (2, 3)).shape == (2, 3)


class TestCustom:
    def test_moments_are_estimated(self):
        distribution = Custom(draw=flat_draw, low=0.5, high=1.5)
        assert isinstance(distribution, Distribution)
        assert distribution.mean == pytest.approx(1.0, rel=2e-3)
        assert distribution.second_moment == pytest.approx(13 / 12, rel=2e-3)

    def test_draws_are_the_functions(self):
        distribution = Custom(draw=flat_draw, low=0.5, high=1.5)
        drawn = distribution.sample(np.random.default_rng(5), (4, 2))
        assert np.array_equal(drawn, flat_draw(np.random.default_rng(5), (4, 2)))

    def test_draws_that_leave_the_support_later_are_caught(self, complaint):
        def breaks_in_large_draws(generator, shape):
            return np.full(shape, 1.0 if np.prod(shape) < 1000 else 3.0)

        distribution = Custom(draw=breaks_in_large_draws, low=0.5, high=1.5)
        with complaint("Custom.draw", "must return latents in [0.5, 1.5]"):
            distribution.sample(np.random.default_rng(0), (1000,))

    @pytest.mark.parametrize(
        ("draw", "remedy"),
        [
            (lambda generator, shape: generator.random(shape), "must return latents in [0.5, 1.5]"),
            (lambda generator, shape: np.full(shape, np.nan), "must return latents in [0.5, 1.5]"),
            (lambda generator, shape: np.ones(shape[0]), "must return an array of the asked shape (64, 2)"),
            (1.0, "must be a function (generator, shape) -> array"),
        ],
    )
    def test_bad_functions_are_named(self, complaint, draw, remedy):
        with complaint("Custom.draw", remedy):
            Custom(draw=draw, low=0.5, high=1.5)


@pytest.mark.parametrize(
    ("distribution", "values", "field", "remedy"),
    [
        (Uniform, {"low": -0.1}, "low", "must be a number in [0, 1e+06]"),
        (Uniform, {"low": 1.0, "high": 0.5}, "high", "must be a number in [1, 1e+06]"),
        (Uniform, {"low": 0.0, "high": 0.0}, "high", "must be positive"),
        (Uniform, {"high": float("inf")}, "high", "must be a number in [1, 1e+06]"),
        (TwoPoint, {"low": -1.0}, "low", "must be a number in [0, 1e+06]"),
        (TwoPoint, {"probability_high": 1.5}, "probability_high", "must be a number in [0, 1]"),
        (TruncatedNormal, {"low": -1.0}, "low", "must be a number in [0, 1e+06]"),
        (TruncatedNormal, {"scale": 0.0}, "scale", "must be a number in [1e-12, 1e+06]"),
        (TruncatedNormal, {"location": float("nan")}, "location", "must be a number in [-1e+06, 1e+06]"),
        (TruncatedNormal, {"low": 1.5}, "high", "must exceed low = 1.5; else take Constant"),
        (Beta, {"low": -1.0}, "low", "must be a number in [0, 1e+06]"),
        (Beta, {"alpha": 0.0}, "alpha", "must be a number in (0, 1e+06]"),
        (Beta, {"beta": -1.0}, "beta", "must be a number in (0, 1e+06]"),
        (Constant, {"value": 0.0}, "value", "must be a number in (0, 1e+06]"),
        (Constant, {"value": True}, "value", "must be a number in (0, 1e+06]"),
        (Custom, {"draw": flat_draw, "low": -1.0, "high": 2.0}, "low", "must be a number in [0, 1e+06]"),
    ],
)
def test_bad_values_are_named(complaint, distribution, values, field, remedy):
    with complaint(f"{distribution.__name__}.{field}", remedy):
        distribution(**values)


class Squared(Uniform):
    """Draws what its parent does not; says nothing of moments."""

    def from_uniform(self, uniform):
        return self.low + (self.high - self.low) * uniform**2


class Lower(Beta):
    def sample(self, generator, shape):
        return np.full(shape, self.low)


class Outside(Uniform):
    def from_uniform(self, uniform):
        return 2 * super().from_uniform(uniform)


class Misshapen(Constant):
    def sample(self, generator, shape):
        return super().sample(generator, shape[::-1])


def test_moments_fall_with_the_draws_they_speak_of():
    """The parent's E z² under another distribution made every prediction wrong."""
    distribution = Squared(low=1.0, high=2.0)
    assert distribution.mean == pytest.approx(4 / 3, rel=2e-3)
    assert distribution.second_moment == pytest.approx(1 + 2 / 3 + 1 / 5, rel=2e-3)
    assert (Lower().mean, Lower().second_moment) == (1.0, 1.0)
    assert Uniform().mean == 1.25 and Beta().mean == 1.25


@pytest.mark.parametrize(
    "distribution", [Outside(), Misshapen()], ids=lambda distribution: type(distribution).__name__
)
def test_draws_of_the_users_are_checked(distribution, complaint):
    generator = PatchGenerator(layout=PatchLayout.from_sizes([3, 2]), latents=distribution)
    with complaint(f"{type(distribution).__name__}.sample", "must return"):
        generator.sample(4, seeds=(0, 1))


def test_reductions_know_no_distribution_made_from_theirs(complaint):
    with complaint("latents", "no class made from these"):
        quadrature(Squared(low=1.0, high=2.0), 8)
