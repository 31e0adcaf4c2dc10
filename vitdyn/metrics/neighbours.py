"""Nearest neighbours: the search, and the accuracy of labels that they predict."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, prod
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn._errors import require_choice, require_integer, require_real, wrong
from vitdyn.metrics.measured import Measured, chosen, double
from vitdyn.metrics.similarity import unit_vectors

_ROWS = 512
_SPARE = 4  # candidates beyond those asked for, whose distances are then taken exactly


@dataclass(frozen=True, kw_only=True)
class NeighbourConvention:
    """Which neighbours are near, "euclidean" or "cosine", and how they vote.

    With ``temperature`` τ a neighbour votes with exp(cos/τ) (cosine only), without it each has one vote. A tie
    goes to the smallest label.
    """

    distance: str = "euclidean"
    temperature: float | None = None

    def __post_init__(self) -> None:
        require_choice("distance", self.distance, ("euclidean", "cosine"))
        if self.temperature is not None:
            require_real("temperature", self.temperature, low=0, high=1e6, open_low=True)
            if self.distance != "cosine":
                raise wrong("temperature", self.temperature, "must be None unless the distance is cosine")


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
    queries: Float[Tensor, "query feature"],
    among: Float[Tensor, "row feature"],
    count: int,
    *,
    known: str = "all",
) -> Neighbours:
    """Return the ``count`` nearest rows of each query.

    ``known``: which rows a query may have. "all"; "others", all but the row of its own number; "earlier", those of
    smaller numbers: then queries 0, 1, ... have too few, and rows that do not exist have distance ∞.
    Distances are those of differences, not of products, so that equal rows have distance 0 exactly.
    """
    require_choice("known", known, ("all", "others", "earlier"))
    among = double("among", among, "row feature", (1, 1))
    middle = among.mean(0)  # products keep most digits near the origin
    queries, among = double("queries", queries, "query feature", (1, 1)) - middle, among - middle
    rows = torch.arange(len(among), device=among.device)
    found = []
    for start in range(0, len(queries), _ROWS):
        part = queries[start : start + _ROWS]
        own = torch.arange(start, start + len(part), device=among.device)[:, None]
        apart = torch.cdist(part, among, compute_mode="use_mm_for_euclid_dist")
        hidden = {"all": rows < 0, "others": rows == own, "earlier": rows >= own}[known]
        apart = apart.masked_fill(hidden, inf)
        near = apart.topk(min(count + _SPARE, len(among)), largest=False)
        exact = torch.linalg.vector_norm(part[:, None] - among[near.indices], dim=-1)
        exact = torch.where(near.values == inf, inf, exact)
        order = exact.argsort(dim=-1, stable=True)[:, :count]
        found.append((near.indices.gather(1, order), exact.gather(1, order)))
    row, distance = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Neighbours(row, distance)


def neighbour_accuracy(
    features: Float[Tensor, "*batch sample feature"],
    labels: Int[Tensor, "*batch sample"],
    test_features: Float[Tensor, "*batch test feature"],
    test_labels: Int[Tensor, "*batch test"],
    *,
    neighbours: int,
    convention: str | NeighbourConvention = "exact",
) -> Measured:
    """Share of test samples whose label the ``neighbours`` nearest samples vote for. Value: (*batch).

    ``dino`` is the vote of Caron et al. (2021), in the manner of Wu et al. (2018): cosine, weights exp(cos/0.07); they
    use 10 or 20 neighbours. Labels are whole numbers from 0 and broadcast over leading axes.
    """
    used = chosen(convention, NEIGHBOURS)
    train = double("features", features, "sample feature", (1, 1))
    test = double("test_features", test_features, "test feature", (1, 1))
    require_integer("neighbours", neighbours, at_least=1)
    if neighbours > train.shape[-2]:
        raise wrong("neighbours", neighbours, f"must be {train.shape[-2]} or fewer, the number of samples")
    if used.distance == "cosine":
        train, test = unit_vectors(train), unit_vectors(test)
    known, asked = labels_of("labels", labels, train), labels_of("test_labels", test_labels, test)
    lead = train.shape[:-2]
    number = prod(lead)
    problems = zip(
        *(tensor.reshape(number, *tensor.shape[len(lead) :]) for tensor in (train, known, test, asked)),
        strict=True,
    )
    shares = [
        (_vote(nearest(to, of, neighbours), own, used) == truth).to(torch.float64).mean()
        for of, own, to, truth in problems
    ]
    stacked = torch.stack(shares) if shares else train.new_zeros(0)
    return Measured(stacked.reshape(lead), used)


def labels_of(field: str, labels: Tensor, features: Tensor) -> Int[Tensor, "*batch sample"]:
    """Return labels as whole numbers, broadcast to (*batch, sample) of ``features``; raise if they do not fit."""
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex():
        raise wrong(field, type(labels).__name__, "must be a torch tensor of whole numbers")
    if labels.ndim == 0 or labels.shape[-1] != features.shape[-2]:
        raise wrong(f"shape of {field}", tuple(labels.shape), f"must end in {features.shape[-2]} samples")
    if labels.numel() and int(labels.min()) < 0:
        raise wrong(field, int(labels.min()), "must be 0 or more")
    return labels.to(features.device, torch.int64).expand(features.shape[:-1])


def _vote(
    found: Neighbours, labels: Int[Tensor, " sample"], convention: NeighbourConvention
) -> Int[Tensor, " query"]:
    """Return the label with most votes for each query."""
    weight = torch.ones_like(found.distance)
    if convention.temperature is not None:
        cosine = 1 - found.distance.square() / 2
        weight = torch.exp((cosine - cosine.amax(-1, keepdim=True)) / convention.temperature)
    votes = weight.new_zeros(len(weight), int(labels.max()) + 1)
    return votes.scatter_add_(1, labels[found.row], weight).argmax(-1)
