"""Latents on the device that uses them: uniform numbers of the counter stream through a law's quantile."""

from __future__ import annotations

from collections.abc import Sequence
from math import erfc, sqrt

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn.data.counter import uniforms
from vitdyn.data.latents import Constant, Law, TruncatedNormal, TwoPoint, Uniform, draw_of_streams, is_ours
from vitdyn.seeds import Streams

_LEAST_TAIL = 1e-200
"""Below such a probability of the nearer tail, the quantile of a normal law in float64 is left to the CPU."""


def has_quantile(law: Law) -> bool:
    """Return whether a law is drawn on the device; Beta, Custom and far tails of the normal law are drawn on CPU."""
    if not is_ours(law):
        return False
    if isinstance(law, TruncatedNormal):
        return _tail(law) > _LEAST_TAIL
    return type(law) in (Uniform, TwoPoint, Constant)


def quantile(law: Law, uniform: Tensor) -> Tensor:
    """Return the law's quantile of uniform numbers in [0, 1).

    Uniform: L + (U − L) u. Two-point: U where u < probability_high, else L. Constant: its value. Truncated
    normal: μ + σ Φ⁻¹(Φ(a) + u (Φ(b) − Φ(a))), a and b being the ends in units of σ; reflected where both ends
    lie above μ, so that no digit is lost in the upper tail; in float64 in any case.

    Raises ``ValueError`` for other laws (see ``has_quantile``).
    """
    if isinstance(law, Uniform):
        return law.low + (law.high - law.low) * uniform
    if isinstance(law, TwoPoint):
        return torch.where(uniform < law.probability_high, law.high, law.low).to(uniform)
    if isinstance(law, Constant):
        return torch.full_like(uniform, law.value)
    if isinstance(law, TruncatedNormal) and has_quantile(law):
        low, high = _ends(law)
        sign = -1.0 if low > 0 else 1.0
        if sign < 0:  # Φ(a) and Φ(b) both round to 1 in the upper tail, where the lower one keeps all digits
            low, high = -high, -low
        start, stop = _below(low), _below(high)
        drawn = torch.special.ndtri(start + uniform.double() * (stop - start))
        return (law.location + sign * law.scale * drawn).clamp(law.low, law.high).to(uniform)
    raise ValueError(f"law = {law!r}: has no quantile on a device; draw it on CPU")


def draw_latents(
    law: Law, keys: Int[Tensor, " seed"], step: int | Tensor, samples: int, areas: int
) -> Float[Tensor, "seed sample area"]:
    """Draw latents in float32 on the device of ``keys``, for a law that has a quantile."""
    return quantile(law, uniforms(keys, step, 0, samples, areas))


def draw_on_cpu(
    law: Law, seeds: Sequence[int], step: int, samples: int, areas: int
) -> Float[Tensor, "seed sample area"]:
    """Draw latents of any law by numpy's streams, as training on CPU does; in float32."""
    streams = Streams(tuple(seeds), "latents", step)
    return torch.from_numpy(draw_of_streams(law, streams, (samples, areas))).float()


def _ends(law: TruncatedNormal) -> tuple[float, float]:
    return (law.low - law.location) / law.scale, (law.high - law.location) / law.scale


def _below(end: float) -> float:
    return 0.5 * erfc(-end / sqrt(2))


def _tail(law: TruncatedNormal) -> float:
    """Return the mass of the nearer tail: below the upper end, or above the lower one."""
    low, high = _ends(law)
    return min(_below(high), _below(-low))
