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
    number = _reduce(counted.to(values), areas, count, "sum")
    total = _reduce(values.nan_to_num(0.0), areas, count, "sum")
    low = _reduce(values.masked_fill(~counted, inf), areas, count, "amin")
    high = _reduce(values.masked_fill(~counted, -inf), areas, count, "amax")
    stacked = torch.stack([total / number, low, high], -1)
    return stacked.masked_fill((number == 0)[..., None], nan)


def over_pairs(
    values: Float[Tensor, "seed query key"], areas: Int[Tensor, " query"], count: int
) -> Float[Tensor, "seed area area statistic"]:
    """Return mean, minimum and maximum over the pairs p ≠ q of each pair of areas; NaN where there is none."""
    off_diagonal = ~torch.eye(len(areas), dtype=torch.bool, device=values.device)
    member = torch.nn.functional.one_hot(areas, count).to(values)
    number = member.T @ off_diagonal.to(values) @ member
    found = []
    for left_out, reduce in ((0.0, "sum"), (inf, "amin"), (-inf, "amax")):
        by_query = _reduce(values.masked_fill(~off_diagonal, left_out), areas, count, reduce)
        found.append(_reduce(by_query.transpose(1, 2), areas, count, reduce).transpose(1, 2))
    total, *extremes = found
    return torch.stack([total / number, *extremes], -1).masked_fill((number == 0)[..., None], nan)


def _reduce(values: Tensor, areas: Tensor, count: int, reduce: str) -> Tensor:
    """Reduce over the positions of each area, 0 for an area without any: a slice for each once they are sorted.

    No sum is a matrix product: its bits would depend on how many seeds there are, and on where in memory each lies.
    """
    sizes = torch.bincount(areas, minlength=count).tolist()
    by_area = values.index_select(1, torch.argsort(areas)).split(sizes, 1)
    reduced = [
        getattr(part, reduce)(1) if size else part.new_zeros(len(values), *values.shape[2:])
        for part, size in zip(by_area, sizes, strict=True)
    ]
    return torch.stack(reduced, 1)
