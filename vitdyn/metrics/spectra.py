"""Spectra of representations: over space (Fourier) and over feature directions (singular values)."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value, require_choice, require_integer
from vitdyn.metrics.arrays import Array, as_float64
from vitdyn.metrics.measured import (
    ROUND_OFF,
    Convention,
    Measured,
    centred,
    number,
    one_of,
    over,
    resolve,
    without_error,
)


@dataclass(frozen=True, kw_only=True)
class FourierConvention(Convention):
    """``offset`` guards the logarithm; channels are averaged as "logs" or as "amplitudes"; Nyquist or not."""

    offset: float = number(0.0, 1)
    averaged: str = one_of("logs", "amplitudes")
    nyquist: bool = True


@dataclass(frozen=True, kw_only=True)
class SpectrumConvention(Convention):
    """What is returned of a covariance spectrum.

    ``quantity``: "variance" (eigenvalues λ of the covariance, denominator n − 1) or "singular" (σ = √((n − 1) λ), of
    the centred features). ``logarithm``: of it, natural. ``relative``: to the first (a ratio, or a difference of logs).
    """

    quantity: str = one_of("variance", "singular")
    logarithm: bool = False
    relative: bool = False


@dataclass(frozen=True, kw_only=True)
class VarianceConvention(Convention):
    """Variance with denominator n, or n − 1 if ``unbiased``."""

    unbiased: bool = False


FOURIER = {
    "exact": FourierConvention(),
    "cl-vs-mim": FourierConvention(offset=1e-6, nyquist=False),
}
SPECTRUM = {
    "exact": SpectrumConvention(),
    "singular": SpectrumConvention(quantity="singular"),
    "cl-vs-mim": SpectrumConvention(logarithm=True, relative=True),
}
VARIANCE = {"exact": VarianceConvention(), "how-do-vits-work": VarianceConvention(unbiased=True)}

_MOST_TOKENS = 2**20


def diagonal_frequencies(
    side: int | tuple[int, int], *, convention: str | FourierConvention = "exact"
) -> Float[Tensor, " frequency"]:
    """Return the frequencies, in units of π, at which :func:`fourier_log_amplitude` reads a grid.

    0, 2/side, ... up to (side − 2)/side for an even side, and 1 with Nyquist; up to (side − 1)/side for an odd one. A
    grid of (rows, columns) has those that both its axes have, which are those of their greatest common divisor.
    """
    common = gcd(*grid_of(side))
    return 2 * torch.arange(_points(common, resolve(convention, FOURIER)), dtype=torch.float64) / common


def fourier_log_amplitude(
    features: Float[Array, "*batch token feature"],
    side: int | tuple[int, int],
    *,
    convention: str | FourierConvention = "exact",
) -> Measured:
    """Relative log amplitude along the diagonal of the spatial spectrum, Δ(f) = a(f, f) − a(0, 0).

    Tokens, row by row, form a side × side grid, or one of ``side`` = (rows, columns). With F the unnormalised discrete
    Fourier transform of each channel, a = mean over channels of log(|F| + offset), natural logarithm. Value: (*batch,
    frequency), at :func:`diagonal_frequencies`, the same on both axes; Δ(0) = 0; the last entry is the usual scalar of
    high-frequency content. Means over images are the caller's and commute with this.

    ``exact`` has no offset and reads the Nyquist frequency of an even side. An amplitude within round-off of the
    transform is 0: its channel measures −∞, or +∞ relative to a DC of 0, and the mean with it (NaN if channels of both
    kinds meet). A channel that has neither amplitude, as a dead unit has none at all, tells no ratio of the two and is
    left out of the mean at that frequency; 0 if no channel is left.
    ``cl-vs-mim`` (Park et al. 2023; Park and Kim 2022) has offset 1e-6, so that it changes with the scale of the
    features and counts a dead unit as 0, and never reads Nyquist, though its figures label the last point 1.0 π: a
    checkerboard is invisible to it. "amplitudes" is the logarithm of the mean instead of the mean of logarithms.
    Raises ``ValueError`` if the tokens do not fill the grid, or its axes have no frequency in common besides 0.
    """
    convention = resolve(convention, FOURIER)
    rows, columns = grid_of(side)
    tokens = as_float64("features", features, "token feature", (1, 1))
    if tokens.shape[-2] != rows * columns:
        raise invalid_value("side", side, f"the grid must hold the number of tokens, {tokens.shape[-2]}")
    points = _points(gcd(rows, columns), convention)
    if points < 2 and rows != columns:
        raise invalid_value("side", side, "the axes must have a frequency in common besides 0: crop the grid")
    # Only the diagonal is read: its few waves cost less than a whole transform.
    waves = _diagonal_waves(rows, columns, points).to(tokens.device)
    spectrum = (tokens.mT.to(torch.complex128) @ waves).abs()  # (*batch, channel, frequency)
    # What a sum of so many terms leaves of nothing.
    floor = 4 * ROUND_OFF * tokens.abs().sum(-2)[..., None]
    amplitude = (
        torch.where(spectrum > floor, spectrum, 0.0)
        if convention.offset == 0
        else spectrum + convention.offset
    )
    if convention.averaged == "logs" and bool((amplitude == 0).any()):
        return Measured(_mean_log_ratio(amplitude), convention)
    level = amplitude.log().mean(-2) if convention.averaged == "logs" else amplitude.mean(-2).log()
    # Equal levels differ by 0, both of −∞ too, whose difference is NaN.
    first = level[..., :1]
    return Measured(torch.where(level == first, 0.0, level - first), convention)


def singular_value_spectrum(
    features: Float[Array, "*batch image token feature"],
    *,
    by: str,
    convention: str | SpectrumConvention = "exact",
) -> Measured:
    """Spectrum of the covariance of features, largest first.

    ``by``:

        "token"  (*batch, token, feature): covariance over the tokens of each image; average log spectra over
                 images afterwards.
        "image"  (*batch, image, token, feature): tokens are averaged first, covariance over images.

    Value: (*batch, min(n − 1, feature)) for n tokens or images: the covariance has no higher rank. What is below
    the round-off of the largest is 0, and −∞ as a logarithm; a spectrum that is all 0 is 1 (0 as a
    logarithm) relative to its first.

    ``cl-vs-mim`` follows the authors' description of Park et al. (2023), issue 2 of their repository: "singular
    values" there are those of the covariance, so variances: log λ = 2 log σ − log(n − 1). Theirs are d long.
    """
    convention = resolve(convention, SPECTRUM)
    require_choice("by", by, ("token", "image"))
    if by == "token":
        rows = as_float64("features", features, "token feature", (2, 1))
    else:
        tokens = as_float64("features", features, "image token feature", (2, 1, 1))
        rows = without_error(tokens.mean(-2), tokens.abs().amax((-3, -2, -1)), tokens.shape[-2])
    values = covariance_spectrum(rows)
    if convention.quantity == "singular":
        values = torch.sqrt(values * (rows.shape[-2] - 1))
    if convention.relative:
        values = over(values, values[..., :1], 1.0)
    return Measured(values.log() if convention.logarithm else values, convention)


def covariance_spectrum(
    features: Float[Tensor, "*batch sample feature"],
) -> Float[Tensor, "*batch direction"]:
    """Return the min(n − 1, d) largest eigenvalues of the covariance, denominator n − 1; round-off is 0."""
    samples = features.shape[-2]
    # Singular values of features and not eigenvalues of the covariance: small ones keep twice the digits.
    values = torch.linalg.svdvals(centred(features))[..., : samples - 1]
    floor = ROUND_OFF * max(features.shape[-2:]) * values[..., :1]
    return torch.where(values > floor, values, 0.0).square() / (samples - 1)


def feature_map_variance(
    features: Float[Array, "*batch token feature"], *, convention: str | VarianceConvention = "exact"
) -> Measured:
    """Variance over the tokens (both spatial axes jointly), mean over channels. Value: (*batch).

    ``exact`` divides by n (a single token has variance 0), ``how-do-vits-work`` (Park and Kim 2022) by n − 1.
    """
    convention = resolve(convention, VARIANCE)
    tokens = as_float64("features", features, "token feature", (1 + convention.unbiased, 1))
    return Measured(
        centred(tokens).square().sum(-2).mean(-1) / (tokens.shape[-2] - convention.unbiased), convention
    )


def grid_of(side: int | tuple[int, int]) -> tuple[int, int]:
    """Return (rows, columns) of a grid, or of the square one of that side."""
    axes = tuple(side) if isinstance(side, tuple | list) else (side, side)
    for axis in axes:
        require_integer("side", axis, at_least=1)
    axes = tuple(map(int, axes))  # products of numpy's short numbers wrap around
    if len(axes) != 2 or axes[0] * axes[1] > _MOST_TOKENS:
        raise invalid_value(
            "side", side, f"must be a side, or (rows, columns), of {_MOST_TOKENS} tokens or fewer"
        )
    return axes


def _mean_log_ratio(
    amplitude: Float[Tensor, "*batch channel frequency"],
) -> Float[Tensor, "*batch frequency"]:
    """Return the mean over channels of log a(f) − log a(0), without those where both are 0; 0 if none is left."""
    has_ratio = (amplitude > 0) | (amplitude[..., :1] > 0)
    logs = amplitude.log()
    ratio = torch.where(has_ratio, logs - logs[..., :1], 0.0)
    return ratio.sum(-2) / has_ratio.sum(-2).clamp_min(1)


def _diagonal_waves(rows: int, columns: int, points: int) -> Tensor:
    """Return exp(−2πi f (row + column)/side) as (token, f): the diagonal is all that is read of the transform."""
    side = gcd(rows, columns)  # the longest period that fits both axes
    turns = (torch.arange(rows)[:, None] + torch.arange(columns)).reshape(-1, 1) * torch.arange(points) % side
    angle = -2 * torch.pi * turns.to(torch.float64) / side
    return torch.polar(torch.ones_like(angle), angle)


def _points(side: int, convention: FourierConvention) -> int:
    return (side + 1) // 2 + (side % 2 == 0 and convention.nyquist)
