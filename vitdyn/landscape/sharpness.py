"""Sharpness: how far a loss rises, at worst, in a ball about a point."""

from __future__ import annotations

from math import inf, isfinite
from typing import NamedTuple

import torch

from vitdyn._errors import invalid_value, require_choice, require_integer, require_kind, require_real
from vitdyn.landscape.directions import filter_norms, gaussian_direction
from vitdyn.landscape.surface import Surface, Tensors, Vector

BALLS = ("filter", "weight", "absolute", "keskar")


class Sharpness(NamedTuple):
    """The largest rise of the loss that was found, the rise at the first-order point, and where the largest is.

    The worst case is at least ``value``: ascent may miss it.
    """

    value: float
    first_order: float
    displacement: Vector


def sharpness(
    surface: Surface, radius: float, *, ball: str = "filter", steps: int = 20, starts: int = 3, seed: int = 0
) -> Sharpness:
    """Return how far the loss rises at worst in a ball: max L(θ + δ) − L(θ) over ‖δ / T‖ ≤ ρ, ρ = ``radius``.

    ``ball`` says what T is. "absolute": 1. "filter": the norm of the filter that a number is in (as "goldstein" in
    ``normalised``; a tensor of one axis is one filter), which positive rescaling of consecutive layers does not change.
    "weight": |w| (Kwon et al. 2021, arXiv 2102.11600), which that of single hidden units does not change either. What
    is 0 in θ stays 0 in both. "keskar": |w| + 1, with the largest entry for a norm, and of the rise 100 / (1 + L(θ)) of
    itself (Keskar et al. 2017, arXiv 1609.04836, without their random subspace).

    The first-order point is the end of the ball along the gradient, ρ T² ∇L / ‖T ∇L‖, as in sharpness-aware
    minimisation (Foret et al. 2021, arXiv 2010.01412). Ascent begins there and at ``starts`` − 1 random ends, and takes
    ``steps`` steps along the gradient, the first as long as the radius and each shorter, back into the ball after each.
    A loss that is not finite counts as infinite.

    >>> import torch
    >>> bowl = vd.landscape.Surface(lambda at: at["w"].square() @ torch.tensor([1.0, 4.0]), {"w": torch.ones(2)})
    >>> found = vd.landscape.sharpness(bowl, 0.1, ball="absolute")
    >>> round(found.value, 4), round(found.first_order, 4)
    (0.863, 0.8629)
    """
    require_kind("surface", surface, Surface)
    require_real("radius", radius, low=0, high=inf, open_low=True)
    require_choice("ball", ball, BALLS)
    require_integer("steps", steps, at_least=0)
    require_integer("starts", starts, at_least=1)
    search = _Ball(surface, radius, ball)
    # the centre is in the ball too: near a maximum it is higher than the ends
    best, rise = torch.zeros_like(surface.point), 0.0
    uphill = search.end(search.gradient(best))
    first_order = search.rise(uphill)
    begins = [uphill, *(search.end(gaussian_direction(surface, seed, index)) for index in range(1, starts))]
    for place in begins:
        for step in range(steps + 1):
            if (found := search.rise(place)) > rise:
                best, rise = place, found
            onward = (1 - step / (steps + 1)) * search.end(search.gradient(place))
            place = search.into(place + onward)
    part = 100 / (1 + search.loss) if ball == "keskar" else 1.0
    return Sharpness(part * rise, part * first_order, search.scale * best)


class _Ball:
    """A ball about the point of a surface, in coordinates u = δ / T in which it is round, or a box."""

    def __init__(self, surface: Surface, radius: float, ball: str) -> None:
        self.surface, self.radius, self.boxed = surface, radius, ball == "keskar"
        self.loss, self.scale = surface.value(), surface.vector(_scales(surface, ball))
        if not self.scale.any():
            words = "has no extent where all weights are 0: take ball='absolute'"
            raise invalid_value("ball", ball, words)
        if self.boxed and self.loss <= -1:
            words = (
                f"divides by 1 + L = {1 + self.loss:.3g}: add a constant to the loss, or take another ball"
            )
            raise invalid_value("ball", ball, words)

    def gradient(self, place: Vector) -> Vector:
        """Return the gradient in the ball's coordinates, 0 where it is not finite."""
        return (self.scale * self.surface.gradient(self.scale * place)).nan_to_num(0.0, 0.0, 0.0)

    def rise(self, place: Vector) -> float:
        """Return the rise of the loss."""
        found = self.surface.value(self.scale * place) - self.loss
        return found if isfinite(found) else inf

    def end(self, direction: Vector) -> Vector:
        """Return the place of the ball that is farthest in a direction; its centre for 0."""
        if self.boxed:
            return self.radius * direction.sign()
        length = torch.linalg.vector_norm(direction)
        return self.radius * direction / length if length > 0 else torch.zeros_like(direction)

    def into(self, place: Vector) -> Vector:
        """Return the place of the ball that is nearest."""
        if self.boxed:
            return place.clamp(-self.radius, self.radius)
        return place * (self.radius / torch.linalg.vector_norm(place)).clamp(max=1.0)


def _scales(surface: Surface, ball: str) -> Tensors:
    """Return T, number by number."""
    if ball == "absolute":
        return {name: torch.ones_like(each) for name, each in surface.parameters.items()}
    if ball == "filter":
        by = "goldstein"
        return {name: filter_norms(each, by).expand_as(each) for name, each in surface.parameters.items()}
    more = 1.0 if ball == "keskar" else 0.0
    return {name: each.abs() + more for name, each in surface.parameters.items()}
