"""The standard record: correlations and attention by area, losses, the concentration of attention on few keys.

All of a frame follows from one forward pass. What is summed over samples goes through memory once, for attention to all
areas and the reconstruction error together; what is summarised over positions, once more (``by_area``). Every value is
a sum or an extreme for each seed by itself, so that a seed has the bits that it has alone.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitdyn._axes import AREA, CLUSTER, KEY_AREA, QUERY_AREA, SEED, STATISTIC
from vitdyn._errors import invalid_value
from vitdyn.metrics import top_key_concentration
from vitdyn.models.model import (
    AREA_ATTENTION,
    ATTENTION_MAPS,
    CLOSED_FORMS,
    CONTENT_QUERIES,
    CORRELATIONS,
)
from vitdyn.objectives.contract import loss_queries_of, lower_bound_of
from vitdyn.observables.area_kernels import sum_samples
from vitdyn.observables.by_area import over_pairs, over_positions
from vitdyn.observables.observable import Observable
from vitdyn.observables.state import ModelState

_FEW_SAMPLES = 2


class _ByArea(NamedTuple):
    """Mean, minimum and maximum over the positions of each area: (seed, cluster, query area, ..., statistic).

    Of the reconstruction error the mean alone.
    """

    feature_position: Tensor
    position_position_self: Tensor
    area_attention: Tensor
    own_area_attention: Tensor
    reconstruction_error: Tensor


def _by_area(state: ModelState) -> _ByArea:
    """Summarise all that a query position has a number for, in one pass over the positions."""
    layout = state.batch.layout
    rows = [_sample_means(state).transpose(2, 3)]
    if CORRELATIONS in state.model.offers:
        correlations = state.correlations
        itself = correlations.position_position.diagonal(dim1=1, dim2=2)[:, None, :, None]
        rows = [
            correlations.feature_position.permute(0, 2, 1, 3),
            itself.expand(-1, layout.clusters, -1, -1),
            *rows,
        ]
    else:  # no other model has these, and nobody asks for them
        rows = [rows[0].new_full((*rows[0].shape[:3], layout.areas + 1), nan), *rows]
    found = over_positions(torch.cat(rows, -1), layout).split((layout.areas, 1, layout.areas, 1, 1), 3)
    phi, attention = (of_keys.masked_fill(_lacking(state)[:, None, :, None], nan) for of_keys in found[0:3:2])
    return _ByArea(phi, found[1].squeeze(3), attention, found[3].squeeze(3), found[4][..., 0, 0])


def _sample_means(state: ModelState) -> Float[Tensor, "seed cluster row query"]:
    """Return each query's means over the samples of a cluster that count it: A to each area, A_own, ½‖F_p − X_p‖².

    A_own is over the samples that show some of the query's own area, the error over those that mask it.
    """
    counted = loss_queries_of(state.objective, state.forward)
    sums, number = (sums_by_torch if counted.is_cuda else _sums)(state, counted)
    areas = state.batch.layout.areas
    sums[:, :, areas + 1] *= 0.5
    sums[:, :, :areas] /= number[:, :, :1]
    sums[:, :, areas:] /= number[:, :, 1:]
    return sums


def _sums(state: ModelState, counted: Bool[Tensor, "seed sample query"]) -> tuple[Tensor, Tensor]:
    """Return what ``sum_samples`` sums, and the numbers of samples."""
    attention, batch = _attention_of(state), state.batch
    seeds, _, areas, queries = attention.shape
    sums = attention.new_zeros(seeds, batch.layout.clusters, areas + 2, queries)
    number = attention.new_zeros(seeds, batch.layout.clusters, 3, queries)
    given = attention, state.forward.squared_errors, counted, state.views[0]
    arrays = [batch.in_layout_order(each.detach()).contiguous().numpy() for each in given]
    sum_samples(
        *arrays, batch.layout.area_of_patch, batch.cluster.contiguous().numpy(), sums.numpy(), number.numpy()
    )
    return sums, number


def sums_by_torch(state: ModelState, counted: Bool[Tensor, "seed sample query"]) -> tuple[Tensor, Tensor]:
    """Return what ``sum_samples`` sums, and the numbers of samples, by torch."""
    batch, attention, area = state.batch, _attention_of(state), state.batch.area[:, :, None]
    shows_own = batch.own_area_visible(state.views[0]) & counted
    weights = torch.stack([counted, shows_own, state.masks[0]], 2).to(attention)
    rows = [
        attention * weights[:, :, :1],
        attention.gather(2, area) * weights[:, :, 1:2],
        state.forward.squared_errors[:, :, None] * weights[:, :, 2:],
        weights,
    ]
    values = batch.in_layout_order(torch.cat(rows, 2))
    # not ``index_add_``, which adds in whatever order on a GPU
    drawn = [(batch.cluster == k)[..., None, None] for k in range(batch.layout.clusters)]
    sums = torch.stack([(values * own).sum(1) for own in drawn], 1)
    return sums[:, :, :-3], sums[:, :, -3:]


def _attention_of(state: ModelState) -> Float[Tensor, "seed sample area query"]:
    """Return area attention on the first view; zeros for a model without any, whose error alone is recorded."""
    if AREA_ATTENTION in state.model.offers:
        return state.attention[0]
    return state.batch.latents[..., None].new_zeros(*state.batch.latents.shape, state.batch.layout.patches)


def _lacking(state: ModelState) -> Bool[Tensor, "cluster area"]:
    sizes = torch.from_numpy(state.batch.layout.sizes)
    return (sizes == 0).to(state.parameters.like.device)


def _content_position(state: ModelState) -> Tensor:
    """Return the summary of Ψ over key positions, NaN for a feature that its cluster lacks."""
    psi = state.correlations.content_position
    assert psi is not None
    by_key = psi.transpose(2, 3).masked_fill(_lacking(state)[:, None], nan)
    return over_positions(by_key, state.batch.layout).transpose(2, 3)


def _content_content(state: ModelState) -> Tensor:
    xi, lacking = state.correlations.content_content, _lacking(state)
    assert xi is not None
    return xi.masked_fill(lacking[:, :, None] | lacking[:, None], nan)


def _top_key_concentration(state: ModelState) -> Tensor:
    """Return the mean concentration of a few maps, spread over the batch and so over its clusters."""
    count = state.batch.count
    # samples lie in the order of their clusters, so that first and last are of different ones
    few = torch.linspace(0, count - 1, min(_FEW_SAMPLES, count)).long()
    if CLOSED_FORMS not in state.model.offers or state.correlations.content_queries:
        scores = torch.cat([state.maps(slice(one, one + 1)).mean(2) for one in few.tolist()], 1)
    else:
        scores = _key_scores(state, few.to(state.batch.cluster.device))
    # the concentration is that of key scores, which a map of a single query has for its row
    return top_key_concentration(scores[:, :, None]).mean(1)


def _key_scores(state: ModelState, few: Int[Tensor, " sample"]) -> Float[Tensor, "seed sample key"]:
    """Return each key's attention, mean over queries, of a few samples; queries by position.

    With E_pq = exp(Υ_pq − max_r Υ_pr) for all samples, and a slot for each area and one for masked patches, the weight
    of a key is E_pq X_{p,slot(q)}: two products with P · slots numbers in place of maps of P · P (``attention``).
    """
    batch, upsilon = state.batch, state.correlations.position_position
    areas, patches = batch.layout.areas, batch.layout.patches
    exp_logits = torch.sub(upsilon, upsilon.amax(-1, keepdim=True)).exp_()
    slot = batch.area[:, few].where(state.views[0][:, few], areas)[:, :, None]
    in_slot = upsilon.new_zeros(len(upsilon), len(few), areas + 1, patches).scatter_(2, slot, 1.0)
    sums = torch.bmm(in_slot.flatten(1, 2), exp_logits.mT).unflatten(1, (len(few), areas + 1))
    seeds = torch.arange(len(upsilon), device=upsilon.device)[:, None]
    phi = state.correlations.feature_position[seeds, :, batch.cluster[:, few]].mT
    logits = torch.nn.functional.pad(phi * batch.latents[:, few, :, None], (0, 0, 0, 1))
    logits = logits.masked_fill_(sums == 0, -inf)  # an empty slot sets no scale
    weights = (logits - logits.amax(2, keepdim=True)).exp_()
    weights /= (weights * sums).sum(2, keepdim=True) * patches
    by_slot = torch.bmm(weights.flatten(1, 2), exp_logits).unflatten(1, (len(few), areas + 1))
    return by_slot.gather(2, slot).squeeze(2)


def sample_mean(
    values: Float[Tensor, "seed sample *rest query"], counted: Bool[Tensor, "seed sample query"]
) -> Float[Tensor, "seed *rest query"]:
    """Return each query's mean over the samples that count; NaN for a query that no sample counts."""
    for field, part in (("values", values), ("counted", counted)):
        if not isinstance(part, Tensor) or part.ndim < 3 or part.layout != torch.strided or part.is_meta:
            raise invalid_value(field, part, "must be a dense tensor with axes for seed, sample and query")
    if counted.shape != (*values.shape[:2], values.shape[-1]):
        raise invalid_value(
            "counted.shape", tuple(counted.shape), f"must fit values of shape {tuple(values.shape)}"
        )
    between = [1] * (values.ndim - 3)
    weight = counted.to(values).reshape(*counted.shape[:2], *between, -1)
    return (values * weight).sum(1) / weight.sum(1)


def _excess_loss(state: ModelState) -> Tensor:
    return state.loss - lower_bound_of(state.objective, state.forward)


def _gradient_norm(state: ModelState) -> Tensor:
    return state.gradient.squared_norm().sqrt()


def _standard(
    name: str,
    axes: tuple[str, ...],
    symbol: str,
    meaning: str,
    compute: Callable[[ModelState], Tensor] | None = None,
    **options: Any,
) -> Observable:
    """Return an observable of vitdyn's own: each seed has the bits that it has alone.

    Without ``compute`` it is what ``_by_area`` gives under this name.
    """
    options |= {"axes": (SEED, *axes), "may_be_missing": True, "seed_independent": True}
    compute = compute or (lambda state: getattr(state.shared(_by_area), name))
    return Observable(name=name, symbol=symbol, meaning=meaning, compute=compute, **options)


_PAIR, _QUERY = (CLUSTER, QUERY_AREA, KEY_AREA, STATISTIC), (CLUSTER, QUERY_AREA, STATISTIC)

RECORD: tuple[Observable, ...] = (
    _standard(
        "feature_position",
        _PAIR,
        "Φ",
        "feature-position correlation, over query positions",
        needs=CORRELATIONS,
    ),
    _standard(
        "position_position",
        _PAIR,
        "Υ",
        "position-position correlation, over pairs of distinct positions",
        lambda state: over_pairs(state.correlations.position_position, state.batch.layout),
        needs=CORRELATIONS,
    ),
    _standard(
        "position_position_self",
        _QUERY,
        "Υ_self",
        "correlation of a position with itself",
        needs=CORRELATIONS,
    ),
    _standard(
        "content_position",
        (CLUSTER, AREA, KEY_AREA, STATISTIC),
        "Ψ",
        "query feature, key position",
        _content_position,
        needs=CONTENT_QUERIES,
    ),
    _standard(
        "content_content",
        (CLUSTER, AREA, KEY_AREA),
        "Ξ",
        "query feature, key feature",
        _content_content,
        needs=CONTENT_QUERIES,
    ),
    _standard(
        "area_attention",
        _PAIR,
        "A",
        "attention to the visible patches of an area: each query's mean over samples, then over queries",
        needs=AREA_ATTENTION,
    ),
    _standard(
        "own_area_attention",
        _QUERY,
        "A_own",
        "attention to the query's own area, over samples that show some of it",
        needs=AREA_ATTENTION,
    ),
    _standard(
        "reconstruction_error",
        (CLUSTER, QUERY_AREA),
        "½‖F_p − X_p‖²",
        "mean error of a masked patch, by its area",
    ),
    _standard("loss", (), "L", "the objective with its weight decay", lambda state: state.loss),
    _standard("excess_loss", (), "L − L_min", "loss above its lower bound on the same batch", _excess_loss),
    _standard(
        "top_key_concentration",
        (),
        "D",
        "mean of the ten largest key scores of an attention map; lower is more diverse",
        _top_key_concentration,
        needs=ATTENTION_MAPS,
    ),
)
"""What a run records unless it is told otherwise."""

GRADIENT_NORMS: tuple[Observable, ...] = (
    _standard(
        "gradient_norm",
        (),
        "‖∂L/∂Q‖",
        "norm of the gradient of the loss on the evaluation batch",
        _gradient_norm,
    ),
    _standard(
        "step_gradient_norm",
        (),
        "‖∂L/∂Q‖",
        "norm of the gradient that a step of training follows",
        _gradient_norm,
        each_step=True,
    ),
)
