"""Attention by layer and head: to areas, alike over queries, and different between heads."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitdyn._axes import CLUSTER, GLOBAL_AREA, HEAD, KEY_AREA, LAYER, QUERY_AREA, SEED
from vitdyn._errors import require_choice
from vitdyn.data import PatchBatch
from vitdyn.models import area_attention_of
from vitdyn.models.model import ATTENTION_MAPS
from vitdyn.objectives.contract import loss_queries_of
from vitdyn.observables.observable import Observable
from vitdyn.observables.state import ModelState

_AT_A_TIME = 2**20
"""Entries of maps (seed, sample, layer, head, query, key) held at once: 4 MiB in float32, or one sample's."""


class _Heads(NamedTuple):
    """What the maps of a batch come to, each under the name of its observable."""

    head_area_attention: Float[Tensor, "seed layer head cluster query_area key_area"]
    head_own_attention: Float[Tensor, "seed layer head cluster query_area"]
    query_homogeneity: Float[Tensor, "seed layer head"]
    head_diversity: Float[Tensor, "seed layer"]
    head_specialisation: Float[Tensor, "seed layer"]

    @property
    def head_global_attention(self) -> Float[Tensor, "seed layer head cluster query_area"]:
        return self.head_area_attention[..., GLOBAL_AREA]

    @property
    def head_other_attention(self) -> Float[Tensor, "seed layer head cluster query_area"]:
        areas = torch.arange(self.head_area_attention.shape[-1], device=self.head_diversity.device)
        is_other = (areas != areas[:, None]) & (areas != GLOBAL_AREA)
        other = (self.head_area_attention.nan_to_num() * is_other).sum(-1)
        return other.masked_fill(self.head_global_attention.isnan(), nan)


class _Weighing(NamedTuple):
    """How a mean is taken over samples, then over the queries of an area: weights, and what has any."""

    weight: Float[Tensor, "seed sample area query"]
    exists: Bool[Tensor, "seed cluster area"]


def _heads(state: ModelState) -> _Heads:
    """Summarise the maps of the first view."""
    batch, like = state.batch, state.parameters.like
    counted = loss_queries_of(state.objective, state.forward)
    every = _weighing(batch, counted, like)
    shows_own = _weighing(batch, counted & batch.own_area_visible(state.views[0]), like)
    area, own, cosines, *apart = _sums(state, every.weight, shows_own.weight, counted.to(like))
    lacking = torch.from_numpy(batch.layout.sizes == 0).to(like.device)
    number = counted.sum(-1).to(like)
    return _Heads(
        area.masked_fill((lacking[:, None] | ~every.exists[..., None])[:, None, None], nan),
        own.masked_fill(~shows_own.exists[:, None, None], nan),
        cosines / (number * (number - 1)).sum(1)[:, None, None],
        *(each / number.sum(1)[:, None] for each in apart),
    )


def _sums(
    state: ModelState,
    every: Float[Tensor, "seed sample area query"],
    shows_own: Float[Tensor, "seed sample area query"],
    counted: Float[Tensor, "seed sample query"],
) -> list[Tensor]:
    """Return the weighted sums over samples of all that a map is asked for, from a few samples' maps at a time."""
    batch, model, layout = state.batch, state.model, state.batch.layout
    drawn = torch.nn.functional.one_hot(batch.cluster, layout.clusters).to(every)
    size = max(1, _AT_A_TIME // (len(batch.seeds) * model.layers * model.heads * layout.patches**2))
    total: list[Tensor] = []
    for start in range(0, batch.count, size):
        few = slice(start, start + size)
        maps, part = state.head_maps(few), batch.part(few)
        attention = area_attention_of(maps, part, state.views[0][:, few])
        in_order = part.in_layout_order(attention)
        by_area = torch.einsum("sbiq,sblhjq->sblhij", every[:, few], in_order)
        own = torch.einsum("sbiq,sblhiq->sblhi", shows_own[:, few], in_order)
        found = [
            torch.einsum("sbk,sblhij->slhkij", drawn[:, few], by_area),
            torch.einsum("sbk,sblhi->slhki", drawn[:, few], own),
            _pair_cosines(maps, counted[:, few]),
            *(torch.einsum("sbq,sblq->sl", counted[:, few], each) for each in _apart(attention)),
        ]
        total = [one + other for one, other in zip(total, found, strict=True)] if total else found
    return total


def _weighing(batch: PatchBatch, counted: Bool[Tensor, "seed sample query"], like: Tensor) -> _Weighing:
    """Weigh samples so that each query has its own mean over those that count it, and an area's queries weigh alike.

    Where areas move, a query is what stands at one position of the layout, as it is to the standard record.
    """
    here = batch.in_layout_order(batch.membership.to(like) * counted[:, :, None].to(like))
    drawn = torch.nn.functional.one_hot(batch.cluster, batch.layout.clusters).to(like)
    samples = torch.einsum("sbk,sbiq->skiq", drawn, here)
    queries = (samples > 0).sum(-1, keepdim=True)
    share = 1 / (samples * queries).clamp(min=1)
    return _Weighing(here * torch.einsum("sbk,skiq->sbiq", drawn, share), queries[..., 0] > 0)


def _pair_cosines(
    maps: Float[Tensor, "seed sample layer head query key"], weight: Float[Tensor, "seed sample query"]
) -> Float[Tensor, "seed layer head"]:
    """Return Σ_{p ≠ q} cos(attn_p, attn_q) over samples and counted queries: ‖Σ u‖² − Σ ‖u‖² of unit vectors u."""
    rows = torch.nn.functional.normalize(maps, dim=-1) * weight[:, :, None, None, :, None]
    return (rows.sum(-2).square().sum(-1) - rows.square().sum((-2, -1))).sum(1)


def _apart(attention: Float[Tensor, "seed sample layer head area query"]) -> tuple[Tensor, Tensor]:
    """Return of each query, in the mean over pairs of heads, the distance of A, and where the largest A differs."""
    pairs = torch.combinations(torch.arange(attention.shape[3], device=attention.device))
    change = attention[:, :, :, pairs[:, 0]] - attention[:, :, :, pairs[:, 1]]
    # masked patches are one area more, that has what the others lack
    distance = 0.5 * (change.abs().sum(4) + change.sum(4).abs())
    favourite = attention.argmax(4)
    differ = favourite[:, :, :, pairs[:, 0]] != favourite[:, :, :, pairs[:, 1]]
    return distance.mean(3), differ.to(attention).mean(3)


@dataclass(frozen=True, kw_only=True)
class HeadAttention:
    """A number of the attention of each layer, or of each of its heads, by its name: what an ``Observable`` computes.

    Of the maps of the evaluation batch's first view, over queries that the loss trains, as in the standard record: each
    query's mean over the samples of a cluster that count it, then the mean over the queries of an area. An area that a
    cluster lacks is NaN. What is said of pairs of heads is NaN where there is one head alone.
    """

    name: str

    def __post_init__(self) -> None:
        require_choice("HeadAttention.name", self.name, _BY_HEAD)

    def __call__(self, state: ModelState) -> Tensor:
        """Return the number of a state."""
        return getattr(state.shared(_heads), self.name)


_HEADS = (SEED, LAYER, HEAD)
_BY_HEAD: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "head_area_attention": (
        "A^h",
        "attention of a head to the visible patches of an area",
        (*_HEADS, CLUSTER, QUERY_AREA, KEY_AREA),
    ),
    "head_own_attention": (
        "A^h_own",
        "attention of a head to the query's own area, over samples that show some of it",
        (*_HEADS, CLUSTER, QUERY_AREA),
    ),
    "head_global_attention": (
        "A^h_1",
        "attention of a head to the global area",
        (*_HEADS, CLUSTER, QUERY_AREA),
    ),
    "head_other_attention": (
        "A^h_o",
        "attention of a head to local areas other than the query's own, all together",
        (*_HEADS, CLUSTER, QUERY_AREA),
    ),
    "query_homogeneity": (
        "cos",
        "mean cosine of the attention maps of two queries of an image; 1 where queries have collapsed",
        _HEADS,
    ),
    "head_diversity": (
        "d_h",
        "mean distance of two heads' area attention, from 0 to 1: the share that attends elsewhere",
        (SEED, LAYER),
    ),
    "head_specialisation": (
        "s_h",
        "share of queries, mean over pairs of heads, for which two heads attend most to different areas",
        (SEED, LAYER),
    ),
}
"""Symbol, meaning and axes of each number."""

BY_HEAD: dict[str, Observable] = {
    name: Observable(
        name=name,
        compute=HeadAttention(name=name),
        axes=axes,
        symbol=symbol,
        meaning=meaning,
        may_be_missing=True,
        needs=ATTENTION_MAPS,
    )
    for name, (symbol, meaning, axes) in _BY_HEAD.items()
}
"""Attention by layer and head."""
