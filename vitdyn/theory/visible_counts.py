"""Expectations over masks and latents at Q = 0, where all that is asked for is a polynomial in visible counts.

A uniform mask shows any r given keys with the probability (n)_r/(M)_r, n of M keys being visible, where (n)_r = n(n −
1)…(n − r + 1). So E Π_j V_j^{k_j} is a finite sum of products of falling factorials, exact in rational numbers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import product
from math import prod

import numpy as np

from vitdyn.data import Distribution
from vitdyn.theory.regime import drawn_latents

Powers = tuple[int, int]
"""(k, l) of V^k z^l, an area's visible count and latent."""
Monomial = tuple[tuple[Powers, ...], Powers, tuple[Powers, ...]]
"""Powers of each single area; of the area that is summed over next; of areas that are alike, distinct and summed."""


class Polynomial:
    """A polynomial in the (V, z) of single areas, of a further area *here*, and of sums over all areas like it.

    A monomial's last part ((k_1, l_1), …, (k_r, l_r)) stands for Σ Π_s V_{i_s}^{k_s} z_{i_s}^{l_s} over *distinct*
    areas i_1, …, i_r, so that expectations of products of sums are read off.
    """

    def __init__(self, terms: dict[Monomial, Fraction]) -> None:
        self.terms = terms

    @classmethod
    def variables(cls, singles: int) -> tuple[list[tuple[Polynomial, Polynomial]], Polynomial, Polynomial]:
        """Return (V, z) of each single area, then V and z of the area here."""
        none = ((0, 0),) * singles

        def one(area: int, powers: Powers) -> Polynomial:
            return cls({((*none[:area], powers, *none[area + 1 :]), (0, 0), ()): Fraction(1)})

        count, latent = (cls({(none, powers, ()): Fraction(1)}) for powers in ((1, 0), (0, 1)))
        return [(one(area, (1, 0)), one(area, (0, 1))) for area in range(singles)], count, latent

    def __add__(self, other: Polynomial | Fraction | int) -> Polynomial:
        terms = dict(self.terms)
        for monomial, value in self._like(other).terms.items():
            terms[monomial] = terms.get(monomial, Fraction(0)) + value
        return Polynomial(terms)

    def __mul__(self, other: Polynomial | Fraction | int) -> Polynomial:
        if not isinstance(other, Polynomial):
            return Polynomial({monomial: value * other for monomial, value in self.terms.items()})
        terms: Counter[Monomial] = Counter()
        for (left, value), (right, factor) in product(self.terms.items(), other.terms.items()):
            singles = tuple(map(_plus, left[0], right[0]))
            for distinct in _distinct_products(left[2], right[2]):
                terms[singles, _plus(left[1], right[1]), distinct] += value * factor  # type: ignore[assignment]
        return Polynomial(dict(terms))  # type: ignore[arg-type]

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Polynomial:
        return self * -1

    def __sub__(self, other: Polynomial | Fraction | int) -> Polynomial:
        return self + -1 * other

    def __rsub__(self, other: Fraction | int) -> Polynomial:
        return -self + other

    def total(self) -> Polynomial:
        """Return the sum over all areas that the area here can be."""
        terms: Counter[Monomial] = Counter()
        for (singles, here, others), value in self.terms.items():
            for distinct in _distinct_products((here,), others):
                terms[singles, (0, 0), distinct] += value  # type: ignore[assignment]
        return Polynomial(dict(terms))  # type: ignore[arg-type]

    def _like(self, other: Polynomial | Fraction | int) -> Polynomial:
        if isinstance(other, Polynomial):
            return other
        singles = len(next(iter(self.terms))[0])
        return Polynomial({(((0, 0),) * singles, (0, 0), ()): Fraction(other)})


def _plus(left: Powers, right: Powers) -> Powers:
    return left[0] + right[0], left[1] + right[1]


def _distinct_products(left: tuple[Powers, ...], right: tuple[Powers, ...]) -> list[tuple[Powers, ...]]:
    """Return the sums over distinct areas that the product of two such is: any of one may be any of the other."""
    if not left:
        return [tuple(sorted(right))]
    first, *rest = left
    found = [(first, *each) for each in _distinct_products(tuple(rest), right)]
    for place, each in enumerate(right):
        met = (*right[:place], *right[place + 1 :])
        found += [(_plus(first, each), *others) for others in _distinct_products(tuple(rest), met)]
    return [tuple(sorted(each)) for each in found]


@dataclass(frozen=True)
class UniformMasks:
    """Masks that show ``visible`` of ``keys`` keys: expectations of polynomials, with moments E z^k of latents.

    ``singles`` has the keys of each single area; there are ``others`` areas more, of ``size`` keys each. Sizes need not
    be whole numbers.
    """

    visible: Fraction
    keys: Fraction
    singles: tuple[Fraction, ...]
    others: Fraction
    size: Fraction
    moments: tuple[Fraction, ...]
    _kept: dict[Monomial, Fraction] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def _visible(self) -> list[Fraction]:
        """The probability that r given keys are all visible, for each r."""
        most = 12  # of eight factors, four have a V of their own: degrees above 8 do not occur
        ratios = (
            _falling(self.visible, r) / _falling(self.keys, r) if r < self.keys else 0 for r in range(most)
        )
        return [Fraction(each) for each in ratios]

    def mean(self, polynomial: Polynomial | Fraction) -> Fraction:
        """Return E of a polynomial in which the area here is summed over."""
        if not isinstance(polynomial, Polynomial):
            return Fraction(polynomial)
        return sum((value * self._of(monomial) for monomial, value in polynomial.terms.items()), Fraction(0))

    def _of(self, monomial: Monomial) -> Fraction:
        if monomial not in self._kept:
            singles, _, others = monomial
            areas = [*zip(self.singles, singles, strict=True), *((self.size, each) for each in others)]
            latents = prod(self.moments[power] for _, (_, power) in areas)
            ways = [
                [(r, _STIRLING[k][r] * _falling(size, r)) for r in range(k + 1)] for size, (k, _) in areas
            ]
            counts = sum(
                self._visible[sum(r for r, _ in way)] * prod(weight for _, weight in way)
                for way in product(*ways)
            )
            self._kept[monomial] = _falling(self.others, len(others)) * latents * counts
        return self._kept[monomial]


def _falling(number: Fraction, count: int) -> Fraction:
    return prod((number - i for i in range(count)), start=Fraction(1))


_STIRLING = [
    [1],
    [0, 1],
    [0, 1, 1],
    [0, 1, 3, 1],
    [0, 1, 7, 6, 1],
    [0, 1, 15, 25, 10, 1],
    [0, 1, 31, 90, 65, 15, 1],
]
"""V^k = Σ_r S(k, r) (V)_r: Stirling numbers of the second kind."""


def latent_moments(distribution: Distribution, most: int = 6) -> tuple[Fraction, ...]:
    """Return E z^k for k = 0, …, ``most``: by quadrature over quantiles where a distribution has these, else drawn."""
    quantile = getattr(distribution, "from_uniform", None)
    if quantile is None:
        z = drawn_latents(distribution)
        weights = np.full(len(z), 1 / len(z))
    else:
        nodes, each = np.polynomial.legendre.leggauss(8)
        panels = 64
        z = quantile(((np.arange(panels)[:, None] + (nodes + 1) / 2) / panels).ravel())
        weights = np.tile(each / 2 / panels, panels)
    return tuple(Fraction(float(weights @ z**power)) for power in range(most + 1))
