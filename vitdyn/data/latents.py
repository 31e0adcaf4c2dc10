"""Distributions of the latents z_j: how strong an area is in a sample, independent over areas, in [L, U], L ≥ 0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from vitdyn._errors import invalid_value, require_real
from vitdyn._registry import Registry, class_with
from vitdyn._specs import has_only_fields
from vitdyn.seeds import Streams


@runtime_checkable
class Distribution(Protocol):
    """A distribution of non-negative latents: its support [low, high], its first two moments, and its draws."""

    @property
    def low(self) -> float:
        """L, the lower end of the support."""

    @property
    def high(self) -> float:
        """U, the upper end of the support."""

    @property
    def mean(self) -> float:
        """E z."""

    @property
    def second_moment(self) -> float:
        """E z²."""

    def sample(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draw an array of independent latents in float64."""


def _estimate(distribution: Distribution, *, power: int) -> float:
    """Return E z^power from 2^20 draws of a fixed stream, to about one part in a thousand."""
    return float((distribution.sample(np.random.default_rng(0), (2**20,)) ** power).mean())


class _Stated:
    """A distribution that states its moments; a subclass with other draws states its own, or they are estimated."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, power in (("mean", 1), ("second_moment", 2)):
            # a subclass that overrides its draws must not keep its parent's moments, on which the theory is computed
            stated = next(each for each in cls.__mro__ if {name, "_moments"} & vars(each).keys())
            draws = [
                [getattr(each, way, None) for way in ("sample", "from_uniform")] for each in (cls, stated)
            ]
            if stated is not _Stated and draws[0] != draws[1]:
                setattr(cls, name, property(partial(_estimate, power=power)))

    @property
    def mean(self) -> float:
        """E z."""
        return self._moments()[0]

    @property
    def second_moment(self) -> float:
        """E z²."""
        return self._moments()[1]

    def _moments(self) -> tuple[float, float]:
        """Return E z and E z²."""
        raise NotImplementedError

    def sample(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draw an array of independent latents."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class _OnInterval(_Stated):
    """A distribution of latents in [low, high]."""

    low: float = 1.0
    high: float = 1.5

    def __post_init__(self) -> None:
        _require_support(self)


def _require_support(distribution: _OnInterval | Custom) -> None:
    kind, low, high = type(distribution).__name__, distribution.low, distribution.high
    require_real(f"{kind}.low", low, low=0.0, high=1e6)
    require_real(f"{kind}.high", high, low=low, high=1e6)
    if high == 0:
        raise invalid_value(f"{kind}.high", high, "latents that are all 0 carry no signal: must be positive")


class _FromUniform(_OnInterval):
    """A distribution whose latents are a function of one uniform number each."""

    def from_uniform(self, uniform: np.ndarray) -> np.ndarray:
        """Return the latents of uniform numbers in [0, 1)."""
        raise NotImplementedError

    def sample(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draw an array of independent latents."""
        return self.from_uniform(generator.random(shape))


def draw_of_streams(
    distribution: Distribution, streams: Streams, shape: tuple[int, ...]
) -> Float[np.ndarray, "seed ..."]:
    """Draw an array of latents for each seed: what the distribution draws from the seed's own stream."""
    if (
        isinstance(distribution, _FromUniform)
        and type(distribution).sample is _FromUniform.sample
        and "sample" not in vars(distribution)
    ):
        from vitdyn.data.stream_words import fill_uniforms  # which loads the compiler

        # what ``generator.random(shape)`` would be of each stream, in one compiled call
        numbers = np.empty((len(streams.seeds), prod(shape)))
        fill_uniforms(streams.keys, streams.step, numbers)
        drawn = distribution.from_uniform(numbers.reshape(-1, *shape))
    else:
        drawn = np.stack([np.asarray(distribution.sample(generator, shape)) for generator in streams.each()])
    if is_ours(distribution):  # tested to keep its promises, at no cost to each step
        return drawn
    return _checked_draw(
        f"{type(distribution).__name__}.sample", distribution, drawn, (len(streams.seeds), *shape)
    )


def is_ours(distribution: Distribution) -> bool:
    """Return whether a distribution is one of vitdyn's with nothing put into it: its draws are what it promises."""
    return type(distribution) in DISTRIBUTIONS.own.values() and has_only_fields(distribution)


def _checked_draw(
    field: str, distribution: Distribution, drawn: object, shape: tuple[int, ...]
) -> np.ndarray:
    """Return latents in float64. Raises ``ValueError`` unless they have the shape and lie in the support."""
    latents = np.asarray(drawn, dtype=np.float64)
    if latents.shape != tuple(shape):
        raise invalid_value(field, latents.shape, f"must return an array of the asked shape {tuple(shape)}")
    inside = (latents >= distribution.low) & (latents <= distribution.high)
    if not inside.all():
        raise invalid_value(
            field,
            float(latents[~inside].flat[0]),
            f"must return latents in [{distribution.low:g}, {distribution.high:g}]",
        )
    return latents


@dataclass(frozen=True, kw_only=True)
class Uniform(_FromUniform):
    """Uniform distribution on [low, high]: E z = (L + U)/2, E z² = (L² + LU + U²)/3.

    >>> distribution = vd.Uniform(low=1.0, high=1.5)
    >>> distribution.mean, round(distribution.second_moment, 4)
    (1.25, 1.5833)
    """

    def _moments(self) -> tuple[float, float]:
        return (self.low + self.high) / 2, (self.low**2 + self.low * self.high + self.high**2) / 3

    def from_uniform(self, uniform: np.ndarray) -> np.ndarray:
        """Return L + (U − L) u."""
        return self.low + (self.high - self.low) * uniform


@dataclass(frozen=True, kw_only=True)
class TwoPoint(_FromUniform):
    """Two-point distribution: one end of [low, high], the upper one with probability ``probability_high``.

    >>> vd.TwoPoint(low=1.0, high=2.0, probability_high=0.25).mean
    1.25
    """

    probability_high: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_real(
            "TwoPoint.probability_high", self.probability_high, low=0.0, high=1.0, open_low=self.low == 0
        )

    def _moments(self) -> tuple[float, float]:
        share, low, high = self.probability_high, self.low, self.high
        return low + share * (high - low), low**2 + share * (high**2 - low**2)

    def from_uniform(self, uniform: np.ndarray) -> np.ndarray:
        """Return U where u < ``probability_high``, else L."""
        return np.where(uniform < self.probability_high, self.high, self.low)


@dataclass(frozen=True, kw_only=True)
class TruncatedNormal(_FromUniform):
    """Truncated normal distribution: N(location, scale²) conditioned on [low, high], drawn by inversion of its CDF.

    >>> round(vd.TruncatedNormal(low=1.0, high=2.0, location=1.0, scale=0.5).mean, 4)
    1.3614
    """

    location: float = 1.25
    scale: float = 0.125

    def __post_init__(self) -> None:
        super().__post_init__()
        require_real("TruncatedNormal.location", self.location, low=-1e6, high=1e6)
        require_real("TruncatedNormal.scale", self.scale, low=1e-12, high=1e6)
        if self.low == self.high:
            raise invalid_value(
                "TruncatedNormal.high", self.high, f"must exceed low = {self.low:g}; else take Constant"
            )

    def from_uniform(self, uniform: np.ndarray) -> np.ndarray:
        """Return the quantile of u."""
        from scipy.stats import truncnorm

        ends = (np.array([self.low, self.high]) - self.location) / self.scale
        drawn = truncnorm.ppf(uniform, ends[0], ends[1], loc=self.location, scale=self.scale)
        return np.clip(drawn, self.low, self.high)  # rounding may leave the interval by a digit

    def _moments(self) -> tuple[float, float]:
        # Gauss-Legendre on the part of [low, high] where the density is within e^-40 of its peak: the
        # closed form cancels to nothing where the location lies many scales outside.
        peak = min(max(self.low, self.location), self.high)
        offset, spread = abs(peak - self.location), 80 * self.scale**2
        reach = spread / (offset + (offset**2 + spread) ** 0.5)
        low, high = max(self.low, peak - reach), min(self.high, peak + reach)
        nodes, weights = np.polynomial.legendre.leggauss(128)
        z = low + (high - low) * (nodes + 1) / 2
        weights = weights * np.exp(-(z - peak) * (z + peak - 2 * self.location) / (2 * self.scale**2))
        total = weights.sum()
        return float((weights * z).sum() / total), float((weights * z**2).sum() / total)


@dataclass(frozen=True, kw_only=True)
class Beta(_OnInterval):
    """Beta distribution stretched to [low, high]: z = L + (U − L) x with x ~ Beta(alpha, beta).

    >>> vd.Beta(low=1.0, high=2.0, alpha=2.0, beta=2.0).mean
    1.5
    """

    alpha: float = 2.0
    beta: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_real("Beta.alpha", self.alpha, low=0.0, high=1e6, open_low=True)
        require_real("Beta.beta", self.beta, low=0.0, high=1e6, open_low=True)

    def _moments(self) -> tuple[float, float]:
        total, width = self.alpha + self.beta, self.high - self.low
        mean = self.low + width * self.alpha / total
        return mean, mean**2 + self.alpha * self.beta / (total**2 * (total + 1)) * width**2

    def sample(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draw an array of independent latents."""
        return self.low + (self.high - self.low) * generator.beta(self.alpha, self.beta, shape)


@dataclass(frozen=True, kw_only=True)
class Constant(_Stated):
    """Constant distribution: every latent equals ``value``.

    >>> vd.Constant(value=1.2).second_moment
    1.44
    """

    value: float = 1.0

    def __post_init__(self) -> None:
        require_real("Constant.value", self.value, low=0.0, high=1e6, open_low=True)

    @property
    def low(self) -> float:
        """L."""
        return self.value

    @property
    def high(self) -> float:
        """U."""
        return self.value

    def _moments(self) -> tuple[float, float]:
        return self.value, self.value**2

    def sample(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Return the constant, in the given shape; the generator is not touched."""
        return np.full(shape, float(self.value))


@dataclass(frozen=True, kw_only=True)
class Custom:
    """Any distribution of the user's: ``draw(generator, shape)`` returns independent latents in [low, high].

    The moments are not asked for: they are estimated once from 2^20 draws of a fixed stream, to about
    one part in a thousand. A spec that holds a function can be saved as JSON but not rebuilt from it.

    >>> draw = lambda generator, shape: generator.triangular(1.0, 1.0, 2.0, shape)
    >>> round(vd.Custom(draw=draw, low=1.0, high=2.0).mean, 2)
    1.33
    """

    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
    low: float
    high: float

    def __post_init__(self) -> None:
        _require_support(self)
        if not callable(self.draw):
            raise invalid_value("Custom.draw", self.draw, "must be a function (generator, shape) -> array")
        try:  # a few draws now: a function that cannot be called so is told of here, not in a run
            self.sample(np.random.default_rng(0), (64, 2))
        except (TypeError, AttributeError) as error:
            words = (
                f"must be a function (generator, shape) -> array; called so: {' '.join(str(error).split())}"
            )
            raise invalid_value("Custom.draw", self.draw, words) from error

    mean = property(partial(_estimate, power=1), doc="E z, estimated.")
    second_moment = property(partial(_estimate, power=2), doc="E z², estimated.")

    def sample(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draw, and check that what came back has the shape and the support that were promised."""
        return _checked_draw("Custom.draw", self, self.draw(generator, shape), shape)


DISTRIBUTIONS = Registry(
    "distribution",
    class_with("low", "high", "mean", "second_moment", "sample"),
    {
        "uniform": Uniform,
        "two-point": TwoPoint,
        "truncated-normal": TruncatedNormal,
        "beta": Beta,
        "constant": Constant,
    },
)
