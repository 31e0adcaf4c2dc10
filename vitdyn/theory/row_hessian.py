"""A query's block of the Hessian by classes of its symmetry, from means over masks and latents however taken.

The block commutes with exchanges of keys within an area, and of areas that are alike. Directions that exchanges leave
alone form one small matrix; those that sum to 0 over what is exchanged form others, equal for all such directions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from vitdyn._errors import invalid_value

SAME, BETWEEN, WITHIN = "the same for all keys of an area", "between local areas", "between keys of"
WORDS = {"own": "the own area", "global": "the global area", "others": "another local area"}


@dataclass(frozen=True, kw_only=True)
class SymmetryClass:
    """One small matrix of a query's block of the Hessian, and how many times it stands there.

    ``coordinates`` are unit directions; ``hessian`` acts on them, ``gauss_newton`` is its part that is never negative,
    and ``gradient`` the gradient along them, which is 0 in all classes but the symmetric one.
    """

    name: str
    coordinates: tuple[str, ...]
    multiplicity: float
    hessian: Float[np.ndarray, "coordinate coordinate"]
    gauss_newton: Float[np.ndarray, "coordinate coordinate"]
    gradient: Float[np.ndarray, " coordinate"]

    @property
    def eigenvalues(self) -> Float[np.ndarray, " coordinate"]:
        """The eigenvalues, ascending: each is ``multiplicity`` times in the spectrum of a query's block."""
        return np.linalg.eigvalsh(self.hessian)

    def along(self, coordinate: str) -> tuple[float, float]:
        """Return the first and the second derivative of the loss along one coordinate."""
        if coordinate not in self.coordinates:
            raise invalid_value("coordinate", coordinate, f"must be one of {', '.join(self.coordinates)}")
        place = self.coordinates.index(coordinate)
        return float(self.gradient[place]), float(self.hessian[place, place])


@dataclass(frozen=True)
class Keys:
    """The n keys of an area, or of each of many alike: V are visible and weigh a each, the others b; g = ``pull``."""

    name: str
    n: Any
    V: Any
    z: Any
    a: Any
    b: Any
    pull: Any = 0
    strength: Any = 0

    @property
    def attention(self) -> Any:
        """A_j, on visible keys."""
        return self.V * self.a

    @property
    def masked(self) -> Any:
        """Attention on masked keys."""
        return (self.n - self.V) * self.b

    @property
    def square(self) -> Any:
        """s_j A_j²."""
        return self.strength * self.attention * self.attention


@dataclass(frozen=True)
class Average:
    """How expectations are taken: of exact polynomials or of samples; ``count`` areas are summed over by ``total``."""

    count: Any
    total: Callable[[Any], Any]
    mean: Callable[[Any], Any]

    def over(self, keys: Keys, value: Any) -> Any:
        """Return the sum over the areas that ``keys`` stand for."""
        return self.total(value) if keys.name == "others" else value


@dataclass(frozen=True)
class _Form:
    """H(x, y) = d(x, y) + w(x) ȳ + x̄ w(y) + S x̄ ȳ of an area's two directions, x = z on visible keys (Φ) or 1 (Υ)."""

    mean: tuple[Any, ...]
    w: tuple[Any, ...]
    d: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Row:
    """A query's keys, S = Σ s_j A_j² and ḡ; the classes are means of what is made from them."""

    keys: Sequence[Keys]
    average: Average
    S: Any
    mean_pull: Any

    @classmethod
    def of(cls, keys: Sequence[Keys], average: Average) -> Row:
        """Return the row of some keys."""

        def total(of: Callable[[Keys], Any]) -> Any:
            return sum(average.over(each, of(each)) for each in keys)

        return cls(
            keys, average, total(lambda each: each.square), total(lambda each: each.attention * each.pull)
        )

    def classes(self) -> tuple[SymmetryClass, ...]:
        """Return all classes, the symmetric one first."""
        others = next(each for each in self.keys if each.name == "others")
        between = [self._between(others)] if self.average.count > 1 else []
        within = [self._within(each) for each in self.keys if each.name != "self" and each.n > 1]
        return (self._symmetric(), *between, *within)

    def _lifted(self, keys: Keys) -> Any:
        return keys.attention * (keys.pull - self.mean_pull)

    def _form(self, keys: Keys, gauss_newton: bool) -> _Form:
        z, A, square, masked = keys.z, keys.attention, keys.square, keys.masked
        # of the rest, E[(g − ḡ) x] and E[(g − ḡ) x y]; masked keys have g = 0
        lifted, sunk = (0, 0) if gauss_newton else (self._lifted(keys), masked * self.mean_pull)
        bend = square - lifted
        w = z * (lifted - square), lifted - sunk - square
        return _Form((z * A, A + masked), w, ((z * z * bend, z * bend), (z * bend, bend + sunk)))

    def _symmetric(self) -> SymmetryClass:
        """Return the class of directions that are the same for all keys of an area."""
        coordinates = [
            (each, kind) for each in self.keys for kind in (0, 1) if not (each.name == "self" and kind == 0)
        ]
        sizes = [self._count(each) * (each.n if kind else 1) for each, kind in coordinates]
        units = np.array([float(size) ** -0.5 for size in sizes])
        matrices = []
        for gauss_newton in (False, True):
            sums = {each.name: self._summed(each, gauss_newton) for each in self.keys}
            matrix = np.empty((len(units), len(units)))
            for row, (left, first) in enumerate(coordinates):
                for column, (right, second) in enumerate(coordinates[: row + 1]):
                    entry = self._entry(sums[left.name], sums[right.name], first, second, left is right)
                    matrix[row, column] = matrix[column, row] = float(self.average.mean(entry))
            matrices.append(matrix * units * units[:, None])
        slopes = [self._slope(each, kind) for each, kind in coordinates]
        return SymmetryClass(
            name=SAME,
            coordinates=tuple(f"{'ΦΥ'[kind]} {each.name}" for each, kind in coordinates),
            multiplicity=1.0,
            hessian=matrices[0],
            gauss_newton=matrices[1],
            gradient=units * np.array([-float(self.average.mean(each)) for each in slopes]),
        )

    def _slope(self, keys: Keys, kind: int) -> Any:
        """Return Cov_π(g, x) of a symmetric direction."""
        lifted = self._lifted(keys)
        return self.average.over(keys, lifted - keys.masked * self.mean_pull if kind else keys.z * lifted)

    def _count(self, keys: Keys) -> Any:
        return self.average.count if keys.name == "others" else 1

    def _summed(self, keys: Keys, gauss_newton: bool) -> _Form:
        """Return the form of what all areas of a kind do together."""
        form = self._form(keys, gauss_newton)
        mean, w, *d = (
            tuple(self.average.over(keys, each) for each in row) for row in (form.mean, form.w, *form.d)
        )
        return _Form(mean, w, tuple(d))

    def _entry(self, left: _Form, right: _Form, first: int, second: int, same: bool) -> Any:
        x, y = left.mean[first], right.mean[second]
        return (
            left.w[first] * y + x * right.w[second] + self.S * x * y + (left.d[first][second] if same else 0)
        )

    def _between(self, others: Keys) -> SymmetryClass:
        """Return the class of differences between areas that are alike: what one does alone, less what all do."""
        count, units = self.average.count, np.array([1.0, float(others.n) ** -0.5])
        matrices = []
        for gauss_newton in (False, True):
            one, all_ = self._form(others, gauss_newton), self._summed(others, gauss_newton)
            matrix = np.empty((2, 2))
            for first, second in np.ndindex(2, 2):
                alone = self.average.over(others, self._entry(one, one, first, second, True))
                together = self._entry(all_, all_, first, second, True)
                mean = self.average.mean(alone - together * (1 / count))
                matrix[first, second] = float(mean / (count - 1))
            matrices.append(matrix * units * units[:, None])
        return _without_gradient(BETWEEN, ("Φ", "Υ"), count - 1, matrices)

    def _within(self, keys: Keys) -> SymmetryClass:
        """Return the class of differences between keys of one area: what a key does alone, less what all do."""
        n, A, masked, matrices = keys.n, keys.attention, keys.masked, []
        for gauss_newton in (False, True):
            form = self._form(keys, gauss_newton)
            trace = A * keys.a * (keys.strength * (1 - 2 * A) + self.S) + masked * keys.b * self.S
            if not gauss_newton:
                trace = (
                    trace + masked * self.mean_pull * (1 - 2 * keys.b) - self._lifted(keys) * (1 - 2 * keys.a)
                )
            together = self._entry(form, form, 1, 1, True)
            mean = self.average.mean(self.average.over(keys, trace - together * (1 / n)))
            matrices.append(np.array([[float(mean / (n - 1) / self._count(keys))]]))
        name = f"{WITHIN} {WORDS[keys.name]}"
        return _without_gradient(name, ("Υ",), self._count(keys) * (n - 1), matrices)


def _without_gradient(
    name: str, coordinates: tuple[str, ...], multiplicity: Any, matrices: list[np.ndarray]
) -> SymmetryClass:
    hessian, gauss_newton = matrices
    return SymmetryClass(
        name=name,
        coordinates=coordinates,
        multiplicity=float(multiplicity),
        hessian=hessian,
        gauss_newton=gauss_newton,
        gradient=np.zeros(len(coordinates)),
    )
