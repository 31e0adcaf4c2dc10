"""Latents on the device that uses them: uniform numbers of the counter stream through a distribution's quantile."""

from __future__ import annotations

from collections.abc import Sequence
from math import erfc, sqrt

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn.data.counter import uniforms
from vitdyn.data.latents import (
    Constant,
    Distribution,
    TruncatedNormal,
    TwoPoint,
    Uniform,
    draw_of_streams,
    is_ours,
)
from vitdyn.seeds import Streams

_LEAST_TAIL = 1e-200
"""Probability of the nearer tail below which a normal quantile loses its digits in float64, and is left to the CPU."""


def has_quantile(distribution: Distribution) -> bool:
    """Return whether a distribution is drawn on the device; Beta, Custom and far normal tails are drawn on CPU."""
    if not is_ours(distribution):
        return False
    if isinstance(distribution, TruncatedNormal):
        return _tail(distribution) > _LEAST_TAIL
    return type(distribution) in (Uniform, TwoPoint, Constant)


def quantile(distribution: Distribution, uniform: Tensor) -> Tensor:
    """Return the distribution's quantile of uniform numbers in [0, 1).

    Uniform: L + (U − L) u. Two-point: U where u < probability_high, else L. Constant: its value. Truncated
    normal: μ + σ Φ⁻¹(Φ(a) + u (Φ(b) − Φ(a))), a and b being the ends in units of σ; reflected where both ends
    lie above μ, so that no digit is lost in the upper tail; in float64 in any case.

    Raises ``ValueError`` for other distributions (see ``has_quantile``).
    """
    if isinstance(distribution, Uniform):
        return distribution.low + (distribution.high - distribution.low) * uniform
    if isinstance(distribution, TwoPoint):
        return torch.where(uniform < distribution.probability_high, distribution.high, distribution.low).to(
            uniform
        )
    if isinstance(distribution, Constant):
        return torch.full_like(uniform, distribution.value)
    if isinstance(distribution, TruncatedNormal) and has_quantile(distribution):
        low, high = _ends(distribution)
        sign = -1.0 if low > 0 else 1.0
        if sign < 0:  # Φ(a) and Φ(b) both round to 1 in the upper tail, where the lower one keeps all digits
            low, high = -high, -low
        start, stop = _below(low), _below(high)
        drawn = torch.special.ndtri(start + uniform.double() * (stop - start))
        return (
            (distribution.location + sign * distribution.scale * drawn)
            .clamp(distribution.low, distribution.high)
            .to(uniform)
        )
    raise ValueError(f"distribution = {distribution!r}: has no quantile on a device; draw it on CPU")


def draw_latents(
    distribution: Distribution, keys: Int[Tensor, " seed"], step: int | Tensor, samples: int, areas: int
) -> Float[Tensor, "seed sample area"]:
    """Draw latents in float32 on the device of ``keys``, for a distribution that has a quantile."""
    return quantile(distribution, uniforms(keys, step, 0, samples, areas))


def draw_on_cpu(
    distribution: Distribution, seeds: Sequence[int], step: int, samples: int, areas: int
) -> Float[Tensor, "seed sample area"]:
    """Draw latents of any distribution by numpy's streams, as training on CPU does; in float32."""
    streams = Streams(tuple(seeds), "latents", step)
    return torch.from_numpy(draw_of_streams(distribution, streams, (samples, areas))).float()


def _ends(distribution: TruncatedNormal) -> tuple[float, float]:
    return (distribution.low - distribution.location) / distribution.scale, (
        distribution.high - distribution.location
    ) / distribution.scale


def _below(end: float) -> float:
    return 0.5 * erfc(-end / sqrt(2))


def _tail(distribution: TruncatedNormal) -> float:
    """Return the mass of the nearer tail: below the upper end, or above the lower one."""
    low, high = _ends(distribution)
    return min(_below(high), _below(-low))
