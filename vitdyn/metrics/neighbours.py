"""Nearest neighbours: the search, and the accuracy of labels that they predict."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn._errors import invalid_value, require_choice, require_integer
from vitdyn.losses import unit_vectors
from vitdyn.metrics.arrays import Array, as_float64, tensor_of
from vitdyn.metrics.measured import Convention, Measured, number, one_by_one, one_of, product_error, resolve

_ROWS = 512
_SPARE = 4  # candidates beyond those asked for, whose distances are then taken exactly


@dataclass(frozen=True, kw_only=True)
class NeighbourConvention(Convention):
    """Which neighbours are near, "euclidean" or "cosine", and how they vote.

    With ``temperature`` τ a neighbour votes with exp(cos/τ) (cosine only), without it each has one vote. A tie
    goes to the smallest label.
    """

    distance: str = one_of("euclidean", "cosine")
    temperature: float | None = number(None, 1e6, open_low=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature is not None and self.distance != "cosine":
            raise invalid_value("temperature", self.temperature, "must be None unless the distance is cosine")


NEIGHBOURS = {
    "exact": NeighbourConvention(),
    "cosine": NeighbourConvention(distance="cosine"),
    "dino": NeighbourConvention(distance="cosine", temperature=0.07),
}


class Neighbours(NamedTuple):
    """The nearest rows of each query, the nearest first, and their Euclidean distances."""

    row: Int[Tensor, "query neighbour"]
    distance: Float[Tensor, "query neighbour"]


def nearest(
    queries: Float[Array, "query feature"],
    among: Float[Array, "row feature"],
    count: int,
    *,
    known: str = "all",
) -> Neighbours:
    """Return the ``count`` nearest rows of each query.

    ``known``: which rows a query may have. "all"; "others", all but the row of its own number; "earlier", those of
    smaller numbers: then queries 0, 1, ... have too few, and rows that do not exist have distance ∞.
    Distances are those of differences, not of products, so that equal rows have distance 0 exactly; so are the choices
    among rows that products cannot tell apart, as in tight clusters far from each other: scikit-learn's brute-force
    search decides these by round-off.
    """
    require_choice("known", known, ("all", "others", "earlier"))
    require_integer("count", count, at_least=1)
    among = as_float64("among", among, "row feature", (1, 1))
    queries = as_float64("queries", queries, "query feature", (1, 1), beside=among)
    for field, array in (("among", among), ("queries", queries)):
        if array.ndim != 2 or array.shape[1] != among.shape[-1]:
            raise invalid_value(
                f"shape of {field}", tuple(array.shape), f"must be (row, {among.shape[-1]} features)"
            )
    count = int(count)
    if count > len(among):
        raise invalid_value("count", count, f"must be {len(among)} or less, the number of rows")
    middle = among.mean(0)  # products keep most digits near the origin
    near = among - middle
    rows = torch.arange(len(among), device=among.device)
    found = []
    for start in range(0, len(queries), _ROWS):
        part = queries[start : start + _ROWS]
        own = torch.arange(start, start + len(part), device=among.device)[:, None]
        apart = torch.cdist(part - middle, near, compute_mode="use_mm_for_euclid_dist")
        excluded = {"all": rows < 0, "others": rows == own, "earlier": rows >= own}[known]
        apart = apart.masked_fill(excluded, inf)
        row, distance, reach = _nearest_by_products(part - middle, near, apart, count)
        # Products cannot order these: all rows within reach are compared by differences.
        for query in reach.isfinite().nonzero()[:, 0].tolist():
            close = (apart[query].square() <= reach[query]).nonzero()[:, 0]
            exact = torch.linalg.vector_norm(part[query] - among[close], dim=-1)
            order = exact.argsort(stable=True)[:count]
            row[query], distance[query] = close[order], exact[order]
        found.append((row, distance))
    row, distance = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Neighbours(row, distance)


def _nearest_by_products(
    queries: Tensor, among: Tensor, apart: Float[Tensor, "query row"], count: int
) -> tuple[Tensor, Tensor, Float[Tensor, " query"]]:
    """Return the nearest rows by the distances ``apart``, made of products, and their distances by differences.

    Last, the square of how far the nearest may lie by ``apart`` where others might be nearer, NaN where none is.
    """
    near = apart.topk(min(count + _SPARE, len(among)), largest=False)
    exact = torch.linalg.vector_norm(queries[:, None] - among[near.indices], dim=-1)
    exact = torch.where(near.values == inf, inf, exact)
    order = exact.argsort(dim=-1, stable=True)[:, :count]
    row, distance = near.indices.gather(1, order), exact.gather(1, order)
    reach = distance[:, -1].square() + product_error(queries, among)
    cut = near.values[:, -1]  # what was passed over is no nearer than this, but for the round-off of products
    doubtful = (cut < inf) & (cut.square() <= reach) & (distance[:, -1] > 0)
    doubtful &= near.values.shape[1] < len(among)
    return row, distance, reach.where(doubtful, nan)


def neighbour_accuracy(
    features: Float[Array, "*batch sample feature"],
    labels: Int[Array, "*batch sample"],
    test_features: Float[Array, "*batch test feature"],
    test_labels: Int[Array, "*batch test"],
    *,
    neighbours: int,
    convention: str | NeighbourConvention = "exact",
) -> Measured:
    """Share of test samples whose label the ``neighbours`` nearest samples vote for. Value: (*batch).

    ``dino`` is the vote of Caron et al. (2021), in the manner of Wu et al. (2018): cosine, weights exp(cos/0.07); they
    use 10 or 20 neighbours. Labels are whole numbers from 0, gaps allowed, and broadcast over leading axes. A row of
    zeros has no direction and is refused where the distance is a cosine.
    """
    convention = resolve(convention, NEIGHBOURS)
    train, test = train_and_test(features, test_features)
    require_integer("neighbours", neighbours, at_least=1)
    if neighbours > train.shape[-2]:
        raise invalid_value(
            "neighbours", neighbours, f"must be {train.shape[-2]} or fewer, the number of samples"
        )
    if convention.distance == "cosine":
        train, test = _directions("features", train), _directions("test_features", test)
    known, asked = labels_of("labels", labels, train), labels_of("test_labels", test_labels, test)

    def share(of: Tensor, own: Tensor, to: Tensor, truth: Tensor) -> Tensor:
        return (_vote(nearest(to, of, neighbours), own, convention) == truth).to(torch.float64).mean()

    return Measured(one_by_one(share, [train, known, test, asked], [2, 1, 2, 1]), convention)


def train_and_test(
    features: Float[Array, "*batch sample feature"], test_features: Float[Array, "*batch test feature"]
) -> tuple[Float[Tensor, "*batch sample feature"], Float[Tensor, "*batch test feature"]]:
    """Return both in float64; raise unless they have the same leading axes and features."""
    train = as_float64("features", features, "sample feature", (1, 1))
    test = as_float64("test_features", test_features, "test feature", (1, 1), beside=train)
    if (test.shape[:-2], test.shape[-1]) != (train.shape[:-2], train.shape[-1]):
        raise invalid_value(
            "test_features", tuple(test.shape), f"must match the features, {tuple(train.shape)}"
        )
    return train, test


def labels_of(field: str, labels: Array, features: Tensor) -> Int[Tensor, "*batch sample"]:
    """Return labels as whole numbers, broadcast to (*batch, sample) of ``features``; raise if they do not fit."""
    found = tensor_of(field, labels)
    if found.is_floating_point():
        raise invalid_value(field, str(found.dtype), "must be an array of whole numbers")
    if found.ndim == 0 or found.shape[-1] != features.shape[-2]:
        raise invalid_value(
            f"shape of {field}", tuple(found.shape), f"must end in {features.shape[-2]} samples"
        )
    found = found.to(features.device, torch.int64)
    if found.numel() and int(found.min()) < 0:
        raise invalid_value(field, int(found.min()), "must be 0 or more")
    try:
        return found.expand(features.shape[:-1])
    except RuntimeError:
        remedy = f"must broadcast to {tuple(features.shape[:-1])}"
        raise invalid_value(f"shape of {field}", tuple(found.shape), remedy) from None


def _directions(field: str, vectors: Float[Tensor, "*batch sample feature"]) -> Tensor:
    """Return vectors of length 1; raise where one has no direction."""
    unit = unit_vectors(vectors)
    empty = (unit == 0).all(-1).nonzero()
    if len(empty):
        place = f"{field}[{', '.join(str(index) for index in empty[0].tolist())}]"
        raise invalid_value(
            place, 0.0, f"has no direction, as {len(empty)} rows: leave them out, or take another convention"
        )
    return unit


def _vote(
    found: Neighbours, labels: Int[Tensor, " sample"], convention: NeighbourConvention
) -> Int[Tensor, " query"]:
    """Return the label with most votes for each query, counted over the labels that occur, a few queries at a time."""
    # Votes are counted for labels that occur, so that gaps among labels take no memory.
    occurring, number = labels.unique(return_inverse=True)
    weight = torch.ones_like(found.distance)
    if convention.temperature is not None:
        cosine = 1 - found.distance.square() / 2
        weight = torch.exp((cosine - cosine.amax(-1, keepdim=True)) / convention.temperature)
    most = [
        part.new_zeros(len(part), len(occurring)).scatter_add_(1, number[row], part).argmax(-1)
        for part, row in zip(weight.split(_ROWS), found.row.split(_ROWS), strict=True)
    ]
    return occurring[torch.cat(most)]
