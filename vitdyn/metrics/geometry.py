"""Alignment and uniformity of features on the sphere."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn import losses
from vitdyn._errors import invalid_value
from vitdyn.metrics.arrays import Array, as_float64, require_alike
from vitdyn.metrics.measured import Convention, Measured, number, one_by_one, product_error, resolve

_ROWS = 512
_TOLERATED = 1e-8  # relative error of a potential


@dataclass(frozen=True, kw_only=True)
class SphereConvention(Convention):
    """``power`` of the distance (alignment), ``temperature`` t (uniformity), whether features are ``normalised``."""

    power: float = number(2.0, 100, open_low=True)
    temperature: float = number(2.0, 1e6, open_low=True)
    normalised: bool = True


SPHERE = {"exact": SphereConvention(), "unnormalised": SphereConvention(normalised=False)}


def alignment(
    first: Float[Array, "*batch sample feature"],
    second: Float[Array, "*batch sample feature"],
    *,
    convention: str | SphereConvention = "exact",
) -> Measured:
    """Mean distance of positive pairs, E ‖x − y‖^α with α = 2, of unit vectors. Value: (*batch), 0 to 2^α.

    Row i of ``first`` and of ``second`` are two views of one sample; leading axes broadcast. A vector of length 0 stays
    at the centre of the sphere. Source: Wang and Isola (2020).
    """
    convention = resolve(convention, SPHERE)
    x = as_float64("first", first, "sample feature", (1, 1))
    y = as_float64("second", second, "sample feature", (1, 1), beside=x)
    if x.shape[-2:] != y.shape[-2:]:
        raise invalid_value(
            "second", tuple(y.shape), f"must hold a pair for each row of first, {tuple(x.shape)}"
        )
    require_alike("second", y.shape[:-2], x.shape[:-2])
    value = losses.alignment(x, y, power=convention.power, normalise=convention.normalised)
    return Measured(value, convention)


def uniformity(
    features: Float[Array, "*batch sample feature"], *, convention: str | SphereConvention = "exact"
) -> Measured:
    """Logarithm of the mean Gaussian potential, log E_{i<j} exp(−t ‖x_i − x_j‖²), t = 2, of unit vectors.

    Value: (*batch). 0 if all vectors agree, −4t if two are opposite; lower is more uniform. A vector of length 0
    stays at the centre of the sphere. Source: Wang and Isola (2020).
    """
    convention = resolve(convention, SPHERE)
    rows = as_float64("features", features, "sample feature", (2, 1))
    rows = losses.unit_vectors(rows) if convention.normalised else rows - rows[..., :1, :]
    return Measured(
        one_by_one(lambda one: _log_potential(one, convention.temperature), [rows], [2]), convention
    )


def _log_potential(rows: Tensor, temperature: float) -> Tensor:
    """Return the log of the mean over ordered pairs i ≠ j, a few rows at a time."""
    samples = len(rows)
    squares = rows.square().sum(-1)
    # Products are faster, where their round-off is small against what the temperature resolves.
    by_products = bool(temperature * product_error(rows, rows).max() < _TOLERATED)
    sums = []
    for start in range(0, samples, _ROWS):
        part = rows[start : start + _ROWS]
        if by_products:
            apart = (squares[start : start + _ROWS, None] + squares - 2 * part @ rows.mT).clamp_min(0)
        else:
            apart = torch.cdist(part, rows, compute_mode="donot_use_mm_for_euclid_dist").square()
        # A sample is no pair with itself: e^{−∞} adds nothing.
        apart[torch.arange(len(part)), torch.arange(start, start + len(part))] = torch.inf
        sums.append(torch.logsumexp((-temperature * apart).flatten(), 0))
    return torch.logsumexp(torch.stack(sums), 0) - log(samples * (samples - 1))
