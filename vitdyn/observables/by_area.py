"""Summaries over positions: mean, minimum and maximum by the area of the query and the area of the key."""

from __future__ import annotations

from math import inf, nan

import torch
from jaxtyping import Float, Int
from torch import Tensor


def over_positions(
    values: Float[Tensor, "seed query *rest"], areas: Int[Tensor, " query"], count: int
) -> Float[Tensor, "seed area *rest statistic"]:
    """Return mean, minimum and maximum over the positions of each of ``count`` areas, values that are NaN left out.

    An area without a value gives NaN.
    """
    counted = ~values.isnan()
    member = torch.nn.functional.one_hot(areas, count).to(values)
    number = torch.einsum("sp...,pi->si...", counted.to(values), member)
    total = torch.einsum("sp...,pi->si...", values.nan_to_num(0.0), member)
    low = _extreme(values.masked_fill(~counted, inf), areas, count, "amin")
    high = _extreme(values.masked_fill(~counted, -inf), areas, count, "amax")
    stacked = torch.stack([total / number, low, high], -1)
    return stacked.masked_fill((number == 0)[..., None], nan)


def over_pairs(
    values: Float[Tensor, "seed query key"], areas: Int[Tensor, " query"], count: int
) -> Float[Tensor, "seed area area statistic"]:
    """Return mean, minimum and maximum over the pairs p ≠ q of each pair of areas; NaN where there is none."""
    off_diagonal = ~torch.eye(len(areas), dtype=torch.bool, device=values.device)
    member = torch.nn.functional.one_hot(areas, count).to(values)
    number = member.T @ off_diagonal.to(values) @ member
    mean = member.T @ (values * off_diagonal) @ member / number
    extremes = []
    for worst, reduce in ((inf, "amin"), (-inf, "amax")):
        by_query = _extreme(values.masked_fill(~off_diagonal, worst), areas, count, reduce)
        extremes.append(_extreme(by_query.transpose(1, 2), areas, count, reduce).transpose(1, 2))
    return torch.stack([mean, *extremes], -1).masked_fill((number == 0)[..., None], nan)


def _extreme(values: Tensor, areas: Tensor, count: int, reduce: str) -> Tensor:
    index = areas.reshape(-1, *[1] * (values.ndim - 2)).expand_as(values)
    target = values.new_zeros(len(values), count, *values.shape[2:])
    return target.scatter_reduce(1, index, values, reduce, include_self=False)
